//! Small images that would take gigabytes if everything of them were kept. The system refuses the program more data than
//! the budget of a process, so whatever is not charged to the budget ends the scan.

use std::io::Write;
use std::process::Command;

use crate::hostile_sizes::token;
use crate::support::image::{Files, INDEX, Layer, blob_path, bytes, config, descriptor, index, manifest, oci};
use crate::support::image::{digest, write_directory};
use crate::support::tar::Tar;
use crate::support::{Run, finish, gap_reasons, text};
use serde_json::json;

/// The memory of a process besides files that it maps.
const MEMORY: u64 = 256 << 20;

/// Scans `files` on eight threads, in the memory of a process.
fn scan(files: &Files, arguments: &[&str]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    write_directory(folder.path(), files);
    let mut command = Command::new("prlimit");
    command.arg(format!("--data={MEMORY}")).arg(env!("CARGO_BIN_EXE_layersift")).env_remove("LAYERSIFT_STORE");
    finish(command.args(["scan", text(folder.path()), "-j", "8", "--fail-on", "none"]).args(arguments), None)
}

/// A layer of what `write` writes, compressed.
fn zstd_layer(write: impl FnOnce(&mut dyn Write)) -> Layer {
    let mut tar = Vec::new();
    write(&mut tar);
    Layer::stored(&tar, zstd::encode_all(&tar[..], 1).unwrap(), "+zstd")
}

#[test]
fn an_ordinary_image() {
    // An ordinary image is scanned within it.
    let plain = Layer::plain(Tar::new().file("motd", "hello\n").finish());
    let report = scan(&oci(&[plain]), &["--format", "json"]).expect(0).json();
    assert_eq!(gap_reasons(&report), [""; 0]);
}

#[test]
fn package_records() {
    let record = |file: usize| {
        let one = |number| format!("Package: p{file:02}{number:06x}\nVersion: 1\n\n");
        (0..200_000).map(one).collect::<String>()
    };
    let layer = zstd_layer(|out| {
        for file in 0..10 {
            let tar = Tar::new().file(&format!("var/lib/dpkg/status.d/p{file}"), record(file)).unfinished();
            out.write_all(&tar).unwrap();
        }
        out.write_all(&[0; 1024]).unwrap();
    });
    let report = scan(&oci(&[layer]), &["--format", "json"]).expect(3).json();
    assert!(gap_reasons(&report).contains(&"too-many-entries"), "{}", report["gaps"]);
}

#[test]
fn gaps() {
    // An archive that is not opened, with a name of its own.
    let archive = [&b"7z\xbc\xaf'\x1c\0\x04"[..], &[0; 56]].concat();
    let layer = zstd_layer(|out| {
        for number in 0..100_000 {
            let name = format!("some/directory/that/is/quite/deep/{number:08}.7z");
            out.write_all(&Tar::new().file(&name, &archive).unfinished()).unwrap();
        }
        out.write_all(&[0; 1024]).unwrap();
    });
    for format in ["text", "json"] {
        scan(&oci(std::slice::from_ref(&layer)), &["--format", format, "-o", "/dev/null"]).expect(3);
    }
}

#[test]
fn windows_of_decoders() {
    let wide = |seed: u8| {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.long_distance_matching(true).unwrap();
        encoder.write_all(&[seed]).unwrap();
        (0..132).for_each(|_| encoder.write_all(&[b' '; 1 << 20]).unwrap());
        encoder.finish().unwrap()
    };
    let layers: Vec<Layer> = (0..8).map(|n| Layer::plain(Tar::new().file("a.zst", wide(n)).finish())).collect();
    // They have little else, so not all of them may be read.
    let run = scan(&oci(&layers), &["--format", "json", "-o", "/dev/null"]);
    assert!(matches!(run.code, Some(0 | 3)), "{:?} {}", run.code, run.stderr);
}

#[test]
fn configurations_of_the_images_of_an_index() {
    let layer = Layer::plain(Tar::new().file("motd", "hello\n").finish());
    let layers = std::slice::from_ref(&layer);
    let mut files = Files::from([(blob_path(&layer.blob), layer.blob.clone())]);
    let mut entries = Vec::new();
    for number in 0..8 {
        let mut config = config(layers);
        let labels = (0..200_000).map(|label| (format!("{label:06x}"), json!("b")));
        config["config"]["Labels"] = json!(labels.collect::<serde_json::Map<_, _>>());
        config["author"] = json!(number.to_string());
        let config = bytes(&config);
        let manifest = bytes(&manifest(&config, layers));
        let mut entry = descriptor(crate::support::image::MANIFEST, &manifest);
        entry["platform"] = json!({ "os": "linux", "architecture": format!("a{number}") });
        entries.push(entry);
        files.extend([(blob_path(&config), config), (blob_path(&manifest), manifest)]);
    }
    let all = bytes(&index(&entries));
    let listed = descriptor(INDEX, &all);
    assert_eq!(listed["digest"], digest(&all));
    files.extend([
        (blob_path(&all), all),
        ("index.json".into(), bytes(&index(&[listed]))),
        ("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
    ]);
    scan(&files, &["--platform", "all", "--format", "json", "-o", "/dev/null"]).expect(0);
}

#[test]
fn a_report_of_many_findings() {
    let layers: Vec<Layer> = (0..3)
        .map(|layer| {
            zstd_layer(|out| {
                for file in 0..40 {
                    let first = layer * 100_000 + file * 1_000;
                    let lines: String = (first..first + 1_000).map(|number| token(number) + "\n").collect();
                    out.write_all(&Tar::new().file(&format!("d{layer}/f{file}"), lines).unfinished()).unwrap();
                }
                out.write_all(&[0; 1024]).unwrap();
            })
        })
        .collect();
    for format in ["text", "json", "sarif", "html"] {
        let run = scan(&oci(&layers), &["--format", format, "-o", "/dev/null"]);
        assert!(matches!(run.code, Some(0 | 3)), "{:?} {}", run.code, run.stderr);
    }
}
