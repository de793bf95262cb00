//! django-rest-durin 1.1: one token for each user and client, listed as sessions, and one more for programs.

mod humanize;

use std::sync::Arc;

use axum::http::{Method, StatusCode};
use counterfoil_core::authority::{FurtherLogin, LoggedIn, LoginTerms, Others};
use counterfoil_core::shape::{HexShape, TokenShape};
use counterfoil_core::token::Standing;
use counterfoil_core::{ClientName, Identity, Refusal, SecretToken, Timestamp, Token, TokenId};

use self::humanize::{Wording, naturaldelta};
use super::drf::answer::Answer;
use super::drf::authorization::{Authentication, TokenScheme, TokenWords};
use super::drf::fields::{CharField, PASSWORD, Presence, USERNAME, credentials_rejected, validate};
use super::drf::json::Value;
use super::drf::moment::DateTimeFormat;
use super::drf::parse::{Data, Entry};
use super::drf::python;
use super::drf::user::UserFields;
use super::drf::view::{Permission, Throttle, View};
use super::settings::{NotASetting, Settings};
use super::{Act, Ask, Asked, DialectRoute, Package, Path, shown};

const LOGIN: &str = "Durin's Login View.\n\nThis view will return a JSON response when valid ``username``, ``password`` and\n\
(if not overwritten) ``client`` fields are POSTed to the view using\nform data or JSON.\n\n\
It uses the default serializer provided by\nDjango-Rest-Framework (``rest_framework.authtoken.serializers.AuthTokenSerializer``)\n\
to validate the user credentials.\n\nIt is possible to customize LoginView behaviour by overriding the following\nhelper methods:";
const REFRESH: &str = "Durin's Refresh View\n\nThis view accepts only a post request with an empty body.\n\
It responds to Durin Token Authentication. On a successful request,\n\n\
1. The given token's expiry is extended by it's associated\n   :py:attr:`durin.models.Client.token_ttl`\n   \
duration and a JSON object will be returned containing a single ``expiry``\n   \
key as the new timestamp for when the token expires.\n\n2. :meth:`durin.signals.token_renewed` is called.";
const LOGOUT: &str = "Durin's Logout View.\n\nThis view accepts only a post request with an empty body.\n\
It responds to Durin Token Authentication. On a successful request,\n\n\
1. The token used to authenticate is deleted from\n   the database and can no longer be used to authenticate.\n\n\
2. :meth:`django.contrib.auth.signals.user_logged_out` is called.\n\n:returns: 204 (No content)";
const LOGOUT_ALL: &str = "Durin's LogoutAllView.\n\n\
This view accepts only a post request with an empty body. It responds to Durin Token\nAuthentication.\nOn a successful request,\n\n\
1. The token used to authenticate, and **all other tokens**\n   registered to the same ``User`` account, are deleted from the\n   \
system and can no longer be used to authenticate.\n\n\
2. :meth:`django.contrib.auth.signals.user_logged_out` is called.\n\n:returns: 204 (No content)";
const SESSIONS: &str = "Durin's TokenSessionsViewSet.\n\n- Returns list of active sessions of authed user.\n\
- Only ``list()`` and ``delete()`` operations.\n\n.. versionadded:: 1.0.0";
const API_ACCESS: &str = "Durin's APIAccessTokenView.\n\n- ``GET`` -> get token-client pair info\n\
- ``POST`` -> create and get token-client pair info\n- ``DELETE`` -> delete existing API access token\n\n.. versionadded:: 1.0.0";

const fn shown_field(name: &'static str, kind: &'static str, label: &'static str) -> CharField {
    CharField { kind, presence: Presence::ReadOnly, ..CharField::named(name, label) }
}

/// What OPTIONS tells of the token for programs.
const API_ACCESS_FIELDS: &[CharField] = &[
    shown_field("client", "field", "Client"),
    shown_field("created", "datetime", "Created"),
    shown_field("expiry", "datetime", "Expiry"),
    shown_field("has_expired", "field", "Has expired"),
    shown_field("expires_in_str", "string", "Expires in str"),
    CharField { help_text: Some("Token is auto-generated on save."), ..shown_field("token", "string", "Token") },
];

