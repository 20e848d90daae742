//! What the service does, apart from HTTP.
//!
//! ```text
//! setup      what a service is made of
//! decider    may this image in? from stored reports
//! lookup     what the store knows about a digest, and whether that still counts
//! resolver   from a tag to a digest, with the service's own logins
//! attestations  what is attested of an image, read and verified
//! places     how many questions one registry is asked at a time
//! events     what registries say was pushed is queued
//! scans      images that are waited for are scanned
//! harbor     the scanner of a Harbor
//! notices    what scans find is announced
//! messenger  messages about that are sent
//! prompts    what goes to a model is checked
//! models     models that requests are forwarded to
//! sightings  fingerprints of secrets in prompts are kept
//! upkeep     periodic work: certificates, policies, rescans, retention
//! access     who asks, and what they may do
//! audit      the log of decisions
//! ```
//!
//! Handlers are asynchronous; the store, registries and scans block, and are called on threads for that.

pub(crate) mod access;
pub(crate) mod attestations;
pub(crate) mod audit;
pub(crate) mod decider;
pub(crate) mod events;
pub(crate) mod harbor;
pub(crate) mod lookup;
pub(crate) mod messenger;
pub(crate) mod models;
pub(crate) mod notices;
mod places;
pub(crate) mod prompts;
pub(crate) mod resolver;
pub(crate) mod scans;
mod setup;
pub(crate) mod sightings;
pub(crate) mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use layersift_fleet::Progress;
use layersift_format::Cancellation;
use layersift_model::{FingerprintKey, LayerKey};
use layersift_scan::MemoryBudget;
use layersift_store::{Seconds, Store, StoreError};
use tokio::sync::Semaphore;

use crate::http::answers::AnswerMemory;
use crate::http::body::BodyMemory;
use crate::http::connections::Connections;
use crate::http::limits::Rates;
use crate::http::metrics::{Metrics, PromptLabels, label};
use crate::http::problem::Problem;
use crate::settings::Settings;

use lookup::{CancelOnDrop, NotRead, Reading};

pub use audit::AuditSetupError;
pub use harbor::logins::ScanLogins;
pub use setup::{Parts, SetupError, check};

/// Everything that handlers and periodic work share.
pub(crate) struct Service {
    pub(crate) settings: Settings,
    /// For handlers: it does not wait long for a server that is out of reach.
    pub(crate) store: Arc<Store>,
    /// What reports are made with now.
    pub(crate) key: LayerKey,
    /// The key of fingerprints, then those that were used before.
    pub(crate) fingerprint_keys: Vec<FingerprintKey>,
    pub(crate) decider: decider::Decider,
    pub(crate) access: access::Access,
    /// The scanner of a Harbor, if there is one.
    pub(crate) harbor: Option<harbor::Adapter>,
    /// Takes each decision before it is answered.
    pub(crate) audit: audit::Audit,
    /// Checks prompts, if there are settings for it.
    pub(crate) prompts: Option<prompts::PromptGate>,
    /// The models that requests are forwarded to.
    pub(crate) models: models::Models,
    /// Who may say what was pushed.
    pub(crate) events: events::EventSenders,
    /// Connections by what listens: clients of one do not keep those of another out.
    pub(crate) connections: Vec<(&'static str, Arc<Connections>)>,
    /// The memory for bodies, of clusters and of other clients.
    cluster_bodies: BodyMemory,
    other_bodies: BodyMemory,
    /// Questions that wait, of clusters and of other clients.
    cluster_waiting: Semaphore,
    other_waiting: Semaphore,
    /// Streams of events.
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) rates: Rates,
    pub(crate) metrics: Arc<Metrics>,
    /// What is pulled and read here.
    pub(crate) progress: Arc<Progress>,
    pub(crate) clock: fn() -> Seconds,
    /// Cancelled when the service ends.
    pub(crate) ending: Cancellation,
    /// Calls to the store at a time that handlers make, and those among them that read whole reports.
    calls: Arc<Semaphore>,
    large_calls: Arc<Semaphore>,
    /// The memory for reports that are read.
    pub(crate) report_memory: MemoryBudget,
    /// The memory for large answers that are being sent.
    pub(crate) answers: AnswerMemory,
}

