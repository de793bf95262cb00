//! What every command works with: [`Office`], the deployment opened for one command and the way it answers.

use std::sync::Arc;

use counterfoil::{Account, Authority, Counterfoil, Error, Now, Refusal, Token};

use crate::config::Config;
use crate::failure::Failure;
use crate::output::Output;

/// A deployment opened for one command. A server may be running on the same data: what is changed here holds there at once,
/// because the server asks the same store.
#[derive(Debug)]
pub(crate) struct Office {
    counterfoil: Counterfoil,
    pub(crate) output: Output,
}

impl Office {
    /// Opens what there is; with `found`, begins a deployment where there is none.
    pub(crate) async fn open(config: &Config, found: bool, output: Output) -> Result<Office, Failure> {
        let builder = Counterfoil::builder().settings(config.authority.clone());
        let builder = if found { builder.sqlite(&config.data_dir) } else { builder.existing_sqlite(&config.data_dir) };
        let builder = match config.key_ring()? {
            Some(ring) => builder.key_ring(ring),
            None => builder,
        };
        Ok(Office { counterfoil: builder.open().await?, output })
    }

    pub(crate) fn authority(&self) -> &Arc<Authority> {
        self.counterfoil.authority()
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

    /// Whom a token stands for, by name where there is an account, for people to read.
    pub(crate) async fn owner(&self, token: &Token) -> Result<Option<Account>, Failure> {
        match self.authority().account(&token.subject).await {
            Ok(account) => Ok(Some(account)),
            // A host's own subject, or deleted since the token was read.
            Err(Error::Refused(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) async fn close(self) {
        self.counterfoil.shutdown().await;
    }
}
