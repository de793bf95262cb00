//! Moving from SQLite to PostgreSQL and back: everything answers as it did.
#![cfg(all(feature = "sqlite", feature = "postgres"))]

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use counterfoil_core::account::{Account, AccountChange, LoginName, Role};
use counterfoil_core::audit::Entry;
use counterfoil_core::client::{ClientId, Policy, Reissue};
use counterfoil_core::conformance::wait;
use counterfoil_core::entropy::{Entropy, PredictableEntropy};
use counterfoil_core::import::{ImportStore, ImportedAccount, SourceKey, TokenRow};
use counterfoil_core::language::Languages;
use counterfoil_core::link::{Link, Purpose};
use counterfoil_core::mail::{MailId, MailKind, MailOrder, Registration};
use counterfoil_core::password::EncodedPassword;
use counterfoil_core::seal::Sealed;
use counterfoil_core::secret::{Candidates, CheckKey, DigestScheme, TokenDigest};
use counterfoil_core::store::{
    AccountQuery, AuditQuery, Bump, Issue, IssueOutcome, NewClient, Rotation, TokenQuery, Touch, Warrant,
};
use counterfoil_core::token::{Kind, Metadata, Sighting, Source, TokenId, TokenName, UserAgent};
use counterfoil_core::username::Distinct;
use counterfoil_core::{
    Abilities, AccountStore, Actor, AuditStore, MailStore, SubjectId, SubjectState, Timestamp, TokenStore,
};
use counterfoil_lab::postgres;
use counterfoil_store::copy::{CopyError, Place, Progress, copy};
use counterfoil_store::{ConnectError, ConnectOptions, OpenError, OpenOptions, PostgresStore, SqliteStore};
use tokio::runtime::Runtime;

const NOW: Timestamp = Timestamp::from_millis(1_795_172_400_000);

fn later(millis: u64) -> Timestamp {
    NOW.plus_millis(millis)
}

