//! What a page sends to show that it belongs to a session whose token it cannot read.

use super::Authority;
use crate::token::Identity;

const PURPOSE: &str = "csrf";

impl Authority {
    /// The text that belongs to the session of `who`: a tag over the id of its token, which others may know, under a key
    /// that nobody does. It stays the same when the secret is rotated, and is another one after the next login.
    pub fn csrf_token(&self, who: &Identity) -> String {
        format!("{:016x}", self.tag(PURPOSE, who.id.as_bytes()))
    }

    /// Whether `text` is that of the session of `who`, under any key that is still accepted.
    pub fn is_csrf_token(&self, who: &Identity, text: &[u8]) -> bool {
        let digits = text.len() == 16 && text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let sent = std::str::from_utf8(text).ok().filter(|_| digits).and_then(|hex| u64::from_str_radix(hex, 16).ok());
        sent.is_some_and(|sent| self.format.keys().any(|key| key.tag(PURPOSE, who.id.as_bytes()) == sent))
    }
}
