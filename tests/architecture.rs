//! The picture in ARCHITECTURE.md, held true: who imports whom, how large a file may be, and what no file may do.
//!
//! ```text
//! cli ─► scan ─► source ► image ► layer ► content ► engine ► confirm ► assemble ► policy ► report
//!        all stages       (each knows the vocabulary, the formats, and what the table says)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What everyone may import: plain data, and the traits between the stages. It imports only itself, but for `blob`, which
/// may be a mapped file.
const VOCABULARY: [&str; 14] = [
    "blob",
    "calendar",
    "digest",
    "finding",
    "gap",
    "image_report",
    "layer_report",
    "limits",
    "observe",
    "path",
    "rule",
    "ruleset",
    "secret",
    "shipped",
];

/// What each module may import beyond the vocabulary. What is not here may not be imported. File formats and the map of
/// files stand below the stages; `scan` knows every stage.
const ARROWS: [(&str, &[&str]); 17] = [
    ("map", &[]),
    ("blob", &["map"]),
    ("format", &[]),
    ("disguise", &[]),
    ("source", &["format", "map"]),
    ("image", &["source"]),
    ("layer", &["format", "map"]),
    ("content", &["format", "layer"]),
    ("engine", &[]),
    ("confirm", &["engine"]),
    ("assemble", &["image"]),
    ("policy", &[]),
    ("store", &[]),
    ("catalog", &["source"]),
    ("report", &["policy", "store", "sweep"]),
    ("scan", &["source", "image", "layer", "content", "disguise", "engine", "confirm", "assemble", "format"]),
    ("sweep", &["catalog", "source", "image", "scan", "store", "policy"]),
];

/// The only place that knows a user. Of `source` and `image` it knows what is written on a command line.
const CLI: [&str; 9] =
    ["catalog", "image::platform", "policy", "report", "scan", "source::Target", "source::registry", "store", "sweep"];

/// Imports that leave the picture, each with its reason.
const EXCEPTIONS: [(&str, &str, &str); 2] = [
    ("report", "engine::version", "a report names the version of the engine that made it"),
    ("main", "cli", "the program is its command line"),
];

const MOST_LINES: usize = 600;

/// A source file: its path below `src/`, its whole text, and its text without tests, comments and strings.
struct Source {
    path: String,
    text: String,
    code: String,
}

impl Source {
    fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs")
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    paths.sort();
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        let path = path.strip_prefix(&root).unwrap().to_str().unwrap().to_string();
        Source { path, code: code_of(&text), text }
    };
    paths.iter().map(read).collect()
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

/// `text` without its test module, which stands last in a file, and with comments and strings blanked out.
fn code_of(text: &str) -> String {
    let tests = text.find("\n#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let mut code = String::new();
    let mut rest = &text[..tests];
    while let Some(start) = rest.find(['"', '\'', '/', 'r']) {
        let (before, from) = rest.split_at(start);
        code.push_str(before);
        let length = blank(from, before.chars().next_back());
        // What is kept is one character; what is blanked out keeps its lines.
        match length {
            0 => code.push_str(&from[..1]),
            _ => code.extend(from[..length].chars().filter(|c| *c == '\n')),
        }
        rest = &from[length.max(1)..];
    }
    code + rest
}

/// The length of the comment, string or character that `from` begins with; 0 where it begins with none.
fn blank(from: &str, before: Option<char>) -> usize {
    let word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let to = |end: &str, skip: usize| from[skip..].find(end).map_or(from.len(), |at| skip + at + end.len());
    if from.starts_with("//") {
        return from.find('\n').unwrap_or(from.len());
    }
    if from.starts_with("/*") {
        return to("*/", 2);
    }
    if from.starts_with('r') && (!word || before == Some('b')) {
        let hashes = from[1..].bytes().take_while(|&byte| byte == b'#').count();
        let opens = from[1 + hashes..].starts_with('"');
        return if opens { to(&format!("\"{}", "#".repeat(hashes)), 2 + hashes) } else { 0 };
    }
    if from.starts_with('"') {
        return quoted(from, '"').unwrap_or(from.len());
    }
    // Of a lifetime no closing mark follows, or one that belongs to something else and is further away.
    let is_char = |end: &usize| from[1..].starts_with('\\') || from[1..*end - 1].chars().count() == 1;
    if from.starts_with('\'') { quoted(from, '\'').filter(is_char).unwrap_or(0) } else { 0 }
}

/// The length of the literal up to its closing mark.
fn quoted(from: &str, mark: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in from.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == mark => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// The paths behind `crate::` (in the program: `layersift::`) in `code`, groups written out.
fn imports(source: &Source) -> BTreeSet<String> {
    let root = if source.path == "main.rs" { "layersift::" } else { "crate::" };
    let mut found = BTreeSet::new();
    for (at, _) in source.code.match_indices(root) {
        let path = &source.code[at + root.len()..];
        let end = path.find(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | ':')).unwrap_or(path.len());
        let (stem, rest) = path.split_at(end);
        match rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            Some((group, _)) if stem.is_empty() || stem.ends_with("::") => {
                found.extend(group.split(',').map(|name| format!("{stem}{}", name.trim())));
            }
            _ => drop(found.insert(stem.to_string())),
        }
    }
    found
}

