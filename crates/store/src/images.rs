//! Images and their layers.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::backend::{Connection, Row, Value};
use super::error::{Fault, StoreError};
use super::intern::{self, select_in};
use super::{Seconds, Store};
use layersift_model::Digest;

/// The most layers that an image of the store has.
const LAYERS: usize = 4096;

/// The number of an image in the store it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageId(pub(super) i64);

/// An image of one platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRecord {
    /// The digest of its manifest.
    pub manifest_digest: Digest,
    /// The digest of its configuration.
    pub config_digest: Option<Digest>,
    /// `os/architecture[/variant]`.
    pub platform: Option<String>,
    /// Its layers, base first.
    pub layers: Vec<ImageLayer>,
}

/// A layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageLayer {
    /// The digest of its blob.
    pub digest: Digest,
    /// The digest of its uncompressed bytes.
    pub diff_id: Option<Digest>,
    /// The history instruction that made it, *secrets masked*; `None` while nobody has looked for secrets in it.
    pub created_by: Option<String>,
    /// The size of its blob in bytes.
    pub blob_bytes: u64,
}

/// An image, as answers name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageLine {
    /// Its number in the store.
    pub id: ImageId,
    /// The digest of its manifest.
    pub manifest_digest: Digest,
    /// The digest of its configuration.
    pub config_digest: Option<Digest>,
    /// `os/architecture[/variant]`.
    pub platform: Option<String>,
    /// How many layers it has.
    pub layers_count: u64,
    /// When the store first heard of it.
    pub first_seen: Seconds,
}

/// The columns of [`line`].
pub(super) const COLUMNS: &str = "i.id, i.manifest_digest, i.config_digest, i.platform, i.layers_count, i.first_seen";

impl Store {
    /// Records an image and its layers; one that is known stays, and gets its instructions if it has none.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for an image with too many layers, [`StoreError::Database`].
    pub fn put_image(&self, image: &ImageRecord, now: Seconds) -> Result<ImageId, StoreError> {
        self.write(|connection| one(connection, image, now))
    }

    /// The same for many images in one transaction; their numbers, in the order of `images`.
    ///
    /// # Errors
    /// As [`Store::put_image`].
    pub fn put_images(&self, images: &[ImageRecord], now: Seconds) -> Result<Vec<ImageId>, StoreError> {
        self.write(|connection| {
            let ids = put(connection, images, now)?;
            images.iter().map(|image| found(&ids, &image.manifest_digest)).collect()
        })
    }

    /// The image with this manifest, if it is known.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn image(&self, manifest_digest: &Digest) -> Result<Option<ImageLine>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM images i WHERE i.manifest_digest = $1");
        self.read(|connection| connection.query_one(&sql, &[manifest_digest.into()])?.map(|row| line(&row)).transpose())
    }

    /// The layers of an image, base first; none for an image that the store does not know.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn image_layers(&self, image: ImageId) -> Result<Vec<ImageLayer>, StoreError> {
        let sql = "SELECT l.digest, l.diff_id, c.created_by, l.blob_bytes FROM image_layers il \
                   JOIN layers l ON l.id = il.layer_id LEFT JOIN instructions c ON c.id = il.instruction_id \
                   WHERE il.image_id = $1 ORDER BY il.position";
        let layer = |row: &Row| {
            Ok(ImageLayer {
                digest: row.digest(0)?,
                diff_id: row.maybe_digest(1)?,
                created_by: row.maybe_text(2)?,
                blob_bytes: row.count(3)?,
            })
        };
        self.read(|connection| connection.query(sql, &[image.0.into()])?.iter().map(layer).collect())
    }

    /// The sizes in bytes of the blobs that images consist of, in no order.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn layer_sizes(&self, images: &[ImageId]) -> Result<HashMap<ImageId, Vec<u64>>, StoreError> {
        let sql = "SELECT il.image_id, l.blob_bytes FROM image_layers il JOIN layers l ON l.id = il.layer_id \
                   WHERE il.image_id IN ({list})";
        let images: Vec<Value> = images.iter().map(|image| Value::from(image.0)).collect();
        self.read(|connection| {
            let mut sizes: HashMap<ImageId, Vec<u64>> = HashMap::new();
            for row in select_in(connection, sql, &[], &images)? {
                sizes.entry(ImageId(row.int(0)?)).or_default().push(row.count(1)?);
            }
            Ok(sizes)
        })
    }
}

