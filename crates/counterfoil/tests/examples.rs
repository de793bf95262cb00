//! Every example, run as its reader runs it and asked over the network: what it lets in, and what it refuses.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery staple";

/// An example that is running, in an empty directory of its own.
struct Example {
    program: Child,
    stdout: BufReader<ChildStdout>,
    address: String,
    _directory: tempfile::TempDir,
}

impl Drop for Example {
    fn drop(&mut self) {
        self.program.kill().ok();
        self.program.wait().ok();
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// Whether it refuses, with that status and that type of problem.
    #[track_caller]
    fn refuses(&self, status: u16, problem: &str) {
        assert_eq!(
            (self.status, self.json()["type"].as_str()),
            (status, Some(&*format!("urn:counterfoil:problem:{problem}")))
        );
    }

    #[track_caller]
    fn says(&self, body: &str) {
        assert_eq!((self.status, self.body.trim_end()), (200, body));
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Example {
    /// Cargo builds the examples of a package with its tests, and puts them beside those.
    fn run(name: &str) -> Example {
        let tests = std::env::current_exe().expect("this program");
        let built = tests.parent().and_then(|deps| deps.parent()).expect("the profile's directory").join("examples");
        let program: PathBuf = built.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
        let directory = tempfile::tempdir().expect("directory");
        let mut command = Command::new(&program);
        command.arg("127.0.0.1:0").current_dir(directory.path()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut program = command.spawn().unwrap_or_else(|error| {
            panic!("{}: {error}; cargo build --package counterfoil --examples", program.display())
        });
        let stdout = BufReader::new(program.stdout.take().expect("stdout"));
        let mut example = Example { program, stdout, address: String::new(), _directory: directory };
        let line = example.line();
        if let Some(address) = line.strip_prefix("listening on http://") {
            example.address = address.to_owned();
        } else {
            // One that says something before.
            example.address = example.line().strip_prefix("listening on http://").expect("an address").to_owned();
            example.address = format!("{}\n{line}", example.address);
        }
        example
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> Answer {
        let address = self.address.lines().next().expect("an address");
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        if !body.is_empty() {
            request.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
        }
        let mut stream = TcpStream::connect(address).expect("connected");
        write!(stream, "{request}\r\n{body}").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], None)
    }

    fn get_with(&self, path: &str, token: &str) -> Answer {
        self.send("GET", path, &[("Authorization", &format!("Bearer {token}"))], None)
    }

    fn post_with(&self, path: &str, token: &str, body: Option<&Value>) -> Answer {
        self.send("POST", path, &[("Authorization", &format!("Bearer {token}"))], body)
    }

    fn login(&self, username: &str, client: &str) -> String {
        let body = json!({"username": username, "password": PASSWORD, "client": client});
        let answer = self.send("POST", "/v1/login", &[], Some(&body));
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["token"].as_str().expect("a token").to_owned()
    }
}

#[test]
fn the_minimal_service_knows_who_logged_in_until_they_log_out() {
    let example = Example::run("minimal");
    let refused = example.get("/hello");
    refused.refuses(401, "token-missing");
    assert_eq!(refused.header("www-authenticate"), Some("Bearer realm=\"counterfoil\""));
    let wrong = json!({"username": "ada", "password": "12345678"});
    example.send("POST", "/v1/login", &[], Some(&wrong)).refuses(401, "invalid-credentials");

    let token = example.login("ada", "default");
    let hello = example.get_with("/hello", &token);
    assert!(hello.status == 200 && hello.body.starts_with("Hello, "), "{}", hello.body);
    assert_eq!(example.get_with("/v1/tokens", &token).json()["items"][0]["first_seen"]["ip"], "127.0.0.1");
    assert_eq!(example.post_with("/v1/logout", &token, None).status, 204);
    example.get_with("/hello", &token).refuses(401, "invalid-token");
}

#[test]
fn a_table_of_users_of_ones_own_lets_in_whom_it_says_and_nobody_who_left() {
    let example = Example::run("own_users");
    let (first, second) = (example.login("ada", "default"), example.login("ada", "default"));
    example.get_with("/hello", &first).says("Hello, user:42.");
    let nobody = json!({"username": "grace", "password": PASSWORD});
    example.send("POST", "/v1/login", &[], Some(&nobody)).refuses(401, "invalid-credentials");
    assert_eq!(example.post_with("/leave", &first, None).status, 204);
    for token in [&first, &second] {
        example.get_with("/hello", token).refuses(401, "invalid-token");
    }
    let ada = json!({"username": "ada", "password": PASSWORD});
    example.send("POST", "/v1/login", &[], Some(&ada)).refuses(401, "invalid-credentials");
}

#[test]
fn clients_have_their_rules_and_routes_say_whom_they_are_for() {
    let example = Example::run("clients_and_guards");
    let [page, kiosk] = ["web", "kiosk"].map(|client| example.login("ada", client));
    example.get_with("/page", &page).says("for the page");
    example.get_with("/script", &page).refuses(403, "client-not-allowed");
    example.get("/page").refuses(401, "token-missing");

    let terminal = example.login("ada", "terminal");
    example.get_with("/page", &terminal).refuses(403, "client-not-allowed");
    for _ in 0..4 {
        example.get_with("/script", &terminal).says("not for the page");
    }
    let late = example.get_with("/script", &terminal);
    late.refuses(429, "quota-exceeded");
    assert!(late.header("retry-after").is_some());

    for _ in 0..3 {
        example.get_with("/export", &page).says("three a minute");
    }
    example.get_with("/export", &page).refuses(429, "quota-exceeded");
    example.get_with("/export", &kiosk).says("three a minute");
    example.get_with("/close", &page).says("asked for a minute ago");
    assert!(example.get_with("/report", &page).body.starts_with("the report of "));
    example.get_with("/report", &kiosk).refuses(403, "client-not-allowed");
    example.get_with("/office", &page).refuses(403, "staff-needed");
    example.get_with("/office", &example.login("grace", "web")).says("for staff");
}

#[test]
fn a_key_does_what_it_was_made_for_until_it_is_revoked() {
    let example = Example::run("api_keys");
    let login = example.login("ada", "default");
    let order = json!({"name": "backup", "abilities": ["files:read"]});
    let made = example.post_with("/v1/keys", &login, Some(&order));
    assert_eq!(made.status, 201, "{}", made.body);
    let (key, id) = (made.json()["token"].as_str().expect("a key").to_owned(), made.json()["id"].clone());
    let read = example.send("GET", "/files", &[("X-Api-Key", &key)], None);
    assert!(read.status == 200 && read.body.ends_with("read with a key\n"), "{}", read.body);
    let refused = example.send("PUT", "/files", &[("X-Api-Key", &key)], None);
    refused.refuses(403, "insufficient-ability");
    assert!(refused.header("www-authenticate").is_some_and(|challenge| challenge.contains("scope=\"files:write\"")));
    assert_eq!(example.send("PUT", "/files", &[("Authorization", &format!("Bearer {login}"))], None).body, "written\n");
    let more = json!({"abilities": ["*"]});
    example.post_with("/v1/keys", &key, Some(&more)).refuses(403, "insufficient-ability");

    let path = format!("/v1/keys/{}", id.as_str().expect("an id"));
    assert_eq!(example.send("DELETE", &path, &[("Authorization", &format!("Bearer {login}"))], None).status, 204);
    example.send("GET", "/files", &[("X-Api-Key", &key)], None).refuses(401, "invalid-token");
}

#[test]
fn a_page_keeps_its_token_in_a_cookie_that_no_other_site_can_use() {
    let example = Example::run("cookies");
    assert!(example.get("/").body.contains("<title>Notes</title>"));
    example.get("/notes").says("nobody is logged in");

    let login = json!({"username": "ada", "password": PASSWORD, "cookie": true});
    let from_elsewhere = [("Sec-Fetch-Site", "cross-site"), ("Origin", "https://evil.example")];
    example.send("POST", "/v1/login", &from_elsewhere, Some(&login)).refuses(403, "cross-site");
    let own = ("Sec-Fetch-Site", "same-origin");
    let answer = example.send("POST", "/v1/login", &[own], Some(&login));
    assert_eq!((answer.status, answer.json().get("token")), (200, None), "no script sees it");
    let cookie = answer.header("set-cookie").expect("a cookie");
    for part in ["__Host-counterfoil=cf_", "HttpOnly", "Secure", "Path=/", "SameSite="] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let cookie = ("Cookie", cookie.split(';').next().expect("a pair"));
    assert!(example.send("GET", "/notes", &[cookie], None).body.starts_with("the notes of "));
    assert_eq!(example.send("POST", "/notes", &[cookie, own], None).body, "noted\n");
    let forged = [cookie, from_elsewhere[0], from_elsewhere[1]];
    example.send("POST", "/notes", &forged, None).refuses(403, "cross-site");
    example.send("POST", "/v1/logout", &forged, None).refuses(403, "cross-site");
    assert_eq!(example.send("POST", "/v1/logout", &[cookie, own], None).status, 204);
    example.send("GET", "/notes", &[cookie], None).refuses(401, "invalid-token");
}

#[test]
fn a_plain_tower_service_sees_nobody_without_a_token() {
    let example = Example::run("tower_service");
    let token =
        example.address.lines().nth(1).and_then(|line| line.strip_prefix("token ")).expect("a token").to_owned();
    example.get_with("/anything", &token).says("/anything for user:42");
    example.get("/anything").refuses(401, "token-missing");
    example.get_with("/anything", &format!("{token}x")).refuses(401, "invalid-token");
}

#[test]
fn a_service_whose_users_register_and_confirm_on_ready_made_pages() {
    let mut example = Example::run("accounts");
    let page = example.get("/auth/register");
    assert!(page.status == 200 && page.body.contains("<h1>Create an account</h1>"), "{}", page.body);
    let ada = json!({"username": "ada", "password": PASSWORD, "email": "ada@example.org"});
    assert_eq!(example.send("POST", "/auth/v1/register", &[], Some(&ada)).status, 201);
    let mail = example.line();
    let link = mail.strip_prefix("mail to ada@example.org: confirm_address http://").expect("a mail");
    let (_, path) = link.split_once("/auth/").expect("under the path of the routes");
    let page = example.get(&format!("/auth/{path}"));
    assert!(page.status == 200 && page.body.contains("ada@example.org"), "{}", page.body);
    let secret = path.strip_prefix("email/confirm/").expect("the page to confirm");
    let wrong = json!({"token": secret, "password": "not the password of ada"});
    example.send("POST", "/auth/v1/email/confirm", &[], Some(&wrong)).refuses(403, "wrong-password");
    let right = json!({"token": secret, "password": PASSWORD});
    assert_eq!(example.send("POST", "/auth/v1/email/confirm", &[], Some(&right)).status, 200);
    assert_eq!(example.get(&format!("/auth/{path}")).status, 400, "once");
    let login = json!({"username": "ada@example.org", "password": PASSWORD});
    let token = example.send("POST", "/auth/v1/login", &[], Some(&login)).json()["token"].as_str().map(str::to_owned);
    assert_eq!(example.get_with("/", &token.expect("a token")).status, 200);
    assert_eq!(example.get("/auth/v1/admin/users").status, 404);
}
