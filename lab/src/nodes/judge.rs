//! The judge: reads a history and knows nothing else. What it asks is what is promised, and no more.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::history::{By, Entry, SLOW_ORDER, TokenNumber, Verdict};
use super::millis;

/// How long after its acknowledgement a revocation may still be unknown to the other nodes.
pub(crate) const BOUND: u64 = millis(1_000);

/// What must not happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) kind: Kind,
    pub(crate) token: TokenNumber,
    pub(crate) node: usize,
    /// When the question began.
    pub(crate) at: u64,
    /// How long after the acknowledgement, after the token was made, or after the flush.
    pub(crate) late: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A yes that began when the token had to be refused.
    Stale,
    /// A no for a token that nobody had asked to end. In doubt a node says 503.
    LiveRefused,
    /// A yes for a token that was flushed away, and not only remembered.
    Flushed,
    /// An answer that is none.
    Broken,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { kind, token, node, late, .. } = self;
        let late = *late as f64 / 1e6;
        match kind {
            Kind::Stale => {
                write!(f, "node {node} said yes to token {token}, asked {late:.1} ms after its end was acknowledged")
            }
            Kind::LiveRefused => {
                write!(
                    f,
                    "node {node} said no to token {token}, {late:.1} ms after it was made and before anybody ended it"
                )
            }
            Kind::Flushed => {
                write!(f, "node {node} said yes to token {token}, asked {late:.1} ms after it was flushed away")
            }
            Kind::Broken => write!(f, "node {node} answered neither yes nor no nor 503 for token {token}"),
        }
    }
}

/// What came of a history.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    /// Acknowledged orders that end tokens.
    pub(crate) revocations: usize,
    /// The tokens they ended.
    pub(crate) tokens_ended: usize,
    pub(crate) checks: usize,
    pub(crate) verdicts: BTreeMap<char, usize>,
    pub(crate) violations: Vec<Violation>,
    /// Checks of another node that began in the second after an acknowledgement and were still a yes: allowed.
    pub(crate) late_but_in_time: usize,
    /// Checks of an ended token that began at the bound or later, on another node: without them nothing is shown.
    pub(crate) telling: usize,
    /// The longest answer.
    pub(crate) slowest: u64,
    /// Orders that took long, with what was answered.
    pub(crate) slow_orders: Vec<String>,
    /// When the last allowed yes of another node began, after its acknowledgement.
    pub(crate) latest_allowed: u64,
    /// What a failover was known to lose, and did: outside the promise.
    pub(crate) lost_with_a_tail: usize,
    /// Refusals of tokens that a flush or an eviction took.
    pub(crate) lost_with_a_flush: usize,
}

/// An acknowledged end of a token.
struct End {
    acknowledged: u64,
    by: By,
    everywhere: bool,
}

/// What is known of a token.
#[derive(Default)]
struct Life {
    /// When somebody set out to make it, and when it was acknowledged.
    issued: Option<(u64, u64)>,
    ends: Vec<End>,
    /// When somebody first asked for its end, acknowledged or not.
    first_asked: Option<u64>,
}

/// The stretch in which acknowledgements are lost by an asynchronous failover. It is marked by the conductor, who made it.
pub(crate) const TAIL_BEGINS: &str = "tail begins";
pub(crate) const TAIL_ENDS: &str = "tail ends";
/// From here on every node has ended again what it knows to have ended, and so what nodes acknowledged in the tail holds again. Without
/// this mark it stays lost. What a command acknowledged is known to no node for certain.
pub(crate) const TAIL_KNOWN: &str = "tail known";
/// The stretch in which a flush took every token that there was.
pub(crate) const FLUSH_BEGINS: &str = "flush begins";
pub(crate) const FLUSH_ENDS: &str = "flush ends";

/// The stretch in which any token that there was may have been thrown away, because memory was short.
pub(crate) const EVICTION_BEGINS: &str = "eviction begins";
pub(crate) const EVICTION_ENDS: &str = "eviction ends";

/// A stretch of the conductor's.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    from: u64,
    to: u64,
}

