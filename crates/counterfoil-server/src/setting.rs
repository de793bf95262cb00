//! The settings by name: what there is, where each value came from, and how the layers lie upon each other.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde_json::json;
use toml::Value;

use crate::failure::Failure;

/// One thing to choose.
pub(crate) struct Setting {
    /// Its name in the file; in the environment `COUNTERFOIL_` and the name in capitals with `_` for `.`.
    pub(crate) key: &'static str,
    kind: Kind,
    /// As the file would say it; empty where there is none.
    default: &'static str,
    reload: Reload,
    /// What it does, in which unit, and what goes wrong if it is set badly.
    about: &'static str,
}

/// When a changed value takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reload {
    /// When a running server gets SIGHUP.
    OnHangup,
    /// When the server is started again.
    Restart,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    /// A text that is not shown.
    Secret,
    Number,
    /// `true` or `false`.
    Switch,
    /// Separated by commas in the environment.
    List,
    /// `[[name]]` in the file, as often as there are some; a list of inline tables, in the same syntax, in the environment.
    Tables,
}

/// Every setting, in the order in which `config defaults` prints them: those outside any table first.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting {
        key: "listen",
        kind: Kind::Text,
        default: "\"127.0.0.1:8080\"",
        reload: Reload::Restart,
        about: "Address and port, of which 0 takes any free one; or unix: and a path, where a socket of mode 0660 is made; or \
                systemd, for the one socket that its .socket unit hands over. On another address than this machine's own, \
                passwords and tokens cross the network in the clear: put a proxy with TLS in front.",
    },
    Setting {
        key: "data_dir",
        kind: Kind::Text,
        default: "\"counterfoil-data\"",
        reload: Reload::Restart,
        about: "The directory that everything is kept in, from where the program is started. Made with mode 0700 if absent. \
                On a network file system SQLite's locks may not hold, and two servers may damage the database.",
    },
    Setting {
        key: "base_url",
        kind: Kind::Text,
        default: "",
        reload: Reload::Restart,
        about: "What links in mails and pages begin with: https:// and a host, http:// on this machine alone. Unset, they begin \
                with the address that is listened on, if only this machine reaches it and no mail goes anywhere else; otherwise \
                none are mailed.",
    },
    Setting {
        key: "site",
        kind: Kind::Text,
        default: "",
        reload: Reload::OnHangup,
        about: "What the site is called, in mails and pages, and a word that nobody's password may be made of. Unset: the host of \
                base_url, or counterfoil.",
    },
    Setting {
        key: "trusted_proxies",
        kind: Kind::List,
        default: "[]",
        reload: Reload::OnHangup,
        about: "Addresses and networks of your own proxies, whose X-Forwarded-For and X-Request-Id are believed; unix: \
                whoever speaks over the Unix socket. A network that clients can speak from lets them choose the address \
                that logs, device lists and limits go by. Too few, and every device seems to be at the proxy, or nowhere: then \
                all of them share one limit of failed logins, or have none.",
    },
    Setting {
        key: "key_ring_file",
        kind: Kind::Text,
        default: "",
        reload: Reload::OnHangup,
        about: "The file of mode 0600 with the keys that seal the secrets of clients with `reissue same`; `counterfoil \
                keyring init` makes one. Keep it out of the data directory: who has both has the tokens. Without it no \
                such client can be made; lost, its users must log in anew.",
    },
    Setting {
        key: "mount",
        kind: Kind::Tables,
        default: "",
        reload: Reload::Restart,
        about: "Where the wire format of a package for Django REST framework is spoken, besides the native routes: each [[mount]] with \
                its path, its dialect, and the settings of the package under their own names; docs/dialects. The client that its \
                tokens are of is brought to what is said here at each start.",
    },
    Setting {
        key: "shutdown_grace",
        kind: Kind::Text,
        default: "\"10s\"",
        reload: Reload::Restart,
        about: "How long requests under way may take to finish when the server is told to stop. Keep it below the patience \
                of what stops it, or they are cut off.",
    },
    Setting {
        key: "store.url",
        kind: Kind::Secret,
        default: "",
        reload: Reload::Restart,
        about: "Where everything is kept, when several nodes share it: postgres://USER:PASSWORD@HOST/DATABASE, with commas between \
                several hosts, of which the primary is used; docs/postgres.md has what may follow it. Or sqlite: and a directory. Unset: \
                in data_dir, for one server.",
    },
    Setting {
        key: "store.url_file",
        kind: Kind::Text,
        default: "",
        reload: Reload::Restart,
        about: "The file of mode 0600 that the URL is in, for a URL with a password.",
    },
    Setting {
        key: "store.tokens_url",
        kind: Kind::Secret,
        default: "",
        reload: Reload::Restart,
        about: "The Redis or Valkey that tokens are kept in, with clients, epochs and failed logins, where it is to be another store than the \
                rest has: redis://HOST, rediss:// with TLS, or redis+sentinel://HOST,HOST/NAME; docs/redis.md has what may follow it, how it \
                must be set up, and what is lost with a failover. To be said before the first user is made, and then always. Unset: tokens are \
                where everything is.",
    },
    Setting {
        key: "store.tokens_url_file",
        kind: Kind::Text,
        default: "",
        reload: Reload::Restart,
        about: "The file of mode 0600 that the URL is in, for a URL with a password.",
    },
    Setting {
        key: "store.migrate",
        kind: Kind::Text,
        default: "\"at-start\"",
        reload: Reload::Restart,
        about: "Who makes the tables that a version needs: at-start: the server, if its role may; by-command: `counterfoil migrate`, with a \
                role that owns the database. The embedded store is always brought up at the start.",
    },
    Setting {
        key: "limits.redis_url",
        kind: Kind::Secret,
        default: "",
        reload: Reload::Restart,
        about: "The Redis or Valkey in which several nodes count together how often something is done: redis://HOST, rediss:// with TLS, \
                redis+sentinel://HOST,HOST/NAME or redis+cluster://HOST,HOST; docs/redis.md has what may follow it. While it is away each \
                node counts for itself. Unset: each always does, and three nodes let three times as much through.",
    },
    Setting {
        key: "limits.redis_url_file",
        kind: Kind::Text,
        default: "",
        reload: Reload::Restart,
        about: "The file of mode 0600 that the URL is in, for a URL with a password.",
    },
    Setting {
        key: "log.format",
        kind: Kind::Text,
        default: "\"human\"",
        reload: Reload::Restart,
        about: "human: a line of text for each entry; json: a line of JSON. On stderr either way.",
    },
    Setting {
        key: "log.level",
        kind: Kind::Text,
        default: "\"info\"",
        reload: Reload::OnHangup,
        about: "The least important entries written: error, warn, info, debug or trace. Above info the log of who logged in \
                when is incomplete.",
    },
    Setting {
        key: "hashing.memory",
        kind: Kind::Number,
        default: "19456",
        reload: Reload::Restart,
        about: "KiB of memory that Argon2id fills for one password. Less than the floor for the number of iterations is \
                refused; more makes every login slower, and takes that much memory for each hashing thread.",
    },
    Setting {
        key: "hashing.iterations",
        kind: Kind::Number,
        default: "2",
        reload: Reload::Restart,
        about: "How often it fills it. The floor of hashing.memory is 47104 for 1, 19456 for 2, 12288 for 3 and more.",
    },
    Setting {
        key: "hashing.parallelism",
        kind: Kind::Number,
        default: "1",
        reload: Reload::Restart,
        about: "Argon2id's lanes. They run one after another here: more only cost.",
    },
    Setting {
        key: "hashing.threads",
        kind: Kind::Number,
        default: "",
        reload: Reload::Restart,
        about: "Passwords hashed at once; unset: one for every two cores. More than cores make every login slower and leave \
                nothing to token checks.",
    },
    Setting {
        key: "hashing.queue",
        kind: Kind::Number,
        default: "64",
        reload: Reload::Restart,
        about: "Passwords that may wait to be hashed; who comes after that, or has waited for 5 s, is told to try again \
                (503). Too long a queue makes people wait for an answer that comes after they have given up.",
    },
    Setting {
        key: "tokens.rotation_grace",
        kind: Kind::Text,
        default: "\"30s\"",
        reload: Reload::OnHangup,
        about: "How long the old secret of a rotated token is accepted while the new one is unused. Too short, and a client \
                that lost the reply is locked out; too long, and a thief may use the old one.",
    },
    Setting {
        key: "tokens.cached",
        kind: Kind::Number,
        default: "200000",
        reload: Reload::Restart,
        about: "How many tokens are answered from memory, 90 bytes each once they are in use and 72 more for each user; 0: \
                every request asks the database. Too few for those in use, and requests take microseconds longer. What a \
                command line beside the server revokes is refused within a second, and at once with 0.",
    },
    Setting {
        key: "tokens.retention",
        kind: Kind::Text,
        default: "\"30d\"",
        reload: Reload::OnHangup,
        about: "How long dead tokens are kept for their owners and you to look back at. Too short, and there is nothing to \
                look at after a break-in.",
    },
    Setting {
        key: "logins.failed_per_source",
        kind: Kind::Text,
        default: "\"100/h\"",
        reload: Reload::OnHangup,
        about: "How many logins may fail from one address (IPv6: from one /64) before it has to wait, whatever the names: so \
                many at once, and then one whenever its share of the time is over. No limit where no address is known. \
                Too few, and an office behind one address locks itself out; too many, and one machine guesses fast. For \
                each account the numbers are fixed: five tries are free, then the wait doubles from 1 s to 15 min, and \
                after 100 failures in a row only a new password or staff opens it.",
    },
    Setting {
        key: "throttle.login",
        kind: Kind::Text,
        default: "",
        reload: Reload::OnHangup,
        about: "How many logins one address may try, right ones included: \"600/h\". Unset: any number.",
    },
    Setting {
        key: "throttle.api",
        kind: Kind::Text,
        default: "",
        reload: Reload::OnHangup,
        about: "How many requests to these routes a user may make on one client, besides what the client's policy allows \
                altogether. Unset: any number.",
    },
    Setting {
        key: "throttle.introspection",
        kind: Kind::Text,
        default: "",
        reload: Reload::OnHangup,
        about: "How many introspections and revocations one service may make. Unset: any number. Too few, and what stands \
                behind that service is down when it has guests.",
    },
    Setting {
        key: "throttle.misses",
        kind: Kind::Text,
        default: "\"60/m\"",
        reload: Reload::OnHangup,
        about: "How many texts from one address may look like imported tokens and be none. Matters only while there are \
                imported tokens; each such text costs a query.",
    },
    Setting {
        key: "audit.retention",
        kind: Kind::Text,
        default: "\"365d\"",
        reload: Reload::OnHangup,
        about: "How long entries of the audit log are kept. Too short, and there is nothing to look at when a break-in is \
                found; too long, and you keep what you need not answer for.",
    },
    Setting {
        key: "audit.anonymous_after",
        kind: Kind::Text,
        default: "\"90d\"",
        reload: Reload::OnHangup,
        about: "After what time an entry of the audit log no longer tells address and program.",
    },
    Setting {
        key: "http.user_fields",
        kind: Kind::List,
        default: "[\"id\", \"username\", \"email\", \"email_confirmed\", \"first_name\", \"last_name\"]",
        reload: Reload::OnHangup,
        about: "What login answers and /v1/me say of a user. Every client of every user reads these. Also: attributes, \
                locale, staff, admin, created_at, last_login_at.",
    },
    Setting {
        key: "http.cors_origins",
        kind: Kind::List,
        default: "[]",
        reload: Reload::OnHangup,
        about: "Pages of which origins may call these routes from a browser, each as the browser names it: \
                \"https://app.example.org\". They read every answer to a token that they hold. Programs that are no \
                browsers need no entry.",
    },
    Setting {
        key: "http.realm",
        kind: Kind::Text,
        default: "\"counterfoil\"",
        reload: Reload::OnHangup,
        about: "The realm in WWW-Authenticate: what people are told they are asked to log in to.",
    },
    Setting {
        key: "http.request_timeout",
        kind: Kind::Text,
        default: "\"30s\"",
        reload: Reload::OnHangup,
        about: "How long a request may take altogether. Shorter than the queue of passwords takes, and logins fail when \
                many come at once.",
    },
    Setting {
        key: "http.body_timeout",
        kind: Kind::Text,
        default: "\"10s\"",
        reload: Reload::OnHangup,
        about: "How long a client may take to send a body, which has at most 65536 bytes; then it is told so (408). Less than \
                http.request_timeout, or slow clients are told that the service is slow. Too long, and few clients that \
                send slowly hold many connections.",
    },
    Setting {
        key: "http.head_timeout",
        kind: Kind::Text,
        default: "\"10s\"",
        reload: Reload::OnHangup,
        about: "How long a client may take to send the head of a request, and a connection may be idle between two; then it \
                is hung up on. A proxy's own limit for idle connections to this server has to be lower, or it sends \
                requests into connections that are being closed. Counts for connections made from then on.",
    },
    Setting {
        key: "http.head_bytes",
        kind: Kind::Number,
        default: "65536",
        reload: Reload::OnHangup,
        about: "What the head of a request may take, from 8192 on, in no more than 100 fields; beyond it the answer is 431. \
                Each connection may hold as much memory. Counts for connections made from then on.",
    },
    Setting {
        key: "http.write_timeout",
        kind: Kind::Text,
        default: "\"30s\"",
        reload: Reload::OnHangup,
        about: "How long answers may wait for a client that makes no room for them in the buffers of the system, mostly \
                because it does not read, before it is hung up on. Too short, and clients on bad networks lose answers; \
                too long, and those that never read hold memory and a connection. Counts for connections made from then \
                on.",
    },
    Setting {
        key: "http.max_connections",
        kind: Kind::Number,
        default: "900",
        reload: Reload::Restart,
        about: "Connections open at once. More are not refused but wait until one ends. Keep it some fifty below the files \
                that the process may open (ulimit -n, often 1024), or the database is short of them in a rush; too low, and idle \
                clients, which are hung up on after http.head_timeout, keep others waiting.",
    },
    Setting {
        key: "metrics.listen",
        kind: Kind::Text,
        default: "",
        reload: Reload::Restart,
        about: "Where GET /metrics is answered for Prometheus: \"127.0.0.1:9464\", or unix: and a path. Never where the routes \
                are. Unset: nowhere, and nothing is measured. Nobody is asked for a token there; on another address than \
                this machine's own, whoever reaches it reads how many logins fail.",
    },
    Setting {
        key: "accounts.registration",
        kind: Kind::Text,
        default: "\"nobody\"",
        reload: Reload::OnHangup,
        about: "Who may make an account for themselves: nobody or anybody. Anybody is anybody who reaches the server, programs \
                included.",
    },
    Setting {
        key: "accounts.email",
        kind: Kind::Text,
        default: "\"required\"",
        reload: Reload::OnHangup,
        about: "Whether who registers gives an address: required, optional or refused. Without one nobody replaces a forgotten \
                password. Where it is required, nobody is told whether somebody has that address already.",
    },
    Setting {
        key: "accounts.unconfirmed",
        kind: Kind::Text,
        default: "\"log-in\"",
        reload: Reload::OnHangup,
        about: "What they may do whose address is not confirmed: log-in, by their name, or wait. With wait no account is made \
                before its address is confirmed.",
    },
    Setting {
        key: "accounts.password_length",
        kind: Kind::Number,
        default: "15",
        reload: Reload::OnHangup,
        about: "How many characters a password has that people choose, from 8 to 64. Fewer are guessed sooner from a stolen \
                database.",
    },
    Setting {
        key: "accounts.blocklist_file",
        kind: Kind::Text,
        default: "",
        reload: Reload::OnHangup,
        about: "A file with passwords, one in a line, that nobody may choose, besides the usual ones.",
    },
    Setting {
        key: "accounts.confirm_within",
        kind: Kind::Text,
        default: "\"24h\"",
        reload: Reload::OnHangup,
        about: "How long a mailed link to confirm an address works; 30d at most.",
    },
    Setting {
        key: "accounts.reset_within",
        kind: Kind::Text,
        default: "\"1h\"",
        reload: Reload::OnHangup,
        about: "How long a mailed link to choose a new password works; 1d at most. Too long, and whoever gets at old mail gets in.",
    },
    Setting {
        key: "accounts.undo_within",
        kind: Kind::Text,
        default: "\"7d\"",
        reload: Reload::OnHangup,
        about: "How long the old address can take back that an account was given another one; 1h to 90d.",
    },
    Setting {
        key: "accounts.mails_per_address",
        kind: Kind::Text,
        default: "\"5/h\"",
        reload: Reload::OnHangup,
        about: "How many mails one address gets because somebody asked. Too many, and your server is a way to pester people.",
    },
    Setting {
        key: "accounts.mails_per_source",
        kind: Kind::Text,
        default: "\"20/h\"",
        reload: Reload::OnHangup,
        about: "How many mails and registrations one address of the network may ask for. Too few, and an office behind one address \
                locks itself out.",
    },
    Setting {
        key: "accounts.tell_new_device",
        kind: Kind::Switch,
        default: "true",
        reload: Reload::OnHangup,
        about: "Whether owners are mailed that a device logged in that had not been seen before.",
    },
    Setting {
        key: "accounts.tell_expiring",
        kind: Kind::Text,
        default: "",
        reload: Reload::OnHangup,
        about: "How long before an API key expires its owner is mailed: \"7d\". Unset: they are not.",
    },
    Setting {
        key: "accounts.tell_expiring_logins",
        kind: Kind::Switch,
        default: "false",
        reload: Reload::OnHangup,
        about: "Whether the same goes for login tokens.",
    },
    Setting {
        key: "links.confirm",
        kind: Kind::Text,
        default: "",
        reload: Reload::OnHangup,
        about: "The page of yours where addresses are confirmed, with {token} where the secret goes: \
                \"https://app.example.org/confirm#{token}\". Unset: a page of this server's. Behind a # the secret is in nobody's \
                log.",
    },
    Setting {
        key: "links.reset",
        kind: Kind::Text,
        default: "",
        reload: Reload::OnHangup,
        about: "The same for choosing a new password.",
    },
    Setting {
        key: "links.account",
        kind: Kind::Text,
        default: "",
        reload: Reload::OnHangup,
        about: "The page of yours where people look after their account. Unset: base_url.",
    },
    Setting {
        key: "links.next",
        kind: Kind::List,
        default: "[]",
        reload: Reload::OnHangup,
        about: "The pages that those behind mailed links may lead on to, when whoever asked for the mail names one: each by its \
                whole URL. Every page that is not listed is refused, or links of yours would lead to anybody's.",
    },
    Setting {
        key: "mail.transport",
        kind: Kind::Text,
        default: "\"file\"",
        reload: Reload::OnHangup,
        about: "How mails leave: file, each into a file of its own; smtp, by a mail server; console, onto stderr, links and all, so \
                for trying out alone; none, and nothing that needs mail is offered.",
    },
    Setting {
        key: "mail.directory",
        kind: Kind::Text,
        default: "",
        reload: Reload::OnHangup,
        about: "Where mail.transport = \"file\" puts them; the newest 1000 are kept. Unset: mail in data_dir. Who reads them can use \
                their links.",
    },
    Setting {
        key: "mail.from",
        kind: Kind::Text,
        default: "",
        reload: Reload::OnHangup,
        about: "Whom mails come from: \"Example <no-reply@example.org>\". It has to be set for smtp; the mail server has to let you \
                write in that name, or readers never see the mails.",
    },
    Setting {
        key: "mail.reply_to",
        kind: Kind::Text,
        default: "",
        reload: Reload::OnHangup,
        about: "Whom answers go to. Unset: mail.from.",
    },
    Setting {
        key: "mail.language",
        kind: Kind::Text,
        default: "\"en\"",
        reload: Reload::OnHangup,
        about: "What mails are written in for whom no other language is known: en, de, or one that mail.templates adds.",
    },
    Setting {
        key: "mail.templates",
        kind: Kind::Text,
        default: "",
        reload: Reload::OnHangup,
        about: "A directory of templates that replace those of the program and add languages: docs/mail.md. One that does not work \
                stops the start.",
    },
    Setting {
        key: "smtp.host",
        kind: Kind::Text,
        default: "",
        reload: Reload::OnHangup,
        about: "The mail server, by the name that its certificate bears.",
    },
    Setting {
        key: "smtp.port",
        kind: Kind::Number,
        default: "",
        reload: Reload::OnHangup,
        about: "Its port. Unset: 587 for starttls, 465 for tls, 25 for none.",
    },
    Setting {
        key: "smtp.security",
        kind: Kind::Text,
        default: "\"starttls\"",
        reload: Reload::OnHangup,
        about: "starttls: the connection turns to TLS before anything is said; tls: TLS from the start; none: for a server on this \
                machine alone.",
    },
    Setting {
        key: "smtp.username",
        kind: Kind::Text,
        default: "",
        reload: Reload::OnHangup,
        about: "As whom the server logs in there. Unset: it does not.",
    },
    Setting {
        key: "smtp.password",
        kind: Kind::Secret,
        default: "",
        reload: Reload::OnHangup,
        about: "With which password. In a file that others read, or an environment that they see, it is not yours alone: use \
                smtp.password_file.",
    },
    Setting {
        key: "smtp.password_file",
        kind: Kind::Text,
        default: "",
        reload: Reload::OnHangup,
        about: "The file that the password is in, without one line break at its end.",
    },
    Setting {
        key: "smtp.ca_file",
        kind: Kind::Text,
        default: "",
        reload: Reload::OnHangup,
        about: "A file with certificates in PEM that are trusted besides those of the system, to know a mail server of your own by.",
    },
    Setting {
        key: "smtp.timeout",
        kind: Kind::Text,
        default: "\"30s\"",
        reload: Reload::OnHangup,
        about: "How long handing over one mail may take, a minute at most; then it is tried again later.",
    },
];

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    File(PathBuf),
    Environment(String),
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::Environment(name) => write!(f, "${name}"),
            Origin::Flag(flag) => f.write_str(flag),
        }
    }
}

