//! `counterfoil client …`

use std::num::NonZeroU32;
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};
use counterfoil::{
    AtCap, By, Cap, Client, ClientName, ClientOrder, Lifetime, Policy, Prefix, Rate, Refusal, Reissue, Renewal,
};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::office::Office;

#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    /// Make a client
    Create {
        /// What to call it
        name: ClientName,
        #[command(flatten)]
        rules: Rules,
        /// Nobody may log in on it: its tokens are issued by you alone
        #[arg(long)]
        no_login: bool,
    },
    /// List all clients
    List,
    /// Show one client
    Show {
        /// Its name
        name: ClientName,
    },
    /// Change a client; what is not named stays. Tokens keep the expiry they have, renewals follow the new rules
    Update {
        /// Its name
        name: ClientName,
        /// Another name
        #[arg(long, value_name = "NAME")]
        rename: Option<ClientName>,
        #[command(flatten)]
        rules: Rules,
        /// Nobody may log in on it any more
        #[arg(long)]
        no_login: bool,
        /// People may log in on it again
        #[arg(long, conflicts_with = "no_login")]
        login: bool,
    },
    /// Delete a client and all its tokens
    Delete {
        /// Its name
        name: ClientName,
        /// Yes, delete
        #[arg(long)]
        yes: bool,
    },
}

/// The parts of a policy that were named.
#[derive(Debug, Args)]
pub(crate) struct Rules {
    /// How long a token lives from issue or renewal: 30d, 12h, …; none: until revoked [default: 30d]
    #[arg(long, value_name = "TIME|none")]
    ttl: Option<OrNone<Lifetime>>,
    /// How long after issue no renewal reaches [default: none]
    #[arg(long, value_name = "TIME|none")]
    max_lifetime: Option<OrNone<Lifetime>>,
    /// When expiry moves on [default: on-request]
    #[arg(long, value_name = "WHEN")]
    renewal: Option<RenewalName>,
    /// With --renewal on-use: not more often than this, at least 10s [default: 1m]
    #[arg(long, value_name = "TIME")]
    renew_at_most_every: Option<Lifetime>,
    /// How many live login tokens a user may have on it [default: none]
    #[arg(long, value_name = "N|none")]
    cap: Option<OrNone<NonZeroU32>>,
    /// What a login does that would go beyond the cap [default: refuse]
    #[arg(long, value_name = "WHAT")]
    at_cap: Option<AtCapName>,
    /// What a second login gives: one more token, one that replaces the others, or the same again [default: new]
    #[arg(long, value_name = "WHAT")]
    reissue: Option<ReissueName>,
    /// How often a user may be authenticated on it: 100/h, 5/s, … [default: none]
    #[arg(long, value_name = "N/s|m|h|d|none")]
    throttle: Option<OrNone<Rate>>,
    /// What its tokens start with [default: cf_]
    #[arg(long, value_name = "PREFIX_")]
    prefix: Option<Prefix>,
}

/// A value, or the word `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OrNone<T> {
    Some(T),
    None,
}

impl<T: FromStr> FromStr for OrNone<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        if text == "none" { Ok(OrNone::None) } else { text.parse().map(OrNone::Some) }
    }
}

