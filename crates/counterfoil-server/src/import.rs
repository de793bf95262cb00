//! `counterfoil import …`: users, clients and live tokens of a Django project, carried over.

mod carrying;
mod cell;
mod ledger;
mod packages;
pub mod pickle;
mod policy;
mod project;
mod reading;
mod redis;
mod report;
mod rollback;
pub(crate) mod settings;
mod source;
mod users;

use std::path::PathBuf;
use std::time::Duration;
use std::{fs, thread};

use clap::{Args, Subcommand};
use counterfoil::{By, Clock, Lifetime, SystemClock};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use crate::config::Config;
use crate::failure::{Failure, printable};
use crate::import::carrying::Carrier;
use crate::import::policy::Ring;
use crate::import::project::Choice;
use crate::import::reading::{Part, Reading, Wanted};
use crate::import::report::{Fate, Kind, Progress, Report};
use crate::import::settings::Settings;
use crate::import::source::Place;
use crate::office::Office;
use crate::output::{self, Output};
use crate::serve;

#[derive(Debug, Subcommand)]
pub(crate) enum ImportCommand {
    /// Bring users, clients and live tokens of a Django project; again for what has changed there since
    Django(Box<Django>),
    /// Forget what was imported, when nothing will be imported any more
    Finish {
        /// Yes, forget: whatever is imported afterwards comes as if it had never been here
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Django {
    /// Its database: sqlite:PATH, postgres://USER@HOST/DATABASE, or dump:FILE for what `manage.py dumpdata` wrote. It is only read
    #[arg(long, value_name = "SOURCE")]
    from: Place,
    /// The file with the password of a PostgreSQL that needs one
    #[arg(long, value_name = "FILE")]
    from_password_file: Option<PathBuf>,
    /// The cache that djforge-redis-multitokens keeps its tokens in: redis://HOST/DATABASE
    #[arg(long, value_name = "URL")]
    redis: Option<redis::Place>,
    /// The file with the password of a Redis that needs one
    #[arg(long, value_name = "FILE", requires = "redis")]
    redis_password_file: Option<PathBuf>,
    /// What Django puts before every key of that cache [default: of the settings, or :1:]
    #[arg(long, value_name = "TEXT", requires = "redis")]
    redis_prefix: Option<String>,
    /// Whose tokens: multitoken, durin, advanced, djforge, rest_authtoken, knox, authtoken; auto: of all that are found
    #[arg(long, value_name = "NAME", default_value = "auto")]
    package: Choice,
    /// The Django settings of the packages, as JSON or TOML
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// What to call the project, where more than one is imported
    #[arg(long, value_name = "NAME", default_value = "django")]
    source: String,
    /// Say what would come and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Go on carrying over what changes there until told to stop (Ctrl-C)
    #[arg(long, conflicts_with = "dry_run")]
    follow: bool,
    /// With --follow, how long to wait between two looks
    #[arg(long, value_name = "TIME", default_value = "5s", requires = "follow")]
    every: Lifetime,
    /// Write down what a return to Django would lose, in a new file
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    rollback_report: Option<PathBuf>,
    /// Yes, end here what is there no longer, even if that is more than half
    #[arg(long)]
    yes: bool,
}

impl ImportCommand {
    pub(crate) async fn run(self, config: &Config, output: Output) -> Result<(), Failure> {
        match self {
            ImportCommand::Django(django) => django.run(config, output).await,
            ImportCommand::Finish { yes } => {
                if !yes {
                    return Err(Failure::unconfirmed("forgets which users and tokens were imported"));
                }
                let office = Office::open(config, false, output).await?;
                let done = finish(&office).await;
                office.close().await;
                done
            }
        }
    }
}

async fn finish(office: &Office) -> Result<(), Failure> {
    let importer = office.importer()?;
    let mut count = 0;
    loop {
        const BATCH: u32 = 1_000;
        let forgotten = importer.finish(BATCH).await?;
        count += forgotten;
        if forgotten < u64::from(BATCH) {
            break;
        }
    }
    office.output.answer(&format!("forgot where {count} users and tokens came from"), &json!({ "forgotten": count }))
}

impl Django {
    async fn run(self, config: &Config, output: Output) -> Result<(), Failure> {
        let settings = self.settings.as_deref().map(Settings::read).transpose()?.unwrap_or_default();
        if self.follow && matches!(self.from, Place::Dump(_)) {
            return Err(Failure::usage("a dump does not change: there is nothing to follow"));
        }
        let wanted = self.wanted(&settings)?;
        // Before anything is made here.
        let reader = Reader::start(&wanted).await?;
        let progress = Progress::new(output);
        if self.dry_run {
            let ring = if config.key_ring_file.is_some() { Ring::Present } else { Ring::Missing };
            let mut carrier = Carrier::new(None, &self.source, &settings, ring, SystemClock.now(), progress);
            reader.look(&mut carrier).await?;
            carrier.progress.end();
            return carrier.report.show(output, &[("trial", json!("nothing was written"))]);
        }
        let office = Office::open(config, true, output).await?;
        let done = Box::pin(self.carry(&office, reader, &wanted, progress)).await;
        office.close().await;
        done
    }

    fn wanted(&self, settings: &Settings) -> Result<Wanted, Failure> {
        let secret = |file: &Option<PathBuf>| match file {
            Some(path) => {
                let text = fs::read_to_string(path);
                let text =
                    text.map_err(|error| Failure::caused_by(format!("cannot read {}", path.display()), &error))?;
                Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
            }
            None => Ok::<_, Failure>(None),
        };
        let from = match secret(&self.from_password_file)? {
            Some(password) => self.from.clone().with_password(&password)?,
            None => self.from.clone(),
        };
        let redis = match (&self.redis, secret(&self.redis_password_file)?) {
            (Some(place), Some(password)) => Some(place.clone().with_password(&password)),
            (Some(place), None) => Some(place.clone()),
            (None, _) => None,
        };
        let prefix = self.redis_prefix.clone().unwrap_or_else(|| settings.redis_prefix());
        Ok(Wanted { from, redis: redis.map(|place| (place, prefix)), choice: self.package, settings: settings.clone() })
    }

    async fn carry(&self, office: &Office, reader: Reader, wanted: &Wanted, progress: Progress) -> Result<(), Failure> {
        let ring = if office.key_ring_ids().is_empty() { Ring::Missing } else { Ring::Present };
        let destination = Some((office, office.importer()?));
        let settings = &wanted.settings;
        let mut carrier = Carrier::new(destination, &self.source, settings, ring, office.now(), progress);
        let deaf = |error| Failure::caused_by("cannot hear signals", &error);
        let (stop, _) = serve::told_to_stop().map_err(deaf)?;
        let mut stop = Box::pin(stop);
        let first = tokio::select! {
            done = self.look(&reader, &mut carrier) => done,
            () = &mut stop => return Err(Failure::refused("told to stop before all was read")
                .hint("run the same command again: it goes on from where it was")),
        };
        carrier.progress.end();
        tell(office, &carrier.report).await?;
        if let Err(failure) = first {
            // What came is told all the same.
            if carrier.report != Report::default() {
                carrier.report.show(office.output, &[("end", json!("not all was read"))])?;
            }
            return Err(failure);
        }
        let mut reader = Some(reader);
        carrier.report.show(office.output, &[])?;
        if self.follow {
            output::remark("following; Ctrl-C ends it");
            let wait = Duration::from_millis(self.every.millis());
            loop {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = &mut stop => break,
                }
                carrier.progress = Progress::silent();
                let looked = tokio::select! {
                    looked = self.look_again(reader.take(), wanted, &mut carrier) => looked,
                    () = &mut stop => break,
                };
                match looked {
                    Ok(again) => reader = Some(again),
                    // It may be there again the next time.
                    Err(failure) => output::remark(&format!("{}: {}", SystemClock.now().wall, failure.in_one_line())),
                }
                tell(office, &carrier.report).await?;
                if let Some(words) = news(&carrier.report) {
                    match office.output {
                        Output::Human => output::remark(&format!("{}: {words}", SystemClock.now().wall)),
                        Output::Json => output::line(&carrier.report.to_json().to_string())?,
                    }
                }
            }
            output::remark("followed until now");
        }
        if let Some(file) = &self.rollback_report {
            let lines = rollback::write(office, file).await?;
            output::remark(&printable(&format!("{}: {lines} lines of what a return would lose", file.display())));
        }
        Ok(())
    }

    async fn look(&self, reader: &Reader, carrier: &mut Carrier<'_>) -> Result<(), Failure> {
        reader.look(carrier).await?;
        carrier.carry_endings(self.yes).await
    }

    /// Looks on, or opens the source anew where it failed the last time.
    async fn look_again(
        &self,
        reader: Option<Reader>,
        wanted: &Wanted,
        carrier: &mut Carrier<'_>,
    ) -> Result<Reader, Failure> {
        let reader = match reader {
            Some(reader) => reader,
            None => Reader::start(wanted).await?,
        };
        self.look(&reader, carrier).await?;
        Ok(reader)
    }
}

/// A thread that reads a source. Everything that waits for a database or a disk waits there, so that the store writes one part while
/// the next is read.
struct Reader {
    looks: std::sync::mpsc::Sender<mpsc::Sender<Step>>,
}

/// What a look hands over.
enum Step {
    Part(Part),
    End(Result<(), Failure>),
}

impl Reader {
    /// Opens the source.
    async fn start(wanted: &Wanted) -> Result<Reader, Failure> {
        let wanted = wanted.clone();
        let (opened, open) = oneshot::channel();
        let (looks, asked) = std::sync::mpsc::channel::<mpsc::Sender<Step>>();
        let read = move || {
            let mut reading = match Reading::open(&wanted) {
                Ok(reading) => reading,
                Err(failure) => return drop(opened.send(Err(failure))),
            };
            opened.send(Ok(())).ok();
            for hand in asked {
                let told_to_stop = |_| Failure::refused("told to stop");
                let read = reading.look(&mut |part| hand.blocking_send(Step::Part(part)).map_err(told_to_stop));
                hand.blocking_send(Step::End(read)).ok();
            }
        };
        let started = thread::Builder::new().name("import".to_owned()).spawn(read);
        started.map_err(|error| Failure::caused_by("the system gave no thread", &error))?;
        open.await.map_err(|_| Reader::fell())??;
        Ok(Reader { looks })
    }

