//! django-drf-advanced-token 2.1: one token per user, which can be asked of, replaced and ended, and a middleware that wants it
//! wherever there is an `Authorization`.

use std::borrow::Cow;
use std::sync::Arc;

use axum::http::{Method, StatusCode};
use counterfoil_core::authority::{ClientOrder, FurtherLogin, LoginTerms, Others};
use counterfoil_core::shape::TokenShape;
use counterfoil_core::{ClientName, Issued, Policy, Refusal, Reissue};

use super::authtoken::token_alone;
use super::drf::answer::Answer;
use super::drf::authorization::{Authentication, TokenScheme, TokenWords};
use super::drf::json::Value;
use super::drf::parse::Input;
use super::drf::view::View;
use super::settings::{NotASetting, Settings};
use super::{Act, Ask, Asked, DialectRoute, Package, Path, on_these, shown};

pub(super) fn package(settings: &mut Settings<'_>) -> Result<Package, NotASetting> {
    let client = settings.client("advanced")?;
    let shape = settings.shape_or_native(|| Ok(TokenShape::Uuid))?;
    let reissues = [("same", Reissue::Same), ("new", Reissue::New), ("replace", Reissue::Replace)];
    let reissue = settings.one_of("reissue", &reissues)?.unwrap_or(Reissue::Same);
    let scheme = TokenScheme { or_keyword: bearer_prefix(settings)?, ..TokenScheme::of("Token") };
    let may_replace = !settings.flag("PREVENT_TOKEN_API_CHANGE")?.unwrap_or(false);
    let may_log_out = !settings.flag("PREVENT_TOKEN_LOGOUT")?.unwrap_or(false);
    let host_view = View {
        renderers: settings.default_renderers()?,
        parsers: settings.default_parsers()?,
        authentication: Authentication::Token(scheme.clone()),
        varies_by_cookie: true,
        ..View::named("", &[])
    };
    let login = View {
        name: "Get Token".into(),
        methods: vec![Method::POST],
        // Its view says whom it lets in where it is too late for the framework to hear of it.
        authentication: match settings.authenticates_by_token()? {
            true => Authentication::Token(scheme.clone()),
            false => Authentication::Session,
        },
        permission: settings.default_permission()?,
        ..host_view.clone()
    };
    let token = View { name: "Token Auth".into(), methods: vec![Method::GET, Method::PUT], ..host_view.clone() };
    let logout = View { name: "Logout".into(), methods: vec![Method::GET], ..host_view.clone() };
    if may_log_out {
        settings.warn(
            "GET /logout/ ends the token of whoever follows it: whatever fetches pages ahead with the token logs out",
        );
    }
    // Its tokens have no end.
    let policy = settings.limits(Policy { ttl: None, reissue, ..Policy::default() })?;
    let order = ClientOrder { policy, ..ClientOrder::named(client.clone()) };
    let log_in = Arc::new(GetToken { client: client.clone(), shape: shape.clone() });
    let replace = Arc::new(TokenAuth { client, shape, scheme: scheme.clone(), may_replace });
    Ok(Package {
        routes: vec![
            DialectRoute { path: Path::Exact("/login/"), view: login, act: log_in },
            DialectRoute { path: Path::Exact("/token/"), view: token, act: replace },
            DialectRoute { path: Path::Exact("/logout/"), view: logout, act: Arc::new(Logout { may_log_out }) },
        ],
        host_view,
        client: Some(order),
    })
}

