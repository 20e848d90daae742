//! `layersift attest`.

mod attached;
mod attested;
mod images;
pub(super) mod keys;
mod pkcs11;
pub(super) mod repository;
mod signed;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Args;
use jiff::Timestamp;

use super::args::{
    FingerprintKeyArgs, PolicyArgs, QuietArgs, RegistryArgs, RulesArgs, StoreArgs, TargetArgs, ThreadsArgs, TimeoutArgs,
};
use super::deadline::Deadline;
use super::formats::{TextOrJson, parser};
use super::read::Reading;
use super::saved::SavedReports;
use super::{context, output};
use attached::{Attached, attach_all};
use attested::{Attested, Signed, Stamping, write_requests};
use images::{Image, by_digest, local_images, registry_images};
use keys::PasswordArgs;
use layersift_attest::predicate::{Failing, ScanResult};
use layersift_format::platform::Choice;
use layersift_model::{Digest, ImageReport, Verdict};
use layersift_report::Policy;
use layersift_source::Target;
use repository::RegistryImage;

const PLATFORM: &str = "Platform to scan and attest: OS/ARCH[/VARIANT], or all [default: all]";

#[derive(Debug, Args)]
#[command(mut_arg("platform", |arg| arg.help(PLATFORM)))]
pub(crate) struct AttestArgs {
    #[command(flatten)]
    target: TargetArgs,

    /// Private key: a PEM file, such as of `layersift generate-key` or `cosign generate-key-pair`, or a PKCS#11 URI
    ///
    /// pkcs11:token=TOKEN;object=LABEL?module-path=FILE names a key on P-256 or of RSA in a token.
    #[arg(long, value_name = "FILE|URI", required_unless_present = "signed")]
    key: Option<String>,

    #[command(flatten)]
    password: PasswordArgs,

    /// JSON report of `layersift scan` to attest, instead of a new scan; may be repeated
    #[arg(long, value_name = "FILE")]
    report: Vec<PathBuf>,

    /// Attach it also to an image that fails or was not read as a whole, under another predicate type
    #[arg(long)]
    attach_failing: bool,

    /// Attach the attestations in this file, which `-o` wrote, instead of signing new ones
    #[arg(long, value_name = "FILE", requires = "public_key", conflicts_with_all = ["key", "report"])]
    signed: Option<PathBuf>,

    /// With --signed: PEM file with the public key that has to have signed
    #[arg(long, value_name = "FILE", requires = "signed")]
    public_key: Option<PathBuf>,

    /// Have each attestation stamped by the time stamp authority at this URL (RFC 3161)
    #[arg(long, value_name = "URL", group = "stamping", requires = "timestamp_authorities")]
    timestamp: Option<String>,

    /// With -o: write a request for each time stamp to this new directory, for an authority to answer
    #[arg(long, value_name = "DIRECTORY", requires = "output", conflicts_with_all = ["stamping", "signed"])]
    timestamp_requests: Option<PathBuf>,

    /// With --signed: answer of a time stamp authority to such a request; may be repeated, in any order
    #[arg(long, value_name = "FILE", group = "stamping", requires = "timestamp_authorities", requires = "signed")]
    timestamp_token: Vec<PathBuf>,

    /// PEM file with time stamp authorities, one of which has to have stamped
    #[arg(long, value_name = "FILE", requires = "stamping")]
    timestamp_authorities: Option<PathBuf>,

    /// Write the attestations to this file, a bundle a line, and attach nothing
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Format of what is printed
    #[arg(long, value_name = "FORMAT", value_parser = parser::<TextOrJson>(), default_value = "text")]
    format: TextOrJson,

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
    if let Some(path) = &args.signed {
        return signed::run(args, path);
    }
    // Mistakes are reported before the scan, which may take a while.
    args.timeout.begin();
    let key = keys::signer(args.key.as_deref().context("--key is needed")?, &args.password)?;
    // Begun again: a password may have been typed.
    let deadline = args.timeout.begin();
    let cancellation = deadline.cancellation();
    let stamping = Stamping::new(args, cancellation.clone())?;
    let policy = context::policy(&args.policy)?;
    let options = context::registry_options(&args.registry, &cancellation)?;
    let target = args.target.parse()?;
    let remote = RegistryImage::open(&target, options, &cancellation)?;
    check_place(args, &target, remote.as_ref())?;
    let results = by_digest(results(args, &policy, remote.as_ref(), deadline)?)?;
    let images = match &remote {
        Some(remote) => registry_images(remote, &results)?,
        None => local_images(&results),
    };
    ensure!(!images.is_empty(), "{}: no report is of this image", target.text);
    if remote.as_ref().is_some_and(|remote| images.iter().all(|image| image.subject.digest != remote.root.digest)) {
        output::warn(["the index is not attested, because not all of its platforms have a report"]);
    }
    let verdict = verdict(&images);
    if verdict != Verdict::Pass && !args.attach_failing {
        let why = match policy.fail_on {
            Some(_) => format!("the verdict is {}", verdict.name()),
            None => "nothing can fail with --fail-on none, which is not a pass".into(),
        };
        output::warn([format!("nothing is attested, because {why}; pass --attach-failing to attest that")]);
        return finish(args, None, &[], verdict);
    }
    let name = remote.as_ref().map(|remote| remote.name());
    let mut signed = Vec::new();
    for image in &images {
        let statements = image.result.statements(name.as_deref(), &image.subject.digest, Failing::Attest)?;
        let attested = statements.iter().map(|statement| {
            let mut attested = Attested::sign(statement, &*key)?;
            stamping.as_ref().map_or(Ok(()), |stamping| attested.stamp(stamping))?;
            anyhow::Ok(attested)
        });
        signed.push(Signed { subject: &image.subject, of: attested.collect::<Result<_, _>>()? });
    }
    finish(args, remote.as_ref(), &signed, verdict)
}

