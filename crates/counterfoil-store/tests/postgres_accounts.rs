//! Accounts, mails, links, the audit log and imports in PostgreSQL, with several nodes at them at once.
#![cfg(feature = "postgres")]

use std::sync::{Arc, Barrier};
use std::thread;

use counterfoil_core::account::Account;
use counterfoil_core::audit::Entry;
use counterfoil_core::client::ClientId;
use counterfoil_core::conformance::wait;
use counterfoil_core::entropy::{Entropy, PredictableEntropy};
use counterfoil_core::import::{AccountOutcome, ImportStore, ImportedAccount, SourceKey, TokenOutcome, TokenRow};
use counterfoil_core::language::Languages;
use counterfoil_core::link::{Link, Purpose};
use counterfoil_core::mail::{MailId, MailKind, MailOrder};
use counterfoil_core::password::EncodedPassword;
use counterfoil_core::secret::{DigestScheme, TokenDigest};
use counterfoil_core::store::AuditQuery;
use counterfoil_core::token::{Kind, Metadata, Sighting, Source, TokenId, TokenName, UserAgent};
use counterfoil_core::username::Distinct;
use counterfoil_core::{Abilities, AccountStore, Actor, AuditStore, MailStore, SubjectId, Timestamp};
use counterfoil_lab::postgres::{self, Database};
use counterfoil_store::{ConnectOptions, PostgresStore};
use tokio::runtime::Runtime;

const NOW: Timestamp = Timestamp::from_millis(1_795_172_400_000);

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn connect(runtime: &Runtime, url: &str) -> Arc<PostgresStore> {
    let store = runtime.block_on(PostgresStore::connect(url, &ConnectOptions::default()));
    Arc::new(store.expect("a store"))
}

/// N nodes on one database.
struct Nodes {
    runtime: Runtime,
    database: Database,
    nodes: Vec<Arc<PostgresStore>>,
}

impl Nodes {
    fn start(count: usize) -> Nodes {
        Nodes::with(count, "")
    }

    fn with(count: usize, options: &str) -> Nodes {
        let (runtime, database) = (runtime(), postgres::database());
        let url = format!("{}{options}", database.url());
        let nodes = (0..count).map(|_| connect(&runtime, &url)).collect();
        Nodes { runtime, database, nodes }
    }

    /// Lets `racers` act at once, each on one of the nodes in turn.
    fn race<T: Send>(&self, racers: usize, act: impl Fn(&PostgresStore, usize) -> T + Sync) -> Vec<T> {
        let start = Barrier::new(racers);
        thread::scope(|scope| {
            let running: Vec<_> = (0..racers)
                .map(|racer| {
                    let (start, act, node) = (&start, &act, &self.nodes[racer % self.nodes.len()]);
                    scope.spawn(move || {
                        start.wait();
                        act(node, racer)
                    })
                })
                .collect();
            running.into_iter().map(|racer| racer.join().expect("a racer panicked")).collect()
        })
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for node in &self.nodes {
            self.runtime.block_on(node.close());
        }
    }
}

fn subject(name: &str) -> SubjectId {
    name.parse().expect("a subject")
}

fn account(id: &str, username: &str) -> Account {
    Account::named(subject(id), username.parse().expect("a user name"), NOW)
}

fn password() -> EncodedPassword {
    EncodedPassword::from_store("!")
}

#[test]
fn a62_of_nodes_that_make_names_that_look_alike_at_once_one_does() {
    let nodes = Nodes::start(3);
    let alike = ["scope", "ѕcope", "sсope", "scоpe", "scoрe", "scopе", "sc0pe", "\u{455}\u{441}ope", "SCOPE"];
    for round in 0..6 {
        let made = nodes.race(alike.len(), |node, racer| {
            let name = format!("{}{round}", alike[racer]);
            wait(node.create(&account(&format!("{round}.{racer}"), &name), &password(), Distinct::ByLook))
        });
        assert_eq!(made.iter().filter(|made| **made).count(), 1, "{made:?}");
    }
    // One in capitals looks like one name written small and like another as it is written: both are in its way.
    for round in 0..6 {
        let names = ["biIl", "bill", "BIIL"];
        let made = nodes.race(names.len(), |node, racer| {
            let name = format!("{}{round}", names[racer]);
            wait(node.create(&account(&format!("b{round}.{racer}"), &name), &password(), Distinct::ByLook))
        });
        let count = made.iter().filter(|made| **made).count();
        assert!((1..=2).contains(&count), "{made:?}");
        let made: Vec<_> = names.iter().zip(made).filter(|(_, made)| *made).map(|(name, _)| *name).collect();
        for (one, other) in made.iter().zip(made.iter().skip(1)) {
            let [one, other] = [one, other].map(|name| -> counterfoil_core::Username { name.parse().expect("a name") });
            assert!(!one.looks_like(&other), "{one} and {other}");
        }
    }
}

