//! Recorded stores for tests: files of the archives in `testdata/disks`.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

/// The file at `path` in the store `name`.
pub(crate) fn file(name: &str, path: &str) -> Vec<u8> {
    let archive = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../../testdata/disks/{name}.tar.xz"));
    let mut archive = tar::Archive::new(liblzma::read::XzDecoder::new(File::open(archive).unwrap()));
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_string_lossy().trim_start_matches("./").to_string();
        if name == path {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            return bytes;
        }
    }
    panic!("{name} has no {path}");
}
