//! A Harbor asks for each scan once. What was pushed while its scanner was out of reach is never scanned, and a scan
//! that ended in an error stays one. So the leader looks for both, and asks Harbor to scan them again, with the login
//! of a robot that may: at its start, after an outage, and now and then.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use layersift_fleet::Registries;
use layersift_model::{Digest, parse};
use layersift_source::catalog::{Harbor, HarborOptions, ScanState, Unscanned};
use layersift_source::registry::{Login, Reference};
use layersift_store::{Seconds, Store, StoreError};

use super::Adapter;
use super::tasks::TaskRequest;
use crate::harbor::scan_request::Wanted;
use crate::http::metrics::label;
use crate::service::Service;
use crate::service::setup::SetupError;

/// How often there is something to look for.
const TICK: Duration = Duration::from_secs(2);

/// When a leader looks for the first time, and again after Harbor did not take a request: it remembers for 30 seconds
/// that its scanner did not answer. Each time that it does not, the pause is twice as long.
const FIRST: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_secs(35);

/// Seconds after which Harbor has given up a task whose end nobody was told: the longest pause between polls is
/// shorter.
const GIVEN_UP: Seconds = 60;

/// How often Harbor is asked for one image, and seconds between the first two times.
const ATTEMPTS: u64 = 3;
const BETWEEN: Seconds = 120;

/// Tasks that are looked at in one go.
const TASKS: u64 = 1_000;

/// Asks a Harbor for scans that it missed.
pub(crate) struct CatchUp<'c> {
    service: &'c Arc<Service>,
    adapter: &'c Adapter,
    store: &'c Store,
    harbor: Harbor,
}

/// What became of a request to Harbor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Taken,
    /// It was asked for often enough, or is not there any more.
    Enough,
    /// It was asked for a short time ago.
    Later,
    /// The robot may not ask in this project.
    Forbidden,
    /// Harbor does not take it now.
    Refused,
}

/// When to look next.
struct Plan {
    listing: Option<Instant>,
    /// Until the next listing after one that was not all.
    pause: Duration,
    /// When tasks whose ends nobody was told are looked at again.
    tasks: Instant,
    /// When Harbor was last told of an error, as far as that was looked after.
    missed: Option<Seconds>,
}

