//! `cargo xtask check`: what can be said without running the product.

use crate::steps::Steps;
use crate::{Failure, house, install, oldest_rust, process};

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    crate::refuse_arguments(arguments)?;
    let mut steps = Steps::begin();
    take(&mut steps)?;
    steps.sum_up();
    Ok(())
}

/// The steps that `check` is and that `test` begins with. House rules come before clippy: they take a second.
pub(crate) fn take(steps: &mut Steps) -> Result<(), Failure> {
    steps.take("toolchain", || {
        install::ensure_component("fmt", "rustfmt")?;
        install::ensure_component("clippy", "clippy")
    })?;
    steps.take("formatting", || {
        process::run(&mut process::cargo(&["fmt", "--all", "--", "--check"]))?;
        // A workspace of its own.
        process::run(&mut process::cargo(&["fmt", "--manifest-path", "bench/peers/Cargo.toml", "--", "--check"]))
    })?;
    steps.take("house rules", house::keep)?;
    steps.take("oldest Rust", oldest_rust::keep)?;
    steps.take("clippy", || {
        let everything = ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
        process::run(&mut process::cargo(&everything))
    })
}
