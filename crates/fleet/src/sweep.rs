//! Sweeps: every image that a catalog lists, each layer read once, whatever the number of images.
//!
//! ```text
//! plan      an entry of the catalog becomes images; their layers that nobody has read become jobs in the store
//! work      threads here, and workers on other machines, claim jobs, read layers and store their reports
//! assemble  an image whose layers all have reports is joined and stored
//! ```
//!
//! Nothing is kept but in the store: whoever dies loses the layers in flight, and the next sweep goes on from there. An
//! image that the store knows costs a manifest, and not even that where the catalog names its digest.

mod plan;
mod progress;
mod registries;
mod shelf;
mod worker;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use layersift_format::Cancellation;
use layersift_format::manifest::{Image, LayerSource};
use layersift_model::{Digest, Gap, GapReason, LayerReport, Verdict};
use layersift_report::Policy;
use layersift_scan::{Analyzer, ScanError};
use layersift_source::catalog::{Catalog, CatalogError, Entry, Filter};
use layersift_source::registry::RegistryError;
use layersift_store::{News, RunId, RunSums, Scope, Seconds, Status, Store, StoreError, Summary};

use plan::{Met, Resolved, Resolver};
pub use progress::{Counted, Progress};
pub use registries::Registries;
pub use shelf::Shelf;
pub use worker::{Claims, Step, Worker};

/// Images that are planned and wait for their layers. They are in memory with their configurations.
const MOST_PENDING: usize = 256;

/// Threads that find out what entries are, and entries that they are ahead.
const RESOLVERS: usize = 8;
const AHEAD: usize = 64;

/// How long to wait before asking again whether layers are there that others read.
const TICK: Duration = Duration::from_millis(50);

/// Troubles that are told one by one.
const MOST_TROUBLES: usize = 1_000;

/// Things that are told as new.
const MOST_NEWS: usize = 10_000;

/// What stops a sweep.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What of a catalog could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// It could not be listed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Its registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// An image whose documents cannot be read.
    #[error("{name}: {error}")]
    Image {
        /// The image.
        name: String,
        /// Why.
        error: ScanError,
    },
    /// An image of which a document is missing or is another than its digest says.
    #[error("{name}: {what}")]
    Documents {
        /// What named it.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// An image that the registry gives to nobody before it was scanned (Harbor's status 412).
    #[error("{name}: blocked by the registry{}", if *.is_asked { "; it was asked to scan the image" } else { "" })]
    Blocked {
        /// The image.
        name: String,
        /// Whether the registry was asked to have it scanned.
        is_asked: bool,
    },
}

/// How far a sweep goes, and how.
#[derive(Clone, Debug)]
pub struct Extent {
    /// Threads that pull and read layers; with none, workers elsewhere do.
    pub threads: usize,
    /// How long a claim on a layer holds without being renewed.
    pub lease: Seconds,
    /// How long to wait before a layer that failed is tried again, times the attempts so far.
    pub patience: Seconds,
    /// How long it may take.
    pub time: Option<Duration>,
    /// Bytes that may be pulled.
    pub bytes: Option<u64>,
    /// Whether the catalog names all there is, so that a tag that it does not name is gone.
    pub is_whole: bool,
    /// The time for one layer, with all requests and retries.
    pub layer_timeout: Option<Duration>,
    /// Ends the sweep early. Layers in progress go back to the queue.
    pub cancellation: Cancellation,
}

impl Default for Extent {
    fn default() -> Extent {
        Extent {
            threads: 4,
            lease: 120,
            patience: 5,
            time: None,
            bytes: None,
            is_whole: false,
            layer_timeout: None,
            cancellation: Cancellation::never(),
        }
    }
}

/// What a sweep sweeps with.
pub struct Sweep<'s> {
    /// Reads and joins.
    pub scanner: &'s Analyzer,
    /// Keeps what is known.
    pub store: &'s Store,
    /// Clients of registries.
    pub registries: &'s Registries,
    /// What fails.
    pub policy: &'s Policy,
    /// Seconds since 1970.
    pub clock: fn() -> Seconds,
    /// Counts what is done.
    pub progress: &'s Progress,
}