    /// Reads the source once, and brings what is handed over.
    async fn look(&self, carrier: &mut Carrier<'_>) -> Result<(), Failure> {
        carrier.begin().await?;
        // One part is written while the next is read, and two wait.
        let (hand, mut steps) = mpsc::channel(2);
        self.looks.send(hand).map_err(|_| Reader::fell())?;
        while let Some(step) = steps.recv().await {
            match step {
                Step::Part(part) => carrier.take(part).await?,
                Step::End(read) => return read,
            }
        }
        Err(Reader::fell())
    }

    fn fell() -> Failure {
        Failure::refused("reading the source failed in an unforeseen way")
    }
}

/// Writes into the audit log what came, if anything did.
async fn tell(office: &Office, report: &Report) -> Result<(), Failure> {
    let came = |kind| report.number(kind, Fate::Came);
    if came(Kind::Users) + came(Kind::Tokens) > 0 {
        office.importer()?.tell(came(Kind::Users), came(Kind::Tokens), &By::operator(), office.now()).await?;
    }
    Ok(())
}

/// What a later look found, in words; nothing where all was as before.
fn news(report: &Report) -> Option<String> {
    let words: Vec<String> = [Kind::Clients, Kind::Users, Kind::Tokens, Kind::Links, Kind::Locks]
        .into_iter()
        .flat_map(|kind| [Fate::Came, Fate::Updated, Fate::Gone].map(|fate| (kind, fate)))
        .filter(|(kind, fate)| report.number(*kind, *fate) > 0)
        .map(|(kind, fate)| format!("{} {} {}", report.number(kind, fate), kind.as_str(), fate.as_str()))
        .collect();
    (!words.is_empty()).then(|| words.join(", "))
}
