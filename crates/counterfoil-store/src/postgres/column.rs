//! Values as columns: [`value`] makes a parameter of a domain value, [`get`] parses one out of a row again, so that a damaged row
//! is an error and never a token.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::net::IpAddr;

use bytes::{BufMut, BytesMut};
use counterfoil_core::account::Role;
use counterfoil_core::client::{ClientId, ClientName, Policy};
use counterfoil_core::language::Languages;
use counterfoil_core::link::Purpose as LinkPurpose;
use counterfoil_core::mail::{MailId, MailKind};
use counterfoil_core::password::EncodedPassword;
use counterfoil_core::secret::{CheckKey, DigestScheme, TokenDigest};
use counterfoil_core::token::{Kind, Metadata, TokenId, TokenName, UserAgent};
use counterfoil_core::{Abilities, Email, Epoch, SubjectId, SubjectState, Timestamp, Username};
use serde::Serialize;
use serde_json::Map;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use super::fault::Fault;
use crate::tally::Tally;

/// A parameter of a statement, of a type that is known even where it is NULL. Its `Debug` shows none of it: the driver logs what
/// it sends.
pub(super) enum Value<'a> {
    Integer(Option<i64>),
    Flag(bool),
    Text(Option<Cow<'a, str>>),
    Bytes(Option<Cow<'a, [u8]>>),
    /// Sixteen bytes: a `uuid`.
    Id(Option<[u8; 16]>),
    Integers(Vec<i64>),
    Texts(Vec<Option<Cow<'a, str>>>),
    ByteStrings(Vec<Option<Cow<'a, [u8]>>>),
    Ids(Vec<Option<[u8; 16]>>),
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({})", self.sql_type())
    }
}

impl Value<'_> {
    pub(super) fn sql_type(&self) -> Type {
        match self {
            Value::Integer(_) => Type::INT8,
            Value::Flag(_) => Type::BOOL,
            Value::Text(_) => Type::TEXT,
            Value::Bytes(_) => Type::BYTEA,
            Value::Id(_) => Type::UUID,
            Value::Integers(_) => Type::INT8_ARRAY,
            Value::Texts(_) => Type::TEXT_ARRAY,
            Value::ByteStrings(_) => Type::BYTEA_ARRAY,
            Value::Ids(_) => Type::UUID_ARRAY,
        }
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Value::Integer(value) => value.to_sql(ty, out),
            Value::Flag(value) => value.to_sql(ty, out),
            Value::Text(value) => {
                // The server would refuse it as well, but by breaking the transaction.
                if value.as_ref().is_some_and(|text| text.contains('\0')) {
                    return Err("PostgreSQL keeps no U+0000 in text".into());
                }
                value.to_sql(ty, out)
            }
            Value::Bytes(value) => value.to_sql(ty, out),
            Value::Id(value) => value.map(Id).to_sql(ty, out),
            Value::Integers(values) => values.to_sql(ty, out),
            Value::Texts(values) => values.to_sql(ty, out),
            Value::ByteStrings(values) => values.to_sql(ty, out),
            Value::Ids(values) => values.iter().map(|id| id.map(Id)).collect::<Vec<_>>().to_sql(ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        // Each is sent with its own type: a statement that wants another one is refused by the server when it is prepared.
        true
    }

    to_sql_checked!();
}

/// Sixteen bytes as a `uuid`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Id([u8; 16]);

impl ToSql for Id {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::UUID
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Id {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Id, Box<dyn Error + Sync + Send>> {
        Ok(Id(raw.try_into()?))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::UUID
    }
}

/// What can be written into a column.
pub(super) trait Write<'a> {
    /// Where there is none.
    const NULL: Value<'a>;

    fn value(self) -> Value<'a>;
}

/// A domain value as a parameter.
pub(super) fn value<'a>(of: impl Write<'a>) -> Value<'a> {
    of.value()
}

/// One that may be absent.
pub(super) fn if_any<'a, T: Write<'a>>(of: Option<T>) -> Value<'a> {
    of.map_or(T::NULL, Write::value)
}

/// What can be read out of a column.
pub(super) trait Read: Sized {
    /// What the driver reads.
    type Raw<'r>: FromSql<'r>;
    /// What it is not, where it cannot be read.
    const UNREADABLE: &'static str;

