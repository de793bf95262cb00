//! One figure beside its goal.

use std::fmt;

use serde_json::json;

/// A figure, what it is held against, and whether it got there.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) id: &'static str,
    pub(crate) what: &'static str,
    pub(crate) figure: f64,
    pub(crate) goal: Goal,
    pub(crate) detail: String,
}

/// What a figure should be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// Nothing: it is told, not judged.
    Told,
}

impl Row {
    fn met(&self) -> bool {
        match self.goal {
            Goal::AtMost(most) => self.figure <= most,
            Goal::AtLeast(least) => self.figure >= least,
            Goal::Told => true,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Goal::AtMost(most) => write!(f, "<= {most}"),
            Goal::AtLeast(least) => write!(f, ">= {least}"),
            Goal::Told => f.write_str("-"),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.goal {
            Goal::Told => "",
            Goal::AtMost(_) | Goal::AtLeast(_) if self.met() => "met",
            Goal::AtMost(_) | Goal::AtLeast(_) => "MISSED",
        };
        write!(
            f,
            "  {:<58} {:>9.2}  {:<9} {verdict:<6}  {}",
            self.what,
            self.figure,
            self.goal.to_string(),
            self.detail
        )
    }
}

pub(crate) fn to_json(rows: &[Row]) -> String {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "id": row.id,
                "what": row.what,
                "figure": row.figure,
                "goal": row.goal.to_string(),
                "met": row.met(),
                "detail": row.detail,
            })
        })
        .collect();
    format!("{:#}\n", serde_json::Value::Array(rows))
}

/// The value below which `share` of `samples` lie. Sorts them.
pub(crate) fn percentile(samples: &mut [u64], share: f64) -> f64 {
    samples.sort_unstable();
    samples[((samples.len() - 1) as f64 * share).round() as usize] as f64
}
