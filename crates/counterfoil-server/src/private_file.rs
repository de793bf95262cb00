//! Files that hold what others must not read: made for their owner alone, and never half written.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Makes a file, readable for its owner alone from the first moment; fails where there is one.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// A new content for a file that is there, written beside it. While it exists nobody else makes one, so that of two who
/// read the same file, change it and write it back, neither loses what the other wrote.
#[derive(Debug)]
pub(crate) struct Draft {
    path: PathBuf,
    of: PathBuf,
    file: File,
    kept: bool,
}

impl Draft {
    /// Takes the turn. Read the file after that.
    pub(crate) fn of(path: &Path) -> io::Result<Draft> {
        // In the directory of the file itself, where it is a link.
        let of = fs::canonicalize(path)?;
        let mut name = OsString::from(of.as_os_str());
        name.push(".draft");
        let path = PathBuf::from(name);
        let file = create(&path)?;
        Ok(Draft { path, of, file, kept: false })
    }

    pub(crate) fn path_beside(path: &Path) -> String {
        format!("{}.draft", path.display())
    }

    /// Puts `content` in the place of the file's: all of it or nothing, also across a power cut.
    pub(crate) fn replace(mut self, content: &[u8]) -> io::Result<()> {
        self.file.write_all(content)?;
        self.file.sync_all()?;
        fs::rename(&self.path, &self.of)?;
        self.kept = true;
        let directory = self.of.parent().filter(|above| !above.as_os_str().is_empty());
        if cfg!(unix) { File::open(directory.unwrap_or(Path::new(".")))?.sync_all() } else { Ok(()) }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept {
            fs::remove_file(&self.path).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_changes_a_file_at_a_time_and_a_draft_that_is_given_up_leaves_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("ring");
        create(&path).and_then(|mut file| file.write_all(b"old")).expect("made");
        assert_eq!(create(&path).map_err(|error| error.kind()).err(), Some(io::ErrorKind::AlreadyExists));
        let first = Draft::of(&path).expect("a turn");
        assert_eq!(Draft::of(&path).map_err(|error| error.kind()).err(), Some(io::ErrorKind::AlreadyExists));
        drop(first);
        assert_eq!(fs::read(&path).expect("read"), b"old");
        Draft::of(&path).and_then(|draft| draft.replace(b"new")).expect("replaced");
        assert_eq!(fs::read(&path).expect("read"), b"new");
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 1);
    }
}
