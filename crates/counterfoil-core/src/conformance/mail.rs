//! The clauses about the queue of mails, the links and the registrations.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{NOW, RACERS, World, later, password, race, subject, wait};
use crate::account::Email;
use crate::clock::Timestamp;
use crate::language::Languages;
use crate::link::{Link, Purpose};
use crate::mail::{MailId, MailKind, MailOrder, Registration, Waiting};
use crate::secret::TokenDigest;
use crate::store::{ExpiringQuery, MailStore};

fn email(text: &str) -> Email {
    text.parse().expect("an address")
}

fn order(world: &World, kind: MailKind, owner: &str, asked_at: Timestamp) -> MailOrder {
    MailOrder {
        id: MailId::generate(asked_at, &world.entropy).expect("chance"),
        kind,
        subject: subject(owner),
        to: email("ada@example.org"),
        languages: Languages::of(Some("de"), Some("en")),
        next: Some("https://app.example.org/welcome".to_owned()),
        asked_at,
        expires_at: asked_at.plus_millis(10_000),
    }
}

fn mail(world: &World) -> &dyn MailStore {
    world.stores.mail.as_ref()
}

fn post(world: &World, orders: &[MailOrder]) {
    assert!(wait(mail(world).post(orders, None, 100)));
}

fn ids(waiting: &[Waiting]) -> Vec<MailId> {
    waiting.iter().map(|one| one.order.id).collect()
}

pub(super) fn a_mail_waits_with_all_its_facts_until_it_is_done(world: &World) {
    let kinds = [
        MailKind::ResetPassword,
        MailKind::AddressChanged { new: email("neu@example.org"), can_undo: false },
        MailKind::NewDevice {
            client: "web".parse().expect("a client"),
            user_agent: Some("a\"b'c".to_owned()),
            ip: None,
        },
    ];
    let orders: Vec<MailOrder> =
        kinds.into_iter().zip(0..).map(|(kind, after)| order(world, kind, "ada", later(after))).collect();
    post(world, &orders);
    let waiting = wait(mail(world).waiting(10));
    let unchanged: Vec<&MailOrder> = waiting.iter().map(|one| &one.order).collect();
    assert_eq!(unchanged, orders.iter().collect::<Vec<_>>(), "in the order in which they are due");
    assert_eq!((waiting[0].tries, waiting[0].next_try_at, &waiting[0].last_error), (0, NOW, &None));
    assert_eq!(wait(mail(world).waiting(1)).len(), 1);
    wait(mail(world).done(orders[0].id));
    wait(mail(world).done(orders[0].id));
    assert_eq!(wait(mail(world).waiting_count()), 2);
}

pub(super) fn a_full_queue_takes_all_or_nothing(world: &World) {
    let orders: Vec<MailOrder> = (0..3).map(|_| order(world, MailKind::ResetPassword, "ada", NOW)).collect();
    let registration = registration();
    assert!(!wait(mail(world).post(&orders, Some(&registration), 2)));
    assert_eq!(wait(mail(world).waiting_count()), 0);
    assert!(wait(mail(world).registration(&registration.subject)).is_none());
    assert!(wait(mail(world).post(&orders, Some(&registration), 3)));
    assert!(!wait(mail(world).post(&orders[..1], None, 3)));
    assert_eq!(wait(mail(world).waiting_count()), 3);
}

pub(super) fn a_mail_is_claimed_by_one_and_again_when_that_has_taken_too_long(world: &World) {
    let first = order(world, MailKind::ResetPassword, "ada", NOW);
    let second = order(world, MailKind::ResetPassword, "ada", later(1));
    post(world, &[second.clone(), first.clone()]);
    let claim = |now: u64, until: u64, limit: u32| wait(mail(world).claim(later(now), later(until), limit));
    assert_eq!(ids(&claim(0, 5, 9).due), [first.id], "the other one is not due yet");
    let due = claim(1, 6, 9).due;
    assert_eq!((ids(&due), due[0].tries), (vec![second.id], 1));
    assert!(claim(4, 9, 9).due.is_empty(), "both are somebody's");
    let again = claim(5, 9, 9).due;
    assert_eq!((ids(&again), again[0].tries), (vec![first.id], 2), "at the very instant");
    wait(mail(world).postpone(first.id, later(7), "no\nanswer"));
    assert_eq!(ids(&claim(7, 9, 1).due), [second.id], "one at most, that which was due first");
    assert_eq!(ids(&claim(7, 9, 9).due), [first.id]);
    assert_eq!(wait(mail(world).waiting(9))[0].last_error.as_deref(), Some("no\nanswer"));
    // Of no use any more: removed and told, the one that is due as well as the one that is not.
    let claimed = claim(10_000, 11_000, 9);
    assert_eq!((ids(&claimed.due), ids(&claimed.expired)), (vec![second.id], vec![first.id]));
    wait(mail(world).postpone(second.id, later(20_000), "x"));
    assert_eq!(ids(&claim(10_001, 11_000, 9).expired), [second.id]);
    assert_eq!(wait(mail(world).waiting_count()), 0);
    wait(mail(world).postpone(second.id, later(1), "gone"));
    assert_eq!(wait(mail(world).waiting_count()), 0);
}

