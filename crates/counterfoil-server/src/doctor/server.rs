//! Whether a server runs, and answers where it should.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Report;
use crate::config::Config;
use crate::listen::Place;

/// A server that has not answered by then is one that does not.
const PATIENCE: Duration = Duration::from_secs(5);

/// `served` says whether one runs, where that is known.
pub(super) async fn look(config: &Config, served: Option<bool>, report: &mut Report) {
    match served {
        None => {}
        Some(false) => report.ok("server", "none is running on this data directory"),
        Some(true) => match tokio::time::timeout(PATIENCE, readiness(&config.listen)).await {
            Ok(None) => {
                report.ok("server", format!("one is running; where cannot be told from listen = {}", config.listen));
            }
            Ok(Some(Ok(200))) => report.ok("server", format!("one is running and ready at {}", config.listen)),
            Ok(Some(Ok(status))) => report.fault(
                "server",
                format!("one is running, and GET /readyz at {} says {status}", config.listen),
                "its log says why",
            ),
            Ok(Some(Err(error))) => report.warning(
                "server",
                format!("one is running, and does not answer at {}: {error}", config.listen),
                "it may have been started with other settings: give the same ones to this command",
            ),
            Err(_) => report.fault(
                "server",
                format!("one is running, and has not answered at {} for {} s", config.listen, PATIENCE.as_secs()),
                "its log says why",
            ),
        },
    }
}

/// Other nodes may run wherever they like; this one would run here.
pub(super) async fn look_for_a_node(config: &Config, report: &mut Report) {
    match tokio::time::timeout(PATIENCE, readiness(&config.listen)).await {
        Ok(Some(Ok(200))) => report.ok("server", format!("a node is running and ready at {}", config.listen)),
        Ok(Some(Ok(status))) => report.fault(
            "server",
            format!("GET /readyz at {} says {status}", config.listen),
            "if that is a node, its log says why",
        ),
        Ok(None | Some(Err(_))) => report.ok("server", "no node answers where this one would"),
        Err(_) => report.fault(
            "server",
            format!("what is at {} has not answered for {} s", config.listen, PATIENCE.as_secs()),
            "if that is a node, its log says why",
        ),
    }
}

/// The status of `GET /readyz`; `None` where nobody knows where to ask.
async fn readiness(place: &Place) -> Option<io::Result<u16>> {
    match place {
        Place::Systemd => None,
        Place::Address(address) if address.port() == 0 => None,
        Place::Address(address) => Some(match TcpStream::connect(near(*address)).await {
            Ok(stream) => ask(stream).await,
            Err(error) => Err(error),
        }),
        #[cfg(unix)]
        Place::UnixSocket(path) => Some(match tokio::net::UnixStream::connect(path).await {
            Ok(stream) => ask(stream).await,
            Err(error) => Err(error),
        }),
        #[cfg(not(unix))]
        Place::UnixSocket(_) => None,
    }
}

/// The same from here: what listens everywhere listens on this machine as well.
fn near(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, address.port())
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<u16> {
    /// More than the status line has.
    const ENOUGH: u64 = 512;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut head = Vec::new();
    stream.take(ENOUGH).read_to_end(&mut head).await?;
    let head = String::from_utf8_lossy(&head);
    head.strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
}
