//! What becomes of tokens, told through the front door with a clock that stands still.

use counterfoil_core::account::{Account, AccountChange, NewAccount, Role};
use counterfoil_core::authority::{
    ClientOrder, Cursor, Ending, Expiry, List, LoggedIn, NewKey, PageRequest, TokenOrder,
};
use counterfoil_core::event::{LoginFailure, RevokedBy, TokenRef};
use counterfoil_core::hashing::{CheckTask, Checked, HashTask, Hashed, Hashing, OnThisThread, Overloaded};
use counterfoil_core::password::EncodedPassword;
use counterfoil_core::seal::{KeyRing, UnsealError};
use counterfoil_core::store::{AccountStore as _, TokenFilter, TokenQuery, TokenStore as _};
use counterfoil_core::{
    Abilities, AtCap, Authority, By, Cap, ClientName, Clock, Distinct, Entropy, EntropyError, Error, Event, Identity,
    Kind, Login, ManualClock, MemoryStore, Now, Parts, Policy, Refusal, Reissue, Renewal, Source, SubjectId, Timestamp,
    Username, entropy::PredictableEntropy,
};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use crate::world::{PASSWORD, Recorder, START, World, answer, any_key, life, parts, password, refused, text};

// ── The main job ────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn one_user_signs_in_on_three_devices_and_kicks_one_out() {
    let world = World::with_ada();
    let devices = [world.login("ada"), world.login("ada"), world.login("ada")];
    let who = world.who(&devices[0]);
    let listed = answer(world.authority.tokens_of(&who, Kind::Login, PageRequest::default(), world.now())).unwrap();
    assert_eq!((listed.items.len(), listed.next), (3, None));
    assert_eq!(listed.items[0].first_seen.source, world.source);

    let lost = world.who(&devices[1]).id;
    answer(world.authority.revoke(&who, lost, Kind::Login, &world.source, world.now())).unwrap();
    assert_eq!(refused(world.authenticate(&devices[1])), Refusal::TokenRevoked);
    assert!(world.authenticate(&devices[0]).is_ok() && world.authenticate(&devices[2]).is_ok());
    answer(world.authority.revoke(&who, lost, Kind::Login, &world.source, world.now())).unwrap();

    answer(world.authority.logout_others(&who, &world.source, world.now())).unwrap();
    assert!(world.authenticate(&devices[0]).is_ok());
    assert_eq!(refused(world.authenticate(&devices[2])), Refusal::TokenRevoked);
    answer(world.authority.logout(&who, &world.source, world.now())).unwrap();
    assert_eq!(refused(world.authenticate(&devices[0])), Refusal::TokenRevoked);
}

#[test]
fn a_login_tells_its_story_in_events() {
    let world = World::with_ada();
    world.happened();
    let LoggedIn { issued, account } = world.try_login("ADA", PASSWORD, None).unwrap();
    assert_eq!(account.username.as_str(), "ada");
    assert_eq!((issued.token.issued_at, issued.first_of_subject), (START, true));
    assert_eq!(issued.token.expires_at, Some(START.plus_millis(30 * 86_400_000)));
    let token = TokenRef::from(&issued.token);
    assert_eq!(
        world.happened(),
        [
            Event::LoginStarted { username: "ADA".into(), client: ClientName::default_client() },
            Event::TokenIssued(token.clone()),
            Event::LoggedIn(token),
        ]
    );
    let (record, account) = answer(world.authority.me(&world.who(&text(&issued)))).unwrap();
    assert_eq!(record, issued.token);
    assert_eq!(account.unwrap().last_login_at, Some(START));
}

#[test]
fn r05_every_login_gives_a_new_token_and_leaves_the_old_one_alone() {
    let world = World::with_ada();
    let texts: Vec<String> = (0..3).map(|_| world.login("ada")).collect();
    let ids: Vec<_> = texts.iter().map(|text| world.who(text).id).collect();
    for one in 0..3 {
        for other in 0..one {
            assert_ne!(texts[one], texts[other]);
            assert_ne!(ids[one], ids[other]);
        }
    }
    // What a client makes up is no token, whatever it looks like: nothing in the text is believed.
    let made_up = format!("cf_{}{}", "A".repeat(43), &texts[0][46..]);
    assert_eq!(refused(world.authenticate(&made_up)), Refusal::TokenUnknown);
}

// ── Logging in ──────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn r15_unknown_wrong_inactive_and_unusable_are_one_refusal() {
    let world = World::with_ada();
    let off = world.user("off");
    answer(world.authority.disable_user(&off.subject, &world.by(), world.now())).unwrap();
    let unusable = world.user("unusable");
    answer(world.store.set_password(&unusable.subject, None, &EncodedPassword::unusable())).unwrap();
    let broken = world.user("broken");
    answer(world.store.set_password(&broken.subject, None, &EncodedPassword::from_store("argon2$garbage"))).unwrap();
    world.happened();
    let long = "x".repeat(10_000);
    let cases = [
        ("nobody", PASSWORD, LoginFailure::UnknownUser),
        ("", PASSWORD, LoginFailure::UnknownUser),
        (&long, PASSWORD, LoginFailure::UnknownUser),
        ("ada", "wrong", LoginFailure::WrongPassword),
        ("ada", "", LoginFailure::WrongPassword),
        ("off", PASSWORD, LoginFailure::Inactive),
        ("unusable", PASSWORD, LoginFailure::WrongPassword),
        ("unusable", "!", LoginFailure::WrongPassword),
        ("broken", PASSWORD, LoginFailure::WrongPassword),
    ];
    for (username, typed, why) in cases {
        assert_eq!(refused(world.try_login(username, typed, None)), Refusal::CredentialsRejected, "{username}");
        let told = world.happened();
        assert!(matches!(&told[1], Event::LoginFailed { why: told, .. } if *told == why), "{told:?}");
    }
}

