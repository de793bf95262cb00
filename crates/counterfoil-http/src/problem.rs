//! What a caller is told when there is no answer: [`Problem`], an RFC 9457 document of a closed catalogue.
//!
//! The catalogue is `docs/problems.md`: a client decides by `type`, which never changes, and shows `detail` to people.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use counterfoil_core::attempts::TryLater;
use counterfoil_core::event::Limit;
use counterfoil_core::password_policy::TooWeak;
use counterfoil_core::throttle::{Rate, RouteClass, TooMany};
use counterfoil_core::{Ability, Error, Invalid, Refusal};
use serde::Serialize;
use utoipa::ToSchema;

use crate::credentials::{NoToken, Scheme};
use crate::pages::Rendered;
use crate::request_id::RequestId;
use crate::settings::HttpSettings;

/// The media type of a problem document.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// The kinds of problem. Closed on purpose: a client can know them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProblemKind {
    /// The request cannot be read.
    InvalidRequest,
    /// One field cannot be taken.
    InvalidValue,
    /// A login names a client that there is not.
    UnknownClient,
    /// The user name or the password is wrong.
    InvalidCredentials,
    /// There is no token in the request.
    TokenMissing,
    /// There is one, and it is not valid.
    InvalidToken,
    /// The token may not do this.
    InsufficientAbility,
    /// A key would be allowed more, or live longer, than the token that makes it.
    BeyondMaker,
    /// Nobody logs in on this client.
    LoginNotAllowed,
    /// The service around the routes does not want this token made.
    IssueRefused,
    /// The expiry does not move on by asking.
    RenewalNotAllowed,
    /// The owner has locked the secrets of their tokens.
    RotationLocked,
    /// The user, the service or the address has been here as often as it may.
    QuotaExceeded,
    /// Too many logins by this name have failed.
    TooManyAttempts,
    /// Only staff may do this.
    StaffNeeded,
    /// Only an administrator may do this.
    AdminNeeded,
    /// The token is of a client that may not do this.
    ClientNotAllowed,
    /// The login is too long ago, or there was none.
    LoginTooOld,
    /// A cookie came with a request that a page of another site may have made.
    CrossSite,
    /// There is no such thing, or it is not the caller's.
    NotFound,
    /// There is, but not with this method.
    MethodNotAllowed,
    /// The body took too long to arrive.
    BodyTimeout,
    /// The user has as many live tokens on this client as it may.
    CapReached,
    /// Nobody makes an account for themselves here.
    RegistrationClosed,
    /// What goes by mail is not offered.
    NoMail,
    /// A mailed link has been used, is too old, or was never one.
    LinkDead,
    /// The password that was asked for again is wrong.
    WrongPassword,
    /// Somebody else logs in by the address that was proved.
    EmailTaken,
    /// The name is in use.
    NameTaken,
    /// What was asked for stands in the way of something else.
    Conflict,
    /// The body is too large.
    BodyTooLarge,
    /// The body is of a type that this route does not read.
    UnsupportedMediaType,
    /// A fault of ours.
    Internal,
    /// Too much is waiting.
    Overloaded,
    /// Something that is needed for an answer is away.
    Unavailable,
    /// The answer took too long.
    Timeout,
}

