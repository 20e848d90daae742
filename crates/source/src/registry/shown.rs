//! What messages show of the texts of a registry, in which a secret may be: one of ours that it echoes, or another.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What hides a part.
const MASK: &str = "****";

/// What hides a part of a path.
const ELLIPSIS: &str = "…";

/// The most bytes of a path that is shown.
const LONGEST_PATH: usize = 512;

/// The fewest bytes of a word that is taken for a secret.
const SHORTEST_TOKEN: usize = 12;

/// The fewest bytes of a word of capitals and digits that is taken for a secret.
const SHORTEST_OF_CAPITALS: usize = 16;

/// The parts of paths of other interfaces, such as those of token servers.
const KNOWN: [&str; 14] = [
    "token",
    "auth",
    "authn",
    "oauth2",
    "oauth",
    "jwt",
    "service",
    "services",
    "acr",
    "artifactory",
    "docker",
    "registry",
    "v1",
    "v2",
];

/// The path of a URL: those of the interface of a registry, without what looks like a secret, and known words of
/// others. A registry redirects to any path, which may have a token or our password in it.
pub(super) fn path(path: &str) -> String {
    let is_of_a_registry = path.starts_with("/api/") || path.starts_with("/v2/") || path.contains("/v2/");
    let parts: Vec<&str> = path.split('/').collect();
    let is_shown = |at: usize, part: &str| {
        let is_tag = at > 0 && parts.get(at - 1) == Some(&"manifests");
        part.is_empty()
            || KNOWN.contains(&part)
            || is_of_a_registry
                && (is_tag || !part.contains('%') && !part.split(['-', '_', '.']).any(is_token) && !is_token(part))
    };
    let mut shown: Vec<&str> = Vec::new();
    let mut length = 0;
    for (at, part) in parts.iter().enumerate() {
        length += part.len() + 1;
        let next = if is_shown(at, part) && length <= LONGEST_PATH { part } else { ELLIPSIS };
        if next != ELLIPSIS || shown.last() != Some(&ELLIPSIS) {
            shown.push(next);
        }
    }
    shown.join("/")
}

/// `text` without `secrets`, in the forms in which a server may echo them, and without words that look like one.
pub(super) fn text(text: &str, secrets: &[String]) -> String {
    let mut forms: Vec<String> =
        secrets.iter().filter(|secret| !secret.is_empty()).flat_map(|secret| forms(secret)).collect();
    forms.sort_unstable_by_key(|form| std::cmp::Reverse(form.len()));
    let text = forms.iter().fold(text.to_string(), |text, form| text.replace(form, MASK));
    let mut out = String::with_capacity(text.len());
    for piece in text.split_inclusive(|c: char| !is_of_a_word(c)) {
        let word = piece.trim_end_matches(|c: char| !is_of_a_word(c));
        out += if is_token(word) { MASK } else { word };
        out += &piece[word.len()..];
    }
    out
}

fn is_of_a_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '%')
}

/// A secret as it is, in Base64, in hexadecimal digits, and as a part of a URL.
fn forms(secret: &str) -> Vec<String> {
    let bytes = secret.as_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let percent: String = bytes.iter().map(|byte| format!("%{byte:02X}")).collect();
    let url = bytes.iter().map(|byte| match byte {
        b'-' | b'_' | b'.' | b'~' => char::from(*byte).to_string(),
        byte if byte.is_ascii_alphanumeric() => char::from(*byte).to_string(),
        byte => format!("%{byte:02X}"),
    });
    let url: String = url.collect();
    let forms = [secret.into(), STANDARD.encode(bytes), hex.to_uppercase(), hex, percent.to_lowercase(), percent, url];
    forms.into()
}

/// Whether a word is like no word of a language and no name: long, and of digits and both cases, or of capitals and
/// digits. Digests, of lower case and digits, are none.
fn is_token(word: &str) -> bool {
    let has = |is: fn(&u8) -> bool| word.bytes().any(|byte| is(&byte));
    let (digit, lower, upper) = (has(u8::is_ascii_digit), has(u8::is_ascii_lowercase), has(u8::is_ascii_uppercase));
    let is_capitals = upper && !lower && !word.contains(['-', '_', '.']);
    digit && (upper && lower && word.len() >= SHORTEST_TOKEN || is_capitals && word.len() >= SHORTEST_OF_CAPITALS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWORD: &str = "mN7dEuP4wOrD2x";

    #[test]
    fn paths_of_registries_are_shown_and_no_secret_in_one() {
        let digest = format!("/v2/team/app/blobs/sha256:{}", "0a".repeat(32));
        for same in [&digest[..], "/v2/", "/v2/team/app-1.0/manifests/Release-2024Q1x", "/token", "/service/token", "/"]
        {
            assert_eq!(path(same), same);
        }
        for (given, expected) in [
            ("/made-up/login", "/…"),
            ("/v2/x/blobs/uploads/mN7dEuP4wOrD2x", "/v2/x/blobs/uploads/…"),
            ("/mN7dEuP4wOrD2x/Ym9iOm1hZGUtdXA=", "/…"),
            ("/v2/%6d%61/tags/list", "/v2/…/tags/list"),
            ("/auth/made-up/token", "/auth/…/token"),
        ] {
            assert_eq!(path(given), expected);
        }
    }

    #[test]
    fn secrets_are_masked_in_every_form() {
        let secrets = [PASSWORD.to_string(), "a b+c".into()];
        for form in secrets.iter().flat_map(|secret| forms(secret)) {
            assert_eq!(text(&format!("sent {form}, denied"), &secrets), "sent ****, denied", "{form}");
        }
        assert_eq!(text("code=glpat-mN7dEuP4wOrD2x;", &[]), "code=****;");
        let plain =
            "DENIED: no access to [map[Type:repository Name:library/ubuntu2204 Action:pull]], 2024-01-02T03:04:05Z";
        assert_eq!(text(plain, &[]), plain);
    }
}
