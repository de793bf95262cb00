//! `counterfoil keyring …`

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use counterfoil::{KeyRing, OsEntropy};
use serde_json::json;

use crate::failure::Failure;
use crate::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum KeyringCommand {
    /// Make a ring with one new key, in a new file of mode 0600
    Init {
        /// The file; keep it out of the data directory, and in your backups
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
}

impl KeyringCommand {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        let KeyringCommand::Init { file } = self;
        let ring = KeyRing::generate(&OsEntropy).map_err(|error| Failure::caused_by("no key was made", &error))?;
        write_new(&file, ring.to_file_text().as_bytes()).map_err(|error| {
            let failure = Failure::caused_by(format!("cannot write {}", file.display()), &error);
            if error.kind() == io::ErrorKind::AlreadyExists {
                failure.hint("a ring that is overwritten opens nothing any more; name a new file")
            } else {
                failure
            }
        })?;
        let shown = file.display().to_string();
        output.answer(&format!("made {shown}; name it with the setting key_ring_file"), &json!({ "file": shown }))
    }
}

/// Never overwrites; readable for its owner alone from the first moment.
fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}
