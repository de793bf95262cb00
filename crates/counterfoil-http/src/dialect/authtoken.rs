//! `rest_framework.authtoken` of Django REST framework 3.18: one view, which gives the one token of a user.

use std::sync::Arc;

use axum::http::Method;
use counterfoil_core::authority::{ClientOrder, LoggedIn, LoginTerms};
use counterfoil_core::shape::{HexShape, TokenShape};
use counterfoil_core::{ClientName, Policy, Refusal, Reissue};

use super::drf::answer::Answer;
use super::drf::fields::{CharField, PASSWORD, Presence, USERNAME, credentials_rejected, validate};
use super::drf::json::Value;
use super::drf::view::{Parser, Permission, Renderer, View};
use super::settings::{NotASetting, Settings};
use super::{Act, Ask, Asked, DialectRoute, Package, Path, shown};

/// The fields of its login, as OPTIONS tells them.
const FIELDS: &[CharField] =
    &[USERNAME, PASSWORD, CharField { presence: Presence::ReadOnly, ..CharField::named("token", "Token") }];

pub(super) fn package(settings: &mut Settings<'_>) -> Result<Package, NotASetting> {
    let client = settings.client("authtoken")?;
    let shape = settings.shape(|| HexShape::new("", 40).map(TokenShape::Hex))?;
    let reissues = [("same", Reissue::Same), ("new", Reissue::New), ("replace", Reissue::Replace)];
    let reissue = settings.one_of("reissue", &reissues)?.unwrap_or(Reissue::Same);
    settings.default_authentication(&["TokenAuthentication"])?;
    settings.default_permission()?; // says nothing of its own view, which anybody may use
    let login = View {
        renderers: [Renderer::Json].as_slice().into(),
        parsers: Parser::FORMS_FIRST.into(),
        permission: Permission::Anyone,
        actions: FIELDS,
        ..View::named("Obtain Auth Token", &[Method::POST])
    };
    let host_view =
        View { renderers: settings.default_renderers()?, parsers: settings.default_parsers()?, ..View::named("", &[]) };
    // Its tokens have no end.
    let policy = settings.limits(Policy { ttl: None, reissue, ..Policy::default() })?;
    let act = Arc::new(ObtainAuthToken { client: client.clone(), shape });
    Ok(Package {
        routes: vec![DialectRoute { path: Path::Exact("/"), view: login, act }],
        host_view,
        client: Some(ClientOrder { policy, ..ClientOrder::named(client) }),
    })
}

/// The login.
#[derive(Debug)]
struct ObtainAuthToken {
    client: ClientName,
    shape: TokenShape,
}

impl Act for ObtainAuthToken {
    fn reads_body(&self, method: &Method) -> bool {
        method == Method::POST
    }

    fn ask(&self, request: &Asked) -> Result<Ask, Answer> {
        let mut fields = validate(FIELDS, &request.data()?)?;
        let terms = LoginTerms { client: self.client.clone(), name: None, shape: self.shape.clone() };
        Ok(Ask::LogIn {
            username: fields.take("username").unwrap_or_default().to_string(),
            password: fields.take("password").unwrap_or_default(),
            client: self.client.clone(),
            terms: Box::new(|_| Ok(terms)),
            answer: Box::new(token_alone),
        })
    }

    fn refused(&self, _: &Asked, refusal: &Refusal) -> Option<Answer> {
        credentials_rejected(refusal)
    }
}

/// `{"token": …}`
pub(super) fn token_alone(logged_in: &LoggedIn) -> Answer {
    Answer::ok(Value::object([("token", shown(&logged_in.issued.secret))]))
}
