//! What OPTIONS tells of a view.

use axum::http::Method;

use super::answer::Answer;
use super::json::Value;
use super::view::{Parser, Renderer, View};

/// The answer to OPTIONS, to whoever may ask for anything else.
pub(crate) fn describe(view: &View) -> Answer {
    let media_types = |types: Vec<&'static str>| Value::list(types.into_iter().map(Value::text));
    let mut fields = vec![
        ("name", Value::text(&*view.name)),
        ("description", Value::text(&*view.description)),
        ("renders", media_types(view.renderers.iter().copied().map(Renderer::media_type).collect())),
        ("parses", media_types(view.parsers.iter().copied().map(Parser::media_type).collect())),
    ];
    let actions = [Method::PUT, Method::POST].into_iter().filter(|method| view.methods.contains(method));
    if !view.actions.is_empty() {
        let described = || Value::object(view.actions.iter().map(|field| (field.name, field.described())));
        fields.push(("actions", Value::object(actions.map(|method| (method.as_str().to_owned(), described())))));
    }
    Answer::ok(Value::object(fields))
}
