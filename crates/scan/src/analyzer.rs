//! Analyzing bytes, files and layers with one set of rules, and joining layers into the report of an image.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use layersift_format::manifest::{Image, LayerSource};
use layersift_format::{Blob, Cancellation};
use layersift_model::{
    Algorithm, Digest, FingerprintKey, Gap, GapReason, ImageGap, ImagePath, ImageReport, LayerFinding, LayerReport,
    Limits, Owners, Touched,
};
use layersift_rules::{RulesError, Ruleset};
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

use crate::assemble::Assembler;
use crate::assemble::config::{CheckError, ConfigFinding, fields};
use crate::compiled_rules::CompiledRules;
use crate::confirm::{ConfirmError, Matches, keep_best};
use crate::engine::{Cache, EngineError};
use crate::layer_scan::{LayerContext, LayerScanner};
use crate::memory::MemoryBudget;
use crate::observe::{Observer, Unobserved};

/// The revision of what is read of layers and documents. Any change in what is read raises it: what an older revision
/// passed is then read again, and not taken from a store.
pub const READER_REVISION: u32 = 2;

/// Why an analyzer cannot be made of a set of rules.
#[derive(Debug, thiserror::Error)]
pub enum RulesetError {
    /// The rules cannot be read.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// A pattern cannot be used, or the engine failed.
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
}

/// How an analyzer works.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Threads that scan; 0 for one per processor.
    pub threads: usize,
    /// Bounds on hostile input.
    pub limits: Limits,
    /// What secrets are fingerprinted with.
    pub key: FingerprintKey,
    /// The user's own directory where rules that did not come with this build are kept compiled between runs; none is
    /// used if it is not given.
    pub cache: Option<PathBuf>,
    /// The memory that all analyzers of a process share.
    pub memory: MemoryBudget,
}

/// What was found in one file.
#[derive(Clone, Debug)]
pub struct FileReport {
    /// What was found, ordered by archive member and offset.
    pub findings: Vec<LayerFinding>,
    /// What was not read.
    pub gaps: Vec<Gap>,
}

