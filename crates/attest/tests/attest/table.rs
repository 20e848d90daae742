//! Every row of the table of hand-made attestations: where both versions of cosign agree, we agree, or deviate on
//! purpose.

use layersift_attest::registry::{Put, ReadLimits, Registry, collect_within, fallback_tag, legacy_tag};
use layersift_attest::{BUNDLE, Descriptor, Document, INDEX, MANIFEST, signed_statements};
use layersift_model::Digest;
use serde_json::{Map, Value, json};

use crate::deviations::{Signed, beside, signed};
use crate::support::{Repository, TYPE, subject};

/// What both accept and we refuse: group, field, value. `docs/attest.md` lists them.
const STRICTER: [(&str, &str, &str); 15] = [
    ("bundle/statement+envelope", "_type", "absent"),
    ("legacy/statement+envelope", "_type", "absent"),
    ("bundle/statement+envelope", "_type", "empty string"),
    ("legacy/statement+envelope", "_type", "empty string"),
    ("bundle/statement+envelope", "_type", "https://example.org/other"),
    ("legacy/statement+envelope", "_type", "https://example.org/other"),
    ("bundle/statement+envelope", "statement field names", "type instead of _type"),
    ("legacy/statement+envelope", "statement field names", "type instead of _type"),
    ("bundle/statement+envelope", "predicate", "absent"),
    ("legacy/statement+envelope", "predicate", "absent"),
    ("bundle/statement+envelope", "predicate", "null"),
    ("legacy/statement+envelope", "predicate", "null"),
    ("legacy/statement+envelope", "subject[].digest", "sha256 plus a non-hex value (gitTag: v1)"),
    ("legacy/statement+envelope", "subject", "1025 entries, ours last"),
    ("bundle/json", "bundle bytes", "gzip-compressed"),
];

/// What both refuse and we accept: signatures that cosign makes itself and does not verify by default.
const MORE: [(&str, &str, &str); 4] = [
    ("bundle/key", "p384", "ECDSA P-384, SHA-384"),
    ("legacy/key", "p384", "ECDSA P-384, SHA-384"),
    ("bundle/key", "p521", "ECDSA P-521, SHA-512"),
    ("legacy/key", "p521", "ECDSA P-521, SHA-512"),
];

#[test]
fn we_agree_with_both_cosigns_where_they_agree() {
    let table = include_str!("../data/table.tsv");
    let (mut agreed, mut stricter, mut more) = (0, 0, 0);
    for line in table.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [group, field, value, dreg_v2, dreg_v3, oreg_v2, oreg_v3] = fields[..] else { panic!("{line}") };
        for (v2, v3, has_referrers) in [(dreg_v2, dreg_v3, false), (oreg_v2, oreg_v3, true)] {
            let accepted = is_accepted(group, field, value, has_referrers);
            let row = (group, field, value);
            match (v2, v3, accepted) {
                ("ok", "ok", true) | ("refused", "refused", false) => agreed += 1,
                ("ok", "ok", false) if STRICTER.contains(&row) => stricter += 1,
                ("refused", "refused", true) if MORE.contains(&row) => more += 1,
                // Where they differ, the strict one is right.
                _ if v2 != v3 => assert!(!accepted || field == "(none)", "{line}"),
                ("-", "-", _) => panic!("no result: {line}"),
                _ => panic!("API: {has_referrers}, accepted: {accepted}: {line}"),
            }
        }
    }
    assert_eq!((stricter, more), (2 * STRICTER.len(), 2 * MORE.len()), "every deviation is one, on both registries");
    assert!(agreed > 500, "{agreed}");
}

