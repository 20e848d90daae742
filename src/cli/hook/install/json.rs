//! Hooks in JSON settings. Only the text of our own entries is inserted or removed: all other settings, their order and
//! their form stay as they are.

mod tree;

use anyhow::{Context, bail, ensure};
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

use self::tree::Node;

/// What is added: an entry for each event.
pub(super) struct Entries {
    /// Whether the file begins with `"version": 1`.
    pub(super) version: bool,
    pub(super) entries: Vec<(&'static str, Value)>,
}

/// The settings `text` with `entries`, instead of those that an earlier installation added.
pub(super) fn with_hooks(text: &str, entries: &Entries) -> anyhow::Result<String> {
    let mut text = if text.trim().is_empty() { "{}\n".into() } else { text.to_string() };
    if entries.version {
        text = with_version(&text)?;
    }
    for (event, entry) in &entries.entries {
        if ours(&parse(&text)?, event) != [entry] {
            text = with_entry(&without(&text, Some(event))?, event, entry)?;
        }
    }
    // Events of an earlier version of this program.
    let listed = |event: &str| entries.entries.iter().any(|(known, _)| *known == event);
    let (document, _) = parse(&text)?;
    let others: Vec<String> = hooks(&document)?.map(|hooks| hooks.keys().cloned().collect()).unwrap_or_default();
    for event in others.iter().filter(|event| !listed(event)) {
        text = without(&text, Some(event))?;
    }
    Ok(text)
}

/// The settings `text` without our entries.
pub(super) fn without_hooks(text: &str) -> anyhow::Result<String> {
    if text.trim().is_empty() { Ok(text.into()) } else { without(text, None) }
}

fn parse(text: &str) -> anyhow::Result<(Value, Node)> {
    let document: Value = serde_json::from_str(text).context("it is not JSON; comments are not JSON either")?;
    ensure!(document.is_object(), "it is not a JSON object");
    let tree = tree::parse(text)?;
    Ok((document, tree))
}

fn hooks(document: &Value) -> anyhow::Result<Option<&serde_json::Map<String, Value>>> {
    match document.get("hooks") {
        None => Ok(None),
        Some(hooks) => hooks.as_object().map(Some).context("`hooks` is not an object"),
    }
}

/// Our entries for `event`, and the groups of hooks that are ours alone.
fn ours<'d>((document, _): &'d (Value, Node), event: &str) -> Vec<&'d Value> {
    let entries = document.pointer("/hooks").and_then(|hooks| hooks.get(event)).and_then(Value::as_array);
    entries.into_iter().flatten().filter(|entry| has_ours(entry)).collect()
}

fn has_ours(entry: &Value) -> bool {
    is_ours(entry) || inner(entry).iter().any(is_ours)
}

fn inner(entry: &Value) -> &[Value] {
    entry.get("hooks").and_then(Value::as_array).map_or(&[], |hooks| hooks)
}

/// Whether `hook` runs `layersift hook`.
fn is_ours(hook: &Value) -> bool {
    let commands = ["command", "bash"].iter().filter_map(|name| hook.get(*name)?.as_str());
    commands.into_iter().any(super::command::is_ours)
}

fn with_version(text: &str) -> anyhow::Result<String> {
    let (document, tree) = parse(text)?;
    match document.get("version") {
        Some(version) if *version == 1 => Ok(text.into()),
        Some(_) => bail!("its version is not 1"),
        None => insert_first(text, &tree, "version", &Value::from(1)),
    }
}

fn with_entry(text: &str, event: &str, entry: &Value) -> anyhow::Result<String> {
    let (document, tree) = parse(text)?;
    let Some(hooks) = hooks(&document)? else {
        return insert(text, &tree, 0, Some("hooks"), &serde_json::json!({ event: [entry] }));
    };
    let hooks_tree = tree.member("hooks").context("`hooks` is not an object")?;
    match hooks.get(event) {
        None => insert(text, hooks_tree, 1, Some(event), &serde_json::json!([entry])),
        Some(Value::Array(_)) => {
            let entries = hooks_tree.member(event).with_context(|| format!("`hooks.{event}` is not a list"))?;
            insert(text, entries, 2, None, entry)
        }
        Some(_) => bail!("`hooks.{event}` is not a list"),
    }
}

