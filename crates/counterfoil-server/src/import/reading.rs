//! One look at a source from end to end: [`Reading`]. It runs on a thread of its own and hands on what it read in parts, so that the
//! store writes one while the next is read, and no more than a few are ever in memory.

use std::collections::HashSet;

use counterfoil::{Clock, SubjectId, SystemClock, Timestamp};

use crate::failure::Failure;
use crate::import::packages::{self, ClientRow, LinkRow, TokenRow, Unreadable};
use crate::import::project::{Choice, Package, Project};
use crate::import::redis::{self, Finding, Redis};
use crate::import::report::{Fate, Kind, Report};
use crate::import::settings::Settings;
use crate::import::source::{self, Source};
use crate::import::users::{self, User, subject_text};

/// Rows of a part: as many as one transaction brings.
const BATCH: usize = 1_000;

/// Where to read, and what of it.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) from: source::Place,
    pub(crate) redis: Option<(redis::Place, String)>,
    pub(crate) choice: Choice,
    pub(crate) settings: Settings,
}

/// A part of what was read.
#[derive(Debug)]
pub(crate) enum Part {
    /// From here on these rows are read, about so many.
    Begin {
        what: String,
        of: u64,
    },
    /// All rows of these tokens will come, or the look fails.
    Complete(Package),
    Clients(Vec<ClientRow>),
    Users(Vec<User>),
    /// Whose tokens may not change their secret; before the users.
    Locks(HashSet<SubjectId>),
    Tokens(Vec<TokenRow>),
    Links(Vec<LinkRow>),
    /// What there is to tell of rows that are in no part, and how many those were.
    Told(Box<Report>, u64),
}

/// A source, opened.
pub(crate) struct Reading {
    wanted: Wanted,
    source: Box<dyn Source>,
    redis: Option<Redis>,
}

type Hand<'a> = &'a mut dyn FnMut(Part) -> Result<(), Failure>;

impl Reading {
    pub(crate) fn open(wanted: &Wanted) -> Result<Reading, Failure> {
        let source = wanted.from.open()?;
        let redis = match &wanted.redis {
            Some((place, prefix)) => Some(Redis::open(place, prefix)?),
            None => None,
        };
        Ok(Reading { wanted: wanted.clone(), source, redis })
    }

    /// Reads everything once.
    pub(crate) fn look(&mut self, hand: Hand<'_>) -> Result<(), Failure> {
        self.source.look()?;
        let settings = self.wanted.settings.clone();
        let project = Project::find(self.source.as_mut(), &settings, self.wanted.choice)?;
        self.tell_what_is_there(&project, hand)?;
        self.clients(&project, hand)?;
        self.locks(&project, hand)?;
        self.users(&project, hand)?;
        for tokens in &project.tokens {
            self.tokens(&project, tokens, &settings, hand)?;
        }
        // Of one package there may be two tables, an earlier one and today's.
        let mut packages: Vec<Package> = project.tokens.iter().map(|tokens| tokens.package).collect();
        packages.dedup();
        for package in packages {
            hand(Part::Complete(package))?;
        }
        if self.redis.is_some() && matches!(self.wanted.choice, Choice::Auto | Choice::Only(Package::Djforge)) {
            self.redis_tokens(hand)?;
            hand(Part::Complete(Package::Djforge))?;
        }
        self.links(&project, &settings, hand)
    }

    fn tell_what_is_there(&mut self, project: &Project, hand: Hand<'_>) -> Result<(), Failure> {
        let mut report = Report::default();
        report.found("users", &project.users.table.name);
        for tokens in &project.tokens {
            report.found(&format!("tokens of {}", tokens.package), &tokens.table.name);
        }
        for (what, table) in
            [("clients", &project.clients), ("rotation locks", &project.locks), ("confirmation links", &project.links)]
        {
            if let Some(table) = table {
                report.found(what, &table.name);
            }
        }
        if self.redis.is_some() {
            report.found("tokens of djforge", "Redis");
        } else if self.wanted.choice == Choice::Only(Package::Djforge) {
            return Err(
                Failure::usage("the tokens of djforge are in Redis").hint("name it with --redis redis://HOST/DATABASE")
            );
        }
        let strays = self.source.strays();
        if strays > 0 {
            report.warn(format!("{strays} entries of the dump are no rows of any table"));
        }
        hand(Part::Told(Box::new(report), 0))
    }

    fn clients(&mut self, project: &Project, hand: Hand<'_>) -> Result<(), Failure> {
        let Some(table) = &project.clients else { return Ok(()) };
        hand(Part::Begin { what: table.name.clone(), of: self.source.count(table)? })?;
        let mut batch = Batch::new(Part::Clients);
        self.source.rows(table, &ClientRow::columns(table), &mut |row| {
            let read = ClientRow::read(row, &mut batch.report);
            batch.take(Kind::Clients, read, hand)
        })?;
        batch.end(hand)
    }

