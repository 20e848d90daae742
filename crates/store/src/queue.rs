//! The queue of layers to read, for workers on any number of machines. It is in the store itself, so that a layer's
//! result and the end of its job are one transaction.
//!
//! A worker claims jobs for a time, its lease. Each claim has a number of its own, so that the result of a worker whose
//! job went to another one is refused. After three failed attempts a job is poisoned: it is not given out again.
//!
//! Leases are times of the clocks of several machines, which have to agree to within a lease. A time that is further
//! away than the lease is long was set, or is read, by a clock that is wrong: the lease begins anew then, so that it is
//! lost if nobody renews it, and kept if its owner does. The lease of a process on the same host that is known to be
//! dead has run out.

use std::collections::{HashMap, HashSet};

use layersift_model::{Digest, LayerKey};

use super::backend::{Columns, Connection, Value, row};
use super::error::{Fault, StoreError};
use super::ids::{JobId, KeyId, LayerId};
use super::images::ImageLayer;
use super::layers::{self, LayerRecord};
use super::process::{self, Processes};
use super::{Seconds, Store, intern};

/// How many failed attempts poison a job.
const ATTEMPTS: i64 = 3;

/// How many sources a job has at most.
const SOURCES: u64 = 8;

/// How much of an error is stored, in characters.
const ERROR: usize = 2000;

/// How many leases that ran out one claim handles; the next claim handles more.
const EXPIRED: usize = 1000;

/// No lease and no delay is longer, in seconds: a year.
const LONGEST: i64 = 366 * 24 * 3600;

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
    /// The key to make its report with.
    pub key: LayerKey,
    /// Which attempt this is, from 1.
    pub attempt: u64,
    job: JobId,
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

/// The number of jobs in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobCounts {
    /// Waiting for a worker.
    pub queued: u64,
    /// With a worker.
    pub leased: u64,
    /// Done.
    pub done: u64,
    /// Failed three times.
    pub poisoned: u64,
}

/// The queue of a store; see [`Store::queue`].
pub struct Queue<'s> {
    store: &'s Store,
}

impl<'s> Queue<'s> {
    pub(super) fn new(store: &'s Store) -> Queue<'s> {
        Queue { store }
    }

    /// Queues layers whose reports are to be made with `key`; the number of new jobs. A layer that has a report is not
    /// queued. A job that is queued already gets a further source, and moves up if the new priority is higher.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn enqueue(&self, key: &LayerKey, jobs: &[Job], now: Seconds) -> Result<u64, StoreError> {
        self.store.write(|connection| {
            let key = intern::layer_key(connection, key)?;
            let named: Vec<ImageLayer> = jobs.iter().map(named).collect();
            let layers = intern::layers(connection, named.iter())?;
            let ids: Vec<Value> = layers.values().copied().map(Value::from).collect();
            let reported = |list: &str| {
                format!("SELECT layer_id FROM layer_reports WHERE layer_key_id = $1 AND layer_id IN ({list})")
            };
            let reported: Vec<(LayerId,)> = connection.query_in(reported, &[key.into()], &ids)?;
            let reported: HashSet<LayerId> = reported.into_iter().map(|(layer,)| layer).collect();
            let mut added = 0;
            // In the order of the layers, so that two processes do not wait for each other in a circle.
            let mut wanted: Vec<(LayerId, usize, &Job)> = jobs
                .iter()
                .enumerate()
                .filter_map(|(index, job)| Some((*layers.get(&job.layer.to_string())?, index, job)))
                .filter(|(layer, ..)| !reported.contains(layer))
                .collect();
            wanted.sort_unstable_by_key(|(layer, index, _)| (*layer, *index));
            for (layer, _, job) in wanted {
                added += u64::from(add(connection, layer, key, job, now)?);
            }
            Ok(added)
        })
    }

