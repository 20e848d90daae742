//! Errors as a client reads them: a status, a title and what happened (RFC 9457), or in the form of Anthropic's API,
//! which is the one that the SDKs of both OpenAI and Anthropic show.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use layersift_model::json_output;
use serde::Serialize;

use super::json::Json;
use crate::admission::tidy;

/// The most bytes of a detail, which may repeat what a client sent.
const MOST_DETAIL: usize = 1_024;

/// Why a request was not answered.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: String,
    retry_after: Option<u64>,
}

#[derive(Serialize)]
struct Document<'p> {
    title: &'p str,
    status: u16,
    detail: &'p str,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl AsRef<str>) -> Problem {
        Problem { status, detail: tidy(detail.as_ref(), MOST_DETAIL), retry_after: None }
    }

    /// 400.
    pub(crate) fn invalid(detail: impl AsRef<str>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 404.
    pub(crate) fn not_found(detail: impl AsRef<str>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, detail)
    }

    /// 429, with the seconds to wait.
    pub(crate) fn too_many(detail: impl AsRef<str>, seconds: u64) -> Problem {
        Problem { retry_after: Some(seconds), ..Problem::new(StatusCode::TOO_MANY_REQUESTS, detail) }
    }

    /// 503: the store is out of reach, or takes too long. What exactly is for the log, not for a client.
    pub(crate) fn unavailable(detail: impl AsRef<str>) -> Problem {
        Problem { retry_after: Some(1), ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail) }
    }
}

impl Problem {
    /// The same about the answer of a model, which did not arrive as it should.
    pub(crate) fn of_answer(self) -> Problem {
        match self.status {
            StatusCode::REQUEST_TIMEOUT => {
                Problem::new(StatusCode::GATEWAY_TIMEOUT, "the answer did not arrive in time")
            }
            StatusCode::BAD_REQUEST => Problem::new(StatusCode::BAD_GATEWAY, "the connection to the model was lost"),
            _ => self,
        }
    }

    /// What happened.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// The answer for SDKs.
    pub(crate) fn for_sdks(&self) -> Response {
        let mut response = (self.status, Json(SdkError::new(self.kind(), &self.detail))).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    /// What Anthropic's API calls an error with this status.
    fn kind(&self) -> &'static str {
        match self.status.as_u16() {
            400 | 405 | 408 => "invalid_request_error",
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            503 => "overloaded_error",
            504 => "timeout_error",
            _ => "api_error",
        }
    }
}

/// The event that ends a stream with an error. The SDKs take any other end for the end of the answer.
pub(crate) fn error_event(detail: &str) -> Vec<u8> {
    let data = json_output::line(&SdkError::new("api_error", detail)).unwrap_or_default();
    [b"event: error\ndata: ", &data[..], b"\n\n"].concat()
}

/// An error in the form of Anthropic's API.
#[derive(Serialize)]
struct SdkError {
    #[serde(rename = "type")]
    kind: &'static str,
    error: SdkErrorDetail,
}

#[derive(Serialize)]
struct SdkErrorDetail {
    #[serde(rename = "type")]
    kind: &'static str,
    message: String,
}

impl SdkError {
    /// Whoever reads it has asked a model, and has to know who answers.
    fn new(kind: &'static str, detail: &str) -> SdkError {
        SdkError { kind: "error", error: SdkErrorDetail { kind, message: format!("Layersift: {detail}") } }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let document = Document { title, status: self.status.as_u16(), detail: &self.detail };
        let mut response = (self.status, Json(document)).into_response();
        response.extensions_mut().insert(self.clone());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"layersift\""));
        }
        response
    }
}
