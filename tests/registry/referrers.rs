//! What refers to an image of a registry is read with it: signatures, attestations, bills of materials, anything else.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use layersift_format::manifest::{self, DocumentContent, DocumentKind};
use layersift_format::platform::Choice;
use layersift_format::{ImageSource, Opened};
use layersift_model::{Digest, Limits};
use layersift_rules::Ruleset;
use layersift_scan::{Analyzer, ImageScan, Options};
use layersift_source::registry::RegistrySource;
use serde_json::{Value, json};

use crate::support::image::{CONFIG, INDEX, LAYER, MANIFEST, bytes, descriptor, digest, index};
use crate::support::pull::{options, source};
use crate::support::referred::{EMPTY, Repository};
use crate::support::registry::Registry;
use crate::support::served::clean_layer;
use crate::support::server::{Answer, Server};
use crate::support::tar::Tar;
use crate::support::{artifacts, check_report, findings, gap_reasons, json_of, layersift, testdata};

/// A made-up token with the right checksum.
const TOKEN: &str = "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";

const DSSE: &str = "application/vnd.dsse.envelope.v1+json";

fn analyzer() -> &'static Analyzer {
    static ANALYZER: OnceLock<Analyzer> = OnceLock::new();
    ANALYZER.get_or_init(|| Analyzer::new(Ruleset::built_in().unwrap(), Options::default()).unwrap())
}

fn of(server: &Server) -> RegistrySource {
    source(&format!("{}/app:v1", server.host()), options())
}

/// The report of `app:v1`, the only image.
#[track_caller]
fn scan(server: &Server) -> Value {
    scan_with(analyzer(), of(server))
}

#[track_caller]
fn scan_with(analyzer: &Analyzer, source: RegistrySource) -> Value {
    let scan = ImageScan::new(analyzer).platform(Choice::All);
    let report = json_of(scan.run("app", Opened::Source(Box::new(source))).unwrap());
    let report = serde_json::from_str(&report).unwrap();
    check_report(&report);
    report
}

fn tokens(report: &Value) -> Vec<&Value> {
    findings(report).iter().filter(|finding| finding["rule"] == "github.personal-access-token").collect()
}

