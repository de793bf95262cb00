//! The one thread that writes: [`Writer`], and how it groups what is waiting into one transaction.
//!
//! It takes what has arrived while the last transaction was being made durable, no more and no later: under load that is
//! many jobs to one fsync, alone it is one, and nobody waits for company. Each job has a savepoint of its own. Answers go
//! out after the commit is durable, and a job runs to its end whether or not anybody still waits for the answer.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use counterfoil_core::StoreError;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::checkpoint::{Checkpointer, Watch};
use super::column::get;
use super::fault::Fault;
use super::opening::{Held, Opened, Role, close_whole, marked};
use super::place::Place;
use super::readers::Readers;
use super::reserve::Reserve;
use super::witness::{Left, Look, Mark, Seen, Witness};

/// Jobs that may wait. At 200 µs a commit and 128 to a commit, what waits at the end of a full queue waits 10 ms.
const QUEUE: usize = 4_096;
/// Jobs that share a transaction: beyond this an fsync is divided finely enough, and a failure hurts fewer.
const GROUP: usize = 128;
/// Pages in the log from which on the writer itself waits for a checkpoint: 64 MiB, which a checkpointer that runs beside
/// a busy writer otherwise never catches up with.
const MOST_PAGES: i32 = 16_384;

/// What a job is for, which decides what becomes of it on a full disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It ends tokens: it may use what is held in reserve.
    Revoking,
    /// Anything else.
    Ordinary,
}

/// The way to the writing thread.
pub(super) struct Writer {
    queue: RwLock<Option<SyncSender<Box<dyn Job>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writer")
    }
}

impl Writer {
    /// Starts the thread over what was opened.
    pub(super) fn start(
        opened: Opened,
        readers: Arc<Readers>,
        role: Role,
        busy_timeout: Duration,
    ) -> std::io::Result<Writer> {
        let (queue, jobs) = sync_channel(QUEUE);
        let checkpointer = Checkpointer::start(Arc::clone(&opened.place), busy_timeout)?;
        let desk = Desk {
            reserve: Reserve::at(&opened.place),
            place: opened.place,
            readers,
            role,
            busy_timeout,
            connection: None,
            undisturbed: opened.undisturbed,
            witness: opened.witness,
            mark: opened.mark,
            checkpointer,
            pages: Arc::new(AtomicI32::new(0)),
            checkpoint_at: Checkpointer::PAGES,
            watch: Watch::default(),
            _held: opened.held,
        };
        let connection = opened.connection;
        let thread = thread::Builder::new().name("counterfoil-write".to_owned()).spawn(move || {
            let mut desk = desk;
            desk.seat(connection).ok();
            desk.work(&jobs);
            desk.shut();
        })?;
        Ok(Writer { queue: RwLock::new(Some(queue)), thread: Mutex::new(Some(thread)) })
    }

    /// Hands `work` to the thread and waits for what becomes of it. `work` runs again if its transaction has to.
    pub(super) async fn submit<T: Send + 'static>(
        &self,
        doing: &'static str,
        purpose: Purpose,
        work: impl Fn(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job: Box<dyn Job> = Box::new(Task { purpose, work, outcome: None, reply });
        match &*self.queue.read().unwrap_or_else(PoisonError::into_inner) {
            None => return Err(Fault::Closed.while_doing(doing)),
            Some(queue) => match queue.try_send(job) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => return Err(Fault::Crowded.while_doing(doing)),
                Err(TrySendError::Disconnected(_)) => return Err(Fault::Abandoned.while_doing(doing)),
            },
        }
        answer.await.unwrap_or(Err(Fault::Abandoned)).map_err(|fault| fault.while_doing(doing))
    }

    /// Lets the thread finish what waits, write the log back and end.
    pub(super) fn close(&self) {
        drop(self.queue.write().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            thread.join().ok();
        }
    }
}

/// What shares a transaction.
type Group = Vec<Box<dyn Job>>;

/// Work that waits for the thread.
trait Job: Send {
    fn purpose(&self) -> Purpose;
    /// Does it in the transaction that is open. An error is the job's own; the caller judges what else it spoils.
    fn run(&mut self, connection: &Connection) -> Result<(), Fault>;
    /// Puts `fault` in place of whatever came of it.
    fn fail(&mut self, fault: Fault);
    /// Tells the one who waits.
    fn answer(self: Box<Self>);
}

struct Task<T, F> {
    purpose: Purpose,
    work: F,
    outcome: Option<Result<T, Fault>>,
    reply: oneshot::Sender<Result<T, Fault>>,
}

impl<T: Send, F: Fn(&Connection) -> Result<T, Fault> + Send> Job for Task<T, F> {
    fn purpose(&self) -> Purpose {
        self.purpose
    }

