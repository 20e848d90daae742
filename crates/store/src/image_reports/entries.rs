//! Which reports there are of images, before any of them is read. A reader of many reads one after another: together
//! they may take more memory than there is.

use std::collections::HashMap;

use layersift_model::{Digest, ImageReport, LayerKey};

use crate::Seconds;
use crate::backend::{Value, row};
use crate::error::StoreError;
use crate::ids::KeyId;
use crate::images::Images;

/// A report that is in the store, and was not read yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReportEntry {
    /// The manifest of its image.
    pub manifest: Digest,
    /// The key that it was made with.
    pub key: LayerKey,
    /// When it was stored.
    pub stored_at: Seconds,
    /// The bytes of its JSON form.
    pub bytes: u64,
}

impl ReportEntry {
    /// The bytes of memory that the report takes when it is read.
    pub fn memory(&self) -> u64 {
        super::memory_of(self.bytes)
    }
}

row! {
    struct EntryRow {
        manifest_digest: Digest = "i.manifest_digest",
        key: LayerKey = "k.digest",
        key_id: KeyId = "k.id",
        stored_at: Seconds = "r.stored_at",
        bytes: u64 = "r.bytes",
    }
}

impl Images<'_> {
    /// The reports of each of `manifests` that has any, the best first: the one under `key` if there is one, then those
    /// under one of the keys `others`, or under any for `None`, the last one that was stored first. In the order of
    /// `manifests`, each once.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn report_entries(
        &self,
        manifests: &[Digest],
        key: Option<&LayerKey>,
        others: Option<&[LayerKey]>,
    ) -> Result<Vec<Vec<ReportEntry>>, StoreError> {
        let rest = |list: &str| {
            format!(
                "FROM images i JOIN image_reports r ON r.image_id = i.id JOIN layer_keys k ON k.id = r.layer_key_id \
                 WHERE i.manifest_digest IN ({list})"
            )
        };
        let digests: Vec<Value> = manifests.iter().map(Value::from).collect();
        let mut rows: Vec<EntryRow> = self.store.read(|connection| connection.select_in(rest, &[], &digests))?;
        let is_present = |row: &EntryRow| Some(&row.key) == key;
        rows.retain(|row| is_present(row) || others.is_none_or(|others| others.contains(&row.key)));
        rows.sort_by_key(|row| std::cmp::Reverse((is_present(row), row.stored_at, row.key_id)));
        let mut found: HashMap<Digest, Vec<ReportEntry>> = HashMap::new();
        for EntryRow { manifest_digest: manifest, key, stored_at, bytes, .. } in rows {
            let entry = ReportEntry { manifest: manifest.clone(), key, stored_at, bytes };
            found.entry(manifest).or_default().push(entry);
        }
        Ok(manifests.iter().filter_map(|manifest| found.remove(manifest)).collect())
    }

    /// Reads a report. `None` where it is not there any more, or cannot be decoded any more, and was removed.
    ///
    /// # Errors
    /// As [`Images::report`].
    pub fn read(&self, entry: &ReportEntry) -> Result<Option<ImageReport>, StoreError> {
        Ok(self.report(&entry.manifest, &entry.key)?.map(|stored| stored.report))
    }
}
