//! The house rules: what the compiler cannot forbid and a reviewer should not have to repeat.
//!
//! A rule is a function from [`House`] to the list of its breaches, and one row of [`RULES`]. Each has a test that
//! plants a breach and sees it found.

mod cases;
mod walls;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use self::walls::Package;
use crate::{Failure, process};

/// A rule, by the name under which its breaches are printed.
type Rule = (&'static str, fn(&House) -> Vec<String>);

const RULES: &[Rule] = &[
    ("walls", walls::walls),
    ("planted", walls::nothing_is_planted),
    ("lints", lints_are_inherited),
    ("front door", required_files),
    ("names", file_names),
    ("security cases", cases::security_cases),
    ("own words", foreign_words),
    ("build settings", build_settings),
];

/// Files that a newcomer may count on.
const REQUIRED: &[&str] = &[
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "SECURITY.md",
    cases::SECURITY_CASES,
];

/// ARCHITECTURE.md is read in one sitting or not at all.
const ARCHITECTURE_LINES: usize = 150;

/// Names that say nothing about what is inside, as a file or as a module directory.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "manager", "helpers", "helper"];

/// Applies every rule to this repository.
///
/// # Errors
/// When one is broken; each breach has then been printed with its rule.
pub(crate) fn keep() -> Result<(), Failure> {
    let house = House::survey()?;
    let breaches = house.breaches();
    for breach in &breaches {
        println!("{breach}");
    }
    match breaches.len() {
        0 => {
            println!("{} rules hold over {} files", RULES.len(), house.files.len());
            Ok(())
        }
        1 => Err("a house rule is broken".into()),
        broken => Err(format!("{broken} breaches of the house rules").into()),
    }
}

/// All that the rules look at, read once.
#[derive(Clone)]
struct House {
    /// Content by path from the root, `/` between the parts.
    files: BTreeMap<String, Vec<u8>>,
    packages: Vec<Package>,
}

impl House {
    fn survey() -> Result<House, Failure> {
        let mut files = BTreeMap::new();
        for path in file_list()? {
            // A file that git knows and that has just been deleted is no longer part of the house.
            if let Ok(content) = fs::read(process::root().join(&path)) {
                files.insert(path, content);
            }
        }
        Ok(House { files, packages: walls::packages()? })
    }

    fn breaches(&self) -> Vec<String> {
        let of_rule = |(name, rule): &Rule| -> Vec<String> {
            rule(self).into_iter().map(|breach| format!("{name}: {breach}")).collect()
        };
        RULES.iter().flat_map(of_rule).collect()
    }

    /// The lines of a text file, numbered from 1; none if it is absent.
    fn lines(&self, path: &str) -> Vec<(usize, String)> {
        let content = self.files.get(path).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        content.unwrap_or_default().lines().enumerate().map(|(at, line)| (at + 1, line.to_owned())).collect()
    }
}

/// The files of the repository: what git tracks or would track. Without git, or in an
/// unpacked archive, everything outside `.git` and `target`.
fn file_list() -> Result<Vec<String>, Failure> {
    let known = process::program("git").args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).output();
    if let Ok(output) = known
        && output.status.success()
    {
        let names = String::from_utf8(output.stdout)?;
        return Ok(names.split_terminator('\0').map(str::to_owned).collect());
    }
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = vec![process::root().to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if entry.file_type()?.is_dir() {
                if name != "target" && name != ".git" {
                    open.push(entry.path());
                }
            } else {
                found.push(from_root(&entry.path()));
            }
        }
    }
    Ok(found)
}

fn from_root(path: &Path) -> String {
    path.strip_prefix(process::root()).unwrap_or(path).to_string_lossy().replace('\\', "/")
}

/// `unsafe` is forbidden by a lint, so every crate must inherit the lints.
fn lints_are_inherited(house: &House) -> Vec<String> {
    let mut breaches = Vec::new();
    let forbidden = |(_, line): &(usize, String)| line.replace(' ', "") == "unsafe_code=\"forbid\"";
    if !house.lines("Cargo.toml").iter().any(forbidden) {
        breaches.push("Cargo.toml no longer says unsafe_code = \"forbid\"".to_owned());
    }
    for package in &house.packages {
        let manifest = format!("{}/Cargo.toml", package.directory);
        let mut section = String::new();
        let inherits = house.lines(&manifest).into_iter().any(|(_, line)| {
            let line = line.replace(' ', "");
            if line.starts_with('[') {
                section = line;
                return false;
            }
            line == "lints.workspace=true" || (section == "[lints]" && line == "workspace=true")
        });
        if !inherits {
            breaches.push(format!("{manifest} does not say [lints] workspace = true"));
        }
    }
    breaches
}

