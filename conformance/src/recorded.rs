//! The differ held to all that was recorded: answers come from a server that says again what the packages said.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use regex::Regex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::cases::{self, Action, Package, Scenario};
use crate::compare::Difference;
use crate::json::Json;
use crate::judge::{Verdict, judge};
use crate::mailbox::Mailbox;
use crate::replay::{Outcome, Side, Time, replay};
use crate::rules::Rules;

/// An answer as it was recorded, to be changed before it is said again.
#[derive(Debug, Clone, PartialEq)]
struct Said {
    status: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Said {
    fn read(raw: &Json) -> Said {
        let headers = raw.get("headers").and_then(Json::as_object).unwrap_or_default();
        Said {
            status: raw.get("status").map(Json::to_python_text).unwrap(),
            headers: headers.iter().map(|(name, value)| (name.clone(), value.to_python_text())).collect(),
            body: raw.get("body").and_then(Json::as_str).unwrap().to_owned(),
        }
    }

    /// `host` is where it is said now; a recorded link to the lab leads there.
    fn bytes(&self, host: SocketAddr, to_head: bool) -> Vec<u8> {
        let lab = Regex::new(r"127\.0\.0\.1:[0-9]+").unwrap();
        let body = lab.replace_all(&self.body, host.to_string());
        let mut head = format!("HTTP/1.1 {} Said\r\n", self.status);
        for (name, value) in &self.headers {
            // It is not sent in pieces here; and the length that HEAD tells is that of a body that is not there.
            if name != "transfer-encoding" && (name != "content-length" || to_head) {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        if !to_head {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        let mut bytes: Vec<u8> = format!("{head}\r\n").chars().map(|letter| u32::from(letter) as u8).collect();
        bytes.extend_from_slice(body.as_bytes());
        bytes
    }
}

fn cases_in(folder: &str) -> Vec<Package> {
    cases::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("cases").join(folder)).unwrap()
}

fn given() -> Vec<Package> {
    cases_in("given")
}

/// Replays a scenario against a server that answers each step with what was recorded, as `change` leaves it.
async fn said_again(package: &Package, scenario: &Scenario, change: &dyn Fn(usize, &mut Said)) -> Vec<Outcome> {
    let mails = tempfile::tempdir().unwrap();
    let mut answers = Vec::new();
    let mut uniq = "u0000000000".to_owned();
    let made_up = Regex::new(r"\bu[0-9a-f]{10}\b").unwrap();
    for recorded in scenario.recorded.as_ref().unwrap() {
        let Some(raw) = &recorded.raw else { continue };
        let mut said = Said::read(raw);
        if let Some(found) = made_up.find(&said.body) {
            uniq = found.as_str().to_owned();
        }
        change(recorded.step, &mut said);
        match &scenario.steps[recorded.step].action {
            Action::Mail(_) => write_mail(mails.path(), &said),
            Action::Request(request) => answers.push((said, request.method == "HEAD")),
            Action::Sleep(_) | Action::Relation(_) => panic!("no answer comes to that"),
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        for (said, to_head) in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            stream.write_all(&said.bytes(host, to_head)).await.unwrap();
        }
    });
    let at_once = Semaphore::new(1);
    let side = Side {
        host: host.to_string(),
        base: String::new(),
        mailbox: Mailbox::at(mails.path()),
        at_once: &at_once,
        time: Time::Recorded,
    };
    let outcomes = replay(scenario, &package.setup.tokens, &uniq, &side).await;
    server.abort();
    outcomes
}

fn write_mail(directory: &Path, said: &Said) {
    let mail = Json::parse(said.body.as_bytes()).unwrap();
    let text = |key: &str| mail.get(key).and_then(Json::as_str).unwrap().to_owned();
    let head = format!("Subject: {}\nFrom: {}\nTo: {}", text("subject"), text("from"), text("to"));
    fs::write(directory.join("1.eml"), format!("{head}\n\n{}\n", text("text"))).unwrap();
}

async fn read_request(stream: &mut TcpStream) {
    let mut request = Vec::new();
    loop {
        assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "the request ends in the middle");
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, _)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.split("Content-Length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        let head = request.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        if request.len() >= head + length {
            return;
        }
    }
}

