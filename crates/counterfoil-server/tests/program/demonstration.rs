//! `serve --demo`.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::running::{Ran, Server, Site};

#[test]
fn the_lines_of_the_demonstration_work_when_pasted_and_end_with_a_device_kicked_out() {
    let site = Site::new();
    let mut command = site.command("serve --demo --listen 127.0.0.1:0");
    command.env("TMPDIR", site.path(""));
    let server = Server::start(command, site.path("stderr"));
    let address = server.address;
    let thrown_away = |present: bool| {
        let entries = std::fs::read_dir(site.path("")).expect("a directory");
        let mut names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
        assert_eq!(names.any(|name| name.starts_with("counterfoil-demo-")), present);
    };
    thrown_away(true);
    let lines = server.lines_until("$URL/v1/me -H \"Authorization: Bearer $PHONE\"\n");
    assert!(lines.contains(&format!("URL=http://{address} ")), "{lines}");

    let mut shell = Command::new("sh");
    shell.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut shell = shell.stderr(Stdio::piped()).spawn().expect("a shell");
    shell.stdin.take().expect("stdin").write_all(lines.as_bytes()).expect("written");
    let ran = Ran::of(shell.wait_with_output().expect("the shell ends"), "the lines of the demonstration");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    for device in ["\"Laptop\"", "\"Terminal\"", "\"Phone\""] {
        assert!(ran.stdout.contains(device), "{}", ran.stdout);
    }
    let statuses: Vec<&str> =
        ran.stdout.lines().filter(|line| line.len() == 3 && line.parse::<u16>().is_ok()).collect();
    assert_eq!(statuses, ["204", "200", "401"], "{}", ran.stdout);
    assert!(ran.stdout.ends_with("\n401\n"), "{}", ran.stdout);
    server.stop();
    thrown_away(false);
}
