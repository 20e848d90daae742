//! "Where else is this?": every image, tag, project and platform that holds a secret, a finding, a layer, a path or a
//! file of a package.

use std::collections::HashMap;

use super::Store;
use super::backend::{Connection, Value, list};
use super::error::{Fault, StoreError};
use super::holdings::{self, Held, Matcher};
use super::images::{self, ImageId, ImageLine};
use super::intern;
use super::tags::{self, TagLine};
use layersift_model::Digest;

/// How many images are looked up at a time.
const AT_ONCE: usize = 500;

/// How many places in images are counted, or as many as images are to be named, if that is more; the total of an answer
/// is exact up to there.
const COUNTED: usize = 5_000;

/// The same for a layer, whose images are counted in an index.
const SHARED: usize = 200_000;

/// How many blobs of the same layer are looked for.
const BLOBS: usize = 64;

/// How many findings of one image an answer names.
const HELD: usize = 50;

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

/// What a trace found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// How many images hold it.
    pub total: u64,
    /// Whether `total` is exact; otherwise there are at least as many.
    pub is_exact: bool,
    /// The images: those with the fewest layers, the possible bases, first; then by their numbers.
    pub images: Vec<Holder>,
}

/// An image that holds what was looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The image.
    pub image: ImageLine,
    /// Its tags, those that are there now first; at most 20.
    pub tags: Vec<TagLine>,
    /// How many tags it has had in all.
    pub tags_total: u64,
    /// What it holds, by layer, at most 50; and the base image that brought each, if one did.
    pub held: Vec<(Held, Option<Base>)>,
    /// How many it holds in all.
    pub held_total: u64,
}

/// An image that another one was built on: it consists of the first layers of the other, and no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The digest of its manifest: the first image that the store saw with just these layers.
    pub manifest_digest: Digest,
    /// How many layers it has.
    pub layers_count: u64,
}

impl Store {
    /// Looks for `query` in all images by all rule sets, or by `ruleset` only; names at most `limit` images, and counts
    /// more.
    ///
    /// # Errors
    /// [`StoreError::Database`] and [`StoreError::Damaged`].
    pub fn trace(&self, query: &Query, ruleset: Option<&str>, limit: usize) -> Result<Trace, StoreError> {
        self.read(|connection| {
            connection.prefer_lookups()?;
            match query {
                Query::Layer(digest) => layer(connection, digest, limit),
                query => findings(connection, query, ruleset, limit),
            }
        })
    }
}

fn nothing() -> Trace {
    Trace { total: 0, is_exact: true, images: Vec::new() }
}

fn layer(connection: &mut Connection, digest: &Digest, limit: usize) -> Result<Trace, Fault> {
    // The same layer may be stored in several ways, each a blob of its own.
    let sql =
        format!("SELECT id FROM layers WHERE digest = $1 UNION SELECT id FROM layers WHERE diff_id = $1 LIMIT {BLOBS}");
    let rows = connection.query(&sql, &[digest.into()])?;
    let layers: Vec<i64> = rows.iter().map(|row| row.int(0)).collect::<Result<_, _>>()?;
    if layers.is_empty() {
        return Ok(nothing());
    }
    let (values, numbers) = list(layers.iter().map(|layer| Value::from(*layer)), 1);
    let next = values.len() + 1;
    let sql = format!(
        "SELECT DISTINCT image_id, layers_count FROM image_layers WHERE layer_id IN ({numbers}) \
         ORDER BY layers_count, image_id LIMIT ${next}"
    );
    let rows = connection.query(&sql, &[values.as_slice(), &[limit.into()]].concat())?;
    let page: Vec<i64> = rows.iter().map(|row| row.int(0)).collect::<Result<_, _>>()?;
    let sql = format!(
        "SELECT count(DISTINCT image_id), count(*) FROM (SELECT image_id FROM image_layers \
         WHERE layer_id IN ({numbers}) LIMIT ${next}) AS counted"
    );
    let row = connection.query_one(&sql, &[values.as_slice(), &[SHARED.into()]].concat())?;
    let row = row.ok_or_else(|| Fault::Damaged("no number where images were counted".into()))?;
    let held = |connection: &mut Connection, page: &[i64]| holdings::layers_of_images(connection, page, &layers);
    let images = holders(connection, &page, held)?;
    Ok(Trace { total: row.count(0)?, is_exact: row.count(1)? < SHARED as u64, images })
}

