//! For the tests of a service: [`TestCounterfoil`].

use std::num::NonZeroUsize;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use counterfoil_core::authority::TokenOrder;
use counterfoil_core::password::HashingParams;
use counterfoil_core::token::{Issued, Source};
use counterfoil_core::{ManualClock, Settings, Timestamp};

use crate::{Builder, Counterfoil, HashingCapacity};

/// A [`Counterfoil`] for tests: in memory, with a clock that stands still until it is told to move, and passwords hashed in
/// next to no time. It is made by [`Counterfoil::for_tests`], and is used wherever a [`Counterfoil`] is.
#[derive(Debug, Clone)]
pub struct TestCounterfoil {
    counterfoil: Counterfoil,
    clock: Arc<ManualClock>,
}

impl Counterfoil {
    /// One for the tests of a service, with made-up users in one line each:
    ///
    /// ```
    /// use std::time::Duration;
    /// use counterfoil::{Counterfoil, Error, Refusal, Source};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let counterfoil = Counterfoil::for_tests().await;
    /// let token = counterfoil.token_for("ada").await;
    ///
    /// let here = Source::default();
    /// assert_eq!(counterfoil.identify(&token, &here).await.expect("live").subject.as_str(), "ada");
    ///
    /// // The clock is the test's: thirty days later, at the very instant, it has expired.
    /// counterfoil.advance(Duration::from_secs(30 * 24 * 60 * 60));
    /// let refused = counterfoil.identify(&token, &here).await;
    /// assert!(matches!(refused, Err(Error::Refused(Refusal::TokenExpired))));
    /// # }
    /// ```
    ///
    /// # Panics
    /// When the system gives no threads, and outside of a tokio runtime.
    pub async fn for_tests() -> TestCounterfoil {
        Counterfoil::builder().for_tests().await
    }
}

impl Builder {
    /// As [`Counterfoil::for_tests`], with everything else as it was said here: a hook, subscribers, accounts.
    ///
    /// # Panics
    /// When the system gives no threads, and outside of a tokio runtime.
    pub async fn for_tests(self) -> TestCounterfoil {
        let clock = Arc::new(ManualClock::at(TestCounterfoil::BEGINNING));
        let settings = Settings { hashing: HashingParams::insecure_for_tests(), ..Settings::default() };
        let one = HashingCapacity { threads: NonZeroUsize::MIN, ..HashingCapacity::default() };
        let builder = self.memory().settings(settings).hashing(one).clock(Arc::clone(&clock) as _);
        let counterfoil = builder.start().await.expect("in memory nothing fails but the start of threads");
        TestCounterfoil { counterfoil, clock }
    }
}

impl TestCounterfoil {
    /// The instant at which every test begins, 2027-01-15T08:00:00Z.
    pub const BEGINNING: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    /// A live login token of a made-up user: its text, as a client sends it. The subject is the name.
    ///
    /// # Panics
    /// When `name` is no subject, or a hook of yours refuses it.
    pub async fn token_for(&self, name: &str) -> String {
        self.issued_to(TokenOrder::login(name.parse().expect("a name of at most 64 bytes")))
            .await
            .secret
            .expose()
            .to_owned()
    }

    /// Whatever token is wanted: an API key with abilities, one on another client.
    ///
    /// # Panics
    /// When the order is refused.
    pub async fn issued_to(&self, order: TokenOrder) -> Issued {
        self.create_token(order, &Source::default()).await.expect("a token that may be made")
    }

    /// Lets time go by.
    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// The clock, to be set as the test likes.
    pub fn manual_clock(&self) -> &ManualClock {
        &self.clock
    }
}

impl Deref for TestCounterfoil {
    type Target = Counterfoil;

    fn deref(&self) -> &Counterfoil {
        &self.counterfoil
    }
}