fn repository(has_api: bool) -> (Repository, String) {
    let repository = Repository::new(&[clean_layer()], has_api);
    let image = repository.named("v1");
    (repository, image)
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn envelope(statement: &Value) -> Value {
    json!({
        "payloadType": "application/vnd.in-toto+json", "payload": base64(&statement.to_string()),
        "signatures": [{ "sig": "c2lnbmF0dXJl" }],
    })
}

type Plant = fn(&mut Repository, &str);

/// A place for a secret: how it gets there, and the kind and the field of the document that the finding names.
const PLACES: [(&str, Plant, &str, &str); 12] = [
    ("annotation", |repository, image| annotated(repository, image, "note"), "referrer", "annotations.note"),
    ("blob", |repository, image| blob(repository, image, "text/plain", TOKEN.as_bytes()), "blob", ""),
    (
        "json blob",
        |repository, image| {
            let document = bytes(&json!({ "a": [{ "note": TOKEN }] }));
            blob(repository, image, "application/json", &document);
        },
        "blob",
        "a[0].note",
    ),
    (
        "configuration",
        |repository, image| {
            let config = bytes(&json!({ "note": TOKEN }));
            let mut document = repository.referrer(Some(image), &[]);
            document["config"] = descriptor("application/vnd.example", &config);
            repository.put_blob(&config);
            repository.put(MANIFEST, &bytes(&document), None);
        },
        "configuration",
        "note",
    ),
    (
        "statement",
        |repository, image| {
            let envelope = bytes(&envelope(&json!({ "predicate": { "note": TOKEN } })));
            blob(repository, image, DSSE, &envelope);
        },
        "attestation",
        "payload → predicate.note",
    ),
    (
        "bundle",
        |repository, image| {
            let statement = json!({
                "predicateType": "https://slsa.dev/provenance/v1",
                "predicate": { "source": { "data": base64(&format!("FROM scratch\n# {TOKEN}\n")) } },
            });
            let bundle = bytes(&json!({ "dsseEnvelope": envelope(&statement) }));
            blob(repository, image, "application/vnd.dev.sigstore.bundle.v0.3+json", &bundle);
        },
        "provenance",
        "dsseEnvelope.payload → predicate.source.data",
    ),
    (
        "annotation of a signature",
        |repository, image| {
            let payload = json!({ "critical": { "image": { "docker-manifest-digest": image } } });
            let payload = bytes(&payload);
            let media_type = "application/vnd.dev.cosign.simplesigning.v1+json";
            let mut document = repository.referrer(None, &[(media_type, &payload)]);
            document["layers"][0]["annotations"] = json!({ "dev.cosignproject.cosign/signature": TOKEN });
            repository.put(MANIFEST, &bytes(&document), Some(&tag(image, ".sig")));
        },
        "referrer",
        "layers[0].annotations.dev.cosignproject.cosign/signature",
    ),
    (
        "tagged attestation",
        |repository, image| {
            let envelope = bytes(&envelope(&json!({ "predicate": { "note": TOKEN } })));
            repository.put_referrer(None, Some(&tag(image, ".att")), &[(DSSE, &envelope)]);
        },
        "attestation",
        "payload → predicate.note",
    ),
    (
        "bill of materials",
        |repository, image| {
            let text = format!("SPDXVersion: SPDX-2.3\nPackageComment: {TOKEN}\n");
            repository.put_referrer(None, Some(&tag(image, ".sbom")), &[("text/spdx", text.as_bytes())]);
        },
        "sbom",
        "",
    ),
    (
        "layer of another image",
        |repository, image| {
            let tar = Tar::new().file("app/env", format!("TOKEN={TOKEN}\n")).finish();
            let config = bytes(&json!({
                "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [digest(&tar)] },
            }));
            let mut document = repository.referrer(Some(image), &[(LAYER, &tar)]);
            document["config"] = descriptor(CONFIG, &config);
            repository.put_blob(&config);
            repository.put(MANIFEST, &bytes(&document), None);
        },
        "blob",
        "",
    ),
    (
        "signature of a bill of materials",
        |repository, image| {
            let bill = repository.put_referrer(Some(image), None, &[("text/spdx+json", b"{}")]);
            let signature = repository.put_referrer(Some(&bill), None, &[("text/plain", b"nothing")]);
            annotated(repository, &signature, "deep");
        },
        "referrer",
        "annotations.deep",
    ),
    (
        "list",
        |repository, image| {
            let referrer = bytes(&repository.referrer(Some(image), &[]));
            let digest = repository.put(MANIFEST, &referrer, None);
            let entry = json!({
                "mediaType": MANIFEST, "digest": digest, "size": referrer.len(), "annotations": { "own": TOKEN },
            });
            repository.list(image, entry);
        },
        "referrers",
        "manifests[1].annotations.own",
    ),
];

fn tag(image: &str, end: &str) -> String {
    image.replace(':', "-") + end
}

fn annotated(repository: &mut Repository, subject: &str, name: &str) {
    let mut document = repository.referrer(Some(subject), &[]);
    document["annotations"] = json!({ name: TOKEN });
    repository.put(MANIFEST, &bytes(&document), None);
}

fn blob(repository: &mut Repository, image: &str, media_type: &str, blob: &[u8]) {
    repository.put_referrer(Some(image), None, &[(media_type, blob)]);
}

#[test]
fn a_secret_is_found_once_wherever_it_is() {
    for has_api in [true, false] {
        for (place, plant, kind, path) in PLACES {
            let (mut repository, image) = repository(has_api);
            plant(&mut repository, &image);
            let report = scan(&repository.serve());
            assert_eq!(gap_reasons(&report), [""; 0], "{place}: {}", report["gaps"]);
            let [found] = &tokens(&report)[..] else { panic!("{place} {has_api}: {}", report["findings"]) };
            let document = &found["document"];
            assert_eq!(
                (&document["kind"], document["json_path"].as_str().unwrap_or("")),
                (&json!(kind), path),
                "{place}"
            );
            let is_of_tag = kind == "referrers" && !has_api;
            assert_eq!(document["digest"].is_null(), kind == "referrers" && !is_of_tag, "{place}");
            assert_eq!(document["referrer"].is_null(), kind == "referrers", "{place}");
            if place == "layer of another image" {
                assert_eq!(found["inside"], json!(["app/env"]));
            }
        }
    }
}

/// Charts, signatures, attestations, bills of materials, caches and models of many tools.
#[test]
fn artifacts_of_every_kind_are_read_as_referrers() {
    for artifact in artifacts::all(TOKEN) {
        for (has_api, end) in [(true, None), (false, None), (true, Some(".att"))] {
            let (mut repository, image) = repository(has_api);
            repository.attach(&artifact, &image, end.map(|end| tag(&image, end)).as_deref());
            let report = scan(&repository.serve());
            assert!(!tokens(&report).is_empty(), "{} {has_api} {end:?}: {report}", artifact.name);
            assert_eq!(gap_reasons(&report), [""; 0], "{}: {}", artifact.name, report["gaps"]);
        }
    }
}

#[test]
fn they_are_read_unless_the_user_says_no() {
    let (mut repository, image) = repository(true);
    annotated(&mut repository, &image, "note");
    let server = repository.serve();
    let target = format!("docker://{}/app:v1", server.host());
    let flags = ["scan", "--plain-http", "--anonymous", "--format", "json"];
    layersift(&[&flags[..], &[&target, "--no-referrers"]].concat()).expect(0);
    assert_eq!(server.requests().len(), 3, "the manifest, the configuration and the layer");
    layersift(&[&flags[..], &[&target]].concat()).expect(1);
    layersift(&["layers", "--plain-http", "--anonymous", &target]).expect(0);
    assert_eq!(server.requests_of("/referrers/").len(), 2, "of the image, and of what refers to it");
}

#[test]
fn an_image_without_referrers_costs_four_requests_more_or_five() {
    for (has_api, more) in [(true, 4), (false, 5)] {
        let (repository, _) = repository(has_api);
        let server = repository.serve();
        assert_eq!(gap_reasons(&scan(&server)), [""; 0]);
        assert_eq!(server.requests().len(), 3 + more);
        assert_eq!(server.requests_of("tags/list").len(), 0);
    }
}

/// The image `v1` as an index of `count` images, each with a referrer.
fn of_platforms(has_api: bool, count: usize) -> Repository {
    let (mut repository, _) = repository(has_api);
    let mut entries = Vec::new();
    for number in 0..count {
        let architecture = format!("made-up-{number}");
        let config = bytes(&json!({ "architecture": architecture, "os": "linux" }));
        let config_digest = repository.put_blob(&config);
        let document = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, &config), "layers": [],
            "annotations": { "of": config_digest },
        });
        let document = bytes(&document);
        repository.put(MANIFEST, &document, None);
        let mut entry = descriptor(MANIFEST, &document);
        entry["platform"] = json!({ "os": "linux", "architecture": architecture });
        entries.push(entry);
    }
    let root = bytes(&index(&entries));
    repository.put(INDEX, &root, Some("v1"));
    repository
}

