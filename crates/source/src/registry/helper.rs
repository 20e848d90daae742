//! Credential helpers: programs called `docker-credential-NAME` that store passwords for Docker and Podman.
//!
//! Source: docker-credential-helpers, "Development". The server's name goes to standard input, and JSON comes back. A
//! helper is given limited time; its output is never shown, because it may be a password.

use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use layersift_model::parse;
use serde::Deserialize;

use super::credentials::CredentialsError;
use super::error::RegistryError;
use super::options::Credentials;
use layersift_format::{CancelReason, Cancellation};

/// How long a helper may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// How often it is checked whether a helper has ended.
const POLL: Duration = Duration::from_millis(10);

/// The most bytes of a helper's output.
const MAX_BYTES: u64 = 1 << 16;

/// What helpers print to standard output if they have no credentials for a server.
const NOT_FOUND: &[u8] = b"credentials not found";

/// The user name that marks an identity token.
const TOKEN_USER: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperOutput {
    username: String,
    secret: String,
}

/// The credentials that `helper` has for `server`; `None` if it has none.
///
/// # Errors
/// If it cannot be run, fails, takes too long, or prints something other than credentials.
pub(super) fn get(
    helper: &str,
    server: &str,
    cancellation: &Cancellation,
) -> Result<Option<Credentials>, RegistryError> {
    let program = format!("docker-credential-{helper}");
    let timeout = cancellation.child_with_deadline(TIMEOUT);
    run(helper, &program, server, &timeout).map_err(|error| match (cancellation.reason(), error) {
        (Some(reason), CredentialsError::HelperTimeout) => {
            RegistryError::Cancelled { url: program, after: None, reason }
        }
        (_, error) => RegistryError::Credentials { place: program, error },
    })
}

fn run(
    helper: &str,
    program: &str,
    server: &str,
    timeout: &Cancellation,
) -> Result<Option<Credentials>, CredentialsError> {
    if helper.is_empty() || !helper.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
        return Err(CredentialsError::HelperName);
    }
    let mut command = Command::new(program);
    let command = command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let result = converse(&mut child, server, timeout);
    if result.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let (is_success, output) = result?;
    if !is_success {
        let is_missing = output.windows(NOT_FOUND.len()).any(|window| window == NOT_FOUND);
        return if is_missing { Ok(None) } else { Err(CredentialsError::HelperFailed) };
    }
    // The error of serde is dropped, because it may quote the password.
    let output: HelperOutput = parse::json(&output).map_err(|_| CredentialsError::HelperOutput)?;
    Ok(Some(if output.username == TOKEN_USER {
        Credentials::IdentityToken { user: String::new(), token: output.secret }
    } else {
        Credentials::Password { user: output.username, password: output.secret }
    }))
}

/// Sends the server's name to the helper, and returns whether it succeeded and what it printed.
fn converse(child: &mut Child, server: &str, timeout: &Cancellation) -> Result<(bool, Vec<u8>), CredentialsError> {
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
    };
    let (sender, receiver) = mpsc::channel();
    // On a thread, because a child of the helper may hold the pipe open after the helper has ended.
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = output.take(MAX_BYTES).read_to_end(&mut bytes);
        let _ = sender.send(read.map(|_| bytes));
    });
    // If the helper does not read its input, its output shows it.
    let _ = input.write_all(server.as_bytes());
    drop(input);
    let timed_out = |_: CancelReason| CredentialsError::HelperTimeout;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None => timeout.check().map_err(timed_out)?,
        }
        timeout.wait(POLL);
    };
    let left = timeout.remaining().unwrap_or(TIMEOUT).max(POLL);
    let output = receiver.recv_timeout(left).map_err(|_| CredentialsError::HelperTimeout)??;
    Ok((status.success(), output))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_and_missing_helpers() {
        for name in ["", "../x", "a/b", "a b", "layersift-missing"] {
            let error = get(name, "h.example", &Cancellation::never()).unwrap_err();
            assert!(matches!(error, RegistryError::Credentials { .. }), "{name}: {error}");
        }
    }

    #[test]
    fn a_helper_that_does_not_end_is_not_waited_for() {
        let mut command = Command::new("sleep");
        let mut child = command.arg("600").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let result = converse(&mut child, "h.example", &Cancellation::with_deadline(POLL));
        assert!(matches!(result, Err(CredentialsError::HelperTimeout)), "{result:?}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
