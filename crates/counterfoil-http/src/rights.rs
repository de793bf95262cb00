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

fn ability(text: &str) -> Ability {
    text.parse().expect("each of the four is resource:action")
}
