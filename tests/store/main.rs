//! The store, on both databases, and what fills it: sweeps, workers and traces.

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

mod artifacts;
mod blocked;
mod harbor_model;
mod harbor_sweep;
mod harbor_tasks;
mod images;
mod kept_form;
mod leases;
mod migration;
mod much;
mod news;
mod notifications;
mod open;
mod pending;
mod prompt_sightings;
mod queue;
mod records;
mod referrers;
mod reports;
mod restart;
mod retention;
mod scan_requests;
mod service;
mod signals;
mod sweep;
mod target_work;
mod together;
mod trace;
mod workers;