impl ProblemKind {
    /// The whole catalogue.
    pub const ALL: [ProblemKind; 36] = [
        ProblemKind::InvalidRequest,
        ProblemKind::InvalidValue,
        ProblemKind::UnknownClient,
        ProblemKind::InvalidCredentials,
        ProblemKind::TokenMissing,
        ProblemKind::InvalidToken,
        ProblemKind::InsufficientAbility,
        ProblemKind::BeyondMaker,
        ProblemKind::LoginNotAllowed,
        ProblemKind::IssueRefused,
        ProblemKind::RenewalNotAllowed,
        ProblemKind::RotationLocked,
        ProblemKind::QuotaExceeded,
        ProblemKind::TooManyAttempts,
        ProblemKind::StaffNeeded,
        ProblemKind::AdminNeeded,
        ProblemKind::ClientNotAllowed,
        ProblemKind::LoginTooOld,
        ProblemKind::CrossSite,
        ProblemKind::NotFound,
        ProblemKind::MethodNotAllowed,
        ProblemKind::BodyTimeout,
        ProblemKind::CapReached,
        ProblemKind::RegistrationClosed,
        ProblemKind::NoMail,
        ProblemKind::LinkDead,
        ProblemKind::WrongPassword,
        ProblemKind::EmailTaken,
        ProblemKind::NameTaken,
        ProblemKind::Conflict,
        ProblemKind::BodyTooLarge,
        ProblemKind::UnsupportedMediaType,
        ProblemKind::Internal,
        ProblemKind::Overloaded,
        ProblemKind::Unavailable,
        ProblemKind::Timeout,
    ];

    /// Its name, title and status. In one place, so that the catalogue can be read here too.
    const fn facts(self) -> (&'static str, &'static str, StatusCode) {
        match self {
            ProblemKind::InvalidRequest => ("invalid-request", "The request cannot be read", StatusCode::BAD_REQUEST),
            ProblemKind::InvalidValue => ("invalid-value", "A value cannot be taken", StatusCode::BAD_REQUEST),
            ProblemKind::UnknownClient => ("unknown-client", "There is no such client", StatusCode::BAD_REQUEST),
            ProblemKind::InvalidCredentials => {
                ("invalid-credentials", "The user name or the password is wrong", StatusCode::UNAUTHORIZED)
            }
            ProblemKind::TokenMissing => ("token-missing", "A token is needed", StatusCode::UNAUTHORIZED),
            ProblemKind::InvalidToken => ("invalid-token", "The token is not valid", StatusCode::UNAUTHORIZED),
            ProblemKind::InsufficientAbility => {
                ("insufficient-ability", "The token may not do this", StatusCode::FORBIDDEN)
            }
            ProblemKind::BeyondMaker => {
                ("beyond-maker", "A key is never above the token that makes it", StatusCode::FORBIDDEN)
            }
            ProblemKind::LoginNotAllowed => {
                ("login-not-allowed", "Nobody may log in on this client", StatusCode::FORBIDDEN)
            }
            ProblemKind::IssueRefused => ("issue-refused", "No token is issued", StatusCode::FORBIDDEN),
            ProblemKind::RenewalNotAllowed => {
                ("renewal-not-allowed", "This token cannot be renewed", StatusCode::FORBIDDEN)
            }
            ProblemKind::RotationLocked => {
                ("rotation-locked", "The owner has locked their tokens", StatusCode::FORBIDDEN)
            }
            ProblemKind::QuotaExceeded => ("quota-exceeded", "Too many requests", StatusCode::TOO_MANY_REQUESTS),
            ProblemKind::TooManyAttempts => {
                ("too-many-attempts", "Too many failed logins", StatusCode::TOO_MANY_REQUESTS)
            }
            ProblemKind::StaffNeeded => ("staff-needed", "Only staff may do this", StatusCode::FORBIDDEN),
            ProblemKind::AdminNeeded => ("admin-needed", "Only an administrator may do this", StatusCode::FORBIDDEN),
            ProblemKind::ClientNotAllowed => {
                ("client-not-allowed", "Not with a token of this client", StatusCode::FORBIDDEN)
            }
            ProblemKind::LoginTooOld => ("login-too-old", "A fresh login is needed", StatusCode::UNAUTHORIZED),
            ProblemKind::CrossSite => ("cross-site", "Not from a page of another site", StatusCode::FORBIDDEN),
            ProblemKind::NotFound => ("not-found", "Not found", StatusCode::NOT_FOUND),
            ProblemKind::MethodNotAllowed => {
                ("method-not-allowed", "Not with this method", StatusCode::METHOD_NOT_ALLOWED)
            }
            ProblemKind::BodyTimeout => ("body-timeout", "The body took too long", StatusCode::REQUEST_TIMEOUT),
            ProblemKind::CapReached => ("cap-reached", "Too many live tokens", StatusCode::FORBIDDEN),
            ProblemKind::RegistrationClosed => ("registration-closed", "Nobody registers here", StatusCode::FORBIDDEN),
            ProblemKind::NoMail => ("no-mail", "No mail is sent here", StatusCode::FORBIDDEN),
            ProblemKind::LinkDead => ("link-dead", "The link does not work any more", StatusCode::BAD_REQUEST),
            ProblemKind::WrongPassword => ("wrong-password", "The password is wrong", StatusCode::FORBIDDEN),
            ProblemKind::EmailTaken => ("email-taken", "The address is somebody else's", StatusCode::CONFLICT),
            ProblemKind::NameTaken => ("name-taken", "The name is in use", StatusCode::CONFLICT),
            ProblemKind::Conflict => ("conflict", "Something stands in the way", StatusCode::CONFLICT),
            ProblemKind::BodyTooLarge => ("body-too-large", "The body is too large", StatusCode::PAYLOAD_TOO_LARGE),
            ProblemKind::UnsupportedMediaType => {
                ("unsupported-media-type", "The body has the wrong type", StatusCode::UNSUPPORTED_MEDIA_TYPE)
            }
            ProblemKind::Internal => ("internal", "A fault on our side", StatusCode::INTERNAL_SERVER_ERROR),
            ProblemKind::Overloaded => ("overloaded", "Too busy", StatusCode::SERVICE_UNAVAILABLE),
            ProblemKind::Unavailable => ("unavailable", "Not available right now", StatusCode::SERVICE_UNAVAILABLE),
            ProblemKind::Timeout => ("timeout", "The answer took too long", StatusCode::SERVICE_UNAVAILABLE),
        }
    }

