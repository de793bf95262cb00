//! The rules, told through the front door.
#![expect(clippy::unwrap_used, reason = "a test stops where something is missing")]

mod accounts;
mod audit;
mod cached;
mod dialects;
mod guesses;
mod hook;
mod hosts;
mod imports;
mod rules;
mod services;
mod shared_limits;
mod staff;
mod world;
