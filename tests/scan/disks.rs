//! Stores of engines on disks: every token of the recorded stores in `testdata/disks` is found once, in the image, the
//! container, the volume or the rest that has it, and nothing of the store is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::tar::Tar;
use crate::support::tools::{missing, missing_for_podman, podman, say};
use crate::support::{findings, finish, layersift, testdata, text};

/// The recorded stores.
const STORES: [&str; 6] = [
    "buildah-1.28.2-overlay",
    "containerd-2.4.2-cri-discard-layers",
    "containerd-2.4.2-overlayfs",
    "docker-20.10.24-overlay2",
    "docker-moby-2.0.0-beta.24-containerd-store",
    "podman-4.3.1-overlay",
];

/// Unpacks the recorded store `name` with its device nodes and extended attributes, or says why that is not possible.
pub(crate) fn unpacked(name: &str) -> Option<tempfile::TempDir> {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0);
    let missing = missing("tar").or_else(|| missing("xz")).or_else(|| (!is_root).then(|| "root, for mknod".into()));
    if let Some(missing) = missing {
        say(&format!("NOT RUN: the store {name} needs {missing}"));
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let archive = testdata("disks").join(format!("{name}.tar.xz"));
    let mut tar = Command::new("tar");
    tar.args(["--xattrs", "--xattrs-include=*", "-xJf"]).arg(archive).arg("-C").arg(folder.path());
    let status = tar.status().unwrap();
    assert!(status.success());
    Some(folder)
}

pub(crate) fn transport(name: &str) -> &'static str {
    match name.split('-').next() {
        Some("docker") => "docker-root",
        Some("containerd") => "containerd-root",
        _ => "podman-root",
    }
}

/// All reports of a store.
pub(crate) fn reports(target: &str) -> Vec<Value> {
    let run = layersift(&["scan", "--all", "--format", "json", "--show-secrets", "--fail-on", "none", target]);
    assert!(matches!(run.code, Some(0 | 3)), "{run:?}");
    match run.json() {
        Value::Object(mut object) => match object.remove("reports") {
            Some(Value::Array(reports)) => reports,
            _ => vec![Value::Object(object)],
        },
        other => panic!("{other}"),
    }
}

/// What a report is about: the name of an image, or what comes after `#` in its target.
pub(crate) fn subject(report: &Value) -> String {
    let target = report["target"].as_str().unwrap();
    match target.split_once('#') {
        Some((_, part)) => part.into(),
        None => format!("image {}", report["image"]["reference"].as_str().unwrap_or("?")),
    }
}

/// Where each token of the truth is reported: subject, place and state.
fn places(name: &str, reports: &[Value]) -> BTreeMap<String, Vec<String>> {
    let truth = std::fs::read(testdata("disks").join(format!("{name}.truth.json"))).unwrap();
    let truth: BTreeMap<String, Value> = serde_json::from_slice(&truth).unwrap();
    let mut places = BTreeMap::new();
    for (label, token) in truth {
        let token = token["token"].as_str().unwrap();
        let mut found = Vec::new();
        for report in reports {
            for finding in findings(report).iter().filter(|finding| finding["secret"]["value"] == token) {
                let config = finding["config"].as_str().map(|field| format!("configuration {field}"));
                let document = finding["document"]["kind"].as_str().map(str::to_string);
                let place = config.or(document).or(finding["path"].as_str().map(str::to_string)).unwrap_or_default();
                let state = finding["state"].as_str().unwrap_or("present");
                found.push(short(&format!("{} {place} {state}", subject(report))));
            }
        }
        places.insert(label, found);
    }
    places
}

/// A text with the first 12 digits of the ids in it, and with short names for two records.
fn short(text: &str) -> String {
    let mut found = String::new();
    let mut digits = 0;
    for c in text.chars() {
        digits = if matches!(c, '0'..='9' | 'a'..='f') { digits + 1 } else { 0 };
        if digits <= 12 {
            found.push(c);
        }
    }
    let found = found.replace("io.containerd.metadata.v1.bolt/meta.db/v1/", "META/");
    found.replace("io.cri-containerd.container.metadata", "CRI")
}

