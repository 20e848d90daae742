//! The queue of layers to read, for workers on any number of machines. It is in the store itself, so that a layer's
//! result and the end of its job are one transaction.
//!
//! A worker claims jobs for a time, its lease. Who claims a job gets a number that no other claim has: the result of a
//! worker whose job went to another is refused. After three attempts a layer is poisoned: set aside, and listed.

use std::collections::{HashMap, HashSet};

use super::backend::{Connection, Row, Value};
use super::error::{Fault, StoreError};
use super::images::ImageLayer;
use super::intern::{self, select_in};
use super::reports::{self, ReportRecord};
use super::{Seconds, Store};
use layersift_model::Digest;

/// How often a layer is tried before it is set aside.
const ATTEMPTS: i64 = 3;

/// How many places a job remembers that its blob can be pulled from.
const SOURCES: usize = 8;

/// How much of an error is kept, in characters.
const ERROR: usize = 2000;

/// How many leases that ran out are looked after in one claim.
const EXPIRED: usize = 1000;

/// A layer to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The digest of its blob.
    pub layer: Digest,
    /// The size of its blob in bytes.
    pub size: u64,
    /// Higher comes first.
    pub priority: i64,
    /// Where the blob can be pulled from, in the caller's own words; without credentials.
    pub source: String,
}

/// A claim on a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The digest of the layer's blob.
    pub layer: Digest,
    /// The digest of the rules to read it with.
    pub ruleset: String,
    /// Which attempt this is, from 1.
    pub attempt: u64,
    job: i64,
    claim: i64,
}

/// A job that was claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The claim, to renew, finish, fail or release it with.
    pub lease: Lease,
    /// The size of the blob in bytes.
    pub size: u64,
    /// Where the blob can be pulled from.
    pub sources: Vec<String>,
}

/// How many jobs are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Waiting for a worker.
    pub queued: u64,
    /// With a worker.
    pub leased: u64,
    /// Done.
    pub done: u64,
    /// Set aside.
    pub poisoned: u64,
}

