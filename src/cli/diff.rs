//! `layersift diff`.

mod after;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::Args;

use super::args::{
    FingerprintKeyArgs, PolicyArgs, QuietArgs, RegistryArgs, RulesArgs, StoreArgs, TargetArgs, ThreadsArgs, TimeoutArgs,
};
use super::deadline::Deadline;
use super::formats::{Format, OutputArgs};
use super::read::{Reading, refuse_pipe};
use super::saved::SavedReports;
use super::{context, output, terminal};
use layersift_format::platform::Choice;
use layersift_model::{ImageReport, Inventory, Limits, Severity, Verdict};
use layersift_report::compare::{self, Comparison};
use layersift_scan::Analyzer;

const STORE: &str = "With --no-packages, reuse layer results from this store and save new ones to it: a SQLite file or \
                     postgres://…";

const TIMEOUT: &str =
    "Stop the scans after this time, such as 90s or 30m; what was not read is then a gap [default: no limit]";

#[derive(Debug, Args)]
#[command(mut_arg("store", |arg| arg.help(STORE)))]
#[command(mut_arg("timeout", |arg| arg.help(TIMEOUT)))]
pub(crate) struct DiffArgs {
    /// Image before: a target as of `layersift scan`, or a JSON report
    before: OsString,

    /// Image after, likewise
    after: OsString,

    /// Platform of multi-architecture images: OS/ARCH[/VARIANT], or all [default: Linux on this machine's architecture]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Choice>,

    #[command(flatten)]
    output: OutputArgs<DiffFormat>,

    /// Lowest severity to list in text; secrets that are new or still there are always listed
    #[arg(long, value_name = "SEVERITY", default_value_t = Severity::Medium)]
    show: Severity,

    /// Also fail on what is still there, not only on what came
    #[arg(long)]
    require_gone: bool,

    /// Do not compare packages
    #[arg(long)]
    no_packages: bool,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    rules: RulesArgs,

    #[command(flatten)]
    fingerprint_key: FingerprintKeyArgs,

    #[command(flatten)]
    store: StoreArgs,

    #[command(flatten)]
    timeout: TimeoutArgs,

    #[command(flatten)]
    threads: ThreadsArgs,

    #[command(flatten)]
    quiet: QuietArgs,

    #[command(flatten)]
    registry: RegistryArgs,
}

/// The formats of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DiffFormat {
    Text,
    Json,
    Markdown,
}

impl Format for DiffFormat {
    fn all() -> Vec<Self> {
        vec![DiffFormat::Text, DiffFormat::Json, DiffFormat::Markdown]
    }

    fn name(self) -> &'static str {
        match self {
            DiffFormat::Text => "text",
            DiffFormat::Json => "json",
            DiffFormat::Markdown => "markdown",
        }
    }

    fn about(self) -> &'static str {
        match self {
            DiffFormat::Text => "for a person",
            DiffFormat::Json => "for a program; docs/diff.md describes it",
            DiffFormat::Markdown => "a comment on a pull request",
        }
    }
}

/// The images of one side, each with its packages where they were read.
type Side = Vec<(ImageReport, Option<Inventory>)>;

/// Compares two images, and writes what changed. The exit status is the worst verdict.
pub(crate) fn run(args: &DiffArgs) -> anyhow::Result<ExitCode> {
    let deadline = args.timeout.begin();
    ensure!(args.before != "-" || args.after != "-", "- stands for standard input and can be given once");
    let policy = context::policy(&args.policy)?;
    let mut saved = SavedReports::new();
    let reports = [kept(&args.before, &mut saved)?, kept(&args.after, &mut saved)?];
    let analyzer = match reports.iter().any(Option::is_none) {
        true => {
            let key = context::fingerprint_key(&args.fingerprint_key)?;
            let (ruleset, limits) = (context::ruleset(&args.rules.rules)?, Limits::default().of_one_of_two());
            Some(context::analyzer_within(ruleset, key, args.threads.threads, limits)?)
        }
        false => None,
    };
    // It is read twice, and a tag may move meanwhile.
    let after = after::target(args, reports[1].is_some(), deadline)?;
    // Packages of one side alone cannot be compared.
    let with_packages = !args.no_packages && reports.iter().all(Option::is_none);
    let mut sides: Vec<Side> = Vec::new();
    for (target, kept) in [&args.before, &after.name].into_iter().zip(reports) {
        sides.push(match (kept, &analyzer) {
            (Some(reports), _) => reports.into_iter().map(|report| (report, None)).collect(),
            (None, Some(analyzer)) => scan(args, target, analyzer, with_packages, deadline)?,
            (None, None) => bail!("{}: nothing was read", target.display()),
        });
    }
    sides.iter_mut().skip(1).flatten().for_each(|(report, _)| after.rename(report));
    // The process ends soon; freeing the compiled rules would only take time.
    std::mem::forget(analyzer);
    sides.iter_mut().flatten().for_each(|(report, _)| policy.judge(report));
    let [old, new] = &sides[..] else { bail!("a comparison has two sides") };
    let comparisons = compare(old, new, args.require_gone)?;
    let comparisons = after::search(args, comparisons, &after, deadline)?;
    write(&comparisons, args)?;
    let verdict = comparisons.iter().map(Comparison::verdict).max().unwrap_or(Verdict::Incomplete);
    Ok(ExitCode::from(verdict.exit_code()))
}