/// The parts in which a scenario differs once `change` was made to every answer that it can be seen in, for each such
/// scenario. `change` says whether it changed the answer.
async fn planted(what: &str, change: fn(&mut Said) -> bool) {
    let part = what.split(' ').next().unwrap();
    let mut planted = 0;
    for package in given() {
        for scenario in &package.scenarios {
            for recorded in scenario.recorded.as_ref().unwrap() {
                let step = &scenario.steps[recorded.step];
                let group = part.split('.').next().unwrap();
                let compared =
                    step.compare.as_ref().is_none_or(|parts| group == "status" || parts.iter().any(|it| it == group));
                let Some(raw) = &recorded.raw else { continue };
                let mut said = Said::read(raw);
                // No body of an answer to HEAD is there to be changed.
                let Action::Request(request) = &step.action else { continue };
                let seen = request.method != "HEAD" || !["body", "kind"].contains(&part);
                if !seen || !compared || step.peer_bug.is_some() || !change(&mut said) {
                    continue;
                }
                planted += 1;
                let outcomes = said_again(&package, scenario, &|at, said| {
                    if at == recorded.step {
                        change(said);
                    }
                })
                .await;
                let Verdict::Differs(steps) = judge(scenario, &outcomes, &Rules::default()) else {
                    panic!("{} {} step {}: {what} went unseen", package.name, scenario.name, recorded.step);
                };
                let parts: Vec<&str> = steps
                    .iter()
                    .filter(|step| step.step == recorded.step)
                    .flat_map(|step| &step.differences)
                    .map(|it: &Difference| it.part.as_str())
                    .collect();
                assert!(parts.contains(&part), "{} {}: {what} is told as {steps:?}", package.name, scenario.name);
            }
        }
    }
    assert!(planted > 5, "{what} could be planted in {planted} answers only");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_recorded_answer_has_its_recorded_normal_form() {
    for package in given().into_iter().chain(cases_in("more")) {
        for scenario in &package.scenarios {
            let outcomes = said_again(&package, scenario, &|_, _| ()).await;
            let recorded = scenario.recorded.as_ref().unwrap();
            for (recorded, outcome) in recorded.iter().zip(&outcomes) {
                let at = format!("{} {} step {}", package.name, scenario.name, recorded.step);
                assert_eq!(outcome.norm.compact(), recorded.norm.compact(), "{at}");
            }
            assert_eq!(outcomes.len(), recorded.len(), "{}", scenario.name);
            assert_eq!(judge(scenario, &outcomes, &Rules::default()), Verdict::Identical);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_status_is_seen_wherever_it_is_planted() {
    planted("status", |said| {
        said.status = if said.status == "200" { "201" } else { "200" }.to_owned();
        true
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_is_lost_or_says_something_else_is_seen_wherever_it_is_planted() {
    planted("headers.allow", |said| said.lose("allow")).await;
    planted("headers.vary", |said| said.lose("vary")).await;
    planted("headers.www-authenticate", |said| said.lose("www-authenticate")).await;
    planted("headers.location", |said| said.lose("location")).await;
    planted("headers.content-type", |said| {
        let header = said.headers.iter_mut().find(|(name, _)| name == "content-type");
        header.map(|(_, value)| value.push_str("; charset=latin-1")).is_some()
    })
    .await;
}

impl Said {
    fn lose(&mut self, name: &str) -> bool {
        let before = self.headers.len();
        self.headers.retain(|(known, _)| known != name);
        before != self.headers.len()
    }

    fn json(&self) -> Option<Json> {
        let json = self.headers.iter().any(|(name, value)| name == "content-type" && value.contains("json"));
        if json { Json::parse(self.body.as_bytes()).ok() } else { None }
    }

    fn replace(&mut self, pattern: &str, with: impl Fn(&str) -> String) -> bool {
        let changed = Regex::new(pattern).unwrap().replace(&self.body, |found: &regex::Captures<'_>| with(&found[0]));
        let changed = changed.into_owned();
        std::mem::replace(&mut self.body, changed) != self.body
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_order_of_keys_is_seen_wherever_it_is_planted() {
    planted("body (key order)", |said| match said.json() {
        Some(Json::Object(mut entries)) if entries.len() > 1 => {
            entries.reverse();
            said.body = Json::Object(entries).compact();
            true
        }
        _ => false,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_is_off_by_an_hour_or_of_another_precision_is_seen_wherever_it_is_planted() {
    // An hour later, whatever the hour is.
    planted("body (an hour)", |said| {
        said.replace(r"[T ][0-9]{2}:[0-9]{2}:[0-9]{2}\.", |time| {
            let hour: u32 = time[1..3].parse().unwrap();
            format!("{}{:02}{}", &time[..1], if hour == 23 { 22 } else { hour + 1 }, &time[3..])
        })
    })
    .await;
    planted("body (precision)", |said| said.replace(r"[0-9]{3}Z", |_| "Z".to_owned())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_shape_is_seen_wherever_it_is_planted() {
    planted("body (a shorter token)", |said| {
        said.json().is_some_and(|body| body.get("token").is_some())
            && said.replace("\"token\":\"[^\"]", |_| "\"token\":\"".to_owned())
    })
    .await;
    planted("body (capital letters)", |said| {
        said.json().is_some_and(|body| body.get("token").is_some())
            && said.replace("\"token\":\"[0-9a-f]{32,}", |token| format!("\"token\":{}", token[8..].to_uppercase()))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_word_in_a_body_is_seen_wherever_it_is_planted() {
    planted("body (a blank)", |said| {
        said.replace(r"\b(credentials|username|status|not allowed)\b", |word| format!("{word} "))
    })
    .await;
    planted("kind (a body where there was none)", |said| {
        let empty = said.body.is_empty() && said.status == "200";
        if empty {
            said.body = "x".to_owned();
        }
        empty
    })
    .await;
}
