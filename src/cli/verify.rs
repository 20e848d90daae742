//! `layersift verify`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::args::{PolicyArgs, RegistryArgs, TimeoutArgs};
use super::attest::keys::public_key;
use super::attest::repository::{PlatformManifest, RegistryImage};
use super::deadline::Deadline;
use super::formats::{OutputArgs, TextOrJson};
use super::{context, output, values};
use crate::cli::input_file;
use layersift_attest::registry::collect;
use layersift_attest::timestamp::Authorities;
use layersift_attest::{Accepted, Demands, Evidence, JudgementDemand, Verification, verify};
use layersift_format::platform::{Choice, Platform};
use layersift_model::{Digest, Verdict};
use layersift_report::clean;
use layersift_source::Target;

/// The longest reason that is printed.
const WIDTH: usize = 400;

/// The version of the form of the JSON.
const SCHEMA: u32 = 1;

const FAIL_ON: &str = "Severity that the image has to have failed on, or a lower one [default: the policy's]";
const POLICY: &str = "Policy file that the image has to have been judged by, with its own severity and no baseline";
const BASELINE: &str = "Baseline that the image has to have been judged with [default: none]";

#[derive(Debug, Args)]
#[command(mut_arg("fail_on", |arg| arg.help(FAIL_ON)))]
#[command(mut_arg("policy", |arg| arg.help(POLICY).long_help(None)))]
#[command(mut_arg("baseline", |arg| arg.help(BASELINE)))]
pub(crate) struct VerifyArgs {
    /// Image of a registry: docker://[HOST/]NAME[:TAG][@DIGEST]; with --bundle, its digest
    image: String,

    /// Public key, one of which has to have signed: a PEM file; may be repeated
    #[arg(long, required = true, value_name = "FILE")]
    key: Vec<PathBuf>,

    /// Longest time since the scan, such as 7d
    #[arg(long, value_name = "DURATION", value_parser = values::timeout)]
    max_age: Option<Duration>,

    /// Rule set that the image has to be scanned with, as reports have it in `tool.ruleset`
    #[arg(long, value_name = "DIGEST")]
    ruleset: Option<String>,

    #[command(flatten)]
    policy: PolicyArgs,

    /// PEM file with time stamp authorities, one of which has to have stamped the signature
    #[arg(long, value_name = "FILE")]
    timestamp_authorities: Option<PathBuf>,

    /// Verify the index and this platform only: OS/ARCH[/VARIANT] [default: all platforms]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Choice>,

    /// Take the attestations from this file, as `layersift attest -o` writes it, and ask no registry
    #[arg(long, value_name = "FILE", conflicts_with = "platform")]
    bundle: Option<PathBuf>,

    #[command(flatten)]
    output: OutputArgs<TextOrJson>,

    #[command(flatten)]
    timeout: TimeoutArgs,

    #[command(flatten)]
    registry: RegistryArgs,
}

/// Decides about the image and its platforms. The exit status is the worst verdict.
pub(crate) fn run(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    // Files may be pipes, and what the registry leaves of the time is for the output.
    let deadline = args.timeout.begin();
    let demands = demands(args)?;
    let now = Timestamp::now();
    let mut decided: Vec<(Digest, Verification)> = Vec::new();
    let mut decide = |subject: Digest, evidence: &Evidence| {
        let verification = verify(evidence, &subject, &demands, now);
        decided.push((subject, verification));
    };
    if let Some(path) = &args.bundle {
        let subject: Digest = args.image.parse().context("with --bundle, the image is named by its digest")?;
        let text = input_file::read_text(path)?;
        let mut evidence = Evidence::default();
        text.lines().filter(|line| !line.is_empty()).for_each(|line| evidence.add_bundle(line.as_bytes()));
        decide(subject, &evidence);
    } else {
        let image = open(args, deadline)?;
        for subject in subjects(&image, args.platform.as_ref())? {
            let evidence = collect(&image.repository, &subject)?;
            decide(subject, &evidence);
        }
    }
    let verdict = decided.iter().map(|(_, verification)| verification.verdict()).max().unwrap_or(Verdict::Fail);
    let file = args.output.output.as_deref();
    match args.output.format {
        TextOrJson::Text => {
            let text: String = decided.iter().map(|(subject, verification)| text(subject, verification)).collect();
            output::write(text.as_bytes(), file)?;
        }
        TextOrJson::Json => output::write(&document(&decided, verdict)?, file)?,
    }
    Ok(ExitCode::from(verdict.exit_code()))
}

