//! What the signature files say: the shape of `signatures/**/*.toml`, its terms, and nothing of how it is matched.

use std::sync::Arc;

use serde::Deserialize;

use layersift_model::{Confidence, RuleInfo, Severity};

/// One signature: what to look for and what to tell the person who has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// `provider.token`, never reused.
    pub id: String,
    /// A few words, sentence case.
    pub title: String,
    /// How bad a confirmed finding is.
    pub severity: Severity,
    /// How sure a confirmed finding is.
    #[serde(default = "medium")]
    pub confidence: Confidence,
    /// A regular expression over bytes, in the syntax of the `regex` crate without Unicode, of bounded length.
    /// The group `secret` is the secret; without it the whole match is. An expression of several branches may have
    /// `secret2` to `secret4`, too, and the first that is not empty is the secret. The group `value`, if there is one,
    /// is the part of it that must be random and no placeholder, such as the password of an address.
    pub pattern: String,
    /// Literals of which every match contains at least one, in lower case where the pattern ignores case.
    pub keywords: Vec<String>,
    /// Globs of which the path of the file must match one; any file where there are none. A secret whose shape alone is
    /// vague is told by its place.
    #[serde(default)]
    pub paths: Vec<String>,
    /// What it is.
    pub what: String,
    /// What a thief can do with it.
    pub risk: String,
    /// Revoke, rotate, rebuild.
    pub fix: String,
    /// Where the format is documented.
    pub references: Vec<String>,
    /// What has to hold beyond the pattern.
    #[serde(default)]
    pub confirm: Confirm,
    /// Inputs that must be found.
    #[serde(default, rename = "example")]
    pub examples: Vec<Example>,
    /// Inputs that must not be found.
    #[serde(default, rename = "counterexample")]
    pub counterexamples: Vec<Counterexample>,
    /// What a rule in another scanner's format asks for besides.
    #[serde(skip)]
    pub foreign: Option<Foreign>,
}

/// Conditions that only rules in other scanners' formats have. Expressions are read as those of [`Confirm::reject`]
/// are, and need no bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foreign {
    /// An expression that the path of the file must match.
    pub path: Option<String>,
    /// Expressions of which the path must match none.
    pub except_paths: Vec<String>,
    /// Expressions of which the secret must match none.
    pub except_secrets: Vec<String>,
    /// Expressions of which the whole match must match none.
    pub except_matches: Vec<String>,
}

/// What has to hold for a candidate beyond its pattern.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Confirm {
    /// Least Shannon entropy of the secret, in bits a byte.
    #[serde(alias = "min_entropy")]
    pub min_entropy: Option<f64>,
    /// Least number of character classes (lower, upper, digit, other) in the secret.
    #[serde(alias = "min_classes")]
    pub min_classes: Option<u8>,
    /// A checksum inside the secret, by its name in `confirm::checksum`.
    pub checksum: Option<String>,
    /// A parser that takes the place of the pattern's end, by its name in `confirm`.
    pub parser: Option<String>,
    /// Expressions that the secret must not match.
    #[serde(default)]
    pub reject: Vec<String>,
    /// Whether values that look like placeholders (`changeme`, `${TOKEN}`, `xxxx`) are findings nevertheless.
    #[serde(default, alias = "keep_placeholders")]
    pub keep_placeholders: bool,
}

/// An input that a signature must find.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// The text as it would stand in a file.
    #[serde(default)]
    pub input: String,
    /// The bytes in hexadecimal digits, where they are no text.
    #[serde(default)]
    pub hex: Option<String>,
    /// The secret that must come out, where it is not the whole match.
    #[serde(default)]
    pub secret: Option<String>,
}

/// An input that a signature must not find.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counterexample {
    /// The text as it would stand in a file.
    #[serde(default)]
    pub input: String,
    /// The bytes in hexadecimal digits, where they are no text.
    #[serde(default)]
    pub hex: Option<String>,
    /// Why it is none.
    pub why: String,
}

