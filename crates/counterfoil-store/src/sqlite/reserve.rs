//! Room for revocations on a full disk: [`Reserve`].
//!
//! A file whose only use is to be deleted. When the disk is full, what ends tokens must still go through (a stolen token
//! does not wait for the operator), while what makes tokens can be refused.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use super::place::{Place, private_file, remove_if_there};

/// A revocation writes some eight pages of 4 KiB to the log; sixty-four of them last for eight alone, or hundreds that
/// share transactions, and the log is used over again after each checkpoint.
const BYTES: u64 = 256 * 1024;

/// The file that is given up when nothing else is left.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
}

impl Reserve {
    pub(super) fn at(place: &Place) -> Reserve {
        Reserve { path: place.reserve.clone() }
    }

    /// Whether it is there. Asked of the directory each time, because other processes give it up, too.
    pub(super) fn is_held(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|metadata| metadata.len() == BYTES)
    }

    /// Makes it anew if there is room.
    pub(super) fn hold(&self) -> io::Result<()> {
        if self.is_held() {
            return Ok(());
        }
        let made = private_file(&self.path).and_then(|mut file| {
            // Not zeros, which some file systems would not store, and synced, because others allocate that late.
            file.write_all(&[0xcf; BYTES as usize])?;
            file.set_len(BYTES)?;
            file.sync_all()
        });
        if made.is_err() {
            self.give_up().ok();
        }
        made
    }

    /// Deletes it, so that its room is free.
    pub(super) fn give_up(&self) -> io::Result<()> {
        remove_if_there(&self.path)
    }
}
