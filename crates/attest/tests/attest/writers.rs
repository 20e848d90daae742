//! Attaching beside other writers: sixteen at once, a hundred times, and what registries and tools leave under a tag.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Mutex;
use std::time::Duration;

use layersift_attest::keys::{PrivateKey, Signer};
use layersift_attest::registry::{
    AttachError, ListedIn, Pace, Put, Registry, attach_bundles, attach_layers, collect, fallback_tag, legacy_tag,
};
use layersift_attest::{
    Artifact, Bundle, Descriptor, Document, Envelope, INDEX, Layer, MANIFEST, NewLayer, Statement, legacy_layers,
    signed_statements,
};
use layersift_model::Digest;
use serde_json::{Value, json};

use crate::simulation::{Client, Simulation, Writer};
use crate::support::{Repository, TYPE, handmade_key, subject};

const WRITERS: usize = 16;
const ROUNDS: u64 = 100;
/// Tools that read, append and write once.
const OTHERS: usize = 3;

fn image() -> Descriptor {
    let mut image = Descriptor::of(MANIFEST, b"");
    image.digest = subject();
    image
}

fn envelope(key: &PrivateKey, number: usize) -> Envelope {
    let statement = Statement::new(None, &subject(), TYPE, &json!({"number": number})).unwrap();
    Envelope::sign(&statement, key).unwrap()
}

fn artifact(key: &PrivateKey, number: usize) -> Artifact {
    let bundle = Bundle::new(envelope(key, number), key.public_key());
    bundle.artifact(TYPE, &image(), "2026-11-29T12:00:00Z".parse().unwrap()).unwrap()
}

fn layer(key: &PrivateKey, number: usize) -> NewLayer {
    Layer { envelope: envelope(key, number), timestamp: None }.to_append(TYPE).unwrap()
}

fn attach_bundle<R: Registry>(registry: &R, artifact: &Artifact) -> Result<ListedIn, AttachError<R::Error>> {
    attach_bundles(registry, &subject(), std::slice::from_ref(artifact), Pace::default())
}

fn attach_legacy<R: Registry>(registry: &R, layer: &NewLayer) -> Result<ListedIn, AttachError<R::Error>> {
    attach_layers(registry, &subject(), std::slice::from_ref(layer), Pace::default())
}

/// The digest of the blob of a layer.
fn digest_of(layer: &NewLayer) -> Digest {
    legacy_layers(&layer.artifact().unwrap().1).unwrap()[0].digest.clone()
}

/// What another tool does: it reads the index, appends, and writes, whatever happened since.
fn append_once(client: &Client, tag: &str, list: &str, entry: Value) {
    let document = client.manifest(tag).unwrap();
    let media_type = if list == "manifests" { INDEX } else { MANIFEST };
    let mut empty = json!({"schemaVersion": 2, "mediaType": media_type, list: []});
    if list == "layers" {
        empty["config"] = json!(Descriptor::of("application/vnd.oci.image.config.v1+json", b"{}"));
    }
    let mut value = document.map_or(empty, |found| serde_json::from_slice(&found.bytes).unwrap());
    value[list].as_array_mut().unwrap().push(entry);
    let document = Document { media_type: media_type.into(), bytes: value.to_string().into_bytes() };
    client.put_manifest(tag, &document).unwrap();
}

fn foreign(number: usize) -> Document {
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": [], "subject": image(),
        "config": Descriptor::of("application/vnd.oci.empty.v1+json", b"{}"),
        "annotations": {"n": number.to_string()}});
    Document { media_type: MANIFEST.into(), bytes: manifest.to_string().into_bytes() }
}

