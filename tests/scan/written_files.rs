//! Files that commands write: nothing is written over, no link is followed, and no half is left.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::time::Instant;

use crate::support::image::{Layer, archive, oci};
use crate::support::tar::Tar;
use crate::support::tools::say;
use crate::support::{DEADLINE, layersift, program, text};

#[test]
fn half_a_pair_of_keys_is_not_left() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("password"), "made up for this test\n").unwrap();
    let generate = || layersift(&["generate-key", text(&at("case")), "--password-file", text(&at("password"))]);
    for (there, other) in [("case.pub", "case.key"), ("case.key", "case.pub")] {
        fs::write(at(there), "something").unwrap();
        generate().expect(2);
        assert!(!at(other).exists(), "{other}");
        assert_eq!(fs::read_to_string(at(there)).unwrap(), "something");
        fs::remove_file(at(there)).unwrap();
    }
    generate().expect(0);
}

#[test]
fn attestations_are_written_over_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("password"), "made up for this test\n").unwrap();
    layersift(&["generate-key", text(&at("case")), "--password-file", text(&at("password"))]).expect(0);
    let image = at("image.tar");
    let layer = Layer::plain(Tar::new().file("etc/os", "x").finish());
    fs::write(&image, archive(&oci(&[layer]))).unwrap();
    let attest = |output: &str| {
        let key = ["--key", text(&at("case.key")), "--password-file", text(&at("password"))].map(String::from);
        let output = at(output);
        let flags = ["attest", text(&image), "-o", text(&output), "-q", "--fail-on", "critical"];
        let key: Vec<&str> = key.iter().map(String::as_str).collect();
        layersift(&[&flags[..], &key].concat())
    };
    attest("new.jsonl").expect(0);
    fs::write(at("kept"), "kept").unwrap();
    std::os::unix::fs::symlink(at("kept"), at("link")).unwrap();
    std::os::unix::fs::symlink(at("nowhere"), at("dangling")).unwrap();
    for output in ["kept", "link", "dangling", "new.jsonl"] {
        attest(output).expect(2);
    }
    assert_eq!(fs::read_to_string(at("kept")).unwrap(), "kept");
    assert!(!at("nowhere").exists());
}

/// A folder with an image, and its report.
fn with_a_report() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let layer = Layer::plain(Tar::new().file("etc/os", "x").finish());
    fs::write(folder.path().join("image.tar"), archive(&oci(&[layer]))).unwrap();
    let at = |name: &str| folder.path().join(name);
    layersift(&["scan", text(&at("image.tar")), "-q", "--format", "json", "-o", text(&at("report.json"))]);
    folder
}

#[test]
fn what_is_read_is_not_written_over() {
    let folder = with_a_report();
    let at = |name: &str| text(&folder.path().join(name)).to_string();
    let kept = ["image.tar", "report.json", "key", "policy.toml"];
    fs::write(at("key"), "made-up ".repeat(8)).unwrap();
    fs::write(at("policy.toml"), "fail-on = 'high'\n").unwrap();
    let before = kept.map(|name| fs::read(at(name)).unwrap());
    let (image, report) = (at("image.tar"), at("report.json"));
    let input = || fs::File::open(&image).unwrap();
    for arguments in [
        vec!["diff", &image, &report, "-o", &image],
        vec!["diff", &image, &report, "-o", &report],
        vec!["render", &report, "-o", &report],
        vec!["scan", &image, "-q", "--fingerprint-key", &at("key"), "-o", &at("key")],
        vec!["scan", &image, "-q", "--policy", &at("policy.toml"), "-o", &at("policy.toml")],
        vec!["scan", &image, "-q", "--baseline", &report, "-o", &report],
        vec!["scan", "-", "-q", "-o", &image],
        vec!["sweep", "files", text(folder.path()), "-q", "--reports", &image],
    ] {
        let output = program().args(&arguments).stdin(input()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains("is what is read"), "{arguments:?}: {said}");
    }
    assert_eq!(kept.map(|name| fs::read(at(name)).unwrap()), before);
}

