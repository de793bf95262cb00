//! Forms with files, as Django reads them: [`read`].

use zeroize::Zeroizing;

use super::answer::Answer;
use super::django;
use super::media_type::header_parameters;
use super::parse::{Charset, Entry, MOST_FIELDS, malformed, percent_decoded};

/// Where the headers of a part have to end.
const MOST_HEADER_BYTES: usize = 1_024;

/// Django's `DATA_UPLOAD_MAX_NUMBER_FILES`.
const MOST_FILES: usize = 100;

/// The fields of a form, then its files.
pub(super) fn read(content_type: &str, body: &[u8], charset: Charset) -> Result<Vec<(String, Entry)>, Answer> {
    let wrong = |words: &str| malformed(&format!("Multipart form parse error - {words}"));
    // Its first half has been found whatever its case; this is compared as it was written.
    if !content_type.starts_with("multipart/") {
        return Err(wrong(&format!("Invalid Content-Type: {content_type}")));
    }
    if !content_type.is_ascii() {
        return Err(wrong(&format!("Invalid non-ASCII Content-Type in multipart: {content_type}")));
    }
    let (_, parameters) = header_parameters(content_type);
    let boundary = parameters.iter().rev().find(|(name, _)| name == "boundary").map(|(_, value)| value.as_str());
    let Some(boundary) = boundary.filter(|boundary| may_be_a_boundary(boundary)) else {
        return Err(wrong(&format!("Invalid boundary in multipart: {}", boundary.unwrap_or("None"))));
    };
    let (mut fields, mut files) = (Vec::new(), Vec::new());
    let mut parts_that_are_no_files = 0;
    let parts = Parts { rest: body, separator: format!("--{boundary}").into_bytes() };
    for part in parts {
        let Part { header, content } = split(part).ok_or_else(|| wrong("Request max total header size exceeded."))?;
        let is_file = header.as_ref().is_some_and(|header| header.filename.is_some());
        if !is_file {
            parts_that_are_no_files += 1;
            // Two for what is before the first boundary and after the last.
            if parts_that_are_no_files > MOST_FIELDS + 2 {
                return Err(django::bad_request());
            }
        }
        let Some(PartHeader { name: Some(name), filename, is_base64 }) = header else { continue };
        let name = charset.decode_leniently(name.trim().as_bytes()).to_string();
        match filename {
            None => {
                let decoded = if is_base64 { from_base64(content) } else { None };
                let value = charset.decode_leniently(decoded.as_deref().map_or(content, Vec::as_slice));
                fields.push((name, Entry::Text(value)));
            }
            Some(filename) => {
                if files.len() >= MOST_FILES {
                    return Err(django::bad_request());
                }
                let last = filename.rsplit(['/', '\\']).next().unwrap_or_default();
                if matches!(last, "" | "." | "..") {
                    continue;
                }
                let blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0b;
                let signs = content.iter().filter(|byte| !blank(byte)).count();
                if is_base64 && (signs % 4 != 0 || from_base64(content).is_none()) {
                    return Err(wrong("Could not decode base64 data."));
                }
                files.push((name, Entry::File));
            }
        }
    }
    fields.extend(files);
    Ok(fields)
}

/// `[ -~]{0,200}[!-~]`
fn may_be_a_boundary(text: &str) -> bool {
    let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    (1..=201).contains(&text.len()) && printable && !text.ends_with(' ')
}

/// What lies between the separators, wherever in a line they are; before the first and after the last as well.
struct Parts<'a> {
    rest: &'a [u8],
    separator: Vec<u8>,
}

impl<'a> Iterator for Parts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let found = self.rest.windows(self.separator.len()).position(|window| window == self.separator);
        let Some(at) = found else { return Some(std::mem::take(&mut self.rest)) };
        let part = &self.rest[..at];
        self.rest = &self.rest[at + self.separator.len()..];
        let part = part.strip_suffix(b"\n").unwrap_or(part);
        Some(part.strip_suffix(b"\r").unwrap_or(part))
    }
}

