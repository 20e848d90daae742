//! os-release(5): the distribution of an image.

use layersift_model::Distribution;

use crate::fields::{lines, text};

/// The longest id and version of a distribution, in characters. They are part of the URL of every package, and longer
/// ones name nothing.
const LONGEST: usize = 128;

/// The distribution that the bytes of an `os-release` name.
pub fn distribution(bytes: &[u8]) -> Option<Distribution> {
    let mut found = Distribution::default();
    for line in lines(bytes) {
        let Some(at) = line.iter().position(|&byte| byte == b'=') else { continue };
        let (name, value) = (&line[..at], text(&line[at + 1..]));
        let value = value.trim_matches(['"', '\'']).to_string();
        match name {
            b"ID" | b"VERSION_ID" if value.chars().count() > LONGEST => {}
            b"ID" => found.id = value,
            b"VERSION_ID" => found.version = Some(value),
            b"PRETTY_NAME" => found.title = Some(value),
            _ => {}
        }
    }
    (!found.id.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_removed() {
        let found = distribution(b"NAME=x\nID=\"rocky\"\nVERSION_ID='9.4'\nPRETTY_NAME=\"Rocky Linux 9.4\"\n").unwrap();
        assert_eq!((&*found.id, found.version.as_deref()), ("rocky", Some("9.4")));
        assert_eq!(distribution(b"NAME=x\n"), None);
        let long = "x".repeat(LONGEST + 1);
        assert_eq!(distribution(format!("ID={long}\n").as_bytes()), None);
        assert_eq!(distribution(format!("ID=a\nVERSION_ID={long}\n").as_bytes()).unwrap().version, None);
    }
}