#[test]
fn a_client_may_forbid_logging_in_and_must_exist() {
    let world = World::with_ada();
    let closed: ClientName = "closed".parse().unwrap();
    let order = ClientOrder { allow_login: false, ..ClientOrder::named(closed.clone()) };
    answer(world.authority.create_client(order, &world.by(), world.now())).unwrap();
    assert_eq!(refused(world.login_on(&closed)), Refusal::LoginNotAllowed);
    assert_eq!(refused(world.login_on(&"nowhere".parse().unwrap())), Refusal::ClientUnknown);
    let again = ClientOrder::named(closed.clone());
    assert_eq!(
        refused(answer(world.authority.create_client(again, &world.by(), world.now()))),
        Refusal::ClientNameTaken
    );
    let default = ClientName::default_client();
    assert_eq!(
        refused(answer(world.authority.delete_client(&default, &world.by(), world.now()))),
        Refusal::ClientNeeded
    );
}

#[test]
fn r13_an_outdated_password_is_hashed_anew_by_the_login_that_proves_it() {
    let world = World::with_ada();
    let ada = answer(world.authority.user("ada")).unwrap();
    // Made by Django; see tests/fixtures/django-passwords.json.
    let md5 = EncodedPassword::from_store("md5$13972e1837da5b50fe422e$2f8830f3dad730f3ea7168a43a03c8c5");
    answer(world.store.set_password(&ada.subject, None, &md5)).unwrap();
    let row = || answer(world.store.account(&ada.subject)).unwrap().unwrap().password.expose().to_owned();
    assert_eq!(refused(world.try_login("ada", "wrong", None)), Refusal::CredentialsRejected);
    assert_eq!(row(), md5.expose(), "a wrong password changes nothing");
    world.login("ada");
    let renewed = row();
    assert!(renewed.starts_with("$argon2id$"));
    world.login("ada");
    assert_eq!(row(), renewed, "once is enough");
    assert_eq!(refused(world.try_login("ada", "wrong", None)), Refusal::CredentialsRejected);
}

#[derive(Debug)]
pub(crate) struct Full;

impl Hashing for Full {
    fn check(&self, _: CheckTask) -> Hashed<'_, Checked> {
        Box::pin(std::future::ready(Err(Overloaded)))
    }

    fn hash(&self, task: HashTask) -> Hashed<'_, EncodedPassword> {
        OnThisThread.hash(task)
    }
}

#[test]
fn a59_a_full_queue_checks_nothing_and_issues_nothing() {
    let world = World::with(|parts| parts.hashing = Arc::new(Full));
    world.user("ada");
    assert!(matches!(world.try_login("ada", PASSWORD, None), Err(Error::Overloaded)));
    let everything = TokenQuery { limit: 10, ..TokenQuery::default() };
    assert_eq!(answer(world.authority.list(everything, PageRequest::default())).unwrap().items, []);
}

/// Changes the world while a password is being checked.
struct Meanwhile<F>(AtomicBool, F);

impl<F> std::fmt::Debug for Meanwhile<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meanwhile")
    }
}

impl<F: Fn() + Send + Sync> Hashing for Meanwhile<F> {
    fn check(&self, task: CheckTask) -> Hashed<'_, Checked> {
        if self.0.swap(false, Ordering::SeqCst) {
            (self.1)();
        }
        OnThisThread.check(task)
    }

    fn hash(&self, task: HashTask) -> Hashed<'_, EncodedPassword> {
        OnThisThread.hash(task)
    }
}

#[test]
fn a76_what_ends_a_subject_beats_a_login_whose_password_is_being_checked() {
    type Act = fn(&Authority, &SubjectId, Now) -> Result<(), Error>;
    let acts: [(&str, Act); 4] = [
        ("log out everywhere", |authority, subject, now| {
            let ending = Ending::Subject { subject: subject.clone(), keys_too: false };
            answer(authority.end(ending, &By::operator(), now))
        }),
        ("change the password", |authority, subject, now| {
            answer(authority.set_password(subject, password("another password"), &By::operator(), now))
        }),
        ("disable", |authority, subject, now| answer(authority.disable_user(subject, &By::operator(), now))),
        ("delete", |authority, subject, now| answer(authority.delete_user(subject, &By::operator(), now))),
    ];
    for (what, act) in acts {
        let store = Arc::new(MemoryStore::new());
        let events = Arc::new(Recorder::default());
        let clock = ManualClock::at(START);
        let other = Arc::new(answer(Authority::open(parts(&store, &events), clock.now())).unwrap());
        let ada = answer(other.create_user(
            NewAccount::named("ada".parse().unwrap()),
            Some(password(PASSWORD)),
            &By::operator(),
            clock.now(),
        ))
        .unwrap();
        let (subject, now) = (ada.subject.clone(), clock.now());
        let meanwhile = Meanwhile(AtomicBool::new(true), move || act(&other, &subject, now).unwrap());
        let slow = Parts { hashing: Arc::new(meanwhile), ..parts(&store, &events) };
        let authority = answer(Authority::open(slow, clock.now())).unwrap();
        let login = Login { username: "ada".into(), password: password(PASSWORD), client: None, name: None };
        let outcome = answer(authority.login(login, &Source::default(), clock.now()));
        assert_eq!(refused(outcome), Refusal::CredentialsRejected, "{what}");
        let everything = TokenQuery { filter: TokenFilter::of(ada.subject), limit: 9, ..TokenQuery::default() };
        assert_eq!(answer(authority.list(everything, PageRequest::default())).unwrap().items, [], "{what}");
        let told = events.0.lock().unwrap();
        let overtaken =
            told.iter().any(|told| matches!(&told.event, Event::LoginFailed { why: LoginFailure::Overtaken, .. }));
        assert!(overtaken, "{what}: {told:?}");
    }
}

#[test]
fn a75_logins_at_once_stay_within_the_cap() {
    let world = World::with_ada();
    let cap = Some(Cap { limit: NonZeroU32::new(3).unwrap(), at_cap: AtCap::Refuse });
    let client = world.client("capped", Policy { cap, ..Policy::default() });
    let start = Barrier::new(8);
    let answers: Vec<_> = thread::scope(|scope| {
        let racing: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    world.login_on(&client).map(|issued| text(&issued))
                })
            })
            .collect();
        racing.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 3);
    let refusals = answers.into_iter().filter(Result::is_err).map(refused);
    assert!(refusals.into_iter().all(|refusal| refusal == Refusal::CapReached { limit: 3 }));
}

