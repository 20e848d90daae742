//! `layersift layers`.

use std::process::ExitCode;

use clap::Args;

use super::args::{QuietArgs, RegistryArgs, TargetArgs, ThreadsArgs, TimeoutArgs};
use super::build::BuildArgs;
use super::formats::{OutputArgs, TextOrJson};
use super::read::Reading;
use super::{context, output, terminal};
use layersift_model::{FingerprintKey, Verdict};
use layersift_report::layers as table;
use layersift_rules::Ruleset;

const TIMEOUT: &str = "Stop after this time, such as 90s or 30m; the exit status is then 3 [default: no limit]";

#[derive(Debug, Args)]
#[command(mut_arg("timeout", |arg| arg.help(TIMEOUT)))]
pub(crate) struct LayersArgs {
    #[command(flatten)]
    target: TargetArgs,

    #[command(flatten)]
    output: OutputArgs<TextOrJson>,

    #[command(flatten)]
    build: BuildArgs,

    #[command(flatten)]
    timeout: TimeoutArgs,

    #[command(flatten)]
    threads: ThreadsArgs,

    #[command(flatten)]
    quiet: QuietArgs,

    #[command(flatten)]
    registry: RegistryArgs,
}

/// Writes a table of the layers. Exit status 3 where something could not be read.
pub(crate) fn run(args: &LayersArgs) -> anyhow::Result<ExitCode> {
    args.timeout.begin();
    let analyzer = context::analyzer(Ruleset::built_in()?, FingerprintKey::default(), args.threads.threads)?;
    let LayersArgs { target, build, registry, quiet, .. } = args;
    let (build, timeout) = (Some(build), args.timeout.timeout);
    let reading = Reading { target, build, with_referrers: false, registry, quiet, store: None, timeout };
    let reports = reading.scan(analyzer)?;
    let file = args.output.output.as_deref();
    output::stream(file, |out| match args.output.format {
        TextOrJson::Text => table::text(&reports, terminal::width(file), out),
        TextOrJson::Json => table::json(&reports, out),
    })?;
    let is_complete = reports.iter().all(|report| report.gaps.is_empty());
    Ok(ExitCode::from(if is_complete { Verdict::Pass } else { Verdict::Incomplete }.exit_code()))
}
