//! A TCP proxy with the faults of a network, which can be changed while it runs.
//!
//! What it cannot do is lose a packet: both ends always get their acknowledgements, so no timer of TCP ever runs out. For that
//! there is [`crate::network`].

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use crate::port::Port;
use crate::waiting::pause;

/// What becomes of bytes on their way in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flow {
    /// They pass.
    #[default]
    Open,
    /// They wait, as where a network will send them again, and pass when it is open again.
    Hold,
    /// They are lost without a word. A connection that has lost any stays mute in this direction for ever.
    Swallow,
    /// Each piece waits as long.
    Delay(Duration),
    /// So many bytes in a second.
    Rate(u32),
}

/// What is wrong with the network. Both ways open, and nothing refused, is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// From the client to the server.
    pub to_server: Flow,
    /// From the server to the client.
    pub to_client: Flow,
    /// Who connects is hung up on.
    pub refuse: bool,
    /// A piece from the server in which this occurs is not passed on, and its connection is cut: what the server did is done,
    /// and nobody hears of it.
    pub cut_at: Option<Vec<u8>>,
}

impl Faults {
    /// The same in both directions.
    pub fn both(flow: Flow) -> Faults {
        Faults { to_server: flow, to_client: flow, ..Faults::default() }
    }
}

/// A proxy on a free port of 127.0.0.1, which ends with all its connections when dropped.
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    target: Mutex<SocketAddr>,
    faults: Mutex<Faults>,
    changed: Condvar,
    links: Mutex<Vec<Weak<Link>>>,
    closing: AtomicBool,
    cut: AtomicU64,
}

