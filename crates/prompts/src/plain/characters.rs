//! Characters that nobody sees, and those that look like a character of ASCII.

use layersift_model::is_invisible;

/// What a character or an escape is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    AsItIs,
    Nothing,
    Byte(u8),
    Character(char),
}

/// What a character that is not ASCII is read as between two bytes.
pub(super) fn reading(character: char, before: Option<u8>, after: Option<u8>) -> Reading {
    if is_left_out(character) {
        return Reading::Nothing;
    }
    if let Some(byte) = compatible(character) {
        return Reading::Byte(byte);
    }
    // Whole words of other scripts are what they are.
    let is_of_token = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match look_alike(character) {
        Some(byte) if is_of_token(before) || is_of_token(after) => Reading::Byte(byte),
        _ => Reading::AsItIs,
    }
}

/// Whether a character takes no place. Tags, of which some stand for ASCII, are not among them.
fn is_left_out(character: char) -> bool {
    match character {
        '\u{e0020}'..='\u{e007e}' => false,
        '\u{80}'..='\u{9f}' => true,
        character => is_invisible(character),
    }
}

/// The character of ASCII that Unicode says a character is a form of: full-width, mathematical, circled, raised and
/// lowered ones, and tags.
fn compatible(character: char) -> Option<u8> {
    let code = u32::from(character);
    let from = |first: u32, ascii: u8| u8::try_from(code - first).ok().map(|offset| ascii + offset);
    match code {
        0xff01..=0xff5e => from(0xff01, b'!'),
        0xe0020..=0xe007e => from(0xe0020, b' '),
        0x1d400..=0x1d6a3 => letter((code - 0x1d400) % 52),
        0x1d7ce..=0x1d7ff => u8::try_from((code - 0x1d7ce) % 10).ok().map(|digit| b'0' + digit),
        0x24b6..=0x24cf => from(0x24b6, b'A'),
        0x24d0..=0x24e9 => from(0x24d0, b'a'),
        0x1f130..=0x1f149 => from(0x1f130, b'A'),
        0x1f150..=0x1f169 => from(0x1f150, b'A'),
        0x1f170..=0x1f189 => from(0x1f170, b'A'),
        0x2460..=0x2468 => from(0x2460, b'1'),
        0x24ea => Some(b'0'),
        0x2070 | 0x2074..=0x2079 => from(0x2070, b'0'),
        0x2080..=0x2089 => from(0x2080, b'0'),
        0xb2 => Some(b'2'),
        0xb3 => Some(b'3'),
        0xb9 => Some(b'1'),
        // Letters that mathematical ones leave out, as they were there before.
        0x210e => Some(b'h'),
        0x2102 | 0x212d => Some(b'C'),
        0x210a => Some(b'g'),
        0x210b..=0x210d => Some(b'H'),
        0x2110 | 0x2111 => Some(b'I'),
        0x2112 => Some(b'L'),
        0x2115 => Some(b'N'),
        0x2119 => Some(b'P'),
        0x211a => Some(b'Q'),
        0x211b..=0x211d => Some(b'R'),
        0x2124 | 0x2128 => Some(b'Z'),
        0x212c => Some(b'B'),
        0x212f => Some(b'e'),
        0x2130 => Some(b'E'),
        0x2131 => Some(b'F'),
        0x2133 => Some(b'M'),
        0x2134 => Some(b'o'),
        _ => None,
    }
}

fn letter(index: u32) -> Option<u8> {
    let index = u8::try_from(index).ok()?;
    Some(if index < 26 { b'A' + index } else { b'a' + index - 26 })
}

/// The character of ASCII that a character of another script looks like in most fonts (Unicode, `confusables.txt`), and
/// the hyphen that word processors write differently.
fn look_alike(character: char) -> Option<u8> {
    const ALIKE: [(&str, u8); 51] = [
        ("аα", b'a'),
        ("сϲ", b'c'),
        ("ԁ", b'd'),
        ("еҽ", b'e'),
        ("ɡց", b'g'),
        ("һհ", b'h'),
        ("іıι", b'i'),
        ("јϳ", b'j'),
        ("κ", b'k'),
        ("ӏ", b'l'),
        ("ոռ", b'n'),
        ("оοօ", b'o'),
        ("рρ", b'p'),
        ("ԛ", b'q'),
        ("г", b'r'),
        ("ѕ", b's'),
        ("ս", b'u'),
        ("ѵν", b'v'),
        ("ԝ", b'w'),
        ("хχ", b'x'),
        ("уγ", b'y'),
        ("АΑ", b'A'),
        ("ВΒ", b'B'),
        ("СϹ", b'C'),
        ("ЕΕ", b'E'),
        ("Ԍ", b'G'),
        ("НΗ", b'H'),
        ("ІΙӀ", b'I'),
        ("ЈͿ", b'J'),
        ("КΚ", b'K'),
        ("МΜ", b'M'),
        ("Ν", b'N'),
        ("ОΟՕ", b'O'),
        ("РΡ", b'P'),
        ("Ԛ", b'Q'),
        ("Ѕ", b'S'),
        ("ТΤ", b'T'),
        ("Ս", b'U'),
        ("Ѵ", b'V'),
        ("Ԝ", b'W'),
        ("ХΧ", b'X'),
        ("ҮΥ", b'Y'),
        ("Ζ", b'Z'),
        ("З", b'3'),
        ("б", b'6'),
        ("٠۰", b'0'),
        ("١۱", b'1'),
        ("\u{2010}\u{2011}\u{2012}\u{2013}\u{2014}\u{2015}\u{2212}", b'-'),
        ("\u{2018}\u{2019}", b'\''),
        ("\u{2044}\u{2215}", b'/'),
        ("\u{a0}\u{2007}\u{202f}", b' '),
    ];
    ALIKE.iter().find(|(alike, _)| alike.contains(character)).map(|(_, ascii)| *ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_ascii_are_ascii() {
        let text: String = "ｇ𝗀𝓰ⓖ🄶１𝟏₁¹①\u{e0067}".chars().filter_map(compatible).map(char::from).collect();
        assert_eq!(text, "ggggG11111g");
        assert_eq!(reading('𝒑', None, None), Reading::Byte(b'p'));
        assert_eq!(reading('ℎ', None, None), Reading::Byte(b'h'));
    }

    #[test]
    fn letters_of_other_scripts_are_what_they_are_among_themselves() {
        assert_eq!(reading('о', Some(b' '), Some(0xd1)), Reading::AsItIs);
        assert_eq!(reading('о', Some(b'h'), Some(0xd1)), Reading::Byte(b'o'));
        assert_eq!(reading('\u{2011}', Some(b't'), Some(b'Z')), Reading::Byte(b'-'));
        assert_eq!(reading('é', Some(b'h'), Some(b'h')), Reading::AsItIs);
        assert_eq!(reading('\u{200d}', None, None), Reading::Nothing);
    }
}
