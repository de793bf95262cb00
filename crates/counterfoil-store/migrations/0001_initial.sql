-- Times are milliseconds since 1970-01-01T00:00:00Z. A released migration is never edited.

-- What holds for everybody.
CREATE TABLE deployment (
    -- There is one deployment in one file.
    one INTEGER PRIMARY KEY
        CONSTRAINT deployment_is_one_row CHECK (one = 1),
    -- Which life of the store this is: a restore draws another, so that no cache outlives what it was filled from. Drawn
    -- by SQLite's own generator: it must differ and guards nothing.
    incarnation BLOB NOT NULL
        CONSTRAINT deployment_incarnation_is_16_bytes CHECK (length(incarnation) = 16),
    -- The one before it, for a crash between a rewind that was accepted and the note of it outside this file.
    predecessor BLOB
        CONSTRAINT deployment_predecessor_is_16_bytes CHECK (length(predecessor) = 16),
    -- 1 in every copy made of it, until an operator says how to go on from there: it may lack what was revoked since.
    copied INTEGER NOT NULL DEFAULT 0
        CONSTRAINT deployment_copied_is_0_or_1 CHECK (copied IN (0, 1)),
    -- Outlives every token stamped before: the end of everybody's tokens is one changed row.
    epoch INTEGER NOT NULL DEFAULT 0
        CONSTRAINT deployment_epoch_is_not_negative CHECK (epoch >= 0),
    -- How many transactions have changed this file: a copy that has seen fewer than were acknowledged is an old one.
    commits INTEGER NOT NULL DEFAULT 0
        CONSTRAINT deployment_commits_is_not_negative CHECK (commits >= 0),
    -- Random, drawn anew by each of them: an old copy that was written to until it had seen as many has another.
    tag INTEGER NOT NULL DEFAULT 0
) STRICT;

INSERT INTO deployment (one, incarnation) VALUES (1, randomblob(16));

-- The keys of the check at the end of a token's text. They make invented tokens cheap to refuse and open nothing.
CREATE TABLE check_keys (
    -- The newest mints; all are accepted.
    number INTEGER PRIMARY KEY,
    -- Losing it would void every token in the field, so it lives beside them and is carried by every copy.
    key BLOB NOT NULL
        CONSTRAINT check_keys_key_is_16_bytes CHECK (length(key) = 16)
) STRICT;

-- Whom tokens stand for. Rows are never removed: a name that was buried must be found again to be refused.
CREATE TABLE subjects (
    key INTEGER PRIMARY KEY,
    -- Opaque; compared byte by byte, so that no two subjects are taken for one.
    name TEXT NOT NULL
        CONSTRAINT subjects_name_is_unique UNIQUE
        CONSTRAINT subjects_name_is_1_to_64_bytes CHECK (length(CAST(name AS BLOB)) BETWEEN 1 AND 64),
    -- Refuses every token of the subject in one row: suspended while disabled, for ever once buried.
    state TEXT NOT NULL DEFAULT 'active'
        CONSTRAINT subjects_state_is_known CHECK (state IN ('active', 'disabled', 'buried')),
    -- Outlives login tokens: logging out everywhere and a changed password are one row, however many tokens there are.
    epoch INTEGER NOT NULL DEFAULT 0
        CONSTRAINT subjects_epoch_is_not_negative CHECK (epoch >= 0),
    -- The same for API keys, which those two leave alone unless asked.
    key_epoch INTEGER NOT NULL DEFAULT 0
        CONSTRAINT subjects_key_epoch_is_not_negative CHECK (key_epoch >= 0),
    -- Whether a token was ever issued: survives the purge of the tokens themselves.
    ever_issued INTEGER NOT NULL DEFAULT 0
        CONSTRAINT subjects_ever_issued_is_0_or_1 CHECK (ever_issued IN (0, 1))
) STRICT;

