//! Mails of a site that confirms addresses, in the words of its settings: [`SiteMailer`].

use std::fs;
use std::path::PathBuf;

use counterfoil::{Letter, Mailer, NotSent, Sending};
use serde_json::{Map, Value};

use super::Unable;

/// Writes each mail into a file of its own, for the scenario to read.
#[derive(Debug, Clone)]
pub(super) struct SiteMailer {
    directory: PathBuf,
    from: String,
    subject: String,
    message: String,
}

impl SiteMailer {
    /// By `REGISTRATION_EMAIL` of the settings; `None` where they have none.
    pub(super) fn by(settings: &Map<String, Value>, directory: PathBuf) -> Result<Option<SiteMailer>, Unable> {
        let Some(mail) = settings.get("REGISTRATION_EMAIL") else { return Ok(None) };
        let text = |key: &str| {
            let text = mail.get(key).and_then(Value::as_str);
            text.map(str::to_owned).ok_or_else(|| format!("REGISTRATION_EMAIL has no {key}"))
        };
        Ok(Some(SiteMailer { directory, from: text("FROM")?, subject: text("SUBJECT")?, message: text("MESSAGE")? }))
    }

    fn write(&self, letter: &Letter) -> std::io::Result<()> {
        let username = letter.username.as_ref().map(counterfoil::Username::as_str).unwrap_or_default();
        let url = letter.url.as_ref().map(counterfoil::LetterUrl::expose).unwrap_or_default();
        let message = self.message.replace("{username}", username).replace("{url}", url);
        let head = format!("Subject: {}\nFrom: {}\nTo: {}", self.subject, self.from, letter.to.as_str());
        // Whoever looks into the directory finds it whole.
        let draft = self.directory.join(format!(".{}", letter.id));
        fs::write(&draft, format!("{head}\n\n{message}\n"))?;
        fs::rename(draft, self.directory.join(letter.id.to_string()))
    }
}

impl Mailer for SiteMailer {
    fn send(&self, letter: Letter) -> Sending<'_> {
        let written = self.write(&letter).map_err(|error| NotSent::Later(error.into()));
        Box::pin(async move { written })
    }
}
