//! The abilities that native routes ask for. What ends or renews the very token that asks needs none.

use std::sync::LazyLock;

use counterfoil_core::Ability;

/// List signed-in devices.
pub static TOKENS_READ: LazyLock<Ability> = LazyLock::new(|| ability("tokens:read"));
/// Rename and end signed-in devices.
pub static TOKENS_WRITE: LazyLock<Ability> = LazyLock::new(|| ability("tokens:write"));
/// List API keys.
pub static KEYS_READ: LazyLock<Ability> = LazyLock::new(|| ability("keys:read"));
/// Make and end API keys.
pub static KEYS_WRITE: LazyLock<Ability> = LazyLock::new(|| ability("keys:write"));

/// Change what is one's own to choose of one's account.
pub static ACCOUNT_WRITE: LazyLock<Ability> = LazyLock::new(|| ability("account:write"));
/// Ask whether a text is a live token. Reserved.
pub static TOKENS_INTROSPECT: LazyLock<Ability> = LazyLock::new(|| ability("tokens:introspect"));
/// End a token by its text, whosever it is. Reserved.
pub static TOKENS_REVOKE: LazyLock<Ability> = LazyLock::new(|| ability("tokens:revoke"));
/// Read what staff read, with an API key of theirs. Reserved.
pub static ADMIN_READ: LazyLock<Ability> = LazyLock::new(|| ability("admin:read"));
/// Change what staff change, with an API key of theirs. Reserved.
pub static ADMIN_WRITE: LazyLock<Ability> = LazyLock::new(|| ability("admin:write"));

fn ability(text: &str) -> Ability {
    text.parse().expect("each of them is resource:action")
}
