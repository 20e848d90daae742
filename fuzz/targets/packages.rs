//! Records of packages and marks of AI: any bytes are some or not, and what is read of them is bounded by the file.
#![no_main]

use layersift_fuzz::choices;
use layersift_model::ImagePath;
use layersift_packages::{AiFile, RecordKind};
use libfuzzer_sys::fuzz_target;

const PATHS: [&str; 13] = [
    "var/lib/dpkg/status",
    "lib/apk/db/installed",
    "var/lib/rpm/Packages",
    "a/package.json",
    "a-1.dist-info/METADATA",
    "a-1.0.jar",
    "bin/a",
    "AI-DECLARATION.md",
    ".git/objects/ab/0123456789abcdef0123456789abcdef012345",
    ".git/packed-refs",
    ".agent-trace/a.json",
    "a.gguf",
    "README.md",
];

fuzz_target!(|data: &[u8]| {
    let ([which], bytes) = choices(data);
    let path = ImagePath::normalize(PATHS[usize::from(which) % PATHS.len()].as_bytes());
    let head = &bytes[..bytes.len().min(AiFile::HEAD)];
    if let Some(kind) = AiFile::at(&path).or_else(|| AiFile::of_head(head)) {
        let mark = kind.read(&bytes[..bytes.len().min(kind.most_bytes())]);
        assert!(mark.is_none_or(|mark| mark.detail.chars().count() <= 300));
    }
    let Some(kind) = RecordKind::at(&path).or_else(|| RecordKind::executable(bytes)) else { return };
    let read = kind.read(&path, bytes);
    assert_eq!(read, kind.read(&path, bytes), "the same bytes have the same packages");
    for package in &read.packages {
        assert!(!package.name.is_empty());
        let purl = package.purl(None);
        assert!(purl.starts_with("pkg:") && purl.bytes().all(|byte| byte.is_ascii_graphic()));
    }
});
