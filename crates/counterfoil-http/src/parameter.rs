//! What a route reads from its URL: [`Parameter`].

use counterfoil_core::authority::PageRequest;

/// One segment of the path or field of the query, as the description has it.
#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) place: Place,
    pub(crate) form: Form,
    /// What it is for, in one line.
    pub(crate) what: &'static str,
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Path,
    /// In the query, where it has to be.
    Needed,
    /// In the query, where it may be left out.
    Optional,
}

/// What its text is of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form {
    Text,
    Uuid,
    Instant,
    Address,
    Flag,
    /// One of these.
    Word(&'static [&'static str]),
    /// From 1 to this, and 50 where it is left out.
    Count(u32),
}

const fn query(name: &'static str, form: Form, what: &'static str) -> Parameter {
    Parameter { name, place: Place::Optional, form, what }
}

const fn id(form: Form, what: &'static str) -> Parameter {
    Parameter { name: "id", place: Place::Path, form, what }
}

/// Most audit entries on a page.
pub(crate) const MOST_ENTRIES: u32 = 1_000;

const KINDS: &[&str] = &["login", "key"];

pub(crate) const TOKEN_ID: Parameter = id(Form::Uuid, "The id of the token.");
pub(crate) const USER_ID: Parameter = id(Form::Text, "The id of the user.");
pub(crate) const CLIENT_ID: Parameter = id(Form::Uuid, "The id of the client.");
pub(crate) const LIMIT: Parameter = query("limit", Form::Count(PageRequest::MOST), "How many records at most.");
pub(crate) const ENTRIES: Parameter = query("limit", Form::Count(MOST_ENTRIES), "How many entries at most.");
pub(crate) const CURSOR: Parameter = query("cursor", Form::Text, "The value of `next` from the page before.");
pub(crate) const KEEP: Parameter = Parameter {
    place: Place::Needed,
    ..query("keep", Form::Word(&["current"]), "Which token to leave: always `current`.")
};
pub(crate) const ALL: Parameter = Parameter {
    place: Place::Needed,
    ..query("all", Form::Flag, "Always `true`, so that nobody ends everything by leaving something out.")
};
pub(crate) const WAIT: Parameter = query(
    "wait",
    Form::Word(&["everywhere"]),
    "`everywhere`: answer only once no node can still accept what was ended, within a second.",
);
pub(crate) const KEYS: Parameter = query("keys", Form::Flag, "Whether API keys end too; `false` if it is left out.");
pub(crate) const NAME: Parameter = query("name", Form::Text, "What the user name begins with, in any case.");
pub(crate) const EMAIL: Parameter = query("email", Form::Text, "The e-mail address, confirmed or not, in any case.");
pub(crate) const ROLE: Parameter = query("role", Form::Word(&["user", "staff", "admin"]), "The role.");
pub(crate) const ACTIVE: Parameter = query("active", Form::Flag, "Whether it may log in.");
pub(crate) const USER: Parameter = query("user", Form::Text, "The id of the user that it stands for.");
pub(crate) const CLIENT: Parameter = query("client", Form::Text, "The name of the client.");
pub(crate) const KIND: Parameter = query("kind", Form::Word(KINDS), "A signed-in device or an API key.");
pub(crate) const LIVE: Parameter = query("live", Form::Flag, "`true`: only those that are accepted right now.");
pub(crate) const ISSUED_BEFORE: Parameter = query("issued_before", Form::Instant, "Issued before this instant.");
pub(crate) const USED_BEFORE: Parameter =
    query("used_before", Form::Instant, "Last used before this instant, or issued before it and never used.");
pub(crate) const IP: Parameter = query("ip", Form::Address, "The address that it was seen at.");
pub(crate) const EVENT: Parameter = query("event", Form::Text, "What happened, in one word: `logged_in`.");
pub(crate) const SUBJECT: Parameter = query("subject", Form::Text, "The id of the user that it concerns.");
pub(crate) const BY: Parameter = query("by", Form::Text, "The id of the user who did it.");
pub(crate) const TOKEN: Parameter = query("token", Form::Uuid, "The id of the token that it concerns, or that did it.");
pub(crate) const SINCE: Parameter = query("since", Form::Instant, "From this instant on.");
pub(crate) const UNTIL: Parameter = query("until", Form::Instant, "Before this instant.");
pub(crate) const FORMAT: Parameter =
    query("format", Form::Word(&["json", "csv"]), "As JSON, which is the default, or as a file for a spreadsheet.");
