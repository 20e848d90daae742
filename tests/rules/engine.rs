//! The engine and the confirmers, through windows that overlap, find exactly what a search of the whole file finds.
//!
//! A layer passes in windows of about a mebibyte. Tokens are planted around their boundaries, in files that begin at
//! any offset of the layer, and what the program reports is compared with the `regex` crate run over each whole file.

use std::sync::OnceLock;

use crate::support::image::{Layer, archive, docker_save};
use crate::support::tar::{Tar, gzip, zstd};
use crate::support::{findings, report_of, revealed, testdata, text};
use layersift_rules::Ruleset;
use layersift_scan::{Analyzer, Options};
use proptest::prelude::*;
use regex::bytes::{Regex, RegexBuilder};
use serde_json::{Value, json};

/// A window holds this many bytes that no other does.
const WINDOW: usize = 1 << 20;

/// Rules of every shape that matters at a boundary, and something that each finds.
const SHAPES: [(&str, &str, &str); 8] = [
    ("test.fixed", r"fix_[0-9a-f]{16}", "fix_0123456789abcdef"),
    ("test.edges", r"\bedge_[A-Za-z]{8}\b", "edge_AbCdEfGh"),
    ("test.case", r"(?i)case[-_]?key[ =:]{1,3}(?<secret>[a-z0-9]{12})\b", "Case_KEY = a1b2c3d4e5f6"),
    ("test.greedy", r"greedy_[0-9]{4,40}", "greedy_12345678901234567890"),
    ("test.line", r"(?m)^start=(?<secret>[a-z]{10})$", "\nstart=abcdefghij\n"),
    ("test.wide", r"wide<[a-y]{1,4000}>", "wide<aaaabbbbccccdddd>"),
    ("test.choice", r"(?:alpha|beta_(?:one|two))-(?<secret>[0-9]{3}-[0-9]{3})", "beta_two-123-456"),
    ("test.bytes", r"\x00\x01(?<secret>[\x80-\xff]{6})\x00", "\0\x01"),
];

fn rules() -> String {
    let rule = |(id, pattern, _): &(&str, &str, &str)| {
        format!(
            "[[signature]]\nid = '{id}'\ntitle = 'title'\nseverity = 'low'\nconfidence = 'high'\npattern = '''{pattern}'''\n\
             keywords = []\nwhat = 'w'\nrisk = 'r'\nfix = 'f'\nreferences = []\nconfirm = {{ keep-placeholders = true }}\n"
        )
    };
    SHAPES.iter().map(rule).collect()
}

/// Something that was found: file, offset, rule, secret, and line and column in text.
type Found = (String, u64, String, Vec<u8>, Option<(u64, u64)>);

/// What a search of the whole of `bytes` finds.
fn naive(path: &str, bytes: &[u8]) -> Vec<Found> {
    static COMPILED: OnceLock<Vec<Regex>> = OnceLock::new();
    let compiled = COMPILED.get_or_init(|| {
        let compile = |source| RegexBuilder::new(source).unicode(false).build().unwrap();
        SHAPES.iter().map(|(_, pattern, _)| compile(pattern)).collect()
    });
    let is_text = !bytes[..bytes.len().min(8 << 10)].contains(&0);
    let mut found = Vec::new();
    for ((id, ..), regex) in SHAPES.iter().zip(compiled) {
        for groups in regex.captures_iter(bytes) {
            let secret = groups.name("secret").or(groups.get(0)).unwrap();
            let before = &bytes[..secret.start()];
            let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
            let column = before.len() - before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1) + 1;
            let place = is_text.then_some((line as u64, column as u64));
            found.push((path.into(), secret.start() as u64, id.to_string(), secret.as_bytes().to_vec(), place));
        }
    }
    found
}

