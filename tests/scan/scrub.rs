//! Scrubbing through the program: what `scan` finds before, it does not find after, and other programs take the result.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::image::{Layer, archive, docker_save};
use crate::support::tar::{Tar, zstd};
use crate::support::tools::{missing, missing_for_podman, podman, say};
use crate::support::{Run, findings, finish, layersift, many, testdata, text};

const FORMS: [&str; 3] = ["oci", "oci-archive", "docker-archive"];

fn incident() -> String {
    text(&testdata("incident.tar")).to_string()
}

fn scan(target: &str) -> Value {
    finish(crate::support::program().args(["scan", "--format", "json", "--fail-on", "none", target]), None)
        .expect(0)
        .json()
}

fn scrub(target: &str, output: &str, flags: &[&str]) -> Run {
    layersift(&[&["scrub", target, "-o", output], flags].concat())
}

fn digests(report: &Value) -> Vec<&Value> {
    report["layers"].as_array().unwrap().iter().map(|layer| &layer["digest"]).collect()
}

fn fingerprint(finding: &Value) -> &Value {
    &finding["secret"]["fingerprint"]
}

/// Runs a program of the system, which has to take what it is given.
fn takes(command: &mut Command) {
    let run = finish(command, None);
    assert_eq!(run.code, Some(0), "{command:?}: {}", run.stderr);
}

#[test]
fn a_secret_that_hard_links_of_higher_layers_name_is_blanked_once() {
    let folder = tempfile::tempdir().unwrap();
    let secret = format!("GITLAB_TOKEN={}\n", many::token(1));
    let layers = [
        Layer::plain(Tar::new().file("first", "x").file("app/settings", &secret).finish()),
        Layer::plain(Tar::new().file("a", "1").file("b", "2").hard_link("c", "app/settings").finish()),
    ];
    let (image, changes) = (folder.path().join("links.tar"), folder.path().join("changes.json"));
    fs::write(&image, archive(&docker_save(&layers))).unwrap();
    let before = scan(text(&image));
    let output = format!("oci-archive:{}", text(&folder.path().join("new")));
    let id = findings(&before)[0]["id"].as_str().unwrap();
    scrub(text(&image), &output, &["--finding", id, "--changes", text(&changes)]).expect(0);
    let changes: Value = serde_json::from_slice(&fs::read(&changes).unwrap()).unwrap();
    let [place] = &changes["places"].as_array().unwrap()[..] else { panic!("{changes:#}") };
    assert_eq!((&place["action"], &place["path"]), (&"blanked".into(), &"app/settings".into()));
    assert!(findings(&scan(&output)).is_empty());
}

#[test]
fn every_secret_of_the_incident_is_gone_afterwards_and_other_layers_stay() {
    let before = scan(&incident());
    let secrets: Vec<&Value> = findings(&before).iter().filter(|finding| finding["secret"].is_object()).collect();
    assert!(secrets.len() >= 8);
    for (number, finding) in secrets.iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let output = format!("{}:{}", FORMS[number % 3], text(&folder.path().join("new")));
        let changes = folder.path().join("changes.json");
        let id = finding["id"].as_str().unwrap();
        let flags = ["--finding", id, "--changes", text(&changes)];
        let mut run = scrub(&incident(), &output, &flags);
        // Constants in an executable cannot be blanked, nor can a key that a rule writes anew.
        if run.code == Some(2) {
            let path = finding["path"].as_str().unwrap();
            assert!(run.stderr.contains(&format!("--path {path}")), "{}", run.stderr);
            assert!(!folder.path().join("new").exists() && !changes.exists());
            run = scrub(&incident(), &output, &[&flags[..], &["--path", path]].concat());
        }
        let run = run.expect(0);
        assert!(run.stderr.contains("rotate the secret all the same") && run.stderr.contains("verify-gone"));
        let after = scan(&output);
        assert!(findings(&after).iter().all(|found| fingerprint(found) != fingerprint(finding)), "{finding}");
        let changes: Value = serde_json::from_slice(&std::fs::read(&changes).unwrap()).unwrap();
        let changed: Vec<&Value> = changes["layers"].as_array().unwrap().iter().map(|layer| &layer["old"]).collect();
        for (old, new) in digests(&before).into_iter().zip(digests(&after)) {
            assert_eq!(old == new, !changed.contains(&old), "{finding}");
        }
        // What remains is what was there before, without this secret.
        let others = |report: &Value| findings(report).iter().filter(|found| found["secret"].is_object()).count();
        assert!(others(&after) < others(&before));
    }
}

