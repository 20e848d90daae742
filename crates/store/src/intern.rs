//! What is stored once and named by number everywhere else: rule sets, layers, instructions, rules, packages.

use std::collections::{BTreeMap, HashMap};

use super::backend::{Connection, Row, Value, list};
use super::error::Fault;
use super::findings::{PackageRecord, RuleRecord};
use super::images::ImageLayer;
use layersift_model::Digest;

/// How many values an `IN` list has at most.
const LIST: usize = 1024;

/// The longest text that may be a key; PostgreSQL indexes no more than about 2,700 bytes.
const LONGEST_KEY: usize = 512;

/// Runs a `SELECT` with `{list}` in it for all `values`, in as many steps as it takes. `first` are its other values.
pub(super) fn select_in(
    connection: &mut Connection,
    sql: &str,
    first: &[Value],
    values: &[Value],
) -> Result<Vec<Row>, Fault> {
    let mut rows = Vec::new();
    for some in values.chunks(LIST) {
        let (some, numbers) = list(some.iter().cloned(), first.len() + 1);
        rows.extend(connection.query(&sql.replace("{list}", &numbers), &[first, &some].concat())?);
    }
    Ok(rows)
}

/// The number of `ruleset`, given to it now if it has none.
pub(super) fn ruleset(connection: &mut Connection, ruleset: &str) -> Result<i64, Fault> {
    if let Some(known) = known_ruleset(connection, ruleset)? {
        return Ok(known);
    }
    check_key("the rule set", ruleset)?;
    let row = [(ruleset.to_string(), Vec::new())];
    let ids = intern(connection, &Table { name: "rulesets", key: "digest", columns: &[] }, row)?;
    ids.get(ruleset).copied().ok_or_else(|| Fault::Damaged("a rule set without a number".into()))
}

/// The number of `ruleset`, if it has one.
pub(super) fn known_ruleset(connection: &mut Connection, ruleset: &str) -> Result<Option<i64>, Fault> {
    let row = connection.query_one("SELECT id FROM rulesets WHERE digest = $1", &[ruleset.into()])?;
    row.map(|row| row.int(0)).transpose()
}

/// The numbers of layers, given to them now if they have none.
pub(super) fn layers<'l>(
    connection: &mut Connection,
    layers: impl Iterator<Item = &'l ImageLayer>,
) -> Result<HashMap<String, i64>, Fault> {
    let row = |layer: &ImageLayer| {
        (layer.digest.to_string(), vec![Value::from(layer.diff_id.as_ref()), Value::from(layer.blob_bytes)])
    };
    intern(connection, &Table { name: "layers", key: "digest", columns: &["diff_id", "blob_bytes"] }, layers.map(row))
}

/// The number of a layer, if it has one.
pub(super) fn known_layer(connection: &mut Connection, layer: &Digest) -> Result<Option<i64>, Fault> {
    let row = connection.query_one("SELECT id FROM layers WHERE digest = $1", &[layer.into()])?;
    row.map(|row| row.int(0)).transpose()
}

/// The numbers of instructions, by [`hash`].
pub(super) fn instructions<'i>(
    connection: &mut Connection,
    instructions: impl Iterator<Item = &'i str>,
) -> Result<HashMap<String, i64>, Fault> {
    let row = |text: &str| (hash(&[text]), vec![Value::from(text)]);
    let table = Table { name: "instructions", key: "hash", columns: &["created_by"] };
    intern(connection, &table, instructions.map(row))
}

/// The numbers of rules, by [`rule_hash`].
pub(super) fn rules<'r>(
    connection: &mut Connection,
    rules: impl Iterator<Item = &'r RuleRecord>,
) -> Result<HashMap<String, i64>, Fault> {
    let row = |rule: &RuleRecord| {
        let names = [rule.severity.name(), rule.confidence.name()].map(Value::from);
        (rule_hash(rule), [vec![Value::from(&rule.id), Value::from(&rule.title)], names.to_vec()].concat())
    };
    let columns = &["rule", "title", "severity", "confidence"];
    intern(connection, &Table { name: "rules", key: "hash", columns }, rules.map(row))
}