/// Calls to the store at a time that handlers make.
const CALLS: usize = 16;

/// Calls at a time that read whole reports: each may take megabytes.
const LARGE_CALLS: usize = 2;

/// How long a handler waits for its turn.
const TURN: Duration = Duration::from_secs(2);

/// Questions that wait for an image to be scanned: of clusters, and of other clients.
const CLUSTER_WAITING: usize = 512;
const OTHER_WAITING: usize = 128;

/// Streams of events at a time.
const STREAMS: usize = 64;

impl Service {
    /// Writes the fingerprints of secrets that were seen in prompts to the store. It blocks.
    pub(crate) fn note_sightings(&self) -> Result<(), StoreError> {
        let sightings = self.prompts.as_ref().and_then(|gate| gate.sightings.as_ref());
        sightings.map_or(Ok(()), |sightings| sightings.write(&self.store))
    }

    /// Brings the numbers of connections in the metrics up to date.
    pub(crate) fn count_connections(&self) {
        for (listener, connections) in &self.connections {
            let count = i64::try_from(connections.count()).unwrap_or(i64::MAX);
            self.metrics.connections.get_or_create(&label("listener", *listener)).set(count);
        }
    }

    /// Counts a prompt or an answer that was checked.
    pub(crate) fn count_prompt(&self, envelope: &'static str, verdict: &'static str) {
        self.metrics.prompts.get_or_create(&PromptLabels { envelope, verdict }).inc();
    }

    /// The memory for the bodies of a client.
    pub(crate) fn bodies(&self, client: &access::Client) -> &BodyMemory {
        if client.is_cluster { &self.cluster_bodies } else { &self.other_bodies }
    }

    /// The places for questions of a client that wait.
    pub(crate) fn waiting(&self, client: &access::Client) -> &Semaphore {
        if client.is_cluster { &self.cluster_waiting } else { &self.other_waiting }
    }

    /// Calls the store, on a thread that may block.
    pub(crate) async fn with_store<T: Send + 'static>(
        self: &Arc<Service>,
        call: impl FnOnce(&Service) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        self.with_turn(&self.calls, call).await
    }

    /// The same for what reads whole reports, which it is to stop when nobody waits for them any more.
    pub(crate) async fn with_reports<T: Send + 'static>(
        self: &Arc<Service>,
        call: impl FnOnce(&Service, &Reading<'_>) -> Result<T, NotRead> + Send + 'static,
    ) -> Result<T, Problem> {
        let end = CancelOnDrop(Cancellation::new());
        let cancellation = end.0.clone();
        let call = move |service: &Service| {
            let Service { store, report_memory: memory, .. } = service;
            call(service, &Reading { store, memory, cancellation: &cancellation })
        };
        self.with_turn(&self.large_calls, call).await
    }

    async fn with_turn<T: Send + 'static, E: Into<NotRead> + Send + 'static>(
        self: &Arc<Service>,
        turns: &Arc<Semaphore>,
        call: impl FnOnce(&Service) -> Result<T, E> + Send + 'static,
    ) -> Result<T, Problem> {
        let turn = tokio::time::timeout(TURN, Arc::clone(turns).acquire_owned());
        let Ok(Ok(turn)) = turn.await else { return Err(Problem::unavailable("the store is busy; try again")) };
        let service = Arc::clone(self);
        // The turn ends with the call, also where its client is gone by then.
        let called = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            call(&service).map_err(Into::into)
        });
        match called.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(NotRead::Store(error @ (StoreError::Invalid { .. } | StoreError::Unknown { .. })))) => {
                Err(Problem::invalid(error.to_string()))
            }
            Ok(Err(error @ NotRead::TooLarge)) => {
                Err(Problem::new(axum::http::StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))
            }
            Ok(Err(error @ NotRead::Cancelled)) => Err(Problem::unavailable(error.to_string())),
            Ok(Err(NotRead::Store(error))) => {
                tracing::error!(%error, "the store failed");
                Err(Problem::unavailable("the store cannot be reached; try again"))
            }
            Err(error) => {
                tracing::error!(%error, "a call of the store failed");
                Err(Problem::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, "the request failed"))
            }
        }
    }
}
