//! The program with its tokens in a real Redis and the rest elsewhere: what an operator types, and what is promised until a failover.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use counterfoil::Timestamp;
use counterfoil_lab::postgres;
use counterfoil_lab::redis::{Options, Reply, Server as Redis, Stop};
use serde_json::json;

use crate::doctoring;
use crate::exchange::{PATIENCE, login, me, send, token};
use crate::running::{PASSWORD, Ran, Server, Site, any_file_has, clock, within};

/// Within which nothing is answered from memory any more, and a little for the test to look.
const LEASE: Duration = Duration::from_millis(1_000);

/// One that keeps what it acknowledged.
fn durable() -> Redis {
    Options::new().set("appendonly", "yes").set("appendfsync", "always").start()
}

/// Users in the embedded store, unless `more` says otherwise, and tokens in Redis.
struct Apart {
    site: Site,
    redis: Redis,
}

impl Apart {
    fn new(more: &str) -> Apart {
        Apart::on(durable(), more)
    }

    fn on(redis: Redis, more: &str) -> Apart {
        let site = Site::new();
        let settings = format!("data_dir = \"data\"\n[store]\ntokens_url = \"{}\"\n{more}", redis.url());
        site.write("counterfoil.toml", &settings);
        Apart { site, redis }
    }

    fn run(&self, line: &str) -> Ran {
        self.site.run(&format!("{line} --config counterfoil.toml"))
    }

    fn operate(&self, line: &str) -> Ran {
        let ran = self.run(line);
        assert_eq!(ran.code, Some(0), "{line}: {}{}", ran.stdout, ran.stderr);
        ran
    }

    fn user(&self, name: &str) {
        self.operate(&format!("user create {name} --password-file password.txt"));
    }

    fn serve(&self) -> Server {
        self.serve_with("counterfoil.toml")
    }

    fn serve_with(&self, config: &str) -> Server {
        let command = self.site.command(&format!("serve --listen 127.0.0.1:0 --config {config}"));
        Server::start(command, self.site.path("stderr"))
    }

    /// In how many keys and values of the server `text` is found, and how many there are.
    fn found_in_redis(&self, text: &str) -> (i64, i64) {
        const EVERYTHING: &str = "local hits, seen = 0, 0
            local function look(v) seen = seen + 1; if string.find(v, ARGV[1], 1, true) then hits = hits + 1 end end
            for _, k in ipairs(redis.call('KEYS', '*')) do
              look(k)
              local t = redis.call('TYPE', k).ok
              local vs = t == 'string' and { redis.call('GET', k) } or t == 'hash' and redis.call('HGETALL', k)
                or t == 'list' and redis.call('LRANGE', k, 0, -1) or t == 'zset' and redis.call('ZRANGE', k, 0, -1)
                or t == 'set' and redis.call('SMEMBERS', k)
              for _, v in ipairs(vs) do look(v) end
            end
            return { hits, seen }";
        let answer = self.redis.command(&["EVAL", EVERYTHING, "0", text]);
        let Reply::List(both) = answer else { panic!("{answer:?}") };
        let [Reply::Number(hits), Reply::Number(seen)] = both[..] else { panic!("{both:?}") };
        (hits, seen)
    }

    /// The server's own expiries of all records of tokens, in milliseconds from now; -1 for one that it keeps.
    fn lives_in_redis(&self, kind: char) -> Vec<i64> {
        let script = format!(
            "local all = {{}} for _, k in ipairs(redis.call('KEYS', '{{cf}}:{kind}:*')) do all[#all + 1] = redis.call('PTTL', k) end \
             return all"
        );
        let Reply::List(lives) = self.redis.command(&["EVAL", &script, "0"]) else { panic!("no list") };
        lives.iter().map(|life| if let Reply::Number(life) = life { *life } else { panic!("{life:?}") }).collect()
    }
}

fn readiness(address: SocketAddr) -> u16 {
    send(address, "GET", "/readyz", &[], "").status
}

