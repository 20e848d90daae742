//! Assembles the report of an image from its configuration and the reports of its layers, without reading a layer.

pub mod chains;
pub mod config;
pub mod lifetime;
pub mod owners;

use std::collections::HashMap;
use std::sync::Arc;

use layersift_format::history;
use layersift_format::history::Alignment;
use layersift_format::manifest::{Image, LayerSource};
use layersift_model::{
    Confidence, Digest, FileLocation, Finding, FingerprintKey, Gap, GapReason, ImageGap, ImageReport, LayerRef,
    LayerReport, LayerSummary, Location, Place, ReportedSecret, Secret, Severity, Tool,
};

use crate::analyzer::READER_REVISION;

use self::chains::Chains;
use self::config::{Checks, ConfigFinding, Subject};
use self::lifetime::Tracked;

/// Assembles the reports of images.
pub struct Assembler<'r> {
    /// The configuration checks of the rule set.
    pub checks: &'r Checks,
    /// The chain rules of the rule set.
    pub chains: &'r Chains,
    /// The key of the fingerprints of secrets.
    pub key: &'r FingerprintKey,
    /// The digest of the rule set.
    pub ruleset: &'r str,
}

impl Assembler<'_> {
    /// Assembles the report of `image`. `reports` has an entry for each layer: `None` for a layer that was not read,
    /// for which `gaps` has a gap. `config_secrets` are the secrets that the engine found in the configuration.
    pub fn assemble(
        &self,
        image: &Image,
        reports: &[Option<Arc<LayerReport>>],
        config_secrets: Vec<ConfigFinding>,
        gaps: Vec<ImageGap>,
    ) -> ImageReport {
        let mut in_config = config_secrets;
        let mut mask = Mask::new(&in_config);
        if image.has_config {
            let urls: Vec<String> = image.layers.iter().flat_map(|layer| layer.urls.iter().cloned()).collect();
            let subject = Subject {
                config: &image.config,
                reference: image.reference.as_deref(),
                layers: image.layers.len(),
                foreign_urls: &urls,
            };
            let checked = self.checks.run(&subject);
            mask.add(&checked);
            let news: Vec<_> = checked.into_iter().filter(|finding| !says_the_same(finding, &in_config)).collect();
            in_config.extend(news);
        }
        let alignment = history::align(&image.config, image.layers.len());
        // Reports beyond the layers of the image would belong to none of them.
        let reports = reports.get(..image.layers.len()).unwrap_or(reports);
        let report_of = |index| reports.get(index).and_then(Option::as_deref);
        let layers: Vec<LayerSummary> = (0..image.layers.len())
            .filter_map(|index| layer_summary(index, image, report_of(index), &alignment, &mask))
            .collect();
        let lifetimes = lifetime::follow(reports);
        let overflowed = lifetimes.overflowed;
        let in_file = |tracked| self.in_file(tracked, &layers, reports);
        let mut findings: Vec<Finding> = lifetimes.tracked.into_iter().map(in_file).collect();
        let roles: HashMap<String, Vec<String>> =
            in_config.iter().map(|finding| (finding.rule.id.clone(), finding.roles.clone())).collect();
        findings.extend(in_config.into_iter().map(|finding| self.in_config(finding, &mask)));
        findings.sort_by_cached_key(order);
        for finding in &mut findings {
            finding.id = id(finding);
        }
        let mut chains = self.chains.find(&findings, |rule| roles.get(rule).cloned().unwrap_or_default());
        for chain in &mut chains {
            chain.id = id(chain);
        }
        findings.extend(chains);
        let mut gaps: Vec<ImageGap> = gaps;
        if overflowed {
            let detail = "too many findings in hard links; the rest were dropped";
            gaps.push(ImageGap { gap: Gap::new(GapReason::TooManyFindings, detail), layer: None });
        }
        gaps.extend(image.gaps.iter().map(|gap| ImageGap { gap: gap.clone(), layer: None }));
        for (index, (source, report)) in image.layers.iter().zip(reports).enumerate() {
            let Some(report) = report else { continue };
            let layer = Some(index);
            gaps.extend(report.gaps.iter().map(|gap| ImageGap { gap: gap.clone(), layer }));
            gaps.extend(verify(source, report).into_iter().map(|gap| ImageGap { gap, layer }));
        }
        gaps.sort_by(|a, b| (a.layer, &a.gap).cmp(&(b.layer, &b.gap)));
        ImageReport {
            reference: image.reference.clone(),
            manifest_digest: image.manifest_digest.clone(),
            config_digest: image.config_digest.clone(),
            platform: image.platform.clone(),
            tool: Tool {
                version: env!("CARGO_PKG_VERSION").into(),
                ruleset: self.ruleset.into(),
                engine: crate::engine::version(),
                reader_revision: Some(READER_REVISION),
                fingerprint_key: Some(self.key.id()),
            },
            layers,
            findings,
            gaps,
            ..ImageReport::default()
        }
    }

    fn in_file(&self, tracked: Tracked, layers: &[LayerSummary], reports: &[Option<Arc<LayerReport>>]) -> Finding {
        let Tracked { finding, layer, state, ended_by } = tracked;
        let package = owners::owner(&finding.place.path, layer, reports);
        let shipped_by = finding
            .checksums
            .as_ref()
            .and_then(|checksums| owners::shipped_by(&finding.place.path, checksums, layer, reports));
        let severity = match shipped_by {
            Some(ecosystem) => as_shipped(finding.severity, finding.rule.confidence, ecosystem),
            None => finding.severity,
        };
        let Place { path, inside, views, offset, line, column, binary } = finding.place;
        Finding {
            id: String::new(),
            rule: finding.rule,
            severity,
            location: Location::File(Box::new(FileLocation {
                path: path.to_string(),
                inside,
                views,
                // A finding about a whole file has no offset.
                offset: finding.secret.is_some().then_some(offset),
                line,
                column,
                binary,
                layer: layer_ref(&layers[layer]),
                state,
                ended_by: ended_by.map(|index| layer_ref(&layers[index])),
                package,
                as_shipped: shipped_by.is_some(),
            })),
            secret: finding.secret.map(|secret| self.reported(secret)),
            note: finding.note,
            related: Vec::new(),
            allowed: None,
            baseline: false,
        }
    }

    fn in_config(&self, finding: ConfigFinding, mask: &Mask) -> Finding {
        Finding {
            id: String::new(),
            rule: finding.rule,
            severity: finding.severity,
            note: finding.note.map(|note| mask.apply(&finding.at, &note)),
            location: Location::Config(mask.apply(&finding.at, &finding.at)),
            secret: finding.secret.map(|secret| self.reported(secret)),
            related: Vec::new(),
            allowed: None,
            baseline: false,
        }
    }

    fn reported(&self, secret: Secret) -> ReportedSecret {
        ReportedSecret {
            masked: secret.masked(),
            fingerprint: secret.fingerprint(self.key),
            length: secret.len(),
            value: (!secret.reveal().is_empty()).then_some(secret),
        }
    }
}

