//! The contract of [`crate::store`] as a suite that every store runs.
//!
//! ```
//! use std::sync::Arc;
//! use counterfoil_core::{MemoryStore, conformance};
//!
//! conformance::run_all(|_case| {
//!     let store = Arc::new(MemoryStore::new());
//!     conformance::Stores { tokens: store.clone(), accounts: store.clone(), mail: store.clone(), imports: store.clone(), audit: store }
//! });
//! ```
//!
//! Cases block the calling thread, and those with racers start threads of their own, so a store that needs an async runtime
//! is to be made on one that runs elsewhere.

#![expect(clippy::wildcard_enum_match_arm, reason = "a case names what it wants and panics at anything else")]

mod import;
mod mail;

use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use self::import::{
    a_password_changed_in_the_source_is_carried_over_where_it_was_not_changed_here,
    a_token_is_stamped_with_the_epochs_as_they_stand, accounts_are_brought_as_they_are_and_nobody_is_merged,
    an_adopted_secret_is_found_by_its_text_alone_and_its_change_is_logged,
    an_imported_token_is_found_with_all_its_facts,
    an_imported_token_needs_its_subject_its_client_and_a_text_of_its_own,
    numbers_are_kept_where_they_are_free_and_none_is_given_twice, the_ledger_is_read_in_pages_and_forgotten_in_batches,
    what_was_brought_is_not_brought_again_and_what_was_ended_stays_so,
};
use self::mail::{
    a_full_queue_takes_all_or_nothing, a_mail_is_claimed_by_one_and_again_when_that_has_taken_too_long,
    a_mail_waits_with_all_its_facts_until_it_is_done, a_registration_is_kept_until_it_is_forgotten,
    a66_a_link_is_used_once_for_its_purpose_and_until_its_expiry, a66_of_racers_with_one_link_one_succeeds,
    dropping_links_takes_the_mails_along_that_would_bring_more, of_racers_one_moves_the_reminders_on,
    racing_claims_never_take_the_same_mail, tokens_that_expire_are_listed_in_that_order,
    what_has_expired_is_forgotten_in_batches,
};
use crate::ability::Abilities;
use crate::account::{Account, AccountChange, LoginName, Role};
use crate::actor::Actor;
use crate::attempts::Tries;
use crate::audit::Entry;
use crate::client::{AtCap, Cap, Client, ClientId, ClientName, Policy, Reissue};
use crate::clock::Timestamp;
use crate::entropy::{Entropy, PredictableEntropy};
use crate::import::ImportStore;
use crate::password::EncodedPassword;
use crate::seal::Sealed;
use crate::secret::{Candidates, CheckKey, DigestScheme, TokenDigest};
use crate::store::{
    AccountQuery, AccountStore, Answer, AuditQuery, AuditStore, Bump, CHANGES_KEPT, Changed, ClientOutcome,
    ClientUpdate, Found, Issue, IssueOutcome, MailStore, NewClient, Presented, RenewOutcome, RevokeOutcome,
    RotateOutcome, Rotation, SealedSecret, TokenFilter, TokenQuery, TokenStore, Touch, Warrant,
};
use crate::subject::{Epoch, SubjectId, SubjectState};
use crate::token::{Kind, Metadata, Sighting, Source, Standing, Token, TokenId, TokenName, UserAgent};
use crate::username::{Distinct, Username};

/// The stores under test; may be one thing.
#[derive(Debug, Clone)]
pub struct Stores {
    /// Where tokens are kept.
    pub tokens: Arc<dyn TokenStore>,
    /// Where accounts are kept.
    pub accounts: Arc<dyn AccountStore>,
    /// Where mails wait and links are kept.
    pub mail: Arc<dyn MailStore>,
    /// Where what is brought from other systems goes.
    pub imports: Arc<dyn ImportStore>,
    /// Where the audit log is kept.
    pub audit: Arc<dyn AuditStore>,
}

/// A clause that cannot hold on some stores, and why. It is said where their operators read of them.
#[derive(Debug, Clone, Copy)]
pub struct Waived {
    /// The name of the case.
    pub case: &'static str,
    /// Why it cannot hold.
    pub why: &'static str,
}

/// Runs every case, each on stores of its own.
///
/// # Panics
/// At the first clause that does not hold.
pub fn run_all(make: impl Fn(&str) -> Stores) {
    run_all_but(&[], make);
}

/// Runs every case, each on stores of its own. None is skipped: those that are `waived` must fail, so that a waiver goes when its
/// reason has gone.
///
/// # Panics
/// At the first clause that does not hold and is not waived, or is waived and holds; where a waiver names no case.
pub fn run_all_but(waived: &[Waived], make: impl Fn(&str) -> Stores) {
    for waiver in waived {
        assert!(CASES.iter().any(|(name, _)| *name == waiver.case), "there is no case {}", waiver.case);
    }
    for (name, case) in CASES {
        let stores = make(name);
        eprintln_case(name);
        let Some(waiver) = waived.iter().find(|waiver| waiver.case == *name) else {
            case(&World::new(stores));
            continue;
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| case(&World::new(stores))));
        assert!(outcome.is_err(), "{name} holds, and is waived because {}", waiver.why);
    }
}

#[expect(clippy::print_stderr, reason = "a failing case is named by the line before its panic")]
fn eprintln_case(name: &str) {
    eprintln!("conformance: {name}");
}

/// One clause of the contract.
type Case = fn(&World);

/// How many threads race.
const RACERS: usize = 8;

macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        /// Every case by name.
        const CASES: &[(&str, Case)] = &[$((stringify!($case), $case)),*];
    };
}

cases![
    openers_agree_on_one_check_key_and_one_default_client,
    an_issued_token_is_found_with_all_its_facts,
    absence_is_a_value,
    an_imported_digest_matches_only_under_its_own_scheme,
    a19_a_repeated_digest_or_id_is_refused_and_overwrites_nothing,
    a07_a_revocation_is_visible_to_the_next_find_and_logged,
    a13_only_its_owner_and_kind_find_a_token_to_revoke_rename_or_read,
    a18_conditions_are_judged_at_the_very_instant,
    renewing_never_shortens_and_never_revives,
    touching_never_shortens_and_never_revives,
    a08_an_epoch_at_any_level_ends_what_was_stamped_before,
    keeping_one_token_restamps_it_and_never_revives,
    a05_a_disabled_subject_is_seen_at_once_and_comes_back_when_enabled,
    a74_a_buried_subject_stays_buried,
    issuing_restates_the_epoch_that_was_read,
    issuing_restates_that_the_maker_lives,
    issuing_restates_the_version_of_the_client,
    caps_refuse_or_evict_the_oldest_of_this_subject_on_this_client,
    a75_racers_never_exceed_a_cap,
    replacing_ends_the_tokens_before,
    the_same_sealed_token_is_found_again_while_it_lives,
    rotation_keeps_the_record_and_its_old_secret_for_the_grace,
    rotating_again_takes_back_a_successor_that_was_never_used,
    using_the_successor_ends_the_grace,
    a12_racing_rotations_leave_one_successor,
    a12_racing_renewals_all_succeed_and_revocation_wins,
    a76_logging_out_everywhere_beats_logins_under_way,
    a76_deleting_beats_logins_under_way,
    lists_are_pages_in_order_of_number,
    a47_hostile_text_is_text,
    purging_removes_only_what_has_been_dead_long_enough,
    purging_trims_the_log_and_keeps_its_newest_rows,
    clients_change_only_at_the_version_that_was_read,
    deleting_a_client_ends_its_tokens,
    an_imported_token_is_found_with_all_its_facts,
    numbers_are_kept_where_they_are_free_and_none_is_given_twice,
    what_was_brought_is_not_brought_again_and_what_was_ended_stays_so,
    an_imported_token_needs_its_subject_its_client_and_a_text_of_its_own,
    a_token_is_stamped_with_the_epochs_as_they_stand,
    an_adopted_secret_is_found_by_its_text_alone_and_its_change_is_logged,
    accounts_are_brought_as_they_are_and_nobody_is_merged,
    a_password_changed_in_the_source_is_carried_over_where_it_was_not_changed_here,
    the_ledger_is_read_in_pages_and_forgotten_in_batches,
    the_log_is_gapless_and_names_every_loss,
    racing_writers_leave_no_gap_in_the_log,
    accounts_are_found_by_name_case_and_confirmed_address,
    a_taken_name_is_refused_in_any_case,
    a62_a_name_that_looks_like_a_taken_one_is_refused_where_people_choose_and_kept_where_it_is_found,
    a_password_is_replaced_only_where_it_is_still_the_one_that_was_read,
    a74_a_name_is_free_again_when_its_account_is_deleted,
    accounts_are_listed_by_name_and_changed_one_thing_at_a_time,
    accounts_are_filtered_and_changed_in_one_transition,
    the_greatest_number_among_subjects_is_found,
    tokens_are_filtered_by_what_they_have_in_common,
    matching_tokens_are_counted_and_revoked_in_batches,
    a54_racing_tries_never_exceed_what_is_free,
    tries_are_forgotten_by_a_login_by_a_word_and_by_burying,
    a58_a_try_at_nobodys_password_leaves_nothing,
    secrets_sealed_with_another_key_are_found_and_sealed_anew,
    one_live_secret_is_found_for_each_key_that_seals,
    the_audit_log_is_read_newest_first_by_what_is_asked_for,
    the_audit_log_forgets_who_and_then_everything,
    the_audit_log_grows_at_its_end_alone,
    a_mail_waits_with_all_its_facts_until_it_is_done,
    a_full_queue_takes_all_or_nothing,
    a_mail_is_claimed_by_one_and_again_when_that_has_taken_too_long,
    racing_claims_never_take_the_same_mail,
    a66_a_link_is_used_once_for_its_purpose_and_until_its_expiry,
    a66_of_racers_with_one_link_one_succeeds,
    dropping_links_takes_the_mails_along_that_would_bring_more,
    a_registration_is_kept_until_it_is_forgotten,
    what_has_expired_is_forgotten_in_batches,
    of_racers_one_moves_the_reminders_on,
    tokens_that_expire_are_listed_in_that_order,
];

/// Waits for a store on this thread.
pub fn wait<T>(answer: Answer<'_, T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut answer = pin!(answer);
    loop {
        match answer.as_mut().poll(&mut context) {
            Poll::Ready(Ok(value)) => return value,
            Poll::Ready(Err(error)) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                panic!("{error}: {}", cause.unwrap_or_default());
            }
            Poll::Pending => thread::park(),
        }
    }
}

/// What the cases act in: opened stores, a client, a subject called `ada`.
struct World {
    stores: Stores,
    entropy: PredictableEntropy,
    client: Arc<Client>,
    ada: SubjectId,
}

const NOW: Timestamp = Timestamp::from_millis(1_795_172_400_000);

fn later(millis: u64) -> Timestamp {
    NOW.plus_millis(millis)
}

fn subject(name: &str) -> SubjectId {
    name.parse().expect("a subject")
}

fn client_name(name: &str) -> ClientName {
    name.parse().expect("a client's name")
}

impl World {
    fn new(stores: Stores) -> World {
        let entropy = PredictableEntropy::from_seed(1);
        let default_client = new_client("default", Policy::default(), &entropy);
        let key = CheckKey::generate(&entropy).expect("entropy");
        wait(stores.tokens.open(&key, &default_client));
        let client = wait(stores.tokens.client(&client_name("default"))).expect("the default client");
        let ada = subject("ada");
        wait(stores.tokens.open_subject(&ada, NOW));
        World { stores, entropy, client, ada }
    }

    fn tokens(&self) -> &dyn TokenStore {
        self.stores.tokens.as_ref()
    }

    fn accounts(&self) -> &dyn AccountStore {
        self.stores.accounts.as_ref()
    }

