//! `layersift carve`: files of layers as evidence, and the check of such evidence.

mod image;
mod select;
mod verify;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::ensure;
use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::args::{FingerprintKeyArgs, QuietArgs, RegistryArgs, RulesArgs, TargetArgs, ThreadsArgs, TimeoutArgs};
use super::attest::keys::{self, PasswordArgs};
use super::deadline::Deadline;
use super::formats::{self, TextOrJson};
use super::read::{Reading, refuse_pipe};
use super::saved::SavedReports;
use super::stamp::Stamper;
use super::{context, masked, output, signals, values};
use image::OpenedImage;
use layersift_evidence::{Carver, Case, LeftOut, Sealed, Signing, Source, ToolIdentity};
use layersift_format::manifest::Image;
use layersift_format::platform::Choice;
use layersift_model::{FingerprintKey, ImageReport, Verdict};
use layersift_report::{clean, plural};
use layersift_scan::Analyzer;
use select::Selection;

/// The version of what is printed as JSON.
const SCHEMA: u32 = 1;

/// How files are acquired, where the operator does not say it.
const METHOD: &str = "files of layers are read from the stored image, which is not changed; whole layers are hashed";

/// The most files that were left out that a person is told of one by one. The manifest has all.
const MOST_WARNINGS: usize = 10;

/// The longest name in such a message.
const WIDTH: usize = 400;

const TIMEOUT: &str = "Stop after this time, such as 90s or 30m [default: no limit]";

#[derive(Debug, Args)]
#[command(mut_arg("timeout", |arg| arg.help(TIMEOUT)))]
pub(crate) struct CarveArgs {
    /// Image to read: a path, or TRANSPORT:PATH
    #[arg(required_unless_present = "verify")]
    target: Option<String>,

    /// Findings to carve, by their ids in the report, or `all`
    #[arg(value_name = "FINDING")]
    findings: Vec<String>,

    /// Directory to write the bundle to, or a tar archive if the name ends in .tar; it must not exist
    #[arg(short, long, value_name = "BUNDLE", required_unless_present = "verify")]
    output: Option<PathBuf>,

    /// Carve the file at this path instead of findings
    #[arg(long, requires = "layer", conflicts_with = "findings")]
    path: Option<String>,

    /// Layer of --path, from 0 at the base; without --path, the whole layer as it is stored
    #[arg(long, value_name = "N", conflicts_with = "findings")]
    layer: Option<usize>,

    /// The most bytes of files to write, such as 500M or 40G; what does not fit is left out
    #[arg(long, value_name = "SIZE", value_parser = values::size, default_value = "16G", conflicts_with = "verify")]
    max_bytes: u64,

    /// Platform of a multi-architecture image: OS/ARCH[/VARIANT] [default: Linux on this machine's architecture]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Choice>,

    /// JSON report that has the findings, instead of a scan
    #[arg(long, value_name = "FILE", conflicts_with_all = ["path", "layer"])]
    report: Option<PathBuf>,

    /// Case that the evidence belongs to
    #[arg(long, value_name = "ID", help_heading = "Case")]
    case_id: Option<String>,

    /// Item of evidence
    #[arg(long, value_name = "ID", help_heading = "Case")]
    evidence_id: Option<String>,

    /// Who acquires it
    #[arg(long, value_name = "NAME", help_heading = "Case")]
    operator: Option<String>,

    /// How it is acquired, if there is more to say than that files of stored layers are read
    #[arg(long, value_name = "TEXT", help_heading = "Case")]
    method: Option<String>,

    /// Sign the bundle with this private key: a PEM file, one of `layersift generate-key`, or pkcs11:…
    #[arg(long, value_name = "KEY", help_heading = "Seal")]
    key: Option<String>,

    #[command(flatten)]
    password: PasswordArgs,

    /// Have the bundle stamped by the time stamp authority at this URL (RFC 3161)
    #[arg(long, value_name = "URL", requires = "timestamp_authorities", help_heading = "Seal")]
    timestamp: Option<String>,

    /// Check this bundle; with a target, also against the image
    #[arg(long, value_name = "BUNDLE", conflicts_with_all = ["output", "findings", "path", "layer", "report", "key"])]
    verify: Option<PathBuf>,

    /// With --verify: PEM file with the public key that has to have signed
    #[arg(long, value_name = "FILE", requires = "verify", help_heading = "Seal")]
    public_key: Option<PathBuf>,