    /// Gives at most `count` jobs for `key` to this process, which is called `owner`, for `seconds`: by priority, then
    /// the oldest first. Jobs whose lease ran out are given out again, and so are those of processes on this host that
    /// are dead.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn claim(
        &self,
        owner: &str,
        key: &LayerKey,
        count: usize,
        seconds: i64,
        now: Seconds,
    ) -> Result<Vec<Task>, StoreError> {
        self.store.write(|connection| {
            expire(connection, now)?;
            let Some(number) = intern::known_key(connection, key)? else { return Ok(Vec::new()) };
            let sql = format!(
                "SELECT id FROM jobs WHERE state = 'queued' AND layer_key_id = $1 \
                 AND (not_before <= $2 OR not_before > $2 + delay_seconds) \
                 ORDER BY priority DESC, enqueued_at, id LIMIT $3 {}",
                connection.skip_locked()
            );
            let ids: Vec<JobId> = connection.column(&sql, &[number.into(), now.into(), count.into()])?;
            ids.iter().map(|id| lease(connection, *id, key, owner, seconds.min(LONGEST), now)).collect()
        })
    }

    /// Extends leases to `seconds` from now; those that still hold.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn renew(&self, leases: &[Lease], seconds: i64, now: Seconds) -> Result<Vec<Lease>, StoreError> {
        let sql = "UPDATE jobs SET lease_until = $3, lease_seconds = $4 \
                   WHERE id = $1 AND claims = $2 AND state = 'leased'";
        let seconds = seconds.min(LONGEST);
        let until = now.saturating_add(seconds);
        // In order, so that two processes do not wait for each other in a circle.
        let mut leases: Vec<&Lease> = leases.iter().collect();
        leases.sort_unstable_by_key(|lease| lease.job);
        self.store.write(|connection| {
            let mut held = Vec::new();
            for lease in &leases {
                let values = [lease.job.into(), lease.claim.into(), until.into(), seconds.into()];
                if connection.execute(sql, &values)? == 1 {
                    held.push((*lease).clone());
                }
            }
            Ok(held)
        })
    }

    /// Stores the result of a job and ends it, in one transaction. `false`, and nothing is stored, when the job was
    /// given to another worker or ended otherwise in the meantime.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for the report of another layer or key, [`StoreError::Database`].
    pub fn finish(&self, lease: &Lease, report: &LayerRecord) -> Result<bool, StoreError> {
        let done = "UPDATE jobs SET state = 'done', lease_owner = NULL, lease_process = NULL, lease_until = NULL, \
                    error = NULL WHERE id = $1 AND claims = $2 AND state <> 'done'";
        self.store.write(|connection| {
            if (&lease.layer, &lease.key) != (&report.layer, &report.key) {
                let reason = format!("its job is for the layer {} and the key {}", lease.layer, lease.key);
                return Err(Fault::invalid(format!("the report of {}", report.layer), reason));
            }
            if connection.execute(done, &[lease.job.into(), lease.claim.into()])? == 0 {
                return Ok(false);
            }
            layers::put(connection, report)?;
            connection.execute("DELETE FROM job_sources WHERE job_id = $1", &[lease.job.into()])?;
            Ok(true)
        })
    }

    /// Records that an attempt failed with `error`, a text without secrets. The layer is tried again `delay` seconds
    /// from now, unless this was the third attempt. `false` when the job was given to another worker in the meantime.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn fail(&self, lease: &Lease, error: &str, delay: i64, now: Seconds) -> Result<bool, StoreError> {
        let sql = "UPDATE jobs SET state = CASE WHEN attempts >= $3 THEN 'poisoned' ELSE 'queued' END, \
                   lease_owner = NULL, lease_process = NULL, lease_until = NULL, error = $4, not_before = $5, \
                   delay_seconds = $6 WHERE id = $1 AND claims = $2 AND state = 'leased'";
        let error: String = error.chars().take(ERROR).collect();
        let delay = delay.clamp(0, LONGEST);
        let mut values = vec![lease.job.into(), lease.claim.into(), ATTEMPTS.into(), error.into()];
        values.extend([now.saturating_add(delay), delay].map(Value::from));
        self.store.write(|connection| Ok(connection.execute(sql, &values)? == 1))
    }

    /// Gives a job back, which does not count as an attempt: the worker ends, or the registry is out of reach. It is
    /// given out again `delay` seconds from now. `false` when the job was given to another worker in the meantime.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn release(&self, lease: &Lease, delay: i64, now: Seconds) -> Result<bool, StoreError> {
        let sql = "UPDATE jobs SET state = 'queued', attempts = attempts - 1, lease_owner = NULL, \
                   lease_process = NULL, lease_until = NULL, not_before = $3, delay_seconds = $4 \
                   WHERE id = $1 AND claims = $2 AND state = 'leased'";
        let delay = delay.clamp(0, LONGEST);
        let values = [lease.job.into(), lease.claim.into(), now.saturating_add(delay).into(), delay.into()];
        self.store.write(|connection| Ok(connection.execute(sql, &values)? == 1))
    }

    /// Those of `layers` whose jobs for `key` are poisoned, with the error of the last attempt.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn poisoned(&self, layers: &[Digest], key: &LayerKey) -> Result<HashMap<Digest, String>, StoreError> {
        let sql = |list: &str| {
            format!(
                "SELECT l.digest, COALESCE(j.error, '') FROM layers l JOIN jobs j ON j.layer_id = l.id \
                 JOIN layer_keys k ON k.id = j.layer_key_id \
                 WHERE j.state = 'poisoned' AND k.digest = $1 AND l.digest IN ({list})"
            )
        };
        let digests: Vec<Value> = layers.iter().map(Value::from).collect();
        let rows = self.store.read(|connection| connection.query_in(sql, &[key.into()], &digests))?;
        Ok(rows.into_iter().collect())
    }

    /// Queues those of `layers` whose jobs are poisoned again, with three more attempts; how many there were.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn retry(&self, key: &LayerKey, layers: &[Digest]) -> Result<u64, StoreError> {
        let sql = "UPDATE jobs SET state = 'queued', attempts = 0, not_before = 0 WHERE state = 'poisoned' \
                   AND layer_key_id = $1 AND layer_id = $2";
        self.store.write(|connection| {
            let Some(key) = intern::known_key(connection, key)? else { return Ok(0) };
            let mut retried = 0;
            for layer in layers {
                let Some(layer) = intern::known_layer(connection, layer)? else { continue };
                retried += connection.execute(sql, &[key.into(), layer.into()])?;
            }
            Ok(retried)
        })
    }

    /// The number of jobs for `key` in each state.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn counts(&self, key: &LayerKey) -> Result<JobCounts, StoreError> {
        let sql = "SELECT j.state, count(*) FROM jobs j JOIN layer_keys k ON k.id = j.layer_key_id \
                   WHERE k.digest = $1 GROUP BY j.state";
        let rows: Vec<(String, u64)> = self.store.read(|connection| connection.query(sql, &[key.into()]))?;
        let counts: HashMap<String, u64> = rows.into_iter().collect();
        let of = |state: &str| counts.get(state).copied().unwrap_or(0);
        Ok(JobCounts { queued: of("queued"), leased: of("leased"), done: of("done"), poisoned: of("poisoned") })
    }
}

