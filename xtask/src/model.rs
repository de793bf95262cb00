//! `cargo xtask model`: every interleaving of readers and writers of the authentication cache that the memory model allows,
//! tried by loom; and that each promise fails where the step that keeps it is left out.

use crate::{Failure, process};

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    crate::refuse_arguments(arguments)?;
    check()
}

/// Also the step of `cargo xtask test`.
pub(crate) fn check() -> Result<(), Failure> {
    // A build of its own, because the atomics are loom's in it.
    let target = process::target_directory()?.join("model");
    let mut cargo = process::cargo(&["test", "--release", "-p", "counterfoil-core", "--lib", "cache::model"]);
    let mut ran = false;
    process::run_watching(cargo.env("CARGO_TARGET_DIR", target).env("RUSTFLAGS", "--cfg counterfoil_model"), |line| {
        ran |= line.starts_with("test cache::model::");
    })?;
    if ran { Ok(()) } else { Err("no model was tried".into()) }
}
