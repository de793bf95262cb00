//! The conductor: starts everything, breaks it on schedule, and has the history judged.
#![expect(clippy::print_stdout, reason = "it tells a terminal what came of each fault")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::checker::Plan;
use super::faults::{ELSEWHERE, FAULTS, Fault};
use super::front::{Front, Planted};
use super::history::{self, ADMIN, Entry, Verdict};
use super::http::{Link, PATIENCE};
use super::judge::{self, Judgement};
use super::site::{Node, PASSWORD, Shape, Site, USERNAME};
use super::{Failure, millis, now};
use crate::child;
use crate::directory::Directory;
use crate::network::Network;
use crate::postgres;
use crate::waiting::pause;

/// What was asked for on the command line.
#[derive(Debug, Clone)]
pub struct Options {
    program: PathBuf,
    /// For each fault.
    seconds: u64,
    faults: Vec<String>,
    json: Option<PathBuf>,
    seed: u64,
    planted: Option<Planted>,
    self_test: bool,
    nodes: usize,
    sqlite: bool,
}

/// What [`Options::parse`] takes.
pub const USAGE: &str =
    "usage: counterfoil-lab nodes --program FILE [--seconds N] [--fault NAME[,NAME…]] [--json FILE] [--seed S]
                             [--planted NAME] [--self-test] [--sqlite]
  --program FILE  the server
  --seconds N     for each fault; 20 unless said
  --fault NAME    F12 or another of the list below, several with commas; all unless said
  --json FILE     one row for each fault
  --seed S        draw the same orders again, though not the same moments
  --planted NAME  break the promise in front of node 0, to see it noticed: nothing, stale-cache, early-acknowledgement,
                  lost-revocation, no-in-doubt
  --self-test     plant each of them for a few seconds and fail unless each is caught
  --sqlite        one node on SQLite, which has two doors with --planted; for trying the harness itself";

impl Options {
    /// # Errors
    /// What is not understood.
    pub fn parse(arguments: &[String]) -> Result<Options, Failure> {
        let mut options = Options {
            program: PathBuf::new(),
            seconds: 20,
            faults: Vec::new(),
            json: None,
            seed: now(),
            planted: None,
            self_test: false,
            nodes: 3,
            sqlite: false,
        };
        let mut arguments = arguments.iter();
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{flag} needs a value\n{}", usage()));
            match flag.as_str() {
                "--program" => options.program = value()?.into(),
                "--seconds" => options.seconds = value()?.parse()?,
                "--seed" => options.seed = value()?.parse()?,
                "--json" => options.json = Some(value()?.into()),
                "--fault" => {
                    for name in value()?.split(',') {
                        let known = FAULTS.iter().find(|fault| fault.name.eq_ignore_ascii_case(name));
                        let known = known.ok_or_else(|| format!("there is no fault {name:?}\n{}", usage()))?;
                        options.faults.push(known.name.to_owned());
                    }
                }
                "--planted" => {
                    let name = value()?;
                    let known = Planted::ALL.into_iter().find(|(known, _)| known == name);
                    options.planted = Some(known.ok_or_else(|| format!("nothing like {name:?}\n{}", usage()))?.1);
                }
                "--self-test" => options.self_test = true,
                "--sqlite" => options.sqlite = true,
                _ => return Err(format!("what is {flag:?}?\n{}", usage()).into()),
            }
        }
        if options.program.as_os_str().is_empty() {
            return Err(format!("which program?\n{}", usage()).into());
        }
        Ok(options)
    }
}

fn usage() -> String {
    let faults: Vec<String> = FAULTS.iter().map(|fault| format!("  {:<10} {}", fault.name, fault.about)).collect();
    format!("{USAGE}\n{}", faults.join("\n"))
}

