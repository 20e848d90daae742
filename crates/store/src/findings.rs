//! Findings of images. What all images with a layer have in common is stored with the layer; an image adds what
//! differs.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::backend::{Connection, Row, Value};
use super::error::{Fault, StoreError};
use super::images::{self, ImageId};
use super::intern::{self, select_in};
use super::record::Assembled;
use super::runs::{self, RunId};
use super::{Seconds, Store};
use layersift_model::{Confidence, Digest, Severity, State};

/// What is stored for a finding that the layer has elsewhere and this image does not.
pub(super) const ABSENT: &str = "absent";

/// What a finding says of its rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleRecord {
    /// The rule's id.
    pub id: String,
    /// A few words.
    pub title: String,
    /// How bad the finding is.
    pub severity: Severity,
    /// How sure the finding is.
    pub confidence: Confidence,
}

/// A package that a file belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageRecord {
    /// `npm`, `deb`, `apk` or `pypi`.
    pub ecosystem: String,
    /// The package's name.
    pub name: String,
    /// The package's version, where its record names one.
    pub version: Option<String>,
}

/// What is stored of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRecord {
    /// Its keyed fingerprint.
    pub fingerprint: String,
    /// Its masked form.
    pub masked: String,
    /// Its length in bytes.
    pub length: u64,
}

/// A finding of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindingRecord {
    /// Its id, the same wherever the same layer or configuration turns up.
    pub finding_id: String,
    /// What was looked for.
    pub rule: RuleRecord,
    /// The file, where it is in one.
    pub path: Option<String>,
    /// The archive members that lead to it.
    pub inside: Vec<String>,
    /// The field of the configuration, where it is in one.
    pub config: Option<String>,
    /// The layer that brought it, by its place from the base.
    pub position: Option<usize>,
    /// Whether it is still in the final image.
    pub state: State,
    /// The layer that ended it, by its place from the base.
    pub ended_by: Option<usize>,
    /// The secret, where it is one.
    pub secret: Option<SecretRecord>,
    /// The package that the file belongs to.
    pub package: Option<PackageRecord>,
}

/// What is known of an image by one rule set, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The image.
    pub image: ImageId,
    /// Findings of this severity, in any state.
    pub critical: u64,
    /// Findings of this severity, in any state.
    pub high: u64,
    /// Findings of this severity, in any state.
    pub medium: u64,
    /// Findings of this severity, in any state.
    pub low: u64,
    /// Findings of this severity, in any state.
    pub info: u64,
    /// Bytes that were not looked at: the number of gaps.
    pub gaps: u64,
    /// Layers that were not read.
    pub unread: u64,
    /// When the image was assembled.
    pub assembled_at: Seconds,
}

impl Summary {
    fn of(image: ImageId, assembled: &Assembled, now: Seconds) -> Summary {
        let (gaps, unread) = (assembled.gaps, assembled.unread.len() as u64);
        let mut summary =
            Summary { image, critical: 0, high: 0, medium: 0, low: 0, info: 0, gaps, unread, assembled_at: now };
        for finding in &assembled.findings {
            *match finding.rule.severity {
                Severity::Critical => &mut summary.critical,
                Severity::High => &mut summary.high,
                Severity::Medium => &mut summary.medium,
                Severity::Low => &mut summary.low,
                Severity::Info => &mut summary.info,
            } += 1;
        }
        summary
    }
}

impl Store {
    /// Stores what assembling an image told, in place of what was stored for the same image and rule set, and, where
    /// it was found by a run, what the run is the first to find.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for findings in layers that the image does not have, [`StoreError::Unknown`] for a run
    /// that the store does not know, [`StoreError::Database`].
    pub fn put_assembled(
        &self,
        assembled: &Assembled,
        run: Option<RunId>,
        now: Seconds,
    ) -> Result<ImageId, StoreError> {
        self.write(|connection| {
            check(assembled)?;
            let image = images::one(connection, &assembled.image, now)?;
            let ruleset = intern::ruleset(connection, &assembled.ruleset)?;
            put_findings(connection, image, ruleset, assembled, now)?;
            put_summary(connection, ruleset, &Summary::of(image, assembled, now))?;
            if let Some(run) = run {
                let things = assembled.findings.iter().map(runs::thing).collect();
                runs::sight(connection, run, image, &things)?;
            }
            Ok(image)
        })
    }

