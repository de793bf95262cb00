//! djforge-redis-multitokens 0.0.4: a token for each device, and the views that its README has an application write.

use std::sync::Arc;

use axum::http::{Method, StatusCode};
use counterfoil_core::authority::{ClientOrder, LoggedIn, LoginTerms};
use counterfoil_core::shape::TokenShape;
use counterfoil_core::{ClientName, Lifetime, Policy, Refusal, Renewal};

use super::drf::answer::Answer;
use super::drf::json::Value;
use super::drf::parse::Input;
use super::drf::view::{Permission, View};
use super::settings::{NotASetting, Settings};
use super::{Act, Ask, Asked, DialectRoute, Login, Package, Path, on_these, shown};

pub(super) fn package(settings: &mut Settings<'_>) -> Result<Package, NotASetting> {
    const OWN: &str = "DJFORGE_REDIS_MULTITOKENS";
    let client = settings.client("djforge")?;
    settings.default_authentication(&["CachedTokenAuthentication"])?;
    let cache = settings.take(&format!("{OWN}.REDIS_DB_NAME"));
    let cache = cache.map_or(Some("tokens"), serde_json::Value::as_str);
    let cache = cache.ok_or_else(|| NotASetting::new(&format!("{OWN}.REDIS_DB_NAME"), "is the name of a cache"))?;
    let ttl = settings.lifetime(&format!("CACHES.{cache}.TIMEOUT"))?;
    settings.ignore("CACHES.");
    let resets = settings.flag(&format!("{OWN}.RESET_TOKEN_TTL_ON_USER_LOG_IN"))?.unwrap_or(true);
    // What has no end is never given one by being used.
    settings.flag(&format!("{OWN}.OVERWRITE_NONE_TTL"))?;
    // Of the views of its README, which name theirs.
    settings.default_permission()?;
    if ttl.is_none() {
        settings.warn("without CACHES.tokens.TIMEOUT tokens have no end");
    }
    let host_view =
        View { renderers: settings.default_renderers()?, parsers: settings.default_parsers()?, ..View::named("", &[]) };
    let post = |name: &'static str| View { name: name.into(), methods: vec![Method::POST], ..host_view.clone() };
    let login = View { permission: Permission::Anyone, ..post("Login") };
    let policy = settings.limits(Policy { ttl, renewal: renewal(ttl.filter(|_| resets))?, ..Policy::default() })?;
    let order = ClientOrder { policy, ..ClientOrder::named(client.clone()) };
    let routes = vec![
        DialectRoute { path: Path::Exact("/login/"), view: login, act: Arc::new(LogIn { client }) },
        DialectRoute { path: Path::Exact("/logout/"), view: post("Logout"), act: Arc::new(LogOut::This) },
        DialectRoute { path: Path::Exact("/logoutall/"), view: post("Logout All"), act: Arc::new(LogOut::All) },
    ];
    Ok(Package { routes, host_view, client: Some(order) })
}

/// Sliding by use, where there is a length to slide by. Shorter ones than this have no room for it.
fn renewal(ttl: Option<Lifetime>) -> Result<Renewal, NotASetting> {
    const EVERY: u64 = 10;
    const SHORTEST: u64 = 2 * EVERY;
    let Some(ttl) = ttl.filter(|ttl| ttl.seconds() >= SHORTEST) else { return Ok(Renewal::Never) };
    let at_most_every = Lifetime::from_seconds(EVERY.max(ttl.seconds() / 100));
    let at_most_every = at_most_every.map_err(|error| NotASetting::new("CACHES", error.to_string()))?;
    Ok(Renewal::OnUse { at_most_every })
}

#[derive(Debug)]
struct LogIn {
    client: ClientName,
}

fn rejected() -> Answer {
    Answer::detail(StatusCode::BAD_REQUEST, "Unable to log in with provided credentials.")
}

impl Act for LogIn {
    fn reads_body(&self, method: &Method) -> bool {
        method == Method::POST
    }

    fn ask(&self, request: &Asked) -> Result<Ask, Answer> {
        let data = request.data()?;
        let (username, password) = match (data.field("username"), data.field("password")) {
            (Input::Text(username, None), Input::Text(password, None)) => (username.to_owned(), password),
            (Input::Number(username), Input::Text(password, None)) => (username, password),
            (_, _) => return Err(rejected()),
        };
        let terms = LoginTerms { client: self.client.clone(), name: None, shape: TokenShape::Native };
        let login = Login {
            username,
            password: password.to_owned().into(),
            client: self.client.clone(),
            terms: on_these(terms),
        };
        let answer = |logged_in: &LoggedIn, is_alone| {
            let token = shown(&logged_in.issued.secret);
            Answer::ok(Value::object([("token", token), ("first_device", Value::Bool(is_alone))]))
        };
        Ok(Ask::LogInAlone { login, answer: Box::new(answer) })
    }

    fn refused(&self, _: &Asked, refusal: &Refusal) -> Option<Answer> {
        (*refusal == Refusal::CredentialsRejected).then(rejected)
    }
}

#[derive(Debug)]
enum LogOut {
    This,
    All,
}

impl Act for LogOut {
    fn reads_body(&self, _: &Method) -> bool {
        false
    }

    fn ask(&self, request: &Asked) -> Result<Ask, Answer> {
        let done = |_: &()| Answer::nothing(StatusCode::NO_CONTENT);
        match (self, request.who.clone()) {
            (LogOut::This, Some(who)) => Ok(Ask::LogOut { who, answer: Box::new(done) }),
            (LogOut::All, Some(who)) => Ok(Ask::EndAll { who, answer: Box::new(done) }),
            (LogOut::This | LogOut::All, None) => Err(done(&())),
        }
    }

    fn refused(&self, _: &Asked, _: &Refusal) -> Option<Answer> {
        None
    }
}