fn medium() -> Confidence {
    Confidence::Medium
}

impl Signature {
    /// What reports say of this rule.
    pub fn info(&self) -> Arc<RuleInfo> {
        info(
            &self.id,
            &self.title,
            self.severity,
            self.confidence,
            [&self.what, &self.risk, &self.fix],
            &self.references,
        )
    }

    /// A path at which the signature holds, for its examples.
    pub fn place(&self) -> String {
        let Some(glob) = self.paths.first() else { return "example".into() };
        glob.replace("**/", "a/").replace("/**", "/b").replace(['*', '?'], "c")
    }
}

/// A file that does not belong in an image, told by its path and what it begins with.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRule {
    /// `ai.<what>`, `source.<what>`.
    pub id: String,
    /// A few words.
    pub title: String,
    /// How bad it is.
    pub severity: Severity,
    /// How sure a finding is.
    #[serde(default = "medium")]
    pub confidence: Confidence,
    /// Globs of which the path must match one: `**/` for any directories, `*` within a name, `?`.
    pub paths: Vec<String>,
    /// An expression that the first [`FileRule::HEAD`] bytes must match.
    #[serde(default)]
    pub contains: Option<String>,
    /// The least size in bytes; an empty file leaks nothing.
    #[serde(default = "one")]
    pub min_size: u64,
    /// What it is.
    pub what: String,
    /// What can be learned from it.
    pub risk: String,
    /// What to do.
    pub fix: String,
    /// Where it is documented.
    #[serde(default)]
    pub references: Vec<String>,
    /// Files that must be found.
    #[serde(default, rename = "example")]
    pub examples: Vec<FileExample>,
    /// Files that must not be found.
    #[serde(default, rename = "counterexample")]
    pub counterexamples: Vec<FileCounterexample>,
    /// What a rule in another scanner's format asks of the path.
    #[serde(skip)]
    pub foreign: Option<Foreign>,
}

/// A file that a rule must find.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileExample {
    /// Its path in the image.
    pub path: String,
    /// What it holds, as text.
    #[serde(default)]
    pub input: String,
    /// What it holds, in hexadecimal digits.
    #[serde(default)]
    pub hex: Option<String>,
}

/// A file that a rule must not find.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileCounterexample {
    /// Its path in the image.
    pub path: String,
    /// What it holds, as text.
    #[serde(default)]
    pub input: String,
    /// What it holds, in hexadecimal digits.
    #[serde(default)]
    pub hex: Option<String>,
    /// Why it is none.
    pub why: String,
}

impl FileRule {
    /// Bytes at the start of a file that `contains` is matched against.
    pub const HEAD: usize = 64 << 10;

    /// What reports say of this rule.
    pub fn info(&self) -> Arc<RuleInfo> {
        info(
            &self.id,
            &self.title,
            self.severity,
            self.confidence,
            [&self.what, &self.risk, &self.fix],
            &self.references,
        )
    }
}

fn one() -> u64 {
    1
}

/// A private key that anyone has: of a test suite, of a program's self-test.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownKey {
    /// SHA-256 of the key in its canonical form, in hexadecimal digits.
    pub sha256: String,
    /// What key it is.
    pub key: String,
    /// Where it is published.
    pub source: String,
}

/// A port that an image should not expose, or that says what it serves.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortRule {
    /// `config.port.<service>`.
    pub id: String,
    /// A few words.
    pub title: String,
    /// How bad it is.
    pub severity: Severity,
    /// The port numbers.
    pub ports: Vec<u16>,
    /// `tcp` or `udp`; both where it is not named.
    #[serde(default)]
    pub protocol: Option<String>,
    /// What kind of port it is, for chains: `debug`, `tls` or `admin`.
    #[serde(default)]
    pub roles: Vec<String>,
    /// What it is.
    pub what: String,
    /// What can be done through it.
    pub risk: String,
    /// What to do.
    pub fix: String,
    /// Where it is documented.
    #[serde(default)]
    pub references: Vec<String>,
}

