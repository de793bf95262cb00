//! What mails say, in which language: [`Templates`].

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use counterfoil_core::language::{Languages, is_tag};
use counterfoil_core::mail::{Letter, LetterUrl, MailId, MailKind};
use counterfoil_core::{ClientName, Kind, Timestamp, Username};
use jiff::tz::TimeZone;
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior, Value};
use zeroize::Zeroizing;

/// What a mail is written in where neither its reader's languages nor the configured one has it: it is complete.
const LAST_RESORT: &str = "en";

/// What the templates of a language share. The first two frame every mail; the others say how a point in time and a length
/// of time are written.
const SHARED: [&str; 4] = ["_layout.txt", "_layout.html", "_time.txt", "_span.txt"];

/// A file of more bytes is no template.
const MOST_BYTES: u64 = 256 * 1024;

/// What every template may use.
const FOR_ALL: [&str; 8] = ["username", "url", "site", "language", "subject", "at", "expires_at", "valid_for"];

/// How many characters of a text that a stranger chose are shown.
const MOST_OF_A_NAME: usize = 64;
const MOST_OF_AN_AGENT: usize = 120;
const MOST_OF_AN_ADDRESS: usize = 254;
const MOST_OF_A_SUBJECT: usize = 200;

/// What mails say, in every language that there is: English and German, and what a directory adds.
///
/// A directory has one of its own for each language, named by its tag (`de`, `pt-BR`), with these files:
///
/// | file | what it is |
/// |---|---|
/// | `KIND.txt` | a mail as text: `Subject: …` in the first line, an empty line, then the text |
/// | `KIND.html` | the same as HTML |
/// | `_layout.txt`, `_layout.html` | what frames them: greeting and signature |
/// | `_time.txt`, `_span.txt` | how a point in time and a length of time are written |
///
/// `KIND` is one of [`MailKind::NAMES`]. A `KIND.txt` replaces the whole mail: without a `KIND.html` beside it, it is text
/// alone. What a language lacks is taken from the default language, and from English where that lacks it too.
///
/// They are templates of [minijinja](https://docs.rs/minijinja), much like Jinja2 and Django. Every one has the variables
/// `username` (none in a test mail), `url` (the link, where there is one), `site`, `language`, `subject`, `at` (when what is
/// told of happened), `expires_at` and `valid_for` (until when the link works, and for how long). Some have more:
/// `new_address` in `address_change_asked` and `address_changed`; `client`, `user_agent` and `ip` in `new_device`, of which
/// the last two may be none; `token_kind` (`login` or `key`), `token_name` (may be none), `client` and `token_expires_at` in
/// `token_expiring`. In `_time.txt` there are `year`, `month`, `day`, `hour` and `minute`, the last two with two digits, in UTC; in
/// `_span.txt` `number` and `unit`: `minute`, `hour` or `day`. `{username}` and `{url}` in single braces are understood as well.
///
/// A variable that does not exist is an error, found when the templates are loaded: all of them are tried then.
#[derive(Debug)]
pub struct Templates {
    /// By tag, in lower case.
    languages: BTreeMap<String, Tongue>,
    default: String,
}

/// The templates of one language, and what they borrow from others.
#[derive(Debug)]
struct Tongue {
    environment: Environment<'static>,
    /// Of each kind that it has: whether as HTML too.
    kinds: BTreeMap<&'static str, bool>,
}

/// A mail in words.
pub(super) struct Written {
    pub(super) language: String,
    pub(super) subject: String,
    pub(super) text: Zeroizing<String>,
    pub(super) html: Option<Zeroizing<String>>,
}

/// The files of one language, by name.
type Files = BTreeMap<String, String>;

impl Templates {
    /// Those that come with this crate, English by default.
    ///
    /// # Errors
    /// Never; tests try them.
    pub fn embedded() -> Result<Templates, BadTemplate> {
        Templates::of(&embedded_files(), LAST_RESORT)
    }

    /// Those that come with this crate, in `default` where a reader's languages are not to be had.
    ///
    /// # Errors
    /// [`BadTemplate`] where there is nothing in that language.
    pub fn embedded_with_default(default: &str) -> Result<Templates, BadTemplate> {
        Templates::of(&embedded_files(), default)
    }

    /// Those that come with this crate, and over them those in `directory`.
    ///
    /// # Errors
    /// [`BadTemplate`]: something cannot be read, is not where a template belongs, or does not work, or there is nothing in
    /// the default language.
    pub fn load(directory: &Path, default: &str) -> Result<Templates, BadTemplate> {
        let mut languages = embedded_files();
        for (tag, own) in read_languages(directory)? {
            let files = languages.entry(tag).or_default();
            for kind in MailKind::NAMES.iter().filter(|kind| own.contains_key(&format!("{kind}.txt"))) {
                files.remove(&format!("{kind}.html"));
            }
            files.extend(own);
        }
        Templates::of(&languages, default)
    }

    fn of(files: &BTreeMap<String, Files>, default: &str) -> Result<Templates, BadTemplate> {
        let default = default.to_ascii_lowercase();
        if !files.contains_key(&default) {
            let there_are = files.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(BadTemplate::new(
                &default,
                format!("there are no mails in this language, only in {there_are}"),
            )
            .hint("a directory of that name with templates adds it"));
        }
        let mut languages = BTreeMap::new();
        for (tag, own) in files {
            let borrowed = [default.as_str(), LAST_RESORT].into_iter().filter_map(|from| files.get(from));
            languages.insert(tag.clone(), Tongue::of(tag, own, &borrowed)?);
        }
        let templates = Templates { languages, default };
        templates.try_all()?;
        Ok(templates)
    }

