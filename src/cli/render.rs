//! `layersift render`: reports that were kept, in any format and judged by any policy, without their images.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Args;

use super::args::{PolicyArgs, ReportArgs, StoreArgs};
use super::saved::SavedReports;
use super::{context, output, report};
use layersift_fleet::add_stored_base;
use layersift_model::{Digest, ImageReport};
use layersift_source::registry::Reference;
use layersift_store::Store;

const STORE: &str = "Store to look up images in: a SQLite file, or postgres://…";

/// Bytes of memory for the reports of an index in the store.
const MOST_AT_ONCE: u64 = 128 << 20;

const SHOW_SECRETS: &str =
    "Include the values of secrets in text and JSON, which only reports of `scan --show-secrets` have";

#[derive(Debug, Args)]
#[command(mut_arg("store", |arg| arg.help(STORE)))]
#[command(mut_arg("show_secrets", |arg| arg.help(SHOW_SECRETS)))]
pub(crate) struct RenderArgs {
    /// Report to write: a file, - for standard input, or with --store an image
    #[arg(required = true, value_name = "REPORT")]
    inputs: Vec<OsString>,

    #[command(flatten)]
    report: ReportArgs,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    store: StoreArgs,
}

/// Reads the reports and writes them. The exit status is the worst verdict, as that of a scan is.
pub(crate) fn run(args: &RenderArgs) -> anyhow::Result<ExitCode> {
    report::check(&args.report)?;
    ensure!(
        args.inputs.iter().filter(|input| *input == "-").count() < 2,
        "- stands for standard input and can be given once"
    );
    let policy = context::policy(&args.policy)?;
    let mut reports = Vec::new();
    let mut saved = SavedReports::new();
    for input in &args.inputs {
        reports.extend(read(input, &args.store, &mut saved)?);
    }
    if args.report.show_secrets && has_secrets_without_value(&reports) {
        output::warn(["not all reports have the values of secrets: `scan --show-secrets` writes reports that do"]);
    }
    report::judge_and_write(reports, &policy, &args.report)
}

/// The reports that `input` names. A name of a file is not looked up in the store.
fn read(input: &OsStr, store: &StoreArgs, saved: &mut SavedReports) -> anyhow::Result<Vec<ImageReport>> {
    match input.to_str() {
        Some("-") => saved.standard_input(),
        Some(name) if store.name().is_some() && !Path::new(input).exists() => stored(name, store),
        _ => saved.file(Path::new(input)),
    }
}

/// The reports of the image that `name` names in the store.
fn stored(name: &str, store: &StoreArgs) -> anyhow::Result<Vec<ImageReport>> {
    let store = context::open_existing_store(store)?;
    let manifests = match name.parse::<Digest>() {
        Ok(manifest) => vec![manifest],
        Err(_) => {
            let reference: Reference = name.parse().with_context(|| format!("{name}: no such file"))?;
            match (reference.digest, reference.tag) {
                (Some(digest), _) => vec![digest],
                (None, tag) => {
                    let tag = tag.as_deref().unwrap_or("latest");
                    store.tags().images(reference.host.name(), &reference.repository, tag)?
                }
            }
        }
    };
    refuse_too_large(&store, name, &manifests)?;
    let mut reports = Vec::with_capacity(manifests.len());
    for manifest in &manifests {
        let stored = store.images().latest_report(manifest)?;
        let unknown = || format!("{name}: no report of {manifest} in {}; scan it with --store first", store.name());
        let mut report = stored.with_context(unknown)?.report;
        add_stored_base(&store, &mut report)?;
        reports.push(report);
    }
    ensure!(!reports.is_empty(), "{name}: no such file, and not in {}; scan it with --store first", store.name());
    Ok(reports)
}

/// Refuses reports of an index that are too large together: most formats need all of them at once.
fn refuse_too_large(store: &Store, name: &str, manifests: &[Digest]) -> anyhow::Result<()> {
    let entries = store.images().report_entries(manifests, None, None)?;
    let latest = entries.iter().filter_map(|entries| entries.first());
    let bytes = latest.fold(0_u64, |sum, entry| sum.saturating_add(entry.memory()));
    ensure!(
        manifests.len() < 2 || bytes <= MOST_AT_ONCE,
        "{name}: the reports of its {} images are too large together; name one of the images, such as {}",
        manifests.len(),
        manifests[0]
    );
    Ok(())
}

fn has_secrets_without_value(reports: &[ImageReport]) -> bool {
    let mut secrets = reports.iter().flat_map(|report| &report.findings).filter_map(|finding| finding.secret.as_ref());
    secrets.any(|secret| secret.value.is_none())
}
