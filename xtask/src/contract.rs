//! `cargo xtask contract`: a real server, thousands of requests made from its own OpenAPI document, and every answer held to
//! that document.
//!
//! Schemathesis makes the requests and judges the answers; who asks is decided in `xtask/python/contract.py`. Routes are
//! read from `/openapi.json`, so that a new one is tried without a word here.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Child;

use serde_json::Value;

use crate::crash::server::Program;
use crate::{Failure, install, process};

const USAGE: &str = "usage: cargo xtask contract [--seconds N] [--seed S]
  --seconds N  how long requests are made [default: 150]
  --seed S     make the same again, as far as the time goes";

/// Fewer cases than this are no trial.
const LEAST_CASES: u64 = 1_000;

/// What is asked of every answer: that it is not our fault, and that status, media type, headers and body are as the
/// document has them; that what is not valid is refused, that a method which is not there is 405, and that what needs a
/// token is refused without one.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance,negative_data_rejection,unsupported_method,ignored_auth";

/// Phases of Schemathesis that run side by side, a process for each: in several threads of one, Python 3.11 now and then
/// trips over its own syntax trees.
const PHASES: [&str; 2] = ["fuzzing", "examples,coverage,stateful"];

/// What was asked for on the command line.
struct Options {
    seconds: u64,
    seed: Option<u64>,
}

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let options = Options::parse(arguments)?;
    let schemathesis = install()?;
    let scratch = process::target_directory()?.join(format!("contract-{}", std::process::id()));
    fs::create_dir_all(&scratch)?;
    let tried = Program::build(&scratch).and_then(|program| try_out(&program, &schemathesis, &scratch, &options));
    fs::remove_dir_all(&scratch)?;
    tried
}

/// Schemathesis, installed where it is missing.
pub(crate) fn install() -> Result<PathBuf, Failure> {
    Ok(install::ensure_python("contract", &[])?.join("schemathesis"))
}

/// The step of `cargo xtask test`.
pub(crate) fn smoke() -> Result<(), Failure> {
    run(&["--seconds".to_owned(), "50".to_owned()])
}

fn try_out(program: &Program, schemathesis: &Path, scratch: &Path, options: &Options) -> Result<(), Failure> {
    let data = scratch.join("data");
    let server = program.serve_plainly(&data)?;
    let url = format!("http://{}", server.address);
    let mut runs = Vec::new();
    for phases in PHASES {
        runs.push((phases, start(program, schemathesis, scratch, &url, phases, options)?));
    }
    let mut answers = Answers::default();
    let mut judged = Ok(());
    for (phases, mut run) in runs {
        let status = run.wait()?;
        println!("{}", fs::read_to_string(scratch.join(format!("{phases}.log")))?.trim_end());
        if !status.success() {
            judged = Err(format!("Schemathesis ended with {status} ({phases})"));
        }
        let counted = fs::read_to_string(scratch.join(format!("{phases}.json")));
        answers.add(&counted.map_err(|_| "Schemathesis counted nothing")?)?;
    }
    answers.print();
    judged?;
    answers.suffice()?;
    server.stop()
}