fn allowed(module: &str) -> Vec<&'static str> {
    let arrows = ARROWS.iter().find(|(name, _)| *name == module).map_or(&[][..], |(_, to)| to);
    let cli = if module == "cli" { &CLI[..] } else { &[] };
    let exceptions = EXCEPTIONS.iter().filter(|(from, ..)| *from == module).map(|(_, to, _)| *to);
    VOCABULARY.into_iter().chain(arrows.iter().copied()).chain(cli.iter().copied()).chain(exceptions).collect()
}

/// Whether the path `import` is `allowed`, or leads below it.
fn is_below(import: &str, allowed: &str) -> bool {
    import.strip_prefix(allowed).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[test]
fn every_import_follows_an_arrow() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let module = source.module();
        let allowed = allowed(module);
        for import in imports(source) {
            let own = is_below(&import, module) && module != "main";
            if !own && !allowed.iter().any(|allowed| is_below(&import, allowed)) {
                wrong.push(format!("{} imports {import}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}\nThe arrows are in tests/architecture.rs and in ARCHITECTURE.md");
}

#[test]
fn every_module_is_in_the_picture() {
    let known: BTreeSet<&str> =
        VOCABULARY.into_iter().chain(ARROWS.iter().map(|(name, _)| *name)).chain(["cli", "lib", "main"]).collect();
    let sources = sources();
    let modules: BTreeSet<&str> = sources.iter().map(Source::module).collect();
    assert_eq!(modules, known);
}

#[test]
fn every_exception_and_arrow_is_needed() {
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in &sources() {
        used.entry(source.module().into()).or_default().extend(imports(source));
    }
    let is_used = |from: &str, to: &str| used[from].iter().any(|import| is_below(import, to));
    for (from, to, reason) in EXCEPTIONS {
        assert!(is_used(from, to), "{from} no longer imports {to}: {reason}");
    }
    for (from, targets) in ARROWS.iter().map(|(from, to)| (*from, *to)).chain([("cli", &CLI[..])]) {
        for to in targets {
            assert!(is_used(from, to), "{from} may import {to} and does not");
        }
    }
}

#[test]
fn every_file_says_what_it_is_for_and_is_short() {
    for source in sources() {
        assert!(source.text.starts_with("//! "), "{} begins without a header", source.path);
        let lines = source.text.lines().count();
        assert!(lines <= MOST_LINES, "{} has {lines} lines", source.path);
        let long = source.text.lines().position(|line| line.chars().count() > 120);
        assert_eq!(long, None, "{} has a line of more than 120 characters", source.path);
    }
}

/// What stops a program, or prints past the one place that prints. A message behind `expect` is blanked out like every
/// string; with anything else in its parentheses it is a method of our own.
const FORBIDDEN: [&str; 11] = [
    ".unwrap()",
    ".expect()",
    "panic!(",
    "todo!(",
    "unimplemented!(",
    "unreachable!(",
    "dbg!(",
    "print!(",
    "println!(",
    "eprint!(",
    "eprintln!(",
];

#[test]
fn nothing_panics_or_prints_outside_tests() {
    for source in sources().iter().filter(|source| !source.is_test()) {
        // Printing through anstream is what the command line is for.
        let code = source.code.replace("anstream::eprintln!(", "").replace("anstream::println!(", "");
        for word in FORBIDDEN {
            assert!(!code.contains(word), "{} has {word}", source.path);
        }
    }
}

#[test]
fn one_file_is_unsafe_and_none_has_mutable_globals() {
    let is_word = |code: &str, at: usize, word: &str| {
        let around = [code[..at].chars().next_back(), code[at + word.len()..].chars().next()];
        around.into_iter().flatten().all(|c| !c.is_alphanumeric() && c != '_')
    };
    let has = |code: &str, word: &str| code.match_indices(word).any(|(at, _)| is_word(code, at, word));
    for source in sources().iter().filter(|source| !source.is_test()) {
        let unsafe_allowed = source.module() == "map";
        assert!(unsafe_allowed || !has(&source.code, "unsafe"), "{} is unsafe", source.path);
        for word in ["static", "lazy_static", "thread_local"] {
            let globals = source
                .code
                .match_indices(word)
                .filter(|(at, _)| is_word(&source.code, *at, word) && !source.code[..*at].ends_with(['\'', '&']));
            assert_eq!(globals.count(), 0, "{} has a {word}", source.path);
        }
    }
}

#[test]
fn the_reader_of_sources_sees_what_is_code() {
    let text =
        "let a = \"x.unwrap()\"; // .unwrap()\nlet b: &'static str = r#\"panic!(\"#; f('\"'); g('\\'', b\"\\\"\");\n";
    assert_eq!(code_of(text), "let a = ; \nlet b: &'static str = ; f(); g(, b);\n");
    let source = Source {
        path: "scan/file.rs".into(),
        text: String::new(),
        code: "use crate::a::{b, c::d}; crate::e::f::<G>(); use crate::h;".into(),
    };
    assert_eq!(imports(&source).into_iter().collect::<Vec<_>>(), ["a::b", "a::c::d", "e::f::", "h"]);
}
