//! Where copies of a log go.

use std::fs;
use std::path::{Path, PathBuf};

use crate::files;

/// Why a copy could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// There is another object of that name. It is never overwritten.
    #[error("{place} has another object of that name")]
    Differs {
        /// Where.
        place: String,
    },
    /// The place answered, and refused.
    #[error("{place} answered {status}: {answer}")]
    Refused {
        /// Where.
        place: String,
        /// The status of HTTP.
        status: u16,
        /// The beginning of what it said.
        answer: String,
    },
    /// Settings that cannot be used.
    #[error("{0}")]
    Settings(String),
    /// It could not be reached, or the file system refused.
    #[error("cannot reach {place}")]
    Unreachable {
        /// Where.
        place: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A place that keeps copies of files of a log.
pub trait Sink {
    /// What it is called. What was shipped is noted by this name, so another place has another one.
    fn place(&self) -> String;

    /// Whether it has these bytes under that name.
    ///
    /// # Errors
    /// If it has others, or does not say.
    fn has(&mut self, name: &str, bytes: &[u8]) -> Result<bool, SinkError>;

    /// Keeps these bytes under that name.
    ///
    /// # Errors
    /// If it is not certain that it has them.
    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), SinkError>;
}

/// Copies into a directory.
#[derive(Debug)]
pub struct DirectorySink {
    directory: PathBuf,
}

impl DirectorySink {
    /// Copies into `directory`, which is made.
    pub fn new(directory: &Path) -> DirectorySink {
        DirectorySink { directory: directory.into() }
    }

    fn unreachable<E: std::error::Error + Send + Sync + 'static>(&self) -> impl FnOnce(E) -> SinkError {
        let place = self.place();
        move |error| SinkError::Unreachable { place, source: Box::new(error) }
    }
}

impl Sink for DirectorySink {
    fn place(&self) -> String {
        self.directory.display().to_string()
    }

    fn has(&mut self, name: &str, bytes: &[u8]) -> Result<bool, SinkError> {
        match fs::read(self.directory.join(name)) {
            Ok(found) if found == bytes => Ok(true),
            Ok(_) => Err(SinkError::Differs { place: self.place() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.unreachable()(error)),
        }
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), SinkError> {
        files::make_directory(&self.directory).map_err(self.unreachable())?;
        files::replace(&self.directory.join(name), bytes).map_err(self.unreachable())
    }
}
