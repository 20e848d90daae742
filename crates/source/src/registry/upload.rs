//! Writing large blobs to a registry, piece by piece.
//!
//! Source: OCI distribution-spec v1.1, "Pushing a blob in chunks". A piece is in memory, and each request has the time
//! limit of any other.

use std::io::{self, Read};

use reqwest::Url;
use reqwest::header::{CONTENT_RANGE, HeaderMap, HeaderValue};

use super::auth::Scope;
use super::client::Registry;
use super::error::RegistryError;
use super::http::Message;
use super::push::BLOB;
use layersift_format::compression::read_full;
use layersift_model::Digest;

/// The bytes of a piece. Some registries refuse pieces of fewer than 5 MiB.
const PIECE: usize = 16 << 20;

/// Why a blob was not written.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The registry did not take it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// It cannot be read here.
    #[error("cannot read the blob {digest}")]
    Read {
        /// Its digest.
        digest: Digest,
        /// The error of the reader.
        #[source]
        source: io::Error,
    },
}

impl Registry {
    /// Writes the blob with this digest, whose bytes `input` has, unless the repository has it already.
    ///
    /// # Errors
    /// If the registry does not take it, or it cannot be read.
    pub fn upload_blob(&self, repository: &str, digest: &Digest, mut input: impl Read) -> Result<(), UploadError> {
        if self.serves_blob(repository, digest)? {
            return Ok(());
        }
        let failed = |source| UploadError::Read { digest: digest.clone(), source };
        let mut piece = vec![0; PIECE];
        let mut length = read_full(&mut input, &mut piece).map_err(failed)?;
        let mut upload = self.begin_upload(repository)?;
        let mut at = 0;
        while length == PIECE {
            upload = self.append(repository, &upload, at, &piece)?;
            at += length as u64;
            length = read_full(&mut input, &mut piece).map_err(failed)?;
        }
        if at > 0 && length > 0 {
            upload = self.append(repository, &upload, at, &piece[..length])?;
            length = 0;
        }
        self.finish_upload(repository, &upload, digest, &piece[..length])?;
        Ok(())
    }

    /// Adds a piece, which begins at byte `at`, to an upload. Gives where the next one goes.
    fn append(&self, repository: &str, upload: &Url, at: u64, piece: &[u8]) -> Result<Url, RegistryError> {
        let mut headers = HeaderMap::new();
        let range = format!("{at}-{}", at + piece.len() as u64 - 1);
        headers.extend(HeaderValue::from_str(&range).ok().map(|range| (CONTENT_RANGE, range)));
        let scope = Scope::Push(repository.into());
        let answer = self.write(upload, &scope, BLOB, headers, || Message::Patch(piece.to_vec()), &[202])?;
        self.upload_url(upload, &answer)
    }
}
