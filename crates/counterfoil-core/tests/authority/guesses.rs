//! Whoever guesses passwords gets few tries, and harms nobody else by it.

use std::net::IpAddr;
use std::sync::{Arc, Barrier};
use std::thread;

use counterfoil_core::account::AccountChange;
use counterfoil_core::attempts::{Tries, TryLater};
use counterfoil_core::authority::FailedLogins;
use counterfoil_core::event::{Limit, LoginFailure};
use counterfoil_core::secret::{DigestScheme, TokenDigest};
use counterfoil_core::store::{AccountStore as _, Issue, IssueOutcome, TokenStore as _, Warrant};
use counterfoil_core::{
    Abilities, Authority, By, Clock, Entropy as _, Event, Kind, Login, ManualClock, MemoryStore, NewAccount, Refusal,
    Reissue, Source, TokenId, entropy::PredictableEntropy, token::Metadata,
};

use crate::rules::Full;
use crate::world::{PASSWORD, Recorder, START, World, answer, parts, password, refused};

fn typed(username: &str, text: &str) -> Login {
    Login { username: username.to_owned(), password: password(text), client: None, name: None }
}

fn guess(world: &World, name: &str) -> Refusal {
    refused(world.try_login(name, "wrong", None))
}

fn too_many(seconds: u64) -> Refusal {
    Refusal::TooManyAttempts(TryLater { seconds })
}

/// Nothing from one address is too much, so that what is counted for an account shows.
fn unlimited_by_address() -> World {
    let world = World::with(|parts| {
        parts.settings.failed_logins = FailedLogins::per_source("1000000/s".parse().unwrap());
    });
    world.user("ada");
    world
}

#[test]
fn five_guesses_are_free_then_each_waits_twice_as_long_and_a_right_password_ends_it() {
    let world = World::with_ada();
    for _ in 0..5 {
        assert_eq!(guess(&world, "ada"), Refusal::CredentialsRejected);
    }
    assert_eq!(guess(&world, "ada"), too_many(1));
    assert_eq!(refused(world.try_login("ada", PASSWORD, None)), too_many(1), "the right one is not looked at either");
    world.wait(999);
    assert_eq!(guess(&world, "ada"), too_many(1), "and what is refused does not count");
    world.wait(1);
    assert_eq!(guess(&world, "ada"), Refusal::CredentialsRejected);
    assert_eq!(guess(&world, "ada"), too_many(2));
    world.wait(2_000);
    world.login("ada");
    for _ in 0..5 {
        assert_eq!(guess(&world, "ada"), Refusal::CredentialsRejected, "it begins anew");
    }
}

#[test]
fn a55_one_account_has_one_count_whatever_it_is_called_by() {
    let world = World::with_ada();
    let ada = answer(world.authority.user("ada")).unwrap().subject;
    let mail = AccountChange::Email(Some("ada@example.org".parse().unwrap()), Some(START));
    answer(world.store.change(&ada, &[mail])).unwrap();
    for name in ["ada", "ADA", "ａｄａ", "ada@example.org", "ADA@EXAMPLE.ORG"] {
        assert_eq!(guess(&world, name), Refusal::CredentialsRejected, "{name}");
    }
    for name in ["ada", "Ada", "Ada@Example.org"] {
        assert_eq!(guess(&world, name), too_many(1), "{name}");
    }
}

#[test]
fn a49_a_name_that_nobody_has_is_refused_like_one_that_somebody_has() {
    let (known, unknown) = (World::with_ada(), World::with_ada());
    let inactive = World::with_ada();
    let ada = answer(inactive.authority.user("ada")).unwrap().subject;
    answer(inactive.authority.disable_user(&ada, &By::operator(), inactive.now())).unwrap();
    for wait in [0, 0, 0, 0, 0, 0, 1_000, 0, 999, 1_000, 4_000, 900_000] {
        let refusals = [(&known, "ada"), (&unknown, "eve"), (&inactive, "ada")].map(|(world, name)| {
            world.wait(wait);
            guess(world, name)
        });
        assert!(refusals.iter().all(|refusal| *refusal == refusals[0]), "after {wait} ms: {refusals:?}");
    }
    // A spelling of it is the same unknown name.
    assert_eq!(guess(&unknown, "EVE"), guess(&known, "ADA"));
}

