//! The events as log lines: [`TracingEvents`].

use counterfoil_core::event::{Event, EventSink, LoginFailure, Occurrence, RevokedBy, Scope, TokenRef};
use counterfoil_core::{ClientName, Refusal, SubjectId};

/// Writes one `tracing` line for each event, with the target `counterfoil::events`.
///
/// Fields: `event`, `subject`, `token` (its id, never its text), `kind`, `client`, `username`, `why`, `scope`, `ip`,
/// `user_agent`, each where there is one. What strangers wrote is escaped as a Rust string literal is, without the quotes,
/// so that a line feed, a terminal sequence or a forged entry in a user name stays part of one line whatever the
/// subscriber does. Failed logins, reuse of a secret and lost marks are warnings, the start of a login is for debugging,
/// everything else is information.
#[derive(Debug, Clone, Copy, Default)]
pub struct TracingEvents;

/// What a line says besides its name; everything optional, because events differ.
#[derive(Debug, Default)]
struct Line<'a> {
    subject: Option<&'a SubjectId>,
    token: Option<&'a TokenRef>,
    client: Option<&'a ClientName>,
    username: Option<&'a str>,
    why: Option<String>,
    scope: Option<&'static str>,
    keys_too: Option<bool>,
    lost: Option<u64>,
}

impl<'a> Line<'a> {
    fn of(event: &'a Event) -> Line<'a> {
        let line = Line::default();
        match event {
            Event::LoginStarted { username, client } => Line { username: Some(username), client: Some(client), ..line },
            Event::LoginFailed { username, subject, why } => {
                Line { username: Some(username), subject: subject.as_ref(), why: Some(reason(why)), ..line }
            }
            Event::LoggedIn(token)
            | Event::LoggedOut(token)
            | Event::TokenIssued(token)
            | Event::TokenExpired(token)
            | Event::TokenRenewed(token)
            | Event::TokenRotated(token)
            | Event::ReuseDetected(token) => Line { token: Some(token), ..line },
            Event::TokenRevoked(token, by) => Line { token: Some(token), why: Some(revoker(*by).to_owned()), ..line },
            Event::Refused(token, refusal) => Line { token: Some(token), why: Some(refusal.to_string()), ..line },
            Event::Ended { scope, keys_too } => {
                let line = Line { keys_too: Some(*keys_too), ..line };
                match scope {
                    Scope::Subject(subject) => Line { scope: Some("subject"), subject: Some(subject), ..line },
                    Scope::Client(client) => Line { scope: Some("client"), client: Some(client), ..line },
                    Scope::Everybody => Line { scope: Some("everybody"), ..line },
                }
            }
            Event::AccountCreated(subject)
            | Event::AccountDisabled(subject)
            | Event::AccountEnabled(subject)
            | Event::AccountDeleted(subject)
            | Event::PasswordChanged(subject)
            | Event::RoleChanged(subject) => Line { subject: Some(subject), ..line },
            Event::ClientCreated(client) | Event::ClientChanged(client) | Event::ClientDeleted(client) => {
                Line { client: Some(client), ..line }
            }
            Event::MarksLost(lost) => Line { lost: Some(*lost), ..line },
        }
    }
}

fn reason(why: &LoginFailure) -> String {
    match why {
        LoginFailure::UnknownUser => "unknown user".to_owned(),
        LoginFailure::WrongPassword => "wrong password".to_owned(),
        LoginFailure::Inactive => "inactive account".to_owned(),
        LoginFailure::Overtaken => "the account changed meanwhile".to_owned(),
        LoginFailure::Refused(Refusal::CapReached { limit }) => format!("{limit} live tokens already"),
        LoginFailure::Refused(refusal) => refusal.to_string(),
    }
}

fn revoker(by: RevokedBy) -> &'static str {
    match by {
        RevokedBy::Owner => "owner",
        RevokedBy::Operator => "operator",
        RevokedBy::LaterLogin => "later login",
        RevokedBy::Reuse => "reuse",
    }
}

