//! The way to the primary: [`Link`] finds it, sees that it is one, settles with a server that has begun another life, and sends it
//! scripts.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use counterfoil_core::Timestamp;
use counterfoil_core::entropy::Entropy;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionInfo, Pipeline, PushInfo, PushKind, RedisError, Value};
use tokio::sync::Notify;

use super::address::{Address, Place, Seat};
use super::fault::{Fault, Remedy};
use super::remembered::{Ending, Remembered};
use super::script::{ASSERT_AGAIN, IMPORTED, OPEN, Script, Use};
use super::values::{Reply, endings};
use crate::tally::Tally;

/// So often one question is asked of different connections.
const ATTEMPTS: usize = 3;
/// So many endings are asserted by one script.
const ASSERTED_AT_ONCE: usize = 200;
/// Longer than it takes to find the primary and to end again all that is remembered.
const CONNECTING: Duration = Duration::from_secs(15);
/// A connection that waits for replicas answers nobody else meanwhile: so many do.
const WAITING_CONNECTIONS: usize = 4;

/// What a script is asked with, in order.
pub(super) type Args = Vec<Vec<u8>>;

#[derive(Debug)]
pub(super) struct Link {
    pub(super) address: Address,
    entropy: Arc<dyn Entropy>,
    live: Mutex<Option<Arc<Live>>>,
    gate: tokio::sync::Mutex<()>,
    /// How often nobody was reached: who waited at the gate for one that failed fails with it.
    failures: AtomicU64,
    last_failure: Mutex<String>,
    news: Arc<Notify>,
    remembered: Mutex<Remembered>,
    settled: Mutex<Settled>,
    /// The newest instant that was passed in, for what the link does by itself.
    newest: AtomicI64,
    /// Of the tokens that every question is about.
    tally: OnceLock<Tally>,
}

/// What is known of the server that was spoken to last.
#[derive(Debug, Default)]
struct Settled {
    life: Option<String>,
    /// What the store was opened with, to open it again where it was emptied.
    opening: Option<Args>,
}

/// Connections to one server in one of its lives.
pub(super) struct Live {
    life: String,
    seat: Seat,
    looks: MultiplexedConnection,
    writes: Vec<MultiplexedConnection>,
    turn: AtomicUsize,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("life", &self.life).field("seat", &self.seat).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    pub(super) fn new(address: Address, entropy: Arc<dyn Entropy>) -> Link {
        Link {
            address,
            entropy,
            live: Mutex::default(),
            gate: tokio::sync::Mutex::default(),
            failures: AtomicU64::default(),
            last_failure: Mutex::default(),
            news: Arc::default(),
            remembered: Mutex::default(),
            settled: Mutex::default(),
            newest: AtomicI64::default(),
            tally: OnceLock::new(),
        }
    }

    /// Completes when somebody may have changed something, or the connection has gone.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// What the store is to be opened with again where it is found empty.
    pub(super) fn opened_with(&self, args: Args) {
        lock(&self.settled).opening = Some(args);
    }

    /// From now on every question is about the tokens of this tally, and an error where there are others.
    pub(super) fn ask_about(&self, tally: Tally) {
        self.tally.get_or_init(|| tally);
    }

    /// Whether a store was opened here in this process.
    pub(super) fn was_opened(&self) -> bool {
        lock(&self.settled).opening.is_some()
    }

    /// Remembers what ended.
    pub(super) fn remember(&self, endings: impl IntoIterator<Item = Ending>) {
        let mut remembered = lock(&self.remembered);
        endings.into_iter().for_each(|ending| remembered.add(ending));
    }

    /// What `script` answers. An error is an answer that nobody has; of a script that writes, it may have been carried out all the same.
    pub(super) async fn run(self: &Arc<Self>, script: &Script, now: Timestamp, args: &Args) -> Result<Reply, Fault> {
        self.newest.fetch_max(now.millis(), Ordering::Relaxed);
        let patience = match script.usage {
            Use::Writing | Use::Ending if self.address.wait_replicas > 0 => {
                self.address.timeout + self.address.wait_timeout
            }
            Use::Reading | Use::Writing | Use::Ending => self.address.timeout,
        };
        let asked = Mutex::new(None);
        match tokio::time::timeout(patience, self.attempts(script, now, args, &asked)).await {
            Ok(answer) => answer,
            Err(_) => {
                // What has not answered for so long is left: on the next one the answer may come at once. Not the one that somebody
                // else has made meanwhile.
                if let Some(live) = lock(&asked).take() {
                    self.leave(&live);
                }
                Err(Fault::Late)
            }
        }
    }

