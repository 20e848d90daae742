//! Decisions: what is known about an image, and what a policy makes of it. Every envelope writes the same decision in
//! the words of whoever asked.

use std::cmp::Reverse;

use super::attestation::AttestationBasis;
use layersift_model::{Digest, Finding, ImageGap, ImageReport, Location, Severity, Verdict};
use layersift_report::Policy;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

/// Reasons that a decision has at most; the rest is counted.
const MOST_REASONS: usize = 20;

/// The answer for one image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// The image as it was asked for.
    pub image: String,
    /// The digest that the answer is for; `None` if it is not known.
    pub digest: Option<Digest>,
    /// The platforms that it covers, such as `linux/amd64`.
    pub platforms: Vec<String>,
    /// What is known: in JSON `outcome`, and `unreadable` with the reason or null.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// What the policy makes of it.
    pub effect: Effect,
    /// Why, the worst first.
    pub reasons: Vec<Reason>,
    /// How many reasons there are in all.
    pub reasons_total: u64,
    /// What the answer rests on, if there is a report.
    pub basis: Option<Basis>,
    /// Seconds after which asking again may give another answer, if it is not known yet.
    pub retry_after: Option<u64>,
}

/// What is known about an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Everything was read, and nothing fails.
    Pass,
    /// Nothing fails, and not everything could be read: that will not change.
    Incomplete,
    /// Something fails.
    Fail,
    /// The image cannot be read.
    Unreadable(Unreadable),
    /// Nothing is known yet.
    Unknown,
}

/// Why an image cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unreadable {
    /// The reference is invalid, or its registry is not one that the service may ask.
    Refused,
    /// The registry does not accept the service's login, or denies access (401, 403).
    Unauthorized,
    /// The registry does not have it (404).
    NotFound,
    /// It is of a kind that cannot be read.
    Unsupported,
    /// The registry could not be asked, or what it sent is damaged.
    Failed,
}

/// What happens to whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// It is let in.
    Allow,
    /// It is let in, with a warning.
    Warn,
    /// It is not let in now; the same question has another answer soon.
    Wait,
    /// It is not let in.
    Deny,
}

/// One reason for a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The rule that found it, or the reason of a gap.
    pub rule: String,
    /// Its title, or what happened, in words.
    pub title: String,
    /// How bad it is; `None` for what is no finding.
    pub severity: Option<Severity>,
    /// The index of the layer.
    pub layer: Option<usize>,
    /// The instruction that made the layer, secrets masked.
    pub instruction: Option<String>,
    /// The file, or the field of the configuration.
    pub place: Option<String>,
    /// The platform, where the image has several.
    pub platform: Option<String>,
}

/// What a decision rests on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Basis {
    /// The digest of the rules.
    pub ruleset: String,
    /// The revision of the reader.
    pub reader_revision: Option<u32>,
    /// When the report was made, or the image that is attested was scanned, in seconds since 1970.
    pub scanned_at: i64,
    /// Whether the rules or the reader are newer by now, and the image is to be scanned again.
    pub is_outdated: bool,
    /// The attestation that stands in for a report.
    pub attestation: Option<Box<AttestationBasis>>,
}

impl Decision {
    /// A decision without a report.
    pub fn without_report(image: &str, digest: Option<Digest>, outcome: Outcome, why: &str) -> Decision {
        Decision {
            image: image.into(),
            digest,
            platforms: Vec::new(),
            outcome,
            effect: Effect::Deny,
            reasons: vec![Reason::of_words(outcome.name(), why)],
            reasons_total: 1,
            basis: None,
            retry_after: None,
        }
    }

    /// What the reports of an image, or of all images of an index, say under `policy`. The effect is `Allow` or `Deny`;
    /// other effects are for the rules of admission to choose.
    ///
    /// Findings in the layers of a base image do not fail, where the layers of an image begin with exactly those of one
    /// of `bases`. What an image itself says of its base does not count.
    pub fn of_reports(
        image: &str,
        digest: Digest,
        reports: &mut [ImageReport],
        policy: &Policy,
        bases: &[Vec<Digest>],
        basis: Basis,
    ) -> Decision {
        let judgements: Vec<Judgement> =
            reports.iter_mut().map(|report| Judgement::of(report, policy, bases)).collect();
        Decision::of_judgements(image, digest, judgements.iter(), basis)
    }