#[test]
fn a_token_in_redis_is_checked_ended_and_outlives_the_server_and_the_redis() {
    let apart = Apart::new("");
    apart.user("ada");
    let server = apart.serve();
    let (kept, _) = token(server.address, "ada", PASSWORD);
    let (lost, id) = token(server.address, "ada", PASSWORD);
    let (own, _) = token(server.address, "ada", PASSWORD);
    assert_eq!([&kept, &lost, &own].map(|text| me(server.address, text)), [200; 3]);
    apart.operate(&format!("token revoke {id}"));
    within(Duration::from_secs(1), || (me(server.address, &lost) == 401).then_some(()));
    let authorization = format!("Bearer {own}");
    assert_eq!(send(server.address, "POST", "/v1/logout", &[("Authorization", &authorization)], "").status, 204);
    assert_eq!(me(server.address, &own), 401, "at once");
    apart.operate("user disable ada --wait everywhere");
    assert_eq!(me(server.address, &kept), 401);
    apart.operate("user enable ada --wait everywhere");
    let again = |server: &Server| [&kept, &lost, &own].map(|text| me(server.address, text));
    assert_eq!(again(&server), [200, 401, 401]);
    server.stop();

    let server = apart.serve();
    assert_eq!(again(&server), [200, 401, 401], "another process");
    apart.redis.stop(Stop::Kill);
    apart.redis.begin();
    within(PATIENCE, || (me(server.address, &kept) == 200).then_some(()));
    assert_eq!(again(&server), [200, 401, 401], "another Redis on the same file");
    server.stop();
    let copied = apart.operate("backup night.backup --json").json();
    assert_eq!(
        (&copied["tokens"], &copied["accounts"], &copied["check_keys_inside"]),
        (&json!(0), &json!(1), &json!(false)),
        "{copied}"
    );
}

#[test]
fn f24_another_redis_than_that_of_the_users_ends_nothing_and_is_begun_only_when_told() {
    let apart = Apart::new("");
    apart.user("ada");
    let mistaken = format!("data_dir = \"data\"\n[store]\ntokens_url = \"{}?prefix=other\"\n", apart.redis.url());
    apart.site.write("mistaken.toml", &mistaken);
    for line in ["user disable ada", "token revoke --everybody --yes", "doctor", "serve --listen 127.0.0.1:0"] {
        let refused = apart.site.run(&format!("{line} --config mistaken.toml"));
        assert_eq!(refused.code, Some(1), "{line}: {refused:?}");
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert!(said.contains("--begin-tokens-anew"), "{line}: {said}");
    }
    assert_eq!(apart.found_in_redis("{other}").0, 0, "nothing was begun there");

    let server = apart.serve();
    let (text, _) = token(server.address, "ada", PASSWORD);
    server.stop();
    apart.redis.command(&["FLUSHALL"]);
    assert_eq!(apart.run("serve --listen 127.0.0.1:0").code, Some(1));
    let line = "serve --listen 127.0.0.1:0 --config counterfoil.toml --begin-tokens-anew";
    let server = Server::start(apart.site.command(line), apart.site.path("stderr"));
    assert_eq!(me(server.address, &text), 401);
    let (text, _) = token(server.address, "ada", PASSWORD);
    server.stop();
    let server = apart.serve();
    assert_eq!(me(server.address, &text), 200);
    server.stop();
}

/// The tally that the doctor tells of.
fn tally(apart: &Apart) -> String {
    let told = apart.run("doctor").stdout;
    let line = told.lines().find(|line| line.contains("  tally  ")).unwrap_or_else(|| panic!("{told}"));
    line.rsplit(' ').next().expect("a word").to_owned()
}