/// Compares images for the same platform. Two single images are compared in any case.
fn compare<'s>(before: &'s Side, after: &'s Side, requires_gone: bool) -> anyhow::Result<Vec<Comparison<'s>>> {
    let platforms = |side: &'s Side| -> Vec<&str> {
        side.iter().map(|(report, _)| report.platform.as_deref().unwrap_or("unknown")).collect()
    };
    let mut comparisons = Vec::new();
    for (old, old_packages) in before {
        let of_platform = |(report, _): &&(ImageReport, Option<Inventory>)| report.platform == old.platform;
        let mut candidates = after.iter().filter(of_platform);
        let found = match (&before[..], &after[..]) {
            ([_], [only]) => Some(only),
            _ => candidates.next().filter(|_| candidates.next().is_none()),
        };
        let Some((new, new_packages)) = found.filter(|_| before.len() == after.len()) else {
            bail!(
                "the images cannot be paired: before are {}, after {}; choose one with --platform",
                platforms(before).join(", "),
                platforms(after).join(", ")
            );
        };
        let comparison = Comparison::new(old, new)?.requiring_gone(requires_gone);
        comparisons.push(match (old_packages, new_packages) {
            (Some(old), Some(new)) => comparison.with_packages(old, new),
            _ => comparison,
        });
    }
    Ok(comparisons)
}

fn write(comparisons: &[Comparison<'_>], args: &DiffArgs) -> anyhow::Result<()> {
    let file = args.output.output.as_deref();
    output::stream(file, |out| match args.output.format {
        DiffFormat::Text => compare::text(comparisons, args.show, terminal::width(file), out),
        DiffFormat::Json => compare::json(comparisons, out),
        DiffFormat::Markdown => compare::markdown(comparisons, out),
    })
}

/// The reports in a file; `None` for a target. No image begins with a brace.
fn kept(input: &OsStr, saved: &mut SavedReports) -> anyhow::Result<Option<Vec<ImageReport>>> {
    let path = Path::new(input);
    refuse_pipe(input)?;
    if !path.is_file() {
        return Ok(None);
    }
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(1).read_to_end(&mut start));
    read.with_context(|| format!("cannot read {}", path.display()))?;
    if start == b"{" { saved.file(path).map(Some) } else { Ok(None) }
}

fn scan(
    args: &DiffArgs,
    name: &OsStr,
    analyzer: &Analyzer,
    with_packages: bool,
    deadline: Deadline,
) -> anyhow::Result<Side> {
    let target = target(args, name);
    let reading = reading(args, &target, args.store.name(), deadline);
    Ok(match with_packages {
        true => reading.scan_with_packages(analyzer)?.into_iter().map(|(report, all)| (report, Some(all))).collect(),
        false => reading.scan_by(analyzer)?.into_iter().map(|report| (report, None)).collect(),
    })
}

fn target(args: &DiffArgs, name: &OsStr) -> TargetArgs {
    TargetArgs { target: name.into(), all: false, platform: args.platform.clone() }
}

fn reading<'a>(
    args: &'a DiffArgs,
    target: &'a TargetArgs,
    store: Option<&'a OsStr>,
    deadline: Deadline,
) -> Reading<'a> {
    Reading {
        target,
        build: None,
        with_referrers: true,
        registry: &args.registry,
        quiet: &args.quiet,
        store,
        timeout: deadline.left(),
    }
}
