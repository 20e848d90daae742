//! One step of a task: the image is scanned, or known already, a second scanner is asked, and in the end there is a
//! report or an error.
//!
//! A step begins from what the store has, so that another process goes on where one was killed.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use layersift_audit::Verdict;
use layersift_fleet::Registries;
use layersift_format::Cancellation;
use layersift_model::{self as model, Digest, Finding, ImageReport, LayerKey, parse};
use layersift_report::Policy;
use layersift_scan::{Analyzer, MemoryLease};
use layersift_store::{
    ClaimedHarborTask, HarborPhase, RequestClass, RequestLimits, RequestState, ScanRequest, Seconds, Store, StoreError,
    Submitted,
};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::logins::TaskLogin;
use super::second::{NoReport, Polled, SecondScanner};
use super::tasks::{TaskRequest, out_of_time};
use super::{Adapter, VERSION};
use crate::admission::tidy;
use crate::harbor::merge::{self, Missing, Second, SecondReport, merge};
use crate::harbor::report::report;
use crate::harbor::sbom::Form;
use crate::harbor::scan_request::Wanted;
use crate::service::Service;
use crate::service::lookup::{NotRead, Older, Reading, WholeReports, add_bases, find};

/// How often a claim of a task may not be given back: a task that kills its process does so each time.
const LOSSES: u64 = 3;

/// How often the scan of an image is asked for. The first one may be somebody else's, with another login.
const SCANS: u8 = 2;

/// Seconds for which a second scanner that cannot be reached is asked again: to hand a scan in, and about one that it
/// has taken.
const BEGIN_PATIENCE: Seconds = 10;
const POLL_PATIENCE: Seconds = 60;

/// Seconds before the deadline at which a second scanner is not waited for any more.
const MARGIN: Seconds = 60;

/// Seconds until a second scanner is asked again that could not be reached or has just begun, and until a full queue is
/// tried again.
const AGAIN: Seconds = 2;
const FULL: Seconds = 5;

/// Bytes of a reason that is kept.
const REASON: usize = 160;

/// Takes steps.
pub(crate) struct Steps<'d> {
    pub(crate) service: &'d Arc<Service>,
    pub(crate) adapter: &'d Adapter,
    /// With patience: a server that restarts is waited for.
    pub(crate) store: &'d Store,
    /// Where images are read for bills of materials.
    pub(crate) registries: &'d Arc<Registries>,
    /// Masks what is in their names.
    pub(crate) analyzer: &'d Arc<Analyzer>,
}

/// How a step ended.
pub(crate) enum Step {
    /// It goes on, when something has changed or the time has come.
    Wait {
        phase: HarborPhase,
        progress: Progress,
        not_before: Seconds,
    },
    /// The report, and what this scanner says of the image in it, if it does.
    Report(Vec<u8>, Option<Judged>),
    Failed(String),
}

/// What this scanner says of an image, for the log of decisions.
pub(crate) struct Judged {
    pub(crate) verdict: Verdict,
    pub(crate) ruleset: String,
    pub(crate) policy: String,
}

/// How far a task is, as the store has it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Progress {
    /// How often the scan of its image was asked for.
    scans: u8,
    /// The second scanner's id for its scan.
    pub(super) second: Option<String>,
    /// Since when the second scanner could not be asked.
    out_since: Option<Seconds>,
    /// Why the second scanner does not take the request.
    refused: Option<String>,
    /// Whether the second scanner has forgotten its scan once.
    was_forgotten: bool,
    /// The process that reads the image for a bill of materials, and when it last said so.
    pub(super) reader: Option<(String, Seconds)>,
}

impl Progress {
    fn read(text: Option<&str>) -> Progress {
        text.and_then(|text| parse::json(text).ok()).unwrap_or_default()
    }