impl<T> From<OrNone<T>> for Option<T> {
    fn from(value: OrNone<T>) -> Option<T> {
        match value {
            OrNone::Some(value) => Some(value),
            OrNone::None => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RenewalName {
    /// It lives for its ttl and no longer
    Never,
    /// When its client asks
    OnRequest,
    /// By being used, and when its client asks
    OnUse,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AtCapName {
    /// It is refused
    Refuse,
    /// It revokes the oldest
    EvictOldest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReissueName {
    /// One more token
    New,
    /// A new token; earlier ones on this client are revoked
    Replace,
    /// The same token again, kept sealed; needs a key ring
    Same,
}

impl Rules {
    /// `policy` with what was named put into it.
    fn applied_to(&self, policy: &Policy) -> Result<Policy, Refusal> {
        let mut policy = policy.clone();
        if let Some(ttl) = self.ttl {
            policy.ttl = ttl.into();
        }
        if let Some(max_lifetime) = self.max_lifetime {
            policy.max_lifetime = max_lifetime.into();
        }
        policy.renewal = self.renewal(policy.renewal)?;
        policy.cap = self.cap(policy.cap)?;
        match self.reissue {
            Some(ReissueName::New) => policy.reissue = Reissue::New,
            Some(ReissueName::Replace) => policy.reissue = Reissue::Replace,
            Some(ReissueName::Same) => policy.reissue = Reissue::Same,
            None => {}
        }
        if let Some(throttle) = self.throttle {
            policy.throttle = throttle.into();
        }
        if let Some(prefix) = &self.prefix {
            policy.prefix = prefix.clone();
        }
        Ok(policy)
    }

    fn renewal(&self, current: Renewal) -> Result<Renewal, Refusal> {
        const MINUTE: Lifetime = match Lifetime::from_seconds(60) {
            Ok(minute) => minute,
            Err(_) => panic!("a minute is a lifetime"),
        };
        let renewal = match self.renewal {
            Some(RenewalName::Never) => Renewal::Never,
            Some(RenewalName::OnRequest) => Renewal::OnRequest,
            Some(RenewalName::OnUse) => match current {
                Renewal::OnUse { .. } => current,
                Renewal::Never | Renewal::OnRequest => Renewal::OnUse { at_most_every: MINUTE },
            },
            None => current,
        };
        match (renewal, self.renew_at_most_every) {
            (Renewal::OnUse { .. }, Some(at_most_every)) => Ok(Renewal::OnUse { at_most_every }),
            (Renewal::Never | Renewal::OnRequest, Some(_)) => {
                Err(Refusal::invalid("renew-at-most-every", "goes with --renewal on-use"))
            }
            (renewal, None) => Ok(renewal),
        }
    }

    fn cap(&self, current: Option<Cap>) -> Result<Option<Cap>, Refusal> {
        let at_cap = self.at_cap.map(|name| match name {
            AtCapName::Refuse => AtCap::Refuse,
            AtCapName::EvictOldest => AtCap::EvictOldest,
        });
        let limit = self.cap.map_or(current.map(|cap| cap.limit), Option::from);
        match (limit, at_cap) {
            (Some(limit), at_cap) => {
                let at_cap = at_cap.or(current.map(|cap| cap.at_cap)).unwrap_or_default();
                Ok(Some(Cap { limit, at_cap }))
            }
            (None, Some(_)) => Err(Refusal::invalid("at-cap", "goes with --cap")),
            (None, None) => Ok(None),
        }
    }
}

impl ClientCommand {
    /// Whether it may begin a deployment where there is none.
    pub(crate) fn founds(&self) -> bool {
        matches!(self, ClientCommand::Create { .. })
    }

    pub(crate) async fn run(self, office: &Office) -> Result<(), Failure> {
        let operator = By::operator();
        let authority = office.authority();
        match self {
            ClientCommand::Create { name, rules, no_login } => {
                let policy = rules.applied_to(&Policy::default())?;
                let order = ClientOrder { name, policy, allow_login: !no_login };
                let client = authority.create_client(order, &operator, office.now()).await?;
                office.output.answer(&format!("created {}", client.name), &value(&client))
            }
            ClientCommand::List => {
                let mut list = office.output.list(&COLUMNS);
                let clients = authority.clients().await?;
                list.page(clients.iter().map(|client| (row(client).into(), value(client))).collect())?;
                list.end()
            }
            ClientCommand::Show { name } => show(office, &*authority.client(&name).await?),
            ClientCommand::Update { name, rename, rules, no_login, login } => {
                let change = |client: &Client| {
                    Ok(ClientOrder {
                        name: rename.clone().unwrap_or_else(|| client.name.clone()),
                        policy: rules.applied_to(&client.policy)?,
                        allow_login: (client.allow_login && !no_login) || login,
                    })
                };
                let client = authority.update_client(&name, change, &operator, office.now()).await?;
                office.output.answer(&format!("changed {}", client.name), &value(&client))
            }
            ClientCommand::Delete { name, yes } => {
                let client = authority.client(&name).await?;
                if !yes {
                    return Err(Failure::unconfirmed(format!("deletes {} and all its tokens", client.name)));
                }
                authority.delete_client(&name, &operator, office.now()).await?;
                office.output.answer(&format!("{name} is deleted"), &json!({ "name": name }))
            }
        }
    }
}

fn show(office: &Office, client: &Client) -> Result<(), Failure> {
    let mut rows: Vec<(&str, String)> = COLUMNS.into_iter().zip(row(client)).collect();
    rows.push(("prefix", client.policy.prefix.as_str().to_owned()));
    rows.push(("created", client.created_at.to_string()));
    rows.push(("id", client.id.to_string()));
    office.output.record(&rows, &value(client))
}

const COLUMNS: [&str; 8] = ["name", "ttl", "max lifetime", "renewal", "cap", "reissue", "throttle", "login"];

fn row(client: &Client) -> [String; 8] {
    let policy = &client.policy;
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
    [
        client.name.to_string(),
        or_none(policy.ttl.map(|ttl| ttl.to_string())),
        or_none(policy.max_lifetime.map(|max| max.to_string())),
        match policy.renewal {
            Renewal::Never => "never".to_owned(),
            Renewal::OnRequest => "on-request".to_owned(),
            Renewal::OnUse { at_most_every } => format!("on-use, every {at_most_every}"),
        },
        or_none(policy.cap.map(|cap| match cap.at_cap {
            AtCap::Refuse => format!("{}, refuse", cap.limit),
            AtCap::EvictOldest => format!("{}, evict-oldest", cap.limit),
        })),
        match policy.reissue {
            Reissue::New => "new",
            Reissue::Replace => "replace",
            Reissue::Same => "same",
        }
        .to_owned(),
        or_none(policy.throttle.map(|rate| rate.to_string())),
        if client.allow_login { "yes" } else { "no" }.to_owned(),
    ]
}

fn value(client: &Client) -> Value {
    json!({
        "id": client.id,
        "name": client.name,
        "policy": client.policy,
        "allow_login": client.allow_login,
        "metadata": client.metadata,
        "created_at": client.created_at,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        rules: Rules,
    }

    fn applied(line: &str, policy: &Policy) -> Result<Policy, Refusal> {
        let words = std::iter::once("client").chain(line.split_whitespace());
        Line::try_parse_from(words).expect(line).rules.applied_to(policy)
    }

    #[test]
    fn what_is_not_named_stays() {
        let policy =
            applied("--ttl 12h --cap 5 --at-cap evict-oldest --throttle 100/h", &Policy::default()).expect("fits");
        assert_eq!(applied("", &policy), Ok(policy.clone()));
        let changed = applied("--cap 3 --ttl none --renewal on-use --renew-at-most-every 10s", &policy).expect("fits");
        assert_eq!(changed.cap.map(|cap| (cap.limit.get(), cap.at_cap)), Some((3, AtCap::EvictOldest)));
        assert_eq!(changed.ttl, None);
        assert_eq!(changed.renewal, Renewal::OnUse { at_most_every: "10s".parse().expect("time") });
        assert_eq!(applied("--renewal on-use", &changed).expect("fits").renewal, changed.renewal);
        let freed = applied("--cap none --throttle none --prefix acme_", &changed).expect("fits");
        assert_eq!((freed.cap, freed.throttle, freed.prefix.as_str()), (None, None, "acme_"));
    }

    #[test]
    fn flags_that_would_do_nothing_are_refused() {
        for line in ["--at-cap refuse", "--renew-at-most-every 1m", "--cap none --at-cap refuse"] {
            assert!(applied(line, &Policy::default()).is_err(), "{line}");
        }
        for line in ["--ttl 0s", "--ttl -1d", "--ttl 36501d", "--cap 0", "--throttle 0/s", "--prefix x"] {
            let words = std::iter::once("client").chain(line.split_whitespace());
            assert!(Line::try_parse_from(words).is_err(), "{line}");
        }
    }
}
