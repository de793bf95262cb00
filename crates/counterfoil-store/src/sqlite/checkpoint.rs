//! Writing the log back into the database file, off the writer's thread: [`Checkpointer`]; and noticing when that does not
//! help: [`Watch`].

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::Connection;

use super::place::Place;

/// A thread that checkpoints when called. It never makes a writer or a reader wait: what a reader still needs stays in
/// the log until the next time.
#[derive(Debug)]
pub(super) struct Checkpointer {
    calls: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// How much the log grows between two calls: 4 MiB, SQLite's own measure.
    pub(super) const PAGES: i32 = 1_000;

    pub(super) fn start(place: Arc<Place>, busy_timeout: Duration) -> std::io::Result<Checkpointer> {
        let (calls, called) = sync_channel(1);
        let thread = thread::Builder::new()
            .name("counterfoil-checkpoint".to_owned())
            .spawn(move || serve(&called, &place, busy_timeout))?;
        Ok(Checkpointer { calls: Some(calls), thread: Some(thread) })
    }

    /// Asks for a checkpoint, if none is waiting already.
    pub(super) fn call(&self) {
        if let Some(calls) = &self.calls {
            calls.try_send(()).ok();
        }
    }

    /// Ends the thread after what it is doing.
    pub(super) fn stop(&mut self) {
        self.calls = None;
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Tells the operator of a log that only grows. A reader that never ends its transaction keeps it from being begun anew;
/// nobody may end another process's transaction, so somebody has to be told.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Whether this episode has been told of.
    told: bool,
}

impl Watch {
    /// Pages from which on it is an alarm: 128 MiB. The writer itself writes the log back from half of that on.
    const PAGES: i64 = 32_768;

    /// A checkpoint of a log so long got no further than `written_back`, and no other checkpoint was in its way.
    pub(super) fn stuck(&mut self, pages: i64, written_back: i64, place: &Place) {
        if self.told || pages < Watch::PAGES || written_back >= pages {
            return;
        }
        self.told = true;
        tracing::warn!(
            log = %place.write_ahead.display(),
            bytes = place.write_ahead_bytes(),
            "the write-ahead log grows and cannot be begun anew: some process has been reading in the database for long; \
             look for a backup, a shell of SQLite or another program that has the file open"
        );
    }

    /// The log is short.
    pub(super) fn short(&mut self, place: &Place) {
        if self.told {
            tracing::info!(bytes = place.write_ahead_bytes(), "the write-ahead log was begun anew");
        }
        self.told = false;
    }
}

fn serve(called: &Receiver<()>, place: &Place, busy_timeout: Duration) {
    let mut connection: Option<Connection> = None;
    while called.recv().is_ok() {
        if connection.is_none() {
            connection = place.writing(busy_timeout).ok();
        }
        let done = connection
            .as_ref()
            .is_some_and(|connection| connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).is_ok());
        if !done {
            // After a failed write it is not to be trusted; the log still has everything.
            connection = None;
        }
    }
}
