//! Where a server puts its mails, as files: those of Django's file backend, and ours.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::exchange::Answer;
use crate::json::Json;

/// How often, and how long after each other, a mail is looked for.
const LOOKS: usize = 40;
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// A directory of mails; `None`: this server sends none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mailbox {
    directory: Option<PathBuf>,
}

/// A mail as it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mail {
    subject: String,
    from: String,
    to: String,
    text: String,
}

impl Mailbox {
    pub(crate) fn at(directory: impl Into<PathBuf>) -> Mailbox {
        Mailbox { directory: Some(directory.into()) }
    }

    /// The newest mail to an address as an answer in JSON; an answer of status 0 where none comes within two seconds.
    pub(crate) async fn newest(&self, address: &str) -> Answer {
        if let Some(directory) = &self.directory {
            for _ in 0..LOOKS {
                if let Some(mail) = newest_in(directory, address) {
                    return mail.answer();
                }
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
        }
        Answer { status: 0, headers: Vec::new(), body: b"(no mail)".to_vec() }
    }
}

fn newest_in(directory: &Path, address: &str) -> Option<Mail> {
    let mut files: Vec<(SystemTime, PathBuf)> = fs::read_dir(directory)
        .ok()?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            // Drafts, of which there may be only half.
            let draft = entry.file_name().to_string_lossy().starts_with('.');
            (!draft).then_some((entry.metadata().ok()?.modified().ok()?, entry.path()))
        })
        .collect();
    files.sort();
    let mut mails = files.iter().filter_map(|(_, path)| fs::read(path).ok()).flat_map(|bytes| mails(&bytes));
    mails.rfind(|mail| mail.to.contains(address))
}

/// Django writes the mails of one connection into one file, with a line between them.
fn mails(bytes: &[u8]) -> Vec<Mail> {
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
    let line = format!("\n{}\n", "-".repeat(79));
    text.split(&line)
        .filter(|mail| !mail.trim().is_empty())
        .map(|mail| Mail::read(mail.trim_start_matches('\n')))
        .collect()
}

impl Mail {
    fn read(mail: &str) -> Mail {
        let part = Part::read(mail);
        let header = |name: &str| decoded_words(part.header(name).unwrap_or_default());
        Mail {
            subject: header("subject"),
            from: header("from"),
            to: header("to"),
            text: part.plain_text().trim_end_matches('\n').to_owned(),
        }
    }

    fn answer(&self) -> Answer {
        let entry = |key: &str, value: &str| (key.to_owned(), Json::text(value));
        let body = Json::Object(vec![
            entry("subject", &self.subject),
            entry("from", &self.from),
            entry("to", &self.to),
            entry("text", &self.text),
        ]);
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Answer { status: 200, headers, body: body.compact().into_bytes() }
    }
}

/// Headers and what they describe.
struct Part<'a> {
    headers: Vec<(String, String)>,
    content: &'a str,
}

impl<'a> Part<'a> {
    fn read(text: &'a str) -> Part<'a> {
        let (head, content) = text.split_once("\n\n").unwrap_or((text, ""));
        let mut headers: Vec<(String, String)> = Vec::new();
        for line in head.lines() {
            match (line.starts_with([' ', '\t']), headers.last_mut()) {
                (true, Some((_, value))) => value.push_str(&format!(" {}", line.trim())),
                _ => headers
                    .extend(line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))),
            }
        }
        Part { headers, content }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Its text; of several parts, that of the first with a plain one.
    fn plain_text(&self) -> String {
        let content_type = self.header("content-type").unwrap_or("text/plain");
        if content_type.to_lowercase().starts_with("multipart/") {
            let boundary = content_type.split_once("boundary=").map_or("", |(_, rest)| rest);
            let boundary = format!("--{}", boundary.split(';').next().unwrap_or_default().trim().trim_matches('"'));
            let parts = self.content.split(&boundary).skip(1);
            return parts
                .map(|part| Part::read(part.trim_start_matches('\n')).plain_text())
                .find(|text| !text.is_empty())
                .unwrap_or_default();
        }
        if !content_type.to_lowercase().starts_with("text/plain") {
            return String::new();
        }
        match self.header("content-transfer-encoding").unwrap_or_default().to_lowercase().as_str() {
            "quoted-printable" => quoted_printable(self.content, false),
            "base64" => base64(self.content).replace("\r\n", "\n"),
            _ => self.content.to_owned(),
        }
    }
}

