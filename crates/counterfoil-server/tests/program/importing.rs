//! `counterfoil import django`: the databases that the packages themselves have served, carried over by the program and then asked
//! for every token and every password.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use counterfoil::{Clock, SystemClock};
use counterfoil_lab::{postgres, redis};
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use rustix::process::Signal;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::exchange::{PATIENCE, login, me, send};
use crate::running::{Server, Site, within};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/import").join(name)
}

fn expected(name: &str) -> Value {
    let text = fs::read_to_string(data(&format!("{name}.tokens.json"))).expect("the verdicts");
    serde_json::from_str(&text).expect("JSON")
}

/// Long enough that the tokens of django-rest-authtoken which were fresh when the database was made still are, and those that
/// were two days old are not: the package keeps no expiry.
fn validity(expected: &Value) -> String {
    let made: jiff::Timestamp = expected["made"].as_str().and_then(|text| text.parse().ok()).expect("a time");
    let age = SystemClock.now().wall.millis() / 1_000 - made.as_second();
    format!("{}", age + 43_200)
}

impl Site {
    /// Imports into `data` and returns the report.
    fn import(&self, line: &str) -> Value {
        let ran = self.run(&format!("import django {line} --json --data-dir data"));
        assert_eq!(ran.code, Some(0), "{line}: {} {}", ran.stderr, ran.stdout);
        ran.json()
    }

    /// A copy of a database, so that nothing can happen to ours.
    fn copy(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::copy(data(name), &path).expect("a copy");
        path
    }
}

fn count(report: &Value, kind: &str, fate: &str) -> u64 {
    report[kind][fate].as_u64().unwrap_or_else(|| panic!("{kind} {fate}: {report}"))
}

/// Asks for every token and every password that is listed.
fn verdicts(server: &Server, expected: &Value) {
    for token in expected["tokens"].as_array().expect("tokens") {
        let Some(authorization) = token["authorization"].as_str() else { continue };
        let answer = send(server.address, "GET", "/v1/me", &[("Authorization", authorization)], "");
        let wanted = if token["valid"] == true { 200 } else { 401 };
        assert_eq!(answer.status, wanted, "{}: {}", token["label"], answer.body);
        if wanted == 200 {
            assert_eq!(answer.json()["user"]["username"], token["user"], "{}", token["label"]);
            // Once more: the first use has rewritten how its digest is made.
            assert_eq!(send(server.address, "GET", "/v1/me", &[("Authorization", authorization)], "").status, 200);
        }
    }
    for user in expected["users"].as_array().expect("users") {
        let name = user["username"].as_str().expect("a name");
        let (password, wanted) = match user["password"].as_str() {
            Some(password) if user["is_active"] == true => (password, 200),
            Some(password) => (password, 401),
            None => ("whatever they may have had", 401),
        };
        let answer = login(server.address, name, password);
        assert_eq!(answer.status, wanted, "{name}: {}", answer.body);
        if wanted == 200 {
            assert_eq!(answer.json()["user"]["id"], user["id"].to_string(), "the key there is the subject here");
        }
    }
    assert_eq!(login(server.address, "john", "foobar1234").status, 401, "another password");
}

/// Asks the library for every token that is listed.
#[tokio::main(flavor = "current_thread")]
async fn live_for_the_library(site: &Site, expected: &Value) {
    let opened = counterfoil::Counterfoil::builder().existing_sqlite(site.path("data")).open().await.expect("opened");
    let source = counterfoil::Source::default();
    for token in expected["tokens"].as_array().expect("tokens") {
        let text = token["token"].as_str().expect("a text");
        // The second time by what the first has made of it.
        for _ in 0..2 {
            let answer = opened.authority().authenticate(text, &source, opened.clock().now()).await;
            assert_eq!(answer.is_ok(), token["valid"] == true, "{}: {answer:?}", token["label"]);
        }
        // The hash with another secret, or with rounds of one's own, is nobody's.
        let (_, hash) = text.split_once(":hash:").expect("two halves");
        for forged in [format!("x:hash:{hash}"), text.replace("$29000$", "$4294967295$"), hash.to_owned()] {
            opened.authority().authenticate(&forged, &source, opened.clock().now()).await.expect_err(&forged);
        }
    }
    opened.shutdown().await;
}