#[test]
fn a58_names_that_nobody_has_leave_no_row() {
    let world = unlimited_by_address();
    let known = answer(world.store.subject(&"-".parse().unwrap())).unwrap();
    assert_eq!(known, None);
    for number in 0..2_000 {
        guess(&world, &format!("made-up-{number}"));
    }
    for name in ["-", "made-up-1", ""] {
        let Ok(subject) = name.parse() else { continue };
        assert_eq!(answer(world.store.tries(&subject)).unwrap(), Tries::default());
        assert_eq!(answer(world.store.subject(&subject)).unwrap(), None);
    }
}

#[test]
fn r14_after_a_hundred_failures_only_a_new_password_or_staff_opens_the_account() {
    let world = unlimited_by_address();
    let session = world.login("ada");
    let ada = world.who(&session).subject;
    for _ in 0..100 {
        world.wait(900_000);
        assert_eq!(guess(&world, "ada"), Refusal::CredentialsRejected);
    }
    for _ in 0..3 {
        world.wait(365 * 86_400_000);
        assert_eq!(refused(world.try_login("ada", PASSWORD, None)), too_many(900));
    }
    assert!(answer(world.authority.tries(&ada)).unwrap().exhausted());
    answer(world.authority.unlock_user(&ada, &By::operator(), world.now())).unwrap();
    world.login("ada");

    for _ in 0..100 {
        world.wait(900_000);
        guess(&world, "ada");
    }
    let new = password("another passphrase of hers");
    answer(world.authority.set_password(&ada, new, &By::operator(), world.now())).unwrap();
    assert!(world.try_login("ada", "another passphrase of hers", None).is_ok());
}

#[test]
fn a57_guessing_locks_nobody_out_of_their_sessions() {
    let world = unlimited_by_address();
    let session = world.login("ada");
    for _ in 0..200 {
        guess(&world, "ada");
    }
    let who = world.who(&session);
    answer(world.authority.tokens_of(&who, Kind::Login, Default::default(), world.now())).unwrap();
    assert!(world.renew(&session).is_ok() && world.rotate(&session).is_ok());
}

#[test]
fn a07_a_restart_forgets_no_failure() {
    let world = World::with_ada();
    for _ in 0..5 {
        guess(&world, "ada");
    }
    let reopened = answer(Authority::open(parts(&world.store, &world.events), world.now())).unwrap();
    let login = || typed("ada", PASSWORD);
    assert_eq!(refused(answer(reopened.login(login(), &world.source, world.now()))), too_many(1));
}

#[test]
fn a52_an_address_that_fails_too_often_is_refused_whatever_the_name() {
    let world = World::with(|parts| parts.settings.failed_logins = FailedLogins::per_source("10/m".parse().unwrap()));
    world.user("ada");
    for number in 0..10 {
        assert_eq!(guess(&world, &format!("nobody-{number}")), Refusal::CredentialsRejected);
    }
    world.happened();
    let Refusal::LimitHit(Limit::FailedLogins, wait) = guess(&world, "ada") else { panic!("not refused") };
    assert_eq!(wait.retry_after_seconds, 6);
    assert!(world.happened().contains(&Event::LimitHit(Limit::FailedLogins)));
    let Refusal::LimitHit(..) = refused(world.try_login("ada", PASSWORD, None)) else { panic!("not refused") };

    // The same subscriber at another address of theirs, and somebody else.
    let from = |ip: &str| Source { ip: Some(ip.parse::<IpAddr>().unwrap()), user_agent: None };
    let login = |source: &Source| {
        let login = typed("ada", "wrong");
        refused(answer(world.authority.login(login, source, world.now())))
    };
    assert!(matches!(login(&from("::ffff:192.0.2.7")), Refusal::LimitHit(..)), "a53");
    assert_eq!(login(&from("192.0.2.8")), Refusal::CredentialsRejected);
    world.wait(6_000);
    assert_eq!(guess(&world, "ada"), Refusal::CredentialsRejected);
}

#[test]
fn right_passwords_count_against_no_address() {
    let world = World::with(|parts| parts.settings.failed_logins = FailedLogins::per_source("3/d".parse().unwrap()));
    world.user("ada");
    for _ in 0..50 {
        world.login("ada");
    }
}