#[test]
fn a85_the_redis_of_staging_is_refused_with_the_accounts_of_production_and_answers_nothing_while_they_are_served() {
    let staging = Apart::new("");
    staging.user("ada");
    // A database of the same Redis, so that the two can change places.
    let production = Site::new();
    let (of_production, of_staging) = (staging.redis.url_of(1), staging.redis.url());
    let settings = |tokens: &str| format!("data_dir = \"data\"\n[store]\ntokens_url = \"{tokens}\"\n");
    production.write("counterfoil.toml", &settings(&of_production));
    production.write("mistaken.toml", &settings(&of_staging));
    let made = production.run("user create ada --password-file password.txt --config counterfoil.toml");
    assert_eq!(made.code, Some(0), "{made:?}");
    let server = production.serve("--config counterfoil.toml");
    let other = staging.serve();
    let ((ours, id), (theirs, _)) = (token(server.address, "ada", PASSWORD), token(other.address, "ada", PASSWORD));

    let kept = staging.found_in_redis("").1;
    let their_tally = tally(&staging);
    let lines = ["user disable ada", "user list", "token revoke --everybody --yes", "doctor"].map(str::to_owned);
    for line in lines.into_iter().chain([format!("token revoke {id}")]) {
        let refused = production.run(&format!("{line} --config mistaken.toml"));
        assert_eq!(refused.code, Some(1), "{line}: {refused:?}");
        let said = format!("{}{}", refused.stdout, refused.stderr);
        for told in ["another deployment's", their_tally.as_str(), "store.tokens_url"] {
            assert!(said.contains(told), "{line}: {told}: {said}");
        }
    }
    assert_eq!((me(server.address, &ours), me(other.address, &theirs)), (200, 200), "and nothing was ended");
    assert_eq!(staging.found_in_redis("").1, kept, "nothing was written there");

    // What stands behind the address is exchanged.
    staging.redis.command(&["SWAPDB", "0", "1"]);
    let exchanged = clock();
    within(PATIENCE, || (clock() - exchanged >= LEASE).then_some(()));
    for (address, own, foreign) in [(server.address, &ours, &theirs), (other.address, &theirs, &ours)] {
        assert_eq!((me(address, own), readiness(address)), (503, 503));
        assert_eq!(me(address, foreign), 401, "by its check, which this node has not minted: nobody is asked");
    }
    assert_eq!(login(server.address, "ada", PASSWORD).status, 503);
    staging.redis.command(&["SWAPDB", "0", "1"]);
    within(PATIENCE, || (me(server.address, &ours) == 200).then_some(()));
    assert_eq!((me(server.address, &theirs), me(other.address, &ours)), (401, 401));
    within(PATIENCE, || (me(other.address, &theirs) == 200).then_some(()));
    server.stop();
    other.stop();

    for line in ["serve --listen 127.0.0.1:0", "serve --listen 127.0.0.1:0 --begin-tokens-anew"] {
        let refused = production.run(&format!("{line} --config mistaken.toml"));
        assert_eq!(refused.code, Some(1), "{line}: {refused:?}");
        assert!(refused.stderr.contains(&their_tally) && refused.stderr.contains("their tally"), "{refused:?}");
    }
    let server = production.serve("--config counterfoil.toml");
    assert_eq!(me(server.address, &ours), 200);
    server.stop();
}

#[test]
fn f24_what_a_flush_took_is_401_and_a_redis_that_is_away_is_503_and_never_a_yes_after_the_lease() {
    let apart = Apart::new("");
    apart.user("ada");
    let server = apart.serve();
    let address = server.address;
    let (text, _) = token(address, "ada", PASSWORD);
    assert_eq!((me(address, &text), readiness(address)), (200, 200));
    apart.redis.command(&["FLUSHALL"]);
    let flushed = clock();
    within(PATIENCE, || (clock() - flushed >= LEASE).then_some(()));
    assert_eq!(me(address, &text), 401, "at the end of the lease");
    let (text, _) = token(address, "ada", PASSWORD);
    let (ended, id) = token(address, "ada", PASSWORD);
    assert_eq!((me(address, &text), me(address, &ended)), (200, 200), "the deployment goes on as a new one");
    apart.operate(&format!("token revoke {id} --wait everywhere"));

    apart.redis.stop(Stop::Kill);
    let gone = clock();
    let during = within(PATIENCE, || {
        let said = me(address, &text);
        assert!(matches!(said, 200 | 503), "{said}: a Redis that is away ends no token");
        (clock() - gone >= LEASE).then_some(said)
    });
    // That one may have been asked for before the lease had ended.
    assert!(matches!(during, 200 | 503), "{during}");
    for _ in 0..20 {
        assert_eq!((me(address, &text), me(address, &ended), readiness(address)), (503, 503, 503));
    }
    assert_eq!(login(address, "ada", PASSWORD).status, 503);
    apart.redis.begin();
    within(PATIENCE, || (me(address, &text) == 200).then_some(()));
    within(PATIENCE, || (readiness(address) == 200).then_some(()));
    assert_eq!(me(address, &ended), 401);
    apart.redis.freeze();
    let frozen = clock();
    within(PATIENCE, || (clock() - frozen >= LEASE).then_some(()));
    assert_eq!(me(address, &text), 503, "one that answers nobody");
    apart.redis.thaw();
    within(PATIENCE, || (me(address, &text) == 200).then_some(()));
    server.stop();
    apart.redis.stop(Stop::Kill);
    let refused = apart.run("serve --listen 127.0.0.1:0");
    assert!(refused.code == Some(1) && refused.stderr.contains("store.tokens_url"), "{refused:?}");
}

