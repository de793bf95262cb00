//! `--settings FILE`: the Django settings of the packages, as JSON or TOML, as far as an import must know them.
//!
//! They have the names that their users know, nested (`REST_KNOX = { TOKEN_TTL = "10:00:00" }`) or dotted
//! (`"REST_KNOX.TOKEN_TTL" = …`). Those that decide when a token ends, or what a second login gives, are used; the others of the
//! same packages may be there and change nothing; any other name is an error, because it may be one of these with a mistake in it.

use std::fs;
use std::path::Path;

use counterfoil::Reissue;
use serde_json::Value;

use crate::failure::Failure;
use crate::import::cell::django_span;

/// What an import must know of a project.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// The table of users, if it is named.
    pub(crate) user_table: Option<String>,
    /// The column of its user names.
    pub(crate) username_field: Option<String>,
    /// The column that says whether an address is confirmed.
    pub(crate) confirmed_field: Option<String>,
    pub(crate) installed_apps: Vec<String>,
    /// How long a token of django-rest-authtoken lives.
    pub(crate) auth_token_validity: Span,
    /// How long a confirmation of it can be waited for.
    pub(crate) confirmation_validity: Span,
    pub(crate) knox: Knox,
    pub(crate) durin_refreshes_on_login: bool,
    pub(crate) djforge: Djforge,
    /// What a second login gives, where the importer wants something else than the package does.
    pub(crate) reissue: Option<Reissue>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Knox {
    pub(crate) ttl: Option<Span>,
    pub(crate) limit: Option<u32>,
    pub(crate) auto_refresh: bool,
    pub(crate) auto_refresh_max: Option<Span>,
    pub(crate) min_refresh: Span,
    pub(crate) table: String,
    /// Whether the digests are of the only algorithm that is understood.
    pub(crate) is_sha512: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Djforge {
    pub(crate) timeout: Option<Span>,
    pub(crate) resets: bool,
    pub(crate) key_prefix: String,
    pub(crate) version: i64,
}

/// A length of time, in milliseconds; never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) u64);

impl Span {
    const DAY: Span = Span(86_400_000);

    /// In any of the ways in which people write it: a number of seconds, `[DAYS ]HH:MM:SS`, ISO 8601, or ours.
    pub(crate) fn of(value: &Value) -> Option<Span> {
        let millis = match value {
            Value::Number(number) => number.as_f64().map(|seconds| seconds * 1_000.0)?,
            Value::String(text) => {
                match (django_span(text), text.parse::<counterfoil::Lifetime>(), text.parse::<f64>()) {
                    (Some(micros), ..) => micros as f64 / 1_000.0,
                    (None, Ok(lifetime), _) => lifetime.millis() as f64,
                    (None, Err(_), Ok(seconds)) => seconds * 1_000.0,
                    (None, Err(_), Err(_)) => {
                        let span: jiff::Span = text.strip_prefix('P').and(text.parse().ok())?;
                        let days = jiff::SpanRelativeTo::days_are_24_hours();
                        span.total((jiff::Unit::Millisecond, days)).ok()?
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
        };
        // A hundred years, as our own policies have it.
        (0.0..=3.2e12).contains(&millis).then_some(Span(millis as u64))
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            user_table: None,
            username_field: None,
            confirmed_field: None,
            installed_apps: Vec::new(),
            auth_token_validity: Span::DAY,
            confirmation_validity: Span::DAY,
            knox: Knox {
                ttl: Some(Span(10 * 3_600_000)),
                limit: None,
                auto_refresh: false,
                auto_refresh_max: None,
                min_refresh: Span(60_000),
                table: "knox_authtoken".to_owned(),
                is_sha512: true,
            },
            durin_refreshes_on_login: false,
            djforge: Djforge { timeout: None, resets: true, key_prefix: String::new(), version: 1 },
            reissue: None,
        }
    }
}

/// Settings of these packages that an import has no use for.
const OF_NO_USE: &[&str] = &[
    "AUTH_ENABLE_SUPERUSER_LOGIN",
    "BASE_URL",
    "BEARER_PREFIX",
    "DJFORGE_REDIS_MULTITOKENS.OVERWRITE_NONE_TTL",
    "PREVENT_TOKEN_API_CHANGE",
    "PREVENT_TOKEN_LOGOUT",
    "REGISTRATION_CONFIRM_INVALID_REDIRECT_PATH",
    "REGISTRATION_CONFIRM_REDIRECT_PATH",
    "REGISTRATION_EMAIL",
    "REGISTRATION_EMAIL_CONFIRM",
    "REGISTRATION_ENABLED",
    "REST_DURIN.API_ACCESS_CLIENT_NAME",
    "REST_DURIN.API_ACCESS_EXCLUDE_FROM_SESSIONS",
    "REST_DURIN.API_ACCESS_RESPONSE_INCLUDE_TOKEN",
    "REST_DURIN.AUTHTOKEN_SELECT_RELATED_LIST",
    "REST_DURIN.AUTH_HEADER_PREFIX",
    "REST_DURIN.DEFAULT_TOKEN_TTL",
    "REST_DURIN.EXPIRY_DATETIME_FORMAT",
    "REST_DURIN.TOKEN_CACHE_TIMEOUT",
    "REST_DURIN.TOKEN_CHARACTER_LENGTH",
    "REST_DURIN.USER_SERIALIZER",
    "REST_KNOX.AUTH_HEADER_PREFIX",
    "REST_KNOX.AUTH_TOKEN_CHARACTER_LENGTH",
    "REST_KNOX.EXPIRY_DATETIME_FORMAT",
    "REST_KNOX.TOKEN_PREFIX",
    "REST_KNOX.USER_SERIALIZER",
    "USER_SERIALIZER",
    // Our own, of a mount.
    "client",
    "dialect",
    "path",
    "tokens",
];

impl Settings {
    pub(crate) fn read(path: &Path) -> Result<Settings, Failure> {
        let shown = path.display();
        let text =
            fs::read_to_string(path).map_err(|error| Failure::caused_by(format!("cannot read {shown}"), &error))?;
        let value = if text.trim_start().starts_with('{') {
            serde_json::from_str(&text).map_err(|error| Failure::usage(format!("{shown} is no JSON: {error}")))?
        } else {
            let table: toml::Table =
                text.parse().map_err(|error| Failure::usage(format!("{shown} is neither JSON nor TOML: {error}")))?;
            serde_json::to_value(table).map_err(|error| Failure::usage(format!("{shown}: {error}")))?
        };
        Settings::of(&value).map_err(|why| Failure::usage(format!("{shown}: {why}")))
    }

    fn of(value: &Value) -> Result<Settings, String> {
        let mut flat = Vec::new();
        flatten("", value, &mut flat);
        let mut settings = Settings::default();
        // Which cache is meant must be known first.
        let alias = flat.iter().find(|(name, _)| name == "DJFORGE_REDIS_MULTITOKENS.REDIS_DB_NAME");
        let alias = alias.and_then(|(_, value)| value.as_str()).unwrap_or("tokens").to_owned();
        for (name, value) in flat {
            settings.set(&name, value, &alias)?;
        }
        Ok(settings)
    }

    fn set(&mut self, name: &str, value: &Value, alias: &str) -> Result<(), String> {
        let wrong = |expected: &str| format!("{name} is {expected}");
        let span =
            || Span::of(value).ok_or_else(|| wrong("a length of time: \"1 00:00:00\", \"P1D\", \"1d\" or seconds"));
        let or_none = || if value.is_null() { Ok(None) } else { span().map(Some) };
        let flag = || value.as_bool().ok_or_else(|| wrong("true or false"));
        let text = || value.as_str().map(str::to_owned).ok_or_else(|| wrong("a text"));
        match name {
            "AUTH_USER_MODEL" => self.user_table = Some(table_of(&text()?).ok_or_else(|| wrong("app.Model"))?),
            "USER_TABLE" => self.user_table = Some(text()?),
            "USERNAME_FIELD" => self.username_field = Some(text()?),
            "REGISTRATION_EMAIL_CONFIRM_MODEL_FIELD" => {
                self.confirmed_field = match value {
                    Value::Null | Value::Bool(false) => None,
                    Value::Bool(true) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
                        Some(text()?)
                    }
                }
            }
            "INSTALLED_APPS" => {
                let list = value.as_array().ok_or_else(|| wrong("a list of texts"))?;
                self.installed_apps = list.iter().filter_map(|app| app.as_str().map(str::to_owned)).collect();
            }
            "AUTH_TOKEN_VALIDITY" => self.auth_token_validity = span()?,
            "REGISTRATION_EMAIL_CONFIRM_TOKEN_VALIDITY" => self.confirmation_validity = span()?,
            "REST_KNOX.TOKEN_TTL" => self.knox.ttl = or_none()?,
            "REST_KNOX.AUTO_REFRESH" => self.knox.auto_refresh = flag()?,
            "REST_KNOX.AUTO_REFRESH_MAX_TTL" => self.knox.auto_refresh_max = or_none()?,
            "REST_KNOX.MIN_REFRESH_INTERVAL" => self.knox.min_refresh = span()?,
            "REST_KNOX.TOKEN_LIMIT_PER_USER" => {
                let limit = value.as_u64().and_then(|limit| u32::try_from(limit).ok());
                if limit.is_none() && !value.is_null() {
                    return Err(wrong("a number or null"));
                }
                self.knox.limit = limit;
            }
            "REST_KNOX.TOKEN_MODEL" | "KNOX_TOKEN_MODEL" => {
                self.knox.table = table_of(&text()?).ok_or_else(|| wrong("app.Model"))?;
            }
            "REST_KNOX.SECURE_HASH_ALGORITHM" => self.knox.is_sha512 = text()?.ends_with("sha512"),
            "REST_DURIN.REFRESH_TOKEN_ON_LOGIN" => self.durin_refreshes_on_login = flag()?,
            "DJFORGE_REDIS_MULTITOKENS.REDIS_DB_NAME" => drop(text()?),
            "DJFORGE_REDIS_MULTITOKENS.RESET_TOKEN_TTL_ON_USER_LOG_IN" => self.djforge.resets = flag()?,
            "TIMEOUT" => self.djforge.timeout = or_none()?,
            "reissue" => {
                self.reissue = Some(match value.as_str() {
                    Some("new") => Reissue::New,
                    Some("replace") => Reissue::Replace,
                    Some("same") => Reissue::Same,
                    _ => return Err(wrong("new, replace or same")),
                });
            }
            _ => match name.strip_prefix("CACHES.") {
                Some(rest) => match rest.strip_prefix(alias).and_then(|rest| rest.strip_prefix('.')) {
                    Some("TIMEOUT") => self.djforge.timeout = or_none()?,
                    Some("KEY_PREFIX") => self.djforge.key_prefix = text()?,
                    Some("VERSION") => self.djforge.version = value.as_i64().ok_or_else(|| wrong("a number"))?,
                    Some(_) | None => {}
                },
                None if OF_NO_USE.contains(&name) || name.starts_with("REST_FRAMEWORK.") => {}
                None => return Err(format!("{name} is no setting of these packages")),
            },
        }
        Ok(())
    }

    /// What Django puts before every key of djforge's cache.
    pub(crate) fn redis_prefix(&self) -> String {
        format!("{}:{}:", self.djforge.key_prefix, self.djforge.version)
    }
}

/// Nested names as dotted ones. What is not nested in Django's settings stays whole.
fn flatten<'a>(name: &str, value: &'a Value, flat: &mut Vec<(String, &'a Value)>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                flatten(&name, value, flat);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            flat.push((name.to_owned(), value));
        }
    }
}