/// The raw value of each setting that has one, and where it came from. One of them may be a password, hence no `Debug` of the
/// values.
#[derive(Clone)]
pub(crate) struct Chosen {
    values: BTreeMap<&'static str, (Value, Origin)>,
}

impl fmt::Debug for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

/// Not a setting, but where the file with them is.
const CONFIG_VARIABLE: &str = "COUNTERFOIL_CONFIG";

impl Chosen {
    /// The defaults alone.
    pub(crate) fn defaults() -> Chosen {
        let mut values = BTreeMap::new();
        for setting in SETTINGS.iter().filter(|setting| !setting.default.is_empty()) {
            let Ok(Some(value)) =
                format!("value = {}", setting.default).parse::<toml::Table>().map(|mut table| table.remove("value"))
            else {
                panic!("the default of {} is not TOML", setting.key);
            };
            values.insert(setting.key, (value, Origin::Default));
        }
        Chosen { values }
    }

    /// The defaults, then the file named by `--config` or by the environment, then the environment; flags come on top.
    pub(crate) fn read(file: Option<&Path>, environment: &[(OsString, OsString)]) -> Result<Chosen, Failure> {
        let mut chosen = Chosen::defaults();
        let from_environment = environment.iter().find(|(name, _)| name == CONFIG_VARIABLE);
        if let Some(path) = file.or_else(|| from_environment.map(|(_, value)| Path::new(value))) {
            let text = fs::read_to_string(path).map_err(|error| {
                Failure::usage(format!("cannot read {}: {error}", path.display()))
                    .hint("name it with --config FILE or COUNTERFOIL_CONFIG; without either there is no file")
            })?;
            chosen.read_file(path, &text)?;
        }
        chosen.read_environment(environment)?;
        Ok(chosen)
    }

