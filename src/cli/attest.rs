//! `layersift attest`.

mod images;
pub(super) mod keys;
pub(super) mod repository;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::Args;
use jiff::Timestamp;

use super::args::{
    FingerprintKeyArgs, PolicyArgs, QuietArgs, RegistryArgs, RulesArgs, StoreArgs, TargetArgs, ThreadsArgs, TimeoutArgs,
};
use super::read::Reading;
use super::{context, output};
use images::{Image, local_images, registry_images};
use keys::PasswordArgs;
use layersift_attest::keys::{PrivateKey, Signer};
use layersift_attest::predicate::{Failing, ScanResult};
use layersift_attest::registry::{ListedIn, Pace, attach_bundle, attach_legacy};
use layersift_attest::{Bundle, Envelope, Layer, Statement};
use layersift_format::Cancellation;
use layersift_format::platform::Choice;
use layersift_model::{Digest, ImageReport, ReportSet, Verdict};
use layersift_report::Policy;
use layersift_rules::Ruleset;
use layersift_source::Target;
use repository::{RegistryImage, Repository};

const PLATFORM: &str = "Platform to scan and attest: OS/ARCH[/VARIANT], or all [default: all]";

#[derive(Debug, Args)]
#[command(mut_arg("platform", |arg| arg.help(PLATFORM)))]
pub(crate) struct AttestArgs {
    #[command(flatten)]
    target: TargetArgs,

    /// Private key: a PEM file, or one of `layersift generate-key` or `cosign generate-key-pair`
    #[arg(long, value_name = "FILE")]
    key: PathBuf,

    #[command(flatten)]
    password: PasswordArgs,

    /// JSON report of `layersift scan` to attest, instead of a new scan; may be repeated
    #[arg(long, value_name = "FILE")]
    report: Vec<PathBuf>,

    /// Attach it also to an image that fails or was not read as a whole, under another predicate type
    #[arg(long)]
    attach_failing: bool,

    /// Write the attestations to this file, a bundle a line, and attach nothing
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

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

/// Scans the image, or reads its reports, and attests it. The exit status is the verdict.
pub(crate) fn run(args: &AttestArgs) -> anyhow::Result<ExitCode> {
    // Mistakes are reported before the scan, which may take a while.
    let key = keys::private_key(&args.key, &args.password)?;
    let policy = context::policy(&args.policy)?;
    let cancellation = args.timeout.timeout.map_or_else(Cancellation::never, Cancellation::with_deadline);
    let options = context::registry_options(&args.registry, &cancellation)?;
    let target = Target::parse(&args.target.target)?;
    let remote = RegistryImage::open(&target, options, &cancellation)?;
    ensure!(
        remote.is_some() || args.output.is_some(),
        "{}: only images of a registry can have attestations attached; pass -o FILE to write them",
        target.text
    );
    let results = results(args, &policy, remote.as_ref())?;
    let images = match &remote {
        Some(remote) => registry_images(remote, &results)?,
        None => local_images(&results),
    };
    ensure!(!images.is_empty(), "{}: no report is of this image", target.text);
    let worst = images.iter().map(|image| image.result.verdict).max().unwrap_or(Verdict::Incomplete);
    let is_passed = images.iter().all(|image| image.result.passes());
    if !is_passed && !args.attach_failing {
        let verdict = worst.max(Verdict::Incomplete);
        output::warn([format!(
            "nothing is attested, because the verdict is {}; pass --attach-failing to attest that",
            verdict.name()
        )]);
        return Ok(ExitCode::from(verdict.exit_code()));
    }
    let name = remote.as_ref().map(|remote| remote.name());
    let mut written = String::new();
    for image in &images {
        for statement in image.result.statements(name.as_deref(), &image.subject.digest, Failing::Attest)? {
            let envelope = Envelope::sign(&statement, &key)?;
            match (&args.output, &remote) {
                (None, Some(remote)) => attach(&remote.repository, image, &statement, envelope, &key)?,
                _ => written.push_str(&(Bundle::new(envelope, key.public_key()).to_json()? + "\n")),
            }
        }
    }
    if let Some(path) = &args.output {
        fs::write(path, written).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(ExitCode::from(if is_passed { 0 } else { worst.max(Verdict::Incomplete).exit_code() }))
}

/// The results of the images that the reports are of, by the digests of their manifests.
fn results(
    args: &AttestArgs,
    policy: &Policy,
    remote: Option<&RegistryImage>,
) -> anyhow::Result<Vec<(Digest, ScanResult)>> {
    let mut reports = if args.report.is_empty() { scan(args, remote)? } else { read(&args.report)? };
    let now = Timestamp::now();
    let mut results = Vec::new();
    for report in &mut reports {
        policy.judge(report);
        let digest = report.manifest_digest.clone();
        let digest = digest.with_context(|| format!("{}: the image has no manifest to attest", report.target))?;
        results.push((digest, ScanResult::of(report, now)?));
    }
    Ok(results)
}

fn scan(args: &AttestArgs, remote: Option<&RegistryImage>) -> anyhow::Result<Vec<ImageReport>> {
    // The tag may move meanwhile.
    let target = remote.map_or_else(|| args.target.target.clone(), RegistryImage::target);
    let platform = args.target.platform.clone().unwrap_or(Choice::All);
    let ruleset = Ruleset::with_files(&args.rules.rules)?;
    let key = context::fingerprint_key(&args.fingerprint_key)?;
    let analyzer = context::analyzer(ruleset, key, args.threads.threads)?;
    let reading = Reading {
        target: &TargetArgs { target, platform: Some(platform) },
        build: None,
        registry: &args.registry,
        quiet: &args.quiet,
        store: args.store.name(),
        timeout: args.timeout.timeout,
    };
    reading.scan(analyzer)
}

fn read(paths: &[PathBuf]) -> anyhow::Result<Vec<ImageReport>> {
    let mut reports = Vec::new();
    for path in paths {
        let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let set = ReportSet::from_json(&text).with_context(|| path.display().to_string())?;
        reports.extend(set.reports);
    }
    Ok(reports)
}

/// Attaches a statement in both forms.
fn attach(
    repository: &Repository,
    image: &Image,
    statement: &Statement,
    envelope: Envelope,
    key: &PrivateKey,
) -> anyhow::Result<()> {
    let (subject, kind) = (&image.subject, statement.predicate_type());
    let artifact = Bundle::new(envelope.clone(), key.public_key()).artifact(kind, subject, Timestamp::now())?;
    let listed = attach_bundle(repository, &subject.digest, &artifact, Pace::default())?;
    let layer = Layer { envelope, timestamp: None }.to_append(kind)?;
    attach_legacy(repository, &subject.digest, &layer, Pace::default())?;
    let place = match listed {
        ListedIn::Referrers => "list of referrers",
        ListedIn::FallbackTag => "fallback tag, because the registry keeps no list of referrers",
        ListedIn::LegacyTag => bail!("a bundle cannot be a layer"),
    };
    let line = format!("{}: {kind}: attached as {} ({place}), and as .att\n", subject.digest, artifact.entry.digest);
    output::write(line.as_bytes(), None)
}