fn named(job: &Job) -> ImageLayer {
    ImageLayer { digest: job.layer.clone(), diff_id: None, created_by: None, blob_bytes: job.size }
}

/// Adds a job, or a source and a priority to the one that is queued; whether it is new.
fn add(connection: &mut Connection, layer: LayerId, key: KeyId, job: &Job, now: Seconds) -> Result<bool, Fault> {
    let sql = "INSERT INTO jobs (layer_id, layer_key_id, size, priority, state, enqueued_at) \
               VALUES ($1, $2, $3, $4, 'queued', $5) ON CONFLICT DO NOTHING RETURNING id";
    let values = [layer.into(), key.into(), job.size.into(), job.priority.into(), now.into()];
    let added: Option<JobId> = connection.value(sql, &values)?;
    let id = match added {
        Some(id) => id,
        None => {
            let sql = "SELECT id, priority FROM jobs WHERE layer_id = $1 AND layer_key_id = $2";
            let known: Option<(JobId, i64)> = connection.query_one(sql, &[layer.into(), key.into()])?;
            let Some((id, priority)) = known else { return Ok(false) };
            if priority < job.priority {
                let sql = "UPDATE jobs SET priority = $2 WHERE id = $1 AND priority < $2";
                connection.execute(sql, &[id.into(), job.priority.into()])?;
            }
            // A manifest that says too little must not keep others from having the layer read.
            let sql = "UPDATE jobs SET size = $2 WHERE id = $1 AND size < $2";
            connection.execute(sql, &[id.into(), job.size.into()])?;
            id
        }
    };
    let known: Option<u64> = connection.value("SELECT count(*) FROM job_sources WHERE job_id = $1", &[id.into()])?;
    if known.unwrap_or(0) < SOURCES {
        let sql = "INSERT INTO job_sources (job_id, hash, source) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        connection.execute(sql, &[id.into(), intern::hash(&[&job.source]).into(), (&job.source).into()])?;
    }
    Ok(added.is_some())
}

