//! The table of security cases, and whether the tests it names exist.

use std::collections::{BTreeMap, BTreeSet};

use super::House;

pub(super) const SECURITY_CASES: &str = "docs/security-cases.md";

/// While this line stands in [`SECURITY_CASES`], its table may be empty.
const NO_ROWS_YET: &str = "<!-- no rows yet -->";

/// Every row of the table in [`SECURITY_CASES`], `| A01 | one line | `the_test` |`, names tests that exist and run.
pub(super) fn security_cases(house: &House) -> Vec<String> {
    let tests = test_functions(house);
    let mut breaches = Vec::new();
    let mut seen = BTreeSet::new();
    let mut rows_may_be_absent = false;
    for (at, line) in house.lines(SECURITY_CASES) {
        rows_may_be_absent |= line.trim() == NO_ROWS_YET;
        let Some(row) = line.trim().strip_prefix('|') else {
            continue;
        };
        let cells: Vec<&str> = row.trim_end_matches('|').split('|').map(str::trim).collect();
        let (id, named) = (cells[0], cells[cells.len() - 1]);
        if id == "id" || id.starts_with('-') || id.starts_with(':') {
            continue;
        }
        let mut breach = |what: String| breaches.push(format!("{SECURITY_CASES}:{at}: {what}"));
        if !is_case_id(id) {
            breach(format!("{id:?} is not an id such as A01"));
            continue;
        }
        if !seen.insert(id.to_owned()) {
            breach(format!("{id} has a row already"));
        }
        // Between backticks is every second piece.
        let names: Vec<&str> = named.split('`').skip(1).step_by(2).collect();
        if cells.len() < 3 || names.is_empty() {
            let start = format!("{}_", id.to_lowercase());
            let known = tests.keys().find(|test| test.starts_with(&start));
            let hint = known.map(|test| format!("; there is `{test}`")).unwrap_or_default();
            breach(format!("{id} names no test{hint}"));
        }
        for name in names {
            match tests.get(name.rsplit("::").next().unwrap_or(name)) {
                None => breach(format!("{id}: there is no test `{name}`")),
                Some(Runs::OnlyWhenAsked) => breach(format!("{id}: `{name}` is #[ignore]d")),
                Some(Runs::Always) => {}
            }
        }
    }
    if seen.is_empty() && !rows_may_be_absent {
        breaches.push(format!("{SECURITY_CASES} has no rows"));
    }
    breaches
}

/// A letter and a number of two digits or more.
fn is_case_id(id: &str) -> bool {
    let mut characters = id.chars();
    characters.next().is_some_and(|letter| letter.is_ascii_uppercase())
        && id.len() >= 3
        && characters.all(|digit| digit.is_ascii_digit())
}

/// Whether `cargo test` runs it.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Runs {
    Always,
    OnlyWhenAsked,
}

/// The test functions of all Rust files, by bare name. Of two with one name, one that always runs counts.
fn test_functions(house: &House) -> BTreeMap<String, Runs> {
    let mut tests = BTreeMap::new();
    for path in house.files.keys().filter(|path| path.ends_with(".rs")) {
        let (mut is_test, mut ignored) = (false, false);
        for (_, line) in house.lines(path) {
            let line = line.trim();
            if line.starts_with("#[") {
                // `#[test]`, `#[tokio::test]`, `#[tokio::test(flavor = …)]`; not `#[cfg(test)]`.
                is_test |= line.contains("test]") || line.contains("test(");
                ignored |= line.contains("[ignore");
            }
            let Some(name) = function_name(line) else {
                continue;
            };
            if is_test {
                let runs = if ignored { Runs::OnlyWhenAsked } else { Runs::Always };
                let known = tests.entry(name.to_owned()).or_insert(runs);
                if runs == Runs::Always {
                    *known = runs;
                }
            }
            (is_test, ignored) = (false, false);
        }
    }
    tests
}

/// The name of the function that begins on this line. An attribute may stand before it, as in `#[test] fn …`.
fn function_name(line: &str) -> Option<&str> {
    let code = if line.starts_with("#[") { line.rsplit_once("] ")?.1 } else { line };
    let mut words = code.split_whitespace();
    loop {
        match words.next()? {
            "fn" => break,
            "async" | "const" | "unsafe" | "extern" => {}
            word if word.starts_with("pub") => {}
            _ => return None,
        }
    }
    let name = words.next()?.split(['(', '<']).next()?;
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{after, sound};
    use super::*;

    /// The one breach after replacing the table's rows by this one.
    fn case(row: &str) -> Vec<String> {
        after(|house| {
            house.write(SECURITY_CASES, &format!("| id | case | tests |\n|---|---|---|\n{row}\n"));
        })
    }

    #[test]
    fn a_case_names_tests_that_exist() {
        assert_eq!(
            case("| A02 | reuse | `a01_rows`, `theft::a02_gone` |"),
            ["security cases: docs/security-cases.md:3: A02: there is no test `theft::a02_gone`"]
        );
        assert_eq!(
            case("| A01 | stolen rows | |"),
            ["security cases: docs/security-cases.md:3: A01 names no test; there is `a01_rows`"]
        );
        assert_eq!(
            case("| A1 | stolen rows | `a01_rows` |"),
            [
                "security cases: docs/security-cases.md:3: \"A1\" is not an id such as A01",
                "security cases: docs/security-cases.md has no rows"
            ]
        );
        assert_eq!(
            case("| A01 | stolen rows | `a01_rows` |\n| A01 | again | `a01_rows` |"),
            ["security cases: docs/security-cases.md:4: A01 has a row already"]
        );
    }

    #[test]
    fn an_ignored_test_proves_nothing() {
        let ignored = "#[test]\n#[ignore = \"slow\"]\nfn a01_rows() {}\n";
        let found = after(|house| house.write("crates/counterfoil-core/tests/theft.rs", ignored));
        assert_eq!(found, ["security cases: docs/security-cases.md:3: A01: `a01_rows` is #[ignore]d"]);
    }

    #[test]
    fn an_empty_table_is_allowed_only_while_it_says_so() {
        assert_eq!(case(""), ["security cases: docs/security-cases.md has no rows"]);
        assert_eq!(case(NO_ROWS_YET), [""; 0]);
    }

    #[test]
    fn test_functions_are_told_from_others() {
        let mut house = sound();
        house.write(
            "crates/a/src/lib.rs",
            "pub(crate) async fn r01_plain() {}\n\
             #[cfg(test)]\nmod tests {\n\
             fn r02_helper() {}\n\
             /// Says why.\n    #[tokio::test(start_paused = true)]\n    async fn r03_async() {}\n\
             #[test] fn r04_one_line() {}\n\
             #[test]\n#[should_panic(expected = \"x\")]\nfn f11_panics() {}\n\
             #[test]\n#[ignore]\nfn f12_slow() {}\n}\n",
        );
        let found = test_functions(&house);
        let runs: Vec<_> = found.iter().map(|(name, runs)| (name.as_str(), *runs)).collect();
        assert_eq!(
            runs,
            [
                ("a01_rows", Runs::Always),
                ("f11_panics", Runs::Always),
                ("f12_slow", Runs::OnlyWhenAsked),
                ("r03_async", Runs::Always),
                ("r04_one_line", Runs::Always),
            ]
        );
    }
}
