//! Image sources: the trait that every transport implements. A source lists its images and opens their blobs, without
//! decoding them.

use layersift_model::{Digest, Gap};

use crate::blob::Blob;
use crate::json::JsonString;
use crate::manifest::ImageKind;
use crate::source_error::SourceError;

/// The place of a blob in a source: a path in a directory, an archive or a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location(pub String);

/// An image as a source lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// A manifest or an index.
    Manifest {
        /// The name of the image, if it has one.
        reference: Option<String>,
        /// The place of the manifest or index.
        location: Location,
        /// The digest that its bytes must have, if the source names one.
        digest: Option<Digest>,
        /// The strings with which the source lists it, such as annotations.
        listing: Vec<JsonString>,
    },
    /// An entry of a Docker archive's `manifest.json`.
    DockerArchive {
        /// The name of the image, if it has one.
        reference: Option<String>,
        /// The place of its configuration.
        config: Location,
        /// The places of its layers, base first.
        layers: Vec<Location>,
        /// The strings with which the source lists it, such as its names.
        listing: Vec<JsonString>,
    },
    /// A root file system, without configuration.
    RootFs {
        /// The place of its only layer.
        layer: Location,
    },
    /// Files of an engine's store that are in no image.
    Files(FileSet),
}

/// Files that an engine keeps on a disk besides images: those of a container or a volume, or those of neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSet {
    /// What they are: [`ImageKind::Container`], [`ImageKind::Volume`] or [`ImageKind::Orphan`].
    pub kind: ImageKind,
    /// The name of the container or volume, or the place of the rest.
    pub name: String,
    /// Their layers, base first, each with what it is for people.
    pub layers: Vec<(Location, String)>,
    /// What a reader should know, such as why nothing refers to them.
    pub notes: Vec<String>,
    /// What could not be read of the records about them.
    pub gaps: Vec<Gap>,
    /// Whether a secret in them is reported with them.
    pub standing: Standing,
}

/// With what a secret is reported that several sets of files have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// The set from which others got it.
    Origin,
    /// Any other set.
    #[default]
    Own,
    /// A set that should have the same files as a layer that was read.
    Copy,
}

/// What the bytes of a layer are, compared with the blob that the manifest names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerForm {
    /// The blob.
    Blob,
    /// The uncompressed archive, of which the engine kept the files and the headers.
    Archive,
    /// A new archive of the unpacked files, which has another digest.
    Files,
}

impl Listed {
    /// The name of the image, if it has one.
    pub fn reference(&self) -> Option<String> {
        match self {
            Listed::Manifest { reference, .. } | Listed::DockerArchive { reference, .. } => reference.clone(),
            Listed::RootFs { .. } | Listed::Files(_) => None,
        }
    }
}

/// What refers to a manifest, as a source lists it: signatures, attestations and other artifacts.
#[derive(Clone, Debug, Default)]
pub struct Referrers {
    /// Lists of referrers: pages of a registry's answer, or the index that a tag names.
    pub lists: Vec<ReferrerList>,
    /// Manifests that refer to it by their name in the source, or by what the source knows of them.
    pub manifests: Vec<Digest>,
    /// What could not be asked for, or not be read.
    pub gaps: Vec<Gap>,
    /// What a reader of the report should know besides.
    pub notes: Vec<String>,
}

/// An index of manifests that refer to another manifest.
#[derive(Clone, Debug)]
pub struct ReferrerList {
    /// The index.
    pub bytes: Vec<u8>,
    /// Its digest, if it is stored under one. A registry makes the answer to a request anew each time.
    pub digest: Option<Digest>,
}

/// The result of opening a blob.
pub enum Fetched<'a> {
    /// The blob.
    Blob(Blob<'a>),
    /// The source does not have it.
    Missing,
    /// It was read as a layer while the stream was read, under this name.
    Passed(Location),
}

/// A function that is called for each layer of a stream, with the layer's name in the stream and its bytes.
pub type OnLayer<'l> = dyn FnMut(&Location, Blob<'_>) + 'l;

/// An image that can be read only once, such as on standard input.
pub trait StreamedImage: Send {
    /// Reads the stream to its end and calls `on_layer` for each layer. The source that it returns lists the images and
    /// has their documents.
    ///
    /// # Errors
    /// If the stream is cut off or damaged, or is not an archive.
    fn read(self: Box<Self>, on_layer: &mut OnLayer<'_>) -> Result<Box<dyn ImageSource>, SourceError>;
}

/// An opened target.
pub enum Opened {
    /// A source whose blobs can be opened in any order.
    Source(Box<dyn ImageSource>),
    /// A stream that can be read only once.
    Stream(Box<dyn StreamedImage>),
}

/// A target with images.
pub trait ImageSource: Send + Sync {
    /// The images that the target names.
    ///
    /// # Errors
    /// If the target has none, or its listing is damaged.
    fn list(&self) -> Result<Vec<Listed>, SourceError>;

    /// The place of the blob with the digest `digest`, whether or not it exists.
    fn locate(&self, digest: &Digest) -> Location;

    /// The place of the manifest or index with the digest `digest`. Registries store manifests apart from other blobs.
    fn locate_manifest(&self, digest: &Digest) -> Location {
        self.locate(digest)
    }

    /// What refers to the manifest with the digest `digest`. A target of one image has nothing.
    fn referrers(&self, digest: &Digest) -> Referrers {
        let _ = digest;
        Referrers::default()
    }

    /// Opens a blob.
    ///
    /// # Errors
    /// If it exists and cannot be read.
    fn open(&self, location: &Location) -> Result<Fetched<'_>, SourceError>;

    /// Says that the source does not have a blob or a document; `what` says which.
    fn missing(&self, what: &str) -> String {
        format!("the image does not contain this {what}")
    }

    /// How many blobs may be read at once by threads that mostly wait, as for a network. `None` for a source whose
    /// blobs are read as fast as they are processed.
    fn concurrent_reads(&self) -> Option<usize> {
        None
    }

    /// Whether the target was only guessed to be a root file system, because the user named no transport.
    fn is_guess(&self) -> bool {
        false
    }

    /// Files that could not be read in the blobs so far, besides those that reading the blobs reports.
    fn gaps(&self) -> Vec<Gap> {
        Vec::new()
    }

    /// Files that could not be read in the layer at `location`, which was read.
    fn layer_gaps(&self, _location: &Location) -> Vec<Gap> {
        Vec::new()
    }

    /// The bytes that the documents of the target were decompressed from, all of them together, if it is an archive
    /// that is compressed as a whole.
    fn compressed_documents(&self) -> Option<u64> {
        None
    }

    /// What the bytes of the layer at `location` are.
    fn layer_form(&self, _location: &Location) -> LayerForm {
        LayerForm::Blob
    }

    /// Whether the source is the store of an engine, which never had what it does not need of an image: attestations,
    /// and other platforms.
    fn is_store(&self) -> bool {
        false
    }

    /// What else the target names besides images, after those were read; `None` if it names images only. A target that
    /// names more need not have images, and an image that cannot be read does not hide the others.
    ///
    /// # Errors
    /// If the listing is damaged.
    fn rest(&self) -> Option<Result<Vec<FileSet>, SourceError>> {
        None
    }

    /// Whether [`ImageSource::rest`] will return something.
    fn has_rest(&self) -> bool {
        false
    }
}
