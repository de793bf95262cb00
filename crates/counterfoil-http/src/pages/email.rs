//! Where somebody proves an address, has another link sent for that, or takes a change of it back.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use counterfoil_core::Email;
use counterfoil_core::authority::{Linked, Proof};
use counterfoil_core::link::Purpose;
use serde::Deserialize;

use super::{Field, Form, NextQuery, Offer, Page, Pages, onward, rendered};
use crate::arrival::Arrival;
use crate::body::{self, Query, SecretText, parsed};
use crate::http::Http;
use crate::problem::Problem;
use crate::reader::Reader;
use crate::routes::admin::users::password;

const PROVING: [Purpose; 3] = [Purpose::Register, Purpose::Confirm, Purpose::ChangeAddress];

/// What the form of [`confirm`] sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfirmForm {
    password: SecretText,
}

/// What one with a button alone sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NothingForm {}

/// What one for an address sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EmailForm {
    pub(super) email: String,
}

/// Which address it is of which account, and the password to be asked.
fn proving(pages: &Pages<'_>, linked: &Linked) -> Page {
    let words = pages.words;
    let ask = match linked.link.purpose {
        Purpose::ChangeAddress => words.change_ask,
        Purpose::Register | Purpose::Confirm | Purpose::UndoChange | Purpose::Reset => words.confirm_ask,
    };
    let asked = ask(linked.link.email.as_str(), linked.username.as_str());
    let form = Form { fields: vec![Field::password(words)], submit: words.confirm_submit };
    Page { paragraphs: vec![asked, words.not_you.to_owned()], form: Some(form), ..pages.page(words.confirm) }
}

fn another(pages: &Pages<'_>) -> Option<Offer> {
    pages.another("/email/resend", "../../email/resend")
}

pub(crate) async fn show(
    State(http): State<Http>,
    arrival: Arrival,
    reader: Reader,
    Path(secret): Path<String>,
) -> Result<Response, Problem> {
    let pages = Pages::new(&http, &reader);
    let linked = http.authority().linked(&secret, &PROVING, arrival.now).await;
    let linked = linked.map_err(|error| pages.dead(error.into(), another(&pages)))?;
    Ok(rendered(&proving(&pages, &linked), linked.next.as_deref())?.into_response(StatusCode::OK))
}

pub(crate) async fn confirm(
    State(http): State<Http>,
    arrival: Arrival,
    reader: Reader,
    Path(secret): Path<String>,
    body::Form(form): body::Form<ConfirmForm>,
) -> Result<Response, Problem> {
    let pages = Pages::new(&http, &reader);
    let Arrival { source, now, .. } = &arrival;
    let linked = http.authority().linked(&secret, &PROVING, *now).await;
    let linked = linked.map_err(|error| pages.dead(error.into(), another(&pages)))?;
    let confirmed = match password("password", form.password) {
        Ok(password) => {
            let proof = Proof::Password(password);
            http.authority().confirm_email(&secret, proof, source, *now).await.map_err(Problem::from)
        }
        Err(refusal) => Err(refusal.into()),
    };
    let confirmed = confirmed.map_err(|problem| {
        let again = pages.again(proving(&pages, &linked), linked.next.as_deref(), problem);
        if again.has_page() { again } else { pages.dead(again, another(&pages)) }
    })?;
    let words = pages.words;
    onward(confirmed.next.as_deref(), || {
        pages.told(words.confirmed, [(words.confirmed_as)(linked.link.email.as_str(), linked.username.as_str())])
    })
}

pub(crate) async fn show_undo(
    State(http): State<Http>,
    arrival: Arrival,
    reader: Reader,
    Path(secret): Path<String>,
) -> Result<Response, Problem> {
    let pages = Pages::new(&http, &reader);
    let words = pages.words;
    let linked = http.authority().linked(&secret, &[Purpose::UndoChange], arrival.now).await;
    let linked = linked.map_err(|error| pages.dead(error.into(), None))?;
    let asked = (words.undo_ask)(linked.link.email.as_str(), linked.username.as_str());
    let form = Some(Form { fields: Vec::new(), submit: words.undo_submit });
    let page = Page { paragraphs: vec![asked], form, ..pages.page(words.undo) };
    Ok(rendered(&page, None)?.into_response(StatusCode::OK))
}

pub(crate) async fn undo(
    State(http): State<Http>,
    arrival: Arrival,
    reader: Reader,
    Path(secret): Path<String>,
    body::Form(NothingForm {}): body::Form<NothingForm>,
) -> Result<Response, Problem> {
    let pages = Pages::new(&http, &reader);
    let words = pages.words;
    let Arrival { source, now, .. } = &arrival;
    let linked = http.authority().linked(&secret, &[Purpose::UndoChange], *now).await;
    let linked = linked.map_err(|error| pages.dead(error.into(), None))?;
    let undone = http.authority().undo_email_change(&secret, source, *now).await;
    undone.map_err(|error| pages.dead(error.into(), None))?;
    pages.told(words.undone, [(words.undone_mail)(linked.link.email.as_str())])
}

fn asking(pages: &Pages<'_>, email: &str) -> Page {
    let words = pages.words;
    let form = Form { fields: vec![Field::email(words, email)], submit: words.send };
    Page { paragraphs: vec![words.resend_ask.to_owned()], form: Some(form), ..pages.page(words.resend) }
}

pub(crate) async fn show_resend(
    State(http): State<Http>,
    reader: Reader,
    Query(_): Query<NextQuery>,
) -> Result<Response, Problem> {
    Ok(rendered(&asking(&Pages::new(&http, &reader), ""), None)?.into_response(StatusCode::OK))
}

pub(crate) async fn resend(
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
        let next = next.as_deref();
        let asked = http.authority().ask_confirmation_by_address(&email, languages.clone(), next, source, *now).await;
        asked.map_err(Problem::from)
    };
    asked.await.map_err(|problem| pages.again(asking(&pages, &text), None, problem))?;
    pages.told(pages.words.look_at_mail, [(pages.words.resent)(&text)])
}
