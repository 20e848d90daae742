//! What the author of an image claims about its build: provenance and annotations.

use layersift_model::{Digest, percent_decoded};

use crate::json::Node;
use crate::provenance::{Material, Provenance, Untold};

/// The annotations that name the base image (OCI image-spec v1.1, `annotations.md`).
const BASE_NAME: &str = "org.opencontainers.image.base.name";
const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// The most provenances of one image.
const MAX_PROVENANCES: usize = 16;

/// What the documents of an image claim about its build.
#[derive(Clone, Debug, Default)]
pub struct BuildClaims {
    /// What the attestations say.
    pub(crate) provenances: Vec<Provenance>,
    /// The name and the digest of the base image by the annotations of the manifest.
    pub(super) annotated_base: Option<(Option<String>, Option<Digest>)>,
    /// What was not used.
    pub(super) notes: Vec<String>,
}

impl BuildClaims {
    /// Reads a statement, which the index attaches to the manifest `attached_to`.
    pub fn add_statement(&mut self, statement: &Node, attached_to: Option<&Digest>) {
        let Some(mut provenance) = Provenance::read(statement) else { return };
        if self.provenances.len() < MAX_PROVENANCES {
            provenance.attached_to = attached_to.cloned();
            self.provenances.push(provenance);
        } else if self.provenances.len() == MAX_PROVENANCES {
            self.add_note("the image has many provenances; not all were used");
        }
    }

    /// Reads the annotations of the manifest of the image.
    pub fn add_manifest(&mut self, manifest: &Node) {
        let Some(annotations) = manifest.get("annotations") else { return };
        let text = |name| annotations.get(name).and_then(Node::as_str).filter(|text: &&str| !text.is_empty());
        let (name, digest) = (text(BASE_NAME).map(Into::into), text(BASE_DIGEST).and_then(|text| text.parse().ok()));
        if name.is_some() || digest.is_some() {
            self.annotated_base = Some((name, digest));
        }
    }

    /// Adds a note, once.
    pub fn add_note(&mut self, note: &str) {
        if !self.notes.iter().any(|known| known == note) {
            self.notes.push(note.into());
        }
    }
}

impl std::fmt::Display for Untold {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Untold::NoSteps => "the provenance has no steps",
            Untold::OtherLayers => "the provenance describes no image with as many layers; it was not used for lines",
            Untold::Ambiguous => {
                "the provenance describes several images with as many layers; it was not used for lines"
            }
        })
    }
}

/// The name and the digest of the image among what a build used, if there is only one.
pub(super) fn only_image(materials: &[Material]) -> Option<(String, Option<Digest>)> {
    let mut images = materials.iter().filter_map(|material| Some((name(&material.uri)?, material.digest.clone())));
    let first = images.next()?;
    images.all(|other| other == first).then_some(first)
}

/// The name of the image with a package URL, such as `pkg:docker/alpine@3?platform=linux%2Famd64`.
fn name(uri: &str) -> Option<String> {
    let rest = uri.strip_prefix("pkg:docker/")?;
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    Some(match rest.rsplit_once('@') {
        Some((name, version)) if version.contains("%3A") || version.contains(':') => {
            format!("{}@{}", decoded(name), decoded(version))
        }
        Some((name, version)) => format!("{}:{}", decoded(name), decoded(version)),
        None => decoded(rest),
    })
}

/// Text without percent-encoding; what is not UTF-8 then stays as it is.
fn decoded(text: &str) -> String {
    String::from_utf8(percent_decoded(text.as_bytes())).unwrap_or_else(|_| text.into())
}
