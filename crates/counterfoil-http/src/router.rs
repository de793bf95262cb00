//! The routes: [`ROUTES`], one table from which the router, its description and its tests are made.

use std::sync::{Arc, LazyLock};

use axum::http::Method;
use axum::middleware;
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, patch, post};
use axum::{Extension, Router};
use counterfoil_core::{Ability, Authority, Clock};
use tower_http::catch_panic::CatchPanicLayer;

use crate::body;
use crate::caller::Counted;
use crate::cors::{self, Sharing};
use crate::dialect::Mounted;
use crate::docs;
use crate::exchange;
use crate::http::Http;
use crate::openapi::Shape;
use crate::pages;
use crate::parameter::{self, Parameter};
use crate::problem::Problem;
use crate::problem::ProblemKind::{
    self, AdminNeeded, BeyondMaker, CapReached, Conflict, EmailTaken, InvalidCredentials, InvalidRequest, InvalidValue,
    LinkDead, LoginNotAllowed, NameTaken, NoMail, NotFound, Overloaded, QuotaExceeded, RegistrationClosed,
    RenewalNotAllowed, RotationLocked, TooManyAttempts, UnknownClient, WrongPassword,
};
use crate::record::{NewToken, Page, Record};
use crate::rights::{
    ACCOUNT_WRITE, ADMIN_READ, ADMIN_WRITE, KEYS_READ, KEYS_WRITE, TOKENS_INTROSPECT, TOKENS_READ, TOKENS_REVOKE,
    TOKENS_WRITE,
};
use crate::routes::{admin, email, keys, login, me, operations, password, register, services, tokens};
use crate::selection::Selection;
use crate::settings::HttpSettings;
use crate::wait;

/// One route.
#[derive(Debug)]
pub struct Route {
    /// Its method. Where it is GET, HEAD works too.
    pub method: Method,
    /// Its path, with `{id}` where a segment varies.
    pub path: &'static str,
    /// What it does, in one line.
    pub what: &'static str,
    /// Who may.
    pub access: Access,
    pub(crate) takes: Takes,
    pub(crate) parameters: &'static [&'static Parameter],
    pub(crate) gives: Gives,
    /// Problems of its own, besides those that come with `access` and `takes`.
    pub(crate) problems: &'static [ProblemKind],
    handler: fn() -> MethodRouter<Http>,
}

impl Route {
    /// Whether it is a page for people, or the form of one; the description is for programs and does not have it.
    pub fn is_page(&self) -> bool {
        matches!(self.gives, Gives::Page)
    }

    /// Whether its answer may be asked to come once what it ends has ended on every node.
    pub(crate) fn can_wait(&self) -> bool {
        self.parameters.iter().any(|parameter| parameter.name == parameter::WAIT.name)
    }

    /// Whether it waits for a body, if only to see that there is no second credential in it.
    pub(crate) fn reads_body(&self) -> bool {
        match self.takes {
            Takes::Nothing => self.method != Method::GET,
            Takes::Json(_) | Takes::JsonOrForm(_) | Takes::Form | Takes::TokenForm => true,
        }
    }
}

