//! Every interleaving of a reader and a writer that the memory model allows, tried by loom: `cargo xtask model`.
//!
//! Each promise is shown to hold, and each is shown to fail where the step that keeps it is left out.

use std::panic::catch_unwind;
use std::sync::Arc;

use loom::sync::atomic::AtomicBool;
use loom::thread;

use super::sync::{Loads, with_loads};
use super::*;
use crate::ability::Abilities;
use crate::client::Policy;
use crate::entropy::PredictableEntropy;
use crate::subject::{Epoch, Epochs, SubjectId, SubjectState};
use crate::token::{Kind, Metadata};

const WALL: Timestamp = Timestamp::from_millis(1_795_172_400_000);
const BOOT: BootTime = BootTime(5_000_000_000);
const NOW: Now = Now { wall: WALL, boot: Some(BOOT) };

fn digest(number: u8) -> TokenDigest {
    TokenDigest::from_bytes([number; 32])
}

fn found(number: u8) -> Found {
    let mut id = [number; 16];
    id[..6].copy_from_slice(&WALL.millis().to_be_bytes()[2..]);
    Found {
        id: TokenId::from_bytes(id),
        kind: Kind::Login,
        subject: subject(number),
        subject_state: SubjectState::Active,
        client: Arc::new(Client {
            id: ClientId::generate(WALL, &PredictableEntropy::from_seed(1)).unwrap(),
            name: "web".parse().unwrap(),
            policy: Policy::default(),
            allow_login: true,
            metadata: Metadata::default(),
            epoch: Epoch(0),
            version: 1,
            created_at: WALL,
        }),
        abilities: Abilities::everything(),
        issued_at: WALL,
        expires_at: None,
        revoked_at: None,
        stamped: Epochs::default(),
        current: Epochs::default(),
        digest: digest(number),
        presented: Presented::Current,
    }
}

fn subject(number: u8) -> SubjectId {
    format!("s{number}").parse().unwrap()
}

fn changes(rows: &[Changed]) -> Changes {
    let rows = (1..).zip(rows).map(|(number, what)| Change { number, tag: number, at: WALL, what: what.clone() });
    let rows: Vec<_> = rows.collect();
    Changes { incarnation: [1; 16], head: rows.len() as u64, rows, clock: None }
}

/// A cache with one line, following an empty log.
fn cache() -> Arc<Cache> {
    let cache = Cache::of(1, 7, CheckKey::from_bytes([7; 16]));
    cache.answered(&cache.ask(), &changes(&[]), Some(BOOT));
    Arc::new(cache)
}

fn fill(cache: &Cache, number: u8) {
    let begun = cache.begin_fill().unwrap();
    cache.fill(begun, DigestScheme::Native, &found(number), None, Some(BOOT));
}

fn revoke(cache: &Cache, number: u8) {
    cache.answered(&cache.ask(), &changes(&[Changed::Tokens(vec![digest(number)])]), None);
}

fn get(cache: &Cache, number: u8) -> Option<Identity> {
    cache.get(DigestScheme::Native, &digest(number), None, NOW).map(|hit| hit.identity)
}

/// As [`Cache::get`], but that it believes what it read.
fn get_without_looking_again(cache: &Cache, number: u8) -> Option<SubjectId> {
    let reading = cache.lines.find(&lines::key_of(&digest(number)))?;
    cache.subjects.read(reading.subject())
}

fn every_order(loads: Loads, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    with_loads(loads, || builder.check(model));
}

/// Both ways of reading: what loom finds in the one it may pass over in the other.
fn always(model: impl Fn() + Clone + Sync + Send + 'static) {
    every_order(Loads::Weak, model.clone());
    every_order(Loads::Newest, model);
}

/// Whether some order breaks what `model` asserts.
fn sometimes_fails(model: impl Fn() + Sync + Send + std::panic::UnwindSafe + 'static) -> bool {
    catch_unwind(move || every_order(Loads::Newest, model)).is_err()
}

/// While a reader looks for token 1, its line and the number of its subject are given to token 2.
fn taken_over(reader: fn(&Cache) -> Option<SubjectId>) {
    let cache = cache();
    fill(&cache, 1);
    let writer = thread::spawn({
        let cache = Arc::clone(&cache);
        move || {
            revoke(&cache, 1);
            fill(&cache, 2);
        }
    });
    if let Some(heard) = reader(&cache) {
        assert_eq!(heard, subject(1));
    }
    writer.join().unwrap();
    assert!(get(&cache, 1).is_none());
    assert_eq!(get(&cache, 2).map(|identity| identity.subject), Some(subject(2)));
}

#[test]
fn a10_a_reader_never_hears_of_one_token_what_is_another_s() {
    always(|| taken_over(|cache| get(cache, 1).map(|identity| identity.subject)));
}

#[test]
fn a10_without_the_second_look_some_reader_would() {
    assert!(sometimes_fails(|| taken_over(|cache| get_without_looking_again(cache, 1))));
}

/// Somebody hears that a revocation is acknowledged and asks then.
fn acknowledged(revoke_then_tell: fn(&Cache, &AtomicBool)) {
    let cache = cache();
    fill(&cache, 1);
    let told = Arc::new(AtomicBool::new(false));
    let writer = thread::spawn({
        let (cache, told) = (Arc::clone(&cache), Arc::clone(&told));
        move || revoke_then_tell(&cache, &told)
    });
    if told.load(Ordering::Acquire) {
        assert!(get(&cache, 1).is_none());
    }
    writer.join().unwrap();
}

#[test]
fn s1_what_is_acknowledged_here_holds_here_at_once() {
    always(|| {
        acknowledged(|cache, told| {
            revoke(cache, 1);
            told.store(true, Ordering::Release);
        });
    });
}

#[test]
fn s1_acknowledged_before_it_is_applied_it_would_not() {
    assert!(sometimes_fails(|| {
        acknowledged(|cache, told| {
            told.store(true, Ordering::Release);
            revoke(cache, 1);
        });
    }));
}

/// A look-up is under way while the token is revoked: committed first, then applied.
fn filled_meanwhile(look_up: fn(&Cache, &AtomicBool)) {
    let cache = cache();
    let revoked = Arc::new(AtomicBool::new(false));
    let filler = thread::spawn({
        let (cache, revoked) = (Arc::clone(&cache), Arc::clone(&revoked));
        move || look_up(&cache, &revoked)
    });
    revoked.store(true, Ordering::SeqCst);
    revoke(&cache, 1);
    filler.join().unwrap();
    assert!(get(&cache, 1).is_none());
}

#[test]
fn s1_a_look_up_under_way_does_not_bring_a_revoked_token_back() {
    always(|| {
        filled_meanwhile(|cache, revoked| {
            let begun = cache.begin_fill().unwrap();
            if !revoked.load(Ordering::SeqCst) {
                cache.fill(begun, DigestScheme::Native, &found(1), None, Some(BOOT));
            }
        });
    });
}

#[test]
fn s1_begun_after_the_store_was_asked_it_would() {
    assert!(sometimes_fails(|| {
        filled_meanwhile(|cache, revoked| {
            if !revoked.load(Ordering::SeqCst) {
                let begun = cache.begin_fill().unwrap();
                cache.fill(begun, DigestScheme::Native, &found(1), None, Some(BOOT));
            }
        });
    }));
}
