//! Remembers what was found in parts, so that the history of a chat, which is sent again with every message, is scanned
//! once. The keys are keyed hashes and the values have no secrets: a memory image of the cache tells no prompt.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::outcome::{Outcome, Subject};

/// Parts that are smaller are scanned faster than they are hashed and looked up.
const LEAST_BYTES: usize = 256;

/// Parts with more findings are not kept.
const MOST_FINDINGS: usize = 32;

pub(crate) type CacheKey = [u8; 32];

/// A bounded cache in two generations: once the younger is full, the older is dropped. What is asked for moves into the
/// younger one.
pub(crate) struct PartCache {
    secret: [u8; 32],
    /// The most parts of one generation.
    most: usize,
    generations: Mutex<Generations>,
}

#[derive(Default)]
struct Generations {
    young: HashMap<CacheKey, Arc<Outcome>>,
    old: HashMap<CacheKey, Arc<Outcome>>,
}

impl PartCache {
    /// A cache for at most `parts` parts; 0 keeps none.
    pub(crate) fn new(parts: usize) -> PartCache {
        PartCache { secret: random(), most: parts / 2, generations: Mutex::default() }
    }

    /// Whether what is found in `subject` is remembered.
    pub(crate) fn is_worth(&self, subject: Subject<'_>) -> bool {
        self.most > 0 && subject.bytes().len() >= LEAST_BYTES
    }

    /// The key of what is scanned, for a `scope` that names client, policy and rules.
    pub(crate) fn key(&self, scope: &str, subject: Subject<'_>) -> Option<CacheKey> {
        let (kind, path, bytes) = match subject {
            Subject::Text(bytes) => (0, "", bytes),
            Subject::File { path, bytes } => (1, path, bytes),
        };
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).ok()?;
        mac.update(&[kind]);
        for name in [scope, path] {
            mac.update(&(name.len() as u64).to_le_bytes());
            mac.update(name.as_bytes());
        }
        mac.update(bytes);
        Some(mac.finalize().into_bytes().into())
    }

    pub(crate) fn get(&self, key: &CacheKey) -> Option<Arc<Outcome>> {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outcome) = generations.young.get(key) {
            return Some(Arc::clone(outcome));
        }
        let outcome = generations.old.remove(key)?;
        generations.insert(*key, Arc::clone(&outcome), self.most);
        Some(outcome)
    }

    pub(crate) fn insert(&self, key: CacheKey, outcome: &Arc<Outcome>) {
        if outcome.found.len() <= MOST_FINDINGS && outcome.is_repeatable() {
            let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
            generations.insert(key, Arc::clone(outcome), self.most);
        }
    }
}

/// The most denied parts of one generation.
const MOST_DENIED: usize = 4096;

/// Which parts were denied, as keyed hashes, in two generations as above.
pub(crate) struct DeniedParts {
    keys: PartCache,
}

impl Default for DeniedParts {
    fn default() -> DeniedParts {
        DeniedParts { keys: PartCache::new(2 * MOST_DENIED) }
    }
}

impl DeniedParts {
    pub(crate) fn add(&self, scope: &str, subject: Subject<'_>) {
        if let Some(key) = self.keys.key(scope, subject) {
            self.keys.insert(key, &Arc::default());
        }
    }

    pub(crate) fn has(&self, scope: &str, subject: Subject<'_>) -> bool {
        self.keys.key(scope, subject).is_some_and(|key| self.keys.get(&key).is_some())
    }
}

impl Generations {
    fn insert(&mut self, key: CacheKey, outcome: Arc<Outcome>, most: usize) {
        if self.young.len() >= most {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, outcome);
    }
}

/// Bytes that differ in every process. The standard library seeds its hashers from the operating system.
fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&RandomState::new().hash_one(0u8).to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays_and_the_rest_goes() {
        let cache = PartCache::new(8);
        let key = |number: usize| cache.key("client", Subject::Text(&vec![number as u8; LEAST_BYTES])).unwrap();
        for number in 0..100 {
            cache.insert(key(number), &Arc::default());
            assert!(cache.get(&key(0)).is_some(), "{number}");
        }
        assert!(cache.get(&key(50)).is_none());
        let generations = cache.generations.lock().unwrap();
        assert!(generations.young.len() + generations.old.len() <= 8);
    }

    #[test]
    fn clients_and_policies_do_not_share_parts() {
        let cache = PartCache::new(8);
        let bytes = [7; 1000];
        let text = Subject::Text(&bytes);
        assert_eq!(cache.key("a", text), cache.key("a", text));
        assert_ne!(cache.key("a", text), cache.key("b", text));
        assert_ne!(cache.key("a", text), PartCache::new(8).key("a", text));
        assert!(!cache.is_worth(Subject::Text(b"short")));
        assert!(!PartCache::new(0).is_worth(text));
    }

    #[test]
    fn texts_and_files_of_other_names_do_not_share_parts() {
        let cache = PartCache::new(8);
        let bytes = [7; 1000];
        let file = |path| cache.key("a", Subject::File { path, bytes: &bytes });
        assert_eq!(file("x.md"), file("x.md"));
        assert_ne!(file("x.md"), file("x.env"));
        assert_ne!(file(""), cache.key("a", Subject::Text(&bytes)));
    }
}
