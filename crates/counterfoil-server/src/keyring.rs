//! `counterfoil keyring …`

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use counterfoil::{By, KeyRing, OsEntropy};
use serde_json::json;

use crate::config::{self, Config};
use crate::failure::Failure;
use crate::office::Office;
use crate::output::{self, Output};
use crate::private_file::{self, Draft};

/// What is done to the file alone, without the deployment.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyringCommand {
    /// Make a ring with one new key, in a new file of mode 0600
    Init {
        /// The file; keep it out of the data directory, and in your backups
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Put a new key in front, which seals from then on; the others still open
    Rotate(Which),
    /// Show the numbers of the keys, newest first
    Show(Which),
    #[command(flatten)]
    Sealed(SealedCommand),
}

/// What looks at the secrets that are sealed.
#[derive(Debug, Subcommand)]
pub(crate) enum SealedCommand {
    /// Seal every secret with the newest key that another one seals
    Reseal,
    /// Drop all keys but the newest; refused while a secret is sealed with another one
    Prune {
        #[command(flatten)]
        which: Which,
        /// Yes, drop
        #[arg(long)]
        yes: bool,
    },
}

/// Which ring is meant.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The file with the ring [default: the setting key_ring_file]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Which {
    fn path<'a>(&'a self, config: &'a Config) -> Result<&'a Path, Failure> {
        self.file.as_deref().or(config.key_ring_file.as_deref()).ok_or_else(|| {
            Failure::usage("no key ring is named")
                .hint("name its file with --file FILE or with the setting key_ring_file")
        })
    }
}

impl KeyringCommand {
    /// Does what needs the file alone; `sealed` does the rest.
    pub(crate) fn run(
        self,
        config: impl FnOnce() -> Result<Config, Failure>,
        output: Output,
        sealed: impl FnOnce(SealedCommand, &Config) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match self {
            KeyringCommand::Init { file } => init(&file, output),
            KeyringCommand::Rotate(which) => rotate(which.path(&config()?)?, output),
            KeyringCommand::Show(which) => show(which.path(&config()?)?, output),
            KeyringCommand::Sealed(command) => sealed(command, &config()?),
        }
    }
}

fn init(file: &Path, output: Output) -> Result<(), Failure> {
    let ring = KeyRing::generate(&OsEntropy).map_err(|error| Failure::caused_by("no key was made", &error))?;
    let made = private_file::create(file)
        .and_then(|mut file| file.write_all(ring.to_file_text().as_bytes()).and_then(|()| file.sync_all()));
    made.map_err(|error| {
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

fn rotate(path: &Path, output: Output) -> Result<(), Failure> {
    let draft = draft_of(path)?;
    let ring = config::read_key_ring(path)?;
    let ring = ring.with_new_key(&OsEntropy).map_err(|error| Failure::caused_by("no key was made", &error))?;
    replace(draft, path, &ring)?;
    let text = format!(
        "key {} of {} seals once servers have read it: send each of them SIGHUP, then run `counterfoil keyring reseal`",
        ring.newest_id(),
        path.display()
    );
    output.answer(&text, &facts(path, &ring))
}

fn show(path: &Path, output: Output) -> Result<(), Failure> {
    let ring = config::read_key_ring(path)?;
    let others: Vec<String> = ring.ids().skip(1).map(|id| id.to_string()).collect();
    let rows = [
        ("file", path.display().to_string()),
        ("seals and opens", ring.newest_id().to_string()),
        ("opens", if others.is_empty() { "no other".to_owned() } else { others.join(", ") }),
    ];
    output.record(&rows, &facts(path, &ring))
}

fn facts(path: &Path, ring: &KeyRing) -> serde_json::Value {
    json!({ "file": path.display().to_string(), "newest": ring.newest_id(), "keys": ring.ids().collect::<Vec<_>>() })
}

impl SealedCommand {
    pub(crate) async fn run(self, office: &Office, config: &Config) -> Result<(), Failure> {
        match self {
            SealedCommand::Reseal => reseal(office).await,
            SealedCommand::Prune { which, yes } => prune(office, which.path(config)?, yes).await,
        }
    }
}

async fn reseal(office: &Office) -> Result<(), Failure> {
    let output = office.output;
    let progress = |done: u64| match output {
        Output::Human => output::remark(&format!("sealed anew: {done}")),
        Output::Json => {}
    };
    let count = office.authority().reseal(&By::operator(), office.now(), progress).await?;
    let text =
        format!("{count} secrets were sealed anew; `counterfoil keyring prune` drops the keys that no longer seal any");
    output.answer(&text, &json!({ "resealed": count }))
}

async fn prune(office: &Office, path: &Path, yes: bool) -> Result<(), Failure> {
    let draft = draft_of(path)?;
    let ring = config::read_key_ring(path)?;
    let sealed = office.authority().sealed_otherwise(ring.newest_id()).await?;
    let count: u64 = sealed.values().sum();
    if count > 0 {
        return Err(Failure::refused(format!(
            "{count} secrets are sealed with another key than {}, and would be lost",
            ring.newest_id()
        ))
        .hint("send every server SIGHUP, so that it seals with the newest; then run `counterfoil keyring reseal`"));
    }
    let dropped: Vec<String> = ring.ids().skip(1).map(|id| id.to_string()).collect();
    if dropped.is_empty() {
        let text = format!("key {} is the only one of {}", ring.newest_id(), path.display());
        return office.output.answer(&text, &facts(path, &ring));
    }
    let dropped = dropped.join(", ");
    if !yes {
        return Err(Failure::unconfirmed(format!("drops {dropped} from {} for good", path.display())));
    }
    let ring = ring.newest_only();
    replace(draft, path, &ring)?;
    let text =
        format!("dropped {dropped}; key {} of {} is left. Send every server SIGHUP", ring.newest_id(), path.display());
    office.output.answer(&text, &facts(path, &ring))
}

fn draft_of(path: &Path) -> Result<Draft, Failure> {
    Draft::of(path).map_err(|error| {
        let failure = Failure::caused_by(format!("cannot change {}", path.display()), &error);
        if error.kind() == io::ErrorKind::AlreadyExists {
            failure.hint(format!(
                "another command is changing it; if there is none, one was killed: remove {}",
                Draft::path_beside(path)
            ))
        } else if error.kind() == io::ErrorKind::NotFound {
            failure.hint("`counterfoil keyring init --file FILE` makes a ring")
        } else {
            failure
        }
    })
}

fn replace(draft: Draft, path: &Path, ring: &KeyRing) -> Result<(), Failure> {
    draft
        .replace(ring.to_file_text().as_bytes())
        .map_err(|error| Failure::caused_by(format!("cannot write {}", path.display()), &error))
}
