//! Dialects: the wire formats of packages for Django REST framework, so that a service changes what is behind its logins and
//! its clients do not notice.
//!
//! A dialect is a pure translator. A package is data ([`Package`]): its paths, what is known of its views ([`drf::view::View`]),
//! and for each of them an [`Act`], which makes an [`Ask`] of a request and an answer of what becomes of it. No store, no
//! clock and nothing that waits is in there. [`serving`] is the one place that carries an ask out on the authority.

mod advanced;
mod authtoken;
mod djforge;
pub(crate) mod drf;
mod duration;
mod durin;
mod host_view;
mod knox;
mod middleware;
mod multitoken;
mod rest_authtoken;
mod serving;
mod settings;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use axum::http::{HeaderMap, Method};
use counterfoil_core::account_rules::AccountRules;
use counterfoil_core::authority::{
    ClientOrder, FurtherLogin, Linked, LoggedIn, LoginTerms, NewRegistration, RegistrationTerms,
};
use counterfoil_core::shape::TokenShape;
use counterfoil_core::{
    Account, ClientName, Identity, Issued, Refusal, SecretToken, Timestamp, Token, TokenId, Username,
};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use self::drf::answer::Answer;
use self::drf::authorization::{Authentication, TokenScheme};
use self::drf::json;
use self::drf::parse::{Data, parse};
use self::drf::view::{Parser, View};
pub use self::host_view::HostView;
pub use self::middleware::{BehindMiddleware, Middleware};
pub use self::serving::Mounted;
pub use self::settings::NotASetting;
use self::settings::Settings;

/// Which package is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DialectName {
    /// `rest_framework.authtoken`, which comes with Django REST framework.
    Authtoken,
    /// django-rest-durin.
    Durin,
    /// django-rest-knox.
    Knox,
    /// drf-multitokenauth.
    Multitoken,
    /// django-drf-advanced-token.
    Advanced,
    /// djforge-redis-multitokens.
    Djforge,
    /// django-rest-authtoken.
    RestAuthtoken,
}

impl DialectName {
    /// All of them.
    pub const ALL: [DialectName; 7] = [
        DialectName::Authtoken,
        DialectName::Durin,
        DialectName::Knox,
        DialectName::Multitoken,
        DialectName::Advanced,
        DialectName::Djforge,
        DialectName::RestAuthtoken,
    ];

    /// As settings have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            DialectName::Authtoken => "authtoken",
            DialectName::Durin => "durin",
            DialectName::Knox => "knox",
            DialectName::Multitoken => "multitoken",
            DialectName::Advanced => "advanced",
            DialectName::Djforge => "djforge",
            DialectName::RestAuthtoken => "rest_authtoken",
        }
    }
}

impl fmt::Display for DialectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// There is no dialect of this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoSuchDialect;

impl fmt::Display for NoSuchDialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the dialects are")?;
        DialectName::ALL.iter().try_for_each(|name| write!(f, " {name}"))
    }
}

impl std::error::Error for NoSuchDialect {}

impl FromStr for DialectName {
    type Err = NoSuchDialect;

    fn from_str(text: &str) -> Result<DialectName, NoSuchDialect> {
        DialectName::ALL.into_iter().find(|name| name.as_str() == text).ok_or(NoSuchDialect)
    }
}

/// A package's wire format with the settings of one installation. Mounted by [`Http::dialect`](crate::Http::dialect).
#[derive(Debug, Clone)]
pub struct Dialect {
    name: DialectName,
    package: Package,
    warnings: Vec<String>,
}

