//! The native routes, told as stories by actors who only see what a client sees.
#![expect(clippy::unwrap_used, reason = "a test stops where something is missing")]

mod accounts;
mod administration;
mod answers;
mod cookies;
mod cors;
mod credentials;
mod dialects;
mod docs;
mod faults;
mod guards;
mod keys;
mod late;
mod layer;
mod limits;
mod login;
mod matrix;
mod nested;
mod outages;
mod pages;
mod payload;
mod post;
mod proxies;
mod secrets;
mod services;
mod tokens;
mod wire;
mod world;
