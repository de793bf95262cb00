//! The program on a machine that fails it: disks that do not sync, are full, read-only or damaged, descriptors that run
//! out, a database that somebody else holds.
//!
//! Whatever fails, three things hold: a yes is never made up, nothing is acknowledged that is not kept, and when the fault
//! is over the same process goes on without help.
#![cfg(target_os = "linux")]

#[path = "program/exchange.rs"]
mod exchange;
#[expect(dead_code, reason = "shared with the other tests of the program, which need more of it")]
#[path = "program/running.rs"]
mod running;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use exchange::{Answer, PATIENCE, connect, head, me, send, token};
use running::{PASSWORD, PROGRAM, Server, Site, within};

/// Asks for an API key with the token of `session`.
fn make_key(address: SocketAddr, session: &str) -> Answer {
    let headers = [("Authorization", bearer(session)), ("Content-Type", "application/json".to_owned())];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    send(address, "POST", "/v1/keys", &headers, "{}")
}

/// A key's secret and id, out of the answer that made it.
fn key(answer: &Answer) -> (String, String) {
    assert_eq!(answer.status, 201, "{}", answer.body);
    let answer = answer.json();
    let text = |key: &str| answer[key].as_str().expect("a text").to_owned();
    (text("token"), text("id"))
}

fn revoke_key(address: SocketAddr, session: &str, id: &str) -> u16 {
    send(address, "DELETE", &format!("/v1/keys/{id}"), &[("Authorization", &bearer(session))], "").status
}

fn bearer(secret: &str) -> String {
    format!("Bearer {secret}")
}

/// A server whose system calls fail as `inject` says, in the words of strace. Its process is that of the server: strace
/// looks on from beside it.
fn serve_with_faults(site: &Site, inject: &str) -> Server {
    let mut strace = Command::new("strace");
    assert!(
        strace.arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success()),
        "this test needs strace; on Debian, as root: apt-get install strace"
    );
    let (calls, _) = inject.split_once(':').expect("CALLS:FAULT");
    let mut command = Command::new("strace");
    command
        .args([
            "-D",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            &format!("trace={calls}"),
            "-e",
            &format!("inject={inject}"),
        ])
        .arg(PROGRAM)
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(site.path("data"))
        .stdin(Stdio::null());
    Server::start(command, site.path("stderr"))
}

/// Makes and revokes keys while system calls fail and until they succeed again; whatever was acknowledged must be so, in
/// this process and in the next.
fn bears(inject: &str) {
    let site = Site::new();
    site.user("ada");
    let mut server = serve_with_faults(&site, inject);
    let (session, _) = token(server.address, "ada", PASSWORD);
    let (mut live, mut dead) = (Vec::new(), Vec::new());
    let (mut failed, mut well_again) = (0, 0);
    for turn in 0..600 {
        let answer = make_key(server.address, &session);
        match answer.status {
            201 => {
                live.push(key(&answer));
                well_again += usize::from(failed > 0);
            }
            503 => {
                failed += 1;
                well_again = 0;
            }
            status => panic!("{inject}: {status}: {}", answer.body),
        }
        if turn % 3 == 0
            && let Some((secret, id)) = live.pop()
        {
            match revoke_key(server.address, &session, &id) {
                204 => dead.push(secret),
                // Whether it was done is open.
                503 => failed += 1,
                status => panic!("{inject}: {status}"),
            }
        }
        assert_eq!(me(server.address, &session), 200, "{inject}: checks go on");
        if well_again > 10 {
            break;
        }
    }
    assert!(failed > 0, "{inject}: nothing failed");
    assert!(well_again > 10, "{inject}: {failed} writes failed, and it did not recover: {}", server.log());
    assert!(!live.is_empty() && !dead.is_empty());
    let hold = |address| {
        for (secret, _) in &live {
            assert_eq!(me(address, secret), 200, "{inject}: an acknowledged key is gone");
        }
        for secret in &dead {
            assert_eq!(me(address, secret), 401, "{inject}: an acknowledged revocation is gone");
        }
    };
    hold(server.address);
    server.signal(Signal::KILL);
    server.wait();
    let again = site.serve("");
    hold(again.address);
    again.stop();
}