    /// A login token for `ada`, an hour long, on the operator's word.
    fn order(&self) -> Issue {
        let mut random = [0; 32];
        self.entropy.fill(&mut random).expect("entropy");
        Issue {
            id: TokenId::generate(NOW, &self.entropy).expect("entropy"),
            kind: Kind::Login,
            subject: self.ada.clone(),
            client: self.client.id,
            client_version: self.client.version,
            warrant: Warrant::Operator,
            name: None,
            abilities: Abilities::everything(),
            metadata: Metadata::default(),
            expires_at: Some(later(3_600_000)),
            digest: TokenDigest::from_bytes(random),
            scheme: DigestScheme::Native,
            sealed: None,
            source: Source::default(),
            cap: None,
            reissue: Reissue::New,
        }
    }

    fn issue(&self, issue: &Issue) -> Token {
        match wait(self.tokens().issue(issue, NOW)) {
            IssueOutcome::Issued { token, .. } => *token,
            other => panic!("issued nothing: {other:?}"),
        }
    }

    fn issue_until(&self, expires_at: Option<Timestamp>) -> Token {
        self.issue(&Issue { expires_at, ..self.order() })
    }

    fn issued(&self) -> (Token, TokenDigest) {
        let order = self.order();
        (self.issue(&order), order.digest)
    }

    fn find(&self, digest: TokenDigest) -> Option<Found> {
        wait(self.tokens().find(&Candidates::Native(digest)))
    }

    fn standing(&self, digest: TokenDigest, now: Timestamp) -> Standing {
        self.find(digest).expect("a row").standing(now)
    }

    fn head(&self) -> u64 {
        wait(self.tokens().changes(0, 0)).head
    }

    /// What was logged after `head`, which must be without gaps.
    fn logged_since(&self, head: u64) -> Vec<Changed> {
        let changes = wait(self.tokens().changes(head, 10_000));
        let numbers: Vec<u64> = changes.rows.iter().map(|change| change.number).collect();
        assert_eq!(numbers, (head + 1..=changes.head).collect::<Vec<_>>(), "gapless, in order, up to the head");
        changes.rows.into_iter().map(|change| change.what).collect()
    }

    fn assert_logged(&self, head: u64, digest: TokenDigest) {
        let logged = self.logged_since(head);
        let named = logged.iter().any(|what| matches!(what, Changed::Tokens(digests) if digests.contains(&digest)));
        assert!(named, "the log does not name the token: {logged:?}");
    }

    fn rotation(&self, id: TokenId, presented: TokenDigest, grace_until: Timestamp) -> Rotation {
        Rotation { id, presented, successor: self.order().digest, sealed: None, grace_until }
    }

    fn query(&self) -> TokenQuery {
        TokenQuery { limit: 100, ..TokenQuery::default() }
    }

    fn credentials(&self, username: &str, email: Option<(&str, bool)>) -> Account {
        let id = TokenId::generate(NOW, &self.entropy).expect("entropy").to_string();
        Account {
            subject: subject(&id),
            username: username.parse().expect("a user name"),
            email: email.map(|(text, _)| text.parse().expect("an address")),
            email_confirmed_at: email.filter(|(_, confirmed)| *confirmed).map(|_| NOW),
            first_name: "Ada".into(),
            last_name: "Lovelace".into(),
            attributes: Metadata::default(),
            locale: Some("en".into()),
            active: true,
            role: Role::User,
            created_at: NOW,
            last_login_at: None,
            rotation_locked: false,
        }
    }

    fn named(&self, name: &str) -> Vec<String> {
        let name = LoginName::new(name).expect("a name");
        let mut found: Vec<String> = wait(self.accounts().named(&name))
            .into_iter()
            .map(|credentials| credentials.account.username.as_str().to_owned())
            .collect();
        found.sort();
        found
    }
}

fn new_client(name: &str, policy: Policy, entropy: &dyn Entropy) -> NewClient {
    NewClient {
        id: ClientId::generate(NOW, entropy).expect("entropy"),
        name: client_name(name),
        policy,
        allow_login: true,
        metadata: Metadata::default(),
        created_at: NOW,
    }
}

fn logins() -> TokenFilter {
    TokenFilter { kind: Some(Kind::Login), ..TokenFilter::default() }
}

fn race<T: Send>(racers: usize, act: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let start = Barrier::new(racers);
    thread::scope(|scope| {
        let running: Vec<_> = (0..racers)
            .map(|racer| {
                let (start, act) = (&start, &act);
                scope.spawn(move || {
                    start.wait();
                    act(racer)
                })
            })
            .collect();
        running.into_iter().map(|racer| racer.join().expect("a racer panicked")).collect()
    })
}

fn limit(limit: u32, at_cap: AtCap) -> Option<Cap> {
    Some(Cap { limit: NonZeroU32::new(limit).expect("not zero"), at_cap })
}

// ── Opening and finding ─────────────────────────────────────────────────────────────────────────────────────────────

fn openers_agree_on_one_check_key_and_one_default_client(world: &World) {
    let first = wait(
        world.tokens().open(&CheckKey::from_bytes([1; 16]), &new_client("default", Policy::default(), &world.entropy)),
    );
    assert_eq!(first.check_keys.len(), 1);
    let answers = race(RACERS, |racer| {
        let entropy = PredictableEntropy::from_seed(racer as u64 + 100);
        let key = CheckKey::generate(&entropy).expect("entropy");
        wait(world.tokens().open(&key, &new_client("default", Policy::default(), &entropy)))
    });
    assert!(answers.iter().all(|formats| *formats == first), "{answers:?}");
    let clients = wait(world.tokens().clients());
    assert_eq!(clients.len(), 1);
    assert_eq!(clients[0].id, world.client.id);
    assert_eq!(clients[0].policy, Policy::default());
    wait(world.tokens().ready());
}

