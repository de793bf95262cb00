//! The connections that read: [`Readers`].
//!
//! A point look-up takes four microseconds and a hop to another thread ten to forty, so look-ups run on the thread that
//! asks, on one of a few connections; a busy database or no free connection sends them to a reading thread after all,
//! which may wait. Whatever reads more than a handful of rows goes there at once.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use counterfoil_core::{Abilities, Client, Epoch, StoreError};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::fault::Fault;
use super::place::Place;

/// Reads that may wait for a thread.
const QUEUE: usize = 1_024;
/// Threads for what takes longer: one for a page of a long list, one for whoever comes meanwhile.
const THREADS: usize = 2;

/// Where a read waits that is not answered on the thread that asks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lane {
    /// With whatever a request of a user waits for: pages in an index.
    Pages,
    /// With what may read a table to its end, on a thread of its own: what staff look for by something rare, and what
    /// goes over everything. However long it takes, no user's request stands behind it.
    Searches,
}

/// What the two lanes are fed through.
struct Lanes {
    pages: SyncSender<Errand>,
    searches: SyncSender<Errand>,
}

impl Lanes {
    fn of(&self, lane: Lane) -> &SyncSender<Errand> {
        match lane {
            Lane::Pages => &self.pages,
            Lane::Searches => &self.searches,
        }
    }
}

/// A connection that reads, and what all of them share.
pub(super) struct Reader {
    pub(super) connection: Connection,
    pub(super) shared: Arc<Shared>,
}

/// What need not be parsed anew for every row.
#[derive(Debug)]
pub(super) struct Shared {
    clients: RwLock<BTreeMap<i64, Arc<Client>>>,
    everything: Abilities,
}

impl Shared {
    /// The client of this key, if it was kept as of this version and epoch.
    pub(super) fn client(&self, key: i64, version: u64, epoch: Epoch) -> Option<Arc<Client>> {
        let clients = self.clients.read().unwrap_or_else(PoisonError::into_inner);
        clients.get(&key).filter(|client| client.version == version && client.epoch == epoch).map(Arc::clone)
    }

    /// Keeps it for the next one who asks.
    pub(super) fn keep(&self, key: i64, client: &Arc<Client>) {
        self.clients.write().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(client));
    }

    /// The set that almost every token carries, without parsing or allocating it.
    pub(super) fn everything(&self) -> Abilities {
        self.everything.clone()
    }
}

type Errand = Box<dyn FnOnce(&mut Seat) + Send>;

/// A place for one connection, which is opened when it is first needed.
#[derive(Default)]
pub(super) struct Seat {
    reader: Option<Reader>,
    /// Which generation it was opened in.
    generation: u64,
}

/// All connections that read.
pub(super) struct Readers {
    place: Arc<Place>,
    shared: Arc<Shared>,
    seats: Box<[Mutex<Seat>]>,
    /// Grows when no connection opened before is to be trusted.
    generation: AtomicU64,
    busy_timeout: Duration,
    lanes: RwLock<Option<Lanes>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Readers")
    }
}

impl Readers {
    pub(super) fn start(place: Arc<Place>, busy_timeout: Duration) -> std::io::Result<Arc<Readers>> {
        let seats = thread::available_parallelism().map_or(2, usize::from).clamp(2, 16);
        let (pages, of_pages) = sync_channel::<Errand>(QUEUE);
        let (searches, of_searches) = sync_channel::<Errand>(QUEUE);
        let of_pages = Arc::new(Mutex::new(of_pages));
        let runners = std::iter::repeat_n(of_pages, THREADS).chain([Arc::new(Mutex::new(of_searches))]);
        let threads = runners
            .map(|errands| {
                thread::Builder::new().name("counterfoil-read".to_owned()).spawn(move || run_errands(&errands))
            })
            .collect::<Result<_, _>>()?;
        Ok(Arc::new(Readers {
            place,
            shared: Arc::new(Shared { clients: RwLock::default(), everything: Abilities::everything() }),
            seats: (0..seats).map(|_| Mutex::default()).collect(),
            generation: AtomicU64::new(0),
            busy_timeout,
            lanes: RwLock::new(Some(Lanes { pages, searches })),
            threads: Mutex::new(threads),
        }))
    }

    /// A look-up: on this thread if that needs no waiting.
    pub(super) async fn look_up<A, T>(
        self: &Arc<Self>,
        doing: &'static str,
        wanted: &A,
        read: fn(&Reader, &A) -> Result<T, Fault>,
    ) -> Result<T, StoreError>
    where
        A: Clone + Send + 'static,
        T: Send + 'static,
    {
        match self.here(|reader| read(reader, wanted)) {
            Some(answer) => answer.map_err(|fault| fault.while_doing(doing)),
            None => {
                let wanted = wanted.clone();
                self.elsewhere(doing, Lane::Pages, move |reader| read(reader, &wanted)).await
            }
        }
    }

