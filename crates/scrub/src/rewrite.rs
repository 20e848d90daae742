//! Rewrites an image: reads it, decides, and puts the new one together.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;

use layersift_format::compression::Codec;
use layersift_format::json::Node;
use layersift_format::{Cancellation, ImageSource, Location};
use layersift_model::{Algorithm, Digest, Limits};
use memchr::memmem::Finder;

use crate::changes::{self, Action, Changes, Dropped, LayerChange, Place, Replaced, SCHEMA};
use crate::documents;
use crate::error::ScrubError;
use crate::graph::{Blob, Child, Content, Document, Manifest, OCI_CONFIG, OCI_INDEX, Reader};
use crate::held::OldImage;
use crate::needles::Needles;
use crate::plan::{self, Plan};
use crate::recompress::{self, Written};
use crate::request::Request;
use crate::search::Search;
use crate::staging::Staging;
use crate::survey::{self, Survey, SurveyError};

/// The name of the image in a layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A rewritten image, which is complete in its staging directory.
#[derive(Debug)]
pub struct Scrubbed {
    /// What changed.
    pub changes: Changes,
    /// The digest of the new manifest or index.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// The name of the image in the source.
    pub reference: Option<String>,
    /// The configuration and the layers, if the image is for one platform.
    pub single: Option<(Digest, Vec<Digest>)>,
    /// Manifests and indexes apart from the root, those that others name first, and their media types.
    pub manifests: Vec<(Digest, String)>,
    /// Every other blob.
    pub blobs: Vec<Digest>,
    /// Where there are values of fewer than 16 bytes, which may be words that occur elsewhere.
    pub short: Vec<String>,
    /// How many values were not looked for, because they are too short.
    pub unsearched: usize,
}

/// Writes the image of `source`, which is called `target`, to `staging`, without what `request` names. `only` is the
/// manifest of the one image that is wanted of an index.
///
/// # Errors
/// If the image cannot be read, or one of the places cannot be done.
pub fn scrub(
    source: &dyn ImageSource,
    target: &str,
    request: &Request,
    only: Option<&Digest>,
    staging: &Staging,
) -> Result<Scrubbed, ScrubError> {
    let written = write(source, target, request, only, staging);
    // Whatever went wrong because it was told to stop is not an error of the image.
    staging.check()?;
    written
}

fn write(
    source: &dyn ImageSource,
    target: &str,
    request: &Request,
    only: Option<&Digest>,
    staging: &Staging,
) -> Result<Scrubbed, ScrubError> {
    let limits = Limits::default();
    let reader = Reader { source, limits: &limits, target };
    let (root, reference) = reader.root(only)?;
    let layers = Layers::read(&reader, &root, request, staging)?;
    let mut writer = Writer {
        reader: &reader,
        request,
        staging,
        layers: &layers,
        changes: Changes { schema: SCHEMA, source: target.into(), ..Changes::default() },
        search: search_for(request, &layers.plan, staging.cancellation())?,
        manifests: Vec::new(),
        blobs: BTreeSet::new(),
        single: None,
    };
    writer.changes.fingerprints = request.secrets.iter().map(|secret| secret.fingerprint.clone()).collect();
    writer.changes.fingerprints.dedup();
    writer.layer_changes();
    let written = writer.document(&root)?;
    if writer.changes.is_empty() {
        let why = "the image does not have what has to go".into();
        return Err(ScrubError::Target { target: target.into(), why });
    }
    writer.changes.root = Replaced { old: root.digest.clone(), new: Some(written.digest.clone()) };
    layers.remove_old(staging)?;
    write_listing(staging, &written)?;
    let Writer { mut changes, mut manifests, blobs, single, search, .. } = writer;
    let short = check_result(staging, &search, &manifests, &blobs)?;
    let kept: BTreeSet<Digest> = manifests.iter().map(|(digest, _)| digest).chain(&blobs).cloned().collect();
    let old = OldImage { reader: &reader, search: &search, request, staging, kept };
    old.add_to(&mut changes)?;
    staging.remove_partial()?;
    manifests.retain(|(digest, _)| *digest != written.digest);
    let WrittenDocument { digest, media_type, .. } = written;
    let single = single.filter(|_| manifests.is_empty());
    let (blobs, unsearched) = (blobs.into_iter().collect(), search.unsearched());
    Ok(Scrubbed { changes, digest, media_type, reference, single, manifests, blobs, short, unsearched })
}

