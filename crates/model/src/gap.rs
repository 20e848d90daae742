//! Gaps: bytes that were not looked at, and why. A scan with a gap never says "pass".

use serde::{Deserialize, Serialize};

/// Why some bytes were not looked at, or cannot be trusted to be what they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum GapReason {
    /// A blob that the manifest names is not in the image.
    MissingBlob,
    /// A blob's bytes do not have the digest or the size that the manifest names.
    DigestMismatch,
    /// A layer's uncompressed bytes do not have the diff_id that the configuration names.
    DiffIdMismatch,
    /// A compressed stream broke off or is damaged.
    DamagedCompression,
    /// A compression that this version does not read.
    UnsupportedCompression,
    /// A tar archive broke off or has a damaged header.
    DamagedTar,
    /// Bytes behind the end of a layer's tar archive.
    TrailingData,
    /// A layer that is held elsewhere (a foreign or non-distributable layer without its blob).
    ForeignLayer,
    /// A layer's media type says that it is no tar archive.
    NotATar,
    /// A layer inflates to more bytes than the limit.
    LayerTooLarge,
    /// A layer has more entries than the limit.
    TooManyEntries,
    /// A file has more findings of one kind than the limit; the rest were counted out.
    TooManyFindings,
    /// A metadata document (manifest, configuration, package record) is larger than the limit.
    DocumentTooLarge,
    /// A metadata document cannot be read as what it should be.
    DamagedDocument,
    /// What is written in disguise (base64, escapes and so on) is more than the limit.
    TooMuchEncoded,
    /// A file cannot be opened or read.
    Unreadable,
    /// An archive inside a file broke off or is damaged.
    DamagedArchive,
    /// A member of an archive is encrypted.
    EncryptedMember,
    /// An archive inside a file is of a kind that this version does not read.
    UnsupportedArchive,
    /// Archives inside archives, deeper than the limit.
    ArchiveTooDeep,
    /// The archives inside a file hold more members or inflate to more bytes than the limit.
    ArchiveTooLarge,
    /// The deadline of the scan passed.
    DeadlineExceeded,
    /// The scan was cancelled.
    Cancelled,
}

impl GapReason {
    /// Whether the same bytes may be read without this gap at another time: nothing about the layer itself is known from
    /// it, so that a result with such a gap is not kept.
    pub fn is_transient(self) -> bool {
        matches!(self, GapReason::Unreadable | GapReason::DeadlineExceeded | GapReason::Cancelled)
    }

    /// The reason as it is written in reports, such as `digest-mismatch`.
    pub fn name(self) -> &'static str {
        match self {
            GapReason::MissingBlob => "missing-blob",
            GapReason::DigestMismatch => "digest-mismatch",
            GapReason::DiffIdMismatch => "diff-id-mismatch",
            GapReason::DamagedCompression => "damaged-compression",
            GapReason::UnsupportedCompression => "unsupported-compression",
            GapReason::DamagedTar => "damaged-tar",
            GapReason::TrailingData => "trailing-data",
            GapReason::ForeignLayer => "foreign-layer",
            GapReason::NotATar => "not-a-tar",
            GapReason::LayerTooLarge => "layer-too-large",
            GapReason::TooManyEntries => "too-many-entries",
            GapReason::TooManyFindings => "too-many-findings",
            GapReason::DocumentTooLarge => "document-too-large",
            GapReason::DamagedDocument => "damaged-document",
            GapReason::TooMuchEncoded => "too-much-encoded",
            GapReason::Unreadable => "unreadable",
            GapReason::DamagedArchive => "damaged-archive",
            GapReason::EncryptedMember => "encrypted-member",
            GapReason::UnsupportedArchive => "unsupported-archive",
            GapReason::ArchiveTooDeep => "archive-too-deep",
            GapReason::ArchiveTooLarge => "archive-too-large",
            GapReason::DeadlineExceeded => "deadline-exceeded",
            GapReason::Cancelled => "cancelled",
        }
    }
}

/// Bytes that were not looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
    /// The file or blob, where one is known.
    pub path: Option<String>,
    /// How many bytes, where that is known.
    pub bytes: Option<u64>,
    /// What happened, for a person: the underlying error, or the numbers that disagree.
    pub detail: String,
}

impl Gap {
    /// A gap for `reason` with a sentence of detail.
    pub fn new(reason: GapReason, detail: impl Into<String>) -> Gap {
        Gap { reason, path: None, bytes: None, detail: detail.into() }
    }

    /// The same gap, placed at `path`.
    pub fn at(self, path: impl Into<String>) -> Gap {
        Gap { path: Some(path.into()), ..self }
    }

    /// The same gap, with the number of bytes that were left out.
    pub fn sized(self, bytes: u64) -> Gap {
        Gap { bytes: Some(bytes), ..self }
    }
}
