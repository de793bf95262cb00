//! Reading a package's settings under the names that its users know: [`Settings`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use counterfoil_core::shape::{NotAShape, TokenShape};
use counterfoil_core::throttle::{NotARate, Rate};
use counterfoil_core::{AtCap, Cap, ClientName, Lifetime, Policy};
use serde_json::{Map, Value};

use super::drf::moment::DateTimeFormat;
use super::drf::user::UserFields;
use super::drf::view::{Parser, Permission, Renderer};
use super::duration;

/// A setting that there is not, or a value that it cannot have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotASetting {
    key: String,
    why: Cow<'static, str>,
}

impl NotASetting {
    pub(super) fn new(key: &str, why: impl Into<Cow<'static, str>>) -> NotASetting {
        NotASetting { key: key.to_owned(), why: why.into() }
    }

    /// Which one, with dots where it is nested.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for NotASetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.why)
    }
}

impl std::error::Error for NotASetting {}

/// Settings that have not been read yet, nested ones under one name with dots.
#[derive(Debug)]
pub(super) struct Settings<'a> {
    left: BTreeMap<String, &'a Value>,
    warnings: Vec<String>,
}

impl<'a> Settings<'a> {
    pub(super) fn of(settings: &'a Map<String, Value>) -> Settings<'a> {
        fn flatten<'a>(prefix: &str, settings: &'a Map<String, Value>, flat: &mut BTreeMap<String, &'a Value>) {
            for (key, value) in settings {
                let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                match value {
                    Value::Object(nested) => flatten(&key, nested, flat),
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                        flat.insert(key, value);
                    }
                }
            }
        }
        let mut flat = BTreeMap::new();
        flatten("", settings, &mut flat);
        Settings { left: flat, warnings: Vec::new() }
    }

    /// The value of a setting, which is read with this; `None` where it is not set.
    pub(super) fn take(&mut self, key: &str) -> Option<&'a Value> {
        self.left.remove(key)
    }

    /// Yes or no.
    pub(super) fn flag(&mut self, key: &str) -> Result<Option<bool>, NotASetting> {
        let Some(value) = self.take(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| NotASetting::new(key, "is true or false"))
    }

    /// A text as what it stands for.
    pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(&mut self, key: &str) -> Result<Option<T>, NotASetting> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| NotASetting::new(key, "is a text"))?;
        text.parse().map(Some).map_err(|error: T::Err| NotASetting::new(key, error.to_string()))
    }

    /// One of these words.
    pub(super) fn one_of<T: Copy>(&mut self, key: &str, words: &[(&str, T)]) -> Result<Option<T>, NotASetting> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let found = words.iter().find(|(word, _)| value.as_str() == Some(word));
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let wrong = || NotASetting::new(key, format!("is one of {}", known.join(", ")));
        found.map(|(_, meaning)| Some(*meaning)).ok_or_else(wrong)
    }

    /// `client`: what the client is called that this mount's tokens are of.
    pub(super) fn client(&mut self, default: &'static str) -> Result<ClientName, NotASetting> {
        let named = self.parsed("client")?;
        named.map_or_else(|| default.parse().map_err(|error| NotASetting::new("client", format!("{error}"))), Ok)
    }

    /// `ttl`, `cap` and `at_cap`, for packages that have no such settings of their own; else as in `policy`.
    pub(super) fn limits(&mut self, policy: Policy) -> Result<Policy, NotASetting> {
        let ttl = self.parsed("ttl")?;
        let at_cap = self.one_of("at_cap", &[("refuse", AtCap::Refuse), ("evict_oldest", AtCap::EvictOldest)])?;
        let cap = match self.take("cap") {
            None if at_cap.is_some() => return Err(NotASetting::new("at_cap", "there is no cap")),
            None => None,
            Some(number) => {
                let limit = number.as_u64().and_then(|number| u32::try_from(number).ok()).and_then(NonZeroU32::new);
                let limit = limit.ok_or_else(|| NotASetting::new("cap", "is a whole number, 1 at least"))?;
                Some(Cap { limit, at_cap: at_cap.unwrap_or_default() })
            }
        };
        Ok(Policy { ttl: ttl.or(policy.ttl), cap: cap.or(policy.cap), ..policy })
    }

    /// `tokens`: `package` for texts in the package's shape, which is the default, or `native`.
    pub(super) fn shape(
        &mut self,
        of_package: impl FnOnce() -> Result<TokenShape, NotAShape>,
    ) -> Result<TokenShape, NotASetting> {
        match self.one_of("tokens", &[("package", true), ("native", false)])? {
            Some(false) => Ok(TokenShape::Native),
            Some(true) | None => of_package().map_err(|error| NotASetting::new("tokens", error.to_string())),
        }
    }

    /// The same where ours is the default.
    pub(super) fn shape_or_native(
        &mut self,
        of_package: impl FnOnce() -> Result<TokenShape, NotAShape>,
    ) -> Result<TokenShape, NotASetting> {
        match self.one_of("tokens", &[("package", true), ("native", false)])? {
            Some(true) => of_package().map_err(|error| NotASetting::new("tokens", error.to_string())),
            Some(false) | None => Ok(TokenShape::Native),
        }
    }

    /// A duration in any of the ways in which people write it; `None` where it is not set, or null.
    pub(super) fn lifetime(&mut self, key: &str) -> Result<Option<Lifetime>, NotASetting> {
        match self.take(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => duration::read(value).map(Some).ok_or_else(|| NotASetting::new(key, duration::EXPECTED)),
        }
    }

    /// Passes over whatever begins so: Django's, not the package's.
    pub(super) fn ignore(&mut self, prefix: &str) {
        self.left.retain(|key, _| !key.starts_with(prefix));
    }

    /// The classes of a list of DRF's, each by its name without its module.
    pub(super) fn classes(&mut self, key: &str) -> Result<Option<Vec<&'a str>>, NotASetting> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let wrong = || NotASetting::new(key, "is a list of the names of classes");
        let items = value.as_array().ok_or_else(wrong)?;
        let name = |item: &'a Value| item.as_str().and_then(|path| path.rsplit('.').next()).ok_or_else(wrong);
        items.iter().map(name).collect::<Result<_, _>>().map(Some)
    }

    /// `REST_FRAMEWORK.DEFAULT_PERMISSION_CLASSES`: anybody, or whoever has a token.
    pub(super) fn default_permission(&mut self) -> Result<Permission, NotASetting> {
        const KEY: &str = "REST_FRAMEWORK.DEFAULT_PERMISSION_CLASSES";
        match self.classes(KEY)?.as_deref() {
            None | Some([] | ["AllowAny"]) => Ok(Permission::Anyone),
            Some(["IsAuthenticated"]) => Ok(Permission::Authenticated),
            Some(_) => Err(NotASetting::new(KEY, "is [AllowAny] or [IsAuthenticated]; say more at the view itself")),
        }
    }

    /// `REST_FRAMEWORK.DEFAULT_AUTHENTICATION_CLASSES`, of which there may be only the ones named here: the package's own.
    pub(super) fn default_authentication(&mut self, known: &[&str]) -> Result<(), NotASetting> {
        const KEY: &str = "REST_FRAMEWORK.DEFAULT_AUTHENTICATION_CLASSES";
        let classes = self.classes(KEY)?.unwrap_or_default();
        if classes.iter().all(|class| known.contains(class)) {
            return Ok(());
        }
        Err(NotASetting::new(KEY, format!("this dialect has {}", known.join(", "))))
    }

    /// The same where the package leaves the framework's own default in place, sessions and Basic: whether it is tokens instead.
    pub(super) fn authenticates_by_token(&mut self) -> Result<bool, NotASetting> {
        const KEY: &str = "REST_FRAMEWORK.DEFAULT_AUTHENTICATION_CLASSES";
        match self.classes(KEY)?.as_deref() {
            None | Some(["SessionAuthentication" | "BasicAuthentication", ..]) => Ok(false),
            Some(["TokenAuthentication"]) => Ok(true),
            Some(_) => Err(NotASetting::new(KEY, "is the framework's default, or [TokenAuthentication]")),
        }
    }

    /// `REST_FRAMEWORK.DEFAULT_RENDERER_CLASSES`
    pub(super) fn default_renderers(&mut self) -> Result<Cow<'static, [Renderer]>, NotASetting> {
        const KEY: &str = "REST_FRAMEWORK.DEFAULT_RENDERER_CLASSES";
        let Some(classes) = self.classes(KEY)? else { return Ok(Cow::Borrowed(Renderer::DEFAULT)) };
        let known = |class: &&str| match *class {
            "JSONRenderer" => Some(Renderer::Json),
            "BrowsableAPIRenderer" => Some(Renderer::Page),
            _ => None,
        };
        let renderers: Option<Vec<_>> = classes.iter().map(known).collect();
        let renderers = renderers.filter(|renderers| renderers.contains(&Renderer::Json));
        renderers
            .map(Cow::Owned)
            .ok_or_else(|| NotASetting::new(KEY, "has JSONRenderer, BrowsableAPIRenderer if wanted, and no others"))
    }

    /// `REST_FRAMEWORK.DEFAULT_PARSER_CLASSES`
    pub(super) fn default_parsers(&mut self) -> Result<Cow<'static, [Parser]>, NotASetting> {
        const KEY: &str = "REST_FRAMEWORK.DEFAULT_PARSER_CLASSES";
        let Some(classes) = self.classes(KEY)? else { return Ok(Cow::Borrowed(Parser::DEFAULT)) };
        let known = |class: &&str| match *class {
            "JSONParser" => Some(Parser::Json),
            "FormParser" => Some(Parser::Form),
            "MultiPartParser" => Some(Parser::Multipart),
            _ => None,
        };
        let parsers: Option<Vec<_>> = classes.iter().map(known).collect();
        parsers
            .map(Cow::Owned)
            .ok_or_else(|| NotASetting::new(KEY, "has JSONParser, FormParser, MultiPartParser, and no others"))
    }

    /// A length of time in whole seconds, which may be 0.
    pub(super) fn interval(&mut self, key: &str) -> Result<Option<u64>, NotASetting> {
        let Some(value) = self.take(key) else { return Ok(None) };
        if value.as_u64() == Some(0) {
            return Ok(Some(0));
        }
        let read = duration::read(value).map(Lifetime::seconds);
        read.map(Some).ok_or_else(|| NotASetting::new(key, duration::EXPECTED))
    }

    /// How long something lives; null, which is for ever, is `Some(None)`.
    pub(super) fn lifetime_or_none(&mut self, key: &str) -> Result<Option<Option<Lifetime>>, NotASetting> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(None)),
            Some(value) => {
                let read = duration::read(value).ok_or_else(|| NotASetting::new(key, duration::EXPECTED));
                read.map(|lifetime| Some(Some(lifetime)))
            }
        }
    }

    /// A whole number.
    pub(super) fn number(&mut self, key: &str) -> Result<Option<u64>, NotASetting> {
        let Some(value) = self.take(key) else { return Ok(None) };
        value.as_u64().map(Some).ok_or_else(|| NotASetting::new(key, "is a whole number"))
    }

    /// A text; null is as if it were not set.
    pub(super) fn text(&mut self, key: &str) -> Result<Option<&'a str>, NotASetting> {
        match self.take(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_str().map(Some).ok_or_else(|| NotASetting::new(key, "is a text")),
        }
    }

    /// The word before a token in `Authorization`.
    pub(super) fn keyword(&mut self, key: &str) -> Result<Option<&'a str>, NotASetting> {
        let keyword = self.text(key)?;
        match keyword {
            Some(word) if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err(NotASetting::new(key, "is one word of ASCII"))
            }
            Some(_) | None => Ok(keyword),
        }
    }

    /// How times are written: a pattern of `strftime`, `iso-8601`, or null, which is the same.
    pub(super) fn times(&mut self, key: &str) -> Result<Option<DateTimeFormat>, NotASetting> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(DateTimeFormat::Iso)),
            Some(value) => {
                let text = value.as_str().ok_or_else(|| NotASetting::new(key, "is a text"))?;
                Ok(Some(DateTimeFormat::of(text)))
            }
        }
    }

    /// `TIME_ZONE` and `USE_TZ`, by which times are written: UTC alone.
    pub(super) fn utc(&mut self) -> Result<(), NotASetting> {
        if self.text("TIME_ZONE")?.is_some_and(|zone| !matches!(zone, "UTC" | "Etc/UTC")) {
            return Err(NotASetting::new("TIME_ZONE", "is UTC: times are written in no other zone"));
        }
        match self.flag("USE_TZ")? {
            Some(false) => Err(NotASetting::new("USE_TZ", "is true: times are written with their zone")),
            Some(true) | None => Ok(()),
        }
    }

    /// A rate as Django REST framework reads it, of whose period only the first letter counts: `10/min`. Null is none.
    pub(super) fn rate(&mut self, key: &str) -> Result<Option<Rate>, NotASetting> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        let wrong = || NotASetting::new(key, NotARate.to_string());
        let (number, period) = text.split_once('/').ok_or_else(wrong)?;
        let period = period.get(..1).ok_or_else(wrong)?;
        format!("{}/{period}", number.trim()).parse().map(Some).map_err(|_| wrong())
    }

    /// Which fields are shown of a user. `USER_SERIALIZER`, in the settings called `of`, names a class of Python, of which the package's own
    /// is known; of any other, `user_fields` says what it shows.
    pub(super) fn user_fields(&mut self, of: &str, own: &str) -> Result<Option<UserFields>, NotASetting> {
        let key = format!("{of}.USER_SERIALIZER");
        let serializer = self.text(&key)?;
        let inner = format!("{of}.USER_FIELDS");
        for named in ["user_fields", &inner] {
            let Some(value) = self.take(named) else { continue };
            let names: Option<Vec<&str>> = value.as_array().and_then(|names| names.iter().map(Value::as_str).collect());
            let fields = names.and_then(UserFields::named);
            let wrong = || NotASetting::new(named, format!("is a list of names among {}", UserFields::known()));
            return fields.map(Some).ok_or_else(wrong);
        }
        match serializer {
            None => Ok(None),
            Some(serializer) if serializer == own => Ok(Some(UserFields::username_alone())),
            Some(_) => Err(NotASetting::new(&key, format!("is {own}; say what another shows in user_fields"))),
        }
    }

    /// Has the operator told of something weak.
    pub(super) fn warn(&mut self, sentence: impl Into<String>) {
        self.warnings.push(sentence.into());
    }

    /// What the operator is to be told.
    ///
    /// # Errors
    /// Where one is left that nobody has read.
    pub(super) fn all_taken(self) -> Result<Vec<String>, NotASetting> {
        match self.left.into_keys().next() {
            Some(key) => Err(NotASetting::new(&key, "there is no such setting")),
            None => Ok(self.warnings),
        }
    }
}
