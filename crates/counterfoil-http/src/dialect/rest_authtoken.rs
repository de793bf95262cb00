//! django-rest-authtoken 2.1: a token for each login, and accounts that people make for themselves.

use std::sync::Arc;

use axum::http::{HeaderValue, Method, StatusCode, header};
use counterfoil_core::account::{Account, Role};
use counterfoil_core::account_rules::{AccountRules, LinkPattern};
use counterfoil_core::authority::{ClientOrder, LoggedIn, LoginTerms, NewRegistration, RegistrationTerms};
use counterfoil_core::password::Password;
use counterfoil_core::shape::TokenShape;
use counterfoil_core::{ClientName, Email, Lifetime, Policy, Refusal, Username};
use zeroize::Zeroizing;

use super::drf::answer::Answer;
use super::drf::authorization::{Authentication, TokenScheme, TokenWords};
use super::drf::browsable::escaped;
use super::drf::django;
use super::drf::fields::{CharField, errors, is_object, stripped};
use super::drf::json::Value;
use super::drf::parse::{Data, Input};
use super::drf::view::View;
use super::settings::{NotASetting, Settings};
use super::{Act, Ask, Asked, DialectRoute, Package, Path, on_these, shown};
use crate::reader::Reader;

/// One refusal for everything.
const WORDS: TokenWords = TokenWords {
    no_credentials: "invalid auth header, No credentials provided.",
    spaces: "invalid auth token",
    invalid_characters: "invalid auth token",
    unknown: "invalid auth token",
    expired: "invalid auth token",
    inactive: "invalid auth token",
};

const USERNAME: CharField = CharField {
    help_text: Some("Required. 150 characters or fewer. Letters, digits and @/./+/-/_ only."),
    max_length: Some(150),
    ..CharField::named("username", "Username")
};
const PASSWORD: CharField = CharField { max_length: Some(128), ..CharField::named("password", "Password") };
const EMAIL: CharField = CharField {
    kind: "email",
    allows_blank: true,
    max_length: Some(254),
    ..CharField::named("email", "Email address")
};

const FIELDS: &[CharField] = &[USERNAME, PASSWORD];
const FIELDS_WITH_EMAIL: &[CharField] = &[USERNAME, PASSWORD, EMAIL];

/// Fewest characters of a password by the package's one rule.
const LEAST_PASSWORD: usize = 6;

const USERNAME_TAKEN: &str = "A user with that username already exists.";
const USERNAME_WRONG: &str =
    "Enter a valid username. This value may contain only letters, numbers, and @/./+/-/_ characters.";

const DAY: u64 = 86_400;

pub(super) fn package(settings: &mut Settings<'_>) -> Result<Package, NotASetting> {
    let client = settings.client("rest_authtoken")?;
    let shape = settings.shape(|| Ok(TokenShape::Base64Url))?;
    settings.default_authentication(&["AuthTokenAuthentication"])?;
    let scheme = TokenScheme { words: WORDS, ..TokenScheme::of("Token") };
    let host_view = View {
        renderers: settings.default_renderers()?,
        parsers: settings.default_parsers()?,
        authentication: Authentication::Token(scheme),
        ..View::named("", &[])
    };
    let permission = settings.default_permission()?;
    let open = |name: &'static str| View {
        name: name.into(),
        methods: vec![Method::POST],
        permission: permission.clone(),
        ..host_view.clone()
    };
    let logout = View { name: "Logout".into(), methods: vec![Method::DELETE], ..host_view.clone() };
    let day =
        Lifetime::from_seconds(DAY).map_err(|error| NotASetting::new("AUTH_TOKEN_VALIDITY", error.to_string()))?;
    let ttl = settings.lifetime("AUTH_TOKEN_VALIDITY")?.unwrap_or(day);
    let user = UserFields::read(settings)?;
    let policy = settings.limits(Policy { ttl: Some(ttl), ..Policy::default() })?;
    let order = ClientOrder { policy, ..ClientOrder::named(client.clone()) };
    let log_in = Arc::new(LogIn { client, shape, user });
    let mut routes = vec![
        DialectRoute { path: Path::Exact("/login/"), view: open("Login List"), act: log_in },
        DialectRoute { path: Path::Exact("/logout/"), view: logout, act: Arc::new(LogOut) },
    ];
    let confirming = Confirming::read(settings, day)?;
    let judges_password = settings.one_of("passwords", &[("package", false), ("policy", true)])?.unwrap_or(false);
    if settings.flag("REGISTRATION_ENABLED")?.unwrap_or(false) {
        settings
            .warn("REGISTRATION_ENABLED lets anybody make an account, and tells whoever asks which names are taken");
        if !judges_password {
            settings.warn("passwords of six characters are taken, also the commonest: set passwords = \"policy\"");
        }
        let fields = if confirming.is_some() { FIELDS_WITH_EMAIL } else { FIELDS };
        let register = View { actions: fields, ..open("Register List") };
        let confirm_within = confirming.as_ref().map(|confirming| confirming.within);
        let terms = RegistrationTerms { judges_password, confirm_within };
        let act = Arc::new(Register { fields, terms });
        routes.push(DialectRoute { path: Path::Exact("/register/"), view: register, act });
        if let Some(confirming) = confirming {
            if confirming.by_get {
                settings.warn("confirm = \"get\": whatever looks at the links in mails confirms addresses");
            }
            let view = View { is_of_framework: false, ..View::named("", &[]) };
            let path = Path::Exact("/register/confirm/{token}/");
            routes.push(DialectRoute { path, view, act: Arc::new(confirming) });
        }
    }
    Ok(Package { routes, host_view, client: Some(order) })
}

