//! Where somebody makes an account.

use axum::extract::State;
use axum::response::Response;
use counterfoil_core::account_rules::{EmailRule, Registering};
use counterfoil_core::authority::{NewRegistration, Registered};
use counterfoil_core::{AccountRules, Refusal};
use serde::Deserialize;

use super::{Field, Form, NextQuery, Page, Pages, rendered};
use crate::arrival::Arrival;
use crate::body::{self, Query, SecretText, parsed};
use crate::http::Http;
use crate::problem::Problem;
use crate::reader::Reader;
use crate::routes::admin::users::password;

/// What the form sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RegisterForm {
    username: String,
    password: SecretText,
    /// Empty where somebody leaves it out.
    email: Option<String>,
}

fn page(pages: &Pages<'_>, rules: &AccountRules, username: &str, email: &str) -> Page {
    let words = pages.words;
    let mut fields = vec![Field::username(words, username)];
    match rules.email {
        EmailRule::NotAsked => {}
        EmailRule::Optional => {
            let field = Field::email(words, email);
            fields.push(Field { label: words.email_optional, is_required: false, ..field });
        }
        EmailRule::Required => fields.push(Field::email(words, email)),
    }
    fields.push(Field::new_password("password", words.password, words, rules.passwords.least_chars()));
    Page { form: Some(Form { fields, submit: words.register_submit }), ..pages.page(words.register) }
}

pub(crate) async fn show(
    State(http): State<Http>,
    reader: Reader,
    Query(_): Query<NextQuery>,
) -> Result<Response, Problem> {
    let pages = Pages::new(&http, &reader);
    let rules = http.authority().settings().accounts;
    if rules.registration == Registering::Nobody {
        return Err(Refusal::RegistrationClosed.into());
    }
    Ok(rendered(&page(&pages, &rules, "", ""), None)?.into_response(axum::http::StatusCode::OK))
}

pub(crate) async fn register(
    State(http): State<Http>,
    arrival: Arrival,
    reader: Reader,
    Query(NextQuery { next }): Query<NextQuery>,
    body::Form(form): body::Form<RegisterForm>,
) -> Result<Response, Problem> {
    let pages = Pages::new(&http, &reader);
    let rules = http.authority().settings().accounts;
    let RegisterForm { username, password, email } = form;
    let email = email.filter(|text| !text.is_empty());
    let filled_in = page(&pages, &rules, &username, email.as_deref().unwrap_or_default());
    let registered = match ask(&http, &arrival, &reader, &username, password, email.as_deref(), next).await {
        Ok(registered) => registered,
        // There is no form to show again.
        Err(problem) if problem.kind() == crate::problem::ProblemKind::RegistrationClosed => return Err(problem),
        Err(problem) => return Err(pages.again(filled_in, None, problem)),
    };
    let words = pages.words;
    match registered {
        Registered::Account(account) => {
            let mail = account.email.is_some().then(|| words.registered_mail.to_owned());
            pages.told(words.registered, [(words.registered_as)(account.username.as_str())].into_iter().chain(mail))
        }
        Registered::ProofAsked => {
            pages.told(words.look_at_mail, [(words.proof_asked)(email.as_deref().unwrap_or_default())])
        }
    }
}

async fn ask(
    http: &Http,
    arrival: &Arrival,
    Reader(languages): &Reader,
    username: &str,
    text: SecretText,
    email: Option<&str>,
    next: Option<String>,
) -> Result<Registered, Problem> {
    let new = NewRegistration {
        username: parsed("username", username)?,
        password: password("password", text)?,
        email: email.map(|text| parsed("email", text)).transpose()?,
        first_name: String::new(),
        last_name: String::new(),
        locale: None,
        languages: languages.clone(),
        next,
    };
    Ok(http.authority().register(new, &arrival.source, arrival.now).await?)
}
