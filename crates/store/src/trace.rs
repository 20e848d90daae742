//! Traces: every image and tag that has a secret, a finding, a layer, a path or a file of a package.

use std::collections::{BTreeSet, HashMap};

use layersift_model::{BaseImage, Digest, LayerKey, TraceReport, TracedImage, TracedPlace};

use super::backend::{Answer, Columns, Connection, Value, list, row};
use super::error::{Fault, StoreError};
use super::ids::{ImageId, LayerId, PackageId};
use super::images::StoredImage;
use super::page::Page;
use super::places::{self, Matcher, Places};
use super::prompt_sightings::add_prompts;
use super::room::Room;
use super::{Store, intern, tags};

/// How many images are looked up at a time.
const AT_ONCE: usize = 200;

/// Bytes of memory for the images of an answer, their tags and their places, texts and all. What does not fit is
/// counted, and not named.
const MEMORY: usize = 32 << 20;

/// How many places in images are counted, or as many as images are to be named, if that is more. The total of an answer
/// is exact up to there.
const COUNTED: usize = 5_000;

/// The same for a layer, whose images are counted in an index.
const COUNTED_OF_LAYER: usize = 200_000;

/// How many blobs of the same layer are looked for.
const BLOBS: usize = 64;

/// How many places in one image an answer names.
const PLACES: usize = 50;

/// How many versions of a package are looked for.
const VERSIONS: usize = 1000;

/// What to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// A finding, by its id.
    Finding(String),
    /// A secret, by its keyed fingerprint.
    Secret(String),
    /// A layer, by the digest of its blob or of its uncompressed bytes.
    Layer(Digest),
    /// Findings in a file, by its path without a leading `/`.
    Path(String),
    /// Findings in the files of a package.
    Package {
        /// `npm`, `deb`, `apk` or `pypi`; any where `None`.
        ecosystem: Option<String>,
        /// The package's name.
        name: String,
        /// The package's version; any where `None`.
        version: Option<String>,
    },
}

impl Store {
    /// Looks for `query` in all images, under all keys or under `key` only; names at most `limit` images, and counts
    /// more. Of the secrets that it finds, and of one that is asked for, it tells where they were seen in prompts.
    ///
    /// # Errors
    /// [`StoreError::Database`] and [`StoreError::Damaged`].
    pub fn trace(&self, query: &Query, key: Option<&LayerKey>, limit: usize) -> Result<TraceReport, StoreError> {
        self.read(|connection| {
            connection.prefer_lookups()?;
            let mut trace = match query {
                Query::Layer(digest) => layer(connection, digest, limit)?,
                query => findings(connection, query, key, limit)?,
            };
            let asked = if let Query::Secret(fingerprint) = query { Some(&fingerprint[..]) } else { None };
            add_prompts(connection, &mut trace, asked)?;
            Ok(trace)
        })
    }
}

fn layer(connection: &mut Connection, digest: &Digest, limit: usize) -> Result<TraceReport, Fault> {
    // The same layer may be stored in several ways, each a blob of its own.
    let sql = "SELECT id FROM layers WHERE digest = $1 UNION SELECT id FROM layers WHERE diff_id = $1 ORDER BY id";
    let blobs: Page<(LayerId,)> = connection.page(sql, &[digest.into()], BLOBS)?;
    let layers: Vec<LayerId> = blobs.items.into_iter().map(|(layer,)| layer).collect();
    if layers.is_empty() {
        return Ok(TraceReport::empty());
    }
    let (values, numbers) = list(layers.iter().copied().map(Value::from), 1);
    let next = values.len() + 1;
    let sql = format!(
        "SELECT DISTINCT image_id, layers_count FROM image_layers WHERE layer_id IN ({numbers}) \
         ORDER BY layers_count, image_id LIMIT ${next}"
    );
    let page: Vec<(ImageId, u64)> = connection.query(&sql, &[values.as_slice(), &[limit.into()]].concat())?;
    let page: Vec<ImageId> = page.into_iter().map(|(image, _)| image).collect();
    let sql = format!(
        "SELECT count(DISTINCT image_id), count(*) FROM (SELECT image_id FROM image_layers \
         WHERE layer_id IN ({numbers}) LIMIT ${next}) AS counted"
    );
    let counts = connection.query_one(&sql, &[values.as_slice(), &[COUNTED_OF_LAYER.into()]].concat())?;
    let (total, counted): (u64, usize) = counts.unwrap_or_default();
    let images = images(connection, &page, |connection, page| places::of_layers(connection, page, &layers, PLACES))?;
    let is_exact = blobs.is_complete && counted < COUNTED_OF_LAYER;
    Ok(TraceReport {
        total,
        is_exact,
        places_are_complete: images.is_complete,
        images: images.items,
        prompts: Vec::new(),
    })
}

