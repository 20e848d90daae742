//! What refers to a manifest of an OCI layout: entries of its `index.json` whose manifests say so in their `subject`,
//! and those with the names that stand for referrers in a registry.

use layersift_format::json::Node;
use layersift_format::manifest::is_index;
use layersift_format::{DocumentError, ReferrerList, Referrers, SourceError, unread_reason};
use layersift_model::{Digest, Gap};

use super::{Index, OciLayout, blob_path};
use crate::tree::Tree;

/// The ends of the names of cosign's signatures, attestations and bills of materials.
const COSIGN: [&str; 3] = ["sig", "att", "sbom"];

/// An entry of `index.json` that may be a referrer.
pub(super) struct Referring {
    digest: Digest,
    names: Vec<String>,
    /// What its manifest refers to.
    subject: Option<Digest>,
}

impl<T: Tree> OciLayout<T> {
    /// What refers to the manifest with this digest.
    pub(super) fn look_up(&self, digest: &Digest) -> Referrers {
        let mut found = Referrers::default();
        // Without a name, all entries are images of the target.
        if self.reference.is_none() {
            return found;
        }
        let (entries, gaps) = self.referring.get_or_init(|| self.read_referring());
        found.gaps.extend(gaps.iter().cloned());
        let tag = format!("{}-{}", digest.algorithm().name(), digest.hex());
        for entry in entries.iter().filter(|entry| entry.digest != *digest) {
            let is_list = entry.names.contains(&tag);
            let is_named = COSIGN.iter().any(|end| entry.names.contains(&format!("{tag}.{end}")));
            if is_list {
                self.add_list(entry, &mut found);
            }
            if is_named || entry.subject.as_ref() == Some(digest) {
                found.manifests.push(entry.digest.clone());
            }
        }
        found
    }

    fn add_list(&self, entry: &Referring, found: &mut Referrers) {
        match self.manifest(&entry.digest) {
            Ok(Some(bytes)) if is_index(&bytes) => {
                found.lists.push(ReferrerList { bytes, digest: Some(entry.digest.clone()) });
            }
            Ok(_) => {}
            Err(error) => found.gaps.push(gap(&error, &entry.digest)),
        }
    }

    /// The entries of `index.json`, with what their manifests refer to; and what could not be read.
    fn read_referring(&self) -> (Vec<Referring>, Vec<Gap>) {
        let (mut referring, mut gaps) = (Vec::new(), Vec::new());
        // With a damaged listing there is no image either.
        let Ok((_, Index { manifests })) = self.index() else { return (referring, gaps) };
        for entry in manifests.iter().take(self.limits.manifests) {
            let Ok(digest) = entry.digest.parse() else { continue };
            let subject = self.subject(&digest).unwrap_or_else(|error| {
                gaps.push(gap(&error, &digest));
                None
            });
            referring.push(Referring { digest, names: entry.names().map(Into::into).collect(), subject });
        }
        (referring, gaps)
    }

    fn subject(&self, manifest: &Digest) -> Result<Option<Digest>, SourceError> {
        let Some(bytes) = self.manifest(manifest)? else { return Ok(None) };
        let node = Node::parse(&bytes).ok();
        let subject = node.as_ref().and_then(|node| node.get("subject")?.get("digest")?.as_str()?.parse().ok());
        Ok(subject)
    }

    /// The bytes of a manifest of the layout, or of any other document in its place. `None` if there is none.
    fn manifest(&self, digest: &Digest) -> Result<Option<Vec<u8>>, SourceError> {
        match self.tree.document(&blob_path(digest), self.limits.document_bytes) {
            // What a stream handed out as a layer is not a manifest.
            Err(SourceError::Document { error: DocumentError::ReadAsLayer, .. }) => Ok(None),
            result => result,
        }
    }
}

fn gap(error: &SourceError, digest: &Digest) -> Gap {
    Gap::new(unread_reason(error), format!("whether it refers to the image is not known: {error}"))
        .at(digest.to_string())
}