fn findings(connection: &mut Connection, query: &Query, ruleset: Option<&str>, limit: usize) -> Result<Trace, Fault> {
    let Some(mut matcher) = matcher(connection, query)? else { return Ok(nothing()) };
    if let Some(ruleset) = ruleset {
        let Some(ruleset) = intern::known_ruleset(connection, ruleset)? else { return Ok(nothing()) };
        matcher = matcher.with_ruleset(ruleset);
    }
    let next = matcher.values().len() + 1;
    let counted = COUNTED.max(limit);
    let values = [matcher.values(), &[counted.into(), limit.into()]].concat();
    let rows = connection.query(&page_sql(connection, &matcher, next), &values)?;
    let page: Vec<i64> = rows.iter().map(|row| row.int(0)).collect::<Result<_, _>>()?;
    let Some(first) = rows.first() else { return Ok(nothing()) };
    let is_exact = [first.count(2)?, first.count(3)?].iter().all(|found| *found < counted as u64);
    let held = |connection: &mut Connection, page: &[i64]| holdings::of_images(connection, page, &matcher);
    let images = holders(connection, &page, held)?;
    Ok(Trace { total: first.count(1)?, is_exact, images })
}

/// The images that hold what `matcher` means, with their number: through layers that share a finding, and by their own
/// word. `$next` bounds what is counted, the parameter behind it the images that are named.
fn page_sql(connection: &Connection, matcher: &Matcher, next: usize) -> String {
    // CROSS JOIN keeps SQLite to this order: the few findings first, then the images of their layers.
    format!(
        "WITH by_layer AS (SELECT il.image_id, il.layers_count FROM findings f CROSS JOIN image_layers il \
             WHERE {} AND f.shared = 1 AND il.layer_id = f.layer_id AND (f.excepted = 0 OR {}) LIMIT ${next}), \
         by_image AS (SELECT x.image_id, i.layers_count FROM {} \
             JOIN images i ON i.id = x.image_id WHERE {} AND (f.shared = 0 OR f.excepted = 1) \
             AND x.finding = f.id AND x.state <> 'absent' LIMIT ${next}), \
         held AS (SELECT image_id, layers_count FROM by_layer UNION SELECT image_id, layers_count FROM by_image) \
         SELECT image_id, (SELECT count(*) FROM held), (SELECT count(*) FROM by_layer), \
           (SELECT count(*) FROM by_image) \
         FROM held ORDER BY layers_count, image_id LIMIT ${}",
        matcher.shared(),
        connection.is_not_excepted(matcher.shared()),
        matcher.excepted_from(),
        matcher.excepted(),
        next + 1
    )
}

fn matcher(connection: &mut Connection, query: &Query) -> Result<Option<Matcher>, Fault> {
    Ok(Some(match query {
        Query::Finding(id) => Matcher::new("f.finding_id = $1", vec![id.into()]),
        Query::Secret(fingerprint) => Matcher::new("f.fingerprint = $1", vec![fingerprint.into()]),
        Query::Path(path) => {
            let path = path.trim_start_matches('/');
            Matcher::new("f.path_key = $1 AND f.path = $2", vec![intern::key(path).into(), path.into()])
        }
        Query::Package { ecosystem, name, version } => {
            let packages = packages(connection, ecosystem.as_deref(), name, version.as_deref())?;
            return Ok((!packages.is_empty()).then(|| Matcher::packages(packages)));
        }
        Query::Layer(_) => return Ok(None),
    }))
}

fn packages(
    connection: &mut Connection,
    ecosystem: Option<&str>,
    name: &str,
    version: Option<&str>,
) -> Result<Vec<i64>, Fault> {
    let mut values = vec![Value::from(intern::key(name)), name.into()];
    let mut sql = String::from("SELECT id FROM packages WHERE name_key = $1 AND name = $2");
    for (column, wanted) in [("ecosystem", ecosystem), ("version", version)] {
        if let Some(wanted) = wanted {
            values.push(wanted.into());
            sql += &format!(" AND {column} = ${}", values.len());
        }
    }
    sql += &format!(" ORDER BY id DESC LIMIT {VERSIONS}");
    connection.query(&sql, &values)?.iter().map(|row| row.int(0)).collect()
}

