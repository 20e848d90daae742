//! How an image was built: what it is based on, and the instruction that made each of its layers.
//!
//! Most of it is what the author of the image says. [`ImageBase::is_proven`] tells what was compared.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Whether something came with the image that an image is based on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum LayerOrigin {
    /// It is in the base image.
    Base,
    /// The image itself added it.
    Own,
}

/// Where something that is said about a build comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum BuildEvidence {
    /// The reader named it: `--base` or `--dockerfile`.
    Option,
    /// An image with these layers is in the store.
    Store,
    /// The provenance that the builder attached.
    Provenance,
    /// An annotation of the image.
    Annotation,
}

/// The image that an image is based on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ImageBase {
    /// Its name, as it is claimed or was given.
    pub reference: Option<String>,
    /// The digest of its manifest or index.
    pub digest: Option<Digest>,
    /// How many of the image's layers are its layers, from the first on; `None` if that is not known.
    pub layers: Option<usize>,
    /// Where this comes from.
    pub evidence: BuildEvidence,
    /// Whether the layers were compared with those of an image that was read. Otherwise the author of the image says
    /// so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_proven: bool,
}

/// The instruction of a Dockerfile that made a layer, or set a field of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BuildStep {
    /// The name of the Dockerfile.
    pub file: String,
    /// Its first line, from 1.
    pub line: u64,
    /// Its last line.
    pub end_line: u64,
    /// The stage that it is in: its name, or its number from 0.
    pub stage: Option<String>,
    /// What the stage begins from.
    pub base: Option<String>,
    /// Where this comes from.
    pub evidence: BuildEvidence,
}

/// A change of a Dockerfile, or of the `.dockerignore` beside it, that fixes findings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FixPatch {
    /// The ids of the findings.
    pub findings: Vec<String>,
    /// A unified diff without context, secrets masked: a line with a secret has to be found by its number.
    pub diff: String,
}

impl LayerOrigin {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            LayerOrigin::Base => "base",
            LayerOrigin::Own => "own",
        }
    }
}

impl BuildEvidence {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            BuildEvidence::Option => "option",
            BuildEvidence::Store => "store",
            BuildEvidence::Provenance => "provenance",
            BuildEvidence::Annotation => "annotation",
        }
    }
}
