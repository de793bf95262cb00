//! Pages for people, beside the routes: register, prove an address, take a change of it back, ask for a new password, choose one.
//!
//! No script. What changes something is a form that POSTs to where it is, so that a program which follows the links in a mail
//! changes nothing, and so that it works under whatever path a host nests it. What they do is what the routes do; they say it
//! in the reader's language.

pub(crate) mod email;
pub(crate) mod password;
pub(crate) mod register;
mod words;

use std::sync::LazyLock;

use askama::Template;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::http::Http;
use crate::origin::Origin;
use crate::problem::{Problem, ProblemKind};
use crate::reader::Reader;
use words::Words;

const STYLE: &str = include_str!("pages/page.css");

/// A page as a browser gets it.
#[derive(Debug, Clone)]
pub(crate) struct Rendered {
    html: String,
    policy: HeaderValue,
}

impl Rendered {
    pub(crate) fn into_response(self, status: StatusCode) -> Response {
        (status, [(header::CONTENT_SECURITY_POLICY, self.policy)], Html(self.html)).into_response()
    }
}

/// What is on a page.
#[derive(Template)]
#[template(path = "page.html")]
struct Page {
    lang: &'static str,
    style: &'static str,
    site: String,
    title: &'static str,
    /// What went wrong, where it is about no field.
    alert: Option<String>,
    paragraphs: Vec<String>,
    form: Option<Form>,
    offer: Option<Offer>,
}

/// Something to fill in.
struct Form {
    fields: Vec<Field>,
    submit: &'static str,
}

struct Field {
    name: &'static str,
    label: &'static str,
    kind: &'static str,
    /// As browsers and password managers know it (HTML, autofill detail tokens).
    autocomplete: &'static str,
    value: String,
    is_required: bool,
    hint: Option<String>,
    error: Option<String>,
}

impl Field {
    fn username(words: &Words, value: &str) -> Field {
        Field { value: value.to_owned(), ..Field::of("username", words.username, "text", "username") }
    }

    fn email(words: &Words, value: &str) -> Field {
        Field { value: value.to_owned(), ..Field::of("email", words.email, "email", "email") }
    }

    /// The one that opens the account. Never filled in by us.
    fn password(words: &Words) -> Field {
        Field::of("password", words.password, "password", "current-password")
    }

    /// One to be chosen. Once: whoever mistypes it asks for another link, and managers fill in one field.
    fn new_password(name: &'static str, label: &'static str, words: &Words, least: usize) -> Field {
        let hint = Some((words.password_hint)(least));
        Field { hint, ..Field::of(name, label, "password", "new-password") }
    }

    fn of(name: &'static str, label: &'static str, kind: &'static str, autocomplete: &'static str) -> Field {
        Field { name, label, kind, autocomplete, value: String::new(), is_required: true, hint: None, error: None }
    }

    /// The ids of what is said about it.
    fn described_by(&self) -> String {
        let said = [(&self.error, "error"), (&self.hint, "hint")];
        let ids = said.iter().filter(|(text, _)| text.is_some()).map(|(_, what)| format!("{}-{what}", self.name));
        ids.collect::<Vec<_>>().join(" ")
    }
}

/// Somewhere else to go.
struct Offer {
    /// Relative, from a page two levels down.
    href: &'static str,
    words: &'static str,
}

/// What a page may go on to, said with a link to it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NextQuery {
    next: Option<String>,
}

/// Pages in the language of one reader.
pub(crate) struct Pages<'h> {
    http: &'h Http,
    words: &'static Words,
}

