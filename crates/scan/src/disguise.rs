//! Disguises: the ways in which a secret is written without standing there in plain, and back.
//!
//! No pass decodes all bytes. What every match of a signature contains, its keywords, is looked for in each disguise by
//! the same engine and at the same time as everything else ([`anchors`]); where one of these anchors is hit, the run
//! of bytes around it is decoded ([`decode`]) and read like any other bytes, disguises included.

mod decode;

pub use decode::{Decoded, decode};
pub use layersift_rules::{Anchor, Disguise, Keyword, anchors};
