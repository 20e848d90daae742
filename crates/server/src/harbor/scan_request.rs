//! What Harbor asks a scanner to scan: `POST /api/v1/scan`.
//!
//! The credentials in a request are those of an account that Harbor made for this scan. They are in no message.

use crate::harbor::{MANIFESTS, SBOM, VULNERABILITIES, error_body, is_media_type};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use layersift_model::{Digest, ParseError, parse};
use layersift_source::registry::{Credentials, Host, check_repository, check_tag};
use serde::{Deserialize, Serialize};

/// Bytes of a request. A ready token is the longest part, and has some kilobytes.
const MOST_BYTES: usize = 256 << 10;

/// Bytes of a text of a request other than the credentials.
const MOST_TEXT: usize = 512;

/// Kinds of reports that one request asks for.
const MOST_CAPABILITIES: usize = 16;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanRequest {
    /// Where the artifact is pulled from.
    pub registry: SourceRegistry,
    /// What is to be scanned.
    pub artifact: Artifact,
    /// What is asked for; never empty.
    pub wanted: Vec<Wanted>,
}

/// The registry of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRegistry {
    /// The host and port.
    pub host: Host,
    /// Whether it speaks HTTP without TLS. The URL says so, the field `insecure` does not.
    pub is_plain_http: bool,
    /// The login for this task: a user and a password, a token that the registry takes as it is, or nothing.
    pub credentials: Option<Credentials>,
}

/// What is to be scanned, as reports repeat it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// The repository without the host.
    pub repository: String,
    /// The digest of the manifest.
    pub digest: Digest,
    /// The newest tag; empty if there is none.
    pub tag: String,
    /// The media type of the manifest.
    pub mime_type: String,
    /// The bytes of the whole image, as Harbor counts them.
    pub size: i64,
}

/// A report that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    /// Vulnerabilities.
    Vulnerabilities,
    /// A software bill of materials in one of these media types; none means any.
    Sbom(Vec<String>),
}

/// Why a request is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It cannot be read.
    #[error("the request is not valid JSON, or lacks a field (line {line}, column {column})")]
    Json {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// It is too large, or a text in it is.
    #[error("the request, or its field `{0}`, is too long")]
    TooLong(&'static str),
    /// The credentials have another form.
    #[error("`registry.authorization` is neither `Basic` with a user and a password nor `Bearer` with a token")]
    Authorization,
    /// The URL of the registry.
    #[error("`registry.url` is not http:// or https:// with a host alone")]
    Url,
    /// The name of the artifact.
    #[error("`artifact.{0}` is invalid")]
    Artifact(&'static str),
    /// The media type of the artifact.
    #[error("`{0}` cannot be scanned; what can is the manifest of an image, in the form of OCI or of Docker")]
    MediaType(String),
    /// What is asked for.
    #[error("the request asks for a report of no kind that there is")]
    Capabilities,
}

#[derive(Deserialize)]
struct Body {
    registry: RegistryBody,
    artifact: ArtifactBody,
    #[serde(default)]
    enabled_capabilities: Option<Vec<CapabilityBody>>,
}

#[derive(Deserialize)]
struct RegistryBody {
    url: String,
    #[serde(default)]
    authorization: Option<String>,
}

#[derive(Deserialize)]
struct ArtifactBody {
    repository: String,
    digest: String,
    #[serde(default)]
    tag: Option<String>,
    mime_type: String,
    #[serde(default)]
    size: Option<i64>,
}

#[derive(Deserialize)]
struct CapabilityBody {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    produces_mime_types: Option<Vec<String>>,
    #[serde(default)]
    parameters: Option<ParametersBody>,
}

#[derive(Deserialize)]
struct ParametersBody {
    #[serde(default)]
    sbom_media_types: Option<Vec<String>>,
}

impl SourceRegistry {
    /// The login as the value of an `Authorization` header; empty if there is none.
    pub(crate) fn authorization(&self) -> String {
        match &self.credentials {
            Some(Credentials::Password { user, password }) => {
                format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
            }
            Some(Credentials::AccessToken(token)) => format!("Bearer {token}"),
            Some(Credentials::IdentityToken { .. }) | None => String::new(),
        }
    }

    /// The URL as Harbor sends it.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", if self.is_plain_http { "http" } else { "https" }, self.host)
    }
}

impl RequestError {
    /// The HTTP status of the answer. Harbor takes no other than 400, 422, 500 and 501 for an error of a scanner.
    pub fn status(&self) -> u16 {
        match self {
            RequestError::Json { .. } | RequestError::TooLong(_) | RequestError::Authorization => 400,
            RequestError::Url | RequestError::Artifact(_) | RequestError::MediaType(_) | RequestError::Capabilities => {
                422
            }
        }
    }

    /// The body of the answer.
    pub fn body(&self) -> Vec<u8> {
        error_body(&self.to_string())
    }
}

/// Reads a request.
///
/// # Errors
/// [`RequestError`], with what is to be answered.
pub fn read(body: &[u8]) -> Result<ScanRequest, RequestError> {
    if body.len() > MOST_BYTES {
        return Err(RequestError::TooLong("body"));
    }
    // The text of the error may repeat what the body has, such as the credentials.
    let place = |error: ParseError| RequestError::Json { line: error.line(), column: error.column() };
    let body: Body = parse::json(body).map_err(place)?;
    Ok(ScanRequest {
        registry: registry(&body.registry)?,
        artifact: artifact(body.artifact)?,
        wanted: wanted(body.enabled_capabilities.unwrap_or_default())?,
    })
}

fn registry(body: &RegistryBody) -> Result<SourceRegistry, RequestError> {
    short("registry.url", &body.url)?;
    let schemes = [("https://", false), ("http://", true)];
    let (rest, is_plain_http) = schemes
        .into_iter()
        .find_map(|(scheme, is_plain)| Some((body.url.strip_prefix(scheme)?, is_plain)))
        .ok_or(RequestError::Url)?;
    let host = rest.strip_suffix('/').unwrap_or(rest).parse().map_err(|_| RequestError::Url)?;
    let credentials = credentials(body.authorization.as_deref().unwrap_or_default())?;
    Ok(SourceRegistry { host, is_plain_http, credentials })
}

/// The login of the value of an `Authorization` header.
///
/// # Errors
/// [`RequestError::Authorization`].
pub(crate) fn credentials(header: &str) -> Result<Option<Credentials>, RequestError> {
    let header = header.trim();
    if header.is_empty() {
        return Ok(None);
    }
    let (scheme, value) = header.split_once(' ').ok_or(RequestError::Authorization)?;
    let value = value.trim();
    if scheme.eq_ignore_ascii_case("bearer") && !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(Some(Credentials::AccessToken(value.into())));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(RequestError::Authorization);
    }
    let text = STANDARD.decode(value).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let (user, password) = text.as_deref().and_then(|text| text.split_once(':')).ok_or(RequestError::Authorization)?;
    Ok(Some(Credentials::Password { user: user.into(), password: password.into() }))
}

