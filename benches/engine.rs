//! Throughput of the engine: all built-in patterns, on one core, over files of an image in memory.
//!
//!     cargo bench --bench engine

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

use divan::Bencher;
use divan::counter::BytesCount;
use layersift_rules::Ruleset;
use layersift_scan::engine::{Engine, built_in};
use layersift_scan::{Analyzer, Options};

fn main() {
    divan::main();
}

/// Loading the rules and the database that was compiled with the program: what every start costs.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn start() -> Analyzer {
    Analyzer::new(Ruleset::built_in().expect("built-in rules"), Options::default()).expect("a scanner")
}

/// Candidates only: nothing is confirmed.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn propose(bencher: Bencher) {
    let rules = Ruleset::built_in().expect("built-in rules");
    let databases = built_in(&rules.signatures).into_iter().map(|one| one.database).collect();
    let engine = Engine::new(databases);
    let files = data::files(data::SIZE);
    let total: usize = files.iter().map(|file| file.bytes.len()).sum();
    let mut session = engine.session().expect("a session");
    let mut candidates = Vec::new();
    bencher.counter(BytesCount::new(total)).bench_local(|| {
        candidates.clear();
        for file in &files {
            engine.scan(&mut session, &file.bytes, &mut candidates).expect("a scan");
        }
        candidates.len()
    });
}
