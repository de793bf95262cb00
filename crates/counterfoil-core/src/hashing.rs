//! Where passwords are hashed: the port [`Hashing`], behind which the program puts threads of its own.
//!
//! One check costs 20 ms and 19 MiB. On the threads that serve requests it would stop everything else, so the authority
//! only describes the work and awaits its result.

use std::fmt;
use std::future::ready;
use std::pin::Pin;

use crate::password::{self, Cost, EncodedPassword, HashingParams, Password, PasswordError, Scratch, Verdict};

/// More work is waiting than the queue takes. Nothing was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overloaded;

/// The result of hashing, some time later.
pub type Hashed<'a, T> = Pin<Box<dyn Future<Output = Result<T, Overloaded>> + Send + 'a>>;

/// Hashes passwords somewhere.
pub trait Hashing: Send + Sync + fmt::Debug {
    /// Carries out [`CheckTask::run`].
    fn check(&self, task: CheckTask) -> Hashed<'_, Checked>;

    /// Carries out [`HashTask::run`].
    fn hash(&self, task: HashTask) -> Hashed<'_, EncodedPassword>;
}

/// Is this password the one behind that row?
#[derive(Debug)]
pub struct CheckTask {
    /// What was typed.
    pub password: Password,
    /// The row; `None` where there is no account that may log in, which costs the same.
    pub against: Option<EncodedPassword>,
    /// What the rows of the store cost, for padding a refusal.
    pub present: Vec<Cost>,
    /// How passwords are to be hashed now.
    pub params: HashingParams,
    /// The salt of the new row, should the old one be outdated.
    pub salt: [u8; 16],
}

/// What a [`CheckTask`] found.
#[derive(Debug)]
pub struct Checked {
    /// Whether it is the one; an error is a row that cannot be read.
    pub verdict: Result<Verdict, PasswordError>,
    /// The password hashed as it would be today, if it is the one and its row is outdated.
    pub rehashed: Option<EncodedPassword>,
}

impl CheckTask {
    /// Does the work on this thread.
    pub fn run(self, scratch: &mut Scratch) -> Checked {
        let verdict = password::check(&self.password, self.against.as_ref(), &self.present, &self.params, scratch);
        scratch.shrink_to(&self.params);
        let rehashed = match verdict {
            Ok(Verdict::Match { outdated: true }) => {
                Some(password::hash(&self.password, &self.salt, &self.params, scratch))
            }
            Ok(Verdict::Match { outdated: false } | Verdict::NoMatch) | Err(_) => None,
        };
        Checked { verdict, rehashed }
    }
}

/// Hash this password.
#[derive(Debug)]
pub struct HashTask {
    /// What was typed.
    pub password: Password,
    /// How.
    pub params: HashingParams,
    /// Sixteen fresh random bytes.
    pub salt: [u8; 16],
}

impl HashTask {
    /// Does the work on this thread.
    pub fn run(self, scratch: &mut Scratch) -> EncodedPassword {
        password::hash(&self.password, &self.salt, &self.params, scratch)
    }
}

/// Hashes on the calling thread: for the command line and for tests, not for a server.
#[derive(Debug, Clone, Copy)]
pub struct OnThisThread;

impl Hashing for OnThisThread {
    fn check(&self, task: CheckTask) -> Hashed<'_, Checked> {
        Box::pin(ready(Ok(task.run(&mut Scratch::new()))))
    }

    fn hash(&self, task: HashTask) -> Hashed<'_, EncodedPassword> {
        Box::pin(ready(Ok(task.run(&mut Scratch::new()))))
    }
}