fn findings(
    connection: &mut Connection,
    query: &Query,
    key: Option<&LayerKey>,
    limit: usize,
) -> Result<TraceReport, Fault> {
    let Some((mut matcher, is_whole)) = matcher(connection, query)? else { return Ok(TraceReport::empty()) };
    if let Some(key) = key {
        let Some(key) = intern::known_key(connection, key)? else { return Ok(TraceReport::empty()) };
        matcher = matcher.with_key(key);
    }
    let next = matcher.values().len() + 1;
    let most = COUNTED.max(limit);
    let values = [matcher.values(), &[most.into(), limit.into()]].concat();
    let rows: Vec<PageRow> = connection.query(&page_sql(connection, &matcher, next), &values)?;
    let total = rows.first().map_or(0, |row| row.total);
    let is_exact = is_whole && rows.first().is_none_or(|row| row.by_layer < most && row.by_image < most);
    let page: Vec<ImageId> = rows.into_iter().map(|row| row.image).collect();
    let images = images(connection, &page, |connection, page| places::of_images(connection, page, &matcher, PLACES))?;
    Ok(TraceReport {
        total,
        is_exact,
        places_are_complete: images.is_complete,
        images: images.items,
        prompts: Vec::new(),
    })
}

row! {
    struct PageRow {
        image: ImageId = "image_id",
        total: u64 = "(SELECT count(*) FROM held)",
        by_layer: usize = "(SELECT count(*) FROM by_layer)",
        by_image: usize = "(SELECT count(*) FROM by_image)",
    }
}

/// The images of a page, the parameters `$next` and the one after it being how many places are counted and the page's
/// size.
fn page_sql(connection: &Connection, matcher: &Matcher, next: usize) -> String {
    // CROSS JOIN keeps SQLite to this order: the few findings first, then the images of their layers.
    format!(
        "WITH by_layer AS (SELECT il.image_id, il.layers_count FROM findings f CROSS JOIN image_layers il \
             WHERE {shared} AND f.shared = 1 AND il.layer_id = f.layer_id AND (f.excepted = 0 OR {not_excepted}) \
             LIMIT ${next}), \
         by_image AS (SELECT x.image_id, i.layers_count FROM {excepted_from} \
             JOIN images i ON i.id = x.image_id WHERE {excepted} AND (f.shared = 0 OR f.excepted = 1) \
             AND x.finding = f.id AND x.state <> 'absent' LIMIT ${next}), \
         held AS (SELECT image_id, layers_count FROM by_layer UNION SELECT image_id, layers_count FROM by_image) \
         SELECT {columns} FROM held ORDER BY layers_count, image_id LIMIT ${limit}",
        shared = matcher.shared(),
        not_excepted = connection.is_not_excepted(&matcher.shared()),
        excepted_from = matcher.excepted_from(),
        excepted = matcher.excepted(),
        columns = PageRow::COLUMNS,
        limit = next + 1
    )
}

/// What `query` means, and whether that is all that it means; `None` where nothing matches.
fn matcher(connection: &mut Connection, query: &Query) -> Result<Option<(Matcher, bool)>, Fault> {
    Ok(Some(match query {
        Query::Finding(id) => (Matcher::equal("finding_id", id.into()), true),
        Query::Secret(fingerprint) => (Matcher::equal("fingerprint", fingerprint.into()), true),
        Query::Path(path) => (Matcher::path(path.trim_start_matches('/')), true),
        Query::Package { ecosystem, name, version } => {
            let packages = packages(connection, ecosystem.as_deref(), name, version.as_deref())?;
            if packages.items.is_empty() {
                return Ok(None);
            }
            let ids = packages.items.into_iter().map(|(id,)| id).collect();
            (Matcher::packages(ids), packages.is_complete)
        }
        Query::Layer(_) => return Ok(None),
    }))
}

fn packages(
    connection: &mut Connection,
    ecosystem: Option<&str>,
    name: &str,
    version: Option<&str>,
) -> Result<Page<(PackageId,)>, Fault> {
    let mut values = vec![Value::from(intern::key(name)), name.into()];
    let mut sql = String::from("SELECT id FROM packages WHERE name_key = $1 AND name = $2");
    for (column, wanted) in [("ecosystem", ecosystem), ("version", version)] {
        if let Some(wanted) = wanted {
            values.push(wanted.into());
            sql += &format!(" AND {column} = ${}", values.len());
        }
    }
    connection.page(&(sql + " ORDER BY id DESC"), &values, VERSIONS)
}

/// The images `page`, in that order, each with the places that `places` finds in it, as long as there is room for them.
/// The page is complete where the places of each image are.
fn images(
    connection: &mut Connection,
    page: &[ImageId],
    places: impl Fn(&mut Connection, &[ImageId]) -> Result<Places, Fault>,
) -> Result<Page<TracedImage>, Fault> {
    let mut images = Page { items: Vec::with_capacity(page.len()), is_complete: true };
    let mut room = Room::new(MEMORY);
    for page in page.chunks(AT_ONCE) {
        let rows = rows(connection, page, &mut room)?;
        let page: Vec<ImageId> = page.iter().copied().filter(|image| rows.contains_key(image)).collect();
        let places = places(connection, &page)?;
        images.is_complete &= places.is_complete;
        images.items.extend(some_images(connection, &page, rows, &places, &mut room)?);
    }
    Ok(images)
}

