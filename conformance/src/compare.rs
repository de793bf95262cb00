//! What differs between two answers in their normal form.

use std::sync::LazyLock;

use regex::Regex;

use crate::json::Json;

/// One part of an answer that is not as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// `status`, `headers.allow`, `body`, `kind`, `holds` or `error`.
    pub(crate) part: String,
    /// For people.
    pub(crate) told: Vec<String>,
}

/// The words of Python's own parsers are nobody's contract.
static PARSER_WORDS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?s)^((?:JSON|Multipart form) parse error - ).*").unwrap_or_else(|error| panic!("{error}"))
});

/// Every part in which `ours` is not as `theirs`, the order of keys in the body included.
pub(crate) fn differences(theirs: &Json, ours: &Json) -> Vec<Difference> {
    let (theirs, ours) = (softened(theirs), softened(ours));
    let mut differences = Vec::new();
    for part in parts(&theirs, &ours) {
        let (a, b) = (theirs.get(&part), ours.get(&part));
        if part == "headers" {
            let none = Json::Object(Vec::new());
            let (a, b) = (a.unwrap_or(&none), b.unwrap_or(&none));
            for name in parts(a, b) {
                if a.get(&name) != b.get(&name) {
                    let told =
                        format!("header {name}: {} was recorded, ours {}", short(a.get(&name)), short(b.get(&name)));
                    differences.push(Difference { part: format!("headers.{name}"), told: vec![told] });
                }
            }
        } else if a != b {
            differences.push(Difference { told: tell(&part, a, b), part });
        }
    }
    differences
}

/// The keys of both, in the order of the alphabet.
fn parts(a: &Json, b: &Json) -> Vec<String> {
    let keys = |value: &Json| value.as_object().unwrap_or_default().iter().map(|(key, _)| key.clone()).collect();
    let mut parts: Vec<String> = keys(a);
    parts.extend(keys(b));
    parts.sort();
    parts.dedup();
    parts
}

fn softened(value: &Json) -> Json {
    match value {
        Json::Text(text) => Json::Text(PARSER_WORDS.replace(text, "$1<parser's words>").into_owned()),
        Json::List(items) => Json::List(items.iter().map(softened).collect()),
        Json::Object(entries) => {
            Json::Object(entries.iter().map(|(key, value)| (key.clone(), softened(value))).collect())
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => value.clone(),
    }
}

fn tell(part: &str, theirs: Option<&Json>, ours: Option<&Json>) -> Vec<String> {
    if let (Some(theirs), Some(ours)) = (theirs, ours) {
        if theirs.means_the_same(ours) {
            return vec![
                format!("{part}: another order of keys: {} was recorded,", theirs.compact()),
                format!("ours is {}", ours.compact()),
            ];
        }
        let (a, b) = (lines(theirs), lines(ours));
        if a.len() > 2 || b.len() > 2 {
            let mut told = vec![format!("{part}: - as recorded, + ours")];
            told.extend(changed_lines(&a, &b));
            return told;
        }
    }
    vec![format!("{part}: {} was recorded, ours {}", short(theirs), short(ours))]
}

fn short(value: Option<&Json>) -> String {
    value.map_or("nothing".to_owned(), |value| value.compact().chars().take(600).collect())
}

fn lines(value: &Json) -> Vec<String> {
    let text = value.as_str().map_or_else(|| value.pretty(), str::to_owned);
    text.lines().map(str::to_owned).collect()
}

/// The lines between the common beginning and the common end, at most as many as one reads.
fn changed_lines(a: &[String], b: &[String]) -> Vec<String> {
    const READ: usize = 20;
    let before = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let after = a[before..].iter().rev().zip(b[before..].iter().rev()).take_while(|(a, b)| a == b).count();
    let changed = |lines: &[String], sign: char| -> Vec<String> {
        let changed = &lines[before..lines.len() - after];
        let mut told: Vec<String> = changed.iter().take(READ).map(|line| format!("  {sign}{line}")).collect();
        if changed.len() > READ {
            told.push(format!("  {sign}… and {} lines more", changed.len() - READ));
        }
        told
    };
    let mut told = changed(a, '-');
    told.extend(changed(b, '+'));
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts_that_differ(theirs: &str, ours: &str) -> Vec<String> {
        let read = |text: &str| Json::parse(text.as_bytes()).unwrap();
        differences(&read(theirs), &read(ours)).into_iter().map(|difference| difference.part).collect()
    }

    const RECORDED: &str =
        r#"{"status":200,"headers":{"allow":"GET","vary":"Accept"},"body":{"a":1,"b":[{"c":2,"d":3}]},"kind":"json"}"#;

    #[test]
    fn the_same_is_the_same_in_whatever_order_its_headers_are() {
        let ours = RECORDED.replace(r#""allow":"GET","vary":"Accept""#, r#""vary":"Accept","allow":"GET""#);
        assert!(parts_that_differ(RECORDED, &ours).is_empty());
    }

    #[test]
    fn every_part_is_told_apart() {
        for (from, to, part) in [
            ("200", "201", "status"),
            (r#""allow":"GET","#, "", "headers.allow"),
            ("\"GET\"", "\"get\"", "headers.allow"),
            (r#""a":1"#, r#""a":1.0"#, "body"),
            (r#""c":2,"d":3"#, r#""d":3,"c":2"#, "body"),
            (r#""kind":"json""#, r#""kind":"text""#, "kind"),
        ] {
            assert_eq!(parts_that_differ(RECORDED, &RECORDED.replace(from, to)), [part], "{from} → {to}");
        }
    }

    #[test]
    fn another_order_of_keys_is_told_as_that() {
        let ours = RECORDED.replace(r#""a":1,"#, "").replace("}],", "").replace("3}]}", r#"3}],"a":1}"#);
        let read = |text: &str| Json::parse(text.as_bytes()).unwrap();
        let told = differences(&read(RECORDED), &read(&ours));
        assert!(told[0].told[0].contains("another order of keys"), "{told:?}");
    }

    #[test]
    fn the_words_of_a_parser_do_not_count_but_that_it_complained_does() {
        let answer = |detail: &str| format!(r#"{{"status":400,"body":{{"detail":"{detail}"}}}}"#);
        let theirs = answer("JSON parse error - Expecting value: line 1 column 2 (char 1)");
        assert!(parts_that_differ(&theirs, &answer("JSON parse error - expected value")).is_empty());
        assert_eq!(parts_that_differ(&theirs, &answer("Multipart form parse error - expected value")), ["body"]);
        assert_eq!(parts_that_differ(&theirs, &answer("no JSON")), ["body"]);
    }
}
