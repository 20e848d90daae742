//! What the reports of a digest say under a policy. Each is dropped when it is judged, and what it said is remembered
//! where reading it again would take long: a question about an index with large reports may end before all of them are
//! read, and the next one goes on from there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use layersift_model::{Digest, ImageReport, LayerKey};
use layersift_scan::MemoryBudget;
use layersift_store::{ReportEntry, Seconds};

use super::{Facts, Found, Ground, NotRead, Reading, add_asked_bases};
use crate::admission::{Decision, Judgement, Outcome, Terms};

/// How long a judgement is remembered, and how many are.
const REMEMBERED: Duration = Duration::from_secs(600);
const MOST_REMEMBERED: usize = 4_096;

/// What reports are judged by.
pub(crate) struct Judging<'j> {
    pub(crate) terms: &'j Terms,
    /// The generation of the policy that the terms are of.
    pub(crate) generation: u64,
    /// The layers of base images whose findings do not count.
    pub(crate) bases: Arc<Vec<Vec<Digest>>>,
    pub(crate) remembered: &'j RememberedJudgements,
}

/// A report that was judged.
#[derive(Debug)]
struct JudgedReport {
    facts: Facts,
    judgement: Judgement,
}

/// What the reports of all images of a digest say.
#[derive(Debug)]
pub(crate) struct JudgedReports {
    reports: Vec<(ReportEntry, Arc<JudgedReport>)>,
    ground: Ground,
}

/// Judgements of large reports.
#[derive(Debug, Default)]
pub(crate) struct RememberedJudgements(Mutex<HashMap<JudgementKey, (Instant, Arc<JudgedReport>)>>);

/// A report, the generation of the policy, the rule of it, and the layers of base images.
type JudgementKey = (ReportEntry, u64, usize, Arc<Vec<Vec<Digest>>>);

impl Found {
    /// Whether it takes more than a moment to judge its reports: some of those that are not remembered are large.
    pub(crate) fn is_large(&self, judging: &Judging<'_>) -> bool {
        let unread =
            self.entries.iter().filter_map(|entries| entries.first().filter(|best| judging.recall(best).is_none()));
        MemoryBudget::is_charged(unread.fold(0, |sum, entry| sum.saturating_add(entry.memory())))
    }

    /// Judges the report of each image. `None` where one is missing.
    pub(crate) fn judged(
        &self,
        reading: &Reading<'_>,
        judging: &Judging<'_>,
    ) -> Result<Option<JudgedReports>, NotRead> {
        let mut reports = Vec::with_capacity(self.entries.len());
        for entries in &self.entries {
            let Some(judged) = judging.first(reading, entries)? else { return Ok(None) };
            reports.push(judged);
        }
        let ground = self.ground(reports.iter().map(|(entry, judged)| (entry, &judged.facts)));
        Ok(ground.map(|ground| JudgedReports { reports, ground }))
    }
}

impl Judging<'_> {
    /// Judges the first of `entries` that can be read.
    fn first(
        &self,
        reading: &Reading<'_>,
        entries: &[ReportEntry],
    ) -> Result<Option<(ReportEntry, Arc<JudgedReport>)>, NotRead> {
        for entry in entries {
            if let Some(judged) = self.recall(entry) {
                return Ok(Some((entry.clone(), judged)));
            }
            let judge = |entry: &ReportEntry, report| self.judge(reading, entry, report);
            if let Some(judged) = reading.first(std::slice::from_ref(entry), judge)? {
                return Ok(Some((entry.clone(), judged)));
            }
        }
        Ok(None)
    }

    fn judge(
        &self,
        reading: &Reading<'_>,
        entry: &ReportEntry,
        mut report: ImageReport,
    ) -> Result<Arc<JudgedReport>, NotRead> {
        let findings = &self.terms.findings;
        add_asked_bases(reading.store, [&mut report], findings)?;
        let facts = Facts::of(&report);
        let judged = Arc::new(JudgedReport { facts, judgement: Judgement::of(&mut report, findings, &self.bases) });
        // What an image is based on changes with what is stored.
        if MemoryBudget::is_charged(entry.memory()) && !findings.allow.asks_for_base() {
            self.remembered.remember(self.key(entry), Arc::clone(&judged));
        }
        Ok(judged)
    }

    fn recall(&self, entry: &ReportEntry) -> Option<Arc<JudgedReport>> {
        MemoryBudget::is_charged(entry.memory()).then(|| self.remembered.recall(&self.key(entry)))?
    }

    fn key(&self, entry: &ReportEntry) -> JudgementKey {
        (entry.clone(), self.generation, self.terms.number, Arc::clone(&self.bases))
    }
}

impl RememberedJudgements {
    fn remember(&self, key: JudgementKey, judged: Arc<JudgedReport>) {
        let mut known = self.lock();
        if known.len() >= MOST_REMEMBERED {
            known.retain(|_, (since, _)| since.elapsed() < REMEMBERED);
        }
        if known.len() >= MOST_REMEMBERED {
            known.clear();
        }
        known.insert(key, (Instant::now(), judged));
    }

    fn recall(&self, key: &JudgementKey) -> Option<Arc<JudgedReport>> {
        let known = self.lock();
        known.get(key).filter(|(since, _)| since.elapsed() < REMEMBERED).map(|(_, judged)| Arc::clone(judged))
    }

    /// Forgets all: the policy is another one.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JudgementKey, (Instant, Arc<JudgedReport>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl JudgedReports {
    /// What the reports say. One that is outdated for too long says nothing, unless it fails.
    pub(crate) fn decide(&self, (image, digest): (&str, &Digest), terms: &Terms, now: Seconds) -> Decision {
        let judgements = self.reports.iter().map(|(_, judged)| &judged.judgement);
        let decision = Decision::of_judgements(image, digest.clone(), judgements, self.ground.basis.clone());
        let age = Seconds::try_from(terms.max_report_age.as_secs()).unwrap_or(Seconds::MAX);
        // A time that is still to come was noted by a clock that was wrong.
        let is_too_old = self.ground.outdated_since.is_some_and(|since| since > now || now.saturating_sub(since) > age);
        if is_too_old && decision.outcome != Outcome::Fail {
            let why = "its report is of rules that were replaced longer ago than max-report-age";
            return Decision {
                basis: decision.basis,
                platforms: decision.platforms,
                ..Decision::without_report(image, Some(digest.clone()), Outcome::Unknown, why)
            };
        }
        decision
    }
}

/// One of `manifests` of which a stored report fails, under any key that services answer or answered by. This also
/// finds those of an index that is not known as a whole.
pub(crate) fn failing_of(
    reading: &Reading<'_>,
    manifests: &[Digest],
    key: &LayerKey,
    judging: &Judging<'_>,
) -> Result<Option<Digest>, NotRead> {
    let served = reading.store.service().served_keys()?;
    let others: Vec<LayerKey> = served.into_iter().map(|(other, _)| other).collect();
    for entry in reading.store.images().report_entries(manifests, Some(key), Some(&others))?.iter().flatten() {
        let judged = judging.first(reading, std::slice::from_ref(entry))?;
        if judged.is_some_and(|(_, judged)| judged.judgement.fails()) {
            return Ok(Some(entry.manifest.clone()));
        }
    }
    Ok(None)
}
