//! What has to be gone, and from where.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::path::Path;

use anyhow::{Context, ensure};
use serde::Deserialize;

use super::VerifyGoneArgs;
use super::asking::Askers;
use crate::cli::{context, output};
use layersift_model::Digest;
use layersift_scrub::Changes;
use layersift_source::registry::{At, Host, Reference, RegistryError};
use layersift_store::{Query, Store};

/// The most images of a store that are looked at for one layer.
const MOST_IMAGES: usize = 10_000;

/// The deepest nesting of indexes.
const DEEPEST: usize = 8;

/// Whether one thing is served by one repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Question {
    pub(super) place: Place,
    pub(super) kind: Kind,
    pub(super) digest: Digest,
}

/// A repository of a registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) host: Host,
    pub(super) repository: String,
    /// Whether the user named the registry, who then may get the login of the environment.
    pub(super) is_named: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Manifest,
    Blob,
}

impl Kind {
    /// The kind as it is written.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Manifest => "manifest",
            Kind::Blob => "blob",
        }
    }
}

/// All questions.
pub(super) struct Questions {
    pub(super) all: Vec<Question>,
    /// Whether the layers of every image are known.
    pub(super) is_complete: bool,
}

/// The things that have to be gone, and the repositories that are asked.
#[derive(Default)]
struct Collected {
    things: BTreeSet<(Kind, Digest)>,
    places: BTreeSet<Place>,
    /// Manifests whose layers nobody says.
    unknown: Vec<Reference>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    config: Option<Descriptor>,
    layers: Vec<Descriptor>,
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: Digest,
}

impl Questions {
    /// Reads what the flags name. What is still served says what it consists of.
    pub(super) fn collect(args: &VerifyGoneArgs, askers: &Askers) -> anyhow::Result<Questions> {
        let mut collected = Collected::default();
        for path in &args.changes {
            collected.changes(path)?;
        }
        let is_known = !collected.things.is_empty();
        for image in &args.images {
            let reference: Reference = image.parse().with_context(|| image.clone())?;
            collected.image(&reference, askers)?;
        }
        for repository in &args.repository {
            let reference: Reference = repository.parse().with_context(|| repository.clone())?;
            collected.places.insert(Place::named(&reference));
        }
        if args.store.name().is_some() {
            collected.shared(&context::open_existing_store(&args.store)?)?;
        }
        ensure!(
            !collected.places.is_empty(),
            "no repository to ask: the list of changes is of an image that was not in a registry; pass --repository"
        );
        let is_complete = is_known || collected.unknown.is_empty();
        if !is_complete {
            output::warn(collected.unknown.iter().map(|reference| {
                format!(
                    "{reference}: the manifest is gone, so its layers are not known, which may still be served; \
                     pass the list that `layersift scrub --changes` wrote"
                )
            }));
        }
        let Collected { things, places, .. } = collected;
        let all = places.iter().flat_map(|place| {
            things.iter().map(|(kind, digest)| Question { place: place.clone(), kind: *kind, digest: digest.clone() })
        });
        Ok(Questions { all: all.collect(), is_complete })
    }
}

impl Collected {
    fn changes(&mut self, path: &Path) -> anyhow::Result<()> {
        let failed = || format!("cannot read {}", path.display());
        let bytes = std::fs::read(path).with_context(failed)?;
        let changes: Changes = serde_json::from_slice(&bytes).with_context(failed)?;
        let blobs = changes.old_blobs().into_iter().map(|digest| (Kind::Blob, digest));
        let manifests = changes.old_manifests().into_iter().map(|digest| (Kind::Manifest, digest));
        self.things.extend(blobs.chain(manifests));
        ensure!(!self.things.is_empty(), "{}: it has no list of changes", path.display());
        if let Some(reference) = changes.source.strip_prefix("docker://") {
            self.places.insert(Place::named(&reference.parse()?));
        }
        Ok(())
    }

    fn image(&mut self, reference: &Reference, askers: &Askers) -> anyhow::Result<()> {
        let place = Place::named(reference);
        let at = match (&reference.digest, &reference.tag) {
            (Some(digest), _) => At::Digest(digest.clone()),
            (None, tag) => At::Tag(tag.clone().unwrap_or_else(|| "latest".into())),
        };
        if let At::Digest(digest) = &at {
            self.things.insert((Kind::Manifest, digest.clone()));
        }
        let is_served = self.manifest(&place, &at, askers, 0)?;
        ensure!(
            is_served || matches!(at, At::Digest(_)),
            "{reference}: the tag is gone; name the image by its digest, or pass --changes"
        );
        if !is_served {
            self.unknown.push(reference.clone());
        }
        self.places.insert(place);
        Ok(())
    }

    /// Adds a manifest, and all that it names; returns whether it is served.
    fn manifest(&mut self, place: &Place, at: &At, askers: &Askers, depth: usize) -> anyhow::Result<bool> {
        let manifest = match askers.registry(place)?.manifest(&place.repository, at) {
            Ok(manifest) => manifest,
            // A question that is asked again says what the matter is.
            Err(RegistryError::NotFound { .. } | RegistryError::Blocked { .. }) => return Ok(false),
            Err(error) if matches!(at, At::Digest(_)) => {
                output::warn([error.to_string()]);
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        self.things.insert((Kind::Manifest, manifest.digest.clone()));
        let document: Document = serde_json::from_slice(&manifest.bytes).unwrap_or_default();
        let blobs = document.layers.into_iter().chain(document.config);
        self.things.extend(blobs.map(|blob| (Kind::Blob, blob.digest)));
        for entry in document.manifests.into_iter().filter(|_| depth < DEEPEST) {
            self.things.insert((Kind::Manifest, entry.digest.clone()));
            self.manifest(place, &At::Digest(entry.digest), askers, depth + 1)?;
        }
        Ok(true)
    }

    /// Adds the repositories that a store has seen the layers in.
    fn shared(&mut self, store: &Store) -> anyhow::Result<()> {
        let named: HashSet<Host> = self.places.iter().map(|place| place.host.clone()).collect();
        for (kind, digest) in self.things.clone() {
            if kind != Kind::Blob {
                continue;
            }
            let trace = store.trace(&Query::parse(&digest.to_string()), None, MOST_IMAGES)?;
            for tag in trace.images.iter().flat_map(|image| &image.tags) {
                let repository = &tag.repository;
                let Ok(host) = repository.registry.parse::<Host>() else { continue };
                let name = match &repository.project[..] {
                    "" => repository.repository.clone(),
                    project => format!("{project}/{}", repository.repository),
                };
                let is_named = named.contains(&host);
                self.places.insert(Place { host, repository: name, is_named });
            }
            if trace.images.len() as u64 != trace.total {
                output::warn([format!("{digest}: only {MOST_IMAGES} of its images were looked at in the store")]);
            }
        }
        Ok(())
    }
}

impl Place {
    fn named(reference: &Reference) -> Place {
        Place { host: reference.host.clone(), repository: reference.repository.clone(), is_named: true }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} {} {}", self.place.host, self.place.repository, self.kind.name(), self.digest)
    }
}
