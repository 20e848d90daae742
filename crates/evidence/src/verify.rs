//! Checks a bundle against itself, and against the image that it is from.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::Path;

use layersift_format::Blob;
use layersift_model::{Algorithm, FingerprintKey, Hasher, hex};

use crate::carve::name;
use crate::custody::CustodyLog;
use crate::error::EvidenceError;
use crate::extract::{self, Sink, Taken, Wanted};
use crate::layout::Bundle;
use crate::manifest::{Artifact, ArtifactKind, Manifest, SCHEMA};
use crate::seal::{CUSTODY, MANIFEST, SEAL, SIGNATURE, SUMS, SealFile, TIMESTAMP, sums};

/// The largest file of a bundle that is not an artifact.
const MOST_BYTES: u64 = 256 << 20;

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
    if manifest.to_bytes() != bytes {
        faults.push(format!("{MANIFEST} was written in another form"));
    }
    let custody = CustodyLog::parse(&bundle.read(CUSTODY, MOST_BYTES)?).unwrap_or_else(|changed| {
        faults.push(changed.to_string());
        CustodyLog::default()
    });
    let listed = bundle.read(SUMS, MOST_BYTES)?;
    if listed != sums(&manifest, &bytes) {
        faults.push(format!("{SUMS} was changed"));
    }
    let seal = bundle.read(SEAL, MOST_BYTES)?;
    if seal != SealFile::new(&bytes, &listed, &custody).to_bytes() {
        faults.push(format!("{SEAL} is not that of {MANIFEST}, {SUMS} and {CUSTODY}"));
    }
    for (index, artifact) in manifest.artifacts.iter().enumerate() {
        check(&bundle, index, artifact, &mut faults)?;
    }
    let known: BTreeSet<String> = [MANIFEST, CUSTODY, SUMS, SEAL, SIGNATURE, TIMESTAMP]
        .into_iter()
        .map(String::from)
        .chain(manifest.artifacts.iter().map(|artifact| artifact.file.clone()))
        .collect();
    faults.extend(bundle.names().filter(|name| !known.contains(*name)).map(|name| format!("{name} is in no manifest")));
    let optional = |name: &str| bundle.has(name).then(|| bundle.read(name, MOST_BYTES)).transpose();
    Ok(Verification { faults, seal, signature: optional(SIGNATURE)?, timestamp: optional(TIMESTAMP)?, manifest })
}

/// Checks the digests of an artifact and of the ranges in it.
fn check(bundle: &Bundle, index: usize, artifact: &Artifact, faults: &mut Vec<String>) -> Result<(), EvidenceError> {
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

/// Takes the artifacts of a layer out of the image again, and says what differs. `open` opens the layer with the index
/// `layer`, once for its files and once for each time that it was taken as a whole.
///
/// # Errors
/// [`EvidenceError`], if the layer cannot be read.
pub fn again<'b>(
    manifest: &Manifest,
    layer: usize,
    open: impl Fn() -> io::Result<Blob<'b>>,
) -> Result<Vec<String>, EvidenceError> {
    let Some(identity) = manifest.layers.iter().find(|known| known.index == layer) else {
        return Ok(vec![format!("layer {layer} is in no manifest")]);
    };
    let artifacts = manifest.artifacts.iter().filter(|one| one.layer == Some(layer));
    let (whole, files): (Vec<&Artifact>, Vec<&Artifact>) = artifacts.partition(|one| one.kind == ArtifactKind::Layer);
    let mut faults = Vec::new();
    for artifacts in whole.chunks(1).chain((!files.is_empty()).then_some(&files[..])) {
        let wanted: Vec<Wanted> = artifacts.iter().map(|artifact| wanted(artifact)).collect();
        let blob = open().map_err(|source| EvidenceError::Blob { layer, source })?;
        let (read, taken) = extract::extract(identity, blob, &wanted, &FingerprintKey::default(), &mut Nothing)?;
        if read.digest != identity.digest || (read.diff_id.is_some() && read.diff_id != identity.diff_id) {
            faults.push(format!("layer {layer} of the image is another one"));
        }
        let differs = |(artifact, taken): &(&Artifact, Option<Taken>)| !is_same(artifact, taken.as_ref());
        let differing = artifacts.iter().copied().zip(taken).filter(differs);
        faults.extend(
            differing.map(|(artifact, _)| format!("{} is not what layer {layer} of the image has", artifact.file)),
        );
    }
    Ok(faults)
}

fn is_same(artifact: &Artifact, taken: Option<&Taken>) -> bool {
    let path = |taken: &Taken| taken.placed.as_ref().map(|placed| hex(&placed.entry.path)).unwrap_or_default();
    taken.is_some_and(|taken| {
        (Some(&taken.sha256), taken.size) == (artifact.sha256.as_ref(), artifact.size)
            && path(taken) == artifact.path_bytes
            && taken.attributes() == artifact.attributes
    })
}

fn wanted(artifact: &Artifact) -> Wanted {
    match (artifact.kind, &artifact.attributes) {
        (ArtifactKind::File, Some(attributes)) => Wanted::entry(attributes.entry),
        _ => Wanted::blob(),
    }
}

/// Takes files out to look at their digests alone.
struct Nothing;

impl Sink for Nothing {
    fn begin(&mut self, _: usize) -> Result<(), EvidenceError> {
        Ok(())
    }

    fn bytes(&mut self, _: &[u8]) -> Result<(), EvidenceError> {
        Ok(())
    }

    fn end(&mut self, _: usize) -> Result<(), EvidenceError> {
        Ok(())
    }
}
