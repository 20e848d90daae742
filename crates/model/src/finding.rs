//! Findings: a rule, a location and, once layers are joined into an image, a lifetime across its layers.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::build::{BuildStep, LayerOrigin};
use crate::checksums::FileChecksums;
use crate::digest::Digest;
use crate::path::ImagePath;
use crate::rule_info::{RuleInfo, Severity};
use crate::secret::Secret;
use crate::verdict::Allowed;

/// Where in an executable file an offset lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BinaryPlace {
    /// `elf`, `pe` or `mach-o`.
    pub format: Cow<'static, str>,
    /// The section that holds the offset.
    pub section: Option<String>,
    /// The nearest symbol at or before the offset.
    pub symbol: Option<String>,
    /// Whether the file is a native addon for Node.js.
    pub node_addon: bool,
}

/// The package that a file belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Package {
    /// `npm`, `deb`, `apk` or `pypi`.
    pub ecosystem: Cow<'static, str>,
    /// The package's name.
    pub name: String,
    /// The package's version, where its record names one.
    pub version: Option<String>,
}

/// The location of a finding inside one layer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The file.
    pub path: ImagePath,
    /// The names of the archive members that contain it, from the file inwards.
    pub inside: Vec<String>,
    /// The encodings that the secret is written in, the outermost first, such as `base64`.
    pub views: Vec<Cow<'static, str>>,
    /// Offset in bytes from the start of the file or of the innermost archive member; 0 for the whole file.
    pub offset: u64,
    /// Line, from 1, in text.
    pub line: Option<u64>,
    /// Column in bytes, from 1, in text.
    pub column: Option<u64>,
    /// Section and symbol, in an executable file.
    pub binary: Option<BinaryPlace>,
}

/// What a layer records of a file, besides its name and its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FileAttributes {
    /// The index of its entry in the layer's tar archive, from 0.
    #[serde(default)]
    pub entry: u32,
    /// Its size in bytes.
    pub size: u64,
    /// Its permission bits.
    pub mode: u32,
    /// The numeric id of its owner.
    pub uid: Option<u64>,
    /// The numeric id of its group.
    pub gid: Option<u64>,
    /// When it was modified, as an RFC 3339 timestamp. Who builds an image may set any time.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub modified_at: Option<Timestamp>,
    /// The index of the layer with the entry, if that is not the layer of the finding: a hard link of that layer leads
    /// to the file of a lower one.
    #[serde(default)]
    pub layer: Option<usize>,
}

/// A finding in one layer, before any other layer is taken into account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LayerFinding {
    /// The rule that matched.
    pub rule: Arc<RuleInfo>,
    /// The severity: that of the rule, or lower.
    pub severity: Severity,
    /// Where it is.
    pub place: Place,
    /// The index of its entry in the layer's tar archive, from 0.
    pub entry: u32,
    /// Whether a later entry of the same layer overwrote or deleted it.
    pub superseded: Option<State>,
    /// The secret, if the finding is one.
    pub secret: Option<Secret>,
    /// Details beyond the rule's text, such as a cipher, an issuer or an expiry date.
    pub note: Option<String>,
    /// The checksums of the whole file, to be compared with those its package records; `None` for large files.
    pub checksums: Option<Arc<FileChecksums>>,
    /// What the entry of the file records; `None` for bytes outside of all entries.
    pub attributes: Option<Arc<FileAttributes>>,
}

/// Whether a finding is still in the final image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is in the final image.
    Present,
    /// A later layer, or a later entry of the same layer, replaced the file.
    Overwritten,
    /// A later layer removed the file; the layer that holds it can still be pulled.
    Deleted,
}

impl State {
    /// All states, the most visible first.
    pub const ALL: [State; 3] = [State::Present, State::Overwritten, State::Deleted];

    /// The name of the state in reports.
    pub fn name(self) -> &'static str {
        match self {
            State::Present => "present",
            State::Overwritten => "overwritten",
            State::Deleted => "deleted",
        }
    }
}

/// A reference from a finding to a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LayerRef {
    /// Its position in the image, from 0 at the base.
    pub index: usize,
    /// The digest of its blob.
    pub digest: Option<Digest>,
    /// The digest of its uncompressed bytes.
    pub diff_id: Option<Digest>,
    /// The history instruction that created it, secrets masked.
    pub created_by: Option<String>,
}

/// The file that a finding is in, and its lifetime across the layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLocation {
    /// The path of the file, as [`ImagePath`] prints it.
    pub path: String,
    /// The names of the archive members that contain it, from the file inwards.
    pub inside: Vec<String>,
    /// The encodings that the secret is written in, the outermost first, such as `base64`.
    pub views: Vec<Cow<'static, str>>,
    /// Offset in bytes from the start of the file or of the innermost archive member; `None` for the whole file.
    pub offset: Option<u64>,
    /// Line, from 1, in text.
    pub line: Option<u64>,
    /// Column in bytes, from 1, in text.
    pub column: Option<u64>,
    /// Section and symbol, in an executable file.
    pub binary: Option<BinaryPlace>,
    /// The layer that added it.
    pub layer: LayerRef,
    /// Whether it is still in the final image.
    pub state: State,
    /// The layer that overwrote or deleted it.
    pub ended_by: Option<LayerRef>,
    /// The package that the file belongs to.
    pub package: Option<Package>,
    /// Whether the file is, byte for byte, the one that the package ships.
    pub as_shipped: bool,
    /// What the layer records of the file.
    pub attributes: Option<Arc<FileAttributes>>,
}

