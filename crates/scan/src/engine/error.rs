//! Errors of the engine.

use layersift_rules::PatternError;

/// Why patterns cannot be compiled, or bytes cannot be scanned.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A pattern is not a valid expression.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// Hyperscan refused the pattern or the set.
    #[error("the patterns cannot be compiled: {0}")]
    Compile(String),
    /// Hyperscan failed while scanning.
    #[error("the engine failed: {0}")]
    Scan(String),
}
