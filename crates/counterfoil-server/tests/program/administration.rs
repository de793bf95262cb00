//! Users and tokens, looked after from the command line.

use std::time::Duration;

use serde_json::{Value, json};

use crate::exchange::{login, me, token};
use crate::running::{PASSWORD, Ran, Site, within};

fn names(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|user| user["username"].as_str().expect("a name")).collect()
}

/// Without the words' spaces being taken for ends of words.
fn operate(site: &Site, words: &[&str]) -> Ran {
    let ran = Ran::of(site.command("--data-dir data").args(words).output().expect("the program runs"), words[0]);
    assert_eq!(ran.code, Some(0), "{words:?}: {}", ran.stderr);
    ran
}

#[test]
fn users_are_listed_by_name_address_role_and_whether_they_may_log_in() {
    let site = Site::new();
    site.operate("user create ada --email ada@example.org --no-password");
    site.operate("user create Adele --staff --no-password");
    site.operate("user create root --admin --email root@example.org --no-password");
    site.operate("user disable ada");
    for (filter, expected) in [
        ("", &["ada", "Adele", "root"][..]),
        ("--name AD", &["ada", "Adele"]),
        ("--name ade", &["Adele"]),
        ("--name x", &[]),
        ("--email ROOT@example.org", &["root"]),
        ("--role staff", &["Adele"]),
        ("--role admin --name r", &["root"]),
        ("--disabled", &["ada"]),
        ("--active --name ad", &["Adele"]),
    ] {
        assert_eq!(names(&site.operate(&format!("user list --json {filter}")).json()), expected, "{filter}");
    }
    let table = site.operate("user list --disabled").stdout;
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(table.lines().nth(1).is_some_and(|line| line.starts_with("ada") && line.contains("disabled")), "{table}");
    let ran = site.run("user list --active --disabled --data-dir data");
    assert_eq!(ran.code, Some(2), "{ran:?}");
}

#[test]
fn what_is_known_of_a_user_is_changed_piece_by_piece() {
    let site = Site::new();
    site.user("ada");
    let facts = r#"{"plan": "gold"}"#;
    operate(
        &site,
        &["user", "update", "ada", "--email", "ada@example.org", "--first-name", "Ada", "--locale", "de-CH"],
    );
    operate(&site, &["user", "update", "ada", "--attributes", facts, "--last-name", "Lovelace", "--lock-rotation"]);
    let shown = site.operate("user show ada --json").json();
    for (key, value) in [
        ("email", json!("ada@example.org")),
        ("email_confirmed", json!(false)),
        ("first_name", json!("Ada")),
        ("last_name", json!("Lovelace")),
        ("locale", json!("de-CH")),
        ("attributes", json!({ "plan": "gold" })),
        ("rotation_locked", json!(true)),
        ("role", json!("user")),
    ] {
        assert_eq!(shown[key], value, "{key}");
    }
    // The address logs nobody in before somebody vouches for it.
    assert_eq!(site.run("user show ada@example.org --data-dir data").code, Some(1));
    site.operate("user update ada --email-confirmed --unlock-rotation --locale none");
    let shown = site.operate("user show ada@example.org --json").json();
    assert_eq!((&shown["email_confirmed"], &shown["rotation_locked"]), (&json!(true), &json!(false)));
    assert_eq!((&shown["locale"], &shown["first_name"]), (&Value::Null, &json!("Ada")));
    site.operate("user update ada --no-email");
    assert_eq!(site.operate("user show ada --json").json()["email"], Value::Null);
    let human = site.operate("user show ada").stdout;
    assert!(human.contains("failed logins  none") && human.contains("rotation       allowed"), "{human}");

    for (line, reason) in [
        ("user update ada", "required"),
        ("user update ada --email-confirmed", "no address to confirm"),
        ("user update ada --attributes []", "expected a JSON object"),
        ("user update ada --locale d_e", "expected the tag of a language"),
        ("user update ada --email ada@example.org --no-email", "cannot be used with"),
    ] {
        let ran = site.run(&format!("{line} --data-dir data"));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{line}: {ran:?}");
        assert!(ran.stderr.contains(reason), "{line}: {}", ran.stderr);
    }
}

