//! A dump: what `manage.py dumpdata` writes, as one JSON array or as JSON lines.
//!
//! Read anew for each table, entry by entry, so that a dump larger than memory is no harder than a small one.

use std::cell::Cell as Counter;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::Deserializer;
use serde::de::{self, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{Column, Source, Table};
use crate::failure::Failure;
use crate::import::cell::{Cell, Odd};

/// Longest entry, in bytes. A user is one kilobyte.
const MAX_ENTRY: u64 = 4 * 1024 * 1024;
/// Most tables, and most columns of one, that are looked at.
const MAX_NAMES: usize = 2_000;

pub(super) struct Dump {
    path: PathBuf,
    /// How many entries of each table there were when its tables were read.
    counts: BTreeMap<String, u64>,
    strays: u64,
}

impl Dump {
    pub(super) fn open(path: &Path) -> Result<Dump, Failure> {
        super::is_a_file(path)?;
        File::open(path).map_err(|error| Failure::caused_by(format!("cannot read {}", path.display()), &error))?;
        Ok(Dump { path: path.to_owned(), counts: BTreeMap::new(), strays: 0 })
    }

    /// Calls `each` with every entry: its table, its key and its fields; and with `None` for what is no entry.
    fn entries(&self, each: &mut dyn FnMut(Option<Entry>) -> Result<(), Failure>) -> Result<(), Failure> {
        let failed =
            |error: &dyn std::error::Error| Failure::caused_by(format!("cannot read {}", self.path.display()), error);
        let budget = Rc::new(Counter::new(MAX_ENTRY));
        let file = File::open(&self.path).map_err(|error| failed(&error))?;
        let mut reader = BufReader::with_capacity(256 * 1024, file);
        let is_array = begins_with_bracket(&mut reader).map_err(|error| failed(&error))?;
        let mut refused = None;
        let mut take = |value: Value| {
            budget.set(MAX_ENTRY);
            each(Entry::of(value)).map_err(|failure| refused = Some(failure)).is_ok()
        };
        let bounded = Bounded { reader, budget: Rc::clone(&budget) };
        let mut deserializer = serde_json::Deserializer::from_reader(bounded);
        let read = if is_array {
            deserializer
                .deserialize_seq(Entries(&mut take))
                .and_then(|complete| if complete { deserializer.end() } else { Ok(()) })
        } else {
            let mut read = Ok(());
            for value in deserializer.into_iter::<Value>() {
                match value.map(&mut take) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        read = Err(error);
                        break;
                    }
                }
            }
            read
        };
        match (refused, read) {
            (Some(failure), _) => Err(failure),
            (None, Ok(())) => Ok(()),
            // Where it is, and not what is there.
            (None, Err(error)) => Err(Failure::refused(format!(
                "{} is no dump from line {} column {} on: {}",
                self.path.display(),
                error.line(),
                error.column(),
                match error.classify() {
                    serde_json::error::Category::Io => "an entry is too long, or the file cannot be read",
                    serde_json::error::Category::Eof => "it ends too early",
                    serde_json::error::Category::Syntax | serde_json::error::Category::Data => "that is not JSON",
                }
            ))),
        }
    }
}

/// One entry: `{"model": "auth.user", "pk": 1, "fields": {…}}`.
struct Entry {
    table: String,
    key: Value,
    fields: Map<String, Value>,
}

impl Entry {
    fn of(value: Value) -> Option<Entry> {
        let Value::Object(mut entry) = value else { return None };
        let Some(Value::String(model)) = entry.remove("model") else { return None };
        let Some(Value::Object(fields)) = entry.remove("fields") else { return None };
        let (app, model) = model.split_once('.')?;
        let fits = |name: &str| (1..=100).contains(&name.len()) && !name.contains(char::is_control);
        (fits(app) && fits(model)).then(|| Entry {
            table: format!("{app}_{model}").to_lowercase(),
            key: entry.remove("pk").unwrap_or(Value::Null),
            fields,
        })
    }

    /// The value of a column. A reference is called `user` in a dump and `user_id` in a database; the key has no name there.
    fn cell(&self, name: &str, is_key: bool) -> Cell {
        if is_key {
            return cell(&self.key);
        }
        let value = self.fields.get(name).or_else(|| self.fields.get(name.strip_suffix("_id")?));
        value.map_or(Cell::Null, cell)
    }
}

fn cell(value: &Value) -> Cell {
    match value {
        Value::Null => Cell::Null,
        Value::Bool(flag) => Cell::Flag(*flag),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Cell::Int(number),
            (None, Some(number)) => Cell::Real(number),
            (None, None) => Cell::Odd(Odd::Type),
        },
        Value::String(text) => Cell::of_text(text),
        Value::Array(_) => Cell::Odd(Odd::NaturalKey),
        Value::Object(_) => Cell::Odd(Odd::Type),
    }
}

/// The column that a table's entries have their key in.
fn key_of(table: &str) -> &'static str {
    match table {
        "authtoken_token" => "key",
        "knox_authtoken" => "digest",
        "rest_authtoken_authtoken" | "rest_authtoken_emailconfirmationtoken" => "hashed_token",
        _ => "id",
    }
}