#[test]
fn the_index_and_each_image_that_is_scanned_are_looked_up() {
    for has_api in [true, false] {
        let mut repository = of_platforms(has_api, 3);
        let root = repository.named("v1");
        annotated(&mut repository, &root, "of-the-index");
        let server = repository.serve();
        let images = {
            let source = of(&server);
            let mut images = manifest::images(&source, &Choice::All, &Limits::default()).unwrap();
            manifest::add_referrers(&source, &Limits::default(), &mut images);
            images
        };
        assert_eq!(images.len(), 3);
        for image in &images {
            let referrers = image.documents.iter().filter(|document| document.kind == DocumentKind::Referrer);
            assert_eq!((referrers.count(), image.referrer_gaps.len()), (1, 0), "of the index, also: {image:?}");
        }
        // The tags are asked for once, and listed when a second manifest is looked up.
        let lists = server.requests_of("tags/list").len();
        let tags = server.requests().iter().filter(|request| request.path.contains("manifests/sha256-")).count();
        assert_eq!((lists, tags), (1, if has_api { 3 } else { 4 }));
    }
}

/// A blob that is embedded in its descriptor need not be in the registry.
#[test]
fn an_embedded_blob_is_read() {
    let (mut repository, image) = repository(true);
    let config = json!({ "note": TOKEN }).to_string();
    let mut document = repository.referrer(Some(&image), &[]);
    document["config"] = descriptor("application/vnd.example", config.as_bytes());
    document["config"]["data"] = json!(base64(&config));
    repository.put(MANIFEST, &bytes(&document), None);
    let report = scan(&repository.serve());
    let paths: BTreeSet<&str> =
        tokens(&report).iter().map(|found| found["document"]["json_path"].as_str().unwrap()).collect();
    assert_eq!((paths, gap_reasons(&report).len()), (BTreeSet::from(["config.data", "note"]), 0));
}

