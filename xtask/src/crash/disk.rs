//! What a disk may hold after the power is cut: [`Disk`].
//!
//! The model, which `docs/crashes.md` tells in prose: what was written to a file is safe once an `fsync` or `fdatasync` of
//! that file, begun after the write had ended, has returned without an error. A name is safe once an `fsync` of its
//! directory has. Everything else may be there, be missing, or be there in part, sector by sector.

use std::collections::BTreeMap;

use super::chance::Chance;

const SECTOR: usize = 512;

/// Something that happened to the data directory, in the order in which it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// The data directory itself was made.
    MadeDirectory,
    /// A file was opened.
    Opened {
        name: String,
        creates: bool,
        truncates: bool,
    },
    /// A change of a file has begun; `id` is unique.
    Began {
        id: usize,
        name: String,
        change: Change,
    },
    /// The change `id` has ended.
    Ended {
        id: usize,
    },
    /// An fsync has begun.
    SyncBegan {
        id: usize,
        of: Synced,
    },
    /// It has returned without an error.
    SyncEnded {
        id: usize,
        of: Synced,
    },
    Linked {
        from: String,
        to: String,
    },
    Renamed {
        from: String,
        to: String,
    },
    Removed {
        name: String,
    },
}

/// What an fsync was of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Synced {
    File(String),
    /// The data directory: the names in it.
    Names,
    /// The directory that the data directory is in.
    Parent,
}

/// A change to what a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Write { offset: usize, data: Vec<u8> },
    SetLength(usize),
}

/// Files, names, and what of both is safe.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    files: Vec<File>,
    /// As programs see them now.
    names: BTreeMap<String, usize>,
    /// Files whose last name of this kind has gone, which may still be open under it.
    gone: BTreeMap<String, usize>,
    safe_names: BTreeMap<String, usize>,
    pending_names: Vec<Renaming>,
    directory: bool,
    safe_directory: bool,
    /// Changes of files begun so far, by id, and fsyncs under way with what they cover.
    under_way: BTreeMap<usize, Covers>,
    steps: usize,
}

#[derive(Debug, Default)]
struct File {
    safe: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Debug)]
struct Pending {
    id: usize,
    change: Change,
    /// When it ended, in steps.
    ended: Option<usize>,
}

#[derive(Debug, Clone)]
enum Renaming {
    Add(String, usize),
    Remove(String),
    Move(String, String, usize),
}

/// An fsync makes safe what had ended before it began.
#[derive(Debug)]
struct Covers {
    before: usize,
    file: Option<usize>,
    names: usize,
}

/// What a cut leaves.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Image {
    /// `None`: not even the directory.
    pub(crate) files: Option<BTreeMap<String, Vec<u8>>>,
}

/// Which part of what is not safe survives.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mood {
    Nothing,
    Everything,
    /// All that came before some instant.
    Prefix,
    /// Each change is kept, dropped or torn by itself.
    EachByItself,
    /// Each sector is kept or dropped by itself.
    EachSector,
}

impl Mood {
    pub(crate) const ALL: &[Mood] =
        &[Mood::Nothing, Mood::Everything, Mood::Prefix, Mood::EachByItself, Mood::EachByItself, Mood::EachSector];
}

/// The shared memory of SQLite's wal-index. It is written through a mapping, which no system call shows, and rebuilt by
/// whoever opens the database first.
pub(crate) fn is_left_out(name: &str) -> bool {
    name.ends_with("-shm")
}

