//! What a body says: [`parse`].

use std::borrow::Cow;

use axum::http::{HeaderMap, StatusCode, header};
use zeroize::Zeroizing;

use super::answer::Answer;
use super::django;
use super::json::{self, Value};
use super::media_type::{MediaType, header_parameters, latin1};
use super::multipart;
use super::view::Parser;

/// What was sent.
#[derive(Debug, Clone)]
pub(crate) enum Data {
    Json(Value),
    /// The fields of a form in the order in which they came, files after them.
    Form(Vec<(String, Entry)>),
}

/// A field of a form.
#[derive(Clone)]
pub(crate) enum Entry {
    Text(Zeroizing<String>),
    /// A file, whose content is not kept: nothing that is asked for is one.
    File,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Entry::Text(_) => "Text",
            Entry::File => "File",
        })
    }
}

/// One field of what was sent.
pub(crate) enum Input<'a> {
    Missing,
    Null,
    /// With the first half of a surrogate pair in it that stands alone.
    Text(&'a str, Option<u16>),
    /// An integer or a float, as Python prints it.
    Number(String),
    /// A boolean, a list, an object or a file.
    Other,
}

impl Data {
    fn nothing() -> Data {
        Data::Json(Value::Object(Vec::new()))
    }

    /// The field of this name; of several in a form the last.
    pub(crate) fn field(&self, name: &str) -> Input<'_> {
        match self {
            Data::Json(Value::Object(fields)) => match fields.iter().find(|(known, _)| known.as_str() == name) {
                None => Input::Missing,
                Some((_, Value::Null)) => Input::Null,
                Some((_, Value::Text(text))) => Input::Text(text.as_str(), text.lone_surrogate()),
                Some((_, Value::Int(number))) => Input::Number(number.clone()),
                Some((_, Value::Float(number))) => Input::Number(json::python_float(*number)),
                Some((_, Value::Bool(_) | Value::List(_) | Value::Object(_))) => Input::Other,
            },
            Data::Json(
                Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) | Value::List(_),
            ) => Input::Missing,
            Data::Form(fields) => match fields.iter().rev().find(|(known, _)| known == name) {
                None => Input::Missing,
                Some((_, Entry::Text(text))) => Input::Text(text, None),
                Some((_, Entry::File)) => Input::Other,
            },
        }
    }
}

/// Longest `Content-Type` that is looked at.
const MOST_MEDIA_TYPE_CHARS: usize = 256;

/// Most fields of a form: Django's `DATA_UPLOAD_MAX_NUMBER_FIELDS`.
pub(super) const MOST_FIELDS: usize = 1_000;

/// The media type in these headers, as the framework sees it.
fn content_type(headers: &HeaderMap) -> String {
    headers.get(header::CONTENT_TYPE).map(|line| latin1(line.as_bytes())).unwrap_or_default()
}

/// What `body` says, read by one of `parsers`. Nothing sent is an object without fields, whatever it is said to be.
///
/// # Errors
/// 415, and 400 for what cannot be read.
pub(crate) fn parse(headers: &HeaderMap, body: &[u8], parsers: &[Parser]) -> Result<Data, Answer> {
    if body.is_empty() {
        return Ok(Data::nothing());
    }
    let content_type = content_type(headers);
    let long = content_type.chars().count() > MOST_MEDIA_TYPE_CHARS;
    let media_type = MediaType::of(&content_type);
    let mut matching = parsers.iter().filter(|parser| !long && media_type.takes(parser.media_type()));
    let Some(parser) = matching.next() else {
        let words = format!("Unsupported media type \"{content_type}\" in request.");
        return Err(Answer::detail(StatusCode::UNSUPPORTED_MEDIA_TYPE, &words));
    };
    let charset = Charset::of(&content_type, body)?;
    match parser {
        Parser::Json => {
            let text = charset.decode_strictly(body);
            let read = text.and_then(|text| json::read(&text));
            read.map(Data::Json).map_err(|words| malformed(&format!("JSON parse error - {words}")))
        }
        Parser::Form => form(body, charset).map(Data::Form),
        Parser::Multipart => multipart::read(&content_type, body, charset).map(Data::Form),
    }
}

pub(super) fn malformed(words: &str) -> Answer {
    Answer::detail(StatusCode::BAD_REQUEST, words)
}

