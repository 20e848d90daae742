//! Assembles the report of an image from its configuration and the reports of its layers, without reading a layer.

mod build;
pub mod chains;
pub(crate) mod changes;
mod choose;
pub mod config;
pub mod lifetime;
mod mask;
pub mod owners;
pub(crate) mod work;

use std::collections::HashMap;
use std::sync::Arc;

use layersift_format::build::{Build, BuildHints};
use layersift_format::history;
use layersift_format::history::Alignment;
use layersift_format::manifest::{ImageKind, LayerSource, UnpackedImage};
use layersift_model::{
    Confidence, Digest, DocumentRef, FileLocation, Finding, FingerprintKey, Footprint, Gap, GapReason, ImageGap,
    ImagePath, ImageReport, LayerRef, LayerReport, LayerSummary, Limits, Location, Place, ReportKind, ReportedSecret,
    Secret, Severity, State, Tool,
};

use crate::analyzer::READER_REVISION;
use crate::documents::{DocumentFinding, DocumentReport};
use crate::listed_gaps::ListedGaps;
use crate::masking::{self, KnownSecrets};
use crate::target_budget::TargetBudget;

use self::chains::Chains;
use self::choose::Chosen;
use self::config::{Checks, ConfigFinding, Subject};
use self::lifetime::Tracked;
use self::mask::Mask;
use self::work::Work;

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
    /// What the reader knows about the build.
    pub hints: &'r BuildHints,
    /// How much the report may take.
    pub limits: &'r Limits,
}

