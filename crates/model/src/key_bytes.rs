//! Keys that are written as text: the same bytes stand in a compiled module as they are, and in sources and messages as
//! hexadecimal digits, as base64 or as a list of numbers.

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

const CONFIG: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD_ANY: GeneralPurpose = GeneralPurpose::new(&STANDARD, CONFIG);
const URL_ANY: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, CONFIG);

/// The lengths of keys of ciphers, and of two keys in one, in bytes.
const LENGTHS: [usize; 5] = [16, 24, 32, 48, 64];

/// How often what was decoded may be text again.
const MOST_DEPTH: usize = 4;

/// The longest text that is read: a list of 64 numbers with casts and line breaks.
const LONGEST: usize = 4096;

/// What stands before and after a number to say that it is a byte.
const CASTS: [&str; 5] = ["(byte)", "(sbyte)", "(uint8_t)", "(char)", "(unsigned char)"];
const TYPES: [&str; 7] = [".toByte()", ".toUByte()", ".toByte", ".toUByte", "u8", "u", "U"];

/// The bytes of the key that `text` spells; `None` if it spells none, as most texts. What is decoded may be text again,
/// so that a key has the same bytes whether the program that uses it decodes it or not.
pub fn key_bytes(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = decoded(text)?;
    for _ in 1..MOST_DEPTH {
        match decoded(&bytes) {
            Some(inner) => bytes = inner,
            None => break,
        }
    }
    Some(bytes)
}

fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    if text.len() > LONGEST || !text.is_ascii() {
        return None;
    }
    let whole = std::str::from_utf8(text).ok()?;
    let text = whole.trim();
    // The first or last byte of a literal may be a blank.
    let literal = || escapes(whole).or_else(|| escapes(text));
    let bytes =
        hex(text).or_else(|| characters(text)).or_else(literal).or_else(|| list(text)).or_else(|| base64(text))?;
    LENGTHS.contains(&bytes.len()).then_some(bytes)
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let pairs = digits.as_bytes().chunks(2).map(|pair| byte(std::str::from_utf8(pair).ok()?, 16));
    if digits.len().is_multiple_of(2) { pairs.collect() } else { None }
}

fn base64(text: &str) -> Option<Vec<u8>> {
    STANDARD_ANY.decode(text).or_else(|_| URL_ANY.decode(text)).ok()
}

/// The inside of a literal of which at least one byte is written as `\x0f`, `\017` or `\u000f`, as Python shows bytes
/// and C, Go, JavaScript and Rust write them; characters that can be printed stand for themselves.
fn escapes(text: &str) -> Option<Vec<u8>> {
    let is_number = |pair: &[u8]| pair[0] == b'\\' && matches!(pair[1], b'x' | b'u' | b'0'..=b'7');
    if !text.as_bytes().windows(2).any(is_number) {
        return None;
    }
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some(first) = rest.chars().next() {
        let (value, length) = match rest.strip_prefix('\\') {
            Some(escape) => escaped(escape)?,
            None if matches!(first, ' '..='~') => (first as u8, 1),
            None => return None,
        };
        bytes.push(value);
        rest = rest.get(length..)?;
    }
    Some(bytes)
}

/// The byte that an escape stands for, and the length of the escape with its backslash.
fn escaped(escape: &str) -> Option<(u8, usize)> {
    let simple = |value: u8| Some((value, 2));
    match escape.bytes().next()? {
        b'x' => Some((byte(escape.get(1..3)?, 16)?, 4)),
        b'u' => Some((byte(escape.get(1..5)?.strip_prefix("00")?, 16)?, 6)),
        b'0'..=b'7' => {
            let digits = escape.bytes().take(3).take_while(|digit| matches!(digit, b'0'..=b'7')).count();
            Some((u8::from_str_radix(escape.get(..digits)?, 8).ok()?, digits + 1))
        }
        b'a' => simple(7),
        b'b' => simple(8),
        b't' => simple(b'\t'),
        b'n' => simple(b'\n'),
        b'v' => simple(11),
        b'f' => simple(12),
        b'r' => simple(b'\r'),
        quote @ (b'\\' | b'\'' | b'"') => simple(quote),
        _ => None,
    }
}

/// Numbers with commas, colons or white space between them, as in sources of C, Java, Go, Rust and Kotlin.
fn list(text: &str) -> Option<Vec<u8>> {
    let text = &without_comments(text);
    let items = text.split(|c: char| c == ',' || c == ':' || c.is_ascii_whitespace());
    let items: Vec<&str> = items.map(plain).filter(|item| !item.is_empty()).collect();
    if items.len() < 2 {
        return None;
    }
    if let Some(bytes) = words(&items) {
        return Some(bytes);
    }
    let has_prefixes = items.iter().any(|item| item.starts_with("0x") || item.starts_with("0X"));
    let are_pairs = !has_prefixes && text.contains(':');
    items.iter().map(|item| number(item, are_pairs)).collect()
}

/// The bytes of numbers of 32 or 64 bits, as most processors keep them in memory.
fn words(items: &[&str]) -> Option<Vec<u8>> {
    const SUFFIXES: [&str; 6] = ["_u32", "_u64", "u32", "u64", "n", ""];
    let digits = |item: &str| {
        let digits =
            item.strip_prefix("0x").or_else(|| item.strip_prefix("0X"))?.trim_end_matches(['u', 'U', 'l', 'L']);
        let digits = SUFFIXES.iter().find_map(|suffix| digits.strip_suffix(suffix))?;
        matches!(digits.len(), 8 | 16).then(|| digits.to_string())
    };
    let all: Vec<String> = items.iter().map(|item| digits(item)).collect::<Option<_>>()?;
    let width = all.first()?.len();
    if all.iter().any(|digits| digits.len() != width) {
        return None;
    }
    let mut bytes = Vec::new();
    for digits in all {
        let word = u64::from_str_radix(&digits, 16).ok()?;
        bytes.extend(word.to_le_bytes().into_iter().take(width / 2));
    }
    Some(bytes)
}