    /// The languages that there is anything in, as tags in lower case.
    pub fn languages(&self) -> impl Iterator<Item = &str> {
        self.languages.keys().map(String::as_str)
    }

    /// Puts it into words, in the first of its reader's languages that has it.
    pub(super) fn write(&self, letter: &Letter, now: Timestamp) -> Result<Written, BadTemplate> {
        let kind = letter.kind.name();
        let has = |tongue: &Tongue| tongue.kinds.contains_key(kind);
        let available: Vec<&str> =
            self.languages.iter().filter(|(_, tongue)| has(tongue)).map(|(tag, _)| tag.as_str()).collect();
        let tag = letter
            .languages
            .choose(&available)
            .or_else(|| available.contains(&self.default.as_str()).then_some(&self.default))
            .unwrap_or(LAST_RESORT);
        match self.languages.get(tag) {
            Some(tongue) => tongue.write(tag, letter, now),
            None => Err(BadTemplate::new(tag, "there are no mails in this language")),
        }
    }

    /// Writes one mail of every kind with all that it may tell, and one with no more than it must, in every language.
    fn try_all(&self) -> Result<(), BadTemplate> {
        for (tag, tongue) in &self.languages {
            for letter in samples().into_iter().filter(|letter| tongue.kinds.contains_key(letter.kind.name())) {
                let written = tongue.write(tag, &letter, letter.at)?;
                let nothing = |what| {
                    let name = format!("{tag}/{}.txt", letter.kind.name());
                    Err(BadTemplate::new(&name, format!("its {what} is empty")))
                };
                if written.subject.is_empty() {
                    return nothing("subject");
                }
                if written.text.trim().is_empty() {
                    return nothing("text");
                }
            }
        }
        Ok(())
    }
}

