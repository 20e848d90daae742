//! Errors as a client reads them (RFC 9457): a status, a title and what happened.

use axum::Json;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

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

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let document = Document { title, status: self.status.as_u16(), detail: &self.detail };
        let mut response = (self.status, Json(document)).into_response();
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