    /// `asked` is whom it asks, as long as it does.
    async fn attempts(
        self: &Arc<Self>,
        script: &Script,
        now: Timestamp,
        args: &Args,
        asked: &Mutex<Option<Arc<Live>>>,
    ) -> Result<Reply, Fault> {
        let mut last = Fault::NoPrimary("no primary was found");
        for _ in 0..ATTEMPTS {
            let live = self.live().await?;
            *lock(asked) = Some(Arc::clone(&live));
            let fault = match self.send(&live, script, now, args).await {
                Ok(reply) => return self.told(script, reply),
                Err(fault) => fault,
            };
            match fault.remedy() {
                Remedy::None => return Err(fault),
                Remedy::ElsewhereAgain => self.leave(&live),
                Remedy::Elsewhere => {
                    self.leave(&live);
                    match script.usage {
                        Use::Reading => {}
                        Use::Writing | Use::Ending => return Err(fault),
                    }
                }
            }
            last = fault;
        }
        Err(last)
    }

    /// What a script that writes has told beside its answer is remembered.
    fn told(&self, script: &Script, reply: Reply) -> Result<Reply, Fault> {
        match script.usage {
            Use::Reading => Ok(reply),
            Use::Writing | Use::Ending => {
                let mut both = reply.list()?;
                let outcome = both.next()?;
                let rows: Vec<Reply> = both.next()?.list()?.collect();
                for row in rows {
                    self.remember(endings(row.list()?)?);
                }
                Ok(outcome)
            }
        }
    }

    async fn send(&self, live: &Live, script: &Script, now: Timestamp, args: &Args) -> Result<Reply, Fault> {
        let by_hash = self.command("EVALSHA", script.hash.as_bytes(), live, script.usage, now, args)?;
        match self.exchange(live, script.usage, by_hash).await {
            Err(Fault::Server(error)) if error.code() == Some("NOSCRIPT") => {
                let by_text = self.command("EVAL", script.text.as_bytes(), live, script.usage, now, args)?;
                self.exchange(live, script.usage, by_text).await
            }
            other => other,
        }
    }

    fn command(
        &self,
        verb: &'static str,
        script: &[u8],
        live: &Live,
        usage: Use,
        now: Timestamp,
        args: &Args,
    ) -> Result<Cmd, Fault> {
        let mut chance = [0; 16];
        match usage {
            Use::Reading => {}
            Use::Writing | Use::Ending => self.entropy.fill(&mut chance).map_err(|_| Fault::NoChance)?,
        }
        let mut command = redis::cmd(verb);
        let tally = self.tally.get().map_or(&[][..], |tally| tally.as_bytes());
        let about = [live.life.as_bytes(), b":", tally].concat();
        command.arg(script).arg(1).arg(&self.address.root).arg(about).arg(now.millis()).arg(&chance[..]);
        command.arg(u64::try_from(self.address.keep_dead.as_millis()).unwrap_or(u64::MAX));
        args.iter().for_each(|arg| {
            command.arg(arg.as_slice());
        });
        Ok(command)
    }

    async fn exchange(&self, live: &Live, usage: Use, command: Cmd) -> Result<Reply, Fault> {
        let wanted = self.address.wait_replicas;
        match usage {
            Use::Writing | Use::Ending if wanted > 0 => {
                let turn = live.turn.fetch_add(1, Ordering::Relaxed) % live.writes.len().max(1);
                let mut connection = live.writes.get(turn).unwrap_or(&live.looks).clone();
                let millis = u64::try_from(self.address.wait_timeout.as_millis()).unwrap_or(u64::MAX);
                let mut both = Pipeline::with_capacity(2);
                both.add_command(command).cmd("WAIT").arg(wanted).arg(millis);
                let mut values: VecDeque<Value> = connection.send_packed_commands(&both, 0, 2).await?.into();
                let (Some(value), Some(waited)) = (values.pop_front(), values.pop_front()) else {
                    return Err(Fault::Unreadable("two answers"));
                };
                let reply = answered(value)?;
                let reached = answered(waited)?.int()?;
                if reached < i64::from(wanted) { Err(Fault::TooFewReplicas { reached, wanted }) } else { Ok(reply) }
            }
            Use::Reading | Use::Writing | Use::Ending => {
                answered(live.looks.clone().send_packed_command(&command).await?)
            }
        }
    }

