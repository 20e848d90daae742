//! Where things are in images: the findings of their layers, joined with where each image differs.
//!
//! What is named is chosen by numbers and by the beginnings of paths. The texts of what was chosen come last
//! ([`texts`]), as far as there is room for them: a store that somebody else wrote may have as many and as long ones as
//! it likes.

mod matcher;
mod texts;

use std::collections::{BTreeSet, HashMap, HashSet};

use layersift_model::{LayerKey, State, TracedPlace};

use super::backend::{Columns, Connection, FromRow, FromValue, LIST, Row, Value, list, row};
use super::error::{Fault, StoreError};
use super::findings::ABSENT;
use super::ids::{FindingId, ImageId, InstructionId, KeyId, LayerId, PackageId, RuleId};
use super::images::Images;
use super::intern;
use super::page::Page;
use super::room::Room;

pub(super) use self::matcher::Matcher;
pub(super) use self::texts::traced;

/// How many rows of findings are read for one answer.
const ROWS: usize = 20_000;

/// Bytes of memory for the places of one image.
const MEMORY: usize = 32 << 20;

impl Images<'_> {
    /// The findings of an image under `key`, by layer and path, those of the configuration first.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn findings(&self, image: ImageId, key: &LayerKey) -> Result<Page<TracedPlace>, StoreError> {
        self.store.read(|connection| {
            let Some(key) = intern::known_key(connection, key)? else { return Ok(Page::empty()) };
            let matcher = Matcher::equal("layer_key_id", key.into());
            let places = of_images(connection, &[image], &matcher, usize::MAX)?;
            let mut by_image = traced(connection, &[image], &places, &mut Room::new(MEMORY))?;
            let items = by_image.remove(&image).unwrap_or_default();
            let is_complete = places.is_complete && items.len() as u64 == places.total(image);
            Ok(Page { items, is_complete })
        })
    }
}

/// Places in images, by layer and path.
pub(super) struct Places {
    by_image: HashMap<ImageId, ImagePlaces>,
    /// Whether these are all places.
    pub(super) is_complete: bool,
}

impl Places {
    /// How many places there are in an image, of which the first ones are named.
    pub(super) fn total(&self, image: ImageId) -> u64 {
        self.by_image.get(&image).map_or(0, |places| places.total)
    }
}

/// The first places of one image, and how many it has.
#[derive(Default)]
struct ImagePlaces {
    first: Vec<Place>,
    total: u64,
}

/// A place in an image, by numbers.
#[derive(Clone, Copy)]
struct Place {
    /// The finding; `None` where a layer was looked for.
    finding: Option<Found>,
    /// The layer with its position and its instruction; `None` for the configuration.
    layer: Option<LayerRow>,
    state: Option<State>,
    ended_by: Option<u64>,
}

/// A finding, by numbers.
#[derive(Clone, Copy)]
struct Found {
    id: FindingId,
    rule: RuleId,
    package: Option<PackageId>,
    key: KeyId,
}

row! {
    /// What places are sorted by, and the numbers of what is known of them.
    struct FindingRow {
        id: FindingId = "f.id",
        layer: Option<LayerId> = "f.layer_id",
        key: KeyId = "f.layer_key_id",
        // As much as people look at.
        path: Option<String> = "substr(f.path, 1, 256)",
        finding_id: String = "substr(f.finding_id, 1, 512)",
    }
}

/// A finding that all images with its layer share, and its state in them.
struct SharedRow {
    finding: FindingRow,
    rule: RuleId,
    package: Option<PackageId>,
    state: State,
}

impl FromRow for SharedRow {
    fn from_row(row: &mut Row) -> Result<SharedRow, Fault> {
        let finding = FindingRow::from_row(row)?;
        let (rule, package) = (row.next("f.rule_id")?, row.next("f.package_id")?);
        Ok(SharedRow { finding, rule, package, state: row.next("f.state")? })
    }
}

/// Where an image differs from its layer: its state there, and otherwise what it says of the finding.
struct ExceptionRow {
    finding: FindingRow,
    rule: RuleId,
    package: Option<PackageId>,
    image: ImageId,
    position: i64,
    /// `None` where the image does not have the finding.
    state: Option<State>,
    ended: Option<i64>,
}

impl FromRow for ExceptionRow {
    fn from_row(row: &mut Row) -> Result<ExceptionRow, Fault> {
        let finding = FindingRow::from_row(row)?;
        let (rule, package) = (row.next("x.rule_id")?, row.next("x.package_id")?);
        let (image, position) = (row.next("x.image_id")?, row.next("x.position")?);
        let state = match row.next::<String>("x.state")? {
            text if text == ABSENT => None,
            text => Some(State::from_value(Value::Text(text))?),
        };
        Ok(ExceptionRow { finding, rule, package, image, position, state, ended: row.next("x.ended_position")? })
    }
}

