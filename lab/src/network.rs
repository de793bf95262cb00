//! A network of its own for each node, with packets that are lost one way and links that go down: network namespaces, joined by
//! a router in a namespace of its own. Needs root.
//!
//! What the router does not pass on is lost without a word, unlike with a proxy or an unreachable address: only timers notice.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Node `n` has the address [`Network::node`]; servers of this machine are reached at [`Network::servers`].
#[derive(Debug)]
pub struct Network {
    name: String,
    /// The second byte of every address.
    subnet: u8,
    nodes: u8,
}

/// Which packets are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// Those that the node sends to the servers.
    ToServers,
    /// Those that the servers send to the node.
    ToNode,
    /// Both.
    BothWays,
}

const START: &str = "cfl";

impl Network {
    /// With so many nodes, at most 100.
    ///
    /// # Errors
    /// Why it cannot be had here: no root, no namespaces, no `ip`.
    pub fn new(nodes: u8) -> Result<Network, String> {
        clear_what_was_left();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = std::process::id();
        let name = format!("{START}{id}x{}", NEXT.fetch_add(1, Ordering::Relaxed));
        // One that no route of this machine leads to yet.
        let first = u8::try_from(id % 100).unwrap_or(0);
        let subnet = (0..100)
            .map(|step| 100 + (first + step) % 100)
            .find(|subnet| ip(&format!("route show 10.{subnet}.0.0/16")).is_ok_and(|routes| routes.is_empty()))
            .ok_or("no network of 10.100.0.0 to 10.199.0.0 is free")?;
        let network = Network { name, subnet, nodes };
        network.make()?;
        Ok(network)
    }

    fn make(&self) -> Result<(), String> {
        let (router, net) = (self.router(), self.subnet);
        let servers = self.servers();
        let outside = format!("{}h", self.name);
        ip(&format!("netns add {router}"))?;
        ip(&format!("link add {outside} type veth peer name eth0 netns {router}"))?;
        ip(&format!("addr add 10.{net}.0.1/30 dev {outside}"))?;
        // Not on the link between, so that what is lost is told by who sent it to whom.
        ip(&format!("addr add {servers}/32 dev {outside}"))?;
        ip(&format!("link set {outside} up"))?;
        ip(&format!("-n {router} addr add 10.{net}.0.2/30 dev eth0"))?;
        ip(&format!("-n {router} link set eth0 up"))?;
        ip(&format!("-n {router} route add {servers}/32 via 10.{net}.0.1"))?;
        run("ip", &format!("netns exec {router} sh -c"), Some("echo 1 > /proc/sys/net/ipv4/ip_forward"))?;
        for node in 0..self.nodes {
            let (space, address) = (self.space(node), self.node(node));
            let gateway = format!("10.{net}.{}.1", node + 1);
            ip(&format!("netns add {space}"))?;
            ip(&format!("-n {router} link add n{node} type veth peer name eth0 netns {space}"))?;
            ip(&format!("-n {router} addr add {gateway}/30 dev n{node}"))?;
            ip(&format!("-n {router} link set n{node} up"))?;
            ip(&format!("-n {space} addr add {address}/30 dev eth0"))?;
            ip(&format!("-n {space} link set eth0 up"))?;
            ip(&format!("-n {space} link set lo up"))?;
            ip(&format!("-n {space} route add default via {gateway}"))?;
            ip(&format!("route add {address}/32 via 10.{net}.0.2"))?;
        }
        Ok(())
    }

    fn router(&self) -> String {
        format!("{}r", self.name)
    }

    fn space(&self, node: u8) -> String {
        format!("{}n{node}", self.name)
    }

    /// Where nodes find servers that listen on this address of the machine.
    pub fn servers(&self) -> String {
        format!("10.{}.200.1", self.subnet)
    }

    /// Where a node is found from outside.
    pub fn node(&self, node: u8) -> String {
        format!("10.{}.{}.2", self.subnet, node + 1)
    }

    /// The words before a program's, for it to run on a node.
    pub fn words_of(&self, node: u8) -> Vec<String> {
        ["ip", "netns", "exec", &self.space(node)].map(str::to_owned).to_vec()
    }