fn subject(name: &str) -> SubjectId {
    name.parse().expect("a subject")
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn sqlite(directory: &Path) -> SqliteStore {
    SqliteStore::open(directory, &OpenOptions::serve()).expect("a store")
}

trait Store: TokenStore + AccountStore + MailStore + AuditStore + ImportStore {}
impl<S: TokenStore + AccountStore + MailStore + AuditStore + ImportStore> Store for S {}

struct Deployment {
    entropy: PredictableEntropy,
    client: ClientId,
    /// Of every token that there ever was.
    secrets: Vec<TokenDigest>,
}

impl Deployment {
    fn order(&self, owner: &str, kind: Kind) -> Issue {
        let mut random = [0; 32];
        self.entropy.fill(&mut random).expect("entropy");
        Issue {
            id: TokenId::generate(NOW, &self.entropy).expect("entropy"),
            kind,
            subject: subject(owner),
            client: self.client,
            client_version: 1,
            warrant: Warrant::Operator,
            name: TokenName::cut("Téléphone \"7\"\t\\."),
            abilities: Abilities::everything(),
            metadata: Metadata::new(serde_json_map()).expect("short"),
            expires_at: Some(later(3_600_000)),
            digest: TokenDigest::from_bytes(random),
            scheme: DigestScheme::Native,
            sealed: None,
            source: Source { ip: Some([192, 0, 2, 7].into()), user_agent: UserAgent::cut(b"curl/8") },
            cap: None,
            reissue: Reissue::New,
        }
    }

    fn issue(&mut self, store: &dyn Store, order: &Issue) -> TokenId {
        let IssueOutcome::Issued { token, .. } = wait(store.issue(order, NOW)) else { panic!("not issued") };
        self.secrets.push(order.digest);
        token.id
    }
}

fn serde_json_map() -> serde_json::Map<String, serde_json::Value> {
    serde_json::Map::from_iter([("größe".to_owned(), "\u{0}\n".into())])
}

/// One of everything.
fn fill(store: &dyn Store) -> Deployment {
    let entropy = PredictableEntropy::from_seed(11);
    let key = CheckKey::generate(&entropy).expect("entropy");
    let client = |name: &str| NewClient {
        id: ClientId::generate(NOW, &entropy).expect("entropy"),
        name: name.parse().expect("a name"),
        policy: Policy::default(),
        allow_login: true,
        metadata: Metadata::default(),
        created_at: NOW,
    };
    let (web, gone) = (client("default"), client("gone"));
    wait(store.open(&key, &web));
    wait(store.create_client(&gone));
    let imported = |id: &str| ImportedAccount {
        key: SourceKey::of("django", "auth_user", id.as_bytes()),
        account: Account::named(subject(id), format!("Imp{id}").parse().expect("a name"), NOW),
        password: EncodedPassword::from_store("md5$salt$00000000000000000000000000000000"),
    };
    wait(store.import_accounts(&[imported("41"), imported("42")], NOW));
    for (name, email) in [("ada", Some("Ada@Example.org")), ("bob", None), ("eve", None)] {
        let account = Account {
            email: email.map(|email| email.parse().expect("an address")),
            email_confirmed_at: email.map(|_| NOW),
            first_name: "Ada \u{1f600}".into(),
            attributes: Metadata::new(serde_json_map()).expect("short"),
            locale: Some("de".into()),
            ..Account::named(subject(name), name.parse().expect("a name"), NOW)
        };
        assert!(wait(store.create(&account, &EncodedPassword::from_store(format!("!{name}")), Distinct::ByLook)));
        wait(store.open_subject(&subject(name), NOW));
    }
    wait(store.change(&subject("ada"), &[AccountChange::Role(Role::Admin), AccountChange::LoggedIn(later(3))]));
    wait(store.change(&subject("bob"), &[AccountChange::Active(false)]));
    wait(store.count_try(Some(&subject("eve")), NOW)).ok();

    let mut deployment = Deployment { entropy, client: web.id, secrets: Vec::new() };
    let mine = &mut deployment;
    for owner in ["ada", "bob", "eve"] {
        for kind in [Kind::Login, Kind::Key] {
            let order = mine.order(owner, kind);
            mine.issue(store, &order);
        }
    }
    wait(store.set_subject_state(&subject("bob"), SubjectState::Disabled, NOW));
    let sealed = Issue { sealed: Some(Sealed { key_id: 3, bytes: vec![0, 255, 7] }), ..mine.order("ada", Kind::Login) };
    mine.issue(store, &sealed);
    let order = Issue { expires_at: None, name: None, ..mine.order("ada", Kind::Login) };
    let rotated = mine.issue(store, &order);
    let successor = mine.order("ada", Kind::Login).digest;
    let rotation =
        Rotation { id: rotated, presented: order.digest, successor, sealed: None, grace_until: later(30_000) };
    wait(store.rotate(&rotation, NOW));
    mine.secrets.push(successor);
    let order = mine.order("ada", Kind::Login);
    let revoked = mine.issue(store, &order);
    wait(store.revoke(revoked, None, None, later(1)));
    let order = Issue { client: gone.id, ..mine.order("ada", Kind::Login) };
    mine.issue(store, &order);
    wait(store.delete_client(gone.id, NOW));
    wait(store.bump_epoch(&Bump::Subject { id: subject("eve"), keys_too: false, keep: None }, NOW));
    wait(store.bump_epoch(&Bump::Deployment, NOW));
    let order = mine.order("ada", Kind::Login);
    let seen = mine.issue(store, &order);
    wait(store.touch(
        &[Touch { id: seen, seen: Sighting { at: later(9), source: order.source.clone() }, renew_until: None }],
        later(9),
    ));
    let brought = |text: &str, scheme, number| TokenRow {
        key: SourceKey::of("django", "authtoken", text.as_bytes()),
        id: TokenId::generate(NOW, &mine.entropy).expect("entropy"),
        number,
        kind: Kind::Login,
        subject: subject("41"),
        client: web.id,
        name: None,
        abilities: Abilities::everything(),
        metadata: Metadata::default(),
        issued_at: NOW,
        expires_at: None,
        digest: TokenDigest::of_text(text),
        scheme,
        sealed: None,
        source: Source::default(),
        last_seen: None,
    };
    let rows =
        [brought("one", DigestScheme::KnoxSha512, Some(500)), brought("two", DigestScheme::PlainText, Some(600))];
    wait(store.import_tokens(&rows, NOW));
    // The last number is given out and its token gone: it is not given out again.
    wait(store.revoke(rows[1].id, None, None, Timestamp::from_millis(5)));
    assert!(wait(store.purge(Timestamp::from_millis(9), 100)) > 0);
    wait(store.set_subject_state(&subject("42"), SubjectState::Buried, later(2)));

    let entry = |event: &'static str| Entry {
        at: NOW,
        event: event.into(),
        actor: Actor::Holder { subject: subject("ada"), token: seen },
        subject: Some(subject("bob")),
        client: Some("default".parse().expect("a name")),
        token: Some(revoked),
        kind: Some(Kind::Login),
        username: Some("'; --".into()),
        detail: None,
        source: order.source.clone(),
        times: 3,
    };
    wait(store.append(&[entry("token_revoked"), entry("logged_in")]));
    let mail = MailOrder {
        id: MailId::generate(NOW, &mine.entropy).expect("entropy"),
        kind: MailKind::ConfirmRegistration,
        subject: subject("wish"),
        to: "kim@example.org".parse().expect("an address"),
        languages: Languages::of(Some("de"), Some("en")),
        next: Some("https://app.example.org/".into()),
        asked_at: NOW,
        expires_at: later(9_000),
    };
    let wish = Registration {
        subject: subject("wish"),
        username: "kim".parse().expect("a name"),
        email: mail.to.clone(),
        password: EncodedPassword::from_store("!wish"),
        first_name: String::new(),
        last_name: "K".into(),
        locale: None,
        expires_at: later(9_000),
    };
    assert!(wait(store.post(&[mail], Some(&wish), 9)));
    assert!(wait(store.keep_link(&Link {
        digest: TokenDigest::from_bytes([9; 32]),
        purpose: Purpose::Reset,
        subject: subject("ada"),
        email: "ada@example.org".parse().expect("an address"),
        next: None,
        expires_at: later(9_000),
    })));
    assert!(wait(store.advance_reminders(None, later(4))));
    deployment
}

