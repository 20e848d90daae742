//! Builds of recorded images, and claims that contradict each other.

use layersift_model::{BuildEvidence, Digest};

use super::*;
use crate::manifest::LayerSource;
use crate::recorded::{self, Recorded};

fn claimed(name: &str) -> (Image, Build) {
    let (image, claims) = Recorded::open(name).image();
    let build = Build::of(&image.unpack(), &BuildHints::default(), &claims);
    (image, build)
}

fn with_dockerfile(name: &str, text: &str) -> (Image, Build) {
    let (image, _) = Recorded::open(name).image();
    let hints = BuildHints { dockerfile: Some(NamedDockerfile::new("Dockerfile", text)), bases: Vec::new() };
    let build = Build::of(&image.unpack(), &hints, &BuildClaims::default());
    (image, build)
}

/// The Dockerfile of a worked example.
fn dockerfile(example: &str) -> String {
    let example = recorded::json(example);
    let lines = example["dockerfile_lines"].as_object().unwrap();
    (1..=lines.len()).map(|line| lines[&line.to_string()].as_str().unwrap().to_string() + "\n").collect()
}

fn lines(steps: &[Option<BuildStep>]) -> Vec<Option<(u64, u64)>> {
    steps.iter().map(|step| step.as_ref().map(|step| (step.line, step.end_line))).collect()
}

#[test]
fn a_provenance_gives_layers_their_instruction_stage_and_base() {
    let (image, build) = claimed("linemap-provenance-v1-max");
    let expected = [(12, 12), (15, 15), (16, 17), (18, 18), (19, 20), (21, 24), (25, 25)];
    assert_eq!(lines(&build.layers), expected.map(Some));
    let step = build.layers[4].clone().unwrap();
    assert_eq!(
        (&step.file[..], step.stage.as_deref(), step.evidence),
        ("Dockerfile", Some("2"), BuildEvidence::Provenance)
    );
    assert_eq!(step.base.as_deref(), Some("127.0.0.1:18300/base:1"));
    let base = build.base.clone().unwrap();
    assert_eq!((base.layers, base.is_proven, base.evidence), (Some(1), false, BuildEvidence::Provenance));
    assert!(base.digest.is_some());
    assert_eq!(build.notes, [""; 0]);
    // ARG, ENV, EXPOSE and CMD have no layer, but a line.
    let expected = [None, None, None, None, Some((13, 13)), Some((14, 14)), Some((15, 15)), Some((16, 17))];
    assert_eq!(lines(&build.history)[..8], expected);
    assert_eq!(lines(&build.history)[12..], [Some((26, 26)), Some((27, 27))]);
    assert_eq!(build.entry_of(&image.unpack(), "Env[1]"), Some(5));
    assert_eq!(build.entry_of(&image.unpack(), "Env[0]"), Some(1));
    assert_eq!(build.entry_of(&image.unpack(), "ExposedPorts.8080/tcp"), Some(12));
    assert_eq!((build.is_base_entry(3), build.is_base_entry(4)), (Some(true), Some(false)));
}

#[test]
fn the_dockerfile_alone_gives_the_lines_that_the_provenance_gives() {
    for (image, example) in [
        ("linemap-provenance-v1-max", "line-map-linemap.json"),
        ("onbase-link-heredocs-empty-layers", "line-map-onbase.json"),
        ("places-provenance-max", "line-map-places.json"),
    ] {
        let (_, claimed) = claimed(image);
        let (_, build) = with_dockerfile(image, &dockerfile(example));
        assert_eq!(build.notes, [""; 0], "{example}");
        let layers = build.base.clone().unwrap().layers.unwrap();
        assert_eq!(Some(layers), claimed.base.unwrap().layers, "{example}");
        assert_eq!(lines(&build.layers)[layers..], lines(&claimed.layers)[layers..], "{example}");
        assert_eq!(lines(&build.layers)[..layers], vec![None; layers], "no line of the Dockerfile made the base");
    }
}

