//! Reads the images of a target, for `scan` and `layers`: the only place that opens targets and scans them.

use std::ffi::OsStr;
use std::time::Duration;

use super::args::{QuietArgs, RegistryArgs, TargetArgs};
use super::build::BuildArgs;
use super::context;
use super::progress::ScanProgress;
use layersift_fleet::{LayerCache, add_stored_base};
use layersift_format::platform::Choice;
use layersift_format::{Cancellation, Opened};
use layersift_model::{ImageReport, Inventory, Limits};
use layersift_scan::{Analyzer, ImageScan, ScanError};
use layersift_source::{Target, open};
use layersift_store::Store;

/// What to read, and how.
pub(crate) struct Reading<'r> {
    pub(crate) target: &'r TargetArgs,
    /// What is known about the build of the image.
    pub(crate) build: Option<&'r BuildArgs>,
    /// Whether what refers to the images is read as well.
    pub(crate) with_referrers: bool,
    pub(crate) registry: &'r RegistryArgs,
    pub(crate) quiet: &'r QuietArgs,
    /// Keeps layer results, and has those of earlier scans.
    pub(crate) store: Option<&'r OsStr>,
    /// The time for the whole scan.
    pub(crate) timeout: Option<Duration>,
}

impl Reading<'_> {
    /// Scans the images of the target with `analyzer`, which is not needed afterwards.
    pub(crate) fn scan(&self, analyzer: Analyzer) -> anyhow::Result<Vec<ImageReport>> {
        let reports = self.scan_by(&analyzer);
        // The process ends soon; freeing the compiled rules would only take time.
        std::mem::forget(analyzer);
        reports
    }

    /// Scans the images of the target with `analyzer`.
    pub(crate) fn scan_by(&self, analyzer: &Analyzer) -> anyhow::Result<Vec<ImageReport>> {
        self.scan_until(analyzer, &Cancellation::never())
    }

    /// The same, until `cancellation` is cancelled.
    pub(crate) fn scan_until(
        &self,
        analyzer: &Analyzer,
        cancellation: &Cancellation,
    ) -> anyhow::Result<Vec<ImageReport>> {
        let store = self.store.map(Store::open).transpose()?;
        let cache = store.as_ref().map(|store| LayerCache::new(store, analyzer, context::now));
        let mut reports = self.read(analyzer, cancellation, |scan, name, opened| match &cache {
            Some(cache) => scan.known_layers(cache).run(name, opened),
            None => scan.run(name, opened),
        })?;
        if let Some(cache) = &cache {
            store_images(cache, &reports)?;
        }
        if let Some(store) = &store {
            reports.iter_mut().try_for_each(|report| add_stored_base(store, report))?;
        }
        Ok(reports)
    }

    /// Scans the images of the target with `analyzer`, and lists their packages. Every layer is read: a store does not
    /// have packages.
    pub(crate) fn scan_with_packages(&self, analyzer: &Analyzer) -> anyhow::Result<Vec<(ImageReport, Inventory)>> {
        self.read(analyzer, &Cancellation::never(), |scan, name, opened| scan.run_with_inventory(name, opened))
    }

    /// Opens the target, and reads it by `run`, which gets its name.
    fn read<'s, T>(
        &'s self,
        analyzer: &'s Analyzer,
        cancellation: &Cancellation,
        run: impl FnOnce(ImageScan<'_>, &str, Opened) -> Result<T, ScanError>,
    ) -> anyhow::Result<T> {
        let target = self.target.parse()?;
        let progress = ScanProgress::start(self.quiet.quiet);
        let cancellation = match self.timeout {
            Some(timeout) => cancellation.child_with_deadline(timeout),
            None => cancellation.clone(),
        };
        let registry = context::registry_options(self.registry, &cancellation)?;
        let hints = self.build.map(|build| build.hints(&registry)).transpose()?.unwrap_or_default();
        let opened = open(&target, &Limits::default(), &registry)?;
        let scan = ImageScan::new(analyzer)
            .platform(self.target.platform.clone().unwrap_or(Choice::Default))
            .build_hints(hints)
            .referrers(self.with_referrers)
            .observer(&progress)
            .cancellation(cancellation);
        let read = run(scan, &target.text, opened);
        progress.finish();
        Ok(read?)
    }
}

/// Refuses a target that is a pipe, a socket or a device: it can be read only once, and would be waited for, perhaps
/// for ever.
pub(crate) fn refuse_pipe(target: &OsStr) -> anyhow::Result<()> {
    let path = Target::parse_os(target)?.path;
    let metadata = path.as_ref().and_then(|path| path.metadata().ok());
    let is_pipe = metadata.is_some_and(|metadata| !metadata.is_file() && !metadata.is_dir());
    anyhow::ensure!(!is_pipe, "{}: it is neither a regular file nor a directory", target.display());
    Ok(())
}

/// Stores the reports of images. Those of their layers are in the store already.
pub(crate) fn store_images(cache: &LayerCache<'_>, reports: &[ImageReport]) -> anyhow::Result<()> {
    if let Some(failure) = cache.failure() {
        return Err(failure.into());
    }
    for report in reports.iter().filter(|report| is_stored(report)) {
        cache.put_image(report, None)?;
    }
    Ok(())
}

/// Whether a store keeps the report. An image without a manifest, such as a root file system, has no name to be stored
/// under; and a gap in the documents of an image here need not be one elsewhere, nor one that a timeout made.
pub(crate) fn is_stored(report: &ImageReport) -> bool {
    let mut gaps = report.gaps.iter();
    report.manifest_digest.is_some() && gaps.all(|gap| gap.layer.is_some() && !gap.gap.reason.is_transient())
}
