//! The one place that writes to stdout: tables for people, JSON for programs.

use std::io::{self, ErrorKind, IsTerminal, Write};

use serde_json::Value;

use crate::failure::{Failure, printable};

/// How a command answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// Text for people.
    Human,
    /// JSON for programs.
    Json,
}

impl Output {
    /// `text` for people, `value` for programs.
    pub(crate) fn answer(self, text: &str, value: &Value) -> Result<(), Failure> {
        match self {
            Output::Human => line(&printable(text)),
            Output::Json => line(&value.to_string()),
        }
    }

    /// One record: `key  value` lines for people, an object for programs.
    pub(crate) fn record(self, rows: &[(&str, String)], value: &Value) -> Result<(), Failure> {
        match self {
            Output::Human => {
                let width = rows.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
                let lines = rows.iter().map(|(key, value)| format!("{key:width$}  {}\n", printable(value)));
                write(&lines.collect::<String>())
            }
            Output::Json => line(&value.to_string()),
        }
    }

    /// Why there is no answer; goes to stderr. For programs one line as well.
    pub(crate) fn failure(self, failure: &Failure) {
        if failure.is_unheard() {
            return;
        }
        let text = match self {
            Output::Human => failure.to_string(),
            Output::Json => failure.to_json().to_string(),
        };
        // Where stderr is closed, the exit status has to do.
        writeln!(io::stderr().lock(), "{text}").ok();
    }

    /// Several records: a table for people, an array for programs. Written as they come, because there may be millions.
    pub(crate) fn list(self, heads: &'static [&'static str]) -> List {
        List { output: self, heads, begun: false }
    }
}

/// A list that is being written.
#[derive(Debug)]
pub(crate) struct List {
    output: Output,
    heads: &'static [&'static str],
    begun: bool,
}

impl List {
    /// Writes some more records, each as a row for people and a value for programs. Columns are aligned within one call.
    pub(crate) fn page(&mut self, records: Vec<(Vec<String>, Value)>) -> Result<(), Failure> {
        match self.output {
            Output::Human => {
                let heads = if self.begun { &[] } else { self.heads };
                let rows = records.into_iter().map(|(row, _)| row.iter().map(|cell| printable(cell)).collect());
                write(&aligned(heads, rows.collect()))?;
                self.begun = true;
            }
            Output::Json => {
                for (_, value) in records {
                    write(&format!("{}{value}", if self.begun { ",\n" } else { "[" }))?;
                    self.begun = true;
                }
            }
        }
        Ok(())
    }

    /// Writes what a list ends with.
    pub(crate) fn end(self) -> Result<(), Failure> {
        match (self.output, self.begun) {
            (Output::Human, true) => Ok(()),
            (Output::Human, false) => write(&aligned(self.heads, Vec::new())),
            (Output::Json, true) => line("]"),
            (Output::Json, false) => line("[]"),
        }
    }
}

/// Tells on stderr how far something has come that takes long: in place on a terminal, otherwise in a line for each tenth.
#[derive(Debug)]
pub(crate) struct Meter {
    doing: &'static str,
    /// Whether to write at all: not for programs.
    told: bool,
    in_place: bool,
    tenth: u64,
}

impl Meter {
    /// Below so many bytes it is done before anybody wonders.
    const LONG: u64 = 64 * 1024 * 1024;

    pub(crate) fn new(doing: &'static str, output: Output) -> Meter {
        Meter { doing, told: output == Output::Human, in_place: io::stderr().is_terminal(), tenth: 0 }
    }

    /// So many bytes are done, of so many.
    pub(crate) fn come(&mut self, done: u64, of: u64) {
        if let Some(text) = self.word(done, of) {
            // Where stderr is closed, nobody wants to know.
            write!(io::stderr().lock(), "{text}").ok();
        }
    }

    fn word(&mut self, done: u64, of: u64) -> Option<String> {
        if !self.told || of < Meter::LONG {
            return None;
        }
        let tenth = done.saturating_mul(10) / of;
        let text = format!("{}: {} of {}", self.doing, size(done), size(of));
        if self.in_place {
            let end = if done >= of { "\n" } else { "" };
            return Some(format!("\r{text}\u{1b}[K{end}"));
        }
        let is_next = tenth > self.tenth;
        self.tenth = tenth;
        is_next.then(|| text + "\n")
    }
}

/// Bytes in the unit that suits people.
pub(crate) fn size(bytes: u64) -> String {
    let mut unit = "bytes";
    let mut count = bytes as f64;
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if count < 1024.0 {
            break;
        }
        count /= 1024.0;
        unit = larger;
    }
    if unit == "bytes" { format!("{bytes} bytes") } else { format!("{count:.1} {unit}") }
}

fn aligned(heads: &[&str], mut rows: Vec<Vec<String>>) -> String {
    if !heads.is_empty() {
        rows.insert(0, heads.iter().map(|head| head.to_uppercase()).collect());
    }
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Writes one line as it is and flushes.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    write(&format!("{text}\n"))
}

/// Writes text as it is and flushes, so that who waits for it need not wait longer.
pub(crate) fn write(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::unheard()),
        Err(error) => Err(Failure::caused_by("cannot write to stdout", &error)),
    }
}

/// How far something has come, as it is: goes to stderr, where it may be written over.
pub(crate) fn mark(text: &str) {
    // Where stderr is closed, nobody wants to know.
    write!(io::stderr().lock(), "{text}").ok();
}

/// Something for the person at the keyboard that is not the answer: goes to stderr, so that the answer can be piped.
pub(crate) fn remark(text: &str) {
    // Where stderr is closed, nobody wants to know.
    writeln!(io::stderr().lock(), "{}", printable(text)).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1024 * 1024 * 1024;

    #[test]
    fn what_takes_long_is_told_in_a_line_for_each_tenth_and_on_a_terminal_in_place() {
        let told = |in_place, of: u64| {
            let mut meter = Meter { doing: "copied", told: true, in_place, tenth: 0 };
            (1..=100).filter_map(|part| meter.word(of / 100 * part, of / 100 * 100)).collect::<Vec<String>>()
        };
        let lines = told(false, GIB);
        assert_eq!(lines.len(), 10, "{lines:?}");
        assert_eq!(lines[4], "copied: 512.0 MiB of 1024.0 MiB\n");
        let terminal = told(true, GIB);
        assert_eq!(terminal.len(), 100);
        assert!(terminal.iter().all(|text| text.starts_with("\rcopied: ")));
        assert_eq!(terminal.iter().filter(|text| text.ends_with('\n')).count(), 1);
        assert!(told(false, 1024 * 1024).is_empty(), "too short to tell");
        assert_eq!(Meter { told: false, ..Meter::new("copied", Output::Json) }.word(GIB, GIB), None);
    }

    #[test]
    fn sizes_are_in_the_unit_that_suits_people() {
        for (bytes, text) in [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (5 * GIB, "5.0 GiB")] {
            assert_eq!(size(bytes), text);
        }
    }
}
