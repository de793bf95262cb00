//! What the fuzzer feeds and what must then hold: a module for each target, a function for each module.
//!
//! A target panics when something is wrong, and says what. Where it is cheap, what is tested stands beside a slow reading
//! of the same text, written from the specification and not from the code.

pub mod authorization;
pub mod configuration;
pub mod forwarded;
pub mod mail;
pub mod password;
pub mod pickle;
pub mod request;
pub mod token;

/// The lines of an input that stands for several header lines.
fn lines(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    input.split(|&byte| byte == b'\n')
}