/// What is shown of a user after a login.
#[derive(Debug, Clone)]
struct UserFields(Vec<UserField>);

#[derive(Debug, Clone, Copy)]
enum UserField {
    Id,
    Username,
    Email,
    FirstName,
    LastName,
    IsActive,
    IsStaff,
    IsSuperuser,
}

const USER_FIELDS: [(&str, UserField); 8] = [
    ("id", UserField::Id),
    ("username", UserField::Username),
    ("email", UserField::Email),
    ("first_name", UserField::FirstName),
    ("last_name", UserField::LastName),
    ("is_active", UserField::IsActive),
    ("is_staff", UserField::IsStaff),
    ("is_superuser", UserField::IsSuperuser),
];

impl UserFields {
    fn read(settings: &mut Settings<'_>) -> Result<Option<UserFields>, NotASetting> {
        const KEY: &str = "USER_FIELDS";
        let serializer = settings.take("USER_SERIALIZER").filter(|value| !value.is_null());
        let Some(value) = settings.take(KEY) else {
            return match serializer {
                Some(_) => {
                    Err(NotASetting::new("USER_SERIALIZER", "is code of Python: say in USER_FIELDS what it shows"))
                }
                None => Ok(None),
            };
        };
        let known = |name: &serde_json::Value| {
            let found = USER_FIELDS.iter().find(|(known, _)| name.as_str() == Some(known));
            found.map(|(_, field)| *field)
        };
        let fields: Option<Vec<_>> = value.as_array().and_then(|names| names.iter().map(known).collect());
        let names = USER_FIELDS.map(|(name, _)| name).join(", ");
        fields
            .map(|fields| Some(UserFields(fields)))
            .ok_or_else(|| NotASetting::new(KEY, format!("is a list of {names}")))
    }

    fn shown(&self, account: &Account) -> Value {
        Value::object(self.0.iter().map(|field| (field.name(), field.of(account))))
    }
}

impl UserField {
    fn name(self) -> &'static str {
        match self {
            UserField::Id => "id",
            UserField::Username => "username",
            UserField::Email => "email",
            UserField::FirstName => "first_name",
            UserField::LastName => "last_name",
            UserField::IsActive => "is_active",
            UserField::IsStaff => "is_staff",
            UserField::IsSuperuser => "is_superuser",
        }
    }

    fn of(self, account: &Account) -> Value {
        match self {
            // An imported account has the number that it had; one that was not made here by a dialect has none.
            UserField::Id => match account.subject.as_str().parse::<u64>() {
                Ok(number) => Value::int(number),
                Err(_) => Value::text(account.subject.as_str()),
            },
            UserField::Username => Value::text(account.username.as_str()),
            UserField::Email => Value::text(account.email.as_ref().map_or("", Email::as_str)),
            UserField::FirstName => Value::text(account.first_name.as_str()),
            UserField::LastName => Value::text(account.last_name.as_str()),
            UserField::IsActive => Value::Bool(account.active),
            UserField::IsStaff => Value::Bool(account.role >= Role::Staff),
            UserField::IsSuperuser => Value::Bool(account.role >= Role::Admin),
        }
    }
}

#[derive(Debug)]
struct LogIn {
    client: ClientName,
    shape: TokenShape,
    user: Option<UserFields>,
}

fn rejected() -> Answer {
    Answer::data(StatusCode::UNAUTHORIZED, Value::text("invalid credentials"))
}

impl Act for LogIn {
    fn reads_body(&self, method: &Method) -> bool {
        method == Method::POST
    }