/// What a registry answers to the question what refers to an image.
#[test]
fn an_error_is_a_gap_and_a_registry_without_the_api_is_not() {
    let html = || Answer::new(200, "<html>made up</html>").with("Content-Type", "text/html");
    let damaged = || Answer::new(200, "[").with("Content-Type", INDEX);
    let status = |status: u16| Answer::new(status, "made up");
    let unsupported = || Answer::new(403, r#"{"errors":[{"code":"UNSUPPORTED"}]}"#);
    let answers: [(Answer, bool); 12] = [
        (status(400), true),
        (status(404), true),
        (status(405), true),
        (status(406), true),
        (unsupported(), true),
        (html(), true),
        (damaged(), false),
        (status(401), false),
        (status(403), false),
        (status(429), false),
        (status(500), false),
        (status(503), false),
    ];
    for (answer, is_without) in answers {
        for asked in ["/referrers/", ".sig"] {
            // Lists of referrers are tags, and one leads to a token.
            let (mut repository, image) = repository(false);
            annotated(&mut repository, &image, "note");
            let made_up = answer.clone();
            let server = repository.serve_with(move |request, _, found| {
                if request.path.contains(asked) && found.status == 404 { made_up.clone() } else { found }
            });
            let report = scan(&server);
            let gap_expected = match asked {
                "/referrers/" => !is_without,
                // Only 404 says that there is no such tag.
                _ => answer.status != 404,
            };
            assert_eq!(!gap_reasons(&report).is_empty(), gap_expected, "{asked} {answer:?}: {}", report["gaps"]);
            assert_eq!(tokens(&report).len(), 1, "{asked} {answer:?}");
        }
    }
}

#[test]
fn a_long_list_has_pages() {
    for (broken, expected) in [(false, 5), (true, 4)] {
        let (mut repository, image) = repository(true);
        for number in 0..5 {
            annotated(&mut repository, &image, &format!("note-{number}"));
        }
        let server = repository.with_pages_of(2).serve_with(move |request, _, answer| {
            if broken && request.path.contains("from=4") { Answer::new(403, "") } else { answer }
        });
        let report = scan(&server);
        assert_eq!((tokens(&report).len(), gap_reasons(&report).contains(&"unreadable")), (expected, broken));
    }
    // A list that leads back to itself.
    let (repository, _) = repository(true);
    let server = repository.serve_with(|request, _, answer| {
        if request.path.contains("/referrers/") { answer.with("Link", "<?from=0>; rel=next") } else { answer }
    });
    assert_eq!(gap_reasons(&scan(&server)), ["unreadable"]);
}

#[test]
fn what_was_deleted_or_copied_is_no_gap() {
    // After `cosign copy`, the tag of the list names the image itself.
    let (mut repository, image) = repository(false);
    let (document, list) = (repository.document(&image), tag(&image, ""));
    repository.put(MANIFEST, &document, Some(&list));
    let report = scan(&repository.serve());
    assert_eq!((gap_reasons(&report).len(), &report["image"]["notes"]), (0, &Value::Null));
    // The same with an index, whose images are not its referrers.
    let mut repository = of_platforms(false, 1);
    let root = repository.named("v1");
    let document = repository.document(&root);
    repository.put(INDEX, &document, Some(&tag(&root, "")));
    let report = scan(&repository.serve());
    assert_eq!((gap_reasons(&report).len(), &report["image"]["notes"]), (0, &Value::Null), "{report}");
    // Something else in that place is not read, and that is said.
    let (mut repository, image) = self::repository(false);
    repository.put_referrer(None, Some(&tag(&image, "")), &[]);
    let report = scan(&repository.serve());
    assert_eq!(gap_reasons(&report).len(), 0);
    assert!(report["image"]["notes"][0].as_str().unwrap().contains("not a list"), "{report}");
    // A list goes on naming what was deleted.
    for has_api in [true, false] {
        let (mut repository, image) = self::repository(has_api);
        let gone = json!({ "mediaType": MANIFEST, "digest": digest(b"gone"), "size": 4 });
        repository.list(&image, gone);
        annotated(&mut repository, &image, "note");
        let report = scan(&repository.serve());
        assert_eq!((gap_reasons(&report).len(), tokens(&report).len()), (0, 1));
        assert!(report["image"]["notes"][0].as_str().unwrap().contains(&digest(b"gone")), "{report}");
    }
}

#[test]
fn a_blob_that_is_gone_or_too_large_is_a_gap() {
    let (mut repository, image) = repository(true);
    let missing = repository.referrer(Some(&image), &[]);
    let mut missing: Value = missing;
    missing["layers"] = json!([{ "mediaType": "text/plain", "digest": digest(b"gone"), "size": 4 }]);
    repository.put(MANIFEST, &bytes(&missing), None);
    assert_eq!(gap_reasons(&scan(&repository.serve())), ["missing-blob"]);
    let limits = Limits { referrer_bytes: 150, ..Limits::default() };
    let bounded = Analyzer::new(Ruleset::built_in().unwrap(), Options { limits, ..Options::default() }).unwrap();
    let (mut repository, image) = self::repository(true);
    let texts = ["first", "second", "third", "fourth"].map(|name| format!("{name} {TOKEN} {}\n", "-".repeat(40)));
    let blobs: Vec<(&str, &[u8])> = texts.iter().map(|text| ("text/plain", text.as_bytes())).collect();
    repository.put_referrer(Some(&image), None, &blobs);
    let report = scan_with(&bounded, of(&repository.serve()));
    assert_eq!(gap_reasons(&report), ["too-many-referrers"; 2], "{}", report["gaps"]);
    let details: Vec<&str> =
        report["gaps"].as_array().unwrap().iter().map(|gap| gap["detail"].as_str().unwrap()).collect();
    assert!(details.iter().any(|detail| detail.starts_with("2 blobs of referrers")), "{details:?}");
}

/// A provenance that refers to the image is a claim about it, if it is about it.
#[test]
fn provenance_in_an_envelope_is_a_claim() {
    let material = json!({ "uri": "pkg:docker/alpine@3", "digest": { "sha256": &digest(b"alpine")[7..] } });
    for (is_about, end) in [(true, None), (true, Some(".att")), (false, None)] {
        let (mut repository, image) = repository(true);
        let subject = if is_about { image.clone() } else { digest(b"another image") };
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1", "subject": [{ "digest": { "sha256": &subject[7..] } }],
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": { "buildDefinition": { "resolvedDependencies": [material] } },
        });
        let envelope = bytes(&envelope(&statement));
        let of = end.is_none().then_some(&image[..]);
        repository.put_referrer(of, end.map(|end| tag(&image, end)).as_deref(), &[(DSSE, &envelope)]);
        let report = scan(&repository.serve());
        let base = &report["image"]["base"];
        assert_eq!(base.is_object(), is_about, "{end:?}: {report}");
        assert!(!base["is_proven"].as_bool().unwrap_or(false));
        let notes = report["image"]["notes"].to_string();
        assert_eq!(notes.contains("another"), !is_about, "{notes}");
    }
}

