//! `layersift render`: a report that was kept is written as the scan would have written it, and judged again.

use std::path::PathBuf;

use crate::support::image::{Files, Layer, MANIFEST, bytes, config, descriptor, index, manifest, oci, write_directory};
use crate::support::tar::Tar;
use crate::support::{findings, layersift, layersift_with_input, testdata, text};
use serde_json::{Value, json};
use tempfile::TempDir;

const TOKEN: &str = "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";

/// Files of a test.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// The JSON report of a scan with `flags`.
    fn kept(&self, name: &str, flags: &[&str]) -> PathBuf {
        let path = self.0.path().join(name);
        let run = layersift(&[&["scan", "--quiet", "--format", "json", "-o", text(&path)], flags].concat());
        assert!(run.stderr.is_empty(), "{}", run.stderr);
        path
    }

    /// An OCI layout with an image for each of two architectures, of which one has a token.
    fn two_images(&self) -> PathBuf {
        let mut files = Files::new();
        let mut entries = Vec::new();
        for (architecture, content) in [("amd64", TOKEN), ("arm64", "nothing")] {
            let layers = [Layer::plain(Tar::new().file("app/settings", format!("TOKEN={content}\n")).finish())];
            let config = bytes(&config(&layers));
            let manifest = bytes(&manifest(&config, &layers));
            let mut entry = descriptor(MANIFEST, &manifest);
            entry["platform"] = json!({ "os": "linux", "architecture": architecture });
            entries.push(entry);
            files.extend(crate::support::image::oci_with(&manifest, &config, &layers));
        }
        files.insert("index.json".into(), bytes(&index(&entries)));
        let path = self.0.path().join("layout");
        write_directory(&path, &files);
        path
    }
}

fn incident() -> PathBuf {
    testdata("incident.tar")
}

/// Asserts that `render` of a kept report writes what `scan` writes of `target`, with each set of flags.
fn assert_rendered_as_scanned(target: &[&str], kept_with: &[&str], flag_sets: &[&[&str]]) {
    let folder = Folder::new();
    let kept = folder.kept("kept.json", &[kept_with, target].concat());
    for flags in flag_sets {
        let scanned = layersift(&[&["scan", "--quiet"], *flags, target].concat());
        let rendered = layersift(&[&["render"], *flags, &[text(&kept)]].concat());
        assert_eq!(rendered.stdout, scanned.stdout, "{flags:?}");
        assert_eq!((rendered.code, &rendered.stderr[..]), (scanned.code, ""), "{flags:?}");
    }
}

#[test]
fn a_report_is_written_as_the_scan_would_have_written_it() {
    let policy = testdata("policy/policy.toml");
    assert_rendered_as_scanned(
        &[text(&incident())],
        &[],
        &[
            &["--reproducible"],
            &["--reproducible", "--show", "info"],
            &["--reproducible", "--format", "json"],
            &["--reproducible", "--format", "json", "--fail-on", "none"],
            &["--reproducible", "--policy", text(&policy)],
            &["--reproducible", "--format", "json", "--policy", text(&policy)],
            &["--reproducible", "--format", "sarif"],
            &["--reproducible", "--format", "cyclonedx"],
            &["--reproducible", "--format", "markdown"],
            &["--reproducible", "--format", "junit"],
            &["--reproducible", "--format", "gitlab"],
            &["--reproducible", "--format", "timesketch"],
            &["--reproducible", "--format", "bodyfile"],
        ],
    );
}

