//! The index of findings. What all images with a layer have in common is stored with the layer; an image adds what
//! differs.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use layersift_model::State;

use super::backend::{Connection, Value, row};
use super::error::Fault;
use super::ids::{FindingId, ImageId, KeyId, LayerId, PackageId, RuleId};
use super::index::{Counts, IndexedFinding, ReportIndex};
use super::{Seconds, intern};

/// The state of a finding that the layer has in other images, and not in this one.
pub(super) const ABSENT: &str = "absent";

/// Stores the findings of `image` under `key` in place of those that it had, and their counts.
pub(super) fn put(
    connection: &mut Connection,
    image: ImageId,
    key: KeyId,
    index: &ReportIndex,
    now: Seconds,
) -> Result<(), Fault> {
    // Two processes may store a report of one image at once: then one after the other.
    connection.lock_image(image)?;
    let ids = Ids::of(connection, image, key, index)?;
    // What the first image with a layer has in it is taken to be what the layer has in every image.
    let defined = define(connection, &ids, index)?;
    let of_defined: Vec<&IndexedFinding> =
        index.findings.iter().filter(|finding| ids.layer(finding).is_some_and(|id| defined.contains(&id))).collect();
    insert(connection, &ids, &of_defined, true, now)?;
    let mut stored = stored(connection, &ids, &index.findings)?;
    let unknown: Vec<&IndexedFinding> =
        index.findings.iter().filter(|finding| !stored.contains_key(&ids.key_of(finding))).collect();
    if !unknown.is_empty() {
        insert(connection, &ids, &unknown, false, now)?;
        stored = self::stored(connection, &ids, &index.findings)?;
    }
    let exceptions = exceptions(index, &stored, &ids)?;
    replace(connection, image, key, &exceptions)?;
    put_counts(connection, image, key, &index.counts, now)
}

/// The layer (`None` for the configuration) and the finding's id.
type Key = (Option<LayerId>, String);

/// The numbers that the findings of one image are stored with.
struct Ids {
    key: KeyId,
    /// The image's layers, base first.
    layers: Vec<LayerId>,
    rules: HashMap<String, RuleId>,
    packages: HashMap<String, PackageId>,
}

impl Ids {
    fn of(connection: &mut Connection, image: ImageId, key: KeyId, index: &ReportIndex) -> Result<Ids, Fault> {
        let sql = "SELECT layer_id FROM image_layers WHERE image_id = $1 ORDER BY position";
        Ok(Ids {
            key,
            layers: connection.column(sql, &[image.into()])?,
            rules: intern::rules(connection, index.findings.iter().map(|finding| &finding.rule))?,
            packages: intern::packages(connection, index.findings.iter().filter_map(|f| f.package.as_ref()))?,
        })
    }

    fn layer(&self, finding: &IndexedFinding) -> Option<LayerId> {
        finding.position.and_then(|position| self.layers.get(position)).copied()
    }

    fn key_of(&self, finding: &IndexedFinding) -> Key {
        (self.layer(finding), finding.finding_id.clone())
    }

    fn rule(&self, finding: &IndexedFinding) -> Result<RuleId, Fault> {
        let rule = self.rules.get(&intern::rule_hash(&finding.rule)).copied();
        rule.ok_or_else(|| Fault::missing("a rule"))
    }

    fn package(&self, finding: &IndexedFinding) -> Option<PackageId> {
        self.packages.get(&intern::package_hash(finding.package.as_ref()?)).copied()
    }

    /// The layers of an image that were read, with their positions.
    fn read<'i>(&'i self, index: &'i ReportIndex) -> impl Iterator<Item = (usize, LayerId)> + 'i {
        let layers = self.layers.iter().copied().enumerate();
        layers.filter(|(position, _)| !index.unread.contains(position))
    }
}

/// Those of the layers that were read whose findings are not stored yet under this key: this transaction stores them.
fn define(connection: &mut Connection, ids: &Ids, index: &ReportIndex) -> Result<HashSet<LayerId>, Fault> {
    let mut counts: BTreeMap<LayerId, u64> = ids.read(index).map(|(_, layer)| (layer, 0)).collect();
    for layer in index.findings.iter().filter_map(|finding| ids.layer(finding)) {
        counts.entry(layer).and_modify(|count| *count += 1);
    }
    let values: Vec<Value> = counts.keys().copied().map(Value::from).collect();
    let known =
        |list: &str| format!("SELECT layer_id FROM layer_findings WHERE layer_key_id = $1 AND layer_id IN ({list})");
    let known: Vec<(LayerId,)> = connection.query_in(known, &[ids.key.into()], &values)?;
    counts.retain(|layer, _| !known.contains(&(*layer,)));
    let sql =
        "INSERT INTO layer_findings (layer_id, layer_key_id, findings) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    let mut defined = HashSet::new();
    for (layer, count) in counts {
        if connection.execute(sql, &[layer.into(), ids.key.into(), count.into()])? == 1 {
            defined.insert(layer);
        }
    }
    Ok(defined)
}

