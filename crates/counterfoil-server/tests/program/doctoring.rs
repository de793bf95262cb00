//! `doctor`: what it finds, and how it says so.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;
use serde_json::Value;

use crate::running::{Ran, Site};

/// What the doctor says of a site, and with which status.
fn examine(site: &Site, more: &str) -> (Option<i32>, Vec<(String, String, String)>) {
    let ran = site.run(&format!("doctor --json --data-dir data {more}"));
    let report = ran.json();
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let finding = |finding: &Value| {
        let said = format!("{} ({})", text(finding, "what"), text(finding, "advice"));
        (text(finding, "verdict"), text(finding, "check"), said)
    };
    let findings = report["findings"].as_array().expect("findings").iter().map(finding).collect();
    let worst = report["verdict"].as_str().expect("a verdict");
    assert_eq!(ran.code, Some(i32::from(worst == "fault")), "{worst}: {}", ran.stderr);
    (ran.code, findings)
}

/// Fails unless something was found of this verdict and check that says this.
pub(crate) fn found(site: &Site, more: &str, verdict: &str, check: &str, what: &str) {
    let (code, findings) = examine(site, more);
    let is = |(v, c, said): &(String, String, String)| v == verdict && c == check && said.contains(what);
    assert!(findings.iter().any(is), "{verdict} {check}: {what} in {findings:#?}");
    if verdict == "fault" {
        assert_eq!(code, Some(1));
    }
}

#[test]
fn a_deployment_that_is_well_has_no_fault_and_each_check_one_line() {
    let site = Site::new();
    site.user("ada");
    found(&site, "", "warning", "administrator", "user create root --admin");
    site.operate("user set-role ada admin");
    let (code, findings) = examine(&site, "");
    assert_eq!(code, Some(0));
    for check in
        ["settings", "data directory", "files", "disk", "clock", "database", "administrator", "audit log", "server"]
    {
        let of_it: Vec<_> = findings.iter().filter(|finding| finding.1 == check).collect();
        // How full this machine is, is its own affair.
        assert!(
            !of_it.is_empty() && (check == "disk" || of_it.iter().all(|finding| finding.0 == "ok")),
            "{findings:#?}"
        );
    }
    assert!(findings.iter().all(|finding| finding.1 != "last stop"), "no server has run yet: {findings:#?}");
    let Ran { code, stdout, stderr } = site.run("doctor --data-dir data");
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert_eq!(stdout.lines().count(), findings.len(), "{stdout}");
    assert!(stdout.lines().any(|line| line.starts_with("ok       administrator   there is one")), "{stdout}");
}

#[test]
fn files_that_others_may_read_are_faults_and_so_is_a_directory_that_is_not_there() {
    let site = Site::new();
    found(&site, "", "fault", "data directory", "--data-dir DIR");
    assert!(!site.path("data").exists(), "looking makes nothing");
    site.user("ada");
    let mode =
        |name: &str, mode| fs::set_permissions(site.path(name), fs::Permissions::from_mode(mode)).expect("chmod");
    mode("data", 0o755);
    found(&site, "", "warning", "data directory", "chmod 0700 data");
    mode("data", 0o700);
    mode("data/counterfoil.db", 0o644);
    found(&site, "", "fault", "files", "chmod 0600 data/counterfoil.db");
    mode("data/counterfoil.db", 0o600);
    let (code, _) = examine(&site, "");
    assert_eq!(code, Some(0));
}

#[test]
fn a_database_that_would_not_be_served_is_a_fault() {
    let site = Site::new();
    site.user("ada");
    site.operate("backup night.backup");
    site.operate("restore night.backup --replace --yes");
    found(&site, "", "fault", "database", "--revoke-rewound");
    site.operate("restore night.backup --replace --revoke-all --yes");
    found(&site, "", "ok", "database", "every page");
    fs::write(site.path("data/counterfoil.db"), "not a database, but a text that is long enough to be looked at")
        .expect("written");
    found(&site, "", "fault", "database", "not a database of counterfoil");
    fs::write(site.path("data/counterfoil.db"), "").expect("written");
    found(&site, "", "fault", "database", "is empty");
    fs::remove_file(site.path("data/counterfoil.db")).expect("removed");
    found(&site, "", "fault", "database", "there is no database");
}

