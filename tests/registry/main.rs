//! Registries: pulling from them, listing them, and what bad ones do.

#[path = "../support/mod.rs"]
mod support;

mod cancellation;
mod catalog_harbor;
mod catalog_hostile;
mod catalog_lists;
mod faults;
mod images;
mod listings;
mod login;
mod proxy;
mod pulls;
mod tls;