/// Runs what was asked for; whether all is as promised.
///
/// # Errors
/// When it could not be tried.
pub fn run(options: &Options) -> Result<bool, Failure> {
    if options.self_test {
        return self_test(options);
    }
    println!("seed {} (--seed {} draws the same orders again)", options.seed, options.seed);
    let wanted = |fault: &&Fault| options.faults.is_empty() || options.faults.iter().any(|name| name == fault.name);
    let (mut revocations, mut checks, mut violations, mut faults) = (0, 0, 0, 0);
    let mut skipped = Vec::new();
    let mut rows = Vec::new();
    let mut sound = true;
    for fault in FAULTS.iter().filter(wanted) {
        if fault.shape.namespaces
            && let Err(reason) = Network::new(1)
        {
            println!("{}: SKIPPED, network namespaces cannot be had here: {reason}", fault.name);
            skipped.push(fault.name);
            continue;
        }
        let outcome = one(fault, options)?;
        outcome.show(fault);
        revocations += outcome.judgement.revocations;
        checks += outcome.judgement.checks;
        violations += outcome.judgement.violations.len();
        faults += usize::from(fault.name != "calm");
        sound &= outcome.is_sound();
        rows.push(outcome.to_json(fault));
    }
    for (name, why) in ELSEWHERE.iter().filter(|_| options.faults.is_empty()) {
        println!("{name}: not here: {why}");
    }
    if !skipped.is_empty() {
        println!("SKIPPED: {}", skipped.join(", "));
    }
    if let Some(file) = &options.json {
        fs::write(file, format!("{:#}\n", Value::Array(rows)))?;
    }
    println!("{revocations} revocations, {checks} checks, {violations} violations, {faults} faults");
    Ok(sound && violations == 0)
}

/// A checker that catches nothing shows nothing. All at once, because each has servers of its own.
fn self_test(options: &Options) -> Result<bool, Failure> {
    let outcomes = thread::scope(|scope| {
        let runs = Planted::ALL.map(|(name, planted)| {
            let options = Options { planted: Some(planted), ..options.clone() };
            (name, planted, scope.spawn(move || one(&FAULTS[0], &options)))
        });
        runs.map(|(name, planted, run)| (name, planted, run.join()))
    });
    let mut sound = true;
    for (name, planted, outcome) in outcomes {
        let outcome = outcome.map_err(|_| format!("the run with {name} panicked"))??;
        let found = outcome.judgement.violations.len();
        let of_another = outcome.judgement.violations.iter().any(|violation| violation.late >= judge::BOUND);
        let as_wanted = match planted {
            Planted::Nothing => found == 0,
            // Three seconds are too long for the node that acknowledged, and for every other one.
            Planted::StaleCache => of_another,
            Planted::EarlyAcknowledgement | Planted::LostRevocation | Planted::NoInDoubt => found > 0,
        };
        println!(
            "planted {name}: {found} violations{}",
            if as_wanted { "" } else { ", which is not what must be found" }
        );
        outcome.judgement.violations.iter().take(1).for_each(|violation| println!("  {violation}"));
        sound &= as_wanted;
    }
    Ok(sound)
}

/// What came of one fault.
struct Outcome {
    judgement: Judgement,
    notes: Vec<String>,
    complaints: Vec<String>,
    seconds: f64,
    logs: String,
}

impl Outcome {
    fn is_sound(&self) -> bool {
        self.judgement.violations.is_empty() && self.complaints.is_empty()
    }

    fn show(&self, fault: &Fault) {
        let found = &self.judgement;
        println!(
            "{:<5} {}: {} revocations ({} tokens), {} checks, {} violations, {:.0} s",
            fault.name,
            fault.about,
            found.revocations,
            found.tokens_ended,
            found.checks,
            found.violations.len(),
            self.seconds
        );
        let verdicts: Vec<String> =
            found.verdicts.iter().map(|(verdict, count)| format!("{verdict} {count}")).collect();
        println!(
            "      {}; {} told after the bound; {} yes in time, the last after {:.0} ms; slowest answer {:.2} s",
            verdicts.join(", "),
            found.telling,
            found.late_but_in_time,
            found.latest_allowed as f64 / 1e6,
            found.slowest as f64 / 1e9
        );
        if found.lost_with_a_tail > 0 {
            println!("      {} verdicts by what the failover lost, as documented", found.lost_with_a_tail);
        }
        if found.lost_with_a_flush > 0 {
            println!("      {} refusals of what a flush or an eviction took, as documented", found.lost_with_a_flush);
        }
        for order in found.slow_orders.iter().take(5) {
            println!("      slow: {order}");
        }
        self.notes.iter().for_each(|note| println!("      {note}"));
        for violation in found.violations.iter().take(5) {
            println!("      VIOLATION: {violation}");
        }
        self.complaints.iter().for_each(|complaint| println!("      NOT AS IT MUST BE: {complaint}"));
        if !self.is_sound() {
            print!("{}", self.logs);
        }
    }

