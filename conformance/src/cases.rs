//! What is replayed and what was answered then: [`Package`], read from `scenarios/NAME.json` and `recordings/NAME.json`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Failure;
use crate::json::Json;

/// The scenarios of one package and what it answered to them.
#[derive(Debug, Clone)]
pub(crate) struct Package {
    /// What the folder is called that its files are in.
    pub(crate) folder: String,
    /// `durin`.
    pub(crate) name: String,
    pub(crate) setup: Setup,
    pub(crate) scenarios: Vec<Scenario>,
}

/// What a server holds before each scenario, and where it answers.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// Paths of the package and of the host's own routes.
    pub(crate) views: Vec<String>,
    pub(crate) users: Vec<User>,
    pub(crate) clients: Vec<Client>,
    /// Names of users whose token may not be replaced.
    pub(crate) locks: Vec<String>,
    pub(crate) tokens: Vec<Token>,
    /// The Django settings of each profile, by its name.
    pub(crate) profiles: Vec<(String, Json)>,
}

#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) username: String,
    /// `None`: no password is right.
    pub(crate) password: Option<String>,
    pub(crate) email: Option<String>,
    pub(crate) active: bool,
    pub(crate) superuser: bool,
    pub(crate) staff: bool,
    pub(crate) first_name: String,
    pub(crate) last_name: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) name: String,
    /// As Django writes a duration: `30 00:00:00`.
    pub(crate) token_ttl: String,
    /// `3/m`; empty: the default of the settings.
    pub(crate) throttle_rate: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) label: String,
    pub(crate) user: String,
    pub(crate) client: Option<String>,
    pub(crate) text: String,
    pub(crate) name: Option<String>,
    /// The address that the link of a mail proves; `None`: a login token.
    pub(crate) email: Option<String>,
    /// Seconds from now.
    pub(crate) created_offset: Option<i64>,
    pub(crate) expiry_offset: Option<i64>,
    /// Seconds that are left of it, where the package keeps it so.
    pub(crate) ttl: Option<i64>,
    /// The profiles whose store holds it; `None`: all.
    pub(crate) profiles: Option<Vec<String>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) profile: String,
    pub(crate) about: String,
    pub(crate) steps: Vec<Step>,
    /// `None`: it was never recorded.
    pub(crate) recorded: Option<Vec<Recorded>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) action: Action,
    /// Name, and where in the answer it is found: `json:a.b`, `re:…`, `header:X`.
    pub(crate) capture: Vec<(String, String)>,
    /// What of the answer is compared; `None`: all of it.
    pub(crate) compare: Option<Vec<String>>,
    /// Why what the package answered is no example to follow.
    pub(crate) peer_bug: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) enum Action {
    Request(Request),
    /// The newest mail to this address is the answer.
    Mail(String),
    Sleep(Duration),
    Relation(Relation),
}

/// A request with the places of captured values still open.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, Json)>,
    pub(crate) body: Body,
}

#[derive(Debug, Clone)]
pub(crate) enum Body {
    None,
    Json(Json),
    Form(Json),
    Multipart(Json),
    Text(String),
    Base64(String),
}

/// Whether two captured values are equal.
#[derive(Debug, Clone)]
pub(crate) struct Relation {
    pub(crate) operator: String,
    pub(crate) left: String,
    pub(crate) right: String,
}

/// What the package answered to one step.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub(crate) step: usize,
    pub(crate) norm: Json,
    /// As it came, before anything was made of it. The comparison does not need it.
    #[cfg_attr(not(test), expect(dead_code, reason = "the tests hold the normal form to it"))]
    pub(crate) raw: Option<Json>,
}

/// Reads the packages of a folder that has `scenarios/` and `recordings/`.
pub(crate) fn load(folder: &Path) -> Result<Vec<Package>, Failure> {
    let folder_name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut packages = Vec::new();
    for path in json_files(&folder.join("scenarios"))? {
        let document = read(&path)?;
        // Beside the scenarios lie files that only say where their values come from.
        if document.get("scenarios").is_none() {
            continue;
        }
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let name = document.get("peer").and_then(Json::as_str).unwrap_or(stem);
        let recordings = folder.join("recordings");
        let of_file = recordings.join(format!("{stem}.json"));
        let of_package = recordings.join(format!("{name}.json"));
        let recordings = [of_file, of_package].into_iter().find(|file| file.exists());
        let recordings = recordings.map(|file| read(&file)).transpose()?.unwrap_or(Json::Null);
        let package = Package::read(folder_name, name, &document, &recordings);
        packages.push(package.map_err(|what| format!("{}: {what}", path.display()))?);
    }
    if packages.is_empty() {
        return Err(format!("{} holds no scenarios", folder.join("scenarios").display()).into());
    }
    Ok(packages)
}