#[test]
fn a_setting_and_an_unknown_finding_are_refused() {
    let before = scan(&incident());
    let setting = findings(&before).iter().find(|finding| finding["rule"] == "config.port.node-inspector").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let output = format!("oci:{}", text(&folder.path().join("new")));
    for (id, part) in [(setting["id"].as_str().unwrap(), "a setting"), ("0123456789abcdef", "no finding has the id")] {
        let run = scrub(&incident(), &output, &["--finding", id]).expect(2);
        assert!(run.stderr.contains(part), "{}", run.stderr);
    }
    let run = scrub(&incident(), text(&folder.path().join("x.tar")), &["--path", "app/.env"]).expect(2);
    assert!(run.stderr.contains("name the form"), "{}", run.stderr);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_removed_file_whose_secret_is_elsewhere_fails_and_nothing_is_written() {
    // A made-up token, with the right checksum.
    let before = scan(&incident());
    assert!(!findings(&before).is_empty());
    let env = file_of_incident("app/.env");
    let layers = [Tar::new().file("app/.env", &env), Tar::new().file("backup/env", &env)];
    let layers: Vec<Layer> = layers.into_iter().map(|tar| Layer::plain(tar.finish())).collect();
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image.tar");
    std::fs::write(&image, archive(&docker_save(&layers))).unwrap();
    let new = folder.path().join("new");
    let output = format!("oci:{}", text(&new));
    let run = scrub(text(&image), &output, &["--path", "app/.env"]).expect(1);
    assert!(run.stderr.contains("in the file backup/env") && !new.exists(), "{}", run.stderr);
    scrub(text(&image), &output, &["--path", "app/.env", "--path", "backup/env"]).expect(0);
    // Nothing is written over.
    let run = scrub(text(&image), &output, &["--path", "app/.env", "--path", "backup/env"]).expect(2);
    assert!(run.stderr.contains("exists already"), "{}", run.stderr);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn the_list_of_changes_is_signed() {
    if let Some(name) = missing_openssl() {
        return say(&format!("not tried: {name}"));
    }
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| text(&folder.path().join(name)).to_string();
    let mut make = crate::support::program();
    finish(make.args(["generate-key", &place("k")]).env("LAYERSIFT_KEY_PASSWORD", "made-up"), None).expect(0);
    let mut command = crate::support::program();
    command.args(["scrub", &incident(), "-o", &format!("oci:{}", place("new")), "--path", "app/.env"]);
    command.args(["--changes", &place("list"), "--key", &place("k.key")]).env("LAYERSIFT_KEY_PASSWORD", "made-up");
    finish(&mut command, None).expect(0);
    let mut verify = Command::new("openssl");
    verify.args(["dgst", "-sha256", "-verify", &place("k.pub"), "-signature", &place("list.sig")]).arg(place("list"));
    takes(&mut verify);
    std::fs::write(place("list"), "other").unwrap();
    assert_ne!(finish(&mut verify, None).code, Some(0));
}

fn missing_openssl() -> Option<String> {
    Command::new("openssl").arg("version").output().is_err().then(|| "openssl".into())
}

/// The bytes of a file of the incident.
fn file_of_incident(path: &str) -> Vec<u8> {
    use std::io::Read as _;
    let mut outer = tar::Archive::new(std::fs::File::open(testdata("incident.tar")).unwrap());
    for blob in outer.entries().unwrap() {
        let mut bytes = Vec::new();
        blob.unwrap().read_to_end(&mut bytes).unwrap();
        let mut inner = tar::Archive::new(&bytes[..]);
        for entry in inner.entries().into_iter().flatten().map_while(Result::ok) {
            let mut entry = entry;
            if entry.path().is_ok_and(|found| found == Path::new(path)) {
                let mut contents = Vec::new();
                entry.read_to_end(&mut contents).unwrap();
                return contents;
            }
        }
    }
    panic!("{path} is not in the incident");
}

#[test]
fn other_programs_take_the_result() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let made: Vec<String> = FORMS
        .iter()
        .map(|form| {
            let output = format!("{form}:{}:app:1", text(&folder.join(form)));
            scrub(&incident(), &output, &["--path", "app/.env"]).expect(0);
            output
        })
        .collect();
    match missing("skopeo") {
        Some(name) => say(&format!("not tried: {name}")),
        None => {
            for target in &made {
                takes(Command::new("skopeo").args(["inspect", target]));
                let copy = format!("dir:{}", text(&folder.join(target.replace([':', '/'], "-"))));
                takes(Command::new("skopeo").args(["--insecure-policy", "copy", "--quiet", target, &copy]));
            }
        }
    }
    match missing("umoci") {
        Some(name) => say(&format!("not tried: {name}")),
        None => {
            let layout = format!("{}/oci", text(folder));
            scrub(&incident(), &format!("oci:{layout}2:x"), &["--path", "app/.env"]).expect(0);
            let root = folder.join("root");
            let image = format!("{layout}2:x");
            takes(Command::new("umoci").args(["raw", "unpack", "--rootless", "--image", &image, text(&root)]));
            assert!(root.join("app/config/production.json").exists() && !root.join("app/.env").exists());
        }
    }
    match missing_for_podman() {
        Some(name) => say(&format!("not tried: {name}")),
        None => {
            for form in ["oci-archive", "docker-archive"] {
                let work = folder.join(format!("podman-{form}"));
                std::fs::create_dir(&work).unwrap();
                takes(podman(&work).args(["load", "--quiet", "--input", text(&folder.join(form))]));
            }
        }
    }
}

#[test]
fn a_signal_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(19);
    let large: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(200 << 20).collect();
    let image = folder.path().join("image.tar");
    let layers = [Layer::plain(Tar::new().file("app/key", "made up").file("large", &large).finish())];
    std::fs::write(&image, archive(&docker_save(&layers))).unwrap();
    let output = format!("oci-archive:{}", text(&folder.path().join("new")));
    let mut command = crate::support::program();
    let mut child = command.args(["scrub", text(&image), "--path", "app/key", "-q", "-o", &output]).spawn().unwrap();
    let is_begun = || {
        let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.into_iter().any(|name| name.to_string_lossy().starts_with(".layersift-scrub"))
    };
    while !is_begun() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    takes(Command::new("kill").args(["-TERM", &child.id().to_string()]));
    assert_eq!(child.wait().unwrap().code(), Some(2));
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["image.tar"]);
}