    fn read(raw: Self::Raw<'_>) -> Option<Self>;
}

/// Reads a column that is never NULL.
pub(super) fn get<T: Read>(row: &Row, column: usize) -> Result<T, Fault> {
    T::read(row.try_get(column)?).ok_or(Fault::Unreadable(T::UNREADABLE))
}

/// Reads a column that may be NULL.
pub(super) fn get_if_any<T: Read>(row: &Row, column: usize) -> Result<Option<T>, Fault> {
    let raw: Option<T::Raw<'_>> = row.try_get(column)?;
    raw.map(|raw| T::read(raw).ok_or(Fault::Unreadable(T::UNREADABLE))).transpose()
}

/// The integers of PostgreSQL have a sign; a count that does not fit is greater than any that is stored.
pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What may be anything, even U+0000, which PostgreSQL does not keep.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

// ── Plain values ────────────────────────────────────────────────────────────────────────────────────────────────────

impl Write<'_> for i64 {
    const NULL: Value<'static> = Value::Integer(None);

    fn value(self) -> Value<'static> {
        Value::Integer(Some(self))
    }
}

impl Read for i64 {
    type Raw<'r> = i64;
    const UNREADABLE: &'static str = "not a whole number";

    fn read(raw: i64) -> Option<i64> {
        Some(raw)
    }
}

impl Write<'_> for u64 {
    const NULL: Value<'static> = Value::Integer(None);

    fn value(self) -> Value<'static> {
        Value::Integer(Some(signed(self)))
    }
}

impl Read for u64 {
    type Raw<'r> = i64;
    const UNREADABLE: &'static str = "not a count";

    fn read(raw: i64) -> Option<u64> {
        u64::try_from(raw).ok()
    }
}

impl Write<'_> for u32 {
    const NULL: Value<'static> = Value::Integer(None);

    fn value(self) -> Value<'static> {
        Value::Integer(Some(self.into()))
    }
}

impl Read for u32 {
    type Raw<'r> = i64;
    const UNREADABLE: &'static str = "not a count";

    fn read(raw: i64) -> Option<u32> {
        u32::try_from(raw).ok()
    }
}

impl Write<'_> for bool {
    /// No flag of ours may be absent.
    const NULL: Value<'static> = Value::Flag(false);

    fn value(self) -> Value<'static> {
        Value::Flag(self)
    }
}

impl Read for bool {
    type Raw<'r> = bool;
    const UNREADABLE: &'static str = "not a flag";

    fn read(raw: bool) -> Option<bool> {
        Some(raw)
    }
}

impl<'a> Write<'a> for &'a str {
    const NULL: Value<'a> = Value::Text(None);

    fn value(self) -> Value<'a> {
        Value::Text(Some(self.into()))
    }
}

impl<'a> Write<'a> for Cow<'a, str> {
    const NULL: Value<'a> = Value::Text(None);

    fn value(self) -> Value<'a> {
        Value::Text(Some(self))
    }
}

impl Write<'_> for String {
    const NULL: Value<'static> = Value::Text(None);

    fn value(self) -> Value<'static> {
        Value::Text(Some(self.into()))
    }
}

impl Read for String {
    type Raw<'r> = String;
    const UNREADABLE: &'static str = "not text";

    fn read(raw: String) -> Option<String> {
        Some(raw)
    }
}

impl<'a> Write<'a> for &'a [u8] {
    const NULL: Value<'a> = Value::Bytes(None);

    fn value(self) -> Value<'a> {
        Value::Bytes(Some(self.into()))
    }
}

impl Write<'_> for Vec<u8> {
    const NULL: Value<'static> = Value::Bytes(None);

    fn value(self) -> Value<'static> {
        Value::Bytes(Some(self.into()))
    }
}

impl Read for Vec<u8> {
    type Raw<'r> = Vec<u8>;
    const UNREADABLE: &'static str = "not bytes";

    fn read(raw: Vec<u8>) -> Option<Vec<u8>> {
        Some(raw)
    }
}

impl Read for [u8; 32] {
    type Raw<'r> = &'r [u8];
    const UNREADABLE: &'static str = "not 32 bytes";