#[test]
fn f03_a_failing_fsync_acknowledges_nothing_and_the_server_recovers() {
    bears("fdatasync,fsync:error=EIO:when=8..20");
}

#[test]
fn f03_a_failing_write_acknowledges_nothing_and_the_server_recovers() {
    bears("pwrite64:error=EIO:when=200..260");
}

#[test]
fn f05_a_disk_that_turns_read_only_is_a_503_until_it_is_writable_again() {
    bears("pwrite64,ftruncate,fallocate,unlink:error=EROFS:when=200..260");
}

/// A file system of a few megabytes on `data`, taken away again when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where mounting is not allowed.
    fn on(data: PathBuf) -> Option<SmallDisk> {
        fs::create_dir(&data).expect("a directory");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=6m,mode=0700", "counterfoil-test"])
            .arg(&data)
            .stderr(Stdio::null())
            .status();
        mount.is_ok_and(|status| status.success()).then_some(SmallDisk(data))
    }

    fn remount(&self, how: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&self.0).status();
        assert!(status.expect("mount runs").success(), "remount,{how}");
    }

    /// Uses up every byte.
    fn fill(&self) {
        let mut filler = File::create(self.0.join("filler")).expect("a file");
        for piece in [vec![1; 65_536], vec![1; 512], vec![1; 1]] {
            while filler.write_all(&piece).is_ok() {}
        }
    }

    fn empty(&self) {
        fs::remove_file(self.0.join("filler")).expect("a filler");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, because a server that a failed test leaves behind still has files open.
        Command::new("umount").arg("--lazy").arg(&self.0).status().ok();
    }
}

#[test]
fn f04_a_full_disk_refuses_writes_and_still_checks_and_revokes_and_recovers_unaided() {
    let site = Site::new();
    let Some(disk) = SmallDisk::on(site.path("data")) else {
        println!("not tried: only root may mount a small file system here");
        return;
    };
    site.user("ada");
    let server = site.serve("");
    let (session, _) = token(server.address, "ada", PASSWORD);
    let (kept, _) = key(&make_key(server.address, &session));
    let stolen: Vec<_> = (0..5).map(|_| key(&make_key(server.address, &session))).collect();

    disk.fill();
    let refused = within(PATIENCE, || Some(make_key(server.address, &session)).filter(|answer| answer.status != 201));
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert_eq!((me(server.address, &session), me(server.address, &kept)), (200, 200), "checks go on");
    for (secret, id) in &stolen {
        assert_eq!(revoke_key(server.address, &session, id), 204, "revocations go on: {}", server.log());
        assert_eq!(me(server.address, secret), 401);
    }
    // Whatever a full disk makes of it, a new key is made whole or not at all.
    let answer = make_key(server.address, &session);
    assert!([201, 503].contains(&answer.status), "{}", answer.body);

    disk.empty();
    let made = within(PATIENCE, || Some(make_key(server.address, &session)).filter(|answer| answer.status == 201));
    let (made, _) = key(&made);
    server.stop();
    let again = site.serve("");
    assert_eq!((me(again.address, &kept), me(again.address, &made)), (200, 200));
    for (secret, _) in &stolen {
        assert_eq!(me(again.address, secret), 401);
    }
    again.stop();
}

#[test]
fn f05_a_read_only_file_system_is_refused_at_start_with_its_name() {
    let site = Site::new();
    let Some(disk) = SmallDisk::on(site.path("data")) else {
        println!("not tried: only root may mount a small file system here");
        return;
    };
    site.user("ada");
    disk.remount("ro");
    let ran = site.run("serve --listen 127.0.0.1:0 --data-dir data");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.stderr.contains("data/counterfoil."), "{ran:?}");
    disk.remount("rw");
    let server = site.serve("");
    token(server.address, "ada", PASSWORD);
    server.stop();
}

