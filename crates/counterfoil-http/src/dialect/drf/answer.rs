//! What a view answers, before it is known in which form: [`Answer`].

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::browsable;
use super::django;
use super::json::Value;
use super::negotiation::Form;
use super::view::View;

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    status: StatusCode,
    content: Content,
    headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Debug, Clone)]
enum Content {
    /// DRF's `Response()`, whatever the status.
    Nothing,
    Data(Value),
    /// What Django and not the framework answers: text of its own type, without `Allow` and `Vary: Accept`.
    Django(String),
}

impl Answer {
    /// Data in the form that the request wants.
    pub(crate) fn data(status: StatusCode, data: Value) -> Answer {
        Answer { status, content: Content::Data(data), headers: Vec::new() }
    }

    /// 200 and data.
    pub(crate) fn ok(data: Value) -> Answer {
        Answer::data(StatusCode::OK, data)
    }

    /// No content.
    pub(crate) fn nothing(status: StatusCode) -> Answer {
        Answer { status, content: Content::Nothing, headers: Vec::new() }
    }

    /// `{"detail": words}`, the form of whatever the framework itself says.
    pub(crate) fn detail(status: StatusCode, words: &str) -> Answer {
        Answer::data(status, Value::object([("detail", Value::text(words))]))
    }

    /// `{"non_field_errors": [words]}`
    pub(crate) fn non_field_error(words: &str) -> Answer {
        let errors = Value::object([("non_field_errors", Value::list([Value::text(words)]))]);
        Answer::data(StatusCode::BAD_REQUEST, errors)
    }

    /// A page or a text of Django's own.
    pub(crate) fn django(status: StatusCode, text: impl Into<String>) -> Answer {
        Answer { status, content: Content::Django(text.into()), headers: Vec::new() }
    }

    /// The same with a header.
    #[must_use]
    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Answer {
        self.headers.push((name, value));
        self
    }

    #[cfg(test)]
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    #[cfg(test)]
    pub(crate) fn text(&self) -> String {
        match &self.content {
            Content::Nothing => String::new(),
            Content::Data(data) => data.write(None),
            Content::Django(text) => text.clone(),
        }
    }

    /// The answer of `view` in this form, to a request of this method and path.
    pub(crate) fn render(self, view: &View, form: Form, asked: &str) -> Response {
        let Answer { mut status, content, headers } = self;
        let (media_type, body) = match (content, form) {
            (Content::Django(text), _) => {
                let mut response = (status, Body::from(text)).into_response();
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(HTML));
                return django::finish(response, headers);
            }
            (Content::Nothing, Form::Json { .. }) => (None, String::new()),
            (Content::Data(data), Form::Json { indent }) => (Some("application/json"), data.write(indent)),
            (content @ (Content::Nothing | Content::Data(_)), Form::Page) => {
                if status == StatusCode::NO_CONTENT {
                    status = StatusCode::OK; // which has a body, as the framework's page has it
                }
                let data = match content {
                    Content::Data(data) => data.write(Some(4)),
                    Content::Nothing | Content::Django(_) => String::new(),
                };
                (Some(HTML), browsable::page(view, asked, status, &data))
            }
        };
        let body = if body.is_empty() { Body::empty() } else { Body::from(body) };
        let mut response = (status, body).into_response();
        response.headers_mut().remove(header::CONTENT_TYPE);
        if let Some(media_type) = media_type {
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        }
        describe(response.headers_mut(), view, form);
        django::finish(response, headers)
    }
}

/// The media type of Django's pages.
pub(crate) const HTML: &str = "text/html; charset=utf-8";

/// The headers that each answer of a view has, also one that a host made.
pub(crate) fn describe(headers: &mut HeaderMap, view: &View, form: Form) {
    if let Ok(allow) = HeaderValue::from_str(&view.allow()) {
        headers.insert(header::ALLOW, allow);
    }
    // The framework's page always has a form with a token against forged requests in it.
    let by_cookie = view.varies_by_cookie || form == Form::Page;
    let vary = match (view.renderers.len() > 1, by_cookie) {
        (true, true) => "Accept, Cookie",
        (true, false) => "Accept",
        (false, true) => "Cookie",
        (false, false) => return,
    };
    headers.insert(header::VARY, HeaderValue::from_static(vary));
}
