//! The form in which reports of layers are kept. A store outlives the build that filled it: what was kept must be read
//! as what it was, or be refused, and never as something else.

use std::path::PathBuf;

use crate::support::tar::Tar;
use layersift_format::{Blob, Cancellation};
use layersift_model::{Algorithm, FingerprintKey, LayerReport};
use layersift_rules::Ruleset;
use layersift_scan::{Analyzer, NoObserver, Options};

/// The form that `kept_report.postcard` has, as the first byte of a kept report tells.
const FORM: u8 = 8;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/kept").join(name)
}

fn kept(form: u8, bytes: &[u8]) -> Vec<u8> {
    [vec![form], zstd::bulk::compress(bytes, 3).unwrap()].concat()
}

/// All of a report. It has no two entries in any map, whose order would be another every time.
fn shown(report: &LayerReport) -> String {
    format!("{report:#?}\n")
}

#[test]
fn what_was_kept_is_read_as_what_it_was() {
    const CHANGED: &str = "a new form has to be counted on in kept.rs; then make testdata/kept anew";
    let bytes = std::fs::read(golden("report.postcard")).unwrap();
    let report = LayerReport::from_kept(&kept(FORM, &bytes)).expect(CHANGED);
    assert_eq!(shown(&report), std::fs::read_to_string(golden("report.txt")).unwrap(), "{CHANGED}");
    let again = report.to_kept(&FingerprintKey::default()).unwrap();
    assert_eq!(again[0], FORM);
    assert_eq!(zstd::decode_all(&again[1..]).unwrap(), bytes, "{CHANGED}");
}

#[test]
fn what_is_no_report_is_refused() {
    let bytes = std::fs::read(golden("report.postcard")).unwrap();
    assert!(LayerReport::from_kept(&[]).is_err());
    assert!(LayerReport::from_kept(&kept(FORM - 1, &bytes)).is_err());
    assert!(LayerReport::from_kept(&kept(FORM + 1, &bytes)).is_err());
    assert!(LayerReport::from_kept(&kept(FORM, &bytes[..bytes.len() - 1])).is_err());
    assert!(LayerReport::from_kept(&kept(FORM, &bytes)[..40]).is_err());
}

/// `cargo test --test store kept_form -- --ignored` makes `testdata/kept` anew.
#[test]
#[ignore = "writes testdata/kept"]
fn make_anew() {
    const KEY: &[u8] = include_bytes!("../../crates/scan/src/confirm/keys/fixtures/p256.sec1.pem");
    let status = "Package: base\nVersion: 1\nStatus: install ok installed\n";
    let layer = Tar::new()
        .directory("app/")
        .file("app/.env", b"GITLAB_TOKEN=glpat-Zk7Qm2Xr9Tb4Wn6Ve001\n")
        .hard_link("app/copy", "app/.env")
        .file("app/key.pem", KEY)
        .file("app/node_modules/it/package.json", br#"{"name": "it", "version": "2.0.0"}"#)
        .file("app/broken.zip", b"PK\x03\x04 and nothing of what should follow")
        .file("var/lib/dpkg/status", status)
        .file("var/lib/dpkg/info/base.list", b"/usr/bin/base\n")
        .file("var/lib/dpkg/info/base.md5sums", b"d41d8cd98f00b204e9800998ecf8427e  usr/bin/base\n")
        .whiteout("app/old")
        .opaque("var/cache")
        .finish();
    let scanner = Analyzer::new(Ruleset::built_in().unwrap(), Options::default()).unwrap();
    let report = scanner.layer(
        Blob::Stream(Box::new(std::io::Cursor::new(layer))),
        Algorithm::Sha256,
        &Cancellation::never(),
        &NoObserver,
    );
    let kept = report.to_kept(&FingerprintKey::default()).unwrap();
    std::fs::create_dir_all(golden("")).unwrap();
    std::fs::write(golden("report.postcard"), zstd::decode_all(&kept[1..]).unwrap()).unwrap();
    std::fs::write(golden("report.txt"), shown(&LayerReport::from_kept(&kept).unwrap())).unwrap();
}
