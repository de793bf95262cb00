//! django-rest-knox 5.1: any number of tokens for each user, by a password or by another token.

use std::num::NonZeroU32;
use std::sync::Arc;

use axum::http::{HeaderValue, Method, StatusCode, header};
use counterfoil_core::authority::{ClientOrder, FurtherLogin, LoggedIn, LoginTerms, Others};
use counterfoil_core::client::Lifetime;
use counterfoil_core::shape::{HexShape, TokenShape};
use counterfoil_core::{Account, AtCap, Cap, ClientName, Identity, Issued, Policy, Refusal, Renewal};

use super::drf::answer::Answer;
use super::drf::authorization::{Authentication, Renewing, TokenScheme};
use super::drf::fields::{PASSWORD, USERNAME, credentials_rejected, validate};
use super::drf::json::Value;
use super::drf::moment::DateTimeFormat;
use super::drf::user::UserFields;
use super::drf::view::{Permission, View};
use super::serving::WRONG_PASSWORD;
use super::settings::{NotASetting, Settings};
use super::{Act, Ask, Asked, DialectRoute, Package, Path, shown};

/// Ten hours.
const DEFAULT_TTL: u64 = 36_000;
/// Seconds by which a renewal by use has to move the expiry.
const DEFAULT_INTERVAL: u64 = 60;

pub(super) fn package(settings: &mut Settings<'_>) -> Result<Package, NotASetting> {
    settings.utc()?;
    settings.default_authentication(&["TokenAuthentication"])?;
    settings.default_permission()?; // says nothing of its own views, which name theirs
    let client = settings.client("knox")?;
    let digits = settings.number("REST_KNOX.AUTH_TOKEN_CHARACTER_LENGTH")?.unwrap_or(64);
    // Two for each byte, as the package does it.
    let digits = usize::try_from(digits / 2 * 2).unwrap_or(usize::MAX);
    let prefix = settings.text("REST_KNOX.TOKEN_PREFIX")?.unwrap_or("");
    let shape = settings.shape(|| HexShape::new(prefix, digits).map(TokenShape::Hex))?;
    let keyword = settings.keyword("REST_KNOX.AUTH_HEADER_PREFIX")?.unwrap_or("Token").to_owned();
    let own_times = settings.times("REST_FRAMEWORK.DATETIME_FORMAT")?.unwrap_or(DateTimeFormat::Iso);
    let times = settings.times("REST_KNOX.EXPIRY_DATETIME_FORMAT")?.unwrap_or_else(|| own_times.clone());
    let user = settings.user_fields("REST_KNOX", "knox.serializers.UserSerializer")?;
    // Of use to an import alone, which knows the one that there is.
    settings.text("REST_KNOX.SECURE_HASH_ALGORITHM")?;
    settings.text("REST_KNOX.TOKEN_MODEL")?;
    let (policy, renewal) = policy(settings)?;
    let authentication = Authentication::Token(TokenScheme { renewal, ..TokenScheme::of(keyword) });
    let host_view = View {
        renderers: settings.default_renderers()?,
        parsers: settings.default_parsers()?,
        authentication,
        ..View::named("", &[])
    };
    let view = |name: &'static str, description: &'static str| View {
        name: name.into(),
        description: description.into(),
        methods: vec![Method::POST],
        ..host_view.clone()
    };
    let mut routes = vec![
        DialectRoute { path: Path::Exact("/logout/"), view: view("Logout", ""), act: Arc::new(Logout) },
        DialectRoute {
            path: Path::Exact("/logoutall/"),
            view: view("Logout All", "Log the user out of all sessions\nI.E. deletes all auth tokens for the user"),
            act: Arc::new(LogoutAll),
        },
    ];
    let giving = Giving { client: client.clone(), shape, times, user, own_times };
    let basic = View { authentication: Authentication::Basic, ..view("Basic Login", "") };
    let password = View { permission: Permission::Anyone, ..view("Password Login", "") };
    let vary = HeaderValue::from_static(if host_view.renderers.len() > 1 { "Accept, Cookie" } else { "Cookie" });
    let logins: [(&str, &str, View, Arc<dyn Act>); 3] = [
        ("basic_login", "login/", basic, Arc::new(BasicLogin(giving.clone()))),
        ("password_login", "password-login/", password, Arc::new(PasswordLogin { giving: giving.clone(), vary })),
        ("token_login", "token-login/", view("Login", ""), Arc::new(TokenLogin(giving))),
    ];
    for (key, default, view, act) in logins {
        let Some(path) = mounted_at(settings, key, default)? else { continue };
        if routes.iter().any(|route| route.path.exact() == Some(&path)) {
            return Err(NotASetting::new(key, format!("there is another view at {path} already")));
        }
        routes.push(DialectRoute { path: Path::Chosen(path), view, act });
    }
    Ok(Package { routes, host_view, client: Some(ClientOrder { policy, ..ClientOrder::named(client) }) })
}

