//! Requests of a Harbor are taken in as tasks, and polls are answered from the store.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use layersift_model::parse;
use layersift_source::registry::Reference;
use layersift_store::{HarborTask, HarborTaskState, NewHarborTask, Seconds};
use serde::{Deserialize, Serialize};

use super::Adapter;
use super::logins::TaskLogin;
use crate::harbor::sbom::Form;
use crate::harbor::scan_request::{Artifact, ScanRequest, Wanted};
use crate::service::Service;

/// Seconds that the login of a scan is good: Harbor's tokens are for 30 minutes.
const LOGIN: Seconds = 28 * 60;

/// How long the store has for an answer: Harbor gives a call 5 seconds.
const CALL: Duration = Duration::from_millis(1_500);
const REPORT: Duration = Duration::from_millis(2_500);

/// How long polls are put off while the store is out of reach.
const PATIENCE: Duration = Duration::from_secs(600);

/// Seconds between polls: of a task that is young, of one that is not, and of one that takes long.
const PAUSES: [(Seconds, u8); 2] = [(30, 1), (300, 5)];
const LONG_PAUSE: u8 = 15;

/// Seconds until the next poll while the store is out of reach.
const OUTAGE_PAUSE: u8 = 5;

/// What was asked for, as the store has it: without the login.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TaskRequest {
    pub(crate) artifact: Artifact,
    pub(crate) wanted: Wanted,
    /// Who asked.
    pub(crate) client: String,
}

/// Why a request is not taken in.
#[derive(Debug)]
pub(crate) enum NotTaken {
    /// It asks for what there is not: 422.
    Unsupported(String),
    /// It cannot be stored now: 500.
    Failed(String),
}

/// What is answered to a poll.
#[derive(Debug)]
pub(crate) enum Poll {
    /// It is to be asked again after so many seconds, 1 to 127.
    Again(u8),
    Report(Vec<u8>),
    /// It ended in an error, or does so now.
    Failed(String),
    Unknown,
    /// There is a report of another kind.
    OtherKind,
}

impl Adapter {
    /// Takes a request in: the id of its task.
    pub(crate) async fn take(
        &self,
        service: &Arc<Service>,
        client: &str,
        request: ScanRequest,
    ) -> Result<String, NotTaken> {
        let reference = Reference {
            host: request.registry.host.clone(),
            repository: request.artifact.repository.clone(),
            tag: None,
            digest: Some(request.artifact.digest.clone()),
        };
        if !service.decider.admits(&reference) {
            let why = format!("{} is not a registry that the service may pull from", reference.host);
            return Err(NotTaken::Unsupported(why));
        }
        let wanted = match <[Wanted; 1]>::try_from(request.wanted) {
            Ok([wanted]) => wanted,
            Err(_) => return Err(NotTaken::Unsupported("a scan is for one kind of report".into())),
        };
        if let Wanted::Sbom(media_types) = &wanted
            && self.second.is_none()
            && Form::of(media_types).is_none()
        {
            let forms = Form::ALL.map(Form::media_type).join(" and ");
            return Err(NotTaken::Unsupported(format!("bills of materials are made as {forms}")));
        }
        let failed = |error: &dyn std::fmt::Display| NotTaken::Failed(error.to_string());
        let id = new_id().map_err(|error| failed(&error))?;
        let login = TaskLogin::of(&request.registry);
        let sealed = login.seal(&self.key, &id).map_err(|error| failed(&error))?;
        let stored = TaskRequest { artifact: request.artifact, wanted, client: client.into() };
        let now = (service.clock)();
        let task = NewHarborTask {
            id: id.clone(),
            reference: reference.to_string(),
            source: format!("{}/{}", reference.host, reference.repository),
            request: serde_json::to_string(&stored).map_err(|error| failed(&error))?,
            sealed,
            sealed_until: now.saturating_add(LOGIN),
            deadline: now.saturating_add(self.settings.deadline()),
        };
        let most = service.settings.request_limits().queued;
        let added = service.with_store(move |service| service.store.harbor_tasks().add(&task, most, now));
        match tokio::time::timeout(CALL, added).await {
            Ok(Ok(true)) => Ok(id),
            Ok(Ok(false)) => {
                self.has_missed.store(true, Ordering::Relaxed);
                Err(NotTaken::Failed("too many scans wait; try again later".into()))
            }
            Ok(Err(_)) | Err(_) => {
                self.has_missed.store(true, Ordering::Relaxed);
                Err(NotTaken::Failed("the scan cannot be stored at the moment; try again".into()))
            }
        }
    }

