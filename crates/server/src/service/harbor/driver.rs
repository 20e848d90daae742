//! Tasks are driven on, a step at a time, by whichever process claims them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use layersift_audit::{Entry, Kind};
use layersift_store::{ClaimedHarborTask, Seconds, StoreError};

use super::second::SecondScanner;
use super::steps::{Judged, Step, Steps};
use crate::http::metrics::label;
use crate::service::audit::entry;

/// Steps at a time. They wait for a second scanner, and write reports of megabytes.
const STEPS: usize = 4;

/// How long to wait where there is nothing to do, or the store is out of reach.
const IDLE: Duration = Duration::from_millis(200);
const OUTAGE: Duration = Duration::from_secs(1);

/// Seconds until a report is made again that could not be entered in the log of decisions.
const UNLOGGED: Seconds = 5;

/// How often a second scanner is asked what it is.
const METADATA: Duration = Duration::from_secs(20);

/// Drives tasks on.
pub(crate) struct Driver<'d> {
    pub(crate) steps: Steps<'d>,
    /// Held by the thread that looks for something to do: one is enough.
    looking: Mutex<()>,
}

impl<'d> Driver<'d> {
    pub(crate) fn new(steps: Steps<'d>) -> Driver<'d> {
        Driver { steps, looking: Mutex::default() }
    }

    /// Works until the service ends.
    pub(crate) fn run(&self) {
        thread::scope(|scope| {
            if let Some(second) = &self.steps.adapter.second {
                scope.spawn(|| self.keep_metadata(second));
            }
            for _ in 0..STEPS {
                scope.spawn(|| self.take_steps());
            }
        });
    }

    fn take_steps(&self) {
        while let Some(task) = self.next() {
            if let Err(error) = self.settle(&task) {
                tracing::error!(%error, "cannot go on with a scan for Harbor");
                self.steps.service.ending.wait(OUTAGE);
            }
        }
    }

    /// The next task that has something to do; `None` when the service ends.
    fn next(&self) -> Option<ClaimedHarborTask> {
        let ending = &self.steps.service.ending;
        let _looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        while !ending.is_cancelled() {
            match self.steps.store.harbor_tasks().claim((self.steps.service.clock)()) {
                Ok(Some(task)) => return Some(task),
                Ok(None) => drop(ending.wait(IDLE)),
                Err(error) => {
                    tracing::error!(%error, "cannot look for scans for Harbor");
                    ending.wait(OUTAGE);
                }
            }
        }
        None
    }

    /// Takes one step, and records how it ended. A step that panics is one that was never given back.
    fn settle(&self, task: &ClaimedHarborTask) -> Result<(), StoreError> {
        let Ok(step) = catch_unwind(AssertUnwindSafe(|| self.steps.take(task))) else {
            tracing::error!(image = task.reference, "a step of a scan for Harbor failed");
            return Ok(());
        };
        let (service, tasks) = (self.steps.service, self.steps.store.harbor_tasks());
        let now = (service.clock)();
        let count = |result: &str| service.metrics.harbor_scans.get_or_create(&label("result", result)).inc();
        match step? {
            Step::Wait { phase, progress, not_before } => {
                tasks.wait(task, phase, Some(&progress.write()), not_before)?;
            }
            Step::Report(report, judged) => {
                if !judged.is_none_or(|judged| self.enter(task, judged)) {
                    // No entry, no report.
                    tasks.wait(task, task.phase, task.progress.as_deref(), now.saturating_add(UNLOGGED))?;
                } else if tasks.finish(task, &report, now)? {
                    count("report");
                    tracing::info!(image = task.reference, bytes = report.len(), "scan for Harbor ended");
                }
            }
            Step::Failed(error) => {
                if tasks.fail(task, &error, now)? {
                    count("error");
                    tracing::warn!(image = task.reference, "scan for Harbor failed: {error}");
                }
            }
        }
        Ok(())
    }

    /// Enters what is reported in the log of decisions; whether it is there.
    fn enter(&self, task: &ClaimedHarborTask, judged: Judged) -> bool {
        let Judged { verdict, ruleset, policy } = judged;
        let what = [("image", &task.reference[..]), ("task", &task.id)];
        let entry = Entry { policy, ruleset, verdict, ..entry(Kind::Harbor, "harbor", &what) };
        let entered = self.steps.service.audit.record_blocking(vec![entry]);
        entered.inspect_err(|error| tracing::error!(%error, "cannot enter a report for Harbor in the log")).is_ok()
    }

    fn keep_metadata(&self, second: &SecondScanner) {
        let mut is_out = false;
        loop {
            match second.ask_metadata(&|text| self.steps.analyzer.mask_name(text)) {
                Ok(()) => is_out = false,
                Err(none) if !is_out => {
                    is_out = true;
                    tracing::warn!("the second scanner does not say what it is: {}", none.text);
                }
                Err(_) => {}
            }
            if self.steps.service.ending.wait(METADATA) {
                return;
            }
        }
    }
}