fn insert(
    connection: &mut Connection,
    ids: &Ids,
    findings: &[&IndexedFinding],
    shared: bool,
    now: Seconds,
) -> Result<(), Fault> {
    const BEFORE: &str = "INSERT INTO findings (layer_key_id, layer_id, finding_id, rule_id, path, path_key, inside, \
         config, state, fingerprint, masked, length, package_id, shared, first_seen)";
    // What only some images had so far may turn out to be the layer's own; they keep their rows. Nothing changes where
    // another process was quicker to insert the same.
    const AFTER: &str = "ON CONFLICT (finding_id, layer_key_id, COALESCE(layer_id, 0)) DO UPDATE SET \
         excepted = CASE WHEN excluded.shared > findings.shared THEN 1 ELSE findings.excepted END, \
         shared = CASE WHEN excluded.shared = 1 THEN 1 ELSE findings.shared END";
    // By key, so that nothing is stored twice, and processes do not wait for each other in a circle.
    let mut rows: BTreeMap<Key, [Value; 15]> = BTreeMap::new();
    for finding in findings {
        let secret = finding.secret.as_ref();
        let row = [
            ids.key.into(),
            ids.layer(finding).into(),
            Value::from(&finding.finding_id),
            ids.rule(finding)?.into(),
            finding.path.as_deref().map(intern::shortened).into(),
            finding.path.as_deref().map(intern::key).into(),
            inside(finding)?.into(),
            finding.config.as_deref().map(intern::shortened).into(),
            own_state(finding).name().into(),
            secret.map(|secret| secret.fingerprint.as_str()).into(),
            secret.map(|secret| secret.masked.as_str()).into(),
            secret.map(|secret| secret.length).into(),
            ids.package(finding).into(),
            shared.into(),
            now.into(),
        ];
        rows.entry(ids.key_of(finding)).or_insert(row);
    }
    let values: Vec<Value> = rows.into_values().flatten().collect();
    connection.insert(BEFORE, 15, &values, AFTER).map(drop)
}

fn inside(finding: &IndexedFinding) -> Result<Option<String>, Fault> {
    if finding.inside.is_empty() {
        return Ok(None);
    }
    serde_json::to_string(&finding.inside).map(Some).map_err(|error| Fault::invalid("a finding", error.to_string()))
}

/// The state that a finding has by its own layer alone, which is what it has in an image that only adds layers.
fn own_state(finding: &IndexedFinding) -> State {
    let is_ended_inside = finding.ended_by.is_none() || finding.ended_by == finding.position;
    if is_ended_inside { finding.state } else { State::Present }
}

row! {
    /// A finding that is stored, as far as an image may differ from it.
    struct StoredFinding {
        layer: Option<LayerId> = "layer_id",
        finding_id: String = "finding_id",
        id: FindingId = "id",
        shared: bool = "shared",
        state: State = "state",
        rule: RuleId = "rule_id",
        package: Option<PackageId> = "package_id",
    }
}

/// The findings under the key that are in the image's layers, or are those of its configuration.
fn stored(
    connection: &mut Connection,
    ids: &Ids,
    findings: &[IndexedFinding],
) -> Result<HashMap<Key, StoredFinding>, Fault> {
    let in_layers =
        |list: &str| format!("FROM findings WHERE layer_key_id = $1 AND layer_id IN ({list}) AND layer_id > 0");
    let layers: BTreeSet<LayerId> = ids.layers.iter().copied().collect();
    let layers: Vec<Value> = layers.into_iter().map(Value::from).collect();
    let mut rows: Vec<StoredFinding> = connection.select_in(in_layers, &[ids.key.into()], &layers)?;
    let elsewhere =
        |list: &str| format!("FROM findings WHERE layer_key_id = $1 AND layer_id IS NULL AND finding_id IN ({list})");
    let names: BTreeSet<&str> = findings
        .iter()
        .filter(|finding| finding.position.is_none())
        .map(|finding| finding.finding_id.as_str())
        .collect();
    let names: Vec<Value> = names.into_iter().map(Value::from).collect();
    rows.extend(connection.select_in::<StoredFinding>(elsewhere, &[ids.key.into()], &names)?);
    Ok(rows.into_iter().map(|row| ((row.layer, row.finding_id.clone()), row)).collect())
}

/// A row of `image_findings`.
struct Exception {
    state: &'static str,
    ended: Option<usize>,
    rule: RuleId,
    package: Option<PackageId>,
    shared: bool,
}

