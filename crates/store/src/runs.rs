//! Runs: sweeps over a target, what they cost and saved, and what each was the first to find.
//!
//! What is found for the first time is announced once, by the run that found it. A run is alive while it renews its
//! lease. What a run that is not alive found and did not announce is adopted by the next run over the same target that
//! ends: from then on it is that run's to announce, and no other's, even if the first run was alive after all. It
//! counts as announced when the report was written: after a kill in between the next run announces it again.

use std::collections::BTreeSet;

use layersift_model::{Confidence, Digest, LayerKey, NewFinding, RuleSummary, Severity, SweepSums};

use super::backend::{Columns, Connection, FromValue, NOT_EXCEPTED, Value, list, named, row};
use super::error::{Fault, StoreError};
use super::findings::ABSENT;
use super::ids::{ImageId, RunId};
use super::page::Page;
use super::process::{self, Processes};
use super::{Seconds, Store, intern};

/// How long the first lease of a run holds, in seconds.
const LEASE: i64 = 30;

/// No lease is longer, in seconds: a year.
const LONGEST: i64 = 366 * 24 * 3600;

/// The state of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunStatus {
    /// It has not ended, or its process died.
    Running,
    /// It did everything it was to do.
    Done,
    /// It ended early.
    Failed,
}

impl RunStatus {
    const ALL: [RunStatus; 3] = [RunStatus::Running, RunStatus::Done, RunStatus::Failed];

    /// The status as it is written.
    pub fn name(self) -> &'static str {
        match self {
            RunStatus::Running => "running",
            RunStatus::Done => "done",
            RunStatus::Failed => "failed",
        }
    }
}

impl FromValue for RunStatus {
    fn from_value(value: Value) -> Result<RunStatus, Fault> {
        named(value, "status of a run", RunStatus::ALL, RunStatus::name)
    }
}

/// A run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its number.
    pub id: RunId,
    /// What was swept.
    pub target: String,
    /// The key of its reports.
    pub key: LayerKey,
    /// When it began.
    pub started_at: Seconds,
    /// When it ended.
    pub ended_at: Option<Seconds>,
    /// What it did.
    pub sums: SweepSums,
    /// Its state.
    pub status: RunStatus,
}

row! {
    struct RunRow {
        id: RunId = "r.id",
        target: String = "r.target",
        key: LayerKey = "k.digest",
        started_at: Seconds = "r.started_at",
        ended_at: Option<Seconds> = "r.ended_at",
        images: u64 = "r.images",
        layers_read: u64 = "r.layers_read",
        layers_known: u64 = "r.layers_known",
        bytes_pulled: u64 = "r.bytes_pulled",
        bytes_saved: u64 = "r.bytes_saved",
        status: RunStatus = "r.status",
    }
}

impl From<RunRow> for Run {
    fn from(row: RunRow) -> Run {
        let RunRow { id, target, key, started_at, ended_at, status, .. } = row;
        let sums = SweepSums {
            images: row.images,
            layers_read: row.layers_read,
            layers_known: row.layers_known,
            bytes_pulled: row.bytes_pulled,
            bytes_saved: row.bytes_saved,
        };
        Run { id, target, key, started_at, ended_at, sums, status }
    }
}

/// Where something is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// No run over the same target found it before.
    Target,
    /// No run over any target found it before.
    Store,
}

/// The runs of a store; see [`Store::runs`].
pub struct Runs<'s> {
    pub(super) store: &'s Store,
}

