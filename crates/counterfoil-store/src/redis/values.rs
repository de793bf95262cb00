//! Values as scripts take and answer them: written by `arg`, read by [`Reply`] and parsed again, so that a damaged row is an error
//! and never a token.

#![expect(clippy::wildcard_enum_match_arm, reason = "a server may answer anything")]

use std::net::IpAddr;
use std::str::FromStr;
use std::vec::IntoIter;

use counterfoil_core::client::{Client, ClientId, Policy};
use counterfoil_core::seal::Sealed;
use counterfoil_core::secret::{CheckKey, DigestScheme, TokenDigest};
use counterfoil_core::store::{Change, Changed, Presented, SealedSecret, TokenFilter};
use counterfoil_core::subject::{Epochs, Subject};
use counterfoil_core::token::{Kind, Metadata, Sighting, Source, Token, TokenId, TokenName, UserAgent};
use counterfoil_core::{Abilities, Epoch, SubjectId, SubjectState, Timestamp};
use redis::Value;
use serde_json::{Map, Value as Json};

use super::fault::Fault;
use super::link::Args;
use super::remembered::Ending;
use crate::tally::Tally;

/// Arguments of a script, one after the other.
pub(super) trait Arg {
    fn arg(self, value: impl AsRef<[u8]>) -> Self;
    fn number(self, value: impl ToString) -> Self;
    /// Empty for what is absent.
    fn if_any<T: AsRef<[u8]>>(self, value: Option<T>) -> Self;
    fn time_if_any(self, value: Option<Timestamp>) -> Self;
    fn filter(self, filter: &TokenFilter) -> Self;
}

impl Arg for Args {
    fn arg(mut self, value: impl AsRef<[u8]>) -> Args {
        self.push(value.as_ref().to_vec());
        self
    }

    fn number(mut self, value: impl ToString) -> Args {
        self.push(value.to_string().into_bytes());
        self
    }

    fn if_any<T: AsRef<[u8]>>(mut self, value: Option<T>) -> Args {
        self.push(value.map(|value| value.as_ref().to_vec()).unwrap_or_default());
        self
    }

    fn time_if_any(self, value: Option<Timestamp>) -> Args {
        self.if_any(value.map(|instant| instant.millis().to_string()))
    }

    fn filter(self, filter: &TokenFilter) -> Args {
        self.if_any(filter.subject.as_ref().map(SubjectId::as_str))
            .if_any(filter.client.as_ref().map(|name| name.as_str()))
            .if_any(filter.kind.map(kind_word))
            .time_if_any(filter.issued_before)
            .time_if_any(filter.used_before)
            .if_any(filter.ip.map(|ip| ip.to_string()))
    }
}

pub(super) fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Login => "l",
        Kind::Key => "k",
    }
}

pub(super) fn state_word(state: SubjectState) -> &'static str {
    match state {
        SubjectState::Active => "a",
        SubjectState::Disabled => "d",
        SubjectState::Buried => "b",
    }
}

/// Empty for ours, which most tokens have.
pub(super) fn scheme_word(scheme: DigestScheme) -> &'static str {
    match scheme {
        DigestScheme::Native => "",
        DigestScheme::PlainText
        | DigestScheme::KnoxSha512
        | DigestScheme::RestAuthtokenSha512
        | DigestScheme::Djforge => scheme.as_str(),
    }
}

/// Empty for none.
pub(super) fn metadata_word(metadata: &Metadata) -> String {
    if metadata.as_object().is_empty() { String::new() } else { metadata.to_json() }
}

/// What a script answered.
#[derive(Debug)]
pub(super) struct Reply(Value);

impl From<Value> for Reply {
    fn from(value: Value) -> Reply {
        Reply(value)
    }
}

/// Answers in a row.
#[derive(Debug)]
pub(super) struct Replies(IntoIter<Value>);

impl Iterator for Replies {
    type Item = Reply;

    fn next(&mut self) -> Option<Reply> {
        self.0.next().map(Reply)
    }
}

type Read<T> = Result<T, Fault>;

impl Replies {
    /// The next one, which must be there.
    pub(super) fn next(&mut self) -> Read<Reply> {
        self.0.next().map(Reply).ok_or(Fault::Unreadable("an answer is too short"))
    }
}

