//! Sweeps: every image that a catalog lists, each layer read once, whatever the number of images.
//!
//! ```text
//! plan      an entry of the catalog becomes images; their layers without a report become jobs in the store
//! work      threads here, and workers on other machines, claim jobs, read layers and store their reports
//! assemble  an image whose layers all have reports gets a report of its own, which is stored and judged
//! ```
//!
//! All state is in the store: a process that dies loses the layers that it reads, and the next sweep goes on from
//! there. The stored report of a known image is judged by the policy of the sweep. A known image costs a manifest, and
//! not even that where the catalog names its digest.

mod assemble;
mod blocked;
mod document_memory;
mod heartbeat;
mod layer_cache;
mod listing;
mod pending;
mod plan;
mod problem;
mod progress;
mod registries;
mod stored_base;
mod worker;

use std::collections::{HashMap, HashSet};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use layersift_format::Cancellation;
use layersift_model::{
    Digest, Footprint, ImageReport, IncompleteImage, LoginState, SweepListing, SweepProblem, SweepReport, SweepSums,
    Verdict,
};
use layersift_report::Policy;
use layersift_scan::Analyzer;
use layersift_source::catalog::{Catalog, CatalogError, Coverage, Entry, Filter};
use layersift_store::{ImageId, RunId, RunStatus, Scope, Seconds, Store, StoreError};

use self::blocked::Patience;
pub use self::layer_cache::LayerCache;
pub use self::listing::Expected;
use self::pending::PendingEntry;
use self::plan::{KnownEntry, Planned, Resolver};
pub use self::progress::{Counted, Progress};
pub use self::registries::{LentLogin, LentLogins, Registries, RepositoryClient};
pub use self::stored_base::add_stored_base;
pub use self::worker::{Claims, Step, Worker};

/// Images that are planned and wait for their layers. The bytes of their configurations are in memory.
const MOST_PENDING: usize = 256;

/// Threads that find out what entries are.
const RESOLVERS: usize = 8;

/// Entries that are listed or resolved before they are planned.
const AHEAD: usize = 64;

/// How long to wait before asking again for reports of layers that others read.
const TICK: Duration = Duration::from_millis(50);

/// The same while layers wait until those before them are read. Workers would else wait for them.
const SHORT_TICK: Duration = Duration::from_millis(20);

/// How often the jobs of layers that others read are queued again, in case that they are gone.
const REQUEUE: Duration = Duration::from_secs(10);

/// Problems that the report lists.
const MOST_PROBLEMS: usize = 1_000;

/// Images with gaps that the report lists, and the bytes of those gaps.
const MOST_INCOMPLETE: usize = 1_000;
const MOST_INCOMPLETE_BYTES: u64 = 4 << 20;

/// Gaps of an image that the report lists.
const MOST_GAPS: usize = 20;

/// Notes that the report lists.
const MOST_NOTES: usize = 1_000;

/// New findings that the report lists.
const MOST_NEWS: usize = 10_000;

/// Says that `report` was written: what is new in it is not new to the next sweep. What a sweep found and did not say
/// is announced by the next one of the same target.
///
/// # Errors
/// When the store fails.
pub fn announce(store: &Store, report: &SweepReport) -> Result<(), StoreError> {
    let last = if report.news_are_complete { None } else { report.news.last().map(|news| &news.thing[..]) };
    store.runs().announce(RunId::from_number(report.run), last)
}

/// What stops a sweep.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A registry does not accept the login, so that nothing is known about what it has.
    #[error(transparent)]
    Login(CatalogError),
}

