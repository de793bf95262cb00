//! `cargo xtask bench [GROUP…] [--json FILE]`: every figure beside its goal.

use crate::{Failure, process};

/// Builds the program and the benchmarks as they are shipped, then measures.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    process::run(&mut process::cargo(&["build", "--release", "-p", "counterfoil-server", "-p", "counterfoil-bench"]))?;
    let mut bench = process::cargo(&["run", "--quiet", "--release", "-p", "counterfoil-bench", "--"]);
    process::run(bench.args(arguments))
}
