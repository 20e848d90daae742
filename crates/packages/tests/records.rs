//! Records of packages through the public face: databases of rpm as real tools wrote them, archives in archives,
//! executables, and any of these damaged.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod support;

use layersift_model::{Ecosystem, ImagePath, PackageRecord};
use layersift_packages::{Read, RecordKind};
use proptest::prelude::*;

use support::{elf, go_information, jar, zip, zlib};

/// rpmbuild and rpm of Debian 12 made the headers; SQLite, db5.3_load and the writer of benches/sbom the databases.
const RPM: [(&str, &[u8]); 3] = [
    ("var/lib/rpm/rpmdb.sqlite", include_bytes!("data/rpmdb.sqlite")),
    ("var/lib/rpm/Packages", include_bytes!("data/Packages")),
    ("usr/lib/sysimage/rpm/Packages.db", include_bytes!("data/Packages.db")),
];

fn read(path: &str, bytes: &[u8]) -> Read {
    let path = ImagePath::normalize(path.as_bytes());
    let kind = RecordKind::at(&path).or_else(|| RecordKind::executable(bytes)).unwrap();
    kind.read(&path, bytes)
}

fn names(read: &Read) -> Vec<String> {
    let name = |one: &PackageRecord| format!("{} {}", one.name, one.version);
    read.packages.iter().map(name).collect()
}

#[test]
fn every_form_of_rpms_database_has_the_same_packages() {
    for (path, bytes) in RPM {
        let found = read(path, bytes);
        assert_eq!(found.error, None, "{path}");
        let mut packages = found.packages;
        packages.sort();
        let seen: Vec<_> = packages.iter().map(|one| (&*one.name, &*one.version, one.epoch.as_deref())).collect();
        let expected = [
            ("sample-6", "6.6-1.el9", Some("1")),
            ("sample-60", "4.60-1.el9", None),
            ("sample-7", "0.7-2.el9", Some("2")),
            ("sample-8", "1.8-3.el9", Some("3")),
            ("sample-9", "2.9-1.el9", Some("4")),
        ];
        assert_eq!(seen, expected, "{path}");
        assert_eq!(packages[0].source.as_deref(), Some("sample-6-6.6-1.el9.src.rpm"));
        assert_eq!(
            (packages[0].architecture.as_deref(), packages[0].licence.as_deref()),
            (Some("noarch"), Some("MIT"))
        );
    }
}

#[test]
fn a_database_that_is_cut_off_is_told() {
    for (path, bytes) in RPM {
        assert!(read(path, &bytes[..bytes.len() / 2]).error.is_some(), "{path}");
    }
    assert!(read("var/lib/rpm/Packages", b"neither of them").error.is_some());
    assert_eq!(read("var/lib/rpm/Packages", b""), Read::default());
}

#[test]
fn archives_in_archives_are_read_with_the_members_that_lead_there() {
    let deep = jar("deep", "3.0", &[]);
    let inner = jar("inner", "2.0", &[("lib/deep-3.0.jar", &deep)]);
    let found = read("srv/app.war", &jar("app", "1.0", &[("WEB-INF/lib/inner-2.0.jar", &inner)]));
    assert_eq!(found.error, None);
    assert_eq!(names(&found), ["app 1.0", "inner 2.0", "deep 3.0"]);
    assert_eq!(found.packages[0].namespace.as_deref(), Some("org.sample"));
    assert_eq!(found.packages[2].inside, ["WEB-INF/lib/inner-2.0.jar", "lib/deep-3.0.jar"]);
}

#[test]
fn an_archive_without_a_record_of_maven_is_named_by_its_file_and_manifest() {
    let manifest: &[u8] = b"Manifest-Version: 1.0\r\nImplementation-Version: 4.5\r\n\r\n";
    let archive = zip(&[("META-INF/MANIFEST.MF", manifest)]);
    assert_eq!(names(&read("srv/plain.jar", &archive)), ["plain 4.5"]);
    assert_eq!(names(&read("srv/plain-1.2.jar", &archive)), ["plain 1.2"]);
}

#[test]
fn archives_nested_too_deep_are_told() {
    let mut archive = jar("core", "1", &[]);
    for _ in 0..8 {
        archive = zip(&[("x.jar", &archive)]);
    }
    let found = read("a.jar", &archive);
    assert!(found.error.unwrap().to_string().contains("archives in archives"));
}

