//! What was found in one part, without the secrets.

use std::ops::Range;
use std::sync::Arc;

use layersift_model::{GapReason, RuleInfo, Severity};
use layersift_scan::Analyzer;

use crate::conversation::{Content, Part, UnseenReason};
use crate::file::{Inside, each_inside};
use crate::packed::packed_files;
use crate::plain::PlainText;
use crate::room::take_text;

/// What the encodings of a secret begin with that is only there once disguises are undone.
const DISGUISED: &str = "disguised";

/// What was found in one part.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) found: Vec<Found>,
    pub(crate) gaps: Vec<GapReason>,
    /// What cannot be read of the requests in a file.
    pub(crate) unseen: Vec<UnseenReason>,
}

/// A finding in a part.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) rule: Arc<RuleInfo>,
    pub(crate) severity: Severity,
    /// The bytes of the part's text; all bytes for data.
    pub(crate) span: Range<usize>,
    pub(crate) masked: Option<String>,
    pub(crate) fingerprint: Option<String>,
    pub(crate) note: Option<String>,
    pub(crate) inside: Vec<String>,
    pub(crate) views: Vec<String>,
}

/// What is scanned: all that an outcome depends on besides the rules. The key of what is remembered is made of the
/// same.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject<'s> {
    /// A text.
    Text(&'s [u8]),
    /// A file, with its name.
    File { path: &'s str, bytes: &'s [u8] },
}

impl<'s> Subject<'s> {
    /// What is scanned of a part.
    pub(crate) fn of(part: &'s Part<'_>) -> Subject<'s> {
        match &part.content {
            Content::Text { text, .. } => Subject::Text(text.as_bytes()),
            Content::Data { bytes, .. } => Subject::File { path: "file", bytes },
        }
    }

    pub(crate) fn bytes(self) -> &'s [u8] {
        match self {
            Subject::Text(bytes) | Subject::File { bytes, .. } => bytes,
        }
    }
}

impl Outcome {
    /// Scans a text or a file.
    pub(crate) fn of(subject: Subject<'_>, analyzer: &Analyzer) -> Outcome {
        match subject {
            Subject::Text(bytes) => Outcome::of_text(bytes, analyzer),
            Subject::File { path, bytes } => Outcome::of_file(path, bytes, analyzer),
        }
    }

    /// Scans a text, and what it is without disguises.
    fn of_text(text: &[u8], analyzer: &Analyzer) -> Outcome {
        let mut outcome = Outcome::as_it_is(text, analyzer);
        outcome.add_plain(text, analyzer);
        outcome
    }

    fn as_it_is(text: &[u8], analyzer: &Analyzer) -> Outcome {
        let report = analyzer.text(text);
        let key = analyzer.fingerprint_key();
        let found = report.findings.into_iter().map(|one| Found {
            severity: one.severity,
            span: one.span,
            masked: is_secret(&one.rule).then(|| one.secret.masked()),
            fingerprint: is_secret(&one.rule).then(|| one.secret.fingerprint(key)),
            rule: one.rule,
            note: one.note,
            inside: Vec::new(),
            views: one.views.into_iter().map(String::from).collect(),
        });
        let (found, gaps) = (found.collect(), report.gaps.into_iter().map(|gap| gap.reason).collect());
        let mut outcome = Outcome { found, gaps, unseen: Vec::new() };
        outcome.add_packed(text, analyzer);
        outcome
    }

    /// Adds what is in compressed files within a text.
    fn add_packed(&mut self, text: &[u8], analyzer: &Analyzer) {
        let (files, is_all) = packed_files(text);
        if !is_all {
            self.gaps.push(GapReason::TooMuchEncoded);
        }
        for file in files {
            let Outcome { found, gaps, .. } = Outcome::of_bytes("file", &file.bytes, analyzer);
            self.found.extend(found.into_iter().map(|mut one| {
                one.span = file.span.clone();
                one.views.insert(0, "base64".into());
                one
            }));
            // Whether it is a file at all is a guess.
            self.gaps.extend(gaps.into_iter().filter(|gap| !gap.is_damage()));
        }
    }

