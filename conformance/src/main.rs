//! Holds the dialects to what the packages themselves were recorded to answer: `cargo xtask conformance`.
//!
//! Scenarios are replayed against a small app on the library, whose store is what each scenario asks for, and every answer is
//! compared with the recorded one. `docs/dialects/conformance.md` says how it is used.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a tool for the terminal: it holds answers against the clock, makes names up and prints what it finds"
)]

mod app;
mod cases;
mod compare;
mod exchange;
mod json;
mod judge;
mod mailbox;
mod normalise;
#[cfg(test)]
mod recorded;
mod replay;
mod report;
mod request;
mod rules;
mod run;
mod servers;
mod template;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use regex::Regex;

use crate::report::Detail;
use crate::run::Order;
use crate::servers::Servers;

/// Why a run cannot begin: one line for the reader.
type Failure = Box<dyn Error + Send + Sync>;

/// Replays recorded scenarios and compares the answers.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask conformance")]
struct Arguments {
    /// Only this package, as its file of scenarios or its dialect is called; may be said again.
    #[arg(long, value_name = "NAME")]
    dialect: Vec<String>,
    /// A folder with `scenarios/` and `recordings/`, or a folder of such folders; those of the project unless said.
    #[arg(long, value_name = "DIR")]
    cases: Option<PathBuf>,
    /// Only scenarios whose name has this in it.
    #[arg(long, value_name = "REGEX")]
    only: Option<Regex>,
    /// The differences that are meant; those of the project unless said.
    #[arg(long, value_name = "DIR")]
    rules: Option<PathBuf>,
    /// Say of every scenario what became of it.
    #[arg(long, short)]
    verbose: bool,
    /// Replay against a server that runs already, in place of ours.
    #[arg(long, value_name = "[PACKAGE:]PROFILE=URL")]
    url: Vec<String>,
    /// Where that server writes its mails.
    #[arg(long, value_name = "[PACKAGE:]PROFILE=DIR")]
    mail: Vec<String>,
    /// A list of such servers: {package: {profile: {"url", "reset", "mail"}}}.
    #[arg(long, value_name = "FILE")]
    servers: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match begin(Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(2)
        }
    }
}

/// Whether every difference is meant.
async fn begin(arguments: Arguments) -> Result<bool, Failure> {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let listed = arguments.servers.as_deref().map(Servers::listed).transpose()?.unwrap_or_default();
    let order = Order {
        cases: arguments.cases.unwrap_or_else(|| here.join("cases")),
        rules: arguments.rules.unwrap_or_else(|| here.join("rules")),
        packages: arguments.dialect,
        only: arguments.only,
        detail: if arguments.verbose { Detail::Everything } else { Detail::Differences },
        servers: Servers::named(&arguments.url, &arguments.mail)?.and(listed),
    };
    run::run(order).await
}
