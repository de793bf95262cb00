//! Mails on their way from the queue to whoever sends them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use counterfoil::{
    AccountRules, Builder, By, Counterfoil, HashingParams, Letter, Links, Mailer, ManualClock, NewAccount, NotSent,
    Sending, Settings, StartError, SubjectId, Timestamp,
};
use tokio::sync::Semaphore;

/// What a mailer does with one letter.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Manner {
    Sends,
    Later,
    Never,
    Panics,
    /// Not before the gate lets it.
    Waits,
}

/// Does with each letter what it was told to, and sends those beyond.
#[derive(Debug)]
struct Postbox {
    manners: Mutex<VecDeque<Manner>>,
    /// The account, the letter's name and its link.
    sent: Mutex<Vec<(String, String, String)>>,
    tried: Mutex<Vec<(String, String, String)>>,
    gate: Semaphore,
}

impl Postbox {
    fn new(manners: &[Manner]) -> Arc<Postbox> {
        Arc::new(Postbox {
            manners: Mutex::new(manners.iter().copied().collect()),
            sent: Mutex::default(),
            tried: Mutex::default(),
            gate: Semaphore::new(0),
        })
    }

    fn tried(&self) -> Vec<(String, String, String)> {
        self.tried.lock().expect("not poisoned").clone()
    }

    fn sent(&self) -> Vec<(String, String, String)> {
        self.sent.lock().expect("not poisoned").clone()
    }
}

impl Mailer for Postbox {
    fn send(&self, letter: Letter) -> Sending<'_> {
        let manner = self.manners.lock().expect("not poisoned").pop_front().unwrap_or(Manner::Sends);
        let told = (
            letter.username.map(|name| name.to_string()).unwrap_or_default(),
            letter.id.to_string(),
            letter.url.map(|url| url.expose().to_owned()).unwrap_or_default(),
        );
        self.tried.lock().expect("not poisoned").push(told.clone());
        Box::pin(async move {
            match manner {
                Manner::Sends => {}
                Manner::Waits => drop(self.gate.acquire().await),
                Manner::Later => return Err(NotSent::Later("the server is away".into())),
                Manner::Never => return Err(NotSent::Never("nobody of that name".into())),
                Manner::Panics => panic!("no mail today"),
            }
            self.sent.lock().expect("not poisoned").push(told);
            Ok(())
        })
    }
}

fn builder(postbox: &Arc<Postbox>, clock: &Arc<ManualClock>) -> Builder {
    let links = Links { base: Some("https://auth.example.org".to_owned()), ..Links::default() };
    let accounts = AccountRules { links, ..AccountRules::default() };
    let settings = Settings { accounts, hashing: HashingParams::insecure_for_tests(), ..Settings::default() };
    Counterfoil::builder().settings(settings).clock(Arc::clone(clock) as _).mail(Arc::clone(postbox) as _)
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_millis(1_800_000_000_000)))
}

/// Users with an address, each of whom is to be mailed a link for a new password.
async fn ask(counterfoil: &Counterfoil, names: &[&str]) {
    for name in names {
        let subject = made(counterfoil, name).await;
        let now = counterfoil.clock().now();
        counterfoil.authority().start_reset(&subject, &By::operator(), now).await.expect("queued");
    }
}

async fn made(counterfoil: &Counterfoil, name: &str) -> SubjectId {
    let email = Some(format!("{name}@example.org").parse().expect("an address"));
    let new = NewAccount { email, ..NewAccount::named(name.parse().expect("a name")) };
    let now = counterfoil.clock().now();
    counterfoil.authority().create_user(new, None, &By::operator(), now).await.expect("made").subject
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect(what);
}

async fn waiting(counterfoil: &Counterfoil) -> u64 {
    counterfoil.authority().mails_waiting(0).await.expect("counted").1
}

