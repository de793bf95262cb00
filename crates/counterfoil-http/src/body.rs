//! Reading bodies and queries: bounded, typed, and refused by the name of the field.
//!
//! The words of the parsers never reach an answer: they quote values, and a value may be a password.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use counterfoil_core::{Refusal, SecretToken};
use http_body_util::BodyExt;
use serde::de::{DeserializeOwned, IgnoredAny, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use serde_path_to_error::Path;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::arrival::Arrival;
use crate::authenticated;
use crate::credentials::NoToken;
use crate::http::Http;
use crate::problem::{Problem, ProblemKind};
use crate::router::{Access, Route, Takes};

/// Largest body read, in bytes. The largest that makes sense has a password of 4 KiB.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// A JSON object.
pub(crate) struct Json<T>(pub(crate) T);

/// A JSON object or a form.
pub(crate) struct JsonOrForm<T>(pub(crate) T);

/// A form that a page sends.
pub(crate) struct Form<T>(pub(crate) T);

/// A form about a token: what services send (RFC 7662 §2.1, RFC 7009 §2.1). Fields that are not ours are ignored, as
/// extensions of both are.
pub(crate) struct TokenForm(pub(crate) SecretToken);

/// The body of a route that takes none. It is read all the same, because a form may carry a second credential.
pub(crate) struct NoBody;

/// What follows the question mark.
pub(crate) struct Query<T>(pub(crate) T);

/// A body, or why there is none. Reading it and judging it are apart: see [`arrive`].
#[derive(Clone)]
struct Arrived(Arc<Result<Whole, Problem>>);

struct Whole {
    media: Media,
    bytes: Zeroizing<Vec<u8>>,
}

/// The layer around a route that reads a body: all of it first, then the clock, then the handler with whoever asks.
///
/// A body may take as long as `body_timeout`. A caller judged at the head could be dead by its end, and would then be renewed
/// back to life or make a key. What is wrong with the body is kept for the handler, so that the caller is still refused
/// first: 401 comes before 404, and both before 400, 408, 413 and 415.
///
/// Who presents no token where one is needed is refused at the head, which takes no clock; their body is not waited for.
pub(crate) async fn arrive(
    State((http, route)): State<(Http, &'static Route)>,
    request: Request,
    next: Next,
) -> Response {
    let refused_at_head = match route.access {
        Access::Open | Access::OpenOr(_) => false,
        Access::Token | Access::Ability(_) | Access::Service(_) | Access::Staff(_) => {
            !matches!(http.credential(request.method(), request.uri(), request.headers()), Ok(Some(_)))
        }
    };
    if refused_at_head {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    let arrived = match media_taken(route.takes, &parts.headers) {
        Ok(media) => read(body, &http).await.map(|bytes| Whole { media, bytes }),
        // Dropped here and not later, so that draining it does not wait for the handler.
        Err(problem) => {
            drop(body);
            Err(problem)
        }
    };
    parts.extensions.insert(Arrived(Arc::new(arrived)));
    Arrival::is_complete(&mut parts.extensions, &http);
    authenticated::judge_again(&mut parts.extensions, &http);
    next.run(Request::from_parts(parts, Body::empty())).await
}

/// Whether the body of a request was refused.
pub(crate) fn is_refused(request: &Request) -> bool {
    request.extensions().get::<Arrived>().is_some_and(|Arrived(arrived)| arrived.is_err())
}

impl Arrived {
    fn with(request: &mut Request) -> Arrived {
        request.extensions_mut().remove().unwrap_or_else(|| {
            // Only a route that the table does not know as one that reads a body.
            Arrived(Arc::new(Err(Problem::new(ProblemKind::Internal, "This route was not made to read a body."))))
        })
    }

    fn whole(&self) -> Result<&Whole, Problem> {
        self.0.as_ref().as_ref().map_err(Problem::clone)
    }
}

impl<T: DeserializeOwned> FromRequest<Http> for Json<T> {
    type Rejection = Problem;

    async fn from_request(mut request: Request, _: &Http) -> Result<Self, Problem> {
        json(&Arrived::with(&mut request).whole()?.bytes).map(Json)
    }
}

impl<T: DeserializeOwned> FromRequest<Http> for Form<T> {
    type Rejection = Problem;

    async fn from_request(mut request: Request, _: &Http) -> Result<Self, Problem> {
        form(&Arrived::with(&mut request).whole()?.bytes).map(Form)
    }
}

impl<T: DeserializeOwned> FromRequest<Http> for JsonOrForm<T> {
    type Rejection = Problem;

    async fn from_request(mut request: Request, _: &Http) -> Result<Self, Problem> {
        let arrived = Arrived::with(&mut request);
        let Whole { media, bytes } = arrived.whole()?;
        match media {
            Media::Form => form(bytes),
            Media::Json | Media::Other => json(bytes),
        }
        .map(JsonOrForm)
    }
}

/// The form of [`TokenForm`].
#[derive(Deserialize, ToSchema)]
pub(crate) struct AboutToken {
    /// The text of the token that is asked about.
    #[schema(value_type = String)]
    token: SecretText,
    /// Ignored: a text says itself what it is.
    #[serde(rename = "token_type_hint", default)]
    #[schema(value_type = Option<String>)]
    _token_type_hint: IgnoredAny,
}

impl FromRequest<Http> for TokenForm {
    type Rejection = Problem;

    async fn from_request(mut request: Request, _: &Http) -> Result<Self, Problem> {
        let arrived = Arrived::with(&mut request);
        let Whole { bytes, .. } = arrived.whole()?;
        if form_urlencoded::parse(bytes).any(|(name, _)| name == "access_token") {
            return Err(second_credential());
        }
        let AboutToken { token, .. } = form(bytes)?;
        let text = token.into_text();
        // RFC 6749 §3.2: "Parameters sent without a value MUST be treated as if they were omitted from the request."
        if text.is_empty() {
            return Err(Problem::new(ProblemKind::InvalidRequest, "The field is missing.").about("token"));
        }
        Ok(TokenForm(SecretToken::from_text(text)))
    }
}

/// RFC 6750 §2: "Clients MUST NOT use more than one method to transmit the token in each request."
fn second_credential() -> Problem {
    NoToken::Malformed("The request carries a token in its header and in its body. Send it in the header alone.").into()
}

impl FromRequest<Http> for NoBody {
    type Rejection = Problem;

    /// Anything but a form is read and ignored: many programs send `{}` or `null` with every POST.
    async fn from_request(mut request: Request, _: &Http) -> Result<Self, Problem> {
        let arrived = Arrived::with(&mut request);
        let Whole { media, bytes } = arrived.whole()?;
        let is_credential = |(name, _): (_, _)| matches!(&name as &str, "access_token" | "token");
        if *media == Media::Form && form_urlencoded::parse(bytes).any(is_credential) {
            return Err(second_credential());
        }
        Ok(NoBody)
    }
}

impl<T: DeserializeOwned> FromRequestParts<Http> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Http) -> Result<Self, Problem> {
        form(parts.uri.query().unwrap_or_default().as_bytes()).map(Query)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Media {
    Json,
    Form,
    Other,
}

/// What the headers say of the body.
fn media_type(headers: &HeaderMap) -> Result<Media, Problem> {
    let encodings = headers.get_all(header::CONTENT_ENCODING);
    if encodings.iter().any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(wrong_type("Send the body without a content encoding."));
    }
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (types.next(), types.next()) else { return Ok(Media::Other) };
    let essence = value.as_bytes().split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    Ok(if essence.eq_ignore_ascii_case(b"application/json") {
        Media::Json
    } else if essence.eq_ignore_ascii_case(b"application/x-www-form-urlencoded") {
        Media::Form
    } else {
        Media::Other
    })
}

/// The media type, where the route reads it. Told by the headers alone, so that a client that waits for `100 Continue` is not
/// asked for what is refused.
fn media_taken(takes: Takes, headers: &HeaderMap) -> Result<Media, Problem> {
    let media = media_type(headers)?;
    match (takes, media) {
        (Takes::Nothing, _) | (Takes::Json(_) | Takes::JsonOrForm(_), Media::Json) => Ok(media),
        (Takes::JsonOrForm(_) | Takes::Form | Takes::TokenForm, Media::Form) => Ok(media),
        (Takes::Form | Takes::TokenForm, Media::Json | Media::Other) => {
            Err(wrong_type("Send a form as application/x-www-form-urlencoded."))
        }
        (Takes::Json(_), Media::Form | Media::Other) => Err(wrong_type("Send a JSON object as application/json.")),
        (Takes::JsonOrForm(_), Media::Other) => {
            let detail = "Send a JSON object as application/json, or a form as application/x-www-form-urlencoded.";
            Err(wrong_type(detail))
        }
    }
}

fn wrong_type(detail: &'static str) -> Problem {
    Problem::new(ProblemKind::UnsupportedMediaType, detail)
}

/// The body, if it is not too large and arrives in time. Wiped when dropped; the copies of the connection are not ours.
pub(crate) async fn read(mut body: Body, http: &Http) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let too_large = || {
        let detail = format!("A body has at most {MAX_BODY_BYTES} bytes.");
        Problem::new(ProblemKind::BodyTooLarge, detail)
    };
    let announced = axum::body::HttpBody::size_hint(&body);
    if announced.lower() > MAX_BODY_BYTES as u64 {
        return Err(too_large());
    }
    // All at once, so that growing leaves no copies behind.
    let room = announced.exact().map_or(MAX_BODY_BYTES, |length| usize::try_from(length).unwrap_or(MAX_BODY_BYTES));
    let mut bytes = Zeroizing::new(Vec::with_capacity(room.min(MAX_BODY_BYTES)));
    let arriving = async {
        while let Some(frame) = body.frame().await {
            let frame =
                frame.map_err(|_| Problem::new(ProblemKind::InvalidRequest, "The body did not arrive whole."))?;
            let Some(data) = frame.data_ref() else { continue };
            if bytes.len() + data.len() > MAX_BODY_BYTES {
                return Err(too_large());
            }
            bytes.extend_from_slice(data);
        }
        Ok(())
    };
    match tokio::time::timeout(http.settings().body_timeout, arriving).await {
        Ok(arrived) => arrived.map(|()| bytes),
        Err(_) => Err(Problem::new(ProblemKind::BodyTimeout, "The body did not arrive in time.")),
    }
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // Derived types read an array as an object without names; nobody means that.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(not_json());
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let (path, error) = (error.path().clone(), error.into_inner());
        match error.classify() {
            Category::Io | Category::Syntax | Category::Eof => not_json(),
            Category::Data => misfit(&path, &Zeroizing::new(error.to_string())),
        }
    })?;
    deserializer.end().map_err(|_| not_json())?;
    Ok(value)
}

