//! Many nodes in virtual time, and whoever looks for a revoked token that one of them accepts.
//!
//! The nodes are the real ones: [`counterfoil_core::Authority`] with its cache and its lease, following a store. What is
//! simulated is all that they stand on: the store's servers, the network, the clocks, and whoever asks, revokes and breaks
//! things. One thread, one seed, one order of events: what went wrong once goes wrong again.

mod chance;
mod checker;
mod database;
#[cfg(test)]
mod faults;
mod kernel;
mod nemesis;
mod node;
mod run;
mod wire;
mod workload;
mod world;

pub use checker::{Counts, Violation};
pub use run::{Outcome, Setting, run};
