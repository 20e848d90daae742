//! Throughput of scanning one layer, from a file on disk to a report, compared with the floor: reading without a scan.
//! Bytes are those of the uncompressed layer. The budget is 1.3 times the floor on two cores.
//!
//!     cargo bench --bench layer

#![allow(unreachable_pub)]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unreachable,
    clippy::unwrap_used
)]

#[allow(dead_code)]
mod data;
mod floor;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::LazyLock;

use divan::Bencher;
use divan::counter::BytesCount;
use layersift_format::Blob;
use layersift_model::Digest;
use layersift_model::Limits;
use layersift_rules::Ruleset;
use layersift_scan::{Analyzer, ImageScan, Options};
use layersift_source::registry::RegistryOptions;
use layersift_source::{Target, open};

fn main() {
    divan::main();
}

const CODECS: [&str; 3] = ["raw", "gzip", "zstd"];

static LAYER: LazyLock<Vec<u8>> = LazyLock::new(data::layer);

/// Inflating, both digests and the walk; nothing is scanned.
#[divan::bench(args = CODECS, sample_count = 10, sample_size = 1)]
fn floor(bencher: Bencher, codec: &str) {
    let blob = compressed(codec);
    bencher.counter(BytesCount::new(LAYER.len())).bench_local(|| {
        let facts = floor::read(Blob::Stream(Box::new(&blob[..])));
        assert_eq!(facts.bytes, LAYER.len() as u64);
    });
}

/// One thread, all built-in rules.
#[divan::bench(args = CODECS, sample_count = 10, sample_size = 1)]
fn scan_on_one_core(bencher: Bencher, codec: &str) {
    scan(bencher, codec, 1);
}

/// As many threads as cores.
#[divan::bench(args = CODECS, sample_count = 10, sample_size = 1)]
fn scan_on_all_cores(bencher: Bencher, codec: &str) {
    scan(bencher, codec, 0);
}

fn scan(bencher: Bencher, codec: &str, threads: usize) {
    let rules = Ruleset::built_in().expect("built-in rules");
    let scanner = Analyzer::new(rules, Options { threads, ..Options::default() }).expect("a scanner");
    let target = Target::parse(image_file(codec).to_str().expect("a plain path")).expect("a target");
    bencher.counter(BytesCount::new(LAYER.len())).bench_local(|| {
        let reports = ImageScan::new(&scanner)
            .run(&target.text, open(&target, &Limits::default(), &RegistryOptions::default()).expect("an image"))
            .expect("a report");
        assert!(reports.iter().all(|report| report.gaps.is_empty() && !report.findings.is_empty()));
        reports
    });
}

/// An image with the layer, in a file.
fn image_file(codec: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-layer-{codec}.tar"));
    fs::write(&path, data::image(&compressed(codec), &Digest::of(&LAYER).to_string())).expect("room on the disk");
    path
}

fn compressed(codec: &str) -> Vec<u8> {
    match codec {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(&LAYER).expect("memory");
            encoder.finish().expect("memory")
        }
        "zstd" => zstd::encode_all(&LAYER[..], 3).expect("memory"),
        _ => LAYER.clone(),
    }
}
