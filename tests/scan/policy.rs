//! Policy files and baselines, through the program: what is allowed stays in the report and does not fail, what has
//! expired fails again, and nothing makes a gap pass.

use std::path::PathBuf;

use crate::support::image::{Layer, archive, docker_save};
use crate::support::tar::Tar;
use crate::support::{Run, findings, layersift, testdata, text};
use serde_json::{Value, json};
use tempfile::TempDir;

const TOKEN: &str = "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";
const RULE: &str = "github.personal-access-token";

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

    /// An image with a token in `app/settings`, built anew for each `build`.
    fn image(&self, build: &str) -> PathBuf {
        let env = format!("# {build}\nTOKEN={TOKEN}\n");
        let layers = [Layer::plain(Tar::new().file("app/settings", env).finish())];
        self.put(&format!("{build}.tar"), archive(&docker_save(&layers)))
    }
}

fn allow(fields: &str, expires: &str) -> String {
    format!("[[allow]]\n{fields}\nreason = \"Test account\"\nexpires = {expires}\n")
}

fn scan(flags: &[&str]) -> Run {
    layersift(&[&["scan", "--reproducible"], flags].concat())
}

fn token(report: &Value) -> &Value {
    findings(report).iter().find(|finding| finding["rule"] == RULE).unwrap()
}

#[test]
fn what_is_allowed_passes_and_is_marked() {
    let folder = Folder::new();
    let (image, policy) = (folder.image("a"), folder.put("p.toml", allow(&format!("rule = '{RULE}'"), "9999-12-31")));
    let flags = ["--policy", text(&policy), text(&image)];
    let report = scan(&[&["--format", "json"], &flags[..]].concat()).expect(0).json();
    assert_eq!(report["verdict"], "pass");
    assert_eq!(token(&report)["allowed"], json!({"reason": "Test account", "expires": "9999-12-31"}));
    let said = scan(&flags).expect(0).stdout;
    assert!(said.contains("\nALLOWED\n") && said.contains("until 9999-12-31: Test account"), "{said}");
    assert!(said.contains("PASS  no findings; 1 allowed"), "{said}");
    assert!(!said.contains(TOKEN), "{said}");

    let without = scan(&["--format", "json", text(&image)]).expect(1).json();
    for name in ["allowed", "baseline"] {
        assert_eq!(token(&without).get(name), None);
    }
    assert_eq!(without.get("expired"), None);
}

#[test]
fn an_expired_entry_allows_nothing_and_is_named_once() {
    let folder = Folder::new();
    let entries = allow("rule = 'nobody.uses-this'", "9999-12-31") + &allow("path = 'app/**'", "2001-02-03");
    let (image, policy) = (folder.image("a"), folder.put("p.toml", entries));
    let flags = ["--policy", text(&policy), text(&image)];
    let said = scan(&flags).expect(1).stdout;
    assert_eq!(said.matches("allow entry 2 expired on 2001-02-03: Test account").count(), 1, "{said}");
    assert!(!said.contains("ALLOWED") && !said.contains("entry 1"), "{said}");
    let report = scan(&[&["--format", "json"], &flags[..]].concat()).expect(1).json();
    assert_eq!(report["expired"], json!([{"entry": 2, "reason": "Test account", "expires": "2001-02-03"}]));
    assert_eq!(token(&report).get("allowed"), None);
}

#[test]
fn the_flag_is_stronger_than_the_file() {
    let folder = Folder::new();
    let (image, policy) = (folder.image("a"), folder.put("p.toml", "fail-on = 'none'"));
    scan(&["--policy", text(&policy), text(&image)]).expect(0);
    scan(&["--policy", text(&policy), "--fail-on", "high", text(&image)]).expect(1);
}

#[test]
fn gaps_never_pass() {
    let folder = Folder::new();
    let policy = folder.put("p.toml", allow("path = '**'", "9999-12-31"));
    let mut torn = Tar::new().file("app/settings", format!("TOKEN={TOKEN}\n")).unfinished();
    torn.extend([b'x'; 512]);
    let image = folder.put("torn.tar", archive(&docker_save(&[Layer::plain(torn)])));
    let report = scan(&["--format", "json", "--policy", text(&policy), text(&image)]).expect(3).json();
    assert_eq!(report["verdict"], "incomplete");
    assert!(token(&report)["allowed"].is_object());
    scan(&["--fail-on", "none", "--policy", text(&policy), text(&image)]).expect(3);
}

#[test]
fn a_baseline_marks_what_is_not_new() {
    let folder = Folder::new();
    let (old, new) = (folder.image("old"), folder.image("new"));
    let baseline = folder.0.path().join("old.json");
    scan(&["--format", "json", "-o", text(&baseline), text(&old)]).expect(1);
    let flags = ["--baseline", text(&baseline), text(&new)];
    let report = scan(&[&["--format", "json"], &flags[..]].concat()).expect(0).json();
    assert_eq!(token(&report)["baseline"], true);
    let before: Value = serde_json::from_slice(&std::fs::read(&baseline).unwrap()).unwrap();
    assert_ne!(token(&report)["id"], token(&before)["id"], "the layer is another one");
    let said = scan(&flags).expect(0).stdout;
    assert_eq!(said.matches("In the baseline: ").count(), 1, "{said}");
    assert!(said.contains("PASS  no findings; ") && !said.contains("fingerprint"), "{said}");

    let added = Tar::new().file("app/settings", format!("TOKEN={TOKEN}\n")).file("b", format!("TOKEN={TOKEN}\n"));
    let image = folder.put("added.tar", archive(&docker_save(&[Layer::plain(added.finish())])));
    scan(&["--baseline", text(&baseline), text(&image)]).expect(1);
}

#[test]
fn the_incident_is_its_own_baseline() {
    let folder = Folder::new();
    let (image, baseline) = (testdata("incident.tar"), folder.0.path().join("incident.json"));
    scan(&["--format", "json", "-o", text(&baseline), text(&image)]).expect(1);
    let report = scan(&["--format", "json", "--baseline", text(&baseline), text(&image)]).expect(0).json();
    assert!(findings(&report).iter().all(|finding| finding["baseline"] == true));
}

#[test]
fn what_cannot_be_used_is_named_with_its_reason() {
    let folder = Folder::new();
    let image = folder.image("a");
    let layers = folder.0.path().join("layers.json");
    layersift(&["layers", "--format", "json", "-o", text(&layers), text(&image)]).expect(0);
    let unknown = folder.put("unknown.toml", "fail-on = 'high'\nallow-incomplete = true\n");
    let all = folder.put("all.toml", allow("", "9999-12-31"));
    let binary = folder.put("binary", b"\xff\xfe\x00");
    for (flag, file, reason) in [
        ("--policy", &unknown, "line 2"),
        ("--policy", &unknown, "unknown field `allow-incomplete`, expected `fail-on` or `allow`"),
        ("--policy", &all, "line 1: allow entry 1 does not say what it allows"),
        ("--policy", &binary, "UTF-8"),
        ("--policy", &folder.0.path().join("none"), "No such file"),
        ("--baseline", &layers, "invalid report: missing field"),
        ("--baseline", &image, "invalid report: "),
        ("--baseline", &binary, "UTF-8"),
        ("--baseline", &folder.0.path().join("none"), "No such file"),
    ] {
        let run = scan(&[flag, text(file), text(&image)]).expect(2);
        assert!(run.stderr.contains(text(file)) && run.stderr.contains(reason), "{}", run.stderr);
        assert_eq!(run.stdout, "");
    }
}
