//! skopeo's `dir:` transport: a manifest and its blobs as plain files of one directory.
//!
//! Source: containers-transports(5). The manifest, or index, is `manifest.json`; blobs are named by their hexadecimal
//! digest alone, manifests below an index by digest and `.manifest.json`.

use super::tree::{DirectoryTree, Tree};
use super::{Fetched, ImageSource, Listed, Location, SourceError};
use layersift_model::Digest;

/// A directory that skopeo wrote.
pub struct SkopeoDir {
    tree: DirectoryTree,
}

impl SkopeoDir {
    /// The image in `tree`.
    pub fn new(tree: DirectoryTree) -> SkopeoDir {
        SkopeoDir { tree }
    }
}

impl ImageSource for SkopeoDir {
    fn list(&self) -> Result<Vec<Listed>, SourceError> {
        let location = Location("manifest.json".into());
        Ok(vec![Listed::Manifest { reference: None, location, digest: None }])
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
