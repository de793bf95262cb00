//! `counterfoil user …`

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use counterfoil::{
    Account, AccountChange, AccountField, AccountQuery, AuditQuery, By, Cursor, Email, Metadata, NewAccount, Now,
    PageRequest, Role, TokenFilter, TokenQuery, Tries, UserExport, Username,
};
use serde_json::{Map, Value, json};

use crate::audit;
use crate::client::OrNone;
use crate::failure::Failure;
use crate::office::Office;
use crate::output;
use crate::password_input::{Encoding, NewPassword, PasswordInput};
use crate::token;

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Make a user
    Create(Create),
    /// List users, by name
    List(List),
    /// Show one user, failed logins included
    Show {
        /// User name or confirmed e-mail address
        name: String,
    },
    /// Change what is known of a user; what is not named stays
    Update(Update),
    /// Forget a user's failed logins, so that the password opens the account again
    Unlock {
        /// User name or confirmed e-mail address
        name: String,
    },
    /// Print all that is kept about a user, as JSON
    Export {
        /// User name or confirmed e-mail address
        name: String,
    },
    /// Take the addresses of users as confirmed, because you know that they are theirs
    Confirm(Several),
    /// Mail users a link to confirm their address
    SendConfirmation(Several),
    /// Mail users a link to choose a new password
    ResetPassword(Several),
    /// Set a password; ends the user's logins, not the API keys
    SetPassword {
        /// User name or confirmed e-mail address
        name: String,
        #[command(flatten)]
        password: PasswordInput,
    },
    /// Set what a user may do beyond their own affairs
    SetRole {
        /// User name or confirmed e-mail address
        name: String,
        /// What
        role: RoleName,
    },
    /// Refuse every token and login of a user until they are enabled again
    Disable {
        /// User name or confirmed e-mail address
        name: String,
    },
    /// Accept the tokens and logins of a disabled user again
    Enable {
        /// User name or confirmed e-mail address
        name: String,
    },
    /// Delete a user, and end all their tokens for good
    Delete {
        /// User name or confirmed e-mail address
        name: String,
        /// Yes, delete
        #[arg(long)]
        yes: bool,
    },
}

/// One after the other; where one fails, the others are done all the same.
#[derive(Debug, Args)]
pub(crate) struct Several {
    /// User names or confirmed e-mail addresses
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// What they type to log in
    name: Username,
    /// Where mail goes
    #[arg(long)]
    email: Option<Email>,
    /// You know that the address is theirs, so they may log in with it
    #[arg(long, requires = "email")]
    email_confirmed: bool,
    /// Given name
    #[arg(long, default_value = "", hide_default_value = true)]
    first_name: String,
    /// Family name
    #[arg(long, default_value = "", hide_default_value = true)]
    last_name: String,
    /// They may do everything
    #[arg(long, conflicts_with = "staff")]
    admin: bool,
    /// They may look after other users and their tokens
    #[arg(long)]
    staff: bool,
    #[command(flatten)]
    password: PasswordInput,
    /// Without a password: nobody logs in until one is set
    #[arg(long, conflicts_with_all = ["password_stdin", "password_file"])]
    no_password: bool,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Those alone whose name begins so, in any case
    #[arg(long, value_name = "PREFIX")]
    name: Option<String>,
    /// Those alone with this address, confirmed or not
    #[arg(long)]
    email: Option<Email>,
    /// Those of this role alone
    #[arg(long)]
    role: Option<RoleName>,
    /// Those alone that may log in
    #[arg(long, conflicts_with = "disabled")]
    active: bool,
    /// Those alone that may not
    #[arg(long)]
    disabled: bool,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true).args([
    "email", "no_email", "email_confirmed", "first_name", "last_name", "locale", "attributes", "lock_rotation",
    "unlock_rotation",
]))]
pub(crate) struct Update {
    /// User name or confirmed e-mail address
    name: String,
    /// Where mail goes from now on; nobody has confirmed it yet
    #[arg(long)]
    email: Option<Email>,
    /// You know that the address is theirs, so they may log in with it
    #[arg(long, conflicts_with = "no_email")]
    email_confirmed: bool,
    /// They have no address
    #[arg(long, conflicts_with = "email")]
    no_email: bool,
    /// Given name
    #[arg(long, value_parser = personal_name)]
    first_name: Option<String>,
    /// Family name
    #[arg(long, value_parser = personal_name)]
    last_name: Option<String>,
    /// The language they read: de, pt-BR, …
    #[arg(long, value_name = "TAG|none")]
    locale: Option<OrNone<Locale>>,
    /// The host's own facts about them: a JSON object, which replaces the one there is
    #[arg(long, value_name = "JSON", value_parser = attributes)]
    attributes: Option<Metadata>,
    /// Their tokens may not change their secret
    #[arg(long, conflicts_with = "unlock_rotation")]
    lock_rotation: bool,
    /// They may again
    #[arg(long)]
    unlock_rotation: bool,
}

