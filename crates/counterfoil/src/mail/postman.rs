//! Who writes letters and hands them to a transport: [`Postman`].

use std::fmt;
use std::sync::Arc;

use counterfoil_core::Clock;
use counterfoil_core::mail::{Letter, Mailer, NotSent, Sending};

use super::{Mailbox, Message, Templates};
use crate::SystemClock;

/// What carries messages to their readers.
pub trait Transport: Send + Sync + fmt::Debug {
    /// Carries one. It has to give up by itself within a minute, and what it says of a failure must not hold the message. The
    /// same message may come twice.
    fn carry<'a>(&'a self, message: &'a Message) -> Sending<'a>;
}

/// Writes each letter in a language of its reader and gives it to a transport.
///
/// ```
/// use std::sync::Arc;
/// use counterfoil::mail::{FileTransport, Postman, Templates};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// let transport = FileTransport::new(directory.path());
/// let postman = Postman::new(Templates::embedded()?, "Example <no-reply@example.org>".parse()?, Arc::new(transport));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Postman {
    templates: Templates,
    from: Mailbox,
    reply_to: Option<Mailbox>,
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
}

impl Postman {
    /// Writes by `templates`, in the name of `from`.
    pub fn new(templates: Templates, from: Mailbox, transport: Arc<dyn Transport>) -> Postman {
        Postman { templates, from, reply_to: None, transport, clock: Arc::new(SystemClock) }
    }

    /// Whom answers go to, if not to whom the mails come from.
    #[must_use]
    pub fn reply_to(self, reply_to: Mailbox) -> Postman {
        Postman { reply_to: Some(reply_to), ..self }
    }

    /// Another clock than the machine's: for tests.
    #[must_use]
    pub fn clock(self, clock: Arc<dyn Clock>) -> Postman {
        Postman { clock, ..self }
    }

    /// What would be sent now.
    ///
    /// # Errors
    /// [`NotSent::Never`] where its template does not work. What it says holds nothing of the letter.
    pub fn write(&self, letter: &Letter) -> Result<Message, NotSent> {
        let now = self.clock.now().wall;
        let written = self.templates.write(letter, now).map_err(|error| NotSent::Never(error.without_why().into()))?;
        Ok(Message {
            id: letter.id,
            from: self.from.clone(),
            reply_to: self.reply_to.clone(),
            to: letter.to.clone(),
            date: now,
            language: written.language,
            subject: written.subject,
            text: written.text,
            html: written.html,
        })
    }
}

impl Mailer for Postman {
    fn send(&self, letter: Letter) -> Sending<'_> {
        Box::pin(async move {
            let message = self.write(&letter)?;
            drop(letter);
            self.transport.carry(&message).await
        })
    }
}

#[cfg(test)]
mod tests {
    use counterfoil_core::language::Languages;
    use counterfoil_core::mail::{LetterUrl, MailId, MailKind};
    use counterfoil_core::{ManualClock, Timestamp};

    use super::super::ConsoleTransport;
    use super::*;

    #[test]
    fn nothing_that_can_be_printed_holds_the_link() {
        let at = Timestamp::from_millis(1_795_260_600_000);
        let letter = Letter {
            id: MailId::from_bytes([7; 16]),
            kind: MailKind::ResetPassword,
            to: "ada@example.org".parse().expect("an address"),
            username: Some("ada".parse().expect("a user name")),
            languages: Languages::default(),
            url: Some(LetterUrl::new("https://auth.example.org/password/reset/s3cr3t".to_owned())),
            site: "Example".to_owned(),
            at,
            expires_at: at.plus_millis(3_600_000),
        };
        let from = "no-reply@example.org".parse().expect("a mailbox");
        let postman = Postman::new(Templates::embedded().expect("templates"), from, Arc::new(ConsoleTransport))
            .clock(Arc::new(ManualClock::at(at)));
        let message = postman.write(&letter).expect("written");
        assert!(message.text.contains("s3cr3t"));
        let printed = format!("{letter:?} {message:?} {:?} {postman:?}", letter.url);
        assert!(!printed.contains("s3cr3t") && !printed.contains("ada@"), "{printed}");
    }
}