#[test]
fn f05_out_of_descriptors_no_answer_is_made_up_and_the_server_goes_on() {
    let site = Site::new();
    site.user("ada");
    let serve = format!("ulimit -n 40 && exec '{PROGRAM}' serve --listen 127.0.0.1:0 --data-dir data");
    let mut command = Command::new("sh");
    command.args(["-c", &serve]).current_dir(site.path(".")).stdin(Stdio::null());
    let server = Server::start(command, site.path("stderr"));
    let (live, _) = token(server.address, "ada", PASSWORD);
    let (ended, id) = token(server.address, "ada", PASSWORD);
    let path = format!("/v1/tokens/{id}");
    assert_eq!(send(server.address, "DELETE", &path, &[("Authorization", &bearer(&live))], "").status, 204);

    // More connections than there can be descriptors; those that are not accepted wait in the kernel.
    let mut crowd: Vec<_> = (0..60).map(|_| connect(server.address)).collect();
    server.log_with("cannot accept connections");
    let mut answered = 0;
    for (number, stream) in crowd.iter_mut().enumerate() {
        stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        let (secret, right) = if number % 2 == 0 { (&live, 200) } else { (&ended, 401) };
        let head = head("GET", "/v1/me", &[("Authorization", &bearer(secret))], 0).replace("close", "keep-alive");
        stream.write_all(head.as_bytes()).expect("written");
        let mut start = [0; "HTTP/1.1 200".len()];
        if stream.read_exact(&mut start).is_err() {
            // Nobody has accepted it, which is no answer and no yes.
            break;
        }
        let status = String::from_utf8_lossy(&start[9..]).into_owned();
        assert!([right.to_string(), "503".to_owned()].contains(&status), "{status} where {right} is right");
        answered += 1;
    }
    assert!((1..60).contains(&answered), "{answered} answered");
    // It rests between two tries, or it would write thousands of these and keep a core from everything else.
    let tries = server.log().matches("cannot accept connections").count();
    assert!(tries < 300, "{tries} tries");

    drop(crowd);
    within(PATIENCE, || (me(server.address, &live) == 200).then_some(()));
    assert_eq!(me(server.address, &ended), 401);
    key(&make_key(server.address, &live));
    server.stop();
}

/// Another program that holds the database for itself, until it is dropped.
struct Holder(std::process::Child);