impl<'s> Runs<'s> {
    pub(super) fn new(store: &'s Store) -> Runs<'s> {
        Runs { store }
    }

    /// Begins a run over `target`, which is without credentials.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a target of more than 512 bytes, [`StoreError::Database`].
    pub fn start(&self, target: &str, key: &LayerKey, now: Seconds) -> Result<RunId, StoreError> {
        let sql = "INSERT INTO runs (target, layer_key_id, started_at, status, lease_process, lease_until, \
                   lease_seconds) VALUES ($1, $2, $3, 'running', $4, $5, $6) RETURNING id";
        self.store.write(|connection| {
            intern::check_key("the target of a run", target)?;
            let key = intern::layer_key(connection, key)?;
            let mut values = vec![Value::from(target), key.into(), now.into()];
            values.extend([process::own().into(), now.saturating_add(LEASE).into(), LEASE.into()]);
            connection.value(sql, &values)?.ok_or_else(|| Fault::missing("a run"))
        })
    }

    /// Says that a run is alive, for `seconds` from now.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] for a run that is not in the store, [`StoreError::Database`].
    pub fn renew(&self, run: RunId, seconds: i64, now: Seconds) -> Result<(), StoreError> {
        let sql = "UPDATE runs SET lease_until = $2, lease_seconds = $3 WHERE id = $1";
        let seconds = seconds.min(LONGEST);
        let values = [run.into(), now.saturating_add(seconds).into(), seconds.into()];
        self.store.write(|connection| match connection.execute(sql, &values)? {
            0 => Err(unknown(run)),
            _ => Ok(()),
        })
    }

    /// Records what a run has done so far, and with [`RunStatus::Done`] or [`RunStatus::Failed`] its end.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] for a run that is not in the store, [`StoreError::Database`].
    pub fn update(&self, run: RunId, sums: &SweepSums, status: RunStatus, now: Seconds) -> Result<(), StoreError> {
        let sql = "UPDATE runs SET images = $2, layers_read = $3, layers_known = $4, bytes_pulled = $5, \
                   bytes_saved = $6, status = $7, ended_at = $8 WHERE id = $1";
        let SweepSums { images, layers_read, layers_known, bytes_pulled, bytes_saved } = *sums;
        let mut values = vec![Value::from(run)];
        values.extend([images, layers_read, layers_known, bytes_pulled, bytes_saved].map(Value::from));
        values.push(status.name().into());
        values.push((status != RunStatus::Running).then_some(now).into());
        self.store.write(|connection| match connection.execute(sql, &values)? {
            0 => Err(unknown(run)),
            _ => Ok(()),
        })
    }

    /// The latest runs, newest first; those over `target` only, where one is named.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn list(&self, target: Option<&str>, limit: usize) -> Result<Page<Run>, StoreError> {
        let condition = if target.is_some() { "WHERE r.target = $1" } else { "" };
        let sql = format!(
            "SELECT {} FROM runs r JOIN layer_keys k ON k.id = r.layer_key_id {condition} ORDER BY r.id DESC",
            RunRow::COLUMNS
        );
        let values: Vec<Value> = target.map(Value::from).into_iter().collect();
        let page = self.store.read(|connection| connection.page::<RunRow>(&sql, &values, limit))?;
        Ok(page.map(Run::from))
    }

    /// Records that a run came across images whose reports were stored before, so that what is in them is not new to
    /// the run's target the next time.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] for a run that is not in the store, [`StoreError::Database`].
    pub fn see_images(&self, run: RunId, images: &[ImageId]) -> Result<(), StoreError> {
        let (images, numbers) = list(images.iter().copied().map(Value::from), 2);
        // What a layer brings, except where the image differs, and where the image differs: as in a trace.
        let sql = format!(
            "INSERT INTO sightings (thing, target, run_id, image_id) \
             SELECT held.thing, r.target, r.id, MIN(held.image_id) FROM runs r CROSS JOIN ( \
               SELECT COALESCE(f.fingerprint, f.finding_id) AS thing, f.layer_key_id, il.image_id \
               FROM image_layers il JOIN findings f ON f.layer_id = il.layer_id \
               WHERE il.image_id IN ({numbers}) AND f.shared = 1 AND (f.excepted = 0 OR {NOT_EXCEPTED}) \
               UNION ALL SELECT COALESCE(f.fingerprint, f.finding_id), f.layer_key_id, x.image_id \
               FROM image_findings x JOIN findings f ON f.id = x.finding \
               WHERE x.image_id IN ({numbers}) AND (f.shared = 0 OR f.excepted = 1) AND x.state <> '{ABSENT}' \
             ) AS held WHERE r.id = $1 AND held.layer_key_id = r.layer_key_id \
             GROUP BY held.thing, r.target, r.id ORDER BY held.thing ON CONFLICT DO NOTHING"
        );
        self.store.write(|connection| {
            target_of(connection, run)?;
            connection.execute(&sql, &[&[run.into()], images.as_slice()].concat()).map(drop)
        })
    }

    /// Makes what runs over the same target found, that are not alive any more, and did not announce, news of `run`.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] for a run that is not in the store, [`StoreError::Database`].
    pub fn adopt(&self, run: RunId, now: Seconds) -> Result<(), StoreError> {
        let rest = "FROM runs r WHERE r.id <> $1 AND r.id IN (SELECT COALESCE(s.announcer_id, s.run_id) \
                    FROM sightings s WHERE s.target = $2 AND s.announced = 0) ORDER BY r.id";
        self.store.write(|connection| {
            let target = target_of(connection, run)?;
            let mut processes = Processes::default();
            let runs: Vec<AnnouncerRow> = connection.select(rest, &[run.into(), (&target).into()])?;
            for dead in runs.iter().filter(|other| !other.is_alive(&mut processes, now)) {
                let sql = "UPDATE sightings SET announcer_id = $1 \
                           WHERE target = $2 AND announced = 0 AND COALESCE(announcer_id, run_id) = $3";
                connection.execute(sql, &[run.into(), (&target).into(), dead.id.into()])?;
            }
            Ok(())
        })
    }

