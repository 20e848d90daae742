//! Files of this machine that are hostile, or that others change: targets that shrink, terabytes of holes, links out of
//! an image directory, devices that are full, names that are not text, and caches that somebody else wrote.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::image::{Layer, archive, oci, write_directory};
use crate::support::tar::Tar;
use crate::support::{findings, finish, gap_reasons, layersift, program, text};
use layersift_format::{Blob, Cancellation, MappedFile};
use layersift_model::{Algorithm, GapReason};
use layersift_rules::Ruleset;
use layersift_scan::{Analyzer, NoObserver, Options};

/// A token that a built-in rule finds; it is made up.
const TOKEN: &str = "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";

fn layer() -> Layer {
    Layer::plain(Tar::new().file("app/.env", format!("T={TOKEN}\n")).finish())
}

#[test]
fn a_layer_that_shrinks_has_a_gap_and_is_not_kept() {
    let scanner = Analyzer::new(Ruleset::built_in().unwrap(), Options::default()).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let tar = Tar::new().file("app/.env", format!("T={TOKEN}\n")).file("big", vec![b'x'; 32 << 20]).finish();
    for is_whole in [true, false] {
        fs::write(file.path(), &tar).unwrap();
        let map = MappedFile::open(file.path()).unwrap();
        if !is_whole {
            file.as_file().set_len(1 << 20).unwrap();
        }
        let report = scanner.layer(Blob::File(map), Algorithm::Sha256, &Cancellation::default(), &NoObserver);
        assert!(report.findings.iter().any(|finding| finding.rule.id == "github.personal-access-token"));
        assert_eq!(report.is_repeatable(), is_whole);
        let is_gap = report.gaps.iter().any(|gap| gap.reason == GapReason::Unreadable);
        assert_eq!(is_gap, !is_whole, "{:?}", report.gaps);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_terabyte_of_holes_in_an_archive_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let tar = Tar::new().file("app/.env", format!("T={TOKEN}\n")).finish();
    let start = &tar[..tar.len() - 1024];
    let mut header = tar::Header::new_gnu();
    header.set_path("big").unwrap();
    header.set_size(1 << 40);
    header.set_mode(0o644);
    header.set_cksum();
    let whole = [start, header.as_bytes()].concat();
    // A root file system in a sparse file: what is before the hole is scanned.
    let rootfs = File::create_new(at("rootfs.tar")).unwrap();
    rootfs.write_all_at(&whole, 0).unwrap();
    rootfs.set_len((1 << 40) + 4096).unwrap();
    let report = layersift(&["scan", text(&at("rootfs.tar")), "--format", "json", "-q"]).expect(1).json();
    assert!(findings(&report).iter().any(|finding| finding["path"] == "app/.env"), "{report}");
    let reasons = gap_reasons(&report);
    assert!(!reasons.is_empty(), "{reasons:?}");
    assert!(report["layers"][0]["bytes"].as_u64().unwrap() < 1 << 30, "{}", report["layers"]);
    // A layer of an archive as a sparse file, and one that is compressed.
    let image = archive(&crate::support::image::docker_save(&[layer()]));
    let (docker, gzip) = (File::create_new(at("docker.tar")).unwrap(), File::create_new(at("image.tar.gz")).unwrap());
    docker.write_all_at(&[&image[..image.len() - 1024], header.as_bytes()].concat(), 0).unwrap();
    docker.set_len((1 << 40) + image.len() as u64 + 4096).unwrap();
    layersift(&["scan", text(&at("docker.tar")), "-q"]).expect(1);
    gzip.write_all_at(&crate::support::tar::gzip(&image), 0).unwrap();
    gzip.set_len(1 << 40).unwrap();
    let run = layersift(&["scan", text(&at("image.tar.gz")), "-q"]);
    assert!(matches!(run.code, Some(1..=3)), "{run:?}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_terabyte_of_holes_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = File::create_new(folder.path().join("disk.img")).unwrap();
    file.write_all_at(format!("T={TOKEN}\n").as_bytes(), 512 << 30).unwrap();
    file.set_len(1 << 40).unwrap();
    let target = format!("rootfs:{}", text(folder.path()));
    let report = layersift(&["scan", &target, "--format", "json", "-q"]).expect(1).json();
    assert_eq!(gap_reasons(&report), [""; 0]);
    let found = &findings(&report)[0];
    assert_eq!((&found["path"], &found["offset"]), (&"disk.img".into(), &((512u64 << 30) + 2).into()));
    assert!(report["layers"][0]["bytes"].as_u64().unwrap() < 1 << 20, "{}", report["layers"]);
}

#[test]
fn blobs_of_a_layout_may_be_links_and_its_listing_may_not() {
    let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_directory(folder.path(), &oci(&[layer()]));
    let blobs = folder.path().join("blobs/sha256");
    for (number, blob) in fs::read_dir(&blobs).unwrap().enumerate() {
        let (blob, moved) = (blob.unwrap().path(), outside.path().join(number.to_string()));
        fs::rename(&blob, &moved).unwrap();
        symlink(&moved, &blob).unwrap();
    }
    let report = layersift(&["scan", text(folder.path()), "--format", "json"]).expect(1).json();
    assert!(!findings(&report).is_empty());
    let listing = folder.path().join("index.json");
    fs::rename(&listing, outside.path().join("index.json")).unwrap();
    symlink(outside.path().join("index.json"), &listing).unwrap();
    let run = layersift(&["scan", text(folder.path())]).expect(2);
    assert!(run.stderr.contains("out of the directory"), "{}", run.stderr);
}

/// A name that is not UTF-8.
fn odd(end: &str) -> OsString {
    OsString::from_vec([b"n\xff", end.as_bytes()].concat())
}

#[test]
#[cfg(target_os = "linux")]
fn names_need_not_be_text() {
    let folder = tempfile::tempdir().unwrap();
    let at = |end: &str| folder.path().join(odd(end)).into_os_string();
    fs::write(at(".tar"), archive(&oci(&[layer()]))).unwrap();
    fs::create_dir(at("")).unwrap();
    fs::write(Path::new(&at("")).join(odd(".env")), format!("T={TOKEN}\n")).unwrap();
    fs::write(at(".key"), [7; 32]).unwrap();
    let policy = "fail-on = \"critical\"\n";
    fs::write(at(".policy"), policy).unwrap();
    let run = |arguments: &[OsString], code: i32| {
        let run = finish(program().args(arguments).current_dir(folder.path()), None).expect(code);
        assert!(!run.stdout.contains(TOKEN) && !run.stderr.contains(TOKEN));
    };
    let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    let json = words(&["--format", "json", "-o"]);
    run(&[&words(&["scan"])[..], &[at(".tar")], &json, &[at(".json")]].concat(), 1);
    run(&[&words(&["scan"])[..], &[at("")]].concat(), 1);
    let mut rootfs = OsString::from("rootfs:");
    rootfs.push(at(""));
    run(&[OsString::from("scan"), rootfs], 1);
    run(&[&words(&["render", "--format", "html", "-o"])[..], &[at(".html"), at(".json")]].concat(), 1);
    for (flag, end, code) in [("--baseline", ".json", 0), ("--fingerprint-key", ".key", 1), ("--policy", ".policy", 1)]
    {
        run(&["scan".into(), at(".tar"), flag.into(), at(end)], code);
    }
    run(&["scan".into(), at(".tar"), "--store".into(), at(".db")], 1);
    run(&["scan".into(), at(".tar"), "--store".into(), at(".db")], 1);
    run(&["trace".into(), "app/.env".into(), "--store".into(), at(".db")], 0);
    assert!(Path::new(&at(".db")).is_file() && Path::new(&at(".html")).is_file());
}

#[test]
#[cfg(target_os = "linux")]
fn full_and_closed_outputs_are_errors_and_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image.tar");
    fs::write(&image, archive(&oci(&[layer()]))).unwrap();
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let commands: [(&[&str], i32); 6] = [
        (&["scan", text(&image)], 1),
        (&["scan", text(&image), "-vv"], 1),
        (&["scan", "nowhere"], 2),
        (&["scan", "--no-such-flag"], 2),
        (&["layers", text(&image)], 0),
        (&["trace", "x", "--store", "nowhere"], 2),
    ];
    for (arguments, code) in commands {
        let status = |stdout: Stdio| {
            let mut command = program();
            command.args(arguments).stdin(Stdio::null()).stdout(stdout).stderr(full());
            command.status().unwrap().code()
        };
        assert_eq!(status(Stdio::null()), Some(code), "{arguments:?}");
        // A report that nobody gets is no verdict.
        assert_eq!(status(full()), Some(2), "{arguments:?}");
    }
    let script = "exec \"$0\" \"$@\" >&- 2>&-";
    let mut closed = Command::new("sh");
    closed.args(["-c", script, env!("CARGO_BIN_EXE_layersift"), "scan", text(&image)]);
    assert!(matches!(closed.status().unwrap().code(), Some(1 | 2)));
}

#[test]
fn a_report_never_costs_the_file_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let image = archive(&oci(&[layer()]));
    fs::write(at("image.tar"), &image).unwrap();
    symlink("image.tar", at("link.tar")).unwrap();
    for output in ["image.tar", "link.tar"] {
        for command in ["scan", "layers", "sbom"] {
            let run = layersift(&[command, text(&at("image.tar")), "-o", text(&at(output))]).expect(2);
            assert!(run.stderr.contains("is what is read"), "{command}: {}", run.stderr);
        }
    }
    assert_eq!(fs::read(at("image.tar")).unwrap(), image);
    // The disk is full: here the largest file that may be written is.
    fs::write(at("old.json"), "old").unwrap();
    let script = "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\"";
    let mut limited = Command::new("bash");
    limited.args(["-c", script, env!("CARGO_BIN_EXE_layersift"), "scan", text(&at("image.tar")), "--format", "json"]);
    let run = finish(limited.args(["-o", text(&at("old.json"))]), None).expect(2);
    assert!(run.stderr.contains("cannot write"), "{}", run.stderr);
    assert_eq!(fs::read_to_string(at("old.json")).unwrap(), "old");
    layersift(&["scan", text(&at("image.tar")), "--show-secrets", "-o", text(&at("secret.txt"))]).expect(1);
    assert_eq!(fs::metadata(at("secret.txt")).unwrap().permissions().mode() & 0o777, 0o600);
    let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["image.tar", "link.tar", "old.json", "secret.txt"]);
}

