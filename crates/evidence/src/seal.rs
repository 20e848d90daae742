//! `seal.json`, which ties the files of a bundle together, and `SHA256SUMS`.

use layersift_model::Digest;
use serde::{Deserialize, Serialize};

use crate::custody::CustodyLog;
use crate::manifest::{Manifest, to_bytes};

/// The files of a bundle that are not artifacts.
pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const SUMS: &str = "SHA256SUMS";
pub(crate) const CUSTODY: &str = "custody.log";
pub(crate) const SEAL: &str = "seal.json";
pub(crate) const SIGNATURE: &str = "seal.sig";
pub(crate) const TIMESTAMP: &str = "seal.tsr";

/// What a signature and a timestamp are made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SealFile {
    schema: u32,
    manifest: Digest,
    sums: Digest,
    custody_entries: u64,
    custody_head: String,
}

impl SealFile {
    /// The seal of what was written.
    pub(crate) fn new(manifest: &[u8], sums: &[u8], custody: &CustodyLog) -> SealFile {
        SealFile {
            schema: 1,
            manifest: Digest::of(manifest),
            sums: Digest::of(sums),
            custody_entries: custody.entries(),
            custody_head: custody.head().into(),
        }
    }

    /// The bytes of the file.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        to_bytes(self)
    }
}

/// The bytes of `SHA256SUMS`.
pub(crate) fn sums(manifest: &Manifest, manifest_bytes: &[u8]) -> Vec<u8> {
    let line = |digest: &Digest, name: &str| format!("{}  {name}\n", digest.hex());
    let mut text = line(&Digest::of(manifest_bytes), MANIFEST);
    for artifact in &manifest.artifacts {
        text.extend(artifact.sha256.as_ref().map(|digest| line(digest, &artifact.file)));
    }
    text.into_bytes()
}