#[test]
fn a_page_that_was_overwritten_is_found() {
    let site = Site::new();
    site.user("ada");
    // Into the file itself.
    site.serve("").stop();
    let path = site.path("data/counterfoil.db");
    let mut bytes = fs::read(&path).expect("a database");
    let page = 4096 * 3;
    bytes[page..page + 64].fill(0xff);
    fs::write(&path, bytes).expect("written");
    found(&site, "", "fault", "database", "damaged");
}

#[test]
fn a_server_that_runs_is_asked_and_one_that_was_killed_is_told_of() {
    let site = Site::new();
    site.user("ada");
    let mut server = site.serve("");
    let listening = format!("listen = \"{}\"\n", server.address);
    let config = site.write("counterfoil.toml", &listening);
    found(&site, &format!("--config {config}"), "ok", "server", "one is running and ready at");
    let elsewhere = site.write("elsewhere.toml", "listen = \"127.0.0.1:1\"\n");
    found(&site, &format!("--config {elsewhere}"), "warning", "server", "does not answer");
    let anywhere = site.write("anywhere.toml", "listen = \"127.0.0.1:0\"\n");
    found(&site, &format!("--config {anywhere}"), "ok", "server", "cannot be told");
    server.signal(Signal::KILL);
    server.wait();
    found(&site, "", "warning", "last stop", "killed");
    found(&site, "", "ok", "server", "none is running");
    site.serve("").stop();
    let (_, findings) = examine(&site, "");
    assert!(findings.iter().all(|finding| finding.1 != "last stop"), "{findings:#?}");
}

#[test]
fn a85_settings_that_are_sound_and_unwise_are_warnings_and_unsound_ones_faults() {
    let site = Site::new();
    site.user("ada");
    for (content, what) in [
        ("listen = \"0.0.0.0:8080\"\n", "listen = 0.0.0.0:8080"),
        ("listen = \"[2001:db8::1]:8080\"\n", "in the clear"),
        ("trusted_proxies = [\"10.0.0.0/8\"]\n", "trusted_proxies: 10.0.0.0/8"),
        ("[log]\nlevel = \"warn\"\n", "log.level = warn"),
        ("[hashing]\nmemory = 12288\niterations = 3\n", "hashed more cheaply"),
        ("[metrics]\nlisten = \"0.0.0.0:9464\"\n", "metrics.listen = 0.0.0.0:9464"),
        ("[http]\nuser_fields = [\"id\", \"admin\"]\n", "http.user_fields: admin"),
    ] {
        let config = site.write("counterfoil.toml", content);
        found(&site, &format!("--config {config}"), "warning", "settings", what);
    }
    for (content, what) in
        [("realm = 1\n", "no setting realm"), ("trusted_proxies = [\"0.0.0.0/0\"]\n", "trusting every proxy")]
    {
        let config = site.write("counterfoil.toml", content);
        found(&site, &format!("--config {config}"), "fault", "settings", what);
    }
}

#[test]
fn a_ring_that_is_missing_open_to_others_or_lacks_a_key_is_told_of() {
    let site = Site::new();
    site.user("ada");
    assert_eq!(site.run("keyring init --file ring").code, Some(0));
    let config = site.write("counterfoil.toml", "key_ring_file = \"ring\"\n");
    let ringed = format!("--config {config}");
    site.operate(&format!("client create same --reissue same {ringed}"));
    site.operate(&format!("token issue --user ada --client same {ringed}"));
    found(&site, &ringed, "ok", "key ring", "key 1 seals");
    found(&site, "", "fault", "database", "key_ring_file");
    fs::copy(site.path("ring"), site.path("old")).expect("a copy");
    assert_eq!(site.run("keyring rotate --file ring").code, Some(0));
    found(&site, &ringed, "warning", "key ring", "1 secrets are sealed with an older key");
    site.operate(&format!("keyring reseal {ringed}"));
    let old = site.write("old.toml", "key_ring_file = \"old\"\n");
    found(&site, &format!("--config {old}"), "fault", "key ring", "sealed with key 2");
    fs::copy(site.path("ring"), site.path("data/ring")).expect("a copy");
    let inside = site.write("inside.toml", "key_ring_file = \"data/ring\"\n");
    found(&site, &format!("--config {inside}"), "warning", "key ring", "is in the data directory");
    fs::set_permissions(site.path("ring"), fs::Permissions::from_mode(0o640)).expect("chmod");
    found(&site, &ringed, "fault", "key ring", "chmod 0600");
}
