//! What dialects ask for that no native route does.

use counterfoil_core::authority::{Claim, ClientOrder, FurtherLogin, LoginTerms, Others, Spelling};
use counterfoil_core::client::{Reissue, Renewal};
use counterfoil_core::event::LoginFailure;
use counterfoil_core::seal::KeyRing;
use counterfoil_core::shape::{HexShape, TokenShape};
use counterfoil_core::subject::SubjectState;
use counterfoil_core::{ClientName, Error, Event, Identity, Issued, Policy, Refusal};

use crate::world::{PASSWORD, World, answer, life, password, refused, text};

fn hex(digits: usize) -> TokenShape {
    TokenShape::Hex(HexShape::new("", digits).unwrap())
}

fn claim(username: &str, text: &str) -> Claim {
    let (username, client) = (username.to_owned(), ClientName::default_client());
    Claim { username, spelled: Spelling::Exact, password: password(text), client }
}

fn log_in(world: &World, client: &ClientName) -> Result<Issued, Error> {
    let proven = answer(world.authority.prove(claim("ada", PASSWORD), &world.source, world.now()))?;
    let terms = LoginTerms { client: client.clone(), name: None, shape: hex(64) };
    answer(world.authority.log_in(proven, terms)).map(|logged_in| logged_in.issued)
}

fn further(world: &World, holder: &str, client: &ClientName, others: Others) -> Result<Issued, Error> {
    let who = world.authenticate(holder)?;
    let further = FurtherLogin { client: client.clone(), name: None, shape: hex(40), others };
    answer(world.authority.log_in_further(&who, further, &world.source, world.now()))
}

fn same() -> Policy {
    Policy { reissue: Reissue::Same, ..Policy::default() }
}

fn with_ring() -> World {
    let world = World::with(|parts| {
        let ring = KeyRing::generate(parts.entropy.as_ref()).unwrap();
        parts.ring = Some(ring);
    });
    world.user("ada");
    world
}

#[test]
fn a62_a_name_that_is_read_exactly_is_one_accounts_in_one_spelling() {
    let world = World::with_ada();
    for other in ["Ada", " ada", "ada ", "ａda", "ada@example.org", ""] {
        let refusal = refused(answer(world.authority.prove(claim(other, PASSWORD), &world.source, world.now())));
        assert_eq!(refusal, Refusal::CredentialsRejected, "{other:?}");
    }
    let proven = answer(world.authority.prove(claim("ada", PASSWORD), &world.source, world.now())).unwrap();
    assert_eq!(proven.account().username.as_str(), "ada");
    let refusal = refused(answer(world.authority.prove(claim("nobody", PASSWORD), &world.source, world.now())));
    assert_eq!(refusal, Refusal::CredentialsRejected);
}

#[test]
fn a_right_password_that_is_declined_gives_no_token_and_counts_as_no_failure() {
    let world = World::with_ada();
    for _ in 0..30 {
        let proven = answer(world.authority.prove(claim("ada", PASSWORD), &world.source, world.now())).unwrap();
        answer(world.authority.decline(proven, Refusal::LoginNotAllowed)).unwrap();
        let unknown = "nowhere".parse().unwrap();
        assert_eq!(refused(log_in(&world, &unknown)), Refusal::ClientUnknown);
        world.wait(60_000);
    }
    world.happened();
    let proven = answer(world.authority.prove(claim("ada", PASSWORD), &world.source, world.now())).unwrap();
    answer(world.authority.decline(proven, Refusal::LoginNotAllowed)).unwrap();
    let told = world.happened();
    assert!(
        matches!(
            &told[..],
            [
                Event::LoginStarted { .. },
                Event::LoginFailed { why: LoginFailure::Refused(Refusal::LoginNotAllowed), .. }
            ]
        ),
        "{told:?}"
    );
}

#[test]
fn what_happens_between_the_proof_and_the_login_wins() {
    let world = World::with_ada();
    let subject = answer(world.authority.user("ada")).unwrap().subject;
    log_in(&world, &ClientName::default_client()).unwrap();
    let proven = answer(world.authority.prove(claim("ada", PASSWORD), &world.source, world.now())).unwrap();
    let by = world.by();
    answer(world.authority.set_subject_state(&subject, SubjectState::Disabled, &by, world.now())).unwrap();
    let terms = LoginTerms { client: ClientName::default_client(), name: None, shape: hex(64) };
    assert_eq!(refused(answer(world.authority.log_in(proven, terms))), Refusal::CredentialsRejected);
}

