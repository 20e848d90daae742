//! Compiles the built-in signatures into Hyperscan databases that the program only has to load: compiling them at every
//! start would take seconds.
//!
//! The databases are embedded with every byte masked, because the keywords in them would otherwise stand side by side
//! in the program and form tokens that its own rules find.

#![allow(clippy::print_stdout)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use hyperscan::{BlockDatabase, Builder, CpuFeatures, PatternFlags, Patterns, Platform, Tune};
use layersift_rules::{Pattern, PatternSet, Ruleset, Signature, beginning_keywords, fingerprint};

type Failure = Box<dyn std::error::Error>;

/// Every byte of an embedded database is XORed with this.
const MASK: u8 = 0xa5;

/// The processors that databases are made for, best first. Hyperscan refuses to load one made for a better processor.
const LEVELS: [(&str, CpuFeatures); 3] = [
    ("avx512", CpuFeatures::from_bits_truncate(CpuFeatures::AVX2.bits() | CpuFeatures::AVX512.bits())),
    ("avx2", CpuFeatures::AVX2),
    ("base", CpuFeatures::empty()),
];

fn main() -> Result<(), Failure> {
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let images = built_in(&out, "images", &Ruleset::built_in()?.signatures)?;
    let prompts = built_in(&out, "prompts", &Ruleset::prompts()?.signatures)?;
    fs::write(out.join("databases.rs"), format!("[{images}, {prompts}]"))?;
    Ok(())
}

/// The code of a `BuiltIn` of `signatures`, with databases in files that begin with `name`.
fn built_in(out: &Path, name: &str, signatures: &[Signature]) -> Result<String, Failure> {
    let set = PatternSet::new(signatures)?;
    let widest = set.patterns.iter().take(signatures.len()).map(Pattern::width).max().unwrap_or(0);
    let encoded_keywords: Vec<_> =
        set.encoded_keywords.iter().map(|keyword| (keyword.encoding.code(), keyword.width)).collect();
    let beginning = beginning_keywords(signatures);
    let begun: Vec<u32> = beginning.iter().map(|keyword| keyword.signatures).collect();
    let beginnings: Vec<Pattern> = beginning.into_iter().map(|keyword| keyword.pattern).collect();
    Ok(format!(
        "BuiltIn {{ count: {}, fingerprint: \"{}\", widest: {widest}, encoded_keywords: &{encoded_keywords:?}, \
         begun: &{begun:?}, mask: {MASK}, databases: &[{}], beginnings: &[{}] }}",
        signatures.len(),
        fingerprint(signatures),
        databases(out, name, &set.patterns)?,
        databases(out, &format!("{name}-beginnings"), &beginnings)?,
    ))
}

/// Writes a serialized database for each level of processors, and names their files.
fn databases(out: &Path, set: &str, patterns: &[Pattern]) -> Result<String, Failure> {
    let mut code = String::new();
    let levels = if env::var("CARGO_CFG_TARGET_ARCH")? == "x86_64" { &LEVELS[..] } else { &LEVELS[2..] };
    for (name, features) in levels {
        let database = match compile(patterns, *features) {
            Ok(database) => database,
            // Another architecture than this one, or a library without that level: the program compiles for itself.
            Err(error) => {
                println!("cargo::warning=no database of the rules for {set} and {name} processors: {error}");
                continue;
            }
        };
        let file = out.join(format!("{set}-{name}.db"));
        fs::write(&file, database.iter().map(|byte| byte ^ MASK).collect::<Vec<u8>>())?;
        write!(code, "include_bytes!({:?}),", file.display().to_string())?;
    }
    Ok(code)
}

fn compile(patterns: &[Pattern], features: CpuFeatures) -> Result<Vec<u8>, Failure> {
    if env::var("HOST")? != env::var("TARGET")? {
        return Err("a database can only be compiled for the architecture of the build machine".into());
    }
    let set: Patterns = patterns
        .iter()
        .enumerate()
        .map(|(id, pattern)| {
            let mut compiled = hyperscan::Pattern::with_flags(pattern.expression(), PatternFlags::empty())?;
            compiled.id = Some(id);
            Ok(compiled)
        })
        .collect::<Result<_, Failure>>()?;
    let database: BlockDatabase = set.for_platform(Some(&Platform::new(Tune::Generic, features)))?;
    Ok(database.serialize()?.to_vec())
}
