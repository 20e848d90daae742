//! What registries hold besides images, as the usual tools push it: charts, signatures, attestations, bills of
//! materials, caches, models.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::image::{CONFIG, INDEX, MANIFEST, bytes, descriptor, digest, index};
use super::tar::{Tar, gzip};

/// The configuration of artifacts that have none (OCI image-spec v1.1, "Guidance for an Empty Descriptor").
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

const SIGNED: &str = "sha256:1f7a3c1ca4b0b36bd9b0a1a5dbb2ca1e2f34db0f6cc8f4d2e3a4f0f3cbbd6b10";

/// An artifact as a registry stores it.
#[derive(Clone, Debug)]
pub struct Artifact {
    pub name: &'static str,
    /// Media types and bytes of its manifests and indexes: the one that is tagged is the last.
    pub manifests: Vec<(String, Vec<u8>)>,
    pub blobs: Vec<Vec<u8>>,
    /// Whether Debian's registry takes it.
    pub is_old: bool,
}

/// One of each kind, with `text` in its payload.
pub fn all(text: &str) -> Vec<Artifact> {
    [charts(text), signatures(text), attestations(text), bills(text), caches(text), models(text), others(text)].concat()
}

/// An artifact with one file.
pub fn file(name: &'static str, media_type: &str, bytes: &[u8]) -> Artifact {
    artifact(name, (EMPTY, b"{}"), &[(media_type, bytes)])
}

/// A manifest with a configuration of this media type, and blobs with theirs.
fn manifest(config: (&str, &[u8]), blobs: &[(&str, &[u8])]) -> Value {
    let layers: Vec<Value> = blobs.iter().map(|(media_type, blob)| descriptor(media_type, blob)).collect();
    json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(config.0, config.1), "layers": layers })
}

fn artifact(name: &'static str, config: (&str, &[u8]), blobs: &[(&str, &[u8])]) -> Artifact {
    with_manifest(name, &manifest(config, blobs), config.1, blobs)
}

fn with_manifest(name: &'static str, manifest: &Value, config: &[u8], blobs: &[(&str, &[u8])]) -> Artifact {
    let blobs = blobs.iter().map(|(_, blob)| blob.to_vec()).chain([config.to_vec()]).collect();
    let media_type = manifest["mediaType"].as_str().unwrap().to_string();
    Artifact { name, manifests: vec![(media_type, bytes(manifest))], blobs, is_old: true }
}

fn charts(text: &str) -> Vec<Artifact> {
    const CHART: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
    let config = bytes(&json!({ "name": "app", "version": "1.0.0", "apiVersion": "v2", "type": "application" }));
    let config = ("application/vnd.cncf.helm.config.v1+json", &config[..]);
    let chart = |values: &str| {
        let tar = Tar::new().file("app/Chart.yaml", "apiVersion: v2\nname: app\nversion: 1.0.0\n");
        tar.file("app/values.yaml", format!("image: app\nnote: {values}\n"))
    };
    let provenance = "-----BEGIN PGP SIGNED MESSAGE-----\n\nname: app\n-----BEGIN PGP SIGNATURE-----\n\nwsBc\n\
                      -----END PGP SIGNATURE-----\n";
    let plain = gzip(&chart(text).finish());
    let sub = gzip(&chart(text).finish());
    let within = gzip(&chart("none").file("app/charts/sub-1.0.0.tgz", sub).finish());
    vec![
        artifact(
            "chart",
            config,
            &[(CHART, &plain), ("application/vnd.cncf.helm.chart.provenance.v1.prov", provenance.as_bytes())],
        ),
        artifact("chart-in-chart", config, &[(CHART, &within)]),
    ]
}