    /// With --verify: answer of a time stamp authority about seal.json, if it is not in the bundle as seal.tsr
    #[arg(long, value_name = "FILE", requires_all = ["verify", "timestamp_authorities"], help_heading = "Seal")]
    timestamp_token: Option<PathBuf>,

    /// PEM file with time stamp authorities, one of which has to have stamped the bundle
    #[arg(long, value_name = "FILE", help_heading = "Seal")]
    timestamp_authorities: Option<PathBuf>,

    /// Format of what is printed
    #[arg(long, value_name = "FORMAT", value_parser = formats::parser::<TextOrJson>(), default_value = "text")]
    format: TextOrJson,

    #[command(flatten)]
    rules: RulesArgs,

    #[command(flatten)]
    fingerprint_key: FingerprintKeyArgs,

    #[command(flatten)]
    timeout: TimeoutArgs,

    #[command(flatten)]
    threads: ThreadsArgs,

    #[command(flatten)]
    quiet: QuietArgs,

    #[command(flatten)]
    registry: RegistryArgs,
}

/// Writes a bundle, or checks one. Exit status 1 for one that was changed, 3 for one that not everything had room in.
pub(crate) fn run(args: &CarveArgs) -> anyhow::Result<ExitCode> {
    args.target.as_deref().map_or(Ok(()), |target| refuse_pipe(target.as_ref()))?;
    if let Some(bundle) = &args.verify {
        return verify::run(args, bundle);
    }
    let (Some(target), Some(path)) = (&args.target, &args.output) else { anyhow::bail!("name a target and --output") };
    ensure!(args.layer.is_some() || !args.findings.is_empty(), "name findings, or --layer with or without --path");
    let (started_at, deadline) = (Timestamp::now(), args.timeout.begin());
    let key = context::fingerprint_key(&args.fingerprint_key)?;
    let signer = args.key.as_ref().map(|key| keys::signer(key, &args.password)).transpose()?;
    let stamper = args
        .timestamp
        .as_deref()
        .map(|url| Stamper::new(url, args.timestamp_authorities.as_deref(), deadline.cancellation()));
    let stamper = stamper.transpose()?;
    let reports = match args.layer {
        Some(_) => Vec::new(),
        None => reports(args, target, key.clone(), deadline)?,
    };
    let opened = open(args, target, deadline)?;
    let ids: BTreeSet<&str> = args.findings.iter().map(String::as_str).collect();
    let selection = match args.layer {
        Some(layer) => Selection::of_layer(&opened, layer, args.path.as_deref())?,
        None => Selection::of_findings(&opened, &reports, &ids)?,
    };
    // Until here a signal ends the process, and nothing was written.
    let cancellation = deadline.or(&signals::cancellation()?);
    let mut carver = Carver::create(path, case(args), started_at)?.cancelled_by(cancellation);
    carver = carver.limited_to(args.max_bytes);
    let (tool, source) = (tool(selection.report, &key), source(args, target, &selection)?);
    carver.describe(tool, command(), source, key);
    selection.carve(&opened, &mut carver)?;
    let sign = |seal: &[u8]| match &signer {
        Some(signer) => signer.sign(seal).map_err(Into::into),
        None => Ok(Vec::new()),
    };
    let signing = signer.as_ref().map(|signer| Signing { key: signer.public_key().fingerprint(), sign: &sign });
    let stamp = |seal: &[u8]| match &stamper {
        Some(stamper) => stamper.ask(seal).map_err(Into::into),
        None => Ok(Vec::new()),
    };
    let sealed = carver.seal(signing, stamper.as_ref().map(|_| &stamp as _))?;
    said(args.format, &sealed)?;
    output::warn(sealed.manifest.left_out.iter().take(MOST_WARNINGS).map(left_out));
    let is_complete = sealed.manifest.left_out.is_empty();
    Ok(ExitCode::from(if is_complete { Verdict::Pass } else { Verdict::Incomplete }.exit_code()))
}