/// Some of ours and three other tools write, those within so many milliseconds. Returns how many entries of others are
/// lost because of ours, and because of each other; nothing that one of ours was shown is.
fn round(seed: u64, has_referrers: bool, own: usize, within: u64) -> (usize, usize) {
    let key = PrivateKey::generate_ed25519().unwrap();
    let simulation = Simulation::new(own + OTHERS, seed, has_referrers);
    let mut ours = BTreeSet::new();
    let mut writers: Vec<Writer> = Vec::new();
    let mut random = fastrand::Rng::with_seed(seed);
    for number in 0..own {
        let artifact = artifact(&key, number);
        ours.insert(artifact.entry.digest.clone());
        writers.push(Box::new(move |client| {
            let expected = if has_referrers { ListedIn::Referrers } else { ListedIn::FallbackTag };
            assert_eq!(attach_bundle(client, &artifact).unwrap(), expected);
        }));
    }
    let others: Vec<Document> = (0..OTHERS).map(foreign).collect();
    for document in others.clone() {
        let wait = Duration::from_millis(random.u64(0..=within));
        writers.push(Box::new(move |client| {
            client.pause(wait).unwrap();
            let entry = document.descriptor();
            client.put_manifest(&entry.digest.to_string(), &document).unwrap();
            if !has_referrers {
                append_once(client, &fallback_tag(&subject()), "manifests", json!(entry));
            }
        }));
    }
    simulation.run(writers);
    let others: BTreeSet<Digest> = others.iter().map(|document| document.descriptor().digest).collect();
    if has_referrers {
        let listed = simulation.referring(&subject());
        assert!(ours.is_subset(&listed) && others.is_subset(&listed), "seed {seed}");
        return (0, 0);
    }
    let listed = simulation.listed(&fallback_tag(&subject()));
    assert!(ours.is_subset(&listed), "seed {seed}: {} of ours are listed", ours.intersection(&listed).count());
    assert_eq!(simulation.dropped_knowingly(own), [], "seed {seed}");
    let seen = simulation.shown_to(own);
    assert!(others.intersection(&seen).all(|entry| listed.contains(entry)), "seed {seed}");
    let (by_ours, by_others): (Vec<_>, _) =
        others.difference(&listed).partition(|entry| simulation.dropped_by(entry) < own);
    (by_ours.len(), by_others.len())
}

#[test]
fn with_the_referrers_api_nothing_is_lost() {
    (0..ROUNDS).for_each(|seed| assert_eq!(round(seed, true, WRITERS, 0), (0, 0)));
}

/// Nothing of ours is lost, nor an entry of others that one of ours was ever shown: `round` checks that. What is lost
/// is what others wrote between a read and a write, and what nobody was shown. See decision 057.
#[test]
fn without_it_nothing_that_we_ever_saw_stays_lost() {
    let all = ROUNDS as usize * OTHERS;
    for (own, within, most) in [(WRITERS, 0, 10), (WRITERS, 20_000, 30), (1, 0, 10), (1, 8_000, 30)] {
        let lost: Vec<(usize, usize)> = (0..ROUNDS).map(|seed| round(seed, false, own, within)).collect();
        let by_ours: usize = lost.iter().map(|(by_ours, _)| by_ours).sum();
        let by_others: usize = lost.iter().map(|(_, by_others)| by_others).sum();
        eprintln!("{own} of ours, others within {within} ms: of {all}, {by_ours} lost by ours, {by_others} by others");
        assert!(by_ours <= most, "{own} of ours, others within {within} ms: {by_ours} entries were lost");
    }
}

#[test]
fn layers_of_all_writers_stay() {
    for seed in 0..ROUNDS {
        let key = PrivateKey::generate_ed25519().unwrap();
        let simulation = Simulation::new(WRITERS + 1, seed, false);
        let mut ours = BTreeSet::new();
        let mut writers: Vec<Writer> = Vec::new();
        for number in 0..WRITERS {
            let layer = layer(&key, number);
            ours.insert(digest_of(&layer));
            writers.push(Box::new(move |client| {
                let listed = attach_legacy(client, &layer).unwrap();
                assert_eq!(listed, ListedIn::LegacyTag);
            }));
        }
        writers.push(Box::new(|client| {
            let blob = Document { media_type: "application/json".into(), bytes: b"another envelope".to_vec() };
            client.put_blob(&blob).unwrap();
            append_once(client, &legacy_tag(&subject()), "layers", json!(blob.descriptor()));
        }));
        simulation.run(writers);
        let listed = simulation.listed(&legacy_tag(&subject()));
        assert!(ours.is_subset(&listed), "seed {seed}");
        assert_eq!(simulation.dropped_knowingly(WRITERS), [], "seed {seed}");
        assert!(simulation.shown_to(WRITERS).is_subset(&listed), "seed {seed}");
    }
}

/// A repository that refuses an index which names what it does not have, as docker-registry does, and in which
/// something happens between requests.
struct Strict<F> {
    inner: Repository,
    /// Called before each request, with the number of writes of tags so far.
    before: Mutex<F>,
    writes: Mutex<usize>,
    refuses_all: bool,
    /// How many manifests are refused, as by docker-registry while somebody else writes a blob of theirs.
    refuses: Mutex<usize>,
}

impl<F: FnMut(&Repository, usize)> Strict<F> {
    fn new(inner: Repository, before: F) -> Strict<F> {
        Strict { inner, before: Mutex::new(before), writes: Mutex::new(0), refuses_all: false, refuses: Mutex::new(0) }
    }

    fn happen(&self) {
        let writes = *self.writes.lock().unwrap();
        (self.before.lock().unwrap())(&self.inner, writes);
    }
}

impl<F: FnMut(&Repository, usize)> Registry for Strict<F> {
    type Error = Infallible;

    fn manifest(&self, reference: &str) -> Result<Option<Document>, Infallible> {
        self.happen();
        self.inner.manifest(reference)
    }

