//! skopeo's `dir:` transport: a manifest and its blobs as plain files of one directory.
//!
//! Source: containers-transports(5). The manifest, or index, is `manifest.json`; blobs are named by their hexadecimal
//! digest alone, manifests below an index by digest and `.manifest.json`.

use layersift_format::{Fetched, ImageSource, Listed, Location, Opened, SourceError};
use layersift_model::Digest;

use crate::target::{Transport, parse_path};
use crate::tree::{DirectoryTree, Tree};

/// `dir:`
pub(crate) static TRANSPORT: Transport = Transport {
    name: "dir",
    argument: "DIRECTORY",
    parse: parse_path,
    open: |context| Ok(Opened::Source(Box::new(SkopeoDir::new(DirectoryTree::new(&context.directory()?))))),
};

/// The manifest or index of the image.
pub(crate) const MANIFEST: &str = "manifest.json";

/// A directory that skopeo wrote.
pub(crate) struct SkopeoDir {
    tree: DirectoryTree,
}

impl SkopeoDir {
    /// The image in `tree`.
    pub(crate) fn new(tree: DirectoryTree) -> SkopeoDir {
        SkopeoDir { tree }
    }
}

impl ImageSource for SkopeoDir {
    fn list(&self) -> Result<Vec<Listed>, SourceError> {
        let location = Location(MANIFEST.into());
        Ok(vec![Listed::Manifest { reference: None, location, digest: None, listing: Vec::new() }])
    }

    fn locate(&self, digest: &Digest) -> Location {
        Location(digest.hex().into())
    }

    fn open(&self, location: &Location) -> Result<Fetched<'_>, SourceError> {
        match self.tree.open(&location.0)? {
            Fetched::Missing => self.tree.open(&format!("{}.manifest.json", location.0)),
            found => Ok(found),
        }
    }
}
