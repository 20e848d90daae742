//! The engine: a Hyperscan database of all patterns, which finds candidates for the confirmer.

mod beginnings;
mod built_in;
mod cache;
mod error;
mod scan;

pub use built_in::{BuiltInDatabase, EncodedKeywordCode, built_in, load_built_in};
pub use cache::Cache;
pub use error::EngineError;
pub use layersift_rules::{MAX_WIDTH, Pattern};
pub use scan::{Candidate, Engine, Session, SignatureDatabase};

/// The engine's name and version, such as `5.4.9 2023-05-05`.
pub fn version() -> String {
    hyperscan::version().to_string()
}
