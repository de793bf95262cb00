//! The command line: what may be typed. What it does is in the module of each noun.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::audit::AuditCommand;
use crate::backup::{Backup, Restore};
use crate::client::ClientCommand;
use crate::django::DjangoCommand;
use crate::import::ImportCommand;
use crate::key::KeyCommand;
use crate::keyring::KeyringCommand;
use crate::mail::MailCommand;
use crate::migrate::Migrate;
use crate::serve::Rewound;
use crate::store::StoreCommand;
use crate::token::TokenCommand;
use crate::user::UserCommand;

/// Many opaque tokens per user, each revocable alone, none of them stored.
#[derive(Debug, Parser)]
#[command(name = "counterfoil", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes, before or after its name.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// The directory that everything is kept in
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The same as a URL: sqlite:DIR, or postgres://USER@HOST/DATABASE without a password
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) store: Option<String>,
    /// The file with the settings
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// End only once no node can still accept what this command ends, within a second
    #[arg(long, global = true, value_name = "everywhere")]
    pub(crate) wait: Option<Wait>,
    /// Answer in JSON; a failure is one line of it on stderr: {"error", "hint"}
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// What a command waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wait {
    /// Until every node has heard of what was ended, or answers for nothing from memory.
    Everywhere,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server
    Serve(Serve),
    #[command(flatten)]
    Office(OfficeCommand),
    /// Make the tables that this version needs in PostgreSQL
    Migrate(Migrate),
    /// Copy everything into one file, while the server runs
    Backup(Backup),
    /// Put a backup in place, while no server runs
    Restore(Restore),
    /// Whole stores: move from SQLite to PostgreSQL, and back
    #[command(subcommand, name = "store")]
    WholeStore(StoreCommand),
    /// The keys that seal the secrets of clients with `reissue same`
    #[command(subcommand)]
    Keyring(KeyringCommand),
    /// Bring users and live tokens over from another system
    #[command(subcommand)]
    Import(ImportCommand),
    /// Settings: what there is, what is in force, whether it is sound
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Mails: what waits to be sent, and whether any arrive
    #[command(subcommand)]
    Mail(MailCommand),
    /// Say whether all is well: files, database, disk, clock, settings, key ring, server
    Doctor,
    /// The commands that came with the packages for Django
    #[command(subcommand)]
    Django(DjangoCommand),
    /// Print the description of the HTTP interface
    Openapi,
    /// Print what makes a shell complete these commands
    Completions {
        /// For which shell
        shell: Shell,
    },
}

/// What works on a deployment, beside its server or alone.
#[derive(Debug, Subcommand)]
pub(crate) enum OfficeCommand {
    /// Users: people who log in with a password
    #[command(subcommand)]
    User(UserCommand),
    /// Clients: applications, and the policies of their tokens
    #[command(subcommand)]
    Client(ClientCommand),
    /// Tokens: signed-in devices and API keys
    #[command(subcommand)]
    Token(TokenCommand),
    /// API keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// The audit log: who did what, when and from where
    #[command(subcommand)]
    Audit(AuditCommand),
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Where to listen: address and port, of which 0 takes any free one; unix:PATH; or systemd
    #[arg(long, value_name = "PLACE")]
    pub(crate) listen: Option<String>,
    /// Try it out: a throw-away directory, a user, three clients, and curl lines to paste
    #[arg(long)]
    pub(crate) demo: bool,
    /// Go on from a database that has lost commits; tokens revoked since then live again
    #[arg(long, conflicts_with = "demo")]
    pub(crate) accept_rewind: bool,
    /// As --accept-rewind, and end every token issued before, so that none lives again
    #[arg(long, conflicts_with_all = ["demo", "accept_rewind"])]
    pub(crate) revoke_rewound: bool,
    /// Begin with no token in the Redis of store.tokens_url, because it was flushed or lost; everybody logs in again
    #[arg(long, conflicts_with_all = ["demo", "accept_rewind", "revoke_rewound"])]
    pub(crate) begin_tokens_anew: bool,
    /// For whom the log is: human or json
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<String>,
    /// The least important log entries written: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
}

impl Serve {
    /// What to do with a store that has lost commits.
    pub(crate) fn rewound(&self) -> Rewound {
        match (self.begin_tokens_anew, self.accept_rewind, self.revoke_rewound) {
            (true, _, _) => Rewound::BeginTokens,
            (false, _, true) => Rewound::Revoke,
            (false, true, false) => Rewound::Accept,
            (false, false, false) => Rewound::Refuse,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say whether the settings in force are sound
    Check,
    /// Show the settings in force and where each comes from
    Show,
    /// Print a file with every setting at its default and what it means
    Defaults,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn r34_no_argument_is_a_secret_because_every_process_can_read_the_list_of_them() {
        let mut open = vec![Cli::command()];
        let mut seen = 0;
        while let Some(command) = open.pop() {
            open.extend(command.get_subcommands().cloned());
            for argument in command.get_arguments() {
                let id = argument.get_id().as_str();
                let is_secret = ["password", "secret", "ring"].iter().any(|word| id.contains(word));
                let taken = argument.get_action().takes_values() && !id.ends_with("_file");
                assert!(!(is_secret && taken), "{} {id}", command.get_name());
                seen += usize::from(is_secret);
            }
        }
        assert!(seen >= 5, "{seen}: there are passwords to be given to `user create` and `user set-password`");
    }

    #[test]
    fn common_options_stand_before_or_after_the_command() {
        for line in ["counterfoil --data-dir d --json user list", "counterfoil user list --json --data-dir d"] {
            let cli = Cli::try_parse_from(line.split(' ')).expect(line);
            assert!(cli.common.json);
            assert_eq!(cli.common.data_dir, Some(PathBuf::from("d")));
        }
    }
}