/// The tag of a language, as far as a look at it tells (BCP 47).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Locale(String);

impl std::str::FromStr for Locale {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_part =
            |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if text.len() <= 35 && text.split('-').all(is_part) {
            Ok(Locale(text.to_owned()))
        } else {
            Err("expected the tag of a language, such as de or pt-BR")
        }
    }
}

/// Given or family name, as the routes take it.
fn personal_name(text: &str) -> Result<String, String> {
    const MOST: usize = 150;
    if text.chars().count() > MOST || text.chars().any(char::is_control) {
        return Err(format!("expected at most {MOST} characters and no control characters"));
    }
    Ok(text.to_owned())
}

fn attributes(text: &str) -> Result<Metadata, String> {
    let object: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| format!("expected a JSON object: {error}"))?;
    Metadata::new(object).map_err(|error| error.to_string())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleName {
    /// Look after themselves
    User,
    /// Look after other users and their tokens
    Staff,
    /// Everything
    Admin,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Role {
        match name {
            RoleName::User => Role::User,
            RoleName::Staff => Role::Staff,
            RoleName::Admin => Role::Admin,
        }
    }
}

impl UserCommand {
    /// Whether it may begin a deployment where there is none.
    pub(crate) fn founds(&self) -> bool {
        matches!(self, UserCommand::Create(_))
    }

    pub(crate) async fn run(self, office: &Office) -> Result<(), Failure> {
        let operator = By::operator();
        let authority = office.authority();
        match self {
            UserCommand::Create(create) => create.run(office).await,
            UserCommand::List(list) => list.run(office).await,
            UserCommand::Show { name } => show(office, &office.user(&name).await?).await,
            UserCommand::Update(update) => update.run(office).await,
            UserCommand::Unlock { name } => {
                let account = office.user(&name).await?;
                authority.unlock_user(&account.subject, &operator, office.now()).await?;
                done(office, &account, "may try the password again")
            }
            UserCommand::Export { name } => export(office, &office.user(&name).await?).await,
            UserCommand::Confirm(several) => {
                several
                    .each(office, "has a confirmed address now", async |account| confirm(office, &account).await)
                    .await
            }
            UserCommand::SendConfirmation(several) => {
                let send = async |account: Account| {
                    Ok(authority.send_confirmation(&account.subject, &operator, office.now()).await?)
                };
                several.each(office, "is mailed a link to confirm the address", send).await
            }
            UserCommand::ResetPassword(several) => {
                let send = async |account: Account| {
                    Ok(authority.start_reset(&account.subject, &operator, office.now()).await?)
                };
                several.each(office, "is mailed a link to choose a new password", send).await
            }
            UserCommand::SetPassword { name, password } => {
                let account = office.user(&name).await?;
                let NewPassword { password, encoding } = password.read(account.username.as_str())?;
                authority.set_password(&account.subject, password, &operator, office.now()).await?;
                encoding.remark();
                done(office, &account, "has a new password and must log in anew")
            }
            UserCommand::SetRole { name, role } => {
                let account = office.user(&name).await?;
                let account = authority.set_role(&account.subject, role.into(), &operator, office.now()).await?;
                done(office, &account, &format!("is {} now", account.role.as_str()))
            }
            UserCommand::Disable { name } => {
                let account = office.user(&name).await?;
                authority.disable_user(&account.subject, &operator, office.now()).await?;
                done(office, &account, "is disabled: every token and login is refused")
            }
            UserCommand::Enable { name } => {
                let account = office.user(&name).await?;
                authority.enable_user(&account.subject, &operator, office.now()).await?;
                done(office, &account, "is enabled again")
            }
            UserCommand::Delete { name, yes } => {
                let account = office.user(&name).await?;
                if !yes {
                    return Err(Failure::unconfirmed(format!(
                        "deletes {} and ends all their tokens for good",
                        account.username
                    )));
                }
                authority.delete_user(&account.subject, &operator, office.now()).await?;
                done(office, &account, "is deleted")
            }
        }
    }
}

impl Create {
    async fn run(self, office: &Office) -> Result<(), Failure> {
        let role = match (self.admin, self.staff) {
            (true, _) => Role::Admin,
            (false, true) => Role::Staff,
            (false, false) => Role::User,
        };
        let (password, encoding) = if self.no_password {
            (None, Encoding::Utf8)
        } else {
            let NewPassword { password, encoding } = self.password.read(self.name.as_str())?;
            (Some(password), encoding)
        };
        let new = NewAccount {
            username: self.name,
            email: self.email,
            email_confirmed: self.email_confirmed,
            first_name: self.first_name,
            last_name: self.last_name,
            role,
        };
        let account = office.authority().create_user(new, password, &By::operator(), office.now()).await?;
        encoding.remark();
        office.output.answer(&format!("created {} ({})", account.username, account.subject), &value(&account))
    }
}

