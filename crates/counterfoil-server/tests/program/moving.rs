//! `store copy`: from SQLite to PostgreSQL and back.

use counterfoil_lab::postgres;

use crate::exchange::{me, send, token};
use crate::running::{PASSWORD, Site};

#[test]
fn users_and_tokens_are_moved_to_postgres_and_back_and_open_what_they_opened() {
    let (site, database) = (Site::new(), postgres::database());
    site.user("ada");
    let server = site.serve("");
    let (live, _) = token(server.address, "ada", PASSWORD);
    let (ended, _) = token(server.address, "ada", PASSWORD);
    let bearer = format!("Bearer {ended}");
    assert_eq!(send(server.address, "POST", "/v1/logout", &[("Authorization", &bearer)], "").status, 204);
    let there = format!("store copy --from sqlite:data --to {}", database.url());
    let served = site.run(&format!("{there} --yes"));
    assert_eq!(served.code, Some(1), "{}", served.stderr);
    assert!(served.stderr.contains("server"), "{}", served.stderr);
    server.stop();

    let unconfirmed = site.run(&there);
    assert_eq!(unconfirmed.code, Some(2), "{}", unconfirmed.stderr);
    let copied = site.run(&format!("{there} --yes"));
    assert_eq!(copied.code, Some(0), "{}", copied.stderr);
    assert!(copied.stderr.contains("tokens: read again 2 of 2"), "{}", copied.stderr);
    assert!(copied.stdout.contains("key ring"), "{}", copied.stdout);
    let again = site.run(&format!("{there} --yes --json"));
    assert_eq!((again.code, again.stdout.as_str()), (Some(1), ""), "{}", again.stderr);
    assert!(again.stderr.contains("not empty"), "{}", again.stderr);

    let back = site.run(&format!("store copy --from {} --to sqlite:again --yes --json", database.url()));
    assert_eq!(back.code, Some(0), "{}", back.stderr);
    let told: serde_json::Value = serde_json::from_str(&back.stdout).expect("JSON");
    assert_eq!((&told["rows"]["tokens"], &told["rows"]["accounts"]), (&2.into(), &1.into()), "{told}");
    assert_eq!(back.stderr, "", "programs are told nothing on the way");

    let users = |directory: &str| site.run(&format!("user list --json --data-dir {directory}")).stdout;
    assert_eq!(users("again"), users("data"));
    let tokens = |directory: &str| site.run(&format!("token list --user ada --json --data-dir {directory}")).stdout;
    assert_eq!(tokens("again"), tokens("data"));
    std::fs::rename(site.path("data"), site.path("left")).expect("the one before is out of the way");
    std::fs::rename(site.path("again"), site.path("data")).expect("and this one in its place");
    let server = site.serve("");
    assert_eq!((me(server.address, &live), me(server.address, &ended)), (200, 401));
    let (fresh, _) = token(server.address, "ada", PASSWORD);
    assert_eq!(me(server.address, &fresh), 200, "the password is the same");
    server.stop();

    let careless = site.run("store copy --from sqlite:data --to postgres://app:hunter2@127.0.0.1/x --yes");
    assert_eq!(careless.code, Some(2));
    assert!(careless.stderr.contains("PGPASSWORD") && !careless.stderr.contains("hunter2"), "{}", careless.stderr);
}
