//! The JSON objects of the schema, field by field.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::build::{BuildStep, FixPatch, ImageBase, LayerOrigin};
use crate::digest::Digest;
use crate::finding::{BinaryPlace, DocumentRef, FileAttributes, Finding, LayerRef, Package, State};
use crate::gap::GapReason;
use crate::image_report::ReportKind;
use crate::rule_info::{Confidence, RuleInfo, Severity};
use crate::verdict::{Allowed, AppliedPolicy, ExpiredException, Verdict};

/// The reports of several images.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Reports"))]
pub(super) struct ReportListObject<'r> {
    /// The version of the schema.
    pub(super) schema: u32,
    /// One report for each image.
    pub(super) reports: Vec<ReportObject<'r>>,
    /// Exceptions of the policy that have expired.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) expired: Vec<ExpiredException>,
}

/// Findings that were read, or that are to be written. A report may have a hundred thousand: their objects are made one
/// at a time, as they are written.
pub(super) enum FindingList<'r> {
    Read(Vec<FindingObject>),
    Write { findings: &'r [Finding], show_secrets: bool },
}

impl Serialize for FindingList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            FindingList::Read(objects) => objects.serialize(serializer),
            FindingList::Write { findings, show_secrets } => {
                serializer.collect_seq(findings.iter().map(|finding| FindingObject::new(finding, *show_secrets)))
            }
        }
    }
}

impl<'de> Deserialize<'de> for FindingList<'_> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(FindingList::Read)
    }
}

impl FindingList<'_> {
    /// The objects that were read.
    pub(super) fn into_objects(self) -> Vec<FindingObject> {
        match self {
            FindingList::Read(objects) => objects,
            FindingList::Write { findings, show_secrets } => {
                findings.iter().map(|finding| FindingObject::new(finding, show_secrets)).collect()
            }
        }
    }
}

/// The report of one image.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Report"))]
pub(super) struct ReportObject<'r> {
    /// The version of the schema.
    pub(super) schema: u32,
    /// The program that wrote the report.
    pub(super) tool: ToolObject,
    /// When the scan began, as an RFC 3339 timestamp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub(super) scanned_at: Option<Timestamp>,
    /// The target, as given on the command line.
    pub(super) target: String,
    /// The names of the image.
    pub(super) image: ImageObject,
    /// Its layers, base first.
    pub(super) layers: Vec<LayerObject>,
    /// The rules of the findings.
    #[serde(default)]
    pub(super) rules: Option<Vec<RuleInfo>>,
    /// The findings.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<FindingObject>"))]
    pub(super) findings: FindingList<'r>,
    /// Bytes that were not scanned.
    pub(super) gaps: Vec<GapObject>,
    /// Proposed changes of the Dockerfile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) patches: Vec<FixPatch>,
    /// The policy that the report was judged by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) policy: Option<AppliedPolicy>,
    /// Exceptions of the policy that have expired.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) expired: Vec<ExpiredException>,
    /// The verdict; absent if no policy was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) verdict: Option<Verdict>,
    /// Totals over the image.
    pub(super) stats: StatsObject,
}