impl Tongue {
    /// Reads the templates in `own`; those that all share may be `borrowed`, from the first that has them.
    fn of<'a>(
        tag: &str,
        own: &Files,
        borrowed: &(impl Iterator<Item = &'a Files> + Clone),
    ) -> Result<Tongue, BadTemplate> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| BadTemplate::of(tag, "", &error))?);
        let mut tongue = Tongue { environment, kinds: BTreeMap::new() };
        for name in SHARED {
            let found = own.get(name).or_else(|| borrowed.clone().find_map(|files| files.get(name)));
            let allowed: &[&str] = match name {
                "_time.txt" => &["year", "month", "day", "hour", "minute"],
                "_span.txt" => &["number", "unit"],
                _ => &FOR_ALL,
            };
            tongue.add(tag, name, found.map_or("", String::as_str), &|variable| allowed.contains(&variable))?;
        }
        for kind in MailKind::NAMES {
            let allowed = |variable: &str| FOR_ALL.contains(&variable) || of_kind(kind).contains(&variable);
            let html = own.get(&format!("{kind}.html"));
            if let Some(text) = own.get(&format!("{kind}.txt")) {
                let name = format!("{kind}.txt");
                let (subject, body) = split_subject(text).ok_or_else(|| {
                    BadTemplate::new(&format!("{tag}/{name}"), "it has no subject")
                        .hint("its first line has to be \"Subject: …\", and the second one empty")
                })?;
                // The text begins in the third line of the file: complaints name the right one.
                tongue.add(tag, &name, &format!("\n\n{body}"), &allowed)?;
                let name = format!("{kind}.subject");
                tongue.add(tag, &name, subject, &allowed)?;
                tongue.kinds.insert(kind, html.is_some());
            } else if html.is_some() {
                return Err(BadTemplate::new(&format!("{tag}/{kind}.html"), "there is no text beside it").hint(
                    "a mail has to be readable without HTML: write the .txt, with the subject in its first line",
                ));
            }
            if let Some(html) = html {
                tongue.add(tag, &format!("{kind}.html"), html, &allowed)?;
            }
        }
        Ok(tongue)
    }

    fn add(&mut self, tag: &str, name: &str, source: &str, allowed: &dyn Fn(&str) -> bool) -> Result<(), BadTemplate> {
        let added = self.environment.add_template_owned(name.to_owned(), with_two_braces(source));
        added.map_err(|error| BadTemplate::of(tag, name, &error))?;
        let template = self.environment.get_template(name).map_err(|error| BadTemplate::of(tag, name, &error))?;
        // Also where no sample goes.
        let globals: Vec<&str> = self.environment.globals().map(|(name, _)| name).collect();
        let unknown = template.undeclared_variables(false);
        match unknown.iter().find(|variable| !allowed(variable) && !globals.contains(&variable.as_str())) {
            Some(variable) => {
                Err(BadTemplate::new(&format!("{tag}/{name}"), format!("there is no variable {variable}"))
                    .hint("docs/mail.md lists the variables of each mail"))
            }
            None => Ok(()),
        }
    }

    fn write(&self, tag: &str, letter: &Letter, now: Timestamp) -> Result<Written, BadTemplate> {
        let kind = letter.kind.name();
        let mut values = self.values(tag, letter, now)?;
        values.insert("subject", Value::from(""));
        let subject = plain(&self.render(tag, &format!("{kind}.subject"), &values)?, MOST_OF_A_SUBJECT);
        values.insert("subject", Value::from(subject.as_str()));
        let text = Zeroizing::new(paragraphs(&self.render(tag, &format!("{kind}.txt"), &values)?));
        let html = if self.kinds.get(kind).is_some_and(|has_html| *has_html) {
            if let Some(url) = &letter.url {
                // Escaped here: the engine turns its slashes into something that not every reader of mail turns back.
                values.insert("url", Value::from_safe_string(escaped(url.expose())));
            }
            Some(self.render(tag, &format!("{kind}.html"), &values)?)
        } else {
            None
        };
        Ok(Written { language: tag.to_owned(), subject, text, html })
    }

    fn values(&self, tag: &str, letter: &Letter, now: Timestamp) -> Result<Values, BadTemplate> {
        let mut values = Values::from([
            ("language", Value::from(tag)),
            ("username", optional(letter.username.as_ref().map(|name| untrusted(name.as_str(), MOST_OF_A_NAME)))),
            ("url", optional(letter.url.as_ref().map(|url| url.expose().to_owned()))),
            ("site", Value::from(plain(&letter.site, MOST_OF_A_NAME))),
            ("at", self.time(tag, letter.at)?),
            ("expires_at", self.time(tag, letter.expires_at)?),
            ("valid_for", self.span(tag, letter.expires_at.millis_since(now))?),
        ]);
        match &letter.kind {
            MailKind::AddressChangeAsked { new } | MailKind::AddressChanged { new, .. } => {
                values.insert("new_address", Value::from(plain(new.as_str(), MOST_OF_AN_ADDRESS)));
            }
            MailKind::NewDevice { client, user_agent, ip } => {
                values.insert("client", Value::from(plain(client.as_str(), MOST_OF_A_NAME)));
                let agent = user_agent.as_deref().map(|agent| untrusted(agent, MOST_OF_AN_AGENT));
                values.insert("user_agent", optional(agent.filter(|agent| !agent.is_empty())));
                values.insert("ip", optional(ip.map(|ip| ip.to_string())));
            }
            MailKind::TokenExpiring { token_kind, name, client, expires_at } => {
                values.insert("token_kind", Value::from(token_kind.as_str()));
                let name = name.as_deref().map(|name| untrusted(name, MOST_OF_A_NAME));
                values.insert("token_name", optional(name.filter(|name| !name.is_empty())));
                values.insert("client", Value::from(plain(client.as_str(), MOST_OF_A_NAME)));
                values.insert("token_expires_at", self.time(tag, *expires_at)?);
            }
            MailKind::ConfirmRegistration
            | MailKind::AlreadyRegistered
            | MailKind::ConfirmAddress
            | MailKind::ConfirmNewAddress
            | MailKind::AddressTaken
            | MailKind::ResetPassword
            | MailKind::PasswordChanged
            | MailKind::Test => {}
        }
        Ok(values)
    }

    fn time(&self, tag: &str, at: Timestamp) -> Result<Value, BadTemplate> {
        let at = jiff::Timestamp::from_millisecond(at.millis()).unwrap_or_default().to_zoned(TimeZone::UTC);
        let values = Values::from([
            ("year", Value::from(at.year())),
            ("month", Value::from(at.month())),
            ("day", Value::from(at.day())),
            ("hour", Value::from(format!("{:02}", at.hour()))),
            ("minute", Value::from(format!("{:02}", at.minute()))),
        ]);
        self.render(tag, "_time.txt", &values).map(|text| Value::from(text.trim()))
    }

    /// To the nearest minute, hour or day: how long exactly is for the point in time to say.
    fn span(&self, tag: &str, millis: u64) -> Result<Value, BadTemplate> {
        const MINUTE: u64 = 60_000;
        const HOUR: u64 = 60 * MINUTE;
        const DAY: u64 = 24 * HOUR;
        const LONGEST_IN_MINUTES: u64 = 119 * MINUTE;
        const LONGEST_IN_HOURS: u64 = 71 * HOUR;
        let (unit, length) = match millis {
            0..LONGEST_IN_MINUTES => ("minute", MINUTE),
            LONGEST_IN_MINUTES..LONGEST_IN_HOURS => ("hour", HOUR),
            LONGEST_IN_HOURS.. => ("day", DAY),
        };
        let values =
            Values::from([("number", Value::from((millis + length / 2) / length)), ("unit", Value::from(unit))]);
        self.render(tag, "_span.txt", &values).map(|text| Value::from(text.trim()))
    }

    fn render(&self, tag: &str, name: &str, values: &Values) -> Result<Zeroizing<String>, BadTemplate> {
        let template = self.environment.get_template(name);
        let rendered = template.and_then(|template| template.render(Value::from(values.clone())));
        rendered.map(Zeroizing::new).map_err(|error| BadTemplate::of(tag, name, &error))
    }
}

type Values = BTreeMap<&'static str, Value>;

fn optional(text: Option<String>) -> Value {
    text.map_or(Value::from(()), Value::from)
}

/// What a template of that kind may use besides [`FOR_ALL`].
fn of_kind(kind: &str) -> &'static [&'static str] {
    match kind {
        "address_change_asked" | "address_changed" => &["new_address"],
        "new_device" => &["client", "user_agent", "ip"],
        "token_expiring" => &["token_kind", "token_name", "client", "token_expires_at"],
        _ => &[],
    }
}

/// `Subject: …`, an empty line, and the rest.
fn split_subject(text: &str) -> Option<(&str, &str)> {
    let (first, rest) = text.split_once('\n')?;
    let subject = first.strip_prefix("Subject:")?.trim();
    let (empty, body) = rest.split_once('\n').unwrap_or((rest, ""));
    (!subject.is_empty() && empty.trim().is_empty()).then_some((subject, body))
}

