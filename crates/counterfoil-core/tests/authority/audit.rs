//! What the audit log says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use counterfoil_core::audit::{AuditLog, Entry};
use counterfoil_core::authority::Ending;
use counterfoil_core::event::Limit;
use counterfoil_core::store::{Answer, AuditQuery, AuditStore, NumberedEntry, StoreError};
use counterfoil_core::{Actor, By, ClientName, Error, Event, MemoryStore, Policy, Source, Timestamp};

use crate::world::{PASSWORD, START, World, answer, parts, refused, text};

fn entries(world: &World, query: AuditQuery) -> Vec<Entry> {
    let query = AuditQuery { limit: 1_000, ..query };
    let page = answer(world.authority.audit(&query, world.now())).unwrap();
    page.entries.into_iter().rev().map(|numbered| numbered.entry).collect()
}

fn told(world: &World) -> Vec<String> {
    entries(world, AuditQuery::default())
        .iter()
        .map(|entry| {
            let detail = entry.detail.as_deref().map_or(String::new(), |detail| format!(": {detail}"));
            let times = if entry.times > 1 { format!(" ×{}", entry.times) } else { String::new() };
            format!("{} {}{detail}{times}", entry.actor.as_str(), entry.event)
        })
        .collect()
}

#[test]
fn r31_a_day_is_told_by_who_what_when_and_where() {
    let world = World::with_ada();
    let session = world.login("ada");
    world.try_login("ada", "wrong", None).unwrap_err();
    world.try_login("eve", "wrong", None).unwrap_err();
    let rotated = world.rotate(&session).unwrap();
    world.renew(&rotated).unwrap();
    let who = world.who(&rotated);
    answer(world.authority.disable_user(&who.subject, &By::operator(), world.now())).unwrap();
    world.authenticate(&rotated).unwrap_err();
    answer(world.authority.enable_user(&who.subject, &By::operator(), world.now())).unwrap();
    answer(world.authority.logout(&who, &world.source, world.now())).unwrap();
    world.authenticate(&rotated).unwrap_err();
    assert_eq!(
        told(&world),
        [
            "operator account_created",
            "holder token_issued",
            "holder logged_in",
            "stranger login_failed: wrong password",
            "stranger login_failed: unknown user",
            "holder token_rotated",
            "holder token_renewed",
            "operator account_disabled",
            "stranger refused: disabled or deleted user",
            "operator account_enabled",
            "holder logged_out",
            "stranger refused: revoked token",
        ]
    );
    let about = entries(&world, AuditQuery { token: Some(who.id), ..AuditQuery::default() });
    assert_eq!(about.len(), 7);
    assert!(about.iter().all(|entry| entry.at == START && entry.source.ip == world.source.ip));
    let by = entries(&world, AuditQuery { by: Some(who.subject), ..AuditQuery::default() });
    assert_eq!(by.len(), 5);
}

#[test]
fn what_is_repeated_without_end_is_written_once_a_minute() {
    let world = World::with_ada();
    let api: ClientName = world.client("api", Policy { throttle: Some("1/h".parse().unwrap()), ..Policy::default() });
    let session = text(&world.login_on(&api).unwrap());
    world.authenticate(&session).unwrap();
    let before = told(&world).len();
    for second in 0..130 {
        for _ in 0..10 {
            world.authenticate(&session).unwrap_err();
        }
        world.wait(1_000);
        if second % 7 == 0 {
            world.flush();
        }
    }
    world.wait(60_000);
    world.flush();
    let hits: Vec<u32> = entries(&world, AuditQuery::default())[before..].iter().map(|entry| entry.times).collect();
    assert_eq!(hits.iter().sum::<u32>(), 1_300, "every one is counted: {hits:?}");
    assert!(hits.len() <= 8, "{hits:?}");
}

/// A store that can be away.
#[derive(Debug, Default)]
struct Away(AtomicBool, MemoryStore);

impl AuditStore for Away {
    fn append<'a>(&'a self, entries: &'a [Entry]) -> Answer<'a, ()> {
        if self.0.load(Ordering::SeqCst) {
            return Box::pin(std::future::ready(Err(StoreError::new("appending", "away"))));
        }
        self.1.append(entries)
    }

    fn entries<'a>(&'a self, query: &'a AuditQuery) -> Answer<'a, Vec<NumberedEntry>> {
        self.1.entries(query)
    }

    fn forget(&self, removed: Timestamp, anonymous: Timestamp, batch: u32) -> Answer<'_, u64> {
        self.1.forget(removed, anonymous, batch)
    }
}

