//! One image, packed in every way it travels: whatever wrote the archive, the same is found in it.
//!
//! `testdata/packagings` does the packing, with the tools that people use. It needs root and `skopeo`, `umoci`,
//! `buildah`, `zstd` and `tar`, which `make test` installs. `LAYERSIFT_SKIP_PACKAGINGS=1` leaves these tests out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::support::tar::{gzip, zstd};
use crate::support::{Run, findings, layersift, layersift_with_input, testdata, text};
use serde_json::{Value, json};

/// A line of the list that `testdata/packagings` writes.
struct Packaging {
    path: PathBuf,
    name: String,
    transport: String,
    /// Whether it holds the whole image, and not just the root file system that a container would see.
    whole: bool,
}

/// Packed once for all tests, and kept for the next run; empty where they are to be left out.
fn packagings() -> &'static [Packaging] {
    static PACKED: OnceLock<Vec<Packaging>> = OnceLock::new();
    PACKED.get_or_init(|| {
        if std::env::var_os("LAYERSIFT_SKIP_PACKAGINGS").is_some_and(|value| value == "1") {
            return Vec::new();
        }
        pack(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("packagings"))
    })
}

fn pack(folder: &Path) -> Vec<Packaging> {
    let packed = Command::new(testdata("packagings")).arg(folder).output().unwrap();
    let said = String::from_utf8_lossy(&packed.stderr);
    assert!(
        packed.status.success(),
        "testdata/packagings: {said}\n`make test` installs skopeo, umoci, buildah and zstd and runs as root; \
         LAYERSIFT_SKIP_PACKAGINGS=1 leaves these tests out"
    );
    let index = std::fs::read_to_string(folder.join("index.tsv")).unwrap();
    let packagings: Vec<Packaging> = index
        .lines()
        .map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
            [name, path, transport, shows, _] => Packaging {
                path: folder.join(path),
                name: name.into(),
                transport: transport.into(),
                whole: shows == "same",
            },
            _ => panic!("{line}"),
        })
        .collect();
    assert!(packagings.len() > 30, "{} packagings", packagings.len());
    packagings
}

/// Scans for JSON that does not depend on when and with which version it was written.
fn scan(arguments: &[&str]) -> Run {
    layersift(&[&["scan", "--reproducible", "--format", "json"], arguments].concat())
}

fn scan_input(input: Vec<u8>, target: &str) -> Run {
    layersift_with_input(&["scan", "--reproducible", "--format", "json", target], input)
}

/// What of a report must not depend on the packaging: what is found where, and that nothing was left out.
fn essence(report: &Value) -> Value {
    assert_eq!(report["gaps"], json!([]), "{}", report["target"]);
    assert_eq!(report["verdict"], "fail", "{}", report["target"]);
    let layers: Vec<Value> = report["layers"].as_array().unwrap().iter().map(layer).collect();
    json!({ "findings": findings(report).iter().filter(|f| !is_of_packing(f)).map(finding).collect::<Vec<_>>(),
            "layers": layers, "platform": report["image"]["platform"], "stats": report["stats"] })
}

/// OCI configurations have no health check, and these packagings lost it on the way.
const WITHOUT_HEALTHCHECK: [&str; 2] = ["umoci-oci", "buildah-oci"];

fn is_of_packing(finding: &Value) -> bool {
    finding["rule"] == "config.runtime.no-healthcheck"
}

fn layer(layer: &Value) -> Value {
    json!({ "index": layer["index"], "diff_id": layer["diff_id"], "created_by": layer["created_by"],
            "files": layer["files"], "bytes": layer["bytes"] })
}

fn finding(finding: &Value) -> Value {
    let mut kept = finding.clone();
    // The blob of a layer differs with its compression; the layer does not.
    kept["layer"] = layer(&finding["layer"]);
    kept["ended_by"] = layer(&finding["ended_by"]);
    kept
}

/// What is found in the image as `docker save` wrote it.
fn reference() -> Value {
    essence(&scan(&[text(&testdata("incident.tar"))]).expect(1).json())
}

fn whole() -> impl Iterator<Item = &'static Packaging> {
    packagings().iter().filter(|packaging| packaging.whole)
}

fn archives() -> impl Iterator<Item = &'static Packaging> {
    whole().filter(|packaging| packaging.path.is_file())
}

