//! `cargo xtask …`: the one door for people and CI alike.
//!
//! A command is one row of [`COMMANDS`] and one module.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a tool for the terminal: it times its steps, reads PATH and speaks on stdout"
)]

mod bench;
mod browser;
mod check;
mod conformance;
mod contract;
mod crash;
mod front_page;
mod fuzz;
mod house;
mod install;
mod model;
mod nodes;
mod oldest_rust;
mod process;
mod publish;
mod record;
mod sbom;
mod simulate;
mod smoke;
mod smtp_server;
mod steps;
mod supply;
mod test;
mod timing;

use std::error::Error;
use std::process::ExitCode;

/// Why a command stopped: one line for the reader.
type Failure = Box<dyn Error>;

/// One thing that `cargo xtask` does.
struct Command {
    name: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Result<(), Failure>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "test",
        about: "everything CI runs: check, all tests, doc tests, docs, smokes; installs what is missing",
        run: test::run,
    },
    Command {
        name: "check",
        about: "the quick part: formatting, house rules, the oldest Rust, clippy",
        run: check::run,
    },
    Command {
        name: "bench",
        about: "measure beside what one would use instead: bench [GROUP…] [--json FILE]",
        run: bench::run,
    },
    Command {
        name: "crash",
        about: "kill the server and cut its power, look for lost writes: crash --kills N --power-cuts N",
        run: crash::run,
    },
    Command {
        name: "nodes",
        about: "break everything between three nodes and look for broken promises: nodes [--seconds N] [--fault NAME]",
        run: nodes::run,
    },
    Command {
        name: "model",
        about: "try every interleaving of readers and writers of the authentication cache",
        run: model::run,
    },
    Command {
        name: "simulate",
        about: "run many nodes in virtual time and break everything: simulate [--seeds N] [--seed S] [--mutant NAME]",
        run: simulate::run,
    },
    Command {
        name: "contract",
        about: "hold a running server to its OpenAPI document, by thousands of requests: contract [--seconds N]",
        run: contract::run,
    },
    Command {
        name: "conformance",
        about: "hold the dialects to what the packages answered: conformance [--dialect NAME] [--cases DIR] [--only REGEX]",
        run: conformance::run,
    },
    Command {
        name: "record",
        about: "ask the real packages what cases ask, and keep the answers: record [--cases DIR] [--dialect NAME] [--check]",
        run: record::run,
    },
    Command {
        name: "smtp-server",
        about: "install the mail server that tests speak to, for when they are run by cargo alone",
        run: smtp_server::run,
    },
    Command {
        name: "browser",
        about: "tell one person's way through an account in Chromium, with a real mail server",
        run: browser::run,
    },
    Command {
        name: "supply",
        about: "hold what we depend on to deny.toml and to the advisories of RustSec",
        run: supply::run,
    },
    Command {
        name: "sbom",
        about: "write the program's bill of materials, CycloneDX 1.5: sbom [FILE]",
        run: sbom::run,
    },
    Command {
        name: "front-page",
        about: "write a service from the front page of the library alone, and see whether it works",
        run: front_page::run,
    },
    Command {
        name: "publish",
        about: "rehearse what crates.io would get: pack every crate and build it as downloaded: publish [--no-verify]",
        run: publish::run,
    },
    Command {
        name: "fuzz",
        about: "feed everything that strangers may write to what reads it: fuzz [TARGET…] [--seconds N]",
        run: fuzz::run,
    },
    Command {
        name: "timing",
        about: "whether the time of an answer tells who has an account: timing [--pairs N] [--smoke]",
        run: timing::run,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        print!("{}", help());
        return ExitCode::SUCCESS;
    };
    if ["help", "-h", "--help"].contains(&name.as_str()) {
        print!("{}", help());
        return ExitCode::SUCCESS;
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        eprint!("there is no command `{name}`\n\n{}", help());
        return ExitCode::from(2);
    };
    match (command.run)(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\ncargo xtask {name}: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn help() -> String {
    let mut text = String::from("usage: cargo xtask COMMAND\n\n");
    for Command { name, about, .. } in COMMANDS {
        text.push_str(&format!("  {name:<11} {about}\n"));
    }
    text.push_str("  help        this list\n");
    text
}

/// For the commands that take no arguments: ignoring one would run something other than what was asked.
fn refuse_arguments(arguments: &[String]) -> Result<(), Failure> {
    match arguments {
        [] => Ok(()),
        [first, ..] => Err(format!("takes no arguments, got `{first}`").into()),
    }
}