    fn locks(&mut self, project: &Project, hand: Hand<'_>) -> Result<(), Failure> {
        let Some(table) = &project.locks else { return Ok(()) };
        let mut locked = HashSet::new();
        let mut report = Report::default();
        let is_uuid = project.users.key_is_uuid;
        self.source.rows(table, &["user_id"], &mut |row| {
            match row.first().and_then(|cell| subject_text(&cell.key().ok()?, is_uuid).parse().ok()) {
                Some(subject) => {
                    locked.insert(subject);
                }
                None => report.skip(Kind::Locks, "user_id is no key of a user", ""),
            }
            Ok(())
        })?;
        hand(Part::Told(Box::new(report), 0))?;
        hand(Part::Locks(locked))
    }

    fn users(&mut self, project: &Project, hand: Hand<'_>) -> Result<(), Failure> {
        let users = &project.users;
        hand(Part::Begin { what: users.table.name.clone(), of: self.source.count(&users.table)? })?;
        let reader = users::Reader::new(users);
        let mut batch = Batch::new(Part::Users);
        self.source.rows(&users.table, &reader.columns(), &mut |row| match reader.read(row, &mut batch.report) {
            Some(user) => batch.push(user, hand),
            None => batch.pass(hand),
        })?;
        batch.end(hand)
    }

    fn tokens(
        &mut self,
        project: &Project,
        tokens: &crate::import::project::Tokens,
        settings: &Settings,
        hand: Hand<'_>,
    ) -> Result<(), Failure> {
        hand(Part::Begin { what: tokens.table.name.clone(), of: self.source.count(&tokens.table)? })?;
        let reader = packages::Reader::new(tokens, &project.users, settings);
        let mut batch = Batch::new(Part::Tokens);
        self.source.rows(&tokens.table, &reader.columns(), &mut |row| {
            let read = reader.read(row, &mut batch.report);
            batch.take(Kind::Tokens, read, hand)
        })?;
        batch.end(hand)
    }

    fn redis_tokens(&mut self, hand: Hand<'_>) -> Result<(), Failure> {
        let Some(redis) = &mut self.redis else { return Ok(()) };
        hand(Part::Begin { what: "Redis".to_owned(), of: redis.count()? })?;
        let now = || SystemClock.now().wall;
        let mut batch = Batch::new(Part::Tokens);
        redis.tokens(&now, &mut |finding| match finding {
            Finding::Token(stored) => batch.take(Kind::Tokens, packages::of_redis(&stored, now()), hand),
            Finding::Odd(not_ours) => {
                batch.report.skip(Kind::Tokens, &format!("djforge: {not_ours}"), "");
                batch.pass(hand)
            }
            Finding::Dead => {
                batch.report.count(Kind::Tokens, Fate::Dead, 1);
                batch.pass(hand)
            }
        })?;
        batch.end(hand)
    }

    fn links(&mut self, project: &Project, settings: &Settings, hand: Hand<'_>) -> Result<(), Failure> {
        let Some(table) = &project.links else { return Ok(()) };
        hand(Part::Begin { what: table.name.clone(), of: self.source.count(table)? })?;
        let mut batch = Batch::new(Part::Links);
        self.source.rows(table, &LinkRow::COLUMNS, &mut |row| {
            let read = LinkRow::read(row, &project.users, settings);
            batch.take(Kind::Links, read, hand)
        })?;
        batch.end(hand)
    }
}

/// Rows on their way into a part.
struct Batch<T> {
    part: fn(Vec<T>) -> Part,
    rows: Vec<T>,
    /// Rows that are in none.
    passed: u64,
    report: Report,
}

impl<T> Batch<T> {
    fn new(part: fn(Vec<T>) -> Part) -> Batch<T> {
        Batch { part, rows: Vec::with_capacity(BATCH), passed: 0, report: Report::default() }
    }

    fn take(&mut self, kind: Kind, read: Result<T, Unreadable>, hand: Hand<'_>) -> Result<(), Failure> {
        match read {
            Ok(row) => self.push(row, hand),
            Err(Unreadable { why, row }) => {
                self.report.skip(kind, &why, &row);
                self.pass(hand)
            }
        }
    }

    fn push(&mut self, row: T, hand: Hand<'_>) -> Result<(), Failure> {
        self.rows.push(row);
        if self.rows.len() < BATCH {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.rows, Vec::with_capacity(BATCH));
        hand((self.part)(full))
    }

    fn pass(&mut self, hand: Hand<'_>) -> Result<(), Failure> {
        self.passed += 1;
        if self.passed.is_multiple_of(BATCH as u64) { self.tell(hand) } else { Ok(()) }
    }

    fn tell(&mut self, hand: Hand<'_>) -> Result<(), Failure> {
        let report = std::mem::take(&mut self.report);
        hand(Part::Told(Box::new(report), std::mem::take(&mut self.passed)))
    }

    fn end(mut self, hand: Hand<'_>) -> Result<(), Failure> {
        if !self.rows.is_empty() {
            let rows = std::mem::take(&mut self.rows);
            hand((self.part)(rows))?;
        }
        self.tell(hand)
    }
}

/// The instant from which tokens count as dead.
pub(crate) fn is_dead(token: &TokenRow, now: Timestamp) -> bool {
    token.expires_at.is_some_and(|end| now >= end)
}
