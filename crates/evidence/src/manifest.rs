//! `manifest.json`: what a bundle has, and where it is from. The form changes only by addition.
//!
//! Fields of the case follow ISO/IEC 27037:2012, section 6.1 and annex A: identifiers, who acquired what, how and when.

use std::io::{self, Write};

use jiff::Timestamp;
use layersift_model::{Digest, FileAttributes, json_output};
use serde::{Deserialize, Serialize};

/// The version of the form.
pub(crate) const SCHEMA: u32 = 1;

/// What a bundle has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the form.
    pub schema: u32,
    /// The case.
    pub case: Case,
    /// The program that carved.
    pub tool: ToolIdentity,
    /// The command line, without logins.
    pub command: Vec<String>,
    /// When the reading began, in UTC.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The image.
    pub source: Source,
    /// The layers that were read, each to its end.
    pub layers: Vec<LayerIdentity>,
    /// The artifacts, in the order of their numbers.
    pub artifacts: Vec<Artifact>,
    /// What was wanted and is not in the bundle.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// The key that signs the seal: the SHA-256 of its public half as SubjectPublicKeyInfo, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
    /// Whether a time stamp authority stamps the seal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub timestamped: bool,
}

/// The case that evidence belongs to, as its operator names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The case.
    pub case_id: Option<String>,
    /// The item of evidence.
    pub evidence_id: Option<String>,
    /// Who acquires it.
    pub operator: Option<String>,
    /// How it is acquired.
    pub method: Option<String>,
}

/// The program and its rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolIdentity {
    /// `layersift`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The digest of the rules.
    pub ruleset: String,
    /// The reader revision.
    pub reader_revision: Option<u32>,
    /// The id of the fingerprint key.
    pub fingerprint_key: Option<String>,
}

/// The image that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The target, as it was given.
    pub target: String,
    /// The name of the image.
    pub reference: Option<String>,
    /// The digest of its manifest.
    pub manifest_digest: Option<Digest>,
    /// The digest of its configuration.
    pub config_digest: Option<Digest>,
    /// `os/architecture[/variant]`.
    pub platform: Option<String>,
}

/// A layer, and the digests of what was read of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerIdentity {
    /// Its position, from 0 at the base.
    pub index: usize,
    /// The digest of its blob.
    pub digest: Option<Digest>,
    /// The digest of its uncompressed bytes.
    pub diff_id: Option<Digest>,
    /// The size of its blob in bytes.
    pub stored_bytes: u64,
    /// The size of its uncompressed bytes.
    pub bytes: u64,
    /// The instruction that created it, secrets masked.
    pub created_by: Option<String>,
    /// When it was created, as the history says.
    pub created_at: Option<Timestamp>,
}

/// What an artifact is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArtifactKind {
    /// A file of a layer, with its holes as zeros.
    #[default]
    File,
    /// A whole layer as it is stored: the bytes asked for are in no file of it.
    Layer,
    /// A document of the image, such as its configuration.
    Document,
}

/// A file of the bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// Its name in the bundle.
    pub file: String,
    /// What it is.
    pub kind: ArtifactKind,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest.
    pub sha256: Option<Digest>,
    /// Its path in the layer, as reports print it; or what the document is.
    pub path: String,
    /// The path as it is stored, in hexadecimal digits.
    pub path_bytes: String,
    /// The index of its layer.
    pub layer: Option<usize>,
    /// The digest of the document.
    pub digest: Option<Digest>,
    /// The offset of its data in the uncompressed layer.
    pub offset_in_layer: Option<u64>,
    /// What the layer records of it.
    pub attributes: Option<FileAttributes>,
    /// The findings that it is evidence of.
    pub findings: Vec<FoundIn>,
}

/// A file that was wanted and was not written, because there was no room for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    /// Its path in the layer, as reports print it; or what the document is.
    pub path: String,
    /// The path as it is stored, in hexadecimal digits.
    pub path_bytes: String,
    /// The index of its layer.
    pub layer: Option<usize>,
    /// Its size in bytes, if that is known.
    pub size: Option<u64>,
    /// The ids of the findings in it.
    pub findings: Vec<String>,
    /// What it exceeds.
    pub why: String,
}

impl LeftOut {
    /// What the log calls it.
    pub(crate) fn subject(&self) -> String {
        match self.layer {
            Some(layer) if self.path.is_empty() => format!("layer {layer}"),
            Some(layer) => format!("layer {layer}: {}", self.path),
            None => self.path.clone(),
        }
    }
}

/// A finding in an artifact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoundIn {
    /// Its id in the report.
    pub id: String,
    /// The rule's id.
    pub rule: String,
    /// The severity.
    pub severity: String,
    /// The masked form of the secret.
    pub masked: Option<String>,
    /// The keyed fingerprint of the secret.
    pub fingerprint: Option<String>,
    /// The members of archives that lead to it.
    pub inside: Vec<String>,
    /// The encodings that it is written in, the outermost first.
    pub views: Vec<String>,
    /// The line, from 1.
    pub line: Option<u64>,
    /// Whether a container of the image sees the file: `present`, `overwritten` or `deleted`.
    pub state: String,
    /// The index of the layer that overwrote or deleted it.
    pub ended_by: Option<usize>,
    /// The bytes of the secret; `None` where it is in a member of an archive, encoded, or no secret.
    pub range: Option<Range>,
}

/// Bytes of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The offset of the first byte.
    pub offset: u64,
    /// How many there are.
    pub length: u64,
    /// Their digest.
    pub sha256: Digest,
}

impl Manifest {
    /// The bytes of `manifest.json`.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        to_bytes(self)
    }

    /// Whether `bytes` are those of `manifest.json`. Older bundles do not escape characters that change how
    /// text is displayed.
    pub(crate) fn is_written_as(&self, bytes: &[u8]) -> bool {
        let Some(text) = bytes.strip_suffix(b"\n") else { return false };
        let (mut escaped, mut plain) = (Expected(text), Expected(text));
        let is_escaped = json_output::write_pretty(&mut escaped, self).is_ok() && escaped.0.is_empty();
        is_escaped || serde_json::to_writer_pretty(&mut plain, self).is_ok() && plain.0.is_empty()
    }
}

/// Takes the bytes that are expected and no others. What is written need not be kept to be compared.
struct Expected<'b>(&'b [u8]);

impl Write for Expected<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.strip_prefix(bytes).ok_or_else(|| io::Error::other("another byte"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The one form of a JSON file of a bundle: indented, with a line feed at the end.
pub(crate) fn to_bytes<T: Serialize>(value: &T) -> Vec<u8> {
    // Maps with keys that are no strings would fail, and there are none.
    let mut bytes = Vec::new();
    // Nor can writing to memory fail.
    let _ = json_output::write_pretty(&mut bytes, value);
    bytes.push(b'\n');
    bytes
}