/// `{username}` and `{url}` as the packages for Django write them, in the braces of ours. It is the template that is changed,
/// not what it makes: a user called `{url}` stays that.
fn with_two_braces(source: &str) -> String {
    ["{username}", "{url}"].into_iter().fold(source.to_owned(), |source, variable| {
        let mut doubled = String::with_capacity(source.len());
        let mut rest = source.as_str();
        while let Some(at) = rest.find(variable) {
            let (before, found) = rest.split_at(at);
            let (found, after) = found.split_at(variable.len());
            let single = !before.ends_with('{') && !after.starts_with('}');
            doubled.extend(if single { [before, "{", found, "}"] } else { [before, "", found, ""] });
            rest = after;
        }
        doubled + rest
    })
}

/// A text in one line of at most so many characters, with nothing invisible in it and nothing that turns the direction of
/// reading.
fn plain(text: &str, most: usize) -> String {
    let visible = |c: &char| {
        // After a letter, because a combining mark is fine where it has something to combine with.
        String::from_iter(['a', *c]).escape_debug().eq(['a', *c]) || matches!(c, '"' | '\'' | '\\')
    };
    let spaced: String = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(visible).collect();
    let mut words = spaced.split(' ').filter(|word| !word.is_empty());
    let joined = words.next().map(str::to_owned).unwrap_or_default();
    let joined = words.fold(joined, |joined, word| joined + " " + word);
    match joined.char_indices().nth(most) {
        Some(_) => joined.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
        None => joined,
    }
}

/// As [`plain`], and with nothing in it that a program that shows mail would make a link of: whoever registers a name may write
/// to the owner of any address with it.
fn untrusted(text: &str, most: usize) -> String {
    let mut text = plain(text, most);
    for beginning in ["://", "www."] {
        let mut from = 0;
        while let Some(at) = text[from..].to_ascii_lowercase().find(beginning) {
            from += at + beginning.len();
            text.insert(from, ' ');
        }
    }
    without_hosts(text.trim_end())
}

/// With a space behind every dot that a name of a host may go on after: programs make links of `evil.example` alone, and of
/// `eve@evil.example`. Between digits a dot stays: versions have one, and no top-level domain begins with a digit.
fn without_hosts(text: &str) -> String {
    let mut apart = String::with_capacity(text.len());
    let mut before = ' ';
    for c in text.chars() {
        // The last three are dots to whoever looks a name up (UTS 46).
        let behind_a_dot = matches!(before, '.' | '\u{3002}' | '\u{ff0e}' | '\u{ff61}') && c.is_alphanumeric();
        let number = c.is_ascii_digit() && apart.chars().rev().nth(1).is_some_and(|c| c.is_ascii_digit());
        if behind_a_dot && !number {
            apart.push(' ');
        }
        apart.push(c);
        before = c;
    }
    apart
}

fn escaped(url: &str) -> String {
    url.replace('&', "&amp;").replace('"', "&quot;").replace('\'', "&#x27;").replace('<', "&lt;").replace('>', "&gt;")
}

/// No more than one empty line in a row, none at the ends, and one line break at the end.
fn paragraphs(text: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in text.trim().lines() {
        let empty = line.trim().is_empty();
        if !(empty && lines.last().is_some_and(|last| last.is_empty())) {
            lines.push(if empty { "" } else { line });
        }
    }
    lines.join("\n") + "\n"
}