/// The limits of a sweep, and how it reads layers.
#[derive(Clone, Debug)]
pub struct SweepLimits {
    /// Threads that pull and read layers; with none, workers elsewhere do.
    pub threads: usize,
    /// How long a lease on a layer holds without being renewed, in seconds.
    pub lease: Seconds,
    /// How long to wait before a layer that failed is tried again, in seconds, times the attempts so far.
    pub retry_delay: Seconds,
    /// How long the sweep may take.
    pub time: Option<Duration>,
    /// Bytes that may be pulled.
    pub bytes: Option<u64>,
    /// What it covers, and how much it should find there.
    pub expected: Expected,
    /// Whether to ask the registry to scan an image that it does not serve before. That replaces the report that the
    /// registry has of it.
    pub request_scans: bool,
    /// Whether new images are read with what refers to them, such as signatures and attestations.
    pub with_referrers: bool,
    /// Whether the documents of images with a report are read again, and what refers to them. It may have been attached
    /// since.
    pub reread_documents: bool,
    /// Whether somebody waits for its images: their layers are read before those of other sweeps.
    pub is_urgent: bool,
    /// The time for one layer, with all requests and retries.
    pub layer_timeout: Option<Duration>,
    /// Ends the sweep early. Layers in progress go back to the queue.
    pub cancellation: Cancellation,
    /// Cancelled by the sweep when it ends: nothing then waits for a registry that asks to be asked later. The options
    /// of the registries should have the same token.
    pub patience: Cancellation,
}

impl Default for SweepLimits {
    fn default() -> SweepLimits {
        SweepLimits {
            threads: 4,
            lease: 30,
            retry_delay: 5,
            time: None,
            bytes: None,
            expected: Expected::default(),
            request_scans: false,
            with_referrers: true,
            reread_documents: false,
            is_urgent: false,
            layer_timeout: None,
            cancellation: Cancellation::never(),
            patience: Cancellation::never(),
        }
    }
}

impl SweepLimits {
    /// A token for one layer, or for the requests that one entry of a catalog takes.
    fn token(&self) -> Cancellation {
        match self.layer_timeout {
            Some(time) => self.cancellation.child_with_deadline(time),
            None => self.cancellation.child(),
        }
    }
}

/// What a sweep works with.
pub struct Sweep<'s> {
    /// Reads layers and assembles images.
    pub scanner: &'s Analyzer,
    /// Has the reports and the queue.
    pub store: &'s Store,
    /// Clients of registries.
    pub registries: &'s Registries,
    /// Judges reports.
    pub policy: &'s Policy,
    /// Seconds since 1970.
    pub clock: fn() -> Seconds,
    /// Counts what is done.
    pub progress: &'s Progress,
}

/// A sweep while it runs.
struct Running<'r> {
    sweep: &'r Sweep<'r>,
    catalog: &'r dyn Catalog,
    cache: &'r LayerCache<'r>,
    target: &'r str,
    run: RunId,
    /// When its time is up.
    until: Option<Instant>,
    /// Bytes that may be pulled.
    bytes: Option<u64>,
    /// Cancelled when a worker fails, or the sweep is.
    stop: &'r Cancellation,
    limits: &'r SweepLimits,
    /// Entries whose images are known, until that is noted.
    known: Vec<KnownEntry>,
    pending: Vec<PendingEntry>,
    /// When the jobs of the pending images were last queued again.
    requeued: Instant,
    /// Layers that were queued in this run: the next image that has them does not queue them again.
    queued: HashSet<Digest>,
    /// Layers that this run failed to read, and why.
    poisoned: HashMap<Digest, String>,
    problems: Vec<SweepProblem>,
    problems_total: u64,
    failing: u64,
    incomplete: u64,
    incomplete_images: Vec<IncompleteImage>,
    /// The bytes of their gaps.
    incomplete_bytes: u64,
    /// Images that were planned, by their repository: one that is listed twice counts once.
    counted: HashSet<(u64, ImageId)>,
    /// What changed while images were listed and read.
    notes: Vec<String>,
}

/// Stops the workers when it is dropped.
struct Stopping<'s>(&'s Cancellation);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// An entry, and what a thread found out about it.
type Answer = (Result<Entry, CatalogError>, Result<Planned, StoreError>);

