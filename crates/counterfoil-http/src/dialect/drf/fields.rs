//! Fields of a serializer: what may be in them, and what is said where it may not.

use axum::http::StatusCode;
use counterfoil_core::Refusal;
use zeroize::Zeroizing;

use super::answer::Answer;
use super::json::Value;
use super::parse::{Data, Input};

/// A `CharField`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CharField {
    pub(crate) name: &'static str,
    /// What OPTIONS calls its type: `string`, unless it is another field and one that is only shown.
    pub(crate) kind: &'static str,
    /// As OPTIONS has it.
    pub(crate) label: &'static str,
    /// The same.
    pub(crate) help_text: Option<&'static str>,
    pub(crate) presence: Presence,
    /// Whether the blanks around it are dropped.
    pub(crate) trims: bool,
    pub(crate) allows_blank: bool,
    pub(crate) max_length: Option<usize>,
}

/// Whether a field has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Required,
    /// It may be left out, and then is this, or is not there.
    Optional(Option<&'static str>),
    /// It is in answers alone, and not read.
    ReadOnly,
}

impl CharField {
    /// A field that has to be there, is trimmed, and is not blank.
    pub(crate) const fn named(name: &'static str, label: &'static str) -> CharField {
        CharField {
            name,
            kind: "string",
            label,
            help_text: None,
            presence: Presence::Required,
            trims: true,
            allows_blank: false,
            max_length: None,
        }
    }

    /// What OPTIONS tells of it.
    pub(crate) fn described(&self) -> Value {
        let mut described = vec![
            ("type", Value::text(self.kind)),
            ("required", Value::Bool(self.presence == Presence::Required)),
            ("read_only", Value::Bool(self.presence == Presence::ReadOnly)),
            ("label", Value::text(self.label)),
        ];
        described.extend(self.help_text.map(|text| ("help_text", Value::text(text))));
        described.extend(self.max_length.map(|length| ("max_length", Value::int(length as i128))));
        Value::object(described)
    }

    /// What is in it; `None` where it is left out.
    ///
    /// # Errors
    /// What is said of it.
    pub(crate) fn read(&self, input: &Input<'_>) -> Result<Option<Zeroizing<String>>, Vec<String>> {
        let (text, surrogate) = match input {
            Input::Missing => {
                return match self.presence {
                    Presence::Required => Err(vec!["This field is required.".to_owned()]),
                    Presence::Optional(default) => Ok(default.map(|default| Zeroizing::new(default.to_owned()))),
                    Presence::ReadOnly => Ok(None),
                };
            }
            Input::Null => return Err(vec!["This field may not be null.".to_owned()]),
            Input::Other => return Err(vec!["Not a valid string.".to_owned()]),
            Input::Text(text, surrogate) => (*text, *surrogate),
            Input::Number(number) => (number.as_str(), None),
        };
        let text = if self.trims { stripped(text) } else { text };
        if text.is_empty() {
            let blank = "This field may not be blank.".to_owned();
            return if self.allows_blank { Ok(Some(Zeroizing::default())) } else { Err(vec![blank]) };
        }
        let mut wrong = Vec::new();
        if let Some(most) = self.max_length.filter(|&most| text.chars().count() > most) {
            wrong.push(format!("Ensure this field has no more than {most} characters."));
        }
        if text.contains('\0') {
            wrong.push("Null characters are not allowed.".to_owned());
        }
        if let Some(surrogate) = surrogate {
            wrong.push(format!("Surrogate characters are not allowed: U+{surrogate:X}."));
        }
        if wrong.is_empty() { Ok(Some(Zeroizing::new(text.to_owned()))) } else { Err(wrong) }
    }
}

/// The user name of DRF's own login.
pub(crate) const USERNAME: CharField = CharField::named("username", "Username");
/// Its password.
pub(crate) const PASSWORD: CharField = CharField { trims: false, ..CharField::named("password", "Password") };

/// Without what Python counts as white space: Unicode's, and the four separators of ASCII.
pub(crate) fn stripped(text: &str) -> &str {
    text.trim_matches(|character: char| character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character))
}

