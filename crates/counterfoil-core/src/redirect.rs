//! Where a page of ours may lead on to: [`Redirects`].

use std::fmt;
use std::sync::Arc;

use url::{Host, Url};

/// The pages that ours may lead on to: whole URLs, compared as URLs. Empty unless configured. Cheap to clone.
///
/// A page that leads wherever it is told to lends its name to whoever forged the link (CWE-601). So nothing is compared by its
/// beginning, its end or its host: a URL is one of these or it is refused, and what comes out is the text from this list, never the
/// one that was sent.
///
/// # Examples
///
/// ```
/// use counterfoil_core::redirect::Redirects;
///
/// let redirects = Redirects::new(["https://app.example.org/welcome"])?;
/// let to = redirects.allowed("HTTPS://App.Example.org:443/welcome").unwrap();
/// assert_eq!(to.as_str(), "https://app.example.org/welcome");
/// for not_listed in ["https://app.example.org/", "https://app.example.org/welcome/2", "//app.example.org/welcome"] {
///     assert!(redirects.allowed(not_listed).is_err());
/// }
/// assert!(Redirects::new(["https://*.example.org/"]).is_err());
/// # Ok::<(), counterfoil_core::redirect::NotARedirect>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Redirects(Arc<[RedirectTo]>);

impl Redirects {
    /// Longest URL that is looked at, in bytes.
    pub const MAX_BYTES: usize = 2048;

    /// The list of these.
    ///
    /// # Errors
    /// [`NotARedirect`] for the first that is no absolute `https://` URL (`http://` on this machine alone), has a name or password
    /// in it, a fragment or a `*`, or is not written as URLs are.
    pub fn new<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Redirects, NotARedirect> {
        let listed = |entry: &'a str| listed(entry).map_err(|why| NotARedirect { entry: entry.to_owned(), why });
        entries.into_iter().map(listed).collect::<Result<_, _>>().map(Redirects)
    }

    /// The page that `text` means, if it is listed. Another spelling of the same URL is the same page: case of scheme and host, the
    /// port that goes without saying, `.` and `..` in the path.
    ///
    /// # Errors
    /// [`NotAllowed`], also for text that only browsers take for a URL.
    pub fn allowed(&self, text: &str) -> Result<RedirectTo, NotAllowed> {
        let url = strict(text).map_err(|_| NotAllowed)?;
        self.0.iter().find(|listed| *listed.0 == *url.as_str()).cloned().ok_or(NotAllowed)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A URL from the list of [`Redirects`], as it is written in its normal form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedirectTo(Arc<str>);

impl RedirectTo {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RedirectTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The page is not on the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAllowed;

impl fmt::Display for NotAllowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("is not one of the pages that links may lead on to")
    }
}

impl std::error::Error for NotAllowed {}

/// What is to be listed cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotARedirect {
    entry: String,
    why: &'static str,
}

impl fmt::Display for NotARedirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} cannot be redirected to: {}", self.entry, self.why)
    }
}

impl std::error::Error for NotARedirect {}

fn listed(entry: &str) -> Result<RedirectTo, &'static str> {
    if entry.contains('*') {
        return Err("each page is listed by its whole URL; * stands for nothing");
    }
    let url = strict(entry)?;
    if url.fragment().is_some() {
        Err("a fragment (#) is not compared; leave it out")
    } else if is_safe(&url) {
        Ok(RedirectTo(url.as_str().into()))
    } else {
        Err("only https:// is safe on the way to the user (http:// on this machine alone)")
    }
}

/// Whether nobody on the way can read or change what is at this URL.
pub(crate) fn is_safe(url: &Url) -> bool {
    let is_this_machine = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && is_this_machine)
}

