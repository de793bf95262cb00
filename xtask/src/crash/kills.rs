//! Processes killed in the middle of a write, over and over: [`run`].

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::chance::Chance;
use super::integrity::Inspector;
use super::server::{Program, Server, Start, USER, Watch};
use super::verdict::{self, Scope};
use super::workload::{Client, now};
use super::{COMPLAINTS_SHOWN, Planted, Tally};
use crate::Failure;

/// Clients that work at the same time, so that transactions carry more than one change.
const CLIENTS: usize = 4;
/// Kills that one data directory lives through.
const ROUNDS_OF_A_LIFE: usize = 20;
/// Tokens of each client from earlier rounds that are asked about after each kill; at the end of a life it is all of them.
const OTHERS: usize = 25;

/// System calls to be killed at, how many of them one thread makes in a long round, and how often to choose it. The count
/// starts anew for each process, so small ones fall into the start: the making of the database, its recovery, its locks.
const AIMS: &[(&str, usize, usize)] = &[
    ("pwrite64", 1_500, 8),
    ("fdatasync", 100, 5),
    ("write", 100, 2),
    ("fsync", 3, 1),
    ("ftruncate", 4, 1),
    ("openat", 90, 1),
    ("unlink", 2, 1),
    ("linkat", 1, 1),
];

/// A data directory and those who use it.
struct Life {
    data: PathBuf,
    clients: Vec<Client>,
    user: User,
}

/// Whether the user exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum User {
    NotAskedFor,
    /// The process that was to make it was killed.
    Open,
    Acknowledged,
}

/// Kills `count` processes, and asks after each what was acknowledged.
pub(crate) fn run(
    program: &Program,
    scratch: &Path,
    count: usize,
    chance: &Chance,
    planted: Option<Planted>,
) -> Result<Tally, Failure> {
    let mut inspector = Inspector::start(scratch)?;
    let mut tally = Tally::default();
    let mut life: Option<Life> = None;
    let mut hits = BTreeMap::new();
    for round in 0..count {
        let mut chance = chance.fork(round as u64);
        let is_last = round + 1 == count || (round + 1) % ROUNDS_OF_A_LIFE == 0;
        let current = life.get_or_insert_with(|| Life {
            data: scratch.join(format!("killed-{round}")),
            clients: (0..CLIENTS).map(|client| Client::new(chance.fork(client as u64))).collect(),
            user: User::NotAskedFor,
        });
        let earlier = match planted {
            Some(Planted::OlderCopy) => Some(copy(&current.data, &scratch.join("older"))?),
            _ => None,
        };
        let begun = now();
        let (how, hit) = kill_once(program, current, &mut chance)?;
        *hits.entry(hit).or_insert(0) += 1;
        if let Some(earlier) = earlier.filter(|_| current.user == User::Acknowledged) {
            fs::remove_dir_all(&current.data)?;
            copy(&earlier, &current.data)?;
        }
        tally.ended += 1;
        let mut complaints = Vec::new();
        if let Some(damage) = inspector.inspect(&current.data)? {
            complaints.push(format!("integrity_check: {damage}"));
        }
        let scope = if is_last { Scope::All } else { Scope::Since(begun, OTHERS) };
        match after(program, current, scope, &mut chance) {
            Ok(lost) => complaints.extend(lost),
            Err(refusal) => complaints.push(refusal.to_string()),
        }
        for complaint in complaints.iter().take(COMPLAINTS_SHOWN) {
            println!("  kill {round} ({how}): {complaint}");
        }
        tally.lost += complaints.len();
        if is_last || !complaints.is_empty() {
            // What is broken once would be counted in every later round.
            tally.acknowledged += current.acknowledged();
            let data = current.data.clone();
            life = None;
            if complaints.is_empty() || planted.is_some() {
                fs::remove_dir_all(data)?;
            } else {
                println!("  what it left is kept in {}", data.display());
                tally.keep = true;
            }
        }
        if planted.is_some() && tally.lost > 0 {
            return Ok(tally);
        }
        if (round + 1) % 50 == 0 {
            println!("  {} kills", round + 1);
        }
    }
    println!("  {hits:?}");
    Ok(tally)
}

/// What a kill hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Hit {
    /// The command that makes the user, or one that had done so just before.
    UserCreate,
    /// A server that was starting.
    Start,
    /// A server at work, at the system call that was aimed at.
    Call,
    /// A server at work, because the time was up.
    Clock,
}

