//! Where things are in images: the findings of their layers, joined with where each image differs.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use layersift_model::{
    Confidence, Digest, LayerKey, Package, ParseError, RuleSummary, Severity, State, TracedFinding, TracedLayer,
    TracedPlace, parse,
};

use super::backend::{Columns, Connection, FromRow, FromValue, LIST, Row, Value, list, row};
use super::error::{Fault, StoreError};
use super::findings::ABSENT;
use super::ids::{FindingId, ImageId, KeyId, LayerId, PackageId};
use super::images::Images;
use super::page::Page;
use super::{Seconds, intern};

/// How many rows of findings are read for one answer.
const ROWS: usize = 20_000;

impl Images<'_> {
    /// The findings of an image under `key`, by layer and path, those of the configuration first.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn findings(&self, image: ImageId, key: &LayerKey) -> Result<Page<TracedPlace>, StoreError> {
        self.store.read(|connection| {
            let Some(key) = intern::known_key(connection, key)? else { return Ok(Page::empty()) };
            let matcher = Matcher::equal("layer_key_id", key.into());
            let mut places = of_images(connection, &[image], &matcher)?;
            let items = places.by_image.remove(&image).unwrap_or_default();
            Ok(Page { items, is_complete: places.is_complete })
        })
    }
}

/// Which findings are meant. Its parameters begin at `$1`.
pub(super) struct Matcher {
    /// A condition on `findings f` that holds for the finding in all images.
    condition: String,
    values: Vec<Value>,
    /// The packages of the files, in which an image may differ.
    packages: Option<Packages>,
}

/// Packages, and the parameters that they are bound to.
struct Packages {
    ids: HashSet<PackageId>,
    parameters: String,
}

impl Matcher {
    /// Findings whose `column` has the value `value`.
    pub(super) fn equal(column: &str, value: Value) -> Matcher {
        Matcher { condition: format!("f.{column} = $1"), values: vec![value], packages: None }
    }

    /// Findings in files with this path.
    pub(super) fn path(path: &str) -> Matcher {
        let values = vec![intern::key(path).into(), path.into()];
        Matcher { condition: "f.path_key = $1 AND f.path = $2".into(), values, packages: None }
    }

    /// Findings in files of these packages.
    pub(super) fn packages(packages: Vec<PackageId>) -> Matcher {
        let (values, parameters) = list(packages.iter().copied().map(Value::from), 1);
        let packages = Packages { ids: packages.into_iter().collect(), parameters };
        Matcher { condition: "1 = 1".into(), values, packages: Some(packages) }
    }

    /// The same, under one key only.
    pub(super) fn with_key(mut self, key: KeyId) -> Matcher {
        self.values.push(key.into());
        self.condition = format!("{} AND f.layer_key_id = ${}", self.condition, self.values.len());
        self
    }

    /// The condition on findings `f` that layers share.
    pub(super) fn shared(&self) -> String {
        self.condition_on("f")
    }

    /// The condition on `image_findings x` and its findings `f`: the package that the image says counts.
    pub(super) fn excepted(&self) -> String {
        self.condition_on("x")
    }

    /// The condition, with the packages in the column of the table `table`.
    fn condition_on(&self, table: &str) -> String {
        match &self.packages {
            Some(Packages { parameters, .. }) => {
                format!("{table}.package_id IN ({parameters}) AND {}", self.condition)
            }
            None => self.condition.clone(),
        }
    }

    /// The tables of [`Matcher::excepted`], the one that it narrows down first.
    pub(super) fn excepted_from(&self) -> &'static str {
        match self.packages {
            Some(_) => "image_findings x CROSS JOIN findings f",
            None => "findings f CROSS JOIN image_findings x",
        }
    }

    /// The values of either condition.
    pub(super) fn values(&self) -> &[Value] {
        &self.values
    }

    /// The condition on rows of `image_findings x` that say anything of what is meant, if only that it is absent.
    fn relevant(&self) -> String {
        match self.packages {
            Some(_) => format!("(({}) OR ({}))", self.shared(), self.excepted()),
            None => self.condition.clone(),
        }
    }

    fn admits(&self, finding: &FindingRow) -> bool {
        let packages = self.packages.as_ref();
        packages.is_none_or(|packages| finding.package.is_some_and(|package| packages.ids.contains(&package)))
    }
}

