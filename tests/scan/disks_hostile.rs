//! Stores that cannot be read in part, and stores that somebody edited to hide files: neither looks like a clean store.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::disks::{reports, subject, transport, unpacked};
use crate::support::image::sha256;
use crate::support::tools::{missing, say};
use crate::support::{Run, findings, finish, layersift, text};

/// The user `nobody`.
const NOBODY: &str = "65534";

/// Made-up tokens.
const TOKEN: &str = "token=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\n";

fn write(root: &Path, name: &str, content: impl AsRef<[u8]>) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Runs the program as a user who may not read everything.
fn as_nobody(arguments: &[&str]) -> Run {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]).arg(env!("CARGO_BIN_EXE_layersift"));
    finish(command.args(arguments), None)
}

/// The directories of an engine below `root` that have something, without the files of layers.
fn directories(root: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let entries: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    if entries.is_empty() || depth > 9 {
        return;
    }
    found.push(root.into());
    let is_layers = root.file_name().is_some_and(|name| name == "diff" || name == "fs");
    for entry in entries.iter().filter(|entry| !is_layers && entry.is_dir() && !entry.is_symlink()) {
        directories(entry, depth + 1, found);
    }
}

/// Every directory of a store, made unreadable by itself. `step` leaves some out.
#[track_caller]
fn check_unreadable(name: &str, step: usize) {
    if let Some(missing) = missing("setpriv") {
        return say(&format!("NOT RUN: unreadable directories need {missing}"));
    }
    let Some(folder) = unpacked(name) else { return };
    let owned = Command::new("chown").args(["-hR", &format!("{NOBODY}:{NOBODY}")]).arg(folder.path()).status();
    assert!(owned.unwrap().success());
    let target = format!("{}:{}", transport(name), text(folder.path()));
    let scan = |target: &str| as_nobody(&["scan", "-q", "--all", "--fail-on", "none", target]);
    let mut found = Vec::new();
    directories(folder.path(), 0, &mut found);
    assert!(found.len() > 15, "{name}: {}", found.len());
    for directory in found.into_iter().step_by(step) {
        let mode = fs::metadata(&directory).unwrap().permissions();
        for hidden in [0o000, 0o600] {
            fs::set_permissions(&directory, fs::Permissions::from_mode(hidden)).unwrap();
            let run = scan(&target);
            fs::set_permissions(&directory, mode.clone()).unwrap();
            let place = directory.display();
            assert!(matches!(run.code, Some(2 | 3)), "{place} {hidden:o}: {:?}\n{}", run.code, run.stdout);
        }
    }
}

#[test]
fn a_directory_of_containerd_that_cannot_be_read_is_no_pass() {
    check_unreadable("containerd-2.4.2-cri-discard-layers", 1);
}

#[test]
fn a_directory_of_docker_that_cannot_be_read_is_no_pass() {
    check_unreadable("docker-moby-2.0.0-beta.24-containerd-store", 3);
}

#[test]
fn a_directory_of_podman_that_cannot_be_read_is_no_pass() {
    check_unreadable("podman-4.3.1-overlay", 5);
}