/// A database of SQLite with everything that is listed beside it; what the source had is as it was.
fn sqlite_has_its_verdicts(name: &str, settings: &Value, tokens: u64) -> Value {
    let site = Site::new();
    let expected = expected(name);
    let file = site.copy(&format!("{name}.sqlite3"));
    let before = Sha256::digest(fs::read(&file).expect("read"));
    let settings = site.write("settings.json", &settings.to_string());
    let line = format!("--from sqlite:{} --settings {settings}", file.display());
    let report = site.import(&line);
    assert_eq!(count(&report, "users", "came"), expected["users"].as_array().expect("users").len() as u64, "{report}");
    assert_eq!(count(&report, "tokens", "came"), tokens, "{report}");
    let server = site.serve("");
    verdicts(&server, &expected);
    // And again, beside the server: nothing is new.
    let again = site.import(&line);
    assert_eq!((count(&again, "users", "came"), count(&again, "tokens", "came")), (0, 0), "{again}");
    assert_eq!(count(&again, "tokens", "known"), tokens, "{again}");
    assert_eq!(Sha256::digest(fs::read(&file).expect("read")), before, "the source is only read");
    for ending in ["-wal", "-shm", "-journal"] {
        assert!(!site.path(&format!("{name}.sqlite3{ending}")).exists(), "{ending}");
    }
    report
}

#[test]
fn c2_every_token_and_password_of_multitoken_comes_over() {
    sqlite_has_its_verdicts("multitoken", &json!({}), 8);
}

#[test]
fn c2_every_token_and_password_of_durin_comes_over() {
    let report = sqlite_has_its_verdicts("durin", &json!({}), 6);
    assert_eq!((count(&report, "clients", "came"), count(&report, "tokens", "dead")), (4, 1), "{report}");
    assert!(report["warnings"].to_string().contains("key ring"), "`same` needs a ring: {report}");
}

#[test]
fn c2_every_token_and_password_of_advanced_comes_over() {
    let report = sqlite_has_its_verdicts("advanced", &json!({}), 6);
    assert!(report["found"].to_string().contains("advanced"), "told from DRF's by its table of locks: {report}");
}

#[test]
fn c2_every_token_and_password_of_rest_authtoken_comes_over() {
    let validity = validity(&expected("restauthtoken"));
    sqlite_has_its_verdicts("restauthtoken", &json!({ "AUTH_TOKEN_VALIDITY": validity }), 6);
}

#[test]
fn c2_a_custom_table_of_users_comes_over_with_what_is_confirmed() {
    let validity = validity(&expected("restauthtoken-confirm"));
    let settings =
        json!({ "AUTH_TOKEN_VALIDITY": validity, "REGISTRATION_EMAIL_CONFIRM_MODEL_FIELD": "email_confirmed" });
    let report = sqlite_has_its_verdicts("restauthtoken-confirm", &settings, 6);
    assert!(report["found"].to_string().contains("labuser_user"), "{report}");
    assert_eq!(count(&report, "confirmation_links", "came"), 1, "{report}");
    let site = Site::new();
    let file = site.copy("restauthtoken-confirm.sqlite3");
    site.import(&format!("--from sqlite:{}", file.display()));
    let confirmed = |name: &str| site.operate(&format!("user show {name} --json")).json()["email_confirmed"] == true;
    assert!(confirmed("john") && !confirmed("dave"));
}

#[test]
fn c2_every_token_and_password_of_knox_comes_over() {
    let report = sqlite_has_its_verdicts("knox", &json!({ "REST_KNOX": { "TOKEN_TTL": "10:00:00" } }), 7);
    assert_eq!(count(&report, "tokens", "dead"), 1, "{report}");
}

