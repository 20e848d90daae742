//! Where the new image is put together: an OCI layout in a directory that nobody else can read.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use layersift_format::Cancellation;
use layersift_model::Digest;

use crate::error::ScrubError;

/// A directory with an OCI layout. It is removed when this is dropped.
#[derive(Debug)]
pub struct Staging {
    path: PathBuf,
    cancellation: Cancellation,
}

/// A reader that ends with an error once the image is not wanted any more.
pub(crate) struct Stoppable<R> {
    input: R,
    cancellation: Cancellation,
}

impl<R: Read> Read for Stoppable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancellation.is_cancelled() { Err(io::Error::other("stopped")) } else { self.input.read(buffer) }
    }
}

impl Staging {
    /// A new directory in `parent`.
    ///
    /// # Errors
    /// [`ScrubError::Write`].
    pub fn create(parent: &Path) -> Result<Staging, ScrubError> {
        let process = std::process::id();
        let mut number = 0;
        loop {
            let path = parent.join(format!(".layersift-scrub-{process}-{number}"));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    let staging = Staging { path, cancellation: Cancellation::never() };
                    staging.directory(&staging.path.join("blobs"))?;
                    staging.directory(&staging.path.join("blobs/sha256"))?;
                    return Ok(staging);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(ScrubError::write(path)(error)),
            }
        }
    }

    /// Stops what is done with it, with an error, once `cancellation` is cancelled.
    #[must_use]
    pub fn cancelled_by(mut self, cancellation: &Cancellation) -> Staging {
        self.cancellation = cancellation.clone();
        self
    }

    /// # Errors
    /// [`ScrubError::Stopped`] once it was cancelled.
    pub fn check(&self) -> Result<(), ScrubError> {
        if self.cancellation.is_cancelled() { Err(ScrubError::Stopped) } else { Ok(()) }
    }

    pub(crate) fn reader<R: Read>(&self, input: R) -> Stoppable<R> {
        Stoppable { input, cancellation: self.cancellation.clone() }
    }

    pub(crate) fn cancellation(&self) -> &Cancellation {
        &self.cancellation
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the blob with this digest is.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.path.join("blobs").join(digest.algorithm().name()).join(digest.hex())
    }

    /// Whether there is a blob with this digest.
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.blob(digest).exists()
    }

    /// Writes a blob.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<Digest, ScrubError> {
        let digest = Digest::of(bytes);
        self.write_as(&digest, bytes)?;
        Ok(digest)
    }

    /// Writes the blob with this digest.
    pub(crate) fn write_as(&self, digest: &Digest, bytes: &[u8]) -> Result<(), ScrubError> {
        if self.has(digest) {
            return Ok(());
        }
        let (mut file, path) = self.begin()?;
        file.write_all(bytes).map_err(ScrubError::write(&path))?;
        self.complete(&path, digest)
    }

    /// Begins a blob whose digest is not known yet.
    pub(crate) fn begin(&self) -> Result<(File, PathBuf), ScrubError> {
        let path = self.path.join("blobs/partial");
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path);
        Ok((file.map_err(ScrubError::write(&path))?, path))
    }

    /// Gives a blob that was begun its digest.
    pub(crate) fn complete(&self, path: &Path, digest: &Digest) -> Result<(), ScrubError> {
        let place = self.blob(digest);
        if let Some(parent) = place.parent() {
            self.directory(parent)?;
        }
        fs::rename(path, &place).map_err(ScrubError::write(&place))
    }

    /// Removes what was begun and is not a blob.
    pub(crate) fn remove_partial(&self) -> Result<(), ScrubError> {
        let path = self.path.join("blobs/partial");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ScrubError::write(path)(error)),
            _ => Ok(()),
        }
    }

    /// Removes a blob.
    pub(crate) fn remove(&self, digest: &Digest) -> Result<(), ScrubError> {
        let path = self.blob(digest);
        fs::remove_file(&path).map_err(ScrubError::write(&path))
    }

    /// Writes a file of the layout.
    pub(crate) fn write_file(&self, name: &str, bytes: &[u8]) -> Result<(), ScrubError> {
        let path = self.path.join(name);
        fs::write(&path, bytes).map_err(ScrubError::write(&path))
    }

    fn directory(&self, path: &Path) -> Result<(), ScrubError> {
        fs::create_dir_all(path).map_err(ScrubError::write(path))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot be removed is in a directory that only this user can read.
        let _ = fs::remove_dir_all(&self.path);
    }
}
