//! Where the tests of the store in Redis take place.
#![allow(dead_code, clippy::allow_attributes, reason = "each test uses a part of it")]

use std::sync::{Arc, LazyLock};

use counterfoil_core::client::Reissue;
use counterfoil_core::conformance::wait;
use counterfoil_core::entropy::{Entropy, PredictableEntropy};
use counterfoil_core::secret::DigestScheme;
use counterfoil_core::secret::{Candidates, TokenDigest};
use counterfoil_core::store::{Found, Issue, IssueOutcome, NewClient, Warrant};
use counterfoil_core::token::{Kind, Metadata, Source, Token, TokenId};
use counterfoil_core::{Abilities, CheckKey, Client, ClientId, ClientName, Policy, SubjectId, Timestamp, TokenStore};
use counterfoil_store::redis::{Address, RedisStore};
use tokio::runtime::{Builder, Runtime};

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_795_172_400_000);

pub(crate) fn later(millis: u64) -> Timestamp {
    NOW.plus_millis(millis)
}

/// The runtime that stores live on; tests wait on threads of their own.
pub(crate) static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime"));

/// A store at that URL.
pub(crate) fn connect(url: &str) -> RedisStore {
    try_connect(url, 7).expect("a store")
}

pub(crate) fn try_connect(url: &str, seed: u64) -> Result<RedisStore, counterfoil_core::StoreError> {
    let address: Address = url.parse().expect("an address");
    RUNTIME.block_on(RedisStore::connect(address, Arc::new(PredictableEntropy::from_seed(seed))))
}

/// A store that was opened, with what a test acts on in it.
pub(crate) struct Cellar {
    pub(crate) store: RedisStore,
    pub(crate) entropy: PredictableEntropy,
    pub(crate) ada: SubjectId,
}

impl Cellar {
    pub(crate) fn at(url: &str) -> Cellar {
        Cellar::of(connect(url), 1)
    }

    pub(crate) fn of(store: RedisStore, seed: u64) -> Cellar {
        let entropy = PredictableEntropy::from_seed(seed);
        wait(store.open(&CheckKey::generate(&entropy).expect("entropy"), &default_client(&entropy)));
        let ada: SubjectId = "ada".parse().expect("a subject");
        wait(store.open_subject(&ada, NOW));
        Cellar { store, entropy, ada }
    }

    pub(crate) fn client(&self) -> Arc<Client> {
        wait(self.store.client(&ClientName::default_client())).expect("the default client")
    }

    pub(crate) fn order(&self) -> Issue {
        let client = self.client();
        let mut random = [0; 32];
        self.entropy.fill(&mut random).expect("entropy");
        Issue {
            id: TokenId::generate(NOW, &self.entropy).expect("entropy"),
            kind: Kind::Login,
            subject: self.ada.clone(),
            client: client.id,
            client_version: client.version,
            warrant: Warrant::Operator,
            name: None,
            abilities: Abilities::everything(),
            metadata: Metadata::default(),
            expires_at: Some(later(3_600_000)),
            digest: TokenDigest::from_bytes(random),
            scheme: DigestScheme::Native,
            sealed: None,
            source: Source::default(),
            cap: None,
            reissue: Reissue::New,
        }
    }

    pub(crate) fn issue(&self, issue: &Issue) -> Token {
        let outcome = wait(self.store.issue(issue, NOW));
        let IssueOutcome::Issued { token, .. } = outcome else { panic!("issued nothing: {outcome:?}") };
        *token
    }

    pub(crate) fn issued(&self) -> (Token, TokenDigest) {
        let order = self.order();
        (self.issue(&order), order.digest)
    }

    pub(crate) fn find(&self, digest: TokenDigest) -> Option<Found> {
        wait(self.store.find(&Candidates::Native(digest)))
    }

    /// Whether a request with that token would be let in; an error is no yes.
    pub(crate) fn lets_in(&self, digest: TokenDigest) -> Result<bool, String> {
        use counterfoil_core::SubjectState::Active;
        use counterfoil_core::token::Standing::Live;
        let found = pollster::block_on(self.store.find(&Candidates::Native(digest))).map_err(|error| said(&error))?;
        Ok(found.is_some_and(|found| found.standing(NOW) == Live && found.subject_state == Active))
    }
}

/// An error with its cause.
pub(crate) fn said(error: &counterfoil_core::StoreError) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    format!("{error}: {cause}")
}

pub(crate) fn default_client(entropy: &dyn Entropy) -> NewClient {
    NewClient {
        id: ClientId::generate(NOW, entropy).expect("entropy"),
        name: ClientName::default_client(),
        policy: Policy::default(),
        allow_login: true,
        metadata: Metadata::default(),
        created_at: NOW,
    }
}
