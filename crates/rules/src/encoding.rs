//! EncodedKeywords: expressions that find the keywords of signatures in encoded bytes, such as base64 or UTF-16.

use std::collections::BTreeSet;

/// An encoding of bytes as other bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Encoding {
    /// Base64, standard or URL-safe alphabet (RFC 4648, sections 4 and 5).
    Base64 {
        /// The position, from 0 to 3, of the encoded keyword's first digit in its group of four.
        digit: u8,
    },
    /// Hexadecimal digits of either case (RFC 4648, section 8).
    Hex,
    /// UTF-16, little-endian.
    Utf16Le,
    /// UTF-16, big-endian.
    Utf16Be,
    /// Escapes of C, JSON and similar languages: `\x41`, `\u0041`, `\101`, `\/`, `\"`.
    Backslash,
    /// Percent-encoding (RFC 3986, section 2.1).
    Percent,
    /// Character references of HTML and XML: `&#65;`, `&#x41;`, `&amp;`.
    Entity,
    /// The bytes of an array in source code: `0x41, 0x42`.
    ByteList,
}

impl Encoding {
    /// A number for the encoding, and the position of the first digit for base64: the form in the tables that the build
    /// script of `layersift-scan` writes.
    pub fn code(self) -> (u8, u8) {
        match self {
            Encoding::Base64 { digit } => (0, digit),
            Encoding::Hex => (1, 0),
            Encoding::Utf16Le => (2, 0),
            Encoding::Utf16Be => (3, 0),
            Encoding::Backslash => (4, 0),
            Encoding::Percent => (5, 0),
            Encoding::Entity => (6, 0),
            Encoding::ByteList => (7, 0),
        }
    }

    /// The inverse of [`Encoding::code`].
    pub fn of_code(number: u8, digit: u8) -> Option<Encoding> {
        Some(match number {
            0 => Encoding::Base64 { digit },
            1 => Encoding::Hex,
            2 => Encoding::Utf16Le,
            3 => Encoding::Utf16Be,
            4 => Encoding::Backslash,
            5 => Encoding::Percent,
            6 => Encoding::Entity,
            7 => Encoding::ByteList,
            _ => return None,
        })
    }

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Base64 { .. } => "base64",
            Encoding::Hex => "hex",
            Encoding::Utf16Le => "utf-16le",
            Encoding::Utf16Be => "utf-16be",
            Encoding::Backslash => "backslash",
            Encoding::Percent => "percent",
            Encoding::Entity => "entity",
            Encoding::ByteList => "byte-list",
        }
    }
}

/// An expression that finds an encoded keyword.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EncodedKeyword {
    /// The encoding of the bytes around a match.
    pub encoding: Encoding,
    /// The expression; all its matches have the same length.
    pub expression: String,
    /// The length of a match in bytes.
    pub width: usize,
}

/// A literal that every match of a signature's pattern contains.
#[derive(Clone, Copy, Debug)]
pub struct Keyword<'k> {
    /// The literal.
    pub text: &'k str,
    /// Whether its letters match in either case.
    pub any_case: bool,
    /// Whether it is a common word. Only the encodings in which false matches are rare and cheap are searched for it.
    pub vague: bool,
}

