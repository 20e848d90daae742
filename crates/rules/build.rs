//! Embeds the signature files under `signatures/` as JSON, so that adding one needs no line of Rust. Reading TOML would
//! be a third of the program's start.

#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::{env, fs};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../signatures");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    collect(&root, &mut files)?;
    files.sort();
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("signatures.json"), embedded(&root, &files)?)?;
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

/// Pairs of a file's name below `root` and its tables.
fn embedded(root: &Path, files: &[PathBuf]) -> Result<String, Failure> {
    let read = |path: &PathBuf| -> Result<(String, toml::Table), Failure> {
        let name = path.strip_prefix(root)?.display().to_string();
        let tables = toml::from_str(&fs::read_to_string(path)?).map_err(|error| format!("{name}: {error}"))?;
        Ok((name, tables))
    };
    let tables: Vec<(String, toml::Table)> = files.iter().map(read).collect::<Result<_, Failure>>()?;
    Ok(serde_json::to_string(&tables)?)
}
