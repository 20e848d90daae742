//! Reads the small files that flags name: keys, rules, certificates, lists. A device or a pipe without an end is
//! refused instead of read for ever.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::Context;

/// The most bytes of one file.
const MOST_BYTES: u64 = 16 << 20;

/// The bytes of the file at `path`.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    bounded(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The text of the file at `path`.
pub(crate) fn read_text(path: &Path) -> anyhow::Result<String> {
    let text = String::from_utf8(read(path)?);
    text.with_context(|| format!("cannot read {}: it is not UTF-8", path.display()))
}

/// The bytes of the file at `path`, for a caller that names it in its own way.
pub(crate) fn bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path)?.take(MOST_BYTES + 1).read_to_end(&mut bytes)? as u64;
    if read > MOST_BYTES {
        return Err(io::Error::other(format!("it has more than {MOST_BYTES} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_end_is_refused() {
        let error = read(Path::new("/dev/zero")).unwrap_err();
        assert!(format!("{error:#}").contains("/dev/zero: it has more than 16777216 bytes"), "{error:#}");
        assert_eq!(read(Path::new("/dev/null")).unwrap(), b"");
    }
}