row! {
    /// A lease that may have run out.
    struct DoubtfulRow {
        job: JobId = "id",
        claim: i64 = "claims",
        until: Seconds = "lease_until",
        seconds: i64 = "lease_seconds",
        process: Option<String> = "lease_process",
    }
}

/// Queues jobs whose lease ran out again, or poisons them after the third attempt. Leases whose end is further away
/// than they are long begin anew.
fn expire(connection: &mut Connection, now: Seconds) -> Result<(), Fault> {
    let ended = format!(
        "UPDATE jobs SET state = CASE WHEN attempts >= $4 THEN 'poisoned' ELSE 'queued' END, \
         error = 'the lease of ' || COALESCE(lease_owner, 'a worker') || ' ran out', \
         lease_owner = NULL, lease_process = NULL, lease_until = NULL WHERE id IN ({})",
        unchanged(connection)
    );
    let anew = format!("UPDATE jobs SET lease_until = $4 + lease_seconds WHERE id IN ({})", unchanged(connection));
    let mut processes = Processes::default();
    for lease in doubtful(connection, now)? {
        let DoubtfulRow { job, claim, until, seconds, process } = lease;
        let sql = match now.saturating_sub(until) {
            _ if process.is_some_and(|process| processes.is_dead(&process)) => (&ended, ATTEMPTS),
            late if (0..=seconds).contains(&late) => (&ended, ATTEMPTS),
            // Long ago, or a long time ahead: this clock was wrong, or is.
            late if late > seconds || late < seconds.saturating_mul(-2) => (&anew, now),
            _ => continue,
        };
        connection.execute(sql.0, &[job.into(), claim.into(), until.into(), sql.1.into()])?;
    }
    Ok(())
}

/// The leases that may have run out: by time, or because their process may be dead.
fn doubtful(connection: &mut Connection, now: Seconds) -> Result<Vec<DoubtfulRow>, Fault> {
    let by_time = "FROM jobs WHERE state = 'leased' AND (lease_until <= $1 OR lease_until > $1 + 2 * lease_seconds) \
                   ORDER BY id LIMIT $2";
    let mut rows: Vec<DoubtfulRow> = connection.select(by_time, &[now.into(), EXPIRED.into()])?;
    let Some((host, own)) = process::host().zip(process::own()) else { return Ok(rows) };
    let by_process = "FROM jobs WHERE state = 'leased' AND substr(lease_process, 1, length(CAST($1 AS TEXT))) = $1 \
                      AND lease_process <> $2 ORDER BY id LIMIT $3";
    rows.extend(connection.select::<DoubtfulRow>(by_process, &[host.into(), own.into(), EXPIRED.into()])?);
    rows.sort_unstable_by_key(|row| row.job);
    rows.dedup_by_key(|row| row.job);
    Ok(rows)
}

/// The job `$1`, if its lease is still that of the claim `$2` until `$3`, and no other transaction is at it.
fn unchanged(connection: &Connection) -> String {
    format!(
        "SELECT id FROM jobs WHERE id = $1 AND claims = $2 AND lease_until = $3 AND state = 'leased' {}",
        connection.skip_locked()
    )
}

row! {
    struct LeaseRow {
        attempts: u64 = "attempts",
        claims: i64 = "claims",
        size: u64 = "size",
        layer: Digest = "(SELECT digest FROM layers WHERE layers.id = jobs.layer_id)",
    }
}

fn lease(
    connection: &mut Connection,
    job: JobId,
    key: &LayerKey,
    owner: &str,
    seconds: i64,
    now: Seconds,
) -> Result<Task, Fault> {
    let sql = format!(
        "UPDATE jobs SET state = 'leased', attempts = attempts + 1, claims = claims + 1, lease_owner = $2, \
         lease_process = $3, lease_until = $4, lease_seconds = $5 WHERE id = $1 RETURNING {}",
        LeaseRow::COLUMNS
    );
    let values = [job.into(), owner.into(), process::own().into(), now.saturating_add(seconds).into(), seconds.into()];
    let row: Option<LeaseRow> = connection.query_one(&sql, &values)?;
    let LeaseRow { attempts, claims, size, layer } = row.ok_or_else(|| Fault::missing("a job"))?;
    let sources = connection.column("SELECT source FROM job_sources WHERE job_id = $1 ORDER BY hash", &[job.into()])?;
    Ok(Task { lease: Lease { layer, key: key.clone(), attempt: attempts, job, claim: claims }, size, sources })
}
