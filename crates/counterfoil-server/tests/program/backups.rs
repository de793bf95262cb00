//! `backup`, `restore`, and how a server goes on from an older state.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;

use crate::exchange::{me, send, token};
use crate::running::{PASSWORD, Site};

/// A site with a backup made beside the running server, and three tokens: live, revoked since, issued since.
struct Story {
    site: Site,
    live: String,
    revoked_since: String,
    issued_since: String,
}

impl Story {
    fn new() -> Story {
        let site = Site::new();
        site.user("ada");
        let server = site.serve("");
        let (live, _) = token(server.address, "ada", PASSWORD);
        let (revoked_since, _) = token(server.address, "ada", PASSWORD);
        site.operate("backup night.backup");
        let bearer = format!("Bearer {revoked_since}");
        assert_eq!(send(server.address, "POST", "/v1/logout", &[("Authorization", &bearer)], "").status, 204);
        let (issued_since, _) = token(server.address, "ada", PASSWORD);
        server.stop();
        Story { site, live, revoked_since, issued_since }
    }

    /// What `GET /v1/me` answers to the three on a server started so.
    fn served(&self, options: &str) -> [u16; 3] {
        let server = self.site.serve(options);
        let answers = [&self.live, &self.revoked_since, &self.issued_since].map(|token| me(server.address, token));
        let (fresh, _) = token(server.address, "ada", PASSWORD);
        assert_eq!(me(server.address, &fresh), 200);
        assert!(options.is_empty() || server.log().contains("a rewind was accepted"), "{}", server.log());
        server.stop();
        answers
    }

    fn refused(&self, line: &str) -> String {
        let ran = self.site.run(&format!("{line} --data-dir data"));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{line}: {}", ran.stderr);
        ran.stderr
    }

    /// Neither a server nor a command that writes or reads touches it.
    fn assert_refused_until_told(&self) {
        for line in ["serve --listen 127.0.0.1:0", "user list", "token revoke --user ada --all --yes", "backup another"]
        {
            let refusal = self.refused(line);
            assert!(refusal.contains("--accept-rewind") && refusal.contains("--revoke-rewound"), "{line}: {refusal}");
        }
    }
}

#[test]
fn a_backup_is_made_beside_the_running_server_and_says_what_is_in_it_and_what_is_not() {
    let site = Site::new();
    site.user("ada");
    let server = site.serve("");
    token(server.address, "ada", PASSWORD);
    let ran = site.operate("backup one.backup");
    assert!(ran.stdout.contains("with the check keys"), "{}", ran.stdout);
    assert!(ran.stdout.contains("not inside  the key ring"), "{}", ran.stdout);
    assert_eq!(ran.stderr, "", "too short to tell about");

    let answer = site.operate("backup two.backup --json").json();
    let metadata = fs::metadata(site.path("two.backup")).expect("there");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let expected = serde_json::json!({
        "file": "two.backup", "bytes": metadata.len(), "tokens": 1, "accounts": 1, "schema": answer["schema"],
        "check_keys_inside": true, "key_ring_inside": false,
    });
    assert_eq!(answer, expected);

    let content = fs::read(site.path("one.backup")).expect("there");
    let ran = site.run("backup one.backup --data-dir data");
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("not overwritten"), "{}", ran.stderr);
    assert!(fs::read(site.path("one.backup")).expect("there") == content);

    let ran = site.run("backup three.backup --data-dir typo");
    assert!(ran.code == Some(1) && ran.stderr.contains("no database"), "{}", ran.stderr);
    assert!(!site.path("typo").exists() && !site.path("three.backup").exists());
    server.stop();
}

#[test]
fn f10_a_restored_backup_is_refused_until_the_operator_says_how_to_go_on() {
    for (said, answers) in [("--accept-rewind", [200, 200, 401]), ("--revoke-rewound", [401, 401, 401])] {
        let story = Story::new();
        let ran = story.site.operate("restore night.backup --replace --yes");
        assert!(ran.stdout.contains("nothing serves from it yet"), "{}", ran.stdout);
        story.assert_refused_until_told();
        assert_eq!(story.served(said), answers, "{said}");
        assert_eq!(story.served(""), answers, "{said}: once is enough");
    }
}

