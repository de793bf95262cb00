//! What goes into a mail of what strangers wrote: an address, a name, a subject, a text, the languages they read.

use std::str;

use counterfoil::mail::{Mailbox, Message};
use counterfoil_core::language::{Languages, is_tag};
use counterfoil_core::mail::MailId;
use counterfoil_core::{Email, Timestamp};

/// The first line is an address, the second the name beside ours, the third what languages are read, the fourth a subject, the
/// rest a text.
pub fn run(input: &[u8]) {
    let Ok(input) = str::from_utf8(input) else { return };
    let mut lines = input.splitn(5, '\n');
    let mut next = || lines.next().unwrap_or_default();
    let (address, name, languages, subject, text) = (next(), next(), next(), next(), next());
    languages_are_a_few_tags(languages);
    let Ok(to) = address.parse::<Email>() else { return };
    is_one_address(&to);
    let from = format!("{name} <accounts@example.org>").parse().unwrap_or_else(|_| Mailbox::from(to.clone()));
    let message = Message {
        id: MailId::from_bytes([7; 16]),
        from,
        reply_to: None,
        to,
        date: Timestamp::from_millis(1_795_172_400_000),
        language: "en".to_owned(),
        // In one line is what the one who writes it promises.
        subject: subject.chars().filter(|character| !character.is_control()).collect(),
        text: text.to_owned().into(),
        html: Some(format!("<p>{text}</p>").into()),
    };
    is_one_mail(&message);
}

/// RFC 5321 §4.1.2, but for what hardly anybody has and much software reads differently: quotes, comments, literals.
fn is_one_address(email: &Email) {
    let text = email.as_str();
    assert!(text.len() <= 254, "{text:?}");
    assert_eq!(text.matches('@').count(), 1, "{text:?}");
    assert!(!text.contains(|c: char| c.is_control() || c.is_whitespace() || "\"(),:;<>[\\]".contains(c)), "{text:?}");
    assert_eq!(text.parse::<Email>().as_ref(), Ok(email), "{text:?} does not read back");
}

fn languages_are_a_few_tags(header: &str) {
    let languages = Languages::of(None, Some(header));
    assert!(languages.tags().count() <= Languages::MOST, "{header:?}");
    assert!(languages.tags().all(is_tag), "{header:?}: {languages}");
    let kept = serde_json::to_string(&languages).expect("JSON");
    assert_eq!(serde_json::from_str::<Languages>(&kept).ok(), Some(languages), "{header:?}");
}

/// What a mail server reads: lines, of which those before the first empty one are headers, each of them once and ours.
fn is_one_mail(message: &Message) {
    const HEADERS: [&str; 11] = [
        "Date",
        "From",
        "To",
        "Subject",
        "Message-ID",
        "Auto-Submitted",
        "X-Auto-Response-Suppress",
        "Content-Language",
        "MIME-Version",
        "Content-Type",
        "",
    ];
    let bytes = message.to_bytes();
    let text = str::from_utf8(&bytes).expect("UTF-8");
    assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "half a line break");
    assert!(text.split("\r\n").all(|line| line.len() <= 998), "a line that is too long (RFC 5322 §2.1.1)");
    let (head, body) = text.split_once("\r\n\r\n").expect("an end of the headers");
    let mut names = Vec::new();
    for line in head.split("\r\n") {
        if !line.starts_with([' ', '\t']) {
            names.push(line.split_once(':').expect("a header").0);
        }
    }
    names.push("");
    assert_eq!(names, HEADERS, "{head}");
    let boundary = format!("--=_{}", message.id);
    // Nobody knows the id but the fuzzer, who sees what is compared.
    if !message.text.contains(&boundary) {
        let parted = body.split("\r\n").filter(|line| line.starts_with(&boundary)).count();
        assert_eq!(parted, 3, "two parts and an end");
    }
}
