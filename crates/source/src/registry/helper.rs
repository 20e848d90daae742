//! Credential helpers: programs called `docker-credential-NAME` that keep passwords for Docker and Podman.
//!
//! Source: docker-credential-helpers, "Development". The server's name goes to standard input, and JSON comes back. A
//! helper is given limited time; what it prints is never shown, because it may be a password.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::error::RegistryError;
use super::options::Credentials;

/// How long a helper may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Bytes that a helper may print.
const MOST_BYTES: u64 = 1 << 16;

/// What helpers say, on standard output, when they have nothing.
const NOTHING: &[u8] = b"credentials not found";

/// The user that stands for "this is an identity token".
const TOKEN_USER: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Said {
    username: String,
    secret: String,
}

/// What `helper` has for `server`; `None` where it has nothing.
///
/// # Errors
/// When it cannot be run, fails, takes too long, or says something else than credentials.
pub(super) fn get(helper: &str, server: &str) -> Result<Option<Credentials>, RegistryError> {
    get_within(helper, server, PATIENCE)
}

fn get_within(helper: &str, server: &str, patience: Duration) -> Result<Option<Credentials>, RegistryError> {
    let program = format!("docker-credential-{helper}");
    let failed = |reason: String| RegistryError::Credentials { place: program.clone(), reason };
    if helper.is_empty() || !helper.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
        return Err(failed("this is no name of a credential helper".into()));
    }
    let mut command = Command::new(&program);
    let command = command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let answer = converse(&mut child, server, patience);
    if answer.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let (succeeded, printed) = answer.map_err(failed)?;
    if !succeeded {
        let nothing = printed.windows(NOTHING.len()).any(|window| window == NOTHING);
        return if nothing { Ok(None) } else { Err(failed("the credential helper failed".into())) };
    }
    let said: Said = serde_json::from_slice(&printed).map_err(|_| failed("it printed no credentials".into()))?;
    Ok(Some(if said.username == TOKEN_USER {
        Credentials::IdentityToken { user: String::new(), token: said.secret }
    } else {
        Credentials::Password { user: said.username, password: said.secret }
    }))
}

/// Asks the helper, and says whether it succeeded and what it printed.
fn converse(child: &mut Child, server: &str, patience: Duration) -> Result<(bool, Vec<u8>), String> {
    let until = Instant::now() + patience;
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("it cannot be talked to".into());
    };
    let (sender, receiver) = mpsc::channel();
    // A thread, because a helper may leave a child of its own behind that holds the pipe open.
    std::thread::spawn(move || {
        let mut printed = Vec::new();
        let read = output.take(MOST_BYTES).read_to_end(&mut printed);
        let _ = sender.send(read.map(|_| printed));
    });
    // A helper that does not read what it is asked says so by what it prints.
    let _ = input.write_all(server.as_bytes());
    drop(input);
    let late = || format!("it took longer than {} seconds", patience.as_secs());
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() >= until => return Err(late()),
            Ok(None) => std::thread::sleep(LOOK),
            Err(error) => return Err(error.to_string()),
        }
    };
    let left = until.saturating_duration_since(Instant::now()).max(LOOK);
    let printed = receiver.recv_timeout(left).map_err(|_| late())?.map_err(|error| error.to_string())?;
    Ok((status.success(), printed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_helper() {
        for name in ["", "../x", "a/b", "a b", "layersift-there-is-none"] {
            assert!(matches!(get_within(name, "h.example", LOOK), Err(RegistryError::Credentials { .. })), "{name}");
        }
    }

    #[test]
    fn a_helper_that_does_not_end_is_not_waited_for() {
        let mut command = Command::new("sleep");
        let mut child = command.arg("600").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        assert!(converse(&mut child, "h.example", LOOK).unwrap_err().contains("longer than"));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
