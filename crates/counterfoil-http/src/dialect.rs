//! Dialects: the wire formats of packages for Django REST framework, so that a service changes what is behind its logins and
//! its clients do not notice.
//!
//! A dialect is a pure translator. A package is data ([`Package`]): its paths, what is known of its views ([`drf::view::View`]),
//! and for each of them an [`Act`], which makes an [`Ask`] of a request and an answer of what becomes of it. No store, no
//! clock and nothing that waits is in there. [`serving`] is the one place that carries an ask out on the authority.

mod authtoken;
pub(crate) mod drf;
mod host_view;
mod multitoken;
mod serving;
mod settings;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use axum::http::{HeaderMap, Method};
use counterfoil_core::authority::{ClientOrder, LoggedIn, LoginTerms};
use counterfoil_core::{Account, ClientName, Identity, Refusal, SecretToken};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use self::drf::answer::Answer;
use self::drf::json;
use self::drf::parse::{Data, parse};
use self::drf::view::{Parser, View};
pub use self::host_view::HostView;
pub use self::serving::Mounted;
pub use self::settings::NotASetting;
use self::settings::Settings;

/// Which package is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DialectName {
    /// `rest_framework.authtoken`, which comes with Django REST framework.
    Authtoken,
    /// drf-multitokenauth.
    Multitoken,
}

impl DialectName {
    /// All of them.
    pub const ALL: [DialectName; 2] = [DialectName::Authtoken, DialectName::Multitoken];

    /// As settings have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            DialectName::Authtoken => "authtoken",
            DialectName::Multitoken => "multitoken",
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
            DialectName::Multitoken => multitoken::package(&mut settings)?,
        };
        settings.all_taken()?;
        Ok(Dialect { name, package })
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    /// There alone; `{name}` stands for one segment. Where it ends in a slash, the path without it is answered with 301.
    Exact(&'static str),
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
}

/// A request that has passed all that is judged before a view.
#[derive(Debug)]
#[expect(dead_code, reason = "path and query are for the packages to come, and are filled in already")]
struct Asked {
    method: Method,
    /// What `{name}` stands for in the path.
    parameters: Vec<(String, String)>,
    query: String,
    headers: HeaderMap,
    /// Empty where the view does not look at it.
    body: Zeroizing<Vec<u8>>,
    parsers: Cow<'static, [Parser]>,
    who: Option<Identity>,
}

impl Asked {
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
    /// The end of this token.
    LogOut { who: Identity, answer: Then<()> },
}

/// What token it shall be, as the account that the password proved says.
type Terms = Box<dyn FnOnce(&Account) -> Result<LoginTerms, Answer> + Send>;

/// The answer to what became of an [`Ask`].
type Then<T> = Box<dyn FnOnce(&T) -> Answer + Send>;

/// A new token as its owner gets it, this once.
fn shown(secret: &SecretToken) -> json::Value {
    json::Value::text(secret.expose())
}
