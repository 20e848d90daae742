//! What is told: the new findings of one image, the worst first, without secrets.

use std::collections::BTreeSet;

use layersift_model::{Digest, Finding, ImageReport, Location, NewFinding, Severity};
use layersift_report::Policy;
use serde::{Deserialize, Serialize};

use crate::admission::{layers_of_base, tidy};

/// Findings that one message names.
const MOST_FINDINGS: usize = 50;

/// Bytes of a text from an image.
const MOST_TEXT: usize = 1_024;

/// A message, as it is stored and as receivers get it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Message {
    /// The image where it is pulled from, by its digest.
    pub(crate) image: String,
    /// The digest of the manifest or of the index.
    pub(crate) digest: Digest,
    /// When it was scanned, as RFC 3339 has it.
    pub(crate) scanned_at: String,
    /// How many findings are new.
    pub(crate) findings_total: usize,
    /// The worst of them.
    pub(crate) findings: Vec<ToldFinding>,
}

/// A finding that is new.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ToldFinding {
    /// The keyed fingerprint of the secret; null for what is not a secret.
    pub(crate) fingerprint: Option<String>,
    pub(crate) rule: String,
    pub(crate) title: String,
    pub(crate) severity: Severity,
    /// The secret's masked form.
    pub(crate) masked: Option<String>,
    /// The file that it is in, with the members of archives.
    pub(crate) path: Option<String>,
    /// The field of the configuration or of a document that it is in.
    pub(crate) field: Option<String>,
    /// The layer that brought the file, from 0 at the base.
    pub(crate) layer: Option<usize>,
    pub(crate) layer_digest: Option<Digest>,
    /// `present`, `overwritten` or `deleted`: whether a container would see it.
    pub(crate) state: Option<String>,
    /// In how many places of the image it is.
    pub(crate) times_seen: usize,
    /// The platform, where the image is one of an index.
    pub(crate) platform: Option<String>,
}

/// A new finding that is to be told.
#[derive(Clone, Debug)]
pub(crate) struct Untold {
    /// What it is known by.
    pub(crate) thing: String,
    pub(crate) finding: ToldFinding,
}

/// What is to be told of `news`, by the judged report of its image: what the policy fails, or with `tells_all` what it
/// does not allow. As for admission, what is in the layers of one of `bases` is not of the image. Without a report, an
/// exception is not known to hold.
pub(crate) fn untold(
    news: &NewFinding,
    report: Option<&ImageReport>,
    (policy, bases): (&Policy, &[Vec<Digest>]),
    tells_all: bool,
) -> Option<Untold> {
    let is_told = |severity: Severity| tells_all || policy.fail_on.is_some_and(|limit| severity >= limit);
    let of_report = |report: &ImageReport| {
        let places: Vec<&Finding> = report.findings.iter().filter(|finding| is_thing(finding, &news.thing)).collect();
        let of_base = layers_of_base(report, bases);
        let is_of_base = |finding: &Finding| finding.file().is_some_and(|file| file.layer.index < of_base);
        let fails = |finding: &Finding| finding.counts() && !is_of_base(finding) && is_told(finding.severity);
        let counted = places.iter().filter(|finding| fails(finding));
        // What a container would see comes before what a layer keeps.
        let worst = counted.max_by_key(|finding| (finding.severity, finding.is_present()))?;
        Some(of_finding(worst, places.len(), report.platform.clone()))
    };
    let finding = match report {
        Some(report) => of_report(report),
        None => is_told(news.rule.severity).then(|| of_summary(news)),
    };
    finding.map(|finding| Untold { thing: news.thing.clone(), finding })
}

fn is_thing(finding: &Finding, thing: &str) -> bool {
    finding.fingerprint().map_or(finding.id == thing, |fingerprint| fingerprint == thing)
}

fn of_finding(finding: &Finding, times_seen: usize, platform: Option<String>) -> ToldFinding {
    let shown = |text: &str| tidy(text, MOST_TEXT);
    let (path, field) = match &finding.location {
        Location::File(file) => (Some(shown(&file.full_path("!"))), None),
        Location::Config(field) => (None, Some(shown(field))),
        Location::Document(document) => {
            let document = &document.document;
            let path = document.json_path.as_deref().map(|path| format!(": {path}")).unwrap_or_default();
            (None, Some(shown(&format!("{}{path}", document.kind))))
        }
        Location::Image => (None, None),
    };
    let file = finding.file();
    ToldFinding {
        fingerprint: finding.fingerprint().map(str::to_string),
        rule: shown(&finding.rule.id),
        title: shown(&finding.rule.title),
        severity: finding.severity,
        masked: finding.secret.as_ref().map(|secret| shown(&secret.masked)),
        path,
        field,
        layer: file.map(|file| file.layer.index),
        layer_digest: file.and_then(|file| file.layer.digest.clone()),
        state: file.map(|file| file.state.name().to_string()),
        times_seen,
        platform: platform.as_deref().map(shown),
    }
}

/// What is known of a finding whose report is not in the store.
fn of_summary(news: &NewFinding) -> ToldFinding {
    let shown = |text: &str| tidy(text, MOST_TEXT);
    ToldFinding {
        fingerprint: news.masked.is_some().then(|| news.thing.clone()),
        rule: shown(&news.rule.id),
        title: shown(&news.rule.title),
        severity: news.rule.severity,
        masked: news.masked.as_deref().map(shown),
        path: news.path.as_deref().map(shown),
        field: None,
        layer: None,
        layer_digest: None,
        state: None,
        times_seen: 1,
        platform: None,
    }
}

impl Message {
    /// A message about findings of one image, or of the images of one index: those whose things are among `things`.
    /// `None` where none is.
    pub(crate) fn about<'u>(
        (image, digest): (&str, &Digest),
        scanned_at: &str,
        untold: impl IntoIterator<Item = &'u Untold>,
        things: &BTreeSet<&str>,
    ) -> Option<Message> {
        let told = untold.into_iter().filter(|untold| things.contains(&untold.thing[..]));
        let mut findings: Vec<ToldFinding> = told.map(|untold| untold.finding.clone()).collect();
        let findings_total = findings.len();
        let order = |finding: &ToldFinding| (std::cmp::Reverse(finding.severity), finding.layer, finding.path.clone());
        findings.sort_by_cached_key(order);
        findings.truncate(MOST_FINDINGS);
        let (image, scanned_at) = (tidy(image, MOST_TEXT), scanned_at.to_string());
        (findings_total > 0).then(|| Message { image, digest: digest.clone(), scanned_at, findings_total, findings })
    }
}
