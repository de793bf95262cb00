//! What an import did, in numbers: [`Report`]. Never a token, a password or a digest of one.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::failure::{Failure, printable};
use crate::output::{self, Output};

/// Rows named for each reason; the others are counted.
const EXAMPLES: usize = 5;
/// Different reasons kept; a source in which everything is odd in its own way tells no more than that.
const REASONS: usize = 200;

/// What of a source an import brings over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Clients,
    Users,
    Tokens,
    Links,
    Locks,
}

impl Kind {
    const ALL: [Kind; 5] = [Kind::Clients, Kind::Users, Kind::Tokens, Kind::Links, Kind::Locks];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Kind::Clients => "clients",
            Kind::Users => "users",
            Kind::Tokens => "tokens",
            Kind::Links => "confirmation links",
            Kind::Locks => "rotation locks",
        }
    }
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    /// It is new here.
    Came,
    /// It had come before, and has changed there since.
    Updated,
    /// It had come before.
    Known,
    /// It had come before and was ended or changed here since, which stands.
    KeptOurs,
    /// It had come before and is there no longer.
    Gone,
    /// It is of no use any more: expired, for the most part.
    Dead,
    /// It could not come; why is said.
    Skipped,
}

impl Fate {
    const ALL: [Fate; 7] =
        [Fate::Came, Fate::Updated, Fate::Known, Fate::KeptOurs, Fate::Gone, Fate::Dead, Fate::Skipped];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Fate::Came => "came",
            Fate::Updated => "updated",
            Fate::Known => "known",
            Fate::KeptOurs => "kept_ours",
            Fate::Gone => "gone",
            Fate::Dead => "dead",
            Fate::Skipped => "skipped",
        }
    }
}

/// Something to be told about rows, whether or not they came.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Told {
    count: u64,
    examples: Vec<String>,
}

/// What an import did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    fates: BTreeMap<(Kind, Fate), u64>,
    /// Why rows were skipped.
    skipped: BTreeMap<String, Told>,
    /// What is not as it was, of rows that came.
    changed: BTreeMap<String, Told>,
    warnings: Vec<String>,
    /// What was found: the packages and their tables.
    found: Vec<(String, String)>,
}

impl Report {
    pub(crate) fn count(&mut self, kind: Kind, fate: Fate, count: u64) {
        *self.fates.entry((kind, fate)).or_default() += count;
    }

    pub(crate) fn number(&self, kind: Kind, fate: Fate) -> u64 {
        self.fates.get(&(kind, fate)).copied().unwrap_or(0)
    }

    /// A row did not come. `row` says which in words that hold no secret: a number, a user's key.
    pub(crate) fn skip(&mut self, kind: Kind, why: &str, row: &str) {
        self.count(kind, Fate::Skipped, 1);
        tell(&mut self.skipped, why, row);
    }

    /// A row came, and not all of it or not as it was.
    pub(crate) fn change(&mut self, what: &str, row: &str) {
        tell(&mut self.changed, what, row);
    }

    /// Something about the whole, once.
    pub(crate) fn warn(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.warnings.contains(&text) && self.warnings.len() < REASONS {
            self.warnings.push(text);
        }
    }

    pub(crate) fn found(&mut self, what: &str, where_: &str) {
        self.found.push((what.to_owned(), where_.to_owned()));
    }

    /// Takes in what another part of the same import did.
    pub(crate) fn absorb(&mut self, other: Report) {
        for ((kind, fate), count) in other.fates {
            self.count(kind, fate, count);
        }
        for (ours, theirs) in [(&mut self.skipped, other.skipped), (&mut self.changed, other.changed)] {
            for (why, told) in theirs {
                let entry = ours.entry(why).or_default();
                entry.count += told.count;
                let room = EXAMPLES.saturating_sub(entry.examples.len());
                entry.examples.extend(told.examples.into_iter().take(room));
            }
        }
        for warning in other.warnings {
            self.warn(warning);
        }
        self.found.extend(other.found);
    }

    pub(crate) fn to_json(&self) -> Value {
        let told = |told: &BTreeMap<String, Told>| -> Value {
            told.iter()
                .map(|(why, told)| json!({ "why": why, "count": told.count, "examples": told.examples }))
                .collect()
        };
        let mut object = Map::new();
        object.insert(
            "found".to_owned(),
            self.found.iter().map(|(what, place)| json!({ "what": what, "where": place })).collect(),
        );
        for kind in Kind::ALL {
            let fates = Fate::ALL.map(|fate| (fate.as_str().to_owned(), self.number(kind, fate).into()));
            object.insert(kind.as_str().replace(' ', "_"), Value::Object(fates.into_iter().collect()));
        }
        object.insert("skipped".to_owned(), told(&self.skipped));
        object.insert("changed".to_owned(), told(&self.changed));
        object.insert("warnings".to_owned(), self.warnings.clone().into());
        Value::Object(object)
    }