impl Store {
    /// Queues layers to be read with the rules `ruleset`; the number of new jobs. A layer that has a report is not
    /// queued. One that has a job learns of a further source, and moves up if the new priority is higher.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn enqueue(&self, ruleset: &str, jobs: &[Job], now: Seconds) -> Result<u64, StoreError> {
        self.write(|connection| {
            let ruleset = intern::ruleset(connection, ruleset)?;
            let named: Vec<ImageLayer> = jobs.iter().map(named).collect();
            let layers = intern::layers(connection, named.iter())?;
            let ids: Vec<Value> = layers.values().map(|id| Value::from(*id)).collect();
            let reported = "SELECT layer_id FROM layer_reports WHERE ruleset_id = $1 AND layer_id IN ({list})";
            let rows = select_in(connection, reported, &[ruleset.into()], &ids)?;
            let reported: HashSet<i64> = rows.iter().map(|row| row.int(0)).collect::<Result<_, _>>()?;
            let mut added = 0;
            // In the order of the layers, so that two processes do not wait for each other in a circle.
            let mut wanted: Vec<(i64, usize)> = jobs
                .iter()
                .enumerate()
                .filter_map(|(index, job)| Some((*layers.get(&job.layer.to_string())?, index)))
                .filter(|(layer, _)| !reported.contains(layer))
                .collect();
            wanted.sort_unstable();
            for (layer, index) in wanted {
                added += u64::from(add(connection, layer, ruleset, &jobs[index], now)?);
            }
            Ok(added)
        })
    }

    /// Gives at most `count` jobs for the rules `ruleset` to `owner` for `seconds`: by priority, then the oldest first.
    /// Jobs whose lease ran out are given out again.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn claim(
        &self,
        owner: &str,
        ruleset: &str,
        count: usize,
        seconds: i64,
        now: Seconds,
    ) -> Result<Vec<Task>, StoreError> {
        self.write(|connection| {
            expire(connection, now)?;
            let Some(number) = intern::known_ruleset(connection, ruleset)? else { return Ok(Vec::new()) };
            let sql = format!(
                "SELECT id FROM jobs WHERE state = 'queued' AND ruleset_id = $1 AND not_before <= $2 \
                 ORDER BY priority DESC, enqueued_at, id LIMIT $3 {}",
                connection.skip_locked()
            );
            let rows = connection.query(&sql, &[number.into(), now.into(), count.into()])?;
            let ids: Vec<i64> = rows.iter().map(|row| row.int(0)).collect::<Result<_, _>>()?;
            ids.iter().map(|id| lease(connection, *id, ruleset, owner, now.saturating_add(seconds))).collect()
        })
    }

    /// Prolongs leases to `seconds` from now; those that still hold.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn renew(&self, leases: &[Lease], seconds: i64, now: Seconds) -> Result<Vec<Lease>, StoreError> {
        let sql = "UPDATE jobs SET lease_until = $3 WHERE id = $1 AND claims = $2 AND state = 'leased'";
        self.write(|connection| {
            let mut held = Vec::new();
            for lease in leases {
                let until = now.saturating_add(seconds);
                if connection.execute(sql, &[lease.job.into(), lease.claim.into(), until.into()])? == 1 {
                    held.push(lease.clone());
                }
            }
            Ok(held)
        })
    }

    /// Stores the result of a job and ends it, in one transaction. `false`, and nothing is stored, when the job was
    /// given to another worker or ended otherwise in the meantime.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for the report of another layer or rule set, [`StoreError::Database`].
    pub fn finish(&self, lease: &Lease, report: &ReportRecord) -> Result<bool, StoreError> {
        let done = "UPDATE jobs SET state = 'done', lease_owner = NULL, lease_until = NULL, error = NULL \
                    WHERE id = $1 AND claims = $2 AND state <> 'done'";
        self.write(|connection| {
            if (&lease.layer, &lease.ruleset) != (&report.layer, &report.ruleset) {
                let reason = format!("its job is for the layer {} and the rules {}", lease.layer, lease.ruleset);
                return Err(Fault::invalid(format!("the report of {}", report.layer), reason));
            }
            if connection.execute(done, &[lease.job.into(), lease.claim.into()])? == 0 {
                return Ok(false);
            }
            reports::put(connection, report)?;
            connection.execute("DELETE FROM job_sources WHERE job_id = $1", &[lease.job.into()])?;
            Ok(true)
        })
    }

    /// Says that an attempt failed with `error`, without secrets. The layer is tried again from `not_before` on, or
    /// set aside after the third time. `false` when the job was given to another worker in the meantime.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn fail(&self, lease: &Lease, error: &str, not_before: Seconds) -> Result<bool, StoreError> {
        let sql = "UPDATE jobs SET state = CASE WHEN attempts >= $3 THEN 'poisoned' ELSE 'queued' END, \
                   lease_owner = NULL, lease_until = NULL, error = $4, not_before = $5 \
                   WHERE id = $1 AND claims = $2 AND state = 'leased'";
        let error: String = error.chars().take(ERROR).collect();
        let values = [lease.job.into(), lease.claim.into(), ATTEMPTS.into(), error.into(), not_before.into()];
        self.write(|connection| Ok(connection.execute(sql, &values)? == 1))
    }

    /// Gives a job back without an attempt: the worker ends, or the registry asks for patience until `not_before`.
    /// `false` when the job was given to another worker in the meantime.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn release(&self, lease: &Lease, not_before: Seconds) -> Result<bool, StoreError> {
        let sql = "UPDATE jobs SET state = 'queued', attempts = attempts - 1, lease_owner = NULL, lease_until = NULL, \
                   not_before = $3 WHERE id = $1 AND claims = $2 AND state = 'leased'";
        let values = [lease.job.into(), lease.claim.into(), not_before.into()];
        self.write(|connection| Ok(connection.execute(sql, &values)? == 1))
    }

    /// Those of `layers` that were set aside for the rules `ruleset`, with what went wrong the last time.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn given_up(&self, layers: &[Digest], ruleset: &str) -> Result<HashMap<Digest, String>, StoreError> {
        let sql = "SELECT l.digest, j.error FROM layers l JOIN jobs j ON j.layer_id = l.id \
                   JOIN rulesets s ON s.id = j.ruleset_id \
                   WHERE j.state = 'poisoned' AND s.digest = $1 AND l.digest IN ({list})";
        let digests: Vec<Value> = layers.iter().map(Value::from).collect();
        self.read(|connection| {
            let rows = select_in(connection, sql, &[ruleset.into()], &digests)?;
            rows.iter().map(|row| Ok((row.digest(0)?, row.maybe_text(1)?.unwrap_or_default()))).collect()
        })
    }

    /// Queues layers that were set aside again, with three more attempts; how many there were.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn revive(&self, ruleset: &str, layers: &[Digest]) -> Result<u64, StoreError> {
        let sql = "UPDATE jobs SET state = 'queued', attempts = 0, not_before = 0 WHERE state = 'poisoned' \
                   AND ruleset_id = $1 AND layer_id = $2";
        self.write(|connection| {
            let Some(ruleset) = intern::known_ruleset(connection, ruleset)? else { return Ok(0) };
            let mut revived = 0;
            for layer in layers {
                let Some(layer) = intern::known_layer(connection, layer)? else { continue };
                revived += connection.execute(sql, &[ruleset.into(), layer.into()])?;
            }
            Ok(revived)
        })
    }

    /// How many jobs for the rules `ruleset` are in which state.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn counts(&self, ruleset: &str) -> Result<Counts, StoreError> {
        let sql = "SELECT j.state, count(*) FROM jobs j JOIN rulesets s ON s.id = j.ruleset_id \
                   WHERE s.digest = $1 GROUP BY j.state";
        self.read(|connection| {
            let rows = connection.query(sql, &[ruleset.into()])?;
            let count = |row: &Row| Ok((row.text(0)?, row.count(1)?));
            let counts: HashMap<String, u64> = rows.iter().map(count).collect::<Result<_, Fault>>()?;
            let of = |state: &str| counts.get(state).copied().unwrap_or(0);
            Ok(Counts { queued: of("queued"), leased: of("leased"), done: of("done"), poisoned: of("poisoned") })
        })
    }
}

