//! `layersift scrub`.

mod list;
mod output;
mod reading;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{bail, ensure};
use clap::Args;

use super::args::{FingerprintKeyArgs, QuietArgs, RegistryArgs, RulesArgs, TargetArgs, ThreadsArgs, TimeoutArgs};
use super::attest::keys::{PasswordArgs, signer};
use super::formats::{TextOrJson, parser};
use super::{context, output as print, signals};
use layersift_format::platform::Choice;
use layersift_model::{Finding, ImageReport, Verdict};
use layersift_scan::Analyzer;
use layersift_scrub::{Changes, Request, ScrubError, Scrubbed, Staging, scrub};
use output::Output;
use reading::Source;

const PLATFORM: &str = "Platform to keep of a multi-architecture image: OS/ARCH[/VARIANT], or all [default: all]";

const TIMEOUT: &str = "Stop after this time, such as 90s or 30m; nothing is then written [default: no limit]";

#[derive(Debug, Args)]
#[command(mut_arg("platform", |arg| arg.help(PLATFORM)))]
#[command(mut_arg("timeout", |arg| arg.help(TIMEOUT)))]
pub(crate) struct ScrubArgs {
    #[command(flatten)]
    target: TargetArgs,

    /// Finding whose secret has to go, in every place of the image; or whose file has to, if it is not a secret. May be
    /// repeated
    #[arg(long, value_name = "ID", required_unless_present = "path")]
    finding: Vec<String>,

    /// File to remove from every layer that has it; may be repeated
    #[arg(long, value_name = "PATH")]
    path: Vec<String>,

    /// Where the new image goes: oci:DIRECTORY[:NAME], oci-archive:FILE[:NAME], docker-archive:FILE[:NAME] or
    /// docker://REPOSITORY:TAG with a tag that is new
    #[arg(short, long, value_name = "TARGET")]
    output: String,

    /// Write a list of what changed to this file, as JSON
    #[arg(long, value_name = "FILE")]
    changes: Option<PathBuf>,

    /// Format of the list on standard output
    #[arg(long, value_name = "FORMAT", value_parser = parser::<TextOrJson>(), default_value = "text")]
    format: TextOrJson,

    /// Private key that signs the list: a PEM file, such as of `layersift generate-key`, or a PKCS#11 URI
    ///
    /// The signature goes beside the list, to a file with `.sig` after its name.
    #[arg(long, value_name = "FILE|URI", requires = "changes")]
    key: Option<String>,

    #[command(flatten)]
    password: PasswordArgs,

    #[command(flatten)]
    rules: RulesArgs,

    #[command(flatten)]
    fingerprint_key: FingerprintKeyArgs,

    #[command(flatten)]
    timeout: TimeoutArgs,

    #[command(flatten)]
    threads: ThreadsArgs,

    #[command(flatten)]
    quiet: QuietArgs,

    #[command(flatten)]
    registry: RegistryArgs,
}

/// Writes the new image. It is scanned before anything is written to its place.
pub(crate) fn run(args: &ScrubArgs) -> anyhow::Result<ExitCode> {
    // Mistakes are reported before the scan, which may take a while.
    ensure!(!args.target.all, "scrub writes one image: name it instead of passing --all");
    let deadline = args.timeout.begin();
    let source = Source::open(args.target.parse()?, &args.registry, &deadline.cancellation())?;
    let output = Output::parse(&args.output, &source, &args.registry)?;
    let key = args.key.as_ref().map(|key| signer(key, &args.password)).transpose()?;
    for path in args.changes.iter().flat_map(|path| [path.clone(), list::signature_path(path)]) {
        ensure!(!path.exists(), "{} exists already, and nothing is written over", path.display());
    }
    let analyzer = analyzer(args)?;
    let platform = args.target.platform.clone().unwrap_or(Choice::All);
    let reports = reading::scan(args, &source.target.text, platform.clone(), &analyzer, &deadline.cancellation())?;
    ensure!(deadline.left() != Some(Duration::ZERO), "the image could not be read in the time of --timeout");
    let paths: Vec<Vec<u8>> = args.path.iter().map(|path| path.as_bytes().to_vec()).collect();
    let request = Request::new(&reports, &args.finding, &paths)?.on_threads(args.threads.threads);
    let only = match (&platform, &reports[..]) {
        (Choice::All, _) => None,
        (_, [report]) => report.manifest_digest.as_ref(),
        (_, reports) => bail!("{} images are for this platform; name it with its variant", reports.len()),
    };
    // Until here a signal ends the process, and nothing was written.
    let cancellation = deadline.or(&signals::cancellation()?);
    let staging = Staging::create(&output.directory())?.cancelled_by(&cancellation);
    let mut scrubbed = match scrub(&*source.source, &source.target.text, &request, only, &staging) {
        Err(ScrubError::Remains { places, paths }) => return Ok(remains(&places, !paths.is_empty())),
        scrubbed => scrubbed?,
    };
    let result = reading::scan_staged(args, &staging, &analyzer, &cancellation)?;
    staging.check()?;
    // The process ends soon; freeing the compiled rules would only take time.
    std::mem::forget(analyzer);
    let wanted = wanted(&request, &reports, &scrubbed.changes);
    let left = left(&request, &wanted, &result);
    if !left.is_empty() {
        let places: Vec<String> = left.iter().map(|(place, _)| place.clone()).collect();
        return Ok(remains(&places, left.iter().any(|(_, is_file)| *is_file)));
    }
    scrubbed.changes.tool = env!("CARGO_PKG_VERSION").into();
    scrubbed.changes.output = output.to_string();
    // Without the list nobody can ask whether the old image is gone, so it is there before the new one.
    if let Some(path) = &args.changes {
        list::write(&scrubbed.changes, path, key.as_deref())?;
    }
    output.write(&staging, &scrubbed, &cancellation).inspect_err(|_| list::remove(args.changes.as_deref()))?;
    finish(args, &scrubbed.changes)?;
    let is_incomplete = warn_of_gaps(&result) | warn_of_short_values(&scrubbed);
    Ok(ExitCode::from(if is_incomplete { Verdict::Incomplete.exit_code() } else { 0 }))
}