    /// As the store has it.
    pub(crate) fn write(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What is known about the image of a task.
enum Own {
    /// It waits, or is being scanned.
    Pending,
    /// The queue is full.
    Full,
    Failed(String),
    /// The reports, with the memory that they take.
    Reports(Vec<ImageReport>, Option<MemoryLease>),
}

/// A step, with what it works on.
pub(super) struct Current<'c> {
    pub(super) steps: &'c Steps<'c>,
    pub(super) task: &'c ClaimedHarborTask,
    pub(super) request: TaskRequest,
    pub(super) progress: Progress,
    pub(super) now: Seconds,
}

impl Steps<'_> {
    /// Takes one step of a task.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn take(&self, task: &ClaimedHarborTask) -> Result<Step, StoreError> {
        let now = (self.service.clock)();
        if task.is_out_of_time(now) {
            return Ok(Step::Failed(out_of_time()));
        }
        if task.losses >= LOSSES {
            return Ok(Step::Failed(format!("the process that worked on it ended {LOSSES} times")));
        }
        let Ok(request) = parse::json::<TaskRequest>(&task.request) else {
            return Ok(Step::Failed("the stored request cannot be read".into()));
        };
        let progress = Progress::read(task.progress.as_deref());
        let current = Current { steps: self, task, request, progress, now };
        match (&current.request.wanted, &self.adapter.second) {
            (Wanted::Sbom(_), Some(second)) if current.is_for(second) => Ok(current.pass_on(second)),
            (Wanted::Sbom(media_types), _) => {
                let form = Form::of(media_types);
                Ok(current.bill(form))
            }
            (Wanted::Vulnerabilities, None) => current.alone(),
            (Wanted::Vulnerabilities, Some(second)) => current.with_second(second),
        }
    }
}

