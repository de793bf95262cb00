//! `X-Forwarded-For` and `User-Agent`: where a request came from, beside a slow reading of the same lines.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use counterfoil_core::UserAgent;
use counterfoil_http::device::{self, Peer, TrustedProxy};
use ipnet::IpNet;

const PEERS: [Peer; 6] = [
    Peer::UnixSocket,
    Peer::Address(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))),
    Peer::Address(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9))),
    Peer::Address(IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1))),
    Peer::Address(IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0x0a00, 0x0001))),
    Peer::Address(IpAddr::V6(Ipv6Addr::LOCALHOST)),
];

/// The first byte chooses the peer and whom the operator trusts; the first line is what the client program calls itself,
/// each one after it a line of `X-Forwarded-For`.
pub fn run(input: &[u8]) {
    let Some((&choice, rest)) = input.split_first() else { return };
    let peer = PEERS[usize::from(choice) % PEERS.len()];
    let networks: &[&str] = match choice / 6 % 4 {
        0 => &[],
        1 => &["10.0.0.0/8"],
        2 => &["10.0.0.0/8", "fd00::/8", "::1/128"],
        _ => &["10.0.0.1/32", "192.0.2.0/24"],
    };
    let networks: Vec<IpNet> = networks.iter().map(|text| net(text)).collect();
    let socket = (choice / 24 % 2 == 1).then_some(TrustedProxy::UnixSocket);
    let trusted: Vec<TrustedProxy> = networks.iter().copied().map(TrustedProxy::Network).chain(socket).collect();
    let mut headers = HeaderMap::new();
    let mut forwarded = Vec::new();
    for (at, line) in crate::lines(rest).take(5).enumerate() {
        let Ok(value) = HeaderValue::from_bytes(line) else { return };
        if at == 0 {
            headers.insert(header::USER_AGENT, value);
        } else {
            headers.append(HeaderName::from_static("x-forwarded-for"), value);
            forwarded.push(line);
        }
    }
    let source = device::source(Some(peer), &headers, &trusted);
    let address = slowly(peer, &forwarded, &networks, socket.is_some());
    assert_eq!(source.ip, address, "{peer:?} {forwarded:?} {trusted:?}");
    assert_eq!(device::source(None, &headers, &trusted).ip, None, "no peer, no address");
    if let Some(agent) = source.user_agent {
        let length = agent.as_str().chars().count();
        assert!((1..=UserAgent::MAX_CHARS).contains(&length), "{agent:?}");
    }
}

/// The whole chain from the outside in; then, from the inside out, as far as each hop is one of ours.
fn slowly(peer: Peer, forwarded: &[&[u8]], networks: &[IpNet], socket_is_ours: bool) -> Option<IpAddr> {
    let list = forwarded.join(&b","[..]);
    let chain: Vec<Option<IpAddr>> =
        if forwarded.is_empty() { Vec::new() } else { list.split(|&byte| byte == b',').map(address).collect() };
    let is_ours = |address: &IpAddr| networks.iter().any(|network| network.contains(address));
    let mut seen = match peer {
        Peer::Address(address) => Some(address.to_canonical()),
        Peer::UnixSocket => None,
    };
    for hop in chain.into_iter().rev() {
        let believed = seen.as_ref().map_or(socket_is_ours, is_ours);
        match hop {
            Some(hop) if believed => seen = Some(hop),
            Some(_) | None => break,
        }
    }
    seen
}

fn address(entry: &[u8]) -> Option<IpAddr> {
    let entry = String::from_utf8(entry.to_vec()).ok()?;
    let entry = entry.trim();
    let inside = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let readings = [
        inside.unwrap_or(entry).parse::<IpAddr>().ok(),
        entry.parse::<SocketAddr>().ok().map(|with_port| with_port.ip()),
    ];
    readings.into_iter().flatten().next().map(|address| address.to_canonical())
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}