/// Every answer that a store gives about it.
fn answers(store: &dyn Store, deployment: &Deployment) -> String {
    let mut told = String::new();
    let mut tell = |what: &dyn std::fmt::Debug| writeln!(told, "{what:?}").expect("a line");
    let key = CheckKey::generate(&PredictableEntropy::from_seed(99)).expect("entropy");
    let default = NewClient {
        id: ClientId::from_bytes([1; 16]),
        name: "default".parse().expect("a name"),
        policy: Policy::default(),
        allow_login: true,
        metadata: Metadata::default(),
        created_at: NOW,
    };
    let formats = wait(store.open(&key, &default));
    tell(&formats.check_keys.iter().map(|key| *key.as_bytes()).collect::<Vec<_>>());
    tell(&formats.imported);
    for digest in &deployment.secrets {
        let found = wait(store.find(&Candidates::Native(*digest)));
        tell(&found.as_ref().map(|found| found.standing(later(20))));
        tell(&found);
    }
    for (scheme, text) in [(DigestScheme::KnoxSha512, "one"), (DigestScheme::PlainText, "two")] {
        tell(&wait(store.find(&Candidates::Imported(vec![(scheme, TokenDigest::of_text(text))]))));
    }
    tell(&wait(store.list(&TokenQuery { limit: 1_000, ..TokenQuery::default() })));
    tell(&wait(store.clients()));
    tell(&wait(store.sealed_otherwise(1, 0, 100)));
    for name in ["ada", "bob", "eve", "41", "42", "nobody"] {
        tell(&wait(store.subject(&subject(name))));
        tell(&wait(store.tries(&subject(name))));
        let credentials = wait(store.account(&subject(name)));
        tell(&credentials.as_ref().map(|credentials| credentials.password.expose().to_owned()));
        tell(&credentials);
    }
    tell(&wait(store.accounts(&AccountQuery { limit: 100, ..AccountQuery::default() })));
    tell(&wait(store.named(&LoginName::new("ADA@example.org").expect("a name"))));
    tell(&wait(store.has_lookalike(&"aԁa".parse().expect("a name"))));
    tell(&(wait(store.greatest_number()), wait(store.password_costs()), wait(store.has_role(Role::Admin))));
    tell(&wait(store.entries(&AuditQuery { limit: 100, ..AuditQuery::default() })));
    tell(&wait(store.waiting(100)));
    tell(&wait(store.link(&TokenDigest::from_bytes([9; 32]))));
    let wish = wait(store.registration(&subject("wish")));
    tell(&wish.map(|wish| (format!("{wish:?}"), wish.password.expose().to_owned())));
    tell(&wait(store.reminded_until()));
    tell(&wait(store.ledger(None, 100)));
    let changes = wait(store.changes(0, 1_000));
    tell(&(changes.head, changes.rows));
    told
}

/// What is given out next.
fn next(store: &dyn Store, deployment: &Deployment) -> (u64, u64) {
    let order = Issue { warrant: Warrant::Operator, ..deployment.order("ada", Kind::Login) };
    let IssueOutcome::Issued { token, .. } = wait(store.issue(&order, NOW)) else { panic!("not issued") };
    let entry = wait(store.entries(&AuditQuery { limit: 1, ..AuditQuery::default() })).remove(0);
    wait(store.append(&[entry.entry]));
    let newest = wait(store.entries(&AuditQuery { limit: 1, ..AuditQuery::default() })).remove(0);
    (token.number, newest.number)
}

