//! Hooks in `hooks.toml` of Vibe: tables at the end of the file. All other text stays as it is.

use anyhow::{Context, ensure};
use toml::{Table, Value};

/// The names of our tables, and the events they are for.
const TABLES: [(&str, &str); 2] = [("layersift-pre-tool", "pre_tool"), ("layersift-post-tool", "post_tool")];

/// `text` with our hooks, which run `command`.
pub(super) fn with_hooks(text: &str, command: &str) -> anyhow::Result<String> {
    let bare = without_hooks(text)?;
    let mut out = bare.clone();
    for (name, event) in TABLES {
        if !out.is_empty() {
            out.push_str(if out.ends_with('\n') { "\n" } else { "\n\n" });
        }
        let value = |text: &str| Value::String(text.into()).to_string();
        out.push_str(&format!(
            "[[hooks]]\nname = {}\ntype = {}\nmatch = \"*\"\ncommand = {}\ntimeout = 30.0\nstrict = true\n",
            value(name),
            value(event),
            value(command)
        ));
    }
    // A file may have its hooks as one list, after which there can be no tables.
    parse(&out).context("the hooks cannot be added as tables `[[hooks]]`")?;
    Ok(out)
}

/// `text` without our hooks.
pub(super) fn without_hooks(text: &str) -> anyhow::Result<String> {
    let hooks = parse(text)?;
    let ours = hooks.iter().filter(|name| is_ours(name)).count();
    let mut out = String::with_capacity(text.len());
    let mut removed = 0;
    for block in blocks(text) {
        if name(block).is_some_and(|name| is_ours(&name)) {
            removed += 1;
            // Comments before the next table are not ours.
            out.push_str(after_last_value(block).trim_start_matches(['\r', '\n']));
        } else {
            out.push_str(block);
        }
    }
    ensure!(removed == ours, "our hooks are not tables `[[hooks]]` of their own; remove them by hand");
    if removed > 0 {
        out.truncate(out.trim_end().len());
        if !out.is_empty() {
            out.push('\n');
        }
    }
    Ok(out)
}

fn is_ours(name: &str) -> bool {
    TABLES.iter().any(|(ours, _)| *ours == name)
}

/// The names of the hooks in `text`.
fn parse(text: &str) -> anyhow::Result<Vec<String>> {
    let table: Table = text.parse().context("it is not TOML")?;
    let Some(hooks) = table.get("hooks") else { return Ok(Vec::new()) };
    let hooks = hooks.as_array().context("`hooks` is not a list")?;
    Ok(hooks.iter().filter_map(|hook| hook.get("name")?.as_str()).map(String::from).collect())
}

/// `text` in pieces, each of which but the first begins with the line of a table.
fn blocks(text: &str) -> Vec<&str> {
    let mut starts = vec![0];
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if line.trim_start().starts_with('[') && at > 0 {
            starts.push(at);
        }
        at += line.len();
    }
    starts.push(text.len());
    starts.windows(2).filter_map(|pair| text.get(pair[0]..pair[1])).collect()
}

/// What follows the last value of the table `block`.
fn after_last_value(block: &str) -> &str {
    let mut end = 0;
    let mut at = 0;
    for line in block.split_inclusive('\n') {
        at += line.len();
        if !line.trim().is_empty() && !line.trim_start().starts_with('#') {
            end = at;
        }
    }
    block.get(end..).unwrap_or_default()
}

/// The name of the hook that `block` is the table of.
fn name(block: &str) -> Option<String> {
    let is_hook = block.lines().next()?.trim().starts_with("[[hooks]]");
    let table: Table = if is_hook { block.parse().ok()? } else { return None };
    Some(table.get("hooks")?.as_array()?.first()?.get("name")?.as_str()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHERS: &str =
        "# mine\n[[hooks]]\nname = \"lint\" # x\ntype = \"post_agent\"\ncommand = \"a\"\n\n[other]\nb = 1\n";

    #[test]
    fn hooks_are_added_once_and_removed_again() {
        let with = with_hooks(OTHERS, "layersift hook || exit 2").unwrap();
        assert!(with.starts_with(OTHERS), "{with}");
        assert_eq!(parse(&with).unwrap(), ["lint", "layersift-pre-tool", "layersift-post-tool"]);
        assert_eq!(with_hooks(&with, "layersift hook || exit 2").unwrap(), with);
        assert_eq!(without_hooks(&with).unwrap(), OTHERS);
        assert_eq!(without_hooks(&with_hooks("", "a").unwrap()).unwrap(), "");
        let followed = format!("{}\n# theirs\n[b]\nc = 1\n", with_hooks("", "a").unwrap());
        assert_eq!(without_hooks(&followed).unwrap(), "# theirs\n[b]\nc = 1\n");
        let other = with_hooks(&with, "b").unwrap();
        assert!(other.contains("command = \"b\"") && !other.contains("exit 2"), "{other}");
    }

    #[test]
    fn what_cannot_be_understood_is_an_error() {
        for wrong in ["[[hooks]", "hooks = 1", "hooks = [{ name = \"layersift-pre-tool\" }]\n", "hooks = []\n"] {
            assert!(with_hooks(wrong, "a").is_err(), "{wrong}");
        }
    }
}
