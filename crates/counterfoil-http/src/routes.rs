//! The native routes, a file for each resource. A handler is a list of steps; it decides nothing.

pub(crate) mod admin;
pub(crate) mod email;
pub(crate) mod keys;
pub(crate) mod login;
pub(crate) mod me;
pub(crate) mod operations;
pub(crate) mod password;
pub(crate) mod register;
pub(crate) mod services;
pub(crate) mod tokens;
