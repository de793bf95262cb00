//! The log on stderr.

use std::io::{self, IsTerminal};
use std::panic;

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

use crate::config::{Log, LogFormat};

/// Starts the log of this process; once. Times are in UTC.
///
/// Below `info` only our own code is heard: what a library tells about a connection at `trace` may be the very bytes that
/// came over it, passwords and all.
pub(crate) fn start(log: Log) {
    let others = log.level.min(Level::INFO);
    let heard = Targets::new().with_default(others).with_target("counterfoil", log.level);
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
}
