//! Pages for people, as a browser without scripts uses them.

use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, header};
use counterfoil_core::account_rules::{EmailRule, Registering, Unconfirmed};
use counterfoil_core::link::Purpose;
use counterfoil_core::redirect::Redirects;
use counterfoil_http::{Group, HttpSettings, ROUTES, Selection};

use crate::post::NEW_PASSWORD;
use crate::world::{Actor, Answer, PASSWORD, TestServer, concrete};

const ADDRESS: &str = "ada@example.org";
/// Well formed, and never mailed.
const LINK: &str = "cfl_0000000000000000000000000000000000000000000D1xGFI";

/// A browser of somebody who reads that language.
fn browser(server: &TestServer, language: &str) -> Actor {
    server.anonymous().with(header::ACCEPT_LANGUAGE, language)
}

fn encoded(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

impl Answer {
    /// Asserts a page of this status and with this headline.
    #[track_caller]
    fn is_page(&self, status: u16, headline: &str) {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), "text/html; charset=utf-8");
        let policy = self.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        assert!(policy.ends_with("; form-action 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"));
        for (name, value) in [
            ("cache-control", "no-store"),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
            ("cross-origin-opener-policy", "same-origin"),
        ] {
            assert_eq!(self.header(name), value);
        }
        let page = self.text();
        let mut tags = page.split('<').filter_map(|rest| rest.split_once('>')).map(|(tag, _)| tag);
        assert!(page.contains(&format!("<h1>{headline}</h1>")), "{page}");
        assert!(!page.contains("<script") && !tags.any(|tag| tag.contains("style=")), "{page}");
    }

    /// Asserts that a field is shown again with this beside it, tied to it for whoever hears the page.
    #[track_caller]
    fn says_of(&self, field: &str, words: &str) {
        let page = self.text();
        let message = format!("<p class=\"error\" id=\"{field}-error\">{words}</p>");
        assert!(page.contains(&message), "{page}");
        let input = page.split(&format!("<input id=\"{field}\"")).nth(1).unwrap().split('>').next().unwrap();
        assert!(
            input.contains(&format!("aria-describedby=\"{field}-error")) && input.contains("aria-invalid"),
            "{input}"
        );
    }
}

#[tokio::test]
async fn somebody_registers_and_confirms_on_pages_in_their_language() {
    let server = TestServer::with(HttpSettings::default(), Router::new()).await;
    server.rule(|rules| (rules.email, rules.unconfirmed) = (EmailRule::Required, Unconfirmed::Waits)).await;
    let german = browser(&server, "de");
    let page = german.get("/register").await;
    page.is_page(200, "Konto anlegen");
    for part in ["<html lang=\"de\">", "autocomplete=\"username\"", "autocomplete=\"email\"", "\"new-password\""] {
        assert!(page.text().contains(part), "{part}");
    }
    browser(&server, "fr").get("/register").await.is_page(200, "Create an account");

    let fill_in = async |username: &str, email: &str, password: &str| {
        german.form("/register", &encoded(&[("username", username), ("email", email), ("password", password)])).await
    };
    let short = fill_in("ada", ADDRESS, "short").await;
    short.is_page(400, "Konto anlegen");
    short.says_of("password", "Ein Passwort hat mindestens 15 Zeichen.");
    assert!(short.text().contains("value=\"ada\"") && short.text().contains(&format!("value=\"{ADDRESS}\"")));
    fill_in("ada", ADDRESS, "passwort passwort")
        .await
        .says_of("password", "Dieses Passwort, oder fast dieses, haben zu viele Menschen.");
    fill_in("ada", "not an address", NEW_PASSWORD).await.says_of("email", "Das ist keine E-Mail-Adresse.");
    fill_in("ada", "", NEW_PASSWORD).await.says_of("email", "Das ist keine E-Mail-Adresse.");
    fill_in("", ADDRESS, NEW_PASSWORD).await.says_of("username", "Das kann hier kein Benutzername sein.");
    let asked = fill_in("ada", ADDRESS, NEW_PASSWORD).await;
    asked.is_page(200, "Bitte sehen Sie in Ihre E-Mails");

    let mail = server.mail("confirm_registration").await;
    assert_eq!(mail.languages, "de");
    let path = format!("/email/confirm/{}", mail.secret());
    let page = german.get(&path).await;
    page.is_page(200, "E-Mail-Adresse bestätigen");
    assert!(page.text().contains(ADDRESS) && page.text().contains("ada"), "which address, for which account");
    assert!(page.text().contains("autocomplete=\"current-password\""));
    let wrong = german.form(&path, &encoded(&[("password", PASSWORD)])).await;
    wrong.is_page(403, "E-Mail-Adresse bestätigen");
    wrong.says_of("password", "Das ist nicht das Passwort.");
    let confirmed = german.form(&path, &encoded(&[("password", NEW_PASSWORD)])).await;
    confirmed.is_page(200, "Ihre Adresse ist bestätigt");
    assert!(server.authority.user("ada").await.unwrap().email_confirmed_at.is_some());

    // Once more: the page of a dead link offers another.
    let dead = german.get(&path).await;
    dead.is_page(400, "Dieser Link funktioniert nicht mehr");
    assert!(dead.text().contains("<a href=\"../../email/resend\">Einen neuen Link schicken lassen</a>"));
    german.get("/email/resend").await.is_page(200, "E-Mail-Adresse bestätigen");
    let taken = fill_in("ADA", "other@example.org", NEW_PASSWORD).await;
    taken.is_page(409, "Konto anlegen");
    taken.says_of("username", "Diesen Benutzernamen hat schon jemand.");
}

