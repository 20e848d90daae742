//! A Harbor asks for each scan once. What was pushed while its scanner was out of reach is never scanned, and a scan
//! that ended in an error stays one. So the leader looks for both, and asks Harbor to scan them again, with the login of
//! a robot that may: at its start, after an outage, and now and then.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use layersift_fleet::Registries;
use layersift_model::Digest;
use layersift_source::catalog::{CatalogError, Harbor, HarborOptions, Unscanned};
use layersift_source::registry::{Credentials, Login, Reference};
use layersift_store::{Seconds, Store, StoreError};

use super::Adapter;
use crate::http::metrics::label;
use crate::service::Service;
use crate::service::setup::SetupError;

/// How often there is something to look for.
const TICK: Duration = Duration::from_secs(2);

/// When a leader looks for the first time, and again after Harbor did not take a request: it remembers for 30 seconds
/// that its scanner did not answer.
const FIRST: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_secs(35);

/// Seconds after which Harbor has given up a task whose end nobody was told: the longest pause between polls is shorter.
const GIVEN_UP: Seconds = 60;

/// How often Harbor is asked for one image, and seconds between the first two times.
const ATTEMPTS: u64 = 3;
const PAUSE: Seconds = 120;

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
    /// It was asked for often enough, or a short time ago.
    Enough,
    Refused,
}

impl<'c> CatchUp<'c> {
    /// `None` where the settings name no robot.
    ///
    /// # Errors
    /// For a file that cannot be read.
    pub(crate) fn open(
        service: &'c Arc<Service>,
        adapter: &'c Adapter,
        store: &'c Store,
        registries: &Registries,
    ) -> Result<Option<CatchUp<'c>>, SetupError> {
        let settings = &adapter.settings;
        let host = settings.own_host().map_err(SetupError::Harbor)?;
        let Some(((host, plain_http), path)) = host.zip(settings.login.as_deref()) else { return Ok(None) };
        let login = Login::As(login(path)?);
        let registry = registries.with_login(&host, plain_http, login);
        let registry = registry.map_err(|error| SetupError::Harbor(error.to_string()))?;
        let registry = registry.with_cancellation(service.ending.clone());
        let harbor = Harbor::new(registry, HarborOptions::default());
        Ok(Some(CatchUp { service, adapter, store, harbor }))
    }

    /// Works until the service ends, while it is the leader.
    pub(crate) fn run(&self) {
        let mut next: Option<Instant> = None;
        while !self.service.ending.wait(TICK) {
            if self.service.metrics.is_leader.get() == 0 {
                next = None;
                continue;
            }
            if let Err(error) = self.given_up() {
                tracing::error!(%error, "the store failed");
            }
            let due = *next.get_or_insert_with(|| Instant::now() + FIRST);
            let is_missed = self.adapter.has_missed.swap(false, Ordering::Relaxed);
            if is_missed {
                next = Some(due.min(Instant::now() + SOON));
            } else if Instant::now() >= due {
                let pause = if self.look() { self.adapter.settings.catch_up() } else { SOON };
                next = Some(Instant::now() + pause);
            }
        }
    }

    /// Has scans asked for again whose ends Harbor never asked for: it had an error where it polled, as from a process
    /// that was killed.
    fn given_up(&self) -> Result<(), StoreError> {
        let (tasks, now) = (self.store.harbor_tasks(), (self.service.clock)());
        for (id, reference) in tasks.unfetched(now.saturating_sub(GIVEN_UP), TASKS)? {
            let asked = match reference.parse::<Reference>() {
                Ok(Reference { repository, digest: Some(digest), .. }) => self.ask(&repository, &digest)?,
                _ => Asked::Enough,
            };
            if asked == Asked::Refused {
                return Ok(());
            }
            tasks.note_fetched(&id, now)?;
        }
        Ok(())
    }

    /// Looks for images that Harbor has no report of; whether all were asked for.
    fn look(&self) -> bool {
        let mut refused = false;
        let mut asked = BTreeSet::new();
        let mut failed = None;
        let listed = self.harbor.unscanned(|Unscanned { repository, digest, .. }| {
            // Reports belong to a digest, whatever repositories it is in.
            if asked.insert(digest.clone()) {
                match self.ask(&repository, &digest) {
                    Ok(outcome) => refused |= outcome == Asked::Refused,
                    Err(error) => failed = Some(error),
                }
            }
            failed.is_none() && !self.service.ending.is_cancelled()
        });
        if let Some(error) = &failed {
            tracing::error!(%error, "the store failed");
        }
        if let Err(error) = &listed {
            tracing::error!(%error, "cannot list what Harbor has not scanned");
        }
        !refused && failed.is_none() && listed.is_ok()
    }

    /// Asks for one scan.
    fn ask(&self, repository: &str, digest: &Digest) -> Result<Asked, StoreError> {
        let (tasks, now) = (self.store.harbor_tasks(), (self.service.clock)());
        let image = format!("{repository}@{digest}");
        if !tasks.may_ask_again(&image, ATTEMPTS, PAUSE, now)? {
            return Ok(Asked::Enough);
        }
        let Some((project, _)) = repository.split_once('/') else { return Ok(Asked::Enough) };
        let count = |result: &str| self.service.metrics.harbor_rescans.get_or_create(&label("result", result)).inc();
        match self.harbor.scan(project, repository, digest) {
            Ok(()) => {
                count("taken");
                tracing::info!(image, "asked Harbor for a scan that it missed");
                tasks.note_asked_again(&image, now)?;
                Ok(Asked::Taken)
            }
            Err(error) if is_gone(&error) => Ok(Asked::Enough),
            Err(error) => {
                count("refused");
                tracing::warn!(image, "Harbor does not take a request for a scan: {error}");
                Ok(Asked::Refused)
            }
        }
    }
}

/// Whether the image was deleted meanwhile.
fn is_gone(error: &CatalogError) -> bool {
    error.of_registry().and_then(|error| error.status()) == Some(404)
}

/// The login in a file: a name and a secret, with a colon between them.
fn login(path: &Path) -> Result<Credentials, SetupError> {
    let failed = |reason: String| SetupError::Harbor(format!("{}: {reason}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let login = text.trim().split_once(':').filter(|(user, secret)| !user.is_empty() && !secret.is_empty());
    let (user, password) = login.ok_or_else(|| failed("expected NAME:SECRET of a robot".into()))?;
    Ok(Credentials::Password { user: user.into(), password: password.into() })
}
