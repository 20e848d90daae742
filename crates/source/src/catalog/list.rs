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

use super::{Catalog, CatalogError, Entries, Entry, Filter, ListError};
use crate::registry::{Host, Reference, ReferenceError};

/// The most bytes of a list.
const MAX_BYTES: u64 = 32 << 20;

/// The most lines of a list that are not empty.
const MAX_LINES: usize = 250_000;

/// Lists the references of a file in their order, each once. An invalid line is an error in its place, and the other
/// lines follow.
#[derive(Clone, Debug)]
pub struct ImageList {
    path: PathBuf,
    /// The number of each line, from 1, and its reference, or what is wrong with it.
    lines: Vec<(usize, Result<Reference, ReferenceError>)>,
}

impl ImageList {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, is not UTF-8, is larger than 32 MiB, or has more than 250,000 images.
    pub fn read(path: &Path) -> Result<ImageList, CatalogError> {
        let failed = |error| CatalogError::File { path: path.into(), error };
        let file = std::fs::File::open(path).map_err(|error| failed(error.into()))?;
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| failed(error.into()))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(failed(ListError::TooLarge(MAX_BYTES)));
        }
        let text = String::from_utf8(bytes).map_err(|_| failed(ListError::NotUtf8))?;
        ImageList::parse(path, &text)
    }

    /// Parses a text; `path` is its name in messages.
    ///
    /// # Errors
    /// If it has more than 250,000 images.
    pub fn parse(path: &Path, text: &str) -> Result<ImageList, CatalogError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut known = HashSet::new();
        let mut lines = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = content(line);
            if line.is_empty() {
                continue;
            }
            if lines.len() >= MAX_LINES {
                return Err(CatalogError::File { path: path.into(), error: ListError::TooMany(MAX_LINES) });
            }
            let parsed = line.parse::<Reference>();
            if parsed.as_ref().map_or(true, |reference| known.insert(reference.to_string())) {
                lines.push((index + 1, parsed));
            }
        }
        Ok(ImageList { path: path.into(), lines })
    }

    fn entry(&self, line: usize, parsed: &Result<Reference, ReferenceError>) -> Result<Entry, CatalogError> {
        let invalid =
            |error: &ReferenceError| CatalogError::Line { path: self.path.clone(), line, error: error.clone() };
        let reference = parsed.as_ref().map_err(invalid)?;
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
            self.lines.iter().filter_map(|(_, parsed)| parsed.as_ref().ok()).map(|reference| &reference.host).collect();
        hosts.into_iter().cloned().collect()
    }

    fn entries<'c>(&'c self, filter: &'c Filter) -> Entries<'c> {
        let wanted = |entry: Result<Entry, CatalogError>| entry.map(|entry| filter.apply(entry)).transpose();
        Box::new(self.lines.iter().filter_map(move |(line, parsed)| wanted(self.entry(*line, parsed))))
    }
}

/// A line without its comment. A `#` begins one at the start of the line, or after a space.
fn content(line: &str) -> &str {
    let is_comment = |at: &usize| *at == 0 || line[..*at].ends_with(char::is_whitespace);
    let at = line.match_indices('#').map(|(at, _)| at).find(is_comment).unwrap_or(line.len());
    line[..at].trim()
}
