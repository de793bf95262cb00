//! Commands beside a server or alone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::exchange::{login, me, token};
use crate::running::{PASSWORD, PROGRAM, Ran, Site, within};

#[test]
fn the_examples_of_the_manual_work_as_written() {
    let site = Site::new();
    let lines = [
        "counterfoil --data-dir ./data user create ada --email ada@example.org --password-stdin < password.txt",
        "counterfoil --data-dir ./data user create root --admin --password-stdin < password.txt",
        "counterfoil --data-dir ./data client create web --ttl 30d --throttle 100/h --cap 5 --at-cap evict-oldest",
        "counterfoil --data-dir ./data token issue --user ada --client web --name laptop --json",
        "counterfoil --data-dir ./data token revoke --user ada --all --yes",
    ];
    let programs = Path::new(PROGRAM).parent().expect("a directory").to_str().expect("UTF-8");
    let mut answers = Vec::new();
    for line in lines {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", line])
            .current_dir(site.path(""))
            .env_clear()
            .env("PATH", format!("{programs}:/usr/bin:/bin"));
        let ran = Ran::of(shell.output().expect("a shell"), line);
        assert_eq!(ran.code, Some(0), "{line}: {}", ran.stderr);
        answers.push(ran);
    }
    let issued = answers[3].json();
    for (key, value) in [("client", "web"), ("name", "laptop"), ("kind", "login")] {
        assert_eq!(issued[key], value);
    }
    assert!(issued["token"].as_str().is_some_and(|text| text.starts_with("cf_") && text.len() == 52), "{issued}");
    assert_eq!(issued["user"]["username"], "ada");
    assert_eq!(site.operate("token list --user ada --json").json(), serde_json::json!([]));
    let web = site.operate("client show web --json").json();
    assert_eq!(web["policy"]["cap"], serde_json::json!({ "limit": 5, "at_cap": "evict_oldest" }));
    assert_eq!(web["policy"]["throttle"], "100/h");
}

#[test]
fn a_command_finds_what_another_one_wrote_and_says_what_it_does_not_find() {
    let site = Site::new();
    let ran = site.run("user list --data-dir data");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.starts_with("error: there is no database") && ran.stderr.contains("\nhint: "), "{ran:?}");
    assert!(!site.path("data").exists(), "a list begins no deployment");

    site.user("ada");
    assert_eq!(site.operate("user show ada --json").json()["username"], "ada");
    let store = format!("--store sqlite://{}", site.path("data").display());
    assert_eq!(site.run(&format!("{store} user show ada --json")).json()["admin"], false);
    for (line, reason) in [
        ("user show eve", "there is no user eve"),
        ("token issue --user eve", "there is no user eve"),
        ("token issue --user ada --client nowhere", "no client of this name"),
        ("token show 01a1f8d7-1fa9-76b9-a737-540762767f91", "there is no token 01a1f8d7"),
        ("client delete default --yes", "the default client cannot be deleted"),
        ("token issue --user ada --expires-at 2020-01-01T00:00:00Z", "expires_at: must lie in the future"),
    ] {
        let ran = site.run(&format!("{line} --data-dir data"));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{line}: {ran:?}");
        assert!(ran.stderr.contains(reason), "{line}: {}", ran.stderr);
    }
    for (store, reason) in [
        ("mysql://localhost/x", "no store that this version can open"),
        ("postgres://app:hunter2@localhost/x", "can read the arguments of a program"),
    ] {
        let ran = site.run(&format!("--store {store} user list"));
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.stderr.contains(reason) && !ran.stderr.contains("hunter2"), "{ran:?}");
    }
}

#[test]
fn a18_lifetimes_of_nothing_and_of_for_ever_are_refused() {
    let site = Site::new();
    site.user("ada");
    for ttl in ["0s", "-1s", "9223372036854775807s", "1000000000000000000s", "30", "1y"] {
        for line in [format!("token issue --user ada --ttl={ttl}"), format!("client create x --ttl={ttl}")] {
            let ran = site.run(&format!("{line} --data-dir data"));
            assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{line}");
            assert!(ran.stderr.contains("expected a time from 1s to 36500d"), "{line}: {}", ran.stderr);
        }
    }
    let forever = site.operate("token issue --user ada --never-expires --json").json();
    assert_eq!(forever["expires_at"], serde_json::Value::Null);
}

