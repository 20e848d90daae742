//! Images that are built to cost memory or time: bombs, floods, and shapes that make a careless join quadratic. Each
//! scan ends soon, in little memory, and says what it left out.

use std::io::Write;

use crate::support::image::{
    Layer, archive, bytes, config, digest, docker_save, hex, manifest, oci, oci_with, write_directory,
};
use crate::support::tar::{Tar, gzip, header, zstd};
use crate::support::{Run, findings, gap_reasons, layersift, layersift_with_input, report_of, text};
use layersift_model::Limits;
use layersift_rules::Ruleset;
use layersift_scan::{Analyzer, Options};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::EntryType;

/// What any scan here may take of memory, in KiB: the budget of 256 MiB.
const MEMORY: u64 = 256 << 10;

/// A gzip layer of what `write` writes, which is never held in memory uncompressed.
fn streamed(write: impl FnOnce(&mut dyn Write)) -> Layer {
    struct Both(flate2::write::GzEncoder<Vec<u8>>, Sha256);
    impl Write for Both {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.1.update(bytes);
            self.0.write_all(bytes).map(|()| bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut both = Both(encoder, Sha256::new());
    write(&mut both);
    let diff_id = format!("sha256:{}", hex(&both.1.finalize()));
    Layer { blob: both.0.finish().unwrap(), media_type: format!("{}+gzip", crate::support::image::LAYER), diff_id }
}

fn scan(layers: &[Layer]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    write_directory(folder.path(), &oci(layers));
    let run = layersift(&["scan", "--format", "json", "--fail-on", "none", text(folder.path())]);
    assert!(run.peak_kib < MEMORY, "{} MiB of memory", run.peak_kib >> 10);
    run
}

/// What the library says within `limits`.
fn limited(layers: &[Layer], limits: Limits) -> Value {
    let options = Options { limits, ..Options::default() };
    let scanner = Analyzer::new(Ruleset::built_in().unwrap(), options).unwrap();
    let folder = tempfile::tempdir().unwrap();
    write_directory(folder.path(), &oci(layers));
    let report = report_of(&scanner, text(folder.path()));
    assert_ne!(report["verdict"], "pass");
    report
}

/// A token with a value of its own that a built-in rule finds: an npm token has a CRC-32 at its end.
pub(super) fn token(number: usize) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let body = &hex(&Sha256::digest(number.to_string()))[..30];
    let mut rest = crc32fast::hash(body.as_bytes()) as usize;
    let mut sum = [0; 6];
    for digit in sum.iter_mut().rev() {
        *digit = DIGITS[rest % 62];
        rest /= 62;
    }
    format!("npm_{body}{}", String::from_utf8_lossy(&sum))
}

#[test]
fn the_tokens_of_these_tests_are_found() {
    let tar = (0..100).fold(Tar::new(), |tar, n| tar.file(&format!("{n}"), token(n))).finish();
    assert_eq!(findings(&scan(&[Layer::plain(tar)]).expect(0).json()).len(), 100);
}

#[test]
fn a_bomb_of_zeros_in_a_layer() {
    const SIZE: u64 = 1 << 30;
    let bomb = streamed(|out| {
        out.write_all(&Tar::new().entry(header("zeros", EntryType::Regular, SIZE), b"").unfinished()).unwrap();
        (0..SIZE >> 20).for_each(|_| out.write_all(&[0; 1 << 20]).unwrap());
        out.write_all(&[0; 1024]).unwrap();
    });
    // All of it was looked at.
    assert_eq!(scan(std::slice::from_ref(&bomb)).expect(0).json()["verdict"], "pass");
    let report = limited(&[bomb], Limits { layer_bytes: 10 << 20, ..Limits::default() });
    assert!(gap_reasons(&report).contains(&"layer-too-large"), "{}", report["gaps"]);
}

#[test]
fn a_bomb_of_zeros_as_an_image() {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    (0..512).for_each(|_| out.write_all(&[0; 1 << 20]).unwrap());
    let run = layersift_with_input(&["scan", "-"], out.finish().unwrap()).expect(2);
    assert!(run.peak_kib < MEMORY);
}

#[test]
fn bombs_in_many_files_of_a_small_layer() {
    let bomb = zstd(&vec![0; 64 << 20]);
    let tar = (0..16).fold(Tar::new(), |tar, n| tar.file(&format!("{n}.zst"), &bomb)).file("env", token(1)).finish();
    // Each of them is far below the limit of a file.
    let report = scan(&[Layer::stored(&tar, gzip(&tar), "+gzip")]).expect(3).json();
    assert_eq!(gap_reasons(&report), ["layer-too-large"]);
    // As many bytes of a layer that is not compressed permit as much work.
    let plain = (0..16).fold(Tar::new(), |tar, n| tar.file(&format!("{n}"), vec![0; 16 << 20])).finish();
    scan(&[Layer::stored(&plain, plain.clone(), "")]).expect(0);
}

/// Files of a layer, so many with a token and so many bytes of `filling`, reach the limit of work at the same place with
/// any number of threads.
fn reach_the_limit_at_one_place(files: usize, filling: &[u8], layer_work: u64) -> usize {
    let file = |number: usize| [token(number).as_bytes(), filling].concat();
    let tar = (0..files).fold(Tar::new(), |tar, n| tar.file(&format!("{n}"), file(n))).finish();
    let layer = Layer::stored(&tar, zstd(&tar), "+zstd");
    let folder = tempfile::tempdir().unwrap();
    write_directory(folder.path(), &oci(&[layer]));
    let report = |threads| {
        let limits = Limits { layer_work, layer_work_per_byte: 0, ..Limits::default() };
        let options = Options { threads, limits, ..Options::default() };
        report_of(&Analyzer::new(Ruleset::built_in().unwrap(), options).unwrap(), text(folder.path()))
    };
    let first = report(1);
    assert_eq!(gap_reasons(&first), ["layer-too-large"]);
    for threads in [2, 8] {
        assert_eq!(report(threads)["findings"], first["findings"]);
    }
    findings(&first).len()
}

#[test]
fn the_limit_of_work_is_at_the_same_place_with_any_number_of_threads() {
    let found = reach_the_limit_at_one_place(60, &[b' '; 1 << 20], 80 << 20);
    assert!((5..55).contains(&found), "{found}");
}

#[test]
fn checksums_of_files_with_findings_are_work() {
    let found = reach_the_limit_at_one_place(12, &vec![0; 4 << 20], 110 << 20);
    assert!((1..12).contains(&found), "{found}");
}

#[test]
fn an_archive_that_is_compressed_as_a_whole_permits_work_by_its_own_bytes() {
    let tar = Tar::new().file("env", token(1)).file("blank", vec![b' '; 8 << 20]).finish();
    let packed = zstd(&archive(&docker_save(&[Layer::plain(tar)])));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), packed).unwrap();
    let report = |layer_work| {
        let limits = Limits { layer_work, layer_work_per_byte: 16, ..Limits::default() };
        let options = Options { limits, ..Options::default() };
        report_of(&Analyzer::new(Ruleset::built_in().unwrap(), options).unwrap(), text(file.path()))
    };
    assert_eq!(report(32 << 20)["gaps"], json!([]));
    // The bytes of the layer, which are not compressed, would permit four times of what it takes.
    let cut = report(4 << 20);
    assert_eq!((gap_reasons(&cut), findings(&cut).len()), (vec!["layer-too-large"], 1));
}

