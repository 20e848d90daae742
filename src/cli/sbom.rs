//! `layersift sbom`.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::args::{FingerprintKeyArgs, QuietArgs, RegistryArgs, RulesArgs, TargetArgs, ThreadsArgs, TimeoutArgs};
use super::formats::{Format, OutputArgs};
use super::progress::ScanProgress;
use super::read::Reading;
use super::{context, output, terminal};
use layersift_format::Cancellation;
use layersift_format::platform::Choice;
use layersift_model::{ImageReport, Inventory, Limits, State, Verdict};
use layersift_report::SpecVersion;
use layersift_report::sbom::{self as document, Materials};
use layersift_scan::{Analyzer, InventoryScan, NameWork};
use layersift_source::open;

const TIMEOUT: &str = "Stop after this time, such as 90s or 30m; packages may then be missing [default: no limit]";

#[derive(Debug, Args)]
#[command(mut_arg("timeout", |arg| arg.help(TIMEOUT)))]
pub(crate) struct SbomArgs {
    #[command(flatten)]
    target: TargetArgs,

    #[command(flatten)]
    output: OutputArgs<SbomFormat>,

    /// List only what a container of the image has, or only what is hidden in its layers
    #[arg(long, value_name = "WHICH")]
    only: Option<Only>,

    /// Do not search for secrets and keys, which is faster; SPDX never has them
    #[arg(long)]
    no_secrets: bool,

    #[command(flatten)]
    rules: RulesArgs,

    #[command(flatten)]
    fingerprint_key: FingerprintKeyArgs,

    /// Leave the version and the time out of the document, so that two runs on one image give the same bytes
    #[arg(long)]
    reproducible: bool,

    #[command(flatten)]
    timeout: TimeoutArgs,

    #[command(flatten)]
    threads: ThreadsArgs,

    #[command(flatten)]
    quiet: QuietArgs,

    #[command(flatten)]
    registry: RegistryArgs,
}

/// The formats of a bill of materials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SbomFormat {
    Text,
    CycloneDx,
    CycloneDx17,
    Spdx,
}

impl Format for SbomFormat {
    fn all() -> Vec<Self> {
        vec![SbomFormat::Text, SbomFormat::CycloneDx, SbomFormat::CycloneDx17, SbomFormat::Spdx]
    }

    fn name(self) -> &'static str {
        match self {
            SbomFormat::Text => "text",
            SbomFormat::CycloneDx => "cyclonedx",
            SbomFormat::CycloneDx17 => "cyclonedx-1.7",
            SbomFormat::Spdx => "spdx",
        }
    }

    fn about(self) -> &'static str {
        match self {
            SbomFormat::Text => "a table for a person",
            SbomFormat::CycloneDx => "CycloneDX 1.6 in JSON, for a program",
            SbomFormat::CycloneDx17 => "CycloneDX 1.7",
            SbomFormat::Spdx => "SPDX 2.3 in JSON: packages that a container has, without secrets",
        }
    }
}

/// Which packages are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Only {
    Visible,
    Hidden,
}

/// What was read of an image: its packages, and its secrets if they were searched for.
type ReadImage = (Inventory, Option<ImageReport>);

/// Writes what the target is made of. Exit status 3 where something could not be read.
pub(crate) fn run(args: &SbomArgs) -> anyhow::Result<ExitCode> {
    args.timeout.begin();
    let mut images = read(args)?;
    for (inventory, report) in &mut images {
        if let Some(only) = args.only {
            keep(only, inventory, report.as_mut());
        }
        if args.reproducible {
            inventory.version.clear();
            inventory.read_at = None;
            report.iter_mut().for_each(ImageReport::make_reproducible);
        }
    }
    let file = args.output.output.as_deref();
    let all: Vec<Materials<'_>> =
        images.iter().map(|(inventory, report)| Materials { inventory, secrets: report.as_ref() }).collect();
    if args.output.format == SbomFormat::Text {
        output::stream(file, |out| document::text(&all, terminal::width(file), out))?;
    } else {
        let image = one(&all)?;
        output::stream(file, |out| match args.output.format {
            SbomFormat::CycloneDx17 => document::cyclonedx(image, SpecVersion::V1_7, out),
            SbomFormat::Spdx => document::spdx(image.inventory, out),
            SbomFormat::CycloneDx | SbomFormat::Text => document::cyclonedx(image, SpecVersion::V1_6, out),
        })?;
    }
    let is_complete = images.iter().all(|(inventory, _)| inventory.gaps.is_empty());
    Ok(ExitCode::from(if is_complete { Verdict::Pass } else { Verdict::Incomplete }.exit_code()))
}

/// Keeps what a container has, or what is hidden.
fn keep(only: Only, inventory: &mut Inventory, report: Option<&mut ImageReport>) {
    let is_wanted = |is_visible: bool| is_visible == (only == Only::Visible);
    inventory.packages.retain(|package| is_wanted(package.is_visible()));
    inventory.ai.retain(|mark| is_wanted(mark.is_visible()));
    if let Some(report) = report {
        report.findings.retain(|finding| is_wanted(finding.state() == State::Present));
    }
}

fn read(args: &SbomArgs) -> anyhow::Result<Vec<ReadImage>> {
    if args.no_secrets || args.output.format == SbomFormat::Spdx {
        return Ok(read_packages(args)?.into_iter().map(|inventory| (inventory, None)).collect());
    }
    let analyzer = analyzer(args)?;
    let reading = Reading {
        target: &args.target,
        build: None,
        with_referrers: true,
        registry: &args.registry,
        quiet: &args.quiet,
        store: None,
        timeout: args.timeout.timeout,
    };
    let read = reading.scan_with_packages(&analyzer);
    // The process ends soon; freeing the compiled rules would only take time.
    std::mem::forget(analyzer);
    Ok(read?.into_iter().map(|(report, inventory)| (inventory, Some(report))).collect())
}

fn analyzer(args: &SbomArgs) -> anyhow::Result<Analyzer> {
    let ruleset = context::ruleset(&args.rules.rules)?;
    context::analyzer(ruleset, context::fingerprint_key(&args.fingerprint_key)?, args.threads.threads)
}

/// Reads the packages alone; rules see only what is printed of them.
fn read_packages(args: &SbomArgs) -> anyhow::Result<Vec<Inventory>> {
    context::load_ahead();
    let target = args.target.parse()?;
    let progress = ScanProgress::start(args.quiet.quiet);
    let cancellation = args.timeout.timeout.map_or_else(Cancellation::never, Cancellation::with_deadline);
    let opened = open(&target, &Limits::default(), &context::registry_options(&args.registry, &cancellation)?)?;
    let inventories = InventoryScan::new(args.threads.threads)?
        .platform(args.target.platform.clone().unwrap_or(Choice::Default))
        .observer(&progress)
        .cancellation(cancellation.clone())
        .run(&target.text, opened);
    progress.finish();
    let mut inventories = inventories?;
    // A package may be called as a secret, which has to be recognised even if none is listed.
    let analyzer = analyzer(args)?;
    let mut work = NameWork::new(analyzer.limits(), &cancellation);
    inventories.iter_mut().for_each(|inventory| analyzer.mask_inventory(inventory, Vec::new(), &mut work));
    std::mem::forget(analyzer);
    Ok(inventories)
}

/// The only image: a document is about one.
fn one<'m>(all: &'m [Materials<'m>]) -> anyhow::Result<&'m Materials<'m>> {
    match all {
        [one] => Ok(one),
        several => anyhow::bail!(
            "the target has {} images, and a document is about one: name one of them, or choose it with --platform",
            several.len()
        ),
    }
}
