//! The data directory, who may read what is in it, and room on its disk.

use crate::config::Config;

use super::Report;

/// Below this much free disk it is time to look.
const LITTLE_ROOM: u64 = 1024 * 1024 * 1024;

/// Looks at what can be seen from outside; returns whether there is a database to open, and this process the one to do so.
#[cfg(unix)]
pub(super) fn look(config: &Config, report: &mut Report) -> bool {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    let shown = config.data_dir.display();
    let metadata = match fs::metadata(&config.data_dir) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => {
            report.fault("data directory", format!("{shown} is no directory"), "name another one with --data-dir DIR");
            return false;
        }
        Err(error) => {
            report.fault(
                "data directory",
                format!("{shown}: {error}"),
                "name another one with --data-dir DIR; `counterfoil serve` and `counterfoil user create` make one",
            );
            return false;
        }
    };
    let owner = metadata.uid();
    let us = rustix::process::geteuid().as_raw();
    if metadata.mode() & 0o077 == 0 {
        report.ok("data directory", format!("{shown} is open to its owner alone"));
    } else {
        report.warning(
            "data directory",
            format!("{shown} has mode {:04o}, so others see what is in it", metadata.mode() & 0o7777),
            format!("chmod 0700 {shown}"),
        );
    }
    private_files(config, owner, report);
    room(config, report);
    key_ring(config, report);
    if us != owner {
        // What root makes in it, the server could not write to.
        report.warning(
            "data directory",
            format!("{shown} belongs to user {owner} and this is user {us}; the database was not looked at"),
            format!("run this as user {owner}, as every command: `sudo -u '#{owner}' counterfoil doctor`"),
        );
        return false;
    }
    true
}

#[cfg(not(unix))]
pub(super) fn look(config: &Config, report: &mut Report) -> bool {
    let there = config.data_dir.is_dir();
    if !there {
        report.fault(
            "data directory",
            format!("{} is not there", config.data_dir.display()),
            "name it with --data-dir",
        );
    }
    there
}

/// Every file of the data directory belongs to whom the directory belongs, and nobody else reads it.
#[cfg(unix)]
fn private_files(config: &Config, owner: u32, report: &mut Report) {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    let entries = match fs::read_dir(&config.data_dir) {
        Ok(entries) => entries,
        Err(error) => {
            let what = format!("{}: {error}", config.data_dir.display());
            return report.fault("files", what, "run this as the user that the server runs as");
        }
    };
    let (mut count, before) = (0, report.0.len());
    for entry in entries.flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if !metadata.is_file() {
            continue;
        }
        count += 1;
        let path = entry.path();
        let shown = path.display();
        if metadata.mode() & 0o077 != 0 {
            let what = format!("{shown} has mode {:04o}, so others may read it", metadata.mode() & 0o7777);
            report.fault("files", what, format!("chmod 0600 {shown}"));
        }
        if metadata.uid() != owner {
            let what = format!("{shown} belongs to user {}, the directory to user {owner}", metadata.uid());
            report.fault("files", what, format!("chown {owner} {shown}, and run commands as that user"));
        }
    }
    if report.0.len() == before {
        report.ok("files", format!("{count} files, each its owner's alone"));
    }
}

#[cfg(unix)]
fn room(config: &Config, report: &mut Report) {
    use crate::output::size;

    match rustix::fs::statvfs(&config.data_dir) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            if free < LITTLE_ROOM {
                let what = format!("{} are free on the disk of the data directory", size(free));
                report.warning("disk", what, format!("make room; below {} a full disk is near", size(LITTLE_ROOM)));
            } else {
                report.ok("disk", format!("{} are free", size(free)));
            }
        }
        Err(error) => report.warning("disk", format!("cannot tell how much is free: {error}"), "look with df"),
    }
}

/// The file with the ring, as a file; whether it opens what is sealed is another question.
#[cfg(unix)]
fn key_ring(config: &Config, report: &mut Report) {
    use std::fs;

    let Some(path) = &config.key_ring_file else { return };
    let shown = path.display();
    match config.key_ring() {
        Err(failure) => report.failed("key ring", &failure),
        Ok(None) => {}
        Ok(Some(ring)) => {
            let inside = match (fs::canonicalize(path), fs::canonicalize(&config.data_dir)) {
                (Ok(file), Ok(directory)) => file.starts_with(directory),
                _ => false,
            };
            if inside {
                report.warning(
                    "key ring",
                    format!("{shown} is in the data directory: who steals the one has the other"),
                    "keep it somewhere else, and name that with the setting key_ring_file",
                );
            } else {
                report.ok("key ring", format!("{shown} is private, key {} seals", ring.newest_id()));
            }
        }
    }
}
