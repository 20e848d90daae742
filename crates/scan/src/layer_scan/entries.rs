//! The entries of a layer by their paths: what they do to paths of lower layers and to earlier entries of their own.

use std::collections::{HashMap, HashSet};

use layersift_format::tar::{Entry, Kind};
use layersift_model::{Gap, GapReason, HardLink, ImagePath, Origin, PathKey, State, Symlink, Touch};

use crate::layer::symlinks::{RelevantLinks, Symlinks};
use crate::layer::whiteout::Whiteout;

/// The most bytes of symbolic links that are kept.
const MAX_SYMLINK_BYTES: usize = 32 << 20;

/// The entries of a layer.
#[derive(Default)]
pub(crate) struct Entries {
    /// Every touched path with the index of its entry; sorted at the end of the layer.
    pub(crate) touches: Vec<(PathKey, Touch, u32)>,
    pub(crate) whiteouts: Vec<String>,
    pub(crate) files: u64,
    links: Vec<(u32, ImagePath, ImagePath)>,
    symlinks: Vec<(u32, Symlink)>,
    count: u32,
    symlink_bytes: usize,
    dropped_symlinks: u64,
    /// Directories that have an entry or were implied by one.
    directories: HashSet<PathKey>,
    /// The directory of the last entry.
    last_directory: Option<ImagePath>,
}

impl Entries {
    /// The number of entries.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Records an entry, and returns its index.
    pub(crate) fn add(&mut self, path: &ImagePath, entry: &Entry) -> u32 {
        let number = self.count;
        self.count += 1;
        self.imply(path, number);
        match Whiteout::of(path) {
            Some(Whiteout::Path(target)) => {
                self.whiteouts.push(target.to_string());
                self.touches.push((target.key(), Touch::Whiteout, number));
                return number;
            }
            Some(Whiteout::Opaque(target)) => {
                self.whiteouts.push(format!("{target}/"));
                self.touches.push((target.key(), Touch::Opaque, number));
                return number;
            }
            None => {}
        }
        let key = path.key();
        let touch = if entry.kind == Kind::Directory { Touch::Directory } else { Touch::Other };
        self.touches.push((key, touch, number));
        match entry.kind {
            Kind::HardLink => self.links.push((number, path.clone(), ImagePath::normalize(&entry.link))),
            Kind::File => self.files += 1,
            Kind::Symlink => self.symlink(number, path, &entry.link),
            Kind::Directory => drop(self.directories.insert(key)),
            Kind::Special => {}
        }
        number
    }

    /// Records the directories above `path` that have no entry.
    fn imply(&mut self, path: &ImagePath, number: u32) {
        let directory = path.parent();
        if directory == self.last_directory {
            return;
        }
        self.last_directory.clone_from(&directory);
        for above in std::iter::successors(directory, ImagePath::parent).take_while(|above| !above.is_root()) {
            let key = above.key();
            if !self.directories.insert(key) {
                return;
            }
            self.touches.push((key, Touch::Implied, number));
        }
    }

    fn symlink(&mut self, number: u32, path: &ImagePath, target: &[u8]) {
        let bytes = path.as_bytes().len() + target.len();
        if self.symlink_bytes + bytes > MAX_SYMLINK_BYTES {
            self.dropped_symlinks += 1;
            return;
        }
        self.symlink_bytes += bytes;
        self.symlinks.push((number, Symlink { path: path.clone(), target: target.to_vec() }));
    }

    /// The gap of symbolic links that were dropped because there were too many.
    pub(crate) fn dropped_symlinks(&self) -> Option<Gap> {
        let detail = format!(
            "the layer has too many symbolic links; {} were dropped, and changes to files below them were not followed",
            self.dropped_symlinks
        );
        (self.dropped_symlinks > 0).then(|| Gap::new(GapReason::TooManyEntries, detail))
    }

    /// Prepares the questions below, after the last entry.
    pub(crate) fn sort(&mut self) {
        self.touches.sort_unstable();
    }

    /// The symbolic links that no later entry replaces.
    pub(crate) fn take_symlinks(&mut self) -> Vec<Symlink> {
        let all = std::mem::take(&mut self.symlinks).into_iter();
        all.filter(|(number, link)| self.superseded(&link.path, *number).is_none()).map(|(_, link)| link).collect()
    }

    /// The last entry at `key` before entry `number` that is not a directory.
    fn before(&self, key: PathKey, number: u32) -> Option<u32> {
        let end = self.touches.partition_point(|touch| *touch < (key, Touch::Other, number));
        let (found, touch, earlier) = *self.touches.get(end.checked_sub(1)?)?;
        (found == key && touch == Touch::Other).then_some(earlier)
    }

    /// Whether an entry after entry `number` does `touch` to the path of `key`.
    fn after(&self, key: PathKey, touch: Touch, number: u32) -> bool {
        let end = self.touches.partition_point(|known| *known <= (key, touch, number));
        self.touches.get(end).is_some_and(|known| (known.0, known.1) == (key, touch))
    }

    /// Whether later entries of the same layer overwrite or delete the file at `path`, entry `number`.
    pub(crate) fn superseded(&self, path: &ImagePath, number: u32) -> Option<State> {
        // The bytes outside of all entries have no path.
        if path.is_root() {
            return None;
        }
        let key = path.key();
        if self.after(key, Touch::Other, number) || self.after(key, Touch::Directory, number) {
            return Some(State::Overwritten);
        }
        let hidden = path.ancestors().any(|above| self.after(above.key(), Touch::Other, number));
        hidden.then_some(State::Deleted)
    }

    /// The hard links, each resolved to the entry or the path of a lower layer that has its contents.
    pub(crate) fn resolved_links(&self) -> Vec<HardLink> {
        // Where in the list the link of an entry is.
        let mut made: HashMap<u32, usize> = HashMap::new();
        let mut links: Vec<HardLink> = Vec::with_capacity(self.links.len());
        let relevant = RelevantLinks::new(
            self.symlinks.iter().map(|(_, link)| link),
            self.links.iter().map(|(_, _, target)| target).filter(|_| !self.symlinks.is_empty()),
        );
        let mut symlinks = self.symlinks.iter().filter(|(_, link)| relevant.has(link)).peekable();
        let mut resolver = Symlinks::default();
        for (entry, link, target) in &self.links {
            let (entry, target) = (*entry, target.clone());
            while let Some((_, symlink)) = symlinks.next_if(|(number, _)| *number < entry) {
                resolver.make(symlink);
            }
            let earlier = self.before(target.key(), entry).or_else(|| {
                let resolved = resolver.resolve(&target);
                if resolved == target { None } else { self.before(resolved.key(), entry) }
            });
            let origin = match earlier {
                Some(earlier) => {
                    let of_link = made.get(&earlier).and_then(|index| links.get(*index));
                    of_link.map_or(Origin::Entry(earlier), |link| link.origin.clone())
                }
                None => Origin::Below(target),
            };
            let superseded = self.superseded(link, entry);
            made.insert(entry, links.len());
            links.push(HardLink { link: link.clone(), entry, origin, superseded });
        }
        links
    }
}
