//! Writes a bundle.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use layersift_format::{Blob, Cancellation};
use layersift_model::{Digest, FingerprintKey, ImagePath};

use crate::custody::CustodyLog;
use crate::error::EvidenceError;
use crate::extract::{self, NotTaken, Outcome, Sink, Taken, Wanted};
use crate::layout::{ARTIFACTS, Mark, NewBundle};
use crate::manifest::{
    Artifact, ArtifactKind, Case, FoundIn, LayerIdentity, LeftOut, Manifest, SCHEMA, Source, ToolIdentity,
};
use crate::seal::{CUSTODY, MANIFEST, SEAL, SIGNATURE, SUMS, SealFile, TIMESTAMP, sums};

/// Signs the seal of a bundle, or has it timestamped: gives the bytes of the file that is beside it.
pub type Seal<'s> = &'s dyn Fn(&[u8]) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>>;

/// What signs a bundle.
#[derive(Clone)]
pub struct Signing<'s> {
    /// The key, as [`Manifest::signed_by`] has it: who removes the signature has to change the manifest.
    pub key: String,
    /// Signs with it.
    pub sign: Seal<'s>,
}

/// Takes files out of an image into a new bundle. Unless it is [sealed](Carver::seal), nothing of the bundle stays.
pub struct Carver {
    bundle: NewBundle,
    manifest: Manifest,
    custody: CustodyLog,
    key: FingerprintKey,
    cancellation: Cancellation,
    /// The bytes that artifacts may still have.
    room: u64,
}

/// A bundle that is complete.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// Where it is.
    pub path: PathBuf,
    /// What it has.
    pub manifest: Manifest,
    /// The digest of `seal.json`, which stands for all of it.
    pub seal: Digest,
}

impl Carver {
    /// Begins a bundle at `path`, which must not exist: a tar archive if the name ends in `.tar`, or else a directory.
    /// `started_at` is when the reading of the image began.
    ///
    /// # Errors
    /// [`EvidenceError::Exists`], or [`EvidenceError::Write`].
    pub fn create(path: &Path, case: Case, started_at: Timestamp) -> Result<Carver, EvidenceError> {
        let carver = Carver::of(NewBundle::create(path)?);
        let manifest = Manifest { case, started_at: Some(started_at), ..carver.manifest };
        Ok(Carver { manifest, ..carver })
    }

    /// Takes the same out of an image without writing it anywhere, to compare a bundle with [its
    /// manifest](Carver::manifest).
    pub fn again() -> Carver {
        Carver::of(NewBundle::nowhere())
    }

    fn of(bundle: NewBundle) -> Carver {
        Carver {
            bundle,
            manifest: Manifest { schema: SCHEMA, ..Manifest::default() },
            custody: CustodyLog::default(),
            key: FingerprintKey::default(),
            cancellation: Cancellation::never(),
            room: u64::MAX,
        }
    }

    /// Stops with an error when `cancellation` is cancelled.
    #[must_use]
    pub fn cancelled_by(self, cancellation: Cancellation) -> Carver {
        Carver { cancellation, ..self }
    }

    /// Writes at most `bytes` of artifacts, without the holes of sparse files. An artifact that does not fit is
    /// [left out](Manifest::left_out) as a whole.
    #[must_use]
    pub fn limited_to(self, bytes: u64) -> Carver {
        Carver { room: bytes, ..self }
    }

    /// What was taken so far.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Says what reads, by which command line, and which image. `key` is that of the fingerprints.
    pub fn describe(&mut self, tool: ToolIdentity, command: Vec<String>, source: Source, key: FingerprintKey) {
        self.log("opened", &source.target.clone(), source.manifest_digest.as_ref());
        (self.manifest.tool, self.manifest.command, self.manifest.source) = (tool, command, source);
        self.key = key;
    }

