//! Arguments as messages and records may show them: without the logins and PINs that may be in them.

/// What hides a part.
const MASK: &str = "***";

/// Parts of a URI of a key that are secret (RFC 7512).
const PINS: [&str; 2] = ["pin-value=", "pin-source="];

/// `argument` without the login of each URL and the PIN of each URI in it.
pub(crate) fn argument(argument: &str) -> String {
    PINS.iter().fold(without_logins(argument), |text, pin| without_pin(&text, pin))
}

fn without_logins(text: &str) -> String {
    let (mut masked, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("//") {
        masked += before;
        masked += "//";
        // A login may have any character but these; a password with a slash in it is hidden up to the last @.
        let end = after.find(|c: char| c.is_whitespace()).unwrap_or(after.len());
        let (authority, _) = after.split_at(after.find(['/', '?', '#']).unwrap_or(end).min(end));
        let login = authority.rfind('@').or_else(|| after[..end].rfind('@').filter(|_| authority.contains(':')));
        rest = match login {
            Some(at) => {
                masked += MASK;
                &after[at..]
            }
            None => after,
        };
    }
    masked + rest
}

fn without_pin(text: &str, pin: &str) -> String {
    let (mut masked, mut rest) = (String::new(), text);
    while let Some(at) = rest.to_ascii_lowercase().find(pin) {
        let start = at + pin.len();
        masked += &rest[..start];
        masked += MASK;
        let value = &rest[start..];
        rest = &value[value.find(['&', ';']).unwrap_or(value.len())..];
    }
    masked + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_and_pins_are_hidden() {
        for (text, expected) in [
            ("http://user:made-up@tsa.example/x", "http://***@tsa.example/x"),
            ("--timestamp=https://made-up@tsa.example", "--timestamp=https://***@tsa.example"),
            ("https://user:made/up@tsa.example", "https://***@tsa.example"),
            ("https://tsa.example/a@b", "https://tsa.example/a@b"),
            (
                "registry:https://u:p@one.example/x https://u:p@two.example",
                "registry:https://***@one.example/x https://***@two.example",
            ),
            ("pkcs11:token=a?module-path=/x.so&pin-value=98765", "pkcs11:token=a?module-path=/x.so&pin-value=***"),
            ("pkcs11:token=a?PIN-VALUE=98765&x=1", "pkcs11:token=a?PIN-VALUE=***&x=1"),
            ("oci:dir", "oci:dir"),
        ] {
            assert_eq!(argument(text), expected);
        }
    }
}