#[tokio::test]
async fn somebody_forgets_a_password_and_chooses_another_on_pages() {
    let (server, _) = TestServer::with_addressed_ada().await;
    let before = server.ada().await;
    let reader = browser(&server, "en");
    reader.get("/password/forgot").await.is_page(200, "Forgot your password?");
    let wrong = reader.form("/password/forgot", "email=nobody").await;
    wrong.is_page(400, "Forgot your password?");
    wrong.says_of("email", "This is not an e-mail address.");
    let known = reader.form("/password/forgot", &encoded(&[("email", ADDRESS)])).await;
    let unknown = reader.form("/password/forgot", &encoded(&[("email", "bob@example.org")])).await;
    known.is_page(200, "Look at your mail");
    assert_eq!(known.text().replace(ADDRESS, "-"), unknown.text().replace("bob@example.org", "-"));

    let path = format!("/password/reset/{}", server.mail("reset_password").await.secret());
    let page = reader.get(&path).await;
    page.is_page(200, "Choose a new password");
    assert_eq!(page.text().matches("<input").count(), 1);
    assert!(page.text().contains("autocomplete=\"new-password\"") && page.text().contains("ada"));
    let weak = reader.form(&path, &encoded(&[("new_password", "ada ada ada ada ada")])).await;
    weak.is_page(400, "Choose a new password");
    weak.says_of("new_password", "This is too close to your name, your address or the name of this site.");
    let done = reader.form(&path, &encoded(&[("new_password", NEW_PASSWORD)])).await;
    done.is_page(200, "Your password is changed");
    assert_eq!(done.header("set-cookie"), "");
    assert_eq!(before.get("/v1/me").await.status, 401);
    let dead = reader.form(&path, &encoded(&[("new_password", NEW_PASSWORD)])).await;
    dead.is_page(400, "This link does not work any more");
    assert!(dead.text().contains("<a href=\"../../password/forgot\">Have another link sent</a>"));
}

#[tokio::test]
async fn a71_whoever_follows_a_link_without_sending_its_form_changes_nothing() {
    let (server, account) = TestServer::with_addressed_ada().await;
    let bob = server.user("bob", PASSWORD).await;
    let confirm = format!("/email/confirm/{}", server.mailed_link(&bob, Purpose::Confirm).await);
    let reset = format!("/password/reset/{}", server.mailed_link(&account, Purpose::Reset).await);
    let eve = server.user("eve", PASSWORD).await;
    let undo = format!("/email/undo/{}", server.mailed_link(&eve, Purpose::UndoChange).await);
    let state = async || {
        let mut state = Vec::new();
        for subject in [&account.subject, &bob.subject, &eve.subject] {
            state.push(format!("{:?}", server.authority.account(subject).await.unwrap()));
        }
        (state, server.authority.mails_waiting(10).await.unwrap().1)
    };
    let before = state().await;
    // As programs do that read mail for safety: GET and HEAD, again and again, with what they like in the query.
    let scanner = server.anonymous().with(header::USER_AGENT, "MailScanner/1.0");
    for path in [&confirm, &reset, &undo] {
        for _ in 0..3 {
            for suffix in ["", "?password=correct+horse+battery+staple&confirm=1"] {
                assert_eq!(scanner.get(&format!("{path}{suffix}")).await.status, 200);
                let head = scanner.send(Method::HEAD, &format!("{path}{suffix}"), Body::empty()).await;
                assert_eq!((head.status, head.text()), (200, ""));
            }
        }
        for method in [Method::OPTIONS, Method::PUT, Method::DELETE] {
            assert_eq!(scanner.send(method, path, Body::empty()).await.status, 405);
        }
    }
    assert_eq!(state().await, before);
    // And each of them still works.
    let reader = browser(&server, "en");
    reader.form(&confirm, &encoded(&[("password", PASSWORD)])).await.is_page(200, "Your address is confirmed");
    reader.form(&reset, &encoded(&[("new_password", NEW_PASSWORD)])).await.is_page(200, "Your password is changed");
    let asked = reader.get(&undo).await;
    asked.is_page(200, "Take back the change of address");
    assert!(asked.text().contains("eve@example.org"));
    reader.form(&undo, "").await.is_page(200, "The change was taken back");
    assert_eq!(server.authority.account(&eve.subject).await.unwrap().email.unwrap().as_str(), "eve@example.org");
}

