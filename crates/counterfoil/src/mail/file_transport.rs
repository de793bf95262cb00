//! Mails as files: [`FileTransport`].

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use counterfoil_core::mail::{NotSent, Sending};

use super::{Message, Transport};

/// How many files are kept.
const MOST: usize = 1_000;

/// Writes every mail into a file of its own, in a directory: so that everything works where there is no mail server.
///
/// The names sort by time and end in `.eml`, which programs that show mail open. Only their owner may read them (mode 0600 in
/// a directory of 0700), because the links in them work. Whole or not at all; beyond 1,000 the oldest are removed.
#[derive(Debug, Clone)]
pub struct FileTransport {
    directory: PathBuf,
    most: usize,
}

impl FileTransport {
    /// Into `directory`, which is made with the first mail where it is absent.
    pub fn new(directory: impl Into<PathBuf>) -> FileTransport {
        FileTransport { directory: directory.into(), most: MOST }
    }

    /// Makes the directory now where it is absent, so that a wrong one is known before there is a mail.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn prepare(&self) -> io::Result<()> {
        prepare(&self.directory)
    }
}

fn prepare(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(directory)
}

impl Transport for FileTransport {
    fn carry<'a>(&'a self, message: &'a Message) -> Sending<'a> {
        let (directory, most) = (self.directory.clone(), self.most);
        // 2026-11-21T19:30:00.000Z without what some file systems refuse.
        let time = message.date.to_string().replace([':', '-'], "");
        let name = format!("{time}-{}.eml", message.id);
        let content = message.to_bytes();
        Box::pin(async move {
            let kept = tokio::task::spawn_blocking(move || keep(&directory, &name, &content, most)).await;
            kept.unwrap_or_else(|gone| Err(io::Error::other(gone))).map_err(|error| NotSent::Later(error.into()))
        })
    }
}

fn keep(directory: &Path, name: &str, content: &[u8], most: usize) -> io::Result<()> {
    prepare(directory)?;
    // Left out by the listing below, and by programs that look for mails.
    let draft = directory.join(format!(".{name}"));
    let written = write(&draft, content).and_then(|()| fs::rename(&draft, directory.join(name)));
    if written.is_err() {
        fs::remove_file(&draft).ok();
    }
    written?;
    let mut names: Vec<OsString> =
        fs::read_dir(directory)?.filter_map(|entry| Some(entry.ok()?.file_name())).filter(is_ours).collect();
    names.sort_unstable();
    for old in names.iter().rev().skip(most) {
        match fs::remove_file(directory.join(old)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    // What is there is half a mail of a process that was killed.
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Other files in the directory are left alone.
fn is_ours(name: &OsString) -> bool {
    let Some(name) = name.to_str() else { return false };
    let Some((time, id)) = name.strip_suffix(".eml").and_then(|stem| stem.split_once('-')) else { return false };
    time.len() == "20261121T193000.000Z".len() && time.starts_with(|c: char| c.is_ascii_digit()) && id.len() == 36
}

#[cfg(test)]
mod tests {
    use counterfoil_core::Timestamp;
    use counterfoil_core::mail::MailId;
    use zeroize::Zeroizing;

    use super::*;

    fn message(second: u16) -> Message {
        let [high, low] = second.to_be_bytes();
        let mut id = [7; 16];
        (id[0], id[1]) = (high, low);
        Message {
            id: MailId::from_bytes(id),
            from: "no-reply@example.org".parse().expect("a mailbox"),
            reply_to: None,
            to: "ada@example.org".parse().expect("an address"),
            date: Timestamp::from_millis(1_795_260_600_000 + 1_000 * i64::from(second)),
            language: "en".to_owned(),
            subject: "Hello".to_owned(),
            text: Zeroizing::new(format!("number {second}\n")),
            html: None,
        }
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("a directory");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn each_mail_is_a_file_that_its_owner_alone_reads() {
        let scratch = tempfile::tempdir().expect("a directory");
        let directory = scratch.path().join("data/mail");
        let transport = FileTransport::new(&directory);
        transport.carry(&message(1)).await.expect("kept");
        transport.carry(&message(0)).await.expect("kept");
        transport.carry(&message(1)).await.expect("the same again");
        let names = names(&directory);
        assert_eq!(
            names,
            [
                "20261121T113000.000Z-00000707-0707-0707-0707-070707070707.eml",
                "20261121T113001.000Z-00010707-0707-0707-0707-070707070707.eml"
            ]
        );
        let first = fs::read(directory.join(&names[0])).expect("a mail");
        assert_eq!(first, *message(0).to_bytes());
        #[cfg(unix)]
        for (path, mode) in [(directory.clone(), 0o700), (directory.join(&names[0]), 0o600)] {
            use std::os::unix::fs::PermissionsExt;

            assert_eq!(fs::metadata(path).expect("metadata").permissions().mode() & 0o777, mode);
        }
    }

    #[tokio::test]
    async fn only_the_newest_are_kept_and_other_files_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let foreign = directory.path().join("0-notes.eml");
        fs::write(&foreign, "mine").expect("written");
        let transport = FileTransport::new(directory.path());
        assert_eq!(transport.most, 1_000);
        let transport = FileTransport { most: 3, ..transport };
        for second in [4, 0, 1, 2, 3] {
            transport.carry(&message(second)).await.expect("kept");
        }
        let names = names(directory.path());
        let times: Vec<&str> = names.iter().filter_map(|name| name.split(['-', '.']).next()).collect();
        assert_eq!(times, ["0", "20261121T113002", "20261121T113003", "20261121T113004"]);
    }

    #[tokio::test]
    async fn a_place_where_nothing_can_be_written_is_a_reason_to_try_again() {
        let scratch = tempfile::tempdir().expect("a directory");
        let directory = scratch.path().join("mail");
        let transport = FileTransport::new(&directory);
        fs::write(&directory, "in the way").expect("written");
        transport.prepare().expect_err("a file is in the way");
        let failed = transport.carry(&message(1)).await.expect_err("nowhere to write");
        assert!(matches!(failed, NotSent::Later(_)));
        fs::remove_file(&directory).expect("removed");
        transport.carry(&message(1)).await.expect("kept");
    }
}
