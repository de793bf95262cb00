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
        // Workspaces of their own.
        for manifest in ["fuzz/Cargo.toml", "bench/peers/Cargo.toml"] {
            process::run(&mut process::cargo(&["fmt", "--manifest-path", manifest, "--", "--check"]))?;
        }
        Ok(())
    })?;
    steps.take("house rules", house::keep)?;
    steps.take("oldest Rust", oldest_rust::keep)?;
    steps.take("clippy", || {
        let everything = ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
        process::run(&mut process::cargo(&everything))?;
        let fuzz = ["clippy", "--manifest-path", "fuzz/Cargo.toml", "--all-targets", "--", "-D", "warnings"];
        // Into the same target directory: most of what it depends on is there.
        process::run(process::cargo(&fuzz).env("CARGO_TARGET_DIR", process::target_directory()?))
    })
}