/// Looks for the secrets, and for the values that were found in removed files.
fn search_for(request: &Request, plan: &Plan, cancellation: &Cancellation) -> Result<Search, ScrubError> {
    let removed: BTreeSet<&str> = changes::removed_paths(&plan.places).collect();
    let of_files = request.values_of_files.iter().filter(|(path, _)| removed.contains(&path[..]));
    let values = request.secrets.iter().map(|secret| &secret.value).chain(of_files.map(|(_, value)| value));
    Search::new(values, request.threads, cancellation)
}

/// Checks that nothing of the result has what had to go: also where no rule looks, and no place was named. Returns the
/// places of values that are so short that they may be other words.
fn check_result(
    staging: &Staging,
    search: &Search,
    manifests: &[(Digest, String)],
    blobs: &BTreeSet<Digest>,
) -> Result<Vec<String>, ScrubError> {
    let (mut places, mut short, mut paths) = (Vec::new(), Vec::new(), Vec::new());
    let documents = manifests.iter().map(|(digest, _)| digest);
    for (digest, is_document) in documents.map(|digest| (digest, true)).chain(blobs.iter().map(|blob| (blob, false))) {
        let failed = |source| ScrubError::Blob { layer: digest.to_string(), source };
        let hits = search.in_blob(&staging.blob(digest), staging).map_err(failed)?.hits;
        if hits.is_empty() {
            continue;
        }
        let name =
            if is_document { format!("manifest {}", digest.short()) } else { blob_name(staging, manifests, digest) };
        for hit in hits {
            let place = format!("{name}: {}", hit.place);
            if hit.is_short {
                short.push(place);
            } else {
                places.push(place);
                paths.extend(hit.path);
            }
        }
    }
    if places.is_empty() { Ok(short) } else { Err(ScrubError::Remains { places, paths }) }
}

/// A blob for people, with the manifests that name it.
fn blob_name(staging: &Staging, manifests: &[(Digest, String)], blob: &Digest) -> String {
    let finder = Finder::new(blob.hex());
    let names_it =
        |manifest: &Digest| std::fs::read(staging.blob(manifest)).is_ok_and(|bytes| finder.find(&bytes).is_some());
    let named = manifests.iter().map(|(digest, _)| digest).filter(|manifest| names_it(manifest));
    let named: Vec<&str> = named.map(Digest::short).collect();
    format!("blob {} of manifest {}", blob.short(), named.join(", "))
}

/// The layers of all images, and what becomes of them.
struct Layers {
    surveys: Vec<Survey>,
    by_location: HashMap<Location, usize>,
    plan: Plan,
    /// The layers that were rewritten.
    written: HashMap<usize, Written>,
}

impl Layers {
    fn read(reader: &Reader<'_>, root: &Document, request: &Request, staging: &Staging) -> Result<Layers, ScrubError> {
        let secrets = Needles::new(request.secrets.iter().map(|secret| secret.value.reveal().to_vec()).collect());
        let (mut surveys, mut by_location) = (Vec::<Survey>::new(), HashMap::new());
        let mut images = Vec::new();
        for image in root.images() {
            let mut indexes = Vec::new();
            for layer in &image.layers {
                let index = match by_location.get(&layer.location) {
                    Some(&known) => known,
                    None => {
                        let read = survey_layer(reader, layer, &secrets, staging)?;
                        // An archive may have a layer under two names.
                        let known = surveys.iter().position(|survey| survey.digest == read.digest);
                        let index = known.unwrap_or(surveys.len());
                        if known.is_none() {
                            surveys.push(read);
                        }
                        by_location.insert(layer.location.clone(), index);
                        index
                    }
                };
                indexes.push(index);
            }
            check_diff_ids(image, &indexes, &surveys)?;
            images.push(indexes);
        }
        let plan = plan::plan(&surveys, &images, request, staging)?;
        let mut written = HashMap::new();
        for (index, edits) in plan.edits.iter().enumerate().filter(|(_, edits)| !edits.is_empty()) {
            written.insert(index, rewrite_layer(&surveys[index], edits, staging)?);
        }
        Ok(Layers { surveys, by_location, plan, written })
    }

    /// Removes the old layers of those that were rewritten.
    fn remove_old(&self, staging: &Staging) -> Result<(), ScrubError> {
        self.written.keys().try_for_each(|&index| staging.remove(&self.surveys[index].digest))
    }

    /// The survey of a layer, and what was written for it.
    fn of(&self, layer: &Blob) -> Option<(&Survey, Option<&Written>)> {
        let index = *self.by_location.get(&layer.location)?;
        Some((&self.surveys[index], self.written.get(&index)))
    }
}