impl Stretch {
    fn has(self, at: u64) -> bool {
        (self.from..self.to).contains(&at)
    }

    /// From the marks of its begin and its end.
    fn all(history: &[Entry], begins: &str, ends: &str) -> Vec<Stretch> {
        marks(history, begins).zip(marks(history, ends)).map(|(from, to)| Stretch { from, to }).collect()
    }
}

fn marks(history: &[Entry], name: &str) -> impl Iterator<Item = u64> {
    history.iter().filter_map(move |entry| match entry {
        Entry::Mark { at, what } if what == name => Some(*at),
        Entry::Mark { .. } | Entry::Issued { .. } | Entry::Check { .. } | Entry::Revocation { .. } => None,
    })
}

impl Life {
    /// When a flush was over that took it for certain.
    fn flushed(&self, flushes: &[Stretch]) -> Option<u64> {
        let (_, made) = self.issued?;
        flushes.iter().find(|flush| made <= flush.from).map(|flush| flush.to)
    }

    /// Whether it may have been gone by then with one of these stretches, in which tokens are lost.
    fn may_be_gone(&self, losses: &[Stretch], by: u64) -> bool {
        self.issued.is_some_and(|(begun, _)| losses.iter().any(|loss| begun < loss.to && by >= loss.from))
    }
}

/// Judges a history. Entries may come in any order.
pub(crate) fn judge(history: &[Entry]) -> Judgement {
    let mut lives: Vec<Life> = Vec::new();
    let mut judgement = Judgement::default();
    let life_of = |lives: &mut Vec<Life>, token: TokenNumber| {
        if lives.len() <= token {
            lives.resize_with(token + 1, Life::default);
        }
    };
    let tails = Stretch::all(history, TAIL_BEGINS, TAIL_ENDS);
    let known: Vec<u64> = marks(history, TAIL_KNOWN).collect();
    let flushes = Stretch::all(history, FLUSH_BEGINS, FLUSH_ENDS);
    let losses = [flushes.clone(), Stretch::all(history, EVICTION_BEGINS, EVICTION_ENDS)].concat();
    for entry in history {
        match entry {
            Entry::Issued { begin, end, token } => {
                life_of(&mut lives, *token);
                lives[*token].issued = Some((*begin, *end));
            }
            Entry::Revocation { begin, acknowledged, by, everywhere, tokens } => {
                judgement.revocations += usize::from(acknowledged.is_some());
                for token in tokens {
                    life_of(&mut lives, *token);
                    let life = &mut lives[*token];
                    life.first_asked = Some(life.first_asked.map_or(*begin, |first| first.min(*begin)));
                    if let Some(acknowledged) = *acknowledged {
                        judgement.tokens_ended += usize::from(life.ends.is_empty());
                        life.ends.push(End { acknowledged, by: *by, everywhere: *everywhere });
                    }
                }
            }
            Entry::Mark { what, .. } => {
                judgement.slow_orders.extend(what.strip_prefix(SLOW_ORDER).map(str::to_owned));
            }
            Entry::Check { .. } => {}
        }
    }
    let none = Life::default();
    for entry in history {
        let Entry::Check { begin, end, node, token, verdict } = entry else { continue };
        let (begin, node, token) = (*begin, *node, *token);
        let life = lives.get(token).unwrap_or(&none);
        judgement.checks += 1;
        judgement.slowest = judgement.slowest.max(end.saturating_sub(begin));
        let in_a_tail = |at: u64| tails.iter().any(|tail| tail.has(at));
        // What nodes acknowledged in a tail is known to them, and holds again from the bound after that.
        let known_again = |ending: &End| {
            let behind = tails.iter().find(|tail| tail.has(ending.acknowledged)).map(|tail| tail.to);
            let known = known.iter().copied().find(|known| behind.is_some_and(|behind| *known >= behind));
            ending.by != By::CommandLine && known.is_some_and(|known| begin >= known + BOUND)
        };
        let mut violated = |kind, late| judgement.violations.push(Violation { kind, token, node, at: begin, late });
        let letter = match verdict {
            Verdict::Yes => {
                let mut stale = None;
                let mut allowed = None;
                let mut lost = false;
                for ending in &life.ends {
                    let bound = if ending.everywhere || ending.by == By::Node(node) { 0 } else { BOUND };
                    if begin >= ending.acknowledged + bound {
                        if in_a_tail(ending.acknowledged) && !known_again(ending) {
                            lost = true;
                        } else {
                            let late = begin - ending.acknowledged;
                            stale = Some(stale.map_or(late, |other: u64| other.max(late)));
                        }
                    } else if begin >= ending.acknowledged {
                        allowed = Some(begin - ending.acknowledged);
                    }
                }
                let flushed = life.flushed(&flushes).filter(|flushed| begin >= flushed + BOUND);
                match (stale, flushed, allowed) {
                    (Some(late), _, _) => violated(Kind::Stale, late),
                    (None, Some(flushed), _) => violated(Kind::Flushed, begin - flushed),
                    (None, None, Some(after)) => {
                        judgement.late_but_in_time += 1;
                        judgement.latest_allowed = judgement.latest_allowed.max(after);
                    }
                    (None, None, None) => {}
                }
                judgement.lost_with_a_tail += usize::from(stale.is_none() && lost);
                'y'
            }
            Verdict::No => {
                // Whoever asked before somebody asked for its end, and was answered before that, must hear yes or 503.
                let wanted = life.issued.is_some_and(|(_, issued)| issued <= begin)
                    && life.first_asked.is_none_or(|first| *end < first);
                match life.issued {
                    Some((_, issued)) if wanted && in_a_tail(issued) => judgement.lost_with_a_tail += 1,
                    Some(_) if wanted && life.may_be_gone(&losses, *end) => judgement.lost_with_a_flush += 1,
                    Some((_, issued)) if wanted => violated(Kind::LiveRefused, begin - issued),
                    Some(_) | None => {}
                }
                'n'
            }
            Verdict::Doubt => 'd',
            Verdict::Silence => 's',
            Verdict::Broken => {
                violated(Kind::Broken, 0);
                'b'
            }
        };
        let tells = |ending: &End| ending.by != By::Node(node) && begin >= ending.acknowledged + BOUND;
        judgement.telling += usize::from(matches!(verdict, Verdict::Yes | Verdict::No) && life.ends.iter().any(tells));
        *judgement.verdicts.entry(letter).or_default() += 1;
    }
    judgement
}

