//! Converts reports to the JSON objects of the schema and back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::SCHEMA;
use super::objects::{
    FindingList, FindingObject, GapObject, ImageObject, LayerObject, ReportObject, SecretObject, StatsObject,
    ToolObject,
};
use crate::finding::{DocumentLocation, FileLocation, Finding, Location, ReportedSecret};
use crate::gap::Gap;
use crate::image_report::{ImageGap, ImageReport, LayerSummary, Tool};
use crate::rule_info::RuleInfo;
use crate::secret::Secret;
use crate::verdict::Judgement;

impl<'r> ReportObject<'r> {
    pub(super) fn new(report: &'r ImageReport, show_secrets: bool) -> ReportObject<'r> {
        let judgement = report.judgement.as_ref();
        ReportObject {
            schema: SCHEMA,
            tool: ToolObject {
                name: "layersift".into(),
                version: report.tool.version.clone(),
                ruleset: report.tool.ruleset.clone(),
                engine: report.tool.engine.clone(),
                reader_revision: report.tool.reader_revision,
                fingerprint_key: report.tool.fingerprint_key.clone(),
            },
            scanned_at: report.scanned_at,
            target: report.target.clone(),
            image: ImageObject {
                reference: report.reference.clone(),
                manifest_digest: report.manifest_digest.clone(),
                config_digest: report.config_digest.clone(),
                platform: report.platform.clone(),
                other_platforms: report.other_platforms.clone(),
                kind: report.kind,
                notes: report.notes.clone(),
                base: report.base.clone(),
                without_referrers: report.without_referrers,
            },
            layers: report.layers.iter().map(LayerObject::new).collect(),
            rules: Some(rules(report)),
            findings: FindingList::Write { findings: &report.findings, show_secrets },
            gaps: report.gaps.iter().map(GapObject::new).collect(),
            patches: report.patches.clone(),
            policy: judgement.map(|judgement| judgement.policy.clone()),
            expired: judgement.map(|judgement| judgement.expired.clone()).unwrap_or_default(),
            verdict: judgement.map(|judgement| judgement.verdict),
            stats: StatsObject {
                layers: report.layers.len(),
                files: report.files(),
                bytes: report.bytes(),
                seconds: report.milliseconds.map(|milliseconds| milliseconds as f64 / 1000.0),
            },
        }
    }

    /// Adds the parts that an older version did not write to `missing`.
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

/// The rules of all findings, each once, sorted by id.
fn rules(report: &ImageReport) -> Vec<RuleInfo> {
    let by_id: BTreeMap<&str, &RuleInfo> =
        report.findings.iter().map(|finding| (&finding.rule.id[..], &*finding.rule)).collect();
    by_id.into_values().cloned().collect()
}

impl From<ReportObject<'_>> for ImageReport {
    fn from(object: ReportObject<'_>) -> ImageReport {
        let rules: BTreeMap<String, Arc<RuleInfo>> =
            object.rules.into_iter().flatten().map(|rule| (rule.id.clone(), Arc::new(rule))).collect();
        let (policy, expired) = (object.policy, object.expired);
        let judgement = |verdict| Judgement { verdict, policy: policy.unwrap_or_default(), expired };
        ImageReport {
            target: object.target,
            reference: object.image.reference,
            manifest_digest: object.image.manifest_digest,
            config_digest: object.image.config_digest,
            platform: object.image.platform,
            other_platforms: object.image.other_platforms,
            kind: object.image.kind,
            notes: object.image.notes,
            base: object.image.base,
            without_referrers: object.image.without_referrers,
            tool: Tool {
                version: object.tool.version,
                ruleset: object.tool.ruleset,
                engine: object.tool.engine,
                reader_revision: object.tool.reader_revision,
                fingerprint_key: object.tool.fingerprint_key,
            },
            scanned_at: object.scanned_at,
            milliseconds: object.stats.seconds.map(|seconds| (seconds * 1000.0).round() as u64),
            layers: object.layers.into_iter().map(LayerSummary::from).collect(),
            findings: object.findings.into_objects().into_iter().map(|finding| finding.read(&rules)).collect(),
            gaps: object.gaps.into_iter().map(ImageGap::from).collect(),
            patches: object.patches,
            judgement: object.verdict.map(judgement),
        }
    }
}

impl LayerObject {
    pub(super) fn new(layer: &LayerSummary) -> LayerObject {
        LayerObject {
            index: layer.index,
            digest: layer.digest.clone(),
            diff_id: layer.diff_id.clone(),
            media_type: layer.media_type.clone(),
            created_by: layer.created_by.clone(),
            created_at: layer.created_at,
            files: layer.files,
            bytes: layer.bytes,
            entries: Some(layer.entries),
            stored_bytes: Some(layer.stored_bytes),
            removes: layer.whiteouts.clone(),
            bytes_after_end: layer.bytes_after_end,
            unread: !layer.is_read,
            origin: layer.origin,
            step: layer.step.clone(),
        }
    }
}

impl From<LayerObject> for LayerSummary {
    fn from(object: LayerObject) -> LayerSummary {
        LayerSummary {
            index: object.index,
            digest: object.digest,
            diff_id: object.diff_id,
            media_type: object.media_type,
            created_by: object.created_by,
            created_at: object.created_at,
            is_read: !object.unread,
            entries: object.entries.unwrap_or(object.files),
            files: object.files,
            bytes: object.bytes,
            stored_bytes: object.stored_bytes.unwrap_or(0),
            whiteouts: object.removes,
            bytes_after_end: object.bytes_after_end,
            origin: object.origin,
            step: object.step,
        }
    }
}

impl FindingObject {
    pub(super) fn new(finding: &Finding, show_secrets: bool) -> FindingObject {
        let config = match &finding.location {
            Location::Config(field) => Some(field.clone()),
            Location::File(_) | Location::Document(_) | Location::Image => None,
        };
        let file = finding.file();
        let document = finding.document();
        let inside = file.map(|file| &file.inside).or(document.map(|document| &document.inside));
        let views = file.map(|file| &file.views).or(document.map(|document| &document.views));
        FindingObject {
            id: finding.id.clone(),
            rule: finding.rule.id.clone(),
            title: finding.rule.title.clone(),
            severity: finding.severity,
            confidence: finding.rule.confidence,
            path: file.map(|file| file.path.clone()),
            inside: inside.cloned().unwrap_or_default(),
            views: views.cloned().unwrap_or_default(),
            offset: file.and_then(|file| file.offset),
            line: file.and_then(|file| file.line).or(document.and_then(|document| document.line)),
            column: file.and_then(|file| file.column).or(document.and_then(|document| document.column)),
            config,
            document: document.map(|document| document.document.clone()),
            layer: file.map(|file| file.layer.clone()),
            state: finding.state(),
            ended_by: file.and_then(|file| file.ended_by.clone()),
            secret: finding.secret.as_ref().map(|secret| SecretObject::new(secret, show_secrets)),
            attributes: file.and_then(|file| file.attributes.clone()),
            package: file.and_then(|file| file.package.clone()),
            as_shipped: file.is_some_and(|file| file.as_shipped),
            binary: file.and_then(|file| file.binary.clone()),
            note: finding.note.clone(),
            related: finding.related.clone(),
            allowed: finding.allowed.clone(),
            baseline: finding.baseline,
            origin: finding.origin,
            step: finding.step.clone(),
        }
    }