    pub(crate) fn read_file(&mut self, path: &Path, text: &str) -> Result<(), Failure> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            Failure::usage(format!("{}, line {line}: {}", path.display(), error.message()))
        })?;
        self.read_table(path, "", table)
    }

    fn read_table(&mut self, path: &Path, prefix: &str, table: toml::Table) -> Result<(), Failure> {
        for (name, value) in table {
            let key = format!("{prefix}{name}");
            let within = format!("{key}.");
            match (SETTINGS.iter().find(|setting| setting.key == key), value) {
                (Some(setting), value) => {
                    self.values.insert(setting.key, (value, Origin::File(path.to_owned())));
                }
                (None, Value::Table(table)) if SETTINGS.iter().any(|setting| setting.key.starts_with(&within)) => {
                    self.read_table(path, &within, table)?;
                }
                (None, _) => return Err(unknown(&key, &path.display().to_string())),
            }
        }
        Ok(())
    }

    fn read_environment(&mut self, environment: &[(OsString, OsString)]) -> Result<(), Failure> {
        for (name, value) in environment {
            let name = name.to_string_lossy();
            let Some(rest) = name.strip_prefix("COUNTERFOIL_") else { continue };
            if name == CONFIG_VARIABLE || set_by_kubernetes(rest) {
                continue;
            }
            let Some(setting) = SETTINGS.iter().find(|setting| variable(setting.key) == name) else {
                return Err(unknown(&name, "the environment"));
            };
            let Some(text) = value.to_str() else {
                return Err(Failure::usage(format!("the value of {name} is not UTF-8")));
            };
            self.values.insert(setting.key, (setting.kind.value_of(text), Origin::Environment(name.into_owned())));
        }
        Ok(())
    }

    /// Lets a flag outrank everything else.
    pub(crate) fn flag(&mut self, key: &'static str, flag: &'static str, value: Option<String>) {
        if let Some(value) = value {
            self.values.insert(key, (Value::String(value), Origin::Flag(flag)));
        }
    }

    /// Forgets what anything but a flag says of these, because a flag says the same otherwise.
    pub(crate) fn overrule(&mut self, keys: &[&'static str]) {
        for key in keys {
            self.values.remove(key);
        }
    }

    /// The meaning of a text that there must be.
    pub(crate) fn required<T>(
        &self,
        key: &'static str,
        meaning: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, Failure> {
        self.optional(key, meaning)?.ok_or_else(|| Failure::usage(format!("{key} is not set")))
    }

    /// The meaning of a text that there may be.
    pub(crate) fn optional<T>(
        &self,
        key: &'static str,
        meaning: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Failure> {
        let Some((value, _)) = self.values.get(key) else { return Ok(None) };
        let meant = value.as_str().ok_or_else(|| "expected a text in quotes".to_owned()).and_then(meaning);
        meant.map(Some).map_err(|why| self.refused(key, &why))
    }

    /// A number within `range` that there may be.
    pub(crate) fn number(&self, key: &'static str, range: RangeInclusive<u32>) -> Result<Option<u32>, Failure> {
        let Some((value, _)) = self.values.get(key) else { return Ok(None) };
        let number = value.as_integer().and_then(|number| u32::try_from(number).ok());
        number.filter(|number| range.contains(number)).map(Some).ok_or_else(|| {
            self.refused(key, &format!("expected a whole number from {} to {}", range.start(), range.end()))
        })
    }

    /// What is on or off.
    pub(crate) fn switch(&self, key: &'static str) -> Result<bool, Failure> {
        let Some((value, _)) = self.values.get(key) else { return Ok(false) };
        value.as_bool().ok_or_else(|| self.refused(key, "expected true or false"))
    }

    /// The meanings of a list of texts.
    pub(crate) fn list<T>(
        &self,
        key: &'static str,
        meaning: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, Failure> {
        let Some((value, _)) = self.values.get(key) else { return Ok(Vec::new()) };
        let wrong = || "expected a list of texts: [\"…\", \"…\"]".to_owned();
        let meant = value.as_array().ok_or_else(wrong).and_then(|items| {
            items.iter().map(|item| item.as_str().ok_or_else(wrong).and_then(&meaning)).collect::<Result<_, _>>()
        });
        meant.map_err(|why| self.refused(key, &why))
    }

    /// What `[[key]]` says each time.
    pub(crate) fn tables(&self, key: &'static str) -> Result<Vec<serde_json::Map<String, serde_json::Value>>, Failure> {
        let Some((value, _)) = self.values.get(key) else { return Ok(Vec::new()) };
        let wrong = || self.refused(key, &format!("expected tables, each under [[{key}]]"));
        let tables = value.as_array().ok_or_else(wrong)?;
        let read = |table: &Value| {
            let serde_json::Value::Object(table) = json!(table) else { return Err(wrong()) };
            Ok(table)
        };
        tables.iter().map(read).collect()
    }

    /// Why a setting is refused that has a meaning, and only makes no sense with others.
    pub(crate) fn refused(&self, key: &'static str, why: &str) -> Failure {
        let Some((value, origin)) = self.values.get(key) else { return Failure::usage(format!("{key}: {why}")) };
        let value = if is_secret(key) { "…".to_owned() } else { value.to_string() };
        Failure::usage(format!("{key} = {value} ({origin}): {why}"))
            .hint("`counterfoil config defaults` says what each setting does")
    }

    /// The names of the settings of this kind whose values are others than in `before`, wherever they come from.
    pub(crate) fn changed_since(&self, before: &Chosen, reload: Reload) -> Vec<&'static str> {
        let differs = |key: &&str| {
            let value = |chosen: &Chosen| chosen.values.get(*key).map(|(value, _)| value.clone());
            value(self) != value(before)
        };
        SETTINGS.iter().filter(|setting| setting.reload == reload).map(|setting| setting.key).filter(differs).collect()
    }

    /// The settings in force as a file would say them, each with its origin.
    pub(crate) fn to_toml(&self) -> String {
        let lines = SETTINGS.iter().map(|setting| {
            let (table, name) = split(setting.key);
            match self.values.get(setting.key) {
                Some((_, origin)) if is_secret(setting.key) => (table, format!("# {name} is set  # {origin}\n")),
                Some((value, origin)) => (table, format!("{name} = {value}  # {origin}\n")),
                None => (table, format!("# {name} is not set\n")),
            }
        });
        in_tables(lines)
    }

    /// The settings in force for programs: `{key: {"value", "origin"}}`.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let entries = SETTINGS.iter().map(|setting| {
            let (value, origin) = match self.values.get(setting.key) {
                Some((_, origin)) if is_secret(setting.key) => (json!("…"), origin.to_string()),
                Some((value, origin)) => (json!(value), origin.to_string()),
                None => (json!(null), Origin::Default.to_string()),
            };
            (setting.key.to_owned(), json!({ "value": value, "origin": origin }))
        });
        serde_json::Value::Object(entries.collect())
    }
}

