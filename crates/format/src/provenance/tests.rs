//! Recorded provenance with the lines that it names, and statements that are damaged.

use layersift_model::Digest;
use serde_json::{Value, json};

use super::*;
use crate::json::Node;
use crate::manifest::Image;
use crate::recorded::{self, Recorded};

fn digests(image: &Image) -> Vec<Option<Digest>> {
    image.layers.iter().map(|layer| layer.digest.clone()).collect()
}

fn node(value: &Value) -> Node {
    Node::parse(value.to_string().as_bytes()).unwrap()
}

/// The provenance of a recorded image.
fn recorded(name: &str) -> (Image, Provenance) {
    let recorded = Recorded::open(name);
    let image = recorded.images().remove(0);
    let provenance = recorded.provenances(&image).remove(0);
    assert!(provenance.is_about(image.manifest_digest.as_ref().unwrap()), "{name}");
    (image, provenance)
}

fn shown(lines: &LayerLines) -> Vec<Vec<String>> {
    let one = |(first, last): &(u64, u64)| format!("{first}-{last}");
    lines.lines.iter().map(|lines| lines.iter().map(one).collect()).collect()
}

/// The lines of each layer of a worked example: of every instruction that shares the step.
fn worked_example(name: &str) -> Vec<Vec<String>> {
    let text = |line: &Value| line.as_str().or(line["lines"].as_str()).unwrap().to_string();
    let lines = |layer: &Value| layer["lines"].as_array().unwrap().iter().map(text).collect();
    recorded::json(name)["layers"].as_array().unwrap().iter().map(lines).collect()
}

#[test]
fn every_worked_example_is_reproduced() {
    for (image, example, base) in [
        ("linemap-provenance-v1-max", "line-map-linemap.json", 1),
        ("onbase-link-heredocs-empty-layers", "line-map-onbase.json", 7),
        ("places-provenance-max", "line-map-places.json", 1),
    ] {
        let (image, provenance) = recorded(image);
        let lines = provenance.layer_lines(&digests(&image)).unwrap();
        assert_eq!(shown(&lines), worked_example(example), "{example}");
        assert_eq!(lines.base.unwrap().layers, base, "{example}");
    }
}

#[test]
fn the_base_layers_of_a_worked_example_are_those_of_the_chain() {
    let example = recorded::json("line-map-onbase.json");
    let from_base = |layer: &&Value| layer["from_base"] == json!(true);
    let expected = example["layers"].as_array().unwrap().iter().filter(from_base).count();
    let (image, provenance) = recorded("onbase-link-heredocs-empty-layers");
    let base = provenance.layer_lines(&digests(&image)).unwrap().base.unwrap();
    assert_eq!((base.layers, &base.reference[..]), (expected, "127.0.0.1:18300/linemap:none"));
}

#[test]
fn both_versions_and_the_first_buildkit_with_attestations_say_the_same() {
    let expected = worked_example("line-map-linemap.json");
    let (image, v1) = recorded("linemap-provenance-v1-max");
    let statement = &recorded::json("linemap-provenance-v0.2-max.json")["manifests"][1]["statements"][0]["body"];
    let v02 = Provenance::read(&node(statement)).unwrap();
    assert_eq!(v02.layer_lines(&digests(&image)), v1.layer_lines(&digests(&image)));
    let (image, old) = recorded("buildkit-0.11.6-linemap-provenance-max-buildinfo");
    assert_eq!(shown(&old.layer_lines(&digests(&image)).unwrap()), expected);
}

#[test]
fn other_compressions_of_the_layers_have_the_same_lines() {
    let (image, provenance) = recorded("variants-gzip");
    let expected = shown(&provenance.layer_lines(&digests(&image)).unwrap());
    assert!(expected.iter().all(|lines| !lines.is_empty()), "{expected:?}");
    for name in [
        "variants-zstd-forced",
        "variants-estargz-forced",
        "variants-uncompressed",
        "variants-zstd-not-forced",
        "variants-oci-artifact-false",
    ] {
        let (image, provenance) = recorded(name);
        assert_eq!(shown(&provenance.layer_lines(&digests(&image)).unwrap()), expected, "{name}");
    }
}

#[test]
fn a_frontend_of_its_own_and_another_target_have_lines() {
    for name in ["syntax-line-frontend-image-provenance-max", "linemap-target-build-stage"] {
        let (image, provenance) = recorded(name);
        let lines = provenance.layer_lines(&digests(&image)).unwrap();
        assert!(lines.lines.iter().all(|lines| !lines.is_empty()), "{name}: {lines:?}");
    }
}

#[test]
fn a_provenance_without_steps_tells_no_lines() {
    let (image, provenance) = recorded("linemap-provenance-v0.2-min");
    assert_eq!(provenance.layer_lines(&digests(&image)), Err(Untold::NoSteps));
    assert!(provenance.file.is_none());
}

