//! Escapes of programs, URLs, mail, HTML and terminals. All of them are known at once: no text says which it is in.

use layersift_model::hex_byte;

use super::characters::Reading;

/// Names of characters in HTML that tokens have or that stand around them.
const NAMES: [(&str, u8); 25] = [
    ("amp", b'&'),
    ("lt", b'<'),
    ("gt", b'>'),
    ("quot", b'"'),
    ("apos", b'\''),
    ("nbsp", b' '),
    ("Tab", b'\t'),
    ("NewLine", b'\n'),
    ("lowbar", b'_'),
    ("UnderBar", b'_'),
    ("hyphen", b'-'),
    ("dash", b'-'),
    ("period", b'.'),
    ("comma", b','),
    ("sol", b'/'),
    ("bsol", b'\\'),
    ("equals", b'='),
    ("colon", b':'),
    ("semi", b';'),
    ("num", b'#'),
    ("percnt", b'%'),
    ("plus", b'+'),
    ("ast", b'*'),
    ("commat", b'@'),
    ("excl", b'!'),
];

/// Whether something to be undone may begin with a byte.
pub(super) const fn may_begin(byte: u8) -> bool {
    matches!(byte, b'\\' | b'%' | b'=' | b'&' | 0x00..=0x08 | 0x0e..=0x1f | 0x7f..)
}

/// Backslashes and what they escape. However many there are, they are one escape: each level of nesting doubles them.
pub(super) fn backslash(rest: &[u8]) -> (usize, Reading) {
    let slashes = rest.iter().take_while(|byte| **byte == b'\\').count();
    let after = rest.get(slashes..).unwrap_or_default();
    let number = |skipped: usize, digits: usize, radix: u32| {
        let text = std::str::from_utf8(after.get(skipped..skipped + digits)?).ok()?;
        let value = u32::from_str_radix(text.strip_prefix('+').map_or(text, |_| ""), radix).ok()?;
        Some((slashes + skipped + digits, character(value)))
    };
    let known = match after {
        [b'\n', ..] => Some((slashes + 1, Reading::Nothing)),
        [b'\r', b'\n', ..] => Some((slashes + 2, Reading::Nothing)),
        // A line that goes on in the next, in JSON: each level of nesting doubles the three of them.
        [b'n', ..] if !slashes.is_power_of_two() => Some((slashes + 1, Reading::Nothing)),
        [b'n' | b'r', ..] => Some((slashes + 1, Reading::Byte(b'\n'))),
        [b'u', b'{', digits @ ..] => {
            let length = digits.iter().take_while(|digit| digit.is_ascii_hexdigit()).count();
            let is_closed = digits.get(length) == Some(&b'}') && (1..=6).contains(&length);
            if is_closed { number(2, length, 16).map(|(length, reading)| (length + 1, reading)) } else { None }
        }
        [b'u', ..] => number(1, 4, 16),
        [b'U', ..] => number(1, 8, 16),
        // In a string of JSON, it is an escape of a program: what is undone is undone again.
        [b'x', ..] if slashes > 1 => Some((slashes, Reading::Byte(b'\\'))),
        [b'x', ..] => number(1, 2, 16),
        [b'0'..=b'3', ..] => number(0, 3, 8).or(Some((slashes + 1, Reading::Byte(b' ')))),
        [b't', ..] => Some((slashes + 1, Reading::Byte(b'\t'))),
        [b'f' | b'v' | b'b' | b'a' | b'e', ..] => Some((slashes + 1, Reading::Byte(b' '))),
        [byte, ..] if byte.is_ascii_punctuation() => Some((slashes + 1, Reading::Byte(*byte))),
        _ => None,
    };
    known.unwrap_or((slashes, Reading::AsItIs))
}

/// A percent sign and two digits, or `%u` and four. What is not UTF-8 is none: `%ADMIN%` is a variable of Windows.
pub(super) fn percent(rest: &[u8]) -> (usize, Reading) {
    if let Some((length, byte)) = percent_byte(rest).filter(|(_, byte)| byte.is_ascii()) {
        return (length, Reading::Byte(byte));
    }
    percent_character(rest).or_else(|| percent_wide(rest)).unwrap_or((1, Reading::AsItIs))
}

/// The byte of a percent sign and two digits. `%25` before the digits is the sign, encoded once more.
fn percent_byte(rest: &[u8]) -> Option<(usize, u8)> {
    let digits = |at: usize| rest.get(at..).and_then(<[u8]>::first_chunk).and_then(hex_byte);
    let mut length = usize::from(rest.first() == Some(&b'%'));
    while length > 0 && rest.get(length..)?.starts_with(b"25") && digits(length + 2).is_some() {
        length += 2;
    }
    if length == 0 { None } else { digits(length).map(|byte| (length + 2, byte)) }
}

/// The character of several percent signs with two digits each.
fn percent_character(rest: &[u8]) -> Option<(usize, Reading)> {
    let (mut bytes, mut length) = ([0; 4], 0);
    for count in 0..bytes.len() {
        let (more, byte) = percent_byte(rest.get(length..)?)?;
        length += more;
        *bytes.get_mut(count)? = byte;
        if let Some(character) = std::str::from_utf8(bytes.get(..=count)?).ok().and_then(|text| text.chars().next()) {
            return Some((length, Reading::Character(character)));
        }
    }
    None
}

