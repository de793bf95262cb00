//! Who does something: [`Actor`]; and who gives an order about others: [`By`].

use crate::account::Role;
use crate::subject::SubjectId;
use crate::token::{Identity, Source, TokenId};

/// Who does something, as the audit log has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Actor {
    /// Somebody who has not shown who they are: at a login, or with a token that is not live.
    Stranger,
    /// Whoever holds this token.
    Holder {
        /// Whom the token stands for.
        subject: SubjectId,
        /// The token.
        token: TokenId,
    },
    /// Whoever may run the program: the command line, or the code of the host.
    Operator,
    /// The deployment itself, in its background work.
    Deployment,
}

impl Actor {
    /// The word that stores and logs have.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Actor::Stranger => "stranger",
            Actor::Holder { .. } => "holder",
            Actor::Operator => "operator",
            Actor::Deployment => "deployment",
        }
    }
}

impl From<&Identity> for Actor {
    fn from(who: &Identity) -> Actor {
        Actor::Holder { subject: who.subject.clone(), token: who.id }
    }
}

/// Who gives an order about others, from where, and how much they may. The operator's is made by [`By::operator`];
/// everybody else's by [`crate::Authority::staff`], which looks their account up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    pub(crate) actor: Actor,
    pub(crate) rank: Rank,
    pub(crate) source: Source,
}

/// How much someone may who gives orders about others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Look after ordinary accounts and their tokens.
    Staff,
    /// Also after staff and administrators, clients, and everybody's tokens at once.
    Admin,
    /// Everything: whoever runs the program could change its files as well.
    Operator,
}

impl By {
    /// The operator, at the machine itself: nobody's address is known.
    pub fn operator() -> By {
        By::operator_from(Source::default())
    }

    /// The operator or the host's own code, on behalf of a request from `source`.
    pub fn operator_from(source: Source) -> By {
        By { actor: Actor::Operator, rank: Rank::Operator, source }
    }

    /// The holder of a token whose account has this role, if it is more than a user's.
    pub(crate) fn holder(who: &Identity, role: Role, source: &Source) -> Option<By> {
        let rank = match role {
            Role::User => return None,
            Role::Staff => Rank::Staff,
            Role::Admin => Rank::Admin,
        };
        Some(By { actor: Actor::from(who), rank, source: source.clone() })
    }

    /// The owner of an account, about that account alone.
    pub(crate) fn owner(who: &Identity, source: &Source) -> By {
        By { actor: Actor::from(who), rank: Rank::Admin, source: source.clone() }
    }

    /// Who that is.
    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    /// How much they may.
    pub fn rank(&self) -> Rank {
        self.rank
    }

    /// Where they are.
    pub fn source(&self) -> &Source {
        &self.source
    }
}
