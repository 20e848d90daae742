//! Files that commands write: nothing is written over, no link is followed, and no half is left.

use std::fs;

use crate::support::image::{Layer, archive, oci};
use crate::support::tar::Tar;
use crate::support::{layersift, text};

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
