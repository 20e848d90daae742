//! `layersift sweep`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use tracing::level_filters::LevelFilter;

use super::args::{PolicyArgs, ReadingArgs};
use super::context::{self, Ends, FleetContext, parse_host};
use super::formats::{OutputArgs, TextOrJson};
use super::progress::SweepProgress;
use super::{deadline, input_file, output, signals, sweep_files, terminal, values};
use layersift_fleet::{Expected, Progress, Registries, Sweep, SweepError, SweepLimits, announce};
use layersift_format::Cancellation;
use layersift_model::Digest;
use layersift_report::{Policy, sweep as table};
use layersift_source::catalog::{Catalog, Filter, Harbor, HarborOptions, ImageList, WholeRegistry};
use layersift_source::registry::ByteLimit;

/// How long requests may go on when the time of a sweep is up.
const GRACE: Duration = Duration::from_secs(1);

#[derive(Debug, Subcommand)]
pub(crate) enum SweepCommand {
    #[command(flatten)]
    Catalog(Box<CatalogArgs>),
    /// Scan every image archive in a folder, and write the reports of all
    Files(Box<sweep_files::FilesArgs>),
}

impl SweepCommand {
    /// What is logged where nothing sets a level.
    pub(crate) fn log_level(&self) -> LevelFilter {
        match self {
            SweepCommand::Catalog(catalog) => catalog.log_level(),
            SweepCommand::Files(_) => LevelFilter::WARN,
        }
    }
}

