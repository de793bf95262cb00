//! JSON as Python's `json` reads and writes it: the order of keys is kept, numbers keep their digits, NaN is a number.
//!
//! `serde_json` keeps the order of keys only with a feature that cargo would then switch on for the product under test as well.

use std::fmt;

/// How deep arrays and objects may lie in each other. Python gives up at about the same depth.
const DEEPEST: usize = 900;

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    /// As it is written.
    Number(String),
    Text(String),
    List(Vec<Json>),
    /// In the order in which the keys were written. A key that is written twice is kept at its first place with its last
    /// value, as in a Python dict.
    Object(Vec<(String, Json)>),
}

/// Why a text is not JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotJson {
    at: usize,
    what: &'static str,
}

impl fmt::Display for NotJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

impl std::error::Error for NotJson {}

impl Json {
    /// Reads one value with nothing but blanks around it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Json, NotJson> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text =
            std::str::from_utf8(bytes).map_err(|error| NotJson { at: error.valid_up_to(), what: "not UTF-8" })?;
        let mut reader = Reader { text, at: 0 };
        reader.blanks();
        let value = reader.value(0)?;
        reader.blanks();
        if reader.at == text.len() { Ok(value) } else { Err(reader.wrong("more after the value")) }
    }

    pub(crate) fn text(text: impl Into<String>) -> Json {
        Json::Text(text.into())
    }

    /// The value of a key; `None` where this is no object or has no such key.
    pub(crate) fn get(&self, key: &str) -> Option<&Json> {
        self.as_object()?.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    pub(crate) fn as_object(&self) -> Option<&[(String, Json)]> {
        if let Json::Object(entries) = self { Some(entries) } else { None }
    }

    pub(crate) fn as_list(&self) -> Option<&[Json]> {
        if let Json::List(items) = self { Some(items) } else { None }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        if let Json::Text(text) = self { Some(text) } else { None }
    }

    pub(crate) fn as_bool(&self) -> Option<bool> {
        if let Json::Bool(it) = self { Some(*it) } else { None }
    }

    pub(crate) fn as_i64(&self) -> Option<i64> {
        if let Json::Number(digits) = self { digits.parse().ok() } else { None }
    }

    pub(crate) fn as_f64(&self) -> Option<f64> {
        if let Json::Number(digits) = self { digits.parse().ok() } else { None }
    }

    /// Whether it is a whole number as Python sees it: `1.0` is none.
    pub(crate) fn is_integer(&self) -> bool {
        matches!(self, Json::Number(digits) if digits.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit()))
    }

    /// The text that Python's `str` makes of it, which is what its string formatting puts in.
    pub(crate) fn to_python_text(&self) -> String {
        match self {
            Json::Null => "None".to_owned(),
            Json::Bool(true) => "True".to_owned(),
            Json::Bool(false) => "False".to_owned(),
            Json::Number(digits) => digits.clone(),
            Json::Text(text) => text.clone(),
            Json::List(_) | Json::Object(_) => self.compact(),
        }
    }

    /// Sets a key, at its present place where it has one.
    pub(crate) fn insert(entries: &mut Vec<(String, Json)>, key: String, value: Json) {
        match entries.iter_mut().find(|(name, _)| *name == key) {
            Some(entry) => entry.1 = value,
            None => entries.push((key, value)),
        }
    }

    /// Whether the same keys have the same values, in whatever order.
    pub(crate) fn means_the_same(&self, other: &Json) -> bool {
        match (self, other) {
            (Json::Object(ours), Json::Object(theirs)) => {
                ours.len() == theirs.len()
                    && ours.iter().all(|(key, value)| other.get(key).is_some_and(|it| value.means_the_same(it)))
            }
            (Json::List(ours), Json::List(theirs)) => {
                ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| a.means_the_same(b))
            }
            (ours, theirs) => ours == theirs,
        }
    }

    /// On one line, letters as they are.
    pub(crate) fn compact(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, &Style { between: ", ", after_key: ": ", ascii: false, indent: None }, 0);
        out
    }

    /// As `json.dumps` of Python writes it when told nothing else: letters beyond ASCII escaped.
    pub(crate) fn as_python_dumps(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, &Style { between: ", ", after_key: ": ", ascii: true, indent: None }, 0);
        out
    }

    /// One value a line.
    pub(crate) fn pretty(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, &Style { between: ",", after_key: ": ", ascii: false, indent: Some(1) }, 0);
        out
    }

    fn write(&self, out: &mut String, style: &Style, depth: usize) {
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(it) => out.push_str(if *it { "true" } else { "false" }),
            Json::Number(digits) => out.push_str(digits),
            Json::Text(text) => style.string(out, text),
            Json::List(items) => style.around(out, ('[', ']'), items, depth, |out, item| {
                item.write(out, style, depth + 1);
            }),
            Json::Object(entries) => style.around(out, ('{', '}'), entries, depth, |out, (key, value)| {
                style.string(out, key);
                out.push_str(style.after_key);
                value.write(out, style, depth + 1);
            }),
        }
    }
}