/// Says where the secret still is. A file can be removed; for any other place there is no flag.
fn remains(places: &[String], has_files: bool) -> ExitCode {
    print::warn(places.iter().map(|place| format!("still there: {place}")));
    let advice = match has_files {
        true => "remove the files among these places with --path as well, or build the image again",
        false => "build the image again",
    };
    print::warn([format!("the secret is still in the image, so nothing was written; {advice}")]);
    ExitCode::from(Verdict::Fail.exit_code())
}

fn analyzer(args: &ScrubArgs) -> anyhow::Result<Analyzer> {
    let ruleset = context::ruleset(&args.rules.rules)?;
    let key = context::fingerprint_key(&args.fingerprint_key)?;
    context::analyzer(ruleset, key, args.threads.threads)
}

/// Prints what was changed, and says what is left to do.
fn finish(args: &ScrubArgs, changes: &Changes) -> anyhow::Result<()> {
    match args.format {
        TextOrJson::Text => print::write(list::text(changes).as_bytes(), None)?,
        TextOrJson::Json => print::write(&list::json(changes)?, None)?,
    }
    print::warn([
        "rotate the secret all the same: whoever pulled the old image has it",
        "the old image and its layers can be pulled until a registry has collected them: \
         delete it there, and ask with `layersift verify-gone`",
    ]);
    Ok(())
}

/// The fingerprints that must not be found again: those of the secrets, and those of what was in removed files.
fn wanted(request: &Request, reports: &[ImageReport], changes: &Changes) -> BTreeSet<String> {
    let removed: BTreeSet<&str> = changes.removed_paths().collect();
    let in_removed = |finding: &&Finding| finding.file().is_some_and(|file| removed.contains(&file.path[..]));
    let of_files = reports.iter().flat_map(|report| &report.findings).filter(in_removed);
    let of_files = of_files.filter_map(|finding| finding.fingerprint().map(String::from));
    request.secrets().iter().map(|secret| secret.fingerprint.clone()).chain(of_files).collect()
}

/// Where a secret that had to go is still found, and whether that is a file.
fn left(request: &Request, wanted: &BTreeSet<String>, reports: &[ImageReport]) -> Vec<(String, bool)> {
    let is_left = |finding: &&Finding| {
        request.is_wanted(finding) || finding.fingerprint().is_some_and(|fingerprint| wanted.contains(fingerprint))
    };
    let findings = reports.iter().flat_map(|report| report.findings.iter().filter(is_left));
    let place = |finding: &Finding| {
        let place = match (finding.file(), finding.document(), &finding.location) {
            (Some(file), ..) => format!("{} in layer {}", file.full_path(" → "), file.layer.index),
            (_, Some(document), _) => {
                let path = document.document.json_path.as_deref().unwrap_or_default();
                format!("{} {path}", document.document.kind)
            }
            (_, _, layersift_model::Location::Config(field)) => format!("configuration {field}"),
            _ => "the image".into(),
        };
        // A finding without an entry is in bytes that belong to no file.
        let is_file = finding.file().is_some_and(|file| file.attributes.is_some());
        (format!("{place} ({})", finding.rule.id), is_file)
    };
    let mut places: Vec<(String, bool)> = findings.map(place).collect();
    places.dedup();
    places
}

/// Warns of values that are too short to be told from other words, and says whether one may be there still.
fn warn_of_short_values(scrubbed: &Scrubbed) -> bool {
    print::warn(scrubbed.short.iter().map(|place| {
        format!("a value of fewer than 16 characters, or the same word, is there and was not blanked: {place}")
    }));
    if scrubbed.unsearched > 0 {
        print::warn([format!(
            "{} not looked for in the new image, apart from what the rules find",
            match scrubbed.unsearched {
                1 => "1 value is too short, or one of too many, and was".to_string(),
                count => format!("{count} values are too short, or too many, and were"),
            }
        )]);
    }
    !scrubbed.short.is_empty()
}

/// Warns of what could not be read of the new image, and says whether there was anything.
fn warn_of_gaps(reports: &[ImageReport]) -> bool {
    let gaps: usize = reports.iter().map(|report| report.gaps.len()).sum();
    if gaps > 0 {
        print::warn([format!(
            "{gaps} parts of the image could not be read, and may hold the secret: `layersift scan` names them"
        )]);
    }
    gaps > 0
}