fn percent_wide(rest: &[u8]) -> Option<(usize, Reading)> {
    let digits = |at: usize| rest.get(at..).and_then(<[u8]>::first_chunk).and_then(hex_byte);
    let bytes = rest.starts_with(b"%u").then(|| Some([digits(2)?, digits(4)?])).flatten()?;
    Some((6, character(u16::from_be_bytes(bytes).into())))
}

/// An equals sign and two digits as mail has them (RFC 2045, section 6.7), or at the end of a line that goes on. A
/// line of such signs under a heading, and the padding of base64, are no line that goes on.
pub(super) fn quoted_printable(rest: &[u8], before: Option<u8>) -> (usize, Reading) {
    let after = rest.get(1..).unwrap_or_default();
    let goes_on = before.is_some_and(|before| before != b'=');
    match after {
        [b'\n', ..] if goes_on => (2, Reading::Nothing),
        [b'\r', b'\n', ..] if goes_on => (3, Reading::Nothing),
        [b'0'..=b'7', b'0'..=b'9' | b'A'..=b'F', ..] => {
            let byte = after.first_chunk().and_then(hex_byte);
            byte.map_or((1, Reading::AsItIs), |byte| (3, Reading::Byte(byte)))
        }
        _ => (1, Reading::AsItIs),
    }
}

/// A character reference of HTML, by its number or its name. `&amp;` before the rest is the sign, encoded once more.
pub(super) fn entity(rest: &[u8]) -> (usize, Reading) {
    let mut length = 1;
    while rest.get(length..).is_some_and(|after| after.starts_with(b"amp;")) {
        length += 4;
    }
    let after = rest.get(length..).unwrap_or_default();
    match reference(after) {
        Some((more, reading)) => (length + more, reading),
        None if length > 1 => (length, Reading::Byte(b'&')),
        None => (1, Reading::AsItIs),
    }
}

/// What follows the sign of a reference.
fn reference(after: &[u8]) -> Option<(usize, Reading)> {
    let Some(number) = after.strip_prefix(b"#") else {
        let end = after.iter().take(10).position(|byte| *byte == b';')?;
        let (_, byte) = NAMES.iter().find(|(name, _)| after.get(..end) == Some(name.as_bytes()))?;
        return Some((end + 1, Reading::Byte(*byte)));
    };
    let (radix, skipped) = if matches!(number.first(), Some(b'x' | b'X')) { (16, 1) } else { (10, 0) };
    let digits = number.get(skipped..)?;
    let length = digits.iter().take(8).take_while(|digit| char::from(**digit).is_digit(radix)).count();
    let value = u32::from_str_radix(std::str::from_utf8(digits.get(..length)?).ok()?, radix).ok()?;
    let semicolon = usize::from(digits.get(length) == Some(&b';'));
    Some((1 + skipped + length + semicolon, character(value)))
}

/// A sequence that steers a terminal (ECMA-48): its parameters and its last byte. It mostly stands between words.
pub(super) fn terminal(rest: &[u8]) -> (usize, Reading) {
    let Some(after) = rest.strip_prefix(b"\x1b[") else { return (1, Reading::Nothing) };
    let parameters = after.iter().take(32).take_while(|byte| matches!(byte, 0x20..=0x3f)).count();
    (2 + (parameters + 1).min(after.len()), Reading::Byte(b' '))
}

fn character(value: u32) -> Reading {
    match char::from_u32(value) {
        Some(character) if character.is_ascii() => Reading::Byte(value as u8),
        Some(character) => Reading::Character(character),
        // Half of a surrogate pair.
        None => Reading::Byte(b' '),
    }
}

#[cfg(test)]
mod tests {
    use super::super::PlainText;

    fn plain(text: &str) -> Option<String> {
        let plain = PlainText::of(text.as_bytes())?;
        let (_, piece) = plain.mapped.pieces().next()?;
        Some(String::from_utf8(piece.to_vec()).unwrap())
    }

    #[test]
    fn escapes_of_all_kinds_are_undone() {
        for (text, expected) in [
            ("a\\u0041b\\x41c\\101d\\U00000041e\\u{41}f", "aAbAcAdAeAf"),
            ("to\\\\\\nken", "token"),
            ("a\\\\\\\\nb\\\\u005fc\\_d\\/e\\\"", "a\nb_c_d/e\""),
            ("a%41b%2541c%252541d%u0041e", "aAbAcAdAe"),
            ("caf%C3%A9 %25EF%25BD%2583", "caf\u{e9} \u{ff43}"),
            ("a=41b=3Dc", "aAb=c"),
            ("&#65;&#x41;&#65 &amp;#65;&lowbar;&amp;&amp;amp;", "AAA A_&&"),
            ("a\u{1b}[1;31mb\u{0}c\u{7f}", "a bc"),
            ("\\ud83d\\ude00x", "  x"),
        ] {
            assert_eq!(plain(text).unwrap().trim_end_matches('\n'), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_escape_stays() {
        for text in [
            "a\n===\nb\n=\n",
            "QQ==\nb",
            "\\d",
            "%zz %",
            "%ADMIN% %c3%zz",
            "a=b == =a1",
            "&x; & &#; &#xz",
            "\\u{}",
            "\\u12",
            "\\xg0",
            "\\x+1",
        ] {
            assert_eq!(plain(text), None, "{text}");
        }
        assert_eq!(plain("\\"), None);
    }
}