/// What cosign 2.6.5 and 3.1.3 left in two registries is read whole: each manifest and each blob of it.
#[test]
fn recorded_signatures_and_attestations() {
    let folder = testdata("recordings/cosign");
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let recorded: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let (name, host) = (recorded["repository"].as_str().unwrap().to_string(), recorded.clone());
        let server = Server::answering(move |request, _| recorded_answer(&host, &request.path));
        let source = source(&format!("{}/{name}:v1", server.host()), options());
        let mut images = manifest::images(&source, &Choice::All, &Limits::default()).unwrap();
        manifest::add_referrers(&source, &Limits::default(), &mut images);
        let image = &images[0];
        assert_eq!((image.referrer_gaps.len(), image.notes.len()), (0, 0), "{}: {image:?}", path.display());
        let read: BTreeSet<String> =
            image.documents.iter().filter_map(|document| Some(document.digest.as_ref()?.to_string())).collect();
        let of_image: BTreeSet<String> =
            image.layers.iter().chain(&[]).map(|layer| layer.digest.clone().unwrap().to_string()).collect();
        let config = image.config_digest.as_ref().map(Digest::to_string).unwrap_or_default();
        for blob in recorded["blobs"].as_object().unwrap().keys() {
            assert!(read.contains(blob) || of_image.contains(blob) || *blob == config, "{}: {blob}", path.display());
            count += 1;
        }
        for document in &image.documents {
            if let (DocumentContent::Blob(location), true) = (&document.content, document.referrer.is_some()) {
                assert!(matches!(source.open(location), Ok(layersift_format::Fetched::Blob(_))), "{location:?}");
            }
        }
        for (tag, manifest) in recorded["manifests"].as_object().unwrap() {
            let is_list = manifest["body"]["manifests"].is_array();
            let digest = manifest["digest"].as_str().unwrap();
            assert!(is_list || read.contains(digest), "{}: {tag}", path.display());
        }
    }
    assert!(count > 40, "{count} blobs");
}