/// What the program finds in an image with these files in one layer.
fn scanned(files: &[(String, Vec<u8>)], compressed: bool) -> Vec<Found> {
    static ANALYZER: OnceLock<Analyzer> = OnceLock::new();
    let scanner = ANALYZER.get_or_init(|| {
        Analyzer::new(Ruleset::from_files([("test.toml".to_string(), rules())]).unwrap(), Options::default()).unwrap()
    });
    let tar = files.iter().fold(Tar::new(), |tar, (path, bytes)| tar.file(path, bytes)).finish();
    let layer = if compressed { Layer::stored(&tar, gzip(&tar), "+gzip") } else { Layer::plain(tar) };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image.tar");
    std::fs::write(&file, archive(&docker_save(&[layer]))).unwrap();
    let report = report_of(scanner, text(&file));
    assert_eq!(report["gaps"], json!([]));
    let found = |finding: &Value| {
        let [path, rule] = ["path", "rule"].map(|key| finding[key].as_str().unwrap().to_string());
        let place = finding["line"].as_u64().zip(finding["column"].as_u64());
        (path, finding["offset"].as_u64().unwrap(), rule, revealed(finding), place)
    };
    findings(&report).iter().map(found).collect()
}

/// The size of a file.
fn any_size() -> impl Strategy<Value = usize> {
    prop_oneof![
        3 => 0..4000usize,
        2 => (0..5usize, 0..80_000usize).prop_map(|(windows, more)| (windows * WINDOW + more).saturating_sub(40_000)),
        1 => 0..3 * WINDOW,
    ]
}

/// A place for a token: near a multiple of the window, where segments begin and end, or anywhere.
fn any_place() -> impl Strategy<Value = usize> {
    prop_oneof![
        (0..5usize, 0..90_000usize).prop_map(|(window, near)| (window * WINDOW + near).saturating_sub(45_000)),
        (0..5usize, 0..1600usize).prop_map(|(window, near)| (window * WINDOW + near).saturating_sub(800)),
        0..4 * WINDOW,
    ]
}

/// What a file is made of: filling that looks like code, or bytes with NULs in them, and tokens written over it, each
/// with its place, its shape, and how long it is where its shape allows for lengths.
#[derive(Clone, Debug)]
struct Plan {
    size: usize,
    seed: u64,
    binary: bool,
    tokens: Vec<(usize, usize, usize)>,
}

fn any_plan() -> impl Strategy<Value = Plan> {
    let tokens = prop::collection::vec((any_place(), 0..SHAPES.len(), 0..5000usize), 0..40);
    let plan = (any_size(), any::<u64>(), any::<bool>(), tokens);
    plan.prop_map(|(size, seed, binary, tokens)| Plan { size, seed, binary, tokens })
}

impl Plan {
    fn bytes(&self) -> Vec<u8> {
        let alphabet: &[u8] = if self.binary { b"\0\x01\x7f\x80\xfe_= ax" } else { b"abc_=- \n<>12" };
        let mut bytes = filling(self.size, self.seed, alphabet);
        for &(place, shape, length) in self.tokens.iter().filter(|_| self.size > 0) {
            let (at, token) = (place % self.size, token(shape, length));
            let room = token.len().min(self.size - at);
            bytes[at..at + room].copy_from_slice(&token[..room]);
        }
        bytes
    }
}

fn token(shape: usize, length: usize) -> Vec<u8> {
    match SHAPES[shape].0 {
        "test.wide" => format!("wide<{}>", "abcdefgh".repeat(length / 8 + 1)).into_bytes(),
        "test.greedy" => format!("greedy_{}", "7".repeat(length % 45 + 1)).into_bytes(),
        "test.bytes" => [&b"\0\x01"[..], &[0x80 + (length % 100) as u8; 6], b"\0"].concat(),
        _ => SHAPES[shape].2.as_bytes().to_vec(),
    }
}

