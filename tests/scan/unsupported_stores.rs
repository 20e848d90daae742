//! Stores of engines in forms that are not read, which are named, and roots that are found although they are elsewhere.

use std::path::Path;

use serde_json::Value;

use crate::support::{layersift, text};

/// Writes files below a folder.
fn write_files(folder: &Path, files: &[&str]) {
    for file in files {
        let path = folder.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "nothing").unwrap();
    }
}

/// The details of all gaps of a target.
fn details(target: &str) -> String {
    let run = layersift(&["scan", "-q", "--all", "--format", "json", target]).expect(3);
    let reports = run.json();
    let reports: Vec<Value> = reports["reports"].as_array().cloned().unwrap_or_else(|| vec![reports.clone()]);
    let gaps = reports.iter().flat_map(|report| report["gaps"].as_array().unwrap().clone());
    gaps.map(|gap| format!("{} {}\n", gap["path"].as_str().unwrap_or_default(), gap["detail"])).collect()
}

#[test]
fn what_is_kept_in_another_way_is_a_gap_and_empty_directories_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write_files(
        &at("docker"),
        &[
            "image/btrfs/layerdb/sha256/abc/cache-id",
            "zfs/graph/1",
            "100000.100000/image/overlay2/repositories.json",
            "volumes/one/_data/file",
        ],
    );
    std::fs::create_dir_all(at("docker/devicemapper")).unwrap();
    let gaps = details(&format!("docker-root:{}", text(&at("docker"))));
    for part in ["graph driver btrfs", "graph driver zfs", "docker/100000.100000 as well"] {
        assert!(gaps.contains(part), "{part}: {gaps}");
    }
    assert!(!gaps.contains("devicemapper"), "{gaps}");
    let snapshotters = ["btrfs", "zfs", "stargz", "overlaybd", "nydus", "blockfile"];
    let files = snapshotters.map(|name| format!("io.containerd.snapshotter.v1.{name}/snapshots/1/file"));
    write_files(&at("containerd"), &files.each_ref().map(|file| &file[..]));
    write_files(&at("containerd"), &["io.containerd.content.v1.content/blobs/sha256/x"]);
    std::fs::create_dir_all(at("containerd/io.containerd.snapshotter.v1.devmapper/snapshots")).unwrap();
    let gaps = details(&format!("containerd-root:{}", text(&at("containerd"))));
    for name in snapshotters {
        assert!(gaps.contains(&format!("the snapshotter {name} is not supported")), "{name}: {gaps}");
    }
    assert!(!gaps.contains("devmapper"), "{gaps}");
    write_files(&at("podman"), &["btrfs-layers/layers.json", "libpod/x"]);
    let gaps = details(&format!("podman-root:{}", text(&at("podman"))));
    assert!(gaps.contains("the driver btrfs is not supported"), "{gaps}");
}

#[test]
fn the_root_of_a_daemon_with_userns_remap_is_read() {
    let folder = tempfile::tempdir().unwrap();
    write_files(folder.path(), &["100000.100000/volumes/one/_data/file", "100000.100000/image/overlay2/x"]);
    let target = format!("docker-root:{}", text(folder.path()));
    let run = layersift(&["scan", "-q", "--all", "--format", "json", &target]).expect(0);
    assert!(run.stdout.contains("#volume/one"), "{run:?}");
    write_files(folder.path(), &["200000.200000/volumes/two/_data/file"]);
    let several = layersift(&["scan", "-q", "--all", &target]).expect(2);
    assert!(several.stderr.contains("200000.200000"), "{several:?}");
}
