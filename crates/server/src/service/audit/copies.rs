//! Copies of the log: closed segments, checkpoints and the key go to the store and to a bucket, again and again until
//! they are there. Then retention removes what is old.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use layersift_audit::{AuditError, AuditLog, Retention, Sink, SinkError};
use layersift_format::Cancellation;
use layersift_store::{Seconds, Store};

use super::{Chain, now};
use crate::http::metrics::audit::AuditMetrics;
use crate::http::metrics::label;

/// How often the metrics are brought up to date.
const TICK: Duration = Duration::from_secs(5);

/// After how long a copy is tried again that failed.
const AGAIN: Duration = Duration::from_secs(30);

/// A log without copies begins a new segment so often, as retention removes whole ones.
const DAY: Duration = Duration::from_secs(86_400);

/// A copy, by the word that the metrics have for it.
pub(super) struct Copy {
    pub(super) to: &'static str,
    pub(super) sink: Box<dyn Sink + Send>,
}

/// What becomes of segments.
pub(super) struct Copies {
    pub(super) copies: Vec<Copy>,
    pub(super) every: Duration,
    pub(super) retention: Option<Duration>,
    pub(super) keep_unshipped: bool,
    pub(super) metrics: AuditMetrics,
}

/// Where it is at.
struct Work {
    settings: Copies,
    log: Arc<AuditLog>,
    /// When a segment was begun last, and when each copy was complete.
    begun: Option<Instant>,
    complete: Vec<Instant>,
}

impl Copies {
    /// Whether there are any.
    pub(super) fn are_made(&self) -> bool {
        !self.copies.is_empty()
    }

    /// Makes copies on a thread of its own until the end, and once after it. `None` where the system has no thread
    /// left, which is logged.
    pub(super) fn start(self, log: Arc<AuditLog>, ended: Cancellation) -> Option<Receiver<()>> {
        let (done, copied) = channel();
        let complete = vec![Instant::now(); self.copies.len()];
        let mut work = Work { settings: self, log, begun: None, complete };
        let started = thread::Builder::new().name("audit-copies".into()).spawn(move || {
            work.run(&ended);
            let _ = done.send(());
        });
        started.inspect_err(|error| tracing::error!(%error, "the audit log is not copied")).ok().map(|_| copied)
    }
}

impl Work {
    fn run(&mut self, ended: &Cancellation) {
        let every = self.settings.every;
        let mut next = Instant::now();
        loop {
            let has_ended = ended.is_cancelled();
            if has_ended || Instant::now() >= next {
                let is_done = self.round();
                next = Instant::now() + if is_done { every } else { every.min(AGAIN) };
            }
            self.measure();
            if has_ended {
                return;
            }
            ended.wait(TICK.min(next.saturating_duration_since(Instant::now())).max(Duration::from_millis(10)));
        }
    }

    /// Copies everything, and removes what is old. Returns whether all of it worked.
    fn round(&mut self) -> bool {
        let closed = self.close_segment();
        let mut is_done = told("closing a segment of", closed);
        for (copy, complete) in self.settings.copies.iter_mut().zip(&mut self.complete) {
            match self.log.ship(&mut *copy.sink) {
                Ok(shipped) => {
                    *complete = Instant::now();
                    if shipped.sent > 0 {
                        tracing::debug!(to = copy.to, objects = shipped.sent, entries = shipped.entries, "log copied");
                    }
                }
                Err(error) => {
                    is_done = false;
                    self.settings.metrics.copy_failures.get_or_create(&label("to", copy.to)).inc();
                    tracing::error!(to = copy.to, error = %Chain(&error), "the audit log cannot be copied");
                }
            }
        }
        told("removing old entries of", self.remove()) && is_done
    }

    /// Only what is closed is copied and removed.
    fn close_segment(&mut self) -> Result<(), AuditError> {
        let Copies { copies, retention, .. } = &self.settings;
        let is_old = self.begun.is_none_or(|begun| begun.elapsed() >= DAY);
        if copies.is_empty() && (retention.is_none() || !is_old) {
            return Ok(());
        }
        self.log.close_segment()?;
        self.begun = Some(Instant::now());
        self.log.checkpoint().map(drop)
    }

    fn remove(&self) -> Result<(), AuditError> {
        let Some(kept) = self.settings.retention else { return Ok(()) };
        let copies = if self.settings.keep_unshipped { &self.settings.copies[..] } else { &[] };
        let shipped_to = copies.iter().map(|copy| copy.sink.place()).collect();
        let (now, kept) = (now(), u64::try_from(kept.as_millis()).unwrap_or(u64::MAX));
        let removed = self.log.prune(&Retention { before: now.saturating_sub(kept), shipped_to, now })?;
        if removed > 0 {
            self.settings.metrics.removed.inc_by(removed);
            tracing::info!(entries = removed, "removed old entries of the audit log");
        }
        Ok(())
    }

    fn measure(&self) {
        let metrics = &self.settings.metrics;
        let failure = self.log.checkpoint_failure();
        if let Some(error) = failure.as_deref().filter(|_| metrics.checkpoint_failed.get() == 0) {
            tracing::error!(error = %Chain(error), "no checkpoint of the audit log can be written");
        }
        metrics.checkpoint_failed.set(i64::from(failure.is_some()));
        for (copy, complete) in self.settings.copies.iter().zip(&self.complete) {
            let shipped = self.log.shipped_to(&copy.sink.place()).unwrap_or(0);
            let left = i64::try_from(self.log.size().saturating_sub(shipped)).unwrap_or(i64::MAX);
            metrics.uncopied.get_or_create(&label("to", copy.to)).set(left);
            let age = i64::try_from(complete.elapsed().as_secs()).unwrap_or(i64::MAX);
            metrics.copied.get_or_create(&label("to", copy.to)).set(age);
        }
    }
}

/// Whether it worked; if not, it is logged.
fn told(what: &str, done: Result<(), AuditError>) -> bool {
    if let Err(error) = &done {
        tracing::error!(error = %Chain(error), "{what} the audit log failed");
    }
    done.is_ok()
}

/// Copies in the store.
pub(super) struct StoreSink {
    pub(super) store: Arc<Store>,
    /// The log that they are of.
    pub(super) instance: String,
    pub(super) clock: fn() -> Seconds,
}

impl StoreSink {
    fn failed(&self) -> impl FnOnce(layersift_store::StoreError) -> SinkError {
        let place = self.place();
        move |error| SinkError::Unreachable { place, source: Box::new(error) }
    }
}

impl Sink for StoreSink {
    fn place(&self) -> String {
        format!("{} of the store {}", self.instance, self.store.name())
    }

    fn has(&mut self, name: &str, bytes: &[u8]) -> Result<bool, SinkError> {
        match self.store.audit_copies().get(&self.instance, name).map_err(self.failed())? {
            Some(found) if found == bytes => Ok(true),
            Some(_) => Err(SinkError::Differs { place: self.place() }),
            None => Ok(false),
        }
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), SinkError> {
        let now = (self.clock)();
        match self.store.audit_copies().add(&self.instance, name, bytes, now).map_err(self.failed())? {
            true => Ok(()),
            false => Err(SinkError::Differs { place: self.place() }),
        }
    }
}