#[tokio::test]
async fn a79_hostile_names_and_input_are_text_on_a_page() {
    let server = TestServer::with_ada().await;
    let reader = browser(&server, "en");
    for hostile in
        ["\"><svg onload=alert(1)>", "<script>alert(1)</script>", "'\"></title><b>", "{{7*7}}", "\u{202e}evil"]
    {
        let fields = [("username", hostile), ("email", hostile), ("password", hostile)];
        let page = reader.form("/register", &encoded(&fields)).await;
        assert!(page.status >= 400, "{}", page.text());
        assert!(!hostile.contains('<') || !page.text().contains(hostile), "{}", page.text());
        assert!(hostile != "{{7*7}}" || page.text().contains("value=\"{{7*7}}\""), "no template in a template");
        let page = reader.form("/password/forgot", &encoded(&[("email", hostile)])).await;
        page.is_page(400, "Forgot your password?");
        let target = format!("/email/confirm/{}", encoded(&[(hostile, "")]).replace('+', "%20"));
        let dead = reader.get(&target).await;
        dead.is_page(400, "This link does not work any more");
        assert!(!dead.text().contains("alert(1)"));
    }
    // What the operator calls the site is text as well.
    server.rule(|rules| rules.site = "<i>Ada & Co</i>".to_owned()).await;
    let page = reader.get("/password/forgot").await;
    assert!(!page.text().contains("<i>") && page.text().contains("Ada &"), "{}", page.text());
}

#[tokio::test]
async fn a73_the_page_of_a_closed_registration_says_so_and_its_form_is_refused() {
    let server = TestServer::with_ada().await;
    server.rule(|rules| rules.registration = Registering::Nobody).await;
    let reader = browser(&server, "en");
    reader.get("/register").await.is_page(403, "Registration is closed");
    let fields = [("username", "bob"), ("email", ""), ("password", NEW_PASSWORD)];
    reader.form("/register", &encoded(&fields)).await.is_page(403, "Registration is closed");
    assert!(server.authority.user("bob").await.is_err());
}

#[tokio::test]
async fn a_page_says_so_where_mail_or_the_store_is_away_or_somebody_asks_too_often() {
    let (server, account) = TestServer::with_addressed_ada().await;
    let reader = browser(&server, "en");
    let path = format!("/password/reset/{}", server.mailed_link(&account, Purpose::Reset).await);
    server.outages.store.store(true, Ordering::SeqCst);
    for answer in [reader.get(&path).await, reader.form(&path, &encoded(&[("new_password", NEW_PASSWORD)])).await] {
        answer.is_page(503, "That does not work right now");
        assert_eq!(answer.header("retry-after"), "5");
    }
    let asked = reader.form("/password/forgot", &encoded(&[("email", ADDRESS)])).await;
    asked.is_page(503, "Forgot your password?");
    assert!(asked.text().contains("role=\"alert\""));
    server.outages.store.store(false, Ordering::SeqCst);
    reader.get(&path).await.is_page(200, "Choose a new password");
    for _ in 0..5 {
        reader.form("/password/forgot", &encoded(&[("email", ADDRESS)])).await;
    }
    let often = reader.form("/password/forgot", &encoded(&[("email", ADDRESS)])).await;
    often.is_page(429, "Forgot your password?");
    assert!(!often.header("retry-after").is_empty());
    server.rule(|rules| rules.links = Default::default()).await;
    reader.form("/password/forgot", &encoded(&[("email", ADDRESS)])).await.is_page(403, "Forgot your password?");
}