impl Assembler<'_> {
    /// Assembles the report of `image`. `reports` has an entry for each layer: `None` for a layer that was not read,
    /// for which `gaps` has a gap. `config_secrets` are the secrets that the engine found in the configuration, and
    /// `documents` is what it found in the other documents. What the report has is taken from `budget`.
    pub(crate) fn assemble(
        &self,
        image: &UnpackedImage<'_>,
        reports: &[Option<Arc<LayerReport>>],
        config_secrets: Vec<ConfigFinding>,
        documents: DocumentReport,
        gaps: Vec<ImageGap>,
        budget: &mut TargetBudget,
    ) -> ImageReport {
        let mut in_config = config_secrets;
        let mut mask = Mask::new(&in_config);
        mask.add_documents(&documents.findings);
        let kind = kind(image, reports.iter().flatten().map(|report| &**report));
        if image.has_config && image.config.is_runnable() && kind == ImageKind::Image {
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
        let build = Build::of(image, self.hints, &documents.claims);
        let layers: Vec<LayerSummary> = (0..image.layers.len())
            .filter_map(|index| layer_summary(index, image, report_of(index), &alignment, &mask))
            .collect();
        let room = budget.finding_bytes();
        let Chosen { findings: chosen, bytes, mut left_out } = choose::choose(reports, &layers, room);
        budget.take_findings(bytes);
        let mut work = budget.join();
        let lifetimes = match kind {
            ImageKind::Image | ImageKind::Container | ImageKind::Volume | ImageKind::Orphan => {
                lifetime::follow(reports, &chosen, budget.finding_bytes(), &mut work)
            }
            ImageKind::Artifact | ImageKind::Cache => lifetime::separate(&chosen, &mut work),
        };
        budget.take_findings(lifetimes.linked_bytes);
        let not_linked = lifetimes.dropped;
        let in_file = |tracked| self.in_file(tracked, image, &layers, reports, &mut work);
        let mut findings: Vec<Finding> = lifetimes.tracked.into_iter().map(in_file).collect();
        let roles: HashMap<String, Vec<String>> =
            in_config.iter().map(|finding| (finding.rule.id.clone(), finding.roles.clone())).collect();
        // What is said of one layer may have a secret of another; a store returns layers without bytes of secrets.
        let besides = besides(&in_config, &documents.findings);
        let known = of_layers(reports).chain(&besides);
        let known = KnownSecrets::of(known, self.key);
        let in_documents = documents.findings.into_iter().map(|finding| self.in_document(finding, &mask));
        let in_config = in_config.into_iter().map(|finding| self.in_config(finding, &mask));
        let mut besides: Vec<Finding> = in_documents.chain(in_config).collect();
        left_out += choose::keep_gravest(&mut besides, budget.finding_bytes());
        budget.take_findings(besides.iter().map(Footprint::footprint).sum());
        findings.extend(besides);
        findings.sort_by_cached_key(order);
        for finding in &mut findings {
            finding.id = id(finding);
        }
        let mut chains = self.chains.find(&findings, |rule| roles.get(rule).cloned().unwrap_or_default());
        for chain in &mut chains {
            chain.id = id(chain);
        }
        findings.extend(chains);
        let of_image = |gap| ImageGap { gap, layer: None };
        let of_documents = image.gaps.iter().chain(&documents.gaps).cloned();
        let of_image = left_out_gaps(left_out, not_linked, &work)
            .chain(of_documents)
            .chain(other_count(image, kind))
            .map(of_image);
        let of_layers = image.layers.iter().zip(reports).enumerate();
        let of_layers = of_layers.filter_map(|(index, (source, report))| Some((index, source, report.as_deref()?)));
        let of_layers = of_layers.flat_map(|(index, source, report)| of_layer(index, source, report, kind));
        let mut listed = ListedGaps::new(budget.gap_bytes(self.limits.gap_bytes));
        listed.extend(gaps.into_iter().chain(of_image).chain(of_layers));
        let mut gaps = listed.into_gaps();
        // A name or a gap may quote a field with a secret.
        for gap in &mut gaps {
            gap.gap.detail = mask.apply("", &gap.gap.detail);
        }
        gaps.sort_by(|a, b| (a.layer, &a.gap).cmp(&(b.layer, &b.gap)));
        budget.take_report(&gaps, &work);
        let mut report = ImageReport {
            reference: image.reference.clone(),
            manifest_digest: image.manifest_digest.clone(),
            config_digest: image.config_digest.clone(),
            platform: image.platform.as_ref().map(|platform| mask.apply("variant", platform)),
            other_platforms: image.other_platforms.clone(),
            kind: match kind {
                ImageKind::Image => ReportKind::Image,
                ImageKind::Artifact => ReportKind::Artifact,
                ImageKind::Cache => ReportKind::Cache,
                ImageKind::Container => ReportKind::Container,
                ImageKind::Volume => ReportKind::Volume,
                ImageKind::Orphan => ReportKind::Orphan,
            },
            notes: notes(image, &layers, &mask),
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
        };
        build::add(&mut report, image, build, &mask);
        masking::mask_report(&mut report, known.as_ref());
        report
    }

    fn in_file(
        &self,
        tracked: Tracked<'_>,
        image: &UnpackedImage<'_>,
        layers: &[LayerSummary],
        reports: &[Option<Arc<LayerReport>>],
        work: &mut Work,
    ) -> Finding {
        let Tracked { finding, layer, state, ended_by, through, .. } = tracked;
        let finding = finding.into_owned();
        let package = owners::owner(&finding.place.path, layer, reports, work);
        let shipped_by = finding
            .checksums
            .as_ref()
            .and_then(|checksums| owners::shipped_by(&finding.place.path, checksums, layer, reports, work));
        let severity = match shipped_by {
            Some(ecosystem) => as_shipped(finding.severity, finding.rule.confidence, ecosystem),
            None => finding.severity,
        };
        let Place { path, inside, views, offset, line, column, binary } = finding.place;
        let (path, inside) = named(&path, inside, image.layers.get(layer), &layers[layer]);
        Finding {
            id: String::new(),
            rule: finding.rule,
            severity,
            location: Location::File(Box::new(FileLocation {
                path,
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
                attributes: finding.attributes,
            })),
            secret: finding.secret.map(|secret| self.reported(secret)),
            note: with_link(finding.note, state, through.as_ref()),
            related: Vec::new(),
            allowed: None,
            baseline: false,
            origin: None,
            step: None,
        }
    }

    fn in_document(&self, finding: DocumentFinding, mask: &Mask) -> Finding {
        let DocumentFinding { rule, severity, mut location, secret, raw: _, note } = finding;
        let path = location.document.json_path.take();
        location.document.json_path = path.map(|path| mask.apply("", &path));
        Finding {
            id: String::new(),
            rule,
            severity,
            location: Location::Document(Box::new(location)),
            secret: secret.map(|secret| self.reported(secret)),
            note,
            related: Vec::new(),
            allowed: None,
            baseline: false,
            origin: None,
            step: None,
        }
    }

    fn in_config(&self, finding: ConfigFinding, mask: &Mask) -> Finding {
        Finding {
            id: String::new(),
            rule: finding.rule,
            severity: finding.severity,
            note: finding.note.map(|note| on_one_line(&mask.apply(&finding.at, &note))),
            location: Location::Config(on_one_line(&mask.apply(&finding.at, &finding.at))),
            secret: finding.secret.map(|secret| self.reported(secret)),
            related: Vec::new(),
            allowed: None,
            baseline: false,
            origin: None,
            step: None,
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

/// The secrets in files.
fn of_layers(reports: &[Option<Arc<LayerReport>>]) -> impl Iterator<Item = &Secret> {
    reports.iter().flatten().flat_map(|report| &report.findings).filter_map(|finding| finding.secret.as_ref())
}

/// The secrets in the configuration and in documents, also as they are written there.
fn besides(in_config: &[ConfigFinding], in_documents: &[DocumentFinding]) -> Vec<Secret> {
    let in_config = in_config.iter().map(|finding| (&finding.secret, &finding.raw));
    let all = in_config.chain(in_documents.iter().map(|finding| (&finding.secret, &finding.raw)));
    let both = |(secret, raw): (&Option<Secret>, &Option<Box<str>>)| -> Vec<Secret> {
        let written = secret.clone().zip(raw.as_ref()).map(|(secret, raw)| secret.written_as(raw.as_bytes()));
        secret.iter().cloned().chain(written).collect()
    };
    all.flat_map(both).collect()
}

/// The gaps of findings that are not in the report: `left_out` of layers, and `not_linked` at hard links; or of which
/// not everything is known.
fn left_out_gaps(left_out: u64, not_linked: u64, work: &Work) -> impl Iterator<Item = Gap> {
    let gap = |detail: String| Gap::new(GapReason::TooManyFindings, detail);
    let unfinished = "following all findings through all layers takes too long; some that are listed as present may be \
                      overwritten or deleted, and some packages are not known";
    let gaps = [
        (left_out > 0)
            .then(|| gap(format!("the image has too many findings; {left_out} were dropped, the least grave first"))),
        (not_linked > 0).then(|| gap(format!("too many findings in hard links; {not_linked} were dropped"))),
        work.is_exceeded().then(|| gap(unfinished.into())),
    ];
    gaps.into_iter().flatten()
}

/// The gaps of the layer `index`, whose blob is `source`.
fn of_layer<'g>(
    index: usize,
    source: &'g LayerSource,
    report: &'g LayerReport,
    kind: ImageKind,
) -> impl Iterator<Item = ImageGap> + 'g {
    let own = report.gaps.iter().map(|gap| named_gap(gap, source, report));
    let all = own.chain(verify(source, report, kind)).chain(not_a_tar(kind, source, report));
    all.map(move |gap| ImageGap { gap, layer: Some(index) })
}

/// The path of a finding in the report, and the archive members that contain it. A blob that is a file of its own is
/// called by its title, or by its digest if it has none; a titled archive contains its files.
fn named(
    path: &ImagePath,
    inside: Vec<String>,
    source: Option<&LayerSource>,
    layer: &LayerSummary,
) -> (String, Vec<String>) {
    let title = source.and_then(|source| source.title.as_ref()).map(|title| ImagePath::normalize(title.as_bytes()));
    match title {
        Some(title) if path.is_root() => (title.to_string(), inside),
        Some(title) => (title.to_string(), std::iter::once(path.to_string()).chain(inside).collect()),
        None if path.is_root() => (layer.digest.as_ref().map(Digest::to_string).unwrap_or_default(), inside),
        None => (path.to_string(), inside),
    }
}

/// A gap with the name of its blob, if the blob is a file of its own.
pub(crate) fn named_gap(gap: &Gap, source: &LayerSource, report: &LayerReport) -> Gap {
    let inside = gap.path.as_deref().filter(|path| path.is_empty() || path.starts_with(" \u{25b8} "));
    let Some(inside) = inside else { return gap.clone() };
    let title = source.title.as_ref().map(|title| ImagePath::normalize(title.as_bytes()).to_string());
    let name = title.unwrap_or_else(|| report.blob.to_string());
    gap.clone().at(name + inside)
}

/// What the report says besides: of the image, and of bytes after the archives of its layers.
fn notes(image: &UnpackedImage<'_>, layers: &[LayerSummary], mask: &Mask) -> Vec<String> {
    let after = layers.iter().filter(|layer| layer.bytes_after_end > 0).map(|layer| {
        format!(
            "layer {} has {} bytes after the end of its archive, which runtimes ignore; they were scanned",
            layer.index, layer.bytes_after_end
        )
    });
    image.notes.iter().map(|note| mask.apply("", note)).chain(after).collect()
}

/// What `image` turned out to be, now that its blobs are read. Tools push models, modules and bundles with a
/// configuration that has the media type of an image's. If it does not say how to run a container, and describes no
/// image, or if a blob is not a tar archive and none claims to be a layer, no runtime runs it: it is an artifact. A
/// runtime for WebAssembly runs modules that are not in an archive.
pub(crate) fn kind<'r>(image: &UnpackedImage<'_>, reports: impl IntoIterator<Item = &'r LayerReport>) -> ImageKind {
    let config = &image.config;
    let has_files = reports.into_iter().any(|report| !report.is_tar);
    let may_be_layers = !has_files || image.layers.iter().any(LayerSource::is_layer);
    let is_described = config.platform().is_some() || !config.rootfs.diff_ids.is_empty() || !config.history.is_empty();
    let is_container = match config.architecture.as_str() {
        "wasm" => may_be_layers,
        _ => config.has_runtime() || (is_described && may_be_layers),
    };
    match image.kind {
        ImageKind::Image if image.has_config && !is_container => ImageKind::Artifact,
        kind => kind,
    }
}

