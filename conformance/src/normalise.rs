//! The form in which answers are compared: what changes from run to run is named, what a client could notice stays.
//!
//! Recordings hold this form, so every name in it is a format: see the tests, which hold it to all that was recorded.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use crate::cases::Step;
use crate::exchange::Answer;
use crate::json::Json;

/// The headers that are compared.
const HEADERS: [&str; 6] = ["content-type", "www-authenticate", "allow", "location", "retry-after", "vary"];

/// What an answer is read against.
#[derive(Debug, Clone, Default)]
pub(crate) struct Context {
    /// Texts and their names, the longest first.
    pub(crate) names: Vec<(String, String)>,
    /// When the answer was there, in seconds of the epoch.
    pub(crate) at: f64,
}

/// A pattern that is known when this is compiled.
fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap_or_else(|error| panic!("{error}"))
}

macro_rules! patterns {
    ($($name:ident = $text:expr;)*) => {
        $(static $name: LazyLock<Regex> = LazyLock::new(|| pattern($text));)*
    };
}

patterns! {
    HEX = "^[0-9a-f]{16,}$";
    UUID4 = "^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$";
    WITH_HASH = r"^([0-9a-f]+):hash:\$pbkdf2-sha256\$([0-9]+)\$[A-Za-z0-9./]{22}\$[A-Za-z0-9./]{43}$";
    BASE64URL = "^[A-Za-z0-9_-]+=*$";
    PREFIXED_HEX = "^([a-z]+_)([0-9a-f]+)$";
    ISO_TIME = r"([0-9]{4}-[0-9][0-9]-[0-9][0-9])([T ])([0-9][0-9]:[0-9][0-9]:[0-9][0-9])(\.[0-9]+)?(Z|[+-][0-9][0-9]:[0-9][0-9])?";
    IN_SECONDS = r"\bin ([0-9]+) second";
    ANY_WITH_HASH = r"[0-9a-f]{40}:hash:\$pbkdf2-sha256\$[0-9]+\$[A-Za-z0-9./]{22}\$[A-Za-z0-9./]{43}";
    ANY_UUID4 = r"\b[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\b";
    ANY_HEX = r"\b[0-9a-f]{32,}\b";
}

/// What a token looks like: `hex64`, `uuid4`, `b64url64`.
pub(crate) fn shape(text: &str) -> String {
    if HEX.is_match(text) {
        return format!("hex{}", text.len());
    }
    if UUID4.is_match(text) {
        return "uuid4".to_owned();
    }
    if let Some(found) = WITH_HASH.captures(text) {
        return format!("hex{}:hash:pbkdf2-sha256/{}", found[1].len(), &found[2]);
    }
    if text.len() >= 32 && BASE64URL.is_match(text) {
        return format!("b64url{}", text.len());
    }
    if let Some(found) = PREFIXED_HEX.captures(text) {
        return format!("{}hex{}", &found[1], found[2].len());
    }
    format!("str{}", text.chars().count())
}

/// Rounds to a multiple, halves to the even one as Python does.
fn rounded(number: f64, to: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "a number of seconds")]
    let rounded = ((number / to).round_ties_even() * to) as i64;
    rounded
}