impl Disk {
    /// Lets `what` happen.
    ///
    /// # Errors
    /// When it cannot have happened, which means that something was not recorded.
    pub(crate) fn step(&mut self, what: &What) -> Result<(), String> {
        self.steps += 1;
        match what {
            What::MadeDirectory => self.directory = true,
            What::Opened { name, creates, truncates } => {
                if *creates && !self.names.contains_key(name) {
                    self.files.push(File::default());
                    let file = self.files.len() - 1;
                    self.name(Renaming::Add(name.clone(), file));
                }
                if *truncates {
                    let ended = Some(self.steps);
                    let file = self.file(name)?;
                    let id = usize::MAX;
                    self.files[file].pending.push(Pending { id, change: Change::SetLength(0), ended });
                }
            }
            What::Began { id, name, change } => {
                let file = self.file(name)?;
                self.files[file].pending.push(Pending { id: *id, change: change.clone(), ended: None });
            }
            What::Ended { id } => {
                let steps = self.steps;
                let changes = self.files.iter_mut().flat_map(|file| file.pending.iter_mut().rev());
                for change in changes.filter(|change| change.id == *id) {
                    change.ended = Some(steps);
                }
            }
            What::SyncBegan { id, of } => {
                let file = match of {
                    Synced::File(name) => Some(self.file(name)?),
                    Synced::Names | Synced::Parent => None,
                };
                let covers = Covers { before: self.steps, file, names: self.pending_names.len() };
                self.under_way.insert(*id, covers);
            }
            What::SyncEnded { id, of } => {
                let Some(covers) = self.under_way.remove(id) else {
                    return Err(format!("fsync {id} ended and had not begun"));
                };
                match of {
                    Synced::File(_) => {
                        if let Some(file) = covers.file {
                            self.files[file].make_safe(covers.before);
                        }
                    }
                    Synced::Names => {
                        let count = covers.names.min(self.pending_names.len());
                        for renaming in self.pending_names.drain(..count) {
                            renaming.apply(&mut self.safe_names);
                        }
                        for other in self.under_way.values_mut() {
                            other.names = other.names.saturating_sub(count);
                        }
                    }
                    Synced::Parent => self.safe_directory = self.directory,
                }
            }
            What::Linked { from, to } => {
                let file = self.file(from)?;
                self.name(Renaming::Add(to.clone(), file));
            }
            What::Renamed { from, to } => {
                let file = self.file(from)?;
                self.name(Renaming::Move(from.clone(), to.clone(), file));
            }
            What::Removed { name } => {
                let file = self.file(name)?;
                self.gone.insert(name.clone(), file);
                self.name(Renaming::Remove(name.clone()));
            }
        }
        Ok(())
    }

    fn name(&mut self, renaming: Renaming) {
        renaming.apply(&mut self.names);
        self.pending_names.push(renaming);
    }

    /// The file that has, or last had, this name.
    fn file(&self, name: &str) -> Result<usize, String> {
        let found = match name.strip_suffix(DELETED) {
            Some(name) => self.gone.get(name),
            None => self.names.get(name),
        };
        found.copied().ok_or_else(|| format!("{name} is used and was never made"))
    }

    /// What a program would read now, but for what is left out.
    pub(crate) fn current(&self) -> BTreeMap<String, Vec<u8>> {
        let content = |file: usize| {
            let file = &self.files[file];
            let mut content = file.safe.clone();
            file.pending.iter().for_each(|pending| pending.change.apply(&mut content));
            content
        };
        let shown = self.names.iter().filter(|(name, _)| !is_left_out(name));
        shown.map(|(name, file)| (name.clone(), content(*file))).collect()
    }

    /// Changes that have begun and never ended, because the process was killed meanwhile: id, name and change.
    pub(crate) fn unfinished(&self) -> Vec<(usize, String, Change)> {
        let mut unfinished = Vec::new();
        for (name, file) in &self.names {
            for pending in self.files[*file].pending.iter().filter(|pending| pending.ended.is_none()) {
                unfinished.push((pending.id, name.clone(), pending.change.clone()));
            }
        }
        unfinished
    }

