//! From a tag to a digest, with the service's own logins. What a tag names is kept for seconds, since it may move; that
//! it cannot be read as well, so that a registry is asked once, however many ask.

use std::sync::Arc;
use std::time::Duration;

use layersift_fleet::Registries;
use layersift_format::Cancellation;
use layersift_model::Digest;
use layersift_source::registry::{At, Reference, RegistryError};
use moka::future::Cache;
use tokio::sync::Semaphore;

use super::places::Places;
use crate::admission::Unreadable;

/// How long it is kept what a tag names.
const KEPT: Duration = Duration::from_secs(10);

/// Tags that are kept.
const MOST: u64 = 10_000;

/// The longest that a registry may take.
const LONGEST: Duration = Duration::from_secs(10);

/// Requests to all registries at a time, and tags of one registry that are asked for or wait for that.
const AT_ONCE: usize = 128;
const OF_ONE: usize = 32;

/// What a tag names, or why that cannot be said.
pub(crate) type Resolved = Result<Digest, (Unreadable, String)>;

/// Asks registries what tags name.
pub(crate) struct Resolver {
    registries: Arc<Registries>,
    known: Cache<String, Resolved>,
    ending: Cancellation,
    /// Requests to all registries at a time.
    asking: Arc<Semaphore>,
    places: Places,
}

impl Resolver {
    pub(crate) fn new(registries: Arc<Registries>, ending: Cancellation) -> Resolver {
        let known = Cache::builder().max_capacity(MOST).time_to_live(KEPT).build();
        let (asking, places) = (Arc::new(Semaphore::new(AT_ONCE)), Places::new(OF_ONE));
        Resolver { registries, known, ending, asking, places }
    }

    /// What `reference` names; `None` where its registry is busy with others, or this process is ending: it may be
    /// known a moment later. It goes on to ask where its caller has no more time, for the next one.
    pub(crate) async fn resolve(&self, reference: &Reference) -> Option<Resolved> {
        let key = reference.to_string();
        if let Some(known) = self.known.get(&key).await {
            return Some(known);
        }
        let place = self.places.place(&reference.host, &key)?;
        let (known, registries, reference) = (self.known.clone(), Arc::clone(&self.registries), reference.clone());
        let (ending, asking) = (self.ending.clone(), Arc::clone(&self.asking));
        let asked = tokio::spawn(async move {
            let _place = place;
            let ask = async {
                let turn = asking.acquire_owned().await.ok();
                let asked = tokio::task::spawn_blocking(move || {
                    let _turn = turn;
                    ask(&registries, &reference, &ending)
                });
                asked.await.ok().flatten().ok_or(())
            };
            known.try_get_with(key, ask).await
        });
        asked.await.ok()?.ok()
    }
}

/// `None` where the process ends before there is an answer.
fn ask(registries: &Registries, reference: &Reference, ending: &Cancellation) -> Option<Resolved> {
    let tag = match (&reference.digest, &reference.tag) {
        (Some(digest), _) => return Some(Ok(digest.clone())),
        (None, tag) => tag.clone().unwrap_or_else(|| "latest".into()),
    };
    let failed = |error: RegistryError| (!ending.is_cancelled()).then(|| Err((unreadable(&error), error.to_string())));
    let registry = match registries.of(&reference.host) {
        Ok(registry) => registry.with_cancellation(ending.child_with_deadline(LONGEST)),
        Err(error) => return failed(error),
    };
    match registry.manifest(&reference.repository, &At::Tag(tag)) {
        Ok(manifest) => Some(Ok(manifest.digest)),
        Err(error) => failed(error),
    }
}

/// Why an image cannot be read.
pub(crate) fn unreadable(error: &RegistryError) -> Unreadable {
    match error {
        RegistryError::Unauthorized { .. } | RegistryError::Forbidden { .. } => Unreadable::Unauthorized,
        RegistryError::NotFound { .. } => Unreadable::NotFound,
        RegistryError::Reference(_) => Unreadable::Refused,
        RegistryError::Schema1 { .. } => Unreadable::Unsupported,
        _ => Unreadable::Failed,
    }
}
