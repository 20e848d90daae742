//! Evidence of images: every finding of the incident, checked against the image, and bundles that were changed.

use std::fs;
use std::path::{Path, PathBuf};

use layersift_model::{Digest, FingerprintKey};
use serde_json::Value;

use crate::support::image::{Layer, archive, docker_save};
use crate::support::registry::run;
use crate::support::tar::Tar;
use crate::support::time_stamps::{answers, authority};
use crate::support::{findings, layersift, many, testdata, text};

fn incident() -> PathBuf {
    testdata("incident.tar")
}

/// The bundle of these findings of the incident.
fn carve(folder: &Path, name: &str, ids: &[&str], flags: &[&str]) -> PathBuf {
    let bundle = folder.join(name);
    layersift(&[&["carve", text(&incident())], ids, &["-o", text(&bundle)], flags].concat()).expect(0);
    bundle
}

fn manifest(bundle: &Path) -> Value {
    serde_json::from_slice(&fs::read(bundle.join("manifest.json")).unwrap()).unwrap()
}

#[test]
fn every_finding_of_the_incident_is_what_the_layer_has() {
    let folder = tempfile::tempdir().unwrap();
    let report = layersift(&["scan", "--format", "json", text(&incident())]).expect(1).json();
    let bundle = carve(folder.path(), "evidence", &["all"], &["--case-id", "2031-004", "--operator", "A. Nalyst"]);
    let manifest = manifest(&bundle);
    assert_eq!(
        (&manifest["case"]["case_id"], &manifest["case"]["operator"]),
        (&"2031-004".into(), &"A. Nalyst".into())
    );
    let artifacts = manifest["artifacts"].as_array().unwrap();
    let of = |id: &str| -> Vec<(&Value, &Value)> {
        let pairs =
            artifacts.iter().flat_map(|one| one["findings"].as_array().unwrap().iter().map(move |found| (one, found)));
        pairs.filter(|(_, found)| found["id"] == id).collect()
    };
    let mut ranges = 0;
    for finding in findings(&report)
        .iter()
        .filter(|finding| !(finding["path"].is_null() && finding["config"].is_null() && finding["document"].is_null()))
    {
        let found = of(finding["id"].as_str().unwrap());
        let [(artifact, evidence)] = &found[..] else { panic!("{finding} {found:?}") };
        let bytes = fs::read(bundle.join(artifact["file"].as_str().unwrap())).unwrap();
        assert_eq!(artifact["sha256"], Digest::of(&bytes).to_string(), "{finding}");
        if !finding["path"].is_null() {
            assert_eq!(artifact["path"], finding["path"]);
            assert_eq!(artifact["layer"], finding["layer"]["index"]);
        }
        let Some(range) = evidence["range"].as_object() else { continue };
        let at = |name: &str| usize::try_from(range[name].as_u64().unwrap()).unwrap();
        let secret = &bytes[at("offset")..at("offset") + at("length")];
        assert_eq!(finding["secret"]["fingerprint"], FingerprintKey::default().fingerprint(secret));
        assert_eq!(range["sha256"], Digest::of(secret).to_string());
        ranges += 1;
    }
    assert!(ranges >= 3, "{manifest:#}");
    let run = layersift(&["carve", "--verify", text(&bundle), text(&incident())]).expect(0);
    assert!(run.stdout.contains("as it was written"), "{}", run.stdout);
    // Nothing was written to the image.
    layersift(&["scan", "-q", text(&incident())]).expect(1);
}

#[test]
fn a_report_tells_what_to_carve_without_a_scan() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    layersift(&["scan", "--format", "json", "-o", text(&report), text(&incident())]).expect(1);
    let json: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    let id =
        findings(&json).iter().find(|finding| !finding["path"].is_null()).unwrap()["id"].as_str().unwrap().to_string();
    let bundle = carve(folder.path(), "evidence.tar", &[&id], &["--report", text(&report)]);
    layersift(&["carve", "--verify", text(&bundle), text(&incident())]).expect(0);
    let run =
        layersift(&["carve", text(&incident()), "0000000000000000", "-o", text(&folder.path().join("none"))]).expect(2);
    assert!(
        run.stderr.contains("0000000000000000") || run.stderr.contains("findings are of no image"),
        "{}",
        run.stderr
    );
    assert!(!folder.path().join("none").exists());
}

