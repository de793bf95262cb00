//! The checker: a process that knows the nodes as their clients do. It makes tokens, has them ended at every level there is, asks
//! every node about them before and after, and writes down when it asked and what it heard. It judges nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::history::{ADMIN, By, Entry, Recorder, SLOW_ORDER, TokenNumber, Verdict};
use super::http::{Answer, Link};
use super::{Failure, millis, now};
use crate::waiting::pause;

/// Who makes tokens and ends them.
const MAKERS: usize = 12;
/// Who asks each node.
const ASKERS: usize = 6;
/// Questions that wait for each node; when all nodes have as many, no new tokens are made.
const WAITING: usize = 3_000;
/// Beyond these a node's questions are dropped: it does not answer.
const MOST_WAITING: usize = 20_000;
/// Of the tokens that nobody ends one in so many is left alive, to be asked about at the end.
const LEFT_ALIVE: u64 = 24;
/// An order that takes longer is told of: it waited for one thing after another.
const SLOW: u64 = millis(8_500);

/// What the conductor says in its first line.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) nodes: Vec<SocketAddr>,
    /// The secret of a login token of an administrator.
    pub(crate) admin: String,
    /// Whose password it is, to log in with.
    pub(crate) username: String,
    pub(crate) password: String,
    /// The program, with what says on which store it works; none: the command line is left out.
    pub(crate) command_line: Vec<String>,
    /// Whether revocations can wait for every node.
    pub(crate) everywhere: bool,
    pub(crate) history: PathBuf,
    pub(crate) seed: u64,
}

impl Plan {
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "nodes": self.nodes.iter().map(SocketAddr::to_string).collect::<Vec<_>>(),
            "admin": self.admin,
            "username": self.username,
            "password": self.password,
            "command_line": self.command_line,
            "everywhere": self.everywhere,
            "history": self.history,
            "seed": self.seed,
        })
    }

    fn parse(line: &str) -> Option<Plan> {
        let plan: Value = serde_json::from_str(line).ok()?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let texts = |value: &Value| value.as_array()?.iter().map(text).collect::<Option<Vec<String>>>();
        Some(Plan {
            nodes: texts(&plan["nodes"])?.iter().map(|node| node.parse().ok()).collect::<Option<_>>()?,
            admin: text(&plan["admin"])?,
            username: text(&plan["username"])?,
            password: text(&plan["password"])?,
            command_line: texts(&plan["command_line"])?,
            everywhere: plan["everywhere"].as_bool()?,
            history: text(&plan["history"])?.into(),
            seed: plan["seed"].as_u64()?,
        })
    }
}

struct Checker {
    plan: Plan,
    recorder: Recorder,
    tokens: Mutex<Vec<Token>>,
    /// The administrator's own tokens; the last one is used.
    admins: Mutex<Vec<(Arc<str>, TokenNumber)>>,
    queues: Vec<Queue>,
    /// When an order to this node last failed.
    failed: Vec<AtomicU64>,
    /// Nodes that get no requests, as bits: their proxy has been told to leave them out.
    avoided: AtomicU32,
    stopping: AtomicBool,
    over: AtomicBool,
    dropped: AtomicUsize,
}

struct Token {
    secret: Arc<str>,
    id: String,
    /// Somebody has asked for its end.
    asked: bool,
}

/// Questions for one node, the next one first.
#[derive(Default)]
struct Queue {
    heap: Mutex<BinaryHeap<Reverse<(u64, TokenNumber, bool)>>>,
    changed: Condvar,
    under_way: AtomicUsize,
}

