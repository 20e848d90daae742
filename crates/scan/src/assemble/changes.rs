//! What a layer does to the files and symbolic links of the layers below it.
//!
//! A layer that removes a directory removes all in it, so what it does is decided once for each directory, and not for
//! each directory of each path.

use layersift_format::symlinks::Symlinks;
use layersift_model::{ImagePath, PathKey, State, Touch, Touched};

use super::work::Work;
use crate::directories::Directories;

/// What became of a file, and the path by which, if it is another than its own.
pub(crate) type Ending = (State, Option<ImagePath>);

/// A path with the symbolic links in its directories followed, with its key.
#[derive(Clone, Debug)]
pub(crate) struct RealPath {
    path: ImagePath,
    key: PathKey,
}

impl RealPath {
    pub(crate) fn new(path: ImagePath) -> RealPath {
        RealPath { key: path.key(), path }
    }

    pub(crate) fn key(&self) -> PathKey {
        self.key
    }
}

/// What one layer does.
pub(crate) struct Changes<'l> {
    touched: &'l Touched,
    /// The symbolic links of the layers below.
    links: &'l Symlinks,
    /// Whether the layer removes what lower layers have in a directory.
    removed: Directories<Known>,
    /// The same for a directory to which links lead.
    removed_elsewhere: Directories<Known>,
    /// The last directory for which that was asked, and the others that lead to it.
    aliases: (ImagePath, Vec<ImagePath>),
}

impl<'l> Changes<'l> {
    /// Those of a layer that touches `touched`, above layers with the symbolic `links`.
    pub(crate) fn new(touched: &'l Touched, links: &'l Symlinks) -> Changes<'l> {
        let (removed, removed_elsewhere) = (Directories::default(), Directories::default());
        Changes { touched, links, removed, removed_elsewhere, aliases: Default::default() }
    }

    /// What the layer does to a file, and the path through symbolic links by which it does so. `path` is the file's
    /// path in its layer, and `real` that with its links followed. What there is no `work` left for counts as present.
    pub(crate) fn ended(&mut self, path: &ImagePath, real: &RealPath, work: &mut Work) -> Option<Ending> {
        // The bytes outside of all entries have no path.
        if path.is_root() || !work.take(looks(&real.path)) {
            return None;
        }
        let named = |other: &ImagePath| (other != path).then(|| other.clone());
        let state = match self.touched.has(real.key, Touch::Implied) {
            true => Some(State::Overwritten),
            false => self.replaced(&real.path, real.key, work),
        };
        if let Some(state) = state {
            return Some((state, named(&real.path)));
        }
        self.aliases(&real.path, work).into_iter().find_map(|other| {
            // What the layer does to the links themselves is another matter.
            let key = other.key();
            let state = match self.touched.has(key, Touch::Implied) {
                true => State::Overwritten,
                false => self.replaced_elsewhere(&other, key, work)?,
            };
            Some((state, named(&other)))
        })
    }

    /// Whether the layer replaces or removes the link at `path`, by that path or by another.
    pub(crate) fn replace(&mut self, path: &ImagePath, work: &mut Work) -> bool {
        work.take(looks(path))
            && (self.replaced(path, path.key(), work).is_some()
                || self
                    .aliases(path, work)
                    .into_iter()
                    .any(|other| self.replaced_elsewhere(&other, other.key(), work).is_some()))
    }

    /// What the layer does to a link at `path`: directories that are only implied are below it.
    fn replaced(&mut self, path: &ImagePath, key: PathKey, work: &mut Work) -> Option<State> {
        let own = self.touched.at(key);
        if own.any(&[Touch::Other, Touch::Directory]) {
            return Some(State::Overwritten);
        }
        let touched = self.touched;
        let removes = |key| touched.at(key).any(&[Touch::Whiteout, Touch::Opaque, Touch::Other]);
        let is_removed =
            own.any(&[Touch::Whiteout]) || is_removed(&mut self.removed, path, work, |key, _| removes(key));
        is_removed.then_some(State::Deleted)
    }

    /// The same at a path from where links lead to it.
    fn replaced_elsewhere(&mut self, path: &ImagePath, key: PathKey, work: &mut Work) -> Option<State> {
        let own = self.touched.at(key);
        if own.any(&[Touch::Other, Touch::Directory]) {
            return Some(State::Overwritten);
        }
        let (touched, links) = (self.touched, self.links);
        let removes = |key, depth| {
            let touches = touched.at(key);
            touches.any(&[Touch::Opaque])
                || (touches.any(&[Touch::Whiteout, Touch::Other]) && !links.has(&path.ancestor(depth)))
        };
        let is_removed = own.any(&[Touch::Whiteout]) || is_removed(&mut self.removed_elsewhere, path, work, removes);
        is_removed.then_some(State::Deleted)
    }

    /// The other paths that lead to the file at the resolved path `path`.
    fn aliases(&mut self, path: &ImagePath, work: &mut Work) -> Vec<ImagePath> {
        // Where links lead from a masked path is not known.
        if !self.links.lead_anywhere() || path.is_masked() {
            return Vec::new();
        }
        let Some(directory) = path.parent() else { return Vec::new() };
        if self.aliases.0 != directory {
            if !work.take(path.depth() as u64) {
                return Vec::new();
            }
            let others = self.links.aliases(path);
            work.take(others.iter().map(|other| other.depth() as u64).sum());
            self.aliases = (directory, others.iter().filter_map(ImagePath::parent).collect());
        }
        let directories = &self.aliases.1;
        // Each is put together and hashed.
        if !work.take(directories.iter().map(|directory| 4 * looks(directory)).sum()) {
            return Vec::new();
        }
        directories.iter().map(|directory| directory.join(path.name())).collect()
    }
}