/// Where a login is, below the mount; `false`: nowhere.
fn mounted_at(settings: &mut Settings<'_>, key: &str, default: &str) -> Result<Option<String>, NotASetting> {
    let path = match settings.take(key) {
        None => default,
        Some(serde_json::Value::Bool(false) | serde_json::Value::Null) => return Ok(None),
        Some(value) => value.as_str().ok_or_else(|| NotASetting::new(key, "is a path, or false"))?,
    };
    let path = path.trim_start_matches('/');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/');
    if path.is_empty() || !path.bytes().all(plain) {
        return Err(NotASetting::new(key, "is a path of letters, digits, -, _, ., ~ and /, or false"));
    }
    Ok(Some(format!("/{path}")))
}

/// How its tokens live, and when a use moves their expiry on, if it does.
fn policy(settings: &mut Settings<'_>) -> Result<(Policy, Option<Renewing>), NotASetting> {
    const LIMIT: &str = "REST_KNOX.TOKEN_LIMIT_PER_USER";
    let default = Lifetime::from_seconds(DEFAULT_TTL).ok();
    let ttl = settings.lifetime_or_none("REST_KNOX.TOKEN_TTL")?.unwrap_or(default);
    let limit = match settings.take(LIMIT) {
        None | Some(serde_json::Value::Null) => None,
        Some(value) => {
            let limit = value.as_u64().and_then(|limit| u32::try_from(limit).ok()).and_then(NonZeroU32::new);
            Some(limit.ok_or_else(|| NotASetting::new(LIMIT, "is a whole number of 1 or more, or null"))?)
        }
    };
    let renews = settings.flag("REST_KNOX.AUTO_REFRESH")?.unwrap_or(false);
    let longest = settings.lifetime("REST_KNOX.AUTO_REFRESH_MAX_TTL")?;
    let interval = settings.interval("REST_KNOX.MIN_REFRESH_INTERVAL")?.unwrap_or(DEFAULT_INTERVAL);
    // A longest life that is no longer than the ordinary one leaves nothing to be renewed.
    let life = ttl.filter(|ttl| renews && longest.is_none_or(|longest| longest > *ttl));
    let renewing = life.map(|life| Renewing { life, gain_millis: interval.saturating_mul(1_000) });
    let renewal = if renewing.is_some() { Renewal::OnRequest } else { Renewal::Never };
    let policy = Policy {
        ttl,
        max_lifetime: longest.filter(|_| renewing.is_some()),
        renewal,
        cap: limit.map(|limit| Cap { limit, at_cap: AtCap::Refuse }),
        ..Policy::default()
    };
    Ok((policy, renewing))
}

/// What a login gives, whichever way one comes in.
#[derive(Debug, Clone)]
struct Giving {
    client: ClientName,
    shape: TokenShape,
    times: DateTimeFormat,
    user: Option<UserFields>,
    own_times: DateTimeFormat,
}

impl Giving {
    fn terms(&self) -> LoginTerms {
        LoginTerms { client: self.client.clone(), name: None, shape: self.shape.clone() }
    }

    fn answer(&self, issued: &Issued, account: Option<&Account>) -> Answer {
        let mut told = vec![("expiry", self.times.value(issued.token.expires_at)), ("token", shown(&issued.secret))];
        if let Some(fields) = &self.user {
            told.push(("user", account.map_or(Value::Null, |account| fields.of(account, &self.own_times))));
        }
        Answer::ok(Value::object(told))
    }
}

fn too_many(refusal: &Refusal) -> Option<Answer> {
    let words = Value::text("Maximum amount of tokens allowed per user exceeded.");
    let answer = || Answer::data(StatusCode::FORBIDDEN, Value::object([("error", words)]));
    matches!(refusal, Refusal::CapReached { .. }).then(answer)
}

/// The view of its documentation that takes Basic authentication, and no body.
#[derive(Debug)]
struct BasicLogin(Giving);

impl Act for BasicLogin {
    fn reads_body(&self, _: &Method) -> bool {
        false
    }

