//! Paths inside images: normalized paths, and the fixed-size keys that represent them in sets.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::changes_display;

/// The longest path in bytes: PATH_MAX of Linux, so nothing that extracts a layer can create a longer one.
pub const LONGEST_NAME: usize = 4096;

/// A normalized path inside an image: no leading `/` or `./`, no `.`, `..` or empty components; any bytes otherwise.
///
/// A path that a secret was [masked](ImagePath::masked) in keeps the keys of the path as it was.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ImagePath {
    bytes: Box<[u8]>,
    before: Option<Box<Keys>>,
}

/// The key of a path, and those of its ancestors, the root first.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
struct Keys {
    own: PathKey,
    above: Vec<PathKey>,
}

impl ImagePath {
    /// Normalizes a name from an archive. As in an extractor, `..` never leaves the root.
    pub fn normalize(name: &[u8]) -> ImagePath {
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in name.split(|&byte| byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => drop(parts.pop()),
                _ => parts.push(part),
            }
        }
        ImagePath::of(parts.join(&b'/'))
    }

    fn of(bytes: impl Into<Box<[u8]>>) -> ImagePath {
        ImagePath { bytes: bytes.into(), before: None }
    }

    /// The path with the bytes `masked` instead of its own. It is the same file: its keys stay those of the path, which
    /// tell nothing of it.
    pub fn masked(&self, masked: &[u8]) -> ImagePath {
        let keys = Keys { own: self.key(), above: self.ancestor_keys() };
        ImagePath { bytes: masked.into(), before: Some(Box::new(keys)) }
    }

    /// Whether a secret was masked in the path.
    pub fn is_masked(&self) -> bool {
        self.before.is_some()
    }

    /// The bytes of the path.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The last component; empty for the root.
    pub fn name(&self) -> &[u8] {
        match memchr::memrchr(b'/', &self.bytes) {
            Some(slash) => &self.bytes[slash + 1..],
            None => &self.bytes,
        }
    }

    /// The path without its last component; `None` for the root.
    pub fn parent(&self) -> Option<ImagePath> {
        if self.is_root() {
            return None;
        }
        let end = memchr::memrchr(b'/', &self.bytes).unwrap_or(0);
        Some(ImagePath::of(&self.bytes[..end]))
    }

    /// The parent, its parent and so on; the root is the last.
    pub fn ancestors(&self) -> impl Iterator<Item = ImagePath> + use<> {
        std::iter::successors(self.parent(), ImagePath::parent)
    }

    /// Of the [ancestors](ImagePath::ancestors) the one with `depth` components; the path itself if it has no more.
    pub fn ancestor(&self, depth: usize) -> ImagePath {
        let end = match depth.checked_sub(1) {
            None => 0,
            Some(slashes) => memchr::memchr_iter(b'/', &self.bytes).nth(slashes).unwrap_or(self.bytes.len()),
        };
        ImagePath::of(&self.bytes[..end])
    }

    /// This path with `name` appended.
    pub fn join(&self, name: &[u8]) -> ImagePath {
        ImagePath::normalize(&[&self.bytes[..], b"/", name].concat())
    }

    /// The key that represents this path in a set.
    pub fn key(&self) -> PathKey {
        self.before.as_ref().map_or_else(|| PathKey::of(Sha256::new_with_prefix(&self.bytes)), |keys| keys.own)
    }

    /// The number of its [ancestors](ImagePath::ancestors).
    pub fn depth(&self) -> usize {
        match &self.before {
            Some(keys) => keys.above.len(),
            None if self.is_root() => 0,
            None => 1 + memchr::memchr_iter(b'/', &self.bytes).count(),
        }
    }

    /// The keys of the [ancestors](ImagePath::ancestors), the root first. All of them take about the work of one key
    /// for each directory, however long the path is.
    pub fn ancestor_keys(&self) -> Vec<PathKey> {
        self.unknown_ancestor_keys(|_| false)
    }

    /// The same, without those that are known. Above a known directory, all are known. Besides the work of the keys
    /// that it returns, it takes that of hashing the path about twice.
    pub fn unknown_ancestor_keys(&self, mut is_known: impl FnMut(PathKey) -> bool) -> Vec<PathKey> {
        if let Some(keys) = &self.before {
            let known = keys.above.partition_point(|key| is_known(*key));
            return keys.above[known..].to_vec();
        }
        if self.is_root() {
            return Vec::new();
        }
        // Where the names of the ancestors end.
        let ends: Vec<usize> = std::iter::once(0).chain(memchr::memchr_iter(b'/', &self.bytes)).collect();
        // The hash of the deepest directory that is known so far.
        let (mut hasher, mut hashed) = (Sha256::new(), 0);
        let (mut known, mut unknown) = (0, ends.len());
        // Often the path is in a known directory.
        let mut next = ends.len() - 1;
        while known < unknown {
            let longer = hasher.clone().chain_update(&self.bytes[hashed..ends[next]]);
            if is_known(PathKey::of(longer.clone())) {
                (hasher, hashed, known) = (longer, ends[next], next + 1);
            } else {
                unknown = next;
            }
            next = known + (unknown - known) / 2;
        }
        let key = |end: &usize| {
            hasher.update(&self.bytes[hashed..*end]);
            hashed = *end;
            PathKey::of(hasher.clone())
        };
        ends[known..].iter().map(key).collect()
    }
}