#[tokio::test(start_paused = true)]
async fn mails_are_sent_four_at_once_and_nobody_waits_for_them() {
    let postbox = Postbox::new(&[Manner::Waits; 6]);
    let counterfoil = builder(&postbox, &clock()).memory().start().await.expect("started");
    ask(&counterfoil, &["a", "b", "c", "d", "e", "f"]).await;
    until("four are under way", || postbox.tried().len() == 4).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(postbox.tried().len(), 4, "and no more");
    postbox.gate.add_permits(1);
    until("all are sent", || postbox.sent().len() == 6).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(postbox.sent().len(), 6, "each of them once");
    assert_eq!(waiting(&counterfoil).await, 0);
    counterfoil.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn f35_a_mail_that_was_not_sent_comes_again_with_another_link_and_one_that_never_will_be_is_given_up() {
    let postbox = Postbox::new(&[Manner::Later, Manner::Never, Manner::Later]);
    let clock = clock();
    let counterfoil = builder(&postbox, &clock).memory().start().await.expect("started");
    ask(&counterfoil, &["ada"]).await;
    until("it was tried", || postbox.tried().len() == 1).await;
    ask(&counterfoil, &["bob"]).await;
    until("the other was tried", || postbox.tried().len() == 2).await;
    clock.advance(Duration::from_millis(29_999));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!((postbox.tried().len(), waiting(&counterfoil).await), (2, 1));
    clock.advance(Duration::from_millis(1));
    until("it was tried again", || postbox.tried().len() == 3).await;
    clock.advance(Duration::from_secs(60));
    until("it was sent", || postbox.sent().len() == 1).await;
    let tried = postbox.tried();
    let to_ada: Vec<_> = tried.iter().filter(|(name, ..)| name == "ada").collect();
    assert_eq!(to_ada.len(), 3);
    assert!(to_ada.iter().all(|(_, id, _)| *id == to_ada[0].1), "one mail, whose repetition can be told");
    assert!(to_ada[0].2 != to_ada[1].2 && to_ada[1].2 != to_ada[2].2);
    counterfoil.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_mailer_that_panics_hurts_no_other_mail_and_is_asked_again() {
    let postbox = Postbox::new(&[Manner::Panics]);
    let clock = clock();
    let counterfoil = builder(&postbox, &clock).memory().start().await.expect("started");
    ask(&counterfoil, &["ada"]).await;
    until("it was tried", || postbox.tried().len() == 1).await;
    ask(&counterfoil, &["bob"]).await;
    until("the other was sent", || postbox.sent().len() == 1).await;
    let (queue, _) = counterfoil.authority().mails_waiting(10).await.expect("listed");
    assert_eq!(queue[0].last_error.as_deref(), Some("the mailer panicked"));
    clock.advance(Duration::from_secs(30));
    until("it was sent", || postbox.sent().len() == 2).await;
    counterfoil.shutdown().await;
}

#[tokio::test]
async fn a_mail_that_was_being_sent_at_the_end_holds_nobody_up_for_long_and_is_sent_after_the_next_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = clock();
    let slow = Postbox::new(&[Manner::Waits]);
    let counterfoil = builder(&slow, &clock).sqlite(directory.path()).start().await.expect("started");
    ask(&counterfoil, &["ada"]).await;
    until("it was tried", || slow.tried().len() == 1).await;
    tokio::time::timeout(Duration::from_secs(20), counterfoil.shutdown()).await.expect("it ended");
    // Nobody knows whether it was sent: another one waits for two minutes.
    let postbox = Postbox::new(&[]);
    clock.advance(Duration::from_secs(120));
    let counterfoil = builder(&postbox, &clock).sqlite(directory.path()).start().await.expect("started");
    until("it was sent", || postbox.sent().len() == 1).await;
    assert_eq!(postbox.sent()[0].1, slow.tried()[0].1);
    counterfoil.shutdown().await;
}

#[tokio::test]
async fn a_command_line_queues_what_its_server_sends() {
    let directory = tempfile::tempdir().expect("a directory");
    let (clock, unused, postbox) = (clock(), Postbox::new(&[]), Postbox::new(&[]));
    let server = builder(&postbox, &clock).sqlite(directory.path()).start().await.expect("started");
    let command = builder(&unused, &clock).existing_sqlite(directory.path()).open().await.expect("opened");
    ask(&command, &["ada"]).await;
    until("it was sent", || postbox.sent().len() == 1).await;
    command.shutdown().await;
    server.shutdown().await;
    assert!(unused.tried().is_empty());
}

#[tokio::test]
async fn with_stores_of_ones_own_mail_needs_one_as_well() {
    let store = Arc::new(counterfoil::MemoryStore::new());
    let own = |postbox| builder(&postbox, &clock()).stores(Arc::clone(&store) as _, Arc::clone(&store) as _);
    let refused = own(Postbox::new(&[])).start().await.expect_err("nowhere to keep mails");
    assert!(matches!(refused, StartError::NoMailStore), "{refused}");
    let postbox = Postbox::new(&[]);
    let counterfoil = own(Arc::clone(&postbox)).mail_store(Arc::clone(&store) as _).start().await.expect("started");
    ask(&counterfoil, &["ada"]).await;
    until("it was sent", || postbox.sent().len() == 1).await;
    counterfoil.shutdown().await;
}
