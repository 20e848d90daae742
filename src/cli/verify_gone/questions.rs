//! What has to be gone, and from where.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::path::Path;

use anyhow::{Context, bail, ensure};

use super::VerifyGoneArgs;
use super::asking::Askers;
use crate::cli::{context, input_file, output};
use layersift_format::Cancellation;
use layersift_format::config::ImageConfig;
use layersift_format::manifest::{ReachedDocument, Unread, UnreadReason, reach};
use layersift_model::{Digest, Limits, parse};
use layersift_scrub::Changes;
use layersift_source::registry::{Host, Reference, RegistryError, RegistrySource};
use layersift_store::{Query, Store};

/// The most images of a store that are looked at for one layer.
const MOST_IMAGES: usize = 10_000;

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
    /// Why there may be more to ask for than is known: an answer for all questions is then not the whole one.
    pub(super) unknown: Vec<String>,
    /// Repositories that the user named, and that a registry does not have.
    pub(super) absent: Vec<Place>,
}

/// The things that have to be gone, and the repositories that are asked.
#[derive(Default)]
struct Collected {
    things: BTreeSet<(Kind, Digest)>,
    places: BTreeSet<Place>,
    /// The places that are known to be repositories.
    confirmed: BTreeSet<Place>,
    /// The manifests that lists of changes of images in registries name.
    listed: HashSet<Digest>,
    /// Documents whose content is not known, and why.
    unread: Vec<(Digest, String)>,
    /// The uncompressed layers of lists of images that were in no registry, with the names of the lists.
    archived: Vec<(Digest, String)>,
    /// The uncompressed layers of the images that were read, by where they are: another repository may have the same
    /// ones compressed in another way.
    diff_ids: BTreeSet<(Place, Digest)>,
    /// What else is not known.
    unknown: Vec<String>,
}

impl Questions {
    /// Reads what the flags name. What is still served says what it consists of, as far as registries say it before
    /// `cancellation` ends the questions.
    pub(super) fn collect(
        args: &VerifyGoneArgs,
        askers: &Askers,
        cancellation: &Cancellation,
    ) -> anyhow::Result<Questions> {
        let mut collected = Collected::default();
        for path in &args.changes {
            collected.changes(path)?;
        }
        for image in &args.images {
            let reference: Reference = image.parse().with_context(|| image.clone())?;
            collected.image(&reference, askers)?;
        }
        for repository in &args.repository {
            let reference: Reference = repository.parse().with_context(|| repository.clone())?;
            collected.places.insert(Place::named(&reference));
        }
        if args.store.name().is_some() {
            collected.shared(&context::open_existing_store_until(&args.store, cancellation)?)?;
        }
        ensure!(
            !collected.places.is_empty(),
            "no repository to ask: the list of changes is of an image that was not in a registry; pass --repository"
        );
        let absent = collected.absent(askers);
        let unknown = collected.unknown();
        output::warn(&unknown);
        output::warn(
            absent.iter().map(|place| {
                format!("{}/{}: there is no such repository; check the name", place.host, place.repository)
            }),
        );
        let Collected { things, places, .. } = collected;
        let all = places.iter().flat_map(|place| {
            things.iter().map(|(kind, digest)| Question { place: place.clone(), kind: *kind, digest: digest.clone() })
        });
        Ok(Questions { all: all.collect(), unknown, absent })
    }
}

impl Collected {
    fn changes(&mut self, path: &Path) -> anyhow::Result<()> {
        let failed = || format!("cannot read {}", path.display());
        let changes: Changes = parse::json(&input_file::read(path)?).with_context(failed)?;
        ensure!(changes.is_of_this_form(), "{}: it is not a list of changes that this version reads", path.display());
        let (blobs, manifests) = (changes.old_blobs(), changes.old_manifests());
        ensure!(!blobs.is_empty() || !manifests.is_empty(), "{}: it has no list of changes", path.display());
        let name = path.display();
        self.unknown.extend(changes.unread.iter().map(|what| {
            format!("{name}: {what} was not read when the image was scrubbed, and may hold the value as well")
        }));
        if let Some(reference) = changes.source.strip_prefix("docker://") {
            let place = Place::named(&reference.parse()?);
            self.confirmed.insert(place.clone());
            self.places.insert(place);
            self.listed.extend(manifests.iter().cloned());
        } else {
            // A push compresses layers anew, so a registry has them under digests that no archive knows.
            self.archived.extend(changes.layers.iter().map(|layer| (layer.old_diff_id.clone(), name.to_string())));
            let has_more = !changes.held.is_empty() || !changes.dropped.is_empty();
            if has_more || changes.layers.is_empty() {
                self.unknown.push(format!(
                    "{name}: the image was in no registry, and more of it than layers holds the value, which a \
                     registry has under digests that are not known; name the images in the registry instead"
                ));
            }
        }
        let blobs = blobs.into_iter().map(|digest| (Kind::Blob, digest));
        self.things.extend(blobs.chain(manifests.into_iter().map(|digest| (Kind::Manifest, digest))));
        Ok(())
    }

