//! Opening targets: hands a target to its transport, or detects from the file or directory which one reads it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use layersift_format::compression::Codec;
use layersift_format::{Cancellation, EndlessInput, ImageSource, MappedFile, Opened, SourceError, is_endless};
use layersift_model::Limits;
use rustix::fs::SeekFrom;

use crate::docker_archive::{self, DockerArchive};
use crate::oci_layout::{self, OciLayout};
use crate::registry::RegistryOptions;
use crate::rootfs::RootFs;
use crate::skopeo_dir::{self, SkopeoDir};
use crate::stream::{ImageStream, StreamLayout, is_image_member};
use crate::target::Target;
use crate::tree::{ArchiveTree, DirectoryTree};
use crate::waiting::CancellableReader;

/// Opens `target`. `registry` has the options for an image of a registry, whose document and blob sizes are bounded by
/// `limits`; its cancellation ends the reading of standard input, pipes and daemons as well.
///
/// # Errors
/// If the target cannot be read, or is not an image.
pub fn open(target: &Target, limits: &Limits, registry: &RegistryOptions) -> Result<Opened, SourceError> {
    let context = Context { target, limits, registry };
    match target.transport {
        Some(transport) => (transport.open)(&context),
        None => detect(&context),
    }
}

/// The first bytes of an lz4 stream.
const LZ4: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

/// What is wrong with a device that could be read for ever.
const NO_END: &str = "a character device, which has no end";

/// What is wrong with standard input if nothing was piped to it.
const NOT_PIPED: &str = "a terminal, and nothing was piped to it as with `docker save IMAGE | layersift scan -`";

/// What a transport opens a target with.
pub(crate) struct Context<'c> {
    /// The target.
    pub(crate) target: &'c Target,
    /// The limits of the scan.
    pub(crate) limits: &'c Limits,
    /// The options for registries.
    pub(crate) registry: &'c RegistryOptions,
}

/// What is at the path of a target.
pub(crate) enum Input {
    /// A directory.
    Directory(PathBuf),
    /// A file that is not compressed.
    File(PathBuf, MappedFile),
    /// Standard input, a pipe, or a compressed file, and its name in messages.
    Stream(PathBuf, Box<dyn Read + Send>),
}

impl Context<'_> {
    /// What is at the target's path.
    ///
    /// # Errors
    /// For a file that cannot be read, is empty, has no end, or has an unsupported compression.
    pub(crate) fn input(&self) -> Result<Input, SourceError> {
        let Some(path) = &self.target.path else { return standard_input() };
        let failed = |error| SourceError::Read { path: path.clone(), error };
        let metadata = fs::metadata(path).map_err(failed)?;
        if metadata.is_dir() {
            return Ok(Input::Directory(path.clone()));
        }
        if metadata.file_type().is_fifo() {
            return Ok(Input::Stream(path.clone(), Box::new(Pipe::At(path.clone()))));
        }
        if is_endless(&metadata) {
            return Err(not_an_image(path, NO_END));
        }
        if !metadata.is_file() {
            return Ok(Input::Stream(path.clone(), Box::new(File::open(path).map_err(failed)?)));
        }
        if metadata.len() == 0 {
            return Err(not_an_image(path, "the file is empty"));
        }
        let file = File::open(path).map_err(failed)?;
        if is_hole(&file) {
            return Err(not_an_image(path, "a sparse file without data"));
        }
        let map = MappedFile::of(&file).map_err(failed)?;
        match Codec::detect(&map) {
            Codec::Plain if map.starts_with(&LZ4) => Err(not_an_image(path, "lz4 compression is not supported")),
            Codec::Plain => Ok(Input::File(path.clone(), map)),
            Codec::Gzip | Codec::Zstd | Codec::Xz | Codec::Bzip2 => {
                Ok(Input::Stream(path.clone(), Box::new(map.into_reader())))
            }
        }
    }

    /// The directory at the target's path, or an error.
    pub(crate) fn directory(&self) -> Result<PathBuf, SourceError> {
        match self.input()? {
            Input::Directory(path) => Ok(path),
            Input::File(path, _) | Input::Stream(path, _) => {
                Err(not_an_image(&path, "not a directory, which the transport expects"))
            }
        }
    }

    /// The image archive at the target's path: the source that `source` makes of a file, or a stream of `layout`.
    pub(crate) fn archive(
        &self,
        layout: StreamLayout,
        source: impl FnOnce(ArchiveTree) -> Box<dyn ImageSource>,
    ) -> Result<Opened, SourceError> {
        match self.input()? {
            Input::Directory(path) => Err(not_an_image(&path, "a directory, and the transport expects an archive")),
            Input::Stream(path, input) => Ok(self.stream(path, input, layout)),
            Input::File(path, map) => Ok(Opened::Source(source(ArchiveTree::new(&path, map, self.limits)))),
        }
    }

    /// The image in a stream that the target names.
    pub(crate) fn stream(&self, path: PathBuf, input: Box<dyn Read + Send>, layout: StreamLayout) -> Opened {
        self.stream_of(path, input, layout, self.reference())
    }

    /// The image in a stream that is called `reference` there; all images of the stream for `None`.
    pub(crate) fn stream_of(
        &self,
        path: PathBuf,
        input: Box<dyn Read + Send>,
        layout: StreamLayout,
        reference: Option<String>,
    ) -> Opened {
        let input = Box::new(CancellableReader::new(input, self.cancellation()));
        Opened::Stream(Box::new(ImageStream::new(input, layout, reference, path, self.limits.clone())))
    }

    /// The image that the target names among several.
    pub(crate) fn reference(&self) -> Option<String> {
        self.target.reference.clone()
    }

    /// What ends waits early.
    pub(crate) fn cancellation(&self) -> &Cancellation {
        &self.registry.cancellation
    }
}