/// The charset that a `Content-Type` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Charset {
    Utf8,
    Ascii,
    Latin1,
    Utf16(Order),
    /// Of 32 bits, which nothing is read of.
    Utf32,
}

/// Which byte of two comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// As a mark at the beginning says.
    Marked,
    Little,
    Big,
}

impl Charset {
    /// One that Python does not know counts for nothing, as with Django. Of the many that it knows, those that anybody sends; all
    /// that are ASCII and more are read as far as a body is ASCII.
    fn of(content_type: &str, body: &[u8]) -> Result<Charset, Answer> {
        const ASCII_AND_MORE: [&str; 16] = [
            "utf8sig",
            "cp1252",
            "windows1252",
            "iso885915",
            "iso88592",
            "latin2",
            "cp1251",
            "windows1251",
            "koi8r",
            "shiftjis",
            "eucjp",
            "gbk",
            "gb2312",
            "gb18030",
            "big5",
            "euckr",
        ];
        // Not of texts: decoding could make very much of very little.
        const NO_TEXT: [&str; 10] =
            ["base64", "base64codec", "bz2", "bz2codec", "hex", "hexcodec", "zlib", "zlibcodec", "rot13", "uu"];
        let (_, parameters) = header_parameters(content_type);
        let Some((_, named)) = parameters.iter().rev().find(|(name, _)| name == "charset") else {
            return Ok(Charset::Utf8);
        };
        if let Some(charset) = Charset::named(named) {
            return Ok(charset);
        }
        let plain: String =
            named.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect();
        match plain.as_str() {
            other if ASCII_AND_MORE.contains(&other) && body.is_ascii() => Ok(Charset::Ascii),
            // A plus sign begins what is not ASCII.
            "utf7" if body.is_ascii() && !body.contains(&b'+') => Ok(Charset::Ascii),
            other if other == "utf7" || ASCII_AND_MORE.contains(&other) || NO_TEXT.contains(&other) => {
                Err(malformed(&format!("Unsupported charset \"{named}\" in request Content-Type header.")))
            }
            _ => Ok(Charset::Utf8),
        }
    }

    /// One that is read whatever it writes.
    pub(super) fn named(name: &str) -> Option<Charset> {
        let plain: String =
            name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect();
        match plain.as_str() {
            "utf8" | "u8" => Some(Charset::Utf8),
            "ascii" | "usascii" | "646" | "ansix341968" => Some(Charset::Ascii),
            "latin1" | "iso88591" | "l1" | "latin" | "8859" | "cp819" => Some(Charset::Latin1),
            "utf16" | "u16" => Some(Charset::Utf16(Order::Marked)),
            "utf16le" => Some(Charset::Utf16(Order::Little)),
            "utf16be" => Some(Charset::Utf16(Order::Big)),
            "utf32" | "utf32le" | "utf32be" => Some(Charset::Utf32),
            _ => None,
        }
    }

    /// The text of a JSON body, or what Python says of a byte that is none. A character that is cut off at the very end is
    /// dropped: Python's reader waits for the rest of it.
    fn decode_strictly(self, bytes: &[u8]) -> Result<Cow<'_, str>, String> {
        match self {
            Charset::Latin1 => Ok(Cow::Owned(latin1(bytes))),
            Charset::Utf16(order) => {
                let (order, marked) = order.of(bytes).ok_or("UTF-16 stream does not start with BOM")?;
                let units = order.units(marked);
                let text: Result<String, _> = char::decode_utf16(units).collect();
                text.map(Cow::Owned)
                    .map_err(|_| "'utf-16' codec can't decode bytes: illegal UTF-16 surrogate".to_owned())
            }
            Charset::Utf32 => Err("'utf-32' codec can't decode bytes: code point not in range(0x110000)".to_owned()),
            Charset::Ascii => match bytes.iter().position(|byte| !byte.is_ascii()) {
                None => Ok(String::from_utf8_lossy(bytes)),
                Some(at) => Err(format!(
                    "'ascii' codec can't decode byte 0x{:02x} in position {at}: ordinal not in range(128)",
                    bytes[at]
                )),
            },
            Charset::Utf8 => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Cow::Borrowed(text)),
                Err(error) => {
                    let start = error.valid_up_to();
                    let Some(length) = error.error_len() else {
                        return Ok(String::from_utf8_lossy(&bytes[..start]));
                    };
                    let begins = matches!(bytes[start], 0xC2..=0xF4);
                    let why = if begins { "invalid continuation byte" } else { "invalid start byte" };
                    Err(if length == 1 {
                        format!("'utf-8' codec can't decode byte 0x{:02x} in position {start}: {why}", bytes[start])
                    } else {
                        let end = start + length - 1;
                        format!("'utf-8' codec can't decode bytes in position {start}-{end}: {why}")
                    })
                }
            },
        }
    }

    /// The text of these bytes with U+FFFD for what is none.
    pub(super) fn decode_leniently(self, bytes: &[u8]) -> Zeroizing<String> {
        Zeroizing::new(match self {
            Charset::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
            Charset::Latin1 => latin1(bytes),
            Charset::Ascii => {
                bytes.iter().map(|&byte| if byte.is_ascii() { char::from(byte) } else { '\u{fffd}' }).collect()
            }
            Charset::Utf16(order) => {
                let (order, bytes) = order.of(bytes).unwrap_or((Order::Little, bytes));
                let text = char::decode_utf16(order.units(bytes)).map(|unit| unit.unwrap_or('\u{fffd}'));
                text.chain((bytes.len() % 2 == 1).then_some('\u{fffd}')).collect()
            }
            Charset::Utf32 => "\u{fffd}".repeat(bytes.len().div_ceil(4)),
        })
    }
}

