//! `cargo xtask simulate [--seeds N] [--seed S] [--nodes N] [--mutant NAME] [--events N]`: many nodes in virtual time, with
//! everything that can break breaking, and whoever looks for a revoked token that one of them accepts.

use crate::{Failure, process};

/// Minutes of virtual time in the smoke; each takes about 30 ms.
const SMOKE: &str = "2000";

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let mut simulation = process::cargo(&["run", "--quiet", "-p", "counterfoil-sim", "--"]);
    process::run(simulation.args(arguments))
}

/// As part of everything, which has built it.
pub(crate) fn smoke() -> Result<(), Failure> {
    process::run(process::built("counterfoil-sim")?.args(["--seeds", SMOKE]))
}