/// Reads a layer, and copies it to `staging`.
fn survey_layer(reader: &Reader<'_>, layer: &Blob, secrets: &Needles, staging: &Staging) -> Result<Survey, ScrubError> {
    let name = || layer.digest.as_ref().map_or_else(|| layer.location.0.clone(), Digest::to_string);
    let algorithm = layer.digest.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
    let (mut file, path) = staging.begin()?;
    let input = staging.reader(reader.open(&layer.location)?.into_reader());
    let read = survey::survey(input, algorithm, secrets, &mut file);
    let read = read.map_err(|error| match error {
        SurveyError::Blob(source) => ScrubError::Blob { layer: name(), source },
        SurveyError::Archive(source) => ScrubError::Layer { layer: name(), source },
    })?;
    if layer.digest.as_ref().is_some_and(|digest| *digest != read.digest) {
        let why = format!("the digest does not match: it is {}", read.digest);
        return Err(ScrubError::Document { document: name(), why });
    }
    staging.complete(&path, &read.digest)?;
    Ok(read)
}

/// Checks that the configuration names the layers that were read. Otherwise no new one could.
fn check_diff_ids(image: &Manifest, layers: &[usize], surveys: &[Survey]) -> Result<(), ScrubError> {
    let Some(node) = image.config_bytes.as_ref().and_then(|bytes| Node::parse(bytes).ok()) else { return Ok(()) };
    let named = node.get("rootfs").and_then(|rootfs| rootfs.get("diff_ids")).map(Node::elements).unwrap_or_default();
    let fits = named.len() == layers.len()
        && named
            .iter()
            .zip(layers)
            .all(|(named, &layer)| named.as_str().is_some_and(|named| named == surveys[layer].diff_id.to_string()));
    if fits {
        return Ok(());
    }
    let document = image.config.as_ref().map_or_else(String::new, |config| config.location.0.clone());
    Err(ScrubError::Document { document, why: "the configuration does not name the layers of the image".into() })
}

fn rewrite_layer(survey: &Survey, edits: &[crate::edit::Edit], staging: &Staging) -> Result<Written, ScrubError> {
    let failed = |source| ScrubError::Blob { layer: survey.digest.to_string(), source };
    let stored = File::open(staging.blob(&survey.digest)).map_err(failed)?;
    let (file, path) = staging.begin()?;
    let written = recompress::rewrite(staging.reader(stored), survey.codec, edits, file).map_err(failed)?;
    staging.complete(&path, &written.digest)?;
    Ok(written)
}

/// A document of the new image.
struct WrittenDocument {
    digest: Digest,
    size: u64,
    media_type: String,
    is_changed: bool,
}

struct Writer<'w> {
    reader: &'w Reader<'w>,
    request: &'w Request,
    staging: &'w Staging,
    layers: &'w Layers,
    changes: Changes,
    search: Search,
    manifests: Vec<(Digest, String)>,
    blobs: BTreeSet<Digest>,
    single: Option<(Digest, Vec<Digest>)>,
}