#[test]
fn r07_a_cap_refuses_or_evicts_the_oldest() {
    let world = World::with_ada();
    let cap = |at_cap| Some(Cap { limit: NonZeroU32::new(2).unwrap(), at_cap });
    let evicting = world.client("evicting", Policy { cap: cap(AtCap::EvictOldest), ..Policy::default() });
    let texts: Vec<String> = (0..3).map(|_| text(&world.login_on(&evicting).unwrap())).collect();
    assert_eq!(refused(world.authenticate(&texts[0])), Refusal::TokenRevoked);
    assert!(world.authenticate(&texts[1]).is_ok() && world.authenticate(&texts[2]).is_ok());
    let ended = world.happened();
    let by_later = |event: &Event| matches!(event, Event::TokenRevoked(_, RevokedBy::LaterLogin));
    assert_eq!(ended.iter().filter(|event| by_later(event)).count(), 1);
    let refusing = world.client("refusing", Policy { cap: cap(AtCap::Refuse), ..Policy::default() });
    world.login_on(&refusing).unwrap();
    let second = text(&world.login_on(&refusing).unwrap());
    assert_eq!(refused(world.login_on(&refusing)), Refusal::CapReached { limit: 2 });
    answer(world.authority.logout(&world.who(&second), &world.source, world.now())).unwrap();
    world.login_on(&refusing).unwrap();
}

#[test]
fn logging_in_again_gives_a_new_token_or_replaces_or_repeats_as_the_client_says() {
    let ring = KeyRing::generate(&PredictableEntropy::from_seed(9)).unwrap();
    let world = World::with(|parts| parts.ring = Some(ring));
    world.user("ada");
    let replacing = world.client("replacing", Policy { reissue: Reissue::Replace, ..Policy::default() });
    let first = text(&world.login_on(&replacing).unwrap());
    let second = text(&world.login_on(&replacing).unwrap());
    assert_eq!(refused(world.authenticate(&first)), Refusal::TokenRevoked);
    assert!(world.authenticate(&second).is_ok());

    let same = world.client("same", Policy { reissue: Reissue::Same, ..Policy::default() });
    let first = text(&world.login_on(&same).unwrap());
    assert_eq!(text(&world.login_on(&same).unwrap()), first);
    let rotated = world.rotate(&first).unwrap();
    assert_eq!(text(&world.login_on(&same).unwrap()), rotated, "the secret that the token has now");
    answer(world.authority.logout(&world.who(&rotated), &world.source, world.now())).unwrap();
    assert_ne!(text(&world.login_on(&same).unwrap()), rotated, "never a dead one");

    // Without the ring nothing is promised that could not be kept.
    let events = Arc::new(Recorder::default());
    let reopened = answer(Authority::open(parts(&world.store, &events), world.now()));
    assert_eq!(refused(reopened), Refusal::KeyRingMissing);

    // Nor with another ring whose key has the same number, or with one that lacks the key.
    let with = |ring| Parts { ring: Some(ring), ..parts(&world.store, &events) };
    let other = |seed| KeyRing::generate(&PredictableEntropy::from_seed(seed)).unwrap();
    let newer = || other(9).with_new_key(&PredictableEntropy::from_seed(2)).unwrap();
    for (ring, expected) in [
        (other(3), Some(UnsealError::Tampered)),
        (newer().newest_only(), Some(UnsealError::KeyMissing(1))),
        (newer(), None),
    ] {
        let again: KeyRing = ring.to_file_text().parse().unwrap();
        let why = |error| if let Error::Unseal(error) = error { error } else { panic!("{error}") };
        let opened = answer(Authority::open(with(again), world.now()));
        assert_eq!(opened.err().map(why), expected);
        let settings = world.authority.settings();
        assert_eq!(answer(world.authority.adopt(settings, Some(ring), world.now())).err().map(why), expected);
        assert!(world.login_on(&same).is_ok(), "the ring from before is in force, or one that opens as well");
    }
    let beside = answer(Authority::open_beside(with(other(3)), world.now())).unwrap();
    answer(beside.ring_opens(world.now())).unwrap_err();
    let of_client = TokenFilter { client: Some(same.clone()), ..TokenFilter::default() };
    assert_eq!(answer(beside.revoke_matching(&of_client, &world.by(), world.now())).unwrap(), 1);
    answer(Authority::open(with(other(3)), world.now())).unwrap();
    let ringless = World::new();
    let policy = Policy { reissue: Reissue::Same, ..Policy::default() };
    let order = ClientOrder { policy, ..ClientOrder::named("same".parse().unwrap()) };
    let made = answer(ringless.authority.create_client(order, &ringless.by(), ringless.now()));
    assert_eq!(refused(made), Refusal::KeyRingMissing);
}

// ── Chance ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Gives the same bytes for ever, once switched on.
#[derive(Debug)]
struct Faulty {
    repeats: AtomicBool,
    fails: AtomicBool,
    honest: PredictableEntropy,
}

impl Entropy for Faulty {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(EntropyError::new("unplugged"));
        }
        if self.repeats.load(Ordering::SeqCst) {
            buffer.fill(7);
            return Ok(());
        }
        self.honest.fill(buffer)
    }
}

fn faulty() -> (Arc<Faulty>, World) {
    let entropy = Arc::new(Faulty {
        repeats: AtomicBool::new(false),
        fails: AtomicBool::new(false),
        honest: PredictableEntropy::from_seed(3),
    });
    let world = World::with(|parts| parts.entropy = entropy.clone());
    world.user("ada");
    (entropy, world)
}

