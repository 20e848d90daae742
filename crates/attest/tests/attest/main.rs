//! The crate from outside: against recordings of cosign, a simulated registry, and every changed bit.

#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::unwrap_used)]

mod bits;
mod decision;
mod deviations;
mod keys;
mod platforms;
mod recordings;
mod simulation;
mod support;
mod table;
mod timestamps;
mod writers;