/// The gap of an image whose configuration describes other layers than its manifest.
pub(crate) fn other_count(image: &UnpackedImage<'_>, kind: ImageKind) -> Option<Gap> {
    let (layers, diff_ids) = (image.layers.len(), image.config.rootfs.diff_ids.len());
    if kind != ImageKind::Image || !image.has_config || layers == diff_ids {
        return None;
    }
    let detail = format!("the image has {layers} layers, but its configuration has {diff_ids} diff_ids");
    Some(Gap::new(GapReason::DiffIdMismatch, detail))
}

/// The gap of a layer that no runtime can extract.
pub(crate) fn not_a_tar(kind: ImageKind, source: &LayerSource, report: &LayerReport) -> Option<Gap> {
    if kind != ImageKind::Image || report.is_tar {
        return None;
    }
    let media_type = source.media_type.as_deref().unwrap_or("no media type");
    let what = if media_type.ends_with("+encrypted") { "is encrypted" } else { "is not a tar archive" };
    let detail = format!("the layer {what} ({media_type}); its bytes were scanned as they are");
    Some(Gap::new(GapReason::NotATar, detail).sized(report.bytes))
}

/// The note of a finding, and the other path by which a layer ended its file.
fn with_link(note: Option<String>, state: State, through: Option<&ImagePath>) -> Option<String> {
    let Some(through) = through else { return note };
    let through = format!(
        "{} as {through}, through a symbolic link; a runtime that stacks layers as overlays keeps the file",
        state.name()
    );
    Some(note.map_or(through.clone(), |note| format!("{note}; {through}")))
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

/// `text` with its control characters replaced, once it is masked: a secret may have line feeds.
fn on_one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), "\u{fffd}")
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
    image: &UnpackedImage<'_>,
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
        created_at: entry.and_then(|(_, entry)| history::time(entry)),
        entries: report.map_or(0, |report| report.entries),
        files: report.map_or(0, |report| report.files),
        bytes: report.map_or(0, |report| report.bytes),
        stored_bytes: report.map_or(0, |report| report.blob_bytes),
        is_read: report.is_some(),
        whiteouts: report.map(|report| report.whiteouts.clone()).unwrap_or_default(),
        bytes_after_end: report.map_or(0, |report| report.bytes_after_end),
        origin: None,
        step: None,
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

