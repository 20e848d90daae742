//! Images and their layers.

use std::collections::HashMap;

use layersift_model::{Digest, LayerKey};

use super::backend::{Columns, Connection, Value, row};
use super::error::{Fault, StoreError};
use super::ids::{ChainId, ImageId, InstructionId, LayerId};
use super::page::Page;
use super::{Seconds, Store, intern};

/// The most layers that an image of the store has.
const LAYERS: usize = 4096;

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

row! {
    /// A layer of an image.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ImageLayer {
        /// The digest of its blob.
        pub digest: Digest = "l.digest",
        /// The digest of its uncompressed bytes.
        pub diff_id: Option<Digest> = "l.diff_id",
        /// The history instruction that made it, *secrets masked*; `None` until it was searched for secrets.
        pub created_by: Option<String> = "c.created_by",
        /// The size of its blob in bytes.
        pub blob_bytes: u64 = "l.blob_bytes",
    }
}

row! {
    /// An image that is in the store.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct StoredImage {
        /// Its number in the store.
        pub id: ImageId = "i.id",
        /// The digest of its manifest.
        pub manifest_digest: Digest = "i.manifest_digest",
        /// The digest of its configuration.
        pub config_digest: Option<Digest> = "i.config_digest",
        /// `os/architecture[/variant]`.
        pub platform: Option<String> = "i.platform",
        /// How many layers it has.
        pub layers_count: u64 = "i.layers_count",
        /// When it was first seen.
        pub first_seen: Seconds = "i.first_seen",
    }
}

/// The images of a store; see [`Store::images`].
pub struct Images<'s> {
    pub(super) store: &'s Store,
}

impl<'s> Images<'s> {
    pub(super) fn new(store: &'s Store) -> Images<'s> {
        Images { store }
    }

    /// Records an image and its layers. One that is in the store stays, and gets its instructions if it has none.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for an image with too many layers, [`StoreError::Database`].
    pub fn put(&self, image: &ImageRecord, now: Seconds) -> Result<ImageId, StoreError> {
        self.store.write(|connection| put(connection, image, now))
    }

    /// The image with this manifest, if it is in the store.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn find(&self, manifest_digest: &Digest) -> Result<Option<StoredImage>, StoreError> {
        let rest = "FROM images i WHERE i.manifest_digest = $1";
        let images = self.store.read(|connection| connection.select(rest, &[manifest_digest.into()]))?;
        Ok(images.into_iter().next())
    }

    /// The images of the store in the order of their numbers, those after `after` only where one is named; at most
    /// `limit`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn listed(&self, after: Option<ImageId>, limit: u64) -> Result<Page<StoredImage>, StoreError> {
        let sql = format!("SELECT {} FROM images i WHERE i.id > $1 ORDER BY i.id", StoredImage::COLUMNS);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let after = after.map_or(Value::Int(0), Value::from);
        self.store.read(|connection| connection.page(&sql, std::slice::from_ref(&after), limit))
    }

    /// The manifests of all images that a digest, of an index or an image, leads to by the tags of any repository,
    /// whether they are gone or not; sorted, and each once. An index is stored under its own digest after all of its
    /// images: only where `root` is among them are they all there.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn led_to(&self, root: &Digest) -> Result<Vec<Digest>, StoreError> {
        let sql = "SELECT DISTINCT i.manifest_digest FROM tags t JOIN images i ON i.id = t.image_id \
                   WHERE t.digest = $1";
        let mut manifests: Vec<Digest> = self.store.read(|connection| connection.column(sql, &[root.into()]))?;
        // Databases sort texts in different orders.
        manifests.sort_unstable();
        Ok(manifests)
    }

    /// How many layers have a report under `key`, and how many there are, in all images that `root` leads to and in
    /// the image with this manifest itself. A layer of several images counts once.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn layer_progress(&self, root: &Digest, key: &LayerKey) -> Result<(u64, u64), StoreError> {
        let sql = "SELECT count(DISTINCT r.layer_id), count(DISTINCT il.layer_id) FROM image_layers il \
                   LEFT JOIN layer_reports r ON r.layer_id = il.layer_id \
                     AND r.layer_key_id = (SELECT k.id FROM layer_keys k WHERE k.digest = $2) \
                   WHERE il.image_id IN (SELECT t.image_id FROM tags t WHERE t.digest = $1 \
                     UNION SELECT i.id FROM images i WHERE i.manifest_digest = $1)";
        let counts = self.store.read(|connection| connection.query_one(sql, &[root.into(), key.into()]))?;
        Ok(counts.unwrap_or_default())
    }

    /// The layers of an image, base first; none for an image that is not in the store.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn layers(&self, image: ImageId) -> Result<Vec<ImageLayer>, StoreError> {
        let rest = "FROM image_layers il JOIN layers l ON l.id = il.layer_id \
                    LEFT JOIN instructions c ON c.id = il.instruction_id WHERE il.image_id = $1 ORDER BY il.position";
        self.store.read(|connection| connection.select(rest, &[image.into()]))
    }

    /// The sizes in bytes of the blobs that images consist of, in no order.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn layer_sizes(&self, images: &[ImageId]) -> Result<HashMap<ImageId, Vec<u64>>, StoreError> {
        let sql = |list: &str| {
            format!(
                "SELECT il.image_id, l.blob_bytes FROM image_layers il JOIN layers l ON l.id = il.layer_id \
                 WHERE il.image_id IN ({list})"
            )
        };
        let images: Vec<Value> = images.iter().copied().map(Value::from).collect();
        let rows: Vec<(ImageId, u64)> = self.store.read(|connection| connection.query_in(sql, &[], &images))?;
        let mut sizes: HashMap<ImageId, Vec<u64>> = HashMap::new();
        for (image, bytes) in rows {
            sizes.entry(image).or_default().push(bytes);
        }
        Ok(sizes)
    }
}