#[test]
fn a54_two_hundred_guesses_at_once_get_five_tries() {
    let world = Arc::new(World::with(|parts| {
        parts.settings.failed_logins = FailedLogins::per_source("1000000/s".parse().unwrap());
    }));
    world.user("ada");
    let looked_at: usize = thread::scope(|scope| {
        let racers: Vec<_> = (0..8)
            .map(|_| {
                let world = &world;
                scope.spawn(move || {
                    let login = || typed("ada", "wrong");
                    let tried = (0..25).filter(|_| {
                        let tried = answer(world.authority.login(login(), &world.source, world.now()));
                        refused(tried) == Refusal::CredentialsRejected
                    });
                    tried.count()
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).sum()
    });
    assert_eq!(looked_at, 5);
}

#[test]
fn many_right_logins_at_once_are_no_failures() {
    let world = World::with_ada();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let login = typed("ada", PASSWORD);
                    answer(world.authority.login(login, &world.source, world.now())).unwrap();
                }
            });
        }
    });
}

#[test]
fn a_full_queue_costs_nobody_a_try() {
    let store = Arc::new(MemoryStore::new());
    let events = Arc::new(Recorder::default());
    let clock = ManualClock::at(START);
    let full = counterfoil_core::Parts { hashing: Arc::new(Full), ..parts(&store, &events) };
    let authority = answer(Authority::open(full, clock.now())).unwrap();
    let new = NewAccount::named("ada".parse().unwrap());
    let ada = answer(authority.create_user(new, Some(password(PASSWORD)), &By::operator(), clock.now())).unwrap();
    for name in ["ada", "eve"] {
        for _ in 0..200 {
            let login = typed(name, PASSWORD);
            let answer = answer(authority.login(login, &Source::default(), clock.now()));
            assert!(matches!(answer, Err(counterfoil_core::Error::Overloaded)), "{answer:?}");
        }
    }
    assert_eq!(answer(authority.tries(&ada.subject)).unwrap().failed, 0);
}

#[test]
fn r31_every_failure_says_why_to_the_operator_alone() {
    let world = World::with_ada();
    world.happened();
    for _ in 0..6 {
        guess(&world, "ada");
    }
    let whys: Vec<LoginFailure> = world
        .happened()
        .into_iter()
        .filter_map(|event| {
            let Event::LoginFailed { why, subject: Some(_), .. } = event else { return None };
            Some(why)
        })
        .collect();
    assert_eq!(whys.len(), 6);
    assert!(whys[..5].iter().all(|why| *why == LoginFailure::WrongPassword));
    assert_eq!(whys[5], LoginFailure::TooManyAttempts);
}

#[test]
fn texts_without_a_check_are_looked_up_sixty_times_a_minute_for_one_address() {
    let world = World::with_ada();
    let entropy = PredictableEntropy::from_seed(9);
    let ada = answer(world.authority.user("ada")).unwrap();
    let client = answer(world.authority.client(&"default".parse().unwrap())).unwrap();
    let plain = "0123456789abcdef0123456789abcdef01234567";
    let mut random = [0; 16];
    entropy.fill(&mut random).unwrap();
    let issue = Issue {
        id: TokenId::from_bytes(random),
        kind: Kind::Login,
        subject: ada.subject,
        client: client.id,
        client_version: client.version,
        warrant: Warrant::Operator,
        name: None,
        abilities: Abilities::everything(),
        metadata: Metadata::default(),
        expires_at: None,
        digest: TokenDigest::of_text(plain),
        scheme: DigestScheme::PlainText,
        sealed: None,
        source: Source::default(),
        cap: None,
        reissue: Reissue::New,
    };
    assert!(matches!(answer(world.store.issue(&issue, START)).unwrap(), IssueOutcome::Issued { .. }));
    // A start finds out that there are imported tokens.
    let authority = answer(Authority::open(parts(&world.store, &world.events), world.now())).unwrap();
    let present = |text: &str, source: &Source| answer(authority.authenticate(text, source, world.now())).map(drop);
    for _ in 0..100 {
        present(plain, &world.source).unwrap();
    }
    for number in 0..60 {
        assert_eq!(refused(present(&format!("{number:040x}"), &world.source)), Refusal::TokenUnknown);
    }
    let another = Source { ip: Some([198, 51, 100, 1].into()), user_agent: None };
    let Refusal::LimitHit(Limit::Misses, wait) = refused(present("f".repeat(40).as_str(), &world.source)) else {
        panic!("a sixty-first query")
    };
    assert_eq!(wait.retry_after_seconds, 1);
    assert!(matches!(refused(present(plain, &world.source)), Refusal::LimitHit(..)), "neither yes nor no");
    assert_eq!(refused(present(&"f".repeat(40), &another)), Refusal::TokenUnknown);
    // A text with our check never costs a query, and waits for nobody.
    let ours = world.login("ada");
    present(&ours, &world.source).unwrap();
    world.wait(1_000);
    present(plain, &world.source).unwrap();
}