    fn ask(&self, request: &Asked) -> Result<Ask, Answer> {
        let (username, password) = request.basic.clone().ok_or_else(|| Authentication::Basic.missing())?;
        let (giving, terms) = (self.0.clone(), self.0.terms());
        Ok(Ask::LogIn {
            username,
            password,
            client: giving.client.clone(),
            terms: Box::new(|_| Ok(terms)),
            answer: Box::new(move |LoggedIn { issued, account }| giving.answer(issued, Some(account))),
        })
    }

    fn refused(&self, _: &Asked, refusal: &Refusal) -> Option<Answer> {
        if *refusal == Refusal::CredentialsRejected {
            return Some(Authentication::Basic.failed(WRONG_PASSWORD));
        }
        too_many(refusal)
    }

    fn mints(&self) -> Option<&TokenShape> {
        Some(&self.0.shape)
    }
}

/// The view of its documentation that takes a name and a password in the body.
#[derive(Debug)]
struct PasswordLogin {
    giving: Giving,
    /// Of its answers once the password has proved right: the view begins a session then. We have none and set no cookie; that the
    /// answer could have been another with one is still said.
    vary: HeaderValue,
}

impl Act for PasswordLogin {
    fn reads_body(&self, method: &Method) -> bool {
        method == Method::POST
    }

    fn ask(&self, request: &Asked) -> Result<Ask, Answer> {
        let mut fields = validate(&[USERNAME, PASSWORD], &request.data()?)?;
        let (giving, terms, vary) = (self.giving.clone(), self.giving.terms(), self.vary.clone());
        Ok(Ask::LogIn {
            username: fields.take("username").unwrap_or_default().to_string(),
            password: fields.take("password").unwrap_or_default(),
            client: giving.client.clone(),
            terms: Box::new(|_| Ok(terms)),
            answer: Box::new(move |LoggedIn { issued, account }| {
                giving.answer(issued, Some(account)).with(header::VARY, vary)
            }),
        })
    }

    fn refused(&self, _: &Asked, refusal: &Refusal) -> Option<Answer> {
        let refused = too_many(refusal).map(|answer| answer.with(header::VARY, self.vary.clone()));
        refused.or_else(|| credentials_rejected(refusal))
    }

    fn mints(&self) -> Option<&TokenShape> {
        Some(&self.giving.shape)
    }
}

/// The view as it is shipped: whoever has a token gets another one.
#[derive(Debug)]
struct TokenLogin(Giving);

impl Act for TokenLogin {
    fn reads_body(&self, _: &Method) -> bool {
        false
    }

    fn ask(&self, request: &Asked) -> Result<Ask, Answer> {
        let LoginTerms { client, name, shape } = self.0.terms();
        let giving = self.0.clone();
        Ok(Ask::LogInFurther {
            who: holder(request)?,
            further: FurtherLogin { client, name, shape, others: Others::AsPolicySays },
            answer: Box::new(move |(issued, account)| giving.answer(issued, account.as_ref())),
        })
    }

    fn refused(&self, _: &Asked, refusal: &Refusal) -> Option<Answer> {
        too_many(refusal)
    }

    fn mints(&self) -> Option<&TokenShape> {
        Some(&self.0.shape)
    }
}

/// Whoever has a token, which its views look for before they do anything.
fn holder(request: &Asked) -> Result<Identity, Answer> {
    request.who.clone().ok_or_else(|| Authentication::token().missing())
}

#[derive(Debug)]
struct Logout;

impl Act for Logout {
    fn reads_body(&self, _: &Method) -> bool {
        false
    }

    fn ask(&self, request: &Asked) -> Result<Ask, Answer> {
        let answer = Box::new(|_: &()| Answer::nothing(StatusCode::NO_CONTENT));
        Ok(Ask::LogOut { who: holder(request)?, answer })
    }

    fn refused(&self, _: &Asked, _: &Refusal) -> Option<Answer> {
        None
    }
}

#[derive(Debug)]
struct LogoutAll;

impl Act for LogoutAll {
    fn reads_body(&self, _: &Method) -> bool {
        false
    }

    fn ask(&self, request: &Asked) -> Result<Ask, Answer> {
        let answer = Box::new(|_: &()| Answer::nothing(StatusCode::NO_CONTENT));
        Ok(Ask::EndAll { who: holder(request)?, answer })
    }

    fn refused(&self, _: &Asked, _: &Refusal) -> Option<Answer> {
        None
    }
}
