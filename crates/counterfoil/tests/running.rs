//! A deployment from its start to its end, on real stores.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use counterfoil::{
    BackupError, BeforeIssuing, By, Counterfoil, Entropy, EntropyError, Error, EventSink, HashingParams, Intent,
    Issued, Login, ManualClock, NewAccount, NotBackedUp, Occurrence, OpenError, OsEntropy, PageRequest, Password,
    Refusal, Ruled, Ruling, Settings, Source, StartError, SubjectId, Timestamp, TokenOrder, TokenQuery, restore,
    sqlite,
};

fn here() -> Source {
    Source { ip: Some([192, 0, 2, 7].into()), user_agent: None }
}

fn subject() -> SubjectId {
    "ada".parse().expect("subject")
}

async fn issue(counterfoil: &Counterfoil) -> Result<Issued, Error> {
    counterfoil.authority().issue(TokenOrder::login(subject()), &By::operator(), counterfoil.clock().now()).await
}

fn everything() -> TokenQuery {
    TokenQuery::default()
}

#[tokio::test]
async fn what_was_seen_of_a_token_is_written_without_being_asked_and_at_the_end() {
    let directory = tempfile::tempdir().expect("directory");
    let counterfoil = Counterfoil::builder().sqlite(directory.path()).start().await.expect("started");
    let issued = issue(&counterfoil).await.expect("issued");
    let use_it = async |source: Source| {
        let text = issued.secret.expose();
        counterfoil.authority().authenticate(text, &source, counterfoil.clock().now()).await.expect("live");
    };
    use_it(here()).await;
    // A second, by the promise; the limit is for a busy machine.
    let seen = async {
        loop {
            let token = counterfoil.authority().token(issued.token.id).await.expect("there");
            match token.last_seen {
                Some(seen) => return seen,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let first = tokio::time::timeout(Duration::from_secs(20), seen).await.expect("written");
    assert_eq!(first.source, here());
    // The next use from there would be noted a minute later; one from elsewhere is at once.
    let elsewhere = Source { ip: Some([198, 51, 100, 7].into()), ..here() };
    use_it(elsewhere.clone()).await;
    counterfoil.shutdown().await;

    let again = Counterfoil::builder().existing_sqlite(directory.path()).open().await.expect("open");
    let token = again.authority().token(issued.token.id).await.expect("there");
    let last = token.last_seen.expect("seen");
    assert!(last.at > first.at);
    assert_eq!(last.source, elsewhere);
    again.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn tokens_dead_for_longer_than_the_retention_are_removed_within_minutes() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_800_000_000_000)));
    let now = Arc::clone(&clock);
    let counterfoil = Counterfoil::builder().memory().clock(now).start().await.expect("started");
    for _ in 0..1_100 {
        let issued = issue(&counterfoil).await.expect("issued");
        counterfoil
            .authority()
            .revoke_any(issued.token.id, &By::operator(), counterfoil.clock().now())
            .await
            .expect("revoked");
    }
    let kept = issue(&counterfoil).await.expect("issued");
    let ids = || async {
        let page = PageRequest { after: None, limit: 200 };
        let page = counterfoil.authority().list(everything(), page).await.expect("listed");
        page.items.iter().map(|token| token.id).collect::<Vec<_>>()
    };
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(ids().await.len(), 200, "dead, but not for long");
    // The retention of the default settings and a day; the live one would have expired as well, but not for so long.
    clock.advance(Duration::from_secs(31 * 86_400));
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(ids().await, [kept.token.id], "three batches, within the same minute");
    counterfoil.shutdown().await;
}

#[derive(Debug)]
struct Failing(AtomicBool);

impl Entropy for Failing {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        if self.0.load(Ordering::SeqCst) { Err(EntropyError::new("planted")) } else { OsEntropy.fill(buffer) }
    }
}

#[tokio::test]
async fn f37_without_randomness_no_token_is_issued() {
    let directory = tempfile::tempdir().expect("directory");
    let entropy = Arc::new(Failing(AtomicBool::new(false)));
    let source = Arc::clone(&entropy);
    let builder = Counterfoil::builder().sqlite(directory.path()).entropy(source);
    let counterfoil = builder
        .settings(Settings { hashing: HashingParams::insecure_for_tests(), ..Settings::default() })
        .start()
        .await
        .expect("started");
    let (authority, now) = (counterfoil.authority(), counterfoil.clock().now());
    let password = || Password::new("correct horse").expect("short");
    let ada = NewAccount::named("ada".parse().expect("name"));
    authority.create_user(ada, Some(password()), &By::operator(), now).await.expect("created");
    let login = || Login { username: "ada".to_owned(), password: password(), client: None, name: None };
    let issued = authority.login(login(), &here(), now).await.expect("logged in").issued;

    entropy.0.store(true, Ordering::SeqCst);
    assert!(matches!(authority.login(login(), &here(), now).await, Err(Error::Entropy(_))));
    assert!(matches!(issue(&counterfoil).await, Err(Error::Entropy(_))));
    assert!(matches!(authority.rotate(issued.secret.expose(), &here(), now).await, Err(Error::Entropy(_))));
    // What needs no chance goes on.
    assert!(authority.authenticate(issued.secret.expose(), &here(), now).await.is_ok());
    let listed = authority.list(everything(), PageRequest::default()).await.expect("listed");
    assert_eq!(listed.items.len(), 1);
    counterfoil.shutdown().await;
}