impl<'h> Pages<'h> {
    fn new(http: &'h Http, Reader(languages): &Reader) -> Pages<'h> {
        Pages { http, words: Words::for_reader(languages) }
    }

    fn page(&self, title: &'static str) -> Page {
        let site = self.http.authority().settings().accounts.site;
        let (lang, paragraphs) = (self.words.lang, Vec::new());
        Page { lang, style: STYLE, site, title, alert: None, paragraphs, form: None, offer: None }
    }

    /// A page that only tells something.
    fn told(&self, title: &'static str, paragraphs: impl IntoIterator<Item = String>) -> Result<Response, Problem> {
        let page = Page { paragraphs: paragraphs.into_iter().collect(), ..self.page(title) };
        Ok(rendered(&page, None)?.into_response(StatusCode::OK))
    }

    /// The answer to what did not go well: `page`, with what is wrong said where it belongs, under the status of `problem`.
    fn again(&self, mut page: Page, next: Option<&str>, problem: Problem) -> Problem {
        if problem.kind() == ProblemKind::LinkDead {
            return problem; // there is nothing to fill in any more
        }
        let (field, said) = self.said_of(&problem);
        let fields = page.form.as_mut().map_or(&mut [][..], |form| &mut form.fields[..]);
        match fields.iter_mut().find(|shown| Some(shown.name) == field) {
            Some(shown) => shown.error = Some(said),
            None => page.alert = Some(said),
        }
        match rendered(&page, next) {
            Ok(page) => problem.shown(page),
            Err(fault) => fault,
        }
    }

    /// What is wrong, and about which field of a form that is.
    fn said_of(&self, problem: &Problem) -> (Option<&'static str>, String) {
        let words = self.words;
        let new = |name| (Some(name), self.unfit(problem));
        match (problem.kind(), problem.field()) {
            (ProblemKind::NameTaken, _) => (Some("username"), words.username_taken.to_owned()),
            (ProblemKind::WrongPassword, _) => (Some("password"), words.password_wrong.to_owned()),
            (ProblemKind::InvalidValue, Some("username")) => (Some("username"), words.username_wrong.to_owned()),
            (ProblemKind::InvalidValue, Some("email")) => (Some("email"), words.email_wrong.to_owned()),
            (ProblemKind::InvalidValue, Some("password")) => new("password"),
            (ProblemKind::InvalidValue, Some("new_password")) => new("new_password"),
            (_, _) => (None, self.alert(problem.kind()).1.to_owned()),
        }
    }

    /// Why that cannot be the new password.
    fn unfit(&self, problem: &Problem) -> String {
        problem.weak().map_or_else(|| self.words.password_unfit.to_owned(), self.words.password_weak)
    }

    /// A headline, and a sentence.
    fn alert(&self, kind: ProblemKind) -> (&'static str, &'static str) {
        let words = self.words;
        let known = [
            (ProblemKind::LinkDead, words.link_dead, words.link_dead_why),
            (ProblemKind::RegistrationClosed, words.closed, words.closed_why),
            (ProblemKind::NoMail, words.failed, words.no_mail),
            (ProblemKind::EmailTaken, words.failed, words.email_taken),
            (ProblemKind::NameTaken, words.failed, words.username_taken),
            (ProblemKind::QuotaExceeded, words.too_many, words.too_many_why),
            (ProblemKind::TooManyAttempts, words.too_many, words.too_many_why),
        ];
        match known.into_iter().find(|(known, ..)| *known == kind) {
            Some((_, title, why)) => (title, why),
            None if kind.status().is_server_error() => (words.away, words.away_why),
            None => (words.failed, words.failed),
        }
    }

    /// A page for a problem that has none.
    fn of_problem(&self, problem: Problem, offer: Option<Offer>) -> Problem {
        let (title, why) = self.alert(problem.kind());
        let paragraphs = if why == title { Vec::new() } else { vec![why.to_owned()] };
        match rendered(&Page { paragraphs, offer, ..self.page(title) }, None) {
            Ok(page) => problem.shown(page),
            Err(fault) => fault,
        }
    }

    /// Where a dead link's reader gets another, if that page is there.
    fn another(&self, page: &'static str, href: &'static str) -> Option<Offer> {
        let there = self.http.description().selection().has(&Method::GET, page);
        there.then_some(Offer { href, words: self.words.another_link })
    }

    /// The same as a problem, with an offer where the link is dead.
    fn dead(&self, problem: Problem, offer: Option<Offer>) -> Problem {
        let offer = offer.filter(|_| problem.kind() == ProblemKind::LinkDead);
        self.of_problem(problem, offer)
    }
}

/// 303 to `next`, where there is one; else `page`.
fn onward(next: Option<&str>, page: impl FnOnce() -> Result<Response, Problem>) -> Result<Response, Problem> {
    match next.and_then(|next| HeaderValue::from_str(next).ok()) {
        Some(next) => Ok((StatusCode::SEE_OTHER, [(header::LOCATION, next)]).into_response()),
        None => page(),
    }
}

/// The page, and a policy that lets a browser apply its one style, send its form back to us and do nothing else. What the answer
/// to the form may redirect to has to be named as well: Chrome holds `form-action` to redirects.
fn rendered(page: &Page, next: Option<&str>) -> Result<Rendered, Problem> {
    static STYLE_HASH: LazyLock<String> = LazyLock::new(|| STANDARD.encode(Sha256::digest(STYLE)));
    let html = page.render().map_err(|_| Problem::new(ProblemKind::Internal, "A page could not be written."))?;
    let next = next.and_then(origin_of).map(|origin| format!(" {origin}")).unwrap_or_default();
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; form-action 'self'{next}; object-src 'none'; base-uri 'none'; \
         frame-ancestors 'none'",
        *STYLE_HASH
    );
    let policy = HeaderValue::from_str(&policy)
        .map_err(|_| Problem::new(ProblemKind::Internal, "The policy of a page could not be written."))?;
    Ok(Rendered { html, policy })
}

/// The origin of a page, if that is what `url` is of.
fn origin_of(url: &str) -> Option<Origin> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next()?;
    format!("{scheme}://{host}").parse().ok()
}

/// The layer around a page: a problem that no page of its own was written for is told to people as well.
pub(crate) async fn for_people(State(http): State<Http>, request: Request, next: Next) -> Response {
    let reader = Reader::of(request.headers());
    let mut response = next.run(request).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let problem = match problem.has_page() {
            true => problem,
            false => Pages::new(&http, &reader).of_problem(problem, None),
        };
        response.extensions_mut().insert(problem);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a65_only_an_origin_gets_into_the_policy_of_a_page() {
        let of = |url: &str| origin_of(url).map(|origin| origin.to_string());
        assert_eq!(of("https://app.example.org/welcome?x=1"), Some("https://app.example.org".to_owned()));
        assert_eq!(of("http://localhost:3000"), Some("http://localhost:3000".to_owned()));
        for none in ["/welcome", "https://a.example; script-src *", "javascript:x", "https://*/", "http://a.example/"] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
