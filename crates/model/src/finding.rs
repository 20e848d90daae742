//! Findings: what was confirmed, where, and, once layers are joined into an image, with what lifetime.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::path::ImagePath;
use crate::rule_info::RuleInfo;
use crate::secret::Secret;
use crate::shipped::Content;

/// Where in an executable file an offset lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BinaryPlace {
    /// `elf`, `pe` or `mach-o`.
    pub format: Cow<'static, str>,
    /// The section, where one holds the offset.
    pub section: Option<String>,
    /// The nearest symbol at or before the offset.
    pub symbol: Option<String>,
    /// Whether the file is a module for Node.js.
    pub node_addon: bool,
}

/// The package that a file belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// `npm`, `deb`, `apk` or `pypi`.
    pub ecosystem: Cow<'static, str>,
    /// The package's name.
    pub name: String,
    /// The package's version, where its record names one.
    pub version: Option<String>,
}

/// Where in a file something was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The file.
    pub path: ImagePath,
    /// The archive members that lead to it, from the file inwards.
    pub inside: Vec<String>,
    /// The disguises that the secret is written in there, the outermost first, such as `base64`.
    pub views: Vec<Cow<'static, str>>,
    /// Offset in bytes from the start of the file (or of the innermost archive member).
    pub offset: u64,
    /// Line, from 1, in text.
    pub line: Option<u64>,
    /// Column in bytes, from 1, in text.
    pub column: Option<u64>,
    /// Section and symbol, in an executable file.
    pub binary: Option<BinaryPlace>,
}

/// What was found in the files of one layer, without knowing of any other layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LayerFinding {
    /// What was looked for.
    pub rule: Arc<RuleInfo>,
    /// Where it is.
    pub place: Place,
    /// Which entry of the layer it is in, as the number of entries before that one.
    pub entry: u32,
    /// What a later entry of the same layer did to it.
    pub superseded: Option<State>,
    /// The secret itself, where the finding is one.
    pub secret: Option<Secret>,
    /// Anything a reader should know beyond the rule: a cipher, an issuer, an expiry.
    pub note: Option<String>,
    /// What the whole file is, to be held against what its package says; `None` for large files.
    pub content: Option<Arc<Content>>,
}

/// Whether what a finding shows is still in the final image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerRef {
    /// Its place in the image, from 0 at the base.
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
    /// Where in the file.
    pub place: Place,
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

/// Where a finding of an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In a file of a layer.
    File(Box<FileLocation>),
    /// In the image's configuration, such as `Env[1]` or `ExposedPorts.9229/tcp`.
    Config(String),
    /// In how several findings come together.
    Image,
}

/// A finding of an image.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The same finding in the same image has the same id, however it is packed: 16 hexadecimal digits.
    pub id: String,
    /// What was looked for.
    pub rule: Arc<RuleInfo>,
    /// Where it is.
    pub location: Location,
    /// The secret, where the finding is one.
    pub secret: Option<Secret>,
    /// The secret's keyed fingerprint.
    pub fingerprint: Option<String>,
    /// Anything a reader should know beyond the rule.
    pub note: Option<String>,
    /// The ids of the findings that this one is made of.
    pub related: Vec<String>,
}

impl Finding {
    /// Whether the finding is in the image that a container would see, in its files or its configuration.
    pub fn is_present(&self) -> bool {
        match &self.location {
            Location::File(file) => file.state == State::Present,
            Location::Config(_) | Location::Image => true,
        }
    }
}
