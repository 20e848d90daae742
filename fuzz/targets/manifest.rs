//! Indexes, manifests and configurations: from any documents to images, or an error.
//!
//! The input is documents with a zero byte between them. The first is the one that the source lists; a digest names
//! the document that its first digit counts to, because no fuzzer finds a SHA-256.
#![no_main]

use layersift_format::config::ImageConfig;
use layersift_format::history::align;
use layersift_format::platform::Choice;
use layersift_format::{Blob, Fetched, ImageSource, Listed, Location, SourceError, manifest};
use layersift_fuzz::tiny_limits;
use layersift_model::Digest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let documents: Vec<&[u8]> = data.split(|&byte| byte == 0).collect();
    let limits = tiny_limits();
    for docker in [false, true] {
        let source = Documents { documents: &documents, docker };
        let Ok(images) = manifest::images(&source, &Choice::All, &limits) else { continue };
        assert!(images.len() <= limits.manifests);
        for image in images {
            let alignment = align(&image.config.read(), image.layers.len());
            assert_eq!(alignment.entries.len(), image.layers.len());
        }
    }
    for document in documents {
        let _ = ImageConfig::parse(document);
    }
});

struct Documents<'d> {
    documents: &'d [&'d [u8]],
    docker: bool,
}

impl ImageSource for Documents<'_> {
    fn list(&self) -> Result<Vec<Listed>, SourceError> {
        let first = Location("0".into());
        Ok(vec![match self.docker {
            true => Listed::DockerArchive {
                reference: None,
                config: first.clone(),
                layers: vec![first; 3],
                listing: Vec::new(),
            },
            false => Listed::Manifest { reference: None, location: first, digest: None, listing: Vec::new() },
        }])
    }

    fn locate(&self, digest: &Digest) -> Location {
        Location(digest.hex()[..1].into())
    }

    fn open(&self, location: &Location) -> Result<Fetched<'_>, SourceError> {
        let index = usize::from_str_radix(&location.0, 16).unwrap_or(usize::MAX);
        Ok(match self.documents.get(index) {
            Some(document) => Fetched::Blob(Blob::Stream(Box::new(*document))),
            None => Fetched::Missing,
        })
    }
}
