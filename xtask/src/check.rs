//! `cargo xtask check`: what can be said without running the product.

use crate::steps::Steps;
use crate::{Failure, house, install, process};

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
    steps.take("formatting", || process::run(&mut process::cargo(&["fmt", "--all", "--", "--check"])))?;
    steps.take("house rules", house::keep)?;
    steps.take("clippy", || {
        let everything = ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
        process::run(&mut process::cargo(&everything))
    })?;
    if process::on_path("cargo-deny").is_some() {
        steps.take("cargo deny", || process::run(&mut process::cargo(&["deny", "check"])))
    } else {
        steps.skip("cargo deny", "it is not installed (cargo install --locked cargo-deny)");
        Ok(())
    }
}
