//! `cargo xtask fuzz`: feeds what strangers and operators may write to what reads it, and looks for panics, for answers
//! that are our fault, and for readings other than the specification's.
//!
//! libFuzzer comes as a crate, and the instrumentation it needs is a pass that the stable compiler has: no nightly and no
//! other tool. It wants a C++ compiler.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Child;

use crate::Failure;
use crate::process::{self, Cargo};

const USAGE: &str = "usage: cargo xtask fuzz [TARGET…] [--seconds N]
  TARGET       authorization, configuration, forwarded, mail, password, pickle, request, token; all of them unless named
  --seconds N  how long each is fed, two at a time [default: 60]";

/// Each is a module of `fuzz/src` and a directory of `fuzz/corpus`.
const TARGETS: &[Target] = &[
    Target { name: "authorization", smoke_inputs: 100_000 },
    Target { name: "configuration", smoke_inputs: 8_000 },
    Target { name: "forwarded", smoke_inputs: 60_000 },
    Target { name: "mail", smoke_inputs: 20_000 },
    Target { name: "password", smoke_inputs: 6_000 },
    Target { name: "pickle", smoke_inputs: 100_000 },
    Target { name: "request", smoke_inputs: 500 },
    Target { name: "token", smoke_inputs: 80_000 },
];

/// What is fed.
#[derive(Debug, PartialEq)]
struct Target {
    name: &'static str,
    /// How many inputs the smoke tries, the same ones in every run: what it says of a change must not hang on chance. A
    /// few seconds; news is for `cargo xtask fuzz`.
    smoke_inputs: u64,
}

/// A machine with two cores is what CI has.
const AT_ONCE: usize = 2;

/// The pass and its settings, as cargo-fuzz has them: counters at every edge, and what is compared with what.
const INSTRUMENTED: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// What was asked for on the command line.
#[derive(Debug, PartialEq)]
struct Options {
    targets: Vec<&'static Target>,
    effort: Effort,
}

/// How long each target is fed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Effort {
    /// With other inputs in every run, on from what the last one kept.
    Seconds(u32),
    /// Until it has had the inputs of the smoke.
    Smoke,
}

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let options = Options::parse(arguments)?;
    feed(&build()?, &options)
}

/// The step of `cargo xtask test`.
pub(crate) fn smoke() -> Result<(), Failure> {
    feed(&build_for_smoke(process::cargo)?, &Options { targets: TARGETS.iter().collect(), effort: Effort::Smoke })
}

/// Builds every target with all that it depends on, apart from everything else, and says where they are.
fn build() -> Result<PathBuf, Failure> {
    let target = directory()?;
    // Named, because what is built for the machine at hand by default (build scripts, macros) would be instrumented too,
    // and has nobody to count for.
    let host = host()?;
    let mut cargo = process::cargo(&["build", "--profile", "fuzz", "--package", "counterfoil-fuzz", "--examples"]);
    cargo.args(["--target", &host]).env("CARGO_TARGET_DIR", &target).env("RUSTFLAGS", INSTRUMENTED.join(" "));
    process::run(&mut cargo)?;
    Ok(target.join(host).join("fuzz/examples"))
}

/// Builds every target as the tests are built, with counters in our own crates alone: what they depend on is there by then.
pub(crate) fn build_for_smoke(cargo: Cargo) -> Result<PathBuf, Failure> {
    let wrapper = directory()?.join("instrumented-rustc");
    fs::create_dir_all(directory()?)?;
    fs::write(&wrapper, format!("#!/bin/sh\nexec \"$@\" {}\n", INSTRUMENTED.join(" ")))?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    let mut cargo = cargo(&["build"]);
    cargo.args(process::EVERYTHING).args(TARGETS.iter().flat_map(|target| ["--example", target.name]));
    process::run(cargo.env("RUSTC_WORKSPACE_WRAPPER", &wrapper))?;
    Ok(process::target_directory()?.join("debug/examples"))
}

/// For what is built and found.
fn directory() -> Result<PathBuf, Failure> {
    Ok(process::target_directory()?.join("fuzz"))
}

fn host() -> Result<String, Failure> {
    let told = process::output(process::program("rustc").arg("-vV"))?;
    let host = told.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("rustc -vV names no host")?;
    Ok(host.to_owned())
}