#[test]
fn a09_two_nodes_with_users_in_postgresql_share_their_tokens_in_redis() {
    let database = postgres::database();
    let apart = Apart::new(&format!("url = \"{}\"\n", database.url()));
    apart.user("ada");
    let nodes = [apart.serve(), apart.serve()];
    let (kept, _) = token(nodes[0].address, "ada", PASSWORD);
    let (lost, id) = token(nodes[1].address, "ada", PASSWORD);
    let everywhere = |text: &str, status| nodes.iter().all(|node| me(node.address, text) == status);
    assert!(everywhere(&kept, 200) && everywhere(&lost, 200));
    let authorization = format!("Bearer {kept}");
    let path = format!("/v1/tokens/{id}");
    assert_eq!(send(nodes[0].address, "DELETE", &path, &[("Authorization", &authorization)], "").status, 204);
    assert_eq!(me(nodes[0].address, &lost), 401, "at once, where it was ended");
    let acknowledged = clock();
    within(PATIENCE, || (clock() - acknowledged >= LEASE).then_some(()));
    assert!(everywhere(&lost, 401) && everywhere(&kept, 200));
    apart.operate("token revoke --everybody --yes --wait everywhere");
    assert!(everywhere(&kept, 401));
    assert_eq!(database_tokens(&database), 0, "none of them is in PostgreSQL");
    for node in nodes {
        node.stop();
    }
}

fn database_tokens(database: &postgres::Database) -> i64 {
    let mut client = ::postgres::Client::connect(database.url(), ::postgres::NoTls).expect("connected");
    client.query_one("SELECT count(*) FROM tokens", &[]).expect("a count").get(0)
}

