//! The answers of the real packages, byte for byte but for times and numbers of records: status, body, and the headers that are
//! anybody's to see.

use axum::body::Body;
use axum::http::{HeaderName, Method, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use counterfoil_http::DialectName;
use serde_json::{Value, json};

use super::site::Site;
use crate::world::{Actor, Answer};

const HEADERS: [&str; 10] = [
    "content-type",
    "www-authenticate",
    "allow",
    "location",
    "retry-after",
    "vary",
    "x-frame-options",
    "x-content-type-options",
    "referrer-policy",
    "cross-origin-opener-policy",
];

/// Replays every case of a package whose settings are in `profiles`, and tells how many there were.
pub(crate) async fn replay(package: &str, name: DialectName, path: &str, except: &[&str]) -> usize {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../conformance/cases/given");
    let read = |kind: &str| -> Value {
        serde_json::from_slice(&std::fs::read(format!("{folder}/{kind}/{package}.json")).unwrap()).unwrap()
    };
    let (cases, recorded) = (read("scenarios"), read("recordings"));
    let setup = &cases["setup"];
    let mut replayed = 0;
    for case in cases["scenarios"].as_array().unwrap() {
        let called = case["name"].as_str().unwrap();
        if except.contains(&called) {
            continue;
        }
        let profile = case["profile"].as_str().unwrap_or("default");
        let mut settings = site_settings(name);
        for (key, value) in setup["profiles"][profile]["settings"].as_object().unwrap() {
            // Of the laboratory, not of the package.
            if !key.starts_with("LAB_") {
                settings[key] = plain(value);
            }
        }
        let site = Site::with(name, path, &settings, setup).await;
        let mut known: Vec<(String, String)> = setup["tokens"].as_array().into_iter().flatten().map(token).collect();
        for (at, step) in case["steps"].as_array().unwrap().iter().enumerate() {
            if let Some(relation) = step["relation"].as_array() {
                let value = |at: usize| known.iter().rfind(|(name, _)| relation[at] == *name).unwrap().1.clone();
                assert_eq!(value(1) == value(2), relation[0] == "eq", "{called}");
                continue;
            }
            if let Some(seconds) = step["sleep"].as_f64() {
                site.server.wait((seconds * 1_000.0).round() as u64);
                continue;
            }
            let answers = recorded[called]["steps"].as_array().unwrap();
            let expected = &answers.iter().find(|answer| answer["step"] == at).unwrap()["raw"];
            let answer = ask(&site, step, &known).await;
            let told = format!("{called}, step {at}: {}", answer.text());
            if step.get("peer_bug").is_some() {
                assert!(answer.status < 500, "{told}");
                captured(step, &answer, &mut known);
                continue;
            }
            let text = same_token(answer.text(), expected["body"].as_str().unwrap());
            assert_eq!(answer.status, expected["status"], "{told}");
            assert_eq!(masked(&text), masked(expected["body"].as_str().unwrap()), "{told}");
            for header in HEADERS {
                assert_eq!(
                    answer.header(header),
                    expected["headers"][header].as_str().unwrap_or(""),
                    "{header}: {told}"
                );
            }
            captured(step, &answer, &mut known);
        }
        replayed += 1;
    }
    replayed
}

/// What the recorded site has before a profile says anything.
fn site_settings(name: DialectName) -> Value {
    match name {
        DialectName::Durin => json!({
            "REST_FRAMEWORK.DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
            "REST_FRAMEWORK.DEFAULT_THROTTLE_RATES": {"user_per_client": "1000/m"},
            "REST_DURIN": {"API_ACCESS_CLIENT_NAME": "api"},
        }),
        DialectName::Authtoken
        | DialectName::Knox
        | DialectName::Multitoken
        | DialectName::Advanced
        | DialectName::Djforge
        | DialectName::RestAuthtoken => json!({}),
    }
}

/// With seconds for `py:timedelta(seconds=4)`.
fn plain(value: &Value) -> Value {
    match value {
        Value::String(text) => match text.strip_prefix("py:timedelta(seconds=") {
            Some(seconds) => json!(seconds.trim_end_matches(')').parse::<u64>().unwrap()),
            None => value.clone(),
        },
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), plain(value))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => value.clone(),
    }
}

fn token(token: &Value) -> (String, String) {
    (format!("t:{}", token["label"].as_str().unwrap()), token["token"].as_str().unwrap().to_owned())
}

