//! Compares what a bundle says with what is taken out of the image once more.

use serde::Serialize;
use serde_json::Value;

use crate::manifest::Manifest;

/// What cannot be taken out of an image: what its operator says, when it was, what there was no room for, and who
/// sealed it. The program and its rules are compared by whoever takes it out again, and the name of the target is how
/// it was called then.
const NOT_OF_THE_IMAGE: [&str; 8] =
    ["case", "tool", "command", "started_at", "ended_at", "left_out", "signed_by", "timestamped"];

/// What the rules of a scan say of layers.
const OF_THE_RULES: [&str; 2] = ["created_by", "created_at"];

/// The differences that are reported; more are counted.
const REPORTED: usize = 100;

/// What the manifest of a bundle says of the image that `again` does not, field by field. Without `with_rules`, what
/// rules say is not compared: it was not found again by the same ones.
pub fn differences(said: &Manifest, again: &Manifest, with_rules: bool) -> Vec<String> {
    let mut found = Found::default();
    found.compare_lists("artifacts", &said.artifacts, &again.artifacts, &["findings"]);
    // One artifact may have all findings.
    for (index, (said, again)) in said.artifacts.iter().zip(&again.artifacts).enumerate().filter(|_| with_rules) {
        found.compare_lists(&format!("artifacts[{index}].findings"), &said.findings, &again.findings, &[]);
    }
    let left_out: &[&str] = if with_rules { &[] } else { &OF_THE_RULES };
    found.compare_lists("layers", &said.layers, &again.layers, left_out);
    let tree = |manifest: &Manifest| {
        let mut tree = tree(&without_lists(manifest), &NOT_OF_THE_IMAGE);
        tree.get_mut("source").and_then(Value::as_object_mut).map(|source| source.remove("target"));
        tree
    };
    found.compare("", &tree(said), &tree(again));
    let more = found.count.saturating_sub(REPORTED);
    found.listed.extend((more > 0).then(|| format!("and {more} more differences")));
    found.listed
}

/// What is in no list: there may be many artifacts, and the tree of each takes some kilobytes.
fn without_lists(manifest: &Manifest) -> Manifest {
    let Manifest { schema, case, tool, command, started_at, ended_at, source, signed_by, timestamped, .. } = manifest;
    Manifest {
        schema: *schema,
        case: case.clone(),
        tool: tool.clone(),
        command: command.clone(),
        started_at: *started_at,
        ended_at: *ended_at,
        source: source.clone(),
        layers: Vec::new(),
        artifacts: Vec::new(),
        left_out: Vec::new(),
        signed_by: signed_by.clone(),
        timestamped: *timestamped,
    }
}

/// The fields of `object` but those that are `left_out`.
fn tree(object: &impl Serialize, left_out: &[&str]) -> Value {
    // It is an object of strings, numbers, lists and objects, so it has this form.
    let mut tree = serde_json::to_value(object).unwrap_or(Value::Null);
    left_out.iter().for_each(|field| drop(tree.as_object_mut().and_then(|tree| tree.remove(*field))));
    tree
}

/// The differences so far.
#[derive(Default)]
struct Found {
    listed: Vec<String>,
    count: usize,
}

impl Found {
    fn add(&mut self, difference: String) {
        self.count += 1;
        if self.count <= REPORTED {
            self.listed.push(difference);
        }
    }

    fn compare_lists<T: Serialize>(&mut self, name: &str, said: &[T], again: &[T], left_out: &[&str]) {
        for index in 0..said.len().max(again.len()) {
            let of = |list: &[T]| list.get(index).map(|one| tree(one, left_out));
            self.compare_element(&format!("{name}[{index}]"), of(said).as_ref(), of(again).as_ref());
        }
    }

    fn compare_element(&mut self, place: &str, said: Option<&Value>, again: Option<&Value>) {
        match (said, again) {
            (Some(said), Some(again)) => self.compare(place, said, again),
            (Some(_), None) => self.add(format!("{place}: the image does not have it")),
            (None, _) => self.add(format!("{place} is missing: the image has it")),
        }
    }

    fn compare(&mut self, place: &str, said: &Value, again: &Value) {
        match (said, again) {
            (Value::Object(said), Value::Object(again)) => {
                let only_again = again.keys().filter(|name| !said.contains_key(*name));
                for name in said.keys().chain(only_again) {
                    let place = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
                    let [said, again] = [said, again].map(|object| object.get(name).unwrap_or(&Value::Null));
                    self.compare(&place, said, again);
                }
            }
            (Value::Array(said), Value::Array(again)) => {
                for index in 0..said.len().max(again.len()) {
                    self.compare_element(&format!("{place}[{index}]"), said.get(index), again.get(index));
                }
            }
            _ if said != again => self.add(format!("{place} is {said}, and in the image {again}")),
            _ => {}
        }
    }
}
