//! Recorded images for tests: the layouts of `testdata/recordings/buildkit/images`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use layersift_model::{Digest, Limits};
use serde_json::Value;

use crate::blob::Blob;
use crate::build::BuildClaims;
use crate::image_source::{Fetched, ImageSource, Listed, Location};
use crate::json::Node;
use crate::manifest::{self, DocumentContent, DocumentKind, Image};
use crate::platform::Choice;
use crate::provenance::Provenance;
use crate::source_error::SourceError;

pub(crate) struct Recorded(BTreeMap<String, Vec<u8>>);

pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/recordings/buildkit")
}

pub(crate) fn json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(folder().join(name)).unwrap()).unwrap()
}

impl Recorded {
    pub(crate) fn open(name: &str) -> Recorded {
        let path = folder().join(format!("images/{name}.oci.tar.xz"));
        let mut archive = tar::Archive::new(liblzma::read::XzDecoder::new(std::fs::File::open(path).unwrap()));
        let mut files = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_string_lossy().trim_start_matches("./").to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            files.insert(path, bytes);
        }
        Recorded(files)
    }

    pub(crate) fn images(&self) -> Vec<Image> {
        manifest::images(self, &Choice::All, &Limits::default()).unwrap()
    }

    /// The only image, and what its documents claim.
    pub(crate) fn image(&self) -> (Image, BuildClaims) {
        let image = self.images().remove(0);
        let claims = self.claims(&image);
        (image, claims)
    }

    pub(crate) fn claims(&self, image: &Image) -> BuildClaims {
        let mut claims = BuildClaims::default();
        for document in &image.documents {
            let bytes = match &document.content {
                DocumentContent::Bytes(bytes) => bytes.to_vec(),
                DocumentContent::Blob(location) => self.0[&location.0].clone(),
                DocumentContent::Strings(_) => continue,
            };
            let Ok(node) = Node::parse(&bytes) else { continue };
            match document.kind {
                DocumentKind::Manifest if document.digest == image.manifest_digest => claims.add_manifest(&node),
                DocumentKind::Provenance => claims.add_statement(&node, document.attached_to.as_ref()),
                _ => {}
            }
        }
        claims
    }
}

impl Recorded {
    /// The statements of provenance of `image`.
    pub(crate) fn provenances(&self, image: &Image) -> Vec<Provenance> {
        self.claims(image).provenances
    }
}

impl ImageSource for Recorded {
    fn list(&self) -> Result<Vec<Listed>, SourceError> {
        let index: Value = serde_json::from_slice(&self.0["index.json"]).unwrap();
        let digest: Digest = index["manifests"][0]["digest"].as_str().unwrap().parse().unwrap();
        let location = self.locate(&digest);
        Ok(vec![Listed::Manifest { reference: None, location, digest: Some(digest), listing: Vec::new() }])
    }

    fn locate(&self, digest: &Digest) -> Location {
        Location(format!("blobs/{}", digest.to_string().replace(':', "/")))
    }

    fn open(&self, location: &Location) -> Result<Fetched<'_>, SourceError> {
        let blob = |bytes: &Vec<u8>| Fetched::Blob(Blob::Stream(Box::new(std::io::Cursor::new(bytes.clone()))));
        Ok(self.0.get(&location.0).map_or(Fetched::Missing, blob))
    }
}
