//! What is measured, and who gets to see it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::thread;

use rustix::process::Signal;

use crate::exchange::{PATIENCE, login, me, send, token};
use crate::running::{PASSWORD, Server, Site, within};

/// A server that shows what it measures, and where.
fn measured(site: &Site, more: &str) -> (Server, SocketAddr) {
    let config = site.write("counterfoil.toml", &format!("[metrics]\nlisten = \"127.0.0.1:0\"\n{more}"));
    let server = site.serve(&format!("--config {config} --log-format json"));
    let log = server.log_with("what is measured is shown");
    let line: serde_json::Value = log
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find(|line| line["metrics"].is_string())
        .expect("a line");
    let address = line["metrics"].as_str().and_then(|url| url.strip_prefix("http://")).expect("an address");
    let address = address.parse().expect("an address");
    (server, address)
}

fn page(address: SocketAddr) -> String {
    let answer = send(address, "GET", "/metrics", &[], "");
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

/// The value of one line; 0 where it is not there.
fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().expect("a number"))
}

/// Something of everything that can be counted.
fn live(site: &Site, server: &Server) -> Vec<String> {
    site.user("ada");
    let (first, id) = token(server.address, "ada", PASSWORD);
    let (second, other) = token(server.address, "ada", PASSWORD);
    assert_eq!(login(server.address, "ada", "wrong password").status, 401);
    assert_eq!(login(server.address, "nobody-of-this-name", "wrong password").status, 401);
    let bearer = format!("Bearer {first}");
    let authorized = [("Authorization", bearer.as_str())];
    assert_eq!(send(server.address, "GET", "/v1/tokens?limit=1", &authorized, "").status, 200);
    assert_eq!(send(server.address, "DELETE", &format!("/v1/tokens/{other}"), &authorized, "").status, 204);
    assert_eq!(me(server.address, &second), 401);
    assert_eq!(me(server.address, "cf_invented"), 401);
    assert_eq!(send(server.address, "GET", "/some/secret/path", &[], "").status, 404);
    assert_eq!(send(server.address, "BREW", "/v1/me", &[], "").status, 405);
    let key = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    assert_eq!(send(server.address, "POST", "/v1/keys", &key, "{\"name\": \"a-key-of-adas\"}").status, 201);
    let rotated = send(server.address, "POST", "/v1/rotate", &authorized, "");
    assert_eq!(rotated.status, 200, "{}", rotated.body);
    let fresh = rotated.json()["token"].as_str().expect("a token").to_owned();
    let bearer = format!("Bearer {fresh}");
    assert_eq!(send(server.address, "POST", "/v1/logout", &[("Authorization", &bearer)], "").status, 204);
    vec![first, second, fresh, id, other]
}

#[test]
fn what_happens_is_counted_and_nobody_is_named() {
    let site = Site::new();
    let (server, metrics) = measured(&site, "");
    let secrets = live(&site, &server);
    let page = page(metrics);
    for (series, expected) in [
        ("counterfoil_logins_total{outcome=\"succeeded\"}", 2.0),
        ("counterfoil_logins_total{outcome=\"wrong_password\"}", 1.0),
        ("counterfoil_logins_total{outcome=\"unknown_user\"}", 1.0),
        ("counterfoil_logins_total{outcome=\"overtaken\"}", 0.0),
        ("counterfoil_token_checks_total{outcome=\"revoked\"}", 1.0),
        ("counterfoil_token_checks_total{outcome=\"unknown\"}", 1.0),
        ("counterfoil_tokens_issued_total{kind=\"login\"}", 2.0),
        ("counterfoil_tokens_issued_total{kind=\"key\"}", 1.0),
        ("counterfoil_tokens_revoked_total{by=\"owner\"}", 1.0),
        ("counterfoil_tokens_revoked_total{by=\"itself\"}", 1.0),
        ("counterfoil_tokens_rotated_total", 1.0),
        ("counterfoil_problems_total{type=\"invalid-credentials\"}", 2.0),
        ("counterfoil_problems_total{type=\"invalid-token\"}", 2.0),
        ("counterfoil_problems_total{type=\"not-found\"}", 1.0),
        ("counterfoil_hashing_waiting", 0.0),
        ("counterfoil_hashing_duration_seconds_count", 4.0),
        ("counterfoil_store_errors_total{work=\"request\"}", 0.0),
        ("counterfoil_background_healthy{work=\"flush\"}", 1.0),
        ("counterfoil_connections_open{listener=\"metrics\"}", 1.0),
        ("counterfoil_http_requests_total{method=\"POST\",route=\"/v1/login\",status=\"2xx\"}", 2.0),
        ("counterfoil_http_requests_total{method=\"DELETE\",route=\"/v1/tokens/{id}\",status=\"2xx\"}", 1.0),
        ("counterfoil_http_requests_total{method=\"GET\",route=\"none\",status=\"4xx\"}", 1.0),
        ("counterfoil_http_requests_total{method=\"other\",route=\"/v1/me\",status=\"4xx\"}", 1.0),
        ("counterfoil_http_request_duration_seconds_count{method=\"POST\",route=\"/v1/login\"}", 4.0),
        (&format!("counterfoil_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1.0),
    ] {
        assert_eq!(value(&page, series), expected, "{series}:\n{page}");
    }
    assert!(value(&page, "counterfoil_connections_accepted_total{listener=\"main\"}") >= 12.0);
    let log = within(PATIENCE, || {
        Some(value(&self::page(metrics), "counterfoil_write_ahead_bytes")).filter(|size| *size > 0.0)
    });
    assert!(log < 64.0 * 1024.0 * 1024.0, "{log}");
    let strangers = ["ada", "nobody-of-this-name", "some/secret", "127.0.0.1", "BREW", "cf_", "limit=1"];
    for text in secrets.iter().map(String::as_str).chain(strangers) {
        assert!(!page.contains(text), "{text} is on the page:\n{page}");
    }
    server.stop();
}

/// Name, type and labels of everything on the page of the program.
fn exposed(page: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut metrics: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').expect("a name and a type");
        metrics.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
    }
    for line in page.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let series = line.rsplit_once(' ').expect("a value").0;
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let name = of_histogram.filter(|name| metrics.contains_key(*name)).unwrap_or(name);
        let (_, known) = metrics.get_mut(name).unwrap_or_else(|| panic!("{name} has no type"));
        let labels = labels.trim_end_matches('}').split("\",").filter_map(|label| label.split_once('='));
        known.extend(labels.map(|(label, _)| label.to_owned()).filter(|label| label != "le"));
    }
    metrics
}