#[test]
fn everything_answers_the_same_in_postgres_and_back_in_sqlite() {
    let (runtime, database) = (runtime(), postgres::database());
    let directory = tempfile::tempdir().expect("a directory");
    let (first, second) = (directory.path().join("first"), directory.path().join("second"));
    let store = sqlite(&first);
    let deployment = fill(&store);
    let expected = answers(&store, &deployment);
    let born = wait(store.changes(0, 0)).incarnation;
    let (here, there) = (Place::Sqlite(first.clone()), Place::Postgres(database.url().to_owned()));

    let refused = runtime.block_on(copy(&here, &there, |_| {})).expect_err("it is served");
    assert!(matches!(refused, CopyError::Sqlite(OpenError::Served(_))), "{refused:?}");
    store.close();
    let mut told: Vec<Progress> = Vec::new();
    let copied = runtime.block_on(copy(&here, &there, |progress| told.push(progress))).expect("copied");
    assert!(copied.tables.iter().all(|(table, rows)| *table == "bumps" || *rows > 0), "one of everything: {copied:?}");
    let is_told = |table, verifying| {
        let last = told.iter().rfind(|progress| progress.table == table && progress.verifying == verifying);
        last.is_some_and(|last| last.done == last.total && last.total == copied.rows_of(table))
    };
    assert!(is_told("tokens", false) && is_told("tokens", true) && is_told("audit", true), "{told:?}");

    let connect = || {
        let store = runtime.block_on(PostgresStore::connect(database.url(), &ConnectOptions::default()));
        Arc::new(store.expect("a store"))
    };
    let shared = connect();
    assert_eq!(answers(&*shared, &deployment), expected);
    let shared_born = wait(shared.changes(0, 0)).incarnation;
    assert_ne!(shared_born, born, "another life");

    let refused = runtime.block_on(copy(&here, &there, |_| {})).expect_err("it is full");
    assert!(matches!(refused, CopyError::NotEmpty("check_keys")), "{refused:?}");
    let back = Place::Sqlite(second.clone());
    assert_eq!(runtime.block_on(copy(&there, &back, |_| {})).expect("copied back"), copied);
    let returned = sqlite(&second);
    assert_eq!(answers(&returned, &deployment), expected);
    let returned_born = wait(returned.changes(0, 0)).incarnation;
    assert!(returned_born != born && returned_born != shared_born, "and yet another");
    let refused = runtime.block_on(copy(&there, &back, |_| {})).expect_err("there is one");
    assert!(matches!(refused, CopyError::Present(_)), "{refused:?}");

    let original = sqlite(&first);
    let expected = next(&original, &deployment);
    assert_eq!(expected.0, 601, "the number of a token that is gone is not given out again");
    assert_eq!((next(&*shared, &deployment), next(&returned, &deployment)), (expected, expected));
    runtime.block_on(shared.close());
}

#[test]
fn nothing_remains_of_a_copy_that_broke() {
    let (runtime, database) = (runtime(), postgres::database());
    let directory = tempfile::tempdir().expect("a directory");
    let (first, second) = (directory.path().join("first"), directory.path().join("second"));
    let store = sqlite(&first);
    fill(&store);
    wait(store.change(&subject("eve"), &[AccountChange::FirstName("E\0ve".into())]));
    store.close();
    let (here, there) = (Place::Sqlite(first.clone()), Place::Postgres(database.url().to_owned()));

    let refused = runtime.block_on(copy(&here, &there, |_| {})).expect_err("U+0000");
    let text = refused.to_string();
    assert!(text.contains("first_name of row") && text.contains("of the table accounts"), "{text}");
    assert_eq!(database.sql("SELECT count(*) FROM tokens"), "0", "though tokens come before accounts");
    let store = sqlite(&first);
    wait(store.change(&subject("eve"), &[AccountChange::FirstName("Eve".into())]));
    store.close();
    runtime.block_on(copy(&here, &there, |_| {})).expect("now it can be kept");

    // A row that SQLite refuses.
    database.sql("ALTER TABLE accounts DROP CONSTRAINT accounts_role_is_known; UPDATE accounts SET role = 'king' WHERE subject = 'ada'");
    let refused = runtime.block_on(copy(&there, &Place::Sqlite(second.clone()), |_| {})).expect_err("no role");
    assert!(matches!(refused, CopyError::SqliteFailed(_)), "{refused:?}");
    assert!(!second.exists(), "no file of it is left");

    let same = runtime.block_on(copy(&there, &there, |_| {})).expect_err("to itself");
    assert!(matches!(same, CopyError::SameKind), "{same:?}");
    let pooled = Place::Postgres(format!("{}?pooler=transaction", database.url()));
    let refused = runtime.block_on(copy(&pooled, &Place::Sqlite(second.clone()), |_| {})).expect_err("pooled");
    assert!(matches!(refused, CopyError::Pooled), "{refused:?}");
    database.sql("INSERT INTO migrations (number, name, checksum) VALUES (1000, 'later', sha256('x'))");
    let refused = runtime.block_on(copy(&there, &Place::Sqlite(second), |_| {})).expect_err("newer");
    assert!(matches!(refused, CopyError::Postgres(ConnectError::Newer { .. })), "{refused:?}");
    let secret = Place::Postgres("postgres://app:hunter2@db.example.org/tokens?password=hunter2".into());
    assert_eq!(secret.to_string(), "postgres://db.example.org/tokens");
}
