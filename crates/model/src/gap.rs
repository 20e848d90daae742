//! Gaps: bytes that were not scanned, and why. An image with a gap never passes.

use serde::{Deserialize, Serialize};

/// Why some bytes were not scanned, or are not the bytes that the manifest names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum GapReason {
    /// The image lacks a blob that its manifest names.
    MissingBlob,
    /// A blob's bytes do not have the digest or the size that the manifest names.
    DigestMismatch,
    /// A layer's uncompressed bytes do not have the diff_id that the configuration names.
    DiffIdMismatch,
    /// A compressed stream is truncated or damaged.
    DamagedCompression,
    /// A compression format that this version does not support.
    UnsupportedCompression,
    /// A tar archive is truncated or has a damaged header.
    DamagedTar,
    /// There are bytes after the end of an image archive.
    TrailingData,
    /// Readers of an archive or a document differ, so a runtime may see other files or fields.
    AmbiguousArchive,
    /// A foreign (non-distributable) layer: the image has its URL, but not its blob.
    ForeignLayer,
    /// A layer's media type is not that of a tar archive.
    NotATar,
    /// A layer decompresses to more bytes than the limit.
    LayerTooLarge,
    /// A layer has more entries than the limit.
    TooManyEntries,
    /// A file has more findings of one rule than the limit; the rest were dropped.
    TooManyFindings,
    /// A metadata document (manifest, configuration, package record) is larger than the limit.
    DocumentTooLarge,
    /// A metadata document cannot be parsed.
    DamagedDocument,
    /// Encoded data (base64, escapes and so on) exceeds the decoding limit.
    TooMuchEncoded,
    /// A file cannot be opened or read.
    Unreadable,
    /// An archive inside a file is truncated or damaged.
    DamagedArchive,
    /// An archive member is encrypted.
    EncryptedMember,
    /// An archive inside a file has a format that this version does not support.
    UnsupportedArchive,
    /// Archives are nested deeper than the limit.
    ArchiveTooDeep,
    /// The archives inside a file hold more members or decompress to more bytes than the limit.
    ArchiveTooLarge,
    /// An image has more referrers, more bytes in them, or deeper ones, than the limits.
    TooManyReferrers,
    /// The deadline of the scan expired.
    DeadlineExceeded,
    /// The scan was cancelled.
    Cancelled,
}

impl GapReason {
    /// Whether another scan of the same bytes may not have this gap. Such a gap tells nothing about the layer itself,
    /// so results that contain one are not stored.
    pub fn is_transient(self) -> bool {
        matches!(self, GapReason::Unreadable | GapReason::DeadlineExceeded | GapReason::Cancelled)
    }

    /// Whether bytes are not of the format that they were taken for.
    pub fn is_damage(self) -> bool {
        use GapReason::{DamagedArchive, DamagedCompression, DamagedDocument, DamagedTar, TrailingData};
        matches!(self, DamagedArchive | DamagedCompression | DamagedDocument | DamagedTar | TrailingData)
    }

    /// The name of the reason in reports, such as `digest-mismatch`.
    pub fn name(self) -> &'static str {
        match self {
            GapReason::MissingBlob => "missing-blob",
            GapReason::DigestMismatch => "digest-mismatch",
            GapReason::DiffIdMismatch => "diff-id-mismatch",
            GapReason::DamagedCompression => "damaged-compression",
            GapReason::UnsupportedCompression => "unsupported-compression",
            GapReason::DamagedTar => "damaged-tar",
            GapReason::TrailingData => "trailing-data",
            GapReason::AmbiguousArchive => "ambiguous-archive",
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
            GapReason::TooManyReferrers => "too-many-referrers",
            GapReason::DeadlineExceeded => "deadline-exceeded",
            GapReason::Cancelled => "cancelled",
        }
    }
}

/// Bytes that were not scanned.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
    /// The file or blob, if known.
    pub path: Option<String>,
    /// The number of bytes, if known.
    pub bytes: Option<u64>,
    /// What happened, for people: the underlying error, or the values that differ.
    pub detail: String,
    /// How many gaps this one stands for: more than 1 if there were too many to list.
    pub count: u64,
}

impl Gap {
    /// A gap for `reason`, described by `detail`.
    pub fn new(reason: GapReason, detail: impl Into<String>) -> Gap {
        Gap { reason, path: None, bytes: None, detail: detail.into(), count: 1 }
    }

    /// The gap that stands for `count` more of the same reason, which are not listed.
    pub fn unlisted(reason: GapReason, count: u64) -> Gap {
        let s = if count == 1 { "" } else { "s" };
        Gap { count, ..Gap::new(reason, format!("{count} more gap{s} of this kind, which the report does not list")) }
    }

    /// Sets the path of the gap.
    pub fn at(self, path: impl Into<String>) -> Gap {
        Gap { path: Some(path.into()), ..self }
    }

    /// Sets the number of bytes that were not scanned.
    pub fn sized(self, bytes: u64) -> Gap {
        Gap { bytes: Some(bytes), ..self }
    }
}