    fn put_manifest(&self, reference: &str, manifest: &Document) -> Result<Put, Infallible> {
        let mut refuses = self.refuses.lock().unwrap();
        if *refuses > 0 {
            *refuses -= 1;
            return Ok(Put::Refused);
        }
        let names_missing = entries(manifest).iter().any(|entry| self.inner.manifest(entry).unwrap().is_none());
        let is_tag = !reference.contains(':');
        if is_tag && (self.refuses_all || manifest.media_type == INDEX && names_missing) {
            return Ok(Put::Refused);
        }
        let put = self.inner.put_manifest(reference, manifest);
        *self.writes.lock().unwrap() += usize::from(is_tag);
        put
    }

    fn blob(&self, digest: &Digest, most: u64) -> Result<Option<Vec<u8>>, Infallible> {
        self.inner.blob(digest, most)
    }

    fn put_blob(&self, blob: &Document) -> Result<(), Infallible> {
        self.inner.put_blob(blob)
    }

    fn referrers(&self, subject: &Digest) -> Result<Option<Vec<Descriptor>>, Infallible> {
        self.inner.referrers(subject)
    }

    fn pause(&self, duration: Duration) -> Result<(), Infallible> {
        self.inner.pause(duration)
    }
}

fn entries(document: &Document) -> Vec<String> {
    let value: Value = serde_json::from_slice(&document.bytes).unwrap();
    let list = value["manifests"].as_array().cloned().unwrap_or_default();
    list.iter().map(|entry| entry["digest"].as_str().unwrap().to_owned()).collect()
}

fn tagged(repository: &Repository) -> Vec<String> {
    repository.manifest(&fallback_tag(&subject())).unwrap().map(|document| entries(&document)).unwrap_or_default()
}

fn list(repository: &Repository, listed: &[Value]) {
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed, "annotations": {"by": "others"}});
    let document = Document { media_type: INDEX.into(), bytes: index.to_string().into_bytes() };
    repository.put_manifest(&fallback_tag(&subject()), &document).unwrap();
}

fn put_foreign(repository: &Repository, number: usize) -> Value {
    let document = foreign(number);
    let entry = document.descriptor();
    repository.put_manifest(&entry.digest.to_string(), &document).unwrap();
    let mut entry = json!(entry);
    entry["platform"] = json!({"os": "linux", "architecture": "amd64"});
    entry
}

#[test]
fn only_an_entry_that_is_gone_is_dropped() {
    let repository = Repository::default();
    let kept = put_foreign(&repository, 0);
    let gone = json!(foreign(1).descriptor());
    list(&repository, &[gone.clone(), kept.clone()]);
    let artifact = artifact(&handmade_key(), 0);
    let strict = Strict::new(repository, |_: &Repository, _| {});
    assert_eq!(attach_bundle(&strict, &artifact).unwrap(), ListedIn::FallbackTag);
    let index = strict.inner.manifest(&fallback_tag(&subject())).unwrap().unwrap();
    let index: Value = serde_json::from_slice(&index.bytes).unwrap();
    assert_eq!(index["manifests"], json!([kept, artifact.entry]), "the entry is kept as it was");
    assert_eq!(index["annotations"], json!({"by": "others"}));
}

#[test]
fn an_entry_is_not_dropped_where_the_registry_does_not_mind() {
    let repository = Repository::default();
    list(&repository, &[json!(foreign(1).descriptor())]);
    attach_bundle(&repository, &artifact(&handmade_key(), 0)).unwrap();
    assert_eq!(tagged(&repository).len(), 2);
}

#[test]
fn a_refusal_without_a_reason_is_an_error_and_drops_nothing() {
    let repository = Repository::default();
    let kept = put_foreign(&repository, 0);
    list(&repository, &[kept]);
    let before = tagged(&repository);
    let mut strict = Strict::new(repository, |_: &Repository, _| {});
    strict.refuses_all = true;
    let artifact = artifact(&handmade_key(), 0);
    let attached = attach_bundle(&strict, &artifact);
    assert!(matches!(attached, Err(AttachError::Refused(_))));
    assert!(matches!(attach_legacy(&strict, &layer(&handmade_key(), 0)), Err(AttachError::Refused(_))));
    assert_eq!(tagged(&strict.inner), before);
}

#[test]
fn a_refusal_that_passes_is_survived() {
    let strict = Strict::new(Repository::default(), |_: &Repository, _| {});
    *strict.refuses.lock().unwrap() = 2;
    let artifact = artifact(&handmade_key(), 0);
    attach_bundle(&strict, &artifact).unwrap();
    assert_eq!(tagged(&strict.inner), [artifact.entry.digest.to_string()]);
    *strict.refuses.lock().unwrap() = 2;
    attach_legacy(&strict, &layer(&handmade_key(), 0)).unwrap();
    let refused = Strict::new(Repository::default(), |_: &Repository, _| {});
    *refused.refuses.lock().unwrap() = 100;
    assert!(matches!(attach_bundle(&refused, &artifact), Err(AttachError::Refused(_))));
}

