//! Time stamps that both versions of cosign fetched from two authorities.

use layersift_attest::Evidence;
use layersift_attest::registry::collect;
use layersift_attest::timestamp::{Authorities, Request, TimestampError};

use crate::support::{Repository, fixture, subject, text};

fn authorities(name: &str) -> Authorities {
    Authorities::from_pem(text(&fixture("keys.json")[name])).unwrap()
}

fn chain_of(recording: &str) -> &'static str {
    if recording.starts_with("timestamp-server") { "timestamp-server-chain.pem" } else { "test-only-tsa-chain.pem" }
}

fn recorded() -> Vec<(String, Evidence)> {
    let recordings = fixture("timestamped.json");
    let read = |dump| collect(&Repository::recorded(dump), &subject()).unwrap();
    recordings.as_object().unwrap().iter().map(|(name, dump)| (name.clone(), read(dump))).collect()
}

#[test]
fn tokens_of_both_cosigns_are_verified() {
    let recorded = recorded();
    assert_eq!(recorded.len(), 8);
    for (name, evidence) in &recorded {
        let [attestation] = evidence.attestations() else { panic!("{name}: {:?}", evidence.unreadable()) };
        let [token] = &attestation.timestamps[..] else { panic!("{name}") };
        let verified = authorities(chain_of(name)).verify(token, &attestation.stamped);
        if name.contains("v3-legacy") {
            // Cosign 3 stamps the signature there and does not verify it itself.
            assert!(matches!(verified, Err(TimestampError::Imprint)), "{name}");
            continue;
        }
        let stamp = verified.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(stamp.time.strftime("%Y-%m-%d %H").to_string(), "2026-11-28 21", "{name}");
        let other = authorities("test-only-other-tsa-chain.pem").verify(token, &attestation.stamped);
        assert!(matches!(other, Err(TimestampError::Chain(_) | TimestampError::Signer)), "{name} {other:?}");
        assert!(matches!(authorities(chain_of(name)).verify(token, b"other bytes"), Err(TimestampError::Imprint)));
    }
}

/// Some parts of a response are not signed, such as certificates that are not needed. None of them matters.
#[test]
fn a_changed_bit_is_refused_or_changes_nothing() {
    for (name, evidence) in recorded().iter().filter(|(name, _)| !name.contains("legacy")) {
        let attestation = &evidence.attestations()[0];
        let token = &attestation.timestamps[0];
        let authorities = authorities(chain_of(name));
        let stamp = authorities.verify(token, &attestation.stamped).unwrap();
        let mut changed = token.clone();
        let mut refused = 0;
        for bit in 0..token.len() * 8 {
            changed[bit / 8] ^= 1 << (bit % 8);
            match authorities.verify(&changed, &attestation.stamped) {
                Ok(other) => assert_eq!(other, stamp, "{name} {bit}"),
                Err(_) => refused += 1,
            }
            changed[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(refused > 3000, "{name} {refused}");
    }
}

#[test]
fn an_answer_to_another_request_is_refused() {
    let recorded = recorded();
    let (_, evidence) = recorded.iter().find(|(name, _)| name == "v2-bundle-dreg").unwrap();
    let attestation = &evidence.attestations()[0];
    let request = Request::new(&attestation.stamped).unwrap();
    let verified =
        request.verify(&authorities("test-only-tsa-chain.pem"), &attestation.timestamps[0], &attestation.stamped);
    assert!(matches!(verified, Err(TimestampError::Nonce)));
}

#[test]
fn a_request_that_was_not_granted_has_no_stamp() {
    let refused = [0x30, 5, 0x30, 3, 2, 1, 2];
    let verified = authorities("test-only-tsa-chain.pem").verify(&refused, b"message");
    assert!(matches!(verified, Err(TimestampError::NotGranted(2))));
}

#[test]
fn requests_have_the_form_of_rfc_3161() {
    let request = Request::new(b"message").unwrap().under_policy("1.2.3.4").unwrap().to_der().unwrap();
    let hash = [0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0];
    assert_eq!(request[..2], [0x30, u8::try_from(request.len() - 2).unwrap()]);
    assert_eq!(request[2..5], [2, 1, 1]);
    assert_eq!(request[5..22], hash);
    assert_eq!(request[22..24], [4, 32]);
    assert_eq!(request[56..61], [6, 3, 0x2a, 3, 4]);
    assert_eq!(request[61..63], [2, 8]);
    assert_eq!(request[71..], [1, 1, 0xff]);
    assert_ne!(request, Request::new(b"message").unwrap().to_der().unwrap());
    assert!(Request::new(b"message").unwrap().under_policy("policy").is_err());
}

#[test]
fn other_files_are_not_authorities() {
    let keys = fixture("keys.json");
    let chain = text(&keys["test-only-tsa-chain.pem"]);
    let leaf_only = &chain[..chain.find("-----END").unwrap() + "-----END CERTIFICATE-----\n".len()];
    for other in ["", text(&keys["v2-generated.pub"]), leaf_only, &chain[..chain.len() - 40]] {
        assert!(matches!(Authorities::from_pem(other), Err(TimestampError::Certificates)), "{other}");
    }
}
