//! An image of a registry whose attestations are read or written.

use anyhow::Context;
use serde::Deserialize;

use layersift_attest::{Descriptor, INDEX};
use layersift_format::Cancellation;
use layersift_format::manifest::image_digests;
use layersift_source::Target;
use layersift_source::registry::{Reference, Registry, RegistryOptions, RegistrySource, Repository};

const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// An image of a registry, whose tag was resolved once.
pub(crate) struct RegistryImage {
    pub(crate) repository: Repository,
    host: String,
    pub(crate) root: Descriptor,
    /// The manifests that can run, if the root is an index.
    pub(crate) platforms: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
struct Index {
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    manifests: Option<Vec<Descriptor>>,
}

impl RegistryImage {
    /// The image that `target` names, if it is one of a registry.
    pub(crate) fn open(
        target: &Target,
        options: RegistryOptions,
        cancellation: &Cancellation,
    ) -> anyhow::Result<Option<RegistryImage>> {
        if target.transport.is_none_or(|transport| transport.name != "docker") {
            return Ok(None);
        }
        let reference: Reference = target.reference.as_deref().unwrap_or_default().parse()?;
        let registry = Registry::new(&reference.host, options)?;
        let repository = Repository::new(&registry, &reference.repository, cancellation);
        let host = reference.host.name().to_owned();
        let source = RegistrySource::new(registry, reference);
        let manifest = source.root()?;
        let index: Index = serde_json::from_slice(&manifest.bytes).with_context(|| target.text.clone())?;
        let media_type = index.media_type.or_else(|| manifest.media_type.clone()).unwrap_or_default();
        let is_index = media_type == INDEX || media_type == DOCKER_INDEX;
        // An annotation alone does not make an entry an attestation: it could hide an image.
        let running = image_digests(&manifest.digest, &manifest.bytes);
        let runs = |entry: &Descriptor| running.as_ref().is_none_or(|running| running.contains(&entry.digest));
        let platforms = index.manifests.filter(|_| is_index).map(|all| all.into_iter().filter(runs).collect());
        let mut root = Descriptor::of(&media_type, &manifest.bytes);
        root.digest = manifest.digest.clone();
        Ok(Some(RegistryImage { repository, host, root, platforms }))
    }

    /// What a statement calls the image: registry and repository, as cosign does.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository.name())
    }

    /// A target that names the same bytes, whatever the tag does.
    pub(crate) fn target(&self) -> String {
        format!("docker://{}@{}", self.name(), self.root.digest)
    }
}
