//! Layer reports as a store keeps them: without secrets, in the `postcard` format, compressed.
//!
//! The form is this program's own. A report of another form is no error but one that has to be made anew.

use std::io::Read;

use super::LayerReport;
use crate::secret::FingerprintKey;

/// The form. Whoever changes what a report is made of counts on.
const FORM: u8 = 2;

/// The most that a report may take up, compressed or not.
const MOST_BYTES: u64 = 1 << 30;

/// Fast, and nearly as small as it gets: most of a report are hashes of paths.
const LEVEL: i32 = 3;

/// Why a report cannot be kept, or not be read again.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// It cannot be written.
    #[error("a layer's report cannot be written: {0}")]
    Write(#[from] std::io::Error),
    /// It is not a report, or in no form that this version knows.
    #[error("a layer's report that was kept cannot be read: {0}")]
    Read(String),
}

impl LayerReport {
    /// The report in bytes. Of secrets there is what may be kept; their fingerprints are those under `key`.
    ///
    /// # Errors
    /// [`KeptError::Write`], which only a lack of memory explains.
    pub fn to_kept(&self, key: &FingerprintKey) -> Result<Vec<u8>, KeptError> {
        let mut masked = self.clone();
        for finding in &mut masked.findings {
            finding.secret = finding.secret.as_ref().map(|secret| secret.to_keep(key));
        }
        let bytes = postcard::to_stdvec(&masked).map_err(std::io::Error::other)?;
        let mut kept = vec![FORM];
        kept.extend(zstd::bulk::compress(&bytes, LEVEL)?);
        Ok(kept)
    }

    /// The report that `bytes` are.
    ///
    /// # Errors
    /// [`KeptError::Read`] for bytes that are none.
    pub fn from_kept(bytes: &[u8]) -> Result<LayerReport, KeptError> {
        let unreadable = |reason: String| KeptError::Read(reason);
        let Some((&FORM, compressed)) = bytes.split_first() else {
            return Err(unreadable("it is in the form of another version".into()));
        };
        let decoder = zstd::Decoder::new(compressed).map_err(|error| unreadable(error.to_string()))?;
        let mut bytes = Vec::new();
        decoder.take(MOST_BYTES).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
        postcard::from_bytes(&bytes).map_err(|error| unreadable(error.to_string()))
    }
}