-- Registered applications and the rules of their tokens.
CREATE TABLE clients (
    -- Never given to another client, because caches know clients by it.
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL
        CONSTRAINT clients_id_is_unique UNIQUE
        CONSTRAINT clients_id_is_16_bytes CHECK (length(id) = 16),
    -- Compared byte by byte: what people type names one client or none. Unique among those that are not deleted.
    name TEXT NOT NULL,
    -- JSON; read back through the same parser as configuration, so that a row cannot hold what a setting may not.
    policy TEXT NOT NULL,
    -- Whether a password opens it.
    allow_login INTEGER NOT NULL
        CONSTRAINT clients_allow_login_is_0_or_1 CHECK (allow_login IN (0, 1)),
    -- JSON, the host's own.
    metadata TEXT NOT NULL,
    -- Outlives the client's tokens.
    epoch INTEGER NOT NULL DEFAULT 0
        CONSTRAINT clients_epoch_is_not_negative CHECK (epoch >= 0),
    -- What was judged by an older version is judged anew.
    version INTEGER NOT NULL DEFAULT 1
        CONSTRAINT clients_version_is_positive CHECK (version >= 1),
    created_at INTEGER NOT NULL,
    -- 1 once it is deleted: nothing finds it or a token of it any more, and the purge removes them bit by bit, so that a
    -- client with millions of tokens goes in one changed row.
    deleted INTEGER NOT NULL DEFAULT 0
        CONSTRAINT clients_deleted_is_0_or_1 CHECK (deleted IN (0, 1))
) STRICT;

CREATE UNIQUE INDEX clients_name_is_unique ON clients (name) WHERE deleted = 0;
CREATE INDEX clients_deleted ON clients (key) WHERE deleted = 1;

-- One row for each credential issued. The text of a token is in no column.
CREATE TABLE tokens (
    -- Shown by dialects and ordering pages; never given out twice, so that an old reference cannot mean a new token.
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    -- The public name, safe to show: 74 random bits leave no neighbours to guess.
    id BLOB NOT NULL
        CONSTRAINT tokens_id_is_unique UNIQUE
        CONSTRAINT tokens_id_is_16_bytes CHECK (length(id) = 16),
    -- Keys outlive logouts; login tokens do not.
    kind TEXT NOT NULL
        CONSTRAINT tokens_kind_is_known CHECK (kind IN ('login', 'key')),
    subject INTEGER NOT NULL
        CONSTRAINT tokens_subject_exists REFERENCES subjects (key),
    client INTEGER NOT NULL
        CONSTRAINT tokens_client_exists REFERENCES clients (key),
    -- What is kept of the secret: 32 bytes from which it cannot be found. Unique among these and the retired ones, which
    -- no index can say; the transaction that adds one restates it.
    digest BLOB NOT NULL
        CONSTRAINT tokens_digest_is_32_bytes CHECK (length(digest) = 32),
    -- How the digest was made: a text is looked up under its own scheme alone.
    scheme TEXT NOT NULL,
    -- What it may do, separated by spaces.
    abilities TEXT NOT NULL,
    issued_at INTEGER NOT NULL,
    -- The first instant at which it is dead; NULL: never by time.
    expires_at INTEGER,
    -- Dead by itself since then.
    revoked_at INTEGER,
    -- The epochs at its issue; once one of the three rows above is ahead, the token is dead.
    subject_epoch INTEGER NOT NULL,
    client_epoch INTEGER NOT NULL,
    deployment_epoch INTEGER NOT NULL,
    -- 1 from a rotation until its successor is used: until then the old secret may be exchanged once more.
    unsettled INTEGER NOT NULL DEFAULT 0
        CONSTRAINT tokens_unsettled_is_0_or_1 CHECK (unsettled IN (0, 1)),
    -- The secret under a key that is not in this file, for clients that hand out the same one again; gone when revoked.
    sealed BLOB,
    -- Which key of the ring opens it.
    sealed_key INTEGER,
    -- What its owner calls it.
    name TEXT,
    -- JSON, the host's own.
    metadata TEXT NOT NULL,
    -- Where it was issued, so that its owner recognises the device.
    first_ip TEXT,
    first_agent TEXT,
    CONSTRAINT tokens_sealed_names_its_key CHECK ((sealed IS NULL) = (sealed_key IS NULL))
) STRICT;

