//! Bills of materials: valid by their schemas, with secrets that are masked, and what each format leaves out.

use jiff::Timestamp;
use layersift_model::{
    AiMark, AiMarkKind, AiRecord, Digest, Distribution, Ecosystem, Gap, GapReason, ImageGap, ImagePath, ImageReport,
    InstalledPackage, Inventory, InventoryLayer, PackageRecord, State,
};
use layersift_report::SpecVersion;
use layersift_report::sbom::{Materials, cyclonedx, spdx, text};
use serde_json::Value;

use crate::sample::{VALUE, incident, judged, with_own_key};
use crate::schemas::Schema;

fn path(text: &str) -> ImagePath {
    ImagePath::normalize(text.as_bytes())
}

fn package(record: PackageRecord, state: State) -> InstalledPackage {
    let ended_by = (state != State::Present).then_some(2);
    InstalledPackage { record: record.into(), path: path("lib/apk/db/installed").into(), layer: 0, state, ended_by }
}

fn mark(kind: AiMarkKind, at: &str, state: State) -> AiMark {
    let record = AiRecord { kind, name: Some("Claude".into()), detail: "it says so".into() };
    let ended_by = (state != State::Present).then_some(2);
    AiMark { record: record.into(), path: path(at).into(), layer: 1, state, ended_by }
}

fn inventory() -> Inventory {
    let new = PackageRecord::new;
    let scoped = PackageRecord { namespace: Some("types".into()), ..new(Ecosystem::Npm, "node", "") };
    let inside = vec!["lib/inner.jar".into()];
    let epoch = PackageRecord {
        epoch: Some("1".into()),
        licence: Some("GPLv2+ and BSD".into()),
        source: Some("curl.src.rpm".into()),
        inside,
        ..new(Ecosystem::Rpm, "curl", "7.76")
    };
    Inventory {
        target: "image.tar".into(),
        reference: Some("app:1".into()),
        manifest_digest: Some(Digest::of(b"manifest")),
        config_digest: Some(Digest::of(b"config")),
        platform: Some("linux/amd64".into()),
        distribution: Some(Distribution { id: "alpine".into(), version: Some("3.20".into()), title: None }),
        read_at: Some(Timestamp::from_second(1_800_000_000).unwrap()),
        version: "1.2.3".into(),
        layers: vec![InventoryLayer { diff_id: Some(Digest::of(b"layer")), ..InventoryLayer::default() }; 3],
        packages: vec![
            package(new(Ecosystem::Apk, "musl", "1.2"), State::Present),
            package(scoped, State::Present),
            package(epoch, State::Present),
            package(new(Ecosystem::Apk, "gone", "1"), State::Deleted),
        ],
        ai: vec![
            mark(AiMarkKind::Declaration, "app/AI-DECLARATION.md", State::Present),
            mark(AiMarkKind::Model, "m/tiny.gguf", State::Present),
            mark(AiMarkKind::AssistantSettings, "app/CLAUDE.md", State::Deleted),
        ],
        gaps: Vec::new(),
    }
}

fn with_gap() -> Inventory {
    let gap = Gap::new(GapReason::DamagedDocument, "it ends too early").at("var/lib/rpm/Packages");
    Inventory { gaps: vec![ImageGap { gap, layer: Some(1) }], ..inventory() }
}

fn reproducible() -> Inventory {
    Inventory { read_at: None, version: String::new(), ..inventory() }
}

fn as_cyclonedx(inventory: &Inventory, secrets: Option<&ImageReport>, version: SpecVersion) -> String {
    let mut out = Vec::new();
    cyclonedx(&Materials { inventory, secrets }, version, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn as_spdx(inventory: &Inventory) -> String {
    let mut out = Vec::new();
    spdx(inventory, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The components of one type.
fn of_type<'d>(document: &'d Value, kind: &str) -> Vec<&'d Value> {
    document["components"].as_array().unwrap().iter().filter(|one| one["type"] == kind).collect()
}

fn properties<'d>(component: &'d Value, name: &str) -> Vec<&'d str> {
    let all = component["properties"].as_array().into_iter().flatten();
    all.filter(|one| one["name"] == name).filter_map(|one| one["value"].as_str()).collect()
}

#[test]
fn bills_are_valid_by_their_schemas() {
    let secrets = [None, Some(judged(incident())), Some(with_own_key(judged(incident())))];
    for inventory in [Inventory::default(), inventory(), with_gap(), reproducible()] {
        Schema::of("spdx").unwrap().check(&as_spdx(&inventory));
        for report in &secrets {
            let text = as_cyclonedx(&inventory, report.as_ref(), SpecVersion::V1_6);
            Schema::of("cyclonedx").unwrap().check(&text);
            assert_eq!(parsed(&text)["specVersion"], "1.6");
            let text = as_cyclonedx(&inventory, report.as_ref(), SpecVersion::V1_7);
            Schema::of("cyclonedx-1.7").unwrap().check(&text);
            assert_eq!(parsed(&text)["specVersion"], "1.7");
        }
    }
}