    fn run(&mut self, connection: &Connection) -> Result<(), Fault> {
        // What a panic leaves half done in the database is rolled back; the closure itself only reads what it owns.
        let value = catch_unwind(AssertUnwindSafe(|| (self.work)(connection))).unwrap_or(Err(Fault::Panicked))?;
        self.outcome = Some(Ok(value));
        Ok(())
    }

    fn fail(&mut self, fault: Fault) {
        self.outcome = Some(Err(fault));
    }

    fn answer(self: Box<Self>) {
        // Nobody may be waiting any more; the work stands all the same.
        self.reply.send(self.outcome.unwrap_or(Err(Fault::Abandoned))).ok();
    }
}

/// Where the thread works.
struct Desk {
    place: Arc<Place>,
    readers: Arc<Readers>,
    role: Role,
    busy_timeout: Duration,
    /// `None` after a failure, until another one could be opened.
    connection: Option<Connection>,
    /// Whether the database file was as the last orderly stop left it.
    undisturbed: bool,
    witness: Witness,
    /// The furthest that this process has acknowledged or found.
    mark: Mark,
    reserve: Reserve,
    checkpointer: Checkpointer,
    /// How long the log was at the last commit.
    pages: Arc<AtomicI32>,
    /// How long it may grow before the checkpointer is called.
    checkpoint_at: i32,
    watch: Watch,
    _held: Held,
}

impl Desk {
    fn work(&mut self, jobs: &Receiver<Box<dyn Job>>) {
        if self.role == Role::Server {
            // Here and not at start, which need not wait for it.
            self.reserve.hold().ok();
        }
        while let Ok(first) = jobs.recv() {
            let mut group = vec![first];
            while group.len() < GROUP
                && let Ok(next) = jobs.try_recv()
            {
                group.push(next);
            }
            self.settle(group);
            self.tend_the_log();
        }
    }

    /// Brings a group to its end and answers everybody in it.
    fn settle(&mut self, group: Group) {
        let mut group = self.turn_away_what_must_not_use_the_reserve(group);
        let mut result = self.attempt(&mut group);
        if is_full(&result) && self.make_room() {
            result = self.attempt(&mut group);
        }
        if is_full(&result) {
            let (revoking, ordinary) = by_purpose(group);
            if let Err(fault) = result {
                fail_together(ordinary, fault);
            }
            group = revoking;
            result = self.reserve.give_up().map_err(Fault::Io).and_then(|()| self.attempt(&mut group));
        }
        match result {
            Ok(()) => group.into_iter().for_each(Job::answer),
            Err(fault) => fail_together(group, fault),
        }
    }

    /// While the reserve is spent, only what it is for may write.
    fn turn_away_what_must_not_use_the_reserve(&self, group: Group) -> Group {
        let all_revoke = group.iter().all(|job| job.purpose() == Purpose::Revoking);
        if self.role == Role::Beside || all_revoke || self.reserve.is_held() || self.reserve.hold().is_ok() {
            return group;
        }
        let (revoking, ordinary) = by_purpose(group);
        for mut job in ordinary {
            job.fail(Fault::Reserved);
            job.answer();
        }
        revoking
    }

    /// Runs the group in one transaction. On success everything that did not fail by itself is durable; on an error
    /// nothing is, as far as this process can tell, and nothing may be acknowledged.
    fn attempt(&mut self, group: &mut [Box<dyn Job>]) -> Result<(), Fault> {
        if group.is_empty() {
            return Ok(());
        }
        let result = self.connected().and_then(|connection| transact(connection, group));
        match result {
            Ok(None) => Ok(()),
            Ok(Some((commits, tag))) => {
                self.mark = Mark { commits, tag, ..self.mark };
                // The commit is durable whether or not this can be written; without it a later rewind may go unnoticed.
                self.witness.raise(self.mark).ok();
                Ok(())
            }
            Err(fault) => {
                self.recover(&fault);
                Err(fault)
            }
        }
    }

    fn recover(&mut self, fault: &Fault) {
        let rolled_back = match &self.connection {
            Some(connection) if !connection.is_autocommit() => connection.execute_batch("ROLLBACK").is_ok(),
            Some(_) => true,
            None => false,
        };
        if fault.spoils_the_connection() || !rolled_back {
            self.connection = None;
            self.readers.reopen();
        }
    }

    /// The connection, opened anew if the last one was given up, and then only if the file has all that this process
    /// has acknowledged.
    fn connected(&mut self) -> Result<&Connection, Fault> {
        if self.connection.is_none() {
            let connection = self.place.writing(self.busy_timeout)?;
            let mark = marked(&connection)?;
            if mark.incarnation != self.mark.incarnation || mark.lacks(&self.mark) {
                return Err(Fault::Rewound);
            }
            self.seat(connection)?;
        }
        self.connection.as_ref().ok_or(Fault::Closed)
    }