fn signatures(text: &str) -> Vec<Artifact> {
    const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
    let payload = bytes(&json!({
        "critical": {
            "identity": { "docker-reference": "registry.example/app" },
            "image": { "docker-manifest-digest": SIGNED },
            "type": "cosign container image signature",
        },
        "optional": { "note": text },
    }));
    let config = bytes(&json!({
        "architecture": "", "created": "0001-01-01T00:00:00Z", "history": [{ "created": "0001-01-01T00:00:00Z" }],
        "os": "", "rootfs": { "type": "layers", "diff_ids": [digest(&payload)] }, "config": {},
    }));
    let bare = bytes(&json!({ "architecture": "", "os": "", "rootfs": { "type": "layers", "diff_ids": [] } }));
    let signed = |name, config: (&str, &[u8])| {
        let mut manifest = manifest(config, &[(PAYLOAD, &payload)]);
        manifest["layers"][0]["annotations"] = json!({ "dev.cosignproject.cosign/signature": "MEUCIQD0c2lnbmF0dXJl" });
        with_manifest(name, &manifest, config.1, &[(PAYLOAD, &payload)])
    };
    let notation = json!({
        "payload": URL_SAFE_NO_PAD.encode(json!({ "targetArtifact": { "digest": SIGNED, "note": text } }).to_string()),
        "protected": URL_SAFE_NO_PAD.encode(r#"{"alg":"PS256","cty":"application/vnd.cncf.notary.payload.v1+json"}"#),
        "signature": "c2lnbmF0dXJl",
    });
    vec![
        signed("signature", (CONFIG, &config)),
        signed("signature-without-diff-ids", (CONFIG, &bare)),
        signed("signature-with-empty-config", (EMPTY, b"{}")),
        artifact(
            "notation",
            ("application/vnd.cncf.notary.signature", b"{}"),
            &[("application/jose+json", &bytes(&notation))],
        ),
    ]
}

/// A statement about an image, signed.
fn envelope(text: &str) -> Value {
    let dockerfile = format!("FROM scratch\n# {text}\nCOPY a /a\n");
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "predicateType": "https://slsa.dev/provenance/v1",
        "subject": [{ "name": "app", "digest": { "sha256": &SIGNED[7..] } }],
        "predicate": { "metadata": { "source": [{ "data": STANDARD.encode(dockerfile) }] } },
    });
    json!({
        "payloadType": "application/vnd.in-toto+json", "payload": STANDARD.encode(statement.to_string()),
        "signatures": [{ "keyid": "", "sig": "c2lnbmF0dXJl" }],
    })
}

fn attestations(text: &str) -> Vec<Artifact> {
    const DSSE: &str = "application/vnd.dsse.envelope.v1+json";
    const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
    let signed = bytes(&envelope(text));
    let config = bytes(&json!({
        "architecture": "", "os": "", "rootfs": { "type": "layers", "diff_ids": [digest(&signed)] }, "config": {},
    }));
    let bundle = bytes(&json!({ "mediaType": BUNDLE, "dsseEnvelope": envelope(text) }));
    let mut referrer = manifest((EMPTY, b"{}"), &[(BUNDLE, &bundle)]);
    referrer["artifactType"] = json!(BUNDLE);
    referrer["subject"] = json!({ "mediaType": MANIFEST, "digest": SIGNED, "size": 7 });
    let lines = format!("{}\n{}\n", envelope("nothing"), envelope(text));
    let statement = json!({ "_type": "https://in-toto.io/Statement/v0.1", "predicate": { "note": text } });
    vec![
        artifact("attestation", (CONFIG, &config), &[(DSSE, &signed)]),
        with_manifest("sigstore-bundle", &referrer, b"{}", &[(BUNDLE, &bundle)]),
        artifact("attestations-in-lines", (EMPTY, b"{}"), &[("application/vnd.in-toto+json", lines.as_bytes())]),
        artifact("statement", (EMPTY, b"{}"), &[("application/vnd.in-toto+json", &bytes(&statement))]),
    ]
}

fn bills(text: &str) -> Vec<Artifact> {
    let spdx =
        bytes(&json!({ "spdxVersion": "SPDX-2.3", "name": "app", "packages": [{ "name": "a", "comment": text }] }));
    let cyclonedx = bytes(&json!({ "bomFormat": "CycloneDX", "components": [{ "name": "a", "description": text }] }));
    let xml = format!("<?xml version=\"1.0\"?>\n<bom><component><description>{text}</description></component></bom>\n");
    let tags = format!("SPDXVersion: SPDX-2.3\nPackageName: a\nPackageComment: {text}\n");
    let config = |blob: &[u8]| {
        bytes(&json!({ "architecture": "", "os": "", "rootfs": { "type": "layers", "diff_ids": [digest(blob)] } }))
    };
    let image = |name, media_type: &str, blob: &[u8]| artifact(name, (CONFIG, &config(blob)), &[(media_type, blob)]);
    vec![
        image("sbom-spdx", "text/spdx+json", &spdx),
        image("sbom-spdx-tags", "text/spdx", tags.as_bytes()),
        image("sbom-cyclonedx", "application/vnd.cyclonedx+json", &cyclonedx),
        image("sbom-cyclonedx-xml", "application/vnd.cyclonedx+xml", xml.as_bytes()),
        artifact("sbom-syft", (EMPTY, b"{}"), &[("application/vnd.syft+json", &spdx)]),
    ]
}