/// What a rule is known by in [`rules`].
pub(super) fn rule_hash(rule: &RuleRecord) -> String {
    hash(&[&rule.id, &rule.title, rule.severity.name(), rule.confidence.name()])
}

/// The numbers of packages, by [`package_hash`].
pub(super) fn packages<'p>(
    connection: &mut Connection,
    packages: impl Iterator<Item = &'p PackageRecord>,
) -> Result<HashMap<String, i64>, Fault> {
    let row = |package: &PackageRecord| {
        let PackageRecord { ecosystem, name, version } = package;
        let values =
            vec![key(name).into(), ecosystem.into(), Value::from(name), Value::from(version.as_ref().map(text))];
        (package_hash(package), values)
    };
    let columns = &["name_key", "ecosystem", "name", "version"];
    intern(connection, &Table { name: "packages", key: "hash", columns }, packages.map(row))
}

/// What a package is known by in [`packages`].
pub(super) fn package_hash(package: &PackageRecord) -> String {
    let PackageRecord { ecosystem, name, version } = package;
    hash(&[ecosystem, name, version.as_deref().unwrap_or("\n")])
}

/// What stands for several texts of any length: 32 hexadecimal digits.
pub(super) fn hash(texts: &[&str]) -> String {
    let mut bytes = Vec::new();
    for text in texts {
        bytes.extend((text.len() as u64).to_be_bytes());
        bytes.extend(text.as_bytes());
    }
    Digest::of(&bytes).hex()[..32].to_string()
}

/// What stands for a text of any length in an index; two texts may have the same, so that they are compared as well.
pub(super) fn key(text: &str) -> i64 {
    let digest = Digest::of(text.as_bytes());
    let digits = digest.hex()[..16].bytes().filter_map(|digit| char::from(digit).to_digit(16));
    digits.fold(0_i64, |sum, digit| (sum << 4) | i64::from(digit))
}

/// Refuses a text that is too long to be a key.
pub(super) fn check_key(what: &str, text: &str) -> Result<(), Fault> {
    if text.len() > LONGEST_KEY {
        return Err(Fault::invalid(what, format!("it has {} bytes, more than {LONGEST_KEY}", text.len())));
    }
    Ok(())
}

fn text(text: &String) -> &str {
    text
}

/// A table of things that are stored once.
struct Table<'t> {
    name: &'t str,
    key: &'t str,
    columns: &'t [&'t str],
}

/// The numbers of things by their keys; those that have none get one. Each has its key and its further columns.
fn intern(
    connection: &mut Connection,
    table: &Table<'_>,
    things: impl IntoIterator<Item = (String, Vec<Value>)>,
) -> Result<HashMap<String, i64>, Fault> {
    // Sorted, so that two transactions that add the same do not wait for each other in a circle.
    let things: BTreeMap<String, Vec<Value>> = things.into_iter().collect();
    let Table { name, key, columns } = table;
    let select = format!("SELECT {key}, id FROM {name} WHERE {key} IN ({{list}})");
    let keys: Vec<Value> = things.keys().map(Value::from).collect();
    let mut ids = numbers(select_in(connection, &select, &[], &keys)?)?;
    let missing: Vec<(&String, &Vec<Value>)> = things.iter().filter(|(key, _)| !ids.contains_key(*key)).collect();
    if missing.is_empty() {
        return Ok(ids);
    }
    let all: Vec<&str> = std::iter::once(key).chain(columns.iter()).copied().collect();
    let rows: Vec<Value> = missing
        .iter()
        .flat_map(|(key, values)| std::iter::once(Value::from(*key)).chain(values.iter().cloned()))
        .collect();
    let before = format!("INSERT INTO {name} ({})", all.join(", "));
    connection.insert(&before, all.len(), &rows, "ON CONFLICT DO NOTHING")?;
    let keys: Vec<Value> = missing.iter().map(|(key, _)| Value::from(*key)).collect();
    ids.extend(numbers(select_in(connection, &select, &[], &keys)?)?);
    Ok(ids)
}

fn numbers(rows: Vec<Row>) -> Result<HashMap<String, i64>, Fault> {
    rows.iter().map(|row| Ok((row.text(0)?, row.int(1)?))).collect()
}
