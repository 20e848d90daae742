//! Flags about how an image was built.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::input_file;
use layersift_format::build::{BuildHints, KnownBase, NamedDockerfile};
use layersift_format::platform::Choice;
use layersift_format::{Opened, manifest};
use layersift_model::Limits;
use layersift_source::registry::RegistryOptions;
use layersift_source::{Target, open};

/// The largest Dockerfile in bytes.
const MAX_DOCKERFILE: u64 = 1 << 20;

/// What is known about the build of an image.
#[derive(Debug, Default, Args)]
pub(crate) struct BuildArgs {
    /// Dockerfile of the image: layers and findings then name its lines
    ///
    /// Its last stage is matched with the history of the image from the end. Without it, lines are those that the
    /// provenance of the image claims.
    #[arg(long, value_name = "FILE")]
    dockerfile: Option<PathBuf>,

    /// Image that the scanned image is based on: a target like that of the scan
    ///
    /// Only its manifest and configuration are read. Findings then say whether they are in its layers.
    #[arg(long, value_name = "TARGET")]
    base: Option<String>,
}

impl BuildArgs {
    /// Reads the Dockerfile, and the base image without its layers.
    pub(crate) fn hints(&self, registry: &RegistryOptions) -> anyhow::Result<BuildHints> {
        let dockerfile = self.dockerfile.as_deref().map(read_dockerfile).transpose()?;
        let bases = match &self.base {
            Some(base) => read_base(base, registry).with_context(|| format!("cannot read the base image {base}"))?,
            None => Vec::new(),
        };
        Ok(BuildHints { dockerfile, bases })
    }
}

fn read_dockerfile(path: &Path) -> anyhow::Result<NamedDockerfile> {
    let bytes = input_file::read_up_to(path, MAX_DOCKERFILE)?;
    Ok(NamedDockerfile::new(&path.display().to_string(), &String::from_utf8_lossy(&bytes)))
}

fn read_base(text: &str, registry: &RegistryOptions) -> anyhow::Result<Vec<KnownBase>> {
    let target = Target::parse(text)?;
    let limits = Limits::default();
    let Opened::Source(source) = open(&target, &limits, registry)? else {
        anyhow::bail!("a stream cannot be read without its layers: save it to a file that is not compressed");
    };
    let images = manifest::images(&*source, &Choice::All, &limits)?;
    Ok(images.iter().map(|image| KnownBase::new(text, image)).collect())
}
