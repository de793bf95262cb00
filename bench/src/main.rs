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

mod deployment;
mod django;
mod growth;
mod hits;
mod import;
mod invented;
mod load;
mod machine;
mod nodes;
mod protected;
mod report;
mod rows;
mod server;
mod start;
mod storm;
mod timing;
mod writes;

use std::path::PathBuf;
use std::process::ExitCode;

use report::Row;

/// One group of figures by its id.
struct Group {
    id: &'static str,
    about: &'static str,
    /// Whether it is measured when no group is named.
    always: bool,
    run: fn() -> Vec<Row>,
}

const GROUPS: &[Group] = &[
    Group {
        id: "P1",
        always: true,
        about: "a hit among a thousand tokens in use against SHA-256 of the text",
        run: hits::hot,
    },
    Group { id: "P2", always: true, about: "the same against verifying a JWT", run: hits::beside_jwt },
    Group { id: "STEPS", always: true, about: "what the steps of a hit cost, each alone", run: hits::steps },
    Group { id: "P4", always: true, about: "an invented token against SHA-256 of it", run: invented::run },
    Group {
        id: "P6",
        always: true,
        about: "a protected GET through the layer against the bare route",
        run: protected::beside_bare,
    },
    Group {
        id: "P8",
        always: true,
        about: "the same against JWT middleware and sessions",
        run: protected::beside_peers,
    },
    Group {
        id: "P12",
        always: true,
        about: "token checks during a login storm against an idle server",
        run: storm::run,
    },
    Group { id: "P14", always: true, about: "start, idle memory and size of the binary", run: start::run },
    Group { id: "P3", always: true, about: "hits anywhere among 1M and 10M tokens", run: hits::random },
    Group { id: "P5", always: true, about: "memory per cached token", run: hits::memory },
    Group {
        id: "P7",
        always: true,
        about: "a protected GET with many tokens in use",
        run: protected::many_in_rotation,
    },
    Group {
        id: "P10",
        always: true,
        about: "authenticate on SQLite against the bare look-up, 1M and 10M rows",
        run: rows::run,
    },
    Group {
        id: "P11",
        always: true,
        about: "marks in batches, grouped issuance against single commits",
        run: writes::run,
    },
    Group { id: "GROWTH", always: true, about: "from one thousand tokens to ten million", run: growth::run },
    Group {
        id: "NODES",
        always: false,
        about: "P13 and P16: several nodes on one PostgreSQL, and tokens in Redis",
        run: nodes::run,
    },
    Group { id: "IMPORT", always: false, about: "a million tokens of a Django project carried over", run: import::run },
    Group { id: "DJANGO", always: false, about: "P9: a protected GET beside the Python packages", run: django::run },
];

fn main() -> ExitCode {
    let mut wanted: Vec<String> = Vec::new();
    let mut json: Option<PathBuf> = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // Processes under test: the peer of P14, the smallest axum server on SQLite; a route alone and behind the layer.
            "bare-server" => return start::serve_bare(),
            "bare-protected" => return protected::serve(None),
            "protected" => return protected::serve(arguments.next().as_deref()),
            "timing" => return timing::run(arguments),
            "--json" => json = arguments.next().map(PathBuf::from),
            group => wanted.push(group.to_uppercase()),
        }
    }
    if let Some(unknown) = wanted.iter().find(|wanted| !GROUPS.iter().any(|group| group.id == wanted.as_str())) {
        eprintln!("there is no group {unknown}; there are:");
        for Group { id, about, .. } in GROUPS {
            eprintln!("  {id:<6} {about}");
        }
        return ExitCode::from(2);
    }
    let mut rows = Vec::new();
    for group in GROUPS
        .iter()
        .filter(|group| if wanted.is_empty() { group.always } else { wanted.iter().any(|wanted| wanted == group.id) })
    {
        println!("\n{}  {}", group.id, group.about);
        for row in (group.run)() {
            println!("{row}");
            rows.push(row);
        }
    }
    deployment::forget_all();
    if let Some(path) = json {
        std::fs::write(&path, report::to_json(&rows)).unwrap();
        println!("\nwritten to {}", path.display());
    }
    ExitCode::SUCCESS
}
