//! `cargo xtask nodes`: several nodes on one PostgreSQL, everything that can go wrong between them, and a checker outside that
//! looks for broken promises. What it does and how far to trust it: `docs/reliability.md`.

use crate::{Failure, process};

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    process::run(&mut process::cargo(&["build", "-p", "counterfoil-server", "--bin", "counterfoil"]))?;
    let program = process::target_directory()?.join("debug/counterfoil");
    let mut lab = process::cargo(&["run", "--quiet", "--package", "counterfoil-lab", "--", "nodes", "--program"]);
    lab.arg(program);
    // A program that is named wins: the last one counts.
    process::run(lab.args(arguments))
}

/// The step of `cargo xtask test`: as much as shows within a minute that the promise and the checker stand.
pub(crate) fn smoke() -> Result<(), Failure> {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<String>>();
    run(&words("--self-test --sqlite --seconds 4"))?;
    run(&words("--seconds 6 --fault F12,F16,F27"))
}
