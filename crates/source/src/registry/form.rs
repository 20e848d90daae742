//! What a server says a body is: its content type and its content encoding. They explain a body that is not what was
//! requested, such as the login page of a proxy, better than the place where a parser stumbles.

use std::fmt;

use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName};

/// Content encodings that change the bytes (RFC 9110, section 8.4.1, and RFC 7932, 8878). Storage servers also send
/// values that do not, such as `aws-chunked`.
const ENCODINGS: [&str; 7] = ["gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress"];

/// The most characters of a header that are kept.
const MAX_TEXT: usize = 100;

/// The `Content-Type` and the `Content-Encoding` of a response. `Display` says what was received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BodyForm {
    /// The media type, without its parameters.
    pub content_type: Option<String>,
    /// The encoding, if it is one that changes the bytes. None is ever requested.
    pub content_encoding: Option<String>,
}

impl BodyForm {
    pub(super) fn of(headers: &HeaderMap) -> BodyForm {
        let content_type = values(headers, CONTENT_TYPE).next();
        let content_type = content_type.and_then(|value| value.split(';').next().map(str::trim));
        let mut encodings = values(headers, CONTENT_ENCODING).flat_map(|value| value.split(',')).map(str::trim);
        let is_known = |encoding: &&str| ENCODINGS.iter().any(|known| known.eq_ignore_ascii_case(encoding));
        let text = |text: &str| text.chars().take(MAX_TEXT).collect::<String>();
        BodyForm {
            content_type: content_type.filter(|text| !text.is_empty()).map(text),
            content_encoding: encodings.find(is_known).map(text),
        }
    }

    /// Whether the body was encoded, although that was not requested.
    pub(super) fn is_encoded(&self) -> bool {
        self.content_encoding.is_some()
    }

    /// Whether it is a page for a browser.
    pub(super) fn is_page(&self) -> bool {
        let is = |page: &str| self.content_type.as_deref().is_some_and(|text| text.eq_ignore_ascii_case(page));
        is("text/html") || is("application/xhtml+xml")
    }

    /// Whether it explains why `bytes` are not JSON.
    pub(super) fn explains(&self, bytes: &[u8]) -> bool {
        let is_json = |text: &String| text.to_ascii_lowercase().contains("json");
        let begins_like_json = matches!(bytes.trim_ascii_start().first(), Some(b'{' | b'['));
        self.is_encoded() || (!begins_like_json && self.content_type.as_ref().is_some_and(|text| !is_json(text)))
    }

    /// The same with its texts through `mask`, which removes credentials.
    pub(super) fn masked(self, mask: impl Fn(&str) -> String) -> BodyForm {
        BodyForm {
            content_type: self.content_type.map(|text| mask(&text)),
            content_encoding: self.content_encoding.map(|text| mask(&text)),
        }
    }
}

impl fmt::Display for BodyForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.content_encoding, &self.content_type) {
            (Some(encoding), _) => {
                let advice = "which was not requested; turn off compression in the proxy before the registry";
                write!(f, "content encoding `{encoding}`, {advice}")
            }
            (None, Some(kind)) if self.is_page() => {
                write!(f, "`{kind}`; a login page or a proxy answers in place of the registry")
            }
            (None, Some(kind)) => write!(f, "`{kind}`"),
            (None, None) => f.write_str("a body without a content type"),
        }
    }
}

fn values(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn form(headers: &[(HeaderName, &'static str)]) -> BodyForm {
        let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
        BodyForm::of(&HeaderMap::from_iter(headers))
    }

    #[test]
    fn encodings_that_change_the_bytes() {
        for (value, encoding) in [
            ("gzip", Some("gzip")),
            ("aws-chunked, BR", Some("BR")),
            ("identity", None),
            ("aws-chunked", None),
            ("", None),
        ] {
            assert_eq!(form(&[(CONTENT_ENCODING, value)]).content_encoding.as_deref(), encoding, "{value}");
        }
    }

    #[test]
    fn what_a_form_explains() {
        let html = form(&[(CONTENT_TYPE, "Text/HTML; charset=utf-8")]);
        assert!(html.is_page() && html.explains(b" <html>") && !html.explains(b"\n{}"));
        assert_eq!(html.to_string(), "`Text/HTML`; a login page or a proxy answers in place of the registry");
        let json = form(&[(CONTENT_TYPE, "application/vnd.oci.image.manifest.v1+json")]);
        assert!(!json.is_page() && !json.explains(b"<html>") && !form(&[]).explains(b"<html>"));
        let encoded = form(&[(CONTENT_TYPE, "application/json"), (CONTENT_ENCODING, "gzip")]);
        assert!(encoded.explains(b"\x1f\x8b") && encoded.to_string().contains("content encoding `gzip`"));
    }
}
