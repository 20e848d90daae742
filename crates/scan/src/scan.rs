//! Scanning a target: the only file that knows every stage.
//!
//! ```text
//! source → image → layers, in parallel, each once → assemble → reports
//! ```

mod file;
mod hands;
mod layer;
mod prove;
mod rules;
mod unpack;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;

use crate::assemble::Assembler;
use crate::assemble::config::{CheckError, ConfigFinding, fields};
use crate::confirm::{ConfirmError, keep_best};
use crate::engine::{Cache, EngineError};
use crate::observe::{Observer, Unobserved};
use layersift_format::manifest::{Image, ImageError, LayerSource};
use layersift_format::platform::Choice;
use layersift_format::tar::BLOCK;
use layersift_format::{Blob, Fetched, ImageSource, Location, Opened, SourceError, StreamedImage, manifest};
use layersift_model::{
    Algorithm, Digest, FingerprintKey, Gap, GapReason, ImageGap, ImagePath, ImageReport, LayerReport, Limits, Touch,
};
use layersift_rules::{RulesError, Ruleset};

pub use self::prove::Fault;

use self::layer::LayerScanner;
use self::rules::Rules;

/// The revision of what is read of layers and documents. Any change in what is read raises it: what an older revision
/// passed is then read again, and not taken from a store.
pub const READER_REVISION: u32 = 2;

/// Why a scan gave no report.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The rules cannot be used.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// A pattern cannot be used, or the engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A rule's conditions cannot be used.
    #[error(transparent)]
    Confirm(#[from] ConfirmError),
    /// A configuration check cannot be used.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// The target holds no readable image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// No threads.
    #[error("the threads of the scan cannot be started: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

impl From<SourceError> for ScanError {
    fn from(error: SourceError) -> Self {
        ScanError::Image(error.into())
    }
}

/// Reports of layers that were read before, by whoever keeps them.
pub trait KnownLayers: Sync {
    /// The report of `layer`, made under the scanner's [`Scanner::layer_key`].
    fn get(&self, layer: &Digest) -> Option<Arc<LayerReport>>;

    /// Takes the report of `layer`, whose bytes were verified.
    fn keep(&self, layer: &Digest, report: &LayerReport);
}

/// How scans are made.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Threads; as many as there are cores for 0.
    pub threads: usize,
    /// Bounds on hostile input.
    pub limits: Limits,
    /// What secrets are fingerprinted with.
    pub key: FingerprintKey,
    /// A directory of the user's own where rules that did not come with this build are kept compiled between runs;
    /// none is used if it is not given.
    pub cache: Option<PathBuf>,
}

/// Scans targets with one set of rules. Several may exist in one process, and one may scan from many threads.
pub struct Scanner {
    rules: Rules,
    options: Options,
    threads: rayon::ThreadPool,
}

/// What became of reading a layer.
type Outcome = Result<Arc<LayerReport>, Gap>;

/// What names a layer within a target: where its blob is.
type ReadLayers = HashMap<Location, Outcome>;

impl Scanner {
    /// Compiles `ruleset` and starts the threads.
    ///
    /// # Errors
    /// For rules that cannot be used.
    pub fn new(ruleset: Ruleset, options: Options) -> Result<Scanner, ScanError> {
        let threads = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build()?;
        let cache = options.cache.as_ref().map(Cache::new);
        let rules = threads.install(|| Rules::compile(ruleset, cache.as_ref()))?;
        Ok(Scanner { rules, options, threads })
    }

    /// What of rules in other scanners' formats is left out, one line for each kind.
    pub fn notes(&self) -> &[String] {
        &self.rules.notes
    }

    /// Scans the images of `target` that `choice` names.
    ///
    /// # Errors
    /// When the target holds no readable image. What of an image cannot be read is a gap in its report.
    pub fn scan(
        &self,
        name: &str,
        target: Opened,
        choice: &Choice,
        observer: &dyn Observer,
    ) -> Result<Vec<ImageReport>, ScanError> {
        self.scan_with(name, target, choice, None, observer)
    }

