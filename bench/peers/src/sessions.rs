//! axum-login on tower-sessions, in memory and on SQLite, as in its examples.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use axum_login::{AuthManagerLayerBuilder, AuthSession, AuthUser, AuthnBackend, UserId, login_required};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use tower_sessions::{MemoryStore, SessionManagerLayer};
use tower_sessions_sqlx_store::SqliteStore;

const USERS: i64 = 1_000;

#[derive(Debug, Clone, sqlx::FromRow)]
struct User {
    id: i64,
    username: String,
    password: String,
}

impl AuthUser for User {
    type Id = i64;

    fn id(&self) -> i64 {
        self.id
    }

    fn session_auth_hash(&self) -> &[u8] {
        self.password.as_bytes()
    }
}

fn user(id: i64) -> User {
    User { id, username: format!("user-{id}"), password: format!("$argon2id$v=19$m=19456,t=2,p=1${id:022}") }
}

#[derive(Debug, Clone)]
struct InMemory(Arc<HashMap<i64, User>>);

impl AuthnBackend for InMemory {
    type User = User;
    type Credentials = ();
    type Error = Infallible;

    async fn authenticate(&self, _: ()) -> Result<Option<User>, Infallible> {
        Ok(None)
    }

    async fn get_user(&self, id: &UserId<Self>) -> Result<Option<User>, Infallible> {
        Ok(self.0.get(id).cloned())
    }
}

#[derive(Debug, Clone)]
struct OnSqlite(SqlitePool);

impl AuthnBackend for OnSqlite {
    type User = User;
    type Credentials = ();
    type Error = sqlx::Error;

    async fn authenticate(&self, _: ()) -> Result<Option<User>, sqlx::Error> {
        Ok(None)
    }

    async fn get_user(&self, id: &UserId<Self>) -> Result<Option<User>, sqlx::Error> {
        sqlx::query_as("SELECT id, username, password FROM users WHERE id = ?").bind(id).fetch_optional(&self.0).await
    }
}

pub(crate) fn in_memory() -> Router {
    let users = (0..USERS).map(|id| (id, user(id))).collect();
    router!(InMemory, InMemory(Arc::new(users)), MemoryStore::default())
}

pub(crate) async fn on_sqlite() -> Router {
    // Kept for as long as the process lives.
    let directory = tempfile::tempdir().unwrap().keep();
    let options = SqliteConnectOptions::new()
        .filename(directory.join("sessions.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    let pool = SqlitePool::connect_with(options).await.unwrap();
    sqlx::query("CREATE TABLE users (id INTEGER PRIMARY KEY, username TEXT NOT NULL UNIQUE, password TEXT NOT NULL)")
        .execute(&pool)
        .await
        .unwrap();
    for User { id, username, password } in (0..USERS).map(user) {
        let insert = sqlx::query("INSERT INTO users (id, username, password) VALUES (?, ?, ?)");
        insert.bind(id).bind(username).bind(password).execute(&pool).await.unwrap();
    }
    let sessions = SqliteStore::new(pool.clone());
    sessions.migrate().await.unwrap();
    router!(OnSqlite, OnSqlite(pool), sessions)
}

/// A macro because `login_required!` wants the backend by its name.
macro_rules! router {
    ($backend:ty, $users:expr, $sessions:expr) => {{
        let sessions = SessionManagerLayer::new($sessions).with_secure(false);
        Router::new()
            .route("/protected", get(crate::protected))
            .route_layer(login_required!($backend))
            .route("/credential/{number}", get(credential::<$backend>))
            .layer(AuthManagerLayerBuilder::new($users, sessions).build())
    }};
}
use router;

/// Logs in; the credential is the cookie that comes with the answer.
async fn credential<B: AuthnBackend<User = User>>(mut session: AuthSession<B>, Path(number): Path<i64>) {
    session.login(&user(number % USERS)).await.unwrap();
}
