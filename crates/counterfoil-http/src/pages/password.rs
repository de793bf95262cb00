//! Where somebody asks for a new password, and chooses it.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use counterfoil_core::Email;
use counterfoil_core::authority::Linked;
use counterfoil_core::link::Purpose;
use serde::Deserialize;

use super::email::EmailForm;
use super::{Field, Form, NextQuery, Offer, Page, Pages, onward, rendered};
use crate::arrival::Arrival;
use crate::body::{self, Query, SecretText, parsed};
use crate::http::Http;
use crate::problem::Problem;
use crate::reader::Reader;
use crate::routes::admin::users::password;

fn asking(pages: &Pages<'_>, email: &str) -> Page {
    let words = pages.words;
    let form = Form { fields: vec![Field::email(words, email)], submit: words.send };
    Page { paragraphs: vec![words.forgot_ask.to_owned()], form: Some(form), ..pages.page(words.forgot) }
}

pub(crate) async fn show_forgot(
    State(http): State<Http>,
    reader: Reader,
    Query(_): Query<NextQuery>,
) -> Result<Response, Problem> {
    Ok(rendered(&asking(&Pages::new(&http, &reader), ""), None)?.into_response(StatusCode::OK))
}

pub(crate) async fn forgot(
    State(http): State<Http>,
    arrival: Arrival,
    reader: Reader,
    Query(NextQuery { next }): Query<NextQuery>,
    body::Form(EmailForm { email: text }): body::Form<EmailForm>,
) -> Result<Response, Problem> {
    let pages = Pages::new(&http, &reader);
    let Arrival { source, now, .. } = &arrival;
    let asked = async {
        let (email, Reader(languages)): (Email, _) = (parsed("email", &text)?, &reader);
        let asked = http.authority().ask_reset(&email, languages.clone(), next.as_deref(), source, *now).await;
        asked.map_err(Problem::from)
    };
    asked.await.map_err(|problem| pages.again(asking(&pages, &text), None, problem))?;
    pages.told(pages.words.look_at_mail, [(pages.words.forgot_sent)(&text)])
}

/// What the form of [`reset`] sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResetForm {
    new_password: SecretText,
}

fn choosing(pages: &Pages<'_>, linked: &Linked) -> Page {
    let words = pages.words;
    let least = pages.http.authority().settings().accounts.passwords.least_chars();
    let field = Field::new_password("new_password", words.new_password, words, least);
    let form = Form { fields: vec![field], submit: words.reset_submit };
    let asked = (words.reset_ask)(linked.username.as_str());
    Page { paragraphs: vec![asked], form: Some(form), ..pages.page(words.reset) }
}

fn another(pages: &Pages<'_>) -> Option<Offer> {
    pages.another("/password/forgot", "../../password/forgot")
}

pub(crate) async fn show(
    State(http): State<Http>,
    arrival: Arrival,
    reader: Reader,
    Path(secret): Path<String>,
) -> Result<Response, Problem> {
    let pages = Pages::new(&http, &reader);
    let linked = http.authority().linked(&secret, &[Purpose::Reset], arrival.now).await;
    let linked = linked.map_err(|error| pages.dead(error.into(), another(&pages)))?;
    Ok(rendered(&choosing(&pages, &linked), linked.next.as_deref())?.into_response(StatusCode::OK))
}

pub(crate) async fn reset(
    State(http): State<Http>,
    arrival: Arrival,
    reader: Reader,
    Path(secret): Path<String>,
    body::Form(form): body::Form<ResetForm>,
) -> Result<Response, Problem> {
    let pages = Pages::new(&http, &reader);
    let Arrival { source, now, .. } = &arrival;
    let linked = http.authority().linked(&secret, &[Purpose::Reset], *now).await;
    let linked = linked.map_err(|error| pages.dead(error.into(), another(&pages)))?;
    let done = match password("new_password", form.new_password) {
        Ok(new) => http.authority().reset_password(&secret, new, source, *now).await.map_err(Problem::from),
        Err(refusal) => Err(refusal.into()),
    };
    let next = done.map_err(|problem| {
        let again = pages.again(choosing(&pages, &linked), linked.next.as_deref(), problem);
        if again.has_page() { again } else { pages.dead(again, another(&pages)) }
    })?;
    let words = pages.words;
    onward(next.as_deref(), || pages.told(words.reset_done, [words.reset_log_in.to_owned()]))
}
