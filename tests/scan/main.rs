//! What is found in images, and what is said of them, through the program and through the library.

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

mod archives;
mod audit;
mod builds;
mod carve;
mod command_line;
mod conformance;
mod daemon;
mod damaged;
mod diff;
mod disguises;
mod disks;
mod disks_hostile;
mod documents;
mod hostile_files;
mod hostile_layers;
mod hostile_memory;
mod hostile_programs;
mod hostile_sizes;
mod hostile_targets;
mod incident;
mod lifetimes;
mod many_images;
mod masking;
mod names;
mod pipes;
mod policy;
mod programs;
mod readers;
mod referrers;
mod render;
mod report_schema;
mod sbom;
mod scrub;
mod shipped;
mod snapshots;
mod sweep_files;
mod unsupported_stores;
mod written_files;
