//! What this crate needs of a registry, and how it reads and writes attestations there.
//!
//! Other tools write to the same lists at the same time, and no registry makes a write depend on what was read before.
//! See [`attach_bundles`] and [`attach_layers`] for what is done about it.

mod attach;
mod collect;
mod shared_tag;

use std::time::Duration;

use layersift_model::Digest;

use crate::legacy::LegacyError;
use crate::oci::{Descriptor, Document};

pub use attach::{attach_bundles, attach_layers};
pub use collect::{ReadLimits, collect, collect_each, collect_within};

/// A repository of a registry. The caller has the connection, the login, and the limits on what is read.
pub trait Registry {
    /// Why a request failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The manifest or index that a tag or digest names, asked for with every media type that one may have; `None` if
    /// there is none (404).
    ///
    /// # Errors
    /// If the registry gives no answer.
    fn manifest(&self, reference: &str) -> Result<Option<Document>, Self::Error>;

    /// Writes a manifest or index under a tag or digest.
    ///
    /// # Errors
    /// If the registry gives no answer, or one that is not about the content.
    fn put_manifest(&self, reference: &str, manifest: &Document) -> Result<Put, Self::Error>;

    /// Writes a manifest or index under a tag, and gives what the tag named while that was under way, as far as it was
    /// read. Reading it all the time shows what others write in the moment before it is undone.
    ///
    /// # Errors
    /// As [`Registry::put_manifest`].
    fn put_watched(&self, tag: &str, manifest: &Document) -> Result<(Put, Vec<Document>), Self::Error> {
        Ok((self.put_manifest(tag, manifest)?, Vec::new()))
    }

    /// A blob of at most `most` bytes; `None` if there is none, or a larger one.
    ///
    /// # Errors
    /// If the registry gives no answer.
    fn blob(&self, digest: &Digest, most: u64) -> Result<Option<Vec<u8>>, Self::Error>;

    /// Writes a blob.
    ///
    /// # Errors
    /// If it was not written.
    fn put_blob(&self, blob: &Document) -> Result<(), Self::Error>;

    /// All manifests that refer to `subject`, without a filter; `None` if the registry has no such API, which is when
    /// the answer is not 200.
    ///
    /// # Errors
    /// If the registry gives no answer.
    fn referrers(&self, subject: &Digest) -> Result<Option<Vec<Descriptor>>, Self::Error>;

    /// Waits.
    ///
    /// # Errors
    /// If the wait was cancelled.
    fn pause(&self, duration: Duration) -> Result<(), Self::Error>;
}

/// The answer to a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is written.
    Stored,
    /// The registry does not take the content (400, 404 or 422), for example because it names something that was
    /// deleted.
    Refused,
}

/// Where the attestation of an image is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListedIn {
    /// In the registry's own list of referrers.
    Referrers,
    /// In an index under the tag `sha256-<hex>`, because the registry has no such list.
    FallbackTag,
    /// In the `.att` manifest.
    LegacyTag,
}

/// How long to wait for other writers.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The shortest pause.
    pub least: Duration,
    /// The longest. The pauses between are random.
    pub most: Duration,
    /// How many pauses in a row have to show the own entry. Together they have to take longer than other writers need
    /// from a read to the write that follows.
    pub quiet_reads: u32,
    /// How many pauses before giving up.
    pub most_reads: u32,
    /// How long from one read to the next in a pause.
    pub poll: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            least: Duration::from_millis(400),
            most: Duration::from_millis(1600),
            quiet_reads: 4,
            most_reads: 100,
            poll: Duration::from_millis(200),
        }
    }
}

impl Pace {
    /// A random pause.
    fn pause(&self) -> Duration {
        let range = self.most.saturating_sub(self.least);
        self.least + range.mul_f64(fastrand::f64())
    }
}

/// Why an attestation is not attached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError<E: std::error::Error + 'static> {
    /// The registry.
    #[error("the registry failed")]
    Registry(#[source] E),
    /// The registry does not take it.
    #[error("the registry refuses {0}")]
    Refused(String),
    /// It is written, but not listed.
    #[error("the attestations are written, but {0} does not list them")]
    NotListed(String),
    /// The `.att` tag.
    #[error("nothing can be appended to the attestations of the image")]
    Legacy(#[source] LegacyError),
    /// It cannot be written.
    #[error("the index cannot be written")]
    Write(#[source] serde_json::Error),
}

/// The tag under which an index lists what refers to `subject`.
pub fn fallback_tag(subject: &Digest) -> String {
    format!("{}-{}", subject.algorithm().name(), subject.hex())
}

/// The tag of the manifest that has the attestations of `subject` as layers.
pub fn legacy_tag(subject: &Digest) -> String {
    format!("{}.att", fallback_tag(subject))
}