    /// Leaves a connection for good, if it is still the one that is used.
    fn leave(&self, left: &Arc<Live>) {
        let mut live = lock(&self.live);
        if live.as_ref().is_some_and(|live| Arc::ptr_eq(live, left)) {
            live.take();
        }
    }

    /// The connections that are there, or new ones. Those are made whether or not somebody still waits for them: who is in a hurry
    /// goes, and whoever comes next finds them.
    async fn live(self: &Arc<Self>) -> Result<Arc<Live>, Fault> {
        if let Some(live) = lock(&self.live).clone() {
            return Ok(live);
        }
        let failures = self.failures.load(Ordering::Acquire);
        let link = Arc::clone(self);
        let reaching = tokio::spawn(async move {
            let _at_the_gate = link.gate.lock().await;
            if let Some(live) = lock(&link.live).clone() {
                return Ok(live);
            }
            if link.failures.load(Ordering::Acquire) != failures {
                return Err(Fault::Away(lock(&link.last_failure).clone()));
            }
            let connecting = tokio::time::timeout(CONNECTING, link.connect()).await;
            match connecting.unwrap_or(Err(Fault::Late)) {
                Ok(live) => {
                    let live = Arc::new(live);
                    *lock(&link.live) = Some(Arc::clone(&live));
                    Ok(live)
                }
                Err(fault) => {
                    *lock(&link.last_failure) = fault.to_string();
                    link.failures.fetch_add(1, Ordering::Release);
                    Err(fault)
                }
            }
        });
        reaching.await.unwrap_or(Err(Fault::Stopped))
    }

    // ── Finding and settling ────────────────────────────────────────────────────────────────────────────────────────

    async fn connect(&self) -> Result<Live, Fault> {
        let seat = primary(&self.address).await?;
        let info = self.address.server(&seat)?;
        let news = Arc::clone(&self.news);
        let push = move |push: PushInfo| {
            if matches!(push.kind, PushKind::Message | PushKind::Disconnection) {
                news.notify_one();
            }
            Ok::<(), redis::aio::SendError>(())
        };
        let config = self.config().set_push_sender(push);
        let mut looks = connected(info.clone(), &config).await?;
        looks.subscribe(format!("{}news", self.address.root)).await?;
        let life = life_of_primary(&mut looks).await?;
        let mut writes = Vec::new();
        if self.address.wait_replicas > 0 {
            for _ in 0..WAITING_CONNECTIONS {
                writes.push(connected(info.clone(), &self.config()).await?);
            }
        }
        let live = Live { life, seat, looks, writes, turn: AtomicUsize::new(0) };
        self.settle(&live).await?;
        // Whatever was announced while there was no connection was not heard.
        self.news.notify_one();
        Ok(live)
    }

