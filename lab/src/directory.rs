//! Directories of servers: short names, because a socket's path must fit into 108 bytes, and gone with whoever made them.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::child;

const PARENT: &str = "/tmp";
const START: &str = "cf-lab-";
/// In every directory a file that its process has locked. One that can be locked by another was left behind.
const LOCK: &str = "lock";

/// A directory that belongs to the user whom servers run as, removed when dropped.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    pub(crate) fn new() -> Directory {
        static CLEARED: Once = Once::new();
        CLEARED.call_once(clear_what_was_left);
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            let name = format!("{START}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let path = Path::new(PARENT).join(name);
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                Err(error) => panic!("{}: {error}", path.display()),
            }
            let lock = File::create(path.join(LOCK)).expect("a lock file");
            lock.lock().expect("a lock on one's own file");
            if child::is_root() {
                chown(&path, Some(child::NOBODY), Some(child::NOBODY)).expect("given to the servers' user");
            }
            return Directory { path, _lock: lock };
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.path).ok();
    }
}

/// Removes the directories of processes that were killed.
fn clear_what_was_left() {
    for entry in fs::read_dir(PARENT).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(START));
        // One without the file has just been made, or is just going.
        let Ok(lock) = (if ours { File::open(entry.path().join(LOCK)) } else { continue }) else { continue };
        if lock.try_lock().is_ok() {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}
