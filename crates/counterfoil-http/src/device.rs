//! Where a request came from, as far as that can be believed: its [`Source`].

use std::net::{IpAddr, SocketAddr};

use axum::extract::ConnectInfo;
use axum::http::{Extensions, HeaderMap, HeaderName, header};
use counterfoil_core::{Source, UserAgent};
use ipnet::IpNet;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Whoever has this address.
    Address(IpAddr),
    /// A process of this machine that may open our Unix socket. It has no address.
    UnixSocket,
}

/// What a server that listens on a Unix socket puts into the extensions of each request, as [`ConnectInfo`], in the place of
/// the peer's address: `router.into_make_service_with_connect_info::<UnixPeer>()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnixPeer;

#[cfg(unix)]
impl axum::extract::connect_info::Connected<axum::serve::IncomingStream<'_, tokio::net::UnixListener>> for UnixPeer {
    fn connect_info(_: axum::serve::IncomingStream<'_, tokio::net::UnixListener>) -> UnixPeer {
        UnixPeer
    }
}

/// Whose word about the client's address, and about the name of its request, is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustedProxy {
    /// Whoever speaks from one of these addresses.
    Network(IpNet),
    /// Whoever speaks over the Unix socket. The mode of its file decides who that is.
    UnixSocket,
}

impl From<IpNet> for TrustedProxy {
    fn from(network: IpNet) -> TrustedProxy {
        TrustedProxy::Network(network)
    }
}

impl Peer {
    /// What the server knows of the other end; `None` where requests come over no connection, as in a host's tests.
    pub(crate) fn of(extensions: &Extensions) -> Option<Peer> {
        let address: Option<&ConnectInfo<SocketAddr>> = extensions.get();
        let socket: Option<&ConnectInfo<UnixPeer>> = extensions.get();
        let address = address.map(|ConnectInfo(peer)| Peer::Address(peer.ip().to_canonical()));
        address.or(socket.map(|ConnectInfo(UnixPeer)| Peer::UnixSocket))
    }

    /// Whether it is one of `trusted`.
    pub(crate) fn is_trusted(self, trusted: &[TrustedProxy]) -> bool {
        trusted.iter().any(|proxy| match (proxy, self) {
            (TrustedProxy::Network(network), Peer::Address(address)) => network.contains(&address.to_canonical()),
            (TrustedProxy::UnixSocket, Peer::UnixSocket) => true,
            (TrustedProxy::Network(_), Peer::UnixSocket) | (TrustedProxy::UnixSocket, Peer::Address(_)) => false,
        })
    }
}

/// The facts about the device behind a request.
///
/// The address is the peer's. Where the peer is a trusted proxy, `X-Forwarded-For` is read from the right, the end that our
/// own proxies wrote: the first address that is not a trusted proxy's is the client's, and nothing to the left of it is
/// looked at, because a client may have written that itself. An entry that is no address ends the walk. Over a Unix socket
/// there is no address but the one that a trusted proxy names; none is made up.
///
/// No other header is read: `Forwarded`, `X-Real-IP`, `X-Forwarded-Host`, `-Proto`, `-Port`, `-Prefix` and `-Uri` and
/// `X-Original-URL` are a client's word whoever hands them on, and nothing is decided by them.
pub fn source(peer: Option<Peer>, headers: &HeaderMap, trusted: &[TrustedProxy]) -> Source {
    let user_agent = headers.get(header::USER_AGENT).and_then(|agent| UserAgent::cut(agent.as_bytes()));
    Source { ip: peer.and_then(|peer| client_address(peer, headers, trusted)), user_agent }
}

fn client_address(peer: Peer, headers: &HeaderMap, trusted: &[TrustedProxy]) -> Option<IpAddr> {
    const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
    let lines: Vec<&[u8]> = headers.get_all(X_FORWARDED_FOR).iter().map(|line| line.as_bytes()).collect();
    let entries = lines.iter().rev().flat_map(|line| line.rsplit(|&byte| byte == b','));
    let mut nearest = peer;
    for entry in entries {
        if !nearest.is_trusted(trusted) {
            break;
        }
        let Some(next) = std::str::from_utf8(entry).ok().and_then(|entry| parse_address(entry.trim())) else { break };
        nearest = Peer::Address(next);
    }
    match nearest {
        Peer::Address(address) => Some(address.to_canonical()),
        Peer::UnixSocket => None,
    }
}

