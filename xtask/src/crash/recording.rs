//! What strace wrote down of a process, as events: [`read`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use super::disk::{Change, DELETED, Synced, What, is_left_out};

/// Something that happened to the data directory, and when.
#[derive(Debug)]
pub(crate) struct Event {
    /// Nanoseconds since 1970.
    pub(crate) at: u64,
    pub(crate) what: What,
}

/// Adds the events of the log at `path` to `events`. All ids are greater than those there already.
///
/// # Errors
/// When a file in `data` was changed by a call that is not modelled, so that the recording would not be the whole truth.
pub(crate) fn read(path: &Path, data: &Path, events: &mut Vec<Event>) -> Result<(), String> {
    let complain = |what: String| format!("{}: {what}", path.display());
    let file = File::open(path).map_err(|error| complain(error.to_string()))?;
    let mut reading = Reading {
        data: data.to_str().ok_or("a data directory whose name is not UTF-8")?.to_owned(),
        events,
        calls: BTreeMap::new(),
        positions: BTreeMap::new(),
    };
    let mut lines = BufReader::with_capacity(1 << 20, file);
    let mut line = String::new();
    let mut number = 0;
    loop {
        line.clear();
        number += 1;
        if lines.read_line(&mut line).map_err(|error| complain(error.to_string()))? == 0 {
            return Ok(());
        }
        reading.line(line.trim_end()).map_err(|error| {
            let start: String = line.chars().take(300).collect();
            complain(format!("line {number}: {error}: {start}"))
        })?;
    }
}

struct Reading<'a> {
    data: String,
    events: &'a mut Vec<Event>,
    /// The call that each thread is in, with its arguments.
    calls: BTreeMap<u32, Call>,
    /// Where `write` goes next, for each descriptor of a file in the data directory.
    positions: BTreeMap<u32, usize>,
}

struct Call {
    id: usize,
    name: String,
    arguments: String,
}

