//! Clients that ask for a change and hang up before they are answered.

use std::io::Write;
use std::time::Duration;

use serde_json::Value;

use crate::exchange::{connect, head, login, send, token};
use crate::running::{PASSWORD, Site, within};

/// Keeps a connection for so long. When the server gets how far is not for a test to say: it must be right wherever that is.
fn stay(time: Duration) {
    std::thread::park_timeout(time);
}

#[test]
fn r31_an_order_whose_client_hung_up_is_carried_out_whole_and_written_down_or_not_at_all() {
    let site = Site::new();
    site.operate("user create root --admin --password-file password.txt");
    let ids: Vec<String> = (0..24)
        .map(|number| {
            let made = site.operate(&format!("user create user-{number} --no-password --json")).json();
            made["id"].as_str().expect("an id").to_owned()
        })
        .collect();
    let server = site.serve("");
    let (secret, _) = token(server.address, "root", PASSWORD);
    let bearer = format!("Bearer {secret}");
    let authorized = [("Authorization", bearer.as_str())];
    for (position, id) in ids.iter().enumerate() {
        let mut stream = connect(server.address);
        let request = head("DELETE", &format!("/v1/admin/users/{id}"), &authorized, 0);
        stream.write_all(request.as_bytes()).expect("written");
        // Some at once, some while it is being done.
        stay(Duration::from_micros(250 * (position as u64 % 12)));
    }
    let get = |path: &str| send(server.address, "GET", path, &authorized, "");
    // One order more, which is answered, comes after those that were begun; then nothing is under way any more.
    let settled = || -> Vec<(bool, bool)> {
        let entries = get("/v1/admin/audit?event=account_deleted&limit=100").json();
        let told: Vec<Value> = entries["items"].as_array().expect("items").clone();
        ids.iter()
            .map(|id| {
                let gone = get(&format!("/v1/admin/users/{id}")).status == 404;
                (gone, told.iter().any(|entry| entry["subject"] == **id))
            })
            .collect()
    };
    let states = within(Duration::from_secs(30), || {
        let first = settled();
        stay(Duration::from_millis(300));
        (first == settled()).then_some(first)
    });
    for (id, (gone, told)) in ids.iter().zip(&states) {
        assert_eq!(gone, told, "{id}: gone {gone}, in the audit log {told}");
        if !gone {
            // Whole: it can be made staff's business again, which a buried one cannot.
            let order = serde_json::json!({ "user": id }).to_string();
            let headers = [authorized[0], ("Content-Type", "application/json")];
            assert_eq!(send(server.address, "POST", "/v1/admin/tokens", &headers, &order).status, 201, "{id}");
        }
    }
    assert!(states.iter().any(|(gone, _)| *gone), "none was carried out: this shows nothing");
    server.stop();
}

#[test]
fn r31_a_guess_whose_client_hung_up_is_written_down_as_the_failure_it_was() {
    let site = Site::new();
    site.user("ada");
    let server = site.serve("");
    let body = serde_json::json!({ "username": "ada", "password": "wrong" }).to_string();
    let failed = || {
        let shown = site.operate("user show ada --json").json();
        shown["failed_logins"]["failed"].as_u64().expect("a number")
    };
    // Some are gone before their body is there, and are no guesses.
    within(Duration::from_secs(30), || {
        let mut stream = connect(server.address);
        let head = head("POST", "/v1/login", &[("Content-Type", "application/json")], body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).expect("written");
        // Gone before a password can have been hashed.
        stay(Duration::from_millis(2));
        drop(stream);
        (failed() >= 2).then_some(())
    });
    within(Duration::from_secs(30), || {
        let listed = site.operate("audit list --json --event login_failed --user ada").json();
        let entries = listed.as_array().expect("entries");
        // Those that came too soon after others were not looked at, and are told of as that.
        let looked_at = entries.iter().filter(|entry| entry["detail"] == "wrong password");
        let told: u64 = looked_at.filter_map(|entry| entry["times"].as_u64()).sum();
        (told == failed()).then_some(())
    });
    assert_eq!(login(server.address, "nobody", PASSWORD).status, 401);
    server.stop();
}
