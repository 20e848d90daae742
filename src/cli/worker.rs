//! `layersift worker`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use tracing::level_filters::LevelFilter;

use super::args::ReadingArgs;
use super::context::{self, Ends, FleetContext};
use super::input_file;
use super::signals;
use layersift_fleet::{Claims, LayerCache, Progress, Registries, SweepLimits, Worker};
use layersift_server::ScanLogins;
use layersift_store::StoreOptions;

const PULLS: &str = "Number of layers to pull at a time";

const QUIET: &str = "Log only warnings";

#[derive(Debug, Args)]
#[command(mut_arg("pulls", |arg| arg.help(PULLS)))]
#[command(mut_arg("quiet", |arg| arg.help(QUIET)))]
pub(crate) struct WorkerArgs {
    #[command(flatten)]
    reading: ReadingArgs,

    /// File with the key that seals the logins of scans for Harbor, as the service has it
    ///
    /// Layers of such a scan are pulled with the login that Harbor has sent for it. Without the key they are pulled
    /// with the worker's own logins.
    #[arg(long, value_name = "FILE")]
    credentials_key: Option<PathBuf>,
}

impl WorkerArgs {
    /// A worker is watched by its log, as it writes nothing else.
    pub(crate) fn log_level(&self) -> LevelFilter {
        if self.reading.quiet.quiet { LevelFilter::WARN } else { LevelFilter::INFO }
    }
}

/// The registries, with the logins of scans where there is a key for them.
fn with_logins(args: &WorkerArgs, registries: Registries) -> anyhow::Result<Registries> {
    let Some(path) = &args.credentials_key else { return Ok(registries) };
    let key = input_file::read(path)?;
    let store = context::open_store(&args.reading.store, StoreOptions::default())?;
    let logins = ScanLogins::of_file(store, &key, context::now)?;
    Ok(registries.with_logins(Arc::new(logins)))
}

/// Reads layers that sweeps have queued, until a signal ends it.
pub(crate) fn run(args: &WorkerArgs) -> anyhow::Result<ExitCode> {
    let reading = &args.reading;
    anyhow::ensure!(reading.pulls > 0, "a worker with --pulls 0 has nothing to do: expected 1 or more");
    let context = FleetContext::new(reading, signals::cancellation()?)?;
    let token = context.cancellation.clone();
    let ends = Ends { cancellation: token.clone(), patience: token, byte_limit: None };
    let registries = with_logins(args, context.registries(None, &ends)?)?;
    let cache = LayerCache::new(&context.store, &context.analyzer, context::now);
    let progress = Progress::default();
    let worker = Worker {
        scanner: &context.analyzer,
        store: &context.store,
        cache: &cache,
        registries: &registries,
        clock: context::now,
        progress: &progress,
        lease: reading.lease,
        retry_delay: SweepLimits::default().retry_delay,
        layer_timeout: reading.timeout.timeout,
        cancellation: context.cancellation.clone(),
        claims: Claims::default(),
    };
    let key = context.analyzer.fingerprint_key().id();
    let store = context.store.name();
    tracing::info!(store, layer_key = %cache.key(), fingerprint_key = key, pulls = reading.pulls, "worker started");
    worker.run(reading.pulls, &context.cancellation)?;
    tracing::info!("worker ended");
    Ok(ExitCode::SUCCESS)
}