#[test]
fn destructive_commands_do_nothing_without_yes() {
    let site = Site::new();
    site.user("ada");
    site.operate("client create web");
    let key = site.operate("key create --user ada --name backup --json").json();
    let key = key["id"].as_str().expect("an id");
    site.operate("token issue --user ada --client web");
    let before = site.operate("token list --json").stdout;
    for line in [
        "user delete ada",
        "client delete web",
        "token revoke --user ada --all",
        "token revoke --user ada --all --keys",
        "token revoke --client web --all",
        "token revoke --everybody",
        &format!("key revoke {key}"),
    ] {
        let ran = site.run(&format!("{line} --data-dir data"));
        assert_eq!(ran.code, Some(2), "{line}: {ran:?}");
        assert!(ran.stderr.contains("hint: add --yes"), "{line}: {}", ran.stderr);
        assert_eq!(site.operate("token list --json").stdout, before, "{line}");
    }
    // And with it only what was named.
    site.operate("token revoke --user ada --all --yes");
    let left = site.operate("token list --json").json();
    assert_eq!(left.as_array().map(Vec::len), Some(1));
    assert_eq!(left[0]["kind"], "key");
    site.operate("token revoke --user ada --all --keys --yes");
    assert_eq!(site.operate("key list --user ada --json").json(), serde_json::json!([]));
    assert_eq!(site.operate("token list --all --json").json()[0]["state"], "revoked");
}

#[test]
fn a_password_is_taken_byte_for_byte_but_for_one_line_break() {
    let site = Site::new();
    let ran = site.run_with("user create ada --password-stdin --data-dir data", " spaced out \r\n\n");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let server = site.serve("");
    assert_eq!(login(server.address, "ada", " spaced out \r\n").status, 200);
    assert_eq!(login(server.address, "ada", " spaced out ").status, 401);
    let set = site.run_with("user set-password ada --password-stdin --data-dir data", "p\u{e4}ss\0word\r\n");
    assert_eq!(set.code, Some(0), "{set:?}");
    assert_eq!(login(server.address, "ada", "p\u{e4}ss\0word").status, 200);

    for (stdin, reason) in [("", "the password is empty"), ("\n", "the password is empty")] {
        let ran = site.run_with("user create eve --password-stdin --data-dir data", stdin);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.contains(reason), "{ran:?}");
    }
    let ran = site.run_with("user create eve --password-stdin --data-dir data", "x".repeat(4097));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("longer than 4096 bytes"), "{ran:?}");
    // Nothing to ask on, and no such thing as a password among the arguments.
    for line in ["user create eve --data-dir data", "user create eve --password x --data-dir data"] {
        assert_eq!(site.run(line).code, Some(2), "{line}");
    }
}

#[test]
fn a_password_of_fewer_than_eight_characters_is_refused_with_the_reason() {
    let site = Site::new();
    site.user("ada");
    for short in ["seven77\n", "pä\u{df}wört", "🔑🔑🔑🔑🔑🔑🔑", "x"] {
        for line in ["user create eve", "user set-password ada"] {
            let ran = site.run_with(&format!("{line} --password-stdin --data-dir data"), short);
            assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{short:?}: {ran:?}");
            assert!(ran.stderr.contains("fewer than 8 characters"), "{ran:?}");
            assert!(!ran.stderr.contains(short.trim_end()) || short == "x", "{ran:?}");
        }
    }
    assert_eq!(site.run("user show eve --data-dir data").code, Some(1));
    let ran = site.run_with("user create eve --password-stdin --data-dir data", "eight888\n");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    let server = site.serve("");
    assert_eq!(login(server.address, "eve", "eight888").status, 200);
    assert_eq!(login(server.address, "ada", PASSWORD).status, 200, "the old one is kept");
}

#[test]
fn a_password_that_is_not_utf_8_is_set_with_a_warning() {
    let site = Site::new();
    let latin_1 = b"p\xe4ssw\xf6rter\n";
    for line in ["user create ada --json", "user set-password ada --json"] {
        let ran = site.run_with(&format!("{line} --password-stdin --data-dir data"), latin_1);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.stderr.starts_with("warning: the password is not valid UTF-8"), "{ran:?}");
        assert_eq!(ran.json()["username"], "ada");
    }
    // Where it was not set there is nothing to warn of.
    let ran = site.run_with("user create ada --password-stdin --data-dir data", latin_1);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(!ran.stderr.contains("UTF-8"), "{ran:?}");
}

