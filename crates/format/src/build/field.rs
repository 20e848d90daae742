//! Which entry of the history set a field of the configuration.

use crate::config::ImageConfig;
use crate::dockerfile::{assigns, keyword};

/// The last entry that set `field`; `None` if none did, or if what it says is not what the field holds.
pub(super) fn entry(config: &ImageConfig, field: &str) -> Option<usize> {
    if let Some(index) = field.strip_prefix("history[") {
        let index = index.split(']').next()?.parse().ok()?;
        return (index < config.history.len()).then_some(index);
    }
    let runtime = &config.config;
    let (word, wanted) = match field.split_once(['[', '.']) {
        Some(("Env", index)) => {
            let text = runtime.env.get(index.trim_end_matches(']').parse::<usize>().ok()?)?;
            ("ENV", Wanted::Assigned(text))
        }
        Some(("Labels", name)) => ("LABEL", Wanted::Named(name)),
        Some(("ExposedPorts", port)) => ("EXPOSE", Wanted::Part(port.split(['/', '-']).next()?)),
        Some(("Volumes", path)) => ("VOLUME", Wanted::Part(path)),
        Some(("OnBuild", _)) => ("ONBUILD", Wanted::Nothing),
        Some(("Cmd", _)) => ("CMD", Wanted::Nothing),
        Some(("Entrypoint", _)) => ("ENTRYPOINT", Wanted::Nothing),
        Some(("Healthcheck", _)) => ("HEALTHCHECK", Wanted::Nothing),
        None => match field {
            "User" if runtime.user.is_empty() => return None,
            "User" => ("USER", Wanted::Part(runtime.user.split(':').next().unwrap_or_default())),
            "WorkingDir" => ("WORKDIR", Wanted::Nothing),
            "Cmd" => ("CMD", Wanted::Nothing),
            "Entrypoint" => ("ENTRYPOINT", Wanted::Nothing),
            "Healthcheck" => ("HEALTHCHECK", Wanted::Nothing),
            _ => return None,
        },
        Some(_) => return None,
    };
    let sets = |text: &str| match wanted {
        Wanted::Nothing => true,
        Wanted::Assigned(text_of_field) => text_of_field.split_once('=').is_some_and(|(name, _)| assigns(text, name)),
        Wanted::Named(name) => assigns(text, name),
        Wanted::Part(part) => text.contains(part),
    };
    let mut entries = config.history.iter().enumerate().rev().filter(|(_, entry)| keyword(entry) == word);
    let (index, text) = entries.find_map(|(index, entry)| {
        let (_, text) = entry.created_by.split_once(word)?;
        sets(text.trim()).then_some((index, text.trim()))
    })?;
    // An option of the builder may have set another value after it.
    let is_value = match wanted {
        Wanted::Assigned(text_of_field) => plain(text).contains(&plain(text_of_field)),
        Wanted::Named(name) => runtime.labels.get(name).is_some_and(|value| plain(text).contains(&plain(value))),
        _ => true,
    };
    is_value.then_some(index)
}

/// What an entry has to say to have set a field.
#[derive(Clone, Copy)]
enum Wanted<'t> {
    /// It is the last of its kind.
    Nothing,
    /// `NAME=value`.
    Assigned(&'t str),
    /// The name that gets a value.
    Named(&'t str),
    /// A part of its text.
    Part(&'t str),
}

fn plain(text: &str) -> String {
    text.replace(['"', '\'', '\\'], "")
}