fn recorded_answer(recorded: &Value, path: &str) -> Answer {
    let missing = || Answer::new(404, json!({ "errors": [{ "code": "MANIFEST_UNKNOWN" }] }).to_string());
    let last = path.rsplit('/').next().unwrap();
    if path.contains("/referrers/") {
        let answer = &recorded["referrers"][last];
        let Some(status) = answer["status"].as_u64() else { return Answer::new(404, "") };
        let body = answer["exact_bytes"].as_str().map(Into::into).unwrap_or_else(|| match &answer["body"] {
            Value::String(text) => text.clone(),
            body => body.to_string(),
        });
        let answer = Answer::new(u16::try_from(status).unwrap(), body);
        return answer.with("Content-Type", answer_type(recorded, last));
    }
    if path.contains("/manifests/") {
        let all = recorded["manifests"].as_object().unwrap();
        let found = all.iter().find(|(name, manifest)| *name == last || manifest["digest"] == last);
        let Some((_, manifest)) = found else { return missing() };
        let answer = Answer::new(200, manifest["exact_bytes"].as_str().unwrap());
        return answer.with("Content-Type", manifest["content_type"].as_str().unwrap());
    }
    match recorded["blobs"][last]["exact_bytes"].as_str() {
        Some(blob) => Answer::new(200, blob),
        None => missing(),
    }
}

fn answer_type<'r>(recorded: &'r Value, subject: &str) -> &'r str {
    recorded["referrers"][subject]["content_type"].as_str().unwrap_or("text/plain")
}

/// Debian's registry has no referrers API.
#[test]
fn a_real_registry() {
    let server = Registry::filled(&["team/app:v1"]);
    let source = || source(&format!("{}/team/app:v1", server.host()), options());
    let image = source().root().unwrap().digest.to_string();
    let envelope = bytes(&envelope(&json!({ "predicate": { "note": TOKEN } })));
    let blob = descriptor(DSSE, &envelope);
    let attestation = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(EMPTY, b"{}"), "layers": [blob],
        "subject": { "mediaType": MANIFEST, "digest": image, "size": 7 },
    });
    let attestation = bytes(&attestation);
    server.put_blob("team/app", b"{}");
    server.put_blob("team/app", &envelope);
    for tag in [tag(&image, ".att"), digest(&attestation)] {
        server.put_manifest("team/app", &tag, MANIFEST, &attestation);
    }
    let list = bytes(&index(&[descriptor(MANIFEST, &attestation)]));
    server.put_manifest("team/app", &tag(&image, ""), INDEX, &list);
    let report = scan_with(analyzer(), source());
    let found = tokens(&report);
    let of_document: Vec<&&Value> = found.iter().filter(|finding| finding["document"].is_object()).collect();
    let [found] = &of_document[..] else { panic!("once, although two tags lead to it: {found:?}") };
    assert_eq!(found["document"]["json_path"], "payload → predicate.note");
    assert_eq!(found["document"]["referrer"], json!(digest(&attestation)));
}
