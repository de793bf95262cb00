//! Where to listen: [`Place`] as it was chosen, [`Listener`] once it is open.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use axum::extract::ConnectInfo;
#[cfg(unix)]
use counterfoil::UnixPeer;
use http::Extensions;
use tokio::net::{TcpListener, TcpStream};

use crate::connection::Stream;
use crate::failure::{Failure, printable};

#[cfg(unix)]
use self::socket::SocketFile;

/// Where to listen, as the operator chose it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On an address and a port; port 0 takes any free one.
    Address(SocketAddr),
    /// On a Unix socket, made at this path.
    UnixSocket(PathBuf),
    /// On the one socket that systemd hands over.
    Systemd,
}

/// What takes connections.
#[derive(Debug)]
pub struct Listener(Kind);

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix {
        listener: tokio::net::UnixListener,
        /// None where somebody else made the socket, who also keeps it.
        file: Option<SocketFile>,
    },
}

/// Who is at the other end of a connection, as far as the system says.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Peer {
    Address(SocketAddr),
    #[cfg(unix)]
    UnixSocket,
}

impl Place {
    /// Reads `127.0.0.1:8080`, `unix:/run/counterfoil.sock` or `systemd`.
    pub(crate) fn parse(text: &str) -> Result<Place, String> {
        if text == "systemd" {
            return if cfg!(unix) { Ok(Place::Systemd) } else { Err("there is no systemd here".to_owned()) };
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                _ if !cfg!(unix) => Err("there are no Unix sockets here".to_owned()),
                "" => Err("expected a path after unix: \"unix:/run/counterfoil/counterfoil.sock\"".to_owned()),
                path => Ok(Place::UnixSocket(path.into())),
            };
        }
        text.parse().map(Place::Address).map_err(|_| {
            "expected an address and a port: \"127.0.0.1:8080\", \"[::1]:8080\"; or \"unix:PATH\", or \"systemd\""
                .to_owned()
        })
    }

    /// Begins to listen there.
    pub(crate) async fn open(&self) -> Result<Listener, Failure> {
        match self {
            Place::Address(address) => Listener::on_address(*address).await,
            #[cfg(unix)]
            Place::UnixSocket(path) => Listener::on_socket(path).await,
            #[cfg(unix)]
            Place::Systemd => Listener::handed_over(),
            #[cfg(not(unix))]
            Place::UnixSocket(_) | Place::Systemd => Err(Failure::usage(format!("cannot listen on {self} here"))),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Address(address) => write!(f, "{address}"),
            Place::UnixSocket(path) => write!(f, "unix:{}", printable(&path.display().to_string())),
            Place::Systemd => f.write_str("systemd"),
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Listener {
        Listener(Kind::Tcp(listener))
    }
}

impl Listener {
    async fn on_address(address: SocketAddr) -> Result<Listener, Failure> {
        let bound = TcpListener::bind(address).await.map_err(|error| {
            let failure = Failure::caused_by(format!("cannot listen on {address}"), &error);
            if error.kind() == io::ErrorKind::AddrInUse {
                failure.hint("something listens there already; choose another port with --listen")
            } else if error.kind() == io::ErrorKind::PermissionDenied {
                failure.hint("ports below 1024 are for root; choose another with --listen")
            } else {
                failure
            }
        })?;
        Ok(bound.into())
    }

    /// Where it listens, as clients would write it: `http://127.0.0.1:8080`, `unix:/run/counterfoil.sock`.
    pub(crate) fn url(&self) -> io::Result<String> {
        match &self.0 {
            Kind::Tcp(listener) => Ok(format!("http://{}", listener.local_addr()?)),
            #[cfg(unix)]
            Kind::Unix { listener, .. } => {
                let address = listener.local_addr()?;
                let path = address.as_pathname().map_or("unnamed".to_owned(), |path| path.display().to_string());
                Ok(format!("unix:{}", printable(&path)))
            }
        }
    }

    /// The next connection, and who made it.
    pub(crate) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.0 {
            Kind::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Answers are small and whole; to wait for more only makes them late. A refusal costs speed alone.
                stream.set_nodelay(true).ok();
                Ok((Stream::Tcp(stream), Peer::Address(peer)))
            }
            #[cfg(unix)]
            Kind::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), Peer::UnixSocket))
            }
        }
    }
}

impl Listener {
    /// Those whom the system has connected and who wait to be accepted; from the last of them on nobody is connected any
    /// more. Asks the system itself: tokio does not know yet of those who have just come.
    pub(crate) fn close(self) -> Box<dyn Iterator<Item = (Stream, Peer)> + Send> {
        match self.0 {
            Kind::Tcp(listener) => {
                let Ok(listener) = listener.into_std() else { return Box::new(std::iter::empty()) };
                Box::new(std::iter::from_fn(move || {
                    let (stream, peer) = listener.accept().ok()?;
                    stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).ok()?;
                    Some((Stream::Tcp(TcpStream::from_std(stream).ok()?), Peer::Address(peer)))
                }))
            }
            #[cfg(unix)]
            Kind::Unix { listener, file } => {
                drop(file);
                let Ok(listener) = listener.into_std() else { return Box::new(std::iter::empty()) };
                Box::new(std::iter::from_fn(move || {
                    let (stream, _) = listener.accept().ok()?;
                    stream.set_nonblocking(true).ok()?;
                    Some((Stream::Unix(tokio::net::UnixStream::from_std(stream).ok()?), Peer::UnixSocket))
                }))
            }
        }
    }
}

