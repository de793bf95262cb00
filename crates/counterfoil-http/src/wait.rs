//! `?wait=everywhere`: an answer that comes once no node can still accept what was ended.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::Uri;
use axum::http::uri::PathAndQuery;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::http::Http;
use crate::problem::{Problem, ProblemKind};

/// Whether the caller waits is read and taken out of the query; the handler knows nothing of it. What failed is not waited for.
pub(crate) async fn for_everywhere(State(http): State<Http>, mut request: Request, next: Next) -> Response {
    let waits = match taken_out(request.uri_mut()) {
        Ok(waits) => waits,
        Err(problem) => return problem.into_response(),
    };
    let response = next.run(request).await;
    if waits && response.status().is_success() {
        tokio::time::sleep(Duration::from_millis(http.authority().everywhere_after_millis())).await;
    }
    response
}

/// # Errors
/// 400 where it says anything but `everywhere`, or says it twice.
fn taken_out(uri: &mut Uri) -> Result<bool, Problem> {
    let query = uri.query().unwrap_or_default().to_owned();
    let (wait, others): (Vec<&str>, Vec<&str>) =
        query.split('&').partition(|pair| pair.split('=').next().is_some_and(|name| name == "wait"));
    match wait[..] {
        [] => return Ok(false),
        ["wait=everywhere"] => {}
        _ => return Err(Problem::new(ProblemKind::InvalidValue, "Say wait=everywhere, or nothing.").about("wait")),
    }
    let mut parts = std::mem::take(uri).into_parts();
    let path = parts.path_and_query.as_ref().map_or("/", PathAndQuery::path);
    let rest = if others.is_empty() { path.to_owned() } else { format!("{path}?{}", others.join("&")) };
    // A part of what was a path and a query is one.
    parts.path_and_query = rest.parse().ok();
    *uri = Uri::from_parts(parts).unwrap_or_default();
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_word_itself_is_taken_out() {
        for (text, waits, left) in [
            ("/v1/logout", Some(false), "/v1/logout"),
            ("/v1/logout?wait=everywhere", Some(true), "/v1/logout"),
            ("/v1/tokens?keep=current&wait=everywhere", Some(true), "/v1/tokens?keep=current"),
            ("/v1/tokens?wait=everywhere&keep=a%20b&x", Some(true), "/v1/tokens?keep=a%20b&x"),
            ("https://host/v1/tokens?waiting=1", Some(false), "https://host/v1/tokens?waiting=1"),
            ("/v1/logout?wait=nowhere", None, "/v1/logout?wait=nowhere"),
            ("/v1/logout?wait", None, "/v1/logout?wait"),
            ("/v1/logout?wait=everywhere&wait=everywhere", None, "/v1/logout?wait=everywhere&wait=everywhere"),
        ] {
            let mut uri: Uri = text.parse().expect("a URI");
            assert_eq!(taken_out(&mut uri).ok(), waits, "{text}");
            assert_eq!(uri.to_string(), left);
        }
    }
}
