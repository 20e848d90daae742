//! Blobs: the bytes of a manifest, a configuration or a layer, as a source provides them.

use std::io::{self, Read};

use crate::compression::CompressedBytes;
use crate::map::{MappedFile, Region, RegionReader};

/// The bytes of a blob, not yet verified against a digest.
pub enum Blob<'a> {
    /// Part of a mapped file.
    Mapped(Region<'a>),
    /// A mapped file of its own.
    File(MappedFile),
    /// A stream that can be read once.
    Stream(Box<dyn Read + Send + 'a>),
    /// The same within an archive that is compressed as a whole, or a sparse file: the stream has more bytes than there
    /// are.
    Decompressed(Box<dyn Read + Send + 'a>, CompressedBytes),
}

impl<'a> Blob<'a> {
    /// The part of a mapped file that the bytes are, if they are that.
    pub fn region(&self) -> Option<&Region<'a>> {
        match self {
            Blob::Mapped(region) => Some(region),
            Blob::File(_) | Blob::Stream(_) | Blob::Decompressed(..) => None,
        }
    }

    /// A reader of all bytes.
    pub fn into_reader(self) -> Box<dyn Read + Send + 'a> {
        match self {
            Blob::Mapped(region) => Box::new(RegionReader::new(region)),
            Blob::File(map) => Box::new(map.into_reader()),
            Blob::Stream(stream) | Blob::Decompressed(stream, _) => stream,
        }
    }

    /// Reads all bytes; `None` if there are more than `limit`.
    ///
    /// # Errors
    /// Any error of the reader.
    pub fn read_document(self, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        self.into_reader().take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        Ok((bytes.len() as u64 <= limit).then_some(bytes))
    }
}
