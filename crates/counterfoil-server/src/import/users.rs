//! A row of a table of users, read: [`User`].

use counterfoil::{Email, EncodedPassword, Role, SubjectId, Timestamp, Username};

use crate::import::cell::{Cell, Odd};
use crate::import::project::Users;
use crate::import::report::{Kind, Report};

/// Longest given or family name, in characters, as Django has it.
const MAX_NAME: usize = 150;

/// A user as a row has them.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) subject: SubjectId,
    pub(crate) username: Username,
    /// As it is, if it can be verified; else one that nothing matches.
    pub(crate) password: EncodedPassword,
    pub(crate) email: Option<Email>,
    pub(crate) email_confirmed: bool,
    pub(crate) first_name: String,
    pub(crate) last_name: String,
    pub(crate) active: bool,
    pub(crate) role: Role,
    pub(crate) joined_at: Option<Timestamp>,
    pub(crate) last_login_at: Option<Timestamp>,
}

/// Reads the rows of one table of users.
#[derive(Debug)]
pub(crate) struct Reader {
    names: Vec<String>,
    key_is_uuid: bool,
    username: String,
    confirmed: Option<String>,
}

const FLAGS: [&str; 3] = ["is_active", "is_staff", "is_superuser"];

impl Reader {
    pub(crate) fn new(users: &Users) -> Reader {
        let mut names = vec![users.key.clone(), users.username.clone(), "password".to_owned()];
        let wanted =
            ["email", "first_name", "last_name", "is_active", "is_staff", "is_superuser", "date_joined", "last_login"];
        let others = wanted.into_iter().chain(users.confirmed.as_deref());
        for name in others.filter(|name| users.table.column(name).is_some()) {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        Reader {
            names,
            key_is_uuid: users.key_is_uuid,
            username: users.username.clone(),
            confirmed: users.confirmed.clone(),
        }
    }

    pub(crate) fn columns(&self) -> Vec<&str> {
        self.names.iter().map(String::as_str).collect()
    }

    fn cell<'a>(&self, row: &'a [Cell], name: &str) -> Option<&'a Cell> {
        let index = self.names.iter().position(|known| known == name)?;
        row.get(index)
    }

    /// The user in a row; `None` where it has no key or no name to be had. What else is odd is told and left out, always for less:
    /// somebody whose flags cannot be read is no administrator and does not get in.
    pub(crate) fn read(&self, row: &[Cell], report: &mut Report) -> Option<User> {
        let key = row.first()?.key().map(|key| subject_text(&key, self.key_is_uuid));
        let subject: SubjectId = match key.as_ref().map(|key| key.parse()) {
            Ok(Ok(subject)) => subject,
            Ok(Err(_)) => {
                report.skip(Kind::Users, "the key is longer than 64 bytes or has control characters", "");
                return None;
            }
            Err(odd) => {
                report.skip(Kind::Users, &format!("the key {}", odd.why()), "");
                return None;
            }
        };
        let row_name = format!("user {subject}");
        let written = match row.get(1)?.some_text() {
            Ok(text) => text,
            Err(odd) => {
                report.skip(Kind::Users, &format!("{} {}", self.username, odd.why()), &row_name);
                return None;
            }
        };
        let Ok(username) = written.parse::<Username>() else {
            let why =
                "the user name is longer than 150 characters, or has control characters or white space at its ends";
            report.skip(Kind::Users, why, &row_name);
            return None;
        };
        if username.as_str() != written {
            report.change(
                "the user name is kept in its one form (Unicode's NFKC), in which it logs in as well",
                &row_name,
            );
        }
        let password = match row.get(2)?.some_text() {
            Ok(text) => {
                let password = EncodedPassword::from_store(text);
                match password.cost() {
                    Ok(_) => password,
                    // The text of the error holds no part of the row.
                    Err(error) => {
                        report.change(&format!("came without a password: {error}"), &row_name);
                        EncodedPassword::unusable()
                    }
                }
            }
            Err(Odd::Missing) => EncodedPassword::unusable(),
            Err(odd) => {
                report.change(&format!("came without a password: it {}", odd.why()), &row_name);
                EncodedPassword::unusable()
            }
        };
        let [active, staff, superuser] = FLAGS.map(|name| match self.cell(row, name).map(Cell::flag) {
            Some(Ok(flag)) => flag,
            Some(Err(odd)) => {
                report.change(&format!("{name} {}, and counts as no", odd.why()), &row_name);
                false
            }
            // A custom user without that column: Django takes them for active.
            None => name == "is_active",
        });
        let role = match (staff, superuser) {
            (_, true) => Role::Admin,
            (true, false) => Role::Staff,
            (false, false) => Role::User,
        };
        let email = self.cell(row, "email").and_then(|cell| match cell.text() {
            Ok(None | Some("")) => None,
            Ok(Some(text)) => text
                .parse::<Email>()
                .map_err(|_| report.change("came without the e-mail address: it is none", &row_name))
                .ok(),
            Err(odd) => {
                report.change(&format!("came without the e-mail address: it {}", odd.why()), &row_name);
                None
            }
        });
        let confirmed = self.confirmed.as_deref().and_then(|name| Some((name, self.cell(row, name)?)));
        let email_confirmed = confirmed.is_some_and(|(name, cell)| match cell.flag() {
            Ok(flag) => flag,
            // A time when it was confirmed, as some projects have it.
            Err(_) => match cell.time() {
                Ok(at) => at.is_some(),
                Err(odd) => {
                    report.change(&format!("{name} {}, and counts as no", odd.why()), &row_name);
                    false
                }
            },
        });
        let mut name = |column: &str| match self.cell(row, column).map(Cell::text) {
            Some(Ok(text)) => text.unwrap_or_default().chars().filter(|c| !c.is_control()).take(MAX_NAME).collect(),
            Some(Err(odd)) => {
                report.change(&format!("{column} {}, and is left out", odd.why()), &row_name);
                String::new()
            }
            None => String::new(),
        };
        let (first_name, last_name) = (name("first_name"), name("last_name"));
        let mut time = |column: &str| match self.cell(row, column).map(Cell::time) {
            Some(Ok(time)) => time,
            Some(Err(odd)) => {
                report.change(&format!("{column} {}, and is left out", odd.why()), &row_name);
                None
            }
            None => None,
        };
        Some(User {
            joined_at: time("date_joined"),
            last_login_at: time("last_login"),
            email_confirmed: email_confirmed && email.is_some(),
            subject,
            username,
            password,
            email,
            first_name,
            last_name,
            active,
            role,
        })
    }
}

