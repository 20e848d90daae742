//! Tasks are driven on, a step at a time, by whichever process claims them: the image is scanned, or known already, a
//! second scanner is asked, and in the end there is a report or an error.
//!
//! A step begins from what the store has, so that another process goes on where one was killed.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use layersift_model::{ImageReport, LayerKey};
use layersift_store::{
    ClaimedHarborTask, HarborPhase, RequestClass, RequestLimits, RequestState, ScanRequest, Seconds, Store, StoreError,
    Submitted,
};

use super::logins::TaskLogin;
use super::second::{NoReport, Polled, SecondScanner, SecondTask};
use super::tasks::{TaskRequest, out_of_time};
use super::{Adapter, VERSION};
use crate::harbor::merge::{Missing, Second, merge};
use crate::harbor::report::report;
use crate::harbor::scan_request::Wanted;
use crate::http::metrics::label;
use crate::service::Service;
use crate::service::lookup::{Known, Older, look_up};

/// Steps at a time. They wait for a second scanner, and write reports of megabytes.
const STEPS: usize = 4;

/// How long to wait where there is nothing to do, or the store is out of reach.
const IDLE: Duration = Duration::from_millis(200);
const OUTAGE: Duration = Duration::from_secs(1);

/// How often a second scanner is asked what it is.
const METADATA: Duration = Duration::from_secs(20);

/// Seconds for which a second scanner that cannot be reached is asked again: to hand a scan in, and about one that it
/// has taken.
const BEGIN_PATIENCE: Seconds = 10;
const POLL_PATIENCE: Seconds = 60;

/// Seconds until a second scanner that cannot be reached is asked again, and until a full queue is tried again.
const PAUSE: Seconds = 2;
const FULL_PAUSE: Seconds = 5;

/// Drives tasks on.
pub(crate) struct Driver<'d> {
    pub(crate) service: &'d Arc<Service>,
    pub(crate) adapter: &'d Adapter,
    /// With patience: a server that restarts is waited for.
    pub(crate) store: &'d Store,
}

/// What is known about the image of a task.
enum Own {
    /// It waits, or is being scanned.
    Pending,
    /// The queue is full.
    Full,
    Failed(String),
    Reports(Vec<ImageReport>),
}

/// How a step ended.
enum Step {
    /// It goes on, when something has changed or the time has come.
    Wait(HarborPhase, Seconds),
    Report(Vec<u8>),
    Failed(String),
}

