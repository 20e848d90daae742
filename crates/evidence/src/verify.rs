//! Checks a bundle against itself: its files, its manifest, its log and its seal say the same.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use layersift_format::Cancellation;
use layersift_model::{Algorithm, Digest, Hasher};

use crate::carve::name;
use crate::custody::{CustodyLog, Entry};
use crate::error::EvidenceError;
use crate::extract;
use crate::layout::Bundle;
use crate::manifest::{Artifact, ArtifactKind, Manifest, SCHEMA};
use crate::seal::{CUSTODY, MANIFEST, SEAL, SIGNATURE, SUMS, SealFile, TIMESTAMP, sums};

/// The largest file of a bundle that is not an artifact.
const MOST_BYTES: u64 = 80 << 20;

/// What a check of a bundle gave.
#[derive(Clone, Debug, Default)]
pub struct Verification {
    /// What was changed; empty for a bundle as it was written.
    pub faults: Vec<String>,
    /// What the bundle says it has.
    pub manifest: Manifest,
    /// The bytes of the seal, which the signature and the timestamp are of.
    pub seal: Vec<u8>,
    /// The signature, which is not checked here.
    pub signature: Option<Vec<u8>>,
    /// The timestamp, which is not checked here.
    pub timestamp: Option<Vec<u8>>,
}

/// Checks that a bundle is as it was written: every byte of it but those of the signature and the timestamp.
///
/// # Errors
/// [`EvidenceError`], if there is no bundle at `path`, or a file of it cannot be read.
pub fn verify(path: &Path) -> Result<Verification, EvidenceError> {
    verify_until(path, &Cancellation::never())
}

/// The same, with an error when `cancellation` is cancelled: the files of a bundle may be of any size.
///
/// # Errors
/// Those of [`verify`].
pub fn verify_until(path: &Path, cancellation: &Cancellation) -> Result<Verification, EvidenceError> {
    let bundle = Bundle::open(path)?;
    let not_a_bundle = |what: String| EvidenceError::NotABundle { path: path.into(), what };
    for file in [MANIFEST, CUSTODY, SUMS, SEAL] {
        if !bundle.has(file) {
            let strange: String = bundle.strange.iter().map(|what| format!("; {what}")).collect();
            return Err(not_a_bundle(format!("{file} is missing{strange}")));
        }
    }
    let mut faults = bundle.strange.clone();
    let bytes = bundle.read(MANIFEST, MOST_BYTES)?;
    let manifest: Manifest = match serde_json::from_slice(&bytes) {
        Ok(manifest) => manifest,
        Err(error) => {
            faults.push(format!("{MANIFEST} was changed: {error}"));
            return Ok(Verification { faults, ..Verification::default() });
        }
    };
    if manifest.schema != SCHEMA {
        let schema = manifest.schema;
        return Err(not_a_bundle(format!("it has the schema {schema}, and this program reads {SCHEMA}")));
    }
    if !manifest.is_written_as(&bytes) {
        faults.push(format!("{MANIFEST} was written in another form"));
    }
    let custody = match CustodyLog::read(&bundle.read(CUSTODY, MOST_BYTES)?) {
        Ok((custody, entries)) => {
            faults.extend(log_faults(&manifest, &bytes, &entries));
            custody
        }
        Err(changed) => {
            faults.push(changed.to_string());
            CustodyLog::default()
        }
    };
    let listed = bundle.read(SUMS, MOST_BYTES)?;
    if listed != sums(&manifest, &bytes) {
        faults.push(format!("{SUMS} was changed"));
    }
    let seal = bundle.read(SEAL, MOST_BYTES)?;
    if seal != SealFile::new(&bytes, &listed, &custody).to_bytes() {
        faults.push(format!("{SEAL} is not that of {MANIFEST}, {SUMS} and {CUSTODY}"));
    }
    for (index, artifact) in manifest.artifacts.iter().enumerate() {
        check(&bundle, index, artifact, cancellation, &mut faults)?;
    }
    let known: BTreeSet<String> = [MANIFEST, CUSTODY, SUMS, SEAL, SIGNATURE, TIMESTAMP]
        .into_iter()
        .map(String::from)
        .chain(manifest.artifacts.iter().map(|artifact| artifact.file.clone()))
        .collect();
    faults.extend(bundle.names().filter(|name| !known.contains(*name)).map(|name| format!("{name} is in no manifest")));
    let is_missing = |is_said: bool, name: &str| is_said && !bundle.has(name);
    if let Some(key) = manifest.signed_by.as_ref().filter(|_| is_missing(true, SIGNATURE)) {
        faults.push(format!("{SIGNATURE} is missing: the bundle was signed by the key {key}"));
    }
    if is_missing(manifest.timestamped, TIMESTAMP) {
        faults.push(format!("{TIMESTAMP} is missing: the bundle was stamped"));
    }
    let optional = |name: &str| bundle.has(name).then(|| bundle.read(name, MOST_BYTES)).transpose();
    Ok(Verification { faults, seal, signature: optional(SIGNATURE)?, timestamp: optional(TIMESTAMP)?, manifest })
}