    /// Adds what is in a text without disguises and was not found in it as it is.
    fn add_plain(&mut self, text: &[u8], analyzer: &Analyzer) {
        let _room = take_text(text.len());
        for current in PlainText::rounds(text) {
            let Outcome { found, gaps, .. } = Outcome::as_it_is(current.bytes(), analyzer);
            for mut one in found.into_iter().filter(|one| PlainText::counts(&one.rule.id)) {
                one.span = current.origin(&one.span);
                one.views.insert(0, DISGUISED.into());
                if !self.found.iter().any(|known| known.covers(&one)) {
                    self.found.push(one);
                }
            }
            self.gaps.extend(gaps);
        }
    }

    /// Scans a file, and what is in it if it is an archive. A text gets what a text in a message gets.
    fn of_file(path: &str, bytes: &[u8], analyzer: &Analyzer) -> Outcome {
        let mut outcome = Outcome::of_bytes(path, bytes, analyzer);
        each_inside(bytes, &mut |inside| match inside {
            Inside::Text(text) => outcome.add_inside(Outcome::of_text(text.as_bytes(), analyzer), bytes.len()),
            Inside::File(file) => outcome.add_inside(Outcome::of_bytes("file", file, analyzer), bytes.len()),
            Inside::Unseen(why) => outcome.add_unseen(why),
            Inside::Itself(text) => {
                // What stands in it as it is was found in the file.
                let mut inside = Outcome::default();
                inside.add_packed(text.as_bytes(), analyzer);
                inside.add_plain(text.as_bytes(), analyzer);
                outcome.add_inside(inside, bytes.len());
            }
        });
        outcome
    }

    /// Adds what is inside of a file of `length` bytes and was not found in it as it is.
    fn add_inside(&mut self, inside: Outcome, length: usize) {
        let Outcome { found, gaps, .. } = inside;
        for mut one in found {
            one.span = 0..length;
            let is_known = |known: &Found| known.rule.id == one.rule.id && known.fingerprint == one.fingerprint;
            if !self.found.iter().any(is_known) {
                self.found.push(one);
            }
        }
        self.gaps.extend(gaps);
    }

    fn add_unseen(&mut self, why: UnseenReason) {
        if !self.unseen.contains(&why) {
            self.unseen.push(why);
        }
    }

    fn of_bytes(path: &str, bytes: &[u8], analyzer: &Analyzer) -> Outcome {
        let report = analyzer.bytes(path, bytes);
        let key = analyzer.fingerprint_key();
        let found = report.findings.into_iter().map(|mut one| Found {
            severity: one.severity,
            span: 0..bytes.len(),
            masked: one.secret.as_ref().filter(|_| is_secret(&one.rule)).map(|secret| secret.masked()),
            fingerprint: one.secret.take().filter(|_| is_secret(&one.rule)).map(|secret| secret.fingerprint(key)),
            rule: one.rule,
            note: one.note,
            inside: one.place.inside,
            views: one.place.views.into_iter().map(|view| view.into_owned()).collect(),
        });
        let found = found.collect();
        let gaps = report.gaps.into_iter().map(|gap| gap.reason).collect();
        Outcome { found, gaps, unseen: Vec::new() }
    }

    /// Whether another scan would give the same.
    pub(crate) fn is_repeatable(&self) -> bool {
        !self.gaps.iter().any(|gap| gap.is_transient())
    }
}

impl Found {
    /// Whether another finding is about the same text and weighs no more.
    fn covers(&self, other: &Found) -> bool {
        let overlaps = self.span.start < other.span.end && other.span.start < self.span.end;
        overlaps && self.severity >= other.severity
    }
}

/// Whether what a rule finds is a secret. What rules for prompts find are sentences and commands.
fn is_secret(rule: &RuleInfo) -> bool {
    !rule.id.starts_with("prompt.")
}