    /// Writes it: rows for people, an object for programs. `more` goes in front of either.
    pub(crate) fn show(&self, output: Output, more: &[(&str, Value)]) -> Result<(), Failure> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let mut rows: Vec<(&str, String)> = more.iter().map(|(key, value)| (*key, text(value))).collect();
        for (what, place) in &self.found {
            rows.push(("found", format!("{what} in {place}")));
        }
        for kind in Kind::ALL {
            let fates = Fate::ALL.into_iter().filter(|fate| self.number(kind, *fate) > 0);
            let words: Vec<String> =
                fates.map(|fate| format!("{} {}", self.number(kind, fate), fate.as_str().replace('_', " "))).collect();
            if !words.is_empty() {
                rows.push((kind.as_str(), words.join(", ")));
            }
        }
        for (head, told) in [("skipped", &self.skipped), ("not as it was", &self.changed)] {
            for (why, told) in told {
                let examples = told.examples.join(", ");
                let more = if told.count > told.examples.len() as u64 { ", …" } else { "" };
                rows.push((head, format!("{}: {why} ({examples}{more})", told.count)));
            }
        }
        for warning in &self.warnings {
            rows.push(("warning", warning.clone()));
        }
        let mut object = match self.to_json() {
            Value::Object(object) => object,
            other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
                Map::from_iter([("report".to_owned(), other)])
            }
        };
        for (key, value) in more {
            object.insert(key.replace(' ', "_"), value.clone());
        }
        output.record(&rows, &Value::Object(object))
    }
}

fn tell(told: &mut BTreeMap<String, Told>, why: &str, row: &str) {
    let why = if told.len() < REASONS || told.contains_key(why) { why } else { "other reasons" };
    let entry = told.entry(why.to_owned()).or_default();
    entry.count += 1;
    if entry.examples.len() < EXAMPLES {
        // What it is called came from the source: somebody's key may be anything.
        entry.examples.push(printable(&row.chars().take(48).collect::<String>()));
    }
}

/// Tells on stderr how far it has come: in place on a terminal, otherwise in a line now and then.
#[derive(Debug)]
pub(crate) struct Progress {
    told: bool,
    in_place: bool,
    what: String,
    of: u64,
    done: u64,
    last: u64,
}

impl Progress {
    pub(crate) fn new(output: Output) -> Progress {
        use std::io::IsTerminal;
        Progress {
            told: output == Output::Human,
            in_place: std::io::stderr().is_terminal(),
            what: String::new(),
            of: 0,
            done: 0,
            last: 0,
        }
    }

    /// Tells nothing, for looks that come again and again.
    pub(crate) fn silent() -> Progress {
        Progress { told: false, in_place: false, what: String::new(), of: 0, done: 0, last: 0 }
    }

    /// Something else is read from here on, of so many rows as far as is known.
    pub(crate) fn begin(&mut self, what: &str, of: u64) {
        self.end();
        (self.what, self.of, self.done, self.last) = (what.to_owned(), of, 0, 0);
    }

    pub(crate) fn come(&mut self, rows: u64) {
        self.done += rows;
        if let Some(text) = self.word() {
            output::mark(&text);
        }
    }

    /// What there is to say: on a terminal always, elsewhere after each tenth; of little nothing.
    fn word(&mut self) -> Option<String> {
        const LONG: u64 = 20_000;
        if !self.told || self.of.max(self.done) < LONG {
            return None;
        }
        let of = self.of.max(self.done);
        let percent = self.done.saturating_mul(100) / of;
        if self.in_place {
            let width = 24;
            let full = usize::try_from(percent * width / 100).unwrap_or(0);
            let bar = format!("{}{}", "#".repeat(full), "-".repeat(usize::try_from(width).unwrap_or(0) - full));
            return Some(format!("\r{} [{bar}] {} of {of} rows\u{1b}[K", printable(&self.what), self.done));
        }
        let is_next = percent / 10 > self.last;
        self.last = percent / 10;
        is_next.then(|| format!("{}: {} of {of} rows\n", printable(&self.what), self.done))
    }

    /// Nothing more is read of it.
    pub(crate) fn end(&mut self) {
        if self.told && self.in_place && self.done > 0 && self.word().is_some() {
            output::mark("\n");
        }
        self.done = 0;
        self.of = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_and_examples_are_bounded_and_printable() {
        let mut report = Report::default();
        for number in 0..1_000 {
            report.skip(Kind::Users, "password is odd", &format!("user {number}\u{1b}[2J{}", "x".repeat(200)));
            report.skip(Kind::Tokens, &format!("reason {number}"), "token 1");
        }
        assert_eq!(report.number(Kind::Users, Fate::Skipped), 1_000);
        assert!(report.skipped.len() <= REASONS + 1);
        let told = &report.skipped["password is odd"];
        assert_eq!((told.count, told.examples.len()), (1_000, EXAMPLES));
        assert!(told.examples.iter().all(|example| example.chars().count() < 80 && !example.contains('\u{1b}')));
        assert!(report.to_json().to_string().len() < 40_000);
    }

    #[test]
    fn progress_is_told_in_a_line_for_each_tenth_and_on_a_terminal_in_place() {
        let told = |in_place| {
            let mut progress =
                Progress { told: true, in_place, what: "tokens".to_owned(), of: 1_000_000, done: 0, last: 0 };
            let rows = 1_000;
            (0..1_000)
                .filter_map(|_| {
                    progress.done += rows;
                    progress.word()
                })
                .collect::<Vec<String>>()
        };
        let lines = told(false);
        assert_eq!(lines.len(), 10);
        assert_eq!(lines[4], "tokens: 500000 of 1000000 rows\n");
        let terminal = told(true);
        assert_eq!(terminal.len(), 1_000);
        assert!(terminal[499].starts_with("\rtokens [############------------] 500000 of 1000000 rows"));
    }
}