fn caches(text: &str) -> Vec<Artifact> {
    const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    const CACHE: &str = "application/vnd.buildkit.cacheconfig.v0";
    let own = Tar::new().file("app/env", format!("NOTE={text}\n")).finish();
    let (base, layer) = (gzip(&Tar::new().file("etc/motd", "welcome\n").finish()), gzip(&own));
    let config = bytes(&json!({
        "layers": [{ "blob": digest(&base), "parent": -1 }, { "blob": digest(&layer), "parent": 0 }],
        "records": [{ "digest": SIGNED, "layers": [{ "layer": 1, "createdAt": "2026-01-01T00:00:00Z" }] }],
    }));
    let blobs: [(&str, &[u8]); 2] = [(GZIP, &base), (GZIP, &layer)];
    let mut entries: Vec<Value> = blobs.iter().map(|(media_type, blob)| descriptor(media_type, blob)).collect();
    entries.push(descriptor(CACHE, &config));
    let kaniko = bytes(&json!({
        "architecture": "", "os": "", "created": "0001-01-01T00:00:00Z", "config": {},
        "history": [{ "created": "0001-01-01T00:00:00Z", "author": "kaniko", "created_by": "RUN make" }],
        "rootfs": { "type": "layers", "diff_ids": [digest(&own)] },
    }));
    vec![
        with_manifest("buildkit-cache-index", &index(&entries), &config, &blobs),
        artifact("buildkit-cache-manifest", (CACHE, &config), &blobs),
        artifact("kaniko-cache", (CONFIG, &kaniko), &[("application/vnd.docker.image.rootfs.diff.tar.gzip", &layer)]),
    ]
}

fn models(text: &str) -> Vec<Artifact> {
    const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    let weights = [&b"GGUF\x03\0\0\0"[..], &[7; 500]].concat();
    let template = format!("{{{{ .System }}}} {text}");
    let parameters = bytes(&json!({ "stop": ["<|user|>"] }));
    let ollama: [(&str, &[u8]); 4] = [
        ("application/vnd.ollama.image.model", &weights),
        ("application/vnd.ollama.image.license", b"MIT License\n"),
        ("application/vnd.ollama.image.template", template.as_bytes()),
        ("application/vnd.ollama.image.params", &parameters),
    ];
    let diff_ids = |blobs: &[(&str, &[u8])]| blobs.iter().map(|(_, blob)| digest(blob)).collect::<Vec<_>>();
    let config = |blobs: &[(&str, &[u8])]| {
        bytes(&json!({
            "model_format": "gguf", "model_family": "llama", "architecture": "amd64", "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": diff_ids(blobs) },
        }))
    };
    let wasm = [&b"\0asm\x01\0\0\0"[..], &custom_section(text)].concat();
    let component: [(&str, &[u8]); 1] = [("application/wasm", &wasm)];
    let module: [(&str, &[u8]); 1] = [("application/vnd.module.wasm.content.layer.v1+wasm", &wasm)];
    let as_image = bytes(&json!({
        "architecture": "wasm", "os": "wasip1", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [digest(&wasm)] },
    }));
    let without = bytes(&json!({
        "architecture": "wasm", "os": "wasi", "config": {}, "rootfs": { "type": "layers", "diff_ids": [] },
    }));
    let component_config = bytes(&json!({ "architecture": "wasm", "os": "wasip2", "layerDigests": [digest(&wasm)] }));
    let tar = Tar::new().file("model/config.json", format!("{{\"note\": \"{text}\"}}")).finish();
    let ollama_config = config(&ollama);
    let mut model = artifact("ollama-model", (DOCKER_CONFIG, &ollama_config), &ollama);
    let mut document = manifest((DOCKER_CONFIG, &ollama_config), &ollama);
    document["mediaType"] = json!("application/vnd.docker.distribution.manifest.v2+json");
    model.manifests = vec![("application/vnd.docker.distribution.manifest.v2+json".into(), bytes(&document))];
    vec![
        model,
        artifact("docker-model", ("application/vnd.docker.ai.model.config.v0.1+json", &config(&ollama)), &ollama),
        artifact(
            "model-pack",
            ("application/vnd.cncf.model.config.v1+json", b"{\"descriptor\":{}}"),
            &[("application/vnd.cncf.model.weight.v1.tar", &tar)],
        ),
        artifact("wasm", ("application/vnd.wasm.config.v0+json", &component_config), &component),
        artifact("wasm-as-image", (CONFIG, &as_image), &module),
        artifact("wasm-as-image-without-diff-ids", (CONFIG, &without), &module),
    ]
}

