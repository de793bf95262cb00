//! One connection: [`Session`].

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Config, Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::column::Value;
use super::fault::Fault;
use super::settings::{Pooler, Settings, host_of};

/// How long one host may take to let us in, from the first packet to the first answer.
pub(super) const ADMISSION: Duration = Duration::from_secs(4);

/// One connection. Statements may be sent over it while others are under way: they are carried out in the order in which they
/// were sent.
pub(super) struct Session {
    client: Client,
    /// For the connection of its own by which [`Session::cancel`] speaks.
    tls: MakeRustlsConnect,
    pooler: Pooler,
    /// How a transaction begins here.
    begin: String,
    /// What the server has prepared already, by its text.
    prepared: Mutex<HashMap<Box<str>, Statement>>,
    /// Whether the server has stopped waiting for a standby since [`Session::begin`].
    unreplicated: Arc<AtomicBool>,
    /// Whether a statement has failed since [`Session::begin`]: then a COMMIT is carried out as a ROLLBACK, and says so to nobody.
    failed: AtomicBool,
    /// What reads and writes the connection.
    driver: AbortHandle,
    /// Whether the server is behind with what it was asked, and nobody waits for it any more.
    left: AtomicBool,
}

/// What the server was asked and has not answered keeps a connection open beyond its client. Cut, the server gives up with the next
/// answer that it cannot send.
impl Drop for Session {
    fn drop(&mut self) {
        if *self.left.get_mut() {
            self.driver.abort();
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session")
    }
}

/// What hears of everything that the server says without having been asked.
pub(super) type Told = Arc<dyn Fn(&AsyncMessage) + Send + Sync>;

/// A statement and what it is about, for [`Session::flight`].
pub(super) type Step<'a> = (&'a str, &'a [Value<'a>]);

impl Session {
    /// Connects to the first of the hosts that lets us in and takes writes, beginning with the one that did last. Must be called
    /// on the runtime.
    ///
    /// # Errors
    /// [`Fault::Unreachable`], which names the hosts and what each said.
    pub(super) async fn connect(settings: &Settings, told: Option<Told>) -> Result<Session, Fault> {
        let mut tried = Vec::new();
        let count = settings.hosts.len();
        let last = settings.last.load(Ordering::Acquire);
        for (place, host) in settings.hosts.iter().enumerate().cycle().skip(last).take(count) {
            let admission = Session::admitted(settings, host, told.clone());
            match tokio::time::timeout(ADMISSION, admission).await {
                Ok(Ok(session)) => {
                    settings.last.store(place, Ordering::Release);
                    return Ok(session);
                }
                Ok(Err(fault)) => tried.push(format!("{}: {fault}", host_of(host))),
                Err(_) => tried.push(format!("{}: no answer", host_of(host))),
            }
        }
        Err(Fault::Unreachable(tried))
    }