/// The image in a row of [`COLUMNS`].
pub(super) fn line(row: &Row) -> Result<ImageLine, Fault> {
    Ok(ImageLine {
        id: ImageId(row.int(0)?),
        manifest_digest: row.digest(1)?,
        config_digest: row.maybe_digest(2)?,
        platform: row.maybe_text(3)?,
        layers_count: row.count(4)?,
        first_seen: row.int(5)?,
    })
}

/// Records one image inside a transaction.
pub(super) fn one(connection: &mut Connection, image: &ImageRecord, now: Seconds) -> Result<ImageId, Fault> {
    let ids = put(connection, std::slice::from_ref(image), now)?;
    found(&ids, &image.manifest_digest)
}

fn found(ids: &HashMap<String, i64>, manifest: &Digest) -> Result<ImageId, Fault> {
    let id = ids.get(&manifest.to_string()).copied();
    id.map(ImageId).ok_or_else(|| Fault::Damaged(format!("no number for the image {manifest}")))
}

/// Records images inside a transaction; their numbers by the digests of their manifests.
fn put(connection: &mut Connection, images: &[ImageRecord], now: Seconds) -> Result<HashMap<String, i64>, Fault> {
    if let Some(image) = images.iter().find(|image| image.layers.len() > LAYERS) {
        let reason = format!("it has {} layers, more than {LAYERS}", image.layers.len());
        return Err(Fault::invalid(format!("the image {}", image.manifest_digest), reason));
    }
    let layers = intern::layers(connection, images.iter().flat_map(|image| &image.layers))?;
    let texts = images.iter().flat_map(|image| &image.layers).filter_map(|layer| layer.created_by.as_deref());
    let instructions = intern::instructions(connection, texts)?;
    let instruction = |layer: &ImageLayer| {
        layer.created_by.as_deref().and_then(|text| instructions.get(&intern::hash(&[text]))).copied()
    };
    let mut ids = numbers(connection, images)?;
    let known: HashSet<String> = ids.keys().cloned().collect();
    let mut seen = BTreeSet::new();
    let is_new = |image: &&ImageRecord| {
        let manifest = image.manifest_digest.to_string();
        !known.contains(&manifest) && seen.insert(manifest)
    };
    let news: Vec<&ImageRecord> = images.iter().filter(is_new).collect();
    let chains = chains(connection, &news, &layers)?;
    let ours = insert(connection, &news, now)?;
    let mut rows = Vec::new();
    for (image, chain) in news.iter().zip(&chains) {
        // Another process may have been quicker, and has written the layers as well.
        let Some(id) = ours.get(&image.manifest_digest.to_string()) else { continue };
        for (position, (layer, chain)) in image.layers.iter().zip(chain).enumerate() {
            let number = layers.get(&layer.digest.to_string()).copied();
            let columns = [position.into(), number.into(), (*chain).into(), instruction(layer).into()];
            rows.push(Value::from(*id));
            rows.extend(columns);
            rows.push(image.layers.len().into());
        }
        if let Some(last) = chain.last() {
            let sql = "UPDATE chains SET image_id = $1 WHERE id = $2 AND image_id IS NULL";
            connection.execute(sql, &[(*id).into(), (*last).into()])?;
        }
    }
    let before = "INSERT INTO image_layers (image_id, position, layer_id, chain_id, instruction_id, layers_count)";
    connection.insert(before, 6, &rows, "")?;
    for image in images.iter().filter(|image| known.contains(&image.manifest_digest.to_string())) {
        let id = found(&ids, &image.manifest_digest)?;
        instruct(connection, id, image.layers.iter().map(instruction))?;
    }
    if ours.len() < news.len() {
        ids.extend(numbers(connection, images)?);
    }
    ids.extend(ours);
    Ok(ids)
}

fn numbers(connection: &mut Connection, images: &[ImageRecord]) -> Result<HashMap<String, i64>, Fault> {
    let sql = "SELECT manifest_digest, id FROM images WHERE manifest_digest IN ({list})";
    let manifests: Vec<Value> = images.iter().map(|image| Value::from(&image.manifest_digest)).collect();
    select_in(connection, sql, &[], &manifests)?.iter().map(|row| Ok((row.text(0)?, row.int(1)?))).collect()
}

