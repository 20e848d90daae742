//! Workers: they claim layers in the store's queue, read them and store their reports.
//!
//! Any number of them, in this process and on other machines, share a queue. A claim holds for a time and is renewed
//! while the layer is read; when a worker dies its claims run out, and another worker takes the layers over. A worker
//! that is asked to end gives its layers back at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{LayerCache, Progress, Registries, SweepError};
use layersift_format::{Blob, Cancellation};
use layersift_model::{Digest, LayerReport};
use layersift_scan::{Analyzer, Observer};
use layersift_source::catalog::CatalogError;
use layersift_source::registry::{Host, Reference, Registry, RegistryError};
use layersift_store::{Lease, Seconds, Store, Task};

/// How often a claim is renewed while it holds.
const RENEWALS: u32 = 4;

/// Seconds that a registry may be out of reach before that costs its layers attempts: a restart takes minutes.
const OUTAGE: Seconds = 600;

/// How often the queue is looked at while there is nothing to do.
const TICK: Duration = Duration::from_millis(100);

/// What workers work with.
pub struct Worker<'w> {
    /// Reads layers.
    pub scanner: &'w Analyzer,
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
    pub retry_delay: Seconds,
    /// The time for one layer, with all requests and retries; no limit for `None`.
    pub layer_timeout: Option<Duration>,
    /// Abandons the layers in progress: they go back to the queue.
    pub cancellation: Cancellation,
    /// What it has claimed: nothing, at first.
    pub claims: Claims,
}

/// Jobs that are being worked on.
pub struct Claims {
    /// The name of this process in the queue.
    owner: String,
    held: Mutex<Vec<Lease>>,
}

impl Default for Claims {
    fn default() -> Claims {
        Claims { owner: owner(), held: Mutex::default() }
    }
}

/// Renews a claim until it is dropped.
struct Hold<'c>(&'c Claims, Lease);

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.held().retain(|lease| *lease != self.1);
    }
}

/// Ends all threads if one panics. The others would wait for the layer that it had claimed.
struct CancelOnPanic<'s>(&'s Cancellation);

impl Drop for CancelOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.cancel();
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
    /// Whether a registry that may have the layer is out of reach, and only since recently.
    is_outage: bool,
    /// That a registry does not accept the login: other layers of it cannot be read either.
    refused_login: Option<Box<CatalogError>>,
}

impl From<String> for Unread {
    fn from(reason: String) -> Unread {
        Unread { reason, is_outage: false, refused_login: None }
    }
}

/// The result of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A layer was read, or tried.
    Worked,
    /// There was nothing to claim.
    Idle,
}