    async fn admitted(settings: &Settings, host: &Config, told: Option<Told>) -> Result<Session, Fault> {
        let (client, mut connection) = host.connect(settings.tls.clone()).await?;
        let unreplicated = Arc::new(AtomicBool::new(false));
        let driver = tokio::spawn({
            let unreplicated = Arc::clone(&unreplicated);
            async move {
                while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
                    let Ok(message) = message else { return };
                    // The one warning that matters has no code of its own and comes in the server's language.
                    if let AsyncMessage::Notice(notice) = &message
                        && notice.routine().is_some_and(|routine| routine.starts_with("SyncRep"))
                    {
                        unreplicated.store(true, Ordering::Release);
                    }
                    if let Some(told) = &told {
                        told(&message);
                    }
                }
            }
        });
        let (driver, left) = (driver.abort_handle(), AtomicBool::new(false));
        let pooler = settings.pooler;
        let limits = limits(settings.statement_timeout);
        let begin = match pooler {
            Pooler::None => {
                session_limits(&client, &limits).await?;
                BEGIN.to_owned()
            }
            // What is set for a session would hold for whoever is dealt the connection next.
            Pooler::Transaction => {
                limits.iter().fold(BEGIN.to_owned(), |begin, limit| format!("{begin}; SET LOCAL {limit}"))
            }
        };
        let (prepared, failed) = (Mutex::default(), AtomicBool::new(false));
        let tls = settings.tls.clone();
        Ok(Session { client, tls, pooler, begin, prepared, unreplicated, failed, driver, left })
    }

    /// Nobody comes to this one any more: it is cut off when the last one who waits for it has gone.
    pub(super) fn leave(&self) {
        self.left.store(true, Ordering::Release);
    }

    /// Whether nothing can be sent any more.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// All rows of a statement.
    pub(super) async fn query(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, Fault> {
        let rows = match self.pooler {
            Pooler::None => {
                let statement = self.prepare(sql, values).await?;
                self.client.query(&statement, &bound(values)).await
            }
            Pooler::Transaction => self.client.query_typed(sql, &typed(values)).await,
        };
        self.noted(rows)
    }

    /// The row of a statement that gives at most one.
    pub(super) async fn query_opt(&self, sql: &str, values: &[Value<'_>]) -> Result<Option<Row>, Fault> {
        let mut rows = self.query(sql, values).await?;
        let row = rows.pop();
        if rows.is_empty() { Ok(row) } else { Err(Fault::Miscounted) }
    }

    /// The row of a statement that gives one.
    pub(super) async fn query_one(&self, sql: &str, values: &[Value<'_>]) -> Result<Row, Fault> {
        self.query_opt(sql, values).await?.ok_or(Fault::Miscounted)
    }

    /// How many rows a statement changed.
    pub(super) async fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64, Fault> {
        let changed = match self.pooler {
            Pooler::None => {
                let statement = self.prepare(sql, values).await?;
                self.client.execute(&statement, &bound(values)).await
            }
            Pooler::Transaction => self.client.execute_typed(sql, &typed(values)).await,
        };
        self.noted(changed)
    }

    /// Sends several statements at once, and gives the rows of each: the way to the server and back is gone once. They are
    /// carried out in this order; in a transaction, none behind one that fails is.
    pub(super) async fn flight<const N: usize>(&self, steps: [Step<'_>; N]) -> Result<[Vec<Row>; N], Fault> {
        let mut rows = self.fly(&steps).await.map_err(|(_, fault)| fault)?.into_iter();
        Ok(std::array::from_fn(|_| rows.next().unwrap_or_default()))
    }

    /// As [`Session::flight`]; the fault is that of the first that failed, with its place.
    pub(super) async fn fly(&self, steps: &[Step<'_>]) -> Result<Vec<Vec<Row>>, (usize, Fault)> {
        if self.pooler == Pooler::None {
            // What is not prepared would let a later one overtake.
            for (place, (sql, values)) in steps.iter().enumerate() {
                self.prepare(sql, values).await.map_err(|fault| (place, fault))?;
            }
        }
        let mut under_way: Vec<UnderWay<'_>> =
            steps.iter().map(|(sql, values)| UnderWay::Sent(Box::pin(self.query(sql, values)))).collect();
        let mut all_sent = false;
        poll_fn(|context| {
            let mut arrived = true;
            for one in &mut under_way {
                arrived &= one.poll(context);
                // What could not even be sent: a commit behind it would make half a transaction stand.
                if !all_sent && one.has_failed() {
                    return Poll::Ready(());
                }
            }
            all_sent = true;
            if arrived { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        // Those behind the first that failed only say that the transaction has, and those before one that could not be sent have no
        // answer yet.
        if let Some(place) = under_way.iter().position(UnderWay::has_failed)
            && let UnderWay::Arrived(Err(fault)) = under_way.swap_remove(place)
        {
            return Err((place, fault));
        }
        let answers = under_way.into_iter().enumerate().map(|(place, one)| match one {
            UnderWay::Arrived(answer) => answer.map_err(|fault| (place, fault)),
            UnderWay::Sent(_) => Err((place, Fault::Miscounted)), // unreachable: all have arrived, or one has failed
        });
        answers.collect()
    }

    /// Adds rows to a table, all of them of the same columns: by COPY, but where a pooler deals out connections one statement for
    /// each, because COPY wants a statement with a name.
    pub(super) async fn load(&self, table: &str, columns: &str, rows: &[Vec<Value<'_>>]) -> Result<(), Fault> {
        let Some(first) = rows.first() else { return Ok(()) };
        match self.pooler {
            Pooler::None => {
                let copy = format!("COPY {table} ({columns}) FROM STDIN (FORMAT binary)");
                let statement = self.prepare(&copy, &[]).await?;
                let types: Vec<Type> = first.iter().map(Value::sql_type).collect();
                self.noted(copy_in(&self.client, &statement, &types, rows).await)
            }
            Pooler::Transaction => {
                let places: Vec<String> = (1..=first.len()).map(|place| format!("${place}")).collect();
                let insert = format!("INSERT INTO {table} ({columns}) VALUES ({})", places.join(", "));
                let steps: Vec<Step<'_>> = rows.iter().map(|values| (insert.as_str(), values.as_slice())).collect();
                self.fly(&steps).await.map(drop).map_err(|(_, fault)| fault)
            }
        }
    }

    /// Begins a transaction.
    pub(super) async fn begin(&self) -> Result<(), Fault> {
        self.unreplicated.store(false, Ordering::Release);
        self.failed.store(false, Ordering::Release);
        self.run(&self.begin).await
    }

    /// Runs statements that take nothing and give nothing.
    pub(super) async fn run(&self, sql: &str) -> Result<(), Fault> {
        self.noted(self.client.batch_execute(sql).await)
    }

    /// Tells the server to leave off what it does here. It may not listen, or have done it already.
    pub(super) async fn cancel(&self) {
        tokio::time::timeout(ADMISSION, self.client.cancel_token().cancel_query(self.tls.clone())).await.ok();
    }

    /// Whether a statement has failed since [`Session::begin`].
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Whether the server has stopped waiting for a standby since [`Session::begin`].
    pub(super) fn is_unreplicated(&self) -> bool {
        self.unreplicated.load(Ordering::Acquire)
    }

    fn noted<T>(&self, answer: Result<T, tokio_postgres::Error>) -> Result<T, Fault> {
        answer.map_err(|error| {
            self.failed.store(true, Ordering::Release);
            error.into()
        })
    }

    async fn prepare(&self, sql: &str, values: &[Value<'_>]) -> Result<Statement, Fault> {
        let known = self.prepared.lock().unwrap_or_else(PoisonError::into_inner).get(sql).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        let types: Vec<Type> = values.iter().map(Value::sql_type).collect();
        let statement = self.noted(self.client.prepare_typed(sql, &types).await)?;
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner).insert(sql.into(), statement.clone());
        Ok(statement)
    }
}

/// Whatever the default of the role is: each transition locks what it restates.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// Every statement of ours finds a few rows in indexes. A plan is made once for a connection and kept until statistics are
/// gathered, and one that was made while the tables were empty would read them whole; to compile one (jit) takes longer than any of
/// them.
pub(super) const PLANNING: [&str; 4] =
    ["enable_seqscan = off", "enable_hashjoin = off", "enable_mergejoin = off", "jit = off"];

/// How long the server works on a statement, and waits for somebody who has begun a transaction and says no more: what they hold
/// is in the way of others.
fn limits(statement_timeout: Duration) -> Vec<String> {
    let millis = statement_timeout.as_millis();
    let limits = [format!("statement_timeout = {millis}"), format!("idle_in_transaction_session_timeout = {millis}")];
    limits.into_iter().chain(PLANNING.map(str::to_owned)).collect()
}

async fn session_limits(client: &Client, limits: &[String]) -> Result<(), Fault> {
    let sets: Vec<String> = limits.iter().map(|limit| format!("SET SESSION {limit}")).collect();
    Ok(client.batch_execute(&sets.join("; ")).await?)
}

async fn copy_in(
    client: &Client,
    statement: &Statement,
    types: &[Type],
    rows: &[Vec<Value<'_>>],
) -> Result<(), tokio_postgres::Error> {
    let mut writer = pin!(BinaryCopyInWriter::new(client.copy_in(statement).await?, types));
    for row in rows {
        writer.as_mut().write(&bound(row)).await?;
    }
    writer.finish().await.map(drop)
}

type Sent<'a> = Pin<Box<dyn Future<Output = Result<Vec<Row>, Fault>> + Send + 'a>>;

/// One statement of a flight.
enum UnderWay<'a> {
    Sent(Sent<'a>),
    Arrived(Result<Vec<Row>, Fault>),
}

impl UnderWay<'_> {
    /// The first poll sends it.
    fn poll(&mut self, context: &mut Context<'_>) -> bool {
        if let UnderWay::Sent(answer) = self
            && let Poll::Ready(answer) = answer.as_mut().poll(context)
        {
            *self = UnderWay::Arrived(answer);
        }
        matches!(self, UnderWay::Arrived(_))
    }

    fn has_failed(&self) -> bool {
        matches!(self, UnderWay::Arrived(Err(_)))
    }
}

fn bound<'a>(values: &'a [Value<'_>]) -> Vec<&'a (dyn ToSql + Sync)> {
    values.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

fn typed<'a>(values: &'a [Value<'_>]) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    values.iter().map(|value| (value as &(dyn ToSql + Sync), value.sql_type())).collect()
}