impl Reply {
    pub(super) fn list(self) -> Read<Replies> {
        match self.0 {
            Value::Array(values) => Ok(Replies(values.into_iter())),
            // An empty table of Lua may come as either.
            Value::Map(pairs) if pairs.is_empty() => Ok(Replies(Vec::new().into_iter())),
            _ => Err(Fault::Unreadable("not a list")),
        }
    }

    pub(super) fn into_value(self) -> Value {
        self.0
    }

    /// `None` where the script said that there is nothing.
    pub(super) fn if_any(self) -> Option<Reply> {
        match self.0 {
            Value::Nil | Value::Boolean(false) => None,
            value => Some(Reply(value)),
        }
    }

    pub(super) fn int(self) -> Read<i64> {
        match self.0 {
            Value::Int(number) => Ok(number),
            Value::BulkString(text) => std::str::from_utf8(&text)
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or(Fault::Unreadable("not a whole number")),
            _ => Err(Fault::Unreadable("not a number")),
        }
    }

    pub(super) fn count(self) -> Read<u64> {
        u64::try_from(self.int()?).map_err(|_| Fault::Unreadable("a count below nothing"))
    }

    pub(super) fn bytes(self) -> Read<Vec<u8>> {
        match self.0 {
            Value::BulkString(bytes) => Ok(bytes),
            Value::SimpleString(text) => Ok(text.into_bytes()),
            _ => Err(Fault::Unreadable("not a text")),
        }
    }

    pub(super) fn text(self) -> Read<String> {
        String::from_utf8(self.bytes()?).map_err(|_| Fault::Unreadable("not UTF-8"))
    }

    fn sized<const N: usize>(self) -> Read<[u8; N]> {
        self.bytes()?.try_into().map_err(|_| Fault::Unreadable("of another length"))
    }

    fn parsed<T: FromStr>(self, what: &'static str) -> Read<T> {
        self.text()?.parse().map_err(|_| Fault::Unreadable(what))
    }

    pub(super) fn time(self) -> Read<Timestamp> {
        let millis = self.int()?;
        let instant = Timestamp::from_millis(millis);
        if instant.millis() == millis { Ok(instant) } else { Err(Fault::Unreadable("an instant out of range")) }
    }

    pub(super) fn time_if_any(self) -> Read<Option<Timestamp>> {
        self.if_any().map(Reply::time).transpose()
    }

    pub(super) fn epoch(self) -> Read<Epoch> {
        self.count().map(Epoch)
    }

    pub(super) fn tally(self) -> Read<Tally> {
        self.sized().map(Tally::from_bytes)
    }

    pub(super) fn token_id(self) -> Read<TokenId> {
        self.sized().map(TokenId::from_bytes)
    }

    pub(super) fn client_id(self) -> Read<ClientId> {
        self.sized().map(ClientId::from_bytes)
    }

    pub(super) fn digest(self) -> Read<TokenDigest> {
        self.sized().map(TokenDigest::from_bytes)
    }

    pub(super) fn check_key(self) -> Read<CheckKey> {
        self.sized().map(CheckKey::from_bytes)
    }

    pub(super) fn subject_id(self) -> Read<SubjectId> {
        self.parsed("not the name of a subject")
    }

    pub(super) fn scheme(self) -> Read<DigestScheme> {
        DigestScheme::named(&self.text()?).ok_or(Fault::Unreadable("not the scheme of a digest"))
    }

    pub(super) fn kind(self) -> Read<Kind> {
        let word = self.text()?;
        let kind = [Kind::Login, Kind::Key].into_iter().find(|kind| kind_word(*kind) == word);
        kind.ok_or(Fault::Unreadable("not a kind of token"))
    }

    pub(super) fn state(self) -> Read<SubjectState> {
        let word = self.text()?;
        [SubjectState::Active, SubjectState::Disabled, SubjectState::Buried]
            .into_iter()
            .find(|state| state_word(*state) == word)
            .ok_or(Fault::Unreadable("not the state of a subject"))
    }

    pub(super) fn abilities(self) -> Read<Abilities> {
        self.parsed("not a set of abilities")
    }

