-- What was brought over from another system, so that it is brought once, whatever has become of it here. Emptied when an import is
-- declared finished.
CREATE TABLE imported (
    -- A digest of what names the row in its source: a source may name it by a secret.
    source BLOB PRIMARY KEY
        CONSTRAINT imported_source_is_32_bytes CHECK (length(source) = 32),
    -- The token that was made of it, by its public name: it may be purged before this row is. NULL for an account.
    token BLOB
        CONSTRAINT imported_token_is_16_bytes CHECK (length(token) = 16),
    -- The account that was made of it. NULL for a token.
    subject TEXT,
    -- A digest of the account's password as it was brought last: one that is another here was changed here, and stays. NULL for a token.
    mark BLOB
        CONSTRAINT imported_mark_is_32_bytes CHECK (length(mark) = 32),
    -- When the token expires in its source, as it was read last: one that is gone there because it has expired was not ended there.
    expires_at INTEGER,
    CONSTRAINT imported_is_a_token_or_an_account CHECK ((token IS NULL) <> (subject IS NULL)),
    CONSTRAINT imported_mark_is_of_an_account CHECK ((mark IS NULL) = (subject IS NULL))
) STRICT, WITHOUT ROWID;
