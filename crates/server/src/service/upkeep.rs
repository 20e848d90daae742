//! Periodic work. Every replica reads its certificates and its policy again, and notes which images it was asked about;
//! one of them, the leader, has images scanned again whose reports are outdated, and removes what is not kept.

use std::sync::Arc;
use std::time::Duration;

use layersift_fleet::Counted;
use layersift_store::{JobCounts, RequestClass, Retention, Seconds, StoreError, Submitted};

use super::Service;
use crate::http::metrics::label;
use crate::http::tls::Tls;

/// How often certificates are looked at, what was asked is noted, and the leader's lease is renewed.
const TICK: Duration = Duration::from_secs(5);

/// Seconds that the leader's lease holds.
const LEASE: Seconds = 20;

/// How often what is not kept is removed.
const PRUNING: Seconds = 3_600;

/// Days back that images are scanned again for which were asked about then.
const IN_USE: Seconds = 90 * 86_400;

/// Images to scan again that wait at a time: those that somebody waits for are not behind them, but layers are.
const RESCANS: u64 = 100;

/// Reads the policy again.
pub(crate) type ReadPolicy = Box<dyn Fn() -> Result<Option<crate::admission::AdmissionPolicy>, String> + Send + Sync>;

/// What periodic work is about.
pub(crate) struct Upkeep {
    pub(crate) service: Arc<Service>,
    /// The certificates, by the name of their address.
    pub(crate) tls: Vec<(&'static str, Arc<Tls>)>,
    /// The policy, if it has changed.
    pub(crate) read_policy: ReadPolicy,
}

impl Upkeep {
    /// Works until the service ends. It blocks.
    pub(crate) fn run(&self) {
        loop {
            self.reload();
            self.in_store();
            if self.service.ending.wait(TICK) {
                break;
            }
        }
        if let Err(error) = self.note_asked().and_then(|()| self.service.store.service().resign(LEADER)) {
            tracing::error!(%error, "the store failed");
        }
    }

    fn reload(&self) {
        let now = (self.service.clock)();
        for (name, tls) in &self.tls {
            match tls.reload() {
                Ok(true) => tracing::info!(listener = name, "certificate read again"),
                Ok(false) => {}
                Err(error) => tracing::error!(listener = name, %error, "the certificate before stays in use"),
            }
            let left = tls.expires().saturating_sub(now);
            self.service.metrics.certificates.get_or_create(&label("listener", *name)).set(left);
        }
        if let Some(harbor) = &self.service.harbor
            && let Err(error) = harbor.secrets.reload()
        {
            tracing::error!(error, "the secrets of Harbor before stay in use");
        }
        self.service.events.reload();
        self.service.decider.reload_attestation_keys();
        match (self.read_policy)() {
            Ok(Some(policy)) => {
                let digest = policy.digest().to_string();
                self.service.decider.set_policy(policy);
                tracing::info!(digest, "policy read again");
            }
            Ok(None) => {}
            Err(error) => tracing::error!(error, "the policy before stays in use"),
        }
    }

    /// What is done in the store, each step by itself: one that fails does not keep others from being done.
    fn in_store(&self) {
        let (service, now) = (&self.service, (self.service.clock)());
        let state = service.store.service();
        let told = |step: &str, done: Result<(), StoreError>| {
            if let Err(error) = done {
                tracing::error!(step, %error, "the store failed");
            }
        };
        told("noting the layer key", state.serve_key(&service.key, now));
        told("noting what was asked", self.note_asked());
        told("noting fingerprints of prompts", service.note_sightings());
        told("counting", self.count());
        let is_leader = state.lead(LEADER, LEASE, now).unwrap_or_else(|error| {
            told("leading", Err(error));
            false
        });
        service.metrics.is_leader.set(i64::from(is_leader));
        if is_leader {
            told("rescans", self.rescan(now));
        }
    }

