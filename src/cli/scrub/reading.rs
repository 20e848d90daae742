//! Reads the image that is scrubbed, and the one that was made of it.

use anyhow::{Context, bail};

use super::ScrubArgs;
use crate::cli::args::{RegistryArgs, TargetArgs};
use crate::cli::context;
use crate::cli::read::Reading;
use layersift_format::platform::Choice;
use layersift_format::{Cancellation, ImageSource, Listed, Opened};
use layersift_model::{ImageReport, Limits};
use layersift_scan::Analyzer;
use layersift_scrub::Staging;
use layersift_source::registry::Reference;
use layersift_source::{Target, open};

/// The image that is scrubbed.
pub(super) struct Source {
    /// The target; for an image of a registry with the digest that its tag has now.
    pub(super) target: Target,
    pub(super) source: Box<dyn ImageSource>,
    /// The image of a registry, as it was written.
    pub(super) reference: Option<Reference>,
}

impl Source {
    /// Opens the image `target`, which has to be one that can be read more than once.
    pub(super) fn open(target: Target, registry: &RegistryArgs, cancellation: &Cancellation) -> anyhow::Result<Source> {
        let options = context::registry_options(registry, cancellation)?;
        let Opened::Source(source) = open(&target, &Limits::default(), &options)? else {
            bail!("{}: it can be read only once; save it to a file that is not compressed first", target.name());
        };
        if target.transport.is_none_or(|transport| transport.name != "docker") {
            return Ok(Source { target, source, reference: None });
        }
        let reference: Reference = target.reference.as_deref().unwrap_or_default().parse()?;
        // The tag may move meanwhile.
        let Some(Listed::Manifest { digest, .. }) = source.list()?.pop() else {
            bail!("{}: it is not an image", target.name());
        };
        let pinned = Reference { digest, ..reference.clone() };
        let target = Target::parse(&format!("docker://{pinned}"))?;
        Ok(Source { target, source, reference: Some(reference) })
    }
}

/// Scans the image `target` until `cancellation` is cancelled.
pub(super) fn scan(
    args: &ScrubArgs,
    target: &str,
    platform: Choice,
    analyzer: &Analyzer,
    cancellation: &Cancellation,
) -> anyhow::Result<Vec<ImageReport>> {
    let reading = Reading {
        target: &TargetArgs { target: target.into(), platform: Some(platform), all: false },
        build: None,
        // They are about the old image, and so not part of the new one.
        with_referrers: false,
        registry: &args.registry,
        quiet: &args.quiet,
        store: None,
        timeout: None,
    };
    reading.scan_until(analyzer, cancellation)
}

/// Scans the image that was made.
pub(super) fn scan_staged(
    args: &ScrubArgs,
    staging: &Staging,
    analyzer: &Analyzer,
    cancellation: &Cancellation,
) -> anyhow::Result<Vec<ImageReport>> {
    let path = staging.path().to_str().context("the path of the result is not UTF-8")?;
    scan(args, &format!("oci:{path}"), Choice::All, analyzer, cancellation)
}