    fn seat(&mut self, mut connection: Connection) -> rusqlite::Result<()> {
        let pages = Arc::clone(&self.pages);
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, length| {
            pages.store(length, Ordering::Relaxed);
            Ok(())
        }))?;
        self.connection = Some(connection);
        Ok(())
    }

    /// Calls for a checkpoint each time the log has grown by so much.
    fn tend_the_log(&mut self) {
        if self.role == Role::Server && !self.reserve.is_held() {
            // What the reserve has lent must not all end up in the log: writing it back needs a little of it, too.
            self.cut_the_log();
            return;
        }
        let pages = self.pages.load(Ordering::Relaxed);
        if pages >= MOST_PAGES {
            self.write_the_log_back();
            return;
        }
        self.watch.short(&self.place);
        if pages >= self.checkpoint_at {
            self.checkpointer.call();
            self.checkpoint_at = pages + Checkpointer::PAGES;
        } else if pages + Checkpointer::PAGES < self.checkpoint_at {
            // It has begun from the start again.
            self.checkpoint_at = Checkpointer::PAGES;
        }
    }

    /// Gives the room of the log back to the disk; whether there is some now. Writing the log back may itself need a
    /// little, which the reserve lends.
    fn make_room(&mut self) -> bool {
        if self.cut_the_log() {
            return true;
        }
        self.reserve.give_up().ok();
        self.cut_the_log() && (self.role == Role::Beside || self.reserve.hold().is_ok())
    }

    /// Writes all of the log back and empties it, waiting a moment for those who read in it.
    fn cut_the_log(&self) -> bool {
        let Some(connection) = &self.connection else { return false };
        connection.busy_timeout(Duration::from_millis(200).min(self.busy_timeout)).ok();
        let cut = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        connection.busy_timeout(self.busy_timeout).ok();
        cut.is_ok_and(|busy| busy == 0)
    }

    /// Lets the next commit begin the log from its start, if no reader and no other checkpoint is in the way.
    fn write_the_log_back(&mut self) {
        let Some(connection) = &self.connection else { return };
        let far = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
            Ok((row.get::<_, bool>(0)?, row.get(1)?, row.get(2)?))
        });
        if let Ok((false, pages, written_back)) = far {
            self.watch.stuck(pages, written_back, &self.place);
        }
    }

    /// The end in order: everything in the database file, and the witness saying so. Best effort; what is missing is
    /// made good by the next start.
    fn shut(mut self) {
        self.checkpointer.stop();
        let Some(connection) = self.connection.take() else { return };
        connection.busy_timeout(Duration::ZERO).ok();
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).ok();
        let closed = close_whole(connection).is_ok();
        let (Ok(look), Ok(seen)) = (Look::of(&self.place.database), self.witness.read()) else { return };
        let in_order = match self.role {
            Role::Server => closed,
            // What was in order when a command line came is in order when it goes, unless a server has come since.
            Role::Beside => closed && self.undisturbed && seen.is_none_or(|seen| seen.left != Left::Open),
        };
        if in_order {
            let further =
                |known: &Mark| known.incarnation == self.mark.incarnation && known.commits > self.mark.commits;
            let mark = seen.map(|seen| seen.mark).filter(further).unwrap_or(self.mark);
            self.witness.write_through(&Seen { mark, left: Left::Shut(look) }).ok();
        }
    }
}

fn is_full(result: &Result<(), Fault>) -> bool {
    result.as_ref().is_err_and(Fault::is_full)
}

fn by_purpose(group: Group) -> (Group, Group) {
    group.into_iter().partition(|job| job.purpose() == Purpose::Revoking)
}

/// Nothing of any of them stands.
fn fail_together(group: Group, fault: Fault) {
    let fault = Arc::new(fault);
    for mut job in group {
        job.fail(Fault::Together(Arc::clone(&fault)));
        job.answer();
    }
}

/// One transaction for the group; the new count of commits and what this one drew, if it changed anything. On an error the transaction may still
/// be open.
fn transact(connection: &Connection, group: &mut [Box<dyn Job>]) -> Result<Option<(u64, i64)>, Fault> {
    let run = |sql: &'static str| -> Result<(), Fault> {
        connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    };
    run("BEGIN IMMEDIATE")?;
    let before = connection.total_changes();
    for job in group {
        run("SAVEPOINT job")?;
        if let Err(fault) = job.run(connection) {
            // Some errors end the whole transaction by themselves, some end trust in it.
            if connection.is_autocommit() || fault.is_full() || fault.spoils_the_connection() {
                return Err(fault);
            }
            run("ROLLBACK TO job")?;
            job.fail(fault);
        }
        run("RELEASE job")?;
    }
    let commits = if connection.total_changes() == before {
        None
    } else {
        Some(connection.prepare_cached(COUNT)?.query_row([], |row| Ok((get(row, 0)?, row.get(1)?)))?)
    };
    run("COMMIT")?;
    Ok(commits)
}

const COUNT: &str = "UPDATE deployment SET commits = commits + 1, tag = random() RETURNING commits, tag";