pub(super) fn racing_claims_never_take_the_same_mail(world: &World) {
    let orders: Vec<MailOrder> = (0..40).map(|_| order(world, MailKind::ResetPassword, "ada", NOW)).collect();
    post(world, &orders);
    let taken: Vec<MailId> = race(RACERS, |_| {
        let mut mine = Vec::new();
        loop {
            let due = wait(world.stores.mail.claim(NOW, later(5_000), 3)).due;
            if due.is_empty() {
                return mine;
            }
            mine.extend(ids(&due));
        }
    })
    .concat();
    let mut once = taken.clone();
    once.sort();
    once.dedup();
    assert_eq!((taken.len(), once.len()), (40, 40));
}

fn link(last: u8, owner: &str, purpose: Purpose) -> Link {
    Link {
        digest: TokenDigest::from_bytes([last; 32]),
        purpose,
        subject: subject(owner),
        email: email("Ada@example.org"),
        next: None,
        expires_at: later(1_000),
    }
}

pub(super) fn a66_a_link_is_used_once_for_its_purpose_and_until_its_expiry(world: &World) {
    let reset = link(1, "ada", Purpose::Reset);
    let other = [link(2, "ada", Purpose::Reset), link(3, "ada", Purpose::Confirm), link(4, "bob", Purpose::Reset)];
    for one in std::iter::once(&reset).chain(&other) {
        assert!(wait(mail(world).keep_link(one)));
    }
    assert!(!wait(mail(world).keep_link(&link(1, "eve", Purpose::Reset))), "nothing is overwritten");
    let find = |link: &Link| wait(mail(world).link(&link.digest));
    let use_up = |link: &Link, purpose, now| wait(mail(world).use_link(&link.digest, purpose, now));
    assert_eq!(find(&reset), Some(reset.clone()));
    assert_eq!(use_up(&reset, Purpose::Confirm, NOW), None, "for another purpose");
    assert_eq!(use_up(&reset, Purpose::Reset, later(1_000)), None, "dead at the very instant");
    assert_eq!(use_up(&reset, Purpose::Reset, later(999)), Some(reset.clone()));
    assert_eq!(use_up(&reset, Purpose::Reset, NOW), None, "once");
    assert_eq!(find(&other[0]), None, "with it went the others for the same");
    assert_eq!((find(&other[1]).is_some(), find(&other[2]).is_some()), (true, true));
}

pub(super) fn a66_of_racers_with_one_link_one_succeeds(world: &World) {
    for round in 0..10 {
        let one = link(round, "ada", Purpose::Reset);
        assert!(wait(mail(world).keep_link(&one)));
        let succeeded = AtomicUsize::new(0);
        race(RACERS, |_| {
            if wait(world.stores.mail.use_link(&one.digest, Purpose::Reset, NOW)).is_some() {
                succeeded.fetch_add(1, Ordering::SeqCst);
            }
        });
        assert_eq!(succeeded.into_inner(), 1);
    }
}

pub(super) fn dropping_links_takes_the_mails_along_that_would_bring_more(world: &World) {
    let links = [link(1, "ada", Purpose::Reset), link(2, "ada", Purpose::UndoChange), link(3, "bob", Purpose::Reset)];
    for one in &links {
        wait(mail(world).keep_link(one));
    }
    let reset = order(world, MailKind::ResetPassword, "ada", NOW);
    let changed =
        order(world, MailKind::AddressChanged { new: email("x@example.org"), can_undo: true }, "ada", later(1));
    let told = order(world, MailKind::AddressTaken, "ada", later(2));
    let bobs = order(world, MailKind::ResetPassword, "bob", later(3));
    post(world, &[reset, changed.clone(), told.clone(), bobs.clone()]);
    let notice = order(world, MailKind::PasswordChanged, "ada", later(4));
    post(world, std::slice::from_ref(&notice));
    let has = |purpose, now| wait(mail(world).has_link(&subject("ada"), purpose, later(now)));
    assert!(has(Purpose::Reset, 0) && has(Purpose::UndoChange, 999), "by a link");
    assert!(has(Purpose::UndoChange, 1_000), "by the mail that waits");
    assert!(!has(Purpose::Confirm, 0));
    wait(mail(world).drop_links(&subject("ada"), &[Purpose::Reset, Purpose::Confirm]));
    assert!(!has(Purpose::Reset, 0), "the notice brings one, and is not counted");
    let left = links.each_ref().map(|link| wait(mail(world).link(&link.digest)).is_some());
    assert_eq!(left, [false, true, true]);
    assert_eq!(ids(&wait(mail(world).waiting(9))), [changed.id, told.id, bobs.id, notice.id]);
}