/// Starts Schemathesis on some of its phases.
fn start(
    program: &Program,
    schemathesis: &Path,
    scratch: &Path,
    url: &str,
    phases: &str,
    options: &Options,
) -> Result<Child, Failure> {
    let mut command = process::program(schemathesis);
    command
        // It looks for settings where it is started.
        .current_dir(scratch)
        .env("SCHEMATHESIS_HOOKS", "contract")
        .env("PYTHONPATH", process::root().join("xtask/python"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("CONTRACT_URL", url)
        .env("CONTRACT_PROGRAM", program.path())
        .env("CONTRACT_DATA_DIR", scratch.join("data"))
        .env("CONTRACT_SUMMARY", scratch.join(format!("{phases}.json")))
        .env("CONTRACT_NAMES", phases.split(',').next().unwrap_or_default())
        .args(["--no-color", "run", &format!("{url}/openapi.json"), "--checks", CHECKS, "--phases", phases])
        .args(["--max-time", &options.seconds.to_string(), "--generation-database", "none"])
        .args(["--request-timeout", "30", "--suppress-health-check", "all", "--warnings", "off"])
        .args(["--generation-with-security-parameters", "false", "--continue-on-failure"]);
    if let Some(seed) = options.seed {
        command.args(["--seed", &seed.to_string()]);
    }
    let log = File::create(scratch.join(format!("{phases}.log")))?;
    Ok(command.stdout(log.try_clone()?).stderr(log).spawn().map_err(|error| format!("schemathesis: {error}"))?)
}

/// How often each route gave each status.
#[derive(Default)]
struct Answers(BTreeMap<String, BTreeMap<u16, u64>>);

impl Answers {
    fn add(&mut self, text: &str) -> Result<(), Failure> {
        for (route, counted) in serde_json::from_str::<BTreeMap<String, BTreeMap<String, Value>>>(text)? {
            let of_route = self.0.entry(route).or_default();
            for (status, count) in counted {
                *of_route.entry(status.parse()?).or_default() += count.as_u64().unwrap_or(0);
            }
        }
        Ok(())
    }

    fn print(&self) {
        for (route, counted) in &self.0 {
            let counted: Vec<String> = counted.iter().map(|(status, count)| format!("{status}: {count}")).collect();
            println!("  {route:<44} {}", counted.join(", "));
        }
        println!("{} cases, {} of them answered with 5xx", self.count(|_| true), self.count(|status| status >= 500));
    }

    fn count(&self, which: impl Fn(u16) -> bool) -> u64 {
        let all = self.0.values().flatten();
        all.filter(|(status, _)| which(**status)).map(|(_, count)| count).sum()
    }

    /// Enough cases, none of them our fault, and no route at whose door everybody was turned away.
    fn suffice(&self) -> Result<(), Failure> {
        let cases = self.count(|_| true);
        if cases < LEAST_CASES {
            return Err(format!("{cases} cases, fewer than {LEAST_CASES}").into());
        }
        if self.count(|status| status >= 500) > 0 {
            return Err("an answer was 5xx".into());
        }
        let is_closed =
            |counted: &BTreeMap<u16, u64>| counted.keys().all(|status| [401, 403, 405, 429].contains(status));
        let closed: Vec<&str> =
            self.0.iter().filter(|(_, counted)| is_closed(counted)).map(|(route, _)| route.as_str()).collect();
        if closed.is_empty() { Ok(()) } else { Err(format!("nobody was let in to {}", closed.join(", ")).into()) }
    }
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Options, Failure> {
        let mut options = Options { seconds: 150, seed: None };
        let mut arguments = arguments.iter();
        while let Some(flag) = arguments.next() {
            let number = arguments.next().and_then(|text| text.parse::<u64>().ok());
            let number = number.ok_or_else(|| format!("{flag} needs a number\n{USAGE}"))?;
            match flag.as_str() {
                "--seconds" => options.seconds = number,
                "--seed" => options.seed = Some(number),
                _ => return Err(format!("what is {flag:?}?\n{USAGE}").into()),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str) -> Result<(), String> {
        let mut answers = Answers::default();
        answers.add(text).unwrap();
        answers.suffice().map_err(|failure| failure.to_string())
    }

    #[test]
    fn too_few_cases_are_no_trial() {
        let refused = judged(r#"{"GET /v1/me": {"200": 500, "401": 499}}"#).unwrap_err();
        assert_eq!(refused, "999 cases, fewer than 1000");
        judged(r#"{"GET /v1/me": {"200": 500, "401": 500}}"#).unwrap();
    }

    #[test]
    fn a_single_5xx_fails() {
        assert_eq!(judged(r#"{"GET /v1/me": {"200": 2000, "503": 1}}"#).unwrap_err(), "an answer was 5xx");
    }

    #[test]
    fn a_route_that_let_nobody_in_was_not_tried() {
        let refused = judged(r#"{"GET /v1/me": {"200": 2000}, "GET /v1/admin/users": {"401": 9, "403": 3}}"#);
        assert_eq!(refused.unwrap_err(), "nobody was let in to GET /v1/admin/users");
    }
}
