//! Scans the images of a source: reads each layer once, and gives one report for each image.
//!
//! ```text
//! source → images → layers, in parallel, each once → reports
//! ```

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use jiff::Timestamp;
use layersift_format::build::BuildHints;
use layersift_format::manifest::{self, Image, ImageError, LayerSource};
use layersift_format::platform::Choice;
use layersift_format::{
    Blob, CancelReason, Cancellation, Fetched, ImageSource, Location, Opened, SourceError, StreamedImage,
};
use layersift_model::{Algorithm, Digest, Gap, GapReason, ImageGap, ImagePath, ImageReport, LayerReport, Touch};

use crate::analyzer::Analyzer;
use crate::layer::read::cancelled;
use crate::observe::{NoObserver, Observer};

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
    analyzer: &'a Analyzer,
    choice: Choice,
    hints: BuildHints,
    known: Option<&'a dyn KnownLayers>,
    observer: &'a dyn Observer,
    cancellation: Cancellation,
}

/// The report of a layer, or a gap in its place.
type Outcome = Result<Arc<LayerReport>, Gap>;

/// Outcomes by the location of the layer's blob.
type ReadLayers = HashMap<Location, Outcome>;

impl<'a> ImageScan<'a> {
    /// A scan by `analyzer`, of images for the platform of this machine.
    pub fn new(analyzer: &'a Analyzer) -> ImageScan<'a> {
        ImageScan {
            analyzer,
            choice: Choice::Default,
            hints: BuildHints::default(),
            known: None,
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

    /// Reuses the reports of `known` layers, if the source names the layers by digest, and saves new ones there.
    pub fn known_layers(self, known: &'a dyn KnownLayers) -> ImageScan<'a> {
        ImageScan { known: Some(known), ..self }
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
        Ok(manifest::images(source, &self.choice, self.analyzer.limits())?)
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
            report.target = name.into();
            report.scanned_at = Some(scanned_at);
            report.milliseconds = u64::try_from(started.elapsed().as_millis()).ok();
        }
        Ok(reports)
    }

    fn source(&self, source: &dyn ImageSource) -> Result<Vec<ImageReport>, ScanError> {
        let images = self.images(source)?;
        let read = self.read_layers(source, &images);
        Ok(self.reports(source, &images, &read))
    }

    /// Scans layers as the stream is read; only its end tells which images they belong to.
    fn stream(&self, stream: Box<dyn StreamedImage>) -> Result<Vec<ImageReport>, ScanError> {
        let mut read = ReadLayers::new();
        let source = stream.read(&mut |location, bytes| {
            self.observer.planned(read.len() + 1, None);
            let sha512 = location.0.contains("blobs/sha512/");
            let algorithm = if sha512 { Algorithm::Sha512 } else { Algorithm::Sha256 };
            let report = self.analyzer.layer(Blob::Stream(bytes), algorithm, &self.cancellation, self.observer);
            read.insert(location.clone(), Ok(Arc::new(report)));
            self.observer.layer_done();
        })?;
        let images = self.images(&*source)?;
        read.extend(self.read_layers(&*source, &images));
        Ok(self.reports(&*source, &images, &read))
    }

    /// Reads every layer of `images` once, several at a time.
    fn read_layers(&self, source: &dyn ImageSource, images: &[Image]) -> ReadLayers {
        let mut unique: BTreeMap<&Location, &LayerSource> = BTreeMap::new();
        for layer in images.iter().flat_map(|image| &image.layers) {
            if let Some(location) = &layer.location {
                unique.entry(location).or_insert(layer);
            }
        }
        let mut queue: Vec<(&Location, &LayerSource)> = unique.into_iter().collect();
        // The largest layers first: a large layer at the end would leave other cores idle.
        queue.sort_by_key(|(_, layer)| std::cmp::Reverse(layer.size));
        let bytes = queue.iter().map(|(_, layer)| layer.size).sum::<Option<u64>>();
        self.observer.planned(queue.len(), bytes);
        let next = AtomicUsize::new(0);
        let read = Mutex::new(ReadLayers::new());
        let work = || {
            while let Some((location, layer)) = queue.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Some(outcome) = self.known_or_read(source, location, layer) {
                    read.lock().unwrap_or_else(PoisonError::into_inner).insert((*location).clone(), outcome);
                }
                self.observer.layer_done();
            }
        };
        match source.concurrent_reads() {
            // These threads mostly wait for the network, so they are separate from the scanning threads.
            Some(readers) => thread::scope(|scope| {
                for _ in 0..readers.min(queue.len()) {
                    scope.spawn(work);
                }
            }),
            None => self.analyzer.threads.scope(|scope| {
                for _ in 0..self.analyzer.threads.current_num_threads().min(queue.len()) {
                    scope.spawn(|_| work());
                }
            }),
        }
        read.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// The report of a known layer, or the outcome of reading it; `None` for a layer that the stream has passed.
    fn known_or_read(&self, source: &dyn ImageSource, location: &Location, layer: &LayerSource) -> Option<Outcome> {
        let (Some(known), Some(digest)) = (self.known, &layer.digest) else {
            return self.read_layer(source, location, layer);
        };
        if let Some(report) = known.get(digest) {
            self.observer.read(layer.size.unwrap_or(0));
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
    fn read_layer(&self, source: &dyn ImageSource, location: &Location, layer: &LayerSource) -> Option<Outcome> {
        if let Some(reason) = self.cancellation.reason() {
            return Some(Err(cancelled(reason).at(&location.0)));
        }
        let algorithm = layer.digest.as_ref().map_or(Algorithm::Sha256, |digest| digest.algorithm());
        match source.open(location) {
            Ok(Fetched::Blob(blob)) => {
                let report = self.analyzer.layer(blob, algorithm, &self.cancellation, self.observer);
                Some(Ok(Arc::new(report)))
            }
            Ok(Fetched::Passed(_)) => None,
            Ok(Fetched::Missing) if !layer.urls.is_empty() => {
                let detail = "foreign layer: the image has only its URL, and the layer was not downloaded";
                Some(Err(Gap::new(GapReason::ForeignLayer, detail).at(&location.0)))
            }
            Ok(Fetched::Missing) => {
                let gap = Gap::new(GapReason::MissingBlob, source.missing("layer")).at(&location.0);
                Some(Err(layer.size.map_or(gap.clone(), |size| gap.sized(size))))
            }
            Err(error) => {
                let gap = match CancelReason::of(&error) {
                    Some(reason) => cancelled(reason),
                    None => Gap::new(GapReason::Unreadable, error.to_string()),
                };
                Some(Err(gap.at(&location.0)))
            }
        }
    }

    fn reports(&self, source: &dyn ImageSource, images: &[Image], read: &ReadLayers) -> Vec<ImageReport> {
        let unreadable = source.gaps();
        let one = |image: &Image| {
            let layers: Vec<Outcome> = image.layers.iter().map(|layer| outcome(source, layer, read)).collect();
            let mut gaps: Vec<ImageGap> =
                unreadable.iter().map(|gap| ImageGap { gap: gap.clone(), layer: None }).collect();
            if source.is_guess() && layers.len() == 1 {
                gaps.extend(layers.iter().flatten().filter_map(mistaken));
            }
            let documents = self.analyzer.documents(source, image, &self.cancellation);
            self.analyzer.image_with_gaps(image, layers, documents, &self.hints, gaps)
        };
        images.iter().map(one).collect()
    }
}

/// A gap if a supposed root file system has the files of an image at its root.
fn mistaken(report: &Arc<LayerReport>) -> Option<ImageGap> {
    let has = |name: &str, touch| report.touched.has(ImagePath::normalize(name.as_bytes()).key(), touch);
    let listing = ["manifest.json", "index.json", "oci-layout"].iter().any(|name| has(name, Touch::Other));
    let detail = "the target was read as a root file system, but looks like an image; prefix it with its transport, \
                  or with rootfs:";
    let gap = Gap::new(GapReason::DamagedDocument, detail);
    (listing || has("blobs/sha256", Touch::Directory)).then_some(ImageGap { gap, layer: Some(0) })
}

/// The outcome for a layer of an image.
fn outcome(source: &dyn ImageSource, layer: &LayerSource, read: &ReadLayers) -> Outcome {
    let missing = || Gap::new(GapReason::MissingBlob, "the layer was not read");
    let location = layer.location.as_ref().ok_or_else(missing)?;
    if let Some(outcome) = read.get(location) {
        return outcome.clone();
    }
    match source.open(location) {
        Ok(Fetched::Passed(name)) => read.get(&name).cloned().unwrap_or_else(|| Err(missing())),
        _ => Err(missing()),
    }
}