#[test]
fn a19_a_generator_that_repeats_itself_overwrites_no_token() {
    let (entropy, world) = faulty();
    entropy.repeats.store(true, Ordering::SeqCst);
    let first = world.login("ada");
    assert!(matches!(world.try_login("ada", PASSWORD, None), Err(Error::Entropy(_))));
    assert!(matches!(world.rotate(&first), Err(Error::Entropy(_))));
    let who = world.who(&first);
    let page = answer(world.authority.tokens_of(&who, Kind::Login, PageRequest::default(), world.now())).unwrap();
    assert_eq!(page.items.len(), 1);
    entropy.repeats.store(false, Ordering::SeqCst);
    assert_ne!(world.login("ada"), first);
}

#[test]
fn f37_without_entropy_nothing_is_issued_and_what_lives_lives_on() {
    let (entropy, world) = faulty();
    let live = world.login("ada");
    entropy.fails.store(true, Ordering::SeqCst);
    assert!(matches!(world.try_login("ada", PASSWORD, None), Err(Error::Entropy(_))));
    assert!(matches!(world.rotate(&live), Err(Error::Entropy(_))));
    assert!(matches!(world.key(&live, any_key()), Err(Error::Entropy(_))));
    assert!(world.authenticate(&live).is_ok());
    assert!(world.renew(&live).is_ok());
    let who = world.who(&live);
    let page = answer(world.authority.tokens_of(&who, Kind::Login, PageRequest::default(), world.now())).unwrap();
    assert_eq!(page.items.len(), 1);
}

// ── Time ────────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a18_expired_token_is_refused_at_the_instant_of_expiry_on_every_path() {
    let world = World::with_ada();
    let client = world.client("short", Policy { ttl: Some(life("10s")), ..Policy::default() });
    let token = text(&world.login_on(&client).unwrap());
    world.wait(9_999);
    let who = world.who(&token);
    world.wait(1);
    world.happened();
    assert_eq!(refused(world.authenticate(&token)), Refusal::TokenExpired);
    assert!(matches!(&world.happened()[..], [Event::TokenExpired(_)]));
    assert_eq!(refused(world.renew(&token)), Refusal::TokenExpired);
    assert_eq!(refused(world.rotate(&token)), Refusal::TokenExpired);
    // Whoever was authenticated just before acts with a token that is dead by now.
    let made = answer(world.authority.create_key(&who, any_key(), &world.source, world.now()));
    assert_eq!(refused(made), Refusal::TokenRevoked);
    let renamed = answer(world.authority.rename(&who, who.id, Kind::Login, None, world.now()));
    assert_eq!(refused(renamed), Refusal::NotFound);
    let listed = answer(world.authority.tokens_of(&who, Kind::Login, PageRequest::default(), world.now())).unwrap();
    assert_eq!(listed.items, []);
}

#[test]
fn a18_an_issue_time_in_the_future_refuses_nothing() {
    let world = World::with_ada();
    let token = world.login("ada");
    world.clock.set_wall(START.minus_millis(3_600_000));
    assert!(world.authenticate(&token).is_ok());
    assert!(world.renew(&token).unwrap() >= Some(START.plus_millis(30 * 86_400_000)), "never shorter");
    for wall in [Timestamp::MIN, Timestamp::from_millis(i64::MAX)] {
        world.clock.set_wall(wall);
        let _either = world.authenticate(&token); // 1970 and the end of time: an answer, not an overflow
        let _either = world.renew(&token);
        world.flush();
    }
}

#[test]
fn a20_a_token_that_lived_a_moment_ago_is_judged_anew() {
    let world = World::with_ada();
    let client = world.client("short", Policy { ttl: Some(life("1s")), ..Policy::default() });
    let token = text(&world.login_on(&client).unwrap());
    for millis in [0, 500, 499] {
        world.wait(millis);
        assert!(world.authenticate(&token).is_ok());
    }
    world.wait(1);
    assert_eq!(refused(world.authenticate(&token)), Refusal::TokenExpired);
}

#[test]
fn r06_renewal_moves_expiry_up_to_the_absolute_end_and_never_back() {
    let world = World::with_ada();
    let policy = Policy { ttl: Some(life("10s")), max_lifetime: Some(life("25s")), ..Policy::default() };
    let client = world.client("web", policy);
    let token = text(&world.login_on(&client).unwrap());
    for (wait, end) in [(5_000, 15_000), (9_999, 24_999), (1, 25_000), (9_999, 25_000)] {
        world.wait(wait);
        assert_eq!(world.renew(&token).unwrap(), Some(START.plus_millis(end)));
    }
    world.wait(1);
    assert_eq!(refused(world.renew(&token)), Refusal::TokenExpired);

    let never = world.client("never", Policy { renewal: Renewal::Never, ..Policy::default() });
    let token = text(&world.login_on(&never).unwrap());
    assert_eq!(refused(world.renew(&token)), Refusal::RenewalNotAllowed);
    let key = world.key(&token, any_key()).unwrap();
    assert_eq!(refused(world.renew(&key)), Refusal::RenewalNotAllowed);
}

#[test]
fn use_slides_the_expiry_on_no_more_often_than_the_client_says() {
    let world = World::with_ada();
    let renewal = Renewal::OnUse { at_most_every: life("10s") };
    let policy = Policy { ttl: Some(life("60s")), max_lifetime: Some(life("100s")), renewal, ..Policy::default() };
    let client = world.client("sliding", policy);
    let token = text(&world.login_on(&client).unwrap());
    let expiry = || {
        world.flush();
        world.who(&token).expires_at
    };
    world.wait(9_999);
    assert_eq!(expiry(), Some(START.plus_millis(60_000)), "too soon");
    world.wait(1);
    world.who(&token);
    assert_eq!(expiry(), Some(START.plus_millis(70_000)));
    // Used in its last moment: renewed at once, so that no flush comes too late.
    world.wait(59_999);
    world.who(&token);
    world.wait(1_000);
    assert_eq!(world.who(&token).expires_at, Some(START.plus_millis(100_000)));
    world.wait(29_001);
    assert_eq!(refused(world.authenticate(&token)), Refusal::TokenExpired, "the absolute end stands");
    world.flush();
    assert_eq!(refused(world.authenticate(&token)), Refusal::TokenExpired, "and nothing revives it");
}

