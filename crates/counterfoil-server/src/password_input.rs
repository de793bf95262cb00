//! Where a password comes from: stdin, a file or a prompt; never the argument list, which every process can read.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use counterfoil::{MAX_PASSWORD_BYTES, Password};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::output;

/// The flags that say where.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct PasswordInput {
    /// Read the password from stdin; one line break at its end is dropped, nothing else
    #[arg(long)]
    password_stdin: bool,
    /// Read the password from a file; one line break at its end is dropped, nothing else
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// A password that somebody is to have.
#[derive(Debug)]
pub(crate) struct NewPassword {
    pub(crate) password: Password,
    pub(crate) encoding: Encoding,
}

/// Whether a password is text to every client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Utf8,
    /// Mostly a file from an editor set to something older.
    Other,
}

impl Encoding {
    /// Tells who has set a password what they may not have meant. After it was set, so that a failure is alone on stderr.
    pub(crate) fn remark(self) {
        match self {
            Encoding::Utf8 => {}
            Encoding::Other => output::remark(
                "warning: the password is not valid UTF-8, so it cannot be sent in JSON; set another one if that was not meant",
            ),
        }
    }
}

impl PasswordInput {
    pub(crate) fn read(&self, whose: &str) -> Result<NewPassword, Failure> {
        let bytes = if self.password_stdin {
            read(io::stdin().lock())
                .map_err(|error| Failure::caused_by("cannot read the password from stdin", &error))?
        } else if let Some(path) = &self.password_file {
            read_file(path).map_err(|error| Failure::caused_by(format!("cannot read {}", path.display()), &error))?
        } else {
            ask(whose)?
        };
        if bytes.is_empty() {
            return Err(Failure::refused("the password is empty"));
        }
        let encoding = if str::from_utf8(&bytes).is_ok() { Encoding::Utf8 } else { Encoding::Other };
        // Copied so that what the reader grew is wiped as well.
        let password = Password::new(bytes.as_slice()).map_err(Failure::refused)?;
        // The authority refuses it too; here it is refused before anything is opened, and with a hint.
        if password.chars() < Password::LEAST_CHARS {
            let least = Password::LEAST_CHARS;
            return Err(Failure::refused(format!(
                "the password has fewer than {least} characters: one so short is soon guessed"
            ))
            .hint("take 15 or more; a few words will do"));
        }
        Ok(NewPassword { password, encoding })
    }
}

fn read_file(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    read(File::open(path)?)
}

/// The bytes without one line break at the end.
fn read(source: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // One byte more than the longest password and its line break is enough to refuse it by, however much there is.
    let most = MAX_PASSWORD_BYTES + 3;
    // With room from the start: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(most));
    source.take(most as u64).read_to_end(&mut bytes)?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Ok(bytes)
}

fn ask(whose: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage("there is no terminal to ask for a password on")
            .hint("use --password-stdin < FILE or --password-file FILE"));
    }
    let prompt = |text: String| {
        rpassword::prompt_password(text)
            .map(Zeroizing::new)
            .map_err(|error| Failure::caused_by("cannot ask for a password", &error))
    };
    let first = prompt(format!("Password for {}: ", crate::failure::printable(whose)))?;
    let second = prompt("The same again: ".to_owned())?;
    if *first != *second {
        return Err(Failure::refused("the two are not the same"));
    }
    Ok(Zeroizing::new(first.as_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_break_is_dropped_and_nothing_else() {
        for (typed, kept) in [
            ("secret\n", "secret"),
            ("secret\r\n", "secret"),
            ("secret\n\n", "secret\n"),
            ("secret\r", "secret\r"),
            (" secret \t\n", " secret \t"),
            ("\u{feff}pä\0ss\n", "\u{feff}pä\0ss"),
            ("\n", ""),
            ("", ""),
        ] {
            assert_eq!(*read(typed.as_bytes()).expect("read"), kept.as_bytes(), "{typed:?}");
        }
        let longest = format!("{}\r\n", "x".repeat(MAX_PASSWORD_BYTES));
        assert_eq!(read(longest.as_bytes()).expect("read").len(), MAX_PASSWORD_BYTES);
        let longer = format!("x{longest}");
        assert_eq!(read(longer.as_bytes()).expect("read").len(), MAX_PASSWORD_BYTES + 1);
    }
}