/// Records an image inside a transaction.
pub(super) fn put(connection: &mut Connection, image: &ImageRecord, now: Seconds) -> Result<ImageId, Fault> {
    if image.layers.len() > LAYERS {
        let reason = format!("it has {} layers, more than {LAYERS}", image.layers.len());
        return Err(Fault::invalid(format!("the image {}", image.manifest_digest), reason));
    }
    let ids = intern::layers(connection, image.layers.iter())?;
    let layer = |layer: &ImageLayer| ids.get(&layer.digest.to_string()).copied();
    let layers: Option<Vec<LayerId>> = image.layers.iter().map(layer).collect();
    let layers = layers.ok_or_else(|| Fault::missing("a layer"))?;
    let texts = image.layers.iter().filter_map(|layer| layer.created_by.as_deref()).map(intern::shortened);
    let ids = intern::instructions(connection, texts)?;
    let instruction = |layer: &ImageLayer| {
        let text = intern::shortened(layer.created_by.as_deref()?);
        ids.get(&intern::hash(&[text])).copied()
    };
    let instructions: Vec<Option<InstructionId>> = image.layers.iter().map(instruction).collect();
    let known = "SELECT id FROM images WHERE manifest_digest = $1";
    if let Some(id) = connection.value(known, &[(&image.manifest_digest).into()])? {
        put_instructions(connection, id, &instructions)?;
        return Ok(id);
    }
    let chains = chains(connection, &layers)?;
    let Some(id) = insert(connection, image, now)? else {
        // Another process was quicker, and has written the layers as well.
        let id = connection.value(known, &[(&image.manifest_digest).into()])?;
        let id = id.ok_or_else(|| Fault::missing("an image"))?;
        put_instructions(connection, id, &instructions)?;
        return Ok(id);
    };
    let mut rows: Vec<Value> = Vec::new();
    for (position, ((layer, chain), instruction)) in layers.iter().zip(&chains).zip(&instructions).enumerate() {
        rows.extend([id.into(), position.into(), (*layer).into(), (*chain).into(), (*instruction).into()]);
        rows.push(layers.len().into());
    }
    let before = "INSERT INTO image_layers (image_id, position, layer_id, chain_id, instruction_id, layers_count)";
    connection.insert(before, 6, &rows, "ON CONFLICT DO NOTHING")?;
    if let Some(last) = chains.last() {
        let sql = "UPDATE chains SET image_id = $1 WHERE id = $2 AND image_id IS NULL";
        connection.execute(sql, &[id.into(), (*last).into()])?;
    }
    Ok(id)
}

/// Inserts the row of an image; `None` where another process inserted it in the meantime.
fn insert(connection: &mut Connection, image: &ImageRecord, now: Seconds) -> Result<Option<ImageId>, Fault> {
    let sql = "INSERT INTO images (manifest_digest, config_digest, platform, layers_count, first_seen) \
               VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING id";
    let values = [
        (&image.manifest_digest).into(),
        image.config_digest.as_ref().into(),
        image.platform.as_deref().map(intern::shortened).into(),
        image.layers.len().into(),
        now.into(),
    ];
    connection.value(sql, &values)
}

/// The chains that an image with these layers begins with, base first; new ones get a number now.
fn chains(connection: &mut Connection, layers: &[LayerId]) -> Result<Vec<ChainId>, Fault> {
    let known = "SELECT id FROM chains WHERE parent_id = $1 AND layer_id = $2";
    let insert = "INSERT INTO chains (parent_id, layer_id) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING id";
    let mut chains = Vec::with_capacity(layers.len());
    let mut parent = ChainId::NONE;
    for layer in layers {
        let values = [parent.into(), (*layer).into()];
        let mut id = connection.value(known, &values)?;
        if id.is_none() {
            id = connection.value(insert, &values)?;
        }
        if id.is_none() {
            id = connection.value(known, &values)?;
        }
        parent = id.ok_or_else(|| Fault::missing("a chain of layers"))?;
        chains.push(parent);
    }
    Ok(chains)
}

/// Gives the layers of a known image their instructions, where they are known by now.
fn put_instructions(
    connection: &mut Connection,
    image: ImageId,
    instructions: &[Option<InstructionId>],
) -> Result<(), Fault> {
    let sql = "SELECT instruction_id FROM image_layers WHERE image_id = $1 ORDER BY position";
    let known: Vec<Option<InstructionId>> = connection.column(sql, &[image.into()])?;
    for (position, (known, instruction)) in known.into_iter().zip(instructions).enumerate() {
        if instruction.is_none() || known == *instruction {
            continue;
        }
        let sql = "UPDATE image_layers SET instruction_id = $1 WHERE image_id = $2 AND position = $3";
        connection.execute(sql, &[(*instruction).into(), image.into(), position.into()])?;
    }
    Ok(())
}
