//! The log of decisions: what was decided is in it before the answer is sent. What cannot be entered is not answered as
//! it was decided, but refused: with a log, nothing is let in without an entry.
//!
//! ```text
//! opening    the log and its copies, from the settings
//! admission  what was decided about images, as entries
//! copies     closed segments go to the store and to a bucket, old ones go
//! ```
//!
//! Writing to disk blocks. One thread writes whatever waits in one go, so that many requests share one write.

pub(crate) mod admission;
mod copies;
mod opening;

use std::sync::Arc;
use std::sync::mpsc::{Receiver as Done, RecvTimeoutError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use layersift_audit::{AuditLog, Entry, Verdict};
use layersift_format::Cancellation;
use layersift_scan::Analyzer;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use copies::Copies;

use crate::http::metrics::audit::AuditMetrics;

pub(crate) use layersift_audit::Kind;
pub use opening::AuditSetupError;
pub(crate) use opening::{Opening, check};

/// Batches that wait for their turn.
const WAITING: usize = 256;

/// Entries that are written together: no more batches are taken than it needs to reach this.
const TOGETHER: usize = 1_024;

/// Bytes of the shortest text that is searched for secrets.
const SHORTEST: usize = 8;

/// How long the end of the service waits for the last copies.
const LAST_COPIES: Duration = Duration::from_secs(10);

/// Why decisions are not in the log, in words for whoever asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotEntered {
    /// The log could not be written. Its own log says why.
    #[error("the decision cannot be entered in the audit log, so nothing is let in")]
    Failed,
    /// It was not written in time.
    #[error("the decision was not entered in the audit log in time, so nothing is let in")]
    Late,
    /// The service ends.
    #[error("the audit log is closed, so nothing is let in")]
    Closed,
}

/// Takes decisions into the log, if there is one.
pub(crate) struct Audit {
    batches: Option<mpsc::Sender<Message>>,
}

/// What the writing thread is told.
enum Message {
    Enter(Batch),
    End,
}

/// Entries of one answer.
struct Batch {
    entries: Vec<Entry>,
    done: oneshot::Sender<Result<(), NotEntered>>,
}

/// What writes the log, and makes its copies.
pub(crate) struct Keeper {
    log: Arc<AuditLog>,
    sender: mpsc::Sender<Message>,
    batches: mpsc::Receiver<Message>,
    metrics: AuditMetrics,
    copies: Copies,
    /// Masks what a client put into names.
    analyzer: Arc<Analyzer>,
}

impl Audit {
    /// Whether there is a log.
    pub(crate) fn is_kept(&self) -> bool {
        self.batches.is_some()
    }

    /// Enters what was decided, and returns once it is on disk: all of it, or after an error none. Without a log, at
    /// once.
    ///
    /// # Errors
    /// If the log cannot be written, or not until then. What was decided must not be answered then.
    pub(crate) async fn record(&self, entries: Vec<Entry>, until: Instant) -> Result<(), NotEntered> {
        let Some(batches) = &self.batches else { return Ok(()) };
        let (done, entered) = oneshot::channel();
        let entering = async {
            batches.send(Message::Enter(Batch { entries, done })).await.map_err(|_| NotEntered::Closed)?;
            entered.await.map_err(|_| NotEntered::Closed)?
        };
        tokio::time::timeout_at(until, entering).await.unwrap_or(Err(NotEntered::Late))
    }

    /// The same on a thread that may block, for as long as it takes.
    ///
    /// # Errors
    /// If the log cannot be written. What was decided must not be answered then.
    pub(crate) fn record_blocking(&self, entries: Vec<Entry>) -> Result<(), NotEntered> {
        let Some(batches) = &self.batches else { return Ok(()) };
        let (done, entered) = oneshot::channel();
        let message = Message::Enter(Batch { entries, done });
        batches.blocking_send(message).map_err(|_| NotEntered::Closed)?;
        entered.blocking_recv().map_err(|_| NotEntered::Closed)?
    }
}