    /// The same, with layers that are `known`: they are not read, where the target names them by digest.
    ///
    /// # Errors
    /// As [`Scanner::scan`].
    pub fn scan_with(
        &self,
        name: &str,
        target: Opened,
        choice: &Choice,
        known: Option<&dyn KnownLayers>,
        observer: &dyn Observer,
    ) -> Result<Vec<ImageReport>, ScanError> {
        let (started, scanned_at) = (Instant::now(), Timestamp::now());
        let mut reports = match target {
            Opened::Source(source) => self.scan_source(&*source, choice, known, observer)?,
            Opened::Stream(stream) => self.scan_stream(stream, choice, known, observer)?,
        };
        // A directory or a tar without anything in it is taken for a root file system, and is none.
        if reports.iter().all(ImageReport::is_empty) {
            return Err(SourceError::NotAnImage { path: name.into(), what: "there is nothing in it".into() }.into());
        }
        for report in &mut reports {
            report.target = name.into();
            report.scanned_at = Some(scanned_at);
            report.milliseconds = u64::try_from(started.elapsed().as_millis()).ok();
        }
        Ok(reports)
    }

    /// What the reports of layers depend on beside the layers: program, rules, limits, and the key of fingerprints.
    pub fn layer_key(&self) -> String {
        let Options { limits, key, .. } = &self.options;
        let rules = &self.rules.digest;
        // A fingerprint of nothing tells one key from another, and nothing of either.
        let text = format!("layer report, reader {READER_REVISION}\n{rules}\n{limits:?}\n{}", key.fingerprint(b""));
        Digest::of(text.as_bytes()).to_string()
    }

    /// What secrets are fingerprinted with.
    pub fn fingerprint_key(&self) -> &FingerprintKey {
        &self.options.key
    }

    /// The images of `source`, without their layers.
    ///
    /// # Errors
    /// When a document cannot be read.
    pub fn images(&self, source: &dyn ImageSource, choice: &Choice) -> Result<Vec<Image>, ScanError> {
        Ok(manifest::images(source, choice, &self.options.limits)?)
    }

    /// Scans one layer. `algorithm` is that of the digest which it should have; the report says which it has.
    pub fn scan_blob(&self, blob: Blob<'_>, algorithm: Algorithm, observer: &dyn Observer) -> LayerReport {
        self.threads.install(|| self.layer_scanner().scan(blob, algorithm, &|count| observer.read(count)))
    }

    /// Joins the layers of `image`, base first; a gap stands for a layer that was not read.
    pub fn assemble_image(&self, image: &Image, layers: Vec<Result<Arc<LayerReport>, Gap>>) -> ImageReport {
        self.join(image, layers, Vec::new())
    }

    /// Scans `bytes` as a file at `path`: what examples of rules are tried with.
    ///
    /// # Errors
    /// For a path that no archive can hold.
    pub fn scan_bytes(&self, path: &str, bytes: &[u8]) -> Result<LayerReport, ScanError> {
        Ok(self.scan_archive(one_file(path, bytes.len() as u64, bytes)?))
    }

