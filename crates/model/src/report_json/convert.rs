//! From reports to the objects of the schema, and back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::SCHEMA;
use super::lines::{FindingLine, GapLine, ImageLine, LayerLine, ReportLine, SecretLine, StatsLine, ToolLine};
use crate::finding::{FileLocation, Finding, Location, ReportedSecret};
use crate::gap::Gap;
use crate::image_report::{ImageGap, ImageReport, LayerSummary, Tool};
use crate::rule_info::RuleInfo;
use crate::secret::Secret;
use crate::verdict::Judgement;

impl ReportLine {
    pub(super) fn new(report: &ImageReport, show_secrets: bool) -> ReportLine {
        let judgement = report.judgement.as_ref();
        ReportLine {
            schema: SCHEMA,
            tool: ToolLine {
                name: "layersift".into(),
                version: report.tool.version.clone(),
                ruleset: report.tool.ruleset.clone(),
                engine: report.tool.engine.clone(),
                reader_revision: report.tool.reader_revision,
                fingerprint_key: report.tool.fingerprint_key.clone(),
            },
            scanned_at: report.scanned_at,
            target: report.target.clone(),
            image: ImageLine {
                reference: report.reference.clone(),
                manifest_digest: report.manifest_digest.clone(),
                config_digest: report.config_digest.clone(),
                platform: report.platform.clone(),
            },
            layers: report.layers.iter().map(LayerLine::new).collect(),
            rules: Some(rules(report)),
            findings: report.findings.iter().map(|finding| FindingLine::new(finding, show_secrets)).collect(),
            gaps: report.gaps.iter().map(GapLine::new).collect(),
            policy: judgement.map(|judgement| judgement.policy.clone()),
            expired: judgement.map(|judgement| judgement.expired.clone()).unwrap_or_default(),
            verdict: judgement.map(|judgement| judgement.verdict),
            stats: StatsLine {
                layers: report.layers.len(),
                files: report.files(),
                bytes: report.bytes(),
                seconds: report.milliseconds.map(|milliseconds| milliseconds as f64 / 1000.0),
            },
        }
    }

    /// Adds what an older program did not write to `missing`.
    pub(super) fn note_missing(&self, missing: &mut BTreeSet<&'static str>) {
        if self.rules.is_none() {
            missing.insert("risk, fix and references of rules");
        }
        if self.policy.is_none() {
            missing.insert("the policy that made the verdict");
        }
        if self.layers.iter().any(|layer| layer.stored_bytes.is_none()) {
            missing.insert("stored sizes and whiteouts of layers");
        }
    }
}

/// The rules of all findings, each once, in the order of their ids.
fn rules(report: &ImageReport) -> Vec<RuleInfo> {
    let by_id: BTreeMap<&str, &RuleInfo> =
        report.findings.iter().map(|finding| (&finding.rule.id[..], &*finding.rule)).collect();
    by_id.into_values().cloned().collect()
}

impl From<ReportLine> for ImageReport {
    fn from(line: ReportLine) -> ImageReport {
        let rules: BTreeMap<String, Arc<RuleInfo>> =
            line.rules.into_iter().flatten().map(|rule| (rule.id.clone(), Arc::new(rule))).collect();
        let (policy, expired) = (line.policy, line.expired);
        let judgement = |verdict| Judgement { verdict, policy: policy.unwrap_or_default(), expired };
        ImageReport {
            target: line.target,
            reference: line.image.reference,
            manifest_digest: line.image.manifest_digest,
            config_digest: line.image.config_digest,
            platform: line.image.platform,
            tool: Tool {
                version: line.tool.version,
                ruleset: line.tool.ruleset,
                engine: line.tool.engine,
                reader_revision: line.tool.reader_revision,
                fingerprint_key: line.tool.fingerprint_key,
            },
            scanned_at: line.scanned_at,
            milliseconds: line.stats.seconds.map(|seconds| (seconds * 1000.0).round() as u64),
            layers: line.layers.into_iter().map(LayerSummary::from).collect(),
            findings: line.findings.into_iter().map(|finding| finding.read(&rules)).collect(),
            gaps: line.gaps.into_iter().map(ImageGap::from).collect(),
            judgement: line.verdict.map(judgement),
        }
    }
}

impl LayerLine {
    pub(super) fn new(layer: &LayerSummary) -> LayerLine {
        LayerLine {
            index: layer.index,
            digest: layer.digest.clone(),
            diff_id: layer.diff_id.clone(),
            media_type: layer.media_type.clone(),
            created_by: layer.created_by.clone(),
            files: layer.files,
            bytes: layer.bytes,
            entries: Some(layer.entries),
            stored_bytes: Some(layer.stored_bytes),
            removes: layer.whiteouts.clone(),
            unread: !layer.is_read,
        }
    }
}

