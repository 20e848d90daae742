//! The store, on both databases, and what fills it: sweeps, workers and traces.

#[path = "../support/mod.rs"]
mod support;

mod kept_form;
mod migration;
mod open;
mod queue;
mod records;
mod reports;
mod sweep;
mod trace;
mod workers;