/// Whether the attestation of a row is found and verified.
fn is_accepted(group: &str, field: &str, value: &str, has_referrers: bool) -> bool {
    let repository = Repository::new(has_referrers);
    let mut key = Signed::good().key;
    match group {
        "bundle/statement+envelope" | "bundle/key" => {
            let signed = signed(field, value);
            key = signed.key.clone();
            push_bundles(&repository, &[signed.bundle().into_bytes()]);
        }
        "legacy/statement+envelope" | "legacy/key" => {
            let signed = signed(field, value);
            key = signed.key.clone();
            push_layers(&repository, &[signed.envelope().into_bytes()]);
        }
        "bundle/json" => push_bundles(&repository, &[changed_bundle(field, value)]),
        "bundle/manifest" => push_changed_manifest(&repository, field, value),
        "bundle/fallback-index" => push_changed_index(&repository, field, value),
        "legacy/manifest" => push_changed_layers(&repository, field, value),
        "legacy/layers" => push_layers(&repository, &several_layers(value)),
        "several" => push_bundles(&repository, &several_bundles(value)),
        "trap" => push_trap(&repository, field, value),
        _ => panic!("{group}"),
    }
    let evidence = collect_within(&repository, &subject(), &ReadLimits::OF_COSIGN).unwrap();
    !signed_statements(&evidence, &subject(), &[key], TYPE).0.is_empty()
}

fn changed_bundle(field: &str, value: &str) -> Vec<u8> {
    let signed = Signed::good();
    let mut bundle: Value = serde_json::from_str(&signed.bundle()).unwrap();
    let parse = || serde_json::from_str::<Value>(value).unwrap();
    match (field, value) {
        ("mediaType" | "verificationMaterial", "absent") => drop(bundle.as_object_mut().unwrap().remove(field)),
        ("mediaType", kind) => bundle["mediaType"] = kind.into(),
        ("verificationMaterial", _) => bundle["verificationMaterial"] = parse(),
        ("publicKey.hint", how) => {
            bundle["verificationMaterial"]["publicKey"]["hint"] = match how {
                "empty string" => "".into(),
                "hint of another key" => beside("another key").key.hint().into(),
                _ => signed.key.fingerprint().into(),
            }
        }
        ("publicKey", _) => bundle["verificationMaterial"]["publicKey"]["rawBytes"] = "AAAA".into(),
        ("rfc3161Timestamps[0].signedTimestamp", _) => {
            bundle["verificationMaterial"]["timestampVerificationData"] =
                json!({"rfc3161Timestamps": [{"signedTimestamp": "AAAA"}]});
        }
        ("bundle", "unknown top-level field") => bundle["note"] = "x".into(),
        ("bundle", "snake_case field names") => {
            let text = bundle.to_string();
            let text = text.replace("mediaType", "media_type").replace("verificationMaterial", "verification_material");
            return text.replace("dsseEnvelope", "dsse_envelope").into_bytes();
        }
        ("bundle", "no content (neither dsseEnvelope nor messageSignature)") => {
            bundle.as_object_mut().unwrap().remove("dsseEnvelope");
        }
        ("bundle", "certificate instead of publicKey (garbage)") => {
            bundle["verificationMaterial"] = json!({"certificate": {"rawBytes": "AAAA"}});
        }
        ("bundle bytes", "gzip-compressed") => {
            return [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], bundle.to_string().as_bytes()].concat();
        }
        ("bundle bytes", _) => return (serde_json::to_string_pretty(&bundle).unwrap() + "\n").into_bytes(),
        _ => {
            let name = field.strip_prefix("verificationMaterial.").unwrap_or_else(|| panic!("{field} {value}"));
            bundle["verificationMaterial"][name] = parse();
        }
    }
    bundle.to_string().into_bytes()
}

