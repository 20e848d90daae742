//! `layersift sbom`.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::args::{QuietArgs, RegistryArgs, TargetArgs, ThreadsArgs, TimeoutArgs};
use super::formats::{Format, OutputArgs};
use super::progress::ScanProgress;
use super::{context, output, terminal};
use layersift_format::Cancellation;
use layersift_format::platform::Choice;
use layersift_model::{Inventory, Limits, Verdict};
use layersift_report::sbom as document;
use layersift_scan::InventoryScan;
use layersift_source::{Target, open};

const TIMEOUT: &str = "Stop after this time, such as 90s or 30m; packages may then be missing [default: no limit]";

#[derive(Debug, Args)]
#[command(mut_arg("timeout", |arg| arg.help(TIMEOUT)))]
pub(crate) struct SbomArgs {
    #[command(flatten)]
    target: TargetArgs,

    #[command(flatten)]
    output: OutputArgs<SbomFormat>,

    /// List only packages that a container of the image has, or only those that are hidden in its layers
    #[arg(long, value_name = "WHICH")]
    only: Option<Only>,

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
}

impl Format for SbomFormat {
    fn all() -> Vec<Self> {
        vec![SbomFormat::Text, SbomFormat::CycloneDx]
    }

    fn name(self) -> &'static str {
        match self {
            SbomFormat::Text => "text",
            SbomFormat::CycloneDx => "cyclonedx",
        }
    }

    fn about(self) -> &'static str {
        match self {
            SbomFormat::Text => "a table for a person",
            SbomFormat::CycloneDx => "CycloneDX 1.6 in JSON, for a program",
        }
    }
}

/// Which packages are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Only {
    Visible,
    Hidden,
}

/// Writes the packages of the target. Exit status 3 where something could not be read.
pub(crate) fn run(args: &SbomArgs) -> anyhow::Result<ExitCode> {
    let mut inventories = read(args)?;
    for inventory in &mut inventories {
        if let Some(only) = args.only {
            inventory.packages.retain(|package| package.is_visible() == (only == Only::Visible));
        }
        if args.reproducible {
            inventory.version.clear();
            inventory.read_at = None;
        }
    }
    let file = args.output.output.as_deref();
    let mut bytes = Vec::new();
    match args.output.format {
        SbomFormat::Text => document::text(&inventories, terminal::width(file), &mut bytes)?,
        SbomFormat::CycloneDx => document::cyclonedx(one(&inventories)?, &mut bytes)?,
    }
    output::write(&bytes, file)?;
    let is_complete = inventories.iter().all(|inventory| inventory.gaps.is_empty());
    Ok(ExitCode::from(if is_complete { Verdict::Pass } else { Verdict::Incomplete }.exit_code()))
}

fn read(args: &SbomArgs) -> anyhow::Result<Vec<Inventory>> {
    let target = Target::parse(&args.target.target)?;
    let progress = ScanProgress::start(args.quiet.quiet);
    let cancellation = args.timeout.timeout.map_or_else(Cancellation::never, Cancellation::with_deadline);
    let opened = open(&target, &Limits::default(), &context::registry_options(&args.registry, &cancellation)?)?;
    let inventories = InventoryScan::new(args.threads.threads)?
        .platform(args.target.platform.clone().unwrap_or(Choice::Default))
        .observer(&progress)
        .cancellation(cancellation)
        .run(&target.text, opened);
    progress.finish();
    Ok(inventories?)
}

/// The only inventory: a CycloneDX document is about one image.
fn one(inventories: &[Inventory]) -> anyhow::Result<&Inventory> {
    match inventories {
        [one] => Ok(one),
        several => anyhow::bail!(
            "the target has {} images, and a CycloneDX document is about one: name one of them, or choose it with \
             --platform",
            several.len()
        ),
    }
}
