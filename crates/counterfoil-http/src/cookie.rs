//! Tokens in a cookie, for pages in a browser: [`Cookies`], and which requests with one are believed.
//!
//! A cookie goes along with whatever a browser sends, also when a page of somebody else made it send that. So a request that
//! carries one and may change something is believed only if the browser says that a page of this very origin made it. The
//! rules are those of Go 1.25 and `tower_http::csrf`, with one difference: where the browser says nothing, nothing is
//! believed, because a program that is no browser has no reason to use the cookie.
//!
//! 1. GET, HEAD and OPTIONS change nothing here and pass.
//! 2. `Origin: null` is refused: sandboxed pages and local files have it, whoever wrote them.
//! 3. An `Origin` of [`Cookies::trusting`] passes.
//! 4. Where there is `Sec-Fetch-Site`, `same-origin` and `none` pass and all else is refused.
//! 5. Where there is none, an `Origin` of the host that the request names passes; over plain http only on this machine.
//! 6. Everything else is refused, what names neither included.
//!
//! Whatever is there twice is refused. With [`Cookies::needing_csrf_token`] such a request also carries a text that only the
//! session knows.

use std::fmt;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use counterfoil_core::{Identity, SecretToken, Timestamp};

use crate::http::Http;
use crate::origin::Origin;
use crate::problem::{Problem, ProblemKind};

/// How tokens are kept in a cookie. Off until it is put into [`HttpSettings::cookies`](crate::HttpSettings::cookies).
///
/// The cookie is `__Host-` and what it is called, `Secure`, `HttpOnly`, `Path=/`, without a `Domain`, and lives as long as
/// the token does. No page reads it, no other host gets or sets it, and nothing sends it over plain http.
///
/// ```
/// use counterfoil_http::Cookies;
///
/// assert_eq!(Cookies::default().name(), "__Host-counterfoil");
/// assert_eq!(Cookies::named("shop")?.strict().name(), "__Host-shop");
///
/// // What would split the header is no name.
/// assert!(Cookies::named("shop; Domain=example.org").is_err());
/// # Ok::<(), counterfoil_http::NotACookieName>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookies {
    name: String,
    same_site: SameSite,
    trusted: Vec<Origin>,
    csrf_token: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SameSite {
    Lax,
    Strict,
}

/// The text cannot be the name of a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotACookieName;

impl fmt::Display for NotACookieName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a cookie is 1 to 64 letters, digits, - and _; __Host- is put before it")
    }
}

impl std::error::Error for NotACookieName {}

impl Default for Cookies {
    fn default() -> Self {
        let name = "__Host-counterfoil".to_owned();
        Cookies { name, same_site: SameSite::Lax, trusted: Vec::new(), csrf_token: false }
    }
}

/// As long as a browser keeps any cookie (RFC 6265bis §5.5): for a token that is never dead by time.
const LONGEST_SECONDS: u64 = 400 * 86_400;

/// Where a page sends the text of [`Cookies::needing_csrf_token`].
pub(crate) const X_CSRF_TOKEN: HeaderName = HeaderName::from_static("x-csrf-token");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