#[test]
fn no_order_is_acknowledged_without_its_entry_and_none_is_lost_while_the_store_is_away() {
    let away = Arc::new(Away::default());
    let world = World::with(|parts| parts.audit = Some(away.clone()));
    world.user("ada");
    let ada = answer(world.authority.user("ada")).unwrap().subject;
    away.0.store(true, Ordering::SeqCst);
    let disabled = answer(world.authority.disable_user(&ada, &By::operator(), world.now()));
    let Err(Error::Store(error)) = disabled else { panic!("{disabled:?}") };
    assert!(error.to_string().contains("the audit log what was ordered and is done"), "{error}");
    world.try_login("ada", PASSWORD, None).unwrap_err();
    // What ends tokens holds all the same, and is not told to have failed.
    let ending = Ending::Subject { subject: ada, keys_too: false };
    answer(world.authority.end(ending, &By::operator(), world.now())).unwrap();
    away.0.store(false, Ordering::SeqCst);
    world.flush();
    assert_eq!(
        told(&world),
        [
            "operator account_created",
            "operator account_disabled",
            "stranger login_failed: inactive account",
            "operator ended: login tokens"
        ]
    );
}

#[test]
fn a_log_that_cannot_be_written_takes_bounded_memory_and_says_what_it_lost() {
    let away = Arc::new(Away::default());
    away.0.store(true, Ordering::SeqCst);
    let log = AuditLog::new(away.clone());
    for number in 0..30_000_u64 {
        log.note(&counterfoil_core::event::Occurrence {
            at: START,
            actor: Actor::Operator,
            source: Source::default(),
            event: Event::MarksLost(number),
        });
        if number % 5_000 == 0 {
            answer(log.write(START)).unwrap_err();
        }
    }
    away.0.store(false, Ordering::SeqCst);
    answer(log.write(START)).unwrap();
    let newest = answer(away.entries(&AuditQuery { limit: 30_000, ..AuditQuery::default() })).unwrap();
    assert_eq!(newest.len(), 20_001);
    assert_eq!(newest[0].entry.detail.as_deref(), Some("10000 entries"));
}

#[test]
fn entries_are_made_anonymous_and_then_removed() {
    let world = World::with_ada();
    world.login("ada");
    let purge = |days: u64| {
        world.clock.set_wall(START.plus_millis(days * 86_400_000));
        answer(world.authority.purge(1_000, world.now())).unwrap()
    };
    world.flush();
    purge(90);
    assert!(entries(&world, AuditQuery::default()).iter().all(|entry| entry.source.ip.is_some()));
    purge(91);
    let kept = entries(&world, AuditQuery::default());
    assert!(kept.len() == 3 && kept.iter().all(|entry| entry.source == Source::default()));
    purge(366);
    assert_eq!(entries(&world, AuditQuery::default()), []);
}

#[test]
fn an_export_holds_all_that_is_kept_about_one_user_and_nothing_of_another() {
    let world = World::with_ada();
    world.user("bob");
    let (session, _) = (world.login("ada"), world.login("bob"));
    world.try_login("ada", "wrong", None).unwrap_err();
    let ada = world.who(&session).subject;
    let export = answer(world.authority.export_user(&ada, &By::operator(), world.now())).unwrap();
    assert_eq!((export.account.username.as_str(), export.tries.failed), ("ada", 1));
    assert_eq!(export.tokens.len(), 1);
    assert_eq!(export.entries.len(), 4);
    assert!(export.entries.iter().all(|numbered| numbered.entry.subject.as_ref() == Some(&ada)));
    assert_eq!(export.more_entries, None);
    let nobody = "nobody".parse().unwrap();
    refused(answer(world.authority.export_user(&nobody, &By::operator(), world.now())));
}

#[test]
fn settings_and_ring_may_change_while_everything_runs() {
    let world = World::with_ada();
    let (store, events) = (&world.store, &world.events);
    let mut settings = parts(store, events).settings;
    settings.rotation_grace = crate::world::life("1s");
    answer(world.authority.adopt(settings, None, world.now())).unwrap();
    let old = world.login("ada");
    world.rotate(&old).unwrap();
    world.wait(999);
    world.authenticate(&old).unwrap();
    world.wait(1);
    world.authenticate(&old).unwrap_err();
}

