//! What an archive is made of: trees of directories, and files whose content is somewhere else.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use layersift_format::MappedFile;

/// A part of an archive.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    /// The files below a directory.
    Tree(Tree),
    /// A file.
    File {
        /// Its name in the archive.
        name: String,
        /// What is in it.
        content: Content,
    },
    /// Files, in the order of their names.
    Files(Arc<Files>),
    /// The removal of a file of a lower layer.
    Whiteout(String),
}

/// Files that are no files on the disk: records of a database. Others share them, because there may be many.
#[derive(Debug)]
pub(crate) struct Files {
    /// The name of the directory that they are in.
    pub(crate) directory: String,
    /// Their content, by their names below it.
    pub(crate) files: BTreeMap<String, Content>,
}

/// The content of a file that is no file on the disk.
#[derive(Clone)]
pub(crate) enum Content {
    /// Bytes in memory.
    Bytes(Arc<[u8]>),
    /// A value of a database.
    Region(Arc<MappedFile>, Range<usize>),
}

/// The files below a directory, and how they are read.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    /// The directory.
    pub(crate) path: PathBuf,
    /// What their names begin with in the archive.
    pub(crate) prefix: Vec<u8>,
    /// Whether it is a layer of an overlay file system, which has its own marks for what a layer removes.
    pub(crate) is_overlay: bool,
    /// The directory that it is a changed copy of: the archive then has the changes.
    pub(crate) base: Option<PathBuf>,
    /// The most files of that directory that it may lack. The archive does not tell of more.
    pub(crate) most_removed: usize,
    /// Paths that are left out, with everything below them.
    pub(crate) skip: Arc<HashSet<PathBuf>>,
    /// Whether the archive says who owns the files, and when they were modified.
    pub(crate) has_attributes: bool,
    /// Whether the path may be a symbolic link to the directory, as `/proc/PID/root` is.
    pub(crate) is_link_followed: bool,
    /// The device that the directory is on.
    pub(crate) device: Option<u64>,
}

impl Tree {
    /// All files below `path`, as they are.
    pub(crate) fn new(path: &Path) -> Tree {
        Tree {
            path: path.into(),
            prefix: Vec::new(),
            is_overlay: false,
            base: None,
            most_removed: 0,
            skip: Arc::default(),
            has_attributes: false,
            is_link_followed: false,
            device: fs::metadata(path).ok().map(|metadata| metadata.dev()),
        }
    }

    /// The layer of an overlay file system in `path`.
    pub(crate) fn overlay(path: &Path) -> Tree {
        Tree { is_overlay: true, has_attributes: true, ..Tree::new(path) }
    }

    /// The changes from the directory `base` to the directory `path`, with at most `most_removed` removed files.
    pub(crate) fn changes(base: &Path, path: &Path, most_removed: usize) -> Tree {
        Tree { base: Some(base.into()), most_removed, has_attributes: true, ..Tree::new(path) }
    }

    /// The files of an engine, called as below its root.
    pub(crate) fn named(path: &Path, prefix: &str) -> Tree {
        Tree { prefix: prefix.as_bytes().to_vec(), has_attributes: true, ..Tree::new(path) }
    }

    /// The same without the files in `skip`.
    pub(crate) fn without(self, skip: Arc<HashSet<PathBuf>>) -> Tree {
        Tree { skip, ..self }
    }

    /// The name of the file at `path` in the archive.
    pub(super) fn name(&self, path: &Path) -> Vec<u8> {
        let relative = path.strip_prefix(&self.path).unwrap_or(path).as_os_str().as_bytes();
        match (self.prefix.is_empty(), relative.is_empty()) {
            (true, _) => relative.into(),
            (false, true) => self.prefix.clone(),
            (false, false) => [self.prefix.as_slice(), b"/", relative].concat(),
        }
    }
}

impl Content {
    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Content::Bytes(bytes) => bytes,
            Content::Region(map, range) => map.get(range.clone()).unwrap_or_default(),
        }
    }

    /// Fails if the file of the database was cut off, so that bytes of it were missing.
    pub(crate) fn check_whole(&self) -> io::Result<()> {
        match self {
            Content::Bytes(_) => Ok(()),
            Content::Region(map, _) => map.check_whole(),
        }
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The bytes may be a secret.
        write!(f, "Content({} bytes)", self.bytes().len())
    }
}
