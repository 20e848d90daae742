//! The crate from outside: against recordings of cosign, a simulated registry, and every changed bit.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod deviations;
mod keys;
mod recordings;
mod support;
mod table;
