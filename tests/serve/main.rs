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

mod admission;
mod api;
mod attestations;
mod attested;
mod audit;
mod clients;
mod document;
mod events;
mod faults;
mod harbor;
mod harbor_catch_up;
mod harbor_stand_in;
mod harbor_stand_in_policy;
mod harbor_stub;
mod images;
mod litellm_answers;
mod notify;
mod prompts;
mod prompts_kept;
mod proxy;
mod proxy_unread;
mod running;
mod scanned;
mod startup;
mod story;
mod uploads;
mod webhooks;
