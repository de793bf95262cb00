//! `cargo xtask bench [GROUP…] [--json FILE]`: every figure beside its goal.

use std::path::PathBuf;

use crate::install::{self, Debian};
use crate::{Failure, process};

/// Groups that are measured beside `bench/peers`.
const BESIDE_PEERS: [&str; 3] = ["P2", "P3", "P8"];

/// Builds the program, the benchmarks and, where they are needed, the peers as they are shipped, then measures.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let groups = groups(arguments);
    let wants = |group: &str| groups.iter().any(|wanted| wanted.eq_ignore_ascii_case(group));
    process::run(&mut process::cargo(&["build", "--release", "-p", "counterfoil-server", "-p", "counterfoil-bench"]))?;
    // Not by `cargo run`, which would build it anew with the features that it alone wants.
    let mut bench = process::program(process::target_directory()?.join("release/counterfoil-bench"));
    if groups.is_empty() || BESIDE_PEERS.into_iter().any(wants) {
        // Not one of COUNTERFOIL_…: the program refuses those that it does not know.
        bench.env("BENCH_PEERS", build_peers()?);
    }
    if wants("django") {
        bench.env("BENCH_DJANGO", django()?);
    }
    process::run(bench.args(arguments))
}

/// The groups that are named; none: those that are measured unasked.
fn groups(arguments: &[String]) -> Vec<&str> {
    let mut arguments = arguments.iter();
    let mut groups = Vec::new();
    while let Some(argument) = arguments.next() {
        if argument == "--json" {
            arguments.next();
        } else {
            groups.push(argument.as_str());
        }
    }
    groups
}

/// The program of the peers. A workspace of its own, with a target directory of its own.
fn build_peers() -> Result<PathBuf, Failure> {
    let target = process::target_directory()?.join("peers");
    let mut build = process::cargo(&["build", "--release", "--locked", "--manifest-path", "bench/peers/Cargo.toml"]);
    process::run(build.env("CARGO_TARGET_DIR", &target))?;
    Ok(target.join("release/counterfoil-peers"))
}

/// A Python environment with the packages, to be thrown away with the target directory.
fn django() -> Result<PathBuf, Failure> {
    install::ensure_debian(&[Debian { program: "redis-server", package: "redis-server" }])?;
    let environment = process::target_directory()?.join("django-env");
    process::run(process::program("python3").args(["-m", "venv"]).arg(&environment))?;
    let mut pip = process::program(environment.join("bin/pip"));
    process::run(pip.args([
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "-r",
        "bench/django/requirements.txt",
    ]))?;
    Ok(environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_what_is_not_the_file_for_the_figures() {
        let arguments = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(groups(&arguments(&["p1", "--json", "figures.json", "P8"])), ["p1", "P8"]);
        assert!(groups(&arguments(&["--json", "figures.json"])).is_empty());
    }
}
