//! How mails are written and sent: [`MailSettings`].

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use counterfoil::mail::{
    ConsoleTransport, FileTransport, Mailbox, NoSmtp, NotAMailbox, Postman, SmtpLogin, SmtpSecurity, SmtpSettings,
    SmtpTransport, Templates, Transport,
};
use counterfoil::{Letter, Lifetime, Mailer, NotSent, Sending};
use zeroize::Zeroizing;

use crate::config::private;
use crate::failure::Failure;
use crate::setting::Chosen;

/// How mails are written and sent.
#[derive(Debug, Clone)]
pub struct MailSettings {
    /// How they leave.
    pub transport: MailTransport,
    /// Whom they come from.
    pub from: Mailbox,
    /// Whom answers go to.
    pub reply_to: Option<Mailbox>,
    /// What they are written in for whom no other language is known.
    pub language: String,
    /// Templates that replace those of the program.
    pub templates: Option<PathBuf>,
}

/// How mails leave.
#[derive(Debug, Clone)]
pub enum MailTransport {
    /// They do not.
    None,
    /// Onto stderr.
    Console,
    /// Into files.
    File {
        /// In this directory.
        directory: PathBuf,
        /// Whether the operator named it; the one in the data directory is made with the first mail.
        named: bool,
    },
    /// By a mail server.
    Smtp(SmtpSettings),
}

impl MailSettings {
    /// Makes of raw settings what they mean; `data_dir` is where files go, `host` and `site` what a sender is made of where
    /// none is named.
    ///
    /// # Errors
    /// With the first setting that makes no sense, and why.
    pub(crate) fn judge(
        chosen: &Chosen,
        data_dir: &Path,
        host: Option<&str>,
        site: &str,
    ) -> Result<MailSettings, Failure> {
        let mailbox = |text: &str| text.parse::<Mailbox>().map_err(|error: NotAMailbox| error.to_string());
        let transport = match chosen.required("mail.transport", transport)? {
            Word::None => MailTransport::None,
            Word::Console => MailTransport::Console,
            Word::File => {
                let directory = chosen.optional("mail.directory", path)?;
                let named = directory.is_some();
                MailTransport::File { directory: directory.unwrap_or_else(|| data_dir.join("mail")), named }
            }
            Word::Smtp => MailTransport::Smtp(smtp(chosen)?),
        };
        let from = match (chosen.optional("mail.from", mailbox)?, &transport) {
            (Some(from), _) => from,
            (None, MailTransport::Smtp(_)) => {
                return Err(Failure::usage("mail.from is not set, and mail.transport = \"smtp\"")
                    .hint("say whom mails come from: mail.from = \"Example <no-reply@example.org>\""));
            }
            (None, MailTransport::None | MailTransport::Console | MailTransport::File { .. }) => {
                let host = host
                    .filter(|host| !host.starts_with('[') && host.parse::<IpAddr>().is_err())
                    .unwrap_or("localhost");
                let named = format!("{site} <no-reply@{host}>").parse();
                named
                    .or_else(|_| "no-reply@localhost".parse())
                    .map_err(|error: NotAMailbox| Failure::usage(format!("mail.from: {error}")))?
            }
        };
        Ok(MailSettings {
            transport,
            from,
            reply_to: chosen.optional("mail.reply_to", mailbox)?,
            language: chosen.required("mail.language", language)?,
            templates: chosen.optional("mail.templates", path)?,
        })
    }

    /// Reads templates and certificates, without writing anything or speaking to anybody.
    ///
    /// # Errors
    /// When something is not to be read, or does not work.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        self.templates()?;
        match &self.transport {
            MailTransport::Smtp(smtp) => SmtpTransport::new(smtp.clone()).map(drop).map_err(|error| no_smtp(&error)),
            MailTransport::None | MailTransport::Console | MailTransport::File { .. } => Ok(()),
        }
    }

    /// Who writes and sends them; nobody where none are sent.
    ///
    /// # Errors
    /// As [`MailSettings::check`], and where there is no place for files.
    pub(crate) fn postman(&self) -> Result<Option<Arc<dyn Mailer>>, Failure> {
        let transport: Arc<dyn Transport> = match &self.transport {
            MailTransport::None => return Ok(None),
            MailTransport::Console => Arc::new(ConsoleTransport),
            MailTransport::File { directory, named } => {
                let transport = FileTransport::new(directory);
                if *named {
                    transport.prepare().map_err(|error| {
                        Failure::caused_by(format!("no mails can be put into {}", directory.display()), &error)
                            .hint("mail.directory names another place, mail.transport another way")
                    })?;
                }
                Arc::new(transport)
            }
            MailTransport::Smtp(smtp) => Arc::new(SmtpTransport::new(smtp.clone()).map_err(|error| no_smtp(&error))?),
        };
        let postman = Postman::new(self.templates()?, self.from.clone(), transport);
        Ok(Some(match &self.reply_to {
            Some(reply_to) => Arc::new(postman.reply_to(reply_to.clone())),
            None => Arc::new(postman),
        }))
    }

    fn templates(&self) -> Result<Templates, Failure> {
        let read = match &self.templates {
            Some(directory) => Templates::load(directory, &self.language),
            None => Templates::embedded_with_default(&self.language),
        };
        read.map_err(|error| {
            let failure = Failure::usage(error.to_string());
            match error.to_do() {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        })
    }
}

