//! `cargo xtask conformance`: replays what the packages were recorded to answer, and says what ours answers otherwise.

use crate::{Failure, process};

/// Flags whose value is a path, meant from where one stands; the program itself is started at the root.
const PATHS: [&str; 3] = ["--cases", "--rules", "--servers"];

/// Those that there are.
const DIALECTS: [&str; 7] = ["authtoken", "durin", "knox", "multitoken", "advanced", "djforge", "rest_authtoken"];

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let mut conformance = process::cargo(&["run", "--quiet", "-p", "conformance", "--"]);
    process::run(conformance.args(from_here(arguments)?))
}

/// As part of everything, which has built it: all cases of the project.
pub(crate) fn smoke() -> Result<(), Failure> {
    process::run(process::built("conformance")?.args(DIALECTS.map(|name| format!("--dialect={name}"))))
}

fn from_here(arguments: &[String]) -> Result<Vec<String>, Failure> {
    let mut absolute = Vec::new();
    let mut is_path = false;
    for argument in arguments {
        let (flag, path) = match argument.split_once('=') {
            Some((flag, path)) if PATHS.contains(&flag) => (format!("{flag}="), path),
            _ if is_path => (String::new(), argument.as_str()),
            _ => {
                is_path = PATHS.contains(&argument.as_str());
                absolute.push(argument.clone());
                continue;
            }
        };
        is_path = false;
        absolute.push(format!("{flag}{}", std::path::absolute(path)?.display()));
    }
    Ok(absolute)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_meant_from_where_one_stands() {
        let arguments = ["--cases", "a", "--only", "b", "--rules=c", "-v"].map(str::to_owned);
        let here = std::env::current_dir().unwrap();
        let at = |name: &str| here.join(name).display().to_string();
        let rules = format!("--rules={}", at("c"));
        assert_eq!(from_here(&arguments).unwrap(), ["--cases", &at("a"), "--only", "b", &rules, "-v"]);
    }
}
