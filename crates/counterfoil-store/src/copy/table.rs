//! What a store consists of: [`TABLES`].

use std::fmt;

use sha2::{Digest, Sha256};

/// What a column holds. The two stores have the same tables with the same columns; what differs is how they keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Integer,
    /// 0 or 1 in SQLite.
    Flag,
    Text,
    Bytes,
    /// Sixteen bytes: a `uuid` in PostgreSQL.
    Id,
}

/// A table that is copied.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// The first is its primary key.
    pub(crate) columns: &'static [(&'static str, Kind)],
    /// Whether its keys are drawn one after the other.
    pub(crate) is_numbered: bool,
}

impl Table {
    /// The names of its columns, as a list.
    pub(crate) fn column_list(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        names.join(", ")
    }

    /// Its primary key.
    pub(crate) fn key(&self) -> &'static str {
        self.columns.first().map_or("", |(name, _)| name)
    }
}

/// What is in one column of one row. `Debug` is for none of it: digests and passwords are among them.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    Nothing,
    Integer(i64),
    Flag(bool),
    Text(String),
    Bytes(Vec<u8>),
    Id([u8; 16]),
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cell::Nothing => f.write_str("NULL"),
            Cell::Integer(number) => write!(f, "{number}"),
            Cell::Flag(flag) => write!(f, "{flag}"),
            Cell::Text(text) => write!(f, "{text:?}"),
            Cell::Bytes(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
            Cell::Id(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}

/// What tells two tables apart, in whatever order their rows come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Checksum {
    rows: u64,
    /// The sum of the rows' digests: a row that is missing, another one or there twice changes it.
    sum: u128,
}

impl Checksum {
    pub(crate) fn add(&mut self, row: &[Cell]) {
        let mut digest = Sha256::new();
        for cell in row {
            // A tag and a length before each, so that no two rows are written alike.
            match cell {
                Cell::Nothing => digest.update([0]),
                Cell::Integer(number) => digest.update([[1].as_slice(), &number.to_be_bytes()].concat()),
                Cell::Flag(flag) => digest.update([2, u8::from(*flag)]),
                Cell::Text(text) => {
                    digest.update([[3].as_slice(), &(text.len() as u64).to_be_bytes(), text.as_bytes()].concat());
                }
                Cell::Bytes(bytes) => {
                    digest.update([[4].as_slice(), &(bytes.len() as u64).to_be_bytes(), bytes].concat());
                }
                Cell::Id(bytes) => digest.update([[5].as_slice(), bytes].concat()),
            }
        }
        let half = digest.finalize().iter().take(16).fold(0, |number: u128, byte| number << 8 | u128::from(*byte));
        self.rows += 1;
        self.sum = self.sum.wrapping_add(half);
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }
}

use Kind::{Bytes, Flag, Id, Integer, Text};

