//! Error responses: the JSON that a registry explains a 4xx or 5xx status with.
//!
//! Source: OCI distribution-spec v1.1, "Error Codes".

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use layersift_model::parse;

use super::shown;

/// Bytes of an error response that are read.
pub(super) const MAX_BYTES: u64 = 8 << 10;

/// Errors of one response that are kept.
const MAX_ERRORS: usize = 3;

/// Characters of a message that are kept.
const MAX_MESSAGE: usize = 400;

/// What a server answered with a status other than the expected ones. Credentials that were sent along, and came back
/// in its texts, are masked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorResponse {
    /// The HTTP status.
    pub status: u16,
    /// The error codes in the body.
    pub codes: Vec<RegistryErrorCode>,
    /// The codes and their messages as text, for people.
    pub message: Option<String>,
    /// Whether it came from the storage server that the registry redirected to.
    pub is_from_storage: bool,
}

impl ErrorResponse {
    /// Whether it is an answer of a registry: it has an error code of one, which that of a proxy or a storage has not.
    pub fn is_of_registry(&self) -> bool {
        !self.is_from_storage && !self.codes.is_empty()
    }
}

/// The error codes of the distribution-spec, and Docker's `TOOMANYREQUESTS`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum RegistryErrorCode {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    TooManyRequests,
    /// A code of the registry's own, such as Harbor's `PROJECTPOLICYVIOLATION`.
    Other(String),
}

/// The codes as they are written in JSON.
const CODES: [(&str, RegistryErrorCode); 14] = [
    ("BLOB_UNKNOWN", RegistryErrorCode::BlobUnknown),
    ("BLOB_UPLOAD_INVALID", RegistryErrorCode::BlobUploadInvalid),
    ("BLOB_UPLOAD_UNKNOWN", RegistryErrorCode::BlobUploadUnknown),
    ("DIGEST_INVALID", RegistryErrorCode::DigestInvalid),
    ("MANIFEST_BLOB_UNKNOWN", RegistryErrorCode::ManifestBlobUnknown),
    ("MANIFEST_INVALID", RegistryErrorCode::ManifestInvalid),
    ("MANIFEST_UNKNOWN", RegistryErrorCode::ManifestUnknown),
    ("NAME_INVALID", RegistryErrorCode::NameInvalid),
    ("NAME_UNKNOWN", RegistryErrorCode::NameUnknown),
    ("SIZE_INVALID", RegistryErrorCode::SizeInvalid),
    ("UNAUTHORIZED", RegistryErrorCode::Unauthorized),
    ("DENIED", RegistryErrorCode::Denied),
    ("UNSUPPORTED", RegistryErrorCode::Unsupported),
    ("TOOMANYREQUESTS", RegistryErrorCode::TooManyRequests),
];

impl FromStr for RegistryErrorCode {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<RegistryErrorCode, Infallible> {
        let known = CODES.iter().find(|(name, _)| *name == text).map(|(_, code)| code.clone());
        Ok(known.unwrap_or_else(|| RegistryErrorCode::Other(text.into())))
    }
}

impl fmt::Display for RegistryErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = CODES.iter().find(|(_, code)| code == self).map(|(name, _)| *name);
        f.write_str(match self {
            RegistryErrorCode::Other(text) => text,
            _ => name.unwrap_or_default(),
        })
    }
}

impl ErrorResponse {
    /// A response of which only the status is known.
    pub(super) fn of_status(status: u16) -> ErrorResponse {
        ErrorResponse { status, ..ErrorResponse::default() }
    }

    /// Reads the body of a response. Texts go through `mask`, which removes credentials.
    pub(super) fn parse(status: u16, body: &[u8], mask: impl Fn(&str) -> String) -> ErrorResponse {
        #[derive(serde::Deserialize)]
        struct Errors {
            errors: Vec<Item>,
        }
        #[derive(serde::Deserialize)]
        struct Item {
            code: Option<String>,
            message: Option<String>,
        }
        // A body that is not this JSON is a page of some proxy: the status says enough.
        let errors = parse::json::<Errors>(body).map(|body| body.errors).unwrap_or_default();
        let mut response = ErrorResponse::of_status(status);
        let mut texts = Vec::new();
        for Item { code, message } in errors.into_iter().take(MAX_ERRORS) {
            let code = code.map(|code| mask(&code)).filter(|code| !code.is_empty());
            let message = message.map(|message| mask(&message)).filter(|message| !message.is_empty());
            let text = [&code, &message].into_iter().flatten().cloned().collect::<Vec<_>>().join(": ");
            texts.extend((!text.is_empty()).then_some(text));
            response.codes.extend(code.and_then(|code| code.parse().ok()));
        }
        response.message = (!texts.is_empty()).then(|| texts.join("; "));
        response
    }
}

impl fmt::Display for ErrorResponse {
    /// What follows in a message: empty, or a colon and what the server says.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_from_storage {
            return f.write_str(" at the storage server that the registry redirected to");
        }
        match &self.message {
            Some(message) => write!(f, ": {message}"),
            None => Ok(()),
        }
    }
}

/// `text` without `secrets`, without control characters and of a length to be shown.
pub(super) fn masked(text: &str, secrets: &[String]) -> String {
    let text: String = text.chars().take(MAX_MESSAGE).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let text = shown::text(&text, secrets);
    // A word this long may be a secret that was cut off, or another one.
    let words = text.split(' ').map(|word| if word.len() > 100 { "****" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_messages() {
        let body =
            br#"{"errors":[{"code":"NAME_UNKNOWN","message":"not here"},{"code":"MADE_UP"},{"message":"alone"}]}"#;
        let response = ErrorResponse::parse(404, body, str::to_string);
        assert_eq!(response.codes, [RegistryErrorCode::NameUnknown, RegistryErrorCode::Other("MADE_UP".into())]);
        assert_eq!(response.to_string(), ": NAME_UNKNOWN: not here; MADE_UP; alone");
        for body in ["", "<html>", "{}", r#"{"errors":[]}"#, r#"{"errors":[{}]}"#, r#"{"errors":[{"code":""}]}"#] {
            assert_eq!(ErrorResponse::parse(404, body.as_bytes(), str::to_string), ErrorResponse::of_status(404));
        }
    }

    #[test]
    fn every_code_is_written_as_it_is_read() {
        for (name, code) in CODES {
            assert_eq!((name.parse(), code.to_string()), (Ok(code.clone()), name.to_string()));
        }
        assert_eq!(RegistryErrorCode::Other("OWN".into()).to_string(), "OWN");
    }

    #[test]
    fn secrets_are_masked() {
        assert_eq!(masked("not with made-up,\nor", &["made-up".into(), String::new()]), "not with ****, or");
        assert_eq!(masked(&format!("a {} b", "x".repeat(101)), &[]), "a **** b");
    }
}
