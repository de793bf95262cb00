//! The oldest Rust that we say we build with, held to it.

use serde_json::Value;

use crate::{Failure, process};

/// Checks everything with the `rust-version` of the workspace: by the clippy of this very run where that is the toolchain,
/// else with that toolchain beside it. Besides, clippy refuses what the standard library got later
/// (`incompatible_msrv`, which reads the same line).
pub(crate) fn keep() -> Result<(), Failure> {
    let stated = stated()?;
    let version = process::output(process::program("rustc").arg("--version"))?;
    let running = version.split(' ').nth(1).ok_or("rustc names no version")?;
    if minor(running) == minor(&stated) {
        println!("rust-version {stated} is the toolchain of this run, {running}");
        return Ok(());
    }
    if minor(running) < minor(&stated) {
        return Err(format!("rust-version is {stated} and this toolchain is {running}: rustup update").into());
    }
    let everything = ["check", "--workspace", "--all-features", "--locked"];
    // Not by `cargo`, which inside of a cargo is that one's own.
    let mut beside = process::program("rustup");
    beside.args(["run", &stated, "cargo"]).args(everything).env_remove("CARGO").env_remove("RUSTC");
    beside.env("CARGO_TARGET_DIR", process::target_directory()?.join(format!("rust-{stated}")));
    process::run(&mut beside)
        .map_err(|failure| format!("{failure}; is it there? rustup toolchain install {stated}").into())
}

/// What all packages say, which must be one thing.
fn stated() -> Result<String, Failure> {
    let metadata = process::output(&mut process::cargo(&["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    one_version(&metadata)
}

fn one_version(metadata: &Value) -> Result<String, Failure> {
    let mut found: Option<&str> = None;
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let stated =
            package["rust_version"].as_str().ok_or_else(|| format!("{} states no rust-version", package["name"]))?;
        if found.is_some_and(|found| found != stated) {
            return Err(format!("{} states another rust-version, {stated}", package["name"]).into());
        }
        found = Some(stated);
    }
    Ok(found.ok_or("there are no packages")?.to_owned())
}

/// `1.95.0-beta.2` is 95.
fn minor(version: &str) -> Option<u32> {
    version.split('.').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_packages_state_one_version() {
        let packages = |second: Value| json!({"packages": [{"name": "a", "rust_version": "1.95"}, second]});
        let said = |second| one_version(&packages(second)).map_err(|failure| failure.to_string());
        assert_eq!(said(json!({"name": "b", "rust_version": "1.95"})), Ok("1.95".to_owned()));
        assert_eq!(
            said(json!({"name": "b", "rust_version": "1.96"})),
            Err("\"b\" states another rust-version, 1.96".to_owned())
        );
        assert_eq!(said(json!({"name": "b"})), Err("\"b\" states no rust-version".to_owned()));
        assert_eq!((minor("1.95.0-beta.2"), minor("1.95"), minor("stable")), (Some(95), Some(95), None));
    }
}
