//! Checkpoints that are kept elsewhere, by URL: over HTTP, or in a bucket.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};

use crate::answer::Answer;
use crate::s3::{S3Options, S3Sink, client};
use crate::sink::SinkError;

/// The longest checkpoint that is read, in bytes.
const MOST: u64 = 64 * 1024;

/// How long all of it may take.
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
    is_http.then(|| over_http(text, TIMEOUT))
}

fn from_bucket(object: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Vec<u8>, SinkError> {
    let Some((bucket, key)) = object.split_once('/').filter(|(_, key)| !key.is_empty()) else {
        return Err(SinkError::Settings(format!("`s3://{object}` is not an object: expected s3://BUCKET/KEY")));
    };
    S3Sink::within(TIMEOUT, S3Options::from_variables(bucket, variable)?)?.get(key, MOST)
}

fn over_http(text: &str, timeout: Duration) -> Result<(String, Vec<u8>), SinkError> {
    let url = Url::parse(text).map_err(|error| SinkError::Settings(format!("the URL of a checkpoint: {error}")))?;
    // A login, or a signature in the query, is not for messages.
    let place = format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path());
    let request = client(Policy::limited(5), timeout)?.get(url);
    let answer = Answer::to(|| request.send(), timeout)
        .map_err(|error| SinkError::Unreachable { place: place.clone(), source: Box::new(error.without_url()) })?;
    if answer.status() != StatusCode::OK {
        let status = answer.status().as_u16();
        return Err(SinkError::Refused { place, status, answer: "no checkpoint".into() });
    }
    Ok((place.clone(), answer.small(MOST, &place)?))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A server that answers one request with a body that comes byte by byte and never ends: its URL.
    fn dripping() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
            while sent.is_ok() {
                thread::sleep(Duration::from_millis(100));
                sent = stream.write_all(b"x");
            }
        });
        url
    }

    #[test]
    fn a_body_that_drips_ends_with_the_time() {
        let second = Duration::from_secs(1);
        let error = over_http(&format!("{}/checkpoint", dripping()), second).unwrap_err();
        assert!(matches!(error, SinkError::Unreachable { .. }), "{error}");
        let options = S3Options {
            endpoint: dripping(),
            region: "us-east-1".into(),
            bucket: "audit".into(),
            prefix: String::new(),
            access_key: "made-up".into(),
            secret_key: "made-up".into(),
            session_token: None,
            retain: second,
        };
        let error = S3Sink::within(second, options).unwrap().get("checkpoint", MOST).unwrap_err();
        assert!(matches!(error, SinkError::Unreachable { .. }), "{error}");
    }
}