/// What was read of the fields.
#[derive(Default)]
pub(crate) struct Valid(Vec<(&'static str, Zeroizing<String>)>);

impl std::fmt::Debug for Valid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Valid {
    /// What is in a field, and is not there any more; `None` where it was left out.
    pub(crate) fn take(&mut self, name: &str) -> Option<Zeroizing<String>> {
        let at = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.swap_remove(at).1)
    }
}

/// What DRF's login serializer says of a name and a password that are not an account's.
pub(crate) fn credentials_rejected(refusal: &Refusal) -> Option<Answer> {
    let rejected = *refusal == Refusal::CredentialsRejected;
    rejected.then(|| Answer::non_field_error("Unable to log in with provided credentials."))
}

/// Reads all fields.
///
/// # Errors
/// 400 with what is said of each, in the order of `fields`.
pub(crate) fn validate(fields: &[CharField], data: &Data) -> Result<Valid, Answer> {
    is_object(data)?;
    let mut valid = Valid::default();
    let mut wrong: Vec<(&str, Vec<String>)> = Vec::new();
    for field in fields.iter().filter(|field| field.presence != Presence::ReadOnly) {
        match field.read(&data.field(field.name)) {
            Ok(Some(value)) => valid.0.push((field.name, value)),
            Ok(None) => {}
            Err(words) => wrong.push((field.name, words)),
        }
    }
    if wrong.is_empty() { Ok(valid) } else { Err(errors(wrong)) }
}

/// 400 with these words for these fields.
pub(crate) fn errors<'a>(wrong: impl IntoIterator<Item = (&'a str, Vec<String>)>) -> Answer {
    let fields = wrong.into_iter().map(|(name, words)| (name, Value::list(words.into_iter().map(Value::text))));
    Answer::data(StatusCode::BAD_REQUEST, Value::object(fields))
}

/// Whether a serializer can read this at all.
///
/// # Errors
/// 400 where it is no object and no form.
pub(crate) fn is_object(data: &Data) -> Result<(), Answer> {
    match data {
        Data::Form(_) | Data::Json(Value::Object(_)) => Ok(()),
        Data::Json(Value::Null) => Err(Answer::non_field_error("No data provided")),
        Data::Json(value @ (Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) | Value::List(_))) => {
            let words = format!("Invalid data. Expected a dictionary, but got {}.", value.python_type());
            Err(Answer::non_field_error(&words))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::json;
    use super::*;

    fn login(body: &str) -> String {
        let data = Data::Json(json::read(body).expect("JSON"));
        match validate(&[USERNAME, PASSWORD], &data) {
            Err(answer) => answer.text(),
            Ok(mut valid) => {
                let mut take = |name| valid.take(name).map(|text| text.to_string()).unwrap_or_default();
                format!("{}:{}", take("username"), take("password"))
            }
        }
    }

    /// Each asked of Django REST framework 3.18.3.
    #[test]
    fn fields_are_judged_as_the_framework_judges_them() {
        let (required, blank) = ("This field is required.", "This field may not be blank.");
        let (null, invalid) = ("This field may not be null.", "Not a valid string.");
        let both =
            |username: &str, password: &str| format!("{{\"username\":[\"{username}\"],\"password\":[\"{password}\"]}}");
        let none = |words: &str| format!("{{\"non_field_errors\":[\"{words}\"]}}");
        let expected = |kind| none(&format!("Invalid data. Expected a dictionary, but got {kind}."));
        for (body, answer) in [
            ("null", none("No data provided")),
            ("[]", expected("list")),
            ("\"x\"", expected("str")),
            ("1", expected("int")),
            ("1.5", expected("float")),
            ("true", expected("bool")),
            ("{}", both(required, required)),
            (r#"{"username":null,"password":null}"#, both(null, null)),
            (r#"{"username":[],"password":{}}"#, both(invalid, invalid)),
            (r#"{"username":true,"password":""}"#, both(invalid, blank)),
            (r#"{"username":"   ","password":"  "}"#, format!("{{\"username\":[\"{blank}\"]}}")),
            (r#"{"username":123,"password":1.0}"#, "123:1.0".to_owned()),
            (r#"{"username":" \u001c john\u2003","password":" x "}"#, "john: x ".to_owned()),
            (
                r#"{"username":"\ud800","password":"\u0000"}"#,
                both("Surrogate characters are not allowed: U+D800.", "Null characters are not allowed."),
            ),
            (
                r#"{"username":"\ud83d\ude00\u0000\ud800","password":1e400}"#,
                "{\"username\":[\"Null characters are not allowed.\",\"Surrogate characters are not allowed: U+D800.\"]}"
                    .to_owned(),
            ),
        ] {
            assert_eq!(login(body), answer, "{body}");
        }
    }
}
