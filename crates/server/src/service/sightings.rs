//! What the prompt gate sees of secrets: their fingerprints, until they are in the store. Checks only note them in
//! memory, and periodic work writes them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};

use layersift_model::PromptDirection;
use layersift_prompts::{Direction, Sighting, Witness};
use layersift_store::{PromptSighting, Seconds, Store, StoreError};

/// The most sightings that wait to be written. The same secret from the same client waits once.
const MOST_WAITING: usize = 10_000;

/// The most bytes of a name: a store takes no longer ones.
const LONGEST_NAME: usize = 200;

/// Fingerprints of secrets in prompts and answers.
pub(crate) struct Sightings {
    clock: fn() -> Seconds,
    /// The most that the store keeps.
    most: u64,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    times: HashMap<Key, (Seconds, Seconds)>,
    /// How many found no room.
    left_out: u64,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    fingerprint: String,
    direction: PromptDirection,
    client: String,
    model: String,
    rule: String,
}

impl Sightings {
    /// Sightings for a store that keeps at most `most` of them.
    pub(crate) fn new(most: u64, clock: fn() -> Seconds) -> Sightings {
        Sightings { clock, most, waiting: Mutex::default() }
    }

    /// Writes what waits to the store. It blocks.
    ///
    /// # Errors
    /// Those of the store. What could not be written waits on.
    pub(crate) fn write(&self, store: &Store) -> Result<(), StoreError> {
        let Waiting { times, mut left_out } = std::mem::take(&mut *self.lock());
        let sightings: Vec<PromptSighting> = times.into_iter().map(sighting).collect();
        if !sightings.is_empty() {
            match store.prompt_sightings().note(&sightings, self.most) {
                Ok(more) => left_out += more,
                Err(error) => {
                    self.put_back(sightings, left_out);
                    return Err(error);
                }
            }
        }
        if left_out > 0 {
            tracing::warn!(left_out, most = self.most, "fingerprints of secrets in prompts are not kept: too many");
        }
        Ok(())
    }

    fn put_back(&self, sightings: Vec<PromptSighting>, left_out: u64) {
        let mut waiting = self.lock();
        waiting.left_out += left_out;
        for PromptSighting { fingerprint, direction, client, model, rule, first_seen, last_seen } in sightings {
            let key = Key { fingerprint, direction, client, model, rule };
            waiting.add(key, first_seen, last_seen);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn add(&mut self, key: Key, first: Seconds, last: Seconds) {
        let has_room = self.times.len() < MOST_WAITING;
        match self.times.entry(key) {
            Entry::Occupied(mut known) => {
                let (known_first, known_last) = known.get_mut();
                *known_first = first.min(*known_first);
                *known_last = last.max(*known_last);
            }
            Entry::Vacant(new) if has_room => {
                new.insert((first, last));
            }
            Entry::Vacant(_) => self.left_out += 1,
        }
    }
}

impl Witness for Sightings {
    fn saw(&self, seen: &Sighting<'_>) {
        let named = |name: Option<&str>| name.filter(|name| name.len() <= LONGEST_NAME).unwrap_or_default().to_string();
        let direction = match seen.direction {
            Direction::Prompt => PromptDirection::Prompt,
            Direction::Answer => PromptDirection::Answer,
            Direction::Quoted => PromptDirection::Quoted,
        };
        let key = Key {
            fingerprint: seen.fingerprint.into(),
            direction,
            client: named(seen.client.map(without_number)),
            model: named(seen.model),
            rule: seen.rule.into(),
        };
        let now = (self.clock)();
        self.lock().add(key, now, now);
    }
}

/// The name of a client without the number of its token, which changes when the token is renewed.
fn without_number(client: &str) -> &str {
    let rest = client.strip_prefix("token ").and_then(|rest| rest.split_once(' '));
    rest.filter(|(number, _)| number.bytes().all(|byte| byte.is_ascii_digit())).map_or(client, |(_, name)| name)
}

fn sighting((key, (first_seen, last_seen)): (Key, (Seconds, Seconds))) -> PromptSighting {
    let Key { fingerprint, direction, client, model, rule } = key;
    PromptSighting { fingerprint, direction, client, model, rule, first_seen, last_seen }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saw(sightings: &Sightings, fingerprint: &str, client: &str) {
        let (direction, model) = (Direction::Answer, Some("m"));
        sightings.saw(&Sighting { fingerprint, rule: "r", direction, client: Some(client), model });
    }

    #[test]
    fn the_same_secret_waits_once_and_what_waits_is_bounded() {
        let sightings = Sightings::new(100, || 7);
        for _ in 0..3 {
            saw(&sightings, "a", "one");
        }
        saw(&sightings, "a", "two");
        saw(&sightings, "b", &"long".repeat(100));
        assert_eq!(sightings.lock().times.len(), 3);
        for number in 0..MOST_WAITING {
            saw(&sightings, &number.to_string(), "one");
        }
        let waiting = sightings.lock();
        assert_eq!((waiting.times.len(), waiting.left_out), (MOST_WAITING, 3));
        let long = waiting.times.keys().find(|key| key.fingerprint == "b").unwrap();
        assert_eq!(long.client, "");
        assert_eq!(
            ["token 12 gate way", "token x y", "certificate a"].map(without_number),
            ["gate way", "token x y", "certificate a"]
        );
    }

    #[test]
    fn what_was_written_does_not_wait_any_more() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("s.db").to_str().unwrap()).unwrap();
        let sightings = Sightings::new(1, || 7);
        saw(&sightings, "a", "one");
        saw(&sightings, "b", "one");
        sightings.write(&store).unwrap();
        assert!(sightings.lock().times.is_empty());
        let kept = ["a", "b"].map(|fingerprint| {
            let query = layersift_store::Query::Secret(fingerprint.into());
            store.trace(&query, None, 1).unwrap().prompts.len()
        });
        assert_eq!(kept.iter().sum::<usize>(), 1, "the store keeps one");
    }
}
