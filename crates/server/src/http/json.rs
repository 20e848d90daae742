//! Answers in JSON. They quote images, registries and clients, and somebody reads them in a terminal: whatever the
//! service writes passes [`json_output`], and the lints refuse any other way.

use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use layersift_model::json_output;
use serde::Serialize;

use super::problem::Problem;

/// An answer in JSON.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match json_output::line(&self.0) {
            Ok(bytes) => ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], bytes).into_response(),
            Err(error) => {
                tracing::error!(%error, "an answer cannot be written");
                Problem::unavailable("the answer cannot be written").into_response()
            }
        }
    }
}
