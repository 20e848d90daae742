//! How a layer is compressed, in ways that a decoder may read differently.
//!
//! Sources: RFC 1952, section 2.3; RFC 8878, section 3.1.

use super::draft::Draft;
use super::entry::{BLOCK, Entry};
use crate::support::image::{LAYER, Layer};
use crate::support::tar::{gzip, zstd};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

/// The layer `tar` as a blob.
pub fn stored(draft: &mut Draft, tar: &[u8], compression: Compression, is_mutated: bool) -> Layer {
    match compression {
        Compression::None => Layer::plain(tar.to_vec()),
        Compression::Gzip if is_mutated => gzip_mutated(draft, tar),
        Compression::Gzip => Layer::stored(tar, gzip(tar), "+gzip"),
        Compression::Zstd if is_mutated => zstd_mutated(draft, tar),
        Compression::Zstd => Layer::stored(tar, zstd(tar), "+zstd"),
    }
}

/// A media type, and others that a layer of the same bytes may have.
pub fn media_type(draft: &mut Draft, right: &str) -> String {
    let plain = LAYER.to_string();
    let docker = "application/vnd.docker.image.rootfs";
    let types = [
        ("right", right.to_string()),
        ("OCI tar", plain.clone()),
        ("OCI gzip", format!("{plain}+gzip")),
        ("OCI zstd", format!("{plain}+zstd")),
        ("OCI bzip2", format!("{plain}+bzip2")),
        ("OCI nondistributable", "application/vnd.oci.image.layer.nondistributable.v1.tar".into()),
        ("OCI encrypted", format!("{plain}+encrypted")),
        ("docker gzip", format!("{docker}.diff.tar.gzip")),
        ("docker tar", format!("{docker}.diff.tar")),
        ("docker zstd", format!("{docker}.diff.tar.zstd")),
        ("docker foreign", format!("{docker}.foreign.diff.tar.gzip")),
        ("empty", String::new()),
        ("upper case", plain.to_uppercase()),
        ("with a parameter", format!("{plain}; x=y")),
        ("artifact", "application/vnd.example.config.v1+json".into()),
        ("octets", "application/octet-stream".into()),
    ];
    draft.mutate("layer media type", &types).clone()
}

fn gzip_mutated(draft: &mut Draft, tar: &[u8]) -> Layer {
    let whole = gzip(tar);
    let half = tar.len() / 2 / BLOCK * BLOCK;
    let (first, second) = (gzip(&tar[..half]), gzip(&tar[half..]));
    let hidden = [Entry::file("app/member", draft.line("member after the end")).bytes(), vec![0; 2 * BLOCK]].concat();
    let (content, blob) = draft
        .mutate(
            "gzip",
            &[
                ("one member", (tar.to_vec(), whole.clone())),
                ("two members", (tar.to_vec(), [&first[..], &second].concat())),
                ("two members, the diff_id of the first", (tar[..half].to_vec(), [&first[..], &second].concat())),
                ("an empty member first", (tar.to_vec(), [gzip(b""), whole.clone()].concat())),
                ("an empty member last", (tar.to_vec(), [whole.clone(), gzip(b"")].concat())),
                ("NUL after", (tar.to_vec(), [&whole[..], &[0; 100]].concat())),
                ("NUL between members", (tar.to_vec(), [&first[..], &[0; 8], &second].concat())),
                ("garbage after", (tar.to_vec(), [&whole[..], b"garbage"].concat())),
                ("a token after", (tar.to_vec(), [whole.clone(), draft_line(&hidden)].concat())),
                ("an archive in a member after", ([tar, &hidden].concat(), [whole.clone(), gzip(&hidden)].concat())),
                ("an archive in a member, not in the diff_id", (tar.to_vec(), [whole.clone(), gzip(&hidden)].concat())),
                ("Zstandard after", ([tar, &hidden].concat(), [whole.clone(), zstd(&hidden)].concat())),
                ("extra field", (tar.to_vec(), with_fields(&whole, 4, b"\x04\0AB\0\0"))),
                ("file name", (tar.to_vec(), with_fields(&whole, 8, b"layer.tar\0"))),
                ("comment", (tar.to_vec(), with_fields(&whole, 16, b"a comment\0"))),
                ("header CRC", (tar.to_vec(), with_fields(&whole, 2, &header_crc(&whole)))),
                ("wrong header CRC", (tar.to_vec(), with_fields(&whole, 2, b"\x12\x34"))),
                ("text flag", (tar.to_vec(), with_fields(&whole, 1, b""))),
                ("reserved flag", (tar.to_vec(), with_fields(&whole, 0x20, b""))),
                ("wrong CRC", (tar.to_vec(), flipped(&whole, 8))),
                ("wrong length", (tar.to_vec(), flipped(&whole, 1))),
                ("no trailer", (tar.to_vec(), whole[..whole.len() - 8].to_vec())),
                ("half a trailer", (tar.to_vec(), whole[..whole.len() - 4].to_vec())),
                ("compressed twice", (tar.to_vec(), gzip(&whole))),
                ("compressed twice, diff_id of the inner", (whole.clone(), gzip(&whole))),
                ("other method", (tar.to_vec(), with_byte(&whole, 2, 7))),
            ],
        )
        .clone();
    Layer::stored(&content, blob, "+gzip")
}