    /// Loses packets between a node and the servers; what goes between the node and its clients passes.
    ///
    /// # Errors
    /// What `ip` said.
    pub fn lose(&self, node: u8, lost: Lost) -> Result<(), String> {
        let (router, node, servers) = (self.router(), self.node(node), self.servers());
        if lost != Lost::ToNode {
            ip(&format!("-n {router} rule add from {node} to {servers} blackhole"))?;
        }
        if lost != Lost::ToServers {
            ip(&format!("-n {router} rule add from {servers} to {node} blackhole"))?;
        }
        Ok(())
    }

    /// Nothing is lost any more.
    pub fn heal(&self, node: u8) {
        let (router, node, servers) = (self.router(), self.node(node), self.servers());
        // Each fails where there is no such rule.
        ip(&format!("-n {router} rule del from {node} to {servers} blackhole")).ok();
        ip(&format!("-n {router} rule del from {servers} to {node} blackhole")).ok();
    }

    /// Takes the whole link of a node down, or up again.
    ///
    /// # Errors
    /// What `ip` said.
    pub fn link(&self, node: u8, up: bool) -> Result<(), String> {
        ip(&format!("-n {} link set n{node} {}", self.router(), if up { "up" } else { "down" })).map(drop)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for node in 0..self.nodes {
            ip(&format!("netns del {}", self.space(node))).ok();
        }
        ip(&format!("netns del {}", self.router())).ok();
        ip(&format!("link del {}h", self.name)).ok();
    }
}

/// Removes the namespaces and links of processes that were killed.
fn clear_what_was_left() {
    let owner = |name: &str| name.strip_prefix(START)?.split('x').next()?.parse::<u32>().ok();
    let gone = |name: &str| owner(name).is_some_and(|id| !Path::new(&format!("/proc/{id}")).exists());
    let names = |directory: &str| {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<String>>()
    };
    names("/run/netns").iter().filter(|name| gone(name)).for_each(|name| drop(ip(&format!("netns del {name}"))));
    names("/sys/class/net").iter().filter(|name| gone(name)).for_each(|name| drop(ip(&format!("link del {name}"))));
}

fn ip(words: &str) -> Result<String, String> {
    run("ip", words, None)
}

fn run(program: &str, words: &str, last: Option<&str>) -> Result<String, String> {
    let output = Command::new(program).args(words.split_whitespace()).args(last).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{program} {words}: {}", text(&output.stderr)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::process::{Child, Stdio};
    use std::time::Duration;

    /// Says every word that is written to its stdin to a server, from a node.
    fn speaker(network: &Network, node: u8, port: u16) -> Child {
        let words = network.words_of(node);
        let script = format!("exec 3<>/dev/tcp/{}/{port}; cat >&3", network.servers());
        Command::new(&words[0])
            .args(&words[1..])
            .args(["bash", "-c", &script])
            .stdin(Stdio::piped())
            .spawn()
            .expect("bash on a node")
    }

    fn heard(mut stream: &TcpStream) -> Option<u8> {
        let mut byte = [0];
        std::io::Read::read(&mut stream, &mut byte).ok().filter(|length| *length == 1).map(|_| byte[0])
    }

    #[test]
    fn packets_are_lost_one_way_and_come_through_after_the_heal() {
        let network = match Network::new(2) {
            Ok(network) => network,
            Err(reason) => {
                eprintln!("NOT TESTED: network namespaces cannot be had here: {reason}");
                return;
            }
        };
        let listener = TcpListener::bind((network.servers(), 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let join = |node| {
            let speaker = speaker(&network, node, port);
            let (stream, from) = listener.accept().expect("a connection");
            assert_eq!(from.ip().to_string(), network.node(node));
            stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
            (speaker, stream)
        };
        let (mut first, at_first) = join(0);
        let (mut second, at_second) = join(1);
        let say =
            |speaker: &mut Child, word: &[u8]| speaker.stdin.as_mut().expect("stdin").write_all(word).expect("written");
        network.lose(0, Lost::ToServers).expect("lost");
        say(&mut first, b"a");
        say(&mut second, b"b");
        assert_eq!(heard(&at_second), Some(b'b'), "the other node is unaffected");
        at_first.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
        assert_eq!(heard(&at_first), None);
        network.heal(0);
        at_first.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        assert_eq!(heard(&at_first), Some(b'a'), "TCP has sent it again");
        for mut speaker in [first, second] {
            speaker.kill().expect("killed");
            speaker.wait().expect("a status");
        }
    }
}
