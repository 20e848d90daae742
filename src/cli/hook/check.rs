//! The check of an event: the rules of images and those for prompts, over its text and the files that it mentions.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::event::{Event, Kind};
use super::{input, mentions};
use crate::cli::context;
use layersift_model::{FingerprintKey, Gap, ImageReport, Severity};
use layersift_prompts::PlainText;
use layersift_report::Policy;
use layersift_rules::{Ruleset, Scope};
use layersift_scan::{Analyzer, FileReport, Options};

/// How events are checked.
pub(super) struct Settings<'s> {
    pub(super) rules: &'s [PathBuf],
    pub(super) policy: Option<&'s Path>,
    /// The least severity that blocks, if it is not that of the policy; `Some(None)` blocks nothing.
    pub(super) fail_on: Option<Option<Severity>>,
    /// The most bytes of files that are read.
    pub(super) most_bytes: u64,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// Findings that block.
    pub(super) found: Vec<Found>,
    /// What could not be checked, a line each.
    pub(super) unchecked: Vec<String>,
}

impl Checked {
    /// Adds a finding unless the same is known of its value.
    fn add(&mut self, found: Found) {
        let key = |one: &Found| (one.rule.clone(), one.masked.clone(), one.part.clone());
        if !self.found.iter().any(|known| key(known) == key(&found)) {
            self.found.push(found);
        }
    }
}

/// A finding that blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) rule: String,
    pub(super) title: String,
    /// The secret, masked; `None` for text that is no secret.
    pub(super) masked: Option<String>,
    /// Where it is, for a person.
    pub(super) place: String,
    /// The name of the value it is in, unless it is in a file.
    pub(super) part: Option<String>,
}

/// Checks `event`.
///
/// # Errors
/// If the rules or the policy cannot be used.
pub(super) fn check(event: &Event, settings: &Settings<'_>) -> anyhow::Result<Checked> {
    if event.kind == Kind::Other {
        return Ok(Checked::default());
    }
    context::load_ahead();
    let policy = policy(settings)?;
    let checker = Checker::new(settings.rules, policy)?;
    let mut checked = Checked::default();
    let report = checker.scan("prompt", event.content.bytes(), event.scope());
    checked.unchecked.extend(report.gaps.iter().map(|gap| unread("the text", &gap.gap)));
    checked.found.extend(checker.blocking(&report).map(|(found, offset)| {
        let place = offset.and_then(|offset| event.content.place(offset));
        Found {
            place: place.map_or_else(|| "the text".into(), |(name, line)| format!("{name}, line {line}")),
            part: place.map(|(name, _)| name.to_string()),
            ..found
        }
    }));
    disguised(event, &checker, &mut checked);
    embedded_files(event, &checker, &mut checked);
    if event.kind == Kind::Prompt {
        files(event, settings.most_bytes, &checker, &mut checked);
    }
    // The process ends soon, and thousands of rules need not be given back one by one.
    std::mem::forget(checker);
    Ok(checked)
}

fn policy(settings: &Settings<'_>) -> anyhow::Result<Policy> {
    let mut policy = match settings.policy {
        Some(path) => Policy::read(path, context::today())?,
        None => Policy::default(),
    };
    if let Some(limit) = settings.fail_on {
        policy.fail_on = limit;
    }
    Ok(policy)
}

/// The analyzer, and what decides about its findings.
struct Checker {
    analyzer: Analyzer,
    policy: Policy,
}

impl Checker {
    fn new(own: &[PathBuf], policy: Policy) -> anyhow::Result<Checker> {
        // One thread, which a short text never needs. Only rules that have to be compiled are kept.
        let cache = if own.is_empty() { None } else { context::cache() };
        let options = Options { threads: 1, key: FingerprintKey::default(), cache, ..Options::default() };
        Ok(Checker { analyzer: Analyzer::new(Ruleset::for_prompts(own)?, options)?, policy })
    }

    /// The judged report of `bytes`, which are the contents of `path` and were written in `scope`.
    fn scan(&self, path: &str, bytes: &[u8], scope: Scope) -> ImageReport {
        let FileReport { mut findings, gaps } = self.analyzer.bytes(path, bytes);
        findings.retain(|finding| self.analyzer.counts_in(&finding.rule.id, scope));
        let mut report = self.analyzer.report_of_file(path, FileReport { findings, gaps });
        self.policy.judge(&mut report);
        report
    }

