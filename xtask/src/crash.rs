//! `cargo xtask crash`: kills the server and cuts its power, over and over, and looks for anything acknowledged that is
//! gone. What is simulated and how far to trust it: `docs/crashes.md`.

mod chance;
mod disk;
mod http;
mod integrity;
mod kills;
mod power;
mod recording;
pub(crate) mod server;
mod verdict;
mod workload;

use std::fs;
use std::path::{Path, PathBuf};

use self::chance::Chance;
use self::disk::{Synced, What};
use self::server::Program;
use crate::{Failure, process};

const USAGE: &str =
    "usage: cargo xtask crash [--kills N] [--power-cuts N] [--seed S] [--self-test] [--mutant NAME] [--program FILE]
  --kills N       kill a process in the middle of a write, N times
  --power-cuts N  cut the power in the middle of a write, N times
  --seed S        draw the same again: what is done, where it is killed, what survives a cut
  --self-test     plant each mutant and see that it is caught
  --mutant NAME   plant one, until it is caught: older-copy (kills); no-sync, no-log-sync, no-name-sync (power cuts)
  --program FILE  use this program instead of building one";

/// What came of it.
#[derive(Debug, Default)]
struct Tally {
    /// Kills or cuts.
    ended: usize,
    acknowledged: usize,
    lost: usize,
    /// Whether the scratch directory is worth a look.
    keep: bool,
}

/// A fault that loses acknowledged writes, planted to see that it does not go unnoticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Planted {
    /// After a kill, the data directory is as it was before the process started.
    OlderCopy,
    /// No fsync makes anything safe.
    NoSync,
    /// None of the write-ahead log does, as with `synchronous = NORMAL` between checkpoints.
    NoLogSync,
    /// None of a directory does.
    NoNameSync,
}

impl Planted {
    const ALL: [(&str, Planted); 4] = [
        ("older-copy", Planted::OlderCopy),
        ("no-sync", Planted::NoSync),
        ("no-log-sync", Planted::NoLogSync),
        ("no-name-sync", Planted::NoNameSync),
    ];

    /// Whether this does not happen.
    fn swallows(self, what: &What) -> bool {
        let of = match what {
            What::SyncBegan { of, .. } | What::SyncEnded { of, .. } => of,
            What::MadeDirectory
            | What::Opened { .. }
            | What::Began { .. }
            | What::Ended { .. }
            | What::Linked { .. }
            | What::Renamed { .. }
            | What::Removed { .. } => return false,
        };
        match (self, of) {
            (Planted::OlderCopy, _) => false,
            (Planted::NoSync, _) => true,
            (Planted::NoLogSync, Synced::File(name)) => name.ends_with("-wal"),
            (Planted::NoNameSync, Synced::Names | Synced::Parent) => true,
            (Planted::NoLogSync, Synced::Names | Synced::Parent) | (Planted::NoNameSync, Synced::File(_)) => false,
        }
    }
}

/// Kills or cuts until a mutant must have been caught. The first one may fall before anything was acknowledged, or leave a
/// disk that lost nothing.
const TRIES: usize = 20;

/// Of one kill or cut; a disk that lost its database has hundreds.
const COMPLAINTS_SHOWN: usize = 5;

/// What was asked for on the command line.
#[derive(Debug, Default)]
struct Options {
    kills: usize,
    power_cuts: usize,
    seed: Option<u64>,
    self_test: bool,
    mutant: Option<Planted>,
    program: Option<PathBuf>,
}

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let options = Options::parse(arguments)?;
    for needed in ["strace", "python3"] {
        if process::on_path(needed).is_none() {
            return Err(format!("`{needed}` is missing; on Debian, as root: apt-get install {needed}").into());
        }
    }
    let seed = options.seed.unwrap_or_else(workload::now);
    println!("seed {seed} (--seed {seed} draws the same again)");
    let scratch = process::target_directory()?.join(format!("crash-{}", std::process::id()));
    fs::create_dir_all(&scratch)?;
    // As the kernel names it, because the recording does.
    let scratch = fs::canonicalize(scratch)?;
    let mut keep = false;
    let outcome = all(&options, &scratch, &Chance::from_seed(seed), &mut keep);
    if !keep {
        fs::remove_dir_all(&scratch)?;
    }
    outcome
}

