//! What must not be seen: in the log, in the database, in the answers of commands.

use crate::exchange::{login, me, send, token};
use crate::running::{PASSWORD, Site, any_file_has};

#[test]
fn a82_no_password_and_no_token_reaches_the_log_at_trace_or_the_disk() {
    let site = Site::new();
    site.user("ada");
    let server = site.serve("--log-level trace --log-format json");
    let address = server.address;
    let (text, id) = token(address, "ada", PASSWORD);
    const WRONG: &str = "canary-wrong-password";
    assert_eq!(login(address, "ada", WRONG).status, 401);
    assert_eq!(login(address, WRONG, WRONG).status, 401);
    let json = ("Content-Type", "application/json");
    let bearer = format!("Bearer {text}");
    let authorization = ("Authorization", bearer.as_str());
    for (method, path, headers, body) in [
        ("POST", "/v1/login".to_owned(), vec![json], format!("{{\"username\": \"ada\", \"password\": \"{PASSWORD}\"")),
        ("POST", "/v1/login".to_owned(), vec![json], format!("{{\"password\": \"{PASSWORD}\", \"{PASSWORD}\": 1}}")),
        ("POST", "/v1/login".to_owned(), vec![], format!("username=ada&password={}", PASSWORD.replace(' ', "+"))),
        ("GET", format!("/v1/me?token={text}"), vec![], String::new()),
        ("GET", format!("/{text}"), vec![authorization], String::new()),
        ("GET", "/v1/me".to_owned(), vec![("Authorization", text.as_str())], String::new()),
        ("GET", "/v1/me".to_owned(), vec![("Cookie", text.as_str()), ("Referer", text.as_str())], String::new()),
        ("GET", "/v1/tokens".to_owned(), vec![authorization], String::new()),
        ("GET", "/v1/keys".to_owned(), vec![authorization], String::new()),
        ("PATCH", format!("/v1/tokens/{id}"), vec![authorization, json], "{\"name\": \"desk\"}".to_owned()),
        ("DELETE", format!("/v1/tokens/{text}"), vec![authorization], String::new()),
        ("POST", "/v1/renew".to_owned(), vec![authorization], String::new()),
        ("GET", "/v1/me".to_owned(), vec![authorization], String::new()),
    ] {
        send(address, method, &path, &headers, &body);
    }
    let key = send(address, "POST", "/v1/keys", &[authorization, json], "{\"name\": \"backup\"}").json();
    let key = key["token"].as_str().expect("a key").to_owned();
    assert_eq!(me(address, &key), 200);
    let rotated = send(address, "POST", "/v1/rotate", &[authorization], "").json();
    let rotated = rotated["token"].as_str().expect("a token").to_owned();
    assert_eq!(me(address, &rotated), 200);
    assert_eq!(me(address, &text), 401, "the old secret, which is reuse by now");
    assert_eq!(me(address, &rotated), 401);
    let log = server.log_with("reuse_detected");
    server.stop();
    let listed = [
        site.operate("user list --json").stdout,
        site.operate("token list --all --json").stdout,
        site.operate("token list --all").stdout,
        site.operate("client list --json").stdout,
    ];
    for secret in [PASSWORD, "correct horse", "correct+horse", &text, &key, &rotated] {
        assert!(!log.contains(secret), "{secret}");
        assert!(listed.iter().all(|text| !text.contains(secret)), "{secret}");
        assert!(!any_file_has(&site.path("data"), secret), "{secret}");
    }
    // The name of somebody there is is in the log, on purpose; what is typed as a password is not.
    assert_eq!(log.matches(WRONG).count(), log.matches(&format!("\"username\":\"{WRONG}\"")).count());
    assert!(log.contains("\"event\":\"logged_in\"") && log.contains(&id), "the log does say who");
}

#[test]
fn a83_a_hostile_user_name_is_in_no_line_of_the_log() {
    for format in ["human", "json"] {
        let site = Site::new();
        site.user("ada");
        let server = site.serve(&format!("--log-format {format}"));
        let hostile = "mallory\r\n2026-01-01T00:00:00Z  INFO forged: event=\"logged_in\"\u{1b}[2J\",\"event\":\"logged_in\u{2028}";
        assert_eq!(login(server.address, hostile, "x").status, 401);
        let log = server.log_with("unknown user");
        // No account is called that, so it may be anything, a secret too.
        assert!(!log.contains("mallory") && !log.contains("forged"), "{log}");
        assert_eq!(log.matches("unknown user").count(), 1, "{log}");
        assert!(!log.contains(['\r', '\u{1b}', '\u{2028}']), "{log:?}");
        if format == "json" {
            for line in log.lines() {
                let entry: serde_json::Value = serde_json::from_str(line).expect(line);
                assert_ne!(entry["event"], "logged_in", "{line}");
            }
        }
        server.stop();
    }
}

#[test]
fn r18_a_fresh_start_has_no_users_and_says_how_to_make_the_first() {
    let site = Site::new();
    let server = site.serve("");
    let log = server.log_with("there is no administrator yet");
    assert!(log.contains("counterfoil --data-dir data user create root --admin --password-stdin"), "{log}");
    assert_eq!(site.operate("user list --json").json(), serde_json::json!([]));
    for (name, password) in [("admin", "admin"), ("root", "root"), ("counterfoil", "counterfoil"), ("ada", PASSWORD)] {
        assert_eq!(login(server.address, name, password).status, 401, "{name}");
    }
    server.stop();
    site.operate("user create root --admin --password-file password.txt");
    let again = site.serve("");
    assert_eq!(login(again.address, "root", PASSWORD).status, 200);
    let log = again.log_with("logged_in");
    assert_eq!(log.matches("there is no administrator yet").count(), 1, "only the first time: {log}");
}
