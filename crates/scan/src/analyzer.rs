//! The analyzer: scans bytes, files and layers with one set of rules, and assembles the reports of images.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use layersift_format::build::BuildHints;
use layersift_format::config::ImageConfig;
use layersift_format::manifest::{Image, LayerSource};
use layersift_format::{Blob, CancelReason, Cancellation};
use layersift_model::{
    Algorithm, Digest, FingerprintKey, Gap, GapReason, ImageGap, ImagePath, ImageReport, LayerFinding, LayerReport,
    Limits, Owners, Touched,
};
use layersift_rules::{RulesError, Ruleset, Scope};
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

use crate::assemble::Assembler;
use crate::assemble::config::{CheckError, ConfigFinding, fields};
use crate::compiled_rules::CompiledRules;
use crate::confirm::{ConfirmError, Matches, keep_best};
use crate::documents::{DocumentReport, DocumentWork};
use crate::engine::{Cache, EngineError};
use crate::inventory::layer::LayerPackages;
use crate::layer_scan::{LayerContext, LayerScanner, WINDOW};
use crate::memory::MemoryBudget;
use crate::observe::{NoObserver, Observer};
use crate::read_layers::{Outcome, ReadLayers};
use crate::target_budget::TargetBudget;
use crate::target_work;

/// The revision of the code that reads layers and documents. Any change to what is read raises it, so that layers which
/// an older revision passed are scanned again instead of taken from a store.
pub const READER_REVISION: u32 = 16;

