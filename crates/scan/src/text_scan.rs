//! Scans one text in memory, on the calling thread and without looking for archives in it: the fast path for prompts,
//! which are many and small. Reading a file takes buffers, a lease of memory and the threads of the analyzer.

use std::ops::Range;
use std::sync::Arc;

use layersift_model::{Gap, GapReason, RuleInfo, Secret, Severity};

use crate::analyzer::Analyzer;
use crate::confirm::{Matches, Verification, keep_best};
use crate::engine::EngineError;

/// A finding in a text.
#[derive(Clone, Debug)]
pub struct TextFinding {
    /// The rule that matched.
    pub rule: Arc<RuleInfo>,
    /// The severity: that of the rule, or lower.
    pub severity: Severity,
    /// The bytes of the text that hold the secret, or that it was decoded from.
    pub span: Range<usize>,
    /// The secret.
    pub secret: Secret,
    /// Details beyond the rule's text.
    pub note: Option<String>,
    /// The encodings that the secret is written in, the outermost first, such as `base64`.
    pub views: Vec<&'static str>,
}

/// The result of scanning one text.
#[derive(Clone, Debug, Default)]
pub struct TextReport {
    /// The findings, ordered by their spans.
    pub findings: Vec<TextFinding>,
    /// What was not scanned.
    pub gaps: Vec<Gap>,
}

impl Analyzer {
    /// Scans `text` on the calling thread. Other than [`Analyzer::bytes`], this opens no archives, reads no records and
    /// applies no rule that is about the path of a file; it tells where each secret ends.
    pub fn text(&self, text: &[u8]) -> TextReport {
        self.search_text(text).unwrap_or_else(|error| TextReport {
            findings: Vec::new(),
            gaps: vec![Gap::new(GapReason::Unreadable, error.to_string())],
        })
    }

    fn search_text(&self, text: &[u8]) -> Result<TextReport, EngineError> {
        let mut matches = Matches::default();
        let mut gaps = Vec::new();
        let mut worker = self.rules.worker()?;
        // A text has no limit of work.
        worker.count_begun(false);
        gaps.extend(worker.scan(text, &(0..text.len()), &mut matches)?);
        let mut found = matches.confirmed;
        found.retain(|one| self.rules.applies_at(one.rule, None));
        keep_best(&self.rules.signatures, &mut found);
        let limit = self.options.limits.findings_per_file;
        // Damaged secrets are no reason to call a text incomplete, and must not push out others.
        let damaged = found.iter().filter(|one| one.verification == Verification::Damaged).count();
        if found.len() - damaged > limit {
            gaps.push(Gap::new(GapReason::TooManyFindings, format!("more than {limit} findings in one text")));
        }
        found.sort_by_key(|one| one.verification == Verification::Damaged);
        found.truncate(limit);
        found.sort_by_key(|one| (one.span.start, one.span.end, one.rule));
        let finding = |one| TextFinding {
            rule: self.rules.info(&one),
            severity: self.rules.severity(&one),
            span: one.span,
            secret: one.secret,
            note: one.note,
            views: one.views,
        };
        Ok(TextReport { findings: found.into_iter().map(finding).collect(), gaps })
    }
}

#[cfg(test)]
mod tests {
    use layersift_rules::Ruleset;

    use super::*;
    use crate::Options;

    #[test]
    fn a_text_has_the_secrets_of_a_file_with_the_same_bytes_and_their_ends() {
        let analyzer = Analyzer::new(Ruleset::built_in().unwrap(), Options::default()).unwrap();
        let token = format!("glpat-{}", "Zk7Qm2Xr9Tb4Wn6Ve001");
        let text = format!("Deploy with {token}, please.\npassword = \"{token}\"\n");
        let report = analyzer.text(text.as_bytes());
        let file = analyzer.bytes("prompt", text.as_bytes());
        let ids = |found: &[TextFinding]| -> Vec<(String, u64)> {
            found.iter().map(|one| (one.rule.id.clone(), one.span.start as u64)).collect()
        };
        let in_file: Vec<(String, u64)> =
            file.findings.iter().map(|one| (one.rule.id.clone(), one.place.offset)).collect();
        assert_eq!(ids(&report.findings), in_file);
        assert_eq!(report.findings.len(), 2);
        assert_eq!(&text[report.findings[0].span.clone()], token);
    }
}
