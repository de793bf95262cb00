//! `cargo xtask record`: asks the real packages what cases ask, and keeps their answers for the dialects to be held to.
//!
//! The packages come from PyPI at the versions of `xtask/python/record.txt`; the site around them and the recorder are in
//! `conformance/python/`.

use std::ffi::OsString;

use crate::install::{self, Debian};
use crate::{Failure, process};

const USAGE: &str = "usage: cargo xtask record [--cases DIR] [--dialect NAME]… [--check]
  --cases DIR     holds scenarios/NAME.json; takes recordings/NAME.json [default: conformance/cases/more]
  --dialect NAME  only this one
  --check         write nothing, say what is not as recorded";

/// djforge keeps its tokens there.
const PROGRAMS: &[Debian] = &[Debian { program: "redis-server", package: "redis-server" }];

/// What PyPI has as sources only.
const AS_SOURCES: [&str; 2] = ["--no-binary", "django-memoize,djforge-redis-multitokens"];

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let arguments = recorder_arguments(arguments)?;
    install::ensure_debian(PROGRAMS)?;
    let python = install::ensure_python("record", &AS_SOURCES)?.join("python");
    process::run(
        process::program(&python)
            .arg(process::root().join("conformance/python/record.py"))
            .args(arguments)
            // Nothing is left beside the sources.
            .env("PYTHONDONTWRITEBYTECODE", "1"),
    )
}

/// What the recorder is called with.
fn recorder_arguments(arguments: &[String]) -> Result<Vec<OsString>, Failure> {
    let mut cases = process::root().join("conformance/cases/more");
    let mut rest: Vec<OsString> = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{flag} needs a value\n{USAGE}"));
        match flag.as_str() {
            // The recorder is started at the root; the directory is meant from where one stands.
            "--cases" => cases = std::path::absolute(value()?)?,
            "--dialect" => rest.extend(["--only".into(), value()?.into()]),
            "--check" => rest.push("--check".into()),
            _ => return Err(format!("what is {flag:?}?\n{USAGE}").into()),
        }
    }
    rest.extend(["--cases".into(), cases.into()]);
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called_with(arguments: &[&str]) -> Result<Vec<String>, String> {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let words = recorder_arguments(&arguments).map_err(|failure| failure.to_string())?;
        Ok(words.into_iter().map(|word| word.into_string().unwrap()).collect())
    }

    #[test]
    fn our_own_cases_are_recorded_unless_others_are_named() {
        let words = called_with(&["--dialect", "durin", "--check"]).unwrap();
        assert_eq!(words[..4], ["--only", "durin", "--check", "--cases"]);
        assert!(words[4].ends_with("conformance/cases/more"), "{words:?}");
    }

    #[test]
    fn what_it_does_not_know_is_not_ignored() {
        assert!(called_with(&["--dialect"]).unwrap_err().starts_with("--dialect needs a value"));
        assert!(called_with(&["--pacakge", "durin"]).unwrap_err().starts_with("what is \"--pacakge\"?"));
    }
}