#[test]
fn with_json_a_failure_is_one_line_of_json_on_stderr() {
    let site = Site::new();
    site.user("ada");
    for (line, code, error, hint) in [
        ("user show eve --json --data-dir data", 1, "there is no user eve", "`counterfoil user list`"),
        ("--json user create ada --password-file password.txt --data-dir data", 1, "taken", "user show"),
        ("user list --json --data-dir nowhere", 1, "there is no database", "--data-dir"),
        ("user delete ada --json --data-dir data", 2, "nothing was done", "add --yes"),
        ("config check --json --config absent.toml", 2, "cannot read absent.toml", "--config FILE"),
        ("serve --json --listen everywhere", 2, "expected an address and a port", "config defaults"),
        ("--json user lst", 2, "unrecognized subcommand 'lst'", "Usage: "),
        ("client create x --ttl 0s --json", 2, "expected a time from 1s", "--help"),
        ("user create --json", 2, "required arguments were not provided: <NAME>", "Usage: "),
        ("--json user", 2, "the command is not complete", "--help"),
    ] {
        let ran = site.run(line);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{line}: {ran:?}");
        assert_eq!(ran.stderr.matches('\n').count(), 1, "{line}: {ran:?}");
        let failure: serde_json::Value = serde_json::from_str(&ran.stderr).expect(line);
        assert_eq!(failure.as_object().map(serde_json::Map::len), Some(2), "{line}: {failure}");
        for (key, part) in [("error", error), ("hint", hint)] {
            assert!(failure[key].as_str().is_some_and(|text| text.contains(part)), "{line}: {failure}");
        }
    }
    let ran = site.run_with("user create eve --password-stdin --json --data-dir data", "");
    let failure: serde_json::Value = serde_json::from_str(&ran.stderr).expect("JSON");
    assert_eq!(failure, serde_json::json!({ "error": "the password is empty", "hint": null }));
    // Without it, and where it is not the option, failures are for people.
    for line in ["user show eve --data-dir data", "user lst", "user lst -- --json"] {
        assert!(site.run(line).stderr.starts_with("error: "), "{line}");
    }
}

#[test]
fn a_role_a_name_and_a_policy_can_be_changed() {
    let site = Site::new();
    site.user("ada");
    site.operate("user set-role ada staff");
    assert_eq!(site.operate("user show ada --json").json()["staff"], true);
    site.operate("client create web --cap 2");
    site.operate("client update web --rename browser --ttl 1h --no-login");
    let client = site.operate("client show browser --json").json();
    assert_eq!((&client["allow_login"], &client["policy"]["ttl"]), (&false.into(), &"1h".into()));
    assert_eq!(client["policy"]["cap"]["limit"], 2);
    let issued = site.operate("token issue --user ada --client browser --json").json();
    let id = issued["id"].as_str().expect("an id");
    site.operate(&format!("token rename {id} desk"));
    assert_eq!(site.operate(&format!("token show {id} --json")).json()["name"], "desk");
    site.operate(&format!("token revoke {id}"));
    let ran = site.run(&format!("token rename {id} --data-dir data"));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    site.operate("client delete browser --yes");
    assert_eq!(site.operate("token list --all --json").json(), serde_json::json!([]));
}

#[test]
fn an_operator_may_grant_what_is_reserved() {
    let site = Site::new();
    site.user("ada");
    let mut command = site.command("key create --user ada --name gate --json --data-dir data");
    let ran =
        Ran::of(command.args(["--abilities", "tokens:introspect files:read"]).output().expect("runs"), "key create");
    assert_eq!(ran.json()["abilities"], serde_json::json!(["files:read", "tokens:introspect"]));
    assert_eq!(ran.json()["expires_at"], serde_json::Value::Null);
    let mut command = site.command("key create --user ada --name gate --data-dir data");
    let ran = Ran::of(command.args(["--abilities", "everything"]).output().expect("runs"), "key create");
    assert_eq!(ran.code, Some(2), "{ran:?}");
}

#[test]
fn a79_a_hostile_name_is_text_in_a_table() {
    let site = Site::new();
    let names = ["\u{202e}gpj", "<svg/onload=x>", "a\u{300}\u{300}", "\u{200b}"];
    for name in names {
        let mut command = site.command("user create --password-file password.txt --data-dir data");
        let ran = Ran::of(command.arg(name).output().expect("runs"), name);
        assert!(ran.code == Some(0) || ran.code == Some(2), "{name:?}: {ran:?}");
        assert!(!ran.stdout.contains('\u{202e}') && !ran.stderr.contains('\u{202e}'), "{ran:?}");
    }
    let listed = site.operate("user list").stdout;
    assert!(listed.contains("\\u{202e}gpj") && listed.contains("<svg/onload=x>"), "{listed}");
    assert!(!listed.contains('\u{202e}') && !listed.contains('\u{200b}'), "{listed}");
    let mut command = site.command("user create --password-file password.txt --data-dir data");
    let ran = Ran::of(command.arg("a\u{1b}[2Jb").output().expect("runs"), "control characters");
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(!ran.stderr.contains("\u{1b}[2J"), "{ran:?}");
}

