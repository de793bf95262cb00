//! Media types with parameters, as Django reads `Accept` and `Content-Type`.

use std::borrow::Cow;

/// A media type as somebody wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MediaType {
    main: String,
    sub: String,
    parameters: Vec<(String, String)>,
}

impl MediaType {
    /// Reads a line; anything is a media type, if one that matches nothing.
    pub(crate) fn of(line: &str) -> MediaType {
        let (full, parameters) = header_parameters(line);
        let (main, sub) = full.split_once('/').unwrap_or((&full, ""));
        MediaType { main: main.to_owned(), sub: sub.to_owned(), parameters }
    }

    /// Whether `offered`, which has no parameters, is one of these. `*` on either side stands for anything.
    pub(crate) fn takes(&self, offered: &str) -> bool {
        let (main, sub) = offered.split_once('/').unwrap_or((offered, ""));
        (self.sub == "*" || self.sub == sub) && (self.main == "*" || self.main == main)
    }

    /// How much it says: 0 for `*/*` to 3 for one with parameters, `q` not counted where it is alone.
    pub(crate) fn precedence(&self) -> usize {
        let only_q = self.parameters.iter().all(|(name, _)| name == "q");
        match (self.main.as_str(), self.sub.as_str()) {
            ("*", _) => 0,
            (_, "*") => 1,
            (_, _) if only_q => 2,
            (_, _) => 3,
        }
    }
}

/// A header line as text: each byte is one character, as in WSGI.
pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

/// The main value of a header and its parameters, in the order in which they are written.
pub(crate) fn header_parameters(line: &str) -> (String, Vec<(String, String)>) {
    if !line.contains(';') {
        return (line.trim().to_lowercase(), Vec::new());
    }
    let mut parts = split_at_semicolons(line).into_iter().map(|part| match part.split_once('=') {
        Some((name, value)) => (name.trim().to_lowercase(), unquoted(value.trim()).into_owned()),
        None => (part.trim().to_owned(), String::new()),
    });
    let main = parts.next().map(|(main, _)| main.to_lowercase()).unwrap_or_default();
    (main, parts.filter(|(name, _)| !name.is_empty()).collect())
}

/// A semicolon within quotation marks is none.
fn split_at_semicolons(line: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut within, mut escaped) = (0, false, false);
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            b'"' if !escaped => within = !within,
            b';' if !within => {
                parts.push(&line[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        escaped = byte == b'\\' && !escaped;
    }
    parts.push(&line[start..]);
    parts
}

fn unquoted(value: &str) -> Cow<'_, str> {
    let within = |open, close| value.strip_prefix(open).and_then(|rest: &str| rest.strip_suffix(close));
    match within('"', '"') {
        Some(quoted) => Cow::Owned(quoted.replace("\\\\", "\\").replace("\\\"", "\"")),
        None => Cow::Borrowed(within('<', '>').unwrap_or(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_as_django_reads_them() {
        let read = |line| header_parameters(line);
        let own = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        assert_eq!(read(" Application/JSON "), ("application/json".to_owned(), vec![]));
        assert_eq!(read("a/b; X=1 ;y=\"p;q\""), ("a/b".to_owned(), own(&[("x", "1"), ("y", "p;q")])));
        assert_eq!(read("a/b;"), ("a/b".to_owned(), vec![]));
        assert_eq!(read("a/b;boundary"), ("a/b".to_owned(), own(&[("boundary", "")])));
    }

    #[test]
    fn precedence_grows_with_what_is_said() {
        let of = |line| MediaType::of(line).precedence();
        assert_eq!([of("*/*;indent=2"), of("text/*"), of("text/html;q=1"), of("text/html;a=b")], [0, 1, 2, 3]);
    }
}