#[test]
fn a_link_in_place_of_a_directory_of_the_engine_is_no_pass() {
    let (disk, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(outside.path(), "vol1/_data/a.conf", TOKEN);
    write(disk.path(), "containers/x/config.v2.json", "{}");
    let target = format!("docker-root:{}", text(disk.path()));
    layersift(&["scan", "-q", "--all", &target]).expect(0);
    std::os::unix::fs::symlink(outside.path(), disk.path().join("volumes")).unwrap();
    let run = layersift(&["scan", "-q", "--all", &target]).expect(3);
    assert!(run.stdout.contains("symbolic link"), "{}", run.stdout);
}

#[test]
fn files_beside_those_of_a_layer_are_read() {
    let disk = tempfile::tempdir().unwrap();
    write(disk.path(), "overlay2/abc/diff/etc/os", "x");
    write(disk.path(), "overlay2/abc/work/work/#1", TOKEN);
    write(disk.path(), "containers/x/config.v2.json", "{}");
    let reports = reports(&format!("docker-root:{}", text(disk.path())));
    assert_eq!(found(&reports), ["orphan/files overlay2/abc/work/work/#1"]);
}

/// What was found where: the subject of each report and the path.
fn found(reports: &[Value]) -> Vec<String> {
    let of = |report: &Value| -> Vec<String> {
        let paths = findings(report).iter().map(|finding| finding["path"].as_str().unwrap_or("?").to_string());
        paths.map(|path| format!("{} {path}", subject(report))).collect()
    };
    reports.iter().flat_map(of).collect()
}

/// The details of the gaps of all reports.
fn gaps(reports: &[Value]) -> Vec<String> {
    let gaps = reports.iter().flat_map(|report| report["gaps"].as_array().unwrap());
    gaps.map(|gap| format!("{} {}", gap["path"].as_str().unwrap_or("?"), gap["detail"].as_str().unwrap())).collect()
}

/// A store of podman with a base and a container above it, and these records of layers.
fn podman(layers: &str) -> tempfile::TempDir {
    let disk = tempfile::tempdir().unwrap();
    write(disk.path(), "vfs-layers/layers.json", layers);
    write(disk.path(), "vfs-containers/containers.json", r#"[{"id":"abc","names":["web"],"image":"","layer":"top"}]"#);
    write(disk.path(), "vfs/dir/base/etc/same.conf", "x");
    write(disk.path(), "vfs/dir/top/etc/same.conf", "x");
    write(disk.path(), "vfs/dir/top/etc/new.conf", TOKEN);
    disk
}

#[test]
fn layers_of_podman_whose_bases_lead_back_are_read_whole() {
    for layers in [
        r#"[{"id":"base"},{"id":"top","parent":"top"}]"#,
        r#"[{"id":"base","parent":"top"},{"id":"top","parent":"base"}]"#,
        r#"[{"id":"base"},{"id":"top","parent":"./top"}]"#,
        r#"[{"id":"base"},{"id":"top","parent":"top/"}]"#,
        r#"[{"id":"base"},{"id":"./top","parent":""},{"id":"top","parent":"./top"}]"#,
        r#"[{"id":"base"},{"id":"top","parent":"x"},{"id":"x","parent":"y"},{"id":"y","parent":"x"}]"#,
    ] {
        let disk = podman(layers);
        fs::create_dir_all(disk.path().join("vfs/dir/x")).unwrap();
        let reports = reports(&format!("podman-root:{}", text(disk.path())));
        assert_eq!(found(&reports), ["container/web etc/new.conf"], "{layers}");
        assert!(gaps(&reports).iter().any(|gap| gap.contains("vfs/dir/top") && gap.contains("copy")), "{layers}");
    }
    let disk = podman(r#"[{"id":"base"},{"id":"top","parent":"base"}]"#);
    let reports = reports(&format!("podman-root:{}", text(disk.path())));
    assert_eq!((found(&reports).len(), gaps(&reports).len()), (1, 0));
}

#[test]
fn layers_of_docker_whose_bases_lead_back_are_read_whole() {
    let chain = |number: u8| format!("{number:064x}");
    let parent = |number: u8| format!("sha256:{number:064x}");
    // A layer that is its own parent, two that are each other's, and one cache-id in two chains.
    for records in
        [&[(1, "top", 1)][..], &[(1, "top", 2), (2, "base", 1)], &[(1, "top", 2), (2, "top", 3), (3, "base", 0)]]
    {
        let disk = tempfile::tempdir().unwrap();
        for (number, cache_id, below) in records {
            let base = format!("image/vfs/layerdb/sha256/{}", chain(*number));
            write(disk.path(), &format!("{base}/cache-id"), cache_id);
            if *below > 0 {
                write(disk.path(), &format!("{base}/parent"), parent(*below));
            }
        }
        write(disk.path(), "vfs/dir/base/etc/same.conf", "x");
        write(disk.path(), "vfs/dir/top/etc/new.conf", TOKEN);
        let reports = reports(&format!("docker-root:{}", text(disk.path())));
        assert_eq!(found(&reports), ["orphan/vfs/dir/top etc/new.conf"], "{records:?}");
        assert!(gaps(&reports).iter().any(|gap| gap.contains("vfs/dir/top")), "{records:?}: {:?}", gaps(&reports));
    }
}

#[test]
fn a_container_of_docker_whose_layer_is_its_own_base_is_read_whole() {
    let disk = tempfile::tempdir().unwrap();
    let mounts = "image/vfs/layerdb/mounts/abc";
    write(disk.path(), "containers/abc/config.v2.json", r#"{"Name":"/web","Driver":"vfs"}"#);
    write(disk.path(), &format!("{mounts}/init-id"), "init");
    write(disk.path(), &format!("{mounts}/mount-id"), "top");
    write(disk.path(), "image/vfs/layerdb/mounts/def/init-id", "top");
    write(disk.path(), "image/vfs/layerdb/mounts/def/mount-id", "init");
    write(disk.path(), "vfs/dir/init/etc/new.conf", TOKEN);
    write(disk.path(), "vfs/dir/top/etc/new.conf", TOKEN);
    let reports = reports(&format!("docker-root:{}", text(disk.path())));
    assert_eq!(found(&reports), ["container/web etc/new.conf"; 1]);
    assert!(gaps(&reports).iter().any(|gap| gap.contains("vfs/dir/top")));
}

#[test]
fn a_record_that_calls_a_layer_as_another_one_does_not_hide_it() {
    let disk = tempfile::tempdir().unwrap();
    write(disk.path(), "containerd/daemon/io.containerd.snapshotter.v1.overlayfs/snapshots/5/fs/a.conf", TOKEN);
    write(disk.path(), &format!("image/overlayfs/layerdb/sha256/{:064x}/cache-id", 1), "snapshots/5");
    write(disk.path(), "overlayfs/snapshots/5/diff/etc/os", "x");
    let reports = reports(&format!("docker-root:{}", text(disk.path())));
    assert_eq!(found(&reports), ["orphan/overlayfs/snapshots/5 a.conf"]);
}

#[test]
fn many_containers_of_one_name_are_all_reported() {
    let disk = tempfile::tempdir().unwrap();
    for number in 0..3_000 {
        let config = if number == 2_000 {
            format!(r#"{{"Name":"/web","x":"{}"}}"#, TOKEN.trim())
        } else {
            r#"{"Name":"/web"}"#.into()
        };
        write(disk.path(), &format!("containers/{number:04}/config.v2.json"), config);
    }
    let reports = reports(&format!("docker-root:{}", text(disk.path())));
    assert_eq!(found(&reports), ["container/web-2001 containers/2000/config.v2.json"]);
}

/// A database of podman that these statements make.
fn podman_database(statements: &str) -> tempfile::TempDir {
    let disk = podman("[]");
    rusqlite::Connection::open(disk.path().join("db.sql")).unwrap().execute_batch(statements).unwrap();
    disk
}

#[test]
fn a_small_database_takes_little_memory() {
    let computed = podman_database(
        "CREATE TABLE ContainerConfig (ID TEXT, JSON TEXT GENERATED ALWAYS AS (hex(zeroblob(300000000))) VIRTUAL); \
         INSERT INTO ContainerConfig (ID) VALUES ('abc');",
    );
    let repeated = podman_database(&format!(
        "CREATE TABLE ContainerConfig (ID TEXT); \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) \
         INSERT INTO ContainerConfig SELECT 'abc' FROM n; \
         ALTER TABLE ContainerConfig ADD COLUMN d TEXT DEFAULT '{}';",
        "x".repeat(30_000)
    ));
    for disk in [computed, repeated] {
        let target = format!("podman-root:{}", text(disk.path()));
        let run = layersift(&["scan", "-q", "--all", "--fail-on", "none", &target]);
        assert!(matches!(run.code, Some(0 | 3)), "{run:?}");
        assert!(run.peak_kib < 600 << 10, "{} KiB", run.peak_kib);
    }
}

#[test]
fn rows_of_one_name_and_a_sparse_database_are_read_in_time() {
    let rows = "CREATE TABLE ContainerConfig (ID TEXT, JSON TEXT); \
                WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) \
                INSERT INTO ContainerConfig SELECT 'abc', 'x' || i FROM n;";
    let disk = podman_database(rows);
    let target = format!("podman-root:{}", text(disk.path()));
    layersift(&["scan", "-q", "--all", "--fail-on", "none", &target]).expect(0);
}

/// A store of Docker whose records of chains all name one layer.
fn one_layer_of_many_chains(chains: u32) -> tempfile::TempDir {
    let disk = tempfile::tempdir().unwrap();
    write(disk.path(), "overlay2/x/diff/a.conf", TOKEN);
    for number in 0..chains {
        write(disk.path(), &format!("image/overlay2/layerdb/sha256/{number:064x}/cache-id"), "x");
    }
    disk
}

#[test]
fn a_directory_that_many_records_name_is_read_once() {
    let disk = one_layer_of_many_chains(500);
    let reports = reports(&format!("docker-root:{}", text(disk.path())));
    assert_eq!(found(&reports), ["orphan/overlay2/x a.conf"]);
    let of_layer: Vec<&Value> = reports.iter().filter(|report| subject(report).contains("overlay2")).collect();
    assert_eq!(of_layer.len(), 1);
    assert!(
        of_layer[0]["image"]["notes"].to_string().contains("499 more records name the same directory"),
        "{of_layer:?}"
    );
}

#[test]
fn containers_that_share_a_layer_and_records_that_share_an_image_are_read_once() {
    let disk = podman(r#"[{"id":"base"},{"id":"top","parent":"base"}]"#);
    let containers: Vec<String> =
        (0..300).map(|number| format!(r#"{{"id":"c{number}","names":["web{number}"],"layer":"top"}}"#)).collect();
    write(disk.path(), "vfs-containers/containers.json", format!("[{}]", containers.join(",")));
    let digest = format!("sha256:{}", "a".repeat(64));
    let images: Vec<String> =
        (0..300).map(|number| format!(r#"{{"id":"i","digest":"{digest}","names":["n{number}"]}}"#)).collect();
    write(disk.path(), "vfs-images/images.json", format!("[{}]", images.join(",")));
    let reports = reports(&format!("podman-root:{}", text(disk.path())));
    assert_eq!(found(&reports), ["container/web0 etc/new.conf"]);
    let with_note =
        reports.iter().filter(|report| report["image"]["notes"].to_string().contains("of the container web0"));
    assert_eq!(with_note.count(), 299);
    assert_eq!(reports.iter().filter(|report| subject(report) == "image n0").count(), 1);
    assert_eq!(reports.iter().filter(|report| subject(report).starts_with("image")).count(), 1);
}

/// A store of Docker with a token in every name that only records and directories have.
fn names_with(token: &str) -> tempfile::TempDir {
    let disk = tempfile::tempdir().unwrap();
    let config = r#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let id = sha256(config.as_bytes());
    write(disk.path(), &format!("image/overlay2/imagedb/content/sha256/{id}"), config);
    let names = format!(r#"{{"Repositories":{{"x":{{"x:{token}":"sha256:{id}"}}}}}}"#);
    write(disk.path(), "image/overlay2/repositories.json", names);
    write(disk.path(), "image/overlay2/layerdb/sha256/1/cache-id", token);
    write(disk.path(), "image/overlay2/layerdb/sha256/2/cache-id", format!("{token}/x"));
    write(disk.path(), &format!("image/new.{token}/layerdb/sha256/1/cache-id"), "x");
    write(disk.path(), &format!("overlay2/{token}/diff/a.conf"), TOKEN);
    write(disk.path(), &format!("overlay2/leftover.{token}/diff/a.conf"), TOKEN);
    write(disk.path(), &format!("volumes/v.{token}/a.conf"), TOKEN);
    let container = format!(
        r#"{{"Name":"/c.{token}","Config":{{"Image":"i.{token}"}},
            "MountPoints":{{"/x":{{"Name":"v.{token}","Destination":"/d.{token}"}}}}}}"#
    );
    write(disk.path(), "containers/abc/config.v2.json", container);
    write(disk.path(), &format!("containers/{token}/config.v2.json"), "{");
    disk
}

#[test]
fn a_token_in_the_names_of_a_store_is_masked_in_every_output() {
    let token = ["glpat-", "Zk7Qm2Xr9Tb4Wn6Ve001"].concat();
    let disk = names_with(&token);
    let target = format!("docker-root:{}", text(disk.path()));
    for format in ["text", "json", "html", "sarif", "cyclonedx", "markdown", "junit", "gitlab", "timesketch"] {
        let run = layersift(&["scan", "--all", "--format", format, &target]);
        assert!(matches!(run.code, Some(1 | 3)), "{format}: {run:?}");
        for output in [&run.stdout, &run.stderr] {
            let place = output.find(&token[6..]).map(|at| output[at.saturating_sub(100)..].chars().take(130));
            assert_eq!(place.map(Iterator::collect::<String>), None, "{format}");
        }
    }
    // What a rule finds in a name is a finding, and the names stay apart and can be told from each other.
    let reports = reports(&target);
    let mut subjects: Vec<String> = reports.iter().map(subject).collect();
    subjects.retain(|subject| subject.contains("****"));
    assert!(subjects.len() > 4, "{subjects:?}");
    assert!(subjects.iter().any(|subject| subject.starts_with("volume/v.glpa****")), "{subjects:?}");
    assert!(subjects.iter().any(|subject| subject.starts_with("container/c.glpa****")), "{subjects:?}");
    assert!(subjects.iter().any(|subject| subject.starts_with("orphan/overlay2/leftover.glpa****")), "{subjects:?}");
    assert!(subjects.iter().any(|subject| subject.starts_with("image x:glpa****")), "{subjects:?}");
    let all = serde_json::to_string(&reports).unwrap();
    assert!(all.contains("gitlab"), "a finding in a path");
}

#[test]
fn an_image_whose_name_has_a_token_is_found_by_its_name() {
    let token = ["glpat-", "Zk7Qm2Xr9Tb4Wn6Ve001"].concat();
    let disk = names_with(&token);
    let directory = text(disk.path());
    let target = format!("docker-root:{directory}:x:{token}");
    let run = layersift(&["scan", "--format", "json", "--fail-on", "none", &target]);
    assert_eq!(run.json()["image"]["reference"], "x:glpa****01", "{run:?}");
    // A message that lists the names that there are shows none of them whole.
    let run = layersift(&["scan", &format!("docker-root:{directory}:y")]).expect(2);
    assert!(run.stderr.contains("it has x:glpa****01"), "{}", run.stderr);
}
