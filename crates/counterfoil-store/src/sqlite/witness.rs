//! What is known about the database without asking it: [`Witness`].
//!
//! A write-ahead log that was deleted, or an old copy put back, leaves a database in which every page is sound and
//! revoked tokens live again. Only something outside can tell. After each durable commit, and before it is acknowledged,
//! its count and its random tag are written here; so the file never runs ahead of what is durable. A database that has
//! counted fewer commits than this file is an old one, and one that has counted as many but drawn another tag was an old
//! one and has been written to since. One that has counted more is no sign of anything: that is what a process leaves that
//! was killed before it came to write here.
//!
//! It also tells whether the last server stopped in order, and what the database file looked like then.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::UNIX_EPOCH;

use super::place::{Place, private_file};

/// The file, open.
#[derive(Debug)]
pub(super) struct Witness {
    file: File,
    /// Whether this process has made its mark survive a power cut.
    synced: bool,
}

/// How far a database has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// In which life of the store.
    pub(super) incarnation: [u8; 16],
    /// Commits counted.
    pub(super) commits: u64,
    /// What the last of them drew.
    pub(super) tag: i64,
}

impl Mark {
    /// Whether a database that stands here lacks what one that stood at `acknowledged` had. Counts of another life of the
    /// store cannot be compared; whether that life may follow the one before is for whoever opens it to say.
    pub(super) fn lacks(&self, acknowledged: &Mark) -> bool {
        self.incarnation == acknowledged.incarnation
            && (self.commits < acknowledged.commits
                || self.commits == acknowledged.commits && self.tag != acknowledged.tag)
    }
}

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// How far the database had come when it was written.
    pub(super) mark: Mark,
    /// How the last server left.
    pub(super) left: Left,
}

/// How the last server left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// It has not, or not in order.
    Open,
    /// In order, with the database file looking so.
    Shut(Look),
}

/// What a file looks like from outside; another look means that somebody has written to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    bytes: u64,
    modified_nanos: u128,
}

impl Look {
    /// Without opening it: closing a file drops the locks that SQLite holds on it in this process.
    pub(super) fn of(path: &Path) -> io::Result<Look> {
        let metadata = fs::metadata(path)?;
        let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Look { bytes: metadata.len(), modified_nanos: modified.as_nanos() })
    }
}

impl Witness {
    pub(super) fn open(place: &Place) -> io::Result<Witness> {
        Ok(Witness { file: private_file(&place.witness)?, synced: false })
    }