/// A statement whose steps have `chains`, each with the line of its instruction; digests are numbers.
fn made(dockerfile: &str, chains: &[(&str, u64, &[u64])]) -> Value {
    use base64::Engine as _;
    let layer = |number: &u64| json!({ "digest": format!("sha256:{number:064x}") });
    let chain = |chain: &[u64]| json!([chain.iter().map(layer).collect::<Vec<_>>()]);
    let layers: serde_json::Map<String, Value> =
        chains.iter().map(|(step, _, layers)| (format!("{step}:0"), chain(layers))).collect();
    let place =
        |line: u64| json!({ "locations": [{ "ranges": [{ "start": { "line": line }, "end": { "line": line } }] }] });
    let locations: serde_json::Map<String, Value> =
        chains.iter().map(|(step, line, _)| (step.to_string(), place(*line))).collect();
    let data = base64::engine::general_purpose::STANDARD.encode(dockerfile);
    json!({
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": { "buildDefinition": {}, "runDetails": { "metadata": { "buildkit_metadata": {
            "source": { "infos": [{ "filename": "Dockerfile", "data": data }], "locations": locations },
            "layers": layers,
        } } } },
    })
}

fn lines_of(statement: &Value, layers: &[u64]) -> Result<Vec<Vec<String>>, Untold> {
    let layers: Vec<Option<Digest>> =
        layers.iter().map(|number| format!("sha256:{number:064x}").parse().ok()).collect();
    Provenance::read(&node(statement)).unwrap().layer_lines(&layers).map(|lines| shown(&lines))
}

#[test]
fn of_several_results_the_one_of_the_built_stage_is_the_image() {
    let dockerfile = "FROM a AS build\nRUN one\nFROM a\nRUN two\n";
    let chains: [(&str, u64, &[u64]); 3] = [("step0", 1, &[1]), ("step1", 2, &[1, 2]), ("step2", 4, &[1, 3])];
    let statement = made(dockerfile, &chains);
    let lines = |lines: [&str; 2]| Ok(lines.map(|line| vec![line.to_string()]).to_vec());
    assert_eq!(lines_of(&statement, &[1, 2]), lines(["1-1", "2-2"]), "digests tell");
    assert_eq!(lines_of(&statement, &[8, 9]), lines(["1-1", "4-4"]), "the last stage was built");
    assert_eq!(lines_of(&statement, &[8, 9, 10]), Err(Untold::OtherLayers));
    let two = made("FROM a\nRUN one\nRUN two\n", &[("step1", 2, &[1, 2]), ("step2", 3, &[1, 3])]);
    assert_eq!(lines_of(&two, &[8, 9]), Err(Untold::Ambiguous));
}

#[test]
fn lines_that_the_dockerfile_does_not_have_are_no_lines() {
    for line in [0, 3, u64::MAX] {
        let statement = made("FROM a\nRUN one\n", &[("step0", line, &[1])]);
        assert_eq!(lines_of(&statement, &[1]), Ok(vec![Vec::new()]), "{line}");
        assert_eq!(Provenance::read(&node(&statement)).unwrap().wrong_lines(), 1);
    }
}

#[test]
fn hostile_statements_tell_nothing() {
    let mut statement = made("FROM a\n", &[("step0", 1, &[1])]);
    let metadata = &mut statement["predicate"]["runDetails"]["metadata"]["buildkit_metadata"];
    metadata["source"]["infos"][0]["data"] = json!("not base64");
    assert_eq!(lines_of(&statement, &[1]), Ok(vec![Vec::new()]));
    for value in [json!(null), json!([]), json!({}), json!(7), json!("x"), json!({ "step0:0": [[{}]] }), json!([[[]]])]
    {
        let mut damaged = made("FROM a\n", &[("step0", 1, &[1])]);
        let metadata = &mut damaged["predicate"]["runDetails"]["metadata"]["buildkit_metadata"];
        metadata["layers"] = value.clone();
        assert_eq!(lines_of(&damaged, &[1]), Err(Untold::NoSteps), "{value}");
        let mut damaged = made("FROM a\n", &[("step0", 1, &[1])]);
        damaged["predicate"]["runDetails"]["metadata"]["buildkit_metadata"]["source"] = value;
        assert_eq!(lines_of(&damaged, &[1]), Ok(vec![Vec::new()]));
    }
}

#[test]
fn many_long_chains_end() {
    let chain: Vec<u64> = (0..500).collect();
    let names: Vec<String> = (0..500).map(|index| format!("step{index}")).collect();
    let chains: Vec<(&str, u64, &[u64])> =
        names.iter().enumerate().map(|(index, name)| (&name[..], 1, &chain[..=index])).collect();
    let statement = made("FROM a\n", &chains);
    assert_eq!(lines_of(&statement, &chain).unwrap().len(), 500);
}