pub(super) fn package(settings: &mut Settings<'_>) -> Result<Package, NotASetting> {
    settings.utc()?;
    settings.default_authentication(&["TokenAuthentication", "CachedTokenAuthentication"])?;
    let digits = settings.number("REST_DURIN.TOKEN_CHARACTER_LENGTH")?.unwrap_or(64);
    // Two for each byte, as the package does it.
    let digits = usize::try_from(digits / 2 * 2).unwrap_or(usize::MAX);
    let shape = settings.shape(|| HexShape::new("", digits).map(TokenShape::Hex))?;
    let keyword = settings.keyword("REST_DURIN.AUTH_HEADER_PREFIX")?.unwrap_or("Token").to_owned();
    let words = TokenWords { expired: "The given token has expired.", ..TokenWords::DEFAULT };
    let authentication = Authentication::Token(TokenScheme { words, ..TokenScheme::of(keyword) });
    let shown_times = settings.times("REST_FRAMEWORK.DATETIME_FORMAT")?.unwrap_or(DateTimeFormat::Iso);
    let login_times = settings.times("REST_DURIN.EXPIRY_DATETIME_FORMAT")?.unwrap_or_else(|| shown_times.clone());
    let user = settings.user_fields("REST_DURIN", "durin.serializers.UserSerializer")?;
    let renews_at_login = settings.flag("REST_DURIN.REFRESH_TOKEN_ON_LOGIN")?.unwrap_or(false);
    let api_client: Option<ClientName> = match settings.text("REST_DURIN.API_ACCESS_CLIENT_NAME")? {
        None | Some("") => None,
        Some(name) => {
            let key = "REST_DURIN.API_ACCESS_CLIENT_NAME";
            Some(name.parse().map_err(|error| NotASetting::new(key, format!("{error}")))?)
        }
    };
    let apart = settings.flag("REST_DURIN.API_ACCESS_EXCLUDE_FROM_SESSIONS")?.unwrap_or(false);
    let shows_token = settings.flag("REST_DURIN.API_ACCESS_RESPONSE_INCLUDE_TOKEN")?.unwrap_or(false);
    // Of use where clients are made; a process that answers needs none of them.
    settings.interval("REST_DURIN.DEFAULT_TOKEN_TTL")?;
    settings.interval("REST_DURIN.TOKEN_CACHE_TIMEOUT")?;
    settings.take("REST_DURIN.AUTHTOKEN_SELECT_RELATED_LIST");
    let wordings = [("4.15", Wording::Rounded), ("4.14", Wording::Cut)];
    let wording = settings.one_of("humanize", &wordings)?.unwrap_or(Wording::Rounded);
    let default_rate = settings.rate("REST_FRAMEWORK.DEFAULT_THROTTLE_RATES.user_per_client")?;
    let throttle = match settings.classes(THROTTLES)?.as_deref() {
        None | Some([]) => None,
        Some(["UserClientRateThrottle"]) => Some(Throttle { fallback: default_rate }),
        Some(_) => return Err(NotASetting::new(THROTTLES, "is [UserClientRateThrottle] or nothing")),
    };
    let permission = settings.default_permission()?;
    let host_view = View {
        renderers: settings.default_renderers()?,
        parsers: settings.default_parsers()?,
        authentication: authentication.clone(),
        throttle,
        default_rate,
        ..View::named("", &[])
    };

    let view = |name: &'static str, description: &'static str, methods: &[Method]| View {
        name: name.into(),
        description: description.into(),
        methods: methods.to_vec(),
        permission: permission.clone(),
        ..host_view.clone()
    };
    let login = View {
        authentication: Authentication::Nobody,
        permission: Permission::Anyone,
        ..view("Login", LOGIN, &[Method::POST])
    };
    let api_access_view = View {
        actions: API_ACCESS_FIELDS,
        ..view("Api Access Token", API_ACCESS, &[Method::GET, Method::POST, Method::DELETE])
    };
    let nobody = authentication.missing();
    let listing = Listing { wording, times: shown_times.clone() };
    let sessions =
        Sessions { nobody: nobody.clone(), apart: api_client.clone().filter(|_| apart), listing: listing.clone() };
    let api_access =
        ApiAccess { nobody: nobody.clone(), client: api_client, shows_token, shape: shape.clone(), listing };
    let act = Login { shape, renews: renews_at_login, times: login_times.clone(), user, user_times: shown_times };
    let post = &[Method::POST];
    Ok(Package {
        routes: vec![
            route(Path::Exact("/login/"), login, act),
            route(
                Path::Exact("/refresh/"),
                view("Refresh", REFRESH, post),
                Refresh { nobody: nobody.clone(), times: login_times },
            ),
            route(Path::Exact("/logout/"), view("Logout", LOGOUT, post), Logout { nobody: nobody.clone() }),
            route(Path::Exact("/logoutall/"), view("Logout All", LOGOUT_ALL, post), LogoutAll { nobody }),
            route(Path::Exact("/apiaccess/"), api_access_view, api_access),
            route(Path::Exact("/sessions/"), view("Token Sessions List", SESSIONS, &[Method::GET]), sessions.clone()),
            // With two slashes, and none at the end: so the package's router makes it.
            route(
                Path::Routed("/sessions//{pk}"),
                view("Token Sessions Instance", SESSIONS, &[Method::DELETE]),
                sessions,
            ),
        ],
        host_view,
        client: None,
    })
}

