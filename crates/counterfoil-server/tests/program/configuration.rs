//! Settings: where they come from and which are refused.

use crate::running::Site;

#[test]
fn a_flag_outranks_the_environment_outranks_the_file() {
    let site = Site::new();
    let config = site.write(
        "counterfoil.toml",
        "listen = \"127.0.0.1:1\"\ndata_dir = \"from-file\"\nbase_url = \"https://from.file\"\n[http]\nrealm = \"file\"\n",
    );
    let show = |flags: &str, environment: &[(&str, &str)]| {
        let mut command = site.command(&format!("config show --json {flags}"));
        let output = command.envs(environment.iter().copied()).output().expect("runs");
        crate::running::Ran::of(output, flags).json()
    };
    let environment =
        [("COUNTERFOIL_CONFIG", config.as_str()), ("COUNTERFOIL_DATA_DIR", "env"), ("COUNTERFOIL_HTTP_REALM", "env")];
    let shown = show("--data-dir flag", &environment);
    for (key, value, origin) in [
        ("data_dir", "flag", "--data-dir"),
        ("http.realm", "env", "$COUNTERFOIL_HTTP_REALM"),
        ("base_url", "https://from.file", config.as_str()),
        ("log.level", "info", "default"),
    ] {
        assert_eq!(shown[key]["value"], value, "{key}");
        assert_eq!(shown[key]["origin"], origin, "{key}");
    }
    // A file named on the command line outranks the one in the environment.
    let other = site.write("other.toml", "base_url = \"https://other.file\"\n");
    let shown = show(&format!("--config {other}"), &[("COUNTERFOIL_CONFIG", config.as_str())]);
    assert_eq!(shown["base_url"]["value"], "https://other.file");
    assert_eq!(shown["listen"]["origin"], "default");
}

#[test]
fn the_documented_defaults_pass_the_check_and_change_nothing() {
    let site = Site::new();
    let config = site.write("counterfoil.toml", &site.run("config defaults").stdout);
    let check = site.run(&format!("config check --config {config}"));
    assert_eq!((check.code, check.stdout.as_str()), (Some(0), "the settings are sound\n"), "{check:?}");
    let values = |ran: crate::running::Ran| -> Vec<serde_json::Value> {
        ran.json().as_object().expect("an object").values().map(|setting| setting["value"].clone()).collect()
    };
    assert_eq!(
        values(site.run(&format!("config show --json --config {config}"))),
        values(site.run("config show --json"))
    );
}

#[test]
fn the_page_about_settings_is_what_the_program_says() {
    let page = include_str!("../../../../docs/configuration.md");
    let defaults = Site::new().run("config defaults").stdout;
    assert!(page.contains(&format!("```toml\n{defaults}```")), "put this into docs/configuration.md:\n{defaults}");
}

#[test]
fn a85_a_wrong_setting_is_refused_at_the_start_with_its_reason() {
    let site = Site::new();
    for (content, reason) in [
        ("trusted_proxies = [\"0.0.0.0/0\"]", "trusting every proxy"),
        ("trusted_proxies = [\"::/0\"]", "trusting every proxy"),
        ("base_url = \"http://auth.example.org\"", "plain http"),
        ("base_url = \"https://*.example.org\"", "expected https://"),
        ("[tokens]\nrotation_grace = \"0s\"", "expected a time from 1s"),
        ("[tokens]\nretention = \"0d\"", "expected a time from 1s"),
        ("shutdown_grace = \"0s\"", "expected a time from 1s"),
        ("[hashing]\nmemory = 1024", "Argon2id needs at least"),
        ("[hashing]\nqueue = 0", "expected a whole number from 1"),
        ("key_ring_file = \"absent\"", "key_ring_file"),
        ("trust_proxies = true", "there is no setting trust_proxies"),
        ("listen = ", "line 1"),
    ] {
        let config = site.write("counterfoil.toml", content);
        for line in ["serve --listen 127.0.0.1:0 --data-dir data", "config check"] {
            let ran = site.run(&format!("{line} --config {config}"));
            assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{content}: {ran:?}");
            assert!(ran.stderr.starts_with("error: ") && ran.stderr.contains(reason), "{content}: {}", ran.stderr);
            assert!(ran.stderr.lines().count() <= 2, "{content}: {}", ran.stderr);
        }
        assert!(!site.path("data").exists(), "{content}");
    }
    for (name, value, reason) in [
        ("COUNTERFOIL_TRUSTED_PROXIES", "10.0.0.1,0.0.0.0/0", "trusting every proxy"),
        ("COUNTERFOIL_LISTEN", "everywhere", "expected an address and a port"),
        ("COUNTERFOIL_LISTNE", "127.0.0.1:0", "there is no setting COUNTERFOIL_LISTNE"),
        ("COUNTERFOIL_CONFIG", "absent.toml", "cannot read absent.toml"),
    ] {
        let output = site.command("serve --data-dir data").env(name, value).output().expect("runs");
        let ran = crate::running::Ran::of(output, name);
        assert_eq!(ran.code, Some(2), "{name}: {ran:?}");
        assert!(ran.stderr.contains(reason), "{name}: {}", ran.stderr);
    }
    for line in ["serve --demo --data-dir data", "serve --data-dir a --store sqlite:b", "serve --log-level loud"] {
        assert_eq!(site.run(line).code, Some(2), "{line}");
    }
}
