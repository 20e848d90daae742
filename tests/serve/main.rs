//! `layersift serve` from outside: the program itself, with its own store, at ports that the system chooses.

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

mod api;
mod document;
mod running;
mod scanned;
mod startup;