#[test]
fn what_is_seen_of_a_token_is_written_by_the_flush() {
    let world = World::with_ada();
    let token = world.login("ada");
    world.wait(5_000);
    let who = world.who(&token);
    let last_seen = || answer(world.authority.me(&who)).unwrap().0.last_seen;
    assert_eq!(last_seen(), None, "no write on the request path");
    world.flush();
    let seen = last_seen().unwrap();
    assert_eq!((seen.at, seen.source), (START.plus_millis(5_000), world.source.clone()));
}

#[test]
fn a_throttle_counts_live_tokens_of_a_subject_together_and_nothing_else() {
    let world = World::with_ada();
    let throttled = world.client("throttled", Policy { throttle: "3/m".parse().ok(), ..Policy::default() });
    let (laptop, phone) = (text(&world.login_on(&throttled).unwrap()), text(&world.login_on(&throttled).unwrap()));
    let elsewhere = world.login("ada");
    let dead = text(&world.login_on(&throttled).unwrap());
    let dead_id =
        answer(world.authority.tokens_of(&world.who(&elsewhere), Kind::Login, PageRequest::default(), world.now()))
            .unwrap()
            .items
            .pop()
            .unwrap()
            .id;
    answer(world.authority.revoke_any(dead_id, &world.by(), world.now())).unwrap();
    for _ in 0..5 {
        assert_eq!(refused(world.authenticate(&dead)), Refusal::TokenRevoked);
    }
    assert!(world.authenticate(&laptop).is_ok() && world.authenticate(&phone).is_ok() && world.renew(&laptop).is_ok());
    for text in [&laptop, &phone] {
        let refusal = refused(world.authenticate(text));
        assert!(matches!(refusal, Refusal::Throttled(too_many) if too_many.retry_after_seconds == 60), "{refusal:?}");
    }
    assert!(world.authenticate(&elsewhere).is_ok(), "another client, another count");
    world.wait(60_000);
    assert!(world.authenticate(&phone).is_ok());
}

// ── Ending ──────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a08_revoking_at_any_level_is_enough() {
    type Act = fn(&World, &Identity) -> Result<(), Error>;
    let acts: [(&str, Act); 6] = [
        ("the token", |world, who| answer(world.authority.revoke_any(who.id, &world.by(), world.now()))),
        ("its subject", |world, who| {
            let ending = Ending::Subject { subject: who.subject.clone(), keys_too: false };
            answer(world.authority.end(ending, &world.by(), world.now()))
        }),
        ("its client", |world, who| {
            answer(world.authority.end(Ending::Client((&who.client).into()), &world.by(), world.now()))
        }),
        ("everybody", |world, _| answer(world.authority.end(Ending::Everybody, &world.by(), world.now()))),
        ("the client's row", |world, who| answer(world.authority.delete_client(&who.client, &world.by(), world.now()))),
        ("the account", |world, who| answer(world.authority.delete_user(&who.subject, &world.by(), world.now()))),
    ];
    for (level, act) in acts {
        let world = World::with_ada();
        let client = world.client("web", Policy::default());
        let token = text(&world.login_on(&client).unwrap());
        act(&world, &world.who(&token)).unwrap();
        assert!(world.authenticate(&token).is_err(), "{level}");
        world.wait(1_000);
        assert!(world.renew(&token).is_err() && world.rotate(&token).is_err(), "{level}");
    }
}

#[test]
fn a05_tokens_of_a_disabled_account_are_refused_until_it_is_enabled() {
    let world = World::with_ada();
    let token = world.login("ada");
    let key = world.key(&token, any_key()).unwrap();
    let ada = world.who(&token).subject;
    answer(world.authority.disable_user(&ada, &world.by(), world.now())).unwrap();
    for text in [&token, &key] {
        assert_eq!(refused(world.authenticate(text)), Refusal::SubjectInactive);
        assert_eq!(refused(world.rotate(text)), Refusal::SubjectInactive);
    }
    assert_eq!(refused(world.try_login("ada", PASSWORD, None)), Refusal::CredentialsRejected);
    answer(world.authority.enable_user(&ada, &world.by(), world.now())).unwrap();
    assert!(world.authenticate(&token).is_ok() && world.authenticate(&key).is_ok());
    answer(world.authority.delete_user(&ada, &world.by(), world.now())).unwrap();
    for text in [&token, &key] {
        assert_eq!(refused(world.authenticate(text)), Refusal::SubjectInactive);
    }
    let again = answer(world.authority.enable_user(&ada, &world.by(), world.now()));
    assert_eq!(refused(again), Refusal::NotFound);
}

#[test]
fn disabling_and_enabling_at_once_never_leave_a_disabled_account_with_live_tokens() {
    for _ in 0..50 {
        let world = World::with_ada();
        let token = world.login("ada");
        let ada = world.who(&token).subject;
        let start = Barrier::new(4);
        thread::scope(|scope| {
            for racer in 0..4 {
                let (world, ada, start) = (&world, &ada, &start);
                scope.spawn(move || {
                    start.wait();
                    if racer % 2 == 0 {
                        answer(world.authority.disable_user(ada, &world.by(), world.now())).unwrap();
                    } else {
                        answer(world.authority.enable_user(ada, &world.by(), world.now())).unwrap();
                    }
                });
            }
        });
        if !answer(world.authority.account(&ada)).unwrap().active {
            assert_eq!(refused(world.authenticate(&token)), Refusal::SubjectInactive);
        }
        answer(world.authority.enable_user(&ada, &world.by(), world.now())).unwrap();
        assert!(world.authenticate(&token).is_ok(), "enabling once more sets right what a race left shut");
    }
}

