use std::sync::Arc;

use super::*;
use crate::ability::Abilities;
use crate::client::{ClientId, Policy, Renewal};
use crate::entropy::PredictableEntropy;
use crate::lease::LEASE_MILLIS;
use crate::subject::{Epoch, Epochs, SubjectId, SubjectState};
use crate::token::{Kind, Metadata};

const WALL: Timestamp = Timestamp::from_millis(1_795_172_400_000);
/// When the questions of these tests are sent.
const SENT: u64 = 5_000_000_000;

fn at(millis: u64) -> Now {
    Now { wall: WALL.plus_millis(millis), boot: Some(BootTime(SENT + millis * 1_000_000)) }
}

fn client(number: u8, version: u64, policy: Policy) -> Arc<Client> {
    Arc::new(Client {
        id: ClientId::generate(WALL, &PredictableEntropy::from_seed(number.into())).unwrap(),
        name: format!("client-{number}").parse().unwrap(),
        policy,
        allow_login: true,
        metadata: Metadata::default(),
        epoch: Epoch(0),
        version,
        created_at: WALL,
    })
}

fn subject(number: u32) -> SubjectId {
    format!("subject-{number}").parse().unwrap()
}

fn digest(number: u32) -> TokenDigest {
    TokenDigest::of_text(&format!("token {number}"))
}

fn found(number: u32, subject_number: u32) -> Found {
    let mut id = [0; 16];
    id[..6].copy_from_slice(&WALL.millis().to_be_bytes()[2..]);
    id[12..].copy_from_slice(&number.to_be_bytes());
    Found {
        id: TokenId::from_bytes(id),
        kind: Kind::Login,
        subject: subject(subject_number),
        subject_state: SubjectState::Active,
        client: client(0, 1, Policy::default()),
        abilities: Abilities::everything(),
        issued_at: WALL,
        expires_at: Some(WALL.plus_millis(60_000)),
        revoked_at: None,
        stamped: Epochs::default(),
        current: Epochs::default(),
        digest: digest(number),
        presented: Presented::Current,
    }
}

/// A cache that follows a log, and the log.
struct World {
    cache: Cache,
    log: Vec<Change>,
    incarnation: [u8; 16],
}

impl World {
    fn of(lines: usize) -> World {
        let cache = Cache::of(lines, 7, CheckKey::from_bytes([7; 16]));
        let world = World { cache, log: Vec::new(), incarnation: [1; 16] };
        assert_eq!(world.follow(), Followed::UpToDate);
        world
    }

    fn answer(&self, poll: &Poll) -> Changes {
        let rows = self.log.iter().filter(|change| change.number > poll.after).take(poll.limit as usize);
        let head = self.log.last().map_or(0, |change| change.number);
        Changes { incarnation: self.incarnation, head, rows: rows.cloned().collect(), clock: None }
    }

    fn follow(&self) -> Followed {
        let poll = self.cache.ask();
        self.cache.answered(&poll, &self.answer(&poll), Some(BootTime(SENT)))
    }

    /// Where there is a log already: at its last change, and then the tag of that.
    fn begin_anew(&self) {
        assert_eq!(self.follow(), Followed::More);
        assert_eq!(self.follow(), Followed::UpToDate);
    }

    fn commit(&mut self, what: Changed) {
        let number = self.log.last().map_or(1, |change| change.number + 1);
        self.log.push(Change { number, tag: number * 31, at: WALL, what });
    }

    fn fill(&self, found: &Found) {
        let fill = self.cache.begin_fill().expect("followed");
        self.cache.fill(fill, DigestScheme::Native, found, None, at(0).boot);
    }

    fn hit(&self, number: u32, now: Now) -> Option<Hit> {
        self.cache.get(DigestScheme::Native, &digest(number), None, now)
    }

    fn knows(&self, number: u32) -> bool {
        self.hit(number, at(1)).is_some()
    }
}

