//! Tokens that a browser keeps where its pages cannot read them.

use super::Authority;
use crate::actor::Actor;
use crate::clock::Now;
use crate::event::{Event, TokenRef};
use crate::refusal::Error;
use crate::store::RevokeOutcome;
use crate::token::{Identity, Kind, Source, TokenId};

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

    /// Ends the login token behind `text`, which a browser kept before `successor` was issued to it: whoever else knows the
    /// text, be it that they planted it there, has nothing any more. A text that is no token is fine, an API key stays, and
    /// so does `successor` itself where a client hands out the same secret again.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn end_session_before(
        &self,
        text: &str,
        successor: TokenId,
        source: &Source,
        now: Now,
    ) -> Result<(), Error> {
        let Ok(presentation) = self.candidates(text) else { return Ok(()) };
        let Some(found) = self.find_presented(presentation, now).await? else { return Ok(()) };
        if found.kind == Kind::Key || found.id == successor {
            return Ok(());
        }
        match self.tokens.revoke(found.id, Some(&found.subject), None, now.wall).await? {
            RevokeOutcome::Revoked(token) => {
                let actor = Actor::Holder { subject: token.subject.clone(), token: token.id };
                self.publish(Event::LoggedOut(TokenRef::from(&*token)), actor, source, now.wall);
            }
            RevokeOutcome::AlreadyRevoked | RevokeOutcome::Unknown => {}
        }
        Ok(())
    }
}