    /// What the judgements of the reports of an image, or of all images of an index, come to.
    pub fn of_judgements<'j>(
        image: &str,
        digest: Digest,
        judgements: impl ExactSizeIterator<Item = &'j Judgement>,
        basis: Basis,
    ) -> Decision {
        let has_several = judgements.len() > 1;
        let mut worst = if judgements.len() == 0 { Verdict::Incomplete } else { Verdict::Pass };
        let (mut reasons, mut platforms, mut reasons_total) = (Vec::new(), Vec::new(), 0);
        for judgement in judgements {
            worst = worst.max(judgement.verdict);
            platforms.extend(judgement.platform.clone());
            let platform = judgement.platform.as_ref().filter(|_| has_several);
            let of_platform = |reason: &Reason| Reason { platform: platform.cloned(), ..reason.clone() };
            reasons.extend(judgement.reasons.iter().map(of_platform));
            reasons_total += judgement.reasons_total;
        }
        order(&mut reasons);
        platforms.sort_unstable();
        platforms.dedup();
        let outcome = match worst {
            Verdict::Pass => Outcome::Pass,
            Verdict::Incomplete => Outcome::Incomplete,
            Verdict::Fail => Outcome::Fail,
        };
        let effect = if outcome == Outcome::Pass { Effect::Allow } else { Effect::Deny };
        Decision {
            image: image.into(),
            digest: Some(digest),
            platforms,
            outcome,
            effect,
            reasons,
            reasons_total,
            basis: Some(basis),
            retry_after: None,
        }
    }
}

/// What one report says under a policy, without the report: of each image of an index, for as long as it takes to come
/// to all of them.
#[derive(Clone, Debug)]
pub struct Judgement {
    verdict: Verdict,
    platform: Option<String>,
    /// The worst, as many as a decision has.
    reasons: Vec<Reason>,
    reasons_total: u64,
}

impl Judgement {
    /// Judges a report, as [`Decision::of_reports`] does.
    pub fn of(report: &mut ImageReport, policy: &Policy, bases: &[Vec<Digest>]) -> Judgement {
        policy.judge(report);
        let of_base = layers_of_base(report, bases);
        let fails = |finding: &&Finding| {
            let is_of_base = finding.file().is_some_and(|file| file.layer.index < of_base);
            finding.counts() && !is_of_base && policy.fail_on.is_some_and(|limit| finding.severity >= limit)
        };
        let failing: Vec<&Finding> = report.findings.iter().filter(fails).collect();
        let verdict = match report.verdict() {
            Verdict::Fail if failing.is_empty() && report.gaps.is_empty() => Verdict::Pass,
            Verdict::Fail if failing.is_empty() => Verdict::Incomplete,
            verdict => verdict,
        };
        let reasons_total = (failing.len() + report.gaps.len()) as u64;
        let (platform, reasons) = (report.platform.clone(), worst_of(failing, &report.gaps));
        Judgement { verdict, platform, reasons, reasons_total }
    }

    /// Whether the report fails.
    pub(crate) fn fails(&self) -> bool {
        self.verdict == Verdict::Fail
    }
}

/// The reasons that a decision names, of all findings that fail and all gaps of a report.
fn worst_of(mut failing: Vec<&Finding>, gaps: &[ImageGap]) -> Vec<Reason> {
    // A report may have a hundred thousand of them.
    failing.sort_by_key(|finding| Reverse(finding.severity));
    let of_findings = failing.into_iter().take(MOST_REASONS).map(Reason::of_finding);
    let mut reasons: Vec<Reason> = of_findings.chain(gaps.iter().take(MOST_REASONS).map(Reason::of_gap)).collect();
    order(&mut reasons);
    reasons
}

/// The worst reasons, in order, and no more than a decision has.
fn order(reasons: &mut Vec<Reason>) {
    reasons.sort_by_key(|reason| Reverse(reason.severity));
    reasons.truncate(MOST_REASONS);
}

/// How many layers an image has from the largest base image that it begins with.
pub(crate) fn layers_of_base(report: &ImageReport, bases: &[Vec<Digest>]) -> usize {
    let begins_with = |base: &&Vec<Digest>| {
        let layers = report.layers.iter().map(|layer| layer.digest.as_ref());
        !base.is_empty() && layers.take(base.len()).eq(base.iter().map(Some))
    };
    bases.iter().filter(begins_with).map(Vec::len).max().unwrap_or(0)
}

impl Effect {
    /// The effect as it is written.
    pub fn name(self) -> &'static str {
        match self {
            Effect::Allow => "allow",
            Effect::Warn => "warn",
            Effect::Wait => "wait",
            Effect::Deny => "deny",
        }
    }
}