    /// Reads on this thread; `None` where that would mean waiting.
    fn here<T>(&self, read: impl Fn(&Reader) -> Result<T, Fault>) -> Option<Result<T, Fault>> {
        if self.lanes.read().unwrap_or_else(PoisonError::into_inner).is_none() {
            return Some(Err(Fault::Closed));
        }
        let first = my_seat();
        for distance in 0..self.seats.len() {
            let place = &self.seats[(first + distance) % self.seats.len()];
            let mut seat = match place.try_lock() {
                Ok(seat) => seat,
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Poisoned(poisoned)) => {
                    // Somebody panicked while reading; the connection may be in the middle of something. The next one
                    // is as good as any.
                    let mut seat = poisoned.into_inner();
                    seat.reader = None;
                    place.clear_poison();
                    seat
                }
            };
            return match self.read_in(&mut seat, Duration::ZERO, &read) {
                Err(fault) if fault.is_busy() => None,
                answer => Some(answer),
            };
        }
        None
    }

    /// Reads on a reading thread, waiting for a turn.
    pub(super) async fn elsewhere<T: Send + 'static>(
        self: &Arc<Self>,
        doing: &'static str,
        lane: Lane,
        read: impl Fn(&Reader) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let readers = Arc::clone(self);
        let errand: Errand = Box::new(move |seat| {
            if reply.is_closed() {
                return; // whoever asked has gone while this waited
            }
            let work = AssertUnwindSafe(|| readers.read_in(seat, readers.busy_timeout, &read));
            let outcome = catch_unwind(work).unwrap_or_else(|_| {
                seat.reader = None;
                Err(Fault::Panicked)
            });
            reply.send(outcome).ok();
        });
        match &*self.lanes.read().unwrap_or_else(PoisonError::into_inner) {
            None => return Err(Fault::Closed.while_doing(doing)),
            Some(lanes) => match lanes.of(lane).try_send(errand) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => return Err(Fault::Crowded.while_doing(doing)),
                Err(TrySendError::Disconnected(_)) => return Err(Fault::Abandoned.while_doing(doing)),
            },
        }
        answer.await.unwrap_or(Err(Fault::Abandoned)).map_err(|fault| fault.while_doing(doing))
    }

    fn read_in<T>(
        &self,
        seat: &mut Seat,
        busy_timeout: Duration,
        read: impl Fn(&Reader) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let generation = self.generation.load(Ordering::Acquire);
        if seat.generation != generation {
            seat.reader = None;
        }
        let reader = match &mut seat.reader {
            Some(reader) => reader,
            empty => {
                seat.generation = generation;
                let connection = self.place.reading(busy_timeout)?;
                empty.insert(Reader { connection, shared: Arc::clone(&self.shared) })
            }
        };
        let answer = read(reader);
        let connection = &reader.connection;
        let still_reading = answer.is_err() && !connection.is_autocommit();
        let spoilt = answer.as_ref().is_err_and(Fault::spoils_the_connection)
            || (still_reading && connection.execute_batch("ROLLBACK").is_err());
        if spoilt {
            seat.reader = None;
        }
        answer
    }

    /// Nothing that was opened before now is used again.
    pub(super) fn reopen(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.leave_seats();
    }

    /// Seats that a panic has poisoned and nobody has taken since.
    #[cfg(test)]
    pub(super) fn poisoned_seats(&self) -> usize {
        self.seats.iter().filter(|seat| seat.is_poisoned()).count()
    }

    fn leave_seats(&self) {
        for seat in &self.seats {
            seat.lock().unwrap_or_else(PoisonError::into_inner).reader = None;
            seat.clear_poison();
        }
    }

    /// Lets the threads finish what waits, and closes every connection.
    pub(super) fn close(&self) {
        drop(self.lanes.write().unwrap_or_else(PoisonError::into_inner).take());
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            thread.join().ok();
        }
        self.leave_seats();
    }
}

/// A thread comes back to the same seat, whose cache knows what it reads.
fn my_seat() -> usize {
    static SEATED: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: Cell<usize> = Cell::new(SEATED.fetch_add(1, Ordering::Relaxed));
    }
    MINE.get()
}

fn run_errands(errands: &Mutex<Receiver<Errand>>) {
    let mut seat = Seat::default();
    loop {
        // Held while waiting, so that the other thread waits for the lock instead; let go before the errand is run.
        let next = errands.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(errand) = next else { return };
        errand(&mut seat);
    }
}
