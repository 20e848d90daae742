//! Workers: they claim layers in the store's queue, read them and store their reports.
//!
//! Any number of them, in this process and on other machines, share a queue. A claim holds for a time and is renewed
//! while the layer is read; a worker that dies lets it run out, and another one takes the layer over.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::{LayerCache, Progress, Registries, Stop};
use layersift_format::Blob;
use layersift_model::{Digest, LayerReport};
use layersift_scan::{Observer, Scanner};
use layersift_source::registry::{Host, Reference, RegistryError};
use layersift_store::{Lease, Seconds, Store, StoreError, Task};

/// How often a claim is renewed while it holds.
const RENEWALS: u32 = 4;

/// How long a registry may be out of reach, in seconds, before that costs its layers attempts: a restart takes minutes.
const OUTAGE: Seconds = 600;

/// How often the queue is looked at while there is nothing to do.
const TICK: Duration = Duration::from_millis(100);

/// What workers work with.
pub struct Worker<'w> {
    /// Reads layers.
    pub scanner: &'w Scanner,
    /// Has the queue.
    pub store: &'w Store,
    /// Encodes reports for the store.
    pub cache: &'w LayerCache<'w>,
    /// Where layers come from.
    pub registries: &'w Registries,
    /// Seconds since 1970.
    pub clock: fn() -> Seconds,
    /// Counts what is done.
    pub progress: &'w Progress,
    /// How long a claim holds without being renewed.
    pub lease: Seconds,
    /// How long to wait before a layer that failed is tried again, times the attempts so far.
    pub patience: Seconds,
    /// What it has claimed: nothing, at first.
    pub claims: Claims,
}

/// Jobs that are being worked on.
pub struct Claims {
    /// What this process is called in the queue.
    owner: String,
    held: Mutex<Vec<Lease>>,
}

impl Default for Claims {
    fn default() -> Claims {
        Claims { owner: owner(), held: Mutex::default() }
    }
}

/// A claim that is renewed until this is dropped, however that comes.
struct Hold<'c>(&'c Claims, Lease);

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.held().retain(|lease| *lease != self.1);
    }
}

/// Stops everyone where a thread panics: without it they would wait for what it had begun.
struct Alarm<'s>(&'s Stop);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.set();
        }
    }
}

impl Claims {
    fn hold(&self, lease: &Lease) -> Hold<'_> {
        self.held().push(lease.clone());
        Hold(self, lease.clone())
    }

    fn held(&self) -> MutexGuard<'_, Vec<Lease>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a layer could not be read.
struct Unread {
    reason: String,
    /// Whether a registry that may have it is out of reach, and not for long: the layer is not to blame.
    is_outage: bool,
}

impl From<String> for Unread {
    fn from(reason: String) -> Unread {
        Unread { reason, is_outage: false }
    }
}

/// What became of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A layer was read, or tried.
    Worked,
    /// There was nothing to claim.
    Idle,
}

