//! What the host's hook before issuing may say, and what becomes of it.

use std::sync::{Arc, Mutex};

use counterfoil_core::authority::{ClientOrder, Expiry, TokenOrder};
use counterfoil_core::event::LoginFailure;
use counterfoil_core::hook::{BeforeIssuing, Intent, Occasion, Ruled, Ruling};
use counterfoil_core::store::TokenQuery;
use counterfoil_core::token::Metadata;
use counterfoil_core::{Abilities, Error, Event, Issued, Kind, Refusal, TokenStore as _};

use crate::world::{PASSWORD, World, answer, any_key, refused, text};

/// Says what it is told to say, and remembers what it was asked.
#[derive(Debug, Clone, Default)]
struct Host(Arc<Mutex<Asked>>);

#[derive(Debug, Default)]
struct Asked {
    /// `None`: it fails.
    says: Option<Ruling>,
    intents: Vec<Intent>,
}

impl BeforeIssuing for Host {
    fn rule(&self, intent: Intent) -> Ruled<'_> {
        let mut asked = self.0.lock().unwrap();
        asked.intents.push(intent);
        let says = asked.says.clone();
        Box::pin(async move { says.ok_or_else(|| "the directory of people is away".into()) })
    }
}

impl Host {
    fn says(&self, ruling: Ruling) {
        self.0.lock().unwrap().says = Some(ruling);
    }

    fn fails(&self) {
        self.0.lock().unwrap().says = None;
    }

    fn asked(&self) -> Vec<Intent> {
        std::mem::take(&mut self.0.lock().unwrap().intents)
    }
}

fn world() -> (World, Host) {
    let host = Host::default();
    host.says(Ruling::Allow);
    let hook = host.clone();
    let world = World::with(|parts| parts.hook = Some(Arc::new(hook)));
    world.user("ada");
    (world, host)
}

fn ordered(world: &World, kind: Kind) -> Result<Issued, Error> {
    let order = TokenOrder {
        kind,
        subject: answer(world.authority.user("ada")).unwrap().subject,
        client: None,
        name: None,
        abilities: Abilities::everything(),
        metadata: Metadata::default(),
        expiry: Expiry::ByPolicy,
    };
    answer(world.authority.issue(order, &world.by(), world.now()))
}

fn count(world: &World) -> usize {
    answer(world.store.list(&TokenQuery { limit: 100, ..TokenQuery::default() })).unwrap().len()
}

#[test]
fn the_host_is_asked_who_what_why_and_from_where_once_for_every_token_that_is_made() {
    let (world, host) = world();
    let login = world.login("ada");
    let key = world.key(&login, any_key()).unwrap();
    ordered(&world, Kind::Login).unwrap();
    let asked = host.asked();
    let why: Vec<_> = asked
        .iter()
        .map(|intent| match &intent.occasion {
            Occasion::Login => "login",
            Occasion::Key { .. } => "key",
            Occasion::Further { .. } => "further",
            Occasion::Order(_) => "order",
        })
        .collect();
    assert_eq!(why, ["login", "key", "order"]);
    for intent in &asked {
        assert_eq!(intent.account.as_ref().map(|account| account.username.as_str()), Some("ada"));
        assert_eq!((intent.client.as_str(), &intent.source), ("default", &world.source));
        assert_eq!(intent.at, world.now().wall);
    }
    // Neither a new secret nor a wrong password makes a token.
    world.rotate(&key).unwrap();
    world.renew(&login).unwrap();
    assert_eq!(refused(world.try_login("ada", "wrong", None)), Refusal::CredentialsRejected);
    assert!(host.asked().is_empty());
}

#[test]
fn what_the_host_refuses_is_not_made_and_its_reason_is_told() {
    let (world, host) = world();
    let login = world.login("ada");
    let (before, reason) = (count(&world), "only\nin the office".to_owned());
    host.says(Ruling::Refuse { reason });
    world.happened();
    let refusal = Refusal::RefusedByHost("onlyin the office".to_owned());
    assert_eq!(refused(world.try_login("ada", PASSWORD, None)), refusal);
    let told = world.happened();
    let why = LoginFailure::Refused(refusal.clone());
    assert!(matches!(&told[1], Event::LoginFailed { why: told, .. } if *told == why), "{told:?}");
    assert_eq!(why.to_string(), "refused by the host: onlyin the office");

    assert_eq!(refused(world.key(&login, any_key())), refusal);
    let told = world.happened();
    assert!(matches!(&told[..], [Event::Refused(_, told)] if *told == refusal), "{told:?}");
    for kind in [Kind::Login, Kind::Key] {
        assert_eq!(refused(ordered(&world, kind)), refusal);
    }
    assert_eq!(count(&world), before);
    // What is there is accepted as ever.
    world.authenticate(&login).unwrap();

    host.says(Ruling::Refuse { reason: "x".repeat(10_000) });
    let long = refused(world.try_login("ada", PASSWORD, None));
    assert_eq!(long, Refusal::RefusedByHost("x".repeat(Ruling::MAX_REASON_CHARS)));
}

#[test]
fn the_client_that_the_host_chooses_is_judged_as_if_it_had_been_named() {
    let (world, host) = world();
    let web = ClientOrder::named("web".parse().unwrap());
    let closed = ClientOrder { allow_login: false, ..ClientOrder::named("closed".parse().unwrap()) };
    for order in [web.clone(), closed.clone()] {
        answer(world.authority.create_client(order, &world.by(), world.now())).unwrap();
    }
    host.says(Ruling::OnClient(web.name.clone()));
    let issued = world.try_login("ada", PASSWORD, None).unwrap().issued;
    assert_eq!(issued.token.client, web.name);
    assert_eq!(world.who(&text(&issued)).client, web.name);
    assert_eq!(ordered(&world, Kind::Key).unwrap().token.client, web.name);

    host.says(Ruling::OnClient(closed.name.clone()));
    assert_eq!(refused(world.try_login("ada", PASSWORD, None)), Refusal::LoginNotAllowed);
    assert_eq!(ordered(&world, Kind::Login).unwrap().token.client, closed.name, "no password, no login");
    host.says(Ruling::OnClient("nowhere".parse().unwrap()));
    assert_eq!(refused(world.try_login("ada", PASSWORD, None)), Refusal::ClientUnknown);
}

#[test]
fn a_host_that_cannot_say_issues_nothing_and_is_not_counted_against_a_right_password() {
    let (world, host) = world();
    let login = world.login("ada");
    let before = count(&world);
    host.fails();
    // More than the guesses that are free.
    for _ in 0..12 {
        assert!(matches!(world.try_login("ada", PASSWORD, None), Err(Error::Hook(_))));
    }
    assert!(matches!(world.key(&login, any_key()), Err(Error::Hook(_))));
    assert!(matches!(ordered(&world, Kind::Login), Err(Error::Hook(_))));
    assert_eq!(count(&world), before);
    host.says(Ruling::Allow);
    world.login("ada");
}
