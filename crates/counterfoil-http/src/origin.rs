//! Where a page in a browser comes from: [`Origin`].

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use axum::http::HeaderValue;
use axum::http::uri::Authority;

/// Scheme, host and port of a page, exactly as browsers write it into `Origin` (RFC 6454 §6.2): in lower case, without the
/// port that the scheme has anyway.
///
/// `https`, or `http` on this machine alone: what a page over plain http gets to read, anyone on the way may change what it
/// does with. No wildcard and no `null`, which every sandboxed page has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

/// Why a text is no origin that could be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnOrigin(&'static str);

impl Origin {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn header_value(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }
}

impl FromStr for Origin {
    type Err = NotAnOrigin;

    fn from_str(text: &str) -> Result<Origin, NotAnOrigin> {
        const FORM: NotAnOrigin = NotAnOrigin("expected https:// and a host: \"https://app.example.org\"");
        if text.contains('*') {
            return Err(NotAnOrigin("a wildcard lets pages of strangers in; name each origin"));
        }
        if text.eq_ignore_ascii_case("null") {
            return Err(NotAnOrigin(
                "every sandboxed page and local file has the origin null; name the origin of yours",
            ));
        }
        let (scheme, rest) = text.split_once("://").ok_or(FORM)?;
        let scheme = scheme.to_ascii_lowercase();
        if rest.contains(['/', '?', '#', '\\']) {
            return Err(NotAnOrigin("an origin ends with its host or port: no path, and no slash at the end"));
        }
        if !rest.is_ascii() {
            return Err(NotAnOrigin("browsers send the host in ASCII; write it as they do, with xn--"));
        }
        let authority: Authority = rest.parse().map_err(|_| FORM)?;
        if authority.host().is_empty() {
            return Err(FORM);
        }
        // Also refuses a name before the host, which is then not where the text begins.
        let port = match authority.as_str().strip_prefix(authority.host()).ok_or(FORM)? {
            "" => None,
            port => {
                let number = port.strip_prefix(':').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
                Some(number.and_then(|digits| digits.parse().ok()).filter(|port: &u16| *port != 0).ok_or(FORM)?)
            }
        };
        let host = authority.host().to_ascii_lowercase();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let address = bare.parse::<IpAddr>().ok();
        let host = match address {
            Some(IpAddr::V6(address)) => format!("[{address}]"),
            Some(IpAddr::V4(address)) => address.to_string(),
            None if is_name(&host) => host,
            None => return Err(FORM),
        };
        let on_this_machine = host == "localhost" || address.is_some_and(|address| address.is_loopback());
        let usual = match scheme.as_str() {
            "https" => 443,
            "http" if on_this_machine => 80,
            "http" => return Err(NotAnOrigin("over plain http anyone on the way can change the page; use https")),
            _ => return Err(FORM),
        };
        Ok(Origin(match port.filter(|port| *port != usual) {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        }))
    }
}

fn is_name(host: &str) -> bool {
    host.split('.').all(|label| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    })
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NotAnOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for NotAnOrigin {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_written_as_browsers_write_it() {
        for (text, origin) in [
            ("https://app.example.org", "https://app.example.org"),
            ("HTTPS://App.Example.ORG:443", "https://app.example.org"),
            ("https://app.example.org:8443", "https://app.example.org:8443"),
            ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
            ("https://192.0.2.1", "https://192.0.2.1"),
            ("https://[2001:DB8::0:1]:443", "https://[2001:db8::1]"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://127.0.0.1:80", "http://127.0.0.1"),
            ("http://[::1]:5173", "http://[::1]:5173"),
        ] {
            assert_eq!(text.parse::<Origin>().expect(text).as_str(), origin);
        }
    }

    #[test]
    fn a43_what_would_let_strangers_in_is_no_origin() {
        for (text, reason) in [
            ("*", "wildcard"),
            ("https://*.example.org", "wildcard"),
            ("https://*", "wildcard"),
            ("null", "sandboxed"),
            ("NULL", "sandboxed"),
            ("http://app.example.org", "plain http"),
            ("http://localhost.example.org", "plain http"),
            ("http://192.168.1.1", "plain http"),
            ("https://app.example.org/", "no path"),
            ("https://app.example.org/app", "no path"),
            ("https://app.example.org?x", "no path"),
            ("https://app.example.org#x", "no path"),
            ("https://app.example.org\\x", "no path"),
            ("https://b\u{fc}cher.example", "xn--"),
            ("", "expected https://"),
            ("app.example.org", "expected https://"),
            ("//app.example.org", "expected https://"),
            ("https://", "expected https://"),
            ("https://:443", "expected https://"),
            ("https://app.example.org:", "expected https://"),
            ("https://app.example.org:0", "expected https://"),
            ("https://app.example.org:99999", "expected https://"),
            ("https://app.example.org:x", "expected https://"),
            ("https://user@app.example.org", "expected https://"),
            ("https://app.example.org.", "expected https://"),
            ("https://app.example.org,https://b.example", "no path"),
            ("https://app.example.org,b.example", "expected https://"),
            ("https://app$.example.org", "expected https://"),
            (" https://app.example.org", "expected https://"),
            ("https://app.example.org ", "expected https://"),
            ("https://app.example.org\n", "expected https://"),
            ("ftp://app.example.org", "expected https://"),
            ("file://", "expected https://"),
            ("chrome-extension://abc", "expected https://"),
        ] {
            let refused = text.parse::<Origin>().expect_err(text).to_string();
            assert!(refused.contains(reason), "{text:?}: {refused}");
        }
    }
}
