//! `counterfoil-lab servers`, as `cargo xtask test` uses it.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use counterfoil_lab::within;

fn servers(script: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_counterfoil-lab"));
    command.args(["servers", "sh", "-c", script]);
    command
}

#[test]
fn the_command_finds_both_servers_and_its_status_is_passed_on() {
    let script = "psql -XAtc 'SELECT 6 * 7' $LAB_POSTGRES_URL && redis-cli -u $LAB_REDIS_URL PING && exit 3";
    let output = servers(script).output().expect("the program runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "42\nPONG\n", "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn nothing_is_left_running_when_the_program_is_killed() {
    let script = "echo $LAB_POSTGRES_URL; echo $LAB_REDIS_URL; cat";
    let mut program = servers(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program runs");
    let mut stdout = BufReader::new(program.stdout.take().expect("stdout"));
    let mut port = || {
        let mut url = String::new();
        stdout.read_line(&mut url).expect("a line");
        let port = url.rsplit(':').next().and_then(|rest| rest.split('/').next()).map(str::to_owned);
        port.expect("a port")
    };
    let ports = [port(), port()];
    let running = || {
        let commands = fs::read_dir("/proc").expect("/proc").flatten();
        let commands = commands.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
        let named: Vec<String> = commands
            .filter(|command| command.contains("postgres") || command.contains("redis"))
            .filter(|command| ports.iter().any(|port| command.contains(port)))
            .collect();
        named
    };
    assert!(running().len() >= 2, "{:?}", running());
    program.kill().expect("killed");
    program.wait().expect("a status");
    within("its servers end with it", || running().is_empty().then_some(()));
}
