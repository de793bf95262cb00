//! `cargo xtask simulate`: see the library.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for the terminal")]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use counterfoil_core::mutant::{Mutant, NoSuchMutant};
use counterfoil_sim::{Counts, Outcome, Setting, run};

const USAGE: &str = "simulate [--seeds N] [--seed S] [--nodes N] [--mutant NAME] [--events N]";

/// What is told of violations before it is said that there are more.
const SHOWN: usize = 3;

#[derive(Debug)]
struct Arguments {
    seeds: u64,
    first: u64,
    nodes: usize,
    mutant: Option<Mutant>,
    /// How many events are told of a seed with violations.
    events: usize,
}

fn arguments() -> Result<Arguments, String> {
    let mut read = Arguments { seeds: 2_000, first: 0, nodes: 3, mutant: None, events: 120 };
    let mut seeds = None;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} wants a value\n{USAGE}"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{word} {value} is no number"));
        match word.as_str() {
            "--seeds" => seeds = Some(number()?),
            "--seed" => {
                read.first = number()?;
                seeds = seeds.or(Some(1));
            }
            "--events" => read.events = usize::try_from(number()?).unwrap_or(usize::MAX),
            "--nodes" => read.nodes = usize::try_from(number()?).unwrap_or(1).clamp(1, 16),
            "--mutant" => {
                let mutant = value.parse().map_err(|error: NoSuchMutant| error.to_string())?;
                read.mutant = Some(mutant);
            }
            _ => return Err(format!("there is no {word}\n{USAGE}")),
        }
    }
    read.seeds = seeds.unwrap_or(read.seeds);
    Ok(read)
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let Arguments { seeds, first, nodes, mutant, events } = arguments;
    let next = AtomicU64::new(0);
    let sum = Mutex::new((Counts::default(), Vec::new(), 0));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= seeds {
                        return;
                    }
                    let seed = first.wrapping_add(at);
                    let Outcome { counts, violations, .. } = run(Setting { seed, nodes, mutant, told: 0 });
                    let mut sum = sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    let (total, violated, done) = &mut *sum;
                    total.revocations += counts.revocations;
                    total.checks += counts.checks;
                    total.yes += counts.yes;
                    total.faults += counts.faults;
                    total.doubts += counts.doubts;
                    total.rewinds += counts.rewinds;
                    *done += 1;
                    if !violations.is_empty() {
                        println!("seed {seed} has violations");
                        violated.push((seed, violations.len() as u64));
                    }
                    if *done % 1_000 == 0 {
                        println!(
                            "{done} seeds, {} revocations, {} seeds with violations",
                            total.revocations,
                            violated.len()
                        );
                    }
                }
            });
        }
    });
    let (counts, mut violated, _) = sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    violated.sort_unstable();
    for (seed, _) in violated.iter().take(SHOWN) {
        tell(Setting { seed: *seed, nodes, mutant, told: events });
    }
    if violated.len() > SHOWN {
        let seeds: Vec<String> = violated.iter().skip(SHOWN).take(20).map(|(seed, _)| seed.to_string()).collect();
        println!("{} more seeds with violations: {} …", violated.len() - SHOWN, seeds.join(" "));
    }
    let Counts { revocations, checks, yes, faults, doubts, rewinds } = counts;
    println!(
        "{checks} checks ({yes} yes, {faults} faults), {rewinds} times the store lost its newest changes, {doubts} times a \
         node noticed and forgot what it knew"
    );
    let violations: u64 = violated.iter().map(|(_, violations)| violations).sum();
    println!("{seeds} seeds, {revocations} revocations, {violations} violations");
    if violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a seed once more, and tells what happened in it.
fn tell(setting: Setting) {
    let Outcome { violations, told, .. } = run(setting);
    let Setting { seed, nodes, mutant, .. } = setting;
    println!("\nseed {seed}:");
    told.iter().for_each(|line| println!("  {line}"));
    violations.iter().for_each(|violation| println!("  VIOLATION: {violation}"));
    let nodes = if nodes == 3 { String::new() } else { format!(" --nodes {nodes}") };
    let mutant = mutant.map_or_else(String::new, |mutant| format!(" --mutant {mutant}"));
    println!("again: cargo xtask simulate --seed {seed}{nodes}{mutant}");
}
