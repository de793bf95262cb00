//! What answers say of a user, where the host says it: [`UserToShow`].

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use axum::BoxError;
use counterfoil_core::store::StoreError;
use counterfoil_core::{Account, Error, SubjectId};
use serde_json::{Map, Value};
use tracing::Instrument as _;

use crate::problem::{Problem, ProblemKind};

/// Of whom an answer is to tell something.
#[derive(Debug, Clone)]
pub struct UserToShow {
    /// Whom the token stands for.
    pub subject: SubjectId,
    /// Their account, where we keep it.
    pub account: Option<Account>,
}

type Made = Pin<Box<dyn Future<Output = Result<Map<String, Value>, BoxError>> + Send>>;
type Make = dyn Fn(UserToShow) -> Made + Send + Sync;

/// The host's own function.
#[derive(Clone)]
pub(crate) struct Payload(Arc<Make>);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Payload")
    }
}

impl Payload {
    pub(crate) fn new<F, M>(make: F) -> Payload
    where
        F: Fn(UserToShow) -> M + Send + Sync + 'static,
        M: Future<Output = Result<Map<String, Value>, BoxError>> + Send + 'static,
    {
        Payload(Arc::new(move |user| Box::pin(make(user))))
    }

    /// What it says. In a task of its own, so that its panic is an answer like any other: who asked may have something to
    /// take back.
    pub(crate) async fn of(&self, user: UserToShow) -> Result<Map<String, Value>, Problem> {
        const DOING: &str = "making what an answer says of a user";
        let make = Arc::clone(&self.0);
        let made = async move { make(user).await };
        match tokio::spawn(made.in_current_span()).await {
            Ok(Ok(payload)) => Ok(payload),
            Ok(Err(error)) => Err(Error::from(StoreError::new(DOING, error)).into()),
            Err(_) => {
                let detail = "The operator finds the cause in the log, under this instance.";
                Err(Problem::new(ProblemKind::Internal, detail))
            }
        }
    }
}