#[test]
fn a_hit_says_what_the_store_said() {
    let world = World::of(64);
    let long = found(1, 0);
    let long = Found { subject: "x".repeat(64).parse().unwrap(), ..long };
    let forever = Found { expires_at: None, kind: Kind::Key, abilities: "files:read".parse().unwrap(), ..found(2, 1) };
    for found in [&long, &forever] {
        world.fill(found);
    }
    for (number, found) in [(1, &long), (2, &forever)] {
        assert_eq!(world.hit(number, at(1)).expect("known").identity, Identity::from(found));
    }
    assert_eq!(world.cache.len(), 2);
    assert!(world.cache.get(DigestScheme::PlainText, &digest(1), None, at(1)).is_none(), "another scheme");
    assert!(world.cache.get(DigestScheme::Native, &digest(3), None, at(1)).is_none());
}

#[test]
fn a20_a_cached_token_is_refused_at_the_instant_of_expiry() {
    let world = World::of(64);
    world.fill(&Found { expires_at: Some(WALL.plus_millis(500)), ..found(1, 1) });
    assert!(world.hit(1, at(499)).is_some());
    assert!(world.hit(1, at(500)).is_none());
    assert!(world.hit(1, Now { wall: Timestamp::MAX, ..at(1) }).is_none());
}

#[test]
fn nothing_is_answered_from_the_instant_at_which_the_lease_ends() {
    let world = World::of(64);
    world.fill(&found(1, 1));
    assert!(world.hit(1, at(LEASE_MILLIS - 1)).is_some());
    assert!(world.hit(1, at(LEASE_MILLIS)).is_none());
    assert!(world.hit(1, Now { boot: None, ..at(0) }).is_none(), "without a boot clock there is no cache");
    // An answer that was overtaken does not shorten what the newer one gave.
    let poll = world.cache.ask();
    let late = world.cache.answered(&poll, &world.answer(&poll), Some(BootTime(SENT - 800_000_000)));
    assert_eq!(late, Followed::UpToDate);
    assert!(world.hit(1, at(LEASE_MILLIS - 1)).is_some());
}

#[test]
fn every_level_of_revocation_ends_what_it_names_and_nothing_else() {
    let other = client(5, 1, Policy::default());
    let filled = || {
        let world = World::of(256);
        for number in 0..4 {
            world.fill(&found(number, number / 2));
        }
        world.fill(&Found { client: other.clone(), ..found(4, 0) });
        world
    };
    for (what, live) in [
        (Changed::Tokens(vec![digest(0), digest(3)]), [false, true, true, false, true]),
        (Changed::Subject(subject(0)), [false, false, true, true, false]),
        (Changed::Client(other.id), [true, true, true, true, false]),
        (Changed::Client(found(0, 0).client.id), [false, false, false, false, true]),
        (Changed::Everything, [false; 5]),
    ] {
        let mut world = filled();
        world.commit(what.clone());
        assert_eq!(world.follow(), Followed::UpToDate);
        assert_eq!(std::array::from_fn(|number| world.knows(number as u32)), live, "{what:?}");
        // And whoever comes afterwards is known again.
        world.fill(&found(0, 0));
        assert!(world.knows(0));
    }
}

#[test]
fn a_look_up_from_before_a_revocation_does_not_bring_the_token_back() {
    for what in [
        Changed::Tokens(vec![digest(1)]),
        Changed::Subject(subject(1)),
        Changed::Client(found(1, 1).client.id),
        Changed::Everything,
    ] {
        let mut world = World::of(64);
        let fill = world.cache.begin_fill().expect("followed");
        let row = found(1, 1); // read before the revocation
        world.commit(what.clone());
        world.follow();
        world.cache.fill(fill, DigestScheme::Native, &row, None, at(0).boot);
        assert!(!world.knows(1), "{what:?}");
        world.fill(&row);
        assert!(world.knows(1), "a later look-up is put in");
    }
}