impl Holder {
    fn of(database: &Path) -> Holder {
        const HOLD: &str = "
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute('BEGIN EXCLUSIVE')
print('held', flush=True)
sys.stdin.read()
";
        let mut python = Command::new("python3")
            .args(["-c", HOLD])
            .arg(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test needs python3");
        let mut line = String::new();
        BufReader::new(python.stdout.as_mut().expect("stdout")).read_line(&mut line).expect("a line");
        assert_eq!(line, "held\n");
        Holder(python)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn f06_a_second_process_holding_the_lock_delays_writes_for_a_while_and_checks_not_at_all() {
    let site = Site::new();
    site.user("ada");
    let server = site.serve("");
    let (session, _) = token(server.address, "ada", PASSWORD);
    let (secret, id) = key(&make_key(server.address, &session));
    let holder = Holder::of(&site.path("data/counterfoil.db"));
    let mut write = connect(server.address);
    let path = format!("/v1/keys/{id}");
    write.write_all(head("DELETE", &path, &[("Authorization", &bearer(&session))], 0).as_bytes()).expect("written");
    // The revocation waits for the lock, and meanwhile the key is what it was.
    for _ in 0..20 {
        assert_eq!((me(server.address, &session), me(server.address, &secret)), (200, 200));
    }
    // Longer than the wait of one write is bounded by, shorter than the deadline of a request.
    write.set_read_timeout(Some(Duration::from_secs(15))).expect("a timeout");
    assert_eq!(Answer::read(write).status, 503);
    assert_eq!(make_key(server.address, &session).status, 503);
    assert_eq!(me(server.address, &secret), 200, "what was not acknowledged was not done");
    drop(holder);
    assert_eq!(revoke_key(server.address, &session, &id), 204, "{}", server.log());
    assert_eq!(me(server.address, &secret), 401);
    key(&make_key(server.address, &session));
    server.stop();
}

/// What a server left that was killed, with enough in the database file for damage to be found.
fn site_after_an_unclean_stop() -> Site {
    let site = Site::new();
    site.user("ada");
    let server = site.serve("");
    let (session, _) = token(server.address, "ada", PASSWORD);
    for _ in 0..100 {
        key(&make_key(server.address, &session));
    }
    // An orderly stop writes everything into the file, a kill after it makes the next start suspicious.
    server.stop();
    let mut server = site.serve("");
    token(server.address, "ada", PASSWORD);
    server.signal(Signal::KILL);
    server.wait();
    site
}

/// Writes `bytes` over what is at `offset` of a file.
fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    let mut file = File::options().write(true).open(path).expect("a file");
    file.seek(SeekFrom::Start(offset)).expect("an offset");
    file.write_all(bytes).expect("written");
}

/// The server does not start on it, names the file, and has neither replaced nor emptied it.
fn is_refused(site: &Site, case: &str) {
    let database = site.path("data/counterfoil.db");
    let before = fs::read(&database).ok();
    let ran = site.run("serve --listen 127.0.0.1:0 --data-dir data");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{case}: {ran:?}");
    assert!(ran.stderr.contains("data/counterfoil.db"), "{case}: {ran:?}");
    assert!(!ran.stderr.contains("panicked"), "{case}: {ran:?}");
    let after = fs::read(&database).ok();
    assert_eq!(before.map(|bytes| bytes.len()), after.map(|bytes| bytes.len()), "{case}: the file is another one");
}

#[test]
fn f08_a_damaged_database_is_refused_at_start_and_never_replaced_by_an_empty_one() {
    const PAGE: u64 = 4_096;
    type Damage = fn(&Path);
    let cases: [(&str, Damage); 7] = [
        ("a flipped page", |data| overwrite(&data.join("counterfoil.db"), 6 * PAGE, &[0xff; 64])),
        ("every other page gone", |data| {
            for page in (3..12).step_by(2) {
                overwrite(&data.join("counterfoil.db"), page * PAGE, &[0; PAGE as usize]);
            }
        }),
        ("cut in the middle of a page", |data| {
            let database = File::options().write(true).open(data.join("counterfoil.db")).expect("a file");
            database.set_len(5 * PAGE + 100).expect("shorter");
            // With the log, SQLite would put the pages back that it has.
            fs::remove_file(data.join("counterfoil.db-wal")).expect("a log");
        }),
        ("another header", |data| {
            overwrite(&data.join("counterfoil.db"), 0, &[b'x'; 100]);
            fs::remove_file(data.join("counterfoil.db-wal")).expect("a log");
        }),
        ("a file of somebody else", |data| {
            fs::write(data.join("counterfoil.db"), "not a database, but a note\n".repeat(1_000)).expect("written");
        }),
        ("an empty file", |data| fs::write(data.join("counterfoil.db"), "").expect("written")),
        ("the log lost", |data| fs::remove_file(data.join("counterfoil.db-wal")).expect("a log")),
    ];
    for (case, damage) in cases {
        let site = site_after_an_unclean_stop();
        damage(&site.path("data"));
        is_refused(&site, case);
    }
}

#[test]
fn f08_a_database_that_is_gone_is_not_made_anew_while_its_log_is_there() {
    let site = site_after_an_unclean_stop();
    fs::remove_file(site.path("data/counterfoil.db")).expect("a database");
    is_refused(&site, "gone");
    assert!(!site.path("data/counterfoil.db").exists());
    fs::remove_file(site.path("data/counterfoil.witness")).expect("a witness");
    is_refused(&site, "gone, and its witness, too");
    assert!(!site.path("data/counterfoil.db").exists());
}
