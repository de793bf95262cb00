//! The wire formats of packages, where a file mounts them.

use std::fs;

use serde_json::json;

use crate::exchange::{PATIENCE, me, send};
use crate::running::{PASSWORD, Site, within};

const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];

fn login(username: &str) -> String {
    json!({ "username": username, "password": PASSWORD }).to_string()
}

#[test]
fn a_server_speaks_several_dialects_beside_its_own_and_all_of_the_same_tokens() {
    let site = Site::new();
    site.user("ada");
    assert_eq!(site.run("keyring init --file ring").code, Some(0));
    let config = site.write(
        "counterfoil.toml",
        "key_ring_file = \"ring\"\n\
         [[mount]]\npath = \"/api-token-auth\"\ndialect = \"authtoken\"\n\
         [[mount]]\npath = \"/api/auth/\"\ndialect = \"multitoken\"\nAUTH_ENABLE_SUPERUSER_LOGIN = false\n",
    );
    let server = site.serve(&format!("--config {config}"));
    let address = server.address;

    let first = send(address, "POST", "/api-token-auth/", JSON, &login("ada"));
    assert_eq!(first.status, 200, "{}", first.body);
    let token = first.json()["token"].as_str().expect("a token").to_owned();
    assert!(token.len() == 40 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{token}");
    let again = send(address, "POST", "/api-token-auth/", JSON, &login("ada"));
    assert_eq!(again.json()["token"], token.as_str(), "the same at each login, as the package has it");
    assert_eq!(me(address, &token), 200, "the native routes know it as well");

    let other = send(address, "POST", "/api/auth/login", JSON, &login("ada"));
    let other = other.json()["token"].as_str().expect("a token").to_owned();
    assert_eq!(other.len(), 64);
    let header = format!("Token {other}");
    let ended = send(address, "POST", "/api/auth/logout", &[("Authorization", &header)], "");
    assert_eq!((ended.status, ended.body.as_str()), (200, "{\"status\":\"logged out\"}"));
    assert_eq!(me(address, &other), 401);
    assert_eq!(me(address, &token), 200);

    let refused = send(address, "POST", "/api-token-auth/", JSON, "{\"username\":\"ada\",\"password\":\"wrong\"}");
    assert_eq!(
        (refused.status, refused.body.as_str()),
        (400, "{\"non_field_errors\":[\"Unable to log in with provided credentials.\"]}")
    );
    server.stop();
    let clients = site.operate(&format!("client list --json --config {config}"));
    for client in ["authtoken", "multitoken"] {
        assert!(clients.stdout.contains(&format!("\"{client}\"")), "{}", clients.stdout);
    }
}

#[test]
fn a_mount_that_makes_no_sense_stops_the_start_and_says_which() {
    let site = Site::new();
    let config = site.write("counterfoil.toml", "[[mount]]\npath = \"/v1\"\ndialect = \"authtoken\"\n");
    for line in ["serve --listen 127.0.0.1:0 --data-dir data", "config check"] {
        let ran = site.run(&format!("{line} --config {config}"));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
        assert!(ran.stderr.contains("the native routes are there"), "{}", ran.stderr);
    }
    let shown = site.write("shown.toml", "[[mount]]\npath = \"/auth\"\ndialect = \"authtoken\"\nclient = \"web\"\n");
    let text = site.run(&format!("config show --config {shown}")).stdout;
    let again = site.write("again.toml", &text);
    let mount = |file: &str| site.run(&format!("config show --json --config {file}")).json()["mount"]["value"].clone();
    assert_eq!(mount(&again), mount(&shown), "what is shown reads back");
}

#[test]
fn what_is_weak_in_a_packages_settings_is_said_by_the_check_and_does_not_stop_it() {
    let site = Site::new();
    let config = site.write(
        "counterfoil.toml",
        "[[mount]]\npath = \"/auth\"\ndialect = \"rest_authtoken\"\nREGISTRATION_ENABLED = true\n\
         [mount.REGISTRATION_EMAIL]\nSUBJECT = \"Confirm\"\n",
    );
    let check = site.run(&format!("config check --config {config}"));
    assert_eq!((check.code, check.stdout.as_str()), (Some(0), "the settings are sound\n"), "{check:?}");
    for word in ["warning: mount /auth: REGISTRATION_ENABLED", "passwords of six characters", "SUBJECT does nothing"] {
        assert!(check.stderr.contains(word), "{word}: {}", check.stderr);
    }
    let warnings = site.run(&format!("config check --json --config {config}")).json()["warnings"].clone();
    assert_eq!(warnings.as_array().map(Vec::len), Some(3), "{warnings}");
}

#[test]
fn an_address_is_confirmed_behind_the_link_that_the_dialect_mails() {
    let site = Site::new();
    let config = site.write(
        "counterfoil.toml",
        "[[mount]]\npath = \"/auth\"\ndialect = \"rest_authtoken\"\nREGISTRATION_ENABLED = true\nREGISTRATION_EMAIL_CONFIRM = true\n\
         REGISTRATION_CONFIRM_REDIRECT_PATH = \"/welcome/\"\n[mount.REGISTRATION_EMAIL]\nBASE_URL = \"http://127.0.0.1\"\n",
    );
    let server = site.serve(&format!("--config {config}"));
    let wanted = json!({ "username": "ada", "password": PASSWORD, "email": "ada@example.org" }).to_string();
    let made = send(server.address, "POST", "/auth/register/", JSON, &wanted);
    assert_eq!((made.status, made.body.as_str()), (201, "{\"success\":true}"));
    let link = within(PATIENCE, || {
        let mail = fs::read_dir(site.path("data/mail")).ok()?.next()?.ok()?.path();
        let text = fs::read_to_string(mail).ok()?;
        let at = text.find("/auth/register/confirm/")?;
        text[at..].split_whitespace().next().map(str::to_owned)
    });
    let page = send(server.address, "GET", &link, &[], "");
    assert_eq!(page.status, 200, "looking at it confirms nothing");
    assert_eq!(send(server.address, "POST", &link, &[], "").status, 302);
    assert_eq!(send(server.address, "POST", &link, &[], "").status, 400, "once");
    server.stop();
    let shown = site.operate("user show ada --json").json();
    assert!(!shown["email_confirmed_at"].is_null() || shown["email_confirmed"] == true, "{shown}");
}