fn push_changed_manifest(repository: &Repository, field: &str, value: &str) {
    let blob = Signed::good().bundle().into_bytes();
    repository.put(&blob);
    let mut manifest = bundle_manifest(&blob);
    let mut media_type = MANIFEST;
    let mut entry = Map::new();
    let is_content = value.contains("content {}");
    match (field, value) {
        ("artifactType" | "annotations", "absent") => drop(manifest.as_object_mut().unwrap().remove(field)),
        ("artifactType", kind) => manifest["artifactType"] = kind.into(),
        ("config.mediaType", kind) if is_content => {
            manifest["config"]["mediaType"] =
                kind.split(',').next().unwrap().replace("the bundle media type", BUNDLE).into();
        }
        ("config content", content) => {
            let content = match content {
                "empty (0 bytes)" => "",
                "not JSON (\"x\")" => "x",
                json => json,
            };
            manifest["config"] = json!(Descriptor::of("application/vnd.oci.empty.v1+json", content.as_bytes()));
        }
        ("config descriptor", "with data \"e30=\"") => manifest["config"]["data"] = "e30=".into(),
        ("config descriptor", _) => manifest["config"]["artifactType"] = BUNDLE.into(),
        ("layers[0].mediaType", kind) => manifest["layers"][0]["mediaType"] = kind.into(),
        ("layers", "none") => manifest["layers"] = json!([]),
        ("layers", _) => manifest["layers"].as_array_mut().unwrap().push(json!(Descriptor::of("text/plain", b"x"))),
        ("layers[0]", _) => manifest["layers"][0]["annotations"] = json!({"a": "b"}),
        ("annotations", "absent, also not in the list") => {
            drop(manifest.as_object_mut().unwrap().remove("annotations"))
        }
        ("annotations", how) => manifest["annotations"] = json!({"what the table says": how}),
        ("subject", _) => drop(manifest.as_object_mut().unwrap().remove("subject")),
        ("subject.digest", _) => manifest["subject"]["digest"] = Digest::of(b"another").to_string().into(),
        ("subject.size", _) => manifest["subject"]["size"] = 1.into(),
        ("subject.mediaType", kind) if kind.starts_with("docker") => {
            manifest["subject"]["mediaType"] = "x/docker".into()
        }
        ("manifest.mediaType", _) => drop(manifest.as_object_mut().unwrap().remove("mediaType")),
        ("manifest media type", _) => {
            media_type = "application/vnd.docker.distribution.manifest.v2+json";
            manifest["mediaType"] = media_type.into();
        }
        ("fallback entry", "wrong size") => drop(entry.insert("size".into(), 1.into())),
        ("fallback entry", "artifactType = config media type") => {
            entry.insert("artifactType".into(), "application/vnd.oci.empty.v1+json".into());
        }
        ("fallback entry", _) => {}
        _ => panic!("{field} {value}"),
    }
    let mut listed = push_manifest(repository, &manifest, media_type);
    listed.as_object_mut().unwrap().extend(entry);
    push_index(repository, json!([listed]), INDEX);
}

fn push_changed_index(repository: &Repository, field: &str, value: &str) {
    let blob = Signed::good().bundle().into_bytes();
    repository.put(&blob);
    let ours = push_manifest(repository, &bundle_manifest(&blob), MANIFEST);
    let foreign = |number: usize| {
        let layer = Descriptor::of("application/spdx+json", format!("{number}").as_bytes());
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": [layer],
            "config": Descriptor::of("application/vnd.oci.empty.v1+json", b"{}"), "subject": image()});
        push_manifest(repository, &manifest, MANIFEST)
    };
    let mut entries: Vec<Value> = match value {
        "1 foreign referrer (SBOM) before ours" => vec![foreign(0)],
        "40 foreign referrers before ours" => (0..40).map(foreign).collect(),
        "same entry twice" => vec![ours.clone()],
        _ => Vec::new(),
    };
    let mut ours = ours;
    if value == "entry has a platform" {
        ours["platform"] = json!({"os": "linux", "architecture": "amd64"});
    }
    entries.push(ours);
    let mut index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
    let mut media_type = INDEX;
    match (field, value) {
        ("index.mediaType", _) => drop(index.as_object_mut().unwrap().remove("mediaType")),
        ("index media type", _) => {
            media_type = "application/vnd.docker.distribution.manifest.list.v2+json";
            index["mediaType"] = media_type.into();
        }
        ("index", "with annotations") => index["annotations"] = json!({"a": "b"}),
        ("index", _) => {}
        _ => panic!("{field} {value}"),
    }
    put(repository, &fallback_tag(&subject()), &index, media_type);
}