struct Part<'a> {
    header: Option<PartHeader>,
    content: &'a [u8],
}

#[derive(Default)]
struct PartHeader {
    name: Option<String>,
    /// Where it is there and not empty.
    filename: Option<String>,
    is_base64: bool,
}

/// `None`: the header is too long.
fn split(part: &[u8]) -> Option<Part<'_>> {
    let head = &part[..part.len().min(MOST_HEADER_BYTES)];
    let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") else {
        return (head.len() < MOST_HEADER_BYTES).then_some(Part { header: None, content: part });
    };
    let mut header = PartHeader::default();
    let mut is_field = false;
    let mut rest = Some(&part[..end]);
    while let Some(lines) = rest {
        let line = match lines.windows(2).position(|window| window == b"\r\n") {
            Some(at) => {
                rest = Some(&lines[at + 2..]);
                &lines[..at]
            }
            None => {
                rest = None;
                lines
            }
        };
        // One that is no text counts for nothing.
        let Ok(line) = std::str::from_utf8(line) else { continue };
        let (main, parameters) = header_parameters(line);
        let Some((name, value)) = main.split_once(':') else { continue };
        match name {
            "content-disposition" => {
                is_field = true;
                let parameter = |name: &str| {
                    let written = |name: &str| parameters.iter().rev().find(|(known, _)| known == name);
                    let extended = written(&format!("{name}*")).and_then(|(_, value)| extended(value));
                    extended.or_else(|| written(name).map(|(_, value)| value.clone()))
                };
                header.name = parameter("name");
                header.filename = parameter("filename").filter(|filename| !filename.is_empty());
            }
            "content-transfer-encoding" => header.is_base64 = value.trim() == "base64",
            _ => {}
        }
    }
    Some(Part { header: is_field.then_some(header), content: &part[end + 4..] })
}

/// What `utf-8''gr%C3%BC%C3%9Fe` stands for (RFC 2231 §4); `None`: in a charset that is not looked at.
fn extended(value: &str) -> Option<String> {
    let mut parts = value.splitn(3, '\'');
    let (charset, text) = match (parts.next(), parts.next(), parts.next()) {
        (Some(charset), Some(_), Some(text)) => (charset, text),
        (_, _, _) => ("", value),
    };
    // A plus sign is one here.
    let bytes = percent_decoded(text.replace('+', "%2B").as_bytes());
    let charset = Charset::named(if charset.is_empty() { "us-ascii" } else { charset })?;
    Some(charset.decode_leniently(&bytes).to_string())
}

/// As Python's `b64decode` reads it: what is not of the alphabet is skipped.
fn from_base64(encoded: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut decoded = Zeroizing::new(Vec::with_capacity(encoded.len()));
    let (mut held, mut count, mut pads) = (0_u32, 0, 0);
    for &byte in encoded {
        let sextet = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' if count >= 2 => {
                pads += 1;
                if count + pads >= 4 {
                    return Some(decoded);
                }
                continue;
            }
            _ => continue,
        };
        pads = 0;
        held = held << 6 | u32::from(sextet);
        count = (count + 1) % 4;
        // The byte that these six bits complete, if they complete one.
        match count {
            2 => decoded.push((held >> 4) as u8),
            3 => decoded.push((held >> 2) as u8),
            0 => decoded.push(held as u8),
            _ => {}
        }
    }
    (count == 0).then_some(decoded)
}

#[cfg(test)]
mod tests {
    use crate::dialect::drf::parse::tests::read;

    const TYPE: &[u8] = b"multipart/form-data; boundary=x";

    fn of(parts: &[(&str, &str)]) -> Vec<u8> {
        let parts: String = parts.iter().map(|(header, value)| format!("--x\r\n{header}\r\n\r\n{value}\r\n")).collect();
        format!("{parts}--x--\r\n").into_bytes()
    }