impl Several {
    /// Does it for each of them, says of each what came of it, and fails in the end if one did.
    async fn each(
        &self,
        office: &Office,
        done: &str,
        act: impl AsyncFn(Account) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut told = Vec::new();
        let mut failed = 0;
        for name in &self.names {
            let outcome = match office.user(name).await {
                Ok(account) => act(account).await,
                Err(failure) => Err(failure),
            };
            failed += usize::from(outcome.is_err());
            told.push(match &outcome {
                Ok(()) => (vec![name.clone(), done.to_owned()], json!({ "name": name, "done": true })),
                Err(failure) => {
                    let (why, hint) = failure.parts();
                    let line = format!("failed: {why}");
                    (vec![name.clone(), line], json!({ "name": name, "done": false, "error": why, "hint": hint }))
                }
            });
        }
        let mut list = office.output.list(&["name", "outcome"]);
        list.page(told)?;
        list.end()?;
        match failed {
            0 => Ok(()),
            _ => Err(Failure::refused(format!("{failed} of {} failed", self.names.len()))
                .hint("what went wrong stands beside each name")),
        }
    }
}

async fn confirm(office: &Office, account: &Account) -> Result<(), Failure> {
    let Some(email) = account.email.clone() else {
        return Err(Failure::refused(format!("{} has no address", account.username))
            .hint("name it with `counterfoil user update NAME --email ADDRESS`"));
    };
    let now = office.now();
    // Of this address, should they have another one by now.
    let change = AccountChange::EmailConfirmed(email, now.wall);
    office.authority().change_user(&account.subject, vec![change], &By::operator(), now).await?;
    Ok(())
}

impl List {
    async fn run(self, office: &Office) -> Result<(), Failure> {
        let active = match (self.active, self.disabled) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        };
        let (name, email, role) = (self.name, self.email, self.role.map(Role::from));
        let query = AccountQuery { name, email, role, active, after: None, limit: 500 };
        print_list(office, query).await
    }
}

impl Update {
    async fn run(self, office: &Office) -> Result<(), Failure> {
        let account = office.user(&self.name).await?;
        let changes = self.changes(&account, office.now())?;
        let account = office.authority().change_user(&account.subject, changes, &By::operator(), office.now()).await?;
        office.output.answer(&format!("changed {}", account.username), &value(&account))
    }

    fn changes(self, account: &Account, now: Now) -> Result<Vec<AccountChange>, Failure> {
        let mut changes = Vec::new();
        if self.no_email {
            changes.push(AccountChange::Email(None, None));
        } else if self.email.is_some() || self.email_confirmed {
            let Some(email) = self.email.or_else(|| account.email.clone()) else {
                return Err(Failure::usage(format!("{} has no address to confirm", account.username))
                    .hint("name it with --email ADDRESS"));
            };
            changes.push(AccountChange::Email(Some(email), self.email_confirmed.then_some(now.wall)));
        }
        changes.extend(self.first_name.map(AccountChange::FirstName));
        changes.extend(self.last_name.map(AccountChange::LastName));
        let tag = |locale: OrNone<Locale>| match locale {
            OrNone::Some(Locale(tag)) => Some(tag),
            OrNone::None => None,
        };
        changes.extend(self.locale.map(|locale| AccountChange::Locale(tag(locale))));
        changes.extend(self.attributes.map(AccountChange::Attributes));
        if self.lock_rotation || self.unlock_rotation {
            changes.push(AccountChange::RotationLocked(self.lock_rotation));
        }
        Ok(changes)
    }
}

async fn print_list(office: &Office, mut query: AccountQuery) -> Result<(), Failure> {
    let mut list = office.output.list(&["name", "email", "role", "state", "last login", "id"]);
    loop {
        let page = office.authority().users(&query).await?;
        let Some(last) = page.last() else { return list.end() };
        query.after = Some(last.username.clone());
        let record = |account: &Account| {
            let row = vec![
                account.username.to_string(),
                account.email.as_ref().map_or(String::new(), ToString::to_string),
                account.role.as_str().to_owned(),
                state(account).to_owned(),
                account.last_login_at.map_or("never".to_owned(), |at| at.to_string()),
                account.subject.to_string(),
            ];
            (row, value(account))
        };
        list.page(page.iter().map(record).collect())?;
    }
}

