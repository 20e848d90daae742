//! Root file systems without an image: a tar, or a directory that is read as one.

use std::path::{Path, PathBuf};

use layersift_disks::directory_tar::{DirectoryTar, Unreadable};
use layersift_format::{Blob, Fetched, ImageSource, Listed, Location, MappedFile, Opened, SourceError};
use layersift_model::{Digest, Gap};

use crate::open::Input;
use crate::stream::StreamLayout;
use crate::target::{Transport, parse_path};

/// `rootfs:`
pub(crate) static TRANSPORT: Transport = Transport {
    name: "rootfs",
    argument: "DIRECTORY or FILE",
    parse: parse_path,
    open: |context| match context.input()? {
        Input::Directory(path) => Ok(Opened::Source(Box::new(RootFs::directory(&path, false)))),
        Input::File(_, map) => Ok(Opened::Source(Box::new(RootFs::archive(map, false)))),
        Input::Stream(path, input) => Ok(context.stream(path, input, StreamLayout::RootFs)),
    },
};

/// A root file system.
pub(crate) struct RootFs {
    origin: Origin,
    is_guess: bool,
}

enum Origin {
    /// A directory, and the files in it that could not be read.
    Directory(PathBuf, Unreadable),
    /// A mapped tar, compressed or not.
    Archive(MappedFile),
    /// A stream, which has been read.
    Passed,
}

impl RootFs {
    /// The location of the only layer.
    pub(crate) fn layer() -> Location {
        Location(String::new())
    }

    /// The root file system below `path`. `is_guess` if the user did not say that it is
    /// one.
    pub(crate) fn directory(path: &Path, is_guess: bool) -> RootFs {
        RootFs { origin: Origin::Directory(path.into(), Unreadable::default()), is_guess }
    }

    /// The root file system in a tar.
    pub(crate) fn archive(map: MappedFile, is_guess: bool) -> RootFs {
        RootFs { origin: Origin::Archive(map), is_guess }
    }

    /// The root file system of a stream that has been read.
    pub(crate) fn passed(is_guess: bool) -> RootFs {
        RootFs { origin: Origin::Passed, is_guess }
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
        Ok(match &self.origin {
            Origin::Directory(path, unreadable) => {
                let tar = DirectoryTar::new(path, unreadable.clone());
                Fetched::Blob(Blob::Stream(Box::new(tar)))
            }
            Origin::Archive(map) => Fetched::Blob(Blob::Mapped(map.region())),
            Origin::Passed => Fetched::Passed(RootFs::layer()),
        })
    }

    fn is_guess(&self) -> bool {
        self.is_guess
    }

    fn gaps(&self) -> Vec<Gap> {
        match &self.origin {
            Origin::Directory(_, unreadable) => unreadable.gaps(),
            Origin::Archive(_) | Origin::Passed => Vec::new(),
        }
    }
}
