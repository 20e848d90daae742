//! Findings: what was confirmed, where, and, once layers are joined into an image, with what lifetime.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

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
    /// Whether the file is a module for Node.js.
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

/// Where in a file of a layer something was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The file.
    pub path: ImagePath,
    /// The archive members that lead to it, from the file inwards.
    pub inside: Vec<String>,
    /// The encodings that the secret is written in, the outermost first, such as `base64`.
    pub views: Vec<Cow<'static, str>>,
    /// Offset in bytes from the start of the file, or of the innermost archive member; 0 for the file as a whole.
    pub offset: u64,
    /// Line, from 1, in text.
    pub line: Option<u64>,
    /// Column in bytes, from 1, in text.
    pub column: Option<u64>,
    /// Section and symbol, in an executable file.
    pub binary: Option<BinaryPlace>,
}

/// What was found in the files of one layer, without knowledge of any other layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LayerFinding {
    /// What was looked for.
    pub rule: Arc<RuleInfo>,
    /// How bad it is: the rule's severity, or less.
    pub severity: Severity,
    /// Where it is.
    pub place: Place,
    /// The entry of the layer that it is in, as the number of entries before that one.
    pub entry: u32,
    /// What a later entry of the same layer did to it.
    pub superseded: Option<State>,
    /// The secret itself, where the finding is one.
    pub secret: Option<Secret>,
    /// What a reader should know beyond the rule: a cipher, an issuer, an expiry.
    pub note: Option<String>,
    /// The checksums of the whole file, to compare with those of its package; `None` for large files.
    pub checksums: Option<Arc<FileChecksums>>,
}

/// Whether a finding is still in the final image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is in the final image.
    Present,
    /// A later layer, or a later entry of the same layer, put something else in its place.
    Overwritten,
    /// A later layer removed it; its layer can still be pulled.
    Deleted,
}

impl State {
    /// All states, the most visible first.
    pub const ALL: [State; 3] = [State::Present, State::Overwritten, State::Deleted];

    /// The state as it is written in reports.
    pub fn name(self) -> &'static str {
        match self {
            State::Present => "present",
            State::Overwritten => "overwritten",
            State::Deleted => "deleted",
        }
    }
}

/// A layer as findings name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LayerRef {
    /// Its position in the image, from 0 at the base.
    pub index: usize,
    /// The digest of its blob.
    pub digest: Option<Digest>,
    /// The digest of its uncompressed bytes.
    pub diff_id: Option<Digest>,
    /// The history instruction that made it, secrets masked.
    pub created_by: Option<String>,
}

/// Where in the files of an image a finding is, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLocation {
    /// The path of the file, as [`ImagePath`] prints it.
    pub path: String,
    /// The archive members that lead to it, from the file inwards.
    pub inside: Vec<String>,
    /// The encodings that the secret is written in, the outermost first, such as `base64`.
    pub views: Vec<Cow<'static, str>>,
    /// Offset in bytes from the start of the file, or of the innermost archive member; `None` for the file as a whole.
    pub offset: Option<u64>,
    /// Line, from 1, in text.
    pub line: Option<u64>,
    /// Column in bytes, from 1, in text.
    pub column: Option<u64>,
    /// Section and symbol, in an executable file.
    pub binary: Option<BinaryPlace>,
    /// The layer that brought it.
    pub layer: LayerRef,
    /// Whether it is still there.
    pub state: State,
    /// The layer that overwrote or deleted it.
    pub ended_by: Option<LayerRef>,
    /// The package that the file belongs to.
    pub package: Option<Package>,
    /// Whether the file is, byte for byte, the one that the package ships.
    pub as_shipped: bool,
}

impl FileLocation {
    /// The path and the archive members after it, each set apart by `separator`.
    pub fn full_path(&self, separator: &str) -> String {
        self.inside.iter().fold(self.path.clone(), |path, member| path + separator + member)
    }
}

/// Where a finding of an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In a file of a layer.
    File(Box<FileLocation>),
    /// In the image's configuration, such as `Env[1]` or `ExposedPorts.9229/tcp`.
    Config(String),
    /// In the combination of several findings.
    Image,
}

/// A secret as a report has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedSecret {
    /// What may be shown; see [`Secret::masked`].
    pub masked: String,
    /// The keyed fingerprint, in 32 hexadecimal digits.
    pub fingerprint: String,
    /// The length in bytes.
    pub length: usize,
    /// The secret itself. It is written into a report only on request, and absent from one that was read back.
    pub value: Option<Secret>,
}

/// A finding of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The same finding in the same image has the same id, in every packaging: 16 hexadecimal digits.
    pub id: String,
    /// What was looked for.
    pub rule: Arc<RuleInfo>,
    /// How bad it is: the rule's severity, or less, such as for a file that is as its package ships it.
    pub severity: Severity,
    /// Where it is.
    pub location: Location,
    /// The secret, where the finding is one.
    pub secret: Option<ReportedSecret>,
    /// What a reader should know beyond the rule.
    pub note: Option<String>,
    /// The ids of the findings that this one is made of.
    pub related: Vec<String>,
    /// The exception of the policy that allows it.
    pub allowed: Option<Allowed>,
    /// Whether the baseline has it.
    pub baseline: bool,
}

impl Finding {
    /// Whether the finding is in the image that a container would see, in its files or its configuration.
    pub fn is_present(&self) -> bool {
        self.state() == State::Present
    }

    /// Whether the finding is still in the final image. Findings outside of files always are.
    pub fn state(&self) -> State {
        self.file().map_or(State::Present, |file| file.state)
    }

    /// The file that the finding is in.
    pub fn file(&self) -> Option<&FileLocation> {
        match &self.location {
            Location::File(file) => Some(file),
            Location::Config(_) | Location::Image => None,
        }
    }

    /// The keyed fingerprint of the secret.
    pub fn fingerprint(&self) -> Option<&str> {
        self.secret.as_ref().map(|secret| &secret.fingerprint[..])
    }

    /// Whether the finding counts for the verdict.
    pub fn counts(&self) -> bool {
        self.allowed.is_none() && !self.baseline
    }

    /// What stays the same when the image is built again.
    pub fn identity(&self) -> Option<FindingIdentity> {
        let (path, inside) = match &self.location {
            Location::File(file) => (Some(file.path.clone()), file.inside.clone()),
            Location::Config(_) if self.secret.is_some() => (None, Vec::new()),
            Location::Config(_) | Location::Image => return None,
        };
        let fingerprint = self.fingerprint().map(Into::into);
        Some(FindingIdentity { rule: self.rule.id.clone(), fingerprint, path, inside })
    }
}

/// What stays the same of a finding when its image is built again: rule, fingerprint, path and archive members. A secret
/// in the configuration has no path, because the history moves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FindingIdentity {
    /// The rule's id.
    pub rule: String,
    /// The secret's fingerprint.
    pub fingerprint: Option<String>,
    /// The path of the file.
    pub path: Option<String>,
    /// The archive members that lead to it.
    pub inside: Vec<String>,
}
