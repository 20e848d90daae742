//! `GET /api/v1/openapi.json`: what the API is, as OpenAPI 3.1 has it.

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::parameters::{NoParameters, Parameters};

/// The document, which a test compares with what is answered.
const DOCUMENT: &str = include_str!("openapi.json");

/// Sends the document.
pub(super) async fn document(Parameters(NoParameters {}): Parameters<NoParameters>) -> Response {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn every_format_of_reports_has_its_media_type() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let answers = &document["paths"]["/api/v1/images/{digest}/report"]["get"]["responses"]["200"]["content"];
        for format in layersift_report::FORMATS {
            let media_type = format.media_type.split(';').next().unwrap();
            assert!(answers.get(media_type).is_some(), "{media_type}");
        }
    }
}