/// A custom section of a WebAssembly module with `text` in it.
fn custom_section(text: &str) -> Vec<u8> {
    let content = [&[4][..], b"note", text.as_bytes()].concat();
    [&[0, u8::try_from(content.len()).unwrap()][..], &content].concat()
}

fn others(text: &str) -> Vec<Artifact> {
    const OLD: &str = "application/vnd.oci.artifact.manifest.v1+json";
    let note = format!("NOTE={text}\n");
    let mut files = manifest((EMPTY, b"{}"), &[("text/plain", note.as_bytes()), ("text/plain", b"")]);
    files["artifactType"] = json!("application/vnd.example.files");
    files["layers"][0]["annotations"] = json!({ "org.opencontainers.image.title": "notes/env.txt" });
    let mut empty = manifest((EMPTY, b"{}"), &[(EMPTY, b"{}")]);
    empty["artifactType"] = json!("application/vnd.example.note");
    empty["annotations"] = json!({ "org.example.note": text });
    let old = json!({
        "mediaType": OLD, "artifactType": "application/vnd.example.files",
        "blobs": [descriptor("text/plain", note.as_bytes())],
    });
    let old_and_empty = json!({
        "mediaType": OLD, "artifactType": "application/vnd.example.note", "annotations": { "org.example.note": text },
        "subject": { "mediaType": MANIFEST, "digest": SIGNED, "size": 7 },
    });
    // The tag `sha256-<hex>` where a registry has no referrers: of one, and after the last was deleted.
    let referrers = {
        let parts = [signatures("nothing"), attestations(text)].concat();
        let mut entries = Vec::new();
        for part in &parts {
            let mut entry = descriptor(MANIFEST, &part.manifests[0].1);
            entry["artifactType"] = json!("application/vnd.example");
            entries.push(entry);
        }
        let mut manifests: Vec<_> = parts.iter().flat_map(|part| part.manifests.clone()).collect();
        manifests.push((INDEX.into(), bytes(&index(&entries))));
        let blobs = parts.into_iter().flat_map(|part| part.blobs).collect();
        Artifact { name: "referrers", manifests, blobs, is_old: true }
    };
    let mut no_referrers = index(&[]);
    no_referrers["annotations"] = json!({ "org.example.note": text });
    // Without a media type of its own, ORAS gives a file that of a layer.
    let untyped = artifact(
        "oras-file-without-type",
        ("application/vnd.unknown.config.v1+json", b"{}"),
        &[("application/vnd.oci.image.layer.v1.tar", note.as_bytes())],
    );
    let bundle = bytes(&json!({ "schemaVersion": "v1.0.0", "name": "app", "description": text, "images": {} }));
    // As the documentation of Open Policy Agent has it.
    let policies = gzip(&Tar::new().file("policy/data.json", format!("{{\"note\": \"{text}\"}}")).finish());
    let policies: [(&str, &[u8]); 1] = [("application/vnd.oci.image.layer.v1.tar+gzip", &policies)];
    let mut all = vec![
        artifact("opa-bundle", (CONFIG, b"{}"), &policies),
        with_manifest("oras-files", &files, b"{}", &[("text/plain", note.as_bytes()), ("text/plain", b"")]),
        with_manifest("oras-annotations", &empty, b"{}", &[]),
        with_manifest("artifact-manifest", &old, b"{}", &[("text/plain", note.as_bytes())]),
        with_manifest("artifact-manifest-without-blobs", &old_and_empty, b"{}", &[]),
        untyped,
        artifact("cnab-bundle", (CONFIG, &bundle), &[]),
        artifact("cnab-bundle-of-old", (CONFIG, &bundle), &[("application/vnd.oci.image.layer.v1.tar", &bundle)]),
        referrers,
        with_manifest("no-referrers", &no_referrers, b"{}", &[]),
    ];
    for artifact in &mut all {
        artifact.is_old = !artifact.name.starts_with("artifact-manifest");
    }
    all
}