impl Writer<'_> {
    fn layer_changes(&mut self) {
        self.changes.places.clone_from(&self.layers.plan.places);
        for (index, survey) in self.layers.surveys.iter().enumerate() {
            let Some(written) = self.layers.written.get(&index) else { continue };
            self.changes.layers.push(LayerChange {
                old: survey.digest.clone(),
                old_diff_id: survey.diff_id.clone(),
                new: written.digest.clone(),
                new_diff_id: written.diff_id.clone(),
                compression: written.codec.to_string(),
            });
        }
    }

    fn document(&mut self, document: &Document) -> Result<WrittenDocument, ScrubError> {
        let mut node = document.node.clone();
        match &document.content {
            Content::Index(children) => self.index(children, &mut node)?,
            Content::Manifest(manifest) => self.manifest(document, manifest, &mut node)?,
        }
        let is_new = document.digest.is_none();
        let places = documents::mask_secrets(&mut node, document.digest.as_ref(), self.request);
        self.changes.places.extend(places);
        let is_changed = node != document.node;
        let bytes = if is_changed { documents::to_bytes(&node) } else { document.bytes.clone() };
        let digest = match &document.digest {
            Some(digest) if !is_changed => {
                self.staging.write_as(digest, &bytes)?;
                digest.clone()
            }
            _ => self.staging.write(&bytes)?,
        };
        if is_changed && !is_new {
            self.changes.manifests.push(Replaced { old: document.digest.clone(), new: Some(digest.clone()) });
        }
        self.manifests.push((digest.clone(), document.media_type.clone()));
        let media_type = document.media_type.clone();
        Ok(WrittenDocument { digest, size: bytes.len() as u64, media_type, is_changed })
    }

    fn index(&mut self, children: &[Child], node: &mut Node) -> Result<(), ScrubError> {
        let mut changed: Vec<Digest> = Vec::new();
        let mut kept: Vec<Option<WrittenDocument>> = Vec::new();
        let is_referrer = |child: &Child| child.refers_to.is_some() && child.document.images().is_empty();
        for child in children {
            if is_referrer(child) {
                kept.push(None);
                continue;
            }
            let written = self.document(&child.document)?;
            changed.extend(child.document.digest.clone().filter(|_| written.is_changed));
            kept.push(Some(written));
        }
        for (child, kept) in children.iter().zip(&mut kept).filter(|(child, _)| is_referrer(child)) {
            if let Some(why) = self.reason_to_drop(child, &changed)? {
                self.drop_document(&child.document, why);
            } else {
                *kept = Some(self.document(&child.document)?);
            }
        }
        let Some(entries) = documents::elements_mut(node, "manifests") else { return Ok(()) };
        let mut kept = kept.into_iter();
        entries.retain_mut(|entry| {
            let Some(written) = kept.next().flatten() else { return false };
            if written.is_changed {
                documents::set_descriptor(entry, &written.digest, written.size);
            }
            true
        });
        Ok(())
    }

    /// Why something that refers to an image is not part of the new one.
    fn reason_to_drop(&self, child: &Child, changed: &[Digest]) -> Result<Option<&'static str>, ScrubError> {
        if child.refers_to.as_ref().is_some_and(|subject| changed.contains(subject)) {
            return Ok(Some("it is about the old image"));
        }
        let Content::Manifest(manifest) = &child.document.content else { return Ok(None) };
        let mut all = vec![child.document.bytes.clone()];
        for blob in manifest.layers.iter().chain(&manifest.config) {
            all.push(self.reader.artifact(blob)?);
        }
        // A value of a few bytes is a coincidence, unless it was found in a document.
        let has_short = self.request.in_documents.contains(&true);
        let names = |bytes: &Vec<u8>| self.search.is_in(bytes) || has_short && self.search.has_too_short(bytes);
        Ok(all.iter().any(names).then_some("it holds a secret that was scrubbed"))
    }

    fn drop_document(&mut self, document: &Document, why: &str) {
        let Some(digest) = document.digest.clone() else { return };
        let blobs = match &document.content {
            Content::Manifest(manifest) => manifest.layers.iter().chain(&manifest.config).collect(),
            Content::Index(_) => Vec::new(),
        };
        let blobs = blobs.into_iter().filter_map(|blob| blob.digest.clone()).collect();
        self.changes.dropped.push(Dropped { digest, kind: "attestation or signature".into(), why: why.into(), blobs });
    }

    fn manifest(&mut self, document: &Document, manifest: &Manifest, node: &mut Node) -> Result<(), ScrubError> {
        let Some(config_bytes) = &manifest.config_bytes else { return self.copy_artifact(manifest) };
        let mut layers = Vec::new();
        for layer in &manifest.layers {
            layers.extend(self.layers.of(layer));
        }
        let config = self.config(manifest, config_bytes, &layers)?;
        let digests: Vec<Digest> =
            layers.iter().map(|(survey, written)| written.map_or(&survey.digest, |new| &new.digest).clone()).collect();
        self.blobs.extend(digests.iter().cloned());
        self.single = Some((config.digest.clone(), digests));
        if document.bytes.is_empty() {
            *node = made_manifest(&config, &layers);
            return Ok(());
        }
        if config.is_changed
            && let Some(descriptor) = documents::member_mut(node, "config")
        {
            documents::set_descriptor(descriptor, &config.digest, config.size);
        }
        let Some(descriptors) = documents::elements_mut(node, "layers") else { return Ok(()) };
        for (descriptor, (survey, written)) in descriptors.iter_mut().zip(&layers) {
            let Some(written) = written else { continue };
            documents::set_descriptor(descriptor, &written.digest, written.size);
            if written.codec != survey.codec {
                documents::set_layer_compression(descriptor, written.codec);
            }
            for annotation in documents::update_layer_annotations(descriptor, &written.diff_id) {
                self.changes.places.push(Place {
                    action: Action::AnnotationRemoved,
                    blob: Some(survey.digest.clone()),
                    path: annotation,
                    entry: None,
                    offset: None,
                    length: None,
                    fingerprint: None,
                    note: Some("it describes the old bytes of the layer".into()),
                });
            }
        }
        Ok(())
    }

    fn config(
        &mut self,
        manifest: &Manifest,
        bytes: &[u8],
        layers: &[(&Survey, Option<&Written>)],
    ) -> Result<WrittenDocument, ScrubError> {
        let old = manifest.config.as_ref().and_then(|config| config.digest.clone());
        let name = manifest.config.as_ref().map_or_else(String::new, |config| config.location.0.clone());
        let failed = |why: String| ScrubError::Document { document: name.clone(), why };
        let parsed = Node::parse(bytes).map_err(|error| failed(error.to_string()))?;
        let mut node = parsed.clone();
        let diff_ids: Vec<Digest> = layers
            .iter()
            .map(|(survey, written)| written.map_or(&survey.diff_id, |new| &new.diff_id).clone())
            .collect();
        if !documents::set_diff_ids(&mut node, &diff_ids) {
            return Err(failed("the configuration does not name the layers of the image".into()));
        }
        let places = documents::mask_secrets(&mut node, old.as_ref(), self.request);
        self.changes.places.extend(places);
        let is_changed = node != parsed;
        let bytes = if is_changed { documents::to_bytes(&node) } else { bytes.to_vec() };
        let digest = match old.clone().filter(|_| !is_changed) {
            Some(digest) => {
                self.staging.write_as(&digest, &bytes)?;
                digest
            }
            None => self.staging.write(&bytes)?,
        };
        if is_changed {
            self.changes.configs.push(Replaced { old, new: Some(digest.clone()) });
        }
        self.blobs.insert(digest.clone());
        let media_type = OCI_CONFIG.into();
        Ok(WrittenDocument { digest, size: bytes.len() as u64, media_type, is_changed })
    }

    /// Copies what is not an image as it is.
    fn copy_artifact(&mut self, manifest: &Manifest) -> Result<(), ScrubError> {
        for blob in manifest.layers.iter().chain(&manifest.config) {
            let Some(digest) = &blob.digest else { continue };
            if !self.staging.has(digest) {
                let bytes = self.reader.artifact(blob)?;
                self.staging.write_as(digest, &bytes)?;
            }
            self.blobs.insert(digest.clone());
        }
        Ok(())
    }
}

