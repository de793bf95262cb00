//! Dialects, told by clients of the packages: what the real ones were recorded to answer, and what ours alone have to hold to.

mod advanced;
mod asked;
mod authtoken;
mod djforge;
mod durin;
mod ground;
mod knox;
mod multitoken;
mod recorded;
mod rest_authtoken;
mod site;
