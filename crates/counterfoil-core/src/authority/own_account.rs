//! One's own account, as a whole: taking it along, and leaving.

use super::{Authority, UserExport};
use crate::actor::{Actor, By};
use crate::clock::Now;
use crate::event::Event;
use crate::link::Purpose;
use crate::password::Password;
use crate::refusal::Error;
use crate::subject::SubjectState;
use crate::token::{Identity, Source};

impl Authority {
    /// All that is kept about the account of `who`, who shows its password again: whoever found a token must not take it along.
    ///
    /// # Errors
    /// [`crate::Refusal::PasswordWrong`], [`crate::Refusal::TooManyAttempts`], [`crate::Refusal::NotFound`].
    pub async fn export_own(
        &self,
        who: &Identity,
        password: Password,
        source: &Source,
        now: Now,
    ) -> Result<UserExport, Error> {
        self.check_own(&who.subject, password, source, now).await?;
        self.export_user(&who.subject, &By::owner(who, source), now).await
    }

    /// Deletes the account of `who`, who shows its password again, and ends all its tokens and links for good.
    ///
    /// # Errors
    /// [`crate::Refusal::PasswordWrong`], [`crate::Refusal::TooManyAttempts`], [`crate::Refusal::NotFound`].
    pub async fn delete_own(&self, who: &Identity, password: Password, source: &Source, now: Now) -> Result<(), Error> {
        let subject = &who.subject;
        self.check_own(subject, password, source, now).await?;
        self.tokens.set_subject_state(subject, SubjectState::Buried, now.wall).await?;
        self.drop_links(subject, &Purpose::ALL).await?;
        self.accounts.delete(subject).await?;
        self.publish(Event::AccountDeleted(subject.clone()), Actor::from(who), source, now.wall);
        self.write_audit(now).await.ok();
        Ok(())
    }
}
