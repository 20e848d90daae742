//! Evidence of images: every finding of the incident, checked against the image, and bundles that were changed.

use std::fs;
use std::path::{Path, PathBuf};

use layersift_model::{Digest, FingerprintKey};
use serde_json::Value;

use crate::support::image::{Layer, archive, docker_save};
use crate::support::registry::run;
use crate::support::tar::{Tar, zstd};
use crate::support::time_stamps::{answers, authority};
use crate::support::{findings, layersift, many, output_of, program, testdata, text};

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
fn what_does_not_fit_is_left_out_and_the_record_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let secret = format!("GITLAB_TOKEN={}\n", many::token(1));
    let large = format!("{secret}{}", "a line that is not empty\n".repeat(10_000));
    let layers = [
        Layer::plain(Tar::new().file("app/.env", &secret).file("app/large", &large).file("app/z", &secret).finish()),
        Layer::plain(Tar::new().file("srv/large", &large).finish()),
    ];
    let image = folder.path().join("image.tar");
    fs::write(&image, archive(&docker_save(&layers))).unwrap();
    for name in ["evidence", "evidence.tar"] {
        let bundle = folder.path().join(name);
        let carve = ["carve", text(&image), "all", "-o", text(&bundle), "--max-bytes", "100K", "--format", "json"];
        let run = layersift(&carve).expect(3);
        assert!(run.stderr.contains("not written: layer 0: app/large"), "{}", run.stderr);
        let manifest = &run.json()["manifest"];
        let names = |list: &str| -> Vec<String> {
            let list = manifest[list].as_array().unwrap();
            list.iter().map(|one| format!("{} {}", one["layer"], one["path"].as_str().unwrap())).collect()
        };
        assert_eq!(names("artifacts"), ["0 app/.env", "0 app/z"]);
        assert_eq!(names("left_out"), ["0 app/large", "1 srv/large"]);
        let left_out = &manifest["left_out"][1];
        assert_eq!((left_out["size"].as_u64(), left_out["findings"][0].is_string()), (Some(large.len() as u64), true));
        // What is there is sound, and the image has it; what is not there is said.
        for more in [&[][..], &[text(&image)]] {
            let run = layersift(&[&["carve", "--verify", text(&bundle)], more].concat()).expect(3);
            assert!(run.stdout.contains("not checked: 2 files that the bundle had no room for"), "{}", run.stdout);
            assert!(run.stdout.contains("as it was written: 2 artifacts"), "{}", run.stdout);
        }
    }
    let bundle = folder.path().join("evidence");
    assert_eq!(fs::read_dir(bundle.join("artifacts")).unwrap().count(), 2);
    let log = fs::read_to_string(bundle.join("custody.log")).unwrap();
    assert!(log.contains(r#""action":"left out","subject":"layer 1: srv/large""#), "{log}");
    // A whole layer is as long as it is.
    for name in ["whole", "whole.tar"] {
        let bundle = folder.path().join(name);
        let carve = ["carve", text(&image), "--layer", "1", "-o", text(&bundle), "--max-bytes", "100K"];
        let run = layersift(&carve).expect(3);
        assert!(run.stdout.contains("0 artifacts, 1 left out"), "{}", run.stdout);
        layersift(&["carve", "--verify", text(&bundle)]).expect(3);
    }
    assert_eq!(fs::read_dir(folder.path().join("whole/artifacts")).unwrap().count(), 0);
    assert!(fs::metadata(folder.path().join("whole.tar")).unwrap().len() < 16 << 10);
}

#[test]
fn what_a_bomb_decompresses_to_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    // Three gigabytes behind the end of the archive: the limit of bytes would permit them.
    let line = b"a line that is not empty\n".repeat(40_000);
    let tar = Tar::new().file("app/.env", format!("GITLAB_TOKEN={}\n", many::token(1))).finish();
    let mut bomb = zstd(&tar);
    bomb.extend(zstd(&line).repeat(3_000));
    let layer = Layer::stored(&tar, bomb, "+zstd");
    let image = folder.path().join("image.tar");
    fs::write(&image, archive(&docker_save(&[layer]))).unwrap();
    let bundle = folder.path().join("evidence");
    let run = layersift(&["carve", text(&image), "--layer", "0", "--path", "app/.env", "-o", text(&bundle)]).expect(3);
    assert!(run.stderr.contains("layer 0: app/.env: its layer decompresses to far more"), "{}", run.stderr);
    assert_eq!(fs::read_dir(bundle.join("artifacts")).unwrap().count(), 0);
    layersift(&["carve", "--verify", text(&bundle)]).expect(3);
    // The blob itself is evidence.
    let whole = folder.path().join("whole");
    layersift(&["carve", text(&image), "--layer", "0", "-o", text(&whole)]).expect(0);
    layersift(&["carve", "--verify", text(&whole), text(&image)]).expect(0);
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

/// An image with a secret in a file, which a hard link of the layer above and one of the layer above that lead to.
fn image_with_links(folder: &Path) -> PathBuf {
    let secret = format!("GITLAB_TOKEN={}\n", many::token(1));
    let layers = [
        Layer::plain(Tar::new().file("first", "x").file("app/settings", &secret).finish()),
        Layer::plain(Tar::new().file("a", "1").file("b", "2").hard_link("c", "app/settings").finish()),
        Layer::plain(Tar::new().hard_link("d", "c").file("e", "3").finish()),
    ];
    let image = folder.join("links.tar");
    fs::write(&image, archive(&docker_save(&layers))).unwrap();
    image
}

#[test]
fn a_hard_link_to_a_lower_layer_is_carved_as_the_file_there() {
    let folder = tempfile::tempdir().unwrap();
    let (image, bundle) = (image_with_links(folder.path()), folder.path().join("bundle"));
    layersift(&["carve", text(&image), "all", "-o", text(&bundle)]).expect(0);
    let manifest = manifest(&bundle);
    let [artifact] = &manifest["artifacts"].as_array().unwrap()[..] else { panic!("{manifest:#}") };
    assert_eq!((&artifact["layer"], &artifact["path"]), (&0.into(), &"app/settings".into()));
    let found = findings(artifact);
    assert!(found.len() == 3 && found.iter().all(|finding| !finding["range"].is_null()), "{manifest:#}");
    layersift(&["carve", "--verify", text(&bundle), text(&image)]).expect(0);
    // The report says where the entry is.
    let report = layersift(&["scan", text(&image), "--format", "json"]).expect(1).json();
    let layers = |finding: &Value| (finding["layer"]["index"].as_u64(), finding["attributes"]["layer"].as_u64());
    let mut found: Vec<_> = findings(&report).iter().map(layers).collect();
    found.sort_unstable();
    assert_eq!(found, [(Some(0), None), (Some(1), Some(0)), (Some(2), Some(0))]);
}

/// An image with a secret in a file and one in its configuration, as an OCI layout.
fn image_with_secrets(folder: &Path) -> PathBuf {
    let layer = Layer::plain(Tar::new().file("app/.env", format!("GITLAB_TOKEN={}\n", many::token(1))).finish());
    let image = folder.join("image.tar");
    fs::write(&image, archive(&docker_save(std::slice::from_ref(&layer)))).unwrap();
    image
}

/// Writes the manifest of a bundle anew, with sums, a log and a seal that fit, as whoever can write it could.
fn forge(bundle: &Path, change: impl FnOnce(&mut Value)) {
    let text = fs::read_to_string(bundle.join("manifest.json")).unwrap();
    let mut manifest: Value = serde_json::from_str(&text).unwrap();
    change(&mut manifest);
    let manifest: layersift_evidence::Manifest = serde_json::from_value(manifest).unwrap();
    let text = serde_json::to_string_pretty(&manifest).unwrap() + "\n";
    let mut sums = format!("{}  manifest.json\n", Digest::of(text.as_bytes()).hex());
    for artifact in &manifest.artifacts {
        sums += &format!("{}  {}\n", artifact.sha256.as_ref().unwrap().hex(), artifact.file);
    }
    let mut custody = layersift_evidence::custody::CustodyLog::default();
    let source = &manifest.source;
    custody.add(None, "opened", &source.target, source.manifest_digest.as_ref());
    let mut last = None;
    for artifact in &manifest.artifacts {
        if let Some(layer) = artifact.layer.filter(|layer| last != Some(*layer)) {
            let digest =
                manifest.layers.iter().find(|known| known.index == layer).and_then(|known| known.digest.as_ref());
            custody.add(None, "read", &format!("layer {layer}"), digest);
        }
        last = artifact.layer;
        custody.add(None, "carved", &artifact.file, artifact.sha256.as_ref());
    }
    custody.add(None, "sealed", "manifest.json", Some(&Digest::of(text.as_bytes())));
    let seal = format!(
        "{{\n  \"schema\": 1,\n  \"manifest\": \"{}\",\n  \"sums\": \"{}\",\n  \"custody_entries\": {},\n  \
         \"custody_head\": \"{}\"\n}}\n",
        Digest::of(text.as_bytes()),
        Digest::of(sums.as_bytes()),
        custody.entries(),
        custody.head()
    );
    fs::write(bundle.join("manifest.json"), text).unwrap();
    fs::write(bundle.join("SHA256SUMS"), sums).unwrap();
    fs::write(bundle.join("custody.log"), custody.bytes()).unwrap();
    fs::write(bundle.join("seal.json"), seal).unwrap();
}

#[test]
fn a_bundle_that_was_sealed_anew_is_not_what_the_image_has() {
    let folder = tempfile::tempdir().unwrap();
    let image = image_with_secrets(folder.path());
    let bundle = folder.path().join("bundle");
    let verify = || layersift(&["carve", "--verify", text(&bundle), text(&image)]);
    let again = || {
        let _ = fs::remove_dir_all(&bundle);
        layersift(&["carve", text(&image), "all", "-o", text(&bundle), "-q"]).expect(0);
    };
    again();
    forge(&bundle, |_| {});
    verify().expect(0);
    let artifacts = manifest(&bundle)["artifacts"].clone();
    let secret =
        artifacts[0]["findings"].as_array().unwrap().iter().position(|found| !found["range"].is_null()).unwrap();
    let finding = format!("/artifacts/0/findings/{secret}");
    for (place, value) in [
        ("/artifacts/0/path", Value::from("etc/shadow")),
        ("/artifacts/0/path_bytes", "6162".into()),
        ("/artifacts/0/offset_in_layer", 77_777.into()),
        ("/artifacts/0/attributes/mode", 0o777.into()),
        ("/artifacts/0/attributes/entry", 7.into()),
        (&format!("{finding}/rule"), "aws.root-key".into()),
        (&format!("{finding}/id"), "0000000000000000".into()),
        (&format!("{finding}/severity"), "info".into()),
        (&format!("{finding}/masked"), "AKIA****".into()),
        (&format!("{finding}/fingerprint"), "0".repeat(32).into()),
        (&format!("{finding}/line"), 99.into()),
        (&format!("{finding}/state"), "deleted".into()),
        (&format!("{finding}/ended_by"), 3.into()),
        (&format!("{finding}/range"), Value::Null),
        ("/layers/0/created_by", "RUN by M. Allory".into()),
        ("/layers/0/bytes", 1.into()),
        ("/layers/0/stored_bytes", 1.into()),
        ("/source/platform", "windows/arm".into()),
    ] {
        again();
        forge(&bundle, |manifest| *manifest.pointer_mut(place).unwrap() = value);
        let run = verify();
        assert!(run.code == Some(1) && run.stdout.contains("CHANGED"), "{place}: {run:?}");
    }
    for (place, value) in [
        ("/source/reference", Value::from("evil/image:1")),
        ("/tool/ruleset", "another".into()),
        ("/tool/version", "9.9".into()),
    ] {
        again();
        forge(&bundle, |manifest| *manifest.pointer_mut(place).unwrap() = value);
        let run = verify().expect(3);
        assert!(run.stdout.contains("not checked"), "{place}: {}", run.stdout);
    }
}

#[test]
fn a_planted_artifact_and_a_document_with_other_bytes_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let image = image_with_secrets(folder.path());
    for (layer, digest) in [(Value::Null, Value::Null), (0.into(), Value::Null)] {
        let bundle = folder.path().join(format!("bundle-{layer}"));
        layersift(&["carve", text(&image), "all", "-o", text(&bundle), "-q"]).expect(0);
        let planted = b"planted evidence\n";
        let name = |manifest: &Value| format!("artifacts/{:04}", manifest["artifacts"].as_array().unwrap().len() + 1);
        forge(&bundle, |manifest| {
            let mut artifact = manifest["artifacts"][0].clone();
            let file = name(manifest);
            fs::write(bundle.join(&file), planted).unwrap();
            artifact["file"] = file.into();
            artifact["path"] = "home/suspect/plan.txt".into();
            (artifact["layer"], artifact["digest"]) = (layer.clone(), digest.clone());
            artifact["size"] = planted.len().into();
            artifact["sha256"] = Digest::of(planted).to_string().into();
            artifact["findings"] = Value::Array(Vec::new());
            manifest["artifacts"].as_array_mut().unwrap().push(artifact);
        });
        layersift(&["carve", "--verify", text(&bundle), text(&image)]).expect(1);
    }
}

