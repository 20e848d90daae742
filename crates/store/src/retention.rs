//! Retention: what nobody asks for any more is removed. Runs and what they found stay, and so does the index of
//! findings: they say what is new, and answer traces.
//!
//! Rows are found without holding others off, and removed in short transactions that look at each row again: what was
//! asked for or listed in the meantime stays.

use layersift_model::LayerKey;

use super::backend::{Connection, Value, list};
use super::error::{Fault, StoreError};
use super::ids::KeyId;
use super::{Seconds, Store, intern};

/// How many rows one transaction removes, or little more; reports may be large.
const BATCH: usize = 256;

/// Seconds for which the report of a task is kept: a Harbor that waits for one asks every few seconds.
const TASKS: Seconds = 3_600;

/// How long things are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Seconds after which reports that nobody needs are removed, and images that nobody asked about again.
    pub reports: Seconds,
    /// Seconds after which scan requests and messages that ended are removed, and tokens that open nothing any more.
    pub requests: Seconds,
}

/// How many rows were removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Scan requests that were done or had failed.
    pub requests: u64,
    /// Images that nobody asked about again.
    pub asked_images: u64,
    /// Reports of images under other keys, where there is one under the present key.
    pub superseded_reports: u64,
    /// Reports of images that no tag leads to and that nobody asked about.
    pub unused_reports: u64,
    /// Reports of layers under other keys.
    pub layer_reports: u64,
    /// Tokens that had expired or were revoked.
    pub api_tokens: u64,
    /// Tasks of a Harbor that ended, with their reports.
    pub harbor_tasks: u64,
    /// Messages that were sent or given up.
    pub notifications: u64,
}

/// Rows to remove.
pub(super) struct Rows {
    pub(super) table: &'static str,
    /// The column that the rows are removed by, in its order. Rows may share its value.
    pub(super) column: &'static str,
    /// Which rows, by the parameters from `$1` on.
    pub(super) condition: &'static str,
}

const REQUESTS: Rows = Rows {
    table: "scan_requests",
    column: "id",
    // Earlier versions did not always record the end.
    condition: "state IN ('done', 'failed') AND COALESCE(ended_at, requested_at) < $1",
};

const ASKED_IMAGES: Rows = Rows { table: "asked_images", column: "reference", condition: "last_asked < $1" };

const SUPERSEDED: Rows = Rows {
    table: "image_reports",
    column: "image_id",
    condition: "stored_at < $1 AND layer_key_id = $2 AND EXISTS (SELECT 1 FROM image_reports n \
                WHERE n.image_id = image_reports.image_id AND n.layer_key_id = $3)",
};

const UNUSED: Rows = Rows {
    table: "image_reports",
    column: "image_id",
    condition: "stored_at < $1 \
                AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.image_id = image_reports.image_id AND t.gone_at IS NULL) \
                AND NOT EXISTS (SELECT 1 FROM images i JOIN asked_images a ON a.digest = i.manifest_digest \
                  WHERE i.id = image_reports.image_id AND a.last_asked >= $1) \
                AND NOT EXISTS (SELECT 1 FROM tags t JOIN asked_images a ON a.digest = t.digest \
                  WHERE t.image_id = image_reports.image_id AND a.last_asked >= $1)",
};

const LAYER_REPORTS: Rows =
    Rows { table: "layer_reports", column: "layer_id", condition: "scanned_at < $1 AND layer_key_id = $2" };

const HARBOR_TASKS: Rows =
    Rows { table: "harbor_tasks", column: "id", condition: "((state <> 'open' AND ended_at < $1) OR deadline < $1)" };

const HARBOR_RESCANS: Rows = Rows { table: "harbor_rescans", column: "reference", condition: "asked_at < $1" };

const API_TOKENS: Rows = Rows { table: "api_tokens", column: "id", condition: "(expires_at < $1 OR revoked_at < $1)" };

const NOTIFICATIONS: Rows =
    Rows { table: "notifications", column: "id", condition: "state <> 'waiting' AND ended_at < $1" };