impl Unreadable {
    const ALL: [Unreadable; 5] = [
        Unreadable::Refused,
        Unreadable::Unauthorized,
        Unreadable::NotFound,
        Unreadable::Unsupported,
        Unreadable::Failed,
    ];

    /// The reason as it is written.
    pub fn name(self) -> &'static str {
        match self {
            Unreadable::Refused => "refused",
            Unreadable::Unauthorized => "unauthorized",
            Unreadable::NotFound => "not-found",
            Unreadable::Unsupported => "unsupported",
            Unreadable::Failed => "failed",
        }
    }

    /// The reason of that name; any other is [`Unreadable::Failed`].
    pub fn named(name: &str) -> Unreadable {
        Unreadable::ALL.into_iter().find(|reason| reason.name() == name).unwrap_or(Unreadable::Failed)
    }
}

impl Outcome {
    /// The outcome as a word.
    pub fn label(self) -> &'static str {
        match self {
            Outcome::Pass => "pass",
            Outcome::Incomplete => "incomplete",
            Outcome::Fail => "fail",
            Outcome::Unreadable(_) => "unreadable",
            Outcome::Unknown => "unknown",
        }
    }

    /// The outcome in words, as it begins a sentence.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Pass => "nothing fails",
            Outcome::Incomplete => "not everything could be read",
            Outcome::Fail => "something fails",
            Outcome::Unreadable(Unreadable::Refused) => "refused",
            Outcome::Unreadable(Unreadable::Unauthorized) => "no access",
            Outcome::Unreadable(Unreadable::NotFound) => "not found",
            Outcome::Unreadable(Unreadable::Unsupported) => "unsupported",
            Outcome::Unreadable(Unreadable::Failed) => "cannot be read",
            Outcome::Unknown => "not known yet",
        }
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let unreadable = match self {
            Outcome::Unreadable(reason) => Some(reason.name()),
            _ => None,
        };
        let mut fields = serializer.serialize_struct("Outcome", 2)?;
        fields.serialize_field("outcome", self.label())?;
        fields.serialize_field("unreadable", &unreadable)?;
        fields.end()
    }
}

impl Reason {
    /// A reason that is no finding.
    pub fn of_words(rule: &str, title: &str) -> Reason {
        Reason {
            rule: rule.into(),
            title: title.into(),
            severity: None,
            layer: None,
            instruction: None,
            place: None,
            platform: None,
        }
    }

    fn of_finding(finding: &Finding) -> Reason {
        let file = finding.file();
        let place = match &finding.location {
            Location::File(file) => Some(file.path.clone()),
            Location::Document(found) => {
                found.document.json_path.clone().or_else(|| Some(found.document.kind.to_string()))
            }
            Location::Config(field) => Some(field.clone()),
            Location::Image => None,
        };
        Reason {
            rule: finding.rule.id.to_string(),
            title: finding.rule.title.to_string(),
            severity: Some(finding.severity),
            layer: file.map(|file| file.layer.index),
            instruction: file.and_then(|file| file.layer.created_by.clone()),
            place,
            platform: None,
        }
    }

    fn of_gap(ImageGap { gap, layer }: &ImageGap) -> Reason {
        let (layer, place) = (*layer, gap.path.clone());
        Reason { layer, place, ..Reason::of_words(gap.reason.name(), &gap.detail) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basis() -> Basis {
        let ruleset = "sha256:rules".into();
        Basis { ruleset, reader_revision: Some(4), scanned_at: 10, is_outdated: false, attestation: None }
    }

    #[test]
    fn a_gap_is_never_a_pass() {
        let gap = layersift_model::Gap::new(layersift_model::GapReason::MissingBlob, "the layer is missing");
        let gaps = vec![ImageGap { gap, layer: Some(2) }];
        let mut reports = [ImageReport { gaps, ..ImageReport::default() }];
        let digest = Digest::of(b"image");
        let decision = Decision::of_reports("app", digest.clone(), &mut reports, &Policy::default(), &[], basis());
        assert_eq!((decision.outcome, decision.effect), (Outcome::Incomplete, Effect::Deny));
        assert_eq!((&decision.reasons[0].rule[..], decision.reasons[0].layer), ("missing-blob", Some(2)));
        let none = Decision::of_reports("app", digest.clone(), &mut [], &Policy::default(), &[], basis());
        assert_eq!(none.effect, Effect::Deny, "no report says nothing");
        let clean =
            Decision::of_reports("app", digest, &mut [ImageReport::default()], &Policy::default(), &[], basis());
        assert_eq!((clean.outcome, clean.effect), (Outcome::Pass, Effect::Allow));
    }
}