/// The step of `cargo xtask test`: as much as shows within minutes that the guarantees and the harness stand.
pub(crate) fn smoke() -> Result<(), Failure> {
    run(&["--kills", "15", "--power-cuts", "6", "--self-test"].map(str::to_owned))
}

fn all(options: &Options, scratch: &Path, chance: &Chance, keep: &mut bool) -> Result<(), Failure> {
    let program = match &options.program {
        Some(file) => Program::copied(file, scratch)?,
        None => Program::build(scratch)?,
    };
    let mut lost = 0;
    if options.kills > 0 {
        let tally = kills::run(&program, scratch, options.kills, &chance.fork(1), options.mutant)?;
        println!("{} kills, {} acknowledged writes, {} lost", tally.ended, tally.acknowledged, tally.lost);
        lost += tally.lost;
        *keep |= tally.keep;
    }
    if options.power_cuts > 0 {
        let tally = power::run(&program, scratch, options.power_cuts, &chance.fork(2), options.mutant)?;
        println!("{} power cuts, {} acknowledged writes, {} lost", tally.ended, tally.acknowledged, tally.lost);
        lost += tally.lost;
        *keep |= tally.keep;
    }
    if lost > 0 {
        return Err(format!("{lost} acknowledged writes lost").into());
    }
    if options.self_test {
        for (name, planted) in Planted::ALL {
            println!("planted: {name}");
            let run = match planted {
                Planted::OlderCopy => kills::run,
                Planted::NoSync | Planted::NoLogSync | Planted::NoNameSync => power::run,
            };
            let tally = run(&program, scratch, TRIES, &chance.fork(3), Some(planted))?;
            if tally.lost == 0 {
                return Err(format!("the planted {name} went unnoticed {TRIES} times").into());
            }
            println!("planted {name}: caught by try {}", tally.ended);
        }
    }
    Ok(())
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Options, Failure> {
        let mut options = Options::default();
        let mut arguments = arguments.iter();
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{flag} needs a value\n{USAGE}"));
            let number =
                |text: &String| text.parse::<u64>().map_err(|_| format!("{flag}: {text:?} is no number\n{USAGE}"));
            match flag.as_str() {
                "--kills" => options.kills = usize::try_from(number(value()?)?)?,
                "--power-cuts" => options.power_cuts = usize::try_from(number(value()?)?)?,
                "--seed" => options.seed = Some(number(value()?)?),
                "--self-test" => options.self_test = true,
                "--mutant" => {
                    let name = value()?;
                    let known = Planted::ALL.into_iter().find(|(known, _)| known == name);
                    options.mutant = Some(known.ok_or_else(|| format!("there is no mutant {name:?}\n{USAGE}"))?.1);
                }
                "--program" => options.program = Some(value()?.into()),
                _ => return Err(format!("what is {flag:?}?\n{USAGE}").into()),
            }
        }
        if options.kills == 0 && options.power_cuts == 0 && !options.self_test {
            return Err(format!("nothing to do\n{USAGE}").into());
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_for_nothing_or_for_what_there_is_not_is_refused() {
        let parse = |text: &str| Options::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        for wrong in ["", "--seed 1", "--kills", "--kills many", "--mutant", "--mutant mouse --kills 1", "kills"] {
            parse(wrong).expect_err(wrong);
        }
        let options = parse("--kills 3 --power-cuts 2 --seed 9 --mutant no-sync").expect("fine");
        assert_eq!((options.kills, options.power_cuts, options.seed), (3, 2, Some(9)));
        assert_eq!(options.mutant, Some(Planted::NoSync));
    }
}