row! {
    /// A finding, before it is placed in an image.
    #[derive(Clone)]
    struct FindingRow {
        id: FindingId = "f.id",
        layer: Option<LayerId> = "f.layer_id",
        finding_id: String = "f.finding_id",
        rule: String = "r.rule",
        title: String = "r.title",
        severity: Severity = "r.severity",
        confidence: Confidence = "r.confidence",
        path: Option<String> = "f.path",
        inside: Option<String> = "f.inside",
        config: Option<String> = "f.config",
        fingerprint: Option<String> = "f.fingerprint",
        masked: Option<String> = "f.masked",
        length: Option<u64> = "f.length",
        package: Option<PackageId> = "p.id",
        ecosystem: Option<String> = "p.ecosystem",
        package_name: Option<String> = "p.name",
        package_version: Option<String> = "p.version",
        key: KeyId = "k.id",
        key_text: LayerKey = "k.digest",
        first_seen: Seconds = "f.first_seen",
    }
}

impl FindingRow {
    fn traced(&self) -> Result<TracedFinding, Fault> {
        let invalid = |error: ParseError| Fault::Damaged(format!("invalid archive members: {error}"));
        let inside = self.inside.as_deref().map(parse::json).transpose().map_err(invalid)?;
        let package = self.ecosystem.clone().zip(self.package_name.clone()).map(|(ecosystem, name)| Package {
            ecosystem: ecosystem.into(),
            name,
            version: self.package_version.clone(),
        });
        Ok(TracedFinding {
            finding_id: self.finding_id.clone(),
            rule: RuleSummary {
                id: self.rule.clone(),
                title: self.title.clone(),
                severity: self.severity,
                confidence: self.confidence,
            },
            path: self.path.clone(),
            inside: inside.unwrap_or_default(),
            config: self.config.clone(),
            fingerprint: self.fingerprint.clone(),
            masked: self.masked.clone(),
            length: self.length,
            package,
            layer_key: self.key_text.clone(),
            first_seen: self.first_seen,
            first_prompt: None,
        })
    }
}

/// A finding that all images with its layer share, and its state in them.
struct SharedRow {
    finding: FindingRow,
    state: State,
}

impl FromRow for SharedRow {
    fn from_row(row: &mut Row) -> Result<SharedRow, Fault> {
        Ok(SharedRow { finding: FindingRow::from_row(row)?, state: row.next("f.state")? })
    }
}

/// Where an image differs from its layer: its state there, and otherwise what it says of the finding.
struct ExceptionRow {
    finding: FindingRow,
    image: ImageId,
    position: i64,
    /// `None` where the image does not have the finding.
    state: Option<State>,
    ended: Option<i64>,
}

impl FromRow for ExceptionRow {
    fn from_row(row: &mut Row) -> Result<ExceptionRow, Fault> {
        let finding = FindingRow::from_row(row)?;
        let (image, position) = (row.next("x.image_id")?, row.next("x.position")?);
        let state = match row.next::<String>("x.state")? {
            text if text == ABSENT => None,
            text => Some(State::from_value(Value::Text(text))?),
        };
        Ok(ExceptionRow { finding, image, position, state, ended: row.next("x.ended_position")? })
    }
}

row! {
    struct LayerRow {
        image: ImageId = "il.image_id",
        position: u64 = "il.position",
        layer: LayerId = "il.layer_id",
        digest: Digest = "l.digest",
        diff_id: Option<Digest> = "l.diff_id",
        created_by: Option<String> = "c.created_by",
    }
}

