//! `cargo xtask front-page`: whether a service that is written from the front page of the library alone works.
//!
//! What the page says to type is typed: its `cargo add` lines in an empty project, its first example as the program. Then it
//! is asked over the network. Only the crate itself comes from here, and the port is another one.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Failure;
use crate::process::{self, Cargo};

const PAGE: &str = "crates/counterfoil/src/front_page.md";
const ADDRESS: &str = "127.0.0.1:3000";
/// A debug build of the password hashing on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    crate::refuse_arguments(arguments)?;
    smoke()
}

/// The step of `cargo xtask test`.
pub(crate) fn smoke() -> Result<(), Failure> {
    // The port is free now and may be taken in the next moment; then this fails and says so.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let built = build(process::cargo, &address)?;
    let service = Command::new(&built).current_dir(directory()?).stdin(Stdio::null()).spawn()?;
    works(&address, &mut Service(service))?;
    println!("the service on the front page lets in whom it should, and nobody else");
    Ok(())
}

/// Builds it as the page has it. The next one needs only another address.
pub(crate) fn build_ahead(cargo: Cargo) -> Result<(), Failure> {
    build(cargo, ADDRESS).map(drop)
}

/// Where all of it lies.
fn directory() -> Result<PathBuf, Failure> {
    Ok(process::target_directory()?.join("front-page"))
}

/// Types what the page says, builds the program for that address, and says where it is.
fn build(cargo: Cargo, address: &str) -> Result<PathBuf, Failure> {
    let page = fs::read_to_string(process::root().join(PAGE))?;
    let commands = block(&page, "```sh\n").ok_or("the page has no commands")?;
    let program = block(&page, "```rust,no_run\n").ok_or("the page has no program")?;
    if !program.contains(ADDRESS) {
        return Err(format!("the program listens nowhere: it does not name {ADDRESS}").into());
    }

    let target = directory()?;
    let project = target.join("service");
    if project.exists() {
        fs::remove_dir_all(&project)?;
    }
    fs::create_dir_all(project.join("src"))?;
    // What is built here is told from the workspace around it by the last line.
    fs::write(
        project.join("Cargo.toml"),
        "[package]\nname = \"service\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n",
    )?;
    // The versions that everything else here is tested with.
    fs::copy(process::root().join("Cargo.lock"), project.join("Cargo.lock"))?;
    fs::write(project.join("src/main.rs"), "fn main() {}\n")?;
    for command in commands.lines() {
        add(command, &project)?;
    }
    fs::write(project.join("src/main.rs"), program.replace(ADDRESS, address))?;
    let mut build = cargo(&["build"]);
    // Nobody debugs it, and it is half as much to write.
    build.current_dir(&project).env("CARGO_TARGET_DIR", &target).env("CARGO_PROFILE_DEV_DEBUG", "0");
    process::run(&mut build)?;
    Ok(target.join("debug").join(format!("service{}", std::env::consts::EXE_SUFFIX)))
}

/// What is between that fence and the next one, the first time.
fn block<'a>(page: &'a str, fence: &str) -> Option<&'a str> {
    Some(page.split_once(fence)?.1.split_once("```")?.0)
}

/// `cargo add …` as it stands, with our own crate from here.
fn add(command: &str, project: &Path) -> Result<(), Failure> {
    let words = command.strip_prefix("cargo add ").ok_or_else(|| format!("not a `cargo add`: {command}"))?;
    let mut words: Vec<&str> = words.split(' ').collect();
    let run = |words: &[&str]| {
        let mut cargo = process::cargo(&["add", "--quiet"]);
        process::run(cargo.args(words).current_dir(project))
    };
    if words.contains(&"counterfoil") {
        words.retain(|word| *word != "counterfoil");
        let here = process::root().join("crates/counterfoil");
        run(&["--path", here.to_str().ok_or("a path that is no text")?])?;
    }
    if words.is_empty() { Ok(()) } else { run(&words) }
}

/// Killed when dropped, so that nothing is left running.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn works(address: &str, service: &mut Service) -> Result<(), Failure> {
    let begun = Instant::now();
    while TcpStream::connect(address).is_err() {
        if let Some(status) = service.0.try_wait()? {
            return Err(format!("the service ended with {status}").into());
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("the service did not listen within {PATIENCE:?}").into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    expect("a stranger", ask(address, "GET", "/hello", None, None)?, 401, "token-missing")?;
    let wrong = json!({"username": "ada", "password": "12345678"});
    expect("a wrong password", ask(address, "POST", "/v1/login", None, Some(&wrong))?, 401, "invalid-credentials")?;
    let right = json!({"username": "ada", "password": "correct horse battery staple"});
    let (status, body) = expect("a login", ask(address, "POST", "/v1/login", None, Some(&right))?, 200, "cf_")?;
    let answer: Value = serde_json::from_str(&body)?;
    let token = answer["token"].as_str().ok_or_else(|| format!("no token in the answer {status}"))?;
    expect("a token", ask(address, "GET", "/hello", Some(token), None)?, 200, "Hello, ")?;
    expect("an invented token", ask(address, "GET", "/hello", Some("cf_invented"), None)?, 401, "invalid-token")?;
    expect("a logout", ask(address, "POST", "/v1/logout", Some(token), None)?, 204, "")?;
    expect("a token after logout", ask(address, "GET", "/hello", Some(token), None)?, 401, "invalid-token")?;
    Ok(())
}

fn expect(what: &str, (status, body): (u16, String), wanted: u16, within: &str) -> Result<(u16, String), Failure> {
    if status == wanted && body.contains(within) {
        Ok((status, body))
    } else {
        // Not the body: that of a login holds a token.
        Err(format!("{what}: expected {wanted} with {within:?}, got {status}").into())
    }
}

fn ask(
    address: &str,
    method: &str,
    path: &str,
    bearer: Option<&str>,
    body: Option<&Value>,
) -> io::Result<(u16, String)> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n")?;
    if let Some(bearer) = bearer {
        write!(stream, "Authorization: Bearer {bearer}\r\n")?;
    }
    if !body.is_empty() {
        write!(stream, "Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())?;
    }
    write!(stream, "\r\n{body}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_block_of_its_kind_is_what_is_typed() {
        let page = "a\n```sh\ncargo add x\n```\n```rust\nlet a;\n```\n```sh\ncurl\n```\n";
        assert_eq!(block(page, "```sh\n"), Some("cargo add x\n"));
        assert_eq!(block(page, "```rust,no_run\n"), None);
        assert!(add("rm x", Path::new(".")).is_err());
    }

    #[test]
    fn the_readme_has_the_same_program_as_the_front_page() {
        let read = |path: &str| fs::read_to_string(process::root().join(path)).unwrap();
        let (page, readme) = (read(PAGE), read("README.md"));
        let lines: Vec<&str> = block(&page, "```rust,no_run\n").unwrap().lines().collect();
        let shown = block(&readme, "```rust\n").unwrap();
        for line in shown.lines().filter(|line| !line.is_empty()) {
            assert!(lines.iter().any(|known| known.trim() == line.trim()), "README.md: {line}");
        }
        assert!(shown.lines().count() >= 5);
    }
}