fn an_issued_token_is_found_with_all_its_facts(world: &World) {
    let source = Source { ip: Some("2001:db8::1".parse().expect("an address")), user_agent: UserAgent::cut(b"curl/8") };
    let Ok(serde_json::Value::Object(metadata)) = serde_json::from_str(r#"{"plan":"pro"}"#) else { unreachable!() };
    let order = Issue {
        kind: Kind::Key,
        name: TokenName::cut("ci"),
        abilities: "files:read tokens:introspect".parse().expect("abilities"),
        metadata: Metadata::new(metadata).expect("small"),
        expires_at: None,
        source: source.clone(),
        ..world.order()
    };
    let outcome = wait(world.tokens().issue(&order, NOW));
    let IssueOutcome::Issued { token, first_of_subject, ended } = outcome else { panic!("{outcome:?}") };
    assert!(first_of_subject);
    assert_eq!(ended, []);
    assert_eq!(token.id, order.id);
    assert_eq!(token.kind, Kind::Key);
    assert_eq!(token.subject, world.ada);
    assert_eq!(token.client, world.client.name);
    assert_eq!(token.name, order.name);
    assert_eq!(token.abilities, order.abilities);
    assert_eq!(token.metadata, order.metadata);
    assert_eq!((token.issued_at, token.expires_at, token.revoked_at), (NOW, None, None));
    assert_eq!(token.first_seen, Sighting { at: NOW, source });
    assert_eq!(token.last_seen, None);
    assert_eq!(wait(world.tokens().token(order.id, None)).as_ref(), Some(&*token), "reads back what was returned");

    let found = world.find(order.digest).expect("found");
    assert_eq!((found.id, found.kind, &found.subject), (token.id, Kind::Key, &world.ada));
    assert_eq!(found.client, world.client);
    assert_eq!(found.abilities, order.abilities);
    assert_eq!((found.issued_at, found.expires_at, found.revoked_at), (NOW, None, None));
    assert_eq!((found.stamped, found.current), (token.stamped, token.current));
    assert_eq!(found.subject_state, SubjectState::Active);
    assert_eq!((found.digest, found.presented), (order.digest, Presented::Current));

    let second = wait(world.tokens().issue(&world.order(), NOW));
    let IssueOutcome::Issued { token: second, first_of_subject, .. } = second else { panic!("{second:?}") };
    assert!(!first_of_subject);
    assert!(second.number > token.number);
}

fn absence_is_a_value(world: &World) {
    let tokens = world.tokens();
    let nobody = subject("nobody");
    let id = world.order().id;
    assert_eq!(world.find(world.order().digest), None);
    assert_eq!(wait(tokens.token(id, None)), None);
    assert_eq!(wait(tokens.list(&world.query())), []);
    assert_eq!(wait(tokens.subject(&nobody)), None);
    assert_eq!(wait(tokens.set_subject_state(&nobody, SubjectState::Disabled, NOW)), None);
    assert!(!wait(tokens.bump_epoch(&Bump::Subject { id: nobody.clone(), keys_too: true, keep: None }, NOW)));
    assert_eq!(wait(tokens.rename(id, &world.ada, Kind::Login, None, NOW)), None);
    assert_eq!(wait(tokens.renew(id, None, NOW)), RenewOutcome::Dead);
    assert!(matches!(wait(tokens.revoke(id, None, None, NOW)), RevokeOutcome::Unknown));
    let rotation = world.rotation(id, world.order().digest, later(1));
    assert!(matches!(wait(tokens.rotate(&rotation, NOW)), RotateOutcome::Dead));
    wait(tokens.settle_rotation(id, &world.order().digest, NOW));
    wait(tokens.touch(&[Touch { id, seen: Sighting { at: NOW, source: Source::default() }, renew_until: None }], NOW));
    assert_eq!(wait(tokens.client(&client_name("nobody"))), None);
    let nowhere = ClientId::generate(NOW, &world.entropy).expect("entropy");
    assert!(!wait(tokens.delete_client(nowhere, NOW)));
    assert!(!wait(tokens.bump_epoch(&Bump::Client(nowhere), NOW)));
    let stranger = Issue { subject: nobody.clone(), ..world.order() };
    assert!(matches!(wait(tokens.issue(&stranger, NOW)), IssueOutcome::SubjectInactive));
    let astray = Issue { client: nowhere, ..world.order() };
    assert!(matches!(wait(tokens.issue(&astray, NOW)), IssueOutcome::ClientChanged));
    assert_eq!(wait(tokens.purge(NOW, 10)), 0);

    let accounts = world.accounts();
    assert!(world.named("nobody").is_empty());
    assert!(wait(accounts.account(&nobody)).is_none());
    assert!(!wait(accounts.set_password(&nobody, None, &EncodedPassword::unusable())));
    assert_eq!(wait(accounts.change(&nobody, &[AccountChange::Active(false)])), None);
    assert!(!wait(accounts.delete(&nobody)));
    assert_eq!(wait(accounts.accounts(&AccountQuery { limit: 10, ..AccountQuery::default() })), []);
    assert_eq!(wait(accounts.password_costs()), []);
}

fn an_imported_digest_matches_only_under_its_own_scheme(world: &World) {
    let order = Issue { scheme: DigestScheme::KnoxSha512, ..world.order() };
    world.issue(&order);
    assert_eq!(world.find(order.digest), None, "not as a native one");
    let lookup = |scheme| wait(world.tokens().find(&Candidates::Imported(vec![(scheme, order.digest)])));
    assert_eq!(lookup(DigestScheme::PlainText), None);
    assert_eq!(lookup(DigestScheme::KnoxSha512).expect("found").id, order.id);
    let (_, native) = world.issued();
    let several = Candidates::Imported(vec![
        (DigestScheme::PlainText, world.order().digest),
        (DigestScheme::PlainText, native),
        (DigestScheme::KnoxSha512, order.digest),
    ]);
    assert_eq!(wait(world.tokens().find(&several)).expect("found").id, order.id);
    let formats = wait(
        world.tokens().open(&CheckKey::from_bytes([1; 16]), &new_client("default", Policy::default(), &world.entropy)),
    );
    assert_eq!(formats.imported, [DigestScheme::KnoxSha512]);
}

fn a19_a_repeated_digest_or_id_is_refused_and_overwrites_nothing(world: &World) {
    let (token, digest) = world.issued();
    let taken = |issue: &Issue| matches!(wait(world.tokens().issue(issue, NOW)), IssueOutcome::Taken);
    assert!(taken(&Issue { digest, name: TokenName::cut("thief"), ..world.order() }));
    assert!(taken(&Issue { id: token.id, ..world.order() }));
    assert_eq!(wait(world.tokens().token(token.id, None)), Some(token.clone()));

    let rotation = world.rotation(token.id, digest, later(1_000));
    assert!(matches!(wait(world.tokens().rotate(&rotation, NOW)), RotateOutcome::Rotated(_)));
    assert!(taken(&Issue { digest, ..world.order() }), "a retired secret is not given out again");
    assert!(taken(&Issue { digest: rotation.successor, ..world.order() }));
    let (other, other_digest) = world.issued();
    let onto = Rotation { successor: digest, ..world.rotation(other.id, other_digest, later(1_000)) };
    assert!(matches!(wait(world.tokens().rotate(&onto, NOW)), RotateOutcome::Taken));
    assert_eq!(world.find(other_digest).expect("untouched").presented, Presented::Current);
    assert_eq!(wait(world.tokens().list(&world.query())).len(), 2);
}

// ── Ending and prolonging ───────────────────────────────────────────────────────────────────────────────────────────

fn a07_a_revocation_is_visible_to_the_next_find_and_logged(world: &World) {
    let (token, digest) = world.issued();
    let head = world.head();
    let outcome = wait(world.tokens().revoke(token.id, None, None, later(5)));
    let RevokeOutcome::Revoked(revoked) = outcome else { panic!("{outcome:?}") };
    assert_eq!(revoked.revoked_at, Some(later(5)));
    assert_eq!(world.standing(digest, NOW), Standing::Revoked);
    world.assert_logged(head, digest);

    let head = world.head();
    assert!(matches!(wait(world.tokens().revoke(token.id, None, None, later(9))), RevokeOutcome::AlreadyRevoked));
    let record = wait(world.tokens().token(token.id, None)).expect("marked, not removed");
    assert_eq!(record.revoked_at, Some(later(5)), "the first revocation stands");
    assert_eq!(world.logged_since(head), [], "nothing changed");
}

fn a13_only_its_owner_and_kind_find_a_token_to_revoke_rename_or_read(world: &World) {
    let (token, digest) = world.issued();
    let eve = subject("eve");
    wait(world.tokens().open_subject(&eve, NOW));
    let tokens = world.tokens();
    assert_eq!(wait(tokens.token(token.id, Some(&eve))), None);
    assert_eq!(wait(tokens.rename(token.id, &eve, Kind::Login, TokenName::cut("x"), NOW)), None);
    assert_eq!(wait(tokens.rename(token.id, &world.ada, Kind::Key, TokenName::cut("x"), NOW)), None);
    assert!(matches!(wait(tokens.revoke(token.id, Some(&eve), None, NOW)), RevokeOutcome::Unknown));
    assert!(matches!(wait(tokens.revoke(token.id, None, Some(Kind::Key), NOW)), RevokeOutcome::Unknown));
    assert_eq!(world.standing(digest, NOW), Standing::Live);

    let renamed = wait(tokens.rename(token.id, &world.ada, Kind::Login, TokenName::cut("phone"), NOW));
    assert_eq!(renamed, Some(Token { name: TokenName::cut("phone"), ..token.clone() }));
    assert_eq!(wait(tokens.rename(token.id, &world.ada, Kind::Login, None, NOW)), Some(token.clone()));
    assert_eq!(wait(tokens.token(token.id, Some(&world.ada))), Some(token.clone()));
    let ours = wait(tokens.revoke(token.id, Some(&world.ada), Some(Kind::Login), NOW));
    assert!(matches!(ours, RevokeOutcome::Revoked(_)));
    assert_eq!(wait(tokens.rename(token.id, &world.ada, Kind::Login, None, NOW)), None, "dead ones keep their name");
}

fn a18_conditions_are_judged_at_the_very_instant(world: &World) {
    let end = later(10);
    let make = || {
        let order = Issue { expires_at: Some(end), ..world.order() };
        (world.issue(&order), order.digest)
    };
    let (token, digest) = make();
    assert_eq!(wait(world.tokens().renew(token.id, Some(later(11)), end)), RenewOutcome::Dead);
    let rotation = world.rotation(token.id, digest, later(1_000));
    assert!(matches!(wait(world.tokens().rotate(&rotation, end)), RotateOutcome::Dead));
    assert_eq!(wait(world.tokens().rename(token.id, &world.ada, Kind::Login, None, end)), None);
    let live = TokenQuery { live_at: Some(end), ..world.query() };
    assert_eq!(wait(world.tokens().list(&live)), []);
    let from_dead = Issue { warrant: Warrant::Token(token.id), kind: Kind::Key, ..world.order() };
    assert!(matches!(wait(world.tokens().issue(&from_dead, end)), IssueOutcome::WarrantVoid));

    let just_before = later(9);
    let live = TokenQuery { live_at: Some(just_before), ..world.query() };
    assert_eq!(wait(world.tokens().list(&live)).len(), 1);
    let until = Some(later(30));
    assert_eq!(wait(world.tokens().renew(token.id, until, just_before)), RenewOutcome::Renewed(until));
    assert!(matches!(wait(world.tokens().rotate(&rotation, later(29))), RotateOutcome::Rotated(_)));
    // The cap counts what lives at that instant.
    make();
    let capped = Issue { cap: limit(2, AtCap::Refuse), ..world.order() };
    assert!(matches!(wait(world.tokens().issue(&capped, later(9))), IssueOutcome::CapReached));
    assert!(matches!(wait(world.tokens().issue(&capped, end)), IssueOutcome::Issued { .. }));
}

fn renewing_never_shortens_and_never_revives(world: &World) {
    let (token, digest) = world.issued();
    let tokens = world.tokens();
    let far = Some(later(7_200_000));
    assert_eq!(wait(tokens.renew(token.id, far, NOW)), RenewOutcome::Renewed(far));
    assert_eq!(wait(tokens.renew(token.id, Some(later(1)), NOW)), RenewOutcome::Renewed(far), "never shorter");
    assert_eq!(world.find(digest).expect("found").expires_at, far);
    assert_eq!(wait(tokens.renew(token.id, None, NOW)), RenewOutcome::Renewed(None));
    assert_eq!(wait(tokens.renew(token.id, far, NOW)), RenewOutcome::Renewed(None), "for ever is the longest");

    let (revoked, _) = world.issued();
    wait(tokens.revoke(revoked.id, None, None, NOW));
    assert_eq!(wait(tokens.renew(revoked.id, far, NOW)), RenewOutcome::Dead);
    let (expired, expired_digest) = world.issued();
    assert_eq!(wait(tokens.renew(expired.id, Some(later(9_000_000)), later(3_600_000))), RenewOutcome::Dead);
    assert_eq!(world.standing(expired_digest, later(3_600_000)), Standing::Expired);
    let (outlived, _) = world.issued();
    wait(tokens.bump_epoch(&Bump::Client(world.client.id), NOW));
    assert_eq!(wait(tokens.renew(outlived.id, far, NOW)), RenewOutcome::Dead);
    wait(tokens.set_subject_state(&world.ada, SubjectState::Disabled, NOW));
    assert_eq!(wait(tokens.renew(token.id, far, NOW)), RenewOutcome::Dead);
}

fn touching_never_shortens_and_never_revives(world: &World) {
    let (token, digest) = world.issued();
    let (expired, expired_digest) = {
        let order = Issue { expires_at: Some(later(10)), ..world.order() };
        (world.issue(&order), order.digest)
    };
    let (revoked, revoked_digest) = world.issued();
    wait(world.tokens().revoke(revoked.id, None, None, NOW));
    let source = Source { ip: Some("192.0.2.1".parse().expect("an address")), user_agent: UserAgent::cut(b"app/1") };
    let touch = |id, at, renew_until| Touch { id, seen: Sighting { at, source: source.clone() }, renew_until };
    let far = Some(later(7_200_000));
    let touches = [
        touch(token.id, later(20), far),
        touch(expired.id, later(5), far),
        touch(revoked.id, later(5), far),
        touch(world.order().id, later(5), far),
    ];
    wait(world.tokens().touch(&touches, later(20)));
    let record = wait(world.tokens().token(token.id, None)).expect("there");
    assert_eq!(record.last_seen, Some(Sighting { at: later(20), source: source.clone() }));
    assert_eq!(record.expires_at, far);
    assert_eq!(record.first_seen, token.first_seen);
    assert_eq!(world.find(expired_digest).expect("there").expires_at, Some(later(10)));
    assert_eq!(world.standing(revoked_digest, later(20)), Standing::Revoked);

    wait(world.tokens().touch(&[touch(token.id, later(7), Some(later(30)))], later(21)));
    let record = wait(world.tokens().token(token.id, None)).expect("there");
    assert_eq!(record.last_seen.expect("seen").at, later(20), "an older sighting does not replace a newer one");
    assert_eq!(world.find(digest).expect("there").expires_at, far);
}

fn a08_an_epoch_at_any_level_ends_what_was_stamped_before(world: &World) {
    let other = wait(world.tokens().create_client(&new_client("other", Policy::default(), &world.entropy)));
    let other = other.expect("made");
    let bob = subject("bob");
    wait(world.tokens().open_subject(&bob, NOW));
    let login = world.issued().1;
    let key_order = Issue { kind: Kind::Key, ..world.order() };
    world.issue(&key_order);
    let key = key_order.digest;
    let elsewhere = Issue { client: other.id, client_version: other.version, ..world.order() };
    world.issue(&elsewhere);
    let bobs = Issue { subject: bob, ..world.order() };
    world.issue(&bobs);
    let standings = || [login, key, elsewhere.digest, bobs.digest].map(|digest| world.standing(digest, NOW));
    use Standing::{Live, Revoked};
    assert_eq!(standings(), [Live; 4]);

    let bump = |bump: &Bump, logged: Changed| {
        let head = world.head();
        assert!(wait(world.tokens().bump_epoch(bump, NOW)));
        assert_eq!(world.logged_since(head), [logged]);
    };
    let ada = world.ada.clone();
    bump(&Bump::Subject { id: ada.clone(), keys_too: false, keep: None }, Changed::Subject(ada.clone()));
    assert_eq!(standings(), [Revoked, Live, Revoked, Live], "logging out everywhere leaves keys alone");
    bump(&Bump::Subject { id: ada.clone(), keys_too: true, keep: None }, Changed::Subject(ada.clone()));
    assert_eq!(standings(), [Revoked, Revoked, Revoked, Live]);
    let subject = wait(world.tokens().subject(&ada)).expect("there");
    assert_eq!((subject.epoch, subject.key_epoch), (Epoch(2), Epoch(1)));

    let fresh = world.issued().1;
    assert_eq!(world.standing(fresh, NOW), Live, "what is issued later is stamped later");
    bump(&Bump::Client(world.client.id), Changed::Client(world.client.id));
    assert_eq!(world.standing(fresh, NOW), Revoked);
    assert_eq!(world.standing(bobs.digest, NOW), Revoked);

    let other = wait(world.tokens().client(&client_name("other"))).expect("there");
    let late = Issue { client: other.id, client_version: other.version, ..world.order() };
    world.issue(&late);
    assert_eq!(world.standing(late.digest, NOW), Live);
    bump(&Bump::Deployment, Changed::Everything);
    assert_eq!(world.standing(late.digest, NOW), Revoked);
    world.issue(&Issue { client: other.id, client_version: other.version, ..world.order() });
}

fn keeping_one_token_restamps_it_and_never_revives(world: &World) {
    let (kept, kept_digest) = world.issued();
    let (revoked, revoked_digest) = world.issued();
    let (_, other) = world.issued();
    wait(world.tokens().revoke(revoked.id, None, None, NOW));
    let keep = |id| {
        let bump = Bump::Subject { id: world.ada.clone(), keys_too: false, keep: Some(id) };
        assert!(wait(world.tokens().bump_epoch(&bump, later(1))));
    };
    keep(kept.id);
    assert_eq!(world.standing(kept_digest, later(1)), Standing::Live);
    assert_eq!(world.standing(other, later(1)), Standing::Revoked);
    keep(revoked.id);
    assert_eq!(world.standing(revoked_digest, later(1)), Standing::Revoked);
    assert_eq!(world.standing(kept_digest, later(1)), Standing::Revoked, "outlived by the second bump");
    keep(kept.id);
    assert_eq!(world.standing(kept_digest, later(1)), Standing::Revoked, "keeping a dead token does not revive it");

    let bob = subject("bob");
    wait(world.tokens().open_subject(&bob, NOW));
    let bobs = Issue { subject: bob, ..world.order() };
    world.issue(&bobs);
    keep(bobs.id);
    let found = world.find(bobs.digest).expect("there");
    assert_eq!(found.stamped.subject, Epoch(0), "somebody else's token is not restamped");

    // A key that keeps itself while the login tokens end stays as it is; with the keys it is restamped.
    let key = Issue { kind: Kind::Key, ..world.order() };
    world.issue(&key);
    for keys_too in [false, true] {
        let bump = Bump::Subject { id: world.ada.clone(), keys_too, keep: Some(key.id) };
        assert!(wait(world.tokens().bump_epoch(&bump, later(2))));
        assert_eq!(world.standing(key.digest, later(2)), Standing::Live);
    }
}

fn a05_a_disabled_subject_is_seen_at_once_and_comes_back_when_enabled(world: &World) {
    let (token, digest) = world.issued();
    let state = || world.find(digest).expect("there").subject_state;
    let set = |to| wait(world.tokens().set_subject_state(&world.ada, to, NOW)).map(|subject| subject.state);
    let head = world.head();
    assert_eq!(set(SubjectState::Disabled), Some(SubjectState::Disabled));
    assert_eq!(world.logged_since(head), [Changed::Subject(world.ada.clone())]);
    assert_eq!(state(), SubjectState::Disabled);
    assert!(matches!(wait(world.tokens().issue(&world.order(), NOW)), IssueOutcome::SubjectInactive));
    let rotation = world.rotation(token.id, digest, later(1_000));
    assert!(matches!(wait(world.tokens().rotate(&rotation, NOW)), RotateOutcome::Dead));
    let live = TokenQuery { live_at: Some(NOW), ..world.query() };
    assert_eq!(wait(world.tokens().list(&live)), []);
    assert_eq!(set(SubjectState::Active), Some(SubjectState::Active));
    assert_eq!(state(), SubjectState::Active);
    assert_eq!(world.standing(digest, NOW), Standing::Live);
    world.issued();
}

fn a74_a_buried_subject_stays_buried(world: &World) {
    let (_, digest) = world.issued();
    assert!(wait(world.tokens().set_subject_state(&world.ada, SubjectState::Buried, NOW)).is_some());
    assert_eq!(world.find(digest).expect("marked").subject_state, SubjectState::Buried);
    for state in [SubjectState::Active, SubjectState::Disabled, SubjectState::Buried] {
        assert_eq!(wait(world.tokens().set_subject_state(&world.ada, state, NOW)), None);
    }
    assert_eq!(wait(world.tokens().open_subject(&world.ada, later(1))).state, SubjectState::Buried);
    assert!(matches!(wait(world.tokens().issue(&world.order(), NOW)), IssueOutcome::SubjectInactive));
}

// ── Issuing ─────────────────────────────────────────────────────────────────────────────────────────────────────────

fn issuing_restates_the_epoch_that_was_read(world: &World) {
    let order = |epoch| Issue { warrant: Warrant::Password(Epoch(epoch)), ..world.order() };
    assert!(matches!(wait(world.tokens().issue(&order(0), NOW)), IssueOutcome::Issued { .. }));
    let bump = Bump::Subject { id: world.ada.clone(), keys_too: false, keep: None };
    wait(world.tokens().bump_epoch(&bump, NOW));
    assert!(matches!(wait(world.tokens().issue(&order(0), NOW)), IssueOutcome::WarrantVoid));
    assert!(matches!(wait(world.tokens().issue(&order(2), NOW)), IssueOutcome::WarrantVoid));
    assert!(matches!(wait(world.tokens().issue(&order(1), NOW)), IssueOutcome::Issued { .. }));
}

fn issuing_restates_that_the_maker_lives(world: &World) {
    let (maker, _) = world.issued();
    let order = || Issue { kind: Kind::Key, warrant: Warrant::Token(maker.id), ..world.order() };
    assert!(matches!(wait(world.tokens().issue(&order(), NOW)), IssueOutcome::Issued { .. }));
    let bob = subject("bob");
    wait(world.tokens().open_subject(&bob, NOW));
    let foreign = Issue { subject: bob, ..order() };
    assert!(matches!(wait(world.tokens().issue(&foreign, NOW)), IssueOutcome::WarrantVoid));
    wait(world.tokens().revoke(maker.id, None, None, NOW));
    assert!(matches!(wait(world.tokens().issue(&order(), NOW)), IssueOutcome::WarrantVoid));
}

fn issuing_restates_the_version_of_the_client(world: &World) {
    let order = world.order();
    let update = ClientUpdate {
        id: world.client.id,
        version: world.client.version,
        name: world.client.name.clone(),
        policy: Policy { cap: limit(1, AtCap::Refuse), ..Policy::default() },
        allow_login: false,
    };
    assert!(matches!(wait(world.tokens().update_client(&update, NOW)), ClientOutcome::Updated(_)));
    assert!(matches!(wait(world.tokens().issue(&order, NOW)), IssueOutcome::ClientChanged));
    assert_eq!(wait(world.tokens().list(&world.query())), []);
}

fn caps_refuse_or_evict_the_oldest_of_this_subject_on_this_client(world: &World) {
    let capped = |at_cap| Issue { cap: limit(2, at_cap), ..world.order() };
    let orders: Vec<Issue> = (0..2).map(|_| capped(AtCap::Refuse)).collect();
    orders.iter().for_each(|order| drop(world.issue(order)));
    assert!(matches!(wait(world.tokens().issue(&capped(AtCap::Refuse), NOW)), IssueOutcome::CapReached));
    // Neither another subject, nor another client, nor a key counts.
    let bob = subject("bob");
    wait(world.tokens().open_subject(&bob, NOW));
    world.issue(&Issue { subject: bob, ..capped(AtCap::Refuse) });
    let key = Issue { kind: Kind::Key, ..capped(AtCap::Refuse) };
    world.issue(&key);
    let other = wait(world.tokens().create_client(&new_client("other", Policy::default(), &world.entropy)));
    let other = other.expect("made");
    world.issue(&Issue { client: other.id, client_version: other.version, ..capped(AtCap::Refuse) });

    let head = world.head();
    let outcome = wait(world.tokens().issue(&capped(AtCap::EvictOldest), NOW));
    let IssueOutcome::Issued { ended, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(ended, [orders[0].id]);
    assert_eq!(world.standing(orders[0].digest, NOW), Standing::Revoked);
    assert_eq!(world.standing(orders[1].digest, NOW), Standing::Live);
    assert_eq!(world.standing(key.digest, NOW), Standing::Live);
    world.assert_logged(head, orders[0].digest);
    // A cap that was lowered meanwhile evicts as many as it takes.
    let lower = Issue { cap: limit(1, AtCap::EvictOldest), ..world.order() };
    let outcome = wait(world.tokens().issue(&lower, NOW));
    let IssueOutcome::Issued { ended, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(ended.len(), 2);
}

fn a75_racers_never_exceed_a_cap(world: &World) {
    let bob = subject("bob");
    wait(world.tokens().open_subject(&bob, NOW));
    for (who, at_cap) in [(&world.ada, AtCap::Refuse), (&bob, AtCap::EvictOldest)] {
        let orders: Vec<Issue> =
            (0..4 * RACERS).map(|_| Issue { subject: who.clone(), cap: limit(3, at_cap), ..world.order() }).collect();
        let outcomes = race(RACERS, |racer| {
            let mine = orders.iter().skip(racer).step_by(RACERS);
            mine.map(|order| wait(world.tokens().issue(order, NOW))).collect::<Vec<_>>()
        });
        let issued = outcomes.iter().flatten().filter(|outcome| matches!(outcome, IssueOutcome::Issued { .. })).count();
        let live = TokenQuery { filter: TokenFilter::of(who.clone()), live_at: Some(NOW), ..world.query() };
        assert_eq!(wait(world.tokens().list(&live)).len(), 3, "{at_cap:?}");
        match at_cap {
            AtCap::Refuse => assert_eq!(issued, 3),
            AtCap::EvictOldest => assert_eq!(issued, orders.len()),
        }
    }
}

fn replacing_ends_the_tokens_before(world: &World) {
    let (_, first) = world.issued();
    let key = Issue { kind: Kind::Key, ..world.order() };
    world.issue(&key);
    let head = world.head();
    let order = Issue { reissue: Reissue::Replace, cap: limit(1, AtCap::Refuse), ..world.order() };
    let outcome = wait(world.tokens().issue(&order, NOW));
    let IssueOutcome::Issued { ended, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(ended.len(), 1);
    assert_eq!(world.standing(first, NOW), Standing::Revoked);
    assert_eq!(world.standing(order.digest, NOW), Standing::Live);
    assert_eq!(world.standing(key.digest, NOW), Standing::Live, "keys are not logins");
    world.assert_logged(head, first);
    let orders: Vec<Issue> = (0..RACERS).map(|_| Issue { reissue: Reissue::Replace, ..world.order() }).collect();
    race(RACERS, |racer| wait(world.tokens().issue(&orders[racer], NOW)));
    let live = TokenQuery { live_at: Some(NOW), filter: logins(), ..world.query() };
    assert_eq!(wait(world.tokens().list(&live)).len(), 1);
}

fn the_same_sealed_token_is_found_again_while_it_lives(world: &World) {
    let order = || {
        let sealed = Sealed { key_id: 7, bytes: world.order().digest.as_bytes().to_vec() };
        Issue { reissue: Reissue::Same, sealed: Some(sealed), ..world.order() }
    };
    world.issued(); // not sealed: cannot be handed out again
    let first = order();
    let token = world.issue(&first);
    let again = wait(world.tokens().issue(&order(), NOW));
    let IssueOutcome::Same { token: same, sealed, digest } = again else { panic!("{again:?}") };
    assert_eq!((*same, Some(sealed), digest), (token.clone(), first.sealed.clone(), first.digest));
    let orders: Vec<Issue> = (0..RACERS).map(|_| order()).collect();
    let answers = race(RACERS, |racer| wait(world.tokens().issue(&orders[racer], NOW)));
    assert!(
        answers.iter().all(|answer| matches!(answer, IssueOutcome::Same { token: same, .. } if same.id == token.id))
    );
    wait(world.tokens().revoke(token.id, None, None, NOW));
    assert!(matches!(wait(world.tokens().issue(&order(), NOW)), IssueOutcome::Issued { .. }));
}

// ── Rotation ────────────────────────────────────────────────────────────────────────────────────────────────────────

fn rotation_keeps_the_record_and_its_old_secret_for_the_grace(world: &World) {
    let (token, old) = world.issued();
    let rotation = world.rotation(token.id, old, later(30_000));
    let head = world.head();
    let outcome = wait(world.tokens().rotate(&rotation, NOW));
    let RotateOutcome::Rotated(rotated) = outcome else { panic!("{outcome:?}") };
    assert_eq!(*rotated, token, "the same record");
    world.assert_logged(head, old);
    let found = world.find(old).expect("kept");
    assert_eq!((found.id, found.presented), (token.id, Presented::Retired { grace_until: later(30_000) }));
    let found = world.find(rotation.successor).expect("new");
    assert_eq!((found.id, found.presented), (token.id, Presented::Successor));
    wait(world.tokens().revoke(token.id, None, None, NOW));
    assert_eq!(world.standing(old, NOW), Standing::Revoked);
    assert_eq!(world.standing(rotation.successor, NOW), Standing::Revoked);
}

fn rotating_again_takes_back_a_successor_that_was_never_used(world: &World) {
    let (token, old) = world.issued();
    let first = world.rotation(token.id, old, later(30_000));
    assert!(matches!(wait(world.tokens().rotate(&first, NOW)), RotateOutcome::Rotated(_)));
    let second = world.rotation(token.id, old, later(90_000));
    assert!(matches!(wait(world.tokens().rotate(&second, later(29_999))), RotateOutcome::Rotated(_)));
    assert_eq!(world.find(first.successor).expect("remembered").presented, Presented::TakenBack);
    assert_eq!(world.find(second.successor).expect("new").presented, Presented::Successor);
    let grace = Presented::Retired { grace_until: later(30_000) };
    assert_eq!(world.find(old).expect("kept").presented, grace, "trying again does not prolong the grace");
    let late = world.rotation(token.id, old, later(90_000));
    assert!(matches!(wait(world.tokens().rotate(&late, later(30_000))), RotateOutcome::Dead), "at its very end");
    let taken_back = world.rotation(token.id, first.successor, later(90_000));
    assert!(matches!(wait(world.tokens().rotate(&taken_back, NOW)), RotateOutcome::Dead));
}

fn using_the_successor_ends_the_grace(world: &World) {
    let (token, old) = world.issued();
    let rotation = world.rotation(token.id, old, later(30_000));
    wait(world.tokens().rotate(&rotation, NOW));
    let head = world.head();
    wait(world.tokens().settle_rotation(token.id, &rotation.successor, later(5)));
    world.assert_logged(head, old);
    assert_eq!(world.find(rotation.successor).expect("new").presented, Presented::Current);
    let presented = world.find(old).expect("kept").presented;
    assert!(matches!(presented, Presented::Retired { grace_until } if grace_until <= later(5)), "{presented:?}");
    let again = world.rotation(token.id, old, later(30_000));
    assert!(matches!(wait(world.tokens().rotate(&again, later(6))), RotateOutcome::Dead));
    // Settling what is settled, or by a secret that is not the current one, does nothing.
    let next = world.rotation(token.id, rotation.successor, later(60_000));
    assert!(matches!(wait(world.tokens().rotate(&next, later(10))), RotateOutcome::Rotated(_)));
    wait(world.tokens().settle_rotation(token.id, &rotation.successor, later(11)));
    assert_eq!(world.find(next.successor).expect("new").presented, Presented::Successor);
    // Used after the grace had run out: a clock that is set back does not open it again.
    wait(world.tokens().settle_rotation(token.id, &next.successor, later(90_000)));
    let presented = world.find(rotation.successor).expect("kept").presented;
    assert!(matches!(presented, Presented::Retired { grace_until } if grace_until <= NOW), "{presented:?}");
}

fn a12_racing_rotations_leave_one_successor(world: &World) {
    let (token, old) = world.issued();
    let rotations: Vec<Rotation> = (0..8 * RACERS).map(|_| world.rotation(token.id, old, later(30_000))).collect();
    let outcomes = race(RACERS, |racer| {
        let mine = rotations.iter().skip(racer).step_by(RACERS);
        mine.map(|rotation| wait(world.tokens().rotate(rotation, NOW))).collect::<Vec<_>>()
    });
    let refused = outcomes.iter().flatten().filter(|outcome| !matches!(outcome, RotateOutcome::Rotated(_))).count();
    assert_eq!(refused, 0, "each one may try again within the grace");
    let presented: Vec<Presented> =
        rotations.iter().map(|rotation| world.find(rotation.successor).expect("remembered").presented).collect();
    assert_eq!(presented.iter().filter(|one| **one == Presented::Successor).count(), 1);
    assert_eq!(presented.iter().filter(|one| **one == Presented::TakenBack).count(), presented.len() - 1);
}

fn a12_racing_renewals_all_succeed_and_revocation_wins(world: &World) {
    let (token, digest) = world.issued();
    let outcomes = race(8 * RACERS, |racer| {
        let until = Some(later(4_000_000 + racer as u64));
        wait(world.tokens().renew(token.id, until, NOW))
    });
    assert!(outcomes.iter().all(|outcome| matches!(outcome, RenewOutcome::Renewed(_))));
    assert_eq!(world.find(digest).expect("there").expires_at, Some(later(4_000_000 + 8 * RACERS as u64 - 1)));

    let outcomes = race(RACERS, |racer| {
        if racer == 0 {
            wait(world.tokens().revoke(token.id, None, None, NOW));
            return RenewOutcome::Dead;
        }
        wait(world.tokens().renew(token.id, None, NOW))
    });
    assert_eq!(outcomes.len(), RACERS);
    assert_eq!(world.standing(digest, NOW), Standing::Revoked, "whoever came first");
    assert_eq!(wait(world.tokens().renew(token.id, None, NOW)), RenewOutcome::Dead);
}

fn a76_logging_out_everywhere_beats_logins_under_way(world: &World) {
    for round in 0..4 {
        let epoch = wait(world.tokens().subject(&world.ada)).expect("there").epoch;
        let orders: Vec<Issue> =
            (0..RACERS).map(|_| Issue { warrant: Warrant::Password(epoch), ..world.order() }).collect();
        race(RACERS, |racer| {
            if racer == round {
                let bump = Bump::Subject { id: world.ada.clone(), keys_too: false, keep: None };
                assert!(wait(world.tokens().bump_epoch(&bump, NOW)));
            } else {
                wait(world.tokens().issue(&orders[racer], NOW));
            }
        });
        let live = TokenQuery { live_at: Some(NOW), ..world.query() };
        assert_eq!(wait(world.tokens().list(&live)), [], "none survives the acknowledgement");
    }
}

fn a76_deleting_beats_logins_under_way(world: &World) {
    for round in 0..4 {
        let who = subject(&format!("short-lived-{round}"));
        let epoch = wait(world.tokens().open_subject(&who, NOW)).epoch;
        let orders: Vec<Issue> = (0..RACERS)
            .map(|_| Issue { subject: who.clone(), warrant: Warrant::Password(epoch), ..world.order() })
            .collect();
        race(RACERS, |racer| {
            if racer == round {
                wait(world.tokens().set_subject_state(&who, SubjectState::Buried, NOW)).expect("was there");
            } else {
                wait(world.tokens().issue(&orders[racer], NOW));
            }
        });
        for order in &orders {
            let found = world.find(order.digest);
            assert!(found.is_none_or(|found| found.subject_state == SubjectState::Buried));
        }
    }
}

// ── Lists, purge, clients, log ──────────────────────────────────────────────────────────────────────────────────────

fn lists_are_pages_in_order_of_number(world: &World) {
    let bob = subject("bob");
    wait(world.tokens().open_subject(&bob, NOW));
    let mut ids = Vec::new();
    for round in 0..5 {
        ids.push(world.issued().0.id);
        world.issue(&Issue { subject: bob.clone(), ..world.order() });
        if round == 2 {
            world.issue(&Issue { kind: Kind::Key, ..world.order() });
        }
    }
    let filter = TokenFilter { subject: Some(world.ada.clone()), ..logins() };
    let logins = TokenQuery { filter, limit: 2, ..world.query() };
    let mut seen = Vec::new();
    let mut after = 0;
    loop {
        let page = wait(world.tokens().list(&TokenQuery { after, ..logins.clone() }));
        assert!(page.len() <= 2);
        assert!(page.is_sorted_by_key(|token| token.number));
        let Some(last) = page.last() else { break };
        after = last.number;
        seen.extend(page.iter().map(|token| token.id));
    }
    assert_eq!(seen, ids);
    let keys = TokenFilter { kind: Some(Kind::Key), ..TokenFilter::default() };
    assert_eq!(wait(world.tokens().list(&TokenQuery { filter: keys, ..world.query() })).len(), 1);
    assert_eq!(wait(world.tokens().list(&world.query())).len(), 11);
    let filter = TokenFilter { client: Some(client_name("default")), ..TokenFilter::of(bob) };
    let on_default = TokenQuery { filter, ..world.query() };
    assert_eq!(wait(world.tokens().list(&on_default)).len(), 5);
    let filter = TokenFilter { client: Some(client_name("elsewhere")), ..TokenFilter::default() };
    let elsewhere = TokenQuery { filter, ..world.query() };
    assert_eq!(wait(world.tokens().list(&elsewhere)), []);
}

fn a47_hostile_text_is_text(world: &World) {
    for text in ["%", "_", "'", "''; DROP TABLE tokens; --", "\"", "\\", "a%", "$1", "?1", "🦀", "\u{202e}rtl"] {
        let who = subject(text);
        wait(world.tokens().open_subject(&who, NOW));
        let source = Source { ip: None, user_agent: UserAgent::cut(text.as_bytes()) };
        let order = Issue { subject: who.clone(), name: TokenName::cut(text), source, ..world.order() };
        let token = world.issue(&order);
        let theirs = TokenQuery { filter: TokenFilter::of(who.clone()), ..world.query() };
        assert_eq!(wait(world.tokens().list(&theirs)), [token], "{text:?}");
        let client = new_client(text, Policy::default(), &world.entropy);
        assert_eq!(wait(world.tokens().create_client(&client)).expect("made").name.as_str(), text);
        let account = world.credentials(text, None);
        assert!(wait(world.accounts().create(&account, &EncodedPassword::unusable(), Distinct::ByCase)), "{text:?}");
        assert_eq!(world.named(text), [account.username.as_str()]);
    }
    assert_eq!(wait(world.tokens().list(&world.query())).len(), 11);
}

fn purging_removes_only_what_has_been_dead_long_enough(world: &World) {
    let tokens = world.tokens();
    let live = world.issued().0.id;
    let immortal = world.issue(&Issue { expires_at: None, ..world.order() }).id;
    let expired_at_10 = world.issue(&Issue { expires_at: Some(later(10)), ..world.order() }).id;
    let revoked_at_20 = world.issue(&Issue { expires_at: None, ..world.order() }).id;
    wait(tokens.revoke(revoked_at_20, None, None, later(20)));
    let bob = subject("bob");
    wait(tokens.open_subject(&bob, NOW));
    let outlived_at_30 = world.issue(&Issue { subject: bob.clone(), expires_at: None, ..world.order() }).id;
    let key_of_bob =
        world.issue(&Issue { subject: bob.clone(), kind: Kind::Key, expires_at: None, ..world.order() }).id;
    wait(tokens.bump_epoch(&Bump::Subject { id: bob.clone(), keys_too: false, keep: None }, later(30)));
    let carl = subject("carl");
    wait(tokens.open_subject(&carl, NOW));
    let buried_at_40 = world.issue(&Issue { subject: carl.clone(), expires_at: None, ..world.order() }).id;
    wait(tokens.set_subject_state(&carl, SubjectState::Buried, later(40)));
    let disabled = subject("dora");
    wait(tokens.open_subject(&disabled, NOW));
    let suspended = world.issue(&Issue { subject: disabled.clone(), ..world.order() }).id;
    wait(tokens.set_subject_state(&disabled, SubjectState::Disabled, later(1)));

    let there = |id| wait(tokens.token(id, None)).is_some();
    let purge_until = |at| while wait(tokens.purge(later(at), 1)) > 0 {};
    for (id, at) in [(expired_at_10, 10), (revoked_at_20, 20), (outlived_at_30, 30), (buried_at_40, 40)] {
        purge_until(at - 1);
        assert!(there(id), "dead since {at}, not long enough at {}", at - 1);
        purge_until(at);
        assert!(!there(id), "dead since {at}");
    }
    assert!([live, immortal, suspended, key_of_bob].into_iter().all(there));

    // Deleting the deployment's tokens by its epoch, in batches.
    wait(tokens.bump_epoch(&Bump::Deployment, later(50)));
    assert_eq!(wait(tokens.purge(later(49), 10)), 0);
    assert!(wait(tokens.purge(later(50), 3)) <= 3);
    purge_until(50);
    assert_eq!(wait(tokens.list(&world.query())), []);
    assert_eq!(wait(tokens.subject(&carl)).expect("never forgotten").state, SubjectState::Buried);

    let (token, old) = world.issued();
    let rotation = world.rotation(token.id, old, later(70));
    wait(tokens.rotate(&rotation, later(60)));
    purge_until(59);
    assert!(world.find(old).is_some());
    purge_until(60);
    assert!(world.find(old).is_none(), "a retired secret is forgotten in the end");
    assert!(world.find(rotation.successor).is_some());
}

fn purging_trims_the_log_and_keeps_its_newest_rows(world: &World) {
    let before = world.head();
    let extra = 5;
    let writers = RACERS as u64;
    let each = CHANGES_KEPT.div_ceil(writers) + extra;
    race(RACERS, |_| {
        for _ in 0..each {
            wait(world.tokens().subject_changed(&world.ada, NOW));
        }
    });
    let head = world.head();
    assert_eq!(head, before + each * writers);
    while wait(world.tokens().purge(Timestamp::MIN, 1_000)) > 0 {}
    let changes = wait(world.tokens().changes(0, u32::MAX));
    assert_eq!((changes.head, changes.rows.len() as u64), (head, CHANGES_KEPT));
    assert_eq!(changes.rows[0].number, head - CHANGES_KEPT + 1);
    wait(world.tokens().subject_changed(&world.ada, NOW));
    assert_eq!(world.head(), head + 1, "numbers go on after a trim");
}

fn clients_change_only_at_the_version_that_was_read(world: &World) {
    let tokens = world.tokens();
    let web = new_client("web", Policy { throttle: "100/h".parse().ok(), ..Policy::default() }, &world.entropy);
    let made = wait(tokens.create_client(&web)).expect("made");
    assert_eq!((&made.name, &made.policy, made.epoch), (&web.name, &web.policy, Epoch(0)));
    assert_eq!(wait(tokens.client(&web.name)), Some(Arc::clone(&made)));
    assert_eq!(wait(tokens.create_client(&new_client("web", Policy::default(), &world.entropy))), None);
    let names: Vec<String> = wait(tokens.clients()).iter().map(|client| client.name.to_string()).collect();
    assert_eq!(names, ["default", "web"]);

    let update = ClientUpdate {
        id: made.id,
        version: made.version,
        name: client_name("www"),
        policy: Policy { ttl: None, ..Policy::default() },
        allow_login: false,
    };
    let head = world.head();
    let outcome = wait(tokens.update_client(&update, NOW));
    let ClientOutcome::Updated(updated) = outcome else { panic!("{outcome:?}") };
    assert_eq!((updated.name.as_str(), updated.allow_login), ("www", false));
    assert!(updated.version > made.version);
    assert_eq!(world.logged_since(head), [Changed::Client(made.id)]);
    assert_eq!(wait(tokens.client(&client_name("web"))), None);
    assert_eq!(wait(tokens.client(&client_name("www"))), Some(Arc::clone(&updated)));

    assert!(matches!(wait(tokens.update_client(&update, NOW)), ClientOutcome::Changed), "the version has moved on");
    let onto = ClientUpdate { name: client_name("default"), version: updated.version, ..update.clone() };
    assert!(matches!(wait(tokens.update_client(&onto, NOW)), ClientOutcome::NameTaken));
    let same = ClientUpdate { version: updated.version, ..update };
    let outcomes = race(RACERS, |_| wait(tokens.update_client(&same, NOW)));
    let updated = outcomes.iter().filter(|outcome| matches!(outcome, ClientOutcome::Updated(_))).count();
    assert_eq!(updated, 1, "one of the racers read the newest version");
}

fn deleting_a_client_ends_its_tokens(world: &World) {
    let web = wait(world.tokens().create_client(&new_client("web", Policy::default(), &world.entropy))).expect("made");
    let order = Issue { client: web.id, client_version: web.version, ..world.order() };
    world.issue(&order);
    let (_, stays) = world.issued();
    let head = world.head();
    assert!(wait(world.tokens().delete_client(web.id, NOW)));
    assert_eq!(world.logged_since(head), [Changed::Client(web.id)]);
    assert_eq!(world.find(order.digest), None);
    assert_eq!(wait(world.tokens().client(&web.name)), None);
    assert_eq!(world.standing(stays, NOW), Standing::Live);
    assert!(matches!(wait(world.tokens().issue(&order, NOW)), IssueOutcome::ClientChanged));
}

fn the_log_is_gapless_and_names_every_loss(world: &World) {
    let tokens = world.tokens();
    let start = wait(tokens.changes(0, 0));
    let (token, _) = world.issued();
    assert_eq!(world.logged_since(start.head), [], "a new token takes nothing from anybody");
    wait(tokens.renew(token.id, Some(later(9_000_000)), NOW));
    wait(tokens.revoke(token.id, None, None, NOW));
    wait(tokens.subject_changed(&world.ada, NOW));
    wait(tokens.bump_epoch(&Bump::Deployment, NOW));
    let all = wait(tokens.changes(start.head, 100));
    assert_eq!(all.incarnation, start.incarnation);
    assert!(all.rows.iter().all(|change| change.at == NOW));
    let page = wait(tokens.changes(start.head + 1, 1));
    assert_eq!(page.rows, all.rows[1..2], "the same rows on every reading, tags included");
    assert_eq!(page.head, all.head);
}

fn racing_writers_leave_no_gap_in_the_log(world: &World) {
    let head = world.head();
    let orders: Vec<Issue> = (0..4 * RACERS).map(|_| world.order()).collect();
    orders.iter().for_each(|order| drop(world.issue(order)));
    race(RACERS, |racer| {
        for order in orders.iter().skip(racer).step_by(RACERS) {
            wait(world.tokens().revoke(order.id, None, None, NOW));
        }
    });
    let logged = world.logged_since(head);
    assert_eq!(logged.len(), orders.len());
    for order in &orders {
        assert!(logged.contains(&Changed::Tokens(vec![order.digest])));
    }
}

// ── Accounts ────────────────────────────────────────────────────────────────────────────────────────────────────────

fn password(text: &str) -> EncodedPassword {
    EncodedPassword::from_store(text)
}

fn accounts_are_found_by_name_case_and_confirmed_address(world: &World) {
    let accounts = world.accounts();
    let ada = world.credentials("Ada", Some(("ada@example.org", true)));
    let bob = world.credentials("bob", Some(("bob@example.org", false)));
    assert!(wait(accounts.create(&ada, &password("md5$salt$00000000000000000000000000000000"), Distinct::ByCase)));
    assert!(wait(accounts.create(&bob, &password("!"), Distinct::ByCase)));
    assert_eq!(world.named("Ada"), ["Ada"]);
    assert_eq!(world.named("ADA"), ["Ada"]);
    assert_eq!(world.named("ADA@example.org"), ["Ada"]);
    assert!(world.named("bob@example.org").is_empty(), "not confirmed");
    let read = wait(accounts.account(&ada.subject)).expect("there");
    assert_eq!(read.account, ada);
    assert_eq!(read.password.expose(), "md5$salt$00000000000000000000000000000000");
}

fn a_taken_name_is_refused_in_any_case(world: &World) {
    let accounts = world.accounts();
    let ada = world.credentials("Ada", None);
    assert!(wait(accounts.create(&ada, &password("!"), Distinct::ByCase)));
    for name in ["Ada", "ada", "ADA", "Ａｄａ"] {
        assert!(!wait(accounts.create(&world.credentials(name, None), &password("!"), Distinct::ByCase)), "{name}");
    }
    let other = Account { username: "eve".parse().expect("a name"), ..ada.clone() };
    assert!(!wait(accounts.create(&other, &password("!"), Distinct::ByCase)), "nor a subject twice");
    let racing: Vec<Account> = (0..RACERS).map(|_| world.credentials("racer", None)).collect();
    let made = race(RACERS, |racer| wait(accounts.create(&racing[racer], &password("!"), Distinct::ByCase)));
    assert_eq!(made.iter().filter(|made| **made).count(), 1);
}

fn a62_a_name_that_looks_like_a_taken_one_is_refused_where_people_choose_and_kept_where_it_is_found(world: &World) {
    let accounts = world.accounts();
    let added = |name: &str, distinct| {
        let account = world.credentials(name, None);
        wait(accounts.create(&account, &password("!"), distinct))
    };
    assert!(added("Bill", Distinct::ByLook));
    for name in ["Bill", "BILL", "Вill", "biIl", "bil1", "BiII", "b\u{200b}ill"] {
        assert!(wait(accounts.has_lookalike(&name.parse().expect("a name"))), "{name:?}");
        assert!(!added(name, Distinct::ByLook), "{name:?}");
    }
    for (name, imported) in [("bil1", true), ("biIl", true), ("BILL", false)] {
        assert_eq!(added(name, Distinct::ByCase), imported, "{name:?}");
    }
    assert_eq!(
        (world.named("bill"), world.named("bil1"), world.named("biIl")),
        (vec!["Bill".to_owned()], vec!["bil1".to_owned()], vec!["biIl".to_owned()])
    );
    assert!(!wait(accounts.has_lookalike(&"billy".parse().expect("a name"))));
    assert!(added("billy", Distinct::ByLook) && added("будда", Distinct::ByLook));

    // Each looks like every other one, and none is one of the others' in another case.
    let alike = ["scope", "ѕcope", "sсope", "scоpe", "scoрe", "scopе", "sc0pe", "\u{455}\u{441}ope"];
    let racing: Vec<Account> = alike.iter().cycle().take(RACERS).map(|name| world.credentials(name, None)).collect();
    let made = race(RACERS, |racer| wait(accounts.create(&racing[racer], &password("!"), Distinct::ByLook)));
    assert_eq!(made.iter().filter(|made| **made).count(), 1);
}

fn a_password_is_replaced_only_where_it_is_still_the_one_that_was_read(world: &World) {
    let accounts = world.accounts();
    let ada = world.credentials("ada", None);
    assert!(wait(accounts.create(&ada, &password("md5$salt$00000000000000000000000000000000"), Distinct::ByCase)));
    let md5 = password("md5$salt$00000000000000000000000000000000").cost().expect("a cost");
    assert_eq!(wait(accounts.password_costs()), [md5]);
    assert!(!wait(accounts.set_password(
        &ada.subject,
        Some(&password("md5$salt$11111111111111111111111111111111")),
        &password("!")
    )));
    assert!(wait(accounts.set_password(
        &ada.subject,
        Some(&password("md5$salt$00000000000000000000000000000000")),
        &password("md5$salt$22222222222222222222222222222222")
    )));
    assert_eq!(
        wait(accounts.account(&ada.subject)).expect("there").password.expose(),
        "md5$salt$22222222222222222222222222222222"
    );
    let row = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$c2FsdHNhbHRzYWx0c2FsdHNhbHRzYWx0c2FsdHNhbHQ";
    assert!(wait(accounts.set_password(&ada.subject, None, &password(row))));
    assert_eq!(wait(accounts.password_costs()), [password(row).cost().expect("a cost")], "the old cost is gone");
}

fn a74_a_name_is_free_again_when_its_account_is_deleted(world: &World) {
    let accounts = world.accounts();
    let first = world.credentials("ada", Some(("ada@example.org", true)));
    assert!(wait(accounts.create(&first, &password("!"), Distinct::ByCase)));
    assert!(wait(accounts.delete(&first.subject)));
    assert!(!wait(accounts.delete(&first.subject)));
    assert!(world.named("ada").is_empty());
    let second = world.credentials("ada", None);
    assert!(wait(accounts.create(&second, &password("!"), Distinct::ByCase)));
    let read = wait(accounts.account(&second.subject)).expect("there").account;
    assert_eq!(read, second, "nothing inherited");
}

fn accounts_are_listed_by_name_and_changed_one_thing_at_a_time(world: &World) {
    let accounts = world.accounts();
    for name in ["Carl", "ada", "Bob"] {
        assert!(wait(accounts.create(&world.credentials(name, None), &password("!"), Distinct::ByCase)));
    }
    let names = |after: Option<&str>, limit| -> Vec<String> {
        let after: Option<Username> = after.map(|name| name.parse().expect("a user name"));
        let query = AccountQuery { after, limit, ..AccountQuery::default() };
        wait(accounts.accounts(&query)).iter().map(|account| account.username.to_string()).collect()
    };
    assert_eq!(names(None, 2), ["ada", "Bob"]);
    assert_eq!(names(Some("Bob"), 2), ["Carl"]);
    assert_eq!(names(Some("BOB"), 2), ["Bob", "Carl"], "names that fold alike have an order of their own");

    let account = wait(accounts.accounts(&AccountQuery { limit: 1, ..AccountQuery::default() })).remove(0);
    let mut expected = account.clone();
    let mut change = |change: AccountChange, apply: &dyn Fn(&mut Account)| {
        apply(&mut expected);
        assert_eq!(wait(accounts.change(&account.subject, std::slice::from_ref(&change))), Some(expected.clone()));
        let read = wait(accounts.account(&account.subject)).expect("there").account;
        assert_eq!(read, expected);
    };
    change(AccountChange::Active(false), &|account| account.active = false);
    assert!(!wait(accounts.has_role(Role::Admin)));
    change(AccountChange::Role(Role::Admin), &|account| account.role = Role::Admin);
    assert!(wait(accounts.has_role(Role::Admin)) && !wait(accounts.has_role(Role::Staff)));
    let email: crate::account::Email = "ada@example.org".parse().expect("an address");
    change(AccountChange::Email(Some(email.clone()), Some(NOW)), &|account| {
        account.email = Some(email.clone());
        account.email_confirmed_at = Some(NOW);
    });
    change(AccountChange::FirstName("A".into()), &|account| account.first_name = "A".into());
    change(AccountChange::LastName("L".into()), &|account| account.last_name = "L".into());
    let facts = Metadata::new(serde_json::Map::from_iter([("a".to_owned(), 1.into())])).expect("short");
    change(AccountChange::Attributes(facts.clone()), &|account| account.attributes = facts.clone());
    change(AccountChange::Locale(Some("de-CH".into())), &|account| account.locale = Some("de-CH".into()));
    change(AccountChange::RotationLocked(true), &|account| account.rotation_locked = true);
    change(AccountChange::LoggedIn(later(5)), &|account| account.last_login_at = Some(later(5)));
    change(AccountChange::Email(None, None), &|account| {
        account.email = None;
        account.email_confirmed_at = None;
    });
    assert_eq!(world.named("ada"), ["ada"]);
}

fn accounts_are_filtered_and_changed_in_one_transition(world: &World) {
    let accounts = world.accounts();
    for (name, email, role, active) in [
        ("Ada", Some("ada@example.org"), Role::Admin, true),
        ("adam", Some("Adam@Example.org"), Role::User, false),
        ("a%", None, Role::User, true),
        ("bob", Some("bob@example.org"), Role::User, true),
    ] {
        let account = world.credentials(name, email.map(|email| (email, false)));
        assert!(wait(accounts.create(&account, &password("!"), Distinct::ByCase)));
        let changes = [AccountChange::Role(role), AccountChange::Active(active)];
        let changed = wait(accounts.change(&account.subject, &changes)).expect("there");
        assert_eq!((changed.role, changed.active), (role, active));
    }
    let names = |query: AccountQuery| -> Vec<String> {
        let query = AccountQuery { limit: 10, ..query };
        wait(accounts.accounts(&query)).iter().map(|account| account.username.to_string()).collect()
    };
    let any = AccountQuery::default;
    assert_eq!(names(any()), ["a%", "Ada", "adam", "bob"]);
    assert_eq!(names(AccountQuery { name: Some("ADA".into()), ..any() }), ["Ada", "adam"]);
    assert_eq!(names(AccountQuery { name: Some("a%".into()), ..any() }), ["a%"], "a47: text is text");
    assert_eq!(names(AccountQuery { name: Some("_".into()), ..any() }), [""; 0]);
    let email = "ADAM@example.org".parse().expect("an address");
    assert_eq!(names(AccountQuery { email: Some(email), ..any() }), ["adam"]);
    assert_eq!(names(AccountQuery { role: Some(Role::Admin), ..any() }), ["Ada"]);
    assert_eq!(names(AccountQuery { active: Some(false), ..any() }), ["adam"]);
    let after = Some("ada".parse().expect("a user name"));
    let query = AccountQuery { after, active: Some(true), role: Some(Role::User), ..any() };
    assert_eq!(names(query), ["bob"]);
}

fn the_greatest_number_among_subjects_is_found(world: &World) {
    let accounts = world.accounts();
    let greatest = || wait(accounts.greatest_number());
    let add = |name: &str| {
        let account = Account::named(subject(name), format!("user {name}").parse().expect("a name"), NOW);
        assert!(wait(accounts.create(&account, &password("!"), Distinct::ByText)));
    };
    for name in ["seven", "7a", "-9", "+9", "1e9", " 8", "8.5", "\u{0669}", "9".repeat(16).as_str()] {
        add(name);
        assert_eq!(greatest(), 0, "{name:?} is no number below 2\u{2075}\u{00b3}");
    }
    for (name, expected) in [("9", 9), ("10", 10), ("007", 10), ("0011", 11), ("999999999999999", 999_999_999_999_999)]
    {
        add(name);
        assert_eq!(greatest(), expected, "by value, not by text");
    }
    assert!(wait(accounts.delete(&subject("999999999999999"))));
    assert_eq!(greatest(), 11);
}

fn at_address(last: u8) -> Source {
    Source { ip: Some([192, 0, 2, last].into()), user_agent: None }
}

fn tokens_are_filtered_by_what_they_have_in_common(world: &World) {
    let tokens = world.tokens();
    let issue = |at: u64, from: u8| {
        let order = Issue { source: at_address(from), ..world.order() };
        match wait(tokens.issue(&order, later(at))) {
            IssueOutcome::Issued { token, .. } => token.id,
            other => panic!("issued nothing: {other:?}"),
        }
    };
    let (first, second, third) = (issue(0, 1), issue(10, 2), issue(20, 3));
    let seen = Sighting { at: later(100), source: at_address(9) };
    wait(tokens.touch(&[Touch { id: second, seen, renew_until: None }], later(100)));
    let matching = |filter: TokenFilter| -> Vec<TokenId> {
        let query = TokenQuery { filter, ..world.query() };
        wait(tokens.list(&query)).iter().map(|token| token.id).collect()
    };
    let any = TokenFilter::default;
    assert_eq!(matching(any()), [first, second, third]);
    assert_eq!(matching(TokenFilter { issued_before: Some(later(10)), ..any() }), [first]);
    assert_eq!(matching(TokenFilter { issued_before: Some(later(11)), ..any() }), [first, second]);
    assert_eq!(matching(TokenFilter { used_before: Some(later(100)), ..any() }), [first, third]);
    assert_eq!(matching(TokenFilter { used_before: Some(later(101)), ..any() }), [first, second, third]);
    assert_eq!(matching(TokenFilter { used_before: Some(later(20)), ..any() }), [first]);
    assert_eq!(matching(TokenFilter { ip: at_address(2).ip, ..any() }), [second], "where it was issued");
    assert_eq!(matching(TokenFilter { ip: at_address(9).ip, ..any() }), [second], "where it was last used");
    assert_eq!(matching(TokenFilter { ip: at_address(7).ip, ..any() }), []);
    let client = Some(client_name("default"));
    let all = TokenFilter {
        client,
        kind: Some(Kind::Login),
        issued_before: Some(later(15)),
        ..TokenFilter::of(world.ada.clone())
    };
    assert_eq!(matching(all), [first, second]);
}

fn matching_tokens_are_counted_and_revoked_in_batches(world: &World) {
    let tokens = world.tokens();
    let bob = subject("bob");
    wait(tokens.open_subject(&bob, NOW));
    let ids: Vec<TokenId> = (0..5).map(|_| world.issued().0.id).collect();
    let dead = world.issue(&Issue { expires_at: Some(later(5)), ..world.order() }).id;
    let bobs = world.issue(&Issue { subject: bob, ..world.order() }).id;
    wait(tokens.revoke(ids[0], None, None, later(1)));
    // Suspended ones are meant as well: enabling would bring them back.
    wait(tokens.set_subject_state(&world.ada, SubjectState::Disabled, later(2)));
    let adas = TokenFilter::of(world.ada.clone());
    assert_eq!(wait(tokens.count_matching(&adas, later(5))), 4, "neither the revoked nor the expired one");
    assert_eq!(wait(tokens.count_matching(&adas, later(4))), 5);
    let head = world.head();
    assert_eq!(wait(tokens.revoke_matching(&adas, 3, later(5))), 3);
    assert_eq!(wait(tokens.count_matching(&adas, later(5))), 1);
    assert_eq!(wait(tokens.revoke_matching(&adas, 3, later(5))), 1);
    assert_eq!(wait(tokens.revoke_matching(&adas, 3, later(5))), 0);
    let logged: usize = world
        .logged_since(head)
        .iter()
        .map(|what| match what {
            Changed::Tokens(digests) => digests.len(),
            other => panic!("not by token: {other:?}"),
        })
        .sum();
    assert_eq!(logged, 4);
    let revoked = |id| wait(tokens.token(id, None)).expect("a row").revoked_at;
    assert_eq!(revoked(ids[1]), Some(later(5)));
    assert_eq!((revoked(ids[0]), revoked(dead), revoked(bobs)), (Some(later(1)), None, None));
    assert_eq!(wait(tokens.count_matching(&TokenFilter::default(), later(5))), 1, "bob's");
}

// ── Failed logins ───────────────────────────────────────────────────────────────────────────────────────────────────

fn a54_racing_tries_never_exceed_what_is_free(world: &World) {
    let judged =
        race(RACERS, |_| (0..10).filter(|_| wait(world.tokens().count_try(Some(&world.ada), NOW)).is_ok()).count());
    assert_eq!(judged.iter().sum::<usize>(), Tries::FREE as usize);
    assert_eq!(wait(world.tokens().tries(&world.ada)), Tries { failed: Tries::FREE, last: NOW });
    let later_seconds = |now| wait(world.tokens().count_try(Some(&world.ada), now)).map_err(|later| later.seconds);
    assert_eq!(later_seconds(later(999)), Err(1));
    assert_eq!(later_seconds(later(1_000)), Ok(()), "at the very instant");
    assert_eq!(later_seconds(later(1_000)), Err(2));
    // The clock is set back by an hour: the delay begins anew, and ends when it is over.
    let hour_before = |millis: u64| NOW.minus_millis(3_600_000).plus_millis(millis);
    assert_eq!(later_seconds(hour_before(0)), Err(2));
    assert_eq!(later_seconds(hour_before(1_999)), Err(1));
    assert_eq!(later_seconds(hour_before(2_000)), Ok(()));
}

fn tries_are_forgotten_by_a_login_by_a_word_and_by_burying(world: &World) {
    let tokens = world.tokens();
    let fail = || wait(tokens.count_try(Some(&world.ada), NOW)).expect("free");
    let failed = || wait(tokens.tries(&world.ada)).failed;
    let epoch = wait(tokens.subject(&world.ada)).expect("a row").epoch;
    fail();
    fail();
    wait(tokens.give_back_try(Some(&world.ada)));
    assert_eq!(failed(), 1);
    world.issued();
    assert_eq!(failed(), 1, "the operator's word proves no password");
    let refused = Issue { warrant: Warrant::Password(Epoch(epoch.0 + 1)), ..world.order() };
    assert!(matches!(wait(tokens.issue(&refused, NOW)), IssueOutcome::WarrantVoid));
    assert_eq!(failed(), 1);
    world.issue(&Issue { warrant: Warrant::Password(epoch), ..world.order() });
    assert_eq!(failed(), 0);
    wait(tokens.give_back_try(Some(&world.ada)));
    assert_eq!(failed(), 0, "never below nothing");
    fail();
    wait(tokens.forget_tries(&world.ada));
    assert_eq!(failed(), 0);
    fail();
    wait(tokens.set_subject_state(&world.ada, SubjectState::Disabled, NOW));
    assert_eq!(failed(), 1);
    wait(tokens.set_subject_state(&world.ada, SubjectState::Buried, NOW));
    assert_eq!(failed(), 0);
}

fn a58_a_try_at_nobodys_password_leaves_nothing(world: &World) {
    let tokens = world.tokens();
    for _ in 0..2 * Tries::MOST {
        assert_eq!(wait(tokens.count_try(None, NOW)), Ok(()));
        wait(tokens.give_back_try(None));
    }
    let ghost = subject("ghost");
    assert_eq!(wait(tokens.tries(&ghost)), Tries::default());
    // A host's own account has no subject before it first logged in, and is counted all the same.
    assert_eq!(wait(tokens.count_try(Some(&ghost), NOW)), Ok(()));
    assert_eq!(wait(tokens.tries(&ghost)).failed, 1);
    assert_eq!(wait(tokens.subject(&ghost)), None);
}

// ── Sealed secrets ──────────────────────────────────────────────────────────────────────────────────────────────────

fn secrets_sealed_with_another_key_are_found_and_sealed_anew(world: &World) {
    let tokens = world.tokens();
    let sealed = |key_id: u32, byte: u8| Sealed { key_id, bytes: vec![byte; 40] };
    let order = |key_id, byte| Issue { sealed: Some(sealed(key_id, byte)), ..world.order() };
    let orders = [order(1, 1), order(2, 2), order(1, 3)];
    let issued: Vec<Token> = orders.iter().map(|order| world.issue(order)).collect();
    world.issued();
    let page = |after, limit| wait(tokens.sealed_otherwise(2, after, limit));
    let found = page(0, 1);
    let wanted = SealedSecret {
        number: issued[0].number,
        token: issued[0].id,
        subject: world.ada.clone(),
        client: world.client.id,
        digest: orders[0].digest,
        sealed: sealed(1, 1),
    };
    assert_eq!(found, std::slice::from_ref(&wanted));
    let second = page(found[0].number, 10);
    assert_eq!(second.iter().map(|secret| secret.token).collect::<Vec<_>>(), [issued[2].id]);
    assert!(wait(tokens.reseal(&wanted, &sealed(2, 9))));
    assert!(!wait(tokens.reseal(&wanted, &sealed(2, 8))), "it is another one by now");
    assert_eq!(page(0, 10), second);
    wait(tokens.revoke(issued[2].id, None, None, NOW));
    assert_eq!(page(0, 10), [], "a revoked one keeps none");
    assert!(!wait(tokens.reseal(&second[0], &sealed(2, 7))));
}

fn one_live_secret_is_found_for_each_key_that_seals(world: &World) {
    let tokens = world.tokens();
    let order = |key_id, byte| Issue { sealed: Some(Sealed { key_id, bytes: vec![byte; 40] }), ..world.order() };
    let keys = |now| wait(tokens.sealed_samples(now)).iter().map(|secret| secret.sealed.key_id).collect::<Vec<_>>();
    world.issue(&world.order());
    assert_eq!(wait(tokens.sealed_samples(NOW)), []);
    let expired = Issue { expires_at: Some(NOW.plus_millis(1)), ..order(5, 1) };
    let keyed = Issue { kind: Kind::Key, ..order(0, 2) };
    let orders = [expired, order(3, 3), order(3, 4), keyed.clone()];
    let issued: Vec<Token> = orders.iter().map(|order| world.issue(order)).collect();
    assert_eq!(keys(NOW), [0, 3, 5]);
    let later = NOW.plus_millis(1);
    let wanted = SealedSecret {
        number: issued[3].number,
        token: issued[3].id,
        subject: world.ada.clone(),
        client: world.client.id,
        digest: keyed.digest,
        sealed: Sealed { key_id: 0, bytes: vec![2; 40] },
    };
    assert_eq!(wait(tokens.sealed_samples(later))[0], wanted);
    assert_eq!(keys(later), [0, 3], "not of what has expired");
    wait(tokens.revoke(issued[2].id, None, None, NOW));
    assert_eq!(keys(later), [0, 3], "there is another one");
    wait(tokens.bump_epoch(&Bump::Subject { id: world.ada.clone(), keys_too: false, keep: None }, NOW));
    assert_eq!(keys(later), [0], "not of what an epoch has outlived");
    wait(tokens.delete_client(world.client.id, NOW));
    assert!(keys(later).is_empty(), "nor of a deleted client");
}

// ── The audit log ───────────────────────────────────────────────────────────────────────────────────────────────────

fn entry(event: &'static str, at: Timestamp) -> Entry {
    Entry {
        at,
        event: event.into(),
        actor: Actor::Stranger,
        subject: None,
        client: None,
        token: None,
        kind: None,
        username: None,
        detail: None,
        source: Source::default(),
        times: 1,
    }
}

fn the_audit_log_is_read_newest_first_by_what_is_asked_for(world: &World) {
    let audit = world.stores.audit.as_ref();
    let (token, other) = (TokenId::from_bytes([7; 16]), TokenId::from_bytes([8; 16]));
    let bob = subject("bob");
    let source = Source { ip: Some([192, 0, 2, 1].into()), user_agent: UserAgent::cut("a\n\"b\",\u{1b}".as_bytes()) };
    let entries = [
        Entry {
            username: Some("'; --".into()),
            detail: Some("wrong \"password\"\n".into()),
            source,
            times: 7,
            ..entry("login_failed", later(1))
        },
        Entry {
            actor: Actor::Holder { subject: bob.clone(), token: other },
            subject: Some(world.ada.clone()),
            client: Some(client_name("default")),
            token: Some(token),
            kind: Some(Kind::Key),
            ..entry("token_revoked", later(2))
        },
        Entry { actor: Actor::Operator, ..entry("ended", later(3)) },
        Entry { actor: Actor::Deployment, ..entry("marks_lost", later(4)) },
    ];
    wait(audit.append(&entries[..2]));
    wait(audit.append(&entries[2..]));
    wait(audit.append(&[]));
    let read = |query: AuditQuery| wait(audit.entries(&AuditQuery { limit: 10, ..query }));
    let any = AuditQuery::default;
    let all = read(any());
    assert!(all.is_sorted_by(|a, b| a.number > b.number));
    let newest_first: Vec<Entry> = entries.iter().rev().cloned().collect();
    assert_eq!(
        all.iter().map(|numbered| numbered.entry.clone()).collect::<Vec<_>>(),
        newest_first,
        "every field comes back"
    );
    let events = |query: AuditQuery| -> Vec<String> {
        read(query).iter().rev().map(|numbered| numbered.entry.event.to_string()).collect()
    };
    assert_eq!(events(AuditQuery { event: Some("ended".into()), ..any() }), ["ended"]);
    assert_eq!(events(AuditQuery { event: Some("%".into()), ..any() }), [""; 0]);
    assert_eq!(events(AuditQuery { subject: Some(world.ada.clone()), ..any() }), ["token_revoked"]);
    assert_eq!(events(AuditQuery { by: Some(bob), ..any() }), ["token_revoked"]);
    assert_eq!(events(AuditQuery { by: Some(world.ada.clone()), ..any() }), [""; 0]);
    assert_eq!(events(AuditQuery { client: Some(client_name("default")), ..any() }), ["token_revoked"]);
    assert_eq!(events(AuditQuery { token: Some(token), ..any() }), ["token_revoked"]);
    assert_eq!(events(AuditQuery { token: Some(other), ..any() }), ["token_revoked"], "by it");
    assert_eq!(events(AuditQuery { ip: Some([192, 0, 2, 1].into()), ..any() }), ["login_failed"]);
    assert_eq!(
        events(AuditQuery { since: Some(later(2)), until: Some(later(4)), ..any() }),
        ["token_revoked", "ended"]
    );
    let first_page = wait(audit.entries(&AuditQuery { limit: 3, ..any() }));
    let before = first_page.last().map(|last| last.number);
    assert_eq!((first_page.len(), events(AuditQuery { before, ..any() })), (3, vec!["login_failed".to_owned()]));
}

fn the_audit_log_forgets_who_and_then_everything(world: &World) {
    let audit = world.stores.audit.as_ref();
    let source = Source { ip: Some([192, 0, 2, 1].into()), user_agent: UserAgent::cut(b"curl") };
    let entries: Vec<Entry> =
        (1..=5).map(|at| Entry { source: source.clone(), ..entry("logged_in", later(at)) }).collect();
    wait(audit.append(&entries));
    let left = || -> Vec<(Timestamp, bool)> {
        let all = wait(audit.entries(&AuditQuery { limit: 10, ..AuditQuery::default() }));
        all.iter().rev().map(|kept| (kept.entry.at, kept.entry.source == source)).collect()
    };
    assert_eq!(wait(audit.forget(NOW, NOW, 10)), 0);
    assert_eq!(wait(audit.forget(NOW, later(3), 1)), 1, "a batch at a time");
    assert_eq!(wait(audit.forget(NOW, later(3), 10)), 1, "written before, not at, that instant");
    assert_eq!(left(), [(later(1), false), (later(2), false), (later(3), true), (later(4), true), (later(5), true)]);
    assert_eq!(wait(audit.forget(later(2), later(3), 10)), 1);
    assert_eq!(left(), [(later(2), false), (later(3), true), (later(4), true), (later(5), true)]);
    let newest = wait(audit.entries(&AuditQuery { limit: 1, ..AuditQuery::default() }))[0].number;
    assert_eq!(wait(audit.forget(later(9), later(9), 10)), 4);
    wait(audit.append(&entries[..1]));
    let number = wait(audit.entries(&AuditQuery { limit: 1, ..AuditQuery::default() }))[0].number;
    assert!(number > newest, "a number is never given out twice");
}

fn the_audit_log_grows_at_its_end_alone(world: &World) {
    let audit = world.stores.audit.as_ref();
    let writing = AtomicUsize::new(RACERS - 1);
    race(RACERS, |racer| {
        if racer > 0 {
            for batch in 0..25 {
                wait(audit.append(&[entry("logged_in", later(batch)), entry("logged_out", later(batch))]));
            }
            writing.fetch_sub(1, Ordering::SeqCst);
            return;
        }
        // Whoever reads on from the newest entry they know misses none.
        let mut known: Vec<u64> = Vec::new();
        loop {
            let is_last = writing.load(Ordering::SeqCst) == 0;
            let page = wait(audit.entries(&AuditQuery { limit: 1_000, ..AuditQuery::default() }));
            let read: Vec<u64> = page.iter().rev().map(|kept| kept.number).collect();
            assert!(read.starts_with(&known), "an entry came between those that had been read");
            known = read;
            if is_last {
                break;
            }
        }
        assert_eq!(known.len(), (RACERS - 1) * 50);
    });
}