#[test]
fn a_user_without_a_password_logs_in_once_they_have_one() {
    let site = Site::new();
    site.operate("user create bot --no-password");
    let server = site.serve("");
    assert_eq!(login(server.address, "bot", "").status, 401);
    assert_eq!(login(server.address, "bot", PASSWORD).status, 401);
    let issued = site.operate("token issue --user bot --json").json();
    assert_eq!(me(server.address, issued["token"].as_str().expect("a token")), 200);
    site.operate("user set-password bot --password-file password.txt");
    assert_eq!(login(server.address, "bot", PASSWORD).status, 200);
    let ran = site.run("user create eve --no-password --password-file password.txt --data-dir data");
    assert_eq!(ran.code, Some(2), "{ran:?}");
}

#[test]
fn r14_failed_logins_are_shown_and_forgotten_by_the_operator() {
    let site = Site::new();
    site.user("ada");
    let server = site.serve("");
    for _ in 0..5 {
        assert_eq!(login(server.address, "ada", "wrong").status, 401);
    }
    let shown = site.operate("user show ada --json").json();
    assert_eq!((&shown["failed_logins"]["failed"], &shown["failed_logins"]["locked"]), (&json!(5), &json!(false)));
    assert!(shown["failed_logins"]["last"].is_string(), "{shown}");
    assert!(site.operate("user show ada").stdout.contains("failed logins  5, last 2"));
    site.operate("user unlock ada");
    let shown = site.operate("user show ada --json").json();
    assert_eq!((&shown["failed_logins"]["failed"], &shown["failed_logins"]["last"]), (&json!(0), &Value::Null));
    assert_eq!(login(server.address, "ada", PASSWORD).status, 200, "without a wait");
    assert_eq!(site.run("user unlock eve --data-dir data").code, Some(1));
}