#[test]
fn c2_every_token_of_djforge_comes_over_from_redis_by_either_backend() {
    let expected = expected("djforge");
    for database in [2, 3] {
        let site = Site::new();
        let redis = redis_of_djforge();
        let file = site.copy("djforge.sqlite3");
        let line = format!("--from sqlite:{} --redis {}", file.display(), redis.socket_url(database));
        let report = site.import(&line);
        assert_eq!(count(&report, "tokens", "came"), 6, "{report}");
        let again = site.import(&line);
        assert_eq!((count(&again, "tokens", "came"), count(&again, "tokens", "known")), (0, 6), "{again}");
        // What is listed is of the database that django-redis wrote.
        if database == 2 {
            // The native header has no room for such a text, a dialect's has: so the library is asked.
            live_for_the_library(&site, &expected);
            let users = json!({ "tokens": [], "users": expected["users"] });
            verdicts(&site.serve(""), &users);
            let tokens = site.operate("token list --client djforge --json").json();
            let ends: Vec<&Value> =
                tokens.as_array().expect("tokens").iter().map(|token| &token["expires_at"]).collect();
            assert_eq!(ends.iter().filter(|end| end.is_string()).count(), 1, "the one with a time to live: {tokens}");
        }
    }
}

#[test]
fn a03_what_is_not_djforges_in_redis_is_a_line_of_the_report() {
    let site = Site::new();
    let redis = redis_of_djforge();
    let hash = |rounds: &str| format!(":1:$pbkdf2-sha256${rounds}$GoOwVorR.t.7F6KU8p4zRg${}", "M".repeat(43));
    redis.command_of(2, &["SET", &hash("1000"), "cposix\nsystem\n(S'touch owned'\ntR."]);
    redis.command_of(2, &["SET", &hash("1001"), "11"]);
    redis.command_of(2, &["SET", &hash("1002"), &"x".repeat(5_000_000 / 100)]);
    redis.command_of(2, &["LPUSH", &hash("1003"), "1"]);
    redis.command_of(2, &["SET", ":1:some-page", "cached"]);
    let file = site.copy("djforge.sqlite3");
    let report = site.import(&format!("--from sqlite:{} --redis {}", file.display(), redis.socket_url(2)));
    assert_eq!((count(&report, "tokens", "came"), count(&report, "tokens", "skipped")), (6, 3), "{report}");
    assert!(report["skipped"].to_string().contains("not a pickled text"), "{report}");
    assert!(!site.path("owned").exists() && !report.to_string().contains("touch"));
}

/// A Redis with what djforge and django-redis left in it.
fn redis_of_djforge() -> redis::Server {
    redis::Options::new().start_on(&data("djforge.redis.rdb"))
}

#[test]
fn c2_databases_of_postgresql_come_over() {
    let postgres = postgres::Server::start();
    for (name, tokens) in [("durin", 6), ("multitoken", 8)] {
        let site = Site::new();
        let database = postgres.database();
        database.sql(&fs::read_to_string(data(&format!("{name}.pg.sql"))).expect("a dump"));
        let url = postgres.socket_url(database.name());
        let report = site.import(&format!("--from {url}"));
        assert_eq!(count(&report, "tokens", "came"), tokens, "{report}");
        let server = site.serve("");
        verdicts(&server, &expected(&format!("{name}.pg")));
        let again = site.import(&format!("--from {url}"));
        assert_eq!((count(&again, "tokens", "came"), count(&again, "tokens", "known")), (0, tokens), "{again}");
        if name == "durin" {
            let client = site.operate("client show mobile --json").json();
            assert_eq!(
                (&client["policy"]["throttle"], &client["policy"]["ttl"]),
                (&json!("3/m"), &json!("315378429s"))
            );
        }
        if name == "multitoken" {
            // What it was issued from, and what it is called.
            let tokens = site.operate("token list --user john --json").json();
            let laptop = tokens.as_array().expect("tokens").iter().find(|token| token["name"] == "laptop").expect("it");
            assert!(
                laptop.to_string().contains("2001:db8::1") && laptop.to_string().contains("Mozilla/5.0"),
                "{laptop}"
            );
        }
    }
}

#[test]
fn same_is_the_same_token_after_an_import_too() {
    let site = Site::new();
    site.run("keyring init --file ring");
    let config = site.write("counterfoil.toml", "key_ring_file = \"ring\"\n");
    let file = site.copy("durin.sqlite3");
    let report = site.import(&format!("--from sqlite:{} --config {config}", file.display()));
    assert_eq!(report["warnings"], json!([]), "{report}");
    let server = site.serve(&format!("--config {config}"));
    let body = json!({ "username": "john", "password": "foobar123", "client": "web" }).to_string();
    let answer = send(server.address, "POST", "/v1/login", &[("Content-Type", "application/json")], &body);
    let token = &expected("durin")["tokens"][0];
    assert_eq!((token["label"].as_str(), answer.status), (Some("john-web"), 200), "{}", answer.body);
    assert_eq!(answer.json()["token"], token["token"]);
}

