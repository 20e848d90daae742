//! The text fields of a tar header, as Go reads them: up to the first NUL, and with a prefix where the dialect of the
//! header has one.

/// The magic of ustar and of the PAX headers that follow it. Their version is ignored: old writers left it empty.
const USTAR: &[u8] = b"ustar\0";

/// The magic and version of GNU tar.
const GNU: &[u8] = b"ustar  \0";

/// The last bytes of a header that the program star wrote, which has a shorter prefix.
const STAR: &[u8] = b"tar\0";

/// The name of the entry, with its prefix.
pub(super) fn name(header: &tar::Header) -> Vec<u8> {
    let name = text(&header.as_old().name);
    match prefix(header.as_bytes()) {
        b"" => name.to_vec(),
        prefix => [prefix, b"/", name].concat(),
    }
}

/// The target of a link.
pub(super) fn link(header: &tar::Header) -> Vec<u8> {
    text(&header.as_old().linkname).to_vec()
}

fn prefix(block: &[u8; super::BLOCK]) -> &[u8] {
    let (magic, prefix) = (&block[257..265], &block[345..500]);
    if magic.starts_with(USTAR) {
        return if &block[508..] == STAR { text(&prefix[..131]) } else { text(prefix) };
    }
    // Old versions of Docker wrote the magic of GNU tar with a prefix, where GNU tar has two times. Go tells the two
    // apart by times that are not numbers.
    let times = [&block[345..357], &block[357..369]];
    let is_old_docker = magic == GNU && times.iter().any(|time| !is_time(time)) && text(prefix).is_ascii();
    if is_old_docker { text(prefix) } else { b"" }
}

/// Whether `field` is empty or holds a number.
fn is_time(field: &[u8]) -> bool {
    if field[0] == 0 || field[0] & 0x80 != 0 {
        return true;
    }
    let digits = text(field.trim_ascii());
    digits.trim_ascii().iter().all(|digit| matches!(digit, b'0'..=b'7'))
}

fn text(field: &[u8]) -> &[u8] {
    &field[..memchr::memchr(0, field).unwrap_or(field.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(magic: &[u8; 8], prefix: &[u8]) -> tar::Header {
        let mut header = tar::Header::new_old();
        let bytes = header.as_mut_bytes();
        bytes[..4].copy_from_slice(b"name");
        bytes[257..265].copy_from_slice(magic);
        bytes[345..345 + prefix.len()].copy_from_slice(prefix);
        header
    }

    #[test]
    fn the_prefix_counts_where_go_counts_it() {
        for (magic, prefix, expected) in [
            (b"ustar\x0000", &b"a/b"[..], &b"a/b/name"[..]),
            (b"ustar\0\0\0", b"a/b", b"a/b/name"),
            (b"ustar\0  ", b"a/b", b"a/b/name"),
            (b"ustar  \0", b"a/b", b"a/b/name"),
            (b"ustar  \0", b"14700000000\x0014700000000\0", b"name"),
            (b"\0\0\0\0\0\0\0\0", b"a/b", b"name"),
        ] {
            assert_eq!(name(&block(magic, prefix)), expected, "{magic:?}");
        }
    }
}
