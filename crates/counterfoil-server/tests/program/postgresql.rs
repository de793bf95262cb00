//! The program on PostgreSQL: what an operator types, and what two nodes say.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use counterfoil_lab::postgres;
use serde_json::json;

use crate::exchange::{login, me, token};
use crate::running::{PASSWORD, Ran, Server, Site, within};

/// Settings that name a fresh database.
struct Shared {
    site: Site,
    /// Dropped with it.
    _database: postgres::Database,
}

impl Shared {
    fn new(more: &str) -> Shared {
        let (site, database) = (Site::new(), postgres::database());
        site.write("counterfoil.toml", &format!("[store]\nurl = \"{}\"\n{more}", database.url()));
        Shared { site, _database: database }
    }

    fn run(&self, line: &str) -> Ran {
        self.site.run(&format!("{line} --config counterfoil.toml"))
    }

    fn operate(&self, line: &str) -> Ran {
        let ran = self.run(line);
        assert_eq!(ran.code, Some(0), "{line}: {}", ran.stderr);
        ran
    }

    fn node(&self, number: u32) -> Server {
        let command = self.site.command("serve --listen 127.0.0.1:0 --config counterfoil.toml");
        Server::start(command, self.site.path(&format!("stderr{number}")))
    }
}

#[test]
fn a09_what_one_node_or_a_command_ends_every_node_refuses_within_a_second() {
    let shared = Shared::new("");
    shared.operate("user create ada --password-file password.txt");
    let nodes = [shared.node(1), shared.node(2)];
    let (kept, _) = token(nodes[0].address, "ada", PASSWORD);
    let (lost, id) = token(nodes[1].address, "ada", PASSWORD);
    let everywhere = |text: &str, status| nodes.iter().all(|node| me(node.address, text) == status);
    assert!(everywhere(&kept, 200) && everywhere(&lost, 200));
    shared.operate(&format!("token revoke {id}"));
    within(Duration::from_secs(1), || Some(()).filter(|()| everywhere(&lost, 401)));
    assert!(everywhere(&kept, 200));
    shared.operate("token revoke --everybody --yes --wait everywhere");
    assert!(everywhere(&kept, 401), "at once");
    assert_eq!(login(nodes[0].address, "ada", PASSWORD).status, 200);
    for node in nodes {
        node.stop();
    }
}

#[test]
fn tables_are_made_by_a_command_where_the_nodes_may_not() {
    let shared = Shared::new("migrate = \"by-command\"\n");
    let refused = shared.run("serve --listen 127.0.0.1:0");
    assert!(refused.code == Some(1) && refused.stderr.contains("counterfoil migrate"), "{refused:?}");
    assert!(shared.operate("migrate --dry-run").stdout.contains("CREATE TABLE tokens"));
    assert_eq!(shared.operate("migrate --json").json()["applied"][0]["name"], "initial");
    assert_eq!(shared.operate("migrate --json").json(), json!({"applied": []}));
    let node = shared.node(1);
    shared.operate("user create ada --password-file password.txt");
    assert_eq!(login(node.address, "ada", PASSWORD).status, 200);
    let told = shared.run("doctor").stdout;
    for line in ["ok       schema", "ok       clock", "warning  role", "ok       standbys", "ok       audit log"] {
        assert!(told.contains(line), "{line}: {told}");
    }
    let refused = shared.run("backup x");
    assert!(refused.code == Some(1) && refused.stderr.contains("docs/postgres.md"), "{refused:?}");
}

#[test]
fn r34_the_password_of_the_database_is_shown_nowhere() {
    let site = Site::new();
    let url = site.write("url", "postgres://app:hunter2@127.0.0.1:1/tokens\n");
    site.write("counterfoil.toml", "[store]\nurl_file = \"url\"\n");
    let read_by_all = site.run("user list --config counterfoil.toml");
    assert!(read_by_all.code == Some(2) && read_by_all.stderr.contains("chmod 0600"), "{read_by_all:?}");
    fs::set_permissions(url, fs::Permissions::from_mode(0o600)).expect("its mode");
    for line in ["doctor", "serve --listen 127.0.0.1:0", "user list", "config show", "migrate --dry-run"] {
        let ran = site.run(&format!("{line} --config counterfoil.toml"));
        assert!(!ran.stdout.contains("hunter2") && !ran.stderr.contains("hunter2"), "{line}: {ran:?}");
        assert_eq!(ran.code, Some(i32::from(line != "config show")), "{line}: {ran:?}");
    }
}
