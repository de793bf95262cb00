//! Planted faults: a front before a real node that breaks the promise, to see that the checker notices.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::{millis, now};
use crate::port::Port;
use crate::waiting::pause;

/// What the front does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Planted {
    /// Nothing: what it finds is not the front's doing.
    Nothing,
    /// A yes is repeated for three seconds, whatever happened since.
    StaleCache,
    /// A revocation is acknowledged, and done a little later.
    EarlyAcknowledgement,
    /// One revocation in forty is acknowledged and never done, as where a log is read by numbers that commit out of order.
    LostRevocation,
    /// A node in doubt says no.
    NoInDoubt,
}

impl Planted {
    pub(crate) const ALL: [(&str, Planted); 5] = [
        ("nothing", Planted::Nothing),
        ("stale-cache", Planted::StaleCache),
        ("early-acknowledgement", Planted::EarlyAcknowledgement),
        ("lost-revocation", Planted::LostRevocation),
        ("no-in-doubt", Planted::NoInDoubt),
    ];
}

/// When something was answered, and what.
type Remembered = (u64, Vec<u8>);

/// A front on a port of its own. It ends with the process: what runs it is a run of its own.
#[derive(Debug)]
pub(crate) struct Front {
    port: Port,
}

struct State {
    node: SocketAddr,
    planted: Planted,
    /// What was answered to a head, and when.
    known: Mutex<HashMap<Vec<u8>, Remembered>>,
    counted: AtomicU64,
}

impl Front {
    pub(crate) fn start(node: SocketAddr, planted: Planted) -> Front {
        let port = Port::free();
        let listener = TcpListener::bind(("127.0.0.1", port.number)).expect("a port that was free");
        let state = Arc::new(State { node, planted, known: Mutex::default(), counted: AtomicU64::new(0) });
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&state);
                thread::spawn(move || state.serve(&client).ok());
            }
        });
        Front { port }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port.number).into()
    }
}

const DONE: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
const REFUSED: &[u8] = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n";

impl State {
    fn serve(&self, client: &TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut from_client = Messages::of(client);
        let mut node = Node::to(self.node);
        loop {
            let request = from_client.next()?;
            let ends = request.starts_with(b"DELETE ") || request.starts_with(b"POST /v1/logout");
            let asks = request.starts_with(b"GET ");
            let answer = match self.planted {
                Planted::EarlyAcknowledgement if ends => {
                    let late = request.clone();
                    let mut node = Node::to(self.node);
                    thread::spawn(move || {
                        pause(Duration::from_millis(40));
                        node.ask(&late).ok();
                    });
                    DONE.to_vec()
                }
                Planted::LostRevocation if ends && self.counted.fetch_add(1, Ordering::AcqRel) % 40 == 39 => {
                    DONE.to_vec()
                }
                Planted::StaleCache if asks => self.repeated(&request, &mut node)?,
                Planted::NoInDoubt if asks && self.counted.fetch_add(1, Ordering::AcqRel) % 25 == 24 => {
                    REFUSED.to_vec()
                }
                Planted::Nothing
                | Planted::EarlyAcknowledgement
                | Planted::LostRevocation
                | Planted::StaleCache
                | Planted::NoInDoubt => node.ask(&request)?,
            };
            (&mut &*client).write_all(&answer)?;
        }
    }

    fn repeated(&self, request: &[u8], node: &mut Node) -> io::Result<Vec<u8>> {
        {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((at, answer)) = known.get(request)
                && now() < at + millis(3_000)
            {
                return Ok(answer.clone());
            }
        }
        let answer = node.ask(request)?;
        if answer.starts_with(b"HTTP/1.1 200") || answer.starts_with(b"HTTP/1.1 400") {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(request.to_vec(), (now(), answer.clone()));
        }
        Ok(answer)
    }
}

/// The connection to the node itself.
struct Node {
    address: SocketAddr,
    stream: Option<TcpStream>,
}

impl Node {
    fn to(address: SocketAddr) -> Node {
        Node { address, stream: None }
    }

    fn ask(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => TcpStream::connect(self.address)?,
        };
        stream.set_nodelay(true)?;
        (&mut &stream).write_all(request)?;
        let answer = Messages::of(&stream).next()?;
        self.stream = Some(stream);
        Ok(answer)
    }
}

/// Requests or answers, whole.
struct Messages<'s> {
    stream: &'s TcpStream,
    buffer: Vec<u8>,
}

impl Messages<'_> {
    fn of(stream: &TcpStream) -> Messages<'_> {
        Messages { stream, buffer: Vec::new() }
    }

    fn next(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(head) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let text = String::from_utf8_lossy(&self.buffer[..head]).to_lowercase();
                let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
                let whole = head + 4 + length.unwrap_or(0);
                if self.buffer.len() >= whole {
                    return Ok(self.buffer.drain(..whole).collect());
                }
            }
            let mut piece = [0; 4096];
            let length = (&mut &*self.stream).read(&mut piece)?;
            if length == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.buffer.extend_from_slice(&piece[..length]);
        }
    }
}
