//! Small images that would take gigabytes if everything of them were kept. The system refuses the program more data
//! than the budget of a process, so whatever is not charged to the budget ends the scan.

use std::io::Write;
use std::process::Command;

use crate::hostile_sizes::token;
use crate::support::image::{Files, INDEX, Layer, blob_path, bytes, config, descriptor, index, manifest, oci};
use crate::support::image::{digest, write_directory};
use crate::support::tar::Tar;
use crate::support::{Run, finish, gap_reasons, text};
use serde_json::json;
use sha2::{Digest, Sha256};

/// The memory of a process besides files that it maps.
const MEMORY: u64 = 256 << 20;

/// Scans `files` on eight threads, in the memory of a process.
fn scan(files: &Files, arguments: &[&str]) -> Run {
    run(files, |image| [&["scan", image, "--fail-on", "none"][..], arguments].concat())
}

/// Runs a command of an image with `files` on eight threads, in the memory of a process.
fn run<'a>(files: &Files, command: impl FnOnce(&'a str) -> Vec<&'a str>) -> Run {
    let folder = tempfile::tempdir().unwrap();
    write_directory(folder.path(), files);
    let image = text(folder.path()).to_string().leak();
    let mut limited = Command::new("prlimit");
    limited.arg(format!("--data={MEMORY}")).arg(env!("CARGO_BIN_EXE_layersift")).env_remove("LAYERSIFT_STORE");
    finish(limited.args(command(image)).args(["-j", "8"]), None)
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

/// Ten databases of dpkg with `count` packages each.
fn databases(count: usize) -> Layer {
    let record = |file: usize| {
        let one = |number| format!("Package: p{file:02}{number:06x}\nVersion: 1\n\n");
        (0..count).map(one).collect::<String>()
    };
    zstd_layer(|out| {
        for file in 0..10 {
            let tar = Tar::new().file(&format!("var/lib/dpkg/status.d/p{file}"), record(file)).unfinished();
            out.write_all(&tar).unwrap();
        }
        out.write_all(&[0; 1024]).unwrap();
    })
}

#[test]
fn package_records() {
    let report = scan(&oci(&[databases(200_000)]), &["--format", "json"]).expect(3).json();
    assert!(gap_reasons(&report).contains(&"too-many-entries"), "{}", report["gaps"]);
}

#[test]
fn packages_of_a_bill_of_materials() {
    let files = oci(&[databases(30_000)]);
    for format in ["text", "cyclonedx", "spdx"] {
        let written = run(&files, |image| vec!["sbom", image, "--format", format]).expect(3);
        assert!(written.stdout.contains("more packages than are kept"), "{format}");
    }
    // The first databases are kept.
    let sbom = run(&files, |image| vec!["sbom", image, "--format", "cyclonedx", "--no-secrets"]).expect(3).json();
    let components = sbom["components"].as_array().unwrap();
    let is_first = |one: &serde_json::Value| one["name"].as_str().unwrap().starts_with("p0");
    let is_last = |one: &serde_json::Value| one["name"].as_str().unwrap().starts_with("p09");
    assert!(
        components.len() > 10_000 && components.iter().all(is_first) && !components.iter().any(is_last),
        "{}",
        components.len()
    );
}