/// Compares digests and sizes of a layer with the manifest and the configuration, which says something only of images.
pub(crate) fn verify(source: &LayerSource, report: &LayerReport, kind: ImageKind) -> Vec<Gap> {
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
        && kind == ImageKind::Image
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
        Location::Document(document) => {
            let DocumentRef { kind, json_path, .. } = &document.document;
            let place = format!("{kind}\0{}\0{}", json_path.as_deref().unwrap_or_default(), document.inside.join("\0"));
            (1, 0, place, document.line.unwrap_or(0), rule)
        }
        Location::Config(field) => (2, 0, field.clone(), 0, rule),
        Location::Image => (3, 0, String::new(), 0, rule),
    }
}

/// The id of a finding, which does not depend on how the image is packaged.
fn id(finding: &Finding) -> String {
    let place = match &finding.location {
        Location::File(file) => {
            let diff_id = file.layer.diff_id.as_ref().map(Digest::to_string).unwrap_or_default();
            format!("{diff_id}\n{}\n{}", file.full_path("\0"), file.offset.unwrap_or(0))
        }
        Location::Document(document) => {
            let DocumentRef { kind, json_path, .. } = &document.document;
            format!("{kind}\n{}\n{}", json_path.as_deref().unwrap_or_default(), document.inside.join("\n"))
        }
        Location::Config(field) => field.clone(),
        Location::Image => finding.related.join(" "),
    };
    let fingerprint = finding.fingerprint().unwrap_or_default();
    Digest::of(format!("{}\n{place}\n{fingerprint}", finding.rule.id).as_bytes()).hex()[..16].to_string()
}