/// Removes our entries, those for `event` or for all events, one after another.
fn without(text: &str, event: Option<&str>) -> anyhow::Result<String> {
    let mut text = text.to_string();
    while let Some(shorter) = without_one(&text, event)? {
        text = shorter;
    }
    Ok(text)
}

fn without_one(text: &str, only: Option<&str>) -> anyhow::Result<Option<String>> {
    let (document, tree) = parse(text)?;
    let (Some(hooks), Some(hooks_tree)) = (hooks(&document)?, tree.member("hooks")) else { return Ok(None) };
    for (event, entries) in hooks.iter().filter(|(event, _)| only.is_none_or(|only| *event == only)) {
        let (Some(entries), Some(entries_tree)) = (entries.as_array(), hooks_tree.member(event)) else { continue };
        let Some((place, entry)) = entries.iter().enumerate().find(|(_, entry)| has_ours(entry)) else { continue };
        let hooks_inside = inner(entry);
        if !is_ours(entry) && !hooks_inside.iter().all(is_ours) {
            let group = entries_tree.item(place).and_then(|entry| entry.member("hooks"));
            let inside = hooks_inside.iter().position(is_ours).unwrap_or_default();
            return Ok(group.map(|group| remove(text, group, inside)));
        }
        // What is left empty goes as well; an empty list of hooks may be needed by the form of the file.
        if entries.len() > 1 {
            return Ok(Some(remove(text, entries_tree, place)));
        }
        if hooks.len() > 1 || document.get("version").is_some() {
            return Ok(hooks_tree.place_of(event).map(|place| remove(text, hooks_tree, place)));
        }
        return Ok(tree.place_of("hooks").map(|place| remove(text, &tree, place)));
    }
    Ok(None)
}

/// `text` without the item or member at `place` of `container`.
fn remove(text: &str, container: &Node, place: usize) -> String {
    let spans = container.children();
    let Some(span) = spans.get(place) else { return text.into() };
    let cut = if spans.len() == 1 {
        container.span.start + 1..container.span.end - 1
    } else if place > 0 {
        spans[place - 1].end..span.end
    } else {
        span.start..spans[1].start
    };
    format!("{}{}", &text[..cut.start], &text[cut.end..])
}

/// `text` with another member or item at the end of `container`, which is `depth` levels deep.
fn insert(text: &str, container: &Node, depth: usize, key: Option<&str>, value: &Value) -> anyhow::Result<String> {
    let unit = unit(text);
    let indent = unit.repeat(depth + 1);
    let added = rendered(key, value, &unit, &indent)?;
    let spans = container.children();
    let (at, end, new) = match spans.last() {
        None => {
            let close = unit.repeat(depth);
            (container.span.start + 1, container.span.end - 1, format!("\n{indent}{added}\n{close}"))
        }
        Some(last) => (last.end, last.end, format!(",\n{indent}{added}")),
    };
    Ok(format!("{}{new}{}", &text[..at], &text[end..]))
}

/// `text` with another first member of the document.
fn insert_first(text: &str, tree: &Node, key: &str, value: &Value) -> anyhow::Result<String> {
    let Some(first) = tree.children().first().cloned() else { return insert(text, tree, 0, Some(key), value) };
    let unit = unit(text);
    let added = rendered(Some(key), value, &unit, &unit)?;
    Ok(format!("{}{added},\n{unit}{}", &text[..first.start], &text[first.start..]))
}

/// The text of a member or an item, whose further lines begin with `indent`.
fn rendered(key: Option<&str>, value: &Value, unit: &str, indent: &str) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(unit.as_bytes())))?;
    let value = String::from_utf8(bytes)?.replace('\n', &format!("\n{indent}"));
    Ok(match key {
        Some(key) => format!("{}: {value}", Value::from(key)),
        None => value,
    })
}

/// What `text` is indented by: what stands before its first member.
fn unit(text: &str) -> String {
    let indented = text.lines().find(|line| line.trim_start().starts_with('"') && line.starts_with([' ', '\t']));
    indented.map_or_else(|| "  ".into(), |line| line[..line.len() - line.trim_start().len()].into())
}

#[cfg(test)]
mod tests;
