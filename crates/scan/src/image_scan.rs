//! Scans the images of a source: reads each layer once, and gives one report for each image.
//!
//! ```text
//! source → images → layers, in parallel, each once → reports
//! ```

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use layersift_format::build::BuildHints;
use layersift_format::manifest::{self, Image, ImageError, LayerSource};
use layersift_format::platform::Choice;
use layersift_format::{Cancellation, FileSet, ImageSource, Location, Opened, SourceError, StreamedImage};
use layersift_model::{Digest, Gap, GapReason, ImageGap, ImagePath, ImageReport, LayerReport, Touch};

use crate::analyzer::Analyzer;
use crate::documents::DocumentWork;
use crate::masking::NameWork;
use crate::observe::{NoObserver, Observer};
use crate::source_layers::{SourceLayers, algorithm_of, find};
use crate::target_budget::TargetBudget;
use crate::{once, read_layers, stored};

/// Why a scan failed.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The source has no readable image.
    #[error(transparent)]
    Image(#[from] ImageError),
}

impl From<SourceError> for ScanError {
    fn from(error: SourceError) -> Self {
        ScanError::Image(error.into())
    }
}

/// Reports of layers from earlier scans.
pub trait KnownLayers: Sync {
    /// The report of `layer`, made under the analyzer's [`Analyzer::layer_key`].
    fn get(&self, layer: &Digest) -> Option<Arc<LayerReport>>;

    /// Saves the report of `layer`, which was read completely and whose digest was verified.
    fn keep(&self, layer: &Digest, report: &LayerReport);
}

/// A scan of the images of one source.
pub struct ImageScan<'a> {
    pub(crate) analyzer: &'a Analyzer,
    choice: Choice,
    hints: BuildHints,
    known: Option<&'a dyn KnownLayers>,
    with_referrers: bool,
    pub(crate) observer: &'a dyn Observer,
    pub(crate) cancellation: Cancellation,
}

/// The report of a layer, or a gap in its place.
type Outcome = read_layers::Outcome<LayerReport>;

pub(crate) type ReadLayers = read_layers::ReadLayers<LayerReport>;

impl<'a> ImageScan<'a> {
    /// A scan by `analyzer`, of images for the platform of this machine.
    pub fn new(analyzer: &'a Analyzer) -> ImageScan<'a> {
        ImageScan {
            analyzer,
            choice: Choice::Default,
            hints: BuildHints::default(),
            known: None,
            with_referrers: true,
            observer: &NoObserver,
            cancellation: Cancellation::never(),
        }
    }

    /// Chooses the images of an index by their platforms.
    pub fn platform(self, choice: Choice) -> ImageScan<'a> {
        ImageScan { choice, ..self }
    }