#[test]
fn a_hosts_own_account_logs_in_and_a_wrong_guess_writes_nothing() {
    let world = World::with_ada();
    let ada = answer(world.authority.user("ada")).unwrap();
    let row = answer(world.store.account(&ada.subject)).unwrap().unwrap().password;
    let own = Account { subject: "host:7".parse().unwrap(), username: "host".parse().unwrap(), ..ada };
    assert!(answer(world.store.create(&own, &row, Distinct::ByCase)).unwrap());
    assert_eq!(refused(world.try_login("host", "wrong", None)), Refusal::CredentialsRejected);
    assert_eq!(answer(world.store.subject(&own.subject)).unwrap(), None);
    assert_eq!(world.who(&world.login("host")).subject, own.subject);
}

#[test]
fn r08_keys_survive_what_ends_logins_and_die_with_the_account() {
    let world = World::with_ada();
    let login = world.login("ada");
    let key = world.key(&login, any_key()).unwrap();
    let ada = world.who(&login).subject;
    answer(world.authority.logout_all(&world.who(&login), &world.source, world.now())).unwrap();
    assert_eq!(refused(world.authenticate(&login)), Refusal::TokenRevoked);
    assert!(world.authenticate(&key).is_ok());
    let login = world.login("ada");
    answer(world.authority.set_password(&ada, password("another password"), &world.by(), world.now())).unwrap();
    assert_eq!(refused(world.authenticate(&login)), Refusal::TokenRevoked);
    assert_eq!(refused(world.try_login("ada", PASSWORD, None)), Refusal::CredentialsRejected);
    assert!(world.authenticate(&key).is_ok());
    let ending = Ending::Subject { subject: ada.clone(), keys_too: true };
    answer(world.authority.end(ending, &world.by(), world.now())).unwrap();
    assert_eq!(refused(world.authenticate(&key)), Refusal::TokenRevoked, "unless they are included");
    // A key that logs everyone else out stays.
    let login = text(&world.try_login("ada", "another password", None).unwrap().issued);
    let key = world.key(&login, any_key()).unwrap();
    answer(world.authority.logout_others(&world.who(&key), &world.source, world.now())).unwrap();
    assert!(world.authenticate(&key).is_ok());
    assert_eq!(refused(world.authenticate(&login)), Refusal::TokenRevoked);
}

#[test]
fn a13_somebody_elses_token_is_as_unknown_as_none() {
    let world = World::with_ada();
    world.user("eve");
    let (ada, eve) = (world.login("ada"), world.login("eve"));
    let (victim, thief) = (world.who(&ada), world.who(&eve));
    let rename = answer(world.authority.rename(&thief, victim.id, Kind::Login, None, world.now()));
    assert_eq!(refused(rename), Refusal::NotFound);
    let revoke = answer(world.authority.revoke(&thief, victim.id, Kind::Login, &world.source, world.now()));
    assert_eq!(refused(revoke), Refusal::NotFound);
    let as_key = answer(world.authority.revoke(&victim, victim.id, Kind::Key, &world.source, world.now()));
    assert_eq!(refused(as_key), Refusal::NotFound);
    assert!(world.authenticate(&ada).is_ok());
}

#[test]
fn a74_a_new_account_of_an_old_name_inherits_nothing() {
    let world = World::with_ada();
    let token = world.login("ada");
    let before = world.who(&token).subject;
    answer(world.authority.delete_user(&before, &world.by(), world.now())).unwrap();
    let after = world.user("ada");
    assert_ne!(after.subject, before);
    assert_eq!(refused(world.authenticate(&token)), Refusal::SubjectInactive);
    let fresh = world.login("ada");
    let who = world.who(&fresh);
    let listed = answer(world.authority.tokens_of(&who, Kind::Login, PageRequest::default(), world.now())).unwrap();
    assert_eq!(listed.items.len(), 1);
}

#[test]
fn dead_tokens_are_purged_after_the_retention_and_not_before() {
    let world = World::with_ada();
    let token = world.login("ada");
    let who = world.who(&token);
    answer(world.authority.logout(&who, &world.source, world.now())).unwrap();
    world.wait(30 * 86_400_000 - 1);
    assert_eq!(answer(world.authority.purge(100, world.now())).unwrap().rows, 0);
    assert!(answer(world.authority.token(who.id)).is_ok());
    world.wait(1);
    assert_eq!(answer(world.authority.purge(100, world.now())).unwrap().rows, 1);
    assert_eq!(refused(answer(world.authority.token(who.id))), Refusal::NotFound);
    assert_eq!(refused(world.authenticate(&token)), Refusal::TokenUnknown);
}

// ── Rotation ────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_rotated_secret_keeps_the_record_and_the_old_one_works_for_the_grace() {
    let world = World::with_ada();
    let old = world.login("ada");
    let id = world.who(&old).id;
    let new = world.rotate(&old).unwrap();
    world.wait(29_999);
    assert_eq!(world.who(&old).id, id);
    world.happened();
    world.wait(1);
    assert_eq!(refused(world.authenticate(&old)), Refusal::TokenRevoked);
    let told = world.happened();
    assert!(matches!(&told[..], [Event::ReuseDetected(_), Event::TokenRevoked(_, RevokedBy::Reuse)]), "{told:?}");
    assert_eq!(refused(world.authenticate(&new)), Refusal::TokenRevoked, "a copy is about: the successor dies too");
}

#[test]
fn using_the_successor_ends_the_grace_at_once() {
    let world = World::with_ada();
    let old = world.login("ada");
    let new = world.rotate(&old).unwrap();
    world.who(&new);
    assert_eq!(refused(world.authenticate(&old)), Refusal::TokenRevoked);
    assert_eq!(refused(world.authenticate(&new)), Refusal::TokenRevoked);
}

#[test]
fn a_lost_reply_is_made_good_by_rotating_again() {
    let world = World::with_ada();
    let old = world.login("ada");
    let lost = world.rotate(&old).unwrap();
    world.wait(10_000);
    let new = world.rotate(&old).unwrap();
    world.happened();
    assert_eq!(refused(world.authenticate(&lost)), Refusal::TokenRevoked);
    assert!(matches!(&world.happened()[..], [Event::ReuseDetected(_)]), "told, and nobody is logged out");
    assert!(world.authenticate(&new).is_ok());
    assert!(world.rotate(&new).is_ok(), "and on it goes");
}

