//! Somebody else's mailer, held to what it promises: [`WatchedMailer`].

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use counterfoil_core::mail::{Letter, Mailer, NotSent, Sending};
use tokio::time::timeout;

use crate::background::Chain;

/// What a mailer promises, and less than a mail belongs to whoever sends it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A mailer that gives up in time, whose panic is a mail to be tried again, and of whose failures the log tells.
#[derive(Debug)]
pub(crate) struct WatchedMailer {
    mailer: Arc<dyn Mailer>,
    /// Whether the last mail was not taken for now: told when it begins and when it ends, and not for each mail.
    failing: AtomicBool,
}

impl WatchedMailer {
    pub(crate) fn new(mailer: Arc<dyn Mailer>) -> WatchedMailer {
        WatchedMailer { mailer, failing: AtomicBool::new(false) }
    }

    async fn try_to_send(&self, letter: Letter) -> Result<(), NotSent> {
        let panicked = || Err(NotSent::Later(Broken::Panicked.into()));
        let Ok(mut sending) = catch_unwind(AssertUnwindSafe(|| self.mailer.send(letter))) else { return panicked() };
        let sent = poll_fn(|context| {
            let polled = catch_unwind(AssertUnwindSafe(|| sending.as_mut().poll(context)));
            polled.unwrap_or_else(|_| Poll::Ready(panicked()))
        });
        timeout(PATIENCE, sent).await.unwrap_or_else(|_| Err(NotSent::Later(Broken::TooLate.into())))
    }
}

impl Mailer for WatchedMailer {
    fn send(&self, letter: Letter) -> Sending<'_> {
        Box::pin(async move {
            let (id, kind) = (letter.id, letter.kind.name());
            let sent = self.try_to_send(letter).await;
            match &sent {
                Ok(()) => {
                    if self.failing.swap(false, Ordering::Relaxed) {
                        tracing::info!("mails are sent again");
                    }
                }
                Err(NotSent::Later(error)) => {
                    if !self.failing.swap(true, Ordering::Relaxed) {
                        tracing::error!(mail = %id, error = %Chain(error.as_ref()), "mails are not sent; they are tried again");
                    }
                }
                Err(NotSent::Never(error)) => {
                    tracing::warn!(mail = %id, kind, error = %Chain(error.as_ref()), "a mail cannot be sent, and is given up");
                }
            }
            sent
        })
    }
}

/// What a mailer must not do.
#[derive(Debug)]
enum Broken {
    Panicked,
    TooLate,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Broken::Panicked => "the mailer panicked",
            Broken::TooLate => "the mailer took more than a minute",
        })
    }
}

impl Error for Broken {}

#[cfg(test)]
mod tests {
    use counterfoil_core::Timestamp;
    use counterfoil_core::language::Languages;
    use counterfoil_core::mail::{MailId, MailKind};

    use super::*;

    /// A mailer whose manners are chosen when it is made.
    #[derive(Debug)]
    enum Host {
        Kind,
        PanicsAtOnce,
        PanicsLater,
        NeverAnswers,
    }

    impl Mailer for Host {
        fn send(&self, letter: Letter) -> Sending<'_> {
            match self {
                Host::PanicsAtOnce => panic!("no mail today"),
                Host::Kind | Host::PanicsLater | Host::NeverAnswers => {}
            }
            Box::pin(async move {
                tokio::task::yield_now().await;
                drop(letter);
                match self {
                    Host::Kind | Host::PanicsAtOnce => Ok(()),
                    Host::PanicsLater => panic!("no mail tomorrow"),
                    Host::NeverAnswers => std::future::pending().await,
                }
            })
        }
    }

    async fn outcome(host: Host) -> Result<(), String> {
        let letter = Letter {
            id: MailId::from_bytes([7; 16]),
            kind: MailKind::Test,
            to: "ada@example.org".parse().expect("an address"),
            username: None,
            languages: Languages::default(),
            url: None,
            site: "Example".to_owned(),
            at: Timestamp::MIN,
            expires_at: Timestamp::MIN,
        };
        match WatchedMailer::new(Arc::new(host)).send(letter).await {
            Ok(()) => Ok(()),
            Err(NotSent::Later(error)) => Err(error.to_string()),
            Err(NotSent::Never(error)) => panic!("{error}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_mailer_that_panics_or_never_answers_is_asked_again_later() {
        assert_eq!(outcome(Host::Kind).await, Ok(()));
        assert_eq!(outcome(Host::PanicsAtOnce).await, Err("the mailer panicked".to_owned()));
        assert_eq!(outcome(Host::PanicsLater).await, Err("the mailer panicked".to_owned()));
        assert_eq!(outcome(Host::NeverAnswers).await, Err("the mailer took more than a minute".to_owned()));
    }
}