/// The folders under `root` that have scenarios in them, or the root itself.
pub(crate) fn folders(root: &Path) -> Result<Vec<PathBuf>, Failure> {
    if root.join("scenarios").is_dir() {
        return Ok(vec![root.to_owned()]);
    }
    let entries = fs::read_dir(root).map_err(|error| format!("{}: {error}", root.display()))?;
    let mut folders = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.join("scenarios").is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    if folders.is_empty() {
        return Err(format!("{} has no folder with scenarios in it", root.display()).into());
    }
    Ok(folders)
}

fn json_files(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = fs::read_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<Json, Failure> {
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Json::parse(&bytes).map_err(|error| format!("{}: {error}", path.display()))?)
}

impl Package {
    fn read(folder: &str, name: &str, document: &Json, recordings: &Json) -> Result<Package, String> {
        let setup = Setup::read(document.get("setup").unwrap_or(&Json::Null))?;
        let scenarios = list(document, "scenarios")?.iter();
        let scenarios = scenarios.map(|scenario| Scenario::read(scenario, recordings)).collect::<Result<_, _>>()?;
        Ok(Package { folder: folder.to_owned(), name: name.to_owned(), setup, scenarios })
    }
}

impl Setup {
    fn read(setup: &Json) -> Result<Setup, String> {
        let all = |key: &str| setup.get(key).and_then(Json::as_list).unwrap_or_default();
        let entries = |key: &str| setup.get(key).and_then(Json::as_object).unwrap_or_default();
        let profiles = entries("profiles").iter().map(|(name, profile)| {
            (name.clone(), profile.get("settings").cloned().unwrap_or_else(|| Json::Object(Vec::new())))
        });
        Ok(Setup {
            views: entries("views").iter().map(|(path, _)| path.clone()).collect(),
            users: all("users").iter().map(User::read).collect::<Result<_, _>>()?,
            clients: all("clients").iter().map(Client::read).collect::<Result<_, _>>()?,
            locks: all("locks").iter().filter_map(Json::as_str).map(str::to_owned).collect(),
            tokens: all("tokens").iter().map(Token::read).collect::<Result<_, _>>()?,
            profiles: profiles.collect(),
        })
    }

    pub(crate) fn settings(&self, profile: &str) -> Option<&Json> {
        self.profiles.iter().find(|(name, _)| name == profile).map(|(_, settings)| settings)
    }
}

impl User {
    fn read(user: &Json) -> Result<User, String> {
        let flag = |key: &str, unless_said: bool| user.get(key).and_then(Json::as_bool).unwrap_or(unless_said);
        let superuser = flag("is_superuser", false);
        Ok(User {
            username: text(user, "username")?,
            password: maybe_text(user, "password"),
            email: maybe_text(user, "email"),
            active: flag("is_active", true),
            superuser,
            staff: flag("is_staff", superuser),
            first_name: maybe_text(user, "first_name").unwrap_or_default(),
            last_name: maybe_text(user, "last_name").unwrap_or_default(),
        })
    }
}

impl Client {
    fn read(client: &Json) -> Result<Client, String> {
        Ok(Client {
            name: text(client, "name")?,
            token_ttl: maybe_text(client, "token_ttl").unwrap_or_default(),
            throttle_rate: maybe_text(client, "throttle_rate").unwrap_or_default(),
        })
    }
}

impl Token {
    fn read(token: &Json) -> Result<Token, String> {
        let seconds = |key: &str| token.get(key).and_then(Json::as_i64);
        let profiles = token.get("profiles").and_then(Json::as_list);
        let email = (maybe_text(token, "kind").as_deref() == Some("email")).then(|| text(token, "email"));
        Ok(Token {
            label: text(token, "label")?,
            user: text(token, "user")?,
            client: maybe_text(token, "client"),
            text: text(token, "token")?,
            name: maybe_text(token, "name"),
            email: email.transpose()?,
            created_offset: seconds("created_offset_s"),
            expiry_offset: seconds("expiry_offset_s"),
            ttl: seconds("ttl_s"),
            profiles: profiles.map(|all| all.iter().filter_map(Json::as_str).map(str::to_owned).collect()),
        })
    }
}

