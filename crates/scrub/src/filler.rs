//! What takes the place of a secret: as many bytes, which no rule takes for a secret.

/// Secrets of fewer bytes may be words that occur elsewhere. They are only blanked where a finding is, or, in a
/// document, where they are a whole word.
pub(crate) const LONG: usize = 16;

/// The byte that is written. It is a letter, so that JSON, URLs and shell text stay what they are.
const BYTE: u8 = b'x';

/// As many bytes as `secret` has. Line breaks stay, so that the lines of the file do.
pub(crate) fn filler(secret: &[u8]) -> Vec<u8> {
    secret.iter().map(|&byte| if matches!(byte, b'\n' | b'\r') { byte } else { BYTE }).collect()
}

/// `text` with every occurrence of `secret` replaced by filler; `None` if there is none.
pub(crate) fn mask(text: &str, secret: &str) -> Option<String> {
    if secret.is_empty() {
        return None;
    }
    let is_word = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let mut masked = String::with_capacity(text.len());
    let (mut rest, mut last, mut is_found) = (0, 0, false);
    while let Some(at) = text[rest..].find(secret).map(|at| rest + at) {
        let end = at + secret.len();
        let bytes = text.as_bytes();
        let is_inside = is_word(at.checked_sub(1).and_then(|at| bytes.get(at))) || is_word(bytes.get(end));
        if secret.len() < LONG && is_inside {
            rest = at + secret.chars().next().map_or(1, char::len_utf8);
            continue;
        }
        masked.push_str(&text[last..at]);
        masked.extend(filler(secret.as_bytes()).iter().map(|&byte| char::from(byte)));
        (rest, last, is_found) = (end, end, true);
    }
    masked.push_str(&text[last..]);
    is_found.then_some(masked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_and_the_lines_stay() {
        assert_eq!(filler(b"ab\r\nc\xc3\xa9"), b"xx\r\nxxx");
    }

    #[test]
    fn a_long_secret_is_masked_everywhere_and_a_short_one_as_a_word() {
        let long = "0123456789abcdefgh";
        assert_eq!(mask(&format!("a{long}b {long}"), long), Some(format!("a{0}b {0}", "x".repeat(18))));
        assert_eq!(mask("pw=hunter2;hunter22", "hunter2").as_deref(), Some("pw=xxxxxxx;hunter22"));
        assert_eq!(mask("hunter22", "hunter2"), None);
        assert_eq!(mask("é-é", "é").as_deref(), Some("xx-xx"));
    }
}
