//! `layersift scan`.

use std::process::ExitCode;

use clap::Args;

use super::args::{
    FingerprintKeyArgs, PolicyArgs, QuietArgs, RegistryArgs, ReportArgs, RulesArgs, StoreArgs, TargetArgs, ThreadsArgs,
    TimeoutArgs,
};
use super::build::BuildArgs;
use super::context;
use super::read::Reading;
use super::report;

const STORE: &str = "Reuse layer results from this store and save new ones to it: a SQLite file, or postgres://…";

const TIMEOUT: &str =
    "Stop the scan after this time, such as 90s or 30m; the report then has a gap [default: no limit]";

#[derive(Debug, Args)]
#[command(mut_arg("store", |arg| arg.help(STORE)))]
#[command(mut_arg("timeout", |arg| arg.help(TIMEOUT)))]
pub(crate) struct ScanArgs {
    #[command(flatten)]
    target: TargetArgs,

    #[command(flatten)]
    build: BuildArgs,

    /// Do not read what refers to the image, such as signatures, attestations and SBOMs
    ///
    /// By default they are read from the registry, or the OCI layout if the target names an image of it: anyone who can
    /// pull the image can pull them.
    #[arg(long)]
    no_referrers: bool,

    #[command(flatten)]
    report: ReportArgs,

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

/// Scans and writes the report. The exit status is the worst verdict.
pub(crate) fn run(args: &ScanArgs) -> anyhow::Result<ExitCode> {
    report::check(&args.report)?;
    args.timeout.begin();
    let store = args.store.name();
    anyhow::ensure!(
        store.is_none() || !args.report.show_secrets,
        "--show-secrets cannot be used with a store, which has no values of secrets: \
         leave out --store and unset LAYERSIFT_STORE"
    );
    let ruleset = context::ruleset(&args.rules.rules)?;
    let key = context::fingerprint_key(&args.fingerprint_key)?;
    // A mistake in a policy is reported before the scan, which may take a while.
    let policy = context::policy(&args.policy)?;
    let analyzer = context::analyzer(ruleset, key, args.threads.threads)?;
    let reading = Reading {
        target: &args.target,
        build: Some(&args.build),
        with_referrers: !args.no_referrers,
        registry: &args.registry,
        quiet: &args.quiet,
        store,
        timeout: args.timeout.timeout,
    };
    report::judge_and_write(reading.scan(analyzer)?, &policy, &args.report)
}