/// Whether a file has no data at all. To read the zeros of a large one takes hours.
fn is_hole(file: &File) -> bool {
    let first = rustix::fs::seek(file, SeekFrom::Data(0));
    first.is_err_and(|error| error == rustix::io::Errno::NXIO)
}

fn standard_input() -> Result<Input, SourceError> {
    let name = Path::new("standard input");
    match EndlessInput::of_standard_input() {
        Some(EndlessInput::Terminal) => Err(not_an_image(name, NOT_PIPED)),
        Some(EndlessInput::Device) => Err(not_an_image(name, NO_END)),
        None => Ok(Input::Stream(name.into(), Box::new(io::stdin()))),
    }
}

/// A named pipe, opened by the first read: that waits for a writer, perhaps for ever, and reads can be cancelled.
enum Pipe {
    At(PathBuf),
    Open(File),
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self {
                Pipe::At(path) => *self = Pipe::Open(File::open(path)?),
                Pipe::Open(file) => return file.read(buffer),
            }
        }
    }
}

/// The error for a file that is `what`.
pub(crate) fn not_an_image(path: &Path, what: &str) -> SourceError {
    SourceError::NotAnImage { path: path.into(), what: what.into() }
}

/// Opens a target without a transport.
fn detect(context: &Context<'_>) -> Result<Opened, SourceError> {
    match context.input()? {
        Input::Directory(path) => Ok(Opened::Source(detect_directory(&path, context))),
        Input::Stream(path, input) => Ok(context.stream(path, input, StreamLayout::Detect)),
        Input::File(path, map) => detect_archive(&path, map, context).map(Opened::Source),
    }
}

fn detect_directory(path: &Path, context: &Context<'_>) -> Box<dyn ImageSource> {
    let tree = DirectoryTree::new(path);
    if path.join(oci_layout::INDEX).is_file() && path.join("blobs").is_dir() {
        Box::new(OciLayout::new(tree, context.reference(), context.limits.clone()))
    } else if path.join(skopeo_dir::MANIFEST).is_file() && path.join("version").is_file() {
        Box::new(SkopeoDir::new(tree))
    } else {
        Box::new(RootFs::directory(path, true))
    }
}

fn detect_archive(path: &Path, map: MappedFile, context: &Context<'_>) -> Result<Box<dyn ImageSource>, SourceError> {
    let mut tree = ArchiveTree::new(path, map, context.limits);
    let limits = context.limits.clone();
    if tree.has(oci_layout::INDEX) {
        return Ok(Box::new(OciLayout::new(tree, context.reference(), limits).with_docker_listing()));
    }
    if tree.has(docker_archive::MANIFEST) {
        return Ok(Box::new(DockerArchive::new(tree, context.reference(), limits)));
    }
    match (tree.first().map(str::to_string), tree.take_damage()) {
        (None, Some(_)) => Err(not_an_image(path, "not a tar archive")),
        (None, None) => Err(not_an_image(path, "the archive has no entries")),
        (Some(name), Some(damage)) if is_image_member(&name) => Err(damage),
        (Some(name), None) if is_image_member(&name) => {
            Err(not_an_image(path, "it has blobs of an image, but neither manifest.json nor index.json"))
        }
        _ => Ok(Box::new(RootFs::archive(tree.into_map(), true))),
    }
}