/// A form as Django's `QueryDict` reads it.
fn form(body: &[u8], charset: Charset) -> Result<Vec<(String, Entry)>, Answer> {
    // Bytes that are not of the charset are taken one for one.
    let text = Zeroizing::new(match charset.decode_whole(body) {
        Some(text) => text,
        None => latin1(body),
    });
    if text.bytes().filter(|&byte| byte == b'&').count() >= MOST_FIELDS {
        return Err(django::bad_request());
    }
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    Ok(pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (unquoted(name, charset).to_string(), Entry::Text(unquoted(value, charset)))
        })
        .collect())
}

impl Charset {
    fn decode_whole(self, bytes: &[u8]) -> Option<String> {
        match self {
            Charset::Utf8 => std::str::from_utf8(bytes).ok().map(str::to_owned),
            Charset::Ascii => bytes.is_ascii().then(|| latin1(bytes)),
            Charset::Latin1 => Some(latin1(bytes)),
            Charset::Utf16(order) => {
                let (order, bytes) = order.of(bytes).unwrap_or((Order::Little, bytes));
                let whole = bytes.len() % 2 == 0;
                whole.then(|| char::decode_utf16(order.units(bytes)).collect::<Result<_, _>>().ok())?
            }
            Charset::Utf32 => None,
        }
    }
}

impl Order {
    /// The order of these bytes and what is left of them behind its mark; `None`: there is none.
    fn of(self, bytes: &[u8]) -> Option<(Order, &[u8])> {
        match (self, bytes) {
            (Order::Little | Order::Big, _) => Some((self, bytes)),
            (Order::Marked, [0xff, 0xfe, rest @ ..]) => Some((Order::Little, rest)),
            (Order::Marked, [0xfe, 0xff, rest @ ..]) => Some((Order::Big, rest)),
            (Order::Marked, _) => None,
        }
    }

    /// A last byte without its other half is none.
    fn units(self, bytes: &[u8]) -> impl Iterator<Item = u16> {
        let (pairs, _) = bytes.as_chunks::<2>();
        pairs
            .iter()
            .map(move |&pair| if self == Order::Big { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) })
    }
}

/// Percent signs and plus signs undone. What is not ASCII already stays; between it each stretch is decoded by itself.
fn unquoted(text: &str, charset: Charset) -> Zeroizing<String> {
    if !text.contains('%') {
        return Zeroizing::new(text.replace('+', " "));
    }
    let mut unquoted = Zeroizing::new(String::with_capacity(text.len()));
    let mut rest = text;
    while !rest.is_empty() {
        let plain = rest.find(|character: char| !character.is_ascii()).unwrap_or(rest.len());
        let (ascii, after) = rest.split_at(plain);
        unquoted.push_str(&charset.decode_leniently(&percent_decoded(ascii.as_bytes())));
        let other = after.find(|character: char| character.is_ascii()).unwrap_or(after.len());
        let (other, after) = after.split_at(other);
        unquoted.push_str(other);
        rest = after;
    }
    unquoted
}

