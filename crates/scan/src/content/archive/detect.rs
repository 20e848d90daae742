//! Detects archives by their first bytes. It checks more than short magic numbers, because a false positive would be a
//! gap.
//!
//! Sources: those in the file of each format; for formats that are only recognized: "7zFormat.txt" of the LZMA SDK,
//! "RAR 5.0 archive format" of RARLAB, Linux' "Squashfs 4.0 Filesystem".

use layersift_format::tar::{BLOCK, Parser};
use layersift_model::{Gap, GapReason, Limits};

use super::ar::Ar;
use super::asar::Asar;
use super::bytes::{le16, le32};
use super::cpio::{self, Cpio};
use super::git::{self, GitBlob};
use super::git_pack::{self, GitPack};
use super::level::{Format, MemberSink, Progress};
use super::lz4::Lz4;
use super::rpm::Rpm;
use super::stream::{Codec, Stream};
use super::tar::Tar;
use super::zip::{self, Zip};
use super::{asar, flate, lz4, rpm, xz};

/// Whether a head begins an archive of a certain format.
type Check = fn(&[u8]) -> bool;

/// The format of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tar,
    Zip,
    Ar,
    Cpio,
    Rpm,
    Asar,
    Lz4,
    GitBlob,
    GitPack,
    Compressed(Codec),
    /// Recognized, but not supported.
    Unsupported(&'static str),
}

impl Kind {
    /// Detects the format of a file that begins with `head`, which has `HEAD_BYTES` bytes or is the whole file.
    pub(super) fn detect(head: &[u8]) -> Option<Kind> {
        match head {
            [0x1f, 0x8b, 8, flags, ..] if flags & 0xe0 == 0 && head.len() > 10 => {
                return Some(Kind::Compressed(Codec::Gzip));
            }
            [b'B', b'Z', b'h', b'1'..=b'9', block @ ..] if is_bzip2_block(block) => {
                return Some(Kind::Compressed(Codec::Bzip2));
            }
            [0xfd, b'7', b'z', b'X', b'Z', 0, 0, _, ..] => return Some(Kind::Compressed(Codec::Xz)),
            [0x28, 0xb5, 0x2f, 0xfd, descriptor, ..] if descriptor & 8 == 0 => {
                return Some(Kind::Compressed(Codec::Zstd));
            }
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => return Some(skippable(head)),
            [b'!', b'<', b'a', b'r', b'c', b'h', b'>', b'\n', ..] => return Some(Kind::Ar),
            [b'7', b'z', 0xbc, 0xaf, 0x27, 0x1c, 0, ..] => return Some(Kind::Unsupported("7z")),
            [b'R', b'a', b'r', b'!', 0x1a, 7, 0 | 1, ..] => return Some(Kind::Unsupported("RAR")),
            [b'h', b's', b'q', b's', ..] if le16(head, 28) == Some(4) && le16(head, 30) == Some(0) => {
                return Some(Kind::Unsupported("squashfs"));
            }
            _ => {}
        }
        let checks: [(Check, Kind); 10] = [
            (zip::is_zip, Kind::Zip),
            (lz4::is_lz4, Kind::Lz4),
            (cpio::is_cpio, Kind::Cpio),
            (rpm::is_rpm, Kind::Rpm),
            (asar::is_asar, Kind::Asar),
            (is_tar, Kind::Tar),
            (git::is_blob, Kind::GitBlob),
            (git_pack::is_pack, Kind::GitPack),
            (flate::is_zlib, Kind::Compressed(Codec::Zlib)),
            (xz::is_lzma, Kind::Compressed(Codec::Lzma)),
        ];
        checks.iter().find(|(check, _)| check(head)).map(|(_, kind)| *kind)
    }

    /// The work of detecting the format, beyond that of any file.
    pub(super) fn detection_work(head: &[u8]) -> u64 {
        match head {
            head if xz::may_be_lzma(head) => Codec::Lzma.start_work(),
            head if flate::may_be_zlib(head) => flate::ZLIB_TRIAL,
            _ => 0,
        }
    }

    /// A reader for this format.
    pub(super) fn open(self, limits: &Limits) -> Box<dyn Format> {
        match self {
            Kind::Tar => Box::new(Tar::new(limits.tar_extension_bytes)),
            Kind::Zip => Box::new(Zip::new()),
            Kind::Ar => Box::new(Ar::new(limits.tar_extension_bytes)),
            Kind::Cpio => Box::new(Cpio::new()),
            Kind::Rpm => Box::new(Rpm::new()),
            Kind::Asar => Box::new(Asar::new(limits.document_bytes)),
            Kind::Lz4 => Box::new(Lz4::new()),
            Kind::GitBlob => Box::new(GitBlob::default()),
            Kind::GitPack => Box::new(GitPack::new()),
            Kind::Compressed(codec) => Box::new(Stream::new(codec)),
            Kind::Unsupported(name) => Box::new(Unsupported(name)),
        }
    }
}

/// The first block of a bzip2 stream, or the end of an empty one: the digits of pi and of its square root.
fn is_bzip2_block(block: &[u8]) -> bool {
    block.starts_with(&[0x31, 0x41, 0x59, 0x26, 0x53, 0x59]) || block.starts_with(&[0x17, 0x72, 0x45, 0x38, 0x50, 0x90])
}

/// Zstandard and lz4 have the same skippable frames. The first data frame decides, if `head` reaches it.
fn skippable(head: &[u8]) -> Kind {
    let mut rest = head;
    while let ([0x50..=0x5f, 0x2a, 0x4d, 0x18, ..], Some(size)) = (rest, le32(rest, 4)) {
        let next = usize::try_from(size).ok().and_then(|size| rest.get(8..)?.get(size..));
        rest = next.unwrap_or_default();
    }
    if lz4::is_lz4(rest) { Kind::Lz4 } else { Kind::Compressed(Codec::Zstd) }
}

/// Whether `head` begins with a tar header, by its checksum, which no other data match by accident.
fn is_tar(head: &[u8]) -> bool {
    let Some(block) = head.first_chunk::<BLOCK>() else { return false };
    // A name comes first in every dialect; a block of zeros has no checksum.
    block[0] != 0 && Parser::new(u64::MAX).block(block).is_ok()
}

/// An unsupported archive, whose raw bytes become an unnamed member.
struct Unsupported(&'static str);

impl Unsupported {
    fn gap(&self) -> Gap {
        Gap::new(
            GapReason::UnsupportedArchive,
            format!("{} archives are not supported; only the raw bytes were scanned", self.0),
        )
    }
}

impl Format for Unsupported {
    fn push(&mut self, _: &mut &[u8], _: &mut MemberSink<'_, '_>) -> Result<Progress, Gap> {
        Err(self.gap())
    }

    fn finish(&mut self, _: &[u8], _: &mut MemberSink<'_, '_>) -> Result<(), Gap> {
        Err(self.gap())
    }
}
