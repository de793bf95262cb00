//! `counterfoil token …`

use std::collections::HashMap;
use std::net::IpAddr;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use counterfoil::{
    Abilities, Account, By, ClientName, Ending, Error, Expiry, Issued, Kind, Lifetime, Metadata, Now, PageRequest,
    Refusal, Sighting, Standing, SubjectId, SubjectState, Timestamp, Token, TokenFilter, TokenId, TokenName,
    TokenOrder, TokenQuery,
};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::office::Office;
use crate::output::{self, Output};
use crate::when::When;

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
    /// Revoke one token by its id, all tokens of a user, of a client or of everybody, or those that have something in common
    #[command(
        after_help = "With --all or --everybody, tokens end by one changed row, however many there are. With --kind, \
                            --issued-before, --used-before, --ip, or --user together with --client, those end that all of \
                            these are true of; without --yes it says how many they are and does nothing."
    )]
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
    #[command(flatten)]
    narrowed: Narrowed,
    /// Dead ones too
    #[arg(long)]
    all: bool,
}

/// What else tokens may have in common.
#[derive(Debug, Args)]
pub(crate) struct Narrowed {
    /// Of this kind alone
    #[arg(long)]
    kind: Option<KindName>,
    /// Issued before this time, or longer ago than this: 2027-01-31T12:00:00Z, 30d
    #[arg(long, value_name = "TIME|AGE")]
    issued_before: Option<When>,
    /// Last used before this, or issued before it and never used
    #[arg(long, value_name = "TIME|AGE")]
    used_before: Option<When>,
    /// First or last seen at this address
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<IpAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KindName {
    /// Signed-in devices
    Login,
    /// API keys
    Key,
}

impl From<KindName> for Kind {
    fn from(name: KindName) -> Kind {
        match name {
            KindName::Login => Kind::Login,
            KindName::Key => Kind::Key,
        }
    }
}

impl Narrowed {
    fn is_said(&self) -> bool {
        let Narrowed { kind, issued_before, used_before, ip } = self;
        kind.is_some() || issued_before.is_some() || used_before.is_some() || ip.is_some()
    }

    /// The filter, together with whose tokens and on which client; both have to exist.
    async fn filter(
        self,
        office: &Office,
        user: Option<&str>,
        client: Option<ClientName>,
    ) -> Result<TokenFilter, Failure> {
        let now = office.now();
        let subject = match user {
            Some(name) => Some(office.user(name).await?.subject),
            None => None,
        };
        if let Some(client) = &client {
            office.authority().client(client).await?;
        }
        Ok(TokenFilter {
            subject,
            client,
            kind: self.kind.map(Kind::from),
            issued_before: self.issued_before.map(|when| when.instant(now)),
            used_before: self.used_before.map(|when| when.instant(now)),
            ip: self.ip,
        })
    }
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("whose").required(true).multiple(true).args([
    "id", "user", "client", "everybody", "kind", "issued_before", "used_before", "ip",
]))]
pub(crate) struct Revoke {
    /// The id of the one token
    #[arg(conflicts_with_all = ["user", "client", "everybody", "kind", "issued_before", "used_before", "ip"])]
    id: Option<TokenId>,
    /// Tokens of this user
    #[arg(long)]
    user: Option<String>,
    /// Tokens on this client
    #[arg(long)]
    client: Option<ClientName>,
    /// All tokens there are, API keys included
    #[arg(long, conflicts_with_all = ["user", "client", "kind", "issued_before", "used_before", "ip"])]
    everybody: bool,
    /// With --user: all login tokens; with --client: all tokens, API keys included
    #[arg(long, conflicts_with_all = ["id", "kind", "issued_before", "used_before", "ip"])]
    all: bool,
    /// With --user and --all: API keys as well
    #[arg(long, requires_all = ["user", "all"])]
    keys: bool,
    #[command(flatten)]
    narrowed: Narrowed,
    /// Yes, revoke
    #[arg(long)]
    yes: bool,
}

impl TokenCommand {
    pub(crate) async fn run(self, office: &Office) -> Result<(), Failure> {
        match self {
            TokenCommand::Issue(issue) => issue.run(office).await,
            TokenCommand::List(list) => {
                let live_at = (!list.all).then(|| office.now().wall);
                let filter = list.narrowed.filter(office, list.user.as_deref(), list.client).await?;
                print_list(office, &TokenQuery { filter, live_at, ..TokenQuery::default() }).await
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
        if !self.all && !self.everybody {
            return self.matching(office).await;
        }
        if self.user.is_some() && self.client.is_some() {
            return Err(Failure::usage("--all goes with --user or with --client")
                .hint("without it, --user and --client together revoke the user's tokens on that client"));
        }
        let (ending, what, value) = if let Some(name) = self.user {
            let account = office.user(&name).await?;
            let keys = if self.keys { " and API keys" } else { "" };
            let value = json!({ "user": account.username, "keys": self.keys });
            let what = format!("login tokens{keys} of {}", account.username);
            (Ending::Subject { subject: account.subject, keys_too: self.keys }, what, value)
        } else if let Some(name) = self.client {
            let client = authority.client(&name).await?;
            let value = json!({ "client": name, "keys": true });
            let what = format!("tokens of the client {name}");
            (Ending::Client(client.id.into()), what, value)
        } else {
            (Ending::Everybody, "tokens of everybody".to_owned(), json!({ "everybody": true, "keys": true }))
        };
        if !self.yes {
            return Err(Failure::unconfirmed(format!("revokes all {what}")));
        }
        authority.end(ending, &operator, office.now()).await?;
        office.output.answer(&format!("all {what} are revoked"), &value)
    }

    /// Revokes what the filter names, or says how many that would be.
    async fn matching(self, office: &Office) -> Result<(), Failure> {
        if !self.narrowed.is_said() && (self.user.is_none() || self.client.is_none()) {
            return Err(Failure::usage("whose tokens is said, but not which of them").hint(
                "add --all for all of them, or narrow them down with --kind, --issued-before, --used-before or --ip",
            ));
        }
        let (operator, now) = (By::operator(), office.now());
        let filter = self.narrowed.filter(office, self.user.as_deref(), self.client).await?;
        if !self.yes {
            let count = office.authority().count_matching(&filter, &operator, now).await?;
            let text = format!("{} would be revoked", tokens(count));
            office.output.answer(&text, &json!({ "would_revoke": count }))?;
            return Err(Failure::unconfirmed(format!("revokes {}", tokens(count))));
        }
        let count = office.authority().revoke_matching(&filter, &operator, now).await?;
        let text = if count == 1 { "1 token was revoked".to_owned() } else { format!("{count} tokens were revoked") };
        office.output.answer(&text, &json!({ "revoked": count }))
    }
}

fn tokens(count: u64) -> String {
    if count == 1 { "1 live token".to_owned() } else { format!("{count} live tokens") }
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

pub(crate) fn value(token: &Token, owner: Option<&Account>, now: Now) -> Value {
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