fn artifact(body: ArtifactBody) -> Result<Artifact, RequestError> {
    let ArtifactBody { repository, digest, tag, mime_type, size } = body;
    let tag = tag.unwrap_or_default();
    short("artifact.mime_type", &mime_type)?;
    check_repository(&repository).map_err(|_| RequestError::Artifact("repository"))?;
    if !tag.is_empty() {
        check_tag(&tag).map_err(|_| RequestError::Artifact("tag"))?;
    }
    let digest = digest.parse().map_err(|_| RequestError::Artifact("digest"))?;
    if !MANIFESTS.iter().any(|manifest| is_media_type(&mime_type, manifest)) {
        return Err(RequestError::MediaType(mime_type));
    }
    Ok(Artifact { repository, digest, tag, mime_type, size: size.unwrap_or(0) })
}

/// What is asked for. A request without capabilities is one of an older Harbor, and asks for vulnerabilities.
fn wanted(capabilities: Vec<CapabilityBody>) -> Result<Vec<Wanted>, RequestError> {
    if capabilities.len() > MOST_CAPABILITIES {
        return Err(RequestError::TooLong("enabled_capabilities"));
    }
    if capabilities.is_empty() {
        return Ok(vec![Wanted::Vulnerabilities]);
    }
    let wanted: Vec<Wanted> = capabilities.into_iter().filter_map(capability).collect();
    if wanted.is_empty() { Err(RequestError::Capabilities) } else { Ok(wanted) }
}

fn capability(body: CapabilityBody) -> Option<Wanted> {
    let produces = body.produces_mime_types.unwrap_or_default();
    let takes = |media_type| produces.is_empty() || produces.iter().any(|one| is_media_type(one, media_type));
    let sbom_media_types = || body.parameters.and_then(|parameters| parameters.sbom_media_types).unwrap_or_default();
    match body.kind.as_deref().unwrap_or_default() {
        "" | "vulnerability" if takes(VULNERABILITIES) => Some(Wanted::Vulnerabilities),
        "sbom" if takes(SBOM) => Some(Wanted::Sbom(sbom_media_types())),
        _ => None,
    }
}

fn short(field: &'static str, text: &str) -> Result<(), RequestError> {
    if text.len() > MOST_TEXT { Err(RequestError::TooLong(field)) } else { Ok(()) }
}

#[cfg(test)]
impl Default for Artifact {
    fn default() -> Artifact {
        let (repository, tag, mime_type) = Default::default();
        Artifact { repository, digest: Digest::of(b""), tag, mime_type, size: 0 }
    }
}

#[cfg(test)]
mod tests;