#[test]
fn a_dump_brings_what_its_database_has() {
    let site = Site::new();
    let database = Connection::open(data("durin.sqlite3")).expect("a database");
    let dump = dumped(
        &database,
        &[
            ("auth_user", "auth.user", "id"),
            ("durin_client", "durin.client", "id"),
            ("durin_authtoken", "durin.authtoken", "id"),
        ],
    );
    let file = site.write("dump.json", &Value::Array(dump).to_string());
    let report = site.import(&format!("--from dump:{file}"));
    assert_eq!((count(&report, "tokens", "came"), count(&report, "clients", "came")), (6, 4), "{report}");
    let server = site.serve("");
    verdicts(&server, &expected("durin"));
    // The same rows from the database itself are the same.
    let file = site.copy("durin.sqlite3");
    let again = site.import(&format!("--from sqlite:{}", file.display()));
    assert_eq!((count(&again, "tokens", "came"), count(&again, "tokens", "known")), (0, 6), "{again}");
    assert_eq!((count(&again, "users", "came"), count(&again, "users", "skipped")), (0, 0), "{again}");
}

/// What `manage.py dumpdata` makes of these tables.
fn dumped(database: &Connection, tables: &[(&str, &str, &str)]) -> Vec<Value> {
    let mut entries = Vec::new();
    for (table, model, key) in tables {
        let mut statement = database.prepare(&format!("SELECT * FROM {table}")).expect("a table");
        let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let mut rows = statement.query([]).expect("rows");
        while let Some(row) = rows.next().expect("a row") {
            let mut fields = serde_json::Map::new();
            let mut pk = Value::Null;
            for (index, name) in names.iter().enumerate() {
                let value = match row.get_ref(index).expect("a value") {
                    ValueRef::Null => Value::Null,
                    ValueRef::Integer(number) if name.starts_with("is_") => (number == 1).into(),
                    ValueRef::Integer(number) if name == "token_ttl" => {
                        let seconds = number / 1_000_000;
                        format!(
                            "{} {:02}:{:02}:{:02}",
                            seconds / 86_400,
                            seconds / 3_600 % 24,
                            seconds / 60 % 60,
                            seconds % 60
                        )
                        .into()
                    }
                    ValueRef::Integer(number) => number.into(),
                    ValueRef::Text(text) => {
                        let text = String::from_utf8_lossy(text);
                        let is_time = matches!(name.as_str(), "created" | "expiry" | "last_login" | "date_joined");
                        // To the millisecond, as Django's encoder has it.
                        if is_time {
                            format!("{}Z", &text.replace(' ', "T")[..23.min(text.len())]).into()
                        } else {
                            text.into()
                        }
                    }
                    other @ (ValueRef::Real(_) | ValueRef::Blob(_)) => panic!("{other:?}"),
                };
                if name == key {
                    pk = value;
                } else {
                    fields.insert(name.strip_suffix("_id").unwrap_or(name).to_owned(), value);
                }
            }
            entries.push(json!({ "model": model, "pk": pk, "fields": fields }));
        }
    }
    entries
}

#[test]
fn a_trial_writes_nothing() {
    let site = Site::new();
    let file = site.copy("multitoken.sqlite3");
    let report = site.import(&format!("--from sqlite:{} --dry-run", file.display()));
    assert_eq!((count(&report, "users", "came"), count(&report, "tokens", "came")), (12, 8), "{report}");
    assert!(!site.path("data").exists());
    let human = site.run(&format!("import django --from sqlite:{} --dry-run --data-dir data", file.display()));
    assert!(human.stdout.contains("nothing was written") && human.stdout.contains("8 came"), "{human:?}");
}