/// Both halves of one client's connection.
#[derive(Debug)]
struct Link {
    client: TcpStream,
    server: TcpStream,
    /// It has lost bytes in this direction: what comes later would not be what was sent.
    mute: [AtomicBool; 2],
    over: AtomicBool,
    listens: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

impl Proxy {
    /// In front of this address.
    pub fn start(target: SocketAddr) -> Proxy {
        let port = Port::free();
        let listener = TcpListener::bind(("127.0.0.1", port.number)).expect("a port that was free");
        let state = Arc::new(State {
            target: Mutex::new(target),
            faults: Mutex::default(),
            changed: Condvar::new(),
            links: Mutex::default(),
            closing: AtomicBool::new(false),
            cut: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&state);
        thread::spawn(move || accepting.accept(&listener));
        Proxy { port, state }
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// Where new connections are led.
    pub fn lead_to(&self, target: SocketAddr) {
        *lock(&self.state.target) = target;
    }

    /// What is wrong from now on.
    pub fn set(&self, faults: Faults) {
        *lock(&self.state.faults) = faults;
        self.state.changed.notify_all();
    }

    /// Nothing is wrong any more; connections that have lost bytes stay mute.
    pub fn heal(&self) {
        self.set(Faults::default());
    }

    /// Ends all connections.
    pub fn cut(&self) {
        self.state.links().iter().for_each(|link| link.end());
        self.state.changed.notify_all();
    }

    /// All connections that there are lose everything from now on, without an end of either being told; new ones are fine.
    pub fn forget(&self) {
        for link in self.state.links() {
            link.mute.iter().for_each(|mute| mute.store(true, Ordering::Release));
        }
    }

    /// The same for those alone over which `LISTEN` was said. Returns how many these are.
    pub fn forget_listeners(&self) -> usize {
        let listening: Vec<_> =
            self.state.links().into_iter().filter(|link| link.listens.load(Ordering::Acquire)).collect();
        for link in &listening {
            link.mute.iter().for_each(|mute| mute.store(true, Ordering::Release));
        }
        listening.len()
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.state.links().len()
    }

    /// How often [`Faults::cut_at`] has cut.
    pub fn replies_cut(&self) -> u64 {
        self.state.cut.load(Ordering::Acquire)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.closing.store(true, Ordering::Release);
        self.cut();
        // It waits for somebody to accept.
        TcpStream::connect(("127.0.0.1", self.port.number)).ok();
    }
}

impl State {
    fn accept(self: &Arc<State>, listener: &TcpListener) {
        for client in listener.incoming().map_while(Result::ok) {
            if self.closing.load(Ordering::Acquire) {
                return;
            }
            let state = Arc::clone(self);
            // What listens must not wait for a server that does not answer.
            thread::spawn(move || state.join(client));
        }
    }

    fn join(self: &Arc<State>, client: TcpStream) {
        if lock(&self.faults).refuse {
            return;
        }
        let target = *lock(&self.target);
        let Ok(server) = TcpStream::connect_timeout(&target, Duration::from_secs(5)) else { return };
        client.set_nodelay(true).ok();
        server.set_nodelay(true).ok();
        let link = Link {
            client,
            server,
            mute: Default::default(),
            over: AtomicBool::new(false),
            listens: AtomicBool::new(false),
        };
        let link = Arc::new(link);
        lock(&self.links).push(Arc::downgrade(&link));
        let (state, other) = (Arc::clone(self), Arc::clone(&link));
        thread::spawn(move || state.carry(&other, Direction::ToClient));
        self.carry(&link, Direction::ToServer);
    }

    fn carry(&self, link: &Link, direction: Direction) {
        let (from, to) = match direction {
            Direction::ToServer => (&link.client, &link.server),
            Direction::ToClient => (&link.server, &link.client),
        };
        if self.carry_all(link, direction, from, to).is_err() {
            link.end();
        }
    }

    /// Until one side has said everything. An error ends both directions.
    fn carry_all(&self, link: &Link, direction: Direction, mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
        let mut piece = vec![0; 64 * 1024];
        loop {
            let length = from.read(&mut piece)?;
            let bytes = &piece[..length];
            if direction == Direction::ToServer && contains(bytes, b"LISTEN") {
                link.listens.store(true, Ordering::Release);
            }
            if !self.may_pass(link, direction, bytes)? {
                if length == 0 {
                    // The end is lost like the rest: the other side is left waiting.
                    return Ok(());
                }
                continue;
            }
            if length == 0 {
                return to.shutdown(Shutdown::Write);
            }
            to.write_all(bytes)?;
        }
    }

    /// Waits for as long as the piece has to wait; whether it then passes.
    fn may_pass(&self, link: &Link, direction: Direction, bytes: &[u8]) -> io::Result<bool> {
        let mute = &link.mute[direction as usize];
        let mut faults = lock(&self.faults);
        loop {
            if link.over.load(Ordering::Acquire) {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            if mute.load(Ordering::Acquire) {
                return Ok(false);
            }
            if let (Direction::ToClient, Some(pattern)) = (direction, &faults.cut_at)
                && contains(bytes, pattern)
            {
                self.cut.fetch_add(1, Ordering::AcqRel);
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            let flow = match direction {
                Direction::ToServer => faults.to_server,
                Direction::ToClient => faults.to_client,
            };
            match flow {
                Flow::Open => return Ok(true),
                Flow::Swallow => {
                    mute.store(true, Ordering::Release);
                    return Ok(false);
                }
                Flow::Delay(time) => {
                    drop(faults);
                    pause(time);
                    return Ok(true);
                }
                Flow::Rate(rate) => {
                    drop(faults);
                    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                    pause(Duration::from_secs_f64(f64::from(length) / f64::from(rate.max(1))));
                    return Ok(true);
                }
                // Woken when something changes; looked at now and then, because a link may end meanwhile.
                Flow::Hold => {
                    let waited = self.changed.wait_timeout(faults, Duration::from_millis(100));
                    faults = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    fn links(&self) -> Vec<Arc<Link>> {
        let mut links = lock(&self.links);
        links.retain(|link| link.strong_count() > 0);
        links.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Link {
    fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.client.shutdown(Shutdown::Both).ok();
        self.server.shutdown(Shutdown::Both).ok();
    }
}

fn contains(bytes: &[u8], pattern: &[u8]) -> bool {
    !pattern.is_empty() && bytes.windows(pattern.len()).any(|window| window == pattern)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waiting::within;
    use std::time::Instant;

    /// A server that says back what it hears, and how much it heard.
    fn echo() -> (SocketAddr, Arc<AtomicU64>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let heard = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&heard);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let counted = Arc::clone(&counted);
                thread::spawn(move || {
                    let mut piece = [0; 1024];
                    while let Ok(length @ 1..) = stream.read(&mut piece) {
                        counted.fetch_add(length as u64, Ordering::AcqRel);
                        stream.write_all(&piece[..length]).ok();
                    }
                });
            }
        });
        (address, heard)
    }

    fn client(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", proxy.port())).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        stream
    }

    /// What comes back, if anything does.
    fn said(mut stream: &TcpStream, words: &str) -> Option<String> {
        stream.write_all(words.as_bytes()).ok()?;
        let mut back = [0; 64];
        match stream.read(&mut back) {
            Ok(length @ 1..) => Some(String::from_utf8_lossy(&back[..length]).into_owned()),
            Ok(_) | Err(_) => None,
        }
    }

    #[test]
    fn what_is_held_comes_later_and_what_is_swallowed_never() {
        let (address, heard) = echo();
        let proxy = Proxy::start(address);
        let (held, swallowed) = (client(&proxy), client(&proxy));
        assert_eq!(said(&held, "a").as_deref(), Some("a"));
        assert_eq!(said(&swallowed, "a").as_deref(), Some("a"));
        proxy.set(Faults::both(Flow::Hold));
        assert_eq!(said(&held, "b"), None);
        proxy.heal();
        assert_eq!(said(&held, "").as_deref(), Some("b"));
        // One way: it is heard, and nobody hears that it was.
        proxy.set(Faults { to_client: Flow::Swallow, ..Faults::default() });
        let before = heard.load(Ordering::Acquire);
        assert_eq!(said(&swallowed, "c"), None);
        within("the server hears it", || (heard.load(Ordering::Acquire) == before + 1).then_some(()));
        proxy.heal();
        assert_eq!(said(&swallowed, "d"), None, "what has a hole is not carried on");
        assert_eq!(said(&client(&proxy), "e").as_deref(), Some("e"));
    }

    #[test]
    fn a_reply_can_be_lost_with_its_connection_after_the_server_has_acted() {
        let (address, heard) = echo();
        let proxy = Proxy::start(address);
        let stream = client(&proxy);
        proxy.set(Faults { cut_at: Some(b"COMMIT".to_vec()), ..Faults::default() });
        assert_eq!(said(&stream, "BEGIN").as_deref(), Some("BEGIN"));
        assert_eq!(said(&stream, "COMMIT"), None);
        assert_eq!((heard.load(Ordering::Acquire), proxy.replies_cut()), (11, 1));
    }

    #[test]
    fn connections_are_cut_refused_forgotten_and_led_elsewhere() {
        let (address, _) = echo();
        let proxy = Proxy::start(address);
        let first = client(&proxy);
        assert_eq!(said(&first, "LISTEN x").as_deref(), Some("LISTEN x"));
        let second = client(&proxy);
        assert_eq!(said(&second, "a").as_deref(), Some("a"));
        assert_eq!(proxy.forget_listeners(), 1);
        assert_eq!((said(&first, "b"), said(&second, "b")), (None, Some("b".into())));
        proxy.cut();
        assert_eq!(said(&second, "c"), None);
        within("the connections are gone", || (proxy.connections() == 0).then_some(()));
        proxy.set(Faults { refuse: true, ..Faults::default() });
        assert_eq!(said(&client(&proxy), "d"), None);
        let (elsewhere, heard) = echo();
        proxy.heal();
        proxy.lead_to(elsewhere);
        assert_eq!(said(&client(&proxy), "e").as_deref(), Some("e"));
        assert_eq!(heard.load(Ordering::Acquire), 1);
    }

    #[test]
    fn a_slow_network_is_slow() {
        let (address, _) = echo();
        let proxy = Proxy::start(address);
        let stream = client(&proxy);
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        for faults in [Faults::both(Flow::Delay(Duration::from_millis(60))), Faults::both(Flow::Rate(16))] {
            proxy.set(faults);
            let begun = Instant::now();
            assert_eq!(said(&stream, "a").as_deref(), Some("a"));
            assert!(begun.elapsed() >= Duration::from_millis(110), "{:?}", begun.elapsed());
        }
    }
}