/// A file with every setting at its default, and what each of them means.
pub(crate) fn documented_defaults() -> String {
    let lines = SETTINGS.iter().map(|setting| {
        let (table, name) = split(setting.key);
        let mut text = String::from("\n");
        for line in wrapped(setting.about, 100) {
            // Writing to a string cannot fail.
            writeln!(text, "# {line}").ok();
        }
        let again = match setting.reload {
            Reload::OnHangup => ". Read again on SIGHUP",
            Reload::Restart => "",
        };
        writeln!(text, "# In the environment: {}{again}", variable(setting.key)).ok();
        match setting.default {
            "" => writeln!(text, "# {name} =").ok(),
            default => writeln!(text, "{name} = {default}").ok(),
        };
        (table, text)
    });
    let head = "# Every setting of counterfoil at its default. Times are whole numbers with a unit: s, m, h, d or w.\n";
    format!("{head}{}", in_tables(lines))
}

/// The lines of each table under its heading; relies on the order of [`SETTINGS`].
fn in_tables<'a>(lines: impl Iterator<Item = (&'a str, String)>) -> String {
    let mut text = String::new();
    let mut current = "";
    for (table, line) in lines {
        if table != current {
            writeln!(text, "\n[{table}]").ok();
            current = table;
        }
        text.push_str(&line);
    }
    text
}

