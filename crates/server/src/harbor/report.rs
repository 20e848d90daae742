//! Findings and gaps as vulnerabilities in Harbor's form.
//!
//! # The law
//!
//! Harbor stores a finding once for all images of a scanner, under (id, package, version). What the first scan says of
//! it stays for ever: description, links, weaknesses and attributes. What the last scan says of it holds for all
//! images: severity, status and the version that fixes it. So **every field is a function of the key, and what differs
//! from image to image is in the key**, under one set of rules, one fingerprint key and one set of options:
//!
//! | what it is | id | package | version |
//! |---|---|---|---|
//! | a secret in a file | `SECRET-<rule>-<fingerprint>` | path ▸ members | `L<layer>-<digest>-<state>` |
//! | a secret in the configuration | the same | the field | digest of the configuration |
//! | a secret in another document | the same | kind:place ▸ members | digest of the document |
//! | a file that should not be there | `FINDING-<rule>-<SHA-256 of the package>` | path ▸ members | as of a secret |
//! | an exposure | `EXPOSURE-<rule>-<field>` | the field | digest of the configuration |
//! | a combination of findings | `FINDING-<rule>-<the same>` | `image` | digest of the configuration |
//! | a gap in a layer | `GAP-<reason>` | path, or `layer` | `L<layer>-<digest>-unread` |
//! | another gap | `GAP-<reason>` | path, or `image` | digest of the configuration |
//!
//! - Digests have 12 digits, fingerprints and hashes in an id have 8. Without a configuration, the digest is that of
//!   the manifest.
//! - The **severity** is that of the rule, which the id names. Where a finding has another one (a published key, a file
//!   as its package ships it, which depends on the layers below) the version ends in it: `L3-7bfb5035e1f7-present-low`.
//!   That of a gap is an option.
//! - The **description** is the text of the rule, the masked secret, and what the state in the version means. Not in
//!   it: lines, as a file that has a secret twice is one finding; the instruction of a layer, which is part of the
//!   configuration and not of the layer; what ended a file; the package that owns it; notes, and details of gaps.
//! - **Links** and **weaknesses** are those that the rule refers to. **Attributes** are the rule's id, title and
//!   confidence. **Status** and **score** are never written, and the **fixed version** is empty.
//!
//! Digits are shortened, so keys can be made to collide: by a layer whose digest begins with the same 12 digits, or by
//! another secret whose fingerprint begins with the same 8. Then one masked form stands for two, and nothing else
//! differs: no image can lower the severity of a finding of another.
//!
//! New rules change texts and severities. Harbor keeps the old texts; a severity holds in all images as soon as one is
//! scanned by the new rules.
//!
//! An image that was not read as a whole never looks clean: whatever the options say, a gap is a finding.
//!
//! Keys are joined by `-` where Harbor counts them. No two keys are the same after that: an id ends with a part that no
//! rule has, and versions have few forms.

mod key;
mod names;
mod words;

pub(super) use self::key::{MOST_PACKAGE, shortened};

use self::key::Key;
use self::names::Names;
use crate::harbor::document::{Level, Report, ReportLimits, Scanner, Vulnerability};
use crate::harbor::scan_request::Artifact;
use layersift_model::{Finding, GapReason, ImageReport, Severity};
use std::cmp::Reverse;

/// What is written of an image that has no report.
const NO_REPORT: &str = "no-report";

/// How findings are mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappingOptions {
    /// The severity of a gap.
    pub gap_severity: Severity,
    /// Whether findings that are only information are written. Harbor shows their severity as None, and refuses images
    /// for them where a project is that strict.
    pub with_info: bool,
    /// What cuts a report.
    pub limits: ReportLimits,
}

impl Default for MappingOptions {
    fn default() -> MappingOptions {
        MappingOptions { gap_severity: Severity::High, with_info: false, limits: ReportLimits::default() }
    }
}

/// Something that becomes a vulnerability.
struct Entry<'r> {
    key: Key,
    severity: Severity,
    what: What<'r>,
}