impl Reading<'_> {
    /// `PID TIME NAME(ARGUMENTS) = RESULT <DURATION>`, or the same in two lines, with those of other threads between.
    fn line(&mut self, line: &str) -> Result<(), String> {
        let (thread, rest) = line.split_once(' ').ok_or("no thread")?;
        let thread: u32 = thread.parse().map_err(|_| "no thread")?;
        let (at, rest) = rest.trim_start().split_once(' ').ok_or("no time")?;
        let at = nanoseconds(at).ok_or("no time")?;
        if rest.starts_with("+++") || rest.starts_with("---") {
            return Ok(());
        }
        if let Some(resumed) = rest.strip_prefix("<... ") {
            let (_, tail) = resumed.split_once(" resumed>").ok_or("half a line")?;
            let Some(call) = self.calls.remove(&thread) else { return Err("a call that did not begin".to_owned()) };
            return self.end(at, call, tail);
        }
        let (name, rest) = rest.split_once('(').ok_or("no call")?;
        let unfinished = rest.strip_suffix(" <unfinished ...>");
        let (arguments, tail) = match unfinished {
            Some(arguments) => (arguments, ""),
            None => split_result(rest),
        };
        let id = self.events.len();
        let call = Call { id, name: name.to_owned(), arguments: arguments.to_owned() };
        self.begin(at, &call)?;
        if unfinished.is_some() {
            self.calls.insert(thread, call);
            return Ok(());
        }
        let (result, duration) = split_duration(tail);
        self.finish(at + duration, &call, result)
    }

    /// The second half of a call that was interrupted by lines of other threads.
    fn end(&mut self, at: u64, mut call: Call, tail: &str) -> Result<(), String> {
        let (more, tail) = split_result(tail);
        call.arguments.push_str(more);
        let (result, _) = split_duration(tail);
        self.finish(at, &call, result)
    }

    fn push(&mut self, at: u64, what: What) {
        self.events.push(Event { at, what });
    }

    /// What matters of a call when it begins: from then on, its effect may be on the disk.
    fn begin(&mut self, at: u64, call: &Call) -> Result<(), String> {
        let arguments = call.arguments();
        let id = call.id;
        match call.name.as_str() {
            "write" | "pwrite64" => {
                let Some(name) = self.inside(arguments[0])? else { return Ok(()) };
                let data = unescaped(arguments.get(1).ok_or("no data")?)?;
                let offset = match arguments.get(3) {
                    Some(offset) => offset.parse().map_err(|_| "no offset")?,
                    None => self.position(arguments[0])?,
                };
                if !is_left_out(&name) {
                    self.push(at, What::Began { id, name, change: Change::Write { offset, data } });
                }
            }
            "ftruncate" => {
                let Some(name) = self.inside(arguments[0])? else { return Ok(()) };
                let length = arguments.get(1).and_then(|length| length.parse().ok()).ok_or("no length")?;
                if !is_left_out(&name) {
                    self.push(at, What::Began { id, name, change: Change::SetLength(length) });
                }
            }
            "fsync" | "fdatasync" => {
                if let Some(of) = self.synced(arguments[0])? {
                    self.push(at, What::SyncBegan { id, of });
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What matters of it when it has ended.
    fn finish(&mut self, at: u64, call: &Call, result: &str) -> Result<(), String> {
        let arguments = call.arguments();
        let id = call.id;
        let number = match result.split([' ', '<']).next().unwrap_or_default() {
            // Killed meanwhile, so it has not ended.
            "?" => return Ok(()),
            address if address.starts_with("0x") => 0,
            number => number.parse::<i64>().map_err(|_| "no result")?,
        };
        let failed = number < 0;
        match call.name.as_str() {
            "write" | "pwrite64" | "ftruncate" => {
                let Some(name) = self.inside(arguments[0])? else { return Ok(()) };
                if call.name == "write" && !failed {
                    self.advance(arguments[0], number)?;
                }
                if is_left_out(&name) {
                    return Ok(());
                }
                let began = self.events.iter_mut().rev().find_map(|event| {
                    let What::Began { id: found, change, .. } = &mut event.what else { return None };
                    (*found == id).then_some(change)
                });
                match began {
                    Some(Change::Write { data, .. }) => data.truncate(usize::try_from(number).unwrap_or(0)),
                    Some(Change::SetLength(_)) if failed => return Err("a truncation that failed".to_owned()),
                    Some(Change::SetLength(_)) => {}
                    None => return Err("a change that did not begin".to_owned()),
                }
                self.push(at, What::Ended { id });
            }
            "fsync" | "fdatasync" => match self.synced(arguments[0])? {
                Some(of) if !failed => self.push(at, What::SyncEnded { id, of }),
                Some(_) | None => {}
            },
            _ if failed => {}
            "lseek" => {
                if self.inside(arguments[0])?.is_some() {
                    self.positions.insert(descriptor(arguments[0])?, usize::try_from(number).unwrap_or(0));
                }
            }
            "read" => {
                if self.inside(arguments[0])?.is_some() {
                    self.advance(arguments[0], number)?;
                }
            }
            "openat" => {
                let flags = arguments.get(2).copied().unwrap_or_default();
                if let Some(name) = self.inside(result)? {
                    if flags.contains("O_APPEND") || flags.contains("O_TMPFILE") {
                        return Err("not modelled".to_owned());
                    }
                    self.positions.insert(descriptor(result)?, 0);
                    let (creates, truncates) = (flags.contains("O_CREAT"), flags.contains("O_TRUNC"));
                    if !is_left_out(&name) && (creates || truncates) {
                        self.push(at, What::Opened { name, creates, truncates });
                    }
                }
            }
            "mkdir" | "mkdirat" => {
                let path =
                    unescaped_text(arguments.iter().find(|argument| argument.starts_with('"')).ok_or("no path")?)?;
                if path == self.data {
                    self.push(at, What::MadeDirectory);
                }
            }
            "unlink" | "unlinkat" | "link" | "linkat" | "rename" | "renameat" | "renameat2" => {
                let mut names = Vec::new();
                for argument in arguments.iter().filter(|argument| argument.starts_with('"')) {
                    let path = unescaped_text(argument)?;
                    names.extend(self.name_of(&path).map(str::to_owned));
                }
                let what = match (call.name.trim_end_matches("2").trim_end_matches("at"), names.as_slice()) {
                    (_, []) => return Ok(()),
                    (_, [name, ..]) if is_left_out(name) => return Ok(()),
                    ("unlink", [name]) => What::Removed { name: name.clone() },
                    ("link", [from, to]) => What::Linked { from: from.clone(), to: to.clone() },
                    ("rename", [from, to]) => What::Renamed { from: from.clone(), to: to.clone() },
                    _ => return Err("not modelled".to_owned()),
                };
                self.push(at, what);
            }
            "mmap" => {
                // addr, length, protection, flags, descriptor, offset
                let shared = arguments.get(3).is_some_and(|flags| flags.contains("MAP_SHARED"));
                let writable = arguments.get(2).is_some_and(|protection| protection.contains("PROT_WRITE"));
                if let (true, true, Some(file)) = (shared, writable, arguments.get(4))
                    && self.inside(file)?.is_some_and(|name| !is_left_out(&name))
                {
                    return Err("not modelled".to_owned());
                }
            }
            // Whatever else touches the data directory is not modelled.
            _ => {
                for argument in arguments {
                    let path_is_inside = argument.starts_with('"')
                        && unescaped_text(argument).is_ok_and(|path| self.name_of(&path).is_some());
                    if path_is_inside || (argument.contains("<\\x") && self.inside(argument)?.is_some()) {
                        return Err("not modelled".to_owned());
                    }
                }
            }
        }
        Ok(())
    }

    fn position(&self, file: &str) -> Result<usize, String> {
        self.positions.get(&descriptor(file)?).copied().ok_or_else(|| "where it writes is unknown".to_owned())
    }

    fn advance(&mut self, file: &str, by: i64) -> Result<(), String> {
        let position = self.position(file)? + usize::try_from(by).unwrap_or(0);
        self.positions.insert(descriptor(file)?, position);
        Ok(())
    }

    fn synced(&self, file: &str) -> Result<Option<Synced>, String> {
        let Some(path) = path_of(file)? else { return Ok(None) };
        Ok(match self.name_of(&path) {
            Some(name) if is_left_out(name) => None,
            Some(name) => Some(Synced::File(name.to_owned())),
            None if path == self.data => Some(Synced::Names),
            None if Path::new(&self.data).parent() == Some(Path::new(&path)) => Some(Synced::Parent),
            None => None,
        })
    }

    /// The name of an open file `FD<PATH>` in the data directory.
    fn inside(&self, file: &str) -> Result<Option<String>, String> {
        Ok(path_of(file)?.and_then(|path| self.name_of(&path).map(str::to_owned)))
    }

    fn name_of<'p>(&self, path: &'p str) -> Option<&'p str> {
        path.strip_prefix(&self.data)?.strip_prefix('/')
    }
}

impl Call {
    /// Strings and paths are all in hexadecimal, so a comma is never part of one.
    fn arguments(&self) -> Vec<&str> {
        self.arguments.split(", ").map(str::trim).collect()
    }
}

/// `ARGUMENTS) = RESULT`, where there may be blanks before the equals sign.
fn split_result(text: &str) -> (&str, &str) {
    match text.rsplit_once(" = ") {
        Some((arguments, result)) => (arguments.trim_end().trim_end_matches(')'), result),
        None => (text, ""),
    }
}

/// `RESULT <SECONDS>`.
fn split_duration(text: &str) -> (&str, u64) {
    match text.rsplit_once(" <") {
        Some((result, duration)) => (result, nanoseconds(duration.trim_end_matches('>')).unwrap_or(0)),
        None => (text, 0),
    }
}

/// Seconds with nine digits after the point.
fn nanoseconds(text: &str) -> Option<u64> {
    let (seconds, fraction) = text.split_once('.')?;
    (fraction.len() == 9).then_some(())?;
    Some(seconds.parse::<u64>().ok()? * 1_000_000_000 + fraction.parse::<u64>().ok()?)
}

fn descriptor(file: &str) -> Result<u32, String> {
    let digits = file.split('<').next().unwrap_or_default();
    digits.parse().map_err(|_| format!("{digits:?} is no descriptor"))
}

/// The path in `FD<PATH>`; `None` where there is none, as for a socket.
fn path_of(file: &str) -> Result<Option<String>, String> {
    let Some((_, path)) = file.split_once("<\\x") else { return Ok(None) };
    let Some((path, after)) = path.split_once('>') else { return Ok(None) };
    let mut path = hexadecimal(&format!("\\x{path}"))?;
    if after.contains("(deleted)") {
        path.extend_from_slice(DELETED.as_bytes());
    }
    Ok(String::from_utf8(path).ok())
}

fn unescaped_text(quoted: &str) -> Result<String, String> {
    String::from_utf8(unescaped(quoted)?).map_err(|_| "a path that is not UTF-8".to_owned())
}

/// The bytes of a string that strace printed with `-xx`.
fn unescaped(quoted: &str) -> Result<Vec<u8>, String> {
    if quoted.ends_with("...") {
        return Err("a string that was cut short".to_owned());
    }
    hexadecimal(quoted.trim_matches('"'))
}

/// `\x63\x66` and so on.
fn hexadecimal(text: &str) -> Result<Vec<u8>, String> {
    let bytes = text.as_bytes();
    if !bytes.len().is_multiple_of(4) {
        return Err("a string that is not hexadecimal".to_owned());
    }
    let digit = |byte: u8| (byte as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |piece: &[u8]| match piece {
        [b'\\', b'x', high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    bytes.chunks(4).map(byte).collect::<Option<_>>().ok_or_else(|| "a string that is not hexadecimal".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> String {
        text.bytes().map(|byte| format!("\\x{byte:02x}")).collect()
    }

    fn events(lines: &[String]) -> Result<Vec<(u64, What)>, String> {
        let mut events = Vec::new();
        let mut reading =
            Reading { data: "/d".to_owned(), events: &mut events, calls: BTreeMap::new(), positions: BTreeMap::new() };
        lines.iter().try_for_each(|line| reading.line(line))?;
        Ok(events.into_iter().map(|event| (event.at, event.what)).collect())
    }

    #[test]
    fn a_call_in_two_lines_is_one_and_others_may_come_between() {
        let (a, d) = (hex("/d/a"), hex("/d"));
        let found = events(&[
            format!("7 1.000000001 openat(AT_FDCWD<{d}>, \"{a}\", O_RDWR|O_CREAT, 0600) = 3<{a}> <0.000000004>"),
            format!("7 1.000000010 pwrite64(3<{a}>, \"{}\", 2, 4096 <unfinished ...>", hex("hi")),
            format!("8 1.000000011 fdatasync(3<{a}>)      = 0 <0.000000001>"),
            "7 1.000000020 <... pwrite64 resumed>) = 2 <0.000000010>".to_owned(),
            format!("8 1.000000030 write(2<{}>, \"{}\", 2) = 2 <0.000000001>", hex("/dev/null"), hex("no")),
            format!("8 1.000000040 unlink(\"{a}\")      = 0 <0.000000001>"),
        ])
        .expect("readable");
        let name = || "a".to_owned();
        let change = Change::Write { offset: 4096, data: b"hi".to_vec() };
        let of = Synced::File(name());
        let expected = [
            (1_000_000_005, What::Opened { name: name(), creates: true, truncates: false }),
            (1_000_000_010, What::Began { id: 1, name: name(), change }),
            (1_000_000_011, What::SyncBegan { id: 2, of: of.clone() }),
            (1_000_000_012, What::SyncEnded { id: 2, of }),
            (1_000_000_020, What::Ended { id: 1 }),
            (1_000_000_041, What::Removed { name: name() }),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_write_goes_where_the_descriptor_stands() {
        let (a, d) = (hex("/d/a"), hex("/d"));
        let found = events(&[
            format!("7 1.000000000 openat(AT_FDCWD<{d}>, \"{a}\", O_RDWR) = 3<{a}> <0.000000000>"),
            format!("7 1.000000001 read(3<{a}>, \"{}\", 100) = 2 <0.000000000>", hex("xy")),
            format!("7 1.000000002 write(3<{a}>, \"{}\", 1) = 1 <0.000000000>", hex("z")),
            format!("7 1.000000003 lseek(3<{a}>, 0, SEEK_SET) = 0 <0.000000000>"),
            format!("7 1.000000004 write(3<{a}>, \"{}\", 1) = ?", hex("z")),
        ])
        .expect("readable");
        let offsets: Vec<usize> = found
            .iter()
            .filter_map(|(_, what)| {
                let What::Began { change: Change::Write { offset, .. }, .. } = what else { return None };
                Some(*offset)
            })
            .collect();
        assert_eq!(offsets, [2, 0]);
        assert_eq!(found.iter().filter(|(_, what)| matches!(what, What::Ended { .. })).count(), 1);
    }

    #[test]
    fn a_change_that_is_not_modelled_is_an_error() {
        let a = hex("/d/a");
        for call in [
            format!("fallocate(3<{a}>, 0, 0, 4096) = 0 <0.000000000>"),
            format!("mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 3<{a}>, 0) = 0x7f0000000000 <0.000000000>"),
            format!("symlink(\"{}\", \"{a}\") = 0 <0.000000000>", hex("/d/b")),
        ] {
            events(&[format!("7 1.000000000 {call}")]).expect_err(&call);
        }
        let shm = hex("/d/a-shm");
        let call = format!("mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 3<{shm}>, 0) = 0x7f0 <0.000000000>");
        assert_eq!(events(&[format!("7 1.000000000 {call}")]), Ok(Vec::new()));
    }
}
