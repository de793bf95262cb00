//! `cargo xtask publish [--no-verify]`: a rehearsal of what crates.io would get. Nothing is uploaded.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::steps::Steps;
use crate::{Failure, process};

/// What everybody finds in each package.
const FILES: &[&str] = &["Cargo.lock", "Cargo.toml", "LICENSE-APACHE", "LICENSE-MIT", "README.md", "src/"];
/// What its page on crates.io shows.
const FACTS: &[&str] = &["description", "license", "readme", "repository", "rust_version"];

/// The whole rehearsal: packages are built as they would be downloaded, out of sight of the workspace.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    if arguments == ["--no-verify"] {
        return smoke();
    }
    crate::refuse_arguments(arguments)?;
    let mut steps = Steps::begin();
    steps.take("what is in them", contents)?;
    steps.take("dry run", || {
        let target = process::target_directory()?.join("publish");
        forget_rehearsals(&target)?;
        // Without `--allow-dirty`: what is published is what is committed.
        process::run(dry_run(&[]).env("CARGO_TARGET_DIR", &target))
    })?;
    steps.sum_up();
    Ok(())
}

/// The part that takes seconds: packed as for the upload, but not built.
pub(crate) fn smoke() -> Result<(), Failure> {
    contents()?;
    let mut options = vec!["--no-verify"];
    let changed = process::output(process::program("git").args(["status", "--porcelain"]));
    if changed.is_ok_and(|changed| !changed.is_empty()) {
        println!("there are uncommitted changes; they are packed as well");
        options.push("--allow-dirty");
    }
    process::run(&mut dry_run(&options))
}

/// Removes what an earlier rehearsal unpacked and built. Cargo takes a version of a crate for the same for ever, and would
/// build the next crate with what this one was then.
fn forget_rehearsals(target: &Path) -> Result<(), Failure> {
    if target.exists() {
        fs::remove_dir_all(target)?;
    }
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo"))).ok_or("there is no home")?;
    let Ok(registries) = fs::read_dir(home.join("registry/src")) else { return Ok(()) };
    for registry in registries {
        let registry = registry?;
        // That of a rehearsal has no host in front of its hash.
        if !registry.file_name().to_string_lossy().starts_with('-') {
            continue;
        }
        for unpacked in fs::read_dir(registry.path())? {
            let unpacked = unpacked?;
            if unpacked.file_name().to_string_lossy().starts_with("counterfoil") {
                fs::remove_dir_all(unpacked.path())?;
            }
        }
    }
    Ok(())
}

fn dry_run(options: &[&str]) -> std::process::Command {
    let mut publish = process::cargo(&["publish", "--workspace", "--dry-run", "--locked"]);
    publish.args(options);
    publish
}

/// Whether each package has what its users look for, and packages that are not for them cannot be published.
fn contents() -> Result<(), Failure> {
    let metadata = process::output(&mut process::cargo(&["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let mut faults = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().ok_or("a package without a name")?;
        if package["publish"].as_array().is_some_and(Vec::is_empty) {
            println!("{name}: stays here");
            continue;
        }
        let list = process::output(&mut process::cargo(&["package", "--list", "--allow-dirty", "--package", name]))?;
        println!("{name}: {} files", list.lines().count());
        faults.extend(lacking(package, &list).into_iter().map(|what| format!("{name} lacks {what}")));
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ").into()) }
}

fn lacking(package: &Value, list: &str) -> Vec<String> {
    let files: BTreeSet<&str> = list.lines().collect();
    let is_there = |wanted: &str| match wanted.strip_suffix('/') {
        Some(_) => files.iter().any(|file| file.starts_with(wanted)),
        None => files.contains(wanted),
    };
    let facts = FACTS.iter().filter(|fact| package[**fact].as_str().is_none_or(str::is_empty));
    let files = FILES.iter().filter(|file| !is_there(file));
    // A path alone means nothing to whoever downloads it.
    let versionless =
        package["dependencies"].as_array().into_iter().flatten().filter(|dependency| {
            dependency["path"].is_string() && dependency["kind"] != "dev" && dependency["req"] == "*"
        });
    let versionless = versionless.map(|dependency| format!("a version of its dependency {}", dependency["name"]));
    facts.chain(files).map(|name| (*name).to_owned()).chain(versionless).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_package_lacks_is_named() {
        let package = json!({
            "description": "d", "license": "MIT", "readme": "README.md", "repository": "https://x", "rust_version": "1.95",
            "dependencies": [
                {"name": "a", "path": "/a", "kind": null, "req": "^0.1.0"}, {"name": "t", "path": "/t", "kind": "dev", "req": "*"},
            ],
        });
        let list = "Cargo.lock\nCargo.toml\nLICENSE-APACHE\nLICENSE-MIT\nREADME.md\nsrc/lib.rs\n";
        assert_eq!(lacking(&package, list), [""; 0]);
        let mut poor = package.clone();
        poor["description"] = "".into();
        poor["readme"] = Value::Null;
        poor["dependencies"][0]["req"] = "*".into();
        let found = lacking(&poor, "Cargo.toml\nCargo.lock\nLICENSE-MIT\nREADME.md\n");
        assert_eq!(
            found,
            ["description", "readme", "LICENSE-APACHE", "src/", "a version of its dependency \"a\""].map(str::to_owned)
        );
    }
}
