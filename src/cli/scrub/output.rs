//! Where the new image goes. Nothing is written over.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use super::reading::Source;
use layersift_scrub::{Scrubbed, Staging, write_docker_archive, write_oci_archive, write_oci_layout};
use layersift_source::Target;

/// Where the new image goes.
pub(super) struct Output {
    text: String,
    form: Form,
    path: PathBuf,
    name: Option<String>,
}

#[derive(Clone, Copy)]
enum Form {
    OciLayout,
    OciArchive,
    DockerArchive,
}

impl Output {
    /// Parses the target of the new image, which must not be that of the old one.
    pub(super) fn parse(text: &str, source: &Source) -> anyhow::Result<Output> {
        let target = Target::parse(text)?;
        let form = match target.transport.map(|transport| transport.name) {
            Some("oci") => Form::OciLayout,
            Some("oci-archive") => Form::OciArchive,
            Some("docker-archive") => Form::DockerArchive,
            _ => bail!(
                "{text}: name the form of the result: oci:DIRECTORY[:NAME], oci-archive:FILE[:NAME] or \
                 docker-archive:FILE[:NAME]"
            ),
        };
        let _ = source;
        let path = target.path.with_context(|| format!("{text}: the result cannot go to standard output"))?;
        ensure!(!path.exists(), "{} exists already, and nothing is written over", path.display());
        Ok(Output { text: text.into(), form, path, name: target.reference })
    }

    /// The directory in which the image is put together.
    pub(super) fn directory(&self) -> PathBuf {
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        parent.unwrap_or(Path::new(".")).into()
    }

    /// Writes the image to its place.
    pub(super) fn write(&self, staging: &Staging, scrubbed: &Scrubbed) -> anyhow::Result<()> {
        let name = self.name.as_deref();
        match self.form {
            Form::OciLayout => write_oci_layout(staging, scrubbed, &self.path, name)?,
            Form::OciArchive => write_oci_archive(staging, scrubbed, &self.path, name)?,
            Form::DockerArchive => {
                write_docker_archive(staging, scrubbed, &self.path, name.or(scrubbed.reference.as_deref()))?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
