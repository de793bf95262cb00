//! The scripts, each of which is one method of the store: [`Script`].
//!
//! A script is sent by its digest; where the server does not know it (a restart, `SCRIPT FLUSH`), with its text.

use std::sync::LazyLock;

/// What a script may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Reads alone: may be asked again where the connection broke.
    Reading,
    /// Writes, and is refused where memory is full.
    Writing,
    /// Writes although memory is full: it ends tokens or frees memory.
    Ending,
}

/// One atomic transition, or one look.
#[derive(Debug)]
pub(super) struct Script {
    /// What the store is doing, for an error.
    pub(super) doing: &'static str,
    pub(super) usage: Use,
    pub(super) text: String,
    pub(super) hash: String,
}

const BASE: &str = include_str!("scripts/base.lua");
const WRITE: &str = include_str!("scripts/write.lua");

/// What a script begins with where nothing is kept yet.
const OPENING: &str = "local OPENING = true\n";
const OPENED: &str = "local OPENING = false\n";

/// A script that writes answers with what came of it and the rows that it has added to the change log.
const ACT: &str = "\nlocal function act()\n";
const ACTED: &str = "
end
local outcome = act()
if type(outcome) == 'table' and outcome.err then return outcome end
return { outcome, rows }
";

impl Script {
    fn new(doing: &'static str, usage: Use, opening: &str, body: &str) -> Script {
        let text = match usage {
            Use::Reading => ["#!lua flags=no-writes\n", opening, BASE, body].concat(),
            Use::Writing => ["#!lua\n", opening, BASE, WRITE, ACT, body, ACTED].concat(),
            Use::Ending => ["#!lua flags=allow-oom\n", opening, BASE, WRITE, ACT, body, ACTED].concat(),
        };
        let hash = redis::Script::new(&text).get_hash().to_owned();
        Script { doing, usage, text, hash }
    }

    fn reading(doing: &'static str, body: &str) -> Script {
        Script::new(doing, Use::Reading, OPENED, body)
    }

    fn writing(doing: &'static str, body: &str) -> Script {
        Script::new(doing, Use::Writing, OPENED, body)
    }

    fn ending(doing: &'static str, body: &str) -> Script {
        Script::new(doing, Use::Ending, OPENED, body)
    }
}

pub(super) static OPEN: LazyLock<Script> = LazyLock::new(|| {
    let body = concat!(include_str!("scripts/begin.lua"), include_str!("scripts/open.lua"));
    Script::new("opening the store", Use::Ending, OPENING, body)
});
pub(super) static BEGIN: LazyLock<Script> = LazyLock::new(|| {
    let body = concat!(include_str!("scripts/begin.lua"), include_str!("scripts/begin_by.lua"));
    Script::new("beginning the store", Use::Ending, OPENING, body)
});
pub(super) static HALF: LazyLock<Script> = LazyLock::new(|| {
    Script::new("reading the tally of the tokens", Use::Reading, OPENING, include_str!("scripts/half.lua"))
});
pub(super) static READY: LazyLock<Script> =
    LazyLock::new(|| Script::writing("seeing whether it can write", include_str!("scripts/ready.lua")));
pub(super) static IMPORTED: LazyLock<Script> =
    LazyLock::new(|| Script::reading("reading the schemes of imported tokens", include_str!("scripts/imported.lua")));
pub(super) static FIND: LazyLock<Script> =
    LazyLock::new(|| Script::reading("looking up a token", include_str!("scripts/find.lua")));
pub(super) static TOKEN: LazyLock<Script> =
    LazyLock::new(|| Script::reading("reading a token", include_str!("scripts/token.lua")));
pub(super) static LIST: LazyLock<Script> =
    LazyLock::new(|| Script::reading("listing tokens", include_str!("scripts/list.lua")));
pub(super) static EXPIRING: LazyLock<Script> =
    LazyLock::new(|| Script::reading("listing tokens that expire", include_str!("scripts/expiring.lua")));
pub(super) static COUNT: LazyLock<Script> =
    LazyLock::new(|| Script::reading("counting tokens", include_str!("scripts/count.lua")));
pub(super) static SUBJECT: LazyLock<Script> =
    LazyLock::new(|| Script::reading("reading a subject", include_str!("scripts/subject.lua")));
pub(super) static OPEN_SUBJECT: LazyLock<Script> =
    LazyLock::new(|| Script::writing("opening a subject", include_str!("scripts/open_subject.lua")));
pub(super) static SET_SUBJECT_STATE: LazyLock<Script> =
    LazyLock::new(|| Script::ending("setting the state of a subject", include_str!("scripts/set_subject_state.lua")));
pub(super) static SUBJECT_CHANGED: LazyLock<Script> =
    LazyLock::new(|| Script::ending("noting that a subject has changed", include_str!("scripts/subject_changed.lua")));
