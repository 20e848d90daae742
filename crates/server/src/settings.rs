//! The settings of the service: one TOML file, whose values environment variables override.
//!
//! A variable is the name of a value in capitals, after `LAYERSIFT_SERVE_`, with `__` between a table and its field:
//! `LAYERSIFT_SERVE_LISTEN__API=0.0.0.0:8443`. Its text is taken as TOML where it is, and as a string otherwise.

mod allow_list;
mod attestations;
mod audit;
mod events;
mod harbor;
mod notify;
mod prompts;
mod tables;

use std::path::Path;

use layersift_format::read_small_text;
use layersift_model::{ParseError, parse};
use layersift_report::Policy;

pub use allow_list::{AllowList, InvalidPattern};
pub use attestations::Attestations;
pub use audit::Audit;
pub use events::Events;
pub use harbor::Harbor;
pub use notify::{Notify, NotifyFindings, NotifyFormat};
pub use prompts::{PromptPolicy, Prompts, Upstream};
pub use tables::{
    AdmissionClients, ApiClients, Clients, Limits, Listen, Registries, Retention, Scans, Scope, Settings, Tls,
};

/// What the names of variables begin with.
const PREFIX: &str = "LAYERSIFT_SERVE_";

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It is not TOML, or has a field that is unknown or of another type: with line and column.
    #[error("{path}: {source}")]
    Parse {
        /// The file, or the variables.
        path: String,
        /// What the parser says.
        #[source]
        source: ParseError,
    },
    /// A value that cannot be used.
    #[error("{path}: line {line}: {reason}")]
    Line {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// Values that do not go together.
    #[error("{path}: {reason}")]
    Together {
        /// The file.
        path: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A variable that names no setting.
    #[error("environment variable {name}: {reason}")]
    Variable {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

/// Reads the settings in the file at `path`, if there is one, and in the variables among `variables`.
///
/// # Errors
/// For the first value that is invalid, with its line; every field has to be known.
pub fn load(
    path: Option<&Path>,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Settings, SettingsError> {
    let text = match path {
        Some(path) => read(path)?,
        None => String::new(),
    };
    let name = path.map_or_else(|| "the settings".to_string(), |path| path.display().to_string());
    // By itself first, so that an error has its line.
    let settings: Settings = parse(&name, &text)?;
    let mut variables: Vec<(String, String)> =
        variables.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    variables.sort_unstable();
    if variables.is_empty() {
        check(&name, &text, &settings)?;
        return Ok(settings);
    }
    let (name, text) = (format!("{name} with the environment"), with_variables(&name, &text, &variables)?);
    let settings = parse(&name, &text)?;
    check(&name, &text, &settings)?;
    Ok(settings)
}

fn read(path: &Path) -> Result<String, SettingsError> {
    read_small_text(path).map_err(|source| SettingsError::Read { path: path.display().to_string(), source })
}

fn parse(name: &str, text: &str) -> Result<Settings, SettingsError> {
    parse::toml(text).map_err(|source| SettingsError::Parse { path: name.into(), source })
}

/// The settings of a file with those of variables in place of its own, as a file: places in it are those of values.
fn with_variables(name: &str, text: &str, variables: &[(String, String)]) -> Result<String, SettingsError> {
    let mut whole: toml::Table =
        parse::toml(text).map_err(|source| SettingsError::Parse { path: name.into(), source })?;
    let mut text = text.to_string();
    for (variable, value) in variables {
        let invalid = |reason: String| SettingsError::Variable { name: variable.clone(), reason };
        let field = variable[PREFIX.len()..].to_ascii_lowercase();
        let path: Vec<String> = field.split("__").map(|part| part.replace('_', "-")).collect();
        set(&mut whole, &path, value_of(value)).map_err(invalid)?;
        // One by one, so that an error has its variable.
        text = toml::to_string(&whole).map_err(|error| invalid(error.to_string()))?;
        parse(name, &text).map_err(|error| match error {
            SettingsError::Parse { source, .. } => invalid(source.message().into()),
            error => error,
        })?;
    }
    Ok(text)
}

/// A value as it is written in TOML, and otherwise a string.
fn value_of(text: &str) -> toml::Value {
    let parsed: Option<toml::Table> = parse::toml(&format!("value = {text}")).ok();
    parsed.and_then(|mut table| table.remove("value")).unwrap_or_else(|| toml::Value::String(text.into()))
}

fn set(table: &mut toml::Table, path: &[String], value: toml::Value) -> Result<(), String> {
    match path {
        [] => Err("it names no setting".into()),
        [last] => {
            table.insert(last.clone(), value);
            Ok(())
        }
        [first, rest @ ..] => {
            let inner = table.entry(first.clone()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            let inner = inner.as_table_mut().ok_or_else(|| format!("`{first}` is not a table"))?;
            set(inner, rest, value)
        }
    }
}

/// Checks what the types of the values do not.
fn check(name: &str, text: &str, settings: &Settings) -> Result<(), SettingsError> {
    let policy = settings.admission.policy(&Policy::default()).map_err(|error| SettingsError::Line {
        path: name.into(),
        line: 1 + text.bytes().take(error.offset).filter(|byte| *byte == b'\n').count(),
        reason: format!("[admission] {error}"),
    })?;
    let together = |reason: String| SettingsError::Together { path: name.into(), reason };
    if policy.takes_attestations() && settings.attestations.keys.is_empty() {
        return Err(together("`admission.attestations` needs `attestations.keys`, without which none counts".into()));
    }
    settings.check_together().map_err(together)
}

#[cfg(test)]
mod tests;
