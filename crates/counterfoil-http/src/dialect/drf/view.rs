//! A view: what it is called, what it takes, and who may: [`View`].

use std::borrow::Cow;
use std::sync::Arc;

use axum::http::Method;
use counterfoil_core::ClientName;
use counterfoil_core::throttle::Rate;

use super::authorization::Authentication;
use super::fields::CharField;

/// All that is known of a view without asking anybody.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// As OPTIONS and the page have it.
    pub(crate) name: Cow<'static, str>,
    /// The same.
    pub(crate) description: Cow<'static, str>,
    /// HEAD and OPTIONS are there without being named.
    pub(crate) methods: Vec<Method>,
    pub(crate) renderers: Cow<'static, [Renderer]>,
    pub(crate) parsers: Cow<'static, [Parser]>,
    pub(crate) authentication: Authentication,
    pub(crate) permission: Permission,
    /// Whether its requests count, and against what.
    pub(crate) throttle: Option<Throttle>,
    /// What a host's view counts against that asks to be throttled, where the client has no rate.
    pub(crate) default_rate: Option<Rate>,
    /// What OPTIONS tells of the fields, where the package tells it.
    pub(crate) actions: &'static [CharField],
    /// Whether a session is looked at, which makes answers vary by cookie.
    pub(crate) varies_by_cookie: bool,
    /// Whether the framework stands before it. Else it is asked at once, whoever asks and in whatever form they want the answer.
    pub(crate) is_of_framework: bool,
}

/// What a view answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renderer {
    Json,
    /// The browsable API.
    Page,
}

impl Renderer {
    pub(crate) const DEFAULT: &'static [Renderer] = &[Renderer::Json, Renderer::Page];

    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            Renderer::Json => "application/json",
            Renderer::Page => "text/html",
        }
    }

    /// What `?format=` calls it.
    pub(crate) const fn format(self) -> &'static str {
        match self {
            Renderer::Json => "json",
            Renderer::Page => "api",
        }
    }
}

/// What a view reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parser {
    Json,
    Form,
    Multipart,
}

impl Parser {
    pub(crate) const DEFAULT: &'static [Parser] = &[Parser::Json, Parser::Form, Parser::Multipart];
    /// The order in which DRF's own login names them.
    pub(crate) const FORMS_FIRST: &'static [Parser] = &[Parser::Form, Parser::Multipart, Parser::Json];

    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            Parser::Json => "application/json",
            Parser::Form => "application/x-www-form-urlencoded",
            Parser::Multipart => "multipart/form-data",
        }
    }
}

/// Who may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Permission {
    /// Anybody.
    Anyone,
    /// Whoever has a live token.
    Authenticated,
    /// Whoever has one of these clients.
    Clients(Arc<[ClientName]>),
    /// Whoever has one of another client than these.
    OtherClients(Arc<[ClientName]>),
}

/// What the requests to a view count against: the rate of the token's client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Throttle {
    /// Where the client has no rate, and for whoever has no token, by address.
    pub(crate) fallback: Option<Rate>,
}

impl View {
    /// A view by Django REST framework's defaults, for whoever has a live token.
    pub(crate) fn named(name: impl Into<Cow<'static, str>>, methods: &[Method]) -> View {
        View {
            name: name.into(),
            description: Cow::Borrowed(""),
            methods: methods.to_vec(),
            renderers: Cow::Borrowed(Renderer::DEFAULT),
            parsers: Cow::Borrowed(Parser::DEFAULT),
            authentication: Authentication::token(),
            permission: Permission::Authenticated,
            throttle: None,
            default_rate: None,
            actions: &[],
            varies_by_cookie: false,
            is_of_framework: true,
        }
    }

    /// Whether this method gets as far as a handler, OPTIONS included.
    pub(crate) fn has(&self, method: &Method) -> bool {
        match *method {
            Method::OPTIONS => true,
            Method::HEAD => self.methods.contains(&Method::GET) || self.methods.contains(&Method::HEAD),
            _ => self.methods.contains(method),
        }
    }

    /// The header `Allow`.
    pub(crate) fn allow(&self) -> String {
        const ORDER: [Method; 7] =
            [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD, Method::OPTIONS];
        let there: Vec<&str> = ORDER.iter().filter(|method| self.has(method)).map(Method::as_str).collect();
        there.join(", ")
    }
}