/// Keeps what later steps ask for.
fn captured(step: &Value, answer: &Answer, known: &mut Vec<(String, String)>) {
    for (name, place) in step["capture"].as_object().into_iter().flatten() {
        let place = place.as_str().unwrap();
        let value = match place.strip_prefix("json:[client=").and_then(|place| place.split_once("].")) {
            Some((client, field)) => {
                let all = answer.json();
                let found = all.as_array().unwrap().iter().find(|one| one["client"] == client).unwrap().clone();
                found[field].to_string()
            }
            None if place.starts_with("re:") => {
                answer.json()["token"].as_str().unwrap_or_default().trim_start_matches("cf_").to_owned()
            }
            None => answer.json()[place.trim_start_matches("json:")].as_str().unwrap_or_default().to_owned(),
        };
        known.push((name.clone(), value));
    }
}

/// Without what changes from run to run: times, but not how they are written, and the numbers of records.
fn masked(text: &str) -> String {
    let mut masked = String::new();
    let mut rest = text;
    let shape = |text: &str| {
        let digits = |text: &str| text.chars().map(|one| if one.is_ascii_digit() { '0' } else { one }).collect();
        let shapes = ["0000-00-00T00:00:00.000000Z", "0000-00-00 00:00:00"];
        let shape = shapes.into_iter().find(|shape| {
            let same: Option<String> = text.get(..shape.len()).map(digits);
            same.as_deref() == Some(*shape)
        });
        shape.map(str::len)
    };
    while let Some(first) = rest.chars().next() {
        if let Some(length) = shape(rest) {
            masked.push_str(&format!("<time of {length}>"));
            rest = &rest[length..];
        } else if let Some(number) = rest.strip_prefix("\"id\":") {
            masked.push_str("\"id\":<number>");
            rest = number.trim_start_matches(|one: char| one.is_ascii_digit());
        } else {
            masked.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    masked
}

/// With the recorded token in the place of ours, where both have the same form.
pub(crate) fn same_token(text: &str, recorded: &str) -> String {
    let (Ok(ours), Ok(theirs)) = (serde_json::from_str::<Value>(text), serde_json::from_str::<Value>(recorded)) else {
        return text.to_owned();
    };
    match (ours["token"].as_str(), theirs["token"].as_str()) {
        (Some(ours), Some(theirs))
            if ours.len() == theirs.len()
                && ours.trim_start_matches("cf_").bytes().all(|byte| byte.is_ascii_hexdigit()) =>
        {
            text.replace(ours, theirs)
        }
        (_, _) => text.to_owned(),
    }
}

fn filled(text: &str, known: &[(String, String)]) -> String {
    known.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{{{name}}}}}"), value))
}

async fn ask(site: &Site, step: &Value, known: &[(String, String)]) -> Answer {
    let mut actor: Actor = site.stranger().with(header::ACCEPT, "*/*").with(header::USER_AGENT, "a case");
    let mut body = Vec::new();
    if let Some(json) = step.get("json") {
        actor = actor.with(header::CONTENT_TYPE, "application/json");
        body = filled(&json.to_string(), known).into_bytes();
    } else if let Some(Value::Object(form)) = step.get("form") {
        actor = actor.with(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let pairs: Vec<String> =
            form.iter().map(|(name, value)| format!("{name}={}", value.as_str().unwrap().replace(' ', "+"))).collect();
        body = pairs.join("&").into_bytes();
    } else if let Some(Value::Object(form)) = step.get("multipart") {
        actor = actor.with(header::CONTENT_TYPE, "multipart/form-data; boundary=b");
        let part = |(name, value): (&String, &Value)| {
            format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{}\r\n", value.as_str().unwrap())
        };
        body = (form.iter().map(part).collect::<String>() + "--b--\r\n").into_bytes();
    } else if let Some(text) = step.get("body") {
        body = text.as_str().unwrap().as_bytes().to_vec();
    } else if let Some(encoded) = step.get("body_b64") {
        body = STANDARD.decode(encoded.as_str().unwrap()).unwrap();
    }
    for (name, value) in step["headers"].as_object().into_iter().flatten() {
        let name: HeaderName = name.parse().unwrap();
        let value = match value {
            Value::String(text) => filled(text, known).into_bytes(),
            Value::Object(encoded) => STANDARD.decode(encoded["b64"].as_str().unwrap()).unwrap(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => continue,
        };
        actor = actor.saying(name, value);
    }
    let method: Method = step["method"].as_str().unwrap().parse().unwrap();
    actor.send(method, &filled(step["path"].as_str().unwrap(), known), Body::from(body)).await
}