/// Every path of a tree with its type, size, content and times.
fn state_of(root: &Path) -> BTreeSet<(PathBuf, String)> {
    let mut pending = vec![root.to_path_buf()];
    let mut found = BTreeSet::new();
    while let Some(path) = pending.pop() {
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        let content =
            if metadata.is_file() { format!("{:?}", std::fs::read(&path).unwrap().len()) } else { String::new() };
        // Reading a symbolic link changes its access time, and nothing can prevent that.
        let accessed = if metadata.is_symlink() { 0 } else { metadata.atime_nsec() ^ metadata.atime() };
        let what = format!("{:o} {} {accessed} {} {content}", metadata.mode(), metadata.len(), metadata.ctime_nsec());
        if metadata.is_dir() {
            pending.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.insert((path, what));
    }
    found
}

/// The bytes of all files of a tree.
fn bytes_of(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = state_of(root).into_iter().map(|(path, _)| path);
    let files = files.filter(|path| std::fs::symlink_metadata(path).unwrap().is_file());
    files.map(|path| (path.clone(), std::fs::read(&path).unwrap())).collect()
}

/// Reads the store `name` and compares where its tokens are with `expected`, lines of `LABEL: PLACE, PLACE`.
#[track_caller]
fn check(name: &str, expected: &[(&str, &[&str])]) {
    let Some(folder) = unpacked(name) else { return };
    let reports = reports(&format!("{}:{}", transport(name), text(folder.path())));
    let gaps = reports.iter().flat_map(|report| report["gaps"].as_array().unwrap());
    let gaps: Vec<&str> = gaps.map(|gap| gap["reason"].as_str().unwrap()).collect();
    // An interrupted pull of the first store has the start of a tar archive. Blobs that an engine never kept are no
    // gaps.
    let is_first = name == "containerd-2.4.2-overlayfs";
    assert_eq!(gaps, if is_first { vec!["damaged-tar"] } else { Vec::new() }, "{name}");
    let places = places(name, &reports);
    let expected: BTreeMap<String, Vec<String>> = expected
        .iter()
        .map(|(label, places)| (label.to_string(), places.iter().map(ToString::to_string).collect()))
        .collect();
    if places != expected {
        let lines: Vec<String> = places.iter().map(|(label, places)| format!("(\"{label}\", &{places:?}),")).collect();
        panic!("{name}:\n{}", lines.join("\n"));
    }
}

#[test]
fn a_store_of_containerd() {
    check(
        "containerd-2.4.2-overlayfs",
        &[
            ("container-args-containerd", &["container/default/c2 data/w2.conf present"]),
            ("container-env-containerd", &["container/default/c1 META/default/containers/c1/spec present"]),
            ("container-label-containerd", &["container/default/c1 META/default/containers/c1/labels/deploy present"]),
            ("container-upper-containerd", &["container/default/c1 data/written.conf present"]),
            (
                "cri-annotation",
                &["container/k8s.io/eec946fd91b8 META/k8s.io/containers/eec946fd91b8/extensions/CRI present"],
            ),
            ("cri-env", &["container/k8s.io/eec946fd91b8 META/k8s.io/containers/eec946fd91b8/extensions/CRI present"]),
            ("cri-log", &["container/k8s.io/86a0fa0fc941 META/k8s.io/containers/86a0fa0fc941/extensions/CRI present"]),
            ("cri-upper", &["container/k8s.io/eec946fd91b8 data/k.conf present"]),
            ("index-amd64-layer", &["image 127.0.0.1:18420/ls/index:1 opt/amd64.conf present"]),
            (
                "ingest-layer-start",
                &["orphan/ingest/91edafecd503 io.containerd.content.v1.content/ingest/91edafecd503/data present"],
            ),
            ("leased-layer", &["orphan/lease/default/hold1 blobs/sha256/70a898878b93 present"]),
            ("single-config-env", &["image 127.0.0.1:18420/ls/single:1 configuration Env[1] present"]),
            (
                "single-config-history",
                &["image 127.0.0.1:18420/ls/single:1 configuration history[2].created_by present"],
            ),
            ("single-layer2-kept", &["image 127.0.0.1:18420/ls/single:1 opt/kept.conf present"]),
            ("single-layer2-whiteout-later", &["image 127.0.0.1:18420/ls/single:1 opt/deleted.conf deleted"]),
            ("zstd-layer", &["image 127.0.0.1:18420/ls/zstd:1 opt/zstd.conf present"]),
        ],
    );
}

#[test]
fn a_store_of_containerd_that_discards_layers() {
    check(
        "containerd-2.4.2-cri-discard-layers",
        &[
            ("single-config-env", &["image 127.0.0.1:18420/ls/single:1 configuration Env[1] present"]),
            (
                "single-config-history",
                &["image 127.0.0.1:18420/ls/single:1 configuration history[2].created_by present"],
            ),
            ("single-layer2-kept", &["image 127.0.0.1:18420/ls/single:1 opt/kept.conf present"]),
            ("single-layer2-whiteout-later", &["image 127.0.0.1:18420/ls/single:1 opt/deleted.conf deleted"]),
        ],
    );
}

#[test]
fn a_store_of_podman() {
    check(
        "podman-4.3.1-overlay",
        &[
            ("container-env-podman", &["image localhost/committed:1 configuration Env[0] present"]),
            (
                "container-upper-podman",
                &[
                    "image localhost/committed:1 data/written.conf present",
                    "image localhost/committed:1 configuration Cmd present",
                    "image localhost/committed:1 configuration Cmd[1] present",
                ],
            ),
            ("index-amd64-layer", &["image 127.0.0.1:18420/ls/index:1 opt/amd64.conf present"]),
            ("podman-log", &["container/c2 libpod/bolt_state.db/ctr/fc16af829b3d/config present"]),
            ("podman-secret", &["orphan/secrets secrets/filedriver/secretsdata.json present"]),
            ("podman-volume", &["volume/vol1 volumes/vol1/_data/v.conf present"]),
            (
                "single-config-env",
                &[
                    "image 127.0.0.1:18420/ls/single:1 configuration Env[1] present",
                    "image localhost/committed:1 configuration Env[4] present",
                ],
            ),
            (
                "single-config-history",
                &[
                    "image 127.0.0.1:18420/ls/single:1 configuration history[2].created_by present",
                    "image localhost/committed:1 configuration history[2].created_by present",
                ],
            ),
            (
                "single-layer2-kept",
                &[
                    "image 127.0.0.1:18420/ls/single:1 opt/kept.conf present",
                    "image localhost/committed:1 opt/kept.conf present",
                ],
            ),
            (
                "single-layer2-whiteout-later",
                &[
                    "image 127.0.0.1:18420/ls/single:1 opt/deleted.conf deleted",
                    "image localhost/committed:1 opt/deleted.conf deleted",
                ],
            ),
            ("zstd-layer", &["image 127.0.0.1:18420/ls/zstd:1 opt/zstd.conf present"]),
        ],
    );
}

#[test]
fn a_store_of_buildah() {
    check(
        "buildah-1.28.2-overlay",
        &[
            ("buildah-config-env", &["container/work1 overlay-containers/2d762f5d8885/userdata/buildah.json present"]),
            ("buildah-working-container", &["container/work1 opt/working.conf present"]),
            (
                "index-amd64-layer",
                &[
                    "image 127.0.0.1:18420/ls/index:1 opt/amd64.conf present",
                    "image localhost/built:1 opt/amd64.conf present",
                ],
            ),
        ],
    );
}

#[test]
fn a_store_of_docker() {
    check(
        "docker-20.10.24-overlay2",
        &[
            ("container-env-docker", &["container/c1 containers/ebaa13a73242/config.v2.json present"]),
            ("container-upper-docker", &["container/c1 data/written.conf present"]),
            ("docker-build-arg", &["image built:1 configuration history[4].created_by present"]),
            ("docker-build-cache-context", &["orphan/overlay2/ndjz1q3sw63vydaunj0n4imxz .env present"]),
            ("docker-log", &["container/c2 containers/74d87c2e1b8c/74d87c2e1b8c-json.log present"]),
            ("docker-volume", &["volume/vol1 volumes/vol1/_data/v.conf present"]),
            (
                "docker2-layer",
                &[
                    "image 127.0.0.1:18420/ls/docker2:1 opt/docker2.conf present",
                    "image built:1 opt/docker2.conf present",
                ],
            ),
            ("index-amd64-layer", &["image 127.0.0.1:18420/ls/index:1 opt/amd64.conf present"]),
            ("single-config-env", &["image 127.0.0.1:18420/ls/single:1 configuration Env[1] present"]),
            (
                "single-config-history",
                &["image 127.0.0.1:18420/ls/single:1 configuration history[2].created_by present"],
            ),
            ("single-layer2-kept", &["image 127.0.0.1:18420/ls/single:1 opt/kept.conf present"]),
            ("single-layer2-whiteout-later", &["image 127.0.0.1:18420/ls/single:1 opt/deleted.conf deleted"]),
        ],
    );
}

#[test]
fn a_store_of_docker_with_the_containerd_image_store() {
    check(
        "docker-moby-2.0.0-beta.24-containerd-store",
        &[
            ("container-env-docker", &["container/c1 containers/0ab6cf731e32/config.v2.json present"]),
            ("container-upper-docker", &["container/c1 data/written.conf present"]),
            (
                "docker-build-arg",
                &[
                    "image docker.io/library/built:1 configuration history[2].created_by present",
                    "image docker.io/library/built:1 configuration history[4].created_by present",
                ],
            ),
            ("docker-build-cache-context", &["orphan/overlayfs/snapshots/16 .env present"]),
            ("docker-log", &["container/c2 containers/f8d362e6bb68/config.v2.json present"]),
            ("docker-volume", &["volume/vol1 volumes/vol1/_data/v.conf present"]),
            (
                "docker2-layer",
                &[
                    "image 127.0.0.1:18420/ls/docker2:1 opt/docker2.conf present",
                    "image docker.io/library/built:1 opt/docker2.conf present",
                ],
            ),
            ("index-amd64-layer", &["image 127.0.0.1:18420/ls/index:1 opt/amd64.conf present"]),
            ("index-attestation-build-arg", &["image 127.0.0.1:18420/ls/index:1 provenance present"]),
            ("single-config-env", &["image 127.0.0.1:18420/ls/single:1 configuration Env[1] present"]),
            (
                "single-config-history",
                &["image 127.0.0.1:18420/ls/single:1 configuration history[2].created_by present"],
            ),
            ("single-layer2-kept", &["image 127.0.0.1:18420/ls/single:1 opt/kept.conf present"]),
            ("single-layer2-whiteout-later", &["image 127.0.0.1:18420/ls/single:1 opt/deleted.conf deleted"]),
            ("zstd-layer", &["image 127.0.0.1:18420/ls/zstd:1 opt/zstd.conf present"]),
        ],
    );
}

#[test]
fn reading_a_store_changes_nothing_of_it() {
    for name in ["containerd-2.4.2-overlayfs", "podman-4.3.1-overlay", "docker-20.10.24-overlay2"] {
        let Some(folder) = unpacked(name) else { return };
        let bytes = bytes_of(folder.path());
        let before = state_of(folder.path());
        reports(&format!("{}:{}", transport(name), text(folder.path())));
        let after = state_of(folder.path());
        let changed: Vec<_> = before.symmetric_difference(&after).collect();
        assert!(changed.is_empty(), "{name}: {changed:#?}");
        assert_eq!(bytes_of(folder.path()), bytes);
    }
}

/// Each store in a mount that nobody can write to gives the same report. The mount is one of the child process alone.
#[test]
fn a_read_only_mount_is_read_in_the_same_way() {
    const READ_ONLY: &str = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && \
                             ! touch \"$0/written\" 2>/dev/null && exec \"$@\"";
    if !Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success()) {
        return say("SKIPPED: mounts need root and unshare");
    }
    for name in STORES {
        let Some(folder) = unpacked(name) else { return };
        let target = format!("{}:{}", transport(name), text(folder.path()));
        let scan = ["scan", "-q", "--all", "--reproducible", "--format", "json", &target];
        let expected = layersift(&scan);
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", READ_ONLY, text(folder.path()), env!("CARGO_BIN_EXE_layersift")]).args(scan);
        let run = finish(&mut command, None);
        assert_eq!((run.code, run.stdout), (expected.code, expected.stdout), "{name}: {}", run.stderr);
        assert!(expected.code < Some(4) && expected.code != Some(2), "{name}: {}", expected.stderr);
    }
}

