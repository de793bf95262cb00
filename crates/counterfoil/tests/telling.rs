//! What a service's logs and metrics hear of counterfoil: the documented names, and nothing that opens a door.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request};
use counterfoil::{
    BeforeIssuing, By, Counterfoil, Error, EventSink, HashingParams, HttpSettings, Intent, NewAccount, NewKey,
    Occurrence, Password, Refusal, Ruled, Ruling, Settings, Source,
};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use tower::ServiceExt;
use tracing_subscriber::fmt::format::FmtSpan;

const CANARY: &str = "Canary-Pass-77-lang";

/// Every name and label of a metric that was asked for, and what became of the counters.
#[derive(Clone, Default)]
struct Measured(Arc<Mutex<Vec<Metric>>>);

type Metric = (Key, Arc<AtomicU64>);

impl Measured {
    fn note(&self, key: &Key) -> Arc<AtomicU64> {
        let mut measured = self.0.lock().expect("list");
        if let Some((_, value)) = measured.iter().find(|(known, _)| known == key) {
            return Arc::clone(value);
        }
        let value = Arc::new(AtomicU64::new(0));
        measured.push((key.clone(), Arc::clone(&value)));
        value
    }

    /// One line for each.
    fn text(&self) -> String {
        let measured = self.0.lock().expect("list");
        let line = |(key, value): &Metric| {
            let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            format!("{} {} {value:?}\n", key.name(), labels.join(","))
        };
        measured.iter().map(line).collect()
    }

    fn names(&self) -> BTreeSet<String> {
        self.0.lock().expect("list").iter().map(|(key, _)| key.name().to_owned()).collect()
    }
}

impl Recorder for Measured {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.note(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.note(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.note(key);
        Histogram::noop()
    }
}

/// What was logged, at the loudest level.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("buffer").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Refuses the third login, and repeats nothing that it was told.
#[derive(Debug)]
struct Host;

impl BeforeIssuing for Host {
    fn rule(&self, intent: Intent) -> Ruled<'_> {
        let refused = intent.name.is_some_and(|name| name.as_str() == "refused");
        let reason = "not this device".to_owned();
        Box::pin(async move { Ok(if refused { Ruling::Refuse { reason } } else { Ruling::Allow }) })
    }
}

#[derive(Debug)]
struct Panics;

impl EventSink for Panics {
    fn publish(&self, _: &Occurrence) {
        panic!("planted");
    }
}

/// One test in this program: recorder and subscriber are for the whole of it.
#[tokio::test]
async fn a82_neither_the_log_nor_the_metrics_of_a_service_hold_a_secret_and_every_name_is_documented() {
    let (measured, logged) = (Measured::default(), Logged::default());
    metrics::set_global_recorder(measured.clone()).expect("the first");
    let writer = logged.clone();
    tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(FmtSpan::FULL)
        .with_writer(move || writer.clone())
        .init();

    let directory = tempfile::tempdir().expect("directory");
    let counterfoil = Counterfoil::builder()
        .sqlite(directory.path().join("data"))
        .settings(Settings { hashing: HashingParams::insecure_for_tests(), ..Settings::default() })
        .subscribe("ear", Panics)
        .before_issuing(Host, Duration::from_secs(60))
        .start()
        .await
        .expect("started");
    let secrets = a_day(&counterfoil).await;
    counterfoil.shutdown().await;

    let log = String::from_utf8(logged.0.lock().expect("buffer").clone()).expect("UTF-8");
    let metrics = measured.text();
    for heard in ["\"target\":\"counterfoil::events\"", "logged_in", "refused by the host: not this device"] {
        assert!(log.contains(heard), "{heard}: the log was not heard");
    }
    for counted in [
        "counterfoil_logins_total outcome=succeeded 2",
        "counterfoil_logins_total outcome=wrong_password 1",
        "counterfoil_hook_rulings_total outcome=refused 1",
        "counterfoil_tokens_rotated_total  1",
    ] {
        assert!(metrics.contains(counted), "{counted}: not in\n{metrics}");
    }
    assert!(metrics.contains("counterfoil_events_lost_total subscriber=ear,why=panicked"), "{metrics}");
    for secret in &secrets {
        assert!(!log.contains(secret.as_str()), "a secret is in the log");
        // The tail alone would open nothing, but has no business there either.
        assert!(!log.contains(&secret[secret.len() - 12..]), "a part of a secret is in the log");
        assert!(!metrics.contains(&secret[secret.len() - 12..]), "a secret is in a metric");
    }
    // No label says who.
    for who in ["ada", "192.0.2"] {
        assert!(!metrics.contains(who), "{who} is in\n{metrics}");
    }

    let (of_all, of_the_library) = (include_str!("../../../docs/metrics.md"), include_str!("../../../docs/library.md"));
    for name in measured.names() {
        let named = format!("`{name}`");
        assert!(of_all.contains(&named) || of_the_library.contains(&named), "{name} is not documented");
    }
    let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a line of JSON"));
    let targets: BTreeSet<String> = lines.filter_map(|line| Some(line["target"].as_str()?.to_owned())).collect();
    for target in targets.iter().filter(|target| target.starts_with("counterfoil")) {
        let named = target.split("::").next().expect("a crate");
        let known = of_the_library.contains(&format!("`{target}`")) || of_the_library.contains(&format!("`{named}`"));
        assert!(known, "{target} is not documented");
    }
}

