//! Installing what is missing, where that is ours to do, and saying what to install where it is not.

use std::fs;
use std::path::PathBuf;

use crate::Failure;
use crate::process::{self, on_path, program};

/// A program and the Debian package that brings it.
#[derive(Clone, Copy)]
pub(crate) struct Debian {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
}

/// Installs the packages of those programs that are not on the PATH, by `apt-get` as root.
///
/// # Errors
/// Elsewhere than on Debian, and without root: names what to install. Nothing is tried then.
pub(crate) fn ensure_debian(programs: &[Debian]) -> Result<(), Failure> {
    let missing: Vec<&Debian> = programs.iter().filter(|wanted| on_path(wanted.program).is_none()).collect();
    if missing.is_empty() {
        println!("nothing to install");
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|wanted| wanted.package).collect();
    if on_path("apt-get").is_none() || !is_root() {
        return Err(to_install(&missing).into());
    }
    process::run(program("apt-get").args(["update", "--quiet"]))?;
    process::run(
        program("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "--yes", "--quiet", "--no-install-recommends"])
            .args(&packages),
    )?;
    match missing.iter().find(|wanted| on_path(wanted.program).is_none()) {
        None => Ok(()),
        Some(Debian { program, package }) => {
            Err(format!("{package} is installed, and `{program}` is still not on the PATH").into())
        }
    }
}

/// Makes sure that `cargo SUBCOMMAND` of the toolchain works; minimal profiles of rustup leave some out.
pub(crate) fn ensure_component(subcommand: &str, component: &str) -> Result<(), Failure> {
    if process::output(&mut process::cargo(&[subcommand, "--version"])).is_ok() {
        return Ok(());
    }
    if on_path("rustup").is_none() {
        return Err(format!("`cargo {subcommand}` is missing: install {component} for this toolchain").into());
    }
    process::run(program("rustup").args(["component", "add", component]))
}

/// Makes a virtual environment under the target directory with what `xtask/python/NAME.txt` lists, and says where its
/// programs are. Done once for each content of the list.
///
/// # Errors
/// Without Python, or where the list cannot be installed.
pub(crate) fn ensure_python(name: &str, options: &[&str]) -> Result<PathBuf, Failure> {
    let list = process::root().join("xtask/python").join(format!("{name}.txt"));
    let wanted = fs::read_to_string(&list)?;
    let environment = process::target_directory()?.join("python").join(name);
    let programs = environment.join(if cfg!(windows) { "Scripts" } else { "bin" });
    // Written last, so that half an installation is none.
    let installed = environment.join("installed.txt");
    if fs::read_to_string(&installed).is_ok_and(|installed| installed == wanted) {
        println!("{name}: nothing to install");
        return Ok(programs);
    }
    let make = || process::run(program("python3").args(["-m", "venv", "--clear"]).arg(&environment));
    if make().is_err() {
        // Debian splits it off; there is no program to look for.
        println!("python3 -m venv does not work; it may be the package python3-venv that is missing");
        if on_path("apt-get").is_none() || !is_root() {
            return Err("python3 -m venv does not work; on Debian, as root: apt-get install python3-venv".into());
        }
        process::run(program("apt-get").args(["update", "--quiet"]))?;
        process::run(program("apt-get").args([
            "install",
            "--yes",
            "--quiet",
            "--no-install-recommends",
            "python3-venv",
        ]))?;
        make()?;
    }
    let mut pip = program(programs.join("python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]);
    process::run(pip.args(options).arg("--requirement").arg(&list))?;
    fs::write(&installed, &wanted)?;
    Ok(programs)
}

fn to_install(missing: &[&Debian]) -> String {
    let programs: Vec<&str> = missing.iter().map(|wanted| wanted.program).collect();
    let packages: Vec<&str> = missing.iter().map(|wanted| wanted.package).collect();
    format!("missing: {}; on Debian, as root: apt-get install {}", programs.join(", "), packages.join(" "))
}

fn is_root() -> bool {
    process::output(program("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_the_path_is_not_installed_again() {
        ensure_debian(&[Debian { program: "cargo", package: "no-such-package" }]).unwrap();
    }

    #[test]
    fn the_complaint_names_program_and_package() {
        let missing = [&Debian { program: "psql", package: "postgresql-client" }];
        assert_eq!(to_install(&missing), "missing: psql; on Debian, as root: apt-get install postgresql-client");
    }
}
