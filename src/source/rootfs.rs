//! Root file systems without an image around them: a tar, or a directory read as if it were one.

use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use super::directory_tar::{DirectoryTar, Unreadable};
use super::{Fetched, ImageSource, Listed, Location, SourceError};
use crate::blob::Blob;
use crate::digest::Digest;
use crate::gap::Gap;
use crate::map::MappedFile;

/// A root file system.
pub enum RootFs {
    /// In a directory, and what of it could not be read.
    Directory(PathBuf, Unreadable),
    /// In a mapped tar, compressed or not.
    Archive(MappedFile),
    /// It passed by on a stream.
    Passed,
}

impl RootFs {
    /// The location of the only layer there is.
    pub fn layer() -> Location {
        Location(String::new())
    }

    /// The root file system below `path`.
    pub fn directory(path: &Path) -> RootFs {
        RootFs::Directory(path.into(), Unreadable::default())
    }
}

impl ImageSource for RootFs {
    fn list(&self) -> Result<Vec<Listed>, SourceError> {
        Ok(vec![Listed::RootFs { layer: RootFs::layer() }])
    }

    fn locate(&self, _: &Digest) -> Location {
        RootFs::layer()
    }

    fn open(&self, _: &Location) -> Result<Fetched<'_>, SourceError> {
        Ok(match self {
            RootFs::Directory(path, unreadable) => {
                let tar = DirectoryTar::new(path, unreadable.clone());
                Fetched::Blob(Blob::Stream(Box::new(tar)))
            }
            RootFs::Archive(map) => Fetched::Blob(Blob::Mapped(map.region())),
            RootFs::Passed => Fetched::Passed(RootFs::layer()),
        })
    }

    fn gaps(&self) -> Vec<Gap> {
        match self {
            RootFs::Directory(_, unreadable) => unreadable.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            RootFs::Archive(_) | RootFs::Passed => Vec::new(),
        }
    }
}
