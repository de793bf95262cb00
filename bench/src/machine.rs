//! What every measurement needs: an authority on a store, waiting for a future, timing in rounds.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use counterfoil::{OsEntropy, SystemClock};
use counterfoil_core::event::Silent;
use counterfoil_core::hashing::OnThisThread;
use counterfoil_core::{AccountStore, Authority, Clock, Now, Parts, Settings, TokenStore};

/// The first poll answers: what is timed never waits.
pub(crate) fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("this should have been answered on the calling thread"),
    }
}

pub(crate) fn now() -> Now {
    SystemClock.now()
}

pub(crate) async fn authority(tokens: Arc<dyn TokenStore>, accounts: Arc<dyn AccountStore>) -> Authority {
    let parts = Parts {
        tokens,
        accounts,
        audit: None,
        mail: None,
        hashing: Arc::new(OnThisThread),
        entropy: Arc::new(OsEntropy),
        events: Arc::new(Silent),
        hook: None,
        ring: None,
        settings: Settings::default(),
    };
    Authority::open(parts, now()).await.unwrap()
}

/// Nanoseconds per call of each contender, the best of many short rounds taken in turn: what disturbs one round disturbs
/// neither's best. A contender makes as many calls as it is told.
pub(crate) fn race<const N: usize>(calls: u32, contenders: [&mut dyn FnMut(u32); N]) -> [f64; N] {
    race_after(calls, || {}, contenders)
}

/// The same, with something done before each round that is not timed.
pub(crate) fn race_after<const N: usize>(
    calls: u32,
    before: impl Fn(),
    mut contenders: [&mut dyn FnMut(u32); N],
) -> [f64; N] {
    let mut best = [f64::INFINITY; N];
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end {
        for (position, contender) in contenders.iter_mut().enumerate() {
            before();
            let begun = Instant::now();
            contender(calls);
            let each = begun.elapsed().as_nanos() as f64 / f64::from(calls);
            best[position] = best[position].min(each);
        }
    }
    best
}
