//! Entries as a table for spreadsheets (RFC 4180), made so that what a stranger wrote is never a formula in one.

use crate::actor::Actor;
use crate::store::NumberedEntry;

/// What the first row says.
const COLUMNS: [&str; 15] = [
    "id",
    "at",
    "event",
    "actor",
    "by",
    "by_token",
    "subject",
    "client",
    "token",
    "kind",
    "username",
    "detail",
    "ip",
    "user_agent",
    "times",
];

/// A row of names, then a row for each entry. Every cell is in quotes, so that neither a separator of another country nor a
/// line break within it begins a new one.
pub fn table(entries: &[NumberedEntry]) -> String {
    let mut text = String::new();
    push_row(&mut text, &COLUMNS.map(str::to_owned));
    entries.iter().for_each(|entry| push_row(&mut text, &cells(entry)));
    text
}

fn cells(NumberedEntry { number, entry }: &NumberedEntry) -> [String; 15] {
    fn shown<T: ToString>(value: Option<T>) -> String {
        value.map_or_else(String::new, |value| value.to_string())
    }
    let (by, by_token) = match &entry.actor {
        Actor::Holder { subject, token } => (Some(subject), Some(token)),
        Actor::Stranger | Actor::Operator | Actor::Deployment => (None, None),
    };
    [
        number.to_string(),
        entry.at.to_string(),
        entry.event.to_string(),
        entry.actor.as_str().to_owned(),
        shown(by),
        shown(by_token),
        shown(entry.subject.as_ref()),
        shown(entry.client.as_ref()),
        shown(entry.token),
        shown(entry.kind.map(|kind| kind.as_str())),
        shown(entry.username.as_deref()),
        shown(entry.detail.as_deref()),
        shown(entry.source.ip),
        shown(entry.source.user_agent.as_ref().map(|agent| agent.as_str())),
        entry.times.to_string(),
    ]
}

fn push_row(text: &mut String, cells: &[String; 15]) {
    for (position, cell) in cells.iter().enumerate() {
        text.push_str(if position == 0 { "\"" } else { ",\"" });
        // Spreadsheets compute what begins so; after an apostrophe it is text (OWASP ASVS 5.0 1.2.10).
        if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) {
            text.push('\'');
        }
        text.push_str(&cell.replace('"', "\"\""));
        text.push('"');
    }
    text.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Entry;
    use crate::clock::Timestamp;
    use crate::token::{Source, UserAgent};

    #[test]
    fn a80_what_a_stranger_wrote_is_no_formula() {
        for (written, cell) in [
            ("ada", r#""ada""#),
            ("=cmd|' /C calc'!A0", r#""'=cmd|' /C calc'!A0""#),
            ("+1", r#""'+1""#),
            ("-1", r#""'-1""#),
            ("@SUM(1)", r#""'@SUM(1)""#),
            ("\t=1", "\"'\t=1\""),
            ("\r=1", "\"'\r=1\""),
            ("a\",=1\r\n=2;=3", "\"a\"\",=1\r\n=2;=3\""),
        ] {
            let entry = Entry {
                at: Timestamp::MIN,
                event: "login_failed".into(),
                actor: Actor::Stranger,
                subject: None,
                client: None,
                token: None,
                kind: None,
                username: Some(written.to_owned()),
                detail: None,
                source: Source { ip: None, user_agent: UserAgent::cut(b"=agent") },
                times: 2,
            };
            let text = table(&[NumberedEntry { number: 7, entry }]);
            let (header, row) = text.split_once("\r\n").expect("two rows");
            assert!(header.starts_with(r#""id","at","event","actor","by""#), "{header}");
            let start = r#""7","1970-01-01T00:00:00.000Z","login_failed","stranger","","","","","","","#;
            assert_eq!(row, format!("{start}{cell},\"\",\"\",\"'=agent\",\"2\"\r\n"));
        }
    }
}
