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
