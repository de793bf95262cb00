//! `counterfoil django …`: the commands that came with the packages, which say what they said.

use std::process::ExitCode;

use clap::Subcommand;
use counterfoil::{
    By, ClientName, ClientOrder, Ending, Error, HexShape, Lifetime, Others, PageRequest, Policy, Rate, Refusal,
    Reissue, Renewal, Standing, TokenFilter, TokenOrder, TokenQuery, TokenShape,
};
use serde_json::json;

use crate::failure::Failure;
use crate::import::settings::Span;
use crate::office::Office;
use crate::output::{self, Output};

#[derive(Debug, Subcommand)]
pub(crate) enum DjangoCommand {
    /// django-rest-durin: make a client
    #[command(name = "create_client")]
    CreateClient {
        /// What to call it
        name: String,
        /// How long its tokens live: "DAYS HH:MM:SS", seconds, or P3D; the package's default makes them dead at birth, this one is a day
        #[arg(long, value_name = "SPAN", default_value = "1 00:00:00")]
        token_ttl: String,
        /// How often a user may be authenticated on it: 100/h
        #[arg(long, value_name = "RATE", default_value = "")]
        throttle_rate: String,
    },
    /// django-drf-advanced-token: end all tokens of everybody
    #[command(name = "revoke_all_tokens")]
    RevokeAllTokens {
        /// Yes, log everybody out
        #[arg(long, alias = "yes")]
        force: bool,
        /// The client of the mount
        #[arg(long, value_name = "NAME", default_value = "advanced")]
        client: ClientName,
    },
    /// django-rest-authtoken: end what has expired
    #[command(name = "clearexpiredauthtokens")]
    ClearExpired {
        /// The client of the mount
        #[arg(long, value_name = "NAME", default_value = "rest_authtoken")]
        client: ClientName,
    },
    /// Django REST framework: show a user's token, which is made if there is none
    #[command(name = "drf_create_token")]
    CreateToken {
        /// Whose
        username: String,
        /// Make another one in its place
        #[arg(short, long)]
        reset: bool,
        /// The client of the mount
        #[arg(long, value_name = "NAME", default_value = "authtoken")]
        client: ClientName,
    },
}

/// What a command came to: what it says on stdout, or what Django says on stderr, with status 1.
type Said = Result<String, Vec<String>>;

impl DjangoCommand {
    /// Whether it may begin a deployment.
    pub(crate) fn founds(&self) -> bool {
        matches!(self, DjangoCommand::CreateClient { .. })
    }

    pub(crate) async fn run(self, office: &Office) -> Result<ExitCode, Failure> {
        let said = match self {
            DjangoCommand::CreateClient { name, token_ttl, throttle_rate } => {
                create_client(office, &name, &token_ttl, &throttle_rate).await?
            }
            DjangoCommand::RevokeAllTokens { force: false, .. } => {
                Ok("Include --force if you understand that this will log out all users.".to_owned())
            }
            DjangoCommand::RevokeAllTokens { force: true, client } => revoke_all_tokens(office, &client).await?,
            DjangoCommand::ClearExpired { client } => clear_expired(office, &client).await?,
            DjangoCommand::CreateToken { username, reset, client } => {
                create_token(office, &username, reset, &client).await?
            }
        };
        match (said, office.output) {
            (Ok(text), Output::Human) => output::line(&text).map(|()| ExitCode::SUCCESS),
            (Ok(text), Output::Json) => output::line(&json!({ "said": text }).to_string()).map(|()| ExitCode::SUCCESS),
            (Err(lines), Output::Human) => {
                lines.iter().for_each(|line| output::remark(line));
                Ok(ExitCode::from(1))
            }
            (Err(lines), Output::Json) => Err(Failure::refused(lines.join(" "))),
        }
    }
}

