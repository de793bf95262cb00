//! `counterfoil audit …`

use std::collections::HashMap;
use std::fs;
use std::io::{BufWriter, Write};
use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand, ValueEnum};
use counterfoil::{
    Account, Actor, AuditQuery, ClientName, Event, NumberedEntry, SubjectId, TokenId, Username, audit_table,
};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::office::Office;
use crate::output::{self, Output};
use crate::private_file;
use crate::when::When;

/// Entries read at once.
pub(crate) const READ_AT_ONCE: u32 = 1_000;
/// Names remembered while a log is read; then it begins to remember anew.
const MOST_NAMES: usize = 10_000;

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List what happened, newest first
    List {
        #[command(flatten)]
        filter: Filter,
        /// At most so many
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Write out everything that happened, newest first
    Export(Export),
}

/// Which entries.
#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Of this event alone
    #[arg(long, value_parser = PossibleValuesParser::new(Event::NAMES), hide_possible_values = true)]
    event: Option<String>,
    /// About this user alone: name, confirmed e-mail address, or id
    #[arg(long)]
    user: Option<String>,
    /// Of what this user did alone, be it to whom it may
    #[arg(long, value_name = "USER")]
    by: Option<String>,
    /// About this client alone
    #[arg(long)]
    client: Option<ClientName>,
    /// About this token, or of what was done with it, alone
    #[arg(long, value_name = "ID")]
    token: Option<TokenId>,
    /// From this address alone
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<IpAddr>,
    /// From this time on, or not longer ago than this: 2027-01-31T12:00:00Z, 30d
    #[arg(long, value_name = "TIME|AGE")]
    since: Option<When>,
    /// Before this time
    #[arg(long, value_name = "TIME|AGE")]
    until: Option<When>,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    filter: Filter,
    /// How
    #[arg(long)]
    format: Format,
    /// Into this new file, for its owner alone, instead of stdout
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// An object on each line
    Json,
    /// A table for spreadsheets (RFC 4180), with the names of its columns in the first row
    Csv,
}

impl Filter {
    async fn query(self, office: &Office) -> Result<AuditQuery, Failure> {
        let now = office.now();
        let subject = match &self.user {
            Some(name) => Some(office.subject(name).await?),
            None => None,
        };
        let by = match &self.by {
            Some(name) => Some(office.subject(name).await?),
            None => None,
        };
        Ok(AuditQuery {
            event: self.event,
            subject,
            by,
            client: self.client,
            token: self.token,
            ip: self.ip,
            since: self.since.map(|when| when.instant(now)),
            until: self.until.map(|when| when.instant(now)),
            before: None,
            limit: READ_AT_ONCE,
        })
    }
}

impl AuditCommand {
    pub(crate) async fn run(self, office: &Office) -> Result<(), Failure> {
        match self {
            AuditCommand::List { filter, limit } => list(office, filter.query(office).await?, limit).await,
            AuditCommand::Export(export) => export.run(office).await,
        }
    }
}

async fn list(office: &Office, mut query: AuditQuery, limit: u32) -> Result<(), Failure> {
    let mut list = office.output.list(&["at", "event", "by", "user", "client", "token", "from", "detail"]);
    let mut names = Names::default();
    let mut left = limit;
    loop {
        query.limit = left.min(READ_AT_ONCE);
        let page = office.authority().audit(&query, office.now()).await?;
        left = left.saturating_sub(u32::try_from(page.entries.len()).unwrap_or(left));
        let mut records = Vec::with_capacity(page.entries.len());
        for entry in &page.entries {
            let named = names.of(office, entry).await?;
            records.push((row(entry, &named), value(entry, &named)));
        }
        if !records.is_empty() {
            list.page(records)?;
        }
        match page.next {
            Some(next) if left > 0 => query.before = Some(next),
            Some(_) => {
                list.end()?;
                if office.output == Output::Human {
                    output::remark(&format!(
                        "these are the newest {limit}; --limit shows more, `counterfoil audit export` all"
                    ));
                }
                return Ok(());
            }
            None => return list.end(),
        }
    }
}

impl Export {
    async fn run(self, office: &Office) -> Result<(), Failure> {
        let query = self.filter.query(office).await?;
        let Some(path) = self.output else { return write(office, query, self.format, output::write).await };
        let cannot = |error: std::io::Error| Failure::caused_by(format!("cannot write {}", path.display()), &error);
        let mut file = BufWriter::new(private_file::create(&path).map_err(cannot)?);
        let written = write(office, query, self.format, |text| file.write_all(text.as_bytes()).map_err(cannot)).await;
        let written = written.and_then(|()| {
            file.flush().map_err(cannot)?;
            file.get_ref().sync_all().map_err(cannot)
        });
        if written.is_err() {
            // Half of it would be taken for all of it.
            fs::remove_file(&path).ok();
        }
        written?;
        let shown = path.display().to_string();
        office.output.answer(&format!("wrote {shown}"), &json!({ "file": shown }))
    }
}

