//! Tests of archives: `formats.rs` on what the usual tools write, `hostile.rs` on what no tool would.

mod formats;
mod git;
mod hostile;