/// An entry of now: who asked, and about what, without what is empty. The caller adds the policy, the rule set and the
/// verdict. Secrets in it are masked when it is written.
pub(crate) fn entry(kind: Kind, who: &str, what: &[(&str, &str)]) -> Entry {
    let what = what.iter().filter(|(_, value)| !value.is_empty());
    Entry {
        time: now(),
        kind,
        who: who.into(),
        what: what.map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        policy: String::new(),
        ruleset: String::new(),
        verdict: Verdict::default(),
        cut: false,
    }
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Keeper {
    /// Writes the log while `work` runs, then closes it and makes the last copies.
    pub(crate) fn run(keeper: Option<Keeper>, work: impl FnOnce()) {
        let Some(Keeper { log, sender, batches, metrics, copies, analyzer }) = keeper else { return work() };
        let (ended, is_copied) = (Cancellation::new(), copies.are_made());
        let copied = copies.start(Arc::clone(&log), ended.clone());
        thread::scope(|scope| {
            scope.spawn(|| write((&log, &analyzer), batches, &metrics));
            let _end = End(sender);
            work();
        });
        // What is copied last is what was closed before the last checkpoint.
        let closed = if is_copied { log.close_segment() } else { Ok(()) };
        if let Err(error) = closed.and(log.finish()) {
            tracing::error!(error = %Chain(&error), "the audit log was not closed");
        }
        ended.cancel();
        wait_for(copied);
    }
}

/// Ends the writing thread, whatever happens before.
struct End(mpsc::Sender<Message>);

impl Drop for End {
    fn drop(&mut self) {
        // Without a receiver, it has ended already.
        let _ = self.0.blocking_send(Message::End);
    }
}

/// Copies are made until they are complete, or for as long as an end may take.
fn wait_for(copied: Option<Done<()>>) {
    let late = copied.map(|copied| copied.recv_timeout(LAST_COPIES));
    if late == Some(Err(RecvTimeoutError::Timeout)) {
        tracing::warn!("the last copies of the audit log were not made in time: the next start makes them");
    }
}

/// Writes what is handed in, as much as waits at a time, until the end.
fn write((log, analyzer): (&AuditLog, &Analyzer), mut batches: mpsc::Receiver<Message>, metrics: &AuditMetrics) {
    let mut is_ended = false;
    while !is_ended {
        let Some(first) = batches.blocking_recv() else { break };
        let (mut entries, mut waiting) = (Vec::new(), Vec::new());
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                // Nobody waits for it any more, and nothing was answered.
                Message::Enter(batch) if batch.done.is_closed() => {}
                Message::Enter(mut batch) => {
                    entries.append(&mut batch.entries);
                    waiting.push(batch.done);
                }
                Message::End => is_ended = true,
            }
            next = if entries.len() < TOGETHER { batches.try_recv().ok() } else { None };
        }
        entries.iter_mut().for_each(|entry| mask(entry, analyzer));
        let outcome = enter(log, &entries, metrics);
        for done in waiting {
            // Whoever has left meanwhile was answered nothing.
            let _ = done.send(outcome);
        }
    }
}

/// Masks secrets in an entry: names of images and of what runs them are whatever a client makes of them.
fn mask(entry: &mut Entry, analyzer: &Analyzer) {
    entry.change_texts(|text| if text.len() < SHORTEST { text.into() } else { analyzer.mask_name(text) });
}

fn enter(log: &AuditLog, entries: &[Entry], metrics: &AuditMetrics) -> Result<(), NotEntered> {
    let count = entries.len() as u64;
    match log.append_all(entries) {
        Ok(_) => {
            metrics.entries.inc_by(count);
            Ok(())
        }
        Err(error) => {
            metrics.failures.inc_by(count);
            tracing::error!(error = %Chain(&error), entries = count, "decisions cannot be logged: all is denied");
            Err(NotEntered::Failed)
        }
    }
}

/// An error with what it comes from.
struct Chain<'e>(&'e dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
