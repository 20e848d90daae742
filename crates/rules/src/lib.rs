//! The rules of Layersift: the format of signature files, and the patterns that an engine searches for.
//!
//! [`Ruleset`] loads rules, those that come with the program or those of files, and checks them. [`PatternSet`] turns
//! signatures into bounded regular expressions, and their keywords into expressions for their encoded forms. Nothing
//! here matches bytes: `layersift-scan` compiles the patterns, those of the built-in rules in its build script.
//!
//! ```
//! use layersift_rules::{PatternSet, Ruleset};
//!
//! let text = r#"
//! [[signature]]
//! id = "acme.deploy-token"
//! title = "Acme deploy token"
//! severity = "high"
//! pattern = '\bacme_[0-9a-f]{32}\b'
//! keywords = ["acme_"]
//! what = "A token of a deployment in Acme."
//! risk = "Deploys any image."
//! fix = "Revoke the token, and pass a new one at run time."
//! "#;
//! let rules = Ruleset::from_files([("acme.toml".to_string(), text.to_string())])?;
//! assert_eq!(rules.ids().collect::<Vec<_>>(), ["acme.deploy-token"]);
//!
//! let patterns = PatternSet::new(&rules.signatures)?;
//! assert_eq!(patterns.patterns[0].width(), "acme_".len() + 32);
//! assert!(patterns.encoded_keywords.iter().any(|keyword| keyword.encoding.name() == "base64"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod compile;
mod encoding;
mod pattern;
mod rule;
mod ruleset;

pub use compile::{BeginningKeyword, PatternSet, beginning_keywords, fingerprint};
pub use encoding::{EncodedKeyword, Encoding, Keyword, encoded_keywords};
pub use pattern::{MAX_WIDTH, Pattern, PatternError};
pub use rule::{
    ChainRule, ConfigCheck, ConfigField, Confirm, Counterexample, Example, FileCounterexample, FileExample, FileRule,
    Foreign, KnownKey, PortRule, Scope, Signature,
};
pub use ruleset::{BuiltInCounts, RulesError, Ruleset};