/// What is known of a directory.
#[derive(Clone, Copy)]
struct Known {
    depth: usize,
    /// Whether the layer removes what lower layers have in it.
    is_removed: bool,
}

/// Whether `removes` is true of a directory above `path`, by its key and its depth. Each directory is asked for once.
fn is_removed(
    known: &mut Directories<Known>,
    path: &ImagePath,
    work: &mut Work,
    removes: impl Fn(PathKey, usize) -> bool,
) -> bool {
    let before = known.decided();
    let directory = known.of(path, |key, above| {
        let depth = above.map_or(0, |above| above.depth + 1);
        Known { depth, is_removed: above.is_some_and(|above| above.is_removed) || removes(key, depth) }
    });
    work.take(known.decided() - before);
    directory.is_some_and(|directory| directory.is_removed)
}

/// The looks that hashing a path takes.
fn looks(path: &ImagePath) -> u64 {
    const BYTES: usize = 256;
    1 + (path.as_bytes().len() / BYTES) as u64
}

#[cfg(test)]
mod tests {
    use layersift_model::Symlink;

    use super::*;

    /// The directory `a/a/…`.
    fn deep(depth: usize) -> String {
        vec!["a"; depth].join("/")
    }

    fn path(name: &str) -> ImagePath {
        ImagePath::normalize(name.as_bytes())
    }

    /// What layers that touch `touched` do to files in a deep directory, and the work of asking.
    fn ended(touched: &Touched, links: &Symlinks, files: u64, depth: usize) -> (Vec<Option<Ending>>, u64) {
        let mut work = Work::default();
        let mut changes = Changes::new(touched, links);
        let all = (0..files)
            .map(|file| path(&format!("{}/f{file}", deep(depth))))
            .map(|file| changes.ended(&file, &RealPath::new(file.clone()), &mut work))
            .collect();
        (all, work.taken())
    }

    #[test]
    fn a_directory_is_decided_once_for_all_files_in_it() {
        let touched = Touched::new(vec![(path("elsewhere").key(), Touch::Other)]);
        let (states, work) = ended(&touched, &Symlinks::default(), 2_000, 1_000);
        assert_eq!(states, vec![None; 2_000]);
        // Each file is hashed and its directory looked up, and each of the 1,001 directories is looked for once.
        let file = looks(&path(&format!("{}/f1000", deep(1_000))));
        assert!(work <= 2_000 * (file + 1) + 1_001, "{work}");
        let removed = Touched::new(vec![(path(&deep(500)).key(), Touch::Opaque)]);
        let (states, _) = ended(&removed, &Symlinks::default(), 10, 1_000);
        assert_eq!(states, vec![Some((State::Deleted, None)); 10]);
    }

    #[test]
    fn links_are_followed_once_for_all_files_of_a_directory() {
        let links = Symlinks::new(&[Symlink { path: path("l"), target: b"a/a".to_vec() }]);
        let none = Touched::new(vec![(path("elsewhere").key(), Touch::Other)]);
        let (states, work) = ended(&none, &links, 2_000, 1_000);
        assert_eq!(states, vec![None; 2_000]);
        let file = looks(&path(&format!("{}/f1000", deep(1_000))));
        assert!(work <= 2_000 * (5 * file + 2) + 4 * 1_001, "{work}");
        let replaced = Touched::new(vec![(path("l/a/f1").key(), Touch::Other)]);
        let (states, _) = ended(&replaced, &links, 3, 3);
        assert_eq!(states, [None, Some((State::Overwritten, Some(path("l/a/f1")))), None]);
    }

    #[test]
    fn what_there_is_no_work_left_for_counts_as_present() {
        let touched = Touched::new(vec![(path("a").key(), Touch::Whiteout)]);
        let mut work = Work::default();
        work.exhaust();
        let file = path("a/f");
        let ended = Changes::new(&touched, &Symlinks::default()).ended(&file, &RealPath::new(file.clone()), &mut work);
        assert_eq!(ended, None);
    }
}