#[test]
fn the_page_about_metrics_is_what_the_program_shows() {
    let site = Site::new();
    let (server, metrics) = measured(&site, "");
    live(&site, &server);
    let shown = exposed(&page(metrics));
    let mut documented: BTreeMap<String, (String, BTreeSet<String>)> = include_str!("../../../../docs/metrics.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `counterfoil_"))
        .map(|row| {
            let mut cells = row.split(" |").map(|cell| cell.trim().replace('`', ""));
            let mut next = || cells.next().expect("a cell");
            let (name, kind, labels) = (format!("counterfoil_{}", next()), next(), next());
            let labels = labels.split(", ").filter(|label| !label.is_empty()).map(str::to_owned).collect();
            (name, (kind, labels))
        })
        .collect();
    // Those of limits that nodes share are there once there is somebody to share them with.
    documented.retain(|name, _| !name.starts_with("counterfoil_shared_limits_") || shown.contains_key(name));
    assert_eq!(documented, shown);
    server.stop();
}

#[test]
fn a81_what_is_measured_is_shown_on_a_listener_of_its_own_and_by_default_nowhere() {
    let site = Site::new();
    site.user("ada");
    let plain = site.serve("");
    assert_eq!(send(plain.address, "GET", "/metrics", &[], "").status, 404);
    assert!(!plain.log().contains("what is measured"), "{}", plain.log());
    plain.stop();

    let (server, metrics) = measured(&site, "");
    let (text, _) = token(server.address, "ada", PASSWORD);
    let bearer = format!("Bearer {text}");
    for path in
        ["/metrics", "/metrics/", "//metrics", "/v1/metrics", "/v1/../metrics", "/debug", "/debug/pprof", "/admin"]
    {
        for headers in [vec![], vec![("Authorization", bearer.as_str())], vec![("X-Forwarded-For", "127.0.0.1")]] {
            let answer = send(server.address, "GET", path, &headers, "");
            assert_eq!(answer.status, 404, "{path}: {}", answer.body);
        }
    }
    // And nothing else is there.
    for path in ["/", "/v1/me", "/healthz", "/v1/login", "/metrics/x"] {
        assert_eq!(send(metrics, "GET", path, &[("Authorization", &bearer)], "").status, 404, "{path}");
    }
    assert_eq!(send(metrics, "POST", "/metrics", &[], "x").status, 405);
    server.stop();
}

#[test]
fn reloads_are_counted() {
    let site = Site::new();
    let (server, metrics) = measured(&site, "");
    for (content, series) in [
        ("nonsense", "counterfoil_reloads_total{outcome=\"refused\"}"),
        ("", "counterfoil_reloads_total{outcome=\"adopted\"}"),
    ] {
        site.write("counterfoil.toml", content);
        server.signal(Signal::HUP);
        within(PATIENCE, || Some(page(metrics)).filter(|page| value(page, series) == 1.0));
    }
    server.stop();
}

#[test]
fn a59_what_a_full_queue_turns_away_is_counted() {
    let site = Site::new();
    let (server, metrics) = measured(&site, "[hashing]\nthreads = 1\nqueue = 1\n");
    let address = server.address;
    let shed: usize = thread::scope(|scope| {
        let storm: Vec<_> = (0..12)
            // By different names: those by one name take turns before they get to the queue.
            .map(|number| scope.spawn(move || login(address, &format!("nobody-{number}"), PASSWORD).status))
            .collect();
        storm.into_iter().map(|one| usize::from(one.join().expect("an answer") == 503)).sum()
    });
    let page = page(metrics);
    assert!(shed > 0);
    for series in ["counterfoil_hashing_refused_total", "counterfoil_problems_total{type=\"overloaded\"}"] {
        assert_eq!(value(&page, series), shed as f64, "{series}");
    }
    let failed = value(&page, "counterfoil_logins_total{outcome=\"unknown_user\"}");
    assert_eq!(failed, (12 - shed) as f64);
    assert_eq!(value(&page, "counterfoil_hashing_duration_seconds_count"), failed);
    server.stop();
}
