//! The set of rules that a scan uses: built in, or loaded from files, checked before the first byte is read.
//!
//! Signature files are ours (`crate::rule`), or files of another scanner (`foreign`), told by their top-level tables.

mod examples;
mod expression;
mod foreign;
mod notes;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use self::examples::BuiltInExamples;
use crate::rule::{ChainRule, ConfigCheck, FileRule, KnownKey, PortRule, Signature};
use layersift_model::{Algorithm, Digest, Hasher, RuleInfo};

/// The signature files of this build as JSON: a list of pairs of a path relative to `signatures/` and the file's tables,
/// without examples.
const BUILT_IN: &str = include_str!(concat!(env!("OUT_DIR"), "/signatures.json"));

/// The rules of a scan.
#[derive(Clone, Debug, Default)]
pub struct Ruleset {
    /// What to look for in bytes.
    pub signatures: Vec<Signature>,
    /// Files that do not belong in an image.
    pub files: Vec<FileRule>,
    /// Ports that should not be exposed.
    pub ports: Vec<PortRule>,
    /// What to look for in the image's configuration.
    pub checks: Vec<ConfigCheck>,
    /// Findings that are worse together.
    pub chains: Vec<ChainRule>,
    /// Private keys that are no secret.
    pub known_keys: Vec<KnownKey>,
    /// What of files in other scanners' formats is left out: a line for each file and kind, with the ids concerned.
    pub notes: Vec<String>,
    digest: Option<Digest>,
    /// How many of the signatures, the first ones, came with this build.
    built_in: usize,
}

/// Why rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// A file that cannot be read.
    #[error("{path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// A file that is no signature file.
    #[error("{file}: {error}")]
    Parse {
        /// The file.
        file: String,
        /// What is wrong, with line and column.
        error: toml::de::Error,
    },
    /// The rules of this build, damaged.
    #[error("the rules that came with this build: {0}")]
    BuiltIn(serde_json::Error),
    /// A file in another scanner's format, of which nothing can be used.
    #[error("{file}: none of its rules can be used; {reasons}")]
    Useless {
        /// The file.
        file: String,
        /// What is wrong with them.
        reasons: String,
    },
    /// Two rules with one id.
    #[error("{file}: the id `{id}` is taken by {other}")]
    Duplicate {
        /// The file of the second rule.
        file: String,
        /// The id.
        id: String,
        /// The file of the first rule.
        other: String,
    },
    /// An id that is not of the form `provider.token`.
    #[error("{file}: `{id}` is no id: expected lower-case words joined by `-`, and at least one `.`")]
    Id {
        /// The file.
        file: String,
        /// The id.
        id: String,
    },
    /// A rule without a text that reports need.
    #[error("{file}: {id} has no `{field}`")]
    Missing {
        /// The file.
        file: String,
        /// The rule's id.
        id: String,
        /// The empty field.
        field: &'static str,
    },
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    signature: Vec<Signature>,
    #[serde(default)]
    file: Vec<FileRule>,
    #[serde(default)]
    port: Vec<PortRule>,
    #[serde(default)]
    check: Vec<ConfigCheck>,
    #[serde(default)]
    chain: Vec<ChainRule>,
    #[serde(default, rename = "known-key")]
    known_key: Vec<KnownKey>,
}

impl Ruleset {
    /// The rules that come with this build, without their examples.
    ///
    /// # Errors
    /// Never in a build that passed its tests.
    pub fn built_in() -> Result<Ruleset, RulesError> {
        Ruleset::with_files(&[])
    }

    /// The rules that come with this build, without their examples, and those in `paths`: files, or directories of
    /// `*.toml` files.
    ///
    /// # Errors
    /// For what cannot be read, is no signature file, or uses an id a second time.
    pub fn with_files(paths: &[PathBuf]) -> Result<Ruleset, RulesError> {
        let mut loading = Loading::default();
        let built_in: Vec<(String, File)> = serde_json::from_str(BUILT_IN).map_err(RulesError::BuiltIn)?;
        for (name, file) in built_in {
            loading.add(&name, file)?;
        }
        loading.rules.built_in = loading.rules.signatures.len();
        loading.hasher.update(BUILT_IN.as_bytes());
        loading.read(read_files(paths)?)
    }

    /// The same rules, with the examples of those that come with this build.
    ///
    /// # Errors
    /// Never in a build that passed its tests.
    pub fn with_built_in_examples(mut self) -> Result<Ruleset, RulesError> {
        let mut built_in = BuiltInExamples::load()?;
        for rule in self.signatures.iter_mut().take(self.built_in) {
            if let Some(examples) = built_in.signature.remove(&rule.id) {
                (rule.examples, rule.counterexamples) = (examples.examples, examples.counterexamples);
            }
        }
        for rule in &mut self.files {
            if let Some(examples) = built_in.file.remove(&rule.id) {
                (rule.examples, rule.counterexamples) = (examples.examples, examples.counterexamples);
            }
        }
        for rule in &mut self.checks {
            if let Some(examples) = built_in.check.remove(&rule.id) {
                (rule.examples, rule.counterexamples) = (examples.examples, examples.counterexamples);
            }
        }
        Ok(self)
    }