pub(super) fn percent_decoded(text: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut decoded = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let hex = |at: usize| after.get(at).and_then(|&digit| char::from(digit).to_digit(16)).map(|digit| digit as u8);
        let byte;
        (byte, rest) = match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => (high << 4 | low, &after[2..]),
            (b'+', _, _) => (b' ', after),
            (_, _, _) => (first, after),
        };
        decoded.push(byte);
    }
    decoded
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    /// What is read of a body, as one text.
    pub(crate) fn read(content_type: &[u8], body: &[u8]) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_bytes(content_type).expect("value"));
        match parse(&headers, body, Parser::FORMS_FIRST) {
            Err(answer) => format!("{} {}", answer.status().as_u16(), answer.text()),
            Ok(Data::Json(value)) => value.write(None),
            Ok(Data::Form(fields)) => {
                let shown = fields.iter().map(|(name, entry)| match entry {
                    Entry::Text(text) => format!("{name}={}", &**text),
                    Entry::File => format!("{name} is a file"),
                });
                shown.collect::<Vec<_>>().join(" | ")
            }
        }
    }

    const FORM: &[u8] = b"application/x-www-form-urlencoded";

    /// Each asked of Django 5.2.19 and Django REST framework 3.18.3.
    #[test]
    fn the_media_type_chooses_who_reads() {
        let unsupported =
            |shown: &str| format!("415 {{\"detail\":\"Unsupported media type \\\"{shown}\\\" in request.\"}}");
        for (content_type, expected) in [
            (&b"APPLICATION/JSON"[..], "{\"a\":1}".to_owned()),
            (b"application/json;", "{\"a\":1}".to_owned()),
            (b"application/json; charset=nope", "{\"a\":1}".to_owned()),
            (b"application/*", "{\"a\":1}=".to_owned()),
            (b"*/*", "{\"a\":1}=".to_owned()),
            (b"text/json", unsupported("text/json")),
            (b"text/plain; x=\xe4", unsupported("text/plain; x=ä")),
            (b"", unsupported("")),
            (b"application/json, text/plain", unsupported("application/json, text/plain")),
            (
                b"application/json; charset=bz2",
                "400 {\"detail\":\"Unsupported charset \\\"bz2\\\" in request Content-Type header.\"}".to_owned(),
            ),
        ] {
            assert_eq!(read(content_type, b"{\"a\":1}"), expected, "{}", content_type.escape_ascii());
        }
        assert_eq!(read(&[b'x'; 300], b"{}"), unsupported(&"x".repeat(300)));
        let type_that_is_long = format!("application/json; x={}", "y".repeat(300));
        assert_eq!(read(type_that_is_long.as_bytes(), b"{}"), unsupported(&type_that_is_long));
        assert_eq!(read(b"text/plain", b""), "{}");
    }

    /// Each asked of Django 5.2.19 and Django REST framework 3.18.3, which refuse nothing of what is refused here for want of a table.
    #[test]
    fn a_charset_that_anybody_sends_is_read_at_least_as_far_as_it_is_ascii() {
        let utf16 = |text: &str, of: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(of).collect::<Vec<u8>>();
        let (json, form) = (r#"{"a":"b"}"#, "a=b&cc=d");
        for charset in ["cp1252", "iso-8859-15", "koi8-r", "Shift_JIS", "gb18030", "utf-7", "utf-8-sig", "latin2"] {
            let said = |kind: &str| format!("application/{kind}; charset={charset}").into_bytes();
            assert_eq!(read(&said("json"), json.as_bytes()), json, "{charset}");
            assert_eq!(read(&said("x-www-form-urlencoded"), form.as_bytes()), "a=b | cc=d", "{charset}");
            let refused =
                format!("400 {{\"detail\":\"Unsupported charset \\\"{charset}\\\" in request Content-Type header.\"}}");
            assert_eq!(read(&said("json"), b"\"\xe9\""), refused, "we have no table of it");
        }
        let marked = [&b"\xff\xfe"[..], &utf16(json, u16::to_le_bytes)].concat();
        assert_eq!(read(b"application/json; charset=utf-16", &marked), json);
        assert_eq!(read(b"application/json; charset=utf-16le", &utf16(json, u16::to_le_bytes)), json);
        assert_eq!(read(b"application/json; charset=UTF-16BE", &utf16(json, u16::to_be_bytes)), json);
        let no_mark = "400 {\"detail\":\"JSON parse error - UTF-16 stream does not start with BOM\"}";
        assert_eq!(read(b"application/json; charset=utf-16", json.as_bytes()), no_mark);
        let wide = read(b"application/json; charset=utf-32", json.as_bytes());
        assert!(wide.starts_with("400 {\"detail\":\"JSON parse error - "), "{wide}");
        let in_16 = b"application/x-www-form-urlencoded; charset=utf-16";
        assert_eq!(read(in_16, &[&b"\xff\xfe"[..], &utf16(form, u16::to_le_bytes)].concat()), "a=b | cc=d");
        assert!(!read(in_16, form.as_bytes()).contains("a=b"), "two letters are one of another alphabet");
        assert_eq!(read(in_16, b"a=b&cc=dd"), "a=b | cc=dd", "an odd number of bytes is none of its texts");
    }

    #[test]
    fn bytes_that_are_no_text_are_told_in_pythons_words() {
        let wrong = |words: &str| format!("400 {{\"detail\":\"JSON parse error - {words}\"}}");
        let json = b"application/json";
        assert_eq!(
            read(json, b"{\"username\":\"j\xff\"}"),
            wrong("'utf-8' codec can't decode byte 0xff in position 14: invalid start byte")
        );
        assert_eq!(
            read(json, b"\"\xc3x\""),
            wrong("'utf-8' codec can't decode byte 0xc3 in position 1: invalid continuation byte")
        );
        assert_eq!(
            read(json, b"\"\xe2\x82x\""),
            wrong("'utf-8' codec can't decode bytes in position 1-2: invalid continuation byte")
        );
        assert_eq!(read(json, b"{}\xc3"), "{}", "the rest of a character may still come");
        assert_eq!(read(b"application/json; charset=latin-1", b"\"\xe4\""), "\"ä\"");
        assert_eq!(
            read(b"application/json; charset=us-ascii", b"\"\xe4\""),
            wrong("'ascii' codec can't decode byte 0xe4 in position 1: ordinal not in range(128)")
        );
    }

    #[test]
    fn a_form_is_read_as_django_reads_it() {
        for (body, expected) in [
            (
                &b"a=1&a=2&b&c=&=d&e=f=g&&a%20b=%C3%A4+%2B%ff;x=1"[..],
                "a=1 | a=2 | b= | c= | =d | e=f=g | a b=ä +\u{fffd};x=1",
            ),
            (b"\xe4=\xff", "ä=ÿ"),
            (b"\xc3\xa4=%C3\xc3\xa4%A4", "ä=\u{fffd}ä\u{fffd}"),
            (b"a=%00", "a=\0"),
            (b"a=%zz%4", "a=%zz%4"),
        ] {
            assert_eq!(read(FORM, body), expected);
        }
        assert_eq!(read(b"application/x-www-form-urlencoded; charset=latin-1", b"a=\xe4%E4"), "a=ää");
        assert!(read(FORM, "a=1&".repeat(1_000).as_bytes()).starts_with("400 \n<!doctype html>"));
        assert!(read(FORM, "a=1&".repeat(999).as_bytes()).starts_with("a=1 | a=1"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            kind in 0_usize..6,
            body in proptest::collection::vec(any::<u8>(), 0..200),
            pieces in proptest::collection::vec(0_usize..9, 0..12),
        ) {
            const TYPES: [&[u8]; 6] = [
                b"application/json",
                b"application/json; charset=ascii",
                FORM,
                b"application/x-www-form-urlencoded; charset=us-ascii",
                b"multipart/form-data; boundary=x",
                b"multipart/form-data; boundary=\"",
            ];
            const PIECES: [&[u8]; 9] = [
                b"--x", b"\r\n", b"\r\n\r\n", b"Content-Disposition: form-data; name=\"a\"", b"; filename=f", b"--",
                b"\r\nContent-Transfer-Encoding: base64", b"QUJD", b"%C3&=+\\u\"{",
            ];
            read(TYPES[kind], &body);
            let pieced: Vec<u8> = pieces.iter().flat_map(|&piece| PIECES[piece].to_vec()).collect();
            read(TYPES[kind], &pieced);
        }
    }
}