/// The severity of a finding in a file that is unchanged from its package.
///
/// Everyone can download the files of a package, and guesses in them are noise. A finding of high confidence is a
/// secret that the package publishes: it counts one step less in a package of a distribution, and no less in a Python
/// package, which may be the application itself, installed from its own sources.
fn as_shipped(severity: Severity, confidence: Confidence, ecosystem: &str) -> Severity {
    let is_sure = confidence == Confidence::High;
    match (ecosystem, is_sure) {
        ("pypi", true) => severity,
        ("pypi", false) | (_, true) => one_less(severity),
        (_, false) => severity.min(Severity::Low),
    }
}

fn one_less(severity: Severity) -> Severity {
    match severity {
        Severity::Critical => Severity::High,
        Severity::High => Severity::Medium,
        Severity::Medium => Severity::Low,
        severity @ (Severity::Low | Severity::Info) => severity,
    }
}

/// Whether a signature, which identifies the kind of secret, found the secret of a check in the same field.
fn says_the_same(finding: &ConfigFinding, known: &[ConfigFinding]) -> bool {
    let Some(secret) = &finding.secret else { return false };
    let as_grave = |other: &&ConfigFinding| other.at == finding.at && other.severity >= finding.severity;
    known.iter().filter(as_grave).filter_map(|other| other.secret.as_ref()).any(|other| {
        memchr::memmem::find(secret.reveal(), other.reveal()).is_some()
            || memchr::memmem::find(other.reveal(), secret.reveal()).is_some()
    })
}

fn layer_summary(
    index: usize,
    image: &Image,
    report: Option<&LayerReport>,
    alignment: &Alignment,
    mask: &Mask,
) -> Option<LayerSummary> {
    let source = image.layers.get(index)?;
    let entry =
        alignment.entries.get(index).copied().flatten().and_then(|at| Some((at, image.config.history.get(at)?)));
    Some(LayerSummary {
        index,
        digest: report.map(|report| report.blob.clone()).or(source.digest.clone()),
        diff_id: report.map(|report| report.diff_id.clone()).or(source.diff_id.clone()),
        media_type: source.media_type.clone(),
        created_by: entry
            .map(|(at, entry)| mask.apply(&format!("history[{at}].created_by"), history::instruction(entry))),
        entries: report.map_or(0, |report| report.entries),
        files: report.map_or(0, |report| report.files),
        bytes: report.map_or(0, |report| report.bytes),
        stored_bytes: report.map_or(0, |report| report.blob_bytes),
        is_read: report.is_some(),
        whiteouts: report.map(|report| report.whiteouts.clone()).unwrap_or_default(),
    })
}