#[test]
fn one_scan_writes_every_format() {
    let folder = Folder::new();
    let image = incident();
    let formats = layersift_report::FORMATS.iter().map(|format| format.name);
    let files: Vec<(&str, PathBuf)> = formats.map(|name| (name, folder.0.path().join(name))).collect();
    let mut arguments = vec!["scan", "--quiet", "--reproducible"];
    // Text goes to standard output.
    for (name, file) in &files {
        arguments.extend(["--format", name]);
        arguments.extend((*name != "text").then(|| ["-o", text(file)]).into_iter().flatten());
    }
    arguments.push(text(&image));
    let all = layersift(&arguments);
    assert_eq!((all.code, &all.stderr[..]), (Some(1), ""));
    for (name, file) in &files {
        let alone = layersift(&["scan", "--quiet", "--reproducible", "--format", name, text(&image)]);
        let written = if *name == "text" { all.stdout.clone() } else { std::fs::read_to_string(file).unwrap() };
        assert_eq!(written, alone.stdout, "{name}");
    }
}

#[test]
fn formats_without_secrets_refuse_to_show_them() {
    let refused = layersift(&["scan", "--show-secrets", "--format", "sarif", text(&incident())]).expect(2);
    assert!(refused.stderr.contains("--show-secrets applies to the formats text and json"), "{}", refused.stderr);
}

#[test]
fn secrets_are_shown_if_the_report_has_them_and_the_flag_is_given() {
    let target = [text(&incident()).to_string()];
    let target = [&target[0][..]];
    let shown: &[&str] = &["--reproducible", "--show-secrets"];
    let json: &[&str] = &["--reproducible", "--show-secrets", "--format", "json"];
    let masked: &[&str] = &["--reproducible", "--format", "json"];
    assert_rendered_as_scanned(&target, &["--show-secrets"], &[shown, json, masked]);

    let folder = Folder::new();
    let kept = folder.kept("masked.json", &target);
    let run = layersift(&["render", "--show-secrets", text(&kept)]).expect(1);
    assert!(run.stderr.contains("warning: not all reports have the values of secrets"), "{}", run.stderr);
}

#[test]
fn images_of_one_scan_stay_together() {
    let folder = Folder::new();
    let layout = folder.two_images();
    let target = ["--platform", "all", text(&layout)];
    let flags: &[&[&str]] = &[&["--reproducible"], &["--reproducible", "--format", "json"]];
    assert_rendered_as_scanned(&target, &[], flags);
    assert_rendered_as_scanned(&target, &["--reproducible"], flags);
}

#[test]
fn versions_and_times_are_kept() {
    let folder = Folder::new();
    let kept = folder.kept("kept.json", &[text(&incident())]);
    let rendered = layersift(&["render", "--format", "json", text(&kept)]).expect(1);
    assert_eq!(rendered.stdout, std::fs::read_to_string(&kept).unwrap());

    let report = rendered.json();
    let (version, seconds) =
        (report["tool"]["version"].as_str().unwrap(), report["stats"]["seconds"].as_f64().unwrap());
    let shown = layersift(&["render", text(&kept)]).expect(1).stdout;
    assert!(shown.contains(version) && shown.contains(&format!("{seconds:.2} s")), "{shown}");
}

#[test]
fn several_reports_are_one_set_and_the_worst_decides() {
    let folder = Folder::new();
    let clean = Layer::plain(Tar::new().file("app/settings", b"nothing\n").finish());
    let layout = folder.0.path().join("clean");
    write_directory(&layout, &oci(&[clean]));
    let clean = folder.kept("clean.json", &["--reproducible", text(&layout)]);
    let failing = folder.kept("failing.json", &["--reproducible", text(&incident())]);
    layersift(&["render", text(&clean)]).expect(0);

    let input = std::fs::read(&failing).unwrap();
    let run = layersift_with_input(&["render", "--format", "json", text(&clean), "-"], input).expect(1);
    let set = run.json();
    let targets: Vec<&str> =
        set["reports"].as_array().unwrap().iter().map(|report| report["target"].as_str().unwrap()).collect();
    assert_eq!(targets, [text(&layout), text(&incident())]);

    // The set is a report that can be rendered again.
    let again = layersift_with_input(&["render", "--format", "json", "-"], run.stdout.clone().into()).expect(1);
    assert_eq!(again.stdout, run.stdout);
}

