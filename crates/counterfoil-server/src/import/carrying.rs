//! What becomes of what was read: [`Carrier`], which brings it into a deployment part by part.

use std::collections::{BTreeSet, HashMap, HashSet};

use counterfoil::import::{
    AccountOutcome, Brought, ImportedAccount, ImportedLink, ImportedToken, Importer, TokenOutcome,
};
use counterfoil::{
    Account, AccountChange, By, ClientName, ClientOrder, Error, Kind as TokenKind, Metadata, Policy, Refusal, Role,
    Source, Standing, SubjectId,
};

use crate::failure::Failure;
use crate::import::ledger::{Keys, Missing, Seen, Stretch, has_any, number};
use crate::import::packages::{ClientRow, LinkRow, TokenRow, Unreadable};
use crate::import::policy::{self, Ring};
use crate::import::project::Package;
use crate::import::reading::{Part, is_dead};
use crate::import::report::{Fate, Kind, Progress, Report};
use crate::import::settings::Settings;
use crate::import::users::User;
use crate::office::Office;

/// What is brought where; `None` for the deployment is a trial, which writes nothing.
pub(crate) struct Carrier<'a> {
    destination: Option<(&'a Office, &'a Importer)>,
    keys: Keys,
    settings: &'a Settings,
    ring: Ring,
    now: counterfoil::Now,
    /// The clients of durin by the number they have there; none for those that could not come.
    clients: HashMap<i64, Option<ClientName>>,
    /// The clients of packages that have none of their own.
    own: HashMap<Package, ClientName>,
    locked: HashSet<SubjectId>,
    complete: BTreeSet<Package>,
    /// What was met, where there is something to be held against it.
    seen: Seen,
    /// Which stretches of the ledger had rows before this look.
    had: BTreeSet<Stretch>,
    /// What was so at the end of the look before, in the same run.
    before: Option<Before>,
    inactive: HashSet<SubjectId>,
    /// The users of this look who are here, by what tells their keys apart.
    here: HashSet<u128>,
    pub(crate) report: Report,
    pub(crate) progress: Progress,
}

/// What a later look is compared with.
struct Before {
    locked: HashSet<SubjectId>,
    inactive: HashSet<SubjectId>,
}