/// Runs until stdin says `stop` and what is left to ask has been asked.
///
/// # Errors
/// When the plan is none, or the nodes do not speak as expected.
pub fn run() -> Result<(), Failure> {
    let mut lines = io::stdin().lines();
    let plan = lines.next().ok_or("no plan")??;
    let plan = Plan::parse(&plan).ok_or("what is on stdin is no plan")?;
    let recorder = Recorder::create(&plan.history)?;
    let nodes = plan.nodes.len();
    let checker = Arc::new(Checker {
        recorder,
        tokens: Mutex::default(),
        admins: Mutex::default(),
        queues: (0..nodes).map(|_| Queue::default()).collect(),
        failed: (0..nodes).map(|_| AtomicU64::new(0)).collect(),
        avoided: AtomicU32::new(0),
        stopping: AtomicBool::new(false),
        over: AtomicBool::new(false),
        dropped: AtomicUsize::new(0),
        plan,
    });
    let admin = checker.plan.admin.clone();
    checker.is_admin(&admin, 0);
    checker.look_whether_answers_mean_what_is_thought()?;
    say("ready");
    let mut askers = Vec::new();
    for node in 0..nodes {
        for _ in 0..ASKERS {
            let checker = Arc::clone(&checker);
            askers.push(thread::spawn(move || checker.ask_on(node)));
        }
    }
    let mut makers = Vec::new();
    for maker in 0..MAKERS {
        let checker = Arc::clone(&checker);
        makers.push(thread::spawn(move || checker.make(maker)));
    }
    if !checker.plan.command_line.is_empty() {
        let checker = Arc::clone(&checker);
        makers.push(thread::spawn(move || checker.operate()));
    }
    for line in lines {
        let line = line?;
        let bit = |number: &str| number.parse::<u32>().ok().map(|node| 1 << node).ok_or("which node?");
        match line.split_once(' ') {
            Some(("avoid", node)) => drop(checker.avoided.fetch_or(bit(node)?, Ordering::AcqRel)),
            Some(("use", node)) => drop(checker.avoided.fetch_and(!bit(node)?, Ordering::AcqRel)),
            // With when somebody set out to make it.
            Some(("admin", made)) => {
                let (begin, secret) = made.split_once(' ').ok_or("whose?")?;
                checker.is_admin(secret, begin.parse()?);
            }
            _ if line == "stop" => break,
            _ => return Err(format!("what is {line:?}?").into()),
        }
    }
    checker.stopping.store(true, Ordering::Release);
    for maker in makers {
        maker.join().map_err(|_| "a maker panicked")?;
    }
    checker.look_at_all();
    checker.end_everybody();
    checker.over.store(true, Ordering::Release);
    checker.queues.iter().for_each(|queue| queue.changed.notify_all());
    for asker in askers {
        asker.join().map_err(|_| "an asker panicked")?;
    }
    checker.recorder.flush()?;
    say(&format!("done {}", checker.dropped.load(Ordering::Acquire)));
    Ok(())
}

fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).ok();
}

/// How a round ends what it has made.
#[derive(Clone, Copy)]
enum Level {
    /// Each token by itself.
    Token,
    /// All logins of a user, by one of them.
    LogoutAll,
    /// Everything of a user, by an administrator.
    User,
    Disable,
    Delete,
    Client,
    /// After a login with a password.
    Logout,
}

impl Checker {
    /// Yes is 400 where a token is judged from memory alone, because the limit that is asked for is none; 200 where its record is
    /// read too. A route that answers otherwise would make every verdict meaningless.
    fn look_whether_answers_mean_what_is_thought(&self) -> Result<(), Failure> {
        for address in &self.plan.nodes {
            let mut link = Link::to(*address);
            for (secret, wanted) in [(self.plan.admin.as_str(), [200, 400]), ("cf_invented", [401, 401])] {
                for (path, wanted) in [FULL, QUICK].into_iter().zip(wanted) {
                    let answer = link.ask("GET", path, secret, None)?;
                    if answer.status != wanted {
                        return Err(format!("{path} of {address}: expected {wanted}, got {answer:?}").into());
                    }
                }
            }
        }
        Ok(())
    }

    fn knows(&self, secret: &str, id: &str, begin: u64, end: u64) -> TokenNumber {
        let token = {
            let mut tokens = lock(&self.tokens);
            tokens.push(Token { secret: secret.into(), id: id.to_owned(), asked: false });
            tokens.len() - 1
        };
        self.recorder.note(&Entry::Issued { begin, end, token });
        token
    }

    fn is_admin(&self, secret: &str, begin: u64) {
        let number = self.knows(secret, "", begin, now());
        lock(&self.admins).push((secret.into(), number));
    }

    /// The secret that an administrator has now.
    fn admin(&self) -> Arc<str> {
        lock(&self.admins).last().map(|(secret, _)| Arc::clone(secret)).unwrap_or_default()
    }

    /// The number of the administrator's token that has this secret.
    fn admins_number(&self, secret: &str) -> Option<TokenNumber> {
        lock(&self.admins).iter().find(|(known, _)| **known == *secret).map(|(_, number)| *number)
    }

    fn secret(&self, token: TokenNumber) -> Arc<str> {
        Arc::clone(&lock(&self.tokens)[token].secret)
    }

