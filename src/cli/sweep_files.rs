//! `layersift sweep files`: every image archive in a folder, each layer once where there is a store.

mod swept;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::Args;

use super::args::{FingerprintKeyArgs, PolicyArgs, QuietArgs, RulesArgs, StoreArgs, ThreadsArgs, TimeoutArgs};
use super::formats::{OutputArgs, TextOrJson};
use super::progress::ScanProgress;
use super::{context, output, terminal};
use layersift_fleet::{LayerCache, announce};
use layersift_format::Cancellation;
use layersift_format::compression::Codec;
use layersift_format::platform::Choice;
use layersift_model::{ImageReport, Limits};
use layersift_report::{RenderOptions, sweep as table};
use layersift_scan::{Analyzer, ImageScan};
use layersift_source::registry::RegistryOptions;
use layersift_source::{Target, open};
use layersift_store::Store;
use swept::{Layers, Swept};

const STORE: &str = "Store that layers need not be read again from, and that knows what is new since the last sweep of \
                     the folder: a SQLite file, or postgres://…";

const TIMEOUT: &str = "Stop the scan of an archive after this time, such as 30m; its report then has a gap [default: \
                       no limit]";

/// How deep folders may be nested.
const MAX_DEPTH: usize = 32;

#[derive(Debug, Args)]
#[command(mut_arg("store", |arg| arg.help(STORE)))]
#[command(mut_arg("timeout", |arg| arg.help(TIMEOUT)))]
pub(crate) struct FilesArgs {
    /// Folder with image archives, OCI layouts and skopeo's dir: directories, and folders of them
    folder: PathBuf,

    /// Platform of multi-architecture images: OS/ARCH[/VARIANT], or all [default: Linux on this machine's architecture]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Choice>,

    #[command(flatten)]
    output: OutputArgs<TextOrJson>,

    /// Also write the reports of all images to this file, as JSON, which `layersift render` reads
    #[arg(long, value_name = "FILE")]
    reports: Option<PathBuf>,

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
}

/// Scans each archive, and writes the report of the sweep. The exit status is the worst verdict.
pub(crate) fn run(args: &FilesArgs) -> anyhow::Result<ExitCode> {
    let policy = context::policy(&args.policy)?;
    let mut targets = Vec::new();
    collect(&args.folder, 0, &mut targets)?;
    ensure!(!targets.is_empty(), "{}: the folder has no image archives", args.folder.display());
    let ruleset = context::ruleset(&args.rules.rules)?;
    let key = context::fingerprint_key(&args.fingerprint_key)?;
    let analyzer = context::analyzer(ruleset, key, args.threads.threads)?;
    let store = args.store.name().map(Store::open).transpose()?;
    let cache = store.as_ref().map(|store| LayerCache::new(store, &analyzer, context::now));
    // Another path to the same folder is the same sweep.
    let folder = args.folder.canonicalize().with_context(|| args.folder.display().to_string())?;
    let mut swept = Swept::begin(format!("files {}", folder.display()), store.as_ref().zip(cache.as_ref()))?;
    let layers = Layers::new(cache.as_ref());
    let mut reports = Vec::new();
    for path in targets {
        match scan(args, &analyzer, &layers, &path) {
            Ok(scanned) => {
                for mut report in scanned {
                    policy.judge(&mut report);
                    swept.image(&report)?;
                    reports.extend(args.reports.is_some().then_some(report));
                }
            }
            Err(error) => {
                let report = swept.unreadable(&path, &error);
                reports.extend(args.reports.is_some().then_some(report));
            }
        }
    }
    layers.check()?;
    let report = swept.end(&layers)?;
    let file = args.output.output.as_deref();
    args.reports.as_ref().map_or(Ok(()), |path| write_reports(reports, path, &policy))?;
    output::stream(file, |out| match args.output.format {
        TextOrJson::Text => table::text(&report, terminal::width(file), out),
        TextOrJson::Json => table::json(&report, out),
    })?;
    // Only now: what a sweep that is killed before found is announced by the next.
    store.map_or(Ok(()), |store| announce(&store, &report))?;
    Ok(ExitCode::from(report.verdict.exit_code()))
}

/// Writes the reports of all images.
fn write_reports(mut reports: Vec<ImageReport>, path: &Path, policy: &layersift_report::Policy) -> anyhow::Result<()> {
    reports.iter_mut().for_each(|report| policy.judge(report));
    let format = layersift_report::format("json").context("unknown format json")?;
    output::stream(Some(path), |out| (format.render)(&reports, &RenderOptions::default(), out))
}

/// The reports of one archive.
fn scan(args: &FilesArgs, analyzer: &Analyzer, layers: &Layers<'_>, path: &Path) -> anyhow::Result<Vec<ImageReport>> {
    let text = path.to_str().with_context(|| format!("{}: the name is not UTF-8", path.display()))?;
    // The name is a path, even if it looks like a transport and a reference.
    let target = Target::parse(if text.starts_with('/') { text.to_string() } else { format!("./{text}") }.as_str())?;
    let cancellation = args.timeout.timeout.map_or_else(Cancellation::never, Cancellation::with_deadline);
    let progress = ScanProgress::start(args.quiet.quiet);
    let registry = RegistryOptions { cancellation: cancellation.clone(), ..RegistryOptions::default() };
    let scan = ImageScan::new(analyzer)
        .platform(args.platform.clone().unwrap_or(Choice::Default))
        .known_layers(layers)
        .observer(&progress)
        .cancellation(cancellation);
    let opened = open(&target, &Limits::default(), &registry).map_err(anyhow::Error::from);
    let scanned = opened.and_then(|opened| Ok(scan.run(&target.text, opened)?));
    progress.finish();
    scanned
}

/// Adds the images below `folder`, in the order of their names. Symbolic links are not followed.
fn collect(folder: &Path, depth: usize, targets: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let failed = || folder.display().to_string();
    anyhow::ensure!(depth <= MAX_DEPTH, "{}: folders are nested too deeply", folder.display());
    let entries = fs::read_dir(folder).with_context(failed)?;
    let mut entries = entries.collect::<Result<Vec<_>, _>>().with_context(failed)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type().with_context(failed)?);
        if kind.is_dir() && !is_layout(&path) {
            collect(&path, depth + 1, targets)?;
        } else if kind.is_dir() || (kind.is_file() && is_archive(&path).with_context(|| path.display().to_string())?) {
            targets.push(path);
        } else {
            tracing::warn!(path = %path.display(), "not an image archive; left out");
        }
    }
    Ok(())
}

/// Whether a directory is an OCI layout, or one of skopeo's transport `dir:`.
fn is_layout(path: &Path) -> bool {
    let is_file = |name: &str| path.join(name).is_file();
    (is_file("index.json") && path.join("blobs").is_dir()) || (is_file("manifest.json") && is_file("version"))
}

/// Whether a file is compressed, or a tar archive: those of images have the magic number of POSIX.
fn is_archive(path: &Path) -> std::io::Result<bool> {
    const MAGIC: &[u8] = b"ustar";
    const AT: usize = 257;
    let mut start = Vec::new();
    File::open(path)?.take(512).read_to_end(&mut start)?;
    let is_named = path.extension().is_some_and(|extension| extension == "tar");
    Ok(is_named || Codec::detect(&start) != Codec::Plain || start.get(AT..).is_some_and(|it| it.starts_with(MAGIC)))
}
