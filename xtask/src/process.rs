//! Running other programs: never with a stdin to wait on, and with the whole command in every complaint.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;

use crate::Failure;

/// `cargo` with these arguments, at the root of the repository.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = program("cargo");
    command.args(arguments);
    command
}

/// [`cargo`], or as it is called where it must not be in anybody's way.
pub(crate) type Cargo = fn(&[&str]) -> Command;

/// The same with what the processor has left, and without a word, beside something else.
pub(crate) fn cargo_at_leisure(arguments: &[&str]) -> Command {
    let mut command = match on_path("nice") {
        Some(nice) => {
            let mut nice = program(nice);
            nice.args(["-n", "19", "cargo"]);
            nice
        }
        None => program("cargo"),
    };
    command.arg("--quiet").args(arguments);
    command
}

/// A program at the root of the repository, with nothing on its stdin.
pub(crate) fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    command.current_dir(root()).stdin(Stdio::null());
    command
}

/// The root of the repository, which is the parent of this crate.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Where cargo builds.
pub(crate) fn target_directory() -> Result<PathBuf, Failure> {
    let metadata = output(&mut cargo(&["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    Ok(metadata["target_directory"].as_str().ok_or("cargo metadata names no target directory")?.into())
}

/// All packages, with all they can do.
pub(crate) const EVERYTHING: [&str; 2] = ["--workspace", "--all-features"];

/// Builds everything there is once, as `cargo test` will want it: what tries the product is then there as well.
pub(crate) fn build_everything() -> Result<(), Failure> {
    run(cargo(&["build", "--all-targets"]).args(EVERYTHING))?;
    // Asked for again by each step that starts the server.
    SERVER_IS_BUILT.call_once(|| {});
    Ok(())
}

/// Whether it is there already, as this run needs it.
static SERVER_IS_BUILT: Once = Once::new();

/// The server as it stands, in a debug build: `counterfoil`.
pub(crate) fn server() -> Result<PathBuf, Failure> {
    if !SERVER_IS_BUILT.is_completed() {
        run(&mut cargo(&["build", "-p", "counterfoil-server", "--bin", "counterfoil"]))?;
    }
    debug_program("counterfoil")
}

/// A program of this repository as [`build_everything`] left it.
pub(crate) fn built(name: &str) -> Result<Command, Failure> {
    debug_program(name).map(program)
}

fn debug_program(name: &str) -> Result<PathBuf, Failure> {
    Ok(target_directory()?.join("debug").join(format!("{name}{}", std::env::consts::EXE_SUFFIX)))
}

/// Where a program would be found on the PATH.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    std::env::split_paths(&path).map(|directory| directory.join(&file)).find(|candidate| candidate.is_file())
}

/// Runs it with its output on the terminal. Any exit status but 0 is a failure.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    let status = command.status().map_err(|error| format!("{}: {error}", spelled(command)))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` ended with {status}", spelled(command)).into()) }
}

/// As [`run`], and hands each line of stdout to `watch` after it has been printed.
pub(crate) fn run_watching(command: &mut Command, mut watch: impl FnMut(&str)) -> Result<(), Failure> {
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| format!("{}: {error}", spelled(command)))?;
    if let Some(stdout) = child.stdout.take() {
        let mut lines = BufReader::new(stdout);
        let mut line = Vec::new();
        // A test may print bytes that are not UTF-8; they pass unchanged.
        while lines.read_until(b'\n', &mut line)? > 0 {
            let mut out = std::io::stdout().lock();
            out.write_all(&line)?;
            out.flush()?;
            watch(String::from_utf8_lossy(&line).trim_end());
            line.clear();
        }
    }
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("`{}` ended with {status}", spelled(command)).into()) }
}

/// Runs it and returns its stdout. When it fails, what it said on stderr is in the complaint.
pub(crate) fn output(command: &mut Command) -> Result<String, Failure> {
    let output = command.output().map_err(|error| format!("{}: {error}", spelled(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{}` ended with {}: {}", spelled(command), output.status, said.trim()).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The command as a person would type it.
fn spelled(command: &Command) -> String {
    let words: Vec<_> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(OsStr::to_string_lossy).collect();
    words.join(" ")
}
