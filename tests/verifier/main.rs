//! `layersift image-verifier`, as containerd calls it: recorded calls against a stand-in service, over TCP and over a
//! Unix socket, and the check of an installation.

#![allow(unreachable_pub)]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unreachable,
    clippy::unwrap_used
)]

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod calls;
mod check;
mod setup;