#[test]
fn modules_of_go_and_crates_of_rust_are_in_executables() {
    let modules = "path\texample.org/app\nmod\texample.org/app\tv1.0.0\t\ndep\tgolang.org/x/text\tv0.3.0\th1:x=\n";
    let crates = br#"{"packages":[{"name":"itoa","version":"1.0.1","source":"crates.io"},
        {"name":"cc","version":"1.2.0","source":"crates.io","kind":"build"},
        {"name":"app","version":"0.1.0","source":"local","root":true}]}"#;
    let sections = [(".go.buildinfo", go_information("go1.22.3", modules)), (".dep-v0", zlib(crates))];
    let found = read("usr/bin/app", &elf(&sections));
    assert_eq!(found.error, None);
    let expected = ["stdlib 1.22.3", "example.org/app v1.0.0", "golang.org/x/text v0.3.0", "itoa 1.0.1", "app 0.1.0"];
    assert_eq!(names(&found), expected);
    assert_eq!(found.packages[3].ecosystem, Ecosystem::Cargo);
}

#[test]
fn a_damaged_list_of_crates_is_told() {
    let found = read("usr/bin/app", &elf(&[(".dep-v0", b"no zlib".to_vec())]));
    assert!(found.error.is_some());
    let other = read("usr/bin/app", &elf(&[(".text", vec![0; 100])]));
    assert_eq!((other.packages, other.error), (Vec::new(), None));
}

#[test]
fn what_is_decompressed_and_recorded_is_work() {
    let list = format!(r#"{{"packages":[{}]}}"#, vec![r#"{"name":"a","version":"1"}"#; 50_000].join(","));
    let executable = elf(&[(".dep-v0", zlib(list.as_bytes()))]);
    let found = read("usr/bin/app", &executable);
    assert_eq!(found.packages.len(), 50_000);
    assert!(found.work > 10 * list.len() as u64, "{}", found.work);
    assert!(found.work <= RecordKind::Executable.most_work(executable.len()));
}

#[test]
fn an_archive_whose_entries_share_their_bytes_costs_no_more_than_its_size_permits() {
    // One member of zeros, and a thousand entries that name it.
    let one = zip(&[("a.jar", &vec![0; 1 << 20])]);
    let end = one.len() - 22;
    let start = u32::from_le_bytes(one[end + 16..end + 20].try_into().unwrap()) as usize;
    let directory = one[start..end].repeat(1_000);
    let mut tail = one[end..].to_vec();
    tail[12..16].copy_from_slice(&(directory.len() as u32).to_le_bytes());
    let archive = [&one[..start], &directory, &tail].concat();
    let found = read("x.jar", &archive);
    assert!(found.error.unwrap().to_string().contains("work"));
    let most = RecordKind::Java.most_work(archive.len());
    assert!(most / 2 < found.work && found.work <= most, "{} of {most}", found.work);
}

#[test]
fn the_last_record_needs_no_line_feed_to_be_work() {
    let found = read("lib/apk/db/installed", b"P:a\nV:1");
    assert_eq!((found.packages.len(), found.work), (1, RecordKind::Apk.most_work(7)));
}

/// Samples of every kind of file, to be damaged.
fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let modules = "path\ta\nmod\ta\tv1\n";
    let mut all: Vec<(&str, Vec<u8>)> = RPM.iter().map(|(path, bytes)| (*path, bytes.to_vec())).collect();
    all.push(("a.jar", jar("a", "1", &[("b.jar", &jar("b", "2", &[]))])));
    all.push(("bin/a", elf(&[(".go.buildinfo", go_information("go1.2", modules)), (".dep-v0", zlib(b"{}"))])));
    all.push(("var/lib/dpkg/status", b"Package: a\nStatus: install ok installed\nVersion: 1\n".to_vec()));
    all.push(("lib/apk/db/installed", b"P:a\nV:1\nA:x\n\n".to_vec()));
    all.push(("a/package.json", br#"{"name":"@a/b","version":"1","license":"MIT"}"#.to_vec()));
    all.push(("a-1.dist-info/METADATA", b"Name: a\nVersion: 1\n".to_vec()));
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn damage_never_stops_a_reader(
        which in 0..9_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let (path, mut bytes) = samples().swap_remove(which);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let path = ImagePath::normalize(path.as_bytes());
        if let Some(kind) = RecordKind::at(&path).or_else(|| RecordKind::executable(&bytes)) {
            let found = kind.read(&path, &bytes);
            prop_assert!(found.work <= kind.most_work(bytes.len()));
            // What is read is part of the file, up to what replaces damaged text.
            prop_assert!(found.packages.iter().all(|one| one.name.len() <= 3 * bytes.len() && !one.name.is_empty()));
        }
    }
}