#[test]
fn a_fill_that_nobody_can_answer_for_any_more_is_dropped() {
    let mut world = World::of(64);
    let fill = world.cache.begin_fill().expect("followed");
    for number in 0..=REMEMBERED as u32 {
        world.commit(Changed::Tokens(vec![digest(1_000 + number)]));
    }
    while world.follow() == Followed::More {}
    world.cache.fill(fill, DigestScheme::Native, &found(1, 1), None, at(0).boot);
    assert!(!world.knows(1), "what was applied since is no longer remembered");

    let fill = world.cache.begin_fill().expect("followed");
    world.incarnation = [2; 16];
    assert_eq!(world.follow(), Followed::Forgotten(Doubt::OtherStore));
    world.begin_anew();
    world.cache.fill(fill, DigestScheme::Native, &found(1, 1), None, at(0).boot);
    assert!(!world.knows(1), "it was looked up in the other store");
}

#[test]
fn what_may_not_be_relied_on_is_not_kept() {
    let world = World::of(64);
    let sliding = Policy {
        renewal: Renewal::OnUse { at_most_every: "10s".parse().unwrap() },
        ttl: Some("60s".parse().unwrap()),
        ..Policy::default()
    };
    for (why, found) in [
        ("a retired secret", Found { presented: Presented::Retired { grace_until: Timestamp::MAX }, ..found(1, 1) }),
        ("a successor", Found { presented: Presented::Successor, ..found(1, 1) }),
        ("an id of another instant", Found { issued_at: WALL.plus_millis(1), ..found(1, 1) }),
        ("a lifetime beyond 34 years", Found { expires_at: Some(Timestamp::MAX), ..found(1, 1) }),
    ] {
        world.fill(&found);
        assert!(!world.knows(1), "{why}");
    }
    world.fill(&Found { client: client(3, 1, sliding), ..found(1, 1) });
    assert!(world.hit(1, Now { wall: WALL.plus_millis(9_999), ..at(0) }).is_some());
    assert!(world.hit(1, Now { wall: WALL.plus_millis(10_000), ..at(0) }).is_none(), "this use renews it");
}

#[test]
fn an_answer_to_a_question_from_before_a_doubt_does_not_end_it() {
    let mut world = World::of(64);
    world.fill(&found(1, 1));
    let before = world.cache.ask();
    let answer = world.answer(&before);
    world.commit(Changed::Tokens(vec![digest(1)]));
    world.cache.suspend(); // whoever committed could not apply it
    assert_eq!(world.cache.answered(&before, &answer, Some(BootTime(SENT + 1))), Followed::UpToDate);
    assert!(!world.knows(1));
    world.fill(&found(2, 2));
    assert!(!world.knows(2), "nothing is answered");
    assert_eq!(world.follow(), Followed::UpToDate);
    assert!(!world.knows(1));
    assert!(world.knows(2));
}

#[test]
fn another_history_than_the_one_that_was_followed_empties_the_cache() {
    type Mishap = fn(&mut World);
    let mishaps: [(Doubt, Mishap); 5] = [
        (Doubt::OtherStore, |world| world.incarnation = [9; 16]),
        (Doubt::Rewound, |world| world.log.truncate(2)),
        (Doubt::Rewritten, |world| {
            world.log.truncate(2);
            world.commit(Changed::Subject(subject(77)));
            world.log[2].tag = 4_711;
        }),
        (Doubt::Gap, |world| {
            (0..3).for_each(|_| world.commit(Changed::Subject(subject(77))));
            world.log.drain(..4);
        }),
        (Doubt::Gap, |world| {
            (0..3).for_each(|_| world.commit(Changed::Subject(subject(77))));
            world.log.remove(4);
        }),
    ];
    for (doubt, mishap) in mishaps {
        let mut world = World::of(64);
        (0..3).for_each(|number| world.commit(Changed::Subject(subject(50 + number))));
        world.follow();
        world.fill(&found(1, 1));
        assert!(world.knows(1));
        mishap(&mut world);
        assert_eq!(world.follow(), Followed::Forgotten(doubt));
        assert_eq!((world.cache.take_doubt(), world.cache.take_doubt()), (Some(doubt), None), "told once");
        assert!(!world.knows(1), "{doubt:?}");
        assert_eq!(world.cache.lease_until(), BootTime(0));
        world.begin_anew();
        assert!(!world.knows(1), "it begins anew, with nothing");
        world.fill(&found(1, 1));
        assert!(world.knows(1));
    }
}