/// A path that is put together component by component, with its key after each at little cost.
#[derive(Debug, Default)]
pub struct PathBuilder {
    bytes: Vec<u8>,
    /// For each component the length of the path before it, and the hash up to its end.
    parts: Vec<(usize, Sha256)>,
}

impl PathBuilder {
    /// Appends a component, which is not empty, `.` or `..`, and has no `/`.
    pub fn push(&mut self, component: &[u8]) {
        let before = self.bytes.len();
        let mut hasher = self.parts.last().map_or_else(Sha256::new, |(_, hasher)| hasher.clone());
        if !self.bytes.is_empty() {
            self.bytes.push(b'/');
            hasher.update(b"/");
        }
        self.bytes.extend_from_slice(component);
        hasher.update(component);
        self.parts.push((before, hasher));
    }

    /// Removes the last component; the root stays.
    pub fn pop(&mut self) {
        if let Some((before, _)) = self.parts.pop() {
            self.bytes.truncate(before);
        }
    }

    /// The key of the path so far.
    pub fn key(&self) -> PathKey {
        PathKey::of(self.parts.last().map_or_else(Sha256::new, |(_, hasher)| hasher.clone()))
    }

    /// The path.
    pub fn into_path(self) -> ImagePath {
        ImagePath::of(self.bytes)
    }
}

impl fmt::Display for ImagePath {
    /// Writes UTF-8 as it is, and other and control bytes as `\xNN`: two different paths never look the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.bytes.utf8_chunks() {
            let mut rest = chunk.valid();
            while let Some(at) = rest.find(|c| c == '\\' || changes_display(c)) {
                let (plain, special) = rest.split_at(at);
                f.write_str(plain)?;
                let mut chars = special.chars();
                match chars.next() {
                    Some('\\') => f.write_str("\\\\")?,
                    Some(c) if c.is_control() => write!(f, "\\x{:02x}", u32::from(c))?,
                    Some(c) => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                    None => {}
                }
                rest = chars.as_str();
            }
            f.write_str(rest)?;
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Serialize for ImagePath {
    /// Writes the printed form in human-readable formats, and the bytes in others.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            (&self.bytes, &self.before).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for ImagePath {
    /// Reads the bytes; the printed form cannot be read back.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ImagePath, D::Error> {
        if deserializer.is_human_readable() {
            return Err(serde::de::Error::custom("a path cannot be read from a human-readable format"));
        }
        let (bytes, before) = <(Vec<u8>, Option<Box<Keys>>)>::deserialize(deserializer)?;
        Ok(ImagePath { before, ..ImagePath::normalize(&bytes) })
    }
}