#[test]
fn a_database_of_somebody_else_does_not_decide() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("image.tar"), archive(&oci(&[Layer::plain(Tar::new().file("a", "own_0123456789abcdef").finish())])))
        .unwrap();
    let rule = |name: &str, regex: &str| {
        let text = format!(
            "[[rules]]\nid = \"own.key\"\nname = \"Own key\"\nseverity = \"critical\"\nconfidence = \"high\"\n\
             regex = '{regex}'\n"
        );
        fs::write(at(name), text).unwrap();
    };
    rule("own.toml", "own_[0-9a-f]{16}");
    rule("other.toml", "oth_[0-9a-f]{16}");
    let scan = |rules: &str, cache: &str| {
        let arguments = ["scan", text(&at("image.tar")), "-q", "--rules", text(&at(rules))].map(OsString::from);
        let run = finish(program().args(arguments).env("XDG_CACHE_HOME", at(cache)), None);
        run.code
    };
    assert_eq!((scan("own.toml", "c"), scan("own.toml", "c"), scan("other.toml", "d")), (Some(1), Some(1), Some(0)));
    let databases = |cache: &str| {
        let files = fs::read_dir(at(cache).join("layersift")).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|end| end == "hsdb")).collect::<Vec<_>>()
    };
    // The database that finds nothing, under the name of the one that does.
    for (own, other) in databases("c").iter().zip(databases("d")) {
        fs::copy(other, own).unwrap();
    }
    assert_eq!(scan("own.toml", "c"), Some(1));
    for own in databases("c") {
        fs::remove_file(&own).unwrap();
        assert!(Command::new("mkfifo").arg(&own).status().unwrap().success());
    }
    assert_eq!(scan("own.toml", "c"), Some(1), "a pipe is not waited for");
}
