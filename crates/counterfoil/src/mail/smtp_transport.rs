//! Mails by a mail server: [`SmtpTransport`].

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use counterfoil_core::Email;
use counterfoil_core::mail::{NotSent, Sending};
use lettre::Address;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};
use lettre::transport::smtp::response::Severity;
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

use super::{Message, Transport};

/// Which mail server, and how it is spoken to.
#[derive(Debug, Clone)]
pub struct SmtpSettings {
    /// Its name, which its certificate has to bear.
    pub host: String,
    /// `None`: 587 with STARTTLS, 465 with TLS from the start, 25 without.
    pub port: Option<u16>,
    /// What keeps others from reading.
    pub security: SmtpSecurity,
    /// As whom, where it wants to know.
    pub login: Option<SmtpLogin>,
    /// Certificates in PEM that are trusted besides those of the system.
    pub ca_pem: Option<Vec<u8>>,
    /// How long handing over one mail may take. A minute at most; half a minute suits.
    pub timeout: Duration,
}

/// What keeps others from reading mails, and the links in them, on the way to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpSecurity {
    /// The connection turns to TLS before anything is said; where the server offers none, nothing is sent.
    StartTls,
    /// TLS from the start.
    Tls,
    /// Nothing does. For a server on this machine alone; any other is refused.
    NoneOnThisMachine,
}

/// Name and password for a mail server.
#[derive(Clone)]
pub struct SmtpLogin {
    /// The name.
    pub username: String,
    /// The password.
    pub password: Zeroizing<String>,
}

impl fmt::Debug for SmtpLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmtpLogin").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Why there is no [`SmtpTransport`] with these settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoSmtp {
    /// The host is no name and no address.
    NotAHost,
    /// Mails and their links would cross a network in the clear.
    InTheClear,
    /// The certificates cannot be read, and why.
    BadCertificates(String),
}

impl fmt::Display for NoSmtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoSmtp::NotAHost => f.write_str("expected the name of a mail server: \"smtp.example.org\""),
            NoSmtp::InTheClear => f.write_str(
                "without TLS anyone on the way to the mail server can use the links in the mails; only a server on this \
                 machine may be spoken to that way",
            ),
            NoSmtp::BadCertificates(why) => write!(f, "the certificates are not to be read: {why}"),
        }
    }
}

impl std::error::Error for NoSmtp {}

/// How many connections are kept for the next mail, and for how long.
const MOST_IDLE: usize = 4;
const IDLE: Duration = Duration::from_secs(10);
/// How long a server may take to say goodbye, or that it is still there.
const COURTESY: Duration = Duration::from_secs(5);
/// Nothing takes longer, whatever is set: what calls a transport relies on it.
const MOST_PATIENCE: Duration = Duration::from_secs(60);

/// Gives mails to a mail server (RFC 5321), which takes them on from there.
///
/// What may go better later is to be tried again: the server is away, slow, too busy, or asks for time (4xx); it does not
/// prove who it is, offers no TLS or does not let us in, which its operator or ours has to mend. What it says of one address or
/// one mail for good (5xx) is final. An address that is not ASCII needs a server with SMTPUTF8.
///
/// Do not switch on the feature `tracing` of lettre: it logs every line that is sent.
pub struct SmtpTransport {
    host: String,
    port: u16,
    security: SmtpSecurity,
    tls: Option<TlsParameters>,
    credentials: Option<Credentials>,
    patience: Duration,
    idle: Arc<Mutex<Idle>>,
}

impl fmt::Debug for SmtpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmtpTransport")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("security", &self.security)
            .finish_non_exhaustive()
    }
}

/// Connections that wait for the next mail, each with a number.
#[derive(Default)]
struct Idle {
    connections: VecDeque<(u64, AsyncSmtpConnection)>,
    kept: u64,
}