async fn show(office: &Office, account: &Account) -> Result<(), Failure> {
    let tries = office.authority().tries(&account.subject).await?;
    let email = match (&account.email, account.email_confirmed_at) {
        (Some(email), Some(at)) => format!("{email} (confirmed {at})"),
        (Some(email), None) => format!("{email} (not confirmed)"),
        (None, _) => String::new(),
    };
    let rows = [
        ("name", account.username.to_string()),
        ("id", account.subject.to_string()),
        ("email", email),
        ("first name", account.first_name.clone()),
        ("last name", account.last_name.clone()),
        ("role", account.role.as_str().to_owned()),
        ("state", state(account).to_owned()),
        ("failed logins", failed(&tries, office.now())),
        ("rotation", if account.rotation_locked { "locked" } else { "allowed" }.to_owned()),
        ("locale", account.locale.clone().unwrap_or_default()),
        ("attributes", account.attributes.to_json()),
        ("created", account.created_at.to_string()),
        ("last login", account.last_login_at.map_or("never".to_owned(), |at| at.to_string())),
    ];
    office.output.record(&rows, &value_with_tries(account, &tries, office.now()))
}

/// How many logins have failed since one went well, and what that means.
fn failed(tries: &Tries, now: Now) -> String {
    if tries.failed == 0 {
        return "none".to_owned();
    }
    let meaning = match tries.judge(now.wall) {
        Ok(()) => "the password may be tried".to_owned(),
        Err(_) if tries.exhausted() => "locked: a new password or `counterfoil user unlock` opens it".to_owned(),
        Err(later) => format!("the password may be tried in {} s", later.seconds),
    };
    format!("{}, last {}; {meaning}", tries.failed, tries.last)
}

/// All that is kept, written as it is read: the audit log may say much.
async fn export(office: &Office, account: &Account) -> Result<(), Failure> {
    let now = office.now();
    let UserExport { account, tries, mut tokens, mut more_tokens, entries, mut more_entries } =
        office.authority().export_user(&account.subject, &By::operator(), now).await?;
    let user = value_with_tries(&account, &tries, now);
    output::write(&format!("{{\"user\": {user},\n\"tokens\": ["))?;
    let mut separator = "\n";
    loop {
        for record in &tokens {
            output::write(&format!("{separator}{}", token::value(record, Some(&account), now)))?;
            separator = ",\n";
        }
        let Some(last) = tokens.last().filter(|_| more_tokens) else { break };
        let query = TokenQuery { filter: TokenFilter::of(account.subject.clone()), ..TokenQuery::default() };
        let request = PageRequest { after: Some(Cursor::after(last.number)), limit: 200 };
        let page = office.authority().list(query, request).await?;
        (tokens, more_tokens) = (page.items, page.next.is_some());
    }
    output::write("],\n\"audit\": [")?;
    let mut names = audit::Names::default();
    separator = "\n";
    let mut entries = entries;
    loop {
        for entry in &entries {
            let value = audit::value(entry, &names.of(office, entry).await?);
            output::write(&format!("{separator}{value}"))?;
            separator = ",\n";
        }
        if more_entries.is_none() {
            return output::line("]}");
        }
        let query = AuditQuery {
            subject: Some(account.subject.clone()),
            before: more_entries,
            limit: audit::READ_AT_ONCE,
            ..AuditQuery::default()
        };
        let page = office.authority().audit(&query, now).await?;
        (entries, more_entries) = (page.entries, page.next);
    }
}

/// What became of an account: a sentence for people, the account for programs.
fn done(office: &Office, account: &Account, what: &str) -> Result<(), Failure> {
    let value = json!({ "id": account.subject, "username": account.username });
    office.output.answer(&format!("{} {what}", account.username), &value)
}

fn state(account: &Account) -> &'static str {
    if account.active { "active" } else { "disabled" }
}

fn value(account: &Account) -> Value {
    let mut object = account.view(&[
        AccountField::Id,
        AccountField::Username,
        AccountField::Email,
        AccountField::EmailConfirmed,
        AccountField::FirstName,
        AccountField::LastName,
        AccountField::Attributes,
        AccountField::Locale,
        AccountField::Staff,
        AccountField::Admin,
        AccountField::CreatedAt,
        AccountField::LastLoginAt,
    ]);
    object.insert("active".to_owned(), account.active.into());
    object.insert("role".to_owned(), account.role.as_str().into());
    object.insert("rotation_locked".to_owned(), account.rotation_locked.into());
    Value::Object(object)
}

/// With the logins that failed since one went well; `locked` once no wait is long enough.
fn value_with_tries(account: &Account, tries: &Tries, now: Now) -> Value {
    let mut value = value(account);
    value["failed_logins"] = json!({
        "failed": tries.failed,
        "last": (tries.failed > 0).then_some(tries.last),
        "locked": tries.exhausted(),
        "try_in_seconds": tries.judge(now.wall).err().filter(|_| !tries.exhausted()).map(|later| later.seconds),
    });
    value
}