/// Checks the digests of an artifact and of the ranges in it.
fn check(
    bundle: &Bundle,
    index: usize,
    artifact: &Artifact,
    cancellation: &Cancellation,
    faults: &mut Vec<String>,
) -> Result<(), EvidenceError> {
    let Artifact { file, size, sha256, findings, .. } = artifact;
    if *file != name(index) {
        faults.push(format!("{file} is not the name of artifact {}", index + 1));
        return Ok(());
    }
    if !bundle.has(file) {
        faults.push(format!("{file} is missing"));
        return Ok(());
    }
    let mut reader = bundle.open_file(file)?;
    let failed = |source| EvidenceError::Read { path: file.into(), source };
    // The bundle may say anything about ranges, so their bytes are not kept.
    let ranges = findings.iter().filter_map(|found| found.range.as_ref());
    let mut ranges: Vec<_> = ranges.map(|range| (range, Hasher::new(range.sha256.algorithm()))).collect();
    let (mut hasher, mut at, mut buffer) = (Hasher::new(Algorithm::Sha256), 0_u64, vec![0; 64 << 10]);
    loop {
        cancellation.check().map_err(|reason| failed(reason.into()))?;
        let count = reader.read(&mut buffer).map_err(failed)?;
        if count == 0 {
            break;
        }
        let bytes = &buffer[..count];
        hasher.update(bytes);
        for (range, hasher) in &mut ranges {
            hasher.update(extract::part(bytes, at, range.offset, range.length));
        }
        at += count as u64;
    }
    if artifact.kind == ArtifactKind::Document && artifact.digest != *sha256 {
        faults.push(format!("{file} is not the document with the digest that {MANIFEST} names"));
    }
    if at != *size || sha256.as_ref() != Some(&hasher.finish()) {
        faults.push(format!("{file} was changed"));
    }
    for (range, hasher) in ranges {
        if hasher.finish() != range.sha256 {
            faults.push(format!("{file}: the bytes at {} are others", range.offset));
        }
    }
    Ok(())
}

/// What the log says that the manifest does not: it has a line for the image, for each reading of a layer, for each
/// artifact in its order, and for the seal, and no other.
fn log_faults(manifest: &Manifest, bytes: &[u8], entries: &[Entry]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut entries = entries.iter().peekable();
    let mut expect = |action: &str, subject: &str, digest: Option<&Digest>| {
        let is_it = |entry: &&Entry| entry.action == action && entry.subject == subject;
        match entries.next_if(|entry| is_it(entry)) {
            Some(entry) if entry.digest.as_ref() != digest => {
                faults.push(format!("{CUSTODY}, line {}: {subject} has another digest in {MANIFEST}", entry.number));
            }
            Some(entry) if entry.operator != manifest.case.operator => {
                faults
                    .push(format!("{CUSTODY}, line {}: the operator is another one than in {MANIFEST}", entry.number));
            }
            Some(_) => {}
            None => faults.push(format!("{CUSTODY} does not say that {subject} was {action} where that has to be")),
        }
    };
    if !manifest.source.target.is_empty() {
        expect("opened", &manifest.source.target, manifest.source.manifest_digest.as_ref());
    }
    let mut last = None;
    for artifact in &manifest.artifacts {
        // A whole layer is read by itself.
        let reading = artifact.layer.map(|layer| (layer, artifact.kind == ArtifactKind::Layer));
        if let Some((layer, _)) = reading.filter(|(_, is_whole)| *is_whole || reading != last) {
            let digest =
                manifest.layers.iter().find(|known| known.index == layer).and_then(|known| known.digest.as_ref());
            expect("read", &format!("layer {layer}"), digest);
        }
        last = reading;
        expect("carved", &artifact.file, artifact.sha256.as_ref());
    }
    manifest.left_out.iter().for_each(|one| expect("left out", &one.subject(), None));
    expect("sealed", MANIFEST, Some(&Digest::of(bytes)));
    if let Some(entry) = entries.next() {
        faults.push(format!("{CUSTODY}, line {}: nothing in {MANIFEST} is of it", entry.number));
    }
    faults
}
