//! From a tag to a digest, with the service's own logins. What a tag names is kept for seconds, since it may move; that
//! it cannot be read as well, so that a registry is asked once, however many ask.

use std::sync::Arc;
use std::time::Duration;

use layersift_fleet::Registries;
use layersift_format::Cancellation;
use layersift_model::Digest;
use layersift_source::registry::{At, Reference, RegistryError};
use moka::future::Cache;

use crate::admission::Unreadable;

/// How long it is kept what a tag names.
const KEPT: Duration = Duration::from_secs(10);

/// Tags that are kept.
const MOST: u64 = 10_000;

/// The longest that a registry may take.
const LONGEST: Duration = Duration::from_secs(20);

/// What a tag names, or why that cannot be said.
pub(crate) type Resolved = Result<Digest, (Unreadable, String)>;

/// Asks registries what tags name.
pub(crate) struct Resolver {
    registries: Arc<Registries>,
    known: Cache<String, Resolved>,
    ending: Cancellation,
    /// Registries that are asked at a time.
    asking: Arc<tokio::sync::Semaphore>,
}

impl Resolver {
    pub(crate) fn new(registries: Arc<Registries>, ending: Cancellation) -> Resolver {
        let known = Cache::builder().max_capacity(MOST).time_to_live(KEPT).build();
        Resolver { registries, known, ending, asking: Arc::new(tokio::sync::Semaphore::new(32)) }
    }

    /// What `reference` names. It goes on to ask where its caller has no more time, for the next one.
    pub(crate) async fn resolve(&self, reference: &Reference) -> Resolved {
        let key = reference.to_string();
        if let Some(known) = self.known.get(&key).await {
            return known;
        }
        let (known, registries, reference) = (self.known.clone(), Arc::clone(&self.registries), reference.clone());
        let (ending, asking) = (self.ending.clone(), Arc::clone(&self.asking));
        let asked = tokio::spawn(async move {
            let ask = async {
                let Ok(_turn) = asking.acquire_owned().await else { return ended() };
                let asked = tokio::task::spawn_blocking(move || ask(&registries, &reference, &ending));
                asked.await.unwrap_or_else(|_| ended())
            };
            known.get_with(key, ask).await
        });
        asked.await.unwrap_or_else(|_| ended())
    }
}

fn ended() -> Resolved {
    Err((Unreadable::Failed, "the service is ending".into()))
}

fn ask(registries: &Registries, reference: &Reference, ending: &Cancellation) -> Resolved {
    let tag = match (&reference.digest, &reference.tag) {
        (Some(digest), _) => return Ok(digest.clone()),
        (None, tag) => tag.clone().unwrap_or_else(|| "latest".into()),
    };
    let failed = |error: RegistryError| (unreadable(&error), error.to_string());
    let registry = registries.of(&reference.host).map_err(failed)?;
    let registry = registry.with_cancellation(ending.child_with_deadline(LONGEST));
    Ok(registry.manifest(&reference.repository, &At::Tag(tag)).map_err(failed)?.digest)
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