#[test]
fn f19_nothing_is_put_in_before_the_tag_of_the_last_change_is_known() {
    let mut world = World::of(64);
    world.commit(Changed::Everything);
    world.incarnation = [2; 16];
    assert_eq!(world.follow(), Followed::Forgotten(Doubt::OtherStore));
    assert_eq!(world.follow(), Followed::More, "it begins at the last change, of which it knows the number alone");
    assert!(world.cache.begin_fill().is_none(), "or else this look-up would be from before …");
    world.log[0] = Change { tag: 5, what: Changed::Tokens(vec![digest(1)]), ..world.log[0].clone() };
    assert_eq!(
        world.follow(),
        Followed::UpToDate,
        "… what has taken the place of that change, and is not told from it"
    );
    world.fill(&found(2, 2));
    world.log[0].tag = 6;
    assert_eq!(world.follow(), Followed::Forgotten(Doubt::Rewritten));
    assert!(!world.knows(2));
}

#[test]
fn answers_may_overtake_one_another() {
    let mut world = World::of(64);
    world.commit(Changed::Tokens(vec![digest(1)]));
    let slow = world.cache.ask();
    let old = world.answer(&slow);
    world.commit(Changed::Tokens(vec![digest(2)]));
    assert_eq!(world.follow(), Followed::UpToDate);
    world.fill(&found(1, 1));
    assert_eq!(world.cache.answered(&slow, &old, Some(BootTime(SENT))), Followed::UpToDate);
    assert!(world.knows(1), "what was applied is not applied twice");
    world.commit(Changed::Tokens(vec![digest(1)]));
    assert_eq!(world.follow(), Followed::UpToDate);
    assert!(!world.knows(1));
}

#[test]
fn it_does_not_grow_and_gives_up_what_was_not_seen_for_longest() {
    let world = World::of(lines::WINDOW);
    for number in 0..lines::WINDOW as u32 {
        let fill = world.cache.begin_fill().expect("followed");
        let minutes = if number == 5 { 0 } else { 10 };
        let boot = BootTime(SENT + minutes * 60_000_000_000);
        world.cache.fill(fill, DigestScheme::Native, &found(number, number), None, Some(boot));
    }
    assert_eq!(world.cache.len(), lines::WINDOW);
    let fill = world.cache.begin_fill().expect("followed");
    let boot = BootTime(SENT + 600_000_000_000);
    world.cache.fill(fill, DigestScheme::Native, &found(100, 100), None, Some(boot));
    assert_eq!(world.cache.len(), lines::WINDOW);
    assert!(!world.knows(5) && world.knows(100) && world.knows(4));
}

#[test]
fn it_spreads_out_as_it_fills_and_nothing_is_lost_or_spared_on_the_way() {
    let mut world = World::of(20_000);
    for number in 0..14_000 {
        world.fill(&found(number, number));
        // Revoked while it may lie in its old place or in its new one.
        if number % 500 == 499 {
            world.commit(Changed::Tokens(vec![digest(number / 2)]));
            assert_eq!(world.follow(), Followed::UpToDate);
            assert!(!world.knows(number / 2), "{number}");
        }
    }
    world.cache.tidy(20_000, WALL);
    let known = (0..14_000).filter(|&number| world.knows(number)).count();
    assert_eq!(known, world.cache.len());
    // A few find no room near their new homes.
    assert!(known >= 13_800, "{known}");
    world.commit(Changed::Everything);
    world.follow();
    assert_eq!((0..14_000).filter(|&number| world.knows(number)).count(), 0);
}

#[test]
fn nobody_pushes_others_out_with_tokens_of_their_own() {
    let world = World::of(4_096);
    world.fill(&found(1, 1));
    for number in 0..LINES_PER_SUBJECT * 2 {
        world.fill(&found(100 + number, 2));
    }
    assert_eq!(world.cache.len() as u32, LINES_PER_SUBJECT + 1);
    assert!(world.knows(1));
}

