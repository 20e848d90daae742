//! What images hold: the findings of their layers, joined with what each image says otherwise.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::backend::{Connection, Row, Value, list};
use super::error::{Fault, StoreError};
use super::findings::{ABSENT, PackageRecord, RuleRecord};
use super::images::ImageId;
use super::intern::select_in;
use super::{Store, intern};
use layersift_model::{Confidence, Digest, Severity, State};

/// How many rows of findings are read for one answer.
pub(super) const ROWS: usize = 20_000;

/// A finding, as answers name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindingLine {
    /// Its id.
    pub finding_id: String,
    /// What was looked for.
    pub rule: RuleRecord,
    /// The file, where it is in one.
    pub path: Option<String>,
    /// The archive members that lead to it.
    pub inside: Vec<String>,
    /// The field of the configuration, where it is in one.
    pub config: Option<String>,
    /// The secret's keyed fingerprint.
    pub fingerprint: Option<String>,
    /// The secret's masked form.
    pub masked: Option<String>,
    /// The secret's length in bytes.
    pub length: Option<u64>,
    /// The package that the file belongs to.
    pub package: Option<PackageRecord>,
    /// The rule set that found it.
    pub ruleset: String,
    /// When the store first heard of it.
    pub first_seen: super::Seconds,
}

/// A layer of an image, as answers name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldLayer {
    /// Its place in the image, from 0 at the base.
    pub position: u64,
    /// The digest of its blob.
    pub digest: Digest,
    /// The digest of its uncompressed bytes.
    pub diff_id: Option<Digest>,
    /// The history instruction that made it, secrets masked.
    pub created_by: Option<String>,
}

/// Something that an image holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The finding; `None` where a layer was asked for.
    pub finding: Option<FindingLine>,
    /// The layer it is in; `None` for what is in the configuration.
    pub layer: Option<HeldLayer>,
    /// Whether it is still in the final image; `None` where the image was not assembled by the finding's rule set.
    pub state: Option<State>,
    /// The layer that overwrote or deleted it, by its place from the base.
    pub ended_by: Option<u64>,
}

impl Store {
    /// What an image holds by the rules `ruleset`, by layer and path, what is in no layer first; at most 20,000.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn findings(&self, image: ImageId, ruleset: &str) -> Result<Vec<Held>, StoreError> {
        self.read(|connection| {
            let Some(ruleset) = intern::known_ruleset(connection, ruleset)? else { return Ok(Vec::new()) };
            let matcher = Matcher::new("f.ruleset_id = $1", vec![ruleset.into()]);
            let mut held = of_images(connection, &[image.0], &matcher)?;
            Ok(held.remove(&image.0).unwrap_or_default())
        })
    }
}

/// Which findings are meant: a condition on `findings f` whose parameters begin at `$1`, or the numbers of packages.
pub(super) struct Matcher {
    condition: String,
    values: Vec<Value>,
    packages: Option<HashSet<i64>>,
}

impl Matcher {
    /// Findings `f` of which `condition` holds.
    pub(super) fn new(condition: &str, values: Vec<Value>) -> Matcher {
        Matcher { condition: condition.to_string(), values, packages: None }
    }

    /// Findings in files of these packages.
    pub(super) fn packages(packages: Vec<i64>) -> Matcher {
        let (values, numbers) = list(packages.iter().map(|id| Value::from(*id)), 1);
        let condition = format!("f.package_id IN ({numbers})");
        Matcher { condition, values, packages: Some(packages.into_iter().collect()) }
    }

    /// The same, by one rule set only.
    pub(super) fn with_ruleset(mut self, ruleset: i64) -> Matcher {
        self.values.push(ruleset.into());
        self.condition = format!("{} AND f.ruleset_id = ${}", self.condition, self.values.len());
        self
    }

    /// The condition on findings that layers share.
    pub(super) fn shared(&self) -> &str {
        &self.condition
    }

    /// The condition on what `image_findings x` says: its package counts, not that of the layer's row.
    pub(super) fn excepted(&self) -> String {
        match self.packages {
            Some(_) => self.condition.replace("f.package_id", "x.package_id"),
            None => self.condition.clone(),
        }
    }

    /// The tables of that condition, the one that it narrows down first.
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

    /// The condition on rows of `image_findings x` that say anything of what is meant, if only that it is not there.
    fn relevant(&self) -> String {
        match self.packages {
            Some(_) => format!("(({}) OR ({}))", self.condition, self.excepted()),
            None => self.condition.clone(),
        }
    }

    fn admits(&self, found: &Found) -> bool {
        let packages = self.packages.as_ref();
        packages.is_none_or(|packages| found.package.is_some_and(|package| packages.contains(&package)))
    }
}

const DETAILS: &str = "f.id, f.layer_id, f.finding_id, r.rule, r.title, r.severity, r.confidence, f.path, f.inside, \
     f.config, f.fingerprint, f.masked, f.length, p.id, p.ecosystem, p.name, p.version, s.id, s.digest, f.first_seen";