/// Who may use a route.
#[derive(Debug, Clone, Copy)]
pub enum Access {
    /// Anyone.
    Open,
    /// Anyone; a live token with this ability can take the place of something in the body.
    OpenOr(&'static LazyLock<Ability>),
    /// Whoever has a live token.
    Token,
    /// Whoever has a live token with this ability.
    Ability(&'static LazyLock<Ability>),
    /// A service: whoever has a live token with this ability, which only an administrator grants. Counted as a service, and
    /// told what is wrong with the request in the words of OAuth as well.
    Service(&'static LazyLock<Ability>),
    /// Staff and administrators; with an API key, if it has this ability, which only an administrator grants.
    Staff(&'static LazyLock<Ability>),
}

/// What a route reads as a body.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Takes {
    Nothing,
    Json(Shape),
    JsonOrForm(Shape),
    /// What the form of a page sends.
    Form,
    /// A form about a token, for services.
    TokenForm,
}

/// What a route answers when all is well.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Gives {
    /// 200 with a body.
    Ok(Shape),
    /// 201 with a body and a `Location`.
    Created(Shape),
    /// 200 with a body, or with a table of the same.
    OkOrTable(Shape),
    /// 201 with a body, or 202 with another.
    CreatedOrAccepted(Shape, Shape),
    /// 202 without a body: a mail may be on its way.
    Accepted,
    /// 204.
    Nothing,
    /// 200 without a body, as RFC 7009 §2.2 has it.
    Empty,
    /// 200 with a page for people.
    Html,
    /// A page for people, or 303 to another.
    Page,
    /// 200 with any JSON.
    AnyJson,
}

/// Every native route, and the pages beside them.
pub static ROUTES: &[Route] = &[
    Route {
        method: Method::POST,
        path: "/v1/login",
        what: "Log in: a password for a token",
        access: Access::Open,
        takes: Takes::JsonOrForm(Shape::of::<login::LoginBody>()),
        parameters: &[],
        gives: Gives::Ok(Shape::of::<NewToken>()),
        problems: &[
            UnknownClient,
            InvalidCredentials,
            LoginNotAllowed,
            ProblemKind::IssueRefused,
            CapReached,
            QuotaExceeded,
            TooManyAttempts,
            Overloaded,
        ],
        handler: || post(login::login),
    },
    Route {
        method: Method::POST,
        path: "/v1/logout",
        what: "Log out: end the token of this request",
        access: Access::Token,
        takes: Takes::Nothing,
        parameters: &[&parameter::WAIT],
        gives: Gives::Nothing,
        problems: &[],
        handler: || post(login::logout),
    },
    Route {
        method: Method::POST,
        path: "/v1/logout-all",
        what: "Log out everywhere: end all login tokens of this user",
        access: Access::Ability(&TOKENS_WRITE),
        takes: Takes::Nothing,
        parameters: &[&parameter::WAIT],
        gives: Gives::Nothing,
        problems: &[],
        handler: || post(login::logout_all),
    },
    Route {
        method: Method::GET,
        path: "/v1/tokens",
        what: "List the signed-in devices of this user",
        access: Access::Ability(&TOKENS_READ),
        takes: Takes::Nothing,
        parameters: &[&parameter::LIMIT, &parameter::CURSOR],
        gives: Gives::Ok(Shape::of::<Page>()),
        problems: &[InvalidRequest, InvalidValue],
        handler: || get(tokens::list),
    },
    Route {
        method: Method::DELETE,
        path: "/v1/tokens",
        what: "Log out all other devices: end all login tokens of this user but the one of this request",
        access: Access::Ability(&TOKENS_WRITE),
        takes: Takes::Nothing,
        parameters: &[&parameter::KEEP, &parameter::WAIT],
        gives: Gives::Nothing,
        problems: &[InvalidRequest, InvalidValue],
        handler: || delete(tokens::revoke_others),
    },
    Route {
        method: Method::PATCH,
        path: "/v1/tokens/{id}",
        what: "Rename a signed-in device",
        access: Access::Ability(&TOKENS_WRITE),
        takes: Takes::Json(Shape::of::<tokens::RenameBody>()),
        parameters: &[&parameter::TOKEN_ID],
        gives: Gives::Ok(Shape::of::<Record>()),
        problems: &[NotFound],
        handler: || patch(tokens::rename),
    },
    Route {
        method: Method::DELETE,
        path: "/v1/tokens/{id}",
        what: "Log out one device",
        access: Access::Ability(&TOKENS_WRITE),
        takes: Takes::Nothing,
        parameters: &[&parameter::TOKEN_ID, &parameter::WAIT],
        gives: Gives::Nothing,
        problems: &[NotFound],
        handler: || delete(tokens::revoke),
    },
    Route {
        method: Method::POST,
        path: "/v1/renew",
        what: "Move the expiry of the token of this request on, as its client's policy allows",
        access: Access::Token,
        takes: Takes::Nothing,
        parameters: &[],
        gives: Gives::Ok(Shape::of::<tokens::Renewed>()),
        problems: &[RenewalNotAllowed],
        handler: || post(tokens::renew),
    },
    Route {
        method: Method::POST,
        path: "/v1/rotate",
        what: "Exchange the secret of the token of this request for a fresh one",
        access: Access::Token,
        takes: Takes::Nothing,
        parameters: &[],
        gives: Gives::Ok(Shape::of::<NewToken>()),
        problems: &[RotationLocked],
        handler: || post(tokens::rotate),
    },
    Route {
        method: Method::GET,
        path: "/v1/keys",
        what: "List the API keys of this user",
        access: Access::Ability(&KEYS_READ),
        takes: Takes::Nothing,
        parameters: &[&parameter::LIMIT, &parameter::CURSOR],
        gives: Gives::Ok(Shape::of::<Page>()),
        problems: &[InvalidRequest, InvalidValue],
        handler: || get(keys::list),
    },
    Route {
        method: Method::POST,
        path: "/v1/keys",
        what: "Make an API key with no more abilities than the token of this request",
        access: Access::Ability(&KEYS_WRITE),
        takes: Takes::Json(Shape::of::<keys::KeyBody>()),
        parameters: &[],
        gives: Gives::Created(Shape::of::<NewToken>()),
        problems: &[BeyondMaker, ProblemKind::IssueRefused],
        handler: || post(keys::create),
    },
    Route {
        method: Method::DELETE,
        path: "/v1/keys/{id}",
        what: "End an API key",
        access: Access::Ability(&KEYS_WRITE),
        takes: Takes::Nothing,
        parameters: &[&parameter::TOKEN_ID, &parameter::WAIT],
        gives: Gives::Nothing,
        problems: &[NotFound],
        handler: || delete(keys::revoke),
    },
    Route {
        method: Method::GET,
        path: "/v1/me",
        what: "Tell who is asking, and with which token",
        access: Access::Token,
        takes: Takes::Nothing,
        parameters: &[],
        gives: Gives::Ok(Shape::of::<me::Me>()),
        problems: &[],
        handler: || get(me::show),
    },
    Route {
        method: Method::PATCH,
        path: "/v1/me",
        what: "Lock the secrets of one's own tokens, or unlock them",
        access: Access::Ability(&ACCOUNT_WRITE),
        takes: Takes::Json(Shape::of::<me::MeBody>()),
        parameters: &[],
        gives: Gives::Ok(Shape::of::<me::Me>()),
        problems: &[NotFound],
        handler: || patch(me::change),
    },
    Route {
        method: Method::POST,
        path: "/v1/me/export",
        what: "Hand out all that is kept about this user, who shows the password again",
        access: Access::Ability(&ACCOUNT_WRITE),
        takes: Takes::Json(Shape::of::<me::PasswordBody>()),
        parameters: &[],
        gives: Gives::Ok(Shape::of::<admin::export::Export>()),
        problems: &[WrongPassword, TooManyAttempts, NotFound, Overloaded],
        handler: || post(me::export),
    },
    Route {
        method: Method::POST,
        path: "/v1/me/delete",
        what: "Delete the account of this user, who shows the password again, and end all its tokens",
        access: Access::Ability(&ACCOUNT_WRITE),
        takes: Takes::Json(Shape::of::<me::PasswordBody>()),
        parameters: &[&parameter::WAIT],
        gives: Gives::Nothing,
        problems: &[WrongPassword, TooManyAttempts, NotFound, Overloaded],
        handler: || post(me::delete),
    },
    Route {
        method: Method::POST,
        path: "/v1/register",
        what: "Make an account for oneself, where anybody may",
        access: Access::Open,
        takes: Takes::Json(Shape::of::<register::RegisterBody>()),
        parameters: &[],
        gives: Gives::CreatedOrAccepted(Shape::of::<register::OwnUser>(), Shape::of::<register::ProofAsked>()),
        problems: &[RegistrationClosed, NoMail, NameTaken, QuotaExceeded, Overloaded],
        handler: || post(register::register),
    },
    Route {
        method: Method::POST,
        path: "/v1/email/confirm",
        what: "Use a mailed link to prove an address",
        access: Access::OpenOr(&ACCOUNT_WRITE),
        takes: Takes::Json(Shape::of::<email::ConfirmBody>()),
        parameters: &[],
        gives: Gives::Ok(Shape::of::<email::ConfirmedUser>()),
        problems: &[LinkDead, NoMail, WrongPassword, TooManyAttempts, EmailTaken, NameTaken, NotFound, Overloaded],
        handler: || post(email::confirm),
    },
    Route {
        method: Method::POST,
        path: "/v1/email/resend",
        what: "Have another link mailed to prove an address; whether there is anybody to mail it to is not told",
        access: Access::OpenOr(&ACCOUNT_WRITE),
        takes: Takes::Json(Shape::of::<email::ResendBody>()),
        parameters: &[],
        gives: Gives::Accepted,
        problems: &[NoMail, NotFound, Overloaded],
        handler: || post(email::resend),
    },
    Route {
        method: Method::POST,
        path: "/v1/email/change",
        what: "Ask for another address: a link goes there, and the old one is told",
        access: Access::Ability(&ACCOUNT_WRITE),
        takes: Takes::Json(Shape::of::<email::ChangeEmailBody>()),
        parameters: &[],
        gives: Gives::Accepted,
        problems: &[WrongPassword, NoMail, TooManyAttempts, NotFound, Overloaded],
        handler: || post(email::change),
    },
    Route {
        method: Method::POST,
        path: "/v1/email/undo",
        what: "Use the link that an old address got to have it back: every token ends, and so does the password",
        access: Access::Open,
        takes: Takes::Json(Shape::of::<email::UndoBody>()),
        parameters: &[],
        gives: Gives::Nothing,
        problems: &[LinkDead, NoMail, EmailTaken],
        handler: || post(email::undo),
    },
    Route {
        method: Method::POST,
        path: "/v1/password/change",
        what: "Exchange the password: every other login token ends, and API keys if that is said",
        access: Access::Ability(&ACCOUNT_WRITE),
        takes: Takes::Json(Shape::of::<password::ChangePasswordBody>()),
        parameters: &[&parameter::WAIT],
        gives: Gives::Nothing,
        problems: &[WrongPassword, TooManyAttempts, NotFound, Overloaded],
        handler: || post(password::change),
    },
    Route {
        method: Method::POST,
        path: "/v1/password/forgot",
        what: "Have a link mailed to choose a new password; whether there is anybody to mail it to is not told",
        access: Access::Open,
        takes: Takes::Json(Shape::of::<password::ForgotBody>()),
        parameters: &[],
        gives: Gives::Accepted,
        problems: &[NoMail, QuotaExceeded, Overloaded],
        handler: || post(password::forgot),
    },
    Route {
        method: Method::POST,
        path: "/v1/password/reset",
        what: "Use a mailed link to choose a new password: every login token ends, and nobody is logged in",
        access: Access::Open,
        takes: Takes::Json(Shape::of::<password::ResetBody>()),
        parameters: &[&parameter::WAIT],
        gives: Gives::Ok(Shape::of::<password::GoOn>()),
        problems: &[LinkDead, NoMail, Overloaded],
        handler: || post(password::reset),
    },
    Route {
        method: Method::POST,
        path: "/v1/introspect",
        what: "Tell a service what a token is (RFC 7662)",
        access: Access::Service(&TOKENS_INTROSPECT),
        takes: Takes::TokenForm,
        parameters: &[],
        gives: Gives::Ok(Shape::of::<services::Introspection>()),
        problems: &[],
        handler: || post(services::introspect),
    },
    Route {
        method: Method::POST,
        path: "/v1/revoke",
        what: "End a token by its text, for a service (RFC 7009)",
        access: Access::Service(&TOKENS_REVOKE),
        takes: Takes::TokenForm,
        parameters: &[&parameter::WAIT],
        gives: Gives::Empty,
        problems: &[],
        handler: || post(services::revoke),
    },
    Route {
        method: Method::GET,
        path: "/v1/admin/users",
        what: "List users by name",
        access: Access::Staff(&ADMIN_READ),
        takes: Takes::Nothing,
        parameters: &[
            &parameter::NAME,
            &parameter::EMAIL,
            &parameter::ROLE,
            &parameter::ACTIVE,
            &parameter::LIMIT,
            &parameter::CURSOR,
        ],
        gives: Gives::Ok(Shape::of::<admin::users::UserPage>()),
        problems: &[InvalidRequest, InvalidValue],
        handler: || get(admin::users::list),
    },
    Route {
        method: Method::POST,
        path: "/v1/admin/users",
        what: "Make a user",
        access: Access::Staff(&ADMIN_WRITE),
        takes: Takes::Json(Shape::of::<admin::users::NewUserBody>()),
        parameters: &[],
        gives: Gives::Created(Shape::of::<admin::users::User>()),
        problems: &[AdminNeeded, NameTaken, Overloaded],
        handler: || post(admin::users::create),
    },
    Route {
        method: Method::POST,
        path: "/v1/admin/users/reset",
        what: "Mail users a link to choose a new password, and tell of each whether one is on its way",
        access: Access::Staff(&ADMIN_WRITE),
        takes: Takes::Json(Shape::of::<admin::links::UsersBody>()),
        parameters: &[],
        gives: Gives::Ok(Shape::of::<admin::links::Mailed>()),
        problems: &[],
        handler: || post(admin::links::reset),
    },
    Route {
        method: Method::POST,
        path: "/v1/admin/users/confirm",
        what: "Mail users a link to prove their address, and tell of each whether one is on its way",
        access: Access::Staff(&ADMIN_WRITE),
        takes: Takes::Json(Shape::of::<admin::links::UsersBody>()),
        parameters: &[],
        gives: Gives::Ok(Shape::of::<admin::links::Mailed>()),
        problems: &[],
        handler: || post(admin::links::confirm),
    },
    Route {
        method: Method::GET,
        path: "/v1/admin/users/{id}",
        what: "Show a user and their failed logins",
        access: Access::Staff(&ADMIN_READ),
        takes: Takes::Nothing,
        parameters: &[&parameter::USER_ID],
        gives: Gives::Ok(Shape::of::<admin::users::User>()),
        problems: &[NotFound],
        handler: || get(admin::users::show),
    },
    Route {
        method: Method::PATCH,
        path: "/v1/admin/users/{id}",
        what: "Change what is known of a user, whether they may log in, and their role",
        access: Access::Staff(&ADMIN_WRITE),
        takes: Takes::Json(Shape::of::<admin::users::UserBody>()),
        parameters: &[&parameter::USER_ID, &parameter::WAIT],
        gives: Gives::Ok(Shape::of::<admin::users::User>()),
        problems: &[AdminNeeded, NotFound],
        handler: || patch(admin::users::change),
    },
    Route {
        method: Method::DELETE,
        path: "/v1/admin/users/{id}",
        what: "Delete a user and end all their tokens",
        access: Access::Staff(&ADMIN_WRITE),
        takes: Takes::Nothing,
        parameters: &[&parameter::USER_ID, &parameter::WAIT],
        gives: Gives::Nothing,
        problems: &[AdminNeeded, NotFound],
        handler: || delete(admin::users::delete),
    },
    Route {
        method: Method::POST,
        path: "/v1/admin/users/{id}/unlock",
        what: "Forget the failed logins of a user, so that the password opens the account again",
        access: Access::Staff(&ADMIN_WRITE),
        takes: Takes::Nothing,
        parameters: &[&parameter::USER_ID],
        gives: Gives::Nothing,
        problems: &[AdminNeeded, NotFound],
        handler: || post(admin::users::unlock),
    },
    Route {
        method: Method::DELETE,
        path: "/v1/admin/users/{id}/tokens",
        what: "End all login tokens of a user, and API keys if that is said",
        access: Access::Staff(&ADMIN_WRITE),
        takes: Takes::Nothing,
        parameters: &[&parameter::USER_ID, &parameter::KEYS, &parameter::WAIT],
        gives: Gives::Nothing,
        problems: &[InvalidRequest, InvalidValue, AdminNeeded, NotFound],
        handler: || delete(admin::users::end_tokens),
    },
    Route {
        method: Method::GET,
        path: "/v1/admin/users/{id}/export",
        what: "Hand out all that is kept about a user",
        access: Access::Staff(&ADMIN_READ),
        takes: Takes::Nothing,
        parameters: &[&parameter::USER_ID],
        gives: Gives::Ok(Shape::of::<admin::export::Export>()),
        problems: &[AdminNeeded, NotFound],
        handler: || get(admin::export::show),
    },
    Route {
        method: Method::GET,
        path: "/v1/admin/clients",
        what: "List clients and their rules",
        access: Access::Staff(&ADMIN_READ),
        takes: Takes::Nothing,
        parameters: &[],
        gives: Gives::Ok(Shape::of::<admin::clients::Clients>()),
        problems: &[],
        handler: || get(admin::clients::list),
    },
    Route {
        method: Method::POST,
        path: "/v1/admin/clients",
        what: "Register a client",
        access: Access::Staff(&ADMIN_WRITE),
        takes: Takes::Json(Shape::of::<admin::clients::NewClientBody>()),
        parameters: &[],
        gives: Gives::Created(Shape::of::<admin::clients::ClientRecord>()),
        problems: &[AdminNeeded, NameTaken, Conflict],
        handler: || post(admin::clients::create),
    },
    Route {
        method: Method::GET,
        path: "/v1/admin/clients/{id}",
        what: "Show a client",
        access: Access::Staff(&ADMIN_READ),
        takes: Takes::Nothing,
        parameters: &[&parameter::CLIENT_ID],
        gives: Gives::Ok(Shape::of::<admin::clients::ClientRecord>()),
        problems: &[NotFound],
        handler: || get(admin::clients::show),
    },
    Route {
        method: Method::PATCH,
        path: "/v1/admin/clients/{id}",
        what: "Change a client's rules; tokens issued before keep their expiry",
        access: Access::Staff(&ADMIN_WRITE),
        takes: Takes::Json(Shape::of::<admin::clients::ClientBody>()),
        parameters: &[&parameter::CLIENT_ID],
        gives: Gives::Ok(Shape::of::<admin::clients::ClientRecord>()),
        problems: &[AdminNeeded, NotFound, NameTaken, Conflict],
        handler: || patch(admin::clients::change),
    },
    Route {
        method: Method::DELETE,
        path: "/v1/admin/clients/{id}",
        what: "Delete a client and end all its tokens",
        access: Access::Staff(&ADMIN_WRITE),
        takes: Takes::Nothing,
        parameters: &[&parameter::CLIENT_ID, &parameter::WAIT],
        gives: Gives::Nothing,
        problems: &[AdminNeeded, NotFound, Conflict],
        handler: || delete(admin::clients::delete),
    },
    Route {
        method: Method::DELETE,
        path: "/v1/admin/clients/{id}/tokens",
        what: "End all tokens of a client, API keys included",
        access: Access::Staff(&ADMIN_WRITE),
        takes: Takes::Nothing,
        parameters: &[&parameter::CLIENT_ID, &parameter::WAIT],
        gives: Gives::Nothing,
        problems: &[AdminNeeded, NotFound],
        handler: || delete(admin::clients::end_tokens),
    },
    Route {
        method: Method::GET,
        path: "/v1/admin/tokens",
        what: "List everybody's tokens",
        access: Access::Staff(&ADMIN_READ),
        takes: Takes::Nothing,
        parameters: &[
            &parameter::USER,
            &parameter::CLIENT,
            &parameter::KIND,
            &parameter::LIVE,
            &parameter::ISSUED_BEFORE,
            &parameter::USED_BEFORE,
            &parameter::IP,
            &parameter::LIMIT,
            &parameter::CURSOR,
        ],
        gives: Gives::Ok(Shape::of::<admin::tokens::StaffPage>()),
        problems: &[InvalidRequest, InvalidValue],
        handler: || get(admin::tokens::list),
    },
    Route {
        method: Method::POST,
        path: "/v1/admin/tokens",
        what: "Issue a token for a user, without their password",
        access: Access::Staff(&ADMIN_WRITE),
        takes: Takes::Json(Shape::of::<admin::tokens::IssueBody>()),
        parameters: &[],
        gives: Gives::Created(Shape::of::<NewToken>()),
        problems: &[AdminNeeded, UnknownClient, ProblemKind::IssueRefused, CapReached, NotFound, Conflict],
        handler: || post(admin::tokens::issue),
    },
    Route {
        method: Method::DELETE,
        path: "/v1/admin/tokens",
        what: "End the tokens of everybody, API keys included",
        access: Access::Staff(&ADMIN_WRITE),
        takes: Takes::Nothing,
        parameters: &[&parameter::ALL, &parameter::WAIT],
        gives: Gives::Nothing,
        problems: &[InvalidRequest, InvalidValue, AdminNeeded],
        handler: || delete(admin::tokens::revoke_all),
    },
    Route {
        method: Method::POST,
        path: "/v1/admin/tokens/revoke",
        what: "Count the tokens that have something in common, or end them",
        access: Access::Staff(&ADMIN_WRITE),
        takes: Takes::Json(Shape::of::<admin::tokens::RevokeBody>()),
        parameters: &[&parameter::WAIT],
        gives: Gives::Ok(Shape::of::<admin::tokens::Revoked>()),
        problems: &[AdminNeeded],
        handler: || post(admin::tokens::revoke_matching),
    },
    Route {
        method: Method::GET,
        path: "/v1/admin/tokens/{id}",
        what: "Show a token, whosever it is",
        access: Access::Staff(&ADMIN_READ),
        takes: Takes::Nothing,
        parameters: &[&parameter::TOKEN_ID],
        gives: Gives::Ok(Shape::of::<admin::tokens::StaffRecord>()),
        problems: &[NotFound],
        handler: || get(admin::tokens::show),
    },
    Route {
        method: Method::PATCH,
        path: "/v1/admin/tokens/{id}",
        what: "Rename a live token, whosever it is",
        access: Access::Staff(&ADMIN_WRITE),
        takes: Takes::Json(Shape::of::<tokens::RenameBody>()),
        parameters: &[&parameter::TOKEN_ID],
        gives: Gives::Ok(Shape::of::<admin::tokens::StaffRecord>()),
        problems: &[AdminNeeded, NotFound],
        handler: || patch(admin::tokens::rename),
    },
    Route {
        method: Method::DELETE,
        path: "/v1/admin/tokens/{id}",
        what: "End a token, whosever it is",
        access: Access::Staff(&ADMIN_WRITE),
        takes: Takes::Nothing,
        parameters: &[&parameter::TOKEN_ID, &parameter::WAIT],
        gives: Gives::Nothing,
        problems: &[AdminNeeded, NotFound],
        handler: || delete(admin::tokens::revoke),
    },
    Route {
        method: Method::GET,
        path: "/v1/admin/audit",
        what: "Read the audit log, newest first",
        access: Access::Staff(&ADMIN_READ),
        takes: Takes::Nothing,
        parameters: &[
            &parameter::EVENT,
            &parameter::SUBJECT,
            &parameter::BY,
            &parameter::CLIENT,
            &parameter::TOKEN,
            &parameter::IP,
            &parameter::SINCE,
            &parameter::UNTIL,
            &parameter::ENTRIES,
            &parameter::CURSOR,
            &parameter::FORMAT,
        ],
        gives: Gives::OkOrTable(Shape::of::<admin::audit::AuditEntries>()),
        problems: &[InvalidRequest, InvalidValue],
        handler: || get(admin::audit::list),
    },
    Route {
        method: Method::GET,
        path: "/register",
        what: "Page: make an account",
        access: Access::Open,
        takes: Takes::Nothing,
        parameters: &[],
        gives: Gives::Page,
        problems: &[],
        handler: || get(pages::register::show),
    },
    Route {
        method: Method::POST,
        path: "/register",
        what: "The form of that page",
        access: Access::Open,
        takes: Takes::Form,
        parameters: &[],
        gives: Gives::Page,
        problems: &[],
        handler: || post(pages::register::register),
    },
    Route {
        method: Method::GET,
        path: "/email/confirm/{link}",
        what: "Page: prove an address by a mailed link",
        access: Access::Open,
        takes: Takes::Nothing,
        parameters: &[],
        gives: Gives::Page,
        problems: &[],
        handler: || get(pages::email::show),
    },
    Route {
        method: Method::POST,
        path: "/email/confirm/{link}",
        what: "The form of that page",
        access: Access::Open,
        takes: Takes::Form,
        parameters: &[],
        gives: Gives::Page,
        problems: &[],
        handler: || post(pages::email::confirm),
    },
    Route {
        method: Method::GET,
        path: "/email/undo/{link}",
        what: "Page: take a change of address back by a mailed link",
        access: Access::Open,
        takes: Takes::Nothing,
        parameters: &[],
        gives: Gives::Page,
        problems: &[],
        handler: || get(pages::email::show_undo),
    },
    Route {
        method: Method::POST,
        path: "/email/undo/{link}",
        what: "The form of that page",
        access: Access::Open,
        takes: Takes::Form,
        parameters: &[],
        gives: Gives::Page,
        problems: &[],
        handler: || post(pages::email::undo),
    },
    Route {
        method: Method::GET,
        path: "/email/resend",
        what: "Page: have another link mailed to prove an address",
        access: Access::Open,
        takes: Takes::Nothing,
        parameters: &[],
        gives: Gives::Page,
        problems: &[],
        handler: || get(pages::email::show_resend),
    },
    Route {
        method: Method::POST,
        path: "/email/resend",
        what: "The form of that page",
        access: Access::Open,
        takes: Takes::Form,
        parameters: &[],
        gives: Gives::Page,
        problems: &[],
        handler: || post(pages::email::resend),
    },
    Route {
        method: Method::GET,
        path: "/password/forgot",
        what: "Page: have a link mailed to choose a new password",
        access: Access::Open,
        takes: Takes::Nothing,
        parameters: &[],
        gives: Gives::Page,
        problems: &[],
        handler: || get(pages::password::show_forgot),
    },
    Route {
        method: Method::POST,
        path: "/password/forgot",
        what: "The form of that page",
        access: Access::Open,
        takes: Takes::Form,
        parameters: &[],
        gives: Gives::Page,
        problems: &[],
        handler: || post(pages::password::forgot),
    },
    Route {
        method: Method::GET,
        path: "/password/reset/{link}",
        what: "Page: choose a new password by a mailed link",
        access: Access::Open,
        takes: Takes::Nothing,
        parameters: &[],
        gives: Gives::Page,
        problems: &[],
        handler: || get(pages::password::show),
    },
    Route {
        method: Method::POST,
        path: "/password/reset/{link}",
        what: "The form of that page",
        access: Access::Open,
        takes: Takes::Form,
        parameters: &[],
        gives: Gives::Page,
        problems: &[],
        handler: || post(pages::password::reset),
    },
    Route {
        method: Method::GET,
        path: "/healthz",
        what: "Tell that the process is up",
        access: Access::Open,
        takes: Takes::Nothing,
        parameters: &[],
        gives: Gives::Ok(Shape::of::<operations::Health>()),
        problems: &[],
        handler: || get(operations::healthz),
    },
    Route {
        method: Method::GET,
        path: "/readyz",
        what: "Tell whether the store can answer and commit",
        access: Access::Open,
        takes: Takes::Nothing,
        parameters: &[],
        gives: Gives::Ok(Shape::of::<operations::Readiness>()),
        problems: &[],
        handler: || get(operations::readyz),
    },
    Route {
        method: Method::GET,
        path: "/openapi.json",
        what: "Describe these routes in OpenAPI 3.1",
        access: Access::Open,
        takes: Takes::Nothing,
        parameters: &[],
        gives: Gives::AnyJson,
        problems: &[],
        handler: || get(operations::describe),
    },
    Route {
        method: Method::GET,
        path: "/docs",
        what: "Describe these routes to people",
        access: Access::Open,
        takes: Takes::Nothing,
        parameters: &[],
        gives: Gives::Html,
        problems: &[],
        handler: || get(docs::page),
    },
];

/// The native routes for `authority`, ready to be served.
///
/// Serve them with `into_make_service_with_connect_info::<SocketAddr>()`, over a Unix socket with
/// [`UnixPeer`](crate::UnixPeer) in its place; without either no address is known and none is made up. Needs a tokio runtime with time. Limits on connections, heads and header bytes are the
/// server's.
pub fn router(authority: Arc<Authority>, clock: Arc<dyn Clock>, settings: HttpSettings) -> Router {
    Http::new(authority, clock, settings).router()
}

impl Http {
    /// The native routes, ready to be served.
    pub fn router(&self) -> Router {
        self.router_with(Router::new())
    }

    /// The native routes and `more` of the host's own, all within the same layers: deadline, security headers, request id,
    /// problem documents for what panics or is not there.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use axum::body::Body;
    /// use axum::http::{Request, StatusCode};
    /// use axum::routing::get;
    /// use axum::Router;
    /// use counterfoil_core::authority::{Expiry, TokenOrder};
    /// use counterfoil_core::{Abilities, Authority, By, Clock, Kind, ManualClock, MemoryStore, Parts, Settings, Timestamp};
    /// use counterfoil_core::{entropy::PredictableEntropy, event::Silent, hashing::OnThisThread, token::Metadata};
    /// use counterfoil_http::{Caller, Http, HttpSettings, Problem};
    /// use tower::ServiceExt;
    ///
    /// async fn file(caller: Caller) -> Result<String, Problem> {
    ///     caller.may(&"files:read".parse().expect("an ability"))?;
    ///     Ok(format!("the file of {}", caller.who.subject))
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_795_172_400_000)));
    /// let store = Arc::new(MemoryStore::new());
    /// let parts = Parts {
    ///     tokens: store.clone(),
    ///     accounts: store.clone(),
    ///     audit: Some(store),
    ///     mail: None,
    ///     hashing: Arc::new(OnThisThread),
    ///     entropy: Arc::new(PredictableEntropy::from_seed(1)), // a service takes the operating system's
    ///     events: Arc::new(Silent),
    ///     hook: None,
    ///     ring: None,
    ///     settings: Settings::default(),
    /// };
    /// let authority = Arc::new(Authority::open(parts, clock.now()).await?);
    /// let http = Http::new(authority.clone(), clock.clone(), HttpSettings::default());
    /// let app = http.router_with(Router::new().route("/file", get(file)));
    ///
    /// let order = TokenOrder {
    ///     kind: Kind::Login,
    ///     subject: "user-42".parse()?,
    ///     client: None,
    ///     name: None,
    ///     abilities: Abilities::everything(),
    ///     metadata: Metadata::default(),
    ///     expiry: Expiry::ByPolicy,
    /// };
    /// let issued = authority.issue(order, &By::operator(), clock.now()).await?;
    /// let bearer = format!("Bearer {}", issued.secret.expose());
    /// let request = Request::get("/file").header("Authorization", bearer).body(Body::empty())?;
    /// assert_eq!(app.clone().oneshot(request).await?.status(), StatusCode::OK);
    ///
    /// // Without a token the handler is not called.
    /// let refused = app.oneshot(Request::get("/file").body(Body::empty())?).await?;
    /// assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    /// assert_eq!(refused.headers()["WWW-Authenticate"], "Bearer realm=\"counterfoil\"");
    /// # Ok(())
    /// # }
    /// ```
    pub fn router_with(&self, more: Router<Http>) -> Router {
        self.with_layers(self.add_routes(more).fallback(exchange::not_found))
    }

    /// Those of the native routes that `selection` has, for a host to nest under any path, or to merge with its own routes.
    /// What is not there, and what the host has beside them, is the host's own: these bring no fallback.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// use axum::Router;
    /// use axum::body::Body;
    /// use axum::http::{Request, StatusCode};
    /// # use counterfoil_core::{Authority, Clock, ManualClock, MemoryStore, Parts, Settings, Timestamp};
    /// # use counterfoil_core::{entropy::PredictableEntropy, event::Silent, hashing::OnThisThread};
    /// use counterfoil_http::{Group, Http, HttpSettings, Selection};
    /// use tower::ServiceExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_795_172_400_000)));
    /// # let store = Arc::new(MemoryStore::new());
    /// # let parts = Parts {
    /// #     tokens: store.clone(),
    /// #     accounts: store.clone(),
    /// #     audit: None,
    /// #     mail: None,
    /// #     hashing: Arc::new(OnThisThread),
    /// #     entropy: Arc::new(PredictableEntropy::from_seed(1)),
    /// #     events: Arc::new(Silent),
    /// #     hook: None,
    /// #     ring: None,
    /// #     settings: Settings::default(),
    /// # };
    /// # let authority = Arc::new(Authority::open(parts, clock.now()).await?);
    /// # let http = Http::new(authority, clock, HttpSettings::default());
    /// let own = http.routes(&Selection::all().without(Group::Admin));
    /// let app = Router::new().nest("/auth", own).fallback(async || (StatusCode::NOT_FOUND, "the host's own words"));
    ///
    /// let ask = async |path: &str| {
    ///     let request = Request::get(path).body(Body::empty()).expect("a path");
    ///     app.clone().oneshot(request).await.expect("an answer").status()
    /// };
    /// assert_eq!(ask("/auth/healthz").await, StatusCode::OK);
    /// assert_eq!(ask("/auth/v1/me").await, StatusCode::UNAUTHORIZED);
    /// assert_eq!(ask("/auth/v1/admin/users").await, StatusCode::NOT_FOUND);
    /// # Ok(())
    /// # }
    /// ```
    pub fn routes(&self, selection: &Selection) -> Router {
        let http = self.with_selection(selection.clone());
        http.with_layers(http.add_routes(Router::new()))
    }

    fn add_routes(&self, more: Router<Http>) -> Router<Http> {
        let routes = self.description().selection().routes();
        routes
            .fold(more, |router, route| router.route(route.path, self.handler(route)))
            .method_not_allowed_fallback(exchange::method_not_allowed)
    }

    fn with_layers(&self, routes: Router<Http>) -> Router {
        let answering = routes
            .layer(CatchPanicLayer::custom(exchange::panicked))
            .layer(middleware::from_fn_with_state(self.clone(), exchange::answered));
        self.with_outer_layers(answering)
    }

    /// The same around routes of a dialect, which tell problems in its words.
    pub(crate) fn with_layers_of(&self, mounted: &Mounted, routes: Router<Http>) -> Router {
        let answering = routes
            .layer(CatchPanicLayer::custom(exchange::panicked))
            .layer(middleware::from_fn_with_state(mounted.clone(), Mounted::answered));
        self.with_outer_layers(answering)
    }

    fn with_outer_layers(&self, answering: Router<Http>) -> Router {
        // Outside of what makes problem documents, so that pages of other origins may read those, too.
        let sharing = match Sharing::with(self.settings()) {
            Some(sharing) => answering.layer(middleware::from_fn_with_state(sharing, cors::share)),
            None => answering,
        };
        sharing.layer(middleware::from_fn_with_state(self.clone(), exchange::around)).with_state(self.clone())
    }

    /// The handler of `route`, which is not called before the body is there.
    fn handler(&self, route: &'static Route) -> MethodRouter<Http> {
        let handler = if route.can_wait() {
            (route.handler)().route_layer(middleware::from_fn_with_state(self.clone(), wait::for_everywhere))
        } else {
            (route.handler)()
        };
        let handler = match route.access {
            Access::Open => handler,
            Access::OpenOr(_) | Access::Token | Access::Ability(_) | Access::Staff(_) => {
                handler.route_layer(Extension(Counted))
            }
            Access::Service(_) => handler.route_layer(middleware::map_response(for_service)),
        };
        let handler = if route.reads_body() {
            let handler = handler.route_layer(middleware::from_fn_with_state(self.clone(), exchange::to_its_end));
            let state = (self.clone(), route);
            // Around the handler alone, so that 405 still tells the methods without a body being read.
            handler.route_layer(middleware::from_fn_with_state(state, body::arrive))
        } else {
            handler
        };
        if route.is_page() {
            handler.route_layer(middleware::from_fn_with_state(self.clone(), pages::for_people))
        } else {
            handler
        }
    }
}

async fn for_service(mut response: Response) -> Response {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        response.extensions_mut().insert(problem.for_service());
    }
    response
}