    /// Takes `wanted` out of a layer, which `blob` has. A layer that is not the one that `layer` names is an error.
    /// What is wanted is either files, or the whole layer alone.
    ///
    /// # Errors
    /// [`EvidenceError`], if the layer cannot be read or is another one, or the bundle cannot be written.
    pub fn layer(&mut self, layer: LayerIdentity, blob: Blob<'_>, wanted: &[Wanted]) -> Result<(), EvidenceError> {
        let first = self.manifest.artifacts.len();
        let mut sink = Artifacts { room: self.room, bundle: &mut self.bundle, first, begun: Vec::new() };
        let (read, mut outcomes) = extract::extract(&layer, blob, wanted, (&self.key, &self.cancellation), &mut sink)?;
        let begun: Vec<usize> = sink.begun.iter().map(|begun| begun.wanted).collect();
        self.room = sink.room;
        for (wanted, outcome) in wanted.iter().zip(&outcomes) {
            if let Some(Outcome::LeftOut(not_taken)) = outcome {
                self.manifest.left_out.push(left_out(layer.index, wanted, not_taken));
            }
        }
        // A layer that nothing was taken of is not evidence of anything.
        let Some(read) = read.filter(|_| !begun.is_empty()) else { return Ok(()) };
        for (expected, found) in [(&layer.digest, &read.digest), (&layer.diff_id, &read.diff_id)] {
            if let (Some(expected), Some(found)) = (expected, found)
                && expected != found
            {
                let (expected, found) = (expected.to_string(), found.to_string());
                return Err(EvidenceError::OtherLayer { layer: layer.index, expected, found });
            }
        }
        self.log("read", &format!("layer {}", layer.index), read.digest.as_ref());
        for (number, index) in begun.into_iter().enumerate() {
            let outcome = outcomes.get_mut(index).and_then(Option::take);
            if let (Some(wanted), Some(Outcome::Taken(taken))) = (wanted.get(index), outcome) {
                self.add(artifact(first + number, layer.index, wanted, taken));
            }
        }
        match self.manifest.layers.iter_mut().find(|known| known.index == read.index) {
            // Where the layer was taken as a whole, its uncompressed bytes were not looked at.
            Some(known) if known.diff_id.is_none() => *known = read,
            Some(_) => {}
            None => self.manifest.layers.push(read),
        }
        Ok(())
    }

    /// Takes a document of the image, such as its configuration.
    ///
    /// # Errors
    /// [`EvidenceError::Write`].
    pub fn document(&mut self, what: &str, bytes: &[u8], findings: Vec<FoundIn>) -> Result<(), EvidenceError> {
        let Some(room) = self.room.checked_sub(bytes.len() as u64) else {
            self.manifest.left_out.push(LeftOut {
                path: what.into(),
                size: Some(bytes.len() as u64),
                findings: findings.into_iter().map(|found| found.id).collect(),
                why: extract::NO_ROOM.into(),
                ..LeftOut::default()
            });
            return Ok(());
        };
        self.room = room;
        let name = name(self.manifest.artifacts.len());
        self.bundle.write(&name, bytes)?;
        let digest = Digest::of(bytes);
        self.add(Artifact {
            file: name,
            kind: ArtifactKind::Document,
            size: bytes.len() as u64,
            sha256: Some(digest.clone()),
            path: what.into(),
            digest: Some(digest),
            findings,
            ..Artifact::default()
        });
        Ok(())
    }

    /// Completes the bundle: writes the manifest, the sums, the log and the seal, has the seal signed and timestamped
    /// where that is asked for, and syncs all of it to disk.
    ///
    /// # Errors
    /// [`EvidenceError`], if something cannot be written, signed or timestamped.
    pub fn seal(mut self, signing: Option<Signing<'_>>, stamp: Option<Seal<'_>>) -> Result<Sealed, EvidenceError> {
        self.manifest.ended_at = Some(Timestamp::now());
        self.manifest.signed_by = signing.as_ref().map(|signing| signing.key.clone());
        self.manifest.timestamped = stamp.is_some();
        for subject in self.manifest.left_out.iter().map(LeftOut::subject).collect::<Vec<_>>() {
            self.log("left out", &subject, None);
        }
        let manifest = self.manifest.to_bytes();
        self.log("sealed", MANIFEST, Some(&Digest::of(&manifest)));
        let sums = sums(&self.manifest, &manifest);
        let seal = SealFile::new(&manifest, &sums, &self.custody).to_bytes();
        let mut files = vec![(MANIFEST, manifest), (SUMS, sums), (CUSTODY, self.custody.bytes().to_vec())];
        let sign = signing.as_ref().map(|signing| signing.sign);
        for (name, what, make) in [(SIGNATURE, "sign", sign), (TIMESTAMP, "timestamp", stamp)] {
            if let Some(make) = make {
                files.push((name, make(&seal).map_err(|source| EvidenceError::Seal { what, source })?));
            }
        }
        let digest = Digest::of(&seal);
        files.push((SEAL, seal));
        for (name, bytes) in files {
            self.bundle.write(name, &bytes)?;
        }
        self.bundle.finish()?;
        Ok(Sealed { path: self.bundle.path().into(), manifest: self.manifest, seal: digest })
    }

