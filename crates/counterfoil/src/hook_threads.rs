//! The host's hook before issuing, kept from harming anybody: [`HookThreads`].

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use counterfoil_core::hook::{BeforeIssuing, Intent, Ruled, Ruling};
use metrics::counter;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

/// Rulings under way. Each holds a thread, so this is what a hook that never answers can take: no worker, and no more.
const MOST: usize = 32;

/// Runs a hook on a thread of its own for each ruling, so that one that blocks stops no other request, and for so long.
///
/// A thread costs tens of microseconds, and a password twenty milliseconds. One whose time is over goes on until the hook
/// returns, because nothing ends a thread from outside; as long as 32 of them hang, no token is issued, and those that
/// exist are accepted as ever.
#[derive(Debug)]
pub(crate) struct HookThreads {
    hook: Arc<dyn BeforeIssuing>,
    patience: Duration,
    room: Arc<Semaphore>,
}

impl HookThreads {
    pub(crate) fn new(hook: Arc<dyn BeforeIssuing>, patience: Duration) -> HookThreads {
        HookThreads { hook, patience, room: Arc::new(Semaphore::new(MOST)) }
    }

    async fn ask(&self, intent: Intent) -> Result<Ruling, NoRuling> {
        // Never closed.
        let Ok(room) = Arc::clone(&self.room).acquire_owned().await else { return Err(NoRuling::TooLate) };
        let (reply, answer) = oneshot::channel();
        let (hook, runtime) = (Arc::clone(&self.hook), Handle::current());
        let work = move || {
            let _room = room;
            // Whoever asked may have gone away, or the time may be over.
            reply.send(runtime.block_on(hook.rule(intent))).ok();
        };
        thread::Builder::new().name("hook".to_owned()).spawn(work).map_err(NoRuling::NoThread)?;
        // Gone without a word: it panicked.
        answer.await.map_err(|_| NoRuling::Panicked)?.map_err(NoRuling::Failed)
    }
}

impl BeforeIssuing for HookThreads {
    fn rule(&self, intent: Intent) -> Ruled<'_> {
        Box::pin(async move {
            // The wait for room is part of it.
            let ruled = timeout(self.patience, self.ask(intent)).await.unwrap_or(Err(NoRuling::TooLate));
            let outcome = match &ruled {
                Ok(Ruling::Allow) => "allowed",
                Ok(Ruling::OnClient(_)) => "moved",
                Ok(Ruling::Refuse { .. }) => "refused",
                Err(NoRuling::Failed(_) | NoRuling::NoThread(_)) => "failed",
                Err(NoRuling::Panicked) => "panicked",
                Err(NoRuling::TooLate) => "too_late",
            };
            counter!("counterfoil_hook_rulings_total", "outcome" => outcome).increment(1);
            Ok(ruled?)
        })
    }
}

/// Why there is none.
#[derive(Debug)]
enum NoRuling {
    Failed(Box<dyn std::error::Error + Send + Sync>),
    NoThread(std::io::Error),
    Panicked,
    TooLate,
}

impl fmt::Display for NoRuling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoRuling::Failed(_) => f.write_str("it failed"),
            NoRuling::NoThread(_) => f.write_str("no thread could be started for it"),
            NoRuling::Panicked => f.write_str("it panicked"),
            NoRuling::TooLate => f.write_str("it took too long"),
        }
    }
}

impl std::error::Error for NoRuling {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            NoRuling::Failed(error) => Some(&**error),
            NoRuling::NoThread(error) => Some(error),
            NoRuling::Panicked | NoRuling::TooLate => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use counterfoil_core::hook::Occasion;
    use counterfoil_core::token::Kind;
    use counterfoil_core::{Abilities, Source, Timestamp};

    use super::*;

    fn intent() -> Intent {
        Intent {
            kind: Kind::Login,
            subject: "ada".parse().expect("subject"),
            account: None,
            client: "web".parse().expect("client"),
            name: None,
            abilities: Abilities::everything(),
            occasion: Occasion::Login,
            source: Source::default(),
            at: Timestamp::from_millis(0),
        }
    }

    /// A hook whose manners are chosen when it is made.
    #[derive(Debug)]
    enum Host {
        Kind,
        Panics,
        /// Blocks its thread until the gate is open.
        Blocks(Arc<Gate>),
        /// Awaits what never comes.
        Waits,
    }

    #[derive(Debug, Default)]
    struct Gate {
        open: Mutex<bool>,
        opened: Condvar,
    }

    impl Gate {
        fn pass(&self) {
            drop(self.opened.wait_while(self.open.lock().expect("gate"), |open| !*open).expect("gate"));
        }

        fn open(&self) {
            *self.open.lock().expect("gate") = true;
            self.opened.notify_all();
        }
    }

    impl BeforeIssuing for Host {
        fn rule(&self, _: Intent) -> Ruled<'_> {
            match self {
                Host::Kind => {}
                Host::Panics => panic!("planted"),
                Host::Blocks(gate) => gate.pass(),
                Host::Waits => return Box::pin(std::future::pending()),
            }
            Box::pin(async { Ok(Ruling::Allow) })
        }
    }

    async fn ruled(hook: &HookThreads) -> String {
        match hook.rule(intent()).await {
            Ok(ruling) => format!("{ruling:?}"),
            Err(error) => error.to_string(),
        }
    }

    fn threads(host: Host, patience_millis: u64) -> HookThreads {
        HookThreads::new(Arc::new(host), Duration::from_millis(patience_millis))
    }

    #[tokio::test]
    async fn a_hook_that_panics_gives_no_ruling_and_harms_nobody() {
        assert_eq!(ruled(&threads(Host::Kind, 60_000)).await, "Allow");
        let hook = threads(Host::Panics, 60_000);
        for _ in 0..2 * MOST {
            assert_eq!(ruled(&hook).await, "it panicked");
        }
    }

    /// On one worker: a hook that blocked it would never be found to be late.
    #[tokio::test]
    async fn a_hook_that_takes_too_long_gives_no_ruling_and_blocks_no_worker() {
        assert_eq!(ruled(&threads(Host::Waits, 20)).await, "it took too long");
        let gate = Arc::new(Gate::default());
        let hook = threads(Host::Blocks(Arc::clone(&gate)), 20);
        for _ in 0..MOST + 1 {
            assert_eq!(ruled(&hook).await, "it took too long");
        }
        assert_eq!(hook.room.available_permits(), 0, "as many threads as may hang, and no more");
        gate.open();
        let all = u32::try_from(MOST).expect("few");
        drop(hook.room.acquire_many(all).await.expect("each came back"));
        assert_eq!(ruled(&HookThreads { patience: Duration::from_secs(60), ..hook }).await, "Allow");
    }
}
