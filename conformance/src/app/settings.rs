//! A profile's Django settings as a dialect takes them: [`of_profile`].

use regex::Regex;
use serde_json::{Map, Value, json};

use super::{Unable, Wanted};
use crate::json::Json;

/// The settings of a site.
#[derive(Debug, Clone, Default)]
pub(super) struct Django {
    pub(super) for_dialect: Map<String, Value>,
    /// Whether the table of locks is missing.
    pub(super) no_locks: bool,
}

/// What the sites that were recorded have before a profile says anything; see `conformance/python/labapp/settings.py`.
fn before_profile(package: &str) -> Value {
    match package {
        "durin" => json!({
            "REST_FRAMEWORK": {
                "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
                "DEFAULT_THROTTLE_RATES": {"user_per_client": "1000/m"},
            },
            "REST_DURIN": {"API_ACCESS_CLIENT_NAME": "api"},
        }),
        "djforge" => json!({"CACHES": {"tokens": {"TIMEOUT": null}}}),
        // The link itself confirms.
        "restauthtoken" => json!({"confirm": "get"}),
        _ => json!({}),
    }
}

/// The settings of the profile over those of its site.
pub(super) fn of_profile(wanted: Wanted<'_>) -> Result<Django, Unable> {
    let profile = wanted.setup.settings(wanted.profile);
    let profile = profile.ok_or_else(|| format!("there is no profile {:?}", wanted.profile))?;
    let mut django = Django::default();
    if let Value::Object(settings) = before_profile(wanted.package) {
        django.for_dialect = settings;
    }
    for (name, value) in profile.as_object().unwrap_or_default() {
        match name.as_str() {
            // What stays good for a while after a logout there is asked of the store here.
            "LAB_CACHED_AUTH" => {}
            // A model of users with the field that says whether an address is confirmed: ours has it.
            "LAB_CONFIRM_USER" => {}
            "LAB_NO_LOCK_TABLE" => django.no_locks = true,
            "LAB_TOKENS_TIMEOUT" => put(&mut django.for_dialect, "CACHES.tokens.TIMEOUT", setting(value)?),
            _ => put(&mut django.for_dialect, name, setting(value)?),
        }
    }
    name_fields(&mut django.for_dialect);
    Ok(django)
}

/// A dotted name reaches into an object.
fn put(settings: &mut Map<String, Value>, name: &str, value: Value) {
    match name.split_once('.') {
        None => {
            settings.insert(name.to_owned(), value);
        }
        Some((outer, inner)) => {
            let outer = settings.entry(outer).or_insert_with(|| json!({}));
            if let Value::Object(outer) = outer {
                put(outer, inner, value);
            }
        }
    }
}

/// A serializer is code of the site; what this one shows of a user is said by names.
fn name_fields(settings: &mut Map<String, Value>) {
    if settings.get("USER_SERIALIZER") == Some(&json!("labapp.serializers.OwnUserSerializer")) {
        settings.remove("USER_SERIALIZER");
        settings.insert("USER_FIELDS".to_owned(), json!(["id", "username"]));
    }
    for value in settings.values_mut() {
        if let Value::Object(inner) = value {
            name_fields(inner);
        }
    }
}

fn setting(value: &Json) -> Result<Value, Unable> {
    Ok(match value {
        Json::Null => Value::Null,
        Json::Bool(it) => Value::Bool(*it),
        Json::Number(digits) => digits.parse().map(Value::Number).map_err(|_| format!("{digits} is no number"))?,
        Json::Text(text) if text.starts_with("py:") => seconds(text)?,
        Json::Text(text) => Value::String(text.clone()),
        Json::List(items) => Value::Array(items.iter().map(setting).collect::<Result<_, _>>()?),
        Json::Object(entries) => {
            let entries = entries.iter().map(|(key, value)| Ok((key.clone(), setting(value)?)));
            Value::Object(entries.collect::<Result<_, Unable>>()?)
        }
    })
}

/// `py:timedelta(days=1, seconds=4)` in seconds.
fn seconds(text: &str) -> Result<Value, Unable> {
    let unknown = || format!("what is the setting {text:?}?");
    let inside = text.strip_prefix("py:").map(|text| text.trim_start_matches("datetime."));
    let inside = inside.and_then(|text| text.strip_prefix("timedelta(")?.strip_suffix(')')).ok_or_else(unknown)?;
    let part = Regex::new(r"^\s*(weeks|days|hours|minutes|seconds|milliseconds)\s*=\s*(-?[0-9.]+)\s*$")
        .map_err(super::told)?;
    let mut seconds = 0.0;
    for written in inside.split(',').filter(|written| !written.trim().is_empty()) {
        let found = part.captures(written).ok_or_else(unknown)?;
        let unit = match &found[1] {
            "weeks" => 604_800.0,
            "days" => 86_400.0,
            "hours" => 3_600.0,
            "minutes" => 60.0,
            "seconds" => 1.0,
            _ => 0.001,
        };
        seconds += unit * found[2].parse::<f64>().map_err(|_| unknown())?;
    }
    #[expect(clippy::cast_possible_truncation, reason = "a number of seconds")]
    let whole = seconds as i64;
    #[expect(clippy::cast_precision_loss, reason = "a number of seconds")]
    let is_whole = whole as f64 == seconds;
    Ok(if is_whole { json!(whole) } else { json!(seconds) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::Passwords;
    use crate::cases::Setup;

    fn of(package: &str, settings: &str) -> Result<Value, Unable> {
        let setup = Setup {
            views: Vec::new(),
            users: Vec::new(),
            clients: Vec::new(),
            locks: Vec::new(),
            tokens: Vec::new(),
            profiles: vec![("p".to_owned(), Json::parse(settings.as_bytes()).unwrap())],
        };
        let passwords = Passwords::default();
        let wanted = Wanted { package, profile: "p", setup: &setup, passwords: &passwords };
        of_profile(wanted).map(|django| Value::Object(django.for_dialect))
    }

    #[test]
    fn a_profile_is_put_over_what_its_site_has() {
        assert_eq!(
            of("durin", r#"{"REST_FRAMEWORK.DEFAULT_PERMISSION_CLASSES":["x.AllowAny"],"REST_DURIN":{}}"#).unwrap(),
            json!({
                "REST_FRAMEWORK": {
                    "DEFAULT_PERMISSION_CLASSES": ["x.AllowAny"],
                    "DEFAULT_THROTTLE_RATES": {"user_per_client": "1000/m"},
                },
                "REST_DURIN": {},
            })
        );
    }

    #[test]
    fn what_only_a_python_site_has_is_said_in_words_of_the_dialects() {
        assert_eq!(
            of("djforge", r#"{"LAB_TOKENS_TIMEOUT":1000}"#).unwrap(),
            json!({"CACHES":{"tokens":{"TIMEOUT":1000}}})
        );
        let rest_authtoken = r#"{"LAB_CONFIRM_USER":true,"AUTH_TOKEN_VALIDITY":"py:timedelta(days=1, seconds=3)",
            "USER_SERIALIZER":"labapp.serializers.OwnUserSerializer","X":{"A":"py:timedelta(seconds=0.5)"}}"#;
        assert_eq!(
            of("restauthtoken", rest_authtoken).unwrap(),
            json!({"confirm": "get", "AUTH_TOKEN_VALIDITY": 86403, "USER_FIELDS": ["id", "username"], "X": {"A": 0.5}})
        );
        assert!(of("knox", r#"{"A":"py:lambda: 1"}"#).is_err());
    }
}
