//! Why evidence cannot be written or read.

use std::io;
use std::path::PathBuf;

use layersift_format::tar::EntriesError;

/// Why evidence cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// The bundle is there already.
    #[error("{} exists already, and nothing is written over: name another place for the bundle", path.display())]
    Exists {
        /// Where the bundle was to be.
        path: PathBuf,
    },
    /// A file of the bundle cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the file system.
        #[source]
        source: io::Error,
    },
    /// A file of the bundle cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the file system.
        #[source]
        source: io::Error,
    },
    /// The path is neither a directory nor an archive with a bundle.
    #[error("{} is not a bundle of evidence: {what}", path.display())]
    NotABundle {
        /// The path.
        path: PathBuf,
        /// What is missing or wrong.
        what: String,
    },
    /// A layer cannot be read.
    #[error("layer {layer} cannot be read")]
    Layer {
        /// Its index.
        layer: usize,
        /// What is wrong with its archive.
        #[source]
        source: EntriesError,
    },
    /// The bytes of a layer cannot be read.
    #[error("layer {layer} cannot be read")]
    Blob {
        /// Its index.
        layer: usize,
        /// The error of the reader.
        #[source]
        source: io::Error,
    },
    /// A layer is not the one that the manifest or the configuration names.
    #[error("layer {layer} is not the one that the image names: expected {expected}, found {found}")]
    OtherLayer {
        /// Its index.
        layer: usize,
        /// The digest that the image names.
        expected: String,
        /// The digest of the bytes.
        found: String,
    },
    /// A layer does not have the file.
    #[error("layer {layer} has no file {path}: {why}")]
    NoFile {
        /// Its index.
        layer: usize,
        /// The path.
        path: String,
        /// What there is instead.
        why: String,
    },
    /// A sparse file has more holes than can be written out.
    #[error(
        "layer {layer}: {path} is a sparse file of {size} bytes, most of them holes, which no disk has room for: carve \
         the whole layer with --layer {layer}"
    )]
    Holes {
        /// The index of the layer.
        layer: usize,
        /// The path.
        path: String,
        /// The size of the file with its holes.
        size: u64,
    },
    /// The signature or the timestamp was not made.
    #[error("cannot {what} the bundle")]
    Seal {
        /// `sign` or `timestamp`.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