    fn to_json(&self, fault: &Fault) -> Value {
        let found = &self.judgement;
        json!({
            "fault": fault.name,
            "about": fault.about,
            "revocations": found.revocations,
            "tokens_ended": found.tokens_ended,
            "checks": found.checks,
            "violations": found.violations.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "told_after_the_bound": found.telling,
            "last_yes_in_time_ms": found.latest_allowed as f64 / 1e6,
            "slowest_answer_s": found.slowest as f64 / 1e9,
            "slow_orders": found.slow_orders,
            "lost_with_a_tail": found.lost_with_a_tail,
            "lost_with_a_flush": found.lost_with_a_flush,
            "notes": self.notes,
            "complaints": self.complaints,
            "seconds": self.seconds,
        })
    }
}

fn one(fault: &Fault, options: &Options) -> Result<Outcome, Failure> {
    let begun = now();
    let sqlite = options.sqlite;
    let shape = Shape { sqlite, ..fault.shape };
    let nodes = if sqlite { 1 } else { options.nodes };
    let mut site = Site::start(&options.program, shape, nodes, &fault.environment, &fault.before)?;
    let scratch = Directory::new();
    let file = scratch.path().join("history");
    let mut addresses: Vec<SocketAddr> = site.nodes.iter().map(|node| node.address).collect();
    let mut fronts = Vec::new();
    if let Some(planted) = options.planted {
        let front = Front::start(addresses[0], planted);
        // With one node alone there are two doors to it, of which one is honest.
        if sqlite {
            addresses.push(front.address());
        } else {
            addresses[0] = front.address();
        }
        fronts.push(front);
    }
    let help = Command::new(&options.program).args(["token", "revoke", "--help"]).output()?;
    let mut words = vec!["env".to_owned()];
    words.extend(site.tokens_setting().into_iter().map(|(name, value)| format!("{name}={value}")));
    words.push(options.program.display().to_string());
    words.extend(site.store_words());
    let plan = Plan {
        nodes: addresses.clone(),
        admin: site.admin()?,
        username: USERNAME.into(),
        password: PASSWORD.into(),
        command_line: words,
        everywhere: String::from_utf8_lossy(&help.stdout).contains("--wait"),
        history: file.clone(),
        seed: options.seed,
    };
    let mut checker = Checker::start(&plan)?;
    let started = now();
    let mut run = Run {
        site: &mut site,
        checker: &mut checker,
        started,
        ends: started + millis(options.seconds * 1_000),
        marks: Vec::new(),
        notes: Vec::new(),
        complaints: Vec::new(),
        asked: Vec::new(),
    };
    pause(Duration::from_secs(1));
    (fault.run)(&mut run)?;
    let Run { marks, mut notes, mut complaints, asked, .. } = run;
    let dropped = checker.stop()?;
    if dropped > 0 {
        notes.push(format!("{dropped} questions dropped, because a node did not answer"));
    }
    let mut history = history::read(&file)?;
    history::append(&file, &marks)?;
    history.extend(marks);
    let judgement = judge::judge(&history);
    for question in &asked {
        question.answer(&history, addresses.len(), &mut notes, &mut complaints);
    }
    if judgement.telling == 0 && nodes > 1 {
        complaints.push("no node was asked about a token after the bound: nothing is shown".into());
    }
    let hung = judge::without_an_answer(&history, PATIENCE);
    if hung > 0 {
        complaints.push(format!("{hung} requests had no answer after {} s", PATIENCE.as_secs()));
    }
    if judgement.revocations == 0 {
        complaints.push("nothing was revoked: nothing is shown".into());
    }
    if !(judgement.violations.is_empty() && complaints.is_empty()) && options.planted.is_none() {
        let kept = PathBuf::from(format!("/tmp/counterfoil-nodes-{}-{}.history", fault.name, std::process::id()));
        fs::copy(&file, &kept)?;
        notes.push(format!("the history is kept in {}", kept.display()));
    }
    let logs = site.logs();
    drop(fronts);
    Ok(Outcome { judgement, notes, complaints, seconds: (now() - begun) as f64 / 1e9, logs })
}