const THROTTLES: &str = "REST_FRAMEWORK.DEFAULT_THROTTLE_CLASSES";

fn route(path: Path, view: View, act: impl Act + 'static) -> DialectRoute {
    DialectRoute { path, view, act: Arc::new(act) }
}

#[derive(Debug)]
struct Login {
    shape: TokenShape,
    renews: bool,
    times: DateTimeFormat,
    user: Option<UserFields>,
    user_times: DateTimeFormat,
}

impl Act for Login {
    fn reads_body(&self, method: &Method) -> bool {
        method == Method::POST
    }

    fn ask(&self, request: &Asked) -> Result<Ask, Answer> {
        let data = request.data()?;
        let mut fields = validate(&[USERNAME, PASSWORD], &data)?;
        let wanted = wanted_client(&data);
        let client = wanted.clone().unwrap_or_else(|_| ClientName::default_client());
        let shape = self.shape.clone();
        let (times, user, user_times) = (self.times.clone(), self.user.clone(), self.user_times.clone());
        let answer = Box::new(move |logged_in: &LoggedIn| {
            let LoggedIn { issued, account } = logged_in;
            let mut told = vec![("expiry", times.value(issued.token.expires_at)), ("token", shown(&issued.secret))];
            told.extend(user.map(|fields| ("user", fields.of(account, &user_times))));
            Answer::ok(Value::object(told))
        });
        let username = fields.take("username").unwrap_or_default().to_string();
        let password = fields.take("password").unwrap_or_default();
        // Which client it shall be is looked at when the password has proved right.
        let terms = Box::new(move |_: &_| Ok(LoginTerms { client: wanted?, name: None, shape }));
        Ok(match self.renews {
            false => Ask::LogIn { username, password, client, terms, answer },
            true => Ask::LogInAnew { login: super::Login { username, password, client, terms }, answer },
        })
    }

    fn refused(&self, _: &Asked, refusal: &Refusal) -> Option<Answer> {
        if matches!(refusal, Refusal::ClientUnknown | Refusal::LoginNotAllowed) {
            // One that people cannot log in on is none to them.
            return Some(no_such_client());
        }
        credentials_rejected(refusal)
    }

    fn mints(&self) -> Option<&TokenShape> {
        Some(&self.shape)
    }
}