fn split(key: &'static str) -> (&'static str, &'static str) {
    key.split_once('.').unwrap_or(("", key))
}

fn is_secret(key: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.key == key && setting.kind == Kind::Secret)
}

fn variable(key: &str) -> String {
    format!("COUNTERFOIL_{}", key.to_uppercase().replace('.', "_"))
}

/// Kubernetes puts the addresses of a service named "counterfoil" into the environment of every container beside it.
fn set_by_kubernetes(rest: &str) -> bool {
    rest.starts_with("SERVICE_") || rest == "PORT" || rest.starts_with("PORT_")
}

fn unknown(key: &str, place: &str) -> Failure {
    Failure::usage(format!("there is no setting {key} ({place})"))
        .hint("`counterfoil config defaults` shows all there are")
}

impl Kind {
    /// What a text of the environment would be in the file. What does not fit stays a text and is refused as one.
    fn value_of(self, text: &str) -> Value {
        match self {
            Kind::Text | Kind::Secret => Value::String(text.to_owned()),
            Kind::Switch => text.parse().map_or_else(|_| Value::String(text.to_owned()), Value::Boolean),
            Kind::Number => text.parse().map_or_else(|_| Value::String(text.to_owned()), Value::Integer),
            Kind::Tables => {
                let table = format!("value = {text}").parse::<toml::Table>();
                let value = table.ok().and_then(|mut table| table.remove("value"));
                value.unwrap_or_else(|| Value::String(text.to_owned()))
            }
            Kind::List => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
            }
        }
    }
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { continue };
        if line.is_empty() {
            line.push_str(word);
        } else if line.len() + 1 + word.len() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn environment(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn a_flag_outranks_the_environment_outranks_the_file_outranks_the_default() {
        let directory = tempfile::tempdir().expect("directory");
        let file = directory.path().join("counterfoil.toml");
        fs::write(&file, "listen = \"127.0.0.1:1\"\ndata_dir = \"from-file\"\n[log]\nlevel = \"warn\"\n")
            .expect("file");
        let file_name = file.to_str().expect("UTF-8");
        let set = environment(&[
            ("COUNTERFOIL_CONFIG", file_name),
            ("COUNTERFOIL_LISTEN", "127.0.0.1:2"),
            ("COUNTERFOIL_DATA_DIR", "from-environment"),
            ("COUNTERFOIL_HTTP_USER_FIELDS", "id, admin"),
            ("COUNTERFOIL_HASHING_QUEUE", "7"),
            ("COUNTERFOIL_SERVICE_HOST", "10.0.0.1"),
            ("COUNTERFOIL_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("PATH", "/bin"),
        ]);
        let mut chosen = Chosen::read(None, &set).expect("read");
        chosen.flag("listen", "--listen", Some("127.0.0.1:3".to_owned()));
        let config = Config::judge(&chosen).expect("judged");
        assert_eq!(config.listen.to_string(), "127.0.0.1:3");
        assert_eq!(config.data_dir, Path::new("from-environment"));
        assert_eq!(config.log.level, tracing::Level::WARN);
        assert_eq!(config.log.format.to_string(), "human");
        assert_eq!(config.http.user_fields.len(), 2);
        assert_eq!(config.capacity.queue.get(), 7);
        let shown = chosen.to_toml();
        for line in [
            "listen = \"127.0.0.1:3\"  # --listen\n",
            "data_dir = \"from-environment\"  # $COUNTERFOIL_DATA_DIR\n",
            &format!("level = \"warn\"  # {file_name}\n"),
            "format = \"human\"  # default\n",
            "# base_url is not set\n",
        ] {
            assert!(shown.contains(line), "{line}: {shown}");
        }
        assert_eq!(chosen.to_json()["listen"]["origin"], "--listen");
    }

    #[test]
    fn unknown_keys_are_errors_wherever_they_stand() {
        for (file, key) in [
            ("lisen = \"127.0.0.1:1\"", "lisen"),
            ("[tokens]\ngrace = \"1s\"", "tokens.grace"),
            ("[token]\nretention = \"1d\"", "token"),
            ("tokens = 3", "tokens"),
            ("[listen]\nport = 3", "listen"),
        ] {
            let mut chosen = Chosen::defaults();
            let read = chosen.read_file(Path::new("x.toml"), file).and_then(|()| Config::judge(&chosen).map(drop));
            let refused = read.expect_err(file).to_string();
            assert!(refused.contains(key) && refused.contains("x.toml"), "{refused}");
        }
        let set = environment(&[("COUNTERFOIL_LISEN", "x")]);
        let refused = Chosen::read(None, &set).expect_err("unknown").to_string();
        assert!(refused.contains("COUNTERFOIL_LISEN"), "{refused}");
        let mut chosen = Chosen::defaults();
        let refused = chosen.read_file(Path::new("x.toml"), "\n\nlisten = ").expect_err("no TOML").to_string();
        assert!(refused.contains("x.toml, line 3"), "{refused}");
    }

    #[test]
    fn the_documented_defaults_are_a_file_that_changes_nothing() {
        let mut chosen = Chosen::defaults();
        let before = chosen.values.clone();
        let text = documented_defaults();
        chosen.read_file(Path::new("defaults.toml"), &text).expect("read");
        for (key, (value, _)) in &chosen.values {
            assert_eq!(Some(value), before.get(key).map(|(value, _)| value), "{key}");
        }
        for setting in SETTINGS {
            assert!(text.contains(&variable(setting.key)), "{}", setting.key);
        }
        assert!(text.lines().all(|line| line.chars().count() <= 120));
    }

    #[test]
    fn a_secret_is_set_and_shown_nowhere() {
        let set = environment(&[("COUNTERFOIL_SMTP_PASSWORD", "s3cr3t")]);
        let chosen = Chosen::read(None, &set).expect("read");
        let told = chosen.optional("smtp.password", |text| Ok(text.to_owned())).expect("a text");
        assert_eq!(told.as_deref(), Some("s3cr3t"));
        let refused = chosen.refused("smtp.password", "no").to_string();
        let shown = format!("{} {} {chosen:?} {refused}", chosen.to_toml(), chosen.to_json());
        assert!(!shown.contains("s3cr3t"), "{shown}");
        assert!(shown.contains("# password is set  # $COUNTERFOIL_SMTP_PASSWORD\n"), "{shown}");
        Chosen::defaults().read_file(Path::new("shown.toml"), &chosen.to_toml()).expect("reads back");
    }

    #[test]
    fn the_settings_in_force_are_a_file_that_reads_back() {
        let chosen = Chosen::defaults();
        let mut again = Chosen::defaults();
        again.read_file(Path::new("shown.toml"), &chosen.to_toml()).expect("read");
    }
}
