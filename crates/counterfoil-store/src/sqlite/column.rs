//! Values as columns: [`Column`] writes a domain value and parses it again when it is read, so that a damaged row is an
//! error and never a token.

use std::net::IpAddr;
use std::str::FromStr;

use counterfoil_core::account::Role;
use counterfoil_core::client::{ClientId, ClientName, Policy};
use counterfoil_core::language::Languages;
use counterfoil_core::link::Purpose as LinkPurpose;
use counterfoil_core::mail::{MailId, MailKind};
use counterfoil_core::password::EncodedPassword;
use counterfoil_core::secret::{CheckKey, DigestScheme, TokenDigest};
use counterfoil_core::token::{Kind, Metadata, TokenId, TokenName, UserAgent};
use counterfoil_core::{Abilities, Email, Epoch, SubjectId, SubjectState, Timestamp, Username};
use rusqlite::Row;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::tally::Tally;

/// A value on its way to or from a column.
pub(super) struct Column<T>(pub(super) T);

/// Reads a column that is never NULL.
pub(super) fn get<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    Column<T>: FromSql,
{
    row.get::<_, Column<T>>(column).map(|Column(value)| value)
}

/// Reads a column that may be NULL.
pub(super) fn get_if_any<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>>
where
    Column<T>: FromSql,
{
    Ok(row.get::<_, Option<Column<T>>>(column)?.map(|Column(value)| value))
}

/// What is written may be absent.
pub(super) fn if_any<T>(value: Option<T>) -> Option<Column<T>> {
    value.map(Column)
}

fn unreadable(what: &'static str) -> FromSqlError {
    FromSqlError::Other(what.into())
}

fn parsed<T: FromStr>(value: ValueRef<'_>, what: &'static str) -> FromSqlResult<Column<T>> {
    value.as_str()?.parse().map(Column).map_err(|_| unreadable(what))
}

fn sized<const N: usize>(value: ValueRef<'_>) -> FromSqlResult<[u8; N]> {
    let bytes = value.as_blob()?;
    bytes.try_into().map_err(|_| FromSqlError::InvalidBlobSize { expected_size: N, blob_size: bytes.len() })
}

impl ToSql for Column<Timestamp> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.millis().into())
    }
}

impl FromSql for Column<Timestamp> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let millis = value.as_i64()?;
        let instant = Timestamp::from_millis(millis);
        if instant.millis() == millis { Ok(Column(instant)) } else { Err(FromSqlError::OutOfRange(millis)) }
    }
}

impl ToSql for Column<Epoch> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(signed(self.0.0).into())
    }
}

impl FromSql for Column<Epoch> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        <Column<u64>>::column_result(value).map(|Column(epoch)| Column(Epoch(epoch)))
    }
}

impl FromSql for Column<u64> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let count = value.as_i64()?;
        u64::try_from(count).map(Column).map_err(|_| FromSqlError::OutOfRange(count))
    }
}

/// SQLite's integers have a sign; a count that does not fit is greater than any that is stored.
pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl ToSql for Column<&TokenDigest> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_bytes().as_slice().into())
    }
}

impl FromSql for Column<TokenDigest> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        sized(value).map(|bytes| Column(TokenDigest::from_bytes(bytes)))
    }
}

impl ToSql for Column<TokenId> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_bytes().as_slice().into())
    }
}

impl FromSql for Column<TokenId> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        sized(value).map(|bytes| Column(TokenId::from_bytes(bytes)))
    }
}

impl ToSql for Column<Tally> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_bytes().as_slice().into())
    }
}

impl FromSql for Column<Tally> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        sized(value).map(|bytes| Column(Tally::from_bytes(bytes)))
    }
}

impl ToSql for Column<MailId> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_bytes().as_slice().into())
    }
}

impl FromSql for Column<MailId> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        sized(value).map(|bytes| Column(MailId::from_bytes(bytes)))
    }
}

impl ToSql for Column<LinkPurpose> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_str().into())
    }
}

impl FromSql for Column<LinkPurpose> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        LinkPurpose::named(value.as_str()?).map(Column).ok_or_else(|| unreadable("the purpose of a link"))
    }
}

impl ToSql for Column<&MailKind> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        as_json(self.0)
    }
}

impl FromSql for Column<MailKind> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        of_json(value, "what a mail tells")
    }
}

impl ToSql for Column<&Languages> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        as_json(self.0)
    }
}

impl FromSql for Column<Languages> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        of_json(value, "languages")
    }
}

