//! Whole reports of images, and the index of them.
//!
//! A report is stored as its JSON form, compressed, as no policy has judged it: a reader judges it by a policy of its
//! own. The index ([`ReportIndex`]) is written in the same transaction, and nothing but traces reads it.

mod entries;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::{self, BufReader, BufWriter, Read, Write};

use layersift_model::{Digest, ImageReport, LayerKey, parse};

use super::backend::{Connection, MOST_WRITTEN, Value, row};
use super::error::{Fault, StoreError};
use super::ids::{ImageId, KeyId, RunId};
use super::images::{self, Images};
use super::index::ReportIndex;
use super::{Seconds, findings, intern, runs};

pub use entries::ReportEntry;

/// The most bytes of a report's JSON form that are stored. A larger report is not, and its image stays unknown.
const MOST_BYTES: usize = 128 << 20;

/// The bytes from which on a report is not decoded as a whole.
const WHOLE: u64 = 4 << 20;

/// The bytes of a report that are encoded or decoded at once.
const BUFFER: usize = 64 << 10;

/// The level of compression: 3 is zstd's default.
const LEVEL: i32 = 3;

/// A report that is in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredReport {
    /// The image's number in the store.
    pub image: ImageId,
    /// The report. No policy has judged it.
    pub report: ImageReport,
}

row! {
    struct ReportRow {
        image: ImageId = "i.id",
        manifest_digest: Digest = "i.manifest_digest",
        bytes: u64 = "r.bytes",
    }
}

/// A report of an image that was not read yet.
pub struct PackedReport(ReportRow);

impl PackedReport {
    /// The bytes of memory that the report takes when it is decoded.
    pub fn memory(&self) -> u64 {
        memory_of(self.0.bytes)
    }
}

/// The bytes of memory that a report takes while it is read whose JSON form has `bytes`: one with 80,000 findings took
/// 3.3 times as much.
fn memory_of(bytes: u64) -> u64 {
    4 * bytes.min(MOST_BYTES as u64)
}