#[test]
fn devices_and_pipes_are_not_opened() {
    let Some(folder) = unpacked("docker-20.10.24-overlay2") else { return };
    let device = folder.path().join("var/lib/docker/volumes/backingFsBlockDev");
    // A device that no driver has: to open it is an error, which would be a gap.
    let status = Command::new("mknod").arg(&device).args(["b", "250", "250"]).status().unwrap();
    assert!(status.success() && std::fs::metadata(&device).unwrap().file_type().is_block_device());
    let pipe = folder.path().join("var/lib/docker/containers/pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reports = reports(&format!("docker-root:{}", text(folder.path())));
    let gaps: Vec<&Value> = reports.iter().flat_map(|report| report["gaps"].as_array().unwrap()).collect();
    assert!(gaps.is_empty(), "{gaps:?}");
}

#[test]
fn one_image_is_read_by_its_name() {
    let Some(folder) = unpacked("docker-20.10.24-overlay2") else { return };
    let target = format!("docker-root:{}", text(folder.path()));
    let run = layersift(&["scan", &target]).expect(2);
    assert!(run.stderr.contains("it has 127.0.0.1:18420/ls/docker2:1, 127.0.0.1:18420/ls/index:1"), "{run:?}");
    let run = layersift(&["scan", &format!("{target}:nothing:1")]).expect(2);
    assert!(run.stderr.contains("no image named `nothing:1`"), "{run:?}");
    let run = layersift(&["scan", "--all", &format!("{target}:built")]).expect(2);
    assert!(run.stderr.contains("--all reads the store of an engine"), "{run:?}");
    let named = format!("{target}:127.0.0.1:18420/ls/single:1");
    let report = layersift(&["scan", "--format", "json", &named]).expect(1).json();
    assert_eq!(report["image"]["reference"], "127.0.0.1:18420/ls/single:1");
    assert_eq!(report["gaps"].as_array().unwrap().len(), 0, "{}", report["gaps"]);
    let diff_ids: Vec<&str> =
        report["layers"].as_array().unwrap().iter().map(|layer| layer["diff_id"].as_str().unwrap()).collect();
    assert_eq!(diff_ids.len(), 3);
    assert!(diff_ids[1].starts_with("sha256:2f1854382f29"), "the layer is rebuilt byte for byte: {diff_ids:?}");
}

#[test]
fn a_changed_layer_is_a_gap_and_what_was_added_to_it_is_found() {
    let Some(folder) = unpacked("docker-20.10.24-overlay2") else { return };
    let layer = "ba5e1f080e313fc71aee34e752076c203f57e531524ecb2a901a9e05ccd0e9ee";
    let directory = folder.path().join("var/lib/docker/overlay2").join(layer).join("diff/opt");
    std::fs::write(directory.join("added.conf"), "token=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\n").unwrap();
    let target = format!("docker-root:{}", text(folder.path()));
    let all = reports(&target);
    let of_layer = all.iter().find(|report| subject(report) == format!("orphan/overlay2/{layer}")).unwrap();
    assert_eq!(findings(of_layer).len(), 1, "{of_layer}");
    assert_eq!(findings(of_layer)[0]["path"], "opt/added.conf");
    std::fs::remove_file(directory.join("kept.conf")).unwrap();
    let report = layersift(&["scan", "--format", "json", &format!("{target}:127.0.0.1:18420/ls/single:1")]).json();
    let gaps = report["gaps"].as_array().unwrap();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0]["reason"], "diff-id-mismatch");
    assert!(gaps[0]["detail"].as_str().unwrap().contains("opt/kept.conf is missing"), "{gaps:?}");
}

