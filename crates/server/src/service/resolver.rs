//! From a tag to a digest, with the service's own logins. What a tag names is kept for seconds, since it may move; that
//! it cannot be read as well, so that a registry is asked once, however many ask.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use layersift_fleet::Registries;
use layersift_format::Cancellation;
use layersift_model::Digest;
use layersift_source::registry::{At, Host, Reference, RegistryError};
use moka::future::Cache;
use tokio::sync::Semaphore;

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
    busy: Arc<Mutex<Busy>>,
}

/// The tags of each registry that are asked for, or wait for that, and for how many each.
type Busy = HashMap<Host, HashMap<String, usize>>;

/// A place among the tags of a registry that are asked for, until it is dropped.
struct Place {
    busy: Arc<Mutex<Busy>>,
    host: Host,
    tag: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(tags) = busy.get_mut(&self.host) else { return };
        if let Some(count) = tags.get_mut(&self.tag) {
            *count -= 1;
            if *count == 0 {
                tags.remove(&self.tag);
            }
        }
        if tags.is_empty() {
            busy.remove(&self.host);
        }
    }
}

impl Resolver {
    pub(crate) fn new(registries: Arc<Registries>, ending: Cancellation) -> Resolver {
        let known = Cache::builder().max_capacity(MOST).time_to_live(KEPT).build();
        Resolver { registries, known, ending, asking: Arc::new(Semaphore::new(AT_ONCE)), busy: Arc::default() }
    }

    /// What `reference` names; `None` where its registry is busy with others, or this process is ending: it may be
    /// known a moment later. It goes on to ask where its caller has no more time, for the next one.
    pub(crate) async fn resolve(&self, reference: &Reference) -> Option<Resolved> {
        let key = reference.to_string();
        if let Some(known) = self.known.get(&key).await {
            return Some(known);
        }
        let place = self.place(&reference.host, &key)?;
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

    /// A place for one more tag of a registry. One that is slow, or dead, takes few: others go on.
    fn place(&self, host: &Host, tag: &str) -> Option<Place> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let tags = busy.entry(host.clone()).or_default();
        if tags.len() >= OF_ONE && !tags.contains_key(tag) {
            return None;
        }
        *tags.entry(tag.to_string()).or_default() += 1;
        Some(Place { busy: Arc::clone(&self.busy), host: host.clone(), tag: tag.to_string() })
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