impl Store {
    /// Removes what is older than `retention` says and not needed under `key`, the present key:
    ///
    /// - scan requests that ended, and messages that were sent or given up;
    /// - images that nobody asked about again;
    /// - reports of images under other keys, where the image has one under `key`;
    /// - reports of images under any key, where all tags of the image are gone or it has none, and nobody asked about
    ///   it, or about an index that leads to it, since then;
    /// - reports of layers under other keys;
    /// - tokens that expired or were revoked;
    /// - tasks of a Harbor that ended, or should have, more than an hour ago.
    ///
    /// An image or a layer without a report is unknown, and is scanned again when somebody asks for it. Programs that
    /// use the same store with another key lose their old reports by this, and make them again. Several processes may
    /// prune at once. After an error, or a kill, what was removed stays removed. The file of a SQLite store does not
    /// become smaller: new rows take the place.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn prune(&self, retention: &Retention, key: &LayerKey, now: Seconds) -> Result<Pruned, StoreError> {
        let before = |age: Seconds| Value::from(now.saturating_sub(age.max(0)));
        let (reports, requests) = (before(retention.reports), before(retention.requests));
        let other_keys = "SELECT id FROM layer_keys WHERE digest <> $1 ORDER BY id";
        let (present, others): (Option<KeyId>, Vec<KeyId>) = self.read(|connection| {
            Ok((intern::known_key(connection, key)?, connection.column(other_keys, &[key.into()])?))
        })?;
        let mut pruned = Pruned {
            requests: self.remove(&REQUESTS, std::slice::from_ref(&requests), nothing)?,
            api_tokens: self.remove(&API_TOKENS, std::slice::from_ref(&requests), nothing)?,
            harbor_tasks: self.remove(&HARBOR_TASKS, &[before(TASKS)], forget_harbor_reports)?,
            notifications: self.remove(&NOTIFICATIONS, std::slice::from_ref(&requests), nothing)?,
            asked_images: self.remove(&ASKED_IMAGES, std::slice::from_ref(&reports), nothing)?,
            ..Pruned::default()
        };
        self.remove(&HARBOR_RESCANS, &[requests], nothing)?;
        for other in others {
            if let Some(present) = present {
                let values = [reports.clone(), other.into(), present.into()];
                pruned.superseded_reports += self.remove(&SUPERSEDED, &values, nothing)?;
            }
            let forget = |connection: &mut Connection, layers: &[Value]| forget_jobs(connection, other, layers);
            pruned.layer_reports += self.remove(&LAYER_REPORTS, &[reports.clone(), other.into()], forget)?;
        }
        pruned.unused_reports = self.remove(&UNUSED, &[reports], nothing)?;
        Ok(pruned)
    }

    /// Removes rows, and with each batch of them, in the same transaction, what `and_then` removes; how many rows.
    pub(super) fn remove(
        &self,
        rows: &Rows,
        values: &[Value],
        and_then: impl Fn(&mut Connection, &[Value]) -> Result<(), Fault>,
    ) -> Result<u64, StoreError> {
        let Rows { table, column, condition } = rows;
        let (mut removed, mut last) = (0, None::<Value>);
        loop {
            let mut values = values.to_vec();
            let after = match last.take() {
                None => String::new(),
                Some(last) => {
                    values.push(last);
                    format!("AND {column} > ${}", values.len())
                }
            };
            let select = format!(
                "SELECT {column} FROM {table} WHERE {condition} {after} ORDER BY {column} LIMIT ${}",
                values.len() + 1
            );
            let limited = [&values[..], &[BATCH.into()]].concat();
            let found: Vec<Value> = self.read(|connection| connection.column(&select, &limited))?;
            if found.is_empty() {
                return Ok(removed);
            }
            if !after.is_empty() {
                values.pop();
            }
            let (ids, numbers) = list(found.iter().cloned(), values.len() + 1);
            let delete = format!("DELETE FROM {table} WHERE {condition} AND {column} IN ({numbers})");
            removed += self.write(|connection| {
                let count = connection.execute(&delete, &[&values[..], &ids].concat())?;
                and_then(connection, &found)?;
                Ok(count)
            })?;
            last = found.into_iter().next_back();
        }
    }
}

fn nothing(_: &mut Connection, _: &[Value]) -> Result<(), Fault> {
    Ok(())
}

/// Removes the reports of tasks that are no longer there.
fn forget_harbor_reports(connection: &mut Connection, tasks: &[Value]) -> Result<(), Fault> {
    let (ids, numbers) = list(tasks.iter().cloned(), 1);
    let sql = format!(
        "DELETE FROM harbor_reports WHERE task IN ({numbers}) \
         AND NOT EXISTS (SELECT 1 FROM harbor_tasks t WHERE t.id = harbor_reports.task)"
    );
    connection.execute(&sql, &ids).map(drop)
}

/// Removes the jobs that made reports of layers which are no longer there, so that the layers can be queued again.
fn forget_jobs(connection: &mut Connection, key: KeyId, layers: &[Value]) -> Result<(), Fault> {
    let (ids, numbers) = list(layers.iter().cloned(), 2);
    let sql = format!(
        "DELETE FROM jobs WHERE layer_key_id = $1 AND state = 'done' AND layer_id IN ({numbers}) \
         AND NOT EXISTS (SELECT 1 FROM layer_reports r WHERE r.layer_id = jobs.layer_id AND r.layer_key_id = $1)"
    );
    connection.execute(&sql, &[&[key.into()], &ids[..]].concat()).map(drop)
}