row! {
    /// A layer of an image.
    #[derive(Clone, Copy)]
    struct LayerRow {
        image: ImageId = "il.image_id",
        position: i64 = "il.position",
        layer: LayerId = "il.layer_id",
        instruction: Option<InstructionId> = "il.instruction_id",
    }
}

/// A finding that an image may have at some position.
struct Candidate<'r> {
    finding: &'r FindingRow,
    rule: RuleId,
    package: Option<PackageId>,
    state: State,
    ended: Option<i64>,
}

/// The places in `images` of what `matcher` means, of each image the first `most`.
pub(super) fn of_images(
    connection: &mut Connection,
    images: &[ImageId],
    matcher: &Matcher,
    most: usize,
) -> Result<Places, Fault> {
    let layers = layers(connection, images)?;
    let shared = shared(connection, layers.iter().map(|row| row.layer).collect(), matcher)?;
    let exceptions = exceptions(connection, images, matcher)?;
    let assembled = assembled(connection, images)?;
    let is_complete = shared.is_complete && exceptions.is_complete;
    let mut by_layer: HashMap<LayerId, Vec<&SharedRow>> = HashMap::new();
    for row in &shared.items {
        if let Some(layer) = row.finding.layer {
            by_layer.entry(layer).or_default().push(row);
        }
    }
    let mut by_image = HashMap::new();
    for image in images {
        let layers = between(&layers, (*image, i64::MIN), (*image, i64::MAX));
        let exceptions = between(&exceptions.items, (*image, i64::MIN), (*image, i64::MAX));
        let positions: BTreeSet<i64> =
            layers.iter().map(|row| row.position).chain(exceptions.iter().map(|row| row.position)).collect();
        let mut places = ImagePlaces::default();
        for position in positions {
            let at = (*image, position);
            let layer = between(layers, at, at).first();
            let shared = layer.and_then(|layer| by_layer.get(&layer.layer)).map_or(&[][..], Vec::as_slice);
            let found = candidates(shared, between(exceptions, at, at), matcher);
            places.add(position, layer, &found, |key| assembled.contains(&(*image, key)), most);
        }
        by_image.insert(*image, places);
    }
    Ok(Places { by_image, is_complete })
}

/// Where in `images` those of `wanted` are that are layers of theirs, of each image the first `most`.
pub(super) fn of_layers(
    connection: &mut Connection,
    images: &[ImageId],
    wanted: &[LayerId],
    most: usize,
) -> Result<Places, Fault> {
    let mut by_image: HashMap<ImageId, ImagePlaces> = HashMap::new();
    for row in layers(connection, images)?.into_iter().filter(|row| wanted.contains(&row.layer)) {
        let places = by_image.entry(row.image).or_default();
        places.put(Place { finding: None, layer: Some(row), state: None, ended_by: None }, most);
    }
    Ok(Places { by_image, is_complete: true })
}

impl ImagePlaces {
    /// Adds what was found at a position, which comes after those before. Of a finding under several keys there is one
    /// place, of the newest key; and of a key under which the image was assembled before all others.
    fn add(
        &mut self,
        position: i64,
        layer: Option<&LayerRow>,
        found: &[Candidate<'_>],
        is_assembled: impl Fn(KeyId) -> bool,
        most: usize,
    ) {
        for same in found.chunk_by(|a, b| a.finding.order() == b.finding.order()) {
            let rank = |found: &&Candidate<'_>| (is_assembled(found.finding.key), found.finding.key);
            let Some(best) = same.iter().max_by_key(rank) else { continue };
            let is_assembled = is_assembled(best.finding.key);
            // What has no layer that ended it was ended within its own.
            let own = (best.state != State::Present).then_some(position).filter(|position| *position >= 0);
            let ended = best.ended.or(own).filter(|_| is_assembled);
            let (id, key) = (best.finding.id, best.finding.key);
            let place = Place {
                finding: Some(Found { id, rule: best.rule, package: best.package, key }),
                layer: layer.copied(),
                state: is_assembled.then_some(best.state),
                ended_by: ended.and_then(|position| u64::try_from(position).ok()),
            };
            self.put(place, most);
        }
    }

    fn put(&mut self, place: Place, most: usize) {
        self.total += 1;
        if self.first.len() < most {
            self.first.push(place);
        }
    }
}

impl FindingRow {
    /// What places of a position are sorted by.
    fn order(&self) -> (Option<&str>, &str) {
        (self.path.as_deref(), &self.finding_id)
    }
}

/// What belongs to a position of an image.
trait Positioned {
    fn place(&self) -> (ImageId, i64);
}

impl Positioned for LayerRow {
    fn place(&self) -> (ImageId, i64) {
        (self.image, self.position)
    }
}

impl Positioned for ExceptionRow {
    fn place(&self) -> (ImageId, i64) {
        (self.image, self.position)
    }
}

/// Those of `rows`, which are sorted by image and position, from one place to another.
fn between<T: Positioned>(rows: &[T], from: (ImageId, i64), to: (ImageId, i64)) -> &[T] {
    let from = rows.partition_point(|row| row.place() < from);
    let to = rows.partition_point(|row| row.place() <= to);
    rows.get(from..to).unwrap_or_default()
}

/// What an image has at a position, in the order of paths: what its layer brings to all images, except where it says
/// otherwise, and what it says itself.
fn candidates<'r>(shared: &[&'r SharedRow], here: &'r [ExceptionRow], matcher: &Matcher) -> Vec<Candidate<'r>> {
    let excepted: HashSet<FindingId> = here.iter().map(|row| row.finding.id).collect();
    let shared = shared.iter().filter(|row| !excepted.contains(&row.finding.id)).map(|row| {
        let SharedRow { finding, rule, package, state } = row;
        Candidate { finding, rule: *rule, package: *package, state: *state, ended: None }
    });
    let own = here.iter().filter(|row| matcher.admits(row.package)).filter_map(|row| {
        let ExceptionRow { finding, rule, package, state, ended, .. } = row;
        Some(Candidate { finding, rule: *rule, package: *package, state: (*state)?, ended: *ended })
    });
    let mut found: Vec<Candidate<'r>> = shared.chain(own).collect();
    found.sort_by(|a, b| a.finding.order().cmp(&b.finding.order()));
    found
}

