//! What the formats that are passed on to other people and programs share: the place of a finding in words, keys that
//! recognise it again, and texts that are bounded and safe to show.
//!
//! The built-in fingerprint key is public: with it, a weak password can be found from its fingerprint by trying. These
//! formats have fingerprints only where the scan used a key of its own. [`layersift_model::Finding::id`] is made of the
//! fingerprint, so it is left out, too.

use std::collections::HashMap;
use std::fmt::{self, Write as _};

use layersift_model::{
    Algorithm, Digest, FileLocation, Finding, FingerprintKey, Hasher, ImageGap, ImageReport, LayerRef, Location, State,
    Tool,
};

use crate::terminal::{clean, plural};

/// Joins the names of archive members.
pub(crate) const MEMBER: &str = " ▸ ";

/// What is said where fingerprints are left out.
pub(crate) const NO_FINGERPRINTS: &str =
    "left out: the scan used the built-in fingerprint key, which is public, so a weak secret could be guessed";

/// The columns of a name, such as a path.
const NAME: usize = 400;

/// The columns of a sentence.
const SENTENCE: usize = 1_000;

/// A name from an image on one line: bounded, without characters that change how it is displayed.
pub(crate) fn name(text: &str) -> String {
    clean(text, NAME)
}

/// A sentence on one line, as [`name`].
pub(crate) fn sentence(text: &str) -> String {
    clean(text, SENTENCE)
}

/// Whether fingerprints of `report` may be passed on.
pub(crate) fn has_own_key(report: &ImageReport) -> bool {
    report.tool.fingerprint_key.as_ref().is_some_and(|id| *id != FingerprintKey::default().id())
}

/// The fingerprint of the finding's secret, if it may be passed on.
pub(crate) fn fingerprint<'r>(report: &ImageReport, finding: &'r Finding) -> Option<&'r str> {
    finding.fingerprint().filter(|_| has_own_key(report))
}

/// The image, as a person calls it.
pub(crate) fn image_name(report: &ImageReport) -> String {
    let image = name(report.reference.as_deref().unwrap_or(&report.target));
    if image.is_empty() { "image without a name".into() } else { image }
}

/// The platform, or `unknown`.
pub(crate) fn platform(report: &ImageReport) -> String {
    clean(report.platform.as_deref().unwrap_or("unknown"), 60)
}

/// Where the finding is, without the line: the path and the archive members, or the field.
pub(crate) fn place(finding: &Finding) -> String {
    match &finding.location {
        Location::File(file) => name(&file.full_path(MEMBER)),
        Location::Document(location) => {
            let path = location.document.json_path.iter().chain(&location.inside);
            name(&path.fold(location.document.kind.to_string(), |place, part| place + " " + part))
        }
        Location::Config(field) => name(&format!("configuration {field}")),
        Location::Image => "the image as a whole".into(),
    }
}

/// [`place`] with the line.
pub(crate) fn place_and_line(finding: &Finding) -> String {
    place(finding) + &line(finding).map(|line| format!(":{line}")).unwrap_or_default()
}

/// The line of the finding, from 1.
pub(crate) fn line(finding: &Finding) -> Option<u64> {
    match &finding.location {
        Location::File(file) => file.line,
        Location::Document(document) => document.line,
        Location::Config(_) | Location::Image => None,
    }
}

/// A layer, such as `layer 3 (RUN make)`.
pub(crate) fn layer(layer: &LayerRef) -> String {
    match &layer.created_by {
        Some(instruction) => format!("layer {} ({})", layer.index, clean(instruction, 120)),
        None => format!("layer {}", layer.index),
    }
}

/// How the file fared after its layer, such as `deleted by layer 3 (RUN rm x)`.
pub(crate) fn fate(file: &FileLocation) -> String {
    match (&file.ended_by, file.state) {
        (_, State::Present) => "present in the final image".into(),
        (Some(by), state) => format!("{} by {}", state.name(), layer(by)),
        (None, state) => format!("{} in its own layer", state.name()),
    }
}

/// The finding in one sentence: what, which secret, where, and whether it is still there.
pub(crate) fn summary(finding: &Finding) -> String {
    let whence = finding.file().map(|file| format!("; added by {}, {}", layer(&file.layer), fate(file)));
    let note = finding.note.as_ref().map(|note| format!("; {}", clean(note, 300))).unwrap_or_default();
    let secret = masked(finding).map(|masked| format!(": {masked}")).unwrap_or_default();
    format!("{}{secret} in {}{}{note}", title(finding), place_and_line(finding), whence.unwrap_or_default())
}

/// The masked form of the finding's secret.
pub(crate) fn masked(finding: &Finding) -> Option<String> {
    finding.secret.as_ref().map(|secret| clean(&secret.masked, 120))
}

/// The title of the finding's rule, or its id where an older program left the title out.
pub(crate) fn title(finding: &Finding) -> String {
    let title = clean(&finding.rule.title, 200);
    if title.is_empty() { clean(&finding.rule.id, 200) } else { title }
}