impl<'k> Keyword<'k> {
    /// A keyword of a signature with `pattern`, whose findings have `confidence`. Names in any case next to arbitrary
    /// values are vague.
    pub fn new(text: &'k str, pattern: &str, confidence: &str) -> Keyword<'k> {
        let any_case = pattern.contains("(?i");
        Keyword { text, any_case, vague: confidence == "low" || (any_case && confidence != "high") }
    }
}

/// The shortest keyword that has encoded keywords: encoded, shorter ones match everywhere.
const MIN_KEYWORD: usize = 4;

/// The fewest digits of a base64 encoded keyword.
const MIN_BASE64_DIGITS: usize = 4;

/// Escapes that show that a whole text was escaped, even if none of the characters of a keyword needed it.
const ESCAPE_SIGNS: [(Encoding, &str); 18] = [
    (Encoding::Backslash, r":\/\/"),
    (Encoding::Backslash, r"\u003a\u002f\u002f"),
    (Encoding::Backslash, r"\u003A\u002F\u002F"),
    (Encoding::Backslash, r"\x3a\x2f\x2f"),
    (Encoding::Backslash, r"\x3A\x2F\x2F"),
    (Encoding::Backslash, r"\u0026"),
    (Encoding::Backslash, r"\u003d"),
    (Encoding::Backslash, r#"\":\""#),
    (Encoding::Backslash, r#"\": \""#),
    (Encoding::Percent, "%3A%2F%2F"),
    (Encoding::Percent, "%3a%2f%2f"),
    (Encoding::Percent, "%22%3A%22"),
    (Encoding::Entity, "&quot;:&quot;"),
    (Encoding::Entity, "&quot;: &quot;"),
    (Encoding::Entity, "&amp;X-"),
    (Encoding::Entity, "&amp;sig="),
    (Encoding::Entity, "&#x2F;&#x2F;"),
    (Encoding::Entity, "&#47;&#47;"),
];

/// The encoded keywords of all `keywords`, without duplicates, in an order that only depends on the encoded keywords.
pub fn encoded_keywords<'k>(keywords: impl IntoIterator<Item = Keyword<'k>>) -> Vec<EncodedKeyword> {
    let mut all = BTreeSet::new();
    for (encoding, text) in ESCAPE_SIGNS {
        all.insert(literal(encoding, text));
    }
    for keyword in keywords.into_iter().filter(|keyword| keyword.text.len() >= MIN_KEYWORD) {
        for form in forms(keyword) {
            encoded(&form, keyword.vague, &mut all);
        }
        // Keywords of binary formats do not occur in text.
        if keyword.text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            all.extend(utf16(keyword));
        }
    }
    all.into_iter().collect()
}

/// The spellings of a keyword for encodings that do not keep letters of different case apart.
fn forms(keyword: Keyword<'_>) -> BTreeSet<String> {
    let text = keyword.text;
    if !keyword.any_case {
        return BTreeSet::from([text.to_string()]);
    }
    let lower = text.to_ascii_lowercase();
    let mut capitalized = lower.clone();
    capitalized[..].get_mut(..1).map(str::make_ascii_uppercase);
    BTreeSet::from([text.to_ascii_uppercase(), capitalized, lower])
}

fn encoded(form: &str, vague: bool, all: &mut BTreeSet<EncodedKeyword>) {
    let bytes = form.as_bytes();
    let each = |write: fn(u8) -> String| bytes.iter().map(|&byte| write(byte)).collect::<String>();
    for (digit, digits) in base64(bytes) {
        all.insert(literal_base64(digit, &digits));
        if !vague {
            all.extend(base64(digits.as_bytes()).into_iter().map(|(digit, digits)| literal_base64(digit, &digits)));
        }
    }
    if !vague {
        // Commands for PowerShell are UTF-16 in base64.
        let wide: Vec<u8> = bytes.iter().flat_map(|&byte| [byte, 0]).collect();
        all.extend(base64(&wide).into_iter().map(|(digit, digits)| literal_base64(digit, &digits)));
    }
    all.insert(literal(Encoding::Hex, &each(|byte| format!("{byte:02x}"))));
    if !vague {
        all.insert(literal(Encoding::Backslash, &each(|byte| format!(r"\x{byte:02x}"))));
        all.insert(literal(Encoding::Backslash, &each(|byte| format!(r"\u{byte:04x}"))));
        all.insert(literal(Encoding::Percent, &each(|byte| format!("%{byte:02x}"))));
        all.insert(literal(Encoding::Entity, &each(|byte| format!("&#{byte};"))));
        all.insert(literal(Encoding::Entity, &each(|byte| format!("&#x{byte:02x};"))));
        for separator in [",", ", "] {
            let list: Vec<String> = bytes.iter().map(|byte| format!("0x{byte:02x}")).collect();
            all.insert(literal(Encoding::ByteList, &list.join(separator)));
        }
    }
}

/// An encoded keyword for `text`, whose letters are hexadecimal digits or escape names and match in either case.
fn literal(encoding: Encoding, text: &str) -> EncodedKeyword {
    EncodedKeyword { encoding, expression: format!("(?i){}", regex_syntax::escape(text)), width: text.len() }
}

/// An encoded keyword for base64 digits in both alphabets, which differ in two digits.
fn literal_base64(digit: u8, digits: &str) -> EncodedKeyword {
    let expression = regex_syntax::escape(digits).replace(r"\+", "[+-]").replace('/', "[/_]");
    EncodedKeyword { encoding: Encoding::Base64 { digit }, expression, width: digits.len() }
}

/// The base64 digits that do not depend on the bytes around `bytes`, for each of the three alignments, with the
/// position of the first digit in its group of four.
fn base64(bytes: &[u8]) -> Vec<(u8, String)> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bit = |at: usize| usize::from(bytes[at / 8] >> (7 - at % 8) & 1);
    let digit = |from: usize| char::from(DIGITS[(from..from + 6).fold(0, |value, at| value << 1 | bit(at))]);
    let at_alignment = |before: usize| {
        // A digit that shares bits with the bytes before is left out.
        let first = (before * 8).next_multiple_of(6);
        let digits: String = (first..)
            .step_by(6)
            .take_while(|at| at + 6 <= (before + bytes.len()) * 8)
            .map(|at| digit(at - before * 8))
            .collect();
        ((first / 6 % 4) as u8, digits)
    };
    (0..3).map(at_alignment).filter(|(_, digits)| digits.len() >= MIN_BASE64_DIGITS).collect()
}

fn utf16(keyword: Keyword<'_>) -> [EncodedKeyword; 2] {
    let any_case = if keyword.any_case { "(?i)" } else { "" };
    [(Encoding::Utf16Le, 0), (Encoding::Utf16Be, 1)].map(|(encoding, low)| {
        let unit = |byte: u8| if low == 0 { format!(r"\x{byte:02x}\x00") } else { format!(r"\x00\x{byte:02x}") };
        let units: String = keyword.text.bytes().map(unit).collect();
        EncodedKeyword { encoding, expression: format!("{any_case}{units}"), width: 2 * keyword.text.len() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<EncodedKeyword> {
        encoded_keywords([Keyword { text, any_case: false, vague: false }])
    }

    #[test]
    fn base64_at_every_alignment() {
        // "x", "xx" and "xxx" in front of ghp_: eGdocF8, eHhnaHBf, eHh4Z2hwXw.
        assert_eq!(base64(b"ghp_"), [(0, "Z2hwX".into()), (2, "docF".into()), (3, "naHBf".into())]);
        let digits: Vec<u8> = of("ghp_")
            .iter()
            .filter_map(|keyword| match keyword.encoding {
                Encoding::Base64 { digit } if keyword.expression == "docF" => Some(digit),
                _ => None,
            })
            .collect();
        assert_eq!(digits, [2]);
    }

    #[test]
    fn forms_of_a_keyword_of_any_case() {
        let keyword = Keyword { text: "api_key", any_case: true, vague: true };
        assert_eq!(forms(keyword).into_iter().collect::<Vec<_>>(), ["API_KEY", "Api_key", "api_key"]);
    }

    #[test]
    fn short_keywords_have_no_anchors() {
        assert_eq!(of("sk-"), of("x"));
        assert!(of("AKIA").len() > of("sk-").len() + 20);
    }
}
