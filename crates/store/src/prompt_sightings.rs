//! Secrets that a service saw in prompts and in answers of models: fingerprints, from whom and when, never a text.

use std::collections::{HashMap, HashSet};

use layersift_model::{PromptDirection, TraceReport, TracedPrompt};

use super::backend::{Connection, Value, list, row};
use super::error::{Fault, StoreError};
use super::retention::Rows;
use super::{Seconds, Store, intern};

/// How many sightings are written in one transaction.
const BATCH: usize = 512;

/// How many fingerprints of an answer to a trace are looked up, and how many sightings it names.
const FINGERPRINTS: usize = 1_000;
const SIGHTINGS: usize = 1_000;

const OLD: Rows = Rows { table: "prompt_sightings", column: "fingerprint", condition: "last_seen < $1" };

/// A secret in prompts or answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PromptSighting {
    /// The keyed fingerprint of the secret.
    pub fingerprint: String,
    /// Whose text it was in.
    pub direction: PromptDirection,
    /// The client, without a secret; empty if it has no such name.
    pub client: String,
    /// The model, without a secret; empty if it is not known.
    pub model: String,
    /// The id of the rule that found it.
    pub rule: String,
    /// When it was seen first, and last.
    pub first_seen: Seconds,
    /// See `first_seen`.
    pub last_seen: Seconds,
}

/// What was seen in prompts; see [`Store::prompt_sightings`].
pub struct PromptSightings<'s> {
    store: &'s Store,
}

impl<'s> PromptSightings<'s> {
    pub(super) fn new(store: &'s Store) -> PromptSightings<'s> {
        PromptSightings { store }
    }

    /// Keeps sightings, at most `most` in the whole store: what is known gets its new times, and what is new is left
    /// out when the store is full, since the first sightings say where a secret is from. Returns how many were left
    /// out. After an error some may be kept.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a text of more than 512 bytes, [`StoreError::Database`].
    pub fn note(&self, sightings: &[PromptSighting], most: u64) -> Result<u64, StoreError> {
        // Rows in order keep processes from waiting in a circle.
        let mut sightings: Vec<&PromptSighting> = sightings.iter().collect();
        sightings.sort();
        let mut left_out = 0;
        for some in sightings.chunks(BATCH) {
            left_out += self.store.write(|connection| note(connection, some, most))?;
        }
        Ok(left_out)
    }

    /// Removes what was seen last before `before`; how many.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn forget(&self, before: Seconds) -> Result<u64, StoreError> {
        self.store.remove(&OLD, &[before.into()], |_, _| Ok(()))
    }
}

fn note(connection: &mut Connection, some: &[&PromptSighting], most: u64) -> Result<u64, Fault> {
    let known: u64 = connection.value("SELECT count(*) FROM prompt_sightings", &[])?.unwrap_or(0);
    let mut room = most.saturating_sub(known);
    let mut left_out = 0;
    for sighting in some {
        for text in [&sighting.fingerprint, &sighting.client, &sighting.model, &sighting.rule] {
            intern::check_key("what was seen in a prompt", text)?;
        }
        if connection.execute(UPDATE, &values(sighting))? == 1 {
            continue;
        }
        if room == 0 {
            left_out += 1;
            continue;
        }
        // Another process may have been quicker.
        connection.execute(INSERT, &values(sighting))?;
        room -= 1;
    }
    Ok(left_out)
}

const UPDATE: &str = "UPDATE prompt_sightings SET \
     first_seen = CASE WHEN first_seen < $6 THEN first_seen ELSE $6 END, \
     last_seen = CASE WHEN last_seen > $7 THEN last_seen ELSE $7 END \
     WHERE fingerprint = $1 AND direction = $2 AND client = $3 AND model = $4 AND $5 <> ''";

const INSERT: &str = "INSERT INTO prompt_sightings \
     (fingerprint, direction, client, model, rule, first_seen, last_seen) VALUES ($1, $2, $3, $4, $5, $6, $7) \
     ON CONFLICT DO NOTHING";

fn values(sighting: &PromptSighting) -> [Value; 7] {
    let PromptSighting { fingerprint, direction, client, model, rule, first_seen, last_seen } = sighting;
    [
        fingerprint.into(),
        direction.name().into(),
        client.into(),
        model.into(),
        rule.into(),
        (*first_seen).into(),
        (*last_seen).into(),
    ]
}

row! {
    struct SightingRow {
        fingerprint: String = "fingerprint",
        direction: String = "direction",
        client: String = "client",
        model: String = "model",
        rule: String = "rule",
        first_seen: Seconds = "first_seen",
        last_seen: Seconds = "last_seen",
    }
}

impl SightingRow {
    fn traced(self) -> Result<TracedPrompt, Fault> {
        let direction = PromptDirection::named(&self.direction)
            .ok_or_else(|| Fault::Damaged("a sighting in a prompt of an unknown direction".into()))?;
        // Every place with the secret gets a copy.
        for text in [&self.fingerprint, &self.client, &self.model, &self.rule] {
            intern::check_key("what was seen in a prompt", text).map_err(|fault| Fault::Damaged(fault.to_string()))?;
        }
        let named = |name: String| Some(name).filter(|name| !name.is_empty());
        Ok(TracedPrompt {
            fingerprint: Some(self.fingerprint),
            direction,
            client: named(self.client),
            model: named(self.model),
            rule: self.rule,
            first_seen: self.first_seen,
            last_seen: self.last_seen,
        })
    }
}

/// Adds to `trace` where the secrets in it, and the one with the fingerprint `asked`, were seen in prompts.
pub(super) fn add_prompts(
    connection: &mut Connection,
    trace: &mut TraceReport,
    asked: Option<&str>,
) -> Result<(), Fault> {
    let findings = |trace: &TraceReport| -> Vec<String> {
        let places = trace.images.iter().flat_map(|image| &image.places);
        places.filter_map(|place| place.finding.as_ref()?.fingerprint.clone()).collect()
    };
    let mut seen = HashSet::new();
    let wanted = asked.map(String::from).into_iter().chain(findings(trace));
    let wanted: Vec<Value> =
        wanted.filter(|one| seen.insert(one.clone())).take(FINGERPRINTS).map(Value::from).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let (values, numbers) = list(wanted, 1);
    let rest = format!(
        "FROM prompt_sightings WHERE fingerprint IN ({numbers}) \
         ORDER BY first_seen, fingerprint, direction, client, model LIMIT ${}",
        values.len() + 1
    );
    let rows: Vec<SightingRow> = connection.select(&rest, &[&values[..], &[SIGHTINGS.into()]].concat())?;
    trace.prompts = rows.into_iter().map(SightingRow::traced).collect::<Result<_, _>>()?;
    let mut first: HashMap<&str, &TracedPrompt> = HashMap::new();
    for prompt in &trace.prompts {
        if let Some(fingerprint) = &prompt.fingerprint {
            first.entry(fingerprint).or_insert(prompt);
        }
    }
    let places = trace.images.iter_mut().flat_map(|image| &mut image.places);
    for finding in places.filter_map(|place| place.finding.as_mut()) {
        let prompt = finding.fingerprint.as_deref().and_then(|fingerprint| first.get(fingerprint));
        finding.first_prompt = prompt.map(|prompt| Box::new((*prompt).clone()));
    }
    Ok(())
}