/// What is said of the images `page`, in that order, each with what `held` says that it holds.
fn holders(
    connection: &mut Connection,
    page: &[i64],
    held: impl Fn(&mut Connection, &[i64]) -> Result<HashMap<i64, Vec<Held>>, Fault>,
) -> Result<Vec<Holder>, Fault> {
    let mut images = Vec::with_capacity(page.len());
    for page in page.chunks(AT_ONCE) {
        let held = held(connection, page)?;
        images.extend(some_holders(connection, page, held)?);
    }
    Ok(images)
}

fn some_holders(
    connection: &mut Connection,
    page: &[i64],
    mut held: HashMap<i64, Vec<Held>>,
) -> Result<Vec<Holder>, Fault> {
    let mut lines = lines(connection, page)?;
    let mut tags = tags::of_images(connection, page)?;
    let bases = bases(connection, page)?;
    let mut images = Vec::with_capacity(page.len());
    for id in page {
        let Some(image) = lines.remove(id) else { continue };
        let held = held.remove(id).unwrap_or_default();
        let (tags, tags_total) = tags.remove(id).unwrap_or_default();
        let held_total = held.len() as u64;
        let with_base = |held: Held| {
            let base = held.layer.as_ref().and_then(|layer| base(&bases, *id, layer.position));
            (held, base)
        };
        images.push(Holder {
            image,
            tags,
            tags_total,
            held: held.into_iter().take(HELD).map(with_base).collect(),
            held_total,
        });
    }
    Ok(images)
}

fn lines(connection: &mut Connection, page: &[i64]) -> Result<HashMap<i64, ImageLine>, Fault> {
    let (values, numbers) = list(page.iter().map(|image| Value::from(*image)), 1);
    let sql = format!("SELECT {} FROM images i WHERE i.id IN ({numbers})", images::COLUMNS);
    let line = |row: &_| images::line(row).map(|line| (line.id.0, line));
    connection.query(&sql, &values)?.iter().map(line).collect()
}

/// By image, the places of last layers of other images that it was built on, smallest first, with those images.
type Bases = HashMap<i64, Vec<(u64, Base)>>;

fn bases(connection: &mut Connection, page: &[i64]) -> Result<Bases, Fault> {
    let (values, numbers) = list(page.iter().map(|image| Value::from(*image)), 1);
    let sql = format!(
        "SELECT il.image_id, il.position, b.manifest_digest FROM image_layers il JOIN chains c ON c.id = il.chain_id \
         JOIN images b ON b.id = c.image_id WHERE il.image_id IN ({numbers}) AND il.position < il.layers_count - 1 \
         ORDER BY il.image_id, il.position"
    );
    let mut bases: Bases = HashMap::new();
    for row in connection.query(&sql, &values)? {
        let last = row.count(1)?;
        let base = Base { manifest_digest: row.digest(2)?, layers_count: last + 1 };
        bases.entry(row.int(0)?).or_default().push((last, base));
    }
    Ok(bases)
}

/// The smallest image that `image` was built on and that has the layer at `position`.
fn base(bases: &Bases, image: i64, position: u64) -> Option<Base> {
    bases.get(&image)?.iter().find(|(last, _)| *last >= position).map(|(_, base)| base.clone())
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
                let at = rest.char_indices().skip(1).filter(|(_, c)| *c == '@').map(|(at, _)| at).last();
                let (name, version) = at.map_or((rest, None), |at| (&rest[..at], Some(rest[at + 1..].to_string())));
                Query::Package { ecosystem: Some(ecosystem.to_string()), name: name.to_string(), version }
            }
            _ => Query::Path(text.to_string()),
        }
    }
}

/// The number of an image, for callers that keep their own lists.
impl From<ImageId> for i64 {
    fn from(image: ImageId) -> i64 {
        image.0
    }
}
