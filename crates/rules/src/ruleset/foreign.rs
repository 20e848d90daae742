//! Translates rules in the TOML format of Gitleaks and Betterleaks into signatures, with notes on what is left out.
//!
//! Sources: "Configuration" in the README of <https://github.com/gitleaks/gitleaks>, and `docs/config.md` of
//! <https://github.com/betterleaks/betterleaks>. A condition that is not supported is left out, so that the rule finds
//! more and not less; only the bounds of repetitions and the rejection of placeholders make it find less. Notes name
//! the rules that cannot be translated; the other rules of the file are used.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::expression::{self, Bounded, ExpressionError, MAX_REPEATS};
use super::notes::Notes;
use crate::rule::{Confirm, FileRule, Foreign, Signature};
use layersift_model::{Confidence, ParseError, Severity, parse};

/// The translated rules of a file.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// Rules for bytes.
    pub(super) signatures: Vec<Signature>,
    /// Rules for paths alone.
    pub(super) files: Vec<FileRule>,
    /// What was left out, one line for each kind.
    pub(super) notes: Vec<String>,
}

/// Whether `text`, which is not a valid signature file, has the top-level tables of this format and none of ours.
pub(super) fn is_foreign(text: &str) -> bool {
    const OURS: [&str; 7] = ["signature", "file", "port", "check", "chain", "known-key", "reject-lists"];
    const THEIRS: [&str; 4] = ["rules", "extend", "allowlist", "allowlists"];
    let Ok(tables) = parse::toml::<BTreeMap<String, IgnoredAny>>(text) else { return false };
    let has = |names: &[&str]| names.iter().any(|name| tables.contains_key(*name));
    has(&THEIRS) && !has(&OURS)
}

/// Translates the rules of the file `text`.
///
/// # Errors
/// If a field does not have the type that the format gives it.
pub(super) fn load(text: &str) -> Result<Loaded, ParseError> {
    let file: File = parse::toml(text)?;
    let mut loader = Loader::default();
    loader.file(&file);
    for rule in &file.rules {
        if let Err(reason) = loader.rule(&file, rule) {
            loader.notes.add(format!("not loaded, because {reason}"), &rule.id);
        }
    }
    loader.loaded.notes = loader.notes.lines();
    Ok(loader.loaded)
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    extend: Option<Extend>,
    #[serde(default, alias = "allowList")]
    allowlist: Option<Allowlist>,
    #[serde(default)]
    allowlists: Vec<Allowlist>,
    #[serde(flatten)]
    other: BTreeMap<String, IgnoredAny>,
}

#[derive(Deserialize)]
struct Extend {
    #[serde(default, rename = "useDefault", alias = "usedefault")]
    use_default: bool,
    #[serde(flatten)]
    other: BTreeMap<String, IgnoredAny>,
}

#[derive(Deserialize)]
struct Rule {
    #[serde(default)]
    id: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    regex: String,
    #[serde(default, rename = "secretGroup", alias = "secretgroup", alias = "valueGroup")]
    secret_group: usize,
    #[serde(default)]
    entropy: Option<Number>,
    #[serde(default)]
    path: String,
    #[serde(default)]
    keywords: Vec<String>,
    #[serde(default)]
    severity: String,
    #[serde(default)]
    confidence: String,
    #[serde(default)]
    filter: String,
    #[serde(default, rename = "skipReport")]
    skip_report: bool,
    #[serde(default, alias = "allowList")]
    allowlist: Option<Allowlist>,
    #[serde(default)]
    allowlists: Vec<Allowlist>,
    #[serde(flatten)]
    other: BTreeMap<String, IgnoredAny>,
}

/// A number, with or without a decimal point.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Number {
    Float(f64),
    Integer(i32),
}

#[derive(Deserialize)]
struct Allowlist {
    #[serde(default)]
    condition: String,
    #[serde(default, rename = "regexTarget", alias = "regextarget")]
    target: String,
    #[serde(default)]
    commits: Vec<String>,
    #[serde(default)]
    paths: Vec<String>,
    #[serde(default)]
    regexes: Vec<String>,
    #[serde(default, alias = "stopWords")]
    stopwords: Vec<String>,
    /// For lists of the whole file: the ids of the rules that the list applies to; all rules if empty.
    #[serde(default, rename = "targetRules", alias = "targetrules")]
    rules: Vec<String>,
}

/// Fields that do not affect what a rule finds.
const INERT: [&str; 6] = ["title", "description", "tags", "minVersion", "betterleaksMinVersion", "global"];

/// What notes about lists of the whole file name instead of an id.
const ALL: &str = "all rules of the file";