#[test]
fn the_same_is_found_in_every_packaging() {
    let reference = reference();
    for packaging in whole() {
        let detected = scan(&[text(&packaging.path)]).expect(1).json();
        assert_eq!(essence(&detected), reference, "{} detected", packaging.name);
        let lost = findings(&detected).iter().any(is_of_packing);
        assert_eq!(lost, WITHOUT_HEALTHCHECK.contains(&&packaging.name[..]), "{}", packaging.name);
        let target = format!("{}:{}", packaging.transport, text(&packaging.path));
        let named = scan(&[&target]).expect(1).json();
        assert_eq!(essence(&named), reference, "{target}");
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    for packaging in packagings() {
        let path = text(&packaging.path);
        let [one, four] = ["1", "4"].map(|threads| scan(&["-j", threads, path]).expect(1).stdout);
        assert_eq!(one, four, "{}", packaging.name);
    }
}

#[test]
fn every_archive_can_be_piped_in_as_it_is_and_compressed() {
    for packaging in archives() {
        let bytes = std::fs::read(&packaging.path).unwrap();
        let mut from_file = scan(&[text(&packaging.path)]).expect(1).json();
        from_file["target"] = json!("-");
        // What is compressed already is not compressed again by anyone.
        let compressed = packaging.name.ends_with(".gz") || packaging.name.ends_with(".zst");
        let forms = if compressed { vec![bytes] } else { vec![gzip(&bytes), zstd(&bytes), bytes] };
        for (number, form) in forms.into_iter().enumerate() {
            let piped = scan_input(form, "-").expect(1).json();
            assert_eq!(piped, from_file, "{} piped in, form {number}", packaging.name);
        }
    }
}

#[test]
fn a_transport_may_be_named_for_standard_input() {
    let reference = reference();
    for packaging in archives() {
        let target = format!("{}:-", packaging.transport);
        let piped = scan_input(std::fs::read(&packaging.path).unwrap(), &target).expect(1).json();
        assert_eq!(essence(&piped), reference, "{} as {target}", packaging.name);
    }
}

#[test]
fn a_root_file_system_shows_the_findings_that_are_present() {
    let present: BTreeSet<(String, String, String)> = findings(&reference())
        .iter()
        .filter(|finding| finding["path"].is_string() && finding["state"] == "present")
        .map(identity)
        .collect();
    assert_eq!(present.len(), 3);
    for packaging in packagings().iter().filter(|packaging| !packaging.whole) {
        for target in [text(&packaging.path).to_string(), format!("rootfs:{}", text(&packaging.path))] {
            let report = scan(&[&target]).expect(1).json();
            assert_eq!(report["gaps"], json!([]), "{target}");
            assert_eq!(findings(&report).len(), 3, "{target}");
            assert_eq!(findings(&report).iter().map(identity).collect::<BTreeSet<_>>(), present, "{target}");
            assert!(findings(&report).iter().all(|finding| finding["state"] == "present"), "{target}");
        }
    }
}

/// A finding as it is named without its layer.
fn identity(finding: &Value) -> (String, String, String) {
    let key = |value: &Value| value.as_str().unwrap().to_string();
    (key(&finding["rule"]), key(&finding["path"]), key(&finding["secret"]["fingerprint"]))
}

#[test]
fn an_image_of_several_platforms() {
    let reference = reference();
    for packaging in whole().filter(|packaging| packaging.name.starts_with("oci-platforms")) {
        let path = text(&packaging.path);
        let other = scan(&["--platform", "linux/arm64", path]);
        let mut other = other.expect(0).json();
        assert_eq!(other["image"]["platform"], "linux/arm64/v8", "{path}");
        assert_eq!(scan(&["--platform", "linux/arm64/v8", path]).expect(0).json(), other, "{path}");
        let mut this = scan(&["--platform", "linux/amd64", path]).expect(1).json();
        assert_eq!(essence(&this), reference, "{path}");
        for report in [&mut other, &mut this] {
            let others = report["image"].as_object_mut().unwrap().remove("other_platforms");
            assert_eq!(others.unwrap().as_array().unwrap().len(), 1, "{path}");
        }
        let all = scan(&["--platform", "all", path]).expect(1).json();
        assert_eq!(all["schema"], 1);
        assert_eq!(all["reports"], json!([other, this]), "{path}");
        let unknown = layersift(&["scan", "--platform", "linux/s390x", path]).expect(2);
        for word in ["linux/s390x", "linux/arm64/v8", "linux/amd64", "--platform"] {
            assert!(unknown.stderr.contains(word), "{path}: {}", unknown.stderr);
        }
        assert_eq!(unknown.stdout, "");
    }
}

#[test]
fn an_image_is_chosen_by_its_name() {
    let name = "registry.internal.example/payments/seal-service:1.4.2";
    let image = testdata("incident.tar");
    let named =
        |name: &str| layersift(&["scan", "--format", "json", &format!("docker-archive:{}:{name}", text(&image))]);
    assert_eq!(named(name).expect(1).json()["image"]["reference"], name);
    let error = named("registry.internal.example/payments/other:1").expect(2).stderr;
    assert!(error.contains("payments/other:1") && error.contains(name), "{error}");
}