impl<'a> Carrier<'a> {
    pub(crate) fn new(
        destination: Option<(&'a Office, &'a Importer)>,
        source: &str,
        settings: &'a Settings,
        ring: Ring,
        now: counterfoil::Now,
        progress: Progress,
    ) -> Carrier<'a> {
        Carrier {
            destination,
            keys: Keys::of(source),
            settings,
            ring,
            now,
            clients: HashMap::new(),
            own: HashMap::new(),
            locked: HashSet::new(),
            complete: BTreeSet::new(),
            seen: Seen::default(),
            had: BTreeSet::new(),
            before: None,
            inactive: HashSet::new(),
            here: HashSet::new(),
            report: Report::default(),
            progress,
        }
    }

    /// Begins a look: what is told from here on is of it alone.
    pub(crate) async fn begin(&mut self) -> Result<Report, Failure> {
        self.complete.clear();
        self.seen = Seen::default();
        self.had.clear();
        self.here.clear();
        if let Some((office, importer)) = &self.destination {
            self.now = office.now();
            let stretches = Package::ALL.into_iter().map(Stretch::Tokens).chain([Stretch::Users]);
            for stretch in stretches {
                if has_any(importer, &self.keys, stretch).await? {
                    self.had.insert(stretch);
                }
            }
        }
        Ok(std::mem::take(&mut self.report))
    }

    pub(crate) async fn take(&mut self, part: Part) -> Result<(), Failure> {
        if let Some((office, _)) = &self.destination {
            self.now = office.now();
        }
        match part {
            Part::Begin { what, of } => self.progress.begin(&what, of),
            Part::Complete(package) => {
                self.complete.insert(package);
            }
            Part::Clients(rows) => self.clients(rows).await?,
            Part::Locks(locked) => self.locked = locked,
            Part::Users(rows) => self.users(rows).await?,
            Part::Tokens(rows) => self.tokens(rows).await?,
            Part::Links(rows) => self.links(rows).await?,
            Part::Told(report, rows) => {
                self.progress.come(rows);
                self.report.absorb(*report);
            }
        }
        Ok(())
    }

    async fn clients(&mut self, rows: Vec<ClientRow>) -> Result<(), Failure> {
        self.progress.come(rows.len() as u64);
        for row in rows {
            // Read anew in each look of the same run.
            if self.clients.contains_key(&row.id) {
                self.report.count(Kind::Clients, Fate::Known, 1);
                continue;
            }
            let mut warnings = Report::default();
            let name = match policy::of_durin(&row, self.settings, self.ring, &mut warnings) {
                Ok(order) => Some(self.client(order, warnings).await?),
                Err(Unreadable { why, row }) => {
                    self.report.skip(Kind::Clients, &why, &row);
                    None
                }
            };
            self.clients.insert(row.id, name);
        }
        Ok(())
    }

    /// Makes a client. One that is there stays as it is, but the client `default` of a new deployment that nobody has touched.
    async fn client(&mut self, order: ClientOrder, warnings: Report) -> Result<ClientName, Failure> {
        let name = order.name.clone();
        let fate = match &self.destination {
            None => Fate::Came,
            Some((office, _)) => {
                let authority = office.authority();
                match authority.create_client(order.clone(), &By::operator(), self.now).await {
                    Ok(_) => Fate::Came,
                    Err(Error::Refused(Refusal::ClientNameTaken)) => {
                        let present = authority.client(&name).await?;
                        let untouched = name == ClientName::default_client()
                            && present.policy == Policy::default()
                            && present.allow_login
                            && present.policy != order.policy;
                        if untouched {
                            authority.settle_client(order.clone(), &By::operator(), self.now).await?;
                            Fate::Came
                        } else {
                            if present.policy != order.policy || present.allow_login != order.allow_login {
                                let what = "the client was there already with other rules, which stay";
                                self.report.change(what, name.as_str());
                            }
                            Fate::Known
                        }
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        };
        if fate == Fate::Came {
            self.report.absorb(warnings);
        }
        self.report.count(Kind::Clients, fate, 1);
        Ok(name)
    }

    /// The client that this token is on; `None` where it could not come.
    async fn client_of(&mut self, token: &TokenRow) -> Result<Option<ClientName>, Failure> {
        if let Some(id) = token.client {
            return Ok(self.clients.get(&id).cloned().flatten());
        }
        if let Some(name) = self.own.get(&token.package) {
            return Ok(Some(name.clone()));
        }
        let mut warnings = Report::default();
        let order = policy::of_package(token.package, self.settings, self.ring, &mut warnings);
        let order = order.map_err(|unreadable| Failure::refused(unreadable.why))?;
        let name = self.client(order, warnings).await?;
        self.own.insert(token.package, name.clone());
        Ok(Some(name))
    }

    async fn users(&mut self, rows: Vec<User>) -> Result<(), Failure> {
        self.progress.come(rows.len() as u64);
        let mut accounts = Vec::with_capacity(rows.len());
        for user in rows {
            let key = self.keys.user(&user.subject);
            if self.had.contains(&Stretch::Users) {
                self.seen.note(Stretch::Users, &key);
            }
            if !user.active {
                self.inactive.insert(user.subject.clone());
            }
            if user.role == Role::Admin {
                self.report.change("a superuser is an administrator here", user.username.as_str());
            }
            accounts.push(ImportedAccount {
                key,
                password: user.password,
                account: Account {
                    email_confirmed_at: user.email_confirmed.then_some(self.now.wall),
                    email: user.email,
                    first_name: user.first_name,
                    last_name: user.last_name,
                    active: user.active,
                    role: user.role,
                    last_login_at: user.last_login_at,
                    rotation_locked: self.locked.contains(&user.subject),
                    ..Account::named(user.subject, user.username, user.joined_at.unwrap_or(self.now.wall))
                },
            });
        }
        let Some((_, importer)) = &self.destination else {
            self.here.extend(accounts.iter().map(|account| number(&account.key)));
            self.report.count(Kind::Users, Fate::Came, accounts.len() as u64);
            let locked = accounts.iter().filter(|account| account.account.rotation_locked).count();
            self.report.count(Kind::Locks, Fate::Came, locked as u64);
            return Ok(());
        };
        let outcomes = importer.accounts(&accounts, self.now).await?;
        for (account, outcome) in accounts.into_iter().zip(outcomes) {
            if is_here(outcome) {
                self.here.insert(number(&account.key));
            }
            self.account(account.account, outcome).await?;
        }
        Ok(())
    }

    async fn account(&mut self, account: Account, outcome: AccountOutcome) -> Result<(), Failure> {
        let called = format!("user {} {}", account.subject, account.username);
        let fate = match outcome {
            AccountOutcome::Imported => {
                if account.rotation_locked {
                    self.report.count(Kind::Locks, Fate::Came, 1);
                }
                Fate::Came
            }
            AccountOutcome::Known => Fate::Known,
            AccountOutcome::PasswordReplaced => Fate::Updated,
            AccountOutcome::PasswordKept | AccountOutcome::Deleted => Fate::KeptOurs,
            AccountOutcome::SubjectTaken => {
                let why =
                    "somebody else has this key here: of another project, or made here; nobody is merged with them";
                self.report.skip(Kind::Users, why, &called);
                return Ok(());
            }
            AccountOutcome::NameTaken => {
                self.report.skip(
                    Kind::Users,
                    "somebody else has this user name here; nobody is merged with them",
                    &called,
                );
                return Ok(());
            }
        };
        self.report.count(Kind::Users, fate, 1);
        if matches!(fate, Fate::Known | Fate::Updated | Fate::KeptOurs) {
            self.what_changed_there(&account, &called).await?;
        }
        Ok(())
    }

    /// What was changed in the source between two looks of the same run is carried over. Before that, whether it was changed there or
    /// here nobody can tell, so it is told and left.
    async fn what_changed_there(&mut self, account: &Account, called: &str) -> Result<(), Failure> {
        let (Some((office, _)), subject) = (&self.destination, &account.subject) else { return Ok(()) };
        let by = By::operator();
        let Some(before) = &self.before else {
            if !account.active && office.account(subject).await?.is_some_and(|here| here.active) {
                self.report.change("inactive there and active here; stays active", called);
            }
            return Ok(());
        };
        match (before.inactive.contains(subject), account.active) {
            (false, false) => match office.authority().disable_user(subject, &by, self.now).await {
                Ok(()) => self.report.count(Kind::Users, Fate::Updated, 1),
                Err(Error::Refused(_)) => {}
                Err(error) => return Err(error.into()),
            },
            (true, true) => self.report.change("active again there; `counterfoil user enable` does so here", called),
            (false, true) | (true, false) => {}
        }
        let (was, is) = (before.locked.contains(subject), account.rotation_locked);
        if was != is {
            let change = vec![AccountChange::RotationLocked(is)];
            match office.authority().change_user(subject, change, &by, self.now).await {
                Ok(_) => self.report.count(Kind::Locks, if is { Fate::Came } else { Fate::Gone }, 1),
                Err(Error::Refused(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn tokens(&mut self, rows: Vec<TokenRow>) -> Result<(), Failure> {
        self.progress.come(rows.len() as u64);
        let mut tokens = Vec::with_capacity(rows.len());
        let mut called = Vec::with_capacity(rows.len());
        for row in rows {
            let key = self.keys.token(&row);
            let stretch = Stretch::Tokens(row.package);
            if self.had.contains(&stretch) {
                self.seen.note(stretch, &key);
            }
            if is_dead(&row, self.now.wall) {
                self.report.count(Kind::Tokens, Fate::Dead, 1);
                continue;
            }
            // Somebody else may have that key here: a token is only its owner's, who has come from this source.
            if !self.here.contains(&number(&self.keys.user(&row.user))) {
                self.report.skip(Kind::Tokens, "its user did not come", &row.called());
                continue;
            }
            let Some(client) = self.client_of(&row).await? else {
                self.report.skip(Kind::Tokens, "its client did not come", &row.called());
                continue;
            };
            called.push((row.called(), row.number));
            tokens.push(ImportedToken {
                key,
                number: row.number,
                kind: TokenKind::Login,
                subject: row.user,
                client,
                name: row.name,
                metadata: Metadata::default(),
                issued_at: row.issued_at,
                expires_at: row.expires_at,
                secret: row.kept,
                source: Source { ip: row.ip, user_agent: row.agent },
                last_seen: None,
            });
        }
        let Some((_, importer)) = &self.destination else {
            self.report.count(Kind::Tokens, Fate::Came, tokens.len() as u64);
            return Ok(());
        };
        let outcomes = importer.tokens(tokens, self.now).await?;
        for ((called, wanted), outcome) in called.into_iter().zip(outcomes) {
            let mut skip = |why: &str| self.report.skip(Kind::Tokens, why, &called);
            let fate = match outcome {
                TokenOutcome::Imported { number } => {
                    if wanted.is_some_and(|wanted| wanted != number) {
                        self.report.change("its number was taken, so it has another one", &called);
                    }
                    Fate::Came
                }
                TokenOutcome::Known(_) => Fate::Known,
                TokenOutcome::Gone => Fate::KeptOurs,
                TokenOutcome::Expired => Fate::Dead,
                TokenOutcome::Taken => {
                    skip("a token with this text is here already");
                    continue;
                }
                TokenOutcome::SubjectMissing => {
                    skip("its user is not here");
                    continue;
                }
                TokenOutcome::ClientMissing => {
                    skip("its client was deleted here");
                    continue;
                }
                TokenOutcome::Unreadable => {
                    skip("nothing can be made of what is kept of it");
                    continue;
                }
            };
            self.report.count(Kind::Tokens, fate, 1);
        }
        Ok(())
    }

    async fn links(&mut self, rows: Vec<LinkRow>) -> Result<(), Failure> {
        self.progress.come(rows.len() as u64);
        for LinkRow { sha512, user, email, expires_at } in rows {
            if expires_at <= self.now.wall {
                self.report.count(Kind::Links, Fate::Dead, 1);
                continue;
            }
            if !self.here.contains(&number(&self.keys.user(&user))) {
                self.report.skip(Kind::Links, "its user did not come", &format!("link of user {user}"));
                continue;
            }
            let fate = match &self.destination {
                None => Fate::Came,
                Some((_, importer)) => {
                    let link = ImportedLink { subject: user, email, expires_at };
                    if importer.confirmation_link(&sha512, link, self.now).await? { Fate::Came } else { Fate::Known }
                }
            };
            self.report.count(Kind::Links, fate, 1);
        }
        Ok(())
    }

    /// Ends what the source has no longer. `sure` goes on where more than half of it would go.
    pub(crate) async fn carry_endings(&mut self, sure: bool) -> Result<(), Failure> {
        let stretches: Vec<Stretch> = self
            .complete
            .iter()
            .map(|&package| Stretch::Tokens(package))
            .chain([Stretch::Users])
            .filter(|stretch| self.had.contains(stretch))
            .collect();
        let seen = std::mem::take(&mut self.seen);
        if let Some((office, importer)) = &self.destination {
            let missing = Missing::find(importer, &self.keys, &stretches, seen).await?;
            let count = missing.rows.len() as u64;
            // In a later look of one run it is the source that has changed, and not which source it is, unless nobody is left in it.
            let nobody_is_left = self.here.is_empty() && self.had.contains(&Stretch::Users);
            let is_another = (self.before.is_none() && count * 2 > missing.of) || nobody_is_left;
            if !sure && count > 0 && is_another {
                return Err(Failure::refused(format!(
                    "{count} of {} users and tokens that were brought are not in this source; none of them was ended",
                    missing.of
                ))
                .hint(
                    "if it is another project, tell them apart with --source NAME; if they are gone there, add --yes",
                ));
            }
            for (row, expires_at) in missing.rows {
                // The packages remove what has expired there. What was renewed here goes on, and what was not is dead by itself.
                if expires_at.is_some_and(|end| end <= self.now.wall) {
                    self.report.count(Kind::Tokens, Fate::KeptOurs, 1);
                    continue;
                }
                end(office, row, self.now, &mut self.report).await?;
            }
        }
        self.before =
            Some(Before { locked: std::mem::take(&mut self.locked), inactive: std::mem::take(&mut self.inactive) });
        Ok(())
    }
}

/// Whether that user is here as the one whom the source means.
fn is_here(outcome: AccountOutcome) -> bool {
    match outcome {
        AccountOutcome::Imported
        | AccountOutcome::Known
        | AccountOutcome::PasswordReplaced
        | AccountOutcome::PasswordKept => true,
        AccountOutcome::Deleted | AccountOutcome::SubjectTaken | AccountOutcome::NameTaken => false,
    }
}

/// What the source has no longer is refused from here on: a token is revoked, somebody's account disabled, which an operator can take
/// back.
async fn end(office: &Office, row: Brought, now: counterfoil::Now, report: &mut Report) -> Result<(), Failure> {
    let authority = office.authority();
    let by = By::operator();
    let (kind, done) = match row {
        Brought::Token(id) => match authority.token(id).await {
            Ok(token) if token.standing(now.wall) == Standing::Live => {
                (Kind::Tokens, authority.revoke_any(id, &by, now).await)
            }
            Ok(_) => return Ok(()),
            Err(error) => (Kind::Tokens, Err(error)),
        },
        Brought::Account(subject) => match office.account(&subject).await? {
            Some(account) if account.active => {
                report.change(
                    "is there no longer, and was disabled here; `counterfoil user delete` removes",
                    &format!("user {subject} {}", account.username),
                );
                (Kind::Users, authority.disable_user(&subject, &by, now).await)
            }
            Some(_) | None => return Ok(()),
        },
    };
    match done {
        Ok(()) => report.count(kind, Fate::Gone, 1),
        // Removed here before.
        Err(Error::Refused(_)) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