fn draft_line(entry: &[u8]) -> Vec<u8> {
    entry[BLOCK..2 * BLOCK].to_vec()
}

/// A member with another flag and the fields that it stands for.
fn with_fields(member: &[u8], flag: u8, fields: &[u8]) -> Vec<u8> {
    [&member[..3], &[flag], &member[4..10], fields, &member[10..]].concat()
}

/// The lower half of the CRC of a header that has the flag for it.
fn header_crc(member: &[u8]) -> [u8; 2] {
    let header = [&member[..3], &[2], &member[4..10]].concat();
    let crc = crc32fast::hash(&header).to_le_bytes();
    [crc[0], crc[1]]
}

fn with_byte(bytes: &[u8], at: usize, byte: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] = byte;
    bytes
}

/// Changes the byte so far from the end.
fn flipped(bytes: &[u8], from_end: usize) -> Vec<u8> {
    let at = bytes.len() - from_end;
    with_byte(bytes, at, bytes[at] ^ 1)
}

fn zstd_mutated(draft: &mut Draft, tar: &[u8]) -> Layer {
    let whole = zstd(tar);
    let half = tar.len() / 2 / BLOCK * BLOCK;
    let (first, second) = (zstd(&tar[..half]), zstd(&tar[half..]));
    let skippable = |data: &[u8]| [b"\x50\x2a\x4d\x18", &(data.len() as u32).to_le_bytes()[..], data].concat();
    let line = draft.line("skippable frame");
    let hidden = [Entry::file("app/frame", draft.line("frame after the end")).bytes(), vec![0; 2 * BLOCK]].concat();
    let (content, blob) = draft
        .mutate(
            "Zstandard",
            &[
                ("one frame", (tar.to_vec(), whole.clone())),
                ("two frames", (tar.to_vec(), [&first[..], &second].concat())),
                ("two frames, the diff_id of the first", (tar[..half].to_vec(), [&first[..], &second].concat())),
                ("a skippable frame first", (tar.to_vec(), [skippable(&line), whole.clone()].concat())),
                ("a skippable frame last", (tar.to_vec(), [whole.clone(), skippable(&line)].concat())),
                (
                    "a skippable frame between",
                    (tar.to_vec(), [first.clone(), skippable(&line), second.clone()].concat()),
                ),
                ("an empty skippable frame first", (tar.to_vec(), [skippable(b""), whole.clone()].concat())),
                ("a skippable frame that breaks off", {
                    (tar.to_vec(), [whole.clone(), skippable(&line)[..20].to_vec()].concat())
                }),
                ("an empty frame first", (tar.to_vec(), [zstd(b""), whole.clone()].concat())),
                ("an archive in a frame after", ([tar, &hidden].concat(), [whole.clone(), zstd(&hidden)].concat())),
                ("an archive in a frame, not in the diff_id", (tar.to_vec(), [whole.clone(), zstd(&hidden)].concat())),
                ("gzip after", ([tar, &hidden].concat(), [whole.clone(), gzip(&hidden)].concat())),
                ("gzip inside", (tar.to_vec(), zstd(&gzip(tar)))),
                ("NUL after", (tar.to_vec(), [&whole[..], &[0; 100]].concat())),
                ("garbage after", (tar.to_vec(), [&whole[..], b"garbage"].concat())),
                ("breaks off", (tar.to_vec(), whole[..whole.len() - 1].to_vec())),
            ],
        )
        .clone();
    Layer::stored(&content, blob, "+zstd")
}