#[test]
fn the_history_of_buildah_and_podman_is_matched() {
    for name in ["buildah-places-layers", "buildah-places-docker-format", "podman-places"] {
        let (image, _) = Recorded::open(name).image();
        // The instructions that history has, from its entries.
        let text = from_history(&image);
        let (image, build) = with_dockerfile(name, &text);
        assert_eq!(build.notes, [""; 0], "{name}\n{text}");
        let own = image.layers.len() - build.base.unwrap().layers.unwrap();
        assert!(own > 5, "{name}");
        assert!(build.layers.iter().rev().take(own).all(Option::is_some), "{name}: {:?}", build.layers);
    }
}

/// A Dockerfile that says what a history of buildah says after its base image.
fn from_history(image: &Image) -> String {
    let mut text = String::from("FROM base\n");
    for entry in image.config.read().history.iter().skip(4) {
        let created = &entry.created_by;
        let line = match created.split_once("#(nop) ") {
            Some((_, rest)) if rest.starts_with("COPY ") || rest.starts_with("ADD ") => {
                let (keyword, rest) = rest.split_once(' ').unwrap();
                format!("{keyword} source {}", rest.split_once(" in ").unwrap().1.trim_end())
            }
            Some((_, rest)) => rest.to_string(),
            None => format!("RUN {}", created.split_once("/bin/sh -c ").unwrap().1),
        };
        // `--label` has no line.
        if !line.starts_with("LABEL \"opt.label\"") {
            text += &(line.replace('\n', " ") + "\n");
        }
    }
    text
}

#[test]
fn one_layer_for_all_instructions_has_no_line_and_a_note() {
    let (image, _) = Recorded::open("buildah-places-one-layer").image();
    let (_, build) = with_dockerfile("buildah-places-one-layer", &from_history(&image));
    assert_eq!(lines(&build.layers), vec![None; image.layers.len()]);
    assert!(build.notes.iter().any(|note| note.contains("without --layers")), "{:?}", build.notes);
    assert!(build.history.iter().any(Option::is_some), "fields of the configuration still have lines");
}

#[test]
fn the_history_of_kaniko_is_matched() {
    let config =
        crate::config::ImageConfig::parse(recorded::json("kaniko-image.json")["config"].to_string().as_bytes())
            .unwrap();
    let text = "FROM x AS build\nRUN a\nFROM y\nARG USED_TOKEN\nENV A=b\n\
                COPY --from=build /etc/os-release /app/result\n\
                COPY deleted-later.txt /app/deleted-later.txt\nRUN test -n \"$USED_TOKEN\" && echo used > /app/used\n\
                RUN rm /app/deleted-later.txt\nUSER me\nADD http://127.0.0.1:18310/file.txt?token=$T /app/added.txt\n\
                ADD http://$U@127.0.0.1:18310/file.txt /app/added2.txt\nCMD [\"x\"]\n";
    let file = NamedDockerfile::new("Dockerfile", text);
    let matched = match_history(&file.dockerfile, 1, &config.history);
    let lines: Vec<Option<u64>> =
        matched.instructions.iter().map(|index| index.map(|index| file.dockerfile.instructions[index].line)).collect();
    assert_eq!(lines, [None, None, None, Some(6), Some(7), Some(8), Some(9), Some(11), Some(12)]);
    assert_eq!(matched.own_from, Some(3));
}

#[test]
fn a_dockerfile_that_was_changed_gives_no_wrong_line() {
    let text = dockerfile("line-map-linemap.json").replace("COPY config.json /srv/\n", "COPY other.json /srv/\n");
    let (_, build) = with_dockerfile("linemap-no-attestation-plain-manifest", &text);
    assert_eq!(lines(&build.layers), [None, None, None, None, Some((19, 20)), Some((21, 24)), Some((25, 25))]);
    assert!(build.notes.iter().any(|note| note.contains("line 18 of Dockerfile")), "{:?}", build.notes);
    assert_eq!(build.base, None);
    let (_, other) = with_dockerfile("linemap-no-attestation-plain-manifest", "FROM x\nRUN something else\n");
    assert_eq!(lines(&other.layers), vec![None; 7]);
}

