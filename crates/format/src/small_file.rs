//! Reads the small files that flags and settings name: keys, certificates, secrets, rules, lists. A device or a pipe
//! without an end is refused instead of read for ever.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The most bytes of one file.
const MOST_BYTES: u64 = 16 << 20;

/// The bytes of the file at `path`.
///
/// # Errors
/// If it cannot be read, or has more than 16 MiB.
pub fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    read_at_most(path, MOST_BYTES)
}

/// The text of the file at `path`.
///
/// # Errors
/// As for [`read_small`], and if it is not UTF-8.
pub fn read_small_text(path: &Path) -> io::Result<String> {
    let not_text = |_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8");
    String::from_utf8(read_small(path)?).map_err(not_text)
}

/// The bytes of the file at `path`, of which there may be `most`.
///
/// # Errors
/// If it cannot be read, or has more.
pub fn read_at_most(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)? as u64;
    if read > most {
        return Err(io::Error::other(format!("it has more than {most} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_end_is_refused() {
        let error = read_small(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(error.to_string(), "it has more than 16777216 bytes");
        assert_eq!(read_small_text(Path::new("/dev/null")).unwrap(), "");
        assert_eq!(read_at_most(Path::new("/dev/zero"), 9).unwrap_err().to_string(), "it has more than 9 bytes");
    }

    #[test]
    fn a_text_is_utf8() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"a\xff").unwrap();
        assert_eq!(read_small_text(file.path()).unwrap_err().to_string(), "it is not UTF-8");
    }
}