    /// The findings that block, without their places, and their offsets.
    fn blocking<'r>(&self, report: &'r ImageReport) -> impl Iterator<Item = (Found, Option<usize>)> + use<'r> {
        let limit = self.policy.fail_on;
        let findings = report.findings.iter().filter_map(|finding| Some((finding, finding.file()?)));
        findings
            .filter(move |(finding, _)| finding.counts() && limit.is_some_and(|limit| finding.severity >= limit))
            .map(|(finding, file)| {
                // What is no secret may be quoted in the text of a rule only.
                let is_secret = !finding.rule.id.starts_with("prompt.");
                let found = Found {
                    rule: finding.rule.id.clone(),
                    title: finding.rule.title.clone(),
                    masked: finding.secret.as_ref().filter(|_| is_secret).map(|secret| secret.masked.clone()),
                    place: file.line.map_or_else(|| file.path.clone(), |line| format!("{}, line {line}", file.path)),
                    part: None,
                };
                (found, file.offset.and_then(|offset| usize::try_from(offset).ok()))
            })
    }
}

/// Checks the text without escapes and without characters that hide a secret.
fn disguised(event: &Event, checker: &Checker, checked: &mut Checked) {
    for plain in PlainText::rounds(event.content.bytes()) {
        let report = checker.scan("prompt", plain.bytes(), event.scope());
        checked.unchecked.extend(report.gaps.iter().map(|gap| unread("the text", &gap.gap)));
        for (found, offset) in checker.blocking(&report).filter(|(found, _)| PlainText::counts(&found.rule)) {
            let place = offset.and_then(|offset| event.content.place(plain.origin(&(offset..offset + 1)).start));
            let part = place.map(|(name, _)| name.to_string());
            let place = place.map_or_else(|| "the text".into(), |(name, line)| format!("{name}, line {line}"));
            checked.add(Found { place, part, ..found });
        }
    }
}

/// Checks the data in values. No person wrote what is in it, so it counts as the answer of a tool.
fn embedded_files(event: &Event, checker: &Checker, checked: &mut Checked) {
    for file in event.content.files() {
        let place = format!("{}, data in it", file.name);
        let report = checker.scan("prompt", &file.bytes, Scope::ToolOutput);
        checked.unchecked.extend(report.gaps.iter().map(|gap| unread(&place, &gap.gap)));
        for (found, _) in checker.blocking(&report) {
            // Short data were scanned as text as well.
            checked.add(Found { place: place.clone(), part: Some(file.name.clone()), ..found });
        }
    }
    let damaged = event.content.damaged().iter();
    checked.unchecked.extend(damaged.map(|name| format!("{name}: data that is not valid base64")));
}

/// Checks the files that a prompt mentions or comes with. Directories and words that are no files are left out.
fn files(event: &Event, most_bytes: u64, checker: &Checker, checked: &mut Checked) {
    let directory = match &event.directory {
        Some(directory) => directory.clone(),
        None => std::env::current_dir().unwrap_or_default(),
    };
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let mut mentioned = mentions::mentions(&String::from_utf8_lossy(event.content.bytes()));
    if mentioned.len() > mentions::MOST {
        checked.unchecked.push(format!("more than {} files are mentioned", mentions::MOST));
        mentioned.truncate(mentions::MOST);
    }
    mentioned.extend(event.attachments.iter().map(|path| vec![path.clone()]));
    let mut left = most_bytes;
    for readings in mentioned {
        match read_first(&readings, &directory, home.as_deref(), left) {
            Ok(Some((path, bytes))) => {
                left = left.saturating_sub(bytes.len() as u64);
                let report = checker.scan(&path, &bytes, Scope::ToolOutput);
                checked.found.extend(checker.blocking(&report).map(|(found, _)| found));
                checked.unchecked.extend(report.gaps.iter().map(|gap| unread(&path, &gap.gap)));
            }
            Ok(None) => {}
            Err(error) => checked.unchecked.push(format!("{error:#}")),
        }
    }
}

/// The first of `readings` that is a file, and its bytes.
fn read_first(
    readings: &[String],
    directory: &Path,
    home: Option<&Path>,
    limit: u64,
) -> anyhow::Result<Option<(String, Vec<u8>)>> {
    for reading in readings {
        let path = mentions::resolve(reading, directory, home);
        if let Some(bytes) = input::read_file(&path, limit).with_context(|| format!("the mentioned file {reading}"))? {
            return Ok(Some((reading.clone(), bytes)));
        }
    }
    Ok(None)
}

fn unread(what: &str, gap: &Gap) -> String {
    format!("{what}: {}", gap.detail)
}