#[test]
fn a_signature_that_was_removed_is_missed() {
    let folder = tempfile::tempdir().unwrap();
    let image = image_with_secrets(folder.path());
    let at = |name: &str| folder.path().join(name);
    fs::write(at("password"), "made up for this test\n").unwrap();
    layersift(&["generate-key", text(&at("case")), "--password-file", text(&at("password"))]).expect(0);
    let flags = ["--key", text(&at("case.key")), "--password-file", text(&at("password"))].map(String::from);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let bundle = at("bundle");
    layersift(&[&["carve", text(&image), "all", "-o", text(&bundle)], &flags[..]].concat()).expect(0);
    layersift(&["carve", "--verify", text(&bundle), text(&image)]).expect(3);
    fs::remove_file(bundle.join("seal.sig")).unwrap();
    let run = layersift(&["carve", "--verify", text(&bundle), text(&image)]).expect(1);
    assert!(run.stdout.contains("seal.sig is missing"), "{}", run.stdout);
}

#[test]
fn nothing_is_left_of_a_bundle_that_fails() {
    let folder = tempfile::tempdir().unwrap();
    let image = image_with_secrets(folder.path());
    let missing = folder.path().join("missing");
    let before = fs::read_dir(folder.path()).unwrap().count();
    for name in ["bundle", "bundle.tar"] {
        let bundle = folder.path().join(name);
        let stamped = ["--timestamp", "http://127.0.0.1:9", "--timestamp-authorities", text(&missing)];
        for flags in [&stamped[..], &["--key", text(&missing)], &["--layer", "0", "--path", "nowhere"]] {
            let ids: &[&str] = if flags[0] == "--layer" { &[] } else { &["all"] };
            layersift(&[&["carve", text(&image)], ids, &["-o", text(&bundle)], flags].concat()).expect(2);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), before, "{name}");
    }
}

