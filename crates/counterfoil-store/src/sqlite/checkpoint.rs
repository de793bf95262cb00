//! Writing the log back into the database file, off the writer's thread: [`Checkpointer`].

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