/// What it is.
enum What<'r> {
    Finding(&'r Finding),
    Gap(GapReason),
    NoReport,
}

/// The report of an image, or of all images of an index, as JSON. Its reports must be judged: what the policy allows is
/// left out. Without a report, the image is one that was not read.
pub fn of(reports: &[ImageReport], artifact: &Artifact, version: &str, options: &MappingOptions) -> Vec<u8> {
    report(reports, artifact, version, options).to_json(&options.limits)
}

/// The same before it is cut and written, the worst first.
pub fn report(reports: &[ImageReport], artifact: &Artifact, version: &str, options: &MappingOptions) -> Report {
    let mut entries = entries(reports, artifact, options);
    // Of what has one key, Harbor keeps the first. No more than the masked form differs.
    entries.sort_by(|a, b| (&a.key, Reverse(a.severity), a.masked()).cmp(&(&b.key, Reverse(b.severity), b.masked())));
    entries.dedup_by(|next, first| next.key == first.key);
    entries.sort_by_key(|entry| (Reverse(entry.severity), matches!(entry.what, What::Finding(_))));
    // Texts are only made for what may be kept.
    let most = options.limits.findings.max(1);
    let left_out = if entries.len() > most { entries.len() - most } else { 0 };
    entries.truncate(most);
    Report {
        generated_at: generated_at(reports),
        artifact: artifact.clone(),
        scanner: Scanner::layersift(version),
        vulnerabilities: entries.into_iter().map(Entry::into_vulnerability).collect(),
        left_out: left_out as u64,
    }
}

fn entries<'r>(reports: &'r [ImageReport], artifact: &Artifact, options: &MappingOptions) -> Vec<Entry<'r>> {
    let severity = options.gap_severity;
    if reports.is_empty() {
        let key = Key::of_image(NO_REPORT, artifact.digest.short());
        return vec![Entry { key, severity, what: What::NoReport }];
    }
    let mut entries = Vec::new();
    for report in reports {
        let names = Names::of(&report.findings);
        let is_written =
            |finding: &&Finding| finding.counts() && (options.with_info || finding.severity > Severity::Info);
        entries.extend(report.findings.iter().filter(is_written).map(|finding| Entry {
            key: Key::of_finding(finding, report, &names),
            severity: finding.severity,
            what: What::Finding(finding),
        }));
        entries.extend(report.gaps.iter().map(|gap| Entry {
            key: Key::of_gap(gap, report, &names),
            severity,
            what: What::Gap(gap.gap.reason),
        }));
    }
    entries
}

/// When the last of the scans began.
fn generated_at(reports: &[ImageReport]) -> String {
    let times = reports.iter().filter_map(|report| report.scanned_at);
    times.max().map_or_else(|| "1970-01-01T00:00:00Z".into(), |time| time.to_string())
}

impl Entry<'_> {
    fn masked(&self) -> &str {
        match self.what {
            What::Finding(finding) => finding.secret.as_ref().map_or("", |secret| &secret.masked),
            What::Gap(_) | What::NoReport => "",
        }
    }

    fn into_vulnerability(self) -> Vulnerability {
        let level = level(self.severity);
        let Key { id, package, version } = self.key;
        let description = match self.what {
            What::Finding(finding) => {
                let of_rule = words::OfRule::of(finding);
                return of_rule.into_vulnerability(id, package, version, level);
            }
            What::Gap(reason) => words::gap(reason),
            What::NoReport => words::NO_REPORT.into(),
        };
        Vulnerability::of_gap(id, package, version, level, description)
    }
}

/// A severity in Harbor's words.
pub(super) fn level(severity: Severity) -> Level {
    match severity {
        Severity::Critical => Level::Critical,
        Severity::High => Level::High,
        Severity::Medium => Level::Medium,
        Severity::Low => Level::Low,
        Severity::Info => Level::Negligible,
    }
}

#[cfg(test)]
pub(in crate::harbor) mod tests;