fn filling(size: usize, seed: u64, alphabet: &[u8]) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        // xorshift64, G. Marsaglia, "Xorshift RNGs" (2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        alphabet[(state >> 32) as usize % alphabet.len()]
    };
    (0..size).map(|_| next()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 32, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn windows_find_what_the_whole_file_holds(plans in prop::collection::vec(any_plan(), 1..5), compressed: bool) {
        let files: Vec<_> = plans.iter().enumerate().map(|(n, plan)| (format!("d/{n}"), plan.bytes())).collect();
        let mut expected: Vec<Found> = files.iter().flat_map(|(path, bytes)| naive(path, bytes)).collect();
        let mut found = scanned(&files, compressed);
        expected.sort();
        found.sort();
        let missing: Vec<_> = expected.iter().filter(|one| !found.contains(one)).collect();
        let extra: Vec<_> = found.iter().filter(|one| !expected.contains(one)).collect();
        prop_assert!(missing.is_empty() && extra.is_empty(), "{}", differences(&missing, &extra));
        prop_assert_eq!(found.len(), expected.len());
    }
}

/// What differs, without the secrets, some of which are thousands of bytes long.
fn differences(missing: &[&Found], extra: &[&Found]) -> String {
    let short = |found: &[&Found]| -> String {
        let lines = found.iter().take(10).map(|(path, offset, rule, secret, place)| {
            format!("  {path} at {offset}: {rule}, {} bytes, line and column {place:?}\n", secret.len())
        });
        lines.collect()
    };
    format!("{} missing\n{}{} too many\n{}", missing.len(), short(missing), extra.len(), short(extra))
}

/// Scans one file with `token` every `step` bytes around the ends of the first windows.
fn around_boundaries(token: &[u8], step: usize) {
    for boundary in [WINDOW, 2 * WINDOW] {
        let mut bytes = vec![b'.'; boundary + 60_000];
        let places: Vec<usize> = (boundary - 4_000..boundary + 50_000).step_by(step).collect();
        for at in &places {
            bytes[*at..at + token.len()].copy_from_slice(token);
        }
        let expected = naive("f", &bytes);
        assert_eq!(expected.len(), places.len());
        for compressed in [false, true] {
            let mut found = scanned(&[("f".into(), bytes.clone())], compressed);
            found.sort();
            assert!(found == expected, "{} of {}", found.len(), expected.len());
        }
    }
}

#[test]
fn a_token_at_every_place_around_a_boundary() {
    around_boundaries(b"fix_0123456789abcdef", 61);
    // As wide as a pattern may be: wherever a window ends, one of these lies across it.
    around_boundaries(format!("wide<{}>", "y".repeat(4000)).as_bytes(), 4011);
}

#[test]
fn what_a_file_is_does_not_depend_on_where_a_window_ends() {
    let module = module_of_the_incident();
    let scanner = Analyzer::new(Ruleset::built_in().unwrap(), Options::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image.tar");
    // The module begins at every block in which the first window can end.
    for before in (1_000_000..1_100_000).step_by(512) {
        let tar = Tar::new().file("before", vec![b'.'; before]).file("seal.node", &module).finish();
        for layer in [Layer::plain(tar.clone()), Layer::stored(&tar, zstd(&tar), "+zstd")] {
            std::fs::write(&file, archive(&docker_save(&[layer]))).unwrap();
            let report = report_of(&scanner, text(&file));
            let rules: Vec<&Value> = findings(&report).iter().map(|finding| &finding["rule"]).collect();
            assert_eq!(rules, ["private-key.pem", "cipher.constant-in-binary"], "behind {before} bytes");
            let symbols: Vec<&Value> = findings(&report).iter().map(|finding| &finding["binary"]["symbol"]).collect();
            assert_eq!(symbols, ["partner_signing_key", "seal_key"], "behind {before} bytes");
        }
    }
}

/// The compiled module in `testdata/incident.tar`, whose layers are not compressed.
fn module_of_the_incident() -> Vec<u8> {
    find(&std::fs::read(testdata("incident.tar")).unwrap(), "seal.node").unwrap()
}

/// The first file in the archive, or in an archive in it, whose name ends in `name`.
fn find(archive: &[u8], name: &str) -> Option<Vec<u8>> {
    let mut archive = tar::Archive::new(archive);
    archive.entries().ok()?.map_while(Result::ok).find_map(|mut entry| {
        let path = entry.path().ok()?.display().to_string();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).ok()?;
        if path.ends_with(name) { Some(bytes) } else { find(&bytes, name) }
    })
}
