//! `cargo xtask test`: everything CI runs, in the order in which it is cheapest to fail.

use std::thread;

use crate::install::{self, Debian};
use crate::steps::Steps;
use crate::{
    Failure, browser, check, conformance, contract, crash, front_page, fuzz, model, nodes, process, publish, simulate,
    smoke, smtp_server, supply, timing,
};

/// What SQLite and the fuzzer are compiled with.
const COMPILERS: &[Debian] = &[Debian { program: "c++", package: "g++" }];

/// Programs that the tests call and that a machine with only Rust and Python may lack.
const PROGRAMS: &[Debian] = &[
    Debian { program: "strace", package: "strace" },
    // What the lab starts. PostgreSQL's own programs are not on the PATH; this one makes clusters.
    Debian { program: "pg_createcluster", package: "postgresql" },
    Debian { program: "redis-server", package: "redis-server" },
    Debian { program: "pgbouncer", package: "pgbouncer" },
    Debian { program: "ip", package: "iproute2" },
];

/// In one test program.
const TESTS_AT_ONCE: &str = "4";

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    crate::refuse_arguments(arguments)?;
    let mut steps = Steps::begin();
    steps.take("compilers", || install::ensure_debian(COMPILERS))?;
    // Beside the compiler, which does not wait for the network.
    let installing = thread::spawn(|| install_programs().map_err(|failure| failure.to_string()));
    check::take(&mut steps)?;
    steps.take("programs", || Ok(installing.join().map_err(|_| "the installation panicked")??))?;
    supply::take(&mut steps)?;
    steps.take("build", process::build_everything)?;
    // Most tests wait for a server or a disk most of the time.
    let building = thread::spawn(|| build_ahead().map_err(|failure| failure.to_string()));
    let tally = steps.take("tests and doc tests", run_tests)?;
    steps.take("build of the rest", || Ok(building.join().map_err(|_| "the build panicked")??))?;
    steps.take("documentation", || {
        let mut doc = process::cargo(&["doc", "--no-deps"]);
        process::run(doc.args(process::EVERYTHING).env("RUSTDOCFLAGS", "-Dwarnings"))
    })?;
    steps.take("packages", publish::smoke)?;
    steps.take("model", model::check)?;
    steps.take("simulation", simulate::smoke)?;
    steps.take("conformance", conformance::smoke)?;
    steps.take("smokes", smoke::run)?;
    steps.take("front page", front_page::smoke)?;
    steps.take("browser", browser::smoke)?;
    steps.take("contract", contract::smoke)?;
    steps.take("fuzzing", fuzz::smoke)?;
    steps.take("crashes", crash::smoke)?;
    steps.take("nodes", nodes::smoke)?;
    steps.take("timing", timing::smoke)?;
    steps.sum_up();
    println!("\n{} passed, {} failed", tally.passed, tally.failed);
    Ok(())
}

/// Whatever else the steps call. What each of them installs by itself is there then.
fn install_programs() -> Result<(), Failure> {
    let programs: Vec<Debian> = [PROGRAMS, browser::PROGRAMS].concat();
    install::ensure_debian(&programs)?;
    supply::install()?;
    smtp_server::install()?;
    contract::install().map(drop)
}

/// What later steps try that is built apart from everything else.
fn build_ahead() -> Result<(), Failure> {
    fuzz::build_for_smoke(process::cargo_at_leisure)?;
    front_page::build_ahead(process::cargo_at_leisure)?;
    model::build(process::cargo_at_leisure)
}

/// Runs all of them even after one has failed, so that one run shows everything that is wrong. Those that need a PostgreSQL or a
/// Redis share the two that the lab starts for this run.
fn run_tests() -> Result<Tally, Failure> {
    let mut tally = Tally::default();
    let mut tests = process::built("counterfoil-lab")?;
    tests.args(["servers", "cargo", "test", "--no-fail-fast"]).args(process::EVERYTHING);
    // Most of them wait for a server or a disk most of the time.
    tests.env("RUST_TEST_THREADS", TESTS_AT_ONCE);
    process::run_watching(&mut tests, |line| tally.add(line))
        .map_err(|failure| format!("{failure} ({} passed, {} failed)", tally.passed, tally.failed))?;
    // A run that tested nothing must not look like a run in which nothing was wrong.
    if tally.passed == 0 { Err("no test ran".into()) } else { Ok(tally) }
}

/// The sum over every `test result:` line.
#[derive(Default, Debug, PartialEq)]
struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        for part in result.split([';', '.']) {
            match part.trim().split_once(' ') {
                Some((number, "passed")) => self.passed += number.parse().unwrap_or(0),
                Some((number, "failed")) => self.failed += number.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_every_test_program_are_summed() {
        let mut tally = Tally::default();
        tally.add("test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 1 filtered out; finished in 0.13s");
        tally.add("test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.50s");
        tally.add("test token::tests::expired ... ok");
        assert_eq!(tally, Tally { passed: 14, failed: 1 });
    }
}