/// Why a rule is not translated.
#[derive(Debug, thiserror::Error)]
enum SkippedRule {
    #[error("it is a part of other rules (`skipReport`)")]
    Part,
    #[error("it has neither `regex` nor `path`; it may extend a rule of another file")]
    Empty,
    #[error("its `path` is invalid: {0}")]
    Path(ExpressionError),
    #[error(transparent)]
    Pattern(#[from] ExpressionError),
}

#[derive(Default)]
struct Loader {
    loaded: Loaded,
    notes: Notes,
    ids: HashSet<String>,
}

impl Loader {
    /// Adds notes on settings of the file that are not supported.
    fn file(&mut self, file: &File) {
        for name in file.other.keys().filter(|name| !INERT.contains(&&name[..])) {
            self.notes.add(left_out(name), ALL);
        }
        if let Some(extend) = &file.extend {
            if extend.use_default {
                self.notes.add("`extend.useDefault` is left out; that file can be given to `--rules`, too", ALL);
            }
            for name in extend.other.keys() {
                self.notes.add(format!("`extend.{name}` is left out"), ALL);
            }
        }
    }

    fn rule(&mut self, file: &File, rule: &Rule) -> Result<(), SkippedRule> {
        if rule.skip_report {
            return Err(SkippedRule::Part);
        }
        if rule.regex.is_empty() && rule.path.is_empty() {
            return Err(SkippedRule::Empty);
        }
        let path = Some(&rule.path).filter(|path| !path.is_empty());
        let path = path.map(|path| expression::plain(path)).transpose().map_err(SkippedRule::Path)?;
        if rule.regex.is_empty() {
            let foreign = self.exceptions(file, rule, Foreign { path, ..Foreign::default() });
            let made = file_rule(self.id(&rule.id), rule, foreign);
            self.loaded.files.push(made);
        } else {
            let bounded = expression::bounded(&rule.regex, rule.secret_group)?;
            let foreign = self.exceptions(file, rule, Foreign { path, ..Foreign::default() });
            self.note_expression(rule, &bounded);
            let made = self.signature(rule, bounded, foreign);
            self.loaded.signatures.push(made);
        }
        for name in rule.other.keys().filter(|name| !INERT.contains(&&name[..])) {
            self.notes.add(left_out(name), &rule.id);
        }
        Ok(())
    }

    fn note_expression(&mut self, rule: &Rule, bounded: &Bounded) {
        match bounded.repeats {
            None => {}
            Some(MAX_REPEATS) => self.notes.add(format!("unbounded repetitions stop at {MAX_REPEATS}"), &rule.id),
            Some(_) => self.notes.add(format!("unbounded repetitions stop before {MAX_REPEATS}"), &rule.id),
        }
        let text = unescaped(&rule.regex);
        if !rule.keywords.is_empty() && !rule.keywords.iter().any(|keyword| find(&text, keyword).is_some()) {
            self.notes.add("`keywords` that do not occur in the expression are not required", &rule.id);
        }
    }

    fn signature(&mut self, rule: &Rule, bounded: Bounded, foreign: Foreign) -> Signature {
        let (least, whole) = least_entropy(&rule.filter);
        if !whole {
            self.notes.add("`filter` is left out, except for a least entropy, so more is found", &rule.id);
        }
        let entropy = rule.entropy.map(|number| match number {
            Number::Float(number) => number,
            Number::Integer(number) => number.into(),
        });
        Signature {
            id: self.id(&rule.id),
            title: title(rule),
            severity: rule.severity.to_ascii_lowercase().parse().unwrap_or(Severity::Medium),
            confidence: confidence(rule, &bounded.secret),
            keywords: keywords(rule),
            pattern: bounded.pattern,
            proposal: None,
            paths: Vec::new(),
            what: format!("A match of the rule `{}` of a Gitleaks configuration.", line(&rule.id)),
            risk: "Anyone who can pull the image can use the secret; the rule does not say for what.".into(),
            fix: "Revoke it where it was issued, pass a new one at run time and rebuild the image.".into(),
            references: Vec::new(),
            confirm: Confirm { min_entropy: entropy.or(least), ..Confirm::default() },
            examples: Vec::new(),
            counterexamples: Vec::new(),
            scope: Vec::new(),
            foreign: Some(foreign),
        }
    }

    /// A valid id that no other rule of the file has.
    fn id(&mut self, theirs: &str) -> String {
        let word = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let name: String = theirs.chars().map(word).collect();
        let first = format!("gitleaks.{}", if name.is_empty() { "unnamed" } else { &name });
        let mut id = first.clone();
        let mut number = 1;
        while !self.ids.insert(id.clone()) {
            number += 1;
            id = format!("{first}-{number}");
        }
        id
    }

