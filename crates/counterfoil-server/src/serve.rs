//! `counterfoil serve`: [`App`], the server of one process.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use counterfoil::{Authority, Counterfoil, Http, KeyRing, Settings};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown};
use tokio::sync::watch;
use tower::ServiceExt;

use crate::config::Config;
use crate::connection::{Admitted, Entrance};
use crate::exposition::Exposition;
use crate::failure::{Failure, causes};
use crate::listen::Listener;
use crate::mail_settings::CurrentMailer;
use crate::mounts::Mounts;
use crate::service_manager;
use crate::store_place::StorePlace;

/// Fields of the head of a request; beyond it the answer is 431.
const HEAD_FIELDS: usize = 100;
/// Connections at once to the page of what is measured.
const MOST_READERS: NonZeroUsize = NonZeroUsize::new(16).expect("16 is not zero");
/// After a failure to accept a connection, mostly because no file descriptor is left: time for others to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long requests that were on their way when the server was told to stop may take to arrive.
const LAST_REQUESTS: Duration = Duration::from_millis(100);

/// What the operator said to do with a store that has lost commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rewound {
    /// Nothing.
    Refuse,
    /// To go on from it.
    Accept,
    /// To go on from it and end every token issued before.
    Revoke,
    /// To begin with no token in a Redis that has lost them all.
    BeginTokens,
}

/// A deployment opened for serving, with its routes.
#[derive(Debug)]
pub struct App {
    counterfoil: Counterfoil,
    http: Http,
    mailer: Arc<CurrentMailer>,
    mounts: Mounts,
    in_force: watch::Sender<InForce>,
    max_connections: NonZeroUsize,
    shutdown_grace: Duration,
}

/// What the next connection and the next request are served by.
#[derive(Debug, Clone)]
struct InForce {
    router: Router,
    head_timeout: Duration,
    head_bytes: usize,
    write_timeout: Duration,
}

impl InForce {
    fn new(http: &Http, mounts: &Mounts, config: &Config) -> InForce {
        let Config { head_timeout, head_bytes, write_timeout, .. } = *config;
        InForce { router: mounts.beside(http.router(), http), head_timeout, head_bytes, write_timeout }
    }
}

/// Puts new settings in force in a server that runs.
#[derive(Debug)]
pub(crate) struct Adoption {
    http: Http,
    mailer: Arc<CurrentMailer>,
    /// Those that the server was started with: their clients have been prepared.
    mounts: Mounts,
    /// Where it is listened.
    url: String,
    in_force: watch::Sender<InForce>,
}

impl Adoption {
    /// Requests from now on, on whatever connection, go by `config`; those under way finish as they began.
    ///
    /// # Errors
    /// When the key ring is gone or another one, a template does not work, or the store cannot tell; then nothing has changed.
    pub(crate) async fn adopt(&self, mut config: Config, ring: Option<KeyRing>) -> Result<(), Failure> {
        config.listening_on(&self.url);
        let mailer = config.mail.postman()?;
        let authority = self.http.authority();
        // The hashing threads have the memory for those they were started with.
        let settings = Settings { hashing: authority.settings().hashing, ..config.authority.clone() };
        authority.adopt(settings, ring, self.http.clock().now()).await?;
        self.mailer.replace(mailer);
        let http = self.http.with_settings(config.http.clone());
        self.in_force.send_replace(InForce::new(&http, &self.mounts, &config));
        Ok(())
    }
}

