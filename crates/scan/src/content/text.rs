//! Lines and columns in text.

/// The number of bytes at the start of a file that decide whether it is text.
pub const SAMPLE: usize = 8 << 10;

/// Whether a file that begins with `head` is text: there is no NUL in its first bytes, as in git and grep.
pub fn is_text(head: &[u8]) -> bool {
    memchr::memchr(0, &head[..head.len().min(SAMPLE)]).is_none()
}

/// The number of line feeds in `bytes`.
pub fn newlines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// Line and column of offset `at` in `bytes`, both from 1, the column in bytes. `bytes` are preceded by `lines_before`
/// line feeds and, after the last of these, `column_before` bytes.
pub fn position(bytes: &[u8], at: usize, lines_before: u64, column_before: u64) -> (u64, u64) {
    let before = &bytes[..at.min(bytes.len())];
    let line = lines_before + newlines(before) + 1;
    let column = match memchr::memrchr(b'\n', before) {
        Some(newline) => (before.len() - newline) as u64,
        None => column_before + before.len() as u64 + 1,
    };
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns() {
        assert_eq!(position(b"ab\ncd", 0, 0, 0), (1, 1));
        assert_eq!(position(b"ab\ncd", 4, 0, 0), (2, 2));
        assert_eq!(position(b"ab\ncd", 1, 7, 10), (8, 12));
        assert!(is_text(b"plain") && !is_text(b"\x7fELF\0"));
    }
}
