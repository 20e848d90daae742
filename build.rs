//! Prepares the signature files under `signatures/`: writes them into one that is quickly read, so that adding one needs
//! no line of Rust, and compiles their patterns into databases that the program only has to load. Compiling at every
//! start would take seconds.

#[path = "src/disguise/anchor.rs"]
#[allow(dead_code)]
mod anchor;
#[path = "src/engine/pattern.rs"]
#[allow(dead_code)]
mod pattern;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use hyperscan::{BlockDatabase, Builder, CpuFeatures, PatternFlags, Patterns, Platform, Tune};
use serde::Deserialize;

type Failure = Box<dyn std::error::Error>;

/// The processors that databases are made for, best first. Hyperscan refuses to load one made for a better processor.
const LEVELS: [(&str, CpuFeatures); 3] = [
    ("avx512", CpuFeatures::from_bits_truncate(CpuFeatures::AVX2.bits() | CpuFeatures::AVX512.bits())),
    ("avx2", CpuFeatures::AVX2),
    ("base", CpuFeatures::empty()),
];

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    signature: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    id: String,
    pattern: String,
    keywords: Vec<String>,
    #[serde(default)]
    confidence: String,
    #[serde(default)]
    paths: Vec<String>,
}

fn main() -> Result<(), Failure> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("signatures");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/disguise/anchor.rs");
    println!("cargo::rerun-if-changed=src/engine/pattern.rs");
    println!("cargo::rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    collect(&root, &mut files)?;
    files.sort();
    fs::write(out.join("signatures.json"), list(&root, &files)?)?;
    fs::write(out.join("databases.rs"), databases(&out, &contents(&files)?)?)?;
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

/// The files by their names, in JSON: reading TOML would be a third of the program's start.
fn list(root: &Path, files: &[PathBuf]) -> Result<String, Failure> {
    let read = |path: &PathBuf| -> Result<(String, toml::Table), Failure> {
        let name = path.strip_prefix(root)?.display().to_string();
        let tables = toml::from_str(&fs::read_to_string(path)?).map_err(|error| format!("{name}: {error}"))?;
        Ok((name, tables))
    };
    let tables: Vec<(String, toml::Table)> = files.iter().map(read).collect::<Result<_, Failure>>()?;
    Ok(serde_json::to_string(&tables)?)
}

/// What goes into the databases.
#[derive(Default)]
struct Contents {
    expressions: Vec<String>,
    /// Recipe and width of each signature.
    signatures: Vec<(String, usize)>,
    /// Disguise, digit and width of each anchor.
    anchors: Vec<(u8, u8, usize)>,
}

/// The patterns of all files as the engine reads them, and the anchors of their keywords. What cannot be read is left to
/// the program, which says why.
fn contents(files: &[PathBuf]) -> Result<Contents, Failure> {
    let mut contents = Contents::default();
    let mut signatures = Vec::new();
    for file in files {
        let Ok(parsed) = toml::from_str::<File>(&fs::read_to_string(file)?) else { return Ok(Contents::default()) };
        signatures.extend(parsed.signature);
    }
    for Signature { id, pattern, keywords, confidence, paths } in &signatures {
        let Ok(read) = pattern::Pattern::new(id, pattern) else { return Ok(Contents::default()) };
        let recipe = pattern::recipe(pattern, keywords, confidence, !paths.is_empty());
        contents.signatures.push((recipe, read.width()));
        let proposed = read.proposed(keywords, !paths.is_empty());
        contents.expressions.push(proposed.expression);
    }
    let everywhere = signatures.iter().filter(|signature| signature.paths.is_empty());
    let keywords = everywhere.flat_map(|signature| {
        let (pattern, confidence) = (&signature.pattern, &signature.confidence);
        signature.keywords.iter().map(move |text| anchor::Keyword::new(text, pattern, confidence))
    });
    for anchor in anchor::anchors(keywords) {
        let (number, digit) = anchor.disguise.code();
        contents.anchors.push((number, digit, anchor.width));
        contents.expressions.push(anchor.expression);
    }
    Ok(contents)
}

/// What the program has to know of the databases, and a serialized one for each level of processors.
fn databases(out: &Path, contents: &Contents) -> Result<String, Failure> {
    let Contents { expressions, signatures, anchors } = contents;
    let mut code = format!("BuiltIn {{ signatures: &{signatures:?}, anchors: &{anchors:?}, databases: &[\n");
    let levels = if env::var("CARGO_CFG_TARGET_ARCH")? == "x86_64" { &LEVELS[..] } else { &LEVELS[2..] };
    for (name, features) in levels {
        // Another architecture than this one's, or a library without that level: the program compiles for itself.
        let Ok(database) = compile(expressions, *features) else { continue };
        let file = out.join(format!("{name}.db"));
        fs::write(&file, &database)?;
        writeln!(code, "    include_bytes!({:?}),", file.display().to_string())?;
    }
    Ok(code + "] }\n")
}

fn compile(expressions: &[String], features: CpuFeatures) -> Result<Vec<u8>, Failure> {
    if env::var("HOST")? != env::var("TARGET")? {
        return Err("a database can only be made for the architecture that this runs on".into());
    }
    let set: Patterns = expressions
        .iter()
        .enumerate()
        .map(|(id, expression)| {
            let mut pattern = hyperscan::Pattern::with_flags(expression, PatternFlags::empty())?;
            pattern.id = Some(id);
            Ok(pattern)
        })
        .collect::<Result<_, Failure>>()?;
    let database: BlockDatabase = set.for_platform(Some(&Platform::new(Tune::Generic, features)))?;
    Ok(database.serialize()?.to_vec())
}
