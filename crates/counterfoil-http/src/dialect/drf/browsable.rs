//! The page that a browser gets of a view: what the framework's browsable API tells, in words of our own.

use std::fmt::Write as _;

use axum::http::StatusCode;

use super::view::View;

/// A page that tells the name of the view, what was asked, and the answer. No script, no style, no form: nothing of it can do
/// anything but be read.
pub(crate) fn page(view: &View, asked: &str, status: StatusCode, data: &str) -> String {
    let name = escaped(&view.name);
    let mut page = String::with_capacity(512 + data.len());
    let described = match &*view.description {
        "" => String::new(),
        description => format!("<p>{}</p>\n", escaped(description)),
    };
    // Writing to a String does not fail.
    write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"robots\" content=\"noindex, nofollow\">\n\
         <title>{name}</title>\n</head>\n<body>\n<h1>{name}</h1>\n{described}<pre>{asked}</pre>\n\
         <pre>HTTP {status}\nAllow: {allow}\n\n{data}</pre>\n</body>\n</html>\n",
        asked = escaped(asked),
        allow = view.allow(),
        data = escaped(data),
    )
    .ok();
    page
}

pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#x27;"),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_anybody_sent_is_markup() {
        let view = View::named("View", &[]);
        let page = page(&view, "GET /<script>", StatusCode::OK, "{\"a\": \"</pre><script>\"}");
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("&lt;/pre&gt;&lt;script&gt;"), "{page}");
    }
}