impl App {
    /// Opens the store and starts the work in the background. Nothing is served yet.
    pub(crate) async fn open(config: &Config, rewound: Rewound) -> Result<App, Failure> {
        let mailer = Arc::new(CurrentMailer::new(config.mail.postman()?));
        let builder = config
            .begun()
            .mail(Arc::clone(&mailer) as _)
            .settings(config.authority.clone())
            .hashing(config.capacity)
            .cached_tokens(config.cached_tokens);
        let builder = match rewound {
            Rewound::Refuse => builder,
            Rewound::BeginTokens if config.tokens.is_none() => {
                return Err(Failure::usage(
                    "--begin-tokens-anew is for tokens in Redis, and store.tokens_url is not set",
                ));
            }
            Rewound::BeginTokens => builder.begin_tokens_anew(),
            Rewound::Accept | Rewound::Revoke if config.store != StorePlace::DataDir => {
                return Err(Failure::usage("--accept-rewind and --revoke-rewound are for the embedded store").hint(
                    "after a PostgreSQL was put back to an earlier state: `counterfoil token revoke --everybody --yes`",
                ));
            }
            Rewound::Revoke if config.tokens.is_some() => {
                return Err(Failure::usage("--revoke-rewound is for tokens that are where everything is, and yours are in Redis").hint(
                    "they are as they were: `--accept-rewind`, and to end them all `counterfoil token revoke --everybody --yes`",
                ));
            }
            Rewound::Accept => builder.accept_rewind(),
            Rewound::Revoke => builder.revoke_rewound(),
        };
        let builder = match config.key_ring()? {
            Some(ring) => builder.key_ring(ring),
            None => builder,
        };
        let builder = match &config.limits {
            Some(address) => builder.limits_in_redis(address.clone()),
            None => builder,
        };
        let counterfoil = builder.start().await?;
        let http = counterfoil.http(config.http.clone());
        config.mounts.prepare(&http).await?;
        let (in_force, _) = watch::channel(InForce::new(&http, &config.mounts, config));
        Ok(App {
            counterfoil,
            http,
            mailer,
            mounts: config.mounts.clone(),
            in_force,
            max_connections: config.max_connections,
            shutdown_grace: config.shutdown_grace,
        })
    }

    /// The deployment.
    pub fn counterfoil(&self) -> &Counterfoil {
        &self.counterfoil
    }

    /// The routes, for a caller that brings its own requests.
    pub fn router(&self) -> Router {
        self.in_force.borrow().router.clone()
    }

    /// What puts new settings in force while [`App::serve`] runs, listening on `url`.
    pub(crate) fn adoption(&self, url: String) -> Adoption {
        let (http, mailer, in_force) = (self.http.clone(), Arc::clone(&self.mailer), self.in_force.clone());
        Adoption { http, mailer, mounts: self.mounts.clone(), url, in_force }
    }

    /// Serves until `stop`; then takes no more connections, lets the requests under way finish within the grace, and closes
    /// everything.
    pub async fn serve(self, listener: impl Into<Listener>, stop: impl Future<Output = ()>) {
        let entrance = Entrance::new("main", listener.into(), self.max_connections);
        let connections = let_in(entrance, self.in_force.subscribe(), stop).await;
        tracing::info!("stopping");
        service_manager::stopping();
        if tokio::time::timeout(self.shutdown_grace, connections.shutdown()).await.is_err() {
            tracing::warn!("requests that had not finished within the shutdown grace were cut off");
        }
        self.counterfoil.shutdown().await;
    }

    /// Shows what is measured, on a listener of its own, for as long as it is polled.
    pub(crate) fn expose(
        &self,
        exposition: &Exposition,
        listener: Listener,
    ) -> impl Future<Output = ()> + Send + 'static {
        let entrance = Entrance::new("metrics", listener, MOST_READERS);
        let router = exposition.router();
        let (_, in_force) = watch::channel(InForce { router, ..self.in_force.borrow().clone() });
        let keep_small = exposition.clone().keep_small();
        async move { drop(let_in(entrance, in_force, keep_small).await) }
    }

    /// Tells the operator how to make the first administrator, if there is none. Looks in the background: it need not be
    /// known before the first request.
    ///
    /// `place` is what the command has to be told to find the store; empty: nothing.
    pub(crate) fn look_for_administrator(&self, place: String) {
        let authority = Arc::clone(self.counterfoil.authority());
        tokio::spawn(async move { look_for_administrator(&authority, &place).await });
    }
}

