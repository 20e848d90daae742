//! Reading rules from files. Signature files are in the format of [`crate::rule`], or in that of another scanner, which
//! is recognised by its top-level tables.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

use layersift_model::{Algorithm, Hasher, parse};
use serde::Deserialize;

use super::{BuiltInCounts, RulesError, Ruleset, foreign};
use crate::rule::{ChainRule, ConfigCheck, FileRule, KnownKey, PortRule, Signature};

/// The most bytes of one file of rules.
const MOST_FILE_BYTES: u64 = 16 << 20;

/// The signature files of this build as JSON: a list of pairs of a path relative to `signatures/` and the file's
/// tables, without examples.
const BUILT_IN: &str = include_str!(concat!(env!("OUT_DIR"), "/signatures.json"));

/// The files of the rules for prompts, in the same form.
const PROMPTS: &str = include_str!(concat!(env!("OUT_DIR"), "/prompts.json"));

/// Expressions, by the name of their list.
type RejectLists = BTreeMap<String, Vec<String>>;

/// A signature file.
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
    #[serde(default, rename = "reject-lists")]
    reject_lists: RejectLists,
}

/// Rules while their files are read.
pub(super) struct Loading {
    rules: Ruleset,
    /// The file that defines each id.
    ids: HashMap<String, String>,
    /// Lists of all files, with the file that defines each.
    reject_lists: BTreeMap<String, (String, Vec<String>)>,
    has_built_in_lists: bool,
    hasher: Hasher,
}

impl Default for Loading {
    fn default() -> Self {
        Loading {
            rules: Ruleset::default(),
            ids: HashMap::new(),
            reject_lists: BTreeMap::new(),
            has_built_in_lists: false,
            hasher: Hasher::new(Algorithm::Sha256),
        }
    }
}

impl Loading {
    /// Adds the rules of this build.
    pub(super) fn add_built_in(&mut self) -> Result<(), RulesError> {
        for (name, file) in embedded(BUILT_IN)? {
            self.add(&name, file)?;
        }
        let Ruleset { signatures, files, checks, .. } = &self.rules;
        self.rules.built_in = BuiltInCounts { signatures: signatures.len(), files: files.len(), checks: checks.len() };
        self.has_built_in_lists = true;
        self.hasher.update(BUILT_IN.as_bytes());
        Ok(())
    }

    /// Adds the rules for prompts of this build, after its other rules.
    pub(super) fn add_prompts(&mut self) -> Result<(), RulesError> {
        for (name, file) in embedded(PROMPTS)? {
            self.add(&name, file)?;
        }
        self.rules.built_in.signatures = self.rules.signatures.len();
        self.hasher.update(PROMPTS.as_bytes());
        Ok(())
    }

    /// Leaves out the rules for prompts in files that were added.
    pub(super) fn without_prompts(mut self) -> Loading {
        self.rules.signatures.retain(|signature| signature.scope.is_empty());
        self
    }

    /// Adds the rules in `files`, given as names and texts.
    pub(super) fn add_files(&mut self, files: impl IntoIterator<Item = (String, String)>) -> Result<(), RulesError> {
        for (name, text) in files {
            let (file, notes) = File::read(&name, &text)?;
            self.hasher.update(text.as_bytes());
            self.rules.notes.extend(notes.iter().map(|note| format!("{name}: {note}")));
            self.add(&name, file)?;
        }
        Ok(())
    }

    /// All rules, with the expressions of the reject lists that they name.
    pub(super) fn finish(mut self) -> Result<Ruleset, RulesError> {
        let mut signatures = std::mem::take(&mut self.rules.signatures);
        for signature in &mut signatures {
            for list in &signature.confirm.reject_lists {
                let expressions = self.reject_list(&signature.id, list)?;
                signature.confirm.reject.extend_from_slice(expressions);
            }
        }
        self.rules.signatures = signatures;
        self.rules.digest = Some(self.hasher.finish());
        Ok(self.rules)
    }

