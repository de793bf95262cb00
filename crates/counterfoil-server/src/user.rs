//! `counterfoil user …`

use clap::{Args, Subcommand, ValueEnum};
use counterfoil::{Account, AccountField, AccountQuery, By, Email, NewAccount, Role, Username};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::office::Office;
use crate::password_input::{NewPassword, PasswordInput};

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Make a user
    Create(Create),
    /// List all users
    List,
    /// Show one user
    Show {
        /// User name or confirmed e-mail address
        name: String,
    },
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
            UserCommand::List => list(office).await,
            UserCommand::Show { name } => show(office, &office.user(&name).await?),
            UserCommand::SetPassword { name, password } => {
                let account = office.user(&name).await?;
                let NewPassword { password, encoding } = password.read(account.username.as_str())?;
                authority.set_password(&account.subject, password, &operator, office.now()).await?;
                encoding.remark();
                done(office, &account, "has a new password and must log in anew")
            }
            UserCommand::SetRole { name, role } => {
                let role = match role {
                    RoleName::User => Role::User,
                    RoleName::Staff => Role::Staff,
                    RoleName::Admin => Role::Admin,
                };
                let account = office.user(&name).await?;
                let account = authority.set_role(&account.subject, role, &operator, office.now()).await?;
                done(office, &account, &format!("is {} now", role.as_str()))
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
        let NewPassword { password, encoding } = self.password.read(self.name.as_str())?;
        let new = NewAccount {
            username: self.name,
            email: self.email,
            email_confirmed: self.email_confirmed,
            first_name: self.first_name,
            last_name: self.last_name,
            role,
        };
        let account = office.authority().create_user(new, Some(password), &By::operator(), office.now()).await?;
        encoding.remark();
        office.output.answer(&format!("created {} ({})", account.username, account.subject), &value(&account))
    }
}

async fn list(office: &Office) -> Result<(), Failure> {
    let mut list = office.output.list(&["name", "email", "role", "state", "last login", "id"]);
    let mut query = AccountQuery { limit: 500, ..AccountQuery::default() };
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

fn show(office: &Office, account: &Account) -> Result<(), Failure> {
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
        ("created", account.created_at.to_string()),
        ("last login", account.last_login_at.map_or("never".to_owned(), |at| at.to_string())),
    ];
    office.output.record(&rows, &value(account))
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
    Value::Object(object)
}