/// Hands every entry to `out`, page by page, so that it takes no memory however much there is. What comes while it is
/// being read is newer than where it began and not in it.
async fn write(
    office: &Office,
    mut query: AuditQuery,
    format: Format,
    mut out: impl FnMut(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut names = Names::default();
    let mut is_first = true;
    loop {
        let page = office.authority().audit(&query, office.now()).await?;
        match format {
            Format::Json => {
                for entry in &page.entries {
                    out(&format!("{}\n", value(entry, &names.of(office, entry).await?)))?;
                }
            }
            Format::Csv => {
                let table = audit_table(&page.entries);
                // The names of the columns have no line break in them.
                let rows = table.split_once("\r\n").map_or("", |(_, rows)| rows);
                out(if is_first { &table } else { rows })?;
            }
        }
        is_first = false;
        let Some(next) = page.next else { return Ok(()) };
        query.before = Some(next);
    }
}

/// What the subjects of entries are called now, where they have an account.
#[derive(Debug, Default)]
pub(crate) struct Names(HashMap<SubjectId, Option<Username>>);

/// What those of one entry are called.
#[derive(Debug, Default)]
pub(crate) struct Named {
    subject: Option<Username>,
    by: Option<Username>,
}

impl Names {
    pub(crate) async fn of(&mut self, office: &Office, entry: &NumberedEntry) -> Result<Named, Failure> {
        let subject = match &entry.entry.subject {
            Some(subject) => self.name(office, subject).await?,
            None => None,
        };
        let by = match &entry.entry.actor {
            Actor::Holder { subject, .. } => self.name(office, subject).await?,
            Actor::Stranger | Actor::Operator | Actor::Deployment => None,
        };
        Ok(Named { subject, by })
    }

    async fn name(&mut self, office: &Office, subject: &SubjectId) -> Result<Option<Username>, Failure> {
        if let Some(known) = self.0.get(subject) {
            return Ok(known.clone());
        }
        if self.0.len() >= MOST_NAMES {
            self.0.clear();
        }
        let name = office.account(subject).await?.map(|Account { username, .. }| username);
        self.0.insert(subject.clone(), name.clone());
        Ok(name)
    }
}

fn row(NumberedEntry { entry, .. }: &NumberedEntry, named: &Named) -> Vec<String> {
    let called = |name: &Option<Username>, subject: &SubjectId| {
        name.as_ref().map_or_else(|| subject.to_string(), |name| name.as_str().to_owned())
    };
    let by = match &entry.actor {
        Actor::Holder { subject, .. } => called(&named.by, subject),
        actor @ (Actor::Stranger | Actor::Operator | Actor::Deployment) => actor.as_str().to_owned(),
    };
    // What was typed is in quotes: it may look like anybody's name.
    let user = match (&entry.subject, &entry.username) {
        (Some(subject), _) => called(&named.subject, subject),
        (None, Some(typed)) => format!("\"{typed}\""),
        (None, None) => String::new(),
    };
    let times = if entry.times > 1 { format!(" (×{})", entry.times) } else { String::new() };
    vec![
        entry.at.to_string(),
        format!("{}{times}", entry.event),
        by,
        user,
        entry.client.as_ref().map_or(String::new(), ToString::to_string),
        entry.token.map_or(String::new(), |token| token.to_string()),
        entry.source.ip.map_or(String::new(), |ip| ip.to_string()),
        entry.detail.clone().unwrap_or_default(),
    ]
}

/// An entry with the keys of `GET /v1/admin/audit`, and what its subjects are called now.
pub(crate) fn value(NumberedEntry { number, entry }: &NumberedEntry, named: &Named) -> Value {
    let (by, by_token) = match &entry.actor {
        Actor::Holder { subject, token } => (Some(subject), Some(token)),
        Actor::Stranger | Actor::Operator | Actor::Deployment => (None, None),
    };
    json!({
        "id": number,
        "at": entry.at,
        "event": entry.event,
        "actor": entry.actor.as_str(),
        "by": by,
        "by_name": named.by,
        "by_token": by_token,
        "subject": entry.subject,
        "subject_name": named.subject,
        "client": entry.client,
        "token": entry.token,
        "kind": entry.kind,
        "username": entry.username,
        "detail": entry.detail,
        "ip": entry.source.ip,
        "user_agent": entry.source.user_agent,
        "times": entry.times,
    })
}
