//! `cargo xtask smtp-server`: a mail server for the tests of mail, which start it themselves.

use crate::{Failure, install};

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    crate::refuse_arguments(arguments)?;
    install()
}

/// Where the tests look for it: `python/smtp-server` in the target directory.
pub(crate) fn install() -> Result<(), Failure> {
    install::ensure_python("smtp-server", &[]).map(drop)
}