/// What a sweep came to.
#[derive(Debug)]
pub struct Outcome {
    /// Its number in the store.
    pub run: RunId,
    /// What was done.
    pub sums: RunSums,
    /// Images that fail, of those that were listed.
    pub failing: u64,
    /// Images of which something was not looked at.
    pub incomplete: u64,
    /// What is new since the last sweep of the same target.
    pub news: Vec<News>,
    /// What could not be looked at, as far as it is told.
    pub troubles: Vec<Trouble>,
    /// How much that was.
    pub troubles_total: usize,
    /// Why it ended before its end, if it did.
    pub ended_early: Option<&'static str>,
    /// Whether an image that was listed fails, or was not looked at.
    pub verdict: Verdict,
}

/// A sweep while it runs.
struct Running<'r> {
    sweep: &'r Sweep<'r>,
    catalog: &'r dyn Catalog,
    shelf: &'r Shelf<'r>,
    run: RunId,
    /// When its time is up.
    until: Option<Instant>,
    /// Bytes that may be pulled.
    bytes: Option<u64>,
    /// Cancelled when a worker fails, or the sweep is.
    stop: &'r Cancellation,
    /// Cancelled when the sweep is to end early.
    cancellation: &'r Cancellation,
    /// What was met and is known, until that is noted.
    met: Vec<Met>,
    pending: Vec<Pending>,
    /// Layers that were queued in this run: the next image that has them does not queue them again.
    queued: HashSet<Digest>,
    /// Layers that were given up in this run, and why.
    given_up: HashMap<Digest, String>,
    troubles: Vec<Trouble>,
    troubles_total: usize,
    failing: u64,
    incomplete: u64,
}

/// Stops the workers when it is dropped.
struct Stopping<'s>(&'s Cancellation);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// What a thread found out of an entry.
type Answer = (Result<Entry, CatalogError>, Result<Resolved, StoreError>);