#[test]
fn nothing_is_ended_where_the_tokens_are_not() {
    let apart = Apart::new("");
    apart.user("ada");
    let server = apart.serve();
    let (text, id) = token(server.address, "ada", PASSWORD);
    let refused = |ran: Ran, code: i32, why: &str| {
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert!(ran.stderr.contains(why), "{why}: {}", ran.stderr);
    };
    // As if the tokens were with the users.
    for line in [
        "user disable ada",
        "user list",
        "token revoke --everybody --yes",
        "user create eve --password-file password.txt",
    ] {
        refused(apart.site.run(&format!("{line} --data-dir data")), 1, "store.tokens_url");
    }
    refused(apart.site.run(&format!("token revoke {id} --data-dir data")), 1, "store.tokens_url");
    assert_eq!(me(server.address, &text), 200, "and nothing was");
    server.stop();
    refused(apart.site.run("serve --listen 127.0.0.1:0 --data-dir data"), 1, "store.tokens_url");
    let doctor = apart.site.run("doctor --data-dir data");
    assert!(doctor.code == Some(1) && doctor.stdout.contains("store.tokens_url"), "{doctor:?}");

    apart.operate("backup night.backup");
    refused(apart.run("restore night.backup --replace --revoke-all --yes"), 2, "token revoke --everybody");
    let restored = apart.operate("restore night.backup --replace --yes").stdout;
    assert!(restored.contains("--accept-rewind") && !restored.contains("--revoke-rewound"), "{restored}");
    refused(apart.run("serve --listen 127.0.0.1:0 --revoke-rewound"), 2, "--accept-rewind");
    let server = apart.site.command("serve --listen 127.0.0.1:0 --accept-rewind --config counterfoil.toml");
    let server = Server::start(server, apart.site.path("stderr"));
    assert_eq!(me(server.address, &text), 200);
    server.stop();

    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/import/durin.sqlite3");
    fs::copy(project, apart.site.path("durin.sqlite3")).expect("a copy");
    refused(apart.run("import django --from sqlite:durin.sqlite3"), 1, "without store.tokens_url");
    refused(apart.run("import finish --yes"), 1, "without store.tokens_url");
    let copy = format!("store copy --from {} --to sqlite:elsewhere --yes", apart.redis.url());
    refused(apart.site.run(&copy), 2, "are not copied");
    refused(apart.site.run(&format!("user list --store {}", apart.redis.url())), 2, "store.tokens_url");
    apart.site.write(
        "long.toml",
        &format!("[store]\ntokens_url = \"{}\"\n[tokens]\nretention = \"100d\"\n", apart.redis.url()),
    );
    refused(apart.site.run("config check --config long.toml"), 2, "keep_dead_days=101");

    // Users who were copied into another store have their tokens where they were.
    let database = postgres::database();
    let copied = apart.site.run(&format!("store copy --from sqlite:data --to {} --yes", database.url()));
    assert_eq!(copied.code, Some(0), "{copied:?}");
    refused(apart.site.run(&format!("user disable ada --store {}", database.url())), 1, "store.tokens_url");
    let line = format!("serve --listen 127.0.0.1:0 --store {} --config counterfoil.toml", database.url());
    let server = apart.site.command(&line);
    let server = Server::start(server, apart.site.path("stderr"));
    assert_eq!(me(server.address, &text), 200);
    server.stop();

    // And the other way round: who has tokens with the users, keeps them there.
    let together = Site::new();
    together.user("ada");
    let settings = format!("[store]\ntokens_url = \"{}?prefix=other\"\n", apart.redis.url());
    let config = together.write("counterfoil.toml", &settings);
    refused(together.run(&format!("user list --data-dir data --config {config}")), 1, "tokens do not move to Redis");
    refused(
        together.run(&format!("serve --listen 127.0.0.1:0 --data-dir data --config {config}")),
        1,
        "leave store.tokens_url",
    );
}

#[test]
fn r34_the_password_of_the_redis_is_shown_nowhere() {
    let redis = durable();
    assert_eq!(redis.command(&["CONFIG", "SET", "requirepass", "hunter2"]), Reply::Text("OK".into()));
    let site = Site::new();
    let url = site.write("url", &format!("redis://:hunter2@127.0.0.1:{}\n", redis.port()));
    site.write("counterfoil.toml", "[store]\ntokens_url_file = \"url\"\n");
    let read_by_all = site.run("user list --config counterfoil.toml");
    assert!(read_by_all.code == Some(2) && read_by_all.stderr.contains("chmod 0600"), "{read_by_all:?}");
    fs::set_permissions(&url, fs::Permissions::from_mode(0o600)).expect("its mode");
    let wrong = site.write("wrong", &format!("redis://:hunter3@127.0.0.1:{}\n", redis.port()));
    fs::set_permissions(&wrong, fs::Permissions::from_mode(0o600)).expect("its mode");
    site.write("wrong.toml", "[store]\ntokens_url_file = \"wrong\"\n");
    site.operate("user create ada --password-file password.txt --config counterfoil.toml");
    for config in ["counterfoil.toml", "wrong.toml"] {
        for line in ["user list --data-dir data", "doctor --data-dir data", "config show", "config check"] {
            let ran = site.run(&format!("{line} --config {config}"));
            assert!(!ran.stdout.contains("hunter") && !ran.stderr.contains("hunter"), "{line}: {ran:?}");
            let is_refused = config == "wrong.toml" && !line.starts_with("config");
            assert_eq!(ran.code, Some(i32::from(is_refused)), "{line} {config}: {ran:?}");
        }
    }
    let server = site.serve("--config counterfoil.toml");
    assert_eq!(login(server.address, "ada", PASSWORD).status, 200);
    let log = server.log_with("tokens are kept in Redis");
    assert!(!log.contains("hunter"), "{log}");
    server.stop();
}

