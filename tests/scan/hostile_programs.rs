//! Executable files that are built to cost time or memory: code that is decoded in vain, tables without end, and lists
//! of packages that are bombs.

use crate::support::image::{Layer, oci, write_directory};
use crate::support::tar::{Tar, zstd};
use crate::support::{findings, finish, gap_reasons, report_of, text};
use layersift_model::Limits;
use layersift_rules::Ruleset;
use layersift_scan::{Analyzer, Options};
use serde_json::Value;
use std::io::Write;
use std::process::Command;

use crate::hostile_sizes::token;

/// The memory of a process besides files that it maps.
const MEMORY: u64 = 256 << 20;

const CODE_ADDRESS: u64 = 0x10_0000;

/// A section header of a 64-bit ELF file.
fn section(kind: u32, flags: u64, address: u64, offset: usize, size: usize, link: u32) -> Vec<u8> {
    let mut header = [0, kind].map(u32::to_le_bytes).concat();
    header.extend([flags, address, offset as u64, size as u64].map(u64::to_le_bytes).concat());
    header.extend([link, 0].map(u32::to_le_bytes).concat());
    header.extend([8_u64, 24].map(u64::to_le_bytes).concat());
    header
}

/// The header of a shared library of x86-64, whose section headers stand at `headers`. The names of sections are in
/// section 2.
fn header(headers: usize, sections: usize) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    bytes.extend([3_u16, 62].map(u16::to_le_bytes).concat());
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend([0, 0, headers as u64].map(u64::to_le_bytes).concat());
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend([64, 56, 0, 64, sections as u16, 2].map(u16::to_le_bytes).concat());
    bytes
}

/// A shared library of x86-64 that imports a function which takes a key. Its `code` is zeros, `slots` are the addresses
/// that the function is bound to, and `tables` sections name the same relocations.
fn library(code: usize, slots: &[u64], tables: usize) -> Vec<u8> {
    let names = b"\0AES_set_encrypt_key\0\0\0\0\0";
    let symbol = [&[0; 24][..], &1_u32.to_le_bytes(), &[0x12, 0], &[0; 18]].concat();
    let headers = 64 + names.len() + symbol.len();
    let relocations = headers + 64 * (4 + tables);
    let at_code = relocations + 24 * slots.len();
    let mut bytes = header(headers, 4 + tables);
    bytes.extend(names);
    bytes.extend(&symbol);
    bytes.extend(section(0, 0, 0, 0, 0, 0));
    bytes.extend(section(11, 2, 0, 64 + names.len(), symbol.len(), 2));
    bytes.extend(section(3, 2, 0, 64, names.len(), 0));
    bytes.extend(section(1, 6, CODE_ADDRESS, at_code, code, 0));
    for _ in 0..tables {
        bytes.extend(section(4, 2, 0, relocations, 24 * slots.len(), 1));
    }
    for slot in slots {
        // R_X86_64_GLOB_DAT of the symbol.
        bytes.extend([*slot, 1 << 32 | 6, 0].map(u64::to_le_bytes).concat());
    }
    bytes.resize(bytes.len() + code, 0);
    bytes
}

/// A layer of `count` files, each of which differs.
fn layer(count: usize, file: impl Fn(usize) -> Vec<u8>) -> Layer {
    let tar = (0..count).fold(Tar::new(), |tar, n| tar.file(&format!("{n}.so"), file(n))).finish();
    Layer::stored(&tar, zstd(&tar), "+zstd")
}

#[test]
fn code_that_is_decoded_in_vain_is_work_of_the_layer() {
    // Each zero is an instruction, and every kilobyte of them has a reference.
    let slots: Vec<u64> = (0..1_000).map(|n| CODE_ADDRESS + 4 + n * 1024).collect();
    let code = library(1 << 20, &slots, 1);
    let file = |number: usize| [&code[..], token(number).as_bytes()].concat();
    let folder = tempfile::tempdir().unwrap();
    write_directory(folder.path(), &oci(&[layer(12, file)]));
    let report = |threads, layer_work| {
        let limits = Limits { layer_work, layer_work_per_byte: 0, ..Limits::default() };
        let options = Options { threads, limits, ..Options::default() };
        report_of(&Analyzer::new(Ruleset::built_in().unwrap(), options).unwrap(), text(folder.path()))
    };
    // Reading and scanning alone takes a few units for each byte.
    let first = report(1, 200 << 20);
    assert!(gap_reasons(&first).contains(&"layer-too-large"), "{}", first["gaps"]);
    assert!((1..12).contains(&findings(&first).len()), "{}", findings(&first).len());
    for threads in [2, 8] {
        assert_eq!(report(threads, 200 << 20)["findings"], first["findings"]);
    }
    assert_eq!(findings(&report(2, 1 << 30)).len(), 12);
}

