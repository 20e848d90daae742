//! Images that are waited for are scanned: each request of the store's queue is a sweep of one image, so that layers
//! are read once and by any worker. A request is claimed for a time, and given back when the service ends.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use layersift_fleet::{Claims, LayerCache, Progress, Registries, Sweep, SweepError, SweepLimits, Worker};
use layersift_format::{Cancellation, json, manifest};
use layersift_model::{ImageReport, LayerKey, ReportKind, SweepReport};
use layersift_report::Policy;
use layersift_scan::Analyzer;
use layersift_source::catalog::{Filter, ImageList};
use layersift_source::registry::{At, Reference};
use layersift_store::{ClaimedRequest, RequestClass, Seconds, Store, StoreError};

use super::notices::Notices;
use super::resolver::unreadable;
use crate::admission::Unreadable;
use crate::http::metrics::{Metrics, label};
use crate::settings::AllowList;

/// What sweeps of the service are called in the store.
const TARGET: &str = "service";

/// Seconds that a claim holds without being renewed, and how often it is.
const LEASE: Seconds = 30;
const RENEWAL: Duration = Duration::from_secs(8);

/// How long to wait where there is nothing to do, or the store is out of reach.
const IDLE: Duration = Duration::from_millis(250);
const OUTAGE: Duration = Duration::from_secs(1);

/// Seconds before an image that could not be read is tried again.
const DELAY: Seconds = 5;

/// Scans what is queued.
pub(crate) struct Scanner {
    /// With the patience of a sweep: a server that restarts is waited for.
    pub(crate) store: Arc<Store>,
    pub(crate) analyzer: Arc<Analyzer>,
    pub(crate) registries: Arc<Registries>,
    /// A request may be older than the list.
    pub(crate) allow: AllowList,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) clock: fn() -> Seconds,
    /// Whether new images are read with what refers to them.
    pub(crate) with_referrers: bool,
    /// The longest that one image may take.
    pub(crate) timeout: Duration,
    /// Seconds for which one that failed is not tried again.
    pub(crate) retry_failed: Seconds,
    pub(crate) ending: Cancellation,
    pub(crate) notices: Notices,
}

/// Why an image was not scanned.
struct Unscanned {
    why: Unreadable,
    text: String,
    may_succeed: bool,
}

impl Scanner {
    /// Scans `at_once` images at a time, and pulls `pulls` layers at a time, until the service ends.
    pub(crate) fn run(&self, at_once: usize, pulls: usize) {
        let cache = LayerCache::new(&self.store, &self.analyzer, self.clock);
        thread::scope(|scope| {
            if pulls > 0 {
                scope.spawn(|| self.pull(&cache, pulls));
            }
            for _ in 0..at_once {
                scope.spawn(|| self.take_requests(&cache));
            }
        });
    }

    /// Reads layers, whoever queued them.
    fn pull(&self, cache: &LayerCache<'_>, pulls: usize) {
        while !self.ending.is_cancelled() {
            let worker = Worker {
                scanner: &self.analyzer,
                store: &self.store,
                cache,
                registries: &self.registries,
                clock: self.clock,
                progress: &self.progress,
                lease: LEASE,
                retry_delay: DELAY,
                layer_timeout: Some(self.timeout),
                cancellation: self.ending.clone(),
                claims: Claims::default(),
            };
            // It ends when the store fails, or a login does: both may be over soon.
            if let Err(error) = worker.run(pulls, &self.ending) {
                tracing::error!(%error, "cannot read layers");
                self.ending.wait(OUTAGE);
            }
        }
    }

    fn take_requests(&self, cache: &LayerCache<'_>) {
        while !self.ending.is_cancelled() {
            match self.store.scan_requests().claim(LEASE, (self.clock)()) {
                Ok(Some(claimed)) => {
                    if let Err(error) = self.serve(&claimed, cache) {
                        tracing::error!(%error, image = claimed.reference, "the store failed");
                        self.ending.wait(OUTAGE);
                    }
                }
                Ok(None) => drop(self.ending.wait(IDLE)),
                Err(error) => {
                    tracing::error!(%error, "cannot claim a request");
                    self.ending.wait(OUTAGE);
                }
            }
        }
    }

    fn serve(&self, claimed: &ClaimedRequest, cache: &LayerCache<'_>) -> Result<(), StoreError> {
        let requests = self.store.scan_requests();
        let own = self.ending.child();
        tracing::info!(image = claimed.reference, attempt = claimed.attempt, "scan started");
        let outcome = thread::scope(|scope| {
            scope.spawn(|| self.renew(claimed, &own));
            let outcome = self.scan(claimed, &own);
            own.cancel();
            outcome
        });
        let count = |name: &str| self.metrics.scanned.get_or_create(&label("result", name)).inc();
        match outcome {
            _ if self.ending.is_cancelled() => requests.release(claimed)?,
            Ok(()) => {
                count("done");
                tracing::info!(image = claimed.reference, "scan ended");
                requests.finish(claimed, cache.key(), (self.clock)())?
            }
            Err(Unscanned { why, text, may_succeed }) => {
                count(why.name());
                tracing::warn!(image = claimed.reference, reason = why.name(), "scan failed: {text}");
                let delay = if may_succeed { DELAY } else { self.retry_failed };
                requests.fail(claimed, (why.name(), &text), may_succeed, delay, (self.clock)())?
            }
        };
        Ok(())
    }