impl Source for Dump {
    fn look(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn tables(&mut self) -> Result<Vec<Table>, Failure> {
        let mut tables: BTreeMap<String, Vec<Column>> = BTreeMap::new();
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        let mut strays = 0;
        self.entries(&mut |entry| {
            let Some(entry) = entry else {
                strays += 1;
                return Ok(());
            };
            if !tables.contains_key(&entry.table) && tables.len() == MAX_NAMES {
                strays += 1;
                return Ok(());
            }
            *counts.entry(entry.table.clone()).or_default() += 1;
            let columns = tables.entry(entry.table).or_insert_with_key(|table| {
                vec![Column { name: key_of(table).to_owned(), primary: true, ..Column::default() }]
            });
            for (name, value) in &entry.fields {
                let is_known = |column: &Column| {
                    column.name == *name || column.name.strip_suffix("_id").is_some_and(|short| short == name)
                };
                // Many to many, which is a table of its own in a database.
                let is_list = value.is_array() && !matches!(name.as_str(), "user" | "client");
                if columns.len() < MAX_NAMES && !is_list && !columns.iter().any(is_known) {
                    let is_reference = matches!(name.as_str(), "user" | "client");
                    let name = if is_reference { format!("{name}_id") } else { name.clone() };
                    columns.push(Column { name, ..Column::default() });
                }
            }
            Ok(())
        })?;
        self.counts = counts;
        self.strays = strays;
        Ok(tables.into_iter().map(|(name, columns)| Table { name, columns }).collect())
    }

    fn strays(&self) -> u64 {
        self.strays
    }

    fn count(&mut self, table: &Table) -> Result<u64, Failure> {
        Ok(self.counts.get(&table.name).copied().unwrap_or(0))
    }

    fn rows(
        &mut self,
        table: &Table,
        columns: &[&str],
        each: &mut dyn FnMut(&[Cell]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let key = table.primary().map_or("id", |column| column.name.as_str());
        let mut cells = Vec::with_capacity(columns.len());
        self.entries(&mut |entry| match entry {
            Some(entry) if entry.table == table.name => {
                cells.clear();
                cells.extend(columns.iter().map(|name| entry.cell(name, *name == key)));
                each(&cells)
            }
            Some(_) | None => Ok(()),
        })
    }
}

/// Whether the first thing in it is the bracket of an array; what stands before it is passed over.
fn begins_with_bracket(reader: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let buffer = reader.fill_buf()?;
        let Some(&first) = buffer.first() else { return Ok(false) };
        // Windows writes a mark of the order of bytes in front.
        if !(first.is_ascii_whitespace() || [0xef, 0xbb, 0xbf].contains(&first)) {
            return Ok(first == b'[');
        }
        reader.consume(1);
    }
}

/// Hands each element of an array on, until that says no; whether it came to the end.
struct Entries<'a>(&'a mut dyn FnMut(Value) -> bool);

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<bool, A::Error> {
        while let Some(entry) = entries.next_element::<Value>()? {
            if !(self.0)(entry) {
                return Err(de::Error::custom("told to stop"));
            }
        }
        Ok(true)
    }
}

/// Fails once more has been read than the budget has, so that one entry cannot fill the memory.
struct Bounded<R> {
    reader: R,
    budget: Rc<Counter<u64>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        match self.budget.get().checked_sub(count as u64) {
            Some(left) => self.budget.set(left),
            None => return Err(io::Error::other("an entry is too long")),
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn dump(text: &str) -> (tempfile::NamedTempFile, Dump) {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        let dump = Dump::open(file.path()).expect("a dump");
        (file, dump)
    }

    const ENTRIES: [&str; 4] = [
        r#"{"model": "auth.user", "pk": 1, "fields": {"username": "ada", "is_active": true, "groups": []}}"#,
        r#"{"model": "durin.authtoken", "pk": 7, "fields": {"token": "aa", "user": 1, "client": 2}}"#,
        r#"{"model": "authtoken.token", "pk": "bb", "fields": {"user": ["ada"]}}"#,
        r#"{"model": 5}"#,
    ];

    #[test]
    fn an_array_and_lines_read_alike_and_columns_are_called_as_in_the_database() {
        for text in [format!("\u{feff} [{}]\n", ENTRIES.join(",\n ")), ENTRIES.join("\n")] {
            let (_file, mut dump) = dump(&text);
            let tables = dump.tables().expect("tables");
            let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
            assert_eq!(names, ["auth_user", "authtoken_token", "durin_authtoken"]);
            assert_eq!(dump.strays(), 1);
            assert!(tables[0].column("groups").is_none());
            assert!(tables[2].column("user_id").is_some());
            let mut seen = Vec::new();
            let mut read = |dump: &mut Dump, table: &Table, columns: &[&str]| {
                dump.rows(table, columns, &mut |row| {
                    seen.push(row.to_vec());
                    Ok(())
                })
                .expect("rows");
            };
            read(&mut dump, &tables[0], &["id", "username", "is_active", "email"]);
            read(&mut dump, &tables[2], &["id", "token", "user_id", "client_id"]);
            read(&mut dump, &tables[1], &["key", "user_id"]);
            let text = Cell::of_text;
            assert_eq!(seen[0], [Cell::Int(1), text("ada"), Cell::Flag(true), Cell::Null]);
            assert_eq!(seen[1], [Cell::Int(7), text("aa"), Cell::Int(1), Cell::Int(2)]);
            assert_eq!(seen[2], [text("bb"), Cell::Odd(Odd::NaturalKey)]);
        }
    }

    #[test]
    fn what_is_no_dump_is_said_to_be_none_and_not_quoted() {
        let long = format!(r#"[{{"model": "a.b", "fields": {{"x": "{}"}}}}]"#, "hunter2".repeat(1_000_000));
        let deep = "[".repeat(100_000);
        for text in ["[{\"model\": hunter2", "[\"hunter2\"", "[1 2]", "{\"model\":\"hunter2\"} ]", &long, &deep] {
            let (_file, mut dump) = dump(text);
            let failure = dump.tables().expect_err("no dump");
            assert!(!failure.to_string().contains("hunter2"), "{failure}");
        }
        assert!(Dump::open(Path::new("/no/such/file")).is_err());
        assert!(dump("").1.tables().expect("an empty one").is_empty());
    }
}
