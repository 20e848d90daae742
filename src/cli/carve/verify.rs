//! `layersift carve --verify`: checks a bundle against itself, its signature and timestamp, and the image.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use super::{CarveArgs, open};
use crate::cli::attest::keys::public_key;
use crate::cli::{output, stamp};
use layersift_evidence::{Verification, again, verify};
use layersift_model::Verdict;
use layersift_report::{clean, plural};

/// The longest fault that is printed.
const WIDTH: usize = 400;

/// Checks a bundle. Exit status 1 for one that was changed, 3 where a signature or a timestamp was not checked.
pub(super) fn run(args: &CarveArgs, bundle: &Path) -> anyhow::Result<ExitCode> {
    let verification = verify(bundle)?;
    let mut faults = verification.faults.clone();
    let mut unchecked = Vec::new();
    signature(args, &verification, &mut faults, &mut unchecked)?;
    timestamp(args, &verification, &mut faults, &mut unchecked)?;
    match &args.target {
        // A manifest that was changed does not say what to look for.
        Some(target) if verification.faults.is_empty() => image(args, target, &verification, &mut faults)?,
        Some(_) => {}
        None => unchecked.push("the image: name it to compare the files with it".into()),
    }
    write(bundle, &verification, &faults, &unchecked)?;
    let is_sealed_unchecked = unchecked.iter().any(|what| !what.starts_with("the image"));
    Ok(ExitCode::from(match (faults.is_empty(), is_sealed_unchecked) {
        (false, _) => Verdict::Fail.exit_code(),
        (true, true) => Verdict::Incomplete.exit_code(),
        (true, false) => Verdict::Pass.exit_code(),
    }))
}

fn signature(
    args: &CarveArgs,
    verification: &Verification,
    faults: &mut Vec<String>,
    unchecked: &mut Vec<String>,
) -> anyhow::Result<()> {
    match (&args.public_key, &verification.signature) {
        (Some(path), Some(signature)) => {
            if !public_key(path)?.verifies(&verification.seal, signature) {
                faults.push(format!("seal.sig is no signature of the seal by {}", path.display()));
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
        let token = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
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

/// Takes every artifact out of the image again.
fn image(args: &CarveArgs, target: &str, verification: &Verification, faults: &mut Vec<String>) -> anyhow::Result<()> {
    let (manifest, opened) = (&verification.manifest, open(args, target)?);
    let source = &manifest.source;
    let is_same = |image: &&layersift_format::manifest::Image| {
        (&image.manifest_digest, &image.config_digest) == (&source.manifest_digest, &source.config_digest)
    };
    let Some(image) = opened.images.iter().find(is_same) else {
        faults.push("the target is another image: its manifest or configuration has another digest".into());
        return Ok(());
    };
    let layers: BTreeSet<usize> = manifest.artifacts.iter().filter_map(|artifact| artifact.layer).collect();
    for layer in layers {
        let open = || opened.layer(image, layer).map_err(|error| io::Error::other(format!("{error:#}")));
        faults.extend(again(manifest, layer, open)?);
    }
    for artifact in manifest.artifacts.iter().filter(|artifact| artifact.layer.is_none()) {
        let Some(digest) = &artifact.digest else { continue };
        if let Err(error) = opened.document(image, digest) {
            faults.push(format!("{}: {error:#}", artifact.file));
        }
    }
    Ok(())
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