#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Tool"))]
pub(super) struct ToolObject {
    /// `layersift`.
    pub(super) name: Cow<'static, str>,
    /// The version of the program.
    pub(super) version: String,
    /// The digest of the rules.
    pub(super) ruleset: String,
    /// The name and version of the pattern engine.
    pub(super) engine: String,
    /// The reader revision: it is raised whenever the program reads more or other parts of images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reader_revision: Option<u32>,
    /// The id of the fingerprint key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) fingerprint_key: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Image"))]
pub(super) struct ImageObject {
    /// The name of the image.
    pub(super) reference: Option<String>,
    /// The digest of its manifest.
    pub(super) manifest_digest: Option<Digest>,
    /// The digest of its configuration.
    pub(super) config_digest: Option<Digest>,
    /// `os/architecture[/variant]`.
    pub(super) platform: Option<String>,
    /// The platforms of its index that were not read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) other_platforms: Vec<String>,
    /// What it is; absent for an image.
    #[serde(default, skip_serializing_if = "is_image")]
    pub(super) kind: ReportKind,
    /// What a reader should know besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) notes: Vec<String>,
    /// The image that it is based on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) base: Option<ImageBase>,
    /// Whether what refers to the image was left out on purpose; absent if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) without_referrers: bool,
}

fn is_image(kind: &ReportKind) -> bool {
    *kind == ReportKind::Image
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Layer"))]
pub(super) struct LayerObject {
    /// Its position, from 0 at the base.
    pub(super) index: usize,
    /// The digest of its blob.
    pub(super) digest: Option<Digest>,
    /// The digest of its uncompressed bytes.
    pub(super) diff_id: Option<Digest>,
    /// The media type that the manifest names.
    pub(super) media_type: Option<String>,
    /// The instruction that created it, secrets masked.
    pub(super) created_by: Option<String>,
    /// When it was created, as the history says, as an RFC 3339 timestamp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub(super) created_at: Option<Timestamp>,
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
    /// The number of bytes after the end of its archive, which were scanned.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) bytes_after_end: u64,
    /// Whether the layer was not read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) unread: bool,
    /// Whether it is one of the base image; absent if that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) origin: Option<LayerOrigin>,
    /// The instruction of a Dockerfile that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) step: Option<BuildStep>,
}

#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Finding"))]
pub(super) struct FindingObject {
    /// The same finding in the same image has the same id, in every packaging: 16 hexadecimal digits.
    pub(super) id: String,
    /// The rule's id.
    pub(super) rule: String,
    /// The rule's title.
    pub(super) title: String,
    /// The severity: that of the rule, or lower.
    pub(super) severity: Severity,
    /// The confidence of the rule.
    pub(super) confidence: Confidence,
    /// The path of the file.
    pub(super) path: Option<String>,
    /// The names of the archive members that contain it, from the file inwards.
    #[serde(default)]
    pub(super) inside: Vec<String>,
    /// The encodings that the secret is written in, the outermost first.
    #[serde(default)]
    pub(super) views: Vec<Cow<'static, str>>,
    /// Offset in bytes from the start of the file or of the innermost archive member.
    pub(super) offset: Option<u64>,
    /// Line, from 1, in text.
    pub(super) line: Option<u64>,
    /// Column in bytes, from 1, in text.
    pub(super) column: Option<u64>,
    /// The field of the configuration, for a finding that is in it.
    pub(super) config: Option<String>,
    /// The document other than the configuration that the finding is in; `line` is that of the text in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) document: Option<DocumentRef>,
    /// The layer that added it.
    pub(super) layer: Option<LayerRef>,
    /// Whether it is still in the final image.
    pub(super) state: State,
    /// The layer that overwrote or deleted it.
    pub(super) ended_by: Option<LayerRef>,
    /// The secret, if the finding is one.
    pub(super) secret: Option<SecretObject>,
    /// What the layer records of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) attributes: Option<Arc<FileAttributes>>,
    /// The package that the file belongs to.
    pub(super) package: Option<Package>,
    /// Whether the file is, byte for byte, the one that the package ships.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) as_shipped: bool,
    /// Section and symbol, in an executable file.
    pub(super) binary: Option<BinaryPlace>,
    /// Details beyond the rule's text.
    pub(super) note: Option<String>,
    /// The ids of the findings that this one combines.
    #[serde(default)]
    pub(super) related: Vec<String>,
    /// The exception of the policy that allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) allowed: Option<Allowed>,
    /// Whether the finding is in the baseline.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) baseline: bool,
    /// Whether it is from the base image; absent if that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) origin: Option<LayerOrigin>,
    /// The instruction of a Dockerfile that brought it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) step: Option<BuildStep>,
}

#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Secret"))]
pub(super) struct SecretObject {
    /// The masked form.
    pub(super) masked: String,
    /// The keyed fingerprint, in 32 hexadecimal digits.
    pub(super) fingerprint: String,
    /// The length in bytes.
    pub(super) length: usize,
    /// The secret, with `--show-secrets`, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<String>,
    /// The secret in base64, with `--show-secrets`, if it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) value_base64: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Gap"))]
pub(super) struct GapObject {
    /// Why they were not scanned.
    pub(super) reason: GapReason,
    /// The file or blob, if known.
    pub(super) path: Option<String>,
    /// The index of the layer, if they are in one.
    pub(super) layer: Option<usize>,
    /// The number of bytes, if known.
    pub(super) bytes: Option<u64>,
    /// What happened, for people.
    pub(super) detail: String,
    /// How many gaps this one stands for, if there were too many to list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) count: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Stats"))]
pub(super) struct StatsObject {
    /// The number of layers.
    pub(super) layers: usize,
    /// Regular files in all layers.
    pub(super) files: u64,
    /// Uncompressed bytes of all layers.
    pub(super) bytes: u64,
    /// The duration of the scan of the whole target, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) seconds: Option<f64>,
}
