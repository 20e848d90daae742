//! What is demanded of an image with several platforms, and that what was not read may be a failure.

use jiff::SignedDuration;
use layersift_attest::keys::{PrivateKey, Signer};
use layersift_attest::predicate::ScanResult;
use layersift_attest::registry::{ReadLimits, Registry, collect_within};
use layersift_attest::{
    Attached, Bundle, Demands, Descriptor, Envelope, Evidence, MANIFEST, Refusal, Statement, verify, verify_image,
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

#[test]
fn nothing_is_accepted_where_not_all_is_read() {
    let key = handmade_key();
    let demands = Demands { keys: vec![key.public_key().clone()], ..Demands::default() };
    let repository = Repository::new(true);
    let statement = Statement::new(None, &subject(), result().predicate_type(), &result()).unwrap();
    let bundle = Bundle::new(Envelope::sign(&statement, &key).unwrap(), key.public_key());
    let of = Descriptor { digest: subject(), ..Descriptor::of(MANIFEST, b"") };
    for seconds in 0..3 {
        let created = now() + SignedDuration::from_secs(seconds);
        let artifact = bundle.artifact(result().predicate_type(), &of, created).unwrap();
        artifact.blobs.iter().for_each(|blob| repository.put_blob(blob).unwrap());
        repository.put_manifest(&artifact.entry.digest.to_string(), &artifact.manifest).unwrap();
    }
    let size = bundle.to_json().unwrap().len() as u64;
    let decide = |limits: ReadLimits| {
        let evidence = collect_within(&repository, &subject(), &limits).unwrap();
        verify(&evidence, &subject(), &demands, now())
    };
    let enough = ReadLimits { referrers: 3, blob: size, bytes: 4 * size };
    assert!(decide(enough).is_accepted());
    for limits in [ReadLimits { referrers: 2, ..enough }, ReadLimits { bytes: 3 * size - 1, ..enough }] {
        let decision = decide(limits);
        assert!(!decision.is_accepted());
        assert!(decision.refusals.iter().any(|refusal| matches!(refusal, Refusal::NotAllRead(_))), "{decision:?}");
    }
}