/// Why the finding does not count for the verdict, if it does not.
pub(crate) fn exempt(finding: &Finding) -> Option<String> {
    match &finding.allowed {
        Some(allowed) => Some(format!("allowed until {}: {}", allowed.expires, sentence(&allowed.reason))),
        None => finding.baseline.then(|| "in the baseline".to_string()),
    }
}

/// Whether the finding makes the verdict fail.
pub(crate) fn fails(report: &ImageReport, finding: &Finding) -> bool {
    let limit = report.judgement.as_ref().and_then(|judgement| judgement.policy.fail_on);
    finding.counts() && limit.is_some_and(|limit| finding.severity >= limit)
}

/// Why the image has its verdict, in one sentence.
pub(crate) fn why(report: &ImageReport) -> String {
    let failing = report.findings.iter().filter(|finding| fails(report, finding)).count() as u64;
    let gaps = match report.gaps.len() as u64 {
        0 => "every byte was read".into(),
        gaps => format!("not everything was read ({})", plural(gaps, "gap")),
    };
    match report.judgement.as_ref().map(|judgement| judgement.policy.fail_on) {
        None => format!("no policy was applied; {gaps}"),
        Some(None) => format!("the policy only reports; {gaps}"),
        Some(Some(limit)) => match failing {
            0 => format!("no finding is {limit} or worse; {gaps}"),
            1 => format!("1 finding is {limit} or worse; {gaps}"),
            failing => format!("{} are {limit} or worse; {gaps}", plural(failing, "finding")),
        },
    }
}

/// What was not read, in one sentence.
pub(crate) fn gap(gap: &ImageGap) -> String {
    let path = gap.gap.path.as_deref().map(|path| format!(": {}", name(path))).unwrap_or_default();
    let layer = gap.layer.map(|layer| format!(" in layer {layer}")).unwrap_or_default();
    let bytes = gap.gap.bytes.map(|bytes| format!(" ({})", plural(bytes, "byte"))).unwrap_or_default();
    format!("{}{path}{layer}{bytes}: {}", gap.gap.reason.name(), sentence(&gap.gap.detail))
}

/// Numbers the findings that have the same rule, layer and place, so that every finding of an image has a key.
#[derive(Default)]
pub(crate) struct PlaceKeys(HashMap<String, usize>);

impl PlaceKeys {
    /// The key of the next finding: a hash of rule, layer and place, and the number of the finding among those with
    /// the same hash. It tells nothing about the secret.
    pub(crate) fn next(&mut self, finding: &Finding) -> (String, usize) {
        let layer = finding.file().map(|file| file.layer.index.to_string()).unwrap_or_default();
        let place = match &finding.location {
            Location::File(file) => file.full_path("\0"),
            Location::Document(location) => {
                let document = &location.document;
                let path = document.json_path.as_deref().unwrap_or_default();
                format!("{}\0{path}\0{}", document.kind, location.inside.join("\0"))
            }
            Location::Config(field) => field.clone(),
            Location::Image => String::new(),
        };
        let text = format!("{}\n{layer}\n{place}", finding.rule.id);
        let hash: String = Digest::of(text.as_bytes()).hex().chars().take(16).collect();
        let number = self.0.entry(hash.clone()).or_default();
        *number += 1;
        (hash, *number)
    }
}

/// A UUID of the reports, the same for the same reports.
pub(crate) fn uuid(reports: &[ImageReport], purpose: &str) -> String {
    let mut text = purpose.to_string();
    for report in reports {
        let digest = |digest: &Option<Digest>| digest.as_ref().map(Digest::to_string).unwrap_or_default();
        let Tool { ruleset, version, .. } = &report.tool;
        let at = report.scanned_at.map(|at| at.to_string()).unwrap_or_default();
        let (manifest, config) = (digest(&report.manifest_digest), digest(&report.config_digest));
        text += &format!("\n{} {manifest} {config} {ruleset} {version} {at}", report.target);
        text += &format!(" {} {}", report.findings.len(), report.gaps.len());
    }
    uuid_of(&text)
}

/// A UUID of a text, the same for the same text.
pub(crate) fn uuid_of(text: &str) -> String {
    let mut uuid = Uuid::default();
    uuid.add(format_args!("{text}"));
    uuid.finish()
}

/// A UUID of a text that comes in parts, and is never in memory as a whole.
pub(crate) struct Uuid(Hasher);

impl Default for Uuid {
    fn default() -> Uuid {
        Uuid(Hasher::new(Algorithm::Sha256))
    }
}

impl Uuid {
    /// Adds a part of the text.
    pub(crate) fn add(&mut self, part: fmt::Arguments<'_>) {
        // Hashing does not fail.
        let _ = self.write_fmt(part);
    }

    /// The UUID of all parts.
    pub(crate) fn finish(self) -> String {
        uuid_of_digest(&self.0.finish())
    }
}

impl fmt::Write for Uuid {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

fn uuid_of_digest(digest: &Digest) -> String {
    let part = |from: usize, to: usize| digest.hex().get(from..to).unwrap_or_default();
    // RFC 9562, version 8: the bits are ours, but for version and variant.
    format!("{}-{}-8{}-8{}-{}", part(0, 8), part(8, 12), part(12, 15), part(15, 18), part(18, 30))
}