fn registration() -> Registration {
    Registration {
        subject: subject("wish"),
        username: "Ada".parse().expect("a name"),
        email: email("ada@example.org"),
        password: password("first"),
        first_name: "Ada".to_owned(),
        last_name: "L'ovelace".to_owned(),
        locale: Some("de".to_owned()),
        expires_at: later(1_000),
    }
}

pub(super) fn a_registration_is_kept_until_it_is_forgotten(world: &World) {
    let wish = registration();
    let order = order(world, MailKind::ConfirmRegistration, "wish", NOW);
    assert!(wait(mail(world).post(&[order], Some(&wish), 9)));
    let kept = wait(mail(world).registration(&wish.subject)).expect("there");
    assert_eq!(format!("{kept:?}"), format!("{wish:?}"));
    assert_eq!(kept.password.expose(), wish.password.expose());
    let of = |text: &str| wait(mail(world).registrations_of(&email(text), 9)).len();
    assert_eq!((of("ADA@EXAMPLE.ORG"), of("bob@example.org"), of("ada@ex\u{101}mple.org")), (1, 0, 0));
    assert_eq!(wait(mail(world).registrations_of(&wish.email, 0)).len(), 0);
    for (owner, expires_at) in [("older", later(500)), ("newer", later(2_000))] {
        let another = Registration { subject: subject(owner), expires_at, ..registration() };
        assert!(wait(mail(world).post(&[], Some(&another), 9)));
    }
    let newest = |limit| {
        let found = wait(mail(world).registrations_of(&wish.email, limit));
        found.into_iter().map(|one| one.subject).collect::<Vec<_>>()
    };
    assert_eq!(newest(9), ["newer", "wish", "older"].map(subject), "the newest first");
    assert_eq!(newest(1), [subject("newer")]);
    wait(mail(world).forget_registration(&wish.subject));
    assert!(wait(mail(world).registration(&wish.subject)).is_none());
}

pub(super) fn what_has_expired_is_forgotten_in_batches(world: &World) {
    for last in 0..5 {
        wait(mail(world).keep_link(&link(last, "ada", Purpose::Reset)));
    }
    wait(mail(world).keep_link(&Link { expires_at: later(1_001), ..link(9, "ada", Purpose::Reset) }));
    wait(mail(world).post(&[], Some(&registration()), 9));
    let forget = |now: u64, batch| wait(mail(world).forget_expired(later(now), batch));
    assert_eq!(forget(999, 9), 0);
    assert_eq!(forget(1_000, 3), 4, "three links and the registration");
    assert_eq!(forget(1_000, 3), 2);
    assert_eq!(forget(1_000, 3), 0);
    assert!(wait(mail(world).link(&TokenDigest::from_bytes([9; 32]))).is_some());
}

pub(super) fn of_racers_one_moves_the_reminders_on(world: &World) {
    assert_eq!(wait(mail(world).reminded_until()), None);
    let began = race(RACERS, |_| wait(world.stores.mail.advance_reminders(None, NOW)));
    assert_eq!(began.into_iter().filter(|&one| one).count(), 1);
    let moved = race(RACERS, |_| wait(world.stores.mail.advance_reminders(Some(NOW), later(7))));
    assert_eq!(moved.into_iter().filter(|&one| one).count(), 1);
    assert!(!wait(mail(world).advance_reminders(Some(NOW), later(9))));
    assert_eq!(wait(mail(world).reminded_until()), Some(later(7)));
}

pub(super) fn tokens_that_expire_are_listed_in_that_order(world: &World) {
    let expiring: Vec<_> = [30, 10, 20, 10, 40].map(|after| world.issue_until(Some(later(after)))).to_vec();
    world.issue_until(None);
    wait(world.stores.tokens.revoke(expiring[2].id, None, None, NOW));
    let list = |from: u64, until: u64, after, limit| {
        let query = ExpiringQuery { from: later(from), until: later(until), after, limit };
        let page = wait(world.stores.tokens.expiring(&query));
        page.iter().map(|token| token.number).collect::<Vec<_>>()
    };
    let number = |index: usize| expiring[index].number;
    assert_eq!(list(10, 40, None, 9), [number(1), number(3), number(0)], "from the first, up to but not with the last");
    assert_eq!(list(11, 41, None, 9), [number(0), number(4)]);
    assert_eq!(list(10, 40, None, 1), [number(1)]);
    assert_eq!(list(10, 40, Some((later(10), number(1))), 1), [number(3)]);
    assert_eq!(list(10, 40, Some((later(10), number(3))), 9), [number(0)]);
}
