//! The packages of the images of a source: reads each layer once for the records of packages in it, without rules, and
//! joins the layers of an image.

mod join;
mod kept;
pub(crate) mod layer;
pub(crate) mod visitor;
mod with_findings;

use std::sync::Arc;

use jiff::Timestamp;
use layersift_format::manifest::{self, Image};
use layersift_format::platform::Choice;
use layersift_format::{Cancellation, ImageSource, Opened, SourceError, StreamedImage};
use layersift_model::{Gap, GapReason, ImageGap, Inventory, InventoryLayer, Limits};
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

use self::join::join;
use self::layer::{LayerPackages, PackageReader};
use crate::assemble::{kind, not_a_tar, other_count, verify};
use crate::image_scan::{ScanError, mistaken};
use crate::listed_gaps::ListedGaps;
use crate::memory::MemoryBudget;
use crate::observe::{NoObserver, Observer};
use crate::read_layers::ReadLayers;
use crate::source_layers::{SourceLayers, algorithm_of, find};
use crate::target_budget::TargetBudget;

/// Reads the packages of the images of one source.
pub struct InventoryScan<'a> {
    threads: ThreadPool,
    limits: Limits,
    choice: Choice,
    observer: &'a dyn Observer,
    cancellation: Cancellation,
    memory: MemoryBudget,
}

impl<'a> InventoryScan<'a> {
    /// A scan with `threads` threads, or one for each processor if it is 0, of images for the platform of this machine.
    ///
    /// # Errors
    /// If the threads cannot be started.
    pub fn new(threads: usize) -> Result<InventoryScan<'a>, ThreadPoolBuildError> {
        Ok(InventoryScan {
            threads: ThreadPoolBuilder::new().num_threads(threads).build()?,
            limits: Limits::default(),
            choice: Choice::Default,
            observer: &NoObserver,
            cancellation: Cancellation::never(),
            memory: MemoryBudget::default(),
        })
    }

    /// Chooses the images of an index by their platforms.
    pub fn platform(self, choice: Choice) -> InventoryScan<'a> {
        InventoryScan { choice, ..self }
    }

    /// Reports progress to `observer`.
    pub fn observer(self, observer: &'a dyn Observer) -> InventoryScan<'a> {
        InventoryScan { observer, ..self }
    }

    /// Stops on `cancellation`. Bytes that were not read by then are gaps.
    pub fn cancellation(self, cancellation: Cancellation) -> InventoryScan<'a> {
        InventoryScan { cancellation, ..self }
    }

    /// Takes its memory from `memory`, which other scans may share.
    pub fn memory(self, memory: MemoryBudget) -> InventoryScan<'a> {
        InventoryScan { memory, ..self }
    }

    /// Reads the packages of `target`, under the name `name`.
    ///
    /// # Errors
    /// If the target has no readable image. Bytes of an image that cannot be read are gaps in its inventory.
    pub fn run(&self, name: &str, target: Opened) -> Result<Vec<Inventory>, ScanError> {
        let read_at = Timestamp::now();
        let reader = PackageReader::new(&self.threads, &self.limits, self.memory.clone());
        let mut inventories = match target {
            Opened::Source(source) => self.source(&*source, &reader, self.no_layers())?,
            Opened::Stream(stream) => self.stream(stream, &reader)?,
        };
        // An empty directory or tar archive looks like a root file system.
        if inventories.iter().all(|(inventory, entries)| is_empty(inventory, *entries)) {
            let path = if name == "-" { "standard input" } else { name }.into();
            return Err(SourceError::NotAnImage { path, what: "it is empty".into() }.into());
        }
        for (inventory, _) in &mut inventories {
            inventory.target = name.into();
            inventory.read_at = Some(read_at);
        }
        Ok(inventories.into_iter().map(|(inventory, _)| inventory).collect())
    }

    fn no_layers(&self) -> ReadLayers<LayerPackages> {
        ReadLayers::new(&self.limits, &self.memory)
    }

    /// Reads layers as the stream is read; only its end tells which images they belong to.
    fn stream(
        &self,
        stream: Box<dyn StreamedImage>,
        reader: &PackageReader<'_>,
    ) -> Result<Vec<(Inventory, u64)>, ScanError> {
        let mut read = self.no_layers();
        let source = stream.read(&mut |location, blob| {
            self.observer.planned(read.len() + 1, None);
            let outcome = read.next(|| {
                let layer = reader.layer(blob, algorithm_of(location), &self.cancellation, self.observer);
                Ok(Arc::new(layer))
            });
            read.insert(read.len(), location.clone(), outcome);
            self.observer.layer_done();
        })?;
        self.source(&*source, reader, read)
    }

    /// The inventory of each image, and the number of entries in its layers.
    fn source(
        &self,
        source: &dyn ImageSource,
        reader: &PackageReader<'_>,
        read: ReadLayers<LayerPackages>,
    ) -> Result<Vec<(Inventory, u64)>, ScanError> {
        let images = manifest::images(source, &self.choice, &self.limits)?;
        let layers = SourceLayers { source, cancellation: &self.cancellation, observer: self.observer };
        let read =
            layers.read_all(&images, &self.threads, &self.limits, read, |location, layer| {
                let opened = layers.open(location, layer)?;
                Some(opened.map(|(blob, algorithm)| {
                    Arc::new(reader.layer(blob, algorithm, &self.cancellation, self.observer))
                }))
            });
        let unreadable = source.gaps();
        let mut budget = TargetBudget::new(&self.limits);
        Ok(images
            .iter()
            .map(|image| inventory(source, image, &read, &unreadable, (&self.limits, &mut budget)))
            .collect())
    }
}