#[test]
fn a_signed_bundle_is_checked_by_its_key_and_by_openssl() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let password = at("password");
    fs::write(&password, "made up for this test\n").unwrap();
    let prefix = at("case");
    layersift(&["generate-key", text(&prefix), "--password-file", text(&password)]).expect(0);
    let (key, public) = (at("case.key"), at("case.pub"));
    let flags = ["--key", text(&key), "--password-file", text(&password)];
    let bundle = carve(folder.path(), "evidence", &["all"], &flags);
    let verify =
        |flags: &[&str]| layersift(&[&["carve", "--verify", text(&bundle), text(&incident())], flags].concat());
    verify(&[]).expect(3);
    verify(&["--public-key", text(&public)]).expect(0);
    let signature = fs::read(bundle.join("seal.sig")).unwrap();
    let mut changed = signature.clone();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(bundle.join("seal.sig"), &changed).unwrap();
    verify(&["--public-key", text(&public)]).expect(1);
    fs::write(bundle.join("seal.sig"), &signature).unwrap();
    let openssl = std::process::Command::new("openssl")
        .args(["dgst", "-sha256", "-verify", text(&public), "-signature", "seal.sig", "seal.json"])
        .current_dir(&bundle)
        .output();
    assert!(openssl.is_ok_and(|output| output.status.success()));
}

#[test]
fn a_file_at_a_path_and_a_whole_layer() {
    let folder = tempfile::tempdir().unwrap();
    let secret = format!("GITLAB_TOKEN={}\n", many::token(1));
    let layer = Layer::plain(Tar::new().file("app/.env", &secret).file("../../etc/evil", "x").finish());
    let image = folder.path().join("image.tar");
    fs::write(&image, archive(&docker_save(std::slice::from_ref(&layer)))).unwrap();
    let at = |name: &str| folder.path().join(name);
    let one = |path: &Path, flags: &[&str]| layersift(&[&["carve", text(&image), "-o", text(path)], flags].concat());
    one(&at("file"), &["--layer", "0", "--path", "/app/.env"]).expect(0);
    assert_eq!(fs::read_to_string(at("file").join("artifacts/0001")).unwrap(), secret);
    one(&at("evil"), &["--layer", "0", "--path", "../../etc/evil"]).expect(0);
    one(&at("whole"), &["--layer", "0"]).expect(0);
    assert_eq!(fs::read(at("whole").join("artifacts/0001")).unwrap(), layer.blob);
    for (name, flags) in [("a", &["--layer", "7"][..]), ("b", &["--layer", "0", "--path", "nowhere"])] {
        let run = one(&at(name), flags).expect(2);
        assert!(run.stderr.contains("layer"), "{}", run.stderr);
        assert!(!at(name).exists());
    }
    one(&at("file"), &["--layer", "0"]).expect(2);
    for name in ["file", "evil", "whole"] {
        layersift(&["carve", "--verify", text(&at(name)), text(&image)]).expect(0);
    }
    // Another image is not what the bundle is of.
    layersift(&["carve", "--verify", text(&at("file")), text(&incident())]).expect(1);
    fs::write(at("file").join("artifacts/0001"), "changed").unwrap();
    let run = layersift(&["carve", "--verify", text(&at("file"))]).expect(1);
    assert!(run.stdout.contains("CHANGED") && run.stdout.contains("artifacts/0001 was changed"), "{}", run.stdout);
}

#[test]
fn a_time_stamp_may_stay_beside_a_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    authority(folder.path());
    let bundle = carve(folder.path(), "evidence", &["all"], &[]);
    let stamp = |name: &str, data: &Path| {
        fs::create_dir(at(name)).unwrap();
        let request = at(name).join("q.tsq");
        let query = ["ts", "-query", "-sha256", "-cert", "-data", text(data), "-out", text(&request)];
        run(std::process::Command::new("openssl").args(query));
        answers(folder.path(), &at(name)).remove(0)
    };
    let verify = |token: &str| {
        let root = at("ca.pem");
        let stamped = ["--timestamp-token", token, "--timestamp-authorities", text(&root)];
        layersift(&[&["carve", "--verify", text(&bundle), text(&incident())][..], &stamped].concat())
    };
    verify(&stamp("of-seal", &bundle.join("seal.json"))).expect(0);
    let other = verify(&stamp("of-other", &bundle.join("manifest.json"))).expect(1);
    assert!(other.stdout.contains("is no timestamp of the seal"), "{other:?}");
}
