//! `layersift sweep files`: every image archive in a folder, each layer once where there is a store.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::args::{
    FingerprintKeyArgs, PolicyArgs, QuietArgs, ReportArgs, RulesArgs, StoreArgs, ThreadsArgs, TimeoutArgs,
};
use super::read::store_images;
use super::{context, progress::ScanProgress, report};
use layersift_fleet::LayerCache;
use layersift_format::Cancellation;
use layersift_format::compression::Codec;
use layersift_format::platform::Choice;
use layersift_model::{Gap, GapReason, ImageGap, ImageReport, Limits};
use layersift_rules::Ruleset;
use layersift_scan::{Analyzer, ImageScan};
use layersift_source::registry::RegistryOptions;
use layersift_source::{Target, open};
use layersift_store::Store;

const STORE: &str = "Reuse layer results from this store and save new ones to it: a SQLite file, or postgres://…";

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
}

/// Scans each archive, and writes the reports of all. The exit status is the worst verdict.
pub(crate) fn run(args: &FilesArgs) -> anyhow::Result<ExitCode> {
    report::check(&args.report, Some(&args.folder))?;
    let name = args.store.name();
    anyhow::ensure!(
        name.is_none() || !args.report.show_secrets,
        "--show-secrets cannot be used with a store, which has no values of secrets"
    );
    let policy = context::policy(&args.policy)?;
    let mut targets = Vec::new();
    collect(&args.folder, 0, &mut targets)?;
    anyhow::ensure!(!targets.is_empty(), "{}: the folder has no image archives", args.folder.display());
    let ruleset = Ruleset::with_files(&args.rules.rules)?;
    let key = context::fingerprint_key(&args.fingerprint_key)?;
    let analyzer = context::analyzer(ruleset, key, args.threads.threads)?;
    let store = name.map(Store::open).transpose()?;
    let cache = store.as_ref().map(|store| LayerCache::new(store, &analyzer, context::now));
    let mut reports = Vec::new();
    for path in targets {
        reports.extend(one(args, &analyzer, cache.as_ref(), &path)?);
    }
    report::judge_and_write(reports, &policy, &args.report)
}

/// The reports of one archive; one with a gap if it cannot be read.
fn one(
    args: &FilesArgs,
    analyzer: &Analyzer,
    cache: Option<&LayerCache<'_>>,
    path: &Path,
) -> anyhow::Result<Vec<ImageReport>> {
    let text = path.to_str().with_context(|| format!("{}: the name is not UTF-8", path.display()))?;
    // The name is a path, even if it looks like a transport and a reference.
    let target = Target::parse(if text.starts_with('/') { text.to_string() } else { format!("./{text}") }.as_str())?;
    let cancellation = args.timeout.timeout.map_or_else(Cancellation::never, Cancellation::with_deadline);
    let progress = ScanProgress::start(args.quiet.quiet);
    let registry = RegistryOptions { cancellation: cancellation.clone(), ..RegistryOptions::default() };
    let mut scan = ImageScan::new(analyzer)
        .platform(args.platform.clone().unwrap_or(Choice::Default))
        .observer(&progress)
        .cancellation(cancellation);
    if let Some(cache) = cache {
        scan = scan.known_layers(cache);
    }
    let opened = open(&target, &Limits::default(), &registry).map_err(anyhow::Error::from);
    let scanned = opened.and_then(|opened| Ok(scan.run(&target.text, opened)?));
    progress.finish();
    match scanned {
        Ok(reports) => {
            cache.map(|cache| store_images(cache, &reports)).transpose()?;
            Ok(reports)
        }
        Err(error) => {
            let gap = Gap::new(GapReason::Unreadable, format!("{error:#}")).at(text);
            let gaps = vec![ImageGap { gap, layer: None }];
            Ok(vec![ImageReport { target: target.text, gaps, ..ImageReport::default() }])
        }
    }
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