    fn ask(&self, request: &Asked) -> Result<Ask, Answer> {
        let data = request.data()?;
        let (username, password) = match (data.field("username"), data.field("password")) {
            (Input::Text(username, None), Input::Text(password, None)) => (username.to_owned(), password),
            (Input::Number(username), Input::Text(password, None)) => (username, password),
            (_, _) => return Err(rejected()),
        };
        let terms = LoginTerms { client: self.client.clone(), name: None, shape: self.shape.clone() };
        let user = self.user.clone();
        let answer = move |logged_in: &LoggedIn| {
            let mut fields = vec![("token", shown(&logged_in.issued.secret))];
            fields.extend(user.map(|user| ("user", user.shown(&logged_in.account))));
            Answer::ok(Value::object(fields))
        };
        Ok(Ask::LogIn {
            username,
            password: password.to_owned().into(),
            client: self.client.clone(),
            terms: on_these(terms),
            answer: Box::new(answer),
        })
    }

    fn refused(&self, _: &Asked, refusal: &Refusal) -> Option<Answer> {
        (*refusal == Refusal::CredentialsRejected).then(rejected)
    }
}

#[derive(Debug)]
struct LogOut;

impl Act for LogOut {
    fn reads_body(&self, _: &Method) -> bool {
        false
    }

    fn ask(&self, request: &Asked) -> Result<Ask, Answer> {
        let done = |_: &()| Answer::nothing(StatusCode::NO_CONTENT);
        match request.who.clone() {
            Some(who) => Ok(Ask::LogOut { who, answer: Box::new(done) }),
            None => Err(done(&())),
        }
    }

    fn refused(&self, _: &Asked, _: &Refusal) -> Option<Answer> {
        None
    }
}

/// Making an account for oneself.
#[derive(Debug)]
struct Register {
    fields: &'static [CharField],
    terms: RegistrationTerms,
}

impl Act for Register {
    fn reads_body(&self, method: &Method) -> bool {
        method == Method::POST
    }

