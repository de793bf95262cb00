//! The differences that are meant, each with its reason: `rules/PACKAGE.toml`, and `rules/every-package.toml`.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use regex::Regex;
use serde::Deserialize;

use crate::Failure;
use crate::cases::{Action, Scenario};
use crate::compare::Difference;
use crate::json::Json;
use crate::replay::Outcome;

/// The rules of one package.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    token_texts: Vec<TokenText>,
    deliberate: Vec<Deliberate>,
}

/// Another text of tokens. A case that differs in nothing else is identical.
#[derive(Debug)]
struct TokenText {
    /// The shape that the package gives its tokens: `uuid4`.
    recorded: String,
    /// And ours: `b64url52`.
    ours: String,
    reason: String,
    used: AtomicBool,
}

/// A difference on purpose.
#[derive(Debug)]
struct Deliberate {
    scenario: Option<Regex>,
    profile: Option<Regex>,
    step: Option<usize>,
    request: Option<Regex>,
    recorded: Option<Regex>,
    ours: Option<Regex>,
    parts: Vec<String>,
    reason: String,
    used: AtomicBool,
    scope: Scope,
}

/// Which packages a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    One,
    /// Some of them may have no need of it.
    Every,
}

/// As it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    token_text: Vec<WrittenTokenText>,
    #[serde(default)]
    deliberate: Vec<WrittenDeliberate>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTokenText {
    recorded: String,
    ours: String,
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenDeliberate {
    /// Its whole name, as a pattern.
    scenario: Option<String>,
    /// Likewise.
    profile: Option<String>,
    step: Option<usize>,
    /// Method and path as the scenario writes them, as a pattern: `GET /auth/logout/`.
    request: Option<String>,
    /// Found in what was recorded, in its normal form on one line.
    recorded: Option<String>,
    /// Found in what ours answered, likewise.
    ours: Option<String>,
    /// What may differ: `status`, `headers.allow`, `body`, `kind`, `holds`.
    parts: Vec<String>,
    reason: String,
}

impl Rules {
    /// Those of a package, and those for every package; without the files there are none.
    pub(crate) fn load(directory: &Path, package: &str) -> Result<Rules, Failure> {
        let mut rules = Rules::in_file(&directory.join(format!("{package}.toml")))?;
        let mut common = Rules::in_file(&directory.join("every-package.toml"))?;
        common.deliberate.iter_mut().for_each(|rule| rule.scope = Scope::Every);
        rules.deliberate.extend(common.deliberate);
        rules.token_texts.extend(common.token_texts);
        Ok(rules)
    }

    fn in_file(path: &Path) -> Result<Rules, Failure> {
        match fs::read_to_string(path) {
            Ok(text) => Ok(Rules::read(&text).map_err(|error| format!("{}: {error}", path.display()))?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Rules::default()),
            Err(error) => Err(format!("{}: {error}", path.display()).into()),
        }
    }

    fn read(text: &str) -> Result<Rules, Failure> {
        let file: File = toml::from_str(text)?;
        let token_texts = file.token_text.into_iter().map(|written| {
            let WrittenTokenText { recorded, ours, reason } = written;
            Ok::<_, Failure>(TokenText { recorded, ours, reason: said(reason)?, used: AtomicBool::new(false) })
        });
        let deliberate = file.deliberate.into_iter().map(Deliberate::read);
        Ok(Rules {
            token_texts: token_texts.collect::<Result<_, _>>()?,
            deliberate: deliberate.collect::<Result<_, _>>()?,
        })
    }

    /// What ours answered, with tokens that look otherwise on purpose as if they looked like the package's.
    pub(crate) fn with_their_tokens(&self, recorded: &Json, ours: &Json) -> Json {
        let mut seen = ours.clone();
        let written = recorded.compact();
        for rule in &self.token_texts {
            // Only where a token of theirs stands: another shape where theirs kept its own is a difference.
            let ends = [format!(":{}>", rule.recorded), format!("<{}>", rule.recorded)];
            if ends.iter().any(|end| written.contains(end.as_str())) {
                let changed = reshaped(&seen, &rule.ours, &rule.recorded);
                if changed != seen {
                    rule.used.store(true, Ordering::Relaxed);
                }
                seen = changed;
            }
        }
        seen
    }

    /// The reasons for which a step may differ as it does; `None`: there is a difference that no rule has.
    pub(crate) fn excuse(
        &self,
        scenario: &Scenario,
        outcome: &Outcome,
        recorded: &Json,
        differences: &[Difference],
    ) -> Option<Vec<&str>> {
        let mut reasons = Vec::new();
        for difference in differences {
            let mut covering = self
                .deliberate
                .iter()
                .filter(|rule| rule.parts.contains(&difference.part) && rule.is_about(scenario, outcome, recorded));
            let rule = covering.next()?;
            rule.used.store(true, Ordering::Relaxed);
            if !reasons.contains(&rule.reason.as_str()) {
                reasons.push(rule.reason.as_str());
            }
        }
        Some(reasons)
    }

    /// The reasons of the rules that no case has needed.
    pub(crate) fn unused(&self) -> Vec<&str> {
        let token_texts = self.token_texts.iter().map(|rule| (&rule.reason, &rule.used));
        let of_package = self.deliberate.iter().filter(|rule| rule.scope == Scope::One);
        let deliberate = of_package.map(|rule| (&rule.reason, &rule.used));
        let unused = token_texts.chain(deliberate).filter(|(_, used)| !used.load(Ordering::Relaxed));
        unused.map(|(reason, _)| reason.as_str()).collect()
    }
}

impl Deliberate {
    fn read(written: WrittenDeliberate) -> Result<Deliberate, Failure> {
        let whole = |pattern: Option<String>| pattern.map(|text| Regex::new(&format!("^(?:{text})$"))).transpose();
        let inside = |pattern: Option<String>| pattern.map(|text| Regex::new(&text)).transpose();
        let narrow = written.scenario.is_some() || written.request.is_some() || written.recorded.is_some();
        if !narrow {
            return Err(format!("no scenario, request or recorded answer: {}", written.reason).into());
        }
        if written.parts.is_empty() {
            return Err(format!("no part may differ: {}", written.reason).into());
        }
        Ok(Deliberate {
            scenario: whole(written.scenario)?,
            profile: whole(written.profile)?,
            step: written.step,
            request: whole(written.request)?,
            recorded: inside(written.recorded)?,
            ours: inside(written.ours)?,
            parts: written.parts,
            reason: said(written.reason)?,
            used: AtomicBool::new(false),
            scope: Scope::One,
        })
    }

    fn is_about(&self, scenario: &Scenario, outcome: &Outcome, recorded: &Json) -> bool {
        let fits = |pattern: &Option<Regex>, text: &str| pattern.as_ref().is_none_or(|pattern| pattern.is_match(text));
        let request = match scenario.steps.get(outcome.step).map(|step| &step.action) {
            Some(Action::Request(request)) => format!("{} {}", request.method, request.path),
            Some(Action::Mail(_) | Action::Sleep(_) | Action::Relation(_)) | None => outcome.label.clone(),
        };
        fits(&self.scenario, &scenario.name)
            && fits(&self.profile, &scenario.profile)
            && self.step.is_none_or(|step| step == outcome.step)
            && fits(&self.request, &request)
            && fits(&self.recorded, &recorded.compact())
            && fits(&self.ours, &outcome.norm.compact())
    }
}

/// A reason is a sentence that somebody can judge.
fn said(reason: String) -> Result<String, Failure> {
    if reason.trim().len() < 20 { Err(format!("{reason:?} is no reason").into()) } else { Ok(reason) }
}

/// `<tok:OURS>` and `<OURS>` as if they were of another shape.
fn reshaped(value: &Json, ours: &str, theirs: &str) -> Json {
    let text = |text: &str| {
        text.replace(&format!(":{ours}>"), &format!(":{theirs}>")).replace(&format!("<{ours}>"), &format!("<{theirs}>"))
    };
    match value {
        Json::Text(it) => Json::Text(text(it)),
        Json::List(items) => Json::List(items.iter().map(|item| reshaped(item, ours, theirs)).collect()),
        Json::Object(entries) => {
            Json::Object(entries.iter().map(|(key, value)| (key.clone(), reshaped(value, ours, theirs))).collect())
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::{Recorded, Request, Step};
    use crate::judge::{Verdict, judge};

    const NATIVE: &str =
        "[[token_text]]\nrecorded = \"uuid4\"\nours = \"b64url52\"\nreason = \"no room for a check in a UUID\"\n";

    fn norm(status: u16, body: &str) -> Json {
        let text = format!(r#"{{"status":{status},"headers":{{}},"body":{body},"kind":"json"}}"#);
        Json::parse(text.as_bytes()).unwrap()
    }

    /// What is judged of one request, by the answers to it.
    fn judged(rules: &str, recorded: Json, ours: Json) -> Verdict {
        let request = Request {
            method: "GET".to_owned(),
            path: "/auth/logout/".to_owned(),
            headers: Vec::new(),
            body: crate::cases::Body::None,
        };
        let step = Step { action: Action::Request(request), capture: Vec::new(), compare: None, peer_bug: None };
        let scenario = Scenario {
            name: "logout".to_owned(),
            profile: "default".to_owned(),
            about: String::new(),
            steps: vec![step],
            recorded: Some(vec![Recorded { step: 0, norm: recorded, raw: None }]),
        };
        let outcome = Outcome { step: 0, label: String::new(), norm: ours, answer: None };
        judge(&scenario, &[outcome], &Rules::read(rules).unwrap())
    }

    #[test]
    fn another_text_of_a_token_leaves_a_case_identical_and_nothing_else_does() {
        let theirs = norm(200, r#"{"token":"<tok:uuid4>"}"#);
        assert_eq!(judged(NATIVE, theirs.clone(), norm(200, r#"{"token":"<tok:b64url52>"}"#)), Verdict::Identical);
        for ours in [
            norm(200, r#"{"token":"<tok:b64url53>"}"#),
            norm(201, r#"{"token":"<tok:b64url52>"}"#),
            norm(200, r#"{"key":"<tok:b64url52>"}"#),
            norm(200, r#"{"token":"<tok:b64url52>","a":1}"#),
        ] {
            assert!(matches!(judged(NATIVE, theirs.clone(), ours.clone()), Verdict::Differs(_)), "{ours:?}");
        }
    }

    #[test]
    fn a_token_of_ours_is_none_of_theirs_where_theirs_is_of_another_shape() {
        let recorded = norm(200, r#"{"token":"<tok:hex40>"}"#);
        assert!(matches!(judged(NATIVE, recorded, norm(200, r#"{"token":"<tok:b64url52>"}"#)), Verdict::Differs(_)));
    }

    #[test]
    fn a_difference_is_meant_only_as_far_as_a_rule_goes() {
        let rule = |more: &str| {
            let reason = "a link is not to log anybody out";
            format!(
                "[[deliberate]]\nrequest = \"GET /auth/logout/\"\nparts = [\"status\"]\nreason = \"{reason}\"\n{more}"
            )
        };
        let (theirs, ours) = (norm(200, "null"), norm(405, "null"));
        let deliberate =
            |rules: &str, ours: &Json| matches!(judged(rules, theirs.clone(), ours.clone()), Verdict::Deliberate(_));
        assert!(deliberate(&rule(""), &ours));
        assert!(deliberate(&rule("scenario = \"log.*\"\nours = '\"status\": 405'\nstep = 0"), &ours));
        assert!(!deliberate(&rule(""), &norm(405, "1")), "the body may not differ");
        for elsewhere in [
            "scenario = \"log\"",
            "profile = \"strict\"",
            "step = 1",
            "recorded = '\"status\": 302'",
            "ours = '\"status\": 403'",
        ] {
            assert!(!deliberate(&rule(elsewhere), &ours), "{elsewhere}");
        }
    }

    #[test]
    fn a_rule_says_where_it_holds_what_may_differ_and_why() {
        for wrong in [
            "[[deliberate]]\nscenario = \"x\"\nparts = [\"status\"]\nreason = \"so\"",
            "[[deliberate]]\nscenario = \"x\"\nparts = []\nreason = \"a link is not to log anybody out\"",
            "[[deliberate]]\nparts = [\"status\"]\nreason = \"a link is not to log anybody out\"",
            "[[deliberate]]\nscenario = \"(\"\nparts = [\"status\"]\nreason = \"a link is not to log anybody out\"",
            "[[deliberate]]\nname = \"x\"\nparts = [\"status\"]\nreason = \"a link is not to log anybody out\"",
        ] {
            assert!(Rules::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rule_that_nothing_needs_is_told() {
        let rules = Rules::read(NATIVE).unwrap();
        assert_eq!(rules.unused(), ["no room for a check in a UUID"]);
        let token = |shape: &str| norm(200, &format!(r#"{{"token":"<{shape}>"}}"#));
        assert_eq!(rules.with_their_tokens(&token("uuid4"), &token("b64url52")), token("uuid4"));
        assert!(rules.unused().is_empty());
    }
}