/// The table that Django makes for a model: `auth.User` has `auth_user`.
fn table_of(model: &str) -> Option<String> {
    let (app, model) = model.split_once('.')?;
    (!app.is_empty() && !model.is_empty()).then(|| format!("{app}_{model}").to_lowercase())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lengths_of_time_are_written_in_any_of_the_ways_that_people_know() {
        for written in [
            json!("1 00:00:00"),
            json!("24:00:00"),
            json!(86_400),
            json!("86400"),
            json!("P1D"),
            json!("PT24H"),
            json!("1d"),
        ] {
            assert_eq!(Span::of(&written), Some(Span::DAY), "{written}");
        }
        for wrong in
            [json!("-1 00:00:00"), json!("soon"), json!(true), json!(null), json!(-1), json!("1e300"), json!("P1Y")]
        {
            assert_eq!(Span::of(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn nested_and_dotted_names_are_one_and_a_name_of_nobody_is_an_error() {
        let nested = json!({
            "AUTH_USER_MODEL": "labuser.User",
            "REST_KNOX": { "TOKEN_TTL": null, "AUTO_REFRESH": true, "TOKEN_PREFIX": "cf_" },
            "CACHES": { "default": { "TIMEOUT": 5 }, "tokens": { "TIMEOUT": 1_000, "KEY_PREFIX": "shop", "BACKEND": "x" } },
            "DJFORGE_REDIS_MULTITOKENS": { "REDIS_DB_NAME": "tokens", "RESET_TOKEN_TTL_ON_USER_LOG_IN": false },
        });
        let dotted = json!({
            "USER_TABLE": "labuser_user",
            "REST_KNOX.TOKEN_TTL": null,
            "REST_KNOX.AUTO_REFRESH": true,
            "TIMEOUT": 1_000,
            "CACHES.tokens.KEY_PREFIX": "shop",
            "DJFORGE_REDIS_MULTITOKENS.RESET_TOKEN_TTL_ON_USER_LOG_IN": false,
        });
        let settings = Settings::of(&nested).expect("settings");
        assert_eq!(settings, Settings::of(&dotted).expect("settings"));
        assert_eq!(settings.user_table.as_deref(), Some("labuser_user"));
        assert_eq!(settings.redis_prefix(), "shop:1:");
        assert_eq!((settings.knox.ttl, settings.djforge.timeout), (None, Some(Span(1_000_000))));
        for (wrong, named) in [
            (json!({ "REST_KNOX": { "TOKEN_TLL": 5 } }), "REST_KNOX.TOKEN_TLL"),
            (json!({ "AUTH_TOKEN_VALIDITY": "soon" }), "AUTH_TOKEN_VALIDITY"),
            (json!({ "SECRET_KEY": "hunter2" }), "SECRET_KEY"),
        ] {
            let why = Settings::of(&wrong).expect_err("wrong");
            assert!(why.contains(named) && !why.contains("hunter2"), "{why}");
        }
        assert_eq!(Settings::of(&json!({})), Ok(Settings::default()));
    }
}