/// Scans an image of `layer` on eight threads, in the memory of a process.
fn scan(layer: Layer, command: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    write_directory(folder.path(), &oci(&[layer]));
    let mut limited = Command::new("prlimit");
    limited.arg(format!("--data={MEMORY}")).arg(env!("CARGO_BIN_EXE_layersift")).env_remove("LAYERSIFT_STORE");
    limited.args([command, text(folder.path()), "-j", "8", "--format", "json"]);
    let run = finish(&mut limited, None);
    assert!(matches!(run.code, Some(0..=3)), "{:?}: {}", run.code, run.stderr);
    run.json()
}

#[test]
fn relocations_that_many_sections_name_are_read_once() {
    let slots = vec![CODE_ADDRESS + 4; 300_000];
    let many = library(1 << 10, &slots, 8);
    scan(layer(12, |number| [&many[..], format!("{number:08}").as_bytes()].concat()), "scan");
}

/// A 32-bit ELF file with `count` sections, each of which has a name that is long as text.
fn many_sections(count: u32, content: &str) -> Vec<u8> {
    let header = |name: u32, kind: u32, offset: u32, size: u32, link: u32| {
        [name, kind, 0, 0, offset, size, link, 0, 1, 0].map(u32::to_le_bytes).concat()
    };
    let start = 4096;
    let mut bytes = b"\x7fELF\x01\x01\x01".to_vec();
    bytes.resize(16, 0);
    bytes.extend([3_u16, 3].map(u16::to_le_bytes).concat());
    bytes.extend([1, 0, 0, start, 0].map(u32::to_le_bytes).concat());
    bytes.extend([52_u16, 32, 0, 40, 0, 0xffff].map(u16::to_le_bytes).concat());
    bytes.extend(format!("\nNPM_TOKEN={content}\n").bytes());
    bytes.resize(start as usize, 0);
    bytes.extend(header(0, 0, 0, count, 1));
    bytes.extend(header(0, 3, start + 40 * count, 1024, 0));
    bytes.extend(header(1, 1, 52, 200, 0).repeat(count as usize - 2));
    bytes.extend([0xff; 1024]);
    bytes
}

#[test]
fn names_of_sections_that_are_not_asked_for() {
    let report = scan(layer(12, |number| many_sections(150_000, &token(number))), "scan");
    // Where they are is looked up until the layer has reached its limit of work.
    assert!(!findings(&report).is_empty(), "{}", report["gaps"]);
}

/// An ELF file with a list of `count` crates.
fn auditable(count: usize) -> Vec<u8> {
    let list = vec![r#"{"name":"abcdefgh","version":"1.2.3"}"#; count].join(",");
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    write!(encoder, r#"{{"packages":[{list}]}}"#).unwrap();
    let packed = encoder.finish().unwrap();
    let names = b"\0.dep-v0\0";
    let headers = 64 + names.len() + packed.len();
    let mut bytes = header(headers, 3);
    bytes.extend(names);
    bytes.extend(&packed);
    bytes.extend(section(0, 0, 0, 0, 0, 0));
    let mut list = section(1, 0, 0, 64 + names.len(), packed.len(), 0);
    list[0] = 1;
    bytes.extend(list);
    bytes.extend(section(3, 0, 0, 64, names.len(), 0));
    bytes
}

#[test]
fn lists_of_crates_are_work_of_the_layer() {
    let list = auditable(40_000);
    let folder = tempfile::tempdir().unwrap();
    let sbom = |count| {
        write_directory(folder.path(), &oci(&[layer(count, |_| list.clone())]));
        let mut command = Command::new(env!("CARGO_BIN_EXE_layersift"));
        finish(command.args(["sbom", text(folder.path()), "--format", "cyclonedx"]), None)
    };
    assert!(!sbom(1).stdout.contains("layer-too-large"));
    // Secrets are searched for in the same layer, which may take four times as much.
    assert!(sbom(4).expect(3).stdout.contains("layer-too-large: layer 0"), "the rest is not read");
    assert!(sbom(20).expect(3).stdout.contains("layer-too-large: layer 0"));
}
