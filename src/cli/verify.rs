//! `layersift verify`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use jiff::{SignedDuration, Timestamp};

use super::args::{RegistryArgs, TimeoutArgs};
use super::attest::keys::public_key;
use super::attest::repository::RegistryImage;
use super::{context, output, values};
use crate::cli::input_file;
use layersift_attest::registry::collect;
use layersift_attest::timestamp::Authorities;
use layersift_attest::{Accepted, Demands, Descriptor, Evidence, Verification, verify};
use layersift_format::Cancellation;
use layersift_format::platform::{Choice, Platform};
use layersift_model::Digest;
use layersift_report::clean;
use layersift_source::Target;

/// The longest reason that is printed.
const WIDTH: usize = 400;

#[derive(Debug, Args)]
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

    /// Policy file that the image has to be judged by
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

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
    timeout: TimeoutArgs,

    #[command(flatten)]
    registry: RegistryArgs,
}

pub(crate) fn run(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let demands = demands(args)?;
    let now = Timestamp::now();
    let mut is_accepted = true;
    let mut decide = |subject: &Digest, evidence: &Evidence| -> anyhow::Result<()> {
        let verification = verify(evidence, subject, &demands, now);
        is_accepted &= verification.is_accepted();
        output::write(text(subject, &verification).as_bytes(), None)
    };
    if let Some(path) = &args.bundle {
        let subject: Digest = args.image.parse().context("with --bundle, the image is named by its digest")?;
        let text = input_file::read_text(path)?;
        let mut evidence = Evidence::default();
        text.lines().filter(|line| !line.is_empty()).for_each(|line| evidence.add_bundle(line.as_bytes()));
        decide(&subject, &evidence)?;
    } else {
        let image = open(args)?;
        for subject in subjects(&image, args.platform.as_ref())? {
            decide(&subject.digest, &collect(&image.repository, &subject.digest)?)?;
        }
    }
    Ok(ExitCode::from(u8::from(!is_accepted)))
}

fn open(args: &VerifyArgs) -> anyhow::Result<RegistryImage> {
    let cancellation = args.timeout.timeout.map_or_else(Cancellation::never, Cancellation::with_deadline);
    let target = Target::parse(&args.image)?;
    let options = context::registry_options(&args.registry, &cancellation)?;
    let image = RegistryImage::open(&target, options, &cancellation)?;
    image.with_context(|| format!("{}: only images of a registry have attestations; or pass --bundle", target.text))
}

fn demands(args: &VerifyArgs) -> anyhow::Result<Demands> {
    let read = |path: &PathBuf| input_file::read_text(path);
    let authorities = args.timestamp_authorities.as_ref().map(read).transpose()?;
    let policy = args.policy.as_ref().map(read).transpose()?;
    Ok(Demands {
        keys: args.key.iter().map(|path| public_key(path)).collect::<Result<_, _>>()?,
        rulesets: args.ruleset.iter().cloned().collect(),
        policy: policy.map(|text| Digest::of(text.as_bytes())),
        most_age: args.max_age.map(SignedDuration::try_from).transpose()?,
        authorities: authorities.map(|text| Authorities::from_pem(&text)).transpose()?,
        stored: None,
    })
}

/// What has to be attested: the index and its platforms, or the only manifest.
fn subjects(image: &RegistryImage, platform: Option<&Choice>) -> anyhow::Result<Vec<Descriptor>> {
    let mut subjects = vec![image.root.clone()];
    let Some(platforms) = &image.platforms else { return Ok(subjects) };
    let wanted = match platform {
        Some(Choice::One(platform)) => Some(platform.clone()),
        Some(Choice::Default) => Some(Platform::host()),
        Some(Choice::All) | None => None,
    };
    let is_wanted =
        |entry: &&Descriptor| wanted.as_ref().is_none_or(|wanted| platform_of(entry).as_ref() == Some(wanted));
    subjects.extend(platforms.iter().filter(is_wanted).cloned());
    ensure!(subjects.len() > 1, "{}: the index has no such platform", image.name());
    Ok(subjects)
}

fn platform_of(entry: &Descriptor) -> Option<Platform> {
    let platform = entry.other.get("platform")?;
    let field = |name: &str| platform.get(name).and_then(|value| value.as_str()).unwrap_or_default();
    Some(Platform::new(field("os"), field("architecture"), field("variant")))
}

/// The decision for people.
fn text(subject: &Digest, verification: &Verification) -> String {
    let mut text = match &verification.accepted {
        Some(Accepted { result, .. }) => {
            let version = clean(&result.scanner.version, WIDTH);
            format!("{subject}: accepted: scanned at {} by layersift {version}\n", result.scanned_at)
        }
        None => format!("{subject}: refused\n"),
    };
    if !verification.is_accepted() {
        for refusal in &verification.refusals {
            text.push_str(&format!("  {}\n", clean(&refusal.full_text(), WIDTH)));
        }
    }
    text
}
