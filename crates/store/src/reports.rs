//! Layer reports, by the layer's digest and the rule set: what makes a known layer free.

use std::collections::{HashMap, HashSet};

use super::backend::{Connection, Value};
use super::error::{Fault, StoreError};
use super::images::ImageLayer;
use super::intern::{self, select_in};
use super::{Seconds, Store};
use layersift_model::Digest;

/// What scanning a layer told, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportRecord {
    /// The digest of the layer's blob.
    pub layer: Digest,
    /// The digest of the uncompressed layer, where it was read to its end.
    pub diff_id: Option<Digest>,
    /// The digest of the rules.
    pub ruleset: String,
    /// The report, in the caller's own form; without secrets.
    pub report: Vec<u8>,
    /// The size of the uncompressed layer in bytes.
    pub bytes: u64,
    /// The size of the blob in bytes.
    pub blob_bytes: u64,
    /// When the layer was read.
    pub scanned_at: Seconds,
}

impl Store {
    /// The report of `layer` by the rules `ruleset`, if there is one.
    ///
    /// # Errors
    /// [`StoreError::Database`] and [`StoreError::Damaged`].
    pub fn get_report(&self, layer: &Digest, ruleset: &str) -> Result<Option<ReportRecord>, StoreError> {
        let sql = "SELECT l.diff_id, r.report, r.bytes, r.blob_bytes, r.scanned_at FROM layer_reports r \
                   JOIN layers l ON l.id = r.layer_id JOIN rulesets s ON s.id = r.ruleset_id \
                   WHERE l.digest = $1 AND s.digest = $2";
        self.read(|connection| {
            let Some(row) = connection.query_one(sql, &[layer.into(), ruleset.into()])? else { return Ok(None) };
            Ok(Some(ReportRecord {
                layer: layer.clone(),
                diff_id: row.maybe_digest(0)?,
                ruleset: ruleset.to_string(),
                report: row.blob(1)?,
                bytes: row.count(2)?,
                blob_bytes: row.count(3)?,
                scanned_at: row.int(4)?,
            }))
        })
    }

    /// Stores a report, and settles the job for it if there is one. The first report of a layer and a rule set stays.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn put_report(&self, report: &ReportRecord) -> Result<(), StoreError> {
        let done = "UPDATE jobs SET state = 'done', lease_owner = NULL, lease_until = NULL, error = NULL \
                    WHERE layer_id = $1 AND ruleset_id = $2";
        self.write(|connection| {
            let (layer, ruleset) = put(connection, report)?;
            connection.execute(done, &[layer.into(), ruleset.into()]).map(drop)
        })
    }

    /// Removes the report of a layer by the rules `ruleset`, because nobody can read it, and the job that made it: the
    /// layer counts as unread.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn forget_report(&self, layer: &Digest, ruleset: &str) -> Result<(), StoreError> {
        self.write(|connection| {
            let Some(ruleset) = intern::known_ruleset(connection, ruleset)? else { return Ok(()) };
            let Some(layer) = intern::known_layer(connection, layer)? else { return Ok(()) };
            for table in ["layer_reports", "jobs"] {
                let sql = format!("DELETE FROM {table} WHERE layer_id = $1 AND ruleset_id = $2");
                connection.execute(&sql, &[layer.into(), ruleset.into()])?;
            }
            Ok(())
        })
    }

    /// Those of `layers` that have a report by the rules `ruleset`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn has_reports(&self, layers: &[Digest], ruleset: &str) -> Result<HashSet<Digest>, StoreError> {
        let sql = "SELECT l.digest FROM layers l JOIN layer_reports r ON r.layer_id = l.id \
                   JOIN rulesets s ON s.id = r.ruleset_id WHERE s.digest = $1 AND l.digest IN ({list})";
        let digests: Vec<Value> = layers.iter().map(Value::from).collect();
        self.read(|connection| {
            select_in(connection, sql, &[ruleset.into()], &digests)?.iter().map(|row| row.digest(0)).collect()
        })
    }

    /// When those of `layers` that have a report by any rules were last read.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn last_read(&self, layers: &[Digest]) -> Result<HashMap<Digest, Seconds>, StoreError> {
        let sql = "SELECT l.digest, MAX(r.scanned_at) FROM layers l JOIN layer_reports r ON r.layer_id = l.id \
                   WHERE l.digest IN ({list}) GROUP BY l.digest";
        let digests: Vec<Value> = layers.iter().map(Value::from).collect();
        self.read(|connection| {
            let rows = select_in(connection, sql, &[], &digests)?;
            rows.iter().map(|row| Ok((row.digest(0)?, row.int(1)?))).collect()
        })
    }

    /// Removes what an outdated rule set left: reports, findings, verdicts and jobs. The number of rows removed.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn forget_ruleset(&self, ruleset: &str) -> Result<u64, StoreError> {
        const TABLES: [&str; 5] = ["jobs", "findings", "layer_findings", "image_verdicts", "layer_reports"];
        self.write(|connection| {
            let Some(id) = intern::known_ruleset(connection, ruleset)? else { return Ok(0) };
            let mut removed = 0;
            for table in TABLES {
                removed += connection.execute(&format!("DELETE FROM {table} WHERE ruleset_id = $1"), &[id.into()])?;
            }
            Ok(removed)
        })
    }
}

/// Stores a report inside a transaction; the numbers of its layer and its rule set.
pub(super) fn put(connection: &mut Connection, report: &ReportRecord) -> Result<(i64, i64), Fault> {
    let ReportRecord { layer, diff_id, ruleset, report, bytes, blob_bytes, scanned_at } = report;
    let ruleset = intern::ruleset(connection, ruleset)?;
    let named =
        ImageLayer { digest: layer.clone(), diff_id: diff_id.clone(), created_by: None, blob_bytes: *blob_bytes };
    let ids: HashMap<String, i64> = intern::layers(connection, std::iter::once(&named))?;
    let id = ids.get(&layer.to_string()).copied().ok_or_else(|| Fault::Damaged("a layer without a number".into()))?;
    // What was read counts for more than what a manifest claims.
    let known = "UPDATE layers SET diff_id = COALESCE($2, diff_id), blob_bytes = $3 WHERE id = $1";
    connection.execute(known, &[id.into(), diff_id.as_ref().into(), (*blob_bytes).into()])?;
    let sql = "INSERT INTO layer_reports (layer_id, ruleset_id, report, bytes, blob_bytes, scanned_at) \
               VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
    let values = [
        id.into(),
        ruleset.into(),
        report.as_slice().into(),
        (*bytes).into(),
        (*blob_bytes).into(),
        (*scanned_at).into(),
    ];
    connection.execute(sql, &values)?;
    Ok((id, ruleset))
}