impl Images<'_> {
    /// Stores a report in place of the one of the same image and key, without what a policy says of it and without the
    /// values of secrets; and, where a run made it, what the run is the first to find.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a report without the digests of its manifest and its layers, or with findings in
    /// layers that the image does not have; [`StoreError::Unknown`] for an unknown run; [`StoreError::Database`].
    pub fn put_report(
        &self,
        report: &ImageReport,
        key: &LayerKey,
        run: Option<RunId>,
        now: Seconds,
    ) -> Result<ImageId, StoreError> {
        let name = self.store.name();
        let index = ReportIndex::of(report).map_err(|fault| fault.at(&name))?;
        let encoded = encode(report, MOST_BYTES).map_err(|fault| fault.at(&name))?;
        self.store.write(|connection| {
            let image = images::put(connection, &index.image, now)?;
            let key = intern::layer_key(connection, key)?;
            findings::put(connection, image, key, &index, now)?;
            put_whole(connection, (image, key), &report.tool.ruleset, encoded.as_ref(), now)?;
            if let Some(run) = run {
                let things: BTreeSet<String> = index.findings.iter().map(|finding| finding.thing()).collect();
                runs::see(connection, run, image, &things)?;
            }
            Ok(image)
        })
    }

    /// The report of the image with this manifest under `key`. `None` where there is none: nothing is known of the
    /// image then. A report that cannot be decoded any more is removed, and is none.
    ///
    /// # Errors
    /// [`StoreError::Database`] and [`StoreError::Damaged`].
    pub fn report(&self, manifest: &Digest, key: &LayerKey) -> Result<Option<StoredReport>, StoreError> {
        Ok(self.reports(std::slice::from_ref(manifest), key)?.into_iter().next())
    }

    /// The reports of those of `manifests` that have one under `key`, in no order; as [`Images::report`].
    ///
    /// # Errors
    /// As [`Images::report`].
    pub fn reports(&self, manifests: &[Digest], key: &LayerKey) -> Result<Vec<StoredReport>, StoreError> {
        let packed = self.packed_reports(manifests, key)?;
        let mut reports = Vec::with_capacity(packed.len());
        for packed in packed {
            reports.extend(self.unpack(&packed, key)?);
        }
        Ok(reports)
    }

    /// The same, before the reports are read: many may take more memory than there is.
    ///
    /// # Errors
    /// As [`Images::report`].
    pub fn packed_reports(&self, manifests: &[Digest], key: &LayerKey) -> Result<Vec<PackedReport>, StoreError> {
        let rest = |list: &str| {
            format!(
                "FROM images i JOIN image_reports r ON r.image_id = i.id JOIN layer_keys k ON k.id = r.layer_key_id \
                 WHERE k.digest = $1 AND i.manifest_digest IN ({list})"
            )
        };
        let digests: Vec<Value> = manifests.iter().map(Value::from).collect();
        let rows: Vec<ReportRow> = self.store.read(|connection| connection.select_in(rest, &[key.into()], &digests))?;
        Ok(rows.into_iter().map(PackedReport).collect())
    }

    /// Reads a report that is stored under `key`. One that cannot be decoded any more, or is larger than is said of it,
    /// is removed, and is none.
    ///
    /// # Errors
    /// As [`Images::report`].
    pub fn unpack(&self, packed: &PackedReport, key: &LayerKey) -> Result<Option<StoredReport>, StoreError> {
        let ReportRow { image, manifest_digest, bytes } = &packed.0;
        let sql = "SELECT r.report FROM image_reports r JOIN layer_keys k ON k.id = r.layer_key_id \
                   WHERE r.image_id = $1 AND k.digest = $2";
        let report: Option<Vec<u8>> =
            self.store.read(|connection| connection.value(sql, &[(*image).into(), key.into()]))?;
        let Some(report) = report else { return Ok(None) };
        let most = usize::try_from(*bytes).unwrap_or(usize::MAX).min(MOST_BYTES);
        match decode(&report, most).filter(|report| report.manifest_digest.as_ref() == Some(manifest_digest)) {
            Some(report) => Ok(Some(StoredReport { image: *image, report })),
            None => self.forget_report(*image, key).map(|()| None),
        }
    }

    /// The report of the image with this manifest that was stored last, under whichever key; as [`Images::report`].
    ///
    /// # Errors
    /// As [`Images::report`].
    pub fn latest_report(&self, manifest: &Digest) -> Result<Option<StoredReport>, StoreError> {
        let sql = "SELECT k.digest FROM images i JOIN image_reports r ON r.image_id = i.id \
                   JOIN layer_keys k ON k.id = r.layer_key_id WHERE i.manifest_digest = $1 \
                   ORDER BY r.stored_at DESC, k.id DESC";
        let keys: Vec<LayerKey> = self.store.read(|connection| connection.column(sql, &[manifest.into()]))?;
        for key in keys {
            if let Some(report) = self.report(manifest, &key)? {
                return Ok(Some(report));
            }
        }
        Ok(None)
    }

    fn forget_report(&self, image: ImageId, key: &LayerKey) -> Result<(), StoreError> {
        let sql = "DELETE FROM image_reports WHERE image_id = $1 \
                   AND layer_key_id IN (SELECT id FROM layer_keys WHERE digest = $2)";
        self.store.write(|connection| connection.execute(sql, &[image.into(), key.into()]).map(drop))
    }
}

/// A report as it is stored.
struct Encoded {
    compressed: Vec<u8>,
    bytes: usize,
}