impl<'c> CatchUp<'c> {
    /// `None` where the settings name no robot.
    ///
    /// # Errors
    /// For certificates that cannot be read.
    pub(crate) fn open(
        service: &'c Arc<Service>,
        adapter: &'c Adapter,
        store: &'c Store,
        registries: &Registries,
    ) -> Result<Option<CatchUp<'c>>, SetupError> {
        let Some((host, plain_http, login)) = adapter.robot.clone() else { return Ok(None) };
        let registry = registries.with_login(&host, plain_http, Login::As(login));
        let registry = registry.map_err(|error| SetupError::Harbor(error.to_string()))?;
        let registry = registry.with_cancellation(service.ending.clone());
        let harbor = Harbor::new(registry, HarborOptions::default());
        Ok(Some(CatchUp { service, adapter, store, harbor }))
    }

    /// Works until the service ends. All replicas note that Harbor was told of an error; the leader does the rest.
    pub(crate) fn run(&self) {
        let mut plan = Plan { listing: None, pause: SOON, tasks: Instant::now(), missed: None };
        while !self.service.ending.wait(TICK) {
            let done = self.note_missed().and_then(|()| match self.service.metrics.is_leader.get() {
                0 => {
                    plan.listing = None;
                    Ok(())
                }
                _ => self.lead(&mut plan),
            });
            if let Err(error) = done {
                tracing::error!(%error, "the store failed");
            }
        }
    }

    fn note_missed(&self) -> Result<(), StoreError> {
        if !self.adapter.has_missed.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let noted = self.store.harbor_tasks().note_missed((self.service.clock)());
        noted.inspect_err(|_| self.adapter.has_missed.store(true, Ordering::Relaxed))
    }

    fn lead(&self, plan: &mut Plan) -> Result<(), StoreError> {
        let now = Instant::now();
        if now >= plan.tasks && !self.given_up()? {
            plan.tasks = now + SOON;
        }
        let due = *plan.listing.get_or_insert(now + FIRST);
        let missed = self.store.harbor_tasks().last_missed()?;
        if missed > plan.missed {
            plan.missed = missed;
            plan.listing = Some(due.min(now + SOON));
        } else if now >= due {
            let usual = self.adapter.settings.catch_up();
            let is_all = self.look()?;
            let pause = if is_all { usual } else { plan.pause.min(usual) };
            plan.pause = if is_all { SOON } else { plan.pause * 2 };
            plan.listing = Some(Instant::now() + pause);
        }
        Ok(())
    }

    /// Has scans asked for again whose ends Harbor never asked for: it had an error where it polled, as from a process
    /// that was killed. Returns whether Harbor takes requests.
    fn given_up(&self) -> Result<bool, StoreError> {
        let (tasks, now) = (self.store.harbor_tasks(), (self.service.clock)());
        for (id, reference, request) in tasks.unfetched(now.saturating_sub(GIVEN_UP), TASKS)? {
            let request: Option<TaskRequest> = parse::json(&request).ok();
            let is_sbom = request.is_none_or(|request| matches!(request.wanted, Wanted::Sbom(_)));
            let asked = match reference.parse::<Reference>() {
                Ok(Reference { repository, digest: Some(digest), .. }) if !is_sbom => {
                    self.ask_if_unscanned(&repository, &digest)?
                }
                _ => Asked::Enough,
            };
            match asked {
                Asked::Refused => return Ok(false),
                Asked::Later => {}
                Asked::Taken | Asked::Enough | Asked::Forbidden => tasks.note_fetched(&id, now)?,
            }
        }
        Ok(true)
    }

    /// Asks for a scan unless there is a report, or a scan that goes on or that somebody stopped.
    fn ask_if_unscanned(&self, repository: &str, digest: &Digest) -> Result<Asked, StoreError> {
        let Some((project, _)) = repository.split_once('/') else { return Ok(Asked::Enough) };
        match self.harbor.scan_state(project, repository, digest) {
            Ok(ScanState::Failed | ScanState::None) => self.ask(project, repository, digest),
            Ok(ScanState::Other) => Ok(Asked::Enough),
            Err(error) => Ok(refusal(error.of_registry().and_then(|error| error.status()))),
        }
    }

    /// Looks for images that Harbor has no report of; whether all were asked for.
    fn look(&self) -> Result<bool, StoreError> {
        let (mut is_all, mut failed) = (true, None);
        let (mut asked, mut forbidden) = (BTreeSet::new(), BTreeSet::new());
        let listed = self.harbor.unscanned(|Unscanned { project, repository, digest }| {
            // Reports belong to a digest, whatever repositories it is in.
            if !asked.contains(&digest) && !forbidden.contains(&project) {
                match self.ask(&project, &repository, &digest) {
                    Ok(Asked::Taken | Asked::Enough) => drop(asked.insert(digest)),
                    Ok(Asked::Forbidden) => drop(forbidden.insert(project)),
                    Ok(Asked::Later | Asked::Refused) => is_all = false,
                    Err(error) => failed = Some(error),
                }
            }
            failed.is_none() && !self.service.ending.is_cancelled()
        });
        if let Some(error) = failed {
            return Err(error);
        }
        if !forbidden.is_empty() {
            tracing::warn!(projects = ?forbidden, "the robot may not ask for scans in projects that it sees");
        }
        if let Err(error) = &listed {
            tracing::error!(%error, "cannot list all that Harbor has not scanned");
        }
        Ok(is_all && listed.is_ok())
    }

    /// Asks for one scan.
    fn ask(&self, project: &str, repository: &str, digest: &Digest) -> Result<Asked, StoreError> {
        let (tasks, now) = (self.store.harbor_tasks(), (self.service.clock)());
        let image = format!("{repository}@{digest}");
        match tasks.may_ask_again(&image, ATTEMPTS, BETWEEN, now)? {
            None => return Ok(Asked::Enough),
            Some(false) => return Ok(Asked::Later),
            Some(true) => {}
        }
        let count = |result: &str| self.service.metrics.harbor_rescans.get_or_create(&label("result", result)).inc();
        match self.harbor.scan(project, repository, digest) {
            Ok(()) => {
                count("taken");
                tracing::info!(image, "asked Harbor for a scan that it missed");
                tasks.note_asked_again(&image, now)?;
                Ok(Asked::Taken)
            }
            Err(error) => {
                count("refused");
                tracing::debug!(image, "Harbor does not take a request for a scan: {error}");
                Ok(refusal(error.of_registry().and_then(|error| error.status())))
            }
        }
    }
}

/// What an answer of Harbor other than the expected one means.
fn refusal(status: Option<u16>) -> Asked {
    match status {
        Some(404) => Asked::Enough,
        Some(403) => Asked::Forbidden,
        _ => Asked::Refused,
    }
}