impl EventSink for TracingEvents {
    fn publish(&self, occurrence: &Occurrence) {
        let event = &occurrence.event;
        let line = Line::of(event);
        let subject = line.subject.or(line.token.map(|token| &token.subject)).map(|id| encoded(id.as_str()));
        let client = line.client.or(line.token.map(|token| &token.client)).map(|name| encoded(name.as_str()));
        let token = line.token.map(|token| token.id.to_string());
        let kind = line.token.map(|token| token.kind.as_str());
        let username = line.username.map(encoded);
        let why = line.why.as_deref().map(encoded);
        let ip = occurrence.source.ip.map(|ip| ip.to_string());
        let user_agent = occurrence.source.user_agent.as_ref().map(|agent| encoded(agent.as_str()));
        // `tracing` wants the level at compile time.
        macro_rules! write_line {
            ($level:ident) => {
                tracing::$level!(
                    target: "counterfoil::events",
                    event = event.name(),
                    subject,
                    token,
                    kind,
                    client,
                    username,
                    why,
                    scope = line.scope,
                    keys_too = line.keys_too,
                    lost = line.lost,
                    ip,
                    user_agent,
                )
            };
        }
        match event {
            Event::LoginStarted { .. } => write_line!(debug),
            Event::LoginFailed { .. } | Event::ReuseDetected(_) | Event::MarksLost(_) => write_line!(warn),
            Event::LoggedIn(_)
            | Event::LoggedOut(_)
            | Event::Ended { .. }
            | Event::TokenIssued(_)
            | Event::TokenExpired(_)
            | Event::TokenRenewed(_)
            | Event::TokenRotated(_)
            | Event::TokenRevoked(..)
            | Event::Refused(..)
            | Event::AccountCreated(_)
            | Event::AccountDisabled(_)
            | Event::AccountEnabled(_)
            | Event::AccountDeleted(_)
            | Event::PasswordChanged(_)
            | Event::RoleChanged(_)
            | Event::ClientCreated(_)
            | Event::ClientChanged(_)
            | Event::ClientDeleted(_) => write_line!(info),
        }
    }
}

/// The inside of the string literal for `text`: printable characters as they are, everything else as an escape.
fn encoded(text: &str) -> String {
    let literal = format!("{text:?}");
    literal[1..literal.len() - 1].to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use counterfoil_core::event::Occurrence;
    use counterfoil_core::token::Source;
    use counterfoil_core::{Kind, Timestamp, TokenId, UserAgent};
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("buffer").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Written {
        type Writer = Written;

        fn make_writer(&self) -> Written {
            self.clone()
        }
    }

    fn lines(json: bool, events: &[Event]) -> String {
        let written = Written::default();
        let plain = tracing_subscriber::fmt().with_writer(written.clone()).with_ansi(false).without_time();
        let source = Source {
            ip: Some([192, 0, 2, 7].into()),
            user_agent: UserAgent::cut("agent\u{1b}]0;x\u{7}\r\nforged".as_bytes()),
        };
        let publish = || {
            for event in events {
                let at = Timestamp::from_millis(0);
                TracingEvents.publish(&Occurrence { at, source: source.clone(), event: event.clone() });
            }
        };
        if json {
            tracing::subscriber::with_default(plain.json().flatten_event(true).finish(), publish);
        } else {
            tracing::subscriber::with_default(plain.finish(), publish);
        }
        let bytes = written.0.lock().expect("buffer").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    fn token() -> TokenRef {
        TokenRef {
            id: TokenId::from_bytes([1; 16]),
            kind: Kind::Login,
            subject: "s-1".parse().expect("subject"),
            client: "web".parse().expect("client"),
        }
    }

    #[test]
    fn r31_each_event_says_who_what_and_where_by_id_alone() {
        let line = lines(false, &[Event::TokenRevoked(token(), RevokedBy::Owner)]);
        assert_eq!(
            line,
            " INFO counterfoil::events: event=\"token_revoked\" subject=\"s-1\" \
             token=\"01010101-0101-0101-0101-010101010101\" kind=\"login\" client=\"web\" why=\"owner\" \
             ip=\"192.0.2.7\" user_agent=\"agent\\\\u{1b}]0;x\\\\u{7}\\\\r\\\\nforged\"\n"
        );
        let ended = Event::Ended { scope: Scope::Everybody, keys_too: true };
        let line = lines(false, &[ended]);
        assert!(line.contains("event=\"ended\" scope=\"everybody\" keys_too=true ip="), "{line}");
    }

    #[test]
    fn a83_a_hostile_user_name_stays_one_encoded_line() {
        let hostile =
            "eve\n INFO counterfoil::events: event=\"logged_in\" username=\"root\"\r\u{1b}[2K\u{202e}\",\"x\":\"";
        let failed = Event::LoginFailed { username: hostile.to_owned(), subject: None, why: LoginFailure::UnknownUser };
        for json in [false, true] {
            let line = lines(json, std::slice::from_ref(&failed));
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert!(line.ends_with('\n'));
            for raw in ['\r', '\u{1b}', '\u{202e}', '\u{7}'] {
                assert!(!line.contains(raw), "{line:?}");
            }
            assert!(line.contains("WARN"), "{line}");
        }
        let json: serde_json::Value = serde_json::from_str(&lines(true, &[failed])).expect("one JSON object");
        assert_eq!(json["event"], "login_failed");
        assert_eq!(json.get("x"), None);
    }
}
