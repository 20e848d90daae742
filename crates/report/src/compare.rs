//! Two reports compared: what came, what went, what stayed, and whether a leaked secret is gone and rotated.
//!
//! A secret is told by its fingerprint, wherever it is: in any layer, whether a container sees it or not. It is rotated
//! if the image that followed has none of it, and another value where it was. That the old value was revoked by whoever
//! issued it cannot be seen in an image.

mod exposures;
mod json;
mod layers;
mod markdown;
mod packages;
mod secrets;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;

use layersift_model::{Finding, ImageReport, Inventory, Location, Severity, State, Verdict};

pub use self::exposures::Exposure;
pub use self::json::json;
pub use self::layers::LayerChanges;
pub use self::markdown::markdown;
pub use self::packages::{PackageChange, PackageChanges};
pub use self::secrets::{ComparedSecret, Fate};
pub use self::text::text;

/// Whether something was there before, and is there after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It is new.
    Came,
    /// It is in both.
    Stayed,
    /// It is not there any more.
    Went,
}

impl Change {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Change::Came => "came",
            Change::Stayed => "stayed",
            Change::Went => "went",
        }
    }

    fn of(is_before: bool, is_after: bool) -> Change {
        match (is_before, is_after) {
            (false, _) => Change::Came,
            (true, true) => Change::Stayed,
            (true, false) => Change::Went,
        }
    }
}

/// The traces of values in the report of an image that was searched for them. `of_rule` gives the fingerprints of the
/// secrets whose value a rule finds.
pub fn traces(report: &ImageReport, of_rule: impl Fn(&str) -> Vec<String>) -> Vec<Trace> {
    let mut traces: Vec<Trace> = Vec::new();
    for finding in &report.findings {
        let place = crate::exchange::place_and_line(finding);
        let is_present = finding.state() == State::Present;
        traces.extend(of_rule(&finding.rule.id).into_iter().map(|fingerprint| Trace {
            fingerprint,
            place: place.clone(),
            is_present,
        }));
    }
    traces.sort_by(|one, other| (&one.fingerprint, &one.place).cmp(&(&other.fingerprint, &other.place)));
    traces.dedup();
    traces
}

/// Why two reports cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompareError {
    /// The fingerprints of the two are not comparable.
    #[error(
        "the reports were made with different fingerprint keys ({before} and {after}), so their secrets cannot be \
         compared: scan both with the same --fingerprint-key"
    )]
    FingerprintKeys {
        /// The id of the first key.
        before: String,
        /// The id of the second key.
        after: String,
    },
    /// A report does not name the key.
    #[error("a report does not name its fingerprint key, because an old version wrote it: scan its image again")]
    UnknownKey,
}

/// An image before and after.
#[derive(Debug)]
pub struct Comparison<'r> {
    /// The report of the image before.
    pub before: &'r ImageReport,
    /// The report of the image after, judged by a policy.
    pub after: &'r ImageReport,
    /// The secrets of both, worst first.
    pub secrets: Vec<ComparedSecret<'r>>,
    /// The other findings of both, worst first.
    pub exposures: Vec<Exposure<'r>>,
    /// The layers of both.
    pub layers: LayerChanges<'r>,
    /// The packages of both; `None` if they were not read.
    pub packages: Option<PackageChanges<'r>>,
    /// What a reader should know, such as that the two scans had other rules.
    pub notes: Vec<String>,
    /// Whether secrets and exposures that stayed make the verdict fail, as those that came do.
    pub requires_gone: bool,
    /// Whether the two scans were of the same kind, so that what only one of them found is in one image only.
    is_comparable: bool,
}

/// Where the value of a secret of the image before is in the image after, as a search for the value itself found it. It
/// may be there as another finding or as none, such as in a connection string or in a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The fingerprint of the secret.
    pub fingerprint: String,
    /// Where it is, as reports print it.
    pub place: String,
    /// Whether a container of the image sees it.
    pub is_present: bool,
}