/// The first 128 bits of a path's SHA-256: short enough to keep for every file of an image, long enough that nobody
/// can construct two paths with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PathKey([u8; 16]);

impl PathKey {
    /// The key of the path whose bytes were hashed.
    fn of(hashed: Sha256) -> PathKey {
        let hash = hashed.finalize();
        let mut key = [0; 16];
        key.copy_from_slice(&hash[..16]);
        PathKey(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling() {
        for name in ["a/b", "./a/b", "/a/b", "a//b/", "../a/b", "a/../../a/./b"] {
            assert_eq!(ImagePath::normalize(name.as_bytes()).to_string(), "a/b", "{name}");
        }
        assert!(ImagePath::normalize(b"./").is_root());
    }

    #[test]
    fn ancestors_end_at_the_root() {
        let path = ImagePath::normalize(b"a/b/c");
        let up: Vec<String> = path.ancestors().map(|p| p.to_string()).collect();
        assert_eq!(up, ["a/b", "a", ""]);
        assert_eq!(path.name(), b"c");
        assert_eq!(path.parent().unwrap().join(b"d").to_string(), "a/b/d");
        assert_eq!([0, 1, 2, 3, 4].map(|depth| path.ancestor(depth).to_string()), ["", "a", "a/b", "a/b/c", "a/b/c"]);
    }

    #[test]
    fn keys_of_ancestors() {
        for name in ["", "a", "a/b", "a/bb/ccc/d"] {
            let path = ImagePath::normalize(name.as_bytes());
            let mut expected: Vec<PathKey> = path.ancestors().map(|above| above.key()).collect();
            expected.reverse();
            assert_eq!(path.ancestor_keys(), expected, "{name}");
        }
    }

    #[test]
    fn keys_below_what_is_known() {
        for name in ["", "a", "a/b", "a/bb/ccc/d", "a/a/a/a/a/a/a/a/a/a/a/a/a"] {
            let path = ImagePath::normalize(name.as_bytes());
            let all = path.ancestor_keys();
            for path in [path.clone(), path.masked(b"x")] {
                assert_eq!(path.depth(), all.len());
                for known in 0..=all.len() {
                    let mut asked = 0;
                    let keys = path.unknown_ancestor_keys(|key| {
                        asked += 1;
                        all[..known].contains(&key)
                    });
                    assert_eq!(keys, all[known..], "{name} from {known}");
                    assert!(asked <= 5, "{asked}");
                }
            }
        }
    }

    #[test]
    fn a_masked_path_is_the_same_file() {
        let path = ImagePath::normalize(b"a/token-abc/c");
        let masked = path.masked(b"a/token-****/c");
        assert_eq!(masked.to_string(), "a/token-****/c");
        assert_eq!((masked.key(), masked.ancestor_keys()), (path.key(), path.ancestor_keys()));
        assert!(masked.is_masked() && !path.is_masked());
        let kept = postcard::to_stdvec(&masked).unwrap();
        assert_eq!(postcard::from_bytes::<ImagePath>(&kept).unwrap(), masked);
    }

    #[test]
    fn a_path_in_components() {
        let mut builder = PathBuilder::default();
        assert_eq!(builder.key(), ImagePath::default().key());
        builder.push(b"a");
        builder.push(b"bc");
        assert_eq!(builder.key(), ImagePath::normalize(b"a/bc").key());
        builder.pop();
        builder.push(b"d");
        assert_eq!(builder.key(), ImagePath::normalize(b"a/d").key());
        assert_eq!(builder.into_path(), ImagePath::normalize(b"a/d"));
    }

    #[test]
    fn different_bytes_print_differently() {
        let bad = ImagePath::normalize(b"a\xff\n");
        assert_eq!(bad.to_string(), "a\\xff\\x0a");
        assert_ne!(bad.to_string(), ImagePath::normalize(b"a\\xff\\x0a").to_string());
        assert_eq!(ImagePath::normalize("a\u{202e}b".as_bytes()).to_string(), "a\\u{202e}b");
    }
}
