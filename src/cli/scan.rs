//! `layersift scan` and `layersift layers`.

use std::process::ExitCode;
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::args::{FailingArgs, Format, LayersArgs, ScanArgs, Source};
use super::progress::Display;
use super::sweep::{fingerprint_key, now};
use super::{registry, rules, write_out};
use layersift_fleet::LayerCache;
use layersift_format::Opened;
use layersift_format::platform::Choice;
use layersift_model::{FingerprintKey, ImageReport, Limits, Verdict};
use layersift_report::policy::baseline::Baseline;
use layersift_report::{FailOn, Policy, Render, RenderOptions, layers as layer_table};
use layersift_rules::Ruleset;
use layersift_scan::{Options, Scanner};
use layersift_source::{Target, open};
use layersift_store::Store;

/// Scans and writes the report; the exit status is the worst verdict.
pub fn scan(args: &ScanArgs) -> anyhow::Result<ExitCode> {
    let ruleset = Ruleset::with_files(&args.rules)?;
    let key = fingerprint_key(args.fingerprint_key.as_deref())?;
    // A policy with a mistake is said before the scan, which may take a while.
    let policy = policy(&args.failing)?;
    let mut reports = read(&args.source, ruleset, key, args.store.as_deref())?;
    reports.iter_mut().for_each(|report| policy.judge(report));
    if args.reproducible {
        reports.iter_mut().for_each(ImageReport::make_reproducible);
    }
    let options = RenderOptions { show_secrets: args.show_secrets, ..RenderOptions::default() };
    let rendered = rendered(args.format.render(), &reports, &options)?;
    let verdict = reports.iter().map(ImageReport::verdict).max().unwrap_or(Verdict::Incomplete);
    write_out(&rendered, args.output.as_deref())?;
    Ok(ExitCode::from(verdict.exit_code()))
}

/// Writes a table of the layers.
pub fn layers(args: &LayersArgs) -> anyhow::Result<ExitCode> {
    let reports = read(&args.source, Ruleset::built_in()?, FingerprintKey::default(), None)?;
    let rendered = match args.format {
        Format::Text => layer_table::text(&reports),
        Format::Json => layer_table::json(&reports)? + "\n",
    };
    write_out(&rendered, args.output.as_deref())?;
    let complete = reports.iter().all(|report| report.gaps.is_empty());
    Ok(ExitCode::from(if complete { Verdict::Pass } else { Verdict::Incomplete }.exit_code()))
}

/// What the flags, the policy file and the baseline say together; a flag is stronger than a file.
pub fn policy(args: &FailingArgs) -> anyhow::Result<Policy> {
    let mut policy = match &args.policy {
        Some(path) => Policy::read(path, today())?,
        None => Policy::default(),
    };
    if let Some(FailOn(limit)) = args.fail_on {
        policy.fail_on = limit;
    }
    policy.baseline = args.baseline.as_deref().map(Baseline::read).transpose()?;
    Ok(policy)
}

fn read(
    source: &Source,
    ruleset: Ruleset,
    key: FingerprintKey,
    store: Option<&str>,
) -> anyhow::Result<Vec<ImageReport>> {
    let target = Target::parse(&source.target)?;
    let choice = source.platform.clone().unwrap_or(Choice::Default);
    let options = Options { threads: source.threads, key, cache: super::cache(), ..Options::default() };
    let store = store.map(Store::open).transpose()?;
    let scanner = Scanner::new(ruleset, options)?;
    rules::warn(scanner.notes());
    let display = Display::new(source.quiet);
    let opened = open(&target, &Limits::default(), &registry::options(&source.registry))?;
    let reports = match &store {
        Some(store) => with_store(&scanner, store, (&target.text, opened), &choice, &display),
        None => Ok(scanner.scan(&target.text, opened, &choice, &display)?),
    };
    display.finish();
    // The process ends soon; freeing what rules are compiled to would only take time.
    std::mem::forget(scanner);
    reports
}

/// Scans with what a store knows, and stores what it does not know yet.
fn with_store(
    scanner: &Scanner,
    store: &Store,
    (name, opened): (&str, Opened),
    choice: &Choice,
    display: &Display,
) -> anyhow::Result<Vec<ImageReport>> {
    let cache = LayerCache::new(store, scanner, now);
    let reports = scanner.scan_with(name, opened, choice, Some(&cache), display)?;
    if let Some(failure) = cache.failure() {
        return Err(failure.into());
    }
    // What has no manifest, such as a root file system, has no name to be stored under; and what is wrong with the
    // documents of an image here need not be wrong with it elsewhere.
    let is_certain =
        |report: &&ImageReport| report.manifest_digest.is_some() && report.gaps.iter().all(|gap| gap.layer.is_some());
    for report in reports.iter().filter(is_certain) {
        cache.put_image(report, None)?;
    }
    Ok(reports)
}

/// Today's date in UTC. A clock that no calendar reaches is broken: then it is the last day, so that no exception outlives
/// the clock.
fn today() -> Date {
    Timestamp::try_from(SystemTime::now()).map_or(Date::MAX, |now| TimeZone::UTC.to_datetime(now).date())
}

/// The reports in one form.
pub(super) fn rendered(render: Render, reports: &[ImageReport], options: &RenderOptions) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    render(reports, options, &mut bytes)?;
    Ok(String::from_utf8(bytes)?)
}
