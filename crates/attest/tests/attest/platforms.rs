//! What is demanded of an image with several platforms, and that what was not read may be a failure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use layersift_attest::keys::{PrivateKey, Signer};
use layersift_attest::predicate::{PASSED, ScanResult};
use layersift_attest::registry::{ReadLimits, Registry, collect_each, collect_within};
use layersift_attest::{
    Attached, Bundle, Demands, Descriptor, Document, Envelope, EnvelopeError, Evidence, INDEX, Layer, MANIFEST,
    PAYLOAD_TYPE, Refusal, Statement, Verification, verify, verify_image,
};
use layersift_model::{Digest, Verdict};

use crate::decision::{now, result};
use crate::support::{Repository, handmade_key, subject};

/// A manifest with what a key says about it.
fn attached(name: &str, results: &[ScanResult], key: &PrivateKey) -> Attached {
    let subject = Digest::of(name.as_bytes());
    let mut evidence = Evidence::default();
    for result in results {
        let statement = Statement::new(None, &subject, result.predicate_type(), result).unwrap();
        let bundle = Bundle::new(Envelope::sign(&statement, key).unwrap(), key.public_key());
        evidence.add_bundle(bundle.to_json().unwrap().as_bytes());
    }
    Attached { subject, evidence }
}

fn at(minutes: i64, verdict: Verdict) -> ScanResult {
    let scanned_at = result().scanned_at + SignedDuration::from_mins(minutes);
    ScanResult { verdict, scanned_at, attested_at: scanned_at, ..result() }
}

#[test]
fn an_index_stands_for_its_platforms_and_they_for_it() {
    let key = handmade_key();
    let demands = Demands { keys: vec![key.public_key().clone()], ..Demands::default() };
    let (pass, fail) = (|minutes| at(minutes, Verdict::Pass), |minutes| at(minutes, Verdict::Fail));
    // What is attested of the index and of two platforms, and how many attestations the decision rests on.
    let cases = [
        (vec![pass(0)], [vec![], vec![]], Some(1)),
        (vec![], [vec![pass(0)], vec![pass(1)]], Some(2)),
        (vec![], [vec![pass(0)], vec![]], None),
        (vec![], [vec![], vec![]], None),
        (vec![pass(0)], [vec![pass(0)], vec![fail(1)]], None),
        (vec![pass(0)], [vec![pass(0)], vec![fail(0)]], None),
        (vec![pass(1)], [vec![pass(0)], vec![fail(0)]], Some(1)),
        (vec![fail(1)], [vec![pass(0)], vec![pass(2)]], None),
        (vec![fail(1)], [vec![pass(2)], vec![pass(2)]], Some(2)),
        // Each platform was scanned again after the failure, and the index was not attested again.
        (vec![pass(0)], [vec![fail(1), pass(2)], vec![pass(2)]], Some(2)),
    ];
    for (number, (root, platforms, expected)) in cases.into_iter().enumerate() {
        let root = attached("index", &root, &key);
        let [one, other] = platforms;
        let platforms = [attached("one", &one, &key), attached("other", &other, &key)];
        let accepted = verify_image(&root, &platforms, &demands, now());
        assert_eq!(accepted.as_ref().ok().map(Vec::len), expected, "{number}: {accepted:?}");
    }
    let alone = attached("manifest", &[pass(0)], &key);
    assert_eq!(verify_image(&alone, &[], &demands, now()).unwrap().len(), 1);
}

/// A repository with three bundles that say the same, the size of each, and their entries.
fn three_bundles(key: &PrivateKey) -> (Repository, u64, Vec<Descriptor>) {
    let repository = Repository::new(true);
    let statement = Statement::new(None, &subject(), result().predicate_type(), &result()).unwrap();
    let bundle = Bundle::new(Envelope::sign(&statement, key).unwrap(), key.public_key());
    let of = Descriptor { digest: subject(), ..Descriptor::of(MANIFEST, b"") };
    let mut entries = Vec::new();
    for seconds in 0..3 {
        let created = now() + SignedDuration::from_secs(seconds);
        let artifact = bundle.artifact(result().predicate_type(), &of, created).unwrap();
        artifact.blobs.iter().for_each(|blob| repository.put_blob(blob).unwrap());
        repository.put_manifest(&artifact.entry.digest.to_string(), &artifact.manifest).unwrap();
        entries.push(artifact.entry);
    }
    (repository, bundle.to_json().unwrap().len() as u64, entries)
}

