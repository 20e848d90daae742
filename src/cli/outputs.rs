//! `--format` and `--output` of a command that writes reports: both may be repeated, so that one scan writes every
//! format that is wanted.
//!
//! Each `--output` is the file of the `--format` before it. One format may be without a file and goes to standard
//! output.

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};
use layersift_report::{FORMATS, Format};

const FORMAT: &str = "format";
const OUTPUT: &str = "output";

/// What is written, and where to.
#[derive(Clone, Debug)]
pub(crate) struct ReportOutputs(pub(crate) Vec<ReportOutput>);

/// A report in one format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReportOutput {
    /// The format's name, which is in the table of formats.
    pub(crate) format: String,
    /// The file; `None` for standard output.
    pub(crate) file: Option<PathBuf>,
}

/// A flag, in the order of the command line.
enum Flag {
    Format(String),
    Output(PathBuf),
}

impl Args for ReportOutputs {
    fn augment_args(command: Command) -> Command {
        let values = FORMATS.iter().map(|format| PossibleValue::new(format.name).help(format.about));
        let format = Arg::new(FORMAT)
            .long(FORMAT)
            .value_name("FORMAT")
            .action(ArgAction::Append)
            .value_parser(PossibleValuesParser::new(values))
            .help("Format of the report; may be repeated, each with its own --output after it [default: text]");
        let output = Arg::new(OUTPUT)
            .short('o')
            .long(OUTPUT)
            .value_name("FILE")
            .action(ArgAction::Append)
            .value_parser(value_parser!(PathBuf))
            .help("Write the report to this file instead of standard output; with several formats, the one before it");
        command.arg(format).arg(output)
    }

    fn augment_args_for_update(command: Command) -> Command {
        ReportOutputs::augment_args(command)
    }
}

impl FromArgMatches for ReportOutputs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<ReportOutputs, clap::Error> {
        let mut flags: Vec<(usize, Flag)> = Vec::new();
        if let (Some(formats), Some(at)) = (matches.get_many::<String>(FORMAT), matches.indices_of(FORMAT)) {
            flags.extend(at.zip(formats.cloned().map(Flag::Format)));
        }
        if let (Some(files), Some(at)) = (matches.get_many::<PathBuf>(OUTPUT), matches.indices_of(OUTPUT)) {
            flags.extend(at.zip(files.cloned().map(Flag::Output)));
        }
        flags.sort_by_key(|(at, _)| *at);
        let outputs = pair(flags.into_iter().map(|(_, flag)| flag));
        outputs.map(ReportOutputs).map_err(|reason| clap::Error::raw(ErrorKind::ArgumentConflict, reason + "\n"))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = ReportOutputs::from_arg_matches(matches)?;
        Ok(())
    }
}

impl ReportOutput {
    /// The format.
    pub(crate) fn format(&self) -> Option<&'static Format> {
        layersift_report::format(&self.format)
    }
}

/// The outputs that the flags ask for.
fn pair(flags: impl Iterator<Item = Flag>) -> Result<Vec<ReportOutput>, String> {
    let mut outputs: Vec<ReportOutput> = Vec::new();
    let mut first = None;
    for flag in flags {
        match (flag, outputs.last_mut()) {
            (Flag::Format(format), _) => outputs.push(ReportOutput { format, file: None }),
            (Flag::Output(file), Some(output)) if output.file.is_none() => output.file = Some(file),
            (Flag::Output(file), None) if first.is_none() => first = Some(file),
            (Flag::Output(file), _) => {
                return Err(format!("--output {} has no --format of its own before it", file.display()));
            }
        }
    }
    if outputs.is_empty() {
        let format = FORMATS.first().map_or("text", |format| format.name).to_string();
        outputs.push(ReportOutput { format, file: None });
    }
    if let Some(file) = first {
        // With a single format, the order does not matter.
        match &mut outputs[..] {
            [one] if one.file.is_none() => one.file = Some(file),
            _ => return Err(format!("--output {} has no --format before it", file.display())),
        }
    }
    let mut to_standard_output = outputs.iter().filter(|output| output.file.is_none());
    if let (Some(one), Some(other)) = (to_standard_output.next(), to_standard_output.next()) {
        return Err(format!(
            "both {} and {} would go to standard output; give each format but one an --output FILE after it",
            one.format, other.format
        ));
    }
    let mut files: Vec<_> = outputs.iter().filter_map(|output| output.file.as_ref()).collect();
    files.sort();
    match files.windows(2).find(|pair| pair.first() == pair.last()).and_then(|pair| pair.first()) {
        Some(file) => Err(format!("two formats would be written to {}", file.display())),
        None => Ok(outputs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the arguments ask for, such as `json>a.json`.
    fn parsed(line: &str) -> Result<String, String> {
        let command = ReportOutputs::augment_args(Command::new("scan"));
        let matches = command.try_get_matches_from(["scan"].into_iter().chain(line.split_whitespace())).unwrap();
        let outputs = ReportOutputs::from_arg_matches(&matches).map_err(|error| error.to_string())?;
        let one = |output: &ReportOutput| {
            let file = output.file.as_ref().map(|file| format!(">{}", file.display())).unwrap_or_default();
            output.format.clone() + &file
        };
        Ok(outputs.0.iter().map(one).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn each_output_is_the_file_of_the_format_before_it() {
        for (line, expected) in [
            ("", "text"),
            ("-o a", "text>a"),
            ("--format json", "json"),
            ("--format json -o a", "json>a"),
            ("-o a --format json", "json>a"),
            ("--format json -o a --format sarif -o b", "json>a sarif>b"),
            ("--format text --format json -o a", "text json>a"),
            ("--format json -o a --format text", "json>a text"),
            ("--format json --output a --format json -o b", "json>a json>b"),
        ] {
            assert_eq!(parsed(line).as_deref(), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_does_not_pair_is_an_error() {
        for (line, expected) in [
            ("--format json --format sarif", "both json and sarif would go to standard output"),
            ("--format json -o a -o b", "--output b has no --format of its own before it"),
            ("-o a -o b --format json", "--output b has no --format of its own before it"),
            ("-o a --format json --format text", "--output a has no --format before it"),
            ("--format json -o a --format sarif -o a", "two formats would be written to a"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