fn required_files(house: &House) -> Vec<String> {
    let absent = REQUIRED.iter().filter(|path| !house.files.contains_key(**path));
    let mut breaches: Vec<String> = absent.map(|path| format!("{path} is missing")).collect();
    let lines = house.lines("ARCHITECTURE.md").len();
    if lines > ARCHITECTURE_LINES {
        breaches.push(format!("ARCHITECTURE.md has {lines} lines, more than {ARCHITECTURE_LINES}"));
    }
    breaches
}

/// A file is named by the noun a newcomer would search for.
fn file_names(house: &House) -> Vec<String> {
    let says_nothing = |path: &&String| {
        let Some(stem) = path.strip_suffix(".rs") else {
            return false;
        };
        stem.split('/').any(|part| EMPTY_NAMES.contains(&part))
    };
    let found = house.files.keys().filter(says_nothing);
    found.map(|path| format!("{path}: name it by the noun that a newcomer would search for")).collect()
}

/// The files speak of the product: no path of the machine on which something was written.
fn foreign_words(house: &House) -> Vec<String> {
    // In two halves, so that this file does not break its own rule.
    let foreign = [concat!("/wo", "rk/"), concat!("../sha", "red"), concat!("/ro", "ot/.")];
    let mut breaches = Vec::new();
    for (path, content) in &house.files {
        for word in foreign {
            let Some(at) = content.windows(word.len()).position(|window| window == word.as_bytes()) else {
                continue;
            };
            let line = content[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
            breaches.push(format!("{path}:{line} contains {word}"));
        }
    }
    breaches
}

/// Where things are linked, built and fetched from is the builder's business; the crates come from crates.io.
fn build_settings(house: &House) -> Vec<String> {
    let mut breaches = Vec::new();
    for path in
        house.files.keys().filter(|path| path.ends_with(".cargo/config.toml") || path.ends_with(".cargo/config"))
    {
        for (at, line) in house.lines(path) {
            let key = line.trim().trim_start_matches('[').split(['=', ']']).next().unwrap_or_default().trim();
            let local =
                |part: &str| matches!(part.trim(), "linker" | "target-dir" | "source" | "registry" | "registries");
            if key.split('.').any(local) {
                breaches.push(format!("{path}:{at}: `{key}` belongs to the machine, not to the repository"));
            }
        }
    }
    for path in house.files.keys().filter(|path| *path == "Cargo.lock" || path.ends_with("/Cargo.lock")) {
        for (at, line) in house.lines(path) {
            if let Some(source) = line.strip_prefix("source = ")
                && source != "\"registry+https://github.com/rust-lang/crates.io-index\""
            {
                breaches.push(format!("{path}:{at}: a crate from {source}"));
            }
        }
    }
    breaches
}

/// A sound house, and what becomes of it when harm is done.
#[cfg(test)]
mod fixture {
    use std::collections::BTreeSet;

    use super::walls::{Dependency, WALLS};
    use super::*;

    /// A house in which every rule holds.
    pub(super) fn sound() -> House {
        let mut house = House { files: BTreeMap::new(), packages: Vec::new() };
        for path in REQUIRED {
            house.write(path, "text\n");
        }
        house.write("Cargo.toml", "[workspace.lints.rust]\nunsafe_code = \"forbid\"\n");
        house.write("Cargo.lock", "source = \"registry+https://github.com/rust-lang/crates.io-index\"\n");
        house.write(".cargo/config.toml", "[alias]\nxtask = \"run --package xtask --\"\n");
        house
            .write(cases::SECURITY_CASES, "| id | case | tests |\n|---|---|---|\n| A01 | stolen rows | `a01_rows` |\n");
        house.write("crates/counterfoil-core/tests/theft.rs", "#[test]\nfn a01_rows() {}\n");
        for wall in WALLS {
            let directory = format!("crates/{}", wall.crate_name);
            house.write(&format!("{directory}/Cargo.toml"), "[package]\nname = \"x\"\n\n[lints]\nworkspace = true\n");
            house.packages.push(Package {
                name: wall.crate_name.to_owned(),
                directory,
                dependencies: wall.ours.iter().map(|ours| dependency(ours)).collect(),
                features: BTreeMap::new(),
                reaches: BTreeSet::new(),
            });
        }
        house
    }

    pub(super) fn dependency(name: &str) -> Dependency {
        Dependency { name: name.to_owned(), dev: false, default_features: true, features: Vec::new() }
    }

    impl House {
        pub(super) fn write(&mut self, path: &str, content: &str) {
            self.files.insert(path.to_owned(), content.as_bytes().to_vec());
        }

        pub(super) fn package(&mut self, name: &str) -> &mut Package {
            self.packages.iter_mut().find(|package| package.name == name).unwrap()
        }

        pub(super) fn depends(&mut self, name: &str, on: Dependency) {
            self.package(name).dependencies.push(on);
        }
    }

    /// The breaches of a sound house to which this was done.
    pub(super) fn after(harm: impl FnOnce(&mut House)) -> Vec<String> {
        let mut house = sound();
        harm(&mut house);
        house.breaches()
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::{after, sound};

    #[test]
    fn a_sound_house_has_no_breach() {
        assert_eq!(sound().breaches(), [""; 0]);
    }

    #[test]
    fn lints_must_be_inherited() {
        let manifest = "[package]\nname = \"x\"\n\n[features]\nworkspace = true\n";
        let found = after(|house| house.write("crates/counterfoil/Cargo.toml", manifest));
        assert_eq!(found, ["lints: crates/counterfoil/Cargo.toml does not say [lints] workspace = true"]);
        let found = after(|house| {
            house.write("Cargo.toml", "[workspace.lints.rust]\nunsafe_code = \"warn\"\n");
        });
        assert_eq!(found, ["lints: Cargo.toml no longer says unsafe_code = \"forbid\""]);
    }

    #[test]
    fn the_front_door_is_complete() {
        let found = after(|house| {
            house.files.remove("SECURITY.md");
        });
        assert_eq!(found, ["front door: SECURITY.md is missing"]);
    }

    #[test]
    fn architecture_stays_readable() {
        assert_eq!(after(|house| house.write("ARCHITECTURE.md", &"line\n".repeat(150))), [""; 0]);
        let found = after(|house| house.write("ARCHITECTURE.md", &"line\n".repeat(151)));
        assert_eq!(found, ["front door: ARCHITECTURE.md has 151 lines, more than 150"]);
    }

    #[test]
    fn empty_names_are_refused_as_file_and_as_directory() {
        for path in ["crates/a/src/utils.rs", "crates/a/tests/common/mod.rs"] {
            let found = after(|house| house.write(path, ""));
            assert_eq!(found, [format!("names: {path}: name it by the noun that a newcomer would search for")]);
        }
        assert_eq!(after(|house| house.write("docs/common.md", "")), [""; 0]);
    }

    #[test]
    fn foreign_paths_are_found_in_any_file() {
        let word = concat!("/wo", "rk/");
        let found = after(|house| house.write("docs/guide.md", &format!("first\nsee {word}notes\n")));
        assert_eq!(found, [format!("own words: docs/guide.md:2 contains {word}")]);
        let word = concat!("../sha", "red");
        let found = after(|house| {
            house.files.insert("fixture.bin".into(), [b"\xff\0", word.as_bytes()].concat());
        });
        assert_eq!(found, [format!("own words: fixture.bin:1 contains {word}")]);
    }

    #[test]
    fn settings_of_the_machine_stay_out_of_the_repository() {
        for (setting, key) in [
            ("[build]\ntarget-dir = \"/tmp/t\"\n", "target-dir"),
            ("[target.x86_64-unknown-linux-gnu]\nlinker = \"clang\"\n", "linker"),
            ("build.target-dir = \"t\"\n\n", "build.target-dir"),
            ("\n[source.crates-io]\n", "source.crates-io"),
        ] {
            let found = after(|house| house.write(".cargo/config.toml", setting));
            assert_eq!(found.len(), 1, "{setting}: {found:?}");
            assert!(found[0].contains(&format!("`{key}` belongs to the machine")), "{found:?}");
        }
        let found = after(|house| {
            house.write("Cargo.lock", "source = \"registry+https://mirror.example/index\"\n");
        });
        assert_eq!(found, ["build settings: Cargo.lock:1: a crate from \"registry+https://mirror.example/index\""]);
    }
}
