//! Writes a bundle.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use layersift_format::Blob;
use layersift_model::{Digest, FingerprintKey, ImagePath};

use crate::custody::CustodyLog;
use crate::error::EvidenceError;
use crate::extract::{self, Sink, Taken, Wanted};
use crate::layout::{ARTIFACTS, NewBundle, NewFile};
use crate::manifest::{Artifact, ArtifactKind, Case, FoundIn, LayerIdentity, Manifest, SCHEMA, Source, ToolIdentity};
use crate::seal::{CUSTODY, MANIFEST, SEAL, SIGNATURE, SUMS, SealFile, TIMESTAMP, sums};

/// Signs the seal of a bundle, or has it timestamped: gives the bytes of the file that is beside it.
pub type Seal<'s> = &'s dyn Fn(&[u8]) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>>;

/// Takes files out of an image into a new bundle.
pub struct Carver {
    bundle: NewBundle,
    manifest: Manifest,
    custody: CustodyLog,
    key: FingerprintKey,
    /// The names of what was written, to be removed again if the rest fails.
    written: Vec<String>,
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
    ///
    /// # Errors
    /// [`EvidenceError::Exists`], or [`EvidenceError::Write`].
    pub fn create(path: &Path, case: Case) -> Result<Carver, EvidenceError> {
        let manifest = Manifest { schema: SCHEMA, case, started_at: Some(Timestamp::now()), ..Manifest::default() };
        Ok(Carver {
            bundle: NewBundle::create(path)?,
            manifest,
            custody: CustodyLog::default(),
            key: FingerprintKey::default(),
            written: Vec::new(),
        })
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
        let mut sink = Artifacts { bundle: &mut self.bundle, written: &mut self.written, first, open: None };
        let (read, taken) = extract::extract(&layer, blob, wanted, &self.key, &mut sink)?;
        for (expected, found) in [(&layer.digest, &read.digest), (&layer.diff_id, &read.diff_id)] {
            if let (Some(expected), Some(found)) = (expected, found)
                && expected != found
            {
                let (expected, found) = (expected.to_string(), found.to_string());
                return Err(EvidenceError::OtherLayer { layer: layer.index, expected, found });
            }
        }
        self.log("read", &format!("layer {}", layer.index), read.digest.as_ref());
        for (number, (wanted, taken)) in wanted.iter().zip(taken).enumerate() {
            if let Some(taken) = taken {
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
        let name = name(self.manifest.artifacts.len());
        self.written.push(name.clone());
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
    pub fn seal(mut self, sign: Option<Seal<'_>>, timestamp: Option<Seal<'_>>) -> Result<Sealed, EvidenceError> {
        match self.try_seal(sign, timestamp) {
            Ok(seal) => Ok(Sealed { path: self.bundle.path().into(), manifest: self.manifest, seal }),
            Err(error) => {
                self.abandon();
                Err(error)
            }
        }
    }

    /// Removes what was written.
    pub fn abandon(self) {
        self.bundle.abandon(&self.written);
    }

    fn try_seal(&mut self, sign: Option<Seal<'_>>, timestamp: Option<Seal<'_>>) -> Result<Digest, EvidenceError> {
        self.manifest.ended_at = Some(Timestamp::now());
        let manifest = self.manifest.to_bytes();
        self.log("sealed", MANIFEST, Some(&Digest::of(&manifest)));
        let sums = sums(&self.manifest, &manifest);
        let seal = SealFile::new(&manifest, &sums, &self.custody).to_bytes();
        let mut files = vec![(MANIFEST, manifest), (SUMS, sums), (CUSTODY, self.custody.bytes().to_vec())];
        for (name, what, make) in [(SIGNATURE, "sign", sign), (TIMESTAMP, "timestamp", timestamp)] {
            if let Some(make) = make {
                files.push((name, make(&seal).map_err(|source| EvidenceError::Seal { what, source })?));
            }
        }
        let digest = Digest::of(&seal);
        files.push((SEAL, seal));
        for (name, bytes) in files {
            self.written.push(name.into());
            self.bundle.write(name, &bytes)?;
        }
        self.bundle.finish()?;
        Ok(digest)
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

/// Writes what is taken out of a layer, each file under the number of what was wanted.
struct Artifacts<'c> {
    bundle: &'c mut NewBundle,
    written: &'c mut Vec<String>,
    first: usize,
    open: Option<NewFile>,
}

impl Sink for Artifacts<'_> {
    fn begin(&mut self, wanted: usize) -> Result<(), EvidenceError> {
        let name = name(self.first + wanted);
        // A layer may have a file twice: the last one counts.
        if !self.written.contains(&name) {
            self.written.push(name.clone());
        }
        self.open = Some(self.bundle.begin(&name)?);
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), EvidenceError> {
        match &mut self.open {
            Some(file) => self.bundle.append(file, bytes),
            None => Ok(()),
        }
    }

    fn end(&mut self, _: usize) -> Result<(), EvidenceError> {
        match self.open.take() {
            Some(file) => self.bundle.end(file),
            None => Ok(()),
        }
    }
}
