//! A list of images in a file: one reference on each line, of any number of registries.
//!
//! ```text
//! # what runs in production
//! registry.example/team/app:v1
//! docker://other.example:5000/tool@sha256:…    # the digest decides
//! ```

use std::collections::{BTreeSet, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{Catalog, CatalogError, Entries, Entry, Filter};
use crate::registry::{Host, Reference};

/// Bytes of a list.
const MOST_BYTES: u64 = 32 << 20;

/// Lines of a list that are not empty.
const MOST_LINES: usize = 250_000;

/// Lists what a file names, in its order, each image once. A line that names none is an error in its place, and the
/// rest still comes.
#[derive(Clone, Debug)]
pub struct ImageList {
    path: PathBuf,
    /// References, or what is wrong with a line, with its number from 1.
    lines: Vec<(usize, Result<Reference, String>)>,
}

impl ImageList {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is no UTF-8, is larger than 32 MiB, or has more than 250,000 images.
    pub fn read(path: &Path) -> Result<ImageList, CatalogError> {
        let failed = |reason: String| CatalogError::File { path: path.into(), reason };
        let file = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
        let mut bytes = Vec::new();
        file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(failed(format!("a list of images has at most {MOST_BYTES} bytes; divide it")));
        }
        let text = String::from_utf8(bytes).map_err(|_| failed("a list of images must be UTF-8".into()))?;
        ImageList::parse(path, &text)
    }

    /// Reads a text; `path` is what errors call it.
    ///
    /// # Errors
    /// When it has more than 250,000 images.
    pub fn parse(path: &Path, text: &str) -> Result<ImageList, CatalogError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut known = HashSet::new();
        let mut lines = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = content(line);
            if line.is_empty() {
                continue;
            }
            if lines.len() >= MOST_LINES {
                let reason = format!("a list of images has at most {MOST_LINES} of them; divide it");
                return Err(CatalogError::File { path: path.into(), reason });
            }
            let read = line.parse::<Reference>().map_err(|error| error.to_string());
            if read.as_ref().is_err() || read.as_ref().is_ok_and(|reference| known.insert(reference.to_string())) {
                lines.push((index + 1, read));
            }
        }
        Ok(ImageList { path: path.into(), lines })
    }

    fn entry(&self, line: usize, read: &Result<Reference, String>) -> Result<Entry, CatalogError> {
        let wrong = |reason: &String| CatalogError::Line { path: self.path.clone(), line, reason: reason.clone() };
        let reference = read.as_ref().map_err(wrong)?;
        Ok(Entry {
            host: reference.host.clone(),
            project: None,
            repository: reference.repository.clone(),
            tags: reference.tag.iter().cloned().collect(),
            digest: reference.digest.clone(),
            pushed_at: None,
        })
    }
}

impl Catalog for ImageList {
    fn hosts(&self) -> Vec<Host> {
        let hosts: BTreeSet<&Host> =
            self.lines.iter().filter_map(|(_, read)| read.as_ref().ok()).map(|reference| &reference.host).collect();
        hosts.into_iter().cloned().collect()
    }

    fn entries<'c>(&'c self, filter: &'c Filter) -> Entries<'c> {
        let wanted = |entry: Result<Entry, CatalogError>| entry.map(|entry| filter.apply(entry)).transpose();
        Box::new(self.lines.iter().filter_map(move |(line, read)| wanted(self.entry(*line, read))))
    }
}

/// A line without its comment, which begins the line or follows a space: no reference has a `#`.
fn content(line: &str) -> &str {
    let is_comment = |at: &usize| *at == 0 || line[..*at].ends_with(char::is_whitespace);
    let at = line.match_indices('#').map(|(at, _)| at).find(is_comment).unwrap_or(line.len());
    line[..at].trim()
}
