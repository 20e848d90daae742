//! The strings of a configuration, with the names that reports use for them.

use std::borrow::Cow;

use layersift_format::config::ImageConfig;
use layersift_model::quoted;
use layersift_rules::ConfigField;

/// The most characters of a name in the configuration that the name of a field quotes.
const MAX_NAME: usize = 200;

/// One string of the configuration.
///
/// Not `Debug`: the text may hold secrets.
#[derive(Clone)]
pub struct Field<'a> {
    /// The part of the configuration.
    pub kind: ConfigField,
    /// Its name in reports: `Env[1]`, `Labels.maintainer`, `Cmd[0]`, `Entrypoint[0]`, `Healthcheck.Test[1]`,
    /// `OnBuild[0]`, `history[3].created_by`, `User`, `WorkingDir`, `Volumes./data`.
    pub name: String,
    /// The string itself; for a label, `name=value`.
    pub text: Cow<'a, str>,
}

/// All non-empty strings of `config`: environment, labels, commands, triggers, history (oldest first), user, working
/// directory, volumes, and all other strings of the document. A hostile configuration may have half a million.
pub fn fields(config: &ImageConfig) -> impl Iterator<Item = Field<'_>> {
    let runtime = &config.config;
    let labels = runtime.labels.iter().map(|(name, value)| Field {
        kind: ConfigField::Labels,
        name: format!("Labels.{}", quoted(name, MAX_NAME)),
        text: Cow::Owned(format!("{name}={value}")),
    });
    let commands = commands(config).into_iter().flat_map(|(kind, name, words)| numbered(kind, name, words));
    let history = config.history.iter().enumerate().flat_map(|(i, entry)| {
        [("created_by", &entry.created_by), ("comment", &entry.comment), ("author", &entry.author)]
            .map(|(part, text)| field(ConfigField::History, format!("history[{i}].{part}"), text))
    });
    let volumes = runtime.volumes.keys();
    let volumes = volumes.map(|path| field(ConfigField::Volumes, format!("Volumes.{}", quoted(path, MAX_NAME)), path));
    let all = numbered(ConfigField::Env, "Env", &runtime.env)
        .chain(labels)
        .chain(commands)
        .chain(numbered(ConfigField::OnBuild, "OnBuild", &runtime.on_build))
        .chain(history)
        .chain([
            field(ConfigField::User, "User".into(), &runtime.user),
            field(ConfigField::WorkingDir, "WorkingDir".into(), &runtime.working_dir),
        ])
        .chain(volumes)
        .chain(config.rest.iter().map(|(at, text)| field(ConfigField::Other, at.clone(), text)));
    all.filter(|field| !field.text.is_empty())
}

/// The name of the exposed port `key`.
pub(super) fn port(key: &str) -> String {
    format!("ExposedPorts.{}", quoted(key, MAX_NAME))
}

/// Commands of more than one word, joined to one line, with the name of the whole list.
pub(super) fn command_lines(config: &ImageConfig) -> impl Iterator<Item = Field<'_>> {
    commands(config).into_iter().filter(|(_, _, words)| words.len() > 1).map(|(kind, name, words)| Field {
        kind,
        name: name.into(),
        text: Cow::Owned(words.join(" ")),
    })
}

type Command<'a> = (ConfigField, &'static str, &'a [String]);

fn commands(config: &ImageConfig) -> [Command<'_>; 3] {
    let runtime = &config.config;
    let test = runtime.healthcheck.as_ref().map_or(&[][..], |check| &check.test[..]);
    [
        (ConfigField::Cmd, "Cmd", &runtime.cmd),
        (ConfigField::Entrypoint, "Entrypoint", &runtime.entrypoint),
        (ConfigField::Healthcheck, "Healthcheck.Test", test),
    ]
}

fn numbered<'a>(kind: ConfigField, name: &'static str, texts: &'a [String]) -> impl Iterator<Item = Field<'a>> {
    texts.iter().enumerate().map(move |(i, text)| field(kind, format!("{name}[{i}]"), text))
}

fn field(kind: ConfigField, name: String, text: &str) -> Field<'_> {
    Field { kind, name, text: Cow::Borrowed(text) }
}
