//! The header `Authorization` as Django REST framework reads it: [`Authentication`].

use std::borrow::Cow;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use counterfoil_core::client::Lifetime;
use counterfoil_core::{Identity, Now, Refusal};
use zeroize::Zeroizing;

use super::answer::Answer;

/// How a view finds out who asks.
#[derive(Debug, Clone)]
pub(crate) enum Authentication {
    /// It does not.
    Nobody,
    /// By a token.
    Token(TokenScheme),
    /// By a user name and a password.
    Basic,
    /// By whom the package's middleware found, as Django REST framework's own default takes it: for somebody with a session.
    Session,
}

/// A token in `Authorization`, and what is said where it is none.
#[derive(Debug, Clone)]
pub(crate) struct TokenScheme {
    /// The word before the token, compared in any case; `WWW-Authenticate` is this word as it is.
    pub(crate) keyword: Cow<'static, str>,
    /// Another word that is as good.
    pub(crate) or_keyword: Option<Cow<'static, str>>,
    pub(crate) words: TokenWords,
    /// How its expiry moves on by use, if it does.
    pub(crate) renewal: Option<Renewing>,
}

/// When a use of a token moves its expiry on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Renewing {
    /// How long it then lives.
    pub(crate) life: Lifetime,
    /// What it has to gain by it: more than this.
    pub(crate) gain_millis: u64,
}

impl Renewing {
    /// Whether the authority has to be asked: not where the answer is no whatever else holds.
    pub(crate) fn may_be_due(self, who: &Identity, now: Now) -> bool {
        let until = now.wall.plus_millis(self.life.millis());
        who.expires_at.is_some_and(|end| until.millis_since(end) > self.gain_millis)
    }
}

/// What is said of a token that is none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenWords {
    pub(crate) no_credentials: &'static str,
    pub(crate) spaces: &'static str,
    pub(crate) invalid_characters: &'static str,
    pub(crate) unknown: &'static str,
    pub(crate) expired: &'static str,
    pub(crate) inactive: &'static str,
}

impl TokenWords {
    /// Django REST framework's own.
    pub(crate) const DEFAULT: TokenWords = TokenWords {
        no_credentials: "Invalid token header. No credentials provided.",
        spaces: "Invalid token header. Token string should not contain spaces.",
        invalid_characters: "Invalid token header. Token string should not contain invalid characters.",
        unknown: "Invalid token.",
        expired: "Invalid token.",
        inactive: "User inactive or deleted.",
    };

    /// What is said of this refusal of a token; `None` where it is not about the token.
    pub(crate) const fn of(&self, refusal: &Refusal) -> Option<&'static str> {
        match refusal {
            Refusal::TokenUnknown | Refusal::TokenRevoked => Some(self.unknown),
            Refusal::TokenExpired => Some(self.expired),
            Refusal::SubjectInactive => Some(self.inactive),
            Refusal::CredentialsRejected
            | Refusal::ClientUnknown
            | Refusal::LoginNotAllowed
            | Refusal::CapReached { .. }
            | Refusal::RenewalNotAllowed
            | Refusal::RotationLocked
            | Refusal::Throttled(_)
            | Refusal::LimitHit(..)
            | Refusal::TooManyAttempts(_)
            | Refusal::StaffNeeded
            | Refusal::AdminNeeded
            | Refusal::AbilityMissing(_)
            | Refusal::AbilityBeyondMaker(_)
            | Refusal::ExpiryBeyondMaker
            | Refusal::NotFound
            | Refusal::UsernameTaken
            | Refusal::ClientNameTaken
            | Refusal::ClientNeeded
            | Refusal::Invalid(_)
            | Refusal::PasswordWeak { .. }
            | Refusal::KeyRingMissing
            | Refusal::RefusedByHost(_)
            | Refusal::RegistrationClosed
            | Refusal::NoMail
            | Refusal::LinkDead
            | Refusal::PasswordWrong
            | Refusal::EmailTaken => None,
        }
    }
}

/// What a request shows for itself.
pub(crate) enum Presented {
    /// Nothing that this view looks at.
    Nothing,
    /// The text of a token.
    Token(Zeroizing<String>),
    /// A user name and a password.
    Basic { username: String, password: Zeroizing<String> },
}

impl TokenScheme {
    pub(crate) fn of(keyword: impl Into<Cow<'static, str>>) -> TokenScheme {
        TokenScheme { keyword: keyword.into(), or_keyword: None, words: TokenWords::DEFAULT, renewal: None }
    }

    /// The words that may stand before the token.
    pub(crate) fn keywords(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&*self.keyword).chain(self.or_keyword.as_deref())
    }
}

impl Authentication {
    /// DRF's `TokenAuthentication`.
    pub(crate) fn token() -> Authentication {
        Authentication::Token(TokenScheme::of("Token"))
    }

    /// What a 401 says in `WWW-Authenticate`; `None`: where nobody is authenticated, DRF answers 403 in its place.
    pub(crate) fn challenge(&self) -> Option<&str> {
        match self {
            Authentication::Nobody | Authentication::Session => None,
            Authentication::Token(scheme) => Some(&scheme.keyword),
            Authentication::Basic => Some("Basic realm=\"api\""),
        }
    }

    /// A refusal of whoever asks.
    pub(crate) fn failed(&self, words: &str) -> Answer {
        match self.challenge().map(HeaderValue::from_str) {
            Some(Ok(challenge)) => {
                Answer::detail(StatusCode::UNAUTHORIZED, words).with(header::WWW_AUTHENTICATE, challenge)
            }
            Some(Err(_)) | None => Answer::detail(StatusCode::FORBIDDEN, words),
        }
    }

