//! What is stored once and named by number everywhere else: layer keys, layers, instructions, rules, packages.

use std::collections::{BTreeMap, HashMap};

use layersift_model::{Digest, LayerKey, Package, RuleSummary};

use super::backend::{Connection, FromValue, Value};
use super::error::Fault;
use super::ids::{InstructionId, KeyId, LayerId, PackageId, RuleId};
use super::images::ImageLayer;

/// The longest text that may be a key; PostgreSQL indexes no more than about 2,700 bytes.
const LONGEST_KEY: usize = 512;

/// The longest text that is stored whole as a column of an index, in bytes.
const LONGEST: usize = 1 << 20;

/// The number of `key`, which gets one now if it has none.
pub(super) fn layer_key(connection: &mut Connection, key: &LayerKey) -> Result<KeyId, Fault> {
    if let Some(known) = known_key(connection, key)? {
        return Ok(known);
    }
    check_key("the layer key", key.as_str())?;
    let row = [(key.to_string(), Vec::new())];
    let ids = intern(connection, &Table { name: "layer_keys", key: "digest", columns: &[] }, row)?;
    ids.get(key.as_str()).copied().ok_or_else(|| Fault::missing("a layer key"))
}

/// The number of `key`, if it has one.
pub(super) fn known_key(connection: &mut Connection, key: &LayerKey) -> Result<Option<KeyId>, Fault> {
    connection.value("SELECT id FROM layer_keys WHERE digest = $1", &[key.into()])
}

/// The numbers of layers by their digests; those that have none get one.
pub(super) fn layers<'l>(
    connection: &mut Connection,
    layers: impl Iterator<Item = &'l ImageLayer>,
) -> Result<HashMap<String, LayerId>, Fault> {
    let row = |layer: &ImageLayer| {
        (layer.digest.to_string(), vec![Value::from(layer.diff_id.as_ref()), Value::from(layer.blob_bytes)])
    };
    intern(connection, &Table { name: "layers", key: "digest", columns: &["diff_id", "blob_bytes"] }, layers.map(row))
}

/// The number of a layer, if it has one.
pub(super) fn known_layer(connection: &mut Connection, layer: &Digest) -> Result<Option<LayerId>, Fault> {
    connection.value("SELECT id FROM layers WHERE digest = $1", &[layer.into()])
}

/// The numbers of instructions, by [`hash`].
pub(super) fn instructions<'i>(
    connection: &mut Connection,
    instructions: impl Iterator<Item = &'i str>,
) -> Result<HashMap<String, InstructionId>, Fault> {
    let row = |text: &str| (hash(&[text]), vec![Value::from(text)]);
    let table = Table { name: "instructions", key: "hash", columns: &["created_by"] };
    intern(connection, &table, instructions.map(row))
}

/// The numbers of rules, by [`rule_hash`].
pub(super) fn rules<'r>(
    connection: &mut Connection,
    rules: impl Iterator<Item = &'r RuleSummary>,
) -> Result<HashMap<String, RuleId>, Fault> {
    let row = |rule: &RuleSummary| {
        let names = [rule.severity.name(), rule.confidence.name()].map(Value::from);
        (rule_hash(rule), [vec![Value::from(&rule.id), Value::from(&rule.title)], names.to_vec()].concat())
    };
    let columns = &["rule", "title", "severity", "confidence"];
    intern(connection, &Table { name: "rules", key: "hash", columns }, rules.map(row))
}

/// What a rule is known by in [`rules`].
pub(super) fn rule_hash(rule: &RuleSummary) -> String {
    hash(&[&rule.id, &rule.title, rule.severity.name(), rule.confidence.name()])
}

/// The numbers of packages, by [`package_hash`].
pub(super) fn packages<'p>(
    connection: &mut Connection,
    packages: impl Iterator<Item = &'p Package>,
) -> Result<HashMap<String, PackageId>, Fault> {
    let row = |package: &Package| {
        let Package { ecosystem, name, version } = package;
        let values = vec![key(name).into(), Value::from(&**ecosystem), name.into(), version.as_deref().into()];
        (package_hash(package), values)
    };
    let columns = &["name_key", "ecosystem", "name", "version"];
    intern(connection, &Table { name: "packages", key: "hash", columns }, packages.map(row))
}

/// What a package is known by in [`packages`].
pub(super) fn package_hash(package: &Package) -> String {
    let Package { ecosystem, name, version } = package;
    hash(&[ecosystem, name, version.as_deref().unwrap_or("\n")])
}

/// A hash of several texts of any length: 32 hexadecimal digits.
pub(super) fn hash(texts: &[&str]) -> String {
    let mut bytes = Vec::new();
    for text in texts {
        bytes.extend((text.len() as u64).to_be_bytes());
        bytes.extend(text.as_bytes());
    }
    Digest::of(&bytes).hex().chars().take(32).collect()
}

/// A hash of a text of any length, for an index. Two texts may have the same, so that they are compared as well.
pub(super) fn key(text: &str) -> i64 {
    let digest = Digest::of(text.as_bytes());
    let digits = digest.hex().chars().take(16).filter_map(|digit| digit.to_digit(16));
    digits.fold(0_i64, |sum, digit| (sum << 4) | i64::from(digit))
}

/// `text` as it is stored, of which the end of a very long one is left out: it is in the report, and no columns are
/// judged by. All columns of an image together are then far less than what is read at once.
pub(super) fn shortened(text: &str) -> &str {
    let end = (0..=LONGEST.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or_default()).unwrap_or(text)
}

/// Refuses a text that is too long to be a key.
pub(super) fn check_key(what: &str, text: &str) -> Result<(), Fault> {
    if text.len() > LONGEST_KEY {
        return Err(Fault::invalid(what, format!("it has {} bytes, more than {LONGEST_KEY}", text.len())));
    }
    Ok(())
}

/// A table of things that are stored once.
struct Table<'t> {
    name: &'t str,
    key: &'t str,
    columns: &'t [&'t str],
}

/// The numbers of things by their keys; those that have none get one. Each has its key and its further columns.
fn intern<Id: FromValue>(
    connection: &mut Connection,
    table: &Table<'_>,
    things: impl IntoIterator<Item = (String, Vec<Value>)>,
) -> Result<HashMap<String, Id>, Fault> {
    // Sorted, so that two transactions that add the same do not wait for each other in a circle.
    let things: BTreeMap<String, Vec<Value>> = things.into_iter().collect();
    let Table { name, key, columns } = table;
    let select = |list: &str| format!("SELECT {key}, id FROM {name} WHERE {key} IN ({list})");
    let keys: Vec<Value> = things.keys().map(Value::from).collect();
    let mut ids: HashMap<String, Id> = connection.query_in(select, &[], &keys)?.into_iter().collect();
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
    ids.extend(connection.query_in(select, &[], &keys)?);
    Ok(ids)
}