/// A project with one user and durin's tables, ready for whatever a test adds.
fn project(site: &Site, users: u32) -> (PathBuf, Connection) {
    let path = site.path("project.sqlite3");
    let database = Connection::open(&path).expect("a database");
    database
        .execute_batch(
            "CREATE TABLE auth_user (id integer PRIMARY KEY AUTOINCREMENT, password varchar(128) NOT NULL, last_login datetime,
               is_superuser bool NOT NULL, username varchar(150) NOT NULL UNIQUE, last_name varchar(150) NOT NULL,
               email varchar(254) NOT NULL, is_staff bool NOT NULL, is_active bool NOT NULL, date_joined datetime NOT NULL,
               first_name varchar(150) NOT NULL);
             CREATE TABLE drf_multitokenauth_multitoken (key varchar(64) NOT NULL UNIQUE, created datetime NOT NULL,
               user_agent varchar(256) NOT NULL, user_id integer NOT NULL REFERENCES auth_user (id), last_known_ip char(39) NOT NULL,
               id integer PRIMARY KEY AUTOINCREMENT, name varchar(256) NOT NULL);",
        )
        .expect("tables");
    for user in 1..=users {
        database
            .execute(
                "INSERT INTO auth_user VALUES (?1, '!', NULL, 0, ?2, '', '', 0, 1, '2026-01-01 00:00:00', '')",
                (user, format!("user{user}")),
            )
            .expect("a user");
    }
    (path, database)
}

fn key(number: u32) -> String {
    Sha256::digest(number.to_be_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn add_token(database: &Connection, number: u32, user: u32) {
    database
        .execute(
            "INSERT INTO drf_multitokenauth_multitoken VALUES (?1, '2026-01-01 00:00:00', '', ?2, '127.0.0.1', ?3, '')",
            (key(number), user, number),
        )
        .expect("a token");
}

#[test]
fn an_import_that_is_killed_goes_on_where_it_was() {
    const TOKENS: u32 = 60_000;
    let site = Site::new();
    let (path, database) = project(&site, 100);
    database.execute_batch("BEGIN").expect("begun");
    for number in 1..=TOKENS {
        add_token(&database, number, number % 100 + 1);
    }
    database.execute_batch("COMMIT").expect("committed");
    let line = format!("import django --from sqlite:{} --data-dir data", path.display());
    let mut child = site.command(&line).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program runs");
    // Its progress is told in tenths.
    let mut told = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().expect("stderr")));
    let line = told.next().expect("progress").expect("a line");
    assert!(line.contains("drf_multitokenauth_multitoken: "), "{line}");
    child.kill().expect("killed");
    child.wait().expect("a status");
    let report = site.import(&format!("--from sqlite:{}", path.display()));
    let (came, known) = (count(&report, "tokens", "came"), count(&report, "tokens", "known"));
    assert_eq!(came + known, u64::from(TOKENS), "{report}");
    assert!(came > 0 && known > 0, "{report}");
    let server = site.serve("");
    for number in [1, TOKENS / 10, TOKENS / 2, TOKENS] {
        assert_eq!(me(server.address, &key(number)), 200, "{number}");
    }
}

