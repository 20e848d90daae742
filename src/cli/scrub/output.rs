//! Where the new image goes. Nothing is written over.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use super::reading::Source;
use crate::cli::args::RegistryArgs;
use crate::cli::context;
use layersift_format::Cancellation;
use layersift_model::Digest;
use layersift_scrub::{Scrubbed, Staging, write_docker_archive, write_oci_archive, write_oci_layout};
use layersift_source::Target;
use layersift_source::registry::{At, Reference, Registry, RegistryError};

/// Where the new image goes.
pub(super) struct Output {
    text: String,
    form: Form,
}

enum Form {
    /// An OCI layout, or an archive: the path, and the name of the image in it.
    Local(LocalForm, PathBuf, Option<String>),
    Registry(Box<RemoteImage>),
}

#[derive(Clone, Copy)]
enum LocalForm {
    OciLayout,
    OciArchive,
    DockerArchive,
}

/// A tag that is new.
struct RemoteImage {
    registry: Registry,
    reference: Reference,
}

impl Output {
    /// Parses the target of the new image, which must not exist.
    pub(super) fn parse(text: &str, source: &Source, args: &RegistryArgs) -> anyhow::Result<Output> {
        let target = Target::parse(text)?;
        let form = match target.transport.map(|transport| transport.name) {
            Some("oci") => LocalForm::OciLayout,
            Some("oci-archive") => LocalForm::OciArchive,
            Some("docker-archive") => LocalForm::DockerArchive,
            Some("docker") => {
                let reference = target.reference.as_deref().unwrap_or_default().parse()?;
                let image = RemoteImage::open(text, reference, source, args)?;
                return Ok(Output { text: text.into(), form: Form::Registry(Box::new(image)) });
            }
            _ => bail!(
                "{text}: name the form of the result: oci:DIRECTORY[:NAME], oci-archive:FILE[:NAME], \
                 docker-archive:FILE[:NAME] or docker://REPOSITORY:TAG"
            ),
        };
        let path = target.path.with_context(|| format!("{text}: the result cannot go to standard output"))?;
        ensure!(!path.exists(), "{} exists already, and nothing is written over", path.display());
        Ok(Output { text: text.into(), form: Form::Local(form, path, target.reference) })
    }

    /// The directory in which the image is put together.
    pub(super) fn directory(&self) -> PathBuf {
        let Form::Local(_, path, _) = &self.form else { return std::env::temp_dir() };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        parent.unwrap_or(Path::new(".")).into()
    }

    /// Writes the image to its place.
    pub(super) fn write(
        &self,
        staging: &Staging,
        scrubbed: &Scrubbed,
        cancellation: &Cancellation,
    ) -> anyhow::Result<()> {
        let (form, path, name) = match &self.form {
            Form::Local(form, path, name) => (form, path, name.as_deref()),
            Form::Registry(image) => return image.until(cancellation).push(staging, scrubbed),
        };
        match form {
            LocalForm::OciLayout => write_oci_layout(staging, scrubbed, path, name)?,
            LocalForm::OciArchive => write_oci_archive(staging, scrubbed, path, name)?,
            LocalForm::DockerArchive => {
                write_docker_archive(staging, scrubbed, path, name.or(scrubbed.reference.as_deref()))?;
            }
        }
        Ok(())
    }
}

impl RemoteImage {
    /// Checks that the tag is new, and not that of the source.
    fn open(text: &str, reference: Reference, source: &Source, args: &RegistryArgs) -> anyhow::Result<RemoteImage> {
        ensure!(reference.digest.is_none(), "{text}: the result has a digest of its own; name a tag");
        let is_same = |other: &Reference| {
            (&other.host, &other.repository, &other.tag) == (&reference.host, &reference.repository, &reference.tag)
        };
        ensure!(
            !source.reference.as_ref().is_some_and(is_same),
            "{text}: this is the image that is scrubbed, and nothing is written over; name another tag"
        );
        let options = context::registry_options(args, &Cancellation::never())?;
        let image = RemoteImage { registry: Registry::new(&reference.host, options)?, reference };
        image.check(text)?;
        Ok(image)
    }

    /// The same, until `cancellation` is cancelled.
    fn until(&self, cancellation: &Cancellation) -> RemoteImage {
        let registry = self.registry.with_cancellation(cancellation.clone());
        RemoteImage { registry, reference: self.reference.clone() }
    }

    /// Refuses a tag that is there.
    fn check(&self, text: &str) -> anyhow::Result<()> {
        match self.registry.manifest(&self.reference.repository, &At::Tag(self.tag())) {
            Err(RegistryError::NotFound { .. }) => Ok(()),
            Ok(_) | Err(RegistryError::Blocked { .. }) => {
                bail!("{text} exists already, and nothing is written over; name another tag")
            }
            // A registry may hide from those who are not logged in what it does not have.
            Err(error @ (RegistryError::Unauthorized { .. } | RegistryError::Forbidden { .. })) => {
                tracing::info!("{text}: {error}");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn tag(&self) -> String {
        self.reference.tag.clone().unwrap_or_else(|| "latest".into())
    }

    /// Pushes blobs first, and the tag last.
    fn push(&self, staging: &Staging, scrubbed: &Scrubbed) -> anyhow::Result<()> {
        let repository = &self.reference.repository;
        let read = |digest: &Digest| {
            let path = staging.blob(digest);
            File::open(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        for digest in &scrubbed.blobs {
            self.registry.upload_blob(repository, digest, read(digest)?)?;
        }
        let put = |digest: &Digest, media_type: &str, at: &At| {
            let mut bytes = Vec::new();
            read(digest)?.read_to_end(&mut bytes)?;
            self.registry.push_manifest(repository, at, media_type, &bytes)?;
            anyhow::Ok(())
        };
        for (digest, media_type) in &scrubbed.manifests {
            put(digest, media_type, &At::Digest(digest.clone()))?;
        }
        // The tag may have come meanwhile.
        self.check(&format!("docker://{}", self.reference))?;
        put(&scrubbed.digest, &scrubbed.media_type, &At::Tag(self.tag()))
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
