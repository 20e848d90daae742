//! The entries of a layer by their paths: what they do to paths of lower layers and to earlier entries of their own.

use std::collections::HashMap;
use std::mem::size_of;

use layersift_format::tar::{Entry, Kind};
use layersift_model::{
    Footprint, Gap, GapReason, HardLink, ImagePath, LayerFinding, Origin, PathKey, State, Symlink, Touch, Touched,
    element_bytes, heap_bytes,
};

use crate::allowance::Allowance;
use crate::directories::Directories;
use crate::layer::whiteout::Whiteout;
use crate::layer_work::LayerWork;
use layersift_format::symlinks::{RelevantLinks, Symlinks};

/// The bytes of a touched path: in the list of entries, and in the report.
const TOUCH_BYTES: u64 = (element_bytes::<(PathKey, Touch, u32)>() + size_of::<(PathKey, Touch)>()) as u64;

/// The number of touched paths from which on repeated directories are removed now and then.
const MANY: usize = 1 << 18;

/// The most components of paths that are followed to find the targets of hard links: a fraction of a second.
const MAX_STEPS: u64 = 1_000_000;

/// The work of following a component.
const STEP: u64 = 250;

/// The entries of a layer.
#[derive(Default)]
pub(crate) struct Entries {
    /// Every touched path with the index of its entry; sorted at the end of the layer.
    touches: Vec<(PathKey, Touch, u32)>,
    /// The number of touched paths at which repeated directories are removed.
    compact_at: usize,
    pub(crate) whiteouts: Vec<String>,
    pub(crate) files: u64,
    links: Vec<(u32, ImagePath, ImagePath)>,
    symlinks: Vec<(u32, Symlink)>,
    count: u32,
    /// The directory of the last entry, or the last entry itself if it is a directory.
    last_directory: ImagePath,
    /// Directories that were recorded.
    directories: Directories<()>,
}

impl Entries {
    /// The number of entries.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Records an entry as far as the allowance reaches, and returns its index.
    pub(crate) fn add(&mut self, path: &ImagePath, entry: &Entry, allowance: &mut Allowance<'_>) -> u32 {
        let number = self.count;
        self.count += 1;
        self.imply(path, allowance);
        match Whiteout::of(path) {
            Some(Whiteout::Path(target)) => {
                self.touch(target.key(), Touch::Whiteout, number, allowance);
                self.whiteout(target.to_string(), allowance);
                return number;
            }
            Some(Whiteout::Opaque(target)) => {
                self.touch(target.key(), Touch::Opaque, number, allowance);
                self.whiteout(format!("{target}/"), allowance);
                return number;
            }
            None => {}
        }
        let touch = if entry.kind == Kind::Directory { Touch::Directory } else { Touch::Other };
        self.touch(path.key(), touch, number, allowance);
        match entry.kind {
            Kind::HardLink => {
                let target = ImagePath::normalize(&entry.link);
                // The paths move from the list to the report.
                let paths = heap_bytes(path.as_bytes().len()) + heap_bytes(target.as_bytes().len());
                let bytes = paths + element_bytes::<HardLink>() + size_of::<HardLink>();
                if allowance.take(bytes as u64) {
                    self.links.push((number, path.clone(), target));
                }
            }
            Kind::File => self.files += 1,
            Kind::Symlink => {
                let link = Symlink { path: path.clone(), target: entry.link.clone() };
                if allowance.take(link.footprint()) {
                    self.symlinks.push((number, link));
                }
            }
            Kind::Directory => self.last_directory = path.clone(),
            Kind::Special => {}
        }
        number
    }

    /// Records the directories above `path`, but for those that the last entry was in.
    fn imply(&mut self, path: &ImagePath, allowance: &mut Allowance<'_>) {
        let Some(directory) = path.parent().filter(|directory| *directory != self.last_directory) else { return };
        let beyond = directories_beyond(directory.as_bytes(), self.last_directory.as_bytes());
        self.last_directory = directory;
        if beyond == 0 || !allowance.has_directories(beyond as u64) {
            return;
        }
        let mut new = Vec::new();
        self.directories.of(path, |key, _| new.push(key));
        allowance.decided(new.len() as u64);
        // The last entry has recorded the others, or is the entry of one.
        for key in new.split_off(new.len().saturating_sub(beyond)) {
            self.touch(key, Touch::Implied, 0, allowance);
        }
    }

    fn touch(&mut self, key: PathKey, touch: Touch, number: u32, allowance: &mut Allowance<'_>) {
        if self.touches.len() >= self.compact_at.max(MANY) {
            self.compact(allowance);
        }
        if allowance.take(TOUCH_BYTES) {
            self.touches.push((key, touch, number));
        }
    }

    /// Removes directories that were recorded again and again.
    fn compact(&mut self, allowance: &mut Allowance<'_>) {
        let before = self.touches.len();
        self.sort();
        self.compact_at = 2 * self.touches.len();
        allowance.give_back((before - self.touches.len()) as u64 * TOUCH_BYTES);
    }

