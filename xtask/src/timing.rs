//! `cargo xtask timing [--pairs N]`: whether the time of an answer tells an unknown user from a known one.

use crate::{Failure, process};

/// In a release build, because nobody ships another one.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let mut timing = process::cargo(&["run", "--quiet", "--release", "-p", "counterfoil-bench", "--", "timing"]);
    process::run(timing.args(arguments))
}

/// A few pairs, which only gross differences fail. In the debug build that is part of everything: what is hashed is optimised.
pub(crate) fn smoke() -> Result<(), Failure> {
    process::run(process::built("counterfoil-bench")?.args(["timing", "--smoke"]))
}