-- Every request comes through here: the index holds all that its answer needs, so that a look-up reads one leaf and
-- never the row. Not UNIQUE, because that would be a second index of the same size over the digest alone.
CREATE INDEX tokens_by_digest ON tokens (
    digest, scheme, id, kind, subject, client, abilities, issued_at, expires_at, revoked_at,
    subject_epoch, client_epoch, deployment_epoch, unsettled
);
-- A subject's tokens, in order of their numbers.
CREATE INDEX tokens_by_subject ON tokens (subject);
-- Those of one kind and epoch, in order of their numbers: of the present epoch for pages and caps, which so read neither
-- the other kind nor what is dead; of those before it for the purge, which so reads nothing that stays.
CREATE INDEX tokens_unrevoked ON tokens (subject, kind, subject_epoch) WHERE revoked_at IS NULL;
-- A client's tokens, in order of their numbers.
CREATE INDEX tokens_by_client ON tokens (client);
-- For the purge alone.
CREATE INDEX tokens_by_expiry ON tokens (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX tokens_by_revocation ON tokens (revoked_at) WHERE revoked_at IS NOT NULL;
-- With which keys of the ring secrets are sealed, and one of each.
CREATE INDEX tokens_by_sealed_key ON tokens (sealed_key) WHERE sealed IS NOT NULL;
-- Which imported schemes still have tokens; empty and free where nothing was imported.
CREATE INDEX tokens_by_imported_scheme ON tokens (scheme) WHERE scheme <> 'native';

-- Secrets that a rotation took out of use, so that one used later is recognised as stolen.
CREATE TABLE retired (
    digest BLOB PRIMARY KEY
        CONSTRAINT retired_digest_is_32_bytes CHECK (length(digest) = 32),
    scheme TEXT NOT NULL,
    token INTEGER NOT NULL
        CONSTRAINT retired_token_exists REFERENCES tokens (number) ON DELETE CASCADE,
    -- Accepted before this instant, reuse from then on.
    grace_until INTEGER NOT NULL,
    -- 1 where it was a successor that nobody used before the next rotation replaced it.
    taken_back INTEGER NOT NULL
        CONSTRAINT retired_taken_back_is_0_or_1 CHECK (taken_back IN (0, 1)),
    -- When it stopped being the one, for the purge alone.
    retired_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX retired_by_token ON retired (token);
CREATE INDEX retired_by_time ON retired (retired_at);
CREATE INDEX retired_by_imported_scheme ON retired (scheme) WHERE scheme <> 'native';

-- Where tokens were last used. Apart from them, so that being seen never rewrites what decides an answer.
CREATE TABLE last_seen (
    token INTEGER PRIMARY KEY
        CONSTRAINT last_seen_token_exists REFERENCES tokens (number) ON DELETE CASCADE,
    at INTEGER NOT NULL,
    ip TEXT,
    agent TEXT
) STRICT;

-- Bumps whose dead tokens have not been purged yet: the purge reads these instead of looking for old epochs everywhere.
-- One that ended no token is not written down, so there are never more of them than there were tokens.
CREATE TABLE bumps (
    number INTEGER PRIMARY KEY,
    -- Which tokens died: of a subject by kind, of a client, everybody's, or of a subject that was buried.
    what TEXT NOT NULL
        CONSTRAINT bumps_what_is_known CHECK (what IN ('login', 'key', 'client', 'deployment', 'buried')),
    -- The key of that subject or client; 0 for everybody.
    target INTEGER NOT NULL,
    -- Tokens stamped with less are dead.
    epoch INTEGER NOT NULL,
    -- No token with a greater number had been issued by then.
    up_to INTEGER NOT NULL,
    -- Since when they are dead.
    at INTEGER NOT NULL
) STRICT;

CREATE INDEX bumps_by_time ON bumps (at);

-- What caches must know, in the order of commits.
CREATE TABLE log (
    -- One more than the greatest before, so that a gap shows.
    n INTEGER PRIMARY KEY,
    -- Random, and no secret: the same number with another tag means that history was rewritten by a restore.
    tag INTEGER NOT NULL,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL
        CONSTRAINT log_kind_is_known CHECK (kind IN ('tokens', 'subject', 'client', 'everything')),
    -- For tokens: their digests, 32 bytes each.
    digests BLOB
        CONSTRAINT log_digests_are_whole CHECK (length(digests) % 32 = 0),
    -- For a subject: its name, which stays readable even where the token store never met it.
    subject TEXT,
    -- For a client: its id, which is still meant when the client is gone.
    client BLOB
        CONSTRAINT log_client_is_16_bytes CHECK (length(client) = 16),
    CONSTRAINT log_names_what_it_says CHECK (
        (digests IS NOT NULL) = (kind = 'tokens')
        AND (subject IS NOT NULL) = (kind = 'subject')
        AND (client IS NOT NULL) = (kind = 'client')
    )
) STRICT;

-- Subjects with a password kept here. Without a reference to `subjects`: a host may bring accounts of its own.
CREATE TABLE accounts (
    key INTEGER PRIMARY KEY,
    -- Whom its tokens stand for.
    subject TEXT NOT NULL
        CONSTRAINT accounts_subject_is_unique UNIQUE,
    username TEXT NOT NULL
        CONSTRAINT accounts_username_is_unique UNIQUE,
    -- Lower case, NFKC. Not unique, because an import keeps what it finds; making an account refuses a second one.
    username_fold TEXT NOT NULL,
    email TEXT,
    -- What a login by address is compared with.
    email_fold TEXT,
    -- Until its owner proved to read it, an address opens nothing.
    email_confirmed_at INTEGER,
    -- Encoded: Argon2id, or what was imported until the next login.
    password TEXT NOT NULL,
    -- What checking it costs, so that every refusal can be made as dear; 'malformed' for a row that can never match.
    password_cost TEXT NOT NULL,
    first_name TEXT NOT NULL,
    last_name TEXT NOT NULL,
    -- JSON, the host's own.
    attributes TEXT NOT NULL,
    locale TEXT,
    -- Whether it may log in.
    active INTEGER NOT NULL
        CONSTRAINT accounts_active_is_0_or_1 CHECK (active IN (0, 1)),
    -- One word instead of two flags: an administrator is staff.
    role TEXT NOT NULL
        CONSTRAINT accounts_role_is_known CHECK (role IN ('user', 'staff', 'admin')),
    created_at INTEGER NOT NULL,
    last_login_at INTEGER,
    -- Whether its owner has barred its tokens from changing their secret.
    rotation_locked INTEGER NOT NULL DEFAULT 0
        CONSTRAINT accounts_rotation_locked_is_0_or_1 CHECK (rotation_locked IN (0, 1)),
    CONSTRAINT accounts_email_is_folded CHECK ((email IS NULL) = (email_fold IS NULL)),
    CONSTRAINT accounts_nothing_is_not_confirmed CHECK (email IS NOT NULL OR email_confirmed_at IS NULL)
) STRICT;

-- Logging in by another case, and pages of accounts.
CREATE INDEX accounts_by_username_fold ON accounts (username_fold, username);
-- Logging in by address.
CREATE INDEX accounts_by_email ON accounts (email_fold) WHERE email_confirmed_at IS NOT NULL;
-- Pages of whoever wrote down an address, proved or not. Apart from the one above, so that no number of accounts with
-- somebody's unproved address slows down that somebody's login.
CREATE INDEX accounts_by_any_email ON accounts (email_fold, username_fold, username) WHERE email_fold IS NOT NULL;
-- The few who look after the others, in pages.
CREATE INDEX accounts_by_role ON accounts (role, username_fold, username) WHERE role <> 'user';
-- The few who may not log in, in pages.
CREATE INDEX accounts_disabled ON accounts (username_fold, username) WHERE active = 0;
-- The few different costs among many accounts.
CREATE INDEX accounts_by_password_cost ON accounts (password_cost);

-- Tries at passwords that have failed since one went well; no row where there is none. Beside the accounts and without a
-- reference to `subjects`: a host's own account is tried before any token stands for it. A name that nobody has leaves
-- no row, so that making up names fills no disk.
CREATE TABLE tries (
    -- Whose password. By account and not by what was typed: one that has several names has one count.
    subject TEXT PRIMARY KEY
        CONSTRAINT tries_subject_is_1_to_64_bytes CHECK (length(CAST(subject AS BLOB)) BETWEEN 1 AND 64),
    -- Decides how long the next one has to wait, and after a hundred that there is none. In the file, so that neither a
    -- restart nor another process gives a guesser free tries.
    failed INTEGER NOT NULL
        CONSTRAINT tries_failed_is_not_negative CHECK (failed >= 0),
    -- When the last one was made: the wait begins there.
    last INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What happened and who did it. Only added to, but that the purge forgets addresses and agents, and later removes whole
-- entries. Names stand here as text and refer to no row: an entry outlives what it is about.
CREATE TABLE audit (
    -- Its place in the order in which entries were written. Never given out twice, so that a removed entry leaves a gap
    -- and a page that was left off at a number goes on there.
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    -- By the clock of whoever wrote it, which may have been set back; `number` has the order.
    at INTEGER NOT NULL,
    -- One word. Not held to a list: the program of the version before reads what a newer one wrote.
    event TEXT NOT NULL,
    -- Who did it, so that an act of the operator is never taken for its owner's.
    actor TEXT NOT NULL
        CONSTRAINT audit_actor_is_known CHECK (actor IN ('stranger', 'holder', 'operator', 'deployment')),
    -- For a holder: whose token it was, so that what one account did is found when it turns out to be stolen.
    actor_subject TEXT,
    -- And which, so that what was done with a stolen token is told apart from what its owner did.
    actor_token BLOB
        CONSTRAINT audit_actor_token_is_16_bytes CHECK (length(actor_token) = 16),
    -- Whom it concerns: what an owner is shown of their own affairs, and what an export of theirs holds.
    subject TEXT,
    -- The client it concerns, by the name it had then.
    client TEXT,
    -- The public name of the token it concerns; its secret and digest are in no entry.
    token BLOB
        CONSTRAINT audit_token_is_16_bytes CHECK (length(token) = 16),
    -- The kind of that token, which cannot be asked for once the token is purged.
    kind TEXT
        CONSTRAINT audit_kind_is_known CHECK (kind IN ('login', 'key')),
    -- What a stranger typed as a name, as typed: it may be anything, even a password in the wrong field.
    username TEXT,
    -- Why or how much, in our own words.
    detail TEXT,
    -- Where from: personal, and therefore forgotten before the rest.
    ip TEXT,
    -- With which program, in a stranger's own words; forgotten together with the address.
    agent TEXT,
    -- How often the very same happened, so that repeating it fills no disk.
    times INTEGER NOT NULL
        CONSTRAINT audit_times_is_positive CHECK (times >= 1),
    CONSTRAINT audit_holder_is_named CHECK (
        (actor_subject IS NOT NULL) = (actor = 'holder') AND (actor_token IS NOT NULL) = (actor = 'holder')
    )
) STRICT;

-- Pages, newest first, of what concerns a subject.
CREATE INDEX audit_by_subject ON audit (subject) WHERE subject IS NOT NULL;
-- Of what a subject did.
CREATE INDEX audit_by_actor ON audit (actor_subject) WHERE actor_subject IS NOT NULL;
-- Of what concerns a token, and of what was done with it; most of the latter is in the former already.
CREATE INDEX audit_by_token ON audit (token) WHERE token IS NOT NULL;
CREATE INDEX audit_by_actor_token ON audit (actor_token) WHERE actor_token IS NOT NULL AND token IS NOT actor_token;
-- Of one event.
CREATE INDEX audit_by_event ON audit (event);
-- For the purge alone: what is to be removed, and what still tells where from.
CREATE INDEX audit_by_time ON audit (at);
CREATE INDEX audit_telling_where_from ON audit (at) WHERE ip IS NOT NULL OR agent IS NOT NULL;
