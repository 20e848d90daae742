//! `--format` and `--output` of a command that writes one output. Each command has a table of formats; the flag's
//! values are the names in the table, so that a new format is one line in one place.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

/// A format that a command can write.
pub(crate) trait Format: Copy + Send + Sync + 'static {
    /// All formats of the command, the default first.
    fn all() -> Vec<Self>;

    /// The value of `--format`.
    fn name(self) -> &'static str;

    /// What it is for, in a few words.
    fn about(self) -> &'static str;
}

#[derive(Clone, Debug, Args)]
pub(crate) struct OutputArgs<F: Format> {
    /// Format of the output
    #[arg(long, value_name = "FORMAT", value_parser = parser::<F>(), default_value = default_name::<F>())]
    pub(crate) format: F,

    /// Write the output to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// The formats of tables and sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextOrJson {
    Text,
    Json,
}

impl Format for TextOrJson {
    fn all() -> Vec<Self> {
        vec![TextOrJson::Text, TextOrJson::Json]
    }

    fn name(self) -> &'static str {
        match self {
            TextOrJson::Text => "text",
            TextOrJson::Json => "json",
        }
    }

    fn about(self) -> &'static str {
        match self {
            TextOrJson::Text => "for a person",
            TextOrJson::Json => "for a program",
        }
    }
}

pub(crate) fn parser<F: Format>() -> impl TypedValueParser<Value = F> {
    let values = F::all().into_iter().map(|format| PossibleValue::new(format.name()).help(format.about()));
    PossibleValuesParser::new(values)
        .try_map(|name| F::all().into_iter().find(|format| format.name() == name).ok_or("unknown format"))
}

fn default_name<F: Format>() -> &'static str {
    F::all().first().map_or("", |format| format.name())
}
