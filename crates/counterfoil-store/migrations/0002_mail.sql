-- What goes out by mail, and what a link in a mail is good for. Without references to `subjects` or `accounts`: a host may
-- bring accounts of its own.

-- Mails that are to be sent. What they say is written when they are sent, and the secret of a link is made then: who reads
-- this table can use nothing in it.
CREATE TABLE mails (
    id BLOB PRIMARY KEY
        CONSTRAINT mails_id_is_16_bytes CHECK (length(id) = 16),
    -- What it tells, as JSON: the kind and what that needs.
    kind TEXT NOT NULL,
    -- With which links it goes, unsent, when the account has no more use for them; none for a notice.
    purpose TEXT,
    -- Whose account, or whose registration. It is looked up again before the mail is sent.
    subject TEXT NOT NULL,
    -- Where it goes: the address that was stored when it was asked for, never one that somebody sent along.
    recipient TEXT NOT NULL,
    -- Of whoever reads it, as JSON.
    languages TEXT NOT NULL,
    -- Where the page behind its link goes on to.
    next TEXT,
    asked_at INTEGER NOT NULL,
    -- When it is of no use any more: it is removed, and its link is dead.
    expires_at INTEGER NOT NULL,
    -- Decides how long the next attempt waits.
    tries INTEGER NOT NULL DEFAULT 0
        CONSTRAINT mails_tries_is_not_negative CHECK (tries >= 0),
    -- Later than now while somebody is sending it, so that nobody else does.
    next_try_at INTEGER NOT NULL,
    -- For the operator.
    last_error TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX mails_by_next_try ON mails (next_try_at, id);
CREATE INDEX mails_by_expiry ON mails (expires_at);
CREATE INDEX mails_by_subject ON mails (subject, purpose);

-- What a link that was sent is good for, once.
CREATE TABLE links (
    -- Of its secret with a word before it: no link is a token, and no token a link.
    digest BLOB PRIMARY KEY
        CONSTRAINT links_digest_is_32_bytes CHECK (length(digest) = 32),
    purpose TEXT NOT NULL
        CONSTRAINT links_purpose_is_known
        CHECK (purpose IN ('register', 'confirm', 'change_address', 'undo_change', 'reset')),
    subject TEXT NOT NULL,
    -- The address it was mailed to: it is dead for an account that has another one by now.
    email TEXT NOT NULL,
    next TEXT,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX links_by_subject ON links (subject, purpose);
CREATE INDEX links_by_expiry ON links (expires_at);

-- Who wants an account and has yet to prove their address. Nothing of it is an account until then, so that nobody is kept out
-- of a name or an address by somebody who made one up.
CREATE TABLE registrations (
    subject TEXT PRIMARY KEY,
    username TEXT NOT NULL,
    email TEXT NOT NULL,
    -- Encoded, as that of an account.
    password TEXT NOT NULL,
    first_name TEXT NOT NULL,
    last_name TEXT NOT NULL,
    locale TEXT,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- For mailing the link again. Letters beyond ASCII are not folded: another one is another address.
CREATE INDEX registrations_by_email ON registrations (email COLLATE NOCASE);
CREATE INDEX registrations_by_expiry ON registrations (expires_at);

-- Up to when owners have been told of tokens that expire; no row before the first time.
CREATE TABLE reminders (
    one INTEGER PRIMARY KEY
        CONSTRAINT reminders_has_one_row CHECK (one = 1),
    until INTEGER NOT NULL
) STRICT;