#[test]
fn of_nodes_that_make_one_name_in_many_cases_at_once_one_does() {
    let nodes = Nodes::start(2);
    for round in 0..6 {
        let made = nodes.race(8, |node, racer| {
            let name: String = format!("racer{round}")
                .chars()
                .enumerate()
                .map(|(place, c)| if racer >> (place % 3) & 1 == 1 { c.to_ascii_uppercase() } else { c })
                .collect();
            wait(node.create(&account(&format!("{round}.{racer}"), &name), &password(), Distinct::ByCase))
        });
        assert_eq!(made.iter().filter(|made| **made).count(), 1, "{made:?}");
        let same = nodes.race(8, |node, racer| {
            wait(node.create(
                &account(&format!("s{round}"), &format!("own{round}.{racer}")),
                &password(),
                Distinct::ByText,
            ))
        });
        assert_eq!(same.iter().filter(|made| **made).count(), 1, "one subject: {same:?}");
    }
}

fn order(entropy: &dyn Entropy, owner: &str, expires_after: u64) -> MailOrder {
    MailOrder {
        id: MailId::generate(NOW, entropy).expect("chance"),
        kind: MailKind::ResetPassword,
        subject: subject(owner),
        to: "ada@example.org".parse().expect("an address"),
        languages: Languages::of(None, None),
        next: None,
        asked_at: NOW,
        expires_at: NOW.plus_millis(expires_after),
    }
}

#[test]
fn nodes_that_take_mails_at_once_take_each_mail_once_and_the_queue_never_overflows() {
    let nodes = Nodes::start(3);
    let entropy = PredictableEntropy::from_seed(3);
    let posted = nodes
        .race(12, |node, _| (0..10).filter(|_| wait(node.post(&[order(&entropy, "ada", 5_000)], None, 90))).count());
    assert_eq!(posted.iter().sum::<usize>(), 90, "so many and no more");
    assert!(wait(nodes.nodes[0].post(&[], None, 90)));
    // Two that are of no use any more: told to one alone.
    let expired = [order(&entropy, "bob", 1), order(&entropy, "bob", 1)];
    assert!(wait(nodes.nodes[0].post(&expired, None, 100)));
    let taken = nodes.race(9, |node, _| {
        let (mut due, mut expired) = (Vec::new(), 0);
        loop {
            let claimed = wait(node.claim(NOW.plus_millis(1), NOW.plus_millis(4_000), 4));
            expired += claimed.expired.len();
            if claimed.due.is_empty() {
                return (due, expired);
            }
            due.extend(claimed.due.iter().map(|one| (one.order.id, one.tries)));
        }
    });
    let mut due: Vec<_> = taken.iter().flat_map(|(due, _)| due.clone()).collect();
    due.sort_unstable_by_key(|(id, _)| *id);
    due.dedup();
    assert_eq!((due.len(), due.iter().all(|(_, tries)| *tries == 1)), (90, true));
    assert_eq!(taken.iter().map(|(_, expired)| expired).sum::<usize>(), 2);
}

#[test]
fn f35_a_mail_that_this_version_cannot_read_holds_no_other_up_on_postgres() {
    let nodes = Nodes::start(1);
    let (store, entropy) = (&nodes.nodes[0], PredictableEntropy::from_seed(3));
    let orders = [0, 1].map(|_| order(&entropy, "ada", 10_000_000));
    assert!(wait(store.post(&orders, None, 9)));
    nodes.database.sql(&format!("UPDATE mails SET kind = '{{\"kind\":\"later\"}}' WHERE id = '{}'", orders[0].id));
    let due = wait(store.claim(NOW, NOW.plus_millis(9), 9)).due;
    assert_eq!(due.iter().map(|one| one.order.id).collect::<Vec<_>>(), [orders[1].id]);
    let left = nodes.database.sql("SELECT tries, next_try_at, last_error FROM mails WHERE last_error IS NOT NULL");
    assert_eq!(left, format!("0|{}|cannot be read by this version", NOW.plus_millis(3_600_000).millis()));
}

