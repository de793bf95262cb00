//! The events as log lines: [`TracingEvents`].

use counterfoil_core::actor::Actor;
use counterfoil_core::audit::Entry;
use counterfoil_core::event::{EventSink, Gravity, Occurrence};
use counterfoil_core::token::Kind;

/// Writes one `tracing` line for each event, with the target `counterfoil::events`.
///
/// Fields are those of the audit log: `event`, `actor` (`stranger`, `holder`, `operator`, `deployment`), `by` and
/// `by_token` (the subject and the token of a holder), `subject`, `token` (its id, never its text), `kind`, `client`,
/// `username`, `detail`, `ip`, `user_agent`, each where there is one. What strangers wrote is escaped as a Rust string literal is, without the quotes,
/// so that a line feed, a terminal sequence or a forged entry in a user name stays part of one line whatever the
/// subscriber does. Failed logins, limits that were hit, reuse of a secret and what was lost are warnings, the start of a login is for debugging,
/// everything else is information.
#[derive(Debug, Clone, Copy, Default)]
pub struct TracingEvents;

impl EventSink for TracingEvents {
    fn publish(&self, occurrence: &Occurrence) {
        let Entry { event, actor, subject, client, token, kind, username, detail, source, .. } = Entry::of(occurrence);
        let (by, by_token) = match &actor {
            Actor::Holder { subject, token } => (Some(encoded(subject.as_str())), Some(token.to_string())),
            Actor::Stranger | Actor::Operator | Actor::Deployment => (None, None),
        };
        let subject = subject.map(|id| encoded(id.as_str()));
        let client = client.map(|name| encoded(name.as_str()));
        let token = token.map(|id| id.to_string());
        let kind = kind.map(Kind::as_str);
        let username = username.as_deref().map(encoded);
        let detail = detail.as_deref().map(encoded);
        let ip = source.ip.map(|ip| ip.to_string());
        let user_agent = source.user_agent.as_ref().map(|agent| encoded(agent.as_str()));
        // `tracing` wants the level at compile time.
        macro_rules! write_line {
            ($level:ident) => {
                tracing::$level!(
                    target: "counterfoil::events",
                    event = &*event,
                    actor = actor.as_str(),
                    by,
                    by_token,
                    subject,
                    token,
                    kind,
                    client,
                    username,
                    detail,
                    ip,
                    user_agent,
                )
            };
        }
        match occurrence.event.gravity() {
            Gravity::Detail => write_line!(debug),
            Gravity::Notice => write_line!(info),
            Gravity::Warning => write_line!(warn),
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

    use counterfoil_core::event::{Event, LoginFailure, RevokedBy, Scope, TokenRef};
    use counterfoil_core::token::Source;
    use counterfoil_core::{Timestamp, TokenId, UserAgent};
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
                let (actor, source) = (Actor::Operator, source.clone());
                TracingEvents.publish(&Occurrence { at, actor, source, event: event.clone() });
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
            " INFO counterfoil::events: event=\"token_revoked\" actor=\"operator\" subject=\"s-1\" \
             token=\"01010101-0101-0101-0101-010101010101\" kind=\"login\" client=\"web\" detail=\"by its owner\" \
             ip=\"192.0.2.7\" user_agent=\"agent\\\\u{1b}]0;x\\\\u{7}\\\\r\\\\nforged\"\n"
        );
        let ended = Event::Ended { scope: Scope::Everybody, keys_too: true };
        let line = lines(false, &[ended]);
        assert!(line.contains("detail=\"login tokens and API keys of everybody\" ip="), "{line}");
    }

    #[test]
    fn a83_a_hostile_user_name_stays_one_encoded_line() {
        let hostile =
            "eve\n INFO counterfoil::events: event=\"logged_in\" username=\"root\"\r\u{1b}[2K\u{202e}\",\"x\":\"";
        let failed =
            Event::LoginFailed { username: Some(hostile.to_owned()), subject: None, why: LoginFailure::WrongPassword };
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
