//! A request as bytes, written as Python's `http.client` writes it: the recordings were made with that.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::cases::{Body, Request};
use crate::json::Json;
use crate::template::{Missing, Values};

const BOUNDARY: &str = "labboundary7f3a";

/// Why a request cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unmade {
    Missing(Missing),
    /// The scenario itself is wrong.
    Wrong(String),
}

impl From<Missing> for Unmade {
    fn from(missing: Missing) -> Unmade {
        Unmade::Missing(missing)
    }
}

impl Request {
    /// The bytes to send to `host`, whose paths begin with `base`.
    pub(crate) fn bytes(&self, host: &str, base: &str, values: &Values) -> Result<Vec<u8>, Unmade> {
        let path = values.fill(&self.path)?;
        let mut headers: Vec<(String, Vec<u8>)> = vec![
            ("Accept".to_owned(), b"*/*".to_vec()),
            ("User-Agent".to_owned(), b"counterfoil-conformance/1".to_vec()),
        ];
        for (name, value) in &self.headers {
            let name = values.fill(name)?;
            let value = values.fill_json(value)?;
            match header_value(&value)? {
                Some(bytes) => set(&mut headers, &name, bytes),
                None => headers.retain(|(known, _)| *known != name),
            }
        }
        let (content_type, body) = self.body.bytes(values)?;
        if let Some(content_type) = content_type
            && !headers.iter().any(|(name, _)| name == "Content-Type")
        {
            headers.push(("Content-Type".to_owned(), content_type.into_bytes()));
        }
        if body.is_some() || ["POST", "PUT", "PATCH"].contains(&self.method.as_str()) {
            let length = body.as_ref().map_or(0, Vec::len);
            headers.push(("Content-Length".to_owned(), length.to_string().into_bytes()));
        }
        headers.push(("Connection".to_owned(), b"close".to_vec()));

        let mut bytes = format!("{} {base}{path} HTTP/1.1\r\nHost: {host}\r\n", self.method).into_bytes();
        for (name, value) in headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend(body.unwrap_or_default());
        Ok(bytes)
    }
}

/// In place of one of the same spelling: another spelling is another line, as in a dict.
fn set(headers: &mut Vec<(String, Vec<u8>)>, name: &str, value: Vec<u8>) {
    match headers.iter_mut().find(|(known, _)| known == name) {
        Some(header) => header.1 = value,
        None => headers.push((name.to_owned(), value)),
    }
}

/// `null` takes a header away that is sent by default; `{"b64": …}` is bytes that no text could be.
fn header_value(value: &Json) -> Result<Option<Vec<u8>>, Unmade> {
    match (value, value.get("b64").and_then(Json::as_str)) {
        (Json::Null, _) => Ok(None),
        (_, Some(encoded)) => decode(encoded).map(Some),
        (plain, None) => Ok(Some(plain.to_python_text().into_bytes())),
    }
}

impl Body {
    fn bytes(&self, values: &Values) -> Result<(Option<String>, Option<Vec<u8>>), Unmade> {
        let typed = |content_type: &str, body: Vec<u8>| (Some(content_type.to_owned()), Some(body));
        Ok(match self {
            Body::None => (None, None),
            Body::Json(value) => typed("application/json", values.fill_json(value)?.as_python_dumps().into_bytes()),
            Body::Form(fields) => {
                let pairs = pairs(&values.fill_json(fields)?)?;
                let pairs = pairs.iter().map(|(name, value)| format!("{}={}", quoted(name), quoted(value)));
                let body = pairs.collect::<Vec<_>>().join("&");
                typed("application/x-www-form-urlencoded", body.into_bytes())
            }
            Body::Multipart(fields) => {
                let mut body = String::new();
                for (name, value) in pairs(&values.fill_json(fields)?)? {
                    let disposition = format!("Content-Disposition: form-data; name=\"{name}\"");
                    body.push_str(&format!("--{BOUNDARY}\r\n{disposition}\r\n\r\n{value}\r\n"));
                }
                body.push_str(&format!("--{BOUNDARY}--\r\n"));
                typed(&format!("multipart/form-data; boundary={BOUNDARY}"), body.into_bytes())
            }
            Body::Text(text) => (None, Some(values.fill(text)?.into_bytes())),
            Body::Base64(encoded) => (None, Some(decode(encoded)?)),
        })
    }
}

fn decode(encoded: &str) -> Result<Vec<u8>, Unmade> {
    STANDARD.decode(encoded).map_err(|error| Unmade::Wrong(format!("not base64: {error}")))
}