#[test]
fn a_redis_that_endangers_tokens_is_told_of_by_the_doctor_in_words() {
    let apart = Apart::on(Redis::start(), "");
    apart.user("ada");
    apart.operate("user set-role ada admin");
    let found = |verdict: &str, what: &str| {
        doctoring::found(&apart.site, "--config counterfoil.toml", verdict, "tokens", what);
    };
    let set = |name: &str, value: &str| {
        assert_eq!(apart.redis.command(&["CONFIG", "SET", name, value]), Reply::Text("OK".into()));
    };
    found("ok", "until a failover");
    found("fault", "a restart loses every token");
    set("save", "3600 1");
    found("warning", "minutes old");
    set("appendonly", "yes");
    found("warning", "a power cut takes the last second back");
    set("appendfsync", "always");
    set("maxmemory-policy", "allkeys-lru");
    found("fault", "throws away tokens");
    set("maxmemory-policy", "noeviction");
    let doctor = apart.run("doctor");
    assert_eq!(doctor.stdout.lines().filter(|line| line.contains("  tokens  ")).count(), 1, "{}", doctor.stdout);
    let replica = apart.redis.replica();
    found("warning", "min-replicas-to-write is 0");
    found("ok", "wait_replicas=1");
    let (config, url) = (apart.site.path("counterfoil.toml"), replica.url());
    let sound = fs::read_to_string(&config).expect("settings");
    fs::write(&config, sound.replace(&apart.redis.url(), &url)).expect("written");
    found("fault", "a replica");
    fs::write(&config, sound).expect("written");
    apart.redis.stop(Stop::Kill);
    found("fault", "does not answer");
}

/// What `GET /v1/me`, which uses it, says of when a token ends.
fn end_of(address: SocketAddr, text: &str) -> Option<Timestamp> {
    let authorization = format!("Bearer {text}");
    let answer = send(address, "GET", "/v1/me", &[("Authorization", &authorization)], "");
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["token"]["expires_at"].as_str().map(|end| end.parse().expect("an instant"))
}