impl Current<'_> {
    pub(super) fn wait(self, phase: HarborPhase, not_before: Seconds) -> Step {
        Step::Wait { phase, progress: self.progress, not_before }
    }

    /// The image, without a second scanner.
    fn alone(mut self) -> Result<Step, StoreError> {
        Ok(match self.own()? {
            Own::Pending => self.wait(HarborPhase::Scan, 0),
            Own::Full => self.until_there_is_room(),
            Own::Failed(error) => Step::Failed(error),
            Own::Reports(reports, _memory) => self.report(reports, None),
        })
    }

    /// The image, with what a second scanner says. Both work at the same time.
    fn with_second(mut self, scanner: &SecondScanner) -> Result<Step, StoreError> {
        if self.task.phase != HarborPhase::Second {
            let own = match self.own()? {
                // They are read again when the second scanner has answered.
                Own::Reports(..) => Own::Reports(Vec::new(), None),
                own => own,
            };
            if self.progress.second.is_none() && self.progress.refused.is_none() {
                // What comes of it is looked at below, or by a later step.
                let _ = self.begin(scanner);
            }
            match own {
                Own::Pending => return Ok(self.wait(HarborPhase::Scan, 0)),
                Own::Full => return Ok(self.until_there_is_room()),
                Own::Failed(_) | Own::Reports(..) => {
                    let not_before = self.now.saturating_add(if self.progress.second.is_some() { AGAIN } else { 0 });
                    return Ok(self.wait(HarborPhase::Second, not_before));
                }
            }
        }
        let found = match self.second_report(scanner) {
            Ok(Some(Polled::Report(bytes))) => merge::read(&bytes, &self.request.artifact.digest)
                .ok_or_else(|| NoReport::new(Missing::Unreadable, "its answer is not a report about this image")),
            Ok(Some(Polled::NotYet(seconds))) => {
                let not_before = self.now.saturating_add(seconds);
                return Ok(self.wait(HarborPhase::Second, not_before));
            }
            Ok(Some(Polled::Unknown) | None) => {
                let not_before = self.now.saturating_add(AGAIN);
                return Ok(self.wait(HarborPhase::Second, not_before));
            }
            Err(none) => Err(none),
        };
        self.join(found)
    }

    /// Joins what both scanners have found.
    fn join(mut self, found: Result<SecondReport, NoReport>) -> Result<Step, StoreError> {
        if let Err(none) = &found {
            if self.steps.adapter.settings.merge_required {
                return Ok(Step::Failed(format!("the second scanner: {}", none.text)));
            }
            let why = none.why.name();
            tracing::warn!(image = self.task.reference, why, "no report of the second scanner: {}", none.text);
        }
        let (reports, _memory) = match (self.own()?, &found) {
            (Own::Reports(reports, memory), _) => (reports, memory),
            // A project keeps its vulnerabilities, and the report says that this scanner has not read the image.
            (Own::Failed(error), Ok(_)) => {
                tracing::warn!(image = self.task.reference, "the image cannot be read: {error}");
                (Vec::new(), None)
            }
            (Own::Failed(error), Err(_)) => return Ok(Step::Failed(error)),
            // Its report was removed meanwhile.
            (Own::Pending, _) => return Ok(self.wait(HarborPhase::Scan, 0)),
            (Own::Full, _) => return Ok(self.until_there_is_room()),
        };
        let second = found.map_or_else(|none| Second::Missing(none.why), Second::Report);
        Ok(self.report(reports, Some(second)))
    }

    fn until_there_is_room(self) -> Step {
        let not_before = self.now.saturating_add(FULL);
        self.wait(HarborPhase::New, not_before)
    }

    /// Has a second scanner make a report that is passed on as it is.
    fn pass_on(mut self, scanner: &SecondScanner) -> Step {
        let failed = |why: &str| Step::Failed(format!("the second scanner: {why}"));
        match self.second_report(scanner) {
            Ok(Some(Polled::Report(report))) => match parse::json::<HashMap<String, IgnoredAny>>(&report) {
                Ok(fields) if !fields.is_empty() => Step::Report(report, None),
                _ => failed("its answer is not a report"),
            },
            Ok(Some(Polled::NotYet(seconds))) => {
                let not_before = self.now.saturating_add(seconds);
                self.wait(HarborPhase::Second, not_before)
            }
            Ok(Some(Polled::Unknown) | None) => {
                let not_before = self.now.saturating_add(AGAIN);
                self.wait(HarborPhase::Second, not_before)
            }
            Err(none) => failed(&none.text),
        }
    }

    /// What a second scanner says: a report, that there is none yet, or that there will be none.
    fn second_report(&mut self, scanner: &SecondScanner) -> Result<Option<Polled>, NoReport> {
        // A margin for the report itself, of which a short deadline has less.
        let time = self.task.deadline.saturating_sub(self.task.created_at);
        if self.task.deadline.saturating_sub(self.now) <= MARGIN.min(time / 4) {
            return Err(NoReport::new(Missing::TimedOut, "it did not end in time"));
        }
        if let Some(why) = &self.progress.refused {
            return Err(NoReport::new(Missing::Refused, why));
        }
        let (answered, patience) = match self.progress.second.clone() {
            None => (self.begin(scanner).map(|()| None), BEGIN_PATIENCE),
            Some(id) => (self.poll(scanner, &id).map(Some), POLL_PATIENCE),
        };
        match answered {
            Ok(polled) => {
                self.progress.out_since = None;
                Ok(polled)
            }
            Err(none) if none.is_temporary() => {
                let since = *self.progress.out_since.get_or_insert(self.now);
                // A time that is still to come was noted by a clock that was wrong.
                let is_recent = (0..patience).contains(&self.now.saturating_sub(since));
                if is_recent { Ok(None) } else { Err(none) }
            }
            Err(none) => Err(none),
        }
    }

    fn poll(&mut self, scanner: &SecondScanner, id: &str) -> Result<Polled, NoReport> {
        let polled = scanner.poll(id, &self.request.wanted, &|text| self.masked(text))?;
        if matches!(polled, Polled::Unknown) {
            if self.progress.was_forgotten {
                return Err(NoReport::new(Missing::Failed, "it does not know the scan that it has taken"));
            }
            (self.progress.second, self.progress.was_forgotten) = (None, true);
        }
        Ok(polled)
    }

    /// Hands the scan in at a second scanner.
    fn begin(&mut self, scanner: &SecondScanner) -> Result<(), NoReport> {
        let begun = match self.login() {
            Some(login) => scanner.begin(&self.request, &login, &|text| self.masked(text)),
            None => Err(NoReport::new(Missing::Refused, "the login of the scan was sealed with another key")),
        };
        match begun {
            Ok(id) => (self.progress.second, self.progress.out_since) = (Some(id), None),
            Err(none) if none.is_temporary() => {
                self.progress.out_since.get_or_insert(self.now);
                return Err(none);
            }
            Err(none) => {
                self.progress.refused = Some(tidy(&none.text, REASON));
                return Err(none);
            }
        }
        Ok(())
    }

    pub(super) fn login(&self) -> Option<TaskLogin> {
        TaskLogin::open(&self.steps.adapter.key, &self.task.id, self.task.sealed.as_ref()?)
    }

    /// What a second scanner says: it may repeat the request, with the login in it, or quote what it found.
    fn masked(&self, text: &str) -> String {
        self.steps.analyzer.mask_name(&self.masked_text(text.into()))
    }

    pub(super) fn masked_text(&self, text: String) -> String {
        self.login().map_or_else(|| text.clone(), |login| login.mask(&text))
    }

    /// What is known about the image: reports under the present key, or how far its scan is.
    fn own(&mut self) -> Result<Own, StoreError> {
        let Service { key, .. } = &**self.steps.service;
        let digest = self.request.artifact.digest.clone();
        let mut found = match self.known(&digest, key) {
            Ok(found) => found,
            Err(NotRead::Store(error)) => return Err(error),
            Err(error) => return Ok(Own::Failed(error.to_string())),
        };
        add_bases(self.steps.store, found.iter_mut().flat_map(|found| &mut found.reports))?;
        let is_read = |report: &ImageReport| report.layers.iter().all(|layer| layer.is_read);
        let reports = match found {
            Some(found) if found.reports.iter().all(is_read) => return Ok(Own::Reports(found.reports, found.memory)),
            // A layer that could not be read the last time may be readable now.
            found => found,
        };
        if self.progress.scans == 0 {
            return self.submit(digest, key);
        }
        let Some(request) = self.steps.store.scan_requests().find(&self.task.reference)? else {
            return self.submit(digest, key);
        };
        let may_ask = self.progress.scans < SCANS;
        Ok(match request.state {
            RequestState::Queued | RequestState::Running => Own::Pending,
            RequestState::Done if request.key.as_ref() == Some(key) => {
                let missing = "the image was scanned, and its report is not in the store: it may be too large";
                let whole = |found: WholeReports| Own::Reports(found.reports, found.memory);
                reports.map_or_else(|| Own::Failed(missing.into()), whole)
            }
            RequestState::Done | RequestState::Failed if may_ask => return self.submit(digest, key),
            RequestState::Done => Own::Failed("the image was scanned by other rules".into()),
            RequestState::Failed => {
                Own::Failed(format!("the image cannot be read: {}", request.error.unwrap_or_default()))
            }
        })
    }

    /// The reports under the present key, if there is one of each image.
    fn known(&self, digest: &Digest, key: &LayerKey) -> Result<Option<WholeReports>, NotRead> {
        let Service { report_memory, .. } = &**self.steps.service;
        // A task that is not done when the service ends goes on elsewhere: it must not fail here.
        let never = Cancellation::never();
        let reading = Reading { store: self.steps.store, memory: report_memory, cancellation: &never };
        let found = find(self.steps.store, digest, key, Older::Any)?;
        Ok(found.map(|found| found.whole(&reading)).transpose()?.flatten().and_then(WholeReports::present))
    }

    /// Has the image scanned.
    fn submit(&mut self, digest: Digest, key: &LayerKey) -> Result<Own, StoreError> {
        // A scan that failed a moment ago had another login.
        let limits = RequestLimits { retry_failed: 0, ..self.steps.service.settings.request_limits() };
        let request = ScanRequest {
            reference: self.task.reference.clone(),
            digest,
            class: RequestClass::RegistryScanner,
            client: self.request.client.clone(),
        };
        let submitted = self.steps.store.scan_requests().submit(&request, key, true, &limits, self.now)?;
        Ok(match submitted {
            Submitted::Accepted(_) | Submitted::Done { .. } => {
                self.progress.scans = self.progress.scans.saturating_add(1);
                Own::Pending
            }
            Submitted::Failed(_, error) => Own::Failed(error),
            Submitted::Full => Own::Full,
        })
    }

    /// The report of an image as Harbor reads it, without what the operator's policy allows.
    fn report(&self, mut reports: Vec<ImageReport>, second: Option<Second>) -> Step {
        let policy = self.steps.service.decider.policy();
        let findings = &policy.terms(&[], None).findings;
        reports.iter_mut().for_each(|report| findings.judge(report));
        let judged = Judged {
            verdict: verdict(&reports, findings),
            ruleset: reports.first().map(|report| report.tool.ruleset.clone()).unwrap_or_default(),
            policy: policy.digest().to_string(),
        };
        let options = self.steps.adapter.settings.mapping();
        let ours = report(&reports, &self.request.artifact, VERSION, &options);
        let all = match second {
            Some(second) => merge(ours, second, options.gap_severity),
            None => ours,
        };
        Step::Report(all.to_json(&options.limits), Some(judged))
    }
}

/// What reports say that were judged.
fn verdict(reports: &[ImageReport], policy: &Policy) -> Verdict {
    let worst = reports.iter().map(ImageReport::verdict).min_by_key(|verdict| match verdict {
        model::Verdict::Fail => 0,
        model::Verdict::Incomplete => 1,
        model::Verdict::Pass => 2,
    });
    let fails = |finding: &&Finding| finding.counts() && policy.fail_on.is_some_and(|limit| finding.severity >= limit);
    let failing = reports.iter().flat_map(|report| &report.findings).filter(fails);
    let rules: BTreeSet<&str> = failing.map(|finding| &finding.rule.id[..]).collect();
    Verdict {
        outcome: worst.unwrap_or(model::Verdict::Incomplete).name().into(),
        effect: "reported".into(),
        reasons: rules.into_iter().map(String::from).collect(),
    }
}