#[test]
fn a66_of_nodes_that_use_links_for_one_purpose_at_once_one_succeeds() {
    let nodes = Nodes::start(3);
    let link = |round: u8, which: u8| Link {
        digest: TokenDigest::from_bytes([round * 4 + which; 32]),
        purpose: Purpose::Reset,
        subject: subject("ada"),
        email: "ada@example.org".parse().expect("an address"),
        next: None,
        expires_at: NOW.plus_millis(1_000),
    };
    for round in 0..20 {
        // Two that are out for the same: whoever uses one uses up both.
        for which in 0..2 {
            assert!(wait(nodes.nodes[0].keep_link(&link(round, which))));
        }
        let used = nodes.race(8, |node, racer| {
            let wanted = link(round, (racer % 2) as u8);
            wait(node.use_link(&wanted.digest, Purpose::Reset, NOW)).is_some()
        });
        assert_eq!(used.iter().filter(|used| **used).count(), 1, "round {round}: {used:?}");
    }
}

#[test]
fn of_nodes_that_tell_owners_of_expiring_tokens_one_does() {
    let nodes = Nodes::start(3);
    let began = nodes.race(6, |node, _| wait(node.advance_reminders(None, NOW)));
    assert_eq!(began.iter().filter(|one| **one).count(), 1);
    let moved = nodes.race(6, |node, _| wait(node.advance_reminders(Some(NOW), NOW.plus_millis(7))));
    assert_eq!(moved.iter().filter(|one| **one).count(), 1);
}

#[test]
fn a47_what_strangers_typed_is_kept_as_far_as_postgres_can() {
    let nodes = Nodes::start(1);
    let store = &nodes.nodes[0];
    let entry = Entry {
        at: NOW,
        event: "login_failed".into(),
        actor: Actor::Stranger,
        subject: None,
        client: None,
        token: None,
        kind: None,
        username: Some("a\0b'; DROP TABLE audit; --\u{1f600}".into()),
        detail: Some("\0".into()),
        source: Source { ip: None, user_agent: UserAgent::cut(b"x\0y") },
        times: 1,
    };
    wait(store.append(std::slice::from_ref(&entry)));
    let read = wait(store.entries(&AuditQuery { limit: 9, ..AuditQuery::default() })).remove(0).entry;
    assert_eq!(read.username.as_deref(), Some("a\u{fffd}b'; DROP TABLE audit; --\u{1f600}"));
    assert_eq!(read.detail.as_deref(), Some("\u{fffd}"));
    let asked = AuditQuery { event: Some("login_failed\0".into()), limit: 9, ..AuditQuery::default() };
    assert!(wait(store.entries(&asked)).is_empty(), "a question is no error");

    // What must not be changed is refused, and the store goes on.
    let named = Account { first_name: "A\0da".into(), ..account("1", "ada") };
    let refused = nodes.runtime.block_on(store.create(&named, &password(), Distinct::ByLook)).expect_err("refused");
    let cause = std::error::Error::source(&refused).expect("a cause").to_string();
    assert!(cause.contains("U+0000") && !cause.contains("A\0da"), "{cause}");
    assert!(wait(store.create(&account("1", "ada"), &password(), Distinct::ByLook)));
}