    /// Scans one file that is in no image, as if it were the only one of a root file system.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn scan_file(&self, path: &Path) -> Result<Vec<ImageReport>, ScanError> {
        let unreadable = |error| ScanError::from(SourceError::Read { path: path.into(), error });
        let file = File::open(path).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let report = Arc::new(self.scan_archive(one_file(&name, size, file.take(size))?));
        let image = Image { layers: vec![LayerSource::default()], ..Image::default() };
        let mut report = self.assembler().assemble(&image, &[Some(report)], Vec::new(), Vec::new());
        report.target = path.display().to_string();
        Ok(vec![report])
    }

    /// Scans a tar archive as a layer.
    fn scan_archive(&self, archive: impl Read + Send) -> LayerReport {
        let blob = Blob::Stream(Box::new(archive));
        self.scan_blob(blob, Algorithm::Sha256, &Unobserved)
    }

    fn assembler(&self) -> Assembler<'_> {
        Assembler {
            checks: &self.rules.checks,
            chains: &self.rules.chains,
            key: &self.options.key,
            ruleset: &self.rules.digest,
        }
    }

    fn scan_source(
        &self,
        source: &dyn ImageSource,
        choice: &Choice,
        known: Option<&dyn KnownLayers>,
        observer: &dyn Observer,
    ) -> Result<Vec<ImageReport>, ScanError> {
        let images = manifest::images(source, choice, &self.options.limits)?;
        let read = self.read_layers(source, &images, known, observer);
        Ok(self.assemble(source, &images, &read))
    }

    /// Layers are scanned as they pass; which image they belong to is known at the end.
    fn scan_stream(
        &self,
        stream: Box<dyn StreamedImage>,
        choice: &Choice,
        known: Option<&dyn KnownLayers>,
        observer: &dyn Observer,
    ) -> Result<Vec<ImageReport>, ScanError> {
        let scanner = self.layer_scanner();
        let mut read = ReadLayers::new();
        let source = self.threads.install(|| {
            stream.read(&mut |location, bytes| {
                observer.planned(read.len() + 1, None);
                let sha512 = location.0.contains("blobs/sha512/");
                let algorithm = if sha512 { Algorithm::Sha512 } else { Algorithm::Sha256 };
                let report = scanner.scan(Blob::Stream(bytes), algorithm, &|count| observer.read(count));
                read.insert(location.clone(), Ok(Arc::new(report)));
                observer.layer_done();
            })
        })?;
        let images = manifest::images(&*source, choice, &self.options.limits)?;
        read.extend(self.read_layers(&*source, &images, known, observer));
        Ok(self.assemble(&*source, &images, &read))
    }

    fn layer_scanner(&self) -> LayerScanner<'_> {
        LayerScanner::new(&self.rules, &self.options.limits, self.threads.current_num_threads())
    }

    /// Reads every layer of `images` that the source still has, each once, several at a time.
    fn read_layers(
        &self,
        source: &dyn ImageSource,
        images: &[Image],
        known: Option<&dyn KnownLayers>,
        observer: &dyn Observer,
    ) -> ReadLayers {
        let mut unique: BTreeMap<&Location, &LayerSource> = BTreeMap::new();
        for layer in images.iter().flat_map(|image| &image.layers) {
            if let Some(location) = &layer.location {
                unique.entry(location).or_insert(layer);
            }
        }
        let mut queue: Vec<(&Location, &LayerSource)> = unique.into_iter().collect();
        // The largest first: a large layer at the end would leave the other cores idle.
        queue.sort_by_key(|(_, layer)| std::cmp::Reverse(layer.size));
        let bytes = queue.iter().map(|(_, layer)| layer.size).sum::<Option<u64>>();
        observer.planned(queue.len(), bytes);
        let scanner = self.layer_scanner();
        let next = AtomicUsize::new(0);
        let read = Mutex::new(ReadLayers::new());
        let work = || {
            while let Some((location, layer)) = queue.get(next.fetch_add(1, Ordering::Relaxed)) {
                let now = || read_layer(&scanner, source, location, layer, observer);
                if let Some(outcome) = known_or_read(known, layer, observer, now) {
                    read.lock().unwrap_or_else(PoisonError::into_inner).insert((*location).clone(), outcome);
                }
                observer.layer_done();
            }
        };
        self.threads.scope(|scope| {
            for _ in 0..self.threads.current_num_threads().min(queue.len()) {
                scope.spawn(|_| work());
            }
        });
        read.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn assemble(&self, source: &dyn ImageSource, images: &[Image], read: &ReadLayers) -> Vec<ImageReport> {
        let unreadable = source.gaps();
        let one = |image: &Image| {
            let layers: Vec<Outcome> = image.layers.iter().map(|layer| outcome(source, layer, read)).collect();
            let mut gaps: Vec<ImageGap> =
                unreadable.iter().map(|gap| ImageGap { gap: gap.clone(), layer: None }).collect();
            if source.is_guess() && layers.len() == 1 {
                gaps.extend(layers.iter().flatten().filter_map(mistaken));
            }
            self.join(image, layers, gaps)
        };
        images.iter().map(one).collect()
    }

    /// Joins the layers of `image`, what is in its configuration, and `gaps`.
    fn join(&self, image: &Image, layers: Vec<Outcome>, mut gaps: Vec<ImageGap>) -> ImageReport {
        let mut reports = Vec::with_capacity(layers.len());
        for (index, layer) in layers.into_iter().enumerate() {
            match layer {
                Ok(report) => reports.push(Some(report)),
                Err(gap) => {
                    reports.push(None);
                    gaps.push(ImageGap { gap, layer: Some(index) });
                }
            }
        }
        let (secrets, failed) = self.scan_config(image);
        gaps.extend(failed);
        self.assembler().assemble(image, &reports, secrets, gaps)
    }

    /// Secrets in the strings of the configuration.
    fn scan_config(&self, image: &Image) -> (Vec<ConfigFinding>, Option<ImageGap>) {
        let mut findings: Vec<ConfigFinding> = Vec::new();
        let mut overflowed = false;
        let failed = |error: EngineError| {
            Some(ImageGap { gap: Gap::new(GapReason::Unreadable, error.to_string()).at("configuration"), layer: None })
        };
        let mut hands = match self.rules.hands() {
            Ok(hands) => hands,
            Err(error) => return (findings, failed(error)),
        };
        for field in fields(&image.config) {
            let mut found = Vec::new();
            let bytes = field.text.as_bytes();
            match hands.scan(bytes, &(0..bytes.len()), &mut found) {
                Ok(complete) => overflowed |= !complete,
                Err(error) => return (findings, failed(error)),
            }
            found.retain(|one| !one.whole_file && self.rules.holds_at(one.rule, None));
            keep_best(&self.rules.signatures, &mut found);
            let room = self.options.limits.findings_per_file.saturating_sub(findings.len());
            overflowed |= found.len() > room;
            found.truncate(room);
            findings.extend(found.into_iter().map(|one| ConfigFinding {
                rule: self.rules.info(&one),
                severity: self.rules.severity(&one),
                raw: field.text.get(one.span.clone()).map(Into::into),
                at: field.name.clone(),
                secret: Some(one.secret),
                note: one.note,
                roles: Vec::new(),
            }));
        }
        let limit = self.options.limits.findings_per_file;
        let gap = Gap::new(GapReason::TooManyFindings, format!("more than {limit} secrets; the rest are left out"));
        (findings, overflowed.then(|| ImageGap { gap: gap.at("configuration"), layer: None }))
    }
}

