//! The mask that redacted copies have in place of a secret.

/// What every mask begins with.
pub const OPENING: &str = "[MASKED ";

/// The most bytes of a mask.
pub const LONGEST: usize = 160;

/// What stands in place of a secret that `rule` found.
pub fn of(rule: &str) -> String {
    format!("{OPENING}{rule}]")
}

/// The length of the mask that `text` begins with; `None` if it begins with none. Nothing in the form of an id of a
/// rule is lost by it: these have no capitals.
pub fn length(text: &[u8]) -> Option<usize> {
    let rule = text.strip_prefix(OPENING.as_bytes())?;
    let is_plain = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    let end = rule.iter().take(LONGEST - OPENING.len() - 1).take_while(|byte| is_plain(byte)).count();
    (end > 0 && rule.get(end) == Some(&b']')).then_some(OPENING.len() + end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_known_by_its_form() {
        assert_eq!(of("gitlab.token"), "[MASKED gitlab.token]");
        assert_eq!(length(b"[MASKED gitlab.token] more"), Some(21));
        for text in [&b""[..], b"[MASKED ", b"[MASKED x", b"[MASKED ]", b"[MASKED Secret]", b" [MASKED x]"] {
            assert_eq!(length(text), None, "{text:?}");
        }
    }
}