/// `report` as it is stored; `None` where its JSON form has more than `most` bytes, or its compressed form more than
/// are read again.
fn encode(report: &ImageReport, most: usize) -> Result<Option<Encoded>, Fault> {
    let invalid = |reason: String| Fault::invalid(format!("the report of {}", report.target), reason);
    let report = unjudged(report);
    // Its JSON form may have a hundred megabytes, and is never whole in memory.
    let mut counted = Counted(0);
    serde_json::to_writer(&mut counted, &*report).map_err(|error| invalid(error.to_string()))?;
    let Counted(bytes) = counted;
    if bytes > most {
        return Ok(None);
    }
    let compressed = compress(&report, bytes).map_err(|error| invalid(error.to_string()))?;
    Ok((compressed.len() <= MOST_WRITTEN).then_some(Encoded { compressed, bytes }))
}

/// The JSON form of `report`, which has `bytes`, compressed.
fn compress(report: &ImageReport, bytes: usize) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL)?;
    encoder.set_pledged_src_size(Some(bytes as u64))?;
    let mut writer = BufWriter::with_capacity(BUFFER, encoder);
    serde_json::to_writer(&mut writer, report)?;
    writer.into_inner().map_err(io::IntoInnerError::into_error)?.finish()
}

/// Counts what is written to it.
struct Counted(usize);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The report in `bytes`; `None` where they are not a report of this version, or one of more than `most` bytes.
fn decode(bytes: &[u8], most: usize) -> Option<ImageReport> {
    let mut decoder = zstd::Decoder::new(bytes).ok()?.take(most as u64 + 1);
    let mut json = Vec::new();
    decoder.by_ref().take(WHOLE).read_to_end(&mut json).ok()?;
    if (json.len() as u64) < WHOLE {
        return parse::json(&json).ok().filter(|_| json.len() <= most);
    }
    // A reader takes longer, and less memory.
    let mut decoder = BufReader::with_capacity(BUFFER, decoder);
    let report = parse::json_from(json.as_slice().chain(&mut decoder)).ok()?;
    (decoder.get_ref().limit() > 0).then_some(report)
}

/// `report` without what a policy and a baseline say of it.
fn unjudged(report: &ImageReport) -> Cow<'_, ImageReport> {
    let is_judged = |finding: &layersift_model::Finding| finding.allowed.is_some() || finding.baseline;
    if report.judgement.is_none() && !report.findings.iter().any(is_judged) {
        return Cow::Borrowed(report);
    }
    let mut report = report.clone();
    report.judgement = None;
    for finding in &mut report.findings {
        finding.allowed = None;
        finding.baseline = false;
    }
    Cow::Owned(report)
}

/// Stores the whole report of an image. Where it is too large there is none, not even an older one.
fn put_whole(
    connection: &mut Connection,
    (image, key): (ImageId, KeyId),
    ruleset: &str,
    encoded: Option<&Encoded>,
    now: Seconds,
) -> Result<(), Fault> {
    let Some(Encoded { compressed, bytes }) = encoded else {
        let sql = "DELETE FROM image_reports WHERE image_id = $1 AND layer_key_id = $2";
        return connection.execute(sql, &[image.into(), key.into()]).map(drop);
    };
    let sql = "INSERT INTO image_reports (image_id, layer_key_id, ruleset, report, bytes, stored_at) \
               VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (image_id, layer_key_id) DO UPDATE SET \
               ruleset = excluded.ruleset, report = excluded.report, bytes = excluded.bytes, \
               stored_at = excluded.stored_at";
    let values = [image.into(), key.into(), ruleset.into(), compressed.as_slice().into(), (*bytes).into(), now.into()];
    connection.execute(sql, &values).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bounded() {
        let report = ImageReport { target: "app".into(), ..ImageReport::default() };
        let encoded = encode(&report, MOST_BYTES).unwrap().unwrap();
        assert_eq!(decode(&encoded.compressed, encoded.bytes), Some(report.clone()));
        assert_eq!(decode(&encoded.compressed, encoded.bytes - 1), None);
        assert!(encode(&report, encoded.bytes).unwrap().is_some());
        assert!(encode(&report, encoded.bytes - 1).unwrap().is_none());
    }
}