/// `BEARER_PREFIX`, which the package documents and does not read: beside the word that its clients therefore send.
fn bearer_prefix(settings: &mut Settings<'_>) -> Result<Option<Cow<'static, str>>, NotASetting> {
    const KEY: &str = "BEARER_PREFIX";
    let Some(value) = settings.take(KEY) else { return Ok(None) };
    // A token of RFC 9110 §5.6.2, which is all that a scheme can be.
    let is_word = |word: &&str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    let word = value.as_str().map(str::trim).filter(is_word);
    word.map(|word| Some(Cow::Owned(word.to_owned()))).ok_or_else(|| NotASetting::new(KEY, "is one word"))
}

/// The login, which has no words for anything.
#[derive(Debug)]
struct GetToken {
    client: ClientName,
    shape: TokenShape,
}

impl Act for GetToken {
    fn reads_body(&self, method: &Method) -> bool {
        method == Method::POST
    }

    fn ask(&self, request: &Asked) -> Result<Ask, Answer> {
        let data = request.data()?;
        let unreadable = || Answer::nothing(StatusCode::FORBIDDEN);
        let rejected = || Answer::nothing(StatusCode::UNAUTHORIZED);
        let (username, password) = match (data.field("username"), data.field("password")) {
            (Input::Missing, _) | (_, Input::Missing) => return Err(unreadable()),
            (Input::Null, _) | (_, Input::Null) => return Err(rejected()),
            (_, Input::Number(_) | Input::Other | Input::Text(_, Some(_))) | (Input::Text(_, Some(_)), _) => {
                return Err(unreadable());
            }
            // Nobody is called so.
            (Input::Other, Input::Text(..)) => return Err(rejected()),
            (Input::Number(number), Input::Text(password, None)) => (number, password),
            (Input::Text(username, None), Input::Text(password, None)) => (username.to_owned(), password),
        };
        let terms = LoginTerms { client: self.client.clone(), name: None, shape: self.shape.clone() };
        Ok(Ask::LogIn {
            username,
            password: password.to_owned().into(),
            client: self.client.clone(),
            terms: on_these(terms),
            answer: Box::new(token_alone),
        })
    }

    fn refused(&self, _: &Asked, refusal: &Refusal) -> Option<Answer> {
        (*refusal == Refusal::CredentialsRejected).then(|| Answer::nothing(StatusCode::UNAUTHORIZED))
    }

    fn mints(&self) -> Option<&TokenShape> {
        Some(&self.shape)
    }
}

/// Whether a token is good, and another in its place.
#[derive(Debug)]
struct TokenAuth {
    client: ClientName,
    shape: TokenShape,
    scheme: TokenScheme,
    may_replace: bool,
}

impl Act for TokenAuth {
    fn reads_body(&self, _: &Method) -> bool {
        false
    }

    fn ask(&self, request: &Asked) -> Result<Ask, Answer> {
        let Some(who) = request.who.clone().filter(|_| request.method == Method::PUT) else {
            return Err(Answer::nothing(StatusCode::OK));
        };
        if !self.may_replace {
            return Err(Answer::nothing(StatusCode::METHOD_NOT_ALLOWED));
        }
        let further =
            FurtherLogin { client: self.client.clone(), name: None, shape: self.shape.clone(), others: Others::End };
        let answer = |issued: &Issued| Answer::ok(Value::object([("token", shown(&issued.secret))]));
        Ok(Ask::Further { who, further, answer: Box::new(answer) })
    }

    fn refused(&self, _: &Asked, refusal: &Refusal) -> Option<Answer> {
        if *refusal == Refusal::RotationLocked {
            return Some(Answer::nothing(StatusCode::METHOD_NOT_ALLOWED));
        }
        // Replaced by somebody else this instant.
        let words = TokenWords::DEFAULT.of(refusal)?;
        Some(Authentication::Token(self.scheme.clone()).failed(words))
    }
}

/// The end of the one token, by GET as the package has it; a cookie is not looked at.
#[derive(Debug)]
struct Logout {
    may_log_out: bool,
}

impl Act for Logout {
    fn reads_body(&self, _: &Method) -> bool {
        false
    }

    fn ask(&self, request: &Asked) -> Result<Ask, Answer> {
        match &request.who {
            Some(_) if !self.may_log_out => Err(Answer::nothing(StatusCode::METHOD_NOT_ALLOWED)),
            Some(who) => {
                let logged_out = |_: &()| Answer::nothing(StatusCode::OK);
                Ok(Ask::LogOut { who: who.clone(), answer: Box::new(logged_out) })
            }
            None => Err(Answer::nothing(StatusCode::OK)),
        }
    }

    fn refused(&self, _: &Asked, _: &Refusal) -> Option<Answer> {
        None
    }
}
