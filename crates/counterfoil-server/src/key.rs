//! `counterfoil key …`

use clap::{Args, Subcommand};
use counterfoil::{
    Abilities, By, ClientName, Expiry, Kind, Metadata, TokenFilter, TokenId, TokenName, TokenOrder, TokenQuery,
};
use serde_json::json;

use crate::failure::Failure;
use crate::office::Office;
use crate::token::{self, Lifespan};

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make an API key for a user and print it once
    Create(Create),
    /// List the live API keys of a user, or of everybody
    List {
        /// Of this user alone
        #[arg(long)]
        user: Option<String>,
        /// Dead ones too
        #[arg(long)]
        all: bool,
    },
    /// Revoke an API key
    Revoke {
        /// Its id
        id: TokenId,
        /// Yes, revoke
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Whose it is: user name or confirmed e-mail address
    #[arg(long)]
    user: String,
    /// What to call it
    #[arg(long)]
    name: String,
    /// What it may do: "files:read mail:send"; `*` is everything but what is reserved, which you may name
    #[arg(long, default_value = "*")]
    abilities: Abilities,
    /// The client whose prefix it has [default: default]
    #[arg(long)]
    client: Option<ClientName>,
    #[command(flatten)]
    lifespan: Lifespan,
}

impl KeyCommand {
    pub(crate) async fn run(self, office: &Office) -> Result<(), Failure> {
        match self {
            KeyCommand::Create(create) => create.run(office).await,
            KeyCommand::List { user, all } => {
                let subject = match &user {
                    Some(name) => Some(office.user(name).await?.subject),
                    None => None,
                };
                let live_at = (!all).then(|| office.now().wall);
                let kind = Some(Kind::Key);
                let query = TokenQuery {
                    filter: TokenFilter { subject, kind, ..TokenFilter::default() },
                    live_at,
                    ..TokenQuery::default()
                };
                token::print_list(office, &query).await
            }
            KeyCommand::Revoke { id, yes } => {
                let key = token::find(office, id).await?;
                match key.kind {
                    Kind::Key => {}
                    Kind::Login => {
                        return Err(Failure::refused(format!("{id} is a login token, not an API key"))
                            .hint("`counterfoil token revoke ID` revokes either"));
                    }
                }
                if !yes {
                    let name = key.name.as_ref().map_or("an API key without a name", TokenName::as_str);
                    return Err(Failure::unconfirmed(format!("revokes {name}, and what uses it will be refused")));
                }
                office.authority().revoke_any(id, &By::operator(), office.now()).await?;
                office.output.answer(&format!("{id} is revoked"), &json!({ "id": id }))
            }
        }
    }
}

impl Create {
    async fn run(self, office: &Office) -> Result<(), Failure> {
        let account = office.user(&self.user).await?;
        let now = office.now();
        let order = TokenOrder {
            kind: Kind::Key,
            subject: account.subject.clone(),
            client: self.client,
            name: TokenName::cut(&self.name),
            abilities: self.abilities,
            metadata: Metadata::default(),
            expiry: self.lifespan.expiry(Expiry::Never, now),
        };
        let issued = office.authority().issue(order, &By::operator(), now).await?;
        token::print_issued(office, &issued, &account)
    }
}
