//! `layersift sweep` and `layersift worker`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::args::Format;
use super::scan::policy;
use super::store_args::{ReadingArgs, StoreArgs, SweepArgs, SweepCommand};
use super::{registry, rules, write_out};
use crate::cli::sweep_report as report;
use layersift_fleet::{Claims, LayerCache, Progress, Registries, Stop, Sweep, SweepLimits, Worker};
use layersift_model::FingerprintKey;
use layersift_report::policy::Policy;
use layersift_rules::Ruleset;
use layersift_scan::{Options, Scanner};
use layersift_source::catalog::{Catalog, Filter, Harbor, HarborOptions, ImageList, WholeRegistry};
use layersift_source::registry::{Host, Rate, Reference, RegistryOptions};
use layersift_store::Store;

/// How often the progress is drawn anew.
const REDRAW: Duration = Duration::from_millis(200);

/// Sweeps once, or again and again.
pub fn sweep(command: &SweepCommand) -> anyhow::Result<ExitCode> {
    let (SweepCommand::Harbor { how, .. } | SweepCommand::Registry { how, .. } | SweepCommand::List { how, .. }) =
        command;
    let store = open_store(&how.reading.store)?;
    let scanner = scanner(&how.reading)?;
    loop {
        let started = Instant::now();
        // Read anew each time: an exception may have been added, or have ended.
        let policy = policy(&how.failing)?;
        let code = sweep_once(command, how, (&store, &scanner, &policy))?;
        let Some(interval) = how.interval else { return Ok(code) };
        thread::sleep(interval.saturating_sub(started.elapsed()));
    }
}

fn sweep_once(
    command: &SweepCommand,
    how: &SweepArgs,
    (store, scanner, policy): (&Store, &Scanner, &Policy),
) -> anyhow::Result<ExitCode> {
    let trusted = match command {
        SweepCommand::Harbor { host, .. } | SweepCommand::Registry { host, .. } => Some(parse_host(host)?),
        SweepCommand::List { .. } => trusted_host()?,
    };
    let registries = Registries::new(registry_options(&how.reading), trusted);
    let (target, catalog): (String, Box<dyn Catalog>) = match command {
        SweepCommand::Harbor { host, project, .. } => {
            let host = parse_host(host)?;
            let options = HarborOptions { projects: project.clone(), ..HarborOptions::default() };
            (format!("harbor {host} {}", project.join(" ")), Box::new(Harbor::new(registries.of(&host)?, options)))
        }
        SweepCommand::Registry { host, .. } => {
            let host = parse_host(host)?;
            (format!("registry {host}"), Box::new(WholeRegistry::new(registries.of(&host)?)))
        }
        SweepCommand::List { file, .. } => (format!("list {}", file.display()), Box::new(ImageList::read(file)?)),
    };
    let since = how.pushed_within.map(|within| now() - i64::try_from(within.as_secs()).unwrap_or(i64::MAX));
    let filter = Filter::new(&how.include, &how.exclude)?.pushed_since(since);
    let is_whole = !matches!(command, SweepCommand::List { .. })
        && how.include.is_empty()
        && how.exclude.is_empty()
        && since.is_none()
        && !matches!(command, SweepCommand::Harbor { project, .. } if !project.is_empty());
    let limits = SweepLimits {
        threads: how.reading.pulls,
        lease: how.reading.lease,
        time: how.max_time,
        bytes: how.max_bytes,
        is_whole,
        ..SweepLimits::default()
    };
    let progress = Arc::new(Progress::default());
    let display = Display::start(Arc::clone(&progress), how.reading.quiet);
    let sweep = Sweep { scanner, store, registries: &registries, policy, clock: now, progress: &progress };
    let report = sweep.run(target.trim_end(), &*catalog, &filter, &limits);
    display.finish();
    let report = report?;
    let rendered = match how.format {
        Format::Text => report::text(&report),
        Format::Json => report::json(&report)? + "\n",
    };
    write_out(&rendered, how.output.as_deref())?;
    Ok(ExitCode::from(report.verdict.exit_code()))
}

