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

/// A time stamp authority that is asked, and those of which one has to have answered.
pub(crate) struct Stamper {
    endpoint: Endpoint,
    authorities: Authorities,
    cancellation: Cancellation,
}

impl Stamper {
    /// For the authority at `url`, which is waited for until `cancellation` at most. `authorities` is a PEM file.
    pub(crate) fn new(url: &str, authorities: Option<&Path>, cancellation: Cancellation) -> anyhow::Result<Stamper> {
        let path = authorities.context("--timestamp needs --timestamp-authorities")?;
        Ok(Stamper { endpoint: endpoint(url)?, authorities: self::authorities(path)?, cancellation })
    }

    /// The answer to a question for a timestamp of `message`.
    pub(crate) fn ask(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        ask_at(&self.endpoint, &self.authorities, message, &self.cancellation)
    }
}

/// The answer of the authority at `url` to a question for a timestamp of `message`, by one of `authorities`.
pub(crate) fn ask(
    url: &str,
    authorities: &Authorities,
    message: &[u8],
    cancellation: &Cancellation,
) -> anyhow::Result<Vec<u8>> {
    ask_at(&endpoint(url)?, authorities, message, cancellation)
}

/// The URL may have a login or a token, so that no message has it.
fn endpoint(url: &str) -> anyhow::Result<Endpoint> {
    url.parse().context("the URL of --timestamp")
}

fn ask_at(
    endpoint: &Endpoint,
    authorities: &Authorities,
    message: &[u8],
    cancellation: &Cancellation,
) -> anyhow::Result<Vec<u8>> {
    let question = Request::new(message)?;
    let request = EndpointRequest {
        path: String::new(),
        headers: vec![("content-type", "application/timestamp-query".into())],
        body: Some(question.to_der()?),
        most_bytes: MOST_BYTES,
    };
    let answer = endpoint.send(request, &cancellation.child_with_deadline(PATIENCE))?;
    ensure!(answer.status == 200, "the time stamp authority answered with the status {}", answer.status);
    question.verify(authorities, &answer.body, message).context("the answer of the time stamp authority")?;
    Ok(answer.body)
}

/// The time stamp authorities in a PEM file.
pub(crate) fn authorities(path: &Path) -> anyhow::Result<Authorities> {
    let text = input_file::read_text(path)?;
    Authorities::from_pem(&text).with_context(|| path.display().to_string())
}