    fn add(&mut self, name: &str, file: File) -> Result<(), RulesError> {
        file.check(name, &mut self.ids)?;
        self.add_lists(name, file.reject_lists)?;
        let rules = &mut self.rules;
        rules.signatures.extend(file.signature);
        rules.files.extend(file.file);
        rules.ports.extend(file.port);
        rules.checks.extend(file.check);
        rules.chains.extend(file.chain);
        rules.known_keys.extend(file.known_key);
        Ok(())
    }

    fn add_lists(&mut self, file: &str, lists: RejectLists) -> Result<(), RulesError> {
        for (name, expressions) in lists {
            if let Some((other, _)) = self.reject_lists.get(&name) {
                return Err(RulesError::Duplicate { file: file.into(), id: name, other: other.clone() });
            }
            self.reject_lists.insert(name, (file.into(), expressions));
        }
        Ok(())
    }

    /// The expressions of `list`, which the signature `id` names.
    fn reject_list(&mut self, id: &str, list: &str) -> Result<&[String], RulesError> {
        // Files that are loaded without the built-in rules may still use their lists.
        if !self.reject_lists.contains_key(list) && !self.has_built_in_lists {
            self.has_built_in_lists = true;
            for (name, file) in embedded(BUILT_IN)? {
                for (list, expressions) in file.reject_lists {
                    self.reject_lists.entry(list).or_insert((name.clone(), expressions));
                }
            }
        }
        match self.reject_lists.get(list) {
            Some((_, expressions)) => Ok(expressions),
            None => {
                let file = self.ids.get(id).cloned().unwrap_or_default();
                Err(RulesError::RejectList { file, id: id.into(), list: list.into() })
            }
        }
    }
}

impl File {
    /// The rules of the file `name`, and a note for each kind of thing that was left out.
    fn read(name: &str, text: &str) -> Result<(File, Vec<String>), RulesError> {
        let parse = |source| RulesError::Parse { file: name.into(), source };
        match parse::toml(text) {
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

    /// Checks all rules of the file `name`, and adds their ids to `ids`.
    fn check(&self, name: &str, ids: &mut HashMap<String, String>) -> Result<(), RulesError> {
        let rules = self.signature.iter().map(Signature::described);
        let rules = rules.chain(self.file.iter().map(FileRule::described));
        let rules = rules.chain(self.port.iter().map(PortRule::described));
        let rules = rules.chain(self.check.iter().map(ConfigCheck::described));
        for (id, texts) in rules.chain(self.chain.iter().map(ChainRule::described)) {
            check_rule(name, id, texts)?;
            if let Some(other) = ids.insert(id.into(), name.into()) {
                return Err(RulesError::Duplicate { file: name.into(), id: id.into(), other });
            }
        }
        Ok(())
    }
}

fn embedded(json: &str) -> Result<Vec<(String, File)>, RulesError> {
    parse::json(json).map_err(RulesError::BuiltIn)
}

/// Checks the id of a rule, and that none of its texts is missing.
fn check_rule(file: &str, id: &str, texts: [(&'static str, &str); 4]) -> Result<(), RulesError> {
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if !id.contains('.') || !id.split('.').all(is_word) {
        return Err(RulesError::Id { file: file.into(), id: id.into() });
    }
    match texts.into_iter().find(|(_, text)| text.trim().is_empty()) {
        Some((field, _)) => Err(RulesError::Missing { file: file.into(), id: id.into(), field }),
        None => Ok(()),
    }
}

/// The names and texts of the files in `paths`: files, or directories that are searched for `*.toml` files.
pub(super) fn read_files(paths: &[PathBuf]) -> Result<Vec<(String, String)>, RulesError> {
    let mut files = Vec::new();
    for path in paths {
        for file in toml_files(path)? {
            let text = read_bounded(&file).map_err(|source| RulesError::Read { path: file.clone(), source })?;
            files.push((file.display().to_string(), text));
        }
    }
    Ok(files)
}

/// The text of a file, which is no device without an end.
fn read_bounded(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MOST_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MOST_FILE_BYTES {
        return Err(std::io::Error::other(format!("it has more than {MOST_FILE_BYTES} bytes")));
    }
    Ok(text)
}

fn toml_files(path: &Path) -> Result<Vec<PathBuf>, RulesError> {
    let failed = |source| RulesError::Read { path: path.into(), source };
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