    /// The last part of its type.
    pub const fn slug(self) -> &'static str {
        self.facts().0
    }

    /// What it is in a few words, the same every time.
    pub const fn title(self) -> &'static str {
        self.facts().1
    }

    /// The status that an answer of this kind has.
    pub const fn status(self) -> StatusCode {
        self.facts().2
    }

    /// The URI that clients compare. A name, not an address: it stays when this project moves.
    pub fn type_uri(self) -> String {
        format!("urn:counterfoil:problem:{}", self.slug())
    }

    /// After how many seconds the same request may go better, where waiting helps.
    const fn retry_after(self) -> Option<&'static str> {
        match self {
            // A password takes 20 ms and the queue is short: a second clears it.
            ProblemKind::Overloaded => Some("1"),
            ProblemKind::Unavailable | ProblemKind::Timeout => Some("5"),
            ProblemKind::InvalidRequest
            | ProblemKind::InvalidValue
            | ProblemKind::UnknownClient
            | ProblemKind::InvalidCredentials
            | ProblemKind::TokenMissing
            | ProblemKind::InvalidToken
            | ProblemKind::InsufficientAbility
            | ProblemKind::BeyondMaker
            | ProblemKind::LoginNotAllowed
            | ProblemKind::IssueRefused
            | ProblemKind::RenewalNotAllowed
            | ProblemKind::RotationLocked
            | ProblemKind::QuotaExceeded
            | ProblemKind::TooManyAttempts
            | ProblemKind::StaffNeeded
            | ProblemKind::AdminNeeded
            | ProblemKind::ClientNotAllowed
            | ProblemKind::LoginTooOld
            | ProblemKind::CrossSite
            | ProblemKind::NotFound
            | ProblemKind::MethodNotAllowed
            | ProblemKind::BodyTimeout
            | ProblemKind::CapReached
            | ProblemKind::RegistrationClosed
            | ProblemKind::NoMail
            | ProblemKind::LinkDead
            | ProblemKind::WrongPassword
            | ProblemKind::EmailTaken
            | ProblemKind::NameTaken
            | ProblemKind::Conflict
            | ProblemKind::BodyTooLarge
            | ProblemKind::UnsupportedMediaType
            | ProblemKind::Internal => None,
        }
    }
}

