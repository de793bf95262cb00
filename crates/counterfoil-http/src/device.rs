//! Where a request came from, as far as that can be believed: its [`Source`].

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, header};
use counterfoil_core::{Source, UserAgent};
use ipnet::IpNet;

/// The facts about the device behind a request.
///
/// The address is the peer's. Where the peer is a trusted proxy, `X-Forwarded-For` is read from the right, the end that our
/// own proxies wrote: the first address that is not a trusted proxy's is the client's, and nothing to the left of it is
/// looked at, because a client may have written that itself. An entry that is no address ends the walk.
pub fn source(peer: Option<IpAddr>, headers: &HeaderMap, trusted: &[IpNet]) -> Source {
    let user_agent = headers.get(header::USER_AGENT).and_then(|agent| UserAgent::cut(agent.as_bytes()));
    Source { ip: peer.map(|peer| client_address(peer, headers, trusted)), user_agent }
}

/// Whether `address` is one of `trusted`.
pub(crate) fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|network| network.contains(&address))
}

fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let lines: Vec<&[u8]> = headers.get_all("x-forwarded-for").iter().map(|line| line.as_bytes()).collect();
    let entries = lines.iter().rev().flat_map(|line| line.rsplit(|&byte| byte == b','));
    let mut address = peer.to_canonical();
    for entry in entries {
        if !is_trusted(address, trusted) {
            break;
        }
        let Some(next) = std::str::from_utf8(entry).ok().and_then(|entry| parse_address(entry.trim())) else { break };
        address = next;
    }
    address
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
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_bytes(line.as_bytes()).expect("value"));
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|network| network.parse().expect("network")).collect();
        let source = source(Some(peer.parse().expect("address")), &headers, &trusted);
        source.ip.expect("a peer has an address").to_string()
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
