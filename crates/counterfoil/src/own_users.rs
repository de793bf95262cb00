//! For a service that knows its users itself and wants tokens for them: one call for each thing.

use counterfoil_core::account::{Account, NewAccount};
use counterfoil_core::actor::By;
use counterfoil_core::authority::{Ending, TokenOrder};
use counterfoil_core::password::Password;
use counterfoil_core::token::{Identity, Issued, Source};
use counterfoil_core::{Error, Now, Refusal, SubjectId};

use crate::Counterfoil;

/// # For users of your own
///
/// A service that has checked a password, a passkey or another service's word in its own way makes the token itself. A
/// subject is any text of up to 64 bytes that names one user for ever, such as the key of your table.
///
/// ```
/// use counterfoil::{Counterfoil, Error, Refusal, Source, SubjectId};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let counterfoil = Counterfoil::for_tests().await;
/// let (ada, here): (SubjectId, _) = ("user:42".parse()?, Source::default());
/// let laptop = counterfoil.create_token(ada.clone(), &here).await?;
/// let phone = counterfoil.create_token(ada.clone(), &here).await?;
/// assert!(laptop.first_of_subject && !phone.first_of_subject);
///
/// // The text is for the client, and shown once; from then on a request that carries it is known by it.
/// let who = counterfoil.identify(laptop.secret.expose(), &here).await?;
/// assert_eq!(who.subject, ada);
///
/// counterfoil.revoke_token(laptop.secret.expose()).await?;
/// let refused = counterfoil.identify(laptop.secret.expose(), &here).await;
/// assert!(matches!(refused, Err(Error::Refused(Refusal::TokenRevoked))));
///
/// counterfoil.revoke_tokens_of(&ada).await?;
/// let refused = counterfoil.identify(phone.secret.expose(), &here).await;
/// assert!(matches!(refused, Err(Error::Refused(Refusal::TokenRevoked))));
/// # counterfoil.shutdown().await;
/// # Ok(())
/// # }
/// ```
///
/// Who comes from djforge-redis-multitokens knows them by other names: `create_token(user)`, whose "first token of this
/// user" is [`Issued::first_of_subject`], is [`create_token`](Counterfoil::create_token); `get_user_from_token` is
/// [`identify`](Counterfoil::identify); `expire_token` is [`revoke_token`](Counterfoil::revoke_token); `expire_all_tokens`
/// is [`revoke_tokens_of`](Counterfoil::revoke_tokens_of).
impl Counterfoil {
    /// What time it is here; read it once for each request.
    pub fn now(&self) -> Now {
        self.clock().now()
    }

    /// Makes a token for a subject, on the default client, or for whatever a [`TokenOrder`] says.
    /// [`Issued::first_of_subject`] tells whether it is the first that ever stood for it.
    ///
    /// # Errors
    /// As [`Authority::issue`](crate::Authority::issue): a subject that is disabled, a cap that is reached, a hook that
    /// refuses.
    pub async fn create_token(&self, order: impl Into<TokenOrder>, source: &Source) -> Result<Issued, Error> {
        self.authority().issue(order.into(), &By::operator_from(source.clone()), self.now()).await
    }

    /// Who presents this text, if it is a live token. Answered at once where no store is needed.
    ///
    /// # Errors
    /// As [`Authority::authenticate`](crate::Authority::authenticate). [`Error::Refused`] is theirs and a 401, but for the
    /// throttles; everything else is ours and a 503.
    pub async fn identify(&self, text: &str, source: &Source) -> Result<Identity, Error> {
        let now = self.now();
        match self.authority().try_cached(text, source, now) {
            Some(answer) => answer,
            None => self.authority().authenticate(text, source, now).await,
        }
    }

    /// Ends the token with this text. One that is dead already, or never was, is fine.
    ///
    /// # Errors
    /// When the store fails; then try again, nothing was acknowledged.
    pub async fn revoke_token(&self, text: &str) -> Result<(), Error> {
        self.authority().revoke_presented(text, &By::operator(), self.now()).await
    }

    /// Ends every login token of a subject; API keys stay, see [`Ending::Subject`]. A subject without any is fine.
    ///
    /// # Errors
    /// When the store fails; then try again, nothing was acknowledged.
    pub async fn revoke_tokens_of(&self, subject: &SubjectId) -> Result<(), Error> {
        let ending = Ending::Subject { subject: subject.clone(), keys_too: false };
        match self.authority().end(ending, &By::operator(), self.now()).await {
            Err(Error::Refused(Refusal::NotFound)) => Ok(()),
            ended => ended,
        }
    }

    /// To be called when you have changed a user in a table of your own, see
    /// [`Authority::subject_changed`](crate::Authority::subject_changed): one who is no longer active is refused from now
    /// on.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] where you have no such user any more: see
    /// [`Authority::set_subject_state`](crate::Authority::set_subject_state). When a store fails.
    pub async fn subject_changed(&self, subject: &SubjectId) -> Result<(), Error> {
        self.authority().subject_changed(subject, &By::operator(), self.now()).await
    }
}

/// # For users that counterfoil keeps
impl Counterfoil {
    /// Makes an account that logs in with this name and password, as the operator would: for a first user, and for a sign-up
    /// of your own. More of it can be said with [`Authority::create_user`](crate::Authority::create_user).
    ///
    /// # Errors
    /// [`Refusal::UsernameTaken`]; [`Refusal::Invalid`] for a name or a password that cannot be taken, such as one of fewer
    /// than eight characters.
    pub async fn create_user(&self, username: &str, password: &str) -> Result<Account, Error> {
        let username = username.parse().map_err(|why| Refusal::invalid("username", why))?;
        let password = Password::new(password).map_err(|why| Refusal::invalid("password", why))?;
        let new = NewAccount::named(username);
        self.authority().create_user(new, Some(password), &By::operator(), self.now()).await
    }
}