#[test]
fn secrets_are_compromised_assets_without_their_values() {
    let report = judged(incident());
    let document = parsed(&as_cyclonedx(&inventory(), Some(&report), SpecVersion::V1_6));
    let assets = of_type(&document, "cryptographic-asset");
    assert!(!assets.is_empty());
    for asset in &assets {
        let material = &asset["cryptoProperties"]["relatedCryptoMaterialProperties"];
        assert_eq!(material["state"], "compromised");
        // The built-in key is public.
        assert!(material["id"].is_null() && material["value"].is_null(), "{material}");
        assert!(asset["evidence"]["occurrences"][0]["location"].is_string());
    }
    // The same components as those of the report.
    let alone = parsed(&crate::rendered("cyclonedx", &[report], false));
    assert_eq!(of_type(&alone, "cryptographic-asset"), assets);
    let report = with_own_key(judged(incident()));
    let document = parsed(&as_cyclonedx(&inventory(), Some(&report), SpecVersion::V1_6));
    let id = &of_type(&document, "cryptographic-asset")[0]["cryptoProperties"]["relatedCryptoMaterialProperties"]["id"];
    assert!(id.is_string());
}

#[test]
fn no_format_has_the_value_of_a_secret() {
    let value = std::str::from_utf8(VALUE).unwrap();
    let (inventory, report) = (inventory(), with_own_key(judged(incident())));
    let mut table = Vec::new();
    text(&[Materials { inventory: &inventory, secrets: Some(&report) }], 100, &mut table).unwrap();
    let table = String::from_utf8(table).unwrap();
    let (bill, packages) = (as_cyclonedx(&inventory, Some(&report), SpecVersion::V1_6), as_spdx(&inventory));
    for text in [&bill, &packages, &table] {
        assert!(!text.contains(value));
    }
    assert!(table.contains("secret") && table.contains("tiny.gguf"), "{table}");
}

#[test]
fn marks_of_ai_are_declared_or_observed_and_models_are_components() {
    let document = parsed(&as_cyclonedx(&inventory(), None, SpecVersion::V1_6));
    let [model] = of_type(&document, "machine-learning-model")[..] else { panic!("{document}") };
    assert_eq!(model["name"], "tiny.gguf");
    assert_eq!(properties(model, "layersift:ai:basis"), ["observed"]);
    let image = &document["metadata"]["component"];
    assert_eq!(
        properties(image, "layersift:ai:declared"),
        ["declaration Claude in app/AI-DECLARATION.md (layer 1, present): it says so"]
    );
    assert!(properties(image, "layersift:ai:observed")[1].contains("app/CLAUDE.md (layer 1, deleted in layer 2)"));
    let annotations = document["annotations"].as_array().unwrap();
    assert_eq!(annotations.len(), 3);
    assert_eq!(annotations[1]["subjects"][0], model["bom-ref"]);
    assert!(annotations.iter().all(|one| {
        let text = one["text"].as_str().unwrap();
        text.starts_with("declared: ") || text.starts_with("observed: ")
    }));
}

#[test]
fn what_is_hidden_is_excluded_and_what_was_not_searched_for_is_said() {
    let document = parsed(&as_cyclonedx(&with_gap(), None, SpecVersion::V1_6));
    let excluded = of_type(&document, "library").into_iter().filter(|one| one["scope"] == "excluded");
    assert_eq!(excluded.map(|one| &one["name"]).collect::<Vec<_>>(), ["gone"]);
    assert_eq!(properties(&document["metadata"]["component"], "layersift:secrets"), ["not searched for"]);
    assert_eq!(document["compositions"][0]["aggregate"], "incomplete");
}

#[test]
fn spdx_has_what_a_container_has_and_counts_the_rest() {
    let document = parsed(&as_spdx(&with_gap()));
    let packages = document["packages"].as_array().unwrap();
    let names: Vec<&str> = packages.iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["app:1", "musl", "@types/node", "curl"]);
    assert_eq!(packages[3]["versionInfo"], "1:7.76");
    assert_eq!(packages[3]["licenseDeclared"], "NOASSERTION");
    assert_eq!(
        packages[3]["externalRefs"][0]["referenceLocator"],
        "pkg:rpm/alpine/curl@7.76?distro=alpine-3.20&epoch=1&upstream=curl.src.rpm"
    );
    let comment = document["comment"].as_str().unwrap();
    assert!(comment.contains("does not: 1;") && comment.contains("damaged-document"), "{comment}");
    assert_eq!(document["relationships"].as_array().unwrap().len(), 4);
    assert_eq!(document["creationInfo"]["creators"][0], "Tool: layersift-1.2.3");
}

#[test]
fn the_same_contents_give_the_same_document_and_others_another_number() {
    let number =
        |inventory: &Inventory| parsed(&as_cyclonedx(inventory, None, SpecVersion::V1_6))["serialNumber"].clone();
    assert_eq!(as_spdx(&reproducible()), as_spdx(&reproducible()));
    assert_eq!(number(&inventory()), number(&inventory()));
    assert_ne!(number(&inventory()), number(&with_gap()));
}