#[test]
fn a62_a_hostile_database_is_read_to_its_end_and_merges_nobody() {
    let site = Site::new();
    let (path, database) = project(&site, 1);
    database.execute_batch("DROP TABLE auth_user; CREATE TABLE auth_user (id, password, last_login, is_superuser, username, last_name, email, is_staff, is_active, date_joined, first_name)").expect("no types");
    let row = |values: &str| {
        database.execute(&format!("INSERT INTO auth_user VALUES ({values})"), []).expect(values);
    };
    // Bob and bob are two people, and a third of the same name is nobody.
    row("1, 'md5$salt$67a1e09bb1f83f5007dc119c14d663aa', NULL, 0, 'Bob', '', '', 0, 1, '2026-01-01 00:00:00', ''");
    row("2, '!', NULL, 0, 'bob', '', '', 0, 1, '2026-01-01 00:00:00', ''");
    row("3, '!', NULL, 0, 'bob', '', '', 0, 1, '2026-01-01 00:00:00', ''");
    row("1, '!', NULL, 1, 'mallory', '', '', 1, 1, '2026-01-02 00:00:00', ''");
    for odd in [
        "4, 'pbkdf2_sha256$2147483647$salt$aaaa', NULL, 0, 'rounds', '', '', 0, 1, '2026-01-01', ''",
        "5, 'scrypt$1073741824$salt$8$5$aaaa', NULL, 0, 'memory', '', '', 0, 1, '2026-01-01', ''",
        "6, x'ff00', x'00', 'x', 'types', 7, 8, 9, 'perhaps', 'yesterday', x'80'",
        "7, 'a' || char(0) || 'b', NULL, 0, 'nul', '', 'no address', 0, 1, NULL, 'a' || char(0)",
        "8, '!', NULL, 0, 'a' || char(0) || 'b', '', '', 0, 1, '2026-01-01', ''",
        "9, '!', NULL, 0, CAST(x'ff' AS text), '', '', 0, 1, '2026-01-01', ''",
        "NULL, '!', NULL, 0, 'keyless', '', '', 0, 1, '2026-01-01', ''",
        "10, '!', NULL, 0, NULL, '', '', 0, 1, '2026-01-01', ''",
        "11, '!', NULL, 0, printf('%.*c', 300, 'x'), '', '', 0, 1, '2026-01-01', ''",
        "12, printf('%.*c', 9000000, 'x'), NULL, 0, 'long', printf('%.*c', 9000000, 'x'), '', 0, 1, '2026-01-01', ''",
        "x'3133', '!', NULL, 0, 'bytes', '', '', 0, 1, '2026-01-01', ''",
        "14.5, '!', NULL, 0, 'fraction', '', '', 0, 1, '2026-01-01', ''",
        "-1, '!', NULL, 9e999, 'infinite', '', '', 0, 1, '9999-99-99', ''",
    ] {
        row(odd);
    }
    database.execute_batch("DROP TABLE drf_multitokenauth_multitoken; CREATE TABLE drf_multitokenauth_multitoken (key, created, user_agent, user_id, last_known_ip, id, name)").expect("no types");
    let good = key(1);
    let token = |values: &str| {
        database.execute(&format!("INSERT INTO drf_multitokenauth_multitoken VALUES ({values})"), []).expect(values);
    };
    token(&format!(
        "'{good}', '2026-01-01 00:00:00', printf('%.*c', 900, 'x'), 1, 'not an address', 1, printf('%.*c', 300, 'n')"
    ));
    for odd in [
        "NULL, '2026-01-01 00:00:00', '', 1, '', 2, ''",
        "x'00', '2026-01-01 00:00:00', '', 1, '', 3, ''",
        "'', '2026-01-01 00:00:00', '', 1, '', 4, ''",
        "'a b', '2026-01-01 00:00:00', '', 1, '', 5, ''",
        "printf('%.*c', 5000, 'x'), '2026-01-01 00:00:00', '', 1, '', 6, ''",
        "'key7', 'never', '', 1, '', 7, ''",
        "'key8', '2026-01-01 00:00:00', '', NULL, '', 8, ''",
        "'key9', '2026-01-01 00:00:00', '', 4711, '', 9, ''",
        "'key10', '2026-01-01 00:00:00', x'ff', 2, 7, 'ten', 9.5",
    ] {
        token(odd);
    }
    let report = site.import(&format!("--from sqlite:{}", path.display()));
    assert_eq!((count(&report, "tokens", "came"), count(&report, "tokens", "skipped")), (1, 9), "{report}");
    assert_eq!(count(&report, "users", "came") + count(&report, "users", "skipped"), 17, "{report}");
    assert!(!report.to_string().contains(&good), "no token in it");
    let server = site.serve("");
    assert_eq!(me(server.address, &good), 200);
    assert_eq!(login(server.address, "Bob", "password").status, 200, "by his own weak old hash");
    assert_eq!(login(server.address, "bob", "password").status, 401, "who is somebody else");
    let shown = |name: &str| site.operate(&format!("user show {name} --json")).json();
    assert_eq!((&shown("Bob")["id"], &shown("bob")["id"]), (&json!("1"), &json!("2")));
    assert_eq!(site.run("user show mallory --data-dir data").code, Some(1), "not on the key of somebody else");
    for harmless in ["types", "infinite"] {
        let account = shown(harmless);
        assert_eq!(
            (&account["active"], &account["role"]),
            (&json!(harmless == "infinite"), &json!("user")),
            "{account}"
        );
    }
}