/// Logs in as an application of djforge's does.
fn djforge_login(address: SocketAddr, path: &str) -> String {
    let body = json!({ "username": "ada", "password": PASSWORD }).to_string();
    let answer = send(address, "POST", &format!("{path}/login/"), &[("Content-Type", "application/json")], &body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["token"].as_str().expect("a token").to_owned()
}

fn mount(path: &str, timeout: &str, more: &str) -> String {
    let timeout =
        if timeout.is_empty() { String::new() } else { format!("[mount.CACHES.tokens]\nTIMEOUT = {timeout}\n") };
    let own = if more.is_empty() { String::new() } else { format!("[mount.DJFORGE_REDIS_MULTITOKENS]\n{more}\n") };
    format!("[[mount]]\npath = \"/{path}\"\ndialect = \"djforge\"\nclient = \"{path}\"\n{timeout}{own}")
}

/// What the server's own expiry adds to the stored one, unless `keep_dead_days` says otherwise.
const KEPT_DEAD_MILLIS: i64 = 90 * 86_400_000;
/// What clocks that are read one after the other may be apart.
const APART_MILLIS: i64 = 1_000;

#[test]
fn djforges_lifetimes_are_kept_in_a_real_redis_as_digests_with_an_expiry_of_its_own() {
    let apart = Apart::new(
        &[
            mount("slides", "60", ""),
            mount("stays", "3", "RESET_TOKEN_TTL_ON_USER_LOG_IN = false"),
            mount("endless", "", "OVERWRITE_NONE_TTL = false"),
        ]
        .concat(),
    );
    apart.user("ada");
    let server = apart.serve();
    let address = server.address;
    let now = || {
        let Reply::List(time) = apart.redis.command(&["TIME"]) else { panic!("no time") };
        let [seconds, micros] = time.try_into().expect("two numbers");
        let number = |text: Reply| text.text().parse::<i64>().expect("a number");
        number(seconds) * 1_000 + number(micros) / 1_000
    };

    // Without TIMEOUT: no end, and none from Redis.
    let endless = djforge_login(address, "/endless");
    assert_eq!(end_of(address, &endless), None);
    assert_eq!((apart.lives_in_redis('t'), apart.lives_in_redis('d')), (vec![-1], vec![-1]));

    // RESET_TOKEN_TTL_ON_USER_LOG_IN = False: it ends when it was to end, however it is used; Redis clears it away long after.
    let stays = djforge_login(address, "/stays");
    let end = end_of(address, &stays).expect("an end").millis();
    assert!((now()..=now() + 3_000 + APART_MILLIS).contains(&end), "{end}");
    for kind in ['t', 'd'] {
        let lives = apart.lives_in_redis(kind);
        let left = lives.iter().find(|life| **life >= 0).expect("one with an end");
        assert!((left + now() - KEPT_DEAD_MILLIS - end).abs() <= APART_MILLIS, "{kind}: {lives:?}");
    }
    within(PATIENCE, || {
        let (before, said, after) = (now(), me(address, &stays), now());
        match said {
            200 => assert!(before < end + APART_MILLIS, "accepted after its end"),
            401 => assert!(after > end - APART_MILLIS, "refused before its end"),
            other => panic!("{other}"),
        }
        (said == 401).then_some(())
    });
    assert_eq!(apart.lives_in_redis('t').len(), 2, "it has ended, and Redis has not had to forget it for that");

    // TIMEOUT = 60: use moves the end on, and Redis' own with it.
    let slides = djforge_login(address, "/slides");
    let first = end_of(address, &slides).expect("an end");
    let moved = within(PATIENCE, || end_of(address, &slides).filter(|end| *end > first)).millis();
    for kind in ['t', 'd'] {
        let longest = apart.lives_in_redis(kind).into_iter().max().expect("some");
        assert!((longest + now() - KEPT_DEAD_MILLIS - moved).abs() <= 2 * APART_MILLIS, "{kind}: {longest}");
    }

    // Digests alone: no text, nor half of one, in any key or value, nor in what is on the disk.
    let Reply::List(directory) = apart.redis.command(&["CONFIG", "GET", "dir"]) else { panic!("no directory") };
    let log = Path::new(&directory[1].clone().text()).join("appendonlydir");
    for text in [&endless, &stays, &slides] {
        let (start, end) = text.split_at(text.len() / 2);
        for part in [start, end] {
            let (hits, seen) = apart.found_in_redis(part);
            assert!(hits == 0 && seen > 20, "{hits} of {seen}");
            assert!(!any_file_has(&log, part));
        }
    }
    assert!(
        apart.found_in_redis("djforge").0 == 0 && apart.found_in_redis("endless").0 > 0,
        "the scan finds what is there"
    );
    server.stop();

    // OVERWRITE_NONE_TTL, as is written in docs/dialects/djforge.md: what has no end is given none, and what has one keeps it.
    let settings = [mount("endless", "60", "OVERWRITE_NONE_TTL = true"), mount("slides", "", "")].concat();
    let config = format!("data_dir = \"data\"\n[store]\ntokens_url = \"{}\"\n{settings}", apart.redis.url());
    apart.site.write("otherwise.toml", &config);
    let server = apart.serve_with("otherwise.toml");
    let address = server.address;
    let other = djforge_login(address, "/endless");
    assert!(end_of(address, &other).is_some());
    let before = end_of(address, &slides).expect("its end");
    let used = now();
    within(PATIENCE, || (now() > used + 2_000).then_some(()));
    assert_eq!((end_of(address, &endless), end_of(address, &slides)), (None, Some(before)));
    let authorization = format!("Token {slides}");
    assert_eq!(send(address, "POST", "/slides/logout/", &[("Authorization", &authorization)], "").status, 204);
    assert_eq!((me(address, &slides), me(address, &endless)), (401, 200));
    let all = send(address, "POST", "/endless/logoutall/", &[("Authorization", &format!("Token {endless}"))], "");
    assert_eq!((all.status, me(address, &endless), me(address, &other)), (204, 401, 401));
    server.stop();
}
