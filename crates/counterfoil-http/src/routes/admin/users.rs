//! Accounts, as staff see and change them.

use axum::Json;
use axum::http::StatusCode;
use counterfoil_core::account::{AccountChange, NewAccount, Role};
use counterfoil_core::attempts::Tries;
use counterfoil_core::authority::{Ending, List, PageRequest};
use counterfoil_core::password::Password;
use counterfoil_core::store::AccountQuery;
use counterfoil_core::token::Metadata;
use counterfoil_core::{Account, Refusal, SubjectId, Timestamp, Username};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{Made, UserId, made};
use crate::body::{self, NoBody, Query, SecretText, parsed, said};
use crate::caller::Staff;
use crate::nested::NestedUnder;
use crate::problem::Problem;
use crate::routes::tokens::limited;

/// One account, as staff see it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct User {
    /// Whom its tokens stand for.
    #[schema(value_type = String)]
    id: SubjectId,
    /// What its owner types.
    #[schema(value_type = String)]
    username: Username,
    /// Where mail goes.
    #[schema(required)]
    email: Option<String>,
    /// Whether the e-mail address is confirmed.
    email_confirmed: bool,
    /// Given name.
    first_name: String,
    /// Family name.
    last_name: String,
    /// The host's own facts about it.
    #[schema(value_type = Object)]
    attributes: Metadata,
    /// The language its owner reads.
    #[schema(required)]
    locale: Option<String>,
    /// Whether it may log in and its tokens are accepted.
    active: bool,
    /// What it may do beyond its own affairs.
    role: RoleWord,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When a password last opened it.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    last_login_at: Option<Timestamp>,
    /// Whether its owner has barred its tokens from changing their secret.
    rotation_locked: bool,
    /// Its failed logins since one went well; where one user is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_logins: Option<FailedLogins>,
}

impl From<Account> for User {
    fn from(account: Account) -> User {
        User {
            id: account.subject,
            username: account.username,
            email_confirmed: account.email_confirmed_at.is_some(),
            email: account.email.map(|email| email.as_str().to_owned()),
            first_name: account.first_name,
            last_name: account.last_name,
            attributes: account.attributes,
            locale: account.locale,
            active: account.active,
            role: account.role.into(),
            created_at: account.created_at,
            last_login_at: account.last_login_at,
            rotation_locked: account.rotation_locked,
            failed_logins: None,
        }
    }
}

impl User {
    pub(super) fn with_tries(account: Account, tries: Tries) -> User {
        let last = (tries.failed > 0).then_some(tries.last);
        User { failed_logins: Some(FailedLogins { failed: tries.failed, last }), ..User::from(account) }
    }
}

/// How often the password of an account was wrong since it was last right.
#[derive(Debug, Serialize, ToSchema)]
struct FailedLogins {
    /// How often. After 5 each try has to wait; after 100 the password opens nothing until staff forget them or it is reset.
    failed: u32,
    /// When it last was.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    last: Option<Timestamp>,
}

/// `user`, `staff` or `admin`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RoleWord {
    User,
    Staff,
    Admin,
}

impl From<Role> for RoleWord {
    fn from(role: Role) -> RoleWord {
        match role {
            Role::User => RoleWord::User,
            Role::Staff => RoleWord::Staff,
            Role::Admin => RoleWord::Admin,
        }
    }
}

impl From<RoleWord> for Role {
    fn from(word: RoleWord) -> Role {
        match word {
            RoleWord::User => Role::User,
            RoleWord::Staff => Role::Staff,
            RoleWord::Admin => Role::Admin,
        }
    }
}

/// Some accounts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UserPage {
    /// The accounts, by user name.
    items: Vec<User>,
    /// What to send as `cursor` for the next page; null at the end.
    #[schema(required)]
    next: Option<String>,
}

/// Which accounts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UsersQuery {
    name: Option<String>,
    email: Option<String>,
    role: Option<RoleWord>,
    active: Option<bool>,
    limit: Option<u32>,
    cursor: Option<String>,
}

pub(crate) async fn list(staff: Staff, Query(query): Query<UsersQuery>) -> Result<Json<UserPage>, Problem> {
    let limit = limited(query.limit, PageRequest::MOST)?;
    let email = query.email.as_deref().map(|text| parsed("email", text)).transpose()?;
    let after = staff.place(query.cursor.as_ref(), List::Users)?;
    let UsersQuery { name, role, active, .. } = query;
    // One more than asked for tells whether there is a next page.
    let query = AccountQuery { name, email, role: role.map(Role::from), active, after, limit: limit + 1 };
    let mut accounts = staff.authority().users(&query).await?;
    let more = accounts.len() > limit as usize;
    accounts.truncate(limit as usize);
    let last = if more { accounts.last().map(|account| account.username.clone()) } else { None };
    Ok(Json(UserPage { next: staff.next(last, List::Users), items: accounts.into_iter().map(User::from).collect() }))
}

/// An account to be made.
// Not to be printed, hence without `Debug`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewUserBody {
    /// What its owner types: 1 to 150 characters.
    username: String,
    /// 8 characters to 4,096 bytes. Without one nobody logs in on it until its owner has set one.
    #[schema(value_type = Option<String>, format = Password)]
    password: Option<SecretText>,
    /// Where mail goes.
    email: Option<String>,
    /// Whether the address is known to be its owner's, so that it logs in; false if it is left out.
    #[serde(default)]
    email_confirmed: bool,
    /// Given name.
    #[serde(default)]
    first_name: String,
    /// Family name.
    #[serde(default)]
    last_name: String,
    /// What it may do beyond its own affairs; `user` if it is left out. Anything more is an administrator's to give.
    role: Option<RoleWord>,
}

