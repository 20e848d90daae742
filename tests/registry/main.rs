//! Registries: pulling from them, listing them, and what bad ones do.

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
mod attestations;
mod attested_as;
mod cancellation;
mod catalog_harbor;
mod catalog_hostile;
mod catalog_lists;
mod faults;
mod gone;
mod gone_in_time;
mod harbor_login;
mod images;
mod listings;
mod login;
mod proxy;
mod pulls;
mod recorded_harbor;
mod referrers;
mod tls;
mod waits;
