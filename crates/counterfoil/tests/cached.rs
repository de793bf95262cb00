//! What is answered from memory while somebody else changes things, and while the store is away.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use counterfoil::{
    Abilities, By, Counterfoil, Error, Expiry, Identity, Issued, Kind, ManualClock, Metadata, Refusal, Source,
    Timestamp, TokenOrder,
};

/// So many milliseconds is a yes from memory good for.
const LEASE: Duration = Duration::from_millis(900);

async fn issue(counterfoil: &Counterfoil) -> Issued {
    let order = TokenOrder {
        kind: Kind::Login,
        subject: "ada".parse().expect("subject"),
        client: None,
        name: None,
        abilities: Abilities::everything(),
        metadata: Metadata::default(),
        expiry: Expiry::ByPolicy,
    };
    counterfoil.authority().issue(order, &By::operator(), counterfoil.clock().now()).await.expect("issued")
}

async fn ask(counterfoil: &Counterfoil, issued: &Issued) -> Result<Identity, Error> {
    let source = Source::default();
    counterfoil.authority().authenticate(issued.secret.expose(), &source, counterfoil.clock().now()).await
}

fn is_known(counterfoil: &Counterfoil, issued: &Issued) -> bool {
    let now = counterfoil.clock().now();
    counterfoil.authority().try_cached(issued.secret.expose(), &Source::default(), now).is_some()
}

/// With a clock that stands still, so that nothing is known for longer than the story says; what follows the changes in the
/// background asks by it.
async fn start(directory: &std::path::Path) -> (Counterfoil, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_800_000_000_000)));
    let started = Counterfoil::builder().sqlite(directory).clock(Arc::clone(&clock) as _).start().await;
    (started.expect("started"), clock)
}

#[tokio::test]
async fn f11_what_a_command_line_revokes_is_refused_at_the_end_of_the_lease_at_the_latest() {
    let directory = tempfile::tempdir().expect("directory");
    let (server, clock) = start(directory.path()).await;
    let issued = issue(&server).await;
    ask(&server, &issued).await.expect("live");
    assert!(is_known(&server, &issued));

    let beside = Counterfoil::builder().existing_sqlite(directory.path()).open().await.expect("open");
    let now = beside.clock().now();
    beside.authority().revoke_any(issued.token.id, &By::operator(), now).await.expect("revoked");
    beside.shutdown().await;
    clock.advance(LEASE);
    assert!(matches!(ask(&server, &issued).await, Err(Error::Refused(Refusal::TokenRevoked))));
    server.shutdown().await;
}

#[tokio::test]
async fn f11_the_server_hears_of_it_by_itself() {
    let directory = tempfile::tempdir().expect("directory");
    let (server, _clock) = start(directory.path()).await;
    let issued = issue(&server).await;
    ask(&server, &issued).await.expect("live");
    let beside = Counterfoil::builder().existing_sqlite(directory.path()).open().await.expect("open");
    let now = beside.clock().now();
    beside.authority().revoke_any(issued.token.id, &By::operator(), now).await.expect("revoked");
    beside.shutdown().await;
    // The clock of the lease stands still: only the next look at the changes can end it.
    let refused = async {
        while ask(&server, &issued).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), refused).await.expect("refused");
    server.shutdown().await;
}

#[tokio::test]
async fn f16_a_store_that_is_away_is_a_fault_as_soon_as_the_lease_ends() {
    let directory = tempfile::tempdir().expect("directory");
    let (server, clock) = start(directory.path()).await;
    let issued = issue(&server).await;
    ask(&server, &issued).await.expect("live");
    server.sqlite().expect("sqlite").close();
    assert!(ask(&server, &issued).await.is_ok(), "within the lease");
    clock.advance(LEASE);
    assert!(matches!(ask(&server, &issued).await, Err(Error::Store(_))), "neither a yes nor a refusal");
    server.shutdown().await;
}

#[tokio::test]
async fn who_comes_after_the_shutdown_is_answered_as_if_the_store_were_away() {
    let directory = tempfile::tempdir().expect("directory");
    let (server, _clock) = start(directory.path()).await;
    let issued = issue(&server).await;
    ask(&server, &issued).await.expect("live");
    server.shutdown().await;
    assert!(matches!(ask(&server, &issued).await, Err(Error::Store(_))));
}

#[tokio::test]
async fn a_login_or_key_that_nobody_waits_for_keeps_nobody_from_being_known() {
    let directory = tempfile::tempdir().expect("directory");
    let (server, _clock) = start(directory.path()).await;
    let issued = issue(&server).await;
    ask(&server, &issued).await.expect("live");
    {
        let mut another = std::pin::pin!(issue(&server));
        let polled = another.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Pending));
    }
    assert!(is_known(&server, &issued));
    server.shutdown().await;
}

#[tokio::test]
async fn a_revocation_that_may_have_been_carried_out_leaves_nothing_to_be_said_from_memory() {
    let directory = tempfile::tempdir().expect("directory");
    let (server, _clock) = start(directory.path()).await;
    let issued = issue(&server).await;
    let who = ask(&server, &issued).await.expect("live");
    assert!(is_known(&server, &issued));
    server.sqlite().expect("sqlite").close();
    let (here, now) = (Source::default(), server.clock().now());
    assert!(server.authority().logout(&who, &here, now).await.is_err());
    assert!(!is_known(&server, &issued));
    server.shutdown().await;
}

#[tokio::test]
async fn a_revocation_whose_waiter_goes_away_leaves_nothing_to_be_said_from_memory() {
    let directory = tempfile::tempdir().expect("directory");
    let (server, _clock) = start(directory.path()).await;
    let issued = issue(&server).await;
    let who = ask(&server, &issued).await.expect("live");
    let (here, now) = (Source::default(), server.clock().now());
    {
        // Asked for, and dropped before the disk has answered.
        let mut logout = std::pin::pin!(server.authority().logout(&who, &here, now));
        let polled = logout.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Pending));
    }
    // Nothing else has run on this thread since.
    assert!(!is_known(&server, &issued));
    let refused = async {
        while ask(&server, &issued).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), refused).await.expect("what was asked for is carried out");
    server.shutdown().await;
}
