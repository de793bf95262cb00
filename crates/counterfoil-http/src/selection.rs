//! Which of the native routes a host takes: [`Selection`].

use std::fmt;

use axum::http::Method;

use crate::router::{ROUTES, Route};

/// Routes that go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    /// Logging in with a password.
    Login,
    /// What the holder of a token does with it and with their other signed-in devices: log out, list, rename, renew, rotate.
    Tokens,
    /// The API keys of whoever asks.
    Keys,
    /// Who is asking.
    Me,
    /// What people do with accounts of their own: register, prove and change their address, change or replace their password,
    /// take along what is kept about them, and leave.
    Accounts,
    /// Pages for people to do that in a browser.
    Pages,
    /// Introspection and revocation, for services.
    Services,
    /// Administration.
    Admin,
    /// Whether the process is up and can answer.
    Health,
    /// These routes described, for programs and for people.
    Description,
}

impl Group {
    /// All of them.
    pub const ALL: [Group; 10] = [
        Group::Login,
        Group::Tokens,
        Group::Keys,
        Group::Me,
        Group::Accounts,
        Group::Pages,
        Group::Services,
        Group::Admin,
        Group::Health,
        Group::Description,
    ];
}

impl Route {
    /// The group it is of.
    pub fn group(&self) -> Group {
        match self.path {
            "/v1/login" => Group::Login,
            "/v1/me" => Group::Me,
            "/v1/introspect" | "/v1/revoke" => Group::Services,
            "/healthz" | "/readyz" => Group::Health,
            "/openapi.json" | "/docs" => Group::Description,
            path if !path.starts_with("/v1/") => Group::Pages,
            "/v1/register" | "/v1/me/export" | "/v1/me/delete" => Group::Accounts,
            path if path.starts_with("/v1/email/") || path.starts_with("/v1/password/") => Group::Accounts,
            path if path.starts_with("/v1/admin/") => Group::Admin,
            path if path.starts_with("/v1/keys") => Group::Keys,
            _ => Group::Tokens,
        }
    }
}

/// Which of the native routes are there. What is left out is answered as if there never had been such a route, and the
/// description does not know it either.
///
/// ```
/// use axum::http::Method;
/// use counterfoil_http::{Group, Selection};
///
/// // A host that logs people in by itself, and lets nobody rotate.
/// let selection = Selection::all().without(Group::Login).without(Group::Admin).without_route(Method::POST, "/v1/rotate")?;
/// assert!(!selection.has(&Method::POST, "/v1/login") && selection.has(&Method::POST, "/v1/logout"));
///
/// // A route that there is not cannot be left out: somebody would believe it is shut.
/// assert!(Selection::all().without_route(Method::GET, "/v1/rotate").is_err());
/// # Ok::<(), counterfoil_http::NoSuchRoute>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// For each of [`ROUTES`].
    there: Vec<bool>,
}

/// There is no native route of this method and path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoSuchRoute {
    method: Method,
    path: String,
}

impl fmt::Display for NoSuchRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no route {} {}; `ROUTES` lists them", self.method, self.path)
    }
}

impl std::error::Error for NoSuchRoute {}

impl Default for Selection {
    fn default() -> Self {
        Selection::all()
    }
}

impl Selection {
    /// Every route.
    pub fn all() -> Selection {
        Selection { there: vec![true; ROUTES.len()] }
    }

    /// No route, to begin with.
    pub fn none() -> Selection {
        Selection { there: vec![false; ROUTES.len()] }
    }

    /// With the routes of `group`.
    #[must_use]
    pub fn with(self, group: Group) -> Selection {
        self.setting(group, true)
    }

    /// Without the routes of `group`.
    #[must_use]
    pub fn without(self, group: Group) -> Selection {
        self.setting(group, false)
    }

    /// With one route, by its path as [`ROUTES`] has it.
    ///
    /// # Errors
    /// [`NoSuchRoute`].
    pub fn with_route(self, method: Method, path: &str) -> Result<Selection, NoSuchRoute> {
        self.setting_one(method, path, true)
    }

    /// Without one route, by its path as [`ROUTES`] has it.
    ///
    /// # Errors
    /// [`NoSuchRoute`].
    pub fn without_route(self, method: Method, path: &str) -> Result<Selection, NoSuchRoute> {
        self.setting_one(method, path, false)
    }

    /// Whether there is such a route.
    pub fn has(&self, method: &Method, path: &str) -> bool {
        self.routes().any(|route| route.method == *method && route.path == path)
    }

    /// The routes that are there, in the order of [`ROUTES`].
    pub(crate) fn routes(&self) -> impl Iterator<Item = &'static Route> {
        ROUTES.iter().zip(&self.there).filter(|(_, there)| **there).map(|(route, _)| route)
    }

    fn setting(mut self, group: Group, there: bool) -> Selection {
        for (route, slot) in ROUTES.iter().zip(&mut self.there) {
            if route.group() == group {
                *slot = there;
            }
        }
        self
    }

    fn setting_one(mut self, method: Method, path: &str, there: bool) -> Result<Selection, NoSuchRoute> {
        match ROUTES.iter().position(|route| route.method == method && route.path == path) {
            Some(position) => {
                self.there[position] = there;
                Ok(self)
            }
            None => Err(NoSuchRoute { method, path: path.to_owned() }),
        }
    }
}
