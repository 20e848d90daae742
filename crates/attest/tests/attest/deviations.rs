//! Attestations with one deviation from the recommended form: those of the table that was made with cosign.

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE};
use layersift_attest::keys::{PrivateKey, PublicKey, Signer};
use layersift_attest::{BUNDLE, PAYLOAD_TYPE, pae};
use serde_json::{Value, json};

use crate::support::{SUBJECT, TYPE, fixture, handmade_key, text};

const OTHER_TYPE: &str = "https://layersift.example/other/v1";
const OTHER_IMAGE: &str = "0000000000000000000000000000000000000000000000000000000000000001";

/// A signed statement in the texts that it is written in.
pub(crate) struct Signed {
    pub(crate) statement: Vec<u8>,
    payload_type: String,
    payload: String,
    /// The signatures in base64 with their key ids.
    signatures: Vec<(Option<String>, String)>,
    /// Fields of the envelope and of its signatures.
    extra: (&'static str, &'static str),
    pub(crate) key: PublicKey,
}

impl Signed {
    /// The recommended form of `statement`, signed by `key`.
    pub(crate) fn new(statement: Vec<u8>, key: &PrivateKey) -> Signed {
        Signed::of_type(statement, PAYLOAD_TYPE, key)
    }

    fn of_type(statement: Vec<u8>, payload_type: &str, key: &PrivateKey) -> Signed {
        let signature = key.sign(&pae(payload_type, &statement)).unwrap();
        let mut signed = Signed::by_others(statement, key.public_key().clone(), &signature);
        signed.payload_type = payload_type.into();
        signed
    }

    fn by_others(statement: Vec<u8>, key: PublicKey, signature: &[u8]) -> Signed {
        Signed {
            payload_type: PAYLOAD_TYPE.into(),
            payload: BASE64_STANDARD.encode(&statement),
            signatures: vec![(None, BASE64_STANDARD.encode(signature))],
            extra: ("", ""),
            key,
            statement,
        }
    }

    pub(crate) fn good() -> Signed {
        Signed::new(statement().to_string().into_bytes(), &handmade_key())
    }

    /// The envelope as JSON.
    pub(crate) fn envelope(&self) -> String {
        let signature = |(id, sig): &(Option<String>, String)| {
            let id = id.as_ref().map(|id| format!("\"keyid\":{},", json!(id))).unwrap_or_default();
            format!("{{{id}{}\"sig\":{}}}", self.extra.1, json!(sig))
        };
        let signatures: Vec<String> = self.signatures.iter().map(signature).collect();
        format!(
            "{{{}\"payload\":{},\"payloadType\":{},\"signatures\":[{}]}}",
            self.extra.0,
            json!(self.payload),
            json!(self.payload_type),
            signatures.join(",")
        )
    }

    /// The bundle as JSON.
    pub(crate) fn bundle(&self) -> String {
        let material = json!({"publicKey": {"hint": self.key.hint()}});
        format!(
            "{{\"mediaType\":\"{BUNDLE}\",\"verificationMaterial\":{material},\"dsseEnvelope\":{}}}",
            self.envelope()
        )
    }

    fn first_signature(&self) -> Vec<u8> {
        BASE64_STANDARD.decode(&self.signatures[0].1).unwrap()
    }
}

/// The recommended statement.
pub(crate) fn statement() -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "registry.example/y", "digest": {"sha256": hex()}}],
        "predicateType": TYPE,
        "predicate": {"result": "no-secrets"},
    })
}

/// The statements that other rows put beside a good one, by the words of the table.
pub(crate) fn beside(words: &str) -> Signed {
    let mut value = statement();
    let key = if words.contains("other key") || words.contains("another key") {
        PrivateKey::generate_p256().unwrap()
    } else {
        handmade_key()
    };
    if words.contains("another predicate type") || words.contains("another type") || words.contains("other types") {
        value["predicateType"] = OTHER_TYPE.into();
    } else if words.contains("cosign/sign/v1") {
        value["predicateType"] = "https://sigstore.dev/cosign/sign/v1".into();
    } else if words.contains("unknown") {
        value["note"] = "x".into();
    } else if words.contains("other subject") {
        value["subject"][0]["digest"]["sha256"] = OTHER_IMAGE.into();
    } else if words.contains("predicate an array") {
        value["predicate"] = json!([]);
    }
    Signed::new(value.to_string().into_bytes(), &key)
}

