//! What a run says: every difference, and the line it ends with.

use std::fmt;

use crate::cases::Scenario;
use crate::judge::{StepDiffers, Verdict};

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// What differs and is not meant.
    Differences,
    /// Every scenario.
    Everything,
}

/// `N scenarios, M identical, K differ (J deliberate)`: K includes J and what was skipped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    identical: usize,
    deliberate: usize,
    differ: usize,
}

impl Tally {
    pub(crate) fn add(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Identical => self.identical += 1,
            Verdict::Deliberate(_) => self.deliberate += 1,
            Verdict::Differs(_) | Verdict::Skipped(_) => self.differ += 1,
        }
    }

    pub(crate) fn include(&mut self, other: Tally) {
        self.identical += other.identical;
        self.deliberate += other.deliberate;
        self.differ += other.differ;
    }

    pub(crate) fn scenarios(self) -> usize {
        self.identical + self.deliberate + self.differ
    }

    /// Whether every difference is meant.
    pub(crate) fn is_as_meant(self) -> bool {
        self.differ == 0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { identical, deliberate, differ } = self;
        let scenarios = self.scenarios();
        write!(
            f,
            "{scenarios} scenarios, {identical} identical, {} differ ({deliberate} deliberate)",
            differ + deliberate
        )
    }
}

/// What is said of one scenario.
pub(crate) fn told(scenario: &Scenario, verdict: &Verdict, detail: Detail) -> Vec<String> {
    let Scenario { name, profile, about, .. } = scenario;
    let headline = |word: &str| format!("{word:<10} {name}  [{profile}]  {about}").trim_end().to_owned();
    match (verdict, detail) {
        (Verdict::Identical | Verdict::Deliberate(_), Detail::Differences) => Vec::new(),
        (Verdict::Identical, Detail::Everything) => vec![headline("identical")],
        (Verdict::Deliberate(steps), Detail::Everything) => with_steps(headline("deliberate"), steps),
        (Verdict::Differs(steps), _) => with_steps(headline("DIFFERS"), steps),
        (Verdict::Skipped(why), _) => vec![headline("SKIPPED"), format!("    {why}")],
    }
}

fn with_steps(headline: String, steps: &[StepDiffers]) -> Vec<String> {
    let mut told = vec![headline];
    for step in steps {
        told.push(format!("    step {}: {}", step.step, step.label));
        let lines = step.differences.iter().flat_map(|difference| &difference.told);
        told.extend(lines.map(|line| format!("      {line}")));
        told.extend(step.reasons.iter().map(|reason| format!("      meant: {reason}")));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_skipped_and_what_is_meant_count_as_differing() {
        let mut tally = Tally::default();
        for verdict in [
            Verdict::Identical,
            Verdict::Deliberate(Vec::new()),
            Verdict::Differs(Vec::new()),
            Verdict::Skipped(String::new()),
        ] {
            tally.add(&verdict);
        }
        assert_eq!(tally.to_string(), "4 scenarios, 1 identical, 3 differ (1 deliberate)");
        assert!(!tally.is_as_meant());
    }
}
