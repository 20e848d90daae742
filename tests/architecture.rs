//! What neither Cargo nor clippy can hold: which crate may depend on which, how large a file may be, and that every
//! file says what it is for.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unreachable,
    clippy::unwrap_used
)]

use std::fs;
use std::path::{Path, PathBuf};

/// The crates that each crate may depend on. ARCHITECTURE.md draws the same picture.
const ARROWS: [(&str, &[&str]); 16] = [
    ("attest", &["model"]),
    ("audit", &["model"]),
    ("model", &[]),
    ("packages", &["model"]),
    ("rules", &["model"]),
    ("format", &["model"]),
    ("scan", &["format", "model", "packages", "rules"]),
    ("prompts", &["model", "scan"]),
    ("evidence", &["format", "model"]),
    ("scrub", &["format", "model", "scan"]),
    ("disks", &["format", "model"]),
    ("source", &["attest", "disks", "format", "model"]),
    ("report", &["model"]),
    ("store", &["model"]),
    ("fleet", &["format", "model", "report", "scan", "source", "store"]),
    ("server", &["attest", "audit", "fleet", "format", "model", "prompts", "report", "scan", "source", "store"]),
];

const MOST_LINES: usize = 600;
const MOST_COLUMNS: usize = 120;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files of the program and of all crates, with their texts.
fn sources() -> Vec<(String, String)> {
    let mut paths = Vec::new();
    collect(&root().join("src"), &mut paths);
    collect(&root().join("crates"), &mut paths);
    paths.sort();
    paths.iter().map(|path| (path.display().to_string(), fs::read_to_string(path).unwrap())).collect()
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

#[test]
fn every_crate_depends_on_what_the_picture_allows() {
    let mut crates: Vec<String> = fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    crates.sort();
    let mut known: Vec<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    known.sort_unstable();
    assert_eq!(crates, known);
    for (name, allowed) in ARROWS {
        let text = fs::read_to_string(root().join("crates").join(name).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = toml::from_str(&text).unwrap();
        let dependencies = manifest["dependencies"].as_table().unwrap().keys();
        let mut ours: Vec<&str> = dependencies.filter_map(|name| name.strip_prefix("layersift-")).collect();
        ours.sort_unstable();
        assert_eq!(ours, allowed, "the dependencies of {name}");
    }
}

#[test]
fn every_file_says_what_it_is_for_and_is_short() {
    for (path, text) in sources() {
        assert!(text.starts_with("//! "), "{path} begins without a header");
        let lines = text.lines().count();
        assert!(lines <= MOST_LINES, "{path} has {lines} lines");
        let long = text.lines().position(|line| line.chars().count() > MOST_COLUMNS);
        assert_eq!(long, None, "{path} has a line of more than {MOST_COLUMNS} characters");
    }
}

/// What quotes the values of a document in its errors. `layersift_model::parse` reads instead of it.
const QUOTING: [&str; 7] = [
    "serde_json::from_slice",
    "serde_json::from_str",
    "serde_json::from_reader",
    "serde_json::from_value",
    "serde_json::Error",
    "toml::from_str",
    "toml::de::Error",
];

/// Where they are used all the same.
const MAY_QUOTE: [&str; 9] = [
    "crates/model/src/parse.rs",
    // Their own reader of JSON does not quote, and other errors are dropped.
    "crates/format/src/",
    "crates/scan/src/",
    "src/cli/hook/",
    // The program's own files, and what is written.
    "crates/audit/src/",
    "crates/evidence/src/",
    "crates/rules/build.rs",
    "crates/attest/src/registry.rs",
    "crates/attest/src/legacy.rs",
];

#[test]
fn no_error_of_a_parser_quotes_a_value() {
    let is_test = |path: &str| path.ends_with("/tests.rs") || path.contains("/tests/");
    for (path, text) in sources() {
        let path = path.strip_prefix(&format!("{}/", root().display())).unwrap();
        if is_test(path) || MAY_QUOTE.iter().any(|start| path.starts_with(start)) {
            continue;
        }
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let found = QUOTING.iter().find(|name| code.contains(*name));
        assert_eq!(found, None, "{path} reads by what quotes values: use layersift_model::parse");
    }
}
