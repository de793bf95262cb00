//! The commands that came with the packages.

use crate::exchange::me;
use crate::running::{PASSWORD, Ran, Site};

fn site() -> (Site, String) {
    let site = Site::new();
    assert_eq!(site.run("keyring init --file ring").code, Some(0));
    let config = site.write("counterfoil.toml", "key_ring_file = \"ring\"\n");
    (site, format!("--data-dir data --config {config}"))
}

#[test]
fn create_client_says_what_durins_does() {
    let (site, options) = site();
    let create = |words: &str| {
        let mut command = site.command(&format!("django create_client {options}"));
        Ran::of(command.args(words.split('|')).output().expect("the program runs"), words)
    };
    let made = create("web");
    assert_eq!((made.code, made.stdout.as_str()), (Some(0), "Client web created!\n"), "{made:?}");
    let made = create("cli|--token-ttl|30 00:00:00|--throttle-rate|100/h");
    assert_eq!((made.code, made.stdout.as_str()), (Some(0), "Client cli created!\n"), "{made:?}");
    assert_eq!(create("a|--token-ttl|3600").code, Some(0));
    assert_eq!(create("b|--token-ttl|P3D").code, Some(0));
    let shown = |name: &str| site.run(&format!("client show {name} --json {options}")).json()["policy"].clone();
    assert_eq!((&shown("cli")["ttl"], &shown("cli")["throttle"]), (&"30d".into(), &"100/h".into()));
    assert_eq!(
        (&shown("web")["ttl"], &shown("a")["ttl"], &shown("b")["ttl"]),
        (&"1d".into(), &"1h".into(), &"3d".into())
    );
    assert_eq!(shown("web")["reissue"], "same");
    for (line, why) in [
        ("web", "name: client with this name already exists."),
        (" ", "name: This field may not be blank."),
        (&"x".repeat(65), "name: Ensure this field has no more than 64 characters."),
        (
            "c|--token-ttl|soon",
            "token_ttl: Duration has wrong format. Use one of these formats instead: [DD] [HH:[MM:]]ss[.uuuuuu].",
        ),
        ("c|--throttle-rate|5/min", "throttle_rate: invalid period 'min'."),
        ("c|--throttle-rate|5", "throttle_rate: not enough values to unpack (expected 2, got 1)"),
        ("c|--token-ttl|0", "token_ttl: tokens of this client would be dead at birth, or outlive a hundred years."),
    ] {
        let refused = create(line);
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{line}: {refused:?}");
        assert_eq!(refused.stderr, format!("CommandError: Can't create client!\n{why}\n"), "{line}");
    }
    assert_eq!(site.run(&format!("django create_client {options}")).code, Some(2), "no name");
    let without = site.run("django create_client late --data-dir data");
    assert_eq!(without.code, Some(1), "the store has clients whose secrets are sealed: {without:?}");
}

#[test]
fn without_a_key_ring_a_client_gives_another_token_each_time_and_says_so() {
    let site = Site::new();
    let made = site.run("django create_client web --data-dir data");
    assert_eq!((made.code, made.stdout.as_str()), (Some(0), "Client web created!\n"), "{made:?}");
    assert!(made.stderr.starts_with("warning: without a key ring"), "{}", made.stderr);
}

#[test]
fn drf_create_token_shows_the_same_token_until_it_is_reset() {
    let (site, options) = site();
    let user = format!("user create ada --password-stdin {options}");
    assert_eq!(site.run_with(&user, PASSWORD).code, Some(0));
    let create = |more: &str| site.run(&format!("django drf_create_token {more} {options}"));
    assert!(create("ada").stderr.contains("there is no client authtoken"));
    assert_eq!(site.run(&format!("client create authtoken --ttl none --reissue same {options}")).code, Some(0));

    let token = |ran: Ran| {
        let text = ran.stdout.strip_prefix("Generated token ").and_then(|text| text.strip_suffix(" for user ada\n"));
        text.unwrap_or_else(|| panic!("{ran:?}")).to_owned()
    };
    let first = token(create("ada"));
    assert!(first.len() == 40 && first.bytes().all(|byte| byte.is_ascii_hexdigit()), "{first}");
    assert_eq!(token(create("ada")), first);
    let second = token(create("-r ada"));
    assert_ne!(second, first);
    let unknown = create("bob");
    assert_eq!(
        (unknown.code, unknown.stderr.as_str()),
        (Some(1), "CommandError: Cannot create the Token: user bob does not exist\n")
    );
    let config = options.split(' ').skip(2).collect::<Vec<_>>().join(" ");
    let server = site.serve(&config);
    assert_eq!((me(server.address, &second), me(server.address, &first)), (200, 401));

    let asked = site.run(&format!("django revoke_all_tokens --client authtoken {options}"));
    assert_eq!(
        (asked.code, asked.stdout.as_str()),
        (Some(0), "Include --force if you understand that this will log out all users.\n")
    );
    assert_eq!(me(server.address, &second), 200);
    let done = site.run(&format!("django revoke_all_tokens --force --client authtoken {options}"));
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "All auth tokens deleted.\n"));
    crate::running::within(crate::exchange::PATIENCE, || (me(server.address, &second) == 401).then_some(()));
    server.stop();
}

#[test]
fn clearexpiredauthtokens_counts_what_it_cleared() {
    let (site, options) = site();
    assert_eq!(site.run_with(&format!("user create ada --password-stdin {options}"), PASSWORD).code, Some(0));
    assert_eq!(site.run(&format!("client create rest_authtoken --ttl 1s {options}")).code, Some(0));
    let issue = |more: &str| {
        let ran = site.run(&format!("token issue --user ada --client rest_authtoken {more} --json {options}"));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.json()["id"].as_str().expect("an id").to_owned()
    };
    let short = issue("");
    issue("--never-expires");
    let is_dead = || {
        let shown = site.run(&format!("token show {short} --json {options}")).json();
        (shown["state"] == "expired").then_some(())
    };
    crate::running::within(crate::exchange::PATIENCE, is_dead);
    let clear = || site.run(&format!("django clearexpiredauthtokens {options}")).stdout;
    let said = |tokens: u32| {
        format!("Successfully cleared {tokens} auth tokens\nSuccessfully cleared 0 email confirmation tokens\n")
    };
    assert_eq!(clear(), said(1));
    assert_eq!(clear(), said(0));
}