#[test]
fn traces_of_ai_with_millions_of_elements() {
    let trace = [br#"{"version":"0.1","files":[{"conversations":["#, &b"{},".repeat(2_796_000)[..], b"{}]}]}"].concat();
    // Bytes that cannot be compressed permit the work of reading it.
    let digests: Vec<u8> = (0..14_000).flat_map(|n: u32| Sha256::digest(n.to_le_bytes())).collect();
    let layer = |number: usize| {
        let tar = Tar::new().file(&format!("{number}"), &digests).file(&format!(".agent-trace/{number}.json"), &trace);
        zstd_layer(|out| out.write_all(&tar.finish()).unwrap())
    };
    let files = oci(&[layer(0), layer(1), layer(2), layer(3)]);
    run(&files, |image| vec!["sbom", image]).expect(0);
    run(&files, |image| vec!["sbom", image, "--no-secrets"]).expect(0);
}

#[test]
fn packages_that_are_compared() {
    let files = oci(&[databases(60_000)]);
    for format in ["text", "json"] {
        run(&files, |image| vec!["diff", image, image, "--fail-on", "none", "--format", format]).expect(3);
    }
}

#[test]
fn hard_links_to_databases() {
    let mut tar = Tar::new().file("lib/dpkg/status", "Package: a\nVersion: 1\n\n".repeat(20_000));
    let mut links = Tar::new();
    for number in 0..2_000 {
        let path = format!("d{number}/lib/dpkg/status");
        (tar, links) = (tar.hard_link(&path, "lib/dpkg/status"), links.hard_link(&path, "lib/dpkg/status"));
    }
    let files = oci(&[Layer::plain(tar.finish()), Layer::plain(links.finish())]);
    let written = run(&files, |image| vec!["sbom", image, "--no-secrets", "--format", "spdx"]).expect(3);
    assert!(written.stdout.contains("more packages than are kept"));
    assert!(written.stdout.contains("hard links repeat too many packages"));
}

/// A zip archive of members that are stored.
fn zip(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, contents) in members {
        let (size, offset) = ((contents.len() as u32).to_le_bytes(), (bytes.len() as u32).to_le_bytes());
        let common = [&[10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &size, &size].concat();
        let lengths = [&(name.len() as u16).to_le_bytes()[..], &[0, 0]].concat();
        bytes.extend([&b"PK\x03\x04"[..], &common[..], &lengths, name.as_bytes(), contents].concat());
        let rest = [&[0; 10][..], &offset].concat();
        directory.extend([&b"PK\x01\x02\x14\0"[..], &common[..], &lengths, &rest, name.as_bytes()].concat());
    }
    let sizes = [(directory.len() as u32).to_le_bytes(), (bytes.len() as u32).to_le_bytes()].concat();
    let count = (members.len() as u16).to_le_bytes();
    [&bytes[..], &directory, b"PK\x05\x06\0\0\0\0", &count, &count, &sizes, &[0, 0]].concat()
}

#[test]
fn archives_in_java_archives() {
    let pom = |number| {
        let name = format!("META-INF/maven/g/a{number}/pom.properties");
        (name, format!("artifactId=a{number}\nversion=1\n").into_bytes())
    };
    let jar = zip(&(0..5_000).map(pom).collect::<Vec<_>>());
    let named = |number: usize| format!("{number}{}.jar", "x".repeat(1_000));
    let mut archive = zip(&(0..12).map(|number| (named(number), jar.clone())).collect::<Vec<_>>());
    for level in 0..4 {
        archive = zip(&[(named(level), archive)]);
    }
    let layer = zstd_layer(|out| out.write_all(&Tar::new().file("app.jar", archive).finish()).unwrap());
    let written = run(&oci(&[layer]), |image| vec!["sbom", image, "--no-secrets", "--format", "spdx"]).expect(3);
    assert!(written.stdout.contains("the rest were dropped"), "{}", written.stdout.len());
}

#[test]
fn a_large_executable() {
    let layer = zstd_layer(|out| {
        let program = [&b"\x7fELF\x02\x01\x01\0"[..], &vec![0; 240 << 20]].concat();
        out.write_all(&Tar::new().file("app", program).finish()).unwrap();
    });
    let written = run(&oci(&[layer]), |image| vec!["sbom", image]).expect(3);
    assert!(written.stdout.contains("more memory than a layer may"), "{}", written.stdout);
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
    // They have more values than are checked.
    scan(&files, &["--platform", "all", "--format", "json", "-o", "/dev/null"]).expect(3);
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
    let files = oci(&layers);
    let sbom = run(&files, |image| vec!["sbom", image, "--format", "cyclonedx", "-o", "/dev/null"]);
    assert!(matches!(sbom.code, Some(0 | 3)), "{:?} {}", sbom.code, sbom.stderr);
    for format in ["text", "json"] {
        let command = ["--fail-on", "none", "--format", format, "-o", "/dev/null"];
        let diff = run(&files, |image| [&["diff", image, image][..], &command].concat());
        assert!(matches!(diff.code, Some(0 | 3)), "{:?} {}", diff.code, diff.stderr);
    }
}
