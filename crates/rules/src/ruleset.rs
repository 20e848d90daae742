//! The rules of a scan: those that come with the program, and those of files that the user names.

mod error;
mod examples;
mod expression;
mod foreign;
mod load;
mod notes;
mod values;

use std::path::PathBuf;

use layersift_model::Digest;

pub use self::error::RulesError;
use self::examples::BuiltInExamples;
use self::load::{Loading, read_files};
use crate::rule::{ChainRule, ConfigCheck, FileRule, KnownKey, PortRule, Signature};

/// The rules of a scan, checked when they are loaded.
#[derive(Clone, Debug, Default)]
pub struct Ruleset {
    /// Rules for the bytes of files.
    pub signatures: Vec<Signature>,
    /// Rules for whole files.
    pub files: Vec<FileRule>,
    /// Rules for exposed ports.
    pub ports: Vec<PortRule>,
    /// Rules for the configuration of the image.
    pub checks: Vec<ConfigCheck>,
    /// Rules for combinations of findings.
    pub chains: Vec<ChainRule>,
    /// Private keys that are public.
    pub known_keys: Vec<KnownKey>,
    /// What files in the formats of other scanners ask for and does not apply here: one line for each file and kind,
    /// with the ids of the rules.
    pub notes: Vec<String>,
    digest: Option<Digest>,
    holds_values: bool,
    built_in: BuiltInCounts,
}

/// How many rules of each kind, the first ones, came with this build and are known to be valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BuiltInCounts {
    /// Rules for the bytes of files.
    pub signatures: usize,
    /// Rules for whole files.
    pub files: usize,
    /// Rules for the configuration.
    pub checks: usize,
}

impl Ruleset {
    /// The rules for images that come with this build, without their examples.
    ///
    /// # Errors
    /// Never in a build that passed its tests.
    pub fn built_in() -> Result<Ruleset, RulesError> {
        Ruleset::with_files(&[])
    }

    /// The rules for images that come with this build, without their examples, and those in `paths`: files, or
    /// directories of `*.toml` files.
    ///
    /// # Errors
    /// If a file cannot be read, is not a signature file, or uses an id that is taken.
    pub fn with_files(paths: &[PathBuf]) -> Result<Ruleset, RulesError> {
        let mut loading = Loading::default();
        loading.add_built_in()?;
        loading.add_files(read_files(paths)?)?;
        loading.without_prompts().finish()
    }

    /// The rules of [`Ruleset::with_files`] and those for prompts.
    ///
    /// # Errors
    /// As for [`Ruleset::with_files`].
    pub fn for_prompts(paths: &[PathBuf]) -> Result<Ruleset, RulesError> {
        let mut loading = Loading::default();
        loading.add_built_in()?;
        loading.add_prompts()?;
        loading.add_files(read_files(paths)?)?;
        loading.finish()
    }

    /// Only the rules for prompts that come with this build, without their examples.
    ///
    /// # Errors
    /// Never in a build that passed its tests.
    pub fn prompts() -> Result<Ruleset, RulesError> {
        let mut loading = Loading::default();
        loading.add_prompts()?;
        loading.finish()
    }

    /// Only the rules in `paths`: files, or directories of `*.toml` files.
    ///
    /// # Errors
    /// As for [`Ruleset::with_files`].
    pub fn only_files(paths: &[PathBuf]) -> Result<Ruleset, RulesError> {
        Ruleset::from_files(read_files(paths)?)
    }

    /// The rules in `files`, given as pairs of a name, which errors mention, and a TOML text.
    ///
    /// # Errors
    /// As for [`Ruleset::with_files`].
    pub fn from_files(files: impl IntoIterator<Item = (String, String)>) -> Result<Ruleset, RulesError> {
        let mut loading = Loading::default();
        loading.add_files(files)?;
        loading.finish()
    }

    /// Adds the examples of the rules that came with this build, which takes as long as loading the rules.
    ///
    /// # Errors
    /// Never in a build that passed its tests.
    pub fn with_built_in_examples(mut self) -> Result<Ruleset, RulesError> {
        let mut built_in = BuiltInExamples::load()?;
        for rule in self.signatures.iter_mut().take(self.built_in.signatures) {
            if let Some(found) = built_in.signature.remove(&rule.id) {
                (rule.examples, rule.counterexamples) = (found.examples, found.counterexamples);
            }
        }
        for rule in &mut self.files {
            if let Some(found) = built_in.file.remove(&rule.id) {
                (rule.examples, rule.counterexamples) = (found.examples, found.counterexamples);
            }
        }
        for rule in &mut self.checks {
            if let Some(found) = built_in.check.remove(&rule.id) {
                (rule.examples, rule.counterexamples) = (found.examples, found.counterexamples);
            }
        }
        Ok(self)
    }

    /// How many rules came with this build.
    pub fn built_in_counts(&self) -> BuiltInCounts {
        self.built_in
    }

    /// The ids of all rules.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        let signatures = self.signatures.iter().map(|rule| &rule.id[..]);
        let files = signatures.chain(self.files.iter().map(|rule| &rule.id[..]));
        let ports = files.chain(self.ports.iter().map(|rule| &rule.id[..]));
        let checks = ports.chain(self.checks.iter().map(|rule| &rule.id[..]));
        checks.chain(self.chains.iter().map(|rule| &rule.id[..]))
    }

    /// Whether there are no rules at all.
    pub fn is_empty(&self) -> bool {
        self.ids().next().is_none()
    }

    /// The digest of the files that the rules were read from, such as `sha256:…`; `none` if there are no files.
    pub fn digest(&self) -> String {
        self.digest.as_ref().map_or_else(|| "none".into(), Digest::to_string)
    }
}

#[cfg(test)]
mod tests;