/// The next entry, by whichever thread.
fn next_of(listed: &Mutex<mpsc::Receiver<Result<Entry, CatalogError>>>) -> Option<Result<Entry, CatalogError>> {
    listed.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// An image that waits for its layers.
struct Pending {
    image: Image,
    /// The layers that it waits for.
    missing: Vec<Digest>,
}

impl Sweep<'_> {
    /// Sweeps what `catalog` lists and `filter` admits. `target` is what the sweep is called: what is new is new since
    /// the last one of that name.
    ///
    /// # Errors
    /// When the store fails. What of the catalog cannot be looked at is told at the end.
    pub fn run(
        &self,
        target: &str,
        catalog: &dyn Catalog,
        filter: &Filter,
        extent: &Extent,
    ) -> Result<Outcome, SweepError> {
        let started = (self.clock)();
        let shelf = Shelf::new(self.store, self.scanner, self.clock);
        let run = self.store.start_run(target, shelf.key(), started)?;
        let worker = Worker {
            scanner: self.scanner,
            store: self.store,
            shelf: &shelf,
            registries: self.registries,
            clock: self.clock,
            progress: self.progress,
            lease: extent.lease,
            patience: extent.patience,
            layer_timeout: extent.layer_timeout,
            cancellation: extent.cancellation.clone(),
            claims: Claims::default(),
        };
        let stop = extent.cancellation.child();
        let mut running = Running {
            sweep: self,
            catalog,
            shelf: &shelf,
            run,
            until: extent.time.map(|time| Instant::now() + time),
            bytes: extent.bytes,
            stop: &stop,
            cancellation: &extent.cancellation,
            met: Vec::new(),
            pending: Vec::new(),
            queued: HashSet::new(),
            given_up: HashMap::new(),
            troubles: Vec::new(),
            troubles_total: 0,
            failing: 0,
            incomplete: 0,
        };
        let (ended_early, worked) = thread::scope(|scope| {
            let workers = scope.spawn(|| worker.run(extent.threads, &stop));
            // Dropped also where planning panics: nobody may wait for ever.
            let stopping = Stopping(&stop);
            let ended_early = running.plan_all(filter);
            drop(stopping);
            (ended_early, workers.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        worked?;
        let mut ended_early = ended_early?;
        // A registry shows nothing to whoever may not see it: that is no reason to say that all is well.
        if ended_early.is_none() && self.progress.counted().images == 0 {
            ended_early = Some("there was no image to look at");
        }
        if extent.is_whole && ended_early.is_none() && running.troubles_total == 0 {
            for host in catalog.hosts() {
                self.store.mark_gone(host.name(), None, None, started, (self.clock)())?;
            }
        }
        if self.progress.counted().layers_queued > 0 {
            // It only makes traces quicker; another sweep may be at it.
            let _ = self.store.tidy();
        }
        running.outcome(ended_early)
    }

    /// Whether the policy allows something that fails otherwise.
    fn has_exceptions(&self) -> bool {
        !self.policy.allow.is_empty() || self.policy.baseline.is_some()
    }

    /// Whether an image fails, as far as the number of its findings tells.
    fn fails(&self, summary: &Summary) -> bool {
        use layersift_model::Severity::{Critical, High, Info, Low, Medium};
        let counts = [
            (Critical, summary.critical),
            (High, summary.high),
            (Medium, summary.medium),
            (Low, summary.low),
            (Info, summary.info),
        ];
        let worst = counts.iter().filter(|(_, count)| *count > 0).map(|(severity, _)| *severity).max();
        self.policy.fail_on.is_some_and(|limit| worst >= Some(limit))
    }
}

impl Running<'_> {
    /// Plans everything and joins what is complete. Says why it ended early, if it did.
    ///
    /// One thread lists, some find out what is listed, and this one takes the answers: registries are slow to answer.
    fn plan_all(&mut self, filter: &Filter) -> Result<Option<&'static str>, SweepError> {
        let catalog = self.catalog;
        let resolver = Resolver { sweep: self.sweep, catalog, key: self.shelf.key() };
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
            drop(answers);
            self.note_met().and(outcome)
        })?;
        if ended_early.is_some() { Ok(ended_early) } else { self.wait_while(1) }
    }

    /// Takes what the threads found out. Says why it did not take everything, if it did not.
    fn take_all(&mut self, answers: &mpsc::Receiver<Answer>) -> Result<Option<&'static str>, SweepError> {
        let mut joined = Instant::now();
        while let Ok((entry, resolved)) = answers.recv() {
            match entry {
                Ok(entry) => self.settle(&entry, resolved?)?,
                Err(_) => {
                    if let Resolved::Trouble(trouble) = resolved? {
                        self.trouble(trouble);
                    }
                }
            }
            if joined.elapsed() >= TICK {
                self.note_met()?;
                self.join_complete()?;
                joined = Instant::now();
            }
            self.wait_while(MOST_PENDING)?;
            if let Some(reason) = self.reason_to_end() {
                return Ok(Some(reason));
            }
        }
        Ok(None)
    }

    /// Waits as long as `most` images or more are pending.
    fn wait_while(&mut self, most: usize) -> Result<Option<&'static str>, SweepError> {
        while self.pending.len() >= most {
            if let Some(reason) = self.reason_to_end() {
                return Ok(Some(reason));
            }
            thread::sleep(TICK);
            self.join_complete()?;
        }
        Ok(None)
    }

    fn reason_to_end(&self) -> Option<&'static str> {
        if self.cancellation.is_cancelled() {
            Some("it was terminated")
        } else if self.stop.is_cancelled() {
            Some("a worker failed")
        } else if self.until.is_some_and(|until| Instant::now() >= until) {
            Some("its time is up")
        } else if self.bytes.is_some_and(|bytes| self.sweep.registries.bytes() >= bytes) {
            Some("it has pulled as many bytes as it may")
        } else {
            None
        }
    }

    /// Joins the images whose layers are all read, or were given up.
    fn join_complete(&mut self) -> Result<(), SweepError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut wanted: Vec<Digest> = self.pending.iter().flat_map(|image| image.missing.iter().cloned()).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let there = self.sweep.store.has_reports(&wanted, self.shelf.key())?;
        self.given_up.extend(self.sweep.store.given_up(&wanted, self.shelf.key())?);
        let is_settled = |layer: &Digest| there.contains(layer) || self.given_up.contains_key(layer);
        let (complete, pending): (Vec<Pending>, Vec<Pending>) =
            self.pending.drain(..).partition(|image| image.missing.iter().all(is_settled));
        self.pending = pending;
        complete.into_iter().try_for_each(|image| self.join(&image.image))
    }

    /// Joins an image and stores what it came to.
    fn join(&mut self, image: &Image) -> Result<(), SweepError> {
        let mut layers: Vec<Result<Arc<LayerReport>, Gap>> = Vec::with_capacity(image.layers.len());
        for layer in &image.layers {
            let report = match &layer.digest {
                Some(digest) => self.shelf.take(digest)?,
                None => None,
            };
            let why = layer.digest.as_ref().and_then(|digest| self.given_up.get(digest));
            layers.push(report.ok_or_else(|| unread(layer, why)));
        }
        let mut report = self.sweep.scanner.image(image, layers);
        report.target = image.reference.clone().unwrap_or_default();
        self.shelf.put_image(&report, Some(self.run))?;
        self.sweep.policy.judge(&mut report);
        let (image, verdict) = (&report.target, report.verdict().name());
        tracing::info!(image, verdict, findings = report.findings.len(), gaps = report.gaps.len(), "image scanned");
        self.count(report.verdict() == Verdict::Fail, !report.gaps.is_empty());
        self.sweep.progress.image_done();
        Ok(())
    }

    fn count(&mut self, is_failing: bool, has_gaps: bool) {
        self.failing += u64::from(is_failing);
        self.incomplete += u64::from(has_gaps);
    }

    /// What an image that is known already comes to.
    fn count_known(&mut self, summary: &Summary) {
        self.count(self.sweep.fails(summary), summary.gaps > 0);
    }

    fn trouble(&mut self, trouble: Trouble) {
        tracing::info!(reason = %trouble, "not scanned");
        self.troubles_total += 1;
        if self.troubles.len() < MOST_TROUBLES {
            self.troubles.push(trouble);
        }
    }

    fn outcome(self, ended_early: Option<&'static str>) -> Result<Outcome, SweepError> {
        let Sweep { store, progress, registries, clock, .. } = self.sweep;
        let counted = progress.counted();
        let sums = RunSums {
            images: counted.images,
            layers_read: counted.layers_read,
            layers_known: counted.layers_known,
            bytes_pulled: registries.bytes(),
            bytes_saved: counted.bytes_saved,
        };
        let status = if ended_early.is_none() { Status::Done } else { Status::Failed };
        store.update_run(self.run, &sums, status, clock())?;
        let news = store.news(self.run, Scope::Target, MOST_NEWS)?;
        let is_incomplete = self.incomplete > 0 || self.troubles_total > 0 || ended_early.is_some();
        let verdict = match (self.failing, is_incomplete) {
            (1.., _) => Verdict::Fail,
            (0, true) => Verdict::Incomplete,
            (0, false) => Verdict::Pass,
        };
        Ok(Outcome {
            run: self.run,
            sums,
            failing: self.failing,
            incomplete: self.incomplete,
            news,
            troubles: self.troubles,
            troubles_total: self.troubles_total,
            ended_early,
            verdict,
        })
    }
}

/// The gap that a layer without a report is, and why it has none, as far as that is known.
fn unread(layer: &LayerSource, why: Option<&String>) -> Gap {
    let gap = match (layer.urls.is_empty(), why) {
        (false, _) => {
            let detail = "the layer is held elsewhere, and only its address is in the image";
            Gap::new(GapReason::ForeignLayer, detail)
        }
        (true, None) => Gap::new(GapReason::MissingBlob, "what was stored of the layer cannot be read any more"),
        (true, Some(why)) => {
            Gap::new(GapReason::MissingBlob, format!("the layer could not be read, after several attempts: {why}"))
        }
    };
    let gap = layer.location.as_ref().map_or(gap.clone(), |location| gap.at(&location.0));
    layer.size.map_or(gap.clone(), |size| gap.sized(size))
}