impl Driver<'_> {
    /// Works until the service ends.
    pub(crate) fn run(&self) {
        thread::scope(|scope| {
            if let Some(second) = &self.adapter.second {
                scope.spawn(|| self.keep_metadata(second));
            }
            for _ in 0..STEPS {
                scope.spawn(|| self.take_steps());
            }
        });
    }

    fn take_steps(&self) {
        let ending = &self.service.ending;
        while !ending.is_cancelled() {
            let worked = self.store.harbor_tasks().claim((self.service.clock)()).and_then(|claimed| match claimed {
                Some(task) => self.settle(&task).map(|()| true),
                None => Ok(false),
            });
            match worked {
                Ok(true) => {}
                Ok(false) => drop(ending.wait(IDLE)),
                Err(error) => {
                    tracing::error!(%error, "cannot go on with a scan for Harbor");
                    ending.wait(OUTAGE);
                }
            }
        }
    }

    /// Takes one step, and records how it ended.
    fn settle(&self, task: &ClaimedHarborTask) -> Result<(), StoreError> {
        let now = || (self.service.clock)();
        let mut second = SecondTask::read(task.second.as_deref());
        let step = self.step(task, &mut second)?;
        let tasks = self.store.harbor_tasks();
        let count = |result: &str| self.service.metrics.harbor_scans.get_or_create(&label("result", result)).inc();
        match step {
            Step::Wait(phase, not_before) => {
                tasks.wait(task, phase, Some(&second.write()), not_before)?;
            }
            Step::Report(report) => {
                if tasks.finish(task, &report, now())? {
                    count("report");
                    tracing::info!(image = task.reference, bytes = report.len(), "scan for Harbor ended");
                }
            }
            Step::Failed(error) => {
                if tasks.fail(task, &error, now())? {
                    count("error");
                    tracing::warn!(image = task.reference, "scan for Harbor failed: {error}");
                }
            }
        }
        Ok(())
    }

    fn step(&self, task: &ClaimedHarborTask, second: &mut SecondTask) -> Result<Step, StoreError> {
        let now = (self.service.clock)();
        if now >= task.deadline {
            return Ok(Step::Failed(out_of_time()));
        }
        let Ok(request) = serde_json::from_str::<TaskRequest>(&task.request) else {
            return Ok(Step::Failed("the stored request cannot be read".into()));
        };
        if matches!(request.wanted, Wanted::Sbom(_)) {
            return Ok(self.pass_on(task, &request, second, now));
        }
        if task.phase != HarborPhase::Second {
            // Both work at the same time.
            if let (Some(scanner), None) = (&self.adapter.second, &second.id) {
                let _ = self.begin(scanner, task, &request, second, now);
            }
            match self.own(task)? {
                Own::Pending => return Ok(Step::Wait(HarborPhase::Scan, 0)),
                Own::Full => return Ok(Step::Wait(HarborPhase::New, now.saturating_add(FULL_PAUSE))),
                Own::Failed(error) => return Ok(Step::Failed(error)),
                Own::Reports(_) if self.adapter.second.is_some() => {}
                Own::Reports(reports) => return Ok(Step::Report(self.report(task, &request, reports, None))),
            }
        }
        let found = match self.second_report(task, &request, second, now) {
            Ok(Polled::NotYet(seconds)) => {
                return Ok(Step::Wait(HarborPhase::Second, now.saturating_add(seconds)));
            }
            Ok(Polled::Report(report)) => Ok(report),
            Err(none) => Err(none),
        };
        if let (Err(none), true) = (&found, self.adapter.settings.merge_required) {
            return Ok(Step::Failed(format!("the second scanner: {}", none.text)));
        }
        if let Err(none) = &found {
            tracing::warn!(image = task.reference, why = none.why.name(), "no second report: {}", none.text);
        }
        match self.own(task)? {
            Own::Reports(reports) => {
                let second = match &found {
                    Ok(report) => Second::Report(report),
                    Err(none) => Second::Missing(none.why),
                };
                Ok(Step::Report(self.report(task, &request, reports, Some(&second))))
            }
            Own::Failed(error) => Ok(Step::Failed(error)),
            // Its report was removed meanwhile.
            Own::Pending | Own::Full => Ok(Step::Wait(HarborPhase::Scan, 0)),
        }
    }

    /// Has a second scanner make a report that is passed on as it is.
    fn pass_on(&self, task: &ClaimedHarborTask, request: &TaskRequest, second: &mut SecondTask, now: Seconds) -> Step {
        match self.second_report(task, request, second, now) {
            Ok(Polled::NotYet(seconds)) => Step::Wait(HarborPhase::Second, now.saturating_add(seconds)),
            Ok(Polled::Report(report)) => match serde_json::from_slice::<serde_json::Value>(&report) {
                Ok(serde_json::Value::Object(fields)) if !fields.is_empty() => Step::Report(report),
                _ => Step::Failed("the second scanner: its answer is not a report".into()),
            },
            Err(none) => Step::Failed(format!("the second scanner: {}", none.text)),
        }
    }

    /// What a second scanner says: a report, nothing yet, or that there will be none.
    fn second_report(
        &self,
        task: &ClaimedHarborTask,
        request: &TaskRequest,
        second: &mut SecondTask,
        now: Seconds,
    ) -> Result<Polled, NoReport> {
        let Some(scanner) = &self.adapter.second else {
            let text = "there is none any more".to_string();
            return Err(NoReport { why: Missing::Unreachable, text });
        };
        let (answered, patience) = match second.id.clone() {
            None => (self.begin(scanner, task, request, second, now).map(|()| Polled::NotYet(PAUSE)), BEGIN_PATIENCE),
            Some(id) => (scanner.poll(&id, &request.wanted), POLL_PATIENCE),
        };
        match answered {
            Ok(polled) => {
                second.out_since = None;
                Ok(polled)
            }
            Err(none) if none.is_temporary() => {
                let since = *second.out_since.get_or_insert(now);
                // A time that is still to come was noted by a clock that was wrong.
                let is_recent = (0..patience).contains(&now.saturating_sub(since));
                if is_recent { Ok(Polled::NotYet(PAUSE)) } else { Err(none) }
            }
            Err(none) => Err(none),
        }
    }

    /// Hands the scan in at a second scanner.
    fn begin(
        &self,
        scanner: &SecondScanner,
        task: &ClaimedHarborTask,
        request: &TaskRequest,
        second: &mut SecondTask,
        now: Seconds,
    ) -> Result<(), NoReport> {
        let login = task.sealed.as_ref().and_then(|sealed| TaskLogin::open(&self.adapter.key, &task.id, sealed));
        let Some(login) = login else {
            let text = "the login of the scan was sealed with another key".to_string();
            return Err(NoReport { why: Missing::Refused, text });
        };
        match scanner.begin(request, &login) {
            Ok(id) => {
                *second = SecondTask { id: Some(id), out_since: None };
                Ok(())
            }
            Err(none) => {
                if none.is_temporary() {
                    second.out_since.get_or_insert(now);
                }
                Err(none)
            }
        }
    }

    /// What is known about the image: reports under the present key, or how far its scan is.
    fn own(&self, task: &ClaimedHarborTask) -> Result<Own, StoreError> {
        let Service { key, clock, .. } = &**self.service;
        let digest = match task.reference.rsplit_once('@').map(|(_, digest)| digest.parse()) {
            Some(Ok(digest)) => digest,
            _ => return Ok(Own::Failed("the stored reference cannot be read".into())),
        };
        let found = match look_up(self.store, &digest, key, Older::Any)? {
            Known::Reports(reports) => reports.present(),
            Known::Nothing => None,
        };
        let is_read = |report: &ImageReport| report.layers.iter().all(|layer| layer.is_read);
        let reports = match found {
            Some(reports) if reports.iter().all(is_read) => return Ok(Own::Reports(reports)),
            // A layer that could not be read the last time may be readable now.
            found => found,
        };
        let known = self.store.scan_requests().find(&task.reference)?;
        let known = known.filter(|request| task.phase != HarborPhase::New && request.requested_at >= task.created_at);
        match known {
            Some(request) if request.state == RequestState::Failed => {
                let why = request.error.unwrap_or_default();
                return Ok(Own::Failed(format!("the image cannot be read: {why}")));
            }
            Some(request) if request.state == RequestState::Done && request.key.as_ref() == Some(key) => {
                let missing = "the image was scanned, and its report is not in the store: it may be too large";
                return Ok(reports.map_or_else(|| Own::Failed(missing.into()), Own::Reports));
            }
            Some(request) if request.state != RequestState::Done => return Ok(Own::Pending),
            _ => {}
        }
        self.submit(task, digest, key, clock())
    }

    /// Has the image scanned.
    fn submit(
        &self,
        task: &ClaimedHarborTask,
        digest: layersift_model::Digest,
        key: &LayerKey,
        now: Seconds,
    ) -> Result<Own, StoreError> {
        // A scan that failed a moment ago had another login.
        let limits = RequestLimits { retry_failed: 0, ..self.service.settings.request_limits() };
        let request = ScanRequest {
            reference: task.reference.clone(),
            digest,
            class: RequestClass::RegistryScanner,
            client: "harbor".into(),
        };
        match self.store.scan_requests().submit(&request, key, true, &limits, now)? {
            Submitted::Accepted(_) | Submitted::Done { .. } => Ok(Own::Pending),
            Submitted::Failed(_, error) => Ok(Own::Failed(error)),
            Submitted::Full => Ok(Own::Full),
        }
    }

    /// The report of an image as Harbor reads it, judged by the policy of the operator.
    fn report(
        &self,
        task: &ClaimedHarborTask,
        request: &TaskRequest,
        mut reports: Vec<ImageReport>,
        second: Option<&Second<'_>>,
    ) -> Vec<u8> {
        let policy = self.service.decider.policy();
        let repository = task.reference.split_once('@').map_or("", |(repository, _)| repository);
        let terms = policy.terms(&[&task.reference, repository], None);
        for report in &mut reports {
            terms.findings.judge(report);
        }
        let options = self.adapter.settings.mapping();
        let ours = report(&reports, &request.artifact, VERSION, &options);
        let all = match second {
            Some(second) => merge(ours, second, options.gap_severity),
            None => ours,
        };
        all.to_json(&options.limits)
    }

    fn keep_metadata(&self, second: &SecondScanner) {
        let mut is_out = false;
        loop {
            match second.ask_metadata() {
                Ok(()) => is_out = false,
                Err(none) if !is_out => {
                    is_out = true;
                    tracing::warn!("the second scanner does not say what it is: {}", none.text);
                }
                Err(_) => {}
            }
            if self.service.ending.wait(METADATA) {
                return;
            }
        }
    }
}