fn named(job: &Job) -> ImageLayer {
    ImageLayer { digest: job.layer.clone(), diff_id: None, created_by: None, blob_bytes: job.size }
}

/// Adds a job, or what is new about one that is there; whether it is new.
fn add(connection: &mut Connection, layer: i64, ruleset: i64, job: &Job, now: Seconds) -> Result<bool, Fault> {
    let sql = "INSERT INTO jobs (layer_id, ruleset_id, size, priority, state, enqueued_at) \
               VALUES ($1, $2, $3, $4, 'queued', $5) ON CONFLICT DO NOTHING RETURNING id";
    let values = [layer.into(), ruleset.into(), job.size.into(), job.priority.into(), now.into()];
    let row = connection.query_one(sql, &values)?;
    let is_new = row.is_some();
    let id = match row {
        Some(row) => row.int(0)?,
        None => {
            let sql = "SELECT id, priority FROM jobs WHERE layer_id = $1 AND ruleset_id = $2";
            let Some(row) = connection.query_one(sql, &[layer.into(), ruleset.into()])? else { return Ok(false) };
            if row.int(1)? < job.priority {
                let sql = "UPDATE jobs SET priority = $2 WHERE id = $1 AND priority < $2";
                connection.execute(sql, &[row.int(0)?.into(), job.priority.into()])?;
            }
            row.int(0)?
        }
    };
    let known = connection.query_one("SELECT count(*) FROM job_sources WHERE job_id = $1", &[id.into()])?;
    if known.map(|row| row.count(0)).transpose()?.unwrap_or(0) < SOURCES as u64 {
        let sql = "INSERT INTO job_sources (job_id, hash, source) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        connection.execute(sql, &[id.into(), intern::hash(&[&job.source]).into(), (&job.source).into()])?;
    }
    Ok(is_new)
}

/// Queues jobs whose lease ran out again, or sets them aside.
fn expire(connection: &mut Connection, now: Seconds) -> Result<(), Fault> {
    let sql = format!(
        "UPDATE jobs SET state = CASE WHEN attempts >= $1 THEN 'poisoned' ELSE 'queued' END, \
         error = 'the lease of ' || COALESCE(lease_owner, 'a worker') || ' ran out', \
         lease_owner = NULL, lease_until = NULL WHERE id IN (SELECT id FROM jobs WHERE state = 'leased' \
         AND lease_until <= $2 ORDER BY id LIMIT $3 {})",
        connection.skip_locked()
    );
    connection.execute(&sql, &[ATTEMPTS.into(), now.into(), EXPIRED.into()]).map(drop)
}

fn lease(connection: &mut Connection, job: i64, ruleset: &str, owner: &str, until: Seconds) -> Result<Task, Fault> {
    let sql = "UPDATE jobs SET state = 'leased', attempts = attempts + 1, claims = claims + 1, lease_owner = $2, \
               lease_until = $3 WHERE id = $1 RETURNING attempts, claims, size, \
               (SELECT digest FROM layers WHERE layers.id = jobs.layer_id)";
    let row = connection.query_one(sql, &[job.into(), owner.into(), until.into()])?;
    let row = row.ok_or_else(|| Fault::Damaged(format!("no job {job} where there was one")))?;
    let sources = connection.query("SELECT source FROM job_sources WHERE job_id = $1 ORDER BY hash", &[job.into()])?;
    Ok(Task {
        lease: Lease {
            layer: row.digest(3)?,
            ruleset: ruleset.to_string(),
            attempt: row.count(0)?,
            job,
            claim: row.int(1)?,
        },
        size: row.count(2)?,
        sources: sources.iter().map(|row| row.text(0)).collect::<Result<_, _>>()?,
    })
}