/// The URL in `text`, if it is written as one: browsers make one of much else (a backslash, a missing slash, a line break), and
/// whoever writes so means to be read in two ways.
pub(crate) fn strict(text: &str) -> Result<Url, &'static str> {
    const NOT_A_URL: &str = "expected an absolute URL such as https://app.example.org/welcome";
    let (scheme, rest) = text.split_once("://").ok_or(NOT_A_URL)?;
    let is_web = ["https", "http"].iter().any(|web| scheme.eq_ignore_ascii_case(web));
    if !is_web
        || text.len() > Redirects::MAX_BYTES
        || text.contains(|c: char| c == '\\' || c.is_whitespace() || c.is_control())
    {
        return Err(NOT_A_URL);
    }
    // Even where there is nothing before it, which the URL would not tell any more.
    if rest.split(['/', '?', '#']).next().is_none_or(|authority| authority.contains('@')) {
        return Err("a name or password in a URL (@) makes it look like another");
    }
    let violated = std::cell::Cell::new(false);
    let note = |_| violated.set(true);
    let url = Url::options().syntax_violation_callback(Some(&note)).parse(text);
    url.ok().filter(|url| url.has_host() && !violated.get()).ok_or(NOT_A_URL)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LISTED: [&str; 6] = [
        "https://ok.example/",
        "https://ok.example/in?from=mail&lang=de",
        "https://a.example.com/callback",
        "https://ok.example:8443/x",
        "http://localhost:3000/done",
        "http://[::1]/",
    ];

    fn redirects() -> Redirects {
        Redirects::new(LISTED).expect("as they should be")
    }

    #[test]
    fn a65_a_listed_page_is_led_to_however_its_url_is_spelled() {
        for listed in LISTED {
            assert_eq!(redirects().allowed(listed).map(|to| to.to_string()).as_deref(), Ok(listed));
        }
        for (text, listed) in [
            ("https://ok.example", "https://ok.example/"),
            ("HTTPS://OK.Example/", "https://ok.example/"),
            ("https://ok.example:443/", "https://ok.example/"),
            ("https://a.example.com/./x/../callback", "https://a.example.com/callback"),
            ("http://[0:0::1]/", "http://[::1]/"),
        ] {
            assert_eq!(redirects().allowed(text).map(|to| to.to_string()).as_deref(), Ok(listed), "{text}");
        }
    }

    #[test]
    fn a65_whatever_is_not_listed_is_led_nowhere() {
        let long = format!("https://ok.example/{}", "x".repeat(Redirects::MAX_BYTES));
        for bad in [
            "",
            "/",
            "/in",
            "ok.example",
            "//evil.example",
            "//ok.example/",
            "///ok.example/",
            "https:ok.example",
            "https:/ok.example/",
            "https:///ok.example/",
            "https:evil.example",
            "https://",
            "https:///",
            "\\\\evil.example",
            "\\\\ok.example\\",
            "https:\\\\ok.example\\",
            "https://ok.example\\@evil.example/",
            "/\\evil.example",
            "https://ok.example@evil.example/",
            "https://user@ok.example/",
            "https://user:secret@ok.example/",
            "https://@ok.example/",
            "https://:@ok.example/",
            "https://ok.example%2f@evil.example/",
            "https://ok.example.evil/",
            "https://ok.example.evil.example/",
            "https://evil.example/https://ok.example/",
            "https://evil.example/?https://ok.example/",
            "https://evil.example#https://ok.example/",
            "https://fooaexample.com/callback",
            "https://aexample.com/callback",
            "https://a-example.com/callback",
            "https://b.a.example.com/callback",
            "https://a.example.com./callback",
            "https://a.example.com/callback/",
            "https://a.example.com/callback2",
            "https://a.example.com/Callback",
            "https://a.example.com/callback?",
            "https://a.example.com/callback?x=1",
            "https://a.example.com/callback#",
            "https://a.example.com/callback#x",
            "https://a.example.com:444/callback",
            "https://ok.example/in?lang=de&from=mail",
            "https://ok.example/in?from=mail&lang=de&lang=en",
            "http://ok.example/",
            "http://localhost/done",
            "http://localhost.evil.example:3000/done",
            "http://127.0.0.1:3000/done",
            "ftp://ok.example/",
            "javascript:alert(1)",
            "javascript://ok.example/%0aalert(1)",
            "JaVaScRiPt://https://ok.example/",
            "data:text/html,x",
            " https://ok.example/",
            "https://ok.example/ ",
            "https://ok.example/\r\nLocation: https://evil.example/",
            "https://ok.ex\tample/",
            "https://ok.example/\u{0}",
            "https://ok\u{3002}evil.example/",
            "https://оk.example/",
            "https://ok.example/%",
            &long,
        ] {
            assert_eq!(redirects().allowed(bad), Err(NotAllowed), "{bad:?}");
        }
        assert_eq!(Redirects::default().allowed("https://ok.example/"), Err(NotAllowed));
        assert!(Redirects::default().is_empty());
    }

    #[test]
    fn a85_what_would_lead_to_strangers_cannot_be_listed() {
        for good in [
            "https://ok.example",
            "http://localhost:3000/x",
            "http://127.0.0.1/",
            "http://127.9.9.9:80/",
            "https://bücher.example/",
        ] {
            assert!(Redirects::new([good]).is_ok(), "{good}");
        }
        for (bad, word) in [
            ("https://*.example.org/", "*"),
            ("https://ok.example/*", "*"),
            ("*", "*"),
            ("https://user@ok.example/", "@"),
            ("https://@ok.example/", "@"),
            ("https://ok.example/#top", "#"),
            ("https://ok.example/#", "#"),
            ("http://ok.example/", "https://"),
            ("http://localhost.evil.example/", "https://"),
            ("http://10.0.0.1/", "https://"),
            ("//ok.example/", "absolute"),
            ("/in", "absolute"),
            ("ok.example", "absolute"),
            ("https:ok.example", "absolute"),
            ("https:\\\\ok.example", "absolute"),
            ("javascript:alert(1)", "absolute"),
            ("app://callback", "absolute"),
            ("https://ok.example/ in", "absolute"),
            ("https://ok.example/{next}", "absolute"),
            ("https://", "absolute"),
            ("", "absolute"),
        ] {
            let refused = Redirects::new(["https://ok.example/", bad]).expect_err(bad);
            assert!(refused.to_string().contains(word), "{bad}: {refused}");
        }
    }

    proptest! {
        #[test]
        fn a65_nothing_comes_out_that_was_not_listed(text in "(?s).{0,40}") {
            if let Ok(to) = redirects().allowed(&text) {
                prop_assert!(LISTED.contains(&to.as_str()));
            }
        }

        #[test]
        fn a65_nothing_comes_out_however_a_listed_url_is_twisted(
            at in any::<prop::sample::Index>(), of in prop::sample::select(&LISTED[..]), cut in 0usize..3,
            put in "(//|\\\\\\\\|@|\\.|evil\\.example|%2e|%00|#|\\?|:|:443|\\t|/\\.\\./|[a-zA-Z0-9/.:@?#%]{1,4})",
        ) {
            let at = at.index(of.len() + 1);
            let text = format!("{}{put}{}", &of[..at], &of[(at + cut).min(of.len())..]);
            if let Ok(to) = redirects().allowed(&text) {
                prop_assert!(LISTED.contains(&to.as_str()));
            }
        }
    }
}
