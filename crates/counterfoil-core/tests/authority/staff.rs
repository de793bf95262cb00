//! Who may do what with others.

use counterfoil_core::account::{Account, AccountChange, NewAccount, Role};
use counterfoil_core::authority::{ClientOrder, Ending, Expiry, TokenOrder};
use counterfoil_core::store::TokenFilter;
use counterfoil_core::{
    Abilities, Ability, Actor, By, Error, Event, Kind, Now, Refusal, Timestamp, TokenName, event::Scope,
};

use crate::world::{PASSWORD, START, World, answer, password, refused, text};

fn ability(text: &str) -> Ability {
    text.parse().unwrap()
}

fn abilities(text: &str) -> Abilities {
    Abilities::new(text.split(' ').map(|one| one.parse().unwrap())).unwrap()
}

struct Town {
    world: World,
    ada: Account,
    staff: By,
    admin: By,
    root: Account,
}

impl Town {
    fn new() -> Town {
        let world = World::with_ada();
        let ada = answer(world.authority.user("ada")).unwrap();
        let person = |name: &str, role| {
            let new = NewAccount { role, ..NewAccount::named(name.parse().unwrap()) };
            let by = By::operator();
            answer(world.authority.create_user(new, Some(password(PASSWORD)), &by, world.now())).unwrap()
        };
        person("clerk", Role::Staff);
        let root = person("root", Role::Admin);
        let by = |name: &str| {
            let who = world.who(&world.login(name));
            answer(world.authority.staff(&who, &ability("admin:write"), &world.source, world.now())).unwrap()
        };
        let (staff, admin) = (by("clerk"), by("root"));
        world.happened();
        Town { ada, staff, admin, root, world }
    }

    fn order(&self, of: &Account, abilities: Abilities) -> TokenOrder {
        TokenOrder {
            kind: Kind::Key,
            subject: of.subject.clone(),
            client: None,
            name: None,
            abilities,
            metadata: Default::default(),
            expiry: Expiry::Never,
        }
    }
}

#[test]
fn only_staff_gives_orders_and_only_while_it_is_staff() {
    let Town { world, ada, .. } = Town::new();
    let staff = |token: &str| {
        let who = world.who(token);
        answer(world.authority.staff(&who, &ability("admin:write"), &world.source, world.now()))
    };
    let session = world.login("ada");
    assert_eq!(refused(staff(&session)), Refusal::StaffNeeded);
    answer(world.authority.set_role(&ada.subject, Role::Staff, &By::operator(), world.now())).unwrap();
    let session = world.login("ada");
    let by = staff(&session).unwrap();
    assert!(matches!(by.actor(), Actor::Holder { subject, .. } if *subject == ada.subject));
    answer(world.authority.set_role(&ada.subject, Role::User, &By::operator(), world.now())).unwrap();
    assert_eq!(refused(staff(&session)), Refusal::StaffNeeded);
}

#[test]
fn a_key_of_staff_needs_what_only_an_administrator_grants() {
    let town = Town::new();
    let world = &town.world;
    let staff = |granted: &str, wanted: &str| {
        let order = town.order(&town.root, abilities(granted));
        let key = text(&answer(world.authority.issue(order, &town.admin, world.now())).unwrap());
        answer(world.authority.staff(&world.who(&key), &ability(wanted), &world.source, world.now())).map(drop)
    };
    assert_eq!(refused(staff("*", "admin:read")), Refusal::AbilityMissing(ability("admin:read")));
    staff("admin:read", "admin:read").unwrap();
    assert_eq!(refused(staff("admin:read", "admin:write")), Refusal::AbilityMissing(ability("admin:write")));

    let reserved = ["admin:read", "tokens:introspect", "tokens:revoke"];
    for granted in reserved {
        let order = town.order(&town.ada, abilities(granted));
        let refusal = refused(answer(world.authority.issue(order.clone(), &town.staff, world.now())));
        assert_eq!(refusal, Refusal::AdminNeeded, "{granted}");
        answer(world.authority.issue(order, &town.admin, world.now())).unwrap();
    }
    answer(world.authority.issue(town.order(&town.ada, abilities("*")), &town.staff, world.now())).unwrap();
    // An ordinary user with such a key is no staff.
    let order = town.order(&town.ada, abilities("admin:write"));
    let key = text(&answer(world.authority.issue(order, &town.admin, world.now())).unwrap());
    let who = world.who(&key);
    let denied = answer(world.authority.staff(&who, &ability("admin:write"), &world.source, world.now()));
    assert_eq!(refused(denied), Refusal::StaffNeeded);
}