/// How long after this instant each node took to say yes or no to a question that began after it; `None`: it never did.
pub(crate) fn answers_again(history: &[Entry], since: u64, nodes: usize) -> Vec<Option<u64>> {
    let mut first = vec![None; nodes];
    for entry in history {
        let Entry::Check { begin, end, node, verdict: Verdict::Yes | Verdict::No, .. } = entry else { continue };
        if *begin >= since
            && let Some(known) = first.get_mut(*node)
        {
            let took = end - since;
            *known = Some(known.map_or(took, |other: u64| other.min(took)));
        }
    }
    first
}

/// Of what was begun and acknowledged in this stretch: how many tokens were made, and how many orders ended some.
pub(crate) fn acknowledged_within(history: &[Entry], from: u64, to: u64) -> (usize, usize) {
    let mut counted = (0, 0);
    for entry in history {
        match entry {
            Entry::Issued { begin, end, .. } => counted.0 += usize::from(*begin >= from && *end < to),
            Entry::Revocation { begin, acknowledged: Some(end), .. } => {
                counted.1 += usize::from(*begin >= from && *end < to);
            }
            Entry::Revocation { acknowledged: None, .. } | Entry::Check { .. } | Entry::Mark { .. } => {}
        }
    }
    counted
}

/// How many requests had no answer though somebody waited for as long as that; one whose connection ended before is none of them.
pub(crate) fn without_an_answer(history: &[Entry], patience: Duration) -> usize {
    let waited = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
    let hung = history.iter().filter(|entry| {
        matches!(entry, Entry::Check { begin, end, verdict: Verdict::Silence, .. } if end.saturating_sub(*begin) >= waited)
    });
    hung.count()
}

