//! What the operator may choose about HTTP: [`HttpSettings`].

use std::time::Duration;

use counterfoil_core::AccountField;

use crate::cookie::Cookies;
use crate::credentials::Scheme;
use crate::device::TrustedProxy;
use crate::origin::Origin;

/// What the operator may choose. The default is safe behind nothing and behind anything: it believes no proxy.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Whose `X-Forwarded-For` and `X-Request-Id` are believed. Empty by default. A network that clients can speak from
    /// lets them choose the address that the log and their own device list show.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// What an answer says of an account. Every client of every user reads these.
    pub user_fields: Vec<AccountField>,
    /// Pages of which origins may call the routes from a browser. Empty by default: none may, and nobody else needs it. Such
    /// a page reads every answer to a token that it holds; cookies and passwords of the browser are never sent along.
    pub cors_origins: Vec<Origin>,
    /// The schemes of `Authorization` that carry a token. `Bearer` and `Token` by default. The first one is named in
    /// `WWW-Authenticate`; where there is none, the header is not read.
    pub schemes: Vec<Scheme>,
    /// Whether `X-Api-Key` carries a token, too. Off by default: who may send it in two places may send two.
    pub api_key_header: bool,
    /// Tokens in a cookie, for pages in a browser. None by default, and then no cookie is read.
    pub cookies: Option<Cookies>,
    /// The realm in `WWW-Authenticate`: what people are told they are asked to log in to.
    pub realm: String,
    /// How long a client may take to send a body. 10 s. Longer ones let few clients hold many connections.
    pub body_timeout: Duration,
    /// How long a request may take altogether; then it is given up and answered with 503. 30 s. Must exceed
    /// `body_timeout`, or slow clients read that the service is slow.
    pub request_timeout: Duration,
    /// What the ids of requests begin with: 1 to 32 of `A-Z a-z 0-9 . _ -`. `None`: the time this process started, which
    /// is enough unless several nodes write one log. Anything else counts as `None`.
    pub request_id_prefix: Option<String>,
}

impl Default for HttpSettings {
    fn default() -> Self {
        HttpSettings {
            trusted_proxies: Vec::new(),
            user_fields: AccountField::DEFAULT.to_vec(),
            cors_origins: Vec::new(),
            schemes: vec![Scheme::BEARER, Scheme::TOKEN],
            api_key_header: false,
            cookies: None,
            realm: "counterfoil".to_owned(),
            body_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            request_id_prefix: None,
        }
    }
}
