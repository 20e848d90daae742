//! Trees: named files of a directory or an archive, in which the image layouts are looked up.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use layersift_format::tar::{BLOCK, Entry, Event, Kind, Parser};
use layersift_format::{ArchiveError, Blob, DocumentError, Fetched, MappedFile, SourceError};
use layersift_model::{ImagePath, Limits};

/// Named files.
pub(crate) trait Tree: Send + Sync {
    /// Opens the file at `path`, links resolved.
    ///
    /// # Errors
    /// If it exists and cannot be read, or a link leads in a circle.
    fn open(&self, path: &str) -> Result<Fetched<'_>, SourceError>;

    /// Reads a small file whole; `None` if it does not exist.
    ///
    /// # Errors
    /// As for [`Tree::open`], and for a file over `limit` bytes.
    fn document(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, SourceError> {
        let failed = |error| SourceError::Document { document: path.into(), error };
        match self.open(path)? {
            Fetched::Missing => Ok(None),
            Fetched::Passed(_) => Err(failed(DocumentError::ReadAsLayer)),
            Fetched::Blob(blob) => match blob.read_document(limit) {
                Ok(Some(bytes)) => Ok(Some(bytes)),
                Ok(None) => Err(failed(DocumentError::TooLarge(limit))),
                Err(error) => Err(failed(error.into())),
            },
        }
    }
}

/// The files of a directory.
pub(crate) struct DirectoryTree {
    root: PathBuf,
}

impl DirectoryTree {
    /// The files below `root`.
    pub(crate) fn new(root: &Path) -> DirectoryTree {
        DirectoryTree { root: root.into() }
    }
}

impl Tree for DirectoryTree {
    fn open(&self, path: &str) -> Result<Fetched<'_>, SourceError> {
        let full = self.root.join(ImagePath::normalize(path.as_bytes()).to_string());
        let failed = |error: io::Error| SourceError::Read { path: full.clone(), error };
        match fs::metadata(&full) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Fetched::Missing),
            Err(error) => Err(failed(error)),
            // A pipe or a device in an image directory would never end.
            Ok(metadata) if !metadata.is_file() => {
                Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")))
            }
            Ok(_) => MappedFile::open(&full).map(|map| Fetched::Blob(Blob::File(map))).map_err(failed),
        }
    }
}

/// A member of an archive.
#[derive(Clone, Debug)]
pub(crate) enum Member<D> {
    /// A file.
    Data(D),
    /// A link to another name.
    Link(String),
}

/// Follows links from `path`, and returns the name and the data of the file at their end.
pub(crate) fn resolve<'m, D>(
    members: &'m HashMap<String, Member<D>>,
    path: &str,
) -> Result<Option<(&'m str, &'m D)>, SourceError> {
    const LINKS: usize = 16;
    let mut name = ImagePath::normalize(path.as_bytes()).to_string();
    for _ in 0..LINKS {
        match members.get_key_value(&name) {
            None => return Ok(None),
            Some((name, Member::Data(data))) => return Ok(Some((name, data))),
            Some((_, Member::Link(target))) => name.clone_from(target),
        }
    }
    Err(SourceError::LinkCycle(path.into()))
}

/// The name that a link entry at `path` leads to: symbolic links start at their directory, hard links at the root.
pub(crate) fn link_target(path: &ImagePath, kind: Kind, link: &[u8]) -> String {
    let absolute = kind == Kind::HardLink || link.starts_with(b"/");
    match path.parent() {
        Some(parent) if !absolute => parent.join(link).to_string(),
        _ => ImagePath::normalize(link).to_string(),
    }
}

/// The members of an uncompressed archive in a mapped file.
pub(crate) struct ArchiveTree {
    map: MappedFile,
    members: HashMap<String, Member<(usize, usize)>>,
    first: Option<String>,
    damage: Option<SourceError>,
}

impl ArchiveTree {
    /// Reads the headers of the archive in `map`, and not the data. Members after a damaged header are lost.
    pub(crate) fn new(path: &Path, map: MappedFile, limits: &Limits) -> ArchiveTree {
        let mut tree = ArchiveTree { map, members: HashMap::new(), first: None, damage: None };
        let mut parser = Parser::new(limits.tar_extension_bytes);
        let mut at = 0usize;
        while let Some(block) = tree.map.get(at..).and_then(|rest| rest.first_chunk::<BLOCK>()) {
            let event = match parser.block(block) {
                Ok(event) => event,
                Err(error) => {
                    let error = ArchiveError::Tar(error);
                    tree.damage = Some(SourceError::Archive { path: path.into(), at: at as u64, error });
                    break;
                }
            };
            at += BLOCK;
            match event {
                None => {}
                Some(Event::End) => break,
                Some(Event::Entry(entry)) => {
                    tree.insert(&entry, at);
                    at = at.saturating_add(usize::try_from(entry.padded()).unwrap_or(usize::MAX));
                }
            }
            // No image has this many blobs: this is a root file system, whose files need not be listed.
            if tree.members.len() > limits.archive_entries {
                tree.members.clear();
                break;
            }
        }
        tree
    }

    fn insert(&mut self, entry: &Entry, at: usize) {
        let path = ImagePath::normalize(&entry.path);
        let name = path.to_string();
        if !path.is_root() && self.first.is_none() {
            self.first = Some(name.clone());
        }
        let member = match entry.kind {
            Kind::Directory | Kind::Special => return,
            Kind::Symlink | Kind::HardLink => Member::Link(link_target(&path, entry.kind, &entry.link)),
            // If the archive is cut off, the data that remains can be read, and its digest does not match.
            Kind::File => {
                let stored = usize::try_from(entry.stored).unwrap_or(usize::MAX);
                Member::Data((at, stored.min(self.map.len() - at)))
            }
        };
        self.members.insert(name, member);
    }

    /// The archive itself.
    pub(crate) fn into_map(self) -> MappedFile {
        self.map
    }

    /// The name of the first entry.
    pub(crate) fn first(&self) -> Option<&str> {
        self.first.as_deref()
    }

    /// The error at which the reading of the headers stopped.
    pub(crate) fn take_damage(&mut self) -> Option<SourceError> {
        self.damage.take()
    }

    /// Whether there is a member called `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }
}

impl Tree for ArchiveTree {
    fn open(&self, path: &str) -> Result<Fetched<'_>, SourceError> {
        Ok(match resolve(&self.members, path)? {
            Some((_, &(at, length))) => Fetched::Blob(Blob::Mapped(self.map.region().part(at..at + length))),
            None => Fetched::Missing,
        })
    }
}