#[tokio::test]
async fn one_server_and_any_number_of_commands_beside_it() {
    let directory = tempfile::tempdir().expect("directory");
    let data = directory.path().join("data");
    let refused = Counterfoil::builder().existing_sqlite(&data).open().await;
    assert!(matches!(refused, Err(StartError::Open(OpenError::Absent(_)))));
    assert!(!data.exists());
    assert!(matches!(Counterfoil::builder().open().await, Err(StartError::NoStore)));

    let server = Counterfoil::builder().sqlite(&data).start().await.expect("started");
    let second = Counterfoil::builder().sqlite(&data).start().await;
    assert!(matches!(second, Err(StartError::Open(OpenError::Served(_)))));
    let issued = issue(&server).await.expect("issued");
    let command = Counterfoil::builder().existing_sqlite(&data).open().await.expect("open");
    command.authority().revoke_any(issued.token.id, &By::operator(), command.clock().now()).await.expect("revoked");
    command.shutdown().await;
    let refused = server.authority().authenticate(issued.secret.expose(), &here(), server.clock().now()).await;
    assert!(matches!(refused, Err(Error::Refused(Refusal::TokenRevoked))));
    server.shutdown().await;
    Counterfoil::builder().sqlite(&data).start().await.expect("the directory is free again").shutdown().await;
}

#[tokio::test]
async fn f10_a_deployment_is_backed_up_while_it_runs_and_what_is_restored_serves_only_as_it_is_told() {
    let directory = tempfile::tempdir().expect("directory");
    let (data, file) = (directory.path().join("data"), directory.path().join("counterfoil.backup"));
    let counterfoil = Counterfoil::builder().sqlite(&data).start().await.expect("started");
    let issued = issue(&counterfoil).await.expect("issued");
    let contents = counterfoil.backup(&file, |_| ()).await.expect("backed up");
    assert_eq!((contents.tokens, contents.accounts), (1, 0));
    assert!(counterfoil.sqlite().expect("the embedded store").write_ahead_bytes() > 0);
    let refused = counterfoil.backup(&file, |_| ()).await;
    assert!(matches!(refused, Err(NotBackedUp::Failed(BackupError::Exists(_)))), "{refused:?}");
    counterfoil.shutdown().await;

    let elsewhere = directory.path().join("elsewhere");
    let plainly = sqlite::Restore { present: sqlite::Present::Refuse, issued: sqlite::Issued::Undecided };
    restore(&file, &elsewhere, &plainly, |_| ()).expect("restored");
    let refused = Counterfoil::builder().sqlite(&elsewhere).start().await;
    assert!(matches!(refused, Err(StartError::Open(OpenError::Copied(_)))), "{refused:?}");
    let counterfoil = Counterfoil::builder().sqlite(&elsewhere).revoke_rewound().start().await.expect("started");
    let now = counterfoil.clock().now();
    let refused = counterfoil.authority().authenticate(issued.secret.expose(), &here(), now).await;
    assert!(matches!(refused, Err(Error::Refused(Refusal::TokenRevoked))), "{refused:?}");
    let fresh = issue(&counterfoil).await.expect("issued");
    counterfoil.shutdown().await;

    // What has lost nothing is served as ever, though the word is still said.
    let counterfoil = Counterfoil::builder().sqlite(&elsewhere).revoke_rewound().start().await.expect("started");
    let now = counterfoil.clock().now();
    counterfoil.authority().authenticate(fresh.secret.expose(), &here(), now).await.expect("live");
    counterfoil.shutdown().await;

    let counterfoil = Counterfoil::builder().memory().start().await.expect("started");
    let refused = counterfoil.backup(directory.path().join("memory"), |_| ()).await;
    assert!(matches!(refused, Err(NotBackedUp::NotSqlite)), "{refused:?}");
    counterfoil.shutdown().await;
}

/// Blocks for good or panics, whatever it hears.
#[derive(Debug)]
enum Rude {
    Blocks(Mutex<mpsc::Receiver<()>>),
    Panics,
}

impl EventSink for Rude {
    fn publish(&self, _: &Occurrence) {
        match self {
            Rude::Blocks(never) => drop(never.lock().map(|never| never.recv())),
            Rude::Panics => panic!("planted"),
        }
    }
}

impl BeforeIssuing for Rude {
    fn rule(&self, intent: Intent) -> Ruled<'_> {
        assert_ne!(intent.subject.as_str(), "eve", "planted");
        Box::pin(async { Ok(Ruling::Allow) })
    }
}

#[tokio::test]
async fn what_the_host_brings_may_block_and_panic_and_everybody_else_is_served() {
    let (_never, blocked) = mpsc::channel();
    let (heard, hears) = mpsc::channel();
    let counterfoil = Counterfoil::builder()
        .memory()
        .subscribe("blocks", Rude::Blocks(Mutex::new(blocked)))
        .subscribe("panics", Rude::Panics)
        .subscribe("hears", Passing(heard))
        .before_issuing(Rude::Panics, Duration::from_secs(60))
        .start()
        .await
        .expect("started");
    let authority = Arc::clone(counterfoil.authority());
    let eve = TokenOrder::login("eve".parse().expect("subject"));
    let refused = authority.issue(eve, &By::operator(), counterfoil.clock().now()).await;
    assert!(matches!(refused, Err(Error::Hook(_))), "{refused:?}");
    let issued = issue(&counterfoil).await.expect("issued");
    authority.authenticate(issued.secret.expose(), &here(), counterfoil.clock().now()).await.expect("live");
    assert_eq!(hears.recv(), Ok("token_issued"));
    // Within its bound, though one of them never ends.
    tokio::time::timeout(Duration::from_secs(60), counterfoil.shutdown()).await.expect("ended");
}

#[derive(Debug)]
struct Passing(mpsc::Sender<&'static str>);

impl EventSink for Passing {
    fn publish(&self, occurrence: &Occurrence) {
        self.0.send(occurrence.event.name()).ok();
    }
}