#[test]
fn an_archive_that_decompresses_to_far_more_than_others() {
    const SIZE: u64 = 400 << 20;
    let mut out = ::zstd::Encoder::new(Vec::new(), 1).unwrap();
    out.write_all(&Tar::new().entry(header("blobs/sha256/x", EntryType::Regular, SIZE), b"").unfinished()).unwrap();
    (0..SIZE >> 20).for_each(|_| out.write_all(&[b'\n'; 1 << 20]).unwrap());
    out.write_all(&Tar::new().file("manifest.json", "[]").finish()).unwrap();
    let run = layersift_with_input(&["scan", "-"], out.finish().unwrap()).expect(2);
    assert!(run.stderr.contains("decompresses to far more than an archive of its size may"), "{}", run.stderr);
}

#[test]
fn names_are_not_scanned_beyond_the_limit_of_work() {
    let long = |number: usize| format!("{number}/{}", "a".repeat(80));
    let tar = (0..2_000).fold(Tar::new(), |tar, number| tar.file(&long(number), b"")).file(&token(1), b"").finish();
    let layer = Layer::plain(tar);
    assert_eq!(findings(&scan(std::slice::from_ref(&layer)).expect(0).json()).len(), 1);
    let report = limited(&[layer], Limits { layer_work: 1 << 20, layer_work_per_byte: 0, ..Limits::default() });
    assert_eq!((gap_reasons(&report), findings(&report).len()), (vec!["layer-too-large"], 0));
}

