//! What every command works with: [`Office`], the deployment opened for one command and the way it answers.

use std::sync::Arc;

use counterfoil::import::Importer;
use counterfoil::tally::Tally;
use counterfoil::{Account, Authority, Counterfoil, Error, Now, Refusal, SubjectId, Token, TokenId};

use crate::config::Config;
use crate::failure::{Failure, causes};
use crate::mail_settings::CurrentMailer;
use crate::output::{self, Output};

/// A deployment opened for one command. A server may be running on the same data: what is changed here holds there at once,
/// because the server asks the same store.
#[derive(Debug)]
pub(crate) struct Office {
    counterfoil: Counterfoil,
    /// The numbers of the keys of the ring, newest first; none without one.
    key_ring_ids: Vec<u32>,
    pub(crate) output: Output,
}

impl Office {
    /// Opens what there is; with `found`, begins a deployment where there is none.
    pub(crate) async fn open(config: &Config, found: bool, output: Output) -> Result<Office, Failure> {
        // What is mailed from here waits for the server.
        let builder = if found { config.begun() } else { config.found() };
        let builder = builder.settings(config.authority.clone()).mail(Arc::new(CurrentMailer::new(None)));
        let (builder, key_ring_ids) = match config.key_ring()? {
            Some(ring) => {
                let ids = ring.ids().collect();
                (builder.key_ring(ring), ids)
            }
            None => (builder, Vec::new()),
        };
        Ok(Office { counterfoil: builder.open().await?, key_ring_ids, output })
    }

    /// What the accounts and their tokens have in common, where these are in Redis.
    pub(crate) fn tally(&self) -> Option<Tally> {
        self.counterfoil.tally()
    }

    pub(crate) fn authority(&self) -> &Arc<Authority> {
        self.counterfoil.authority()
    }

    /// What brings accounts and tokens over from elsewhere.
    pub(crate) fn importer(&self) -> Result<&Importer, Failure> {
        let importer = self.counterfoil.importer();
        importer.ok_or_else(|| {
            Failure::refused("nothing can be imported where tokens are in Redis: accounts and tokens come in one step, into one store")
                .hint("import into the embedded store or PostgreSQL and serve from there, without store.tokens_url: docs/redis.md")
        })
    }

    pub(crate) fn key_ring_ids(&self) -> &[u32] {
        &self.key_ring_ids
    }

    pub(crate) fn now(&self) -> Now {
        self.counterfoil.clock().now()
    }

    /// The account of that name, or a failure that says which name.
    pub(crate) async fn user(&self, name: &str) -> Result<Account, Failure> {
        match self.authority().user(name).await {
            Err(Error::Refused(Refusal::NotFound)) => Err(Failure::refused(format!("there is no user {name}"))
                .hint("`counterfoil user list` shows all there are")),
            answer => Ok(answer?),
        }
    }

    /// The subject that somebody means: an account by its name or, when it is deleted, by its id.
    pub(crate) async fn subject(&self, text: &str) -> Result<SubjectId, Failure> {
        match self.authority().user(text).await {
            Ok(account) => Ok(account.subject),
            Err(Error::Refused(Refusal::NotFound)) => match (text.parse::<TokenId>(), text.parse()) {
                // Ours are UUIDs, as those of tokens are; anything else is more likely a name with a mistake in it.
                (Ok(_), Ok(subject)) => Ok(subject),
                _ => Err(Failure::refused(format!("there is no user {text}"))
                    .hint("`counterfoil user list` shows all there are; a deleted one goes by their id")),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// The account of a subject, if we keep one.
    pub(crate) async fn account(&self, subject: &SubjectId) -> Result<Option<Account>, Failure> {
        match self.authority().account(subject).await {
            Ok(account) => Ok(Some(account)),
            // A host's own subject, or deleted.
            Err(Error::Refused(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whom a token stands for, by name where there is an account, for people to read.
    pub(crate) async fn owner(&self, token: &Token) -> Result<Option<Account>, Failure> {
        self.account(&token.subject).await
    }

    /// Closes it. What ends tokens is done even where the audit log cannot be written; then somebody has to know.
    pub(crate) async fn close(self) {
        if let Err(error) = self.authority().flush(self.now()).await {
            let text = format!("warning: what was done is not in the audit log: {}", causes(&error));
            output::remark(&text);
        }
        self.counterfoil.shutdown().await;
    }
}
