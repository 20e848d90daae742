//! Checkpoints that are kept elsewhere, by URL: over HTTP, or in a bucket.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};

use crate::s3::{S3Options, S3Sink, client, small};
use crate::sink::SinkError;

/// The longest checkpoint that is read, in bytes.
const MOST: u64 = 64 * 1024;

/// How long it may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A small file at a URL, and what to call it: `https://…`, `http://…`, or `s3://bucket/key` as the variables of
/// [`S3Options::from_variables`] say. `None` if `text` is not such a URL.
///
/// # Errors
/// If it cannot be had, or is not small.
#[must_use]
pub fn fetch(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Option<Result<(String, Vec<u8>), SinkError>> {
    if let Some(object) = text.strip_prefix("s3://") {
        return Some(from_bucket(object, variable).map(|bytes| (text.to_string(), bytes)));
    }
    let is_http = text.starts_with("https://") || text.starts_with("http://");
    is_http.then(|| over_http(text))
}

fn from_bucket(object: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Vec<u8>, SinkError> {
    let Some((bucket, key)) = object.split_once('/').filter(|(_, key)| !key.is_empty()) else {
        return Err(SinkError::Settings(format!("`s3://{object}` is not an object: expected s3://BUCKET/KEY")));
    };
    S3Sink::new(S3Options::from_variables(bucket, variable)?)?.get(key, MOST)
}

fn over_http(text: &str) -> Result<(String, Vec<u8>), SinkError> {
    let url = Url::parse(text).map_err(|error| SinkError::Settings(format!("the URL of a checkpoint: {error}")))?;
    // A login, or a signature in the query, is not for messages.
    let place = format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path());
    let sent = client(Policy::limited(5), TIMEOUT)?.get(url).send();
    let response =
        sent.map_err(|error| SinkError::Unreachable { place: place.clone(), source: Box::new(error.without_url()) })?;
    if response.status() != StatusCode::OK {
        let status = response.status().as_u16();
        return Err(SinkError::Refused { place, status, answer: "no checkpoint".into() });
    }
    Ok((place.clone(), small(response, MOST, &place)?))
}