#[test]
fn questions_of_every_login_and_registration_come_from_an_index() {
    let nodes = Nodes::start(1);
    let store = &nodes.nodes[0];
    nodes.database.sql(
        "INSERT INTO accounts (subject, username, username_fold, email, email_fold, email_confirmed_at, password,
            password_cost, first_name, last_name, attributes, active, role, created_at, username_skeleton,
            username_skeleton_shown)
         SELECT CAST(n AS text), 'u' || n, 'u' || n, 'u' || n || '@x.org', 'u' || n || '@x.org', 1, '!', 'unusable', '', '',
            '{}', true, 'user', 1, 'u' || n, 'u' || n FROM generate_series(1, 20000) AS n;
         INSERT INTO audit (at, event, actor, times, ip) SELECT n, 'logged_in', 'stranger', 1, '::1'
         FROM generate_series(1, 20000) AS n;
         INSERT INTO links (digest, purpose, subject, email, expires_at)
         SELECT sha256(CAST(CAST(n AS text) AS bytea)), 'reset', n, 'x@x.org', n FROM generate_series(1, 20000) AS n;
         ANALYZE",
    );
    let scans = || {
        let read = "SELECT coalesce(sum(seq_tup_read), 0) FROM pg_stat_user_tables WHERE relname IN ('accounts', 'audit', 'links')";
        nodes.database.sql(read).parse::<u64>().expect("a number")
    };
    let before = scans();
    assert_eq!(wait(store.greatest_number()), 20_000);
    let name = counterfoil_core::account::LoginName::new("U77").expect("a name");
    assert_eq!(wait(store.named(&name)).len(), 1);
    assert!(!wait(store.has_lookalike(&"nobody".parse().expect("a name"))));
    assert_eq!(wait(store.password_costs()).len(), 1);
    assert!(wait(store.create(&account("x", "nobody"), &password(), Distinct::ByLook)));
    wait(store.account(&subject("77")));
    let page = wait(store.entries(&AuditQuery { limit: 5, event: Some("logged_in".into()), ..AuditQuery::default() }));
    assert_eq!(page.len(), 5);
    wait(store.use_link(&TokenDigest::from_bytes([1; 32]), Purpose::Reset, NOW));
    // What a connection has counted is seen once it is idle, and by then.
    nodes.database.sql("SELECT pg_stat_force_next_flush()");
    for node in &nodes.nodes {
        nodes.runtime.block_on(node.close());
    }
    assert_eq!(scans() - before, 0, "no table was read from end to end");
}

// ── Imports ─────────────────────────────────────────────────────────────────────────────────────────────────────────

fn imported(id: &str, username: &str) -> ImportedAccount {
    let key = SourceKey::of("django", "auth_user", id.as_bytes());
    ImportedAccount {
        key,
        account: account(id, username),
        password: EncodedPassword::from_store(format!("md5${id}$00")),
    }
}

const CLIENT: [u8; 16] = [7; 16];

fn with_client(nodes: &Nodes) {
    nodes.database.sql(
        "INSERT INTO clients (id, name, policy, allow_login, metadata, created_at)
         VALUES ('07070707-0707-0707-0707-070707070707', 'default', '{}', true, '{}', 1)",
    );
}

fn token(entropy: &dyn Entropy, owner: &str, text: &str, number: Option<u64>) -> TokenRow {
    TokenRow {
        key: SourceKey::of("django", "tokens", text.as_bytes()),
        id: TokenId::generate(NOW, entropy).expect("chance"),
        number,
        kind: Kind::Login,
        subject: subject(owner),
        client: ClientId::from_bytes(CLIENT),
        name: TokenName::cut("phone"),
        abilities: Abilities::everything(),
        metadata: Metadata::default(),
        issued_at: NOW,
        expires_at: Some(NOW.plus_millis(50_000)),
        digest: TokenDigest::of_text(text),
        scheme: DigestScheme::PlainText,
        sealed: None,
        source: Source { ip: Some([203, 0, 113, 9].into()), user_agent: UserAgent::cut(b"app/1") },
        last_seen: Some(Sighting { at: NOW, source: Source::default() }),
    }
}

fn numbers(outcomes: &[TokenOutcome]) -> Vec<u64> {
    let number = |outcome: &TokenOutcome| {
        let TokenOutcome::Imported { number } = outcome else { panic!("{outcome:?}") };
        *number
    };
    outcomes.iter().map(number).collect()
}