/// How many columns [`DETAILS`] has.
const WIDTH: usize = 20;

/// A finding that was read, before it is placed in an image.
#[derive(Clone)]
struct Found {
    id: i64,
    package: Option<i64>,
    ruleset: i64,
    state: State,
    line: FindingLine,
}

/// What an image says of a finding in one of its layers.
struct Said {
    /// `None` where the image does not have it.
    found: Option<Found>,
    ended: Option<i64>,
}

/// A layer of an image.
struct Placed {
    layer: i64,
    line: HeldLayer,
}

/// What findings of an image are in order of: layer, path, id.
type Order = (i64, Option<String>, String);

/// What images hold of what `matcher` means.
pub(super) fn of_images(
    connection: &mut Connection,
    images: &[i64],
    matcher: &Matcher,
) -> Result<HashMap<i64, Vec<Held>>, Fault> {
    let layers = layers(connection, images)?;
    let shared = shared(connection, layers.values().map(|placed| placed.layer).collect(), matcher)?;
    let said = said(connection, images, matcher)?;
    let assembled = assembled(connection, images)?;
    let mut by_layer: HashMap<i64, Vec<&Found>> = HashMap::new();
    for (layer, found) in &shared {
        by_layer.entry(*layer).or_default().push(found);
    }
    // By image, position, path and id, of the newest rule set; one rule set is enough to name a finding.
    let mut held: HashMap<i64, BTreeMap<Order, (bool, i64, Held)>> = HashMap::new();
    let mut put = |image: i64, position: i64, layer: Option<HeldLayer>, found: &Found, ended: Option<i64>| {
        let is_known = assembled.contains(&(image, found.ruleset));
        let key = (position, found.line.path.clone(), found.line.finding_id.clone());
        let rank = (is_known, found.ruleset);
        let known = held.entry(image).or_default();
        if known.get(&key).is_some_and(|(was_known, ruleset, _)| (*was_known, *ruleset) >= rank) {
            return;
        }
        let inside = (found.state != State::Present).then_some(position).filter(|position| *position >= 0);
        let line = Held {
            finding: Some(found.line.clone()),
            layer,
            state: is_known.then_some(found.state),
            ended_by: ended.or(inside).filter(|_| is_known).and_then(|place| u64::try_from(place).ok()),
        };
        known.insert(key, (rank.0, rank.1, line));
    };
    for ((image, position), placed) in &layers {
        for found in by_layer.get(&placed.layer).into_iter().flatten() {
            if !said.contains_key(&(*image, *position, found.id)) {
                put(*image, *position, Some(placed.line.clone()), found, None);
            }
        }
    }
    for ((image, position, _), said) in &said {
        if let Some(found) = said.found.as_ref().filter(|found| matcher.admits(found)) {
            let layer = layers.get(&(*image, *position)).map(|placed| placed.line.clone());
            put(*image, *position, layer, found, said.ended);
        }
    }
    let lines = |held: BTreeMap<_, (bool, i64, Held)>| held.into_values().map(|(_, _, held)| held).collect();
    Ok(held.into_iter().map(|(image, held)| (image, lines(held))).collect())
}

/// The findings that `layers` bring to their images, with the layers.
fn shared(connection: &mut Connection, layers: BTreeSet<i64>, matcher: &Matcher) -> Result<Vec<(i64, Found)>, Fault> {
    // The layers first, and each of them in the index of what is looked for: a secret may be in a tenth of all layers.
    let condition = format!("{} AND f.shared = 1 AND f.layer_id = l.id", matcher.shared());
    let sql = format!(
        "SELECT {DETAILS}, f.state FROM layers l {} JOIN rules r ON r.id = f.rule_id \
         JOIN rulesets s ON s.id = f.ruleset_id LEFT JOIN packages p ON p.id = f.package_id \
         WHERE l.id IN ({{list}}) LIMIT {ROWS}",
        connection.findings_of_each(&condition)
    );
    let layers: Vec<Value> = layers.into_iter().map(Value::from).collect();
    let rows = select_in(connection, &sql, matcher.values(), &layers)?;
    let row = |row: &Row| Ok((row.int(1)?, found(row, state(&row.text(WIDTH)?)?)?));
    rows.iter().take(ROWS).map(row).collect()
}

/// What `images` say otherwise, by image, position and finding.
fn said(
    connection: &mut Connection,
    images: &[i64],
    matcher: &Matcher,
) -> Result<HashMap<(i64, i64, i64), Said>, Fault> {
    let (images, numbers) = list(images.iter().map(|image| Value::from(*image)), matcher.values.len() + 1);
    let sql = format!(
        "SELECT {DETAILS}, x.image_id, x.position, x.state, x.ended_position FROM image_findings x \
         JOIN findings f ON f.id = x.finding JOIN rules r ON r.id = x.rule_id \
         JOIN rulesets s ON s.id = f.ruleset_id LEFT JOIN packages p ON p.id = x.package_id \
         WHERE x.image_id IN ({numbers}) AND (f.shared = 0 OR f.excepted = 1) AND {} LIMIT {ROWS}",
        matcher.relevant()
    );
    let mut said = HashMap::new();
    for row in connection.query(&sql, &[matcher.values(), &images].concat())? {
        let text = row.text(WIDTH + 2)?;
        let found = if text == ABSENT { None } else { Some(found(&row, state(&text)?)?) };
        let key = (row.int(WIDTH)?, row.int(WIDTH + 1)?, row.int(0)?);
        said.insert(key, Said { found, ended: row.maybe_int(WIDTH + 3)? });
    }
    Ok(said)
}