    fn metadata(self) -> Read<Metadata> {
        let Some(json) = self.if_any() else { return Ok(Metadata::default()) };
        let text = json.text()?;
        if text.is_empty() {
            return Ok(Metadata::default());
        }
        let object: Map<String, Json> =
            serde_json::from_str(&text).map_err(|_| Fault::Unreadable("not a JSON object"))?;
        Metadata::new(object).map_err(|_| Fault::Unreadable("metadata beyond its limit"))
    }

    fn name(self) -> Read<Option<TokenName>> {
        let Some(name) = self.if_any() else { return Ok(None) };
        TokenName::cut(&name.text()?).map(Some).ok_or(Fault::Unreadable("not the name of a token"))
    }

    /// A record as `record` in the scripts answers it.
    pub(super) fn token(self) -> Read<Token> {
        let mut row = self.list()?;
        let (id, number, kind, subject) =
            (row.next()?.token_id()?, row.next()?.count()?, row.next()?.kind()?, row.next()?.subject_id()?);
        let client = row.next()?.parsed("not the name of a client")?;
        let (name, abilities, metadata) = (row.next()?.name()?, row.next()?.abilities()?, row.next()?.metadata()?);
        let (issued_at, expires_at, revoked_at) =
            (row.next()?.time()?, row.next()?.time_if_any()?, row.next()?.time_if_any()?);
        let (stamped, current) = (epochs(&mut row)?, epochs(&mut row)?);
        let subject_state = row.next()?.state()?;
        let first_seen = Sighting { at: issued_at, source: source(&mut row)? };
        let last_at = row.next()?.time_if_any()?;
        let last_source = source(&mut row)?;
        Ok(Token {
            id,
            number,
            kind,
            subject,
            client,
            name,
            abilities,
            metadata,
            issued_at,
            expires_at,
            revoked_at,
            stamped,
            current,
            subject_state,
            first_seen,
            last_seen: last_at.map(|at| Sighting { at, source: last_source }),
        })
    }

    pub(super) fn tokens(self) -> Read<Vec<Token>> {
        self.list()?.map(Reply::token).collect()
    }

    /// As `client_record` in the scripts answers it.
    pub(super) fn client(self) -> Read<Client> {
        let mut row = self.list()?;
        Ok(Client {
            id: row.next()?.client_id()?,
            version: row.next()?.count()?,
            epoch: row.next()?.epoch()?,
            name: row.next()?.parsed("not the name of a client")?,
            policy: policy(&row.next()?.text()?)?,
            allow_login: row.next()?.int()? == 1,
            metadata: row.next()?.metadata()?,
            created_at: row.next()?.time()?,
        })
    }

    /// State, epoch and key epoch of the subject `id`.
    pub(super) fn subject(self, id: &SubjectId) -> Read<Subject> {
        let mut row = self.list()?;
        let (state, epoch, key_epoch) = (row.next()?.state()?, row.next()?.epoch()?, row.next()?.epoch()?);
        Ok(Subject { id: id.clone(), state, epoch, key_epoch })
    }

    pub(super) fn sealed_secret(self) -> Read<SealedSecret> {
        let mut row = self.list()?;
        Ok(SealedSecret {
            number: row.next()?.count()?,
            token: row.next()?.token_id()?,
            subject: row.next()?.subject_id()?,
            client: row.next()?.client_id()?,
            digest: row.next()?.digest()?,
            sealed: sealed(&mut row)?,
        })
    }

    /// A row of the change log, which is that of `number`, and what a node is to remember of it.
    pub(super) fn change(self, number: u64) -> Read<(Change, Vec<Ending>)> {
        let row = self.list()?;
        let again = Replies(row.0.clone());
        let mut row = row;
        let tag = u64::from_be_bytes(row.next()?.sized()?);
        let at = row.next()?.time()?;
        let what = match row.next()?.bytes()?.as_slice() {
            b"R" | b"G" | b"A" => Changed::Tokens(row.next()?.list()?.map(Reply::digest).collect::<Read<_>>()?),
            b"S" | b"s" => Changed::Subject(row.next()?.subject_id()?),
            b"C" => Changed::Client(row.next()?.client_id()?),
            b"E" => Changed::Everything,
            _ => return Err(Fault::Unreadable("not a kind of change")),
        };
        Ok((Change { number, tag, at, what }, endings(again)?))
    }
}