impl Scenario {
    fn read(scenario: &Json, recordings: &Json) -> Result<Scenario, String> {
        let name = text(scenario, "name")?;
        let steps = list(scenario, "steps")?.iter().map(Step::read).collect::<Result<_, _>>();
        let steps = steps.map_err(|what| format!("{name}: {what}"))?;
        let recorded = recordings.get(&name).map(|it| list(it, "steps")?.iter().map(Recorded::read).collect());
        Ok(Scenario {
            profile: maybe_text(scenario, "profile").unwrap_or_else(|| "default".to_owned()),
            about: maybe_text(scenario, "about").unwrap_or_default(),
            steps,
            recorded: recorded.transpose().map_err(|what| format!("the recording of {name}: {what}"))?,
            name,
        })
    }
}

impl Step {
    fn read(step: &Json) -> Result<Step, String> {
        let capture = step.get("capture").and_then(Json::as_object).unwrap_or_default();
        let capture = capture.iter().map(|(name, place)| {
            Ok((name.clone(), place.as_str().ok_or_else(|| format!("{name} is captured from no text"))?.to_owned()))
        });
        let compare = step.get("compare").and_then(Json::as_list);
        let compare = compare.map(|all| all.iter().filter_map(Json::as_str).map(str::to_lowercase).collect::<Vec<_>>());
        Ok(Step {
            action: Action::read(step)?,
            capture: capture.collect::<Result<_, String>>()?,
            // An empty list says nothing.
            compare: compare.filter(|parts| !parts.is_empty()),
            peer_bug: maybe_text(step, "peer_bug"),
        })
    }
}

impl Action {
    fn read(step: &Json) -> Result<Action, String> {
        if let Some(seconds) = step.get("sleep") {
            let seconds = seconds.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            return Ok(Action::Sleep(seconds.ok_or("sleep is not a number of seconds")?));
        }
        if let Some(relation) = step.get("relation") {
            let Some([operator, left, right]) = relation.as_list() else {
                return Err("a relation has three parts".to_owned());
            };
            let part = |part: &Json| part.as_str().map(str::to_owned).ok_or("a part of a relation is no text");
            return Ok(Action::Relation(Relation {
                operator: part(operator)?,
                left: part(left)?,
                right: part(right)?,
            }));
        }
        if let Some(address) = step.get("mail_to") {
            return Ok(Action::Mail(address.as_str().ok_or("mail_to is no text")?.to_owned()));
        }
        let headers = step.get("headers").and_then(Json::as_object).unwrap_or_default().to_vec();
        Ok(Action::Request(Request {
            method: text(step, "method")?,
            path: text(step, "path")?,
            headers,
            body: Body::read(step)?,
        }))
    }
}

impl Body {
    fn read(step: &Json) -> Result<Body, String> {
        if let Some(value) = step.get("json") {
            return Ok(Body::Json(value.clone()));
        }
        if let Some(fields) = step.get("form") {
            return Ok(Body::Form(fields.clone()));
        }
        if let Some(fields) = step.get("multipart") {
            return Ok(Body::Multipart(fields.clone()));
        }
        if step.get("body").is_some() {
            return Ok(Body::Text(text(step, "body")?));
        }
        if step.get("body_b64").is_some() {
            return Ok(Body::Base64(text(step, "body_b64")?));
        }
        Ok(Body::None)
    }
}

impl Recorded {
    fn read(recorded: &Json) -> Result<Recorded, String> {
        let step = recorded.get("step").and_then(Json::as_i64).and_then(|step| usize::try_from(step).ok());
        Ok(Recorded {
            step: step.ok_or("a step without its number")?,
            norm: recorded.get("norm").ok_or("a step without its normal form")?.clone(),
            raw: recorded.get("raw").cloned(),
        })
    }
}

/// One step alone.
#[cfg(test)]
pub(crate) fn action_of(step: &Json) -> Result<Action, String> {
    Action::read(step)
}

fn list<'a>(value: &'a Json, key: &str) -> Result<&'a [Json], String> {
    value.get(key).and_then(Json::as_list).ok_or_else(|| format!("no list `{key}`"))
}

fn text(value: &Json, key: &str) -> Result<String, String> {
    maybe_text(value, key).ok_or_else(|| format!("no text `{key}` in {}", value.compact()))
}

fn maybe_text(value: &Json, key: &str) -> Option<String> {
    value.get(key).and_then(Json::as_str).map(str::to_owned)
}
