//! What of an image's report is a column or a row of its own, so that a trace finds it: from the report, in one place.

use layersift_model::{
    DocumentRef, Finding, ImageReport, LayerSummary, Location, Package, RuleSummary, Severity, State,
};

use super::error::Fault;
use super::images::{ImageLayer, ImageRecord};
use super::intern;

/// The index of a report.
pub(super) struct ReportIndex {
    /// The image; its instructions are masked.
    pub(super) image: ImageRecord,
    /// What was found.
    pub(super) findings: Vec<IndexedFinding>,
    /// The layers that were not read, by their positions from 0 at the base. Their contents are unknown.
    pub(super) unread: Vec<usize>,
    /// The sums.
    pub(super) counts: Counts,
}

/// A report in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) critical: u64,
    pub(super) high: u64,
    pub(super) medium: u64,
    pub(super) low: u64,
    pub(super) info: u64,
    pub(super) gaps: u64,
    pub(super) unread: u64,
}

/// A finding of an image.
#[derive(Clone, Debug)]
pub(super) struct IndexedFinding {
    /// Its id, the same in every image with the same layer or configuration.
    pub(super) finding_id: String,
    /// What was looked for.
    pub(super) rule: RuleSummary,
    /// The file, where it is in one.
    pub(super) path: Option<String>,
    /// The archive members that lead to it.
    pub(super) inside: Vec<String>,
    /// The field of the configuration, where it is in one.
    pub(super) config: Option<String>,
    /// The layer that brought it, by its position from 0 at the base.
    pub(super) position: Option<usize>,
    /// Whether it is still in the final image.
    pub(super) state: State,
    /// The layer that overwrote or deleted it, by its position from 0 at the base.
    pub(super) ended_by: Option<usize>,
    /// The secret, where it is one.
    pub(super) secret: Option<IndexedSecret>,
    /// The package that the file belongs to.
    pub(super) package: Option<Package>,
}

/// What is stored of a secret.
#[derive(Clone, Debug)]
pub(super) struct IndexedSecret {
    pub(super) fingerprint: String,
    pub(super) masked: String,
    pub(super) length: u64,
}

impl ReportIndex {
    /// The index of `report`.
    ///
    /// # Errors
    /// A report without a manifest digest or the digest of a layer, which is not of a registry's image; one whose
    /// findings are in layers that the image does not have.
    pub(super) fn of(report: &ImageReport) -> Result<ReportIndex, Fault> {
        let invalid = |reason: String| Fault::invalid(format!("the report of {}", report.target), reason);
        let manifest_digest =
            report.manifest_digest.clone().ok_or_else(|| invalid("it has no manifest digest".into()))?;
        let layer = |layer: &LayerSummary| -> Result<ImageLayer, Fault> {
            let digest = layer.digest.clone();
            Ok(ImageLayer {
                digest: digest.ok_or_else(|| invalid(format!("layer {} has no digest", layer.index)))?,
                diff_id: layer.diff_id.clone(),
                created_by: layer.created_by.clone(),
                blob_bytes: layer.stored_bytes,
            })
        };
        let unread = report.layers.iter().enumerate().filter(|(_, layer)| !layer.is_read);
        let unread: Vec<usize> = unread.map(|(position, _)| position).collect();
        let index = ReportIndex {
            image: ImageRecord {
                manifest_digest,
                config_digest: report.config_digest.clone(),
                platform: report.platform.clone(),
                layers: report.layers.iter().map(layer).collect::<Result<_, _>>()?,
            },
            findings: report.findings.iter().map(IndexedFinding::of).collect(),
            counts: Counts::of(report, unread.len()),
            unread,
        };
        index.check()?;
        Ok(index)
    }

    fn check(&self) -> Result<(), Fault> {
        let layers = self.image.layers.len();
        let positions = self.findings.iter().flat_map(|finding| [finding.position, finding.ended_by]).flatten();
        if let Some(position) = { positions }.find(|position| *position >= layers) {
            let reason = format!("they are in layer {position}, and the image has {layers} layers");
            return Err(Fault::invalid(format!("the findings of {}", self.image.manifest_digest), reason));
        }
        for finding in &self.findings {
            intern::check_key("the id of a finding", &finding.finding_id)?;
            intern::check_key("a fingerprint", finding.secret.as_ref().map_or("", |secret| &secret.fingerprint))?;
        }
        Ok(())
    }
}

impl Counts {
    fn of(report: &ImageReport, unread: usize) -> Counts {
        let mut counts = Counts { gaps: report.gaps.len() as u64, unread: unread as u64, ..Counts::default() };
        for finding in &report.findings {
            *match finding.severity {
                Severity::Critical => &mut counts.critical,
                Severity::High => &mut counts.high,
                Severity::Medium => &mut counts.medium,
                Severity::Low => &mut counts.low,
                Severity::Info => &mut counts.info,
            } += 1;
        }
        counts
    }
}

impl IndexedFinding {
    fn of(finding: &Finding) -> IndexedFinding {
        let rule = RuleSummary {
            id: finding.rule.id.clone(),
            title: finding.rule.title.clone(),
            severity: finding.severity,
            confidence: finding.rule.confidence,
        };
        let secret = finding.secret.as_ref().map(|secret| IndexedSecret {
            fingerprint: secret.fingerprint.clone(),
            masked: secret.masked.clone(),
            length: secret.length as u64,
        });
        let indexed = IndexedFinding {
            finding_id: finding.id.clone(),
            rule,
            path: None,
            inside: Vec::new(),
            config: None,
            position: None,
            state: State::Present,
            ended_by: None,
            secret,
            package: None,
        };
        match &finding.location {
            Location::Image => indexed,
            Location::Config(field) => IndexedFinding { config: Some(field.clone()), ..indexed },
            Location::Document(document) => {
                let DocumentRef { kind, json_path, .. } = &document.document;
                let field = format!("{kind} {}", json_path.as_deref().unwrap_or_default());
                IndexedFinding { config: Some(field.trim_end().to_string()), ..indexed }
            }
            Location::File(file) => IndexedFinding {
                path: Some(file.path.clone()),
                inside: file.inside.clone(),
                position: Some(file.layer.index),
                state: file.state,
                ended_by: file.ended_by.as_ref().map(|layer| layer.index),
                package: file.package.clone(),
                ..indexed
            },
        }
    }

    /// What the finding is known by from run to run: a secret wherever it is, anything else where it is.
    pub(super) fn thing(&self) -> String {
        self.secret.as_ref().map_or_else(|| self.finding_id.clone(), |secret| secret.fingerprint.clone())
    }
}