#[test]
fn many_sets_of_abilities_leave_room_for_logins() {
    let world = World::of(20_000);
    for number in 0..cohorts::PLACES as u32 {
        let abilities = format!("files:{number}").parse().unwrap();
        world.fill(&Found { abilities, ..found(number, number) });
    }
    assert!(world.knows(0) && !world.knows(cohorts::PLACES as u32 - 1));
    world.fill(&Found { client: client(3, 1, Policy::default()), ..found(9_999, 9_999) });
    assert!(world.knows(9_999));
}

#[test]
fn what_is_dead_is_cleared_away_and_its_numbers_are_used_again() {
    let mut world = World::of(4_096);
    for round in 0..20 {
        for number in 0..500 {
            world.fill(&found(number, number));
        }
        // One or two find no room while all spread out.
        assert!((490..=500).contains(&world.cache.len()), "round {round}");
        let what = if round % 2 == 0 { Changed::Everything } else { Changed::Client(found(0, 0).client.id) };
        world.commit(what);
        world.follow();
        world.cache.tidy(4_096, WALL);
        assert!(world.cache.is_empty());
    }
    let ledger = world.cache.ledger();
    assert!(ledger.register.numbers_given() <= 501, "numbers are used again");
    drop(ledger);
    world.fill(&Found { expires_at: Some(WALL.plus_millis(5)), ..found(1, 1) });
    world.fill(&Found { expires_at: None, ..found(2, 2) });
    world.cache.tidy(4_096, WALL.plus_millis(4));
    assert_eq!(world.cache.len(), 2);
    world.cache.tidy(4_096, WALL.plus_millis(5));
    assert_eq!(world.cache.len(), 1);
}

#[test]
fn a_use_is_noted_once_a_minute_and_at_once_from_another_address() {
    let world = World::of(64);
    world.fill(&Found { expires_at: None, ..found(1, 1) });
    let noted = |address: [u8; 4], millis: u64| {
        let poll = world.cache.ask();
        let BootTime(boot) = at(millis).boot.unwrap();
        world.cache.answered(&poll, &world.answer(&poll), Some(BootTime(boot)));
        let hit = world.cache.get(DigestScheme::Native, &digest(1), Some(address.into()), at(millis));
        hit.expect("known").worth_noting
    };
    assert!(noted([192, 0, 2, 1], 0), "another address than the look-up's");
    assert!(!noted([192, 0, 2, 1], 1));
    assert!(noted([192, 0, 2, 2], 2));
    assert!(!noted([192, 0, 2, 2], 3));
    let times = (0..640).filter(|tenth| noted([192, 0, 2, 2], 4 + tenth * 80)).count();
    assert!((0..=1).contains(&times), "in 51 seconds: {times}");
    assert!(noted([192, 0, 2, 2], 200_000), "two minutes later");
    assert!(!noted([192, 0, 2, 2], 200_001));
}

mod interleavings {
    //! Every order in which a fill, a revocation elsewhere, two polls and the clock may come, and what a reader then hears.

    use super::*;