/// What a row of the change log ended, in the words of the script that asserts it again.
pub(super) fn endings(mut row: Replies) -> Read<Vec<Ending>> {
    let (_tag, _at, kind) = (row.next()?, row.next()?, row.next()?.bytes()?);
    let none = Vec::new;
    let ending = |kind: u8, whose: Vec<u8>, values: [Vec<u8>; 3]| Ending { kind, whose, values };
    let number = |reply: Reply| Ok::<_, Fault>(reply.int()?.to_string().into_bytes());
    Ok(match kind.as_slice() {
        b"R" => {
            let _digests = row.next()?;
            let ids = row.next()?.list()?;
            ids.map(|id| Ok(ending(b'R', id.bytes()?, [none(), none(), none()]))).collect::<Read<_>>()?
        }
        b"G" => {
            let (digests, graces) = (row.next()?.list()?, row.next()?.list()?);
            digests
                .zip(graces)
                .map(|(digest, grace)| Ok(ending(b'G', digest.bytes()?, [number(grace)?, none(), none()])))
                .collect::<Read<_>>()?
        }
        b"S" => {
            let (whose, state) = (row.next()?.bytes()?, row.next()?.bytes()?);
            vec![ending(b'S', whose, [state, number(row.next()?)?, number(row.next()?)?])]
        }
        b"C" => {
            let whose = row.next()?.bytes()?;
            vec![ending(b'C', whose, [number(row.next()?)?, number(row.next()?)?, none()])]
        }
        b"E" => vec![ending(b'E', none(), [number(row.next()?)?, none(), none()])],
        // What ends nothing.
        _ => Vec::new(),
    })
}

pub(super) fn policy(json: &str) -> Read<Policy> {
    serde_json::from_str(json).map_err(|_| Fault::Unreadable("not the policy of a client"))
}

pub(super) fn epochs(row: &mut Replies) -> Read<Epochs> {
    Ok(Epochs { subject: row.next()?.epoch()?, client: row.next()?.epoch()?, deployment: row.next()?.epoch()? })
}

fn source(row: &mut Replies) -> Read<Source> {
    let (ip, agent) = (row.next()?.if_any(), row.next()?.if_any());
    let ip: Option<IpAddr> = ip.map(|ip| ip.parsed("not an address")).transpose()?;
    let user_agent = match agent {
        Some(agent) => Some(UserAgent::cut(&agent.bytes()?).ok_or(Fault::Unreadable("not a user agent"))?),
        None => None,
    };
    Ok(Source { ip, user_agent })
}

pub(super) fn sealed(row: &mut Replies) -> Read<Sealed> {
    let key_id = u32::try_from(row.next()?.count()?).map_err(|_| Fault::Unreadable("not the number of a key"))?;
    Ok(Sealed { key_id, bytes: row.next()?.bytes()? })
}

/// Which of a token's secrets it was, and where its grace ends.
pub(super) fn presented(row: &mut Replies) -> Read<Presented> {
    let (how, grace_until) = (row.next()?.bytes()?, row.next()?.time()?);
    Ok(match how.as_slice() {
        b"c" => Presented::Current,
        b"s" => Presented::Successor,
        b"g" => Presented::Retired { grace_until },
        b"t" => Presented::TakenBack,
        _ => return Err(Fault::Unreadable("not a secret of a token")),
    })
}

/// Which client a row is that of.
pub(super) fn first_client_id(row: &Value) -> Option<ClientId> {
    let Value::Array(values) = row else { return None };
    let Some(Value::BulkString(id)) = values.first() else { return None };
    id.as_slice().try_into().ok().map(ClientId::from_bytes)
}

/// The first half of a SHA-1 in hexadecimal.
pub(super) fn incarnation(hex: &str) -> Read<[u8; 16]> {
    let digits = hex.get(..32).ok_or(Fault::Unreadable("not a digest"))?;
    u128::from_str_radix(digits, 16).map(u128::to_be_bytes).map_err(|_| Fault::Unreadable("not a digest"))
}