fn as_json<T: Serialize>(value: &T) -> rusqlite::Result<ToSqlOutput<'static>> {
    let text = serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    Ok(text.into())
}

fn of_json<T: DeserializeOwned>(value: ValueRef<'_>, what: &'static str) -> FromSqlResult<Column<T>> {
    serde_json::from_str(value.as_str()?).map(Column).map_err(|_| unreadable(what))
}

impl ToSql for Column<ClientId> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_bytes().as_slice().into())
    }
}

impl FromSql for Column<ClientId> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        sized(value).map(|bytes| Column(ClientId::from_bytes(bytes)))
    }
}

impl ToSql for Column<&CheckKey> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_bytes().as_slice().into())
    }
}

impl FromSql for Column<CheckKey> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        sized(value).map(|bytes| Column(CheckKey::from_bytes(bytes)))
    }
}

impl FromSql for Column<[u8; 16]> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        sized(value).map(Column)
    }
}

impl ToSql for Column<&SubjectId> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_str().into())
    }
}

impl FromSql for Column<SubjectId> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        parsed(value, "not the name of a subject")
    }
}

impl ToSql for Column<SubjectState> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_str().into())
    }
}

impl FromSql for Column<SubjectState> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        SubjectState::named(value.as_str()?).map(Column).ok_or_else(|| unreadable("not the state of a subject"))
    }
}

impl ToSql for Column<&ClientName> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_str().into())
    }
}

impl FromSql for Column<ClientName> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        parsed(value, "not the name of a client")
    }
}

impl ToSql for Column<&Policy> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let json =
            serde_json::to_string(self.0).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        Ok(json.into())
    }
}

impl FromSql for Column<Policy> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        serde_json::from_str(value.as_str()?).map(Column).map_err(|_| unreadable("not the policy of a client"))
    }
}

impl ToSql for Column<Kind> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_str().into())
    }
}

impl FromSql for Column<Kind> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let word = value.as_str()?;
        let kind = [Kind::Login, Kind::Key].into_iter().find(|kind| kind.as_str() == word);
        kind.map(Column).ok_or_else(|| unreadable("not a kind of token"))
    }
}

impl ToSql for Column<DigestScheme> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_str().into())
    }
}

impl FromSql for Column<DigestScheme> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        DigestScheme::named(value.as_str()?).map(Column).ok_or_else(|| unreadable("not the scheme of a digest"))
    }
}

impl ToSql for Column<&Abilities> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.to_string().into())
    }
}

impl FromSql for Column<Abilities> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        parsed(value, "not a set of abilities")
    }
}

impl ToSql for Column<&TokenName> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_str().into())
    }
}

impl FromSql for Column<TokenName> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        TokenName::cut(value.as_str()?).map(Column).ok_or_else(|| unreadable("not the name of a token"))
    }
}

impl ToSql for Column<&UserAgent> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_str().into())
    }
}

impl FromSql for Column<UserAgent> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        UserAgent::cut(value.as_str()?.as_bytes()).map(Column).ok_or_else(|| unreadable("not a user agent"))
    }
}

impl ToSql for Column<IpAddr> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.to_string().into())
    }
}

impl FromSql for Column<IpAddr> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        parsed(value, "not an address")
    }
}

impl ToSql for Column<&Metadata> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        if self.0.as_object().is_empty() {
            return Ok("{}".into());
        }
        Ok(self.0.to_json().into())
    }
}

impl FromSql for Column<Metadata> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let json = value.as_str()?;
        if json == "{}" {
            return Ok(Column(Metadata::default()));
        }
        let object: Map<String, Value> = serde_json::from_str(json).map_err(|_| unreadable("not a JSON object"))?;
        Metadata::new(object).map(Column).map_err(|_| unreadable("metadata beyond its limit"))
    }
}

impl ToSql for Column<&Username> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_str().into())
    }
}

impl FromSql for Column<Username> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        parsed(value, "not a user name")
    }
}

impl ToSql for Column<&Email> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_str().into())
    }
}

impl FromSql for Column<Email> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        parsed(value, "not an e-mail address")
    }
}

impl ToSql for Column<Role> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_str().into())
    }
}

impl FromSql for Column<Role> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Role::named(value.as_str()?).map(Column).ok_or_else(|| unreadable("not a role"))
    }
}

impl ToSql for Column<&EncodedPassword> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.expose().into())
    }
}

impl FromSql for Column<EncodedPassword> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Ok(Column(EncodedPassword::from_store(value.as_str()?)))
    }
}