#[test]
fn a_key_ring_is_private_and_never_overwritten() {
    let site = Site::new();
    site.user("ada");
    let ran = site.run("client create same --reissue same --data-dir data");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("keyring init"), "{ran:?}");

    assert_eq!(site.run("keyring init --file ring").code, Some(0));
    let mode = || fs::metadata(site.path("ring")).expect("a ring").permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    let ring = fs::read_to_string(site.path("ring")).expect("a ring");
    let again = site.run("keyring init --file ring");
    assert_eq!(again.code, Some(1), "{again:?}");
    assert_eq!(fs::read_to_string(site.path("ring")).expect("a ring"), ring);

    let config = site.write("counterfoil.toml", "key_ring_file = \"ring\"\n");
    site.operate(&format!("client create same --reissue same --config {config}"));
    let issue = format!("token issue --user ada --client same --json --config {config}");
    let (first, second) = (site.operate(&issue).json(), site.operate(&issue).json());
    assert_eq!(first["token"], second["token"]);
    let text = first["token"].as_str().expect("a token");
    let server = site.serve(&format!("--config {config}"));
    assert_eq!(me(server.address, text), 200);
    server.stop();

    // Without its ring the deployment does not open; with one that others can read neither.
    let ran = site.run("serve --listen 127.0.0.1:0 --data-dir data");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    fs::set_permissions(site.path("ring"), fs::Permissions::from_mode(0o644)).expect("chmod");
    let ran = site.run(&format!("user list --data-dir data --config {config}"));
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("chmod 0600"), "{ran:?}");
}

#[test]
fn f11_a_token_revoked_by_a_command_is_refused_by_the_running_server_within_a_second() {
    let site = Site::new();
    site.user("ada");
    let server = site.serve("");
    let (kept, _) = token(server.address, "ada", PASSWORD);
    let (lost, id) = token(server.address, "ada", PASSWORD);
    assert_eq!((me(server.address, &kept), me(server.address, &lost)), (200, 200));
    site.operate(&format!("token revoke {id}"));
    let refused = |text: &str| Some(()).filter(|()| me(server.address, text) == 401);
    within(Duration::from_millis(1_000), || refused(&lost));
    assert_eq!(me(server.address, &kept), 200);
    site.operate("token revoke --everybody --yes");
    within(Duration::from_millis(1_000), || refused(&kept));
}

#[test]
fn a09_a_command_that_waited_for_everywhere_leaves_no_node_that_still_says_yes() {
    let site = Site::new();
    site.user("ada");
    let server = site.serve("");
    let (text, id) = token(server.address, "ada", PASSWORD);
    assert_eq!(me(server.address, &text), 200);
    site.operate(&format!("token revoke {id} --wait everywhere"));
    assert_eq!(me(server.address, &text), 401, "at once");
}

#[test]
fn a05_tokens_of_a_disabled_or_deleted_user_are_refused() {
    let site = Site::new();
    site.user("ada");
    let server = site.serve("");
    let (text, _) = token(server.address, "ada", PASSWORD);
    site.operate("user disable ada");
    assert_eq!((me(server.address, &text), login(server.address, "ada", PASSWORD).status), (401, 401));
    site.operate("user enable ada");
    assert_eq!((me(server.address, &text), login(server.address, "ada", PASSWORD).status), (200, 200));
    site.operate("user delete ada --yes");
    assert_eq!(login(server.address, "ada", PASSWORD).status, 401);
    within(Duration::from_millis(1_000), || Some(()).filter(|()| me(server.address, &text) == 401));
    // Whoever gets the name next inherits nothing.
    site.user("ada");
    assert_eq!((me(server.address, &text), login(server.address, "ada", PASSWORD).status), (401, 200));
}

#[test]
fn completions_and_the_description_come_without_a_deployment() {
    let site = Site::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = site.run(&format!("completions {shell}"));
        assert_eq!(ran.code, Some(0), "{shell}");
        assert!(ran.stdout.contains("set-password"), "{shell}");
    }
    let described = site.run("openapi").json();
    assert!(described["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{described}");
    assert!(described["paths"]["/v1/login"]["post"].is_object());
    assert!(site.run("--version").stdout.starts_with("counterfoil "));
    assert_eq!(site.run("").code, Some(2));
}
