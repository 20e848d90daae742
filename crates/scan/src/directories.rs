//! What is known of directories, each decided once with what is known of the one above it. A path in a known directory
//! then costs its length, however many directories are above it.

use std::collections::HashMap;

use layersift_model::{ImagePath, PathKey};

/// The directories that are known at once, one megabyte. Those that come back after that are decided again.
const MOST: usize = 1 << 15;

/// What is known of directories by their keys. If a directory is known, so are all above it.
#[derive(Debug)]
pub(crate) struct Directories<V> {
    known: HashMap<PathKey, V>,
    /// How many were decided.
    decided: u64,
}

impl<V> Default for Directories<V> {
    fn default() -> Directories<V> {
        Directories { known: HashMap::new(), decided: 0 }
    }
}

impl<V: Copy> Directories<V> {
    /// What is known of the directory that `path` is in; `None` for the root. `decide` decides about unknown
    /// directories from the top, by their keys and by what is known of the directory above.
    pub(crate) fn of(&mut self, path: &ImagePath, mut decide: impl FnMut(PathKey, Option<V>) -> V) -> Option<V> {
        let (mut above, mut unknown) = self.look(path);
        if !self.known.is_empty() && self.known.len() + unknown.len() > MOST {
            self.known.clear();
            (above, unknown) = self.look(path);
        }
        self.decided += unknown.len() as u64;
        for key in unknown {
            let value = decide(key, above);
            self.known.insert(key, value);
            above = Some(value);
        }
        above
    }

    /// What is known of the deepest known directory above `path`, and the keys of those below that.
    fn look(&self, path: &ImagePath) -> (Option<V>, Vec<PathKey>) {
        let mut deepest = None;
        let unknown = path.unknown_ancestor_keys(|key| {
            let known = self.known.get(&key).copied();
            deepest = known.or(deepest);
            known.is_some()
        });
        (deepest, unknown)
    }

    /// How many directories were decided so far.
    pub(crate) fn decided(&self) -> u64 {
        self.decided
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_directory_is_decided_once_after_the_one_above_it() {
        let mut depths = Directories::default();
        let mut depth = |path: &str| {
            let path = ImagePath::normalize(path.as_bytes());
            depths.of(&path, |_, above: Option<usize>| above.map_or(0, |above| above + 1))
        };
        let found = ["a/b/c/f", "a/b/c/g", "a/x", "a/b/d/e/f", "f", ""].map(&mut depth);
        assert_eq!(found, [Some(3), Some(3), Some(1), Some(4), Some(0), None]);
        assert_eq!(depths.decided(), 6);
    }

    #[test]
    fn directories_that_do_not_fit_are_decided_again() {
        let mut known = Directories::default();
        let mut look = |name: usize| known.of(&ImagePath::normalize(format!("{name}/f").as_bytes()), |_, _| name);
        (0..2 * MOST).for_each(|name| assert_eq!(look(name), Some(name)));
        assert_eq!(look(1), Some(1));
        assert!(known.known.len() <= MOST);
    }
}
