//! What answers say of tokens: [`Record`], [`NewToken`], [`Page`]. Never a digest, a number or an epoch.

use std::net::IpAddr;

use axum::Json;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use counterfoil_core::authority::{self, List};
use counterfoil_core::{
    Abilities, ClientName, Issued, Kind, SecretToken, Sighting, Timestamp, Token, TokenId, TokenName, UserAgent,
};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::cookie::Cookies;

/// One token, as its owner sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Record {
    /// Its public name.
    #[schema(value_type = String, format = "uuid")]
    id: TokenId,
    /// A signed-in device or an API key.
    kind: KindWord,
    /// The client it was issued on.
    #[schema(value_type = String)]
    client: ClientName,
    /// What its owner calls it.
    #[schema(value_type = Option<String>, required)]
    name: Option<TokenName>,
    /// What it may do.
    #[schema(value_type = Vec<String>)]
    abilities: Abilities,
    /// When it was issued.
    #[schema(value_type = String, format = DateTime)]
    issued_at: Timestamp,
    /// The first instant at which it is dead; null: never by time.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    expires_at: Option<Timestamp>,
    /// Whether it is the one that this request carries.
    current: bool,
    /// Where it was issued.
    first_seen: Seen,
    /// Where it was last used, up to a minute ago.
    #[schema(required)]
    last_seen: Option<Seen>,
}

/// `login` or `key`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum KindWord {
    Login,
    Key,
}

impl From<Kind> for KindWord {
    fn from(kind: Kind) -> KindWord {
        match kind {
            Kind::Login => KindWord::Login,
            Kind::Key => KindWord::Key,
        }
    }
}

/// When and from where a token was used. What the client said of itself is text: encode it wherever it is shown.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Seen {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// From which address.
    #[schema(value_type = Option<String>, required)]
    ip: Option<IpAddr>,
    /// What the client program called itself.
    #[schema(value_type = Option<String>, required)]
    user_agent: Option<UserAgent>,
}

impl From<Sighting> for Seen {
    fn from(Sighting { at, source }: Sighting) -> Seen {
        Seen { at, ip: source.ip, user_agent: source.user_agent }
    }
}

impl Record {
    /// What `caller` sees of `token`.
    pub(crate) fn of(token: Token, caller: &Caller) -> Record {
        Record {
            current: token.id == caller.who.id,
            id: token.id,
            kind: token.kind.into(),
            client: token.client,
            name: token.name,
            abilities: token.abilities,
            issued_at: token.issued_at,
            expires_at: token.expires_at,
            first_seen: token.first_seen.into(),
            last_seen: token.last_seen.map(Seen::from),
        }
    }
}

/// Some records of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page {
    /// The records, oldest first.
    items: Vec<Record>,
    /// What to send as `cursor` for the next page; null at the end.
    #[schema(required)]
    next: Option<String>,
}

impl Page {
    /// What `caller` sees of a page of their tokens of this kind.
    pub(crate) fn of(page: authority::Page<Token>, kind: Kind, caller: &Caller) -> Page {
        Page {
            items: page.items.into_iter().map(|token| Record::of(token, caller)).collect(),
            next: page.next.map(|cursor| caller.authority().cursor_text(&cursor, List::Own(kind), &caller.who)),
        }
    }
}

/// A token that has just been made or given a new secret. The only answer that carries a secret, and the only time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NewToken {
    /// The text to keep and to send as `Authorization: Bearer …`. It is not shown again, and not at all where it went into a
    /// cookie.
    #[serde(serialize_with = "expose", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    token: Option<SecretToken>,
    /// What a page sends as `X-CSRF-Token`, where the token went into a cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    csrf_token: Option<String>,
    /// Its public name.
    #[schema(value_type = String, format = "uuid")]
    id: TokenId,
    /// A signed-in device or an API key.
    kind: KindWord,
    /// The client it was issued on.
    #[schema(value_type = String)]
    client: ClientName,
    /// What its owner calls it.
    #[schema(value_type = Option<String>, required)]
    name: Option<TokenName>,
    /// What it may do; for API keys only, a login token may do everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    abilities: Option<Abilities>,
    /// When it was issued.
    #[schema(value_type = String, format = DateTime)]
    issued_at: Timestamp,
    /// The first instant at which it is dead; null: never by time.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    expires_at: Option<Timestamp>,
    /// The account that it stands for, with the configured fields; null where the host keeps its users itself.
    #[schema(value_type = Option<Object>, required)]
    user: Option<Map<String, Value>>,
}

impl NewToken {
    pub(crate) fn of(issued: Issued, user: Option<Map<String, Value>>) -> NewToken {
        let Issued { token, secret, .. } = issued;
        NewToken {
            token: Some(secret),
            csrf_token: None,
            id: token.id,
            abilities: match token.kind {
                Kind::Login => None,
                Kind::Key => Some(token.abilities),
            },
            kind: token.kind.into(),
            client: token.client,
            name: token.name,
            issued_at: token.issued_at,
            expires_at: token.expires_at,
            user,
        }
    }

    pub(crate) fn id(&self) -> TokenId {
        self.id
    }

    /// The answer to a browser that keeps the token where no page reads it.
    pub(crate) fn into_cookie(self, cookies: &Cookies, csrf_token: String, now: Timestamp) -> Shown {
        let NewToken { token, expires_at, .. } = &self;
        let cookie = token.as_ref().and_then(|secret| cookies.keep(secret, *expires_at, now));
        Shown { cookie, body: Json(NewToken { token: None, csrf_token: Some(csrf_token), ..self }) }
    }
}

/// A body, and the cookie that goes with it.
pub(crate) struct Shown<T = NewToken> {
    pub(crate) cookie: Option<HeaderValue>,
    pub(crate) body: Json<T>,
}

impl<T> From<T> for Shown<T> {
    fn from(body: T) -> Shown<T> {
        Shown { cookie: None, body: Json(body) }
    }
}

impl<T: Serialize> IntoResponse for Shown<T> {
    fn into_response(self) -> Response {
        let Shown { cookie, body } = self;
        (cookie.map(|cookie| [(header::SET_COOKIE, cookie)]), body).into_response()
    }
}

fn expose<S: Serializer>(secret: &Option<SecretToken>, serializer: S) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => serializer.serialize_str(secret.expose()),
        None => serializer.serialize_none(),
    }
}