#[test]
fn a_broken_file_is_a_failure_with_a_reason() {
    let site = Site::new();
    let whole = fs::read(data("durin.sqlite3")).expect("read");
    let mut broken = whole.clone();
    for byte in broken.iter_mut().skip(4_096).step_by(97) {
        *byte ^= 0xff;
    }
    fs::write(site.path("broken.sqlite3"), broken).expect("written");
    fs::write(site.path("cut.sqlite3"), &whole[..5_000]).expect("written");
    site.write("text.sqlite3", "this is no database at all");
    site.write("dump.json", "[{\"model\": \"auth.user\", ");
    for from in [
        "sqlite:broken.sqlite3",
        "sqlite:cut.sqlite3",
        "sqlite:text.sqlite3",
        "sqlite:absent",
        "dump:dump.json",
        "dump:absent",
    ] {
        let ran = site.run(&format!("import django --from {from} --data-dir data"));
        assert_eq!(ran.code, Some(1), "{from}: {ran:?}");
        assert!(ran.stderr.starts_with("error: "), "{from}: {}", ran.stderr);
    }
    let ran = site.run("import django --from mysql://x --data-dir data");
    assert_eq!(ran.code, Some(2), "{ran:?}");
}

#[test]
fn what_appears_or_vanishes_is_followed_and_what_was_ended_here_stays_so() {
    let site = Site::new();
    let (path, database) = project(&site, 3);
    for number in 1..=3 {
        add_token(&database, number, number);
    }
    let server = site.serve("");
    let command = site.command(&format!(
        "import django --from sqlite:{} --data-dir data --follow --every 1s --rollback-report lost.jsonl",
        path.display()
    ));
    let following = Following::start(command, site.path("following"));
    let becomes =
        |number: u32, status: u16| within(PATIENCE, || (me(server.address, &key(number)) == status).then_some(()));
    becomes(1, 200);
    following.hears("following");
    add_token(&database, 4, 1);
    becomes(4, 200);
    database.execute("DELETE FROM drf_multitokenauth_multitoken WHERE id = 1", []).expect("logged out there");
    becomes(1, 401);
    database.execute("UPDATE auth_user SET is_active = 0 WHERE id = 2", []).expect("shut out there");
    becomes(2, 401);
    // Ended here: it is there all the time, and does not come back.
    let three = key(3);
    let ended = send(server.address, "POST", "/v1/logout", &[("Authorization", &format!("Bearer {three}"))], "");
    assert_eq!(ended.status, 204, "{}", ended.body);
    add_token(&database, 5, 1);
    becomes(5, 200);
    assert_eq!(me(server.address, &three), 401, "though it is there still");
    following.stop();
    let lost = fs::read_to_string(site.path("lost.jsonl")).expect("a report");
    assert!(lost.lines().any(|line| line.contains("is good again there")), "{lost}");
    assert!(!lost.contains(&three));
    // Nor by another run.
    let report = site.import(&format!("--from sqlite:{}", path.display()));
    assert_eq!(count(&report, "tokens", "came"), 0, "{report}");
    assert_eq!(me(server.address, &three), 401);
    let forgotten = site.operate("import finish --yes --json").json();
    assert!(forgotten["forgotten"].as_u64() >= Some(7), "{forgotten}");
}

#[test]
fn another_project_under_the_same_name_ends_nothing() {
    let site = Site::new();
    let (path, database) = project(&site, 30);
    for number in 1..=30 {
        add_token(&database, number, number);
    }
    site.import(&format!("--from sqlite:{}", path.display()));
    database
        .execute_batch(
            "DELETE FROM drf_multitokenauth_multitoken;
             UPDATE auth_user SET date_joined = '2020-01-01 00:00:00', username = 'other' || id",
        )
        .expect("another");
    let refused = site.run(&format!("import django --from sqlite:{} --data-dir data", path.display()));
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("--source NAME") && refused.stderr.contains("none of them was ended"),
        "{}",
        refused.stderr
    );
    let server = site.serve("");
    assert_eq!(me(server.address, &key(1)), 200);
    let report = site.import(&format!("--from sqlite:{} --yes", path.display()));
    assert_eq!(count(&report, "tokens", "gone"), 30, "{report}");
    // Another process ended it: the server hears of it within its lease.
    within(PATIENCE, || (me(server.address, &key(1)) == 401).then_some(()));
}