#[test]
fn no_name_that_a_client_gives_itself_makes_it_a_new_entry() {
    let world = World::with_ada();
    let session = world.login("ada");
    answer(world.authority.logout(&world.who(&session), &world.source, world.now())).unwrap();
    let before = told(&world).len();
    for number in 0..5_000 {
        let agent = counterfoil_core::UserAgent::cut(format!("agent-{number}").as_bytes());
        let source = Source { user_agent: agent, ..world.source.clone() };
        answer(world.authority.authenticate(&session, &source, world.now())).unwrap_err();
    }
    assert_eq!(told(&world).len(), before + 1);
}

#[test]
fn whatever_is_repeated_leaves_room_for_what_happens_once() {
    let away = Arc::new(Away::default());
    away.0.store(true, Ordering::SeqCst);
    let log = AuditLog::new(away.clone());
    let note = |event, source: Source| {
        log.note(&counterfoil_core::event::Occurrence { at: START, actor: Actor::Stranger, source, event });
    };
    for number in 0..40_000_u32 {
        let source = Source { ip: Some(std::net::Ipv4Addr::from(number).into()), user_agent: None };
        note(Event::LimitHit(Limit::FailedLogins), source);
    }
    note(Event::MarksLost(7), Source::default());
    away.0.store(false, Ordering::SeqCst);
    answer(log.write(START)).unwrap();
    let newest = answer(away.entries(&AuditQuery { limit: 30_000, ..AuditQuery::default() })).unwrap();
    assert!(newest.len() <= 10_001, "{}", newest.len());
    assert!(newest.iter().any(|kept| kept.entry.event == "marks_lost"));
}

#[test]
fn what_was_on_its_way_when_its_writer_went_is_written_by_the_next() {
    let away = Arc::new(Away::default());
    let log = AuditLog::new(Arc::new(Slow(away.clone())));
    for number in 0..3_000_u64 {
        let (actor, source) = (Actor::Operator, Source::default());
        let event = Event::MarksLost(number);
        log.note(&counterfoil_core::event::Occurrence { at: START, actor, source, event });
    }
    // Polled once, and dropped while the store has not answered.
    let mut writing = Box::pin(log.write(START));
    let poll = writing.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    assert!(poll.is_pending());
    drop(writing);
    answer(log.write(START)).unwrap();
    let all = answer(away.entries(&AuditQuery { limit: 10_000, ..AuditQuery::default() })).unwrap();
    let details: std::collections::BTreeSet<_> = all.iter().filter_map(|kept| kept.entry.detail.clone()).collect();
    assert_eq!(details.len(), 3_000);
}

#[test]
fn f16_orders_that_come_while_a_write_fails_do_not_wait_for_one_after_the_other() {
    let away = Arc::new(Away::default());
    let log = AuditLog::new(Arc::new(Slow(away.clone())));
    let (actor, source, event) = (Actor::Operator, Source::default(), Event::MarksLost(1));
    log.note(&counterfoil_core::event::Occurrence { at: START, actor, source, event });
    let mut orders: Vec<_> = (0..6).map(|_| Box::pin(log.write(START))).collect();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(orders.iter_mut().all(|order| order.as_mut().poll(&mut context).is_pending()));
    away.0.store(true, Ordering::SeqCst);
    for order in &mut orders {
        let polled = order.as_mut().poll(&mut context);
        assert!(matches!(polled, std::task::Poll::Ready(Err(_))), "{polled:?}");
    }
    drop(orders);
    away.0.store(false, Ordering::SeqCst);
    answer(log.write(START)).unwrap();
    assert_eq!(answer(away.entries(&AuditQuery { limit: 10, ..AuditQuery::default() })).unwrap().len(), 1);
}

/// A store that takes its time.
#[derive(Debug)]
struct Slow(Arc<Away>);

impl AuditStore for Slow {
    fn append<'a>(&'a self, entries: &'a [Entry]) -> Answer<'a, ()> {
        let mut first = true;
        Box::pin(async move {
            std::future::poll_fn(|context| {
                if std::mem::take(&mut first) {
                    context.waker().wake_by_ref();
                    return std::task::Poll::Pending;
                }
                std::task::Poll::Ready(())
            })
            .await;
            self.0.append(entries).await
        })
    }

    fn entries<'a>(&'a self, query: &'a AuditQuery) -> Answer<'a, Vec<NumberedEntry>> {
        self.0.entries(query)
    }

    fn forget(&self, removed: Timestamp, anonymous: Timestamp, batch: u32) -> Answer<'_, u64> {
        self.0.forget(removed, anonymous, batch)
    }
}
