//! `layersift audit`.

mod export;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::{context, masked, output};
use layersift_audit::{Entry, Problem, Verification, VerifierKey, VerifyOptions, fetch, last_entries, verify};
use layersift_report::{clean, plural};

/// The longest checkpoint or key that is read, in bytes.
const MOST_NOTE: u64 = 64 * 1024;

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Verify that the log is what was written
    #[command(after_help = super::help::AUDIT_STATUS)]
    Verify(VerifyArgs),
    /// Show the last entries, a line each, without verifying them
    Show(ShowArgs),
    /// Write the copies of logs that a store has into directories, to verify them
    Export(export::ExportArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DirectoryArgs {
    /// Directory of the log
    #[arg(default_value = "/var/lib/layersift/audit")]
    directory: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    log: DirectoryArgs,

    /// Checkpoint that was kept elsewhere: a file, - for standard input, an http: or https: URL, or s3://BUCKET/KEY;
    /// may be repeated
    ///
    /// Without one, it cannot be seen that the end of the log was cut off. A bucket is read as AWS_ACCESS_KEY_ID,
    /// AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION and AWS_ENDPOINT_URL say.
    #[arg(long, value_name = "FILE|URL")]
    checkpoint: Vec<String>,

    /// Public key of the log, as key.pub has it [default: the one in the directory]
    ///
    /// The one in the directory proves nothing against someone who could replace it.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,

    /// The directory has a copy that was shipped, which may end before the last checkpoint
    #[arg(long)]
    copy: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    log: DirectoryArgs,

    /// Maximum number of entries to show
    #[arg(long, value_name = "N", default_value = "20")]
    limit: usize,
}

pub(crate) fn run(command: &AuditCommand) -> anyhow::Result<ExitCode> {
    match command {
        AuditCommand::Verify(args) => run_verify(args),
        AuditCommand::Export(args) => export::run(args),
        AuditCommand::Show(args) => {
            let entries = last_entries(&args.log.directory, args.limit)?;
            let text: String = entries.iter().map(|(index, entry)| line(*index, entry)).collect();
            output::write(text.as_bytes(), None)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn run_verify(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let mut options = VerifyOptions { is_copy: args.copy, ..VerifyOptions::default() };
    if let Some(path) = &args.key {
        let text = String::from_utf8_lossy(&small(path)?).into_owned();
        options.key = Some(VerifierKey::parse(&text).with_context(|| format!("the key {}", path.display()))?);
    }
    for place in &args.checkpoint {
        options.anchors.push(anchor(place)?);
    }
    let found = verify(&args.log.directory, &options)?;
    output::write(said(&args.log.directory, &found).as_bytes(), None)?;
    Ok(ExitCode::from(u8::from(!found.is_good())))
}

/// A checkpoint from elsewhere, and what to call it.
fn anchor(place: &str) -> anyhow::Result<(String, Vec<u8>)> {
    if let Some(fetched) = fetch(place, &context::environment) {
        return fetched.context("cannot fetch a checkpoint");
    }
    let path = Path::new(place);
    let subject = if is_input(path) { "standard input".into() } else { place.to_string() };
    Ok((subject, small(path)?))
}

/// What was found, for a person.
fn said(directory: &Path, found: &Verification) -> String {
    let name = clean(&directory.display().to_string(), 200);
    let mut text = if found.is_good() {
        let checkpoints = plural(found.checkpoints, "checkpoint");
        format!("{name} is what was written: {}, {checkpoints} compared\n", entries(found.size - found.first))
    } else {
        format!("{name} is not what was written\n")
    };
    for problem in &found.problems {
        text.push_str(&format!("  changed: {}\n", clean(&problem.to_string(), 1000)));
    }
    for note in &found.notes {
        text.push_str(&format!("  note: {}\n", clean(&note.to_string(), 1000)));
    }
    text.push_str(&advice(found));
    text
}

fn entries(count: u64) -> String {
    if count == 1 { "1 entry".into() } else { format!("{count} entries") }
}

/// What to do about what was found.
fn advice(found: &Verification) -> String {
    let is_tail = |problem: &Problem| matches!(problem, Problem::Tail { .. });
    match found.first_bad() {
        None if found.is_good() => String::new(),
        None => {
            "The entries are as they were signed. Keep the directory as it is, and find out who changed the rest.\n"
                .into()
        }
        Some(_) if found.problems.iter().all(is_tail) => {
            "All entries under a checkpoint are as they were. If the service was killed, start it and verify again.\n"
                .into()
        }
        Some(first) => format!(
            "Entries before {first} can be relied on as far as checkpoints cover them. Keep the directory as it is, \
             compare it with a shipped copy, and begin a new log in another directory.\n"
        ),
    }
}

fn line(index: u64, entry: &Entry) -> String {
    let time = i64::try_from(entry.time).ok().and_then(|time| Timestamp::from_millisecond(time).ok());
    let time = time.map_or_else(|| "-".into(), |time| time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string());
    // An older version entered them as they were.
    let mut entry = entry.clone();
    entry.change_texts(masked::message);
    let what: Vec<String> = entry.what.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let verdict = &entry.verdict;
    let text =
        [entry.kind.name(), &verdict.outcome, &verdict.effect, &entry.who, &what.join(" "), &verdict.reasons.join(",")];
    let text: Vec<&str> = text.into_iter().filter(|text| !text.is_empty()).collect();
    format!("{index:>8}  {time}  {}\n", clean(&text.join(" "), 1000))
}

/// The contents of a small file, or of standard input.
fn small(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let reader: Box<dyn Read> = if is_input(path) {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(File::open(path).with_context(|| format!("cannot open {}", path.display()))?)
    };
    let read = reader.take(MOST_NOTE + 1).read_to_end(&mut bytes);
    read.with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(bytes.len() as u64 <= MOST_NOTE, "{} is longer than 64 KiB", path.display());
    Ok(bytes)
}

fn is_input(path: &Path) -> bool {
    path.as_os_str() == "-"
}