    fn read(raw: &[u8]) -> Option<[u8; 32]> {
        raw.try_into().ok()
    }
}

impl Read for [u8; 16] {
    type Raw<'r> = &'r [u8];
    const UNREADABLE: &'static str = "not 16 bytes";

    fn read(raw: &[u8]) -> Option<[u8; 16]> {
        raw.try_into().ok()
    }
}

// ── Times and epochs ────────────────────────────────────────────────────────────────────────────────────────────────

impl Write<'_> for Timestamp {
    const NULL: Value<'static> = Value::Integer(None);

    fn value(self) -> Value<'static> {
        Value::Integer(Some(self.millis()))
    }
}

impl Read for Timestamp {
    type Raw<'r> = i64;
    const UNREADABLE: &'static str = "not an instant";

    fn read(raw: i64) -> Option<Timestamp> {
        let instant = Timestamp::from_millis(raw);
        (instant.millis() == raw).then_some(instant)
    }
}

impl Write<'_> for Epoch {
    const NULL: Value<'static> = Value::Integer(None);

    fn value(self) -> Value<'static> {
        self.0.value()
    }
}

impl Read for Epoch {
    type Raw<'r> = i64;
    const UNREADABLE: &'static str = "not an epoch";

    fn read(raw: i64) -> Option<Epoch> {
        u64::try_from(raw).ok().map(Epoch)
    }
}

// ── Digests and ids ─────────────────────────────────────────────────────────────────────────────────────────────────

impl<'a> Write<'a> for &'a TokenDigest {
    const NULL: Value<'a> = Value::Bytes(None);

    fn value(self) -> Value<'a> {
        Value::Bytes(Some(self.as_bytes().as_slice().into()))
    }
}

impl Read for TokenDigest {
    type Raw<'r> = &'r [u8];
    const UNREADABLE: &'static str = "not a digest";

    fn read(raw: &[u8]) -> Option<TokenDigest> {
        raw.try_into().ok().map(TokenDigest::from_bytes)
    }
}

impl<'a> Write<'a> for &'a CheckKey {
    const NULL: Value<'a> = Value::Bytes(None);

    fn value(self) -> Value<'a> {
        Value::Bytes(Some(self.as_bytes().as_slice().into()))
    }
}

impl Read for CheckKey {
    type Raw<'r> = &'r [u8];
    const UNREADABLE: &'static str = "not a key of the check";

    fn read(raw: &[u8]) -> Option<CheckKey> {
        raw.try_into().ok().map(CheckKey::from_bytes)
    }
}

impl Write<'_> for TokenId {
    const NULL: Value<'static> = Value::Id(None);

    fn value(self) -> Value<'static> {
        Value::Id(Some(*self.as_bytes()))
    }
}

impl Read for TokenId {
    type Raw<'r> = Id;
    const UNREADABLE: &'static str = "not the id of a token";

    fn read(raw: Id) -> Option<TokenId> {
        Some(TokenId::from_bytes(raw.0))
    }
}

impl Write<'_> for Tally {
    const NULL: Value<'static> = Value::Id(None);

    fn value(self) -> Value<'static> {
        Value::Id(Some(*self.as_bytes()))
    }
}

impl Read for Tally {
    type Raw<'r> = Id;
    const UNREADABLE: &'static str = "not a tally";

    fn read(raw: Id) -> Option<Tally> {
        Some(Tally::from_bytes(raw.0))
    }
}

impl Write<'_> for ClientId {
    const NULL: Value<'static> = Value::Id(None);

    fn value(self) -> Value<'static> {
        Value::Id(Some(*self.as_bytes()))
    }
}

impl Read for ClientId {
    type Raw<'r> = Id;
    const UNREADABLE: &'static str = "not the id of a client";

    fn read(raw: Id) -> Option<ClientId> {
        Some(ClientId::from_bytes(raw.0))
    }
}

impl Write<'_> for MailId {
    const NULL: Value<'static> = Value::Id(None);

    fn value(self) -> Value<'static> {
        Value::Id(Some(*self.as_bytes()))
    }
}

impl Read for MailId {
    type Raw<'r> = Id;
    const UNREADABLE: &'static str = "not the id of a mail";