#[test]
fn a_statement_about_another_manifest_is_ignored_with_a_note() {
    let recorded = Recorded::open("linemap-provenance-v1-max");
    let (mut image, claims) = recorded.image();
    image.manifest_digest = Some(Digest::of(b"another"));
    let build = Build::of(&image.unpack(), &BuildHints::default(), &claims);
    assert_eq!((lines(&build.layers), build.base), (vec![None; 7], None));
    assert_eq!(build.notes, ["a provenance is about another manifest and was not used"]);
}

#[test]
fn each_platform_has_its_own_provenance() {
    let recorded = Recorded::open("multi-amd64-arm64-provenance-max");
    let images = recorded.images();
    assert_eq!(images.len(), 2);
    for image in images {
        let build = Build::of(&image.unpack(), &BuildHints::default(), &recorded.claims(&image));
        assert!(build.layers.iter().all(Option::is_some), "{:?}", build.layers);
        assert_eq!(build.notes, [""; 0]);
    }
}

#[test]
fn a_base_image_that_was_read_is_proven_and_another_is_a_note() {
    let (image, claims) = Recorded::open("onbase-link-heredocs-empty-layers").image();
    let (base, _) = Recorded::open("linemap-no-attestation-plain-manifest").image();
    let known = KnownBase::new("r.example/base:1", &base);
    let hints = |known| BuildHints { dockerfile: None, bases: vec![known] };
    let build = Build::of(&image.unpack(), &hints(known.clone()), &claims);
    let found = build.base.clone().unwrap();
    assert_eq!((found.layers, found.is_proven, found.evidence), (Some(7), true, BuildEvidence::Option));
    assert_eq!((found.reference.as_deref(), found.digest), (Some("r.example/base:1"), base.manifest_digest));
    assert_eq!((build.is_base_entry(13), build.is_base_entry(14)), (Some(true), Some(false)));
    assert_eq!(build.notes, [""; 0], "the provenance says the same");
    let other = KnownBase { layers: vec![(Some(Digest::of(b"x")), None)], ..known };
    let build = Build::of(&image.unpack(), &hints(other), &claims);
    assert!(!build.base.unwrap().is_proven);
    assert_eq!(build.notes, ["the image does not begin with the layers of the base image r.example/base:1"]);
}

#[test]
fn a_base_image_that_contradicts_the_provenance_is_a_note() {
    let (image, claims) = Recorded::open("onbase-link-heredocs-empty-layers").image();
    let layer = |layer: &LayerSource| (layer.digest.clone(), layer.diff_id.clone());
    let layers = image.layers.iter().take(2).map(layer).collect();
    let bases = vec![KnownBase { reference: "short".into(), layers, ..KnownBase::default() }];
    let build = Build::of(&image.unpack(), &BuildHints { dockerfile: None, bases }, &claims);
    assert_eq!(build.base.unwrap().layers, Some(2));
    let note = "the provenance says that the base image has 7 layers, the base image that was named that it has 2";
    assert_eq!(build.notes, [note]);
}

#[test]
fn annotations_claim_a_base_image() {
    let (_, build) = claimed("buildah-places-layers");
    let base = build.base.unwrap();
    assert_eq!((base.evidence, base.is_proven, base.layers), (BuildEvidence::Annotation, false, None));
    assert_eq!(base.reference.as_deref(), Some("127.0.0.1:18300/base:b"));
    assert!(base.digest.is_some());
}

#[test]
fn a_provenance_without_steps_names_the_base_image_alone() {
    let (_, build) = claimed("multi-amd64-arm64-provenance-max");
    assert!(build.base.is_some());
    let (_, build) = claimed("linemap-provenance-v0.2-min");
    assert_eq!(build.base, None, "two images were used, and it does not say which is the base");
}
