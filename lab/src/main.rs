//! `counterfoil-lab …`: what `cargo xtask` starts of the lab.
#![expect(clippy::print_stderr, reason = "a tool for the terminal")]

use std::process::ExitCode;

const USAGE: &str = "usage: counterfoil-lab servers COMMAND [ARGUMENT…] | nodes [OPTION…]
  servers  start one PostgreSQL and one Redis, run the command with LAB_POSTGRES_URL and LAB_REDIS_URL, remove them
  nodes    break everything between several nodes and look for broken promises; nodes --help says more";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((name, rest)) if name == "servers" && !rest.is_empty() => servers(rest),
        Some((name, rest)) if name == "nodes" => nodes(rest),
        Some((name, [])) if name == "check" => check(),
        Some(_) | None => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// The checker's own process, started by `nodes`.
#[cfg(target_os = "linux")]
fn check() -> ExitCode {
    ended(counterfoil_lab::nodes::checker::run().map(|()| true))
}

#[cfg(target_os = "linux")]
fn nodes(arguments: &[String]) -> ExitCode {
    use counterfoil_lab::nodes::conductor::{Options, run};
    ended(Options::parse(arguments).and_then(|options| run(&options)))
}

#[cfg(target_os = "linux")]
fn ended(came: Result<bool, counterfoil_lab::nodes::Failure>) -> ExitCode {
    match came {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
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
fn check() -> ExitCode {
    servers(&[])
}

#[cfg(not(target_os = "linux"))]
fn nodes(_arguments: &[String]) -> ExitCode {
    servers(&[])
}

#[cfg(not(target_os = "linux"))]
fn servers(_command: &[String]) -> ExitCode {
    eprintln!("the servers of the lab run on Linux");
    ExitCode::FAILURE
}
