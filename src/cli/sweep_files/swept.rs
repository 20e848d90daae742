//! What a sweep of a folder has found so far, and its report.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::context;
use crate::cli::read::is_stored;
use layersift_fleet::LayerCache;
use layersift_model::{
    Digest, Finding, Gap, GapReason, ImageGap, ImageReport, IncompleteImage, LayerReport, NewFinding, RuleSummary,
    SweepProblem, SweepProblemKind, SweepReport, SweepSums, Verdict,
};
use layersift_scan::KnownLayers;
use layersift_store::{RunId, RunStatus, Scope, Store};

/// As many gaps of an image are listed as sweeps of registries list.
const MOST_GAPS: usize = 20;
/// New findings that the report lists.
const MOST_NEWS: usize = 10_000;
/// How long a run counts as alive without a word, in seconds. An archive may take long.
const LEASE: i64 = 3_600;

/// A sweep of a folder.
pub(super) struct Swept<'s> {
    name: String,
    /// Where the results are kept.
    kept: Option<(&'s Store, &'s LayerCache<'s>, RunId)>,
    images: u64,
    failing: u64,
    incomplete: Vec<IncompleteImage>,
    problems: Vec<SweepProblem>,
    /// What was found in images that no store keeps, as far as the report may list it.
    found: HashMap<String, NewFinding>,
    has_all_found: bool,
}

