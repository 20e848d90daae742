//! What both versions of cosign wrote, and what both accept byte for byte.

use layersift_attest::keys::{PublicKey, Signer};
use layersift_attest::registry::{collect, fallback_tag, legacy_tag};
use layersift_attest::{Bundle, Descriptor, Envelope, Layer, PAYLOAD_TYPE, Statement, pae, signed_statements};
use layersift_model::Digest;
use serde_json::Value;

use crate::support::{Repository, SUBJECT, TYPE, fixture, handmade_key, public_key, subject, text};

#[test]
fn all_that_cosign_wrote_is_read() {
    let written = fixture("written.json");
    let mut read = 0;
    for (name, dump) in written.as_object().unwrap() {
        let repository = Repository::recorded(dump);
        let evidence = collect(&repository, &subject()).unwrap();
        let key = match name {
            _ if name.contains("attach-attestation") => public_key("handmade-p256.pub"),
            _ => public_key(&format!("{}-generated.pub", &name[..2])),
        };
        let (statements, refusals) = signed_statements(&evidence, &subject(), std::slice::from_ref(&key), TYPE);
        let expected = expected(name);
        assert_eq!(statements.len(), expected, "{name}: {refusals:?}");
        let other = [public_key("handmade-p256_other.pub")];
        assert!(signed_statements(&evidence, &subject(), &other, TYPE).0.is_empty(), "{name}");
        let elsewhere = Digest::of(b"another image");
        assert!(signed_statements(&evidence, &elsewhere, &[key], TYPE).0.is_empty(), "{name}");
        read += expected;
    }
    assert!(read > 40, "{read}");
}

/// How many attestations of our type a recording has.
fn expected(name: &str) -> usize {
    // Signatures of images are bundles of another type, or no attestation.
    if name.contains("-sign-") {
        return 0;
    }
    match name {
        "v3-attach-attestation-dreg" => 2,
        _ if name.contains("twice-same") => 2,
        // `--replace` is ignored for bundles.
        _ if name.contains("replace") && name.contains("bundle") => 3,
        _ => 1,
    }
}

#[test]
fn the_recommended_forms_are_written_byte_for_byte() {
    let key = handmade_key();
    let recording = fixture("recommended-bundle.json");
    let statement = statement_of(&recording);
    let envelope = Envelope::parse(recorded_envelope(&recording).as_bytes()).unwrap();
    let bundle = Bundle::new(envelope, key.public_key());
    assert_eq!(bundle.to_json().unwrap(), text(&recording["bundle_blob"]));
    let image = &recording["image"];
    let subject = Descriptor::of(text(&image["mediaType"]), text(&image["manifest"]).as_bytes());
    let created = "2026-11-28T20:00:00Z".parse().unwrap();
    let artifact = bundle.artifact(statement.predicate_type(), &subject, created).unwrap();
    assert_eq!(String::from_utf8(artifact.manifest.bytes.clone()).unwrap(), text(&recording["manifest"]));
    assert_eq!(artifact.entry.digest.to_string(), text(&recording["manifest_digest"]));
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{}]}}"#,
        serde_json::to_string(&artifact.entry).unwrap()
    );
    assert_eq!(index, text(&recording["fallback_index"]));
    assert_eq!(fallback_tag(&subject.digest), text(&recording["fallback_tag"]));
    assert_eq!(artifact.blobs[0].bytes, text(&recording["config_blob"]).as_bytes());

    let recording = fixture("recommended-legacy.json");
    statement_of(&recording);
    let envelope = Envelope::parse(text(&recording["envelope_blob"]).as_bytes()).unwrap();
    assert_eq!(envelope.to_json().unwrap(), text(&recording["envelope_blob"]));
    let layer = Layer { envelope, timestamp: None }.to_append(statement.predicate_type()).unwrap();
    let (blobs, manifest) = layer.artifact().unwrap();
    assert_eq!(String::from_utf8(manifest.bytes).unwrap(), text(&recording["manifest"]));
    assert_eq!(blobs[1].bytes, text(&recording["config_blob"]).as_bytes());
    assert_eq!(legacy_tag(&subject.digest), text(&recording["tag"]));
}

/// The statement of a recording, which is written with the same bytes and signed anew.
fn statement_of(recording: &Value) -> Statement {
    let recorded = text(&recording["statement"]);
    let statement = Statement::parse(recorded.as_bytes()).unwrap();
    assert_eq!(statement.to_bytes().unwrap(), recorded.as_bytes());
    let predicate: Value = statement.predicate_as().unwrap();
    let name = statement.subjects()[0].name.as_deref();
    let made = Statement::new(name, &subject(), statement.predicate_type(), &predicate).unwrap();
    assert!(made.is_about(&subject()));
    let key = handmade_key();
    let envelope = Envelope::sign(&statement, &key).unwrap();
    assert_eq!(envelope.payload(), recorded.as_bytes());
    assert!(envelope.is_signed_by(&PublicKey::from_pem(text(&recording["public_key_pem"])).unwrap()));
    assert!(pae(PAYLOAD_TYPE, envelope.payload()).starts_with(b"DSSEv1 28 application/vnd.in-toto+json 4"));
    statement
}

fn recorded_envelope(recording: &Value) -> String {
    let bundle: Value = serde_json::from_str(text(&recording["bundle_blob"])).unwrap();
    bundle["dsseEnvelope"].to_string()
}

#[test]
fn a_name_is_all_that_statements_may_lack() {
    let made = Statement::new(None, &subject(), TYPE, &serde_json::json!({})).unwrap();
    let hex = SUBJECT.trim_start_matches("sha256:");
    let expected = format!(
        "{{\"_type\":\"https://in-toto.io/Statement/v1\",\"subject\":[{{\"digest\":{{\"sha256\":\"{hex}\"}}}}],\
         \"predicateType\":\"{TYPE}\",\"predicate\":{{}}}}"
    );
    assert_eq!(made.to_bytes().unwrap(), expected.as_bytes());
    assert!(Statement::new(None, &subject(), TYPE, &serde_json::json!([])).is_err());
    assert!(Statement::new(None, &subject(), "", &serde_json::json!({})).is_err());
    assert!(Statement::new(None, &subject(), TYPE, &serde_json::json!({"n": (1_u64 << 53) + 1})).is_err());
    let sha512: Digest = format!("sha512:{}", "0".repeat(128)).parse().unwrap();
    assert!(Statement::new(None, &sha512, TYPE, &serde_json::json!({})).is_err());
}
