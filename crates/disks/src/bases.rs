//! Which layer another one is a changed copy of, for drivers that keep a whole copy of the files for each layer: vfs of
//! Docker and containers-storage, native of containerd.
//!
//! Of such a layer only the changes from its base are read, because the base is read as well. Whoever has the disk may
//! have edited the records that name the bases. So a base counts only if its own bases come to an end: then every file
//! that is left out of a layer is read with one of those below it. And many empty layers may have one base with many
//! files, all of which each of them removes; so there is a limit that they share.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::directory_tar::Tree;
use crate::root::is_name;
use crate::store::Store;

/// The most files of a base that all its copies together may lack, and what each of them may lack in any case.
const MOST_REMOVED: usize = 500_000;
const LEAST_REMOVED: usize = 1_000;

/// The layers of a driver that are copies of others, by the names of their directories.
#[derive(Default)]
pub(crate) struct Bases {
    /// The layers whose bases come to an end.
    grounded: HashSet<String>,
    /// How many copies the base of a layer has.
    copies: HashMap<String, usize>,
}

impl Bases {
    /// Collects pairs of a layer and its base, both by the names of their directories. There may be several for a
    /// layer.
    pub(crate) fn of(pairs: impl IntoIterator<Item = (String, String)>) -> Bases {
        let mut open: HashMap<String, usize> = HashMap::new();
        let mut copies: HashMap<String, Vec<String>> = HashMap::new();
        for (layer, base) in pairs {
            // What is no name may be another name of the layer itself: its bases never come to an end.
            let base = if is_name(&base) && is_name(&layer) { base } else { layer.clone() };
            *open.entry(layer.clone()).or_default() += 1;
            open.entry(base.clone()).or_default();
            copies.entry(base).or_default().push(layer);
        }
        let counts = copies.values().flat_map(|layers| layers.iter().map(|layer| (layer.clone(), layers.len())));
        let counts = counts.collect();
        let mut ended: Vec<String> =
            open.iter().filter(|(_, bases)| **bases == 0).map(|(name, _)| name.clone()).collect();
        let mut grounded = HashSet::new();
        while let Some(base) = ended.pop() {
            for copy in copies.remove(&base).unwrap_or_default() {
                if let Some(bases) = open.get_mut(&copy) {
                    *bases -= 1;
                    if *bases == 0 {
                        ended.push(copy);
                    }
                }
            }
            grounded.insert(base);
        }
        Bases { grounded, copies: counts }
    }

    /// The files of the layer `layer` in `directory`, which is a copy of the one in `base`: the changes, or all files
    /// if that base does not count.
    pub(crate) fn files(&self, store: &mut Store, layer: &str, directory: &Path, base: Option<PathBuf>) -> Tree {
        match base {
            Some(base) if self.grounded.contains(layer) => {
                let copies = self.copies.get(layer).copied().unwrap_or(1);
                Tree::changes(&base, directory, (MOST_REMOVED / copies.max(1)).max(LEAST_REMOVED))
            }
            Some(_) => {
                let detail = "the records say that this layer is a copy of one that is a copy of it, so all of its \
                              files are read";
                store.problem(
                    &directory.strip_prefix(store.root.path()).unwrap_or(directory).display().to_string(),
                    detail,
                );
                Tree::overlay(directory)
            }
            None => Tree::overlay(directory),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_counts_if_its_bases_come_to_an_end() {
        let pairs = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(layer, base)| (layer.to_string(), base.to_string()));
            let mut names: Vec<String> = Bases::of(pairs).grounded.into_iter().collect();
            names.sort();
            names.join(" ")
        };
        assert_eq!(pairs(&[("c", "b"), ("b", "a")]), "a b c");
        assert_eq!(pairs(&[("c", "b"), ("b", "a"), ("a", "a")]), "");
        assert_eq!(pairs(&[("c", "b"), ("b", "c"), ("d", "a")]), "a d");
        assert_eq!(pairs(&[("c", "a"), ("c", "b"), ("b", "c")]), "a", "one of two records leads back");
        assert_eq!(pairs(&[("a", "./a"), ("b", "x/../b"), ("c", "")]), "", "another name of the layer itself");
        let long = (0..100_000).map(|number: usize| (number.to_string(), (number + 1).to_string()));
        assert_eq!(Bases::of(long).grounded.len(), 100_001);
    }
}