/// Language, name and text of what comes with this crate.
const EMBEDDED: &[(&str, &str, &str)] = &[
    ("en", "_layout.txt", include_str!("templates/en/_layout.txt")),
    ("en", "_layout.html", include_str!("templates/en/_layout.html")),
    ("en", "_time.txt", include_str!("templates/en/_time.txt")),
    ("en", "_span.txt", include_str!("templates/en/_span.txt")),
    ("en", "confirm_registration.txt", include_str!("templates/en/confirm_registration.txt")),
    ("en", "confirm_registration.html", include_str!("templates/en/confirm_registration.html")),
    ("en", "already_registered.txt", include_str!("templates/en/already_registered.txt")),
    ("en", "already_registered.html", include_str!("templates/en/already_registered.html")),
    ("en", "confirm_address.txt", include_str!("templates/en/confirm_address.txt")),
    ("en", "confirm_address.html", include_str!("templates/en/confirm_address.html")),
    ("en", "confirm_new_address.txt", include_str!("templates/en/confirm_new_address.txt")),
    ("en", "confirm_new_address.html", include_str!("templates/en/confirm_new_address.html")),
    ("en", "address_change_asked.txt", include_str!("templates/en/address_change_asked.txt")),
    ("en", "address_change_asked.html", include_str!("templates/en/address_change_asked.html")),
    ("en", "address_changed.txt", include_str!("templates/en/address_changed.txt")),
    ("en", "address_changed.html", include_str!("templates/en/address_changed.html")),
    ("en", "address_taken.txt", include_str!("templates/en/address_taken.txt")),
    ("en", "address_taken.html", include_str!("templates/en/address_taken.html")),
    ("en", "reset_password.txt", include_str!("templates/en/reset_password.txt")),
    ("en", "reset_password.html", include_str!("templates/en/reset_password.html")),
    ("en", "password_changed.txt", include_str!("templates/en/password_changed.txt")),
    ("en", "password_changed.html", include_str!("templates/en/password_changed.html")),
    ("en", "new_device.txt", include_str!("templates/en/new_device.txt")),
    ("en", "new_device.html", include_str!("templates/en/new_device.html")),
    ("en", "token_expiring.txt", include_str!("templates/en/token_expiring.txt")),
    ("en", "token_expiring.html", include_str!("templates/en/token_expiring.html")),
    ("en", "test.txt", include_str!("templates/en/test.txt")),
    ("en", "test.html", include_str!("templates/en/test.html")),
    ("de", "_layout.txt", include_str!("templates/de/_layout.txt")),
    ("de", "_layout.html", include_str!("templates/de/_layout.html")),
    ("de", "_time.txt", include_str!("templates/de/_time.txt")),
    ("de", "_span.txt", include_str!("templates/de/_span.txt")),
    ("de", "confirm_registration.txt", include_str!("templates/de/confirm_registration.txt")),
    ("de", "confirm_registration.html", include_str!("templates/de/confirm_registration.html")),
    ("de", "already_registered.txt", include_str!("templates/de/already_registered.txt")),
    ("de", "already_registered.html", include_str!("templates/de/already_registered.html")),
    ("de", "confirm_address.txt", include_str!("templates/de/confirm_address.txt")),
    ("de", "confirm_address.html", include_str!("templates/de/confirm_address.html")),
    ("de", "confirm_new_address.txt", include_str!("templates/de/confirm_new_address.txt")),
    ("de", "confirm_new_address.html", include_str!("templates/de/confirm_new_address.html")),
    ("de", "address_change_asked.txt", include_str!("templates/de/address_change_asked.txt")),
    ("de", "address_change_asked.html", include_str!("templates/de/address_change_asked.html")),
    ("de", "address_changed.txt", include_str!("templates/de/address_changed.txt")),
    ("de", "address_changed.html", include_str!("templates/de/address_changed.html")),
    ("de", "address_taken.txt", include_str!("templates/de/address_taken.txt")),
    ("de", "address_taken.html", include_str!("templates/de/address_taken.html")),
    ("de", "reset_password.txt", include_str!("templates/de/reset_password.txt")),
    ("de", "reset_password.html", include_str!("templates/de/reset_password.html")),
    ("de", "password_changed.txt", include_str!("templates/de/password_changed.txt")),
    ("de", "password_changed.html", include_str!("templates/de/password_changed.html")),
    ("de", "new_device.txt", include_str!("templates/de/new_device.txt")),
    ("de", "new_device.html", include_str!("templates/de/new_device.html")),
    ("de", "token_expiring.txt", include_str!("templates/de/token_expiring.txt")),
    ("de", "token_expiring.html", include_str!("templates/de/token_expiring.html")),
    ("de", "test.txt", include_str!("templates/de/test.txt")),
    ("de", "test.html", include_str!("templates/de/test.html")),
];

fn embedded_files() -> BTreeMap<String, Files> {
    let mut languages: BTreeMap<String, Files> = BTreeMap::new();
    for (tag, name, text) in EMBEDDED {
        languages.entry((*tag).to_owned()).or_default().insert((*name).to_owned(), (*text).to_owned());
    }
    languages
}

/// The files of each language in a directory. Names that begin with a dot are left out: file systems and those who mount
/// things make them.
fn read_languages(directory: &Path) -> Result<BTreeMap<String, Files>, BadTemplate> {
    let mut languages = BTreeMap::new();
    for (name, path) in entries(directory)? {
        if !path.is_dir() || !is_tag(&name) {
            return Err(BadTemplate::new(&path.display().to_string(), "this is no directory named by a language")
                .hint("templates belong into directories such as en, de and pt-BR"));
        }
        let mut files = Files::new();
        for (name, path) in entries(&path)? {
            let (stem, _) = name.rsplit_once('.').unwrap_or((&name, ""));
            let is_mail = MailKind::NAMES.contains(&stem) && [".txt", ".html"].iter().any(|end| name.ends_with(end));
            if !is_mail && !SHARED.contains(&name.as_str()) {
                let there_are = format!("{}; {}", MailKind::NAMES.join(", "), SHARED.join(", "));
                return Err(BadTemplate::new(&path.display().to_string(), "there is no mail of this name")
                    .hint(format!("with .txt or .html there are {there_are}")));
            }
            files.insert(name, read(&path)?);
        }
        match languages.entry(name.to_ascii_lowercase()) {
            Entry::Vacant(vacant) => vacant.insert(files),
            Entry::Occupied(_) => {
                return Err(BadTemplate::new(
                    &path.display().to_string(),
                    "another directory is for this language too",
                ));
            }
        };
    }
    Ok(languages)
}

/// Name and path of what is in a directory, in order.
fn entries(directory: &Path) -> Result<BTreeMap<String, std::path::PathBuf>, BadTemplate> {
    let unreadable = |error: std::io::Error| BadTemplate::new(&directory.display().to_string(), error.to_string());
    let mut entries = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            entries.insert(name, entry.path());
        }
    }
    Ok(entries)
}

fn read(path: &Path) -> Result<String, BadTemplate> {
    let failed = |why: String| BadTemplate::new(&path.display().to_string(), why);
    let metadata = fs::metadata(path).map_err(|error| failed(error.to_string()))?;
    if !metadata.is_file() || metadata.len() > MOST_BYTES {
        return Err(failed(format!("this is no file of at most {MOST_BYTES} bytes")));
    }
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    Ok(text.trim_start_matches('\u{feff}').replace("\r\n", "\n"))
}

