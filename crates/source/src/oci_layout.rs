//! OCI image layouts, in a directory or in a tar.
//!
//! Source: OCI image-spec v1.1, `image-layout.md`. `index.json` is an index over the manifests of the layout, `blobs/`
//! holds everything by digest.

use oci_spec::image::{Descriptor, ImageIndex};

use super::docker_archive;
use super::tree::Tree;
use super::{Fetched, ImageSource, Listed, Location, SourceError};
use layersift_model::{Digest, Limits};

/// The listing of a layout.
pub const INDEX: &str = "index.json";

/// The name that skopeo, buildah and Docker give an image in a layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The whole name, as containerd and Docker write it.
const IMAGE_NAME: &str = "io.containerd.image.name";

/// An OCI image layout.
pub struct OciLayout<T> {
    tree: T,
    reference: Option<String>,
    limits: Limits,
    docker_too: bool,
}

impl<T: Tree> OciLayout<T> {
    /// The layout in `tree`; only the image called `reference`, where one is named.
    pub fn new(tree: T, reference: Option<String>, limits: Limits) -> OciLayout<T> {
        OciLayout { tree, reference, limits, docker_too: false }
    }

    /// The same, and what a Docker listing beside the index names: the two may differ, and tools load either.
    pub fn with_docker_listing(self) -> OciLayout<T> {
        OciLayout { docker_too: true, ..self }
    }
}

impl<T: Tree> ImageSource for OciLayout<T> {
    fn list(&self) -> Result<Vec<Listed>, SourceError> {
        let failed = |reason: String| SourceError::Document { document: INDEX.into(), reason };
        let bytes = self
            .tree
            .document(INDEX, self.limits.document_bytes)?
            .ok_or_else(|| failed("there is none: this is no OCI layout".into()))?;
        let index: ImageIndex = serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))?;
        if index.manifests().is_empty() || index.manifests().len() > self.limits.manifests {
            return Err(failed(format!("it lists {} manifests", index.manifests().len())));
        }
        if let Some(wanted) = &self.reference {
            return self.named(index.manifests(), wanted);
        }
        // Several platforms without names are one image of several platforms, and this is its index.
        let platforms = index.manifests().iter().filter(|d| d.platform().is_some() && name(d).is_none()).count();
        if platforms > 1 && platforms == index.manifests().len() {
            return Ok(vec![Listed::Manifest { reference: None, location: Location(INDEX.into()), digest: None }]);
        }
        let mut listed: Vec<Listed> =
            index.manifests().iter().map(|descriptor| self.listed(descriptor)).collect::<Result<_, _>>()?;
        if self.docker_too
            && let Some(bytes) = self.tree.document(docker_archive::MANIFEST, self.limits.document_bytes)?
        {
            listed.extend(docker_archive::listed(&bytes, &self.limits)?);
        }
        Ok(listed)
    }

    fn locate(&self, digest: &Digest) -> Location {
        Location(format!("blobs/{}/{}", digest.algorithm().name(), digest.hex()))
    }

    fn open(&self, location: &Location) -> Result<Fetched<'_>, SourceError> {
        self.tree.open(&location.0)
    }
}

impl<T: Tree> OciLayout<T> {
    fn named(&self, manifests: &[Descriptor], wanted: &str) -> Result<Vec<Listed>, SourceError> {
        let called = |descriptor: &&Descriptor| names(descriptor).any(|name| name == wanted);
        let listed: Vec<Listed> =
            manifests.iter().filter(called).map(|descriptor| self.listed(descriptor)).collect::<Result<_, _>>()?;
        if listed.is_empty() {
            let known: Vec<String> = manifests.iter().filter_map(name).collect();
            return Err(no_such_reference(wanted, &known));
        }
        Ok(listed)
    }

    fn listed(&self, descriptor: &Descriptor) -> Result<Listed, SourceError> {
        let failed = |reason: String| SourceError::Document { document: INDEX.into(), reason };
        let digest: Digest = descriptor.digest().as_ref().parse().map_err(|error| failed(format!("{error}")))?;
        Ok(Listed::Manifest { reference: name(descriptor), location: self.locate(&digest), digest: Some(digest) })
    }
}

fn names(descriptor: &Descriptor) -> impl Iterator<Item = &str> {
    let annotations = descriptor.annotations().as_ref();
    [IMAGE_NAME, REF_NAME].into_iter().filter_map(move |key| annotations?.get(key)).map(String::as_str)
}

fn name(descriptor: &Descriptor) -> Option<String> {
    names(descriptor).next().map(str::to_string)
}

/// The error for a reference that is not among `known`.
pub(super) fn no_such_reference(wanted: &str, known: &[String]) -> SourceError {
    let known = if known.is_empty() { "no names".into() } else { known.join(", ") };
    SourceError::NoSuchReference { wanted: wanted.into(), known }
}