fn hex() -> &'static str {
    SUBJECT.trim_start_matches("sha256:")
}

/// The rows of the groups `statement+envelope` and `key`.
pub(crate) fn signed(field: &str, value: &str) -> Signed {
    if let Some(statement) = changed_statement(field, value).or_else(|| changed_bytes(field, value)) {
        return Signed::new(statement, &handmade_key());
    }
    changed_envelope(field, value).or_else(|| changed_signature(field, value)).unwrap_or_else(|| by_key(field, value))
}

fn changed_statement(field: &str, value: &str) -> Option<Vec<u8>> {
    let mut statement = statement();
    let object = &mut statement;
    let others = |count: usize| {
        let mut all = vec![json!({"digest": {"sha256": OTHER_IMAGE}}); count - 1];
        all.push(json!({"digest": {"sha256": hex()}}));
        Value::Array(all)
    };
    let deep = |levels: usize| {
        let text = statement_text(&format!("{}{}", "{\"a\":".repeat(levels - 1) + "{}", "}".repeat(levels - 1)));
        Some(text.into_bytes())
    };
    match (field, value) {
        ("(none)", _) => {}
        ("_type" | "predicateType" | "predicate" | "subject", "absent") => {
            object.as_object_mut().unwrap().remove(field);
        }
        ("_type" | "predicateType", "empty string") => object[field] = "".into(),
        ("_type", uri) => object["_type"] = uri.into(),
        ("extra top-level field", _) => object["note"] = "x".into(),
        ("subject[].name", "absent") => drop(object["subject"][0].as_object_mut().unwrap().remove("name")),
        ("subject[].name", "empty string") => object["subject"][0]["name"] = "".into(),
        ("subject[].name", _) => object["subject"][0]["name"] = "other.example/img:tag".into(),
        ("subject[] extra known field", _) => {
            let subject = object["subject"][0].as_object_mut().unwrap();
            subject.insert("uri".into(), "https://registry.example/y".into());
            subject.insert("mediaType".into(), "application/vnd.oci.image.manifest.v1+json".into());
            subject.insert("annotations".into(), json!({}));
        }
        ("subject[] extra unknown field", _) => object["subject"][0]["size"] = 1.into(),
        ("subject[].digest", "sha256 and sha512") => object["subject"][0]["digest"]["sha512"] = "ab".repeat(64).into(),
        ("subject[].digest", "only sha512") => {
            object["subject"][0]["digest"] = json!({"sha512": "ab".repeat(64)});
        }
        ("subject[].digest", _) => object["subject"][0]["digest"]["gitTag"] = "v1".into(),
        ("subject[].digest.sha256", how) => {
            object["subject"][0]["digest"]["sha256"] = match how {
                "with prefix sha256:" => SUBJECT.into(),
                "upper-case hex" => hex().to_uppercase().into(),
                "of another image" => OTHER_IMAGE.into(),
                _ => return None,
            };
        }
        ("subject", "empty list") => object["subject"] = json!([]),
        ("subject", "two: another image first, then ours") => object["subject"] = others(2),
        ("subject", "1025 entries, ours last") => object["subject"] = others(1025),
        ("subject", "1024 entries, ours last") => object["subject"] = others(1024),
        ("predicateType", "another URI than asked") => object["predicateType"] = OTHER_TYPE.into(),
        ("predicateType", "same URI with trailing slash") => object["predicateType"] = format!("{TYPE}/").into(),
        ("predicate", "empty object") => object["predicate"] = json!({}),
        ("predicate", "null") => object["predicate"] = Value::Null,
        ("predicate", "a string") => object["predicate"] = "x".into(),
        ("predicate", "an array") => object["predicate"] = json!([]),
        ("predicate", "a number") => object["predicate"] = 1.into(),
        ("predicate", "integers above 2^53") => object["predicate"] = json!({"n": u64::MAX, "m": (1_u64 << 53) + 1}),
        ("predicate", "1 MB") => object["predicate"] = json!({"x": "a".repeat(1_000_000)}),
        ("predicate", "20 MB") => object["predicate"] = json!({"x": "a".repeat(20_000_000)}),
        ("predicate", "nested 100 levels") => return deep(100),
        ("predicate", "nested 5000 levels") => return deep(5000),
        ("predicate", "nested 9000 levels") => return deep(9000),
        ("predicate", "nested 11000 levels") => return deep(11_000),
        ("predicate", "duplicate key inside") => return Some(statement_text(r#"{"a":1,"a":1}"#).into_bytes()),
        _ => return None,
    }
    Some(statement.to_string().into_bytes())
}

/// The recommended statement with this predicate.
fn statement_text(predicate: &str) -> String {
    statement().to_string().replace(r#"{"result":"no-secrets"}"#, predicate)
}

fn changed_bytes(field: &str, value: &str) -> Option<Vec<u8>> {
    let plain = statement().to_string();
    let kind = format!("\"predicateType\":\"{TYPE}\"");
    let text = match (field, value) {
        ("statement", _) => plain.replace(&kind, &format!("{kind},{kind}")),
        ("statement field names", "snake_case predicate_type") => {
            plain.replace("\"predicateType\"", "\"predicate_type\"")
        }
        ("statement field names", _) => plain.replace("\"_type\"", "\"type\""),
        ("statement bytes", "pretty-printed") => serde_json::to_string_pretty(&statement()).unwrap(),
        ("statement bytes", "keys in another order") => {
            let rest = plain.replace(&format!("{kind},"), "");
            format!("{{{kind},{}", &rest[1..])
        }
        ("statement bytes", "trailing newline") => plain + "\n",
        ("statement bytes", "leading UTF-8 BOM") => format!("\u{feff}{plain}"),
        ("statement bytes", "NUL escape \\u0000") => plain.replace("no-secrets", "\\u0000"),
        ("statement bytes", "lone surrogate escape \\ud800") => plain.replace("no-secrets", "\\ud800"),
        ("statement bytes", "invalid UTF-8 in a string") => {
            let mut bytes = plain.into_bytes();
            let at = bytes.windows(10).position(|window| window == b"no-secrets").unwrap();
            bytes[at] = 0xff;
            return Some(bytes);
        }
        _ => return None,
    };
    Some(text.into_bytes())
}

fn changed_envelope(field: &str, value: &str) -> Option<Signed> {
    let mut signed = Signed::good();
    match (field, value) {
        ("signatures[].keyid", "absent") => {}
        ("signatures[].keyid", "some text") => signed.signatures[0].0 = Some("my-key".into()),
        ("signatures[].keyid", _) => {
            signed.signatures[0].0 = Some(format!("SHA256:{}", BASE64_STANDARD_NO_PAD.encode([7; 32])));
        }
        ("signatures[]", _) => signed.extra.1 = "\"cert\":\"x\",",
        ("envelope", _) => signed.extra.0 = "\"note\":\"x\",",
        ("signatures", "empty list") => signed.signatures.clear(),
        ("signatures", "two: ours twice") => signed.signatures.push(signed.signatures[0].clone()),
        ("signatures", _) => signed.signatures.insert(0, beside("other key").signatures[0].clone()),
        ("payloadType", "application/json (signed so)") => {
            signed = Signed::of_type(signed.statement, "application/json", &handmade_key());
        }
        ("payloadType", _) => {
            signed = Signed::of_type(signed.statement, &format!("{PAYLOAD_TYPE}; charset=utf-8"), &handmade_key());
        }
        ("payload", "URL-safe base64") => {
            // Three bytes that differ in both alphabets.
            let text = statement().to_string().replace("no-secrets", "\u{fb}~~\u{ff}?>?>?>?");
            signed = Signed::new(text.into_bytes(), &handmade_key());
            signed.payload = BASE64_URL_SAFE.encode(&signed.statement);
            assert!(signed.payload.contains(['-', '_']));
        }
        ("payload", "base64 without padding") => {
            let mut text = statement().to_string();
            while text.len().is_multiple_of(3) {
                text.push(' ');
            }
            signed = Signed::new(text.into_bytes(), &handmade_key());
            signed.payload = BASE64_STANDARD_NO_PAD.encode(&signed.statement);
        }
        ("payload", "base64 with line breaks") => signed.payload.insert(60, '\n'),
        ("payload", "altered after signing") => {
            let text = statement().to_string().replace("no-secrets", "no-secretz");
            signed.payload = BASE64_STANDARD.encode(text);
        }
        ("key", _) => signed.signatures = beside("another key").signatures,
        _ => return None,
    }
    Some(signed)
}

fn changed_signature(field: &str, value: &str) -> Option<Signed> {
    if field != "sig" {
        return None;
    }
    let mut signed = Signed::good();
    signed.signatures[0].1 = match value {
        "URL-safe base64" => loop {
            let text = BASE64_URL_SAFE.encode(signed.first_signature());
            if text.contains(['-', '_']) {
                break text;
            }
            signed = Signed::good();
        },
        "base64 without padding" => loop {
            if !signed.first_signature().len().is_multiple_of(3) {
                break BASE64_STANDARD_NO_PAD.encode(signed.first_signature());
            }
            signed = Signed::good();
        },
        "over the payload without PAE" => BASE64_STANDARD.encode(handmade_key().sign(&signed.statement).unwrap()),
        "ECDSA P-256 raw r||s (64 bytes)" => {
            let (r, s) = integers(&signed.first_signature());
            BASE64_STANDARD.encode([r, s].concat())
        }
        "ECDSA P-256 high S" => BASE64_STANDARD.encode(with_s(&signed.first_signature(), true)),
        "ECDSA P-256 low S" => BASE64_STANDARD.encode(with_s(&signed.first_signature(), false)),
        _ => return None,
    };
    Some(signed)
}

/// A statement that openssl signed.
fn by_key(name: &str, how: &str) -> Signed {
    let fixture = fixture("signatures.json");
    let way = match how.rsplit_once(", SHA-") {
        Some((before, bits)) => format!("sha{bits}{}", if before.ends_with("PSS") { "-pss" } else { "" }),
        None => "pure".into(),
    };
    let key = &fixture["keys"][name];
    let signature = BASE64_STANDARD.decode(text(&key["signatures"][&way])).unwrap();
    let public = PublicKey::from_pem(text(&key["public"])).unwrap();
    Signed::by_others(text(&fixture["statement"]).as_bytes().to_vec(), public, &signature)
}

/// The integers of a P-256 signature in DER.
fn integers(der: &[u8]) -> ([u8; 32], [u8; 32]) {
    let take = |at: usize| {
        let length = usize::from(der[at + 1]);
        let bytes = &der[at + 2..at + 2 + length];
        let mut number = [0; 32];
        let bytes = &bytes[bytes.len().saturating_sub(32)..];
        number[32 - bytes.len()..].copy_from_slice(bytes);
        (number, at + 2 + length)
    };
    let (r, next) = take(2);
    (r, take(next).0)
}

/// The same signature with the other S, if it is not as wanted.
fn with_s(der: &[u8], high: bool) -> Vec<u8> {
    let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order: Vec<u8> = (0..32).map(|i| u8::from_str_radix(&order[2 * i..2 * i + 2], 16).unwrap()).collect();
    let (r, mut s) = integers(der);
    let mut negative = [0; 32];
    let mut borrow = 0;
    for at in (0..32).rev() {
        let difference = i16::from(order[at]) - i16::from(s[at]) - borrow;
        borrow = i16::from(difference < 0);
        negative[at] = difference.rem_euclid(256) as u8;
    }
    if (s > negative) != high {
        s = negative;
    }
    let integer = |number: &[u8; 32]| {
        let start = number.iter().position(|byte| *byte != 0).unwrap();
        let mut bytes = number[start..].to_vec();
        if bytes[0] >= 0x80 {
            bytes.insert(0, 0);
        }
        [vec![2, bytes.len() as u8], bytes].concat()
    };
    let body = [integer(&r), integer(&s)].concat();
    [vec![0x30, body.len() as u8], body].concat()
}