/// The manifest of an image that has none.
fn made_manifest(config: &WrittenDocument, layers: &[(&Survey, Option<&Written>)]) -> Node {
    let text = |text: &str| Node::String(text.into());
    let descriptor = |media_type: &str, digest: &Digest, size: u64| {
        Node::Object(vec![
            ("mediaType".into(), text(media_type)),
            ("digest".into(), text(&digest.to_string())),
            ("size".into(), Node::Number(size.into())),
        ])
    };
    let layer = |(survey, written): &(&Survey, Option<&Written>)| {
        let suffix = match written.map_or(survey.codec, |new| new.codec) {
            Codec::Gzip => "+gzip",
            Codec::Zstd => "+zstd",
            Codec::Plain | Codec::Xz | Codec::Bzip2 => "",
        };
        let (digest, size) = written.map_or((&survey.digest, survey.size), |new| (&new.digest, new.size));
        descriptor(&format!("application/vnd.oci.image.layer.v1.tar{suffix}"), digest, size)
    };
    Node::Object(vec![
        ("schemaVersion".into(), Node::Number(2.into())),
        ("mediaType".into(), text("application/vnd.oci.image.manifest.v1+json")),
        ("config".into(), descriptor(&config.media_type, &config.digest, config.size)),
        ("layers".into(), Node::Array(layers.iter().map(layer).collect())),
    ])
}

/// Writes the listing of the layout, without a name for the image.
fn write_listing(staging: &Staging, root: &WrittenDocument) -> Result<(), ScrubError> {
    staging.write_file("index.json", &listing(&root.media_type, &root.digest, root.size, None))?;
    staging.write_file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
}

/// The listing of a layout with one image.
pub(crate) fn listing(media_type: &str, digest: &Digest, size: u64, name: Option<&str>) -> Vec<u8> {
    let mut entry = serde_json::json!({ "mediaType": media_type, "digest": digest.to_string(), "size": size });
    if let Some(name) = name {
        entry["annotations"] = serde_json::json!({ REF_NAME: name });
    }
    serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry] }).to_string().into_bytes()
}
