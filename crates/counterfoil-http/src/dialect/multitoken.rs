//! drf-multitokenauth 2.1: a token for each login, and a logout that ends the one it is asked with.

use std::sync::Arc;

use axum::http::{Method, StatusCode};
use counterfoil_core::account::Role;
use counterfoil_core::authority::{ClientOrder, LoginTerms};
use counterfoil_core::shape::{HexShape, TokenShape};
use counterfoil_core::{ClientName, Policy, Refusal, TokenName};

use super::authtoken::token_alone;
use super::drf::answer::Answer;
use super::drf::fields::{CharField, PASSWORD, Presence, USERNAME, credentials_rejected, validate};
use super::drf::json::Value;
use super::drf::view::{Parser, Permission, Renderer, View};
use super::settings::{NotASetting, Settings};
use super::{Act, Ask, Asked, DialectRoute, Package, Path};

/// The fields of its login. The name is cut where it is kept; here it may have any length.
const FIELDS: &[CharField] = &[
    USERNAME,
    PASSWORD,
    CharField {
        presence: Presence::Optional(Some("")),
        allows_blank: true,
        ..CharField::named("token_name", "Token name")
    },
];

pub(super) fn package(settings: &mut Settings<'_>) -> Result<Package, NotASetting> {
    let client = settings.client("multitoken")?;
    let shape = settings.shape(|| HexShape::new("", 64).map(TokenShape::Hex))?;
    let superusers_may = settings.flag("AUTH_ENABLE_SUPERUSER_LOGIN")?.unwrap_or(true);
    // One is the other with a cache, which here has no grace: what is logged out is refused at once.
    settings.default_authentication(&["MultiTokenAuthentication", "CachedMultiTokenAuthentication"])?;
    let permission = settings.default_permission()?;
    let host_view =
        View { renderers: settings.default_renderers()?, parsers: settings.default_parsers()?, ..View::named("", &[]) };
    let login = View {
        description: "Custom View for logging in and getting the auth token".into(),
        renderers: [Renderer::Json].as_slice().into(),
        parsers: Parser::FORMS_FIRST.into(),
        permission: Permission::Anyone,
        ..View::named("Login And Obtain Auth Token", &[Method::POST])
    };
    let logout = View {
        name: "Logout And Delete Auth Token".into(),
        description: "Custom API View for logging out".into(),
        methods: vec![Method::POST],
        permission,
        ..host_view.clone()
    };
    // Its tokens have no end.
    let policy = settings.limits(Policy { ttl: None, ..Policy::default() })?;
    let order = ClientOrder { policy, ..ClientOrder::named(client.clone()) };
    let act = Arc::new(Login { client, shape, superusers_may });
    Ok(Package {
        routes: vec![
            DialectRoute { path: Path::Prefix("/login"), view: login, act },
            DialectRoute { path: Path::Prefix("/logout"), view: logout, act: Arc::new(Logout) },
        ],
        host_view,
        client: Some(order),
    })
}

#[derive(Debug)]
struct Login {
    client: ClientName,
    shape: TokenShape,
    superusers_may: bool,
}

impl Act for Login {
    fn reads_body(&self, method: &Method) -> bool {
        method == Method::POST
    }

    fn ask(&self, request: &Asked) -> Result<Ask, Answer> {
        let mut fields = validate(FIELDS, &request.data()?)?;
        let name = fields.take("token_name").and_then(|name| TokenName::cut(&name));
        let terms = LoginTerms { client: self.client.clone(), name, shape: self.shape.clone() };
        let superusers_may = self.superusers_may;
        Ok(Ask::LogIn {
            username: fields.take("username").unwrap_or_default().to_string(),
            password: fields.take("password").unwrap_or_default(),
            client: self.client.clone(),
            // Said once the password has proved right, as the package says it.
            terms: Box::new(move |account| {
                if account.role >= Role::Admin && !superusers_may {
                    return Err(error(StatusCode::FORBIDDEN, "superusers can't log in"));
                }
                Ok(terms)
            }),
            answer: Box::new(token_alone),
        })
    }

    fn refused(&self, _: &Asked, refusal: &Refusal) -> Option<Answer> {
        credentials_rejected(refusal)
    }
}

#[derive(Debug)]
struct Logout;

impl Act for Logout {
    fn reads_body(&self, _: &Method) -> bool {
        false
    }

    fn ask(&self, request: &Asked) -> Result<Ask, Answer> {
        match &request.who {
            Some(who) => {
                let logged_out = || Answer::ok(Value::object([("status", Value::text("logged out"))]));
                Ok(Ask::LogOut { who: who.clone(), answer: Box::new(move |_| logged_out()) })
            }
            None => Err(error(StatusCode::UNAUTHORIZED, "not logged in")),
        }
    }

    fn refused(&self, _: &Asked, _: &Refusal) -> Option<Answer> {
        None
    }
}

fn error(status: StatusCode, words: &str) -> Answer {
    Answer::data(status, Value::object([("error", Value::text(words))]))
}
