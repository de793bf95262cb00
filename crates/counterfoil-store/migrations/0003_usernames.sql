-- What people see in a user name, so that nobody registers one that looks like somebody else's.

-- The skeletons (UTS 39 §4) of the folded name and of the name as it is shown. Empty where a program of the version before has
-- made the account meanwhile: they are filled in before anybody's is compared. They belong to a version of Unicode: another
-- one makes them anew, in a migration.
ALTER TABLE accounts ADD COLUMN username_skeleton TEXT;
ALTER TABLE accounts ADD COLUMN username_skeleton_shown TEXT;

CREATE INDEX accounts_by_username_skeleton ON accounts (username_skeleton);
CREATE INDEX accounts_by_username_skeleton_shown ON accounts (username_skeleton_shown);

-- A function of ours, because SQLite knows nothing of look-alikes.
UPDATE accounts
SET username_skeleton = username_skeleton_of(username), username_skeleton_shown = username_skeleton_shown_of(username);