#[test]
fn all_that_is_kept_about_a_user_is_exported_and_no_secret_with_it() {
    let site = Site::new();
    site.user("ada");
    site.user("eve");
    operate(&site, &["user", "update", "ada", "--attributes", r#"{"plan": "gold"}"#]);
    let server = site.serve("");
    let (text, id) = token(server.address, "ada", PASSWORD);
    token(server.address, "eve", PASSWORD);
    assert_eq!(login(server.address, "ada", "wrong").status, 401);
    site.operate(&format!("token revoke {id}"));
    // What the server noted is written within half a second.
    let exported = within(Duration::from_secs(30), || {
        let exported = site.operate("user export ada").json();
        let has =
            |event: &str| exported["audit"].as_array().expect("entries").iter().any(|entry| entry["event"] == event);
        (has("login_failed") && has("logged_in")).then_some(exported)
    });
    assert_eq!(
        (&exported["user"]["username"], &exported["user"]["attributes"]),
        (&json!("ada"), &json!({ "plan": "gold" }))
    );
    assert_eq!(exported["user"]["failed_logins"]["failed"], 1);
    let tokens = exported["tokens"].as_array().expect("tokens");
    assert_eq!((tokens.len(), &tokens[0]["id"], &tokens[0]["state"]), (1, &json!(id), &json!("revoked")));
    assert_eq!(tokens[0]["first_seen"]["ip"], "127.0.0.1");
    let subject = &exported["user"]["id"];
    let about = |entry: &Value| entry["subject"] == *subject && entry["subject_name"] == "ada";
    assert!(exported["audit"].as_array().expect("entries").iter().all(about), "{exported}");
    let printed = exported.to_string();
    for secret in [text.as_str(), PASSWORD, "$argon2"] {
        assert!(!printed.contains(secret), "{secret}");
    }
    assert_eq!(site.operate("audit list --event account_exported --json").json()[0]["actor"], "operator");
    // One line or two, it is the same JSON with and without --json.
    assert_eq!(site.operate("user export eve --json").json()["user"]["username"], "eve");
}

#[test]
fn tokens_are_listed_by_what_they_have_in_common() {
    let site = Site::new();
    site.user("ada");
    site.user("eve");
    site.operate("client create web");
    let server = site.serve("");
    let (_, from_here) = token(server.address, "ada", PASSWORD);
    let issue = |line: &str| site.operate(&format!("{line} --json")).json()["id"].as_str().expect("an id").to_owned();
    let on_web = issue("token issue --user ada --client web");
    let key = issue("key create --user ada --name ci");
    let of_eve = issue("token issue --user eve");
    let list = |filter: &str| -> Vec<String> {
        let listed = site.operate(&format!("token list --json {filter}")).json();
        let ids = listed.as_array().expect("a list").iter();
        ids.map(|token| token["id"].as_str().expect("an id").to_owned()).collect()
    };
    assert_eq!(list(""), [&from_here, &on_web, &key, &of_eve].map(String::clone));
    assert_eq!(list("--kind key"), std::slice::from_ref(&key));
    assert_eq!(list("--user ada --kind login"), [from_here.clone(), on_web.clone()]);
    assert_eq!(list("--client web"), std::slice::from_ref(&on_web));
    assert_eq!(list("--ip 127.0.0.1"), std::slice::from_ref(&from_here));
    assert_eq!(list("--ip 192.0.2.1"), [""; 0]);
    assert_eq!(list("--issued-before 1h"), [""; 0]);
    assert_eq!(list("--user eve --issued-before 2999-01-01T00:00:00Z"), std::slice::from_ref(&of_eve));
    assert_eq!(list("--used-before 30d"), [""; 0]);
    site.operate(&format!("token revoke {key}"));
    assert_eq!(list("--kind key"), [""; 0]);
    assert_eq!(list("--kind key --all"), std::slice::from_ref(&key));
    let ran = site.run("token list --issued-before yesterday --data-dir data");
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("or how long ago"), "{ran:?}");
}

#[test]
fn tokens_are_revoked_by_what_they_have_in_common_after_a_look_at_how_many_they_are() {
    let site = Site::new();
    site.user("ada");
    site.user("eve");
    site.operate("client create web");
    let server = site.serve("");
    let (of_ada, _) = token(server.address, "ada", PASSWORD);
    let (of_eve, _) = token(server.address, "eve", PASSWORD);
    let on_web = site.operate("token issue --user ada --client web --json").json();
    let on_web = on_web["token"].as_str().expect("a token").to_owned();
    let key = site.operate("key create --user ada --name ci --json").json();
    let key = key["token"].as_str().expect("a key").to_owned();
    let answers = || [&of_ada, &of_eve, &on_web, &key].map(|text| me(server.address, text));

    let look = site.run("token revoke --user ada --issued-before 2999-01-01T00:00:00Z --json --data-dir data");
    assert_eq!((look.code, look.json()), (Some(2), json!({ "would_revoke": 3 })), "{look:?}");
    assert!(look.stderr.contains("add --yes"), "{look:?}");
    let look = site.run("token revoke --kind key --data-dir data");
    assert_eq!((look.code, look.stdout.as_str()), (Some(2), "1 live token would be revoked\n"), "{look:?}");
    assert_eq!(site.operate("token revoke --used-before 30d --yes --json").json(), json!({ "revoked": 0 }));
    assert_eq!(answers(), [200; 4], "nothing was done");
    // The server hears of it within a quarter of a second.
    let become_all =
        |wanted: [u16; 4]| within(Duration::from_millis(1_000), || Some(()).filter(|()| answers() == wanted));

    assert_eq!(site.operate("token revoke --user ada --client web --yes --json").json(), json!({ "revoked": 1 }));
    become_all([200, 200, 401, 200]);
    assert_eq!(site.operate("token revoke --kind key --yes").stdout, "1 token was revoked\n");
    become_all([200, 200, 401, 401]);
    assert_eq!(site.operate("token revoke --ip 127.0.0.1 --user ada --yes --json").json(), json!({ "revoked": 1 }));
    become_all([401, 200, 401, 401]);
    let entry = &site.operate("audit list --event tokens_revoked --limit 1 --json").json()[0];
    assert_eq!((&entry["actor"], &entry["subject_name"]), (&json!("operator"), &json!("ada")));
    assert!(entry["detail"].as_str().is_some_and(|text| text.starts_with("1 tokens")), "{entry}");

    for (line, reason) in [
        ("token revoke", "required"),
        ("token revoke --user ada --yes", "not which of them"),
        ("token revoke --client web --yes", "not which of them"),
        ("token revoke --user ada --client web --all --yes", "--user or with --client"),
        ("token revoke --everybody --kind key --yes", "cannot be used with"),
        ("token revoke --user ada --all --ip 127.0.0.1 --yes", "cannot be used with"),
    ] {
        let ran = site.run(&format!("{line} --data-dir data"));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{line}: {ran:?}");
        assert!(ran.stderr.contains(reason), "{line}: {}", ran.stderr);
    }
    assert_eq!(answers(), [401, 200, 401, 401]);
}
