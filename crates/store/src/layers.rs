//! Reports of layers, by the layer's digest and the layer key: a layer with a report need not be read.

use std::collections::HashMap;

use layersift_model::{Digest, LayerKey};

use super::backend::{Connection, Value, row};
use super::error::{Fault, StoreError};
use super::ids::{KeyId, LayerId};
use super::images::ImageLayer;
use super::{Seconds, Store, intern};

/// The report of a layer, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerRecord {
    /// The digest of the layer's blob.
    pub layer: Digest,
    /// The digest of the uncompressed layer, where it was read to its end.
    pub diff_id: Option<Digest>,
    /// The key that the report is valid under.
    pub key: LayerKey,
    /// The report, in the caller's own form; without secrets.
    pub report: Vec<u8>,
    /// The size of the uncompressed layer in bytes.
    pub bytes: u64,
    /// The size of the blob in bytes.
    pub blob_bytes: u64,
    /// The work that the layer took beyond what its bytes permit.
    pub extra_work: u64,
    /// When the layer was read.
    pub scanned_at: Seconds,
}

row! {
    struct LayerReportRow {
        diff_id: Option<Digest> = "l.diff_id",
        report: Vec<u8> = "r.report",
        bytes: u64 = "r.bytes",
        blob_bytes: u64 = "r.blob_bytes",
        extra_work: u64 = "r.extra_work",
        scanned_at: Seconds = "r.scanned_at",
    }
}

/// The layers of a store; see [`Store::layers`].
pub struct Layers<'s> {
    store: &'s Store,
}

impl<'s> Layers<'s> {
    pub(super) fn new(store: &'s Store) -> Layers<'s> {
        Layers { store }
    }

    /// The report of `layer` under `key`, if there is one.
    ///
    /// # Errors
    /// [`StoreError::Database`] and [`StoreError::Damaged`].
    pub fn report(&self, layer: &Digest, key: &LayerKey) -> Result<Option<LayerRecord>, StoreError> {
        let rest = "FROM layer_reports r JOIN layers l ON l.id = r.layer_id \
                    JOIN layer_keys k ON k.id = r.layer_key_id WHERE l.digest = $1 AND k.digest = $2";
        let rows: Vec<LayerReportRow> =
            self.store.read(|connection| connection.select(rest, &[layer.into(), key.into()]))?;
        Ok(rows.into_iter().next().map(|row| {
            let LayerReportRow { diff_id, report, bytes, blob_bytes, extra_work, scanned_at } = row;
            let (layer, key) = (layer.clone(), key.clone());
            LayerRecord { layer, diff_id, key, report, bytes, blob_bytes, extra_work, scanned_at }
        }))
    }

    /// Stores a report, and ends the job for it if there is one. The first report of a layer under a key stays.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn put_report(&self, report: &LayerRecord) -> Result<(), StoreError> {
        let done = "UPDATE jobs SET state = 'done', lease_owner = NULL, lease_process = NULL, lease_until = NULL, \
                    error = NULL WHERE layer_id = $1 AND layer_key_id = $2";
        self.store.write(|connection| {
            let (layer, key) = put(connection, report)?;
            connection.execute(done, &[layer.into(), key.into()]).map(drop)
        })
    }

    /// Removes the report of a layer under `key`, because it cannot be decoded, and the job that made it: the layer
    /// counts as unread.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn forget_report(&self, layer: &Digest, key: &LayerKey) -> Result<(), StoreError> {
        self.store.write(|connection| {
            let Some(key) = intern::known_key(connection, key)? else { return Ok(()) };
            let Some(layer) = intern::known_layer(connection, layer)? else { return Ok(()) };
            for table in ["layer_reports", "jobs"] {
                let sql = format!("DELETE FROM {table} WHERE layer_id = $1 AND layer_key_id = $2");
                connection.execute(&sql, &[layer.into(), key.into()])?;
            }
            Ok(())
        })
    }

    /// Those of `layers` that have a report under `key`, and the extra work of each.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn with_reports(&self, layers: &[Digest], key: &LayerKey) -> Result<HashMap<Digest, u64>, StoreError> {
        let sql = |list: &str| {
            format!(
                "SELECT l.digest, r.extra_work FROM layers l JOIN layer_reports r ON r.layer_id = l.id \
                 JOIN layer_keys k ON k.id = r.layer_key_id WHERE k.digest = $1 AND l.digest IN ({list})"
            )
        };
        let digests: Vec<Value> = layers.iter().map(Value::from).collect();
        let rows = self.store.read(|connection| connection.query_in(sql, &[key.into()], &digests))?;
        Ok(rows.into_iter().collect())
    }

    /// When each of `layers` that has a report under any key was last read.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn last_read(&self, layers: &[Digest]) -> Result<HashMap<Digest, Seconds>, StoreError> {
        let sql = |list: &str| {
            format!(
                "SELECT l.digest, MAX(r.scanned_at) FROM layers l JOIN layer_reports r ON r.layer_id = l.id \
                 WHERE l.digest IN ({list}) GROUP BY l.digest"
            )
        };
        let digests: Vec<Value> = layers.iter().map(Value::from).collect();
        let rows = self.store.read(|connection| connection.query_in(sql, &[], &digests))?;
        Ok(rows.into_iter().collect())
    }
}

/// Stores a report inside a transaction; the numbers of its layer and its key.
pub(super) fn put(connection: &mut Connection, report: &LayerRecord) -> Result<(LayerId, KeyId), Fault> {
    let LayerRecord { layer, diff_id, key, report, bytes, blob_bytes, extra_work, scanned_at } = report;
    let key = intern::layer_key(connection, key)?;
    let named =
        ImageLayer { digest: layer.clone(), diff_id: diff_id.clone(), created_by: None, blob_bytes: *blob_bytes };
    let ids = intern::layers(connection, std::iter::once(&named))?;
    let id = ids.get(&layer.to_string()).copied().ok_or_else(|| Fault::missing("a layer"))?;
    // What was read counts for more than what a manifest claims.
    let known = "UPDATE layers SET diff_id = COALESCE($2, diff_id), blob_bytes = $3 WHERE id = $1";
    connection.execute(known, &[id.into(), diff_id.as_ref().into(), (*blob_bytes).into()])?;
    let sql = "INSERT INTO layer_reports (layer_id, layer_key_id, report, bytes, blob_bytes, extra_work, scanned_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
    let mut values = vec![id.into(), key.into(), report.as_slice().into()];
    values.extend([bytes, blob_bytes, extra_work].map(|count| Value::from(*count)));
    values.push((*scanned_at).into());
    connection.execute(sql, &values)?;
    Ok((id, key))
}
