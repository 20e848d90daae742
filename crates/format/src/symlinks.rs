//! Symbolic links to directories: where a path below one really is, and which other paths lead to a file.
//!
//! A runtime that extracts a layer over the ones below follows their links, so `lib/x` may be the file `usr/lib/x`.

use std::collections::{HashMap, HashSet};

use layersift_model::{ImagePath, PathBuilder, PathKey, Symlink};

/// The most links that are followed for one path, as in Linux.
const MAX_HOPS: usize = 40;

/// The most other paths of one file that are considered.
const MAX_ALIASES: usize = 64;

/// Symbolic links by their paths.
#[derive(Clone, Debug, Default)]
pub struct Symlinks {
    links: HashMap<PathKey, Symlink>,
    /// The links that lead to a directory, by its path.
    leading_to: HashMap<PathKey, Vec<ImagePath>>,
    /// How many links were made so far.
    made: usize,
}

impl Symlinks {
    /// The links `all`; a later link replaces an earlier one of the same path.
    pub fn new<'l>(all: impl IntoIterator<Item = &'l Symlink>) -> Symlinks {
        let mut symlinks = Symlinks::default();
        symlinks.add(all);
        symlinks
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
        self.links.insert(path.key(), Symlink { path, target: link.target.clone() });
        self.made += 1;
    }

    /// Removes the link at `path`, which something else takes the place of. [`Symlinks::aliases`] may still know it.
    pub fn remove(&mut self, path: &ImagePath) {
        if !self.links.is_empty() {
            self.links.remove(&self.resolve(path).key());
        }
    }

    /// Whether there is a link at `path`, to which others may lead.
    pub fn has(&self, path: &ImagePath) -> bool {
        self.links.contains_key(&self.resolve(path).key())
    }

    /// Removes the links for whose paths `keep` is false. It is given all links as they are before.
    pub fn retain(&mut self, keep: impl Fn(&ImagePath, &Symlinks) -> bool) {
        let paths = self.links.values().map(|link| &link.path);
        let dropped: HashSet<PathKey> = paths.filter(|path| !keep(path, self)).map(ImagePath::key).collect();
        if !dropped.is_empty() {
            self.links.retain(|key, _| !dropped.contains(key));
            self.index();
        }
    }

    fn index(&mut self) {
        self.leading_to.clear();
        let mut leading_to: HashMap<PathKey, Vec<ImagePath>> = HashMap::new();
        for link in self.links.values() {
            leading_to.entry(self.follow(&link.path).key()).or_default().push(link.path.clone());
        }
        // The order of a hash map differs between runs.
        leading_to.values_mut().for_each(|paths| paths.sort());
        self.leading_to = leading_to;
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
        if self.links.is_empty() || path.is_masked() {
            return path.clone();
        }
        let mut rest: Vec<Vec<u8>> = components(path.as_bytes());
        let mut done = PathBuilder::default();
        let mut hops = 0;
        while let Some(component) = rest.pop() {
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
                Some(_) => return path.clone(),
                None => {}
            }
        }
        done.into_path()
    }

    /// The other paths that lead to the file at the resolved path `path`.
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
                    if found.len() < MAX_ALIASES && seen.insert(alias.clone()) {
                        found.push(alias);
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
        for path in paths {
            let mut parts = path.as_bytes().split(|&byte| byte == b'/');
            parts.next_back();
            relevant.names.extend(parts);
        }
        if relevant.names.is_empty() {
            return relevant;
        }
        loop {
            let before = relevant.names.len();
            let found: Vec<&[u8]> =
                all.clone().filter(|link| relevant.has(link)).map(|link| link.path.name()).collect();
            relevant.names.extend(found);
            if relevant.names.len() == before {
                return relevant;
            }
        }
    }

    /// Whether `link` is one of them.
    pub fn has(&self, link: &Symlink) -> bool {
        let last = link.target.split(|&byte| byte == b'/').rfind(|part| !part.is_empty()).unwrap_or_default();
        let is_dots = matches!(last, b"" | b"." | b"..");
        !self.names.is_empty() && (is_dots || self.names.contains(last) || self.names.contains(link.path.name()))
    }
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