    fn wrong(words: &str) -> String {
        format!("400 {{\"detail\":\"Multipart form parse error - {words}\"}}")
    }

    /// Each asked of Django 5.2.19.
    #[test]
    fn parts_are_read_as_django_reads_them() {
        let a = "Content-Disposition: form-data; name=\"a\"";
        let file = "Content-Disposition: form-data; name=\"b\"; filename=\"f.txt\"";
        let no_file = "Content-Disposition: form-data; name=\"c\"; filename=\"\"";
        let body = of(&[(a, "1"), (a, "2"), (file, "file"), (no_file, "cc")]);
        assert_eq!(read(TYPE, &body), "a=1 | a=2 | c=cc | b is a file");
        let encoded = format!("{a}\r\nContent-Transfer-Encoding: base64");
        assert_eq!(read(TYPE, &of(&[(&encoded, "aGVsbG8=")])), "a=hello");
        assert_eq!(read(TYPE, &of(&[(&encoded, "aGVs!bG8")])), "a=aGVs!bG8");
        let odd = of(&[
            ("content-DISPOSITION: form-data; name= q ", "v"),
            ("X: y", "v"),
            ("Content-Disposition: form-data", "z"),
        ]);
        assert_eq!(read(TYPE, &odd), "q=v");
        let extended = of(&[
            ("Content-Disposition: form-data; name*=utf-8''%C3%BC+x", "1"),
            ("Content-Disposition: form-data; name=\"a\"; name*=iso-8859-1'de'%FC", "2"),
            ("Content-Disposition: form-data; name*=plain", "3"),
        ]);
        assert_eq!(read(TYPE, &extended), "ü+x=1 | ü=2 | plain=3");
        assert_eq!(read(TYPE, b"garbage"), "");
        assert_eq!(read(TYPE, b"--x"), "");
        assert_eq!(read(TYPE, format!("--x\r\n{a}\r\n\r\nno end").as_bytes()), "a=no end");
        assert_eq!(read(TYPE, format!("--x\n{a}\n\nlf\n--x--").as_bytes()), "");
        assert_eq!(read(TYPE, &[b"preamble\r\n", &of(&[(a, "v")])[..], b"epilogue"].concat()), "a=v");
        assert_eq!(read(TYPE, &of(&[(a, "l1\r\n--xy\r\nl2")])), "a=l1", "a separator is one wherever it is");
        let long = format!("{a}\r\nY: {}", "z".repeat(1_200));
        assert_eq!(read(TYPE, &of(&[(&long, "v")])), wrong("Request max total header size exceeded."));
        let encoded_file = format!("{file}\r\nContent-Transfer-Encoding: base64");
        assert_eq!(read(TYPE, &of(&[(&encoded_file, "aGVsbG8")])), wrong("Could not decode base64 data."));
        assert!(read(TYPE, "--x".repeat(1_100).as_bytes()).starts_with(""), "no panic");
    }

    #[test]
    fn a_boundary_has_to_be_one() {
        let body = of(&[]);
        assert_eq!(read(b"multipart/form-data", &body), wrong("Invalid boundary in multipart: None"));
        assert_eq!(read(b"multipart/form-data; boundary=", &body), wrong("Invalid boundary in multipart: "));
        let upper = b"Multipart/form-data; boundary=x";
        assert_eq!(read(upper, &body), wrong("Invalid Content-Type: Multipart/form-data; boundary=x"));
        assert_eq!(
            read(b"multipart/form-data; boundary=\xe4", &body),
            wrong("Invalid non-ASCII Content-Type in multipart: multipart/form-data; boundary=ä")
        );
        assert_eq!(read(b"multipart/form-data; boundary=\"a b\"", &body), "");
        assert_eq!(read(b"multipart/form-data; boundary=x ", &body), "");
    }
}