#[test]
fn a_short_value_that_stays_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let value = "Zq8vN2mK7wR4";
    let layer =
        Tar::new().file("app/.env", format!("DB_PASSWORD={value}\n")).file("notes", format!("it is {value}.\n"));
    let image = folder.path().join("image.tar");
    std::fs::write(&image, archive(&docker_save(&[Layer::plain(layer.finish())]))).unwrap();
    let before = scan(text(&image));
    let finding = findings(&before).iter().find(|finding| finding["path"] == "app/.env").unwrap();
    let output = format!("oci:{}", text(&folder.path().join("new")));
    let run = scrub(text(&image), &output, &["--finding", finding["id"].as_str().unwrap()]).expect(3);
    assert!(run.stderr.contains("fewer than 16 characters") && run.stderr.contains("notes"), "{}", run.stderr);
    assert!(!run.stderr.contains(value));
}

#[test]
fn an_image_is_not_written_without_its_list() {
    let folder = tempfile::tempdir().unwrap();
    let new = folder.path().join("new.tar");
    let list = folder.path().join("missing/changes.json");
    let flags = ["--path", "app/.env", "--changes", text(&list)];
    let run = scrub(&incident(), &format!("oci-archive:{}", text(&new)), &flags).expect(2);
    assert!(run.stderr.contains("cannot write"), "{}", run.stderr);
    assert!(!new.exists());
}

#[test]
fn what_a_bomb_decompresses_to_is_not_copied() {
    let folder = tempfile::tempdir().unwrap();
    let line = b"a line that is not empty\n".repeat(40_000);
    let tar = Tar::new().file("app/.env", "T=x\n").finish();
    let bomb = [zstd(&tar), zstd(&line).repeat(3_000)].concat();
    let image = folder.path().join("image.tar");
    std::fs::write(&image, archive(&docker_save(&[Layer::stored(&tar, bomb, "+zstd")]))).unwrap();
    let output = format!("oci:{}", text(&folder.path().join("out")));
    let run = layersift(&["scrub", text(&image), "--path", "app/.env", "-o", &output]).expect(2);
    assert!(run.stderr.contains("decompresses to far more"), "{}", run.stderr);
    assert!(!folder.path().join("out").exists());
}
