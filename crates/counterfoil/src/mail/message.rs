//! A mail as mail servers take it: [`Message`].

use std::fmt::{self, Write as _};
use std::str::FromStr;

use base64::prelude::{BASE64_STANDARD, Engine};
use counterfoil_core::mail::MailId;
use counterfoil_core::{Email, Timestamp};
use zeroize::Zeroizing;

/// An address and the name that stands beside it: `Example <no-reply@example.org>`, or the address alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    name: Option<String>,
    address: Email,
}

/// The text is no [`Mailbox`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAMailbox;

impl fmt::Display for NotAMailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected an address, with or without a name: \"Example <no-reply@example.org>\"")
    }
}

impl std::error::Error for NotAMailbox {}

impl FromStr for Mailbox {
    type Err = NotAMailbox;

    fn from_str(text: &str) -> Result<Mailbox, NotAMailbox> {
        let (name, address) = match text.strip_suffix('>').and_then(|text| text.split_once('<')) {
            Some((name, address)) => (name.trim().trim_matches('"'), address),
            None => ("", text),
        };
        if name.chars().any(char::is_control) || name.chars().count() > 100 {
            return Err(NotAMailbox);
        }
        let address = address.trim().parse().map_err(|_| NotAMailbox)?;
        Ok(Mailbox { name: (!name.is_empty()).then(|| name.to_owned()), address })
    }
}

impl From<Email> for Mailbox {
    fn from(address: Email) -> Mailbox {
        Mailbox { name: None, address }
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} <{}>", self.address),
            None => fmt::Display::fmt(&self.address, f),
        }
    }
}

impl Mailbox {
    /// The address.
    pub fn address(&self) -> &Email {
        &self.address
    }

    /// As it stands in a header.
    fn in_header(&self) -> String {
        match &self.name {
            Some(name) if is_plain(name) => {
                format!("\"{}\" <{}>", name.replace('\\', "\\\\").replace('"', "\\\""), self.address)
            }
            Some(name) => format!("{} <{}>", encoded_words(name), self.address),
            None => self.address.to_string(),
        }
    }
}

/// A mail that is ready to be sent. Its text may hold a link with a secret: not to be logged, hence a `Debug` without it.
pub struct Message {
    /// What the queue calls it. The `Message-ID` is made of it, so that a mail that arrives twice can be told.
    pub id: MailId,
    /// Who writes.
    pub from: Mailbox,
    /// Whom an answer goes to, if that is somebody else.
    pub reply_to: Option<Mailbox>,
    /// Who is to read it.
    pub to: Email,
    /// When it was written.
    pub date: Timestamp,
    /// Tag of the language that it is in.
    pub language: String,
    /// In one line.
    pub subject: String,
    /// What it says.
    pub text: Zeroizing<String>,
    /// The same as HTML.
    pub html: Option<Zeroizing<String>>,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("id", &self.id).field("date", &self.date).finish_non_exhaustive()
    }
}

impl Message {
    /// As it goes over the wire and into files (RFC 5322, RFC 2045): ASCII but for addresses that are not (RFC 6532), lines that
    /// end in CRLF. It says of itself that a program wrote it, so that no program answers it (RFC 3834).
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let domain = self.from.address.as_str().rsplit('@').next().unwrap_or_default();
        let subject = if is_plain(&self.subject) { self.subject.clone() } else { encoded_words(&self.subject) };
        let mut text = Zeroizing::new(String::with_capacity(4 * (self.text.len() + 1024)));
        let mut header = |name: &str, value: &str| writeln(&mut text, format_args!("{name}: {value}"));
        header("Date", &date(self.date));
        header("From", &self.from.in_header());
        if let Some(reply_to) = &self.reply_to {
            header("Reply-To", &reply_to.in_header());
        }
        header("To", self.to.as_str());
        header("Subject", &subject);
        header("Message-ID", &format!("<{}@{domain}>", self.id));
        header("Auto-Submitted", "auto-generated");
        header("X-Auto-Response-Suppress", "All");
        header("Content-Language", &self.language);
        header("MIME-Version", "1.0");
        match &self.html {
            None => part(&mut text, "plain", &self.text),
            Some(html) => {
                // Nobody whose text is in it knows the id, so nobody can write this line.
                let boundary = format!("=_{}", self.id);
                header("Content-Type", &format!("multipart/alternative; boundary=\"{boundary}\""));
                writeln(&mut text, format_args!("\r\n--{boundary}"));
                part(&mut text, "plain", &self.text);
                writeln(&mut text, format_args!("--{boundary}"));
                part(&mut text, "html", html);
                writeln(&mut text, format_args!("--{boundary}--"));
            }
        }
        Zeroizing::new(text.as_bytes().to_vec())
    }
}

fn writeln(text: &mut String, line: fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    text.write_fmt(line).ok();
    text.push_str("\r\n");
}

/// The headers of a part, an empty line, and what it says.
fn part(text: &mut String, subtype: &str, content: &str) {
    // RFC 5322 §2.1.1 allows 998 of a line; and half a line break is one to some servers and none to others.
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~' | b'\t');
    let as_it_is = content.lines().all(|line| line.len() <= 900 && line.bytes().all(is_plain));
    let encoding = if as_it_is { "7bit" } else { "quoted-printable" };
    writeln(text, format_args!("Content-Type: text/{subtype}; charset=utf-8"));
    writeln(text, format_args!("Content-Transfer-Encoding: {encoding}\r\n"));
    for line in content.lines() {
        if as_it_is {
            writeln(text, format_args!("{line}"));
        } else {
            quoted_printable(text, line);
        }
    }
}