/// The findings that `layers` bring to their images, by layer.
fn shared(connection: &mut Connection, layers: BTreeSet<LayerId>, matcher: &Matcher) -> Result<Page<SharedRow>, Fault> {
    // The layers first, and each of them in the index of what is looked for: a secret may be in a tenth of all layers.
    let condition = format!("{} AND f.shared = 1 AND f.layer_id = l.id", matcher.shared());
    let findings = connection.findings_of_each(&condition);
    let layers: Vec<Value> = layers.into_iter().map(Value::from).collect();
    let mut page = Page::empty();
    for some in layers.chunks(LIST) {
        let (some, numbers) = list(some.iter().cloned(), matcher.values().len() + 1);
        let sql = format!(
            "SELECT {}, f.rule_id, f.package_id, f.state FROM layers l {findings} \
             WHERE l.id IN ({numbers}) ORDER BY l.id, f.id",
            FindingRow::COLUMNS
        );
        let values = [matcher.values(), &some].concat();
        let next: Page<SharedRow> = connection.page(&sql, &values, ROWS - page.items.len())?;
        page.items.extend(next.items);
        if !next.is_complete {
            page.is_complete = false;
            break;
        }
    }
    Ok(page)
}

/// Where `images` differ, by image and position.
fn exceptions(connection: &mut Connection, images: &[ImageId], matcher: &Matcher) -> Result<Page<ExceptionRow>, Fault> {
    let (images, numbers) = list(images.iter().copied().map(Value::from), matcher.values().len() + 1);
    let sql = format!(
        "SELECT {}, x.rule_id, x.package_id, x.image_id, x.position, x.state, x.ended_position \
         FROM image_findings x JOIN findings f ON f.id = x.finding \
         WHERE x.image_id IN ({numbers}) AND (f.shared = 0 OR f.excepted = 1) AND {} \
         ORDER BY x.image_id, x.position, f.id",
        FindingRow::COLUMNS,
        matcher.relevant()
    );
    connection.page(&sql, &[matcher.values(), &images].concat(), ROWS)
}

/// The layers of `images`, by image and position.
fn layers(connection: &mut Connection, images: &[ImageId]) -> Result<Vec<LayerRow>, Fault> {
    let rest = |list: &str| format!("FROM image_layers il WHERE il.image_id IN ({list})");
    let images: Vec<Value> = images.iter().copied().map(Value::from).collect();
    let mut rows: Vec<LayerRow> = connection.select_in(rest, &[], &images)?;
    rows.sort_unstable_by_key(LayerRow::place);
    Ok(rows)
}

/// The pairs of `images` and the keys that they were assembled under.
fn assembled(connection: &mut Connection, images: &[ImageId]) -> Result<HashSet<(ImageId, KeyId)>, Fault> {
    let sql = |list: &str| format!("SELECT image_id, layer_key_id FROM image_counts WHERE image_id IN ({list})");
    let images: Vec<Value> = images.iter().copied().map(Value::from).collect();
    Ok(connection.query_in(sql, &[], &images)?.into_iter().collect())
}
