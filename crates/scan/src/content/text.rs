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

/// Line and column of each of `offsets` in `bytes`, both from 1, the column in bytes. `bytes` are preceded by
/// `lines_before` line feeds and, after the last of these, `column_before` bytes. The text is read once, however many
/// offsets there are.
pub fn positions(bytes: &[u8], offsets: &[usize], lines_before: u64, column_before: u64) -> Vec<(u64, u64)> {
    let mut ascending: Vec<usize> = (0..offsets.len()).collect();
    ascending.sort_unstable_by_key(|index| offsets[*index]);
    let mut positions = vec![(0, 0); offsets.len()];
    let (mut passed, mut lines, mut column) = (0, lines_before, column_before);
    for index in ascending {
        let at = offsets[index].min(bytes.len());
        let next = &bytes[passed..at];
        lines += newlines(next);
        column = match memchr::memrchr(b'\n', next) {
            Some(newline) => (next.len() - newline - 1) as u64,
            None => column + next.len() as u64,
        };
        positions[index] = (lines + 1, column + 1);
        passed = at;
    }
    positions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns() {
        assert_eq!(positions(b"ab\ncd", &[4, 0, 2, 9], 0, 0), [(2, 2), (1, 1), (1, 3), (2, 3)]);
        assert_eq!(positions(b"ab\ncd", &[1, 1, 3], 7, 10), [(8, 12), (8, 12), (9, 1)]);
        assert!(is_text(b"plain") && !is_text(b"\x7fELF\0"));
    }
}