/// What a service does in a day, over HTTP and by calls; returns every secret there was.
async fn a_day(counterfoil: &Counterfoil) -> Vec<String> {
    let (authority, here) = (counterfoil.authority(), Source { ip: Some([192, 0, 2, 7].into()), user_agent: None });
    let ada = NewAccount::named("ada".parse().expect("name"));
    let password = Password::new(CANARY).expect("short");
    authority.create_user(ada, Some(password), &By::operator(), counterfoil.now()).await.expect("created");

    let app = counterfoil.router(HttpSettings::default());
    let send = async |method: Method, path: &str, token: &str, body: String| {
        let request = Request::builder().method(method).uri(path).header("Content-Type", "application/json");
        let request = request.header("Host", "localhost").header("Authorization", format!("Bearer {token}"));
        let answer = app.clone().oneshot(request.body(Body::from(body)).expect("request")).await.expect("answer");
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("body");
        serde_json::from_slice::<serde_json::Value>(&bytes).unwrap_or_default()
    };
    let login = async |username: &str, password: &str, name: &str| {
        let body = serde_json::json!({"username": username, "password": password, "name": name}).to_string();
        send(Method::POST, "/v1/login", "none", body).await["token"].as_str().map(str::to_owned)
    };
    let laptop = login("ada", CANARY, "laptop").await.expect("logged in");
    let phone = login("ada", CANARY, "phone").await.expect("logged in");
    assert_eq!(login("ada", CANARY, "refused").await, None);
    let wrong = "Another-Canary-Pass-78".to_owned();
    assert_eq!(login("ada", &wrong, "burglar").await, None);
    // The password in the wrong field, and a token in it.
    for misplaced in [CANARY, &laptop] {
        assert_eq!(login(misplaced, "12345678", "burglar").await, None);
    }
    for token in [&laptop, &phone, &format!("{laptop}x"), &phone.replace("cf_", "cg_")] {
        for path in ["/v1/me".to_owned(), format!("/v1/me?token={laptop}"), format!("/{laptop}")] {
            send(Method::GET, &path, token, String::new()).await;
        }
    }
    let (rotated, _) = authority.rotate(&phone, &here, counterfoil.now()).await.expect("rotated");
    let rotated = rotated.secret.expose().to_owned();
    let who = counterfoil.identify(&laptop, &here).await.expect("live");
    let key = NewKey { name: None, abilities: None, expires_at: None };
    let key = authority.create_key(&who, key, &here, counterfoil.now()).await.expect("a key");
    let key = key.secret.expose().to_owned();
    counterfoil.identify(&rotated, &here).await.expect("live");
    counterfoil.revoke_token(&laptop).await.expect("revoked");
    let refused = counterfoil.identify(&laptop, &here).await;
    assert!(matches!(refused, Err(Error::Refused(Refusal::TokenRevoked))));
    let own = counterfoil.create_token("user:42".parse::<counterfoil::SubjectId>().expect("subject"), &here).await;
    let own = own.expect("issued").secret.expose().to_owned();
    vec![CANARY.to_owned(), wrong, laptop, phone, rotated, key, own]
}
