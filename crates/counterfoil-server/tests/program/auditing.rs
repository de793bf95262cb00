//! What the audit log says of commands, and how it is read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::exchange::{login, send, token};
use crate::running::{PASSWORD, Ran, Site, within};

/// The entries of `filter`, oldest first, once there are at least `count`: a server writes what it notes a little later.
fn entries(site: &Site, filter: &str, count: usize) -> Vec<Value> {
    within(Duration::from_secs(30), || {
        let listed = site.operate(&format!("audit list --json {filter}")).json();
        let mut entries = listed.as_array().expect("entries").clone();
        entries.reverse();
        (entries.len() >= count).then_some(entries)
    })
}

fn events(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| entry["event"].as_str().expect("an event")).collect()
}

#[test]
fn r31_every_change_by_a_command_is_in_the_audit_log_as_the_operators() {
    let site = Site::new();
    site.write("ring.toml", &format!("key_ring_file = {:?}\n", site.path("ring").to_str().expect("UTF-8")));
    site.run("keyring init --file ring");
    let id = |line: &str| site.operate(&format!("{line} --json")).json()["id"].as_str().expect("an id").to_owned();
    site.user("ada");
    site.operate("user set-role ada staff");
    site.operate("user update ada --first-name Ada");
    site.operate("user set-password ada --password-file password.txt");
    site.operate("user disable ada");
    site.operate("user enable ada");
    site.operate("user unlock ada");
    site.operate("user export ada");
    site.operate("client create web");
    site.operate("client update web --ttl 1h");
    let issued = id("token issue --user ada --client web");
    site.operate(&format!("token rename {issued} desk"));
    site.operate(&format!("token revoke {issued}"));
    let key = id("key create --user ada --name ci");
    site.operate(&format!("key revoke {key} --yes"));
    site.operate("token revoke --user ada --kind login --yes");
    site.operate("token revoke --user ada --all --yes");
    site.operate("token revoke --client web --all --yes");
    site.operate("token revoke --everybody --yes");
    site.operate("client delete web --yes");
    site.operate("keyring reseal --config ring.toml");
    site.operate("user delete ada --yes");
    let entries = entries(&site, "", 0);
    assert_eq!(
        events(&entries),
        [
            "account_created",
            "role_changed",
            "account_changed",
            "password_changed",
            "account_disabled",
            "account_enabled",
            "account_unlocked",
            "account_exported",
            "client_created",
            "client_changed",
            "token_issued",
            "token_renamed",
            "token_revoked",
            "token_issued",
            "token_revoked",
            "tokens_revoked",
            "ended",
            "ended",
            "ended",
            "client_deleted",
            "secrets_resealed",
            "account_deleted",
        ]
    );
    for entry in &entries {
        assert_eq!(
            (&entry["actor"], &entry["ip"], &entry["by"]),
            (&json!("operator"), &Value::Null, &Value::Null),
            "{entry}"
        );
    }
    // What looks and changes nothing leaves no entry.
    for line in ["user list", "token list", "client list", "key list", "audit list", "doctor"] {
        site.operate(line);
    }
    assert_eq!(site.operate("audit list --json").json().as_array().map(Vec::len), Some(entries.len()));
}

#[test]
fn a_command_says_so_where_the_audit_log_cannot_be_written() {
    let site = Site::new();
    site.user("ada");
    let id = site.operate("token issue --user ada --json").json()["id"].as_str().expect("an id").to_owned();
    let refuse = "import sqlite3; sqlite3.connect('data/counterfoil.db').executescript(\
                  \"CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no room'); END\")";
    let broken = Command::new("python3").args(["-c", refuse]).current_dir(site.path("")).status();
    assert!(broken.is_ok_and(|status| status.success()), "this test needs Python with its module sqlite3");

    // What ends tokens does not wait for a log.
    let ran = site.operate(&format!("token revoke {id}"));
    assert!(
        ran.stderr.starts_with("warning: what was done is not in the audit log") && ran.stderr.contains("no room"),
        "{ran:?}"
    );
    assert_eq!(site.operate(&format!("token show {id} --json")).json()["state"], "revoked");
    let ran = site.run("user disable ada --data-dir data");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.stderr.contains("writing into the audit log what was ordered and is done"), "{ran:?}");
    assert!(ran.stderr.contains("no room"), "{ran:?}");
    assert_eq!(site.operate("user show ada --json").json()["active"], false);
}

