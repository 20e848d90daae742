//! The stored form of layer reports: without secrets, in the `postcard` format, compressed with Zstandard.
//!
//! Only this program reads the form. A report in another version of the form is not an error: its layer is scanned
//! again.

use std::io::Read;

use super::LayerReport;
use crate::secret::FingerprintKey;

/// The version of the form. Any change to the fields of a report raises it.
const FORM_VERSION: u8 = 8;

/// The maximum size of a decompressed report, in bytes: what it says of its entries and findings has 96 MiB.
const MAX_BYTES: u64 = 128 << 20;

/// The Zstandard level. Higher levels gain little: most of a report are hashes of paths, which do not compress.
const LEVEL: i32 = 3;

/// Why a layer report cannot be encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// It cannot be encoded.
    #[error("cannot encode a layer report: {0}")]
    Write(#[from] std::io::Error),
    /// The bytes are not a report in the form of this version.
    #[error("cannot decode a stored layer report: {0}")]
    Read(String),
}

impl LayerReport {
    /// Encodes the report, with its secrets [redacted](crate::Secret::redacted) under `key`.
    ///
    /// # Errors
    /// [`KeptError::Write`], if memory runs out.
    pub fn to_kept(&self, key: &FingerprintKey) -> Result<Vec<u8>, KeptError> {
        let mut masked = self.clone();
        for finding in &mut masked.findings {
            finding.secret = finding.secret.as_ref().map(|secret| secret.redacted(key));
        }
        let bytes = postcard::to_stdvec(&masked).map_err(std::io::Error::other)?;
        let mut kept = vec![FORM_VERSION];
        kept.extend(zstd::bulk::compress(&bytes, LEVEL)?);
        Ok(kept)
    }

    /// Decodes a report.
    ///
    /// # Errors
    /// [`KeptError::Read`] for bytes that [`LayerReport::to_kept`] of this version did not write.
    pub fn from_kept(bytes: &[u8]) -> Result<LayerReport, KeptError> {
        let unreadable = |reason: String| KeptError::Read(reason);
        let Some((&FORM_VERSION, compressed)) = bytes.split_first() else {
            return Err(unreadable("another version of the program wrote it".into()));
        };
        let decoder = zstd::Decoder::new(compressed).map_err(|error| unreadable(error.to_string()))?;
        let mut bytes = Vec::new();
        decoder.take(MAX_BYTES).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
        postcard::from_bytes(&bytes).map_err(|error| unreadable(error.to_string()))
    }
}