    fn read(raw: Id) -> Option<MailId> {
        Some(MailId::from_bytes(raw.0))
    }
}

// ── Words ───────────────────────────────────────────────────────────────────────────────────────────────────────────

impl Write<'_> for SubjectState {
    const NULL: Value<'static> = Value::Text(None);

    fn value(self) -> Value<'static> {
        self.as_str().value()
    }
}

impl Read for SubjectState {
    type Raw<'r> = &'r str;
    const UNREADABLE: &'static str = "not the state of a subject";

    fn read(raw: &str) -> Option<SubjectState> {
        SubjectState::named(raw)
    }
}

impl Write<'_> for Kind {
    const NULL: Value<'static> = Value::Text(None);

    fn value(self) -> Value<'static> {
        self.as_str().value()
    }
}

impl Read for Kind {
    type Raw<'r> = &'r str;
    const UNREADABLE: &'static str = "not a kind of token";

    fn read(raw: &str) -> Option<Kind> {
        [Kind::Login, Kind::Key].into_iter().find(|kind| kind.as_str() == raw)
    }
}

impl Write<'_> for DigestScheme {
    const NULL: Value<'static> = Value::Text(None);

    fn value(self) -> Value<'static> {
        self.as_str().value()
    }
}

impl Read for DigestScheme {
    type Raw<'r> = &'r str;
    const UNREADABLE: &'static str = "not the scheme of a digest";

    fn read(raw: &str) -> Option<DigestScheme> {
        DigestScheme::named(raw)
    }
}

impl Write<'_> for LinkPurpose {
    const NULL: Value<'static> = Value::Text(None);

    fn value(self) -> Value<'static> {
        self.as_str().value()
    }
}

impl Read for LinkPurpose {
    type Raw<'r> = &'r str;
    const UNREADABLE: &'static str = "not the purpose of a link";

    fn read(raw: &str) -> Option<LinkPurpose> {
        LinkPurpose::named(raw)
    }
}

impl Write<'_> for Role {
    const NULL: Value<'static> = Value::Text(None);

    fn value(self) -> Value<'static> {
        self.as_str().value()
    }
}

impl Read for Role {
    type Raw<'r> = &'r str;
    const UNREADABLE: &'static str = "not a role";

    fn read(raw: &str) -> Option<Role> {
        Role::named(raw)
    }
}

// ── Names ───────────────────────────────────────────────────────────────────────────────────────────────────────────

impl<'a> Write<'a> for &'a SubjectId {
    const NULL: Value<'a> = Value::Text(None);

    fn value(self) -> Value<'a> {
        self.as_str().value()
    }
}

impl Read for SubjectId {
    type Raw<'r> = &'r str;
    const UNREADABLE: &'static str = "not the name of a subject";

    fn read(raw: &str) -> Option<SubjectId> {
        raw.parse().ok()
    }
}

impl<'a> Write<'a> for &'a ClientName {
    const NULL: Value<'a> = Value::Text(None);

    fn value(self) -> Value<'a> {
        self.as_str().value()
    }
}

impl Read for ClientName {
    type Raw<'r> = &'r str;
    const UNREADABLE: &'static str = "not the name of a client";

    fn read(raw: &str) -> Option<ClientName> {
        raw.parse().ok()
    }
}

impl<'a> Write<'a> for &'a TokenName {
    const NULL: Value<'a> = Value::Text(None);

    /// Whoever names a token may have put anything in.
    fn value(self) -> Value<'a> {
        printable(self.as_str()).value()
    }
}

impl Read for TokenName {
    type Raw<'r> = &'r str;
    const UNREADABLE: &'static str = "not the name of a token";

    fn read(raw: &str) -> Option<TokenName> {
        TokenName::cut(raw)
    }
}

impl<'a> Write<'a> for &'a UserAgent {
    const NULL: Value<'a> = Value::Text(None);

    /// A stranger's words.
    fn value(self) -> Value<'a> {
        printable(self.as_str()).value()
    }
}

impl Read for UserAgent {
    type Raw<'r> = &'r str;
    const UNREADABLE: &'static str = "not a user agent";

    fn read(raw: &str) -> Option<UserAgent> {
        UserAgent::cut(raw.as_bytes())
    }
}

