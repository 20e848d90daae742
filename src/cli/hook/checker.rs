//! The analyzer of a hook, the policy that decides about its findings, and what may be shown of a text.

use std::ops::Range;
use std::path::PathBuf;

use super::check::Found;
use crate::cli::context;
use layersift_model::{Finding, FingerprintKey, ImageReport};
use layersift_prompts::PlainText;
use layersift_report::Policy;
use layersift_rules::{Ruleset, Scope};
use layersift_scan::{Analyzer, FileReport, Options};

/// What stands in the place of a secret in a name or a path.
pub(super) const HIDDEN: &str = "\u{2026}";

/// The analyzer, and what decides about its findings.
pub(super) struct Checker {
    analyzer: Analyzer,
    policy: Policy,
}

impl Checker {
    pub(super) fn new(own: &[PathBuf], policy: Policy) -> anyhow::Result<Checker> {
        // One thread, which a short text never needs. Only rules that have to be compiled are kept.
        let cache = if own.is_empty() { None } else { context::cache() };
        let options = Options { threads: 1, key: FingerprintKey::default(), cache, ..Options::default() };
        Ok(Checker { analyzer: Analyzer::new(Ruleset::for_prompts(own)?, options)?, policy })
    }

    /// The judged report of `bytes`, which are the contents of `path` and were written in `scope`.
    pub(super) fn scan(&self, path: &str, bytes: &[u8], scope: Scope) -> ImageReport {
        let FileReport { mut findings, gaps } = self.analyzer.bytes(path, bytes);
        findings.retain(|finding| self.analyzer.counts_in(&finding.rule.id, scope));
        let mut report = self.analyzer.report_of_file(path, FileReport { findings, gaps });
        self.policy.judge(&mut report);
        report
    }

    /// The findings that block, without their places, and their offsets.
    pub(super) fn blocking<'r>(
        &self,
        report: &'r ImageReport,
    ) -> impl Iterator<Item = (Found, Option<usize>)> + use<'r> {
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
                    at: None,
                    part: None,
                };
                (found, offset(finding))
            })
    }

    /// The offsets of all findings, those that do not block among them.
    pub(super) fn offsets<'r>(&self, report: &'r ImageReport) -> impl Iterator<Item = usize> + use<'r> {
        report.findings.iter().filter_map(offset)
    }

    /// `text` without what any rule finds in it, whether that would block or not.
    pub(super) fn shown(&self, text: &str) -> String {
        let shown = without(text, self.spans(text));
        // What is left may be found now that something else is gone.
        if shown == text || self.spans(&shown).is_empty() { shown } else { HIDDEN.into() }
    }

    /// Where something is found in `text`, as it is and without disguises.
    fn spans(&self, text: &str) -> Vec<Range<usize>> {
        let found = |bytes: &[u8]| self.analyzer.text(bytes).findings.into_iter().map(|finding| finding.span);
        let mut spans: Vec<Range<usize>> = found(text.as_bytes()).collect();
        // Names of MCP tools are joined by what is a letter for rules.
        if text.contains("__") {
            spans.extend(found(text.replace("__", "  ").as_bytes()));
        }
        for plain in PlainText::rounds(text.as_bytes()) {
            spans.extend(found(plain.bytes()).map(|span| plain.origin(&span)));
        }
        spans
    }
}

fn offset(finding: &Finding) -> Option<usize> {
    usize::try_from(finding.file()?.offset?).ok()
}

/// `text` with [`HIDDEN`] for each of `spans`, which may overlap.
fn without(text: &str, mut spans: Vec<Range<usize>>) -> String {
    spans.sort_by_key(|span| span.start);
    let (mut out, mut at) = (String::new(), 0);
    for Range { start, end } in spans {
        if end <= at {
            continue;
        }
        let is_boundary = |at: &usize| text.is_char_boundary(*at);
        let start = (0..=start.max(at)).rev().find(is_boundary).unwrap_or(0);
        let end = (end..text.len()).find(is_boundary).unwrap_or(text.len());
        out.push_str(text.get(at..start).unwrap_or_default());
        if !(out.ends_with(HIDDEN) && start == at) {
            out.push_str(HIDDEN);
        }
        at = end;
    }
    out.push_str(text.get(at..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_left_out_once() {
        assert_eq!(without("abcdef", Vec::new()), "abcdef");
        assert_eq!(without("abcdef", vec![3..5, 1..2]), "a\u{2026}c\u{2026}f");
        assert_eq!(without("abcdef", vec![0..4, 1..2, 4..6]), "\u{2026}");
        assert_eq!(without("a\u{e9}b", std::iter::once(2..3).collect()), "a\u{2026}b");
    }
}