    fn check(&self, link: &mut Link, node: usize, token: TokenNumber, full: bool) {
        let secret = self.secret(token);
        let begin = now();
        let answer = link.ask("GET", if full { FULL } else { QUICK }, &secret, None);
        let verdict = match answer {
            Ok(answer) => verdict(answer.status),
            // Nobody listens: nobody was asked.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return pause(Duration::from_millis(5)),
            Err(_) => Verdict::Silence,
        };
        self.recorder.note(&Entry::Check { begin, end: now(), node, token, verdict });
    }

    /// A question for later.
    fn plan_check(&self, node: usize, token: TokenNumber, due: u64) {
        let queue = &self.queues[node];
        let mut heap = lock(&queue.heap);
        if heap.len() >= MOST_WAITING {
            self.dropped.fetch_add(1, Ordering::AcqRel);
            return;
        }
        // One in four reads the record too.
        heap.push(Reverse((due, token, (token + usize::try_from(due / 1_000_000).unwrap_or(0)).is_multiple_of(4))));
        queue.changed.notify_one();
    }

    fn plan_checks(&self, token: TokenNumber, due: u64) {
        (0..self.queues.len()).for_each(|node| self.plan_check(node, token, due));
    }

    fn ask_on(&self, node: usize) {
        let queue = &self.queues[node];
        let mut link = Link::to(self.plan.nodes[node]);
        let mut heap = lock(&queue.heap);
        loop {
            let due = heap.peek().map(|Reverse((due, ..))| *due);
            let wait = due.map_or(millis(100), |due| due.saturating_sub(now()));
            let avoided = self.avoided.load(Ordering::Acquire) & (1 << node) != 0;
            if wait == 0 && !avoided {
                let Some(Reverse((_, token, full))) = heap.pop() else { continue };
                queue.under_way.fetch_add(1, Ordering::AcqRel);
                drop(heap);
                self.check(&mut link, node, token, full);
                queue.under_way.fetch_sub(1, Ordering::AcqRel);
                heap = lock(&queue.heap);
                continue;
            }
            if self.over.load(Ordering::Acquire) && heap.is_empty() {
                return;
            }
            let wait = Duration::from_nanos(wait.clamp(millis(1) / 4, millis(100)));
            heap = queue.changed.wait_timeout(heap, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn make(&self, maker: usize) {
        let mut hand = Hand::new(self, maker);
        let mut round = 0;
        while !self.stopping.load(Ordering::Acquire) {
            let waiting = self.queues.iter().map(|queue| lock(&queue.heap).len()).min().unwrap_or(0);
            if waiting > WAITING {
                pause(Duration::from_millis(5));
                continue;
            }
            round += 1;
            let level = match hand.chance.below(100) {
                0..72 => Level::Token,
                72..77 => Level::LogoutAll,
                77..82 => Level::User,
                82..86 => Level::Disable,
                86..90 => Level::Delete,
                90..95 => Level::Client,
                _ => Level::Logout,
            };
            // None: something on the way was not acknowledged.
            hand.round(level, &format!("m{maker}r{round}")).unwrap_or_else(|| pause(Duration::from_millis(20)));
        }
    }

    /// What is done on the command line, beside the nodes.
    fn operate(&self) {
        let mut hand = Hand::new(self, MAKERS);
        let mut round = 0;
        while !self.stopping.load(Ordering::Acquire) {
            round += 1;
            if hand.operated_round(&format!("c{round}"), round).is_none() {
                pause(Duration::from_millis(100));
            }
            pause(Duration::from_millis(500));
        }
    }

    /// Asks every node about what must still be right: what nobody ended, and what ended last.
    fn look_at_all(&self) {
        self.avoided.store(0, Ordering::Release);
        self.drain();
        let (mut alive, mut ended) = (Vec::new(), Vec::new());
        for (number, token) in lock(&self.tokens).iter().enumerate() {
            if token.asked { ended.push(number) } else { alive.push(number) }
        }
        let from = ended.len().saturating_sub(2_000);
        for token in alive.iter().rev().take(5_000).chain(&ended[from..]) {
            self.plan_checks(*token, now());
        }
        self.drain();
    }

    /// The last level of all, because nobody's token outlives it.
    fn end_everybody(&self) {
        let mut link = Link::to(self.plan.nodes[0]);
        let alive: Vec<TokenNumber> = {
            let mut tokens = lock(&self.tokens);
            let alive = tokens.iter_mut().enumerate().filter(|(_, token)| !token.asked);
            alive.map(|(number, token)| (number, token.asked = true).0).collect()
        };
        for token in alive.iter().rev().take(300) {
            self.plan_checks(*token, now());
        }
        self.drain();
        let begin = now();
        let answer = link.ask("DELETE", "/v1/admin/tokens?all=true", &self.admin(), None);
        let acknowledged = answer.is_ok_and(|answer| answer.status == 204).then(now);
        let shown: Vec<TokenNumber> = alive.iter().rev().take(300).copied().collect();
        self.recorder.note(&Entry::Revocation {
            begin,
            acknowledged,
            by: By::Node(0),
            everywhere: false,
            tokens: alive,
        });
        for token in shown {
            for after in [0, 1_000, 1_300] {
                self.plan_checks(token, now() + millis(after));
            }
        }
        self.drain();
    }

    /// Waits until all questions have been asked, but for those of a later day, and not for ever: a node may be gone for good.
    fn drain(&self) {
        let begun = now();
        for queue in &self.queues {
            lock(&queue.heap).retain(|Reverse((due, ..))| *due < begun + millis(2_000));
        }
        while now() < begun + millis(30_000) {
            let idle = |queue: &Queue| lock(&queue.heap).is_empty() && queue.under_way.load(Ordering::Acquire) == 0;
            if self.queues.iter().all(idle) {
                return;
            }
            pause(Duration::from_millis(5));
        }
    }
}

const FULL: &str = "/v1/me";
const QUICK: &str = "/v1/keys?limit=0";

fn verdict(status: u16) -> Verdict {
    match status {
        200 | 400 => Verdict::Yes,
        401 => Verdict::No,
        503 => Verdict::Doubt,
        _ => Verdict::Broken,
    }
}

/// One of those who make and end, with a connection to each node.
struct Hand<'c> {
    checker: &'c Checker,
    links: Vec<Link>,
    chance: Chance,
    /// The user of most of its tokens.
    user: Option<String>,
}

/// An order that was acknowledged.
struct Done {
    begin: u64,
    end: u64,
    answer: Answer,
}

impl<'c> Hand<'c> {
    fn new(checker: &'c Checker, number: usize) -> Hand<'c> {
        let links = checker.plan.nodes.iter().map(|address| Link::to(*address)).collect();
        let seed = checker.plan.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number as u64 + 1);
        Hand { checker, links, chance: Chance(seed | 1), user: None }
    }

    /// A node that should answer, and now and then one that did not a moment ago.
    fn some_node(&mut self) -> usize {
        let checker = self.checker;
        let avoided = checker.avoided.load(Ordering::Acquire);
        let nodes = self.links.len();
        let mut node = 0;
        for _ in 0..8 {
            node = usize::try_from(self.chance.below(nodes as u64)).unwrap_or(0);
            let failing = now() < checker.failed[node].load(Ordering::Acquire) + millis(2_000);
            let bold = self.chance.below(100) < 3;
            if avoided & (1 << node) == 0 && (!failing || bold) {
                break;
            }
        }
        node
    }

    fn order(
        &mut self,
        node: usize,
        method: &str,
        path: &str,
        bearer: &str,
        body: Option<&Value>,
    ) -> (u64, Option<Done>) {
        let begin = now();
        let answer = self.links[node].ask(method, path, bearer, body);
        let end = now();
        if end > begin + SLOW {
            let status = answer.as_ref().map_or("no answer".to_owned(), |answer| answer.status.to_string());
            let what = format!("{SLOW_ORDER}{method} {path}: {status} after {:.1} s", (end - begin) as f64 / 1e9);
            self.checker.recorder.note(&Entry::Mark { at: end, what });
        }
        match answer {
            Ok(answer) if (200..300).contains(&answer.status) => (begin, Some(Done { begin, end, answer })),
            Ok(answer) => {
                if answer.status == 503 {
                    self.checker.failed[node].store(end, Ordering::Release);
                }
                // A refusal of the administrator's own token, and a 500, are verdicts like any other.
                if let Some(token) = self.checker.admins_number(bearer)
                    && (answer.status == 401 || answer.status >= 500)
                {
                    let verdict = verdict(answer.status);
                    self.checker.recorder.note(&Entry::Check { begin, end, node, token, verdict });
                }
                (begin, None)
            }
            Err(error) => {
                self.checker.failed[node].store(end, Ordering::Release);
                if error.kind() != io::ErrorKind::ConnectionRefused {
                    // Whose token it was does not matter: nothing was said of it.
                    let token = self.checker.admins_number(bearer).unwrap_or(ADMIN);
                    self.checker.recorder.note(&Entry::Check { begin, end, node, token, verdict: Verdict::Silence });
                }
                (begin, None)
            }
        }
    }

    /// By the administrator, on some node.
    fn by_admin(&mut self, method: &str, path: &str, body: Option<&Value>) -> Option<Done> {
        let node = self.some_node();
        let admin = self.checker.admin();
        self.order(node, method, path, &admin, body).1
    }

    fn new_user(&mut self, name: &str) -> Option<String> {
        let body = json!({ "username": name });
        let made = self.by_admin("POST", "/v1/admin/users", Some(&body))?;
        made.answer.json()["id"].as_str().map(str::to_owned)
    }

    fn issue(&mut self, user: &str, client: Option<&str>, kind: &str) -> Option<TokenNumber> {
        let mut body = json!({ "user": user, "kind": kind, "name": "checked" });
        if let Some(client) = client {
            body["client"] = json!(client);
        }
        let made = self.by_admin("POST", "/v1/admin/tokens", Some(&body))?;
        let token = self.learn(&made)?;
        self.checker.plan_checks(token, now());
        Some(token)
    }

    fn learn(&self, made: &Done) -> Option<TokenNumber> {
        let body = made.answer.json();
        Some(self.checker.knows(body["token"].as_str()?, body["id"].as_str()?, made.begin, made.end))
    }

    /// Has tokens ended and asks every node about them, at once and at the bound.
    fn end(
        &mut self,
        tokens: &[TokenNumber],
        method: &str,
        path: &str,
        bearer: &str,
        body: Option<&Value>,
    ) -> Option<()> {
        {
            let mut known = lock(&self.checker.tokens);
            tokens.iter().for_each(|token| known[*token].asked = true);
        }
        let everywhere = self.checker.plan.everywhere && self.chance.below(60) == 0;
        let spelled = match (everywhere, path.contains('?')) {
            (false, _) => path.to_owned(),
            (true, false) => format!("{path}?wait=everywhere"),
            (true, true) => format!("{path}&wait=everywhere"),
        };
        let node = self.some_node();
        let (begin, done) = self.order(node, method, &spelled, bearer, body);
        let acknowledged = done.as_ref().map(|done| done.end);
        let entry = Entry::Revocation { begin, acknowledged, by: By::Node(node), everywhere, tokens: tokens.to_vec() };
        self.checker.recorder.note(&entry);
        let done = done?;
        // Before anything else, by whoever has just heard of it.
        self.checker.check(&mut self.links[node], node, tokens[0], false);
        self.ask_after(tokens, done.end);
        Some(())
    }

    /// Every node at the bound. Of some tokens besides at once, soon after and a little later; of fewer a long time later.
    fn ask_after(&mut self, tokens: &[TokenNumber], end: u64) {
        for token in tokens {
            let moments: &[u64] = match self.chance.below(24) {
                0 => &[0, 50, 1_000, 1_030, 4_000],
                1..8 => &[0, 50, 1_000, 1_030],
                _ => &[1_000],
            };
            for after in moments {
                self.checker.plan_checks(*token, end + millis(*after));
            }
        }
    }

    /// Makes tokens, lets every node see them, and ends them.
    fn round(&mut self, level: Level, name: &str) -> Option<()> {
        let admin = self.checker.admin();
        match level {
            Level::Token => {
                let user = match self.user.clone() {
                    Some(user) => user,
                    None => self.new_user(name)?,
                };
                self.user = Some(user.clone());
                let mut made = Vec::new();
                for number in 0..8 {
                    // What could be made is ended, whatever became of the rest.
                    let Some(token) = self.issue(&user, None, if number % 2 == 0 { "login" } else { "key" }) else {
                        break;
                    };
                    made.push(token);
                }
                let mut all_well = made.len() == 8;
                pause(Duration::from_millis(15));
                for token in made {
                    if self.chance.below(LEFT_ALIVE) == 0 {
                        continue;
                    }
                    let (id, secret) = {
                        let known = lock(&self.checker.tokens);
                        (known[token].id.clone(), Arc::clone(&known[token].secret))
                    };
                    // By an administrator, or by the token itself.
                    let ended = match self.chance.below(2) {
                        0 => self.end(&[token], "DELETE", &format!("/v1/admin/tokens/{id}"), &admin, None),
                        _ => self.end(&[token], "POST", "/v1/logout", &secret, None),
                    };
                    all_well &= ended.is_some();
                }
                all_well.then_some(())
            }
            Level::LogoutAll => {
                let (_, logins, _) = self.household(name, None)?;
                let secret = self.checker.secret(logins[0]);
                self.end(&logins, "POST", "/v1/logout-all", &secret, None)
            }
            Level::User => {
                let (user, logins, keys) = self.household(name, None)?;
                let all = [logins, keys].concat();
                self.end(&all, "DELETE", &format!("/v1/admin/users/{user}/tokens?keys=true"), &admin, None)
            }
            Level::Disable => {
                let (user, logins, keys) = self.household(name, None)?;
                let all = [logins, keys].concat();
                self.end(&all, "PATCH", &format!("/v1/admin/users/{user}"), &admin, Some(&json!({ "active": false })))
            }
            Level::Delete => {
                let (user, logins, keys) = self.household(name, None)?;
                let all = [logins, keys].concat();
                self.end(&all, "DELETE", &format!("/v1/admin/users/{user}"), &admin, None)
            }
            Level::Client => {
                let made = self.by_admin("POST", "/v1/admin/clients", Some(&json!({ "name": name })))?;
                let id = made.answer.json()["id"].as_str()?.to_owned();
                let (_, logins, keys) = self.household(name, Some(name))?;
                let all = [logins, keys].concat();
                self.end(&all, "DELETE", &format!("/v1/admin/clients/{id}/tokens"), &admin, None)
            }
            Level::Logout => {
                let (username, password) = (&self.checker.plan.username, &self.checker.plan.password);
                let body = json!({ "username": username, "password": password });
                let node = self.some_node();
                let done = self.order(node, "POST", "/v1/login", "", Some(&body)).1?;
                let token = self.learn(&done)?;
                self.checker.plan_checks(token, now());
                pause(Duration::from_millis(10));
                let secret = self.checker.secret(token);
                self.end(&[token], "POST", "/v1/logout", &secret, None)
            }
        }
    }

    /// A new user with three logins and a key.
    fn household(&mut self, name: &str, client: Option<&str>) -> Option<(String, Vec<TokenNumber>, Vec<TokenNumber>)> {
        let user = self.new_user(name)?;
        let mut logins = Vec::new();
        for _ in 0..3 {
            logins.push(self.issue(&user, client, "login")?);
        }
        let keys = vec![self.issue(&user, client, "key")?];
        pause(Duration::from_millis(15));
        Some((user, logins, keys))
    }

    /// The same, ended on the command line.
    fn operated_round(&mut self, name: &str, round: usize) -> Option<()> {
        let (_, logins, keys) = self.household(name, None)?;
        let all = [logins.clone(), keys].concat();
        let (words, tokens): (Vec<&str>, Vec<TokenNumber>) = match round % 3 {
            0 => (vec!["user", "disable", name], all),
            1 => (vec!["token", "revoke", "--user", name, "--all", "--keys", "--yes"], all),
            _ => (vec!["token", "revoke", "--yes"], vec![logins[0]]),
        };
        let id = lock(&self.checker.tokens)[logins[0]].id.clone();
        let everywhere = self.checker.plan.everywhere && words[0] == "token" && self.chance.below(3) == 0;
        tokens.iter().for_each(|token| lock(&self.checker.tokens)[*token].asked = true);
        let (program, store) = self.checker.plan.command_line.split_first()?;
        let mut command = Command::new(program);
        command.args(store).args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if tokens.len() == 1 {
            command.arg(id);
        }
        if everywhere {
            command.args(["--wait", "everywhere"]);
        }
        let begin = now();
        let acknowledged = command.status().is_ok_and(|status| status.success()).then(now);
        let entry = Entry::Revocation { begin, acknowledged, by: By::CommandLine, everywhere, tokens: tokens.clone() };
        self.checker.recorder.note(&entry);
        self.ask_after(&tokens, acknowledged?);
        Some(())
    }
}

/// xorshift64*: what is drawn need not be hard to guess.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