fn decide(repository: &Repository, limits: &ReadLimits, key: &PrivateKey) -> Verification {
    let demands = Demands { keys: vec![key.public_key().clone()], ..Demands::default() };
    let evidence = collect_within(repository, &subject(), limits).unwrap();
    verify(&evidence, &subject(), &demands, now())
}

#[test]
fn what_is_read_of_several_images_has_one_limit() {
    let key = handmade_key();
    let (repository, size, _) = three_bundles(&key);
    let verdicts = |bytes| -> Vec<Verdict> {
        let limits = ReadLimits { bundles: 3, manifests: 30, blob: size, bytes };
        let demands = Demands { keys: vec![key.public_key().clone()], ..Demands::default() };
        let read = collect_each(&repository, [&subject(), &subject()], &limits).unwrap();
        read.iter().map(|evidence| verify(evidence, &subject(), &demands, now()).verdict()).collect()
    };
    assert_eq!(verdicts(7 * size), [Verdict::Pass; 2]);
    assert_eq!(verdicts(6 * size - 1), [Verdict::Pass, Verdict::Incomplete]);
}

#[test]
fn nothing_is_accepted_where_not_all_is_read() {
    let key = handmade_key();
    let (repository, size, _) = three_bundles(&key);
    let enough = ReadLimits { bundles: 3, manifests: 30, blob: size, bytes: 4 * size };
    assert_eq!(decide(&repository, &enough, &key).verdict(), Verdict::Pass);
    for limits in [ReadLimits { bundles: 2, ..enough }, ReadLimits { bytes: 3 * size - 1, ..enough }] {
        let decision = decide(&repository, &limits, &key);
        assert_eq!(decision.verdict(), Verdict::Incomplete);
        assert!(decision.refusals.iter().any(|refusal| matches!(refusal, Refusal::NotAllRead(_))), "{decision:?}");
    }
}

/// Lists `entries` under the tag of a registry without the referrers API.
fn listed(repository: Repository, entries: &[Descriptor]) -> Repository {
    let index = serde_json::json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
    let document = Document { media_type: INDEX.into(), bytes: index.to_string().into_bytes() };
    repository.put_manifest(&subject().to_string().replace(':', "-"), &document).unwrap();
    Repository { has_referrers: false, ..repository }
}

#[test]
fn what_is_listed_twice_or_is_no_bundle_does_not_crowd_out_a_failure() {
    let key = handmade_key();
    let (repository, size, mut entries) = three_bundles(&key);
    let first = entries[0].clone();
    for _ in 0..40 {
        entries.insert(1, first.clone());
    }
    let other = |number: usize| {
        let bytes = format!("{{\"schemaVersion\":2,\"layers\":[],\"n\":{number}}}").into_bytes();
        let document = Document { media_type: MANIFEST.into(), bytes };
        repository.put_manifest(&Digest::of(&document.bytes).to_string(), &document).unwrap();
        document.descriptor()
    };
    let others: Vec<Descriptor> = (0..20).map(other).collect();
    let repository = listed(repository, &[others.as_slice(), &entries].concat());
    let enough = ReadLimits { bundles: 3, manifests: 30, blob: size, bytes: 4 * size };
    assert_eq!(decide(&repository, &enough, &key).verdict(), Verdict::Pass);
    // What is looked into is bounded all the same, and then nothing is known.
    for few in [ReadLimits { bundles: 2, ..enough }, ReadLimits { manifests: 22, ..enough }] {
        assert_eq!(decide(&repository, &few, &key).verdict(), Verdict::Incomplete);
    }
}

