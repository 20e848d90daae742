//! Symbolic links to directories: where a path below one really is, and which other paths lead to a file.
//!
//! A runtime that extracts a layer over the ones below follows their links, so `lib/x` may be the file `usr/lib/x`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use layersift_model::{ImagePath, PathBuilder, PathKey, Symlink};

/// The most links that are followed for one path, as in Linux.
const MAX_HOPS: usize = 40;

/// The most other paths of one file that are considered.
const MAX_ALIASES: usize = 64;

/// The most components of paths that are followed: far more than the links of an image have, and one or two seconds.
const MAX_STEPS: u64 = 4_000_000;

/// Symbolic links by their paths. Clones share the count of what was followed, and the links until they change.
#[derive(Clone, Debug, Default)]
pub struct Symlinks {
    links: Arc<BTreeMap<PathKey, Symlink>>,
    /// The links that lead to a directory, by its path.
    leading_to: Arc<HashMap<PathKey, Vec<ImagePath>>>,
    /// How many links were made so far.
    made: usize,
    steps: Arc<Steps>,
}

/// How many components of paths were followed so far, and how many may be.
#[derive(Debug)]
struct Steps {
    taken: AtomicU64,
    most: u64,
}

impl Default for Steps {
    fn default() -> Steps {
        Steps { taken: AtomicU64::new(0), most: MAX_STEPS }
    }
}

impl Symlinks {
    /// The links `all`; a later link replaces an earlier one of the same path.
    pub fn new<'l>(all: impl IntoIterator<Item = &'l Symlink>) -> Symlinks {
        let mut symlinks = Symlinks::default();
        symlinks.add(all);
        symlinks
    }

    /// No links, of which at most `most` components of paths are followed.
    pub fn limited(most: u64) -> Symlinks {
        Symlinks { steps: Arc::new(Steps { most, ..Steps::default() }), ..Symlinks::default() }
    }

    /// The number of links.
    pub fn len(&self) -> usize {
        self.links.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Adds links, in the order in which they were made.
    pub fn add<'l>(&mut self, all: impl IntoIterator<Item = &'l Symlink>) {
        let before = self.made;
        all.into_iter().for_each(|link| self.make(link));
        if self.made > before {
            self.index();
        }
    }

    /// Adds a link, which [`Symlinks::resolve`] follows, and [`Symlinks::aliases`] does not know.
    pub fn make(&mut self, link: &Symlink) {
        let path = self.resolve(&link.path);
        Arc::make_mut(&mut self.links).insert(path.key(), Symlink { path, target: link.target.clone() });
        self.made += 1;
    }

    /// Removes the link at `path`, which something else takes the place of. [`Symlinks::aliases`] may still know it.
    pub fn remove(&mut self, path: &ImagePath) {
        if !self.links.is_empty() {
            let key = self.resolve(path).key();
            if self.links.contains_key(&key) {
                Arc::make_mut(&mut self.links).remove(&key);
            }
        }
    }

    /// Whether there is a link at `path`, to which others may lead.
    pub fn has(&self, path: &ImagePath) -> bool {
        self.links.contains_key(&self.resolve(path).key())
    }

    /// Removes the links for whose paths `keep` is false.
    pub fn retain(&mut self, mut keep: impl FnMut(&ImagePath) -> bool) {
        let dropped: Vec<PathKey> =
            self.links.iter().filter(|(_, link)| !keep(&link.path)).map(|(key, _)| *key).collect();
        if !dropped.is_empty() {
            let links = Arc::make_mut(&mut self.links);
            for key in &dropped {
                links.remove(key);
            }
            self.index();
        }
    }

    fn index(&mut self) {
        // Until there is another, paths lead where they are.
        self.leading_to = Arc::default();
        let mut leading_to: HashMap<PathKey, Vec<ImagePath>> = HashMap::new();
        let mut paths: Vec<&ImagePath> = self.links.values().map(|link| &link.path).collect();
        paths.sort_unstable();
        for path in paths {
            leading_to.entry(self.follow(path).key()).or_default().push(path.clone());
        }
        self.leading_to = Arc::new(leading_to);
    }

    /// How many components of paths were followed so far.
    pub fn steps(&self) -> u64 {
        self.steps.taken.load(Ordering::Relaxed)
    }

    /// Whether links are not followed any more, because the paths to which they led were too long.
    pub fn is_exhausted(&self) -> bool {
        self.steps() > self.steps.most
    }

    /// The path with the links in its directories followed.
    pub fn resolve(&self, path: &ImagePath) -> ImagePath {
        self.walk(path, false)
    }

    /// The path with all links followed.
    fn follow(&self, path: &ImagePath) -> ImagePath {
        self.walk(path, true)
    }

    fn walk(&self, path: &ImagePath, follow_last: bool) -> ImagePath {
        // Where links lead from a masked path is not known.
        if self.links.is_empty() || path.is_masked() || self.is_exhausted() {
            return path.clone();
        }
        let mut steps = 0;
        let followed = self.walk_counted(path, follow_last, &mut steps);
        self.steps.taken.fetch_add(steps, Ordering::Relaxed);
        followed.unwrap_or_else(|| path.clone())
    }

    /// The path with links followed; `None` if that leads nowhere. Adds the components on the way to `steps`.
    fn walk_counted(&self, path: &ImagePath, follow_last: bool, steps: &mut u64) -> Option<ImagePath> {
        let mut rest: Vec<Vec<u8>> = components(path.as_bytes());
        let mut done = PathBuilder::default();
        let mut hops = 0;
        while let Some(component) = rest.pop() {
            *steps += 1;
            if *steps > self.steps.most {
                return None;
            }
            if component == b".." {
                done.pop();
                continue;
            }
            done.push(&component);
            match self.links.get(&done.key()).filter(|_| follow_last || !rest.is_empty()) {
                Some(link) if hops < MAX_HOPS => {
                    hops += 1;
                    rest.extend(components(&link.target));
                    if link.target.starts_with(b"/") {
                        done = PathBuilder::default();
                    } else {
                        done.pop();
                    }
                }
                // A circle leads nowhere.
                Some(_) => return None,
                None => {}
            }
        }
        Some(done.into_path())
    }

    /// Whether a link may lead to a directory: otherwise, no file has [other paths](Symlinks::aliases).
    pub fn lead_anywhere(&self) -> bool {
        !self.leading_to.is_empty()
    }

    /// The other paths that lead to the file at the resolved path `path`. They are the same for all files of a
    /// directory, but for the name.
    pub fn aliases(&self, path: &ImagePath) -> Vec<ImagePath> {
        if self.leading_to.is_empty() || path.is_masked() {
            return Vec::new();
        }
        let mut found: Vec<ImagePath> = Vec::new();
        let mut seen: HashSet<ImagePath> = HashSet::from([path.clone()]);
        let mut next = 0;
        let mut current = path.clone();
        loop {
            // The nearest directory first; the root is none of them.
            let ends: Vec<usize> = memchr::memchr_iter(b'/', current.as_bytes()).collect();
            for (key, end) in current.ancestor_keys().iter().skip(1).zip(ends).rev() {
                for link in self.leading_to.get(key).into_iter().flatten() {
                    let rest = &current.as_bytes()[end..];
                    let alias = link.join(rest);
                    if seen.insert(alias.clone()) {
                        found.push(alias);
                    }
                    if found.len() >= MAX_ALIASES {
                        return found;
                    }
                }
            }
            match found.get(next) {
                Some(alias) => current = alias.clone(),
                None => return found,
            }
            next += 1;
        }
    }
}