/// An address, with a port or without; IPv4 mapped into IPv6 is IPv4.
fn parse_address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse().ok().map(|with_port: SocketAddr| with_port.ip()))?;
    Some(IpAddr::to_canonical(&address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn seen(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let trusted: Vec<TrustedProxy> =
            trusted.iter().map(|network| TrustedProxy::Network(network.parse().expect("network"))).collect();
        let peer = Peer::Address(peer.parse().expect("address"));
        seen_from(peer, forwarded, &trusted).expect("a peer has an address").to_string()
    }

    fn seen_from(peer: Peer, forwarded: &[&str], trusted: &[TrustedProxy]) -> Option<IpAddr> {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_bytes(line.as_bytes()).expect("value"));
        }
        source(Some(peer), &headers, trusted).ip
    }

    #[test]
    fn over_a_unix_socket_no_address_is_made_up_and_a_trusted_proxys_word_is_taken() {
        let client: Option<IpAddr> = Some([203, 0, 113, 7].into());
        let over = |forwarded: &[&str], trusted: &[TrustedProxy]| seen_from(Peer::UnixSocket, forwarded, trusted);
        assert_eq!(over(&["203.0.113.7"], &[]), None);
        let everyone_but_the_socket: IpNet = "0.0.0.0/0".parse().expect("network");
        assert_eq!(over(&["203.0.113.7"], &[everyone_but_the_socket.into()]), None);
        assert_eq!(over(&["203.0.113.7"], &[TrustedProxy::UnixSocket]), client);
        assert_eq!(over(&["198.51.100.1, 203.0.113.7"], &[TrustedProxy::UnixSocket]), client, "the nearest one");
        for no_address in [&[][..], &[""], &["unknown"], &["203.0.113.7, a"]] {
            assert_eq!(over(no_address, &[TrustedProxy::UnixSocket]), None, "{no_address:?}");
        }
        let ours: IpNet = "10.0.0.0/8".parse().expect("network");
        let both = [TrustedProxy::UnixSocket, ours.into()];
        assert_eq!(over(&["203.0.113.7, 10.0.0.2"], &both), client, "two proxies of ours");
        let socket_alone = [TrustedProxy::UnixSocket];
        let stranger = seen_from(Peer::Address([192, 0, 2, 1].into()), &["203.0.113.7"], &socket_alone);
        assert_eq!(stranger, Some([192, 0, 2, 1].into()), "who speaks over the network is not at the socket");
    }

    #[test]
    fn a_stranger_cannot_choose_the_address_it_is_seen_with() {
        assert_eq!(seen("203.0.113.7", &["198.51.100.1"], &[]), "203.0.113.7");
        assert_eq!(seen("203.0.113.7", &["198.51.100.1"], &["10.0.0.0/8"]), "203.0.113.7");
        let behind = |forwarded: &[&str]| seen("10.0.0.1", forwarded, &["10.0.0.0/8"]);
        assert_eq!(
            behind(&["198.51.100.1, 203.0.113.7"]),
            "203.0.113.7",
            "what the client wrote is left of what we did"
        );
        assert_eq!(behind(&["198.51.100.1, 203.0.113.7, 10.2.3.4"]), "203.0.113.7", "two proxies of ours");
        assert_eq!(behind(&["198.51.100.1", "203.0.113.7,10.2.3.4"]), "203.0.113.7", "two lines are one list");
    }

    #[test]
    fn what_is_no_address_ends_the_walk_at_the_last_good_one() {
        let behind = |forwarded: &[&str]| seen("10.0.0.1", forwarded, &["10.0.0.0/8"]);
        assert_eq!(behind(&[]), "10.0.0.1");
        assert_eq!(behind(&[""]), "10.0.0.1");
        assert_eq!(behind(&["unknown"]), "10.0.0.1");
        assert_eq!(behind(&["203.0.113.7, _hidden, 10.2.3.4"]), "10.2.3.4");
        assert_eq!(behind(&["203.0.113.7,"]), "10.0.0.1");
        assert_eq!(behind(&["10.9.9.9, 10.8.8.8"]), "10.9.9.9", "all of them ours: the outermost");
    }

    #[test]
    fn one_address_has_one_spelling() {
        assert_eq!(seen("::ffff:203.0.113.7", &[], &[]), "203.0.113.7");
        assert_eq!(seen("::ffff:10.0.0.1", &["::ffff:203.0.113.7"], &["10.0.0.0/8"]), "203.0.113.7");
        assert_eq!(seen("fd00::1", &["[2001:DB8::1]:443"], &["fd00::/8"]), "2001:db8::1");
        assert_eq!(seen("fd00::1", &["[2001:db8::1]"], &["fd00::/8"]), "2001:db8::1");
        assert_eq!(seen("10.0.0.1", &["203.0.113.7:4711"], &["10.0.0.0/8"]), "203.0.113.7");
    }

    #[test]
    fn a79_any_user_agent_is_text_cut_at_a_character() {
        let mut headers = HeaderMap::new();
        let hostile = [b"<svg onload=x>\xff".as_slice(), "🦀".repeat(10_000).as_bytes()].concat();
        headers.insert(header::USER_AGENT, HeaderValue::from_bytes(&hostile).expect("value"));
        let agent = source(None, &headers, &[]).user_agent.expect("agent");
        assert!(agent.as_str().starts_with("<svg onload=x>\u{fffd}🦀"));
        assert_eq!(agent.as_str().chars().count(), UserAgent::MAX_CHARS);
    }
}
