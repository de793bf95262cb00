//! A service with a table of users of its own: counterfoil keeps the tokens, and reads who there is.
#![expect(clippy::print_stdout, reason = "an example speaks on the terminal")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Router, http::StatusCode};
use counterfoil::{
    Account, AccountChange, AccountQuery, AccountStore, Answer, Authenticated, Cost, Counterfoil, Credentials,
    Distinct, EncodedPassword, LoginName, Problem, Role, StoreError, SubjectId, Timestamp, Username,
};

/// One row of the table: passwords as Django wrote them, which counterfoil verifies and replaces at the next login.
#[derive(Debug, Clone)]
struct User {
    id: u64,
    password: String,
    active: bool,
}

/// The table, by name. A real one is in a database; each method is then one statement.
#[derive(Debug, Clone, Default)]
struct Users(Arc<Mutex<BTreeMap<String, User>>>);

impl Users {
    fn rows(&self) -> MutexGuard<'_, BTreeMap<String, User>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn first(&self, is_meant: impl Fn(&str, &User) -> bool) -> Answer<'_, Option<Credentials>> {
        let rows = self.rows();
        let row = rows.iter().find(|(name, user)| is_meant(name, user));
        let found = row.map(|(name, user)| credentials(name, user)).transpose();
        Box::pin(async { found })
    }
}

/// What counterfoil is told of a user. The subject is the key of the row, which never changes; a name may.
fn credentials(name: &str, user: &User) -> Result<Credentials, StoreError> {
    let bad = |what| move |_| StoreError::new("reading a user", what);
    let subject = subject(user).map_err(bad("a key that is no subject"))?;
    let username = name.parse().map_err(|_| StoreError::new("reading a user", "a name that is none"))?;
    let account = Account { active: user.active, ..Account::named(subject, username, Timestamp::from_millis(0)) };
    Ok(Credentials { account, password: EncodedPassword::from_store(user.password.as_str()) })
}

fn subject(user: &User) -> Result<SubjectId, counterfoil::NotASubject> {
    format!("user:{}", user.id).parse()
}

fn done<'a, T: Send + 'a>(value: T) -> Answer<'a, T> {
    Box::pin(async { Ok(value) })
}

impl AccountStore for Users {
    fn named<'a>(&'a self, wanted: &'a LoginName) -> Answer<'a, Vec<Credentials>> {
        let found = self.first(|name, _| name == wanted.folded);
        Box::pin(async { Ok(found.await?.into_iter().collect()) })
    }

    fn account<'a>(&'a self, wanted: &'a SubjectId) -> Answer<'a, Option<Credentials>> {
        self.first(|_, user| subject(user).is_ok_and(|subject| subject == *wanted))
    }

    fn set_password<'a>(
        &'a self,
        wanted: &'a SubjectId,
        expected: Option<&'a EncodedPassword>,
        password: &'a EncodedPassword,
    ) -> Answer<'a, bool> {
        let mut rows = self.rows();
        let row = rows.values_mut().find(|user| subject(user).is_ok_and(|subject| subject == *wanted));
        // `UPDATE … WHERE id = ? AND password = ?`: one that was changed meanwhile stays.
        let row = row.filter(|user| expected.is_none_or(|expected| expected.expose() == user.password));
        let set = row.map(|user| user.password = password.expose().to_owned());
        done(set.is_some())
    }

    /// What the encodings cost, so that an unknown name takes as long to refuse as a known one.
    fn password_costs(&self) -> Answer<'_, Vec<Cost>> {
        let rows = self.rows();
        let costs = rows.values().filter_map(|user| EncodedPassword::from_store(user.password.as_str()).cost().ok());
        done(costs.collect())
    }

    /// A login is told here, for a column of yours such as `last_login`.
    fn change<'a>(&'a self, wanted: &'a SubjectId, _: &'a [AccountChange]) -> Answer<'a, Option<Account>> {
        let found = self.account(wanted);
        Box::pin(async { Ok(found.await?.map(|credentials| credentials.account)) })
    }

    // What the service does by itself is not done through counterfoil.
    fn greatest_number(&self) -> Answer<'_, u64> {
        done(0)
    }

    fn has_lookalike<'a>(&'a self, _: &'a Username) -> Answer<'a, bool> {
        done(false)
    }

    fn create<'a>(&'a self, _: &'a Account, _: &'a EncodedPassword, _: Distinct) -> Answer<'a, bool> {
        Box::pin(async { Err(StoreError::new("adding a user", "users sign up elsewhere")) })
    }

    fn delete<'a>(&'a self, _: &'a SubjectId) -> Answer<'a, bool> {
        Box::pin(async { Err(StoreError::new("removing a user", "users are removed elsewhere")) })
    }

    fn accounts<'a>(&'a self, _: &'a AccountQuery) -> Answer<'a, Vec<Account>> {
        done(Vec::new())
    }

    fn has_role(&self, _: Role) -> Answer<'_, bool> {
        done(false)
    }
}

/// The service changes its own table, and says so: from then on every token of that user is refused.
async fn leave(
    who: Authenticated,
    State((users, counterfoil)): State<(Users, Counterfoil)>,
) -> Result<StatusCode, Problem> {
    for user in users.rows().values_mut() {
        user.active &= subject(user).is_ok_and(|subject| subject != who.subject);
    }
    counterfoil.subject_changed(&who.subject).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let users = Users::default();
    let password = "pbkdf2_sha256$1000$saltsaltsalt$KQDle8SXZRa7sBUZQfkYQI6NXnZxupxhxtm+aXnClyg=".to_owned();
    users.rows().insert("ada".to_owned(), User { id: 42, password, active: true });

    let counterfoil = Counterfoil::builder().memory().accounts(Arc::new(users.clone())).start().await?;
    let app = Router::new()
        .route("/hello", get(async |who: Authenticated| format!("Hello, {}.\n", who.subject)))
        .route("/leave", post(leave))
        .with_state((users, counterfoil.clone()))
        .layer(counterfoil.layer())
        .merge(counterfoil.routes());

    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}