/// Tells the links that can lead to a directory above one of some paths: most links of an image lead to files.
#[derive(Debug, Default)]
pub struct RelevantLinks<'n> {
    /// Names of directories above the paths, and of links that lead to them.
    names: HashSet<&'n [u8]>,
}

impl<'n> RelevantLinks<'n> {
    /// Of the links `all`, for `paths`.
    pub fn new(
        all: impl Iterator<Item = &'n Symlink> + Clone,
        paths: impl Iterator<Item = &'n ImagePath>,
    ) -> RelevantLinks<'n> {
        let mut relevant = RelevantLinks::default();
        if all.clone().next().is_none() {
            return relevant;
        }
        let mut last: &[u8] = &[];
        for path in paths {
            let directory = directory(path.as_bytes());
            // Files of a directory usually follow each other.
            if directory != last && !directory.is_empty() {
                relevant.names.extend(directory.split(|&byte| byte == b'/'));
                last = directory;
            }
        }
        if !relevant.names.is_empty() {
            relevant.add_names_of_links(all);
        }
        relevant
    }

    /// Adds the names of links that lead to what has one of the names, of links that lead to those, and so on.
    fn add_names_of_links(&mut self, all: impl Iterator<Item = &'n Symlink>) {
        let mut by_target: HashMap<&[u8], Vec<&[u8]>> = HashMap::new();
        let mut new: Vec<&[u8]> = self.names.iter().copied().collect();
        for link in all {
            match last_component(&link.target) {
                b"" | b"." | b".." => new.push(link.path.name()),
                target => by_target.entry(target).or_default().push(link.path.name()),
            }
        }
        while let Some(name) = new.pop() {
            self.names.insert(name);
            new.extend(by_target.remove(name).into_iter().flatten());
        }
    }

    /// Whether `link` is one of them.
    pub fn has(&self, link: &Symlink) -> bool {
        let last = last_component(&link.target);
        let is_dots = matches!(last, b"" | b"." | b"..");
        !self.names.is_empty() && (is_dots || self.names.contains(last) || self.names.contains(link.path.name()))
    }
}