#[test]
fn keys_in_keys_take_no_more_than_a_window_may() {
    // Each brace may begin a key in JSON, which is read as far as a key may be long.
    let nested = |depth| format!("{}{}", r#"{"kty":"a","b":["#.repeat(depth), "0,".repeat(17_000));
    let report = |depth| {
        let tar = Tar::new().file("a.json", nested(depth)).file("env", token(1)).finish();
        scan(&[Layer::plain(tar)]).expect(if depth > 1_000 { 3 } else { 0 }).json()
    };
    assert_eq!(report(20)["gaps"], json!([]));
    let many = report(2_000);
    // As many gaps as windows read the file.
    assert!(gap_reasons(&many).iter().all(|reason| *reason == "too-much-encoded"), "{}", many["gaps"]);
    assert!(many["gaps"][0]["detail"].as_str().unwrap().contains("private keys"), "{}", many["gaps"]);
    assert_eq!(findings(&many).len(), 1);
}

#[test]
fn a_million_entries() {
    let flood = streamed(|out| {
        for number in 0..1_000_000 {
            out.write_all(&Tar::new().file(&format!("d/{number}"), b"").unfinished()).unwrap();
        }
    });
    let report = scan(std::slice::from_ref(&flood)).expect(0).json();
    assert_eq!(report["layers"][0]["files"], 1_000_000);
    let report = limited(&[flood], Limits { layer_entries: 1000, ..Limits::default() });
    assert_eq!(gap_reasons(&report), ["too-many-entries"], "{}", report["gaps"]);
}

#[test]
fn a_package_record_over_the_limit_is_a_gap() {
    let status = "Package: base\nVersion: 1\nStatus: install ok installed\n\n".repeat(100);
    let layer = Layer::plain(Tar::new().file("var/lib/dpkg/status", &status).finish());
    assert_eq!(scan(std::slice::from_ref(&layer)).expect(0).json()["gaps"], json!([]));
    let report = limited(&[layer], Limits { document_bytes: 4_000, ..Limits::default() });
    assert_eq!(gap_reasons(&report), ["document-too-large"], "{}", report["gaps"]);
    assert_eq!((&report["gaps"][0]["path"], &report["gaps"][0]["layer"]), (&json!("var/lib/dpkg/status"), &json!(0)));
}

#[test]
fn a_flood_of_findings() {
    let many: String = (0..30_000).map(|n| token(n) + "\n").collect();
    let report = scan(&[Layer::plain(Tar::new().file("env", many).finish())]).expect(3).json();
    assert_eq!(gap_reasons(&report), ["too-many-findings"]);
    assert_eq!(report["gaps"][0]["path"], "env");
    assert_eq!(findings(&report).len(), Limits::default().findings_per_file);
    let few = Limits { findings_per_layer: 10, ..Limits::default() };
    let tar = (0..50).fold(Tar::new(), |tar, n| tar.file(&format!("{n}"), token(n))).finish();
    let report = limited(&[Layer::plain(tar)], few);
    assert_eq!(gap_reasons(&report), ["too-many-findings"]);
    assert_eq!(findings(&report).len(), 10);
}

/// An OCI layout whose manifest names `layer` many times.
fn repeated(layer: &Layer, times: usize) -> Run {
    let layers = vec![layer.clone(); times];
    let config = bytes(&config(&layers));
    let folder = tempfile::tempdir().unwrap();
    let files = oci_with(&bytes(&manifest(&config, &layers)), &config, std::slice::from_ref(layer));
    write_directory(folder.path(), &files);
    layersift(&["scan", "--format", "json", "--fail-on", "none", text(folder.path())])
}

#[test]
fn one_layer_ten_thousand_times() {
    let run = repeated(&Layer::plain(Tar::new().file("motd", "hello\n").finish()), 10_000);
    assert!(matches!(run.code, Some(0 | 2 | 3)), "{:?}", run.stderr);
    assert!(run.peak_kib < MEMORY, "{} MiB of memory", run.peak_kib >> 10);
}

#[test]
fn one_layer_of_findings_ten_thousand_times() {
    // Ten million findings, if all were kept.
    let many: String = (0..1_000).map(|n| token(n) + "\n").collect();
    let run = repeated(&Layer::plain(Tar::new().file("env", many).finish()), 10_000);
    assert!(matches!(run.code, Some(2 | 3)), "code {:?}, {} bytes of report", run.code, run.stdout.len());
    // Of a report as large as the limits allow, the text alone takes some memory.
    assert!(run.peak_kib < 2 * MEMORY, "{} MiB of memory", run.peak_kib >> 10);
}

#[test]
fn hard_links_to_a_flood_of_findings() {
    let found = (0..80).fold(Tar::new(), |tar, file| {
        let many: String = (0..250).map(|n| token(file * 250 + n) + "\n").collect();
        tar.file(&format!("env/{file}"), many)
    });
    let links = streamed(|out| {
        for number in 0..200_000 {
            out.write_all(&Tar::new().hard_link(&format!("l/{number}"), &format!("none/{number}")).unfinished())
                .unwrap();
        }
    });
    scan(&[Layer::plain(found.finish()), links]).expect(0);
}

#[test]
fn more_linked_findings_than_are_kept_are_said() {
    let found = Tar::new().file("env", (0..200).map(|n| token(n) + "\n").collect::<String>()).finish();
    let links = (0..100).fold(Tar::new(), |tar, number| tar.hard_link(&format!("{number}"), "env")).finish();
    let run = scan(&[Layer::plain(found), Layer::plain(links)]);
    let report = run.json();
    let all = findings(&report).len() == 200 * 101;
    assert!(all || gap_reasons(&report).contains(&"too-many-findings"), "{} findings", findings(&report).len());
}

#[test]
fn one_path_half_a_million_times() {
    // Whoever looks for what came before or after by walking over the same path takes 10^11 steps.
    let flood = streamed(|out| {
        let secrets = (0..200).map(|n| token(n) + "\n").collect::<String>();
        for number in 0..20 {
            out.write_all(&Tar::new().file(&format!("a/{number}"), &secrets).unfinished()).unwrap();
        }
        let directory = Tar::new().directory("a").unfinished();
        (0..500_000).for_each(|_| out.write_all(&directory).unwrap());
        for number in 0..100_000 {
            out.write_all(&Tar::new().hard_link(&format!("l/{number}"), "a").unfinished()).unwrap();
        }
    });
    scan(&[flood]).expect(0);
}

/// An entry with a name of any length in a PAX record.
fn with_long_name(name: &str, entry: EntryType, data: &[u8]) -> Tar {
    let rest = format!(" path={name}\n");
    let digits = (1..20).find(|digits| (rest.len() + digits).to_string().len() == *digits).unwrap();
    let record = format!("{}{rest}", rest.len() + digits);
    let tar = Tar::new().entry(header("PaxHeaders/x", EntryType::XHeader, record.len() as u64), record.as_bytes());
    tar.entry(header("x", entry, data.len() as u64), data)
}

#[test]
fn a_path_of_half_a_million_directories() {
    let name = "a/".repeat(500_000) + "env";
    let secrets = (0..5).map(|n| token(n) + "\n").collect::<String>();
    let run = scan(&[Layer::plain(with_long_name(&name, EntryType::Regular, secrets.as_bytes()).finish())]);
    assert!(matches!(run.code, Some(0 | 3)), "{:?}", run.code);
}

#[test]
fn names_that_are_kept_have_no_end() {
    // Whiteouts and hard links are remembered by name: a thousand million bytes of names, if all were.
    let long = "n".repeat(1_000_000);
    let flood = streamed(|out| {
        for number in 0..500 {
            let whiteout = with_long_name(&format!(".wh.{number}{long}"), EntryType::Regular, b"").unfinished();
            out.write_all(&whiteout).unwrap();
            out.write_all(&with_long_name(&format!("{number}{long}"), EntryType::Link, b"").unfinished()).unwrap();
        }
    });
    let run = scan(&[flood]);
    assert!(matches!(run.code, Some(0 | 3)), "{:?}", run.code);
}

#[test]
fn a_configuration_as_large_as_it_may_be() {
    let layer = Layer::plain(Tar::new().file("motd", "hello\n").finish());
    let layers = vec![layer.clone(); Limits::default().layers];
    let mut config = config(&layers);
    let secrets: Vec<String> = (0..30_000).map(|n| format!("V{n}={}", token(n))).collect();
    config["config"]["Env"] = json!(secrets);
    let plain: Vec<String> = (0..100_000).map(|n| format!("label {n}")).collect();
    config["config"]["OnBuild"] = json!(plain);
    let step = "RUN make all test install clean ".repeat(40);
    let history: Vec<Value> = (0..layers.len()).map(|n| json!({ "created_by": format!("{step}{n}") })).collect();
    config["history"] = json!(history);
    let config = bytes(&config);
    assert!(config.len() < 8 << 20);
    let folder = tempfile::tempdir().unwrap();
    let files = oci_with(&bytes(&manifest(&config, &layers)), &config, std::slice::from_ref(&layer));
    write_directory(folder.path(), &files);
    let run = layersift(&["scan", "--format", "json", "--fail-on", "none", text(folder.path())]);
    assert!(matches!(run.code, Some(0 | 3)), "{:?}: {}", run.code, run.stderr);
    assert!(run.peak_kib < 2 * MEMORY, "{} MiB of memory", run.peak_kib >> 10);
}

#[test]
fn bombs_in_many_layers_at_once() {
    // Each gzip layer is read by one thread; what they hold together is still bounded.
    let bomb = |name: &str| {
        let tar = Tar::new().file(name, vec![b' '; 30 << 20]).finish();
        Layer::stored(&tar, gzip(&tar), "+gzip")
    };
    let layers: Vec<Layer> = (0..12).map(|n| bomb(&format!("spaces{n}"))).collect();
    assert_eq!(layers[0].diff_id.len(), digest(b"").len());
    scan(&layers).expect(0);
}
