//! `counterfoil mail …`

use std::error::Error;

use clap::{Args, Subcommand};
use counterfoil::{Clock, Email, Languages, Letter, MailId, MailKind, NotSent, OsEntropy, SystemClock, Waiting};
use serde_json::{Value, json};

use crate::config::Config;
use crate::failure::{Failure, causes};
use crate::mail_settings::MailTransport;
use crate::office::Office;
use crate::output::{self, Output};

/// How many mails are read from the store at once, and shown at most.
const MOST_SHOWN: u32 = 1_000;

#[derive(Debug, Subcommand)]
pub(crate) enum MailCommand {
    /// Send a mail now, and say what came of it
    Test(Test),
    /// List the mails that wait to be sent
    Queue,
}

#[derive(Debug, Args)]
pub(crate) struct Test {
    /// Who gets it
    address: Email,
    /// In which language [default: the setting mail.language]
    #[arg(long, value_name = "TAG")]
    language: Option<String>,
}

impl MailCommand {
    pub(crate) async fn run(self, config: &Config, output: Output) -> Result<(), Failure> {
        match self {
            MailCommand::Test(test) => test.run(config, output).await,
            MailCommand::Queue => {
                let office = Office::open(config, false, output).await?;
                let shown = queue(&office).await;
                office.close().await;
                shown
            }
        }
    }
}

impl Test {
    async fn run(self, config: &Config, output: Output) -> Result<(), Failure> {
        let Some(mailer) = config.mail.postman()? else {
            return Err(Failure::refused("mail.transport is \"none\", so no mail is sent")
                .hint("`counterfoil config defaults` tells of the others"));
        };
        let now = SystemClock.now();
        let id = MailId::generate(now.wall, &OsEntropy)
            .map_err(|error| Failure::caused_by("the mail has no name", &error))?;
        let letter = Letter {
            id,
            kind: MailKind::Test,
            to: self.address.clone(),
            username: None,
            languages: Languages::of(self.language.as_deref(), None),
            url: None,
            site: config.authority.accounts.site.clone(),
            at: now.wall,
            expires_at: now.wall,
        };
        let place = place(&config.mail.transport);
        mailer.send(letter).await.map_err(|error| not_sent(&error))?;
        let text = format!("sent to {}, {place}; its Message-ID begins with {id}", self.address);
        output.answer(&text, &json!({ "id": id.to_string(), "to": self.address, "by": place }))
    }
}

fn place(transport: &MailTransport) -> String {
    match transport {
        MailTransport::None => "nowhere".to_owned(),
        MailTransport::Console => "onto stderr".to_owned(),
        MailTransport::File { directory, .. } => format!("into {}", directory.display()),
        MailTransport::Smtp(smtp) => format!("by {}", smtp.host),
    }
}

fn not_sent(error: &NotSent) -> Failure {
    let hint = match error {
        NotSent::Later(_) => "a mail of the server's would be tried again, every half hour in the end",
        NotSent::Never(_) => "a mail of the server's would be given up",
    };
    let why = error.source().map_or_else(|| error.to_string(), causes);
    Failure::refused(format!("not sent: {why}")).hint(hint)
}

async fn queue(office: &Office) -> Result<(), Failure> {
    let (waiting, count) = office.authority().mails_waiting(MOST_SHOWN).await?;
    let beyond = count.saturating_sub(waiting.len() as u64);
    let mut list =
        office.output.list(&["id", "mail", "to", "asked at", "tries", "next try at", "expires at", "last error"]);
    list.page(waiting.iter().map(|mail| (row(mail), value(mail))).collect())?;
    list.end()?;
    if beyond > 0 {
        output::remark(&format!("and {beyond} more"));
    }
    Ok(())
}

fn row(mail: &Waiting) -> Vec<String> {
    let order = &mail.order;
    vec![
        order.id.to_string(),
        order.kind.name().to_owned(),
        order.to.to_string(),
        order.asked_at.to_string(),
        mail.tries.to_string(),
        mail.next_try_at.to_string(),
        order.expires_at.to_string(),
        mail.last_error.clone().unwrap_or_default(),
    ]
}

fn value(mail: &Waiting) -> Value {
    let order = &mail.order;
    json!({
        "id": order.id.to_string(),
        "mail": order.kind.name(),
        "to": order.to,
        "subject": order.subject,
        "languages": order.languages,
        "asked_at": order.asked_at,
        "tries": mail.tries,
        "next_try_at": mail.next_try_at,
        "expires_at": order.expires_at,
        "last_error": mail.last_error,
    })
}
