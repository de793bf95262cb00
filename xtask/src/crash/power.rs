//! The power cut in the middle of a write, over and over: [`run`].
//!
//! A server is recorded once and its power is cut at many instants of the recording, each time as another disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::chance::Chance;
use super::disk::{Change, Disk, Mood, Synced, What, is_left_out};
use super::recording::{self, Event};
use super::server::{Program, Start, USER, Watch};
use super::verdict::{self, Scope};
use super::workload::{Client, now};
use super::{COMPLAINTS_SHOWN, Planted, Tally};
use crate::Failure;

/// Clients that work at the same time, so that transactions carry more than one change.
const CLIENTS: usize = 4;
/// Cuts made of one recording.
const CUTS_OF_A_RECORDING: usize = 20;
/// Tokens of each client that are asked about besides those touched in the last while before the cut.
const OTHERS: usize = 60;
/// That while.
const LATELY: u64 = 300_000_000;

/// A data directory from its first moment on, through several servers, with all that its clients were told.
struct Recording {
    events: Vec<Event>,
    clients: Vec<Client>,
    /// When the user was acknowledged.
    user: u64,
}

/// Cuts the power `count` times and asks after each what was acknowledged before.
pub(crate) fn run(
    program: &Program,
    scratch: &Path,
    count: usize,
    chance: &Chance,
    planted: Option<Planted>,
) -> Result<Tally, Failure> {
    let mut tally = Tally::default();
    let mut left = count;
    for number in 0.. {
        if left == 0 {
            break;
        }
        let mut chance = chance.fork(number);
        let mut recording = record(program, &scratch.join("recorded"), &mut chance)?;
        let writes = recording.events.iter().filter(|event| matches!(event.what, What::Began { .. })).count();
        let syncs = recording.events.iter().filter(|event| matches!(event.what, What::SyncEnded { .. })).count();
        let acknowledged: usize = recording.clients.iter().map(|client| client.acknowledged(u64::MAX)).sum();
        println!("  recorded {acknowledged} acknowledged writes as {writes} writes to files and {syncs} syncs");
        let cuts = left.min(CUTS_OF_A_RECORDING);
        left -= cuts;
        for _ in 0..cuts {
            let at = instant(&recording.events, &mut chance);
            cut(program, scratch, &mut recording, at, &mut chance, planted, &mut tally)?;
            if planted.is_some() && tally.lost > 0 {
                return Ok(tally);
            }
        }
    }
    Ok(tally)
}

/// One cut right after `events[at]`: the disk as it could look, and what a server makes of it.
fn cut(
    program: &Program,
    scratch: &Path,
    recording: &mut Recording,
    at: usize,
    chance: &mut Chance,
    planted: Option<Planted>,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let mut disk = Disk::default();
    for event in &recording.events[..=at] {
        if !planted.is_some_and(|planted| planted.swallows(&event.what)) {
            disk.step(&event.what)?;
        }
    }
    // The last nanosecond at which the next event had not happened: as many acknowledgements as possible.
    let moment = recording.events.get(at + 1).map_or(u64::MAX - 1, |next| next.at.saturating_sub(1));
    let mood = *chance.pick(Mood::ALL);
    let data = scratch.join(format!("cut-{}", tally.ended));
    if let Some(files) = disk.cut(mood, chance).files {
        fs::create_dir_all(&data)?;
        for (name, content) in files {
            fs::write(data.join(name), content)?;
        }
    }
    let left = scratch.join("as-it-was-left");
    fs::remove_dir_all(&left).ok();
    copy(&data, &left)?;

    let acknowledged: usize = recording.clients.iter().map(|client| client.acknowledged(moment)).sum();
    tally.ended += 1;
    tally.acknowledged += acknowledged + usize::from(recording.user <= moment);
    let complaints = match after(program, recording, &data, moment) {
        Ok(lost) => lost,
        Err(refusal) => vec![refusal.to_string()],
    };
    for complaint in complaints.iter().take(COMPLAINTS_SHOWN) {
        println!("  cut {} (after event {at}, {mood:?} unsynced survives): {complaint}", tally.ended - 1);
    }
    tally.lost += complaints.len();
    fs::remove_dir_all(&data).ok();
    if !complaints.is_empty() && planted.is_none() && !tally.keep && left.exists() {
        fs::rename(&left, &data)?;
        println!("  what it left is kept in {}", data.display());
        tally.keep = true;
    }
    Ok(())
}

/// Starts a server on the image and asks.
fn after(program: &Program, recording: &mut Recording, data: &Path, moment: u64) -> Result<Vec<String>, Failure> {
    let server = program.serve_plainly(data).map_err(|refusal| format!("does not start after the cut: {refusal}"))?;
    let mut lost = Vec::new();
    if recording.user <= moment && !verdict::user_is_there(&server.address)? {
        lost.push(format!("user {USER} was acknowledged and cannot log in"));
    }
    let scope = Scope::Since(moment.saturating_sub(LATELY), OTHERS);
    lost.extend(verdict::judge(&server.address, &mut recording.clients, moment, scope)?.lost);
    server.kill()?;
    Ok(lost)
}