#[tokio::test]
async fn r24_every_page_has_its_headers_its_language_and_labels_for_its_fields() {
    let server = TestServer::with_ada().await;
    for language in ["en", "de"] {
        let reader = browser(&server, language);
        for (n, route) in ROUTES.iter().filter(|route| route.is_page()).enumerate() {
            let account = server.user(&format!("{language}-{n}"), PASSWORD).await;
            let purpose = match route.path.split('/').nth(2) {
                Some("confirm") => Purpose::Confirm,
                Some("undo") => Purpose::UndoChange,
                _ => Purpose::Reset,
            };
            for link in [server.mailed_link(&account, purpose).await, LINK.to_owned()] {
                let path = concrete(route.path, &link);
                let media = "application/x-www-form-urlencoded";
                for body in ["", "email=x", "password=x", "new_password=x", "username=x&email=x&password=x"] {
                    server.wait(3_600_000); // or it would be too often
                    let page = reader.typed(route.method.clone(), &path, media, body).await;
                    let headline = page.text().split("<h1>").nth(1).unwrap().split('<').next().unwrap().to_owned();
                    page.is_page(page.status, &headline);
                    let text = page.text();
                    assert!(text.contains(&format!("<html lang=\"{language}\">")) && text.contains("<title>"));
                    assert_eq!(text.matches("<label for=").count(), text.matches("<input id=").count());
                    assert!(!text.contains(&link), "the secret is in the address alone");
                }
            }
        }
    }
}

#[tokio::test]
async fn pages_work_under_any_path_and_are_left_out_with_their_group() {
    let (server, account) = TestServer::with_addressed_ada().await;
    let nested = Router::new().nest("/sso/auth", server.http.routes(&Selection::none().with(Group::Pages)));
    let path = format!("/sso/auth/password/reset/{}", server.mailed_link(&account, Purpose::Reset).await);
    let reader = browser(&server, "en").facing(&nested);
    let page = reader.get(&path).await;
    page.is_page(200, "Choose a new password");
    assert!(page.text().contains("<form method=\"post\">"), "to where it is");
    assert!(!page.text().contains("href=\"/") && !page.text().contains("action="));
    reader.form(&path, &encoded(&[("new_password", NEW_PASSWORD)])).await.is_page(200, "Your password is changed");
    assert_eq!(reader.get("/sso/auth/v1/me").await.status, 404);

    // What is not there is offered nowhere.
    let alone = Selection::none().with_route(Method::GET, "/password/reset/{link}").unwrap();
    let alone = Router::new().merge(server.http.routes(&alone));
    let dead = browser(&server, "en").facing(&alone).get(&format!("/password/reset/{LINK}")).await;
    dead.is_page(400, "This link does not work any more");
    assert!(!dead.text().contains("<a "));
    let none = Router::new().merge(server.http.routes(&Selection::all().without(Group::Pages)));
    assert_eq!(browser(&server, "en").facing(&none).get("/register").await.status, 404);
}

#[tokio::test]
async fn a65_a_page_leads_on_to_a_listed_page_and_names_its_origin_alone_for_its_form() {
    let (server, _) = TestServer::with_addressed_ada().await;
    let listed = "https://app.example.org/welcome";
    server.rule(|rules| rules.redirects = Redirects::new([listed]).unwrap()).await;
    let reader = browser(&server, "en");
    let asked = encoded(&[("email", ADDRESS)]);
    let evil = encoded(&[("next", "https://evil.example/")]);
    let refused = reader.form(&format!("/password/forgot?{evil}"), &asked).await;
    refused.is_page(400, "Forgot your password?");
    assert!(server.post().await.is_empty());
    let next = encoded(&[("next", listed)]);
    reader.form(&format!("/password/forgot?{next}"), &asked).await.is_page(200, "Look at your mail");
    let path = format!("/password/reset/{}", server.mail("reset_password").await.secret());
    let page = reader.get(&path).await;
    let policy = page.header("content-security-policy");
    assert!(policy.contains("; form-action 'self' https://app.example.org; "), "{policy}");
    let done = reader.form(&path, &encoded(&[("new_password", NEW_PASSWORD)])).await;
    assert_eq!((done.status, done.header("location"), done.text()), (303, listed, ""));
    assert_eq!(done.header("referrer-policy"), "no-referrer");
}
