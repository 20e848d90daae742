//! Images of a Docker daemon, as its API exports them: what `docker save` writes, without a file between.
//!
//! Source: Docker Engine API 1.24 and later, `GET /images/{name}/get`; Podman answers the same. The daemon is asked on
//! its Unix socket, which is where the `docker` program finds it unless `DOCKER_HOST` says otherwise.

use std::env;
use std::error::Error;
use std::io::Read;
use std::path::PathBuf;

use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};

use layersift_format::{SourceError, TransportError, TransportFailure};

use super::registry::{chain, with_nobody};

/// Where the daemon listens if nothing else is said.
const SOCKET: &str = "unix:///var/run/docker.sock";

/// Bytes of an error message that are read.
const MESSAGE_BYTES: u64 = 64 << 10;

/// Why a daemon does not give an image.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A name that no image can have.
    #[error("docker-daemon: `{0}` is no image's name: write NAME[:TAG], NAME@DIGEST or an image's ID")]
    Name(String),
    /// A daemon that is not on a socket of this machine.
    #[error(
        "docker-daemon: DOCKER_HOST is `{0}`, and only unix:// is read; \
         pipe `docker save IMAGE` into `layersift scan -`"
    )]
    Host(String),
    /// Nobody answers.
    #[error("docker-daemon: {socket}: {reason}; is the daemon running, and may you use its socket?")]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The daemon refuses.
    #[error("docker-daemon: `{name}`: the daemon answers {status}: {message}")]
    Refused {
        /// The image that was asked for.
        name: String,
        /// The status of the answer.
        status: u16,
        /// What the daemon says.
        message: String,
    },
}

/// The tar archive of the image called `name`, as the daemon writes it.
///
/// # Errors
/// When there is no daemon, or it has no such image.
pub fn export(name: &str) -> Result<impl Read + Send + 'static, DaemonError> {
    let name = full_name(name).ok_or_else(|| DaemonError::Name(name.into()))?;
    let host = env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()).unwrap_or_else(|| SOCKET.into());
    let socket = host.strip_prefix("unix://").map(PathBuf::from).ok_or_else(|| DaemonError::Host(host.clone()))?;
    let ask = || -> Result<Response, Box<dyn Error>> {
        // The daemon may put a large image together for minutes before the first byte comes.
        let client = Client::builder().unix_socket(&*socket).tls_backend_preconfigured(with_nobody()?).timeout(None);
        Ok(client.build()?.get(format!("http://docker/images/{name}/get")).send()?)
    };
    let unreachable =
        |error: Box<dyn Error>| DaemonError::Unreachable { socket: socket.clone(), reason: chain(&*error) };
    let answer = ask().map_err(unreachable)?;
    if answer.status() == StatusCode::OK { Ok(answer) } else { Err(refused(name, answer)) }
}

fn refused(name: String, answer: Response) -> DaemonError {
    let status = answer.status().as_u16();
    let mut body = Vec::new();
    // What cannot be read of an error message is left out of it.
    let _ = answer.take(MESSAGE_BYTES).read_to_end(&mut body);
    let said = serde_json::from_slice::<serde_json::Value>(&body).ok();
    let message = said.as_ref().and_then(|said| said["message"].as_str()).unwrap_or("no reason is given");
    DaemonError::Refused { name, status, message: message.chars().filter(|c| !c.is_control()).take(500).collect() }
}

/// `name` with the tag that it means. The daemon would give out all tags of a name without one.
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
        matches!(self, DaemonError::Unreachable { .. })
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