    /// The same where nothing was shown.
    pub(crate) fn missing(&self) -> Answer {
        self.failed("Authentication credentials were not provided.")
    }

    /// What the request shows.
    ///
    /// # Errors
    /// 401 where it cannot be read.
    pub(crate) fn presented(&self, headers: &HeaderMap) -> Result<Presented, Answer> {
        let line = line(headers);
        let mut words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
        let Some(scheme) = words.next() else { return Ok(Presented::Nothing) };
        let credentials = (words.next(), words.next());
        match self {
            Authentication::Nobody | Authentication::Session => Ok(Presented::Nothing),
            Authentication::Token(token) => {
                let words = &token.words;
                if !token.keywords().any(|keyword| scheme.eq_ignore_ascii_case(keyword.as_bytes())) {
                    return Ok(Presented::Nothing);
                }
                match credentials {
                    (None, _) => Err(self.failed(words.no_credentials)),
                    (Some(_), Some(_)) => Err(self.failed(words.spaces)),
                    (Some(token), None) => match std::str::from_utf8(token) {
                        Ok(token) => Ok(Presented::Token(Zeroizing::new(token.to_owned()))),
                        Err(_) => Err(self.failed(words.invalid_characters)),
                    },
                }
            }
            Authentication::Basic => {
                if !scheme.eq_ignore_ascii_case(b"basic") {
                    return Ok(Presented::Nothing);
                }
                match credentials {
                    (None, _) => Err(self.failed("Invalid basic header. No credentials provided.")),
                    (Some(_), Some(_)) => {
                        Err(self.failed("Invalid basic header. Credentials string should not contain spaces."))
                    }
                    (Some(encoded), None) => basic(encoded)
                        .ok_or_else(|| self.failed("Invalid basic header. Credentials not correctly base64 encoded.")),
                }
            }
        }
    }
}

/// The header as a WSGI server hands it on: one line of several, which then has too many words.
pub(crate) fn line(headers: &HeaderMap) -> Zeroizing<Vec<u8>> {
    let lines: Vec<&[u8]> = headers.get_all(header::AUTHORIZATION).iter().map(HeaderValue::as_bytes).collect();
    Zeroizing::new(lines.join(&b","[..]))
}

/// Base64 with its padding. Where Python skips what is no base64 we do not: one spelling for each.
fn basic(encoded: &[u8]) -> Option<Presented> {
    const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, CONFIG);
    let decoded = Zeroizing::new(STANDARD.decode(encoded).ok()?);
    let text = match std::str::from_utf8(&decoded) {
        Ok(text) => Zeroizing::new(text.to_owned()),
        Err(_) => Zeroizing::new(super::media_type::latin1(&decoded)),
    };
    let (username, password) = text.split_once(':')?;
    Some(Presented::Basic { username: username.to_owned(), password: Zeroizing::new(password.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(authentication: &Authentication, lines: &[&[u8]]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::AUTHORIZATION, HeaderValue::from_bytes(line).expect("value"));
        }
        match authentication.presented(&headers) {
            Ok(Presented::Nothing) => "nothing".to_owned(),
            Ok(Presented::Token(token)) => format!("token {}", &*token),
            Ok(Presented::Basic { username, password }) => format!("basic {username} {}", &*password),
            Err(answer) => answer.text(),
        }
    }

    #[test]
    fn a_token_is_read_as_the_framework_reads_it() {
        let words = |words: &str| format!("{{\"detail\":\"Invalid token header. {words}\"}}");
        let (none, spaces) = ("No credentials provided.", "Token string should not contain spaces.");
        for (line, expected) in [
            (&b""[..], "nothing".to_owned()),
            (b"  ", "nothing".to_owned()),
            (b"abc", "nothing".to_owned()),
            (b"Bearer abc", "nothing".to_owned()),
            (b"Token", words(none)),
            (b"Token ", words(none)),
            (b"Token a b", words(spaces)),
            (b"Token \xff\xfe\xfd", words("Token string should not contain invalid characters.")),
            (b"Token \xc3\xa4", "token ä".to_owned()),
            (b"Token abc", "token abc".to_owned()),
            (b"token  abc", "token abc".to_owned()),
            (b"TOKEN\tabc ", "token abc".to_owned()),
        ] {
            assert_eq!(read(&Authentication::token(), &[line]), expected, "{}", line.escape_ascii());
        }
        assert_eq!(read(&Authentication::token(), &[b"Token a", b"Token b"]), words(spaces));
        assert_eq!(read(&Authentication::Nobody, &[b"Token"]), "nothing");
    }

    #[test]
    fn a02_basic_credentials_have_one_spelling() {
        let words = |words: &str| format!("{{\"detail\":\"Invalid basic header. {words}\"}}");
        let not_base64 = words("Credentials not correctly base64 encoded.");
        for (line, expected) in [
            (&b"Basic am9objpmb286YmFy"[..], "basic john foo:bar".to_owned()),
            (b"basic am9objr/", "basic john \u{ff}".to_owned()),
            (b"Basic am9objpmb286YmFy!", not_base64.clone()),
            (b"Basic am9obg==", not_base64),
            (b"Basic", words("No credentials provided.")),
            (b"Basic a b", words("Credentials string should not contain spaces.")),
            (b"Token abc", "nothing".to_owned()),
        ] {
            assert_eq!(read(&Authentication::Basic, &[line]), expected, "{}", line.escape_ascii());
        }
    }
}
