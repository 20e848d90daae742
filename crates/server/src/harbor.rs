//! Harbor's API for scanners, version 1.2: what Harbor asks, and findings in the form that it stores. Nothing here does
//! any input or output.
//!
//! ```text
//! metadata      what the scanner is and can do
//! scan_request  what is to be scanned, and how it is pulled
//! report        findings and gaps as vulnerabilities
//! merge         the same with those of a second scanner
//! sbom          bills of materials
//! document      the form of a report, and what cuts it
//! ```
//!
//! Most of what is done here follows from how Harbor 2.16 behaves, not from its specification.

mod document;
pub mod merge;
pub mod metadata;
pub mod report;
pub mod sbom;
pub mod scan_request;

pub use document::{Cvss, Level, Report, ReportLimits, Scanner, Vulnerability};

use crate::admission::tidy;

/// The media type of the metadata.
pub const METADATA: &str = "application/vnd.scanner.adapter.metadata+json; version=1.0";

/// The media type of a request.
pub const SCAN_REQUEST: &str = "application/vnd.scanner.adapter.scan.request+json; version=1.0";

/// The media type of the answer to a request.
pub const SCAN_RESPONSE: &str = "application/vnd.scanner.adapter.scan.response+json; version=1.0";

/// The media type of an error.
pub const ERROR: &str = "application/vnd.scanner.adapter.error; version=1.0";

/// The media type of a report of vulnerabilities.
pub const VULNERABILITIES: &str = "application/vnd.security.vulnerability.report; version=1.1";

/// The media type of a report that is a software bill of materials.
pub const SBOM: &str = "application/vnd.security.sbom.report+json; version=1.0";

/// The media types of what is scanned. Of an index Harbor asks for the manifests that it names, one by one.
pub const MANIFESTS: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];

/// Bytes of the message of an error.
const MOST_MESSAGE: usize = 1_024;

/// The body of an error. In any other form Harbor loses the message, and shows its operator how JSON was not read.
pub fn error_body(message: &str) -> Vec<u8> {
    serde_json::json!({"error": {"message": tidy(message, MOST_MESSAGE)}}).to_string().into_bytes()
}

/// Whether two media types are the same, with or without blanks around the parameters.
fn is_media_type(text: &str, wanted: &str) -> bool {
    let parts = |text: &str| text.split(';').map(|part| part.trim().to_ascii_lowercase()).collect::<Vec<_>>();
    parts(text) == parts(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_one_form_that_harbor_reads() {
        let body = String::from_utf8(error_body("no \"x\"\n\u{1b}[31m")).unwrap();
        assert_eq!(body, "{\"error\":{\"message\":\"no \\\"x\\\" \u{fffd}[31m\"}}");
        assert!(error_body(&"ä".repeat(10_000)).len() < 1_100);
    }

    #[test]
    fn blanks_make_no_other_media_type() {
        assert!(is_media_type("application/vnd.security.vulnerability.report;version=1.1", VULNERABILITIES));
        assert!(!is_media_type("application/vnd.security.vulnerability.report; version=1.0", VULNERABILITIES));
    }
}