    /// The steps of each actor, in their order. What is done between two of them by others is what is tried out.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Step {
        BeginFill,
        Find,
        Fill,
        Commit,
        Ask,
        Answer,
        Apply,
        Wait,
    }

    const ACTORS: [&[Step]; 4] = [
        &[Step::BeginFill, Step::Find, Step::Fill],
        &[Step::Commit],
        &[Step::Ask, Step::Answer, Step::Apply, Step::Ask, Step::Answer, Step::Apply],
        &[Step::Wait, Step::Wait],
    ];

    /// What is done wrongly on purpose.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Variant {
        AsItIs,
        /// The lease counts from when the answer came.
        LeaseFromReceipt,
        /// The fill counts as begun when the row is there.
        FillWithoutBeginning,
        /// The clock of the lease stands still while the machine is suspended.
        ClockThatStops,
        /// The cache is not told of what the answer says.
        NothingApplied,
    }

    /// Runs one order; whether a reader heard yes a lease or more after the revocation was committed.
    fn violates(order: &[Step], variant: Variant) -> bool {
        let mut world = World::of(64);
        let mut elapsed = 0;
        let boot = |elapsed: u64| match variant {
            Variant::ClockThatStops => BootTime(SENT),
            Variant::AsItIs | Variant::LeaseFromReceipt | Variant::FillWithoutBeginning | Variant::NothingApplied => {
                BootTime(SENT + elapsed * 1_000_000)
            }
        };
        let (mut fill, mut row) = (None, None);
        let (mut asked, mut answer) = (None, None);
        let mut committed = None;
        let mut violated = false;
        for step in order {
            match step {
                Step::BeginFill => fill = world.cache.begin_fill(),
                Step::Find => {
                    row = committed.is_none().then(|| found(1, 1));
                }
                Step::Fill => {
                    if variant == Variant::FillWithoutBeginning {
                        fill = world.cache.begin_fill();
                    }
                    if let (Some(fill), Some(row)) = (fill, &row) {
                        world.cache.fill(fill, DigestScheme::Native, row, None, Some(boot(elapsed)));
                    }
                }
                Step::Commit => {
                    world.commit(Changed::Tokens(vec![digest(1)]));
                    committed = Some(elapsed);
                }
                Step::Ask => asked = Some((world.cache.ask(), boot(elapsed))),
                Step::Answer => {
                    let (poll, _) = asked.as_ref().expect("asked");
                    let mut changes = world.answer(poll);
                    if variant == Variant::NothingApplied {
                        changes.rows.clear();
                        changes.head = poll.after;
                    }
                    answer = Some(changes);
                }
                Step::Apply => {
                    let (poll, sent) = asked.take().expect("asked");
                    let sent = if variant == Variant::LeaseFromReceipt { boot(elapsed) } else { sent };
                    world.cache.answered(&poll, &answer.take().expect("answered"), Some(sent));
                }
                Step::Wait => elapsed += 600,
            }
            let now = Now { wall: WALL.plus_millis(elapsed), boot: Some(boot(elapsed)) };
            let yes = world.hit(1, now).is_some();
            violated |= yes && committed.is_some_and(|at| elapsed >= at + LEASE_MILLIS);
        }
        violated
    }

    /// All orders that keep each actor's own.
    fn orders(left: &mut [&[Step]], order: &mut Vec<Step>, each: &mut impl FnMut(&[Step])) {
        if left.iter().all(|steps| steps.is_empty()) {
            return each(order);
        }
        for actor in 0..left.len() {
            let steps = left[actor];
            let Some((first, rest)) = steps.split_first() else { continue };
            left[actor] = rest;
            order.push(*first);
            orders(left, order, each);
            order.pop();
            left[actor] = steps;
        }
    }

    /// How many orders there are, and how many of those tried break the promise: all are tried, or all up to the first one
    /// that does.
    fn violations(variant: Variant) -> (usize, usize) {
        let (mut orders_of_all, mut violations) = (0, 0);
        orders(&mut ACTORS.to_vec(), &mut Vec::new(), &mut |order| {
            orders_of_all += 1;
            violations += usize::from(violations == 0 && violates(order, variant));
        });
        (orders_of_all, violations)
    }

    #[test]
    fn s1_no_order_of_fill_poll_and_revocation_lets_a_yes_outlive_the_lease() {
        assert_eq!(violations(Variant::AsItIs), (55_440, 0));
    }

    #[test]
    fn s1_each_planted_fault_is_caught_by_some_order() {
        for variant in
            [Variant::LeaseFromReceipt, Variant::FillWithoutBeginning, Variant::ClockThatStops, Variant::NothingApplied]
        {
            let (_, violations) = violations(variant);
            assert_eq!(violations, 1, "{variant:?} goes unnoticed");
        }
    }
}