    /// Adds the allowlists of the rule and of the file to `conditions`.
    fn exceptions(&mut self, file: &File, rule: &Rule, mut conditions: Foreign) -> Foreign {
        for list in rule.allowlist.iter().chain(&rule.allowlists) {
            self.except(list, &rule.id, &mut conditions);
        }
        for list in file.allowlist.iter().chain(&file.allowlists) {
            if list.rules.is_empty() {
                self.except(list, ALL, &mut conditions);
            } else if list.rules.contains(&rule.id) {
                self.except(list, &rule.id, &mut conditions);
            }
        }
        conditions
    }

    fn except(&mut self, list: &Allowlist, rule: &str, conditions: &mut Foreign) {
        if !list.commits.is_empty() {
            self.notes.add("allowlists of `commits` are left out: an image has none", rule);
        }
        let parts = [&list.commits, &list.paths, &list.regexes, &list.stopwords];
        let several = parts.iter().filter(|part| !part.is_empty()).count() > 1;
        if several && matches!(&list.condition.to_ascii_uppercase()[..], "AND" | "&&") {
            self.notes.add("allowlists with the condition `AND` are left out, so more is found", rule);
            return;
        }
        self.except_any(&list.paths, rule, &mut conditions.except_paths);
        let words: Vec<String> =
            list.stopwords.iter().map(|word| format!("(?i){}", regex_syntax::escape(word))).collect();
        self.except_any(&words, rule, &mut conditions.except_secrets);
        match &list.target[..] {
            "" | "secret" => self.except_any(&list.regexes, rule, &mut conditions.except_secrets),
            "match" => self.except_any(&list.regexes, rule, &mut conditions.except_matches),
            _ if list.regexes.is_empty() => {}
            other => self.notes.add(format!("allowlists with the target `{other}` are left out"), rule),
        }
    }

