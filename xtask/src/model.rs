//! `cargo xtask model`: every interleaving of readers and writers of the authentication cache that the memory model allows,
//! tried by loom; and that each promise fails where the step that keeps it is left out.

use std::process::Command;

use crate::Failure;
use crate::process::{self, Cargo};

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    crate::refuse_arguments(arguments)?;
    check()
}

/// Also the step of `cargo xtask test`.
pub(crate) fn check() -> Result<(), Failure> {
    let mut ran = false;
    process::run_watching(&mut of_the_model(process::cargo, &[])?, |line| {
        ran |= line.starts_with("test cache::model::");
    })?;
    if ran { Ok(()) } else { Err("no model was tried".into()) }
}

/// Builds it alone.
pub(crate) fn build(cargo: Cargo) -> Result<(), Failure> {
    process::run(&mut of_the_model(cargo, &["--no-run"])?)
}

fn of_the_model(cargo: Cargo, more: &[&str]) -> Result<Command, Failure> {
    // A build of its own, because the atomics are loom's in it.
    let target = process::target_directory()?.join("model");
    let test = ["test", "-p", "counterfoil-core", "--lib"];
    let mut cargo = cargo(&[&test, more, &["cache::model"]].concat());
    cargo.env("CARGO_TARGET_DIR", target).env("RUSTFLAGS", "--cfg counterfoil_model");
    Ok(cargo)
}