pub(crate) async fn create(
    staff: Staff,
    prefix: NestedUnder,
    body::Json(body): body::Json<NewUserBody>,
) -> Result<Made<User>, Problem> {
    let email = body.email.as_deref().map(|text| parsed("email", text)).transpose()?;
    if body.email_confirmed && email.is_none() {
        return Err(Refusal::invalid("email_confirmed", "goes with email").into());
    }
    let new = NewAccount {
        username: parsed("username", &body.username)?,
        email,
        email_confirmed: body.email_confirmed,
        first_name: personal_name("first_name", body.first_name)?,
        last_name: personal_name("last_name", body.last_name)?,
        role: body.role.map_or(Role::User, Role::from),
    };
    let password = body.password.map(|text| password("password", text)).transpose()?;
    let account = staff.authority().create_user(new, password, &staff.by, staff.now()).await?;
    Ok(made(&prefix, "/v1/admin/users", account.subject.clone(), User::from(account)))
}

/// What somebody types or chooses as a password.
pub(crate) fn password(field: &'static str, text: SecretText) -> Result<Password, Refusal> {
    Password::new(text.into_bytes()).map_err(|error| Refusal::invalid(field, error))
}

/// Given or family name: at most 150 characters, none of them a control character.
pub(crate) fn personal_name(field: &'static str, text: String) -> Result<String, Problem> {
    const MOST: usize = 150;
    if text.chars().count() > MOST || text.chars().any(char::is_control) {
        return Err(Refusal::invalid(field, format!("has at most {MOST} characters and no control characters")).into());
    }
    Ok(text)
}

/// BCP 47 as far as a look at it tells.
fn locale(text: String) -> Result<String, Problem> {
    let is_tag = |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if text.len() <= 35 && text.split('-').all(is_tag) {
        return Ok(text);
    }
    Err(Refusal::invalid("locale", "is the tag of a language, such as de or pt-BR").into())
}

pub(crate) async fn show(staff: Staff, UserId(id): UserId) -> Result<Json<User>, Problem> {
    let account = staff.authority().account(&id).await?;
    let tries = staff.authority().tries(&id).await?;
    Ok(Json(User::with_tries(account, tries)))
}

/// What of an account is to change. A password is its owner's to choose, so there is none.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserBody {
    /// Where mail goes; null: nowhere. Not confirmed, unless `email_confirmed` says so.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    email: Option<Option<String>>,
    /// Whether the address in `email` is known to be its owner's; goes with it.
    email_confirmed: Option<bool>,
    /// Given name.
    first_name: Option<String>,
    /// Family name.
    last_name: Option<String>,
    /// The host's own facts, all of them: a JSON object of at most 4,096 bytes.
    #[schema(value_type = Option<Object>)]
    attributes: Option<Map<String, Value>>,
    /// The language its owner reads, as a BCP 47 tag; null: not known.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    locale: Option<Option<String>>,
    /// Whether it may log in. Its tokens are refused while it may not, and accepted again when it may.
    active: Option<bool>,
    /// What it may do beyond its own affairs; an administrator's to change.
    role: Option<RoleWord>,
}

impl UserBody {
    fn changes(self, now: Timestamp) -> Result<Vec<AccountChange>, Problem> {
        let mut changes = Vec::new();
        match (self.email, self.email_confirmed) {
            (Some(Some(text)), confirmed) => {
                let confirmed_at = confirmed.unwrap_or(false).then_some(now);
                changes.push(AccountChange::Email(Some(parsed("email", &text)?), confirmed_at));
            }
            (Some(None), None | Some(false)) => changes.push(AccountChange::Email(None, None)),
            // Which address is confirmed has to be said: another may have come in since the caller looked.
            (None, Some(_)) | (Some(None), Some(true)) => {
                return Err(Refusal::invalid("email_confirmed", "goes with email").into());
            }
            (None, None) => {}
        }
        if let Some(name) = self.first_name {
            changes.push(AccountChange::FirstName(personal_name("first_name", name)?));
        }
        if let Some(name) = self.last_name {
            changes.push(AccountChange::LastName(personal_name("last_name", name)?));
        }
        if let Some(object) = self.attributes {
            let attributes = Metadata::new(object).map_err(|error| Refusal::invalid("attributes", error))?;
            changes.push(AccountChange::Attributes(attributes));
        }
        if let Some(tag) = self.locale {
            changes.push(AccountChange::Locale(tag.map(locale).transpose()?));
        }
        changes.extend(self.active.map(AccountChange::Active));
        changes.extend(self.role.map(|word| AccountChange::Role(word.into())));
        Ok(changes)
    }
}

pub(crate) async fn change(
    staff: Staff,
    UserId(id): UserId,
    body::Json(body): body::Json<UserBody>,
) -> Result<Json<User>, Problem> {
    let changes = body.changes(staff.now().wall)?;
    let account = staff.authority().change_user(&id, changes, &staff.by, staff.now()).await?;
    Ok(Json(account.into()))
}

pub(crate) async fn delete(staff: Staff, UserId(id): UserId, _: NoBody) -> Result<StatusCode, Problem> {
    staff.authority().delete_user(&id, &staff.by, staff.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn unlock(staff: Staff, UserId(id): UserId, _: NoBody) -> Result<StatusCode, Problem> {
    staff.authority().unlock_user(&id, &staff.by, staff.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether API keys end too.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeysQuery {
    #[serde(default)]
    keys: bool,
}

pub(crate) async fn end_tokens(
    staff: Staff,
    UserId(id): UserId,
    Query(query): Query<KeysQuery>,
    _: NoBody,
) -> Result<StatusCode, Problem> {
    let ending = Ending::Subject { subject: id, keys_too: query.keys };
    staff.authority().end(ending, &staff.by, staff.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}