/// The last component of the target of a link.
fn last_component(target: &[u8]) -> &[u8] {
    target.split(|&byte| byte == b'/').rfind(|part| !part.is_empty()).unwrap_or_default()
}

/// The directory that a path is in.
fn directory(path: &[u8]) -> &[u8] {
    memchr::memrchr(b'/', path).map_or(&[], |slash| &path[..slash])
}

/// The components of a path, the first one last.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|&byte| byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    parts.map(<[u8]>::to_vec).rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> ImagePath {
        ImagePath::normalize(text.as_bytes())
    }

    fn symlinks(links: &[(&str, &str)]) -> Symlinks {
        let links: Vec<Symlink> =
            links.iter().map(|(from, to)| Symlink { path: path(from), target: to.as_bytes().to_vec() }).collect();
        Symlinks::new(&links)
    }

    fn names(paths: Vec<ImagePath>) -> Vec<String> {
        paths.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn links_in_directories_are_followed() {
        let links = symlinks(&[("lib", "usr/lib"), ("a/up", "../b"), ("b/abs", "/lib/deep"), ("usr/lib/x", "y")]);
        for (from, to) in
            [("lib/x", "usr/lib/x"), ("a/up/abs/z", "usr/lib/deep/z"), ("lib", "lib"), ("other/lib/x", "other/lib/x")]
        {
            assert_eq!(links.resolve(&path(from)).to_string(), to, "{from}");
        }
    }

    #[test]
    fn a_circle_leads_nowhere() {
        let links = symlinks(&[("a", "b"), ("b", "a")]);
        assert_eq!(links.resolve(&path("a/x")).to_string(), "a/x");
        assert!(links.aliases(&path("a/x")).len() <= MAX_ALIASES);
    }

    #[test]
    fn every_path_that_leads_to_a_file_is_an_alias() {
        let links = symlinks(&[("lib", "usr/lib"), ("lib64", "lib"), ("usr/lib/deep", "/srv/deep")]);
        assert_eq!(names(links.aliases(&path("usr/lib/x"))), ["lib/x", "lib64/x"]);
        let deep = names(links.aliases(&path("srv/deep/x")));
        assert_eq!(deep, ["usr/lib/deep/x", "lib/deep/x", "lib64/deep/x"]);
        assert!(links.aliases(&path("usr/other/x")).is_empty());
    }

    #[test]
    fn links_are_not_followed_for_ever() {
        let mut links = Symlinks::limited(1_000);
        let target = ["d"; 100].join("/");
        links.make(&Symlink { path: path("a"), target: target.clone().into_bytes() });
        let resolved: Vec<ImagePath> = (0..20).map(|_| links.clone().resolve(&path("a/x"))).collect();
        let followed = resolved.iter().filter(|path| path.to_string() == format!("{target}/x")).count();
        assert_eq!((followed, links.is_exhausted()), (10, true));
        assert_eq!(resolved[10..], vec![path("a/x"); 10]);
        let mut longer = Symlinks::limited(1_000);
        longer.make(&Symlink { path: path("a"), target: "d/".repeat(2_000).into_bytes() });
        assert_eq!(longer.resolve(&path("a/x")), path("a/x"));
        assert!(longer.steps() <= 1_001, "{}", longer.steps());
    }

    #[test]
    fn links_that_lead_to_each_other_are_looked_at_once() {
        let all: Vec<Symlink> = (0..50_000_u32)
            .map(|number| Symlink { path: path(&format!("l{number}")), target: format!("l{}", number + 1).into() })
            .collect();
        let looked = std::cell::Cell::new(0);
        let counted = all.iter().inspect(|_| looked.set(looked.get() + 1));
        let one = path("l50000/x");
        let relevant = RelevantLinks::new(counted, [&one].into_iter());
        assert!(all.iter().all(|link| relevant.has(link)));
        assert!(looked.get() <= 2 * all.len(), "{}", looked.get());
    }

    #[test]
    fn only_links_that_may_matter_are_relevant() {
        let all = [("lib", "usr/lib"), ("bin/a", "b"), ("l2", "lib"), ("etc/up", "..")];
        let all: Vec<Symlink> =
            all.iter().map(|(from, to)| Symlink { path: path(from), target: to.as_bytes().to_vec() }).collect();
        let one = path("usr/lib/x");
        let relevant = RelevantLinks::new(all.iter(), [&one].into_iter());
        let found: Vec<String> =
            all.iter().filter(|link| relevant.has(link)).map(|link| link.path.to_string()).collect();
        assert_eq!(found, ["lib", "l2", "etc/up"]);
        let none = RelevantLinks::new(all.iter(), std::iter::empty());
        assert!(!all.iter().any(|link| none.has(link)));
    }
}