/// The text that Django shows of a key: `str(user.pk)`.
pub(crate) fn subject_text(key: &str, is_uuid: bool) -> String {
    let is_bare = key.len() == 32 && key.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_uuid && is_bare {
        let key = key.to_lowercase();
        return [&key[..8], &key[8..12], &key[12..16], &key[16..20], &key[20..]].join("-");
    }
    key.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::source::{Column, Table};

    fn table(columns: &[&str]) -> Users {
        let columns = columns
            .iter()
            .map(|name| Column { name: (*name).to_owned(), primary: *name == "id", ..Column::default() })
            .collect();
        Users {
            table: Table { name: "auth_user".to_owned(), columns },
            key: "id".to_owned(),
            key_is_uuid: false,
            username: "username".to_owned(),
            confirmed: Some("email_confirmed".to_owned()),
        }
    }

    const ALL: [&str; 9] = [
        "id",
        "username",
        "password",
        "email",
        "is_active",
        "is_staff",
        "is_superuser",
        "last_login",
        "email_confirmed",
    ];

    fn read(change: impl FnOnce(&mut Vec<Cell>)) -> (Option<User>, Report) {
        let reader = Reader::new(&table(&ALL));
        assert_eq!(reader.columns(), ALL);
        let mut row = vec![
            Cell::Int(7),
            Cell::of_text("ada"),
            Cell::of_text("!x"),
            Cell::of_text("ada@example.org"),
            Cell::Int(1),
            Cell::Int(0),
            Cell::Int(0),
            Cell::Null,
            Cell::Int(1),
        ];
        change(&mut row);
        let mut report = Report::default();
        (reader.read(&row, &mut report), report)
    }

    #[test]
    fn a_sound_row_is_a_user_and_nothing_is_told() {
        let (user, report) = read(|_| ());
        let user = user.expect("a user");
        assert_eq!(
            (user.subject.as_str(), user.username.as_str(), user.active, user.role, user.email_confirmed),
            ("7", "ada", true, Role::User, true)
        );
        assert_eq!(report, Report::default());
    }

    #[test]
    fn a62_a_row_without_a_key_or_a_name_to_be_had_does_not_come() {
        let long = "x".repeat(3_000);
        for (index, cell) in [
            (0, Cell::Null),
            (0, Cell::of_text("")),
            (0, Cell::of_text("1\0")),
            (0, Cell::of_text(&long)),
            (0, Cell::Real(1.5)),
            (1, Cell::Null),
            (1, Cell::of_text("")),
            (1, Cell::of_text("a\0b")),
            (1, Cell::of_text(" ada")),
            (1, Cell::of_text(&long)),
            (1, Cell::Int(5)),
            (1, Cell::Odd(Odd::NotUtf8)),
        ] {
            let (user, report) = read(|row| row[index] = cell);
            assert!(user.is_none());
            assert_ne!(report, Report::default(), "a line of the report");
        }
    }

    #[test]
    fn a60_a_password_that_costs_too_much_or_makes_no_sense_comes_as_none() {
        for row in [
            "pbkdf2_sha256$2147483648$salt$aaaa",
            "scrypt$1073741824$salt$8$5$aaaa",
            "argon2$argon2id$v=19$m=4194304,t=2,p=8$c2FsdHNhbHQ$aaaa",
            "hunter2",
            "pbkdf2_sha256$1$\u{fc}$x",
            "sha512_crypt$x",
        ] {
            let (user, report) = read(|cells| cells[2] = Cell::of_text(row));
            assert_eq!(user.expect("a user").password.expose(), "!", "{row}");
            let told = report.to_json().to_string();
            assert!(told.contains("came without a password") && !told.contains(row), "{told}");
        }
        for odd in [Cell::Bytes(vec![0xff]), Cell::of_text("!\0"), Cell::Odd(Odd::TooLong)] {
            let (user, report) = read(|cells| cells[2] = odd);
            assert_eq!(user.expect("a user").password.expose(), "!");
            assert_ne!(report, Report::default());
        }
    }

    #[test]
    fn flags_that_cannot_be_read_let_nobody_in_and_raise_nobody() {
        let (user, report) = read(|row| {
            row[4] = Cell::of_text("perhaps");
            row[6] = Cell::Int(2);
            row[8] = Cell::of_text("si");
        });
        let user = user.expect("a user");
        assert_eq!((user.active, user.role, user.email_confirmed), (false, Role::User, false));
        assert_ne!(report, Report::default());
    }

    #[test]
    fn keys_that_are_uuids_read_as_django_shows_them() {
        let bare = "6f1d0a5e5c1b4d3e8f2a7b9c0d1e2f3a";
        assert_eq!(subject_text(bare, true), "6f1d0a5e-5c1b-4d3e-8f2a-7b9c0d1e2f3a");
        assert_eq!(subject_text(bare, false), bare);
        assert_eq!(subject_text("12", true), "12");
    }
}