/// The client that a login names, by the rules of Python for what is true and what a thing looks like as a text.
fn wanted_client(data: &Data) -> Result<ClientName, Answer> {
    let none = || Answer::detail(StatusCode::BAD_REQUEST, "No client specified.");
    let text = match data {
        Data::Form(fields) => match fields.iter().rev().find(|(name, _)| name == "client") {
            None => return Err(none()),
            Some((_, Entry::Text(text))) => text.to_string(),
            Some((_, Entry::File)) => return Err(no_such_client()),
        },
        Data::Json(Value::Object(fields)) => match fields.iter().find(|(name, _)| name.as_str() == "client") {
            None | Some((_, Value::Null | Value::Bool(false))) => return Err(none()),
            Some((_, Value::Bool(true))) => "True".to_owned(),
            Some((_, Value::Int(number))) if matches!(number.as_str(), "0" | "-0") => return Err(none()),
            Some((_, Value::Float(number))) if *number == 0.0 => return Err(none()),
            Some((_, Value::Int(number))) => number.clone(),
            Some((_, Value::Float(number))) => super::drf::json::python_float(*number),
            Some((_, Value::Text(text))) if text.lone_surrogate().is_none() => text.as_str().to_owned(),
            Some((_, Value::Text(_))) => return Err(no_such_client()),
            Some((_, Value::List(items))) if items.is_empty() => return Err(none()),
            Some((_, Value::Object(fields))) if fields.is_empty() => return Err(none()),
            // A client could be called as Python prints a list; nobody's is.
            Some((_, Value::List(_) | Value::Object(_))) => return Err(no_such_client()),
        },
        Data::Json(
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) | Value::List(_),
        ) => {
            return Err(none());
        }
    };
    if text.is_empty() {
        return Err(none());
    }
    text.parse().map_err(|_| no_such_client())
}

fn no_such_client() -> Answer {
    Answer::detail(StatusCode::BAD_REQUEST, "No client with that name.")
}

fn not_found() -> Answer {
    Answer::detail(StatusCode::NOT_FOUND, "Not found.")
}

fn no_content(_: &()) -> Answer {
    Answer::nothing(StatusCode::NO_CONTENT)
}

/// Whoever has a token; where views are open and there is nobody, `nobody` is the answer.
fn holder(request: &Asked, nobody: &Answer) -> Result<Identity, Answer> {
    request.who.clone().ok_or_else(|| nobody.clone())
}

#[derive(Debug)]
struct Refresh {
    nobody: Answer,
    times: DateTimeFormat,
}

impl Act for Refresh {
    fn reads_body(&self, _: &Method) -> bool {
        false
    }

    fn ask(&self, request: &Asked) -> Result<Ask, Answer> {
        let who = holder(request, &self.nobody)?;
        let times = self.times.clone();
        let answer =
            Box::new(move |end: &Option<Timestamp>| Answer::ok(Value::object([("expiry", times.value(*end))])));
        Ok(Ask::Renew { who, answer })
    }

    fn refused(&self, _: &Asked, _: &Refusal) -> Option<Answer> {
        None
    }
}

#[derive(Debug)]
struct Logout {
    nobody: Answer,
}

impl Act for Logout {
    fn reads_body(&self, _: &Method) -> bool {
        false
    }

    fn ask(&self, request: &Asked) -> Result<Ask, Answer> {
        Ok(Ask::LogOut { who: holder(request, &self.nobody)?, answer: Box::new(no_content) })
    }

    fn refused(&self, _: &Asked, _: &Refusal) -> Option<Answer> {
        None
    }
}

#[derive(Debug)]
struct LogoutAll {
    nobody: Answer,
}

impl Act for LogoutAll {
    fn reads_body(&self, _: &Method) -> bool {
        false
    }

    fn ask(&self, request: &Asked) -> Result<Ask, Answer> {
        Ok(Ask::EndAll { who: holder(request, &self.nobody)?, answer: Box::new(no_content) })
    }

    fn refused(&self, _: &Asked, _: &Refusal) -> Option<Answer> {
        None
    }
}

/// How a token is shown.
#[derive(Debug, Clone)]
struct Listing {
    wording: Wording,
    times: DateTimeFormat,
}

