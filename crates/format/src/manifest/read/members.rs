//! The manifests that a document leads to, as a scan reads them.

use std::collections::HashSet;

use layersift_model::Digest;

use super::{DocumentReader, Leaf};
use crate::image_source::Location;
use crate::manifest::{ImageError, Member};

impl DocumentReader<'_> {
    /// The manifests of images that the document at `location` leads to.
    pub(in crate::manifest) fn members(
        &self,
        location: Location,
        digest: Option<Digest>,
    ) -> Result<Vec<Member>, ImageError> {
        let (leaves, _) = self.leaves(Leaf { location, digest, ..Leaf::default() })?;
        let member = |leaf: Leaf| {
            let Leaf { digest, media_type, size, platform, .. } = leaf;
            digest.map(|digest| Member { digest, media_type, size, platform })
        };
        Ok(leaves.into_iter().filter_map(member).collect())
    }

    /// The manifests below `root`: those of images, and those of attestations of them.
    pub(super) fn leaves(&self, root: Leaf) -> Result<(Vec<Leaf>, Vec<Leaf>), ImageError> {
        let mut leaves = Vec::new();
        self.expand(root, 0, &mut HashSet::new(), &mut leaves)?;
        let (attestations, mut leaves): (Vec<Leaf>, Vec<Leaf>) =
            leaves.into_iter().partition(|leaf| leaf.attests.is_some());
        if leaves.is_empty() {
            // Attestations without an image are read for their own sake.
            leaves = attestations.iter().map(|leaf| Leaf { attests: None, ..leaf.clone() }).collect();
        }
        Ok((leaves, attestations))
    }
}