#[test]
fn f10_a_restore_that_revokes_all_serves_at_once() {
    let story = Story::new();
    let answer = story.site.operate("restore night.backup --replace --revoke-all --yes --json").json();
    assert_eq!((&answer["tokens"], &answer["serves"]), (&2.into(), &true.into()), "{answer}");
    assert_eq!(answer["replaced"], "data/replaced-1");
    assert_eq!(story.served(""), [401, 401, 401]);
}

#[test]
fn f10_a_machine_that_has_never_seen_the_database_refuses_its_backup_as_well() {
    let story = Story::new();
    fs::remove_dir_all(story.site.path("data")).expect("removed");
    story.site.operate("restore night.backup --yes");
    story.assert_refused_until_told();

    // Nor does it help to put the file in place by hand.
    fs::remove_dir_all(story.site.path("data")).expect("removed");
    fs::create_dir(story.site.path("data")).expect("made");
    fs::copy(story.site.path("night.backup"), story.site.path("data/counterfoil.db")).expect("a copy");
    story.assert_refused_until_told();
    assert_eq!(story.served("--revoke-rewound"), [401, 401, 401]);
}

#[test]
fn f10_an_older_file_swapped_in_by_hand_is_refused_until_the_operator_says_how_to_go_on() {
    for (said, answers) in [("--accept-rewind", [200, 200, 401]), ("--revoke-rewound", [401, 401, 401])] {
        let site = Site::new();
        site.user("ada");
        let server = site.serve("");
        let (live, _) = token(server.address, "ada", PASSWORD);
        let (revoked_since, _) = token(server.address, "ada", PASSWORD);
        server.stop();
        fs::copy(site.path("data/counterfoil.db"), site.path("older.db")).expect("a copy");
        let server = site.serve("");
        let bearer = format!("Bearer {revoked_since}");
        assert_eq!(send(server.address, "POST", "/v1/logout", &[("Authorization", &bearer)], "").status, 204);
        let (issued_since, _) = token(server.address, "ada", PASSWORD);
        server.stop();
        fs::copy(site.path("older.db"), site.path("data/counterfoil.db")).expect("a copy");
        let story = Story { site, live, revoked_since, issued_since };
        story.assert_refused_until_told();
        assert_eq!(story.served(said), answers, "{said}");
        assert_eq!(story.served(""), answers, "{said}: once is enough");
    }
}

#[test]
fn a_restore_asks_first_and_refuses_what_would_hurt() {
    let story = Story::new();
    let site = &story.site;
    let ran = site.run("restore night.backup --data-dir data --replace --revoke-all");
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("ends every token in it; nothing was done"), "{}", ran.stderr);
    let refusal = story.refused("restore night.backup --yes");
    assert!(refusal.contains("is there already") && refusal.contains("--replace"), "{refusal}");
    let refusal = story.refused("restore password.txt --replace --yes");
    assert!(refusal.contains("is not a backup of counterfoil"), "{refusal}");
    let refusal = story.refused("restore missing --replace --yes");
    assert!(refusal.contains("cannot be read"), "{refusal}");

    let mut server = site.serve("");
    let refusal = story.refused("restore night.backup --replace --yes");
    assert!(refusal.contains("a server is running"), "{refusal}");
    assert_eq!(me(server.address, &story.live), 200, "it goes on");
    server.signal(Signal::KILL);
    server.wait();
    // What a killed server has left is kept whole.
    site.operate("restore night.backup --replace --revoke-all --yes");
    assert_eq!(story.served(""), [401, 401, 401]);
    fs::rename(site.path("data"), site.path("later")).expect("renamed");
    fs::rename(site.path("later/replaced-1"), site.path("data")).expect("renamed");
    let aside = site.serve("");
    assert_eq!(
        [&story.live, &story.revoked_since, &story.issued_since].map(|token| me(aside.address, token)),
        [200, 401, 200]
    );
    aside.stop();
}
