//! `counterfoil backup` and `counterfoil restore`.

use std::path::PathBuf;

use clap::Args;
use counterfoil::sqlite::{Absent, Issued, OpenOptions, Present};
use counterfoil::{Clock, SqliteStore, SystemClock, restore, sqlite};
use serde_json::json;

use crate::config::Config;
use crate::failure::{Failure, causes};
use crate::output::{Meter, Output, size};

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// The file, which must not be there yet
    file: PathBuf,
}

impl Backup {
    pub(crate) fn run(&self, config: &Config, output: Output) -> Result<(), Failure> {
        config.store.needs_files("a backup")?;
        // The store alone: a backup must not fail for want of a key ring that it does not hold.
        let options = OpenOptions { absent: Absent::Refuse, ..OpenOptions::beside() };
        let store = SqliteStore::open(&config.data_dir, &options)?;
        let mut meter = Meter::new("copied", output);
        let copied = store.backup(&self.file, |progress| meter.come(progress.done, progress.of));
        store.close();
        let contents = copied.map_err(|error| Failure::refused(causes(&error)))?;
        let file = self.file.display().to_string();
        let (inside, not_inside) = if config.tokens.is_some() {
            (
                "accounts, mails and the audit log; it was read through after writing",
                "tokens, clients and check keys, which are in Redis; the key ring (setting key_ring_file) and the settings; keep \
                 copies of all of them elsewhere",
            )
        } else {
            (
                "the whole database, with the check keys; it was read through after writing",
                "the key ring (setting key_ring_file) and the settings; keep copies of them elsewhere",
            )
        };
        output.record(
            &[
                ("file", file.clone()),
                ("size", size(contents.bytes)),
                ("tokens", contents.tokens.to_string()),
                ("accounts", contents.accounts.to_string()),
                ("schema", contents.schema.to_string()),
                ("inside", inside.to_owned()),
                ("not inside", not_inside.to_owned()),
            ],
            &json!({
                "file": file,
                "bytes": contents.bytes,
                "tokens": contents.tokens,
                "accounts": contents.accounts,
                "schema": contents.schema,
                "check_keys_inside": config.tokens.is_none(),
                "key_ring_inside": false,
            }),
        )
    }
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup; it stays as it is
    file: PathBuf,
    /// End every token in it, keys included, so that none revoked since lives again
    #[arg(long)]
    revoke_all: bool,
    /// Put it in the place of a database that is there, which is kept in a directory replaced-N
    #[arg(long)]
    replace: bool,
    /// Do it
    #[arg(long)]
    yes: bool,
}

impl Restore {
    pub(crate) fn run(&self, config: &Config, output: Output) -> Result<(), Failure> {
        config.store.needs_files("a restore")?;
        if self.revoke_all && config.tokens.is_some() {
            return Err(Failure::usage("--revoke-all ends the tokens in a backup, and yours are in Redis").hint(
                "leave it out; they are as they were, and `counterfoil token revoke --everybody --yes` ends them all",
            ));
        }
        let (file, directory) = (self.file.display().to_string(), config.data_dir.display().to_string());
        if !self.yes {
            let ending = if self.revoke_all { ", and ends every token in it" } else { "" };
            return Err(Failure::unconfirmed(format!("makes {file} the database of {directory}{ending}")));
        }
        let options = sqlite::Restore {
            present: if self.replace { Present::SetAside } else { Present::Refuse },
            issued: if self.revoke_all { Issued::Ended { at: SystemClock.now().wall } } else { Issued::Undecided },
        };
        let mut meter = Meter::new("restored", output);
        let restored = restore(&self.file, &config.data_dir, &options, |progress| {
            meter.come(progress.done, progress.of);
        })?;
        let contents = restored.contents;
        let set_aside = restored.set_aside.map(|path| path.display().to_string());
        let (serves, next) = match options.issued {
            Issued::Undecided if config.tokens.is_some() => (
                false,
                "nothing serves from it yet: `counterfoil serve --accept-rewind`; the tokens are in Redis, as they were",
            ),
            Issued::Undecided => (
                false,
                "nothing serves from it yet: `counterfoil serve --accept-rewind` lets every token in it live, those revoked \
                 since too; `counterfoil serve --revoke-rewound` ends them all",
            ),
            Issued::Ended { .. } => (true, "`counterfoil serve`; every token issued before has ended"),
        };
        output.record(
            &[
                ("data_dir", directory.clone()),
                ("tokens", contents.tokens.to_string()),
                ("accounts", contents.accounts.to_string()),
                ("schema", contents.schema.to_string()),
                ("replaced", set_aside.clone().unwrap_or_else(|| "nothing was there".to_owned())),
                ("next", next.to_owned()),
            ],
            &json!({
                "data_dir": directory,
                "bytes": contents.bytes,
                "tokens": contents.tokens,
                "accounts": contents.accounts,
                "schema": contents.schema,
                "replaced": set_aside,
                "serves": serves,
            }),
        )
    }
}
