//! Copies into S3, or something that speaks as it does, with object lock: nobody removes or replaces a version of an
//! object before its time, whoever they are.
//!
//! Buckets are part of the path, which every such storage understands. The bucket has to be made with object lock.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use reqwest::StatusCode;
use reqwest::blocking::Client;
use reqwest::redirect::Policy;
use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt;

use crate::answer::Answer;
use crate::sigv4::{Request, Signer, amz_date, encode, hex};
use crate::sink::{Sink, SinkError};
use crate::tree::hash;

/// How long a request and all of its answer may take.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Where copies go, and as whom.
#[derive(Clone)]
pub struct S3Options {
    /// Such as `https://s3.eu-central-1.amazonaws.com`.
    pub endpoint: String,
    /// Such as `eu-central-1`.
    pub region: String,
    /// The bucket, which has object lock.
    pub bucket: String,
    /// What goes before the names of objects, such as `audit/replica-1/`. No two logs may have the same.
    pub prefix: String,
    /// The id of the access key.
    pub access_key: String,
    /// The secret of the access key.
    pub secret_key: String,
    /// The session token of temporary credentials.
    pub session_token: Option<String>,
    /// For how long nobody may remove an object.
    pub retain: Duration,
}

impl S3Options {
    /// A bucket where the usual variables say, as whom they say: `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`,
    /// `AWS_REGION` or `AWS_DEFAULT_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`.
    ///
    /// # Errors
    /// If a variable of the access key is missing.
    pub fn from_variables(bucket: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<S3Options, SinkError> {
        let needed = |name: &str| {
            let missing = || SinkError::Settings(format!("the variable {name} is not set"));
            variable(name).ok_or_else(missing)
        };
        let region = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
        let region = region.unwrap_or_else(|| "us-east-1".into());
        let endpoint = variable("AWS_ENDPOINT_URL_S3").or_else(|| variable("AWS_ENDPOINT_URL"));
        Ok(S3Options {
            endpoint: endpoint.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com")),
            region,
            bucket: bucket.into(),
            prefix: String::new(),
            access_key: needed("AWS_ACCESS_KEY_ID")?,
            secret_key: needed("AWS_SECRET_ACCESS_KEY")?,
            session_token: variable("AWS_SESSION_TOKEN"),
            retain: Duration::from_secs(365 * 86_400),
        })
    }
}

impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let S3Options { endpoint, region, bucket, prefix, retain, .. } = self;
        let mut out = f.debug_struct("S3Options");
        out.field("endpoint", endpoint).field("region", region).field("bucket", bucket);
        out.field("prefix", prefix).field("retain", retain).finish_non_exhaustive()
    }
}

/// Copies into a bucket.
pub struct S3Sink {
    options: S3Options,
    client: Client,
    /// Host and port, as the header has it.
    host: String,
    /// `https://host/bucket`, of which the path is encoded.
    base: String,
    /// How long a request and all of its answer may take.
    timeout: Duration,
}

impl S3Sink {
    /// Copies into a bucket over HTTPS, trusting the certificate authorities of the system.
    ///
    /// # Errors
    /// For settings that cannot be used.
    pub fn new(options: S3Options) -> Result<S3Sink, SinkError> {
        S3Sink::within(TIMEOUT, options)
    }

    /// The same, where each request and all of its answer may take `timeout`.
    pub(crate) fn within(timeout: Duration, options: S3Options) -> Result<S3Sink, SinkError> {
        let client = client(Policy::none(), timeout)?;
        Ok(S3Sink { timeout, ..S3Sink::with_client(options, client)? })
    }

    /// Copies into a bucket with a client of the caller's, for certificate authorities or proxies of their own. It must
    /// not follow redirects.
    ///
    /// # Errors
    /// For settings that cannot be used.
    pub fn with_client(options: S3Options, client: Client) -> Result<S3Sink, SinkError> {
        let endpoint = options.endpoint.trim_end_matches('/');
        let host = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://")).unwrap_or_default();
        if host.is_empty() || host.contains(['/', '?', '#', '@']) {
            return Err(SinkError::Settings(format!("`{endpoint}` is not an address such as https://s3.example.org")));
        }
        if options.bucket.is_empty() || options.bucket.contains('/') {
            return Err(SinkError::Settings(format!("`{}` is not the name of a bucket", options.bucket)));
        }
        let (host, base) = (host.to_ascii_lowercase(), endpoint.to_string());
        Ok(S3Sink { options, client, host, base, timeout: TIMEOUT })
    }

    /// An object of at most `most` bytes.
    ///
    /// # Errors
    /// If it is not there, or larger.
    pub(crate) fn get(&self, name: &str, most: u64) -> Result<Vec<u8>, SinkError> {
        let answer = self.send("GET", name, &[], &[])?;
        if answer.status() != StatusCode::OK {
            return Err(self.refused(answer));
        }
        answer.small(most, &self.place())
    }

