//! Compares what a bundle says with what is taken out of the image once more.

use serde_json::{Map, Value};

use crate::manifest::Manifest;

/// What cannot be taken out of an image: what its operator says, when it was, what there was no room for, and who
/// sealed it. The program and its
/// rules are compared by whoever takes it out again, and the name of the target is how it was called then.
const NOT_OF_THE_IMAGE: [&str; 8] =
    ["case", "tool", "command", "started_at", "ended_at", "left_out", "signed_by", "timestamped"];

/// What the rules of a scan say of artifacts and layers.
const OF_THE_RULES: [&str; 3] = ["findings", "created_by", "created_at"];

/// The differences that are reported; more are counted.
const REPORTED: usize = 100;

/// What the manifest of a bundle says of the image that `again` does not, field by field. Without `with_rules`, what
/// rules say is not compared: it was not found again by the same ones.
pub fn differences(said: &Manifest, again: &Manifest, with_rules: bool) -> Vec<String> {
    let tree = |manifest: &Manifest| {
        // A manifest is an object of strings, numbers, lists and objects, so it has this form.
        let mut tree = serde_json::to_value(manifest).unwrap_or(Value::Null);
        NOT_OF_THE_IMAGE.iter().for_each(|field| drop(tree.as_object_mut().and_then(|tree| tree.remove(*field))));
        tree.get_mut("source").and_then(Value::as_object_mut).map(|source| source.remove("target"));
        if !with_rules {
            without_rules(&mut tree);
        }
        tree
    };
    let mut found = Vec::new();
    compare("", &tree(said), &tree(again), &mut found);
    let more = found.len().saturating_sub(REPORTED);
    found.truncate(REPORTED);
    found.extend((more > 0).then(|| format!("and {more} more differences")));
    found
}

fn without_rules(tree: &mut Value) {
    for list in ["layers", "artifacts"] {
        let objects = tree.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for object in objects.filter_map(Value::as_object_mut) {
            OF_THE_RULES.iter().for_each(|field| drop(object.remove(*field)));
        }
    }
}

fn compare(place: &str, said: &Value, again: &Value, found: &mut Vec<String>) {
    match (said, again) {
        (Value::Object(said), Value::Object(again)) => {
            let null = Value::Null;
            let of = |object: &Map<String, Value>, name: &String| object.get(name).unwrap_or(&null).clone();
            let only_again = again.keys().filter(|name| !said.contains_key(*name));
            for name in said.keys().chain(only_again) {
                let place = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
                compare(&place, &of(said, name), &of(again, name), found);
            }
        }
        (Value::Array(said), Value::Array(again)) => {
            for index in 0..said.len().max(again.len()) {
                let place = format!("{place}[{index}]");
                match (said.get(index), again.get(index)) {
                    (Some(said), Some(again)) => compare(&place, said, again, found),
                    (Some(_), None) => found.push(format!("{place}: the image does not have it")),
                    (None, _) => found.push(format!("{place} is missing: the image has it")),
                }
            }
        }
        _ if said != again => found.push(format!("{place} is {said}, and in the image {again}")),
        _ => {}
    }
}
