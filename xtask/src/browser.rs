//! `cargo xtask browser`: one person's way through an account in a real browser, with a real mail server.
//!
//! The story is in `xtask/python/browser/story.py`, the app that it is told with beside it.

use std::fs;

use crate::install::{self, Debian};
use crate::{Failure, process};

/// Chromium and what speaks WebDriver for it.
pub(crate) const PROGRAMS: &[Debian] = &[
    Debian { program: "chromium", package: "chromium" },
    Debian { program: "chromedriver", package: "chromium-driver" },
];

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    crate::refuse_arguments(arguments)?;
    smoke()
}

/// The step of `cargo xtask test`.
pub(crate) fn smoke() -> Result<(), Failure> {
    install::ensure_debian(PROGRAMS)?;
    let python = install::ensure_python("smtp-server", &[])?.join("python");
    let server = process::server()?;
    let scratch = process::target_directory()?.join(format!("browser-{}", std::process::id()));
    fs::create_dir_all(&scratch)?;
    let root = process::root();
    let told = process::run(
        process::program(&python)
            .arg(root.join("xtask/python/browser/story.py"))
            .arg("--program")
            .arg(server)
            .arg("--python")
            .arg(&python)
            .arg("--smtp-server")
            .arg(root.join("crates/counterfoil/tests/mail/smtp_server.py"))
            .args(["--chromedriver", "chromedriver", "--scratch"])
            .arg(&scratch)
            // Said as it happens, and nothing left beside the sources.
            .env("PYTHONUNBUFFERED", "1")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("COUNTERFOIL_LOG_LEVEL", "warn"),
    );
    fs::remove_dir_all(&scratch)?;
    told
}
