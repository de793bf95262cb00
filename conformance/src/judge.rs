//! Whether a scenario went as it was recorded.

use crate::cases::{Recorded, Scenario};
use crate::compare::{Difference, differences};
use crate::json::Json;
use crate::replay::Outcome;
use crate::rules::Rules;

/// What became of a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Identical,
    /// Every difference is meant.
    Deliberate(Vec<StepDiffers>),
    Differs(Vec<StepDiffers>),
    /// It could not be replayed, which is a difference.
    Skipped(String),
}

/// A step whose answer differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StepDiffers {
    pub(crate) step: usize,
    pub(crate) label: String,
    pub(crate) differences: Vec<Difference>,
    /// Why it may; empty: it may not.
    pub(crate) reasons: Vec<String>,
}

/// Holds what came to what was recorded.
pub(crate) fn judge(scenario: &Scenario, outcomes: &[Outcome], rules: &Rules) -> Verdict {
    let Some(recorded) = &scenario.recorded else {
        return Verdict::Skipped("it was never recorded".to_owned());
    };
    let steps: Vec<StepDiffers> =
        recorded.iter().filter_map(|it| step_differs(scenario, it, outcomes, rules)).collect();
    let beyond = outcomes.iter().find(|outcome| !recorded.iter().any(|recorded| recorded.step == outcome.step));
    if let Some(outcome) = beyond {
        return Verdict::Skipped(format!("step {} ({}) was never recorded", outcome.step, outcome.label));
    }
    if steps.is_empty() {
        Verdict::Identical
    } else if steps.iter().all(|step| !step.reasons.is_empty()) {
        Verdict::Deliberate(steps)
    } else {
        Verdict::Differs(steps)
    }
}

fn step_differs(scenario: &Scenario, recorded: &Recorded, outcomes: &[Outcome], rules: &Rules) -> Option<StepDiffers> {
    let Some(outcome) = outcomes.iter().find(|outcome| outcome.step == recorded.step) else {
        let lost = Difference { part: "step".to_owned(), told: vec!["the scenario has no such step".to_owned()] };
        return Some(StepDiffers {
            step: recorded.step,
            label: String::new(),
            differences: vec![lost],
            reasons: Vec::new(),
        });
    };
    let differences = differences(&recorded.norm, &rules.with_their_tokens(&recorded.norm, &outcome.norm));
    let no_example = scenario.steps.get(recorded.step).is_some_and(|step| step.peer_bug.is_some());
    if differences.is_empty() || (no_example && answers(&outcome.norm)) {
        return None;
    }
    let reasons = rules.excuse(scenario, outcome, &recorded.norm, &differences).unwrap_or_default();
    Some(StepDiffers {
        step: outcome.step,
        label: outcome.label.clone(),
        differences,
        reasons: reasons.into_iter().map(str::to_owned).collect(),
    })
}

/// Where the package itself fails, an answer of ours is only asked not to be a failure.
fn answers(norm: &Json) -> bool {
    norm.get("error").is_none() && norm.get("status").and_then(Json::as_i64).is_none_or(|status| status < 500)
}