/// The worst verdict. An image that does not pass is at least not known to.
fn verdict(images: &[Image]) -> Verdict {
    let of_image = |image: &Image| match image.result.passes() {
        true => Verdict::Pass,
        false => image.result.verdict.max(Verdict::Incomplete),
    };
    images.iter().map(of_image).max().unwrap_or(Verdict::Incomplete)
}

/// Refuses an image that nothing can be attached to.
fn check_place(args: &AttestArgs, target: &Target, remote: Option<&RegistryImage>) -> anyhow::Result<()> {
    ensure!(
        remote.is_some() || args.output.is_some(),
        "{}: only images of a registry can have attestations attached; pass -o FILE to write them",
        target.text
    );
    Ok(())
}

/// Attaches all, or writes it to a file, and says so. The exit status is the verdict.
fn finish(
    args: &AttestArgs,
    remote: Option<&RegistryImage>,
    signed: &[Signed<'_>],
    verdict: Verdict,
) -> anyhow::Result<ExitCode> {
    let attached: Vec<Attached> = match (&args.output, remote) {
        (None, Some(remote)) => attach_all(&remote.repository, signed)?,
        (Some(path), _) if !signed.is_empty() => {
            write(path, signed)?;
            Vec::new()
        }
        _ => Vec::new(),
    };
    let all = signed.iter().flat_map(|signed| &signed.of);
    let requests = args.timestamp_requests.as_ref().filter(|_| !signed.is_empty());
    requests.map_or(Ok(()), |directory| write_requests(directory, all))?;
    match args.format {
        TextOrJson::Text => output::write(attached::text(&attached).as_bytes(), None)?,
        TextOrJson::Json => output::write(&attached::json(signed, &attached, verdict)?, None)?,
    }
    Ok(ExitCode::from(verdict.exit_code()))
}

/// Writes bundles to a file, a line each.
fn write(path: &Path, signed: &[Signed<'_>]) -> anyhow::Result<()> {
    let mut text = String::new();
    for attested in signed.iter().flat_map(|signed| &signed.of) {
        text.push_str(&(attested.bundle.to_json()? + "\n"));
    }
    // Nothing is written over, and no link is followed.
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// The results of the images that the reports are of, by the digests of their manifests.
fn results(
    args: &AttestArgs,
    policy: &Policy,
    remote: Option<&RegistryImage>,
    deadline: Deadline,
) -> anyhow::Result<Vec<(Digest, ScanResult)>> {
    let mut reports = if args.report.is_empty() { scan(args, remote, deadline)? } else { read(&args.report)? };
    let now = Timestamp::now();
    let mut results = Vec::new();
    for report in &mut reports {
        ensure!(
            !report.without_referrers,
            "{}: it was scanned with --no-referrers, and an attestation is about what refers to the image as well",
            report.target
        );
        policy.judge(report);
        let digest = report.manifest_digest.clone();
        let digest = digest.with_context(|| format!("{}: the image has no manifest to attest", report.target))?;
        results.push((digest, ScanResult::of(report, now)?));
    }
    Ok(results)
}

fn scan(args: &AttestArgs, remote: Option<&RegistryImage>, deadline: Deadline) -> anyhow::Result<Vec<ImageReport>> {
    // The tag may move meanwhile.
    let target = remote.map_or_else(|| args.target.target.clone(), |remote| RegistryImage::target(remote).into());
    let platform = args.target.platform.clone().unwrap_or(Choice::All);
    let ruleset = context::ruleset(&args.rules.rules)?;
    let key = context::fingerprint_key(&args.fingerprint_key)?;
    let analyzer = context::analyzer(ruleset, key, args.threads.threads)?;
    let reading = Reading {
        target: &TargetArgs { target, all: false, platform: Some(platform) },
        build: None,
        with_referrers: true,
        registry: &args.registry,
        quiet: &args.quiet,
        store: args.store.name(),
        timeout: deadline.left(),
    };
    reading.scan(analyzer)
}

fn read(paths: &[PathBuf]) -> anyhow::Result<Vec<ImageReport>> {
    let mut saved = SavedReports::new();
    let mut reports = Vec::new();
    for path in paths {
        reports.extend(saved.file(path)?);
    }
    Ok(reports)
}