#[test]
fn a_batch_is_judged_row_by_row_and_by_the_rows_before() {
    for options in ["", "?pooler=transaction"] {
        let nodes = Nodes::with(1, options);
        let (store, entropy) = (&nodes.nodes[0], PredictableEntropy::from_seed(5));
        with_client(&nodes);
        let changed = ImportedAccount { password: EncodedPassword::from_store("md5$new$00"), ..imported("1", "ada") };
        let mut off = imported("3", "eve");
        off.account.active = false;
        let stranger = ImportedAccount { key: SourceKey::of("another", "auth_user", b"1"), ..imported("1", "zoe") };
        let batch = [imported("1", "ada"), imported("2", "ada"), imported("1", "ada"), changed, off, stranger];
        assert_eq!(
            wait(store.import_accounts(&batch, NOW)),
            [
                AccountOutcome::Imported,
                AccountOutcome::NameTaken,
                AccountOutcome::Known,
                AccountOutcome::PasswordReplaced,
                AccountOutcome::Imported,
                AccountOutcome::SubjectTaken,
            ]
        );
        assert_eq!(nodes.database.sql("SELECT name, state FROM subjects ORDER BY name"), "1|active\n3|disabled");
        assert_eq!(nodes.database.sql("SELECT password FROM accounts WHERE subject = '1'"), "md5$new$00");
        assert_eq!(nodes.database.sql("SELECT kind, subject FROM log"), "subject|3");

        let rows = [
            token(&entropy, "1", "one", Some(9)),
            token(&entropy, "1", "two", Some(9)),
            token(&entropy, "1", "three", Some(3)),
            token(&entropy, "1", "four", None),
            token(&entropy, "1", "five", Some(u64::MAX)),
            token(&entropy, "1", "far", Some(1_000_000)),
        ];
        assert_eq!(numbers(&wait(store.import_tokens(&rows, NOW))), [9, 1_000_001, 3, 1_000_002, 1_000_003, 1_000_000]);
        let mut later = token(&entropy, "1", "seven", None);
        let first = later.clone();
        later.expires_at = None;
        let taken = TokenRow { key: SourceKey::of("x", "y", b"z"), ..later.clone() };
        let outcomes = wait(store.import_tokens(&[first.clone(), later, taken, rows[0].clone()], NOW));
        assert_eq!(
            outcomes,
            [
                TokenOutcome::Imported { number: 1_000_004 },
                TokenOutcome::Known(first.id),
                TokenOutcome::Taken,
                TokenOutcome::Known(rows[0].id),
            ]
        );
        let state = "SELECT count(*), count(expires_at), sum(subject_epoch) FROM tokens UNION ALL
            SELECT count(*), count(expires_at), 0 FROM imported WHERE token IS NOT NULL UNION ALL
            SELECT count(*), 0, 0 FROM last_seen UNION ALL SELECT count(*), 0, 0 FROM subjects WHERE ever_issued";
        assert_eq!(nodes.database.sql(state), "7|6|0\n7|6|0\n7|0|0\n1|0|0");
    }
}

#[test]
fn nodes_that_bring_the_same_at_once_bring_it_once() {
    let nodes = Nodes::start(3);
    with_client(&nodes);
    let entropy = PredictableEntropy::from_seed(6);
    let accounts: Vec<ImportedAccount> = (0..40).map(|n| imported(&n.to_string(), &format!("user{n}"))).collect();
    let brought = nodes.race(6, |node, racer| {
        let mut mine = accounts.clone();
        mine.rotate_left(racer * 5);
        let outcomes = wait(node.import_accounts(&mine, NOW));
        outcomes.iter().filter(|outcome| **outcome == AccountOutcome::Imported).count()
    });
    assert_eq!(brought.iter().sum::<usize>(), 40, "{brought:?}");
    // Beside them somebody issues: numbers are drawn all the time, and none twice.
    let brought = nodes.race(6, |node, racer| {
        if racer == 5 {
            for n in 0..60 {
                nodes.database.sql(&format!(
                    "INSERT INTO tokens (id, kind, subject, client, digest, scheme, abilities, issued_at, subject_epoch,
                        client_epoch, deployment_epoch, metadata)
                     SELECT gen_random_uuid(), 'login', s.key, c.key, sha256('{n}'), 'native', '*', 1, 0, 0, 0, '{{}}'
                     FROM subjects AS s, clients AS c WHERE s.name = '1'"
                ));
            }
            return 0;
        }
        let rows: Vec<TokenRow> = (0..40)
            .map(|n| {
                token(&entropy, &n.to_string(), &format!("text {n}"), (n % 2 == 0).then_some(n * 3 + racer as u64))
            })
            .collect();
        let outcomes = wait(node.import_tokens(&rows, NOW));
        outcomes.iter().filter(|outcome| matches!(outcome, TokenOutcome::Imported { .. })).count()
    });
    assert_eq!(brought.iter().sum::<usize>(), 40, "{brought:?}");
    assert_eq!(nodes.database.sql("SELECT count(*) FROM tokens"), "100");
    let ahead = "SELECT nextval('tokens_number_seq') > max(number) FROM tokens";
    assert_eq!(nodes.database.sql(ahead), "t", "what is issued next has a number of its own");
}