/// The reports of the target: from a file, or by a scan.
fn reports(
    args: &CarveArgs,
    target: &str,
    key: FingerprintKey,
    deadline: Deadline,
) -> anyhow::Result<Vec<ImageReport>> {
    if let Some(path) = &args.report {
        return SavedReports::new().file(path);
    }
    let analyzer = analyzer(args, key)?;
    let target = TargetArgs { target: target.into(), all: false, platform: args.platform.clone() };
    let reading = Reading {
        target: &target,
        build: None,
        with_referrers: true,
        registry: &args.registry,
        quiet: &args.quiet,
        store: None,
        timeout: deadline.left(),
    };
    reading.scan(analyzer)
}

fn analyzer(args: &CarveArgs, key: FingerprintKey) -> anyhow::Result<Analyzer> {
    context::analyzer(context::ruleset(&args.rules.rules)?, key, args.threads.threads)
}

/// The target, whose blobs can be read again.
fn open(args: &CarveArgs, target: &str, deadline: Deadline) -> anyhow::Result<OpenedImage> {
    let options = context::registry_options(&args.registry, &deadline.cancellation())?;
    OpenedImage::open(target, args.platform.clone().unwrap_or(Choice::Default), &options)
}

fn case(args: &CarveArgs) -> Case {
    Case {
        case_id: args.case_id.clone(),
        evidence_id: args.evidence_id.clone(),
        operator: args.operator.clone(),
        method: Some(args.method.clone().unwrap_or_else(|| METHOD.into())),
    }
}

/// The command line, without the logins and PINs that somebody may have put into it.
fn command() -> Vec<String> {
    std::env::args_os().map(|argument| masked::argument(&argument.to_string_lossy())).collect()
}

fn tool(report: Option<&ImageReport>, key: &FingerprintKey) -> ToolIdentity {
    let tool = report.map(|report| report.tool.clone()).unwrap_or_default();
    ToolIdentity {
        name: "layersift".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ruleset: tool.ruleset,
        reader_revision: tool.reader_revision,
        fingerprint_key: Some(tool.fingerprint_key.unwrap_or_else(|| key.id())),
    }
}

/// The image, as its report calls it.
fn source(args: &CarveArgs, target: &str, selection: &Selection<'_>) -> anyhow::Result<Source> {
    let Some(report) = selection.report else { return named(args, target, selection.image) };
    let (reference, platform) = (report.reference.clone(), report.platform.clone());
    Ok(Source { reference, platform, ..unnamed(target, selection.image) })
}

/// The image, as it calls itself. A secret in that is masked.
fn named(args: &CarveArgs, target: &str, image: &Image) -> anyhow::Result<Source> {
    let analyzer = analyzer(args, context::fingerprint_key(&args.fingerprint_key)?)?;
    let masked = |name: &Option<String>| name.as_ref().map(|name| analyzer.mask_name(name));
    let (reference, platform) = (masked(&image.reference), masked(&image.platform));
    std::mem::forget(analyzer);
    Ok(Source { reference, platform, ..unnamed(target, image) })
}

fn unnamed(target: &str, image: &Image) -> Source {
    Source {
        target: masked::argument(target),
        manifest_digest: image.manifest_digest.clone(),
        config_digest: image.config_digest.clone(),
        ..Source::default()
    }
}

/// What was not written, and what can be done about it.
fn left_out(one: &LeftOut) -> String {
    let place = match one.layer {
        Some(layer) => format!("layer {layer}: {}", one.path),
        None => one.path.clone(),
    };
    let size = one.size.map_or_else(String::new, |size| format!(" of {size} bytes"));
    let why = clean(&one.why, usize::MAX);
    format!(
        "not written: {}{size}: {why}; see --max-bytes, or carve the whole layer with --layer",
        clean(&place, WIDTH)
    )
}

/// Says what was written, and the digest that stands for all of it.
fn said(format: TextOrJson, sealed: &Sealed) -> anyhow::Result<()> {
    let Sealed { path, manifest, seal } = sealed;
    let text = match format {
        TextOrJson::Text => {
            let artifacts = plural(manifest.artifacts.len() as u64, "artifact");
            let left_out = match manifest.left_out.len() {
                0 => String::new(),
                count => format!("{count} left out, "),
            };
            format!("{}: {artifacts}, {left_out}seal {seal}\n", path.display())
        }
        TextOrJson::Json => output::pretty(&json!({
            "schema": SCHEMA,
            "bundle": path.display().to_string(),
            "seal": seal.to_string(),
            "manifest": manifest,
        }))?,
    };
    output::write(text.as_bytes(), None)
}
