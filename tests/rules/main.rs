//! The rules: the engine that looks for them, files of them, and every one of those that are built in.

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

mod engine;
mod foreign_rules;
mod keywords;
mod own_program;
mod prompts;
mod signatures;