fn push_changed_layers(repository: &Repository, field: &str, value: &str) {
    let blob = Signed::good().envelope().into_bytes();
    repository.put(&blob);
    let mut layer = json!(Descriptor::of("application/vnd.dsse.envelope.v1+json", &blob));
    layer["annotations"] = json!({"dev.cosignproject.cosign/signature": "", "predicateType": TYPE});
    let annotations = layer["annotations"].as_object_mut().unwrap();
    let mut media_type = MANIFEST;
    let mut manifest = Map::new();
    let mut config = json!(Descriptor::of("application/vnd.oci.image.config.v1+json", b"{}"));
    match (field, value) {
        ("layer annotations", "absent") => drop(layer.as_object_mut().unwrap().remove("annotations")),
        ("layer annotations", "only predicateType") => {
            annotations.remove("dev.cosignproject.cosign/signature");
        }
        ("layer annotations", "only dev.cosignproject.cosign/signature \"\"") => {
            drop(annotations.remove("predicateType"))
        }
        ("layer annotations", "signature not empty (base64)") => {
            annotations["dev.cosignproject.cosign/signature"] = "AAAA".into();
        }
        ("layer annotations", "predicateType of another type") => annotations["predicateType"] = "https://x".into(),
        ("layer annotations", "further annotation of our own") => drop(annotations.insert("a".into(), "b".into())),
        ("layer annotations", "dev.sigstore.cosign/bundle not JSON") => {
            annotations.insert("dev.sigstore.cosign/bundle".into(), "xx".into());
        }
        ("layer annotations", "dev.sigstore.cosign/bundle \"\"") => {
            annotations.insert("dev.sigstore.cosign/bundle".into(), "".into());
        }
        ("layer annotations", "dev.sigstore.cosign/certificate \"\"") => {
            annotations.insert("dev.sigstore.cosign/certificate".into(), "".into());
        }
        ("layers[].mediaType", kind) => layer["mediaType"] = kind.into(),
        ("config", "empty (0 bytes)") => config["size"] = 0.into(),
        ("config", "{} as application/vnd.oci.empty.v1+json") => {
            config["mediaType"] = "application/vnd.oci.empty.v1+json".into();
        }
        ("config", _) => {}
        ("config.mediaType", _) => config["mediaType"] = "application/vnd.docker.container.image.v1+json".into(),
        ("manifest media type", _) => media_type = "application/vnd.docker.distribution.manifest.v2+json",
        ("manifest.mediaType", _) => {}
        ("manifest", "with artifactType") => drop(manifest.insert("artifactType".into(), "a/b".into())),
        ("manifest", "with annotations") => drop(manifest.insert("annotations".into(), json!({"a": "b"}))),
        ("manifest", _) => drop(manifest.insert("subject".into(), image())),
        _ => panic!("{field} {value}"),
    }
    manifest.insert("schemaVersion".into(), 2.into());
    if field != "manifest.mediaType" {
        manifest.insert("mediaType".into(), media_type.into());
    }
    manifest.insert("config".into(), config);
    manifest.insert("layers".into(), json!([layer]));
    put(repository, &legacy_tag(&subject()), &Value::Object(manifest), media_type);
}

fn several_layers(value: &str) -> Vec<Vec<u8>> {
    let good = Signed::good().envelope().into_bytes();
    if let Some((count, words)) = value.split_once(" of ").filter(|(count, _)| count.parse::<usize>().is_ok()) {
        let mut layers = vec![beside(words).envelope().into_bytes(); count.parse().unwrap()];
        layers.push(good);
        return layers;
    }
    let other = |words| beside(words).envelope().into_bytes();
    match value {
        "the same envelope twice" => vec![good.clone(), good],
        "ours first, other key second" => vec![good, other("other key")],
        "not JSON first, ours second" => vec![b"xx".to_vec(), good],
        words => vec![other(words), good],
    }
}

