//! The examples of the built-in rules, which the program contains compressed and apart from the rules: only `rules
//! check`, `rules show`, `rules list` and tests read them.

use std::collections::HashMap;
use std::io::BufReader;

use flate2::read::DeflateDecoder;
use layersift_model::parse;
use serde::Deserialize;

use super::RulesError;
use crate::rule::{Counterexample, Example, FileCounterexample, FileExample};

/// The JSON of [`BuiltInExamples`], as a raw deflate stream (RFC 1951).
const COMPRESSED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/examples.json.deflate"));

/// Examples of each kind of rule, by the id of the rule.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct BuiltInExamples {
    pub(super) signature: HashMap<String, Examples<Example, Counterexample>>,
    pub(super) file: HashMap<String, Examples<FileExample, FileCounterexample>>,
    pub(super) check: HashMap<String, Examples<Example, Counterexample>>,
}

/// The examples of one rule.
#[derive(Deserialize)]
pub(super) struct Examples<E, C> {
    #[serde(default = "Vec::new", rename = "example")]
    pub(super) examples: Vec<E>,
    #[serde(default = "Vec::new", rename = "counterexample")]
    pub(super) counterexamples: Vec<C>,
}

impl BuiltInExamples {
    /// Inflates and parses the examples.
    ///
    /// # Errors
    /// Never in a build that passed its tests.
    pub(super) fn load() -> Result<BuiltInExamples, RulesError> {
        parse::json_from(BufReader::new(DeflateDecoder::new(COMPRESSED))).map_err(RulesError::Examples)
    }
}
