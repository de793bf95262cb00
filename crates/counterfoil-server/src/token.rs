//! `counterfoil token …`

use std::collections::HashMap;

use clap::{ArgGroup, Args, Subcommand};
use counterfoil::{
    Abilities, Account, By, ClientName, Ending, Error, Expiry, Issued, Kind, Lifetime, Metadata, Now, PageRequest,
    Refusal, Sighting, Standing, SubjectId, SubjectState, Timestamp, Token, TokenFilter, TokenId, TokenName,
    TokenOrder, TokenQuery,
};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::office::Office;
use crate::output::{self, Output};

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Issue a login token for a user, without their password, and print it once
    Issue(Issue),
    /// List tokens
    List(List),
    /// Show one token
    Show {
        /// Its id
        id: TokenId,
    },
    /// Give a live token another name, or none
    Rename {
        /// Its id
        id: TokenId,
        /// What to call it; nothing: no name
        name: Option<String>,
    },
    /// Revoke one token by its id, or all tokens of a user, of a client or of everybody
    Revoke(Revoke),
}

#[derive(Debug, Args)]
pub(crate) struct Issue {
    /// Whose it is: user name or confirmed e-mail address
    #[arg(long)]
    user: String,
    /// The client it is issued on [default: default]
    #[arg(long)]
    client: Option<ClientName>,
    /// What to call it
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    lifespan: Lifespan,
}

/// How long a token is to live, if it was said.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct Lifespan {
    /// How long it lives: 30d, 12h, …
    #[arg(long, value_name = "TIME")]
    ttl: Option<Lifetime>,
    /// When it dies: 2027-01-31T12:00:00Z
    #[arg(long, value_name = "INSTANT")]
    expires_at: Option<Timestamp>,
    /// It lives until it is revoked
    #[arg(long)]
    never_expires: bool,
}

