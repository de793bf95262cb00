//! The way in: [`Entrance`], which lets in so many connections at once, and [`Connection`], which does not wait for ever for
//! a client that does not read.

use std::io;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use metrics::{Counter, Gauge, counter, gauge};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

use crate::listen::{Listener, Peer};

/// Where connections come in.
#[derive(Debug)]
pub(crate) struct Entrance {
    listener: Listener,
    places: Arc<Semaphore>,
    most: usize,
    /// Whether the operator was told that every place is taken; again only after half of them were free.
    told: bool,
    open: Gauge,
    accepted: Counter,
}

impl Entrance {
    /// `name` is what the listener is called where connections are counted.
    pub(crate) fn new(name: &'static str, listener: Listener, most: NonZeroUsize) -> Entrance {
        let most = most.get();
        let open = gauge!("counterfoil_connections_open", "listener" => name);
        let accepted = counter!("counterfoil_connections_accepted_total", "listener" => name);
        Entrance { listener, places: Arc::new(Semaphore::new(most)), most, told: false, open, accepted }
    }

    /// The next connection. While every place is taken it stays in the queue of the kernel, not hung up on: the rush may
    /// be over before its client gives up.
    ///
    /// # Errors
    /// When the system does not hand one out. What to do about it, and when to ask again, is for the caller to know.
    pub(crate) async fn next(&mut self) -> io::Result<Admitted> {
        self.tell_of_crowds();
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, peer) = self.listener.accept().await?;
        self.accepted.increment(1);
        Ok(Admitted { stream, peer, place: Place::taken(place, &self.open) })
    }

    /// Closes the door behind those who stand in it already, as far as there are places for them.
    pub(crate) fn close(self) -> impl Iterator<Item = Admitted> {
        let Entrance { listener, places, open, accepted, .. } = self;
        listener.close().map_while(move |(stream, peer)| {
            let place = Arc::clone(&places).try_acquire_owned().ok()?;
            accepted.increment(1);
            Some(Admitted { stream, peer, place: Place::taken(place, &open) })
        })
    }

    fn tell_of_crowds(&mut self) {
        let free = self.places.available_permits();
        if free == 0 && !self.told {
            tracing::warn!(http.max_connections = self.most, "every connection is taken; new ones wait");
            self.told = true;
        } else if free > self.most / 2 {
            self.told = false;
        }
    }
}

/// A client that has been let in.
#[derive(Debug)]
pub(crate) struct Admitted {
    stream: Stream,
    pub(crate) peer: Peer,
    place: Place,
}

/// One of the connections that may be open at once.
#[derive(Debug)]
struct Place {
    open: Gauge,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    fn taken(permit: OwnedSemaphorePermit, open: &Gauge) -> Place {
        open.increment(1);
        Place { open: open.clone(), _permit: permit }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.decrement(1);
    }
}

impl Admitted {
    /// What to speak over, on which a write has so long to make progress.
    pub(crate) fn connection(self, write_timeout: Duration) -> Connection {
        Connection { stream: self.stream, write_timeout, stalled: None, _place: self.place }
    }
}

/// The bytes of a connection.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
}

/// Either stream, as what both of them are.
trait Bytes: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Bytes for T {}

impl Stream {
    fn bytes(&mut self) -> Pin<&mut dyn Bytes> {
        match self {
            Stream::Tcp(stream) => Pin::new(stream),
            #[cfg(unix)]
            Stream::Unix(stream) => Pin::new(stream),
        }
    }

    /// Closing it is the end, and the kernel does not go on offering what the other side has not read.
    fn forget_what_waits(&self) {
        match self {
            // A refusal costs the kernel's memory alone.
            Stream::Tcp(stream) => drop(stream.set_zero_linger()),
            // What waits in a Unix socket is charged to whoever reads it.
            #[cfg(unix)]
            Stream::Unix(_) => {}
        }
    }
}

/// A client's stream. A write that makes no progress for the timeout ends it, or whoever asks for much and reads nothing
/// would hold memory and a descriptor for as long as they like. Reading has limits of its own, of heads and of bodies.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    write_timeout: Duration,
    /// When a write that waits has waited long enough.
    stalled: Option<Pin<Box<Sleep>>>,
    /// After the stream, so that the descriptor is free before the place is.
    _place: Place,
}

impl Connection {
    /// What the stream said to a write, or the end of the patience with it.
    fn unless_stalled<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timeout = self.write_timeout;
        ready!(self.stalled.get_or_insert_with(|| Box::pin(sleep(timeout))).as_mut().poll(context));
        self.stream.forget_what_waits();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answers")))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream.bytes().poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.stream.bytes().poll_write(context, bytes);
        self.unless_stalled(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream.bytes().poll_write_vectored(context, parts);
        self.unless_stalled(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Tcp(stream) => stream.is_write_vectored(),
            #[cfg(unix)]
            Stream::Unix(stream) => stream.is_write_vectored(),
        }
    }

    // A socket has nothing to flush and shuts down at once: neither waits for the client, and neither is progress.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.bytes().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.bytes().poll_shutdown(context)
    }
}
