//! What is secret in a value by itself: the password of a URL, of a pair `user:password` in base64, of a connection
//! string.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use layersift_model::percent_decoded;

/// Names in connection strings whose values are secret.
const NAMES: [&str; 8] = ["password", "passwd", "pwd", "pass", "accountkey", "sharedaccesskey", "secret", "token"];

/// `value` and its secret parts, each as it is and without the escapes of URLs. What has fewer than
/// [`super::SHORTEST`] bytes is left out.
pub fn parts(value: &[u8]) -> BTreeSet<Vec<u8>> {
    let mut found = BTreeSet::from([value.to_vec()]);
    if let Ok(text) = std::str::from_utf8(value) {
        let mut texts = BTreeSet::new();
        add_parts(text.trim(), &mut texts);
        found.extend(texts.into_iter().map(String::into_bytes));
    }
    found.retain(|part| part.len() >= super::SHORTEST);
    found
}

fn add_parts(value: &str, found: &mut BTreeSet<String>) {
    found.insert(value.to_string());
    found.extend(password_of_url(value).map(String::from));
    let decoded = STANDARD.decode(value).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    if let Some(decoded) = decoded.filter(|text| text.chars().all(|c| !c.is_control())) {
        found.extend(decoded.split_once(':').map(|(_, password)| password.to_string()));
        found.insert(decoded);
    }
    for part in value.split([';', '&', '?', ' ', '\n']) {
        let Some((name, part)) = part.split_once('=') else { continue };
        let name = name.trim().to_ascii_lowercase();
        if NAMES.iter().any(|known| name.ends_with(known)) {
            found.insert(part.trim().trim_matches(['"', '\'']).to_string());
        }
    }
    let decoded: Vec<String> = found.iter().map(|value| without_escapes(value)).collect();
    found.extend(decoded);
}

fn password_of_url(value: &str) -> Option<&str> {
    let (_, rest) = value.split_once("://")?;
    let (login, _) = rest.rsplit_once('@')?;
    let (_, password) = login.split_once(':')?;
    Some(password)
}

/// `text` without the escapes of URLs; what is not UTF-8 then stays as it is.
pub(super) fn without_escapes(text: &str) -> String {
    String::from_utf8(percent_decoded(text.as_bytes())).unwrap_or_else(|_| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(value: &str, part: &str) -> bool {
        parts(value.as_bytes()).contains(part.as_bytes())
    }

    #[test]
    fn the_secret_parts_of_a_value() {
        assert!(has("postgres://svc:made%40up-words@db.example/app", "made@up-words"));
        assert!(has("c3ZjOm1hZGUtdXAtd29yZHM=", "made-up-words"));
        assert!(has("Server=db;User=svc;Password='made-up-words';", "made-up-words"));
        assert!(has(" padded-with-space ", "padded-with-space") && has(" padded-with-space ", " padded-with-space "));
        assert!(parts(b"short").is_empty());
        assert_eq!(parts(&[0xff; 40]).len(), 1);
    }
}