fn is_empty(inventory: &Inventory, entries: u64) -> bool {
    let has_documents = inventory.config_digest.is_some() || inventory.manifest_digest.is_some();
    !has_documents && inventory.gaps.is_empty() && entries == 0
}

/// The inventory of `image`, and the number of entries in its layers. What it has is taken from `budget`.
fn inventory(
    source: &dyn ImageSource,
    image: &Image,
    read: &ReadLayers<LayerPackages>,
    unreadable: &[Gap],
    (limits, budget): (&Limits, &mut TargetBudget),
) -> (Inventory, u64) {
    let mut gaps = ListedGaps::new(budget.gap_bytes(limits.gap_bytes));
    gaps.extend(unreadable.iter().chain(&image.gaps).map(|gap| ImageGap { gap: gap.clone(), layer: None }));
    let mut layers: Vec<Option<Arc<LayerPackages>>> = Vec::with_capacity(image.layers.len());
    for (index, layer) in image.layers.iter().enumerate() {
        match find(source, layer, read) {
            Ok(packages) => layers.push(Some(packages)),
            Err(gap) => {
                layers.push(None);
                gaps.add(ImageGap { gap, layer: Some(index) });
            }
        }
    }
    if !budget.begin_inventory(layers.iter().flatten().map(|layer| layer.report.gaps.len()).sum()) {
        layers.fill(None);
        let detail = "the images of this target have too many gaps; the packages of this image are not known";
        gaps.add(ImageGap { gap: Gap::new(GapReason::DocumentTooLarge, detail), layer: None });
    }
    let reports = || layers.iter().flatten().map(|layer| &layer.report);
    let unpacked = image.unpack();
    let kind = kind(&unpacked, reports());
    if source.is_guess() && layers.len() == 1 {
        gaps.extend(reports().filter_map(mistaken));
    }
    gaps.extend(other_count(&unpacked, kind).map(|gap| ImageGap { gap, layer: None }));
    for (index, (described, layer)) in image.layers.iter().zip(&layers).enumerate() {
        let Some(LayerPackages { report, .. }) = layer.as_deref() else { continue };
        let found = report.gaps.iter().cloned().chain(verify(described, report, kind));
        gaps.extend(found.chain(not_a_tar(kind, described, report)).map(|gap| ImageGap { gap, layer: Some(index) }));
    }
    let joined = join(&layers, kind, budget.records(), budget.join());
    budget.take_records(joined.packages.len() + joined.ai.len());
    if joined.left_out > 0 {
        let detail = format!("the images of this target have too many packages; {} were left out", joined.left_out);
        gaps.add(ImageGap { gap: Gap::new(GapReason::DocumentTooLarge, detail), layer: None });
    }
    if joined.work.is_exceeded() {
        let detail = "following all packages through all layers takes too long; some may be hidden";
        gaps.add(ImageGap { gap: Gap::new(GapReason::TooManyEntries, detail), layer: None });
    }
    if joined.dropped > 0 {
        let detail = format!("hard links repeat too many packages of lower layers; {} were dropped", joined.dropped);
        gaps.add(ImageGap { gap: Gap::new(GapReason::DocumentTooLarge, detail), layer: None });
    }
    let mut gaps = gaps.into_gaps();
    budget.take_report(&gaps, &joined.work);
    gaps.sort_by(|a, b| (a.layer, &a.gap).cmp(&(b.layer, &b.gap)));
    let summary = |(described, layer): (&manifest::LayerSource, &Option<Arc<LayerPackages>>)| {
        let report = layer.as_ref().map(|layer| &layer.report);
        InventoryLayer {
            digest: report.map(|report| report.blob.clone()).or_else(|| described.digest.clone()),
            diff_id: report.map(|report| report.diff_id.clone()).or_else(|| described.diff_id.clone()),
            stored_bytes: layer.as_ref().map_or(0, |layer| layer.stored_bytes),
        }
    };
    let entries = reports().map(|report| report.entries).sum();
    let inventory = Inventory {
        target: String::new(),
        reference: image.reference.clone(),
        manifest_digest: image.manifest_digest.clone(),
        config_digest: image.config_digest.clone(),
        platform: image.platform.clone(),
        distribution: joined.distribution,
        read_at: None,
        version: env!("CARGO_PKG_VERSION").into(),
        layers: image.layers.iter().zip(&layers).map(summary).collect(),
        packages: joined.packages,
        ai: joined.ai,
        gaps,
    };
    (inventory, entries)
}