async fn create_client(office: &Office, name: &str, token_ttl: &str, throttle_rate: &str) -> Result<Said, Failure> {
    let wrong = |why: String| Ok(Err(vec!["CommandError: Can't create client!".to_owned(), why]));
    let name: ClientName = match name.trim() {
        "" => return wrong("name: This field may not be blank.".to_owned()),
        name if name.chars().count() > 64 => {
            return wrong("name: Ensure this field has no more than 64 characters.".to_owned());
        }
        name => match name.parse() {
            Ok(name) => name,
            Err(_) => return wrong("name: Not a valid string.".to_owned()),
        },
    };
    let Some(span) = Span::of(&json!(token_ttl)) else {
        let format = "[DD] [HH:[MM:]]ss[.uuuuuu]";
        return wrong(format!("token_ttl: Duration has wrong format. Use one of these formats instead: {format}."));
    };
    let Ok(ttl) = Lifetime::from_seconds(span.0 / 1_000) else {
        return wrong(
            "token_ttl: tokens of this client would be dead at birth, or outlive a hundred years.".to_owned(),
        );
    };
    let throttle = match rate(throttle_rate) {
        Ok(rate) => rate,
        Err(why) => return wrong(format!("throttle_rate: {why}")),
    };
    let policy =
        Policy { ttl: Some(ttl), renewal: Renewal::OnRequest, reissue: Reissue::Same, throttle, ..Policy::default() };
    let order = |policy| ClientOrder { policy, ..ClientOrder::named(name.clone()) };
    let authority = office.authority();
    let mut made = authority.create_client(order(policy.clone()), &By::operator(), office.now()).await;
    if let Err(Error::Refused(Refusal::KeyRingMissing)) = made {
        output::remark(
            "warning: without a key ring no token can be given out again: each login on this client gives another one",
        );
        let policy = Policy { reissue: Reissue::New, ..policy };
        made = authority.create_client(order(policy), &By::operator(), office.now()).await;
    }
    match made {
        Ok(_) => Ok(Ok(format!("Client {name} created!"))),
        Err(Error::Refused(Refusal::ClientNameTaken)) => {
            wrong("name: client with this name already exists.".to_owned())
        }
        Err(error) => Err(error.into()),
    }
}

/// A rate as durin reads it: a number, a slash, and a period of which the first letter counts. Nothing: none.
fn rate(text: &str) -> Result<Option<Rate>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let parts: Vec<&str> = text.split('/').collect();
    let [number, period] = parts[..] else {
        return Err(match parts.len() {
            1 => "not enough values to unpack (expected 2, got 1)".to_owned(),
            parts => format!("too many values to unpack (expected 2, got {parts})"),
        });
    };
    if !matches!(period, "s" | "m" | "h" | "d" | "sec" | "second" | "minute" | "hour" | "day") {
        return Err(format!("invalid period '{period}'."));
    }
    let short = period.chars().next().map(String::from).unwrap_or_default();
    format!("{number}/{short}").parse().map(Some).map_err(|error: counterfoil::NotARate| error.to_string())
}

async fn revoke_all_tokens(office: &Office, client: &ClientName) -> Result<Said, Failure> {
    office.authority().end(Ending::Client(client.into()), &By::operator(), office.now()).await?;
    Ok(Ok("All auth tokens deleted.".to_owned()))
}

async fn clear_expired(office: &Office, client: &ClientName) -> Result<Said, Failure> {
    let (authority, by, now) = (office.authority(), By::operator(), office.now());
    let filter = TokenFilter { client: Some(client.clone()), ..TokenFilter::default() };
    let query = TokenQuery { filter, ..TokenQuery::default() };
    let mut page = PageRequest { after: None, limit: PageRequest::MOST };
    let mut cleared = 0;
    loop {
        let read = authority.list(query.clone(), page).await?;
        for token in read.items.iter().filter(|token| token.standing(now.wall) == Standing::Expired) {
            authority.revoke_any(token.id, &by, now).await?;
            cleared += 1;
        }
        match read.next {
            Some(next) => page.after = Some(next),
            None => break,
        }
    }
    let mut links = 0;
    loop {
        let forgotten = authority.forget_expired_links(BATCH, now).await?;
        links += forgotten;
        if forgotten < u64::from(BATCH) {
            break;
        }
    }
    Ok(Ok(format!(
        "Successfully cleared {cleared} auth tokens\nSuccessfully cleared {links} email confirmation tokens"
    )))
}

/// Links forgotten in one transition.
const BATCH: u32 = 1_000;

async fn create_token(office: &Office, username: &str, reset: bool, client: &ClientName) -> Result<Said, Failure> {
    let authority = office.authority();
    let account = match authority.user(username).await {
        Ok(account) if account.username.as_str() == username => account,
        Ok(_) | Err(Error::Refused(Refusal::NotFound)) => {
            return Ok(Err(vec![format!("CommandError: Cannot create the Token: user {username} does not exist")]));
        }
        Err(error) => return Err(error.into()),
    };
    if let Err(Error::Refused(Refusal::ClientUnknown)) = authority.client(client).await {
        let failure = Failure::refused(format!("there is no client {client}"));
        return Err(
            failure.hint("it is made when a server starts whose [[mount]] is of this dialect; --client names another")
        );
    }
    let shape = HexShape::new("", 40).map_err(Failure::refused)?;
    let order = TokenOrder { client: Some(client.clone()), ..TokenOrder::login(account.subject.clone()) };
    let others = if reset { Others::End } else { Others::AsPolicySays };
    let issued = authority.issue_as(order, TokenShape::Hex(shape), others, &By::operator(), office.now()).await?;
    Ok(Ok(format!("Generated token {} for user {username}", issued.secret.expose())))
}