/// Why there is no answer. Says nothing that only the operator may know; the cause travels along for the log.
#[derive(Debug, Clone)]
pub struct Problem {
    kind: ProblemKind,
    detail: Cow<'static, str>,
    field: Option<Cow<'static, str>>,
    limit: Option<u32>,
    wait: Option<Box<Wait>>,
    challenge: Option<Challenge>,
    cause: Option<Arc<Error>>,
    for_service: bool,
    /// Why a password is too easy to guess, for whoever tells it in another language.
    weak: Option<Box<TooWeak>>,
    /// What people are shown in the place of a document.
    page: Option<Arc<Rendered>>,
}

/// How long to wait, and for which quota.
#[derive(Debug, Clone, Copy)]
struct Wait {
    seconds: u64,
    /// Its name in `RateLimit`, and what it allows.
    quota: Option<(&'static str, Rate)>,
}

impl Wait {
    fn for_quota(name: &'static str, TooMany { rate, retry_after_seconds }: TooMany) -> Wait {
        Wait { seconds: retry_after_seconds, quota: Some((name, rate)) }
    }
}

/// The name of a limit in `RateLimit`, as docs/problems.md lists them.
const fn quota_name(limit: Limit) -> &'static str {
    match limit {
        Limit::FailedLogins => "failed-logins",
        Limit::Misses => "misses",
        Limit::Requests(RouteClass::Login) => "login",
        Limit::Requests(RouteClass::Api) => "api",
        Limit::Requests(RouteClass::Introspection) => "introspection",
        Limit::Route => "route",
        Limit::Mails => "mails",
        Limit::MailsToAddress => "mailbox",
    }
}

/// What `WWW-Authenticate` says besides the realm (RFC 6750 §3).
#[derive(Debug, Clone, PartialEq, Eq)]
enum Challenge {
    /// That a token is wanted. No `error`, because none was presented.
    Bare,
    InvalidRequest,
    InvalidToken,
    InsufficientScope(Ability),
    /// RFC 9470 §3: the login may be so many seconds ago and no more.
    LoginTooOld(u64),
}

impl Problem {
    /// A problem of that kind; `detail` is for people.
    pub fn new(kind: ProblemKind, detail: impl Into<Cow<'static, str>>) -> Problem {
        let challenge = (kind.status() == StatusCode::UNAUTHORIZED).then_some(Challenge::Bare);
        Problem {
            kind,
            detail: detail.into(),
            field: None,
            limit: None,
            wait: None,
            challenge,
            cause: None,
            for_service: false,
            weak: None,
            page: None,
        }
    }

    /// The same, naming the field of the request that it is about.
    #[must_use]
    pub fn about(self, field: impl Into<Cow<'static, str>>) -> Problem {
        Problem { field: Some(field.into()), ..self }
    }

    /// Which kind it is.
    pub fn kind(&self) -> ProblemKind {
        self.kind
    }

    /// The same on a page for people, who read `page` and no document.
    #[must_use]
    pub(crate) fn shown(self, page: Rendered) -> Problem {
        Problem { page: Some(Arc::new(page)), ..self }
    }

    pub(crate) fn has_page(&self) -> bool {
        self.page.is_some()
    }

    /// Which field of the request it is about.
    pub(crate) fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// Why a password is too easy to guess, if that is what this says.
    pub(crate) fn weak(&self) -> Option<TooWeak> {
        self.weak.as_deref().copied()
    }

    /// What to do about it, for people.
    pub(crate) fn into_detail(self) -> String {
        self.detail.into_owned()
    }

    /// The same, to be read.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// After how many seconds the same request may go better, where that is known.
    pub(crate) fn retry_after_seconds(&self) -> Option<u64> {
        let waits = self.wait.as_deref().map(|wait| wait.seconds);
        waits.or_else(|| self.kind.retry_after().and_then(|seconds| seconds.parse().ok()))
    }

    /// What only the operator may see, if it is a fault of ours.
    pub(crate) fn cause(&self) -> Option<&Error> {
        self.cause.as_deref()
    }