/// The next entry; each goes to one of the threads.
fn next_of(listed: &Mutex<mpsc::Receiver<Result<Entry, CatalogError>>>) -> Option<Result<Entry, CatalogError>> {
    listed.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

impl Sweep<'_> {
    /// Sweeps what `catalog` lists and `filter` admits. `target` is the name of the sweep: what is new is new since the
    /// last sweep of that name.
    ///
    /// # Errors
    /// When the store fails. Problems with entries of the catalog are in the report.
    pub fn run(
        &self,
        target: &str,
        catalog: &dyn Catalog,
        filter: &Filter,
        limits: &SweepLimits,
    ) -> Result<SweepReport, SweepError> {
        let started = (self.clock)();
        let cache = LayerCache::new(self.store, self.scanner, self.clock);
        let run = self.store.runs().start(target, cache.key(), started)?;
        let worker = Worker {
            scanner: self.scanner,
            store: self.store,
            cache: &cache,
            registries: self.registries,
            clock: self.clock,
            progress: self.progress,
            lease: limits.lease,
            retry_delay: limits.retry_delay,
            layer_timeout: limits.layer_timeout,
            cancellation: limits.cancellation.clone(),
            claims: Claims::default(),
        };
        let stop = limits.cancellation.child();
        let mut running = Running {
            sweep: self,
            catalog,
            cache: &cache,
            target,
            run,
            until: limits.time.map(|time| Instant::now() + time),
            bytes: limits.bytes,
            stop: &stop,
            limits,
            known: Vec::new(),
            pending: Vec::new(),
            requeued: Instant::now(),
            queued: HashSet::new(),
            poisoned: HashMap::new(),
            problems: Vec::new(),
            problems_total: 0,
            failing: 0,
            incomplete: 0,
            incomplete_images: Vec::new(),
            incomplete_bytes: 0,
            counted: HashSet::new(),
            notes: Vec::new(),
        };
        let (ended_early, worked) = thread::scope(|scope| {
            let _alive = heartbeat::start(scope, self, run, limits.lease);
            let workers = scope.spawn(|| worker.run(limits.threads, &stop));
            // Dropped also where planning panics: otherwise the workers would wait for ever.
            let stopping = Stopping(&stop);
            let ended_early = running.plan_all(filter);
            limits.patience.cancel();
            drop(stopping);
            (ended_early, workers.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let mut ended_early = match worked.and(ended_early) {
            Ok(ended_early) => ended_early,
            Err(error) => return Err(running.failed(error)),
        };
        // A registry may list nothing for lack of access: that is not a pass.
        let is_known_to_be_empty = limits.expected.is_whole && is_known_to_be_empty(catalog);
        if ended_early.is_none() && self.progress.counted().images == 0 && !is_known_to_be_empty {
            ended_early = Some("there was no image to look at");
        }
        let listing = running.judge_listing(ended_early.is_some())?;
        if self.progress.counted().layers_queued > 0 {
            // It only makes traces quicker, and fails where another sweep does the same.
            let _ = self.store.optimize();
        }
        running.report(listing, ended_early)
    }
}

impl Running<'_> {
    /// Plans everything and assembles what is complete. Says why it ended early, if it did.
    ///
    /// One thread lists, some find out what is listed, and this one takes the answers: registries are slow to answer.
    fn plan_all(&mut self, filter: &Filter) -> Result<Option<&'static str>, SweepError> {
        let catalog = self.catalog;
        let (key, limits) = (self.cache.key(), self.limits);
        let resolver = Resolver { sweep: self.sweep, catalog, key, limits, patience: Patience::default() };
        let (list, listed) = mpsc::sync_channel(AHEAD);
        let (answer, answers) = mpsc::sync_channel(AHEAD);
        let listed = Arc::new(Mutex::new(listed));
        let ended_early = thread::scope(|scope| {
            // Each side ends when the other one does: a channel without a receiver takes no more.
            scope.spawn(move || catalog.entries(filter).all(|entry| list.send(entry).is_ok()));
            for _ in 0..RESOLVERS {
                let (listed, answer, resolver) = (Arc::clone(&listed), answer.clone(), &resolver);
                scope.spawn(move || {
                    while let Some(entry) = next_of(&listed) {
                        let resolved = resolver.resolve(&entry);
                        if answer.send((entry, resolved)).is_err() {
                            break;
                        }
                    }
                });
            }
            drop((answer, listed));
            let outcome = self.take_all(&answers);
            if !matches!(outcome, Ok(None)) {
                self.limits.patience.cancel();
                // Other entries may wait for their memory.
                self.pending.clear();
            }
            drop(answers);
            self.note_known().and(outcome)
        })?;
        if ended_early.is_some() { Ok(ended_early) } else { self.wait_while(1) }
    }

    /// Takes what the threads found out. Says why it did not take everything, if it did not.
    fn take_all(&mut self, answers: &mpsc::Receiver<Answer>) -> Result<Option<&'static str>, SweepError> {
        let mut joined = Instant::now();
        loop {
            // A registry may make everyone wait for hours.
            match answers.recv_timeout(self.tick()) {
                Ok((Ok(entry), resolved)) => self.plan(&entry, resolved?)?,
                Ok((Err(error), _)) if error.is_of_login() => return Err(SweepError::Login(error)),
                Ok((Err(error), _)) => self.add_problem(problem::catalog(&error)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
            if joined.elapsed() >= self.tick() {
                self.note_known()?;
                self.assemble_complete()?;
                joined = Instant::now();
            }
            self.wait_while(MOST_PENDING)?;
            if let Some(reason) = self.reason_to_end() {
                return Ok(Some(reason));
            }
        }
    }

    /// Waits as long as `most` images or more are pending.
    fn wait_while(&mut self, most: usize) -> Result<Option<&'static str>, SweepError> {
        while self.pending.iter().map(PendingEntry::waiting).sum::<usize>() >= most {
            if let Some(reason) = self.reason_to_end() {
                return Ok(Some(reason));
            }
            thread::sleep(self.tick());
            self.assemble_complete()?;
        }
        Ok(None)
    }

    /// How long to wait before asking again for reports of layers.
    fn tick(&self) -> Duration {
        if self.pending.iter().any(|entry| entry.is_held) { SHORT_TICK } else { TICK }
    }

    fn reason_to_end(&self) -> Option<&'static str> {
        // The end of its time or of its bytes may also cancel it, so that requests end.
        if self.until.is_some_and(|until| Instant::now() >= until) {
            Some("its time is up")
        } else if self.bytes.is_some_and(|bytes| self.sweep.registries.bytes() >= bytes) {
            Some("it has pulled as many bytes as it may")
        } else if self.limits.cancellation.is_cancelled() {
            Some("it was terminated")
        } else if self.stop.is_cancelled() {
            Some("a worker failed")
        } else {
            None
        }
    }

    /// Counts an image that was judged.
    fn count(&mut self, verdict: Verdict, incomplete: Option<IncompleteImage>) {
        self.failing += u64::from(verdict == Verdict::Fail);
        self.incomplete += u64::from(incomplete.is_some());
        let Some(incomplete) = incomplete else { return };
        self.incomplete_bytes += incomplete.gaps.iter().map(Footprint::footprint).sum::<u64>();
        if self.incomplete_images.len() < MOST_INCOMPLETE && self.incomplete_bytes <= MOST_INCOMPLETE_BYTES {
            self.incomplete_images.push(incomplete);
        }
    }

    /// Whether the image of an entry was deleted since it was listed. That is said, and no problem.
    fn is_deleted(&mut self, entry: &Entry) -> bool {
        let is_deleted = matches!(self.catalog.still_lists(entry), Ok(false));
        if is_deleted {
            self.note(deleted(entry));
        }
        is_deleted
    }

    fn note(&mut self, text: String) {
        let text = self.sweep.scanner.mask_name(&text);
        tracing::info!("{text}");
        if self.notes.len() < MOST_NOTES {
            self.notes.push(text);
        }
    }

    /// What a registry calls something may have a secret, which the log must not have, either.
    fn add_problem(&mut self, problem: SweepProblem) {
        if self.limits.cancellation.is_cancelled() {
            // A request that was cancelled says nothing about the registry; that the sweep ended early is reported.
            return;
        }
        let masked = |text: &str| self.sweep.scanner.mask_name(text);
        let SweepProblem { name, kind, reason } = problem;
        let problem = SweepProblem { name: masked(&name), kind, reason: masked(&reason) };
        tracing::info!(reason = %problem, "not scanned");
        self.problems_total += 1;
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(problem);
        }
    }

    fn sums(&self) -> SweepSums {
        let counted = self.sweep.progress.counted();
        SweepSums {
            images: counted.images,
            layers_read: counted.layers_read,
            layers_known: counted.layers_known,
            bytes_pulled: self.sweep.registries.bytes(),
            bytes_saved: counted.bytes_saved,
        }
    }

    /// Records that the run failed. Returns why.
    fn failed(&self, error: SweepError) -> SweepError {
        let runs = self.sweep.store.runs();
        if let Err(store) = runs.update(self.run, &self.sums(), RunStatus::Failed, (self.sweep.clock)()) {
            tracing::warn!(error = %store, "the end of the run is not recorded");
        }
        error
    }

    fn report(
        self,
        listing: Option<SweepListing>,
        ended_early: Option<&'static str>,
    ) -> Result<SweepReport, SweepError> {
        let Sweep { store, clock, .. } = self.sweep;
        let sums = self.sums();
        let status = if ended_early.is_none() { RunStatus::Done } else { RunStatus::Failed };
        store.runs().update(self.run, &sums, status, clock())?;
        store.runs().adopt(self.run, clock())?;
        let news = store.runs().news(self.run, Scope::Target, MOST_NEWS)?;
        let is_incomplete = self.incomplete > 0 || self.problems_total > 0 || ended_early.is_some();
        let verdict = match (self.failing, is_incomplete) {
            (1.., _) => Verdict::Fail,
            (0, true) => Verdict::Incomplete,
            (0, false) => Verdict::Pass,
        };
        Ok(SweepReport {
            target: self.target.to_string(),
            run: self.run.number(),
            sums,
            failing: self.failing,
            incomplete: self.incomplete,
            incomplete_images: self.incomplete_images,
            news: news.items,
            news_are_complete: news.is_complete,
            problems: self.problems,
            problems_total: self.problems_total,
            listing,
            ended_early: ended_early.map(Into::into),
            verdict,
        })
    }
}

/// Whether a catalog is known to have no images: somebody who is known listed its projects, of which there are some.
fn is_known_to_be_empty(catalog: &dyn Catalog) -> bool {
    let is_empty = |coverage: &Coverage| {
        let has_projects = coverage.projects.is_some_and(|projects| projects > 0);
        coverage.is_checked && coverage.login == LoginState::Accepted && has_projects
    };
    catalog.coverage().as_ref().is_some_and(is_empty)
}

/// What is said of an image that was deleted since it was listed.
fn deleted(entry: &Entry) -> String {
    format!("{} was deleted while the sweep ran", entry.reference())
}

/// The gaps of `report`, as the report of the sweep lists them; `None` where there are none.
fn incomplete(name: impl FnOnce() -> String, report: &ImageReport) -> Option<IncompleteImage> {
    (!report.gaps.is_empty()).then(|| IncompleteImage {
        name: name(),
        manifest_digest: report.manifest_digest.clone(),
        gaps: report.gaps.iter().take(MOST_GAPS).cloned().collect(),
        gaps_total: report.gaps.len() as u64,
    })
}