impl<'r> Comparison<'r> {
    /// Compares the report of an image with that of the one that followed.
    ///
    /// # Errors
    /// [`CompareError`] for reports with fingerprints under different keys.
    pub fn new(before: &'r ImageReport, after: &'r ImageReport) -> Result<Comparison<'r>, CompareError> {
        let key = |report: &'r ImageReport| report.tool.fingerprint_key.clone().ok_or(CompareError::UnknownKey);
        let (before_key, after_key) = (key(before)?, key(after)?);
        if before_key != after_key {
            return Err(CompareError::FingerprintKeys { before: before_key, after: after_key });
        }
        let is_comparable = is_comparable(before, after);
        Ok(Comparison {
            before,
            after,
            is_comparable,
            secrets: secrets::compare(before, after, is_comparable && after.gaps.is_empty()),
            exposures: exposures::compare(before, after),
            layers: LayerChanges::new(before, after),
            packages: None,
            notes: notes(before, after),
            requires_gone: false,
        })
    }

    /// Compares the packages of the two images as well.
    #[must_use]
    pub fn with_packages(self, before: &'r Inventory, after: &'r Inventory) -> Comparison<'r> {
        Comparison { packages: Some(PackageChanges::new(before, after)), ..self }
    }

    /// The values of secrets that no finding of the image after has: [`Trace`]s of them may be searched for there.
    pub fn gone(&self) -> impl Iterator<Item = &ComparedSecret<'r>> {
        self.secrets.iter().filter(|secret| secret.change == Change::Went)
    }

    /// Takes the values that a search found in the image after as still there. `unsearched` says of secrets, by their
    /// fingerprints, why the image was not searched for their values: such a secret may be there.
    #[must_use]
    pub fn with_traces(mut self, traces: &[Trace], unsearched: &BTreeMap<String, &'static str>) -> Comparison<'r> {
        secrets::add_traces(&mut self.secrets, traces);
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for secret in self.secrets.iter_mut().filter(|secret| secret.change == Change::Went) {
            if let Some(why) = unsearched.get(secret.fingerprint) {
                secret.is_searched = false;
                *counts.entry(why).or_default() += 1;
            }
        }
        secrets::sort(&mut self.secrets);
        self.notes.extend(counts.into_iter().map(|(why, count)| {
            let secrets = crate::terminal::plural(count, "secret");
            format!("the image after was not searched for the values of {secrets}: {why}")
        }));
        let (below, limit) = (self.below_limit(), self.limit());
        self.notes.extend(limit.filter(|_| below > 0).map(|limit| {
            let secrets = crate::terminal::plural(below, "secret");
            format!("still there below --fail-on {limit}, so that --require-gone does not fail: {secrets}")
        }));
        self
    }

    /// How many secrets stayed that would make the verdict fail, if they were more severe.
    fn below_limit(&self) -> u64 {
        let Some(limit) = self.limit().filter(|_| self.requires_gone) else { return 0 };
        let is_below = |secret: &&ComparedSecret<'r>| {
            let mut counting = secret.of_image_after().iter().filter(|finding| finding.counts()).peekable();
            secret.change == Change::Stayed
                && counting.peek().is_some()
                && counting.all(|finding| finding.severity < limit)
        };
        self.secrets.iter().filter(is_below).count() as u64
    }

    fn limit(&self) -> Option<Severity> {
        self.after.judgement.as_ref().and_then(|judgement| judgement.policy.fail_on)
    }

    /// Makes what stayed fail, too.
    #[must_use]
    pub fn requiring_gone(self, requires_gone: bool) -> Comparison<'r> {
        Comparison { requires_gone, ..self }
    }

    /// The verdict: fail, if something came that the policy fails, or stayed where that is asked for; incomplete, if an
    /// image or its packages were not read to their end, the two were read by other rules or for other platforms, or
    /// what has to be gone was not searched for.
    pub fn verdict(&self) -> Verdict {
        let fails = self.secrets.iter().any(|secret| self.fails(secret.change, secret.of_image_after()))
            || self.exposures.iter().any(|exposure| self.fails(exposure.change, &exposure.after));
        let is_searched = !self.requires_gone || self.gone().all(|secret| secret.is_searched);
        let has_packages = self.packages.as_ref().is_none_or(|packages| packages.is_complete);
        let is_read = self.before.gaps.is_empty() && self.after.gaps.is_empty() && has_packages;
        let is_complete = self.is_comparable && is_read && is_searched;
        match (fails, is_complete) {
            (true, _) => Verdict::Fail,
            (false, true) => Verdict::Pass,
            (false, false) => Verdict::Incomplete,
        }
    }

    /// Whether findings after this change make the verdict fail.
    fn fails(&self, change: Change, after: &[&Finding]) -> bool {
        let counts = change == Change::Came || (change == Change::Stayed && self.requires_gone);
        let limit = self.limit();
        let is_severe = |finding: &&Finding| limit.is_some_and(|limit| finding.severity >= limit);
        counts && after.iter().any(|finding| finding.counts() && is_severe(finding))
    }
}

/// Whether two scans had the same rules and the same reader, and their images are for one platform.
fn is_comparable(before: &ImageReport, after: &ImageReport) -> bool {
    before.tool.ruleset == after.tool.ruleset
        && before.tool.reader_revision == after.tool.reader_revision
        && before.platform == after.platform
        && before.without_referrers == after.without_referrers
}

/// What about the two scans may look like a change of the image.
fn notes(before: &ImageReport, after: &ImageReport) -> Vec<String> {
    let mut notes = Vec::new();
    if before.tool.ruleset != after.tool.ruleset || before.tool.reader_revision != after.tool.reader_revision {
        notes.push(
            "the two scans had other rules or another reader, so what was not found may be there: scan both images \
             with one version and the same rules"
                .into(),
        );
    }
    if before.without_referrers != after.without_referrers {
        notes.push("one of the two scans left out what refers to the image: scan both alike".into());
    }
    if before.platform != after.platform {
        let name = |report: &ImageReport| report.platform.clone().unwrap_or_else(|| "unknown".into());
        notes.push(format!(
            "the images are for other platforms, {} and {}, so what is gone from one may be in others",
            name(before),
            name(after)
        ));
    }
    for (report, which) in [(before, "before"), (after, "after")] {
        if !report.gaps.is_empty() {
            let gaps = crate::terminal::plural(report.gaps.len() as u64, "part");
            notes.push(format!("{gaps} of the image {which} could not be read, and may have what is not listed here"));
        }
    }
    notes
}

/// The worst severity of findings.
fn worst(findings: &[&Finding]) -> Severity {
    findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Info)
}

/// Where a finding is, as far as a rebuild of the image keeps it: entries of lists in the configuration move, and so do
/// secrets in documents. Other fields of the configuration name what they are about, such as a port.
fn place(finding: &Finding) -> String {
    match &finding.location {
        Location::File(file) => file.full_path("\0"),
        Location::Config(field) => format!("\0{}", field.split('[').next().unwrap_or(field)),
        Location::Document(document) => {
            let document = &document.document;
            let path = document.json_path.as_deref().filter(|_| finding.secret.is_none());
            format!("\0\0{}\0{}", document.kind, path.unwrap_or_default())
        }
        Location::Image => "\0\0\0".into(),
    }
}
