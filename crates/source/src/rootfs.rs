//! Root file systems without an image around them: a tar, or a directory read as if it were one.

use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use super::directory_tar::{DirectoryTar, Unreadable};
use super::{Fetched, ImageSource, Listed, Location, SourceError};
use layersift_format::{Blob, MappedFile};
use layersift_model::{Digest, Gap};

/// A root file system.
pub struct RootFs {
    place: Place,
    guess: bool,
}

enum Place {
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

    /// The root file system below `path`. `guess` says that nothing named it one.
    pub fn directory(path: &Path, guess: bool) -> RootFs {
        RootFs { place: Place::Directory(path.into(), Unreadable::default()), guess }
    }

    /// The root file system in a tar.
    pub fn archive(map: MappedFile, guess: bool) -> RootFs {
        RootFs { place: Place::Archive(map), guess }
    }

    /// The root file system that passed by on a stream.
    pub fn passed(guess: bool) -> RootFs {
        RootFs { place: Place::Passed, guess }
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
        Ok(match &self.place {
            Place::Directory(path, unreadable) => {
                let tar = DirectoryTar::new(path, unreadable.clone());
                Fetched::Blob(Blob::Stream(Box::new(tar)))
            }
            Place::Archive(map) => Fetched::Blob(Blob::Mapped(map.region())),
            Place::Passed => Fetched::Passed(RootFs::layer()),
        })
    }

    fn is_guess(&self) -> bool {
        self.guess
    }

    fn gaps(&self) -> Vec<Gap> {
        match &self.place {
            Place::Directory(_, unreadable) => unreadable.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            Place::Archive(_) | Place::Passed => Vec::new(),
        }
    }
}