    /// Says that the news of a run were announced: all, or where the list was not complete those up to its last one.
    /// The others are left to the next run.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn announce(&self, run: RunId, last: Option<&str>) -> Result<(), StoreError> {
        // A first sweep may find more than is read at once.
        let (sql, values) = announcement(run, last);
        self.store.write(|connection| {
            connection.execute(&sql, &values)?;
            end_announcing(connection, run)
        })
    }

    /// What a run was the first to find, or adopted, in the order of fingerprints and ids; at most `limit` things.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn news(&self, run: RunId, scope: Scope, limit: usize) -> Result<Page<NewFinding>, StoreError> {
        let earlier = match scope {
            Scope::Target => "",
            Scope::Store => {
                "AND NOT EXISTS (SELECT 1 FROM sightings o WHERE o.thing = s.thing AND o.run_id < s.run_id)"
            }
        };
        let sql = format!(
            "SELECT s.thing, i.manifest_digest FROM sightings s JOIN images i ON i.id = s.image_id \
             WHERE ((s.run_id = $1 AND s.announcer_id IS NULL) OR s.announcer_id = $1) {earlier} ORDER BY s.thing"
        );
        self.store.read(|connection| {
            let page: Page<(String, Digest)> = connection.page(&sql, &[run.into()], limit)?;
            let mut news = Page { items: Vec::with_capacity(page.items.len()), is_complete: page.is_complete };
            for (thing, image) in page.items {
                news.items.extend(example(connection, thing, image)?);
            }
            Ok(news)
        })
    }
}

row! {
    /// A run that has something to announce.
    struct AnnouncerRow {
        id: RunId = "r.id",
        process: Option<String> = "r.lease_process",
        until: Option<Seconds> = "r.lease_until",
        seconds: Option<i64> = "r.lease_seconds",
    }
}

impl AnnouncerRow {
    fn is_alive(&self, processes: &mut Processes, now: Seconds) -> bool {
        let Some((until, seconds)) = self.until.zip(self.seconds) else { return false };
        // A lease that ends further away than it is long was given by a clock that was wrong.
        let left = until.saturating_sub(now);
        (0..=seconds.saturating_mul(2)).contains(&left)
            && !self.process.as_ref().is_some_and(|process| processes.is_dead(process))
    }
}

/// Says that the news of a run were announced, as [`Runs::announce`] does. Those things that were not announced before.
pub(super) fn announce(connection: &mut Connection, run: RunId, last: Option<&str>) -> Result<Vec<String>, Fault> {
    let (sql, values) = announcement(run, last);
    let things = connection.column(&format!("{sql} RETURNING thing"), &values)?;
    end_announcing(connection, run).map(|()| things)
}

/// The statement that says so of a run, and its values.
fn announcement(run: RunId, last: Option<&str>) -> (String, Vec<Value>) {
    let up_to = if last.is_some() { "AND thing <= $2" } else { "" };
    let sql = format!(
        "UPDATE sightings SET announced = 1 WHERE announced = 0 {up_to} \
         AND ((run_id = $1 AND announcer_id IS NULL) OR announcer_id = $1)"
    );
    (sql, std::iter::once(run.into()).chain(last.map(Value::from)).collect())
}

/// A run has nothing more to say: what is left is adopted at once.
fn end_announcing(connection: &mut Connection, run: RunId) -> Result<(), Fault> {
    connection.execute("UPDATE runs SET lease_until = NULL WHERE id = $1", &[run.into()]).map(drop)
}

/// Records that a run came across `things` in `image`.
pub(super) fn see(
    connection: &mut Connection,
    run: RunId,
    image: ImageId,
    things: &BTreeSet<String>,
) -> Result<(), Fault> {
    let target = target_of(connection, run)?;
    let row = |thing: &String| [Value::from(thing), Value::from(&target), run.into(), image.into()];
    let values: Vec<Value> = things.iter().flat_map(row).collect();
    let before = "INSERT INTO sightings (thing, target, run_id, image_id)";
    connection.insert(before, 4, &values, "ON CONFLICT DO NOTHING").map(drop)
}

fn target_of(connection: &mut Connection, run: RunId) -> Result<String, Fault> {
    connection.value("SELECT target FROM runs WHERE id = $1", &[run.into()])?.ok_or_else(|| unknown(run))
}

row! {
    struct ExampleRow {
        rule: String = "r.rule",
        title: String = "r.title",
        severity: Severity = "r.severity",
        confidence: Confidence = "r.confidence",
        masked: Option<String> = "f.masked",
        path: Option<String> = "f.path",
    }
}

/// One finding that shows what `thing` is; `None` where all its findings were removed.
fn example(connection: &mut Connection, thing: String, image: Digest) -> Result<Option<NewFinding>, Fault> {
    let mut found = None;
    for column in ["fingerprint", "finding_id"] {
        let rest = format!("FROM findings f JOIN rules r ON r.id = f.rule_id WHERE f.{column} = $1 LIMIT 1");
        found = connection.select::<ExampleRow>(&rest, &[Value::from(&thing)])?.into_iter().next();
        if found.is_some() {
            break;
        }
    }
    let Some(ExampleRow { rule, title, severity, confidence, masked, path }) = found else { return Ok(None) };
    let rule = RuleSummary { id: rule, title, severity, confidence };
    Ok(Some(NewFinding { thing, image, rule, masked, path }))
}

fn unknown(run: RunId) -> Fault {
    Fault::unknown(format!("run {}", run.number()))
}