impl Dialect {
    /// The dialect of this name as the package behaves with these settings: those of Django under their own names, nested or
    /// with dots (`REST_FRAMEWORK.DEFAULT_PERMISSION_CLASSES`), and ours in lower case; see `docs/dialects`.
    ///
    /// ```
    /// use counterfoil_http::{Dialect, DialectName};
    /// use serde_json::{Map, json};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let settings = Map::from_iter([("client".to_owned(), json!("mobile"))]);
    /// let dialect = Dialect::from_settings(DialectName::Authtoken, &settings)?;
    /// assert_eq!(dialect.client().map(|order| order.name.as_str()), Some("mobile"));
    ///
    /// let mistyped = Map::from_iter([("clinet".to_owned(), json!("mobile"))]);
    /// let refused = Dialect::from_settings(DialectName::Authtoken, &mistyped).expect_err("no such setting");
    /// assert_eq!(refused.to_string(), "clinet: there is no such setting");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// A key that there is not, and a value that cannot be.
    pub fn from_settings(name: DialectName, settings: &Map<String, Value>) -> Result<Dialect, NotASetting> {
        let mut settings = Settings::of(settings);
        let package = match name {
            DialectName::Authtoken => authtoken::package(&mut settings)?,
            DialectName::Durin => durin::package(&mut settings)?,
            DialectName::Knox => knox::package(&mut settings)?,
            DialectName::Multitoken => multitoken::package(&mut settings)?,
            DialectName::Advanced => advanced::package(&mut settings)?,
            DialectName::Djforge => djforge::package(&mut settings)?,
            DialectName::RestAuthtoken => rest_authtoken::package(&mut settings)?,
        };
        let warnings = settings.all_taken()?;
        Ok(Dialect { name, package, warnings })
    }

    /// Puts what these settings say of accounts into the rules of a deployment that mounts the dialect at `path`: where the links in
    /// mails lead, and what they look like. To be called before the [`Authority`](counterfoil_core::Authority) is opened.
    pub fn rule(&self, path: &str, rules: &mut AccountRules) {
        self.package.routes.iter().for_each(|route| route.act.rule(path, rules));
    }

    /// What is weak in these settings, or in what the package does where they say nothing: a sentence each, for the operator.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What the package's middleware wants wherever there is an `Authorization`; `None`: it has none.
    fn middleware_scheme(&self) -> Option<&TokenScheme> {
        match (self.name, &self.package.host_view.authentication) {
            (DialectName::Advanced, Authentication::Token(scheme)) => Some(scheme),
            (_, _) => None,
        }
    }

    /// Which package it speaks.
    pub fn name(&self) -> DialectName {
        self.name
    }

    /// The client that its tokens are of, as it is to be; `None` where requests name their clients.
    pub fn client(&self) -> Option<&ClientOrder> {
        self.package.client.as_ref()
    }
}

/// One package: all that is known of it without asking anybody.
#[derive(Debug, Clone)]
struct Package {
    routes: Vec<DialectRoute>,
    /// What a host's own view is like when it says nothing else.
    host_view: View,
    client: Option<ClientOrder>,
}

/// One view of a package, and where it is.
#[derive(Debug, Clone)]
struct DialectRoute {
    path: Path,
    view: View,
    act: Arc<dyn Act>,
}

