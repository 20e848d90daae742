//! Hostile and broken targets: what is no image, and images whose documents lie. Each ends with an error that names
//! what and where, or with a verdict that is not "pass"; never with a panic, and never without an answer.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::image::{
    Files, INDEX, Layer, MANIFEST, archive, blob_path, bytes, config, descriptor, digest, docker_save, index, manifest,
    oci, oci_with, sha256, write_directory,
};
use crate::support::tar::{Tar, gzip, zstd};
use crate::support::{Run, gap_reasons, layersift, layersift_with_input, text};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder that goes away with the test.
fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn layer() -> Layer {
    Layer::plain(Tar::new().directory("etc").file("etc/motd", "nothing to see\n".repeat(200)).finish())
}

fn write(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn scan(target: &str) -> Run {
    layersift(&["scan", "--format", "json", target])
}

/// Panics unless the target is refused with an error that has all of `words`.
#[track_caller]
fn refused(run: Run, words: &[&str]) {
    let run = run.expect(2);
    assert_eq!(run.stdout, "", "an error gives no report");
    assert!(words.iter().all(|word| run.stderr.contains(word)), "{words:?} are not in: {}", run.stderr);
}

/// Panics unless the verdict is "incomplete" for `reason`.
#[track_caller]
fn incomplete(run: Run, reason: &str) -> Value {
    let report = run.expect(3).json();
    assert_eq!(report["verdict"], "incomplete");
    assert!(gap_reasons(&report).contains(&reason), "{reason} is not among {}", report["gaps"]);
    report
}

/// An OCI layout in a folder of its own.
fn layout(files: &Files) -> TempDir {
    let folder = folder();
    write_directory(folder.path(), files);
    folder
}

fn scan_layout(files: &Files) -> Run {
    scan(text(layout(files).path()))
}

#[test]
fn what_the_other_tests_break_is_well_when_it_is_whole() {
    for files in [oci(&[layer()]), docker_save(&[layer()])] {
        let folder = folder();
        let report = scan(text(&write(&folder, "image.tar", &archive(&files)))).expect(0).json();
        assert_eq!(report["verdict"], "pass");
        layersift_with_input(&["scan", "-"], archive(&files)).expect(0);
    }
    scan_layout(&oci(&[layer()])).expect(0);
}

#[test]
fn a_file_that_is_no_image() {
    let folder = folder();
    let png = [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", &[7; 4000][..]].concat();
    let cases: [(&str, &[u8]); 7] = [
        ("picture.png", &png),
        ("empty", b""),
        ("notes.txt", b"hello\n"),
        ("long.txt", &b"a line of text that goes on\n".repeat(100)),
        ("manifest.json", br#"[{"Config":"a","Layers":[]}]"#),
        ("zeros", &[0; 10_240]),
        ("archive.tar", &Tar::new().finish()),
    ];
    for (name, content) in cases {
        let path = write(&folder, name, content);
        refused(scan(text(&path)), &[name, "expected a `docker save` tar"]);
        refused(layersift_with_input(&["scan", "-"], content.to_vec()), &["standard input"]);
        for transport in ["docker-archive", "oci-archive"] {
            refused(scan(&format!("{transport}:{}", text(&path))), &[]);
        }
        for compressed in [gzip(content), zstd(content)] {
            let path = write(&folder, &format!("{name}.compressed"), &compressed);
            refused(scan(text(&path)), &[&format!("{name}.compressed")]);
        }
    }
    refused(scan(text(&folder.path().join("missing.tar"))), &["missing.tar", "No such file"]);
    let bzip2 = write(&folder, "image.tar.bz2", b"BZh91AY&SY and so on");
    refused(scan(text(&bzip2)), &["image.tar.bz2", "bzip2"]);
}

#[test]
fn a_directory_that_is_no_image() {
    let nothing = folder();
    refused(scan(text(nothing.path())), &[text(nothing.path())]);
    for transport in ["oci", "dir"] {
        refused(scan(&format!("{transport}:{}", text(nothing.path()))), &[]);
    }
    // What plainly was an image is not taken for a root file system, in which compressed layers are just files.
    for lost in ["index.json", "oci-layout"] {
        let compressed = Layer::stored(&layer().blob, gzip(&layer().blob), "+gzip");
        let mut files = oci(&[compressed]);
        files.remove(lost);
        let run = scan_layout(&files);
        assert!(lost != "index.json" || run.code != Some(0), "a layout without index.json passes: {}", run.stdout);
    }
}

#[test]
fn an_image_archive_that_breaks_off() {
    // The listing comes last of what is needed; `oci-layout` behind it is not.
    for (files, behind) in [(oci(&[layer()]), 1024), (docker_save(&[layer()]), 0)] {
        let whole = archive(&files);
        let listing = files.get("index.json").or(files.get("manifest.json")).unwrap();
        let last = whole.len() - 1024 - behind - listing.len().next_multiple_of(512);
        for cut in [1, 100, 511, 512, 513, 1000, 1024, 2048, whole.len() / 3, whole.len() / 2, last, last + 1] {
            let folder = folder();
            let path = write(&folder, "cut.tar", &whole[..cut]);
            let runs = [
                scan(text(&path)),
                layersift_with_input(&["scan", "-"], whole[..cut].to_vec()),
                layersift_with_input(&["scan", "-"], gzip(&whole[..cut])),
            ];
            for run in runs {
                assert!(matches!(run.code, Some(2 | 3)), "cut at {cut} of {}: {run:?}", whole.len());
                assert!(!run.stderr.contains("panicked"), "{run:?}");
            }
        }
    }
}

#[test]
fn a_compressed_image_archive_that_breaks_off() {
    let whole = archive(&docker_save(&[layer()]));
    for compressed in [gzip(&whole), zstd(&whole)] {
        for cut in [5, 11, 30, compressed.len() / 2, compressed.len() - 1] {
            let folder = folder();
            let path = write(&folder, "cut.tar.compressed", &compressed[..cut]);
            refused(scan(text(&path)), &["cut.tar.compressed"]);
            refused(layersift_with_input(&["scan", "-"], compressed[..cut].to_vec()), &["standard input"]);
        }
    }
}

#[test]
fn a_blob_that_is_not_what_its_digest_says() {
    let files = oci(&[layer()]);
    for blob in [bytes(&config(&[layer()])), layer().blob] {
        let mut tampered = files.clone();
        let changed = String::from_utf8(blob.clone()).unwrap().replace("nothing to see", "nothing to SEE");
        let changed = changed.replace("\"linux\"", "\"linuX\"");
        assert_ne!(changed.as_bytes(), blob);
        tampered.insert(blob_path(&blob), changed.into_bytes());
        incomplete(scan_layout(&tampered), "digest-mismatch");
        let run = layersift_with_input(&["scan", "--format", "json", "-"], archive(&tampered));
        incomplete(run, "digest-mismatch");
    }
    let manifest = bytes(&manifest(&bytes(&config(&[layer()])), &[layer()]));
    let mut tampered = files.clone();
    tampered.insert(blob_path(&manifest), [&manifest[..], b"\n"].concat());
    incomplete(scan_layout(&tampered), "digest-mismatch");
}

#[test]
fn a_layer_that_is_not_what_the_configuration_says() {
    let lying = Layer { diff_id: digest(b"another layer"), ..layer() };
    for files in [oci(std::slice::from_ref(&lying)), docker_save(&[lying])] {
        let folder = folder();
        let path = write(&folder, "image.tar", &archive(&files));
        let report = incomplete(scan(text(&path)), "diff-id-mismatch");
        assert_eq!(report["gaps"][0]["layer"], 0);
        assert!(report["gaps"][0]["detail"].as_str().unwrap().contains(&digest(b"another layer")));
    }
    // One diff_id for two layers.
    let config = bytes(&config(&[layer()]));
    let two = [layer(), Layer::plain(Tar::new().file("b", "b").finish())];
    let files = oci_with(&bytes(&manifest(&config, &two)), &config, &two);
    incomplete(scan_layout(&files), "diff-id-mismatch");
}

/// The files of a layout whose manifest was changed by `change`.
fn with_manifest(change: impl Fn(&mut Value)) -> Files {
    let config = bytes(&config(&[layer()]));
    let mut manifest = manifest(&config, &[layer()]);
    change(&mut manifest);
    oci_with(&bytes(&manifest), &config, &[layer()])
}

#[test]
fn a_manifest_that_lies() {
    incomplete(scan_layout(&with_manifest(|manifest| manifest["layers"][0]["size"] = json!(1))), "digest-mismatch");
    let missing = |manifest: &mut Value| manifest["layers"][0]["digest"] = json!(digest(b"nowhere"));
    let report = incomplete(scan_layout(&with_manifest(missing)), "missing-blob");
    assert!(report["gaps"].to_string().contains(&sha256(b"nowhere")));
    let elsewhere = |manifest: &mut Value| {
        missing(manifest);
        manifest["layers"][0]["urls"] = json!(["https://cdn.example.com/layer?token=hunter2"]);
        manifest["layers"][0]["mediaType"] = json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    };
    incomplete(scan_layout(&with_manifest(elsewhere)), "foreign-layer");
    let no_config = |manifest: &mut Value| manifest["config"]["digest"] = json!(digest(b"nowhere"));
    incomplete(scan_layout(&with_manifest(no_config)), "missing-blob");
    let lies: [fn(&mut Value); 6] = [
        |manifest| manifest["layers"] = json!("none"),
        |manifest| manifest["layers"][0]["digest"] = json!("sha256:../../../../etc/passwd"),
        |manifest| manifest["layers"][0]["digest"] = json!("md5:d41d8cd98f00b204e9800998ecf8427e"),
        |manifest| manifest["layers"][0]["size"] = json!(-1),
        |manifest| manifest["layers"][0]["size"] = json!(1e300),
        |manifest| drop(manifest.as_object_mut().unwrap().remove("config")),
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let files = with_manifest(lie);
        let named = files.keys().filter_map(|name| name.strip_prefix("blobs/sha256/")).map(String::from);
        let run = scan_layout(&files).expect(2);
        assert!(named.into_iter().any(|hex| run.stderr.contains(&hex)), "lie {number}: {}", run.stderr);
    }
}

#[test]
fn documents_that_are_none() {
    let deep = [vec![b'['; 200_000], vec![b']'; 200_000]].concat();
    let broken: [&[u8]; 8] =
        [b"", b"{", b"null", b"[]", b"\"text\"", b"\xff\xfe\0\0", b"{\"config\":{\"Env\":3}}", &deep];
    for content in broken {
        let config = bytes(&config(&[layer()]));
        let manifest = bytes(&manifest(content, &[layer()]));
        let name = sha256(content);
        refused(scan_layout(&oci_with(&manifest, content, &[layer()])), &[&name]);
        let files = oci_with(content, &config, &[layer()]);
        let run = scan_layout(&files);
        assert!(matches!(run.code, Some(2 | 3)), "{run:?}");
        for listing in ["index.json", "manifest.json"] {
            let mut files = if listing == "index.json" { oci(&[layer()]) } else { docker_save(&[layer()]) };
            files.insert(listing.into(), content.to_vec());
            let folder = folder();
            let path = write(&folder, "image.tar", &archive(&files));
            refused(scan(text(&path)), &[listing]);
            refused(layersift_with_input(&["scan", "-"], archive(&files)), &[listing]);
        }
    }
}

#[test]
fn a_document_that_is_too_large() {
    let mut files = docker_save(&[layer()]);
    let list = files["manifest.json"].clone();
    files.insert("manifest.json".into(), [&list[..], &vec![b' '; 9 << 20]].concat());
    let folder = folder();
    let path = write(&folder, "image.tar", &archive(&files));
    refused(scan(text(&path)), &["manifest.json"]);
    refused(layersift_with_input(&["scan", "-"], archive(&files)), &["manifest.json"]);
}

#[test]
fn a_configuration_with_too_many_values() {
    let layers = [layer()];
    let mut config = config(&layers);
    let secret = "glpat-Zk7Qm2Xr9Tb4Wn6Ve042";
    for (labels, is_read) in [(40_000, true), (60_000, false)] {
        let labels = (0..labels).map(|number| (format!("label{number}"), json!("b")));
        let mut labels: serde_json::Map<String, Value> = labels.collect();
        labels.insert("token".into(), json!(secret));
        config["config"]["Labels"] = json!(labels);
        let config = bytes(&config);
        for media_type in [None, Some("application/vnd.example.config+json")] {
            let mut manifest = manifest(&config, &layers);
            if let Some(media_type) = media_type {
                manifest["config"]["mediaType"] = json!(media_type);
            }
            let report = scan_layout(&oci_with(&bytes(&manifest), &config, &layers)).expect(1).json();
            assert_eq!(gap_reasons(&report), if is_read { vec![] } else { vec!["document-too-large"] });
            assert_ne!(report["layers"][0]["is_read"], json!(false), "{}", report["layers"]);
            assert_eq!(report["findings"].as_array().unwrap().len(), 1, "{}", report["findings"]);
            let location = &report["findings"][0];
            let place = if is_read { &location["config"] } else { &location["document"]["kind"] };
            assert_eq!(place, if is_read { "Labels.token" } else { "configuration" }, "{location}");
        }
    }
}

#[test]
fn links_that_lead_in_circles_or_nowhere() {
    let files = docker_save(&[layer()]);
    let (config, blob) = (blob_path(&bytes(&config(&[layer()]))), blob_path(&layer().blob));
    let linked = |name: &str, target: &str| {
        let rest = files.iter().filter(|(other, _)| *other != name);
        let tar = rest.fold(Tar::new(), |tar, (name, bytes)| tar.file(name, bytes));
        tar.symlink(name, target).symlink("blobs/sha256/circle", name.rsplit('/').next().unwrap()).finish()
    };
    for (name, target) in
        [(&config, "circle"), (&blob, "circle"), (&blob, "nowhere"), (&blob, "../../../../etc/passwd")]
    {
        let folder = folder();
        let image = linked(name, target);
        let path = write(&folder, "image.tar", &image);
        for run in [scan(text(&path)), layersift_with_input(&["scan", "--format", "json", "-"], image)] {
            assert!(matches!(run.code, Some(2 | 3)), "{name} -> {target}: {run:?}");
            let said = format!("{}{}", run.stdout, run.stderr);
            assert!(said.contains(name.as_str()), "{name} -> {target}: {said}");
        }
    }
}

#[test]
fn indexes_that_never_end() {
    // An index can only name itself when its digest lies.
    let name = digest(b"itself");
    let own = json!({ "mediaType": INDEX, "digest": name, "size": 10 });
    let mut files = oci(&[layer()]);
    files.insert(format!("blobs/sha256/{}", sha256(b"itself")), bytes(&index(std::slice::from_ref(&own))));
    files.insert("index.json".into(), bytes(&index(std::slice::from_ref(&own))));
    for platform in ["linux/amd64", "all"] {
        let folder = layout(&files);
        let run = layersift(&["scan", "--platform", platform, text(folder.path())]);
        assert!(matches!(run.code, Some(2 | 3)), "{run:?}");
    }
    // The image that is deep below indexes, each of which has its right digest.
    let mut files = oci(&[layer()]);
    let config = bytes(&config(&[layer()]));
    let mut inner = descriptor(MANIFEST, &bytes(&manifest(&config, &[layer()])));
    for _ in 0..50 {
        let outer = bytes(&index(&[inner]));
        inner = descriptor(INDEX, &outer);
        files.insert(blob_path(&outer), outer);
    }
    files.insert("index.json".into(), bytes(&index(&[inner])));
    refused(scan_layout(&files), &["nested too deep"]);
    // More manifests than anyone has.
    let many: Vec<Value> = (0..5000).map(|n| descriptor(MANIFEST, format!("{n}").as_bytes())).collect();
    files.insert("index.json".into(), bytes(&index(&many)));
    refused(scan_layout(&files), &["index.json", "5000 manifests"]);
}

#[test]
fn what_a_tampered_index_hides_is_not_passed_over() {
    // The good image, and an index that was emptied after its digest was taken.
    let mut files = oci(&[layer()]);
    let good = serde_json::from_slice::<Value>(&files["index.json"]).unwrap()["manifests"][0].clone();
    let emptied = descriptor(INDEX, b"the index as it was");
    files.insert(format!("blobs/sha256/{}", sha256(b"the index as it was")), bytes(&index(&[])));
    files.insert("index.json".into(), bytes(&index(&[good, emptied])));
    for platform in ["linux/amd64", "all"] {
        let folder = layout(&files);
        let run = layersift(&["scan", "--platform", platform, text(folder.path())]);
        assert!(matches!(run.code, Some(2 | 3)), "--platform {platform}: {run:?}");
    }
}

#[test]
fn an_image_that_poses_as_an_attestation() {
    // A runtime chooses by platform and does not care for this annotation.
    let manifest = bytes(&manifest(&bytes(&config(&[layer()])), &[layer()]));
    let mut posing = descriptor(MANIFEST, &manifest);
    posing["platform"] = json!({ "os": "linux", "architecture": "amd64" });
    posing["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest" });
    let mut files = oci(&[layer()]);
    files.insert("index.json".into(), bytes(&index(&[posing.clone()])));
    let inner = bytes(&index(&[posing]));
    files.insert(blob_path(&inner), inner.clone());
    files.insert("index.json".into(), bytes(&index(&[descriptor(INDEX, &inner)])));
    let folder = layout(&files);
    let report = layersift(&["scan", "--format", "json", "--platform", "all", text(folder.path())]).json();
    assert_eq!(report["layers"].as_array().map(Vec::len), Some(1), "the image was not scanned: {report}");
}

#[test]
fn an_archive_with_two_listings_that_disagree() {
    // `docker load` reads manifest.json or index.json, depending on its image store.
    let secret = Layer::plain(Tar::new().file("env", "TOKEN=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\n").finish());
    let (clean, leaking) = (oci(&[layer()]), docker_save(&[secret]));
    let files: Files = clean.into_iter().chain(leaking).collect();
    let folder = folder();
    let path = write(&folder, "image.tar", &archive(&files));
    assert_ne!(scan(text(&path)).code, Some(0), "the image that manifest.json lists was passed over");
    assert_ne!(layersift_with_input(&["scan", "-"], archive(&files)).code, Some(0));
}

#[test]
fn what_is_no_regular_file_in_an_image_directory() {
    for name in ["index.json", "blob"] {
        let folder = layout(&oci(&[layer()]));
        let blob = folder.path().join(blob_path(&layer().blob));
        let path = if name == "blob" { blob } else { folder.path().join(name) };
        std::fs::remove_file(&path).unwrap();
        make_fifo(&path);
        let run = scan(text(folder.path()));
        assert!(matches!(run.code, Some(2 | 3)), "{name}: {run:?}");
    }
    let folder = layout(&oci(&[layer()]));
    let blob = folder.path().join(blob_path(&layer().blob));
    std::fs::remove_file(&blob).unwrap();
    std::fs::create_dir(&blob).unwrap();
    let report = incomplete(scan(text(folder.path())), "unreadable");
    assert!(report["gaps"].to_string().contains(&sha256(&layer().blob)));
}

fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn devices_without_an_end_are_not_read() {
    for device in ["/dev/zero", "/dev/full", "/dev/random", "docker-archive:/dev/zero", "rootfs:/dev/zero"] {
        refused(scan(device), &["/dev/", "a character device, which has no end"]);
    }
    refused(layersift(&["diff", "/dev/zero", "/dev/zero"]), &["/dev/zero", "neither a regular file nor a directory"]);
    refused(layersift(&["rules", "test", "/dev/zero"]), &["/dev/zero", "it is a character device, which has no end"]);
    refused(scan("/dev/null"), &["/dev/null", "not a tar archive"]);
    let zeros = Command::new(env!("CARGO_BIN_EXE_layersift"))
        .args(["scan", "-"])
        .stdin(std::fs::File::open("/dev/zero").unwrap())
        .output()
        .unwrap();
    assert_eq!(zeros.status.code(), Some(2));
    let error = String::from_utf8_lossy(&zeros.stderr).into_owned();
    assert!(error.contains("standard input: a character device, which has no end"), "{error}");
    // A pipe has an end, whatever it is called.
    for name in ["-", "/dev/stdin", "/dev/fd/0"] {
        layersift_with_input(&["scan", name], archive(&docker_save(&[layer()]))).expect(0);
    }
}

#[test]
fn a_sparse_file_without_data_is_not_read() {
    let folder = folder();
    let path = write(&folder, "hole.tar", b"");
    std::fs::File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
    for transport in ["", "rootfs:", "docker-archive:", "oci-archive:"] {
        refused(scan(&format!("{transport}{}", text(&path))), &["hole.tar", "a sparse file without data"]);
    }
}

#[test]
fn a_root_file_system_with_a_file_that_cannot_be_opened() {
    let folder = folder();
    std::fs::write(folder.path().join("motd"), "hello\n").unwrap();
    make_fifo(&folder.path().join("pipe"));
    layersift(&["scan", text(folder.path())]).expect(0);
    // A path that is longer than the system takes stops root as well. It is made of two that are not.
    let half = |name: &str| PathBuf::from(name).join(vec!["d".repeat(250); 9].join("/"));
    let (first, second) = (folder.path().join(half("first")), folder.path().join(half("second")));
    std::fs::create_dir_all(&first).unwrap();
    std::fs::create_dir_all(&second).unwrap();
    std::fs::write(second.join("file"), "x").unwrap();
    std::fs::rename(folder.path().join("second"), first.join("second")).unwrap();
    let report = incomplete(scan(text(folder.path())), "unreadable");
    assert!(report["gaps"][0]["path"].as_str().unwrap().starts_with("first/dddd"));
}

#[test]
fn nothing_from_an_image_steers_the_terminal() {
    let name = "\x1b]0;owned\x07\x1b[2Jfile\n\r";
    let secret = Layer::plain(Tar::new().file(name, "TOKEN=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\n").finish());
    let mut config = config(std::slice::from_ref(&secret));
    config["history"] = json!([{ "created_by": "RUN \x1b]0;owned\x07 \u{9b}2J" }]);
    config["config"]["Labels"] = json!({ "\x1b[2J": "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" });
    config["config"]["ExposedPorts"] = json!({ "9229\x1b[2J/tcp": {} });
    let config = bytes(&config);
    let layers = [secret];
    let folder = layout(&oci_with(&bytes(&manifest(&config, &layers)), &config, &layers));
    let colours = regex::Regex::new("\x1b\\[[0-9;]*m").unwrap();
    for command in ["scan", "layers"] {
        let mut program = crate::support::program();
        program.args([command, text(folder.path())]).env("CLICOLOR_FORCE", "1");
        let run = crate::support::finish(&mut program, None);
        // What is left of escapes are the program's own colours.
        let plain = colours.replace_all(&run.stdout, "");
        assert!(!plain.chars().any(|c| c.is_control() && c != '\n'), "{command}: {plain:?}");
    }
}