    fn whiteout(&mut self, path: String, allowance: &mut Allowance<'_>) {
        if allowance.take((element_bytes::<String>() + heap_bytes(path.len())) as u64) {
            self.whiteouts.push(path);
        }
    }

    /// What the layer does to paths.
    pub(crate) fn take_touched(&mut self) -> Touched {
        Touched::new(std::mem::take(&mut self.touches).into_iter().map(|(key, touch, _)| (key, touch)).collect())
    }

    /// Prepares the questions below, after the last entry.
    pub(crate) fn sort(&mut self) {
        self.touches.sort_unstable();
        self.touches.dedup_by(|a, b| a.1 == Touch::Implied && (a.0, a.1) == (b.0, b.1));
    }

    /// The symbolic links that no later entry replaces.
    pub(crate) fn take_symlinks(&mut self) -> Vec<Symlink> {
        let all = std::mem::take(&mut self.symlinks).into_iter();
        let mut later = self.later();
        all.filter(|(number, link)| later.superseded(&link.path, *number).is_none()).map(|(_, link)| link).collect()
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

    /// What later entries of the same layer do to earlier ones.
    pub(crate) fn later(&self) -> LaterEntries<'_> {
        let root = ImagePath::default().key();
        let is_directory = |touch: Touch| matches!(touch, Touch::Directory | Touch::Implied);
        // What an entry is in has an entry, or is implied.
        let replaced = self.touches.chunk_by(|a, b| a.0 == b.0).filter_map(|touches| {
            let (key, _, last) = touches.iter().rfind(|(_, touch, _)| *touch == Touch::Other)?;
            let is_above = *key == root || touches.iter().any(|(_, touch, _)| is_directory(*touch));
            is_above.then_some((*key, *last))
        });
        LaterEntries { entries: self, replaced: replaced.collect(), hiding: Directories::default() }
    }

    /// Sets which of `findings` later entries overwrite or delete.
    pub(crate) fn supersede(&self, findings: &mut [LayerFinding]) {
        // Findings of one file usually follow each other.
        let mut last: Option<(ImagePath, u32, Option<State>)> = None;
        let mut later = self.later();
        for finding in findings {
            let (path, entry) = (&finding.place.path, finding.entry);
            let known = last.as_ref().filter(|last| last.0 == *path && last.1 == entry).map(|last| last.2);
            finding.superseded = known.unwrap_or_else(|| later.superseded(path, entry));
            if known.is_none() {
                last = Some((path.clone(), entry, finding.superseded));
            }
        }
    }

    /// The hard links, each resolved to the entry or the path of a lower layer that has its contents; and the gap if
    /// that would take too long. It is counted in `work`.
    pub(crate) fn resolved_links(&mut self, work: &LayerWork) -> (Vec<HardLink>, Option<Gap>) {
        let all = std::mem::take(&mut self.links);
        // Where in the list the link of an entry is.
        let mut made: HashMap<u32, usize> = HashMap::new();
        let mut links: Vec<HardLink> = Vec::with_capacity(all.len());
        let targets = all.iter().map(|(_, _, target)| target).filter(|_| !self.symlinks.is_empty());
        let relevant = RelevantLinks::new(self.symlinks.iter().map(|(_, link)| link), targets);
        let symlinks: Vec<_> = self.symlinks.iter().filter(|(_, link)| relevant.has(link)).collect();
        let mut symlinks = symlinks.into_iter().peekable();
        let mut resolver = Symlinks::limited(MAX_STEPS);
        let mut later = self.later();
        for (entry, link, target) in all {
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
            let superseded = later.superseded(&link, entry);
            made.insert(entry, links.len());
            links.push(HardLink { link, entry, origin, superseded });
        }
        work.add(resolver.steps() * STEP);
        (links, resolver.is_exhausted().then(too_long_links))
    }
}

fn too_long_links() -> Gap {
    let detail = "following the symbolic links of the layer takes too long; which files its hard links share is not \
                  fully known";
    Gap::new(GapReason::TooManyEntries, detail)
}

/// What the entries of a layer do to earlier ones of the same layer.
pub(crate) struct LaterEntries<'e> {
    entries: &'e Entries,
    /// The directories that something else is in the place of, and the last entry there. Few layers have any.
    replaced: HashMap<PathKey, u32>,
    /// For each directory the last entry, there or above, that is not a directory and so hides what is below.
    hiding: Directories<Option<u32>>,
}

impl LaterEntries<'_> {
    /// Whether later entries overwrite or delete the file at `path`, entry `number`.
    pub(crate) fn superseded(&mut self, path: &ImagePath, number: u32) -> Option<State> {
        // The bytes outside of all entries have no path.
        if path.is_root() {
            return None;
        }
        let (entries, key) = (self.entries, path.key());
        if entries.after(key, Touch::Other, number) || entries.after(key, Touch::Directory, number) {
            return Some(State::Overwritten);
        }
        let replaced = &self.replaced;
        if replaced.is_empty() {
            return None;
        }
        let last = |above| replaced.get(&above).copied();
        let hiding = self.hiding.of(path, |above, hiding| last(above).max(hiding.flatten())).flatten();
        (hiding > Some(number)).then_some(State::Deleted)
    }
}

