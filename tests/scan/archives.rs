//! Archives inside layers are opened, inside each other too: what they hold is found by name, once, and what cannot be
//! opened is a gap. Python makes the archives.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::support::tools::say;
use crate::support::{findings, gap_reasons, report_of, text};
use layersift_model::Limits;
use layersift_rules::Ruleset;
use layersift_scan::{Analyzer, Options};
use serde_json::Value;

const TOKEN: &str = "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";

/// What all the scripts begin with: functions that make archives of `name: bytes`.
const PRELUDE: &str = r#"
import io, sys, tarfile, zipfile, gzip, bz2, lzma, os
T = ("TOKEN=" + sys.argv[2] + "\n").encode()
def tar(files, fmt=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=fmt) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name); info.size = len(data); archive.addfile(info, io.BytesIO(data))
    return out.getvalue()
def zip(files, method=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items(): archive.writestr(name, data)
    return out.getvalue()
def put(name, data):
    with open(os.path.join(sys.argv[1], name), "wb") as file: file.write(data)
F = {"etc/app.env": T, "readme.txt": b"nothing here\n" * 50}
"#;

/// A folder with what `script` puts into it.
fn made(script: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let status =
        Command::new("python3").args(["-c", &format!("{PRELUDE}{script}"), text(folder.path()), TOKEN]).status();
    assert!(status.unwrap().success());
    folder
}

fn scanned(folder: &Path, limits: Limits) -> Value {
    let scanner = Analyzer::new(Ruleset::built_in().unwrap(), Options { limits, ..Options::default() }).unwrap();
    report_of(&scanner, &format!("rootfs:{}", text(folder)))
}

/// Where tokens are found: path, members and views.
fn places(report: &Value) -> BTreeSet<String> {
    let tokens = findings(report).iter().filter(|one| one["rule"] == "github.personal-access-token");
    let place = |one: &Value| {
        let inside = one["inside"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
        std::iter::once(one["path"].as_str().unwrap()).chain(inside).collect::<Vec<_>>().join(" > ")
    };
    let all: Vec<String> = tokens.map(place).collect();
    let unique: BTreeSet<String> = all.iter().cloned().collect();
    assert_eq!(all.len(), unique.len(), "found twice: {all:#?}");
    unique
}

#[test]
fn every_kind_of_archive_and_one_inside_another() {
    let folder = made(
        r#"
put("a.tar", tar(F))
put("b.tar.gz", gzip.compress(tar(F)))
put("c.tar.bz2", bz2.compress(tar(F)))
put("d.tar.xz", lzma.compress(tar(F)))
put("e.zip", zip(F))
put("f.jar", zip({"WEB-INF/lib/inner.jar": zip(F), "x": b"y"}, zipfile.ZIP_STORED))
put("g.gz", gzip.compress(T))
put("h.img", tar({"layer.tar.gz": gzip.compress(tar({"app.whl": zip(F)}))}))
put("i.no-name", gzip.compress(gzip.compress(bz2.compress(T))))
"#,
    );
    let report = scanned(folder.path(), Limits::default());
    let expected = [
        "a.tar > etc/app.env",
        "b.tar.gz > etc/app.env",
        "c.tar.bz2 > etc/app.env",
        "d.tar.xz > etc/app.env",
        "e.zip > etc/app.env",
        "f.jar > WEB-INF/lib/inner.jar > etc/app.env",
        "g.gz",
        "h.img > layer.tar.gz > app.whl > etc/app.env",
        "i.no-name",
    ];
    assert_eq!(places(&report), expected.iter().map(|place| place.to_string()).collect());
    assert_eq!(report["gaps"], serde_json::json!([]));
}

#[test]
fn what_is_behind_a_program_or_in_a_repository_is_opened() {
    let folder = made(
        r##"
import zlib
put("run.sh", b"#!/bin/sh\n" + b"# line\n" * 900 + b"exit 0\n" + zip(F))
put("tool", b"\x7fELF\x02\x01\x01" + os.urandom(3 << 20).replace(b"PK", b"__") + zip(F))
put("boot.tar", tar({"setup.exe": b"MZ" + b"\0" * 70_000 + zip(F)}))
os.makedirs(os.path.join(sys.argv[1], ".git/objects/0a"))
put(".git/objects/0a/1b", zlib.compress(b"blob %d\0" % len(T) + T))
put("value.zz", zlib.compress(b"words\n" * 9999 + T))
"##,
    );
    let report = scanned(folder.path(), Limits::default());
    let expected = [
        ".git/objects/0a/1b",
        "boot.tar > setup.exe > etc/app.env",
        "run.sh > etc/app.env",
        "tool > etc/app.env",
        "value.zz",
    ];
    assert_eq!(places(&report), expected.iter().map(|place| place.to_string()).collect());
    assert_eq!(report["gaps"], serde_json::json!([]));
}

#[test]
fn what_was_deleted_in_a_git_repository_is_found_in_its_pack() {
    let folder = tempfile::tempdir().unwrap();
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        command.current_dir(folder.path()).args(["-c", "user.name=A", "-c", "user.email=a@example.org"]).args(args);
        command.output().is_ok_and(|output| output.status.success())
    };
    if !git(&["init", "-q"]) {
        return say("SKIPPED: git is not installed");
    }
    let many: String = (0..3000).map(|line| format!("setting_{line} = {}\n", line * 7919 % 1009)).collect();
    for text in [
        many.replace("setting_1500 = ", &format!("token = {TOKEN}\nsetting_1500 = ")),
        many.clone() + &"more = 1\n".repeat(300),
    ] {
        std::fs::write(folder.path().join("settings"), text).unwrap();
        assert!(git(&["add", "-A"]) && git(&["commit", "-q", "-m", "change"]));
    }
    assert!(git(&["repack", "-q", "-a", "-d", "-f"]) && git(&["prune-packed", "-q"]));
    let report = scanned(folder.path(), Limits::default());
    let places = places(&report);
    let [place] = &places.iter().collect::<Vec<_>>()[..] else { panic!("{places:#?}") };
    assert!(place.starts_with(".git/objects/pack/pack-") && place.contains(".pack > blob "), "{place}");
    assert_eq!(report["gaps"], serde_json::json!([]));
    // It is stored as a difference: its line numbers are those of a part.
    let line = findings(&report)
        .iter()
        .find_map(|one| (one["rule"] == "github.personal-access-token").then_some(&one["line"]));
    assert!(line.unwrap().as_u64() < Some(30), "{line:?}");
}

#[test]
fn many_small_members_and_one_that_spans_windows() {
    let folder = made(
        r#"
many = {f"dir/{n:05}.txt": b"some words\n" * (n % 97) for n in range(5000)}
many["dir/04000.env"] = T
put("many.zip", zip(many))
for n, shift in enumerate([0, 1, 500, 36000]):
    big = b"var a = 1;\n" * 100_000
    at = (1 << 20) - 20_000 + shift
    put(f"big{n}.tar.gz", gzip.compress(tar({"first": b"x" * 3000, "big": big[:at] + b"\n" + T + big[at:] * 3})))
"#,
    );
    let expected: BTreeSet<String> = [
        "many.zip > dir/04000.env",
        "big0.tar.gz > big",
        "big1.tar.gz > big",
        "big2.tar.gz > big",
        "big3.tar.gz > big",
    ]
    .map(String::from)
    .into();
    let report = scanned(folder.path(), Limits::default());
    assert_eq!(places(&report), expected);
    // Line and column are those in the member.
    let one = findings(&report).iter().find(|one| one["path"] == "big0.tar.gz").unwrap();
    let at = (1 << 20) - 20_000;
    assert_eq!((one["line"].as_u64(), one["column"].as_u64()), (Some(at / 11 + 2), Some(7)));
    assert_eq!(one["offset"].as_u64(), Some(at + 1 + 6));
}

#[test]
fn the_answer_does_not_depend_on_threads() {
    let folder = made(
        r#"
for n in range(40):
    put(f"{n:02}.zip", zip({f"m{m}": (T if m % 7 == n % 7 else b"z" * m * 999) for m in range(20)}))
"#,
    );
    let report = |threads| {
        let options = Options { threads, ..Options::default() };
        report_of(&Analyzer::new(Ruleset::built_in().unwrap(), options).unwrap(), text(folder.path()))
    };
    let (one, four) = (report(1), report(4));
    assert_eq!(one["findings"], four["findings"]);
    assert!(places(&one).len() > 100);
}

#[test]
fn what_cannot_be_opened_is_a_gap() {
    let folder = made(
        r#"
whole = gzip.compress(tar({"pad": os.urandom(50_000), **F}))
put("cut.tar.gz", whole[:40_000])
put("deep", __import__("functools").reduce(lambda data, _: gzip.compress(data), range(12), T))
put("bad.tar.xz", lzma.compress(tar(F))[:-40] + b"\0" * 40)
"#,
    );
    let report = scanned(folder.path(), Limits::default());
    let paths: BTreeSet<&str> = report["gaps"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|gap| gap["path"].as_str())
        .map(|p| p.split(' ').next().unwrap())
        .collect();
    assert_eq!(paths.into_iter().collect::<Vec<_>>(), ["bad.tar.xz", "cut.tar.gz", "deep"]);
    assert_ne!(report["verdict"], "pass");
}

#[test]
fn a_bomb_inside_an_archive_is_bounded() {
    let folder = made(
        r#"
zeros = gzip.compress(b"\0" * (200 << 20))
put("bomb.tar.gz", gzip.compress(tar({f"z{n}": zeros for n in range(20)})))
"#,
    );
    let report = scanned(folder.path(), Limits { archive_bytes: 64 << 20, ..Limits::default() });
    assert_eq!(gap_reasons(&report), ["archive-too-large"]);
}

#[test]
fn a_file_in_an_archive_is_told_by_its_path() {
    let folder = made(
        r#"put("home.tar.gz", gzip.compress(tar({"root/.netrc": b"machine git.corp login ci password Zq8vLm2kT4xRw9\n"})))"#,
    );
    let report = scanned(folder.path(), Limits::default());
    assert!(findings(&report).iter().any(|one| one["inside"] == serde_json::json!(["root/.netrc"])), "{report:#}");
}