/// Why a set of rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RulesetError {
    /// The rules cannot be read.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// A pattern cannot be compiled, or the engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A condition of a signature cannot be used.
    #[error(transparent)]
    Confirm(#[from] ConfirmError),
    /// A check of the configuration cannot be used.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// The threads cannot be started.
    #[error("cannot start the scanning threads")]
    Threads(#[from] ThreadPoolBuildError),
    /// The rules were not compiled to the end, because that was cancelled.
    #[error("the rules were not compiled to the end")]
    Cancelled(#[from] CancelReason),
}

/// The options of an analyzer.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The number of scanning threads; 0 for one per processor.
    pub threads: usize,
    /// Limits on hostile input.
    pub limits: Limits,
    /// The key of the fingerprints of secrets.
    pub key: FingerprintKey,
    /// A private directory of the user for compiled rules that are not built in; without it, they are compiled on
    /// every run.
    pub cache: Option<PathBuf>,
    /// The memory that all analyzers of a process share.
    pub memory: MemoryBudget,
}

/// The result of scanning one file.
#[derive(Clone, Debug)]
pub struct FileReport {
    /// The findings, ordered by archive member and offset.
    pub findings: Vec<LayerFinding>,
    /// Bytes that were not scanned.
    pub gaps: Vec<Gap>,
}

/// Scans bytes, files and layers with one set of rules. A process may have several, and many threads
/// may share one.
pub struct Analyzer {
    pub(crate) rules: CompiledRules,
    pub(crate) options: Options,
    pub(crate) threads: ThreadPool,
    layers: LayerScanner,
}

impl Analyzer {
    /// Compiles `ruleset` and starts the threads.
    ///
    /// # Errors
    /// [`RulesetError`] if a rule cannot be used.
    pub fn new(ruleset: Ruleset, options: Options) -> Result<Analyzer, RulesetError> {
        Analyzer::compiled_until(ruleset, options, &Cancellation::never())
    }

    /// The same, or an error once `cancellation` is cancelled, which is asked between databases.
    pub(crate) fn compiled_until(
        ruleset: Ruleset,
        options: Options,
        cancellation: &Cancellation,
    ) -> Result<Analyzer, RulesetError> {
        let threads = ThreadPoolBuilder::new().num_threads(options.threads).build()?;
        // A database is as good as the expressions that it was compiled from.
        let cache = options.cache.as_ref().filter(|_| !ruleset.holds_values()).map(Cache::new);
        let rules = CompiledRules::compile(ruleset, cache.as_ref(), cancellation)?;
        let layers = LayerScanner::new(threads.current_num_threads());
        Ok(Analyzer { rules, options, threads, layers })
    }

    /// Scans `bytes` as the contents of a file at `path`. Bytes that fit into a window are scanned on the calling
    /// thread alone.
    pub fn bytes(&self, path: &str, bytes: &[u8]) -> FileReport {
        if bytes.len() <= WINDOW {
            let cancellation = Cancellation::never();
            let context = self.layer_context(&cancellation, &NoObserver);
            let path = ImagePath::normalize(path.as_bytes());
            return file_report(self.layers.small_file(context, &path, bytes));
        }
        // Reading from memory cannot fail.
        self.file(path, bytes).unwrap_or_else(|error| FileReport {
            findings: Vec::new(),
            gaps: vec![Gap::new(GapReason::Unreadable, error.to_string())],
        })
    }

    /// Scans `input` as the contents of a file at `path`, on the calling thread and the threads of the analyzer.
    ///
    /// # Errors
    /// If `input` cannot be read.
    pub fn file(&self, path: &str, input: impl Read) -> io::Result<FileReport> {
        let path = ImagePath::normalize(path.as_bytes());
        let cancellation = Cancellation::never();
        let context = self.layer_context(&cancellation, &NoObserver);
        self.layers.file(context, &path, input, None, None).map(file_report)
    }

    /// Scans `input` as a file without a name, as [`Analyzer::file`], as far as `work` permits and until the scan is
    /// cancelled.
    pub(crate) fn document(
        &self,
        input: impl Read,
        work: &DocumentWork<'_>,
        cancellation: &Cancellation,
    ) -> io::Result<FileReport> {
        let context = self.layer_context(cancellation, &NoObserver);
        let (path, lease) = (ImagePath::default(), work.lease.map(|lease| lease()));
        self.layers.file(context, &path, input, Some(&work.work), lease).map(file_report)
    }

    /// Scans one layer. The calling thread reads it, and the threads of the analyzer scan it. `algorithm` is that of
    /// the digest in the manifest. The report has the digest of the bytes that were read; the caller compares the
    /// two.
    pub fn layer(
        &self,
        blob: Blob<'_>,
        algorithm: Algorithm,
        cancellation: &Cancellation,
        observer: &dyn Observer,
    ) -> LayerReport {
        self.layers.layer(self.layer_context(cancellation, observer), blob, algorithm)
    }

    /// Scans one layer and reads its packages, as [`Analyzer::layer`].
    pub(crate) fn layer_with_packages(
        &self,
        blob: Blob<'_>,
        algorithm: Algorithm,
        cancellation: &Cancellation,
        observer: &dyn Observer,
    ) -> (LayerReport, LayerPackages) {
        self.layers.layer_with_packages(self.layer_context(cancellation, observer), blob, algorithm)
    }

    /// Assembles the report of `image` from its configuration, what [`Analyzer::documents`] found, and the reports of
    /// its layers, which `report_of` returns, or a gap in place of one. It is asked for each layer once, and what does
    /// not fit into memory is dropped as in a scan.
    ///
    /// # Errors
    /// That of `report_of`.
    pub fn image<E>(
        &self,
        image: &Image,
        documents: DocumentReport,
        report_of: &mut dyn FnMut(&LayerSource) -> Result<Outcome<LayerReport>, E>,
    ) -> Result<ImageReport, E> {
        // In the order of a scan.
        let layers = image.layers.iter().filter_map(|layer| Some((layer.location.as_ref()?, layer)));
        let mut read = ReadLayers::new(&self.options.limits, &self.options.memory);
        for (place, (location, layer)) in layers.collect::<BTreeMap<_, _>>().into_iter().enumerate() {
            read.insert(place, location.clone(), report_of(layer)?);
        }
        let mut layers = Vec::with_capacity(image.layers.len());
        for layer in &image.layers {
            let known = layer.location.as_ref().and_then(|location| read.get(location)).cloned();
            layers.push(known.map_or_else(|| report_of(layer), Ok)?);
        }
        let mut budget = TargetBudget::new(self.limits());
        Ok(self.image_with_gaps(image, layers, documents, &BuildHints::default(), Vec::new(), &mut budget))
    }

    /// The report of a single file, as of an image without configuration that holds only this file. `target` is its
    /// name in the report.
    pub fn report_of_file(&self, target: &str, file: FileReport) -> ImageReport {
        let layer = LayerReport {
            blob: Digest::of(b""),
            blob_bytes: 0,
            diff_id: Digest::of(b""),
            bytes: 0,
            entries: 1,
            files: 1,
            touched: Touched::default(),
            whiteouts: Vec::new(),
            hard_links: Vec::new(),
            symlinks: Vec::new(),
            is_tar: true,
            bytes_after_end: 0,
            extra_work: 0,
            owners: Owners::default(),
            findings: file.findings,
            gaps: file.gaps,
        };
        let image = Image { layers: vec![LayerSource::default()], ..Image::default() };
        let mut report = self.assembler(&BuildHints::default()).assemble(
            &image.unpack(),
            &[Some(Arc::new(layer))],
            Vec::new(),
            DocumentReport::default(),
            Vec::new(),
            &mut TargetBudget::new(self.limits()),
        );
        report.target = target.into();
        report
    }

    /// The cache key of layer reports: reader revision, rules, limits and fingerprint key.
    pub fn layer_key(&self) -> String {
        let Options { limits, key, .. } = &self.options;
        let limits = limits.of_layers();
        // The fingerprint of an empty secret identifies the key without revealing it.
        let text = format!(
            "layer report, reader {READER_REVISION}\n{}\n{limits:?}\n{}",
            self.rules.digest,
            key.fingerprint(b"")
        );
        Digest::of(text.as_bytes()).to_string()
    }

    /// Whether a finding of the rule `id` counts in a part of a conversation: rules for prompts may be for some only.
    pub fn counts_in(&self, id: &str, scope: Scope) -> bool {
        let scopes = self.rules.scopes.iter().find(|(limited, _)| limited == id);
        scopes.is_none_or(|(_, scopes)| scopes.contains(&scope))
    }

    /// The key of the fingerprints of secrets.
    pub fn fingerprint_key(&self) -> &FingerprintKey {
        &self.options.key
    }

    /// The digest of the rules, as reports have it in `tool.ruleset`.
    pub fn ruleset(&self) -> &str {
        &self.rules.digest
    }

    /// Limits on hostile input.
    pub fn limits(&self) -> &Limits {
        &self.options.limits
    }

    /// The memory that all scans of the process share.
    pub fn memory(&self) -> &MemoryBudget {
        &self.options.memory
    }

    /// Warnings about rules in the formats of other scanners that were not loaded completely, one line each.
    pub fn notes(&self) -> &[String] {
        &self.rules.notes
    }

    pub(crate) fn layer_context<'c>(
        &'c self,
        cancellation: &'c Cancellation,
        observer: &'c dyn Observer,
    ) -> LayerContext<'c> {
        LayerContext {
            rules: &self.rules,
            limits: &self.options.limits,
            threads: &self.threads,
            memory: &self.options.memory,
            cancellation,
            observer,
        }
    }

    fn assembler<'a>(&'a self, hints: &'a BuildHints) -> Assembler<'a> {
        let CompiledRules { checks, chains, digest, .. } = &self.rules;
        let Options { key, limits, .. } = &self.options;
        Assembler { checks, chains, key, ruleset: digest, hints, limits }
    }

    /// Assembles the report of `image`, with what the reader knows about its build, and with `gaps` in addition to
    /// those of its layers. What the report has is taken from `budget`.
    pub(crate) fn image_with_gaps(
        &self,
        image: &Image,
        mut layers: Vec<Result<Arc<LayerReport>, Gap>>,
        documents: DocumentReport,
        hints: &BuildHints,
        mut gaps: Vec<ImageGap>,
        budget: &mut TargetBudget,
    ) -> ImageReport {
        target_work::bound(&image.layers, &mut layers, self.limits());
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
        let image = &image.unpack();
        let (secrets, failed) = self.configuration(&image.config, budget);
        gaps.extend(failed.map(|gap| ImageGap { gap: gap.at("configuration"), layer: None }));
        self.assembler(hints).assemble(image, &reports, secrets, documents, gaps, budget)
    }

    /// The secrets in the strings of the configuration, and a gap if not all were scanned.
    fn configuration(&self, config: &ImageConfig, budget: &mut TargetBudget) -> (Vec<ConfigFinding>, Option<Gap>) {
        let mut findings: Vec<ConfigFinding> = Vec::new();
        let gap = self.search_configuration(config, &mut findings, budget);
        let unreadable = |error: EngineError| Some(Gap::new(GapReason::Unreadable, error.to_string()));
        let gap = gap.unwrap_or_else(unreadable);
        (findings, gap)
    }

    /// Adds findings to `findings`. Returns a gap if not all strings were searched. They may take as much work as a
    /// small layer.
    fn search_configuration(
        &self,
        config: &ImageConfig,
        findings: &mut Vec<ConfigFinding>,
        budget: &mut TargetBudget,
    ) -> Result<Option<Gap>, EngineError> {
        let mut worker = self.rules.worker()?;
        let most = budget.configuration_work(self.options.limits.layer_work);
        let (mut counted, mut gap) = (0, None);
        for field in fields(config) {
            let mut found = Matches::default();
            let bytes = field.text.as_bytes();
            budget.take_configuration(worker.work() - counted);
            counted = worker.work();
            if counted > most {
                let detail = "the configuration takes more work than one may; the rest was not scanned";
                return Ok(Some(Gap::new(GapReason::DocumentTooLarge, detail)));
            }
            let unread = worker.scan(bytes, &(0..bytes.len()), &mut found)?;
            gap = gap.or(unread);
            // No parser reads the configuration as a file.
            let mut found = found.confirmed;
            found.retain(|one| self.rules.applies_at(one.rule, None));
            keep_best(&self.rules.signatures, &mut found);
            let limit = self.options.limits.findings_per_file;
            let room = limit.saturating_sub(findings.len());
            if found.len() > room {
                let detail = format!("the configuration has more than {limit} secrets; the rest were dropped");
                gap = Some(Gap::new(GapReason::TooManyFindings, detail));
            }
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
        Ok(gap)
    }
}

/// The report of one file, in a fixed order.
fn file_report((mut findings, mut gaps): (Vec<LayerFinding>, Vec<Gap>)) -> FileReport {
    findings.sort_by(|a, b| {
        let key = |finding: &LayerFinding| (finding.place.inside.clone(), finding.place.offset);
        key(a).cmp(&key(b)).then_with(|| a.rule.id.cmp(&b.rule.id))
    });
    gaps.sort();
    FileReport { findings, gaps }
}
