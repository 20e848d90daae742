//! Tar archives for tests: well-formed ones, and headers that no writer would write.

use std::io::Write;

use tar::{EntryType, Header};

/// The size of a tar block in bytes.
pub const BLOCK: usize = 512;

/// An archive that grows entry by entry.
#[derive(Clone, Default)]
pub struct Tar(Vec<u8>);

impl Tar {
    pub fn new() -> Tar {
        Tar::default()
    }

    pub fn file(self, path: &str, bytes: impl AsRef<[u8]>) -> Tar {
        let bytes = bytes.as_ref();
        self.entry(header(path, EntryType::Regular, bytes.len() as u64), bytes)
    }

    pub fn directory(self, path: &str) -> Tar {
        self.entry(header(&format!("{}/", path.trim_end_matches('/')), EntryType::Directory, 0), b"")
    }

    pub fn symlink(self, path: &str, target: &str) -> Tar {
        self.link(path, EntryType::Symlink, target)
    }

    pub fn hard_link(self, path: &str, target: &str) -> Tar {
        self.link(path, EntryType::Link, target)
    }

    /// The entry that removes `path` from the layers below.
    pub fn whiteout(self, path: &str) -> Tar {
        let name = match path.rsplit_once('/') {
            Some((parent, name)) => format!("{parent}/.wh.{name}"),
            None => format!(".wh.{path}"),
        };
        self.file(&name, b"")
    }

    /// The entry that removes everything inside `directory` from the layers below.
    pub fn opaque(self, directory: &str) -> Tar {
        self.file(format!("{directory}/.wh..wh..opq").trim_start_matches('/'), b"")
    }

    /// An entry with a header as it is, and data padded to a whole block.
    pub fn entry(self, mut header: Header, data: &[u8]) -> Tar {
        header.set_cksum();
        let mut tar = self.raw(header.as_bytes()).raw(data);
        tar.0.resize(tar.0.len().next_multiple_of(BLOCK), 0);
        tar
    }

    /// Bytes as they are.
    pub fn raw(mut self, bytes: &[u8]) -> Tar {
        self.0.extend_from_slice(bytes);
        self
    }

    /// The archive with its end marker.
    pub fn finish(self) -> Vec<u8> {
        self.raw(&[0; 2 * BLOCK]).0
    }

    /// The archive without an end marker.
    pub fn unfinished(self) -> Vec<u8> {
        self.0
    }

    fn link(self, path: &str, kind: EntryType, target: &str) -> Tar {
        let mut header = header(path, kind, 0);
        header.set_link_name_literal(target).unwrap();
        self.entry(header, b"")
    }
}

/// A header with `path` as it is written, also where it leads out of the archive.
pub fn header(path: &str, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    let name = &mut header.as_old_mut().name;
    assert!(path.len() <= name.len(), "{path} does not fit a header");
    name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
    header
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).unwrap()
}