impl PortRule {
    /// What reports say of this rule.
    pub fn info(&self) -> Arc<RuleInfo> {
        info(
            &self.id,
            &self.title,
            self.severity,
            Confidence::High,
            [&self.what, &self.risk, &self.fix],
            &self.references,
        )
    }
}

/// A part of an image's configuration that checks look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
pub enum ConfigField {
    /// Environment variables, `NAME=value`.
    Env,
    /// Labels, `name=value`.
    Labels,
    /// The default arguments.
    Cmd,
    /// The entry point.
    Entrypoint,
    /// The health check's command.
    Healthcheck,
    /// Triggers for images built on this one.
    OnBuild,
    /// The instructions that made the image.
    History,
    /// The user that the container runs as.
    User,
    /// The working directory.
    WorkingDir,
    /// Declared volumes.
    Volumes,
    /// Any other string of the document.
    Other,
}

/// Something to look for in an image's configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigCheck {
    /// `config.<topic>.<what>`.
    pub id: String,
    /// A few words.
    pub title: String,
    /// How bad it is.
    pub severity: Severity,
    /// How sure a finding is.
    #[serde(default = "medium")]
    pub confidence: Confidence,
    /// The fields that `pattern` is matched against.
    #[serde(default)]
    pub fields: Vec<ConfigField>,
    /// An expression over one string of a field; its group `secret`, if any, is a secret.
    #[serde(default)]
    pub pattern: Option<String>,
    /// A check that is code, by its name in `assemble::config`, in place of `fields` and `pattern`.
    #[serde(default)]
    pub built_in: Option<String>,
    /// What kind of finding it is, for chains: `debug`.
    #[serde(default)]
    pub roles: Vec<String>,
    /// What it is.
    pub what: String,
    /// What can be done with it.
    pub risk: String,
    /// What to do.
    pub fix: String,
    /// Where it is documented; the ids of other catalogues.
    #[serde(default)]
    pub references: Vec<String>,
    /// Strings that must be found.
    #[serde(default, rename = "example")]
    pub examples: Vec<Example>,
    /// Strings that must not be found.
    #[serde(default, rename = "counterexample")]
    pub counterexamples: Vec<Counterexample>,
}

impl ConfigCheck {
    /// What reports say of this rule.
    pub fn info(&self) -> Arc<RuleInfo> {
        info(
            &self.id,
            &self.title,
            self.severity,
            self.confidence,
            [&self.what, &self.risk, &self.fix],
            &self.references,
        )
    }
}

/// Findings that are worse together than each is alone.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainRule {
    /// `chain.<what>`.
    pub id: String,
    /// A few words.
    pub title: String,
    /// How bad it is.
    pub severity: Severity,
    /// Rules of which one must have a finding that is present, by id or by a prefix that ends in `.`.
    pub key: Vec<String>,
    /// Roles of ports or checks of which one must have a finding.
    pub exposure: Vec<String>,
    /// What it is.
    pub what: String,
    /// What can be done with it.
    pub risk: String,
    /// What to do.
    pub fix: String,
    /// Where it is documented.
    #[serde(default)]
    pub references: Vec<String>,
}

impl ChainRule {
    /// What reports say of this rule.
    pub fn info(&self) -> Arc<RuleInfo> {
        info(
            &self.id,
            &self.title,
            self.severity,
            Confidence::High,
            [&self.what, &self.risk, &self.fix],
            &self.references,
        )
    }
}

fn info(
    id: &str,
    title: &str,
    severity: Severity,
    confidence: Confidence,
    texts: [&String; 3],
    references: &[String],
) -> Arc<RuleInfo> {
    let [what, risk, fix] = texts.map(|text| text.trim().to_string());
    let (id, title, references) = (id.into(), title.into(), references.to_vec());
    Arc::new(RuleInfo { id, title, severity, confidence, what, risk, fix, references })
}
