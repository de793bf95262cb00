//! What people may do with accounts of their own, as the settings say it.

use std::fs;
use std::ops::RangeInclusive;

use counterfoil::{
    AccountRules, Blocklist, EmailRule, Lifetime, LinkPattern, Links, NotALinkPattern, NotARate, NotARedirect, Notices,
    PasswordPolicy, Rate, Redirects, Registering, Unconfirmed,
};

use crate::failure::Failure;
use crate::mail_settings::MailTransport;
use crate::setting::Chosen;

/// How long a link works that replaces a password: whoever gets at mail of last week gets nothing.
const RESET_WITHIN: RangeInclusive<u64> = 1..=24 * 60 * 60;
/// How long what nobody confirms may lie about.
const CONFIRM_WITHIN: RangeInclusive<u64> = 1..=30 * 24 * 60 * 60;
/// Shorter, and nobody reads of the change in time; longer, and who has bought an old mailbox takes the account.
const UNDO_WITHIN: RangeInclusive<u64> = 60 * 60..=90 * 24 * 60 * 60;

/// Makes of raw settings the rules; `base` is what links begin with, `host` the host in it. There are `pages` as well where
/// `base` will be known only later.
///
/// # Errors
/// With the first setting that makes no sense, and why.
pub(crate) fn judge(
    chosen: &Chosen,
    base: Option<String>,
    pages: bool,
    host: Option<&str>,
    site: String,
    mail: &MailTransport,
) -> Result<AccountRules, Failure> {
    let lifetime = |text: &str| text.parse::<Lifetime>().map_err(|error| error.to_string());
    let rate = |text: &str| text.parse::<Rate>().map_err(|error: NotARate| error.to_string());
    let pattern = |text: &str| text.parse::<LinkPattern>().map_err(|error: NotALinkPattern| error.to_string());
    let rules = AccountRules {
        registration: chosen.required("accounts.registration", registration)?,
        email: chosen.required("accounts.email", email)?,
        unconfirmed: chosen.required("accounts.unconfirmed", unconfirmed)?,
        passwords: passwords(chosen, [Some(site.as_str()), host].into_iter().flatten())?,
        confirm_within: chosen.required("accounts.confirm_within", |text| within(text, &CONFIRM_WITHIN))?,
        reset_within: chosen.required("accounts.reset_within", |text| within(text, &RESET_WITHIN))?,
        undo_within: chosen.required("accounts.undo_within", |text| within(text, &UNDO_WITHIN))?,
        mails_per_address: chosen.required("accounts.mails_per_address", rate)?,
        mails_per_source: chosen.required("accounts.mails_per_source", rate)?,
        notices: Notices {
            new_device: chosen.switch("accounts.tell_new_device")?,
            expiring: chosen.optional("accounts.tell_expiring", lifetime)?,
            expiring_logins: chosen.switch("accounts.tell_expiring_logins")?,
        },
        links: Links {
            base,
            confirm: chosen.optional("links.confirm", pattern)?,
            reset: chosen.optional("links.reset", pattern)?,
            account: chosen.optional("links.account", page)?,
            ..Links::default()
        },
        redirects: redirects(chosen)?,
        site,
    };
    let nobody_is_mailed = matches!(mail, MailTransport::None);
    if rules.email == EmailRule::NotAsked && rules.unconfirmed == Unconfirmed::Waits {
        return Err(chosen.refused(
            "accounts.unconfirmed",
            "accounts.email is \"refused\", so no account has an address to confirm",
        ));
    }
    let is_to_confirm = rules.email == EmailRule::Required || rules.unconfirmed == Unconfirmed::Waits;
    if rules.registration == Registering::Anybody && is_to_confirm {
        let nobody = "nobody could confirm an address, because";
        if nobody_is_mailed {
            return Err(chosen.refused("accounts.registration", &format!("{nobody} mail.transport is \"none\"")));
        }
        if !pages && rules.links.confirm.is_none() {
            let why = format!("{nobody} nothing says what links begin with");
            return Err(chosen
                .refused("accounts.registration", &why)
                .hint("say it: base_url = \"https://auth.example.org\""));
        }
    }
    if rules.notices.expiring_logins && rules.notices.expiring.is_none() {
        return Err(chosen.refused("accounts.tell_expiring_logins", "accounts.tell_expiring is not set"));
    }
    // Without a transport nothing that needs a link is offered.
    let links = if nobody_is_mailed { Links::default() } else { rules.links };
    Ok(AccountRules { links, ..rules })
}

fn within(text: &str, seconds: &RangeInclusive<u64>) -> Result<Lifetime, String> {
    let lifetime = text.parse::<Lifetime>().map_err(|error| error.to_string())?;
    if seconds.contains(&lifetime.seconds()) {
        return Ok(lifetime);
    }
    let shown =
        |bound: u64| Lifetime::from_seconds(bound).map_or_else(|_| bound.to_string(), |bound| bound.to_string());
    Err(format!("expected a time from {} to {}", shown(*seconds.start()), shown(*seconds.end())))
}

fn passwords<'a>(chosen: &Chosen, names: impl Iterator<Item = &'a str>) -> Result<PasswordPolicy, Failure> {
    let range = PasswordPolicy::FLOOR_LEAST_CHARS..=PasswordPolicy::CEILING_LEAST_CHARS;
    let bound = |chars: usize| u32::try_from(chars).unwrap_or(u32::MAX);
    let least = chosen.number("accounts.password_length", bound(*range.start())..=bound(*range.end()))?;
    let least = least.and_then(|chars| usize::try_from(chars).ok()).unwrap_or(PasswordPolicy::DEFAULT_LEAST_CHARS);
    let policy =
        PasswordPolicy::new(least).map_err(|error| Failure::usage(format!("accounts.password_length: {error}")))?;
    let policy = policy.for_site(names);
    match chosen.optional("accounts.blocklist_file", |text| Ok(text.to_owned()))? {
        None => Ok(policy),
        Some(file) => {
            let text = fs::read_to_string(&file)
                .map_err(|error| chosen.refused("accounts.blocklist_file", &format!("cannot read it: {error}")))?;
            Ok(policy.with_blocklist(Blocklist::new(text.lines())))
        }
    }
}

fn redirects(chosen: &Chosen) -> Result<Redirects, Failure> {
    let pages = chosen.list("links.next", |text| Ok(text.to_owned()))?;
    let listed = Redirects::new(pages.iter().map(String::as_str));
    listed.map_err(|error: NotARedirect| chosen.refused("links.next", &error.to_string()))
}

fn registration(text: &str) -> Result<Registering, String> {
    match text {
        "nobody" => Ok(Registering::Nobody),
        "anybody" => Ok(Registering::Anybody),
        _ => Err("expected nobody or anybody".to_owned()),
    }
}

fn email(text: &str) -> Result<EmailRule, String> {
    match text {
        "required" => Ok(EmailRule::Required),
        "optional" => Ok(EmailRule::Optional),
        "refused" => Ok(EmailRule::NotAsked),
        _ => Err("expected required, optional or refused".to_owned()),
    }
}

fn unconfirmed(text: &str) -> Result<Unconfirmed, String> {
    match text {
        "log-in" => Ok(Unconfirmed::LogsIn),
        "wait" => Ok(Unconfirmed::Waits),
        _ => Err("expected log-in or wait".to_owned()),
    }
}

/// A page of the operator's, told in mails.
fn page(text: &str) -> Result<String, String> {
    if Links::is_page(text) {
        Ok(text.to_owned())
    } else {
        Err("expected https:// and a page: \"https://app.example.org/account\"".to_owned())
    }
}
