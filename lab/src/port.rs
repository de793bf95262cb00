//! Free ports, so that servers of many test processes do not meet.

use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range from which the kernel takes the ports of outgoing connections, so that none of these sits on a server's port
/// while the server restarts.
const FIRST: u16 = 15_000;
const HOW_MANY: u16 = 15_000;

/// A TCP port of 127.0.0.1 that nobody else here listens on, kept while this lives.
///
/// What keeps it is the UDP port of the same number: no server uses that, and every process of these tests asks for it first.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) number: u16,
    _kept: UdpSocket,
}

impl Port {
    pub(crate) fn free() -> Port {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        // Processes begin at different places, to look the less often at what is taken.
        let begin = u16::try_from(std::process::id() * 97 % u32::from(HOW_MANY)).unwrap_or(0);
        for _ in 0..HOW_MANY {
            let step = NEXT.fetch_add(1, Ordering::Relaxed) % HOW_MANY;
            let number = FIRST + (begin + step) % HOW_MANY;
            let Ok(kept) = UdpSocket::bind(("127.0.0.1", number)) else { continue };
            if TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Port { number, _kept: kept };
            }
        }
        panic!("no port is free from {FIRST} on");
    }
}
