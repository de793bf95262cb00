//! What is answered from memory, and for how long.

use std::num::NonZeroUsize;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use counterfoil_core::account::Role;
use counterfoil_core::authority::{ClientOrder, Ending, Recalling};
use counterfoil_core::cache::Cache;
use counterfoil_core::entropy::PredictableEntropy;
use counterfoil_core::lease::LEASE_MILLIS;
use counterfoil_core::store::TokenFilter;
use counterfoil_core::subject::SubjectState;
use counterfoil_core::{AtCap, Authority, Cap, Client, Error, Identity, Policy, Refusal, Renewal, TokenStore};

use crate::world::{World, answer, parts, refused, text};

/// Another node on the same stores.
fn another_node(world: &World) -> Authority {
    let node = answer(Authority::open(parts(&world.store, &world.events), world.now())).unwrap();
    let cache = Cache::new(NonZeroUsize::new(100).unwrap(), &PredictableEntropy::from_seed(3)).unwrap();
    node.with_cache(cache)
}

fn follow(world: &World, node: &Authority) {
    answer(node.follow(world.now())).unwrap();
}

/// What is said at once, if anything is.
fn at_once(world: &World, node: &Authority, text: &str) -> Option<Result<Identity, Error>> {
    node.try_cached(text, &world.source, world.now())
}

fn asked(world: &World, node: &Authority, text: &str) -> Result<Identity, Error> {
    answer(node.authenticate(text, &world.source, world.now()))
}

#[test]
fn a_token_that_was_asked_for_is_known_until_the_lease_ends() {
    let world = World::with_ada();
    let token = world.login("ada");
    follow(&world, &world.authority);
    assert!(at_once(&world, &world.authority, &token).is_none());
    let who = asked(&world, &world.authority, &token).unwrap();
    assert_eq!(at_once(&world, &world.authority, &token).unwrap().unwrap(), who);
    world.wait(LEASE_MILLIS - 1);
    assert!(at_once(&world, &world.authority, &token).is_some());
    world.wait(1);
    assert!(at_once(&world, &world.authority, &token).is_none());
    assert!(asked(&world, &world.authority, &token).is_ok(), "the store says so");
    follow(&world, &world.authority);
    assert!(at_once(&world, &world.authority, &token).is_some());
}

#[test]
fn a09_after_a_logout_on_one_node_another_refuses_within_the_lease() {
    let world = World::with_ada();
    let other = another_node(&world);
    let token = world.login("ada");
    follow(&world, &world.authority);
    follow(&world, &other);
    for node in [&world.authority, &other] {
        asked(&world, node, &token).unwrap();
        assert!(at_once(&world, node, &token).is_some());
    }
    let who = asked(&world, &world.authority, &token).unwrap();
    answer(world.authority.logout(&who, &world.source, world.now())).unwrap();
    // Here at once; there at the latest when the lease ends, though it hears nothing.
    assert_eq!(refused(asked(&world, &world.authority, &token)), Refusal::TokenRevoked);
    world.wait(LEASE_MILLIS);
    assert_eq!(refused(asked(&world, &other, &token)), Refusal::TokenRevoked);
}

#[test]
fn a09_a_node_that_follows_refuses_as_soon_as_it_has_asked() {
    let world = World::with_ada();
    let other = another_node(&world);
    let token = world.login("ada");
    follow(&world, &other);
    asked(&world, &other, &token).unwrap();
    let who = world.who(&token);
    answer(world.authority.logout(&who, &world.source, world.now())).unwrap();
    follow(&world, &other);
    assert_eq!(refused(asked(&world, &other, &token)), Refusal::TokenRevoked);
    // A token of a look-up from before does not come back: it is read as revoked now.
    assert_eq!(refused(asked(&world, &other, &token)), Refusal::TokenRevoked);
}

#[test]
fn a05_every_way_to_end_tokens_holds_here_before_it_is_acknowledged() {
    type End = fn(&World, &Identity);
    let ways: [(&str, End); 12] = [
        ("its client's end", |world, who| {
            answer(world.authority.delete_client(&who.client, &world.by(), world.now())).unwrap();
        }),
        ("what it has in common with others", |world, who| {
            let filter = TokenFilter::of(who.subject.clone());
            assert_eq!(answer(world.authority.revoke_matching(&filter, &world.by(), world.now())).unwrap(), 1);
        }),
        ("a promotion", |world, who| {
            answer(world.authority.set_role(&who.subject, Role::Staff, &world.by(), world.now())).unwrap();
        }),
        ("the operator's word", |world, who| {
            answer(world.authority.revoke_any(who.id, &world.by(), world.now())).unwrap();
        }),
        ("logout", |world, who| answer(world.authority.logout(who, &world.source, world.now())).unwrap()),
        ("logout everywhere", |world, who| {
            answer(world.authority.logout_all(who, &world.source, world.now())).unwrap();
        }),
        ("disabling", |world, who| {
            answer(world.authority.disable_user(&who.subject, &world.by(), world.now())).unwrap();
        }),
        ("deleting", |world, who| {
            answer(world.authority.delete_user(&who.subject, &world.by(), world.now())).unwrap();
        }),
        ("another password", |world, who| {
            let password = crate::world::password("another correct horse");
            answer(world.authority.set_password(&who.subject, password, &world.by(), world.now())).unwrap();
        }),
        ("its client's tokens", |world, who| {
            let ending = Ending::Client((&who.client).into());
            answer(world.authority.end(ending, &world.by(), world.now())).unwrap();
        }),
        ("everybody's tokens", |world, _| {
            answer(world.authority.end(Ending::Everybody, &world.by(), world.now())).unwrap();
        }),
        ("the host's own change", |world, who| {
            let changed = world.store.set_subject_state(&who.subject, SubjectState::Disabled, world.now().wall);
            answer(changed).unwrap();
            // Past the authority, as another process would: it is taken in with the next look.
            follow(world, &world.authority);
        }),
    ];
    for (way, end) in ways {
        let world = World::with_ada();
        let client = world.client("web", Policy::default());
        let token = text(&world.login_on(&client).unwrap());
        let who = world.who(&token);
        assert!(at_once(&world, &world.authority, &token).is_some(), "{way}");
        end(&world, &who);
        assert!(at_once(&world, &world.authority, &token).is_none(), "{way}");
        assert!(asked(&world, &world.authority, &token).is_err(), "{way}");
    }
}