impl Cookies {
    /// A cookie of that name, with `__Host-` before it.
    ///
    /// # Errors
    /// [`NotACookieName`].
    pub fn named(name: &str) -> Result<Cookies, NotACookieName> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !(1..=64).contains(&name.len()) || !name.bytes().all(plain) {
            return Err(NotACookieName);
        }
        Ok(Cookies { name: format!("__Host-{name}"), ..Cookies::default() })
    }

    /// Not even sent when somebody follows a link from elsewhere: they seem logged out until the next click. `SameSite=Strict`
    /// instead of `Lax`.
    #[must_use]
    pub fn strict(self) -> Cookies {
        Cookies { same_site: SameSite::Strict, ..self }
    }

    /// Also believes requests that pages of `origin` make. They may then do whatever the person in front of them may; they
    /// still read no answer, since the allow-list of other origins never lets cookies along.
    #[must_use]
    pub fn trusting(mut self, origin: Origin) -> Cookies {
        self.trusted.push(origin);
        self
    }

    /// Besides, wants the header `X-CSRF-Token` with every request that may change something: the `csrf_token` of the
    /// login's answer and of `GET /v1/me`, which is bound to the session. A second lock, for pages that may be opened by
    /// browsers from before 2023, or behind a proxy that changes `Host`. One that is sent has to be right, wanted or not.
    #[must_use]
    pub fn needing_csrf_token(self) -> Cookies {
        Cookies { csrf_token: true, ..self }
    }

    /// The name, with its prefix.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a request with a cookie, or one that asks for a cookie, comes from a page that may send it.
    ///
    /// # Errors
    /// [`ProblemKind::CrossSite`].
    pub(crate) fn judge(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        // The handshake of a WebSocket is a GET that a page of any site can make, and whose answer that page gets to read
        // (RFC 6455 §10.2).
        if changes_nothing(method) && !headers.contains_key(header::UPGRADE) {
            return Ok(());
        }
        let (Ok(origin), Ok(site)) = (one(headers, &header::ORIGIN), one(headers, &SEC_FETCH_SITE)) else {
            return Err(cross_site());
        };
        let trusted = |origin: &[u8]| self.trusted.iter().any(|trusted| trusted.as_str().as_bytes() == origin);
        let believed = match (origin, site) {
            (Some(b"null"), _) => false,
            (Some(origin), _) if trusted(origin) => true,
            (_, Some(site)) => site == b"same-origin" || site == b"none",
            (Some(origin), None) => is_of_host(origin, uri, headers),
            (None, None) => false,
        };
        if believed { Ok(()) } else { Err(cross_site()) }
    }

    /// Whether a request with a cookie also carries what only its session knows, where that is wanted. The handshake of a
    /// WebSocket does not have to: a page cannot give it a header, and browsers always say where it comes from.
    ///
    /// # Errors
    /// [`ProblemKind::CrossSite`].
    pub(crate) fn judge_csrf_token(
        &self,
        method: &Method,
        headers: &HeaderMap,
        who: &Identity,
        http: &Http,
    ) -> Result<(), Problem> {
        if changes_nothing(method) {
            return Ok(());
        }
        let wrong = || Problem::new(ProblemKind::CrossSite, "Send the csrf_token of this session as X-CSRF-Token.");
        match one(headers, &X_CSRF_TOKEN) {
            Ok(None) if !self.csrf_token => Ok(()),
            Ok(Some(sent)) if http.authority().is_csrf_token(who, sent) => Ok(()),
            Ok(_) | Err(_) => Err(wrong()),
        }
    }

    /// Whether [`Cookies::judge_csrf_token`] has anything to say about such a request.
    pub(crate) fn asks_more_of(&self, headers: &HeaderMap) -> bool {
        self.csrf_token || headers.contains_key(X_CSRF_TOKEN)
    }

    /// The `Set-Cookie` that keeps a token until it expires.
    pub(crate) fn keep(
        &self,
        secret: &SecretToken,
        expires_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<HeaderValue> {
        let seconds = expires_at.map_or(LONGEST_SECONDS, |end| end.millis_since(now) / 1_000);
        self.written(secret.expose(), seconds)
    }

    /// The `Set-Cookie` that ends it.
    pub(crate) fn forget(&self) -> Option<HeaderValue> {
        self.written("", 0)
    }

    fn written(&self, text: &str, seconds: u64) -> Option<HeaderValue> {
        let Cookies { name, same_site, .. } = self;
        let line = format!("{name}={text}; Path=/; Secure; HttpOnly; SameSite={same_site:?}; Max-Age={seconds}");
        let mut value = HeaderValue::from_str(&line).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// RFC 9110 §9.2.1 without TRACE, as Go has it. Our own routes hold to it; a host's route that changes something by GET is
/// open to every page.
fn changes_nothing(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// The value of a header that may be there once.
fn one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h [u8]>, ()> {
    let mut all = headers.get_all(name).iter();
    let value = all.next().map(HeaderValue::as_bytes);
    if all.next().is_some() { Err(()) } else { Ok(value) }
}

/// Whether `origin` names the host that the request does, byte for byte, as Go has it. Who is on the way may have written a
/// page over plain http, so that counts on this machine alone.
fn is_of_host(origin: &[u8], uri: &Uri, headers: &HeaderMap) -> bool {
    let Some(origin) = std::str::from_utf8(origin).ok() else { return false };
    let host = match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => one(headers, &header::HOST).ok().flatten().and_then(|host| std::str::from_utf8(host).ok()),
    };
    let written_as_browsers_do = origin.parse().is_ok_and(|parsed: Origin| parsed.as_str() == origin);
    let named = origin.split_once("://").map(|(_, named)| named);
    written_as_browsers_do && host.is_some() && named == host
}

fn cross_site() -> Problem {
    Problem::new(ProblemKind::CrossSite, "A page of another site may not do this with the cookie of this one.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &Method, headers: &[(HeaderName, &str)], cookies: &Cookies) -> bool {
        let mut sent = HeaderMap::new();
        for (name, value) in headers {
            sent.append(name, HeaderValue::from_str(value).expect("value"));
        }
        cookies.judge(method, &Uri::from_static("/x"), &sent).is_ok()
    }

    const ORIGIN: HeaderName = header::ORIGIN;
    const HOST: HeaderName = header::HOST;
    const SITE: HeaderName = SEC_FETCH_SITE;

    #[test]
    fn a77_only_a_page_of_this_origin_may_change_something_with_its_cookie() {
        let cookies = Cookies::default().trusting("https://login.example.org".parse().expect("origin"));
        let host = (HOST, "app.example.org");
        for (expected, headers) in [
            (true, &[(SITE, "same-origin")][..]),
            (true, &[(SITE, "none")]),
            (true, &[(SITE, "same-origin"), (ORIGIN, "https://elsewhere.example.org")]),
            (false, &[(SITE, "same-site")]),
            (false, &[(SITE, "cross-site")]),
            (false, &[(SITE, "Same-Origin")]),
            (false, &[(SITE, "")]),
            (false, &[(SITE, "same-origin"), (SITE, "same-origin")]),
            (false, &[(SITE, "cross-site"), (ORIGIN, "https://app.example.org")]),
            (true, &[(SITE, "cross-site"), (ORIGIN, "https://login.example.org")]),
            (true, &[(ORIGIN, "https://login.example.org")]),
            (false, &[(ORIGIN, "https://login.example.org.evil.example")]),
            (false, &[(ORIGIN, "https://login.example.org"), (ORIGIN, "https://login.example.org")]),
            (true, &[(ORIGIN, "https://app.example.org")]),
            (false, &[(ORIGIN, "http://app.example.org")]),
            (false, &[(ORIGIN, "https://app.example.org:8443")]),
            (false, &[(ORIGIN, "https://APP.example.org")]),
            (false, &[(ORIGIN, "https://app.example.org/")]),
            (false, &[(ORIGIN, "app.example.org")]),
            (false, &[(ORIGIN, "")]),
            (false, &[]),
        ] {
            let sent = [headers, std::slice::from_ref(&host)].concat();
            assert_eq!(asked(&Method::POST, &sent, &cookies), expected, "{sent:?}");
            assert!(asked(&Method::GET, &sent, &cookies), "{sent:?}");
        }
        for method in [Method::PUT, Method::PATCH, Method::DELETE, Method::TRACE] {
            assert!(!asked(&method, std::slice::from_ref(&host), &cookies));
        }
    }

    #[test]
    fn a43_the_origin_null_is_nobodys() {
        let cookies = Cookies::default();
        for headers in [&[(ORIGIN, "null")][..], &[(ORIGIN, "null"), (SITE, "cross-site")]] {
            assert!(!asked(&Method::POST, headers, &cookies));
        }
        assert!(!asked(&Method::POST, &[(ORIGIN, "null"), (HOST, "null")], &cookies));
        assert!(!asked(&Method::POST, &[(ORIGIN, "null"), (SITE, "same-origin")], &cookies));
    }

    #[test]
    fn a77_without_sec_fetch_site_the_host_decides_and_plain_http_counts_on_this_machine_alone() {
        let cookies = Cookies::default();
        let from = |origin: &'static str, host: &'static str| {
            asked(&Method::POST, &[(ORIGIN, origin), (HOST, host)], &cookies)
        };
        assert!(from("http://localhost:8080", "localhost:8080"));
        assert!(from("http://127.0.0.1:8080", "127.0.0.1:8080"));
        assert!(!from("http://app.example.org", "app.example.org"));
        assert!(!asked(&Method::POST, &[(ORIGIN, "https://app.example.org")], &cookies), "no host");
        let two = [(ORIGIN, "https://a.example"), (HOST, "a.example"), (HOST, "a.example")];
        assert!(!asked(&Method::POST, &two, &cookies), "two hosts");
        // HTTP/2 names it in the target.
        let mut sent = HeaderMap::new();
        sent.insert(ORIGIN, HeaderValue::from_static("https://app.example.org"));
        sent.insert(HOST, HeaderValue::from_static("evil.example"));
        assert!(cookies.judge(&Method::POST, &Uri::from_static("https://app.example.org/x"), &sent).is_ok());
        assert!(cookies.judge(&Method::POST, &Uri::from_static("https://evil.example/x"), &sent).is_err());
    }

    #[test]
    fn r25_the_cookie_says_all_that_a_browser_should_hold_it_to() {
        let (now, end) = (Timestamp::from_millis(1_000), Timestamp::from_millis(61_999));
        let kept = Cookies::default().keep(&SecretToken::from_text("cf_x"), Some(end), now).expect("value");
        let line = "__Host-counterfoil=cf_x; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=60";
        assert_eq!(kept, line, "rounded down");
        assert!(kept.is_sensitive());
        let strict = Cookies::named("shop").expect("name").strict();
        let line = "__Host-shop=cf_x; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=34560000";
        assert_eq!(strict.keep(&SecretToken::from_text("cf_x"), None, now).expect("value"), line);
        let line = "__Host-shop=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0";
        assert_eq!(strict.forget().expect("value"), line);
        for name in ["", "a b", "a;b", "a=b", "a,b", "a\r\nb", "\u{e4}", "x".repeat(65).as_str()] {
            assert_eq!(Cookies::named(name), Err(NotACookieName), "{name:?}");
        }
    }
}