impl Worker<'_> {
    /// Works with `threads` threads until `stop` is set: whatever is begun then is finished.
    ///
    /// # Errors
    /// When the store fails.
    pub fn run(&self, threads: usize, stop: &Stop) -> Result<(), StoreError> {
        let ended = Stop::default();
        thread::scope(|scope| {
            let renewing = scope.spawn(|| self.renew_until(&ended));
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(|| self.work_until(stop))).collect();
            let results: Vec<_> = threads.into_iter().map(thread::ScopedJoinHandle::join).collect();
            ended.set();
            let _ = renewing.join();
            results.into_iter().try_for_each(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }

    fn work_until(&self, stop: &Stop) -> Result<(), StoreError> {
        let _alarm = Alarm(stop);
        while !stop.is_set() {
            let step = self.step().inspect_err(|_| stop.set())?;
            if step == Step::Idle {
                stop.wait(TICK);
            }
        }
        Ok(())
    }

    /// Claims a layer and reads it, if there is one.
    ///
    /// # Errors
    /// When the store fails. That a layer cannot be read is no error: the queue knows.
    pub fn step(&self) -> Result<Step, StoreError> {
        let claimed = self.store.queue().claim(&self.claims.owner, self.cache.key(), 1, self.lease, (self.clock)())?;
        let Some(task) = claimed.into_iter().next() else { return Ok(Step::Idle) };
        let _held = self.claims.hold(&task.lease);
        self.settle(&task).map(|()| Step::Worked)
    }

    fn settle(&self, task: &Task) -> Result<(), StoreError> {
        match self.read(task) {
            Ok(report) => {
                let record = self.cache.record(&task.lease.layer, &report)?;
                if self.store.queue().finish(&task.lease, &record)? {
                    self.progress.layer_read(report.blob_bytes);
                }
                Ok(())
            }
            Err(unread) if unread.is_outage => {
                self.store.queue().release(&task.lease, (self.clock)().saturating_add(self.patience)).map(drop)
            }
            Err(unread) => {
                let attempt = i64::try_from(task.lease.attempt).unwrap_or(i64::MAX);
                let later = (self.clock)().saturating_add(self.patience.saturating_mul(attempt));
                self.store.queue().fail(&task.lease, &unread.reason, later)?;
                self.progress.layer_failed();
                Ok(())
            }
        }
    }

    /// Reads the layer from the first of its sources that has it.
    fn read(&self, task: &Task) -> Result<LayerReport, Unread> {
        let layer = &task.lease.layer;
        let mut unread = Unread::from("nothing says where it is".to_string());
        for source in &task.sources {
            let stream = match self.open(source, layer) {
                Ok(stream) => stream,
                Err(error) => {
                    unread = Unread { is_outage: unread.is_outage || error.is_outage, ..error };
                    continue;
                }
            };
            let report = self.scanner.scan_blob(stream, layer.algorithm(), self.progress);
            if report.blob == *layer {
                return Ok(report);
            }
            let why = report.gaps.first().map_or_else(|| "its bytes are others".into(), |gap| gap.detail.clone());
            unread.reason = format!("{source}: the blob has the digest {}: {why}", report.blob);
        }
        Err(unread)
    }

    fn open(&self, source: &str, layer: &Digest) -> Result<Blob<'static>, Unread> {
        let reference: Reference = format!("{source}@{layer}").parse().map_err(|error| format!("{source}: {error}"))?;
        let host = &reference.host;
        let registry = self.registries.of(host).map_err(|error| error.to_string())?;
        // The size is what some manifest claims; the digest decides.
        let stream = registry.blob(&reference.repository, layer, None);
        let is_outage = self.is_short_outage(host, stream.as_ref().err());
        let stream = stream.map_err(|error| Unread { reason: error.to_string(), is_outage })?;
        Ok(Blob::Stream(Box::new(stream)))
    }

    /// Whether the registry `host` is out of reach, as what it last failed with tells, and not for long.
    fn is_short_outage(&self, host: &Host, error: Option<&RegistryError>) -> bool {
        if !error.is_some_and(RegistryError::is_outage) {
            self.registries.answered(host);
            return false;
        }
        let now = (self.clock)();
        now.saturating_sub(self.registries.out_since(host, now)) < OUTAGE
    }

    fn renew_until(&self, ended: &Stop) {
        let pause = Duration::from_secs(u64::try_from(self.lease).unwrap_or_default()) / RENEWALS;
        while !ended.wait(pause) {
            let leases = self.claims.held().clone();
            // A store that is out of reach now may be back before the leases run out.
            let _ = self.store.queue().renew(&leases, self.lease, (self.clock)());
        }
    }
}

impl Observer for Progress {
    fn read(&self, bytes: u64) {
        self.bytes_read(bytes);
    }
}

/// What this process is called in the queue: for people, as claims have numbers.
fn owner() -> String {
    let named = std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty());
    let system = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = named.or_else(system).unwrap_or_else(|| "worker".into());
    format!("{}-{}", host.trim(), std::process::id())
}