    fn image(&mut self, reference: &Reference, askers: &Askers) -> anyhow::Result<()> {
        let place = Place::named(reference);
        self.places.insert(place.clone());
        let source = RegistrySource::new(askers.registry(&place)?, reference.clone());
        let digest = match &reference.digest {
            Some(digest) => digest.clone(),
            None => match source.root() {
                Ok(root) => root.digest.clone(),
                Err(RegistryError::NotFound { .. }) => {
                    bail!("{reference}: the tag is gone; name the image by its digest, or pass --changes")
                }
                Err(error) => return Err(error.into()),
            },
        };
        self.things.insert((Kind::Manifest, digest.clone()));
        let reached = reach(&source, &digest, &Limits::default());
        if !reached.documents.is_empty() {
            self.confirmed.insert(place.clone());
        }
        for document in &reached.documents {
            let documents = document.children.iter().chain([&document.digest]);
            self.things.extend(documents.map(|digest| (Kind::Manifest, digest.clone())));
            let blobs = document.blobs.iter().chain(&document.config);
            self.things.extend(blobs.map(|digest| (Kind::Blob, digest.clone())));
            if !self.archived.is_empty() {
                self.diff_ids.extend(diff_ids(&source, document).into_iter().map(|id| (place.clone(), id)));
            }
        }
        self.unread.extend(reached.unread.into_iter().map(|Unread { digest, reason }| {
            let reason = match reason {
                UnreadReason::Missing => "the manifest is gone".into(),
                UnreadReason::Failed(reason) => format!("the manifest was not read ({reason})"),
            };
            (digest, reason)
        }));
        Ok(())
    }

    /// What is not known, for people.
    fn unknown(&self) -> Vec<String> {
        let is_listed = |digest: &Digest| self.listed.contains(digest);
        let unread = self.unread.iter().filter(|(digest, _)| !is_listed(digest)).map(|(digest, reason)| {
            format!(
                "{digest}: {reason}, so its layers are not known, which may still be served; pass the list that \
                 `layersift scrub --changes` wrote"
            )
        });
        let archived = self.archived.iter().flat_map(|one| self.places.iter().map(move |place| (place, one)));
        let archived = archived.filter(|(place, (diff_id, _))| {
            !self.diff_ids.iter().any(|(known, id)| id == diff_id && known.is_same(place))
        });
        let archived = archived.map(|(place, (diff_id, list))| {
            format!(
                "{list}: the image was in no registry, and {}/{} has the layer {diff_id} under a digest that is not \
                 known; name the image in this repository as well",
                place.host, place.repository
            )
        });
        let mut all: Vec<String> = self.unknown.iter().cloned().chain(unread).chain(archived).collect();
        all.sort();
        all.dedup();
        all
    }

    /// The places that are not repositories, as far as nothing else says that they are. A registry that does not say is
    /// asked about each thing all the same.
    fn absent(&mut self, askers: &Askers) -> Vec<Place> {
        let mut absent = Vec::new();
        for place in self.places.iter().filter(|place| !self.confirmed.contains(*place)) {
            match askers.registry(place).and_then(|registry| registry.has_repository(&place.repository)) {
                Ok(true) => {}
                Ok(false) => absent.push(place.clone()),
                Err(error) => {
                    let (host, name) = (&place.host, &place.repository);
                    self.unknown
                        .push(format!("{host}/{name}: it is not known whether there is a repository ({error})"));
                }
            }
        }
        absent
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
                let Ok(host) = repository.registry.parse::<Host>() else {
                    self.unknown.push(format!("{}: the store has a registry of this name", repository.registry));
                    continue;
                };
                let name = match &repository.project[..] {
                    "" => repository.repository.clone(),
                    project => format!("{project}/{}", repository.repository),
                };
                let is_named = named.contains(&host);
                let place = Place { host, repository: name, is_named };
                self.confirmed.insert(place.clone());
                self.places.insert(place);
            }
            if trace.images.len() as u64 != trace.total {
                self.unknown.push(format!("{digest}: only {MOST_IMAGES} of its images were looked at in the store"));
            }
        }
        Ok(())
    }
}

/// The uncompressed layers of an image, whose blobs are asked for with it.
fn diff_ids(source: &RegistrySource, image: &ReachedDocument) -> Vec<Digest> {
    let config = image.config.as_ref();
    let name = &source.reference().repository;
    let bytes = config.and_then(|config| source.registry().small_blob(name, config).ok());
    let parsed = bytes.and_then(|bytes| ImageConfig::parse(&bytes).ok());
    parsed.map(|config| config.rootfs.diff_ids).unwrap_or_default()
}

impl Place {
    fn named(reference: &Reference) -> Place {
        Place { host: reference.host.clone(), repository: reference.repository.clone(), is_named: true }
    }

    /// Whether both are one repository, whoever named it.
    fn is_same(&self, other: &Place) -> bool {
        (&self.host, &self.repository) == (&other.host, &other.repository)
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} {} {}", self.place.host, self.place.repository, self.kind.name(), self.digest)
    }
}