/// Sends mails by the settings in force.
#[derive(Debug)]
pub(crate) struct CurrentMailer(RwLock<Option<Arc<dyn Mailer>>>);

impl CurrentMailer {
    pub(crate) fn new(mailer: Option<Arc<dyn Mailer>>) -> CurrentMailer {
        CurrentMailer(RwLock::new(mailer))
    }

    /// From now on by this one; mails on their way go on by the one before.
    pub(crate) fn replace(&self, mailer: Option<Arc<dyn Mailer>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = mailer;
    }
}

impl Mailer for CurrentMailer {
    fn send(&self, letter: Letter) -> Sending<'_> {
        let mailer = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        Box::pin(async move {
            match mailer {
                Some(mailer) => mailer.send(letter).await,
                None => Err(NotSent::Later("mail.transport is none".into())),
            }
        })
    }
}

enum Word {
    None,
    Console,
    File,
    Smtp,
}

fn transport(text: &str) -> Result<Word, String> {
    match text {
        "none" => Ok(Word::None),
        "console" => Ok(Word::Console),
        "file" => Ok(Word::File),
        "smtp" => Ok(Word::Smtp),
        _ => Err("expected file, smtp, console or none".to_owned()),
    }
}

fn smtp(chosen: &Chosen) -> Result<SmtpSettings, Failure> {
    let host = chosen.optional("smtp.host", |text| Ok(text.to_owned()))?;
    let host = host.ok_or_else(|| {
        Failure::usage("smtp.host is not set, and mail.transport = \"smtp\"")
            .hint("name the mail server: smtp.host = \"smtp.example.org\"")
    })?;
    let port = chosen.number("smtp.port", 1..=65_535)?.and_then(|port| u16::try_from(port).ok());
    let ca_file = chosen.optional("smtp.ca_file", path)?;
    let ca_pem = ca_file.map(|file| fs::read(&file).map_err(|error| unreadable("smtp.ca_file", &file, &error)));
    let settings = SmtpSettings {
        host,
        port,
        security: chosen.required("smtp.security", security)?,
        login: login(chosen)?,
        ca_pem: ca_pem.transpose()?,
        timeout: chosen.required("smtp.timeout", timeout)?,
    };
    // Whether mails would cross a network in the clear is known now, and whether the certificates are any.
    SmtpTransport::new(settings.clone()).map_err(|error| match error {
        NoSmtp::NotAHost => chosen.refused("smtp.host", &error.to_string()),
        NoSmtp::InTheClear => chosen.refused("smtp.security", &error.to_string()),
        NoSmtp::BadCertificates(_) => chosen.refused("smtp.ca_file", &error.to_string()),
    })?;
    Ok(settings)
}

fn login(chosen: &Chosen) -> Result<Option<SmtpLogin>, Failure> {
    let username = chosen.optional("smtp.username", |text| Ok(text.to_owned()))?;
    let spelled = chosen.optional("smtp.password", |text| Ok(Zeroizing::new(text.to_owned())))?;
    let file = chosen.optional("smtp.password_file", path)?;
    let from_file = file.is_some();
    let password = match (spelled, file) {
        (Some(_), Some(_)) => {
            return Err(Failure::usage("smtp.password and smtp.password_file both say the password; set one of them"));
        }
        (Some(password), None) => Some(password),
        (None, Some(file)) => {
            let read = private(&file).and_then(|()| fs::read_to_string(&file)).map(Zeroizing::new);
            let mut password = read.map_err(|error| unreadable("smtp.password_file", &file, &error))?;
            for end in ['\n', '\r'] {
                if password.ends_with(end) {
                    password.pop();
                }
            }
            Some(password)
        }
        (None, None) => None,
    };
    match (username, password) {
        (Some(username), Some(password)) => Ok(Some(SmtpLogin { username, password })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(chosen
            .refused("smtp.username", "no password is set")
            .hint("put it into a file and name that with smtp.password_file")),
        (None, Some(_)) => {
            let key = if from_file { "smtp.password_file" } else { "smtp.password" };
            Err(chosen.refused(key, "smtp.username is not set"))
        }
    }
}

fn unreadable(key: &str, file: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("{key}: cannot use {}: {error}", file.display()))
}

fn no_smtp(error: &NoSmtp) -> Failure {
    Failure::usage(error.to_string())
}

fn security(text: &str) -> Result<SmtpSecurity, String> {
    match text {
        "starttls" => Ok(SmtpSecurity::StartTls),
        "tls" => Ok(SmtpSecurity::Tls),
        "none" => Ok(SmtpSecurity::NoneOnThisMachine),
        _ => Err("expected starttls, tls or none".to_owned()),
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<Lifetime>().map_err(|error| error.to_string())?.seconds();
    if seconds <= 60 { Ok(Duration::from_secs(seconds)) } else { Err("expected a minute at most".to_owned()) }
}

fn language(text: &str) -> Result<String, String> {
    if counterfoil::mail::is_language(text) {
        Ok(text.to_owned())
    } else {
        Err("expected a language: \"en\", \"pt-BR\"".to_owned())
    }
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("expected a path".to_owned()) } else { Ok(text.into()) }
}
