//! What the stories act in: an authority on the memory store, with a clock that stands still.
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};
use std::time::Duration;

use counterfoil_core::account::{Account, NewAccount};
use counterfoil_core::authority::{ClientOrder, LoggedIn, NewKey};
use counterfoil_core::cache::Cache;
use counterfoil_core::event::Occurrence;
use counterfoil_core::hashing::OnThisThread;
use counterfoil_core::import::Importer;
use counterfoil_core::password::{HashingParams, Password};
use counterfoil_core::{
    Authority, By, ClientName, Clock, Error, Event, EventSink, Identity, Issued, Lifetime, Login, ManualClock,
    MemoryStore, Now, Parts, Policy, Refusal, Settings, Source, Timestamp, TokenName, UserAgent,
    entropy::PredictableEntropy,
};

const CACHED: NonZeroUsize = NonZeroUsize::new(1_000).unwrap();
pub(crate) const START: Timestamp = Timestamp::from_millis(1_795_172_400_000);
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// Waits on this thread: the memory store answers at once, but racers take turns.
pub(crate) fn answer<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> Refusal {
    match result {
        Err(Error::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[derive(Debug, Default)]
pub(crate) struct Recorder(pub(crate) Mutex<Vec<Occurrence>>);

impl EventSink for Recorder {
    fn publish(&self, occurrence: &Occurrence) {
        self.0.lock().unwrap().push(occurrence.clone());
    }
}

pub(crate) struct World {
    pub(crate) authority: Arc<Authority>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) clock: ManualClock,
    pub(crate) events: Arc<Recorder>,
    pub(crate) source: Source,
}

pub(crate) fn parts(store: &Arc<MemoryStore>, events: &Arc<Recorder>) -> Parts {
    Parts {
        tokens: store.clone(),
        accounts: store.clone(),
        audit: Some(store.clone()),
        mail: None,
        hashing: Arc::new(OnThisThread),
        entropy: Arc::new(PredictableEntropy::from_seed(1)),
        events: events.clone(),
        hook: None,
        ring: None,
        settings: Settings { hashing: HashingParams::insecure_for_tests(), ..Settings::default() },
    }
}

impl World {
    pub(crate) fn new() -> World {
        World::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Parts)) -> World {
        let store = Arc::new(MemoryStore::new());
        let events = Arc::new(Recorder::default());
        let mut parts = parts(&store, &events);
        change(&mut parts);
        let clock = ManualClock::at(START);
        let authority = answer(Authority::open(parts, clock.now())).unwrap();
        // Every story is told with the cache, which must change nothing.
        let authority = authority.with_cache(Cache::new(CACHED, &PredictableEntropy::from_seed(2)).unwrap());
        let source = Source { ip: Some(IpAddr::from([192, 0, 2, 7])), user_agent: UserAgent::cut(b"curl/8") };
        World { authority: Arc::new(authority), store, clock, events, source }
    }

    /// The same with what brings things into it.
    pub(crate) fn importing(change: impl FnOnce(&mut Parts)) -> (World, Importer) {
        let world = World::with(change);
        let importer = Importer::new(world.authority.clone(), world.store.clone());
        (world, importer)
    }

    /// Another process on the same store.
    pub(crate) fn another(&self) -> Authority {
        answer(Authority::open(parts(&self.store, &self.events), self.now())).unwrap()
    }

    pub(crate) fn with_ada() -> World {
        let world = World::new();
        world.user("ada");
        world
    }

    pub(crate) fn by(&self) -> By {
        By::operator_from(self.source.clone())
    }

    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    pub(crate) fn wait(&self, millis: u64) {
        self.clock.advance(Duration::from_millis(millis));
    }

    pub(crate) fn user(&self, name: &str) -> Account {
        let new = NewAccount::named(name.parse().unwrap());
        answer(self.authority.create_user(new, Some(password(PASSWORD)), &self.by(), self.now())).unwrap()
    }

    pub(crate) fn client(&self, name: &str, policy: Policy) -> ClientName {
        let name: ClientName = name.parse().unwrap();
        let order = ClientOrder { policy, ..ClientOrder::named(name.clone()) };
        answer(self.authority.create_client(order, &self.by(), self.now())).unwrap();
        name
    }

    pub(crate) fn try_login(&self, username: &str, text: &str, client: Option<&ClientName>) -> Result<LoggedIn, Error> {
        let login = Login {
            username: username.to_owned(),
            password: password(text),
            client: client.cloned(),
            name: TokenName::cut("laptop"),
        };
        answer(self.authority.login(login, &self.source, self.now()))
    }

    pub(crate) fn login(&self, username: &str) -> String {
        text(&self.try_login(username, PASSWORD, None).unwrap().issued)
    }

    pub(crate) fn login_on(&self, client: &ClientName) -> Result<Issued, Error> {
        self.try_login("ada", PASSWORD, Some(client)).map(|logged_in| logged_in.issued)
    }

    pub(crate) fn authenticate(&self, text: &str) -> Result<Identity, Error> {
        answer(self.authority.follow(self.now())).unwrap();
        answer(self.authority.authenticate(text, &self.source, self.now()))
    }

    pub(crate) fn who(&self, text: &str) -> Identity {
        self.authenticate(text).unwrap()
    }

    pub(crate) fn renew(&self, text: &str) -> Result<Option<Timestamp>, Error> {
        answer(self.authority.renew(text, &self.source, self.now())).map(|renewed| renewed.expires_at)
    }

    pub(crate) fn rotate(&self, old: &str) -> Result<String, Error> {
        answer(self.authority.rotate(old, &self.source, self.now())).map(|(issued, _)| text(&issued))
    }

    pub(crate) fn key(&self, maker: &str, key: NewKey) -> Result<String, Error> {
        let maker = self.who(maker);
        answer(self.authority.create_key(&maker, key, &self.source, self.now())).map(|issued| text(&issued))
    }

    pub(crate) fn flush(&self) {
        answer(self.authority.flush(self.now())).unwrap();
    }

    pub(crate) fn happened(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.0.lock().unwrap()).into_iter().map(|occurrence| occurrence.event).collect()
    }
}

pub(crate) fn password(text: &str) -> Password {
    Password::new(text).unwrap()
}

pub(crate) fn text(issued: &Issued) -> String {
    issued.secret.expose().to_owned()
}

pub(crate) fn life(text: &str) -> Lifetime {
    text.parse().unwrap()
}

pub(crate) fn any_key() -> NewKey {
    NewKey { name: TokenName::cut("ci"), abilities: None, expires_at: None }
}
