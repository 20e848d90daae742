//! The packages of images together with their secrets: each layer is read once, by rules and for records of packages.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use layersift_format::{Blob, ImageSource, Opened, SourceError, StreamedImage};
use layersift_model::{Footprint, ImageReport, Inventory, LayerReport};

use super::layer::LayerPackages;
use super::{inventory, is_empty};
use crate::image_scan::{ImageScan, ScanError};
use crate::masking::NameWork;
use crate::read_layers::{LayerResult, ReadLayers};
use crate::source_layers::{SourceLayers, algorithm_of};
use crate::target_budget::TargetBudget;

/// What was read of a layer.
struct ReadLayer {
    report: Arc<LayerReport>,
    packages: Arc<LayerPackages>,
}

/// An image that was read, and the number of entries in its layers.
type ReadImage = (ImageReport, Inventory, u64);

impl ImageScan<'_> {
    /// Scans `target` and reads its packages, under the name `name`. Known layers are not used: their packages are not
    /// known.
    ///
    /// # Errors
    /// If the target has no readable image. Bytes of an image that cannot be read are gaps in its report and in its
    /// inventory.
    pub fn run_with_inventory(&self, name: &str, target: Opened) -> Result<Vec<(ImageReport, Inventory)>, ScanError> {
        let (started, at) = (Instant::now(), Timestamp::now());
        let images = match target {
            Opened::Source(source) => self.images_with_inventory(&*source, self.no_layers_with_packages())?,
            Opened::Stream(stream) => self.stream_with_inventory(stream)?,
        };
        if images.iter().all(|(_, inventory, entries)| is_empty(inventory, *entries)) {
            let path = if name == "-" { "standard input" } else { name }.into();
            return Err(SourceError::NotAnImage { path, what: "it is empty".into() }.into());
        }
        let mut work = NameWork::new(self.analyzer.limits(), &self.cancellation);
        let finish = |(mut report, mut inventory, _): ReadImage| {
            (report.target, inventory.target) = (name.into(), name.into());
            (report.scanned_at, inventory.read_at) = (Some(at), Some(at));
            report.milliseconds = u64::try_from(started.elapsed().as_millis()).ok();
            inventory.gaps.extend(report.gaps.iter().cloned());
            let found = report.findings.iter().filter_map(|finding| finding.secret.as_ref()?.value.clone());
            self.analyzer.mask_inventory(&mut inventory, found.collect(), &mut work);
            inventory.gaps.sort_by(|a, b| (a.layer, &a.gap).cmp(&(b.layer, &b.gap)));
            inventory.gaps.dedup();
            (report, inventory)
        };
        Ok(images.into_iter().map(finish).collect())
    }

    fn no_layers_with_packages(&self) -> ReadLayers<ReadLayer> {
        ReadLayers::new(self.analyzer.limits(), &self.analyzer.options.memory)
    }

    fn stream_with_inventory(&self, stream: Box<dyn StreamedImage>) -> Result<Vec<ReadImage>, ScanError> {
        let mut read = self.no_layers_with_packages();
        let source = stream.read(&mut |location, blob| {
            self.observer.planned(read.len() + 1, None);
            let outcome = read.next(|| Ok(self.read_both(blob, algorithm_of(location))));
            read.insert(read.len(), location.clone(), outcome);
            self.observer.layer_done();
        })?;
        self.images_with_inventory(&*source, read)
    }

    fn images_with_inventory(
        &self,
        source: &dyn ImageSource,
        read: ReadLayers<ReadLayer>,
    ) -> Result<Vec<ReadImage>, ScanError> {
        let images = self.images(source)?;
        let layers = SourceLayers { source, cancellation: &self.cancellation, observer: self.observer };
        let read = layers.read_all(&images, &self.analyzer.threads, self.analyzer.limits(), read, |location, layer| {
            let opened = layers.open(location, layer)?;
            Some(opened.map(|(blob, algorithm)| self.read_both(blob, algorithm)))
        });
        let reports = read.map(|layer| Arc::clone(&layer.report));
        let packages = read.map(|layer| Arc::clone(&layer.packages));
        let unreadable = source.gaps();
        let reports = self.reports(source, &images, &reports);
        let limits = self.analyzer.limits();
        let mut budget = TargetBudget::new(limits);
        let inventories =
            images.iter().map(|image| inventory(source, image, &packages, &unreadable, (limits, &mut budget)));
        let joined = reports.into_iter().zip(inventories);
        Ok(joined.map(|(report, (inventory, entries))| (report, inventory, entries)).collect())
    }

    fn read_both(&self, blob: Blob<'_>, algorithm: layersift_model::Algorithm) -> Arc<ReadLayer> {
        let (report, packages) = self.analyzer.layer_with_packages(blob, algorithm, &self.cancellation, self.observer);
        Arc::new(ReadLayer { report: Arc::new(report), packages: Arc::new(packages) })
    }
}

impl Footprint for ReadLayer {
    fn footprint(&self) -> u64 {
        self.report.footprint() + self.packages.footprint()
    }
}

impl LayerResult for ReadLayer {
    fn extra_work(&self) -> u64 {
        self.report.extra_work.max(self.packages.report.extra_work)
    }

    fn reduced(&self) -> ReadLayer {
        ReadLayer { report: Arc::new(self.report.reduced()), packages: Arc::new(self.packages.reduced()) }
    }
}
