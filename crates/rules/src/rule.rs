//! The contents of signature files: the shape of `signatures/**/*.toml`, without anything about matching.

use std::sync::Arc;

use serde::Deserialize;

use layersift_model::{Confidence, RuleInfo, Severity};

/// Declares a kind of rule: a struct of the fields that all kinds have and those of its own, with the method `info`.
///
/// A macro, because serde supports `flatten` neither with `deny_unknown_fields` nor with the line numbers of errors.
macro_rules! rule {
    (
        $(#[$attribute:meta])*
        pub struct $name:ident, confidence = $confidence:literal {
            $($(#[$field_attribute:meta])* pub $field:ident: $type:ty,)*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// The unique id, `provider.token` or `topic.subject`; never reused.
            pub id: String,
            /// A few words, sentence case.
            pub title: String,
            /// How bad a finding is.
            pub severity: Severity,
            /// How sure a finding is.
            #[serde(default = $confidence)]
            pub confidence: Confidence,
            /// What was found, in a sentence or two.
            pub what: String,
            /// What an attacker can do with it.
            pub risk: String,
            /// What the owner of the image should do.
            pub fix: String,
            /// URLs of the documentation of the format or the risk, and ids of other catalogues.
            #[serde(default)]
            pub references: Vec<String>,
            $($(#[$field_attribute])* pub $field: $type,)*
        }

        impl $name {
            /// The id, and the texts that every rule must have, each with the name of its field.
            pub(crate) fn described(&self) -> (&str, [(&'static str, &str); 4]) {
                let texts = [("title", &self.title), ("what", &self.what), ("risk", &self.risk), ("fix", &self.fix)];
                (&self.id, texts.map(|(field, text)| (field, &text[..])))
            }

            /// What reports say about this rule.
            pub fn info(&self) -> Arc<RuleInfo> {
                Arc::new(RuleInfo {
                    id: self.id.clone(),
                    title: self.title.clone(),
                    severity: self.severity,
                    confidence: self.confidence,
                    what: self.what.trim().into(),
                    risk: self.risk.trim().into(),
                    fix: self.fix.trim().into(),
                    references: self.references.clone(),
                })
            }
        }
    };
}

rule! {
    /// Finds secrets in the bytes of files. Its id is `provider.token`.
    pub struct Signature, confidence = "medium" {
        /// A regular expression over bytes, in the syntax of the `regex` crate without Unicode, of bounded length.
        ///
        /// The group `secret` is the secret; without that group, the whole match is. An expression with several
        /// branches may also have `secret2` to `secret4`; the first group that is not empty is the secret. An optional
        /// group `value` marks the part that must be random and must not be a placeholder, such as the password of a
        /// URL.
        pub pattern: String,
        /// Literals; every match contains at least one of them. In lower case if the pattern ignores case.
        pub keywords: Vec<String>,
        /// An expression that the engine searches for instead of `pattern` where keywords are frequent. Every match of
        /// `pattern` contains a match of it. For patterns that an engine cannot hold, such as lists of numbers.
        #[serde(default)]
        pub proposal: Option<String>,
        /// Globs; the path of the file must match one of them, unless there are none. For secrets that cannot be told
        /// by their shape alone.
        #[serde(default)]
        pub paths: Vec<String>,
        /// Parts of a conversation with a model. With any, the signature is a rule for prompts: it is not used for
        /// images, and a finding in another part does not count.
        #[serde(default)]
        pub scope: Vec<Scope>,
        /// What must hold besides the pattern.
        #[serde(default)]
        pub confirm: Confirm,
        /// Inputs in which the signature must find a secret.
        #[serde(default, rename = "example")]
        pub examples: Vec<Example>,
        /// Inputs in which the signature must find nothing.
        #[serde(default, rename = "counterexample")]
        pub counterexamples: Vec<Counterexample>,
        /// Further conditions of a rule in the format of another scanner.
        #[serde(skip)]
        pub foreign: Option<Foreign>,
    }
}

rule! {
    /// Finds files that do not belong in an image, by path and first bytes. Its id is `ai.<what>` or `source.<what>`.
    pub struct FileRule, confidence = "medium" {
        /// Globs; the path must match one of them. `**/` matches any directories, `*` any part of a name, `?` one
        /// character.
        pub paths: Vec<String>,
        /// An expression that the first [`FileRule::HEAD`] bytes must match.
        #[serde(default)]
        pub contains: Option<String>,
        /// The smallest size in bytes; an empty file leaks nothing.
        #[serde(default = "one")]
        pub min_size: u64,
        /// Files that the rule must find.
        #[serde(default, rename = "example")]
        pub examples: Vec<FileExample>,
        /// Files that the rule must not find.
        #[serde(default, rename = "counterexample")]
        pub counterexamples: Vec<FileCounterexample>,
        /// Conditions on the path of a rule in the format of another scanner.
        #[serde(skip)]
        pub foreign: Option<Foreign>,
    }
}

rule! {
    /// Finds exposed ports. Its id is `config.port.<service>`.
    pub struct PortRule, confidence = "high" {
        /// The port numbers.
        pub ports: Vec<u16>,
        /// `tcp` or `udp`; both if absent.
        #[serde(default)]
        pub protocol: Option<String>,
        /// The roles of the port in chains: `debug`, `tls` or `admin`.
        #[serde(default)]
        pub roles: Vec<String>,
    }
}

rule! {
    /// Finds problems in the configuration of an image. Its id is `config.<topic>.<what>`.
    pub struct ConfigCheck, confidence = "medium" {
        /// The fields that `pattern` is matched against.
        #[serde(default)]
        pub fields: Vec<ConfigField>,
        /// An expression over one string of a field; its group `secret`, if it has one, is a secret.
        #[serde(default)]
        pub pattern: Option<String>,
        /// The name of a check in `assemble::config`, instead of `fields` and `pattern`.
        #[serde(default)]
        pub built_in: Option<String>,
        /// The roles of the finding in chains: `debug`.
        #[serde(default)]
        pub roles: Vec<String>,
        /// Strings that the check must find.
        #[serde(default, rename = "example")]
        pub examples: Vec<Example>,
        /// Strings that the check must not find.
        #[serde(default, rename = "counterexample")]
        pub counterexamples: Vec<Counterexample>,
    }
}

rule! {
    /// Finds combinations of findings that are worse together than each is alone. Its id is `chain.<what>`.
    pub struct ChainRule, confidence = "high" {
        /// Rules by id, or by a prefix that ends in `.`; one of them must have a finding in the final file system.
        pub key: Vec<String>,
        /// Roles of ports or checks; one of them must have a finding.
        pub exposure: Vec<String>,
    }
}

impl Signature {
    /// A path that matches `paths`, to scan the examples at.
    pub fn place(&self) -> String {
        let Some(glob) = self.paths.first() else { return "example".into() };
        glob.replace("**/", "a/").replace("/**", "/b").replace(['*', '?'], "c")
    }
}

impl FileRule {
    /// The number of bytes at the start of a file that `contains` is matched against.
    pub const HEAD: usize = 64 << 10;
}

/// A part of a conversation with a model, by who wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// What a person wrote.
    Prompt,
    /// What the model wrote.
    Answer,
    /// What the model asks a tool to do.
    ToolInput,
    /// What a tool answered, and files and pages that were read.
    ToolOutput,
}

/// What must hold for a match besides its pattern.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Confirm {
    /// The least Shannon entropy of the secret, in bits per byte.
    #[serde(alias = "min_entropy")]
    pub min_entropy: Option<f64>,
    /// The least number of character classes (lower, upper, digit, other) in the secret.
    #[serde(alias = "min_classes")]
    pub min_classes: Option<u8>,
    /// The name of a checksum in `confirm::checksum` that the secret must pass.
    pub checksum: Option<String>,
    /// The name of a parser in `confirm` that reads on from the start of the match.
    pub parser: Option<String>,
    /// Expressions that the secret must not match. After loading, with those of `reject_lists`.
    #[serde(default)]
    pub reject: Vec<String>,
    /// Expressions that the whole match must not match, such as a name before the secret.
    #[serde(default, alias = "reject_matches")]
    pub reject_matches: Vec<String>,
    /// Names of lists in `[reject-lists]`, of the same file or of a built-in one.
    #[serde(default, alias = "reject_lists")]
    pub reject_lists: Vec<String>,
    /// Whether values that look like placeholders (`changeme`, `${TOKEN}`, `xxxx`) are findings.
    #[serde(default, alias = "keep_placeholders")]
    pub keep_placeholders: bool,
    /// Whether the secret is a key of a cipher, written as text: its fingerprint is then that of the bytes that it
    /// spells, as in a compiled module.
    #[serde(default, alias = "key_bytes")]
    pub key_bytes: bool,
    /// Whether the secret must spell bytes that can be a key: of the length of one, random, and in no standard.
    #[serde(default, alias = "random_key")]
    pub random_key: bool,
    /// Whether a call that takes a key must follow, with the group `name` in its place.
    #[serde(default, alias = "passed_to_cipher")]
    pub passed_to_cipher: bool,
}

/// Conditions that only rules in the formats of other scanners have. Their expressions, like those of
/// [`Confirm::reject`], may be unbounded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foreign {
    /// An expression that the path of the file must match.
    pub path: Option<String>,
    /// Expressions that the path must not match.
    pub except_paths: Vec<String>,
    /// Expressions that the secret must not match.
    pub except_secrets: Vec<String>,
    /// Expressions that the whole match must not match.
    pub except_matches: Vec<String>,
}

/// An input in which a signature must find a secret.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// The text of a file.
    #[serde(default)]
    pub input: String,
    /// Instead of `input`, the bytes of a file in hexadecimal.
    #[serde(default)]
    pub hex: Option<String>,
    /// The expected secret, unless it is the whole match.
    #[serde(default)]
    pub secret: Option<String>,
}

/// An input in which a signature must find nothing.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counterexample {
    /// The text of a file.
    #[serde(default)]
    pub input: String,
    /// Instead of `input`, the bytes of a file in hexadecimal.
    #[serde(default)]
    pub hex: Option<String>,
    /// Why there is no secret in it.
    pub why: String,
}

/// A file that a rule must find.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileExample {
    /// Its path in the image.
    pub path: String,
    /// Its content, as text.
    #[serde(default)]
    pub input: String,
    /// Instead of `input`, its content in hexadecimal.
    #[serde(default)]
    pub hex: Option<String>,
}

/// A file that a rule must not find.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileCounterexample {
    /// Its path in the image.
    pub path: String,
    /// Its content, as text.
    #[serde(default)]
    pub input: String,
    /// Instead of `input`, its content in hexadecimal.
    #[serde(default)]
    pub hex: Option<String>,
    /// Why the file may be in an image.
    pub why: String,
}

/// A private key that is public: from a test suite, a standard, or the self-test of a program.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownKey {
    /// The SHA-256 of the key in its canonical form, in hexadecimal.
    pub sha256: String,
    /// A description of the key.
    pub key: String,
    /// Where it is published.
    pub source: String,
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
    /// The command of the health check.
    Healthcheck,
    /// Instructions that run when another image is built on this one.
    OnBuild,
    /// The instructions that the image was built with.
    History,
    /// The user that the container runs as.
    User,
    /// The working directory.
    WorkingDir,
    /// Declared volumes.
    Volumes,
    /// Any other string in the document.
    Other,
}

fn medium() -> Confidence {
    Confidence::Medium
}

fn high() -> Confidence {
    Confidence::High
}

fn one() -> u64 {
    1
}