#[test]
fn a_token_in_a_packages_shape_is_a_token_like_any_other() {
    let world = with_ring();
    let client = world.client("web", same());
    let token = text(&log_in(&world, &client).unwrap());
    assert!(token.len() == 64 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{token}");
    assert_eq!(world.who(&token).client, client);
    assert_eq!(text(&log_in(&world, &client).unwrap()), token, "reissue = same");
}

#[test]
fn a_further_login_leaves_the_others_ends_them_or_must_be_alone() {
    let world = with_ring();
    let (web, api) = (world.client("web", Policy::default()), world.client("api", same()));
    let one = text(&log_in(&world, &web).unwrap());
    let two = text(&further(&world, &one, &web, Others::AsPolicySays).unwrap());
    assert_eq!(two.len(), 40);
    assert!(world.authenticate(&one).is_ok() && world.authenticate(&two).is_ok());

    let only = text(&further(&world, &one, &api, Others::None).unwrap());
    assert_eq!(refused(further(&world, &one, &api, Others::None)), Refusal::CapReached { limit: 1 });
    assert_eq!(text(&log_in(&world, &api).unwrap()), only, "a login gives the same again");

    let three = text(&further(&world, &one, &web, Others::End).unwrap());
    for ended in [&one, &two] {
        assert_eq!(refused(world.authenticate(ended)), Refusal::TokenRevoked, "at once, and without a grace");
    }
    assert!(world.authenticate(&three).is_ok() && world.authenticate(&only).is_ok(), "other clients are left alone");
    assert_eq!(refused(further(&world, &one, &web, Others::AsPolicySays)), Refusal::TokenRevoked);
    let replaced = text(&further(&world, &only, &api, Others::End).unwrap());
    assert_eq!(text(&log_in(&world, &api).unwrap()), replaced, "what takes its place is given again from then on");
}

#[test]
fn nothing_further_is_made_from_a_key_or_in_the_place_of_what_its_owner_locked() {
    let world = World::with_ada();
    let client = ClientName::default_client();
    let token = text(&log_in(&world, &client).unwrap());
    let key = world.key(&token, crate::world::any_key()).unwrap();
    assert_eq!(refused(further(&world, &key, &client, Others::AsPolicySays)), Refusal::LoginNotAllowed);
    let who = world.who(&token);
    answer(world.authority.lock_rotation(&who, true, &world.source, world.now())).unwrap();
    assert_eq!(refused(further(&world, &token, &client, Others::End)), Refusal::RotationLocked);
    assert!(world.authenticate(&token).is_ok());
}

#[test]
fn a_throttle_counts_where_a_dialect_asks_for_it_and_nowhere_else() {
    let world = World::with_ada();
    let client = world.client("slow", Policy { throttle: Some("2/m".parse().unwrap()), ..Policy::default() });
    let token = text(&log_in(&world, &client).unwrap());
    let unthrottled = || answer(world.authority.authenticate_unthrottled(&token, &world.source, world.now()));
    for _ in 0..5 {
        unthrottled().unwrap();
    }
    let who = unthrottled().unwrap();
    let count = || answer(world.authority.count_at_throttle(&who, None, &world.source, world.now()));
    assert!(count().is_ok() && count().is_ok());
    assert!(matches!(refused(count()), Refusal::Throttled(_)));
    unthrottled().unwrap();

    let plain = text(&log_in(&world, &ClientName::default_client()).unwrap());
    let who = world.who(&plain);
    let fallback = |rate: &str| {
        let rate = Some(rate.parse().unwrap());
        answer(world.authority.count_at_throttle(&who, rate, &world.source, world.now()))
    };
    assert!(fallback("1/m").is_ok());
    assert!(matches!(refused(fallback("1/m")), Refusal::Throttled(_)), "what holds where a client has no rate");
}

#[test]
fn an_expired_token_is_ended_when_its_dialect_has_said_so_and_no_live_one_is() {
    let world = World::with_ada();
    let client = world.client("web", Policy { ttl: Some(life("1h")), ..Policy::default() });
    let token = text(&log_in(&world, &client).unwrap());
    let end = || answer(world.authority.end_if_expired(&token, world.now())).unwrap();
    world.wait(3_599_999);
    assert!(!end());
    assert!(world.authenticate(&token).is_ok());
    world.wait(1);
    assert_eq!(refused(world.authenticate(&token)), Refusal::TokenExpired);
    assert!(end() && !end());
    assert_eq!(refused(world.authenticate(&token)), Refusal::TokenRevoked);
    assert!(!answer(world.authority.end_if_expired("nonsense", world.now())).unwrap());
}

#[test]
fn a_dialects_client_is_made_once_and_brought_to_what_its_settings_say() {
    let world = World::new();
    let order = |ttl: &str| {
        let policy = Policy { ttl: Some(life(ttl)), ..Policy::default() };
        ClientOrder { policy, ..ClientOrder::named("knox".parse().unwrap()) }
    };
    let settle = |ttl: &str| answer(world.authority.settle_client(order(ttl), &world.by(), world.now())).unwrap();
    let made = settle("10h");
    assert_eq!(settle("10h").version, made.version, "nothing to change");
    let changed = settle("12h");
    assert_eq!((changed.id, changed.policy.ttl), (made.id, Some(life("12h"))));
}

#[test]
fn a_token_that_was_authenticated_is_renewed_where_its_client_lets_it_and_never_once_it_is_dead() {
    let world = World::with_ada();
    let client = world.client("web", Policy { ttl: Some(life("1h")), ..Policy::default() });
    let never = world.client("never", Policy { renewal: Renewal::Never, ..Policy::default() });
    let who = world.who(&text(&log_in(&world, &client).unwrap()));
    let renew = |who: &Identity| answer(world.authority.renew_held(who, &world.source, world.now()));
    world.wait(1_800_000);
    assert_eq!(renew(&who).unwrap(), Some(world.now().wall.plus_millis(3_600_000)));
    let fixed = world.who(&text(&log_in(&world, &never).unwrap()));
    assert_eq!(refused(renew(&fixed)), Refusal::RenewalNotAllowed);
    world.wait(3_600_000);
    assert_eq!(refused(renew(&who)), Refusal::TokenRevoked, "dead at the instant of its end");
}

#[test]
fn renewal_by_use_waits_for_its_gain_and_stops_at_the_longest_life() {
    let world = World::with_ada();
    let policy = Policy { ttl: Some(life("4s")), max_lifetime: Some(life("8s")), ..Policy::default() };
    let token = text(&log_in(&world, &world.client("web", policy)).unwrap());
    answer(world.authority.follow(world.now())).unwrap();
    let born = world.now().wall;
    let used = |gain: u64| {
        answer(world.authority.follow(world.now())).unwrap();
        let who = world.authenticate(&token)?;
        answer(world.authority.renew_in_use(&token, &who, gain, world.now()))?;
        world.authenticate(&token).map(|who| who.expires_at.unwrap().millis_since(born))
    };
    world.wait(3_000);
    assert_eq!(used(3_000).unwrap(), 4_000, "not more than that");
    assert_eq!(used(2_999).unwrap(), 7_000);
    world.wait(3_999);
    assert_eq!(used(0).unwrap(), 8_000, "as far as it may");
    world.wait(1_001);
    assert_eq!(refused(used(0)), Refusal::TokenExpired);
}

#[test]
fn a_sealed_secret_is_told_again_to_its_owner_while_it_lives_and_no_other_is() {
    let world = with_ring();
    world.user("eve");
    let (web, api) = (world.client("web", Policy::default()), world.client("api", same()));
    let plain = log_in(&world, &web).unwrap();
    let kept = log_in(&world, &api).unwrap();
    let (ada, eve) = (world.who(&text(&plain)), world.who(&world.login("eve")));
    let reveal = |who: &Identity, issued: &Issued| {
        let told = answer(world.authority.reveal(who, &issued.token, &world.source, world.now())).unwrap();
        told.map(|secret| secret.expose().to_owned())
    };
    assert_eq!(reveal(&ada, &kept).as_deref(), Some(kept.secret.expose()));
    assert_eq!(reveal(&ada, &plain), None, "it was never kept");
    assert_eq!(reveal(&eve, &kept), None);
    world.wait(31 * 86_400_000);
    assert_eq!(reveal(&ada, &kept), None, "expired");
}
