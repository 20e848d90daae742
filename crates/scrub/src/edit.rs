//! Changes ranges of a stream of bytes, and copies everything else.

use std::io::{self, Read, Write};

/// A change: the bytes from `from` to `to` become `bytes`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Edit {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) bytes: Vec<u8>,
}

/// Puts `edits` in order, and joins those that overlap or repeat each other.
///
/// Only bytes that are overwritten in place can overlap: two secrets may share bytes. Filler is the same for both.
pub(crate) fn in_order(mut edits: Vec<Edit>) -> Vec<Edit> {
    edits.sort();
    let mut ordered: Vec<Edit> = Vec::new();
    for edit in edits {
        match ordered.last_mut() {
            Some(last) if edit.from < last.to => {
                if edit.to > last.to && !last.bytes.is_empty() {
                    let new = (edit.to - last.to) as usize;
                    last.bytes.extend_from_slice(&edit.bytes[edit.bytes.len().saturating_sub(new)..]);
                    last.to = edit.to;
                }
            }
            _ => ordered.push(edit),
        }
    }
    ordered
}

/// Copies `input` to `output` with the changes `edits`, which are in order.
pub(crate) fn apply(input: &mut dyn Read, edits: &[Edit], output: &mut dyn Write) -> io::Result<()> {
    let mut at = 0;
    for edit in edits {
        exactly(io::copy(&mut input.take(edit.from - at), output)?, edit.from - at)?;
        output.write_all(&edit.bytes)?;
        exactly(io::copy(&mut input.take(edit.to - edit.from), &mut io::sink())?, edit.to - edit.from)?;
        at = edit.to;
    }
    io::copy(input, output).map(drop)
}

fn exactly(copied: u64, wanted: u64) -> io::Result<()> {
    if copied == wanted { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(input: &[u8], edits: Vec<Edit>) -> Vec<u8> {
        let mut output = Vec::new();
        apply(&mut &input[..], &in_order(edits), &mut output).unwrap();
        output
    }

    fn edit(from: u64, to: u64, bytes: &[u8]) -> Edit {
        Edit { from, to, bytes: bytes.into() }
    }

    #[test]
    fn ranges_change_and_the_rest_stays() {
        let edits = vec![edit(8, 10, b""), edit(2, 4, b"xx"), edit(5, 6, b"12345")];
        assert_eq!(edited(b"0123456789", edits), b"01xx41234567");
        assert_eq!(edited(b"0123", Vec::new()), b"0123");
    }

    #[test]
    fn edits_that_overlap_become_one() {
        let edits = vec![edit(1, 4, b"xxx"), edit(3, 6, b"xxx"), edit(1, 4, b"xxx"), edit(2, 3, b"x")];
        assert_eq!(edited(b"01234567", edits), b"0xxxxx67");
    }

    #[test]
    fn an_edit_beyond_the_end_is_an_error() {
        assert!(apply(&mut &b"012"[..], &[edit(2, 5, b"")], &mut Vec::new()).is_err());
    }
}
