//! How a Harbor shows a secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The header that Harbor calls `X-ScannerAdapter-API-Key`.
const API_KEY: &str = "x-scanneradapter-api-key";

/// The secret that the headers of a request show, in any of the ways that Harbor has: the password of Basic, a Bearer
/// token, or an API key.
pub(crate) fn shown(headers: &axum::http::HeaderMap) -> Option<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(key) = text(API_KEY) {
        return Some(key.to_string());
    }
    let (scheme, value) = text("authorization")?.split_once(' ')?;
    let value = value.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.to_string());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let login = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
    Some(login.split_once(':')?.1.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderMap, HeaderValue};

    fn with(name: &'static str, value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        shown(&headers)
    }

    #[test]
    fn a_secret_is_shown_in_any_of_three_ways() {
        let basic = format!("Basic {}", STANDARD.encode("harbor:a:secret"));
        assert_eq!(with("authorization", &basic).as_deref(), Some("a:secret"));
        assert_eq!(with("authorization", "bearer a-secret").as_deref(), Some("a-secret"));
        assert_eq!(with("x-scanneradapter-api-key", "a-secret").as_deref(), Some("a-secret"));
        for wrong in ["", "a-secret", "Basic ", "Basic !!", "Digest a-secret"] {
            assert_eq!(with("authorization", wrong), None, "{wrong}");
        }
    }
}