    /// The finding, with its rule taken from `rules`. Reports of older versions have no rules: the rule is then made
    /// from the fields of the finding.
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
        let location = match (self.path, self.layer, self.document, self.config) {
            (Some(path), Some(layer), _, _) => Location::File(Box::new(FileLocation {
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
                attributes: self.attributes,
            })),
            (_, _, Some(document), _) => Location::Document(Box::new(DocumentLocation {
                document,
                inside: self.inside,
                views: self.views,
                line: self.line,
                column: self.column,
            })),
            (_, _, _, Some(field)) => Location::Config(field),
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
            origin: self.origin,
            step: self.step,
        }
    }
}

impl SecretObject {
    pub(super) fn new(secret: &ReportedSecret, show: bool) -> SecretObject {
        use base64::Engine as _;
        let bytes = secret.value.as_ref().map(Secret::reveal).filter(|_| show);
        let text = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok());
        let binary = bytes.filter(|_| text.is_none());
        SecretObject {
            masked: secret.masked.clone(),
            fingerprint: secret.fingerprint.clone(),
            length: secret.length,
            value: text.map(Into::into),
            value_base64: binary.map(|bytes| base64::engine::general_purpose::STANDARD.encode(bytes)),
        }
    }
}

impl From<SecretObject> for ReportedSecret {
    fn from(object: SecretObject) -> ReportedSecret {
        use base64::Engine as _;
        let binary = |text: String| base64::engine::general_purpose::STANDARD.decode(text).ok();
        let bytes = object.value.map(String::into_bytes).or_else(|| object.value_base64.and_then(binary));
        ReportedSecret {
            value: bytes.map(|bytes| Secret::labelled(bytes, &object.masked[..])),
            masked: object.masked,
            fingerprint: object.fingerprint,
            length: object.length,
        }
    }
}

impl GapObject {
    pub(super) fn new(gap: &ImageGap) -> GapObject {
        GapObject {
            reason: gap.gap.reason,
            path: gap.gap.path.clone(),
            layer: gap.layer,
            bytes: gap.gap.bytes,
            detail: gap.gap.detail.clone(),
            count: (gap.gap.count > 1).then_some(gap.gap.count),
        }
    }
}

impl From<GapObject> for ImageGap {
    fn from(object: GapObject) -> ImageGap {
        let GapObject { reason, path, layer, bytes, detail, count } = object;
        ImageGap { gap: Gap { reason, path, bytes, detail, count: count.unwrap_or(1) }, layer }
    }
}