#[test]
fn a_record_that_was_deleted_from_a_database_is_found_as_deleted() {
    let Some(folder) = unpacked("docker-20.10.24-overlay2") else { return };
    // The log of a container is also in free pages of a database. Once the container is gone, nothing else has it.
    std::fs::remove_dir_all(folder.path().join("var/lib/docker/containers")).unwrap();
    let reports = reports(&format!("docker-root:{}", text(folder.path())));
    let places = places("docker-20.10.24-overlay2", &reports);
    let database = "containerd/daemon/io.containerd.metadata.v1.bolt/meta.db";
    assert_eq!(places["docker-log"], [format!("orphan/files {database} deleted")]);
}

#[test]
fn records_of_podman_in_sqlite_belong_to_their_containers() {
    let disk = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = disk.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    };
    write("vfs-layers/layers.json", r#"[{"id":"base"},{"id":"top","parent":"base"}]"#);
    write("vfs-containers/containers.json", r#"[{"id":"abc","names":["web"],"image":"","layer":"top"}]"#);
    write("vfs/dir/base/etc/same.conf", "token=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");
    write("vfs/dir/top/etc/same.conf", "token=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");
    write("vfs/dir/top/etc/new.conf", "token=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");
    let connection = rusqlite::Connection::open(disk.path().join("db.sql")).unwrap();
    connection.pragma_update(None, "journal_mode", "wal").unwrap();
    let token = "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";
    let batch = format!(
        "CREATE TABLE ContainerConfig (ID TEXT PRIMARY KEY, JSON TEXT NOT NULL); \
         INSERT INTO ContainerConfig VALUES ('abc', '{{\"env\":[\"TOKEN={token}\"]}}');"
    );
    connection.execute_batch(&batch).unwrap();
    let before = std::fs::read_dir(disk.path()).unwrap().count();
    let reports = reports(&format!("podman-root:{}", text(disk.path())));
    assert_eq!(std::fs::read_dir(disk.path()).unwrap().count(), before);
    let found = |name: &str| {
        let report = reports.iter().find(|report| subject(report) == name).unwrap_or_else(|| panic!("no {name}"));
        findings(report).iter().map(|finding| finding["path"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(found("container/web"), ["etc/new.conf", "db.sql/ContainerConfig/abc/JSON"]);
    assert_eq!(found("orphan/vfs/dir/base"), ["etc/same.conf"], "what the container did not change is not its own");
}

#[test]
fn links_of_a_store_do_not_lead_out_of_it() {
    let disk = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(outside.path().join("sha256")).unwrap();
    std::fs::create_dir_all(outside.path().join("c1")).unwrap();
    let token = "token=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";
    for name in ["token.conf", "sha256/token.conf", "c1/config.v2.json"] {
        std::fs::write(outside.path().join(name), token).unwrap();
    }
    let root = disk.path().join("var/lib/docker");
    let content = root.join("containerd/daemon/io.containerd.content.v1.content/blobs");
    std::fs::create_dir_all(content.join("sha512")).unwrap();
    std::fs::create_dir_all(root.join("volumes")).unwrap();
    std::fs::write(root.join("engine-id"), "x").unwrap();
    let link = |to: &str, at: PathBuf| std::os::unix::fs::symlink(outside.path().join(to), at).unwrap();
    link("sha256", content.join("sha256"));
    link("token.conf", content.join("sha512").join("0".repeat(128)));
    link("sha256", content.join("sha512").join("1".repeat(128)));
    link("", root.join("containers"));
    link("", root.join("volumes/vol1"));
    link("token.conf", root.join("token.conf"));
    link("", root.join("image"));
    let reports = reports(&format!("docker-root:{}", text(disk.path())));
    assert!(reports.iter().all(|report| findings(report).is_empty()), "{reports:#?}");
}

#[test]
fn a_store_that_podman_wrote_just_now() {
    if let Some(missing) = missing_for_podman() {
        say(&format!("NOT RUN: a store of podman needs {missing}"));
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = podman(work.path()).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let file = |name: &str, bytes: &[u8]| {
        std::fs::write(work.path().join(name), bytes).unwrap();
        text(&work.path().join(name)).to_string()
    };
    let base = Tar::new().file("base.conf", "token=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\n").finish();
    run(&["import", "--quiet", &file("base.tar", &base), "localhost/base:1"]);
    run(&["create", "--name", "c1", "--network", "none", "localhost/base:1", "/x"]);
    let new = file("new.conf", b"token=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\n");
    run(&["cp", &new, "c1:/new.conf"]);
    run(&["commit", "--quiet", "c1", "localhost/app:2"]);
    let later = file("later.conf", b"token=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\n");
    run(&["cp", &later, "c1:/later.conf"]);
    let saved = text(&work.path().join("app.tar")).to_string();
    run(&["save", "--quiet", "-o", &saved, "localhost/app:2"]);

    let root = format!("podman-root:{}", text(&work.path().join("root")));
    let report = |target: &str| layersift(&["scan", "--format", "json", "--reproducible", target]).json();
    let (of_store, of_archive) = (report(&format!("{root}:app:2")), report(&format!("docker-archive:{saved}")));
    assert_eq!(of_store["findings"], of_archive["findings"]);
    assert_eq!(of_store["layers"].as_array().unwrap().len(), 2);
    for (one, other) in of_store["layers"].as_array().unwrap().iter().zip(of_archive["layers"].as_array().unwrap()) {
        for field in ["digest", "diff_id", "created_by", "files", "bytes"] {
            assert_eq!(one[field], other[field], "{field}");
        }
    }
    assert_eq!(of_store["gaps"], of_archive["gaps"]);
    let all = reports(&root);
    let container = all.iter().find(|report| subject(report) == "container/c1").unwrap();
    let paths: Vec<&str> = findings(container).iter().map(|finding| finding["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["later.conf"], "what was committed is reported with the image");
}
