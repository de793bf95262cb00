//! What services ask and what they are told.

use counterfoil_core::authority::{Expiry, TokenOrder};
use counterfoil_core::event::{Limit, RevokedBy, TokenRef};
use counterfoil_core::throttle::{RouteClass, RouteRates};
use counterfoil_core::{
    Abilities, By, ClientName, Error, Event, Identity, Kind, Policy, Refusal, Source, authority::Introspected,
};

use crate::world::{World, answer, refused, text};

fn service(world: &World, abilities: &str) -> Identity {
    let account = world.user(&format!("service-{}", abilities.len()));
    let abilities = Abilities::new(abilities.split(' ').map(|ability| ability.parse().unwrap())).unwrap();
    let order = TokenOrder {
        kind: Kind::Key,
        subject: account.subject,
        client: None,
        name: None,
        abilities,
        metadata: Default::default(),
        expiry: Expiry::Never,
    };
    world.who(&text(&answer(world.authority.issue(order, &By::operator(), world.now())).unwrap()))
}

fn introspect(world: &World, by: &Identity, text: &str) -> Result<Option<Introspected>, Error> {
    answer(world.authority.introspect(by, text, &world.source, world.now()))
}

fn revoke(world: &World, by: &Identity, text: &str) -> Result<(), Error> {
    answer(world.authority.revoke_text(by, text, &world.source, world.now()))
}

#[test]
fn a_service_learns_what_a_live_token_is_and_nothing_of_any_other() {
    let world = World::with_ada();
    let gateway = service(&world, "tokens:introspect");
    let session = world.login("ada");
    let who = world.who(&session);
    let told = introspect(&world, &gateway, &session).unwrap().unwrap();
    assert_eq!((told.id, told.subject.clone(), told.kind), (who.id, who.subject.clone(), Kind::Login));
    assert_eq!(told.username.as_ref().map(|name| name.as_str()), Some("ada"));
    assert_eq!((told.abilities, told.expires_at), (who.abilities.clone(), who.expires_at));

    for nonsense in ["", "cf_", "nonsense", &"x".repeat(100_000)] {
        assert_eq!(introspect(&world, &gateway, nonsense).unwrap(), None);
    }
    world.authority_disables(&who);
    assert_eq!(introspect(&world, &gateway, &session).unwrap(), None);
    answer(world.authority.enable_user(&who.subject, &By::operator(), world.now())).unwrap();
    assert!(introspect(&world, &gateway, &session).unwrap().is_some());
    world.wait(30 * 86_400_000 - 1);
    assert!(introspect(&world, &gateway, &session).unwrap().is_some());
    world.wait(1);
    assert_eq!(introspect(&world, &gateway, &session).unwrap(), None, "at the instant of expiry");
}

#[test]
fn a42_who_lacks_the_ability_is_told_nothing() {
    let world = World::with_ada();
    let session = world.login("ada");
    let who = world.who(&session);
    let (reader, revoker) = (service(&world, "tokens:introspect"), service(&world, "tokens:revoke"));
    for caller in [&who, &revoker] {
        for text in [session.as_str(), "nonsense"] {
            assert!(matches!(refused(introspect(&world, caller, text)), Refusal::AbilityMissing(_)));
        }
    }
    for caller in [&who, &reader] {
        assert!(matches!(refused(revoke(&world, caller, &session)), Refusal::AbilityMissing(_)));
    }
    assert!(world.authenticate(&session).is_ok());
}

#[test]
fn a41_a_service_ends_what_it_is_shown_and_any_other_text_is_fine() {
    let world = World::with_ada();
    let scanner = service(&world, "tokens:revoke");
    let (leaked, kept) = (world.login("ada"), world.login("ada"));
    let rotated = world.rotate(&leaked).unwrap();
    world.happened();
    for unknown in ["", "nonsense", "cf_0123456789"] {
        revoke(&world, &scanner, unknown).unwrap();
    }
    assert!(world.happened().is_empty());
    // An old secret of it is as good as the new one: whoever found it found a leak.
    revoke(&world, &scanner, &leaked).unwrap();
    assert_eq!(refused(world.authenticate(&rotated)), Refusal::TokenRevoked);
    assert!(world.authenticate(&kept).is_ok());
    let told = world.happened();
    assert!(
        matches!(&told[0], Event::TokenRevoked(TokenRef { kind: Kind::Login, .. }, RevokedBy::Service)),
        "{told:?}"
    );
    revoke(&world, &scanner, &leaked).unwrap();
}

#[test]
fn an_introspection_counts_as_a_request_and_is_not_mistaken_for_the_device() {
    let world = World::with_ada();
    let api: ClientName = world.client("api", Policy { throttle: Some("2/m".parse().unwrap()), ..Policy::default() });
    let gateway = service(&world, "tokens:introspect");
    let session = text(&world.login_on(&api).unwrap());
    for _ in 0..2 {
        assert!(introspect(&world, &gateway, &session).unwrap().is_some());
    }
    assert!(matches!(refused(introspect(&world, &gateway, &session)), Refusal::Throttled(_)), "never a no");
    assert!(matches!(refused(world.authenticate(&session)), Refusal::Throttled(_)));
    world.flush();
    world.wait(60_000);
    let (token, _) = answer(world.authority.me(&world.who(&session))).unwrap();
    assert_eq!(token.last_seen.unwrap().source, Source::default());
    assert_eq!(token.first_seen.source, world.source);
}

#[test]
fn each_class_of_routes_has_a_limit_of_its_own() {
    let rates = RouteRates {
        login: Some("2/m".parse().unwrap()),
        api: Some("3/m".parse().unwrap()),
        introspection: Some("1/m".parse().unwrap()),
    };
    let world = World::with(|parts| parts.settings.requests = rates);
    world.user("ada");
    let session = world.login("ada");
    world.login("ada");
    let hit = |limit: RouteClass, refusal: Refusal| {
        let Refusal::LimitHit(Limit::Requests(class), _) = refusal else { panic!("not the limit: {refusal:?}") };
        assert_eq!(class, limit);
    };
    hit(RouteClass::Login, refused(world.try_login("ada", crate::world::PASSWORD, None)));
    hit(RouteClass::Login, refused(world.try_login("nobody", "wrong", None)));

    let who = world.who(&session);
    let request = |who| answer(world.authority.count_request(RouteClass::Api, Some(who), &world.source, world.now()));
    for _ in 0..3 {
        request(&who).unwrap();
    }
    hit(RouteClass::Api, refused(request(&who)));
    let gateway = service(&world, "tokens:introspect");
    request(&gateway).unwrap();

    assert!(introspect(&world, &gateway, &session).unwrap().is_some());
    hit(RouteClass::Introspection, refused(introspect(&world, &gateway, &session)));
    world.wait(60_000);
    assert!(introspect(&world, &gateway, &session).unwrap().is_some());
    request(&who).unwrap();
}

impl World {
    fn authority_disables(&self, who: &Identity) {
        answer(self.authority.disable_user(&who.subject, &By::operator(), self.now())).unwrap();
    }
}
