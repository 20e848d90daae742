//! A secret that is found somewhere is masked wherever else an image names it, in every output of every command.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::image::{Layer, archive, bytes, config, docker_save, manifest, oci_with, sha256, write_directory};
use crate::support::tar::Tar;
use crate::support::{findings, layersift, text};

/// A made-up password without any form of its own: only the name of its variable tells that it is one.
const PASSWORD: &str = "hT5vB9nM2cX7zQ";

const FORMATS: [&str; 8] = ["text", "json", "html", "sarif", "cyclonedx", "markdown", "junit", "gitlab"];

/// A made-up token of a form that rules are sure of.
fn token() -> String {
    ["glpat-", "Zk7Qm2Xr9Tb4Wn6Ve001"].concat()
}

fn output(arguments: &[&str]) -> String {
    let run = layersift(arguments);
    assert!(!run.stdout.is_empty(), "{arguments:?}: {}", run.stderr);
    run.stdout + &run.stderr
}

#[track_caller]
fn assert_masked(output: &str, secret: &str, what: &str) {
    let core = &secret[secret.len() - 10..];
    let place = output.find(core).map(|at| output[at.saturating_sub(60)..].chars().take(90).collect::<String>());
    assert_eq!(place, None, "{what}");
}

/// An archive of an image with `layers`, whose configuration and `manifest.json` are changed first.
fn docker_archive(folder: &Path, layers: &[Layer], change: impl FnOnce(&mut Value, &mut Value)) -> String {
    let mut files = docker_save(layers);
    let mut listing: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    let old = listing[0]["Config"].as_str().unwrap().to_string();
    let mut config: Value = serde_json::from_slice(&files.remove(&old).unwrap()).unwrap();
    change(&mut config, &mut listing);
    let config = bytes(&config);
    let name = format!("{}.json", sha256(&config));
    listing[0]["Config"] = name.clone().into();
    files.insert(name, config);
    files.insert("manifest.json".into(), bytes(&listing));
    let path = folder.join("image.tar");
    std::fs::write(&path, archive(&files)).unwrap();
    text(&path).to_string()
}

#[test]
fn a_secret_of_one_layer_is_masked_in_another_with_a_store_as_without() {
    let folder = tempfile::tempdir().unwrap();
    let layers = [
        Layer::plain(Tar::new().file("app/.env", format!("DB_PASSWORD={PASSWORD}\n")).finish()),
        Layer::plain(Tar::new().file(&format!("srv/q-{PASSWORD}/.env"), format!("T={}", token())).finish()),
    ];
    let mut config = config(&layers);
    config["history"] = json!([
        { "created_by": format!("RUN mysql -p {PASSWORD}") },
        { "created_by": format!("COPY {PASSWORD}") },
    ]);
    let config = bytes(&config);
    write_directory(folder.path(), &oci_with(&bytes(&manifest(&config, &layers)), &config, &layers));
    let stores = tempfile::tempdir().unwrap();
    let (image, store) = (text(folder.path()), stores.path().join("store.db"));
    let json = ["scan", image, "--reproducible", "--format", "json"];
    let without = output(&json);
    assert!(without.contains("srv/q-h****/.env"), "{without}");
    for run in ["into the store", "from the store"] {
        let with = output(&[&json[..], &["--store", text(&store)]].concat());
        assert_eq!(with, without, "{run}");
        for format in FORMATS {
            let printed = output(&["scan", image, "--show", "info", "--format", format, "--store", text(&store)]);
            assert_masked(&printed, PASSWORD, format);
        }
    }
}

#[test]
fn a_name_in_the_configuration_is_masked_or_not_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let layers = [Layer::plain(Tar::new().file("etc/motd", "x").finish())];
    let token = token();
    let long = [60, 181].map(|count| format!("{}.{token}", "p".repeat(count)));
    for key in long.into_iter().chain([format!("a\n{token}")]) {
        let image = docker_archive(folder.path(), &layers, |config, _| {
            config["config"]["Labels"] = json!({ &key: "v" });
            config["config"]["Volumes"] = json!({ &key: {} });
            config["config"]["ExposedPorts"] = json!({ &key: {} });
            config["unknown"] = json!({ &key: { &key: "v" } });
        });
        for format in FORMATS {
            let printed = output(&["scan", &image, "--show", "info", "--format", format]);
            // A part of the token is too much as well.
            assert_masked(&printed, &token[..18], format);
        }
        for command in [&["diff", &image, &image, "--format", "json"][..], &["sbom", &image]] {
            assert_masked(&output(command), &token[..18], command[0]);
        }
    }
}