/// A letter of each kind with all that it may tell, and one with no more than it must.
fn samples() -> Vec<Letter> {
    let Ok(new) = "ada.lovelace@example.org".parse::<counterfoil_core::Email>() else { return Vec::new() };
    let Ok(username) = "ada".parse::<Username>() else { return Vec::new() };
    let client = ClientName::default_client();
    let at = Timestamp::from_millis(1_795_260_600_000);
    let expires_at = at.plus_millis(86_400_000);
    let expiring = |token_kind, name: Option<&str>| MailKind::TokenExpiring {
        token_kind,
        name: name.map(str::to_owned),
        client: client.clone(),
        expires_at,
    };
    let device = |user_agent: Option<&str>, ip: Option<IpAddr>| MailKind::NewDevice {
        client: client.clone(),
        user_agent: user_agent.map(str::to_owned),
        ip,
    };
    let kinds = [
        (MailKind::ConfirmRegistration, true),
        (MailKind::AlreadyRegistered, true),
        (MailKind::AlreadyRegistered, false),
        (MailKind::ConfirmAddress, true),
        (MailKind::ConfirmNewAddress, true),
        (MailKind::AddressChangeAsked { new: new.clone() }, true),
        (MailKind::AddressChangeAsked { new: new.clone() }, false),
        (MailKind::AddressChanged { new: new.clone(), can_undo: true }, true),
        (MailKind::AddressChanged { new: new.clone(), can_undo: false }, false),
        (MailKind::AddressTaken, true),
        (MailKind::AddressTaken, false),
        (MailKind::ResetPassword, true),
        (MailKind::PasswordChanged, true),
        (MailKind::PasswordChanged, false),
        (device(Some("Mozilla/5.0"), Some([192, 0, 2, 7].into())), true),
        (device(None, None), false),
        (expiring(Kind::Key, Some("deploy")), true),
        (expiring(Kind::Login, None), false),
        (MailKind::Test, false),
    ];
    let letters = kinds.into_iter().map(|(kind, with_link)| Letter {
        id: MailId::from_bytes([7; 16]),
        username: (kind != MailKind::Test).then(|| username.clone()),
        kind,
        to: new.clone(),
        languages: Languages::default(),
        url: with_link.then(|| LetterUrl::new("https://auth.example.org/email/confirm/secret?a=b&c=d".to_owned())),
        site: "Example".to_owned(),
        at,
        expires_at,
    });
    letters.collect()
}

/// A template that does not work, or something that is not where a template belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadTemplate {
    place: String,
    why: String,
    hint: Option<String>,
}

impl BadTemplate {
    fn new(place: &str, why: impl Into<String>) -> BadTemplate {
        BadTemplate { place: place.to_owned(), why: why.into(), hint: None }
    }

    fn of(tag: &str, name: &str, error: &minijinja::Error) -> BadTemplate {
        let innermost = {
            let mut error = error;
            while let Some(cause) = std::error::Error::source(error).and_then(|cause| cause.downcast_ref()) {
                error = cause;
            }
            error
        };
        let name = innermost.name().unwrap_or(name);
        // A subject is the first line of a text.
        let file = name.strip_suffix(".subject").map_or_else(|| name.to_owned(), |kind| format!("{kind}.txt"));
        let line = innermost.line().map_or(String::new(), |line| format!(", line {line}"));
        let why = match innermost.detail() {
            Some(detail) => format!("{}: {detail}", innermost.kind()),
            None => innermost.kind().to_string(),
        };
        BadTemplate::new(&format!("{tag}/{file}{line}"), why)
    }

    fn hint(self, hint: impl Into<String>) -> BadTemplate {
        BadTemplate { hint: Some(hint.into()), ..self }
    }

    /// The place alone: what is wrong there may hold what was to be written.
    pub(super) fn without_why(self) -> BadTemplate {
        BadTemplate { why: "it does not work with this letter".to_owned(), ..self }
    }

    /// What to do about it, where that can be said.
    pub fn to_do(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for BadTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mail template {}: {}", self.place, self.why)
    }
}

