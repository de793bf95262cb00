//! JSON as Python's `json` reads it and as Django REST framework writes it: [`Value`].
//!
//! The words of its errors are Python 3.11's, positions in characters and all: they are part of the answer.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::{self, Write as _};

use zeroize::Zeroizing;

/// A value, with objects in the order in which they are written. Texts are wiped when dropped: one may be a password.
#[derive(Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// An integer of any size, as Python would print it.
    Int(String),
    Float(f64),
    Text(Text),
    List(Vec<Value>),
    Object(Vec<(Text, Value)>),
}

/// A text of Python's, which may hold half of a surrogate pair.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Text {
    /// With U+FFFD for each such half.
    text: Zeroizing<String>,
    /// The first of them.
    surrogate: Option<u16>,
}

impl Text {
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The first half of a surrogate pair that stands alone, if there is one.
    pub(crate) fn lone_surrogate(&self) -> Option<u16> {
        self.surrogate
    }
}

impl<T: Into<String>> From<T> for Text {
    fn from(text: T) -> Text {
        Text { text: Zeroizing::new(text.into()), surrogate: None }
    }
}

/// Says what kind of value it is and nothing of what is in it.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.python_type())
    }
}

impl Value {
    pub(crate) fn text(text: impl Into<String>) -> Value {
        Value::Text(Text::from(text))
    }

    pub(crate) fn int(number: impl Into<i128>) -> Value {
        Value::Int(number.into().to_string())
    }

    pub(crate) fn object<K: Into<String>>(fields: impl IntoIterator<Item = (K, Value)>) -> Value {
        Value::Object(fields.into_iter().map(|(name, value)| (Text::from(name), value)).collect())
    }

    pub(crate) fn list(items: impl IntoIterator<Item = Value>) -> Value {
        Value::List(items.into_iter().collect())
    }

    /// What Python calls its type.
    pub(crate) fn python_type(&self) -> &'static str {
        match self {
            Value::Null => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Text(_) => "str",
            Value::List(_) => "list",
            Value::Object(_) => "dict",
        }
    }

    /// As the framework's renderer writes it: compact, or with so many spaces for each level; UTF-8 as it is, but for the two
    /// signs that end a line in JavaScript.
    pub(crate) fn write(&self, indent: Option<usize>) -> String {
        let mut out = String::new();
        self.write_to(&mut out, indent, 0);
        out
    }

    fn write_to(&self, out: &mut String, indent: Option<usize>, level: usize) {
        let new_line = |out: &mut String, level: usize| {
            if let Some(width) = indent {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', width * level));
            }
        };
        match self {
            Value::Null => out.push_str("null"),
            Value::Bool(yes) => out.push_str(if *yes { "true" } else { "false" }),
            Value::Int(number) => out.push_str(number),
            Value::Float(number) => out.push_str(&python_float(*number)),
            Value::Text(text) => write_text(out, text.as_str()),
            Value::List(items) if items.is_empty() => out.push_str("[]"),
            Value::List(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    new_line(out, level + 1);
                    item.write_to(out, indent, level + 1);
                }
                new_line(out, level);
                out.push(']');
            }
            Value::Object(fields) if fields.is_empty() => out.push_str("{}"),
            Value::Object(fields) => {
                out.push('{');
                for (at, (name, value)) in fields.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    new_line(out, level + 1);
                    write_text(out, name.as_str());
                    out.push_str(if indent.is_some() { ": " } else { ":" });
                    value.write_to(out, indent, level + 1);
                }
                new_line(out, level);
                out.push('}');
            }
        }
    }
}

fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..='\u{1f}' | '\u{2028}' | '\u{2029}' => {
                // Writing to a String does not fail.
                write!(out, "\\u{:04x}", u32::from(character)).ok();
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}

/// What Python's `str` makes of a float: the fewest digits that give the same number, and an exponent below 1e-4 and from 1e16.
pub(crate) fn python_float(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if number != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let plain = format!("{number}");
    if plain.contains('.') { plain } else { plain + ".0" }
}

/// Deepest nesting that is read. Python reads about as much before it fails with 500.
const MOST_LEVELS: usize = 900;

/// Most digits of an integer that Python reads.
const MOST_DIGITS: usize = 4_300;

/// Reads one value, strictly: no NaN and no Infinity.
///
/// # Errors
/// What Python says of it.
pub(crate) fn read(text: &str) -> Result<Value, String> {
    if text.starts_with('\u{feff}') {
        return Err(at(text, 0, "Unexpected UTF-8 BOM (decode using utf-8-sig)"));
    }
    let mut reader = Reader { text, at: 0 };
    reader.skip_blanks();
    let value = reader.value()?;
    reader.skip_blanks();
    if reader.at < text.len() { Err(at(text, reader.at, "Extra data")) } else { Ok(value) }
}