    fn add(&mut self, artifact: Artifact) {
        self.log("carved", &artifact.file.clone(), artifact.sha256.as_ref());
        self.manifest.artifacts.push(artifact);
    }

    fn log(&mut self, action: &str, subject: &str, digest: Option<&Digest>) {
        self.custody.add(self.manifest.case.operator.as_deref(), action, subject, digest);
    }
}

/// The name of the artifact with this index.
pub(crate) fn name(index: usize) -> String {
    format!("{ARTIFACTS}/{:04}", index + 1)
}

fn artifact(index: usize, layer: usize, wanted: &Wanted, taken: Taken) -> Artifact {
    let path = taken.placed.as_ref().map(|placed| ImagePath::normalize(&placed.entry.path));
    let attributes = taken.attributes();
    let stored = taken.placed.as_ref().map(|placed| placed.entry.path.as_slice()).unwrap_or_default();
    Artifact {
        file: name(index),
        kind: if wanted.is_blob() { ArtifactKind::Layer } else { ArtifactKind::File },
        size: taken.size,
        sha256: Some(taken.sha256),
        path: path.map_or_else(|| format!("layer {layer}"), |path| path.to_string()),
        path_bytes: layersift_model::hex(stored),
        layer: Some(layer),
        digest: None,
        offset_in_layer: taken.placed.as_ref().map(|placed| placed.data),
        attributes,
        findings: taken.findings,
    }
}

fn left_out(layer: usize, wanted: &Wanted, not_taken: &NotTaken) -> LeftOut {
    let stored = not_taken.placed.as_ref().map(|placed| placed.entry.path.as_slice());
    LeftOut {
        path: stored.map_or_else(|| not_taken.name.clone(), |path| ImagePath::normalize(path).to_string()),
        path_bytes: layersift_model::hex(stored.unwrap_or_default()),
        layer: Some(layer),
        size: not_taken.size,
        findings: wanted.findings.iter().map(|(found, _)| found.id.clone()).collect(),
        why: not_taken.why.into(),
    }
}

/// Writes what is taken out of a layer, as far as there is room. A layer may have a file twice: the last one counts.
struct Artifacts<'c> {
    bundle: &'c mut NewBundle,
    /// The number of the first artifact.
    first: usize,
    /// What was begun, in the order of its numbers.
    begun: Vec<Begun>,
    /// The bytes that may still be written.
    room: u64,
}

/// A file that was begun.
struct Begun {
    wanted: usize,
    /// Where it begins.
    mark: Mark,
    /// The room that it takes.
    bytes: u64,
    /// Whether that grows with its bytes.
    is_counted: bool,
}

impl Artifacts<'_> {
    /// Drops the last file that was begun.
    fn drop_last(&mut self) -> Result<(), EvidenceError> {
        let Some(last) = self.begun.pop() else { return Ok(()) };
        self.room += last.bytes;
        self.bundle.back_to(last.mark)
    }
}

impl Sink for Artifacts<'_> {
    fn begin(&mut self, wanted: usize, size: Option<u64>) -> Result<bool, EvidenceError> {
        if self.begun.last().is_some_and(|last| last.wanted == wanted) {
            self.drop_last()?;
        }
        let bytes = size.unwrap_or_default();
        let Some(room) = self.room.checked_sub(bytes) else { return Ok(false) };
        self.room = room;
        let mark = self.bundle.mark();
        self.bundle.begin(&name(self.first + self.begun.len()))?;
        self.begun.push(Begun { wanted, mark, bytes, is_counted: size.is_none() });
        Ok(true)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<bool, EvidenceError> {
        if let Some(last) = self.begun.last_mut().filter(|last| last.is_counted) {
            let Some(room) = self.room.checked_sub(bytes.len() as u64) else {
                self.drop_last()?;
                return Ok(false);
            };
            self.room = room;
            last.bytes += bytes.len() as u64;
        }
        self.bundle.append(bytes)?;
        Ok(true)
    }

    fn drop_all(&mut self) -> Result<(), EvidenceError> {
        while !self.begun.is_empty() {
            self.drop_last()?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), EvidenceError> {
        self.bundle.end()
    }
}