pub(super) static BUMP_SUBJECT: LazyLock<Script> =
    LazyLock::new(|| Script::ending("ending the tokens of a subject", include_str!("scripts/bump_subject.lua")));
pub(super) static BUMP_CLIENT: LazyLock<Script> =
    LazyLock::new(|| Script::ending("ending the tokens of a client", include_str!("scripts/bump_client.lua")));
pub(super) static BUMP_DEPLOYMENT: LazyLock<Script> =
    LazyLock::new(|| Script::ending("ending every token", include_str!("scripts/bump_deployment.lua")));
pub(super) static ISSUE: LazyLock<Script> =
    LazyLock::new(|| Script::writing("issuing a token", include_str!("scripts/issue.lua")));
pub(super) static RENAME: LazyLock<Script> =
    LazyLock::new(|| Script::writing("renaming a token", include_str!("scripts/rename.lua")));
pub(super) static RENEW: LazyLock<Script> =
    LazyLock::new(|| Script::writing("renewing a token", include_str!("scripts/renew.lua")));
pub(super) static ROTATE: LazyLock<Script> =
    LazyLock::new(|| Script::writing("rotating a secret", include_str!("scripts/rotate.lua")));
pub(super) static SETTLE: LazyLock<Script> =
    LazyLock::new(|| Script::ending("settling a rotation", include_str!("scripts/settle.lua")));
pub(super) static ADOPT: LazyLock<Script> =
    LazyLock::new(|| Script::writing("adopting an imported secret", include_str!("scripts/adopt.lua")));
pub(super) static REVOKE: LazyLock<Script> =
    LazyLock::new(|| Script::ending("revoking a token", include_str!("scripts/revoke.lua")));
pub(super) static REVOKE_MATCHING: LazyLock<Script> =
    LazyLock::new(|| Script::ending("revoking tokens", include_str!("scripts/revoke_matching.lua")));
pub(super) static TOUCH: LazyLock<Script> =
    LazyLock::new(|| Script::writing("noting where tokens were seen", include_str!("scripts/touch.lua")));
pub(super) static PURGE: LazyLock<Script> =
    LazyLock::new(|| Script::ending("purging", include_str!("scripts/purge.lua")));
pub(super) static COUNT_TRY: LazyLock<Script> =
    LazyLock::new(|| Script::writing("counting a try at a password", include_str!("scripts/count_try.lua")));
pub(super) static GIVE_BACK_TRY: LazyLock<Script> =
    LazyLock::new(|| Script::writing("giving a try back", include_str!("scripts/give_back_try.lua")));
pub(super) static FORGET_TRIES: LazyLock<Script> =
    LazyLock::new(|| Script::ending("forgetting tries", include_str!("scripts/forget_tries.lua")));
pub(super) static TRIES: LazyLock<Script> =
    LazyLock::new(|| Script::reading("reading tries", include_str!("scripts/tries.lua")));
pub(super) static SEALED_OTHERWISE: LazyLock<Script> =
    LazyLock::new(|| Script::reading("listing sealed secrets", include_str!("scripts/sealed_otherwise.lua")));
pub(super) static SEALED_SAMPLES: LazyLock<Script> =
    LazyLock::new(|| Script::reading("listing sealed secrets", include_str!("scripts/sealed_samples.lua")));
pub(super) static RESEAL: LazyLock<Script> =
    LazyLock::new(|| Script::writing("sealing a secret anew", include_str!("scripts/reseal.lua")));
pub(super) static CLIENT: LazyLock<Script> =
    LazyLock::new(|| Script::reading("reading a client", include_str!("scripts/client.lua")));
pub(super) static CLIENTS: LazyLock<Script> =
    LazyLock::new(|| Script::reading("listing clients", include_str!("scripts/clients.lua")));
pub(super) static CREATE_CLIENT: LazyLock<Script> =
    LazyLock::new(|| Script::writing("creating a client", include_str!("scripts/create_client.lua")));
pub(super) static UPDATE_CLIENT: LazyLock<Script> =
    LazyLock::new(|| Script::writing("updating a client", include_str!("scripts/update_client.lua")));
pub(super) static DELETE_CLIENT: LazyLock<Script> =
    LazyLock::new(|| Script::ending("deleting a client", include_str!("scripts/delete_client.lua")));
pub(super) static CHANGES: LazyLock<Script> =
    LazyLock::new(|| Script::reading("reading the change log", include_str!("scripts/changes.lua")));
pub(super) static ASSERT_AGAIN: LazyLock<Script> = LazyLock::new(|| {
    Script::ending("ending again what a failover brought back", include_str!("scripts/assert_again.lua"))
});