    /// The rules in `paths` alone: files, or directories of `*.toml` files.
    ///
    /// # Errors
    /// As for [`Ruleset::with_files`].
    pub fn only_files(paths: &[PathBuf]) -> Result<Ruleset, RulesError> {
        Ruleset::from_files(read_files(paths)?)
    }

    /// The rules in `files`, given as names and texts.
    ///
    /// # Errors
    /// As for [`Ruleset::with_files`].
    pub fn from_files(files: impl IntoIterator<Item = (String, String)>) -> Result<Ruleset, RulesError> {
        Loading::default().read(files)
    }

    /// How many of the signatures, the first ones, came with this build: what is wrong with those, its tests find.
    pub fn built_in_signatures(&self) -> usize {
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

    /// Whether there is no rule of any kind.
    pub fn is_empty(&self) -> bool {
        self.ids().next().is_none()
    }

    /// What names this set of rules: the digest of the files it was read from.
    pub fn digest(&self) -> String {
        self.digest.as_ref().map_or_else(|| "none".into(), Digest::to_string)
    }
}

/// Rules while their files are read.
struct Loading {
    rules: Ruleset,
    /// The file that each id is from.
    ids: HashMap<String, String>,
    hasher: Hasher,
}

impl Default for Loading {
    fn default() -> Self {
        Loading { rules: Ruleset::default(), ids: HashMap::new(), hasher: Hasher::new(Algorithm::Sha256) }
    }
}

impl Loading {
    /// The rules so far and those in `files`, given as names and texts.
    fn read(mut self, files: impl IntoIterator<Item = (String, String)>) -> Result<Ruleset, RulesError> {
        for (name, text) in files {
            let (file, notes) = File::read(&name, &text)?;
            self.hasher.update(text.as_bytes());
            self.rules.notes.extend(notes.iter().map(|note| format!("{name}: {note}")));
            self.add(&name, file)?;
        }
        self.rules.digest = Some(self.hasher.finish());
        Ok(self.rules)
    }

    fn add(&mut self, name: &str, file: File) -> Result<(), RulesError> {
        file.check(name, &mut self.ids)?;
        let rules = &mut self.rules;
        rules.signatures.extend(file.signature);
        rules.files.extend(file.file);
        rules.ports.extend(file.port);
        rules.checks.extend(file.check);
        rules.chains.extend(file.chain);
        rules.known_keys.extend(file.known_key);
        Ok(())
    }
}

impl File {
    /// The rules of the file `name`, and what of them is left out.
    fn read(name: &str, text: &str) -> Result<(File, Vec<String>), RulesError> {
        let parse = |error| RulesError::Parse { file: name.into(), error };
        match toml::from_str(text) {
            Ok(file) => Ok((file, Vec::new())),
            Err(_) if foreign::is_foreign(text) => {
                let foreign::Loaded { signatures, files, notes } = foreign::load(text).map_err(parse)?;
                if signatures.is_empty() && files.is_empty() {
                    let reasons = if notes.is_empty() { "there are none".into() } else { notes.join("; ") };
                    return Err(RulesError::Useless { file: name.into(), reasons });
                }
                Ok((File { signature: signatures, file: files, ..File::default() }, notes))
            }
            Err(error) => Err(parse(error)),
        }
    }

    fn check(&self, file: &str, ids: &mut HashMap<String, String>) -> Result<(), RulesError> {
        let infos = self.signature.iter().map(Signature::info);
        let infos = infos.chain(self.file.iter().map(FileRule::info));
        let infos = infos.chain(self.port.iter().map(PortRule::info));
        let infos = infos.chain(self.check.iter().map(ConfigCheck::info));
        for info in infos.chain(self.chain.iter().map(ChainRule::info)) {
            check_info(file, &info)?;
            if let Some(other) = ids.insert(info.id.clone(), file.into()) {
                return Err(RulesError::Duplicate { file: file.into(), id: info.id.clone(), other });
            }
        }
        Ok(())
    }
}

fn check_info(file: &str, info: &Arc<RuleInfo>) -> Result<(), RulesError> {
    let word = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if !info.id.contains('.') || !info.id.split('.').all(word) {
        return Err(RulesError::Id { file: file.into(), id: info.id.clone() });
    }
    for (field, text) in [("title", &info.title), ("what", &info.what), ("risk", &info.risk), ("fix", &info.fix)] {
        if text.trim().is_empty() {
            return Err(RulesError::Missing { file: file.into(), id: info.id.clone(), field });
        }
    }
    Ok(())
}

/// The files that `paths` are or hold, as names and texts.
fn read_files(paths: &[PathBuf]) -> Result<Vec<(String, String)>, RulesError> {
    let mut files = Vec::new();
    for path in paths {
        for file in toml_files(path)? {
            let text =
                std::fs::read_to_string(&file).map_err(|error| RulesError::Read { path: file.clone(), error })?;
            files.push((file.display().to_string(), text));
        }
    }
    Ok(files)
}

fn toml_files(path: &Path) -> Result<Vec<PathBuf>, RulesError> {
    let failed = |error| RulesError::Read { path: path.into(), error };
    if !std::fs::metadata(path).map_err(failed)?.is_dir() {
        return Ok(vec![path.into()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            files.extend(toml_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
