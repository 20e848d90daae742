//! Scrubs images in memory: what is removed and blanked, what stays byte for byte, and what is refused.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod blanking;
mod documents;
mod properties;
mod remains;
mod removal;
mod support;
mod values;