/// RFC 2045 §6.7.
fn quoted_printable(text: &mut String, line: &str) {
    const LONGEST: usize = 76;
    let mut column = 0;
    for (at, byte) in line.bytes().enumerate() {
        let at_end = at + 1 == line.len();
        let plain = matches!(byte, b'!'..=b'<' | b'>'..=b'~') || (matches!(byte, b' ' | b'\t') && !at_end);
        let width = if plain { 1 } else { 3 };
        // One column is for the sign that the line goes on.
        if column + width > LONGEST - usize::from(!at_end) {
            text.push_str("=\r\n");
            column = 0;
        }
        if plain {
            text.push(char::from(byte));
        } else {
            write!(text, "={byte:02X}").ok();
        }
        column += width;
    }
    text.push_str("\r\n");
}

/// Whether a header may carry it as it is: printable ASCII, short enough for a line, and not what looks like an encoded word.
fn is_plain(text: &str) -> bool {
    text.len() <= 60 && text.bytes().all(|byte| matches!(byte, b' '..=b'~')) && !text.contains("=?")
}

/// RFC 2047: words of at most 75 characters, none of which ends within a character.
fn encoded_words(text: &str) -> String {
    const MOST_BYTES: usize = 45;
    let mut words = Vec::new();
    let mut word = String::new();
    for c in text.chars() {
        if word.len() + c.len_utf8() > MOST_BYTES {
            words.push(std::mem::take(&mut word));
        }
        word.push(c);
    }
    words.push(word);
    let words: Vec<String> = words.iter().map(|word| format!("=?utf-8?B?{}?=", BASE64_STANDARD.encode(word))).collect();
    words.join("\r\n ")
}

/// RFC 5322 §3.3.
fn date(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_millisecond(at.millis()).unwrap_or_default();
    at.to_zoned(jiff::tz::TimeZone::UTC).strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(subject: &str, text: &str) -> Message {
        Message {
            id: MailId::from_bytes([9; 16]),
            from: "Exämple <no-reply@example.org>".parse().expect("a mailbox"),
            reply_to: Some("Help \"desk\" <help@example.org>".parse().expect("a mailbox")),
            to: "ada@example.org".parse().expect("an address"),
            date: Timestamp::from_millis(1_795_260_600_000),
            language: "en".to_owned(),
            subject: subject.to_owned(),
            text: Zeroizing::new(text.to_owned()),
            html: None,
        }
    }

    fn bytes(message: &Message) -> String {
        String::from_utf8(message.to_bytes().to_vec()).expect("UTF-8")
    }

    #[test]
    fn a_message_says_when_who_to_whom_and_that_a_program_wrote_it() {
        let id = MailId::from_bytes([9; 16]);
        let expected = format!(
            "Date: Sat, 21 Nov 2026 11:30:00 +0000\r\nFrom: =?utf-8?B?RXjDpG1wbGU=?= <no-reply@example.org>\r\n\
             Reply-To: \"Help \\\"desk\" <help@example.org>\r\nTo: ada@example.org\r\nSubject: Hello\r\n\
             Message-ID: <{id}@example.org>\r\nAuto-Submitted: auto-generated\r\nX-Auto-Response-Suppress: All\r\n\
             Content-Language: en\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: 7bit\r\n\r\none\r\n.two\r\n"
        );
        assert_eq!(bytes(&message("Hello", "one\n.two\n")), expected);
    }

    #[test]
    fn a63_whatever_is_said_every_line_is_short_and_none_but_ours_is_a_header() {
        let long = "ü".repeat(3_000) + &" x".repeat(3_000);
        let hostile = "Grüße\u{7f}=?utf-8?Q?Bcc=3A?=";
        for text in [
            &long,
            "half\r.\rBcc: eve@example.org\0\r",
            "a\r\nBcc: eve@example.org\r\n.\r\nQUIT\r\nü",
            " \t",
            "x \nü\t\n",
        ] {
            let all = bytes(&Message { html: Some(Zeroizing::new(text.to_owned())), ..message(hostile, text) });
            assert!(all.is_ascii());
            assert!(all.split("\r\n").all(|line| line.len() <= 76 || line.starts_with("Content-Type")), "{all}");
            let (head, _) = all.split_once("\r\n\r\n").expect("a head");
            assert!(!head.contains("Bcc") && !head.contains('\u{7f}'), "{head}");
            assert_eq!(all.matches('\r').count(), all.matches('\n').count());
        }
    }

    #[test]
    fn a_mailbox_is_an_address_with_or_without_a_name() {
        for (text, shown) in [
            ("no-reply@example.org", "no-reply@example.org"),
            ("Example <no-reply@example.org>", "Example <no-reply@example.org>"),
            ("\"Example, Inc.\" <no-reply@example.org>", "Example, Inc. <no-reply@example.org>"),
        ] {
            assert_eq!(text.parse::<Mailbox>().expect(text).to_string(), shown);
        }
        for bad in ["", "Example", "<>", "a\r\nb <x@example.org>", "x@example.org, y@example.org", "a@b@evil", "A <x>"]
        {
            assert_eq!(bad.parse::<Mailbox>(), Err(NotAMailbox), "{bad:?}");
        }
    }
}
