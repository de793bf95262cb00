//! What counterfoil costs, measured beside what one would use instead: `cargo xtask bench [GROUP] [--json FILE]`.
//!
//! Every figure is a ratio taken in one run, because absolute times move from machine to machine. A goal that is missed is
//! reported, not an error.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a stopwatch for the terminal: it reads the clock, prints, and stops where something is wrong"
)]

mod invented;
mod machine;
mod report;
mod rows;
mod server;
mod start;
mod storm;
mod writes;

use std::path::PathBuf;
use std::process::ExitCode;

use report::Row;

/// One group of figures by its id.
struct Group {
    id: &'static str,
    about: &'static str,
    run: fn() -> Vec<Row>,
}

const GROUPS: &[Group] = &[
    Group { id: "P4", about: "an invented token against SHA-256 of it", run: invented::run },
    Group { id: "P10", about: "authenticate on SQLite against the bare look-up, 1M and 10M rows", run: rows::run },
    Group { id: "P11", about: "marks in batches, grouped issuance against single commits", run: writes::run },
    Group { id: "P12", about: "token checks during a login storm against an idle server", run: storm::run },
    Group { id: "P14", about: "start, idle memory and size of the binary", run: start::run },
];

fn main() -> ExitCode {
    let mut wanted: Vec<String> = Vec::new();
    let mut json: Option<PathBuf> = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // What the peer of P14 is: the smallest axum server on SQLite, started as a process of its own.
            "bare-server" => return start::serve_bare(),
            "--json" => json = arguments.next().map(PathBuf::from),
            group => wanted.push(group.to_uppercase()),
        }
    }
    if let Some(unknown) = wanted.iter().find(|wanted| !GROUPS.iter().any(|group| group.id == wanted.as_str())) {
        eprintln!("there is no group {unknown}; there are:");
        for Group { id, about, .. } in GROUPS {
            eprintln!("  {id:<4} {about}");
        }
        return ExitCode::from(2);
    }
    let mut rows = Vec::new();
    for group in GROUPS.iter().filter(|group| wanted.is_empty() || wanted.iter().any(|wanted| wanted == group.id)) {
        println!("\n{}  {}", group.id, group.about);
        for row in (group.run)() {
            println!("{row}");
            rows.push(row);
        }
    }
    if let Some(path) = json {
        std::fs::write(&path, report::to_json(&rows)).unwrap();
        println!("\nwritten to {}", path.display());
    }
    ExitCode::SUCCESS
}