    fn config(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.address.timeout))
            .set_response_timeout(Some(self.address.timeout + self.address.wait_timeout))
    }

    /// Before anything is asked of a server in a life that is not the one known so far: where it was emptied, what the store was
    /// opened with is put there again; and what is known to have ended is ended again, because this life may not know of it.
    async fn settle(&self, live: &Live) -> Result<(), Fault> {
        let (opening, known) = {
            let settled = lock(&self.settled);
            (settled.opening.clone(), settled.life.clone())
        };
        let now = Timestamp::from_millis(self.newest.load(Ordering::Relaxed));
        let mut emptied = false;
        if let Some(opening) = opening {
            match self.send(live, &IMPORTED, now, &Args::new()).await {
                Err(fault) if fault.is_of_emptiness() => {
                    tracing::error!("Redis holds no store of ours any more: every token is lost, and refused");
                    self.told(&OPEN, self.send(live, &OPEN, now, &opening).await?)?;
                    emptied = true;
                }
                Err(fault) => return Err(fault),
                Ok(_) => {}
            }
        }
        if emptied || known.as_ref().is_some_and(|known| *known != live.life) {
            let endings = lock(&self.remembered).all();
            let mut again = 0;
            for some in endings.chunks(ASSERTED_AT_ONCE) {
                let args: Args = some
                    .iter()
                    .flat_map(|ending| {
                        let [one, two, three] = ending.values.clone();
                        [vec![ending.kind], ending.whose.clone(), one, two, three]
                    })
                    .collect();
                again += self.told(&ASSERT_AGAIN, self.send(live, &ASSERT_AGAIN, now, &args).await?)?.int()?;
            }
            tracing::warn!(
                known = endings.len(),
                again,
                "Redis has begun another life (a restart or a failover): what is known to have ended was ended again \
                 where it had come back"
            );
        }
        lock(&self.settled).life = Some(live.life.clone());
        Ok(())
    }

    /// Leaves a primary that the Sentinels have replaced but that still thinks itself one.
    pub(super) async fn check_primary(&self) {
        let Some(live) = lock(&self.live).clone() else { return };
        if let Ok(Ok(seat)) = tokio::time::timeout(self.address.timeout, primary(&self.address)).await
            && seat != live.seat
        {
            tracing::warn!("the Sentinels name another primary");
            self.leave(&live);
        }
    }

    /// The date of the primary, whatever is kept there.
    pub(super) async fn date(&self) -> Result<Timestamp, Fault> {
        let mut connection = self.aside().await?;
        life_of_primary(&mut connection).await?;
        let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(&mut connection).await?;
        Ok(Timestamp::from_millis(seconds.saturating_mul(1_000).saturating_add(micros / 1_000)))
    }

    /// A connection of its own to the primary, for what no script does.
    pub(super) async fn aside(&self) -> Result<MultiplexedConnection, Fault> {
        let asked = async {
            let seat = primary(&self.address).await?;
            Ok(connected(self.address.server(&seat)?, &self.config()).await?)
        };
        tokio::time::timeout(self.address.timeout, asked).await.map_err(|_| Fault::Late)?
    }
}

/// Where the primary is.
pub(super) async fn primary(address: &Address) -> Result<Seat, Fault> {
    match &address.place {
        Place::Server(seat) => Ok(seat.clone()),
        Place::Sentinels { seats, name } => {
            let mut last = Fault::NoPrimary("there is no Sentinel");
            for seat in seats {
                match ask_sentinel(address, seat, name).await {
                    Ok(Some(primary)) => return Ok(primary),
                    Ok(None) => last = Fault::NoPrimary("the Sentinels know no primary of that name"),
                    Err(fault) => last = fault,
                }
            }
            Err(last)
        }
    }
}

async fn ask_sentinel(address: &Address, seat: &Seat, name: &str) -> Result<Option<Seat>, Fault> {
    // A Sentinel that is away must leave time for the next one.
    let part = address.timeout / 4;
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(part)).set_response_timeout(Some(part));
    let mut connection = connected(address.sentinel(seat)?, &config).await?;
    let told: Option<(String, u16)> =
        redis::cmd("SENTINEL").arg("get-master-addr-by-name").arg(name).query_async(&mut connection).await?;
    Ok(told.map(|(host, port)| Seat::Host(host, port)))
}

pub(super) async fn connected(
    info: ConnectionInfo,
    config: &AsyncConnectionConfig,
) -> Result<MultiplexedConnection, RedisError> {
    Client::open(info)?.get_multiplexed_async_connection_with_config(config).await
}

fn answered(value: Value) -> Result<Reply, Fault> {
    if let Value::ServerError(error) = value { Err(Fault::Server(error.into())) } else { Ok(Reply::from(value)) }
}

/// What a primary calls this life of it.
pub(super) async fn life_of_primary(connection: &mut MultiplexedConnection) -> Result<String, Fault> {
    let about: String = redis::cmd("INFO").arg("replication").query_async(connection).await?;
    let field = |name: &str| about.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    if field("role") != Some("master") {
        return Err(Fault::NoPrimary("that server is a replica"));
    }
    field("master_replid").map(str::to_owned).ok_or(Fault::Unreadable("INFO replication"))
}
