//! The store, on both databases, and what fills it: sweeps, workers and traces.

#[path = "../support/mod.rs"]
mod support;

mod fill;
mod kept_form;
mod open;
mod queue;
mod records;
mod sweep;
mod trace;
mod workers;