    /// What is known of an image by the rules `ruleset`, in numbers; `None` where it was not assembled with them.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn summary(&self, manifest_digest: &Digest, ruleset: &str) -> Result<Option<Summary>, StoreError> {
        let sql = "SELECT v.critical, v.high, v.medium, v.low, v.info, v.gaps, v.unread, v.assembled_at, i.id \
                   FROM images i JOIN image_verdicts v ON v.image_id = i.id JOIN rulesets s ON s.id = v.ruleset_id \
                   WHERE i.manifest_digest = $1 AND s.digest = $2";
        let summary = |row: Row| {
            Ok(Summary {
                image: ImageId(row.int(8)?),
                critical: row.count(0)?,
                high: row.count(1)?,
                medium: row.count(2)?,
                low: row.count(3)?,
                info: row.count(4)?,
                gaps: row.count(5)?,
                unread: row.count(6)?,
                assembled_at: row.int(7)?,
            })
        };
        self.read(|connection| {
            connection.query_one(sql, &[manifest_digest.into(), ruleset.into()])?.map(summary).transpose()
        })
    }
}

fn check(assembled: &Assembled) -> Result<(), Fault> {
    let layers = assembled.image.layers.len();
    let places = assembled.findings.iter().flat_map(|finding| [finding.position, finding.ended_by]).flatten();
    if let Some(place) = places.chain(assembled.unread.iter().copied()).find(|place| *place >= layers) {
        let reason = format!("they name the layer {place} of {layers}");
        return Err(Fault::invalid(format!("the findings of {}", assembled.image.manifest_digest), reason));
    }
    for finding in &assembled.findings {
        intern::check_key("the id of a finding", &finding.finding_id)?;
        intern::check_key("a fingerprint", finding.secret.as_ref().map_or("", |secret| &secret.fingerprint))?;
    }
    Ok(())
}

/// A finding that is stored, as far as an image may differ from it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stored {
    id: i64,
    shared: bool,
    state: String,
    rule: i64,
    package: Option<i64>,
}

/// The layer's number (0 for what is in no layer) and the finding's id.
type Key = (i64, String);

/// Numbers that findings are stored with.
struct Numbers {
    ruleset: i64,
    rules: HashMap<String, i64>,
    packages: HashMap<String, i64>,
}

impl Numbers {
    fn rule(&self, finding: &FindingRecord) -> i64 {
        self.rules.get(&intern::rule_hash(&finding.rule)).copied().unwrap_or(0)
    }

    fn package(&self, finding: &FindingRecord) -> Option<i64> {
        self.packages.get(&intern::package_hash(finding.package.as_ref()?)).copied()
    }
}

fn put_findings(
    connection: &mut Connection,
    image: ImageId,
    ruleset: i64,
    assembled: &Assembled,
    now: Seconds,
) -> Result<(), Fault> {
    let findings = &assembled.findings;
    let layers = positions(connection, image)?;
    let numbers = Numbers {
        ruleset,
        rules: intern::rules(connection, findings.iter().map(|finding| &finding.rule))?,
        packages: intern::packages(connection, findings.iter().filter_map(|finding| finding.package.as_ref()))?,
    };
    let layer = |finding: &FindingRecord| finding.position.and_then(|at| layers.get(at)).copied().unwrap_or(0);
    let read: Vec<usize> = (0..layers.len()).filter(|at| !assembled.unread.contains(at)).collect();
    let mut ours: HashMap<i64, u64> = read.iter().map(|at| (layers[*at], 0)).collect();
    for finding in findings {
        ours.entry(layer(finding)).and_modify(|count| *count += 1);
    }
    // What the first image with a layer has in it is taken to be what the layer has in every image.
    let defined = define(connection, ruleset, &ours)?;
    let of_defined: Vec<&FindingRecord> =
        findings.iter().filter(|finding| finding.position.is_some() && defined.contains(&layer(finding))).collect();
    insert(connection, &numbers, &of_defined, layer, true, now)?;
    let mut stored = stored(connection, ruleset, &layers, findings)?;
    let unknown: Vec<&FindingRecord> =
        findings.iter().filter(|finding| !stored.contains_key(&(layer(finding), finding.finding_id.clone()))).collect();
    if !unknown.is_empty() {
        insert(connection, &numbers, &unknown, layer, false, now)?;
        stored = self::stored(connection, ruleset, &layers, findings)?;
    }
    let exceptions = exceptions(assembled, &layers, &read, &stored, &numbers)?;
    replace(connection, image, ruleset, &exceptions)
}

/// The numbers of an image's layers, base first.
fn positions(connection: &mut Connection, image: ImageId) -> Result<Vec<i64>, Fault> {
    let sql = "SELECT layer_id FROM image_layers WHERE image_id = $1 ORDER BY position";
    connection.query(sql, &[image.0.into()])?.iter().map(|row| row.int(0)).collect()
}