fn layer_ref(layer: &LayerSummary) -> LayerRef {
    LayerRef {
        index: layer.index,
        digest: layer.digest.clone(),
        diff_id: layer.diff_id.clone(),
        created_by: layer.created_by.clone(),
    }
}

/// Compares digests and sizes of a layer with the manifest and the configuration.
fn verify(source: &LayerSource, report: &LayerReport) -> Vec<Gap> {
    let mut gaps = Vec::new();
    // A scan that ended early has hashed a part of the layer, and has a gap that says so.
    let early = [GapReason::Cancelled, GapReason::DeadlineExceeded];
    if report.gaps.iter().any(|gap| early.contains(&gap.reason)) {
        return gaps;
    }
    if let Some(expected) = &source.digest
        && *expected != report.blob
    {
        let detail = format!("the manifest names {expected}, but the blob has {}", report.blob);
        gaps.push(Gap::new(GapReason::DigestMismatch, detail));
    }
    if let Some(expected) = source.size
        && expected != report.blob_bytes
    {
        let detail = format!("the manifest names a size of {expected} bytes, but the blob has {}", report.blob_bytes);
        gaps.push(Gap::new(GapReason::DigestMismatch, detail));
    }
    // A layer that was not decompressed to its end has another digest, and already has a gap.
    let cut = [GapReason::LayerTooLarge, GapReason::DamagedCompression, GapReason::UnsupportedCompression];
    let whole = !report.gaps.iter().any(|gap| cut.contains(&gap.reason));
    if let Some(expected) = &source.diff_id
        && whole
        && *expected != report.diff_id
    {
        let detail = format!("the configuration names {expected}, but the layer has {}", report.diff_id);
        gaps.push(Gap::new(GapReason::DiffIdMismatch, detail));
    }
    gaps
}

/// The sort key of findings: files by layer, path and offset, then the configuration; the rule's id breaks ties.
fn order(finding: &Finding) -> (u8, usize, String, u64, String) {
    let rule = finding.rule.id.clone();
    match &finding.location {
        Location::File(file) => (0, file.layer.index, file.full_path("\0"), file.offset.unwrap_or(0), rule),
        Location::Config(field) => (1, 0, field.clone(), 0, rule),
        Location::Image => (2, 0, String::new(), 0, rule),
    }
}

/// The id of a finding, which does not depend on how the image is packaged.
fn id(finding: &Finding) -> String {
    let place = match &finding.location {
        Location::File(file) => {
            let diff_id = file.layer.diff_id.as_ref().map(Digest::to_string).unwrap_or_default();
            format!("{diff_id}\n{}\n{}", file.full_path("\0"), file.offset.unwrap_or(0))
        }
        Location::Config(field) => field.clone(),
        Location::Image => finding.related.join(" "),
    };
    let fingerprint = finding.fingerprint().unwrap_or_default();
    Digest::of(format!("{}\n{place}\n{fingerprint}", finding.rule.id).as_bytes()).hex()[..16].to_string()
}

/// Masks the secrets of the configuration in all text of it that a report shows.
struct Mask(Vec<Masked>);

struct Masked {
    at: String,
    value: String,
    masked: String,
}

impl Mask {
    fn new(findings: &[ConfigFinding]) -> Mask {
        let mut mask = Mask(Vec::new());
        mask.add(findings);
        mask
    }

    fn add(&mut self, findings: &[ConfigFinding]) {
        let masked = |finding: &ConfigFinding| {
            let secret: &Secret = finding.secret.as_ref()?;
            let text = finding.raw.as_deref().or_else(|| std::str::from_utf8(secret.reveal()).ok());
            let value = text.filter(|value| !value.is_empty())?.to_string();
            Some(Masked { at: finding.at.clone(), value, masked: secret.masked() })
        };
        self.0.extend(findings.iter().filter_map(masked));
        // The longest first: masking a secret inside a longer one must not leave the rest of that one readable.
        self.0.sort_by_key(|masked| std::cmp::Reverse(masked.value.len()));
    }

    /// Masks in `text`, the text of the field `at`, all secrets of that field and the long secrets of other fields. A
    /// short password of another field, such as `postgres`, may be an ordinary word here.
    fn apply(&self, at: &str, text: &str) -> String {
        const LONG: usize = 12;
        let hidden = self.0.iter().filter(|masked| masked.at == at || masked.value.len() >= LONG);
        hidden.fold(text.to_string(), |text, masked| text.replace(&masked.value, &masked.masked))
    }
}