#[test]
fn a_report_is_judged_again() {
    let folder = Folder::new();
    let kept = folder.kept("kept.json", &["--fail-on", "none", text(&incident())]);
    let judged = |flags: &[&str], code: i32| {
        layersift(&[&["render", "--format", "json"], flags, &[text(&kept)]].concat()).expect(code).json()
    };
    assert_eq!(judged(&[], 1)["verdict"], "fail", "the default policy applies, and not the one of the scan");
    assert_eq!(judged(&["--fail-on", "none"], 0)["verdict"], "pass");
    let report = judged(&["--baseline", text(&kept)], 0);
    assert!(findings(&report).iter().all(|finding| finding["baseline"] == true), "{report}");
    let policy = "[[allow]]\npath = '**'\nreason = 'Test account'\nexpires = 9999-12-31\n";
    let report = judged(&["--fail-on", "info", "--policy", text(&folder.put("policy.toml", policy))], 1);
    assert!(findings(&report).iter().any(|finding| finding["allowed"]["reason"] == "Test account"), "{report}");
}

/// What the version before `rules` and `policy` wrote of a report.
fn as_older_version(report: &mut Value) {
    let object = report.as_object_mut().unwrap();
    object.remove("rules");
    object.remove("policy");
    for layer in report["layers"].as_array_mut().unwrap() {
        layer.as_object_mut().unwrap().retain(|name, _| name != "stored_bytes" && name != "entries");
    }
}

#[test]
fn a_report_of_an_older_version_is_read_and_what_it_lacks_is_named() {
    let folder = Folder::new();
    let kept = folder.kept("kept.json", &[text(&incident())]);
    let mut report: Value = serde_json::from_slice(&std::fs::read(&kept).unwrap()).unwrap();
    as_older_version(&mut report);
    report["a field of a later version"] = json!(1);
    let old = folder.put("old.json", serde_json::to_vec(&report).unwrap());
    let run = layersift(&["render", "--format", "json", text(&old)]).expect(1);
    assert_eq!(findings(&run.json()).len(), findings(&report).len());
    for part in ["warning: ", text(&old), "risk, fix and references of rules", "the policy that made the verdict"] {
        assert!(run.stderr.contains(part), "{}", run.stderr);
    }
}

#[test]
fn what_cannot_be_read_is_named_with_its_reason() {
    let folder = Folder::new();
    let layers = folder.0.path().join("layers.json");
    layersift(&["layers", "--format", "json", "-o", text(&layers), text(&incident())]).expect(0);
    let expected = "expected what `layersift scan --format json` writes";
    for (name, content, reason) in [
        ("layers.json", None, expected),
        ("none.json", None, "No such file"),
        ("empty.json", Some(&b""[..]), expected),
        ("binary", Some(b"\xff\xfe\x00"), expected),
        ("schema.json", Some(br#"{"schema": 99}"#), "unknown schema 99"),
        ("list.json", Some(br#"{"schema": 1, "reports": [{}]}"#), expected),
        ("deep.json", Some(&b"[".repeat(100_000)), expected),
    ] {
        let path = folder.0.path().join(name);
        if let Some(content) = content {
            folder.put(name, content);
        }
        let run = layersift(&["render", text(&path)]).expect(2);
        assert!(run.stderr.contains(text(&path)) && run.stderr.contains(reason), "{name}: {}", run.stderr);
        assert_eq!(run.stderr.matches(reason).count(), 1, "{}", run.stderr);
        assert_eq!(run.stdout, "", "{name}");
    }
    let run = layersift_with_input(&["render", "-"], b"{".to_vec()).expect(2);
    assert!(run.stderr.contains("standard input: ") && run.stderr.contains(expected), "{}", run.stderr);
    let run = layersift_with_input(&["render", "-", "-"], Vec::new()).expect(2);
    assert!(run.stderr.contains("can be given once"), "{}", run.stderr);
}
