//! A key ring's life: a new key, secrets sealed anew, old keys dropped.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;
use serde_json::json;

use crate::exchange::{PATIENCE, me, send};
use crate::running::{PASSWORD, Server, Site, within};

/// Sends SIGHUP and waits until the server has read its settings again.
fn hang_up(server: &Server) {
    let read = |log: &str| log.matches("the settings were read again and are in force").count();
    let before = read(&server.log());
    server.signal(Signal::HUP);
    within(PATIENCE, || (read(&server.log()) > before).then_some(()));
}

fn login_on_same(server: &Server) -> String {
    let body = json!({ "username": "ada", "password": PASSWORD, "client": "same" }).to_string();
    let answer = send(server.address, "POST", "/v1/login", &[("Content-Type", "application/json")], &body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["token"].as_str().expect("a token").to_owned()
}

#[test]
fn a_ring_gets_a_new_key_and_loses_the_old_one_while_the_same_secret_is_handed_out_on() {
    let site = Site::new();
    let ring = site.path("ring");
    site.user("ada");
    assert_eq!(site.run("keyring init --file ring").code, Some(0));
    let config = site.write("counterfoil.toml", "key_ring_file = \"ring\"\n");
    let operate = |line: &str| site.operate(&format!("{line} --config {config}"));
    let refused = |line: &str, code: i32, reason: &str| {
        let ran = site.run(&format!("{line} --config {config} --data-dir data"));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{line}: {ran:?}");
        assert!(ran.stderr.contains(reason), "{line}: {}", ran.stderr);
    };
    operate("client create same --reissue same");
    let server = site.serve(&format!("--config {config}"));
    let secret = login_on_same(&server);
    assert_eq!(login_on_same(&server), secret);

    let rotated = site.run("keyring rotate --file ring");
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    assert!(rotated.stdout.contains("SIGHUP") && rotated.stdout.contains("keyring reseal"), "{rotated:?}");
    let mode = || fs::metadata(&ring).expect("a ring").permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    assert_eq!(operate("keyring show --json").json()["keys"], json!([2, 1]));
    let human = operate("keyring show").stdout;
    assert!(human.contains("seals and opens  2") && human.contains("opens            1"), "{human}");
    hang_up(&server);
    assert_eq!(login_on_same(&server), secret, "the older key still opens");

    refused("keyring prune --file ring --yes", 1, "1 secrets are sealed with another key than 2");
    assert_eq!(operate("keyring reseal --json").json(), json!({ "resealed": 1 }));
    assert_eq!(operate("keyring reseal --json").json(), json!({ "resealed": 0 }));
    assert_eq!(login_on_same(&server), secret, "sealed anew");
    refused("keyring prune --file ring", 2, "add --yes");
    operate("keyring prune --file ring --yes");
    assert_eq!((operate("keyring show --json").json()["keys"].clone(), mode()), (json!([2]), 0o600));
    hang_up(&server);
    assert_eq!(login_on_same(&server), secret, "the old key is gone");
    assert_eq!(me(server.address, &secret), 200);
    assert_eq!(operate("token issue --user ada --client same --json").json()["token"], json!(secret));
    assert!(
        !fs::read_dir(site.path(""))
            .expect("a directory")
            .any(|entry| { entry.expect("an entry").file_name().to_string_lossy().contains("draft") })
    );
}

#[test]
fn a_ring_that_cannot_be_changed_stays_as_it_is() {
    let site = Site::new();
    assert_eq!(site.run("keyring init --file ring").code, Some(0));
    let before = fs::read(site.path("ring")).expect("a ring");
    for (line, reason) in [
        ("keyring rotate", "no key ring is named"),
        ("keyring rotate --file absent", "keyring init"),
        ("keyring show --file password.txt", "chmod 0600"),
    ] {
        let ran = site.run(line);
        assert!(matches!(ran.code, Some(1 | 2)), "{line}: {ran:?}");
        assert!(ran.stderr.contains(reason), "{line}: {}", ran.stderr);
    }
    // Another command has its turn, or was killed in it.
    site.write("ring.draft", "");
    let ran = site.run("keyring rotate --file ring");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("remove ring.draft"), "{ran:?}");
    assert_eq!(fs::read(site.path("ring")).expect("a ring"), before);
    fs::remove_file(site.path("ring.draft")).expect("removed");
    assert_eq!(site.run("keyring rotate --file ring").code, Some(0));
    let after = fs::read_to_string(site.path("ring")).expect("a ring");
    assert!(after.ends_with(str::from_utf8(&before).expect("text")), "the new key comes first");
}

#[test]
fn a_ring_that_does_not_open_what_is_sealed_is_refused_at_start_and_at_a_hangup() {
    let site = Site::new();
    let ring = site.path("ring");
    site.user("ada");
    assert_eq!(site.run("keyring init --file ring").code, Some(0));
    let right = fs::read(&ring).expect("a ring");
    let config = site.write("counterfoil.toml", "key_ring_file = \"ring\"\n");
    site.operate(&format!("client create same --reissue same --config {config}"));
    let server = site.serve(&format!("--config {config}"));
    let secret = login_on_same(&server);

    // A new ring, whose key has the same number.
    fs::remove_file(&ring).expect("removed");
    assert_eq!(site.run("keyring init --file ring").code, Some(0));
    let refused = "the settings were read again and refused";
    server.signal(Signal::HUP);
    let log = within(PATIENCE, || Some(server.log()).filter(|log| log.contains(refused)));
    let line = log.lines().rfind(|line| line.contains(refused)).expect("a line");
    assert!(line.contains("another key of its number") && line.contains("key_ring_file"), "{line}");
    assert_eq!(login_on_same(&server), secret, "the ring from before is in force");
    server.stop();

    let serve = format!("serve --listen 127.0.0.1:0 --data-dir data --config {config}");
    let ran = site.run(&serve);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.stderr.contains("another key of its number") && ran.stderr.contains("token revoke"), "{ran:?}");
    let wrong = fs::read(&ring).expect("a ring");
    fs::write(&ring, &right).expect("put back");
    let server = site.serve(&format!("--config {config}"));
    assert_eq!(login_on_same(&server), secret);
    server.stop();

    // The right one is lost: what it sealed is ended, and the other one will do.
    fs::write(&ring, &wrong).expect("written");
    site.operate(&format!("token revoke --client same --all --yes --config {config}"));
    let server = site.serve(&format!("--config {config}"));
    assert_ne!(login_on_same(&server), secret);
    server.stop();
}