    /// Answers a poll for the report of a task. `is_sbom` is the kind of report that is asked for.
    pub(crate) async fn poll(&self, service: &Arc<Service>, id: &str, is_sbom: bool) -> Poll {
        let asked = id.to_string();
        let found = service.with_store(move |service| service.store.harbor_tasks().find(&asked));
        let Ok(Ok(found)) = tokio::time::timeout(CALL, found).await else { return self.put_off(id).await };
        let Some(task) = found else { return Poll::Unknown };
        let now = (service.clock)();
        let is_told = task.fetched_at.is_some();
        let mut answer = answer(&task, is_sbom, now);
        if task.state == HarborTaskState::Done && matches!(answer, Poll::Again(_)) {
            let asked = id.to_string();
            let report = service.with_reports(move |service, _| Ok(service.store.harbor_tasks().report(&asked)?));
            let Ok(Ok(report)) = tokio::time::timeout(REPORT, report).await else { return self.put_off(id).await };
            answer = report.map_or_else(|| Poll::Failed("the report is not kept any more".into()), Poll::Report);
        }
        self.outages.invalidate(id).await;
        if !is_told && matches!(answer, Poll::Report(_) | Poll::Failed(_)) {
            let (id, service) = (id.to_string(), Arc::clone(service));
            // Harbor does not wait for it. Without it, Harbor is asked to scan once more than it would have to.
            tokio::spawn(async move {
                let noted = move |service: &Service| service.store.harbor_tasks().note_fetched(&id, now);
                let _ = service.with_store(noted).await;
            });
        }
        answer
    }

    /// Harbor takes an error for the end of the scan. So while the store is out of reach, it is told to come again, and
    /// not for ever: it would hold one of ten workers.
    async fn put_off(&self, id: &str) -> Poll {
        let since = self.outages.get_with(id.to_string(), async { tokio::time::Instant::now() }).await;
        if since.elapsed() < PATIENCE {
            return Poll::Again(OUTAGE_PAUSE);
        }
        self.has_missed.store(true, Ordering::Relaxed);
        Poll::Failed("the scan is not known: the store cannot be reached".into())
    }
}

/// What is answered by what the task says. [`Poll::Again`] for one that is done: its report is to be read.
fn answer(task: &HarborTask, is_sbom: bool, now: Seconds) -> Poll {
    match task.state {
        HarborTaskState::Open if task.is_out_of_time(now) => Poll::Failed(out_of_time()),
        HarborTaskState::Open => Poll::Again(pause(now.saturating_sub(task.created_at))),
        HarborTaskState::Done => {
            let request: Option<TaskRequest> = parse::json(&task.request).ok();
            let is_of_kind = request.is_some_and(|request| matches!(request.wanted, Wanted::Sbom(_)) == is_sbom);
            if is_of_kind { Poll::Again(1) } else { Poll::OtherKind }
        }
        HarborTaskState::Failed => Poll::Failed(task.error.clone().unwrap_or_else(|| "the scan failed".into())),
    }
}

pub(crate) fn out_of_time() -> String {
    "the scan did not end in time".into()
}

fn pause(age: Seconds) -> u8 {
    PAUSES.into_iter().find(|(young, _)| age < *young).map_or(LONG_PAUSE, |(_, pause)| pause)
}

/// A random id, which nobody can guess.
pub(super) fn new_id() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(layersift_model::hex(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harbor_keeps_to_every_pause() {
        for age in [-5, 0, 29, 30, 299, 300, 1_799, Seconds::MAX] {
            assert!((1..=127).contains(&pause(age)), "{age}");
        }
        assert_eq!((pause(0), pause(100), pause(1_000)), (1, 5, 15));
    }

    #[test]
    fn an_id_is_part_of_a_path_as_it_is() {
        let id = new_id().unwrap();
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(new_id().unwrap(), id);
    }
}