fn open(args: &VerifyArgs, deadline: Deadline) -> anyhow::Result<RegistryImage> {
    let cancellation = deadline.cancellation();
    let target = Target::parse(&args.image)?;
    let options = context::registry_options(&args.registry, &cancellation)?;
    let image = RegistryImage::open(&target, options, &cancellation)?;
    image.with_context(|| format!("{}: only images of a registry have attestations; or pass --bundle", target.text))
}

fn demands(args: &VerifyArgs) -> anyhow::Result<Demands> {
    let read = |path: &PathBuf| input_file::read_text(path);
    let authorities = args.timestamp_authorities.as_ref().map(read).transpose()?;
    let policy = context::policy(&args.policy)?;
    let baseline = policy.baseline.as_ref().map(|baseline| baseline.digest().clone());
    Ok(Demands {
        keys: args.key.iter().map(|path| public_key(path)).collect::<Result<_, _>>()?,
        rulesets: args.ruleset.iter().cloned().collect(),
        judgement: Some(JudgementDemand { policy: policy.digest, fail_on: policy.fail_on, baseline }),
        most_age: args.max_age.map(SignedDuration::try_from).transpose()?,
        authorities: authorities.map(|text| Authorities::from_pem(&text)).transpose()?,
        stored: None,
    })
}

/// What has to be attested: the index and its platforms, or the only manifest.
fn subjects(image: &RegistryImage, platform: Option<&Choice>) -> anyhow::Result<Vec<Digest>> {
    let wanted = match platform {
        Some(Choice::One(platform)) => Some(platform.clone()),
        Some(Choice::Default) => Some(Platform::host()),
        Some(Choice::All) | None => None,
    };
    let mut subjects = vec![image.root.digest.clone()];
    let Some(platforms) = &image.platforms else {
        if let Some(wanted) = wanted {
            let found = image.platform()?;
            let name = || found.as_ref().map_or_else(|| "no platform".into(), Platform::to_string);
            ensure!(found.as_ref() == Some(&wanted), "{}: the image is for {}, not {wanted}", image.name(), name());
        }
        return Ok(subjects);
    };
    let is_wanted = |entry: &&PlatformManifest| wanted.as_ref().is_none_or(|wanted| entry.platforms.contains(wanted));
    subjects.extend(platforms.iter().filter(is_wanted).map(|entry| entry.subject.digest.clone()));
    ensure!(subjects.len() > 1, "{}: the index has no such platform", image.name());
    Ok(subjects)
}

/// The decision for people.
fn text(subject: &Digest, verification: &Verification) -> String {
    let mut text = match &verification.accepted {
        Some(Accepted { result, .. }) => {
            let version = clean(&result.scanner.version, WIDTH);
            format!("{subject}: accepted: scanned at {} by layersift {version}\n", result.scanned_at)
        }
        None if verification.verdict() == Verdict::Incomplete => format!("{subject}: not decided\n"),
        None => format!("{subject}: refused\n"),
    };
    if !verification.is_accepted() {
        for refusal in &verification.refusals {
            text.push_str(&format!("  {}\n", clean(&refusal.full_text(), WIDTH)));
        }
    }
    text
}

/// The decision for programs.
fn document(decided: &[(Digest, Verification)], verdict: Verdict) -> anyhow::Result<Vec<u8>> {
    let image = |(subject, verification): &(Digest, Verification)| {
        let accepted = verification.accepted.as_ref().map(|accepted| {
            let Accepted { result, key, predicate_type, .. } = accepted;
            json!({ "key": key, "predicate_type": predicate_type, "result": result })
        });
        // What others attached does not matter where the image is accepted.
        let refusals = verification.refusals.iter().filter(|_| accepted.is_none());
        let reasons: Vec<String> = refusals.map(|refusal| clean(&refusal.full_text(), WIDTH)).collect();
        json!({ "digest": subject, "verdict": verification.verdict(), "accepted": accepted, "reasons": reasons })
    };
    let images: Vec<Value> = decided.iter().map(image).collect();
    let mut bytes = serde_json::to_vec_pretty(&json!({ "schema": SCHEMA, "verdict": verdict, "images": images }))?;
    bytes.push(b'\n');
    Ok(bytes)
}