    /// Uses what is known about the build of the images: their Dockerfile, or their base image.
    pub fn build_hints(self, hints: BuildHints) -> ImageScan<'a> {
        ImageScan { hints, ..self }
    }

    /// Reuses the reports of `known` layers, if the source names the layers by digest, and saves new ones there. Rules
    /// that are made of values do neither.
    pub fn known_layers(self, known: &'a dyn KnownLayers) -> ImageScan<'a> {
        // What the rules of values find is not to be known to anyone.
        let known = Some(known).filter(|_| !self.analyzer.rules.holds_values);
        ImageScan { known, ..self }
    }

    /// Whether the images are read with what refers to them, such as signatures and attestations, which is the default.
    pub fn referrers(self, with_referrers: bool) -> ImageScan<'a> {
        ImageScan { with_referrers, ..self }
    }

    /// Reports progress to `observer`.
    pub fn observer(self, observer: &'a dyn Observer) -> ImageScan<'a> {
        ImageScan { observer, ..self }
    }

    /// Stops the scan on `cancellation`. Bytes that were not read by then are gaps.
    pub fn cancellation(self, cancellation: Cancellation) -> ImageScan<'a> {
        ImageScan { cancellation, ..self }
    }

    /// The images of `source`, without their layers.
    ///
    /// # Errors
    /// If a document cannot be read.
    pub fn images(&self, source: &dyn ImageSource) -> Result<Vec<Image>, ScanError> {
        let images = manifest::images(source, &self.choice, self.analyzer.limits());
        let mut images = images.map_err(|error| stored::masked_error(self.analyzer, error))?;
        if source.is_store() {
            stored::mask_images(self.analyzer, &mut images, &self.cancellation);
        }
        if self.with_referrers {
            manifest::add_referrers(source, self.analyzer.limits(), &mut images);
        }
        Ok(images)
    }

    /// Scans `target`, under the name `name` in the reports.
    ///
    /// # Errors
    /// If the target has no readable image. Bytes of an image that cannot be read are gaps in its report.
    pub fn run(&self, name: &str, target: Opened) -> Result<Vec<ImageReport>, ScanError> {
        let (started, scanned_at) = (Instant::now(), Timestamp::now());
        let mut reports = match target {
            Opened::Source(source) => self.source(&*source)?,
            Opened::Stream(stream) => self.stream(stream)?,
        };
        // An empty directory or tar archive looks like a root file system.
        if reports.iter().all(ImageReport::is_empty) {
            let path = if name == "-" { "standard input" } else { name }.into();
            return Err(SourceError::NotAnImage { path, what: "it is empty".into() }.into());
        }
        for report in &mut reports {
            report.target.insert_str(0, name);
            report.scanned_at = Some(scanned_at);
            report.without_referrers = !self.with_referrers;
            report.milliseconds = u64::try_from(started.elapsed().as_millis()).ok();
        }
        Ok(reports)
    }

    fn source(&self, source: &dyn ImageSource) -> Result<Vec<ImageReport>, ScanError> {
        let images = self.images(source)?;
        let read = self.read_layers(source, &images, self.no_layers());
        let reports = self.reports(source, &images, &read);
        match source.rest() {
            None => Ok(reports),
            Some(rest) => {
                let named = |report: ImageReport| {
                    let id = report.manifest_digest.as_ref().or(report.config_digest.as_ref()).map(ToString::to_string);
                    let name = report.reference.clone().or(id);
                    let target = name.map(|name| format!(":{name}")).unwrap_or_default();
                    ImageReport { target, ..report }
                };
                Ok(self.rest(source, rest?, reports.into_iter().map(named).collect()))
            }
        }
    }

    /// Scans what a store has besides the images whose `reports` are given, and reports each secret once.
    fn rest(&self, source: &dyn ImageSource, mut rest: Vec<FileSet>, reports: Vec<ImageReport>) -> Vec<ImageReport> {
        stored::mask_sets(self.analyzer, &mut rest, &self.cancellation);
        let kinds: Vec<_> = rest.iter().map(|files| (files.standing, files.kind)).collect();
        let named = |files: FileSet| {
            // The report then masks what it finds in the files in their name as well.
            let reference = Some(files.name.clone());
            Image { reference, ..manifest::file_set(files) }
        };
        let images: Vec<Image> = rest.into_iter().map(named).collect();
        let read = self.read_layers(source, &images, self.no_layers());
        let found = self.reports(source, &images, &read);
        let sets = kinds.into_iter().zip(found).map(|((standing, kind), mut report)| {
            let name = report.reference.take().unwrap_or_default();
            (standing, ImageReport { target: format!("#{}/{name}", kind.name()), ..report })
        });
        once::merge(reports, sets.collect())
    }

    /// Scans layers as the stream is read; only its end tells which images they belong to.
    fn stream(&self, stream: Box<dyn StreamedImage>) -> Result<Vec<ImageReport>, ScanError> {
        let mut read = self.no_layers();
        let source = stream.read(&mut |location, blob| {
            self.observer.planned(read.len() + 1, None);
            let algorithm = algorithm_of(location);
            let outcome =
                read.next(|| Ok(Arc::new(self.analyzer.layer(blob, algorithm, &self.cancellation, self.observer))));
            read.insert(read.len(), location.clone(), outcome);
            self.observer.layer_done();
        })?;
        let images = self.images(&*source)?;
        let read = self.read_layers(&*source, &images, read);
        Ok(self.reports(&*source, &images, &read))
    }

    fn no_layers(&self) -> ReadLayers {
        ReadLayers::new(self.analyzer.limits(), &self.analyzer.options.memory)
    }

    /// Reads every layer of `images` once, several at a time, and adds them to `read`.
    fn read_layers(&self, source: &dyn ImageSource, images: &[Image], read: ReadLayers) -> ReadLayers {
        let layers = SourceLayers { source, cancellation: &self.cancellation, observer: self.observer };
        layers.read_all(images, &self.analyzer.threads, self.analyzer.limits(), read, |location, layer| {
            self.known_or_read(&layers, location, layer)
        })
    }

    /// The report of a known layer, or the outcome of reading it; `None` for a layer that the stream has passed.
    fn known_or_read(&self, source: &SourceLayers<'_>, location: &Location, layer: &LayerSource) -> Option<Outcome> {
        let (Some(known), Some(digest)) = (self.known, &layer.digest) else {
            return self.read_layer(source, location, layer);
        };
        if let Some(report) = known.get(digest) {
            self.observer.read(layer.size.unwrap_or(0));
            if source.source.has_rest() {
                // What is never opened counts as part of the rest.
                let _ = source.source.open(location);
            }
            return Some(Ok(report));
        }
        let outcome = self.read_layer(source, location, layer);
        if let Some(Ok(report)) = &outcome
            && report.blob == *digest
            && report.is_repeatable()
        {
            known.keep(digest, report);
        }
        outcome
    }

    /// Reads one layer; `None` for a layer that the stream has passed.
    fn read_layer(&self, source: &SourceLayers<'_>, location: &Location, layer: &LayerSource) -> Option<Outcome> {
        let opened = source.open(location, layer)?;
        Some(
            opened.map(|(blob, algorithm)| {
                Arc::new(self.analyzer.layer(blob, algorithm, &self.cancellation, self.observer))
            }),
        )
    }

    pub(crate) fn reports(&self, source: &dyn ImageSource, images: &[Image], read: &ReadLayers) -> Vec<ImageReport> {
        let mut names = NameWork::new(self.analyzer.limits(), &self.cancellation);
        let mut unreadable = source.gaps();
        stored::mask_gaps(self.analyzer, &mut unreadable, &mut names);
        let work = DocumentWork::new(self.analyzer.limits());
        let mut budget = TargetBudget::new(self.analyzer.limits());
        let mut one = |image: &Image| {
            let mut layers: Vec<Outcome> = image.layers.iter().map(|layer| find(source, layer, read)).collect();
            if self.cancellation.is_cancelled() {
                budget.hurry();
            }
            budget.begin_image(&mut layers);
            let mut gaps: Vec<ImageGap> =
                unreadable.iter().map(|gap| ImageGap { gap: gap.clone(), layer: None }).collect();
            if source.is_guess() && layers.len() == 1 {
                gaps.extend(layers.iter().flatten().filter_map(|report| mistaken(report)));
            }
            for (index, layer) in image.layers.iter().enumerate() {
                let unread = layer.location.as_ref().map(|location| source.layer_gaps(location));
                let mut unread = unread.unwrap_or_default();
                stored::mask_gaps(self.analyzer, &mut unread, &mut names);
                gaps.extend(unread.into_iter().map(|gap| ImageGap { gap, layer: Some(index) }));
            }
            let documents = self.analyzer.documents(source, image, &work, &self.cancellation);
            self.analyzer.image_with_gaps(image, layers, documents, &self.hints, gaps, &mut budget)
        };
        images.iter().map(&mut one).collect()
    }
}

/// A gap if a supposed root file system has the files of an image at its root.
pub(crate) fn mistaken(report: &LayerReport) -> Option<ImageGap> {
    let has = |name: &str, touch| report.touched.has(ImagePath::normalize(name.as_bytes()).key(), touch);
    let listing = ["manifest.json", "index.json", "oci-layout"].iter().any(|name| has(name, Touch::Other));
    let detail = "the target was read as a root file system, but looks like an image; prefix it with its transport, \
                  or with rootfs:";
    let gap = Gap::new(GapReason::DamagedDocument, detail);
    (listing || has("blobs/sha256", Touch::Directory)).then_some(ImageGap { gap, layer: Some(0) })
}
