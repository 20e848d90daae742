//! `layersift attest --signed`: attaches what was signed before.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};

use super::attested::{Attested, Signed, Stamping};
use super::keys::public_key;
use super::repository::RegistryImage;
use super::{AttestArgs, finish};
use crate::cli::{context, input_file, output};
use layersift_attest::keys::PublicKey;
use layersift_attest::predicate::{NOT_PASSED, PASSED, SUMMARY, ScanResult};
use layersift_attest::{Bundle, Descriptor, MANIFEST, Statement};
use layersift_format::platform::Choice;
use layersift_format::{Opened, manifest};
use layersift_model::{Digest, Limits, Verdict};
use layersift_source::{Target, open};

/// The most bytes of a file of attestations.
const MOST_BYTES: u64 = 256 << 20;

/// A statement that was signed before, and what it is about.
struct Known {
    subject: Digest,
    attested: Attested,
    /// The verdict, unless it is a summary.
    verdict: Option<Verdict>,
}

/// Attaches the attestations in the file `path`, or writes them with their time stamps. The exit status is the verdict.
pub(super) fn run(args: &AttestArgs, path: &Path) -> anyhow::Result<ExitCode> {
    let cancellation = args.timeout.begin().cancellation();
    let stamping = Stamping::new(args, cancellation.clone())?;
    let key = args.public_key.as_deref().context("--public-key is needed")?;
    let mut known = read(path, &public_key(key)?)?;
    let worst = known.iter().filter_map(|known| known.verdict).max().unwrap_or(Verdict::Pass);
    if worst != Verdict::Pass && !args.attach_failing {
        output::warn([format!(
            "nothing is attached, because the verdict is {}; pass --attach-failing to attach that",
            worst.name()
        )]);
        return finish(args, None, &[], worst);
    }
    let options = context::registry_options(&args.registry, &cancellation)?;
    let target = args.target.parse()?;
    let remote = RegistryImage::open(&target, options.clone(), &cancellation)?;
    super::check_place(args, &target, remote.as_ref())?;
    let subjects = match &remote {
        Some(remote) => std::iter::once(&remote.root).chain(remote.platform_subjects()).cloned().collect(),
        None => local_subjects(&target, &options)?,
    };
    for known in &mut known {
        let is_of_image = subjects.iter().any(|subject| subject.digest == known.subject);
        ensure!(is_of_image, "{}: {} is not an image of {}", path.display(), known.subject, target.text);
        stamping.as_ref().map(|stamping| known.attested.stamp(stamping)).transpose()?;
    }
    stamping.as_ref().map_or(Ok(()), Stamping::check_all_used)?;
    let mut signed: Vec<Signed<'_>> = Vec::new();
    for subject in &subjects {
        let (of, others): (Vec<Known>, _) = known.into_iter().partition(|known| known.subject == subject.digest);
        known = others;
        if !of.is_empty() {
            signed.push(Signed { subject, of: of.into_iter().map(|known| known.attested).collect() });
        }
    }
    finish(args, remote.as_ref(), &signed, worst)
}

/// The attestations in a file, a bundle a line, all by `key` and all as this program makes them.
fn read(path: &Path, key: &PublicKey) -> anyhow::Result<Vec<Known>> {
    let failed = || format!("cannot read {}", path.display());
    let text = String::from_utf8(input_file::read_up_to(path, MOST_BYTES)?).with_context(failed)?;
    let mut all = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.is_empty()) {
        all.push(parse(line, key).with_context(|| format!("{}, line {number}", path.display()))?);
    }
    ensure!(!all.is_empty(), "{}: the file has no attestation", path.display());
    Ok(all)
}

fn parse(line: &str, key: &PublicKey) -> anyhow::Result<Known> {
    let bundle = Bundle::parse(line.as_bytes())?;
    ensure!(bundle.envelope.is_signed_by(key), "the attestation is not signed by the key of --public-key");
    let statement = bundle.envelope.statement()?;
    let verdict = verdict(&statement)?;
    let [subject] = statement.subjects() else { bail!("the attestation is about several images") };
    let digest = subject.digests.get("sha256").context("the attestation names no SHA-256 digest")?;
    let subject = format!("sha256:{digest}").parse()?;
    Ok(Known { subject, attested: Attested::of(&statement, bundle), verdict })
}

/// What a statement says of the image, if it is of one of the types that this program makes.
fn verdict(statement: &Statement) -> anyhow::Result<Option<Verdict>> {
    let kind = statement.predicate_type();
    if kind == SUMMARY {
        return Ok(None);
    }
    ensure!([PASSED, NOT_PASSED].contains(&kind), "the predicate type is `{kind}`, which attest does not make");
    let result: ScanResult = statement.predicate_as()?;
    ensure!(result.predicate_type() == kind, "the verdict of the attestation contradicts its predicate type");
    Ok(Some(if result.passes() { Verdict::Pass } else { result.verdict.max(Verdict::Incomplete) }))
}

/// The manifests of an image that is not one of a registry.
fn local_subjects(
    target: &Target,
    options: &layersift_source::registry::RegistryOptions,
) -> anyhow::Result<Vec<Descriptor>> {
    let limits = Limits::default();
    let Opened::Source(source) = open(target, &limits, options)? else {
        bail!("{}: the target can be read only once: save it to a file that is not compressed", target.text);
    };
    let images = manifest::images(&*source, &Choice::All, &limits)?;
    let digests = images.into_iter().filter_map(|image| image.manifest_digest);
    Ok(digests.map(|digest| Descriptor { digest, ..Descriptor::of(MANIFEST, b"") }).collect())
}
