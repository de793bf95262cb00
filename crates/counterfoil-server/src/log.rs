//! The log on stderr.

use std::io::{self, IsTerminal};
use std::panic;

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, fmt, reload};

use crate::config::{Log, LogFormat};

/// How much of the log is heard; can be turned while it runs.
#[derive(Debug, Clone)]
pub(crate) struct Volume(reload::Handle<Targets, Registry>);

impl Volume {
    pub(crate) fn turn_to(&self, level: Level) {
        // The only failure is that there is no log any more.
        self.0.reload(heard_at(level)).ok();
    }
}

/// Below `info` only our own code is heard: what a library tells about a connection at `trace` may be the very bytes that
/// came over it, passwords and all.
fn heard_at(level: Level) -> Targets {
    Targets::new().with_default(level.min(Level::INFO)).with_target("counterfoil", level)
}

/// Starts the log of this process; once. Times are in UTC.
pub(crate) fn start(log: Log) -> Volume {
    let (heard, volume) = reload::Layer::new(heard_at(log.level));
    let registry = tracing_subscriber::registry();
    let lines = fmt::layer().with_writer(io::stderr);
    // The only failure is that a log was started before, as in a test that starts two servers.
    match log.format {
        LogFormat::Human => {
            registry.with(lines.with_ansi(io::stderr().is_terminal()).with_filter(heard)).try_init().ok()
        }
        LogFormat::Json => registry
            .with(lines.json().flatten_event(true).with_current_span(true).with_span_list(false).with_filter(heard))
            .try_init()
            .ok(),
    };
    panic::set_hook(Box::new(|panic| {
        // Where, and not what: a message may quote what a client sent.
        let place = panic.location().map_or("an unknown place".to_owned(), ToString::to_string);
        let thread = std::thread::current();
        tracing::error!(place, thread = thread.name().unwrap_or("unnamed"), "panicked");
    }));
    Volume(volume)
}