#[test]
fn a_login_that_evicts_another_ends_it_here_at_once() {
    let world = World::with_ada();
    let cap = Cap { limit: 1.try_into().unwrap(), at_cap: AtCap::EvictOldest };
    let client = world.client("phone", Policy { cap: Some(cap), ..Policy::default() });
    let first = text(&world.login_on(&client).unwrap());
    world.who(&first);
    assert!(at_once(&world, &world.authority, &first).is_some());
    let second = text(&world.login_on(&client).unwrap());
    assert!(at_once(&world, &world.authority, &first).is_none());
    assert_eq!(refused(asked(&world, &world.authority, &first)), Refusal::TokenRevoked);
    assert!(asked(&world, &world.authority, &second).is_ok());
}

#[test]
fn a_changed_policy_takes_effect_with_the_next_request() {
    let world = World::with_ada();
    let client = world.client("web", Policy::default());
    let token = text(&world.login_on(&client).unwrap());
    world.who(&token);
    assert!(at_once(&world, &world.authority, &token).is_some());
    let throttled = Policy { throttle: Some("1/m".parse().unwrap()), ..Policy::default() };
    let order = |_: &Client| Ok(ClientOrder { policy: throttled.clone(), ..ClientOrder::named(client.clone()) });
    answer(world.authority.update_client(&client, order, &world.by(), world.now())).unwrap();
    assert!(asked(&world, &world.authority, &token).is_ok());
    assert!(matches!(refused(asked(&world, &world.authority, &token)), Refusal::Throttled(_)));
    // From memory as well: the count is the same.
    world.wait(60_000);
    follow(&world, &world.authority);
    assert!(asked(&world, &world.authority, &token).is_ok());
    let known = at_once(&world, &world.authority, &token).expect("known");
    assert!(matches!(refused(known), Refusal::Throttled(_)));
}

#[test]
fn a20_neither_expiry_nor_renewal_is_passed_over_from_memory() {
    let world = World::with_ada();
    let short = world.client("short", Policy { ttl: Some("500s".parse().unwrap()), ..Policy::default() });
    let token = text(&world.login_on(&short).unwrap());
    world.who(&token);
    world.wait(499_999);
    world.who(&token);
    assert!(at_once(&world, &world.authority, &token).is_some());
    world.wait(1);
    follow(&world, &world.authority);
    assert!(at_once(&world, &world.authority, &token).is_none());
    assert_eq!(refused(asked(&world, &world.authority, &token)), Refusal::TokenExpired);

    let renewal = Renewal::OnUse { at_most_every: "10s".parse().unwrap() };
    let sliding = Policy { ttl: Some("60s".parse().unwrap()), renewal, ..Policy::default() };
    let sliding = world.client("sliding", sliding);
    let token = text(&world.login_on(&sliding).unwrap());
    // In use every five seconds for ten minutes, it never dies, and is answered from memory in between.
    let mut known = 0;
    for _ in 0..120 {
        world.wait(5_000);
        world.who(&token);
        known += usize::from(at_once(&world, &world.authority, &token).is_some());
        answer(world.authority.flush(world.now())).unwrap();
    }
    assert!(known >= 60, "{known}");
    world.wait(60_000);
    assert_eq!(refused(world.authenticate(&token)), Refusal::TokenExpired);
}

#[test]
fn s1_racers_never_hear_yes_after_they_heard_of_the_revocation() {
    let world = World::with_ada();
    for _ in 0..200 {
        let token = world.login("ada");
        let who = world.who(&token);
        let (begin, acknowledged) = (Barrier::new(4), AtomicBool::new(false));
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    begin.wait();
                    for _ in 0..200 {
                        let told = acknowledged.load(Ordering::SeqCst);
                        let heard = asked(&world, &world.authority, &token);
                        assert!(!(told && heard.is_ok()), "a yes after the acknowledgement");
                    }
                });
            }
            begin.wait();
            answer(world.authority.logout(&who, &world.source, world.now())).unwrap();
            acknowledged.store(true, Ordering::SeqCst);
        });
    }
}

#[test]
fn a_node_tells_how_far_behind_the_store_it_may_be_until_it_asks_the_store_for_everything() {
    let world = World::with_ada();
    let node = another_node(&world);
    assert_eq!(node.recalling(world.now()), None, "nothing was asked yet");
    let token = world.login("ada");
    let who = world.who(&token);
    follow(&world, &node);
    let before = node.recalling(world.now()).unwrap();
    answer(world.authority.logout(&who, &world.source, world.now())).unwrap();
    world.wait(LEASE_MILLIS - 1);
    assert_eq!(node.recalling(world.now()), Some(Recalling { age_millis: LEASE_MILLIS - 1, ..before }));
    world.wait(1);
    assert_eq!(node.recalling(world.now()), None);
    follow(&world, &node);
    let after = Recalling { change: before.change + 1, age_millis: 0 };
    assert_eq!(node.recalling(world.now()), Some(after));
    node.stop_recalling();
    assert_eq!(node.recalling(world.now()), None);
}