/// Where to cut: anywhere, or where it is likely to hurt.
fn instant(events: &[Event], chance: &mut Chance) -> usize {
    let is_end_of_sync = |what: &What| matches!(what, What::SyncEnded { .. });
    let is_rare = |what: &What| match what {
        What::Began { name, change: Change::Write { .. }, .. } => !name.ends_with("-wal"),
        What::SyncBegan { of: Synced::File(name), .. } => !name.ends_with("-wal"),
        What::Ended { .. } | What::SyncEnded { .. } => false,
        What::SyncBegan { .. }
        | What::Began { .. }
        | What::MadeDirectory
        | What::Opened { .. }
        | What::Linked { .. }
        | What::Renamed { .. }
        | What::Removed { .. } => true,
    };
    let those = |wanted: &dyn Fn(&What) -> bool| -> Vec<usize> {
        (0..events.len()).filter(|at| wanted(&events[*at].what)).collect()
    };
    let choices = match chance.below(5) {
        0 | 1 => Vec::new(),
        2 | 3 => those(&is_end_of_sync),
        _ => those(&is_rare),
    };
    if choices.is_empty() { chance.below(events.len()) } else { *chance.pick(&choices) }
}

/// Records a user being made, a server killed at work, one stopped in order, and one more killed.
fn record(program: &Program, scratch: &Path, chance: &mut Chance) -> Result<Recording, Failure> {
    fs::remove_dir_all(scratch).ok();
    fs::create_dir_all(scratch)?;
    // The parent of the data directory is in the model, too, so it is one of our own.
    let data = scratch.join("data");
    let mut recording = Recording {
        events: Vec::new(),
        clients: (0..CLIENTS).map(|client| Client::new(chance.fork(client as u64))).collect(),
        user: 0,
    };
    let log = scratch.join("strace");
    let watch = Watch::Record { log: log.clone() };
    if !program.create_user(&data, &watch)? {
        return Err(format!("user create failed: {}", program.said()).into());
    }
    recording.user = now();
    recording.take_in(&log, &data)?;
    for in_order in [false, true, false] {
        let server = match program.serve(&data, &watch)? {
            Start::Listening(server) => server,
            Start::Ended(status) => return Err(format!("ended with {status}: {}", program.said()).into()),
        };
        let stop = AtomicBool::new(false);
        let (address, stop) = (server.address.clone(), &stop);
        let duration = Duration::from_millis(200 + chance.below(700) as u64);
        let worked: Result<Vec<()>, String> = thread::scope(|scope| {
            let threads: Vec<_> = recording
                .clients
                .iter_mut()
                .map(|client| {
                    let address = address.as_str();
                    scope.spawn(move || client.work(address, stop))
                })
                .collect();
            thread::sleep(duration);
            let ended = match in_order {
                true => {
                    stop.store(true, Ordering::Relaxed);
                    server.stop()
                }
                false => server.kill(),
            };
            stop.store(true, Ordering::Relaxed);
            let worked = threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| Err("a client panicked".to_owned())))
                .collect();
            ended.map_err(|failure| failure.to_string())?;
            worked
        });
        worked?;
        recording.take_in(&log, &data)?;
    }
    Ok(recording)
}

impl Recording {
    /// Adds what strace wrote, and proves that it is the whole truth: the model must hold, byte for byte, what the files do.
    fn take_in(&mut self, log: &Path, data: &Path) -> Result<(), Failure> {
        recording::read(log, data, &mut self.events)?;
        fs::remove_file(log)?;
        let files = files_in(data)?;
        let mut disk = Disk::default();
        for event in &self.events {
            disk.step(&event.what)?;
        }
        // A call that the kill interrupted was made or was not; the file tells which.
        let mut never: Vec<usize> = Vec::new();
        let mut made: Vec<usize> = Vec::new();
        for (id, name, change) in disk.unfinished() {
            let done = files.get(&name).is_some_and(|content| match &change {
                Change::Write { offset, data } => content.get(*offset..offset + data.len()) == Some(data.as_slice()),
                Change::SetLength(length) => content.len() == *length,
            });
            if done { made.push(id) } else { never.push(id) }
        }
        self.events.retain(|event| !matches!(&event.what, What::Began { id, .. } if never.contains(id)));
        let at = self.events.last().map_or(0, |event| event.at);
        self.events.extend(made.into_iter().map(|id| Event { at, what: What::Ended { id } }));

        let mut disk = Disk::default();
        for event in &self.events {
            disk.step(&event.what)?;
        }
        let current = disk.current();
        let (recorded, found): (Vec<_>, Vec<_>) = (current.keys().collect(), files.keys().collect());
        if recorded != found {
            return Err(format!("recorded files {recorded:?}, found {found:?}").into());
        }
        match current.iter().find(|(name, content)| files[*name] != **content) {
            None => Ok(()),
            Some((name, content)) => {
                let found = &files[name];
                let at = content.iter().zip(found).position(|(one, other)| one != other);
                let (recorded, found) = (content.len(), found.len());
                Err(format!("{name} is not as recorded: {recorded} and {found} bytes, different from {at:?} on").into())
            }
        }
    }
}

fn files_in(data: &Path) -> Result<std::collections::BTreeMap<String, Vec<u8>>, Failure> {
    let mut files = std::collections::BTreeMap::new();
    for entry in fs::read_dir(data)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_left_out(&name) {
            files.insert(name, fs::read(entry.path())?);
        }
    }
    Ok(files)
}

/// Copies a directory that may not be there.
fn copy(from: &Path, to: &Path) -> Result<PathBuf, Failure> {
    if from.exists() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(to.to_owned())
}
