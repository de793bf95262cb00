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

/// Which client: by what people call it, or by its name in the store, which stays when it is renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhichClient<'a> {
    /// By its name.
    Named(&'a ClientName),
    /// By its id.
    Id(ClientId),
}

impl<'a> From<&'a ClientName> for WhichClient<'a> {
    fn from(name: &'a ClientName) -> WhichClient<'a> {
        WhichClient::Named(name)
    }
}

impl From<ClientId> for WhichClient<'_> {
    fn from(id: ClientId) -> Self {
        WhichClient::Id(id)
    }
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

    /// Registers an application, or brings it to these rules where there is one of that name: for a dialect whose settings say what
    /// holds for all its tokens.
    ///
    /// # Errors
    /// As [`Authority::create_client`], but never [`Refusal::ClientNameTaken`].
    pub async fn settle_client(&self, order: ClientOrder, by: &By, now: Now) -> Result<Arc<Client>, Error> {
        match self.tokens.client(&order.name).await? {
            Some(client) if client.policy == order.policy && client.allow_login == order.allow_login => Ok(client),
            Some(_) => self.update_client(&order.name.clone(), |_| Ok(order.clone()), by, now).await,
            None => match self.create_client(order.clone(), by, now).await {
                // Another node was faster, and has the same settings or will be told so.
                Err(Error::Refused(Refusal::ClientNameTaken)) => self.client(&order.name).await,
                made => made,
            },
        }
    }

    /// That client.
    ///
    /// # Errors
    /// [`Refusal::ClientUnknown`] for a name, [`Refusal::NotFound`] for an id.
    pub async fn client(&self, which: impl Into<WhichClient<'_>>) -> Result<Arc<Client>, Error> {
        match which.into() {
            WhichClient::Named(name) => Ok(self.tokens.client(name).await?.ok_or(Refusal::ClientUnknown)?),
            WhichClient::Id(id) => {
                let clients = self.tokens.clients().await?;
                Ok(clients.into_iter().find(|client| client.id == id).ok_or(Refusal::NotFound)?)
            }
        }
    }

    /// Every client, by name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn clients(&self) -> Result<Vec<Arc<Client>>, Error> {
        Ok(self.tokens.clients().await?)
    }

    /// Changes that client to what `change` makes of it; called again if someone else was faster. Tokens issued
    /// before keep the expiry they have; renewals follow the new rules.
    ///
    /// # Errors
    /// As [`Authority::client`]; [`Refusal::ClientNameTaken`], and what [`Authority::create_client`] refuses.
    pub async fn update_client(
        &self,
        which: impl Into<WhichClient<'_>>,
        change: impl Fn(&Client) -> Result<ClientOrder, Refusal>,
        by: &By,
        now: Now,
    ) -> Result<Arc<Client>, Error> {
        by.must_be_admin()?;
        let which = which.into();
        for _ in 0..ATTEMPTS {
            let client = self.client(which).await?;
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
    /// As [`Authority::client`]; [`Refusal::ClientNeeded`].
    pub async fn delete_client(&self, which: impl Into<WhichClient<'_>>, by: &By, now: Now) -> Result<(), Error> {
        by.must_be_admin()?;
        let client = self.client(which).await?;
        if client.name == ClientName::default_client() {
            return Err(Refusal::ClientNeeded.into());
        }
        if !self.tokens.delete_client(client.id, now.wall).await? {
            return Err(Refusal::ClientUnknown.into());
        }
        self.record(Event::ClientDeleted(client.name.clone()), by, now).await
    }

    fn check_policy(&self, policy: &Policy) -> Result<(), Refusal> {
        policy.check()?;
        if policy.reissue == Reissue::Same && self.chosen().ring.is_none() {
            return Err(Refusal::KeyRingMissing);
        }
        Ok(())
    }
}
