//! `layersift carve --verify`: checks a bundle against itself, its signature and timestamp, and the image.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::select::Selection;
use super::{CarveArgs, WIDTH, open, reports, tool};
use crate::cli::attest::keys::public_key;
use crate::cli::deadline::Deadline;
use crate::cli::formats::TextOrJson;
use crate::cli::{context, input_file, output, stamp};
use layersift_evidence::{Carver, EvidenceError, Manifest, Source, Verification, differences, verify_until};
use layersift_format::SourceError;
use layersift_format::manifest::Image;
use layersift_model::{Digest, ImageReport, Location, Verdict};
use layersift_report::{clean, plural};

/// Checks a bundle. Exit status 1 for one that was changed, 3 where a signature or a timestamp was not checked.
pub(super) fn run(args: &CarveArgs, bundle: &Path) -> anyhow::Result<ExitCode> {
    let deadline = args.timeout.begin();
    let verification = verify_until(bundle, &deadline.cancellation())?;
    let mut faults = verification.faults.clone();
    let mut unchecked = Vec::new();
    signature(args, &verification, &mut faults, &mut unchecked)?;
    timestamp(args, &verification, &mut faults, &mut unchecked)?;
    match &args.target {
        // A manifest that was changed does not say what to look for.
        Some(target) if verification.faults.is_empty() => {
            image(args, (target, deadline), &verification.manifest, &mut faults, &mut unchecked)?;
        }
        Some(_) => {}
        None => unchecked.push("the image: name it to compare the files with it".into()),
    }
    let left_out = verification.manifest.left_out.len() as u64;
    if left_out > 0 {
        unchecked.push(format!("{} that the bundle had no room for", plural(left_out, "file")));
    }
    let is_sealed_unchecked = unchecked.iter().any(|what| !what.starts_with("the image:"));
    let verdict = match (faults.is_empty(), is_sealed_unchecked) {
        (false, _) => Verdict::Fail,
        (true, true) => Verdict::Incomplete,
        (true, false) => Verdict::Pass,
    };
    match args.format {
        TextOrJson::Text => write(bundle, &verification, &faults, &unchecked)?,
        TextOrJson::Json => {
            let said = json!({
                "schema": super::SCHEMA,
                "bundle": bundle.display().to_string(),
                "verdict": verdict.name(),
                "seal": Digest::of(&verification.seal).to_string(),
                "artifacts": verification.manifest.artifacts.len(),
                "faults": faults,
                "unchecked": unchecked,
            });
            output::write(output::pretty(&said)?.as_bytes(), None)?;
        }
    }
    Ok(ExitCode::from(verdict.exit_code()))
}

fn signature(
    args: &CarveArgs,
    verification: &Verification,
    faults: &mut Vec<String>,
    unchecked: &mut Vec<String>,
) -> anyhow::Result<()> {
    match (&args.public_key, &verification.signature) {
        (Some(path), Some(signature)) => {
            let key = public_key(path)?;
            if !key.verifies(&verification.seal, signature) {
                faults.push(format!("seal.sig is no signature of the seal by {}", path.display()));
            }
            // A bundle of an older version does not name its key.
            if verification.manifest.signed_by.as_ref().is_some_and(|signed_by| *signed_by != key.fingerprint()) {
                faults.push(format!("the manifest names another key than {}", path.display()));
            }
        }
        (Some(_), None) => faults.push("the bundle is not signed".into()),
        (None, Some(_)) => unchecked.push("the signature: name its key with --public-key".into()),
        (None, None) => {}
    }
    Ok(())
}

fn timestamp(
    args: &CarveArgs,
    verification: &Verification,
    faults: &mut Vec<String>,
    unchecked: &mut Vec<String>,
) -> anyhow::Result<()> {
    let token = args.timestamp_token.as_ref().map(|path| {
        let token = input_file::read(path)?;
        anyhow::Ok((path.display().to_string(), token))
    });
    let kept = || verification.timestamp.clone().map(|response| ("seal.tsr".into(), response));
    let response: Option<(String, Vec<u8>)> = token.transpose()?.or_else(kept);
    match (&args.timestamp_authorities, &response) {
        (Some(path), Some((name, response))) => {
            if let Err(error) = stamp::authorities(path)?.verify(response, &verification.seal) {
                faults.push(format!("{name} is no timestamp of the seal: {error}"));
            }
        }
        (Some(_), None) => faults.push("the bundle has no timestamp".into()),
        (None, Some(_)) => unchecked.push("the timestamp: name its authority with --timestamp-authorities".into()),
        (None, None) => {}
    }
    Ok(())
}