impl std::error::Error for BadTemplate {}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(kind: MailKind, username: &str, languages: &str) -> Letter {
        let at = Timestamp::from_millis(1_795_260_600_000);
        Letter {
            id: MailId::from_bytes([7; 16]),
            url: kind.purpose().map(|_| LetterUrl::new("https://auth.example.org/x/s3cr3t?a=b&c=d".to_owned())),
            kind,
            to: "ada@example.org".parse().expect("an address"),
            username: Some(username.parse().expect("a user name")),
            languages: Languages::of(None, Some(languages)),
            site: "Example".to_owned(),
            at,
            expires_at: at.plus_millis(86_400_000),
        }
    }

    fn write(templates: &Templates, letter: &Letter) -> Written {
        templates.write(letter, letter.at.plus_millis(1_500)).expect("written")
    }

    /// A directory with these files.
    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            fs::write(path, text).expect("written");
        }
        directory
    }

    fn loaded(files: &[(&str, &str)]) -> Templates {
        Templates::load(directory(files).path(), "en").expect("loaded")
    }

    fn refused(files: &[(&str, &str)]) -> String {
        let error = Templates::load(directory(files).path(), "en").expect_err("something is wrong");
        format!("{error} ({})", error.to_do().unwrap_or_default())
    }

    #[test]
    fn english_and_german_are_complete_as_text_and_as_html() {
        let templates = Templates::embedded().expect("all of them work");
        assert_eq!(templates.languages().collect::<Vec<_>>(), ["de", "en"]);
        for tongue in templates.languages.values() {
            assert!(
                tongue
                    .kinds
                    .keys()
                    .eq(MailKind::NAMES.map(|name| name).iter().collect::<std::collections::BTreeSet<_>>())
            );
            assert!(tongue.kinds.values().all(|has_html| *has_html));
        }
        let kinds: std::collections::BTreeSet<&str> = samples().iter().map(|letter| letter.kind.name()).collect();
        assert_eq!(kinds.len(), MailKind::NAMES.len(), "there is a sample of each kind");
    }

    #[test]
    fn a_mail_says_whom_it_is_for_what_happened_when_and_how_long_its_link_works() {
        let templates = Templates::embedded().expect("templates");
        let english = write(&templates, &letter(MailKind::ResetPassword, "ada", "en"));
        assert_eq!(english.subject, "Choose a new password for Example");
        assert_eq!(
            *english.text,
            "Hello ada,\n\nOn 21 November 2026, 11:30 UTC somebody asked for a new password for your account ada at Example. If \
             that was you, choose one here:\n\nhttps://auth.example.org/x/s3cr3t?a=b&c=d\n\nThe link works once, and until \
             22 November 2026, 11:30 UTC (for another 24 hours). Whoever is logged in to the account is logged out then.\n\nIf \
             it was not you, you need do nothing: without the link the password stays as it is.\n\n-- \nExample\n"
        );
        let html = english.html.expect("HTML");
        assert!(
            html.contains("<html lang=\"en\">") && html.contains("<title>Choose a new password for Example</title>")
        );
        assert!(html.contains("<a href=\"https://auth.example.org/x/s3cr3t?a=b&amp;c=d\">Choose a new password</a>"));
        let german = write(&templates, &letter(MailKind::ResetPassword, "ada", "fr, de-AT;q=0.8, en;q=0.1"));
        assert_eq!(german.subject, "Wählen Sie ein neues Passwort für Example");
        assert!(german.text.contains("bis 22. November 2026, 11:30 UTC (noch 24 Stunden)"), "{}", *german.text);
    }

    #[test]
    fn every_mail_of_ours_names_its_reader_and_has_its_link_in_both_forms() {
        let templates = Templates::embedded().expect("templates");
        for tag in ["en", "de"] {
            for sample in samples() {
                let sample = Letter { languages: Languages::of(Some(tag), None), ..sample };
                let written = write(&templates, &sample);
                assert_eq!(written.language, tag);
                let html = written.html.expect("HTML").to_string();
                for text in [written.text.as_str(), html.as_str()] {
                    assert_eq!(text.contains("ada"), sample.kind != MailKind::Test, "{text}");
                    assert!(text.contains("Example") && !text.contains("none") && !text.contains("{"), "{text}");
                }
                assert_eq!(html.contains("href"), written.text.contains("https://auth.example.org/"), "{html}");
                let remote = ["<img", "<link", "<script", "src=", "url("];
                assert!(!remote.iter().any(|thing| html.contains(thing)), "{html}");
            }
        }
    }

    #[test]
    fn a_length_of_time_is_told_in_the_unit_that_suits_it() {
        let templates = Templates::embedded().expect("templates");
        let spans = |tag: &str| {
            let tongue = &templates.languages[tag];
            let minutes = [0, 1, 30, 118, 120, 24 * 60, 47 * 60, 72 * 60, 7 * 24 * 60];
            minutes.map(|minutes| tongue.span(tag, minutes * 60_000).expect("a span").to_string()).join(", ")
        };
        let english = "0 minutes, 1 minute, 30 minutes, 118 minutes, 2 hours, 24 hours, 47 hours, 3 days, 7 days";
        assert_eq!(spans("en"), english);
        let german = "0 Minuten, 1 Minute, 30 Minuten, 118 Minuten, 2 Stunden, 24 Stunden, 47 Stunden, 3 Tage, 7 Tage";
        assert_eq!(spans("de"), german);
    }

    #[test]
    fn what_strangers_chose_is_text_and_nothing_else() {
        let templates = Templates::embedded().expect("templates");
        let agent = "<img src=x>\r\nBcc: eve@example.org\u{202e}\u{7}{{ url }} https://evil.example WWW.evil.example "
            .repeat(9);
        let kind = MailKind::NewDevice {
            client: ClientName::default_client(),
            user_agent: Some(agent),
            ip: Some([192, 0, 2, 7].into()),
        };
        let written = write(&templates, &letter(kind, "<b>{url}</b>", "en"));
        let line = written.text.lines().find(|line| line.starts_with("Program: ")).expect("a line");
        let shown =
            "Program: <img src=x> Bcc: eve@example. org{{ url }} https:// evil. example WWW. evil. example <img";
        assert!(line.starts_with(shown), "{line}");
        assert!(line.chars().count() < 140 && line.ends_with('…'), "{line}");
        assert!(written.text.starts_with("Hello <b>{url}</b>,\n"));
        let html = written.html.expect("HTML").to_string();
        assert!(html.contains("Hello &lt;b&gt;{url}&lt;&#x2f;b&gt;,") && html.contains("&lt;img src=x&gt;"), "{html}");
        assert!(!html.contains("<img") && !html.contains("<b>"), "{html}");
    }

    #[test]
    fn a63_no_link_is_made_of_what_strangers_chose() {
        for (chosen, shown) in [
            ("Click-win.evil.com", "Click-win. evil. com"),
            ("evil.com/win now", "evil. com/win now"),
            ("eve@evil.example", "eve@evil. example"),
            ("evil\u{3002}com", "evil\u{3002} com"),
            ("https://192.0.2.7/", "https:// 192.0.2.7/"),
            ("1.evil.2.com", "1. evil. 2. com"),
            ("Mozilla/5.0 (X11) Firefox/146.0", "Mozilla/5.0 (X11) Firefox/146.0"),
            ("Ada L. and so on... .", "Ada L. and so on... ."),
        ] {
            assert_eq!(untrusted(chosen, 99), shown);
        }
        let templates = Templates::embedded().expect("templates");
        let written = write(&templates, &letter(MailKind::AddressTaken, "Click-win.evil.com", "en"));
        let html = written.html.expect("HTML").to_string();
        assert!(
            !written.text.contains("win.evil") && !html.contains("win.evil") && !html.contains("evil.com"),
            "{html}"
        );
    }

    #[test]
    fn templates_of_the_packages_for_django_work_and_what_is_put_in_is_not_read_again() {
        let text = "Subject: Welcome, {username}\n\nDear {username},\nopen {url} or {{ url }} {{url}}\n";
        let templates = loaded(&[("en/confirm_registration.txt", text)]);
        let written = write(&templates, &letter(MailKind::ConfirmRegistration, "{url}", "en"));
        let url = "https://auth.example.org/x/s3cr3t?a=b&c=d";
        assert_eq!(written.subject, "Welcome, {url}");
        assert_eq!(*written.text, format!("Dear {{url}},\nopen {url} or {url} {url}\n"));
        assert!(written.html.is_none(), "a text of one's own replaces the whole mail");
    }

    #[test]
    fn files_alone_add_a_language_and_what_it_lacks_is_in_the_default_one() {
        let directory = directory(&[
            ("pt-BR/reset_password.txt", "Subject: Nova senha\n\nAté {{ expires_at }}: {{ url }}"),
            ("pt-BR/_time.txt", "{{ day }}/{{ month }}/{{ year }}"),
            (".hidden/x", ""),
        ]);
        let templates = Templates::load(directory.path(), "de").expect("loaded");
        let of = |kind, languages| write(&templates, &letter(kind, "ada", languages));
        assert_eq!(
            of(MailKind::ResetPassword, "pt-BR").text.as_str(),
            "Até 22/11/2026: https://auth.example.org/x/s3cr3t?a=b&c=d\n"
        );
        assert_eq!(of(MailKind::PasswordChanged, "pt-BR").language, "de");
        assert_eq!(of(MailKind::PasswordChanged, "pt-BR, en;q=0.5").language, "en");
        assert_eq!(of(MailKind::ResetPassword, "fr").language, "de");
        let only = Templates::load(directory.path(), "pt-BR").expect("loaded");
        assert_eq!(write(&only, &letter(MailKind::PasswordChanged, "ada", "fr")).language, "en");
    }

    #[test]
    fn a85_what_does_not_work_is_refused_at_the_start_with_its_place() {
        for (path, text, complaint) in [
            ("en/test.txt", "Subject: x\n\n{{ usrname }}", "en/test.txt: there is no variable usrname (docs/mail.md"),
            ("en/test.txt", "Subject: x\n\n{% if url %}{{ ip }}{% endif %}", "en/test.txt: there is no variable ip"),
            ("en/test.txt", "Subject: x\n\none\n{{ site.name }}", "en/test.txt, line 4: undefined value"),
            ("en/test.txt", "Subject: x\n\none\n{% if %}", "en/test.txt, line 4: syntax error"),
            ("fr/test.txt", "Subject: {{ site | upcase }}\n\nx", "fr/test.txt, line 1: unknown filter"),
            ("en/test.txt", "Subject: {{ subject }}\n\nx", "en/test.txt: its subject is empty"),
            ("en/test.txt", "Subject: x\n\n{# nothing #}", "en/test.txt: its text is empty"),
            ("en/test.txt", "Hello", "it has no subject (its first line has to be \"Subject: …\""),
            ("en/test.txt", "Subject: x\nHello", "it has no subject"),
            ("fr/test.html", "<p>x</p>", "fr/test.html: there is no text beside it"),
            (
                "en/reset.txt",
                "Subject: x\n\nx",
                "there is no mail of this name (with .txt or .html there are confirm_reg",
            ),
            ("en/test.md", "x", "there is no mail of this name"),
            ("en/_footer.txt", "x", "there is no mail of this name"),
            ("english_/test.txt", "Subject: x\n\nx", "this is no directory named by a language"),
            ("test.txt", "Subject: x\n\nx", "this is no directory named by a language (templates belong into"),
            ("de/_time.txt", "{{ at }}", "de/_time.txt: there is no variable at"),
            ("de/_layout.txt", "{{ new_address }}", "de/_layout.txt: there is no variable new_address"),
        ] {
            let refused = refused(&[(path, text)]);
            assert!(refused.starts_with("mail template ") && refused.contains(complaint), "{path}: {refused}");
        }
        let twice = refused(&[("pt-br/test.txt", "Subject: x\n\nx"), ("pt-BR/test.txt", "Subject: x\n\nx")]);
        assert!(twice.contains("another directory is for this language too"), "{twice}");
        let absent = Templates::load(Path::new("no/such/place"), "en").expect_err("absent").to_string();
        assert!(absent.contains("no/such/place"), "{absent}");
        let speechless = Templates::embedded_with_default("fr").expect_err("no French").to_string();
        assert_eq!(speechless, "mail template fr: there are no mails in this language, only in de, en");
    }

    #[test]
    fn a_template_that_fails_later_says_where_and_nothing_of_the_letter() {
        let templates = loaded(&[("en/test.txt", "Subject: x\n\n{{ 1 if username is none else username + 1 }}")]);
        let error = templates.write(&letter(MailKind::Test, "s3cr3t", "en"), Timestamp::MIN).err().expect("no sum");
        assert_eq!(
            error.without_why().to_string(),
            "mail template en/test.txt, line 3: it does not work with this letter"
        );
    }
}