    /// Renews a claim until its scan is over. A scan whose claim went to another process ends.
    fn renew(&self, claimed: &ClaimedRequest, own: &Cancellation) {
        while !own.wait(RENEWAL) {
            match self.store.scan_requests().renew(claimed, LEASE, (self.clock)()) {
                Ok(true) => {}
                Ok(false) => {
                    tracing::warn!(image = claimed.reference, "another process has taken the scan over");
                    return own.cancel();
                }
                Err(error) => tracing::error!(%error, image = claimed.reference, "cannot renew a claim"),
            }
        }
    }

    fn scan(&self, claimed: &ClaimedRequest, own: &Cancellation) -> Result<(), Unscanned> {
        let refused = |text: String| Unscanned { why: Unreadable::Refused, text, may_succeed: false };
        let reference: Reference = claimed.reference.parse().map_err(|error| refused(format!("{error}")))?;
        if !self.allow.admits(&reference) {
            return Err(refused(format!("{} is not a registry that the service may pull from", reference.host)));
        }
        if !self.is_known(claimed, &reference)? {
            self.check_access(&reference, own)?;
        }
        let list = ImageList::parse(Path::new("the request"), &claimed.reference)
            .map_err(|error| refused(error.to_string()))?;
        let progress = Progress::default();
        let sweep = Sweep {
            scanner: &self.analyzer,
            store: &self.store,
            registries: &self.registries,
            policy: &Policy::default(),
            clock: self.clock,
            progress: &progress,
        };
        let limits = SweepLimits {
            threads: 0,
            is_urgent: claimed.class < RequestClass::Background,
            with_referrers: self.with_referrers,
            time: Some(self.timeout),
            layer_timeout: Some(self.timeout),
            cancellation: own.clone(),
            patience: own.child(),
            ..SweepLimits::default()
        };
        match sweep.run(TARGET, &list, &Filter::default(), &limits) {
            Ok(report) => {
                self.announce(&reference, &report)?;
                outcome(&report)
            }
            Err(SweepError::Login(error)) => {
                Err(Unscanned { why: Unreadable::Unauthorized, text: error.to_string(), may_succeed: false })
            }
            Err(SweepError::Store(error)) => Err(Unscanned::of_store(error)),
        }
    }

    /// Says what is new, also where not everything was read.
    fn announce(&self, reference: &Reference, report: &SweepReport) -> Result<(), Unscanned> {
        let announced = self.notices.announce(&self.store, &self.key(), reference, report, (self.clock)());
        announced.map_err(Unscanned::of_store)
    }

    fn key(&self) -> LayerKey {
        LayerKey::new(self.analyzer.layer_key())
    }

    /// Whether what was pushed is an image that is known: it was copied, or an index was pushed after it. Then it is
    /// only noted where it is, and its registry is not asked.
    fn is_known(&self, claimed: &ClaimedRequest, reference: &Reference) -> Result<bool, Unscanned> {
        let (RequestClass::Event, Some(digest)) = (claimed.class, &reference.digest) else { return Ok(false) };
        let images = self.store.images();
        let entries = images.report_entries(std::slice::from_ref(digest), Some(&self.key()), Some(&[]));
        let Some(entry) = entries.map_err(Unscanned::of_store)?.into_iter().flatten().next() else { return Ok(false) };
        let _memory = self.analyzer.memory().lease_for_document(entry.memory());
        let found = images.read(&entry).map_err(Unscanned::of_store)?;
        // The report of an index says nothing about its images, and a layer that was not read may be readable now.
        let is_image = |report: &ImageReport| report.kind != ReportKind::Artifact || !report.layers.is_empty();
        let is_read = |report: &ImageReport| report.layers.iter().all(|layer| layer.is_read);
        Ok(found.is_some_and(|report| is_image(&report) && is_read(&report)))
    }

    /// Asks for the manifest first: the reason why it cannot be read is then known by its kind.
    fn check_access(&self, reference: &Reference, own: &Cancellation) -> Result<(), Unscanned> {
        let unscanned = |error: layersift_source::registry::RegistryError| Unscanned {
            why: unreadable(&error),
            text: error.to_string(),
            may_succeed: error.is_temporary(),
        };
        let Some(digest) = &reference.digest else { return Ok(()) };
        let found = self.registries.with_repository(&reference.host, &reference.repository, |client| {
            let registry = client.registry.with_cancellation(own.child_with_deadline(self.timeout));
            registry.manifest(&reference.repository, &At::Digest(digest.clone()))
        });
        let found = found.map_err(unscanned)?;
        // Several are read at once, and each may be large.
        let _memory = self.analyzer.memory().lease_for_document(json::memory_of(&found.bytes));
        // It has the digest that was asked for, so this is how it is, and not damage.
        manifest::check_document(digest, &found.bytes).map_err(|error| Unscanned {
            why: Unreadable::Unsupported,
            text: error.to_string(),
            may_succeed: false,
        })
    }
}

impl Unscanned {
    fn of_store(error: StoreError) -> Unscanned {
        Unscanned { why: Unreadable::Failed, text: error.to_string(), may_succeed: true }
    }
}

/// What a sweep of one image says about it. What it could not read of an image is in the image's report.
fn outcome(report: &SweepReport) -> Result<(), Unscanned> {
    if let Some(problem) = report.problems.first() {
        let text = format!("{}: {}", problem.kind.name(), problem.reason);
        return Err(Unscanned { why: Unreadable::Failed, text, may_succeed: true });
    }
    match &report.ended_early {
        Some(why) => Err(Unscanned { why: Unreadable::Failed, text: why.clone(), may_succeed: true }),
        None => Ok(()),
    }
}