impl Listing {
    fn client_and_life(&self, token: &Token, now: Timestamp) -> [(&'static str, Value); 4] {
        [
            ("client", Value::text(token.client.as_str())),
            ("created", self.times.value(Some(token.issued_at))),
            ("expiry", self.times.value(token.expires_at)),
            ("has_expired", Value::Bool(token.standing(now) == Standing::Expired)),
        ]
    }

    /// Not what is left of it, but how long it lives in all. The package notes when it ends before it notes when it began, so that it is a
    /// hair less than its client says: a week is six days.
    fn expires_in(&self, token: &Token) -> (&'static str, Value) {
        let told = match token.expires_at {
            Some(end) => {
                let life = end.millis().saturating_sub(token.issued_at.millis()).saturating_mul(1_000);
                naturaldelta(life.saturating_sub(1).unsigned_abs(), self.wording)
            }
            None => "N/A".to_owned(),
        };
        ("expires_in_str", Value::text(told))
    }
}

/// As the package has them: one for each client, and an expired one as long as no other has taken its place.
fn sessions_of(mut tokens: Vec<Token>, now: Timestamp) -> Vec<Token> {
    let newest: Vec<(ClientName, TokenId)> = tokens.iter().map(|token| (token.client.clone(), token.id)).collect();
    tokens.retain(|token| {
        let last = newest.iter().rfind(|(client, _)| *client == token.client);
        token.standing(now) == Standing::Live || last.is_some_and(|(_, id)| *id == token.id)
    });
    tokens
}

#[derive(Debug, Clone)]
struct Sessions {
    nobody: Answer,
    /// The client whose tokens are not among them.
    apart: Option<ClientName>,
    listing: Listing,
}

impl Sessions {
    fn list(&self, who: Identity) -> Ask {
        let Sessions { apart, listing, .. } = self.clone();
        let current = who.id;
        let then = Box::new(move |tokens, now| {
            let sessions = sessions_of(tokens, now).into_iter().filter(|token| Some(&token.client) != apart.as_ref());
            let told = sessions.map(|token| {
                let mut told = vec![("id", Value::int(token.number))];
                told.extend(listing.client_and_life(&token, now));
                told.push(("is_current", Value::Bool(token.id == current)));
                told.push(listing.expires_in(&token));
                Value::object(told)
            });
            Err(Answer::ok(Value::list(told)))
        });
        Ask::Tokens { who, then }
    }

    /// 404 where the number is none, or none of theirs.
    fn end(&self, who: Identity, wanted: &str, base: &str) -> Result<Ask, Answer> {
        let number = python::int(wanted).ok_or_else(not_found)?;
        let apart = self.apart.clone();
        let (holder, logout) = (who.clone(), format!("{base}logout/"));
        let then = Box::new(move |tokens, now| {
            let sessions = sessions_of(tokens, now).into_iter().filter(|token| Some(&token.client) != apart.as_ref());
            let found = sessions.into_iter().find(|token| i128::from(token.number) == number);
            let none = || Answer::detail(StatusCode::NOT_FOUND, "No AuthToken matches the given query.");
            let token = found.ok_or_else(none)?;
            if token.id == holder.id {
                let words = format!("Can't delete token if the request is authed with it.Use {logout} instead.");
                return Err(Answer::data(StatusCode::BAD_REQUEST, Value::list([Value::text(words)])));
            }
            Ok(Ask::Revoke { who: holder, tokens: vec![token.id], answer: Box::new(no_content) })
        });
        Ok(Ask::Tokens { who, then })
    }
}

impl Act for Sessions {
    fn reads_body(&self, _: &Method) -> bool {
        false
    }

    fn ask(&self, request: &Asked) -> Result<Ask, Answer> {
        let who = holder(request, &self.nobody)?;
        if request.method != Method::DELETE {
            return Ok(self.list(who));
        }
        let base = request.path.rfind("sessions//").map_or("/", |at| &request.path[..at]);
        self.end(who, request.parameter("pk"), base)
    }