    /// Removes what is not kept, at the leader, until the service ends. It may take long.
    pub(crate) fn prune(&self) {
        let Service { store, key, settings, metrics, ending, clock, .. } = &*self.service;
        let retention = Retention { reports: settings.retention.reports(), requests: settings.retention.requests() };
        let mut next = Seconds::MIN;
        while !ending.wait(TICK) {
            let now = clock();
            if metrics.is_leader.get() == 0 || now < next {
                continue;
            }
            next = now.saturating_add(PRUNING);
            match store.prune(&retention, key, now) {
                Ok(pruned) => tracing::info!(?pruned, "removed what is not kept"),
                Err(error) => tracing::error!(%error, "cannot remove what is not kept"),
            }
            if let Some(prompts) = &settings.prompts {
                match store.prompt_sightings().forget(now.saturating_sub(prompts.fingerprints_kept())) {
                    Ok(0) => {}
                    Ok(count) => tracing::info!(count, "removed fingerprints of prompts"),
                    Err(error) => tracing::error!(%error, "cannot remove fingerprints of prompts"),
                }
            }
        }
    }

    fn note_asked(&self) -> Result<(), StoreError> {
        let asked = self.service.decider.take_asked();
        if asked.is_empty() {
            return Ok(());
        }
        let noted = self.service.store.service().note_asked(&asked, (self.service.clock)());
        if noted.is_err() {
            self.service.decider.put_back_asked(asked);
        }
        noted
    }

    /// Counts what waits, and how long tokens are good.
    fn count(&self) -> Result<(), StoreError> {
        let Service { store, metrics, key, clock, progress, .. } = &*self.service;
        let queued = store.scan_requests().queued()?;
        for class in RequestClass::ALL {
            let count = queued.iter().find(|(of, _)| *of == class).map_or(0, |(_, count)| *count);
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            metrics.queued.get_or_create(&label("class", class.name())).set(count);
        }
        let waiting = i64::try_from(store.notifications().waiting()?).unwrap_or(i64::MAX);
        metrics.notifications_waiting.set(waiting);
        let JobCounts { queued, leased, poisoned, .. } = store.queue().counts(key)?;
        for (state, count) in [("queued", queued), ("leased", leased), ("poisoned", poisoned)] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            metrics.layers.get_or_create(&label("state", state)).set(count);
        }
        let Counted { layers_read, bytes_read, .. } = progress.counted();
        metrics.layers_read.inc_by(layers_read.saturating_sub(metrics.layers_read.get()));
        metrics.bytes_read.inc_by(bytes_read.saturating_sub(metrics.bytes_read.get()));
        let now = clock();
        metrics.tokens.clear();
        for token in store.api_tokens().list()? {
            if token.revoked_at.is_none() {
                let name = label("token", format!("{} {}", token.id, token.name));
                metrics.tokens.get_or_create(&name).set(token.expires_at.saturating_sub(now));
            }
        }
        if self.service.harbor.is_some() {
            metrics.harbor_open.set(i64::try_from(store.harbor_tasks().open()?).unwrap_or(i64::MAX));
        }
        self.service.count_connections();
        Ok(())
    }

    /// Has images scanned again that were asked about and whose reports are outdated, the latest first.
    fn rescan(&self, now: Seconds) -> Result<(), StoreError> {
        let Service { store, key, settings, .. } = &*self.service;
        let limits = settings.request_limits();
        let waiting = store.scan_requests().queued()?;
        let waiting = waiting.iter().find(|(class, _)| *class == RequestClass::Background).map_or(0, |(_, n)| *n);
        let room = RESCANS.saturating_sub(waiting);
        if room == 0 {
            return Ok(());
        }
        for image in store.service().asked_before(key, now.saturating_sub(IN_USE), room, &limits, now)? {
            let request = layersift_store::ScanRequest {
                reference: image.reference,
                digest: image.digest,
                class: RequestClass::Background,
                client: "rescan".into(),
            };
            if store.scan_requests().submit(&request, key, false, &limits, now)? == Submitted::Full {
                break;
            }
        }
        Ok(())
    }
}

/// The name of the leader's lease.
const LEADER: &str = "upkeep";