impl Worker<'_> {
    /// Reads layers with `threads` threads until `stop` is cancelled, and then only finishes those in progress. Layers
    /// in progress are abandoned when [`Worker::cancellation`] is cancelled, which may be the same token. A thread that
    /// fails cancels `stop`.
    ///
    /// # Errors
    /// When the store fails, or a registry does not accept the login.
    pub fn run(&self, threads: usize, stop: &Cancellation) -> Result<(), SweepError> {
        let ended = self.cancellation.child();
        thread::scope(|scope| {
            let renewing = scope.spawn(|| self.renew_until(&ended));
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(|| self.work_until(stop))).collect();
            let results: Vec<_> = threads.into_iter().map(thread::ScopedJoinHandle::join).collect();
            ended.cancel();
            let _ = renewing.join();
            results.into_iter().try_for_each(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }

    fn work_until(&self, stop: &Cancellation) -> Result<(), SweepError> {
        let _cancel = CancelOnPanic(stop);
        while !stop.is_cancelled() && !self.cancellation.is_cancelled() {
            let step = self.step().inspect_err(|_| stop.cancel())?;
            if step == Step::Idle {
                stop.wait(TICK);
            }
        }
        Ok(())
    }

    /// Claims a layer and reads it, if there is one.
    ///
    /// # Errors
    /// When the store fails, or a registry does not accept the login: the layer then goes back to the queue. A layer
    /// that cannot be read is not an error: the queue keeps the reason.
    pub fn step(&self) -> Result<Step, SweepError> {
        let (owner, lease) = (&self.claims.owner, whole(self.lease));
        let claimed = self.store.queue().claim(owner, self.cache.key(), 1, lease, (self.clock)())?;
        let Some(task) = claimed.into_iter().next() else { return Ok(Step::Idle) };
        let _held = self.claims.hold(&task.lease);
        self.settle(&task).map(|()| Step::Worked)
    }

    fn settle(&self, task: &Task) -> Result<(), SweepError> {
        let (lease, started) = (&task.lease, Instant::now());
        let layer = tracing::field::display(&lease.layer);
        tracing::info!(layer, bytes = task.size, attempt = lease.attempt, "reading layer");
        match self.read(task) {
            Ok(report) => {
                let record = self.cache.record(&lease.layer, &report)?;
                if self.store.queue().finish(lease, &record)? {
                    self.progress.layer_read(report.blob_bytes);
                    let (findings, gaps) = (report.findings.len(), report.gaps.len());
                    let seconds = started.elapsed().as_secs_f64();
                    tracing::info!(layer, bytes = report.blob_bytes, findings, gaps, seconds, "layer read");
                } else {
                    tracing::warn!(layer, "lease lost: another worker has the layer, and this result is not kept");
                }
            }
            Err(_) if self.cancellation.is_cancelled() => {
                self.store.queue().release(lease, 0, (self.clock)())?;
                tracing::info!(layer, "layer given back");
            }
            Err(Unread { refused_login: Some(error), .. }) => {
                self.store.queue().release(lease, self.retry_delay, (self.clock)())?;
                return Err(SweepError::Login(*error));
            }
            Err(unread) if unread.is_outage => {
                self.store.queue().release(lease, self.retry_delay, (self.clock)())?;
                tracing::warn!(layer, reason = unread.reason, "registry out of reach: layer given back");
            }
            Err(unread) => {
                let attempt = i64::try_from(lease.attempt).unwrap_or(i64::MAX);
                let delay = self.retry_delay.saturating_mul(attempt);
                self.store.queue().fail(lease, &unread.reason, delay, (self.clock)())?;
                self.progress.layer_failed();
                tracing::warn!(layer, attempt, reason = unread.reason, "layer not read");
            }
        }
        Ok(())
    }

    /// Reads the layer from the first of its sources that has it.
    fn read(&self, task: &Task) -> Result<LayerReport, Unread> {
        let layer = &task.lease.layer;
        // A size of zero is one that nobody claimed.
        let most = if task.size > 0 { task.size } else { u64::MAX };
        let cancellation = self
            .layer_timeout
            .map_or_else(|| self.cancellation.child(), |time| self.cancellation.child_with_deadline(time));
        let mut unread = Unread::from("no registry is known to have it".to_string());
        for source in &task.sources {
            if let Some(reason) = cancellation.reason() {
                unread.reason = format!("{source}: {reason}");
                break;
            }
            let stream = match self.open(source, layer, most, &cancellation) {
                Ok(stream) => stream,
                Err(error) => {
                    let refused_login = error.refused_login.or(unread.refused_login);
                    unread = Unread { is_outage: unread.is_outage || error.is_outage, refused_login, ..error };
                    continue;
                }
            };
            let report = self.scanner.layer(stream, layer.algorithm(), &cancellation, self.progress);
            if report.blob == *layer && report.is_repeatable() {
                return Ok(report);
            }
            let why = report.gaps.first().map_or_else(|| "the bytes differ".into(), |gap| gap.detail.clone());
            unread.reason = match cancellation.reason() {
                Some(reason) => format!("{source}: {reason}: {why}"),
                None => format!("{source}: the blob has the digest {}: {why}", report.blob),
            };
        }
        Err(unread)
    }

    /// Opens the blob of a layer. No more of it is read than the largest size that a manifest claims, and a byte.
    fn open(
        &self,
        source: &str,
        layer: &Digest,
        most: u64,
        cancellation: &Cancellation,
    ) -> Result<Blob<'static>, Unread> {
        let reference: Reference = format!("{source}@{layer}").parse().map_err(|error| format!("{source}: {error}"))?;
        let host = &reference.host;
        let mut used = None;
        let stream = self.registries.with_repository(host, &reference.repository, |client| {
            used = Some(client.clone());
            // Sizes are what manifests claim: the blob may be smaller, and the digest decides.
            let registry = client.registry.with_cancellation(cancellation.clone());
            registry.blob(&reference.repository, layer, None).map(|stream| stream.at_most(most))
        });
        if let (Err(error), Some(_)) = (&stream, cancellation.reason()) {
            // That says nothing about the registry.
            return Err(Unread::from(error.to_string()));
        }
        let is_outage = self.is_short_outage(host, stream.as_ref().err());
        let stream = stream.map_err(|error| {
            // A queue may name anyone's registries: only the login that was given for one ends the worker.
            let own = used.filter(|client| self.registries.is_trusted(host) && !client.is_lent);
            let refused_login = own.and_then(|client| refused_login(&client.registry, &error));
            Unread { reason: error.to_string(), is_outage, refused_login }
        })?;
        Ok(Blob::Stream(Box::new(stream)))
    }

    /// Whether `error` says that the registry `host` is out of reach, and it is so only since recently.
    fn is_short_outage(&self, host: &Host, error: Option<&RegistryError>) -> bool {
        if !error.is_some_and(RegistryError::is_temporary) {
            self.registries.answered(host);
            return false;
        }
        let now = (self.clock)();
        now.saturating_sub(self.registries.out_since(host, now)) < OUTAGE
    }

    /// Renews the claims until all threads have ended. Gives them back when the worker is cancelled, without waiting
    /// for threads that wait for a registry.
    fn renew_until(&self, ended: &Cancellation) {
        let pause = Duration::from_secs(u64::try_from(self.lease).unwrap_or_default()) / RENEWALS;
        let mut missed = Vec::new();
        while !ended.wait(pause) {
            let leases = self.claims.held().clone();
            // A store that is out of reach now may be back before the leases run out.
            match self.store.queue().renew(&leases, whole(self.lease), (self.clock)()) {
                Ok(renewed) => missed = self.warn_of_lost(leases, &renewed, &missed),
                Err(error) => tracing::warn!(error = %error, "leases not renewed"),
            }
        }
        for lease in self.claims.held().clone() {
            match self.store.queue().release(&lease, 0, (self.clock)()) {
                Ok(_) => tracing::debug!(layer = %lease.layer, "lease given back"),
                Err(error) => tracing::warn!(layer = %lease.layer, error = %error, "lease not given back"),
            }
        }
    }

    /// Warns of leases that were not renewed twice, and returns those that were not renewed now: a layer that is just
    /// being finished is not lost.
    fn warn_of_lost(&self, mut leases: Vec<Lease>, renewed: &[Lease], missed: &[Lease]) -> Vec<Lease> {
        let held = self.claims.held().clone();
        leases.retain(|lease| !renewed.contains(lease) && held.contains(lease));
        for lost in leases.iter().filter(|lease| missed.contains(lease)) {
            tracing::warn!(layer = %lost.layer, "lease lost: another worker may read the layer");
        }
        leases
    }
}

/// How long a lease is asked for that is to hold `lease` seconds: the clock has no fractions of them.
pub(super) fn whole(lease: Seconds) -> Seconds {
    lease.saturating_add(1)
}

impl Observer for Progress {
    fn read(&self, bytes: u64) {
        self.bytes_read(bytes);
    }
}

/// That `registry` does not accept the login, if that is why it answered with `error`.
fn refused_login(registry: &Registry, error: &RegistryError) -> Option<Box<CatalogError>> {
    if error.status() != Some(401) {
        return None;
    }
    let error = registry.check_login().err().filter(RegistryError::is_of_login)?;
    Some(Box::new(CatalogError::Login { host: registry.host().clone(), error: Arc::new(error) }))
}

/// The name of this process in the queue, for people: claims have numbers.
fn owner() -> String {
    let named = std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty());
    let system = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = named.or_else(system).unwrap_or_else(|| "worker".into());
    format!("{}-{}", host.trim(), std::process::id())
}