#[test]
fn a_store_is_not_written_over() {
    let folder = with_a_report();
    let at = |name: &str| text(&folder.path().join(name)).to_string();
    let (image, store) = (at("image.tar"), at("s.db"));
    // There is no store when the command begins.
    let run = layersift(&["scan", &image, "-q", "--store", &store, "-o", &store]).expect(2);
    assert!(run.stderr.contains("is what is read"), "{}", run.stderr);
    assert!(fs::read(&store).unwrap().starts_with(b"SQLite format 3"));
}

#[test]
fn values_are_for_the_user_alone_and_a_limit_of_the_size_leaves_no_draft() {
    let folder = with_a_report();
    let at = |name: &str| text(&folder.path().join(name)).to_string();
    layersift(&["rules", "test", &at("image.tar"), "--show-secrets", "-o", &at("shown")]);
    let mode = fs::metadata(at("shown")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let program = program();
    let mut run = std::process::Command::new("sh");
    run.args(["-c", "ulimit -f 1; exec \"$@\"", "sh"]).arg(program.get_program());
    let output =
        run.args(["render", &at("report.json"), "--format", "html", "-o", &at("large.html")]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("cannot write"), "{said}");
    let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.into_iter().all(|name| !name.contains("large.html")));
}

#[test]
fn a_file_in_memory_is_replaced_like_any_other() {
    let folder = with_a_report();
    let image = folder.path().join("image.tar");
    let Ok(memory) = tempfile::tempdir_in("/dev/shm") else { return say("NOT RUN: files in memory: no /dev/shm") };
    let file = memory.path().join("report.json");
    let scan = ["scan", text(&image), "-q", "--format", "json", "-o", text(&file)];
    for flags in [&[][..], &["--show-secrets"]] {
        fs::write(&file, "x".repeat(1 << 20)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        layersift(&[&scan[..], flags].concat()).expect(0);
        let report: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert!(report["findings"].is_array());
        let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if flags.is_empty() { 0o644 } else { 0o600 });
    }
}

#[test]
#[cfg(target_os = "linux")]
fn what_a_shell_opened_is_written_to_where_the_shell_left_it() {
    let folder = with_a_report();
    let at = |name: &str| folder.path().join(name);
    for output in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        fs::write(at("out"), "x".repeat(1 << 20)).unwrap();
        let inode = fs::metadata(at("out")).unwrap().ino();
        let opened = fs::OpenOptions::new().write(true).open(at("out")).unwrap();
        let mut command = program();
        command.args(["scan", text(&at("image.tar")), "-q", "--format", "json", "-o", output]).stdout(opened);
        assert!(command.status().unwrap().success(), "{output}");
        let after = fs::metadata(at("out")).unwrap();
        assert_eq!((after.ino(), after.len()), (inode, 1 << 20), "{output}");
        assert!(fs::read(at("out")).unwrap().starts_with(b"{"), "{output}");
    }
}

/// A process that is killed leaves what was there: the values of secrets are nowhere else.
#[test]
#[cfg(target_os = "linux")]
fn nothing_is_left_of_a_report_whose_process_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let tmpfile = rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::WRONLY;
    if rustix::fs::open(folder.path(), tmpfile, rustix::fs::Mode::RUSR).is_err() {
        return say("NOT RUN: a report whose process is killed: the file system has no files without names");
    }
    let at = |name: &str| folder.path().join(name);
    let lines: String = (0..20_000).map(|n| format!("key = glpat-{:020}\n", n * 7_919)).collect();
    let layers: Vec<Layer> = (0..8).map(|n| Layer::plain(Tar::new().file(&format!("f{n}"), &lines).finish())).collect();
    fs::write(at("image.tar"), archive(&oci(&layers))).unwrap();
    fs::write(at("out"), "old").unwrap();
    let mut command = program();
    command.args(["scan", text(&at("image.tar")), "-q", "--show-secrets", "--format", "json", "-o", text(&at("out"))]);
    let mut child = command.spawn().unwrap();
    let descriptors = PathBuf::from(format!("/proc/{}/fd", child.id()));
    let is_writing = || {
        let links =
            fs::read_dir(&descriptors).into_iter().flatten().flatten().filter_map(|it| it.path().read_link().ok());
        links.into_iter().any(|link| link.starts_with(folder.path()) && !link.ends_with("image.tar"))
    };
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() && !is_writing() {
        assert!(started.elapsed() < DEADLINE);
    }
    let _ = child.kill();
    child.wait().unwrap();
    let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["image.tar", "out"]);
}