impl FileLocation {
    /// The path followed by the archive members, joined by `separator`.
    pub fn full_path(&self, separator: &str) -> String {
        self.inside.iter().fold(self.path.clone(), |path, member| path + separator + member)
    }

    /// The index of the layer with the entry that [`FileAttributes::entry`] counts: a lower one for a hard link to a
    /// file of that layer.
    pub fn layer_of_entry(&self) -> usize {
        self.attributes.as_ref().and_then(|attributes| attributes.layer).unwrap_or(self.layer.index)
    }
}

/// A document of an image other than its configuration: a manifest, an index, or a document that one of them names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DocumentRef {
    /// `index`, `manifest`, `provenance`, `sbom`, `attestation`, `signature`, `referrer` (the manifest of a signature
    /// or another artifact that refers to the image), `referrers` (a list of them), `configuration` or `blob`.
    pub kind: Cow<'static, str>,
    /// Its digest; `None` for the listing of a layout, which has none.
    pub digest: Option<Digest>,
    /// The digest of the manifest that names it, if it belongs to an artifact that refers to the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub referrer: Option<Digest>,
    /// Its media type, if it has one.
    pub media_type: Option<String>,
    /// The path of the value in JSON, such as `predicate.metadata.source`, or `payload → predicate.metadata.source` for
    /// a statement in an envelope; `None` for a document that is not JSON.
    pub json_path: Option<String>,
}

/// The document that a finding is in, and the place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentLocation {
    /// The document, and the path of the value that holds the secret.
    pub document: DocumentRef,
    /// The names of the archive members that contain it, if the document is not JSON.
    pub inside: Vec<String>,
    /// The encodings that the secret is written in, the outermost first, such as `base64`.
    pub views: Vec<Cow<'static, str>>,
    /// Line, from 1, in the text that the value holds, such as a Dockerfile, or in a document that is not JSON.
    pub line: Option<u64>,
    /// Column in bytes, from 1.
    pub column: Option<u64>,
}

/// Where a finding of an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In a document of the image other than its configuration.
    Document(Box<DocumentLocation>),
    /// In a file of a layer.
    File(Box<FileLocation>),
    /// In the image's configuration, such as `Env[1]` or `ExposedPorts.9229/tcp`.
    Config(String),
    /// In the image as a whole: a combination of several findings.
    Image,
}

/// A secret in a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedSecret {
    /// The masked form; see [`Secret::masked`].
    pub masked: String,
    /// The keyed fingerprint, in 32 hexadecimal digits.
    pub fingerprint: String,
    /// The length in bytes.
    pub length: usize,
    /// The secret itself. It is written only on request, and is `None` in a report that was read back without it.
    pub value: Option<Secret>,
}

/// A finding of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// 16 hexadecimal digits that identify the finding in the image, however the image is packaged.
    pub id: String,
    /// The rule that matched.
    pub rule: Arc<RuleInfo>,
    /// The severity: that of the rule, or lower, for example for a file that is unchanged from its package.
    pub severity: Severity,
    /// Where it is.
    pub location: Location,
    /// The secret, if the finding is one.
    pub secret: Option<ReportedSecret>,
    /// Details beyond the rule's text.
    pub note: Option<String>,
    /// The ids of the findings that this one combines.
    pub related: Vec<String>,
    /// The exception of the policy that allows it.
    pub allowed: Option<Allowed>,
    /// Whether the finding is in the baseline.
    pub baseline: bool,
    /// Whether it is from the base image; `None` if that is not known.
    pub origin: Option<LayerOrigin>,
    /// The instruction that brought it.
    pub step: Option<BuildStep>,
}

impl Finding {
    /// Whether a container started from the image would see the finding, in its files or its configuration.
    pub fn is_present(&self) -> bool {
        self.state() == State::Present
    }

    /// Whether the finding is still in the final image; always present for findings outside files.
    pub fn state(&self) -> State {
        self.file().map_or(State::Present, |file| file.state)
    }

    /// The file that the finding is in.
    pub fn file(&self) -> Option<&FileLocation> {
        match &self.location {
            Location::File(file) => Some(file),
            Location::Document(_) | Location::Config(_) | Location::Image => None,
        }
    }

    /// The document that the finding is in.
    pub fn document(&self) -> Option<&DocumentLocation> {
        if let Location::Document(document) = &self.location { Some(document) } else { None }
    }

    /// The keyed fingerprint of the secret.
    pub fn fingerprint(&self) -> Option<&str> {
        self.secret.as_ref().map(|secret| &secret.fingerprint[..])
    }

    /// Whether the finding counts for the verdict.
    pub fn counts(&self) -> bool {
        self.allowed.is_none() && !self.baseline
    }

    /// The identity that survives a rebuild of the image.
    pub fn identity(&self) -> Option<FindingIdentity> {
        let (path, inside) = match &self.location {
            Location::File(file) => (Some(file.path.clone()), file.inside.clone()),
            Location::Document(_) | Location::Config(_) if self.secret.is_some() => (None, Vec::new()),
            Location::Document(_) | Location::Config(_) | Location::Image => return None,
        };
        let fingerprint = self.fingerprint().map(Into::into);
        Some(FindingIdentity { rule: self.rule.id.clone(), fingerprint, path, inside })
    }
}

/// The identity of a finding across rebuilds of its image: rule, fingerprint, path and archive members. A secret in the
/// configuration or in a document has no path, because history entries and build steps move.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FindingIdentity {
    /// The rule's id.
    pub rule: String,
    /// The secret's fingerprint.
    pub fingerprint: Option<String>,
    /// The path of the file.
    pub path: Option<String>,
    /// The names of the archive members that contain it.
    pub inside: Vec<String>,
}
