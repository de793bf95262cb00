//! The answers of the real packages, byte for byte: status, body, and the headers that are anybody's to see.

use axum::body::Body;
use axum::http::{HeaderName, Method, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use counterfoil_http::DialectName;
use serde_json::Value;

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
        let mut settings = setup["profiles"][profile]["settings"].clone();
        // Of the laboratory, not of the package.
        settings.as_object_mut().unwrap().retain(|key, _| !key.starts_with("LAB_"));
        let site = Site::with(name, path, &settings, setup).await;
        let mut known: Vec<(String, String)> = setup["tokens"].as_array().into_iter().flatten().map(token).collect();
        for (at, step) in case["steps"].as_array().unwrap().iter().enumerate() {
            if step.get("relation").is_some() {
                continue;
            }
            let expected = &recorded[called]["steps"][at]["raw"];
            let answer = ask(&site, step, &known).await;
            let told = format!("{called}, step {at}: {}", answer.text());
            let text = same_token(answer.text(), expected["body"].as_str().unwrap());
            assert_eq!(answer.status, expected["status"], "{told}");
            assert_eq!(text, expected["body"].as_str().unwrap(), "{told}");
            for header in HEADERS {
                assert_eq!(
                    answer.header(header),
                    expected["headers"][header].as_str().unwrap_or(""),
                    "{header}: {told}"
                );
            }
            for name in step["capture"].as_object().into_iter().flat_map(|captured| captured.keys()) {
                let token = answer.json()["token"].as_str().unwrap_or_default().to_owned();
                known.push((name.clone(), token));
            }
        }
        replayed += 1;
    }
    replayed
}

fn token(token: &Value) -> (String, String) {
    (format!("t:{}", token["label"].as_str().unwrap()), token["token"].as_str().unwrap().to_owned())
}

/// With the recorded token in the place of ours, where both have the same form.
pub(crate) fn same_token(text: &str, recorded: &str) -> String {
    let (Ok(ours), Ok(theirs)) = (serde_json::from_str::<Value>(text), serde_json::from_str::<Value>(recorded)) else {
        return text.to_owned();
    };
    match (ours["token"].as_str(), theirs["token"].as_str()) {
        (Some(ours), Some(theirs))
            if ours.len() == theirs.len() && ours.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
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
    actor.send(method, step["path"].as_str().unwrap(), Body::from(body)).await
}