#[test]
fn a_private_key_as_a_name_is_masked() {
    let key = include_str!("../../crates/scan/src/confirm/keys/fixtures/p256.sec1.pem").trim_end();
    let line = key.lines().nth(1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let layers = [Layer::plain(Tar::new().file("app/.env", format!("T={}", token())).finish())];
    let image = docker_archive(folder.path(), &layers, |config, listing| {
        config["config"]["Labels"] = json!({ key: "v" });
        listing[0][key] = json!({ "x": format!("T={}", token()) });
    });
    for format in FORMATS {
        assert_masked(&output(&["scan", &image, "--show", "info", "--format", format]), &line[..40], format);
    }
}

#[test]
fn the_listing_of_a_docker_archive_is_a_document() {
    let folder = tempfile::tempdir().unwrap();
    let layers = [Layer::plain(Tar::new().file("etc/motd", "x").finish())];
    let token = token();
    let image = docker_archive(folder.path(), &layers, |_, listing| {
        listing[0]["RepoTags"] = json!([format!("registry.example/{token}:1")]);
    });
    let run = layersift(&["scan", &image, "--format", "json"]).expect(1);
    let report = run.json();
    let found = findings(&report).iter().find(|finding| finding["rule"] == "gitlab.personal-access-token").unwrap();
    assert!(found.to_string().contains("[0].RepoTags[0]"), "{found}");
    let commands = [&["scan"][..], &["layers"], &["sbom"], &["sbom", "--no-secrets"], &["sbom", "--format", "spdx"]];
    for command in commands {
        assert_masked(&output(&[command, &[&image]].concat()), &token, &command.join(" "));
    }
    assert_masked(&output(&["diff", &image, &image]), &token, "diff");
}

#[test]
fn names_of_packages_and_of_the_image_are_masked() {
    let folder = tempfile::tempdir().unwrap();
    let token = token();
    let package = json!({ "name": format!("a-{token}"), "version": format!("1-{token}"), "license": token });
    let tar = Tar::new()
        .file("etc/os-release", format!("ID=debian\nVERSION_ID=\"{token}\"\nPRETTY_NAME=\"Debian {token}\"\n"))
        .file("app/node_modules/a/package.json", package.to_string());
    let image = docker_archive(folder.path(), &[Layer::plain(tar.finish())], |config, _| {
        config["variant"] = token.clone().into();
    });
    let other = folder.path().join("other.tar");
    std::fs::write(&other, archive(&docker_save(&[Layer::plain(Tar::new().file("x", "y").finish())]))).unwrap();
    for flags in [
        &["--format", "text"][..],
        &["--format", "cyclonedx"],
        &["--format", "spdx"],
        &["--no-secrets", "--format", "cyclonedx"],
    ] {
        let printed = output(&[&["sbom", &image], flags].concat());
        assert_masked(&printed, &token, &flags.join(" "));
        assert!(printed.contains("a-glpa****01"), "{printed}");
    }
    for format in ["text", "json", "markdown"] {
        assert_masked(&output(&["diff", text(&other), &image, "--format", format]), &token, format);
    }
    let bundle = folder.path().join("bundle");
    let carve = ["carve", &image, "--layer", "0", "--path", "etc/os-release", "-o", text(&bundle)];
    assert_masked(&output(&carve), &token, "carve");
    assert_masked(&std::fs::read_to_string(bundle.join("manifest.json")).unwrap(), &token, "the bundle");
    layersift(&["carve", "--verify", text(&bundle), &image]).expect(0);
}

#[test]
fn a_message_on_a_target_that_cannot_be_read_quotes_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let token = token();
    let layers = [Layer::plain(Tar::new().file("etc/motd", "x").finish())];
    let image = docker_archive(folder.path(), &layers, |config, listing| {
        listing[0]["RepoTags"] = json!([format!("registry.example/{token}:1\u{1b}]0;t\u{7}\u{202e}")]);
        (config["os"], config["architecture"]) = (token.clone().into(), token.clone().into());
    });
    let bundle = folder.path().join("bundle");
    let unnamed = format!("docker-archive:{image}:nothing:1");
    let scrubbed = format!("docker-archive:{}", text(&folder.path().join("scrubbed.tar")));
    let commands: [&[&str]; 8] = [
        &["scan", &unnamed],
        &["layers", &unnamed],
        &["sbom", &unnamed],
        &["sbom", "--format", "spdx", &unnamed],
        &["diff", &unnamed, &image],
        &["carve", &unnamed, "--layer", "0", "-o", text(&bundle)],
        &["scrub", &unnamed, "--path", "etc/motd", "-o", &scrubbed],
        &["scan", &image, "--platform", "linux/riscv64"],
    ];
    for command in commands {
        let run = layersift(command).expect(2);
        assert!(run.stderr.contains("no image"), "{command:?}: {}", run.stderr);
        assert_masked(&run.stderr, &token, &command.join(" "));
        assert!(!run.stderr.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{:?}", run.stderr);
    }
    let run = layersift(&["scan", text(&folder.path().join(&token))]).expect(2);
    assert_masked(&run.stderr, &token, "a path that does not exist");
    let run = layersift(&["scan", &format!("--{token}")]).expect(2);
    assert_masked(&run.stderr, &token, "a flag that does not exist");
}