/// Reads layers that sweeps have queued, until it is ended.
pub fn worker(args: &ReadingArgs) -> anyhow::Result<ExitCode> {
    let store = open_store(&args.store)?;
    let scanner = scanner(args)?;
    let registries = Registries::new(registry_options(args), trusted_host()?);
    let cache = LayerCache::new(&store, &scanner, now);
    let progress = Progress::default();
    let SweepLimits { patience, .. } = SweepLimits::default();
    let worker = Worker {
        scanner: &scanner,
        store: &store,
        cache: &cache,
        registries: &registries,
        clock: now,
        progress: &progress,
        lease: args.lease,
        patience,
        claims: Claims::default(),
    };
    worker.run(args.pulls, &Stop::default())?;
    Ok(ExitCode::SUCCESS)
}

fn scanner(args: &ReadingArgs) -> anyhow::Result<Scanner> {
    let options = Options {
        threads: args.threads,
        key: fingerprint_key(args.store.fingerprint_key.as_deref())?,
        cache: super::cache(),
        ..Options::default()
    };
    let scanner = Scanner::new(Ruleset::with_files(&args.rules)?, options)?;
    rules::warn(scanner.notes());
    Ok(scanner)
}

fn registry_options(args: &ReadingArgs) -> RegistryOptions {
    let rate = Rate {
        requests_per_second: args.max_requests,
        bytes_per_second: args.max_rate.and_then(std::num::NonZeroU64::new),
    };
    RegistryOptions { rate, ..registry::options(&args.registry) }
}

/// The store that the arguments name, or the user's own.
pub fn open_store(args: &StoreArgs) -> anyhow::Result<Store> {
    Ok(match &args.store {
        Some(text) => Store::open(text)?,
        None => Store::open_default()?,
    })
}

/// The key in the file that the arguments name, or the one that everyone has.
pub fn fingerprint_key(path: Option<&Path>) -> anyhow::Result<FingerprintKey> {
    match path {
        Some(path) => {
            let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok(FingerprintKey::new(bytes))
        }
        None => Ok(FingerprintKey::default()),
    }
}

/// Seconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The registry that LAYERSIFT_REGISTRY_USER and LAYERSIFT_REGISTRY_PASSWORD are for, where no argument says it.
fn trusted_host() -> anyhow::Result<Option<Host>> {
    let named = std::env::var("LAYERSIFT_REGISTRY_HOST").ok().filter(|name| !name.is_empty());
    named.as_deref().map(parse_host).transpose()
}

/// A host, which may be written as a URL.
fn parse_host(text: &str) -> anyhow::Result<Host> {
    let bare = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let bare = bare.trim_end_matches('/');
    let reference: Reference =
        format!("{bare}/x").parse().with_context(|| format!("`{text}` is no registry's host"))?;
    anyhow::ensure!(reference.repository == "x", "`{text}` is no registry's host: write HOST or HOST:PORT");
    Ok(reference.host)
}

/// Draws what a sweep has done, on a terminal.
struct Display {
    bar: ProgressBar,
    ended: Arc<Stop>,
    drawing: Option<thread::JoinHandle<()>>,
}

impl Display {
    fn start(progress: Arc<Progress>, quiet: bool) -> Display {
        use std::io::IsTerminal;
        let shown = !quiet && std::io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr_with_hz(10) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}  {elapsed}") {
            bar.set_style(style);
        }
        let ended = Arc::new(Stop::default());
        let drawing = shown.then(|| {
            let (bar, ended) = (bar.clone(), Arc::clone(&ended));
            thread::spawn(move || {
                while !ended.wait(REDRAW) {
                    bar.set_message(report::progress(&progress.counted(), bar.elapsed()));
                    bar.tick();
                }
            })
        });
        Display { bar, ended, drawing }
    }

    fn finish(self) {
        self.ended.set();
        if let Some(drawing) = self.drawing {
            let _ = drawing.join();
        }
        self.bar.finish_and_clear();
    }
}
