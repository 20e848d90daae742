//! What the service does, apart from HTTP.
//!
//! ```text
//! setup      what a service is made of
//! decider    may this image in? from stored reports
//! lookup     what the store knows about a digest, and whether that still counts
//! resolver   from a tag to a digest, with the service's own logins
//! scans      images that are waited for are scanned
//! upkeep     periodic work: certificates, policies, rescans, retention
//! access     who asks, and what they may do
//! ```
//!
//! Handlers are asynchronous; the store, registries and scans block, and are called on threads for that.

pub(crate) mod access;
pub(crate) mod decider;
pub(crate) mod lookup;
pub(crate) mod resolver;
pub(crate) mod scans;
mod setup;
pub(crate) mod upkeep;

use std::sync::Arc;

use layersift_fleet::Progress;
use layersift_format::Cancellation;
use layersift_model::{FingerprintKey, LayerKey};
use layersift_store::{Seconds, Store, StoreError};

use crate::http::body::BodyMemory;
use crate::http::connections::Connections;
use crate::http::limits::Rates;
use crate::http::metrics::Metrics;
use crate::http::problem::Problem;
use crate::settings::Settings;

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
    pub(crate) connections: Arc<Connections>,
    pub(crate) bodies: BodyMemory,
    pub(crate) rates: Rates,
    pub(crate) metrics: Arc<Metrics>,
    /// What is pulled and read here.
    pub(crate) progress: Arc<Progress>,
    pub(crate) clock: fn() -> Seconds,
    /// Cancelled when the service ends.
    pub(crate) ending: Cancellation,
    /// Threads that may call the store for handlers at a time.
    calls: tokio::sync::Semaphore,
}

/// Calls to the store at a time that handlers make.
const CALLS: usize = 16;

/// How long a handler waits for its turn.
const TURN: std::time::Duration = std::time::Duration::from_secs(2);

impl Service {
    /// Calls the store, on a thread that may block.
    pub(crate) async fn with_store<T: Send + 'static>(
        self: &Arc<Service>,
        call: impl FnOnce(&Service) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let turn = tokio::time::timeout(TURN, self.calls.acquire());
        let Ok(Ok(_turn)) = turn.await else { return Err(Problem::unavailable("the store is busy; try again")) };
        let service = Arc::clone(self);
        match tokio::task::spawn_blocking(move || call(&service)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error @ (StoreError::Invalid { .. } | StoreError::Unknown { .. }))) => {
                Err(Problem::invalid(error.to_string()))
            }
            Ok(Err(error)) => {
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