impl Lifespan {
    pub(crate) fn expiry(&self, unsaid: Expiry, now: Now) -> Expiry {
        match (self.ttl, self.expires_at, self.never_expires) {
            (Some(ttl), _, _) => Expiry::At(now.wall.plus_millis(ttl.millis())),
            (None, Some(at), _) => Expiry::At(at),
            (None, None, true) => Expiry::Never,
            (None, None, false) => unsaid,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Of this user alone
    #[arg(long)]
    user: Option<String>,
    /// On this client alone
    #[arg(long)]
    client: Option<ClientName>,
    /// Dead ones too
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("whose").required(true).args(["id", "user", "client", "everybody"]))]
pub(crate) struct Revoke {
    /// The id of the one token
    id: Option<TokenId>,
    /// All login tokens of this user
    #[arg(long, requires = "all")]
    user: Option<String>,
    /// All tokens of this client, API keys included
    #[arg(long, requires = "all")]
    client: Option<ClientName>,
    /// All tokens there are, API keys included
    #[arg(long)]
    everybody: bool,
    /// With --user or --client: all of them
    #[arg(long, conflicts_with = "id")]
    all: bool,
    /// With --user: API keys as well
    #[arg(long, requires = "user")]
    keys: bool,
    /// Yes, revoke
    #[arg(long)]
    yes: bool,
}

impl TokenCommand {
    pub(crate) async fn run(self, office: &Office) -> Result<(), Failure> {
        match self {
            TokenCommand::Issue(issue) => issue.run(office).await,
            TokenCommand::List(list) => {
                let subject = match &list.user {
                    Some(name) => Some(office.user(name).await?.subject),
                    None => None,
                };
                if let Some(client) = &list.client {
                    office.authority().client(client).await?;
                }
                let live_at = (!list.all).then(|| office.now().wall);
                let query = TokenQuery {
                    filter: TokenFilter { subject, client: list.client, ..TokenFilter::default() },
                    live_at,
                    ..TokenQuery::default()
                };
                print_list(office, &query).await
            }
            TokenCommand::Show { id } => print_one(office, &find(office, id).await?).await,
            TokenCommand::Rename { id, name } => rename(office, id, name.as_deref()).await,
            TokenCommand::Revoke(revoke) => revoke.run(office).await,
        }
    }
}

impl Issue {
    async fn run(self, office: &Office) -> Result<(), Failure> {
        let account = office.user(&self.user).await?;
        let now = office.now();
        let order = TokenOrder {
            kind: Kind::Login,
            subject: account.subject.clone(),
            client: self.client,
            name: self.name.as_deref().and_then(TokenName::cut),
            abilities: Abilities::everything(),
            metadata: Metadata::default(),
            expiry: self.lifespan.expiry(Expiry::ByPolicy, now),
        };
        let issued = office.authority().issue(order, &By::operator(), now).await?;
        print_issued(office, &issued, &account)
    }
}

impl Revoke {
    async fn run(self, office: &Office) -> Result<(), Failure> {
        let operator = By::operator();
        let authority = office.authority();
        if let Some(id) = self.id {
            find(office, id).await?;
            authority.revoke_any(id, &operator, office.now()).await?;
            return office.output.answer(&format!("{id} is revoked"), &json!({ "id": id }));
        }
        let (ending, what, value) = if let Some(name) = self.user {
            let account = office.user(&name).await?;
            let keys = if self.keys { " and API keys" } else { "" };
            let value = json!({ "user": account.username, "keys": self.keys });
            let what = format!("login tokens{keys} of {}", account.username);
            (Ending::Subject { subject: account.subject, keys_too: self.keys }, what, value)
        } else if let Some(name) = self.client {
            authority.client(&name).await?;
            let value = json!({ "client": name, "keys": true });
            let what = format!("tokens of the client {name}");
            (Ending::Client(name), what, value)
        } else {
            (Ending::Everybody, "tokens of everybody".to_owned(), json!({ "everybody": true, "keys": true }))
        };
        if !self.yes {
            return Err(Failure::unconfirmed(format!("revokes all {what}")));
        }
        authority.end(ending, &operator, office.now()).await?;
        office.output.answer(&format!("all {what} are revoked"), &value)
    }
}

/// The record of that id, or a failure that says which id.
pub(crate) async fn find(office: &Office, id: TokenId) -> Result<Token, Failure> {
    match office.authority().token(id).await {
        Err(Error::Refused(Refusal::NotFound)) => Err(Failure::refused(format!("there is no token {id}"))
            .hint("`counterfoil token list --all` shows all there are")),
        answer => Ok(answer?),
    }
}

async fn rename(office: &Office, id: TokenId, name: Option<&str>) -> Result<(), Failure> {
    find(office, id).await?;
    let name = name.and_then(TokenName::cut);
    let token = match office.authority().rename_any(id, name, &By::operator(), office.now()).await {
        Err(Error::Refused(Refusal::NotFound)) => return Err(Failure::refused(format!("the token {id} is dead"))),
        answer => answer?,
    };
    let shown = token.name.as_ref().map_or("without a name", TokenName::as_str);
    let owner = office.owner(&token).await?;
    office.output.answer(&format!("{id} is {shown} now"), &value(&token, owner.as_ref(), office.now()))
}

/// Prints a new secret, the only time it can be seen. For people the secret alone goes to stdout, so that it can be piped.
pub(crate) fn print_issued(office: &Office, issued: &Issued, owner: &Account) -> Result<(), Failure> {
    let token = &issued.token;
    match office.output {
        Output::Human => {
            let end = token.expires_at.map_or("never expires".to_owned(), |at| format!("expires {at}"));
            output::remark(&format!(
                "{} of {} on {}, {end}. It is shown this once:",
                token.id, owner.username, token.client
            ));
            output::line(issued.secret.expose())
        }
        Output::Json => {
            let mut value = value(token, Some(owner), office.now());
            value["token"] = issued.secret.expose().into();
            output::line(&value.to_string())
        }
    }
}

/// Prints every record that `query` names, oldest first.
pub(crate) async fn print_list(office: &Office, query: &TokenQuery) -> Result<(), Failure> {
    let now = office.now();
    let mut list = office.output.list(&["id", "kind", "user", "client", "name", "state", "expires", "last used"]);
    let mut page = PageRequest { after: None, limit: 200 };
    loop {
        let found = office.authority().list(query.clone(), page).await?;
        let mut owners: HashMap<SubjectId, Option<Account>> = HashMap::new();
        let mut records = Vec::with_capacity(found.items.len());
        for token in &found.items {
            if !owners.contains_key(&token.subject) {
                owners.insert(token.subject.clone(), office.owner(token).await?);
            }
            let owner = owners.get(&token.subject).and_then(Option::as_ref);
            let row = vec![
                token.id.to_string(),
                token.kind.as_str().to_owned(),
                owner_name(token, owner),
                token.client.to_string(),
                token.name.as_ref().map_or(String::new(), |name| name.as_str().to_owned()),
                state(token, now).to_owned(),
                token.expires_at.map_or("never".to_owned(), |at| at.to_string()),
                token.last_seen.as_ref().map_or("never".to_owned(), |seen| seen.at.to_string()),
            ];
            records.push((row, value(token, owner, now)));
        }
        if !records.is_empty() {
            list.page(records)?;
        }
        match found.next {
            Some(next) => page.after = Some(next),
            None => return list.end(),
        }
    }
}

async fn print_one(office: &Office, token: &Token) -> Result<(), Failure> {
    let now = office.now();
    let owner = office.owner(token).await?;
    let sighting = |seen: &Sighting| {
        let ip = seen.source.ip.map_or(String::new(), |ip| format!(" from {ip}"));
        let agent = seen.source.user_agent.as_ref().map_or(String::new(), |agent| format!(" with {}", agent.as_str()));
        format!("{}{ip}{agent}", seen.at)
    };
    let rows = [
        ("id", token.id.to_string()),
        ("kind", token.kind.as_str().to_owned()),
        ("user", owner_name(token, owner.as_ref())),
        ("client", token.client.to_string()),
        ("name", token.name.as_ref().map_or(String::new(), |name| name.as_str().to_owned())),
        ("abilities", token.abilities.to_string()),
        ("state", state(token, now).to_owned()),
        ("issued", sighting(&token.first_seen)),
        ("expires", token.expires_at.map_or("never".to_owned(), |at| at.to_string())),
        ("revoked", token.revoked_at.map_or(String::new(), |at| at.to_string())),
        ("last used", token.last_seen.as_ref().map_or("never".to_owned(), sighting)),
    ];
    office.output.record(&rows, &value(token, owner.as_ref(), now))
}

/// A host's own user has no account here, and goes by the name of the subject.
fn owner_name(token: &Token, owner: Option<&Account>) -> String {
    owner.map_or_else(|| token.subject.to_string(), |account| account.username.to_string())
}

fn state(token: &Token, now: Now) -> &'static str {
    match (token.standing(now.wall), token.subject_state) {
        (Standing::Revoked, _) | (_, SubjectState::Buried) => "revoked",
        (Standing::Expired, _) => "expired",
        (Standing::Live, SubjectState::Disabled) => "suspended",
        (Standing::Live, SubjectState::Active) => "live",
    }
}

fn value(token: &Token, owner: Option<&Account>, now: Now) -> Value {
    let sighting =
        |seen: &Sighting| json!({ "at": seen.at, "ip": seen.source.ip, "user_agent": seen.source.user_agent });
    json!({
        "id": token.id,
        "kind": token.kind,
        "subject": token.subject,
        "user": owner.map(|account| json!({ "id": account.subject, "username": account.username })),
        "client": token.client,
        "name": token.name,
        "abilities": token.abilities,
        "metadata": token.metadata,
        "state": state(token, now),
        "issued_at": token.issued_at,
        "expires_at": token.expires_at,
        "revoked_at": token.revoked_at,
        "first_seen": sighting(&token.first_seen),
        "last_seen": token.last_seen.as_ref().map(sighting),
    })
}
