//! An image of a registry whose attestations are read or written.

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde::de::IgnoredAny;

use layersift_attest::{Descriptor, MANIFEST};
use layersift_format::Cancellation;
use layersift_format::manifest::{Member, images, members};
use layersift_format::platform::{Choice, Platform};
use layersift_model::{Limits, parse};
use layersift_source::Target;
use layersift_source::registry::{Reference, Registry, RegistryOptions, RegistrySource, Repository};

/// An image of a registry, whose tag was resolved once.
pub(crate) struct RegistryImage {
    pub(crate) repository: Repository,
    host: String,
    source: RegistrySource,
    pub(crate) root: Descriptor,
    /// The manifests that the root leads to, each once, if the root is an index: those that a scan reads.
    pub(crate) platforms: Option<Vec<PlatformManifest>>,
}

/// A manifest that an index leads to.
pub(crate) struct PlatformManifest {
    pub(crate) subject: Descriptor,
    /// The platforms under which the index has it.
    pub(crate) platforms: Vec<Platform>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Kind {
    media_type: Option<String>,
    manifests: Option<IgnoredAny>,
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
        let manifest = source.root()?.clone();
        let kind: Kind = parse::json(&manifest.bytes).with_context(|| target.text.clone())?;
        let media_type = kind.media_type.clone().or_else(|| manifest.media_type.clone()).unwrap_or_default();
        let mut root = Descriptor::of(&media_type, &manifest.bytes);
        root.digest = manifest.digest.clone();
        let members = members(&source, &Limits::default())?;
        let is_index = members.iter().any(|member| member.digest != root.digest);
        ensure!(is_index || kind.manifests.is_none(), "{}: the index has no image", target.text);
        let platforms = is_index.then(|| platforms(members)).transpose().with_context(|| target.text.clone())?;
        Ok(Some(RegistryImage { repository, host, source, root, platforms }))
    }

    /// What a statement calls the image: registry and repository, as cosign does.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository.name())
    }

    /// A target that names the same bytes, whatever the tag does.
    pub(crate) fn target(&self) -> String {
        format!("docker://{}@{}", self.name(), self.root.digest)
    }

    /// The platform that the configuration of the image names, if the root is a manifest.
    pub(crate) fn platform(&self) -> anyhow::Result<Option<Platform>> {
        let images = images(&self.source, &Choice::All, &Limits::default())?;
        let platform = images.first().and_then(|image| image.platform.as_deref());
        Ok(platform.and_then(|platform| platform.parse().ok()))
    }

    /// The manifests that the index leads to, if the root is one.
    pub(crate) fn platform_subjects(&self) -> impl Iterator<Item = &Descriptor> {
        self.platforms.iter().flatten().map(|platform| &platform.subject)
    }
}

fn platforms(members: Vec<Member>) -> anyhow::Result<Vec<PlatformManifest>> {
    let mut platforms: Vec<PlatformManifest> = Vec::new();
    for Member { digest, media_type, size, platform } in members {
        if let Some(known) = platforms.iter_mut().find(|known| known.subject.digest == digest) {
            known.platforms.extend(platform);
            continue;
        }
        let size = size.with_context(|| format!("the index does not say how large {digest} is"))?;
        let media_type = if media_type.is_empty() { MANIFEST } else { &media_type };
        let subject = Descriptor { digest, size, ..Descriptor::of(media_type, b"") };
        platforms.push(PlatformManifest { subject, platforms: platform.into_iter().collect() });
    }
    Ok(platforms)
}
