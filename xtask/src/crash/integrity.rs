//! SQLite's own word on a database, by way of Python's sqlite3: [`Inspector`].

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crate::{Failure, process};

/// One process for all, because an interpreter takes longer to start than to check.
const SCRIPT: &str = "
import sqlite3, sys

# Newer than the SQLite of some Pythons, and named in the schema.
def octet_length(value):
    return None if value is None else len(value if isinstance(value, bytes) else str(value).encode())

for line in sys.stdin:
    try:
        connection = sqlite3.connect(line.rstrip('\\n'))
        connection.create_function('octet_length', 1, octet_length, deterministic=True)
        found = [row[0] for row in connection.execute('PRAGMA integrity_check(3)')]
        found += ['dangling: ' + str(row) for row in connection.execute('PRAGMA foreign_key_check')]
        connection.close()
    except Exception as error:
        found = [repr(error)]
    print(' '.join(found).replace('\\n', ' '), flush=True)
";

/// Checks copies, so that what the server finds is what the crash left.
#[derive(Debug)]
pub(crate) struct Inspector {
    python: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    scratch: PathBuf,
}

impl Inspector {
    pub(crate) fn start(scratch: &Path) -> Result<Inspector, Failure> {
        let mut python = process::program("python3")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("python3: {error}"))?;
        let ask = python.stdin.take().ok_or("python3 has no stdin")?;
        let answers = BufReader::new(python.stdout.take().ok_or("python3 has no stdout")?);
        Ok(Inspector { python, ask, answers, scratch: scratch.join("inspected") })
    }

    /// Runs `integrity_check` and `foreign_key_check` on a copy of the database in `data`; what is wrong, if anything is.
    pub(crate) fn inspect(&mut self, data: &Path) -> Result<Option<String>, Failure> {
        if !data.join("counterfoil.db").exists() {
            // Killed before there was one.
            return Ok(None);
        }
        fs::remove_dir_all(&self.scratch).ok();
        fs::create_dir_all(&self.scratch)?;
        for name in ["counterfoil.db", "counterfoil.db-wal"] {
            if data.join(name).exists() {
                fs::copy(data.join(name), self.scratch.join(name))?;
            }
        }
        writeln!(self.ask, "{}", self.scratch.join("counterfoil.db").display())?;
        let mut found = String::new();
        if self.answers.read_line(&mut found)? == 0 {
            return Err("python3 ended".into());
        }
        Ok(Some(found.trim().to_owned()).filter(|found| found != "ok"))
    }
}

impl Drop for Inspector {
    fn drop(&mut self) {
        self.python.kill().ok();
        self.python.wait().ok();
    }
}
