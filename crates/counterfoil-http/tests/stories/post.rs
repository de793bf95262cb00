//! What is mailed: a mailer that keeps its letters, or fails as it is told, and what is in them.

use std::sync::Mutex;

use counterfoil_core::account::{Account, AccountChange};
use counterfoil_core::authority::{ChangeOfAddress, Proof};
use counterfoil_core::language::Languages;
use counterfoil_core::link::Purpose;
use counterfoil_core::mail::{Letter, Mailer, NotSent, Sending};
use counterfoil_core::password::Password;
use counterfoil_core::{By, Clock, Identity, Kind, Source};

use crate::world::{PASSWORD, TestServer};

/// Where the pages of links are, as the operator has it.
pub(crate) const BASE: &str = "https://accounts.example.org/sso";
pub(crate) const NEW_PASSWORD: &str = "thirty-one lighthouses at dusk";

/// Keeps letters, or fails.
#[derive(Debug, Default)]
pub(crate) struct Postbox {
    letters: Mutex<Vec<Letter>>,
    pub(crate) fails: Mutex<bool>,
}

impl Mailer for Postbox {
    fn send(&self, letter: Letter) -> Sending<'_> {
        let fails = *self.fails.lock().unwrap();
        let outcome = if fails { Err(NotSent::Later("the server is away".into())) } else { Ok(()) };
        if outcome.is_ok() {
            self.letters.lock().unwrap().push(letter);
        }
        Box::pin(std::future::ready(outcome))
    }
}

/// What its reader sees of a letter.
#[derive(Debug, Clone)]
pub(crate) struct Mail {
    pub(crate) kind: &'static str,
    pub(crate) to: String,
    pub(crate) languages: String,
    pub(crate) url: String,
}

impl Mail {
    /// The secret at the end of its link.
    pub(crate) fn secret(&self) -> String {
        let (path, secret) = self.url.rsplit_once('/').unwrap();
        assert!(path.starts_with(BASE) && secret.starts_with("cfl_"), "{}", self.url);
        secret.to_owned()
    }
}

impl TestServer {
    /// Sends what is due and hands out what was sent, in the order of the kinds.
    pub(crate) async fn post(&self) -> Vec<Mail> {
        loop {
            let mails = self.authority.claim_mails(16, self.clock.now()).await.unwrap();
            if mails.is_empty() {
                break;
            }
            for mail in mails {
                self.authority.deliver(mail, self.clock.now()).await.unwrap();
            }
        }
        let mut letters = std::mem::take(&mut *self.postbox.letters.lock().unwrap());
        letters.sort_by_key(|letter| letter.kind.name());
        let read = |letter: Letter| Mail {
            kind: letter.kind.name(),
            to: letter.to.to_string(),
            languages: letter.languages.to_string(),
            url: letter.url.as_ref().map_or_else(String::new, |url| url.expose().to_owned()),
        };
        letters.into_iter().map(read).collect()
    }

    /// The one mail of that kind.
    pub(crate) async fn mail(&self, kind: &str) -> Mail {
        let mails = self.post().await;
        let of_kind: Vec<&Mail> = mails.iter().filter(|mail| mail.kind == kind).collect();
        let [mail] = of_kind[..] else { panic!("not one mail of {kind}: {mails:?}") };
        mail.clone()
    }

    /// Gives an account an address.
    pub(crate) async fn addressed(&self, account: &Account, email: &str, confirmed: bool) {
        let now = self.clock.now();
        let change = AccountChange::Email(Some(email.parse().unwrap()), confirmed.then_some(now.wall));
        self.authority.change_user(&account.subject, vec![change], &By::operator(), now).await.unwrap();
    }

    /// Ada with a confirmed address.
    pub(crate) async fn with_addressed_ada() -> (TestServer, Account) {
        let server = TestServer::with_ada().await;
        let ada = server.authority.user("ada").await.unwrap();
        server.addressed(&ada, "ada@example.org", true).await;
        (server, ada)
    }

    /// The secret of a link for that purpose, mailed to the owner of `account`, whose address becomes whatever it takes.
    pub(crate) async fn mailed_link(&self, account: &Account, purpose: Purpose) -> String {
        let (by, now) = (By::operator(), self.clock.now());
        let subject = &account.subject;
        let address = format!("{}@example.org", account.username);
        match purpose {
            Purpose::Reset => {
                self.addressed(account, &address, true).await;
                self.authority.start_reset(subject, &by, now).await.unwrap();
                self.mail("reset_password").await.secret()
            }
            Purpose::Register | Purpose::Confirm => {
                self.addressed(account, &address, false).await;
                self.authority.send_confirmation(subject, &by, now).await.unwrap();
                self.mail("confirm_address").await.secret()
            }
            Purpose::ChangeAddress | Purpose::UndoChange => {
                self.addressed(account, &address, true).await;
                let token = self.issued(account, Kind::Login, "*").await;
                let source = Source::default();
                let who: Identity = self.authority.authenticate(&token.secret, &source, now).await.unwrap();
                let wanted = ChangeOfAddress {
                    email: format!("new-{address}").parse().unwrap(),
                    password: Password::new(PASSWORD).unwrap(),
                    languages: Languages::default(),
                    next: None,
                };
                self.authority.ask_email_change(&who, wanted, &source, now).await.unwrap();
                let change = self.mail("confirm_new_address").await.secret();
                if purpose == Purpose::ChangeAddress {
                    return change;
                }
                self.authority.confirm_email(&change, Proof::Holder(&who), &source, now).await.unwrap();
                self.mail("address_changed").await.secret()
            }
        }
    }
}
