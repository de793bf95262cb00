-- Accounts here, tokens in another store: whether that one is theirs. See SQLite's migration of this name for what the two columns
-- mean.

ALTER TABLE deployment
    ADD COLUMN tally uuid,
    ADD COLUMN next_tally uuid;
