//! Registering applications and changing their rules.

use std::sync::Arc;

use super::Authority;
use crate::actor::By;
use crate::client::{Client, ClientId, ClientName, Policy, Reissue};
use crate::clock::Now;
use crate::event::Event;
use crate::refusal::{Error, Refusal};
use crate::store::{ClientOutcome, ClientUpdate, NewClient, StoreError};
use crate::token::Metadata;

/// How often a change is judged anew when the client changed in between.
const ATTEMPTS: u32 = 8;

/// A client to be made, or what one shall become.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientOrder {
    /// What people call it.
    pub name: ClientName,
    /// Its rules.
    pub policy: Policy,
    /// Whether anyone may log in on it.
    pub allow_login: bool,
}

impl ClientOrder {
    /// A client of that name with the default rules.
    pub fn named(name: ClientName) -> ClientOrder {
        ClientOrder { name, policy: Policy::default(), allow_login: true }
    }
}

impl Authority {
    /// Registers an application.
    ///
    /// # Errors
    /// [`Refusal::ClientNameTaken`]; [`Refusal::Invalid`] for a policy whose parts conflict; [`Refusal::KeyRingMissing`].
    pub async fn create_client(&self, order: ClientOrder, by: &By, now: Now) -> Result<Arc<Client>, Error> {
        by.must_be_admin()?;
        self.check_policy(&order.policy)?;
        let client = NewClient {
            id: ClientId::generate(now.wall, self.entropy.as_ref())?,
            name: order.name,
            policy: order.policy,
            allow_login: order.allow_login,
            metadata: Metadata::default(),
            created_at: now.wall,
        };
        let client = self.tokens.create_client(&client).await?.ok_or(Refusal::ClientNameTaken)?;
        self.record(Event::ClientCreated(client.name.clone()), by, now).await?;
        Ok(client)
    }

    /// The client of that name.
    ///
    /// # Errors
    /// [`Refusal::ClientUnknown`].
    pub async fn client(&self, name: &ClientName) -> Result<Arc<Client>, Error> {
        Ok(self.tokens.client(name).await?.ok_or(Refusal::ClientUnknown)?)
    }

    /// Every client, by name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn clients(&self) -> Result<Vec<Arc<Client>>, Error> {
        Ok(self.tokens.clients().await?)
    }

    /// Changes the client named `name` to what `change` makes of it; called again if someone else was faster. Tokens issued
    /// before keep the expiry they have; renewals follow the new rules.
    ///
    /// # Errors
    /// [`Refusal::ClientUnknown`], [`Refusal::ClientNameTaken`], and what [`Authority::create_client`] refuses.
    pub async fn update_client(
        &self,
        name: &ClientName,
        change: impl Fn(&Client) -> Result<ClientOrder, Refusal>,
        by: &By,
        now: Now,
    ) -> Result<Arc<Client>, Error> {
        by.must_be_admin()?;
        for _ in 0..ATTEMPTS {
            let client = self.client(name).await?;
            let order = change(&client)?;
            self.check_policy(&order.policy)?;
            if client.name == ClientName::default_client() && order.name != client.name {
                return Err(Refusal::ClientNeeded.into());
            }
            let ClientOrder { name, policy, allow_login } = order;
            let update = ClientUpdate { id: client.id, version: client.version, name, policy, allow_login };
            match self.tokens.update_client(&update, now.wall).await? {
                ClientOutcome::Updated(client) => {
                    self.record(Event::ClientChanged(client.name.clone()), by, now).await?;
                    return Ok(client);
                }
                ClientOutcome::Changed => {}
                ClientOutcome::NameTaken => return Err(Refusal::ClientNameTaken.into()),
            }
        }
        Err(StoreError::new("changing a client", "someone else kept changing it").into())
    }

    /// Removes a client and every token of it. The default client stays.
    ///
    /// # Errors
    /// [`Refusal::ClientUnknown`], [`Refusal::ClientNeeded`].
    pub async fn delete_client(&self, name: &ClientName, by: &By, now: Now) -> Result<(), Error> {
        by.must_be_admin()?;
        if *name == ClientName::default_client() {
            return Err(Refusal::ClientNeeded.into());
        }
        let client = self.client(name).await?;
        if !self.tokens.delete_client(client.id, now.wall).await? {
            return Err(Refusal::ClientUnknown.into());
        }
        self.record(Event::ClientDeleted(name.clone()), by, now).await
    }

    fn check_policy(&self, policy: &Policy) -> Result<(), Refusal> {
        policy.check()?;
        if policy.reissue == Reissue::Same && self.chosen().ring.is_none() {
            return Err(Refusal::KeyRingMissing);
        }
        Ok(())
    }
}