fn text(text: &str, context: &Context) -> String {
    let mut text = text.to_owned();
    for (value, name) in &context.names {
        text = text.replace(value, name);
    }
    let text = ISO_TIME.replace_all(&text, |found: &Captures<'_>| time(found, context.at));
    let text = IN_SECONDS.replace_all(&text, |found: &Captures<'_>| {
        format!("in <~{}> second", rounded(found[1].parse().unwrap_or_default(), 10.0))
    });
    let text = ANY_WITH_HASH.replace_all(&text, |found: &Captures<'_>| format!("<{}>", shape(&found[0])));
    let text = ANY_UUID4.replace_all(&text, "<uuid4>");
    ANY_HEX.replace_all(&text, |found: &Captures<'_>| format!("<hex{}>", found[0].len())).into_owned()
}

/// Precision, zone and distance from now are kept of a time: `<timeT.6Z +86400s>`. What only looks like a time stays.
fn time(found: &Captures<'_>, now: f64) -> String {
    let instant = format!("{}T{}", &found[1], &found[3]).parse::<jiff::civil::DateTime>();
    let instant = instant.ok().and_then(|at| jiff::tz::TimeZone::UTC.to_timestamp(at).ok());
    let Some(instant) = instant else {
        return found[0].to_owned();
    };
    let zone = found.get(5).map_or("", |zone| zone.as_str());
    #[expect(clippy::cast_precision_loss, reason = "seconds of the epoch are far below 2^53")]
    let distance = (instant.as_second() - east_of_greenwich(zone)) as f64 - now;
    let relative = if distance.abs() < 120.0 { "~now".to_owned() } else { format!("{:+}s", rounded(distance, 60.0)) };
    let between = if &found[2] == " " { "_" } else { "T" };
    let precision = found.get(4).map_or_else(String::new, |fraction| format!(".{}", fraction.len() - 1));
    format!("<time{between}{precision}{zone} {relative}>")
}

/// The seconds of `+01:00`; none for `Z` and for nothing.
fn east_of_greenwich(zone: &str) -> i64 {
    let number = |range: std::ops::Range<usize>| zone.get(range).and_then(|digits| digits.parse::<i64>().ok());
    let seconds = number(1..3).unwrap_or(0) * 3600 + number(4..6).unwrap_or(0) * 60;
    if zone.starts_with('-') { -seconds } else { seconds }
}

fn json(value: &Json, context: &Context, key: Option<&str>) -> Json {
    match value {
        Json::Object(entries) => {
            let mut normal = Vec::new();
            for (name, value) in entries {
                Json::insert(&mut normal, text(name, context), json(value, context, Some(name)));
            }
            Json::Object(normal)
        }
        Json::List(items) => Json::List(items.iter().map(|item| json(item, context, key)).collect()),
        Json::Null | Json::Bool(_) => value.clone(),
        Json::Number(_) if !value.is_integer() => value.clone(),
        Json::Number(digits) => match key {
            Some(key) if key.ends_with("_ttl") => {
                let seconds: f64 = digits.parse().unwrap_or_default();
                Json::Text(if seconds > 20.0 { format!("~{}", rounded(seconds, 10.0)) } else { "<short>".to_owned() })
            }
            Some("id" | "pk") => Json::text("<int>"),
            Some(_) | None => value.clone(),
        },
        Json::Text(it) if key == Some("token") && !context.names.iter().any(|(value, _)| value == it) => {
            Json::Text(format!("<{}>", shape(it)))
        }
        Json::Text(it) => Json::Text(text(it, context)),
    }
}

/// `{"status", "headers", "body", "kind"}`, as far as the step compares them.
pub(crate) fn normal_form(answer: &Answer, context: &Context, step: &Step) -> Json {
    let compared = |part: &str| step.compare.as_ref().is_none_or(|parts| parts.iter().any(|known| known == part));
    let mut headers = Vec::new();
    for name in HEADERS {
        if let Some(value) = answer.header(name)
            && (compared("headers") || compared(name))
        {
            headers.push((name.to_owned(), Json::Text(header(name, value, context))));
        }
    }
    let mut normal = vec![
        ("status".to_owned(), Json::Number(answer.status.to_string())),
        ("headers".to_owned(), Json::Object(headers)),
    ];
    if compared("body") {
        let (body, kind) = body(answer, context);
        normal.push(("body".to_owned(), body));
        normal.push(("kind".to_owned(), Json::text(kind)));
    }
    Json::Object(normal)
}

fn header(name: &str, value: &str, context: &Context) -> String {
    let normal = text(value, context);
    if name == "retry-after"
        && normal.bytes().all(|byte| byte.is_ascii_digit())
        && let Ok(seconds) = normal.parse::<f64>()
        && seconds > 5.0
    {
        return format!("~{}", rounded(seconds, 10.0));
    }
    normal
}

fn body(answer: &Answer, context: &Context) -> (Json, &'static str) {
    if answer.body.is_empty() {
        return (Json::Null, "empty");
    }
    let as_text = || Json::Text(text(&String::from_utf8_lossy(&answer.body), context));
    if !answer.header("content-type").unwrap_or_default().contains("json") {
        return (as_text(), "text");
    }
    match Json::parse(&answer.body) {
        Ok(value) => (json(&value, context, None), "json"),
        Err(_) => (as_text(), "badjson"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_noon(names: &[(&str, &str)]) -> Context {
        let names = names.iter().map(|(value, name)| ((*value).to_owned(), (*name).to_owned())).collect();
        // 2026-11-20T12:00:00Z
        Context { names, at: 1_795_176_000.0 }
    }

    #[test]
    fn shapes_say_what_a_token_looks_like() {
        let djforge = format!("{}:hash:$pbkdf2-sha256$29000${}${}", "a".repeat(40), "b".repeat(22), "c".repeat(43));
        for (token, shape_of_it) in [
            ("0123456789abcdef", "hex16"),
            ("0123456789abcde", "str15"),
            ("0f8fad5b-d9cb-469f-a165-70867728950e", "uuid4"),
            ("0f8fad5b-d9cb-169f-a165-70867728950e", "b64url36"),
            (&djforge, "hex40:hash:pbkdf2-sha256/29000"),
            ("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ==", "b64url40"),
            ("cf_00ff", "cf_hex4"),
            ("ümlaut", "str6"),
        ] {
            assert_eq!(shape(token), shape_of_it, "{token}");
        }
    }

    #[test]
    fn times_keep_their_precision_zone_and_distance() {
        for (written, normal) in [
            ("2026-11-20T12:01:59Z", "<timeTZ ~now>"),
            ("2026-11-21T12:00:00.123456Z", "<timeT.6Z +86400s>"),
            ("2026-11-20 10:00:00", "<time_ -7200s>"),
            ("2026-11-20T15:00:00.5+01:00!", "<timeT.1+01:00 +7200s>!"),
            ("2026-11-20T15:00:00-01:30", "<timeT-01:30 +16200s>"),
            ("2026-13-20T15:00:00Z", "2026-13-20T15:00:00Z"),
        ] {
            assert_eq!(text(written, &at_noon(&[])), normal);
        }
    }

    #[test]
    fn waiting_times_and_loose_tokens_lose_their_value_only() {
        let normal = text("available in 57 seconds; 0f8fad5b-d9cb-469f-a165-70867728950e", &at_noon(&[]));
        assert_eq!(normal, "available in <~60> seconds; <uuid4>");
        assert_eq!(text(&"ab".repeat(16), &at_noon(&[])), "<hex32>");
        assert_eq!(header("retry-after", "57", &at_noon(&[])), "~60");
        assert_eq!(header("retry-after", "5", &at_noon(&[])), "5");
    }

    #[test]
    fn numbers_lose_their_value_only_under_the_keys_that_count_rows_and_seconds() {
        let value =
            Json::parse(br#"{"id":7,"n":7,"hash_ttl":998,"user_ttl":3,"x_ttl":null,"token":"abc","list":["KK"]}"#);
        assert_eq!(
            json(&value.unwrap(), &at_noon(&[("KK", "<tok>")]), None).compact(),
            r#"{"id": "<int>", "n": 7, "hash_ttl": "~1000", "user_ttl": "<short>", "x_ttl": null, "token": "<str3>", "list": ["<tok>"]}"#
        );
    }
}
