//! The table `[audit]`: the log of decisions, and its copies.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::span::Span;

/// How decisions are logged. Without a directory, they are not.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Audit {
    /// The directory of this instance's log, on a disk that outlives the instance.
    pub directory: Option<PathBuf>,
    /// The file with the key that signs checkpoints; without it, there is one in the directory.
    pub key: Option<PathBuf>,
    /// The name of the log, which no other has. Without it: that of the key, or of the log that is there, or
    /// `layersift/HOSTNAME`.
    pub origin: Option<String>,
    checkpoint_every: Span,
    ship_every: Span,
    retention: Option<Span>,
    /// Whether entries stay, however old they are, until all copies have them.
    pub keep_unshipped: bool,
    /// Whether the store gets a copy.
    pub ship_to_store: bool,
    /// The address of a storage that speaks as S3 does, such as `https://s3.eu-central-1.amazonaws.com`.
    pub s3_endpoint: Option<String>,
    /// Its region.
    pub s3_region: Option<String>,
    /// The bucket, made with object lock, that gets a copy.
    pub s3_bucket: Option<String>,
    /// What goes before the names of the logs in the bucket.
    pub s3_prefix: String,
    s3_retain: Span,
}

impl Default for Audit {
    fn default() -> Audit {
        Audit {
            directory: None,
            key: None,
            origin: None,
            checkpoint_every: Span::of_seconds(60),
            ship_every: Span::of_seconds(300),
            retention: None,
            keep_unshipped: true,
            ship_to_store: false,
            s3_endpoint: None,
            s3_region: None,
            s3_bucket: None,
            s3_prefix: String::new(),
            s3_retain: Span::of_seconds(365 * 86_400),
        }
    }
}

impl Audit {
    /// How often a checkpoint is signed, if there are new entries.
    pub fn checkpoint_every(&self) -> Duration {
        self.checkpoint_every.into()
    }

    /// How often new entries are shipped.
    pub fn ship_every(&self) -> Duration {
        self.ship_every.into()
    }

    /// How long entries are kept; `None` is for ever.
    pub fn retention(&self) -> Option<Duration> {
        self.retention.map(Duration::from)
    }

    /// For how long nobody may remove an object from the bucket.
    pub fn s3_retain(&self) -> Duration {
        self.s3_retain.into()
    }

    /// Whether the values go together.
    pub(super) fn check_together(&self) -> Result<(), String> {
        let Audit { directory, key, origin, retention, ship_to_store, s3_bucket, s3_endpoint, s3_region, .. } = self;
        let needs_log = key.is_some() || origin.is_some() || retention.is_some() || *ship_to_store;
        if directory.is_none() && (needs_log || s3_bucket.is_some()) {
            return Err("`[audit]` needs `audit.directory`: without it, decisions are not logged".into());
        }
        let needs_bucket = s3_endpoint.is_some() || s3_region.is_some() || !self.s3_prefix.is_empty();
        if s3_bucket.is_none() && needs_bucket {
            return Err("`audit.s3-endpoint`, `s3-region` and `s3-prefix` need `audit.s3-bucket`".into());
        }
        if self.s3_prefix.starts_with('/') {
            return Err("`audit.s3-prefix` begins with a slash, which would be a part of its name: leave it out".into());
        }
        Ok(())
    }
}