/// An object, or a list of pairs where a name comes more than once.
fn pairs(fields: &Json) -> Result<Vec<(String, String)>, Unmade> {
    match fields {
        Json::Object(entries) => {
            Ok(entries.iter().map(|(name, value)| (name.clone(), value.to_python_text())).collect())
        }
        Json::List(items) => items.iter().map(pair).collect(),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) => {
            Err(Unmade::Wrong("fields are neither an object nor a list".to_owned()))
        }
    }
}

fn pair(item: &Json) -> Result<(String, String), Unmade> {
    match item.as_list() {
        Some([name, value]) => Ok((name.to_python_text(), value.to_python_text())),
        _ => Err(Unmade::Wrong("a field is not a name and a value".to_owned())),
    }
}

/// As `urllib.parse.quote_plus`.
fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => quoted.push('+'),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => quoted.push(char::from(byte)),
            other => quoted.push_str(&format!("%{other:02X}")),
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::Action;

    /// What is sent for a step that is written as in a scenario.
    fn sent(step: &str) -> Result<Vec<u8>, Unmade> {
        let step = Json::parse(step.as_bytes()).unwrap();
        let mut values = Values::default();
        values.set("tok", Json::text("T"));
        let Action::Request(request) = crate::cases::action_of(&step).unwrap() else { panic!("no request") };
        request.bytes("127.0.0.1:80", "", &values)
    }

    fn text(step: &str) -> String {
        String::from_utf8(sent(step).unwrap()).unwrap()
    }

    #[test]
    fn a_request_is_written_byte_for_byte() {
        assert_eq!(
            text(
                r#"{"method":"POST","path":"/x/{{tok}}","json":{"a":"ü"},"headers":{"Authorization":"Token {{tok}}"}}"#
            ),
            "POST /x/T HTTP/1.1\r\nHost: 127.0.0.1:80\r\nAccept: */*\r\nUser-Agent: counterfoil-conformance/1\r\n\
             Authorization: Token T\r\nContent-Type: application/json\r\nContent-Length: 15\r\nConnection: close\r\n\r\n\
             {\"a\": \"\\u00fc\"}"
        );
    }

    #[test]
    fn headers_take_the_place_of_what_is_sent_by_default_and_null_takes_it_away() {
        let sent = text(r#"{"method":"GET","path":"/","headers":{"Accept":"a/b","User-Agent":null,"accept":"c/d"}}"#);
        assert_eq!(
            sent,
            "GET / HTTP/1.1\r\nHost: 127.0.0.1:80\r\nAccept: a/b\r\naccept: c/d\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn a_header_may_be_bytes_that_are_no_text() {
        let sent = sent(r#"{"method":"GET","path":"/","headers":{"Authorization":{"b64":"VG9rZW4g//4="}}}"#).unwrap();
        assert!(sent.windows(26).any(|bytes| bytes == b"Authorization: Token \xff\xfe\r\nC"));
    }

    #[test]
    fn forms_are_written_as_python_writes_them() {
        let form = text(r#"{"method":"POST","path":"/","form":[["a b","ü&~"],["a",1],["a",null]]}"#);
        assert!(form.ends_with("\r\n\r\na+b=%C3%BC%26~&a=1&a=None"), "{form}");
        let multipart = text(r#"{"method":"PUT","path":"/","multipart":{"a":"b"}}"#);
        assert!(multipart.contains("Content-Type: multipart/form-data; boundary=labboundary7f3a\r\n"), "{multipart}");
        let part =
            "--labboundary7f3a\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n--labboundary7f3a--\r\n";
        assert!(multipart.ends_with(part), "{multipart}");
    }

    #[test]
    fn a_body_alone_has_no_type_and_a_post_without_one_says_so() {
        let body = text(r#"{"method":"GET","path":"/","body":"x"}"#);
        assert!(body.ends_with("Content-Length: 1\r\nConnection: close\r\n\r\nx") && !body.contains("Type"), "{body}");
        assert!(text(r#"{"method":"POST","path":"/"}"#).contains("Content-Length: 0\r\n"));
        assert!(!text(r#"{"method":"DELETE","path":"/"}"#).contains("Content-Length"));
    }

    #[test]
    fn what_was_never_captured_is_named() {
        let unmade = sent(r#"{"method":"GET","path":"/{{gone}}"}"#);
        assert_eq!(unmade, Err(Unmade::Missing(Missing("gone".to_owned()))));
    }
}
