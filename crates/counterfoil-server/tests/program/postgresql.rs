//! The program on PostgreSQL: what an operator types, and what two nodes say.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use counterfoil::postgres::{ConnectOptions, Migrations};
use counterfoil::{Counterfoil, Now, Timestamp};
use counterfoil_lab::postgres;
use serde_json::json;

use crate::exchange::{login, me, token};
use crate::running::{PASSWORD, Ran, Server, Site, within};

/// Settings that name a fresh database.
struct Shared {
    site: Site,
    database: postgres::Database,
}

impl Shared {
    fn new(more: &str) -> Shared {
        let (site, database) = (Site::new(), postgres::database());
        site.write("counterfoil.toml", &format!("[store]\nurl = \"{}\"\n{more}", database.url()));
        Shared { site, database }
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
    assert!(!told.contains("locked after"), "{told}");
    shared.database.sql("INSERT INTO tries (subject, failed, last) VALUES ('locked', 100, 0), ('tried', 99, 0)");
    let told = shared.run("doctor").stdout;
    assert!(told.contains("1 locked after 100 failed logins in a row"), "{told}");
    let refused = shared.run("backup x");
    assert!(refused.code == Some(1) && refused.stderr.contains("docs/postgres.md"), "{refused:?}");
}

/// The roles that `deploy/postgres/roles.sql` makes, as an operator makes them.
fn make_roles(server: &postgres::Server) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/postgres/roles.sql");
    let mut psql = Command::new("psql");
    psql.args(["--no-psqlrc", "--quiet", "-v", "migrator_password=m'1", "-v", "node_password=n\"2", "-f"]).arg(script);
    let ran = psql.arg(server.url("postgres")).output().expect("psql runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

/// Removes what has been dead for long, as a node does once a minute, in a year's time.
#[tokio::main(flavor = "current_thread")]
async fn purged_in_a_year(url: &str) -> u64 {
    let options = ConnectOptions { migrations: Migrations::Require, ..ConnectOptions::default() };
    let opened = Counterfoil::builder().postgres_with(url, options).open().await.expect("opened");
    let now = opened.clock().now();
    let later = Now { wall: Timestamp::from_millis(now.wall.millis() + 365 * 86_400_000), ..now };
    let purged = opened.authority().purge(100, later).await.expect("purged");
    opened.shutdown().await;
    purged.rows
}

#[test]
fn r34_a_node_does_all_its_work_under_a_role_that_may_only_read_and_write_rows() {
    let server = postgres::Server::start();
    make_roles(&server);
    let site = Site::new();
    let url = |role: &str| format!("postgres://{role}@127.0.0.1:{}/counterfoil", server.port());
    site.write(
        "counterfoil.toml",
        &format!("[store]\nurl = \"{}\"\nmigrate = \"by-command\"\n", url("counterfoil_node")),
    );
    let operate = |line: &str| {
        let ran = site.run(&format!("{line} --config counterfoil.toml"));
        assert_eq!(ran.code, Some(0), "{line}: {}{}", ran.stdout, ran.stderr);
        ran
    };
    let refused = site.run("migrate --config counterfoil.toml");
    assert_eq!(refused.code, Some(1), "its own role makes no tables: {refused:?}");
    let migrated = site.run(&format!("migrate --json --store {}", url("counterfoil_migrator")));
    assert_eq!(migrated.json()["applied"][0]["name"], "initial", "{migrated:?}");
    // Again, once there are tables.
    make_roles(&server);

    operate("user create ada --password-file password.txt");
    let node = Server::start(site.command("serve --listen 127.0.0.1:0 --config counterfoil.toml"), site.path("stderr"));
    let (kept, _) = token(node.address, "ada", PASSWORD);
    let (lost, id) = token(node.address, "ada", PASSWORD);
    operate(&format!("token revoke {id} --wait everywhere"));
    assert_eq!((me(node.address, &kept), me(node.address, &lost)), (200, 401));
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/import/durin.sqlite3");
    fs::copy(project, site.path("durin.sqlite3")).expect("a copy");
    // So far on that the numbers here are set to them, and not drawn up to them.
    let source = rusqlite::Connection::open(site.path("durin.sqlite3")).expect("opened");
    source.execute("UPDATE durin_authtoken SET id = id + 50000", []).expect("moved on");
    drop(source);
    let imported = operate("import django --from sqlite:durin.sqlite3 --json").json();
    assert!(imported["tokens"]["came"].as_u64() > Some(0), "{imported}");
    assert!(purged_in_a_year(&url("counterfoil_node")) > 0);
    let told = site.run("doctor --config counterfoil.toml").stdout;
    assert!(told.contains("counterfoil_node uses the tables and does not own them"), "{told}");
    node.stop();

    for beyond in [
        "DROP TABLE tokens",
        "TRUNCATE tokens",
        "ALTER TABLE tokens ALTER COLUMN digest DROP NOT NULL",
        "CREATE TABLE mine (a int)",
        "CREATE TEMPORARY TABLE mine (a int)",
        "CREATE INDEX mine ON tokens (name)",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "GRANT counterfoil_migrator TO counterfoil_node",
        "ALTER SYSTEM SET synchronous_commit = off",
        "COPY tokens TO '/tmp/tokens'",
    ] {
        let said = server.try_sql("counterfoil", &format!("SET ROLE counterfoil_node; {beyond}"));
        let said = said.expect_err(beyond);
        assert!(["permission denied", "must be", "must have"].iter().any(|no| said.contains(no)), "{beyond}: {said}");
    }
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