#[test]
fn nothing_is_left_of_a_bundle_that_a_signal_ends() {
    let folder = tempfile::tempdir().unwrap();
    // Holes take long to hash.
    let mut header = tar::Header::new_gnu();
    header.set_path("big").unwrap();
    header.set_size(0);
    header.set_mode(0o644);
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.as_gnu_mut().unwrap().set_real_size(15 << 30);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(bytes.len() + 1024, 0);
    let image = folder.path().join("image.tar");
    fs::write(&image, archive(&docker_save(&[Layer::plain(bytes)]))).unwrap();
    for name in ["bundle", "bundle.tar"] {
        let bundle = folder.path().join(name);
        let mut command = program();
        command.args(["carve", text(&image), "--layer", "0", "--path", "big", "-o", text(&bundle)]);
        let mut child =
            command.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
        while !bundle.exists() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let pid = child.id().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let output = output_of(child);
        assert!(!output.status.success(), "{output:?}");
        assert!(!bundle.exists(), "{name}");
    }
}

#[test]
fn a_bundle_and_its_check_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let image = image_with_secrets(folder.path());
    let bundle = folder.path().join("bundle");
    let json = layersift(&["carve", text(&image), "all", "-o", text(&bundle), "--format", "json"]).expect(0).json();
    assert_eq!(json["manifest"]["artifacts"], manifest(&bundle)["artifacts"]);
    assert_eq!(json["seal"], Digest::of(&fs::read(bundle.join("seal.json")).unwrap()).to_string());
    let verify = || layersift(&["carve", "--verify", text(&bundle), text(&image), "--format", "json"]);
    let json = verify().expect(0).json();
    assert_eq!((&json["verdict"], json["faults"].as_array().unwrap().len()), (&"pass".into(), 0));
    fs::write(bundle.join("artifacts/0001"), "changed").unwrap();
    let json = verify().expect(1).json();
    assert_eq!((&json["verdict"], &json["faults"][0]), (&"fail".into(), &"artifacts/0001 was changed".into()));
}

