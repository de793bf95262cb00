//! What staff do over HTTP, as the operator does on the command line. Who may what is the authority's to say.

pub(crate) mod audit;
pub(crate) mod clients;
pub(crate) mod export;
pub(crate) mod links;
pub(crate) mod tokens;
pub(crate) mod users;

use std::collections::HashMap;
use std::fmt::Display;

use axum::Json;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderName, StatusCode, header};
use counterfoil_core::authority::{List, Place};
use counterfoil_core::{ClientId, SubjectId, Username};

use crate::caller::Staff;
use crate::http::Http;
use crate::nested::NestedUnder;
use crate::problem::Problem;

/// 201 with what was made and where it is.
type Made<T> = (StatusCode, [(HeaderName, String); 1], Json<T>);

fn made<T>(prefix: &NestedUnder, path: &str, id: impl Display, body: T) -> Made<T> {
    (StatusCode::CREATED, [(header::LOCATION, format!("{prefix}{path}/{id}"))], Json(body))
}

/// The text of `next`, and back.
impl Staff {
    fn next<P: Place>(&self, place: Option<P>, list: List) -> Option<String> {
        place.map(|place| self.authority().cursor_text(&place, list, &self.caller.who))
    }

    fn place<P: Place>(&self, cursor: Option<&String>, list: List) -> Result<Option<P>, Problem> {
        Ok(cursor.map(|text| self.authority().cursor(text, list, &self.caller.who)).transpose()?)
    }

    /// What the users of these subjects are called, where we keep their accounts.
    async fn names_of<'a>(
        &self,
        subjects: impl Iterator<Item = &'a SubjectId>,
    ) -> Result<HashMap<SubjectId, Option<Username>>, Problem> {
        let mut names = HashMap::new();
        for subject in subjects {
            if !names.contains_key(subject) {
                let name = self.name_of(subject).await?;
                names.insert(subject.clone(), name);
            }
        }
        Ok(names)
    }

    async fn name_of(&self, subject: &SubjectId) -> Result<Option<Username>, Problem> {
        Ok(self.authority().account_of(subject).await?.map(|account| account.username))
    }
}

/// The user that a path names.
pub(crate) struct UserId(SubjectId);

impl FromRequestParts<Http> for UserId {
    type Rejection = Problem;

    /// A text that no subject can have as its id is a user that there is not.
    async fn from_request_parts(parts: &mut Parts, http: &Http) -> Result<Self, Problem> {
        let Path(text): Path<String> = Path::from_request_parts(parts, http).await.map_err(|_| Problem::not_found())?;
        text.parse().map(UserId).map_err(|_| Problem::not_found())
    }
}

/// The client that a path names.
pub(crate) struct WhichClient(ClientId);

impl FromRequestParts<Http> for WhichClient {
    type Rejection = Problem;

    /// As for a token: one spelling.
    async fn from_request_parts(parts: &mut Parts, http: &Http) -> Result<Self, Problem> {
        let Path(text): Path<String> = Path::from_request_parts(parts, http).await.map_err(|_| Problem::not_found())?;
        let id: ClientId = text.parse().map_err(|_| Problem::not_found())?;
        if id.to_string() == text { Ok(WhichClient(id)) } else { Err(Problem::not_found()) }
    }
}