/// Lets clients in until `stop`, and answers them; returns the connections that are open then.
///
/// Who has connected by then has been taken on by the system in our name and may have sent a request already. So the queue is
/// emptied first, and the connections are left alone for a moment: told at once, those not yet read from would be closed.
async fn let_in(
    mut entrance: Entrance,
    in_force: watch::Receiver<InForce>,
    stop: impl Future<Output = ()>,
) -> GracefulShutdown {
    let connections = GracefulShutdown::new();
    let let_in = |admitted| {
        let connection = connections.watch(answering(admitted, in_force.clone()));
        tokio::spawn(async move {
            // How it ends is the client's business: it hung up, was too slow, did not read, or sent a head that is none.
            if let Err(error) = connection.await {
                tracing::debug!(error = causes(&error), "a connection ended badly");
            }
        });
    };
    let mut stop = std::pin::pin!(stop);
    loop {
        let admitted = tokio::select! {
            admitted = entrance.next() => admitted,
            () = &mut stop => break,
        };
        match admitted {
            Ok(admitted) => let_in(admitted),
            Err(error) => rest(&error).await,
        }
    }
    entrance.close().for_each(let_in);
    tokio::time::sleep(LAST_REQUESTS).await;
    connections
}

/// A connection of HTTP/1.1, each request of which goes by what is in force when it comes.
fn answering(
    admitted: Admitted,
    in_force: watch::Receiver<InForce>,
) -> impl GracefulConnection<Error = hyper::Error> + Send {
    let InForce { head_timeout, head_bytes, write_timeout, .. } = *in_force.borrow();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head_timeout).max_headers(HEAD_FIELDS);
    http.max_header_size(head_bytes).max_buf_size(head_bytes);
    let peer = admitted.peer;
    let service = service_fn(move |mut request: Request<Incoming>| {
        peer.put_into(request.extensions_mut());
        let router = in_force.borrow().router.clone();
        router.oneshot(request.map(Body::new))
    });
    http.serve_connection(TokioIo::new(admitted.connection(write_timeout)), service)
}

async fn look_for_administrator(authority: &Authority, place: &str) {
    match authority.has_administrator().await {
        Ok(true) => {}
        Ok(false) => tracing::warn!(
            "there is no administrator yet; make one with: counterfoil {place}user create root --admin --password-stdin < FILE"
        ),
        Err(error) => tracing::error!(error = causes(&error), "cannot tell whether there is an administrator"),
    }
}

/// Waits out a failure to accept, unless it is the failure of one connection.
async fn rest(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};

    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        tracing::error!(%error, "cannot accept connections");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// Ends when the process is told to stop. From then on a second word ends `again`.
#[cfg(unix)]
pub(crate) fn told_to_stop() -> io::Result<(impl Future<Output = ()>, impl Future<Output = ()>)> {
    use tokio::signal::unix::{SignalKind, signal};

    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (said, heard) = watch::channel(0_u32);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            said.send_modify(|times| *times += 1);
        }
    });
    let wait = |mut heard: watch::Receiver<u32>, least: u32| async move {
        heard.wait_for(|times| *times >= least).await.ok();
    };
    Ok((wait(heard.clone(), 1), wait(heard, 2)))
}

/// Ends when the process is told to stop. From then on a second word ends `again`.
#[cfg(not(unix))]
pub(crate) fn told_to_stop() -> io::Result<(impl Future<Output = ()>, impl Future<Output = ()>)> {
    let (said, heard) = watch::channel(0_u32);
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            said.send_modify(|times| *times += 1);
        }
    });
    let wait = |mut heard: watch::Receiver<u32>, least: u32| async move {
        heard.wait_for(|times| *times >= least).await.ok();
    };
    Ok((wait(heard.clone(), 1), wait(heard, 2)))
}