/// Runs the targets, [`AT_ONCE`] at a time. All of them, so that one run shows everything that is wrong.
fn feed(programs: &Path, options: &Options) -> Result<(), Failure> {
    let mut wrong = Vec::new();
    for together in options.targets.chunks(AT_ONCE) {
        let started: Result<Vec<Feeding>, Failure> =
            together.iter().map(|target| Feeding::start(programs, target, options.effort)).collect();
        for feeding in started? {
            let name = feeding.target;
            if let Err(failure) = feeding.end() {
                println!("{name}: {failure}");
                wrong.push(name);
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("something is wrong with {}", wrong.join(", ")).into()) }
}

/// One target at work.
struct Feeding {
    target: &'static str,
    /// Fewer than that, and it did not do its work.
    least: u64,
    child: Child,
    log: PathBuf,
}

impl Feeding {
    /// What is found on the way is kept, so that the next run by time goes on from it; the committed corpus stays as it is.
    fn start(programs: &Path, target: &Target, effort: Effort) -> Result<Feeding, Failure> {
        let Target { name, smoke_inputs } = *target;
        let place = directory()?;
        let found = place.join("found").join(name);
        fs::create_dir_all(&found)?;
        let mut command = process::program(programs.join(name));
        command.arg(format!("-artifact_prefix={}/", found.display()));
        let (kept, least) = match effort {
            Effort::Seconds(seconds) => {
                command.arg(format!("-max_total_time={seconds}"));
                (place.join("corpus").join(name), seconds.into())
            }
            Effort::Smoke => {
                command.args([&format!("-runs={smoke_inputs}"), "-seed=1", "-reload=0"]);
                let kept = place.join("smoke").join(name);
                if kept.exists() {
                    fs::remove_dir_all(&kept)?;
                }
                (kept, smoke_inputs)
            }
        };
        fs::create_dir_all(&kept)?;
        let log = place.join(format!("{name}.log"));
        // Ten seconds for one input is a hang; nothing here needs a gigabyte.
        command.args(["-timeout=10", "-rss_limit_mb=1024", "-max_len=4096", "-print_final_stats=1"]);
        command.arg(&kept).arg(process::root().join("fuzz/corpus").join(name));
        let child = command
            // Forty frames of libFuzzer under every panic would hide what it says.
            .env("RUST_BACKTRACE", "0")
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?)
            .spawn()
            .map_err(|error| format!("{name}: {error}"))?;
        Ok(Feeding { target: name, least, child, log })
    }

    /// Waits for it and says how many inputs it tried.
    fn end(mut self) -> Result<(), Failure> {
        let status = self.child.wait()?;
        let log = String::from_utf8_lossy(&fs::read(&self.log)?).into_owned();
        if !status.success() {
            return Err(format!("{status}\n{}", tail(&log)).into());
        }
        let tried = stat(&log, "stat::number_of_executed_units:");
        // A program that was built without the counters finds nothing and ends well.
        if !log.contains("inline 8-bit counters") || tried.is_none_or(|tried| tried < self.least) {
            return Err(format!("nothing was tried\n{}", tail(&log)).into());
        }
        println!("{:<14} {:>9} inputs, nothing found", self.target, tried.unwrap_or_default());
        Ok(())
    }
}

impl Drop for Feeding {
    fn drop(&mut self) {
        // When another one could not be started; both fail once it has ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The end of a log, where the complaint is and the file with the input.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

fn stat(log: &str, name: &str) -> Option<u64> {
    log.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Options, Failure> {
        let mut options = Options { targets: Vec::new(), effort: Effort::Seconds(60) };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            if argument == "--seconds" {
                let seconds = arguments.next().and_then(|text| text.parse().ok()).filter(|&seconds| seconds > 0);
                let seconds = seconds.ok_or_else(|| format!("--seconds needs a number\n{USAGE}"))?;
                options.effort = Effort::Seconds(seconds);
                continue;
            }
            let known = TARGETS.iter().find(|target| target.name == argument);
            options.targets.push(known.ok_or_else(|| format!("there is no target {argument:?}\n{USAGE}"))?);
        }
        if options.targets.is_empty() {
            options.targets = TARGETS.iter().collect();
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_its_source_its_program_and_a_corpus() {
        let root = process::root().join("fuzz");
        let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
        for target in TARGETS.iter().map(|target| target.name) {
            assert!(root.join("src").join(format!("{target}.rs")).is_file(), "{target}");
            assert!(manifest.contains(&format!("path = \"targets/{target}.rs\"")), "{target}");
            assert!(fs::read_dir(root.join("corpus").join(target)).unwrap().count() > 0, "{target}");
        }
        assert_eq!(manifest.matches("[[example]]").count(), TARGETS.len(), "a target that nobody runs");
    }

    #[test]
    fn targets_are_named_and_times_are_numbers() {
        let parse = |text: &str| Options::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(parse("").unwrap(), Options { targets: TARGETS.iter().collect(), effort: Effort::Seconds(60) });
        assert_eq!(
            parse("token --seconds 5").unwrap(),
            Options { targets: vec![&TARGETS[7]], effort: Effort::Seconds(5) }
        );
        for wrong in ["mouse", "--seconds", "--seconds many", "--seconds 0", "--fast"] {
            parse(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn the_number_of_inputs_is_read_from_the_log() {
        let log = "INFO: seed\nstat::number_of_executed_units: 4711\nstat::average_exec_per_sec:     2\n";
        assert_eq!(stat(log, "stat::number_of_executed_units:"), Some(4711));
        assert_eq!(stat("", "stat::number_of_executed_units:"), None);
    }
}
