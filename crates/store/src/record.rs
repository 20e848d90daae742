//! From an image's report to what is stored of it: without secrets.

use super::error::StoreError;
use super::findings::{FindingRecord, PackageRecord, RuleRecord, SecretRecord};
use super::images::{ImageLayer, ImageRecord};
use layersift_model::{Finding, ImageReport, LayerSummary, Location, State};

/// What assembling an image told, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assembled {
    /// The image; its instructions are masked.
    pub image: ImageRecord,
    /// The digest of the rules.
    pub ruleset: String,
    /// What was found.
    pub findings: Vec<FindingRecord>,
    /// How many gaps there are.
    pub gaps: u64,
    /// The layers that were not read, by their places from the base. What they hold is not known.
    pub unread: Vec<usize>,
}

impl Assembled {
    /// What is stored of `report`. A layer without a blob counts as not read.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a report that names no manifest or no digest of a layer: it is of no registry's.
    pub fn of(report: &ImageReport) -> Result<Assembled, StoreError> {
        let invalid = |reason: String| StoreError::Invalid { what: format!("the report of {}", report.target), reason };
        let manifest_digest = report.manifest_digest.clone();
        let manifest_digest = manifest_digest.ok_or_else(|| invalid("it names no manifest digest".into()))?;
        let layer = |line: &LayerSummary| {
            let digest = line.digest.clone();
            Ok(ImageLayer {
                digest: digest.ok_or_else(|| invalid(format!("it names no digest of the layer {}", line.index)))?,
                diff_id: line.diff_id.clone(),
                created_by: line.created_by.clone(),
                blob_bytes: line.stored_bytes,
            })
        };
        let unread = report.layers.iter().enumerate().filter(|(_, line)| !line.is_read);
        Ok(Assembled {
            image: ImageRecord {
                manifest_digest,
                config_digest: report.config_digest.clone(),
                platform: report.platform.clone(),
                layers: report.layers.iter().map(layer).collect::<Result<_, _>>()?,
            },
            ruleset: report.tool.ruleset.clone(),
            findings: report.findings.iter().map(FindingRecord::of).collect(),
            gaps: report.gaps.len() as u64,
            unread: unread.map(|(position, _)| position).collect(),
        })
    }
}

impl FindingRecord {
    /// What is stored of `finding`.
    pub fn of(finding: &Finding) -> FindingRecord {
        let rule = RuleRecord {
            id: finding.rule.id.clone(),
            title: finding.rule.title.clone(),
            severity: finding.severity,
            confidence: finding.rule.confidence,
        };
        let secret = finding.secret.as_ref().map(|secret| SecretRecord {
            fingerprint: secret.fingerprint.clone(),
            masked: secret.masked.clone(),
            length: secret.length as u64,
        });
        let record = FindingRecord {
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
            Location::Image => record,
            Location::Config(field) => FindingRecord { config: Some(field.clone()), ..record },
            Location::File(file) => FindingRecord {
                path: Some(file.path.clone()),
                inside: file.inside.clone(),
                position: Some(file.layer.index),
                state: file.state,
                ended_by: file.ended_by.as_ref().map(|layer| layer.index),
                package: file.package.as_ref().map(|package| PackageRecord {
                    ecosystem: package.ecosystem.to_string(),
                    name: package.name.clone(),
                    version: package.version.clone(),
                }),
                ..record
            },
        }
    }
}