impl LayerRow {
    fn traced(&self) -> TracedLayer {
        TracedLayer {
            position: self.position,
            digest: self.digest.clone(),
            diff_id: self.diff_id.clone(),
            created_by: self.created_by.clone(),
        }
    }
}

/// Places in images, by layer and path.
pub(super) struct Places {
    pub(super) by_image: HashMap<ImageId, Vec<TracedPlace>>,
    /// Whether these are all places.
    pub(super) is_complete: bool,
}

/// A place of an image by layer, path and finding.
type Order = (i64, Option<String>, String);

/// Places of one image. Of a finding under several keys there is one, of the newest key; and of a key under which the
/// image was assembled before all others.
#[derive(Default)]
struct ImagePlaces(BTreeMap<Order, ((bool, KeyId), TracedPlace)>);

/// The places in `images` of what `matcher` means.
pub(super) fn of_images(connection: &mut Connection, images: &[ImageId], matcher: &Matcher) -> Result<Places, Fault> {
    let layers = layers(connection, images)?;
    let shared = shared(connection, layers.values().map(|row| row.layer).collect(), matcher)?;
    let exceptions = exceptions(connection, images, matcher)?;
    let is_complete = shared.is_complete && exceptions.is_complete;
    let exceptions: HashMap<(ImageId, i64, FindingId), ExceptionRow> =
        exceptions.items.into_iter().map(|row| ((row.image, row.position, row.finding.id), row)).collect();
    let assembled = assembled(connection, images)?;
    let mut by_layer: HashMap<LayerId, Vec<&SharedRow>> = HashMap::new();
    for row in &shared.items {
        if let Some(layer) = row.finding.layer {
            by_layer.entry(layer).or_default().push(row);
        }
    }
    let mut places: HashMap<ImageId, ImagePlaces> = HashMap::new();
    for ((image, position), layer) in &layers {
        for row in by_layer.get(&layer.layer).into_iter().flatten() {
            if !exceptions.contains_key(&(*image, *position, row.finding.id)) {
                let is_assembled = assembled.contains(&(*image, row.finding.key));
                let found = Found { finding: &row.finding, state: row.state, ended: None, is_assembled };
                places.entry(*image).or_default().put(*position, Some(layer), &found)?;
            }
        }
    }
    for ((image, position, _), row) in &exceptions {
        let Some(state) = row.state.filter(|_| matcher.admits(&row.finding)) else { continue };
        let is_assembled = assembled.contains(&(*image, row.finding.key));
        let found = Found { finding: &row.finding, state, ended: row.ended, is_assembled };
        places.entry(*image).or_default().put(*position, layers.get(&(*image, *position)), &found)?;
    }
    let by_image = places.into_iter().map(|(image, places)| (image, places.in_order())).collect();
    Ok(Places { by_image, is_complete })
}

/// A finding in an image.
struct Found<'r> {
    finding: &'r FindingRow,
    state: State,
    ended: Option<i64>,
    /// Whether the image was assembled under the finding's key, so that its state there is known.
    is_assembled: bool,
}

impl ImagePlaces {
    fn put(&mut self, position: i64, layer: Option<&LayerRow>, found: &Found<'_>) -> Result<(), Fault> {
        let Found { finding, state, ended, is_assembled } = *found;
        let order = (position, finding.path.clone(), finding.finding_id.clone());
        let rank = (is_assembled, finding.key);
        if self.0.get(&order).is_some_and(|(known, _)| *known >= rank) {
            return Ok(());
        }
        // What has no layer that ended it was ended within its own.
        let own = (state != State::Present).then_some(position).filter(|position| *position >= 0);
        let place = TracedPlace {
            finding: Some(finding.traced()?),
            layer: layer.map(LayerRow::traced),
            state: is_assembled.then_some(state),
            ended_by: ended.or(own).filter(|_| is_assembled).and_then(|position| u64::try_from(position).ok()),
            base: None,
        };
        self.0.insert(order, (rank, place));
        Ok(())
    }