    /// One of the states in which a power cut now could leave the disk.
    pub(crate) fn cut(&self, mood: Mood, chance: &mut Chance) -> Image {
        if !self.directory || (!self.safe_directory && !self.survives(mood, chance)) {
            return Image { files: None };
        }
        let mut names = self.safe_names.clone();
        let until = match mood {
            Mood::Prefix => chance.below(self.pending_names.len() + 1),
            Mood::Nothing | Mood::Everything | Mood::EachByItself | Mood::EachSector => self.pending_names.len(),
        };
        for renaming in &self.pending_names[..until] {
            if self.survives(mood, chance) {
                renaming.apply(&mut names);
            }
        }
        // A file with two names is one file under both.
        let mut contents: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        let mut files = BTreeMap::new();
        for (name, file) in names.into_iter().filter(|(name, _)| !is_left_out(name)) {
            let content = contents.entry(file).or_insert_with(|| self.files[file].cut(mood, chance)).clone();
            files.insert(name, content);
        }
        Image { files: Some(files) }
    }

    fn survives(&self, mood: Mood, chance: &mut Chance) -> bool {
        match mood {
            Mood::Nothing => false,
            Mood::Everything | Mood::Prefix => true,
            Mood::EachByItself | Mood::EachSector => chance.one_in(2),
        }
    }
}

/// What the kernel adds to the path of an open file that has no name any more.
pub(crate) const DELETED: &str = " (deleted)";

impl File {
    /// What ended before `step` is safe from now on. Only up to the first change that had not: later ones lie upon it.
    fn make_safe(&mut self, step: usize) {
        let covered = |pending: &Pending| pending.ended.is_some_and(|ended| ended < step);
        let count = self.pending.iter().take_while(|pending| covered(pending)).count();
        for pending in self.pending.drain(..count) {
            pending.change.apply(&mut self.safe);
        }
    }

    fn cut(&self, mood: Mood, chance: &mut Chance) -> Vec<u8> {
        let mut content = self.safe.clone();
        let until = match mood {
            Mood::Prefix => chance.below(self.pending.len() + 1),
            Mood::Nothing | Mood::Everything | Mood::EachByItself | Mood::EachSector => self.pending.len(),
        };
        for (at, pending) in self.pending[..until].iter().enumerate() {
            match mood {
                Mood::Nothing => {}
                Mood::Everything => pending.change.apply(&mut content),
                Mood::Prefix if at + 1 < until => pending.change.apply(&mut content),
                Mood::Prefix => pending.change.apply_in_part(&mut content, &mut first_sectors(chance)),
                Mood::EachByItself => match chance.below(4) {
                    0 => {}
                    1 => pending.change.apply_in_part(&mut content, &mut first_sectors(chance)),
                    _ => pending.change.apply(&mut content),
                },
                Mood::EachSector => pending.change.apply_in_part(&mut content, &mut |_, _| chance.one_in(2)),
            }
        }
        content
    }
}

/// Keeps sectors up to one that is drawn when the first is asked about.
fn first_sectors(chance: &mut Chance) -> impl FnMut(usize, usize) -> bool {
    let mut most = None;
    move |sector, count| sector < *most.get_or_insert_with(|| chance.below(count + 1))
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Change::Write { offset, data } => {
                let end = offset + data.len();
                content.resize(content.len().max(end), 0);
                content[*offset..end].copy_from_slice(data);
            }
            Change::SetLength(length) => content.resize(*length, 0),
        }
    }

    /// Applies those sectors of it that `keep` names, which is told which one of how many. The length is metadata and may have
    /// arrived although the data has not: then there are zeros.
    fn apply_in_part(&self, content: &mut Vec<u8>, keep: &mut dyn FnMut(usize, usize) -> bool) {
        match self {
            Change::Write { offset, data } => {
                let end = offset + data.len();
                let (first, last) = (offset / SECTOR, end.saturating_sub(1) / SECTOR);
                let count = last - first + 1;
                if keep(0, count + 1) {
                    content.resize(content.len().max(end), 0);
                }
                for sector in first..=last {
                    let from = (sector * SECTOR).max(*offset);
                    let to = ((sector + 1) * SECTOR).min(end);
                    if from < to && keep(sector - first, count) {
                        content.resize(content.len().max(to), 0);
                        content[from..to].copy_from_slice(&data[from - offset..to - offset]);
                    }
                }
            }
            Change::SetLength(_) => {
                if keep(0, 1) {
                    self.apply(content);
                }
            }
        }
    }
}

