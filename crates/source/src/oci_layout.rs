//! OCI image layouts, in a directory or in a tar.
//!
//! Source: OCI image-spec v1.1, `image-layout.md`. `index.json` is an index over the manifests of the layout, `blobs/`
//! holds everything by digest.

mod referrers;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use layersift_format::json::{JsonString, Node};
use layersift_format::{DocumentError, Fetched, ImageSource, Listed, Location, Opened, Referrers, SourceError};
use layersift_model::{Digest, Gap, Limits};
use serde::Deserialize;

use self::referrers::Referring;
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

/// The field of the listing with its entries.
const MANIFESTS: &str = "manifests";

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
    /// The entries of the listing that may be referrers, and what could not be read.
    referring: OnceLock<(Vec<Referring>, Vec<Gap>)>,
}

impl<T: Tree> OciLayout<T> {
    /// The layout in `tree`; only the image called `reference`, if there is one.
    pub(crate) fn new(tree: T, reference: Option<String>, limits: Limits) -> OciLayout<T> {
        OciLayout { tree, reference, limits, with_docker_listing: false, referring: OnceLock::new() }
    }

    /// The same, with the images of Docker's `manifest.json` as well: the two listings may differ, and some tools load
    /// one, some the other.
    pub(crate) fn with_docker_listing(self) -> OciLayout<T> {
        OciLayout { with_docker_listing: true, ..self }
    }
}

/// The fields of `index.json` that list its manifests.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Index {
    manifests: Vec<Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    digest: String,
    annotations: BTreeMap<String, String>,
    platform: Option<Node>,
}

impl<T: Tree> ImageSource for OciLayout<T> {
    fn list(&self) -> Result<Vec<Listed>, SourceError> {
        let (node, Index { manifests }) = self.index()?;
        let docker = self.docker_listing()?;
        let (count, most) = (manifests.len(), self.limits.manifests);
        if (count == 0 && docker.is_empty()) || count > most {
            return Err(failed(DocumentError::Count { what: "manifests", count, most }));
        }
        let listed = |index, is_first| listed_at(&node, index, is_first);
        if let Some(wanted) = &self.reference {
            return self.named(&manifests, wanted, listed);
        }
        // Several platforms without names are one image of several platforms, and this is its index.
        let platforms = manifests.iter().filter(|entry| entry.platform.is_some() && entry.name().is_none()).count();
        if platforms > 1 && platforms == count {
            let (location, listing) = (Location(INDEX.into()), Vec::new());
            return Ok(vec![Listed::Manifest { reference: None, location, digest: None, listing }]);
        }
        let mut all: Vec<Listed> = manifests
            .iter()
            .enumerate()
            .map(|(index, entry)| self.listed(entry, listed(index, index == 0)))
            .collect::<Result<_, _>>()?;
        all.extend(docker);
        Ok(all)
    }

    fn locate(&self, digest: &Digest) -> Location {
        Location(blob_path(digest))
    }

    fn referrers(&self, digest: &Digest) -> Referrers {
        self.look_up(digest)
    }

    fn open(&self, location: &Location) -> Result<Fetched<'_>, SourceError> {
        self.tree.open(&location.0)
    }

    fn gaps(&self) -> Vec<Gap> {
        self.tree.gaps()
    }

    fn compressed_documents(&self) -> Option<u64> {
        self.tree.compressed_documents()
    }
}

impl<T: Tree> OciLayout<T> {
    /// The listing, and its fields.
    fn index(&self) -> Result<(Node, Index), SourceError> {
        let missing = || failed(DocumentError::Missing { expected: "an OCI layout" });
        let bytes = self.tree.document(INDEX, self.limits.document_bytes)?.ok_or_else(missing)?;
        let node = Node::parse(&bytes).map_err(|error| failed(error.into()))?;
        let index = node.strict().map_err(|error| failed(error.into()))?;
        Ok((node, index))
    }

    /// The images of Docker's `manifest.json`, if they are asked for.
    fn docker_listing(&self) -> Result<Vec<Listed>, SourceError> {
        if !self.with_docker_listing || self.reference.is_some() {
            return Ok(Vec::new());
        }
        match self.tree.document(docker_archive::MANIFEST, self.limits.document_bytes)? {
            Some(bytes) => docker_archive::listed(&bytes, &self.limits),
            None => Ok(Vec::new()),
        }
    }

    fn named(
        &self,
        manifests: &[Entry],
        wanted: &str,
        listing: impl Fn(usize, bool) -> Vec<JsonString>,
    ) -> Result<Vec<Listed>, SourceError> {
        let called = manifests.iter().enumerate().filter(|(_, entry)| entry.names().any(|name| name == wanted));
        let listed: Vec<Listed> = called
            .enumerate()
            .map(|(number, (index, entry))| self.listed(entry, listing(index, number == 0)))
            .collect::<Result<_, _>>()?;
        if listed.is_empty() {
            let known: Vec<String> = manifests.iter().filter_map(Entry::name).collect();
            return Err(no_such_reference(wanted, &known));
        }
        Ok(listed)
    }

    fn listed(&self, entry: &Entry, listing: Vec<JsonString>) -> Result<Listed, SourceError> {
        let digest: Digest = entry.digest.parse().map_err(|error| failed(DocumentError::Digest(error)))?;
        let (reference, location) = (entry.name(), self.locate(&digest));
        Ok(Listed::Manifest { reference, location, digest: Some(digest), listing })
    }
}

impl Entry {
    fn names(&self) -> impl Iterator<Item = &str> {
        [IMAGE_NAME, REF_NAME].into_iter().filter_map(|key| self.annotations.get(key)).map(String::as_str)
    }

    fn name(&self) -> Option<String> {
        self.names().next().map(str::to_string)
    }
}

/// The strings of `index.json` that belong to the entry `index`; with the first that is listed, also those of the index
/// as a whole.
fn listed_at(node: &Node, index: usize, is_first: bool) -> Vec<JsonString> {
    let own = node.get(MANIFESTS).and_then(|list| list.elements().get(index));
    let mut strings = own.map(|entry| entry.strings(&format!("{MANIFESTS}[{index}]"), &[])).unwrap_or_default();
    if let (true, Node::Object(members)) = (is_first, node) {
        let others = members.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(MANIFESTS));
        strings.extend(Node::Object(others.cloned().collect()).strings("", &[]));
    }
    strings
}

/// The path of the blob with this digest.
fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
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