/// Each field once: the last of several wins, in the place of the first.
fn distinct(fields: Vec<(Text, Value)>) -> Vec<(Text, Value)> {
    let mut places: HashMap<(String, Option<u16>), usize> = HashMap::new();
    let mut distinct: Vec<(Text, Value)> = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        match places.entry((name.as_str().to_owned(), name.surrogate)) {
            Entry::Occupied(place) => distinct[*place.get()].1 = value,
            Entry::Vacant(place) => {
                place.insert(distinct.len());
                distinct.push((name, value));
            }
        }
    }
    distinct
}

/// What is wrong, and where: Python counts characters.
fn at(text: &str, position: usize, what: &str) -> String {
    let before = &text.as_bytes()[..position];
    let chars = |bytes: &[u8]| bytes.iter().filter(|&&byte| byte & 0xC0 != 0x80).count();
    let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
    let column = chars(&before[line_start..]) + 1;
    format!("{what}: line {line} column {column} (char {})", chars(before))
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

/// A list or an object that is not closed yet.
enum Open {
    List(Vec<Value>),
    Object(Vec<(Text, Value)>, Text),
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn wrong(&self, what: &str) -> String {
        at(self.text, self.at, what)
    }

    /// One value and all that is in it. With a stack of its own, so that depth costs no thread its stack.
    fn value(&mut self) -> Result<Value, String> {
        let mut open: Vec<Open> = Vec::new();
        loop {
            if open.len() > MOST_LEVELS {
                return Err(self.wrong("Too deeply nested"));
            }
            let mut value = match self.peek() {
                Some(b'[') => {
                    self.at += 1;
                    self.skip_blanks();
                    if self.peek() != Some(b']') {
                        open.push(Open::List(Vec::new()));
                        continue;
                    }
                    self.at += 1;
                    Value::List(Vec::new())
                }
                Some(b'{') => {
                    self.at += 1;
                    self.skip_blanks();
                    if self.peek() != Some(b'}') {
                        let name = self.name()?;
                        open.push(Open::Object(Vec::new(), name));
                        continue;
                    }
                    self.at += 1;
                    Value::Object(Vec::new())
                }
                _ => self.simple()?,
            };
            // What it closes, it is the last part of.
            loop {
                let Some(innermost) = open.pop() else { return Ok(value) };
                self.skip_blanks();
                match innermost {
                    Open::List(mut items) => {
                        items.push(value);
                        if self.peek() == Some(b']') {
                            self.at += 1;
                            value = Value::List(items);
                        } else {
                            self.comma()?;
                            open.push(Open::List(items));
                            break;
                        }
                    }
                    Open::Object(mut fields, name) => {
                        fields.push((name, value));
                        if self.peek() == Some(b'}') {
                            self.at += 1;
                            value = Value::Object(distinct(fields));
                        } else {
                            self.comma()?;
                            let name = self.name()?;
                            open.push(Open::Object(fields, name));
                            break;
                        }
                    }
                }
            }
        }
    }

    fn comma(&mut self) -> Result<(), String> {
        if self.peek() != Some(b',') {
            return Err(self.wrong("Expecting ',' delimiter"));
        }
        self.at += 1;
        self.skip_blanks();
        Ok(())
    }

    /// The name of a field, and what stands between it and its value.
    fn name(&mut self) -> Result<Text, String> {
        if self.peek() != Some(b'"') {
            return Err(self.wrong("Expecting property name enclosed in double quotes"));
        }
        let name = self.quoted()?;
        self.skip_blanks();
        if self.peek() != Some(b':') {
            return Err(self.wrong("Expecting ':' delimiter"));
        }
        self.at += 1;
        self.skip_blanks();
        Ok(name)
    }

    fn simple(&mut self) -> Result<Value, String> {
        const OUT_OF_RANGE: &str = "Out of range float values are not JSON compliant: ";
        let rest = &self.text[self.at..];
        for (word, value) in [("null", Value::Null), ("true", Value::Bool(true)), ("false", Value::Bool(false))] {
            if rest.starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        for word in ["NaN", "Infinity", "-Infinity"] {
            if rest.starts_with(word) {
                return Err(format!("{OUT_OF_RANGE}'{word}'"));
            }
        }
        if rest.starts_with('"') {
            return self.quoted().map(Value::Text);
        }
        self.number()
    }

    fn number(&mut self) -> Result<Value, String> {
        let rest = &self.text.as_bytes()[self.at..];
        let digits = |from: usize| rest[from.min(rest.len())..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let sign = usize::from(rest.first() == Some(&b'-'));
        let whole = match rest.get(sign) {
            Some(b'0') => 1,
            _ => digits(sign),
        };
        if whole == 0 {
            return Err(self.wrong("Expecting value"));
        }
        let mut end = sign + whole;
        let mut is_float = false;
        if rest.get(end) == Some(&b'.') && digits(end + 1) > 0 {
            end += 1 + digits(end + 1);
            is_float = true;
        }
        if matches!(rest.get(end), Some(b'e' | b'E')) {
            let signed = usize::from(matches!(rest.get(end + 1), Some(b'+' | b'-')));
            let exponent = digits(end + 1 + signed);
            if exponent > 0 {
                end += 1 + signed + exponent;
                is_float = true;
            }
        }
        let literal = &self.text[self.at..self.at + end];
        self.at += end;
        if is_float {
            return Ok(Value::Float(literal.parse().unwrap_or(f64::NAN)));
        }
        if whole > MOST_DIGITS {
            return Err(format!(
                "Exceeds the limit ({MOST_DIGITS} digits) for integer string conversion: value has {whole} digits; \
                 use sys.set_int_max_str_digits() to increase the limit"
            ));
        }
        Ok(Value::Int(if literal == "-0" { "0" } else { literal }.to_owned()))
    }

    /// A text in quotation marks, which begins here.
    fn quoted(&mut self) -> Result<Text, String> {
        let begin = self.at;
        let bytes = self.text.as_bytes();
        let wrong = |position, what| at(self.text, position, what);
        // Room for all of it, so that growing leaves no copies of a password behind.
        let room = bytes[begin + 1..].iter().position(|&byte| byte == b'"').unwrap_or(0);
        let mut text = Zeroizing::new(String::with_capacity(room));
        let mut surrogate = None;
        let mut next = begin + 1;
        loop {
            let run = next;
            while bytes.get(next).is_some_and(|&byte| byte != b'"' && byte != b'\\' && byte > 0x1f) {
                next += 1;
            }
            text.push_str(&self.text[run..next]);
            match bytes.get(next) {
                None => return Err(wrong(begin, "Unterminated string starting at")),
                Some(b'"') => {
                    self.at = next + 1;
                    return Ok(Text { text, surrogate });
                }
                Some(b'\\') => {}
                Some(_) => return Err(wrong(next, "Invalid control character at")),
            }
            let backslash = next;
            match bytes.get(next + 1) {
                None => return Err(wrong(begin, "Unterminated string starting at")),
                Some(b'u') => {
                    let unit = self.unit(backslash)?;
                    next = backslash + 6;
                    let followed = bytes.len() > next + 6 && bytes[next..].starts_with(b"\\u");
                    let low = if (0xD800..0xDC00).contains(&unit) && followed { Some(self.unit(next)?) } else { None };
                    match low {
                        Some(low @ 0xDC00..0xE000) => {
                            next += 6;
                            text.extend(char::decode_utf16([unit, low]).map(|pair| pair.unwrap_or('\u{fffd}')));
                        }
                        Some(_) | None => match char::from_u32(unit.into()) {
                            Some(character) => text.push(character),
                            None => {
                                surrogate = surrogate.or(Some(unit));
                                text.push('\u{fffd}');
                            }
                        },
                    }
                }
                Some(&escape) => {
                    text.push(match escape {
                        b'"' | b'\\' | b'/' => char::from(escape),
                        b'b' => '\u{8}',
                        b'f' => '\u{c}',
                        b'n' => '\n',
                        b'r' => '\r',
                        b't' => '\t',
                        _ => return Err(wrong(backslash, "Invalid \\escape")),
                    });
                    next = backslash + 2;
                }
            }
        }
    }

    /// The four digits after `\u`, which must not be the last of the text.
    fn unit(&self, backslash: usize) -> Result<u16, String> {
        let wrong = || at(self.text, backslash + 1, "Invalid \\uXXXX escape");
        let digits = self.text.as_bytes().get(backslash + 2..backslash + 6).ok_or_else(wrong)?;
        if self.text.len() == backslash + 6 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(wrong());
        }
        let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
        u16::from_str_radix(digits, 16).map_err(|_| wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn is_refused(text: &str, words: &str) {
        assert_eq!(read(text).expect_err("refused"), words, "{text}");
    }

    /// Each asked of Python 3.11.7.
    #[test]
    fn errors_are_in_pythons_words() {
        is_refused("", "Expecting value: line 1 column 1 (char 0)");
        is_refused(" ", "Expecting value: line 1 column 2 (char 1)");
        is_refused("{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)");
        is_refused(
            r#"{"username": "john", "#,
            "Expecting property name enclosed in double quotes: line 1 column 22 (char 21)",
        );
        is_refused(r#"{"a":1,}"#, "Expecting property name enclosed in double quotes: line 1 column 8 (char 7)");
        is_refused("{a:1}", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)");
        is_refused("[1,]", "Expecting value: line 1 column 4 (char 3)");
        is_refused("[", "Expecting value: line 1 column 2 (char 1)");
        is_refused("[1", "Expecting ',' delimiter: line 1 column 3 (char 2)");
        is_refused(r#"{"a" 1}"#, "Expecting ':' delimiter: line 1 column 6 (char 5)");
        is_refused(r#"{"a":1}x"#, "Extra data: line 1 column 8 (char 7)");
        is_refused("\"\u{1}\"", "Invalid control character at: line 1 column 2 (char 1)");
        is_refused(r#""\x""#, "Invalid \\escape: line 1 column 2 (char 1)");
        is_refused(r#""\u12""#, "Invalid \\uXXXX escape: line 1 column 3 (char 2)");
        is_refused("\"abc", "Unterminated string starting at: line 1 column 1 (char 0)");
        is_refused("tru", "Expecting value: line 1 column 1 (char 0)");
        is_refused("-", "Expecting value: line 1 column 1 (char 0)");
        is_refused("01", "Extra data: line 1 column 2 (char 1)");
        is_refused("1.", "Extra data: line 1 column 2 (char 1)");
        is_refused("\0", "Expecting value: line 1 column 1 (char 0)");
        is_refused("{\"é\":\n 1 2}", "Expecting ',' delimiter: line 2 column 4 (char 9)");
        is_refused("\u{feff}{}", "Unexpected UTF-8 BOM (decode using utf-8-sig): line 1 column 1 (char 0)");
        is_refused("NaN", "Out of range float values are not JSON compliant: 'NaN'");
        is_refused("[-Infinity]", "Out of range float values are not JSON compliant: '-Infinity'");
        let long = "1".repeat(5_000);
        is_refused(
            &long,
            "Exceeds the limit (4300 digits) for integer string conversion: value has 5000 digits; use \
             sys.set_int_max_str_digits() to increase the limit",
        );
    }

    #[test]
    fn the_last_of_several_fields_wins_in_the_place_of_the_first() {
        let value = read(r#"{"a":1,"b":2,"a":3}"#).expect("JSON");
        assert_eq!(value.write(None), r#"{"a":3,"b":2}"#);
    }

    #[test]
    fn it_is_written_as_the_framework_does() {
        let value = read("{\"a\": [1, {}, []], \"\\u2028é<&\\u0000\": \"\\ud83d\\ude00\\/\"}").expect("JSON");
        assert_eq!(value.write(None), "{\"a\":[1,{},[]],\"\\u2028é<&\\u0000\":\"😀/\"}");
        assert_eq!(read("{\"a\":[1,{}]}").expect("JSON").write(Some(2)), "{\n  \"a\": [\n    1,\n    {}\n  ]\n}");
    }

    #[test]
    fn numbers_are_printed_as_python_prints_them() {
        for (literal, printed) in [
            ("1.0", "1.0"),
            ("1e3", "1000.0"),
            ("1e400", "inf"),
            ("-0.0", "-0.0"),
            ("1e16", "1e+16"),
            ("123456789012345678.0", "1.2345678901234568e+17"),
            ("0.0001", "0.0001"),
            ("0.00001", "1e-05"),
            ("1.5e300", "1.5e+300"),
            ("5e-324", "5e-324"),
            ("0.1", "0.1"),
        ] {
            let Value::Float(number) = read(literal).expect("JSON") else { panic!("{literal} is a float") };
            assert_eq!(python_float(number), printed, "{literal}");
        }
        assert_eq!(read("-0").expect("JSON"), Value::Int("0".to_owned()));
    }

    #[test]
    fn half_a_pair_is_kept_in_mind() {
        let Value::Text(text) = read(r#""a\ud800b""#).expect("JSON") else { panic!("a text") };
        assert_eq!((text.as_str(), text.lone_surrogate()), ("a\u{fffd}b", Some(0xd800)));
    }

    #[test]
    fn depth_is_bounded_and_costs_no_stack() {
        assert!(read(&("[".repeat(900) + &"]".repeat(900))).is_ok());
        assert!(read(&"[".repeat(60_000)).expect_err("too deep").starts_with("Too deeply nested"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[\\[\\]{}\",:\\\\u0-9a-fA-F.eE+\\- \\n\u{e9}ntrulsNaI]{0,64}") {
            if let Ok(value) = read(&text) {
                let again = read(&value.write(None));
                // Infinity has no literal.
                prop_assert!(again.is_ok_and(|again| again == value) || text.contains(['e', 'E']) || text.contains("ud") || text.contains("uD"));
            }
        }
    }
}