/// What a schedule may use, and what it wants to know of the history afterwards.
pub(crate) struct Run<'r> {
    pub(crate) site: &'r mut Site,
    checker: &'r mut Checker,
    started: u64,
    ends: u64,
    marks: Vec<Entry>,
    notes: Vec<String>,
    complaints: Vec<String>,
    asked: Vec<Question>,
}

/// What is asked of the history.
enum Question {
    /// How long after this every node answered again.
    Healed {
        at: u64,
        what: &'static str,
        limit_millis: u64,
    },
    /// This node went on as if nothing were wrong.
    Unaffected {
        from: u64,
        to: u64,
        node: usize,
    },
    /// No question that began here was answered yes or no; of one node, or of all.
    Silent {
        from: u64,
        to: u64,
        node: Option<usize>,
    },
    /// Every question was answered yes or no.
    NothingUnanswered,
    /// No token was made, some were ended, and whether one is live was answered.
    EndsOnly {
        from: u64,
        to: u64,
    },
    Latency {
        what: &'static str,
        node: usize,
        from: u64,
        to: u64,
    },
}

impl Run<'_> {
    pub(crate) fn primary(&self) -> Result<&postgres::Server, Failure> {
        Ok(self.site.primary.as_ref().ok_or("this fault needs PostgreSQL")?)
    }

    pub(crate) fn network(&self) -> Result<&Network, Failure> {
        Ok(self.site.network.as_ref().ok_or("this fault needs namespaces")?)
    }

    pub(crate) fn is_over(&self) -> bool {
        now() >= self.ends
    }

    /// Until the time of this fault is over.
    pub(crate) fn rest(&self) {
        pause(Duration::from_nanos(self.ends.saturating_sub(now())));
    }

    /// A part of the time of this fault.
    pub(crate) fn share(&self, part: f64) -> Duration {
        Duration::from_nanos(self.ends - self.started).mul_f64(part)
    }

    pub(crate) fn mark(&mut self, what: &str) -> u64 {
        let at = now();
        self.marks.push(Entry::Mark { at, what: what.to_owned() });
        at
    }

    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    pub(crate) fn expect(&mut self, holds: bool, otherwise: &str) {
        if !holds {
            self.complaints.push(otherwise.to_owned());
        }
    }

    /// Asks until it holds, which it has to within twenty seconds.
    pub(crate) fn expect_eventually(&mut self, what: &str, mut holds: impl FnMut(&Run<'_>) -> bool) {
        let begun = now();
        while !holds(self) {
            if now() > begun + millis(20_000) {
                return self.expect(false, &format!("{what}: not within 20 s"));
            }
            pause(Duration::from_millis(50));
        }
    }

    /// One note for all that begin alike, with the longest time.
    pub(crate) fn longest(&mut self, start: &str, took: u64) {
        note_longest(&mut self.notes, start, took as f64 / 1e9);
    }

    pub(crate) fn tell(&mut self, line: &str) -> Result<(), Failure> {
        self.checker.tell(line)
    }

    /// The administrator has lost every token, and gets another one. Nobody may have opened the store again so far.
    pub(crate) fn admin_anew(&mut self) -> Result<(), Failure> {
        let begin = now();
        let mut made = self.site.admin();
        while made.is_err() && now() < begin + millis(20_000) {
            pause(Duration::from_millis(100));
            made = self.site.admin();
        }
        self.tell(&format!("admin {begin} {}", made?))
    }

    /// Nothing is wrong any more: within so many milliseconds every node is to answer. It is a complaint at five times that,
    /// because the machine may be busy with other things.
    pub(crate) fn healed(&mut self, what: &'static str, limit_millis: u64) {
        let at = self.mark(what);
        self.asked.push(Question::Healed { at, what, limit_millis });
    }

    /// Until every node says that its store answers, or for as long as is far too long.
    pub(crate) fn until_ready(&self) {
        let begun = now();
        for node in &self.site.nodes {
            let mut link = Link::to(node.address);
            let mut ready = || link.ask("GET", "/readyz", "", None).is_ok_and(|answer| answer.status == 200);
            while !ready() && now() < begun + millis(20_000) {
                pause(Duration::from_millis(10));
            }
        }
    }

    pub(crate) fn unaffected(&mut self, from: u64, to: u64, node: usize) {
        self.asked.push(Question::Unaffected { from, to, node });
    }

    pub(crate) fn silent_between(&mut self, from: u64, to: u64) {
        self.asked.push(Question::Silent { from, to, node: None });
    }

    pub(crate) fn silent_on(&mut self, node: usize, from: u64, to: u64) {
        self.asked.push(Question::Silent { from, to, node: Some(node) });
    }

    pub(crate) fn nothing_unanswered(&mut self) {
        self.asked.push(Question::NothingUnanswered);
    }

    pub(crate) fn ends_only(&mut self, from: u64, to: u64) {
        self.asked.push(Question::EndsOnly { from, to });
    }

    pub(crate) fn latency(&mut self, what: &'static str, node: usize, from: u64, to: u64) {
        self.asked.push(Question::Latency { what, node, from, to });
    }

    /// How many endings the nodes have found lost and given again, by their logs.
    pub(crate) fn tells_of_endings_given_again(&mut self) {
        let again = |node: &Node| -> u64 {
            let log = node.log();
            log.lines().filter_map(|line| line.split_once(" again=")?.1.trim().parse::<u64>().ok()).sum()
        };
        let again: u64 = self.site.nodes.iter().map(again).sum();
        self.note(format!("{again} endings were lost and given again by the nodes that knew of them"));
        self.expect(again > 0, "no ending was lost: nothing was tried");
    }

    /// Every node has said in its log that the store tells another history.
    pub(crate) fn tells_of_a_rewind(&mut self) {
        let told = self.site.nodes.iter().filter(|node| node.log().contains("every token is looked up anew")).count();
        let nodes = self.site.nodes.len();
        self.note(format!("{told} of {nodes} nodes told of another history"));
        self.expect(told == nodes, "a node said nothing of the history that was lost");
    }
}