#[test]
fn a11_logins_at_once_share_no_result_however_their_names_and_passwords_join() {
    let world = unlimited_by_address();
    let long = "n".repeat(149);
    // Joined without a separator, or cut at a block of some hash, these would be one.
    let people = [
        ("a".to_owned(), "bc-and-a-long-tail".to_owned()),
        ("ab".to_owned(), "c-and-a-long-tail".to_owned()),
        (format!("{long}1"), "the same passphrase".to_owned()),
        (format!("{long}2"), "the same passphrasf".to_owned()),
    ];
    for (name, passphrase) in &people {
        let new = NewAccount::named(name.parse().unwrap());
        answer(world.authority.create_user(new, Some(password(passphrase)), &By::operator(), world.now())).unwrap();
    }
    let start = Barrier::new(2 * people.len());
    thread::scope(|scope| {
        for (position, (name, right)) in people.iter().enumerate() {
            // The password of the one beside them, which together with its own name is the same text.
            let (_, wrong) = &people[position ^ 1];
            for (typed_password, fits) in [(right, true), (wrong, false)] {
                let (world, start) = (&world, &start);
                scope.spawn(move || {
                    start.wait();
                    for _ in 0..3 {
                        let login = typed(name, typed_password);
                        match answer(world.authority.login(login, &world.source, world.now())) {
                            Ok(logged_in) => assert!(fits && logged_in.account.username.as_str() == name),
                            Err(error) => assert!(!fits, "{name}: {error}"),
                        }
                    }
                });
            }
        }
    });
}

#[test]
fn what_is_refused_unseen_uses_up_nobodys_tries() {
    let world = World::with(|parts| parts.settings.failed_logins = FailedLogins::per_source("10/d".parse().unwrap()));
    world.user("ada");
    for _ in 0..200 {
        guess(&world, "nobody");
    }
    world.login("ada");
}

#[test]
fn where_no_address_is_known_one_guesser_does_not_shut_out_everybody() {
    let world = World::with(|parts| parts.settings.failed_logins = FailedLogins::per_source("3/d".parse().unwrap()));
    world.user("ada");
    let nowhere = Source::default();
    for number in 0..50 {
        let login = typed(&format!("nobody-{number}"), "wrong");
        let tried = refused(answer(world.authority.login(login, &nowhere, world.now())));
        assert_eq!(tried, Refusal::CredentialsRejected);
    }
    answer(world.authority.login(typed("ada", PASSWORD), &nowhere, world.now())).unwrap();
}

#[test]
fn f29_a_clock_that_was_set_back_bars_nobody_for_longer_than_a_delay() {
    for name in ["ada", "nobody"] {
        let world = World::with_ada();
        for _ in 0..5 {
            guess(&world, name);
        }
        world.clock.set_wall(START.minus_millis(3_600_000));
        assert_eq!(guess(&world, name), too_many(1));
        world.wait(1_000);
        assert_eq!(guess(&world, name), Refusal::CredentialsRejected);
    }
}

#[test]
fn a82_a_secret_in_the_wrong_field_is_written_nowhere() {
    let world = World::with_ada();
    let token = world.login("ada");
    for secret in [token.as_str(), PASSWORD] {
        guess(&world, secret);
    }
    guess(&world, "ada");
    let query = counterfoil_core::store::AuditQuery { limit: 100, ..Default::default() };
    let page = answer(world.authority.audit(&query, world.now())).unwrap();
    assert_eq!(
        page.entries.iter().filter(|kept| kept.entry.event == "login_failed").count(),
        2,
        "the like is one entry"
    );
    let all = format!("{page:?}");
    assert!(!all.contains(&token) && !all.contains(PASSWORD), "{all}");
    assert!(all.contains("username: Some(\"ada\")"));
}
