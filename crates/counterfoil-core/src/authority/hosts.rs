//! What a service does that has users of its own: it knows more of them than we do.

use super::Authority;
use crate::actor::By;
use crate::clock::Now;
use crate::event::{Event, RevokedBy, TokenRef};
use crate::refusal::{Error, Refusal};
use crate::store::RevokeOutcome;
use crate::subject::{SubjectId, SubjectState};

impl Authority {
    /// Ends the token behind `text`, whosever it is. A text that is no token, or no longer, is fine: what was asked for is
    /// the case.
    ///
    /// # Errors
    /// [`Refusal::AdminNeeded`] for staff who end a token of staff or an administrator; when the store fails.
    pub async fn revoke_presented(&self, text: &str, by: &By, now: Now) -> Result<(), Error> {
        let Ok(presentation) = self.candidates(text) else { return Ok(()) };
        let Some(found) = self.find_presented(presentation, now).await? else { return Ok(()) };
        self.may_touch(&found.subject, by).await?;
        match self.tokens.revoke(found.id, None, None, now.wall).await? {
            RevokeOutcome::Revoked(token) => {
                let event = Event::TokenRevoked(TokenRef::from(&*token), RevokedBy::Operator);
                self.record_ending(event, by, now).await;
            }
            RevokeOutcome::AlreadyRevoked | RevokeOutcome::Unknown => {}
        }
        Ok(())
    }

    /// Notes that the host has changed the account of `subject` in its own table of users, and looks: where it is not
    /// active any more its tokens are refused from now on, and where it is again they are accepted again, whoever had them
    /// refused. The account decides.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] where there is no account of it: nothing can be seen then, and its tokens are as they were. Of
    /// one who was deleted, and of users of whom no account is kept, say it with [`Authority::set_subject_state`].
    /// When a store fails; then nothing is sure but that nobody was let in who was shut out.
    pub async fn subject_changed(&self, subject: &SubjectId, by: &By, now: Now) -> Result<(), Error> {
        let account = self.account_of(subject).await?;
        if let Some(account) = &account {
            let state = if account.active { SubjectState::Active } else { SubjectState::Disabled };
            let known = self.tokens.subject(subject).await?.map_or(SubjectState::Active, |known| known.state);
            if known != state && known != SubjectState::Buried {
                self.set_subject_state(subject, state, by, now).await?;
                // Whoever comes last looks again: it may have been disabled while it was being enabled.
                if self.account_of(subject).await?.is_none_or(|account| !account.active) {
                    self.tokens.set_subject_state(subject, SubjectState::Disabled, now.wall).await?;
                }
            }
        }
        self.tokens.subject_changed(subject, now.wall).await?;
        self.record(Event::AccountChanged(subject.clone()), by, now).await?;
        account.map(drop).ok_or(Refusal::NotFound.into())
    }

    /// Refuses every token of a subject, accepts them again, or ends them for good, whether or not we keep an account of it:
    /// for a host that knows its users by itself. A buried subject stays buried, and no token is ever made for it again.
    ///
    /// # Errors
    /// [`Refusal::AdminNeeded`]; [`Refusal::SubjectInactive`] where it is buried already.
    pub async fn set_subject_state(
        &self,
        subject: &SubjectId,
        state: SubjectState,
        by: &By,
        now: Now,
    ) -> Result<(), Error> {
        by.must_be_admin()?;
        // Also one that no token ever stood for, so that the next one is refused.
        self.tokens.open_subject(subject, now.wall).await?;
        let changed = self.tokens.set_subject_state(subject, state, now.wall).await?;
        changed.ok_or(Refusal::SubjectInactive)?;
        match state {
            SubjectState::Active => self.record(Event::AccountEnabled(subject.clone()), by, now).await?,
            SubjectState::Disabled => self.record_ending(Event::AccountDisabled(subject.clone()), by, now).await,
            SubjectState::Buried => self.record_ending(Event::AccountDeleted(subject.clone()), by, now).await,
        }
        Ok(())
    }
}