impl Question {
    fn answer(&self, history: &[Entry], nodes: usize, notes: &mut Vec<String>, complaints: &mut Vec<String>) {
        let seconds = |nanos: u64| nanos as f64 / 1e9;
        match self {
            Question::Healed { at, what, limit_millis } => {
                let took = judge::answers_again(history, *at, nodes);
                match took.iter().copied().collect::<Option<Vec<u64>>>() {
                    Some(took) => {
                        let longest = took.into_iter().max().unwrap_or(0);
                        note_longest(
                            notes,
                            &format!("{what}: all nodes answer again after at most "),
                            seconds(longest),
                        );
                        if longest > millis(limit_millis * 5) {
                            complaints.push(format!("{what}: {:.2} s until every node answered", seconds(longest)));
                        }
                    }
                    None => complaints.push(format!("{what}: a node never answered again")),
                }
            }
            Question::Unaffected { from, to, node } => {
                let (asked, answered) = judge::answered(history, *from, *to, *node);
                // A question may begin here and fall into the next thing that is done, and there may be few of them.
                if asked - answered > (asked / 20).max(3) {
                    complaints.push(format!(
                        "node {node} answered {answered} of {asked} questions while another had a fault"
                    ));
                }
            }
            Question::Silent { from, to, node } => {
                for node in (0..nodes).filter(|other| node.is_none_or(|node| node == *other)) {
                    // One that is answered in this stretch too: it may wait for the heal.
                    let within = history.iter().filter(|entry| {
                        matches!(entry, Entry::Check { begin, end, node: asked, verdict: Verdict::Yes | Verdict::No, .. }
                            if begin >= from && end < to && *asked == node)
                    });
                    let answered = within.count();
                    if answered > 0 {
                        complaints.push(format!("node {node} answered {answered} questions without its store"));
                    }
                }
            }
            Question::NothingUnanswered => {
                let unanswered = history.iter().filter(|entry| {
                    matches!(entry, Entry::Check { verdict: Verdict::Doubt | Verdict::Silence | Verdict::Broken, .. })
                });
                let unanswered = unanswered.count();
                if unanswered > 0 {
                    complaints.push(format!("{unanswered} questions were not answered"));
                }
            }
            Question::EndsOnly { from, to } => {
                let (made, ended) = judge::acknowledged_within(history, *from, *to);
                notes.push(format!("{ended} orders that end tokens were acknowledged where nothing could be made"));
                if made > 0 {
                    complaints.push(format!("{made} tokens were made where there was no room for any"));
                }
                let open = history.iter().filter(|entry| {
                    matches!(entry, Entry::Check { begin, token, verdict: Verdict::Doubt | Verdict::Silence, .. }
                        if (*from..*to).contains(begin) && *token != ADMIN)
                });
                let open = open.count();
                if open > 0 {
                    complaints.push(format!("{open} questions were not answered, though they need no room"));
                }
                if ended == 0 {
                    complaints.push("nothing was ended where nothing could be made: nothing was tried".into());
                }
            }
            Question::Latency { what, node, from, to } => {
                let mut took: Vec<u64> = history
                    .iter()
                    .filter_map(|entry| match entry {
                        Entry::Check { begin, end, node: asked, .. }
                            if (from..to).contains(&begin) && asked == node =>
                        {
                            Some(end - begin)
                        }
                        Entry::Check { .. } | Entry::Issued { .. } | Entry::Revocation { .. } | Entry::Mark { .. } => {
                            None
                        }
                    })
                    .collect();
                took.sort_unstable();
                let at = |part: usize| took.get(took.len() * part / 100).copied().unwrap_or(0) as f64 / 1e6;
                notes.push(format!(
                    "{what}: checks of node {node} took {:.1} ms (p50), {:.1} ms (p99)",
                    at(50),
                    at(99)
                ));
            }
        }
    }
}