/// Inserts images; the numbers of those that nobody else inserted in the meantime.
fn insert(connection: &mut Connection, images: &[&ImageRecord], now: Seconds) -> Result<HashMap<String, i64>, Fault> {
    let sql = "INSERT INTO images (manifest_digest, config_digest, platform, layers_count, first_seen) \
               VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING id";
    let mut ids = HashMap::new();
    for image in images {
        let manifest = image.manifest_digest.to_string();
        let values = [
            Value::from(&manifest),
            image.config_digest.as_ref().into(),
            image.platform.as_deref().into(),
            image.layers.len().into(),
            now.into(),
        ];
        if let Some(row) = connection.query_one(sql, &values)? {
            ids.insert(manifest, row.int(0)?);
        }
    }
    Ok(ids)
}

/// For each image the numbers of the runs of layers that it begins with, base first, given now where there are none.
fn chains(
    connection: &mut Connection,
    images: &[&ImageRecord],
    layers: &HashMap<String, i64>,
) -> Result<Vec<Vec<i64>>, Fault> {
    let mut chains: Vec<Vec<i64>> = vec![Vec::new(); images.len()];
    let longest = images.iter().map(|image| image.layers.len()).max().unwrap_or(0);
    for position in 0..longest {
        let mut steps = Vec::new();
        for (at, image) in images.iter().enumerate() {
            let Some(layer) = image.layers.get(position) else { continue };
            let parent = chains[at].last().copied().unwrap_or(0);
            let layer = layers.get(&layer.digest.to_string()).copied();
            steps.push((at, (parent, layer.ok_or_else(|| Fault::Damaged("a layer without a number".into()))?)));
        }
        let ids = step(connection, steps.iter().map(|(_, pair)| *pair).collect())?;
        for (at, pair) in steps {
            let id = ids.get(&pair).copied();
            chains[at].push(id.ok_or_else(|| Fault::Damaged("a chain of layers without a number".into()))?);
        }
    }
    Ok(chains)
}

/// The numbers of chains by parent and last layer.
fn step(connection: &mut Connection, pairs: BTreeSet<(i64, i64)>) -> Result<HashMap<(i64, i64), i64>, Fault> {
    let mut ids = known_chains(connection, &pairs)?;
    let missing: BTreeSet<(i64, i64)> = pairs.into_iter().filter(|pair| !ids.contains_key(pair)).collect();
    if missing.is_empty() {
        return Ok(ids);
    }
    let rows: Vec<Value> = missing.iter().flat_map(|(parent, layer)| [(*parent).into(), (*layer).into()]).collect();
    connection.insert("INSERT INTO chains (parent_id, layer_id)", 2, &rows, "ON CONFLICT DO NOTHING")?;
    ids.extend(known_chains(connection, &missing)?);
    Ok(ids)
}

fn known_chains(connection: &mut Connection, pairs: &BTreeSet<(i64, i64)>) -> Result<HashMap<(i64, i64), i64>, Fault> {
    let sql = "SELECT parent_id, layer_id, id FROM chains WHERE parent_id = $1 AND layer_id IN ({list})";
    let mut by_parent: HashMap<i64, Vec<Value>> = HashMap::new();
    for (parent, layer) in pairs {
        by_parent.entry(*parent).or_default().push((*layer).into());
    }
    let mut ids = HashMap::new();
    for (parent, layers) in by_parent {
        for row in select_in(connection, sql, &[parent.into()], &layers)? {
            ids.insert((row.int(0)?, row.int(1)?), row.int(2)?);
        }
    }
    Ok(ids)
}

/// Gives the layers of a known image their instructions, where they are known by now.
fn instruct(
    connection: &mut Connection,
    image: ImageId,
    instructions: impl Iterator<Item = Option<i64>>,
) -> Result<(), Fault> {
    let sql = "SELECT instruction_id FROM image_layers WHERE image_id = $1 ORDER BY position";
    let rows = connection.query(sql, &[image.0.into()])?;
    for (position, (row, instruction)) in rows.iter().zip(instructions).enumerate() {
        if instruction.is_none() || row.maybe_int(0)? == instruction {
            continue;
        }
        let sql = "UPDATE image_layers SET instruction_id = $1 WHERE image_id = $2 AND position = $3";
        connection.execute(sql, &[instruction.into(), image.0.into(), position.into()])?;
    }
    Ok(())
}