/// Takes all of it out of the image again, as `carve` does, and compares what that gives with the manifest.
fn image(
    args: &CarveArgs,
    (target, deadline): (&str, Deadline),
    said: &Manifest,
    faults: &mut Vec<String>,
    unchecked: &mut Vec<String>,
) -> anyhow::Result<()> {
    let opened = open(args, target, deadline)?;
    let source = &said.source;
    let is_same = |image: &&Image| {
        (&image.manifest_digest, &image.config_digest) == (&source.manifest_digest, &source.config_digest)
    };
    let Some(image) = opened.images.iter().find(is_same) else {
        faults.push("the target is another image: its manifest or configuration has another digest".into());
        return Ok(());
    };
    let found = super::named(args, target, image)?;
    if found.reference != source.reference {
        let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "nothing".into());
        let (said, found) = (name(&source.reference), name(&found.reference));
        unchecked.push(format!("the name: the bundle calls the image {said}, and the target {found}"));
    }
    if found.platform != source.platform {
        faults.push("the bundle has another platform than the target".into());
    }
    let ids: BTreeSet<&str> =
        said.artifacts.iter().flat_map(|artifact| &artifact.findings).map(|found| &found.id[..]).collect();
    let key = context::fingerprint_key(&args.fingerprint_key)?;
    let reports = match ids.is_empty() || said.tool.fingerprint_key != Some(key.id()) {
        true => Vec::new(),
        false => reports(args, target, key.clone(), deadline)?,
    };
    let of_image = |report: &&ImageReport| {
        (&report.manifest_digest, &report.config_digest) == (&image.manifest_digest, &image.config_digest)
    };
    let report = reports.iter().find(of_image);
    let is_same_tool = said.tool == tool(report, &key);
    if !is_same_tool {
        let what = "the findings: the bundle was made by another version, with other rules or another fingerprint key";
        unchecked.push(what.into());
    }
    let in_files =
        report.map(|report| report.findings.iter().filter(|finding| !matches!(finding.location, Location::Image)));
    let known: BTreeSet<&str> = in_files.into_iter().flatten().map(|finding| &finding.id[..]).collect();
    let wanted: BTreeSet<&str> = ids.intersection(&known).copied().collect();
    if is_same_tool {
        faults.extend(ids.difference(&known).map(|id| format!("the image has no finding {id}")));
    }
    let selection = match report.filter(|_| is_same_tool && !wanted.is_empty()) {
        None => Selection::of_artifacts(image, &said.artifacts),
        Some(report) => Selection::of_findings(&opened, std::slice::from_ref(report), &wanted)?,
    };
    let mut carver = Carver::again().cancelled_by(deadline.cancellation());
    // The names were compared above: the target may have others, and its digests are those of the bundle.
    let (reference, platform) = (source.reference.clone(), source.platform.clone());
    carver.describe(said.tool.clone(), Vec::new(), Source { reference, platform, ..found }, key);
    match selection.carve(&opened, &mut carver) {
        Ok(()) => faults.extend(differences(said, carver.manifest(), is_same_tool)),
        Err(error) if is_of_reading(&error) => return Err(error),
        // What cannot be taken out of the image because it does not have it is no evidence of it.
        Err(error) => faults.push(format!("the image does not have all of it: {error:#}")),
    }
    Ok(())
}

/// Whether the target could not be read, so that nothing is known about the bundle.
fn is_of_reading(error: &anyhow::Error) -> bool {
    let is = |error: &(dyn std::error::Error + 'static)| {
        error.is::<SourceError>() || matches!(error.downcast_ref(), Some(EvidenceError::Blob { .. }))
    };
    error.chain().any(is)
}

fn write(bundle: &Path, verification: &Verification, faults: &[String], unchecked: &[String]) -> anyhow::Result<()> {
    let artifacts = plural(verification.manifest.artifacts.len() as u64, "artifact");
    let outcome = if faults.is_empty() { "as it was written" } else { "CHANGED" };
    let mut text = format!("{}: {outcome}: {artifacts}\n", bundle.display());
    for fault in faults {
        text += &format!("  {}\n", clean(fault, WIDTH));
    }
    for what in unchecked {
        text += &format!("  not checked: {}\n", clean(what, WIDTH));
    }
    output::write(text.as_bytes(), None)
}