/// One line for all that begin alike, with the longest time.
fn note_longest(notes: &mut Vec<String>, start: &str, seconds: f64) {
    let known = notes.iter().position(|note| note.starts_with(start));
    let before = known.map(|at| notes.remove(at));
    let before = before.and_then(|note| note[start.len()..].split(' ').next()?.parse::<f64>().ok()).unwrap_or(0.0);
    notes.push(format!("{start}{:.2} s", seconds.max(before)));
}

/// The checker's process.
pub(crate) struct Checker {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Checker {
    fn start(plan: &Plan) -> Result<Checker, Failure> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(std::env::current_exe()?).arg("check");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = child::start(command)?;
        let mut stdin = child.stdin.take().ok_or("no stdin")?;
        let stdout = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        writeln!(stdin, "{}", plan.to_json())?;
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| send.send(line).map_err(drop)).ok();
        });
        let checker = Checker { child, stdin, lines };
        match checker.lines.recv_timeout(Duration::from_secs(60)) {
            Ok(line) if line == "ready" => Ok(checker),
            other => Err(format!("the checker did not begin: {other:?}").into()),
        }
    }

    fn tell(&mut self, line: &str) -> Result<(), Failure> {
        writeln!(self.stdin, "{line}")?;
        Ok(self.stdin.flush()?)
    }

    /// Returns how many questions were dropped.
    fn stop(&mut self) -> Result<usize, Failure> {
        self.tell("stop")?;
        let line = self.lines.recv_timeout(Duration::from_secs(240)).map_err(|_| "the checker did not end")?;
        let dropped = line.strip_prefix("done ").and_then(|number| number.parse().ok());
        if !self.child.wait()?.success() {
            return Err("the checker failed".into());
        }
        Ok(dropped.ok_or_else(|| format!("the checker said {line:?}"))?)
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
