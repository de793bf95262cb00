//! The change log.

use counterfoil_core::Timestamp;
use counterfoil_core::secret::TokenDigest;
use counterfoil_core::store::Changed;

use super::column::{Value, Write, value};

/// The channel on which nodes are told that there is something new.
pub(super) const CHANNEL: &str = "counterfoil_log";

// The number is ours alone: the first eight bytes of a digest of "counterfoil log". It is held until the commit, so that
// commits have the order of their numbers.
pub(super) const LOCK: &str = "SELECT pg_advisory_xact_lock(7572257267272029987)";

// One more than the greatest, as it is once the lock is held: in READ COMMITTED each statement sees what was committed before it.
// A random uuid has 60 random bits in its first 16 digits.
pub(super) const APPEND: &str = "
    INSERT INTO log (n, tag, at, kind, digests, subject, client)
    SELECT coalesce(max(n), 0) + 1,
           CAST(CAST('x' || left(replace(CAST(gen_random_uuid() AS text), '-', ''), 16) AS bit(64)) AS bigint),
           $1, $2, $3, $4, $5
    FROM log
    RETURNING pg_notify('counterfoil_log', '')";

/// What [`APPEND`] takes.
pub(super) fn entry(what: &Changed, at: Timestamp) -> Vec<Value<'_>> {
    let (kind, digests, subject, client) = match what {
        Changed::Tokens(digests) => {
            let whole: Vec<u8> = digests.iter().flat_map(TokenDigest::as_bytes).copied().collect();
            ("tokens", whole.value(), Value::Text(None), Value::Id(None))
        }
        Changed::Subject(subject) => ("subject", Value::Bytes(None), value(subject), Value::Id(None)),
        Changed::Client(client) => ("client", Value::Bytes(None), Value::Text(None), value(*client)),
        Changed::Everything => ("everything", Value::Bytes(None), Value::Text(None), Value::Id(None)),
    };
    vec![value(at), value(kind), digests, subject, client]
}