impl<'s> Swept<'s> {
    /// Begins the sweep `name`. What is new is new since the last sweep of that name in the store; without a store,
    /// everything is.
    pub(super) fn begin(name: String, store: Option<(&'s Store, &'s LayerCache<'s>)>) -> anyhow::Result<Swept<'s>> {
        let start = |(store, cache): (&'s Store, &'s LayerCache<'s>)| {
            let run = store.runs().start(&name, cache.key(), context::now())?;
            store.runs().renew(run, LEASE, context::now())?;
            anyhow::Ok((store, cache, run))
        };
        let kept = store.map(start).transpose()?;
        let (incomplete, problems, found) = (Vec::new(), Vec::new(), HashMap::new());
        Ok(Swept { name, kept, images: 0, failing: 0, incomplete, problems, found, has_all_found: true })
    }

    /// Counts an image that was judged, and stores its report.
    pub(super) fn image(&mut self, report: &ImageReport) -> anyhow::Result<()> {
        self.images += 1;
        self.failing += u64::from(report.verdict() == Verdict::Fail);
        if !report.gaps.is_empty() {
            self.incomplete.push(IncompleteImage {
                name: report.target.clone(),
                manifest_digest: report.manifest_digest.clone(),
                gaps: report.gaps.iter().take(MOST_GAPS).cloned().collect(),
                gaps_total: report.gaps.len() as u64,
            });
        }
        match self.kept {
            Some((store, cache, run)) if is_stored(report) => {
                cache.put_image(report, Some(run))?;
                store.runs().renew(run, LEASE, context::now())?;
            }
            _ => report.findings.iter().for_each(|finding| self.find(report, finding)),
        }
        Ok(())
    }

    /// Counts an archive that cannot be read. Its report has a gap.
    pub(super) fn unreadable(&mut self, path: &Path, error: &anyhow::Error) -> ImageReport {
        let (name, reason) = (path.display().to_string(), format!("{error:#}"));
        let gap = Gap::new(GapReason::Unreadable, reason.clone()).at(&name);
        let gaps = vec![ImageGap { gap, layer: None }];
        self.problems.push(SweepProblem { name: name.clone(), kind: SweepProblemKind::Image, reason });
        ImageReport { target: name, gaps, ..ImageReport::default() }
    }

    /// The report.
    pub(super) fn end(mut self, layers: &Layers<'_>) -> anyhow::Result<SweepReport> {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let sums = SweepSums {
            images: self.images,
            layers_read: count(&layers.read),
            layers_known: count(&layers.known),
            ..SweepSums::default()
        };
        self.keep_gravest(MOST_NEWS);
        let mut news: Vec<NewFinding> = self.found.into_values().collect();
        let (mut run, mut news_are_complete) = (0, self.has_all_found);
        if let Some((store, _, id)) = self.kept {
            store.runs().update(id, &sums, RunStatus::Done, context::now())?;
            store.runs().adopt(id, context::now())?;
            let page = store.runs().news(id, Scope::Target, MOST_NEWS)?;
            (run, news_are_complete) = (id.number(), page.is_complete && self.has_all_found);
            news.retain(|found| page.items.iter().all(|stored| stored.thing != found.thing));
            news.extend(page.items);
        }
        news.sort_by(|a, b| a.thing.cmp(&b.thing));
        let (incomplete, problems_total) = (self.incomplete.len() as u64, self.problems.len() as u64);
        let verdict = match (self.failing, incomplete + problems_total) {
            (1.., _) => Verdict::Fail,
            (0, 1..) => Verdict::Incomplete,
            (0, 0) => Verdict::Pass,
        };
        Ok(SweepReport {
            target: self.name,
            run,
            sums,
            failing: self.failing,
            incomplete,
            incomplete_images: self.incomplete,
            news,
            news_are_complete,
            problems: self.problems,
            problems_total,
            listing: None,
            ended_early: None,
            verdict,
        })
    }

    /// Notes what was found in an image that is not stored. An image without a manifest is named by its configuration.
    fn find(&mut self, report: &ImageReport, finding: &Finding) {
        let thing = finding.fingerprint().unwrap_or(&finding.id).to_string();
        let image = report.manifest_digest.clone().or_else(|| report.config_digest.clone());
        self.found.entry(thing.clone()).or_insert_with(|| NewFinding {
            thing,
            image: image.unwrap_or_else(|| Digest::of(report.target.as_bytes())),
            rule: RuleSummary {
                id: finding.rule.id.clone(),
                title: finding.rule.title.clone(),
                severity: finding.severity,
                confidence: finding.rule.confidence,
            },
            masked: finding.secret.as_ref().map(|secret| secret.masked.clone()),
            path: finding.file().map(|file| file.path.clone()),
        });
        self.keep_gravest(2 * MOST_NEWS);
    }

    /// Drops findings that the report would not list once there are more than `most`: a folder may have any number.
    fn keep_gravest(&mut self, most: usize) {
        if self.found.len() <= most {
            return;
        }
        let mut all: Vec<NewFinding> = self.found.drain().map(|(_, found)| found).collect();
        all.sort_by(|a, b| b.rule.severity.cmp(&a.rule.severity).then_with(|| a.thing.cmp(&b.thing)));
        all.truncate(MOST_NEWS);
        self.found = all.into_iter().map(|found| (found.thing.clone(), found)).collect();
        self.has_all_found = false;
    }
}

/// Counts the layers that are read, and those that the store has.
pub(super) struct Layers<'c> {
    cache: Option<&'c LayerCache<'c>>,
    read: AtomicU64,
    known: AtomicU64,
}

impl<'c> Layers<'c> {
    pub(super) fn new(cache: Option<&'c LayerCache<'c>>) -> Layers<'c> {
        Layers { cache, read: AtomicU64::new(0), known: AtomicU64::new(0) }
    }

    /// The first error of the store, if there was one.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        self.cache.and_then(LayerCache::failure).map_or(Ok(()), |failure| Err(failure.into()))
    }
}

impl KnownLayers for Layers<'_> {
    fn get(&self, layer: &Digest) -> Option<Arc<LayerReport>> {
        let report = self.cache.and_then(|cache| KnownLayers::get(cache, layer));
        self.known.fetch_add(u64::from(report.is_some()), Ordering::Relaxed);
        report
    }

    fn keep(&self, layer: &Digest, report: &LayerReport) {
        self.read.fetch_add(1, Ordering::Relaxed);
        if let Some(cache) = self.cache {
            cache.keep(layer, report);
        }
    }
}
