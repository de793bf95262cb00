//! `cargo xtask timing [--pairs N]`: whether the time of an answer tells an unknown user from a known one.

use crate::{Failure, process};

/// In a release build, because nobody ships another one.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let mut timing = process::cargo(&["run", "--quiet", "--release", "-p", "counterfoil-bench", "--", "timing"]);
    process::run(timing.args(arguments))
}

/// A few pairs, which only gross differences fail. In a debug build, which is there already: what is hashed is optimised.
pub(crate) fn smoke() -> Result<(), Failure> {
    let smoke = ["run", "--quiet", "-p", "counterfoil-bench", "--", "timing", "--smoke"];
    process::run(&mut process::cargo(&smoke))
}