/// The rows of the images `page`, as long as there is room.
fn rows(
    connection: &mut Connection,
    page: &[ImageId],
    room: &mut Room,
) -> Result<HashMap<ImageId, StoredImage>, Fault> {
    let (values, numbers) = list(page.iter().copied().map(Value::from), 1);
    let sql = format!("SELECT {} FROM images i WHERE i.id IN ({numbers})", StoredImage::COLUMNS);
    let mut rows = HashMap::new();
    connection.each(&sql, &values, &mut Answer::default(), |row: StoredImage| {
        if room.take(row.platform.as_ref().map_or(0, String::len)) {
            rows.insert(row.id, row);
        }
        Ok(())
    })?;
    Ok(rows)
}

fn some_images(
    connection: &mut Connection,
    page: &[ImageId],
    mut rows: HashMap<ImageId, StoredImage>,
    places: &Places,
    room: &mut Room,
) -> Result<Vec<TracedImage>, Fault> {
    let mut tags = tags::of_images(connection, page, room)?;
    let mut traced = places::traced(connection, page, places, room)?;
    add_bases(connection, page, &mut traced)?;
    let mut images = Vec::with_capacity(page.len());
    for id in page {
        let Some(image) = rows.remove(id) else { continue };
        let StoredImage { manifest_digest, config_digest, platform, layers_count, first_seen, .. } = image;
        let (tags, tags_total) = tags.remove(id).unwrap_or_default();
        images.push(TracedImage {
            manifest_digest,
            config_digest,
            platform,
            layers_count,
            first_seen,
            tags,
            tags_total,
            places: traced.remove(id).unwrap_or_default(),
            places_total: places.total(*id),
        });
    }
    Ok(images)
}

/// Says of the places of the images `page` which base image brought each: the smallest that the image was built on and
/// that has the layer.
fn add_bases(
    connection: &mut Connection,
    page: &[ImageId],
    places: &mut HashMap<ImageId, Vec<TracedPlace>>,
) -> Result<(), Fault> {
    let (values, numbers) = list(page.iter().copied().map(Value::from), 1);
    let sql = format!(
        "SELECT il.image_id, il.position, c.image_id AS base FROM image_layers il JOIN chains c ON c.id = il.chain_id \
         WHERE il.image_id IN ({numbers}) AND il.position < il.layers_count - 1 AND c.image_id IS NOT NULL \
         ORDER BY il.image_id, il.position"
    );
    let rows: Vec<(ImageId, u64, ImageId)> = connection.query(&sql, &values)?;
    let base = |image: ImageId, position: u64| {
        rows.get(rows.partition_point(|row| (row.0, row.1) < (image, position))).filter(|row| row.0 == image)
    };
    let mut found: Vec<(&mut TracedPlace, u64, ImageId)> = Vec::new();
    for (image, places) in places {
        for place in places {
            let Some((_, last, id)) = place.layer.as_ref().and_then(|layer| base(*image, layer.position)) else {
                continue;
            };
            found.push((place, *last, *id));
        }
    }
    let ids: BTreeSet<ImageId> = found.iter().map(|(_, _, id)| *id).collect();
    let ids: Vec<Value> = ids.into_iter().map(Value::from).collect();
    let digests = |list: &str| format!("SELECT id, manifest_digest FROM images WHERE id IN ({list})");
    let digests: HashMap<ImageId, Digest> = connection.query_in(digests, &[], &ids)?.into_iter().collect();
    for (place, last, id) in found {
        let base = |digest: &Digest| BaseImage { manifest_digest: digest.clone(), layers_count: last + 1 };
        place.base = digests.get(&id).map(base);
    }
    Ok(())
}

impl Query {
    /// What a person wrote: a digest, a fingerprint, a finding's id, `ecosystem:name[@version]`, or else a path.
    pub fn parse(text: &str) -> Query {
        let is_hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match (text.parse(), text.split_once(':'), text.len()) {
            (Ok(digest), _, _) => Query::Layer(digest),
            (_, _, 32) if is_hex => Query::Secret(text.to_string()),
            (_, _, 16) if is_hex => Query::Finding(text.to_string()),
            (_, Some((ecosystem @ ("npm" | "deb" | "apk" | "pypi"), rest)), _) => {
                // An npm scope begins with the same sign as a version.
                let (name, version) = match rest.rsplit_once('@') {
                    Some((name, version)) if !name.is_empty() => (name, Some(version.to_string())),
                    _ => (rest, None),
                };
                Query::Package { ecosystem: Some(ecosystem.to_string()), name: name.to_string(), version }
            }
            _ => Query::Path(text.to_string()),
        }
    }
}