/// Those of `layers` whose findings nobody has stored yet by this rule set: from now on this transaction does.
fn define(connection: &mut Connection, ruleset: i64, layers: &HashMap<i64, u64>) -> Result<HashSet<i64>, Fault> {
    let ids: BTreeSet<i64> = layers.keys().copied().collect();
    let values: Vec<Value> = ids.iter().map(|id| Value::from(*id)).collect();
    let sql = "SELECT layer_id FROM layer_findings WHERE ruleset_id = $1 AND layer_id IN ({list})";
    let known = select_in(connection, sql, &[ruleset.into()], &values)?;
    let known: HashSet<i64> = known.iter().map(|row| row.int(0)).collect::<Result<_, _>>()?;
    let sql = "INSERT INTO layer_findings (layer_id, ruleset_id, findings) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    let mut defined = HashSet::new();
    for id in ids.difference(&known.into_iter().collect()) {
        let count = layers.get(id).copied().unwrap_or(0);
        if connection.execute(sql, &[(*id).into(), ruleset.into(), count.into()])? == 1 {
            defined.insert(*id);
        }
    }
    Ok(defined)
}

fn insert(
    connection: &mut Connection,
    numbers: &Numbers,
    findings: &[&FindingRecord],
    layer: impl Fn(&FindingRecord) -> i64,
    shared: bool,
    now: Seconds,
) -> Result<(), Fault> {
    const BEFORE: &str = "INSERT INTO findings (ruleset_id, layer_id, finding_id, rule_id, path, path_key, inside, \
         config, state, fingerprint, masked, length, package_id, shared, first_seen)";
    // What only some images had so far may turn out to be the layer's own; they keep their rows.
    const AFTER: &str = "ON CONFLICT (finding_id, ruleset_id, COALESCE(layer_id, 0)) DO UPDATE SET excepted = 1, \
         shared = CASE WHEN excluded.shared = 1 THEN 1 ELSE findings.shared END";
    // By key, so that nothing is stored twice, and processes do not wait for each other in a circle.
    let mut rows: BTreeMap<Key, [Value; 15]> = BTreeMap::new();
    for finding in findings {
        let layer = layer(finding);
        let secret = finding.secret.as_ref();
        let row = [
            numbers.ruleset.into(),
            Some(layer).filter(|layer| *layer != 0).into(),
            Value::from(&finding.finding_id),
            numbers.rule(finding).into(),
            finding.path.as_deref().into(),
            finding.path.as_deref().map(intern::key).into(),
            inside(finding)?.into(),
            finding.config.as_deref().into(),
            own_state(finding).into(),
            secret.map(|secret| secret.fingerprint.as_str()).into(),
            secret.map(|secret| secret.masked.as_str()).into(),
            secret.map(|secret| secret.length).into(),
            numbers.package(finding).into(),
            shared.into(),
            now.into(),
        ];
        rows.entry((layer, finding.finding_id.clone())).or_insert(row);
    }
    let values: Vec<Value> = rows.into_values().flatten().collect();
    connection.insert(BEFORE, 15, &values, AFTER).map(drop)
}

fn inside(finding: &FindingRecord) -> Result<Option<String>, Fault> {
    if finding.inside.is_empty() {
        return Ok(None);
    }
    serde_json::to_string(&finding.inside).map(Some).map_err(|error| Fault::invalid("a finding", error.to_string()))
}

/// The state that a finding has by its own layer alone, which is what it has in an image that only adds layers.
fn own_state(finding: &FindingRecord) -> &'static str {
    let is_ended_inside = finding.ended_by.is_none() || finding.ended_by == finding.position;
    if is_ended_inside { finding.state.name() } else { State::Present.name() }
}

fn stored(
    connection: &mut Connection,
    ruleset: i64,
    layers: &[i64],
    findings: &[FindingRecord],
) -> Result<HashMap<Key, Stored>, Fault> {
    const COLUMNS: &str = "layer_id, finding_id, id, shared, state, rule_id, package_id";
    let in_layers =
        format!("SELECT {COLUMNS} FROM findings WHERE ruleset_id = $1 AND layer_id IN ({{list}}) AND layer_id > 0");
    let ids: BTreeSet<i64> = layers.iter().copied().collect();
    let ids: Vec<Value> = ids.into_iter().map(Value::from).collect();
    let mut rows = select_in(connection, &in_layers, &[ruleset.into()], &ids)?;
    let elsewhere = format!(
        "SELECT {COLUMNS} FROM findings WHERE ruleset_id = $1 AND layer_id IS NULL AND finding_id IN ({{list}})"
    );
    let ids: BTreeSet<&str> = findings
        .iter()
        .filter(|finding| finding.position.is_none())
        .map(|finding| finding.finding_id.as_str())
        .collect();
    let ids: Vec<Value> = ids.into_iter().map(Value::from).collect();
    rows.extend(select_in(connection, &elsewhere, &[ruleset.into()], &ids)?);
    let stored = |row: &Row| {
        let key = (row.maybe_int(0)?.unwrap_or(0), row.text(1)?);
        let finding = Stored {
            id: row.int(2)?,
            shared: row.int(3)? == 1,
            state: row.text(4)?,
            rule: row.int(5)?,
            package: row.maybe_int(6)?,
        };
        Ok((key, finding))
    };
    rows.iter().map(stored).collect()
}