/// The bytes of characters between apostrophes, such as `'\x0f', 'A'`.
fn characters(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        rest = CASTS.iter().find_map(|cast| rest.strip_prefix(cast)).unwrap_or(rest).trim_start();
        rest = rest.strip_prefix('b').unwrap_or(rest).strip_prefix('\'')?;
        let (value, length) = match rest.strip_prefix('\\') {
            Some(escape) if escape.starts_with('x') && escape.get(2..3) == Some("'") => {
                (byte(escape.get(1..2)?, 16)?, 3)
            }
            Some(escape) => escaped(escape)?,
            None => (rest.bytes().next().filter(|byte| matches!(byte, b' '..=b'~'))?, 1),
        };
        bytes.push(value);
        rest = rest.get(length..)?.strip_prefix('\'')?.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    (!bytes.is_empty()).then_some(bytes)
}

/// A list without the comments of C, Python and shells.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let line =
            ["//", "#"].iter().filter_map(|mark| line.find(mark)).min().and_then(|at| line.get(..at)).unwrap_or(line);
        let mut rest = line;
        while let Some((before, comment)) = rest.split_once("/*") {
            out.push_str(before);
            rest = comment.split_once("*/").map_or("", |(_, after)| after);
        }
        out.push_str(rest);
        out.push('\n');
    }
    out
}

/// A number without the cast before it and the type or conversion after it.
fn plain(item: &str) -> &str {
    let item = CASTS.iter().find_map(|cast| item.strip_prefix(cast)).unwrap_or(item);
    TYPES.iter().find_map(|suffix| item.strip_suffix(suffix)).unwrap_or(item)
}

fn number(item: &str, is_pair: bool) -> Option<u8> {
    match item.strip_prefix("0x").or_else(|| item.strip_prefix("0X")) {
        Some(digits) => byte(digits, 16),
        None if is_pair && item.len() == 2 => byte(item, 16),
        None if is_pair => None,
        // Java's bytes have a sign.
        None => item.parse::<i16>().ok().filter(|value| (-128..256).contains(value)).map(|value| value as u8),
    }
}

fn byte(digits: &str, radix: u32) -> Option<u8> {
    let is_plain = (1..=2).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if is_plain { u8::from_str_radix(digits, radix).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_same_bytes_in_every_form() {
        let key: Vec<u8> = (0..32).map(|at: u8| at.wrapping_mul(37).wrapping_add(99)).collect();
        let joined =
            |each: &dyn Fn(&u8) -> String, between: &str| key.iter().map(each).collect::<Vec<_>>().join(between);
        let words = |width: usize| -> Vec<String> {
            let word =
                |word: &[u8]| word.iter().rev().fold("0x".to_string(), |text, byte| text + &format!("{byte:02x}"));
            key.chunks(width).map(word).collect()
        };
        for text in [
            joined(&|byte| format!("{byte:02x}"), ""),
            joined(&|byte| format!("{byte:02X}"), ":"),
            format!("0x{}", joined(&|byte| format!("{byte:02X}"), "")),
            joined(&|byte| format!("0x{byte:02x}"), ", "),
            joined(&|byte| format!("0x{byte:02x}"), ",\n    ") + ",",
            joined(&|byte| format!("(byte)0x{byte:02X}"), ","),
            joined(&|byte| byte.to_string(), ", "),
            joined(&|byte| (*byte as i8).to_string(), ", "),
            joined(&|byte| format!("(byte) 0x{byte:02X}"), ", "),
            joined(&|byte| format!("0x{byte:x}u8"), ", "),
            joined(&|byte| format!("0x{byte:02x}, /* byte 7 */ // and 0x99"), "\n"),
            joined(&|byte| format!("0x{byte:02x}, # 1, 2"), "\n"),
            words(4).join("U, ") + "U",
            words(8).join("ULL,\n") + "ULL",
            words(4).join("u32, ") + "u32",
            joined(&|byte| format!("{byte}u"), ", "),
            joined(&|byte| format!("0x{byte:02X}.toByte()"), ", "),
            joined(&|byte| format!("\\x{byte:02x}"), ""),
            joined(&|byte| byte.escape_ascii().to_string(), ""),
            joined(&|byte| format!("\\{byte:03o}"), ""),
            joined(&|byte| format!("\\u{byte:04x}"), ""),
            joined(&|byte| format!("0X{byte:02X}"), ", "),
            words(4).join(", ").replace("0x", "0X"),
            joined(&|byte| format!("'\\x{byte:02x}'"), ","),
            joined(&|byte| format!("b'{}'", byte.escape_ascii()), ", "),
            joined(&|byte| format!("(char)'\\{byte:o}'"), ",\n"),
            STANDARD_ANY.encode(&key),
            URL_ANY.encode(&key).trim_end_matches('=').to_string(),
            STANDARD_ANY.encode(joined(&|byte| format!("{byte:02x}"), "")),
        ] {
            assert_eq!(key_bytes(text.as_bytes()), Some(key.clone()), "{text}");
        }
    }

    #[test]
    fn other_texts_spell_no_key() {
        for text in [
            &b""[..],
            b"correct horse battery staple",
            b"ghp_000000000000000000000000000000000000",
            b"deadbeef",
            b"1, 2, 3",
            b"0x100, 0x200, 0x300, 0x400, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12",
            b"\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f",
        ] {
            assert_eq!(key_bytes(text), None, "{text:?}");
        }
    }
}