/// Runs a sweep.
pub(crate) fn run(command: &SweepCommand) -> anyhow::Result<ExitCode> {
    match command {
        SweepCommand::Catalog(catalog) => sweep(catalog),
        SweepCommand::Files(args) => sweep_files::run(args),
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum CatalogArgs {
    /// Scan the images of a Harbor, or of some of its projects
    Harbor {
        /// Host of the Harbor, such as harbor.example.org
        host: String,

        /// Scan only this project; may be repeated
        #[arg(long, value_name = "NAME")]
        project: Vec<String>,

        /// Ask Harbor to scan images that its policy blocks because they were not scanned, or their scan failed; that
        /// replaces the report that Harbor has of an image
        #[arg(long)]
        request_scans: bool,

        #[command(flatten)]
        sweep: SweepArgs,
    },
    /// Scan the images of a registry that lists its repositories
    Registry {
        /// Host of the registry, such as registry.example.org:5000
        host: String,

        #[command(flatten)]
        sweep: SweepArgs,
    },
    /// Scan the images that a file names
    List {
        /// File with one image reference per line; # begins a comment
        file: PathBuf,

        #[command(flatten)]
        sweep: SweepArgs,
    },
}

/// What a sweep covers, and how long it takes.
#[derive(Debug, Args)]
pub(crate) struct SweepArgs {
    #[command(flatten)]
    output: OutputArgs<TextOrJson>,

    #[command(flatten)]
    policy: PolicyArgs,

    /// Scan only repositories, or REPOSITORY:TAG, that match this glob; may be repeated
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,

    /// Skip repositories, or REPOSITORY:TAG, that match this glob; may be repeated
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,

    /// Scan only images pushed within this time, such as 36h or 7d, if the registry has push times
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pushed_within: Option<Duration>,

    /// End the sweep after this time, such as 6h; the next sweep continues [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    max_time: Option<Duration>,

    /// End the sweep after this many bytes were pulled, such as 500G; the next sweep continues [default: no limit]
    ///
    /// A layer that is being read then is read again by the next sweep, so the limit has to be larger than any layer.
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    max_bytes: Option<u64>,

    /// Call the sweep incomplete if projects, repositories or images are fewer by more than this part than those of the
    /// last sweep, such as 10%
    #[arg(long, value_name = "PERCENT", value_parser = values::percent)]
    max_shrink: Option<u64>,

    /// Call the sweep incomplete if fewer images are listed
    #[arg(long, value_name = "N")]
    expect_at_least: Option<u64>,

    /// Do not read what refers to new images, such as signatures, attestations and SBOMs
    #[arg(long)]
    no_referrers: bool,

    /// Read the documents of known images again: manifests, configurations, and what refers to the images, which may
    /// have been attached since; their layers are not read again
    #[arg(long)]
    reread_documents: bool,

    /// Repeat the sweep at this interval, from start to start
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    interval: Option<Duration>,

    #[command(flatten)]
    reading: ReadingArgs,
}

impl CatalogArgs {
    /// A repeated sweep is watched by its log.
    fn log_level(&self) -> LevelFilter {
        if self.sweep().interval.is_some() { LevelFilter::INFO } else { LevelFilter::WARN }
    }

    fn sweep(&self) -> &SweepArgs {
        match self {
            CatalogArgs::Harbor { sweep, .. }
            | CatalogArgs::Registry { sweep, .. }
            | CatalogArgs::List { sweep, .. } => sweep,
        }
    }

    /// What the sweep is called in the store. What is new is new since the last sweep of the same name.
    fn name(&self) -> anyhow::Result<String> {
        Ok(match self {
            CatalogArgs::Harbor { host, project, .. } => {
                format!("harbor {} {}", parse_host(host)?.host, project.join(" ")).trim_end().to_string()
            }
            CatalogArgs::Registry { host, .. } => format!("registry {}", parse_host(host)?.host),
            CatalogArgs::List { file, .. } => format!("list {}", file.display()),
        })
    }

    fn registries(&self, context: &FleetContext, ends: &Ends) -> anyhow::Result<Registries> {
        let trusted = match self {
            CatalogArgs::Harbor { host, .. } | CatalogArgs::Registry { host, .. } => Some(parse_host(host)?),
            CatalogArgs::List { .. } => None,
        };
        context.registries(trusted, ends)
    }

    fn open(&self, registries: &Registries) -> anyhow::Result<Box<dyn Catalog>> {
        Ok(match self {
            CatalogArgs::Harbor { host, project, .. } => {
                let options = HarborOptions { projects: project.clone(), ..HarborOptions::default() };
                Box::new(Harbor::new(registries.of(&parse_host(host)?.host)?, options))
            }
            CatalogArgs::Registry { host, .. } => Box::new(WholeRegistry::new(registries.of(&parse_host(host)?.host)?)),
            CatalogArgs::List { file, .. } => Box::new(input_file::load(file, ImageList::read)?),
        })
    }

    /// What the sweep covers, and how much it should find there.
    fn expected(&self) -> Expected {
        let SweepArgs { include, exclude, pushed_within, max_shrink, expect_at_least, .. } = self.sweep();
        let filter = [("include", include), ("exclude", exclude)];
        let filter = filter.iter().flat_map(|(name, globs)| globs.iter().map(move |glob| format!("{name} {glob}")));
        let within = pushed_within.map(|within| format!("pushed within {} s", within.as_secs()));
        let filter = filter.chain(within).collect::<Vec<_>>().join("\n");
        Expected {
            is_whole: filter.is_empty(),
            projects: match self {
                CatalogArgs::Harbor { project, .. } => project.clone(),
                CatalogArgs::Registry { .. } | CatalogArgs::List { .. } => Vec::new(),
            },
            // A text of any length has one of a few bytes.
            filter: if filter.is_empty() { filter } else { Digest::of(filter.as_bytes()).to_string() },
            max_shrink: *max_shrink,
            at_least: *expect_at_least,
        }
    }
}

/// Sweeps once, or at an interval.
fn sweep(catalog: &CatalogArgs) -> anyhow::Result<ExitCode> {
    let args = catalog.sweep();
    let is_list = matches!(catalog, CatalogArgs::List { .. });
    anyhow::ensure!(args.max_shrink.is_none() || !is_list, "--max-shrink compares what a registry lists, not a file");
    deadline::begin(args.max_time);
    let context = FleetContext::new(&args.reading, signals::cancellation()?)?;
    loop {
        deadline::begin(args.max_time);
        let started = Instant::now();
        // Read again each time: an exception may have been added, or have expired.
        let policy = context::policy(&args.policy)?;
        let swept = sweep_once(catalog, &context, &policy);
        let Some(interval) = args.interval else { return swept };
        let status = match swept {
            // It may be accepted the next time: a password is changed, a robot renewed.
            Err(error) if matches!(error.downcast_ref(), Some(SweepError::Login(_))) => {
                tracing::error!("{error:#}");
                ExitCode::from(2)
            }
            swept => swept?,
        };
        if context.cancellation.wait(interval.saturating_sub(started.elapsed())) {
            return Ok(status);
        }
    }
}

fn sweep_once(catalog: &CatalogArgs, context: &FleetContext, policy: &Policy) -> anyhow::Result<ExitCode> {
    let args = catalog.sweep();
    let name = catalog.name()?;
    let ends = ends(args, &context.cancellation);
    let registries = catalog.registries(context, &ends)?;
    let images = catalog.open(&registries)?;
    let since = args.pushed_within.map(|within| context::now() - i64::try_from(within.as_secs()).unwrap_or(i64::MAX));
    let filter = Filter::new(&args.include, &args.exclude)?.pushed_since(since);
    let limits = limits(catalog, ends);
    let progress = Arc::new(Progress::default());
    let shown = SweepProgress::start(Arc::clone(&progress), args.reading.quiet.quiet);
    let sweep = Sweep {
        scanner: &context.analyzer,
        store: &context.store,
        registries: &registries,
        policy,
        clock: context::now,
        progress: &progress,
    };
    tracing::info!(catalog = name, store = context.store.name(), pulls = args.reading.pulls, "sweep started");
    let outcome = sweep.run(&name, &*images, &filter, &limits);
    shown.finish();
    let mut outcome = outcome?;
    outcome.for_each_name(&mut |name| *name = context.analyzer.mask_name(name));
    tracing::info!(
        catalog = name,
        images = outcome.sums.images,
        failing = outcome.failing,
        incomplete = outcome.incomplete,
        layers_read = outcome.sums.layers_read,
        bytes_pulled = outcome.sums.bytes_pulled,
        verdict = outcome.verdict.name(),
        ended_early = outcome.ended_early.as_deref().unwrap_or("no"),
        "sweep ended"
    );
    let file = args.output.output.as_deref();
    output::stream(file, |out| match args.output.format {
        TextOrJson::Text => table::text(&outcome, terminal::width(file), out),
        TextOrJson::Json => table::json(&outcome, out),
    })?;
    // Only now: what a sweep that is killed before found is announced by the next.
    announce(&context.store, &outcome)?;
    Ok(ExitCode::from(outcome.verdict.exit_code()))
}

/// What ends a sweep: the end of the process, of its time or of its bytes. Nothing goes on for long after that,
/// whatever a registry sends.
fn ends(args: &SweepArgs, process: &Cancellation) -> Ends {
    let cancellation = args.max_time.map_or_else(|| process.child(), |time| process.child_with_deadline(time + GRACE));
    let byte_limit = args.max_bytes.map(|bytes| ByteLimit::new(bytes, cancellation.clone()));
    Ends { patience: cancellation.child(), cancellation, byte_limit }
}

fn limits(catalog: &CatalogArgs, ends: Ends) -> SweepLimits {
    let args = catalog.sweep();
    SweepLimits {
        threads: args.reading.pulls,
        lease: args.reading.lease,
        time: args.max_time,
        bytes: args.max_bytes,
        expected: catalog.expected(),
        request_scans: matches!(catalog, CatalogArgs::Harbor { request_scans: true, .. }),
        with_referrers: !args.no_referrers,
        reread_documents: args.reread_documents,
        layer_timeout: args.reading.timeout.timeout,
        cancellation: ends.cancellation,
        patience: ends.patience,
        ..SweepLimits::default()
    }
}
