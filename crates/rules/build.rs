//! Embeds the signature files under `signatures/` as JSON, so that adding a signature needs no Rust code. Parsing TOML
//! would take a third of the program's start-up time.
//!
//! Examples and counterexamples are embedded separately and compressed: a scan does not need them, and the program must
//! not contain readable strings that its own rules find.

#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use flate2::Compression;
use flate2::write::DeflateEncoder;

type Failure = Box<dyn std::error::Error>;

/// The directory of the rules for prompts.
const PROMPTS: &str = "prompts/";

/// The keys that move from the rules to `examples.json`.
const EXAMPLES: [&str; 2] = ["example", "counterexample"];

fn main() -> Result<(), Failure> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../signatures");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    collect(&root, &mut files)?;
    files.sort();
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut tables = parsed(&root, &files)?;
    let examples = serde_json::to_vec(&take_examples(&mut tables))?;
    // The rules for prompts are not used for images, whose reports depend on the digest of the other file.
    let (prompts, images): (Vec<_>, Vec<_>) = tables.into_iter().partition(|(name, _)| name.starts_with(PROMPTS));
    fs::write(out.join("signatures.json"), serde_json::to_string(&images)?)?;
    fs::write(out.join("prompts.json"), serde_json::to_string(&prompts)?)?;
    let mut compressed = DeflateEncoder::new(Vec::new(), Compression::best());
    compressed.write_all(&examples)?;
    fs::write(out.join("examples.json.deflate"), compressed.finish()?)?;
    Ok(())
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            println!("cargo::rerun-if-changed={}", path.display());
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            println!("cargo::rerun-if-changed={}", path.display());
            files.push(path);
        }
    }
    Ok(())
}

/// Each file's path relative to `root`, and its tables.
fn parsed(root: &Path, files: &[PathBuf]) -> Result<Vec<(String, toml::Table)>, Failure> {
    let parse = |path: &PathBuf| -> Result<(String, toml::Table), Failure> {
        let name = path.strip_prefix(root)?.display().to_string();
        let tables = toml::from_str(&fs::read_to_string(path)?).map_err(|error| format!("{name}: {error}"))?;
        Ok((name, tables))
    };
    files.iter().map(parse).collect()
}

/// Removes the examples from all rules, and returns them by kind of rule (`signature`, `file`, `check`) and id.
fn take_examples(files: &mut [(String, toml::Table)]) -> BTreeMap<String, BTreeMap<String, toml::Table>> {
    let mut all: BTreeMap<String, BTreeMap<String, toml::Table>> = BTreeMap::new();
    for (kind, value) in files.iter_mut().flat_map(|(_, tables)| tables.iter_mut()) {
        for rule in value.as_array_mut().into_iter().flatten().filter_map(toml::Value::as_table_mut) {
            let examples: toml::Table = EXAMPLES.iter().filter_map(|key| rule.remove_entry(*key)).collect();
            if let Some(id) = rule.get("id").and_then(toml::Value::as_str).filter(|_| !examples.is_empty()) {
                all.entry(kind.clone()).or_default().insert(id.into(), examples);
            }
        }
    }
    all
}