#[test]
fn a_retired_secret_of_a_key_only_raises_the_alarm() {
    let world = World::with_ada();
    let key = world.key(&world.login("ada"), any_key()).unwrap();
    let new = world.rotate(&key).unwrap();
    world.wait(30_000);
    world.happened();
    assert_eq!(refused(world.authenticate(&key)), Refusal::TokenRevoked);
    assert!(matches!(&world.happened()[..], [Event::ReuseDetected(_)]));
    assert!(world.authenticate(&new).is_ok());
}

#[test]
fn a12_sixty_four_rotations_leave_one_live_successor_and_renewals_all_succeed() {
    let world = World::with_ada();
    let old = world.login("ada");
    let start = Barrier::new(8);
    let texts: Vec<String> = thread::scope(|scope| {
        let racing: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    (0..8).map(|_| world.rotate(&old).unwrap()).collect::<Vec<_>>()
                })
            })
            .collect();
        racing.into_iter().flat_map(|racer| racer.join().unwrap()).collect()
    });
    assert_eq!(texts.len(), 64);
    let live: Vec<&String> = texts.iter().filter(|text| world.authenticate(text).is_ok()).collect();
    assert_eq!(live.len(), 1);

    let start = Barrier::new(8);
    let ends: Vec<Option<Timestamp>> = thread::scope(|scope| {
        let racing: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    (0..8).map(|_| world.renew(live[0]).unwrap()).collect::<Vec<_>>()
                })
            })
            .collect();
        racing.into_iter().flat_map(|racer| racer.join().unwrap()).collect()
    });
    assert!(ends.iter().all(|end| *end >= Some(START.plus_millis(30 * 86_400_000))));
    assert!(world.authenticate(live[0]).is_ok());
}

#[test]
fn a_clock_that_is_set_back_does_not_open_a_grace_again() {
    let world = World::with_ada();
    let key = world.key(&world.login("ada"), any_key()).unwrap();
    let new = world.rotate(&key).unwrap();
    world.wait(5_000);
    world.who(&new);
    world.clock.set_wall(START.minus_millis(10_000));
    assert_eq!(refused(world.authenticate(&key)), Refusal::TokenRevoked);
    assert!(world.authenticate(&new).is_ok());
}

#[test]
fn a_ring_seals_only_the_secrets_that_a_client_gives_again() {
    let ring = KeyRing::generate(&PredictableEntropy::from_seed(9)).unwrap();
    let world = World::with(|parts| parts.ring = Some(ring));
    world.user("ada");
    let login = world.rotate(&world.login("ada")).unwrap();
    let same = world.client("same", Policy { reissue: Reissue::Same, ..Policy::default() });
    let key = {
        let on_same = text(&world.login_on(&same).unwrap());
        assert_eq!(format!("{:?}", world.store).matches("Sealed {").count(), 1);
        world.key(&on_same, any_key()).unwrap()
    };
    world.rotate(&key).unwrap();
    world.rotate(&login).unwrap();
    assert_eq!(format!("{:?}", world.store).matches("Sealed {").count(), 1, "one token, of one client");
}

// ── API keys and abilities ──────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_key_is_never_above_its_maker() {
    let world = World::with_ada();
    let login = world.login("ada");
    let abilities = |text: &str| Some(text.parse::<Abilities>().unwrap());
    let reader = world.key(&login, NewKey { abilities: abilities("files:read"), ..any_key() }).unwrap();
    assert_eq!(world.who(&reader).abilities.to_string(), "files:read");
    for beyond in ["files:write", "*", "files:read mail:send"] {
        let key = NewKey { abilities: abilities(beyond), ..any_key() };
        assert!(matches!(refused(world.key(&reader, key)), Refusal::AbilityBeyondMaker(_)), "{beyond}");
    }
    assert_eq!(world.who(&world.key(&reader, any_key()).unwrap()).abilities.to_string(), "files:read");
    for reserved in ["tokens:introspect", "tokens:revoke", "admin:users"] {
        let key = NewKey { abilities: abilities(reserved), ..any_key() };
        assert!(matches!(refused(world.key(&login, key)), Refusal::AbilityBeyondMaker(_)), "{reserved}");
    }
    let wanted = "files:write".parse().unwrap();
    let may = world.authority.require(&world.who(&reader), &wanted, &world.source, world.now());
    assert_eq!(may, Err(Refusal::AbilityMissing(wanted.clone())));
    assert_eq!(world.authority.require(&world.who(&login), &wanted, &world.source, world.now()), Ok(()));
}

#[test]
fn a_key_made_by_a_key_does_not_outlive_it() {
    let world = World::with_ada();
    let login = world.login("ada");
    let end = START.plus_millis(1_000);
    let parent = world.key(&login, NewKey { expires_at: Some(end), ..any_key() }).unwrap();
    assert_eq!(world.who(&world.key(&parent, any_key()).unwrap()).expires_at, Some(end));
    let later = NewKey { expires_at: Some(end.plus_millis(1)), ..any_key() };
    assert_eq!(refused(world.key(&parent, later)), Refusal::ExpiryBeyondMaker);
    assert_eq!(world.who(&world.key(&login, any_key()).unwrap()).expires_at, None, "a login's key is its owner's");
    for past in [START, START.minus_millis(1), Timestamp::MIN] {
        let dead = NewKey { expires_at: Some(past), ..any_key() };
        assert!(matches!(refused(world.key(&login, dead)), Refusal::Invalid(_)));
    }
}

#[test]
fn a_host_issues_tokens_for_its_own_users() {
    let world = World::new();
    let order = TokenOrder {
        kind: Kind::Login,
        subject: "user:42".parse().unwrap(),
        client: None,
        name: None,
        abilities: "files:read".parse().unwrap(),
        metadata: Default::default(),
        expiry: Expiry::Never,
    };
    let first = answer(world.authority.issue(order.clone(), &world.by(), world.now())).unwrap();
    assert!(first.first_of_subject);
    let second = answer(world.authority.issue(order.clone(), &world.by(), world.now())).unwrap();
    assert!(!second.first_of_subject);
    let who = world.who(&text(&first));
    assert_eq!((who.subject.as_str(), who.expires_at), ("user:42", None));
    let (_, account) = answer(world.authority.me(&who)).unwrap();
    assert_eq!(account, None);
    let dead = TokenOrder { expiry: Expiry::At(START), ..order };
    let refusal = refused(answer(world.authority.issue(dead, &world.by(), world.now())));
    assert!(matches!(refusal, Refusal::Invalid(_)));
}

