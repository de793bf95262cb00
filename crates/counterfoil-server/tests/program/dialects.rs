//! The wire formats of packages, where a file mounts them.

use serde_json::json;

use crate::exchange::{me, send};
use crate::running::{PASSWORD, Site};

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