impl From<LayerLine> for LayerSummary {
    fn from(line: LayerLine) -> LayerSummary {
        LayerSummary {
            index: line.index,
            digest: line.digest,
            diff_id: line.diff_id,
            media_type: line.media_type,
            created_by: line.created_by,
            is_read: !line.unread,
            entries: line.entries.unwrap_or(line.files),
            files: line.files,
            bytes: line.bytes,
            stored_bytes: line.stored_bytes.unwrap_or(0),
            whiteouts: line.removes,
        }
    }
}

impl FindingLine {
    pub(super) fn new(finding: &Finding, show_secrets: bool) -> FindingLine {
        let config = match &finding.location {
            Location::Config(field) => Some(field.clone()),
            Location::File(_) | Location::Image => None,
        };
        let file = finding.file();
        FindingLine {
            id: finding.id.clone(),
            rule: finding.rule.id.clone(),
            title: finding.rule.title.clone(),
            severity: finding.severity,
            confidence: finding.rule.confidence,
            path: file.map(|file| file.path.clone()),
            inside: file.map(|file| file.inside.clone()).unwrap_or_default(),
            views: file.map(|file| file.views.clone()).unwrap_or_default(),
            offset: file.and_then(|file| file.offset),
            line: file.and_then(|file| file.line),
            column: file.and_then(|file| file.column),
            config,
            layer: file.map(|file| file.layer.clone()),
            state: finding.state(),
            ended_by: file.and_then(|file| file.ended_by.clone()),
            secret: finding.secret.as_ref().map(|secret| SecretLine::new(secret, show_secrets)),
            package: file.and_then(|file| file.package.clone()),
            as_shipped: file.is_some_and(|file| file.as_shipped),
            binary: file.and_then(|file| file.binary.clone()),
            note: finding.note.clone(),
            related: finding.related.clone(),
            allowed: finding.allowed.clone(),
            baseline: finding.baseline,
        }
    }

    /// The finding, whose rule is one of `rules`, or is made of what the line itself says of it.
    pub(super) fn read(self, rules: &BTreeMap<String, Arc<RuleInfo>>) -> Finding {
        let rule = rules.get(&self.rule).cloned();
        let rule = rule.unwrap_or_else(|| {
            Arc::new(RuleInfo {
                id: self.rule,
                title: self.title,
                severity: self.severity,
                confidence: self.confidence,
                what: String::new(),
                risk: String::new(),
                fix: String::new(),
                references: Vec::new(),
            })
        });
        let location = match (self.path, self.layer, self.config) {
            (Some(path), Some(layer), _) => Location::File(Box::new(FileLocation {
                path,
                inside: self.inside,
                views: self.views,
                offset: self.offset,
                line: self.line,
                column: self.column,
                binary: self.binary,
                layer,
                state: self.state,
                ended_by: self.ended_by,
                package: self.package,
                as_shipped: self.as_shipped,
            })),
            (_, _, Some(field)) => Location::Config(field),
            _ => Location::Image,
        };
        Finding {
            id: self.id,
            rule,
            severity: self.severity,
            location,
            secret: self.secret.map(ReportedSecret::from),
            note: self.note,
            related: self.related,
            allowed: self.allowed,
            baseline: self.baseline,
        }
    }
}

impl SecretLine {
    pub(super) fn new(secret: &ReportedSecret, show: bool) -> SecretLine {
        use base64::Engine as _;
        let bytes = secret.value.as_ref().map(Secret::reveal).filter(|_| show);
        let text = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok());
        let binary = bytes.filter(|_| text.is_none());
        SecretLine {
            masked: secret.masked.clone(),
            fingerprint: secret.fingerprint.clone(),
            length: secret.length,
            value: text.map(Into::into),
            value_base64: binary.map(|bytes| base64::engine::general_purpose::STANDARD.encode(bytes)),
        }
    }
}

impl From<SecretLine> for ReportedSecret {
    fn from(line: SecretLine) -> ReportedSecret {
        use base64::Engine as _;
        let binary = |text: String| base64::engine::general_purpose::STANDARD.decode(text).ok();
        let bytes = line.value.map(String::into_bytes).or_else(|| line.value_base64.and_then(binary));
        ReportedSecret {
            value: bytes.map(|bytes| Secret::labelled(bytes, &line.masked[..])),
            masked: line.masked,
            fingerprint: line.fingerprint,
            length: line.length,
        }
    }
}

impl GapLine {
    pub(super) fn new(gap: &ImageGap) -> GapLine {
        GapLine {
            reason: gap.gap.reason,
            path: gap.gap.path.clone(),
            layer: gap.layer,
            bytes: gap.gap.bytes,
            detail: gap.gap.detail.clone(),
        }
    }
}

impl From<GapLine> for ImageGap {
    fn from(line: GapLine) -> ImageGap {
        let GapLine { reason, path, layer, bytes, detail } = line;
        ImageGap { gap: Gap { reason, path, bytes, detail }, layer }
    }
}