/// A row of `image_findings`, by finding and position.
struct Exception {
    state: &'static str,
    ended: Option<usize>,
    rule: i64,
    package: Option<i64>,
    shared: bool,
}

/// What the image has otherwise than its layers have elsewhere.
fn exceptions(
    assembled: &Assembled,
    layers: &[i64],
    read: &[usize],
    stored: &HashMap<Key, Stored>,
    numbers: &Numbers,
) -> Result<BTreeMap<(i64, i64), Exception>, Fault> {
    let mut exceptions = BTreeMap::new();
    let mut had: HashSet<(i64, usize)> = HashSet::new();
    for finding in &assembled.findings {
        let layer = finding.position.and_then(|at| layers.get(at)).copied().unwrap_or(0);
        let known = stored.get(&(layer, finding.finding_id.clone()));
        let known = known.ok_or_else(|| Fault::Damaged("a finding that was just stored is gone".into()))?;
        let (rule, package) = (numbers.rule(finding), numbers.package(finding));
        let position = finding.position.map_or(-1, |at| at as i64);
        let is_first = finding.position.is_none_or(|at| had.insert((known.id, at)));
        let as_known = known.shared
            && (known.rule, known.package) == (rule, package)
            && known.state == finding.state.name()
            && (finding.ended_by.is_none() || finding.ended_by == finding.position);
        if is_first && !as_known {
            let exception =
                Exception { state: finding.state.name(), ended: finding.ended_by, rule, package, shared: known.shared };
            exceptions.insert((known.id, position), exception);
        }
    }
    let mut by_layer: HashMap<i64, Vec<&Stored>> = HashMap::new();
    for ((layer, _), known) in stored.iter().filter(|((layer, _), known)| *layer != 0 && known.shared) {
        by_layer.entry(*layer).or_default().push(known);
    }
    for at in read {
        for known in by_layer.get(&layers[*at]).into_iter().flatten() {
            if !had.contains(&(known.id, *at)) {
                let (rule, package) = (known.rule, known.package);
                let exception = Exception { state: ABSENT, ended: None, rule, package, shared: true };
                exceptions.insert((known.id, *at as i64), exception);
            }
        }
    }
    Ok(exceptions)
}

fn replace(
    connection: &mut Connection,
    image: ImageId,
    ruleset: i64,
    exceptions: &BTreeMap<(i64, i64), Exception>,
) -> Result<(), Fault> {
    let old = "DELETE FROM image_findings WHERE image_id = $1 \
               AND finding IN (SELECT f.id FROM image_findings x JOIN findings f ON f.id = x.finding \
                               WHERE x.image_id = $1 AND f.ruleset_id = $2)";
    connection.execute(old, &[image.0.into(), ruleset.into()])?;
    let row = |((finding, position), exception): (&(i64, i64), &Exception)| {
        let Exception { state, ended, rule, package, .. } = exception;
        [
            image.0.into(),
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
    connection.insert(before, 7, &values, "")?;
    let shared = exceptions.iter().filter(|(_, exception)| exception.shared).map(|((finding, _), _)| *finding);
    let shared: BTreeSet<i64> = shared.collect();
    for finding in shared {
        connection.execute("UPDATE findings SET excepted = 1 WHERE id = $1 AND excepted = 0", &[finding.into()])?;
    }
    Ok(())
}

fn put_summary(connection: &mut Connection, ruleset: i64, summary: &Summary) -> Result<(), Fault> {
    let sql = "INSERT INTO image_verdicts (image_id, ruleset_id, critical, high, medium, low, info, gaps, unread, \
               assembled_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
               ON CONFLICT (image_id, ruleset_id) DO UPDATE SET critical = excluded.critical, high = excluded.high, \
               medium = excluded.medium, low = excluded.low, info = excluded.info, gaps = excluded.gaps, \
               unread = excluded.unread, assembled_at = excluded.assembled_at";
    let Summary { image, critical, high, medium, low, info, gaps, unread, assembled_at } = *summary;
    let mut values = vec![Value::from(image.0), ruleset.into()];
    values.extend([critical, high, medium, low, info, gaps, unread].map(Value::from));
    values.push(assembled_at.into());
    connection.execute(sql, &values).map(drop)
}