impl SmtpTransport {
    /// Speaks to no one yet. With TLS it reads the certificates that the system trusts, from files.
    ///
    /// # Errors
    /// [`NoSmtp`].
    pub fn new(settings: SmtpSettings) -> Result<SmtpTransport, NoSmtp> {
        let SmtpSettings { host, port, security, login, ca_pem, timeout } = settings;
        if host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:_".contains(&byte)) {
            return Err(NoSmtp::NotAHost);
        }
        let (usual_port, tls) = match security {
            SmtpSecurity::StartTls => (587, Some(tls(&host, ca_pem.as_deref())?)),
            SmtpSecurity::Tls => (465, Some(tls(&host, ca_pem.as_deref())?)),
            SmtpSecurity::NoneOnThisMachine => {
                let here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
                if !here {
                    return Err(NoSmtp::InTheClear);
                }
                (25, None)
            }
        };
        Ok(SmtpTransport {
            host,
            port: port.unwrap_or(usual_port),
            security,
            tls,
            credentials: login.map(|login| Credentials::new(login.username, login.password.as_str().to_owned())),
            patience: timeout.min(MOST_PATIENCE),
            idle: Arc::default(),
        })
    }

    async fn hand_over(&self, message: &Message) -> Result<(), NotSent> {
        let mut connection = match self.waiting().await {
            Some(connection) => connection,
            None => self.connect(domain_of(message.from.address())).await?,
        };
        let handed_over = self.transact(&mut connection, message).await;
        match handed_over {
            Ok(()) => self.keep(connection),
            // Where it stands in its conversation is not worth finding out.
            Err(_) => part_from(connection),
        }
        handed_over
    }

    /// A connection that is left over from another mail, if there is one that still works.
    async fn waiting(&self) -> Option<AsyncSmtpConnection> {
        loop {
            let (_, mut connection) = self.idle().connections.pop_back()?;
            if timeout(COURTESY, connection.test_connected()).await.unwrap_or(false) {
                return Some(connection);
            }
        }
    }

    fn keep(&self, connection: AsyncSmtpConnection) {
        let (number, surplus) = {
            let mut idle = self.idle();
            idle.kept += 1;
            let number = idle.kept;
            idle.connections.push_back((number, connection));
            (number, if idle.connections.len() > MOST_IDLE { idle.connections.pop_front() } else { None })
        };
        if let Some((_, connection)) = surplus {
            part_from(connection);
        }
        let idle = Arc::clone(&self.idle);
        tokio::spawn(async move {
            sleep(IDLE).await;
            let waited = {
                let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
                let at = idle.connections.iter().position(|(kept, _)| *kept == number);
                at.and_then(|at| idle.connections.remove(at))
            };
            if let Some((_, connection)) = waited {
                part_from(connection);
            }
        });
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects, turns to TLS and logs in. Whatever goes wrong here says nothing of the mail.
    async fn connect(&self, name: &str) -> Result<AsyncSmtpConnection, NotSent> {
        let name = ClientId::Domain(name.to_owned());
        let from_the_start = self.tls.clone().filter(|_| self.security == SmtpSecurity::Tls);
        let place = (self.host.as_str(), self.port);
        let connected =
            AsyncSmtpConnection::connect_tokio1(place, Some(self.patience), &name, from_the_start, None).await;
        let mut connection =
            connected.map_err(|error| self.later(format_args!("is not to be reached: {}", Said(&error))))?;
        if let (SmtpSecurity::StartTls, Some(tls)) = (self.security, &self.tls) {
            if !connection.can_starttls() {
                part_from(connection);
                return Err(self.later(format_args!("offers no STARTTLS, so nothing was said to it")));
            }
            let turned = connection.starttls(tls.clone(), &name).await;
            turned.map_err(|error| self.later(format_args!("does not speak TLS as it should: {}", Said(&error))))?;
        }
        if let Some(credentials) = &self.credentials {
            let let_in = connection.auth(&[Mechanism::Plain, Mechanism::Login], credentials).await;
            if let Err(error) = let_in {
                part_from(connection);
                return Err(self.later(format_args!("does not take name and password: {}", Said(&error))));
            }
        }
        Ok(connection)
    }

    /// One mail (RFC 5321 §3.3).
    async fn transact(&self, connection: &mut AsyncSmtpConnection, message: &Message) -> Result<(), NotSent> {
        let mut parameters = Vec::new();
        if !message.to.as_str().is_ascii() {
            if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
                return Err(self.never(format_args!("takes no address that is not ASCII: it lacks SMTPUTF8")));
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        let from = Some(address(message.from.address()));
        connection
            .command(Mail::new(from, parameters))
            .await
            .map_err(|error| self.later(format_args!("takes no mail from {}: {}", message.from, Said(&error))))?;
        connection.command(Rcpt::new(address(&message.to), Vec::new())).await.map_err(|error| {
            let said = format_args!("takes no mail for this address: {}", Said(&error)).to_string();
            if is_final(&error) && !is_about_us(&error) {
                self.never(format_args!("{said}"))
            } else {
                self.later(format_args!("{said}"))
            }
        })?;
        let refused = |error: &lettre::transport::smtp::Error| {
            // It has read the mail and may repeat what it did not like.
            let said = without_links(&Said(error).to_string());
            if is_final(error) {
                self.never(format_args!("does not take this mail: {said}"))
            } else {
                self.later(format_args!("does not take this mail now: {said}"))
            }
        };
        let begun = connection.command(Data).await.map_err(|error| refused(&error))?;
        // Another answer is that to another command: somebody has put one in before TLS began, and what follows would be taken
        // for what it is not. (CVE-2011-0411 and its kin)
        if !begun.has_code(354) {
            return Err(self.later(format_args!("answers what it was not asked")));
        }
        let content = message.to_bytes();
        // What ends it begins with a line break.
        let content = content.strip_suffix(b"\r\n").unwrap_or(&content);
        connection.message(content).await.map_err(|error| refused(&error))?;
        Ok(())
    }

    fn later(&self, what: fmt::Arguments<'_>) -> NotSent {
        NotSent::Later(self.said(what).into())
    }

    fn never(&self, what: fmt::Arguments<'_>) -> NotSent {
        NotSent::Never(self.said(what).into())
    }

    fn said(&self, what: fmt::Arguments<'_>) -> String {
        format!("the mail server {}:{} {what}", self.host, self.port)
    }
}

impl Transport for SmtpTransport {
    fn carry<'a>(&'a self, message: &'a Message) -> Sending<'a> {
        Box::pin(async move {
            match timeout(self.patience, self.hand_over(message)).await {
                Ok(handed_over) => handed_over,
                Err(_) => {
                    let seconds = self.patience.as_secs_f32();
                    Err(self.later(format_args!("has not taken the mail within {seconds} s")))
                }
            }
        })
    }
}

fn tls(host: &str, ca_pem: Option<&[u8]>) -> Result<TlsParameters, NoSmtp> {
    let unreadable = |why: String| NoSmtp::BadCertificates(why);
    let mut parameters = TlsParameters::builder(host.to_owned());
    if let Some(pem) = ca_pem {
        if !pem.windows(11).any(|at| at == b"-----BEGIN ") {
            return Err(unreadable("there is none in PEM".to_owned()));
        }
        parameters =
            parameters.add_root_certificate(Certificate::from_pem(pem).map_err(|error| unreadable(error.to_string()))?);
    }
    parameters.build_rustls().map_err(|error| unreadable(error.to_string()))
}

/// Says goodbye without anybody waiting for it.
fn part_from(mut connection: AsyncSmtpConnection) {
    tokio::spawn(async move { timeout(COURTESY, connection.abort()).await.ok() });
}

/// Not read again: what an address is, is decided in one place.
fn address(email: &Email) -> Address {
    let (local, domain) = email.as_str().rsplit_once('@').unwrap_or((email.as_str(), ""));
    Address::new_dangerous(local, domain)
}

fn domain_of(email: &Email) -> &str {
    email.as_str().rsplit('@').next().filter(|domain| domain.is_ascii()).unwrap_or("localhost")
}

fn is_final(error: &lettre::transport::smtp::Error) -> bool {
    error.status().is_some_and(|code| code.severity == Severity::PermanentNegativeCompletion)
}

/// Whether the server means the sender rather than the reader: it wants a login, or does not send on for strangers. That is
/// for the operator to mend. (RFC 4954 §6; RFC 3463 §3.8: X.7.Z, security or policy)
fn is_about_us(error: &lettre::transport::smtp::Error) -> bool {
    let said = Said(error).to_string();
    ["530", "534", "535", "538"].iter().any(|code| said.starts_with(code)) || said.contains(" 5.7.")
}

/// What a server answered, or what went wrong before it did, in one line.
struct Said<'a>(&'a lettre::transport::smtp::Error);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 300;
        let mut text = String::new();
        if let Some(code) = self.0.status() {
            text = code.to_string();
        }
        let mut cause = std::error::Error::source(self.0);
        if cause.is_none() && text.is_empty() {
            text = self.0.to_string();
        }
        while let Some(error) = cause {
            let said = error.to_string();
            if !text.contains(&said) {
                text = if text.is_empty() { said } else { format!("{text} {said}") };
            }
            cause = error.source();
        }
        let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        let words: String = printable.take(MOST).collect();
        f.write_str(&words.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

/// Without the words that may be a link, or the end of one.
fn without_links(text: &str) -> String {
    let words = text.split(' ').map(|word| if word.contains('/') || word.len() > 40 { "[…]" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(host: &str, security: SmtpSecurity) -> SmtpSettings {
        let login = SmtpLogin { username: "ada".to_owned(), password: Zeroizing::new("s3cr3t".to_owned()) };
        let timeout = Duration::from_secs(600);
        SmtpSettings { host: host.to_owned(), port: None, security, login: Some(login), ca_pem: None, timeout }
    }

    #[test]
    fn a85_mails_do_not_cross_a_network_in_the_clear() {
        for host in ["smtp.example.org", "192.0.2.1", "localhost.example.org", "::2"] {
            let refused = SmtpTransport::new(settings(host, SmtpSecurity::NoneOnThisMachine)).err();
            assert_eq!(refused, Some(NoSmtp::InTheClear), "{host}");
        }
        for host in ["localhost", "127.0.0.1", "127.1.2.3", "::1"] {
            SmtpTransport::new(settings(host, SmtpSecurity::NoneOnThisMachine)).expect(host);
        }
        for host in ["", "smtp://x", "a b", "a\r\nb"] {
            assert_eq!(SmtpTransport::new(settings(host, SmtpSecurity::Tls)).err(), Some(NoSmtp::NotAHost), "{host}");
        }
        let no_pem = SmtpSettings { ca_pem: Some(b"x".to_vec()), ..settings("smtp.example.org", SmtpSecurity::Tls) };
        assert!(matches!(SmtpTransport::new(no_pem), Err(NoSmtp::BadCertificates(_))));
    }

    #[test]
    fn nothing_that_can_be_printed_holds_the_password() {
        let settings = settings("smtp.example.org", SmtpSecurity::StartTls);
        let transport = SmtpTransport::new(settings.clone()).expect("a transport");
        assert_eq!((transport.port, transport.patience), (587, MOST_PATIENCE));
        let printed = format!("{settings:?} {transport:?}");
        assert!(printed.contains("smtp.example.org") && !printed.contains("s3cr3t"), "{printed}");
    }

    #[test]
    fn what_a_server_says_of_a_mail_is_told_without_links() {
        let said = "554 5.7.1 http://a.example/b#c is listed, see docs/x";
        assert_eq!(without_links(said), "554 5.7.1 […] is listed, see […]");
        assert_eq!(without_links(&format!("no {}", "a".repeat(41))), "no […]");
    }
}