/// Where a view is, below the path of the mount.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Path {
    /// There alone; `{name}` stands for one segment. Where it ends in a slash, the path without it is answered with 301.
    Exact(&'static str),
    /// The same where a setting says so.
    Chosen(String),
    /// The same by a router of the framework, for which a segment with a dot in it is another address.
    Routed(&'static str),
    /// Wherever the path begins so, because the package's pattern has no end.
    Prefix(&'static str),
}

/// What a view does.
trait Act: fmt::Debug + Send + Sync {
    /// Whether it looks at the body of a request. Where it does not, a broken one is no matter, as in the packages.
    fn reads_body(&self, method: &Method) -> bool;

    /// What is asked of the authority.
    ///
    /// # Errors
    /// The answer, where nothing has to be asked.
    fn ask(&self, request: &Asked) -> Result<Ask, Answer>;

    /// The answer to a refusal; `None`: what is said of it everywhere.
    fn refused(&self, request: &Asked, refusal: &Refusal) -> Option<Answer>;

    /// What the tokens look like that it gives, where it is to be known before the first one.
    fn mints(&self) -> Option<&TokenShape> {
        None
    }

    /// What its settings mean for the accounts of the deployment, mounted at this path.
    fn rule(&self, _: &str, _: &mut AccountRules) {}
}

/// A request that has passed all that is judged before a view.
#[derive(Debug)]
#[expect(dead_code, reason = "the query is for the packages to come, and is filled in already")]
struct Asked {
    method: Method,
    /// The whole of it, wherever the host has nested us.
    path: String,
    /// What `{name}` stands for in the path.
    parameters: Vec<(String, String)>,
    query: String,
    headers: HeaderMap,
    /// Empty where the view does not look at it.
    body: Zeroizing<Vec<u8>>,
    parsers: Cow<'static, [Parser]>,
    who: Option<Identity>,
    /// A user name and a password in `Authorization`, at a view that takes them; not looked at yet.
    basic: Option<Basic>,
}

/// A user name and a password that came in `Authorization`.
type Basic = (String, Zeroizing<String>);

impl Asked {
    /// What `{name}` stands for in the path.
    fn parameter(&self, name: &str) -> &str {
        self.parameters.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// What the body says.
    ///
    /// # Errors
    /// 400 and 415.
    fn data(&self) -> Result<Data, Answer> {
        parse(&self.headers, &self.body, &self.parsers)
    }
}

/// What a dialect wants of the authority, and what it answers when it has it.
enum Ask {
    /// A token for a password.
    LogIn {
        /// Character by character, as Django reads it.
        username: String,
        password: Zeroizing<String>,
        /// The client that was named, for whoever follows the events.
        client: ClientName,
        /// What token it shall be, said once the password has proved right; or the answer that there is none.
        terms: Terms,
        answer: Then<LoggedIn>,
    },
    /// The same, told as well whether its owner has no other live one on the client.
    LogInAlone { login: Login, answer: ThenAlone },
    /// Another token, in the place of this one or beside it.
    Further { who: Identity, further: FurtherLogin, answer: Then<Issued> },
    /// An account for whoever asks.
    Register { new: Box<NewRegistration>, terms: RegistrationTerms, answer: Then<Account> },
    /// Whether nobody has a name.
    IsFree { username: Username, answer: Then<bool> },
    /// Whose address a link confirms.
    LookAtLink { text: Zeroizing<String>, answer: Then<Linked> },
    /// The use of such a link.
    Confirm { text: Zeroizing<String>, answer: Then<Account> },
    /// The end of every login token of whoever this is.
    EndAll { who: Identity, answer: Then<()> },
    /// The same as a login, and its whole life anew where the token was there already.
    LogInAnew { login: Login, answer: Then<LoggedIn> },
    /// A token for a token, and whose it is.
    LogInFurther { who: Identity, further: FurtherLogin, answer: Then<(Issued, Option<Account>)> },
    /// This token's whole life anew; the answer is told its end.
    Renew { who: Identity, answer: Then<Option<Timestamp>> },
    /// The end of this token.
    LogOut { who: Identity, answer: Then<()> },
    /// The login tokens of whoever has this one, but for those that were ended, in the order of their numbers; and what comes of them.
    Tokens { who: Identity, then: Box<dyn FnOnce(Vec<Token>, Timestamp) -> Result<Ask, Answer> + Send> },
    /// The end of these tokens of whoever has this one.
    Revoke { who: Identity, tokens: Vec<TokenId>, answer: Then<()> },
    /// The text of a token once more, where it was kept.
    Reveal { who: Identity, token: Box<Token>, answer: Then<Option<SecretToken>> },
}

/// Who wants a token, and which.
struct Login {
    /// Character by character, as Django reads it.
    username: String,
    password: Zeroizing<String>,
    /// As in [`Ask::LogIn`].
    client: ClientName,
    terms: Terms,
}

/// What token it shall be, as the account that the password proved says.
type Terms = Box<dyn FnOnce(&Account) -> Result<LoginTerms, Answer> + Send>;

/// What there is to say of a login, where there is nothing else to judge.
fn on_these(terms: LoginTerms) -> Terms {
    Box::new(|_| Ok(terms))
}

/// The answer to a login, told whether it is the only one.
type ThenAlone = Box<dyn FnOnce(&LoggedIn, bool) -> Answer + Send>;

/// The answer to what became of an [`Ask`].
type Then<T> = Box<dyn FnOnce(&T) -> Answer + Send>;

/// A new token as its owner gets it, this once.
fn shown(secret: &SecretToken) -> json::Value {
    json::Value::text(secret.expose())
}