    /// Adds `sources` as one expression, so that a list for the whole file is compiled once.
    fn except_any(&mut self, sources: &[String], rule: &str, exceptions: &mut Vec<String>) {
        let mut branches = Vec::new();
        for source in sources {
            match expression::plain(source) {
                Ok(source) => branches.push(format!("(?:{source})")),
                Err(_) => self.notes.add("invalid expressions of allowlists are left out", rule),
            }
        }
        if !branches.is_empty() {
            let joined = branches.join("|");
            // Each expression is valid, but all of them together may be too large.
            let fits = expression::plain(&joined).is_ok();
            exceptions.extend(if fits { vec![joined] } else { branches });
        }
    }
}

fn left_out(field: &str) -> String {
    match field {
        "validate" | "analyze" | "revoke" => format!("`{field}` is left out: no secret is sent anywhere"),
        "required" | "components" => format!("`{field}` is left out, so the rule applies alone"),
        "filter" | "prefilter" | "tokenEfficiency" => format!("`{field}` is left out, so more is found"),
        _ => format!("`{}` is left out", line(field)),
    }
}

fn file_rule(id: String, rule: &Rule, foreign: Foreign) -> FileRule {
    FileRule {
        id,
        title: title(rule),
        severity: rule.severity.to_ascii_lowercase().parse().unwrap_or(Severity::Medium),
        confidence: Confidence::Low,
        paths: Vec::new(),
        contains: None,
        min_size: 1,
        what: format!("A file at a path of the rule `{}` of a Gitleaks configuration.", line(&rule.id)),
        risk: "Anyone who can pull the image can read the file.".into(),
        fix: "Keep it out of the image: list it in `.dockerignore`, or copy less.".into(),
        references: Vec::new(),
        examples: Vec::new(),
        counterexamples: Vec::new(),
        foreign: Some(foreign),
    }
}

fn title(rule: &Rule) -> String {
    let title = line(&rule.description);
    let id = line(&rule.id);
    [title, id].into_iter().find(|text| !text.is_empty()).unwrap_or_else(|| "A rule without a name".into())
}

/// `text` as one line without control characters, which could steer a terminal.
fn line(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Medium if a keyword is part of the secret, as a prefix is; low if it only occurs next to it.
fn confidence(rule: &Rule, secret: &str) -> Confidence {
    let secret = unescaped(secret);
    let prefixed = rule.keywords.iter().any(|keyword| find(&secret, keyword).is_some());
    if prefixed && !rule.confidence.eq_ignore_ascii_case("low") { Confidence::Medium } else { Confidence::Low }
}

/// The keywords, which are in lower case, in the spelling of the expression unless it ignores case.
fn keywords(rule: &Rule) -> Vec<String> {
    let text = unescaped(&rule.regex);
    let spelled = |keyword: &String| {
        let found = find(&text, keyword).and_then(|at| text.get(at..at + keyword.len()));
        if rule.regex.contains("(?i") { keyword.to_ascii_lowercase() } else { found.unwrap_or(keyword).to_string() }
    };
    rule.keywords.iter().filter(|keyword| !keyword.is_empty() && keyword.is_ascii()).map(spelled).collect()
}

/// An expression without the backslashes that escape its literals.
fn unescaped(source: &str) -> String {
    source.replace('\\', "")
}

/// The position of `keyword` in `text`, ignoring case.
fn find(text: &str, keyword: &str) -> Option<usize> {
    text.to_ascii_lowercase().find(&keyword.to_ascii_lowercase())
}

/// The least entropy that a Betterleaks filter begins with, in bits per byte, and whether the filter has no other
/// condition.
fn least_entropy(filter: &str) -> (Option<f64>, bool) {
    const CALL: &str = "entropy(finding[\"secret\"])";
    let filter = filter.trim();
    let Some(rest) = filter.strip_prefix("filter.").unwrap_or(filter).strip_prefix(CALL) else {
        return (None, filter.is_empty());
    };
    let Some(rest) = rest.trim_start().strip_prefix('<') else { return (None, false) };
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, rest) = rest.split_at(end);
    let rest = rest.trim_start();
    // What one side of an `||` drops, the whole filter drops. Only `?` binds weaker.
    let stands = rest.is_empty() || (rest.starts_with("||") && !has_choice(rest));
    (number.parse().ok().filter(|_| stands), rest.is_empty())
}

/// Whether `filter` contains a `?` outside of strings.
fn has_choice(filter: &str) -> bool {
    let mut quote = None;
    let mut escaped = false;
    for c in filter.chars() {
        match quote {
            None if c == '?' => return true,
            None => quote = Some(c).filter(|c| matches!(c, '"' | '\'' | '`')),
            Some(_) if escaped => escaped = false,
            Some(mark) if c == '\\' => escaped = mark != '`',
            Some(mark) if c == mark => quote = None,
            Some(_) => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_recognised_by_their_tables() {
        assert!(is_foreign("title = 'x'\n[[rules]]\nid = 'a'"));
        assert!(is_foreign("[extend]\nuseDefault = true"));
        assert!(is_foreign("[allowlist]\npaths = []"));
        assert!(!is_foreign("[[signature]]\nid = 'a'\n[[rules]]\nid = 'a'"));
        assert!(!is_foreign("title = 'x'"));
        assert!(!is_foreign("[[rules]\n"));
    }

    #[test]
    fn ids_are_valid_and_unique() {
        let mut loader = Loader::default();
        let ids = ["Acme_Key.1", "acme-key-1", "", "é"].map(|id| loader.id(id));
        assert_eq!(ids, ["gitleaks.acme-key-1", "gitleaks.acme-key-1-2", "gitleaks.unnamed", "gitleaks.-"]);
    }

    #[test]
    fn keywords_have_the_spelling_of_the_expression() {
        let rule = |regex: &str, keyword: &str| {
            let text = format!("[[rules]]\nid = 'a'\nregex = '{regex}'\nkeywords = ['{keyword}', 'é']");
            load(&text).unwrap().signatures.remove(0)
        };
        assert_eq!(rule(r"\b(ACME[A-Z]{3})\b", "acme").keywords, ["ACME"]);
        assert_eq!(rule(r"(?i)(Acme[A-Z]{3})", "Acme").keywords, ["acme"]);
        assert_eq!(rule(r"(ac\-me[A-Z]{3})", "ac-me").confidence, Confidence::Medium);
        assert_eq!(rule(r"acme=([A-Z]{3})", "acme").confidence, Confidence::Low);
    }

    #[test]
    fn the_least_entropy_of_a_filter_is_kept_if_it_cannot_hide_findings() {
        let entropy = |rest: &str| least_entropy(&format!("{}{rest}", r#"entropy(finding["secret"])"#));
        assert_eq!(least_entropy(""), (None, true));
        assert_eq!(entropy(" <= 3.5\n"), (Some(3.5), true));
        assert_eq!(entropy(" < 3 || matchesAny(x, [`(?i)a`, \"\\\"?\"])"), (Some(3.0), false));
        assert_eq!(entropy(" < 3 || a ? b : c"), (None, false));
        assert_eq!(entropy(" < 3 && b"), (None, false));
        assert_eq!(entropy(" > 3"), (None, false));
        assert_eq!(entropy(" < finding"), (None, false));
        assert_eq!(least_entropy("true"), (None, false));
    }

    #[test]
    fn truncated_files_do_not_panic() {
        let whole = "[extend]\nuseDefault = true\n[[rules]]\nid = 'a'\nregex = '(a+)[b-]{3,}'\nentropy = 3\n\
                     [[rules.allowlists]]\ncondition = 'AND'\nstopwords = ['x']\npaths = ['y']\n";
        for end in 0..=whole.len() {
            let _ = (is_foreign(&whole[..end]), load(&whole[..end]));
        }
        assert_eq!(load(whole).unwrap().signatures.len(), 1);
    }
}
