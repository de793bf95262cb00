//! The one place that writes to stdout: tables for people, JSON for programs.

use std::io::{self, ErrorKind, Write};

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

/// Something for the person at the keyboard that is not the answer: goes to stderr, so that the answer can be piped.
pub(crate) fn remark(text: &str) {
    // Where stderr is closed, nobody wants to know.
    writeln!(io::stderr().lock(), "{}", printable(text)).ok();
}