impl Renaming {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Renaming::Add(name, file) => {
                names.insert(name.clone(), *file);
            }
            Renaming::Remove(name) => {
                names.remove(name);
            }
            Renaming::Move(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(name: &str) -> What {
        What::Opened { name: name.to_owned(), creates: true, truncates: false }
    }

    fn write(id: usize, offset: usize, data: &[u8]) -> What {
        What::Began { id, name: "a".to_owned(), change: Change::Write { offset, data: data.to_vec() } }
    }

    fn synced(id: usize, of: Synced) -> [What; 2] {
        [What::SyncBegan { id, of: of.clone() }, What::SyncEnded { id, of }]
    }

    fn disk(story: &[What]) -> Disk {
        let mut disk = Disk::default();
        story.iter().for_each(|what| disk.step(what).expect("possible"));
        disk
    }

    /// A directory and a file in it whose names are safe.
    fn beginning() -> Vec<What> {
        let mut story = vec![What::MadeDirectory];
        story.extend(synced(900, Synced::Parent));
        story.push(opened("a"));
        story.extend(synced(901, Synced::Names));
        story
    }

    fn images(story: &[What]) -> Vec<BTreeMap<String, Vec<u8>>> {
        let disk = disk(story);
        let mut chance = Chance::from_seed(5);
        let cuts = (0..400).map(|_| disk.cut(*chance.pick(Mood::ALL), &mut chance.fork(1)));
        let mut images: Vec<_> = cuts.filter_map(|image| image.files).collect();
        images.sort();
        images.dedup();
        images
    }

    #[test]
    fn f02_what_was_synced_is_in_every_image() {
        let mut story = beginning();
        story.extend([write(1, 0, b"one"), What::Ended { id: 1 }]);
        story.extend(synced(2, Synced::File("a".to_owned())));
        assert_eq!(images(&story), [BTreeMap::from([("a".to_owned(), b"one".to_vec())])]);
    }

    #[test]
    fn f02_what_was_not_synced_may_be_missing_or_torn_at_sectors() {
        let mut story = beginning();
        story.extend([write(1, 0, &[7; 1_024]), What::Ended { id: 1 }]);
        let images = images(&story);
        assert!(images.iter().any(|image| image["a"].is_empty()));
        assert!(images.iter().any(|image| image["a"] == [7; 1_024]));
        assert!(images.iter().any(|image| image["a"] == [7; 512]));
        assert!(
            images
                .iter()
                .all(|image| image["a"].chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])))
        );
    }

    #[test]
    fn an_fsync_does_not_cover_a_write_that_was_still_under_way() {
        let file = Synced::File("a".to_owned());
        let mut story = beginning();
        story.extend([
            write(1, 0, b"one"),
            What::SyncBegan { id: 2, of: file.clone() },
            What::Ended { id: 1 },
            What::SyncEnded { id: 2, of: file },
        ]);
        assert!(images(&story).iter().any(|image| image["a"].is_empty()));
    }

    #[test]
    fn a_name_is_safe_only_after_an_fsync_of_its_directory() {
        let mut story = beginning();
        story.push(What::Linked { from: "a".to_owned(), to: "b".to_owned() });
        story.push(What::Removed { name: "a".to_owned() });
        let found: Vec<Vec<String>> = images(&story).into_iter().map(|image| image.into_keys().collect()).collect();
        for names in [vec!["a"], vec!["a", "b"], vec!["b"], vec![]] {
            assert!(found.iter().any(|found| *found == names), "{names:?} in {found:?}");
        }
        story.extend(synced(3, Synced::Names));
        assert_eq!(images(&story), [BTreeMap::from([("b".to_owned(), Vec::new())])]);
    }
}