/// Scans bytes, files and layers with one set of rules. Several may exist in one process, and one may be used by many
/// threads at once.
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
    /// [`RulesetError`] for rules that cannot be used.
    pub fn new(ruleset: Ruleset, options: Options) -> Result<Analyzer, RulesetError> {
        let threads = ThreadPoolBuilder::new().num_threads(options.threads).build()?;
        let cache = options.cache.as_ref().map(Cache::new);
        let rules = threads.install(|| CompiledRules::compile(ruleset, cache.as_ref()))?;
        let layers = LayerScanner::new(threads.current_num_threads());
        Ok(Analyzer { rules, options, threads, layers })
    }

    /// Scans `bytes` as the content of a file at `path`.
    pub fn bytes(&self, path: &str, bytes: &[u8]) -> FileReport {
        // Reading from memory does not fail.
        self.file(path, bytes).unwrap_or_else(|error| FileReport {
            findings: Vec::new(),
            gaps: vec![Gap::new(GapReason::Unreadable, error.to_string())],
        })
    }

    /// Scans what `input` reads as the content of a file at `path`, on the calling thread and those of the analyzer.
    ///
    /// # Errors
    /// When `input` cannot be read.
    pub fn file(&self, path: &str, input: impl Read) -> io::Result<FileReport> {
        let path = ImagePath::normalize(path.as_bytes());
        let cancellation = Cancellation::never();
        let context = self.layer_context(&cancellation, &Unobserved);
        let (mut findings, mut gaps) = self.layers.file(context, &path, input)?;
        findings.sort_by(|a, b| {
            let key = |finding: &LayerFinding| (finding.place.inside.clone(), finding.place.offset);
            key(a).cmp(&key(b)).then_with(|| a.rule.id.cmp(&b.rule.id))
        });
        gaps.sort();
        Ok(FileReport { findings, gaps })
    }

    /// Scans one layer. The calling thread reads it, and the threads of the analyzer scan what it reads. `algorithm` is
    /// that of the digest which the manifest names; the report says which digest the layer has.
    pub fn layer(
        &self,
        blob: Blob<'_>,
        algorithm: Algorithm,
        cancellation: &Cancellation,
        observer: &dyn Observer,
    ) -> LayerReport {
        self.layers.layer(self.layer_context(cancellation, observer), blob, algorithm)
    }

    /// Joins the layers of `image`, base first, and what is in its configuration. A gap stands for a layer that was not
    /// read.
    pub fn image(&self, image: &Image, layers: Vec<Result<Arc<LayerReport>, Gap>>) -> ImageReport {
        self.image_with_gaps(image, layers, Vec::new())
    }

    /// The report of a single file, as if it were the only one of an image without configuration. `target` is what the
    /// report calls it.
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
            owners: Owners::default(),
            findings: file.findings,
            gaps: file.gaps,
        };
        let image = Image { layers: vec![LayerSource::default()], ..Image::default() };
        let mut report = self.assembler().assemble(&image, &[Some(Arc::new(layer))], Vec::new(), Vec::new());
        report.target = target.into();
        report
    }

    /// The cache key of layer reports and of what images are joined from: reader revision, rules, limits and fingerprint
    /// key.
    pub fn layer_key(&self) -> String {
        let Options { limits, key, .. } = &self.options;
        // A fingerprint of nothing tells one key from another, and nothing of either.
        let text = format!(
            "layer report, reader {READER_REVISION}\n{}\n{limits:?}\n{}",
            self.rules.digest,
            key.fingerprint(b"")
        );
        Digest::of(text.as_bytes()).to_string()
    }

    /// What secrets are fingerprinted with.
    pub fn fingerprint_key(&self) -> &FingerprintKey {
        &self.options.key
    }

    /// Bounds on hostile input.
    pub fn limits(&self) -> &Limits {
        &self.options.limits
    }

    /// What was left out of rules in other scanners' formats, one line for each kind.
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

    fn assembler(&self) -> Assembler<'_> {
        let CompiledRules { checks, chains, digest, .. } = &self.rules;
        Assembler { checks, chains, key: &self.options.key, ruleset: digest }
    }

    /// Joins the layers of `image`, what is in its configuration, and `gaps`.
    pub(crate) fn image_with_gaps(
        &self,
        image: &Image,
        layers: Vec<Result<Arc<LayerReport>, Gap>>,
        mut gaps: Vec<ImageGap>,
    ) -> ImageReport {
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
        let (secrets, failed) = self.configuration(image);
        gaps.extend(failed.map(|gap| ImageGap { gap: gap.at("configuration"), layer: None }));
        self.assembler().assemble(image, &reports, secrets, gaps)
    }

    /// Secrets in the strings of the configuration, and what was not read of them.
    fn configuration(&self, image: &Image) -> (Vec<ConfigFinding>, Option<Gap>) {
        let mut findings: Vec<ConfigFinding> = Vec::new();
        match self.search_configuration(image, &mut findings) {
            Err(error) => (findings, Some(Gap::new(GapReason::Unreadable, error.to_string()))),
            Ok(true) => (findings, None),
            Ok(false) => {
                let limit = self.options.limits.findings_per_file;
                let detail = format!("more than {limit} secrets; the rest are left out");
                (findings, Some(Gap::new(GapReason::TooManyFindings, detail)))
            }
        }
    }

    /// Adds what is found to `findings`, and returns whether that is everything.
    fn search_configuration(&self, image: &Image, findings: &mut Vec<ConfigFinding>) -> Result<bool, EngineError> {
        let mut worker = self.rules.worker()?;
        let mut is_complete = true;
        for field in fields(&image.config) {
            let mut found = Matches::default();
            let bytes = field.text.as_bytes();
            is_complete &= worker.scan(bytes, &(0..bytes.len()), &mut found)?;
            // No parser reads the configuration as a file.
            let mut found = found.confirmed;
            found.retain(|one| self.rules.holds_at(one.rule, None));
            keep_best(&self.rules.signatures, &mut found);
            let room = self.options.limits.findings_per_file.saturating_sub(findings.len());
            is_complete &= found.len() <= room;
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
        Ok(is_complete)
    }
}