impl Life {
    fn acknowledged(&self) -> usize {
        let of_clients: usize = self.clients.iter().map(|client| client.acknowledged(u64::MAX)).sum();
        of_clients + usize::from(self.user == User::Acknowledged)
    }
}

/// Starts something and kills it. Says how, and what was hit.
fn kill_once(program: &Program, life: &mut Life, chance: &mut Chance) -> Result<(String, Hit), Failure> {
    if life.user == User::NotAskedFor && chance.one_in(2) {
        let watch = Watch::KillAt { syscall: "pwrite64", count: chance.magnitude(80) };
        let done = program.create_user(&life.data, &watch)?;
        life.user = if done { User::Acknowledged } else { User::Open };
        return Ok((format!("user create, {watch:?}"), Hit::UserCreate));
    }
    let by_the_clock = chance.one_in(5);
    let (syscall, most) = aim(chance);
    let watch = match by_the_clock {
        true => Watch::Nobody,
        false => Watch::KillAt { syscall, count: chance.magnitude(most) },
    };
    let millis = match (life.user, by_the_clock) {
        (User::Acknowledged, true) => 1 + chance.below(500),
        // Long enough for the counts that come while it works, and not too long where the call never comes again.
        (User::Acknowledged, false) if most >= 100 => 1_500,
        (User::Acknowledged, false) => 300,
        // In a fresh directory there is nobody to log in.
        (User::NotAskedFor | User::Open, _) => 30,
    };
    let patience = Duration::from_millis(millis as u64);
    let how = format!("{watch:?} or after {patience:?}");
    let server = match program.serve(&life.data, &watch)? {
        Start::Ended(_) if by_the_clock => return Err(format!("it did not start: {}", program.said()).into()),
        Start::Ended(_) => return Ok((how, Hit::Start)),
        Start::Listening(server) => server,
    };
    let hit = work_until_killed(server, life, patience)?;
    Ok((how, hit))
}

fn aim(chance: &mut Chance) -> (&'static str, usize) {
    let all: usize = AIMS.iter().map(|(_, _, weight)| weight).sum();
    let mut left = chance.below(all);
    for (syscall, most, weight) in AIMS {
        match left.checked_sub(*weight) {
            Some(rest) => left = rest,
            None => return (syscall, *most),
        }
    }
    ("pwrite64", 1)
}

fn work_until_killed(mut server: Server, life: &mut Life, patience: Duration) -> Result<Hit, Failure> {
    let stop = AtomicBool::new(life.user != User::Acknowledged);
    let address = server.address.clone();
    let (address, stop) = (address.as_str(), &stop);
    let hit: Result<Hit, String> = thread::scope(|scope| {
        let threads: Vec<_> =
            life.clients.iter_mut().map(|client| scope.spawn(move || client.work(address, stop))).collect();
        let hit = server.ends_within(patience).and_then(|ended| match ended {
            true => Ok(Hit::Call),
            false => server.kill().map(|()| Hit::Clock),
        });
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().unwrap_or_else(|_| Err("a client panicked".to_owned()))?;
        }
        hit.map_err(|failure| failure.to_string())
    });
    Ok(hit?)
}

/// Starts it plainly and asks. What is lost, one line each.
fn after(program: &Program, life: &mut Life, scope: Scope, chance: &mut Chance) -> Result<Vec<String>, Failure> {
    let server =
        program.serve_plainly(&life.data).map_err(|refusal| format!("does not start after the kill: {refusal}"))?;
    let mut lost = Vec::new();
    let was = life.user;
    if was != User::Acknowledged {
        let made = program.create_user(&life.data, &Watch::Nobody)?;
        // It may have been made although nobody was told.
        if !made && was == User::NotAskedFor {
            return Err(format!("user create failed: {}", program.said()).into());
        }
        life.user = User::Acknowledged;
    }
    // Every time: the round may have been the one in which the user was made, and the next one logs in.
    if !verdict::user_is_there(&server.address)? {
        lost.push(format!("user {USER} was acknowledged and cannot log in"));
    }
    lost.extend(verdict::judge(&server.address, &mut life.clients, u64::MAX, scope)?.lost);
    // The next start finds an orderly end, or another kill.
    if chance.one_in(2) {
        server.stop()?;
    } else {
        server.kill()?;
    }
    Ok(lost)
}

/// Copies a data directory as it is; makes nothing of one that is not there.
fn copy(from: &Path, to: &Path) -> Result<PathBuf, Failure> {
    fs::remove_dir_all(to).ok();
    if from.exists() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(to.to_owned())
}
