//! OCI image layouts, in a directory or in a tar.
//!
//! Source: OCI image-spec v1.1, `image-layout.md`. `index.json` is an index over the manifests of the layout, `blobs/`
//! holds everything by digest.

use layersift_format::{DocumentError, Fetched, ImageSource, Listed, Location, Opened, SourceError};
use layersift_model::{Digest, Limits};
use oci_spec::image::{Descriptor, ImageIndex};

use crate::docker_archive::{self, no_such_reference};
use crate::open::{Context, Input};
use crate::stream::StreamLayout;
use crate::target::{Transport, parse_path_and_reference};
use crate::tree::{DirectoryTree, Tree};

/// `oci:`
pub(crate) static DIRECTORY_TRANSPORT: Transport =
    Transport { name: "oci", argument: "DIRECTORY[:REFERENCE]", parse: parse_path_and_reference, open: open_directory };

/// `oci-archive:`
pub(crate) static ARCHIVE_TRANSPORT: Transport = Transport {
    name: "oci-archive",
    argument: "FILE[:REFERENCE]",
    parse: parse_path_and_reference,
    open: |context| {
        let (reference, limits) = (context.reference(), context.limits.clone());
        context.archive(StreamLayout::Oci, |tree| Box::new(OciLayout::new(tree, reference, limits)))
    },
};

/// The listing of a layout.
pub(crate) const INDEX: &str = "index.json";

/// The annotation with the name that skopeo, buildah and Docker give an image.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The annotation with the full name, as containerd and Docker write it.
const IMAGE_NAME: &str = "io.containerd.image.name";

/// An OCI image layout.
pub(crate) struct OciLayout<T> {
    tree: T,
    reference: Option<String>,
    limits: Limits,
    with_docker_listing: bool,
}

impl<T: Tree> OciLayout<T> {
    /// The layout in `tree`; only the image called `reference`, if there is one.
    pub(crate) fn new(tree: T, reference: Option<String>, limits: Limits) -> OciLayout<T> {
        OciLayout { tree, reference, limits, with_docker_listing: false }
    }

    /// The same, with the images of Docker's `manifest.json` as well: the two listings may differ, and some tools load
    /// one, some the other.
    pub(crate) fn with_docker_listing(self) -> OciLayout<T> {
        OciLayout { with_docker_listing: true, ..self }
    }
}

impl<T: Tree> ImageSource for OciLayout<T> {
    fn list(&self) -> Result<Vec<Listed>, SourceError> {
        let missing = || failed(DocumentError::Missing { expected: "an OCI layout" });
        let bytes = self.tree.document(INDEX, self.limits.document_bytes)?.ok_or_else(missing)?;
        let index: ImageIndex = serde_json::from_slice(&bytes).map_err(|error| failed(error.into()))?;
        let (count, most) = (index.manifests().len(), self.limits.manifests);
        if count == 0 || count > most {
            return Err(failed(DocumentError::Count { what: "manifests", count, most }));
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
        if self.with_docker_listing
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
        let digest: Digest =
            descriptor.digest().as_ref().parse().map_err(|error| failed(DocumentError::Digest(error)))?;
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

fn failed(error: DocumentError) -> SourceError {
    SourceError::Document { document: INDEX.into(), error }
}

/// Opens the layout in a directory, or in a tar on standard input.
fn open_directory(context: &Context<'_>) -> Result<Opened, SourceError> {
    if context.target.path.is_none()
        && let Input::Stream(path, input) = context.input()?
    {
        return Ok(context.stream(path, input, StreamLayout::Oci));
    }
    let tree = DirectoryTree::new(&context.directory()?);
    Ok(Opened::Source(Box::new(OciLayout::new(tree, context.reference(), context.limits.clone()))))
}