/// A tar archive with one file.
fn one_file<R: Read>(path: &str, size: u64, content: R) -> Result<impl Read + use<R>, ScanError> {
    let mut header = tar::Header::new_ustar();
    header.set_path(path).map_err(|error| SourceError::Read { path: path.into(), error })?;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    let padding = size.next_multiple_of(BLOCK as u64) - size + 2 * BLOCK as u64;
    Ok(Cursor::new(*header.as_bytes()).chain(content).chain(io::repeat(0).take(padding)))
}

/// A gap, where what was taken for a root file system has what only an image has at its root.
fn mistaken(report: &Arc<LayerReport>) -> Option<ImageGap> {
    let has = |name: &str, touch| report.touched.has(ImagePath::normalize(name.as_bytes()).key(), touch);
    let listing = ["manifest.json", "index.json", "oci-layout"].iter().any(|name| has(name, Touch::Other));
    let detail = "this was read as a root file system and looks like an image: name its transport, or rootfs:";
    let gap = Gap::new(GapReason::DamagedDocument, detail);
    (listing || has("blobs/sha256", Touch::Directory)).then_some(ImageGap { gap, layer: Some(0) })
}

/// The report of a layer that is known, or what comes of reading it.
fn known_or_read(
    known: Option<&dyn KnownLayers>,
    layer: &LayerSource,
    observer: &dyn Observer,
    read: impl FnOnce() -> Option<Outcome>,
) -> Option<Outcome> {
    let (Some(known), Some(digest)) = (known, &layer.digest) else { return read() };
    if let Some(report) = known.get(digest) {
        observer.read(layer.size.unwrap_or(0));
        return Some(Ok(report));
    }
    let outcome = read();
    if let Some(Ok(report)) = &outcome
        && report.blob == *digest
    {
        known.keep(digest, report);
    }
    outcome
}

/// Reads one layer; `None` where it passed by already.
fn read_layer(
    scanner: &LayerScanner<'_>,
    source: &dyn ImageSource,
    location: &Location,
    layer: &LayerSource,
    observer: &dyn Observer,
) -> Option<Outcome> {
    let algorithm = layer.digest.as_ref().map_or(Algorithm::Sha256, |digest| digest.algorithm());
    match source.open(location) {
        Ok(Fetched::Blob(blob)) => {
            let report = scanner.scan(blob, algorithm, &|count| observer.read(count));
            Some(Ok(Arc::new(report)))
        }
        Ok(Fetched::Passed(_)) => None,
        Ok(Fetched::Missing) if !layer.urls.is_empty() => {
            let detail = "the layer is held elsewhere, and only its address is in the image";
            Some(Err(Gap::new(GapReason::ForeignLayer, detail).at(&location.0)))
        }
        Ok(Fetched::Missing) => {
            let gap = Gap::new(GapReason::MissingBlob, "the layer is not in the image").at(&location.0);
            Some(Err(layer.size.map_or(gap.clone(), |size| gap.sized(size))))
        }
        Err(error) => Some(Err(Gap::new(GapReason::Unreadable, error.to_string()).at(&location.0))),
    }
}

/// The report of a layer that was read, now or when it passed by.
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
