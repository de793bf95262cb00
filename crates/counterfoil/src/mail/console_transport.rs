//! Mails for whoever sits in front of the program: [`ConsoleTransport`].

use std::io::Write;

use counterfoil_core::mail::{NotSent, Sending};

use super::{Message, Transport};

/// Writes every mail to stderr, links and all: to try things out, where nobody keeps what the program says.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConsoleTransport;

impl Transport for ConsoleTransport {
    fn carry<'a>(&'a self, message: &'a Message) -> Sending<'a> {
        Box::pin(async move {
            let shown = zeroize::Zeroizing::new(format!(
                "\nTo: {}\nSubject: {}\n\n{}\n",
                message.to,
                message.subject,
                message.text.as_str()
            ));
            std::io::stderr().lock().write_all(shown.as_bytes()).map_err(|error| NotSent::Later(error.into()))
        })
    }
}
