//! Mails: written from [`Templates`], put into envelopes by the [`Postman`] and carried by a [`Transport`].
//!
//! What is told to whom is decided elsewhere and comes as a [`Letter`](crate::Letter). A service that sends its mails another
//! way implements [`Mailer`](crate::Mailer) and needs nothing of this.

mod console_transport;
mod file_transport;
mod message;
mod postman;
#[cfg(feature = "smtp")]
mod smtp_transport;
mod templates;

pub use console_transport::ConsoleTransport;
pub use counterfoil_core::language::is_tag as is_language;
pub use file_transport::FileTransport;
pub use message::{Mailbox, Message, NotAMailbox};
pub use postman::{Postman, Transport};
#[cfg(feature = "smtp")]
pub use smtp_transport::{NoSmtp, SmtpLogin, SmtpSecurity, SmtpSettings, SmtpTransport};
pub use templates::{BadTemplate, Templates};
