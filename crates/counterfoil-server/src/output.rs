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

    /// Several records: a table for people, an array for programs.
    pub(crate) fn table(self, heads: &[&str], rows: &[Vec<String>], values: Vec<Value>) -> Result<(), Failure> {
        match self {
            Output::Human => write(&aligned(heads, rows)),
            Output::Json => line(&Value::Array(values).to_string()),
        }
    }
}

fn aligned(heads: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = std::iter::once(heads.iter().map(|head| head.to_uppercase()).collect())
        .chain(rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()))
        .collect();
    let width = |column: usize| rows.iter().map(|row: &Vec<String>| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
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
        // `… | head -1` has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::caused_by("cannot write to stdout", &error)),
    }
}

/// Something for the person at the keyboard that is not the answer: goes to stderr, so that the answer can be piped.
pub(crate) fn remark(text: &str) {
    // Where stderr is closed, nobody wants to know.
    writeln!(io::stderr().lock(), "{}", printable(text)).ok();
}

/// The failure of a command, on stderr.
pub(crate) fn failure(failure: &Failure) {
    writeln!(io::stderr().lock(), "{failure}").ok();
}
