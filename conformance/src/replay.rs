//! One scenario against one server.

use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;

use crate::cases::{Action, Relation, Request, Scenario, Step, Token};
use crate::exchange::{Answer, exchange};
use crate::json::Json;
use crate::mailbox::Mailbox;
use crate::normalise::{Context, normal_form, shape};
use crate::request::Unmade;
use crate::template::{Missing, Values};

/// Where the requests of one scenario go.
#[derive(Debug)]
pub(crate) struct Side<'a> {
    /// `127.0.0.1:8000`.
    pub(crate) host: String,
    /// What every path begins with; mostly nothing.
    pub(crate) base: String,
    pub(crate) mailbox: Mailbox,
    /// How many requests are under way at once, whatever the number of scenarios.
    pub(crate) at_once: &'a Semaphore,
    pub(crate) time: Time,
}

/// Which time an answer is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Time {
    Real,
    /// That of the answer's own Date header, and no pause is made: for answers that were recorded long ago.
    #[cfg_attr(not(test), expect(dead_code, reason = "the tests replay what was recorded"))]
    Recorded,
}

/// What one step gave.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) step: usize,
    pub(crate) label: String,
    pub(crate) norm: Json,
    /// As it came; `None`: there was none to get.
    pub(crate) answer: Option<Answer>,
}

/// Takes the steps one by one. `uniq` stands for `{{uniq}}`.
pub(crate) async fn replay(scenario: &Scenario, tokens: &[Token], uniq: &str, side: &Side<'_>) -> Vec<Outcome> {
    let mut told = Told::new(tokens, uniq, side);
    let mut outcomes = Vec::new();
    for (at, step) in scenario.steps.iter().enumerate() {
        let (label, norm, answer) = match &step.action {
            Action::Sleep(time) => {
                told.sleep(*time).await;
                continue;
            }
            Action::Relation(relation) => {
                let label = format!("relation {} {} {}", relation.left, relation.operator, relation.right);
                (label, told.relation(relation), None)
            }
            Action::Mail(address) => {
                let label = format!("mail to {address}");
                let answer = told.mail(address).await;
                told.outcome(label, step, answer)
            }
            Action::Request(request) => {
                let label = format!("{} {}", request.method, request.path);
                let answer = told.request(request).await;
                told.outcome(label, step, answer)
            }
        };
        outcomes.push(Outcome { step: at, label, norm, answer });
    }
    outcomes
}

/// What is known so far.
struct Told<'a> {
    side: &'a Side<'a>,
    values: Values,
    uniq: String,
    /// Captured names, and what stands for their values: `<tok:hex64>`.
    names: Vec<(String, String)>,
}

impl<'a> Told<'a> {
    fn new(tokens: &[Token], uniq: &str, side: &'a Side<'a>) -> Told<'a> {
        let mut values = Values::default();
        values.set("uniq", Json::text(uniq));
        for token in tokens {
            values.set(format!("t:{}", token.label), Json::text(&token.text));
        }
        Told { side, values, uniq: uniq.to_owned(), names: Vec::new() }
    }

    async fn sleep(&self, time: Duration) {
        match self.side.time {
            Time::Real => tokio::time::sleep(time).await,
            Time::Recorded => {}
        }
    }

    /// Two values that were never captured are equal, as nothing is to nothing.
    fn relation(&self, relation: &Relation) -> Json {
        let same = self.values.get(&relation.left) == self.values.get(&relation.right);
        let holds = if relation.operator == "eq" { same } else { !same };
        Json::Object(vec![("holds".to_owned(), Json::Bool(holds))])
    }

    async fn mail(&self, address: &str) -> Result<Answer, String> {
        let address = self.values.fill(address).map_err(|missing| never_captured(&missing))?;
        Ok(self.side.mailbox.newest(&address).await)
    }

    async fn request(&self, request: &Request) -> Result<Answer, String> {
        let bytes = request.bytes(&self.side.host, &self.side.base, &self.values).map_err(|unmade| match unmade {
            Unmade::Missing(missing) => never_captured(&missing),
            Unmade::Wrong(what) => what,
        })?;
        let _turn = self.side.at_once.acquire().await.map_err(|error| error.to_string())?;
        exchange(&self.side.host, &request.method, &bytes).await
    }

    fn outcome(
        &mut self,
        label: String,
        step: &Step,
        answer: Result<Answer, String>,
    ) -> (String, Json, Option<Answer>) {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return (label, Json::Object(vec![("error".to_owned(), Json::Text(error))]), None),
        };
        let at = self.instant_of(&answer);
        for (name, place) in &step.capture {
            // One that is not there shows as a difference later on.
            if let Some(value) = captured(place, &answer) {
                self.know(name, value);
            }
        }
        let norm = normal_form(&answer, &Context { names: self.stand_ins(), at }, step);
        (label, norm, Some(answer))
    }

    fn know(&mut self, name: &str, value: Json) {
        let stand_in = match &value {
            Json::Text(text) => format!("<{name}:{}>", shape(text)),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::List(_) | Json::Object(_) => format!("<{name}>"),
        };
        self.values.set(name, value);
        match self.names.iter_mut().find(|(known, _)| known == name) {
            Some(known) => known.1 = stand_in,
            None => self.names.push((name.to_owned(), stand_in)),
        }
    }

    /// Texts of this run and what stands for them, the longest first.
    fn stand_ins(&self) -> Vec<(String, String)> {
        let mut stand_ins =
            vec![(self.side.host.clone(), "<host>".to_owned()), (self.uniq.clone(), "<uniq>".to_owned())];
        for (name, stand_in) in &self.names {
            if let Some(Json::Text(text)) = self.values.get(name)
                && text.chars().count() > 8
            {
                stand_ins.push((text.clone(), stand_in.clone()));
            }
        }
        stand_ins.sort_by_key(|(text, _)| std::cmp::Reverse(text.chars().count()));
        stand_ins
    }

    fn instant_of(&self, answer: &Answer) -> f64 {
        let recorded = match self.side.time {
            Time::Real => None,
            Time::Recorded => answer.header("date").and_then(seconds_of_date),
        };
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        recorded.unwrap_or_else(|| since.map(|since| since.as_secs_f64()).unwrap_or_default())
    }
}

