//! Not one bit may be changed: of the payload, the signature, the key, the digest, or the text of either form.

use layersift_attest::keys::{PrivateKey, PublicKey, Signer};
use layersift_attest::{
    Bundle, Demands, Document, Envelope, Evidence, Layer, PAYLOAD_TYPE, legacy_layers, pae, verify,
};
use layersift_model::Digest;

use crate::decision::{envelope, now, result};
use crate::support::{fixture, subject, text};

fn each_bit(bytes: &[u8], mut check: impl FnMut(&[u8], usize)) {
    let mut changed = bytes.to_vec();
    for bit in 0..bytes.len() * 8 {
        changed[bit / 8] ^= 1 << (bit % 8);
        check(&changed, bit);
        changed[bit / 8] ^= 1 << (bit % 8);
    }
}

fn keys() -> Vec<PrivateKey> {
    let fixture = fixture("signatures.json");
    let key = |name: &str| PrivateKey::from_pem(text(&fixture["keys"][name]["private"]), None).unwrap();
    ["p256", "ed25519", "rsa2048"].iter().map(|name| key(name)).collect()
}

fn accepts(evidence: &Evidence, image: &Digest, key: &PublicKey) -> bool {
    let demands = Demands { keys: vec![key.clone()], ..Demands::default() };
    verify(evidence, image, &demands, now()).is_accepted()
}

#[test]
fn the_payload_and_the_signature() {
    for key in keys() {
        let envelope = envelope(&result(), &key);
        let (public, signature) = (key.public_key(), envelope.signatures()[0].clone());
        assert!(public.verifies(&pae(PAYLOAD_TYPE, envelope.payload()), &signature));
        each_bit(envelope.payload(), |payload, bit| {
            assert!(!public.verifies(&pae(PAYLOAD_TYPE, payload), &signature), "{bit}");
        });
        let message = pae(PAYLOAD_TYPE, envelope.payload());
        each_bit(&signature, |changed, bit| assert!(!public.verifies(&message, changed), "{public:?} {bit}"));
        for cut in 0..signature.len() {
            assert!(!public.verifies(&message, &signature[..cut]), "{public:?} {cut}");
        }
    }
}

#[test]
fn the_key() {
    for key in keys() {
        let envelope = envelope(&result(), &key);
        let public = key.public_key();
        each_bit(public.to_der(), |changed, bit| {
            let refused = PublicKey::from_der(changed).map_or(true, |other| !envelope.is_signed_by(&other));
            assert!(refused, "{public:?} {bit}");
        });
        each_bit(public.to_pem().trim_end().as_bytes(), |changed, bit| {
            let other = std::str::from_utf8(changed).ok().and_then(|text| PublicKey::from_pem(text).ok());
            assert!(other.is_none_or(|other| !envelope.is_signed_by(&other)), "{public:?} {bit}");
        });
    }
}

#[test]
fn the_digest_of_the_image() {
    let key = &keys()[0];
    let mut evidence = Evidence::default();
    let bundle = Bundle::new(envelope(&result(), key), key.public_key());
    evidence.add_bundle(bundle.to_json().unwrap().as_bytes());
    assert!(accepts(&evidence, &subject(), key.public_key()));
    each_bit(subject().hex().as_bytes(), |changed, bit| {
        let digest = std::str::from_utf8(changed).ok().and_then(|hex| format!("sha256:{hex}").parse().ok());
        assert!(digest.is_none_or(|digest| !accepts(&evidence, &digest, key.public_key())), "{bit}");
    });
}

/// The name of the key is all that may change in a bundle, because nobody can check what it says.
#[test]
fn the_text_of_a_bundle() {
    let key = &keys()[0];
    let bundle = Bundle::new(envelope(&result(), key), key.public_key());
    let json = bundle.to_json().unwrap();
    each_bit(json.as_bytes(), |changed, bit| {
        let mut evidence = Evidence::default();
        evidence.add_bundle(changed);
        let is_same = Bundle::parse(changed).is_ok_and(|other| other.envelope == bundle.envelope);
        assert!(is_same || !accepts(&evidence, &subject(), key.public_key()), "{bit}");
        let hint = json.find(&key.public_key().hint()).unwrap();
        let is_hint = (hint..hint + key.public_key().hint().len()).contains(&(bit / 8));
        assert!(!is_same || is_hint, "{bit}: {}", String::from_utf8_lossy(changed));
    });
}

#[test]
fn the_text_of_an_envelope() {
    let key = &keys()[1];
    let envelope = envelope(&result(), key);
    let layer = Layer { envelope: envelope.clone(), timestamp: None }.to_append("https://x").unwrap();
    let (blobs, manifest) = layer.artifact().unwrap();
    let descriptor = legacy_layers(&manifest).unwrap().remove(0);
    let Document { bytes, .. } = &blobs[0];
    let mut evidence = Evidence::default();
    evidence.add_legacy(&descriptor, bytes);
    assert!(accepts(&evidence, &subject(), key.public_key()));
    each_bit(bytes, |changed, bit| {
        let mut evidence = Evidence::default();
        evidence.add_legacy(&descriptor, changed);
        assert!(!accepts(&evidence, &subject(), key.public_key()), "{bit}: {}", String::from_utf8_lossy(changed));
        assert!(Envelope::parse(changed).map_or(true, |other| other != envelope), "{bit}");
    });
}
