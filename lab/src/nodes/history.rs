//! What was asked and answered, and when: one line for each, on one clock.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// A token, by the number that the checker gave it.
pub(crate) type TokenNumber = usize;

/// The administrator's first one, by which orders are given; nobody asks about it but with an order.
pub(crate) const ADMIN: TokenNumber = 0;

/// What a mark begins with that tells of an order which took long.
pub(crate) const SLOW_ORDER: &str = "slow: ";

/// What a node said of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is accepted.
    Yes,
    /// It is refused.
    No,
    /// 503: the node does not know, and says so.
    Doubt,
    /// Nothing was answered.
    Silence,
    /// Something else, which is nobody's verdict: a 500.
    Broken,
}

/// Who acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Node(usize),
    CommandLine,
}

/// One thing that happened. Times are nanoseconds of [`super::now`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A token was acknowledged as made.
    Issued { begin: u64, end: u64, token: TokenNumber },
    /// A node was asked about a token.
    Check { begin: u64, end: u64, node: usize, token: TokenNumber, verdict: Verdict },
    /// Tokens were to end. Without an acknowledgement they may have or not.
    Revocation { begin: u64, acknowledged: Option<u64>, by: By, everywhere: bool, tokens: Vec<TokenNumber> },
    /// The conductor did something.
    Mark { at: u64, what: String },
}

impl Entry {
    fn line(&self) -> String {
        match self {
            Entry::Issued { begin, end, token } => format!("I {begin} {end} {token}"),
            Entry::Check { begin, end, node, token, verdict } => {
                let verdict = match verdict {
                    Verdict::Yes => 'y',
                    Verdict::No => 'n',
                    Verdict::Doubt => 'd',
                    Verdict::Silence => 's',
                    Verdict::Broken => 'b',
                };
                format!("C {begin} {end} {node} {token} {verdict}")
            }
            Entry::Revocation { begin, acknowledged, by, everywhere, tokens } => {
                let end = acknowledged.map_or("-".into(), |end| end.to_string());
                let by = match by {
                    By::Node(node) => node.to_string(),
                    By::CommandLine => "c".into(),
                };
                let tokens: Vec<String> = tokens.iter().map(TokenNumber::to_string).collect();
                format!("R {begin} {end} {by} {} {}", u8::from(*everywhere), tokens.join(" "))
            }
            Entry::Mark { at, what } => format!("M {at} {what}"),
        }
    }

    fn parse(line: &str) -> Option<Entry> {
        let (kind, rest) = line.split_once(' ')?;
        if kind == "M" {
            let (at, what) = rest.split_once(' ')?;
            return Some(Entry::Mark { at: at.parse().ok()?, what: what.to_owned() });
        }
        let mut words = rest.split(' ');
        let begin = words.next()?.parse().ok()?;
        let end = words.next()?;
        match kind {
            "I" => Some(Entry::Issued { begin, end: end.parse().ok()?, token: words.next()?.parse().ok()? }),
            "C" => {
                let (node, token) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
                let verdict = match words.next()? {
                    "y" => Verdict::Yes,
                    "n" => Verdict::No,
                    "d" => Verdict::Doubt,
                    "s" => Verdict::Silence,
                    "b" => Verdict::Broken,
                    _ => return None,
                };
                Some(Entry::Check { begin, end: end.parse().ok()?, node, token, verdict })
            }
            "R" => {
                let acknowledged = if end == "-" { None } else { Some(end.parse().ok()?) };
                let by = match words.next()? {
                    "c" => By::CommandLine,
                    node => By::Node(node.parse().ok()?),
                };
                let everywhere = words.next()? == "1";
                let tokens = words.filter(|word| !word.is_empty()).map(|word| word.parse().ok());
                Some(Entry::Revocation { begin, acknowledged, by, everywhere, tokens: tokens.collect::<Option<_>>()? })
            }
            _ => None,
        }
    }
}

/// Where entries are written, by many threads.
#[derive(Debug)]
pub(crate) struct Recorder(Mutex<BufWriter<File>>);

impl Recorder {
    pub(crate) fn create(file: &Path) -> io::Result<Recorder> {
        Ok(Recorder(Mutex::new(BufWriter::with_capacity(1 << 20, File::create(file)?))))
    }

    /// A history that cannot be written is none: the process ends rather than leave a part of it out.
    pub(crate) fn note(&self, entry: &Entry) {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(file, "{}", entry.line()).expect("the history can be written");
    }

    pub(crate) fn flush(&self) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}

/// Writes more at the end of a file.
pub(crate) fn append(file: &Path, entries: &[Entry]) -> io::Result<()> {
    let mut file = File::options().append(true).open(file)?;
    entries.iter().try_for_each(|entry| writeln!(file, "{}", entry.line()))
}

/// All that is in a file.
pub(crate) fn read(file: &Path) -> io::Result<Vec<Entry>> {
    BufReader::with_capacity(1 << 20, File::open(file)?)
        .lines()
        .map(|line| {
            let line = line?;
            Entry::parse(&line)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{line:?} is no entry")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        let entries = [
            Entry::Issued { begin: 1, end: 2, token: 3 },
            Entry::Check { begin: 1, end: 2, node: 0, token: 3, verdict: Verdict::Doubt },
            Entry::Revocation {
                begin: 1,
                acknowledged: Some(2),
                by: By::Node(1),
                everywhere: true,
                tokens: vec![3, 4],
            },
            Entry::Revocation { begin: 1, acknowledged: None, by: By::CommandLine, everywhere: false, tokens: vec![] },
            Entry::Mark { at: 1, what: "the link is cut".into() },
        ];
        for entry in entries {
            assert_eq!(Entry::parse(&entry.line()), Some(entry));
        }
        for wrong in ["", "C 1 2 0 3 q", "I 1 2", "X 1 2", "R 1 2"] {
            assert_eq!(Entry::parse(wrong), None, "{wrong}");
        }
    }
}