#[test]
fn the_log_is_read_by_who_whom_what_when_and_where() {
    let site = Site::new();
    site.user("ada");
    site.user("eve");
    let server = site.serve("");
    let (_, id) = token(server.address, "ada", PASSWORD);
    assert_eq!(login(server.address, "eve", "wrong").status, 401);
    assert_eq!(login(server.address, "mallory", "wrong").status, 401);
    let all = entries(&site, "", 6);
    assert_eq!(
        events(&all),
        ["account_created", "account_created", "token_issued", "logged_in", "login_failed", "login_failed"]
    );
    let list = |filter: &str| {
        let listed = site.operate(&format!("audit list --json {filter}")).json();
        events(listed.as_array().expect("entries")).into_iter().map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    for (filter, expected) in [
        ("--user ada", "logged_in token_issued account_created"),
        ("--user eve", "login_failed account_created"),
        ("--by ada", "logged_in token_issued"),
        ("--event account_created", "account_created account_created"),
        (&format!("--token {id}"), "logged_in token_issued"),
        ("--client default --event logged_in", "logged_in"),
        ("--ip 127.0.0.1", "login_failed login_failed logged_in token_issued"),
        ("--ip 192.0.2.1", ""),
        ("--since 1h --limit 2", "login_failed login_failed"),
        ("--until 1h", ""),
        ("--since 2999-01-01T00:00:00Z", ""),
    ] {
        assert_eq!(list(filter), expected, "{filter}");
    }
    assert_eq!((&all[5]["username"], &all[5]["subject"]), (&Value::Null, &Value::Null), "it might be a secret");
    assert_eq!((&all[3]["by_name"], &all[3]["by_token"]), (&json!("ada"), &json!(id)));

    let human = site.operate("audit list --limit 3");
    let lines: Vec<&str> = human.stdout.lines().collect();
    assert!(lines[0].starts_with("AT") && lines.len() == 4, "{human:?}");
    assert!(
        lines[1].contains("login_failed") && lines[1].contains("stranger") && lines[1].contains("unknown user"),
        "{human:?}"
    );
    assert!(lines[3].contains("logged_in") && lines[3].contains("ada") && lines[3].contains("127.0.0.1"), "{human:?}");
    assert!(human.stderr.contains("newest 3"), "{human:?}");

    // A deleted user goes by the id, and has no name any more.
    let subject = all[3]["subject"].as_str().expect("a subject").to_owned();
    site.operate("user delete ada --yes");
    let gone = site.operate(&format!("audit list --user {subject} --json")).json();
    assert_eq!((&gone[0]["event"], &gone[0]["subject_name"]), (&json!("account_deleted"), &Value::Null));
    for (line, code, reason) in [
        ("audit list --user ada", 1, "there is no user ada"),
        ("audit list --event login", 2, "invalid value"),
        ("audit list --limit 0", 2, "invalid value"),
    ] {
        let ran = site.run(&format!("{line} --data-dir data"));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{line}: {ran:?}");
        assert!(ran.stderr.contains(reason), "{line}: {}", ran.stderr);
    }
}

#[test]
fn a80_an_export_holds_everything_and_nothing_that_a_spreadsheet_computes() {
    let site = Site::new();
    site.user("ada");
    let server = site.serve("");
    let hostile = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "a\",=1"];
    for agent in hostile {
        let headers = [("Content-Type", "application/json"), ("User-Agent", agent)];
        let body = json!({ "username": "nobody", "password": "wrong" }).to_string();
        assert_eq!(send(server.address, "POST", "/v1/login", &headers, &body).status, 401, "{agent:?}");
    }
    let count = entries(&site, "", 1 + hostile.len()).len();

    let csv = site.operate("audit export --format csv").stdout;
    assert!(csv.starts_with("\"id\",\"at\",\"event\",\"actor\",\"by\""), "{csv}");
    for cell in ["\"'=cmd|' /C calc'!A0\"", "\"'+1\"", "\"'-1\"", "\"'@SUM(1)\"", "\"a\"\",=1\""] {
        assert!(csv.contains(cell), "{cell:?} in {csv}");
    }
    let lines = site.operate("audit export --format json").stdout;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert_eq!(lines.len(), count);
    assert_eq!(Value::Array(lines), site.operate("audit list --json").json(), "newest first, as listed");

    site.operate("audit export --format csv --output audit.csv");
    assert_eq!(fs::read_to_string(site.path("audit.csv")).expect("a file"), csv);
    assert_eq!(fs::metadata(site.path("audit.csv")).expect("a file").permissions().mode() & 0o777, 0o600);
    let again = site.run("audit export --format json --output audit.csv --data-dir data");
    assert_eq!(again.code, Some(1), "{again:?}");
    assert_eq!(fs::read_to_string(site.path("audit.csv")).expect("a file"), csv, "never overwritten");
    let some = site.operate("audit export --format json --event account_created").stdout;
    assert_eq!(some.lines().count(), 1);
}

#[test]
fn an_export_of_many_pages_loses_and_repeats_nothing() {
    let site = Site::new();
    site.operate("user create ada --no-password");
    // Each command is a process: a script of orders to one user makes entries faster than logging in does.
    let server = site.serve("");
    let (session, _) = {
        site.operate("user set-password ada --password-file password.txt");
        token(server.address, "ada", PASSWORD)
    };
    let bearer = format!("Bearer {session}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    for _ in 0..1_100 {
        let made = send(server.address, "POST", "/v1/keys", &headers, "{}");
        assert_eq!(made.status, 201, "{}", made.body);
    }
    server.stop();
    let ids = |ran: &Ran| -> Vec<u64> {
        let line = |line: &str| serde_json::from_str::<Value>(line).expect(line)["id"].as_u64().expect("a number");
        ran.stdout.lines().map(line).collect()
    };
    let exported = ids(&site.operate("audit export --format json"));
    assert!(exported.len() > 1_100, "{}", exported.len());
    assert!(exported.windows(2).all(|pair| pair[0] == pair[1] + 1), "newest first, without a gap");
    assert_eq!(exported.last(), Some(&1));
    let csv = site.operate("audit export --format csv").stdout;
    assert_eq!(csv.split_terminator("\r\n").count(), exported.len() + 1, "one row of names");
    let user = site.operate("user export ada").json();
    assert!(user["audit"].as_array().is_some_and(|entries| entries.len() > 1_100));
    assert_eq!(user["tokens"].as_array().map(Vec::len), Some(1_101));
}