    fn refused(&self, _: &Asked, _: &Refusal) -> Option<Answer> {
        None
    }
}

#[derive(Debug)]
struct ApiAccess {
    nobody: Answer,
    client: Option<ClientName>,
    shows_token: bool,
    shape: TokenShape,
    listing: Listing,
}

impl ApiAccess {
    /// The token as it is told, with its text where that is known.
    fn told(
        listing: &Listing,
        token: &Token,
        secret: Option<&SecretToken>,
        status: StatusCode,
        now: Timestamp,
    ) -> Answer {
        let mut told = Vec::from(listing.client_and_life(token, now));
        told.push(listing.expires_in(token));
        told.extend(secret.map(|secret| ("token", shown(secret))));
        Answer::data(status, Value::object(told))
    }

    fn show(&self, who: Identity, client: ClientName) -> Ask {
        let (listing, shows_token, holder) = (self.listing.clone(), self.shows_token, who.clone());
        let then = Box::new(move |tokens, now| {
            let token = on_client(tokens, &client, now).pop().ok_or_else(not_found)?;
            if !shows_token {
                return Err(ApiAccess::told(&listing, &token, None, StatusCode::OK, now));
            }
            let shown = token.clone();
            let answer = move |secret: &Option<SecretToken>| {
                ApiAccess::told(&listing, &shown, secret.as_ref(), StatusCode::OK, now)
            };
            Ok(Ask::Reveal { who: holder, token: Box::new(token), answer: Box::new(answer) })
        });
        Ask::Tokens { who, then }
    }

    fn make(&self, who: Identity, client: ClientName) -> Ask {
        let (listing, shape, holder) = (self.listing.clone(), self.shape.clone(), who.clone());
        let then = Box::new(move |tokens, now| {
            if !on_client(tokens, &client, now).is_empty() {
                return Err(already_issued());
            }
            let further = FurtherLogin { client, name: None, shape, others: Others::None };
            let answer = move |(issued, _): &(counterfoil_core::Issued, _)| {
                ApiAccess::told(&listing, &issued.token, Some(&issued.secret), StatusCode::CREATED, now)
            };
            Ok(Ask::LogInFurther { who: holder, further, answer: Box::new(answer) })
        });
        Ask::Tokens { who, then }
    }

    fn end(who: Identity, client: ClientName) -> Ask {
        let holder = who.clone();
        let then = Box::new(move |tokens, now| {
            let tokens: Vec<TokenId> = on_client(tokens, &client, now).iter().map(|token| token.id).collect();
            if tokens.is_empty() {
                return Err(not_found());
            }
            Ok(Ask::Revoke { who: holder, tokens, answer: Box::new(no_content) })
        });
        Ask::Tokens { who, then }
    }
}

fn on_client(tokens: Vec<Token>, client: &ClientName, now: Timestamp) -> Vec<Token> {
    sessions_of(tokens, now).into_iter().filter(|token| token.client == *client).collect()
}

fn already_issued() -> Answer {
    let words = Value::text("An API token was already issued to you.");
    Answer::data(StatusCode::BAD_REQUEST, Value::list([words]))
}

impl Act for ApiAccess {
    fn reads_body(&self, _: &Method) -> bool {
        false
    }

    fn ask(&self, request: &Asked) -> Result<Ask, Answer> {
        let client = self.client.clone();
        match (&request.who, &request.method) {
            (None, &Method::POST) => Err(self.nobody.clone()),
            // Nobody has none, as the package says it where its views are open.
            (None, _) => Err(not_found()),
            (Some(who), method) => {
                let client = client.ok_or_else(not_found)?;
                Ok(match *method {
                    Method::POST => self.make(who.clone(), client),
                    Method::DELETE => ApiAccess::end(who.clone(), client),
                    _ => self.show(who.clone(), client),
                })
            }
        }
    }

    fn refused(&self, _: &Asked, refusal: &Refusal) -> Option<Answer> {
        if matches!(refusal, Refusal::CapReached { .. }) {
            return Some(already_issued());
        }
        (*refusal == Refusal::ClientUnknown).then(not_found)
    }
}
