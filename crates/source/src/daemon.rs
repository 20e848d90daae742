//! The transport `docker-daemon:`: images of a Docker daemon, as its API exports them.
//!
//! Source: Docker Engine API 1.24 and later, `GET /images/{name}/get`, which writes what `docker save` does; Podman
//! answers the same. The request goes to the daemon's Unix socket, at the path that `DOCKER_HOST` names, or the one
//! that the `docker` program uses without it.

use std::env;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use layersift_format::{CancelReason, Cancellation, SourceError, TransportError, TransportFailure};
use layersift_model::parse;
use reqwest::StatusCode;
use reqwest::blocking::Response;

use crate::registry::{chain, without_trust};
use crate::service::unix_client;
use crate::stream::StreamLayout;
use crate::target::{Argument, InvalidArgument, Transport};
use crate::waiting;

/// `docker-daemon:`
pub(crate) static TRANSPORT: Transport = Transport {
    name: "docker-daemon",
    argument: "NAME[:TAG], NAME@DIGEST or ID",
    parse: |argument| match argument {
        "" => Err(InvalidArgument::Empty),
        name => Ok(Argument { path: None, reference: Some(name.into()) }),
    },
    open: |context| {
        let name = context.target.reference.as_deref().unwrap_or_default();
        let archive = export(name, context.cancellation())?;
        let path = context.target.text.clone().into();
        // The daemon exports nothing but the image, by names of its own.
        Ok(context.stream_of(path, Box::new(archive), StreamLayout::DockerSave, None))
    },
};

/// The socket if `DOCKER_HOST` is not set.
const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

/// The most bytes of an error message that are read.
const MAX_MESSAGE_BYTES: u64 = 64 << 10;

/// How long an error message may take. Whoever answers with one has nothing to assemble.
const MESSAGE_TIME: Duration = Duration::from_secs(10);

/// What stands for a message that is not there, or does not come.
const NO_MESSAGE: &str = "no message";

/// Why a daemon does not export an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// A name that no image can have.
    #[error("docker-daemon: invalid image name `{0}`: expected NAME[:TAG], NAME@DIGEST or an image ID")]
    Name(String),
    /// A daemon that is not on a socket of this machine.
    #[error(
        "docker-daemon: unsupported DOCKER_HOST `{0}`: expected unix://PATH; \
         pipe `docker save IMAGE` into `layersift scan -` instead"
    )]
    Host(String),
    /// No connection, or no answer.
    #[error(
        "docker-daemon: {socket}: {}; check that the daemon is running and that you may use its socket",
        chain(error)
    )]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// The failure.
        #[source]
        error: reqwest::Error,
    },
    /// The HTTP client cannot be made.
    #[error("docker-daemon: {}", chain(_0))]
    Client(#[source] rustls::Error),
    /// A status other than 200.
    #[error("docker-daemon: `{name}`: the daemon answered with status {status}: {message}")]
    Refused {
        /// The image that was asked for.
        name: String,
        /// The status.
        status: u16,
        /// The daemon's message.
        message: String,
    },
    /// The operation was cancelled, or its deadline has passed.
    #[error("docker-daemon: `{name}`: {reason}")]
    Cancelled {
        /// The image that was asked for.
        name: String,
        /// Which of the two.
        #[source]
        reason: CancelReason,
    },
}

impl DaemonError {
    /// Whether the same request may succeed later: the daemon does not run, or the operation was cancelled.
    pub fn is_temporary(&self) -> bool {
        match self {
            DaemonError::Unreachable { .. } | DaemonError::Cancelled { .. } => true,
            DaemonError::Refused { status, .. } => matches!(status, 502..=504),
            _ => false,
        }
    }
}

/// The tar archive of the image called `name`.
///
/// # Errors
/// If the daemon is not reachable, or has no such image.
fn export(name: &str, cancellation: &Cancellation) -> Result<impl Read + Send + 'static, DaemonError> {
    let name = full_name(name).ok_or_else(|| DaemonError::Name(name.into()))?;
    let host = env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()).unwrap_or_else(|| DEFAULT_HOST.into());
    let socket = host.strip_prefix("unix://").map(PathBuf::from).ok_or_else(|| DaemonError::Host(host.clone()))?;
    let tls = without_trust().map_err(DaemonError::Client)?;
    let (path, url) = (socket.clone(), format!("http://docker/images/{name}/get"));
    let send = move || -> reqwest::Result<Response> {
        // Without a timeout: before the first byte the daemon may take minutes to assemble a large image.
        let client = unix_client(&path, tls).timeout(None).build()?;
        client.get(url).send()
    };
    let response = waiting::run(cancellation, send)
        .map_err(|reason| DaemonError::Cancelled { name: name.clone(), reason })?
        .map_err(|error| DaemonError::Unreachable { socket, error: error.without_url() })?;
    if response.status() == StatusCode::OK { Ok(response) } else { Err(refused(name, response, cancellation)) }
}

fn refused(name: String, response: Response, cancellation: &Cancellation) -> DaemonError {
    let status = response.status().as_u16();
    let read = waiting::run(&cancellation.child_with_deadline(MESSAGE_TIME), move || message(response));
    match (read, cancellation.check()) {
        (Ok(message), _) => DaemonError::Refused { name, status, message },
        (Err(_), Err(reason)) => DaemonError::Cancelled { name, reason },
        (Err(_), Ok(())) => DaemonError::Refused { name, status, message: NO_MESSAGE.into() },
    }
}

/// What the daemon says.
fn message(response: Response) -> String {
    #[derive(Default, serde::Deserialize)]
    struct Body {
        message: Option<String>,
    }
    let mut bytes = Vec::new();
    // If it cannot be read, the status says enough.
    let _ = response.take(MAX_MESSAGE_BYTES).read_to_end(&mut bytes);
    let body: Body = parse::json(&bytes).unwrap_or_default();
    let message = body.message.unwrap_or_else(|| NO_MESSAGE.into());
    message.chars().filter(|c| !c.is_control()).take(500).collect()
}

/// `name` with `:latest` if it has neither tag nor digest: without one the daemon would export all tags.
fn full_name(name: &str) -> Option<String> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@+".contains(&byte);
    let is_name = name.bytes().all(is_allowed) && name.split('/').all(|part| !["", ".", ".."].contains(&part));
    let last = name.rsplit('/').next()?;
    let is_id = name.len() >= 12 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_full = is_id || last.contains([':', '@']);
    is_name.then(|| if is_full { name.into() } else { format!("{name}:latest") })
}

impl TransportError for DaemonError {
    fn is_temporary(&self) -> bool {
        DaemonError::is_temporary(self)
    }
}

impl From<DaemonError> for SourceError {
    fn from(error: DaemonError) -> SourceError {
        TransportFailure::new(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_tag_means_latest() {
        for (name, full) in [
            ("alpine", Some("alpine:latest")),
            ("localhost:5000/app", Some("localhost:5000/app:latest")),
            ("localhost:5000/app:1", Some("localhost:5000/app:1")),
            ("app@sha256:0123", Some("app@sha256:0123")),
            ("0123456789ab", Some("0123456789ab")),
            ("sha256:0123", Some("sha256:0123")),
            ("", None),
            ("a//b", None),
            ("../containers", None),
            ("a?b", None),
            ("a%2fb", None),
        ] {
            assert_eq!(full_name(name).as_deref(), full, "{name}");
        }
    }
}
