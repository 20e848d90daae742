//! The objects of the schema, field by field.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::finding::{BinaryPlace, LayerRef, Package, State};
use crate::gap::GapReason;
use crate::rule_info::{Confidence, RuleInfo, Severity};
use crate::verdict::{Allowed, AppliedPolicy, ExpiredException, Verdict};

/// The reports of several images.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Reports"))]
pub(super) struct Many {
    /// The version of the schema.
    pub(super) schema: u32,
    /// One report for each image.
    pub(super) reports: Vec<ReportLine>,
    /// Exceptions of the policy that have expired.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) expired: Vec<ExpiredException>,
}

/// The report of one image.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Report"))]
pub(super) struct ReportLine {
    /// The version of the schema.
    pub(super) schema: u32,
    /// What made the report.
    pub(super) tool: ToolLine,
    /// When the scan began, in RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub(super) scanned_at: Option<Timestamp>,
    /// The target as it was written.
    pub(super) target: String,
    /// What the image is called.
    pub(super) image: ImageLine,
    /// Its layers, base first.
    pub(super) layers: Vec<LayerLine>,
    /// The rules that the findings name.
    #[serde(default)]
    pub(super) rules: Option<Vec<RuleInfo>>,
    /// What was found.
    pub(super) findings: Vec<FindingLine>,
    /// What was not read.
    pub(super) gaps: Vec<GapLine>,
    /// The policy that the report was judged by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) policy: Option<AppliedPolicy>,
    /// Exceptions of the policy that have expired.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) expired: Vec<ExpiredException>,
    /// The verdict; absent from a report that was not judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) verdict: Option<Verdict>,
    /// Sums over the image.
    pub(super) stats: StatsLine,
}

#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Tool"))]
pub(super) struct ToolLine {
    /// `layersift`.
    pub(super) name: Cow<'static, str>,
    /// The version of the program.
    pub(super) version: String,
    /// The digest of the rules.
    pub(super) ruleset: String,
    /// The name and version of the pattern engine.
    pub(super) engine: String,
    /// The revision of what is read of an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reader_revision: Option<u32>,
    /// The id of the key that secrets were fingerprinted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) fingerprint_key: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Image"))]
pub(super) struct ImageLine {
    /// The name that the image goes by.
    pub(super) reference: Option<String>,
    /// The digest of its manifest.
    pub(super) manifest_digest: Option<Digest>,
    /// The digest of its configuration.
    pub(super) config_digest: Option<Digest>,
    /// `os/architecture[/variant]`.
    pub(super) platform: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Layer"))]
pub(super) struct LayerLine {
    /// Its position, from 0 at the base.
    pub(super) index: usize,
    /// The digest of its blob.
    pub(super) digest: Option<Digest>,
    /// The digest of its uncompressed bytes.
    pub(super) diff_id: Option<Digest>,
    /// The media type that the manifest names.
    pub(super) media_type: Option<String>,
    /// The instruction that made it, secrets masked.
    pub(super) created_by: Option<String>,
    /// Regular files in it.
    pub(super) files: u64,
    /// Its uncompressed size in bytes.
    pub(super) bytes: u64,
    /// Entries of any kind in it.
    #[serde(default)]
    pub(super) entries: Option<u64>,
    /// Its stored size in bytes.
    #[serde(default)]
    pub(super) stored_bytes: Option<u64>,
    /// Paths that it removes from the layers below; an opaque directory ends in `/`.
    #[serde(default)]
    pub(super) removes: Vec<String>,
    /// Whether the layer was not read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) unread: bool,
}

#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Finding"))]
pub(super) struct FindingLine {
    /// The same finding in the same image has the same id, in every packaging: 16 hexadecimal digits.
    pub(super) id: String,
    /// The rule's id.
    pub(super) rule: String,
    /// The rule's title.
    pub(super) title: String,
    /// How bad the finding is: the rule's severity, or less.
    pub(super) severity: Severity,
    /// How sure the finding is.
    pub(super) confidence: Confidence,
    /// The path of the file.
    pub(super) path: Option<String>,
    /// The archive members that lead to it, from the file inwards.
    #[serde(default)]
    pub(super) inside: Vec<String>,
    /// The encodings that the secret is written in, the outermost first.
    #[serde(default)]
    pub(super) views: Vec<Cow<'static, str>>,
    /// Offset in bytes from the start of the file, or of the innermost archive member.
    pub(super) offset: Option<u64>,
    /// Line, from 1, in text.
    pub(super) line: Option<u64>,
    /// Column in bytes, from 1, in text.
    pub(super) column: Option<u64>,
    /// The field of the configuration, for a finding that is not in a file.
    pub(super) config: Option<String>,
    /// The layer that brought it.
    pub(super) layer: Option<LayerRef>,
    /// Whether it is still in the final image.
    pub(super) state: State,
    /// The layer that overwrote or deleted it.
    pub(super) ended_by: Option<LayerRef>,
    /// The secret, where the finding is one.
    pub(super) secret: Option<SecretLine>,
    /// The package that the file belongs to.
    pub(super) package: Option<Package>,
    /// Whether the file is, byte for byte, the one that the package ships.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) as_shipped: bool,
    /// Section and symbol, in an executable file.
    pub(super) binary: Option<BinaryPlace>,
    /// What a reader should know beyond the rule.
    pub(super) note: Option<String>,
    /// The ids of the findings that this one is made of.
    #[serde(default)]
    pub(super) related: Vec<String>,
    /// The exception of the policy that allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) allowed: Option<Allowed>,
    /// Whether the baseline has it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) baseline: bool,
}

#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Secret"))]
pub(super) struct SecretLine {
    /// What may be shown of it.
    pub(super) masked: String,
    /// The keyed fingerprint, in 32 hexadecimal digits.
    pub(super) fingerprint: String,
    /// The length in bytes.
    pub(super) length: usize,
    /// The secret, with `--show-secrets`, where it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<String>,
    /// The secret in base64, with `--show-secrets`, where it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) value_base64: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Gap"))]
pub(super) struct GapLine {
    /// Why.
    pub(super) reason: GapReason,
    /// The file or blob.
    pub(super) path: Option<String>,
    /// The layer.
    pub(super) layer: Option<usize>,
    /// How many bytes, where that is known.
    pub(super) bytes: Option<u64>,
    /// What happened, for a person.
    pub(super) detail: String,
}

#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Stats"))]
pub(super) struct StatsLine {
    /// How many layers.
    pub(super) layers: usize,
    /// Regular files in all layers.
    pub(super) files: u64,
    /// Uncompressed bytes of all layers.
    pub(super) bytes: u64,
    /// How long the scan of the whole target took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) seconds: Option<f64>,
}