    /// The same on a route for services, whose 400 is told in the words of RFC 6749 §5.2 as well.
    #[must_use]
    pub(crate) fn for_service(self) -> Problem {
        Problem { for_service: true, ..self }
    }

    pub(crate) fn not_found() -> Problem {
        Problem::new(ProblemKind::NotFound, "There is nothing here that this token may see.")
    }

    /// There is no token, and one is needed.
    pub(crate) fn token_missing() -> Problem {
        NoToken::Missing.into()
    }

    /// The login may be `seconds` ago and no more.
    pub(crate) fn login_too_old(seconds: u64) -> Problem {
        Problem::new(ProblemKind::LoginTooOld, "Log in again, and then ask for this again.")
            .challenging(Challenge::LoginTooOld(seconds))
    }

    fn challenging(self, challenge: Challenge) -> Problem {
        Problem { challenge: Some(challenge), ..self }
    }

    fn invalid_token() -> Problem {
        // One sentence for every cause: whether a token ever existed is nobody's business.
        let detail = "It is unknown, expired or revoked, or its user is not active. Log in again.";
        Problem::new(ProblemKind::InvalidToken, detail).challenging(Challenge::InvalidToken)
    }

    /// The answer, with the realm and the scheme of this deployment and the id of the request.
    pub(crate) fn render(&self, settings: &HttpSettings, request: Option<&RequestId>) -> Response {
        let scheme = settings.schemes.first().map_or("Bearer", Scheme::as_str);
        self.told(scheme, &settings.realm, request)
    }

    fn told(&self, scheme: &str, realm: &str, request: Option<&RequestId>) -> Response {
        let in_oauth = self.for_service && self.kind.status() == StatusCode::BAD_REQUEST;
        let described = || match &self.field {
            Some(field) => format!("{field}: {}", self.detail),
            None => self.detail.clone().into_owned(),
        };
        let document = Document {
            error: in_oauth.then_some("invalid_request"),
            error_description: in_oauth.then(described),
            kind: self.kind.type_uri(),
            title: self.kind.title(),
            status: self.kind.status().as_u16(),
            detail: &self.detail,
            instance: request.map(RequestId::as_str),
            field: self.field.as_deref(),
            limit: self.limit,
        };
        let mut response = match &self.page {
            Some(page) => page.as_ref().clone().into_response(self.kind.status()),
            None => {
                let media = if in_oauth { "application/json" } else { PROBLEM_JSON };
                let body = serde_json::to_vec(&document).unwrap_or_default();
                (self.kind.status(), [(header::CONTENT_TYPE, media)], Body::from(body)).into_response()
            }
        };
        let headers = response.headers_mut();
        if let Some(challenge) = &self.challenge {
            headers.insert(header::WWW_AUTHENTICATE, challenge.header_value(scheme, realm));
        }
        if let Some(seconds) = self.kind.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        if let Some(Wait { seconds, quota }) = self.wait.as_deref().copied() {
            headers.insert(header::RETRY_AFTER, seconds.into());
            let Some((name, rate)) = quota else { return response };
            // draft-ietf-httpapi-ratelimit-headers: structured fields (RFC 9651) that name the policy, its quota and
            // window, what remains, and in how many seconds something will.
            let window = rate.period.millis() / 1_000;
            let fields = [
                ("ratelimit-policy", format!("\"{name}\";q={};w={window}", rate.number)),
                ("ratelimit", format!("\"{name}\";r=0;t={seconds}")),
            ];
            for (name, value) in fields {
                if let Ok(value) = HeaderValue::from_str(&value) {
                    headers.insert(HeaderName::from_static(name), value);
                }
            }
        }
        response
    }
}