#[test]
fn logins_and_pins_are_in_no_message_and_no_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let image = image_with_secrets(folder.path());
    let bundle = folder.path().join("bundle");
    let authorities = folder.path().join("tsa.pem");
    fs::write(&authorities, "").unwrap();
    let timestamp = |url: &str| {
        let flags = ["--timestamp", url, "--timestamp-authorities", text(&authorities)];
        layersift(&[&["carve", text(&image), "all", "-o", text(&bundle)], &flags[..]].concat())
    };
    let key = |uri: &str| layersift(&["carve", text(&image), "all", "-o", text(&bundle), "--key", uri]);
    for run in [
        timestamp("http://user:made-up-login@tsa.example"),
        timestamp("ftp://user:made-up-login@tsa.example"),
        timestamp("made-up-login"),
        key("pkcs11:token=a;pinx?pin-value=made-up-login"),
        key("pkcs11:token=a?module-path=/nowhere&pin-value=made-up-login"),
        key("pkcs11:token=%zz?pin-value=made-up-login"),
    ] {
        let run = run.expect(2);
        assert!(!run.stderr.contains("made-up-login"), "{}", run.stderr);
    }
    assert!(!bundle.exists());
    let method = "as http://user:made-up-login@tsa.example has it";
    layersift(&["carve", text(&image), "all", "-o", text(&bundle), "--timeout", "1h", "--evidence-id", method])
        .expect(0);
    assert!(!manifest(&bundle)["command"].to_string().contains("made-up-login"));
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