/// How a value is written.
struct Style {
    between: &'static str,
    after_key: &'static str,
    /// Whether letters beyond ASCII are escaped.
    ascii: bool,
    /// By how many blanks a deeper value is moved; `None`: all on one line.
    indent: Option<usize>,
}

impl Style {
    fn around<T>(
        &self,
        out: &mut String,
        (open, close): (char, char),
        items: &[T],
        depth: usize,
        mut one: impl FnMut(&mut String, &T),
    ) {
        out.push(open);
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                out.push_str(self.between);
            }
            self.new_line(out, depth + 1);
            one(out, item);
        }
        if !items.is_empty() {
            self.new_line(out, depth);
        }
        out.push(close);
    }

    fn new_line(&self, out: &mut String, depth: usize) {
        if let Some(indent) = self.indent {
            out.push('\n');
            out.push_str(&" ".repeat(indent * depth));
        }
    }

    fn string(&self, out: &mut String, text: &str) {
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
                control if control < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(control))),
                beyond if self.ascii && !beyond.is_ascii() => {
                    for unit in beyond.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                plain => out.push(plain),
            }
        }
        out.push('"');
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn wrong(&self, what: &'static str) -> NotJson {
        NotJson { at: self.at, what }
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn word(&mut self, word: &str) -> bool {
        let there = self.rest().starts_with(word);
        self.at += if there { word.len() } else { 0 };
        there
    }

    fn value(&mut self, depth: usize) -> Result<Json, NotJson> {
        if depth > DEEPEST {
            return Err(self.wrong("too deep"));
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => self.string().map(Json::Text),
            Some(b'-' | b'0'..=b'9') if !self.rest().starts_with("-Infinity") => self.number(),
            _ => {
                let words = [("null", Json::Null), ("true", Json::Bool(true)), ("false", Json::Bool(false))];
                for (word, value) in words {
                    if self.word(word) {
                        return Ok(value);
                    }
                }
                for word in ["NaN", "Infinity", "-Infinity"] {
                    if self.word(word) {
                        return Ok(Json::Number(word.to_owned()));
                    }
                }
                Err(self.wrong("no value"))
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, NotJson> {
        self.at += 1;
        let mut entries = Vec::new();
        self.blanks();
        if self.take(b'}') {
            return Ok(Json::Object(entries));
        }
        loop {
            self.blanks();
            if self.peek() != Some(b'"') {
                return Err(self.wrong("no key in quotes"));
            }
            let key = self.string()?;
            self.blanks();
            if !self.take(b':') {
                return Err(self.wrong("no colon"));
            }
            self.blanks();
            let value = self.value(depth + 1)?;
            Json::insert(&mut entries, key, value);
            self.blanks();
            if self.take(b'}') {
                return Ok(Json::Object(entries));
            }
            if !self.take(b',') {
                return Err(self.wrong("no comma"));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Json, NotJson> {
        self.at += 1;
        let mut items = Vec::new();
        self.blanks();
        if self.take(b']') {
            return Ok(Json::List(items));
        }
        loop {
            self.blanks();
            items.push(self.value(depth + 1)?);
            self.blanks();
            if self.take(b']') {
                return Ok(Json::List(items));
            }
            if !self.take(b',') {
                return Err(self.wrong("no comma"));
            }
        }
    }

    fn number(&mut self) -> Result<Json, NotJson> {
        let begun = self.at;
        self.take(b'-');
        if !self.take(b'0') && self.digits() == 0 {
            return Err(self.wrong("no digit"));
        }
        let mut whole = true;
        let before = self.at;
        if self.take(b'.') {
            if self.digits() == 0 {
                self.at = before;
            } else {
                whole = false;
            }
        }
        let before = self.at;
        if self.take(b'e') || self.take(b'E') {
            if !self.take(b'+') {
                self.take(b'-');
            }
            if self.digits() == 0 {
                self.at = before;
            } else {
                whole = false;
            }
        }
        let digits = &self.text[begun..self.at];
        // As Python would write it again, so that 1.50 and 1.5 are one number, and 1.0 and 1 are two.
        let again = if whole { None } else { digits.parse::<f64>().ok().map(|number| format!("{number:?}")) };
        Ok(Json::Number(again.unwrap_or_else(|| digits.to_owned())))
    }

    fn digits(&mut self) -> usize {
        let begun = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - begun
    }

    fn string(&mut self) -> Result<String, NotJson> {
        self.at += 1;
        let mut text = String::new();
        loop {
            let Some(character) = self.rest().chars().next() else {
                return Err(self.wrong("no end of the string"));
            };
            match character {
                '"' => {
                    self.at += 1;
                    return Ok(text);
                }
                '\\' => {
                    self.at += 1;
                    self.escaped(&mut text)?;
                }
                control if control < ' ' => return Err(self.wrong("a control character in a string")),
                plain => {
                    self.at += plain.len_utf8();
                    text.push(plain);
                }
            }
        }
    }

    fn escaped(&mut self, text: &mut String) -> Result<(), NotJson> {
        let plain = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode(text);
            }
            _ => return Err(self.wrong("no such escape")),
        };
        self.at += 1;
        text.push(plain);
        Ok(())
    }

    /// Half of a pair of surrogates is a letter to Python and none to Rust: it is kept as it was written.
    fn unicode(&mut self, text: &mut String) -> Result<(), NotJson> {
        let first = self.unit()?;
        if let Some(letter) = char::from_u32(first) {
            text.push(letter);
            return Ok(());
        }
        let before = self.at;
        if self.word("\\u") {
            let second = self.unit()?;
            if (0xd800..0xdc00).contains(&first) && (0xdc00..0xe000).contains(&second) {
                let both = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                text.extend(char::from_u32(both));
                return Ok(());
            }
            self.at = before;
        }
        text.push_str(&format!("\\u{first:04x}"));
        Ok(())
    }

    fn unit(&mut self) -> Result<u32, NotJson> {
        let digits = self.rest().get(..4).filter(|four| four.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let unit = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let unit = unit.ok_or_else(|| self.wrong("no four hexadecimal digits"))?;
        self.at += 4;
        Ok(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Json {
        Json::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn keys_keep_their_order_and_a_repeated_one_its_first_place() {
        assert_eq!(read(r#"{"b":1,"a":2,"b":3}"#).compact(), r#"{"b": 3, "a": 2}"#);
    }

    #[test]
    fn what_python_reads_is_read() {
        for text in ["NaN", "-Infinity", " [ ] ", "1e5", "-0.5", "123456789012345678901234567890", "\u{feff}{}"] {
            assert!(Json::parse(text.as_bytes()).is_ok(), "{text}");
        }
        assert_eq!(read(r#""\ud83d\ude00\u00fc\ud83d""#), Json::text("😀ü\\ud83d"));
        assert_eq!(read("1.50"), read("1.5"));
        assert_ne!(read("1.0"), read("1"));
    }

    #[test]
    fn what_python_refuses_is_refused() {
        for text in ["", "{", "{a:1}", "[1,]", "{\"a\":1,}", "01", "1.", "\"\t\"", "\"\\x\"", "tru", "{} {}", "'a'"] {
            assert!(Json::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Json::parse(b"\"\xff\"").is_err());
        assert!(Json::parse("[".repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn it_is_written_as_python_writes_it() {
        let value = read(r#"{"ü": ["a\"\\\n\u0001😀", 1, null, true, {}]}"#);
        assert_eq!(value.as_python_dumps(), r#"{"\u00fc": ["a\"\\\n\u0001\ud83d\ude00", 1, null, true, {}]}"#);
        assert_eq!(read(r#"{"a":[1]}"#).pretty(), "{\n \"a\": [\n  1\n ]\n}");
    }
}