    fn in_order(self) -> Vec<TracedPlace> {
        self.0.into_values().map(|(_, place)| place).collect()
    }
}

/// The findings that `layers` bring to their images, by layer.
fn shared(connection: &mut Connection, layers: BTreeSet<LayerId>, matcher: &Matcher) -> Result<Page<SharedRow>, Fault> {
    // The layers first, and each of them in the index of what is looked for: a secret may be in a tenth of all layers.
    let condition = format!("{} AND f.shared = 1 AND f.layer_id = l.id", matcher.shared());
    let findings = connection.findings_of_each(&condition);
    let layers: Vec<Value> = layers.into_iter().map(Value::from).collect();
    let mut page = Page::empty();
    for some in layers.chunks(LIST) {
        let (some, numbers) = list(some.iter().cloned(), matcher.values.len() + 1);
        let sql = format!(
            "SELECT {}, f.state FROM layers l {findings} JOIN rules r ON r.id = f.rule_id \
             JOIN layer_keys k ON k.id = f.layer_key_id LEFT JOIN packages p ON p.id = f.package_id \
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
    let (images, numbers) = list(images.iter().copied().map(Value::from), matcher.values.len() + 1);
    let sql = format!(
        "SELECT {}, x.image_id, x.position, x.state, x.ended_position FROM image_findings x \
         JOIN findings f ON f.id = x.finding JOIN rules r ON r.id = x.rule_id \
         JOIN layer_keys k ON k.id = f.layer_key_id LEFT JOIN packages p ON p.id = x.package_id \
         WHERE x.image_id IN ({numbers}) AND (f.shared = 0 OR f.excepted = 1) AND {} \
         ORDER BY x.image_id, x.position, f.id",
        FindingRow::COLUMNS,
        matcher.relevant()
    );
    connection.page(&sql, &[matcher.values(), &images].concat(), ROWS)
}

/// The layers of `images`, by image and position.
fn layers(connection: &mut Connection, images: &[ImageId]) -> Result<HashMap<(ImageId, i64), LayerRow>, Fault> {
    let rest = |list: &str| {
        format!(
            "FROM image_layers il JOIN layers l ON l.id = il.layer_id \
             LEFT JOIN instructions c ON c.id = il.instruction_id WHERE il.image_id IN ({list})"
        )
    };
    let images: Vec<Value> = images.iter().copied().map(Value::from).collect();
    let rows: Vec<LayerRow> = connection.select_in(rest, &[], &images)?;
    Ok(rows.into_iter().map(|row| ((row.image, i64::try_from(row.position).unwrap_or(i64::MAX)), row)).collect())
}

/// Where in `images` those of `wanted` are that are layers of theirs.
pub(super) fn of_layers(connection: &mut Connection, images: &[ImageId], wanted: &[LayerId]) -> Result<Places, Fault> {
    let mut rows: Vec<LayerRow> = layers(connection, images)?.into_values().collect();
    rows.retain(|row| wanted.contains(&row.layer));
    rows.sort_by_key(|row| (row.image, row.position));
    let mut by_image: HashMap<ImageId, Vec<TracedPlace>> = HashMap::new();
    for row in rows {
        let layer = Some(row.traced());
        let place = TracedPlace { finding: None, layer, state: None, ended_by: None, base: None };
        by_image.entry(row.image).or_default().push(place);
    }
    Ok(Places { by_image, is_complete: true })
}

/// The pairs of `images` and the keys that they were assembled under.
fn assembled(connection: &mut Connection, images: &[ImageId]) -> Result<HashSet<(ImageId, KeyId)>, Fault> {
    let sql = |list: &str| format!("SELECT image_id, layer_key_id FROM image_counts WHERE image_id IN ({list})");
    let images: Vec<Value> = images.iter().copied().map(Value::from).collect();
    Ok(connection.query_in(sql, &[], &images)?.into_iter().collect())
}
