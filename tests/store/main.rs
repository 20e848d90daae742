//! The store, on both databases, and what fills it: sweeps, workers and traces.

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

mod fill;
mod kept_form;
mod open;
mod queue;
mod records;
mod signals;
mod sweep;
mod trace;
mod workers;