/// Of the questions that a node was asked in this stretch: how many there were, and how many had yes or no for an answer.
pub(crate) fn answered(history: &[Entry], from: u64, to: u64, node: usize) -> (usize, usize) {
    let mut counted = (0, 0);
    for entry in history {
        let Entry::Check { begin, node: asked, verdict, .. } = entry else { continue };
        if (from..to).contains(begin) && *asked == node {
            counted.0 += 1;
            counted.1 += usize::from(matches!(verdict, Verdict::Yes | Verdict::No));
        }
    }
    counted
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADE: Entry = Entry::Issued { begin: 0, end: 10, token: 0 };

    /// Acknowledged at one second.
    fn ended(by: By, everywhere: bool) -> Entry {
        Entry::Revocation { begin: millis(990), acknowledged: Some(millis(1_000)), by, everywhere, tokens: vec![0] }
    }

    fn asked(begin: u64, node: usize, verdict: Verdict) -> Entry {
        Entry::Check { begin, end: begin + 5, node, token: 0, verdict }
    }

    fn violations(history: &[Entry]) -> Vec<(Kind, usize)> {
        judge(history).violations.iter().map(|found| (found.kind, found.node)).collect()
    }

    #[test]
    fn a_yes_of_another_node_is_fine_until_the_bound_and_a_violation_at_it() {
        for by in [By::Node(0), By::CommandLine] {
            for (begin, wanted) in [
                (millis(1_999), vec![]),
                (millis(2_000) - 1, vec![]),
                (millis(2_000), vec![(Kind::Stale, 1)]),
                (millis(60_000), vec![(Kind::Stale, 1)]),
            ] {
                assert_eq!(
                    violations(&[MADE, ended(by, false), asked(begin, 1, Verdict::Yes)]),
                    wanted,
                    "{by:?} {begin}"
                );
            }
        }
    }

    #[test]
    fn the_node_that_acknowledged_and_every_node_after_everywhere_have_no_time_at_all() {
        for (everywhere, node) in [(false, 0), (true, 0), (true, 1)] {
            let history = |begin| [MADE, ended(By::Node(0), everywhere), asked(begin, node, Verdict::Yes)];
            assert_eq!(violations(&history(millis(1_000) - 1)), []);
            assert_eq!(violations(&history(millis(1_000))), [(Kind::Stale, node)]);
        }
    }

    #[test]
    fn what_counts_is_when_a_question_began_and_not_when_it_was_answered() {
        let slow = Entry::Check { begin: millis(1_999), end: millis(9_000), node: 1, token: 0, verdict: Verdict::Yes };
        assert_eq!(violations(&[MADE, ended(By::Node(0), false), slow]), []);
    }

    #[test]
    fn what_was_not_acknowledged_may_have_happened_or_not() {
        let unknown = Entry::Revocation {
            begin: millis(990),
            acknowledged: None,
            by: By::Node(0),
            everywhere: false,
            tokens: vec![0],
        };
        for verdict in [Verdict::Yes, Verdict::No, Verdict::Doubt, Verdict::Silence] {
            assert_eq!(violations(&[MADE, unknown.clone(), asked(millis(9_000), 0, verdict)]), []);
        }
    }

    #[test]
    fn a_live_token_is_refused_by_nobody_and_a_node_in_doubt_says_so() {
        assert_eq!(violations(&[MADE, asked(millis(5), 2, Verdict::No)]), [(Kind::LiveRefused, 2)]);
        assert_eq!(violations(&[MADE, asked(millis(5), 2, Verdict::Doubt)]), []);
        assert_eq!(violations(&[MADE, asked(millis(5), 2, Verdict::Silence)]), []);
        // Asked before it was acknowledged as made, or answered after somebody had asked for its end.
        assert_eq!(violations(&[MADE, asked(9, 2, Verdict::No)]), []);
        assert_eq!(violations(&[MADE, ended(By::Node(0), false), asked(millis(990) - 1, 2, Verdict::No)]), []);
        assert_eq!(
            violations(&[MADE, ended(By::Node(0), false), asked(millis(990) - 6, 2, Verdict::No)]),
            [(Kind::LiveRefused, 2)]
        );
    }

    #[test]
    fn a_500_is_never_an_answer() {
        assert_eq!(violations(&[MADE, asked(millis(5), 2, Verdict::Broken)]), [(Kind::Broken, 2)]);
    }

    #[test]
    fn an_end_that_was_lost_and_repeated_counts_from_its_first_acknowledgement() {
        let again = Entry::Revocation {
            begin: millis(4_000),
            acknowledged: Some(millis(4_001)),
            by: By::Node(1),
            everywhere: false,
            tokens: vec![0],
        };
        let history = [MADE, ended(By::Node(0), false), asked(millis(3_000), 1, Verdict::Yes), again];
        assert_eq!(violations(&history), [(Kind::Stale, 1)]);
    }

    #[test]
    fn what_a_failover_was_known_to_lose_is_counted_apart_and_nothing_else_is() {
        let tail = [mark(millis(500), TAIL_BEGINS), mark(millis(1_500), TAIL_ENDS)];
        let mut history = vec![MADE, ended(By::Node(0), false), asked(millis(5_000), 1, Verdict::Yes)];
        history.extend(tail.clone());
        let judged = judge(&history);
        assert_eq!((judged.violations.len(), judged.lost_with_a_tail), (0, 1));
        let before = Entry::Revocation {
            begin: millis(100),
            acknowledged: Some(millis(200)),
            by: By::Node(0),
            everywhere: false,
            tokens: vec![0],
        };
        history[1] = before;
        assert_eq!(judge(&history).violations.len(), 1, "it was acknowledged before the tail began");
    }

    fn mark(at: u64, what: &str) -> Entry {
        Entry::Mark { at, what: what.into() }
    }

    #[test]
    fn what_nodes_know_of_a_lost_tail_holds_again_from_the_bound_after_they_have_said_so() {
        let tail = [mark(millis(500), TAIL_BEGINS), mark(millis(1_500), TAIL_ENDS), mark(millis(3_000), TAIL_KNOWN)];
        let history = |by, begin| {
            let mut history = vec![MADE, ended(by, false), asked(begin, 1, Verdict::Yes)];
            history.extend(tail.clone());
            history
        };
        for by in [By::Node(0), By::Node(1)] {
            assert_eq!(violations(&history(by, millis(4_000) - 1)), []);
            assert_eq!(violations(&history(by, millis(4_000))), [(Kind::Stale, 1)]);
        }
        // The command has gone, and what it did may be known to nobody.
        assert_eq!(violations(&history(By::CommandLine, millis(60_000))), []);
        // What is said before the failover is not of it.
        let mut early = history(By::Node(0), millis(4_000));
        early.retain(|entry| !matches!(entry, Entry::Mark { what, .. } if what == TAIL_KNOWN));
        early.push(mark(millis(1_400), TAIL_KNOWN));
        assert_eq!(violations(&early), []);
    }

    #[test]
    fn what_was_flushed_away_may_be_refused_and_has_to_be_from_the_bound_on() {
        let history = |made: (u64, u64), begin, verdict| {
            let made = Entry::Issued { begin: made.0, end: made.1, token: 0 };
            let flush = [mark(millis(1_000), FLUSH_BEGINS), mark(millis(1_200), FLUSH_ENDS)];
            [vec![made, asked(begin, 1, verdict)], flush.to_vec()].concat()
        };
        let before = (millis(500), millis(1_000));
        for (begin, wanted) in [(millis(2_200) - 1, vec![]), (millis(2_200), vec![(Kind::Flushed, 1)])] {
            assert_eq!(violations(&history(before, begin, Verdict::Yes)), wanted);
        }
        // A no is answered after the flush has begun, or it is one for a live token.
        for (begin, wanted) in [(millis(1_000) - 6, vec![(Kind::LiveRefused, 1)]), (millis(1_000) - 5, vec![])] {
            let made = (millis(500), millis(900));
            assert_eq!(violations(&history(made, begin, Verdict::No)), wanted, "{begin}");
        }
        assert_eq!(judge(&history(before, millis(9_000), Verdict::No)).lost_with_a_flush, 1);
        // Made while it was flushed: it may be there or not.
        for made in [(millis(500), millis(1_000) + 1), (millis(1_200) - 1, millis(1_300))] {
            for verdict in [Verdict::Yes, Verdict::No] {
                assert_eq!(violations(&history(made, millis(9_000), verdict)), [], "{made:?} {verdict:?}");
            }
        }
        // Made afterwards: it lives.
        let after = (millis(1_200), millis(1_300));
        assert_eq!(violations(&history(after, millis(9_000), Verdict::No)), [(Kind::LiveRefused, 1)]);
        assert_eq!(violations(&history(after, millis(9_000), Verdict::Yes)), []);
    }

    #[test]
    fn what_was_revoked_before_tokens_are_lost_stays_so() {
        for (begins, ends) in [(FLUSH_BEGINS, FLUSH_ENDS), (EVICTION_BEGINS, EVICTION_ENDS)] {
            let loss = [mark(millis(1_500), begins), mark(millis(1_600), ends)];
            let mut history = vec![MADE, ended(By::Node(0), false), asked(millis(2_000), 1, Verdict::Yes)];
            history.extend(loss);
            assert_eq!(violations(&history), [(Kind::Stale, 1)]);
        }
    }

    #[test]
    fn what_may_have_been_evicted_is_refused_or_not() {
        let eviction = [mark(millis(1_000), EVICTION_BEGINS), mark(millis(1_200), EVICTION_ENDS)];
        let history = |made, begin, verdict| {
            let made = Entry::Issued { begin: made, end: made + 5, token: 0 };
            [vec![made, asked(begin, 1, verdict)], eviction.to_vec()].concat()
        };
        for made in [millis(500), millis(1_200) - 1] {
            for verdict in [Verdict::Yes, Verdict::No] {
                assert_eq!(violations(&history(made, millis(9_000), verdict)), [], "{made} {verdict:?}");
            }
        }
        assert_eq!(violations(&history(millis(500), millis(1_000) - 6, Verdict::No)), [(Kind::LiveRefused, 1)]);
        assert_eq!(violations(&history(millis(1_200), millis(9_000), Verdict::No)), [(Kind::LiveRefused, 1)]);
    }

    #[test]
    fn figures_of_a_history_are_those_that_it_holds() {
        let history = [
            MADE,
            ended(By::Node(0), false),
            asked(millis(1_300), 1, Verdict::Yes),
            asked(millis(2_100), 1, Verdict::No),
            asked(millis(2_200), 2, Verdict::Doubt),
            asked(millis(3_000), 2, Verdict::No),
        ];
        let judged = judge(&history);
        assert_eq!((judged.revocations, judged.tokens_ended, judged.checks), (1, 1, 4));
        assert_eq!((judged.late_but_in_time, judged.latest_allowed, judged.telling), (1, millis(300), 2));
        assert_eq!(answers_again(&history, millis(2_000), 3), [None, Some(millis(100) + 5), Some(millis(1_000) + 5)]);
        assert_eq!(answered(&history, millis(2_000), millis(2_500), 2), (1, 0));
        assert_eq!(acknowledged_within(&history, 0, millis(2_000)), (1, 1));
        assert_eq!(acknowledged_within(&history, 1, millis(1_000)), (0, 0));
    }

    #[test]
    fn whoever_waited_in_vain_for_long_is_counted_and_whoever_was_cut_off_is_not() {
        let silence = |took| Entry::Check { begin: 7, end: 7 + took, node: 0, token: 0, verdict: Verdict::Silence };
        let history = [silence(millis(2_000) - 1), silence(millis(2_000)), asked(0, 0, Verdict::Doubt)];
        assert_eq!(without_an_answer(&history, Duration::from_secs(2)), 1);
    }
}
