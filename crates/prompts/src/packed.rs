//! Compressed files and archives in base64 within a text. A string that is base64 as a whole is a file of its own; see
//! [`data`](crate::data).

use std::io::Read;
use std::ops::Range;

use flate2::read::ZlibDecoder;

use crate::plain::{base64_value, length_of_break};

/// The fewest digits of a run.
const FEWEST: usize = 24;

/// The most runs of a text.
const MOST: usize = 64;

/// The most bytes that a run in the format of zlib, which the analyzer does not open, inflates to.
const MOST_INFLATED: u64 = 8 << 20;

/// What runs begin with: gzip, Zstandard, bzip2, xz and zip.
const FILES: [&[u8]; 5] = [b"H4sI", b"KLUv/", b"QlpoO", b"/Td6WFo", b"UEsDB"];

/// The same of zlib, by its levels.
const ZLIB: [&[u8]; 4] = [b"eJ", b"eN", b"eA", b"eF"];

/// A run of base64 in a text, and the file in it.
#[derive(Debug)]
pub struct PackedFile {
    /// The bytes of the text.
    pub span: Range<usize>,
    /// The file; what it inflates to, if the analyzer does not open it.
    pub bytes: Vec<u8>,
}

/// The files in a text, and whether these are all.
pub fn packed_files(text: &[u8]) -> (Vec<PackedFile>, bool) {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(run) = next_run(text, at) {
        at = run.end;
        let start = run.start;
        let digits = text.get(run.clone()).unwrap_or_default();
        let is_file = FILES.iter().any(|file| digits.starts_with(file));
        if !is_file && !ZLIB.iter().any(|zlib| digits.starts_with(zlib)) {
            continue;
        }
        // Many words begin as zlib does, and few of them inflate to anything.
        if !is_file && inflated(&decoded(digits)).is_none() {
            continue;
        }
        if found.len() == MOST {
            return (found, false);
        }
        let (end, digits) = lines(text, run);
        let bytes = if is_file { Some(decoded(&digits)) } else { inflated(&decoded(&digits)) };
        found.extend(bytes.map(|bytes| PackedFile { span: start..end, bytes }));
    }
    (found, true)
}

/// The first run of digits from `from` on that is long enough.
fn next_run(text: &[u8], from: usize) -> Option<Range<usize>> {
    let is_digit = |at: usize| text.get(at).is_some_and(|byte| base64_value(*byte).is_some());
    let mut start = from;
    loop {
        // The last digit that a run from here on would need at least: most text is passed over by it.
        text.get(start + FEWEST - 1)?;
        match (start..start + FEWEST).rev().find(|at| !is_digit(*at)) {
            Some(at) => start = at + 1,
            None => break,
        }
    }
    let end = (start + FEWEST..text.len()).find(|at| !is_digit(*at)).unwrap_or(text.len());
    Some(start..end)
}

/// The digits of a run and of the lines after it that it goes on in, and where they end. All lines but the last are
/// as long as the first.
fn lines(text: &[u8], first: Range<usize>) -> (usize, Vec<u8>) {
    let width = first.len();
    let mut end = first.end;
    let mut digits = text.get(first).unwrap_or_default().to_vec();
    while digits.len().is_multiple_of(width)
        && let Some(length) = length_of_break(text, end)
        && text.get(end..end + length).is_some_and(|between| between.contains(&b'\n'))
    {
        let rest = text.get(end + length..).unwrap_or_default();
        let line = rest.iter().take(width + 1).take_while(|byte| base64_value(**byte).is_some()).count();
        if line == 0 || line > width {
            break;
        }
        digits.extend_from_slice(rest.get(..line).unwrap_or_default());
        end += length + line;
    }
    (end, digits)
}

fn decoded(digits: &[u8]) -> Vec<u8> {
    let (mut bits, mut known) = (0u32, 0);
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3);
    for value in digits.iter().filter_map(|digit| base64_value(*digit)) {
        bits = bits << 6 | value;
        known += 6;
        if known >= 8 {
            known -= 8;
            bytes.push((bits >> known) as u8);
            bits &= (1 << known) - 1;
        }
    }
    bytes
}

/// What a file in the format of zlib, which the analyzer does not open, inflates to.
pub(crate) fn zlib(bytes: &[u8]) -> Option<Vec<u8>> {
    let is_zlib = matches!(bytes, [0x78, flags, ..] if (0x7800 | u16::from(*flags)) % 31 == 0 && flags & 0x20 == 0);
    if is_zlib { inflated(bytes) } else { None }
}

fn inflated(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut inflated = Vec::new();
    let outcome = ZlibDecoder::new(bytes).take(MOST_INFLATED).read_to_end(&mut inflated);
    // What is cut has its beginning.
    (outcome.is_ok() || !inflated.is_empty()).then_some(inflated)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;

    #[test]
    fn compressed_runs_are_found_in_a_text() {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
        zlib.write_all(b"some text that is long enough").unwrap();
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(b"some text that is long enough").unwrap();
        let gzip = gzip.finish().unwrap();
        let (first, second) = (STANDARD.encode(zlib.finish().unwrap()), STANDARD.encode(&gzip));
        let (left, right) = second.trim_end_matches('=').split_at(40);
        let text =
            format!("see {first} and\n> {second} or\n> {left}\n> {right}\neJ is none, eJabcdefghijklmnopqrstuvwxyz");
        let (found, is_all) = packed_files(text.as_bytes());
        assert!(is_all);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].bytes, b"some text that is long enough");
        assert_eq!(&text[found[0].span.clone()], first.trim_end_matches('='));
        assert_eq!((&found[1].bytes, &found[2].bytes), (&gzip, &gzip));
        assert_eq!(&text[found[2].span.clone()], format!("{left}\n> {right}"));
    }

    #[test]
    fn there_are_not_too_many() {
        let run = format!("H4sI{} ", "A".repeat(40));
        assert!(packed_files(run.repeat(MOST).as_bytes()).1);
        let (found, is_all) = packed_files(run.repeat(MOST + 1).as_bytes());
        assert_eq!((found.len(), is_all), (MOST, false));
    }

    #[test]
    fn words_are_no_runs() {
        for text in ["", "short", "words of prose, and of code: some_long_identifier_name", &"eJ.".repeat(40)] {
            assert!(packed_files(text.as_bytes()).0.is_empty(), "{text}");
        }
    }
}