/// Where an exception is: the finding, and the position of the layer, -1 for the configuration.
type Place = (FindingId, i64);

/// Where the image differs from what its layers have in other images.
fn exceptions(
    index: &ReportIndex,
    stored: &HashMap<Key, StoredFinding>,
    ids: &Ids,
) -> Result<BTreeMap<Place, Exception>, Fault> {
    let mut exceptions = BTreeMap::new();
    let mut present: HashSet<(FindingId, usize)> = HashSet::new();
    for finding in &index.findings {
        let known = stored.get(&ids.key_of(finding)).ok_or_else(|| Fault::missing("a finding"))?;
        let (rule, package) = (ids.rule(finding)?, ids.package(finding));
        let position = finding.position.map_or(-1, |position| position as i64);
        let is_first = finding.position.is_none_or(|position| present.insert((known.id, position)));
        let is_as_stored = known.shared
            && (known.rule, known.package) == (rule, package)
            && known.state == finding.state
            && (finding.ended_by.is_none() || finding.ended_by == finding.position);
        if is_first && !is_as_stored {
            let (state, ended) = (finding.state.name(), finding.ended_by);
            exceptions.insert((known.id, position), Exception { state, ended, rule, package, shared: known.shared });
        }
    }
    let mut by_layer: HashMap<LayerId, Vec<&StoredFinding>> = HashMap::new();
    for known in stored.values().filter(|known| known.shared) {
        if let Some(layer) = known.layer {
            by_layer.entry(layer).or_default().push(known);
        }
    }
    for (position, layer) in ids.read(index) {
        for known in by_layer.get(&layer).into_iter().flatten() {
            if !present.contains(&(known.id, position)) {
                let (rule, package) = (known.rule, known.package);
                let exception = Exception { state: ABSENT, ended: None, rule, package, shared: true };
                exceptions.insert((known.id, position as i64), exception);
            }
        }
    }
    Ok(exceptions)
}

/// Stores the exceptions of an image in place of those that it had under the key.
fn replace(
    connection: &mut Connection,
    image: ImageId,
    key: KeyId,
    exceptions: &BTreeMap<Place, Exception>,
) -> Result<(), Fault> {
    let old = "DELETE FROM image_findings WHERE image_id = $1 \
               AND finding IN (SELECT f.id FROM image_findings x JOIN findings f ON f.id = x.finding \
                               WHERE x.image_id = $1 AND f.layer_key_id = $2)";
    connection.execute(old, &[image.into(), key.into()])?;
    let row = |((finding, position), exception): (&Place, &Exception)| {
        let Exception { state, ended, rule, package, .. } = exception;
        [
            image.into(),
            (*finding).into(),
            (*position).into(),
            (*state).into(),
            Value::from(*ended),
            (*rule).into(),
            (*package).into(),
        ]
    };
    let values: Vec<Value> = exceptions.iter().flat_map(row).collect();
    let before = "INSERT INTO image_findings (image_id, finding, position, state, ended_position, rule_id, package_id)";
    // Rows that refer to a finding of another layer key are none of these, and there are no others.
    let after = "ON CONFLICT (image_id, finding, position) DO UPDATE SET state = excluded.state, \
                 ended_position = excluded.ended_position, rule_id = excluded.rule_id, \
                 package_id = excluded.package_id";
    connection.insert(before, 7, &values, after)?;
    let shared = exceptions.iter().filter(|(_, exception)| exception.shared).map(|((finding, _), _)| *finding);
    let shared: BTreeSet<FindingId> = shared.collect();
    for finding in shared {
        connection.execute("UPDATE findings SET excepted = 1 WHERE id = $1 AND excepted = 0", &[finding.into()])?;
    }
    Ok(())
}

fn put_counts(
    connection: &mut Connection,
    image: ImageId,
    key: KeyId,
    counts: &Counts,
    now: Seconds,
) -> Result<(), Fault> {
    let sql = "INSERT INTO image_counts (image_id, layer_key_id, critical, high, medium, low, info, gaps, unread, \
               assembled_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
               ON CONFLICT (image_id, layer_key_id) DO UPDATE SET critical = excluded.critical, high = excluded.high, \
               medium = excluded.medium, low = excluded.low, info = excluded.info, gaps = excluded.gaps, \
               unread = excluded.unread, assembled_at = excluded.assembled_at";
    let Counts { critical, high, medium, low, info, gaps, unread } = *counts;
    let mut values = vec![Value::from(image), key.into()];
    values.extend([critical, high, medium, low, info, gaps, unread].map(Value::from));
    values.push(now.into());
    connection.execute(sql, &values).map(drop)
}