impl Peer {
    /// Tells the routes of it.
    pub(crate) fn put_into(self, extensions: &mut Extensions) {
        match self {
            Peer::Address(address) => drop(extensions.insert(ConnectInfo(address))),
            #[cfg(unix)]
            Peer::UnixSocket => drop(extensions.insert(ConnectInfo(UnixPeer))),
        }
    }
}

#[cfg(unix)]
mod socket {
    use std::fs::{self, Metadata, Permissions};
    use std::io;
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
    use std::path::{Path, PathBuf};

    use listenfd::ListenFd;
    use tokio::net::{TcpListener, UnixListener, UnixSocket, UnixStream};

    use super::{Kind, Listener};
    use crate::failure::Failure;

    /// Who may open the socket: its owner and its group, so that the proxy need not run as the server does.
    const SOCKET_MODE: u32 = 0o660;
    /// Connections that the system keeps until they are accepted; it takes less where its own limit is lower.
    const BACKLOG: u32 = 1024;

    /// The file of a socket that we made. Removed when dropped, unless another one has taken its place.
    #[derive(Debug)]
    pub(super) struct SocketFile {
        path: PathBuf,
        made: Metadata,
    }

    impl Drop for SocketFile {
        fn drop(&mut self) {
            let still_ours = fs::symlink_metadata(&self.path)
                .is_ok_and(|found| (found.dev(), found.ino()) == (self.made.dev(), self.made.ino()));
            if still_ours && let Err(error) = fs::remove_file(&self.path) {
                tracing::warn!(%error, path = %self.path.display(), "the socket could not be removed");
            }
        }
    }

    impl Listener {
        /// Makes a socket at `path`. One that is left over from a server that is gone gives way; anything else does not.
        pub(super) async fn on_socket(path: &Path) -> Result<Listener, Failure> {
            let failed = |error: &io::Error| {
                let failure = Failure::caused_by(format!("cannot listen on unix:{}", path.display()), error);
                if error.kind() == io::ErrorKind::AddrInUse {
                    failure
                        .hint("something listens there already, or the file is no socket; choose another with --listen")
                } else {
                    failure
                }
            };
            bind(path).await.map_err(|error| failed(&error))
        }

        /// Takes the socket that the service manager opened for us.
        pub(super) fn handed_over() -> Result<Listener, Failure> {
            let mut handed = ListenFd::from_env();
            if handed.len() != 1 {
                let number = handed.len();
                return Err(Failure::refused(format!(
                    "listen = \"systemd\": {number} sockets were handed over, not one"
                ))
                .hint("start it through a .socket unit with one ListenStream=, or name an address with --listen"));
            }
            let failed = |error: io::Error| {
                Failure::caused_by("cannot listen on the socket that was handed over", &error)
                    .hint("a .socket unit names it with ListenStream=: an address and a port, or a path")
            };
            if let Ok(Some(listener)) = handed.take_tcp_listener(0) {
                listener.set_nonblocking(true).map_err(failed)?;
                return TcpListener::from_std(listener).map(Listener::from).map_err(failed);
            }
            let listener = handed.take_unix_listener(0).map_err(failed)?;
            let listener = listener.ok_or_else(|| failed(io::Error::other("it is gone")))?;
            listener.set_nonblocking(true).map_err(failed)?;
            let listener = UnixListener::from_std(listener).map_err(failed)?;
            Ok(Listener(Kind::Unix { listener, file: None }))
        }
    }

    async fn bind(path: &Path) -> io::Result<Listener> {
        if is_left_over(path).await? {
            fs::remove_file(path)?;
        }
        let socket = UnixSocket::new_stream()?;
        socket.bind(path)?;
        let file = SocketFile { path: path.to_owned(), made: fs::symlink_metadata(path)? };
        // Before anybody can be heard: until it listens, whoever the umask would let in is refused.
        fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
        Ok(Listener(Kind::Unix { listener: socket.listen(BACKLOG)?, file: Some(file) }))
    }

    /// Whether there is a socket at `path` on which nobody listens.
    async fn is_left_over(path: &Path) -> io::Result<bool> {
        match fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => {
                // Does not wait where the queue of a listener is full, which is another error.
                let connected = UnixStream::connect(path).await;
                Ok(connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused))
            }
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_address_a_path_or_systemd() {
        for text in ["127.0.0.1:8080", "[::1]:0", "unix:/run/counterfoil.sock", "unix:relative.sock", "systemd"] {
            assert_eq!(Place::parse(text).expect(text).to_string(), text);
        }
        for text in
            ["", "8080", "localhost:8080", "unix:", "unix", "systemd:1", "/run/counterfoil.sock", "http://127.0.0.1:80"]
        {
            assert!(Place::parse(text).expect_err(text).contains("expected "), "{text}");
        }
    }
}
