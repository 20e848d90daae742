//! Asks a time stamp authority (RFC 3161) over HTTP.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::cli::input_file;
use layersift_attest::timestamp::{Authorities, Request};
use layersift_format::Cancellation;
use layersift_source::endpoint::{Endpoint, EndpointRequest};

/// The most bytes of an answer.
const MOST_BYTES: u64 = 1 << 20;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The answer of the authority at `url` to a question for a timestamp of `message`, by one of `authorities`.
pub(crate) fn ask(url: &str, authorities: &Authorities, message: &[u8]) -> anyhow::Result<Vec<u8>> {
    let endpoint: Endpoint = url.parse().with_context(|| url.to_string())?;
    let question = Request::new(message)?;
    let request = EndpointRequest {
        path: String::new(),
        headers: vec![("content-type", "application/timestamp-query".into())],
        body: Some(question.to_der()?),
        most_bytes: MOST_BYTES,
    };
    let answer = endpoint.send(request, &Cancellation::with_deadline(PATIENCE))?;
    ensure!(answer.status == 200, "{endpoint} answered with the status {}", answer.status);
    question.verify(authorities, &answer.body, message).with_context(|| endpoint.to_string())?;
    Ok(answer.body)
}

/// The time stamp authorities in a PEM file.
pub(crate) fn authorities(path: &Path) -> anyhow::Result<Authorities> {
    let text = input_file::read_text(path)?;
    Authorities::from_pem(&text).with_context(|| path.display().to_string())
}