/// The document on the wire.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Document<'a> {
    /// `invalid_request`: a 400 of a route for services, as RFC 6749 §5.2 has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    /// The same as `detail`, with `field` before it; where `error` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_description: Option<String>,
    /// Which kind of problem; see docs/problems.md.
    #[serde(rename = "type")]
    #[schema(example = "urn:counterfoil:problem:invalid-token")]
    kind: String,
    /// The kind in a few words.
    title: &'a str,
    /// The status of the answer.
    status: u16,
    /// What to do about it, for people.
    detail: &'a str,
    /// The id of this request, as in `X-Request-Id` and in the log of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'a str>,
    /// The field of the request that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    /// How many live tokens there may be, for `cap-reached`.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u32>,
}

impl Challenge {
    fn header_value(&self, scheme: &str, realm: &str) -> HeaderValue {
        let parameters = match self {
            Challenge::Bare => String::new(),
            Challenge::InvalidRequest => r#", error="invalid_request""#.to_owned(),
            Challenge::InvalidToken => {
                r#", error="invalid_token", error_description="The token is not valid""#.to_owned()
            }
            // An ability is of a-z 0-9 . _ - : * alone, so it needs no quoting.
            Challenge::InsufficientScope(ability) => {
                format!(r#", error="insufficient_scope", scope="{ability}""#)
            }
            Challenge::LoginTooOld(seconds) => {
                format!(r#", error="insufficient_user_authentication", max_age="{seconds}""#)
            }
        };
        let challenge = format!("{scheme} realm=\"{}\"{parameters}", quoted(realm));
        HeaderValue::from_str(&challenge).unwrap_or(HeaderValue::from_static("Bearer"))
    }
}

/// The inside of a quoted-string (RFC 9110 §5.6.4); what does not fit into one becomes a question mark.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            ' '..='~' => quoted.push(character),
            _ => quoted.push('?'),
        }
    }
    quoted
}

/// The whole problem is also left with the answer, so that whatever is around the routes can add realm and request id and
/// log the cause.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.told("Bearer", "counterfoil", None);
        response.extensions_mut().insert(self);
        response
    }
}