// ── Lists ───────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a47_a_cursor_that_we_did_not_make_is_refused() {
    let world = World::with_ada();
    world.user("eve");
    let token = world.login("ada");
    (0..4).for_each(|_| drop(world.login("ada")));
    let who = world.who(&token);
    let eve = world.who(&world.login("eve"));
    let page = |after| {
        let request = PageRequest { after, limit: 2 };
        answer(world.authority.tokens_of(&who, Kind::Login, request, world.now())).unwrap()
    };
    let mut seen = page(None);
    let mut numbers: Vec<u64> = seen.items.iter().map(|token| token.number).collect();
    while let Some(next) = seen.next {
        let cursor = world.authority.cursor_text(&next, List::Own(Kind::Login), &who);
        let read = |text: &str, list, who: &Identity| world.authority.cursor::<Cursor>(text, list, who);
        assert_eq!(read(&cursor, List::Own(Kind::Login), &who), Ok(next));
        for list in [List::Own(Kind::Key), List::Tokens, List::Users, List::Audit] {
            assert!(read(&cursor, list, &who).is_err(), "another list");
        }
        assert!(read(&cursor, List::Own(Kind::Login), &eve).is_err(), "somebody else's");
        let shouted = cursor.to_uppercase();
        assert!(shouted == cursor || read(&shouted, List::Own(Kind::Login), &who).is_err(), "one spelling");
        assert!(read(&format!("0{cursor}"), List::Own(Kind::Login), &who).is_err());
        assert!(read(&format!("00{cursor}"), List::Own(Kind::Login), &who).is_err());
        seen = page(Some(next));
        numbers.extend(seen.items.iter().map(|token| token.number));
    }
    assert_eq!(numbers.len(), 5);
    assert!(numbers.is_sorted());
    for forged in ["", ".", "0.0", "1.0000000000000000", "-1.0", "ffffffffffffffff.ffffffffffffffff", "é.é"] {
        let read = world.authority.cursor::<Cursor>(forged, List::Own(Kind::Login), &who);
        assert!(matches!(read, Err(Refusal::Invalid(_))), "{forged}");
    }
    let name: Username = "Zoë\u{1f980}'%_".parse().unwrap();
    let cursor = world.authority.cursor_text(&name, List::Users, &who);
    assert_eq!(world.authority.cursor(&cursor, List::Users, &who), Ok(name));
    assert!(world.authority.cursor::<Username>(&cursor, List::Tokens, &who).is_err());
}

// ── Accounts and clients ────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn the_operator_changes_accounts_and_clients() {
    let world = World::with_ada();
    let ada = answer(world.authority.user("ADA")).unwrap();
    assert!(!answer(world.authority.has_administrator()).unwrap());
    answer(world.authority.set_role(&ada.subject, Role::Admin, &world.by(), world.now())).unwrap();
    assert!(answer(world.authority.has_administrator()).unwrap());
    let again = NewAccount::named("Ada".parse().unwrap());
    let taken = answer(world.authority.create_user(again, Some(password(PASSWORD)), &world.by(), world.now()));
    assert_eq!(refused(taken), Refusal::UsernameTaken);
    let empty = NewAccount::named("bob".parse().unwrap());
    let empty = answer(world.authority.create_user(empty, Some(password("")), &world.by(), world.now()));
    assert!(matches!(refused(empty), Refusal::Invalid(_)));
    let mail = AccountChange::Email(Some("ada@example.org".parse().unwrap()), Some(START));
    answer(world.store.change(&ada.subject, &[mail])).unwrap();
    world.login("Ada@Example.org");

    let web = world.client("web", Policy::default());
    let token = text(&world.login_on(&web).unwrap());
    let shorter = |client: &counterfoil_core::Client| {
        let policy = Policy { ttl: Some(life("1h")), ..client.policy.clone() };
        Ok(ClientOrder { policy, ..ClientOrder::named(client.name.clone()) })
    };
    answer(world.authority.update_client(&web, shorter, &world.by(), world.now())).unwrap();
    assert_eq!(world.who(&token).expires_at, Some(START.plus_millis(30 * 86_400_000)), "issued under the old rules");
    assert_eq!(world.login_on(&web).unwrap().token.expires_at, Some(START.plus_millis(3_600_000)));
    let bad = |client: &counterfoil_core::Client| {
        let policy = Policy { max_lifetime: Some(life("1s")), ..client.policy.clone() };
        Ok(ClientOrder { policy, ..ClientOrder::named(client.name.clone()) })
    };
    let refusal = refused(answer(world.authority.update_client(&web, bad, &world.by(), world.now())));
    assert!(matches!(refusal, Refusal::Invalid(_)));
}

// ── Secrets ─────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a82_no_event_and_no_debug_output_holds_a_secret() {
    let world = World::with_ada();
    let token = world.login("ada");
    let rotated = world.rotate(&token).unwrap();
    let key = world.key(&rotated, any_key()).unwrap();
    let _refused = world.try_login("ada", "canary-password", None);
    world.wait(30_000);
    let _reuse = world.authenticate(&token);
    let login = Login { username: "ada".into(), password: password("canary-password"), client: None, name: None };
    let all = format!("{:?} {:?} {:?} {login:?}", world.happened(), world.authority, world.store);
    for secret in [&token, &rotated, &key] {
        assert!(!all.contains(&secret[3..]), "a secret is printed");
        assert!(!all.contains(&secret[3..18]), "a part of a secret is printed");
    }
    assert!(!all.contains("canary-password") && !all.contains(PASSWORD) && !all.contains("$argon2id$"));
}