/// One thing that staff may do with users alone.
type Act = (&'static str, fn(&Town, &Account, &By) -> Result<(), Error>);

#[test]
fn staff_looks_after_users_and_only_an_administrator_after_staff() {
    let acts: &[Act] = &[
        ("change", |town, of, by| {
            let change = vec![AccountChange::FirstName("A".into())];
            answer(town.world.authority.change_user(&of.subject, change, by, town.world.now())).map(drop)
        }),
        ("issue", |town, of, by| {
            let order = town.order(of, abilities("*"));
            answer(town.world.authority.issue(order, by, town.world.now())).map(drop)
        }),
        ("revoke one", |town, of, by| {
            let token =
                answer(town.world.authority.issue(town.order(of, abilities("*")), &town.admin, town.world.now()));
            answer(town.world.authority.revoke_any(token?.token.id, by, town.world.now()))
        }),
        ("rename one", |town, of, by| {
            let token =
                answer(town.world.authority.issue(town.order(of, abilities("*")), &town.admin, town.world.now()));
            let name = TokenName::cut("x");
            answer(town.world.authority.rename_any(token?.token.id, name, by, town.world.now())).map(drop)
        }),
        ("end all", |town, of, by| {
            let ending = Ending::Subject { subject: of.subject.clone(), keys_too: true };
            answer(town.world.authority.end(ending, by, town.world.now()))
        }),
        ("revoke matching", |town, of, by| {
            let filter = TokenFilter::of(of.subject.clone());
            answer(town.world.authority.revoke_matching(&filter, by, town.world.now())).map(drop)
        }),
        ("count matching", |town, of, by| {
            let filter = TokenFilter::of(of.subject.clone());
            answer(town.world.authority.count_matching(&filter, by, town.world.now())).map(drop)
        }),
        ("unlock", |town, of, by| answer(town.world.authority.unlock_user(&of.subject, by, town.world.now()))),
        ("export", |town, of, by| {
            answer(town.world.authority.export_user(&of.subject, by, town.world.now())).map(drop)
        }),
        ("disable", |town, of, by| answer(town.world.authority.disable_user(&of.subject, by, town.world.now()))),
        ("enable", |town, of, by| answer(town.world.authority.enable_user(&of.subject, by, town.world.now()))),
        ("delete", |town, of, by| answer(town.world.authority.delete_user(&of.subject, by, town.world.now()))),
    ];
    let town = Town::new();
    let clerk = answer(town.world.authority.user("clerk")).unwrap();
    for (what, act) in acts {
        for above in [&town.root, &clerk] {
            assert_eq!(refused(act(&town, above, &town.staff)), Refusal::AdminNeeded, "{what}");
        }
        act(&town, &town.ada, &town.staff).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    let unharmed = answer(town.world.authority.user("root")).unwrap();
    assert_eq!((unharmed.first_name.as_str(), unharmed.active), ("", true));
    for (what, act) in acts {
        act(&town, &clerk, &town.admin).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

#[test]
fn roles_clients_and_everybody_are_for_administrators() {
    let Town { world, ada, staff, admin, .. } = Town::new();
    let now = world.now();
    let authority = &world.authority;
    let web = || ClientOrder::named("web".parse().unwrap());
    let default = || "default".parse().unwrap();
    let boss = || NewAccount { role: Role::Staff, ..NewAccount::named("boss".parse().unwrap()) };
    let rename = |_: &counterfoil_core::Client| Ok(web());
    let refusals = [
        refused(answer(authority.set_role(&ada.subject, Role::Admin, &staff, now))),
        refused(answer(authority.change_user(&ada.subject, vec![AccountChange::Role(Role::Staff)], &staff, now))),
        refused(answer(authority.create_user(boss(), None, &staff, now))),
        refused(answer(authority.create_client(web(), &staff, now))),
        refused(answer(authority.update_client(&default(), rename, &staff, now))),
        refused(answer(authority.delete_client(&default(), &staff, now))),
        refused(answer(authority.end(Ending::Client((&default()).into()), &staff, now))),
        refused(answer(authority.end(Ending::Everybody, &staff, now))),
        refused(answer(authority.revoke_matching(&TokenFilter::default(), &staff, now))),
        refused(answer(authority.count_matching(&TokenFilter::default(), &staff, now))),
        refused(answer(authority.reseal(&staff, now, |_| {}))),
    ];
    assert!(refusals.iter().all(|refusal| *refusal == Refusal::AdminNeeded), "{refusals:?}");
    answer(authority.create_client(web(), &admin, now)).unwrap();
    answer(authority.create_user(boss(), None, &admin, now)).unwrap();
    answer(authority.create_user(NewAccount::named("bob".parse().unwrap()), None, &staff, now)).unwrap();
    assert_eq!(refused(world.try_login("bob", "", None)), Refusal::CredentialsRejected, "no password, no login");
}

#[test]
fn what_is_the_owners_is_not_changed_by_staff() {
    let Town { world, ada, staff, admin, .. } = Town::new();
    for by in [&staff, &admin] {
        for change in [AccountChange::RotationLocked(true), AccountChange::LoggedIn(Timestamp::MIN)] {
            let changes = vec![AccountChange::FirstName("X".into()), change];
            let refusal = refused(answer(world.authority.change_user(&ada.subject, changes, by, world.now())));
            assert!(matches!(refusal, Refusal::Invalid(_)));
        }
    }
    assert_eq!(answer(world.authority.user("ada")).unwrap(), ada, "and nothing was written");
}

#[test]
fn an_owner_locks_their_tokens_against_rotation() {
    let Town { world, .. } = Town::new();
    let session = world.login("ada");
    let who = world.who(&session);
    answer(world.authority.lock_rotation(&who, true, &world.source, world.now())).unwrap();
    assert_eq!(refused(world.rotate(&session)), Refusal::RotationLocked);
    answer(world.authority.lock_rotation(&who, false, &world.source, world.now())).unwrap();
    assert!(world.rotate(&session).is_ok());
    let told: Vec<&str> = world.happened().iter().map(Event::name).filter(|name| name.contains("rotation_")).collect();
    assert_eq!(told, ["rotation_locked", "rotation_unlocked"]);
}

#[test]
fn revoking_by_what_tokens_have_in_common_ends_what_was_counted_and_no_more() {
    let Town { world, ada, admin, .. } = Town::new();
    let old: Vec<String> = (0..3).map(|_| world.login("ada")).collect();
    world.wait(10);
    let new = world.login("ada");
    let filter = TokenFilter { issued_before: Some(START.plus_millis(10)), ..TokenFilter::of(ada.subject.clone()) };
    world.happened();
    assert_eq!(answer(world.authority.count_matching(&filter, &admin, world.now())).unwrap(), 3);
    assert_eq!(answer(world.authority.revoke_matching(&filter, &admin, world.now())).unwrap(), 3);
    assert!(old.iter().all(|token| refused(world.authenticate(token)) == Refusal::TokenRevoked));
    assert!(world.authenticate(&new).is_ok());
    let told = world.happened();
    assert!(matches!(&told[0], Event::RevokedMatching { count: 3, .. }), "{told:?}");
    assert_eq!(answer(world.authority.revoke_matching(&filter, &admin, world.now())).unwrap(), 0);
}

#[test]
fn f30_what_a_node_has_issued_whose_date_is_ahead_is_revoked_with_the_rest() {
    let Town { world, ada, admin, .. } = Town::new();
    let now = world.now();
    let ahead = Now { wall: now.wall.plus_millis(2_000), ..now };
    let issued = answer(world.authority.issue(ada.subject.clone().into(), &admin, ahead)).unwrap();
    let filter = TokenFilter::of(ada.subject);
    assert_eq!(answer(world.authority.revoke_matching(&filter, &admin, now)).unwrap(), 1);
    assert_eq!(refused(world.authenticate(issued.secret.expose())), Refusal::TokenRevoked);
}

#[test]
fn everybody_can_be_signed_out_by_one_row() {
    let Town { world, admin, .. } = Town::new();
    let session = world.login("ada");
    world.happened();
    answer(world.authority.end(Ending::Everybody, &admin, world.now())).unwrap();
    assert_eq!(refused(world.authenticate(&session)), Refusal::TokenRevoked);
    assert_eq!(world.happened()[0], Event::Ended { scope: Scope::Everybody, keys_too: true });
}

#[test]
fn whoever_is_given_more_begins_anew_and_nobody_grows_with_them() {
    let Town { world, ada, staff, admin, .. } = Town::new();
    let order = |kind| TokenOrder {
        kind,
        subject: ada.subject.clone(),
        client: None,
        name: None,
        abilities: Abilities::everything(),
        metadata: Default::default(),
        expiry: Expiry::Never,
    };
    let kept: Vec<String> = [Kind::Login, Kind::Key]
        .map(|kind| text(&answer(world.authority.issue(order(kind), &staff, world.now())).unwrap()))
        .into();
    for role in [Role::Staff, Role::Admin] {
        let session = world.login("ada");
        answer(world.authority.set_role(&ada.subject, role, &admin, world.now())).unwrap();
        for old in kept.iter().chain([&session]) {
            assert_eq!(refused(world.authenticate(old)), Refusal::TokenRevoked, "{role:?}");
        }
    }
    let session = world.login("ada");
    answer(world.authority.set_role(&ada.subject, Role::User, &admin, world.now())).unwrap();
    assert!(world.authenticate(&session).is_ok(), "who has less is not logged out");
}

#[test]
fn staff_cannot_take_the_address_by_which_somebody_logs_in() {
    let Town { world, ada, staff, root, .. } = Town::new();
    let address = || "root@example.org".parse().unwrap();
    let confirmed = AccountChange::Email(Some(address()), Some(START));
    let by = By::operator();
    answer(world.authority.change_user(&root.subject, vec![confirmed.clone()], &by, world.now())).unwrap();
    let named = NewAccount::named("Root@Example.org".parse().unwrap());
    let taken = answer(world.authority.create_user(named, None, &staff, world.now()));
    assert_eq!(refused(taken), Refusal::UsernameTaken);
    let beside =
        NewAccount { email: Some(address()), email_confirmed: true, ..NewAccount::named("someone".parse().unwrap()) };
    assert!(matches!(
        refused(answer(world.authority.create_user(beside, None, &staff, world.now()))),
        Refusal::Invalid(_)
    ));
    let changed = answer(world.authority.change_user(&ada.subject, vec![confirmed], &staff, world.now()));
    assert!(matches!(refused(changed), Refusal::Invalid(_)));
    assert!(world.try_login("root@example.org", PASSWORD, None).is_ok());
}

#[test]
fn a62_staff_name_nobody_so_that_they_look_like_another_and_the_operator_keeps_what_there_is() {
    let Town { world, staff, admin, .. } = Town::new();
    let made = |name: &str, by: &By| {
        answer(world.authority.create_user(NewAccount::named(name.parse().unwrap()), None, by, world.now()))
    };
    for by in [&staff, &admin] {
        for alike in ["аda", "a\u{200b}da", "сlerk"] {
            assert_eq!(refused(made(alike, by)), Refusal::UsernameTaken, "{alike:?}");
        }
    }
    made("Ada Byron", &staff).unwrap();
    made("аda", &By::operator()).unwrap();
}
