//! Reading bodies and queries: bounded, typed, and refused by the name of the field.
//!
//! The words of the parsers never reach an answer: they quote values, and a value may be a password.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt;
use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use serde_path_to_error::Path;
use zeroize::Zeroizing;

use crate::credentials::NoToken;
use crate::http::Http;
use crate::problem::{Problem, ProblemKind};

/// Largest body read, in bytes. The largest that makes sense has a password of 4 KiB.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// A JSON object.
pub(crate) struct Json<T>(pub(crate) T);

/// A JSON object or a form.
pub(crate) struct JsonOrForm<T>(pub(crate) T);

/// The body of a route that takes none. It is read all the same, because a form may carry a second credential.
pub(crate) struct NoBody;

/// What follows the question mark.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Http> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, http: &Http) -> Result<Self, Problem> {
        match media_type(request.headers())? {
            Media::Json => {}
            Media::Form | Media::Other => return Err(wrong_type("Send a JSON object as application/json.")),
        }
        json(&read(request, http).await?).map(Json)
    }
}

impl<T: DeserializeOwned> FromRequest<Http> for JsonOrForm<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, http: &Http) -> Result<Self, Problem> {
        let parse = match media_type(request.headers())? {
            Media::Json => json,
            Media::Form => form,
            Media::Other => {
                let detail = "Send a JSON object as application/json, or a form as application/x-www-form-urlencoded.";
                return Err(wrong_type(detail));
            }
        };
        parse(&read(request, http).await?).map(JsonOrForm)
    }
}

impl FromRequest<Http> for NoBody {
    type Rejection = Problem;

    /// Anything but a form is read and ignored: many programs send `{}` or `null` with every POST.
    async fn from_request(request: Request, http: &Http) -> Result<Self, Problem> {
        let media = media_type(request.headers())?;
        let bytes = read(request, http).await?;
        let second_credential = |(name, _): (_, _)| matches!(&name as &str, "access_token" | "token");
        if media == Media::Form && form_urlencoded::parse(&bytes).any(second_credential) {
            // RFC 6750 §2: "Clients MUST NOT use more than one method to transmit the token in each request."
            let detail = "The request carries a token in its header and in its body. Send it in the header alone.";
            return Err(NoToken::Malformed(detail).into());
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

fn wrong_type(detail: &'static str) -> Problem {
    Problem::new(ProblemKind::UnsupportedMediaType, detail)
}

/// The body, if it is not too large and arrives in time. Wiped when dropped; the copies of the connection are not ours.
async fn read(request: Request, http: &Http) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let too_large = || {
        let detail = format!("A body has at most {MAX_BODY_BYTES} bytes.");
        Problem::new(ProblemKind::BodyTooLarge, detail)
    };
    let mut body = request.into_body();
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
    let pairs = serde_urlencoded::Deserializer::new(form_urlencoded::parse(bytes));
    serde_path_to_error::deserialize(pairs).map_err(|error| {
        let path = error.path().clone();
        misfit(&path, &Zeroizing::new(error.into_inner().to_string()))
    })
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
    /// The bytes; what is left behind is empty.
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        std::mem::take(&mut *self.0).into_bytes()
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