impl<'a> Write<'a> for &'a Username {
    const NULL: Value<'a> = Value::Text(None);

    fn value(self) -> Value<'a> {
        self.as_str().value()
    }
}

impl Read for Username {
    type Raw<'r> = &'r str;
    const UNREADABLE: &'static str = "not a user name";

    fn read(raw: &str) -> Option<Username> {
        raw.parse().ok()
    }
}

impl<'a> Write<'a> for &'a Email {
    const NULL: Value<'a> = Value::Text(None);

    fn value(self) -> Value<'a> {
        self.as_str().value()
    }
}

impl Read for Email {
    type Raw<'r> = &'r str;
    const UNREADABLE: &'static str = "not an e-mail address";

    fn read(raw: &str) -> Option<Email> {
        raw.parse().ok()
    }
}

impl Write<'_> for IpAddr {
    const NULL: Value<'static> = Value::Text(None);

    fn value(self) -> Value<'static> {
        self.to_string().value()
    }
}

impl Read for IpAddr {
    type Raw<'r> = &'r str;
    const UNREADABLE: &'static str = "not an address";

    fn read(raw: &str) -> Option<IpAddr> {
        raw.parse().ok()
    }
}

impl<'a> Write<'a> for &'a EncodedPassword {
    const NULL: Value<'a> = Value::Text(None);

    fn value(self) -> Value<'a> {
        self.expose().value()
    }
}

impl Read for EncodedPassword {
    type Raw<'r> = &'r str;
    const UNREADABLE: &'static str = "not a password";

    fn read(raw: &str) -> Option<EncodedPassword> {
        Some(EncodedPassword::from_store(raw))
    }
}

// ── What is made of several things ──────────────────────────────────────────────────────────────────────────────────

impl Write<'_> for &Abilities {
    const NULL: Value<'static> = Value::Text(None);

    fn value(self) -> Value<'static> {
        self.to_string().value()
    }
}

impl Read for Abilities {
    type Raw<'r> = &'r str;
    const UNREADABLE: &'static str = "not a set of abilities";

    fn read(raw: &str) -> Option<Abilities> {
        raw.parse().ok()
    }
}

/// No value of ours fails to become JSON; what did would be refused by the parser when it is read.
fn json<T: Serialize>(of: &T) -> Value<'static> {
    serde_json::to_string(of).unwrap_or_default().value()
}

impl Write<'_> for &Policy {
    const NULL: Value<'static> = Value::Text(None);

    fn value(self) -> Value<'static> {
        json(self)
    }
}

impl Read for Policy {
    type Raw<'r> = &'r str;
    const UNREADABLE: &'static str = "not the policy of a client";

    fn read(raw: &str) -> Option<Policy> {
        serde_json::from_str(raw).ok()
    }
}

impl Write<'_> for &MailKind {
    const NULL: Value<'static> = Value::Text(None);

    fn value(self) -> Value<'static> {
        json(self)
    }
}

impl Read for MailKind {
    type Raw<'r> = &'r str;
    const UNREADABLE: &'static str = "not what a mail tells";

    fn read(raw: &str) -> Option<MailKind> {
        serde_json::from_str(raw).ok()
    }
}

impl Write<'_> for &Languages {
    const NULL: Value<'static> = Value::Text(None);

    fn value(self) -> Value<'static> {
        json(self)
    }
}

impl Read for Languages {
    type Raw<'r> = &'r str;
    const UNREADABLE: &'static str = "not a list of languages";

    fn read(raw: &str) -> Option<Languages> {
        serde_json::from_str(raw).ok()
    }
}

impl Write<'_> for &Metadata {
    const NULL: Value<'static> = Value::Text(None);

    fn value(self) -> Value<'static> {
        if self.as_object().is_empty() { "{}".value() } else { self.to_json().value() }
    }
}

impl Read for Metadata {
    type Raw<'r> = &'r str;
    const UNREADABLE: &'static str = "not the metadata of a host";

    fn read(raw: &str) -> Option<Metadata> {
        if raw == "{}" {
            return Some(Metadata::default());
        }
        let object: Map<String, serde_json::Value> = serde_json::from_str(raw).ok()?;
        Metadata::new(object).ok()
    }
}