fn never_captured(Missing(name): &Missing) -> String {
    format!("nothing captured for '{name}'")
}

/// `Fri, 20 Nov 2026 09:40:27 GMT`.
fn seconds_of_date(date: &str) -> Option<f64> {
    let instant = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
    #[expect(clippy::cast_precision_loss, reason = "seconds of the epoch are far below 2^53")]
    let seconds = instant.as_second() as f64;
    Some(seconds)
}

fn captured(place: &str, answer: &Answer) -> Option<Json> {
    let (kind, argument) = place.split_once(':')?;
    match kind {
        "json" => at_path(&Json::parse(&answer.body).ok()?, argument),
        "header" => answer.header(&argument.to_lowercase()).map(Json::text),
        "re" => {
            let text = String::from_utf8_lossy(&answer.body);
            let json = answer.header("content-type").unwrap_or_default().contains("json");
            let text = if json { unescaped(&text) } else { text.into_owned() };
            // Patterns are Python's, which look around.
            let found = fancy_regex::Regex::new(argument).ok()?.captures(&text).ok()??;
            Some(Json::text(found.get(1)?.as_str()))
        }
        _ => None,
    }
}

/// The escapes of a JSON text that stand between words, so that a pattern sees lines.
fn unescaped(text: &str) -> String {
    if !text.contains("\\u") {
        return text.replace("\\n", "\n");
    }
    let quoted = format!("\"{}\"", text.replace('"', "\\\"").replace("\\\\\"", "\\\""));
    Json::parse(quoted.as_bytes()).ok().and_then(|it| it.as_str().map(str::to_owned)).unwrap_or_else(|| text.to_owned())
}

/// `a.b.0`, and `[client=cli].id` for the first of a list that says so.
fn at_path(value: &Json, path: &str) -> Option<Json> {
    let mut at = value;
    for key in path.split('.') {
        at = match at {
            Json::List(items) => {
                let wanted = key.strip_prefix('[').and_then(|key| key.strip_suffix(']')?.split_once('='));
                match wanted {
                    Some((name, value)) => {
                        items.iter().find(|item| item.get(name).is_some_and(|found| found.to_python_text() == value))?
                    }
                    None => items.get(key.parse::<usize>().ok()?)?,
                }
            }
            Json::Object(_) => at.get(key)?,
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) => return None,
        };
    }
    Some(at.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(content_type: &str, body: &str) -> Answer {
        let headers = vec![("content-type".to_owned(), content_type.to_owned()), ("x".to_owned(), "y".to_owned())];
        Answer { status: 200, headers, body: body.as_bytes().to_vec() }
    }

    #[test]
    fn values_are_captured_from_json_headers_and_text() {
        let json = answer("application/json", r#"{"a":{"b":[{"id":1,"c":"cli"},{"id":2,"c":"web"}]},"t":"x\ny"}"#);
        assert_eq!(captured("json:a.b.[c=web].id", &json), Some(Json::Number("2".to_owned())));
        assert_eq!(captured("json:a.b.0.c", &json), Some(Json::text("cli")));
        assert_eq!(captured("json:a.b.[c=none].id", &json), None);
        assert_eq!(captured("header:X", &json), Some(Json::text("y")));
        assert_eq!(captured(r#"re:"t":"(x\sy)""#, &json), Some(Json::text("x\ny")));
        assert_eq!(captured("re:<b>(.*)</b>", &answer("text/html", "a<b>c</b>")), Some(Json::text("c")));
        assert_eq!(captured("re:nothing(.*)", &json), None);
        assert_eq!(captured(r#"re:(?<="t":")(x)(?=\\?\n)"#, &json), Some(Json::text("x")));
    }
}