/// The layers of `images`, by image and position.
fn layers(connection: &mut Connection, images: &[i64]) -> Result<HashMap<(i64, i64), Placed>, Fault> {
    let (images, numbers) = list(images.iter().map(|image| Value::from(*image)), 1);
    let sql = format!(
        "SELECT il.image_id, il.position, il.layer_id, l.digest, l.diff_id, c.created_by FROM image_layers il \
         JOIN layers l ON l.id = il.layer_id LEFT JOIN instructions c ON c.id = il.instruction_id \
         WHERE il.image_id IN ({numbers})"
    );
    let placed = |row: &Row| {
        let line = HeldLayer {
            position: row.count(1)?,
            digest: row.digest(3)?,
            diff_id: row.maybe_digest(4)?,
            created_by: row.maybe_text(5)?,
        };
        Ok(((row.int(0)?, row.int(1)?), Placed { layer: row.int(2)?, line }))
    };
    connection.query(&sql, &images)?.iter().map(placed).collect()
}

/// Those of `wanted` that are layers of `images`, as what those images hold.
pub(super) fn layers_of_images(
    connection: &mut Connection,
    images: &[i64],
    wanted: &[i64],
) -> Result<HashMap<i64, Vec<Held>>, Fault> {
    let mut placed: Vec<((i64, i64), Placed)> = layers(connection, images)?.into_iter().collect();
    placed.retain(|(_, placed)| wanted.contains(&placed.layer));
    placed.sort_by_key(|(key, _)| *key);
    let mut held: HashMap<i64, Vec<Held>> = HashMap::new();
    for ((image, _), placed) in placed {
        let line = Held { finding: None, layer: Some(placed.line), state: None, ended_by: None };
        held.entry(image).or_default().push(line);
    }
    Ok(held)
}

/// Which of `images` were assembled, with the numbers of the rule sets.
fn assembled(connection: &mut Connection, images: &[i64]) -> Result<HashSet<(i64, i64)>, Fault> {
    let (images, numbers) = list(images.iter().map(|image| Value::from(*image)), 1);
    let sql = format!("SELECT image_id, ruleset_id FROM image_verdicts WHERE image_id IN ({numbers})");
    connection.query(&sql, &images)?.iter().map(|row| Ok((row.int(0)?, row.int(1)?))).collect()
}

fn found(row: &Row, state: State) -> Result<Found, Fault> {
    let package = match row.maybe_int(13)? {
        Some(_) => Some(PackageRecord { ecosystem: row.text(14)?, name: row.text(15)?, version: row.maybe_text(16)? }),
        None => None,
    };
    let line = FindingLine {
        finding_id: row.text(2)?,
        rule: rule(row, 3)?,
        path: row.maybe_text(7)?,
        inside: inside(row.maybe_text(8)?)?,
        config: row.maybe_text(9)?,
        fingerprint: row.maybe_text(10)?,
        masked: row.maybe_text(11)?,
        length: row.maybe_int(12)?.and_then(|length| u64::try_from(length).ok()),
        package,
        ruleset: row.text(18)?,
        first_seen: row.int(19)?,
    };
    Ok(Found { id: row.int(0)?, package: row.maybe_int(13)?, ruleset: row.int(17)?, state, line })
}

/// The rule in four columns from `at` on: id, title, severity, confidence.
pub(super) fn rule(row: &Row, at: usize) -> Result<RuleRecord, Fault> {
    let severity: Severity = row.text(at + 2)?.parse().map_err(Fault::Damaged)?;
    let confidence = row.text(at + 3)?;
    let known = [Confidence::Low, Confidence::Medium, Confidence::High];
    let confidence = known
        .into_iter()
        .find(|known| known.name() == confidence)
        .ok_or_else(|| Fault::Damaged(format!("`{confidence}` where a confidence belongs")))?;
    Ok(RuleRecord { id: row.text(at)?, title: row.text(at + 1)?, severity, confidence })
}

fn inside(text: Option<String>) -> Result<Vec<String>, Fault> {
    let Some(text) = text else { return Ok(Vec::new()) };
    serde_json::from_str(&text).map_err(|error| Fault::Damaged(format!("a finding's archive members: {error}")))
}

fn state(text: &str) -> Result<State, Fault> {
    [State::Present, State::Overwritten, State::Deleted]
        .into_iter()
        .find(|state| state.name() == text)
        .ok_or_else(|| Fault::Damaged(format!("`{text}` where a state belongs")))
}
