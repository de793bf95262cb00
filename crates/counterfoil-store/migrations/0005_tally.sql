-- Accounts here, tokens in another store: whether that one is theirs.

-- Random, and no secret. The other store has the same, as the halves of a stick have the same notches: only together are they a
-- deployment. NULL where no tokens have ever been kept elsewhere. Every copy carries it, because a copy goes on with the same tokens.
ALTER TABLE deployment ADD COLUMN tally BLOB
    CONSTRAINT deployment_tally_is_16_bytes CHECK (length(tally) = 16);

-- The one by which tokens are about to be begun elsewhere, written down before they are: nodes that start at once agree on it, and a
-- crash in between loses nothing. It takes the place of the one above once they are begun.
ALTER TABLE deployment ADD COLUMN next_tally BLOB
    CONSTRAINT deployment_next_tally_is_16_bytes CHECK (length(next_tally) = 16);