#[test]
fn a_listed_bundle_that_is_missing_may_be_a_failure() {
    let key = handmade_key();
    let gone = |entry: &Descriptor| Descriptor { digest: Digest::of(b"gone"), ..entry.clone() };
    let verdict = |change: &dyn Fn(&mut Descriptor)| {
        let (repository, _, mut entries) = three_bundles(&key);
        let mut entry = gone(&entries[0]);
        change(&mut entry);
        entries.push(entry);
        decide(&listed(repository, &entries), &ReadLimits::default(), &key).verdict()
    };
    assert_eq!(verdict(&|_| {}), Verdict::Incomplete);
    // The types in lists are often left out.
    let untyped = |entry: &mut Descriptor| (entry.artifact_type, entry.annotations) = (None, None);
    assert_eq!(verdict(&untyped), Verdict::Incomplete);
    let signature = |entry: &mut Descriptor| {
        entry.artifact_type = Some("application/vnd.dev.cosign.artifact.sig.v1+json".into());
        entry.annotations = None;
    };
    assert_eq!(verdict(&signature), Verdict::Pass);
    // The blob of one that is there.
    let (repository, _, _) = three_bundles(&key);
    repository.blobs.lock().unwrap().retain(|_, blob| blob == b"{}");
    assert_eq!(decide(&repository, &ReadLimits::default(), &key).verdict(), Verdict::Incomplete);
    // A layer of `.att`.
    let statement = Statement::new(None, &subject(), result().predicate_type(), &result()).unwrap();
    let layer = Layer { envelope: Envelope::sign(&statement, &key).unwrap(), timestamp: None };
    let (_, manifest) = layer.to_append(PASSED).unwrap().artifact().unwrap();
    let (repository, _, _) = three_bundles(&key);
    repository.put_manifest(&format!("{}.att", subject().to_string().replace(':', "-")), &manifest).unwrap();
    assert_eq!(decide(&repository, &ReadLimits::default(), &key).verdict(), Verdict::Incomplete);
}

#[test]
fn a_blob_that_is_too_large_for_an_attestation_is_not_read() {
    let key = handmade_key();
    let (repository, size, _) = three_bundles(&key);
    let limits = ReadLimits { blob: size - 1, ..ReadLimits::default() };
    let decision = decide(&repository, &limits, &key);
    assert_eq!(decision.verdict(), Verdict::Fail);
    assert!(matches!(decision.refusals[..], [Refusal::Unreadable(_), ..]), "{decision:?}");
}

#[test]
fn a_long_payload_and_many_signatures_are_refused_before_anything_is_hashed() {
    let envelope = |payload: &[u8], signatures: usize| {
        let signature = serde_json::json!({ "sig": STANDARD.encode([1; 64]) });
        serde_json::json!({ "payload": STANDARD.encode(payload), "payloadType": PAYLOAD_TYPE,
            "signatures": vec![signature; signatures] })
        .to_string()
    };
    let parse = |text: String| Envelope::parse(text.as_bytes());
    assert!(parse(envelope(b"{}", 10)).is_ok());
    assert!(matches!(parse(envelope(b"{}", 11)), Err(EnvelopeError::Signatures(11))));
    assert!(parse(envelope(&vec![b' '; 32 << 20], 1)).is_ok());
    assert!(matches!(parse(envelope(&vec![b' '; (32 << 20) + 8], 1)), Err(EnvelopeError::TooLarge(_))));
    // A statement about a scan is shorter still.
    let key = handmade_key();
    let long = serde_json::json!({ "filler": "x".repeat(5 << 20) });
    let statement = Statement::new(None, &subject(), PASSED, &long).unwrap();
    let mut evidence = Evidence::default();
    let bundle = Bundle::new(Envelope::sign(&statement, &key).unwrap(), key.public_key());
    evidence.add_bundle(bundle.to_json().unwrap().as_bytes());
    let demands = Demands { keys: vec![key.public_key().clone()], ..Demands::default() };
    let decision = verify(&evidence, &subject(), &demands, now());
    assert!(matches!(decision.refusals[..], [Refusal::TooLong(_)]), "{decision:?}");
}