fn not_json() -> Problem {
    Problem::new(ProblemKind::InvalidRequest, "The body is not one JSON object.")
}

fn form<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    if !is_text(bytes) {
        return Err(Problem::new(ProblemKind::InvalidRequest, "The form is not UTF-8."));
    }
    let pairs = serde_urlencoded::Deserializer::new(form_urlencoded::parse(bytes));
    serde_path_to_error::deserialize(pairs).map_err(|error| {
        let path = error.path().clone();
        misfit(&path, &Zeroizing::new(error.into_inner().to_string()))
    })
}

/// Whether a form is UTF-8 once its percent signs are read. The parser would put U+FFFD where it is not, and two passwords
/// would be one. All pairs at once: the signs between them are ASCII, so no character reaches across.
fn is_text(bytes: &[u8]) -> bool {
    let mut decoded = Zeroizing::new(Vec::with_capacity(bytes.len()));
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        let hex = |at: usize| after.get(at).and_then(|&digit| char::from(digit).to_digit(16)).map(|digit| digit as u8);
        let byte;
        (byte, rest) = match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => (high << 4 | low, &after[2..]),
            (_, _, _) => (first, after),
        };
        decoded.push(byte);
    }
    std::str::from_utf8(&decoded).is_ok()
}

/// Which field does not fit. Of the parser's `message` only the kind and the name are taken.
fn misfit(path: &Path, message: &str) -> Problem {
    for (start, kind, what) in [
        ("unknown field `", ProblemKind::InvalidRequest, "There is no such field."),
        ("missing field `", ProblemKind::InvalidRequest, "The field is missing."),
        ("duplicate field `", ProblemKind::InvalidRequest, "The field is there more than once."),
    ] {
        if let Some(name) = message.strip_prefix(start).and_then(|rest| rest.split('`').next()) {
            let problem = Problem::new(kind, what);
            // A name that could not be one of ours is not repeated; somebody may have pasted anything there.
            let plain = name.len() <= 32 && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            return if plain { problem.about(name.to_owned()) } else { problem };
        }
    }
    let problem = Problem::new(ProblemKind::InvalidValue, "The value is not of the form that the field takes.");
    match path.iter().next() {
        Some(serde_path_to_error::Segment::Map { key }) => problem.about(key.clone()),
        Some(_) | None => problem,
    }
}

/// A text that is wiped when dropped and cannot be printed: a password between the body and [`counterfoil_core::password`].
pub(crate) struct SecretText(Zeroizing<String>);

impl SecretText {
    /// The text, which stays here and is wiped.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The text; what is left behind is empty.
    pub(crate) fn into_text(mut self) -> String {
        std::mem::take(&mut *self.0)
    }

    /// The bytes; what is left behind is empty.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.into_text().into_bytes()
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = SecretText;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E>(self, text: &str) -> Result<SecretText, E> {
                Ok(SecretText(Zeroizing::new(text.to_owned())))
            }

            fn visit_string<E>(self, text: String) -> Result<SecretText, E> {
                Ok(SecretText(Zeroizing::new(text)))
            }
        }
        deserializer.deserialize_string(Text)
    }
}

/// For a field that must be there though it may be null.
pub(crate) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::deserialize(deserializer)
}

/// For a field that may be left out, and may be null: `Some(None)` is null.
pub(crate) fn said<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// The text of a field as what it stands for. The errors of our own types do not repeat the text.
pub(crate) fn parsed<T: FromStr<Err: Display>>(field: &'static str, text: &str) -> Result<T, Problem> {
    text.parse().map_err(|error| Refusal::invalid(field, error).into())
}
