//! Bills of materials through the program: which layer brought a package, which one removed it, and what other programs
//! read of it.

use std::process::Command;

use serde_json::Value;

use crate::support::image::{Layer, archive, docker_save};
use crate::support::tar::{Tar, gzip};
use crate::support::text;

const OS: &str = "ID=debian\nVERSION_ID=\"12\"\n";
const SITE: &str = "usr/lib/python3/site-packages";

fn status(packages: &[(&str, &str)]) -> String {
    let paragraph = |(name, version): &(&str, &str)| {
        format!("Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n\n")
    };
    packages.iter().map(paragraph).collect()
}

fn package_json(name: &str) -> String {
    format!(r#"{{"name":"{name}","version":"1.0.0"}}"#)
}

/// Runs `layersift sbom` on an image of `layers`; its exit status and its output.
fn sbom(layers: Vec<Tar>, flags: &[&str]) -> (Option<i32>, String) {
    let layers: Vec<Layer> = layers.into_iter().map(|tar| Layer::plain(tar.finish())).collect();
    sbom_of(&archive(&docker_save(&layers)), flags)
}

fn sbom_of(image: &[u8], flags: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.tar");
    std::fs::write(&path, image).unwrap();
    let program = env!("CARGO_BIN_EXE_layersift");
    let output = Command::new(program).args(["sbom", "--reproducible", text(&path)]).args(flags).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

fn document(layers: Vec<Tar>) -> Value {
    let (status, output) = sbom(layers, &["--format", "cyclonedx"]);
    assert_eq!(status, Some(0), "{output}");
    serde_json::from_str(&output).unwrap()
}

/// The packages of a document as `purl layer state ended-by`, sorted.
fn packages(document: &Value) -> Vec<String> {
    let components = document["components"].as_array().unwrap();
    let mut lines: Vec<String> = components.iter().filter(|one| one["type"] == "library").map(line).collect();
    lines.sort();
    lines
}

fn line(component: &Value) -> String {
    let purl = component["purl"].as_str().unwrap();
    let named = ["layersift:layer:index", "layersift:state", "layersift:ended-by:index"];
    let values = named.iter().filter_map(|name| property(component, name));
    std::iter::once(purl.to_string()).chain(values).collect::<Vec<_>>().join(" ")
}

fn property(component: &Value, name: &str) -> Option<String> {
    let properties = component["properties"].as_array()?;
    Some(properties.iter().find(|one| one["name"] == name)?["value"].as_str()?.to_string())
}

#[test]
fn a_database_that_is_written_again_tells_what_came_and_what_went() {
    let base = Tar::new()
        .file("etc/os-release", OS)
        .file("var/lib/dpkg/status", status(&[("bash", "5.1"), ("curl", "7.88.1-10"), ("gone", "1")]));
    let upgrade =
        Tar::new().file("var/lib/dpkg/status", status(&[("bash", "5.1"), ("curl", "7.88.1-12"), ("new", "2")]));
    let last = Tar::new().file("etc/other", "x");
    let expected = [
        "pkg:deb/debian/bash@5.1?arch=amd64&distro=debian-12 0 present",
        "pkg:deb/debian/curl@7.88.1-10?arch=amd64&distro=debian-12 0 overwritten 1",
        "pkg:deb/debian/curl@7.88.1-12?arch=amd64&distro=debian-12 1 present",
        "pkg:deb/debian/gone@1?arch=amd64&distro=debian-12 0 overwritten 1",
        "pkg:deb/debian/new@2?arch=amd64&distro=debian-12 1 present",
    ];
    assert_eq!(packages(&document(vec![base, upgrade, last])), expected);
}

#[test]
fn files_that_a_later_layer_deletes_are_hidden() {
    let base = Tar::new()
        .file("app/node_modules/a/package.json", package_json("a"))
        .file("app/node_modules/b/package.json", package_json("@s/b"))
        .file("opt/node_modules/c/package.json", package_json("c"))
        .file(&format!("{SITE}/x-1.dist-info/METADATA"), "Name: X_y\nVersion: 1\n");
    let later = Tar::new().whiteout("app/node_modules/a").opaque("opt").whiteout(&format!("{SITE}/x-1.dist-info"));
    let document = document(vec![base, later]);
    let expected = [
        "pkg:npm/%40s/b@1.0.0 0 present",
        "pkg:npm/a@1.0.0 0 deleted 1",
        "pkg:npm/c@1.0.0 0 deleted 1",
        "pkg:pypi/x-y@1 0 deleted 1",
    ];
    assert_eq!(packages(&document), expected);
    let hidden = document["components"].as_array().unwrap().iter().filter(|one| one["scope"] == "excluded").count();
    assert_eq!(hidden, 3);
}

#[test]
fn links_to_directories_lead_to_the_same_file() {
    let base = Tar::new()
        .directory("usr/lib")
        .symlink("lib", "usr/lib")
        .file("usr/lib/apk/db/installed", "P:a\nV:1\n\nP:b\nV:1\n\n");
    let later = Tar::new().file("lib/apk/db/installed", "P:a\nV:1\n\nP:b\nV:2\n\n");
    let expected =
        ["pkg:apk/alpine/a@1 0 present", "pkg:apk/alpine/b@1 0 overwritten 1", "pkg:apk/alpine/b@2 1 present"];
    assert_eq!(packages(&document(vec![base, later])), expected);
}

#[test]
fn a_hard_link_has_the_packages_of_its_file() {
    let cache = format!("{SITE}/x-1.dist-info/METADATA");
    let base = Tar::new()
        .file("cache/x-1.dist-info/METADATA", "Name: x\nVersion: 1\n")
        .hard_link(&cache, "cache/x-1.dist-info/METADATA");
    let document = document(vec![base, Tar::new().whiteout("cache")]);
    assert_eq!(packages(&document), ["pkg:pypi/x@1 0 deleted 1", "pkg:pypi/x@1 0 present"]);
}

#[test]
fn what_a_layer_overwrites_itself_is_hidden_in_it() {
    let twice = Tar::new()
        .file("a/package.json", r#"{"name":"a","version":"1.0.0"}"#)
        .file("a/package.json", r#"{"name":"a","version":"2.0.0"}"#);
    assert_eq!(packages(&document(vec![twice])), ["pkg:npm/a@1.0.0 0 overwritten 0", "pkg:npm/a@2.0.0 0 present"]);
}

#[test]
fn a_table_for_people_and_a_choice_of_what_is_listed() {
    let base = Tar::new().file("a/package.json", package_json("kept")).file("b/package.json", package_json("gone"));
    let layers = vec![base, Tar::new().whiteout("b")];
    let (_, all) = sbom(layers.clone(), &[]);
    assert!(all.contains("1 package: 1 npm; 1 hidden in layers"), "{all}");
    assert!(all.contains("deleted in layer 1"), "{all}");
    let (_, visible) = sbom(layers.clone(), &["--only", "visible"]);
    assert!(visible.contains("kept") && !visible.contains("gone"), "{visible}");
    let (_, hidden) = sbom(layers, &["--only", "hidden"]);
    assert!(hidden.contains("gone") && !hidden.contains("kept"), "{hidden}");
}

#[test]
fn what_cannot_be_read_is_in_the_document_and_in_the_exit_status() {
    let broken = Tar::new().file("var/lib/rpm/rpmdb.sqlite", b"SQLite format 3\0 and no more").file("a", "b");
    let (status, output) = sbom(vec![broken], &["--format", "cyclonedx"]);
    assert_eq!(status, Some(3));
    let document: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(document["compositions"][0]["aggregate"], "incomplete");
    let gap = property(&document["metadata"], "layersift:gap").unwrap();
    assert!(gap.starts_with("damaged-document: layer 0: var/lib/rpm/rpmdb.sqlite: "), "{gap}");
}

/// A made-up token that a rule finds.
const TOKEN: &str = "glpat-Zk7Qm2Xr9Tb4Wn6Ve001";

/// Two layers with a package and a token each; the second removes those of the first.
fn leaky() -> Vec<Tar> {
    let file = || format!("GITLAB_TOKEN={TOKEN}\n");
    let base = Tar::new().file("old/package.json", package_json("gone")).file("old/.env", file());
    vec![base, Tar::new().whiteout("old").file("app/package.json", package_json("kept")).file("app/.env", file())]
}

fn assets(document: &Value) -> Vec<Value> {
    let components = document["components"].as_array().unwrap();
    components.iter().filter(|one| one["type"] == "cryptographic-asset").cloned().collect()
}

#[test]
fn secrets_are_in_the_same_document_as_in_the_report_of_a_scan() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.tar");
    let layers: Vec<Layer> = leaky().into_iter().map(|tar| Layer::plain(tar.finish())).collect();
    std::fs::write(&path, archive(&docker_save(&layers))).unwrap();
    let program = env!("CARGO_BIN_EXE_layersift");
    let scan = ["scan", "--reproducible", "--format", "cyclonedx", text(&path)];
    let scan: Value = serde_json::from_slice(&Command::new(program).args(scan).output().unwrap().stdout).unwrap();
    let bill = document(leaky());
    assert_eq!(assets(&bill), assets(&scan));
    let [asset] = &assets(&bill)[..] else { panic!("{bill:#}") };
    assert_eq!(asset["cryptoProperties"]["relatedCryptoMaterialProperties"]["state"], "compromised");
    assert_eq!(asset["evidence"]["occurrences"].as_array().unwrap().len(), 2);
    assert!(!bill.to_string().contains(TOKEN));
    assert_eq!(packages(&bill), ["pkg:npm/gone@1.0.0 0 deleted 1", "pkg:npm/kept@1.0.0 1 present"]);
}

#[test]
fn without_secrets_the_packages_are_the_same_and_the_document_says_so() {
    let (_, output) = sbom(leaky(), &["--format", "cyclonedx-1.7", "--no-secrets"]);
    let bill: Value = serde_json::from_str(&output).unwrap();
    assert_eq!((&bill["specVersion"], assets(&bill).len()), (&"1.7".into(), 0));
    assert_eq!(packages(&bill), packages(&document(leaky())));
    assert_eq!(property(&bill["metadata"]["component"], "layersift:secrets").unwrap(), "not searched for");
    let (_, table) = sbom(leaky(), &[]);
    assert!(table.contains("; 2 secrets") && !table.contains(TOKEN), "{table}");
    let (_, visible) = sbom(leaky(), &["--only", "visible"]);
    assert!(visible.contains("; 1 secret\n"), "{visible}");
}

#[test]
fn spdx_has_the_packages_of_a_container_alone() {
    let (status, output) = sbom(leaky(), &["--format", "spdx"]);
    let bill: Value = serde_json::from_str(&output).unwrap();
    let names = bill["packages"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap());
    assert_eq!((status, names.skip(1).collect::<Vec<_>>()), (Some(0), vec!["kept"]));
    assert!(!output.contains("GITLAB") && !output.contains(TOKEN));
}

#[test]
fn marks_of_ai_last_as_long_as_their_files() {
    let id = "0123456789abcdef0123456789abcdef01234567";
    let base = Tar::new()
        .file("app/AI-DECLARATION.md", "---\nlevel: pair\n---\n")
        .file("app/CLAUDE.md", "# Build\n")
        .file("app/.git/packed-refs", format!("{id} refs/notes/ai\n"))
        .file("app/main.py", format!("#!/usr/bin/python3\n# Generated by ChatGPT\n{}", "x = 1\n".repeat(1_000)))
        .file("models/blob", [b"GGUF".to_vec(), vec![0; 3_000_000]].concat());
    let later = Tar::new().whiteout("app/CLAUDE.md").file("app/AI-DECLARATION.md", "---\nlevel: none\n---\n");
    for flags in [&["--format", "cyclonedx"][..], &["--format", "cyclonedx", "--no-secrets"]] {
        let (status, output) = sbom(vec![base.clone(), later.clone()], flags);
        assert_eq!(status, Some(0), "{output}");
        let bill: Value = serde_json::from_str(&output).unwrap();
        let texts: Vec<&str> =
            bill["annotations"].as_array().unwrap().iter().map(|one| one["text"].as_str().unwrap()).collect();
        let expected = [
            "declared: declaration in app/AI-DECLARATION.md (layer 1, present): declares the level of AI: none".into(),
            format!(
                "declared: git-notes git-ai in app/.git/packed-refs (layer 0, present): notes of git-ai about who \
                 wrote which lines, at {id}"
            ),
            "declared: generated-header ChatGPT in app/main.py (layer 0, present): its head says: Generated by ChatGPT"
                .into(),
            "observed: model GGUF in models/blob (layer 0, present): a model in the form GGUF".into(),
            "declared: declaration in app/AI-DECLARATION.md (layer 0, overwritten in layer 1): declares the level of \
             AI: pair"
                .into(),
            "observed: assistant-settings Claude in app/CLAUDE.md (layer 0, deleted in layer 1): settings or \
             instructions for an assistant"
                .to_string(),
        ];
        assert_eq!(texts, expected);
        let models =
            bill["components"].as_array().unwrap().iter().filter(|one| one["type"] == "machine-learning-model");
        assert_eq!(models.map(|one| one["name"].as_str().unwrap()).collect::<Vec<_>>(), ["blob"]);
    }
}

#[test]
fn every_packaging_of_an_image_has_the_same_packages() {
    let tars = [
        Tar::new().file("etc/os-release", OS).file("var/lib/dpkg/status", status(&[("bash", "5.1")])).finish(),
        Tar::new().file("a/package.json", package_json("a")).finish(),
    ];
    let plain: Vec<Layer> = tars.iter().cloned().map(Layer::plain).collect();
    let packed: Vec<Layer> = tars.iter().map(|tar| Layer::stored(tar, gzip(tar), "+gzip")).collect();
    let seen = |image: &[u8]| {
        let (_, output) = sbom_of(image, &["--format", "cyclonedx"]);
        packages(&serde_json::from_str(&output).unwrap())
    };
    let expected = ["pkg:deb/debian/bash@5.1?arch=amd64&distro=debian-12 0 present", "pkg:npm/a@1.0.0 1 present"];
    assert_eq!(seen(&archive(&docker_save(&plain))), expected);
    assert_eq!(seen(&archive(&docker_save(&packed))), expected);
    assert_eq!(seen(&archive(&crate::support::image::oci(&packed))), expected);
}

#[test]
fn names_from_an_image_do_not_steer_the_terminal() {
    let name = r"a\u001b[31m\u202e";
    let (_, output) = sbom(vec![Tar::new().file("a/package.json", package_json(name))], &[]);
    assert!(!output.contains(['\u{1b}', '\u{202e}']), "{output:?}");
}