/// Every table but the one row of `deployment`, in an order in which each comes after those that it refers to.
pub(crate) const TABLES: &[Table] = &[
    Table { name: "check_keys", columns: &[("number", Integer), ("key", Bytes)], is_numbered: true },
    Table {
        name: "subjects",
        columns: &[
            ("key", Integer),
            ("name", Text),
            ("state", Text),
            ("epoch", Integer),
            ("key_epoch", Integer),
            ("ever_issued", Flag),
        ],
        is_numbered: true,
    },
    Table {
        name: "clients",
        columns: &[
            ("key", Integer),
            ("id", Id),
            ("name", Text),
            ("policy", Text),
            ("allow_login", Flag),
            ("metadata", Text),
            ("epoch", Integer),
            ("version", Integer),
            ("created_at", Integer),
            ("deleted", Flag),
        ],
        is_numbered: true,
    },
    Table {
        name: "tokens",
        columns: &[
            ("number", Integer),
            ("id", Id),
            ("kind", Text),
            ("subject", Integer),
            ("client", Integer),
            ("digest", Bytes),
            ("scheme", Text),
            ("abilities", Text),
            ("issued_at", Integer),
            ("expires_at", Integer),
            ("revoked_at", Integer),
            ("subject_epoch", Integer),
            ("client_epoch", Integer),
            ("deployment_epoch", Integer),
            ("unsettled", Flag),
            ("sealed", Bytes),
            ("sealed_key", Integer),
            ("name", Text),
            ("metadata", Text),
            ("first_ip", Text),
            ("first_agent", Text),
        ],
        is_numbered: true,
    },
    Table {
        name: "retired",
        columns: &[
            ("digest", Bytes),
            ("scheme", Text),
            ("token", Integer),
            ("grace_until", Integer),
            ("taken_back", Flag),
            ("retired_at", Integer),
        ],
        is_numbered: false,
    },
    Table {
        name: "last_seen",
        columns: &[("token", Integer), ("at", Integer), ("ip", Text), ("agent", Text)],
        is_numbered: false,
    },
    Table {
        name: "bumps",
        columns: &[
            ("number", Integer),
            ("what", Text),
            ("target", Integer),
            ("epoch", Integer),
            ("up_to", Integer),
            ("at", Integer),
        ],
        is_numbered: true,
    },
    Table {
        name: "log",
        columns: &[
            ("n", Integer),
            ("tag", Integer),
            ("at", Integer),
            ("kind", Text),
            ("digests", Bytes),
            ("subject", Text),
            ("client", Id),
        ],
        is_numbered: false,
    },
    Table {
        name: "accounts",
        columns: &[
            ("key", Integer),
            ("subject", Text),
            ("username", Text),
            ("username_fold", Text),
            ("email", Text),
            ("email_fold", Text),
            ("email_confirmed_at", Integer),
            ("password", Text),
            ("password_cost", Text),
            ("first_name", Text),
            ("last_name", Text),
            ("attributes", Text),
            ("locale", Text),
            ("active", Flag),
            ("role", Text),
            ("created_at", Integer),
            ("last_login_at", Integer),
            ("rotation_locked", Flag),
            ("username_skeleton", Text),
            ("username_skeleton_shown", Text),
        ],
        is_numbered: true,
    },
    Table { name: "tries", columns: &[("subject", Text), ("failed", Integer), ("last", Integer)], is_numbered: false },
    Table {
        name: "audit",
        columns: &[
            ("number", Integer),
            ("at", Integer),
            ("event", Text),
            ("actor", Text),
            ("actor_subject", Text),
            ("actor_token", Id),
            ("subject", Text),
            ("client", Text),
            ("token", Id),
            ("kind", Text),
            ("username", Text),
            ("detail", Text),
            ("ip", Text),
            ("agent", Text),
            ("times", Integer),
        ],
        is_numbered: true,
    },
    Table {
        name: "mails",
        columns: &[
            ("id", Id),
            ("kind", Text),
            ("purpose", Text),
            ("subject", Text),
            ("recipient", Text),
            ("languages", Text),
            ("next", Text),
            ("asked_at", Integer),
            ("expires_at", Integer),
            ("tries", Integer),
            ("next_try_at", Integer),
            ("last_error", Text),
        ],
        is_numbered: false,
    },
    Table {
        name: "links",
        columns: &[
            ("digest", Bytes),
            ("purpose", Text),
            ("subject", Text),
            ("email", Text),
            ("next", Text),
            ("expires_at", Integer),
        ],
        is_numbered: false,
    },
    Table {
        name: "registrations",
        columns: &[
            ("subject", Text),
            ("username", Text),
            ("email", Text),
            ("password", Text),
            ("first_name", Text),
            ("last_name", Text),
            ("locale", Text),
            ("expires_at", Integer),
        ],
        is_numbered: false,
    },
    Table { name: "reminders", columns: &[("one", Flag), ("until", Integer)], is_numbered: false },
    Table {
        name: "imported",
        columns: &[("source", Bytes), ("token", Id), ("subject", Text), ("mark", Bytes), ("expires_at", Integer)],
        is_numbered: false,
    },
];
