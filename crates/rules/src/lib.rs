//! The format of signature files: what a rule says, the patterns it holds, and how they are read from TOML.
//!
//! This crate knows nothing of how bytes are matched; `layersift-scan` compiles what is read here, in its build script
//! for the built-in rules and at run time for all others.

mod anchor;
mod compile;
mod pattern;
mod rule;
mod ruleset;

pub use anchor::{Anchor, Disguise, Keyword, anchors};
pub use compile::{PatternSet, fingerprint};
pub use pattern::*;
pub use rule::*;
pub use ruleset::*;