/// The number of directories on the way to `path`, itself included, that are not on the way to `other`.
fn directories_beyond(path: &[u8], other: &[u8]) -> usize {
    let same = path.iter().zip(other).take_while(|(a, b)| a == b).count();
    let is_end = |bytes: &[u8]| bytes.get(same).is_none_or(|&byte| byte == b'/');
    let shared = if is_end(path) && is_end(other) { same } else { memchr::memrchr(b'/', &path[..same]).unwrap_or(0) };
    let slashes = memchr::memchr_iter(b'/', &path[shared..]).count();
    // Only the first component has no slash before it.
    slashes + usize::from(shared == 0 && !path.is_empty())
}

#[cfg(test)]
mod tests {
    use layersift_model::Limits;

    use super::*;
    use crate::memory::MemoryBudget;

    /// The entries of a layer that has an entry of a kind at each of `paths`.
    fn entries(paths: &[(ImagePath, Kind)]) -> Entries {
        let budget = MemoryBudget::new(1 << 30);
        let lease = budget.lease(0);
        let mut allowance = Allowance::new(&Limits::default(), &lease, None);
        let mut entries = Entries::default();
        for (path, kind) in paths {
            let entry = Entry {
                path: path.as_bytes().to_vec(),
                kind: *kind,
                link: b"x".to_vec(),
                mode: 0,
                owner: (None, None),
                modified: None,
                stored: 0,
                size: 0,
                sparse: None,
            };
            entries.add(path, &entry, &mut allowance);
        }
        assert_eq!(allowance.gap(), None);
        entries.sort();
        entries
    }

    fn path(name: &str) -> ImagePath {
        ImagePath::normalize(name.as_bytes())
    }

    /// Whiteouts in directories that are 1,000 and 500 deep, in turns.
    fn deep_whiteouts() -> Vec<(ImagePath, Kind)> {
        let deep = |depth, file| path(&format!("{}/.wh.{file}", vec!["d"; depth].join("/")));
        (0..500).flat_map(|file| [deep(1_000, file), deep(500, file)]).map(|path| (path, Kind::File)).collect()
    }

    #[test]
    fn a_directory_is_recorded_once() {
        let entries = entries(&deep_whiteouts());
        assert_eq!(entries.directories.decided(), 1_001, "the root and each directory");
        assert_eq!(entries.touches.len(), 1_000 + 1_000);
    }

    #[test]
    fn a_directory_with_an_entry_is_not_recorded_again() {
        let paths = [("a", Kind::Directory), ("a/b", Kind::Directory), ("a/b/f", Kind::File), ("a/c/f", Kind::File)];
        let entries = entries(&paths.map(|(name, kind)| (path(name), kind)));
        let implied: Vec<PathKey> =
            entries.touches.iter().filter(|touch| touch.1 == Touch::Implied).map(|touch| touch.0).collect();
        assert_eq!(implied, [path("a/c").key()]);
    }

    #[test]
    fn whether_a_directory_is_hidden_is_decided_once() {
        let mut paths = deep_whiteouts();
        paths.push((path("d/d/d"), Kind::Symlink));
        let entries = entries(&paths);
        let mut later = entries.later();
        for (number, (path, _)) in paths.iter().enumerate() {
            let hidden = later.superseded(path, number as u32);
            assert_eq!(hidden, (number < 1_000).then_some(State::Deleted), "{number}");
        }
        assert_eq!(later.hiding.decided(), 1_001);
    }

    #[test]
    fn an_entry_hides_only_those_before_it() {
        let names = ["a/b/c", "a/b", "a/b/c", "a/b/d", "a/b/d"];
        let kinds = [Kind::File, Kind::File, Kind::File, Kind::Directory, Kind::File];
        let entries = entries(&names.map(path).into_iter().zip(kinds).collect::<Vec<_>>());
        let mut later = entries.later();
        let states: Vec<_> = (0..5).map(|number| later.superseded(&path(names[number]), number as u32)).collect();
        let (overwritten, deleted) = (Some(State::Overwritten), Some(State::Deleted));
        assert_eq!(states, [overwritten, None, None, overwritten, None]);
        assert_eq!(later.superseded(&path("a/b/x/y"), 0), deleted);
        assert_eq!(later.superseded(&path("a/b/x/y"), 1), None);
    }

    #[test]
    fn directories_that_are_new() {
        for (path, other, expected) in [
            ("a/b/c", "a/b", 1),
            ("a/b", "a/b/c", 0),
            ("a/bc", "a/b", 1),
            ("a/b", "a/bc", 1),
            ("x/y/z", "a", 3),
            ("x/y", "", 2),
            ("a", "a", 0),
            ("ab", "a", 1),
            ("", "a", 0),
        ] {
            assert_eq!(directories_beyond(path.as_bytes(), other.as_bytes()), expected, "{path} after {other}");
        }
    }
}
