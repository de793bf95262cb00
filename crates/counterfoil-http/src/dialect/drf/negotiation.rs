//! In which form an answer is wanted: [`negotiate`].

use super::answer::Answer;
use super::media_type::{MediaType, header_parameters, latin1};
use super::view::Renderer;
use axum::http::{HeaderMap, StatusCode, header};

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// JSON; with so many spaces for each level, or compact.
    Json { indent: Option<usize> },
    /// A page for people.
    Page,
}

/// What is not looked at any more, as Django REST framework has it.
const MOST_ACCEPT_CHARS: usize = 8_192;
const MOST_MEDIA_TYPES: usize = 64;
const MOST_MEDIA_TYPE_CHARS: usize = 256;

/// The form that a request wants, of those that the view has. `q` counts for nothing; what says more goes first.
///
/// # Errors
/// 406, and 404 for a `?format=` that the view does not have.
pub(crate) fn negotiate(renderers: &[Renderer], headers: &HeaderMap, query: &str) -> Result<Form, Answer> {
    // The last of several wins, as in every query of Django's.
    let format = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "format").last();
    let wanted = format.as_ref().map(|(_, format)| &**format).filter(|format| !format.is_empty());
    let offered: Vec<Renderer> =
        renderers.iter().copied().filter(|renderer| wanted.is_none_or(|wanted| renderer.format() == wanted)).collect();
    if offered.is_empty() {
        return Err(Answer::detail(StatusCode::NOT_FOUND, "Not found."));
    }
    let accepted = accepted(headers);
    for precedence in (0..=3).rev() {
        for &renderer in &offered {
            let matching = accepted.iter().find(|(_, media_type)| {
                media_type.precedence() == precedence && media_type.takes(renderer.media_type())
            });
            if let Some((line, _)) = matching {
                return Ok(match renderer {
                    Renderer::Json => Form::Json { indent: indent(line) },
                    Renderer::Page => Form::Page,
                });
            }
        }
    }
    Err(Answer::detail(StatusCode::NOT_ACCEPTABLE, "Could not satisfy the request Accept header."))
}

fn accepted(headers: &HeaderMap) -> Vec<(String, MediaType)> {
    let lines: Vec<String> = headers.get_all(header::ACCEPT).iter().map(|line| latin1(line.as_bytes())).collect();
    let whole = if lines.is_empty() { "*/*".to_owned() } else { lines.join(",") };
    // Cut at a comma, so that the rest of a media type is not taken for one. Each character is one byte of the header.
    let end = match whole.char_indices().nth(MOST_ACCEPT_CHARS) {
        Some((end, _)) => whole[..end].rfind(',').unwrap_or(0),
        None => whole.len(),
    };
    let types = whole[..end].split(',').map(str::trim);
    let types = types.filter(|line| !line.is_empty() && line.chars().count() <= MOST_MEDIA_TYPE_CHARS);
    types.take(MOST_MEDIA_TYPES).map(|line| (line.to_owned(), MediaType::of(line))).collect()
}

/// `indent=4`; 0, and what Python's `int` does not read, is none. At most 8.
fn indent(line: &str) -> Option<usize> {
    let (_, parameters) = header_parameters(line);
    let (_, value) = parameters.iter().rev().find(|(name, _)| name == "indent")?;
    // Nobody's clients write 1_0 or digits of other scripts, which Python takes, too.
    let number: i128 = value.trim().parse().ok()?;
    usize::try_from(number.clamp(0, 8)).ok().filter(|&indent| indent > 0)
}

#[cfg(test)]
mod tests {
    use super::super::authorization::Authentication;
    use super::*;
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    const BOTH: &[Renderer] = &[Renderer::Json, Renderer::Page];

    fn asked(renderers: &[Renderer], accept: &[&str], query: &str) -> Result<Form, u16> {
        let mut headers = HeaderMap::new();
        for line in accept {
            headers.append(header::ACCEPT, HeaderValue::from_str(line).expect("value"));
        }
        negotiate(renderers, &headers, query).map_err(|answer| answer.status().as_u16())
    }

    const COMPACT: Form = Form::Json { indent: None };

    /// Each asked of Django REST framework 3.18.3.
    #[test]
    fn what_is_accepted_is_what_the_framework_accepts() {
        for (accept, form) in [
            (&[][..], Ok(COMPACT)),
            (&[""], Err(406)),
            (&[" , "], Err(406)),
            (&["*/*"], Ok(COMPACT)),
            (&["*"], Err(406)),
            (&["foo"], Err(406)),
            (&["image/png"], Err(406)),
            (&["text/*"], Ok(Form::Page)),
            (&["text/html"], Ok(Form::Page)),
            (&["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], Ok(Form::Page)),
            (&["application/xml, */*;q=0.1"], Ok(COMPACT)),
            (&["application/json;q=0"], Ok(COMPACT)),
            (&["text/html", "application/json"], Ok(COMPACT)),
            (&["text/html, application/json;indent=4"], Ok(Form::Json { indent: Some(4) })),
            (&["application/json; indent=4"], Ok(Form::Json { indent: Some(4) })),
            (&["application/json;indent=99"], Ok(Form::Json { indent: Some(8) })),
            (&["*/*; indent=2"], Ok(Form::Json { indent: Some(2) })),
            (&["application/json; indent=abc"], Ok(COMPACT)),
            (&["application/json; indent=0"], Ok(COMPACT)),
            (&["application/json; indent=-3"], Ok(COMPACT)),
        ] {
            assert_eq!(asked(BOTH, accept, ""), form, "{accept:?}");
        }
        assert_eq!(asked(&[Renderer::Json], &["text/html"], ""), Err(406));
    }

    #[test]
    fn a_format_in_the_query_leaves_one_form() {
        assert_eq!(asked(BOTH, &[], "format=api"), Ok(Form::Page));
        assert_eq!(asked(BOTH, &["text/html"], "format=json"), Err(406));
        assert_eq!(asked(BOTH, &["*/*"], "a=b&format=json"), Ok(COMPACT));
        assert_eq!(asked(BOTH, &[], "format="), Ok(COMPACT));
        assert_eq!(asked(BOTH, &[], "format=xml"), Err(404));
        assert_eq!(asked(&[Renderer::Json], &[], "format=api"), Err(404));
    }

    proptest! {
        #[test]
        fn no_head_makes_it_panic(
            accept in proptest::collection::vec(any::<u8>(), 0..100),
            authorization in proptest::collection::vec(any::<u8>(), 0..40),
            pieces in "[a-z*/;,=\"\\\\ %']{0,60}",
            query in ".{0,40}",
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in [(header::ACCEPT, &accept[..]), (header::ACCEPT, pieces.as_bytes()), (header::AUTHORIZATION, &authorization)] {
                if let Ok(value) = HeaderValue::from_bytes(value) {
                    headers.append(name, value);
                }
            }
            negotiate(BOTH, &headers, &query).ok();
            for authentication in [Authentication::Nobody, Authentication::token(), Authentication::Basic] {
                authentication.presented(&headers).ok();
            }
        }
    }

    #[test]
    fn a_long_header_is_cut_at_a_comma() {
        let long = format!("{},application/json", "text/plain,".repeat(800));
        assert_eq!(asked(BOTH, &[&long], ""), Err(406));
    }
}