#[test]
fn a62_a_token_is_never_given_to_somebody_else_who_has_its_owners_key_here() {
    let site = Site::new();
    let (one, first) = project(&site, 3);
    add_token(&first, 1, 1);
    first.execute_batch("UPDATE auth_user SET is_superuser = 1 WHERE id = 1").expect("an administrator");
    site.import(&format!("--from sqlite:{} --source one", one.display()));

    // Another project: its user 1 is somebody else, its user 2 cannot be read, and nobody has its key 3.
    let other = Site::new();
    let (two, second) = project(&other, 2);
    let long = "x".repeat(151);
    second
        .execute_batch(&format!(
            "PRAGMA foreign_keys = OFF;
             UPDATE auth_user SET username = 'mallory', date_joined = '2020-01-01 00:00:00' WHERE id = 1;
             UPDATE auth_user SET username = '{long}' WHERE id = 2;"
        ))
        .expect("another project");
    for (number, user) in [(11, 1), (12, 2), (13, 3)] {
        add_token(&second, number, user);
    }
    for source in ["two", "one"] {
        let line = format!("import django --from sqlite:{} --source {source} --data-dir data --json", two.display());
        let ran = site.run(&line);
        if source == "two" {
            let report = ran.json();
            assert_eq!(count(&report, "tokens", "came"), 0, "{report}");
            assert_eq!(count(&report, "tokens", "skipped"), 3, "{report}");
        } else {
            // Its name forgotten: it is another project, and nothing of the first one is ended for it.
            assert_eq!(ran.code, Some(1), "{ran:?}");
            assert!(ran.stderr.contains("--source NAME"), "{}", ran.stderr);
        }
    }
    let server = site.serve("");
    for number in [11, 12, 13] {
        assert_eq!(me(server.address, &key(number)), 401, "{number}");
    }
    assert_eq!(me(server.address, &key(1)), 200);
    server.stop();
}

#[test]
fn a_user_who_is_edited_there_stays_who_they_are_here() {
    let site = Site::new();
    let (path, database) = project(&site, 3);
    add_token(&database, 1, 1);
    site.import(&format!("--from sqlite:{}", path.display()));
    database
        .execute_batch(
            "UPDATE auth_user SET date_joined = '2024-05-05 00:00:00' WHERE id = 1;
             UPDATE auth_user SET username = 'renamed' WHERE id = 2;",
        )
        .expect("edited");
    let report = site.import(&format!("--from sqlite:{}", path.display()));
    assert_eq!((count(&report, "users", "known"), count(&report, "users", "gone")), (3, 0), "{report}");
    let server = site.serve("");
    assert_eq!(me(server.address, &key(1)), 200);
    server.stop();
}

#[test]
fn what_is_read_several_times_is_no_pipe() {
    let site = Site::new();
    let pipe = site.path("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs");
    assert!(made.success());
    for kind in ["sqlite", "dump"] {
        let ran = site.run(&format!("import django --from {kind}:{} --data-dir data", pipe.display()));
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.contains("is no file"), "{}", ran.stderr);
    }
    assert!(!site.path("data").exists());
}

/// An import that follows, until it is stopped.
struct Following {
    child: Child,
    stderr: PathBuf,
}

impl Following {
    fn start(mut command: Command, stderr: PathBuf) -> Following {
        let log = fs::File::create(&stderr).expect("a file");
        let child = command.stdout(Stdio::null()).stderr(log).spawn().expect("the program runs");
        Following { child, stderr }
    }

    fn hears(&self, what: &str) {
        within(PATIENCE, || fs::read_to_string(&self.stderr).ok().filter(|log| log.contains(what)));
    }

    fn stop(mut self) {
        let id = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("an id");
        rustix::process::kill_process(id, Signal::INT).expect("it runs");
        let status = within(PATIENCE, || self.child.try_wait().expect("a status"));
        assert!(status.success(), "{status}: {}", fs::read_to_string(&self.stderr).expect("stderr"));
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