    /// What the file says; `None` where it is new, or a power cut left it unreadable.
    pub(super) fn read(&mut self) -> io::Result<Option<Seen>> {
        let mut text = String::new();
        self.file.seek(SeekFrom::Start(0))?;
        match (&self.file).take(1024).read_to_string(&mut text) {
            Ok(_) => Ok(Seen::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes in place, in one call and less than a sector, so that a killed process leaves the old or the new.
    pub(super) fn write(&mut self, seen: &Seen) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(seen.to_text().as_bytes())
    }

    /// Notes how far the database has come, unless another process has noted more.
    pub(super) fn raise(&mut self, mark: Mark) -> io::Result<()> {
        let seen = match self.read()? {
            Some(Seen { mark: known, .. })
                if known.incarnation == mark.incarnation && known.commits >= mark.commits =>
            {
                return Ok(());
            }
            Some(seen) => Seen { mark, ..seen },
            None => Seen { mark, left: Left::Open },
        };
        self.write(&seen)?;
        if !self.synced {
            // Once is enough: later counts may be lost with the power, the mark that a server runs may not.
            self.file.sync_data()?;
            self.synced = true;
        }
        Ok(())
    }

    /// As [`Witness::write`], and on disk when it returns.
    pub(super) fn write_through(&mut self, seen: &Seen) -> io::Result<()> {
        self.write(seen)?;
        self.file.sync_data()
    }
}

impl Seen {
    /// Of one length, so that each write covers the one before.
    fn to_text(self) -> String {
        let mut text = String::from("counterfoil witness 1 ");
        for byte in self.mark.incarnation {
            // Writing to a String cannot fail.
            write!(text, "{byte:02x}").ok();
        }
        let (word, look) = match self.left {
            Left::Open => ("open", Look { bytes: 0, modified_nanos: 0 }),
            Left::Shut(look) => ("shut", look),
        };
        let Mark { commits, tag, .. } = self.mark;
        let tag = tag.cast_unsigned();
        writeln!(text, " {commits:020} {tag:016x} {word} {:020} {:024}", look.bytes, look.modified_nanos).ok();
        text
    }

    pub(super) fn parse(text: &str) -> Option<Seen> {
        let line = text.lines().next()?;
        let mut words = line.strip_prefix("counterfoil witness 1 ")?.split(' ');
        let hex = words.next().filter(|hex| hex.len() == 32 && hex.is_ascii())?;
        let mut incarnation = [0; 16];
        for (byte, pair) in incarnation.iter_mut().zip(0..) {
            *byte = u8::from_str_radix(&hex[2 * pair..2 * pair + 2], 16).ok()?;
        }
        let commits = words.next()?.parse().ok()?;
        let tag = u64::from_str_radix(words.next()?, 16).ok()?.cast_signed();
        let word = words.next()?;
        let look = Look { bytes: words.next()?.parse().ok()?, modified_nanos: words.next()?.parse().ok()? };
        let left = match word {
            "open" => Left::Open,
            "shut" => Left::Shut(look),
            _ => return None,
        };
        words.next().is_none().then_some(Seen { mark: Mark { incarnation, commits, tag }, left })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHUT: Seen = Seen {
        mark: Mark { incarnation: [0xab; 16], commits: 1_234, tag: -5 },
        left: Left::Shut(Look { bytes: u64::MAX, modified_nanos: 1_795_172_400_123_456_789 }),
    };

    #[test]
    fn it_reads_back_what_it_writes_and_nothing_else() {
        for seen in [SHUT, Seen { left: Left::Open, ..SHUT }] {
            assert_eq!(Seen::parse(&seen.to_text()), Some(seen));
        }
        let text = SHUT.to_text();
        let torn = &text[..text.len() - 30];
        let zeroed = "\0".repeat(text.len());
        for bad in ["", "counterfoil witness 2 ", torn, &zeroed, "counterfoil witness 1 zz"] {
            assert_eq!(Seen::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_count_is_raised_and_never_lowered() {
        let directory = tempfile::tempdir().expect("directory");
        let mut witness = Witness::open(&Place::in_directory(directory.path())).expect("open");
        assert_eq!(witness.read().expect("read"), None);
        witness.write(&SHUT).expect("write");
        witness.raise(Mark { commits: 1_000, tag: 7, ..SHUT.mark }).expect("raise");
        assert_eq!(witness.read().expect("read"), Some(SHUT));
        let further = Mark { commits: 2_000, tag: i64::MAX, ..SHUT.mark };
        witness.raise(further).expect("raise");
        assert_eq!(witness.read().expect("read"), Some(Seen { mark: further, ..SHUT }));
    }

    #[test]
    fn a_database_may_be_ahead_of_the_witness_and_never_behind_or_beside_it() {
        let witnessed = SHUT.mark;
        assert!(!witnessed.lacks(&witnessed));
        assert!(!Mark { commits: 1_235, tag: 9, ..witnessed }.lacks(&witnessed), "killed before it was written down");
        assert!(Mark { commits: 1_233, ..witnessed }.lacks(&witnessed));
        assert!(Mark { tag: 9, ..witnessed }.lacks(&witnessed));
        assert!(!Mark { incarnation: [1; 16], commits: 0, tag: 0 }.lacks(&witnessed), "another life");
    }
}