#[test]
fn a_tag_that_holds_the_image_is_survived() {
    let repository = Repository::default();
    let image = json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
        "config": Descriptor::of("application/vnd.oci.image.config.v1+json", b"{}")});
    let document = Document { media_type: MANIFEST.into(), bytes: image.to_string().into_bytes() };
    repository.put_manifest(&fallback_tag(&subject()), &document).unwrap();
    let key = handmade_key();
    assert!(collect(&repository, &subject()).unwrap().attestations().is_empty());
    let artifact = artifact(&key, 0);
    attach_bundle(&repository, &artifact).unwrap();
    assert_eq!(tagged(&repository), [artifact.entry.digest.to_string()]);
    let evidence = collect(&repository, &subject()).unwrap();
    assert_eq!(signed_statements(&evidence, &subject(), &[key.public_key().clone()], TYPE).0.len(), 1);
}

#[test]
fn what_another_writer_undoes_is_put_back() {
    let repository = Repository::default();
    let first = put_foreign(&repository, 0);
    let second = put_foreign(&repository, 1);
    list(&repository, &[first]);
    // After our first write, another tool writes the list that it had read before, with an entry of its own.
    let mut has_happened = false;
    let strict = Strict::new(repository, |repository: &Repository, writes| {
        if writes == 1 && !has_happened {
            has_happened = true;
            list(repository, std::slice::from_ref(&second));
        }
    });
    let artifact = artifact(&handmade_key(), 0);
    attach_bundle(&strict, &artifact).unwrap();
    let listed: BTreeSet<String> = tagged(&strict.inner).into_iter().collect();
    let expected = [foreign(0).descriptor().digest, foreign(1).descriptor().digest, artifact.entry.digest];
    assert_eq!(listed, expected.iter().map(Digest::to_string).collect());
}

#[test]
fn what_was_deleted_meanwhile_is_not_put_back() {
    let repository = Repository::default();
    let first = put_foreign(&repository, 0);
    list(&repository, &[first]);
    let own = artifact(&handmade_key(), 0);
    let own_entry = json!(own.entry);
    let strict = Strict::new(repository, |repository: &Repository, writes| {
        if writes == 1 {
            repository.manifests.lock().unwrap().remove(&foreign(0).descriptor().digest.to_string());
            list(repository, std::slice::from_ref(&own_entry));
        }
    });
    attach_bundle(&strict, &own).unwrap();
    assert_eq!(tagged(&strict.inner), [own.entry.digest.to_string()]);
}

#[test]
fn several_are_attached_at_once() {
    let key = handmade_key();
    for has_referrers in [true, false] {
        let repository = Repository::new(has_referrers);
        let artifacts = [artifact(&key, 0), artifact(&key, 1)];
        attach_bundles(&repository, &subject(), &artifacts, Pace::default()).unwrap();
        let layers = [layer(&key, 0), layer(&key, 1)];
        attach_layers(&repository, &subject(), &layers, Pace::default()).unwrap();
        let evidence = collect(&repository, &subject()).unwrap();
        assert_eq!(evidence.attestations().len(), 2);
        let manifest = repository.manifest(&legacy_tag(&subject())).unwrap().unwrap();
        assert_eq!(legacy_layers(&manifest).unwrap().len(), 2);
    }
}

#[test]
fn layers_are_appended_and_nothing_is_replaced() {
    let repository = Repository::default();
    let key = handmade_key();
    let (first, second) = (layer(&key, 0), layer(&key, 1));
    attach_legacy(&repository, &first).unwrap();
    attach_legacy(&repository, &second).unwrap();
    attach_legacy(&repository, &second).unwrap();
    let manifest = repository.manifest(&legacy_tag(&subject())).unwrap().unwrap();
    let digests: Vec<Digest> = legacy_layers(&manifest).unwrap().into_iter().map(|layer| layer.digest).collect();
    assert_eq!(digests, [digest_of(&first), digest_of(&second)]);
    // A tag that holds something else is left alone.
    let index = Document { media_type: INDEX.into(), bytes: br#"{"schemaVersion":2,"manifests":[]}"#.to_vec() };
    repository.put_manifest(&legacy_tag(&subject()), &index).unwrap();
    let attached = attach_legacy(&repository, &first);
    assert!(matches!(attached, Err(AttachError::Legacy(_))));
    assert_eq!(repository.manifest(&legacy_tag(&subject())).unwrap(), Some(index));
}