impl From<NoToken> for Problem {
    fn from(why: NoToken) -> Problem {
        match why {
            NoToken::Missing => {
                Problem::new(ProblemKind::TokenMissing, "Send the header \"Authorization: Bearer <token>\".")
            }
            NoToken::Malformed(detail) => {
                Problem::new(ProblemKind::InvalidRequest, detail).challenging(Challenge::InvalidRequest)
            }
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let detail = sentence(&refusal);
        match refusal {
            Refusal::TokenUnknown | Refusal::TokenExpired | Refusal::TokenRevoked | Refusal::SubjectInactive => {
                Problem::invalid_token()
            }
            Refusal::CredentialsRejected => {
                Problem::new(ProblemKind::InvalidCredentials, "No active user has this name and this password.")
            }
            Refusal::ClientUnknown => Problem::new(ProblemKind::UnknownClient, detail).about("client"),
            Refusal::LoginNotAllowed => Problem::new(ProblemKind::LoginNotAllowed, detail),
            Refusal::CapReached { limit } => {
                let problem = Problem::new(ProblemKind::CapReached, detail);
                Problem { limit: Some(limit), ..problem }
            }
            Refusal::RenewalNotAllowed => Problem::new(ProblemKind::RenewalNotAllowed, detail),
            Refusal::Throttled(too_many) => {
                let problem = Problem::new(ProblemKind::QuotaExceeded, detail);
                Problem { wait: Some(Box::new(Wait::for_quota("client", too_many))), ..problem }
            }
            Refusal::LimitHit(limit, too_many) => {
                let problem = Problem::new(ProblemKind::QuotaExceeded, detail);
                Problem { wait: Some(Box::new(Wait::for_quota(quota_name(limit), too_many))), ..problem }
            }
            Refusal::TooManyAttempts(TryLater { seconds }) => {
                // The same whether the name exists, and whether waiting will ever help.
                let detail = "Wait as long as Retry-After says. If that does not help, have the password reset.";
                let problem = Problem::new(ProblemKind::TooManyAttempts, detail);
                Problem { wait: Some(Box::new(Wait { seconds, quota: None })), ..problem }
            }
            Refusal::StaffNeeded => Problem::new(ProblemKind::StaffNeeded, detail),
            Refusal::AdminNeeded => Problem::new(ProblemKind::AdminNeeded, detail),
            Refusal::RotationLocked => Problem::new(ProblemKind::RotationLocked, detail),
            Refusal::AbilityMissing(ability) => Problem::new(ProblemKind::InsufficientAbility, detail)
                .challenging(Challenge::InsufficientScope(ability)),
            Refusal::AbilityBeyondMaker(_) => {
                // Not in the words of the refusal: they repeat what was sent.
                Problem::new(ProblemKind::BeyondMaker, "One of them is beyond what this token may hand on.")
                    .about("abilities")
            }
            Refusal::ExpiryBeyondMaker => Problem::new(ProblemKind::BeyondMaker, detail).about("expires_at"),
            Refusal::NotFound => Problem::not_found(),
            Refusal::UsernameTaken => Problem::new(ProblemKind::NameTaken, detail).about("username"),
            Refusal::ClientNameTaken => Problem::new(ProblemKind::NameTaken, detail).about("name"),
            Refusal::ClientNeeded | Refusal::KeyRingMissing => Problem::new(ProblemKind::Conflict, detail),
            Refusal::RegistrationClosed => Problem::new(ProblemKind::RegistrationClosed, detail),
            Refusal::NoMail => Problem::new(ProblemKind::NoMail, detail),
            Refusal::LinkDead => Problem::new(ProblemKind::LinkDead, detail).about("token"),
            Refusal::PasswordWrong => Problem::new(ProblemKind::WrongPassword, detail),
            Refusal::EmailTaken => Problem::new(ProblemKind::EmailTaken, detail).about("email"),
            Refusal::RefusedByHost(reason) => Problem::new(ProblemKind::IssueRefused, reason),
            Refusal::Invalid(Invalid { field, .. }) => Problem::new(ProblemKind::InvalidValue, detail).about(field),
            Refusal::PasswordWeak { field, why } => {
                let problem = Problem::new(ProblemKind::InvalidValue, detail).about(field);
                Problem { weak: Some(Box::new(why)), ..problem }
            }
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        let fault = |kind, detail, cause| Problem { cause: Some(Arc::new(cause)), ..Problem::new(kind, detail) };
        const AWAY: &str = "There is no answer right now, neither yes nor no. Try again later.";
        const BUSY: &str = "Too much is waiting already, and nothing was done about this. Try again later.";
        match error {
            Error::Refused(refusal) => Problem::from(refusal),
            Error::Store(_) | Error::Entropy(_) | Error::Hook(_) => fault(ProblemKind::Unavailable, AWAY, error),
            Error::Overloaded => Problem::new(ProblemKind::Overloaded, BUSY),
            Error::Unseal(_) => {
                fault(ProblemKind::Internal, "The operator finds the cause in the log, under this instance.", error)
            }
        }
    }
}

/// A refusal in its own words, as a sentence.
fn sentence(refusal: &Refusal) -> String {
    let words = refusal.to_string();
    if let Refusal::Invalid(_) | Refusal::PasswordWeak { .. } = refusal {
        // Begins with the name of a field, which is written as it is.
        return format!("{words}.");
    }
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).chain(['.']).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r23_every_kind_is_in_the_catalogue() {
        let page = include_str!("../../../docs/problems.md");
        for kind in ProblemKind::ALL {
            let row = format!("| `{}` | {} |", kind.slug(), kind.status().as_u16());
            assert!(page.contains(&row), "docs/problems.md lacks {row}");
        }
        let rows = page.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(rows, ProblemKind::ALL.len(), "docs/problems.md lists a kind that there is not");
    }

    #[test]
    fn a36_no_realm_splits_the_header() {
        let value = Challenge::Bare.header_value("Bearer", "a\"b\\c\r\nX-Evil: 1 ü");
        assert_eq!(value, r#"Bearer realm="a\"b\\c??X-Evil: 1 ?""#);
    }
}