fn several_bundles(value: &str) -> Vec<Vec<u8>> {
    let good = Signed::good().bundle().into_bytes();
    match value {
        "not JSON as bundle, then good" => vec![b"xx".to_vec(), good],
        "ours, then bundle of another key" => vec![good, beside(value).bundle().into_bytes()],
        words => vec![beside(words).bundle().into_bytes(), good],
    }
}

fn push_trap(repository: &Repository, field: &str, value: &str) {
    match field {
        ".att good" => push_layers(repository, &[Signed::good().envelope().into_bytes()]),
        ".att of another key" => push_layers(repository, &[beside("another key").envelope().into_bytes()]),
        _ => {}
    }
    let good = Signed::good().bundle();
    let bundle = match value {
        "and no referrer" | "neither .att nor referrer" => return,
        "and a foreign referrer (SBOM, not a bundle)" => {
            let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "subject": image(),
                "config": Descriptor::of("application/vnd.oci.empty.v1+json", b"{}"),
                "layers": [Descriptor::of("application/spdx+json", b"{}")]});
            let entry = push_manifest(repository, &manifest, MANIFEST);
            return push_index(repository, json!([entry]), INDEX);
        }
        "and a broken bundle (not JSON)" => "xx".into(),
        "and a bundle with mediaType v0.1 inside" => {
            good.replace(BUNDLE, "application/vnd.dev.sigstore.bundle+json;version=0.1")
        }
        "and a good bundle" => good,
        words => beside(words).bundle(),
    };
    push_bundles(repository, &[bundle.into_bytes()]);
}

fn push_bundles(repository: &Repository, blobs: &[Vec<u8>]) {
    let mut entries = Vec::new();
    for blob in blobs {
        repository.put(blob);
        entries.push(push_manifest(repository, &bundle_manifest(blob), MANIFEST));
    }
    push_index(repository, Value::Array(entries), INDEX);
}

fn push_layers(repository: &Repository, blobs: &[Vec<u8>]) {
    let layers = blobs.iter().map(|blob| {
        repository.put(blob);
        let mut layer = json!(Descriptor::of("application/vnd.dsse.envelope.v1+json", blob));
        layer["annotations"] = json!({"dev.cosignproject.cosign/signature": ""});
        layer
    });
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": layers.collect::<Vec<_>>(),
        "config": Descriptor::of("application/vnd.oci.image.config.v1+json", b"{}")});
    put(repository, &legacy_tag(&subject()), &manifest, MANIFEST);
}

fn bundle_manifest(blob: &[u8]) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": BUNDLE,
        "config": Descriptor::of("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [Descriptor::of(BUNDLE, blob)],
        "subject": image(),
        "annotations": {"dev.sigstore.bundle.content": "dsse-envelope"},
    })
}

fn image() -> Value {
    json!({"mediaType": MANIFEST, "digest": subject(), "size": 401})
}

/// Writes a manifest, and returns what lists it.
fn push_manifest(repository: &Repository, manifest: &Value, media_type: &str) -> Value {
    let bytes = manifest.to_string().into_bytes();
    let reference = Digest::of(&bytes).to_string();
    put(repository, &reference, manifest, media_type);
    json!(Descriptor::of(media_type, &bytes))
}

fn push_index(repository: &Repository, entries: Value, media_type: &str) {
    let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": entries});
    put(repository, &fallback_tag(&subject()), &index, media_type);
}

fn put(repository: &Repository, reference: &str, value: &Value, media_type: &str) {
    let document = Document { media_type: media_type.into(), bytes: value.to_string().into_bytes() };
    assert_eq!(repository.put_manifest(reference, &document).unwrap(), Put::Stored);
}
