//! Base images by chains: which image of the store has exactly the layers that another begins with.

use layersift_model::Digest;

use super::error::StoreError;
use super::ids::{ChainId, ImageId};
use super::images::Images;

/// The most layers that are followed.
const LAYERS: usize = 4096;

/// An image whose layers are the first ones of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBase {
    /// The digest of its manifest.
    pub manifest_digest: Digest,
    /// How many layers it has.
    pub layers: usize,
    /// One of its names that is not gone, as `REGISTRY/REPOSITORY:TAG`.
    pub reference: Option<String>,
}

impl Images<'_> {
    /// The image that an image with these layers, base first, is based on: the one with `claimed` layers if there is
    /// such an image, or else the one with the most. An image with all of the layers is no base.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn base_of(&self, layers: &[Digest], claimed: Option<usize>) -> Result<Option<StoredBase>, StoreError> {
        let step = "SELECT c.id, c.image_id FROM chains c JOIN layers l ON l.id = c.layer_id \
                    WHERE c.parent_id = $1 AND l.digest = $2";
        let named = "SELECT r.registry, r.project, r.repository, t.tag FROM tags t \
                     JOIN repositories r ON r.id = t.repository_id \
                     WHERE t.image_id = $1 AND t.gone_at IS NULL AND t.tag <> '' ORDER BY t.id LIMIT 1";
        let layers = layers.split_last().map_or(layers, |(_, before)| before);
        self.store.read(|connection| {
            let mut found: Option<(usize, ImageId)> = None;
            let mut parent = ChainId::NONE;
            for (index, layer) in layers.iter().take(LAYERS).enumerate() {
                let next: Option<(ChainId, Option<ImageId>)> =
                    connection.query_one(step, &[parent.into(), layer.into()])?;
                let Some((chain, image)) = next else { break };
                parent = chain;
                if let Some(image) = image {
                    found = Some((index + 1, image));
                    if claimed == Some(index + 1) {
                        break;
                    }
                }
            }
            let Some((layers, image)) = found else { return Ok(None) };
            let sql = "SELECT i.manifest_digest FROM images i WHERE i.id = $1";
            let Some(manifest_digest) = connection.value(sql, &[image.into()])? else { return Ok(None) };
            let name: Option<(String, String, String, String)> = connection.query_one(named, &[image.into()])?;
            let reference = name.map(|(registry, project, repository, tag)| {
                let path: Vec<&str> =
                    [&registry[..], &project, &repository].into_iter().filter(|part| !part.is_empty()).collect();
                format!("{}:{tag}", path.join("/"))
            });
            Ok(Some(StoredBase { manifest_digest, layers, reference }))
        })
    }
}
