//! `counterfoil-lab …`: what `cargo xtask` starts of the lab.
#![expect(clippy::print_stderr, reason = "a tool for the terminal")]

use std::process::ExitCode;

const USAGE: &str = "usage: counterfoil-lab servers COMMAND [ARGUMENT…]
  servers  start one PostgreSQL and one Redis, run the command with LAB_POSTGRES_URL and LAB_REDIS_URL, remove them";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((name, rest)) if name == "servers" && !rest.is_empty() => servers(rest),
        Some(_) | None => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

#[cfg(target_os = "linux")]
fn servers(command: &[String]) -> ExitCode {
    let postgres = counterfoil_lab::postgres::Server::start();
    let redis = counterfoil_lab::redis::Server::start();
    let status = std::process::Command::new(&command[0])
        .args(&command[1..])
        .env("LAB_POSTGRES_URL", postgres.url("postgres"))
        .env("LAB_REDIS_URL", redis.url())
        .status();
    match status {
        Ok(status) => status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from),
        Err(error) => {
            eprintln!("{}: {error}", command[0]);
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn servers(_command: &[String]) -> ExitCode {
    eprintln!("the servers of the lab run on Linux");
    ExitCode::FAILURE
}
