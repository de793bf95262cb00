//! `cargo xtask nodes`: several nodes on one PostgreSQL, everything that can go wrong between them, and a checker outside that
//! looks for broken promises. What it does and how far to trust it: `docs/reliability.md`.

use std::ffi::OsStr;
use std::process::Command;

use crate::{Failure, process};

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    watch(process::cargo(&["run", "--quiet", "--package", "counterfoil-lab", "--"]), arguments)
}

fn watch(mut lab: Command, arguments: &[impl AsRef<OsStr>]) -> Result<(), Failure> {
    // A program that is named wins: the last one counts.
    process::run(lab.args(["nodes", "--program"]).arg(process::server()?).args(arguments))
}

/// The step of `cargo xtask test`, which has built the lab: as much as shows within a minute that the promise and the checker stand.
pub(crate) fn smoke() -> Result<(), Failure> {
    let lab = || process::built("counterfoil-lab");
    watch(lab()?, &["--self-test", "--sqlite", "--seconds", "4"])?;
    watch(lab()?, &["--seconds", "6", "--fault", "F12,F16,F27"])
}