    fn send(&self, method: &str, name: &str, body: &[u8], more: &[(&str, String)]) -> Result<Answer, SinkError> {
        let at = Timestamp::now();
        let path = encode(&format!("/{}/{}{name}", self.options.bucket, self.options.prefix));
        let body_hash = hex(&hash(&[body]));
        let mut headers = vec![
            ("host", self.host.clone()),
            ("x-amz-content-sha256", body_hash.clone()),
            ("x-amz-date", amz_date(at)),
        ];
        headers.extend(self.options.session_token.clone().map(|token| ("x-amz-security-token", token)));
        headers.extend_from_slice(more);
        let S3Options { access_key, secret_key, region, .. } = &self.options;
        let request = Request { method, path: &path, headers: &headers, body: &body_hash };
        let authorization = Signer { access_key, secret_key, region }.authorization(&request, at);
        let url = format!("{}{path}", self.base);
        let mut request = match method {
            "PUT" => self.client.put(url).body(body.to_vec()),
            "GET" => self.client.get(url),
            _ => self.client.head(url),
        };
        for (name, value) in headers.into_iter().filter(|(name, _)| *name != "host") {
            request = request.header(name, value);
        }
        let sent = Answer::to(|| request.header("authorization", authorization).send(), self.timeout);
        sent.map_err(|error| SinkError::Unreachable { place: self.place(), source: Box::new(error.without_url()) })
    }

    fn refused(&self, answer: Answer) -> SinkError {
        let status = answer.status().as_u16();
        let S3Options { access_key, secret_key, session_token, .. } = &self.options;
        // A server may repeat what it was sent, or worse, and this is logged.
        let secrets = [access_key, secret_key, session_token.as_deref().unwrap_or_default()];
        SinkError::Refused { place: self.place(), status, answer: answer.quoted(&secrets) }
    }

    /// Whether the object is `bytes`, where the storage keeps no checksums.
    fn is_same(&self, name: &str, bytes: &[u8]) -> Result<bool, SinkError> {
        let answer = self.send("GET", name, &[], &[])?;
        if answer.status() != StatusCode::OK {
            return Err(self.refused(answer));
        }
        // One more byte tells that it is longer.
        Ok(answer.up_to(bytes.len() as u64 + 1, &self.place())? == bytes)
    }
}

impl Sink for S3Sink {
    fn place(&self) -> String {
        format!("s3://{}/{} at {}", self.options.bucket, self.options.prefix, self.base)
    }

    fn has(&mut self, name: &str, bytes: &[u8]) -> Result<bool, SinkError> {
        let answer = self.send("HEAD", name, &[], &[("x-amz-checksum-mode", "ENABLED".into())])?;
        match answer.status() {
            StatusCode::NOT_FOUND => return Ok(false),
            StatusCode::OK => {}
            _ => return Err(self.refused(answer)),
        }
        let length = answer.header("content-length").and_then(|length| length.parse::<usize>().ok());
        let is_same = match answer.header("x-amz-checksum-sha256") {
            Some(checksum) => checksum == checksum_of(bytes),
            None => length.is_none_or(|length| length == bytes.len()) && self.is_same(name, bytes)?,
        };
        if is_same { Ok(true) } else { Err(SinkError::Differs { place: self.place() }) }
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), SinkError> {
        let until = Timestamp::now().checked_add(self.options.retain);
        let until = until.map_err(|error| SinkError::Settings(format!("objects are kept for too long: {error}")))?;
        let headers = [
            // The storage asks for a checksum of what it is to lock; some look for the name of its algorithm.
            ("x-amz-sdk-checksum-algorithm", "SHA256".into()),
            ("x-amz-checksum-sha256", checksum_of(bytes)),
            ("x-amz-object-lock-mode", "COMPLIANCE".into()),
            ("x-amz-object-lock-retain-until-date", until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        ];
        let answer = self.send("PUT", name, bytes, &headers)?;
        if answer.status().is_success() { Ok(()) } else { Err(self.refused(answer)) }
    }
}

/// A client that trusts the certificate authorities of the system.
pub(crate) fn client(redirects: Policy, timeout: Duration) -> Result<Client, SinkError> {
    let unusable = |error: &dyn fmt::Display| SinkError::Settings(format!("cannot set up TLS: {error}"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(BuilderVerifierExt::with_platform_verifier)
        .map_err(|error| unusable(&error))?;
    let builder = Client::builder()
        .tls_backend_preconfigured(builder.with_no_client_auth())
        .redirect(redirects)
        .referer(false)
        .connect_timeout(Duration::from_secs(10))
        .timeout(timeout)
        .user_agent(concat!("layersift/", env!("CARGO_PKG_VERSION")));
    builder.build().map_err(|error| unusable(&error))
}

/// In the form of the header `x-amz-checksum-sha256`.
fn checksum_of(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(hash(&[bytes]))
}