    fn ask(&self, request: &Asked) -> Result<Ask, Answer> {
        let data = request.data()?;
        is_object(&data)?;
        let mut wrong = Vec::new();
        let username = held(username(&data), USERNAME.name, &mut wrong);
        let password = held(password(&data), PASSWORD.name, &mut wrong);
        let email = match self.fields.iter().any(|field| field.name == EMAIL.name) {
            true => held(email(&data), EMAIL.name, &mut wrong),
            false => Some(None),
        };
        let created = |_: &Account| Answer::data(StatusCode::CREATED, Value::object([("success", Value::Bool(true))]));
        match (username, password, email) {
            (Some(username), Some(password), Some(email)) => {
                let Reader(languages) = Reader::of(&request.headers);
                let new = NewRegistration {
                    username,
                    password,
                    email,
                    first_name: String::new(),
                    last_name: String::new(),
                    locale: None,
                    languages,
                    next: None,
                };
                Ok(Ask::Register { new: Box::new(new), terms: self.terms, answer: Box::new(created) })
            }
            // Whether the name is taken is said together with what is wrong elsewhere.
            (Some(username), _, _) => {
                let answer = move |is_free: &bool| {
                    let taken = (!is_free).then(|| (USERNAME.name, vec![USERNAME_TAKEN.to_owned()]));
                    errors(taken.into_iter().chain(wrong))
                };
                Ok(Ask::IsFree { username, answer: Box::new(answer) })
            }
            (None, _, _) => Err(errors(wrong)),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest is said as everywhere")]
    fn refused(&self, _: &Asked, refusal: &Refusal) -> Option<Answer> {
        let of = |name, words: String| Some(errors([(name, vec![words])]));
        match refusal {
            Refusal::UsernameTaken => of(USERNAME.name, USERNAME_TAKEN.to_owned()),
            Refusal::PasswordWeak { why, .. } => of(PASSWORD.name, why.to_string()),
            Refusal::Invalid(invalid) if invalid.field == USERNAME.name => of(USERNAME.name, USERNAME_WRONG.to_owned()),
            Refusal::NoMail => {
                let words = Value::list([Value::text("failed to send confirmation email")]);
                Some(Answer::data(StatusCode::BAD_REQUEST, words))
            }
            _ => None,
        }
    }
}

/// What is right; what is wrong goes to the others.
fn held<T>(
    judged: Result<T, Vec<String>>,
    name: &'static str,
    wrong: &mut Vec<(&'static str, Vec<String>)>,
) -> Option<T> {
    match judged {
        Ok(value) => Some(value),
        Err(words) => {
            wrong.push((name, words));
            None
        }
    }
}

fn username(data: &Data) -> Result<Username, Vec<String>> {
    let input = data.field(USERNAME.name);
    let is_of_django = |text: &str| text.chars().all(|c| c.is_alphanumeric() || "_@.+-".contains(c));
    let shows_its_characters = match &input {
        Input::Text(text, surrogate) => surrogate.is_none() && is_of_django(stripped(text)),
        Input::Number(number) => is_of_django(number),
        Input::Missing | Input::Null | Input::Other => true,
    };
    let read = USERNAME.read(&input);
    match (read, shows_its_characters) {
        (Ok(text), true) => {
            let text = text.unwrap_or_default();
            text.parse().map_err(|_| vec![USERNAME_WRONG.to_owned()])
        }
        (Ok(_), false) => Err(vec![USERNAME_WRONG.to_owned()]),
        (Err(words), true) => Err(words),
        (Err(words), false) => Err(std::iter::once(USERNAME_WRONG.to_owned()).chain(words).collect()),
    }
}

/// As it was typed: the package drops the blanks around it here and not at a login, so that nobody gets in with what they chose.
fn password(data: &Data) -> Result<Password, Vec<String>> {
    let input = data.field(PASSWORD.name);
    let trimmed = PASSWORD.read(&input)?.unwrap_or_default();
    if trimmed.chars().count() < LEAST_PASSWORD {
        return Err(vec!["password too short".to_owned()]);
    }
    let typed = match &input {
        Input::Text(text, _) => Zeroizing::new((*text).to_owned()),
        Input::Number(_) | Input::Missing | Input::Null | Input::Other => trimmed,
    };
    let most = PASSWORD.max_length.unwrap_or_default();
    Password::new(typed.as_bytes()).map_err(|_| vec![format!("Ensure this field has no more than {most} characters.")])
}

/// None is an address as well.
fn email(data: &Data) -> Result<Option<Email>, Vec<String>> {
    let wrong = || "Enter a valid email address.".to_owned();
    let input = data.field(EMAIL.name);
    if matches!(input, Input::Other) {
        return Err(vec![wrong()]);
    }
    let shown = match &input {
        Input::Text(text, _) => stripped(text).to_owned(),
        Input::Number(number) => number.clone(),
        Input::Missing | Input::Null | Input::Other => String::new(),
    };
    let parsed = Some(shown.as_str()).filter(|text| is_of_django(text)).and_then(|text| text.parse::<Email>().ok());
    match (EMAIL.read(&input), parsed) {
        (Ok(_), _) if shown.is_empty() => Ok(None),
        (Ok(_), Some(email)) => Ok(Some(email)),
        (Ok(_), None) => Err(vec![wrong()]),
        // One that is too long is judged by its length alone.
        (Err(words), Some(_)) => Err(words),
        (Err(words), None) if !is_of_django(&shown) && !shown.is_empty() => {
            Err(words.into_iter().chain(std::iter::once(wrong())).collect())
        }
        (Err(words), None) => Err(words),
    }
}

/// What Django's validator takes, but for quotes and addresses of machines.
fn is_of_django(email: &str) -> bool {
    let Some((local, domain)) = email.rsplit_once('@') else { return false };
    let atom = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    let locals = local.split('.').all(|part| !part.is_empty() && part.chars().all(atom));
    let label = |label: &str| {
        let plain = label.chars().all(|c| c.is_alphanumeric() || c == '-');
        !label.is_empty() && plain && !label.starts_with('-') && !label.ends_with('-')
    };
    let top = domain.rsplit('.').next().unwrap_or_default();
    let known = domain.eq_ignore_ascii_case("localhost") || domain.contains('.') && top.chars().count() >= 2;
    locals && known && domain.split('.').all(label)
}

/// A link that confirms an address.
#[derive(Debug)]
struct Confirming {
    within: Lifetime,
    /// Where the site is that its mails lead to.
    base_url: Option<String>,
    /// Whether it confirms by being looked at, as the package has it.
    by_get: bool,
    done: HeaderValue,
    invalid: Option<HeaderValue>,
}

impl Confirming {
    fn read(settings: &mut Settings<'_>, day: Lifetime) -> Result<Option<Confirming>, NotASetting> {
        let wanted = settings.flag("REGISTRATION_EMAIL_CONFIRM")?.unwrap_or(false);
        // An account has one flag for that, whatever it was called.
        settings.take("REGISTRATION_EMAIL_CONFIRM_MODEL_FIELD");
        // Words of mails: those of the mailer, whose templates know the same places.
        for part in ["FROM", "SUBJECT", "MESSAGE"] {
            let key = format!("REGISTRATION_EMAIL.{part}");
            if settings.parsed::<String>(&key)?.is_some() {
                settings.warn(format!(
                    "{key} does nothing: what mails say, and who sends them, is the mailer's (docs/mail.md)"
                ));
            }
        }
        const BASE_URL: &str = "REGISTRATION_EMAIL.BASE_URL";
        let base_url: Option<String> = settings.parsed(BASE_URL)?;
        if base_url.as_deref().is_some_and(|base_url| link(base_url, "").is_none()) {
            return Err(NotASetting::new(BASE_URL, "is https:// and a host; http:// on this machine alone"));
        }
        let within = settings.lifetime("REGISTRATION_EMAIL_CONFIRM_TOKEN_VALIDITY")?.unwrap_or(day);
        let by_get = settings.one_of("confirm", &[("page", false), ("get", true)])?.unwrap_or(false);
        let mut location = |key: &str| {
            let Some(value) = settings.take(key).filter(|value| !value.is_null()) else { return Ok(None) };
            let location = value.as_str().and_then(|text| HeaderValue::from_str(text).ok());
            location.map(Some).ok_or_else(|| NotASetting::new(key, "is a path or a URL"))
        };
        let done = location("REGISTRATION_CONFIRM_REDIRECT_PATH")?.unwrap_or(HeaderValue::from_static("/"));
        let invalid = location("REGISTRATION_CONFIRM_INVALID_REDIRECT_PATH")?;
        Ok(wanted.then_some(Confirming { within, base_url, by_get, done, invalid }))
    }

    fn dead(&self) -> Answer {
        match &self.invalid {
            Some(location) => redirect(location),
            None => Answer::django(StatusCode::BAD_REQUEST, "invalid token!"),
        }
    }
}

fn redirect(location: &HeaderValue) -> Answer {
    Answer::django(StatusCode::FOUND, "").with(header::LOCATION, location.clone())
}

impl Act for Confirming {
    fn reads_body(&self, _: &Method) -> bool {
        false
    }

    fn ask(&self, request: &Asked) -> Result<Ask, Answer> {
        let text = request.parameters.iter().find(|(name, _)| name == "token").map(|(_, text)| text.clone());
        let text = Zeroizing::new(text.unwrap_or_default());
        if text.is_empty() {
            return Err(django::not_found());
        }
        let looks = matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE);
        let done = self.done.clone();
        match (looks, self.by_get) {
            (true, true) => Ok(Ask::Confirm { text, answer: Box::new(move |_| redirect(&done)) }),
            (true, false) => Ok(Ask::LookAtLink { text, answer: Box::new(page) }),
            (false, false) if request.method == Method::POST => {
                Ok(Ask::Confirm { text, answer: Box::new(move |_| redirect(&done)) })
            }
            (false, true | false) => Err(django::forbidden()),
        }
    }

    fn refused(&self, _: &Asked, refusal: &Refusal) -> Option<Answer> {
        let dead =
            matches!(refusal, Refusal::LinkDead | Refusal::EmailTaken | Refusal::PasswordWrong | Refusal::NoMail);
        dead.then(|| self.dead())
    }

    fn rule(&self, path: &str, rules: &mut AccountRules) {
        if let Some(link) = self.base_url.as_deref().and_then(|base_url| link(base_url, path)) {
            rules.links.confirm = Some(link);
        }
        rules.links.shape = TokenShape::Base64Url;
    }
}

/// What links look like of a site whose routes are mounted at `path`.
fn link(base_url: &str, path: &str) -> Option<LinkPattern> {
    let path = match path.trim_matches('/') {
        "" => String::new(),
        path => format!("/{path}"),
    };
    let base_url = base_url.trim_end_matches('/');
    format!("{base_url}{path}/register/confirm/{}/", LinkPattern::PLACE).parse().ok()
}

/// What asks before it confirms: a program that looks at links sends no form.
fn page(linked: &counterfoil_core::authority::Linked) -> Answer {
    let (email, username) = (escaped(linked.link.email.as_str()), escaped(linked.username.as_str()));
    let html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"robots\" content=\"noindex, nofollow\">\n\
         <title>Confirm your address</title>\n</head>\n<body>\n<h1>Confirm your address</h1>\n\
         <p>{email} is to be the address of the account {username}. Confirm it if that account is yours.</p>\n\
         <form method=\"post\"><button>Confirm</button></form>\n</body>\n</html>\n"
    );
    const POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; base-uri 'none'; frame-ancestors 'none'");
    Answer::django(StatusCode::OK, html).with(header::CONTENT_SECURITY_POLICY, POLICY)
}