/// `=?utf-8?q?…?=` and `=?utf-8?b?…?=` of RFC 2047; blanks between two of them are none.
fn decoded_words(value: &str) -> String {
    let mut decoded = String::new();
    let mut rest = value;
    let mut after_word = false;
    while let Some(at) = rest.find("=?") {
        let mut fields = rest[at + 2..].splitn(4, '?');
        let (Some(_), Some(encoding), Some(text), Some(end)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            break;
        };
        let Some(end) = end.strip_prefix('=') else { break };
        let between = &rest[..at];
        if !(after_word && between.trim().is_empty()) {
            decoded.push_str(between);
        }
        decoded.push_str(&if encoding.eq_ignore_ascii_case("b") { base64(text) } else { quoted_printable(text, true) });
        rest = end;
        after_word = true;
    }
    decoded.push_str(rest);
    decoded
}

fn base64(text: &str) -> String {
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let text: String = text.split_whitespace().collect();
    let bytes = GeneralPurpose::new(&STANDARD, lenient).decode(text).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn quoted_printable(text: &str, of_header: bool) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'=', [b'\n', after @ ..]) => rest = after,
            (b'=', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).unwrap_or_default();
                bytes.extend(u8::from_str_radix(digits, 16));
                rest = after;
            }
            (b'_', _) if of_header => bytes.push(b' '),
            (plain, _) => bytes.push(*plain),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mails_of_django_are_read() {
        let line = "-".repeat(79);
        let file = format!(
            "Content-Type: text/plain; charset=\"utf-8\"\nContent-Transfer-Encoding: 7bit\nSubject: Confirm\nFrom: a@b\n\
             To: one@example.com\n\nHello,\ngo\n\n{line}\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe_an?=\n =?utf-8?b?IGRpY2g=?=\nFrom: a@b\n\
             To: two@example.com\nContent-Transfer-Encoding: base64\n\naHR0cHM6Ly94L8O8Cg==\n\n{line}\n"
        );
        let mails = mails(file.as_bytes());
        assert_eq!(mails.len(), 2);
        assert_eq!((mails[0].to.as_str(), mails[0].text.as_str()), ("one@example.com", "Hello,\ngo"));
        assert_eq!((mails[1].subject.as_str(), mails[1].text.as_str()), ("Grüße an dich", "https://x/ü"));
    }

    #[test]
    fn of_several_parts_the_plain_one_is_read() {
        let mail = "To: a@b\r\nContent-Type: multipart/alternative;\r\n boundary=\"x y\"\r\n\r\n--x y\r\n\
                    Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
                    https://x/?a=3Db=\r\nc=C3=BC\r\n--x y\r\nContent-Type: text/html\r\n\r\n<p>\r\n--x y--\r\n";
        assert_eq!(mails(mail.as_bytes())[0].text, "https://x/?a=bcü");
    }

    #[tokio::test]
    async fn the_newest_mail_to_an_address_is_the_answer() {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [("1.eml", "first"), ("2.eml", "second"), (".3.eml", "draft")] {
            fs::write(directory.path().join(name), format!("To: <a@b>\nSubject: s\nFrom: f\n\n{text}\n")).unwrap();
        }
        let mailbox = Mailbox::at(directory.path());
        assert_eq!(
            String::from_utf8(mailbox.newest("a@b").await.body).unwrap(),
            r#"{"subject": "s", "from": "f", "to": "<a@b>", "text": "second"}"#
        );
        assert_eq!(Mailbox::default().newest("a@b").await.body, b"(no mail)");
    }
}
